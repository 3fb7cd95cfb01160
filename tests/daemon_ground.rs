//! What the daemon tells of clients' NATs and of the moment to begin: samples, tests of filtering, aligned starts.

mod daemon_support;

use daemon_support::*;
use punchcast::app::{Closing, ConnId, Input, NetError};
use punchcast::endpoint::Endpoint;
use punchcast::nat::{Allocation, Family, Mapping, classify};
use punchcast::rendezvous::broker::{ALTERNATE, ASSIST, MAIN};
use punchcast::rendezvous::limits::Limits;
use punchcast::wire::message::{
    FromAssist, FromMain, Observation, Peer, Refusal, Role, SeenBy, ToAssist, ToMain,
};
use punchcastd::{Config, Notice};
use std::time::Duration;

const CASTER_IP: &str = "198.51.100.7";
const VIEWER_IP: &str = "203.0.113.9";

/// What a peer's list says, briefly.
fn seen(peer: &Peer) -> Vec<(SeenBy, u16, u16)> {
    let brief = |seen: &Observation| (seen.seen_by, seen.local_port, seen.endpoint.port());
    peer.observed.iter().map(brief).collect()
}

/// A viewer that was seen at the assist port, and its messages read.
fn waiting_viewer(world: &mut World) -> Client {
    let viewer = world.client(VIEWER_IP, Role::Viewer, 1, &[]);
    world.touch_from(&viewer, Role::Viewer, "203.0.113.9:9000");
    world.main(&viewer);
    viewer
}

// --- the alternate address ----------------------------------------------------------------------------------------

#[test]
fn it_is_ready_when_the_alternate_listener_is_up_too_and_tells_clients_of_it() {
    let alternate = ALTERNATE_ADDR.parse().unwrap();
    let mut world = World::unbound(Config { alternate: Some(alternate), ..Config::default() });
    assert_eq!(world.listens.last(), Some(&(ALTERNATE, alternate)));
    for (listener, local) in [(MAIN, MAIN_ADDR), (ASSIST, ASSIST_ADDR)] {
        world.input(Input::Listening { listener, local: local.parse().unwrap() });
    }
    assert_eq!(world.notices, []);
    world.input(Input::Listening { listener: ALTERNATE, local: alternate });
    assert!(matches!(world.notices[..], [Notice::Ready { alternate: Some(at), .. }] if at == alternate));
    let token = world.token();
    let main = world.log_in(VIEWER_IP, Role::Viewer, 1, token, &[]);
    let messages = world.read::<FromMain>(main);
    let [FromMain::Welcome { alternate: Some(told), .. }] = messages[..] else { panic!("{messages:?}") };
    assert_eq!(told, endpoint(ALTERNATE_ADDR));
    world.input(Input::Interrupted);
    assert_eq!(world.listens, []);
}

#[test]
fn an_alternate_address_that_cannot_be_had_ends_it_and_is_named() {
    let addr = ALTERNATE_ADDR.parse().unwrap();
    let mut world = World::unbound(Config { alternate: Some(addr), ..Config::default() });
    world.input(Input::ListenFailed { listener: ALTERNATE, addr, error: NetError::AddrNotAvailable });
    let [Notice::CannotListen(failure)] = &world.notices[..] else { panic!("{:?}", world.notices) };
    assert_eq!((failure.option, failure.addr), ("--alternate", addr));
    assert!(world.exited);
}

#[test]
fn the_alternate_address_takes_samples_only() {
    let mut world = World::with_alternate();
    let viewer = world.client(VIEWER_IP, Role::Viewer, 1, &[]);
    let conn = world.touch_at(ALTERNATE, &viewer, Role::Viewer, "203.0.113.9:9000");
    assert_eq!(world.read::<FromAssist>(conn), [assist_refused(Refusal::BadRequest)]);
    assert_eq!(world.end_of(conn), Some(Closing::Flush));
}

// --- samples ------------------------------------------------------------------------------------------------------

#[test]
fn a_sample_is_answered_and_closed_by_the_daemon() {
    let mut world = World::with_alternate();
    let viewer = waiting_viewer(&mut world);
    for (listener, remote) in [(ASSIST, "203.0.113.9:1"), (ALTERNATE, "203.0.113.9:2")] {
        let conn = world.sample(&viewer, listener, 50_000, remote);
        assert_eq!(world.read::<FromAssist>(conn), [FromAssist::Observed { endpoint: endpoint(remote) }]);
        assert_eq!(world.end_of(conn), Some(Closing::Flush), "so that TIME-WAIT is not the client's");
    }
    let conn = world.sample(&viewer, MAIN, HOLE_PORT, "203.0.113.9:3");
    assert_eq!(world.read::<FromMain>(conn), [FromMain::Observed { endpoint: endpoint("203.0.113.9:3") }]);
    assert_eq!(world.end_of(conn), Some(Closing::Flush));
    assert_eq!(world.daemon.broker().census().connections, 2, "the login and its assist connection");
}

