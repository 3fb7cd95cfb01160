//! Where a viewer's units go besides the page and the players: a file, and a picture of the last frame.

pub mod record;
pub mod snapshot;
mod timeline;

pub use record::{Recorder, Recording};
pub use snapshot::{Snapshot, SnapshotError, SnapshotInfo};
