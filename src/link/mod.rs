//! The secure channel over one TCP byte stream, and the bounds on those who have not proven themselves yet.
//!
//! A [`Channel`] decides who the other end is and turns bytes into authenticated ones; it refuses to know how the
//! connection was made (dialled, accepted, crossed, relayed), what the stream carries, and what a socket is. The
//! roles come from the session, never from who dialled: the caster always speaks first.
//!
//! # Life cycle
//!
//! ```text
//!  caster                                           viewer
//!    │  message 1: e, facts under (secret, es)         │  waits at most HANDSHAKE_TIME, exactly 59 bytes,
//!    ├────────────────────────────────────────────────▶│  answers nobody who lacks the ticket
//!    │                   message 2: e, facts under ee  │
//!    │◀────────────────────────────────────────────────┤
//!  Established: the viewer's key and the secret are      │
//!  proven    │                                        │
//!    │  Ping (always the caster's first record)        │
//!    ├────────────────────────────────────────────────▶│ Established: a live holder of the ticket, no replay
//!    │◀───────────────────────────────────── Pong ─────┤
//!    │  Nominate (on one link of all that formed)      │
//!    ├────────────────────────────────────────────────▶│ Nominated
//!    │◀══════════ stream bytes, Ping, Pong ═══════════▶│
//!    │  Bye                                            │
//!    ├────────────────────────────────────────────────▶│ Ended
//! ```
//!
//! The handshake is `Noise_NKpsk0_25519_AESGCM_SHA256`; `docs/THREATS.md` argues why, `docs/PROTOCOL.md` has the
//! bytes. A [`Door`] counts connections that are not established yet, so that strangers cost nothing.
//!
//! # Contract
//!
//! The four verbs of every core. After one change, drain [`Channel::poll_output`] to `None`. An end that the
//! application did not ask for is told by exactly one [`Event::Ended`]; after it (or after [`Channel::end`]) what
//! is left in the output is to be flushed and the connection closed.
//!
//! ```
//! use punchcast::link::{Channel, Event, Output};
//! use std::time::Instant;
//!
//! fn received(channel: &mut Channel, now: Instant, bytes: &[u8], wire: &mut Vec<u8>) -> bool {
//!     // The error comes again as `Ended`, so one place handles every end.
//!     let _ = channel.handle_input(now, bytes);
//!     while let Some(output) = channel.poll_output() {
//!         match output {
//!             Output::Transmit(bytes) => wire.extend(bytes),
//!             Output::Event(Event::Ended(_why)) => return false,
//!             Output::Event(_event) => { /* decide */ }
//!         }
//!     }
//!     true
//! }
//! ```

mod channel;
mod clock;
mod door;
mod flow;
mod keys;
mod noise;
mod record;

#[cfg(test)]
mod tests;

pub use channel::{
    Channel, HANDSHAKE_TIME, KEYFRAMES_PER_SECOND, PING_EVERY, PONGS_PER_SECOND, SILENCE, SILENCE_MAX,
    SILENT_TRIPS, SPARE_TIME,
};
pub use door::{Admission, Door, PER_SOURCE, RATE, RATE_WINDOW, RESERVED, SOURCES, TOTAL};
pub use keys::{CasterSecrets, Secret, ViewerKey, ViewerPrivateKey, ViewerSecrets};
pub use noise::REKEY_EVERY;
pub(crate) use noise::{open_once, seal_once};
pub use record::{Bye, MAX_RECORD, STREAM_CHUNK};

use crate::id::SessionId;
use bytes::Bytes;
use std::fmt;
use std::time::{Duration, Instant};

/// What a [`Channel`] asks of its application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send these bytes on the connection.
    Transmit(Vec<u8>),
    /// Something happened.
    Event(Event),
}

