//! The agent through its verbs, at chosen times.

use super::ground::SAMPLES_AGE;
use super::login::ALIVE_TIME;
use super::*;
use crate::app::Room;
use crate::id::{ClientId, OwnerToken};
use crate::wire::message::{FromAssist, FromMain, Peer, Refusal, Role, SeenBy, ToAssist};

const ROOM: Room = Room(1);
pub(super) const MAIN: &str = "203.0.113.1:4000";
pub(super) const ASSIST: &str = "203.0.113.1:8000";

pub(super) struct Bench {
    pub(super) agent: Agent,
    pub(super) now: Instant,
    ops: Vec<NetOp>,
    pub(super) events: Vec<Event>,
}

impl Bench {
    #[allow(clippy::disallowed_methods)] // A test's time begins somewhere.
    pub(super) fn new(role: Role) -> Self {
        let owner = OwnerToken([3; 16]);
        let agent = Agent::new(Config {
            room: ROOM,
            servers: vec![Server { main: MAIN.parse().unwrap(), assist: ASSIST.parse().unwrap() }],
            role,
            rendezvous: owner.rendezvous(),
            owner: (role == Role::Viewer).then_some(owner),
            seed: 1,
            code_seed: (role == Role::Viewer).then_some(crate::code::Seed([9; 32])),
        });
        let mut bench = Self { agent, now: Instant::now(), ops: Vec::new(), events: Vec::new() };
        bench.agent.start(bench.now, &["0.0.0.0:700".parse().unwrap()], Vec::new());
        bench.drain();
        bench
    }

    pub(super) fn drain(&mut self) {
        while let Some(output) = self.agent.poll_output() {
            match output {
                Output::Net(op) => self.ops.push(op),
                Output::Event(event) => self.events.push(event),
            }
        }
    }

    pub(super) fn input(&mut self, input: Input<'_>) {
        self.agent.handle_input(self.now, input);
        self.drain();
    }

    pub(super) fn hear(&mut self, conn: ConnId, bytes: &[u8]) {
        self.input(Input::Received { conn, bytes });
    }

    pub(super) fn at_next_timeout(&mut self) {
        self.now = self.agent.poll_timeout().unwrap().0;
        self.agent.handle_timeout(self.now);
        self.drain();
    }

    pub(super) fn dialled(&self, to: &str) -> Option<(ConnId, Option<SocketAddr>)> {
        self.ops.iter().rev().find_map(|op| match op {
            // The samples go the other way round: from the hole port to the main port.
            NetOp::Connect { conn, from, to: addr }
                if *addr == to.parse().unwrap() && from.is_none() == (to == MAIN) =>
            {
                Some((*conn, *from))
            }
            NetOp::Connect { .. }
            | NetOp::Knock { .. }
            | NetOp::GiveUp { .. }
            | NetOp::Listen { .. }
            | NetOp::StopListening { .. }
            | NetOp::Send { .. }
            | NetOp::Close { .. }
            | NetOp::Read { .. } => None,
        })
    }

    pub(super) fn connect(&mut self, to: &str) -> ConnId {
        let (conn, _) = self.dialled(to).unwrap();
        let addr = "192.168.0.2:700".parse().unwrap();
        self.input(Input::Connected { conn, local: addr, remote: to.parse().unwrap() });
        conn
    }

    pub(super) fn sent<T: wire::codec::Message>(&self, conn: ConnId) -> Vec<T> {
        let mut reader = Reader::new(MAX_FRAME);
        let mut found = Vec::new();
        for op in &self.ops {
            if let NetOp::Send { conn: to, bytes } = op
                && *to == conn
            {
                reader.push(bytes);
                found.extend(std::iter::from_fn(|| reader.next().unwrap()));
            }
        }
        found
    }

    pub(super) fn log_in(&mut self) -> ConnId {
        self.log_in_where(false)
    }

    /// Logs in at a daemon that relays or does not.
    fn log_in_where(&mut self, relay: bool) -> ConnId {
        let main = self.connect(MAIN);
        let observed = Endpoint::new("203.0.113.7:9".parse().unwrap());
        let welcome =
            FromMain::Welcome { client: ClientId(9), observed, heartbeat_secs: 25, alternate: None, relay };
        self.hear(main, &wire::encode(&welcome));
        main
    }

