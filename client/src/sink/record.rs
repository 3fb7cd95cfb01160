//! `--record FILE.flv`: what was received, as a file that plays wherever it ends.
//!
//! Each tag is handed to the system whole, so a recording that a crash or a full disk cut short still plays. The disk
//! has a thread of its own; a disk that cannot keep up costs the recording frames, never the live picture.
//!
//! A file begins with its first byte: a recording to which nothing comes leaves no file, and replaces none. What does not
//! fit a file that has begun (by the timeline's rule of parts) goes on in another: `FILE-part2.flv`, and so on. A file that
//! was there before is replaced only where that is wanted. It is told its length when it ends.

use super::FINISH_TIME;
use super::file::FlvFile;
use super::timeline::Timeline;
use punchcast::media::{Unit, flv, metadata};
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, channel, sync_channel};
use std::thread;
use std::time::Duration;

/// Units that may wait for the disk: half a minute of video and sound.
const MAX_QUEUED_UNITS: usize = 2048;

/// Bytes that may wait for the disk: half a minute at 8 Mbit/s.
const MAX_QUEUED_BYTES: usize = 32 << 20;

/// The last number of a part: where a thousand recordings lie, somebody should look after them.
const MAX_PART: u32 = 999;

/// What becomes of a file that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// It stays, and there is an error. Of parts, another number is taken.
    Keep,
    /// It is replaced.
    Replace,
}

impl Existing {
    /// Opens `path` for writing. What is no file (a pipe, a device) can be written to and not be lost.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`], and what the system says.
    pub fn open(self, path: &Path) -> io::Result<File> {
        match self {
            Self::Keep if is_no_file(path) => File::options().write(true).open(path),
            Self::Keep => File::create_new(path),
            Self::Replace => File::create(path),
        }
    }

    /// Whether a file can be [opened](Self::open) later; leaves things as they were.
    ///
    /// # Errors
    /// As for [`Self::open`].
    pub fn check(self, path: &Path) -> io::Result<()> {
        match File::create_new(path) {
            Ok(_) => std::fs::remove_file(path),
            Err(error) if self == Self::Replace && error.kind() == io::ErrorKind::AlreadyExists => {
                File::options().write(true).open(path).map(drop)
            }
            Err(error) => Err(error),
        }
    }
}

/// Whether something is there that holds nothing to lose: a pipe, a device; of a directory the system says what it is.
pub(super) fn is_no_file(path: &Path) -> bool {
    path.metadata().is_ok_and(|there| !there.is_file())
}

/// What a recording came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recording {
    /// Tags written.
    pub tags: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Units left out because the disk could not keep up.
    pub dropped: u64,
}

/// A file of a recording has begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begun {
    /// Which.
    pub file: PathBuf,
    /// Counted from 1; a further one is begun where picture or sound is coded in another way.
    pub part: u32,
}

impl fmt::Display for Begun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display();
        match self.part {
            1 => write!(f, "recording to {file}"),
            _ => write!(f, "the recording goes on in {file}: picture or sound is coded in another way"),
        }
    }
}

/// Records units into an FLV file.
#[derive(Debug)]
pub struct Recorder {
    timeline: Timeline,
    /// What the file's header says, once it is written.
    header: Option<flv::Writer>,
    /// Which part that file is, by the timeline's count.
    part: u32,
    /// It can be corrected when it ends; a stream cannot.
    is_file: bool,
    /// Its metadata has a place for its length.
    has_duration: bool,
    dropped: u64,
    queue: SyncSender<Piece>,
    queued_bytes: Arc<AtomicUsize>,
    done: Receiver<io::Result<Recording>>,
}

#[derive(Debug)]
enum Piece {
    /// The first bytes of a file, which the one before it ends with.
    Begin(Vec<u8>),
    Tag {
        bytes: Vec<u8>,
        timestamp: u32,
        /// Where in `bytes` the file's length is to be.
        duration: Option<usize>,
    },
    /// The header's flags byte, corrected.
    Flags(u8),
}

