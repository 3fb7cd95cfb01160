//! The daemon's behaviour through its public verbs, in virtual time, in the order of a client's life.

mod daemon_support;

use daemon_support::*;
use punchcast::app::{Closing, Input, NetError};
use punchcast::id::{PunchToken, SessionId};
use punchcast::rendezvous::broker::{ASSIST, MAIN};
use punchcast::rendezvous::limits::Limits;
use punchcast::wire::message::{FromAssist, FromMain, Refusal, Role, ToAssist, ToMain, VERSION};
use punchcastd::{Config, Notice};
use std::time::Duration;

const CASTER_IP: &str = "198.51.100.7";
const VIEWER_IP: &str = "203.0.113.9";

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

// --- starting -----------------------------------------------------------------------------------------------------

#[test]
fn it_is_ready_when_both_listeners_are_up() {
    let mut world = World::unbound(Config::default());
    assert_eq!(world.listens, [(MAIN, "[::]:4000".parse().unwrap()), (ASSIST, "[::]:8000".parse().unwrap())]);
    world.input(Input::Listening { listener: ASSIST, local: ASSIST_ADDR.parse().unwrap() });
    assert_eq!(world.notices, []);
    world.input(Input::Listening { listener: MAIN, local: MAIN_ADDR.parse().unwrap() });
    let (main, assist) = (MAIN_ADDR.parse().unwrap(), ASSIST_ADDR.parse().unwrap());
    assert_eq!(world.notices, [Notice::Ready { main, assist, alternate: None }]);
}

#[test]
fn without_ipv6_it_listens_on_ipv4() {
    let mut world = World::unbound(Config::default());
    world.listens.clear();
    let error = NetError::Other(97);
    world.input(Input::ListenFailed { listener: MAIN, addr: MAIN_ADDR.parse().unwrap(), error });
    assert_eq!(world.listens, [(MAIN, "0.0.0.0:4000".parse().unwrap())]);
    assert_eq!(world.notices, []);
    assert!(!world.exited);
}

#[test]
fn a_taken_port_ends_it_and_the_message_names_the_address() {
    let mut world = World::unbound(Config::default());
    let error = NetError::AddrInUse;
    world.input(Input::ListenFailed { listener: ASSIST, addr: ASSIST_ADDR.parse().unwrap(), error });
    let [Notice::CannotListen(failure)] = &world.notices[..] else { panic!("{:?}", world.notices) };
    let text = failure.to_string();
    assert!(text.contains("[::]:8000") && text.contains("--assist"), "{text}");
    assert!(world.exited);
}

// --- logging in ---------------------------------------------------------------------------------------------------

#[test]
fn a_login_is_welcomed_with_what_the_daemon_sees() {
    let mut world = World::new();
    let main = world.connect(MAIN, "[::ffff:203.0.113.9]:5555");
    let token = world.token();
    world.send(main, &login(Role::Viewer, 1, token, &[]));
    let messages = world.read::<FromMain>(main);
    let [FromMain::Welcome { observed, heartbeat_secs: 25, .. }] = messages[..] else {
        panic!("{messages:?}");
    };
    assert_eq!(
        observed,
        endpoint("203.0.113.9:5555"),
        "canonical, though it came through a dual-stack listener"
    );
}

#[test]
fn a_viewer_without_proof_is_refused() {
    let mut world = World::new();
    for owner in [None, Some(owner(2))] {
        let main = world.connect(MAIN, "203.0.113.9:5555");
        let (token, rendezvous) = (world.token(), rendezvous(1));
        let (local, rtt_us, local_port) = (Vec::new(), 0, MAIN_PORT);
        let role = Role::Viewer;
        world.send(main, &ToMain::Login { rendezvous, role, token, owner, local, rtt_us, local_port });
        assert_eq!(world.read::<FromMain>(main), [refused(Refusal::NotOwner)]);
        assert_eq!(world.end_of(main), Some(Closing::Flush));
    }
    assert_eq!(world.daemon.broker().census().logins, 0);
}

