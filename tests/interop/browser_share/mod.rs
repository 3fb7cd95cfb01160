//! A browser's screen, shared by the caster's page, shown by the viewer's page.
//!
//! ```text
//!  ffplay ─▶ Xvfb ─▶ Chromium, the caster's page ─▶ punchcast cast ═══▶ punchcast view ─▶ Chromium, the viewer's page
//!                                                                        └▶ recording.flv
//! ```

mod page;

use crate::browser::chromium::Chromium;
use crate::browser::sound::{EAR, hears_tone, press};
use crate::browser::{CANVAS, keep_screenshot, program, scratch};
use crate::home::daemon;
use crate::lab::binary;
use crate::program::Program;
use crate::scene::{END, LINK, START, text};
use crate::tool::{Scratch, have, tell};
use page::Cue;
use punchcast::media::{Kind, Unit, avc, flv};
use serde_json::json;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

/// The screen: the left half shows [`COLOURS`], the right half the browser that shares it.
const SCREEN: (u32, u32) = (1280, 720);

/// The quarters of the left half, in reading order.
const COLOURS: [[i32; 3]; 4] = [[200, 30, 60], [20, 160, 40], [40, 60, 220], [230, 230, 230]];

/// How far a channel may be off.
const TOLERANCE: i64 = 10;

struct Cast {
    // Programs end before the display does.
    sharing: Chromium,
    caster: Program,
    viewer: Program,
    _daemon: Program,
    _screen: [Program; 2],
    viewers_page: String,
    share_link: String,
    scratch: Scratch,
}

impl Cast {
    fn start(program: &Path, prelude: Option<&str>) -> Self {
        Self::start_with(program, prelude, &colours(), &[])
    }

    /// With ffmpeg's `graph` on the screen, and more options for the caster.
    fn start_with(program: &Path, prelude: Option<&str>, graph: &str, options: &[&str]) -> Self {
        let scratch_folder = Scratch::new();
        let (display, screen) = screen(graph);
        let (daemon, [server, assist]) = daemon();
        let mut viewer = Program::start(
            "viewer",
            Command::new(binary("punchcast"))
                .args(["view", "--json", "--page", "127.0.0.1:0", "--rtmp", "127.0.0.1:0", "--server"])
                .args([&server, "--assist", &assist, "--record"])
                .arg(scratch_folder.file("recording.flv")),
        );
        let ready = viewer.event("ready", START);
        let mut caster = Program::start(
            "caster",
            Command::new(binary("punchcast"))
                .args(["cast", &text(&ready, "ticket"), "--json", "--source", "browser"])
                .args(options),
        );
        let share_link = text(&caster.event("ready", START), "page");
        let (width, height) = SCREEN;
        let mut sharing = Chromium::on_display(program, &scratch(), &display, width / 2, (width / 2, height));
        if let Some(prelude) = prelude {
            sharing.prelude(prelude);
        }
        sharing.open(&share_link);
        sharing.wait_for("document.body.dataset.socket === 'up'");
        caster.event("link", LINK);
        // What it tells of the viewer moves the button.
        sharing.wait_for("punchcast.status?.viewers[0].phase === 'live'");
        Self {
            sharing,
            caster,
            viewer,
            _daemon: daemon,
            _screen: screen,
            viewers_page: text(&ready, "page"),
            share_link,
            scratch: scratch_folder,
        }
    }

    fn share(&mut self) {
        self.sharing.click("#share");
        self.sharing.wait_for("punchcast.sharing && punchcast.numbers?.sent > 0");
        assert_eq!(self.caster.event("sharing", LINK)["on"], true);
    }

    /// Ends the cast in order; what was recorded comes back.
    fn end(mut self) -> Vec<Unit> {
        self.caster.terminate();
        self.caster.succeeds(END);
        self.viewer.event("cast-end", END);
        self.sharing.wait_for("punchcast.status.over && !punchcast.sharing");
        self.viewer.terminate();
        self.viewer.succeeds(END);
        let mut reader = flv::Reader::new();
        reader.push(&fs::read(self.scratch.file("recording.flv")).expect("a recording"));
        std::iter::from_fn(|| reader.next().expect("a sound file")).collect()
    }
}

