//! The viewer's page in a real browser: is the right picture on the screen?

mod casters;
pub(crate) mod chromium;
mod grid;
pub(crate) mod sound;
mod viewer;

use chromium::{Chromium, PATIENCE};
use punchcast::media::{Kind, Unit, flv};
use punchcast::policy::Rung;
use punchcast_client::page::{CastStatus, Phase, Status};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use viewer::{Cue, Notice, Viewer};

const TICKET: &str = "punchcast://cast.example.net:4000/q3XJ0Vt8mB2yKc5sWf7uLg\
                      #AWH4pQ8zN1vTcR6yK0xE3mJ9bW5dL2sG7uF4hA1iO8oZDq2w5e8r1t4y7u0i3o6pYXNkZgKAwKgBF8Y0CgAACaXk";

/// The first cast's picture, by either way.
pub(crate) const CANVAS: &str = ".tile[data-place=\"0\"] canvas.picture";
const VIDEO: &str = ".tile[data-place=\"0\"] video.picture";

/// Left of the middle the stream is this colour, in full range.
const LEFT: [i32; 3] = [200, 30, 60];

pub(crate) fn scratch() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
}

/// The browser, or a reason to do without it.
pub(crate) fn program() -> Option<PathBuf> {
    let found = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"]
        .iter()
        .map(PathBuf::from)
        .find(|path| path.exists());
    let ffmpeg = Command::new("ffmpeg").arg("-version").output().is_ok_and(|output| output.status.success());
    if found.is_some() && ffmpeg {
        return found;
    }
    let missing = if found.is_none() { "Chromium" } else { "ffmpeg" };
    let required = std::env::var("PUNCHCAST_REQUIRE_BROWSER").is_ok_and(|value| value == "1");
    assert!(!required, "missing here: {missing}; scripts/setup installs it");
    let test = std::thread::current().name().unwrap_or_default().to_owned();
    // Written straight to the descriptor: the test harness would keep what a passing test prints.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {test}: missing here: {missing}");
    None
}

/// Two seconds of 640x360 at 30 a second, a key frame each second, with sound: the left half one colour, the right
/// half ffmpeg's moving test picture.
fn stream() -> Vec<Unit> {
    stream_of(LEFT)
}

/// The same with a colour of one's own.
fn stream_of([red, green, blue]: [i32; 3]) -> Vec<Unit> {
    let path = scratch().join(format!("browser-{}-{:x}.flv", std::process::id(), fastrand::u64(..)));
    let half = format!("color=c=0x{red:02x}{green:02x}{blue:02x}:s=320x360:r=30");
    let status = Command::new("ffmpeg")
        .args([
            "-v",
            "error",
            "-y",
            "-f",
            "lavfi",
            "-i",
            "testsrc2=s=640x360:r=30",
            "-f",
            "lavfi",
            "-i",
            &half,
        ])
        .args(["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000", "-filter_complex"])
        .args([
            "[0][1]overlay=0:0,format=yuv420p[v]",
            "-map",
            "[v]",
            "-map",
            "2:a",
            "-t",
            "2",
            "-c:v",
            "libx264",
        ])
        .args(["-preset", "ultrafast", "-tune", "zerolatency", "-g", "30"])
        // Untagged, ffmpeg means BT.601 and browsers take BT.709.
        .args(["-colorspace", "smpte170m", "-color_primaries", "smpte170m", "-color_trc", "smpte170m"])
        .args(["-c:a", "aac", "-f", "flv"])
        .arg(&path)
        .status()
        .expect("ffmpeg runs");
    assert!(status.success());
    let mut reader = flv::Reader::new();
    reader.push(&fs::read(&path).expect("ffmpeg's file"));
    let mut units: Vec<Unit> = std::iter::from_fn(|| reader.next().expect("a sound file")).collect();
    units.retain(|unit| unit.kind != Kind::Data);
    fs::remove_file(&path).expect("the file was there");
    assert!(units.iter().filter(|unit| unit.is_keyframe()).count() >= 2, "key frames each second");
    units
}

