//! The files that a viewer writes to, and what it says of them at the end.

use super::output::talk;
use super::{DONE, Failure, NO_LINK};
use crate::sink::{Recorder, Recording, Snapshot, SnapshotError, SnapshotInfo};
use punchcast::media::Unit;
use std::io;
use std::path::Path;

/// What the viewer writes to.
pub(super) struct Sinks {
    record: Option<Recorder>,
    /// The recording takes no more, which was said.
    full: bool,
    snapshot: Option<Snapshot>,
}

impl Sinks {
    /// Opens what was asked for.
    pub(super) fn open(record: Option<&Path>, snapshot: Option<&Path>) -> Result<Self, Failure> {
        let record = record.map(|path| {
            Recorder::create(path)
                .map_err(|error| Failure::Failed(format!("{} cannot be written: {error}", path.display())))
        });
        Ok(Self { record: record.transpose()?, full: false, snapshot: snapshot.map(Snapshot::new) })
    }

    pub(super) fn write(&mut self, unit: &Unit) {
        if let Some(record) = &mut self.record
            && !record.write(unit)
            && !std::mem::replace(&mut self.full, true)
        {
            talk(
                "the recording ends here: its file takes no more (why comes at the end); the picture goes on",
            );
        }
        if let Some(snapshot) = &mut self.snapshot {
            snapshot.write(unit);
        }
    }

    pub(super) fn stream_started(&mut self) {
        if let Some(record) = &mut self.record {
            record.next_stream();
        }
    }

    /// Finishes every file, whatever became of the others, says what there is to say, and gives the exit code that
    /// this comes to. `once`: a cast was to be had, so none is a failure.
    pub(super) fn finish(self, once: bool) -> i32 {
        let record = self.record.map(|record| recording_words(&record.finish()));
        let snapshot = self.snapshot.map(|snapshot| snapshot_words(&snapshot.finish(), once));
        let mut code = DONE;
        for (words, its_code) in [record, snapshot].into_iter().flatten() {
            if let Some(words) = words {
                talk(&words);
            }
            code = code.max(its_code);
        }
        code
    }
}

/// What to say of a recording, if anything, and its exit code.
fn recording_words(result: &io::Result<Recording>) -> (Option<String>, i32) {
    match result {
        Ok(Recording { dropped: 0, .. }) => (None, DONE),
        Ok(Recording { dropped, tags, .. }) => {
            let words =
                format!("the recording has gaps: the disk was too slow {dropped} times in {tags} units");
            (Some(words), DONE)
        }
        Err(error) => (Some(format!("punchcast: the recording is incomplete: {error}")), NO_LINK),
    }
}

/// What to say of a snapshot, if anything, and its exit code.
fn snapshot_words(result: &Result<SnapshotInfo, SnapshotError>, once: bool) -> (Option<String>, i32) {
    match result {
        Ok(_) => (None, DONE),
        // Not a failure of its own: why no picture came has been said.
        Err(SnapshotError::Nothing) => {
            (Some("no picture came, so there is no snapshot".into()), if once { NO_LINK } else { DONE })
        }
        Err(error) => (Some(format!("punchcast: no snapshot: {error}")), NO_LINK),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use punchcast::media::Kind;

    #[test]
    fn a_snapshot_of_nothing_is_a_note_and_fails_a_cast_that_was_to_be_had() {
        let (words, code) = snapshot_words(&Err(SnapshotError::Nothing), false);
        assert_eq!((words.as_deref(), code), (Some("no picture came, so there is no snapshot"), DONE));
        assert_eq!(snapshot_words(&Err(SnapshotError::Nothing), true).1, NO_LINK);
        let refused = snapshot_words(&Err(SnapshotError::Decoder("broken".into())), false);
        assert_eq!(refused.1, NO_LINK);
    }

    #[test]
    fn a_recording_tells_its_gaps_and_its_failure() {
        assert_eq!(recording_words(&Ok(Recording::default())), (None, DONE));
        let (words, code) = recording_words(&Ok(Recording { tags: 90, bytes: 1, dropped: 7 }));
        assert!(words.is_some_and(|words| words.contains('7')));
        assert_eq!(code, DONE);
        assert_eq!(recording_words(&Err(io::Error::other("full"))).1, NO_LINK);
    }

    /// A disk that takes nothing.
    struct Full;

    impl io::Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn every_file_is_finished_whatever_became_of_the_others() {
        let record = Some(Recorder::to_stream(Full).expect("a thread can be had"));
        let path = Path::new("/nowhere/snapshot.png");
        let mut sinks = Sinks { record, full: false, snapshot: Some(Snapshot::new(path)) };
        let keyframe = Unit { kind: Kind::Video, timestamp: 0, payload: vec![0x17, 1, 0, 0, 0].into() };
        while !sinks.full {
            sinks.write(&keyframe);
            std::thread::yield_now();
        }
        assert_eq!(sinks.finish(false), NO_LINK);
    }
}