/// A display with ffmpeg's `graph` on its left half.
fn screen(graph: &str) -> (String, [Program; 2]) {
    let (width, height) = SCREEN;
    let mut server = Program::start(
        "Xvfb",
        Command::new("Xvfb")
            .args(["-displayfd", "1", "-nolisten", "tcp", "-screen", "0"])
            .arg(format!("{width}x{height}x24")),
    );
    let number =
        server.line(START, |line| !line.is_empty() && line.bytes().all(|byte| byte.is_ascii_digit()));
    let display = format!(":{number}");
    let client = Program::start(
        "ffplay",
        Command::new("ffplay")
            .args(["-v", "error", "-nostats", "-noborder", "-left", "0", "-top", "0", "-an"])
            .args(["-f", "lavfi", "-i", graph])
            .env("DISPLAY", &display)
            .envs([("SDL_VIDEODRIVER", "x11"), ("SDL_RENDER_DRIVER", "software")]),
    );
    (display, [server, client])
}

/// The quarters, as ffmpeg draws them.
fn colours() -> String {
    let (width, height) = SCREEN;
    let quarters: String = COLOURS
        .iter()
        .zip(["a", "b", "c", "d"])
        .map(|([red, green, blue], name)| {
            let size = format!("{}x{}", width / 4, height / 2);
            format!("color=c=0x{red:02x}{green:02x}{blue:02x}:s={size}:r=5,format=rgb24[{name}];")
        })
        .collect();
    format!("{quarters}[a][b]hstack[e];[c][d]hstack[f];[e][f]vstack[out0]")
}

/// A browser on the right half of a display.
fn browser_on(program: &Path, display: &str) -> Chromium {
    let (width, height) = SCREEN;
    Chromium::on_display(program, &scratch(), display, width / 2, (width / 2, height))
}

/// The sharing page with no link behind it, held, and the browser that shares a display on it.
fn share_alone(program: &Path, display: &str, prelude: &str) -> (page::SharePage, Chromium) {
    let page = page::SharePage::start();
    let mut sharing = browser_on(program, display);
    sharing.prelude(prelude);
    sharing.open(&page.link);
    sharing.wait_for("document.body.dataset.socket === 'up'");
    sharing.click("#share");
    (page, sharing)
}

/// JavaScript that is true once the viewer's picture has the colours where the screen has them.
fn shows_colours() -> String {
    let (width, height) = SCREEN;
    let mut points = Vec::new();
    for (at, colour) in (0u32..).zip(&COLOURS) {
        for (x, y) in [(1, 1), (1, 3), (2, 2), (3, 1), (3, 3)] {
            let x = at % 2 * width / 4 + x * width / 16;
            let y = at / 2 * height / 2 + y * height / 8;
            points.push(format!("[{x},{y},{colour:?}]"));
        }
    }
    format!(
        "(() => {{ const from = document.querySelector('{CANVAS}'); \
         const canvas = new OffscreenCanvas({width}, {height}); const context = canvas.getContext('2d'); \
         context.drawImage(from, 0, 0, {width}, {height}); \
         window.looked = [{points}].map(([x, y, colour]) => [colour, [...context.getImageData(x, y, 1, 1).data]]); \
         return window.looked.every(([colour, found]) => \
         colour.every((channel, at) => Math.abs(channel - found[at]) <= {TOLERANCE})); }})()",
        points = points.join(",")
    )
}

/// The time of day as stamps have it.
fn wall_us() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    u64::try_from(since.as_micros()).expect("before the year 586,912")
}

fn assert_one_clock(units: &[Unit]) {
    for kind in [Kind::Video, Kind::Audio] {
        let times: Vec<u32> =
            units.iter().filter(|unit| unit.kind == kind).map(|unit| unit.timestamp).collect();
        let back = times.windows(2).filter(|pair| pair[1] < pair[0]).count();
        assert_eq!(back, 0, "the clock of {kind:?} goes back: {times:?}");
    }
}

