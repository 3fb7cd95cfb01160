//! The hole through its verbs, at chosen times.

use super::schedule::{ATTEMPT_TIME, SLOT, SYN_BUDGET};
use super::*;
use crate::app::{Closing, ConnId, Input, ListenerId, NetError, NetOp, Room};
use crate::endpoint::Endpoint;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const ROOM: Room = Room(2);
const A: Attempt = Attempt(1);

struct Bench {
    hole: Hole,
    start: Instant,
    now: Instant,
    ops: Vec<NetOp>,
    events: Vec<Event>,
}

impl Bench {
    #[allow(clippy::disallowed_methods)] // A test's time begins somewhere.
    fn new() -> Self {
        let start = Instant::now();
        let mut bench =
            Self { hole: Hole::new(ROOM), start, now: start, ops: Vec::new(), events: Vec::new() };
        bench.hole.open(0);
        bench.drain();
        let listener = ListenerId { room: ROOM, serial: 4 };
        bench.input(Input::Listening { listener, local: addr("0.0.0.0:700") });
        let listener = ListenerId { room: ROOM, serial: 6 };
        bench.input(Input::ListenFailed { listener, addr: addr("[::]:700"), error: NetError::Other(97) });
        bench
    }

    fn drain(&mut self) {
        while let Some(output) = self.hole.poll_output() {
            match output {
                Output::Net(op) => self.ops.push(op),
                Output::Event(event) => self.events.push(event),
            }
        }
    }

    fn input(&mut self, input: Input<'_>) {
        self.hole.handle_input(self.now, &input);
        self.drain();
    }

    fn start(&mut self, attempt: Attempt, to: &[&str]) {
        let targets: Vec<Target> = to
            .iter()
            .map(|to| Target { endpoint: Endpoint::new(addr(to)), origin: Origin::Observed })
            .collect();
        self.hole.start(self.now, attempt, &targets);
        self.drain();
    }

    fn fail(&mut self, error: NetError) {
        let conn = self.dials().last().unwrap().0;
        self.input(Input::ConnectFailed { conn, error });
    }

    fn wait_for_timeout(&mut self) {
        self.now = self.hole.poll_timeout().unwrap().0;
        self.hole.handle_timeout(self.now);
        self.drain();
    }

    fn dials(&self) -> Vec<(ConnId, SocketAddr)> {
        let dial = |op: &NetOp| {
            if let NetOp::Connect { conn, from, to } = op {
                assert_eq!(*from, Some(addr("0.0.0.0:700")));
                return Some((*conn, *to));
            }
            None
        };
        self.ops.iter().filter_map(dial).collect()
    }
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn every_target_is_dialled_at_once_from_the_hole_port() {
    let mut bench = Bench::new();
    assert_eq!(bench.events, [Event::Opened { locals: vec![addr("0.0.0.0:700")] }]);
    bench.start(A, &["203.0.113.5:9", "192.168.1.5:700", "203.0.113.5:9"]);
    let to: Vec<SocketAddr> = bench.dials().iter().map(|dial| dial.1).collect();
    assert_eq!(to, [addr("203.0.113.5:9"), addr("192.168.1.5:700")]);
}

#[test]
fn our_own_port_other_families_and_nowhere_are_not_dialled() {
    let mut bench = Bench::new();
    bench.hole.set_own(vec![Endpoint::new(addr("192.168.1.2:700"))]);
    bench.start(A, &["192.168.1.2:700", "[2001:db8::1]:700", "0.0.0.0:700", "203.0.113.5:0"]);
    assert!(bench.dials().is_empty());
}

#[test]
fn silence_leaves_the_socket_in_syn_sent_until_the_attempt_is_over() {
    let mut bench = Bench::new();
    bench.start(A, &["203.0.113.5:9"]);
    bench.wait_for_timeout();
    assert_eq!(bench.now - bench.start, ATTEMPT_TIME);
    assert_eq!(bench.dials().len(), 1);
    let conn = bench.dials()[0].0;
    assert!(bench.ops.contains(&NetOp::Close { conn, how: Closing::Abort }));
    let Some(Event::Exhausted { attempt: A, findings }) = bench.events.last() else { panic!() };
    assert_eq!((findings.dials, findings.silent, findings.endpoints), (1, 1, 1));
}

#[test]
fn a_refusal_is_tried_again_at_the_next_slot_within_the_budget() {
    let mut bench = Bench::new();
    bench.start(A, &["203.0.113.5:9"]);
    bench.now += Duration::from_millis(30);
    bench.fail(NetError::Refused);
    bench.wait_for_timeout();
    assert_eq!(bench.now - bench.start, SLOT);
    assert_eq!(bench.dials().len(), 2);
    while bench.hole.is_trying(A) {
        if bench.hole.poll_timeout().unwrap().0 == bench.now {
            panic!("the hole spins");
        }
        bench.now += Duration::from_millis(30);
        bench.fail(NetError::Refused);
        bench.wait_for_timeout();
    }
    assert!(bench.dials().len() <= SYN_BUDGET as usize);
    assert!(bench.dials().len() > 20);
}

#[test]
fn a_taken_four_tuple_is_no_failure_when_the_accept_follows() {
    let mut bench = Bench::new();
    bench.start(A, &["203.0.113.5:9"]);
    bench.fail(NetError::AddrNotAvailable);
    let conn = ConnId { room: ROOM, serial: ConnId::ACCEPTED };
    let listener = ListenerId { room: ROOM, serial: 4 };
    let (local, remote) = (addr("192.168.1.2:700"), addr("203.0.113.5:9"));
    bench.input(Input::Accepted { listener, conn, local, remote });
    let Some(Event::Open(open)) = bench.events.last() else { panic!() };
    assert_eq!((open.attempt, open.dialled), (Some(A), false));
    bench.wait_for_timeout();
    assert_eq!(bench.dials().len(), 1, "an endpoint that is connected is not dialled again");
}

#[test]
fn two_attempts_share_one_connect_to_one_endpoint() {
    let mut bench = Bench::new();
    bench.start(A, &["203.0.113.5:9"]);
    bench.start(Attempt(2), &["203.0.113.5:9"]);
    assert_eq!(bench.dials().len(), 1);
    assert!(bench.hole.poll_timeout().unwrap().0 > bench.now);
}

#[test]
fn a_stopped_attempt_closes_its_connects_and_keeps_its_connections() {
    let mut bench = Bench::new();
    bench.start(A, &["203.0.113.5:9", "203.0.113.6:9"]);
    let dials = bench.dials();
    bench.input(Input::Connected { conn: dials[0].0, local: addr("192.168.1.2:700"), remote: dials[0].1 });
    bench.hole.stop(A);
    bench.drain();
    let closed: Vec<&NetOp> = bench.ops.iter().filter(|op| matches!(op, NetOp::Close { .. })).collect();
    assert_eq!(closed, [&NetOp::Close { conn: dials[1].0, how: Closing::Abort }]);
    assert_eq!(bench.hole.poll_timeout(), None);
}