#[test]
fn a_login_is_announced_to_those_with_the_same_ticket_and_to_nobody_else() {
    let mut world = World::new();
    let stranger = world.client("192.0.2.1", Role::Viewer, 9, &[]);
    let viewer = world.client(VIEWER_IP, Role::Viewer, 1, &[]);
    let token = world.token();
    let caster = world.log_in(CASTER_IP, Role::Caster, 1, token, &[]);
    let messages = world.read::<FromMain>(caster);
    let [FromMain::Welcome { client, .. }, FromMain::NewUserLogin { client: other, role: Role::Viewer }] =
        messages[..]
    else {
        panic!("{messages:?}");
    };
    assert_eq!(other, viewer.client);
    assert_eq!(world.main(&viewer), [FromMain::NewUserLogin { client, role: Role::Caster }]);
    world.send(caster, &ToMain::Logout);
    assert_eq!(world.end_of(caster), Some(Closing::Flush));
    assert_eq!(world.main(&viewer), [FromMain::UserLogout { client }]);
    assert_eq!(world.main(&stranger), []);
}

#[test]
fn a_connection_that_breaks_is_a_logout() {
    let mut world = World::new();
    let viewer = world.client(VIEWER_IP, Role::Viewer, 1, &[]);
    let caster = world.client(CASTER_IP, Role::Caster, 1, &[]);
    world.main(&viewer);
    world.input(Input::Closed { conn: caster.main, error: Some(NetError::Reset) });
    assert_eq!(world.main(&viewer), [FromMain::UserLogout { client: caster.client }]);
}

#[test]
fn a_second_viewer_with_proof_takes_the_place_of_the_first() {
    let mut world = World::new();
    let first = world.client(VIEWER_IP, Role::Viewer, 1, &[]);
    let (assist, _) = world.touch(&first, Role::Viewer);
    let caster = world.client(CASTER_IP, Role::Caster, 1, &[]);
    world.main(&first);
    let second = world.client(VIEWER_IP, Role::Viewer, 1, &[]);
    assert_eq!(world.main(&first), [refused(Refusal::Replaced)]);
    assert_eq!(world.end_of(first.main), Some(Closing::Flush));
    assert_eq!(world.end_of(assist), Some(Closing::Flush));
    assert_eq!(
        world.main(&caster),
        [
            FromMain::UserLogout { client: first.client },
            FromMain::NewUserLogin { client: second.client, role: Role::Viewer }
        ]
    );
}

#[test]
fn a_second_viewer_without_proof_does_not_disturb_the_first() {
    let mut world = World::new();
    let first = world.client(VIEWER_IP, Role::Viewer, 1, &[]);
    let thief = world.connect(MAIN, "192.0.2.66:1");
    let (rendezvous, token) = (rendezvous(1), world.token());
    let (role, owner) = (Role::Viewer, Some(owner(66)));
    let (local, rtt_us, local_port) = (Vec::new(), 0, MAIN_PORT);
    world.send(thief, &ToMain::Login { rendezvous, role, token, owner, local, rtt_us, local_port });
    assert_eq!(world.read::<FromMain>(thief), [refused(Refusal::NotOwner)]);
    assert_eq!(world.main(&first), []);
    assert_eq!(world.end_of(first.main), None);
}

#[test]
fn a_token_is_good_for_one_login() {
    let mut world = World::new();
    let viewer = world.client(VIEWER_IP, Role::Viewer, 1, &[]);
    let copy = world.log_in("192.0.2.66", Role::Caster, 1, viewer.token, &[]);
    assert_eq!(world.read::<FromMain>(copy), [refused(Refusal::BadRequest)]);
    assert_eq!(world.end_of(viewer.main), None);
}

#[test]
fn the_first_message_must_be_a_login_and_come_in_five_seconds() {
    let mut world = World::new();
    let rude = world.connect(MAIN, "192.0.2.1:1");
    world.send(rude, &ToMain::Heartbeat { nonce: 1 });
    assert_eq!(world.read::<FromMain>(rude), [refused(Refusal::BadRequest)]);

    let (silent, slow) = (world.connect(MAIN, "192.0.2.1:2"), world.connect(ASSIST, "192.0.2.1:3"));
    world.advance(Duration::from_millis(4999));
    // Half a message does not buy time.
    world.send_bytes(slow, &[0, 40]);
    assert_eq!((world.end_of(silent), world.end_of(slow)), (None, None));
    world.advance(Duration::from_millis(1));
    assert_eq!((world.end_of(silent), world.end_of(slow)), (Some(Closing::Flush), Some(Closing::Flush)));
}

