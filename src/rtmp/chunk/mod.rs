//! The chunk layer (§5.3): messages in pieces, several of them interleaved.
//!
//! ```text
//!   basic header (1-3)  fmt 2 bits · chunk-stream id 6, 8 or 16 bits
//!   message header      fmt 0: timestamp 3 · length 3 · type 1 · message stream 4 (little-endian)
//!                       fmt 1: delta 3 · length 3 · type 1
//!                       fmt 2: delta 3
//!                       fmt 3: nothing
//!   extended timestamp  4, where the last timestamp or delta field of the chunk stream was 0xffffff
//!   payload             at most the chunk size, or what is left of the message
//! ```

mod pieces;
mod reader;
mod writer;

pub use pieces::{Output, Pieces};
pub use reader::Reader;
pub use writer::Writer;

/// The chunk size of both directions until Set Chunk Size (§5.4.1).
pub const DEFAULT_CHUNK_SIZE: u32 = 128;

/// The longest message taken or sent, bytes. A keyframe of 2160p at a very high rate stays below 4 MiB.
pub const MAX_MESSAGE: usize = 8 * 1024 * 1024;

/// How many chunk streams a peer may use. ffmpeg and OBS use four; each costs a hundred bytes and, once in use, up to
/// 64 KiB of buffer.
pub const MAX_CHUNK_STREAMS: usize = 64;

/// How many bytes of buffer unfinished messages may hold together: two of the longest.
pub const MAX_IN_PROGRESS: usize = 2 * MAX_MESSAGE;

/// The lowest chunk-stream id there is; it carries protocol control messages (§5.4).
pub const CONTROL: u32 = 2;

/// The timestamp field's value that says that an extended timestamp follows.
const EXTENDED: u32 = 0xff_ffff;
