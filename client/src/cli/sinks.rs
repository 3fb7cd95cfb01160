//! The files that a viewer writes to, and what it says of them at the end.

use super::output::{self, Talk};
use super::{DONE, FAILED, Failure};
use crate::notice::Notice;
use crate::sink::{
    Begun, Existing, LivePipe, LiveTarget, Recorder, Recording, Snapshot, SnapshotError, SnapshotInfo, Word,
    beside,
};
use punchcast::media::Unit;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

/// What is to be written.
pub(super) struct Wanted<'a> {
    pub(super) record: Option<&'a Path>,
    pub(super) snapshot: Option<&'a Path>,
    pub(super) live: &'a [LiveTarget],
    /// Of recordings, and files that FLV is written to as it comes. A snapshot is always the latest.
    pub(super) existing: Existing,
    /// The most casts at once.
    pub(super) casts: usize,
}

impl Wanted<'_> {
    /// Where casts beside the first are recorded.
    fn further(&self) -> impl Iterator<Item = PathBuf> {
        let path = self.record.filter(|path| path.as_os_str() != "-");
        path.into_iter().flat_map(|path| (1..self.casts).map(move |cast| of_cast(path, cast)))
    }

    /// Whether two of the files are one.
    pub(super) fn collides(&self) -> bool {
        let live = self.live.iter().filter_map(LiveTarget::path);
        let named = self.record.into_iter().chain(live).chain(self.snapshot).map(Path::to_path_buf);
        let mut files = BTreeSet::new();
        named.chain(self.further()).any(|path| !files.insert(whole(&path)))
    }
}

/// What the viewer writes to.
pub(super) struct Sinks {
    /// Where the first cast is recorded; the others beside it, except where that is standard output.
    path: Option<PathBuf>,
    existing: Existing,
    /// By the cast's place.
    records: BTreeMap<usize, Record>,
    /// When something came of each cast that is on.
    heard: BTreeMap<usize, Instant>,
    /// From the recorders' threads.
    notices: (Sender<Notice>, Receiver<Notice>),
    /// Pipes and players of the first cast.
    live: Vec<LivePipe>,
    /// The run of its caster, as long as its cast is not over.
    run: Option<u64>,
    snapshot: Option<Snapshot>,
    /// Whether the first cast has shown a picture, in whatever codec.
    seen: bool,
    talk: Talk,
}

/// The recording of one cast.
#[expect(clippy::large_enum_variant, reason = "one for each cast at once")]
enum Record {
    Running(Recorder),
    /// Its file takes no more, or could not be had, which was said.
    Ended(io::Result<Recording>),
}

impl Record {
    /// What to say of one that has ended, if anything, and its exit code.
    fn words(&self) -> (Option<String>, i32) {
        match self {
            Self::Running(_) => (None, DONE),
            Self::Ended(result) => recording_words(result),
        }
    }
}

impl Sinks {
    /// Opens what was asked for, but for files that are written later: those are only looked at.
    pub(super) fn open(wanted: &Wanted<'_>, talk: Talk) -> Result<Self, Failure> {
        let &Wanted { record, snapshot, existing, .. } = wanted;
        let path = record.filter(|path| path.as_os_str() != "-").map(Path::to_path_buf);
        if existing == Existing::Keep {
            let live = live_files(wanted.live).map(Path::to_path_buf);
            // The one that was named first of all.
            if let Some(path) =
                path.clone().into_iter().chain(wanted.further()).chain(live).find(|path| path.is_file())
            {
                return Err(Failure::Failed(cannot_write(&path, &io::ErrorKind::AlreadyExists.into())));
            }
        }
        if let Some(path) = snapshot.filter(|path| is_named_pipe(path)) {
            let path = path.display();
            return Err(Failure::Failed(format!(
                "{path} is a named pipe, and the snapshot would wait at the end for whoever reads it: name a file"
            )));
        }
        let snapshot_file = snapshot.filter(|path| opens_at_once(path));
        for path in snapshot_file.into_iter().chain(live_files(wanted.live)) {
            Existing::Replace.check(path).map_err(|error| Failure::Failed(cannot_write(path, &error)))?;
        }
        let mut records = BTreeMap::new();
        let notices = channel();
        if let Some(path) = record {
            let recorder = Recorder::create(path, existing, teller(&notices.0, 0))
                .map_err(|error| Failure::Failed(cannot_write(path, &error)))?;
            records.insert(0, Record::Running(recorder));
        }
        let say = move |word| match word {
            Word::Note(note) => talk.say(&note),
            Word::Failure(failure) => output::tell(&failure),
        };
        let live = wanted
            .live
            .iter()
            .map(|target| LivePipe::start(target.clone(), existing, say))
            .collect::<io::Result<_>>();
        let live =
            live.map_err(|error| Failure::Failed(format!("a pipe's thread cannot be started: {error}")))?;
        Ok(Self {
            path,
            existing,
            records,
            heard: BTreeMap::new(),
            notices,
            live,
            run: None,
            snapshot: snapshot.map(Snapshot::new),
            seen: false,
            talk,
        })
    }

