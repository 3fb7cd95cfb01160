//! The agent through its verbs, at chosen times.

use super::*;
use crate::app::Room;
use crate::id::OwnerToken;

const ROOM: Room = Room(1);
const MAIN: &str = "203.0.113.1:4000";
const ASSIST: &str = "203.0.113.1:8000";

struct Bench {
    agent: Agent,
    now: Instant,
    ops: Vec<NetOp>,
    events: Vec<Event>,
}

impl Bench {
    #[allow(clippy::disallowed_methods)] // A test's time begins somewhere.
    fn new(role: Role) -> Self {
        let owner = OwnerToken([3; 16]);
        let agent = Agent::new(Config {
            room: ROOM,
            servers: vec![Server { main: MAIN.parse().unwrap(), assist: ASSIST.parse().unwrap() }],
            role,
            rendezvous: owner.rendezvous(),
            owner: (role == Role::Viewer).then_some(owner),
            seed: 1,
        });
        let mut bench = Self { agent, now: Instant::now(), ops: Vec::new(), events: Vec::new() };
        bench.agent.start(bench.now, &["0.0.0.0:700".parse().unwrap()], Vec::new());
        bench.drain();
        bench
    }

    fn drain(&mut self) {
        while let Some(output) = self.agent.poll_output() {
            match output {
                Output::Net(op) => self.ops.push(op),
                Output::Event(event) => self.events.push(event),
            }
        }
    }

    fn input(&mut self, input: Input<'_>) {
        self.agent.handle_input(self.now, input);
        self.drain();
    }

    fn hear(&mut self, conn: ConnId, bytes: &[u8]) {
        self.input(Input::Received { conn, bytes });
    }

    fn at_next_timeout(&mut self) {
        self.now = self.agent.poll_timeout().unwrap().0;
        self.agent.handle_timeout(self.now);
        self.drain();
    }

    fn dialled(&self, to: &str) -> Option<(ConnId, Option<SocketAddr>)> {
        self.ops.iter().rev().find_map(|op| match op {
            // The samples go the other way round: from the hole port to the main port.
            NetOp::Connect { conn, from, to: addr }
                if *addr == to.parse().unwrap() && from.is_none() == (to == MAIN) =>
            {
                Some((*conn, *from))
            }
            NetOp::Connect { .. }
            | NetOp::Listen { .. }
            | NetOp::StopListening { .. }
            | NetOp::Send { .. }
            | NetOp::Close { .. }
            | NetOp::Read { .. } => None,
        })
    }

    fn connect(&mut self, to: &str) -> ConnId {
        let (conn, _) = self.dialled(to).unwrap();
        let addr = "192.168.0.2:700".parse().unwrap();
        self.input(Input::Connected { conn, local: addr, remote: to.parse().unwrap() });
        conn
    }

    fn sent<T: wire::codec::Message>(&self, conn: ConnId) -> Vec<T> {
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

    fn log_in(&mut self) -> ConnId {
        let main = self.connect(MAIN);
        let observed = Endpoint::new("203.0.113.7:9".parse().unwrap());
        let welcome =
            FromMain::Welcome { client: ClientId(9), observed, heartbeat_secs: 25, alternate: None };
        self.hear(main, &wire::encode(&welcome));
        main
    }

    fn peer() -> Peer {
        Peer { client: ClientId(4), observed: Vec::new(), local: Vec::new(), public: false, rtt_us: 0 }
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

fn make_hole(session: SessionId, start_in_us: u32, rtt_us: u32) -> Vec<u8> {
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
