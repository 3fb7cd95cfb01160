//! How long a picture takes from the caster's ingest to the canvas of the viewer's page in a real browser.
//!
//! ```text
//!  drawn, encoded ─▶ RTMP ─▶ punchcast cast ─▶ the encrypted link ─▶ punchcast view ─▶ WebSocket ─▶ Chromium: canvas
//!                  ▲ sent                                                                  read back ▲
//! ```
//!
//! Each picture of 1280x720 bears its number as a row of black and white squares. A script that is put into the page
//! before its own reads them off the canvas after each picture that is drawn there, and notes the time. Both ends read
//! this machine's clock. What is told: from the moment that the encoded picture is written to the caster's RTMP port
//! (*sent*), and from the moment before it is drawn and encoded (*made*), to the moment that its number can be read
//! back; and the share that the browser's next frame comes later.
//!
//! `scripts/bench/page` runs this. It ends with 1 if half of the pictures take longer than [`TARGET`] from *sent*, or
//! if that drifts by more than [`MOST_DRIFT`] from the first window to the last.

#![allow(clippy::disallowed_methods, reason = "a measurement reads clocks")]

#[path = "../tests/interop/browser/chromium.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod chromium;
#[path = "../tests/netns/program.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod program;

use chromium::Chromium;
use program::Program;
use punchcast::media::avc::Stamp;
use punchcast::rtmp::{ClientEvent, ClientSession, Output, PublishConfig, RtmpUrl};
use punchcast_client::source::encoder::{Content, VideoConfig, VideoEncoder};
use punchcast_client::source::metadata::VideoMetadata;
use punchcast_client::source::picture::{Colour, Picture, Rect};
use std::hint::black_box;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const WIDTH: usize = 1280;
const HEIGHT: usize = 720;
const FPS: u32 = 30;
const BITRATE: u32 = 4_000_000;
/// Pictures from one keyframe to the next.
const GROUP: u64 = 60;

/// The number's bits, then as many of a check.
const BITS: usize = 16;
const CHECK_BITS: usize = 8;
/// A bit's square, pixels.
const CELL: usize = 32;

/// Half of the pictures must be on the canvas this long after they were sent.
const TARGET: Duration = Duration::from_millis(20);
/// How much later half of them may come at the end than at the beginning.
const MOST_DRIFT: Duration = Duration::from_millis(10);
/// What is told of the course of time is told of this much.
const WINDOW: Duration = Duration::from_secs(10);
/// What is left out at the beginning: programs that start, decoders that warm up.
const WARM_UP: Duration = Duration::from_secs(4);
/// How long anything may take to start.
const START: Duration = Duration::from_secs(30);

/// Reads each picture's number off the canvas.
const HOOK: &str = "(() => {
  const codes = (globalThis.codes = []);
  const draw = CanvasRenderingContext2D.prototype.drawImage;
  const clock = () => performance.timeOrigin + performance.now();
  CanvasRenderingContext2D.prototype.drawImage = function (from, ...rest) {
    draw.call(this, from, ...rest);
    if (!(from instanceof VideoFrame)) return;
    const { data } = this.getImageData(0, 16, 24 * 32, 1);
    let bits = 0;
    for (let at = 0; at < 24; at += 1) bits = bits * 2 + (data[(at * 32 + 16) * 4] > 128 ? 1 : 0);
    const entry = [bits, clock(), 0];
    codes.push(entry);
    requestAnimationFrame(() => (entry[2] = clock()));
  };
})()";

/// When a picture was made and sent, since the epoch.
#[derive(Clone, Copy)]
struct Sent {
    made: Duration,
    sent: Duration,
}

/// One picture's way, and when it ended since the first one's.
struct Sample {
    at: Duration,
    from_sent: Duration,
    from_made: Duration,
    /// From the canvas to the browser's next frame.
    to_frame: Option<Duration>,
}

struct Options {
    time: Duration,
    load: bool,
    screenshot: Option<PathBuf>,
}