#[test]
fn another_version_is_told_so() {
    let mut world = World::new();
    let (main, assist) = (world.connect(MAIN, "192.0.2.1:1"), world.connect(ASSIST, "192.0.2.1:2"));
    world.send_bytes(main, &[0, 9, VERSION + 1]);
    world.send_bytes(assist, &[0xff, 0xff, 0]);
    assert_eq!(world.read::<FromMain>(main), [refused(Refusal::Version)]);
    assert_eq!(world.read::<FromAssist>(assist), [assist_refused(Refusal::Version)]);
    assert_eq!((world.end_of(main), world.end_of(assist)), (Some(Closing::Flush), Some(Closing::Flush)));
}

#[test]
fn heartbeats_come_back_and_silence_ends_a_login() {
    let mut world = World::new();
    let viewer = world.client(VIEWER_IP, Role::Viewer, 1, &[]);
    let (assist, _) = world.touch(&viewer, Role::Viewer);
    for nonce in 0..8 {
        world.advance(secs(25));
        world.send(viewer.main, &ToMain::Heartbeat { nonce });
        world.send(assist, &ToAssist::Heartbeat);
        assert_eq!(world.main(&viewer), [FromMain::Heartbeat { nonce }]);
    }
    world.advance(Duration::from_millis(89_999));
    assert_eq!((world.end_of(viewer.main), world.end_of(assist)), (None, None));
    world.advance(Duration::from_millis(1));
    assert_eq!(world.end_of(viewer.main), Some(Closing::Flush));
    assert_eq!(world.end_of(assist), Some(Closing::Flush));
    assert_eq!(world.daemon.broker().census().logins, 0);
}

// --- assist connections -------------------------------------------------------------------------------------------

#[test]
fn an_assist_connection_tells_the_mapping_each_time_it_is_asked() {
    let mut world = World::new();
    let viewer = world.client(VIEWER_IP, Role::Viewer, 1, &[]);
    let (assist, seen) = world.touch(&viewer, Role::Viewer);
    let told = FromAssist::Observed { endpoint: seen };
    assert_eq!(world.read::<FromAssist>(assist).first(), Some(&told));
    world.send(assist, &request(Role::Viewer, 1, viewer.token));
    assert_eq!(world.read::<FromAssist>(assist), [told]);
}

#[test]
fn an_assist_connection_may_come_before_its_login() {
    let mut world = World::new();
    let viewer = world.client(VIEWER_IP, Role::Viewer, 1, &[]);
    world.touch(&viewer, Role::Viewer);
    let token = world.token();
    let assist = world.connect(ASSIST, "198.51.100.7:7000");
    world.send(assist, &request(Role::Caster, 1, token));
    assert_eq!(world.read::<FromAssist>(assist).len(), 1, "the mapping is told at once");
    world.advance(secs(4));
    let caster = world.log_in(CASTER_IP, Role::Caster, 1, token, &[]);
    assert_eq!(connects(&world.read::<FromMain>(caster)).len(), 1, "its request was carried out at login");
    assert_eq!(holes(&world.main(&viewer))[0].1.hole_endpoints(), [endpoint("198.51.100.7:7000")]);
}

#[test]
fn an_assist_connection_whose_login_never_comes_is_refused_after_five_seconds() {
    let mut world = World::new();
    let token = world.token();
    let assist = world.connect(ASSIST, "198.51.100.7:7000");
    world.send(assist, &request(Role::Viewer, 1, token));
    world.read::<FromAssist>(assist);
    world.send(assist, &ToAssist::Heartbeat);
    world.advance(secs(5));
    assert_eq!(world.read::<FromAssist>(assist), [assist_refused(Refusal::BadRequest)]);
    assert_eq!(world.end_of(assist), Some(Closing::Flush));
    assert_eq!(world.daemon.broker().census().held, 0);
}

#[test]
fn a_request_must_fit_the_role_and_the_rendezvous_of_its_login() {
    let mut world = World::new();
    let viewer = world.client(VIEWER_IP, Role::Viewer, 1, &[]);
    let caster = world.client(CASTER_IP, Role::Caster, 1, &[]);
    let wrong = [
        ToAssist::ReqConnClient { token: viewer.token, rendezvous: rendezvous(1), local_port: HOLE_PORT },
        ToAssist::ReqSrvDisconnect { token: caster.token, local_port: HOLE_PORT },
        ToAssist::ReqConnClient { token: caster.token, rendezvous: rendezvous(2), local_port: HOLE_PORT },
    ];
    for message in wrong {
        let assist = world.connect(ASSIST, "192.0.2.1:1");
        world.send(assist, &message);
        assert_eq!(world.read::<FromAssist>(assist).last(), Some(&assist_refused(Refusal::BadRequest)));
        assert_eq!(world.end_of(assist), Some(Closing::Flush), "{message:?}");
    }
    assert_eq!(world.end_of(viewer.main), None);
    assert_eq!(world.end_of(caster.main), None);
}