fn live() -> Status {
    live_with(vec![cast(0)])
}

/// The status of a viewer with these casts.
fn live_with(casts: Vec<CastStatus>) -> Status {
    Status { phase: Phase::Live, casts, ..Status::default() }
}

/// What is said of a live cast.
fn cast(place: usize) -> CastStatus {
    CastStatus {
        place,
        phase: Phase::Live,
        rung: Some(Rung::Punched),
        local: Some("192.168.1.23:50712".parse().unwrap()),
        remote: Some("203.0.113.80:61744".parse().unwrap()),
        rtt_ms: Some(23.4),
        frames: 1,
        bits: 2_345_678,
        age_ms_p50: Some(12.5),
        age_ms_p99: Some(31.0),
        ..CastStatus::default()
    }
}

/// The colours of a 9 by 9 grid over the element `selector`, as it is drawn.
fn assert_left_half(browser: &mut Chromium, selector: &str, colour: [i32; 3]) {
    let script = format!(
        "(() => {{ const from = document.querySelector('{selector}'); \
         const width = from.videoWidth || from.width, height = from.videoHeight || from.height; \
         const canvas = new OffscreenCanvas(width, height); const context = canvas.getContext('2d'); \
         context.drawImage(from, 0, 0); const points = []; \
         for (let x = 1; x < 9; x += 1) for (let y = 1; y < 9; y += 1) {{ \
         const at = [Math.floor(width * x / 18), Math.floor(height * y / 9)]; \
         points.push([...context.getImageData(...at, 1, 1).data.slice(0, 3)]); }} return points; }})()"
    );
    let points = browser.evaluate(&script);
    let points = points.as_array().expect("a list of points");
    assert_eq!(points.len(), 64);
    for point in points {
        for (channel, expected) in colour.iter().enumerate() {
            let actual = point[channel].as_i64().expect("a channel");
            assert!((actual - i64::from(*expected)).abs() <= 10, "{point} is not {colour:?}");
        }
    }
    let right = script.replace("width * x / 18", "width / 2 + width * x / 18");
    let right = browser.evaluate(&right);
    let mut colours: Vec<String> =
        right.as_array().expect("points").iter().map(ToString::to_string).collect();
    colours.sort();
    colours.dedup();
    assert!(colours.len() > 5, "the right half moves and is colourful: {colours:?}");
}

/// Keeps a picture of the page where `PUNCHCAST_SCREENSHOTS` says, for people to look at.
pub(crate) fn keep_screenshot(browser: &mut Chromium, name: &str) -> Vec<u8> {
    let shot = browser.screenshot();
    if let Some(folder) = std::env::var_os("PUNCHCAST_SCREENSHOTS") {
        fs::write(Path::new(&folder).join(format!("{name}.png")), &shot).expect("the screenshot's folder");
    }
    shot
}

