//! RTMP's four roles between this program and others, without a ticket: publishers straight to the viewer, players and
//! viewers that dial the caster. And FLV without RTMP: pipes, players, HTTP.

use crate::home::alone;
use crate::lab::binary;
use crate::obs::Obs;
use crate::program::Program;
use crate::scene::{END, LINK, START, text};
use crate::tool::{self, Scratch, assert_whole, ffmpeg, have, probe};
use serde_json::Value;
use std::ffi::OsStr;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Seconds of stream.
const SECONDS: u32 = 3;

/// How long a judge may hang on an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A viewer without a daemon, and what it said when all was bound.
fn viewer(args: &[&str], record: &Path) -> (Program, Value) {
    let mut command = Command::new(binary("punchcast"));
    command.args(["view", "--json", "--no-port-mapping"]).args(args).arg("--record").arg(record);
    let mut viewer = Program::start("viewer", &mut command);
    let ready = viewer.event("ready", START);
    (viewer, ready)
}

/// A caster, and what it said when all was bound.
fn caster(args: &[&str]) -> (Program, Value) {
    let mut command = Command::new(binary("punchcast"));
    let command = command.args(["cast", "--json", "--no-port-mapping"]).args(args);
    let mut caster = Program::start("caster", command);
    let ready = caster.event("ready", START);
    (caster, ready)
}

/// An ffmpeg that publishes a file in real time.
fn publish(source: &Path, url: &str) -> Program {
    let mut command = ffmpeg();
    command.arg("-re").arg("-i").arg(source).args(["-c", "copy", "-f", "flv", url]);
    Program::start("ffmpeg", &mut command)
}

/// An ffprobe that reads `packets` packets from somewhere.
fn prober(url: &str, packets: u32) -> Program {
    let mut command = Command::new("ffprobe");
    command.args(["-hide_banner", "-v", "warning", "-read_intervals", &format!("%+#{packets}")]).args([
        "-show_entries",
        "packet=codec_type,flags",
        "-of",
        "csv=p=0",
        url,
    ]);
    Program::start("ffprobe", &mut command)
}

/// Holds an ffprobe to succeed without a warning, to have seen pictures from a keyframe on, and as many packets.
fn assert_played(mut prober: Program, packets: usize) {
    prober.succeeds(PATIENCE);
    assert!(prober.talk().is_empty(), "{}", prober.report());
    let lines = || prober.said().iter().filter(|line| !line.is_empty());
    assert!(lines().count() >= packets, "{}", prober.report());
    let first = lines().find(|line| line.starts_with("video,")).expect("a picture");
    assert!(first.contains(",K"), "it begins with {first}");
}

/// Holds a file to be read by ffprobe without a word of complaint.
fn assert_clean(file: &Path) {
    let args = ["-show_entries", "stream=codec_type"].map(OsStr::new);
    let streams = probe(args.into_iter().chain([file.as_os_str()]));
    assert_eq!(streams.split_whitespace().collect::<Vec<_>>(), ["video", "audio"], "{}", file.display());
}

/// The same address with another key.
fn wrong_key(url: &str) -> String {
    let (base, key) = url.rsplit_once('/').expect("a key");
    format!("{base}/{}x", &key[..key.len() - 1])
}

#[test]
fn ffmpeg_publishes_straight_to_the_viewer_with_the_key_and_not_without() {
    if !have(&["ffmpeg", "ffprobe"]) {
        return;
    }
    let scratch = Scratch::new();
    let (source, recording) = (scratch.file("source.flv"), scratch.file("recording.flv"));
    tool::make_source(&source, SECONDS);
    let (mut viewer, ready) = viewer(&["--page", "none", "--rtmp-in"], &recording);
    let url = text(&ready, "rtmp_url");

    let mut stranger = publish(&source, &wrong_key(&url));
    assert!(!stranger.end(PATIENCE).success(), "a wrong key is let in{}", stranger.report());
    assert!(viewer.events("link").is_empty(), "{}", viewer.report());
    assert_eq!(viewer.event("wrong-key", END)["role"], "publisher");

    publish(&source, &url).succeeds(PATIENCE);
    let link = viewer.event("link", LINK);
    assert_eq!((&link["rung"], &link["secure"]), (&"lan".into(), &false.into()), "{link}");
    viewer.event("cast-end", END);
    viewer.terminate();
    viewer.succeeds(END);
    // ffmpeg's last word is no picture.
    let pictures = tool::packets(&source, "v").len();
    assert_eq!(viewer.events("stats").last().expect("statistics")["total_frames"], pictures);
    assert!(viewer.talk().iter().all(|line| !line.contains(url.rsplit_once('/').expect("a key").1)));

    assert_whole(&source, &recording);
    assert_clean(&recording);
}