    /// Takes what happened to a cast.
    pub(super) fn follow(&mut self, now: Instant, cast: usize, notice: &Notice) {
        #[allow(clippy::wildcard_enum_match_arm)] // The rest is nothing to write.
        match notice {
            Notice::Unit(unit) => self.write(now, cast, unit),
            Notice::StreamStarted => {
                // The link before this one may have broken while the cast moved, which is no lost cast.
                self.stream_ended(now, cast);
                self.stream_started(cast);
            }
            Notice::Link { link, moves, .. } => {
                // It may take the place of one whose loss was not noticed.
                if !moves {
                    self.stream_ended(now, cast);
                }
                if cast == 0 && self.run != Some(link.run) {
                    self.run = Some(link.run);
                    self.live.iter_mut().for_each(LivePipe::next_cast);
                }
            }
            Notice::Lost { .. } => self.stream_ended(now, cast),
            Notice::CastEnded => {
                self.stream_ended(now, cast);
                if cast == 0 {
                    self.run = None;
                }
            }
            _ => {}
        }
    }

    /// Whether a keyframe of a cast is to be asked for, as something that is written waits for one.
    pub(super) fn take_keyframe_wish(&mut self, cast: usize) -> bool {
        let mut wish = match self.records.get_mut(&cast) {
            Some(Record::Running(recorder)) => recorder.take_keyframe_wish(),
            Some(Record::Ended(_)) | None => false,
        };
        if cast == 0 {
            for pipe in &mut self.live {
                wish |= pipe.take_keyframe_wish();
            }
        }
        wish
    }

    fn write(&mut self, now: Instant, cast: usize, unit: &Unit) {
        self.heard.insert(cast, now);
        self.record_by(cast, |recorder| recorder.write(unit));
        if cast == 0 {
            self.seen |= unit.is_picture();
            self.live.iter_mut().for_each(|pipe| pipe.write(unit));
            if let Some(snapshot) = &mut self.snapshot {
                snapshot.write(unit);
            }
        }
    }

    /// A cast has ended, or its link was lost.
    fn stream_ended(&mut self, now: Instant, cast: usize) {
        let Some(heard) = self.heard.remove(&cast) else { return };
        let stay = now.saturating_duration_since(heard);
        self.record_by(cast, |recorder| recorder.end_stream(stay));
        if cast == 0 {
            self.live.iter_mut().for_each(|pipe| pipe.end_stream(stay));
        }
    }

    /// Has a cast recorded, as long as its file takes it.
    fn record_by(&mut self, cast: usize, write: impl FnOnce(&mut Recorder) -> bool) {
        let ends = match self.record(cast) {
            Some(Record::Running(recorder)) => !write(recorder),
            Some(Record::Ended(_)) | None => false,
        };
        if ends && let Some(Record::Running(recorder)) = self.records.remove(&cast) {
            let result = recorder.finish();
            if let Err(error) = &result {
                output::tell(&format!("the recording ends here: {error}; the picture goes on"));
            }
            self.record_ended(cast, result);
        }
    }

    fn stream_started(&mut self, cast: usize) {
        match self.record(cast) {
            Some(Record::Running(recorder)) => recorder.next_stream(),
            Some(Record::Ended(Err(error))) => output::tell(&format!("this cast is not recorded: {error}")),
            Some(Record::Ended(Ok(_))) | None => {}
        }
        if cast == 0 {
            self.live.iter_mut().for_each(LivePipe::next_stream);
        }
    }

    /// The recording of a cast; that of a further one begins with its first stream.
    fn record(&mut self, cast: usize) -> Option<&mut Record> {
        if let Some(path) = &self.path
            && !self.records.contains_key(&cast)
        {
            let path = of_cast(path, cast);
            match Recorder::create(&path, self.existing, teller(&self.notices.0, cast)) {
                Ok(recorder) => drop(self.records.insert(cast, Record::Running(recorder))),
                Err(error) => {
                    let error = io::Error::new(error.kind(), cannot_write(&path, &error));
                    self.record_ended(cast, Err(error));
                }
            }
        }
        self.records.get_mut(&cast)
    }