#[test]
fn the_page_shows_the_live_picture() {
    let Some(program) = program() else { return };
    let viewer = Viewer::start("127.0.0.1:0".parse().unwrap(), TICKET);
    let units = stream();
    let mut browser = Chromium::start(&program, &scratch(), (1280, 720));
    let page = format!("http://{}/", viewer.local);

    browser.appear(1280, 720, "light");
    browser.open(&page);
    browser
        .wait_for("document.body.dataset.socket === 'up' && document.querySelector('#qr').naturalWidth > 20");
    assert_eq!(browser.evaluate("document.querySelector('#ticket').textContent"), TICKET);
    assert_eq!(browser.evaluate("document.body.dataset.picture"), "none");
    keep_screenshot(&mut browser, "waiting-light");
    browser.appear(1280, 720, "dark");
    keep_screenshot(&mut browser, "waiting-dark");
    browser.appear(390, 844, "dark");
    keep_screenshot(&mut browser, "waiting-phone");
    let fits = "[...document.querySelectorAll('#lobby *')].every((part) => { \
                const {left, right} = part.getBoundingClientRect(); return left >= 0 && right <= innerWidth; })";
    assert_eq!(browser.evaluate(fits), true, "everything fits a phone");

    browser.appear(1280, 720, "dark");
    viewer.cue(Cue::Status(live()));
    viewer.cue(Cue::Play(0, units.clone()));
    browser.wait_for("punchcast.tiles.get(0).frames > 30");
    assert_eq!(browser.evaluate("punchcast.tiles.get(0).decoder"), "webcodecs");
    assert_eq!(
        browser.evaluate("[punchcast.tiles.get(0).width, punchcast.tiles.get(0).height].join()"),
        "640,360"
    );
    assert_left_half(&mut browser, CANVAS, LEFT);
    browser.wait_for("document.querySelector('[data-is=rate]').textContent !== '–'");
    let shot = keep_screenshot(&mut browser, "live");
    assert_screen_colour(&shot, (320, 200), LEFT);
    assert_eq!(browser.evaluate("document.querySelector('.rung').textContent"), "Direct, hole punched");
    browser.wait_for("document.querySelector('.sound').hidden === false");
    browser.appear(390, 844, "dark");
    keep_screenshot(&mut browser, "live-phone");
    browser.appear(1280, 720, "dark");

    // A page that joins half way through a group shows a picture at once, from the group under way.
    browser.open(&page);
    browser.wait_for("punchcast.tiles.get(0).frames > 0");
    assert_left_half(&mut browser, CANVAS, LEFT);

    viewer.cue(Cue::Stop(0));
    let lost = "the link was lost (silence); waiting for the caster to come back";
    let gone = CastStatus { phase: Phase::Lost, message: lost.to_owned(), ..CastStatus::default() };
    viewer.cue(Cue::Status(Status {
        phase: Phase::Lost,
        message: lost.to_owned(),
        casts: vec![gone],
        ..Status::default()
    }));
    browser.wait_for("document.body.dataset.phase === 'lost'");
    browser.wait_for("document.querySelector('.veil').checkVisibility()");
    let said = "The link was lost (silence); waiting for the caster to come back.";
    assert_eq!(browser.evaluate("document.querySelector('.veil .message').textContent"), said);
    browser.wait_for("document.querySelector('.veil .headline').textContent.endsWith('s ago')");
    keep_screenshot(&mut browser, "lost");
    let before = browser.evaluate("punchcast.tiles.get(0).frames").as_u64().expect("a count");
    viewer.cue(Cue::Status(live()));
    viewer.cue(Cue::Play(0, units));
    browser.wait_for(&format!("punchcast.tiles.get(0).frames > {before} + 10"));
    assert_left_half(&mut browser, CANVAS, LEFT);
}

#[test]
fn without_webcodecs_the_page_falls_back_to_media_source_extensions() {
    let Some(program) = program() else { return };
    let viewer = Viewer::start("127.0.0.1:0".parse().unwrap(), TICKET);
    let mut browser = Chromium::start(&program, &scratch(), (1280, 720));
    browser.prelude("delete globalThis.VideoDecoder;");
    browser.open(&format!("http://{}/", viewer.local));
    browser.wait_for("document.body.dataset.socket === 'up'");
    viewer.cue(Cue::Status(live()));
    viewer.cue(Cue::Play(0, stream()));
    browser.wait_for("punchcast.tiles.get(0).frames > 30");
    assert_eq!(browser.evaluate("punchcast.tiles.get(0).decoder"), "mse");
    assert_eq!(
        browser.evaluate("[punchcast.tiles.get(0).width, punchcast.tiles.get(0).height].join()"),
        "640,360"
    );
    assert_left_half(&mut browser, VIDEO, LEFT);
    let lag = "(() => { const {buffered, currentTime} = document.querySelector('video.picture'); \
               return buffered.end(buffered.length - 1) - currentTime; })()";
    browser.wait_for(&format!("{lag} < 0.5"));
}

