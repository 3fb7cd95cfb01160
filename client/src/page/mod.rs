//! The viewer's page: a small web site on the viewer's own machine that shows the ticket, then the live picture.
//!
//! The room decides who may see the page (`guard`), what each browser is sent, and when to ask for a key frame. It refuses to know where the media comes from and how its
//! link was made: it is told units ([`Page::publish`]), each of the cast at some place, and a [`Status`] to show.
//!
//! # Life of a connection
//!
//! ```text
//!            head in time              upgrade, allowed
//!  accepted ───────────▶ HTTP request ──────────────────▶ WebSocket: status, configurations, group, then live
//!      │                  │  ▲  │ refused                     │ close, silence, protocol error
//!      │ too many, late   └──┘  ▼ response + close            ▼
//!      └──────────────────────▶ closed ◀──────────────────────┘
//! ```
//!
//! Over the WebSocket the page's script gets text messages in JSON (`status`, `start`, `end`, `gone`, `catch-up`,
//! `left-out`) and binary messages of media (`packet`); it sends `keyframe` and a place when a decoder had to skip.

mod conn;
pub(crate) mod duplex;
mod flv;
#[cfg(test)]
mod flv_tests;
pub(crate) mod guard;
pub(crate) mod heads;
pub(crate) mod http;
#[cfg(test)]
pub(crate) mod named;
mod packet;
mod qr;
mod site;
mod socket;
mod status;
#[cfg(test)]
mod tests;

pub use guard::PageToken;
pub use qr::terminal_qr;
pub use status::{CastStatus, Phase, Status, Step, StepState};

use conn::{Conn, Joined, Stage, Turn};
use packet::{PacketKind, Reading};
use punchcast::app::{Closing, ConnId, Input, ListenerId, NetError, NetOp, Room, soonest};
use punchcast::endpoint::Prefix;
use punchcast::media::pace::{self, Queue};
use punchcast::media::{Cache, Unit};
use site::Site;
use socket::{Socket, Wish};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How many connections the page serves at once. A browser opens six for files and one WebSocket per tab; this
/// leaves room for several tabs and screens, and bounds what strangers on the network can take up.
pub const MAX_CONNECTIONS: usize = 64;

/// Of those, connections that no request has let in yet, all together: the other half is for browsers that were, and for
/// more connections of the same machines.
pub const MAX_STRANGERS: usize = 32;

/// Connections of one source that no request has let in yet. A browser opens six.
pub const MAX_STRANGERS_PER_SOURCE: usize = 8;

/// The shortest time between two key frames asked for: each one costs as much as many pictures.
const KEYFRAME_EVERY: Duration = Duration::from_millis(500);

/// The shortest time between two status messages within one phase; numbers that change faster cannot be read.
const STATUS_EVERY: Duration = Duration::from_millis(200);

/// The longest time between two status messages: the script takes three times this long without a word for a dead
/// connection.
const STATUS_AT_LEAST_EVERY: Duration = Duration::from_secs(5);

/// A replay of more packets than this (half a second of pictures and sound) is worth a key frame when somebody joins.
const LONG_REPLAY: usize = 45;

/// Bytes of groups under way that a browser is given when it joins, of all casts together: the longest group and room for
/// short ones, and as much as may wait of one cast. Who takes none of it costs no more, however many casts there are.
const MAX_REPLAY: usize = pace::MAX_BYTES;

/// What the page is made of.
#[derive(Clone, Debug)]
pub struct PageConfig {
    /// Where to listen; port 0 takes a free port.
    pub addr: SocketAddr,
    /// The ticket as the link that the page shows.
    pub ticket_link: String,
    /// What the page's link must carry beyond loopback; without one, only loopback is served.
    pub token: Option<PageToken>,
    /// Casts at once, each with a path for players.
    pub casts: usize,
    /// Names this run of the program towards the script.
    pub seed: u64,
}

/// What the page asks of its application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PageOutput {
    /// Something for the network.
    Net(NetOp),
    /// Something that the application may want to know.
    Event(PageEvent),
}