    fn record_ended(&mut self, cast: usize, result: io::Result<Recording>) {
        if let Err(error) = &result {
            self.tell(Notice::SinkFailed { sink: "record", why: error.to_string() }.in_cast(cast));
        }
        self.records.insert(cast, Record::Ended(result));
    }

    fn tell(&self, notice: Notice) {
        // The receiver is ours.
        let _ = self.notices.0.send(notice);
    }

    /// What there is to tell of recordings since it was last asked for.
    pub(super) fn notices(&self) -> impl Iterator<Item = Notice> {
        self.notices.1.try_iter()
    }

    /// Finishes every file, whatever became of the others, and says what there is to say: nothing more comes. `once`: a cast was
    /// to be had, so none is a failure.
    pub(super) fn finish(mut self, now: Instant, once: bool) -> Finished {
        for cast in self.heard.keys().copied().collect::<Vec<_>>() {
            self.stream_ended(now, cast);
        }
        for (cast, record) in std::mem::take(&mut self.records) {
            match record {
                Record::Running(recorder) => self.record_ended(cast, recorder.finish()),
                Record::Ended(_) => drop(self.records.insert(cast, record)),
            }
        }
        let live = std::mem::take(&mut self.live).into_iter();
        let live: Vec<_> = live.map(|pipe| (Some("flv"), live_words(&pipe.finish()))).collect();
        // Of recordings it was told when they ended.
        let records: Vec<_> = self.records.values().map(|record| (None, record.words())).collect();
        let snapshot = self.snapshot.take();
        let snapshot_words = |snapshot: Snapshot| snapshot_words(&snapshot.finish(), self.seen, once);
        let snapshot = snapshot.map(|snapshot| (Some("snapshot"), snapshot_words(snapshot)));
        let mut first = None;
        for (sink, (words, code)) in live.into_iter().chain(records).chain(snapshot) {
            let Some(why) = words else { continue };
            if code == DONE {
                self.talk.say(&why);
                continue;
            }
            output::fail(&why);
            first.get_or_insert_with(|| why.clone());
            if let Some(sink) = sink {
                self.tell(Notice::SinkFailed { sink, why });
            }
        }
        Finished { notices: self.notices().collect(), why: first }
    }
}

/// What became of everything that was written to.
pub(super) struct Finished {
    /// What there is to tell of it.
    pub(super) notices: Vec<Notice>,
    /// Why the program has not done what it was asked for, if it has not.
    pub(super) why: Option<String>,
}

/// What names of files in other formats end with, and how ffmpeg makes such a file of an FLV.
const OTHER_FORMATS: [(&str, &str); 7] = [
    ("mp4", "-c copy "),
    ("m4v", "-c copy "),
    ("mov", "-c copy "),
    ("mkv", "-c copy "),
    ("ts", "-c copy "),
    ("avi", "-c copy "),
    // It holds none of the usual codecs.
    ("webm", ""),
];

/// A path that FLV is to be written to, which must not look like something else.
pub(super) fn flv_path(option: &str, value: OsString) -> Result<PathBuf, Failure> {
    let path = PathBuf::from(value);
    let given = path.extension().unwrap_or_default();
    let Some((_, how)) = OTHER_FORMATS.iter().find(|(other, _)| given.eq_ignore_ascii_case(other)) else {
        return Ok(path);
    };
    let flv = path.with_extension("flv");
    Err(Failure::Usage(format!(
        "--{option} writes FLV, and {path} is a name for something else; give {flv}, and once it is written: \
         ffmpeg -i '{flv}' {how}'{path}'",
        path = path.display(),
        flv = flv.display(),
    )))
}

/// What names of pictures in other formats end with.
const OTHER_PICTURES: [&str; 7] = ["jpg", "jpeg", "gif", "webp", "bmp", "tif", "tiff"];

/// A path that PNG is to be written to, which must not look like something else.
pub(super) fn png_path(value: OsString) -> Result<PathBuf, Failure> {
    let path = PathBuf::from(value);
    let given = path.extension().unwrap_or_default();
    if !OTHER_PICTURES.iter().any(|other| given.eq_ignore_ascii_case(other)) {
        return Ok(path);
    }
    Err(Failure::Usage(format!(
        "--snapshot writes PNG, and {} is a name for something else; give {}",
        path.display(),
        path.with_extension("png").display(),
    )))
}

