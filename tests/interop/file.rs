//! FLV as a source: a file, and a pipe.

use crate::home::Home;
use crate::scene::LINK;
use crate::tool::{self, Scratch, assert_whole, ffmpeg, have};
use std::process::Stdio;

/// Seconds of stream.
const SECONDS: u32 = 3;

#[test]
fn an_flv_file_is_cast_whole_and_ends_the_cast() {
    if !have(&["ffmpeg", "ffprobe"]) {
        return;
    }
    let scratch = Scratch::new();
    let (source, recording) = (scratch.file("source.flv"), scratch.file("recording.flv"));
    tool::make_source(&source, SECONDS);

    let mut home = Home::cast(source.to_str().expect("text"), Stdio::null(), &recording);
    home.caster.event("end", LINK);
    home.end();

    assert_whole(&source, &recording);
}

#[test]
fn flv_from_a_pipe_is_cast_whole_and_ends_the_cast() {
    if !have(&["ffmpeg", "ffprobe"]) {
        return;
    }
    let scratch = Scratch::new();
    let (source, recording) = (scratch.file("source.flv"), scratch.file("recording.flv"));
    tool::make_source(&source, SECONDS);
    let mut live = ffmpeg()
        .arg("-re")
        .arg("-i")
        .arg(&source)
        .args(["-c", "copy", "-f", "flv", "-"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("ffmpeg starts");
    let pipe = live.stdout.take().expect("asked for above");

    let mut home = Home::cast("-", pipe.into(), &recording);
    home.caster.event("end", LINK);
    home.end();

    assert!(live.wait().expect("a child can be waited for").success());
    assert_whole(&source, &recording);
}
