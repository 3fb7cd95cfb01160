//! The relay's client half through its verbs, at chosen times.

use super::*;
use crate::app::{ConnIds, NetError, Room};

const DAEMON: &str = "203.0.113.1:4000";
const LOCAL: &str = "192.168.0.2:50000";
const TOKEN: PunchToken = PunchToken([4; 16]);
const SESSION: SessionId = SessionId(7);
const RELAYING: FromMain = FromMain::Relaying { bytes: 1000, seconds: 60 };

struct Bench {
    relay: Relay,
    conns: ConnIds,
    now: Instant,
    ops: Vec<NetOp>,
    events: Vec<Event>,
}

impl Bench {
    #[expect(clippy::disallowed_methods, reason = "a test's time begins somewhere")]
    fn new() -> Self {
        let (relay, conns) = (Relay::new(), ConnIds::new(Room(5)));
        Self { relay, conns, now: Instant::now(), ops: Vec::new(), events: Vec::new() }
    }

    fn drain(&mut self) {
        while let Some(output) = self.relay.poll_output() {
            match output {
                Output::Net(op) => self.ops.push(op),
                Output::Event(event) => self.events.push(event),
            }
        }
    }

    /// Opens an attempt; its connection.
    fn open(&mut self) -> ConnId {
        let named = self.conns.allocate();
        self.relay.open(self.now, named, DAEMON.parse().unwrap(), TOKEN, SESSION);
        self.drain();
        let Some(&NetOp::Connect { conn, from: None, to }) = self.ops.last() else {
            panic!("{:?}", self.ops);
        };
        assert_eq!((conn, to), (named, DAEMON.parse().unwrap()));
        conn
    }

    fn input(&mut self, input: Input<'_>) {
        self.relay.handle_input(self.now, &input);
        self.drain();
    }

    fn connect(&mut self, conn: ConnId) {
        let (local, remote) = (LOCAL.parse().unwrap(), DAEMON.parse().unwrap());
        self.input(Input::Connected { conn, local, remote });
    }

    /// An attempt that waits for the other half.
    fn wait(&mut self) -> ConnId {
        let conn = self.open();
        self.connect(conn);
        conn
    }

    fn at_next_timeout(&mut self) {
        self.now = self.relay.poll_timeout().unwrap().0;
        self.relay.handle_timeout(self.now);
        self.drain();
    }

    fn aborted(&self, conn: ConnId) -> bool {
        self.ops.contains(&NetOp::Close { conn, how: Closing::Abort })
    }
}

fn through(conn: ConnId, first: &'static [u8]) -> Event {
    Event::Through {
        conn,
        local: LOCAL.parse().unwrap(),
        remote: DAEMON.parse().unwrap(),
        terms: Terms { bytes: 1000, time: Duration::from_secs(60) },
        first: Bytes::from_static(first),
    }
}

#[test]
fn it_asks_when_connected_and_is_through_when_the_other_half_is_there() {
    let mut bench = Bench::new();
    let conn = bench.wait();
    let bytes = wire::encode(&ToMain::Relay { token: TOKEN, session: SESSION });
    assert_eq!(bench.ops.last(), Some(&NetOp::Send { conn, bytes }));
    assert!(bench.relay.is_trying());
    bench.input(Input::Received { conn, bytes: &wire::encode(&RELAYING) });
    assert_eq!(bench.events, [through(conn, b"")]);
    assert!(!bench.relay.is_trying());
    assert_eq!(bench.relay.poll_timeout(), None);
}

#[test]
fn what_follows_the_answer_is_the_other_sides_whatever_the_split() {
    let stream = [wire::encode(&RELAYING), wire::encode(&FromMain::Shutdown)].concat();
    let answer = wire::encode(&RELAYING).len();
    for split in 0..answer {
        let mut bench = Bench::new();
        let conn = bench.wait();
        if split > 0 {
            bench.input(Input::Received { conn, bytes: &stream[..split] });
            assert_eq!(bench.events, []);
        }
        bench.input(Input::Received { conn, bytes: &stream[split..] });
        let [Event::Through { first, .. }] = &bench.events[..] else { panic!("{:?}", bench.events) };
        assert_eq!(first, &stream[answer..], "not even what looks like a frame is the daemon's");
    }
}

