//! ffmpeg and ffprobe as sources and as judges.

use crate::program::Program;
use crate::scene::START;
use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

/// How long a judge may take over a file of some seconds, in seconds, on a machine that builds something meanwhile.
const PATIENCE: &str = "60";

/// The picture's size in every test here, as ffmpeg writes it.
pub(crate) const SIZE: &str = "640x360";

/// Frames a second of every source here.
pub(crate) const RATE: &str = "25";

/// Whether all of `programs` are here. If not, it says so where nobody overlooks it.
pub(crate) fn have(programs: &[&str]) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let missing: Vec<&str> = programs
        .iter()
        .copied()
        .filter(|program| !env::split_paths(&path).any(|folder| folder.join(program).exists()))
        .collect();
    if missing.is_empty() {
        return true;
    }
    let required = env::var("PUNCHCAST_REQUIRE_LAB").is_ok_and(|value| value == "1");
    assert!(!required, "missing here: {}; scripts/setup installs them", missing.join(", "));
    let test = thread::current().name().unwrap_or_default().to_owned();
    // Written straight to the descriptor: the test harness would keep what a passing test prints.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {test}: missing here: {}", missing.join(", "));
    false
}

/// An X server on which nothing moves, and its display's name.
pub(crate) fn display() -> (Program, String) {
    let mut server = Program::start(
        "Xvfb",
        Command::new("Xvfb").args(["-displayfd", "1", "-nolisten", "tcp", "-screen", "0", "640x360x24"]),
    );
    let number =
        server.line(START, |line| line.bytes().all(|byte| byte.is_ascii_digit()) && !line.is_empty());
    let name = format!(":{number}");
    (server, name)
}

/// A figure that no test judges; `--nocapture` shows it.
pub(crate) fn tell(what: &str) {
    println!("figure: {}: {what}", thread::current().name().unwrap_or_default());
}

/// The address in an `rtmp://` URL.
pub(crate) fn addr_of(url: &str) -> SocketAddr {
    let addr = url.strip_prefix("rtmp://").and_then(|rest| rest.split('/').next());
    addr.and_then(|addr| addr.parse().ok()).expect("an rtmp URL with an address and a port")
}

/// A directory of one test alone, gone with it.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        let name = format!("interop-{}-{}", std::process::id(), SERIAL.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).expect("cargo's directory for tests takes another");
        Self(path)
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// An ffmpeg that reads no keyboard and says what matters only.
pub(crate) fn ffmpeg() -> Command {
    let mut command = Command::new("ffmpeg");
    quiet(&mut command);
    command
}

/// Gives an ffmpeg command its first arguments.
pub(crate) fn quiet(command: &mut Command) -> &mut Command {
    command.args(["-nostdin", "-nostats", "-hide_banner", "-v", "warning", "-y"])
}

/// What makes ffmpeg write one picture to the file that follows.
pub(crate) const ONE_PICTURE: [&str; 4] = ["-frames:v", "1", "-update", "1"];

/// Runs ffmpeg to its end; it must succeed and complain of nothing. What it wrote to standard output comes back.
pub(crate) fn judge<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Vec<u8> {
    let mut command = Command::new("timeout");
    command.args([PATIENCE, "ffmpeg"]);
    finish(quiet(&mut command).args(args))
}

/// Runs ffprobe on a file; it must complain of nothing.
pub(crate) fn probe<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> String {
    let mut command = Command::new("timeout");
    command.args([PATIENCE, "ffprobe", "-hide_banner", "-v", "warning", "-of", "compact=p=0:nk=1"]);
    String::from_utf8(finish(command.args(args))).expect("ffprobe writes text")
}

/// Runs a command to its end; it must succeed without a word on standard error.
pub(crate) fn finish(command: &mut Command) -> Vec<u8> {
    let Output { status, stdout, stderr } =
        command.stdin(Stdio::null()).output().expect("coreutils are everywhere");
    let complaints = String::from_utf8_lossy(&stderr);
    assert!(status.success() && complaints.is_empty(), "{status} of {command:?}\n{complaints}");
    stdout
}

/// Makes an FLV file of `seconds` of ffmpeg's moving test picture with a tone, a keyframe each second.
pub(crate) fn make_source(path: &Path, seconds: u32) {
    let picture = format!("testsrc2=s={SIZE}:r={RATE}");
    let seconds = seconds.to_string();
    judge(
        ["-f", "lavfi", "-i", &picture, "-f", "lavfi", "-i", TONE, "-t", &seconds]
            .into_iter()
            .chain(CODECS)
            .chain(["-g", RATE, "-f", "flv"])
            .map(OsStr::new)
            .chain([path.as_os_str()]),
    );
}

/// ffmpeg's tone of [`TONE_HERTZ`].
pub(crate) const TONE: &str = "sine=frequency=1000:sample_rate=44100";
/// See [`TONE`].
pub(crate) const TONE_HERTZ: f64 = 1000.0;
/// Samples a second of [`TONE`].
pub(crate) const TONE_RATE: f64 = 44_100.0;

/// What a live encoder is told.
pub(crate) const CODECS: [&str; 10] =
    ["-c:v", "libx264", "-preset", "veryfast", "-tune", "zerolatency", "-pix_fmt", "yuv420p", "-c:a", "aac"];

/// One packet of a stream: its bytes, and when it is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    /// Milliseconds since the file's first packet.
    pub(crate) at: i64,
    /// Length and checksum.
    pub(crate) content: String,
}

