//! Players at the viewer's RTMP port: late ones, several, and one that stops reading.

use crate::home::Home;
use crate::program::Program;
use crate::scene::{LINK, START};
use crate::tool::{self, CODECS, RATE, SIZE, Scratch, TONE, assert_rising, ffmpeg, have, parse_packets};
use punchcast::media::{Kind, Unit};
use punchcast::rtmp::{ClientEvent, ClientSession, Output, PlayConfig};
use socket2::{Domain, Socket, Type};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

/// Milliseconds from one picture to the next.
const FRAME: i64 = 40;

/// How long a player may hang on an answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Starts a publisher of ffmpeg's test picture and a tone, with a keyframe every `group` pictures.
fn publish(home: &Home, group: &str) -> Program {
    let mut command = ffmpeg();
    command
        .args(["-re", "-f", "lavfi", "-i", &format!("testsrc2=s={SIZE}:r={RATE}")])
        .args(["-re", "-f", "lavfi", "-i", TONE])
        .args(CODECS)
        .args(["-g", group, "-f", "flv", home.publisher_url()]);
    Program::start("publisher", &mut command)
}

/// An ffmpeg that decodes `frames` pictures and the sound along with them, and writes down each with its time on the
/// stream's own clock. It gives up at the first picture that it cannot decode.
fn decoder(home: &Home, frames: u32) -> Program {
    let mut command = ffmpeg();
    command
        .args(["-xerror", "-err_detect", "explode", "-copyts", "-i", &home.player_url])
        .args(["-map", "0:v", "-map", "0:a", "-frames:v", &frames.to_string(), "-fps_mode", "passthrough"])
        .args(["-f", "framecrc", "-"]);
    Program::start("player", &mut command)
}

/// The times of the pictures that a [`decoder`] wrote down, milliseconds.
fn picture_times(player: &Program) -> Vec<i64> {
    parse_packets(player.said(), 0).iter().map(|packet| packet.at).collect()
}

fn assert_no_gap(times: &[i64]) {
    // FLV's milliseconds and the decoder's clock may round differently.
    let gaps: Vec<_> = times.windows(2).filter(|pair| (pair[1] - pair[0] - FRAME).abs() > 2).collect();
    assert!(gaps.is_empty(), "gaps in {} pictures: {gaps:?}", times.len());
}

#[test]
fn late_players_begin_with_the_group_under_way() {
    if !have(&["ffmpeg", "ffprobe"]) {
        return;
    }
    let scratch = Scratch::new();
    let mut home = Home::for_publisher(&scratch.file("recording.flv"));
    // No second keyframe comes in the time of this test.
    let mut publisher = publish(&home, "240");
    home.viewer.event("first-frame", LINK);
    for _ in 0..3 {
        home.viewer.event("stats", LINK);
    }

    let mut player = decoder(&home, 125);
    let mut prober =
        Program::start(
            "ffprobe",
            Command::new("ffprobe")
                .args(["-hide_banner", "-v", "warning", "-read_intervals", "%+#200"])
                .args(["-show_entries", "packet=codec_type,flags,size", "-of", "csv=p=0", &home.player_url]),
        );

    let began = Instant::now();
    player.line(PATIENCE, |line| line.starts_with("0,"));
    tool::tell(&format!("ffmpeg's first picture after {} ms", began.elapsed().as_millis()));
    player.succeeds(PATIENCE);
    prober.succeeds(PATIENCE);
    for player in [&player, &prober] {
        assert!(player.talk().is_empty(), "{}", player.report());
    }
    let times = picture_times(&player);
    assert_eq!(times.len(), 125);
    assert!(times[0] < 1000, "the first picture is not the group's first, but at {} ms", times[0]);
    assert_no_gap(&times);
    let sounds = player.said().iter().filter(|line| line.starts_with("1,")).count();
    assert!(sounds > 150, "only {sounds} sounds");
    let first = prober.said().iter().find(|line| line.starts_with("video,")).expect("a picture");
    assert!(first.contains(",K"), "ffprobe begins with {first}");

    publisher.terminate();
    publisher.end(START);
    home.end_after_publisher();
}

