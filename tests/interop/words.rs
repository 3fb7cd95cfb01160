//! What the programs say to somebody who gives them what cannot be: what happened, where, and what to do. It is said at
//! the start and once, on standard error, with the exit code that goes with it.

use crate::lab::binary;
use crate::program::Program;
use crate::scene::{END, START};
use crate::tool::{self, Scratch, have};
use punchcast::endpoint::Endpoint;
use punchcast::ticket::ViewerIdentity;
use serde_json::Value;
use std::fs;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Instant;

/// Could not be had.
const FAILED: i32 = 1;

/// Seconds in which a program has said what is wrong.
const PATIENCE: &str = "20";

/// Makes no sense.
const USAGE: i32 = 2;

/// Runs a program to its end, without a display. Its exit code and what it said; standard output must be empty.
pub(crate) fn say(program: &str, args: &[&str]) -> (Option<i32>, String) {
    let (code, said, events) = run(program, args);
    assert!(events.is_empty(), "{args:?}: {events}\n{said}");
    (code, said)
}

/// The same with standard output.
fn run(program: &str, args: &[&str]) -> (Option<i32>, String, String) {
    run_in(&[], program, args)
}

/// The same on a desktop that the environment tells of.
fn run_in(desktop: &[(&str, &str)], program: &str, args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new("timeout");
    command.args([PATIENCE.as_ref(), binary(program).as_os_str()]).args(args).stdin(Stdio::null());
    for name in ["DISPLAY", "WAYLAND_DISPLAY", "XDG_SESSION_TYPE", "RUST_LOG"] {
        command.env_remove(name);
    }
    let output = command.envs(desktop.iter().copied()).output().expect("coreutils are everywhere");
    let said = String::from_utf8(output.stderr).expect("it speaks in text");
    let events = String::from_utf8(output.stdout).expect("it speaks in text");
    (output.status.code(), said, events)
}

/// Holds the same command with `--json` to say the same, and one event: the end, for this reason.
fn assert_told_as_end(args: &[&str], its_code: i32, its_words: &str) {
    let (code, said, events) = run("punchcast", &[args, &["--json"]].concat());
    assert_eq!((code, &said[..]), (Some(its_code), its_words), "{args:?}");
    let event: Value = serde_json::from_str(events.trim_end()).expect("one event");
    let reason = its_words.trim_end().strip_prefix("punchcast: ");
    assert_eq!((&event["event"], &event["ok"]), (&"end".into(), &false.into()), "{args:?}: {event}");
    assert_eq!(event["reason"].as_str(), reason, "{args:?}");
}

#[test]
fn options_that_make_no_sense_point_to_the_help_that_has_them() {
    for (args, help) in [
        (&["vieww"][..], "`punchcast --help`"),
        (&["--bogus"], "`punchcast --help`"),
        (&["view", "--bogus"], "`punchcast view --help`"),
        (&["view", "--record", "x.flv", "--flv", "x.flv"], "`punchcast view --help`"),
        (&["view", "--json", "--flv", "-"], "`punchcast view --help`"),
        (&["view", "--record", "x.mp4"], "`punchcast view --help`"),
        (&["view", "--flv", "x.mkv"], "`punchcast view --help`"),
        (&["cast"], "`punchcast cast --help`"),
        (&["cast", "punchcast://cut"], "`punchcast cast --help`"),
        (&["check"], "`punchcast check --help`"),
        (&["demo", "--bogus"], "`punchcast demo --help`"),
    ] {
        let (code, said) = say("punchcast", args);
        assert_eq!(code, Some(USAGE), "{args:?}: {said}");
        let lines: Vec<_> = said.lines().collect();
        assert!(lines.len() == 2 && lines[0].starts_with("punchcast: "), "{args:?}: {said}");
        assert_eq!(lines[1], format!("{help} tells more"), "{args:?}");
    }
}

#[test]
fn what_cannot_be_had_is_told_at_the_start_in_one_line() {
    let scratch = Scratch::new();
    let dir = scratch.file("directory");
    fs::create_dir(&dir).expect("a scratch directory can be made");
    let dir = dir.to_str().expect("text");
    let (empty, prose) = (scratch.file("empty.flv"), scratch.file("prose.flv"));
    fs::write(&empty, "").expect("a scratch file can be written");
    fs::write(&prose, "What is written here is no film.").expect("a scratch file can be written");
    let [empty, prose] = [&empty, &prose].map(|path| path.to_str().expect("text"));
    let busy = TcpListener::bind("127.0.0.1:0").expect("a port");
    let busy = busy.local_addr().expect("it is bound").to_string();
    let serve = ["cast", "--serve", "127.0.0.1:0", "--source"];
    let cast = |source| [&serve[..], &[source]].concat();

    let cases: [(Vec<&str>, &[&str]); 16] = [
        (vec!["view", "--page", &busy], &[&busy, "in use", "--page"]),
        (vec!["view", "--rtmp", &busy], &[&busy, "in use", "--rtmp"]),
        (vec!["view", "--once", "--rtmp", &busy], &[&busy, "in use", "--rtmp"]),
        ([&cast("rtmp")[..], &["--rtmp", &busy]].concat(), &[&busy, "in use", "--rtmp"]),
        (vec!["cast", "--serve", &busy, "--source", "pattern"], &[&busy, "in use", "--serve"]),
        (vec!["view", "--record", dir], &[dir, "directory"]),
        (vec!["view", "--flv", dir], &[dir, "directory"]),
        (vec!["view", "--snapshot", dir], &[dir, "directory"]),
        (vec!["view", "--record", "/nonexistent/x.flv"], &["/nonexistent/x.flv", "No such file"]),
        (vec!["view", "--flv", "/nonexistent/x.flv"], &["/nonexistent/x.flv", "No such file"]),
        (vec!["view", "--snapshot", "/nonexistent/x.png"], &["/nonexistent/x.png", "No such file"]),
        (vec!["view", "--player", "no-such-player -"], &["no-such-player", "--player"]),
        (cast(dir), &[dir, "directory"]),
        (cast(empty), &[empty, "empty"]),
        (cast(prose), &[prose, "not an FLV file", "ffmpeg"]),
        (cast("screeen"), &["screeen", "rtmp, screen, browser"]),
    ];
    for (args, words) in cases {
        let (code, said) = say("punchcast", &args);
        assert_eq!((code, said.lines().count()), (Some(FAILED), 1), "{args:?}: {said}");
        assert!(words.iter().all(|word| said.contains(word)), "{args:?}: {said}");
        assert_told_as_end(&args, FAILED, &said);
    }
    let (code, said) = say("punchcastd", &["--main", &busy, "--assist", "127.0.0.1:0"]);
    assert!(code == Some(FAILED) && said.contains(&busy) && said.contains("--main"), "{said}");
}

