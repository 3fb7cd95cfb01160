//! The page by its verbs: bytes in, bytes out, at chosen times.

use super::duplex::{MAX_SILENCE, PING_EVERY};
use super::heads::{HEAD_TIME, IDLE_TIME};
use super::*;
use bytes::Bytes;
use punchcast::app::Closing;
use punchcast::driver;
use punchcast::media::Kind;
use punchcast::media::pace::MAX_WAIT;
use std::collections::BTreeSet;

const ROOM: Room = Room(3);
pub(super) const LOOPBACK: &str = "127.0.0.1:8080";
pub(super) const NETWORK: &str = "192.168.1.5:8080";

/// A page, and what came out of it.
pub(super) struct Bed {
    pub(super) page: Page,
    pub(super) now: Instant,
    sent: BTreeMap<ConnId, Vec<u8>>,
    pub(super) closed: BTreeMap<ConnId, Closing>,
    reading: BTreeMap<ConnId, bool>,
    events: Vec<PageEvent>,
    accepted: u32,
}

impl Bed {
    pub(super) fn new() -> Self {
        Self::with_token(None)
    }

    pub(super) fn with_token(token: Option<PageToken>) -> Self {
        let addr = "127.0.0.1:0".parse().unwrap();
        let config =
            PageConfig { addr, ticket_link: "punchcast://x/y#z".to_owned(), token, casts: 4, seed: 7 };
        let mut bed = Self {
            page: Page::new(ROOM, config),
            now: driver::now(),
            sent: BTreeMap::new(),
            closed: BTreeMap::new(),
            reading: BTreeMap::new(),
            events: Vec::new(),
            accepted: 0,
        };
        let first = bed.page.poll_output();
        assert!(matches!(first, Some(PageOutput::Net(NetOp::Listen { reuse: false, .. }))), "{first:?}");
        bed
    }

    pub(super) fn drain(&mut self) {
        while let Some(output) = self.page.poll_output() {
            match output {
                PageOutput::Net(NetOp::Send { conn, bytes }) => {
                    assert!(!bytes.is_empty());
                    assert!(!self.closed.contains_key(&conn), "bytes for a closed connection");
                    self.sent.entry(conn).or_default().extend(bytes);
                }
                PageOutput::Net(NetOp::Close { conn, how }) => {
                    assert_eq!(self.closed.insert(conn, how), None, "closed twice");
                }
                PageOutput::Net(NetOp::Read { conn, on }) => {
                    self.reading.insert(conn, on);
                }
                PageOutput::Net(
                    op @ (NetOp::Listen { .. }
                    | NetOp::StopListening { .. }
                    | NetOp::Connect { .. }
                    | NetOp::Knock { .. }
                    | NetOp::GiveUp { .. }),
                ) => {
                    assert!(matches!(op, NetOp::StopListening { .. }), "{op:?}");
                }
                PageOutput::Event(event) => self.events.push(event),
            }
        }
    }

    pub(super) fn accept(&mut self, local: &str) -> ConnId {
        self.accept_from("127.0.0.1:50000", local)
    }

    fn accept_from(&mut self, remote: &str, local: &str) -> ConnId {
        let conn = ConnId { room: ROOM, serial: ConnId::ACCEPTED | self.accepted };
        self.accepted += 1;
        let (local, remote) = (local.parse().unwrap(), remote.parse().unwrap());
        let listener = ListenerId { room: ROOM, serial: 0 };
        self.page.handle_input(self.now, Input::Accepted { listener, conn, local, remote });
        self.drain();
        conn
    }

    pub(super) fn receive(&mut self, conn: ConnId, bytes: &[u8]) {
        self.page.handle_input(self.now, Input::Received { conn, bytes });
        self.drain();
    }

    pub(super) fn backlog(&mut self, conn: ConnId, on: bool) {
        let input = if on { Input::Backlogged { conn } } else { Input::Drained { conn } };
        self.page.handle_input(self.now, input);
        self.drain();
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now += time;
        self.page.handle_timeout(self.now);
        self.drain();
    }

