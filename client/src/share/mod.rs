//! The caster's sharing page: a small web site on the caster's own machine with a button that shares the screen.
//!
//! A browser can capture where Punchcast cannot: Wayland, Windows, macOS. Its page encodes (WebCodecs, H.264 and Opus)
//! and sends packets over a WebSocket; this room makes [units](Unit) of them. The room decides who may open the page
//! (`guard`), which page's picture counts, and tells the page what can be sent: it knows nothing of links, but is told
//! whether they [take anything](Share::set_hold), at [what rate](Share::set_bitrate), and
//! when a [key frame](Share::want_keyframe) is needed.
//!
//! # Life of a connection
//!
//! ```text
//!            head in time              upgrade, allowed           start            stop, another page's start
//!  accepted ───────────▶ HTTP request ──────────────────▶ page ─────────▶ sharer ─────────────────────────▶ page
//!      │                  │  ▲  │ refused                  │                │ close, silence, malformed
//!      │ too many, late   └──┘  ▼ response + close         ▼                ▼
//!      └──────────────────────▶ closed ◀───────────────────┴────────────────┘
//! ```
//!
//! One page shares at a time; of two, the later one does, as its user has just pressed its button. A sharer that goes
//! ends nothing: the cast keeps its last picture, and a page can share again.
//!
//! # The WebSocket
//!
//! The page sends `{"type":"start"}`, `{"type":"stop"}` and packets of media (`stream`). It is sent JSON: `status` (what the
//! caster is doing), `encoding` (hold or go on, and the bounds of the picture), `keyframe`, and `taken` when another page
//! shares.

mod conn;
mod guard;
mod progress;
mod site;
mod socket;
mod stream;
#[cfg(test)]
mod tests;

use crate::notice::Notice;
use crate::page::PageToken;
use crate::page::duplex::Over;
use crate::page::heads::Reply;
use conn::{Conn, Owed, Stage, Turn};
use progress::Viewer;
use punchcast::app::{Closing, ConnId, Input, ListenerId, NetError, NetOp, Room};
use punchcast::media::Unit;
use serde_json::json;
use socket::{Said, Socket, Word};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Instant;
use stream::Stream;

/// How many connections the page serves at once: a browser opens six for files and a WebSocket per tab.
pub const MAX_CONNECTIONS: usize = 32;

/// Of those, connections that no request has let in yet. Other users of this machine can make them.
pub const MAX_STRANGERS: usize = 16;

/// The largest picture that the page's encoder is asked for, in macroblocks of 16x16 pixels, and the most of them a second:
/// H.264 level 5.2 (ITU-T H.264 table A-1), which is what browsers encode. 4096x2304 has so many, 56 a second.
const MAX_BLOCKS: u32 = 36_864;
const MAX_BLOCKS_PER_SECOND: u32 = 2_073_600;

/// What a page's encoder is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoding {
    /// Pixels at most; a larger screen is made smaller, its shape kept.
    pub width: u32,
    /// Pixels at most.
    pub height: u32,
    /// Frames a second at most.
    pub fps: u32,
    /// Bits a second of the picture at most; the line may carry fewer.
    pub bitrate: u32,
}

impl Encoding {
    /// Whether an encoder can keep to it at its largest; else why not.
    ///
    /// # Errors
    ///
    /// In words for whoever asked for it.
    pub fn check(&self) -> Result<(), String> {
        let Self { width, height, fps, .. } = *self;
        let blocks = width.div_ceil(16).saturating_mul(height.div_ceil(16));
        if width < 16 || height < 16 || blocks > MAX_BLOCKS {
            return Err(format!(
                "a browser does not encode {width}x{height} pixels (from 16x16, up to 4096x2304)"
            ));
        }
        let most = MAX_BLOCKS_PER_SECOND / blocks;
        if fps > most {
            return Err(format!(
                "a browser does not encode {width}x{height} pixels {fps} times a second ({most} at most)"
            ));
        }
        Ok(())
    }
}

impl Default for Encoding {
    fn default() -> Self {
        Self { width: 1920, height: 1200, fps: 30, bitrate: 4_000_000 }
    }
}

