//! A check against a daemon and a NAT made of a few lines, at chosen moments.

use super::probe::PROBE_TIME;
use super::*;
use punchcast::app::ListenerId;
use punchcast::id::ClientId;
use punchcast::nat::{Mapping, Missing};
use punchcast::policy::{Odds, Outlook, PeerKind, Rung};
use punchcast::wire;
use punchcast::wire::frame::{MAX_FRAME, Reader};
use punchcast::wire::message::{FromAssist, FromMain, ToAssist, ToMain};

const MAIN: &str = "203.0.113.6:4000";
const ASSIST: &str = "203.0.113.6:8000";
const ALTERNATE: &str = "192.0.2.1:8000";
const HOLE_PORT: u16 = 700;

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// What becomes of who dials the assist port.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Assist {
    Answers,
    Refuses,
    Silent,
}

/// What the world around the check is like.
#[derive(Clone, Copy)]
struct Ground {
    /// The NAT's address; the port is kept.
    seen_as: [u8; 4],
    alternate: bool,
    filter: Option<(Option<bool>, Option<bool>)>,
    hairpin: bool,
    assist: Assist,
    /// Where the daemon is.
    main: &'static str,
    assist_at: &'static str,
}

const EASY: Ground = Ground {
    seen_as: [203, 0, 113, 10],
    alternate: true,
    filter: Some((Some(false), Some(false))),
    hairpin: true,
    assist: Assist::Answers,
    main: MAIN,
    assist_at: ASSIST,
};

struct World {
    check: Check,
    ground: Ground,
    now: Instant,
    local_of: BTreeMap<ConnId, (SocketAddr, SocketAddr)>,
    asked_for: Vec<SocketAddr>,
    outcome: Option<Outcome>,
    exited: bool,
}

impl World {
    #[allow(clippy::disallowed_methods)] // A test's time begins somewhere.
    fn new(ground: Ground, servers: &[(&str, &str)]) -> Self {
        let now = Instant::now();
        let server = |(main, assist): &(&str, &str)| Server { main: addr(main), assist: addr(assist) };
        let config = Config {
            servers: servers.iter().map(server).collect(),
            local_ips: vec![IpAddr::from([192, 168, 1, 2])],
            owner: OwnerToken([3; 16]),
            seed: 7,
        };
        let mut world = Self {
            check: Check::new(now, config),
            ground,
            now,
            local_of: BTreeMap::new(),
            asked_for: Vec::new(),
            outcome: None,
            exited: false,
        };
        world.carry();
        world
    }

    /// Lets time pass until the check is over.
    fn run_out(&mut self) -> Outcome {
        let start = self.now;
        while !self.exited {
            let (at, why) = self.check.poll_timeout().expect("it waits for something");
            assert!(at <= start + DEADLINE, "late: {why}");
            self.now = self.now.max(at);
            self.check.handle_timeout(self.now);
            self.carry();
        }
        assert!(self.check.poll_timeout().is_none());
        self.outcome.clone().expect("it ends with an outcome")
    }

    fn report(&mut self) -> Report {
        match self.run_out() {
            Outcome::Report(report) => *report,
            Outcome::Unreachable { why, .. } => panic!("{why}"),
        }
    }

    fn input(&mut self, input: Input<'_>) {
        self.check.handle_input(self.now, input);
    }

    fn carry(&mut self) {
        let mut ops = VecDeque::new();
        loop {
            // After one change everything is drained, as a driver does.
            while let Some(output) = self.check.poll_output() {
                match output {
                    Output::Net(op) => ops.push_back(op),
                    Output::Notice(outcome) => self.outcome = Some(outcome),
                    Output::Exit => self.exited = true,
                }
            }
            let Some(op) = ops.pop_front() else { return };
            match op {
                NetOp::Listen { listener, addr, .. } if addr.is_ipv4() => {
                    let local = SocketAddr::from(([0; 4], HOLE_PORT));
                    self.input(Input::Listening { listener, local });
                }
                NetOp::Listen { listener, addr, .. } => {
                    self.input(Input::ListenFailed { listener, addr, error: NetError::Other(97) });
                }
                NetOp::Connect { conn, from, to } => self.connect(conn, from, to),
                NetOp::Send { conn, bytes } => self.answer(conn, &bytes),
                NetOp::StopListening { .. }
                | NetOp::Knock { .. }
                | NetOp::GiveUp { .. }
                | NetOp::Close { .. }
                | NetOp::Read { .. } => {}
            }
        }
    }