#[test]
fn a_picture_that_media_source_extensions_cannot_read_is_told_of() {
    let Some(program) = program() else { return };
    let viewer = Viewer::start("127.0.0.1:0".parse().unwrap(), TICKET);
    let mut browser = Chromium::start(&program, &scratch(), (1280, 720));
    browser.prelude(
        "delete globalThis.VideoDecoder; const append = SourceBuffer.prototype.appendBuffer; \
         SourceBuffer.prototype.appendBuffer = function (data) { \
         return append.call(this, globalThis.broken ? new Uint8Array(1024).fill(255) : data); };",
    );
    browser.open(&format!("http://{}/", viewer.local));
    browser.wait_for("document.body.dataset.socket === 'up'");
    viewer.cue(Cue::Status(live()));
    viewer.cue(Cue::Play(0, stream()));
    browser.wait_for("punchcast.tiles.get(0).frames > 10");
    browser.evaluate("globalThis.broken = true");
    browser.wait_for(
        "document.querySelector('.veil .message').textContent.includes('does not take this picture')",
    );
}

#[test]
fn a_cast_that_comes_back_to_h264_is_shown_again() {
    let Some(program) = program() else { return };
    let viewer = Viewer::start("127.0.0.1:0".parse().unwrap(), TICKET);
    let mut browser = Chromium::start(&program, &scratch(), (1280, 720));
    browser.open(&format!("http://{}/", viewer.local));
    browser.wait_for("document.body.dataset.socket === 'up'");
    viewer.cue(Cue::Status(live()));
    let later = |units: &[Unit]| -> Vec<Unit> {
        let later = |unit: &Unit| Unit { timestamp: unit.timestamp + 5000, ..unit.clone() };
        units.iter().map(later).collect()
    };
    let h264 = stream();
    let hevc = Unit { kind: Kind::Video, timestamp: 2500, payload: b"\x90hvc1\x01\x02".as_slice().into() };
    viewer.cue(Cue::Play(0, [&h264[..], &[hevc], &later(&h264)].concat()));
    let trouble = "document.querySelector('.tile').dataset.trouble";
    browser.wait_for("punchcast.tiles.get(0).frames > 30");
    browser.wait_for(&format!("{trouble}?.includes('H.264')"));
    let before = browser.evaluate("punchcast.tiles.get(0).frames").as_u64().expect("a count");
    browser.wait_for(&format!("punchcast.tiles.get(0).frames > {before} + 10 && {trouble} === ''"));
    assert_left_half(&mut browser, CANVAS, LEFT);
}

#[test]
fn when_webcodecs_fails_half_way_media_source_extensions_take_over() {
    let Some(program) = program() else { return };
    let viewer = Viewer::start("127.0.0.1:0".parse().unwrap(), TICKET);
    let mut browser = Chromium::start(&program, &scratch(), (1280, 720));
    browser.prelude(
        "const decode = VideoDecoder.prototype.decode; \
         VideoDecoder.prototype.decode = function (chunk) { \
         if (globalThis.broken) throw new Error('broken'); return decode.call(this, chunk); };",
    );
    browser.open(&format!("http://{}/", viewer.local));
    browser.wait_for("document.body.dataset.socket === 'up'");
    viewer.cue(Cue::Status(live()));
    viewer.cue(Cue::Play(0, stream()));
    browser.wait_for("punchcast.tiles.get(0).frames > 10");
    assert_eq!(browser.evaluate("punchcast.tiles.get(0).decoder"), "webcodecs");
    browser.evaluate("globalThis.broken = true");
    browser.wait_for("punchcast.tiles.get(0).decoder === 'mse'");
    let before = browser.evaluate("punchcast.tiles.get(0).frames").as_u64().expect("a count");
    browser.wait_for(&format!("punchcast.tiles.get(0).frames > {before} + 10"));
    assert_left_half(&mut browser, VIDEO, LEFT);
}