#[test]
fn a_screen_shared_in_a_browser_is_seen_in_another_and_can_be_shared_again() {
    let Some(program) = program() else { return };
    if !have(&["Xvfb", "ffplay"]) {
        return;
    }
    let mut cast = Cast::start(&program, None);
    assert_eq!(cast.sharing.evaluate("location.search"), "", "the token is not in the picture");

    keep_screenshot(&mut cast.sharing, "share");
    cast.share();
    let mut viewing = Chromium::start(&program, &scratch(), SCREEN);
    viewing.open(&cast.viewers_page);
    viewing.wait_for(&shows_colours());
    tell(&format!("colours {}", viewing.evaluate("JSON.stringify(window.looked)")));
    cast.sharing.wait_for("document.querySelector('#headline').textContent === 'Sharing'");
    keep_screenshot(&mut cast.sharing, "sharing");

    tell(&numbers(&mut cast.sharing).to_string());
    cast.sharing.click("#stop");
    assert_eq!(cast.caster.event("sharing", LINK)["on"], false);
    cast.sharing.wait_for("!punchcast.sharing");
    assert_eq!(viewing.evaluate(&shows_colours()), true, "the last picture stays");
    let before = viewing.evaluate("punchcast.tiles.get(0).frames").as_u64().expect("a count");
    let stopped = wall_us();
    cast.share();
    viewing.wait_for(&format!("punchcast.tiles.get(0).frames > {before}"));
    viewing.wait_for(&shows_colours());

    let units = cast.end();
    assert_one_clock(&units);
    let pictures: Vec<&Unit> = units.iter().filter(|unit| avc::is_picture(unit)).collect();
    let stamps: Vec<avc::Stamp> = pictures.iter().map(|unit| avc::stamp(unit).expect("on each")).collect();
    let again = stamps.iter().position(|stamp| stamp.wall_us > stopped).expect("pictures of the second time");
    assert!(again > 0, "pictures of the first time");
    assert!(pictures[0].is_keyframe() && pictures[again].is_keyframe());
    tell(&format!("{again} pictures, then {}", pictures.len() - again));
}

#[test]
fn where_frames_are_not_streamed_the_page_takes_them_from_its_preview() {
    let Some(program) = program() else { return };
    if !have(&["Xvfb", "ffplay"]) {
        return;
    }
    let mut cast = Cast::start(&program, Some("delete globalThis.MediaStreamTrackProcessor;"));
    cast.share();
    let mut viewing = Chromium::start(&program, &scratch(), SCREEN);
    viewing.open(&cast.viewers_page);
    viewing.wait_for(&shows_colours());
    assert_one_clock(&cast.end());
}

#[test]
fn the_browsers_picture_keeps_to_what_the_caster_was_asked_for() {
    let Some(program) = program() else { return };
    if !have(&["Xvfb", "ffplay"]) {
        return;
    }
    let options = ["--fps", "10", "--size", "640x400", "--bitrate", "300k"];
    let mut cast = Cast::start_with(&program, None, "testsrc2=s=640x720:r=30[out0]", &options);
    // What the link's holder adds to it changes nothing.
    let link = format!("{}&fps=60&width=1280&bitrate=9000000", cast.share_link);
    cast.sharing.open(&link);
    cast.sharing.wait_for("punchcast.status?.viewers[0].phase === 'live'");
    cast.share();
    let most = "(({fps, width, height}) => [fps, width, height].join())(punchcast.encoding)";
    assert_eq!(cast.sharing.evaluate(most), "10,640,400");
    assert!(cast.sharing.evaluate("punchcast.encoding.bitrate").as_u64() <= Some(300_000));
    cast.sharing.wait_for("punchcast.numbers?.sent > 60");
    tell(&numbers(&mut cast.sharing).to_string());
    assert_eq!(
        cast.sharing.evaluate("[punchcast.numbers.width, punchcast.numbers.height].join()"),
        "640,360",
        "the screen's shape within the bounds"
    );
    let units = cast.end();
    let pictures: Vec<&Unit> = units.iter().filter(|unit| avc::is_picture(unit)).collect();
    // The encoder's first second finds its rate.
    let begin = pictures[0].timestamp + 1000;
    let settled: Vec<&&Unit> = pictures.iter().filter(|unit| unit.timestamp >= begin).collect();
    let seconds = f64::from(pictures[pictures.len() - 1].timestamp - begin) / 1000.0;
    let rate = settled.len() as f64 / seconds;
    let bits = settled.iter().map(|unit| unit.payload.len() * 8).sum::<usize>() as f64 / seconds;
    tell(&format!("{rate:.1} pictures and {bits:.0} bits a second"));
    assert!(rate < 10.6, "{rate} pictures a second");
    assert!(bits < 450_000.0, "{bits} bits a second");
}

