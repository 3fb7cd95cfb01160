//! `--record FILE.flv`: what was received, as a file that plays wherever it ends.
//!
//! Each tag is handed to the system whole, so a recording that a crash or a full disk cut short still plays. The disk
//! has a thread of its own; a disk that cannot keep up costs the recording frames, never the live picture.

use super::timeline::Timeline;
use punchcast::media::{Unit, flv};
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};

/// Units that may wait for the disk: half a minute of video and sound.
const MAX_QUEUED_UNITS: usize = 2048;

/// Bytes that may wait for the disk: half a minute at 8 Mbit/s.
const MAX_QUEUED_BYTES: usize = 32 << 20;

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

/// Records units into an FLV file.
#[derive(Debug)]
pub struct Recorder {
    timeline: Timeline,
    /// What the file's header says, once it is written.
    header: Option<flv::Writer>,
    dropped: u64,
    queue: SyncSender<Piece>,
    queued_bytes: Arc<AtomicUsize>,
    thread: JoinHandle<io::Result<Recording>>,
}

#[derive(Debug)]
enum Piece {
    /// The file's first bytes, or a tag.
    Append(Vec<u8>),
    /// The header's flags byte, corrected.
    Flags(u8),
}

impl Recorder {
    /// Creates the file, or takes standard output for `-`.
    ///
    /// # Errors
    /// When the file cannot be created, or the thread not started.
    pub fn create(path: &Path) -> io::Result<Self> {
        if path == Path::new("-") {
            return Self::start(Target::Stream(Box::new(io::stdout())));
        }
        Self::start(Target::File(File::create(path)?))
    }

    /// Records into a stream, which cannot be corrected later.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn to_stream(stream: impl Write + Send + 'static) -> io::Result<Self> {
        Self::start(Target::Stream(Box::new(stream)))
    }

    fn start(target: Target) -> io::Result<Self> {
        let (queue, pieces) = sync_channel(MAX_QUEUED_UNITS);
        let queued_bytes = Arc::new(AtomicUsize::new(0));
        let queued = Arc::clone(&queued_bytes);
        let thread = thread::Builder::new()
            .name("recorder".into())
            .spawn(move || write_all(target, &pieces, &queued))?;
        let timeline = Timeline::default();
        Ok(Self { timeline, header: None, dropped: 0, queue, queued_bytes, thread })
    }

    /// Records one unit, without waiting for the disk. `false` when the file can take no more; [`Recorder::finish`]
    /// tells why.
    pub fn write(&mut self, unit: &Unit) -> bool {
        let mut units = Vec::new();
        self.timeline.accept(unit, |unit| units.push(unit));
        if units.is_empty() {
            return true;
        }
        let (audio, video) = self.timeline.contents();
        let writer = flv::Writer::new(audio, video);
        if !self.announce(writer) {
            return false;
        }
        for unit in units {
            match self.append(Piece::Append(writer.tag(&unit))) {
                Appended::Queued => {}
                Appended::Full => {
                    self.dropped += 1;
                    // Everything up to the next keyframe is of no use without this one.
                    self.timeline.resynchronise();
                    break;
                }
                Appended::Ended => return false,
            }
        }
        true
    }

    /// Another stream follows (the link was made again, or another cast began). It is recorded from its next
    /// keyframe on.
    pub fn next_stream(&mut self) {
        self.timeline.next_stream();
    }

    /// Waits until everything is written, and closes the file.
    ///
    /// # Errors
    /// The first error of the file. What was written before it plays.
    pub fn finish(self) -> io::Result<Recording> {
        let Self { queue, thread, dropped, .. } = self;
        drop(queue);
        let recording =
            thread.join().unwrap_or_else(|_| Err(io::Error::other("the recorder's thread panicked")))?;
        Ok(Recording { dropped, ..recording })
    }

    /// Writes the file's header, or corrects it once sound appears; `false` when the file can take no more.
    fn announce(&mut self, writer: flv::Writer) -> bool {
        let piece = match self.header {
            None => Piece::Append(writer.header().to_vec()),
            Some(header) if header.flags() != writer.flags() => Piece::Flags(writer.flags()),
            Some(_) => return true,
        };
        match self.append(piece) {
            Appended::Queued => {
                self.header = Some(writer);
                true
            }
            // The header itself finds the queue empty; a correction is made with the next unit.
            Appended::Full => self.header.is_some(),
            Appended::Ended => false,
        }
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

enum Appended {
    Queued,
    Full,
    Ended,
}

impl Piece {
    fn size(&self) -> usize {
        match self {
            Self::Append(bytes) => bytes.len(),
            Self::Flags(_) => 1,
        }
    }
}

/// Where the recorder's thread writes.
enum Target {
    File(File),
    Stream(Box<dyn Write + Send>),
}

impl Target {
    fn write(&mut self, piece: &Piece) -> io::Result<()> {
        match (self, piece) {
            (Self::File(file), Piece::Append(bytes)) => file.write_all(bytes),
            (Self::File(file), Piece::Flags(flags)) => {
                file.seek(SeekFrom::Start(flv::Writer::FLAGS_OFFSET))?;
                file.write_all(&[*flags])?;
                file.seek(SeekFrom::End(0)).map(drop)
            }
            (Self::Stream(stream), Piece::Append(bytes)) => {
                stream.write_all(bytes)?;
                stream.flush()
            }
            (Self::Stream(_), Piece::Flags(_)) => Ok(()),
        }
    }
}

fn write_all(mut target: Target, pieces: &Receiver<Piece>, queued: &AtomicUsize) -> io::Result<Recording> {
    let mut recording = Recording::default();
    let mut header = true;
    for piece in pieces {
        target.write(&piece)?;
        let size = piece.size();
        queued.fetch_sub(size, Ordering::Relaxed);
        if let Piece::Append(_) = piece {
            recording.bytes += size as u64;
            recording.tags += u64::from(!std::mem::take(&mut header));
        }
    }
    Ok(recording)
}
