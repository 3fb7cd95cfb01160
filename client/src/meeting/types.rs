//! What a meeting is made with, asks for and tells.

use punchcast::app::{ConnId, NetError, NetOp, Room};
use punchcast::endpoint::Endpoint;
use punchcast::link::{CasterSecrets, EndReason, ViewerSecrets};
use punchcast::policy::{Obstacle, Rung};
use punchcast::punch::Findings;
use punchcast::rendezvous::{agent, relay};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// What one side brings to the proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Secrets {
    /// Read from the ticket.
    Caster(CasterSecrets),
    /// Behind the ticket.
    Viewer(ViewerSecrets),
}

/// The rooms of one meeting in its application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rooms {
    /// Of the connections to the daemon.
    pub rendezvous: Room,
    /// Of the hole port's connections.
    pub hole: Room,
    /// Of connections that the daemon relays.
    pub relay: Room,
    /// Of the question for the ticket, before the meeting.
    pub lookup: Room,
}

impl Rooms {
    /// The lowest of them all: an application has those below for itself.
    const FIRST: u8 = 16;

    /// Rooms of one meeting.
    const EACH: u8 = 4;

    /// How many meetings one application can have.
    pub const MOST: u8 = (u8::MAX - Self::FIRST) / Self::EACH;

    /// The rooms of the meeting of that number, below [`Rooms::MOST`].
    #[must_use]
    pub const fn nth(number: u8) -> Self {
        let first = Self::FIRST + number * Self::EACH;
        Self {
            rendezvous: Room(first),
            hole: Room(first + 1),
            relay: Room(first + 2),
            lookup: Room(first + 3),
        }
    }

    /// Whether the room is that of some meeting's hole port.
    #[must_use]
    pub const fn is_hole(room: Room) -> bool {
        room.0 >= Self::FIRST && (room.0 - Self::FIRST) % Self::EACH == 1
    }
}

/// What a meeting is made with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where its connections belong in the application.
    pub rooms: Rooms,
    /// For the proof; tells the role, too.
    pub secrets: Secrets,
    /// The rendezvous, whose room is that of `rooms`; without servers the meeting relies on the ticket's addresses.
    pub agent: Option<agent::Config>,
    /// This host's addresses, best first.
    pub local_ips: Vec<IpAddr>,
    /// The viewer's own addresses from the ticket (a caster only).
    pub ticket_addresses: Vec<Endpoint>,
    /// A random number of this run of the program, by which the other side knows it again.
    pub run: u64,
}

/// What the meeting asks for and tells.
#[derive(Debug)]
pub enum Output {
    /// For the network.
    Net(NetOp),
    /// For the application.
    Event(Event),
}

/// What the meeting tells.
#[derive(Debug)]
pub enum Event {
    /// The hole port is bound; these are our own addresses with it.
    Opened(Vec<Endpoint>),
    /// The hole port cannot be had.
    Failed(SocketAddr, NetError),
    /// What the rendezvous tells.
    Rendezvous(agent::Event),
    /// An endpoint is dialled for the first time; the rung is what it would be if it works.
    Trying {
        /// Which rung that would be.
        rung: Rung,
        /// Where from.
        local: SocketAddr,
        /// Where to.
        remote: Endpoint,
    },
    /// No direct link has formed so far, and the daemon is asked to relay one.
    SeekingRelay(Obstacle),
    /// The daemon relays nothing for us: why, in words.
    NoRelay(String),
    /// A link stands. A direct one may come while a relayed one still carries the cast: the application moves over and
    /// ends the relayed one with [`Bye::Moved`](punchcast::link::Bye::Moved).
    Linked(Link),
    /// A connection to the hole port speaks plain RTMP. It is the application's from here on, with all its inputs.
    Plain {
        /// Which.
        conn: ConnId,
        /// Our address.
        local: Endpoint,
        /// The peer's.
        remote: Endpoint,
        /// What it has sent.
        bytes: bytes::Bytes,
    },
    /// Bytes of the link's stream.
    Stream(ConnId, bytes::Bytes),
    /// The link's line takes more again.
    Room(ConnId),
    /// The viewer on the link cannot go on without a keyframe.
    KeyframeWanted(ConnId),
    /// The next picture of the link's stream: its timestamp, and when it was made, by our clock.
    Stamp(ConnId, u32, Instant),
    /// A new measure of a link's round-trip time.
    Rtt(ConnId, Duration),
    /// The link holds back: what waits in the kernel has not left.
    Backlogged(ConnId),
    /// The link takes more.
    Drained(ConnId),
    /// A link is over.
    Lost(ConnId, Loss),
    /// Time is over and no link formed, for a viewer with one of its casters: what the connects met, and what stands in the way
    /// if the other side was introduced.
    NoLink(Findings, Option<Obstacle>),
}

/// Why a link is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The channel ended.
    Ended(EndReason),
    /// The connection was cut without a goodbye.
    Cut(Option<NetError>),
    /// The same of a relayed link: the connection to the daemon.
    RelayCut(Option<NetError>),
    /// The daemon's relay has carried as much, or for as long, as it does for one link.
    RelaySpent(relay::Terms),
}

impl std::fmt::Display for Loss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ended(reason) => reason.fmt(f),
            Self::Cut(Some(error)) => error.fmt(f),
            Self::Cut(None) => f.write_str("the connection closed without a goodbye"),
            Self::RelayCut(Some(error)) => write!(f, "the daemon's relay broke off ({error})"),
            Self::RelayCut(None) => f.write_str("the daemon's relay closed the connection without a goodbye"),
            Self::RelaySpent(terms) => write!(
                f,
                "the daemon's relay reached its limit ({} MB, {} minutes for one link)",
                terms.bytes / 1_000_000,
                terms.time.as_secs() / 60
            ),
        }
    }
}

/// The one link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its connection.
    pub conn: ConnId,
    /// How it was made.
    pub rung: Rung,
    /// Our address.
    pub local: Endpoint,
    /// The peer's.
    pub remote: Endpoint,
    /// Its round-trip time as the proof measured it.
    pub rtt: Option<Duration>,
    /// The other side's run of its program.
    pub run: u64,
    /// Why there is no direct link, for a relayed one.
    pub obstacle: Option<Obstacle>,
    /// Both ends are proven and everything is encrypted. Plain RTMP is not.
    pub secure: bool,
    /// When its connection formed.
    pub formed: Instant,
}

impl Link {
    /// Whether a cast on `old` goes on over this link rather than beginning anew: the same caster found a direct way.
    #[must_use]
    pub fn succeeds(&self, old: &Self) -> bool {
        self.run == old.run && old.rung == Rung::Relayed && self.rung != Rung::Relayed
    }
}
