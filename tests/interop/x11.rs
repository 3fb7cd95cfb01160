//! A real X display, captured by ffmpeg, cast through two NATs, played by ffmpeg.
//!
//! ```text
//!  caster's namespace                                        viewer's namespace
//!  ffplay ─▶ Xvfb ─▶ ffmpeg x11grab ─▶ punchcast cast ═══▶ punchcast view ─▶ ffmpeg
//!                       └▶ published.flv                      └▶ recording.flv   └▶ played.flv
//! ```

use crate::lab::{Lab, permitted};
use crate::program::Program;
use crate::scene::{END, LINK, START, daemon, text, viewer};
use crate::tool::{
    self, CODECS, ONE_PICTURE, RATE, SIZE, Scratch, TONE, assert_rising, assert_whole, finish, have, judge,
    packets, probe,
};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The left half of the display stands still.
const STILL: &str = "320:360:0:0";
/// The right half moves.
const MOVING: &str = "320:360:320:0";

/// Seconds that the player sees.
const PLAYED: u32 = 4;

/// How long ffmpeg may take over one picture of the display.
const GRAB: &str = "20";

/// A display on a host of the lab, on which one half stands still and the other moves.
struct Screen {
    display: String,
    programs: [Program; 2],
}

impl Screen {
    /// Starts an X server and a client, and waits until the client is to be seen.
    fn start(lab: &Lab, host: &str, scratch: &Scratch) -> Self {
        let mut server = Program::start(
            "Xvfb",
            // The server looks for a free number itself and tells it once clients may come.
            lab.command(host, "Xvfb")
                .args(["-displayfd", "1", "-nolisten", "tcp", "-screen", "0"])
                .arg(format!("{SIZE}x24")),
        );
        let number =
            server.line(START, |line| line.bytes().all(|byte| byte.is_ascii_digit()) && !line.is_empty());
        let display = format!(":{number}");
        let half = format!("testsrc2=s=320x360:r={RATE}");
        let picture =
            format!("{half}[moving];{half},trim=end_frame=1,loop=-1:1[still];[still][moving]hstack[out0]");
        let client = Program::start(
            "ffplay",
            lab.command(host, "ffplay")
                .args(["-v", "error", "-nostats", "-noborder", "-left", "0", "-top", "0", "-an"])
                .args(["-f", "lavfi", "-i", &picture])
                .env("DISPLAY", &display)
                .envs([("SDL_VIDEODRIVER", "x11"), ("SDL_RENDER_DRIVER", "software")]),
        );
        let screen = Self { display, programs: [server, client] };
        let still = scratch.file("expected.png");
        judge(
            ["-f", "lavfi", "-i", &half]
                .into_iter()
                .chain(ONE_PICTURE)
                .map(OsStr::new)
                .chain([still.as_os_str()]),
        );
        let deadline = Instant::now() + START;
        let look = scratch.file("look.png");
        loop {
            screen.shoot(lab, host, &look);
            if tool::least_likeness(&look, &still, STILL) > 0.9 {
                return screen;
            }
            assert!(Instant::now() < deadline, "nothing on the display{}", screen.report());
        }
    }

    /// Takes a picture of the display.
    fn shoot(&self, lab: &Lab, host: &str, to: &Path) {
        let mut command = lab.command(host, "timeout");
        tool::quiet(command.args([GRAB, "ffmpeg"])).args(self.input()).args(ONE_PICTURE).arg(to);
        finish(&mut command);
    }

    /// What makes ffmpeg read the display.
    fn input(&self) -> [&str; 10] {
        ["-f", "x11grab", "-framerate", RATE, "-video_size", SIZE, "-draw_mouse", "0", "-i", &self.display]
    }

    fn report(&self) -> String {
        self.programs.iter().map(Program::report).collect()
    }
}

/// The whole of the figure above, up to the viewer's RTMP port.
struct Cast {
    // Programs end before the lab does.
    daemon: Program,
    viewer: Program,
    caster: Program,
    publisher: Program,
    screen: Screen,
    lab: Lab,
    scratch: Scratch,
    player_url: String,
}

