//! FLV as it comes: standard output, a named pipe, a player's standard input.
//!
//! A thread writes, and may wait as long as the reader does not read; nobody else waits for it. What it cannot take is
//! left out up to the next keyframe, so a slow reader sees fewer pictures and not ever older ones. Each reader gets a
//! file of its own: header, metadata, sequence headers, a keyframe, times from zero.
//!
//! ```text
//!  open ─▶ a new generation ─▶ header, tags … ─▶ reader gone ─┬─ standard output: the end, and a failure
//!    ▲                                                        ├─ named pipe: the next reader
//!    └────────────────────────────────────────────────────────┴─ player: with the next cast
//! ```

#![allow(clippy::disallowed_methods)] // The program's edge: a player that does not end is given a real second.

use super::FINISH_TIME;
use super::file::FlvFile;
use super::record::{Existing, is_no_file, of_file, remedy};
use super::timeline::Timeline;
use punchcast::media::{Unit, flv, told};
use std::borrow::Cow;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// Units that may wait for a reader: three seconds of pictures and sound, which is what a stream begins with at once when
/// it is joined in the middle of a group.
const MAX_QUEUED_UNITS: usize = 256;

/// Bytes that may wait for a reader: two seconds of 32 Mbit/s.
const MAX_QUEUED_BYTES: usize = 8 << 20;

/// How long a player may take to end once its input has.
const PLAYER_GRACE: Duration = Duration::from_secs(3);

/// Where FLV goes as it comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LiveTarget {
    /// Standard output.
    Stdout,
    /// A named pipe, opened when somebody reads it, again and again; or a file, which begins with its first byte.
    Path(PathBuf),
    /// A program and its arguments, which reads its standard input. One that ends is started again with the next cast.
    Player(Vec<String>),
}

/// What a pipe has to say to the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// What happened.
    Note(String),
    /// What it cannot do any more.
    Failure(String),
}

/// Writes units to a [`LiveTarget`].
#[derive(Debug)]
pub struct LivePipe {
    timeline: Timeline,
    /// What is written at present, and what the header said.
    generation: u32,
    header: Option<flv::Writer>,
    /// The file's header is with the reader.
    begun: bool,
    /// Casts so far.
    cast: u32,
    shared: Arc<Shared>,
    queue: SyncSender<Piece>,
    done: Receiver<io::Result<()>>,
    /// What was queued is to be on a disk at the end.
    is_file: bool,
}

#[derive(Debug, Default)]
struct Shared {
    /// The generation that the thread can write; another one is thrown away.
    wanted: AtomicU32,
    /// A named pipe that nobody reads: nothing need be queued for it.
    unread: AtomicBool,
    queued: AtomicUsize,
}

struct Piece {
    generation: u32,
    cast: u32,
    /// It begins with the file's header.
    first: bool,
    bytes: Vec<u8>,
}

