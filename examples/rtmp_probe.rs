//! Publishes pictures that say when they were made, and plays them on the same machine to see how old they are.
//!
//! ```text
//! rtmp_probe publish URL --mbit 12 --fps 60 --gop 2 --keyframe-factor 1.5 --seconds 60 [--disposable 2]
//! rtmp_probe play URL [--seconds N] [--skip N] [--ages] [--quickack]
//! rtmp_probe relay LISTEN TO
//! ```
//!
//! `URL` is `rtmp://…`, or `tcp://IP:PORT` for the same messages without RTMP's sessions: `play` then listens there and
//! `publish` connects, through `relay`, which copies bytes from a socket to another one and is what there is to compare
//! with. One JSON object a line says how far they are, and at the end what came of it; ages are in microseconds.
//!
//! `scripts/bench/{congestion,latency,throughput}` run this. Sockets block and have `TCP_NODELAY`.

// A measuring program has the clock that it measures by, and its pace is a sleep.
#![allow(clippy::disallowed_methods)]

use punchcast::media::{Kind, Unit, avc};
use punchcast::rtmp::chunk::{Reader, Writer};
use punchcast::rtmp::message::{Message, VIDEO};
use punchcast::rtmp::{ClientEvent, ClientSession, Output, PlayConfig, PublishConfig, RtmpUrl};
use serde_json::json;
use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// What the product reads and announces: 64 KiB.
const PIECE: usize = 64 * 1024;

/// How long a server has to say that publishing or playing begins.
const START: Duration = Duration::from_secs(20);