    fn peer() -> Peer {
        Peer {
            client: ClientId(4),
            observed: Vec::new(),
            local: Vec::new(),
            public: false,
            rtt_us: 0,
            mapped: Vec::new(),
        }
    }
}

#[test]
fn both_connections_open_at_once_and_share_a_token() {
    let mut bench = Bench::new(Role::Caster);
    assert_eq!(bench.dialled(MAIN).unwrap().1, None);
    assert_eq!(bench.dialled(ASSIST).unwrap().1, Some("0.0.0.0:700".parse().unwrap()));
    let (assist, main) = (bench.connect(ASSIST), bench.connect(MAIN));
    let [ToMain::Login { token, .. }] = bench.sent::<ToMain>(main)[..] else { panic!() };
    let [ToAssist::ReqConnClient { token: same, .. }] = bench.sent::<ToAssist>(assist)[..] else { panic!() };
    assert_eq!(token, same);
}

fn make_hole(session: SessionId, start_in_us: u32, rtt_us: u32) -> bytes::Bytes {
    wire::encode(&FromMain::SrvReqMakeHole { session, peer: Bench::peer(), start_in_us, rtt_us })
}

#[test]
fn a_viewer_reports_ready_when_it_is_asked_to_make_a_hole() {
    let mut bench = Bench::new(Role::Viewer);
    let main = bench.log_in();
    let session = SessionId(5);
    bench.hear(main, &make_hole(session, 40_000, 90_000));
    let (start_in, rtt) = (Duration::from_millis(40), Some(Duration::from_millis(90)));
    assert!(bench.events.contains(&Event::Introduced { session, peer: Bench::peer(), start_in, rtt }));
    assert!(bench.sent::<ToMain>(main).contains(&ToMain::HoleListenReady { session }));
}

#[test]
fn a_lost_login_comes_back_with_a_new_token_after_a_pause() {
    let mut bench = Bench::new(Role::Viewer);
    let main = bench.log_in();
    let [ToMain::Login { token: first, .. }] = bench.sent::<ToMain>(main)[..] else { panic!() };
    bench.input(Input::Closed { conn: main, error: Some(NetError::Reset) });
    assert!(matches!(bench.events.last(), Some(Event::Unreachable { .. })));
    while bench.dialled(MAIN).unwrap().0 == main {
        bench.at_next_timeout();
    }
    let again = bench.connect(MAIN);
    let [ToMain::Login { token: second, .. }] = bench.sent::<ToMain>(again)[..] else { panic!() };
    assert_ne!(first, second);
}

#[test]
fn an_assist_port_in_the_main_ports_place_is_guessed() {
    let mut bench = Bench::new(Role::Viewer);
    let main = bench.connect(MAIN);
    bench.hear(main, &wire::encode(&FromAssist::Refused { reason: Refusal::BadRequest }));
    let Some(Event::Unreachable { why, .. }) = bench.events.last() else { panic!("{:?}", bench.events) };
    assert!(why.contains("perhaps its assist port") && why.contains("4000"), "{why}");
}

#[test]
fn an_unanswered_heartbeat_ends_the_connection() {
    let mut bench = Bench::new(Role::Viewer);
    let main = bench.log_in();
    let start = bench.now;
    while !bench.events.iter().any(|event| matches!(event, Event::Unreachable { .. })) {
        bench.at_next_timeout();
    }
    assert!(bench.ops.contains(&NetOp::Close { conn: main, how: Closing::Abort }));
    assert!(bench.now - start <= Duration::from_secs(50));
}

#[test]
fn a_replaced_login_stays_away() {
    let mut bench = Bench::new(Role::Viewer);
    let main = bench.log_in();
    bench.hear(main, &wire::encode(&FromMain::Refused { reason: Refusal::Replaced }));
    assert_eq!(bench.agent.poll_timeout(), None);
}