#[test]
fn a_fifth_assist_connection_takes_the_place_of_the_oldest() {
    let mut world = World::new();
    let viewer = world.client(VIEWER_IP, Role::Viewer, 1, &[]);
    let lines: Vec<_> = (0..5).map(|_| world.touch(&viewer, Role::Viewer).0).collect();
    let ends: Vec<_> = lines.iter().map(|conn| world.end_of(*conn)).collect();
    assert_eq!(ends, [Some(Closing::Flush), None, None, None, None]);
}

// --- introductions ------------------------------------------------------------------------------------------------

#[test]
fn a_caster_is_introduced_to_a_viewer_whose_mapping_is_known_in_one_turn() {
    let mut world = World::new();
    let viewer = world.client(VIEWER_IP, Role::Viewer, 1, &[]);
    let caster = world.client(CASTER_IP, Role::Caster, 1, &[]);
    let (_, viewer_seen) = world.touch(&viewer, Role::Viewer);
    world.main(&viewer);
    let (_, caster_seen) = world.touch(&caster, Role::Caster);

    let (at_viewer, at_caster) = (world.main(&viewer), world.main(&caster));
    let ([(hole, to_punch)], [(connect, to_connect)]) = (&holes(&at_viewer)[..], &connects(&at_caster)[..])
    else {
        panic!("{at_viewer:?} {at_caster:?}");
    };
    assert_eq!(hole, connect, "both speak of one session");
    assert_eq!((to_punch.client, &to_punch.hole_endpoints()[..]), (caster.client, &[caster_seen][..]));
    assert_eq!((to_connect.client, &to_connect.hole_endpoints()[..]), (viewer.client, &[viewer_seen][..]));

    world.send(viewer.main, &ToMain::HoleListenReady { session: *hole });
    assert_eq!(world.main(&caster), [], "it knows already");
}

#[test]
fn a_viewer_that_was_not_seen_is_asked_to_show_its_mapping_first() {
    let mut world = World::new();
    let viewer = world.client(VIEWER_IP, Role::Viewer, 1, &[]);
    let caster = world.client(CASTER_IP, Role::Caster, 1, &[]);
    world.touch(&caster, Role::Caster);
    let (session, _) = holes(&world.main(&viewer))[0].clone();
    assert_eq!(world.main(&caster), []);
    let (_, seen) = world.touch(&viewer, Role::Viewer);
    assert_eq!(world.main(&caster), [], "it does not listen yet");
    world.send(viewer.main, &ToMain::HoleListenReady { session });
    let told = connects(&world.main(&caster));
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].0, &told[0].1.hole_endpoints()[..]), (session, &[seen][..]));
}

#[test]
fn a_viewer_may_be_ready_before_it_is_seen() {
    let mut world = World::new();
    let viewer = world.client(VIEWER_IP, Role::Viewer, 1, &[]);
    let caster = world.client(CASTER_IP, Role::Caster, 1, &[]);
    world.touch(&caster, Role::Caster);
    let (session, _) = holes(&world.main(&viewer))[0].clone();
    world.send(viewer.main, &ToMain::HoleListenReady { session });
    assert_eq!(world.main(&caster), []);
    let (_, seen) = world.touch(&viewer, Role::Viewer);
    assert_eq!(connects(&world.main(&caster))[0].1.hole_endpoints(), [seen]);
}

#[test]
fn who_asks_for_an_absent_viewer_waits_until_it_comes() {
    let mut world = World::new();
    let caster = world.client(CASTER_IP, Role::Caster, 1, &[]);
    let (assist, _) = world.touch(&caster, Role::Caster);
    assert_eq!(world.read::<FromAssist>(assist).len(), 1);
    for _ in 0..4 {
        world.advance(secs(25));
        world.send(caster.main, &ToMain::Heartbeat { nonce: 0 });
        world.send(assist, &ToAssist::Heartbeat);
    }
    assert!(connects(&world.main(&caster)).is_empty());
    let viewer = world.client(VIEWER_IP, Role::Viewer, 1, &[]);
    assert!(connects(&world.main(&caster)).is_empty(), "its mapping is on the way");
    let (_, seen) = world.touch(&viewer, Role::Viewer);
    assert_eq!(connects(&world.main(&caster))[0].1.hole_endpoints(), [seen]);
    assert_eq!(holes(&world.main(&viewer)).len(), 1);
}