fn main() -> ExitCode {
    let options = options();
    let Some(browser) = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"]
        .iter()
        .map(Path::new)
        .find(|path| path.exists())
    else {
        eprintln!("SKIPPED: no Chromium here; scripts/setup installs it");
        return ExitCode::SUCCESS;
    };
    let over = Arc::new(AtomicBool::new(false));
    let load: Vec<_> = (0..if options.load { cores() } else { 0 })
        .map(|_| {
            let over = Arc::clone(&over);
            thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    black_box((0..10_000_u64).fold(0, |sum: u64, term| sum.wrapping_mul(31) + term));
                }
            })
        })
        .collect();
    let samples = measure(browser, &options, &over);
    over.store(true, Ordering::Relaxed);
    for thread in load {
        thread.join().expect("it only counts");
    }
    if tell(&samples, &options) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn options() -> Options {
    let mut options = Options { time: Duration::from_secs(60), load: false, screenshot: None };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--long" => options.time = Duration::from_secs(300),
            "--seconds" => {
                let seconds = args.next().and_then(|text| text.parse().ok()).expect("--seconds N");
                options.time = Duration::from_secs(seconds);
            }
            "--load" => options.load = true,
            "--screenshot" => options.screenshot = args.next().map(PathBuf::from),
            other => panic!("{other}: there are --seconds N, --long, --load and --screenshot FILE"),
        }
    }
    options
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Casts to a browser for as long as was asked for.
fn measure(browser: &Path, options: &Options, over: &Arc<AtomicBool>) -> Vec<Sample> {
    let binary = binary();
    let mut viewer = Program::start(
        "viewer",
        Command::new(&binary).args(["view", "--json", "--no-port-mapping", "--page", "127.0.0.1:0"]),
    );
    let ready = viewer.event("ready", START);
    let ticket = ready["ticket"].as_str().expect("a ticket");
    let page = ready["page"].as_str().expect("a page");
    let mut caster = Program::start(
        "caster",
        Command::new(&binary).args([
            "cast",
            ticket,
            "--json",
            "--no-port-mapping",
            "--source",
            "rtmp",
            "--rtmp",
            "127.0.0.1:0",
        ]),
    );
    let ingest = caster.event("ready", START)["rtmp"].as_str().expect("an ingest").to_owned();
    viewer.event("link", START);

    let scratch = std::env::temp_dir();
    let mut browser = Chromium::start(browser, &scratch, (WIDTH as u32, HEIGHT as u32));
    browser.appear(WIDTH as u32, HEIGHT as u32, "dark");
    browser.prelude(HOOK);
    browser.open(page);
    browser.wait_for("document.body.dataset.socket === 'up'");
    let ended = Arc::clone(over);
    let publisher = thread::spawn(move || publish(&ingest, &ended));
    browser.wait_for("codes.length > 0");

    let end = Instant::now() + WARM_UP + options.time;
    let mut seen = Vec::new();
    while Instant::now() < end {
        thread::sleep(Duration::from_secs(1));
        // The last two may still wait for their frame.
        let taken = browser.evaluate("codes.splice(0, Math.max(codes.length - 2, 0))");
        seen.extend(taken.as_array().expect("a list").iter().filter_map(reading));
    }
    if let Some(file) = &options.screenshot {
        std::fs::write(file, browser.screenshot()).expect("a file for the screenshot");
    }
    let words = browser.evaluate("punchcast.tiles.get(0).root.querySelector('.stats dl').innerText");
    println!("the page says: {}", words.as_str().unwrap_or_default().replace('\n', " "));
    over.store(true, Ordering::Relaxed);
    let sent = publisher.join().expect("the publisher publishes");
    samples(&sent, &seen)
}

