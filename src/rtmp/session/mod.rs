//! The two sides of an RTMP connection, and what they share.

mod carrier;
mod client;
mod media;
mod server;

pub use client::{ClientEvent, ClientSession, PlayConfig, PublishConfig};
pub use server::{Refusal, ServerEvent, ServerSession};

use sha2::{Digest, Sha256};
use std::fmt;

/// What a session has for its owner.
#[derive(Clone, Debug, PartialEq)]
pub enum Output<E> {
    /// Bytes for the peer, in order.
    Transmit(Vec<u8>),
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
