//! The hole through its verbs, at chosen times.

use super::burst::{FAN, SWEEP_BUDGET};
use super::schedule::{ATTEMPT_TIME, SLOT, SYN_BUDGET};
use super::*;
use crate::app::{Closing, ConnId, HALF_OPEN_TIME, Input, ListenerId, NetError, NetOp, Room};
use crate::endpoint::Endpoint;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const ROOM: Room = Room(2);
const A: Attempt = Attempt(1);

struct Bench {
    hole: Hole,
    start: Instant,
    approach: Approach,
    now: Instant,
    ops: Vec<NetOp>,
    events: Vec<Event>,
}

impl Bench {
    #[allow(clippy::disallowed_methods)] // A test's time begins somewhere.
    fn new(duty: Duty) -> Self {
        let start = Instant::now();
        let mut bench = Self {
            hole: Hole::new(ROOM),
            start,
            approach: Approach { duty, begin_in: Duration::ZERO, rtt: None },
            now: start,
            ops: Vec::new(),
            events: Vec::new(),
        };
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
        self.hole.start(self.now, attempt, self.approach, &targets);
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

    /// From the hole port.
    fn dials(&self) -> Vec<(ConnId, SocketAddr)> {
        self.dials_from(Some(addr("0.0.0.0:700")))
    }

    fn dials_from(&self, local: Option<SocketAddr>) -> Vec<(ConnId, SocketAddr)> {
        let dial = |op: &NetOp| match op {
            NetOp::Connect { conn, from, to } | NetOp::Knock { conn, from, to, .. } if *from == local => {
                Some((*conn, *to))
            }
            NetOp::Connect { from, .. } | NetOp::Knock { from, .. } => {
                assert!(from.is_none() || local.is_none(), "from another port than the hole's");
                None
            }
            NetOp::Listen { .. }
            | NetOp::StopListening { .. }
            | NetOp::GiveUp { .. }
            | NetOp::Send { .. }
            | NetOp::Close { .. }
            | NetOp::Read { .. } => None,
        };
        self.ops.iter().filter_map(dial).collect()
    }
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn every_target_is_dialled_at_once_from_the_hole_port() {
    let mut bench = Bench::new(Duty::Holder);
    assert_eq!(bench.events, [Event::Opened { locals: vec![addr("0.0.0.0:700")] }]);
    bench.start(A, &["203.0.113.5:9", "192.168.1.5:700", "203.0.113.5:9"]);
    let to: Vec<SocketAddr> = bench.dials().iter().map(|dial| dial.1).collect();
    assert_eq!(to, [addr("203.0.113.5:9"), addr("192.168.1.5:700")]);
}

#[test]
fn our_own_port_other_families_and_nowhere_are_not_dialled() {
    let mut bench = Bench::new(Duty::Holder);
    bench.hole.set_own(vec![Endpoint::new(addr("192.168.1.2:700"))]);
    bench.start(A, &["192.168.1.2:700", "[2001:db8::1]:700", "0.0.0.0:700", "203.0.113.5:0"]);
    assert!(bench.dials().is_empty());
}

#[test]
fn silence_leaves_the_socket_in_syn_sent_until_the_attempt_is_over() {
    let mut bench = Bench::new(Duty::Holder);
    bench.start(A, &["203.0.113.5:9"]);
    bench.wait_for_timeout();
    assert_eq!(bench.now - bench.start, ATTEMPT_TIME);
    assert_eq!(bench.dials().len(), 1);
    let conn = bench.dials()[0].0;
    assert!(bench.ops.contains(&NetOp::Close { conn, how: Closing::Abort }));
    let Some(Event::Exhausted { attempt: A, findings }) = bench.events.last() else { panic!() };
    assert_eq!((findings.dials, findings.silent(), findings.endpoints), (1, 1, 1));
}

#[test]
fn what_an_attempt_met_adds_up_to_what_it_dialled() {
    let mut bench = Bench::new(Duty::Dialler);
    bench.start(A, &["203.0.113.5:9", "203.0.113.6:9", "203.0.113.7:9", "203.0.113.8:9"]);
    let [refused, lost, local, silent] = [0, 1, 2, 3].map(|at| bench.dials()[at]);
    bench.input(Input::ConnectFailed { conn: refused.0, error: NetError::Refused });
    // It is met once more, and what has not been answered yet is met by the second attempt.
    bench.start(A, &["203.0.113.5:9"]);
    bench.input(Input::ConnectFailed { conn: local.0, error: NetError::AddrNotAvailable });
    bench.input(Input::Connected { conn: lost.0, local: addr("192.0.2.1:700"), remote: lost.1 });
    let again = |bench: &Bench, to| bench.dials().iter().rfind(|dial| dial.1 == to).copied().unwrap();
    let mut answers = Vec::new();
    while bench.hole.is_trying(A) {
        let (conn, _) = again(&bench, refused.1);
        bench.input(Input::ConnectFailed { conn, error: NetError::Refused });
        let (conn, _) = again(&bench, local.1);
        bench.input(Input::ConnectFailed { conn, error: NetError::Unreachable });
        answers = bench.hole.answers(A).map(|(_, answer)| answer).collect();
        bench.wait_for_timeout();
    }
    let Some(Event::Exhausted { attempt: A, findings }) = bench.events.last() else { panic!() };
    assert_eq!(answers, [Answer::Refused, Answer::Connected, Answer::Unreachable, Answer::Silent]);
    // The first refusal and what could not begin are of no matter.
    assert_eq!(findings.dials as usize, bench.dials().len() - 2, "{findings}");
    assert_eq!((findings.connected, findings.silent()), (1, 1), "{findings} {silent:?}");
    assert!(findings.refused > 1 && findings.unreachable > 1);
    let said = findings.to_string();
    let mut numbers =
        said.split(|char: char| !char.is_ascii_digit()).filter_map(|text| text.parse::<u32>().ok());
    let (dials, endpoints) = (numbers.next(), numbers.next());
    assert_eq!((dials, endpoints), (Some(findings.dials), Some(4)), "{said}");
    assert_eq!(numbers.sum::<u32>(), findings.dials, "{said}");
}

#[test]
fn a_dialler_sends_a_full_syn_in_each_slot_after_refusals_within_the_budget() {
    let mut bench = Bench::new(Duty::Dialler);
    bench.start(A, &["203.0.113.5:9"]);
    bench.now += Duration::from_millis(30);
    bench.fail(NetError::Refused);
    bench.wait_for_timeout();
    assert_eq!(bench.now - bench.start, SLOT);
    assert_eq!(bench.dials().len(), 2);
    while bench.hole.is_trying(A) {
        assert!(bench.hole.poll_timeout().unwrap().0 > bench.now, "the hole spins");
        bench.now += Duration::from_millis(30);
        bench.fail(NetError::Refused);
        bench.wait_for_timeout();
    }
    assert!(bench.dials().len() <= SYN_BUDGET as usize);
    assert!(bench.dials().len() > 40);
    assert!(!bench.ops.iter().any(|op| matches!(op, NetOp::Knock { .. })));
}

/// How far the last connect was to go; `None` for a full SYN.
fn last_hops(bench: &Bench) -> Option<u8> {
    bench.ops.iter().rev().find_map(|op| match op {
        NetOp::Knock { hops, .. } => Some(Some(*hops)),
        NetOp::Connect { .. } => Some(None),
        NetOp::Listen { .. }
        | NetOp::StopListening { .. }
        | NetOp::GiveUp { .. }
        | NetOp::Send { .. }
        | NetOp::Close { .. }
        | NetOp::Read { .. } => None,
    })?
}

#[test]
fn a_holder_knocks_after_a_refusal_and_learns_how_far() {
    let mut bench = Bench::new(Duty::Holder);
    bench.start(A, &["203.0.113.5:9"]);
    assert_eq!(last_hops(&bench), None);
    bench.fail(NetError::Refused);
    bench.wait_for_timeout();
    assert_eq!((last_hops(&bench), bench.now), (Some(1), bench.start), "the hole opens again at once");
    // The kernel's retransmission of a second later was refused: perhaps a NAT further out stayed closed.
    bench.now += Duration::from_millis(1010);
    bench.fail(NetError::Refused);
    bench.wait_for_timeout();
    assert_eq!(last_hops(&bench), Some(2));
    // Refused at once: that went as far as the peer's NAT.
    bench.now += Duration::from_millis(40);
    bench.fail(NetError::Refused);
    bench.wait_for_timeout();
    assert_eq!(last_hops(&bench), Some(1));
    bench.now += Duration::from_millis(40);
    bench.fail(NetError::Refused);
    bench.wait_for_timeout();
    assert_eq!(last_hops(&bench), None, "no router stands between");
}

/// A fresh SYN would be a stranger's to a NAT that has seen the first one cross.
#[test]
fn a_connect_into_silence_is_left_to_the_kernel_on_both_sides() {
    for duty in [Duty::Dialler, Duty::Holder] {
        let mut bench = Bench::new(duty);
        bench.start(A, &["203.0.113.5:9"]);
        bench.wait_for_timeout();
        assert_eq!(bench.now - bench.start, ATTEMPT_TIME);
        assert_eq!(bench.dials().len(), 1);
    }
}

#[test]
fn a_handshake_that_is_not_finished_is_begun_anew_at_the_next_slot() {
    let mut bench = Bench::new(Duty::Dialler);
    bench.start(A, &["203.0.113.5:9"]);
    bench.now += HALF_OPEN_TIME + Duration::from_millis(10);
    bench.fail(NetError::HalfOpen);
    bench.wait_for_timeout();
    assert_eq!(bench.dials().len(), 2);
    assert_eq!(bench.now - bench.start, SLOT * 14);
}

#[test]
fn addresses_that_lead_nowhere_take_nothing_from_the_others() {
    let mut bench = Bench::new(Duty::Dialler);
    bench.start(A, &["192.168.7.1:9"]);
    for _ in 0..SYN_BUDGET {
        bench.fail(NetError::Refused);
        bench.now += SLOT;
        bench.hole.handle_timeout(bench.now);
        bench.drain();
    }
    bench.start(A, &["203.0.113.5:9"]);
    assert_eq!(bench.dials().last().unwrap().1, addr("203.0.113.5:9"));
}

#[test]
fn observed_endpoints_wait_for_the_moment_that_the_daemon_names() {
    let mut bench = Bench::new(Duty::Dialler);
    bench.approach.begin_in = Duration::from_millis(70);
    bench.start(A, &["203.0.113.5:9"]);
    assert!(bench.dials().is_empty());
    bench.wait_for_timeout();
    assert_eq!(bench.now - bench.start, Duration::from_millis(70));
    assert_eq!(bench.dials().len(), 1);
}

#[test]
fn a_sweep_keeps_its_pace_and_budget_and_its_hit_is_a_connection() {
    let mut bench = Bench::new(Duty::Dialler);
    bench.start(A, &[]);
    let ports = (1024..=u16::MAX).collect();
    bench.hole.burst(
        bench.now,
        A,
        Aim::Sweep { seen: addr("203.0.113.5:9"), ports, rounds: 1, in_step: false },
    );
    bench.drain();
    while bench.dials().len() < SWEEP_BUDGET {
        let before = bench.dials().len();
        bench.wait_for_timeout();
        assert!(bench.dials().len() - before <= 32);
    }
    assert!(bench.now - bench.start >= Duration::from_millis(600));
    let given_up = bench.ops.iter().filter(|op| matches!(op, NetOp::GiveUp { .. })).count();
    assert!(SWEEP_BUDGET - given_up <= 400, "what is under way is bounded");
    let (conn, remote) = *bench.dials().last().unwrap();
    bench.input(Input::Connected { conn, local: addr("192.168.1.2:700"), remote });
    let Some(Event::Open(open)) = bench.events.last() else { panic!("a hit is a connection") };
    assert_eq!((open.attempt, open.origin), (Some(A), Some(Origin::Predicted)));
    bench.wait_for_timeout();
    assert_eq!(bench.now - bench.start, ATTEMPT_TIME, "no port is tried twice");
}

/// Two sessions of one host with one endpoint cannot be told apart by its NAT.
#[test]
fn a_sweep_dials_what_was_seen_once_from_a_fresh_port() {
    for (in_step, aside) in [(false, 1), (true, 0)] {
        let mut bench = Bench::new(Duty::Holder);
        bench.start(A, &["203.0.113.5:9"]);
        let aim = Aim::Sweep { seen: addr("203.0.113.5:9"), ports: vec![5000, 5001], rounds: 3, in_step };
        bench.hole.burst(bench.now, A, aim);
        for _ in 0..4 {
            bench.wait_for_timeout();
        }
        let fresh = bench.dials_from(None);
        assert_eq!(fresh.len(), aside);
        assert!(fresh.iter().all(|(_, to)| *to == addr("203.0.113.5:9")));
    }
}

#[test]
fn a_better_aim_leaves_what_is_under_way_alone() {
    let mut bench = Bench::new(Duty::Holder);
    bench.start(A, &[]);
    let aim = |ports: std::ops::Range<u16>| Aim::Sweep {
        seen: addr("203.0.113.5:9"),
        ports: ports.collect(),
        rounds: 1,
        in_step: false,
    };
    bench.hole.burst(bench.now, A, aim(5000..5020));
    bench.wait_for_timeout();
    assert_eq!(bench.dials().len(), 20);
    bench.hole.burst(bench.now, A, aim(5010..5030));
    bench.wait_for_timeout();
    assert_eq!(bench.dials().len(), 30, "what is open is not dialled again");
    assert!(!bench.ops.iter().any(|op| matches!(op, NetOp::Close { .. } | NetOp::GiveUp { .. })));
}

#[test]
fn of_many_hits_of_a_sweep_two_are_kept() {
    let mut bench = Bench::new(Duty::Dialler);
    bench.start(A, &[]);
    bench.hole.burst(
        bench.now,
        A,
        Aim::Sweep { seen: addr("203.0.113.5:9"), ports: (5000..5010).collect(), rounds: 1, in_step: false },
    );
    bench.wait_for_timeout();
    let dials = bench.dials();
    let hit = |bench: &mut Bench, at: usize| {
        let (conn, remote) = dials[at];
        bench.input(Input::Connected { conn, local: addr("192.168.1.2:700"), remote });
    };
    (0..3).for_each(|at| hit(&mut bench, at));
    let opened = |bench: &Bench| bench.events.iter().filter(|event| matches!(event, Event::Open(_))).count();
    assert_eq!(opened(&bench), 2);
    assert_eq!(bench.ops.last(), Some(&NetOp::Close { conn: dials[2].0, how: Closing::Flush }));
    bench.hole.released(bench.now, dials[0].0);
    hit(&mut bench, 3);
    assert_eq!(opened(&bench), 3, "another one takes its place");
}

#[test]
fn a_round_lasts_as_long_as_an_answer_takes() {
    let mut bench = Bench::new(Duty::Holder);
    bench.approach.rtt = Some(Duration::from_millis(800));
    bench.start(A, &[]);
    let aim = Aim::Sweep { seen: addr("203.0.113.5:9"), ports: vec![5000, 5001], rounds: 2, in_step: false };
    bench.hole.burst(bench.now, A, aim);
    bench.wait_for_timeout();
    let first = bench.now;
    assert_eq!(bench.dials().len(), 2);
    let (refused, _) = bench.dials()[1];
    bench.input(Input::ConnectFailed { conn: refused, error: NetError::Refused });
    bench.wait_for_timeout();
    assert_eq!(bench.now - first, Duration::from_millis(1200));
    let again: Vec<SocketAddr> = bench.dials()[2..].iter().map(|(_, to)| *to).collect();
    assert_eq!(again, [addr("203.0.113.5:5001")], "what is still being dialled is the kernel's to repeat");
}

#[test]
fn what_a_sweep_found_and_lost_is_dialled_again() {
    let mut bench = Bench::new(Duty::Dialler);
    bench.start(A, &[]);
    let aim = Aim::Sweep { seen: addr("203.0.113.5:9"), ports: vec![5000], rounds: 1, in_step: false };
    bench.hole.burst(bench.now, A, aim);
    bench.wait_for_timeout();
    let (conn, remote) = bench.dials()[0];
    bench.input(Input::Connected { conn, local: addr("192.168.1.2:700"), remote });
    bench.input(Input::Closed { conn, error: Some(NetError::Reset) });
    bench.wait_for_timeout();
    assert_eq!(bench.dials().len(), 2);
    assert_eq!(bench.dials()[1].1, remote);
}

#[test]
fn a_dialler_that_is_swept_holds_its_mapping() {
    let mut bench = Bench::new(Duty::Dialler);
    bench.start(A, &["203.0.113.5:9"]);
    bench.hole.burst(bench.now, A, Aim::Hold);
    bench.fail(NetError::Refused);
    bench.wait_for_timeout();
    assert_eq!(last_hops(&bench), Some(1));
}

#[test]
fn a_caller_from_a_swept_port_is_a_hit() {
    let mut bench = Bench::new(Duty::Holder);
    bench.start(A, &[]);
    let remote = addr("203.0.113.5:5001");
    let aim = Aim::Sweep { seen: remote, ports: vec![5000, 5001], rounds: 1, in_step: false };
    bench.hole.burst(bench.now, A, aim);
    let conn = ConnId { room: ROOM, serial: ConnId::ACCEPTED };
    let listener = ListenerId { room: ROOM, serial: 4 };
    bench.input(Input::Accepted { listener, conn, local: addr("192.168.1.2:700"), remote });
    let Some(Event::Open(open)) = bench.events.last() else { panic!() };
    assert_eq!((open.attempt, open.origin), (Some(A), Some(Origin::Predicted)));
}

#[test]
fn a_fan_knocks_from_fresh_ports_and_renews_what_was_refused() {
    let mut bench = Bench::new(Duty::Holder);
    bench.start(A, &[]);
    let to = addr("203.0.113.5:9");
    bench.hole.burst(bench.now, A, Aim::Fan { to });
    bench.drain();
    let knocks = |bench: &Bench| {
        let fresh = |op: &&NetOp| matches!(op, NetOp::Knock { from: None, to: at, hops: 1, .. } if *at == to);
        bench.ops.iter().filter(fresh).count()
    };
    while knocks(&bench) < FAN {
        bench.wait_for_timeout();
    }
    let Some(NetOp::Knock { conn, .. }) = bench.ops.last().cloned() else { panic!() };
    bench.input(Input::ConnectFailed { conn, error: NetError::Refused });
    bench.wait_for_timeout();
    assert_eq!(knocks(&bench), FAN + 1);
    bench.hole.stop(A);
    bench.drain();
    let closed = bench.ops.iter().filter(|op| matches!(op, NetOp::Close { .. })).count();
    assert_eq!(closed, FAN);
}

#[test]
fn one_socket_that_two_attempts_wait_for_is_open_for_both() {
    let mut bench = Bench::new(Duty::Holder);
    bench.start(A, &["203.0.113.5:9"]);
    bench.start(Attempt(2), &["203.0.113.5:9"]);
    let (conn, remote) = bench.dials()[0];
    bench.input(Input::Connected { conn, local: addr("192.168.1.2:700"), remote });
    bench.hole.stop(A);
    bench.hole.stop(Attempt(2));
    bench.drain();
    assert!(!bench.ops.iter().any(|op| matches!(op, NetOp::Close { .. })), "the connection is the owner's");
}

#[test]
fn a_taken_four_tuple_is_no_failure_when_the_accept_follows() {
    let mut bench = Bench::new(Duty::Holder);
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
    let mut bench = Bench::new(Duty::Holder);
    bench.start(A, &["203.0.113.5:9"]);
    bench.start(Attempt(2), &["203.0.113.5:9"]);
    assert_eq!(bench.dials().len(), 1);
    assert!(bench.hole.poll_timeout().unwrap().0 > bench.now);
}

#[test]
fn a_stopped_attempt_closes_its_connects_and_keeps_its_connections() {
    let mut bench = Bench::new(Duty::Holder);
    bench.start(A, &["203.0.113.5:9", "203.0.113.6:9"]);
    let dials = bench.dials();
    bench.input(Input::Connected { conn: dials[0].0, local: addr("192.168.1.2:700"), remote: dials[0].1 });
    bench.hole.stop(A);
    bench.drain();
    let closed: Vec<&NetOp> = bench.ops.iter().filter(|op| matches!(op, NetOp::Close { .. })).collect();
    assert_eq!(closed, [&NetOp::Close { conn: dials[1].0, how: Closing::Abort }]);
    assert_eq!(bench.hole.poll_timeout(), None);
}

#[test]
fn a_closed_hole_dials_nobody_and_lets_nobody_in() {
    let mut bench = Bench::new(Duty::Holder);
    bench.start(A, &["203.0.113.5:9", "203.0.113.6:9"]);
    let [(kept, _), (given_up, _)] = bench.dials()[..] else { panic!("both are dialled") };
    let (local, remote) = (addr("192.168.1.2:700"), addr("203.0.113.5:9"));
    bench.input(Input::Connected { conn: kept, local, remote });
    (bench.ops, bench.events) = (Vec::new(), Vec::new());
    bench.hole.close();
    bench.drain();
    let listener = ListenerId { room: ROOM, serial: 4 };
    let abort = NetOp::Close { conn: given_up, how: Closing::Abort };
    assert_eq!(bench.ops, [abort, NetOp::StopListening { listener }], "what formed stays");
    assert!(bench.hole.locals().is_empty() && bench.hole.poll_timeout().is_none());
    // What was on its way.
    bench.ops.clear();
    let late = ConnId { room: ROOM, serial: ConnId::ACCEPTED };
    bench.input(Input::Accepted { listener, conn: late, local, remote: addr("203.0.113.9:9") });
    bench.input(Input::Closed { conn: kept, error: None });
    assert_eq!(bench.ops, [NetOp::Close { conn: late, how: Closing::Flush }]);
    assert_eq!(bench.events, []);
}

#[test]
fn a_hole_that_is_closed_while_it_opens_stays_closed() {
    let mut hole = Hole::new(ROOM);
    hole.open(0);
    let listener = |serial| ListenerId { room: ROOM, serial };
    #[allow(clippy::disallowed_methods)] // A test's time begins somewhere.
    let now = Instant::now();
    hole.handle_input(now, &Input::Listening { listener: listener(4), local: addr("0.0.0.0:700") });
    hole.close();
    hole.handle_input(now, &Input::Listening { listener: listener(6), local: addr("[::]:700") });
    let outputs = std::iter::from_fn(|| hole.poll_output());
    let stopped = outputs.filter_map(|output| match output {
        Output::Net(NetOp::StopListening { listener }) => Some(listener),
        Output::Net(_) => None,
        Output::Event(event) => panic!("{event:?}"),
    });
    assert_eq!(stopped.collect::<Vec<_>>(), [listener(4), listener(6)]);
    assert!(hole.locals().is_empty());
}