#[test]
fn the_other_side_gets_what_was_seen_in_the_order_in_which_it_was_seen() {
    let mut world = World::with_alternate();
    let viewer = world.client(VIEWER_IP, Role::Viewer, 1, &[]);
    let main_port = world.count_port();
    world.sample(&viewer, MAIN, HOLE_PORT, "203.0.113.9:9001");
    world.touch_from(&viewer, Role::Viewer, "203.0.113.9:9002");
    world.sample(&viewer, ASSIST, 50_000, "203.0.113.9:9003");
    world.sample(&viewer, ALTERNATE, 50_000, "203.0.113.9:9004");
    let caster = world.client(CASTER_IP, Role::Caster, 1, &[]);
    world.touch(&caster, Role::Caster);
    let told = connects(&world.main(&caster));
    let peer = &told[0].1;
    assert_eq!(
        seen(peer),
        [
            (SeenBy::Main, MAIN_PORT, main_port),
            (SeenBy::Main, HOLE_PORT, 9001),
            (SeenBy::Assist, HOLE_PORT, 9002),
            (SeenBy::Assist, 50_000, 9003),
            (SeenBy::Alternate, 50_000, 9004),
        ]
    );
    assert_eq!(peer.hole_endpoints(), [endpoint("203.0.113.9:9002")], "the only one that lives");
    let verdict = classify(&peer.observed, Family::V4);
    assert_eq!(verdict.mapping, Mapping::AddressAndPortDependent);
    assert_eq!(verdict.allocation, Allocation::Sequential { step: 1 });
}

#[test]
fn samples_may_come_before_their_login_and_keep_their_place() {
    let mut world = World::new();
    let token = world.token();
    let early = world.connect(ASSIST, "198.51.100.7:4001");
    world.send(early, &ToAssist::Sample { token, local_port: 50_000 });
    assert_eq!(world.read::<FromAssist>(early).len(), 1, "answered at once");
    assert_eq!(world.end_of(early), None, "and kept until its login comes");
    let main = world.connect(MAIN, "198.51.100.7:4002");
    world.send(main, &login(Role::Caster, 1, token, &[]));
    assert_eq!(world.end_of(early), Some(Closing::Flush));
    let assist = world.connect(ASSIST, "198.51.100.7:4003");
    world.send(assist, &request(Role::Caster, 1, token));
    let viewer = world.client(VIEWER_IP, Role::Viewer, 1, &[]);
    world.touch(&viewer, Role::Viewer);
    let peer = &holes(&world.main(&viewer))[0].1;
    let ports: Vec<u16> = seen(peer).into_iter().map(|(_, _, port)| port).collect();
    assert_eq!(ports, [4001, 4002, 4003]);
}

#[test]
fn a_sample_of_nobody_is_refused_after_five_seconds() {
    let mut world = World::new();
    let token = world.token();
    let conn = world.connect(MAIN, "198.51.100.7:4001");
    world.send(conn, &ToMain::Sample { token, local_port: 1 });
    world.advance(Duration::from_secs(5));
    assert_eq!(world.read::<FromMain>(conn).last(), Some(&refused(Refusal::BadRequest)));
    assert_eq!(world.daemon.broker().census().held, 0);
}

#[test]
fn a_sample_during_an_introduction_amends_it_on_the_other_side() {
    let mut world = World::new();
    let viewer = waiting_viewer(&mut world);
    let caster = world.client(CASTER_IP, Role::Caster, 1, &[]);
    world.touch(&caster, Role::Caster);
    let (session, _) = holes(&world.main(&viewer))[0].clone();
    world.main(&caster);

    world.sample(&caster, ASSIST, 50_000, "198.51.100.7:4001");
    let amended = holes(&world.main(&viewer));
    assert_eq!((amended.len(), amended[0].0), (1, session));
    assert_eq!(seen(&amended[0].1).last(), Some(&(SeenBy::Assist, 50_000, 4001)));
    assert_eq!(world.main(&caster), []);

    world.sample(&viewer, MAIN, HOLE_PORT, "203.0.113.9:9001");
    let amended = connects(&world.main(&caster));
    assert_eq!((amended.len(), amended[0].0), (1, session));
    assert_eq!(seen(&amended[0].1).last(), Some(&(SeenBy::Main, HOLE_PORT, 9001)));

    // Ten seconds later it is over.
    world.advance(Duration::from_secs(10));
    world.sample(&caster, ASSIST, 50_001, "198.51.100.7:4002");
    world.sample(&viewer, MAIN, HOLE_PORT, "203.0.113.9:9001");
    assert_eq!((world.main(&viewer), world.main(&caster)), (vec![], vec![]));
}