#[test]
fn a_publisher_that_speaks_like_obs_and_a_caster_with_the_ticket_share_the_viewers_port() {
    if !have(&["ffmpeg", "ffprobe"]) {
        return;
    }
    let scratch = Scratch::new();
    let (source, recording) = (scratch.file("source.flv"), scratch.file("recording.flv"));
    tool::make_source(&source, SECONDS);
    let (mut viewer, ready) = viewer(&["--page", "none", "--rtmp-in", "--rtmp-key", Obs::KEY], &recording);
    let url = text(&ready, "rtmp_url");

    let mut obs = Obs::connect(tool::addr_of(&url));
    obs.publish();
    assert_eq!(viewer.event("link", LINK)["secure"], false);
    // A caster who has the ticket comes to the same port.
    let (mut caster, _) = caster(&["--source", "pattern", "--size", "320x180", &text(&ready, "ticket")]);
    let link = viewer.event("link", LINK);
    assert_eq!((&link["secure"], &link["cast"]), (&true.into(), &2.into()), "{link}");
    obs.send_file(&source);
    obs.leave();
    viewer.event("cast-end", END);
    caster.terminate();
    caster.succeeds(END);
    viewer.terminate();
    viewer.succeeds(END);

    assert_whole(&source, &recording);
}

#[test]
fn a_viewer_dials_the_caster_when_nobody_comes_and_gets_the_file_whole() {
    if !have(&["ffmpeg", "ffprobe"]) {
        return;
    }
    let scratch = Scratch::new();
    let (source, recording) = (scratch.file("source.flv"), scratch.file("recording.flv"));
    tool::make_source(&source, SECONDS);
    // The file begins with the first player.
    let (mut caster, ready) = caster(&["--serve", "127.0.0.1:0", "--source", source.to_str().expect("text")]);
    let url = text(&ready, "rtmp_url");
    let args = ["--page", "none", "--dial", &url, "--dial-after", "1.5", "--once"];
    let (mut viewer, ready) = viewer(&args, &recording);

    let attempt = viewer.event("attempt", LINK);
    assert_eq!(attempt["rung"], "reverse");
    // Not known, and not made up.
    assert_eq!(attempt.get("local"), None, "{attempt}");
    let waited = attempt["t_ms"].as_f64().expect("a time") - ready["t_ms"].as_f64().expect("a time");
    assert!((1400.0..10_000.0).contains(&waited), "dialled after {waited} ms");
    let link = viewer.event("link", LINK);
    assert_eq!((&link["rung"], &link["secure"]), (&"reverse".into(), &false.into()), "{link}");
    let local: SocketAddr = text(&link, "local").parse().expect("an address and a port");
    assert!(local.ip().is_loopback() && local.port() != 0, "{link}");
    viewer.event("first-frame", LINK);
    caster.succeeds(PATIENCE);
    viewer.succeeds(END);

    assert_whole(&source, &recording);
    assert_clean(&recording);
}