impl Recorder {
    /// Records into a file that is created when something comes, or takes standard output for `-`. `tell` is told of
    /// each file that begins, on the recorder's thread.
    ///
    /// # Errors
    /// When the file could not be created, or the thread not started. Whether a pipe or a device can be had is told when it is
    /// written to: opening one may take until somebody reads it.
    pub fn create(
        path: &Path,
        existing: Existing,
        tell: impl Fn(Begun) + Send + 'static,
    ) -> io::Result<Self> {
        if path == Path::new("-") {
            return Self::to_stream("standard output", io::stdout());
        }
        if path.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if is_no_file(path) {
            let (path, name) = (path.to_owned(), path.display().to_string());
            let open = move || Ok(Box::new(existing.open(&path)?) as Box<dyn Write>);
            return Self::start(Opening::Stream(name, Box::new(open)), Timeline::default());
        }
        existing.check(path)?;
        let parts = Parts { first: path.to_owned(), existing, number: 1, tell: Box::new(tell) };
        Self::start(Opening::File(parts), Timeline::in_parts())
    }

    /// Records into a stream, which cannot be corrected later; errors are told of it by its name.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn to_stream(name: &str, stream: impl Write + Send + 'static) -> io::Result<Self> {
        let open = move || Ok(Box::new(stream) as Box<dyn Write>);
        Self::start(Opening::Stream(name.to_owned(), Box::new(open)), Timeline::default())
    }

    fn start(target: Opening, timeline: Timeline) -> io::Result<Self> {
        let (queue, pieces) = sync_channel(MAX_QUEUED_UNITS);
        let queued_bytes = Arc::new(AtomicUsize::new(0));
        let queued = Arc::clone(&queued_bytes);
        let is_file = matches!(target, Opening::File(_));
        let (tell_done, done) = channel();
        thread::Builder::new().name("recorder".into()).spawn(move || {
            let result = target.open().and_then(|target| write_all(target, &pieces, &queued));
            // Nobody may wait for it.
            let _ = tell_done.send(result);
        })?;
        Ok(Self {
            timeline,
            header: None,
            part: 0,
            is_file,
            has_duration: false,
            dropped: 0,
            queue,
            queued_bytes,
            done,
        })
    }

    /// Records one unit, without waiting for the disk. `false` when the file can take no more; [`Recorder::finish`]
    /// tells why.
    pub fn write(&mut self, unit: &Unit) -> bool {
        let mut units = Vec::new();
        self.timeline.accept(unit, |unit| units.push(unit));
        self.write_placed(&units)
    }

    /// The stream is over (the link was lost, or the cast has ended, or nobody records any more), and nothing had come for
    /// `stay`: its last picture stood so long. As for [`Recorder::write`].
    pub fn end_stream(&mut self, stay: Duration) -> bool {
        let mark = self.timeline.end_stream(stay);
        self.write_placed(mark.as_slice())
    }

    /// Writes what has its place on the timeline.
    fn write_placed(&mut self, units: &[Unit]) -> bool {
        if units.is_empty() {
            return true;
        }
        let (audio, video) = self.timeline.contents();
        let writer = flv::Writer::new(audio, video);
        let mut appended = self.announce(writer);
        for unit in units {
            if appended == Appended::Queued {
                appended = self.append_tag(writer, unit);
            }
        }
        if appended == Appended::Full {
            self.dropped += 1;
            // Everything up to the next keyframe is of no use without this one.
            self.timeline.resynchronise();
        }
        appended != Appended::Ended
    }

    /// Whether a keyframe is to be asked for, once: what goes on in another part waits for it.
    pub const fn take_keyframe_wish(&mut self) -> bool {
        self.timeline.take_keyframe_wish()
    }

    /// Another stream follows (the link was made again, or another cast began). It is recorded from its next
    /// keyframe on.
    pub fn next_stream(&mut self) {
        self.timeline.next_stream();
    }

    /// Waits until everything is written, and closes the file. A disk takes what it is given, or says why not; who reads a pipe
    /// need not, and is given a few seconds.
    ///
    /// # Errors
    /// The first error of the file. What was written before it plays.
    pub fn finish(self) -> io::Result<Recording> {
        let Self { queue, done, is_file, queued_bytes, dropped, .. } = self;
        drop(queue);
        let ended = if is_file { done.recv().map_err(Into::into) } else { done.recv_timeout(FINISH_TIME) };
        let recording = match ended {
            Ok(result) => result?,
            // Nothing came, and nobody opened the pipe.
            Err(RecvTimeoutError::Timeout) if queued_bytes.load(Ordering::Relaxed) == 0 => {
                Recording::default()
            }
            Err(RecvTimeoutError::Timeout) => {
                return Err(io::Error::other("what waited for its reader was not read in time"));
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Err(io::Error::other("the recorder's thread panicked"));
            }
        };
        Ok(Recording { dropped, ..recording })
    }

    /// Writes a file's header, or corrects it once sound appears.
    fn announce(&mut self, writer: flv::Writer) -> Appended {
        let part = self.timeline.part();
        let piece = match self.header {
            None => Piece::Begin(writer.header().to_vec()),
            Some(_) if part != self.part => Piece::Begin(writer.header().to_vec()),
            Some(header) if header.flags() != writer.flags() => Piece::Flags(writer.flags()),
            Some(_) => return Appended::Queued,
        };
        let begins = matches!(piece, Piece::Begin(_));
        let appended = self.append(piece);
        if appended == Appended::Queued {
            (self.header, self.part) = (Some(writer), part);
            self.has_duration &= !begins;
        }
        appended
    }

    fn append_tag(&mut self, writer: flv::Writer, unit: &Unit) -> Appended {
        let timestamp = unit.written_time();
        // Players believe the last metadata that they read: only the first has the length.
        let has_place = self.is_file && !self.has_duration;
        let Some((unit, at)) = has_place.then(|| metadata::with_duration(unit)).flatten() else {
            return self.append(Piece::Tag { bytes: writer.tag(unit), timestamp, duration: None });
        };
        let duration = Some(flv::Writer::BODY_OFFSET + at);
        let appended = self.append(Piece::Tag { bytes: writer.tag(&unit), timestamp, duration });
        self.has_duration = appended == Appended::Queued;
        appended
    }

    fn append(&self, piece: Piece) -> Appended {
        let size = piece.size();
        let queued = self.queued_bytes.fetch_add(size, Ordering::Relaxed);
        let refused = if queued + size > MAX_QUEUED_BYTES {
            Appended::Full
        } else {
            match self.queue.try_send(piece) {
                Ok(()) => return Appended::Queued,
                Err(TrySendError::Full(_)) => Appended::Full,
                Err(TrySendError::Disconnected(_)) => Appended::Ended,
            }
        };
        self.queued_bytes.fetch_sub(size, Ordering::Relaxed);
        refused
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Appended {
    Queued,
    Full,
    Ended,
}

impl Piece {
    fn size(&self) -> usize {
        match self {
            Self::Begin(bytes) | Self::Tag { bytes, .. } => bytes.len(),
            Self::Flags(_) => 1,
        }
    }
}

/// What the recorder's thread opens.
enum Opening {
    File(Parts),
    /// Its name, and how: it may take until somebody reads.
    Stream(String, Box<dyn FnOnce() -> io::Result<Box<dyn Write>> + Send>),
}

impl Opening {
    fn open(self) -> io::Result<Target> {
        match self {
            Self::File(parts) => Ok(Target::File(None, parts)),
            Self::Stream(name, open) => match open() {
                Ok(stream) => Ok(Target::Stream(name, stream)),
                Err(error) => Err(of_file(name, &error)),
            },
        }
    }
}

/// Where the recorder's thread writes.
enum Target {
    /// Open once something came.
    File(Option<Part>, Parts),
    /// With its name.
    Stream(String, Box<dyn Write>),
}

/// The file that is written.
struct Part {
    path: PathBuf,
    file: FlvFile,
}

impl Part {
    fn new(path: PathBuf, file: File) -> Self {
        Self { path, file: FlvFile::new(file) }
    }

    /// Does something with the file; an error is told of it by its path.
    fn with(&mut self, act: impl FnOnce(&mut FlvFile) -> io::Result<()>) -> io::Result<()> {
        act(&mut self.file).map_err(|error| of_file(self.path.display(), &error))
    }
}

/// The files that a recording comes in.
struct Parts {
    first: PathBuf,
    existing: Existing,
    /// Of the file that is written, counted from 1.
    number: u32,
    tell: Box<dyn Fn(Begun) + Send>,
}

impl Parts {
    /// Begins the first file.
    fn first(&self) -> io::Result<Part> {
        let path = &self.first;
        let file = self.existing.open(path).map_err(|error| of_file(path.display(), &error))?;
        (self.tell)(Begun { file: path.clone(), part: 1 });
        Ok(Part::new(path.clone(), file))
    }

    /// Begins the next file.
    fn next(&mut self) -> io::Result<Part> {
        while self.number < MAX_PART {
            self.number += 1;
            let path = beside(&self.first, &format!("part{}", self.number));
            match self.existing.open(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(of_file(path.display(), &error)),
                Ok(file) => {
                    (self.tell)(Begun { file: path.clone(), part: self.number });
                    return Ok(Part::new(path, file));
                }
            }
        }
        Err(io::Error::other(format!("there are {MAX_PART} parts of {}", self.first.display())))
    }
}

/// An error with the file that it is of, and what to do where that is known.
pub(super) fn of_file(name: impl fmt::Display, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{name}: {error}{}", remedy(error)))
}

/// What to do about an error, to be put behind it; nothing where that is not known.
pub(super) fn remedy(error: &io::Error) -> &'static str {
    #[allow(clippy::wildcard_enum_match_arm)] // The system's errors are many.
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; make room there, or write to another disk"
        }
        io::ErrorKind::FileTooLarge => "; that file system, or a limit on this user, takes no larger file",
        _ => "",
    }
}

