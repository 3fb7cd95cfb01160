//! An FLV file, or FLV from standard input, as a source.
//!
//! Both are played at the speed of their timestamps, the first unit at once. Standard input is mostly live already:
//! what comes at its own speed is late by the time it is read, and goes on as it comes. What is piped faster than that
//! waits in the pipe, so that its writer feels it and nothing is left out.

use super::SourceEvent;
use super::control::{Control, now};
use punchcast::media::flv::Reader;
use punchcast::media::{Content, Unit};
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Bytes to read at a time.
const READ_SIZE: usize = 64 << 10;

/// Pieces of [`READ_SIZE`] that standard input may be ahead of `emit`. What is beyond waits in the pipe, so that the
/// writer feels it.
const READ_AHEAD: usize = 4;

/// How soon a stop is noticed while standard input is silent; nothing can interrupt a blocking read.
const STOP_LATENCY: Duration = Duration::from_millis(100);

/// The largest step between two timestamps that is waited for, in milliseconds: a slide may stand for long where there is no
/// sound. A larger one, or one back by more than [`MAX_STEP_BACK`], is a cut between two recordings, not a pause: their clocks
/// may be hours apart.
const MAX_STEP: i32 = 60_000;

/// How far back audio may stand behind the video before it in a well-made file, in milliseconds.
const MAX_STEP_BACK: i32 = 2_000;

/// What is wrong with a file that has a header and at most metadata.
const NOTHING: &str = "there is no picture in it, and no sound";

/// Where the bytes come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FlvInput {
    /// A file, played at the speed of its timestamps.
    File(PathBuf),
    /// Standard input, passed on as it comes, no earlier than its timestamps say.
    Stdin,
}

impl FlvInput {
    /// What `--source` names: `-` is standard input, all else is a file.
    #[must_use]
    pub fn from_arg(arg: &str) -> Self {
        if arg == "-" { Self::Stdin } else { Self::File(arg.into()) }
    }

    /// Whether a file is there and begins as FLV does: sooner told than after a link was made. Of what can be read only
    /// once (a pipe) nothing is known.
    ///
    /// # Errors
    /// In words, what is wrong.
    pub fn check(&self) -> Result<(), String> {
        let Self::File(path) = self else { return Ok(()) };
        let name = path.display();
        let unreadable = |error: io::Error| {
            if error.kind() == io::ErrorKind::NotFound {
                let sources = "rtmp, screen, browser, pattern, noise, or an FLV file";
                return format!("there is no file {name}; --source takes {sources}");
            }
            format!("{name} cannot be read: {error}")
        };
        let found = path.metadata().map_err(unreadable)?;
        if found.is_dir() {
            return Err(format!("{name} is a directory; --source takes an FLV file"));
        }
        if !found.is_file() {
            return Ok(());
        }
        let mut begin = Vec::new();
        let file = File::open(path).map_err(unreadable)?;
        file.take(READ_SIZE as u64).read_to_end(&mut begin).map_err(unreadable)?;
        let mut reader = Reader::new();
        reader.push(&begin);
        match reader.next() {
            Err(error) => Err(format!(
                "{name}: {error}; to make one: ffmpeg -i {name} -c:v libx264 -bf 0 -c:a aac -f flv NEW.flv"
            )),
            Ok(_) if begin.is_empty() => Err(format!("{name} is empty")),
            Ok(_) if !reader.begun() => Err(format!("{name} is too short for an FLV file")),
            Ok(None) if begin.len() < READ_SIZE => Err(format!("{name}: {NOTHING}")),
            Ok(_) => Ok(()),
        }
    }

    fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Stdin => "standard input".to_owned(),
        }
    }
}

/// Starts a thread that reads `input` and emits its units until its end, until it is stopped, or until `emit`
/// returns `false`. The thread gives the number of units that it emitted.
///
/// # Errors
/// When the thread cannot be started. A file that cannot be opened or read is [`SourceEvent::Failed`].
pub fn spawn_flv(
    input: FlvInput,
    control: Control,
    mut emit: impl FnMut(SourceEvent) -> bool + Send + 'static,
) -> io::Result<JoinHandle<u64>> {
    thread::Builder::new().name("flv source".into()).spawn(move || {
        let mut feed = Feed { control, pace: None, units: 0, coded: false, bytes: 0 };
        let outcome = match &input {
            FlvInput::File(path) => feed.play(File::open(path), &mut emit),
            FlvInput::Stdin => feed.relay(io::stdin(), &mut emit),
        };
        match outcome {
            Ok(Outcome::Ended) => {
                emit(SourceEvent::Ended);
            }
            Ok(Outcome::Cut(at)) => {
                let cut = format!("{} was cut inside a tag, at byte {at}", input.name());
                emit(SourceEvent::Cut(cut));
            }
            Ok(Outcome::Stopped) => {}
            Err(why) => {
                emit(SourceEvent::Failed(format!("{}: {why}", input.name())));
            }
        }
        feed.units
    })
}