/// The file of a further cast: `FILE-2.flv` is the second's beside `FILE.flv`.
fn of_cast(path: &Path, cast: usize) -> PathBuf {
    beside(path, &(cast + 1).to_string())
}

/// A path by which files can be told apart, be they there or not, however they are named.
fn whole(path: &Path) -> PathBuf {
    let in_folder = || {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        Ok(folder.unwrap_or(Path::new(".")).canonicalize()?.join(path.file_name().unwrap_or_default()))
    };
    path.canonicalize().or_else(|_: io::Error| in_folder()).unwrap_or_else(|_: io::Error| path.to_owned())
}

/// What to say of a file that cannot be had.
fn cannot_write(path: &Path, error: &io::Error) -> String {
    let path = path.display();
    if error.kind() == io::ErrorKind::AlreadyExists {
        return format!("{path} is there already and is not replaced: name another file, or add --overwrite");
    }
    format!("{path} cannot be written: {error}")
}

/// Where FLV goes as it comes, but for pipes.
fn live_files(live: &[LiveTarget]) -> impl Iterator<Item = &Path> {
    live.iter().filter_map(LiveTarget::path).filter(|path| opens_at_once(path))
}

/// Whether a path can be looked at by opening it: to open a pipe takes until it is read.
fn opens_at_once(path: &Path) -> bool {
    path.metadata().map_or(true, |there| there.is_file() || there.is_dir())
}

/// Whether a path names a pipe, which opens once somebody reads it. One without a name of its own (`/dev/stdout`) has its reader.
fn is_named_pipe(path: &Path) -> bool {
    path.canonicalize().and_then(|path| path.metadata()).is_ok_and(|there| there.file_type().is_fifo())
}

fn teller(to: &Sender<Notice>, cast: usize) -> impl Fn(Begun) + Send + use<> {
    let to = to.clone();
    move |begun| {
        // Once nobody shows it, the program is over.
        let _ = to.send(Notice::Recording(begun).in_cast(cast));
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
        Err(error) => (Some(format!("the recording is incomplete: {error}")), FAILED),
    }
}

/// What to say of FLV that was written as it came, if anything, and its exit code.
fn live_words(result: &io::Result<()>) -> (Option<String>, i32) {
    match result {
        Ok(()) => (None, DONE),
        Err(error) => (Some(format!("the FLV is incomplete: {error}")), FAILED),
    }
}

/// What to say of a snapshot, if anything, and its exit code. `seen`: some picture came.
fn snapshot_words(
    result: &Result<SnapshotInfo, SnapshotError>,
    seen: bool,
    once: bool,
) -> (Option<String>, i32) {
    match result {
        Ok(_) => (None, DONE),
        // Not a failure of its own, unless a cast was to be had: why no picture came has been said.
        Err(error @ SnapshotError::Nothing) => {
            let words = if seen {
                format!("no snapshot: {error}")
            } else {
                "no picture came, so there is no snapshot".into()
            };
            (Some(words), if once { FAILED } else { DONE })
        }
        Err(error) => (Some(format!("no snapshot: {error}")), FAILED),
    }
}

#[cfg(test)]
mod tests {
    use super::super::output::Printer;
    use super::*;
    use crate::meeting::{HOLE, Link};
    use punchcast::app::ConnId;
    use punchcast::endpoint::Endpoint;
    use punchcast::media::{Kind, flv};
    use punchcast::policy::Rung;
    use std::time::Duration;

    #[test]
    fn a_snapshot_of_nothing_is_a_note_and_fails_a_cast_that_was_to_be_had() {
        let (words, code) = snapshot_words(&Err(SnapshotError::Nothing), false, false);
        assert_eq!((words.as_deref(), code), (Some("no picture came, so there is no snapshot"), DONE));
        assert_eq!(snapshot_words(&Err(SnapshotError::Nothing), false, true).1, FAILED);
        let refused = snapshot_words(&Err(SnapshotError::Decoder("broken".into())), false, false);
        assert_eq!(refused.1, FAILED);
    }