impl Cast {
    fn start() -> Self {
        let lab = Lab::up(&["server:public", "viewer:nat", "caster:nat"]);
        let scratch = Scratch::new();
        let screen = Screen::start(&lab, "caster", &scratch);
        let (daemon, server) = daemon(&lab);
        let recording = scratch.file("recording.flv");
        let recording = recording.to_str().expect("cargo's paths are text");
        let (mut viewer, ticket) =
            viewer(&lab, Some(&server), &["--rtmp", "127.0.0.1:0", "--record", recording]);
        let player_url = text(&viewer.events("ready")[0], "rtmp");
        let mut caster = lab.spawn(
            "caster",
            "punchcast",
            ["cast", &ticket, "--source", "rtmp", "--rtmp", "127.0.0.1:0", "--json"],
        );
        let publisher_url = text(&caster.event("ready", START), "rtmp");
        let link = caster.event("link", LINK);
        assert_eq!(text(&link, "rung"), "punched", "{}", caster.report());

        let published = scratch.file("published.flv");
        // One encoder, two outputs: what was published can be held against what arrives.
        let outputs =
            format!("[f=flv]{}|[f=flv:flvflags=no_duration_filesize]{publisher_url}", published.display());
        let mut command = lab.command("caster", "ffmpeg");
        tool::quiet(&mut command)
            .args(screen.input())
            .args(["-re", "-f", "lavfi", "-i", TONE])
            .args(CODECS)
            .args([
                "-flags",
                "+global_header",
                "-g",
                "50",
                "-map",
                "0:v",
                "-map",
                "1:a",
                "-f",
                "tee",
                &outputs,
            ]);
        let publisher = Program::start("publisher", &mut command);
        viewer.event("first-frame", LINK);
        Self { daemon, viewer, caster, publisher, screen, lab, scratch, player_url }
    }

    /// Starts a player that ends after [`PLAYED`] seconds of the stream.
    fn play(&self) -> (Program, PathBuf) {
        let played = self.scratch.file("played.flv");
        let mut command = self.lab.command("viewer", "ffmpeg");
        tool::quiet(&mut command)
            .args(["-i", &self.player_url, "-t", &PLAYED.to_string(), "-c", "copy"])
            .arg(&played);
        (Program::start("player", &mut command), played)
    }

    /// Ends the publisher, then the cast, in order; the viewer must have every packet that was published.
    fn end(mut self) {
        self.publisher.terminate();
        self.publisher.end(END);
        while self.caster.event("publisher", END)["joined"] != false {}
        self.caster.terminate();
        self.caster.succeeds(END);
        self.viewer.succeeds(END);
        assert!(self.viewer.events("lost").is_empty(), "{}", self.viewer.report());
        let (published, recording) = (self.scratch.file("published.flv"), self.scratch.file("recording.flv"));
        assert_whole(&published, &recording);
    }
}

#[test]
fn a_screen_behind_one_nat_is_seen_and_heard_behind_another() {
    if !have(&["Xvfb", "ffmpeg", "ffplay", "ffprobe"]) || !permitted() {
        return;
    }
    let cast = Cast::start();

    let (mut player, played) = cast.play();
    player.succeeds(LINK + Duration::from_secs(u64::from(PLAYED)));
    assert!(!player.report().contains("missing"), "{}", player.report());
    let screenshot = cast.scratch.file("screenshot.png");
    cast.screen.shoot(&cast.lab, "caster", &screenshot);

    let still = tool::least_likeness(&played, &screenshot, STILL);
    let moving = tool::least_likeness(&played, &screenshot, MOVING);
    tool::tell(&format!(
        "SSIM {still:.4} at least where the display stands still, {moving:.4} where it moves"
    ));
    assert!(still > 0.95, "SSIM {still}");
    assert!(moving < 0.95, "nothing moves: SSIM {moving}");
    let streams = probe([OsStr::new("-show_entries"), OsStr::new("stream=codec_name"), played.as_os_str()]);
    assert_eq!(streams.split_whitespace().collect::<Vec<_>>(), ["h264", "aac"]);
    let tone = tool::tone_share(&played);
    tool::tell(&format!("{:.1}% of the sound is the tone", tone * 100.0));
    assert!(tone > 0.9, "the tone is {tone} of the sound");
    for kind in ["v", "a"] {
        let packets = packets(&played, kind);
        assert_rising(&packets, kind);
        let length = packets[packets.len() - 1].at - packets[0].at;
        tool::tell(&format!("{} packets of {kind} over {length} ms", packets.len()));
    }
    assert!(packets(&played, "v").len() > PLAYED as usize * 5);
    cast.end();
}

#[test]
fn a_screen_is_seen_without_a_gap_when_the_daemon_is_killed() {
    if !have(&["Xvfb", "ffmpeg", "ffplay", "ffprobe"]) || !permitted() {
        return;
    }
    let mut cast = Cast::start();
    cast.viewer.event("stats", LINK);

    cast.daemon.kill();

    let seen = cast.viewer.events("stats").len();
    while cast.viewer.events("stats").len() < seen + 3 {
        cast.viewer.event("stats", LINK);
    }
    let frames = cast.viewer.events("stats").last().and_then(|stats| stats["frames"].as_u64());
    assert!(frames > Some(0), "{}", cast.viewer.report());
    cast.end();
}