#[test]
fn a_player_that_stops_reading_slows_nobody_and_comes_back_with_a_keyframe() {
    if !have(&["ffmpeg", "ffprobe"]) {
        return;
    }
    let scratch = Scratch::new();
    let mut home = Home::for_publisher(&scratch.file("recording.flv"));
    let mut publisher = publish(&home, "25");
    home.viewer.event("first-frame", LINK);
    let mut idler = Idler::play(&home.player_url);
    idler.read_until(|units| units.iter().filter(|unit| is_picture(unit)).count() > 10);
    home.viewer.event("stats", LINK);

    // While nobody reads from that one, another sees every picture.
    let mut player = decoder(&home, 125);
    player.succeeds(PATIENCE);
    assert!(player.talk().is_empty(), "{}", player.report());
    assert_no_gap(&picture_times(&player));

    idler.read_until(|units| leap(units).is_some());
    let (before, after) = leap(&idler.units).expect("found above");
    assert!(after.is_keyframe(), "it goes on without a keyframe at {} ms", after.timestamp);
    tool::tell(&format!("left out for the one that did not read: {} ms", after.timestamp - before.timestamp));

    publisher.terminate();
    publisher.end(START);
    home.end_after_publisher();
}

#[test]
fn a_player_sees_one_publisher_after_another_on_one_clock() {
    if !have(&["ffmpeg", "ffprobe"]) {
        return;
    }
    let scratch = Scratch::new();
    let mut home = Home::for_publisher(&scratch.file("recording.flv"));
    let mut first = publish(&home, "25");
    home.viewer.event("first-frame", LINK);
    let mut player = decoder(&home, 100);
    player.line(PATIENCE, |line| line.starts_with("0,"));

    first.terminate();
    first.end(START);
    while home.caster.event("publisher", START)["joined"] != false {}
    let mut second = publish(&home, "25");
    player.succeeds(PATIENCE);

    assert!(player.talk().is_empty(), "{}", player.report());
    assert_rising(&parse_packets(player.said(), 0), "pictures");
    second.terminate();
    second.end(START);
    home.end_after_publisher();
}

#[test]
fn a_player_sees_one_caster_after_another_on_one_clock() {
    if !have(&["ffmpeg", "ffprobe"]) {
        return;
    }
    let scratch = Scratch::new();
    let mut home = Home::for_publisher(&scratch.file("recording.flv"));
    let mut first = publish(&home, "25");
    home.viewer.event("first-frame", LINK);
    let mut player = decoder(&home, 100);
    player.line(PATIENCE, |line| line.starts_with("0,"));

    home.recast();
    first.end(START);
    let mut second = publish(&home, "25");
    player.succeeds(PATIENCE);

    assert!(player.talk().is_empty(), "{}", player.report());
    assert_rising(&parse_packets(player.said(), 0), "pictures");
    second.terminate();
    second.end(START);
    home.end_after_publisher();
}

fn is_picture(unit: &Unit) -> bool {
    unit.kind == Kind::Video && !unit.is_sequence_header()
}

/// The pictures before and after something was left out.
fn leap(units: &[Unit]) -> Option<(&Unit, &Unit)> {
    let pictures: Vec<&Unit> = units.iter().filter(|unit| is_picture(unit)).collect();
    let leaps = |pair: &&[&Unit]| i64::from(pair[1].timestamp) > i64::from(pair[0].timestamp) + 2 * FRAME;
    pictures.windows(2).find(leaps).map(|pair| (pair[0], pair[1]))
}

/// A player that reads when it is told to.
struct Idler {
    stream: TcpStream,
    session: ClientSession,
    units: Vec<Unit>,
}

impl Idler {
    fn play(url: &str) -> Self {
        let addr = tool::addr_of(url);
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None).expect("a socket");
        // What the kernel holds for it is not felt by the sender; so it may hold little.
        socket.set_recv_buffer_size(4096).expect("before it is connected");
        socket.connect(&addr.into()).expect("the viewer listens");
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        let session = ClientSession::player(PlayConfig::new(url).expect("a good address"));
        Self { stream, session, units: Vec::new() }
    }

    fn read_until(&mut self, enough: impl Fn(&[Unit]) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        let mut buffer = vec![0; 4096];
        while !enough(&self.units) {
            assert!(Instant::now() < deadline, "only {} units", self.units.len());
            while let Some(output) = self.session.poll_output() {
                match output {
                    Output::Transmit(bytes) => self.stream.write_all(&bytes).expect("the viewer reads"),
                    Output::Event(ClientEvent::Media(unit)) => self.units.push(unit),
                    Output::Event(event) => assert_eq!(event, ClientEvent::Playing),
                }
            }
            let count = self.stream.read(&mut buffer).expect("the viewer sends");
            assert!(count > 0, "the viewer hung up");
            self.session.handle_input(&buffer[..count]).expect("the viewer speaks RTMP");
        }
    }
}
