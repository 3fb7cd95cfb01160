//! What a port is made with, asks for and tells.

use super::TurnedAway;
use punchcast::app::{NetError, NetOp};
use punchcast::media::Unit;
use punchcast::rtmp::StreamKey;
use std::net::SocketAddr;

/// What a port is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One publisher at a time; nobody plays.
    Publishers,
    /// Any number of players; nobody publishes.
    Players,
}

/// How a port is run.
#[derive(Clone)]
pub struct RtmpPortConfig {
    /// What it is for.
    pub mode: Mode,
    /// The app that must be asked for; any if `None`.
    pub app: Option<String>,
    /// The key that must be known; any if `None`.
    pub key: Option<String>,
    /// Streams that players can choose from, at least one.
    pub streams: usize,
    /// Varies the handshake's filler, which need not be secret.
    pub seed: u64,
}

impl RtmpPortConfig {
    /// A port of `mode` for any app and key.
    #[must_use]
    pub const fn new(mode: Mode) -> Self {
        Self { mode, app: None, key: None, streams: 1, seed: 0 }
    }
}

/// What a port has for its application.
#[derive(Clone, Debug, PartialEq)]
pub enum RtmpPortOutput {
    /// For the network.
    Net(NetOp),
    /// Something happened.
    Event(Event),
}

/// What a port tells.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The port is open at this address.
    Listening(SocketAddr),
    /// The port cannot be opened; nothing will ever happen here.
    ListenFailed {
        /// The address that was asked for.
        addr: SocketAddr,
        /// Why.
        error: NetError,
    },
    /// Somebody was refused for a wrong key.
    WrongKey(TurnedAway),
    /// A publisher was refused, as another one publishes.
    Occupied(TurnedAway),
    /// A publisher was let in.
    PublisherJoined {
        /// Its address.
        remote: SocketAddr,
        /// The app it asked for.
        app: String,
        /// Its key.
        key: StreamKey,
    },
    /// The publisher's next unit.
    Media(Unit),
    /// The publisher has left.
    PublisherLeft {
        /// Its address.
        remote: SocketAddr,
        /// It ended its stream in order.
        finished: bool,
    },
    /// A player was let in.
    PlayerJoined {
        /// Its address.
        remote: SocketAddr,
        /// The place of the stream that it plays.
        place: usize,
    },
    /// A player has missed pictures, takes more again, and sees nothing before the next keyframe.
    KeyframeWanted {
        /// The place of the stream that it plays.
        place: usize,
    },
    /// A player has left.
    PlayerLeft {
        /// Its address.
        remote: SocketAddr,
        /// The place of the stream that it played.
        place: usize,
        /// Video units left out because it was slow.
        dropped: u64,
    },
}