/// What happened to the page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PageEvent {
    /// The page is served at this address; [`Page::link`] makes the link of it.
    Listening {
        /// The bound address.
        local: SocketAddr,
    },
    /// The page could not be served.
    ListenFailed {
        /// The address that was asked for.
        addr: SocketAddr,
        /// Why.
        error: NetError,
    },
    /// A browser cannot go on without a key frame; at most two a second for each cast.
    KeyframeWanted {
        /// The cast's place.
        cast: usize,
    },
}

/// The room of the viewer's page. See the [module](self).
#[derive(Debug)]
pub struct Page {
    site: Site,
    conns: BTreeMap<ConnId, Conn>,
    /// The casts, by place.
    casts: BTreeMap<usize, Cast>,
    status: Pace,
    outputs: VecDeque<PageOutput>,
}

/// What the page knows of one cast.
#[derive(Debug, Default)]
struct Cast {
    cache: Cache,
    streaming: bool,
    keyframe: Pace,
}

/// Something done at most so often.
#[derive(Debug, Default)]
struct Pace {
    last: Option<Instant>,
    due: Option<Instant>,
}

impl Pace {
    /// Asks for it, at `now` or as soon after as `every` allows.
    fn ask(&mut self, now: Instant, every: Duration) {
        let due = self.last.map_or(now, |last| now.max(last + every));
        self.due = Some(self.due.map_or(due, |earlier| earlier.min(due)));
    }

    /// Whether it is to be done at `now`; counts as done then.
    fn take(&mut self, now: Instant) -> bool {
        let is_due = self.due.is_some_and(|due| due <= now);
        if is_due {
            *self = Self { last: Some(now), due: None };
        }
        is_due
    }
}

impl Page {
    /// A page in `room` that asks at once to listen.
    #[must_use]
    pub fn new(room: Room, config: PageConfig) -> Self {
        let listener = ListenerId { room, serial: 0 };
        let listen = NetOp::Listen { listener, addr: config.addr, reuse: false };
        Self {
            site: Site::new(config.ticket_link, config.token, config.casts, config.seed),
            conns: BTreeMap::new(),
            casts: BTreeMap::new(),
            status: Pace::default(),
            outputs: VecDeque::from([PageOutput::Net(listen)]),
        }
    }

    /// The link that opens the page at `local`, with the token where one is needed. For a page bound to the
    /// unspecified address, give the address that a browser shall use.
    #[must_use]
    pub fn link(&self, local: SocketAddr) -> String {
        self.site.link(local)
    }

    /// Shows this short code, with its daemon, or none.
    pub fn set_code(&mut self, now: Instant, code: Option<String>) {
        if self.site.set_code(code) {
            self.status.ask(now, Duration::ZERO);
            self.pace(now);
        }
    }

    /// How many browsers have the page open.
    #[must_use]
    pub fn watchers(&self) -> usize {
        self.conns.values().filter(|conn| matches!(conn.stage, Stage::Socket(_))).count()
    }

