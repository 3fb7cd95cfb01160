//! RTMP, sans-IO: the handshake, the chunk layer, AMF0, and the sessions of both sides.
//!
//! A session is given bytes and hands out bytes and events. It never learns how the bytes travel: the same
//! [`ServerSession`] serves a local program over plain TCP and the caster over the encrypted link. It reads no clock
//! either; who owns the connection bounds the time that a handshake may take.
//!
//! ```text
//!   bytes ─▶ handshake ─▶ chunk::Reader ─▶ Message ─▶ control (answered here) · command · media
//!                                                                                 │        │
//!   bytes ◀───────────── chunk::Writer ◀── Message ◀── replies, send_media ◀── session ─▶ events
//! ```
//!
//! # Life of a session
//!
//! Feed what arrives to `handle_input`, in any split; then drain `poll_output` to `None`. Once `handle_input` or
//! `send_media` has failed, drain once more (a refusal may be waiting to be sent) and close the connection.
//!
//! ```
//! use punchcast::rtmp::{ClientEvent, ClientSession, Output, PublishConfig, ServerEvent, ServerSession};
//!
//! let mut server = ServerSession::new(1);
//! let mut client = ClientSession::publisher(PublishConfig::new("rtmp://127.0.0.1/live/key").unwrap());
//! let mut publishing = false;
//! while !publishing {
//!     while let Some(output) = client.poll_output() {
//!         match output {
//!             Output::Transmit(bytes) => server.handle_input(&bytes).unwrap(),
//!             Output::Event(event) => publishing |= event == ClientEvent::Publishing,
//!         }
//!     }
//!     while let Some(output) = server.poll_output() {
//!         match output {
//!             Output::Transmit(bytes) => client.handle_input(&bytes).unwrap(),
//!             Output::Event(ServerEvent::Publish { stream, .. }) => server.accept(stream),
//!             Output::Event(_) => {}
//!         }
//!     }
//! }
//! ```
//!
//! # Hostile peers
//!
//! No input panics, allocates from a number that it merely claims, or costs more than linear time. The bounds are
//! the constants of [`chunk`], [`amf0`] and the sessions; `buffered_bytes` tells what a session holds, and
//! [`MAX_BUFFERED`] what it may hold.

pub mod amf0;
pub mod chunk;
mod error;
pub mod handshake;
mod lateness;
pub mod message;
mod ping;
mod session;
mod url;

pub use error::Error;
pub use lateness::Lateness;
pub use message::Message;
pub use ping::PingClock;
pub use session::{
    ClientEvent, ClientSession, MAX_BUFFERED, MAX_INPUT, MAX_PENDING, Output, PlayConfig, PublishConfig,
    Refusal, ServerEvent, ServerSession, StreamId, StreamKey,
};
pub use url::{ParseUrlError, RtmpUrl};
