//! What a reader finds in a stream that it joins late, or in a file that has several: one picture, one sound, nothing else.

use crate::lab::binary;
use crate::program::Program;
use crate::scene::{END, LINK, START, text};
use crate::tool::{self, Scratch, have, judge, probe};
use crate::words::say;
use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
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

/// The length that ffprobe tells, in seconds.
fn length(what: impl AsRef<OsStr>) -> Option<f64> {
    let args = ["-show_entries", "format=duration"].map(OsStr::new);
    probe(args.into_iter().chain([what.as_ref()])).trim().parse().ok()
}

/// Holds a file's length to be that of its packets, whatever its source was.
fn assert_own_length(file: &Path) {
    let length = length(file).expect("a file has a length");
    let packets = ["v", "a"].map(|kind| tool::packets(file, kind)).concat();
    let last = packets.iter().map(|packet| packet.at).max().expect("packets") as f64 / 1e3;
    assert!((length - last).abs() < 0.1, "{}: {length} s, and its last packet at {last}", file.display());
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
    let rtmp = text(&ready, "rtmp");
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
        // The file has one, and a stream has none.
        assert_eq!((length(&rtmp), length(&http)), (None, None));
        end(&mut caster);
        viewer.event(event, LINK);
    }
    viewer.terminate();
    viewer.succeeds(END);
    for file in [&record, &live] {
        assert_clean(file);
        assert_own_length(file);
    }
}

#[test]
fn casts_that_are_coded_in_different_ways_are_recorded_to_files_of_their_own() {
    if !have(&["ffmpeg", "ffprobe"]) {
        return;
    }
    let scratch = Scratch::new();
    let (record, first, second) = (scratch.file("r.flv"), scratch.file("1.flv"), scratch.file("2.flv"));
    tool::make_source(&first, 3);
    let small = ["-c:v", "libx264", "-s", "160x120", "-c:a", "copy"].map(OsStr::new);
    let input = [OsStr::new("-i"), first.as_os_str()];
    judge(input.into_iter().chain(small).chain([second.as_os_str()]));
    let args = ["--record".as_ref(), record.as_os_str(), "--page".as_ref(), "none".as_ref()];
    let (mut viewer, ready) = viewer(&args);
    let ticket = text(&ready, "ticket");
    // The same again goes on in the same file.
    for source in [&first, &first, &second] {
        cast(&mut viewer, &ticket, source).succeeds(END);
        viewer.event("cast-end", LINK);
    }
    viewer.terminate();
    viewer.succeeds(END);
    let part = scratch.file("r-part2.flv");
    let begun = viewer.events("recording");
    let begun: Vec<_> = begun.iter().map(|begun| (text(begun, "file"), begun["part"].as_u64())).collect();
    let files = [(&record, 1), (&part, 2)].map(|(file, part)| (file.display().to_string(), Some(part)));
    assert_eq!(begun, files, "{}", viewer.report());
    assert!(viewer.said().last().is_some_and(|last| last.contains(r#""event":"end""#)));
    for (file, width, pictures) in [(&record, "640", 150), (&part, "160", 75)] {
        assert_clean(file);
        let args = ["-select_streams", "v", "-show_entries", "stream=width"].map(OsStr::new);
        let told = probe(args.into_iter().chain([file.as_os_str()]));
        assert_eq!(told.trim(), width, "{}", file.display());
        let packets = tool::packets(file, "v");
        assert_eq!(packets.len(), pictures, "{}", file.display());
        tool::assert_rising(&packets, "pictures");
    }
}

#[test]
fn a_viewer_keeps_files_that_are_there_unless_it_is_told_to_replace_them() {
    let scratch = Scratch::new();
    let (old, new, further) = (scratch.file("old.flv"), scratch.file("new.flv"), scratch.file("new-2.flv"));
    for file in [&old, &further] {
        fs::write(file, "an old film").expect("a scratch file can be written");
    }
    let both = scratch.file("old-2.flv");
    fs::write(&both, "an old film").expect("a scratch file can be written");
    let cases = [("--record", &old, &old), ("--flv", &old, &old), ("--record", &new, &further)];
    for (option, given, blamed) in cases {
        let (code, said) = say("punchcast", &["view", "--quiet", option, given.to_str().expect("text")]);
        let words = format!("{} is there already", blamed.display());
        assert!(code == Some(1) && said.contains(&words) && said.contains("--overwrite"), "{said}");
        assert_eq!(fs::read(blamed).expect("it is there"), b"an old film");
    }
    assert!(!new.exists());

    // No cast comes: nothing is replaced, and nothing left.
    for file in [&old, &scratch.file("fresh.flv")] {
        let args = ["--overwrite", "--page", "none", "--record"].map(OsStr::new);
        let (mut viewer, _) = viewer(&[&args[..], &[file.as_os_str()]].concat());
        viewer.terminate();
        viewer.succeeds(END);
    }
    assert_eq!(fs::read(&old).expect("it is there"), b"an old film");
    assert!(!scratch.file("fresh.flv").exists());
}