#[test]
fn a_viewer_dials_an_ffmpeg_that_listens_and_gets_the_file_whole() {
    if !have(&["ffmpeg", "ffprobe"]) {
        return;
    }
    let scratch = Scratch::new();
    let (source, recording) = (scratch.file("source.flv"), scratch.file("recording.flv"));
    tool::make_source(&source, SECONDS);
    // ffmpeg takes no port 0. The viewer dials until somebody answers there.
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let url = format!("rtmp://{}/live/x", free.expect("a port is free"));
    let mut server = ffmpeg();
    server.arg("-re").arg("-i").arg(&source).args(["-c", "copy", "-flvflags", "no_duration_filesize"]);
    let mut server = Program::start("ffmpeg", server.args(["-f", "flv", "-listen", "1", &url]));
    let (mut viewer, _) = viewer(&["--page", "none", "--dial", &url], &recording);
    let link = viewer.event("link", LINK);
    assert_eq!((&link["rung"], &link["secure"]), (&"reverse".into(), &false.into()), "{link}");
    server.succeeds(PATIENCE);
    assert!(server.talk().is_empty(), "{}", server.report());
    // It hangs up without a word, as a server does that is killed.
    assert_eq!(text(&viewer.event("lost", END), "why"), "the server hung up");
    viewer.terminate();
    viewer.succeeds(END);

    assert_whole(&source, &recording);
    assert_clean(&recording);
}

#[test]
fn a_viewer_dials_again_until_the_caster_is_there_and_after_it_was_killed() {
    let scratch = Scratch::new();
    let (mut first, ready) = caster(&["--serve", "127.0.0.1:0", "--source", "pattern", "--size", "320x180"]);
    let url = text(&ready, "rtmp_url");
    let addr = tool::addr_of(&url).to_string();
    let key = url.rsplit_once('/').expect("a key").1.to_owned();
    first.kill();
    let (mut viewer, _) = viewer(&["--page", "none", "--dial", &url], &scratch.file("recording.flv"));
    let failed = viewer.event("dial-failed", LINK);
    assert_eq!(failed["why"], "connection refused");

    let again = ["--serve", &addr, "--rtmp-key", &key, "--source", "pattern", "--size", "320x180"];
    let (mut second, _) = caster(&again);
    viewer.event("first-frame", LINK);
    second.kill();
    viewer.event("lost", LINK);
    let (mut third, _) = caster(&again);
    viewer.event("first-frame", LINK);
    third.terminate();
    third.succeeds(END);
    viewer.event("cast-end", END);
    viewer.terminate();
    viewer.succeeds(END);
}

#[test]
fn ffmpeg_and_ffprobe_play_from_the_caster_with_the_key_and_not_without() {
    if !have(&["ffmpeg", "ffprobe"]) {
        return;
    }
    let scratch = Scratch::new();
    let source = scratch.file("source.flv");
    tool::make_source(&source, 12);
    let (mut caster, ready) = caster(&["--serve", "127.0.0.1:0", "--rtmp", "127.0.0.1:0"]);
    let (url, publish_at) = (text(&ready, "rtmp_url"), text(&ready, "rtmp"));
    let mut publisher = publish(&source, &publish_at);
    caster.event("publisher", START);

    assert_played(prober(&url, 100), 100);
    let copy = scratch.file("copy.flv");
    let mut player = ffmpeg();
    player.args(["-i", &url, "-t", "2", "-c", "copy"]).arg(&copy);
    let mut player = Program::start("player", &mut player);
    player.succeeds(PATIENCE);
    assert!(player.talk().is_empty(), "{}", player.report());
    assert_clean(&copy);
    let mut stranger = prober(&wrong_key(&url), 1);
    assert!(!stranger.end(PATIENCE).success(), "a wrong key plays{}", stranger.report());
    assert!(stranger.said().is_empty(), "{}", stranger.report());
    assert_eq!(caster.event("wrong-key", END)["role"], "player");

    publisher.terminate();
    publisher.end(START);
    caster.terminate();
    caster.succeeds(END);
}