/// What the page is made of.
#[derive(Clone, Debug)]
pub struct ShareConfig {
    /// Where to listen: a loopback address; port 0 takes a free port.
    pub addr: SocketAddr,
    /// What the page's link must carry.
    pub token: PageToken,
    /// What its encoder is held to.
    pub encoding: Encoding,
}

/// What the page asks of its application.
#[derive(Clone, Debug, PartialEq)]
pub enum ShareOutput {
    /// Something for the network.
    Net(NetOp),
    /// Something happened.
    Event(ShareEvent),
}

/// What happened to the page.
#[derive(Clone, Debug, PartialEq)]
pub enum ShareEvent {
    /// The page is served at this address; [`Share::link`] makes the link of it.
    Listening {
        /// The bound address.
        local: SocketAddr,
    },
    /// The page could not be served; [`NetError::Denied`] where the address is not loopback.
    ListenFailed {
        /// The address that was asked for.
        addr: SocketAddr,
        /// Why.
        error: NetError,
    },
    /// A page shares from here on: what follows is another stream, on a clock of its own.
    Started,
    /// The sharer's next unit, and when the page's browser gave it the picture.
    Media(Unit, Instant),
    /// Nobody shares any more.
    Stopped,
}

/// The room of the sharing page. See the [module](self).
#[derive(Debug)]
pub struct Share {
    token: PageToken,
    encoding: Encoding,
    /// Bits a second, whatever the line takes.
    most_bits: u32,
    held: bool,
    /// Nothing more comes of the cast.
    over: bool,
    conns: BTreeMap<ConnId, Conn>,
    sharer: Option<(ConnId, Stream)>,
    viewers: Vec<Viewer>,
    outputs: VecDeque<ShareOutput>,
}

impl Share {
    /// A page in `room` that asks at once to listen, for a cast to so many viewers. Nothing is to be encoded until a
    /// link takes it.
    #[must_use]
    pub fn new(room: Room, config: ShareConfig, viewers: usize) -> Self {
        let ShareConfig { addr, token, encoding } = config;
        let output = if addr.ip().to_canonical().is_loopback() {
            let listener = ListenerId { room, serial: 0 };
            ShareOutput::Net(NetOp::Listen { listener, addr, reuse: false })
        } else {
            ShareOutput::Event(ShareEvent::ListenFailed { addr, error: NetError::Denied })
        };
        Self {
            token,
            encoding,
            most_bits: encoding.bitrate,
            held: true,
            over: false,
            conns: BTreeMap::new(),
            sharer: None,
            viewers: vec![Viewer::default(); viewers],
            outputs: VecDeque::from([output]),
        }
    }

    /// The link that opens the page at `local`.
    #[must_use]
    pub fn link(&self, local: SocketAddr) -> String {
        format!("http://{local}/?t={}", self.token.as_str())
    }

    /// Whether a page shares.
    #[must_use]
    pub const fn is_sharing(&self) -> bool {
        self.sharer.is_some()
    }

    /// While held, the page encodes nothing: no link takes anything. On release it encodes the newest picture at once.
    /// Whether that is news.
    pub fn set_hold(&mut self, hold: bool) -> bool {
        let changed = self.held != hold;
        if changed {
            self.held = hold;
            self.tell_all(|owed| owed.encoding = true);
        }
        changed
    }

    /// Asks the page to aim at so many bits per second, as far as it [may](Encoding::bitrate). Whether that is news.
    pub fn set_bitrate(&mut self, bits_per_second: u32) -> bool {
        let bitrate = bits_per_second.min(self.most_bits);
        let changed = self.encoding.bitrate != bitrate;
        if changed {
            self.encoding.bitrate = bitrate;
            self.tell_all(|owed| owed.encoding = true);
        }
        changed
    }

    /// Asks the sharer for a key frame, at once or as soon as it is not held.
    pub fn want_keyframe(&mut self) {
        let Some((sharer, _)) = &self.sharer else { return };
        let sharer = *sharer;
        if let Some(conn) = self.conns.get_mut(&sharer) {
            conn.owed.keyframe = true;
        }
        self.flush(sharer);
    }