    pub(super) fn publish(&mut self, unit: &Unit) {
        self.page.publish(self.now, 0, unit);
        self.drain();
    }

    pub(super) fn taken(&mut self, conn: ConnId) -> Vec<u8> {
        self.sent.remove(&conn).unwrap_or_default()
    }

    /// Sends a request on a new connection; its connection and response.
    pub(super) fn ask(&mut self, local: &str, request: &str) -> (ConnId, String) {
        let conn = self.accept(local);
        self.receive(conn, request.as_bytes());
        (conn, String::from_utf8(self.taken(conn)).unwrap())
    }

    /// Opens a WebSocket; its connection and first messages.
    fn join(&mut self) -> (ConnId, Vec<Frame>) {
        let conn = self.accept(LOOPBACK);
        self.receive(conn, UPGRADE.as_bytes());
        let bytes = self.taken(conn);
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("a response head") + 4;
        let head = str::from_utf8(&bytes[..end]).unwrap();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        // The example of RFC 6455 §1.3.
        assert!(head.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{head}");
        (conn, frames(&bytes[end..]))
    }

    fn messages(&mut self, conn: ConnId) -> Vec<Frame> {
        frames(&self.taken(conn))
    }
}

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nOrigin: http://127.0.0.1:8080\r\n\
    Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A WebSocket frame's opcode and payload (RFC 6455 §5.2).
type Frame = (u8, Vec<u8>);

fn frames(mut bytes: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        assert_eq!(bytes[0] & 0xf0, 0x80, "whole messages");
        let (length, head) = match bytes[1] {
            126 => (usize::from(u16::from_be_bytes([bytes[2], bytes[3]])), 4),
            127 => (u64::from_be_bytes(bytes[2..10].try_into().unwrap()) as usize, 10),
            length => (usize::from(length), 2),
        };
        frames.push((bytes[0] & 0xf, bytes[head..head + length].to_vec()));
        bytes = &bytes[head + length..];
    }
    frames
}

/// A client's frame, masked with zeros.
fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    assert!(payload.len() < 126);
    let mut frame = vec![0x80 | opcode, 0x80 | payload.len() as u8, 0, 0, 0, 0];
    frame.extend_from_slice(payload);
    frame
}

fn text(frame: &Frame) -> &str {
    assert_eq!(frame.0, 1, "a text message");
    str::from_utf8(&frame.1).unwrap()
}

/// The media kinds and key flags among some messages.
fn media(frames: &[Frame]) -> Vec<(u8, u8)> {
    frames.iter().filter(|(opcode, _)| *opcode == 2).map(|(_, payload)| (payload[0], payload[1])).collect()
}

pub(super) fn video(head: [u8; 2], timestamp: u32) -> Unit {
    let payload = Bytes::from(vec![head[0], head[1], 0, 0, 0, 1, 0x42, 0, 0x1f, 0xff]);
    Unit { kind: Kind::Video, timestamp, payload }
}

const CONFIG: [u8; 2] = [0x17, 0];
const KEY: [u8; 2] = [0x17, 1];
const DELTA: [u8; 2] = [0x27, 1];

pub(super) fn get(path: &str, host: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

// ---- HTTP ----

#[test]
fn the_page_is_served_whole_whatever_the_split() {
    let mut bed = Bed::new();
    let (first, whole) = bed.ask(LOOPBACK, &get("/", LOOPBACK));
    assert!(whole.starts_with("HTTP/1.1 200 OK\r\n") && whole.ends_with("</html>\n"), "{whole}");
    for field in
        ["Content-Security-Policy: default-src 'none';", "nosniff", "no-store", "no-referrer", "keep-alive"]
    {
        assert!(whole.contains(field), "{field}");
    }
    let conn = bed.accept(LOOPBACK);
    for byte in get("/", LOOPBACK).bytes() {
        assert_eq!(bed.taken(conn), b"");
        bed.receive(conn, &[byte]);
    }
    assert_eq!(bed.taken(conn), whole.as_bytes());
    bed.receive(first, get("/status.json", LOOPBACK).as_bytes());
    let status = String::from_utf8(bed.taken(first)).unwrap();
    assert!(status.ends_with('}') && status.contains(r#""ticket":"punchcast://x/y#z""#), "{status}");
    assert!(bed.closed.is_empty());
}

#[test]
fn every_file_that_the_page_names_is_there() {
    let mut bed = Bed::new();
    let files = named::everything(|path| {
        let (_, response) = bed.ask(LOOPBACK, &get(path, LOOPBACK));
        assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{path}: {response}");
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())));
        let (_, head_only) = bed.ask(LOOPBACK, &get(path, LOOPBACK).replace("GET", "HEAD"));
        assert_eq!(head_only, format!("{head}\r\n\r\n"));
        response
    });
    let served: BTreeSet<&str> = site::FILES.iter().map(|(path, ..)| *path).chain(["/qr.svg"]).collect();
    assert_eq!(served, files.iter().map(String::as_str).collect(), "what is served is named");
}