#[test]
fn http_flv_pipes_and_players_get_files_of_their_own() {
    if !have(&["ffmpeg", "ffprobe", "mkfifo"]) {
        return;
    }
    let scratch = Scratch::new();
    let source = scratch.file("source.flv");
    tool::make_source(&source, 12);
    let [recording, pipe, played] =
        ["recording.flv", "pipe.flv", "played.flv"].map(|name| scratch.file(name));
    alone(Command::new("mkfifo").arg(&pipe));
    let player = format!("sh -c 'exec cat > \"$1\"' player '{}'", played.display());
    let args =
        ["--page", "127.0.0.1:0", "--rtmp-in", "--player", &player, "--flv", pipe.to_str().expect("text")];
    let (mut viewer, ready) = viewer(&args, &recording);
    let page = text(&ready, "page");
    let mut publisher = publish(&source, &text(&ready, "rtmp_url"));
    viewer.event("first-frame", LINK);

    assert_played(prober(&format!("{page}live.flv"), 100), 100);
    let mut nothing = prober(&format!("{page}live-10.flv"), 1);
    assert!(!nothing.end(PATIENCE).success(), "{}", nothing.report());
    for _ in 0..2 {
        assert_played(prober(pipe.to_str().expect("text"), 40), 40);
    }

    publisher.succeeds(PATIENCE);
    viewer.event("cast-end", END);
    viewer.terminate();
    viewer.succeeds(END);
    assert_whole(&source, &played);
    assert_clean(&played);
    assert_clean(&recording);
}

#[test]
fn flv_on_standard_output_is_whole() {
    if !have(&["ffmpeg", "ffprobe"]) {
        return;
    }
    let scratch = Scratch::new();
    let (source, piped) = (scratch.file("source.flv"), scratch.file("piped.flv"));
    tool::make_source(&source, SECONDS);
    let (mut caster, ready) = caster(&["--serve", "127.0.0.1:0", "--source", source.to_str().expect("text")]);
    let mut viewer = Command::new(binary("punchcast"));
    viewer
        .args(["view", "--page", "none", "--no-port-mapping", "--once", "--quiet", "--flv", "-", "--dial"])
        .arg(text(&ready, "rtmp_url"))
        .stdout(std::fs::File::create(&piped).expect("a file"));
    alone(&mut viewer);
    caster.succeeds(END);

    assert_whole(&source, &piped);
    assert_clean(&piped);
}

#[test]
fn a_terminal_gets_the_tickets_code_and_one_calm_line_and_a_log_neither() {
    if !have(&["script"]) {
        return;
    }
    let (mut caster, ready) = caster(&["--serve", "127.0.0.1:0", "--source", "pattern", "--size", "320x180"]);
    let dial = text(&ready, "rtmp_url");
    let view = |colour: &str| {
        let punchcast = binary("punchcast");
        let words = format!(
            "{colour} TERM=xterm timeout -s INT 4 '{}' view --page none --no-port-mapping --dial '{dial}'",
            punchcast.display()
        );
        let mut command = Command::new("script");
        command.args(["-qec", &words, "/dev/null"]);
        let said = String::from_utf8_lossy(&tool_output(&mut command)).into_owned();
        assert!(said.contains("\u{2588}") || said.contains("\u{2580}"), "no code: {said}");
        assert!(said.contains("\r\u{1b}[Kreverse · "), "no line: {said}");
        assert!(said.contains("not encrypted"), "{said}");
        said
    };
    assert!(view("NO_COLOR=").contains("\u{1b}[33m"), "no colour");
    assert!(!view("NO_COLOR=1").contains("\u{1b}[33m"), "colour against NO_COLOR");

    let mut log = Command::new("timeout");
    log.args(["-s", "INT", "3"]).arg(binary("punchcast"));
    log.args(["view", "--page", "none", "--no-port-mapping", "--dial", &dial]);
    let output = log.output().expect("coreutils are everywhere");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("not encrypted") && !said.contains('\u{1b}') && !said.contains('\r'), "{said}");
    caster.terminate();
    caster.succeeds(END);
}

/// What a command writes to standard output.
fn tool_output(command: &mut Command) -> Vec<u8> {
    command.stdin(std::process::Stdio::null()).output().expect("it was looked for").stdout
}
