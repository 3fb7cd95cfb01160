//! The language of the main and assist connections: [`message`]s, in frames, through one codec.
//!
//! This room knows no state: it turns messages into bytes and bytes into messages or refusals. The byte layout is in
//! `docs/PROTOCOL.md`; golden vectors are in `tests/data`.

pub mod message;