#[test]
fn what_is_not_the_pages_is_refused_and_ends_the_connection() {
    let cases = [
        (get("/nothing", LOOPBACK), "404"),
        (get("/../etc/passwd", LOOPBACK), "404"),
        (get("/ws", LOOPBACK), "403"),
        (UPGRADE.replace("Version: 13", "Version: 8"), "426"),
        (UPGRADE.replace("Origin: http://127.0.0.1:8080", "Origin: http://evil.example"), "403"),
        (get("/", "evil.example"), "421"),
        (get("/", LOOPBACK).replace("GET", "DELETE"), "405"),
        ("\r\n\r\nnonsense\r\n\r\n".to_owned(), "400"),
        (format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(9000)), "431"),
    ];
    for (request, status) in cases {
        let mut bed = Bed::new();
        let (conn, response) = bed.ask(LOOPBACK, &request);
        assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{request:?}: {response}");
        assert_eq!(bed.closed.get(&conn), Some(&Closing::Flush), "{request:?}");
        bed.receive(conn, b"GET / HTTP/1.1\r\n");
        assert!(bed.sent.is_empty());
    }
}

#[test]
fn a_refused_head_is_told_why() {
    let cookies = "GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nCookie: other=";
    let cases = [
        (get("/", LOOPBACK).replace("GET", "DELETE"), "GET and HEAD"),
        ("nonsense\r\n\r\n".to_owned(), "could not be read"),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), "could not be read"),
        (format!("{cookies}{}\r\n\r\n", "a".repeat(9000)), "private window"),
    ];
    for (request, expected) in cases {
        let (_, response) = Bed::new().ask(LOOPBACK, &request);
        assert!(response.contains(expected), "{expected}: {response}");
        assert_eq!(
            response.matches("GET and HEAD").count(),
            usize::from(expected == "GET and HEAD"),
            "{response}"
        );
    }
}

#[test]
fn requests_sent_ahead_of_their_answers_get_one_answer() {
    let mut bed = Bed::new();
    let (conn, responses) = bed.ask(LOOPBACK, &get("/icon.svg", LOOPBACK).repeat(100));
    assert_eq!(responses.matches("HTTP/1.1 ").count(), 1);
    assert!(responses.contains("Connection: close"));
    assert_eq!(bed.closed.get(&conn), Some(&Closing::Flush));
}

#[test]
fn slow_heads_and_idle_connections_end() {
    let mut bed = Bed::new();
    let silent = bed.accept(LOOPBACK);
    let slow = bed.accept(LOOPBACK);
    bed.receive(slow, b"GET / HTTP");
    let (kept, _) = bed.ask(LOOPBACK, &get("/icon.svg", LOOPBACK));
    bed.pass(HEAD_TIME - Duration::from_millis(1));
    assert!(bed.closed.is_empty());
    assert_eq!(bed.page.poll_timeout().map(|(at, _)| at), Some(bed.now + Duration::from_millis(1)));
    bed.receive(slow, b"/1.1\r\n");
    bed.pass(Duration::from_millis(1));
    assert_eq!(bed.closed.get(&silent), Some(&Closing::Abort));
    assert_eq!(bed.closed.get(&slow), Some(&Closing::Flush), "trickling bytes buys no time");
    assert!(bed.taken(slow).starts_with(b"HTTP/1.1 408 "));
    assert!(!bed.closed.contains_key(&kept));
    bed.pass(IDLE_TIME);
    assert!(bed.closed.contains_key(&kept));
    assert_eq!(bed.page.poll_timeout(), None);
}