/// Parameter sets of Baseline 3.1; no decoder sees the pictures.
const SPS: &[u8] = &[0x67, 0x42, 0xc0, 0x1f, 0x8c, 0x8d, 0x40];
const PPS: &[u8] = &[0x68, 0xce, 0x3c, 0x80];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let outcome = match words[..] {
        ["publish", url, ref options @ ..] => Pace::parse(options).and_then(|pace| publish(url, &pace)),
        ["play", url, ref options @ ..] => Playing::parse(options).and_then(|playing| play(url, playing)),
        ["relay", listen, to] => relay(listen, to),
        _ => Err("say publish URL …, play URL … or relay LISTEN TO".into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rtmp_probe: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Prints one JSON object a line, at once: who started this waits for it.
fn tell(line: &serde_json::Value) {
    println!("{line}");
    let _ = io::stdout().flush();
}

// ---------------------------------------------------------------------------------------------------------- publishing

/// What is published.
struct Pace {
    mbit: f64,
    fps: f64,
    /// Seconds from keyframe to keyframe.
    gop: f64,
    /// How much larger than the average a keyframe is.
    keyframe_factor: f64,
    /// Pictures that no other needs after each one that others do: 2 for IbbP.
    disposable: f64,
    seconds: f64,
}

/// What a picture is to the others.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Key,
    Needed,
    Disposable,
}

/// The size of a picture that no other needs, as a part of one that others do. x264 makes them a third to a half.
const DISPOSABLE_SIZE: f64 = 0.5;

impl Pace {
    fn parse(options: &[&str]) -> Outcome<Self> {
        let (keyframe_factor, disposable) = (1.5, 0.0);
        let mut pace = Self { mbit: 12.0, fps: 60.0, gop: 2.0, keyframe_factor, disposable, seconds: 10.0 };
        for pair in options.chunks(2) {
            let &[name, value] = pair else { return Err(format!("{}: a value is missing", pair[0]).into()) };
            *match name {
                "--mbit" => &mut pace.mbit,
                "--fps" => &mut pace.fps,
                "--gop" => &mut pace.gop,
                "--keyframe-factor" => &mut pace.keyframe_factor,
                "--disposable" => &mut pace.disposable,
                "--seconds" => &mut pace.seconds,
                _ => return Err(format!("publish knows no {name}").into()),
            } = value.parse()?;
        }
        Ok(pace)
    }

    /// Pictures from keyframe to keyframe.
    fn group(&self) -> u64 {
        (self.fps * self.gop).round().max(1.0) as u64
    }

    /// What the picture of this number is, in the order of decoding.
    fn role(&self, number: u64) -> Role {
        match number % self.group() {
            0 => Role::Key,
            place if place.is_multiple_of(self.disposable as u64 + 1) => Role::Needed,
            _ => Role::Disposable,
        }
    }

    /// Bytes of a keyframe and of another picture that is needed, so that a group has the bitrate.
    fn sizes(&self) -> (usize, usize) {
        let (average, group) = (self.mbit * 1e6 / 8.0 / self.fps, self.group());
        let key = if group > 1 { average * self.keyframe_factor } else { average };
        let weight = |number| match self.role(number) {
            Role::Key => 0.0,
            Role::Needed => 1.0,
            Role::Disposable => DISPOSABLE_SIZE,
        };
        let weights: f64 = (0..group).map(weight).sum();
        let needed = (group as f64 * average - key) / weights.max(1.0);
        (key as usize, needed.max(0.0) as usize)
    }
}

fn publish(url: &str, pace: &Pace) -> Outcome<()> {
    let mut sender = Sender::connect(url)?;
    tell(&json!({"event": "publishing"}));
    sender.send(&avc::sequence_header(0, &avc::Config::new(SPS, PPS)?))?;
    let (key_size, needed_size) = pace.sizes();
    let filler = vec![0xa5; key_size.max(needed_size)];
    let began = Instant::now();
    let (mut latest, mut bytes) = (Duration::ZERO, 0);
    let pictures = (pace.seconds * pace.fps) as u64;
    for number in 0..pictures {
        let due = began + Duration::from_secs_f64(number as f64 / pace.fps);
        sender.wait_until(due)?;
        latest = latest.max(due.elapsed());
        let timestamp = (number as f64 * 1000.0 / pace.fps) as u32;
        // The slice's header says the same.
        let (size, header) = match pace.role(number) {
            Role::Key => (key_size, 0x65),
            Role::Needed => (needed_size, 0x41),
            Role::Disposable => ((needed_size as f64 * DISPOSABLE_SIZE) as usize, 0x01),
        };
        let stamp = avc::Stamp { frame: number, wall_us: wall_us() }.sei();
        let mut slice = filler[..size.saturating_sub(stamp.len() + 13).max(1)].to_vec();
        slice[0] = header;
        let unit = avc::picture(timestamp, header == 0x65, &[&stamp, &slice]);
        bytes += unit.payload.len();
        sender.send(&unit)?;
    }
    let took = began.elapsed();
    sender.finish()?;
    tell(&json!({"event": "published", "pictures": pictures, "bytes": bytes, "seconds": took.as_secs_f64(),
        "late_us_max": latest.as_micros() as u64}));
    Ok(())
}

/// Where pictures go.
enum Sender {
    Session { session: Box<ClientSession>, stream: TcpStream, heard: Receiver<Vec<u8>> },
    Raw { writer: Writer, stream: TcpStream },
}

impl Sender {
    fn connect(url: &str) -> Outcome<Self> {
        if let Some(addr) = url.strip_prefix("tcp://") {
            let (mut writer, mut stream, mut head) = (Writer::new(), connect(addr)?, Vec::new());
            writer.set_chunk_size(PIECE as u32, &mut head);
            stream.write_all(&head)?;
            return Ok(Self::Raw { writer, stream });
        }
        let stream = connect(&address(url)?)?;
        // What the server says (acknowledgements, pings) must not wait for the next picture, nor the picture for it.
        let (said, heard) = channel();
        let mut reading = stream.try_clone()?;
        thread::spawn(move || {
            let mut piece = vec![0; PIECE];
            while let Ok(count @ 1..) = reading.read(&mut piece) {
                if said.send(piece[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        let session = Box::new(ClientSession::publisher(PublishConfig::new(url)?));
        let mut sender = Self::Session { session, stream, heard };
        let deadline = Instant::now() + START;
        while !sender.drain()? {
            if Instant::now() > deadline {
                return Err("the server does not let us publish".into());
            }
            sender.wait_for_words(deadline)?;
        }
        Ok(sender)
    }

    /// Waits, and answers what the server says meanwhile.
    fn wait_until(&mut self, due: Instant) -> Outcome<()> {
        match self {
            Self::Session { .. } => {
                while self.wait_for_words(due)? {
                    self.drain()?;
                }
            }
            Self::Raw { .. } => thread::sleep(due.saturating_duration_since(Instant::now())),
        }
        Ok(())
    }

    /// Takes what the server says next; `false` if it is silent until then.
    fn wait_for_words(&mut self, until: Instant) -> Outcome<bool> {
        let Self::Session { session, heard, .. } = self else { return Ok(false) };
        match heard.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(bytes) => session.handle_input(&bytes)?,
            Err(RecvTimeoutError::Timeout) => return Ok(false),
            Err(RecvTimeoutError::Disconnected) => return Err("the server has left".into()),
        }
        Ok(true)
    }

    /// Sends what the session has to say, by one call, as a raw sender does; whether publishing has begun by it.
    fn drain(&mut self) -> Outcome<bool> {
        let Self::Session { session, stream, .. } = self else { return Ok(false) };
        let (mut begun, mut bytes) = (false, Vec::new());
        while let Some(output) = session.poll_output() {
            match output {
                Output::Transmit(piece) => bytes.extend_from_slice(&piece),
                Output::Event(event) => begun |= event == ClientEvent::Publishing,
            }
        }
        stream.write_all(&bytes)?;
        Ok(begun)
    }

    fn send(&mut self, unit: &Unit) -> Outcome<()> {
        match self {
            Self::Session { session, .. } => {
                session.send_media(unit)?;
                self.drain()?;
            }
            Self::Raw { writer, stream } => {
                let payload = unit.payload.clone();
                let message = Message { kind: VIDEO, stream: 1, timestamp: unit.timestamp, payload };
                let mut bytes = Vec::new();
                writer.write(VIDEO_CHANNEL, &message, &mut bytes)?;
                stream.write_all(&bytes)?;
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Outcome<()> {
        if let Self::Session { session, .. } = self {
            session.finish();
            self.drain()?;
        }
        let (Self::Session { stream, .. } | Self::Raw { stream, .. }) = self;
        Ok(stream.shutdown(Shutdown::Write)?)
    }
}

// ------------------------------------------------------------------------------------------------------------- playing

/// What is told of what is played.
#[derive(Default)]
struct Playing {
    /// Ends so many seconds after the first picture, if the stream has not ended before.
    seconds: Option<f64>,
    /// Counts only what comes so many seconds after the first picture.
    skip: f64,
    /// Tells each age.
    ages: bool,
    /// Acknowledges at once whatever comes, for senders that wait for it.
    quickack: bool,
}

impl Playing {
    fn parse(options: &[&str]) -> Outcome<Self> {
        let (mut playing, mut words) = (Self::default(), options.iter());
        while let Some(&name) = words.next() {
            let mut number =
                || words.next().ok_or("a value is missing")?.parse().map_err(Box::<dyn Error>::from);
            match name {
                "--seconds" => playing.seconds = Some(number()?),
                "--skip" => playing.skip = number()?,
                "--ages" => playing.ages = true,
                "--quickack" => playing.quickack = true,
                _ => return Err(format!("play knows no {name}").into()),
            }
        }
        Ok(playing)
    }
}

fn play(url: &str, playing: Playing) -> Outcome<()> {
    let mut seen = Seen::new(playing);
    if let Some(addr) = url.strip_prefix("tcp://") {
        let listener = TcpListener::bind(addr)?;
        tell(&json!({"event": "playing"}));
        let (stream, _) = listener.accept()?;
        let mut reader = Reader::new();
        receive(stream, &mut seen, |mut bytes, seen| {
            while let Some(message) = reader.read(&mut bytes)? {
                if message.kind == VIDEO {
                    let Message { timestamp, payload, .. } = message;
                    seen.unit(&Unit { kind: Kind::Video, timestamp, payload });
                }
            }
            Ok(Vec::new())
        })?;
    } else {
        let mut session = ClientSession::player(PlayConfig::new(url)?);
        let mut stream = connect(&address(url)?)?;
        while let Some(output) = session.poll_output() {
            if let Output::Transmit(bytes) = output {
                stream.write_all(&bytes)?;
            }
        }
        receive(stream, &mut seen, |bytes, seen| {
            session.handle_input(bytes)?;
            let mut answer = Vec::new();
            while let Some(output) = session.poll_output() {
                match output {
                    Output::Transmit(bytes) => answer.extend(bytes),
                    Output::Event(ClientEvent::Playing) => tell(&json!({"event": "playing"})),
                    Output::Event(ClientEvent::Media(unit)) => seen.unit(&unit),
                    Output::Event(ClientEvent::Ended) => seen.over = true,
                    Output::Event(ClientEvent::Publishing) => {}
                }
            }
            Ok(answer)
        })?;
    }
    tell(&seen.summary());
    Ok(())
}

/// Feeds `take` what comes, and sends what it answers, until the stream or the time is over.
fn receive(
    mut stream: TcpStream,
    seen: &mut Seen,
    mut take: impl FnMut(&[u8], &mut Seen) -> Outcome<Vec<u8>>,
) -> Outcome<()> {
    // Only so that the end is looked for in a silent stream, too.
    stream.set_read_timeout(Some(Duration::from_millis(200)))?;
    let mut piece = vec![0; PIECE];
    while !seen.is_over() {
        if seen.playing.quickack {
            // The kernel forgets it with each answer.
            quick_ack(&stream)?;
        }
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => {
                let answer = take(&piece[..count], seen)?;
                if !answer.is_empty() {
                    stream.write_all(&answer)?;
                }
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// What was seen of a stream.
struct Seen {
    playing: Playing,
    first: Option<Instant>,
    last: Option<Instant>,
    /// Arrival since the first picture, number, age.
    pictures: Vec<(Duration, u64, u64)>,
    bytes: u64,
    /// The longest time without a picture.
    longest: Duration,
    over: bool,
}

impl Seen {
    const fn new(playing: Playing) -> Self {
        let pictures = Vec::new();
        Self { playing, first: None, last: None, pictures, bytes: 0, longest: Duration::ZERO, over: false }
    }

    fn unit(&mut self, unit: &Unit) {
        let (now, wall) = (Instant::now(), wall_us());
        let Some(stamp) = avc::stamp(unit) else { return };
        if self.first.is_none() {
            tell(&json!({"event": "first-picture"}));
        }
        let first = *self.first.get_or_insert(now);
        let at = now - first;
        if at.as_secs_f64() >= self.playing.skip {
            self.bytes += unit.payload.len() as u64;
            self.pictures.push((at, stamp.frame, wall.saturating_sub(stamp.wall_us)));
            self.longest = self.longest.max(self.last.map_or(Duration::ZERO, |last| now - last));
            self.last = Some(now);
        }
    }

    fn is_over(&self) -> bool {
        let limit = |seconds| self.first.is_some_and(|first| first.elapsed().as_secs_f64() >= seconds);
        self.over || self.playing.seconds.is_some_and(limit)
    }

    fn summary(&self) -> serde_json::Value {
        let ages: Vec<u64> = self.pictures.iter().map(|&(_, _, age)| age).collect();
        let mut jumps = Vec::new();
        for pair in self.pictures.windows(2) {
            if pair[1].1 > pair[0].1 + 1 {
                jumps.push(pair[1].1 - pair[0].1 - 1);
            }
        }
        let span = |pictures: &[(Duration, u64, u64)]| match pictures {
            [first, .., last] => (last.0 - first.0).as_secs_f64(),
            _ => 0.0,
        };
        let mut seconds: Vec<Vec<u64>> = Vec::new();
        for &(at, _, age) in &self.pictures {
            seconds.resize_with(seconds.len().max(at.as_secs() as usize + 1), Vec::new);
            seconds[at.as_secs() as usize].push(age);
        }
        let each: Vec<_> =
            seconds.iter().map(|ages| json!({"frames": ages.len(), "p50": part(ages, 50)})).collect();
        json!({
            "event": "played",
            "frames": ages.len(),
            "bytes": self.bytes,
            "seconds": span(&self.pictures),
            "missing": jumps.iter().sum::<u64>(),
            "gaps": jumps.len(),
            "longest_ms": self.longest.as_millis() as u64,
            "age_us": {"p50": part(&ages, 50), "p99": part(&ages, 99), "max": ages.iter().max()},
            "each_second": each,
            "ages_us": self.playing.ages.then_some(ages),
        })
    }
}

/// The age that so many of 100 pictures do not exceed.
fn part(ages: &[u64], hundredths: usize) -> Option<u64> {
    let mut sorted = ages.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() * hundredths / 100).copied()
}

// ------------------------------------------------------------------------------------------------------------ relaying

fn relay(listen: &str, to: &str) -> Outcome<()> {
    let listener = TcpListener::bind(listen)?;
    tell(&json!({"event": "relaying", "addr": listener.local_addr()?.to_string()}));
    loop {
        let (near, _) = listener.accept()?;
        near.set_nodelay(true)?;
        let far = connect(to)?;
        let (near_too, far_too) = (near.try_clone()?, far.try_clone()?);
        thread::spawn(move || copy(near, far));
        thread::spawn(move || copy(far_too, near_too));
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    let mut piece = vec![0; PIECE];
    while let Ok(count @ 1..) = from.read(&mut piece) {
        if to.write_all(&piece[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

// ------------------------------------------------------------------------------------------------------------- helpers

fn connect(addr: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(addr)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

#[cfg(target_os = "linux")]
fn quick_ack(stream: &TcpStream) -> io::Result<()> {
    socket2::SockRef::from(stream).set_tcp_quickack(true)
}

#[cfg(not(target_os = "linux"))]
fn quick_ack(_stream: &TcpStream) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

fn address(url: &str) -> Outcome<String> {
    let url = RtmpUrl::parse(url)?;
    Ok(format!("{}:{}", url.host, url.port))
}

/// Microseconds since the Unix epoch: the one clock that all programs of a machine share, in whatever namespace.
fn wall_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}

/// Any chunk stream whose header is one byte, as those that the sessions use are.
const VIDEO_CHANNEL: u32 = 6;
