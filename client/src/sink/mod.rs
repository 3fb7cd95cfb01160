//! Where a viewer's units go besides the page and the players: files, pipes, and a picture of the last frame.

mod file;
pub mod live;
pub mod record;
pub mod snapshot;
mod timeline;

pub use live::{LivePipe, LiveTarget, Word};
pub use record::{Begun, Existing, Recorder, Recording, beside};
pub use snapshot::{Snapshot, SnapshotError, SnapshotInfo};
pub(crate) use timeline::Timeline;

/// How long the end of the program waits for what is still to be written to somebody who need not read it: a pipe, standard
/// output, a player.
const FINISH_TIME: std::time::Duration = std::time::Duration::from_secs(4);