#[test]
fn pauses_grow_and_stay_bounded() {
    let mut bench = Bench::new(Role::Viewer);
    let pauses: Vec<Duration> = (0..40).map(|failures| bench.agent.pause(failures)).collect();
    assert!(pauses.iter().all(|pause| *pause >= RETRY_MIN / 2 && *pause <= RETRY_MAX));
    assert!(pauses[10] > pauses[0] * 10);
}

/// How many bytes wait for a daemon that asks without end and reads nothing, whose socket is full at `socket`.
fn waiting_for_who_does_not_read(bench: &mut Bench, main: ConnId, socket: usize) -> usize {
    let mut waiting = 0;
    for session in 0..10_000 {
        let before = bench.ops.len();
        bench.hear(main, &make_hole(SessionId(session), 0, 0));
        waiting += bench.ops[before..]
            .iter()
            .map(|op| if let NetOp::Send { bytes, .. } = op { bytes.len() } else { 0 })
            .sum::<usize>();
        if waiting > socket {
            bench.input(Input::Backlogged { conn: main });
        }
        if bench.ops.contains(&NetOp::Read { conn: main, on: false }) {
            // The driver reads no more.
            return waiting;
        }
    }
    waiting
}

#[test]
fn a_daemon_that_asks_and_does_not_read_has_few_replies_waiting_and_is_given_up() {
    let mut bench = Bench::new(Role::Viewer);
    let main = bench.log_in();
    let start = bench.now;
    assert!(waiting_for_who_does_not_read(&mut bench, main, 4096) < 4096 + 64);
    bench.input(Input::Drained { conn: main });
    assert_eq!(
        bench.ops.last(),
        Some(&NetOp::Read { conn: main, on: true }),
        "it reads again, and is heard again"
    );

    bench.input(Input::Backlogged { conn: main });
    while bench.agent.is_logged_in() {
        bench.at_next_timeout();
    }
    assert_eq!(bench.now, start + ALIVE_TIME, "what it might say is not heard");
    assert!(bench.ops.contains(&NetOp::Close { conn: main, how: Closing::Abort }));
}

#[test]
fn a_refusal_tells_what_was_refused() {
    let refusals = |bench: &Bench| -> Vec<Asked> {
        let asked =
            |event: &Event| if let Event::Refused { asked, .. } = event { Some(*asked) } else { None };
        bench.events.iter().filter_map(asked).collect()
    };
    let too_many = wire::encode(&FromAssist::Refused { reason: Refusal::TooMany });
    let mut bench = Bench::new(Role::Caster);
    let main = bench.connect(MAIN);
    bench.hear(main, &wire::encode(&FromMain::Refused { reason: Refusal::Full }));
    let conn = bench.connect(ASSIST);
    bench.hear(conn, &too_many);
    assert_eq!(refusals(&bench), [Asked::Entry(Role::Caster); 2], "turned away at the door");

    let mut bench = Bench::new(Role::Caster);
    let main = bench.log_in();
    let conn = bench.connect(ASSIST);
    bench.answer(conn, 1000);
    bench.hear(conn, &too_many);
    bench.hear(main, &wire::encode(&FromMain::Refused { reason: Refusal::TooMany }));
    assert_eq!(refusals(&bench), [Asked::Introduction, Asked::Message]);
}

// --- knowing the ground -------------------------------------------------------------------------------------------

const ALTERNATE: &str = "203.0.113.200:8000";

impl Bench {
    /// The latest connect that shows a mapping: to `to`, from a port that is or is not chosen.
    fn sampled(
        &self,
        to: &str,
        is_from: fn(Option<SocketAddr>) -> bool,
    ) -> Option<(ConnId, Option<SocketAddr>)> {
        self.ops.iter().rev().find_map(|op| {
            if let NetOp::Connect { conn, from, to: addr } = op
                && *addr == to.parse().unwrap()
                && is_from(*from)
            {
                Some((*conn, *from))
            } else {
                None
            }
        })
    }

    fn establish(&mut self, conn: ConnId, local_port: u16, to: &str) {
        let local = SocketAddr::from(([192, 168, 0, 2], local_port));
        self.input(Input::Connected { conn, local, remote: to.parse().unwrap() });
    }