#[test]
fn an_unknown_rendezvous_and_an_absent_viewer_answer_alike() {
    let mut world = World::new();
    let viewer = world.client(VIEWER_IP, Role::Viewer, 1, &[]);
    world.send(viewer.main, &ToMain::Logout);
    let mut answers = Vec::new();
    for (room, port) in [(1, 1), (2, 2)] {
        let caster = world.client(CASTER_IP, Role::Caster, room, &[]);
        let assist = world.touch_from(&caster, Role::Caster, &addr(CASTER_IP, port));
        world.advance(secs(20));
        let seen = world.read::<FromAssist>(assist).len();
        answers.push((seen, world.main(&caster), world.end_of(assist)));
    }
    assert_eq!(answers[0], answers[1]);
}

#[test]
fn a_request_ends_with_the_connections_that_showed_where_it_came_from() {
    let mut world = World::new();
    let caster = world.client(CASTER_IP, Role::Caster, 1, &[]);
    let (assist, _) = world.touch(&caster, Role::Caster);
    world.hang_up(assist);
    let viewer = world.client(VIEWER_IP, Role::Viewer, 1, &[]);
    world.touch(&viewer, Role::Viewer);
    assert_eq!(holes(&world.main(&viewer)), []);
}

#[test]
fn the_other_address_family_joins_the_session_that_is_under_way() {
    let mut world = World::new();
    let viewer = world.client(VIEWER_IP, Role::Viewer, 1, &[]);
    let caster = world.client(CASTER_IP, Role::Caster, 1, &[]);
    world.touch_from(&viewer, Role::Viewer, "203.0.113.9:9000");
    world.main(&viewer);
    world.touch_from(&caster, Role::Caster, "198.51.100.7:7000");
    world.touch_from(&caster, Role::Caster, "[2001:db8:7::1]:7000");
    let asked = holes(&world.main(&viewer));
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[0].0, asked[1].0, "one session");
    assert_eq!(
        asked[1].1.hole_endpoints(),
        [endpoint("[2001:db8:7::1]:7000"), endpoint("198.51.100.7:7000")]
    );
    assert_eq!(connects(&world.main(&caster)).len(), 1, "nothing is new to the caster");

    world.touch_from(&viewer, Role::Viewer, "[2001:db8:9::1]:9000");
    let told = connects(&world.main(&caster));
    assert_eq!((told.len(), told[0].0), (1, asked[0].0));
    assert_eq!(told[0].1.hole_endpoints(), [endpoint("[2001:db8:9::1]:9000"), endpoint("203.0.113.9:9000")]);
}

#[test]
fn a_repeated_request_begins_a_new_session() {
    let mut world = World::new();
    let viewer = world.client(VIEWER_IP, Role::Viewer, 1, &[]);
    let caster = world.client(CASTER_IP, Role::Caster, 1, &[]);
    world.touch(&viewer, Role::Viewer);
    let (assist, _) = world.touch(&caster, Role::Caster);
    world.send(assist, &request(Role::Caster, 1, caster.token));
    let (at_viewer, at_caster) = (holes(&world.main(&viewer)), connects(&world.main(&caster)));
    let sessions: Vec<SessionId> = at_caster.iter().map(|(session, _)| *session).collect();
    assert_eq!(sessions.len(), 2);
    assert_ne!(sessions[0], sessions[1]);
    assert_eq!(at_viewer.iter().map(|(session, _)| *session).collect::<Vec<_>>(), sessions);
}

#[test]
fn an_introduction_that_the_viewer_left_waits_for_the_next_viewer() {
    let mut world = World::new();
    let first = world.client(VIEWER_IP, Role::Viewer, 1, &[]);
    let caster = world.client(CASTER_IP, Role::Caster, 1, &[]);
    world.touch(&caster, Role::Caster);
    assert_eq!(holes(&world.main(&first)).len(), 1);
    world.hang_up(first.main);
    let second = world.client(VIEWER_IP, Role::Viewer, 1, &[]);
    world.touch(&second, Role::Viewer);
    assert_eq!(connects(&world.main(&caster)).len(), 1);
}

