//! The RTMP sessions against ffmpeg, in both roles and both directions, over loopback.
//!
//! With `PUNCHCAST_RECORD` naming a directory, what ffmpeg sent is written there: the golden bytes under
//! `tests/data/rtmp`.

use punchcast::media::{Kind, Unit};
use punchcast::rtmp::{
    ClientEvent, ClientSession, Output, PlayConfig, PublishConfig, ServerEvent, ServerSession, StreamId,
};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Two seconds of picture and sound, encoded so that little is left of it.
const SOURCE: &str = "-f lavfi -i testsrc=size=160x120:rate=10:duration=2 \
    -f lavfi -i sine=frequency=440:sample_rate=44100:duration=2 \
    -c:v libx264 -preset ultrafast -tune zerolatency -g 10 -pix_fmt yuv420p -c:a aac -b:a 32k";

const FRAMES: usize = 20;

/// Longer than any step takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(30);

fn ffmpeg(arguments: &str) -> Child {
    Command::new("ffmpeg")
        .args("-hide_banner -loglevel warning -nostdin -y".split(' '))
        .args(arguments.split_whitespace())
        .stdout(Stdio::piped())
        .spawn()
        .expect("these tests need ffmpeg in the path")
}

fn record(name: &str, bytes: &[u8]) {
    if let Some(directory) = std::env::var_os("PUNCHCAST_RECORD") {
        std::fs::write(std::path::Path::new(&directory).join(name), bytes).expect("a directory to record to");
    }
}

/// One connection with ffmpeg, and all that it sent.
struct Wire {
    stream: TcpStream,
    heard: Vec<u8>,
}

impl Wire {
    fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { stream, heard: Vec::new() }
    }

    fn accept(listener: &TcpListener) -> Self {
        Self::new(listener.accept().expect("ffmpeg connects").0)
    }

    /// Connects to an ffmpeg that is about to listen.
    fn connect(port: u16) -> Self {
        for _ in 0..3000 {
            if let Ok(stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
                return Self::new(stream);
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
        panic!("ffmpeg does not listen");
    }

    /// What arrives next; empty at the end.
    fn receive(&mut self) -> Vec<u8> {
        let mut bytes = vec![0; 16 * 1024];
        let length = match self.stream.read(&mut bytes) {
            Ok(length) => length,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => 0,
            Err(error) => panic!("ffmpeg is silent: {error}"),
        };
        bytes.truncate(length);
        self.heard.extend_from_slice(&bytes);
        bytes
    }

    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("ffmpeg reads");
    }
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// Lets ffmpeg publish to a server's session; returns the units.
fn published_by_ffmpeg(record_as: Option<&str>) -> Vec<Unit> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut child = ffmpeg(&format!("{SOURCE} -f flv rtmp://127.0.0.1:{port}/live/key?token=x"));
    let mut wire = Wire::accept(&listener);
    let mut server = ServerSession::new(1);
    let mut units = Vec::new();
    let mut ended = false;
    loop {
        // ffmpeg closes with its last command unacknowledged, and what it has not read resets the connection: the
        // command may be lost.
        let bytes = wire.receive();
        if bytes.is_empty() {
            break;
        }
        server.handle_input(&bytes).unwrap();
        while let Some(output) = server.poll_output() {
            match output {
                Output::Transmit(bytes) => drop(wire.stream.write_all(&bytes)),
                Output::Event(ServerEvent::Publish { stream, app, key }) => {
                    assert_eq!((app.as_str(), key.as_str()), ("live", "key"));
                    server.accept(stream);
                }
                Output::Event(ServerEvent::Media(unit)) => units.push(unit),
                Output::Event(ServerEvent::PublishEnded(stream)) => {
                    assert_eq!(stream, StreamId(1));
                    ended = true;
                }
                Output::Event(event) => panic!("{event:?}"),
            }
        }
    }
    assert!(child.wait().unwrap().success());
    if let Some(name) = record_as.filter(|_| ended) {
        record(name, &wire.heard);
    }
    units
}

/// How many frames ffmpeg decodes from `url`.
fn decoded(child: Child) -> usize {
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter(|line| line.starts_with("0,")).count()
}