    #[test]
    fn a_snapshot_of_pictures_that_are_not_h264_says_so() {
        let path = std::env::temp_dir().join(format!("punchcast-no-snapshot-{}.png", std::process::id()));
        let (existing, snapshot) = (Existing::Keep, Some(&*path));
        let wanted = Wanted { record: None, snapshot, live: &[], existing, casts: 1 };
        for payload in [&b"\x91hvc1\0\0\0\x01"[..], b"\x93av01\x01", b"\x93avc1\x01"] {
            let Ok(mut sinks) = Sinks::open(&wanted, Printer::new(false, true).talk()) else {
                panic!("{} can be written", path.display())
            };
            let picture = Unit { kind: Kind::Video, timestamp: 0, payload: payload.into() };
            sinks.write(punchcast::driver::now(), 0, &picture);
            let why = sinks.finish(punchcast::driver::now(), true).why;
            assert_eq!(why.as_deref(), Some("no snapshot: no H.264 keyframe was seen"), "{payload:?}");
        }
    }

    #[test]
    fn a_recording_tells_its_gaps_and_its_failure() {
        assert_eq!(recording_words(&Ok(Recording::default())), (None, DONE));
        let (words, code) = recording_words(&Ok(Recording { tags: 90, bytes: 1, dropped: 7 }));
        assert!(words.is_some_and(|words| words.contains('7')));
        assert_eq!(code, DONE);
        assert_eq!(recording_words(&Err(io::Error::other("full"))).1, FAILED);
    }

    #[test]
    fn a_name_that_says_another_format_is_refused_with_the_way_to_it() {
        for (name, command) in [
            ("a b/x.mp4", "ffmpeg -i 'a b/x.flv' -c copy 'a b/x.mp4'"),
            ("X.MKV", "ffmpeg -i 'X.flv' -c copy 'X.MKV'"),
            ("x.webm", "ffmpeg -i 'x.flv' 'x.webm'"),
        ] {
            let Err(Failure::Usage(why)) = flv_path("record", name.into()) else { panic!("{name}") };
            assert!(why.contains("--record writes FLV") && why.ends_with(command), "{why}");
        }
        for name in ["x.flv", "x.FLV", "x", "-", "/dev/null", "mp4", "x.mp4.flv", "cast.1"] {
            assert_eq!(flv_path("flv", name.into()).ok(), Some(name.into()));
        }
        let Err(Failure::Usage(why)) = png_path("a b/x.JPG".into()) else { panic!("no PNG") };
        assert!(why.ends_with("a b/x.JPG is a name for something else; give a b/x.png"), "{why}");
        for name in ["x.png", "x", "/dev/null", "jpg"] {
            assert_eq!(png_path(name.into()).ok(), Some(name.into()));
        }
    }

    #[test]
    fn further_casts_are_recorded_beside_the_first() {
        assert_eq!(of_cast(Path::new("a/cast.flv"), 1), Path::new("a/cast-2.flv"));
        assert_eq!(of_cast(Path::new("cast"), 8), Path::new("cast-9"));
    }

    #[test]
    fn files_are_told_apart_by_what_they_are_and_not_by_their_names() {
        let folder = std::env::temp_dir().join(format!("punchcast-alias-{}", std::process::id()));
        std::fs::create_dir(&folder).expect("a scratch folder");
        std::fs::write(folder.join("there.flv"), "").expect("a scratch file");
        std::os::unix::fs::symlink(folder.join("there.flv"), folder.join("link.flv")).expect("a link");
        let collides = |record: &str, live: &str| {
            let live = [LiveTarget::Path(folder.join(live))];
            let record = folder.join(record);
            let (record, live) = (Some(&*record), &live[..]);
            Wanted { record, snapshot: None, live, existing: Existing::Replace, casts: 4 }.collides()
        };
        for (record, live, expected) in [
            ("a.flv", "b.flv", false),
            ("a.flv", "a.flv", true),
            ("a.flv", "./a.flv", true),
            ("a.flv", "../nowhere/a.flv", false),
            ("there.flv", "link.flv", true),
            ("a.flv", "a-2.flv", true),
            ("a.flv", "./a-4.flv", true),
            ("a.flv", "a-5.flv", false),
        ] {
            assert_eq!(collides(record, live), expected, "{record} {live}");
        }
        let _ = std::fs::remove_dir_all(folder);
    }