#[test]
fn a_login_has_eight_samples_and_then_few() {
    let mut world = World::new();
    let viewer = waiting_viewer(&mut world);
    let sample = |world: &mut World, port: u16| {
        let conn = world.sample(&viewer, ASSIST, port, &addr(VIEWER_IP, port));
        !world.read::<FromAssist>(conn).contains(&assist_refused(Refusal::TooMany))
    };
    let taken = (101..=120).filter(|port| sample(&mut world, *port)).count();
    assert_eq!(taken, 8);
    world.advance(Duration::from_millis(7500));
    assert!(sample(&mut world, 130));
    let caster = world.client(CASTER_IP, Role::Caster, 1, &[]);
    world.touch(&caster, Role::Caster);
    let told = connects(&world.main(&caster));
    let fresh =
        told[0].1.observed.iter().filter(|seen| seen.local_port != HOLE_PORT && seen.local_port != MAIN_PORT);
    let ports: Vec<u16> = fresh.map(|seen| seen.local_port).collect();
    assert_eq!(ports, [102, 103, 104, 105, 106, 107, 108, 130], "the latest are remembered");
    assert_eq!(world.end_of(viewer.main), None);
}

#[test]
fn what_is_seen_at_an_address_of_its_own_is_marked() {
    let mut world = World::new();
    let viewer = waiting_viewer(&mut world);
    let caster = world.client(CASTER_IP, Role::Caster, 1, &["198.51.100.7:7"]);
    world.touch_from(&caster, Role::Caster, "198.51.100.7:7");
    world.sample(&caster, ASSIST, 50_000, "198.51.100.7:50000");
    world.sample(&caster, ASSIST, 50_001, "198.51.100.7:50002");
    let told = holes(&world.main(&viewer));
    let own: Vec<bool> = told.last().unwrap().1.observed[1..].iter().map(|seen| seen.own).collect();
    assert_eq!(own, [true, true, false]);
    assert!(told[0].1.public);
}

// --- what routers forward -----------------------------------------------------------------------------------------

fn endpoints(texts: &[&str]) -> Vec<Endpoint> {
    texts.iter().map(|text| endpoint(text)).collect()
}

#[test]
fn what_a_router_forwards_is_passed_on_at_addresses_where_its_client_was_seen() {
    let mut world = World::new();
    let viewer = waiting_viewer(&mut world);
    let claims = [
        "203.0.113.9:41000",
        "198.51.100.66:22",
        "203.0.113.10:41000",
        "203.0.113.9:0",
        "192.168.1.1:80",
        "203.0.113.9:41000",
        "[2001:db8::9]:41000",
    ];
    world.send(viewer.main, &ToMain::Mapped { endpoints: endpoints(&claims) });
    assert_eq!(world.main(&viewer), []);
    let caster = world.client(CASTER_IP, Role::Caster, 1, &[]);
    world.touch(&caster, Role::Caster);
    let told = connects(&world.main(&caster));
    assert_eq!(told[0].1.mapped, endpoints(&["203.0.113.9:41000"]), "nobody else's, and once");
    assert_eq!(holes(&world.main(&viewer))[0].1.mapped, []);
}

