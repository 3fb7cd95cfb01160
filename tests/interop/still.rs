//! A screen on which nothing moves: what is recorded of it is as long as it was cast, however that ended.

use crate::lab::binary;
use crate::program::Program;
use crate::scene::{END, LINK, START, text};
use crate::tool::{self, Scratch, have, judge};
use serde_json::Value;
use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

/// Statistics that are waited for, one a second.
const SECONDS: usize = 8;

/// How often a screen that stands still is shown again, in seconds, and what a busy machine may add.
const STILL: f64 = 2.0 + 0.5;

/// A viewer that records, and what it said when all was bound.
fn recorder(file: &Path, args: &[&str]) -> (Program, Value) {
    let mut command = Command::new(binary("punchcast"));
    command.args(["view", "--json", "--no-port-mapping", "--page", "none"]).args(args);
    let mut viewer = Program::start("viewer", command.arg("--record").arg(file));
    let ready = viewer.event("ready", START);
    (viewer, ready)
}

/// When something was said, in seconds.
fn time(event: &Value) -> f64 {
    event["t_ms"].as_f64().expect("a time") / 1e3
}

/// The length that ffprobe tells, and when the last picture comes, in seconds; nothing may be complained of.
fn lengths(file: &Path) -> (f64, f64) {
    judge(["-i".as_ref(), file.as_os_str(), "-f".as_ref(), "null".as_ref(), "-".as_ref()]);
    let args = ["-show_entries", "format=duration"].map(OsStr::new);
    let length = tool::probe(args.into_iter().chain([file.as_os_str()]));
    let last = tool::packets(file, "v").last().expect("pictures").at;
    (length.trim().parse().expect("a length"), last as f64 / 1e3)
}

#[test]
fn what_is_recorded_of_a_still_screen_is_as_long_as_it_was_cast() {
    if !have(&["Xvfb", "ffmpeg", "ffprobe"]) {
        return;
    }
    let scratch = Scratch::new();
    let [whole, cut] = ["whole.flv", "cut.flv"].map(|name| scratch.file(name));
    let (_display, display) = tool::display();
    let (mut viewer, ready) = recorder(&whole, &[]);
    let mut command = Command::new(binary("punchcast"));
    command.args(["cast", &text(&ready, "ticket"), "--json", "--no-port-mapping", "--source", "screen"]);
    command.args(["--serve", "127.0.0.1:0"]).env("DISPLAY", display);
    let mut caster = Program::start("caster", &mut command);
    let served = text(&caster.event("ready", START), "rtmp_url");
    let began = time(&viewer.event("first-frame", LINK));
    let (mut crashes, _) = recorder(&cut, &["--dial", &served]);
    let cut_began = time(&crashes.event("first-frame", LINK));
    for _ in 0..SECONDS {
        viewer.event("stats", LINK);
    }
    crashes.pass_by();
    let cut_ended = time(&crashes.event("stats", LINK));
    crashes.kill();
    caster.terminate();
    caster.succeeds(END);
    let ended = time(&viewer.event("cast-end", LINK));
    viewer.terminate();
    viewer.succeeds(END);

    let (length, last) = lengths(&whole);
    // A stay of less than half a second is not written, as that may be the time between two pictures.
    let short = ended - began - length;
    assert!((-0.3..0.7).contains(&short), "{length} s of {}", ended - began);
    assert!(last > length - STILL, "the last picture comes at {last} of {length} s");
    // A file that nobody could end has what had come.
    let (length, _) = lengths(&cut);
    assert!(length > cut_ended - cut_began - STILL, "{length} s of {}", cut_ended - cut_began);
}