impl LivePipe {
    /// Starts the thread that opens the target; `existing` says what becomes of a file that is there. `say` tells the user
    /// what became of it all.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(
        target: LiveTarget,
        existing: Existing,
        say: impl Fn(Word) + Send + 'static,
    ) -> io::Result<Self> {
        let (queue, pieces) = sync_channel(MAX_QUEUED_UNITS);
        let (tell_done, done) = channel();
        let shared = Arc::new(Shared::default());
        let no_file = target.path().map(is_no_file);
        shared.unread.store(no_file == Some(true), Ordering::Release);
        let is_file = no_file == Some(false);
        let writer = Writer::new(pieces, Arc::clone(&shared), existing);
        thread::Builder::new().name("live pipe".into()).spawn(move || {
            let result = writer.run(&target, &say);
            // Nobody may wait for it.
            let _ = tell_done.send(result);
        })?;
        let timeline = Timeline::default();
        Ok(Self {
            timeline,
            generation: 0,
            header: None,
            begun: false,
            cast: 0,
            shared,
            queue,
            done,
            is_file,
        })
    }

    /// Writes one unit, without waiting for the reader.
    pub fn write(&mut self, unit: &Unit) {
        let wanted = self.shared.wanted.load(Ordering::Acquire);
        if wanted != self.generation {
            // Another reader, which knows nothing of what the one before it was told.
            (self.generation, self.header, self.begun) = (wanted, None, false);
            self.timeline.restart_and_ask();
        }
        // A file is no player's alone, and is to tell the true rate.
        let unit = if self.is_file { Cow::Borrowed(unit) } else { told::for_players(unit) };
        let mut units = Vec::new();
        // The headers are kept whether or not anybody reads.
        self.timeline.accept(&unit, |unit| units.push(unit));
        self.write_placed(&units);
    }

    /// Whether a keyframe is to be asked for, once: somebody reads from here on, and a screen that stands still would not send
    /// one for long.
    pub const fn take_keyframe_wish(&mut self) -> bool {
        self.timeline.take_keyframe_wish()
    }

    /// The stream is over, and nothing had come for `stay`: its last picture stood so long.
    pub fn end_stream(&mut self, stay: Duration) {
        let mark = self.timeline.end_stream(stay);
        self.write_placed(mark.as_slice());
    }

    /// Writes what has its place on the timeline.
    fn write_placed(&mut self, units: &[Unit]) {
        if self.shared.unread.load(Ordering::Acquire) {
            return;
        }
        for unit in units {
            let (audio, video) = self.timeline.contents();
            let writer = *self.header.get_or_insert_with(|| flv::Writer::new(audio, video));
            let mut bytes = if self.begun { Vec::new() } else { writer.header().to_vec() };
            bytes.extend(writer.tag(unit));
            if !self.append(bytes) {
                // Everything up to the next keyframe is of no use without this one.
                self.timeline.resynchronise();
                break;
            }
            self.begun = true;
        }
    }

    /// Another stream follows, of the same cast or of another.
    pub fn next_stream(&mut self) {
        self.timeline.next_stream();
    }

    /// Another cast follows: a player that was closed in the one before is started again.
    pub const fn next_cast(&mut self) {
        self.cast = self.cast.wrapping_add(1);
    }

    /// Ends: the reader gets what waits, if it reads; a player has a little time to end by itself.
    ///
    /// # Errors
    /// What ended the target before, which was said then. Readers of a named pipe and players may come and go.
    pub fn finish(self) -> io::Result<()> {
        let Self { queue, done, is_file, .. } = self;
        drop(queue);
        match done.recv_timeout(FINISH_TIME) {
            Ok(result) => result,
            // Who does not read keeps the thread waiting, and gets no more.
            Err(RecvTimeoutError::Timeout) if !is_file => Ok(()),
            Err(RecvTimeoutError::Timeout) => {
                Err(io::Error::other("the disk did not take in time what waited for it"))
            }
            Err(RecvTimeoutError::Disconnected) => Err(io::Error::other("the writing thread panicked")),
        }
    }

    fn append(&self, bytes: Vec<u8>) -> bool {
        let size = bytes.len();
        let queued = self.shared.queued.fetch_add(size, Ordering::Relaxed);
        let (generation, cast, first) = (self.generation, self.cast, !self.begun);
        let piece = Piece { generation, cast, first, bytes };
        if queued + size <= MAX_QUEUED_BYTES {
            match self.queue.try_send(piece) {
                Ok(()) => return true,
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
            }
        }
        self.shared.queued.fetch_sub(size, Ordering::Relaxed);
        false
    }
}

/// The thread's side.
struct Writer {
    pieces: Receiver<Piece>,
    shared: Arc<Shared>,
    existing: Existing,
    generation: u32,
    /// The cast in which the last player ended.
    ended_in: Option<u32>,
}

/// Somebody who reads.
enum Reader {
    Stream(Box<dyn Write>),
    File(FlvFile),
    Player(Child, ChildStdin),
}

/// How one reader's time ended.
enum End {
    /// It is gone.
    Gone(u32, io::Error),
    /// There is nothing more to write.
    Finished,
}

impl Writer {
    const fn new(pieces: Receiver<Piece>, shared: Arc<Shared>, existing: Existing) -> Self {
        Self { pieces, shared, existing, generation: 0, ended_in: None }
    }

    /// # Errors
    /// When the target could not be had, or takes no more.
    fn run(mut self, target: &LiveTarget, say: &dyn Fn(Word)) -> io::Result<()> {
        let failed = |error: io::Error, what: &str| {
            let remedy = remedy(&error);
            say(Word::Failure(format!("{} {what}: {error}{remedy}; the picture goes on", target.name())));
            Err(of_file(target.name(), &error))
        };
        loop {
            let (mut reader, first) = match self.open(target) {
                Ok(Some(opened)) => opened,
                Ok(None) => return Ok(()),
                Err(error) => return failed(error, "cannot be had"),
            };
            let end = self.feed(&mut reader, first);
            reader.close();
            match end {
                End::Finished => return Ok(()),
                End::Gone(cast, error) => {
                    self.ended_in = Some(cast);
                    if !target.goes_on(&error, say) {
                        return failed(error, "takes no more");
                    }
                }
            }
        }
    }

