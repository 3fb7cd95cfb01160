use super::*;
use crate::unread::MAX_UNREAD_REPLIES;
use punchcast::app::NetError;
use punchcast::media::Kind;
use punchcast::rtmp::{Refusal, ServerEvent, ServerSession};

const ROOM: Room = Room(6);

#[allow(clippy::disallowed_methods)] // A test's time begins somewhere.
fn start() -> Instant {
    Instant::now()
}

fn addr(last: u8) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, last], 1937))
}

fn config(after: Option<Duration>) -> DialConfig {
    let url = RtmpUrl::parse("rtmp://caster:1937/punchcast/key").unwrap();
    DialConfig { url, addrs: vec![addr(1), addr(2)], after, seed: 1 }
}

/// A dial, and the server that it reaches.
struct Scene {
    dial: Dial,
    now: Instant,
    server: ServerSession,
    conn: Option<ConnId>,
    events: Vec<DialEvent>,
    ops: Vec<NetOp>,
}

impl Scene {
    fn new(after: Option<Duration>) -> Self {
        let now = start();
        let dial = Dial::new(now, ROOM, config(after));
        let server = ServerSession::new(9);
        Self { dial, now, server, conn: None, events: Vec::new(), ops: Vec::new() }
    }

    /// Lets the next deadline pass.
    fn pass(&mut self) {
        let (at, _) = self.dial.poll_timeout().expect("a deadline");
        self.now = at;
        self.dial.handle_timeout(at);
        self.settle();
    }

    /// The connect under way succeeds.
    fn answer(&mut self) {
        let conn = self.conn.expect("a connect");
        self.server = ServerSession::new(9);
        self.dial.handle_input(self.now, Input::Connected { conn, local: addr(9), remote: addr(1) });
        self.settle();
    }

    fn settle(&mut self) {
        loop {
            while let Some(output) = self.dial.poll_output() {
                match output {
                    DialOutput::Net(NetOp::Send { bytes, .. }) => self.server.handle_input(&bytes).unwrap(),
                    DialOutput::Net(NetOp::Connect { conn, from, to }) => {
                        self.conn = Some(conn);
                        self.ops.push(NetOp::Connect { conn, from, to });
                    }
                    DialOutput::Net(op) => self.ops.push(op),
                    DialOutput::Event(event) => self.events.push(event),
                }
            }
            match self.server.poll_output() {
                Some(rtmp::Output::Transmit(bytes)) => {
                    let conn = self.conn.expect("a connection");
                    self.dial.handle_input(self.now, Input::Received { conn, bytes: &bytes });
                }
                Some(rtmp::Output::Event(ServerEvent::Play { stream, key, .. })) => {
                    assert!(key.matches("key"));
                    self.server.accept(stream);
                }
                Some(rtmp::Output::Event(_)) => {}
                None => return,
            }
        }
    }

    fn send(&mut self, unit: &Unit) {
        self.server.send_media(unit).unwrap();
        self.settle();
    }

    fn playing() -> Self {
        let mut scene = Self::new(None);
        scene.pass();
        scene.answer();
        let conn = scene.conn.expect("a connection");
        let playing = DialEvent::Playing { conn, local: addr(9), remote: addr(1) };
        assert_eq!(scene.events, [DialEvent::Trying(addr(1)), playing]);
        scene.events.clear();
        scene
    }
}

fn picture() -> Unit {
    Unit { kind: Kind::Video, timestamp: 5, payload: vec![0x17, 1, 0, 0, 0, 1].into() }
}

#[test]
fn it_dials_at_once_and_plays_what_the_server_sends() {
    let mut scene = Scene::playing();
    assert!(scene.dial.is_playing());
    scene.send(&picture());
    assert_eq!(scene.events, [DialEvent::Media(picture())]);
}

#[test]
fn a_server_that_asks_and_does_not_read_is_left() {
    let mut scene = Scene::playing();
    let conn = scene.conn.expect("a connection");
    scene.dial.handle_input(scene.now, Input::Backlogged { conn });
    // Ping requests on a chunk stream of their own: one with a header, and then as many as it takes without.
    let first = [8, 0, 0, 0, 0, 0, 6, 4, 0, 0, 0, 0, 0, 6, 0, 0, 0, 9];
    scene.dial.handle_input(scene.now, Input::Received { conn, bytes: &first });
    let ping = [0xc8, 0, 6, 0, 0, 0, 9];
    for _ in 0..MAX_UNREAD_REPLIES / ping.len() {
        scene.dial.handle_input(scene.now, Input::Received { conn, bytes: &ping });
        scene.settle();
        if !scene.events.is_empty() {
            break;
        }
    }
    let why = "the server asks and does not read".to_owned();
    assert_eq!(scene.events, [DialEvent::Over { finished: false, why }]);
    assert_eq!(scene.ops.pop(), Some(NetOp::Close { conn, how: Closing::Abort }));
}

#[test]
fn it_dials_again_and_again_at_growing_pauses_and_every_address_in_turn() {
    let mut scene = Scene::new(None);
    let began = scene.now;
    let mut dialled = Vec::new();
    for _ in 0..7 {
        scene.pass();
        let conn = scene.conn.take().expect("a connect");
        let Some(NetOp::Connect { to, .. }) = scene.ops.pop() else { panic!("a connect") };
        dialled.push(((scene.now - began).as_secs(), to));
        scene.dial.handle_input(scene.now, Input::ConnectFailed { conn, error: NetError::Refused });
        scene.settle();
    }
    let [one, two] = [addr(1), addr(2)];
    assert_eq!(dialled, [(0, one), (1, two), (3, one), (7, two), (15, one), (30, two), (45, one)]);
    let last = DialEvent::Failed { remote: one, why: "connection refused".into(), again_in: MAX_PAUSE };
    assert_eq!(scene.events.last(), Some(&last));
}