/// Both lost their link. The caster came back first, and was introduced to a login whose connection was dead.
#[test]
fn a_viewer_that_comes_back_is_told_of_the_caster_that_came_back_before_it() {
    let mut world = World::new();
    let dead = world.client(VIEWER_IP, Role::Viewer, 1, &[]);
    world.touch(&dead, Role::Viewer);
    let caster = world.client(CASTER_IP, Role::Caster, 1, &[]);
    world.touch(&caster, Role::Caster);
    assert_eq!(connects(&world.main(&caster)).len(), 1, "told at once");

    let viewer = world.client(VIEWER_IP, Role::Viewer, 1, &[]);
    world.touch(&viewer, Role::Viewer);

    let (at_viewer, at_caster) = (holes(&world.main(&viewer)), connects(&world.main(&caster)));
    assert_eq!((at_viewer.len(), at_caster.len()), (1, 1), "both are told anew");
    assert_eq!(at_viewer[0].0, at_caster[0].0, "of one session");
}

#[test]
fn readiness_for_a_session_of_others_changes_nothing() {
    let mut world = World::new();
    let viewer = world.client(VIEWER_IP, Role::Viewer, 1, &[]);
    let caster = world.client(CASTER_IP, Role::Caster, 1, &[]);
    world.touch(&caster, Role::Caster);
    let (session, _) = holes(&world.main(&viewer))[0].clone();
    let other = world.client("192.0.2.5", Role::Viewer, 2, &[]);
    world.touch(&other, Role::Viewer);
    world.send(other.main, &ToMain::HoleListenReady { session });
    world.send(viewer.main, &ToMain::HoleListenReady { session: SessionId(session.0 ^ 1) });
    assert_eq!(world.main(&caster), []);
    assert_eq!((world.end_of(other.main), world.end_of(viewer.main)), (None, None));
    world.send(caster.main, &ToMain::HoleListenReady { session });
    assert_eq!(world.main(&caster), [refused(Refusal::BadRequest)], "a caster has no hole to be ready");
}

// --- what is handed out -------------------------------------------------------------------------------------------

/// What the viewer is told of a caster at `caster_ip` that says `local` of itself.
fn told_of_caster(
    viewer_ip: &str,
    caster_ip: &str,
    local: &[&str],
    seen: &str,
) -> punchcast::wire::message::Peer {
    let mut world = World::new();
    let viewer = world.client(viewer_ip, Role::Viewer, 1, &[]);
    world.touch(&viewer, Role::Viewer);
    let caster = world.client(caster_ip, Role::Caster, 1, local);
    world.main(&viewer);
    world.touch_from(&caster, Role::Caster, seen);
    holes(&world.main(&viewer))[0].1.clone()
}

#[test]
fn own_addresses_go_to_neighbours_only_and_only_those_of_the_site() {
    let local =
        ["192.168.1.5:7000", "8.8.8.8:53", "127.0.0.1:22", "224.0.0.1:1", "10.0.0.1:0", "192.168.1.5:7000"];
    let far = told_of_caster(VIEWER_IP, CASTER_IP, &local, "198.51.100.7:7000");
    assert_eq!(far.local, []);
    let near = told_of_caster(VIEWER_IP, VIEWER_IP, &local, "203.0.113.9:7000");
    assert_eq!(near.local, [endpoint("192.168.1.5:7000")]);
}

#[test]
fn neighbours_by_ipv6_share_a_prefix_of_64_bits() {
    let local = ["[fd00::5]:7000"];
    let near = told_of_caster("2001:db8:1:1::1", "2001:db8:1:1::2", &local, "[2001:db8:1:1::2]:7000");
    assert_eq!(near.local, [endpoint("[fd00::5]:7000")]);
    let far = told_of_caster("2001:db8:1:1::1", "2001:db8:1:2::2", &local, "[2001:db8:1:2::2]:7000");
    assert_eq!(far.local, []);
}

#[test]
fn loopback_addresses_go_to_the_same_host_only() {
    let local = ["127.0.0.1:7000", "10.0.0.5:7000"];
    let same = told_of_caster("127.0.0.1", "127.0.0.2", &local, "127.0.0.2:7000");
    assert_eq!(same.local, [endpoint("127.0.0.1:7000"), endpoint("10.0.0.5:7000")]);
    let half = told_of_caster(VIEWER_IP, "127.0.0.1", &local, "127.0.0.1:7000");
    assert_eq!(half.local, []);
}