/// Gives each screen the sound of a tuning fork, as a display without a sound card has none.
const TUNING_FORK: &str = "const capture = navigator.mediaDevices.getDisplayMedia.bind(navigator.mediaDevices); \
     navigator.mediaDevices.getDisplayMedia = async (options) => { \
     const screen = await capture({...options, audio: false}); \
     const context = new AudioContext({sampleRate: 48000}); const fork = context.createOscillator(); \
     const out = context.createMediaStreamDestination(); fork.connect(out); fork.start(); \
     screen.addTrack(out.stream.getAudioTracks()[0]); return screen; };";

#[test]
fn sound_from_a_browser_is_opus_and_is_heard_in_another() {
    let Some(program) = program() else { return };
    if !have(&["Xvfb", "ffplay"]) {
        return;
    }
    let mut cast = Cast::start(&program, Some(TUNING_FORK));
    cast.share();
    // A second of packets of 20 ms.
    cast.sharing.wait_for("punchcast.numbers?.sounds > 50");
    let mut viewing = Chromium::start(&program, &scratch(), SCREEN);
    viewing.prelude(EAR);
    viewing.open(&cast.viewers_page);
    viewing.wait_for("punchcast.tiles.get(0)?.frames > 0 && !document.querySelector('.sound').hidden");
    press(&mut viewing, "m");
    viewing.wait_for(&hears_tone());
    tell(&format!("heard {}", viewing.evaluate("JSON.stringify(hear())")));
    let units = cast.end();
    assert_one_clock(&units);
    let sounds: Vec<&Unit> = units.iter().filter(|unit| unit.kind == Kind::Audio).collect();
    assert!(sounds[0].payload.starts_with(b"\x90OpusOpusHead"), "{:?}", sounds[0]);
    assert!(sounds.len() > 40, "{} sounds", sounds.len());
    assert!(sounds[1..].iter().all(|unit| unit.payload.starts_with(b"\x91Opus")), "one header");
    let (first, last) = (sounds[1].timestamp, sounds[sounds.len() - 1].timestamp);
    let length = u32::try_from(sounds.len() - 2).expect("a few") * 20;
    assert!(last.abs_diff(first + length) <= 100, "{length} ms of sound last from {first} to {last}");
}

#[test]
fn the_sharing_page_serves_nobody_but_who_has_its_link() {
    let Some(program) = program() else { return };
    if !have(&["Xvfb", "ffplay"]) {
        return;
    }
    let mut cast = Cast::start(&program, None);
    let (host, token) =
        cast.share_link["http://".len()..].split_once("/?t=").expect("an address and a token");
    assert!(host.starts_with("127.0.0.1:") && token.len() == 32, "{host}");
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let socket = |origin: &str, token: &str| {
        ask(host, &format!("GET /ws?t={token} HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\n{upgrade}\r\n"))
    };
    let page = |host_field: &str, token: &str| {
        ask(host, &format!("GET /?t={token} HTTP/1.1\r\nHost: {host_field}\r\nConnection: close\r\n\r\n"))
    };
    let wrong = "0".repeat(32);
    assert!(page(host, token).starts_with("HTTP/1.1 200 "));
    assert!(page(host, &wrong).starts_with("HTTP/1.1 403 "));
    assert!(page("evil.example", token).starts_with("HTTP/1.1 421 "));
    assert!(socket("http://evil.example", token).starts_with("HTTP/1.1 403 "));
    assert!(socket(&format!("http://{host}"), &wrong).starts_with("HTTP/1.1 403 "));

    // Another page of the same browser, which has the cookie.
    cast.sharing.open("data:text/html,<title>another</title>");
    let tried = format!(
        "new Promise((done) => {{ const socket = new WebSocket('ws://{host}/ws'); \
         socket.onopen = () => done('open'); socket.onerror = () => done('refused'); }})"
    );
    assert_eq!(cast.sharing.evaluate(&tried), "refused");
}

#[test]
fn the_sharing_page_is_not_served_beyond_this_machine() {
    let mut command = Command::new(binary("punchcast"));
    let output = command.args(["cast", "--source", "browser", "--share", "0.0.0.0:0"]).output();
    let output = output.expect("the caster starts");
    let talk = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && talk.contains("loopback"), "{}: {talk}", output.status);
}