    /// The daemon answers a sample at the assist port or the alternate address.
    pub(super) fn answer(&mut self, conn: ConnId, port: u16) {
        let endpoint = SocketAddr::from(([203, 0, 113, 7], port)).into();
        self.hear(conn, &wire::encode(&FromAssist::Observed { endpoint }));
    }
}

#[test]
fn the_ground_is_sampled_beside_the_login() {
    let mut bench = Bench::new(Role::Viewer);
    let (reused, from) = bench.sampled(MAIN, |from| from.is_some()).unwrap();
    assert_eq!(from, Some("0.0.0.0:700".parse().unwrap()), "the hole port");
    let (first, _) = bench.sampled(ASSIST, |from| from.is_none()).unwrap();

    let main = bench.connect(MAIN);
    let [ToMain::Login { token: ours, local_port: 700, .. }] = bench.sent::<ToMain>(main)[..] else {
        panic!()
    };
    bench.establish(reused, 700, MAIN);
    assert_eq!(bench.sent::<ToMain>(reused), [ToMain::Sample { token: ours, local_port: 700 }]);
    bench.establish(first, 50_000, ASSIST);
    assert_eq!(bench.sent::<ToAssist>(first), [ToAssist::Sample { token: ours, local_port: 50_000 }]);

    let observed = Endpoint::new("203.0.113.7:9".parse().unwrap());
    let alternate = Some(Endpoint::new(ALTERNATE.parse().unwrap()));
    let welcome =
        FromMain::Welcome { client: ClientId(9), observed, heartbeat_secs: 25, alternate, relay: false };
    bench.hear(main, &wire::encode(&welcome));
    bench.hear(reused, &wire::encode(&FromMain::Observed { endpoint: observed }));
    assert!(
        bench.sampled(ASSIST, |from| from.is_some_and(|from| from.port() == 0)).is_none(),
        "one after another"
    );
    bench.answer(first, 1001);
    let (second, _) = bench.sampled(ASSIST, |from| from.is_some_and(|from| from.port() == 0)).unwrap();
    assert!(bench.sampled(ALTERNATE, |_| true).is_none());
    bench.establish(second, 50_001, ASSIST);
    let (other, from) = bench.sampled(ALTERNATE, |_| true).unwrap();
    assert_eq!(from, Some("0.0.0.0:50001".parse().unwrap()), "never from the hole port");
    bench.answer(second, 1002);
    bench.establish(other, 50_001, ALTERNATE);
    bench.answer(other, 1003);

    let seen: Vec<(SeenBy, u16, u16)> = bench
        .agent
        .samples()
        .iter()
        .map(|seen| (seen.seen_by, seen.local_port, seen.endpoint.port()))
        .collect();
    assert_eq!(
        seen,
        [
            (SeenBy::Main, 700, 9),
            (SeenBy::Assist, 50_000, 1001),
            (SeenBy::Assist, 50_001, 1002),
            (SeenBy::Alternate, 50_001, 1003)
        ]
    );
    // The daemon closes; this side sends neither RST nor FIN of its own accord.
    assert!(!bench.ops.iter().any(|op| matches!(op, NetOp::Close { .. })));
    for conn in [reused, first, second, other] {
        bench.input(Input::Closed { conn, error: None });
    }
    assert!(bench.agent.sampler.is_idle());
}

#[test]
fn an_alternate_address_that_is_told_late_is_sampled_all_the_same() {
    let mut bench = Bench::new(Role::Viewer);
    let (first, _) = bench.sampled(ASSIST, |from| from.is_none()).unwrap();
    bench.establish(first, 50_000, ASSIST);
    bench.answer(first, 1001);
    let (second, _) = bench.sampled(ASSIST, |from| from.is_some_and(|from| from.port() == 0)).unwrap();
    bench.establish(second, 50_001, ASSIST);
    bench.answer(second, 1002);

    let main = bench.connect(MAIN);
    let observed = Endpoint::new("203.0.113.7:9".parse().unwrap());
    let alternate = Some(Endpoint::new(ALTERNATE.parse().unwrap()));
    let welcome =
        FromMain::Welcome { client: ClientId(9), observed, heartbeat_secs: 25, alternate, relay: false };
    bench.hear(main, &wire::encode(&welcome));

    let (third, _) = bench.sampled(ASSIST, |from| from.is_some_and(|from| from.port() == 0)).unwrap();
    assert_ne!(third, second);
    bench.establish(third, 50_002, ASSIST);
    let (_, from) = bench.sampled(ALTERNATE, |_| true).unwrap();
    assert_eq!(from, Some("0.0.0.0:50002".parse().unwrap()));
}