#[test]
fn mapped_endpoints_that_come_late_amend_the_introduction_and_replace_earlier_ones() {
    let mut world = World::new();
    let viewer = waiting_viewer(&mut world);
    let caster = world.client(CASTER_IP, Role::Caster, 1, &[]);
    world.touch(&caster, Role::Caster);
    let (session, peer) = connects(&world.main(&caster)).remove(0);
    assert_eq!((peer.mapped, holes(&world.main(&viewer)).len()), (vec![], 1));
    for mapped in [endpoints(&["203.0.113.9:41000"]), endpoints(&["203.0.113.9:41001"])] {
        world.send(viewer.main, &ToMain::Mapped { endpoints: mapped.clone() });
        let told = connects(&world.main(&caster));
        assert_eq!(told.len(), 1);
        assert_eq!((told[0].0, &told[0].1.mapped), (session, &mapped));
    }
    let mapped = endpoints(&["198.51.100.7:5000"]);
    world.send(caster.main, &ToMain::Mapped { endpoints: mapped.clone() });
    let told = holes(&world.main(&viewer));
    assert_eq!((told[0].0, &told[0].1.mapped), (session, &mapped), "the viewer hears of the caster's");
    assert_eq!(world.main(&caster), []);

    // Ten seconds later it is over, for the viewer's and for the caster's.
    world.advance(Duration::from_secs(10));
    world.send(viewer.main, &ToMain::Mapped { endpoints: endpoints(&["203.0.113.9:41002"]) });
    world.send(caster.main, &ToMain::Mapped { endpoints: endpoints(&["198.51.100.7:5001"]) });
    assert_eq!((world.main(&caster), world.main(&viewer)), (vec![], vec![]));
}

#[test]
fn only_a_login_says_what_is_forwarded_to_it() {
    let mut world = World::new();
    let stranger = world.connect(MAIN, "192.0.2.66:1");
    world.send(stranger, &ToMain::Mapped { endpoints: endpoints(&["192.0.2.66:22"]) });
    assert_eq!(world.read::<FromMain>(stranger), [refused(Refusal::BadRequest)]);
    assert_eq!(world.end_of(stranger), Some(Closing::Flush));
}

// --- the moment to begin ------------------------------------------------------------------------------------------

/// What each side of an introduction is told: `start_in_us` and `rtt_us`, and the peer's round trip.
fn timing(viewer_rtt: u32, caster_rtt: u32) -> [(u32, u32, u32); 2] {
    let mut world = World::new();
    let mut enter = |role, rtt, ip: &str, port| {
        let token = world.token();
        let main = world.connect(MAIN, &addr(ip, port));
        world.send(main, &login_from(role, 1, token, &[], rtt));
        let assist = world.connect(ASSIST, &addr(ip, port + 1));
        world.send(assist, &request(role, 1, token));
        main
    };
    let mains: [ConnId; 2] =
        [enter(Role::Viewer, viewer_rtt, VIEWER_IP, 1), enter(Role::Caster, caster_rtt, CASTER_IP, 1)];
    mains.map(|main| match world.read::<FromMain>(main).last() {
        Some(
            FromMain::SrvReqMakeHole { peer, start_in_us, rtt_us, .. }
            | FromMain::SrvReqDirectConnect { peer, start_in_us, rtt_us, .. },
        ) => (*start_in_us, *rtt_us, peer.rtt_us),
        other => panic!("{other:?}"),
    })
}

#[test]
fn the_nearer_side_begins_when_the_farther_one_has_heard() {
    assert_eq!(timing(80_000, 20_000), [(0, 100_000, 20_000), (30_000, 100_000, 80_000)]);
    assert_eq!(timing(10_000, 10_000), [(0, 20_000, 10_000); 2]);
    assert_eq!(timing(0, 10_000), [(0, 0, 10_000), (0, 0, 0)], "nobody waits for the unknown");
    assert_eq!(timing(3_000_000, 1000)[1].0, 500_000, "nor for long");
}

#[test]
fn who_is_told_first_and_alone_begins_at_once_and_so_does_the_other() {
    let mut world = World::new();
    let (first, second) = (world.token(), world.token());
    let viewer = world.connect(MAIN, &addr(VIEWER_IP, 1));
    world.send(viewer, &login_from(Role::Viewer, 1, first, &[], 10_000));
    let caster = world.connect(MAIN, &addr(CASTER_IP, 1));
    world.send(caster, &login_from(Role::Caster, 1, second, &[], 90_000));
    let assist = world.connect(ASSIST, &addr(CASTER_IP, 2));
    world.send(assist, &request(Role::Caster, 1, second));
    let messages = world.read::<FromMain>(viewer);
    let Some(&FromMain::SrvReqMakeHole { session, start_in_us: 0, rtt_us: 100_000, .. }) = messages.last()
    else {
        panic!("{messages:?}");
    };
    let assist = world.connect(ASSIST, &addr(VIEWER_IP, 2));
    world.send(assist, &request(Role::Viewer, 1, first));
    world.send(viewer, &ToMain::HoleListenReady { session });
    let messages = world.read::<FromMain>(caster);
    assert!(
        matches!(messages.last(), Some(FromMain::SrvReqDirectConnect { start_in_us: 0, .. })),
        "{messages:?}"
    );
}