#[test]
fn a_server_that_ends_the_stream_is_dialled_again_soon() {
    let mut scene = Scene::playing();
    scene.send(&picture());
    scene.events.clear();
    scene.server.finish_play();
    scene.settle();
    let why = "the server ended the stream".into();
    assert_eq!(scene.events, [DialEvent::Over { finished: true, why }]);
    assert!(!scene.dial.is_playing());
    let before = scene.now;
    scene.pass();
    assert_eq!(scene.now - before, MIN_PAUSE);
    scene.answer();
    assert!(scene.dial.is_playing());
}

#[test]
fn a_server_that_goes_silent_or_away_is_over_and_not_finished() {
    let mut scene = Scene::playing();
    scene.send(&picture());
    // It answers pings as long as it is there.
    for _ in 0..20 {
        scene.pass();
    }
    assert!(scene.dial.is_playing());
    let rtt = |event: &DialEvent| matches!(event, DialEvent::Rtt(Duration::ZERO));
    assert!(scene.events.iter().filter(|event| rtt(event)).count() > 10, "{:?}", scene.events);
    while scene.dial.is_playing() {
        let (at, _) = scene.dial.poll_timeout().expect("a deadline");
        assert!(at <= scene.now + SILENCE);
        scene.dial.handle_timeout(at);
        while let Some(output) = scene.dial.poll_output() {
            if let DialOutput::Event(event) = output {
                scene.events.push(event);
            }
        }
    }
    scene.now += SILENCE;
    let why = "the server went silent".into();
    assert_eq!(scene.events.last(), Some(&DialEvent::Over { finished: false, why }));
    scene.pass();
    scene.answer();
    let conn = scene.conn.expect("a connection");
    scene.dial.handle_input(scene.now, Input::Closed { conn, error: Some(NetError::Reset) });
    scene.settle();
    let why = "connection reset".into();
    assert_eq!(scene.events.last(), Some(&DialEvent::Over { finished: false, why }));
}

#[test]
fn a_refusal_is_told_in_words() {
    let mut scene = Scene::new(None);
    scene.pass();
    let conn = scene.conn.expect("a connect");
    scene.dial.handle_input(scene.now, Input::Connected { conn, local: addr(9), remote: addr(1) });
    loop {
        while let Some(output) = scene.dial.poll_output() {
            match output {
                DialOutput::Net(NetOp::Send { bytes, .. }) => {
                    let _ = scene.server.handle_input(&bytes);
                }
                DialOutput::Net(op) => scene.ops.push(op),
                DialOutput::Event(event) => scene.events.push(event),
            }
        }
        match scene.server.poll_output() {
            Some(rtmp::Output::Transmit(bytes)) => {
                scene.dial.handle_input(scene.now, Input::Received { conn, bytes: &bytes });
            }
            Some(rtmp::Output::Event(ServerEvent::Play { stream, .. })) => {
                scene.server.refuse(stream, Refusal::UnknownKey);
            }
            Some(rtmp::Output::Event(_)) => {}
            None => break,
        }
    }
    let Some(DialEvent::Failed { why, .. }) = scene.events.last() else { panic!("{:?}", scene.events) };
    assert!(why.contains("NetStream.Play.StreamNotFound"), "{why}");
    assert_eq!(scene.ops.last(), Some(&NetOp::Close { conn, how: Closing::Flush }));
}

#[test]
fn what_is_no_rtmp_server_is_told_to_be_none() {
    let mut scene = Scene::new(None);
    scene.pass();
    let conn = scene.conn.expect("a connect");
    scene.dial.handle_input(scene.now, Input::Connected { conn, local: addr(9), remote: addr(1) });
    scene.dial.handle_input(scene.now, Input::Received { conn, bytes: b"\0\0\0\x10a daemon's word" });
    let event = std::iter::from_fn(|| scene.dial.poll_output()).find_map(|output| match output {
        DialOutput::Event(event @ DialEvent::Failed { .. }) => Some(event),
        DialOutput::Event(_) | DialOutput::Net(_) => None,
    });
    let Some(DialEvent::Failed { why, .. }) = event else { panic!("it goes on") };
    assert!(why.contains("does not speak RTMP"), "{why}");
}

#[test]
fn a_dial_for_when_nothing_else_comes_waits_while_something_is_there() {
    let after = Duration::from_secs(8);
    let mut scene = Scene::new(Some(after));
    let began = scene.now;
    scene.dial.hold(scene.now + Duration::from_secs(2), true);
    assert_eq!(scene.dial.poll_timeout(), None);
    let lost = scene.now + Duration::from_secs(100);
    scene.dial.hold(lost, false);
    scene.pass();
    assert_eq!(scene.now - began, Duration::from_secs(108));
    // The forward way comes while the reverse one is dialled.
    let conn = scene.conn.expect("a connect");
    scene.dial.hold(scene.now, true);
    scene.settle();
    assert_eq!(scene.ops.last(), Some(&NetOp::Close { conn, how: Closing::Abort }));
    assert_eq!(scene.dial.poll_timeout(), None);
}

#[test]
fn who_leaves_says_so() {
    let mut scene = Scene::playing();
    let conn = scene.conn.expect("a connection");
    scene.dial.leave(scene.now);
    scene.settle();
    assert_eq!(scene.ops.last(), Some(&NetOp::Close { conn, how: Closing::Flush }));
    assert_eq!(scene.dial.poll_timeout(), None);
}
