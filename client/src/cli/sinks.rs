//! The files that a viewer writes to, and what it says of them at the end.

use super::output::talk;
use super::{DONE, Failure, NO_LINK};
use crate::sink::{LivePipe, LiveTarget, Recorder, Recording, Snapshot, SnapshotError, SnapshotInfo};
use punchcast::media::Unit;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// What the viewer writes to.
pub(super) struct Sinks {
    /// Where the first cast is recorded; the others beside it, except where that is standard output.
    path: Option<PathBuf>,
    /// By the cast's place.
    records: BTreeMap<usize, Record>,
    /// Pipes and players of the first cast.
    live: Vec<LivePipe>,
    snapshot: Option<Snapshot>,
}

/// The recording of one cast.
struct Record {
    /// `None` where the file could not be made, which was said.
    recorder: Option<Recorder>,
    /// It takes no more, which was said.
    full: bool,
}

impl Sinks {
    /// Opens what was asked for.
    pub(super) fn open(
        record: Option<&Path>,
        snapshot: Option<&Path>,
        live: &[LiveTarget],
    ) -> Result<Self, Failure> {
        let mut records = BTreeMap::new();
        if let Some(path) = record {
            let recorder = Recorder::create(path)
                .map_err(|error| Failure::Failed(format!("{} cannot be written: {error}", path.display())))?;
            records.insert(0, Record { recorder: Some(recorder), full: false });
        }
        let path = record.filter(|path| path.as_os_str() != "-").map(Path::to_path_buf);
        let live = live.iter().map(|target| LivePipe::start(target.clone(), talk)).collect::<io::Result<_>>();
        let live =
            live.map_err(|error| Failure::Failed(format!("a pipe's thread cannot be started: {error}")))?;
        Ok(Self { path, records, live, snapshot: snapshot.map(Snapshot::new) })
    }

    pub(super) fn write(&mut self, cast: usize, unit: &Unit) {
        if let Some(record) = self.record(cast)
            && let Some(recorder) = &mut record.recorder
            && !recorder.write(unit)
            && !std::mem::replace(&mut record.full, true)
        {
            talk(
                "the recording ends here: its file takes no more (why comes at the end); the picture goes on",
            );
        }
        if cast == 0 {
            self.live.iter_mut().for_each(|pipe| pipe.write(unit));
            if let Some(snapshot) = &mut self.snapshot {
                snapshot.write(unit);
            }
        }
    }

    pub(super) fn stream_started(&mut self, cast: usize) {
        if let Some(Record { recorder: Some(recorder), .. }) = self.record(cast) {
            recorder.next_stream();
        }
        if cast == 0 {
            self.live.iter_mut().for_each(LivePipe::next_stream);
        }
    }

    /// The recording of a cast; that of a further one begins with its first unit.
    fn record(&mut self, cast: usize) -> Option<&mut Record> {
        if let Some(path) = &self.path
            && !self.records.contains_key(&cast)
        {
            let path = beside(path, cast);
            let recorder = Recorder::create(&path)
                .inspect_err(|error| talk(&format!("{} cannot be written: {error}", path.display())));
            self.records.insert(cast, Record { recorder: recorder.ok(), full: false });
        }
        self.records.get_mut(&cast)
    }

    /// Finishes every file, whatever became of the others, says what there is to say, and gives the exit code that
    /// this comes to. `once`: a cast was to be had, so none is a failure.
    pub(super) fn finish(self, once: bool) -> i32 {
        self.live.into_iter().for_each(LivePipe::finish);
        let recorders = self.records.into_values().filter_map(|record| record.recorder);
        let records: Vec<_> = recorders.map(|recorder| recording_words(&recorder.finish())).collect();
        let snapshot = self.snapshot.map(|snapshot| snapshot_words(&snapshot.finish(), once));
        let mut code = DONE;
        for (words, its_code) in records.into_iter().chain(snapshot) {
            if let Some(words) = words {
                talk(&words);
            }
            code = code.max(its_code);
        }
        code
    }
}

/// The file of a further cast: `FILE-2.flv` is the second's beside `FILE.flv`.
fn beside(path: &Path, cast: usize) -> PathBuf {
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    name.push(format!("-{}", cast + 1));
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
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

    #[test]
    fn further_casts_are_recorded_beside_the_first() {
        assert_eq!(beside(Path::new("a/cast.flv"), 1), Path::new("a/cast-2.flv"));
        assert_eq!(beside(Path::new("cast"), 8), Path::new("cast-9"));
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
        let recorder = Some(Recorder::to_stream(Full).expect("a thread can be had"));
        let path = Path::new("/nowhere/snapshot.png");
        let records = BTreeMap::from([(0, Record { recorder, full: false })]);
        let mut sinks = Sinks { path: None, records, live: Vec::new(), snapshot: Some(Snapshot::new(path)) };
        let keyframe = Unit { kind: Kind::Video, timestamp: 0, payload: vec![0x17, 1, 0, 0, 0].into() };
        while !sinks.records[&0].full {
            sinks.write(0, &keyframe);
            std::thread::yield_now();
        }
        assert_eq!(sinks.finish(false), NO_LINK);
    }
}
