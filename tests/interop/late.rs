//! A player that comes late, to a picture that stands still or moves: it begins with what is shown now. What is older when it
//! begins, it would stay behind by.

use crate::lab::binary;
use crate::program::Program;
use crate::scene::{END, LINK, START, text};
use crate::tool::{self, have};
use punchcast::media::{Unit, flv};
use punchcast::rtmp::{ClientEvent, ClientSession, Output, PlayConfig};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

/// How long a player may hang on an answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Pictures that players of libavformat wait for.
const PICTURES: usize = 41;

/// How far a player may be behind, in milliseconds: what a busy machine does to pictures on their way.
const BEHIND: i64 = 700;

/// A player that notes when each picture comes.
struct Player {
    stream: TcpStream,
    began: Instant,
    /// Milliseconds: when it came, and its timestamp.
    pictures: Vec<(i64, i64)>,
}

impl Player {
    fn connect(addr: &str) -> Self {
        let stream = TcpStream::connect(addr).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        Self { stream, began: Instant::now(), pictures: Vec::new() }
    }

    fn read(&mut self, buffer: &mut [u8]) -> usize {
        let count = self.stream.read(buffer).expect("it sends");
        assert!(count > 0, "it hung up");
        count
    }

    fn take(&mut self, unit: &Unit) {
        if unit.is_picture() {
            assert!(!self.pictures.is_empty() || unit.is_keyframe(), "it begins without a keyframe");
            self.pictures.push((self.began.elapsed().as_millis() as i64, unit.timestamp.into()));
        }
    }

    fn by_rtmp(url: &str) -> Self {
        let mut player = Self::connect(&tool::addr_of(url).to_string());
        let mut session = ClientSession::player(PlayConfig::new(url).expect("a good address"));
        let mut buffer = vec![0; 1 << 16];
        while player.pictures.len() < PICTURES {
            while let Some(output) = session.poll_output() {
                match output {
                    Output::Transmit(bytes) => player.stream.write_all(&bytes).expect("it reads"),
                    Output::Event(ClientEvent::Media(unit)) => player.take(&unit),
                    Output::Event(event) => assert_eq!(event, ClientEvent::Playing),
                }
            }
            let count = player.read(&mut buffer);
            session.handle_input(&buffer[..count]).expect("it speaks RTMP");
        }
        player
    }

    fn by_http(page: &str) -> Self {
        let addr = page.trim_start_matches("http://").trim_end_matches('/');
        let mut player = Self::connect(addr);
        let ask = format!("GET /live.flv HTTP/1.1\r\nHost: {addr}\r\n\r\n");
        player.stream.write_all(ask.as_bytes()).expect("it reads");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            player.read(&mut byte);
            head.extend(byte);
        }
        let mut reader = flv::Reader::new();
        let mut buffer = vec![0; 1 << 16];
        while player.pictures.len() < PICTURES {
            let count = player.read(&mut buffer);
            reader.push(&buffer[..count]);
            while let Some(unit) = reader.next().expect("FLV") {
                player.take(&unit);
            }
        }
        player
    }

    /// By how much the pictures that it is shown first are older than the newest are when they come.
    fn behind(&self) -> i64 {
        let ages = || self.pictures.iter().map(|(came, timestamp)| came - timestamp);
        ages().max().expect("pictures") - ages().min().expect("pictures")
    }
}

#[test]
fn a_player_that_comes_late_is_not_behind() {
    if !have(&["Xvfb"]) {
        return;
    }
    let (_server, display) = tool::display();
    for source in ["screen", "pattern"] {
        let mut command = Command::new(binary("punchcast"));
        command.args(["view", "--json", "--no-port-mapping", "--rtmp", "127.0.0.1:0"]);
        let mut viewer = Program::start("viewer", &mut command);
        let ready = viewer.event("ready", START);
        let mut command = Command::new(binary("punchcast"));
        command.args(["cast", &text(&ready, "ticket"), "--json", "--no-port-mapping", "--source", source]);
        command.args(["--serve", "127.0.0.1:0"]).env("DISPLAY", &display);
        let mut caster = Program::start("caster", &mut command);
        let served = text(&caster.event("ready", START), "rtmp_url");
        viewer.event("first-frame", LINK);
        let ways: [(&str, &dyn Fn() -> Player); 3] = [
            ("the viewer's port", &|| Player::by_rtmp(&text(&ready, "rtmp"))),
            ("the viewer's page", &|| Player::by_http(&text(&ready, "page"))),
            ("the caster's port", &|| Player::by_rtmp(&served)),
        ];
        for (way, play) in ways {
            // What the player before was shown to begin with is over, and some time beyond.
            for _ in 0..4 {
                viewer.event("stats", LINK);
            }
            let player = play();
            tool::tell(&format!("{} ms behind at {way}, {source}", player.behind()));
            assert!(player.behind() < BEHIND, "{way}, {source}: {:?}", player.pictures);
        }
        caster.terminate();
        caster.succeeds(END);
        viewer.terminate();
        viewer.succeeds(END);
    }
}
