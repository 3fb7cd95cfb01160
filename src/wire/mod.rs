//! The language of the main and assist connections: [`message`]s, in [`frame`]s, through one [`codec`].
//!
//! This room knows no state: it turns messages into bytes and bytes into messages or refusals. The byte layout is in
//! `docs/PROTOCOL.md`; golden vectors are in `tests/data`.
//!
//! ```
//! use punchcast::wire::{self, frame::{MAX_FRAME, Reader}, message::ToMain};
//!
//! let bytes = wire::encode(&ToMain::Heartbeat { nonce: 7 });
//! let mut reader = Reader::new(MAX_FRAME);
//! for byte in bytes {
//!     reader.push(&[byte]); // any split will do
//!     while let Some(message) = reader.next::<ToMain>()? {
//!         assert_eq!(message, ToMain::Heartbeat { nonce: 7 });
//!     }
//! }
//! # Ok::<(), wire::WireError>(())
//! ```

pub mod codec;
pub mod frame;
mod list;
pub mod message;

pub use frame::{WireError, encode};