    fn connect(&mut self, conn: ConnId, from: Option<SocketAddr>, to: SocketAddr) {
        self.asked_for.push(to);
        let fresh = 20_000 + u16::try_from(self.asked_for.len()).unwrap();
        let port = from.map(|from| from.port()).filter(|port| *port != 0).unwrap_or(fresh);
        let local = SocketAddr::from(([192, 168, 1, 2], port));
        let (main, assist) = (addr(self.ground.main), addr(self.ground.assist_at));
        let here =
            to == main || (to == assist && self.ground.assist == Assist::Answers) || to == addr(ALTERNATE);
        let hairpin = !here && to.ip() == IpAddr::from(self.ground.seen_as);
        if here || (hairpin && self.ground.hairpin) {
            self.local_of.insert(conn, (local, to));
            self.input(Input::Connected { conn, local, remote: to });
        } else if to == assist && self.ground.assist == Assist::Refuses {
            self.input(Input::ConnectFailed { conn, error: NetError::Refused });
        } else if !hairpin && to.ip() != main.ip() {
            self.input(Input::ConnectFailed { conn, error: NetError::Unreachable });
        }
    }

    fn answer(&mut self, conn: ConnId, bytes: &[u8]) {
        let Some(&(local, to)) = self.local_of.get(&conn) else { return };
        let endpoint = Endpoint::new(SocketAddr::from((self.ground.seen_as, local.port())));
        if to == addr(self.ground.main) {
            let mut reader = Reader::new(MAX_FRAME);
            reader.push(bytes);
            #[allow(clippy::wildcard_enum_match_arm)] // What else it says needs no answer here.
            match reader.next::<ToMain>().unwrap().unwrap() {
                ToMain::Login { .. } => self.received(
                    conn,
                    &FromMain::Welcome {
                        client: ClientId(1),
                        observed: endpoint,
                        heartbeat_secs: 25,
                        alternate: self.ground.alternate.then(|| addr(ALTERNATE).into()),
                        relay: false,
                    },
                ),
                ToMain::Sample { .. } => {
                    self.received(conn, &FromMain::Observed { endpoint });
                    self.input(Input::Closed { conn, error: None });
                }
                ToMain::TestFilter => {
                    assert!(!self.asked_for.contains(&addr(ALTERNATE)), "spoken to before the test");
                    if let Some((from_other_port, from_other_address)) = self.ground.filter {
                        self.received(conn, &FromMain::FilterResult { from_other_port, from_other_address });
                    }
                }
                _ => {}
            }
        } else if to.ip() == IpAddr::from(self.ground.seen_as) && to.port() == HOLE_PORT {
            let caller = ConnId { room: HOLE, serial: ConnId::ACCEPTED };
            let (listener, remote) = (ListenerId { room: HOLE, serial: 4 }, endpoint.addr());
            self.input(Input::Accepted { listener, conn: caller, local, remote });
            self.input(Input::Received { conn: caller, bytes });
        } else {
            let mut reader = Reader::new(MAX_FRAME);
            reader.push(bytes);
            let sample = matches!(reader.next::<ToAssist>().unwrap(), Some(ToAssist::Sample { .. }));
            self.received(conn, &FromAssist::Observed { endpoint });
            if sample {
                self.input(Input::Closed { conn, error: None });
            }
        }
    }

    fn received<M: wire::codec::Message>(&mut self, conn: ConnId, message: &M) {
        let bytes = wire::encode(message);
        self.input(Input::Received { conn, bytes: &bytes });
    }
}

#[test]
fn a_nat_that_maps_stably_and_filters_strictly_is_named_at_once() {
    let mut world = World::new(EASY, &[(MAIN, ASSIST)]);
    assert!(world.exited, "everything was answered");
    let report = world.report();
    assert_eq!(report.verdict.mapping, Mapping::EndpointIndependent);
    assert_eq!(report.filtering, Filtering::AddressAndPortDependent);
    assert_eq!(report.hairpin, Hairpin::Works);
    assert_eq!(report.mapping, Some(addr("203.0.113.10:700").into()));
    let punched = Outlook::Direct { casting: Rung::Punched, viewing: Rung::Punched, odds: Odds::Sure };
    assert_eq!(report.outlook(PeerKind::Stable), punched);
    let text = report.to_text();
    for words in ["endpoint-independent mapping", "ports preserved", "address-and-port-dependent filtering"] {
        assert!(text.contains(words), "{text}");
    }
    assert_eq!(report.to_json()["event"], "check");
    assert_eq!(report.to_json()["peers"].as_array().unwrap().len(), 5);
}