    /// Waits for a reader; `None` when there is nothing more to read. What it is to be given first comes along.
    fn open(&mut self, target: &LiveTarget) -> io::Result<Option<(Reader, Option<Piece>)>> {
        Ok(Some(match target {
            LiveTarget::Stdout => (Reader::Stream(Box::new(io::stdout())), None),
            LiveTarget::Path(path) if !is_no_file(path) => {
                let Some(piece) = self.await_stream() else { return Ok(None) };
                (Reader::File(FlvFile::new(self.existing.open(path)?)), Some(piece))
            }
            LiveTarget::Path(path) => {
                // Opening a named pipe takes until somebody reads it, and what was queued by then is old.
                self.shared.unread.store(true, Ordering::Release);
                let file = self.existing.open(path)?;
                // In this order: what comes between belongs to the last reader's file, and is thrown away.
                self.shared.unread.store(false, Ordering::Release);
                self.begin_anew();
                (Reader::Stream(Box::new(file)), None)
            }
            LiveTarget::Player(words) => {
                let Some(piece) = self.await_stream() else { return Ok(None) };
                let (program, args) = words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
                let mut command = Command::new(program);
                // Standard output is this program's own, for results.
                command.args(args).stdin(Stdio::piped()).stdout(Stdio::null());
                let mut child = command.spawn()?;
                let stdin = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
                (Reader::Player(child, stdin), Some(piece))
            }
        }))
    }

    /// Asks for a file of its own for the next reader.
    fn begin_anew(&mut self) {
        self.generation = self.generation.wrapping_add(1);
        self.shared.wanted.store(self.generation, Ordering::Release);
    }

    /// Waits for the beginning of a file in a cast in which no player has ended; `None` when there will be none.
    fn await_stream(&mut self) -> Option<Piece> {
        loop {
            let piece = self.take()?;
            if self.ended_in == Some(piece.cast) || piece.generation != self.generation {
                continue;
            }
            if piece.first {
                return Some(piece);
            }
            self.begin_anew();
        }
    }

    fn take(&self) -> Option<Piece> {
        let piece = self.pieces.recv().ok()?;
        self.shared.queued.fetch_sub(piece.bytes.len(), Ordering::Relaxed);
        Some(piece)
    }

    fn feed(&mut self, reader: &mut Reader, mut first: Option<Piece>) -> End {
        while let Some(piece) = first.take().or_else(|| self.take()) {
            if piece.generation == self.generation
                && let Err(error) = reader.write(&piece.bytes)
            {
                return End::Gone(piece.cast, error);
            }
        }
        End::Finished
    }
}

impl Reader {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let stream: &mut dyn Write = match self {
            Self::Stream(stream) => stream,
            Self::Player(_, stdin) => stdin,
            // Each piece is whole.
            Self::File(file) => return file.append(bytes),
        };
        stream.write_all(bytes)?;
        stream.flush()
    }

    /// Ends what can be ended: a player sees the end of its input, and is ended if it does not care.
    fn close(self) {
        let Self::Player(mut child, stdin) = self else { return };
        drop(stdin);
        let until = Instant::now() + PLAYER_GRACE;
        while matches!(child.try_wait(), Ok(None)) {
            if Instant::now() >= until {
                let _ = child.kill();
                let _ = child.wait();
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl LiveTarget {
    /// The pipe or file.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Path(path) => Some(path),
            Self::Stdout | Self::Player(_) => None,
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Stdout => "standard output".into(),
            Self::Path(path) => path.display().to_string(),
            Self::Player(words) => format!("the player {:?}", words.first().map_or("", String::as_str)),
        }
    }

    /// Whether another reader may come after one that is gone.
    fn goes_on(&self, error: &io::Error, say: &dyn Fn(Word)) -> bool {
        match self {
            Self::Stdout => false,
            Self::Path(_) => error.kind() == io::ErrorKind::BrokenPipe,
            Self::Player(_) => {
                say(Word::Note("the player ended; it is started again with the next cast".into()));
                true
            }
        }
    }
}

#[cfg(test)]
mod tests;
