//! What a reader finds in a stream that it joins late, or in a file that has several: one picture, one sound, nothing else.

use crate::lab::binary;
use crate::program::Program;
use crate::scene::{END, LINK, START, text};
use crate::tool::{self, Scratch, have, judge, probe};
use serde_json::Value;
use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

/// Seconds of a source that is joined late; none of these tests plays it to its end.
const LONG: u32 = 60;

/// A viewer without a daemon, and what it said when all was bound.
fn viewer(args: &[&OsStr]) -> (Program, Value) {
    let mut command = Command::new(binary("punchcast"));
    let mut viewer =
        Program::start("viewer", command.args(["view", "--json", "--no-port-mapping"]).args(args));
    let ready = viewer.event("ready", START);
    (viewer, ready)
}

/// A cast of a file, whose pictures have come.
fn cast(viewer: &mut Program, ticket: &str, source: &Path) -> Program {
    let mut command = Command::new(binary("punchcast"));
    let command = command.args(["cast", ticket, "--json", "--no-port-mapping", "--source"]).arg(source);
    let caster = Program::start("caster", command);
    viewer.event("link", LINK);
    viewer.event("first-frame", LINK);
    for _ in 0..2 {
        viewer.event("stats", LINK);
    }
    caster
}

/// Holds what ffprobe finds there to be a picture and a sound, without a word of complaint.
fn assert_plain(what: impl AsRef<OsStr>) {
    let args = ["-show_entries", "stream=codec_type"].map(OsStr::new);
    let streams = probe(args.into_iter().chain([what.as_ref()]));
    assert_eq!(streams.split_whitespace().collect::<Vec<_>>(), ["video", "audio"], "{:?}", what.as_ref());
}

/// Holds a file to be [plain](assert_plain) and to be decoded to its end without a word of complaint.
fn assert_clean(file: &Path) {
    assert_plain(file);
    judge([
        OsStr::new("-i"),
        file.as_os_str(),
        "-map".as_ref(),
        "0".as_ref(),
        "-f".as_ref(),
        "null".as_ref(),
        "-".as_ref(),
    ]);
}

#[test]
fn no_late_player_and_no_file_of_several_casts_has_a_stream_that_is_none() {
    if !have(&["ffmpeg", "ffprobe"]) {
        return;
    }
    let scratch = Scratch::new();
    let (source, record, live) = (scratch.file("s.flv"), scratch.file("r.flv"), scratch.file("l.flv"));
    tool::make_source(&source, LONG);
    let files = ["--record".as_ref(), record.as_os_str(), "--flv".as_ref(), live.as_os_str()];
    let ports = ["--rtmp", "127.0.0.1:0", "--casts", "1"].map(OsStr::new);
    let (mut viewer, ready) = viewer(&[&files[..], &ports].concat());
    let ticket = text(&ready, "ticket");
    let rtmp = format!("rtmp://{}/punchcast/live", text(&ready, "rtmp"));
    let page = text(&ready, "page");
    let http = format!("{}/live.flv", page.trim_end_matches('/'));

    // The first is lost, the second comes after it, and the third after the second's end.
    for (end, event) in [
        (Program::kill as fn(&mut Program), "lost"),
        (Program::terminate, "cast-end"),
        (Program::terminate, "cast-end"),
    ] {
        let mut caster = cast(&mut viewer, &ticket, &source);
        assert_plain(&rtmp);
        assert_plain(&http);
        end(&mut caster);
        viewer.event(event, LINK);
    }
    viewer.terminate();
    viewer.succeeds(END);
    for file in [&record, &live] {
        assert_clean(file);
    }
}