#[test]
fn a_busy_port_is_all_that_a_caster_with_a_ticket_tells_of() {
    let mut command = Command::new(binary("punchcast"));
    let mut viewer = Program::start("viewer", command.args(["view", "--page", "none", "--no-port-mapping"]));
    let ticket = viewer.line(START, |line| line.starts_with("punchcast://"));
    let busy = TcpListener::bind("127.0.0.1:0").expect("a port");
    let busy = busy.local_addr().expect("it is bound").to_string();
    let (code, said) = say("punchcast", &["cast", &ticket, "--rtmp", &busy]);
    assert_eq!(code, Some(FAILED), "{said}");
    assert!(said.lines().count() == 1 && said.contains(&busy), "{said}");
}

#[test]
fn a_screen_without_x11_names_what_was_tried_and_the_ways_that_there_are_here() {
    let args = ["cast", "--serve", "127.0.0.1:0", "--source", "screen"];
    let (x11, wayland) = (["DISPLAY=:0", "XAUTHORITY"], ["On this desktop", "wf-recorder"]);
    for (desktop, begin, advice, other) in [
        (&[][..], "there is no X11 display here: DISPLAY is not set\n", x11, wayland),
        (&[("DISPLAY", ":4242")], "the X11 display \":4242\" cannot be had: ", x11, wayland),
        (&[("WAYLAND_DISPLAY", "wayland-0")], "there is no X11 display here: ", wayland, x11),
    ] {
        let (code, said, _) = run_in(desktop, "punchcast", &args);
        assert_eq!(code, Some(FAILED), "{said}");
        assert!(said.starts_with(&format!("punchcast: {begin}")), "{said}");
        for way in ["--source browser", "OBS", "--source rtmp"].into_iter().chain(advice) {
            assert!(said.contains(way), "{way}: {said}");
        }
        assert!(other.iter().all(|way| !said.contains(way)), "{said}");
    }
    let (_, said) = say("punchcast", &args);
    assert_told_as_end(&args, FAILED, &said);
}

/// Ends a caster that nobody has linked with; all that it said on standard error.
fn interrupted(caster: &mut Program) -> Vec<String> {
    caster.terminate();
    let deadline = Instant::now() + END;
    loop {
        let said = caster.talk();
        if said.iter().any(|line| line.contains("interrupted")) {
            return said;
        }
        assert!(Instant::now() < deadline, "{}", caster.report());
        thread::yield_now();
    }
}

#[test]
fn a_quiet_caster_says_its_results_and_why_it_failed_and_nothing_else() {
    if !have(&["Xvfb"]) {
        return;
    }
    let (_server, display) = tool::display();
    // It has addresses of its own beside a daemon whose name leads nowhere: the caster goes on with them.
    let ticket = ViewerIdentity::from_random(&[7; ViewerIdentity::RANDOM_LEN])
        .ticket(
            Some("nowhere.invalid".parse().expect("a name")),
            vec![Endpoint::new(([127, 0, 0, 1], 9).into())],
        )
        .to_string();
    for (quiet, talkative) in [(&[][..], true), (&["--quiet"], false)] {
        let mut command = Command::new(binary("punchcast"));
        let args = ["cast", &ticket, "--serve", "127.0.0.1:0", "--source", "screen", "--no-port-mapping"];
        let mut caster = Program::start("caster", command.args(args).args(quiet).env("DISPLAY", &display));
        caster.line(START, |line| line.starts_with("rtmp://"));
        let said = interrupted(&mut caster);
        let says = |words: &str| said.iter().any(|line| line.contains(words));
        assert_eq!(says("casting ") && says("own addresses alone"), talkative, "{said:?}");
        assert!(talkative || said == ["punchcast: interrupted"], "{said:?}");
        assert!(caster.said().iter().all(|line| line.starts_with("rtmp://")), "{}", caster.report());
    }
}

#[test]
fn the_link_of_the_sharing_page_is_shown_whether_or_not_anything_else_is() {
    for quiet in [&[][..], &["--quiet"]] {
        let mut command = Command::new(binary("punchcast"));
        let args = ["cast", "--serve", "127.0.0.1:0", "--source", "browser"];
        let mut caster = Program::start("caster", command.args(args).args(quiet));
        // The address for players comes last.
        caster.line(START, |line| line.starts_with("rtmp://"));
        let said = interrupted(&mut caster);
        assert_eq!(said.iter().filter(|line| line.contains("http://127.0.0.1:")).count(), 1, "{said:?}");
    }
}