#[test]
fn a_sample_that_fails_is_missing_and_no_more() {
    let mut bench = Bench::new(Role::Viewer);
    let (reused, _) = bench.sampled(MAIN, |from| from.is_some()).unwrap();
    let (fresh, _) = bench.sampled(ASSIST, |from| from.is_none()).unwrap();
    bench.log_in();
    bench.input(Input::ConnectFailed { conn: reused, error: NetError::TimedOut });
    bench.establish(fresh, 50_000, ASSIST);
    bench.hear(fresh, &wire::encode(&FromAssist::Refused { reason: Refusal::TooMany }));
    assert!(bench.agent.sampler.is_idle() && bench.agent.is_logged_in());
    assert!(
        !bench.events.iter().any(|event| matches!(event, Event::Refused { .. } | Event::Unreachable { .. }))
    );
}

#[test]
fn the_login_tells_the_shortest_connect_as_the_round_trip() {
    let mut bench = Bench::new(Role::Viewer);
    bench.now += Duration::from_millis(40);
    bench.connect(ASSIST);
    bench.now += Duration::from_millis(2);
    let main = bench.connect(MAIN);
    let [ToMain::Login { rtt_us, .. }] = bench.sent::<ToMain>(main)[..] else { panic!() };
    assert_eq!(rtt_us, 40_000);

    let mut bench = Bench::new(Role::Viewer);
    bench.now += Duration::from_millis(1040);
    let main = bench.connect(MAIN);
    let [ToMain::Login { rtt_us, .. }] = bench.sent::<ToMain>(main)[..] else { panic!() };
    assert_eq!(rtt_us, 0, "the SYN was sent twice");
}

#[test]
fn more_about_a_known_session_is_no_second_introduction() {
    let mut bench = Bench::new(Role::Viewer);
    let main = bench.log_in();
    let session = SessionId(5);
    bench.hear(main, &make_hole(session, 0, 0));
    bench.hear(main, &make_hole(session, 0, 0));
    let introduced = Event::Introduced { session, peer: Bench::peer(), start_in: Duration::ZERO, rtt: None };
    let amended = Event::Amended { session, peer: Bench::peer() };
    assert_eq!(bench.events[bench.events.len() - 2..], [introduced, amended]);
    let ready =
        bench.sent::<ToMain>(main).into_iter().filter(|sent| *sent == ToMain::HoleListenReady { session });
    assert_eq!(ready.count(), 1);
}

#[test]
fn old_samples_are_taken_anew_for_an_introduction_where_ports_move() {
    let mut bench = Bench::new(Role::Viewer);
    let (reused, _) = bench.sampled(MAIN, |from| from.is_some()).unwrap();
    let (fresh, _) = bench.sampled(ASSIST, |from| from.is_none()).unwrap();
    let assist = bench.connect(ASSIST);
    let main = bench.log_in();
    bench.answer(assist, 1000);
    bench.establish(reused, 700, MAIN);
    let endpoint = Endpoint::new("203.0.113.7:1001".parse().unwrap());
    bench.hear(reused, &wire::encode(&FromMain::Observed { endpoint }));
    bench.input(Input::Closed { conn: reused, error: None });
    bench.input(Input::ConnectFailed { conn: fresh, error: NetError::TimedOut });

    bench.hear(main, &make_hole(SessionId(1), 0, 0));
    assert_eq!(bench.sampled(MAIN, |from| from.is_some()).unwrap().0, reused, "they are fresh");
    bench.now += SAMPLES_AGE;
    bench.hear(main, &make_hole(SessionId(2), 0, 0));
    assert_ne!(bench.sampled(MAIN, |from| from.is_some()).unwrap().0, reused);
}