#[test]
fn one_connection_too_many_is_turned_away() {
    let mut bed = Bed::new();
    for _ in 0..MAX_CONNECTIONS {
        assert!(bed.ask(LOOPBACK, &get("/", LOOPBACK)).1.starts_with("HTTP/1.1 200 "));
    }
    assert!(bed.closed.is_empty());
    let last = bed.accept(LOOPBACK);
    assert_eq!(bed.closed.get(&last), Some(&Closing::Abort));
}

#[test]
fn strangers_leave_places_for_those_who_were_let_in() {
    let token = PageToken::new([0x5a; 16]);
    let mut bed = Bed::with_token(Some(token.clone()));
    let browser = "192.168.1.9:50000";
    let inside = bed.accept_from(browser, NETWORK);
    bed.receive(inside, get(&format!("/?t={}", token.as_str()), NETWORK).as_bytes());
    assert!(bed.taken(inside).starts_with(b"HTTP/1.1 200 "));

    for stranger in 0..MAX_STRANGERS / MAX_STRANGERS_PER_SOURCE {
        let from = format!("192.168.2.{stranger}:50000");
        for _ in 0..MAX_STRANGERS_PER_SOURCE {
            bed.accept_from(&from, NETWORK);
        }
        assert_eq!(bed.closed.len(), stranger, "within what one source may have");
        let ninth = bed.accept_from(&from, NETWORK);
        assert_eq!(bed.closed.get(&ninth), Some(&Closing::Abort));
    }
    let turned_away = bed.closed.len();
    let newcomer = bed.accept_from("192.168.3.1:50000", NETWORK);
    assert_eq!(bed.closed.get(&newcomer), Some(&Closing::Abort), "strangers have taken up their places");
    for _ in 0..6 {
        bed.accept_from(browser, NETWORK);
    }
    assert_eq!(bed.closed.len(), turned_away + 1, "who was let in opens more");

    bed.pass(HEAD_TIME);
    let newcomer = bed.accept_from("192.168.3.1:50000", NETWORK);
    assert!(!bed.closed.contains_key(&newcomer), "strangers do not stay");
}

#[test]
fn beyond_loopback_the_link_lets_in_and_its_cookie_keeps_in() {
    let token = PageToken::new([0x5a; 16]);
    let mut bed = Bed::with_token(Some(token.clone()));
    assert_eq!(bed.page.link(LOOPBACK.parse().unwrap()), "http://127.0.0.1:8080/");
    let link = bed.page.link(NETWORK.parse().unwrap());
    let path = link.strip_prefix("http://192.168.1.5:8080").expect("the address");
    let (_, denied) = bed.ask(NETWORK, &get("/", NETWORK));
    assert!(denied.starts_with("HTTP/1.1 403 ") && !denied.contains(token.as_str()), "{denied}");
    let (_, page) = bed.ask(NETWORK, &get(path, NETWORK));
    assert!(page.starts_with("HTTP/1.1 200 "), "{page}");
    let cookie = page.split("Set-Cookie: ").nth(1).and_then(|rest| rest.split(';').next()).expect("a cookie");
    let request = format!("GET /app.js HTTP/1.1\r\nHost: {NETWORK}\r\nCookie: {cookie}\r\n\r\n");
    assert!(bed.ask(NETWORK, &request).1.starts_with("HTTP/1.1 200 "));
    let upgrade = UPGRADE.replace(LOOPBACK, NETWORK);
    assert!(bed.ask(NETWORK, &upgrade).1.starts_with("HTTP/1.1 403 "));
    let conn = bed.accept(NETWORK);
    bed.receive(conn, upgrade.replace("/ws", &format!("/ws?t={}", token.as_str())).as_bytes());
    assert!(bed.taken(conn).starts_with(b"HTTP/1.1 101 "));
}

