//! One browser's WebSocket: what it asks for, and what waits for it.

use super::Control;
use super::duplex::{Duplex, Over};
use super::packet::{self, Reading};
use punchcast::media::Unit;
use punchcast::media::pace::Queue;
use std::collections::BTreeMap;
use std::time::Instant;
use tungstenite::Message;
use tungstenite::protocol::WebSocketConfig;

/// The longest message that a page sends: a word and a number.
const MAX_MESSAGE: usize = 1024;

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
    duplex: Duplex,
    /// What waits while the connection is backed up, by the cast's place.
    lanes: BTreeMap<usize, Lane>,
    /// The status changed while the connection was backed up.
    pub(super) owes_status: bool,
}

impl Socket {
    /// A socket whose opening handshake is done.
    pub(super) fn new(now: Instant) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(MAX_MESSAGE)
            .max_message_size(Some(MAX_MESSAGE))
            .max_frame_size(Some(MAX_MESSAGE));
        Self { duplex: Duplex::new(now, config), lanes: BTreeMap::new(), owes_status: false }
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
        self.duplex.receive(now, bytes);
        let mut wishes = Vec::new();
        loop {
            match self.duplex.next() {
                Ok(Some(Message::Text(text))) => {
                    wishes.extend(wish(text.as_str()).filter(|wish| !wishes.contains(wish)))
                }
                Ok(Some(_)) => {}
                Ok(None) => return Received::Open(wishes),
                Err(Over) => return Received::Over,
            }
        }
    }

    /// Writes a text message.
    pub(super) fn text(&mut self, text: &str) {
        self.duplex.write(Message::text(text));
    }

    /// Writes a unit, if it is one that the page shows; returns whether it is.
    pub(super) fn unit(&mut self, place: usize, unit: &Unit) -> bool {
        match packet::read(unit) {
            Reading::Packet(packet) => {
                self.duplex.write(Message::Binary(packet.encode(place)));
                true
            }
            Reading::ForeignVideo | Reading::Nothing => false,
        }
    }

    /// Takes the passing of time; returns whether the browser still counts as there.
    pub(super) fn tick(&mut self, now: Instant) -> bool {
        self.duplex.tick(now)
    }

    /// When `tick` has something to do, and why.
    pub(super) fn deadline(&self) -> (Instant, &'static str) {
        self.duplex.deadline()
    }

    /// What is to go to the peer.
    pub(super) fn take_outbound(&mut self) -> Vec<u8> {
        self.duplex.take_outbound()
    }
}

/// What a message of the page asks for: `keyframe` and a place.
fn wish(text: &str) -> Option<Wish> {
    let cast = text.strip_prefix("keyframe ")?.parse().ok()?;
    Some(Wish::Keyframe { cast })
}