#[test]
fn whether_the_daemon_is_there_is_known_within_two_seconds() {
    let mut bench = Bench::new(Role::Viewer);
    let main = bench.log_in();
    bench.now += Duration::from_secs(3);
    bench.agent.check_alive(bench.now);
    bench.drain();
    let [.., ToMain::Heartbeat { nonce }] = bench.sent::<ToMain>(main)[..] else { panic!() };
    bench.hear(main, &wire::encode(&FromMain::Heartbeat { nonce }));
    bench.now += ALIVE_TIME;
    bench.agent.handle_timeout(bench.now);
    assert!(bench.agent.is_logged_in(), "it was answered");

    bench.hear(main, &wire::encode(&FromMain::Heartbeat { nonce }));
    let asked = bench.now;
    bench.agent.check_alive(bench.now);
    bench.now += Duration::from_secs(1);
    bench.agent.check_alive(bench.now);
    while bench.agent.is_logged_in() {
        bench.at_next_timeout();
    }
    assert!(bench.now <= asked + ALIVE_TIME);
    assert!(bench.ops.contains(&NetOp::Close { conn: main, how: Closing::Abort }));
    // Asking again while waiting brings the next try forward.
    bench.agent.main = Main::Waiting { until: bench.now + RETRY_MAX };
    bench.agent.check_alive(bench.now);
    assert!(bench.agent.poll_timeout().unwrap().0 <= bench.now + RETRY_MIN);
}

#[test]
fn a_test_of_filtering_is_asked_for_and_told() {
    let mut bench = Bench::new(Role::Viewer);
    assert!(!bench.agent.test_filter());
    let main = bench.log_in();
    assert!(bench.agent.test_filter());
    bench.drain();
    assert_eq!(bench.sent::<ToMain>(main).last(), Some(&ToMain::TestFilter));
    let (from_other_port, from_other_address) = (Some(true), None);
    bench.hear(main, &wire::encode(&FromMain::FilterResult { from_other_port, from_other_address }));
    assert_eq!(bench.events.last(), Some(&Event::Filtering { from_other_port, from_other_address }));
}

#[test]
fn a_relay_is_offered_while_the_login_at_a_daemon_that_relays_stands() {
    let mut bench = Bench::new(Role::Caster);
    assert_eq!(bench.agent.relay_offer(), None);
    let main = bench.log_in_where(true);
    let Some(ToMain::Login { token, .. }) = bench.sent::<ToMain>(main).first().cloned() else {
        panic!("it logs in first");
    };
    assert_eq!(bench.agent.relay_offer(), Some((MAIN.parse().unwrap(), token)));
    bench.input(Input::Closed { conn: main, error: None });
    assert_eq!(bench.agent.relay_offer(), None);

    let mut bench = Bench::new(Role::Caster);
    bench.log_in();
    assert_eq!(bench.agent.relay_offer(), None, "this daemon does not relay");
}

#[test]
fn what_routers_forward_is_told_at_once_and_again_with_each_login() {
    let mut bench = Bench::new(Role::Viewer);
    let endpoints = vec![Endpoint::new("203.0.113.7:700".parse().unwrap())];
    let main = bench.log_in();
    bench.agent.set_mapped(endpoints.clone());
    bench.agent.set_mapped(endpoints.clone());
    bench.drain();
    let expected = [ToMain::Mapped { endpoints }];
    assert_eq!(bench.sent::<ToMain>(main)[1..], expected, "once, for nothing has changed");
    bench.input(Input::Closed { conn: main, error: Some(NetError::Reset) });
    while bench.dialled(MAIN).unwrap().0 == main {
        bench.at_next_timeout();
    }
    let again = bench.connect(MAIN);
    // Before the welcome: waiting for it would cost a round trip.
    assert_eq!(bench.sent::<ToMain>(again)[1..], expected);
}