// ---- WebSocket ----

#[test]
fn who_joins_is_brought_up_to_the_present_first() {
    let mut bed = Bed::new();
    bed.page.stream_started(bed.now, 0);
    for (head, timestamp) in [(CONFIG, 0), (KEY, 0), (DELTA, 33), (KEY, 66), (DELTA, 99)] {
        bed.publish(&video(head, timestamp));
    }
    bed.publish(&Unit {
        kind: Kind::Data,
        timestamp: 99,
        payload: Bytes::from_static(b"\x02\x00\x0aonMetaData\x05"),
    });
    let (conn, first) = bed.join();
    assert!(text(&first[0]).contains(r#""type":"status""#));
    assert_eq!(text(&first[1]), r#"{"type":"start","cast":0}"#);
    assert_eq!(text(&first[2]), r#"{"type":"catch-up","cast":0,"packets":3}"#);
    assert_eq!(media(&first), [(1, 0), (2, 1), (2, 0)]);
    assert_eq!(bed.page.watchers(), 1);
    assert_eq!(bed.events, [], "the group under way is fresh enough");
    bed.publish(&video(DELTA, 132));
    let live = bed.messages(conn);
    assert_eq!(media(&live), [(2, 0)]);
    assert_eq!(live[0].1[4..8], 132u32.to_be_bytes());
    bed.page.stream_ended(bed.now, 0);
    bed.drain();
    assert_eq!(text(&bed.messages(conn)[0]), r#"{"type":"end","cast":0}"#);
}

#[test]
fn who_joins_is_given_no_more_than_there_is_room_for_and_a_keyframe_of_the_rest() {
    let mut bed = Bed::new();
    for place in 0..3 {
        bed.page.stream_started(bed.now, place);
        let mut key = video(KEY, 0).payload.to_vec();
        key.resize(MAX_REPLAY * 2 / 5, 0);
        let key = Unit { kind: Kind::Video, timestamp: 0, payload: key.into() };
        for unit in [video(CONFIG, 0), key, video(DELTA, 33)] {
            bed.page.publish(bed.now, place, &unit);
        }
    }
    bed.drain();
    let (conn, first) = bed.join();
    assert!(first.iter().map(|frame| frame.1.len()).sum::<usize>() < MAX_REPLAY);
    let of = |place| first.iter().filter(move |(opcode, bytes)| *opcode == 2 && bytes[3] == place).count();
    assert_eq!([of(0), of(1), of(2)], [3, 3, 1]);
    assert_eq!(bed.events, [PageEvent::KeyframeWanted { cast: 2 }]);
    // Nothing that needs what it was not given.
    for (head, expected) in [(DELTA, &[][..]), (KEY, &[(2, 1)]), (DELTA, &[(2, 0)])] {
        bed.page.publish(bed.now, 2, &video(head, 66));
        bed.drain();
        assert_eq!(media(&bed.messages(conn)), expected);
    }
}

#[test]
fn a_key_frame_is_asked_for_when_a_browser_has_none() {
    let mut bed = Bed::new();
    bed.page.stream_started(bed.now, 0);
    bed.publish(&video(CONFIG, 0));
    let (conn, _) = bed.join();
    assert_eq!(bed.events, [PageEvent::KeyframeWanted { cast: 0 }]);
    for _ in 0..10 {
        bed.receive(conn, &masked(1, b"keyframe 0"));
    }
    assert_eq!(bed.events.len(), 1, "and not too often");
    bed.pass(KEYFRAME_EVERY);
    assert_eq!(bed.events.len(), 2);
    bed.receive(conn, &masked(1, b"keyframe 0"));
    bed.publish(&video(KEY, 500));
    bed.pass(KEYFRAME_EVERY);
    assert_eq!(bed.events.len(), 2, "it came by itself");
    bed.receive(conn, &masked(1, b"something else"));
    bed.pass(KEYFRAME_EVERY);
    assert_eq!(bed.events.len(), 2);
}

#[test]
fn a_browser_that_falls_behind_goes_on_at_the_next_key_frame() {
    let mut bed = Bed::new();
    bed.page.stream_started(bed.now, 0);
    bed.publish(&video(CONFIG, 0));
    bed.publish(&video(KEY, 0));
    let (slow, _) = bed.join();
    let (quick, _) = bed.join();
    bed.backlog(slow, true);
    assert_eq!(bed.reading.get(&slow), Some(&false), "who does not read is not listened to");
    for step in 1..=20 {
        bed.pass(MAX_WAIT / 10);
        bed.publish(&video(DELTA, step * 25));
        if step == 2 {
            bed.publish(&video(CONFIG, step * 25));
        }
    }
    assert_eq!(bed.messages(slow), []);
    assert_eq!(media(&bed.messages(quick)).len(), 21);
    bed.publish(&video(KEY, 525));
    bed.publish(&video(DELTA, 550));
    bed.page.status(bed.now, Status { message: "9".into(), phase: Phase::Live, ..Status::default() });
    bed.drain();
    bed.backlog(slow, false);
    assert_eq!(bed.reading.get(&slow), Some(&true));
    let late = bed.messages(slow);
    assert!(text(&late[0]).contains(r#""message":"9""#), "the newest status");
    assert_eq!(media(&late), [(1, 0), (2, 1), (2, 0)], "the configuration, then from the key frame on");
    assert_eq!(bed.events, [], "it came by itself");
}

#[test]
fn a_browser_that_takes_nothing_asks_for_a_key_frame_once_it_does() {
    let mut bed = Bed::new();
    bed.page.stream_started(bed.now, 0);
    bed.publish(&video(CONFIG, 0));
    bed.publish(&video(KEY, 0));
    let (slow, _) = bed.join();
    let mut stall = |expected: usize, restarts: bool| {
        bed.backlog(slow, true);
        for step in 1..=20 {
            bed.pass(KEYFRAME_EVERY);
            bed.publish(&video(DELTA, step * 500));
        }
        if restarts {
            bed.page.stream_started(bed.now, 0);
        }
        assert_eq!(bed.events, [], "it could take none");
        bed.backlog(slow, false);
        bed.pass(KEYFRAME_EVERY);
        assert_eq!(bed.events, vec![PageEvent::KeyframeWanted { cast: 0 }; expected]);
        bed.events.clear();
        bed.publish(&video(KEY, 11_000));
        bed.publish(&video(DELTA, 11_500));
        assert_eq!(media(&bed.messages(slow)), [(2, 1), (2, 0)]);
        bed.pass(KEYFRAME_EVERY);
        assert_eq!(bed.events, []);
    };
    stall(1, false);
    stall(0, true);
    stall(1, false);
}

#[test]
fn a_status_is_told_at_a_readable_pace_and_a_phase_at_once() {
    let mut bed = Bed::new();
    let (conn, _) = bed.join();
    bed.page.status(bed.now, Status { phase: Phase::Live, ..Status::default() });
    bed.drain();
    assert!(text(&bed.messages(conn)[0]).contains(r#""phase":"live""#));
    for frames in 1..50 {
        bed.page
            .status(bed.now, Status { phase: Phase::Live, message: frames.to_string(), ..Status::default() });
        bed.drain();
    }
    assert_eq!(bed.messages(conn), []);
    bed.pass(STATUS_EVERY);
    let told = bed.messages(conn);
    assert_eq!(told.len(), 1);
    assert!(text(&told[0]).contains(r#""message":"49""#));
    bed.pass(STATUS_AT_LEAST_EVERY);
    assert_eq!(bed.messages(conn).len(), 1, "a sign of life");
}

#[test]
fn a_picture_in_another_codec_is_named() {
    let mut bed = Bed::new();
    let (conn, _) = bed.join();
    bed.pass(STATUS_EVERY);
    let foreign = Unit { kind: Kind::Video, timestamp: 0, payload: Bytes::from_static(b"\x90hvc1\x01\x02") };
    bed.publish(&foreign);
    bed.pass(STATUS_EVERY);
    let told = bed.messages(conn);
    assert!(text(told.last().unwrap()).contains(r#""foreign_video":[0]"#), "{told:?}");
    assert_eq!(media(&told), []);
}

#[test]
fn a_browser_that_says_goodbye_is_answered() {
    let mut bed = Bed::new();
    let (conn, _) = bed.join();
    bed.receive(conn, &masked(8, &[0x03, 0xe8]));
    assert_eq!(bed.messages(conn)[0].0, 8);
    assert_eq!(bed.closed.get(&conn), Some(&Closing::Flush));
    assert_eq!(bed.page.watchers(), 0);
}

#[test]
fn a_browser_that_breaks_the_protocol_is_dropped() {
    let unmasked = vec![0x81, 1, b'x'];
    let too_long = vec![0x82, 0xff, 0, 0, 0, 0, 0xff, 0, 0, 0, 0, 0, 0, 0];
    for hostile in [unmasked, too_long] {
        let mut bed = Bed::new();
        let (conn, _) = bed.join();
        bed.receive(conn, &hostile);
        assert!(bed.closed.contains_key(&conn), "{hostile:?}");
    }
}

#[test]
fn a_silent_browser_is_pinged_then_given_up() {
    let mut bed = Bed::new();
    let (conn, _) = bed.join();
    bed.pass(PING_EVERY);
    let frames = bed.messages(conn);
    assert!(frames.iter().any(|(opcode, _)| *opcode == 9), "{frames:?}");
    bed.receive(conn, &masked(10, b""));
    bed.pass(MAX_SILENCE - Duration::from_millis(1));
    assert!(bed.closed.is_empty());
    bed.pass(Duration::from_millis(1));
    assert_eq!(bed.closed.get(&conn), Some(&Closing::Abort));
}

// ---- Hostile bytes ----

/// Real conversations, mutated: bytes flipped, cut, doubled, split anywhere.
#[test]
fn ten_thousand_mutations_break_nothing_and_cost_little() {
    let mut conversation = UPGRADE.as_bytes().to_vec();
    for frame in [masked(1, b"keyframe 0"), masked(9, b"ping"), masked(2, b"\0\0"), masked(8, &[0x03, 0xe8])]
    {
        conversation.extend(frame);
    }
    let page = get("/", LOOPBACK).into_bytes();
    let mut random = fastrand::Rng::with_seed(0x9a6e);
    let mut bed = Bed::new();
    bed.page.stream_started(bed.now, 0);
    bed.publish(&video(CONFIG, 0));
    bed.publish(&video(KEY, 0));
    let mut upgraded = 0;
    for round in 0..10_000u32 {
        let mut bytes = if random.bool() { conversation.clone() } else { page.repeat(random.usize(1..3)) };
        for _ in 0..random.usize(0..4) {
            let at = random.usize(..bytes.len());
            match random.u8(..4) {
                0 => bytes[at] = random.u8(..),
                1 => bytes.truncate(at.max(1)),
                2 => bytes.insert(at, random.u8(..)),
                _ => bytes.extend_from_within(at..),
            }
        }
        let conn = bed.accept(LOOPBACK);
        let mut rest = &bytes[..];
        while !rest.is_empty() && !bed.closed.contains_key(&conn) {
            let (part, after) = rest.split_at(random.usize(1..=rest.len()));
            bed.receive(conn, part);
            rest = after;
        }
        bed.publish(&video(DELTA, round));
        let answer = bed.taken(conn);
        upgraded += u32::from(answer.starts_with(b"HTTP/1.1 101 "));
        assert!(answer.len() < 128 * 1024, "round {round}: {} bytes", answer.len());
        if !bed.closed.contains_key(&conn) {
            bed.page.handle_input(bed.now, Input::Closed { conn, error: None });
            bed.drain();
        }
        bed.closed.clear();
        assert_eq!(bed.page.poll_output(), None);
    }
    assert!(upgraded > 1_000, "the mutations reach the WebSocket: {upgraded}");
    bed.pass(Duration::ZERO);
    assert_eq!(bed.page.watchers(), 0);
}
