//! The one file that names bincode: messages to bodies and back.
//!
//! The layout (fixed-width big-endian integers, `u32` variant tags, `u64` list lengths, one-byte option tags) is
//! written out in `docs/PROTOCOL.md` and held by golden vectors, so another codec can take bincode's place here.
//!
//! Two properties matter against a hostile peer. Bodies are decoded from a slice that is already here in full, so
//! nothing is allocated for what a message merely claims; and every byte must be consumed, so one message has one
//! encoding.

use crate::wire::frame::MAX_FRAME;
use crate::wire::message::{FromAssist, FromMain, ToAssist, ToMain};
use bincode::Options;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;

/// What may be a frame's body: the four directions of the scheme, and nothing else.
pub trait Message: Serialize + DeserializeOwned + fmt::Debug {}

impl Message for ToMain {}
impl Message for FromMain {}
impl Message for ToAssist {}
impl Message for FromAssist {}

/// A body that is not a message: cut short, too long, an unknown variant, a list longer than allowed.
#[derive(Debug)]
pub struct CodecError(bincode::Error);

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("body is not a message of this version")
    }
}

impl std::error::Error for CodecError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

fn options() -> impl Options {
    bincode::DefaultOptions::new()
        .with_fixint_encoding()
        .with_big_endian()
        .with_limit(MAX_FRAME as u64)
        .reject_trailing_bytes()
}

/// Appends the body of `message` to `out`.
pub(super) fn encode_body<T: Message>(message: &T, out: &mut Vec<u8>) {
    options()
        .serialize_into(out, message)
        .expect("every list on the wire is bounded, so every message is shorter than a frame");
}

/// The message whose body `bytes` is, all of them.
pub(super) fn decode_body<T: Message>(bytes: &[u8]) -> Result<T, CodecError> {
    options().deserialize(bytes).map_err(CodecError)
}