    /// Takes one network event of the page's room.
    pub fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        match input {
            Input::Listening { local, .. } => self.event(PageEvent::Listening { local }),
            Input::ListenFailed { addr, error, .. } => self.event(PageEvent::ListenFailed { addr, error }),
            Input::Accepted { conn, local, remote, .. } => self.accept(now, conn, local, remote),
            Input::Received { conn, bytes } => self.receive(now, conn, bytes),
            Input::Backlogged { conn } => self.set_backlogged(now, conn, true),
            Input::Drained { conn } => self.set_backlogged(now, conn, false),
            Input::Closed { conn, .. } => {
                self.conns.remove(&conn);
            }
            // The page opens no connections, and the application decides when to end.
            Input::Connected { .. } | Input::ConnectFailed { .. } | Input::Interrupted => {}
        }
    }

    /// Takes the passing of time.
    pub fn handle_timeout(&mut self, now: Instant) {
        for (id, conn) in &mut self.conns {
            if let Stage::Flv(response) = &mut conn.stage
                && let Some(cast) = self.casts.get(&response.place)
                && response.begin_if_due(now, &cast.cache)
            {
                self.outputs.extend(flushed(*id, conn, &self.site));
            }
        }
        let due: Vec<ConnId> =
            self.conns.iter().filter(|(_, conn)| conn.deadline().0 <= now).map(|(id, _)| *id).collect();
        for id in due {
            self.turn(now, id, |conn| conn.tick(now));
        }
        if self.watchers() > 0 && self.status_overdue().is_some_and(|at| at <= now) {
            self.status.ask(now, Duration::ZERO);
        }
        self.pace(now);
    }

    /// The next thing to carry out, until `None`.
    pub fn poll_output(&mut self) -> Option<PageOutput> {
        self.outputs.pop_front()
    }

    /// When the page wants [`handle_timeout`](Self::handle_timeout), and why.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let conns = self.conns.values().map(Conn::deadline).min_by_key(|(at, _)| *at);
        let keyframe = self.casts.values().filter_map(|cast| cast.keyframe.due).min();
        let keyframe = keyframe.map(|at| (at, "page: key frame"));
        let status = self.status.due.map(|at| (at, "page: status"));
        let beat = self.status_overdue().filter(|_| self.watchers() > 0).map(|at| (at, "page: sign of life"));
        soonest(soonest(conns, keyframe), soonest(status, beat))
    }

    /// Takes one unit of the cast at `place` and sends it to every browser that keeps up.
    pub fn publish(&mut self, now: Instant, place: usize, unit: &Unit) {
        let foreign = match packet::read(unit) {
            Reading::Packet(packet) => (packet.kind == PacketKind::VideoConfig).then_some(false),
            Reading::ForeignVideo => Some(true),
            // Not for the page's script; a player may know what to do with it.
            Reading::Nothing => None,
        };
        if foreign.is_some_and(|foreign| self.site.set_foreign_video(place, foreign)) {
            self.status.ask(now, STATUS_EVERY);
        }
        self.casts.entry(place).or_default().cache.push(unit);
        self.spread(now, place, unit);
        self.pace(now);
    }

    /// A stream begins at `place`: what came before is forgotten.
    pub fn stream_started(&mut self, now: Instant, place: usize) {
        self.restart(now, place, true, Control::Start);
    }

    /// The stream is over: browsers keep its last picture and wait for the next.
    pub fn stream_ended(&mut self, now: Instant, place: usize) {
        self.restart(now, place, false, Control::End);
    }

    /// The cast will not come back: its place is empty.
    pub fn cast_gone(&mut self, now: Instant, place: usize) {
        self.restart(now, place, false, Control::Gone);
        self.casts.remove(&place);
    }

    /// Takes a new status to show. A change of phase is told at once, numbers at a readable pace.
    pub fn status(&mut self, now: Instant, status: Status) {
        let phase_differs = self.site.phase() != status.phase;
        if self.site.set_status(status) {
            self.status.ask(now, if phase_differs { Duration::ZERO } else { STATUS_EVERY });
            self.pace(now);
        }
    }

    fn accept(&mut self, now: Instant, id: ConnId, local: SocketAddr, remote: SocketAddr) {
        let conn = Conn::new(now, local, remote);
        if !self.has_place(conn.source) {
            log::debug!("page: conn={id} from {remote} is one too many");
            self.net(NetOp::Close { conn: id, how: Closing::Abort });
            return;
        }
        self.conns.insert(id, conn);
    }

    fn has_place(&self, source: Prefix) -> bool {
        let (mut strangers, mut own, mut known) = (0, 0, false);
        for conn in self.conns.values() {
            strangers += usize::from(!conn.passed);
            own += usize::from(!conn.passed && conn.source == source);
            known |= conn.passed && conn.source == source;
        }
        self.conns.len() < MAX_CONNECTIONS
            && own < MAX_STRANGERS_PER_SOURCE
            && (known || strangers < MAX_STRANGERS)
    }

    fn receive(&mut self, now: Instant, id: ConnId, bytes: &[u8]) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        match conn.stage {
            Stage::Http(_) => {}
            Stage::Socket(_) => {
                self.turn(now, id, |conn| conn.receive_message(now, bytes));
                return;
            }
            // A player that goes on asking is not answered.
            Stage::Flv(_) => return,
        }
        let mut joined = None;
        let site = &self.site;
        let turn = conn.receive_head(now, bytes, site, &mut joined);
        self.carry_out(now, id, turn);
        match joined {
            Some(Joined::Socket { switch, early }) => {
                self.join(now, id, switch);
                if !early.is_empty() {
                    self.turn(now, id, |conn| conn.receive_message(now, &early));
                }
            }
            Some(Joined::Flv { head, place }) => self.join_flv(now, id, head, place),
            None => {}
        }
    }

    /// Makes a connection a response without end.
    fn join_flv(&mut self, now: Instant, id: ConnId, mut head: Vec<u8>, place: usize) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let nothing = Cache::new();
        let cache = self.casts.get(&place).map_or(&nothing, |cast| &cast.cache);
        let mut response = flv::Response::new(now, place, cache);
        head.extend(response.take());
        conn.stage = Stage::Flv(Box::new(response));
        self.net(NetOp::Send { conn: id, bytes: head.into() });
        self.want_keyframe(now, place);
    }

    /// Makes a connection a WebSocket and sends what its page needs to show a picture at once. A cast whose group does not
    /// fit what there is room for begins with its next keyframe, which is asked for.
    fn join(&mut self, now: Instant, id: ConnId, mut switch: Vec<u8>) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let mut socket = Socket::new(now);
        socket.text(&self.site.status_json());
        let (mut hungry, mut room) = (Vec::new(), MAX_REPLAY);
        for (&place, cast) in &self.casts {
            if cast.streaming {
                socket.text(&Control::Start.json(place));
            }
            let mut replay: Vec<Unit> = cast.cache.replay().collect();
            let size: usize = replay.iter().map(|unit| unit.payload.len()).sum();
            let fits = size <= room;
            if fits {
                room -= size;
            } else {
                replay = cast.cache.headers().collect();
                socket.lane(place).queue = Queue::awaiting_keyframe();
            }
            let shown = replay.iter().filter(|unit| matches!(packet::read(unit), Reading::Packet(_))).count();
            socket.text(&format!(r#"{{"type":"catch-up","cast":{place},"packets":{shown}}}"#));
            for unit in &replay {
                socket.unit(place, unit);
            }
            if cast.streaming && (!fits || !cast.cache.has_keyframe() || shown > LONG_REPLAY) {
                hungry.push(place);
            }
        }
        switch.extend(socket.take_outbound());
        conn.stage = Stage::Socket(Box::new(socket));
        self.net(NetOp::Send { conn: id, bytes: switch.into() });
        for place in hungry {
            self.want_keyframe(now, place);
        }
        if self.status.last.is_none() {
            self.status.last = Some(now);
        }
    }

    fn spread(&mut self, now: Instant, place: usize, unit: &Unit) {
        let Some(cast) = self.casts.get_mut(&place) else { return };
        let mut starved = false;
        for (id, conn) in &mut self.conns {
            let dropped = match &mut conn.stage {
                Stage::Socket(socket) => {
                    let queue = &mut socket.lane(place).queue;
                    let before = queue.dropped();
                    queue.push(now, unit.clone());
                    queue.dropped() - before
                }
                Stage::Flv(response) if response.place == place => {
                    let before = response.dropped();
                    response.push(now, unit, &cast.cache);
                    response.dropped() - before
                }
                Stage::Http(_) | Stage::Flv(_) => continue,
            };
            starved |= conn.starves(place, unit, dropped > 0);
            self.outputs.extend(flushed(*id, conn, &self.site));
        }
        if starved {
            cast.keyframe.ask(now, KEYFRAME_EVERY);
        } else if unit.is_keyframe() {
            cast.keyframe.due = None;
        }
    }

    fn restart(&mut self, now: Instant, place: usize, streaming: bool, control: Control) {
        let cast = self.casts.entry(place).or_default();
        cast.cache = Cache::new();
        cast.streaming = streaming;
        cast.keyframe.due = None;
        if self.site.set_foreign_video(place, false) {
            self.status.ask(now, Duration::ZERO);
        }
        if control == Control::Gone {
            self.end_flv(place);
        }
        for (id, conn) in &mut self.conns {
            conn.starved.remove(&place);
            match &mut conn.stage {
                Stage::Http(_) => continue,
                Stage::Socket(socket) => socket.lane(place).restart(control),
                Stage::Flv(response) if response.place == place => response.restart(),
                Stage::Flv(_) => continue,
            }
            self.outputs.extend(flushed(*id, conn, &self.site));
        }
        self.pace(now);
    }

    /// The cast will not come back: its players see the end of the file.
    fn end_flv(&mut self, place: usize) {
        let is_its = |conn: &Conn| matches!(&conn.stage, Stage::Flv(response) if response.place == place);
        let over: Vec<ConnId> =
            self.conns.iter().filter(|(_, conn)| is_its(conn)).map(|(id, _)| *id).collect();
        for id in over {
            self.conns.remove(&id);
            self.net(NetOp::Close { conn: id, how: Closing::Flush });
        }
    }

    fn set_backlogged(&mut self, now: Instant, id: ConnId, backlogged: bool) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        conn.backlogged = backlogged;
        if let Stage::Flv(response) = &mut conn.stage {
            response.until = now + flv::STALL_TIME;
        }
        let send = flushed(id, conn, &self.site);
        let starved = if backlogged { BTreeSet::new() } else { std::mem::take(&mut conn.starved) };
        // Who does not read is not listened to either, or its requests would pile up answers in the driver.
        self.net(NetOp::Read { conn: id, on: !backlogged });
        self.outputs.extend(send);
        for place in starved {
            self.want_keyframe(now, place);
        }
        self.pace(now);
    }

    /// Runs `step` on a connection and carries out what comes of it.
    fn turn(&mut self, now: Instant, id: ConnId, step: impl FnOnce(&mut Conn) -> Turn) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let turn = step(conn);
        self.carry_out(now, id, turn);
    }

    fn carry_out(&mut self, now: Instant, id: ConnId, turn: Turn) {
        if !turn.send.is_empty() {
            self.net(NetOp::Send { conn: id, bytes: turn.send.into() });
        }
        if let Some(how) = turn.close {
            self.conns.remove(&id);
            self.net(NetOp::Close { conn: id, how });
        }
        for Wish::Keyframe { cast } in turn.wishes {
            if self.casts.get(&cast).is_some_and(|cast| cast.streaming) {
                self.want_keyframe(now, cast);
            }
        }
    }

    fn want_keyframe(&mut self, now: Instant, place: usize) {
        if let Some(cast) = self.casts.get_mut(&place) {
            cast.keyframe.ask(now, KEYFRAME_EVERY);
        }
        self.pace(now);
    }

    /// Does what is due of the things that have a pace.
    fn pace(&mut self, now: Instant) {
        for (&place, cast) in &mut self.casts {
            if cast.keyframe.take(now) {
                self.outputs.push_back(PageOutput::Event(PageEvent::KeyframeWanted { cast: place }));
            }
        }
        if !self.status.take(now) {
            return;
        }
        for (id, conn) in &mut self.conns {
            let Stage::Socket(socket) = &mut conn.stage else { continue };
            socket.owes_status = true;
            self.outputs.extend(flushed(*id, conn, &self.site));
        }
    }

    fn status_overdue(&self) -> Option<Instant> {
        self.status.last.map(|last| last + STATUS_AT_LEAST_EVERY)
    }

    fn net(&mut self, op: NetOp) {
        self.outputs.push_back(PageOutput::Net(op));
    }

    fn event(&mut self, event: PageEvent) {
        self.outputs.push_back(PageOutput::Event(event));
    }
}

/// What a connection has to be sent, if it takes it.
fn flushed(id: ConnId, conn: &mut Conn, site: &Site) -> Option<PageOutput> {
    let bytes = conn.flush(site)?.into();
    Some(PageOutput::Net(NetOp::Send { conn: id, bytes }))
}

/// What becomes of the stream at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Control {
    /// It begins.
    Start,
    /// It is over; its last picture stays.
    End,
    /// It is over, and its place is empty.
    Gone,
}

impl Control {
    /// The message that tells the page's script.
    fn json(self, place: usize) -> String {
        let what = match self {
            Self::Start => "start",
            Self::End => "end",
            Self::Gone => "gone",
        };
        format!(r#"{{"type":"{what}","cast":{place}}}"#)
    }
}