/// A picture's number, and when it was on the canvas and the browser's frame after it began, since the epoch.
fn reading(entry: &serde_json::Value) -> Option<(u16, Duration, Option<Duration>)> {
    let bits = entry[0].as_u64()?;
    let number = (bits >> CHECK_BITS) as u16;
    let sound = check(number) == (bits & ((1 << CHECK_BITS) - 1)) as u8;
    let time = |at: usize| entry[at].as_f64().map(|millis| Duration::from_secs_f64(millis / 1000.0));
    if !sound {
        println!("a number could not be read: {bits:x}");
        return None;
    }
    Some((number, time(1)?, time(2).filter(|time| !time.is_zero())))
}

fn check(number: u16) -> u8 {
    let [high, low] = number.to_be_bytes();
    high.wrapping_mul(7) ^ low.wrapping_mul(13) ^ 0x5a
}

fn samples(sent: &[Sent], seen: &[(u16, Duration, Option<Duration>)]) -> Vec<Sample> {
    let Some(&(_, first, _)) = seen.first() else { return Vec::new() };
    seen.iter()
        .filter_map(|&(number, drawn, frame)| {
            // A run has fewer pictures than there are numbers.
            let Sent { made, sent } = *sent.get(usize::from(number))?;
            Some(Sample {
                at: drawn.saturating_sub(first),
                from_sent: drawn.saturating_sub(sent),
                from_made: drawn.saturating_sub(made),
                to_frame: frame.map(|frame| frame.saturating_sub(drawn)),
            })
        })
        .filter(|sample| sample.at >= WARM_UP)
        .collect()
}

/// Publishes numbered pictures until it is told to end. When each was made and sent.
fn publish(ingest: &str, over: &AtomicBool) -> Vec<Sent> {
    let began = Instant::now();
    let epoch = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock that is set");
    let wall = || epoch + began.elapsed();
    let config = PublishConfig::new(ingest).expect("an address");
    let RtmpUrl { host, port, .. } = RtmpUrl::parse(ingest).expect("the same");
    let mut session = ClientSession::publisher(config);
    let mut stream = TcpStream::connect((host, port)).expect("the caster listens");
    stream.set_nodelay(true).expect("an option");
    while !talk(&mut session, &mut stream) {}
    stream.set_nonblocking(true).expect("an option");
    let metadata = VideoMetadata { width: WIDTH as u32, height: HEIGHT as u32, fps: FPS, bitrate: BITRATE };
    session.send_media(&metadata.unit()).expect("a small unit");

    let video = VideoConfig { fps: FPS, bitrate: BITRATE, content: Content::Camera };
    let mut encoder = VideoEncoder::new(video).expect("an encoder");
    let mut picture = Picture::new(WIDTH, HEIGHT, Colour::rgb(20, 40, 60));
    let mut times = Vec::new();
    let start = Instant::now();
    for number in 0..=u16::MAX {
        let due = start + Duration::from_secs(1) * u32::from(number) / FPS;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if over.load(Ordering::Relaxed) {
            break;
        }
        let made = wall();
        draw(&mut picture, number);
        let stamp = Stamp { frame: number.into(), wall_us: made.as_micros() as u64 };
        let keyframe = u64::from(number).is_multiple_of(GROUP);
        let timestamp = start.elapsed().as_millis() as u32;
        let mut units = Vec::new();
        encoder
            .encode(&picture, timestamp, stamp, keyframe, |unit| {
                units.push(unit);
                true
            })
            .expect("the encoder encodes");
        times.push(Sent { made, sent: wall() });
        for unit in units {
            session.send_media(&unit).expect("a unit of usual size");
        }
        talk(&mut session, &mut stream);
    }
    times
}

/// Sends what there is to send and reads what came. Whether the server takes media.
fn talk(session: &mut ClientSession, stream: &mut TcpStream) -> bool {
    let mut publishing = false;
    while let Some(output) = session.poll_output() {
        match output {
            Output::Transmit(bytes) => send(stream, &bytes),
            Output::Event(event) => publishing |= event == ClientEvent::Publishing,
        }
    }
    let mut bytes = [0; 4096];
    match stream.read(&mut bytes) {
        Ok(count) => session.handle_input(&bytes[..count]).expect("the caster speaks RTMP"),
        Err(error) if error.kind() == ErrorKind::WouldBlock => {}
        Err(error) => panic!("the caster: {error}"),
    }
    while let Some(output) = session.poll_output() {
        match output {
            Output::Transmit(bytes) => send(stream, &bytes),
            Output::Event(event) => publishing |= event == ClientEvent::Publishing,
        }
    }
    publishing
}