#[test]
fn what_one_address_of_the_daemon_cannot_tell_is_said_and_how_to_learn_it() {
    let ground = Ground { alternate: false, filter: Some((Some(true), None)), ..EASY };
    let report = World::new(ground, &[(MAIN, ASSIST)]).report();
    assert_eq!(report.verdict.mapping, Mapping::Unknown(Missing::Address));
    assert_eq!(report.filtering, Filtering::Unknown(Missing::Address));
    assert!(report.to_text().contains("--alternate"));
}

#[test]
fn a_hairpin_that_leads_nowhere_is_given_two_seconds() {
    let mut world = World::new(Ground { hairpin: false, ..EASY }, &[(MAIN, ASSIST)]);
    let start = world.now;
    assert!(!world.exited);
    assert_eq!(world.report().hairpin, Hairpin::Fails);
    assert_eq!(world.now, start + PROBE_TIME);
}

#[test]
fn a_host_with_its_own_address_needs_no_hairpin() {
    let report = World::new(Ground { seen_as: [192, 168, 1, 2], ..EASY }, &[(MAIN, ASSIST)]).report();
    assert_eq!((report.verdict.mapping, report.hairpin), (Mapping::NotTranslated, Hairpin::Needless));
    assert!(report.to_text().contains("firewall"), "strangers are kept out");
}

#[test]
fn without_an_answer_the_report_says_at_the_deadline_what_it_knows() {
    let mut world = World::new(Ground { filter: None, ..EASY }, &[(MAIN, ASSIST)]);
    let start = world.now;
    let report = world.report();
    assert_eq!(world.now, start + DEADLINE);
    assert!(!report.filtering.is_measured());
    assert!(report.to_text().contains("filtering     not measured\n"));
}

/// Nothing is promised but what needs no daemon.
fn assert_promises_nothing(report: &Report) {
    for peer in PeerKind::ALL {
        let lan = matches!(report.outlook(peer), Outlook::Direct { casting: Rung::Lan, .. });
        assert!(if peer == PeerKind::SameNetwork { lan } else { report.outlook(peer) == Outlook::Unknown });
    }
    let text = report.to_text();
    assert!(text.contains("Nothing was measured"), "{text}");
    assert_eq!(text.matches("works").count(), 1, "{text}");
    let json = report.to_json();
    let said: Vec<&str> =
        json["peers"].as_array().unwrap()[1..].iter().map(|peer| peer["outlook"].as_str().unwrap()).collect();
    assert_eq!(said, ["not known"; 4]);
    assert_eq!(json["advice"].as_array().unwrap().len(), 1);
    assert!(!text.contains("it says no"), "{text}");
}

#[test]
fn a_refused_assist_port_is_told_at_once_and_the_login_alone_tells_no_allocation() {
    let mut world = World::new(Ground { assist: Assist::Refuses, ..EASY }, &[(MAIN, ASSIST)]);
    assert!(world.exited, "there is nothing to wait for");
    let report = world.report();
    assert_promises_nothing(&report);
    assert_eq!(report.assist_trouble, Some(NetError::Refused.to_string()));
    let (text, json) = (report.to_text(), report.to_json());
    for name in ["seen as", "mapping", "allocation", "filtering", "hairpin", "port mapping"] {
        assert!(text.contains(&format!("  {name:<13} not measured\n")), "{name}: {text}");
    }
    for name in ["mapping", "allocation", "filtering"] {
        assert_eq!(json[name], "not measured");
    }
}

#[test]
fn an_assist_port_that_is_shut_is_named_and_nothing_is_promised() {
    let mut world = World::new(Ground { assist: Assist::Silent, ..EASY }, &[(MAIN, ASSIST)]);
    let start = world.now;
    let mut report = world.report();
    assert!(world.now < start + DEADLINE, "told as soon as it is known");
    assert_eq!((report.mapping, report.hairpin), (None, Hairpin::NotMeasured));
    // A router that forwards ports is of no use with nobody to tell them to.
    report.port_mapping = punchcast::portmap::Protocol::ALL
        .map(|protocol| (protocol, Some(punchcast::portmap::Finding::Works)));
    assert_promises_nothing(&report);
    for words in [ASSIST, "--assist PORT", "Open TCP port 8000"] {
        assert!(report.to_text().contains(words), "{words}");
    }
    let assist = &report.to_json()["assist"];
    assert_eq!((&assist["address"], &assist["reached"]), (&ASSIST.into(), &false.into()));
    assert!(assist["why"].is_string());
}