// --- tests of filtering -------------------------------------------------------------------------------------------

const HOLE: &str = "203.0.113.9:9000";

#[test]
fn the_daemon_knocks_at_the_hole_port_from_another_port_and_another_address() {
    let mut world = World::with_alternate();
    let viewer = waiting_viewer(&mut world);
    world.send(viewer.main, &ToMain::TestFilter);
    let hole = HOLE.parse().unwrap();
    let [(port, Some(from_port), to_port), (address, Some(from_address), to_address)] = world.dials[..]
    else {
        panic!("{:?}", world.dials);
    };
    assert_eq!((from_port, to_port), (addr(DAEMON_IP, 0).parse().unwrap(), hole));
    assert_eq!((from_address, to_address), ("192.0.2.200:0".parse().unwrap(), hole));
    world.input(Input::Connected { conn: port, local: from_port, remote: hole });
    assert_eq!(world.main(&viewer), [], "the other one may arrive, too");
    world.advance(Duration::from_millis(1999));
    assert_eq!(world.main(&viewer), []);
    world.advance(Duration::from_millis(1));
    let (from_other_port, from_other_address) = (Some(true), Some(false));
    assert_eq!(world.main(&viewer), [FromMain::FilterResult { from_other_port, from_other_address }]);
    assert_eq!((world.end_of(port), world.end_of(address)), (Some(Closing::Flush), Some(Closing::Abort)));
    assert_eq!(world.daemon.broker().census().dials, 0);
}

#[test]
fn a_refused_knock_did_not_arrive_and_without_an_alternate_nothing_is_said_of_addresses() {
    let mut world = World::new();
    let viewer = waiting_viewer(&mut world);
    world.send(viewer.main, &ToMain::TestFilter);
    let conn = world.dials[0].0;
    world.input(Input::ConnectFailed { conn, error: NetError::Refused });
    let (from_other_port, from_other_address) = (Some(false), None);
    assert_eq!(world.main(&viewer), [FromMain::FilterResult { from_other_port, from_other_address }]);
    assert_eq!(world.end_of(conn), None, "it does not exist any more");
}

#[test]
fn nobody_is_knocked_at_who_was_not_seen() {
    let mut world = World::with_alternate();
    let viewer = world.client(VIEWER_IP, Role::Viewer, 1, &["198.51.100.66:22"]);
    world.sample(&viewer, ASSIST, 50_000, "203.0.113.9:1");
    world.send(viewer.main, &ToMain::TestFilter);
    assert_eq!(world.dials, []);
    let nothing = FromMain::FilterResult { from_other_port: None, from_other_address: None };
    assert_eq!(world.main(&viewer), [nothing]);
}

#[test]
fn a_login_has_three_tests_one_at_a_time() {
    let mut world = World::new();
    let viewer = waiting_viewer(&mut world);
    let test = |world: &mut World| {
        world.send(viewer.main, &ToMain::TestFilter);
        world.main(&viewer).contains(&refused(Refusal::TooMany))
    };
    assert!(!test(&mut world));
    assert!(test(&mut world), "one is under way");
    for _ in 0..2 {
        world.advance(Duration::from_secs(2));
        world.main(&viewer);
        assert!(!test(&mut world));
    }
    world.advance(Duration::from_secs(2));
    world.main(&viewer);
    assert!(test(&mut world));
    assert_eq!((world.dials.len(), world.end_of(viewer.main)), (3, None));
}

#[test]
fn knocks_end_with_their_login_and_are_bounded_in_all() {
    let mut world = World::with_limits(Limits { filter_dials: 1, ..Limits::default() });
    let viewer = waiting_viewer(&mut world);
    let other = world.client(CASTER_IP, Role::Viewer, 2, &[]);
    world.touch(&other, Role::Viewer);
    world.send(viewer.main, &ToMain::TestFilter);
    world.send(other.main, &ToMain::TestFilter);
    assert_eq!(world.dials.len(), 1);
    let untried = FromMain::FilterResult { from_other_port: None, from_other_address: None };
    assert_eq!(world.main(&other), [untried]);
    world.hang_up(viewer.main);
    assert_eq!(world.end_of(world.dials[0].0), Some(Closing::Abort));
    world.advance(Duration::from_secs(120));
    let census = world.daemon.broker().census();
    assert_eq!((census.dials, census.deadlines), (0, 0));
}