#[test]
fn a_client_is_public_when_it_is_seen_at_its_own_address_and_port() {
    let local = ["192.168.1.5:7000", "198.51.100.7:7000"];
    assert!(told_of_caster(VIEWER_IP, CASTER_IP, &local, "198.51.100.7:7000").public);
    assert!(!told_of_caster(VIEWER_IP, CASTER_IP, &local, "198.51.100.7:7001").public, "another port: a NAT");
    assert!(!told_of_caster(VIEWER_IP, CASTER_IP, &["192.168.1.5:7000"], "198.51.100.7:7000").public);
}

// --- limits -------------------------------------------------------------------------------------------------------

#[test]
fn a_caster_that_asks_too_often_is_refused_but_stays() {
    let mut world = World::new();
    let caster = world.client(CASTER_IP, Role::Caster, 1, &[]);
    let (assist, _) = world.touch(&caster, Role::Caster);
    world.read::<FromAssist>(assist);
    for _ in 0..5 {
        world.send(assist, &request(Role::Caster, 1, caster.token));
    }
    let refusals = |messages: Vec<FromAssist>| {
        messages.into_iter().filter(|message| *message == assist_refused(Refusal::TooMany)).count()
    };
    assert_eq!(refusals(world.read(assist)), 1, "five are allowed at once, and this was the sixth");
    assert_eq!(world.end_of(assist), None);
    world.advance(Duration::from_millis(200));
    world.send(assist, &request(Role::Caster, 1, caster.token));
    assert_eq!(refusals(world.read(assist)), 0);
}

#[test]
fn nobody_is_made_the_target_of_more_than_three_introductions_in_a_row() {
    let mut world = World::new();
    let viewer = world.client(VIEWER_IP, Role::Viewer, 1, &[]);
    world.touch(&viewer, Role::Viewer);
    world.main(&viewer);
    let mut refused = 0;
    let mut last = None;
    for n in 1..=5 {
        let caster = world.client(&format!("198.51.100.{n}"), Role::Caster, 1, &[]);
        let (assist, _) = world.touch(&caster, Role::Caster);
        refused += usize::from(world.read(assist).contains(&assist_refused(Refusal::TooMany)));
        assert_eq!(world.end_of(assist), None);
        last = Some((caster, assist));
    }
    assert_eq!((holes(&world.main(&viewer)).len(), refused), (3, 2));
    world.advance(secs(10));
    let (caster, assist) = last.unwrap();
    world.send(assist, &request(Role::Caster, 1, caster.token));
    assert_eq!(holes(&world.main(&viewer)).len(), 1, "later it may");
}

#[test]
fn one_address_has_so_many_connections_and_no_more() {
    let mut limits = Limits { connections_per_address: 3, ..Limits::default() };
    limits.accepts_per_address = limits.accepts_per_address.with_burst(1000);
    let mut world = World::with_limits(limits);
    let open = |world: &mut World, remote: &str| {
        let conn = world.connect(MAIN, remote);
        world.read::<FromMain>(conn)
    };
    for n in 0..3 {
        assert_eq!(open(&mut world, &format!("[2001:db8::{n:x}]:1")), []);
    }
    assert_eq!(open(&mut world, "[2001:db8::ffff:1]:1"), [refused(Refusal::TooMany)], "the same /64");
    assert_eq!(open(&mut world, "[2001:db8:0:1::1]:1"), [], "another /64");
    world.advance(secs(5));
    assert_eq!(open(&mut world, "[2001:db8::1]:2"), [], "the old ones are gone");
}

#[test]
fn one_address_is_accepted_in_a_burst_and_then_at_a_rate() {
    let mut world = World::new();
    let accepted = |world: &mut World, count: u16| {
        (0..count)
            .filter(|port| {
                let conn = world.connect(ASSIST, &addr("192.0.2.1", 1 + port));
                world.end_of(conn).is_none()
            })
            .count()
    };
    assert_eq!(accepted(&mut world, 200), 128);
    world.advance(secs(1));
    assert_eq!(accepted(&mut world, 100), 40);
}

#[test]
fn a_full_daemon_says_so() {
    let mut world = World::with_limits(Limits { connections: 2, logins: 1, ..Limits::default() });
    world.client(VIEWER_IP, Role::Viewer, 1, &[]);
    let token = world.token();
    let second = world.log_in(CASTER_IP, Role::Caster, 1, token, &[]);
    assert_eq!(world.read::<FromMain>(second), [refused(Refusal::Full)]);
    world.connect(MAIN, "192.0.2.1:1");
    let turned_away = world.connect(ASSIST, "192.0.2.2:1");
    assert_eq!(world.read::<FromAssist>(turned_away), [assist_refused(Refusal::Full)]);
    assert_eq!(world.end_of(turned_away), Some(Closing::Flush));
}