    #[test]
    fn a_named_pipe_for_the_snapshot_is_refused_at_the_start() {
        let pipe = std::env::temp_dir().join(format!("punchcast-snapshot-{}.pipe", std::process::id()));
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.expect("coreutils are everywhere").success());
        let (opened, told) = channel();
        let path = pipe.clone();
        std::thread::spawn(move || {
            let existing = Existing::Keep;
            let wanted = Wanted { record: None, snapshot: Some(&path), live: &[], existing, casts: 1 };
            let why = match Sinks::open(&wanted, Printer::new(false, true).talk()) {
                Err(Failure::Failed(why)) => why,
                Err(_) | Ok(_) => "no refusal".into(),
            };
            opened.send(why).expect("the test waits");
        });
        let why = told.recv_timeout(Duration::from_secs(10)).expect("nobody reads it, and nobody waits");
        assert!(why.starts_with(&format!("{} is a named pipe", pipe.display())), "{why}");
        let _ = std::fs::remove_file(pipe);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_pipe_without_a_name_takes_the_snapshot() {
        let (_reader, writer) = io::pipe().expect("a pipe");
        let path = PathBuf::from(format!("/dev/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&writer)));
        let existing = Existing::Keep;
        let wanted = Wanted { record: None, snapshot: Some(&path), live: &[], existing, casts: 1 };
        assert!(Sinks::open(&wanted, Printer::new(false, true).talk()).is_ok());
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
        let recorder = Recorder::to_stream("a full disk", Full).expect("a thread can be had");
        let path = Path::new("/nowhere/snapshot.png");
        let records = BTreeMap::from([(0, Record::Running(recorder))]);
        let snapshot = Some(Snapshot::new(path));
        let (existing, live) = (Existing::Keep, Vec::new());
        let (heard, notices, talk) = (BTreeMap::new(), channel(), Printer::new(false, true).talk());
        let mut sinks = Sinks {
            path: None,
            existing,
            records,
            heard,
            notices,
            live,
            run: None,
            snapshot,
            seen: false,
            talk,
        };
        let keyframe = Unit { kind: Kind::Video, timestamp: 0, payload: vec![0x17, 1, 0, 0, 0].into() };
        while matches!(sinks.records[&0], Record::Running(_)) {
            sinks.write(punchcast::driver::now(), 0, &keyframe);
            std::thread::yield_now();
        }
        let Finished { notices, why } = sinks.finish(punchcast::driver::now(), false);
        assert!(why.is_some_and(|why| why.starts_with("the recording is incomplete: a full disk: ")));
        let failed = |notice: &Notice| matches!(notice, Notice::SinkFailed { sink: "record", .. });
        assert!(matches!(&notices[..], [notice] if failed(notice)), "{notices:?}");
    }

    #[test]
    fn a_link_that_takes_another_s_place_ends_what_its_last_picture_stood() {
        let now = punchcast::driver::now();
        let at = |port| Endpoint::new(std::net::SocketAddr::from(([127, 0, 0, 1], port)));
        let link = Link {
            conn: ConnId { room: HOLE, serial: 1 },
            rung: Rung::Lan,
            local: at(1),
            remote: at(2),
            rtt: None,
            run: 1,
            obstacle: None,
            secure: true,
            formed: now,
        };
        let keyframe = Unit { kind: Kind::Video, timestamp: 0, payload: vec![0x17, 1, 0, 0, 0].into() };
        // The cast may have moved to it when the first broke.
        for moves in [false, true] {
            let path = std::env::temp_dir().join(format!("punchcast-replaced-{}.flv", std::process::id()));
            let existing = Existing::Replace;
            let wanted = Wanted { record: Some(&path), snapshot: None, live: &[], existing, casts: 1 };
            let talk = Printer::new(false, true).talk();
            let Ok(mut sinks) = Sinks::open(&wanted, talk) else { panic!("a scratch file can be written") };
            // A minute the first link's picture stood, and nobody was told that it was lost.
            for (at, moves) in [(now, false), (now + Duration::from_secs(60), moves)] {
                sinks.follow(at, 0, &Notice::Link { link, elapsed: Duration::ZERO, moves });
                sinks.follow(at, 0, &Notice::StreamStarted);
                sinks.follow(at, 0, &Notice::Unit(keyframe.clone()));
            }
            assert_eq!(sinks.finish(now + Duration::from_secs(60), true).why, None);
            let mut reader = flv::Reader::new();
            reader.push(&std::fs::read(&path).expect("a file"));
            let times: Vec<_> =
                std::iter::from_fn(|| reader.next().expect("FLV")).map(|unit| unit.timestamp).collect();
            assert_eq!(times, [0, 60_000, 60_040], "moves: {moves}");
            let _ = std::fs::remove_file(path);
        }
    }
}
