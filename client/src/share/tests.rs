//! The sharing page by its verbs: bytes in, bytes out, at chosen times.

use super::stream::tests as media;
use super::*;
use crate::page::duplex::{MAX_SILENCE, PING_EVERY};
use crate::page::heads::{HEAD_TIME, IDLE_TIME};
use crate::page::named;
use punchcast::driver;
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::Duration;

const ROOM: Room = Room(3);
const HOME: &str = "127.0.0.1:8080";
const TOKEN: [u8; 16] = [0xab; 16];

/// A page, and what came out of it.
struct Bed {
    share: Share,
    now: Instant,
    sent: BTreeMap<ConnId, Vec<u8>>,
    closed: BTreeMap<ConnId, Closing>,
    events: Vec<ShareEvent>,
    accepted: u32,
}

impl Bed {
    fn new() -> Self {
        Self::with(Encoding::default())
    }

    fn with(encoding: Encoding) -> Self {
        let addr = "127.0.0.1:0".parse().unwrap();
        let config = ShareConfig { addr, token: PageToken::new(TOKEN), encoding };
        let mut share = Share::new(ROOM, config, 1);
        let first = share.poll_output();
        assert!(matches!(first, Some(ShareOutput::Net(NetOp::Listen { reuse: false, .. }))), "{first:?}");
        Self {
            share,
            now: driver::now(),
            sent: BTreeMap::new(),
            closed: BTreeMap::new(),
            events: Vec::new(),
            accepted: 0,
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.share.poll_output() {
            match output {
                ShareOutput::Net(NetOp::Send { conn, bytes }) => {
                    assert!(!bytes.is_empty());
                    assert!(!self.closed.contains_key(&conn), "bytes for a closed connection");
                    self.sent.entry(conn).or_default().extend(bytes);
                }
                ShareOutput::Net(NetOp::Close { conn, how }) => {
                    assert_eq!(self.closed.insert(conn, how), None, "closed twice");
                }
                ShareOutput::Net(op) => assert!(matches!(op, NetOp::Read { .. }), "{op:?}"),
                ShareOutput::Event(event) => self.events.push(event),
            }
        }
    }

    fn accept_on(&mut self, local: &str, remote: &str) -> ConnId {
        let conn = ConnId { room: ROOM, serial: ConnId::ACCEPTED | self.accepted };
        self.accepted += 1;
        let (local, remote) = (local.parse().unwrap(), remote.parse().unwrap());
        let listener = ListenerId { room: ROOM, serial: 0 };
        self.share.handle_input(self.now, Input::Accepted { listener, conn, local, remote });
        self.drain();
        conn
    }

    fn accept(&mut self) -> ConnId {
        self.accept_on(HOME, "127.0.0.1:50000")
    }

    fn receive(&mut self, conn: ConnId, bytes: &[u8]) {
        self.share.handle_input(self.now, Input::Received { conn, bytes });
        self.drain();
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.share.handle_timeout(self.now);
        self.drain();
    }

    /// Opens a page's WebSocket; what it is told first has been checked.
    fn join(&mut self) -> ConnId {
        let conn = self.accept();
        self.receive(conn, upgrade().as_bytes());
        let bytes = self.sent.remove(&conn).unwrap();
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("a response head") + 4;
        assert!(bytes.starts_with(b"HTTP/1.1 101 "));
        self.sent.insert(conn, bytes[end..].to_vec());
        let told = self.told(conn);
        assert_eq!(kinds(&told), ["encoding", "status"]);
        conn
    }

    fn share(&mut self, conn: ConnId) {
        self.receive(conn, &frame(1, br#"{"type":"start"}"#));
        for message in [media::config(0), media::picture(true, 1), media::picture(false, 2)] {
            self.receive(conn, &frame(2, &message));
        }
    }

    /// What a page was told since the last look.
    fn told(&mut self, conn: ConnId) -> Vec<Value> {
        let mut bytes = &self.sent.remove(&conn).unwrap_or_default()[..];
        let mut told = Vec::new();
        while let [opcode, length, rest @ ..] = bytes {
            let (length, rest) = match length {
                126 => (usize::from(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..]),
                length => (usize::from(*length), rest),
            };
            if opcode & 0xf == 1 {
                told.push(serde_json::from_slice(&rest[..length]).unwrap());
            }
            bytes = &rest[length..];
        }
        told
    }

    fn timestamps(&self) -> Vec<u32> {
        let units = self
            .events
            .iter()
            .filter_map(|event| if let ShareEvent::Media(unit, _) = event { Some(unit) } else { None });
        units.filter(|unit| unit.is_picture()).map(|unit| unit.timestamp).collect()
    }

    fn count(&self, wanted: &ShareEvent) -> usize {
        self.events.iter().filter(|event| *event == wanted).count()
    }
}

/// The request that makes a connection a page's WebSocket.
fn upgrade() -> String {
    let token = PageToken::new(TOKEN);
    format!(
        "GET /ws?t={} HTTP/1.1\r\nHost: {HOME}\r\nOrigin: http://{HOME}\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        token.as_str()
    )
}

fn kinds(told: &[Value]) -> Vec<&str> {
    told.iter().map(|value| value["type"].as_str().unwrap()).collect()
}

/// A client's WebSocket frame (RFC 6455 §5.2), masked with zeros.
fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x80 | opcode];
    match payload.len() {
        length @ 0..126 => bytes.push(0x80 | length as u8),
        length => {
            bytes.push(0x80 | 127);
            bytes.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(payload);
    bytes
}

#[test]
fn the_link_has_the_token() {
    let bed = Bed::new();
    assert_eq!(bed.share.link(HOME.parse().unwrap()), format!("http://{HOME}/?t={}", "ab".repeat(16)));
}

#[test]
fn an_address_that_others_reach_is_not_listened_on() {
    let addr: SocketAddr = "0.0.0.0:0".parse().unwrap();
    let config = ShareConfig { addr, token: PageToken::new(TOKEN), encoding: Encoding::default() };
    let mut share = Share::new(ROOM, config, 1);
    let failed = ShareEvent::ListenFailed { addr, error: NetError::Denied };
    assert_eq!(share.poll_output(), Some(ShareOutput::Event(failed)));
    assert_eq!(share.poll_output(), None);
    // Nor is anybody let in who comes nevertheless.
    let mut bed = Bed::new();
    let conn = bed.accept_on("192.168.1.5:8080", "192.168.1.9:50000");
    assert_eq!(bed.closed[&conn], Closing::Abort);
}

#[test]
fn every_file_that_the_page_names_is_there() {
    let mut bed = Bed::new();
    let token = PageToken::new(TOKEN);
    let files = named::everything(|path| {
        let conn = bed.accept();
        let get = format!("GET {path}?t={} HTTP/1.1\r\nHost: {HOME}\r\n\r\n", token.as_str());
        bed.receive(conn, get.as_bytes());
        let response = String::from_utf8(bed.sent.remove(&conn).unwrap()).unwrap();
        assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{path}: {response}");
        response
    });
    let served: BTreeSet<&str> = site::FILES.iter().map(|(path, ..)| *path).collect();
    assert_eq!(served, files.iter().map(String::as_str).collect(), "what is served is named");
}

#[test]
fn a_page_shares_from_start_to_stop() {
    let mut bed = Bed::new();
    let conn = bed.join();
    bed.receive(conn, &frame(2, &media::picture(true, 0)));
    assert_eq!(bed.events, [], "nothing is shared before the start");
    bed.share(conn);
    assert_eq!(bed.timestamps(), [1, 2]);
    assert!(bed.share.is_sharing());
    bed.receive(conn, &frame(1, br#"{"type":"stop"}"#));
    assert_eq!(bed.events.last(), Some(&ShareEvent::Stopped));
    bed.receive(conn, &frame(2, &media::picture(true, 3)));
    assert_eq!(bed.timestamps(), [1, 2], "nor after the stop");
    bed.share(conn);
    assert_eq!((bed.count(&ShareEvent::Started), bed.timestamps().len()), (2, 4));
}

#[test]
fn a_picture_is_as_old_as_the_page_says() {
    let mut bed = Bed::new();
    let page = bed.join();
    bed.share(page);
    let mut late = media::picture(false, 3);
    late[2..4].copy_from_slice(&125_u16.to_be_bytes());
    bed.receive(page, &frame(2, &late));
    let made = bed.events.iter().filter_map(|event| {
        let ShareEvent::Media(unit, made) = event else { return None };
        unit.is_picture().then(|| bed.now - *made)
    });
    assert_eq!(made.collect::<Vec<_>>(), [0, 0, 12_500].map(Duration::from_micros));
}

#[test]
fn media_arrives_in_any_split() {
    let mut bed = Bed::new();
    let conn = bed.join();
    let mut bytes = frame(1, br#"{"type":"start"}"#);
    for message in [media::config(0), media::picture(true, 1)] {
        bytes.extend(frame(2, &message));
    }
    for byte in bytes {
        bed.receive(conn, &[byte]);
    }
    assert_eq!(bed.timestamps(), [1]);
}

#[test]
fn the_later_page_takes_over_and_the_earlier_is_told() {
    let mut bed = Bed::new();
    let (first, second) = (bed.join(), bed.join());
    bed.share(first);
    bed.share(second);
    assert_eq!(kinds(&bed.told(first)), ["taken"]);
    assert_eq!(bed.count(&ShareEvent::Stopped), 0, "the cast goes over without a gap");
    bed.receive(first, &frame(2, &media::picture(false, 99)));
    bed.receive(first, &frame(1, br#"{"type":"stop"}"#));
    assert_eq!(bed.timestamps(), [1, 2, 1, 2]);
    assert!(bed.share.is_sharing());
}

#[test]
fn a_page_that_goes_shares_no_more() {
    let mut bed = Bed::new();
    let conn = bed.join();
    bed.share(conn);
    bed.share.handle_input(bed.now, Input::Closed { conn, error: None });
    bed.drain();
    assert_eq!(bed.events.last(), Some(&ShareEvent::Stopped));
}

#[test]
fn what_can_be_sent_reaches_the_page() {
    let mut bed = Bed::new();
    let conn = bed.join();
    bed.share(conn);
    bed.share.set_hold(true);
    bed.drain();
    assert_eq!(bed.told(conn), [] as [Value; 0], "a page begins held");
    bed.share.set_hold(false);
    bed.share.set_bitrate(900_000);
    bed.share.want_keyframe();
    bed.drain();
    let told = bed.told(conn);
    assert_eq!(kinds(&told), ["encoding", "encoding", "keyframe"]);
    assert_eq!((&told[0]["hold"], &told[1]["bitrate"]), (&false.into(), &900_000.into()));
    bed.share.set_bitrate(u32::MAX);
    bed.drain();
    assert_eq!(bed.told(conn)[0]["bitrate"], Encoding::default().bitrate, "no more than was asked for");
}

#[test]
fn a_page_is_told_what_it_may_encode_and_no_more_than_a_browser_can() {
    let asked = Encoding { width: 640, height: 400, fps: 10, bitrate: 300_000 };
    let mut bed = Bed::with(asked);
    let conn = bed.accept();
    bed.receive(conn, upgrade().as_bytes());
    let told = String::from_utf8_lossy(&bed.sent[&conn]).into_owned();
    let words = [r#""width":640"#, r#""height":400"#, r#""fps":10"#, r#""bitrate":300000"#];
    assert!(words.iter().all(|word| told.contains(word)), "{told}");

    let encoding = |width, height, fps| Encoding { width, height, fps, ..asked };
    for possible in [(16, 16, 120), (1920, 1200, 120), (3840, 2160, 60), (4096, 2304, 56), (2304, 4096, 1)] {
        let (width, height, fps) = possible;
        assert_eq!(encoding(width, height, fps).check(), Ok(()), "{possible:?}");
    }
    for (width, height, fps) in [(15, 16, 1), (4097, 2304, 1), (4096, 2304, 57), (u32::MAX, u32::MAX, 1)] {
        assert!(encoding(width, height, fps).check().is_err(), "{width}x{height}, {fps} a second");
    }
}

#[test]
fn a_page_that_does_not_read_is_told_the_latest_once() {
    let mut bed = Bed::new();
    let conn = bed.join();
    bed.share(conn);
    bed.share.handle_input(bed.now, Input::Backlogged { conn });
    for round in 0..100 {
        bed.share.set_hold(round % 2 == 1);
        bed.share.want_keyframe();
    }
    bed.drain();
    assert_eq!(bed.told(conn), [] as [Value; 0]);
    bed.share.handle_input(bed.now, Input::Drained { conn });
    bed.drain();
    assert_eq!(kinds(&bed.told(conn)), ["keyframe", "encoding"]);
}

#[test]
fn notices_and_the_end_are_shown() {
    let mut bed = Bed::new();
    let conn = bed.join();
    bed.share.notice(0, &Notice::Lost { why: "it fell silent".into() });
    bed.share.notice(7, &Notice::Lost { why: "there is no such viewer".into() });
    bed.drain();
    let told = bed.told(conn);
    assert_eq!((told.len(), &told[0]["viewers"][0]["phase"]), (1, &"lost".into()));
    bed.share.finish(&Notice::End { ok: true, reason: "interrupted".into() });
    bed.drain();
    assert_eq!(bed.told(conn)[0]["over"], true);
    assert_eq!(bed.closed[&conn], Closing::Flush);
    let late = bed.accept();
    assert_eq!(bed.closed[&late], Closing::Abort);
}

#[test]
fn strangers_and_the_silent_have_bounds() {
    let mut bed = Bed::new();
    let page = bed.join();
    let strangers: Vec<ConnId> = (0..=MAX_STRANGERS).map(|_| bed.accept()).collect();
    assert_eq!(bed.closed.keys().collect::<Vec<_>>(), [&strangers[MAX_STRANGERS]]);
    bed.pass(HEAD_TIME);
    assert_eq!(bed.closed.len(), MAX_STRANGERS + 1);
    assert!(HEAD_TIME < IDLE_TIME && PING_EVERY * 3 <= MAX_SILENCE);
    bed.pass(MAX_SILENCE);
    assert_eq!(bed.closed[&page], Closing::Abort);
    assert_eq!(bed.share.poll_timeout(), None);
}

#[test]
fn what_no_page_says_ends_its_connection() {
    let wrong: [(u8, Vec<u8>); 5] = [
        (1, b"start".to_vec()),
        (1, br#"{"type":"erase"}"#.to_vec()),
        (1, vec![b' '; 300]),
        (2, b"short".to_vec()),
        (3, b"a reserved opcode".to_vec()),
    ];
    for (opcode, payload) in wrong {
        let mut bed = Bed::new();
        let conn = bed.join();
        bed.share(conn);
        bed.receive(conn, &frame(opcode, &payload));
        assert_eq!(bed.closed.get(&conn), Some(&Closing::Flush), "{payload:?}");
        assert_eq!(bed.events.last(), Some(&ShareEvent::Stopped));
    }
    let mut bed = Bed::new();
    let conn = bed.join();
    bed.receive(conn, &[0x82, 0xff, 0, 0, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bed.closed.get(&conn), Some(&Closing::Flush), "a frame of 8 MiB is announced");
}

#[test]
fn ten_thousand_mutated_sessions_end_without_a_panic() {
    let mut whole = frame(1, br#"{"type":"start"}"#);
    for message in [media::config(0), media::message(3, false, 0, media::OPUS), media::picture(true, 1)] {
        whole.extend(frame(2, &message));
    }
    whole.extend(frame(1, br#"{"type":"stop"}"#));
    let mut rng = fastrand::Rng::with_seed(11);
    let (mut bed, mut ended) = (Bed::new(), 0);
    for _ in 0..10_000 {
        let conn = bed.join();
        let mut bytes = whole.clone();
        for _ in 0..rng.usize(1..5) {
            let at = rng.usize(0..bytes.len());
            bytes[at] = rng.u8(..);
        }
        let split = rng.usize(1..bytes.len());
        for part in [&bytes[..split], &bytes[split..]] {
            bed.receive(conn, part);
        }
        if bed.closed.remove(&conn).is_some() {
            ended += 1;
        } else {
            bed.share.handle_input(bed.now, Input::Closed { conn, error: None });
            bed.drain();
        }
        bed.sent.clear();
        bed.events.clear();
    }
    assert!(ended > 1000, "only {ended} of the sessions were refused");
    assert!(bed.share.conns.is_empty() && !bed.share.is_sharing());
}