#[test]
fn a_rendezvous_has_room_for_sixteen_casters() {
    let mut world = World::new();
    let casters: Vec<_> =
        (0..16).map(|n| world.client(&format!("198.51.100.{n}"), Role::Caster, 1, &[])).collect();
    let token = world.token();
    let one_more = world.log_in(CASTER_IP, Role::Caster, 1, token, &[]);
    assert_eq!(world.read::<FromMain>(one_more), [refused(Refusal::Full)]);
    world.client(VIEWER_IP, Role::Viewer, 1, &[]);
    world.hang_up(casters[3].main);
    world.client(CASTER_IP, Role::Caster, 1, &[]);
}

#[test]
fn who_does_not_read_is_not_read_from_and_ends_after_five_seconds() {
    let mut world = World::new();
    let viewer = world.client(VIEWER_IP, Role::Viewer, 1, &[]);
    world.input(Input::Backlogged { conn: viewer.main });
    assert!(world.lines[&viewer.main].paused);
    world.advance(secs(4));
    world.input(Input::Drained { conn: viewer.main });
    assert!(!world.lines[&viewer.main].paused);
    world.advance(secs(4));
    world.input(Input::Backlogged { conn: viewer.main });
    world.advance(Duration::from_millis(4999));
    assert_eq!(world.end_of(viewer.main), None);
    world.advance(Duration::from_millis(1));
    assert_eq!(world.end_of(viewer.main), Some(Closing::Abort));
}

#[test]
fn what_is_queued_for_who_does_not_read_is_bounded() {
    let limits = Limits { backlog_bytes: 100, ..Limits::default() };
    let mut world = World::with_limits(limits);
    let viewer = world.client(VIEWER_IP, Role::Viewer, 1, &[]);
    world.input(Input::Backlogged { conn: viewer.main });
    for _ in 0..10 {
        let caster = world.client(CASTER_IP, Role::Caster, 1, &[]);
        world.hang_up(caster.main);
    }
    assert_eq!(world.end_of(viewer.main), Some(Closing::Abort));
    assert!(world.lines[&viewer.main].inbox.len() <= 100);
    assert_eq!(world.daemon.broker().census().logins, 0);
}

#[test]
fn a_flood_of_messages_ends_its_connection() {
    let mut world = World::new();
    let viewer = world.client(VIEWER_IP, Role::Viewer, 1, &[]);
    let flood = punchcast::wire::encode(&ToMain::Heartbeat { nonce: 1 }).repeat(4000);
    world.send_bytes(viewer.main, &flood);
    let messages = world.main(&viewer);
    assert_eq!(messages.last(), Some(&refused(Refusal::TooMany)));
    assert_eq!(messages.len(), 100, "99 more after the login are answered");
}

#[test]
fn when_everybody_is_gone_nothing_is_left() {
    let mut world = World::new();
    let viewer = world.client(VIEWER_IP, Role::Viewer, 1, &["192.168.1.1:1"]);
    let caster = world.client("2001:db8::1", Role::Caster, 1, &[]);
    world.touch(&viewer, Role::Viewer);
    world.touch(&caster, Role::Caster);
    let held = world.connect(ASSIST, "192.0.2.1:1");
    world.send(held, &request(Role::Viewer, 1, PunchToken([9; 16])));
    world.advance(secs(300));
    let census = world.daemon.broker().census();
    assert_eq!((census.connections, census.logins, census.held), (0, 0, 0));
    assert_eq!((census.sources, census.deadlines, census.buffered), (0, 0, 0));
}

// --- ending -------------------------------------------------------------------------------------------------------

#[test]
fn interrupted_it_tells_everybody_and_exits() {
    let mut world = World::new();
    let viewer = world.client(VIEWER_IP, Role::Viewer, 1, &[]);
    let (assist, _) = world.touch(&viewer, Role::Viewer);
    let stranger = world.connect(MAIN, "192.0.2.1:1");
    world.input(Input::Interrupted);
    assert_eq!(world.main(&viewer), [FromMain::Shutdown]);
    assert_eq!(world.read::<FromMain>(stranger), [FromMain::Shutdown]);
    for conn in [viewer.main, assist, stranger] {
        assert_eq!(world.end_of(conn), Some(Closing::Flush));
    }
    assert_eq!(world.listens, [], "nobody else comes in");
    assert!(world.exited);
}