fn check_units(units: &[Unit]) {
    let count = |test: &dyn Fn(&Unit) -> bool| units.iter().filter(|unit| test(unit)).count();
    assert!(units[0].kind == Kind::Data && units[0].payload.starts_with(b"\x02\x00\x0aonMetaData"));
    assert_eq!(count(&|unit| unit.kind == Kind::Video && unit.is_sequence_header()), 1);
    assert_eq!(count(&|unit| unit.kind == Kind::Audio && unit.is_sequence_header()), 1);
    assert_eq!(count(&|unit| unit.kind == Kind::Video && unit.payload.get(1) == Some(&1)), FRAMES);
    assert!(count(&Unit::is_keyframe) >= 2);
    assert!(count(&|unit| unit.kind == Kind::Audio) > 80);
}

#[test]
fn ffmpeg_publishes_to_a_server_session() {
    check_units(&published_by_ffmpeg(Some("ffmpeg-publish.bin")));
}

#[test]
fn ffmpeg_plays_from_a_server_session() {
    let units = published_by_ffmpeg(None);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let child = ffmpeg(&format!("-i rtmp://127.0.0.1:{port}/live/key -map 0:v -f framecrc -"));
    let mut wire = Wire::accept(&listener);
    let mut server = ServerSession::new(1);
    loop {
        let bytes = wire.receive();
        if bytes.is_empty() {
            break;
        }
        server.handle_input(&bytes).unwrap();
        while let Some(output) = server.poll_output() {
            match output {
                Output::Transmit(bytes) => drop(wire.stream.write_all(&bytes)),
                Output::Event(ServerEvent::Play { stream, app, key }) => {
                    assert_eq!((app.as_str(), key.as_str()), ("live", "key"));
                    server.accept(stream);
                    units.iter().for_each(|unit| server.send_media(unit).unwrap());
                    server.finish_play();
                }
                Output::Event(event) => assert!(matches!(event, ServerEvent::PlayEnded(_)), "{event:?}"),
            }
        }
    }
    assert_eq!(decoded(child), FRAMES);
    record("ffmpeg-play.bin", &wire.heard);
}

#[test]
fn a_client_session_publishes_to_ffmpeg() {
    let units = published_by_ffmpeg(None);
    let port = free_port();
    let url = format!("rtmp://127.0.0.1:{port}/live/key");
    let child = ffmpeg(&format!("-listen 1 -i {url} -map 0:v -f framecrc -"));
    let mut wire = Wire::connect(port);
    let mut client = ClientSession::publisher(PublishConfig::new(&url).unwrap());
    let mut publishing = false;
    while !publishing {
        while let Some(output) = client.poll_output() {
            match output {
                Output::Transmit(bytes) => wire.send(&bytes),
                Output::Event(event) => {
                    assert_eq!(event, ClientEvent::Publishing);
                    publishing = true;
                    units.iter().for_each(|unit| client.send_media(unit).unwrap());
                    client.finish();
                }
            }
        }
        if !publishing {
            let bytes = wire.receive();
            assert!(!bytes.is_empty(), "ffmpeg hung up");
            client.handle_input(&bytes).unwrap();
        }
    }
    record("ffmpeg-listens-for-publisher.bin", &wire.heard);
    wire.stream.shutdown(Shutdown::Write).unwrap();
    while !wire.receive().is_empty() {}
    assert_eq!(decoded(child), FRAMES);
}

#[test]
fn a_client_session_plays_from_ffmpeg() {
    let port = free_port();
    let url = format!("rtmp://127.0.0.1:{port}/live/key");
    let mut child = ffmpeg(&format!("{SOURCE} -f flv -listen 1 {url}"));
    let mut wire = Wire::connect(port);
    let mut client = ClientSession::player(PlayConfig::new(&url).unwrap());
    let (mut units, mut playing) = (Vec::new(), false);
    loop {
        while let Some(output) = client.poll_output() {
            match output {
                // ffmpeg may have ended by the time of the last acknowledgement.
                Output::Transmit(bytes) => drop(wire.stream.write_all(&bytes)),
                Output::Event(ClientEvent::Playing) => playing = true,
                Output::Event(ClientEvent::Media(unit)) => units.push(unit),
                Output::Event(event) => assert_eq!(event, ClientEvent::Ended),
            }
        }
        let bytes = wire.receive();
        if bytes.is_empty() {
            break;
        }
        client.handle_input(&bytes).unwrap();
    }
    assert!(child.wait().unwrap().success());
    assert!(playing);
    check_units(&units);
    record("ffmpeg-listens-for-player.bin", &wire.heard);
}