#[test]
fn without_any_decoder_the_page_tells_other_ways() {
    let Some(program) = program() else { return };
    let viewer = Viewer::start("127.0.0.1:0".parse().unwrap(), TICKET);
    let mut browser = Chromium::start(&program, &scratch(), (1280, 720));
    browser.prelude("delete globalThis.VideoDecoder; delete globalThis.MediaSource;");
    browser.open(&format!("http://{}/", viewer.local));
    browser.wait_for("!document.querySelector('#trouble').hidden");
    let text = browser.evaluate("document.querySelector('#trouble').textContent");
    let text = text.as_str().expect("a text");
    assert!(text.contains("--rtmp") && text.contains("--record"), "{text}");
    keep_screenshot(&mut browser, "no-decoder");
}

#[test]
fn a_page_left_open_finds_the_next_viewer_by_itself() {
    let Some(program) = program() else { return };
    let viewer = Viewer::start("127.0.0.1:0".parse().unwrap(), TICKET);
    let local = viewer.local;
    let mut browser = Chromium::start(&program, &scratch(), (1280, 720));
    browser.open(&format!("http://{local}/"));
    browser.wait_for("document.body.dataset.socket === 'up'");
    drop(viewer);
    browser.wait_for("document.body.dataset.socket === 'lost'");
    let next = Viewer::start(local, "punchcast:another");
    browser.wait_for("document.querySelector('#ticket').textContent === 'punchcast:another'");
    next.cue(Cue::Status(live()));
    next.cue(Cue::Play(0, stream()));
    browser.wait_for("punchcast.tiles.get(0).frames > 10");
}

#[test]
fn a_decoder_that_falls_behind_skips_to_the_next_key_frame() {
    let Some(program) = program() else { return };
    let viewer = Viewer::start("127.0.0.1:0".parse().unwrap(), TICKET);
    let mut browser = Chromium::start(&program, &scratch(), (1280, 720));
    browser.prelude(
        "Object.defineProperty(VideoDecoder.prototype, 'decodeQueueSize', {get: () => globalThis.jammed ? 9 : 0});",
    );
    browser.open(&format!("http://{}/", viewer.local));
    browser.wait_for("document.body.dataset.socket === 'up'");
    viewer.cue(Cue::Status(live()));
    viewer.cue(Cue::Play(0, stream()));
    browser.wait_for("punchcast.tiles.get(0).frames > 10");
    assert_eq!(browser.evaluate("punchcast.tiles.get(0).skipped"), 0);
    browser.evaluate("globalThis.jammed = true");
    browser.wait_for("punchcast.tiles.get(0).skipped > 10");
    let deadline = viewer::present() + PATIENCE;
    loop {
        let left = deadline.saturating_duration_since(viewer::present());
        match viewer.notices.recv_timeout(left).expect("a key frame is asked for") {
            Notice::KeyframeWanted(_) => break,
            Notice::Listening(_) => {}
        }
    }
    browser.evaluate("globalThis.jammed = false");
    let before = browser.evaluate("punchcast.tiles.get(0).frames").as_u64().expect("a count");
    browser.wait_for(&format!("punchcast.tiles.get(0).frames > {before} + 30"));
    assert_left_half(&mut browser, CANVAS, LEFT);
}

/// Whether the window itself has the stream's colour at a place.
fn assert_screen_colour(png: &[u8], (x, y): (usize, usize), colour: [i32; 3]) {
    let mut reader = png::Decoder::new(std::io::Cursor::new(png)).read_info().expect("a PNG");
    let mut pixels = vec![0; reader.output_buffer_size().expect("a size")];
    let info = reader.next_frame(&mut pixels).expect("pixels");
    let at = y * info.line_size + x * info.color_type.samples();
    for (channel, expected) in colour.iter().enumerate() {
        let actual = i32::from(pixels[at + channel]);
        assert!((actual - expected).abs() <= 10, "{:?} at {x},{y} is not {colour:?}", &pixels[at..at + 3]);
    }
}
