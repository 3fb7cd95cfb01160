//! One browser's WebSocket: tungstenite over bytes in memory, so that it stays a core.

use super::Control;
use super::packet::{self, Reading};
use punchcast::media::Unit;
use punchcast::media::pace::Queue;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::time::{Duration, Instant};
use tungstenite::protocol::{Role, WebSocketConfig};
use tungstenite::{Bytes, Error, Message, WebSocket};

/// The longest message that a page sends: a word and a number.
const MAX_MESSAGE: usize = 1024;

/// How often a quiet browser is pinged.
pub(super) const PING_EVERY: Duration = Duration::from_secs(20);

/// How long a browser may answer nothing: three pings.
pub(super) const MAX_SILENCE: Duration = Duration::from_secs(60);

/// What a page asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// A key frame: its decoder had to skip.
    Keyframe {
        /// Of the cast at this place.
        cast: usize,
    },
}

/// What became of received bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// What the page asks for.
    Open(Vec<Wish>),
    /// The conversation is over; send what is left and close.
    Over,
}

/// What waits of one cast.
#[derive(Debug)]
pub(super) struct Lane {
    /// Media.
    pub(super) queue: Queue,
    /// The stream's beginning or end, still to be told before the queue.
    owes_control: Option<Control>,
    /// Pictures left out that the page has been told of.
    told_dropped: u64,
}

impl Lane {
    fn new() -> Self {
        Self { queue: Queue::new(), owes_control: None, told_dropped: 0 }
    }

    /// Forgets the media that waits: the stream begins or ends.
    pub(super) fn restart(&mut self, control: Control) {
        self.queue.clear();
        self.owes_control = Some(control);
    }
}

/// The WebSocket of one browser.
#[derive(Debug)]
pub(super) struct Socket {
    ws: WebSocket<Pipe>,
    /// What waits while the connection is backed up, by the cast's place.
    lanes: BTreeMap<usize, Lane>,
    /// The status changed while the connection was backed up.
    pub(super) owes_status: bool,
    heard: Instant,
    pinged: Instant,
}

impl Socket {
    /// A socket whose opening handshake is done.
    pub(super) fn new(now: Instant) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(MAX_MESSAGE)
            .write_buffer_size(0)
            .max_message_size(Some(MAX_MESSAGE))
            .max_frame_size(Some(MAX_MESSAGE));
        let ws = WebSocket::from_raw_socket(Pipe::default(), Role::Server, Some(config));
        Self { ws, lanes: BTreeMap::new(), owes_status: false, heard: now, pinged: now }
    }

    /// What waits of the cast at `place`.
    pub(super) fn lane(&mut self, place: usize) -> &mut Lane {
        self.lanes.entry(place).or_insert_with(Lane::new)
    }

    /// Writes all that waits. `status` makes the message that may be owed.
    pub(super) fn flush(&mut self, status: impl FnOnce() -> String) {
        let owes_status = std::mem::take(&mut self.owes_status);
        if owes_status {
            self.text(&status());
        }
        let mut lanes = std::mem::take(&mut self.lanes);
        for (&place, lane) in &mut lanes {
            if let Some(control) = lane.owes_control.take() {
                self.text(&control.json(place));
            }
            while let Some(unit) = lane.queue.pop() {
                self.unit(place, &unit);
            }
            let dropped = lane.queue.dropped();
            if owes_status && dropped > lane.told_dropped {
                lane.told_dropped = dropped;
                self.text(&format!(r#"{{"type":"left-out","cast":{place},"pictures":{dropped}}}"#));
            }
        }
        self.lanes = lanes;
    }

    /// Takes received bytes, in any split.
    pub(super) fn receive(&mut self, now: Instant, bytes: &[u8]) -> Received {
        self.heard = now;
        self.ws.get_mut().inbound.extend_from_slice(bytes);
        let mut wishes = Vec::new();
        loop {
            match self.ws.read() {
                Ok(Message::Text(text)) => {
                    wishes.extend(wish(text.as_str()).filter(|wish| !wishes.contains(wish)))
                }
                Ok(Message::Binary(_)) => {}
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {}
                // The answer to a close is written by the next read, which then tells that all is said.
                Ok(Message::Close(_)) => {}
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Received::Open(wishes);
                }
                Err(Error::ConnectionClosed) => return Received::Over,
                Err(error) => {
                    log::debug!("page: WebSocket refused: {error}");
                    return Received::Over;
                }
            }
        }
    }

    /// Writes a text message.
    pub(super) fn text(&mut self, text: &str) {
        self.write(Message::text(text));
    }

    /// Writes a unit, if it is one that the page shows; returns whether it is.
    pub(super) fn unit(&mut self, place: usize, unit: &Unit) -> bool {
        match packet::read(unit) {
            Reading::Packet(packet) => {
                self.write(Message::Binary(packet.encode(place)));
                true
            }
            Reading::ForeignVideo | Reading::Nothing => false,
        }
    }

    /// Takes the passing of time; returns whether the browser still counts as there.
    pub(super) fn tick(&mut self, now: Instant) -> bool {
        if now >= self.heard + MAX_SILENCE {
            return false;
        }
        if now >= self.next_ping() {
            self.pinged = now;
            self.write(Message::Ping(Bytes::new()));
        }
        true
    }

    /// When `tick` has something to do.
    pub(super) fn deadline(&self) -> (Instant, &'static str) {
        let silence = self.heard + MAX_SILENCE;
        let ping = self.next_ping();
        if silence < ping { (silence, "page: silent browser") } else { (ping, "page: ping") }
    }

    /// What is to go to the peer.
    pub(super) fn take_outbound(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.ws.get_mut().outbound)
    }

    fn next_ping(&self) -> Instant {
        self.pinged.max(self.heard) + PING_EVERY
    }

    fn write(&mut self, message: Message) {
        // The pipe takes everything, so what is left to fail is writing after the close; its bytes would be lost
        // on the peer anyway.
        if let Err(error) = self.ws.send(message) {
            log::trace!("page: WebSocket write after close: {error}");
        }
    }
}

/// What a message of the page asks for: `keyframe` and a place.
fn wish(text: &str) -> Option<Wish> {
    let cast = text.strip_prefix("keyframe ")?.parse().ok()?;
    Some(Wish::Keyframe { cast })
}

/// A stream in memory. Reading past what has arrived would block.
#[derive(Debug, Default)]
pub(crate) struct Pipe {
    /// What came from the peer.
    pub(crate) inbound: Vec<u8>,
    /// What is to go to it.
    pub(crate) outbound: Vec<u8>,
}

impl Read for Pipe {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.inbound.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = into.len().min(self.inbound.len());
        into[..count].copy_from_slice(&self.inbound[..count]);
        self.inbound.drain(..count);
        Ok(count)
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.outbound.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