#[test]
fn the_page_encodes_only_what_can_be_sent() {
    let Some(program) = program() else { return };
    if !have(&["Xvfb", "ffplay"]) {
        return;
    }
    let (display, _screen) = screen("testsrc2=s=640x720:r=30[out0]");
    let (page, mut sharing) = share_alone(&program, &display, TUNING_FORK);

    sharing.wait_for("punchcast.numbers?.captured > 20");
    assert_eq!(sharing.evaluate("punchcast.numbers.sounds"), 0, "nothing is linked yet");
    assert_eq!(sharing.evaluate("punchcast.numbers.sent"), 0, "nothing is linked yet");
    page.cue(Cue::Hold(false));
    let first = page.next_picture();
    assert!(first.is_keyframe());
    let stamp = avc::stamp(&first).expect("a stamp");
    assert!(stamp.frame > 20, "the newest picture, not the first of many that waited: {}", stamp.frame);

    sharing.wait_for("punchcast.numbers.sent > 150");
    let cpu = browser_cpu(sharing.pid());
    let began = Instant::now();
    sharing.wait_for("punchcast.numbers.sent > 300");
    let cores = (browser_cpu(sharing.pid()) - cpu) / began.elapsed().as_secs_f64();
    tell(&format!("sharing takes {cores:.2} core of all the browser: {}", numbers(&mut sharing)));

    page.cue(Cue::Hold(true));
    sharing.wait_for("punchcast.encoding.hold");
    let at_hold = sharing.evaluate("punchcast.numbers.captured").as_u64().expect("a count");
    // Half a second for what was under way, and for numbers that tell of it.
    sharing.wait_for(&format!("punchcast.numbers.captured > {at_hold} + 20"));
    let sent = sharing.evaluate("punchcast.numbers.sent");
    sharing.wait_for(&format!("punchcast.numbers.captured > {at_hold} + 60"));
    assert_eq!(sharing.evaluate("punchcast.numbers.sent"), sent, "held pages encode nothing");
    let sounds = sharing.evaluate("punchcast.numbers.sounds").as_u64().expect("a count");
    sharing.wait_for(&format!("punchcast.numbers.captured > {at_hold} + 90"));
    assert_eq!(sharing.evaluate("punchcast.numbers.sounds"), sounds, "sound goes on for a second at most");

    // Behind another tab, where browsers slow pages down.
    let hidden = sharing.call("Target.createTarget", json!({"url": "about:blank"}));
    sharing.wait_for("document.visibilityState === 'hidden'");
    page.cue(Cue::Bitrate(400_000));
    page.forget();
    page.cue(Cue::Hold(false));
    let next = page.next_picture();
    let newest = avc::stamp(&next).expect("a stamp").frame;
    assert!(newest > at_hold + 60, "the newest picture: {newest} after {at_hold}");
    sharing.wait_for(&format!("punchcast.numbers.sounds > {sounds}"));
    sharing.wait_for("punchcast.numbers.fps > 15");
    sharing.wait_for("punchcast.numbers.bitrate > 0 && punchcast.numbers.bitrate < 1e6");
    page.forget();
    page.cue(Cue::Keyframe);
    sharing.call("Target.closeTarget", json!({"targetId": hidden["targetId"]}));
    // Less than the two seconds after which one comes by itself would prove more, on a machine that is not loaded.
    assert!((0..60).any(|_| page.next_picture().is_keyframe()), "a key frame on request");
}