enum Outcome {
    Ended,
    /// Within a tag, which is left out, after so many bytes.
    Cut(u64),
    Stopped,
}

/// The state of one reading.
struct Feed {
    control: Control,
    pace: Option<Pace>,
    units: u64,
    /// Pictures or sound are among them.
    coded: bool,
    bytes: u64,
}

impl Feed {
    /// Reads a file at the speed of its timestamps.
    fn play(
        &mut self,
        file: io::Result<impl Read>,
        emit: &mut impl FnMut(SourceEvent) -> bool,
    ) -> Result<Outcome, String> {
        let mut file = file.map_err(|error| error.to_string())?;
        let mut reader = Reader::new();
        let mut buffer = vec![0; READ_SIZE];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => return self.end(&reader),
                Ok(read) => {
                    if !self.take(&mut reader, &buffer[..read], emit)? {
                        return Ok(Outcome::Stopped);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    /// Passes a stream on as it comes, no earlier than its timestamps say. Its reader has a thread of its own, which a silent stream leaves
    /// blocked, after this one has ended, until the program ends.
    fn relay(
        &mut self,
        input: impl Read + Send + 'static,
        emit: &mut impl FnMut(SourceEvent) -> bool,
    ) -> Result<Outcome, String> {
        let pieces = read_ahead(input).map_err(|error| error.to_string())?;
        let mut reader = Reader::new();
        while !self.control.stopped() {
            match pieces.recv_timeout(STOP_LATENCY) {
                Ok(Ok(piece)) => {
                    if !self.take(&mut reader, &piece, emit)? {
                        return Ok(Outcome::Stopped);
                    }
                }
                Ok(Err(error)) => return Err(error.to_string()),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.end(&reader),
            }
        }
        Ok(Outcome::Stopped)
    }

    /// Emits the units that `bytes` complete; `false` when it was stopped.
    fn take(
        &mut self,
        reader: &mut Reader,
        bytes: &[u8],
        emit: &mut impl FnMut(SourceEvent) -> bool,
    ) -> Result<bool, String> {
        self.bytes += bytes.len() as u64;
        reader.push(bytes);
        while let Some(unit) = reader.next().map_err(|error| error.to_string())? {
            if !self.wait_for(&unit) || self.control.stopped() {
                return Ok(false);
            }
            self.coded |= unit.packet().is_some_and(|packet| packet.content == Content::Frames);
            if !emit(SourceEvent::Unit(unit, None)) {
                return Ok(false);
            }
            self.units += 1;
        }
        Ok(true)
    }

    fn wait_for(&mut self, unit: &Unit) -> bool {
        let pace = self.pace.get_or_insert_with(|| Pace::new(now(), unit.timestamp));
        let due = pace.due(unit.timestamp, now);
        self.control.wait_until(due)
    }

    fn end(&self, reader: &Reader) -> Result<Outcome, String> {
        if !reader.begun() {
            return Err(format!("not an FLV file (it ends after {} bytes)", self.bytes));
        }
        match (reader.truncated(), self.coded) {
            (true, true) => Ok(Outcome::Cut(self.bytes)),
            (true, false) => Err(format!("{NOTHING}: it was cut inside a tag, at byte {}", self.bytes)),
            (false, true) => Ok(Outcome::Ended),
            (false, false) => Err(NOTHING.into()),
        }
    }
}

fn read_ahead(mut input: impl Read + Send + 'static) -> io::Result<Receiver<io::Result<Vec<u8>>>> {
    let (sender, receiver) = sync_channel(READ_AHEAD);
    thread::Builder::new().name("flv input".into()).spawn(move || {
        let mut buffer = vec![0; READ_SIZE];
        loop {
            let piece = match input.read(&mut buffer) {
                Ok(0) => return,
                Ok(read) => Ok(buffer[..read].to_vec()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
            let failed = piece.is_err();
            if sender.send(piece).is_err() || failed {
                return;
            }
        }
    })?;
    Ok(receiver)
}

/// Turns timestamps into deadlines.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// When timestamp `origin` is or was due.
    start: Instant,
    origin: u32,
    last: u32,
    /// Milliseconds from `origin` to `last`, which do not wrap.
    elapsed: u64,
}

impl Pace {
    const fn new(start: Instant, origin: u32) -> Self {
        Self { start, origin, last: origin, elapsed: 0 }
    }

    /// When a unit with this timestamp is due. After a cut, at once.
    fn due(&mut self, timestamp: u32, now: impl FnOnce() -> Instant) -> Instant {
        let step = timestamp.wrapping_sub(self.last) as i32;
        if !(-MAX_STEP_BACK..=MAX_STEP).contains(&step) {
            *self = Self::new(now(), timestamp);
        } else if step > 0 {
            self.elapsed += step as u64;
            self.last = timestamp;
        }
        debug_assert_eq!(self.origin.wrapping_add(self.elapsed as u32), self.last);
        self.start + Duration::from_millis(self.elapsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use punchcast::media::Kind;
    use punchcast::media::flv::Writer;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any instant serves as the start")]
    fn deadlines_follow_timestamps_across_the_wrap_and_start_over_at_a_cut() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let mut pace = Pace::new(start, u32::MAX - 9);
        assert_eq!(pace.due(u32::MAX - 9, || unreachable!()), start);
        assert_eq!(pace.due(30, || unreachable!()), after(40));
        assert_eq!(pace.due(10, || unreachable!()), after(40), "audio behind its video does not wait");
        assert_eq!(pace.due(70, || unreachable!()), after(80));
        assert_eq!(pace.due(60_070, || unreachable!()), after(60_080), "a minute may be a slide's");
        assert_eq!(pace.due(120_071, || after(60_090)), after(60_090), "more is a cut");
        assert_eq!(pace.due(3_600_000, || after(100)), after(100), "and so is an hour");
        assert_eq!(pace.due(3_600_040, || unreachable!()), after(140));
        assert_eq!(pace.due(0, || after(150)), after(150), "so is a leap back");
    }

    /// Standard input as a test has it: pieces that come when they are sent.
    struct Pipe(Receiver<Vec<u8>>);

    impl Read for Pipe {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let Ok(piece) = self.0.recv() else { return Ok(0) };
            buffer[..piece.len()].copy_from_slice(&piece);
            Ok(piece.len())
        }
    }

    fn feed(control: &Control) -> Feed {
        Feed { control: control.clone(), pace: None, units: 0, coded: false, bytes: 0 }
    }

    #[test]
    fn a_pipe_is_passed_on_as_it_comes_and_no_faster_than_its_timestamps() {
        let writer = Writer::new(true, false);
        // The last two are an hour apart, which is a cut: were it waited for, the test would not end.
        let units = [0, 60, 3_600_000].map(|timestamp| Unit {
            kind: Kind::Audio,
            timestamp,
            payload: vec![0xaf, 1, timestamp as u8].into(),
        });
        let (sender, receiver) = std::sync::mpsc::channel();
        sender.send(writer.header().to_vec()).unwrap();
        for unit in &units {
            sender.send(writer.tag(unit)).unwrap();
        }
        drop(sender);
        let began = now();
        let mut seen = Vec::new();
        let outcome = feed(&Control::new()).relay(Pipe(receiver), &mut |event| {
            seen.push(event);
            true
        });
        assert!(matches!(outcome, Ok(Outcome::Ended)));
        assert_eq!(seen, units.map(|unit| SourceEvent::Unit(unit, None)));
        assert!(now() >= began + Duration::from_millis(60), "all of it was there at once");
    }

    #[test]
    fn a_silent_live_stream_can_be_stopped() {
        let control = Control::new();
        let (_sender, receiver) = std::sync::mpsc::channel();
        let stopper = control.clone();
        let thread = thread::spawn(move || stopper.stop());
        let outcome = feed(&control).relay(Pipe(receiver), &mut |event| panic!("{event:?}"));
        assert!(matches!(outcome, Ok(Outcome::Stopped)));
        thread.join().unwrap();
    }
}