#[test]
fn once_through_the_connection_is_the_owners() {
    let mut bench = Bench::new();
    let conn = bench.wait();
    bench.input(Input::Received { conn, bytes: &wire::encode(&RELAYING) });
    bench.ops.clear();
    bench.input(Input::Received { conn, bytes: &wire::encode(&FromMain::Shutdown) });
    bench.input(Input::Closed { conn, error: None });
    bench.relay.cancel();
    let other = bench.open();
    assert_ne!(conn, other);
    assert_eq!(bench.ops.len(), 1, "nothing but the new connect: {:?}", bench.ops);
    assert_eq!(bench.events.len(), 1);
}

#[test]
fn a_refusal_ends_the_attempt_with_its_reason() {
    let mut bench = Bench::new();
    let conn = bench.wait();
    let refused = FromMain::Refused { reason: Refusal::NoRelay };
    bench.input(Input::Received { conn, bytes: &wire::encode(&refused) });
    assert_eq!(bench.events, [Event::Refused(Refusal::NoRelay)]);
    assert!(bench.aborted(conn) && !bench.relay.is_trying());
}

#[test]
fn a_connect_that_fails_or_hangs_has_failed() {
    let mut bench = Bench::new();
    let conn = bench.open();
    bench.input(Input::ConnectFailed { conn, error: NetError::Refused });
    assert_eq!(bench.events, [Event::Failed("connection refused".to_owned())]);
    assert!(!bench.aborted(conn), "it does not exist any more");

    let conn = bench.open();
    let start = bench.now;
    bench.at_next_timeout();
    assert_eq!(bench.now - start, CONNECT_TIME);
    assert_eq!(bench.events.len(), 2);
    assert!(bench.aborted(conn));
}

#[test]
fn another_half_that_does_not_come_is_waited_for_so_long() {
    let mut bench = Bench::new();
    let conn = bench.wait();
    let start = bench.now;
    bench.at_next_timeout();
    assert_eq!(bench.now - start, WAIT_TIME);
    assert!(matches!(&bench.events[..], [Event::Failed(why)] if why.contains("other side")));
    assert!(bench.aborted(conn));
}

#[test]
fn a_daemon_that_closes_or_says_something_else_has_failed_us() {
    for message in [FromMain::Shutdown, FromMain::Heartbeat { nonce: 1 }] {
        let mut bench = Bench::new();
        let conn = bench.wait();
        bench.input(Input::Received { conn, bytes: &wire::encode(&message) });
        assert!(matches!(&bench.events[..], [Event::Failed(_)]) && bench.aborted(conn));
    }
    let mut bench = Bench::new();
    let conn = bench.wait();
    bench.input(Input::Received { conn, bytes: b"HTTP/1.1 400 Bad Request\r\n\r\n" });
    assert!(matches!(&bench.events[..], [Event::Failed(_)]) && bench.aborted(conn));
    let conn = bench.wait();
    bench.input(Input::Closed { conn, error: None });
    assert!(!bench.relay.is_trying() && !bench.aborted(conn));
    let conn = bench.wait();
    bench.input(Input::Closed { conn, error: Some(NetError::Reset) });
    assert_eq!(bench.events.last(), Some(&Event::Lost("connection reset".to_owned())));
}

#[test]
fn another_attempt_takes_the_place_of_the_first() {
    let mut bench = Bench::new();
    let first = bench.wait();
    let second = bench.wait();
    assert!(bench.aborted(first) && !bench.aborted(second));
    bench.input(Input::Received { conn: first, bytes: &wire::encode(&RELAYING) });
    assert_eq!(bench.events, [], "what was left behind is not heard");
    bench.input(Input::Received { conn: second, bytes: &wire::encode(&RELAYING) });
    assert_eq!(bench.events, [through(second, b"")]);
}

#[test]
fn a_cancelled_attempt_says_nothing_more() {
    let mut bench = Bench::new();
    let conn = bench.wait();
    bench.relay.cancel();
    bench.drain();
    assert!(bench.aborted(conn) && !bench.relay.is_trying());
    assert_eq!(bench.relay.poll_timeout(), None);
    assert_eq!(bench.events, []);
}
