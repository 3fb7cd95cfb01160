//! ffmpeg publishes to the caster.

use crate::home::Home;
use crate::program::Program;
use crate::scene::START;
use crate::tool::{self, Packet, Scratch, assert_rising, assert_whole, ffmpeg, have, packets, probe};
use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

/// Seconds of stream.
const SECONDS: u32 = 4;

#[test]
fn every_packet_that_ffmpeg_publishes_is_in_the_recording() {
    if !have(&["ffmpeg", "ffprobe"]) {
        return;
    }
    let scratch = Scratch::new();
    let (source, recording) = (scratch.file("source.flv"), scratch.file("recording.flv"));
    tool::make_source(&source, SECONDS);
    let home = Home::for_publisher(&recording);

    publish(&home, &source).succeeds(Duration::from_secs(u64::from(SECONDS)) + START);
    home.end_after_publisher();

    let count = |path: &Path| {
        probe(
            ["-count_packets", "-select_streams", "v", "-show_entries", "stream=codec_name,nb_read_packets"]
                .map(OsStr::new)
                .into_iter()
                .chain([path.as_os_str()]),
        )
    };
    assert_eq!(count(&recording), count(&source));
    assert_whole(&source, &recording);
    assert_eq!(packets(&recording, "v").len(), SECONDS as usize * 25);
}

/// Starts an ffmpeg that publishes a file in real time.
fn publish(home: &Home, source: &Path) -> Program {
    let mut command = ffmpeg();
    command.arg("-re").arg("-i").arg(source).args(["-c", "copy", "-f", "flv", home.publisher_url()]);
    Program::start("ffmpeg", &mut command)
}

#[test]
fn one_publisher_after_another_is_let_in_and_none_beside() {
    if !have(&["ffmpeg", "ffprobe"]) {
        return;
    }
    let scratch = Scratch::new();
    let (source, recording) = (scratch.file("source.flv"), scratch.file("recording.flv"));
    tool::make_source(&source, SECONDS);
    let mut home = Home::for_publisher(&recording);

    let mut first = publish(&home, &source);
    home.viewer.event("first-frame", START);
    let mut beside = publish(&home, &source);
    assert!(!beside.end(START).success(), "two publish at once{}", beside.report());
    first.succeeds(Duration::from_secs(u64::from(SECONDS)) + START);
    while home.caster.event("publisher", START)["joined"] != false {}
    publish(&home, &source).succeeds(Duration::from_secs(u64::from(SECONDS)) + START);
    home.end_after_publisher();

    let (source, recorded) = (packets(&source, "v"), packets(&recording, "v"));
    assert_rising(&recorded, "pictures");
    let contents =
        |packets: &[Packet]| packets.iter().map(|packet| packet.content.clone()).collect::<Vec<_>>();
    assert_eq!(contents(&recorded), [contents(&source), contents(&source)].concat());
    assert_rising(&packets(&recording, "a"), "sounds");
}