#[test]
fn a_daemon_on_this_host_or_network_tells_nothing_of_the_network_between() {
    let local = Ground { seen_as: [127, 0, 0, 1], ..EASY };
    for (main, assist, ground, vantage) in [
        ("127.0.0.1:4000", "127.0.0.1:8000", local, Vantage::ThisHost),
        ("192.168.1.2:4000", "192.168.1.2:8000", EASY, Vantage::ThisHost),
        (
            "192.168.1.9:4000",
            "192.168.1.9:8000",
            Ground { seen_as: [192, 168, 1, 2], ..EASY },
            Vantage::ThisNetwork,
        ),
    ] {
        let report = World::new(Ground { main, assist_at: assist, ..ground }, &[(main, assist)]).report();
        assert_eq!(report.vantage, Some(vantage));
        assert_promises_nothing(&report);
        let whole = vantage == Vantage::ThisHost;
        assert_eq!(report.verdict.mapping == Mapping::Unknown(Missing::Everything), whole);
        assert!(!whole || !report.filtering.is_measured() && report.hairpin == Hairpin::NotMeasured);
    }
    let beyond_a_nat = ("10.0.0.9:4000", "10.0.0.9:8000");
    let ground = Ground { main: beyond_a_nat.0, assist_at: beyond_a_nat.1, seen_as: [10, 0, 0, 7], ..EASY };
    assert_eq!(World::new(ground, &[beyond_a_nat]).report().vantage, Some(Vantage::Outside));
}

#[test]
fn where_the_daemon_looks_from_is_known_by_the_login_and_not_made_up() {
    let near = ("192.168.1.9:4000", "192.168.1.9:8000");
    let shut = Ground { main: near.0, assist_at: near.1, assist: Assist::Silent, ..EASY };
    for (seen_as, vantage, word) in [
        ([192, 168, 1, 2], Vantage::ThisNetwork, "this-network"),
        ([192, 168, 1, 77], Vantage::Outside, "outside"),
    ] {
        let report = World::new(Ground { seen_as, ..shut }, &[near]).report();
        assert_eq!((report.vantage, report.hairpin), (Some(vantage), Hairpin::NotMeasured));
        assert_eq!(report.to_json()["vantage"], word);
        assert_promises_nothing(&report);
        assert!(Report { vantage: None, ..report }.to_json()["vantage"].is_null());
    }
    assert_eq!(World::new(EASY, &[near]).check.vantage(), None, "there is no login");
}

#[test]
fn a_daemon_that_is_nowhere_ends_it_when_all_its_addresses_are_tried() {
    let nowhere = [("198.51.100.1:4000", "198.51.100.1:8000"), ("198.51.100.2:4000", "198.51.100.2:8000")];
    let mut world = World::new(EASY, &nowhere);
    let start = world.now;
    let Outcome::Unreachable { why, .. } = world.run_out() else { panic!("nobody was there") };
    assert_eq!(why, NetError::Unreachable.to_string());
    assert!(world.now < start + DEADLINE && world.asked_for.contains(&addr(nowhere[1].0)));
}

#[test]
fn the_daemons_ipv6_address_is_tried_beside_and_not_sampled() {
    let both = [("[2001:db8::1]:4000", "[2001:db8::1]:8000"), (MAIN, ASSIST)];
    let mut world = World::new(EASY, &both);
    assert_eq!(world.report().ipv6, Ipv6 { address: None, daemon: Some(false) });
    assert!(!world.asked_for.contains(&addr("[2001:db8::1]:8000")));
    assert_eq!(World::new(EASY, &[(MAIN, ASSIST)]).report().ipv6.daemon, None);
}

#[test]
fn an_interrupt_ends_it_with_what_is_known() {
    let mut world = World::new(Ground { hairpin: false, ..EASY }, &[(MAIN, ASSIST)]);
    world.input(Input::Interrupted);
    world.carry();
    assert!(world.exited);
    assert_eq!(world.report().hairpin, Hairpin::NotMeasured);
}