/// A file beside another: `FILE-WHAT.flv` beside `FILE.flv`.
#[must_use]
pub fn beside(path: &Path, what: &str) -> PathBuf {
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    name.push(format!("-{what}"));
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

impl Target {
    fn write(&mut self, piece: &Piece) -> io::Result<()> {
        match (self, piece) {
            (Self::File(part, parts), Piece::Begin(header)) => {
                let next = match part {
                    Some(part) => {
                        part.with(FlvFile::finish)?;
                        parts.next()?
                    }
                    None => parts.first()?,
                };
                part.insert(next).with(|file| file.append(header))
            }
            (Self::File(part, _), Piece::Tag { bytes, timestamp, duration }) => part
                .as_mut()
                .map_or(Ok(()), |part| part.with(|file| file.append_tag(bytes, *timestamp, *duration))),
            (Self::File(part, _), Piece::Flags(flags)) => {
                part.as_mut().map_or(Ok(()), |part| part.with(|file| file.set_flags(*flags)))
            }
            (Self::Stream(name, stream), Piece::Begin(bytes) | Piece::Tag { bytes, .. }) => {
                stream.write_all(bytes).and_then(|()| stream.flush()).map_err(|error| of_file(name, &error))
            }
            (Self::Stream(..), Piece::Flags(_)) => Ok(()),
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        match self {
            Self::File(Some(part), _) => part.with(FlvFile::finish),
            Self::File(None, _) | Self::Stream(..) => Ok(()),
        }
    }
}

fn write_all(mut target: Target, pieces: &Receiver<Piece>, queued: &AtomicUsize) -> io::Result<Recording> {
    let mut recording = Recording::default();
    let written = pieces.iter().try_for_each(|piece| {
        target.write(&piece)?;
        let size = piece.size();
        queued.fetch_sub(size, Ordering::Relaxed);
        match piece {
            Piece::Begin(_) => recording.bytes += size as u64,
            Piece::Tag { .. } => {
                recording.bytes += size as u64;
                recording.tags += 1;
            }
            Piece::Flags(_) => {}
        }
        Ok(())
    });
    // What there is has its length, whatever ended it.
    let finished = target.finish();
    written.and(finished).map(|()| recording)
}