    /// Takes a notice about one of the viewers, counted from 0, for the page to show.
    pub fn notice(&mut self, viewer: usize, notice: &Notice) {
        if self.viewers.get_mut(viewer).is_some_and(|viewer| viewer.take(notice)) {
            self.tell_all(|owed| owed.status = true);
        }
    }

    /// The cast is over: pages are told why, and closed.
    pub fn finish(&mut self, reason: &Notice) {
        self.over = true;
        for viewer in &mut self.viewers {
            viewer.take(reason);
        }
        self.tell_all(|owed| owed.status = true);
        for id in self.pages() {
            if let Some(socket) = self.conns.get_mut(&id).and_then(Conn::socket) {
                socket.close();
            }
            self.flush(id);
        }
        self.sharer = None;
        for id in std::mem::take(&mut self.conns).into_keys() {
            self.net(NetOp::Close { conn: id, how: Closing::Flush });
        }
    }

    /// Takes one network event of the page's room.
    pub fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        match input {
            Input::Listening { local, .. } => self.event(ShareEvent::Listening { local }),
            Input::ListenFailed { addr, error, .. } => self.event(ShareEvent::ListenFailed { addr, error }),
            Input::Accepted { conn, local, remote, .. } => self.accept(now, conn, local, remote),
            Input::Received { conn, bytes } => self.receive(now, conn, bytes),
            Input::Backlogged { conn } => self.set_backlogged(conn, true),
            Input::Drained { conn } => self.set_backlogged(conn, false),
            Input::Closed { conn, .. } => self.gone(conn),
            // The page opens no connections, and the application decides when to end.
            Input::Connected { .. } | Input::ConnectFailed { .. } | Input::Interrupted => {}
        }
    }

    /// Takes the passing of time.
    pub fn handle_timeout(&mut self, now: Instant) {
        let due: Vec<ConnId> =
            self.conns.iter().filter(|(_, conn)| conn.deadline().0 <= now).map(|(id, _)| *id).collect();
        for id in due {
            if let Some(reply) = self.conns.get_mut(&id).map(|conn| conn.tick(now)) {
                self.reply(id, reply);
            }
        }
    }

    /// The next thing to carry out, until `None`.
    pub fn poll_output(&mut self) -> Option<ShareOutput> {
        self.outputs.pop_front()
    }

    /// When the page wants [`handle_timeout`](Self::handle_timeout), and why.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        self.conns.values().map(Conn::deadline).min_by_key(|(at, _)| *at)
    }

    fn accept(&mut self, now: Instant, id: ConnId, local: SocketAddr, remote: SocketAddr) {
        let here = |addr: SocketAddr| addr.ip().to_canonical().is_loopback();
        let strangers = self.conns.values().filter(|conn| !conn.passed).count();
        let full = self.conns.len() >= MAX_CONNECTIONS || strangers >= MAX_STRANGERS;
        if self.over || full || !here(local) || !here(remote) {
            log::debug!("share: conn={id} from {remote} is turned away");
            self.net(NetOp::Close { conn: id, how: Closing::Abort });
            return;
        }
        self.conns.insert(id, Conn::new(now, local, remote));
    }

    fn receive(&mut self, now: Instant, id: ConnId, bytes: &[u8]) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if let Some(socket) = conn.socket() {
            socket.receive(now, bytes);
            return self.listen_to(now, id);
        }
        match conn.receive_head(now, bytes, &self.token) {
            Turn::Wait => {}
            Turn::Reply(reply) => self.reply(id, reply),
            Turn::Join(switch, early) => {
                let mut socket = Socket::new(now);
                socket.receive(now, &early);
                conn.stage = Stage::Socket(Box::new(socket));
                conn.owed = Owed { status: true, encoding: true, ..Owed::default() };
                self.send(id, switch);
                self.flush(id);
                self.listen_to(now, id);
            }
        }
    }

    /// Takes every message that a page's bytes complete.
    fn listen_to(&mut self, now: Instant, id: ConnId) {
        while let Some(socket) = self.conns.get_mut(&id).and_then(Conn::socket) {
            let said = socket.next();
            let reply = socket.take_outbound();
            self.send(id, reply);
            match said {
                Ok(None) => return,
                Ok(Some(Said::Word(Word::Start))) => self.start(id),
                Ok(Some(Said::Word(Word::Stop))) => self.stop(id),
                Ok(Some(Said::Media(message))) => self.media(now, id, &message),
                Err(Over) => return self.close(id, Some(Closing::Flush)),
            }
        }
    }

    fn start(&mut self, id: ConnId) {
        if let Some((before, _)) = self.sharer.take()
            && before != id
        {
            if let Some(conn) = self.conns.get_mut(&before) {
                conn.owed.taken = true;
            }
            self.flush(before);
        }
        self.sharer = Some((id, Stream::new()));
        self.event(ShareEvent::Started);
    }

    fn stop(&mut self, id: ConnId) {
        if self.sharer.take_if(|(sharer, _)| *sharer == id).is_some() {
            self.event(ShareEvent::Stopped);
        }
    }

    fn media(&mut self, now: Instant, id: ConnId, message: &[u8]) {
        // What another page took the place of may have sent some more by then.
        let Some((_, stream)) = self.sharer.as_mut().filter(|(sharer, _)| *sharer == id) else { return };
        match stream.take(message, self.encoding) {
            Ok(units) => {
                let made = now.checked_sub(stream::age(message)).unwrap_or(now);
                units.into_iter().for_each(|unit| self.event(ShareEvent::Media(unit, made)));
            }
            Err(error) => {
                log::warn!("share: conn={id} is closed: {error}");
                self.close(id, Some(Closing::Flush));
            }
        }
    }

    fn set_backlogged(&mut self, id: ConnId, backlogged: bool) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        conn.backlogged = backlogged;
        // Who does not read is not listened to either, or its requests would pile up answers in the driver.
        self.net(NetOp::Read { conn: id, on: !backlogged });
        self.flush(id);
    }

    fn tell_all(&mut self, owe: impl Fn(&mut Owed)) {
        for id in self.pages() {
            if let Some(conn) = self.conns.get_mut(&id) {
                owe(&mut conn.owed);
            }
            self.flush(id);
        }
    }

    fn pages(&self) -> Vec<ConnId> {
        let sockets = self.conns.iter().filter(|(_, conn)| matches!(conn.stage, Stage::Socket(_)));
        sockets.map(|(id, _)| *id).collect()
    }

    /// Tells a page what it is owed, if its connection takes it.
    fn flush(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(&id).filter(|conn| !conn.backlogged) else { return };
        let owed = std::mem::take(&mut conn.owed);
        let texts = [
            owed.taken.then(|| json!({"type": "taken"}).to_string()),
            owed.keyframe.then(|| json!({"type": "keyframe"}).to_string()),
            owed.encoding.then(|| self.encoding_json()),
            owed.status.then(|| self.status_json()),
        ];
        let Some(socket) = self.conns.get_mut(&id).and_then(Conn::socket) else { return };
        texts.into_iter().flatten().for_each(|text| socket.text(text));
        let bytes = socket.take_outbound();
        self.send(id, bytes);
    }

    fn status_json(&self) -> String {
        json!({"type": "status", "over": self.over, "viewers": self.viewers}).to_string()
    }

    fn encoding_json(&self) -> String {
        let Encoding { width, height, fps, bitrate } = self.encoding;
        json!({
            "type": "encoding", "hold": self.held,
            "width": width, "height": height, "fps": fps, "bitrate": bitrate,
        })
        .to_string()
    }

    fn reply(&mut self, id: ConnId, Reply { send, close }: Reply) {
        self.send(id, send);
        self.close(id, close);
    }

    fn close(&mut self, id: ConnId, how: Option<Closing>) {
        let Some(how) = how else { return };
        self.net(NetOp::Close { conn: id, how });
        self.gone(id);
    }

    fn gone(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.remove(&id) {
            log::debug!("share: conn={id} from {} is gone", conn.remote);
        }
        self.stop(id);
    }

    fn send(&mut self, id: ConnId, bytes: Vec<u8>) {
        if !bytes.is_empty() {
            self.net(NetOp::Send { conn: id, bytes: bytes.into() });
        }
    }

    fn event(&mut self, event: ShareEvent) {
        self.outputs.push_back(ShareOutput::Event(event));
    }

    fn net(&mut self, op: NetOp) {
        self.outputs.push_back(ShareOutput::Net(op));
    }
}
