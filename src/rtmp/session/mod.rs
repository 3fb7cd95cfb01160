//! The two sides of an RTMP connection, and what they share.

mod capabilities;
mod carrier;
mod client;
mod media;
mod server;

pub use client::{ClientEvent, ClientSession, PlayConfig, PublishConfig};
pub use server::{Refusal, ServerEvent, ServerSession};

use crate::rtmp::chunk::MAX_IN_PROGRESS;
use bytes::Bytes;
use sha2::{Digest, Sha256};
use std::fmt;

/// What a session has for its owner.
#[derive(Clone, Debug, PartialEq)]
pub enum Output<E> {
    /// Bytes for the peer, in order; never none.
    Transmit(Bytes),
    /// Something happened.
    Event(E),
}

/// A message stream within one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u32);

/// The name under which a stream is published or played: a secret, which neither shows in logs nor tells by the time
/// a comparison takes how much of it was guessed.
#[derive(Clone, PartialEq, Eq)]
pub struct StreamKey(String);

impl StreamKey {
    /// A key.
    #[must_use]
    pub fn new(key: impl Into<String>) -> Self {
        Self(key.into())
    }

    /// The key itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is `expected`. Digests are compared, so time tells nothing about the keys.
    #[must_use]
    pub fn matches(&self, expected: &str) -> bool {
        Sha256::digest(self.0.as_bytes()) == Sha256::digest(expected.as_bytes())
    }
}

impl fmt::Debug for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StreamKey(…)")
    }
}

/// The most that an owner hands to a session at once: what a driver reads. Events and replies of one input wait until
/// they are polled, so that what they hold follows its length.
pub const MAX_INPUT: usize = 128 * 1024;

/// What a session holds at most when it is fed at most [`MAX_INPUT`] at once and drained after each: messages in
/// progress ([`crate::rtmp::chunk::MAX_IN_PROGRESS`]), as much again of those that one input has made complete, a
/// server's bytes that wait for an answer and the units among them ([`MAX_PENDING`] each), and the events and replies
/// of one input. Of those the dearest are units of one byte, a chunk of two bytes each, and replies to the shortest
/// commands.
pub const MAX_BUFFERED: usize =
    2 * MAX_IN_PROGRESS + 2 * MAX_PENDING + MAX_INPUT / 2 * (size_of::<ServerEvent>() + 1) + 8 * MAX_INPUT;

/// How many bytes may come in before the owner has answered a request: a keyframe of 2160p. Owners answer at once, so
/// that this is reached only by who asks and sends everything in one go.
pub const MAX_PENDING: usize = 4 * 1024 * 1024;

/// The chunk size that both sides announce. A header every 64 KiB costs nothing, and most frames fit one chunk.
const CHUNK_SIZE: u32 = 65_536;

/// How many bytes a side may send before it hears an acknowledgement: what ffmpeg and OBS announce.
const WINDOW: u32 = 2_500_000;

/// The chunk streams that both sides write on. Any would do; these are what ffmpeg and OBS use.
mod channel {
    pub(super) const COMMAND: u32 = 3;
    pub(super) const AUDIO: u32 = 4;
    pub(super) const DATA: u32 = 5;
    pub(super) const VIDEO: u32 = 6;
}

#[cfg(test)]
mod tests;