/// What happened on a [`Channel`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The other end has proven itself, and told what it knows of the connection.
    Established(Facts),
    /// The caster chose this link (told to the viewer only). It leaves the [`Door`] here.
    Nominated,
    /// Bytes of the stream, in order, at least one.
    Stream(Bytes),
    /// The time there and back, measured by the handshake first and then by each `Ping`. Includes what waits in
    /// the send queues of both ends.
    Rtt(Duration),
    /// The line takes more again (told to a caster that was refused it by [`Channel::has_room`]).
    Room,
    /// The introduction of that number led to this link (told to the viewer only).
    Session(SessionId),
    /// The viewer cannot go on without a keyframe (told to the caster only, [`KEYFRAMES_PER_SECOND`] times a second at most).
    KeyframeWanted,
    /// When the next picture of the stream was made (told to the viewer only). Not before the first answer to a ping.
    Stamp {
        /// The picture's timestamp in the stream, milliseconds.
        timestamp: u32,
        /// When it was made, by our clock. Off by half a round trip at most, and by less where both ways take as long.
        made: Instant,
    },
    /// The channel is over, once, and not by [`Channel::end`].
    Ended(EndReason),
}

/// What one end knows of how the connection came about. Both ends need both ends' facts to give the link the same
/// name; they travel encrypted in the handshake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Facts {
    /// Our connecting socket completed, by an answer or by crossing SYNs; our listener did not accept.
    pub dialled: bool,
    /// Our address of the connection can be reached from everywhere: no NAT before us.
    pub public: bool,
    /// By our view of both addresses, no NAT stands between.
    pub lan: bool,
    /// Nobody had seen the endpoint that we dialled.
    pub predicted: bool,
    /// The endpoint that we dialled is one that the peer's router forwards to it.
    pub mapped: bool,
    /// A random number of this run of the program: a link that is made again is known for the same caster's.
    pub run: u64,
}

/// Bytes of [`Facts`] in a handshake message.
const FACTS_LEN: usize = 9;

impl Facts {
    const fn to_bytes(self) -> [u8; FACTS_LEN] {
        let bits = self.dialled as u8
            | (self.public as u8) << 1
            | (self.lan as u8) << 2
            | (self.predicted as u8) << 3
            | (self.mapped as u8) << 4;
        let [a, b, c, d, e, f, g, h] = self.run.to_be_bytes();
        [bits, a, b, c, d, e, f, g, h]
    }

    /// Bits that this version does not know are ignored.
    const fn from_bytes(bytes: [u8; FACTS_LEN]) -> Self {
        let [bits, a, b, c, d, e, f, g, h] = bytes;
        Self {
            dialled: bits & 1 != 0,
            public: bits & 2 != 0,
            lan: bits & 4 != 0,
            predicted: bits & 8 != 0,
            mapped: bits & 16 != 0,
            run: u64::from_be_bytes([a, b, c, d, e, f, g, h]),
        }
    }
}

/// Why a channel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EndReason {
    /// The peer said so. A connection that closes *without* this was cut.
    Bye(Bye),
    /// The handshake was not complete within [`HANDSHAKE_TIME`].
    Late,
    /// Nothing was heard for [`SILENCE`] or [`SILENT_TRIPS`], the longer of them; at a caster's end also if nothing was heard of the stream that was on its way.
    Silent,
    /// The caster did not nominate the link within [`SPARE_TIME`].
    NotNominated,
    /// The peer broke the protocol, or is a stranger. Close at once.
    Failed(LinkError),
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bye(bye) => bye.fmt(f),
            Self::Late => f.write_str("the handshake took too long"),
            Self::Silent => f.write_str("nothing was heard for too long"),
            Self::NotNominated => f.write_str("the caster left the link unused"),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

/// What is wrong with the other end's bytes, or with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LinkError {
    /// The first bytes are no link's: their length is not the handshake's.
    NotALink,
    /// The handshake does not decrypt: the other end has not this ticket, or is not this viewer.
    Stranger,
    /// A record does not decrypt: damaged, forged, replayed or out of order.
    Forged,
    /// A genuine record that makes no sense here.
    Malformed,
    /// The call needs a channel that is established (and, for the stream, nominated).
    NotOpen,
    /// The system gave no randomness, or the cipher suite is missing.
    Crypto,
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotALink => "the other end does not speak the link's protocol",
            Self::Stranger => "the other end does not hold this ticket",
            Self::Forged => "a record was damaged or forged",
            Self::Malformed => "a record makes no sense here",
            Self::NotOpen => "the link is not open",
            Self::Crypto => "the system gave no randomness",
        })
    }
}

impl std::error::Error for LinkError {}