/// The packets of a file's stream `kind`, "v" or "a", as they are stored.
pub(crate) fn packets(file: &Path, kind: &str) -> Vec<Packet> {
    let map = format!("0:{kind}");
    let text = judge(
        [OsStr::new("-i"), file.as_os_str()]
            .into_iter()
            .chain(["-map", &map, "-c", "copy", "-f", "framecrc", "-"].map(OsStr::new)),
    );
    let text = String::from_utf8_lossy(&text);
    parse_packets(&text.lines().collect::<Vec<_>>(), 0)
}

/// The packets of a stream from what ffmpeg's `framecrc` writes: `#tb STREAM: UNIT`, and then
/// `STREAM, dts, pts, duration, size, checksum`.
pub(crate) fn parse_packets(lines: &[impl AsRef<str>], stream: u32) -> Vec<Packet> {
    let lines = || lines.iter().map(AsRef::as_ref);
    let clock = format!("#tb {stream}: 1/");
    let unit = lines().find_map(|line| line.strip_prefix(&clock)).expect("a clock").trim();
    let unit: i64 = unit.parse().expect("parts of a second");
    let own = format!("{stream},");
    lines()
        .filter(|line| line.starts_with(&own))
        .map(|line| {
            let fields: Vec<&str> = line.split(',').map(str::trim).collect();
            let at: i64 = fields[1].parse().expect("a decoding time");
            Packet { at: at * 1000 / unit, content: fields[4..6].join(" ") }
        })
        .collect()
}

/// Holds a recording to have every packet of its source at the same time, on a clock that may begin elsewhere. It
/// begins with a picture, so sound from before the first one is not in it.
pub(crate) fn assert_whole(source: &Path, recording: &Path) {
    let pictures = packets(source, "v");
    let recorded = packets(recording, "v");
    let shift = assert_same(&pictures, &recorded, "pictures");
    let heard = packets(recording, "a");
    let mut sounds = packets(source, "a");
    let early = sounds.len().saturating_sub(heard.len());
    let missed: Vec<Packet> = sounds.drain(..early).collect();
    assert!(missed.iter().all(|packet| packet.at <= pictures[0].at), "sounds: missing {missed:?}");
    let sound_shift = assert_same(&sounds, &heard, "sounds");
    assert_eq!(sound_shift, shift, "pictures and sound are moved against each other");
    tell(&format!("all {} pictures and {} sounds are in the recording", recorded.len(), heard.len()));
}

/// Holds `found` to be `source`, packet for packet; how far its clock is ahead, milliseconds.
fn assert_same(source: &[Packet], found: &[Packet], what: &str) -> i64 {
    let contents =
        |packets: &[Packet]| packets.iter().map(|packet| packet.content.clone()).collect::<Vec<_>>();
    assert_eq!(found.len(), source.len(), "{what}: another number of packets");
    assert_eq!(contents(found), contents(source), "{what}: other packets");
    let shift = found[0].at - source[0].at;
    let moved: Vec<_> =
        found.iter().zip(source).filter(|(found, source)| found.at - source.at != shift).collect();
    assert!(moved.is_empty(), "{what}: other times {moved:?}");
    shift
}

/// Holds the packets' times to rise.
pub(crate) fn assert_rising(packets: &[Packet], what: &str) {
    let back: Vec<_> = packets.windows(2).filter(|pair| pair[1].at <= pair[0].at).collect();
    assert!(back.is_empty(), "{what}: times that do not rise {back:?}");
}

/// The least likeness (SSIM over all planes) between `still`, a picture, and any frame of `film` within `crop`, as
/// ffmpeg's filter of that name takes it.
pub(crate) fn least_likeness(film: &Path, still: &Path, crop: &str) -> f64 {
    let filter = format!(
        "[0:v]crop={crop},format=yuv420p,settb=1/1000[film];[1:v]crop={crop},format=yuv420p,settb=1/1000[still];\
         [film][still]ssim=stats_file=-"
    );
    let text = judge(
        [OsStr::new("-i"), film.as_os_str(), OsStr::new("-i"), still.as_os_str()]
            .into_iter()
            .chain(["-filter_complex", &filter, "-f", "null", "/dev/null"].map(OsStr::new)),
    );
    let text = String::from_utf8_lossy(&text);
    let values: Vec<f64> = text
        .split_whitespace()
        .filter_map(|word| word.strip_prefix("All:"))
        .map(|value| value.parse().expect("a number"))
        .collect();
    values.into_iter().reduce(f64::min).expect("a film has frames")
}

/// How much of a file's sound is the tone, 0 to 1; silence has none.
pub(crate) fn tone_share(file: &Path) -> f64 {
    let bytes = judge(
        [OsStr::new("-i"), file.as_os_str()]
            .into_iter()
            .chain(["-map", "0:a", "-ac", "1", "-f", "f32le", "-"].map(OsStr::new)),
    );
    let samples: Vec<f64> = bytes
        .chunks_exact(4)
        .map(|four| f64::from(f32::from_le_bytes(four.try_into().expect("four"))))
        .collect();
    let power: f64 = samples.iter().map(|sample| sample * sample).sum();
    if power < 1e-3 {
        return 0.0;
    }
    // A second at a time: where sound is missing for a moment, the tone goes on with another phase.
    let tone: f64 = samples
        .chunks(TONE_RATE as usize)
        .map(|second| {
            let (mut cosine, mut sine) = (0.0, 0.0);
            for (index, sample) in second.iter().enumerate() {
                let angle = index as f64 * std::f64::consts::TAU * TONE_HERTZ / TONE_RATE;
                cosine += sample * angle.cos();
                sine += sample * angle.sin();
            }
            2.0 * (cosine * cosine + sine * sine) / second.len() as f64
        })
        .sum();
    tone / power
}