#[test]
fn a_screen_that_stands_still_is_shown_again() {
    let Some(program) = program() else { return };
    if !have(&["Xvfb", "ffplay"]) {
        return;
    }
    let (display, _screen) = screen("testsrc2=s=640x720:r=30[out0]");
    let (page, mut sharing) = share_alone(&program, &display, "");
    page.cue(Cue::Hold(false));
    assert!(page.next_picture().is_keyframe());

    // This Chromium gives frames of a screen that stands still, too; others give none.
    sharing.evaluate(
        "const post = Worker.prototype.postMessage; \
         Worker.prototype.postMessage = function (message, ...rest) { \
         if (message.type === 'frame') message.data.close(); else post.call(this, message, ...rest); }; 0",
    );
    let mut last = page.next_picture();
    let again = (0..600).find_map(|_| {
        let before = std::mem::replace(&mut last, page.next_picture());
        let [before, now] = [&before, &last].map(|unit| avc::stamp(unit).expect("a stamp"));
        (before.frame == now.frame && now.wall_us >= before.wall_us + 1_500_000)
            .then_some(now.wall_us - before.wall_us)
    });
    let after = again.expect("the same frame once more");
    assert!(after < 3_000_000, "after {after} us");
    // For those who missed some of what led to it, it comes as a keyframe: once.
    let again = (0..6).map(|_| page.next_picture().is_keyframe());
    let keyframes: Vec<bool> = std::iter::once(last.is_keyframe()).chain(again).collect();
    assert_eq!(keyframes.iter().filter(|keyframe| **keyframe).count(), 1, "{keyframes:?}");
}

/// Keeps the dialogues for screen and microphone open until `answer` is called, and notes what they give.
const DIALOGUES: &str = "window.given = []; window.answer = {}; \
     const held = async (what, stream) => { given.push(...stream.getTracks()); \
     await new Promise((done) => { answer[what] = done; }); return stream; }; \
     const capture = navigator.mediaDevices.getDisplayMedia.bind(navigator.mediaDevices); \
     navigator.mediaDevices.getDisplayMedia = async (options) => \
     held('screen', await capture({...options, audio: false})); \
     navigator.mediaDevices.getUserMedia = async () => \
     held('microphone', new AudioContext().createMediaStreamDestination().stream);";

#[test]
fn nothing_is_shared_that_ended_while_a_dialogue_was_open() {
    let Some(program) = program() else { return };
    if !have(&["Xvfb", "ffplay"]) {
        return;
    }
    let (display, _screen) = screen(&colours());
    let mut sharing = browser_on(&program, &display);
    sharing.prelude(DIALOGUES);
    for (dialogue, cast_ends, given) in
        [("screen", true, 1), ("microphone", true, 2), ("microphone", false, 2)]
    {
        let page = page::SharePage::start();
        sharing.open(&page.link);
        sharing.wait_for("document.body.dataset.socket === 'up'");
        sharing.evaluate("document.querySelector('#microphone').checked = true");
        sharing.click("#share");
        sharing.wait_for("answer.screen");
        if dialogue == "microphone" {
            sharing.evaluate("answer.screen(), 0");
            sharing.wait_for("answer.microphone");
        }

        if cast_ends {
            page.cue(Cue::Over);
            sharing.wait_for("punchcast.status?.over");
        } else {
            // As in the browser's own bar: a script that stops a track is not told of it.
            sharing.evaluate("given[0].stop(), given[0].dispatchEvent(new Event('ended'))");
        }
        sharing.evaluate(&format!("answer.{dialogue}(), 0"));

        sharing.wait_for("!document.querySelector('#share').disabled");
        let found =
            "[punchcast.sharing, given.filter(({readyState}) => readyState === 'live').length, given.length]";
        let found = sharing.evaluate(found);
        assert_eq!(
            found,
            json!([false, 0, given]),
            "the dialogue for the {dialogue}; the cast ended: {cast_ends}"
        );
    }
}

fn numbers(sharing: &mut Chromium) -> serde_json::Value {
    sharing.evaluate(
        "(({width, height, codec, captured, sent, fps, bitrate, latencyP50, latencyP99, skipped}) => \
         ({width, height, codec, captured, sent, fps, bitrate, latencyP50, latencyP99, skipped}))(punchcast.numbers)",
    )
}

/// Seconds of CPU that a process and all its children have taken.
fn browser_cpu(pid: u32) -> f64 {
    let (mut ticks, mut pids) = (0, vec![pid]);
    while let Some(pid) = pids.pop() {
        // Processes come and go.
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        let behind_name = stat.rsplit(')').next().unwrap_or_default();
        let times =
            behind_name.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok());
        ticks += times.sum::<u64>();
        for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            pids.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        }
    }
    // Linux counts a hundred a second wherever a program can see it (`USER_HZ`).
    ticks as f64 / 100.0
}

/// What a server that closes has to say.
fn ask(addr: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(addr).expect("the page listens");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    stream.write_all(request.as_bytes()).expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer, and the end");
    answer
}
