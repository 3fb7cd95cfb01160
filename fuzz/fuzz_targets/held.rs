//! What a session may hold, for the targets that feed one, and for the sweep of mutations.

use punchcast::rtmp::chunk::MAX_CHUNK_STREAMS;
use punchcast::rtmp::{MAX_BUFFERED, MAX_INPUT, ServerEvent};

/// The room that a message gets at its first byte.
const FIRST_ROOM: usize = 64 * 1024;

/// What is held follows what was sent, `fed` bytes in all and `piece` of them last, and never what was announced: the first
/// room on each chunk stream, a message's room, which is doubled as it grows, a unit beside its message, and the events and
/// replies of one input, as in [`MAX_BUFFERED`]. Returns `held`.
pub(crate) fn bounded(held: usize, fed: usize, piece: usize) -> usize {
    assert!(piece <= MAX_INPUT);
    let of_one_input = piece / 2 * (size_of::<ServerEvent>() + 1) + 8 * piece;
    let limit = MAX_CHUNK_STREAMS * FIRST_ROOM + 3 * fed + of_one_input;
    assert!(held <= limit.min(MAX_BUFFERED), "{held} bytes held of {fed}");
    held
}