fn send(stream: &mut TcpStream, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::yield_now(),
            Err(error) => panic!("the caster: {error}"),
        }
    }
}

/// A picture that moves, with its number above.
fn draw(picture: &mut Picture, number: u16) {
    let step = usize::from(number);
    for row in 0..4 {
        let band = Rect::new(0, 100 + row * 150, WIDTH, 140);
        picture.fill(band, Colour::rgb(30 + 50 * row as u8, 120, 200 - 40 * row as u8));
        let x = (step * (4 + 3 * row)) % (WIDTH - 200);
        picture.fill(Rect::new(x, 110 + row * 150, 160, 120), Colour::rgb(230, 210, 40 * row as u8));
    }
    let bits = (u32::from(number) << CHECK_BITS) | u32::from(check(number));
    for at in 0..BITS + CHECK_BITS {
        let white = bits >> (BITS + CHECK_BITS - 1 - at) & 1 == 1;
        let level = if white { 255 } else { 0 };
        picture.fill(Rect::new(at * CELL, 0, CELL, CELL), Colour::rgb(level, level, level));
    }
}

/// Tells the figures. Whether they are what they should be.
fn tell(samples: &[Sample], options: &Options) -> bool {
    let from_sent: Vec<Duration> = samples.iter().map(|sample| sample.from_sent).collect();
    let from_made: Vec<Duration> = samples.iter().map(|sample| sample.from_made).collect();
    let to_frame: Vec<Duration> = samples.iter().filter_map(|sample| sample.to_frame).collect();
    let expected = options.time.as_secs() * u64::from(FPS);
    let load =
        if options.load { format!(", {} threads that only count beside it", cores()) } else { String::new() };
    println!("{WIDTH}x{HEIGHT} at {FPS} a second, {} of about {expected} pictures seen{load}", samples.len());
    for (what, times) in [
        ("sent → on the canvas", &from_sent),
        ("drawn and encoded → on the canvas", &from_made),
        ("on the canvas → the browser's next frame", &to_frame),
    ] {
        println!("  {what}: p50 {} ms, p99 {} ms", millis(share(times, 50)), millis(share(times, 99)));
    }
    let mut windows = Vec::new();
    let count = (options.time.as_secs() / WINDOW.as_secs()) as u32;
    for window in 0..count {
        let range = WARM_UP + WINDOW * window..WARM_UP + WINDOW * (window + 1);
        let times: Vec<Duration> = samples
            .iter()
            .filter(|sample| range.contains(&sample.at))
            .map(|sample| sample.from_sent)
            .collect();
        windows.push(share(&times, 50));
    }
    let text: Vec<String> = windows.iter().map(|time| millis(*time)).collect();
    println!("  p50 of each {} s: {}", WINDOW.as_secs(), text.join(" "));
    let drift = match (windows.first(), windows.last()) {
        (Some(first), Some(last)) => last.saturating_sub(*first),
        _ => Duration::ZERO,
    };
    println!("  drift: {} ms", millis(drift));
    let median = share(&from_sent, 50);
    let ok = !samples.is_empty() && median <= TARGET && drift <= MOST_DRIFT;
    println!("{}", if ok { "ok" } else { "MISSED: p50 of 20 ms, drift of 10 ms" });
    ok
}

fn share(times: &[Duration], hundredths: usize) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    times.get(times.len().saturating_sub(1) * hundredths / 100).copied().unwrap_or_default()
}

fn millis(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1000.0)
}

/// The program beside this one.
fn binary() -> PathBuf {
    let own = std::env::current_exe().expect("a program knows its file");
    let folder = own.parent().and_then(Path::parent).expect("examples are in a folder of their own");
    folder.join("punchcast")
}
