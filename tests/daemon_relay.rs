//! The daemon's relay through its public verbs, in virtual time: who is joined, what passes, when it is over.

mod daemon_support;

use daemon_support::*;
use punchcast::app::{Closing, ConnId, Input, NetError};
use punchcast::driver::{Driver, Step};
use punchcast::id::{PunchToken, SessionId};
use punchcast::rendezvous::broker::MAIN;
use punchcast::rendezvous::limits::{Allowance, Limits};
use punchcast::wire::codec::Message;
use punchcast::wire::encode;
use punchcast::wire::frame::{MAX_FRAME, Reader};
use punchcast::wire::message::ToAssist;
use punchcast::wire::message::{FromMain, Refusal, Role, ToMain};
use punchcastd::{Config, Daemon, Notice};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

const CASTER_IP: &str = "198.51.100.7";
const VIEWER_IP: &str = "203.0.113.9";
const TERMS: FromMain = FromMain::Relaying { bytes: 2_048_000_000, seconds: 3600 };

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn relaying(limits: Limits) -> World {
    World::relaying(limits)
}

/// A caster and a viewer who were introduced to each other.
struct Pair {
    viewer: Client,
    caster: Client,
    session: SessionId,
}

fn introduced_at(world: &mut World, room: u8, viewer_ip: &str, caster_ip: &str) -> Pair {
    let viewer = world.client(viewer_ip, Role::Viewer, room, &[]);
    world.touch(&viewer, Role::Viewer);
    let caster = world.client(caster_ip, Role::Caster, room, &[]);
    world.touch(&caster, Role::Caster);
    let session = holes(&world.main(&viewer)).last().expect("they are introduced").0;
    world.main(&caster);
    Pair { viewer, caster, session }
}

fn introduced(world: &mut World) -> Pair {
    introduced_at(world, 1, VIEWER_IP, CASTER_IP)
}

/// Asks for a relay from `ip` on a connection of its own.
fn ask(world: &mut World, ip: &str, token: PunchToken, session: SessionId) -> ConnId {
    let conn = world.connect(MAIN, &addr(ip, 40_000));
    world.send(conn, &ToMain::Relay { token, session });
    conn
}

fn ask_as(world: &mut World, client: &Client, session: SessionId) -> ConnId {
    ask(world, &client.ip, client.token, session)
}

/// Both halves, the viewer's first, with the daemon's answers read.
fn joined(world: &mut World, pair: &Pair) -> [ConnId; 2] {
    let conns = [&pair.viewer, &pair.caster].map(|client| ask_as(world, client, pair.session));
    for conn in conns {
        let answer = world.read::<FromMain>(conn);
        assert!(matches!(answer[..], [FromMain::Relaying { .. }]), "{answer:?}");
    }
    conns
}

fn raw(world: &mut World, conn: ConnId) -> Vec<u8> {
    std::mem::take(&mut world.lines.get_mut(&conn).unwrap().inbox)
}

fn is_refused(world: &mut World, conn: ConnId, reason: Refusal) -> bool {
    world.read::<FromMain>(conn) == [refused(reason)] && world.end_of(conn) == Some(Closing::Flush)
}

fn relays(world: &World) -> (usize, usize) {
    let census = world.daemon.broker().census();
    (census.relays, census.halves)
}

// --- who is joined ------------------------------------------------------------------------------------------------

#[test]
fn a_daemon_that_relays_says_so_at_the_login() {
    for (mut world, relays) in [(World::new(), false), (relaying(Limits::default()), true)] {
        let token = world.token();
        let main = world.log_in(VIEWER_IP, Role::Viewer, 1, token, &[]);
        let welcome = world.read::<FromMain>(main);
        assert!(matches!(welcome[..], [FromMain::Welcome { relay, .. }] if relay == relays), "{welcome:?}");
    }
}

#[test]
fn one_that_does_not_refuses_every_half() {
    let mut world = World::new();
    let pair = introduced(&mut world);
    let half = ask_as(&mut world, &pair.viewer, pair.session);
    assert!(is_refused(&mut world, half, Refusal::NoRelay));
    assert_eq!(relays(&world), (0, 0));
}

#[test]
fn two_halves_are_joined_whichever_comes_first_and_bytes_pass_as_they_are() {
    for viewer_first in [true, false] {
        let mut world = relaying(Limits::default());
        let pair = introduced(&mut world);
        let (one, two) =
            if viewer_first { (&pair.viewer, &pair.caster) } else { (&pair.caster, &pair.viewer) };
        let first = ask_as(&mut world, one, pair.session);
        assert_eq!((raw(&mut world, first), relays(&world)), (vec![], (0, 1)), "it waits");
        world.advance(secs(5));
        let second = ask_as(&mut world, two, pair.session);
        assert_eq!(world.read::<FromMain>(first), [TERMS]);
        assert_eq!(world.read::<FromMain>(second), [TERMS]);
        assert_eq!(relays(&world), (1, 0));

        // Not even what is a frame of the daemon's language is looked at.
        let bytes = encode(&ToMain::Logout);
        world.send_bytes(first, &bytes);
        world.send_bytes(second, b"\0\0\0");
        assert_eq!((raw(&mut world, second), raw(&mut world, first)), (bytes.to_vec(), b"\0\0\0".to_vec()));
    }
}

#[test]
fn only_the_two_of_an_introduction_are_joined_and_only_for_it() {
    let mut world = relaying(Limits::default());
    let pair = introduced(&mut world);
    let others = introduced_at(&mut world, 2, "192.0.2.1", "192.0.2.2");
    let stranger = world.token();
    let cases = [
        (stranger, pair.session),
        (pair.viewer.token, SessionId(pair.session.0 ^ 1)),
        (pair.viewer.token, others.session),
        (others.caster.token, pair.session),
    ];
    for (token, session) in cases {
        let half = ask(&mut world, "192.0.2.9", token, session);
        assert!(is_refused(&mut world, half, Refusal::NoRelay));
    }
    assert_eq!(relays(&world), (0, 0));
}

#[test]
fn a_viewer_has_a_relay_with_each_of_its_casters() {
    let mut world = relaying(Limits::default());
    let first = introduced(&mut world);
    let caster = world.client("192.0.2.2", Role::Caster, 1, &[]);
    world.touch(&caster, Role::Caster);
    let session = holes(&world.main(&first.viewer))[0].0;
    let second = Pair { viewer: first.viewer.clone(), caster, session };
    let one = joined(&mut world, &first);
    let two = joined(&mut world, &second);
    assert_eq!(relays(&world), (2, 0));
    world.send_bytes(one[1], b"one");
    world.send_bytes(two[1], b"two");
    assert_eq!((raw(&mut world, one[0]), raw(&mut world, two[0])), (b"one".to_vec(), b"two".to_vec()));
}

#[test]
fn the_same_half_again_takes_the_place_of_the_first() {
    let mut world = relaying(Limits::default());
    let pair = introduced(&mut world);
    let first = ask_as(&mut world, &pair.caster, pair.session);
    let second = ask_as(&mut world, &pair.caster, pair.session);
    assert!(is_refused(&mut world, first, Refusal::NoRelay));
    assert_eq!((world.end_of(second), relays(&world)), (None, (0, 1)));
    let viewer = ask_as(&mut world, &pair.viewer, pair.session);
    assert_eq!(world.read::<FromMain>(second), [TERMS]);
    assert_eq!(world.read::<FromMain>(viewer), [TERMS]);
}

#[test]
fn a_relay_that_both_ask_for_again_takes_the_place_of_the_first() {
    let limits = Limits { relays: 1, relays_per_address: 1, ..Limits::default() };
    let mut world = relaying(limits);
    let pair = introduced(&mut world);
    let first = joined(&mut world, &pair);
    let half = ask_as(&mut world, &pair.caster, pair.session);
    assert_eq!((world.end_of(half), relays(&world)), (None, (1, 1)), "one alone ends nothing");
    world.hang_up(half);
    let second = joined(&mut world, &pair);
    assert_eq!(first.map(|conn| world.end_of(conn)), [Some(Closing::Flush); 2]);
    assert_eq!(second.map(|conn| world.end_of(conn)), [None; 2]);
    assert_eq!(relays(&world), (1, 0));
}

#[test]
fn the_latest_few_introductions_count() {
    let mut world = relaying(Limits::default());
    let viewer = world.client(VIEWER_IP, Role::Viewer, 1, &[]);
    world.touch(&viewer, Role::Viewer);
    let caster = world.client(CASTER_IP, Role::Caster, 1, &[]);
    let (assist, _) = world.touch(&caster, Role::Caster);
    for _ in 0..4 {
        world.advance(secs(4));
        world.send(assist, &request(Role::Caster, 1, caster.token));
    }
    let sessions: Vec<SessionId> = holes(&world.main(&viewer)).iter().map(|(session, _)| *session).collect();
    assert_eq!(sessions.len(), 5);
    let oldest = ask_as(&mut world, &viewer, sessions[0]);
    assert!(is_refused(&mut world, oldest, Refusal::NoRelay));
    let older = ask_as(&mut world, &viewer, sessions[1]);
    assert_eq!(world.end_of(older), None);
}

#[test]
fn nothing_may_be_sent_before_the_other_half_is_there() {
    let mut world = relaying(Limits::default());
    let pair = introduced(&mut world);
    let half = ask_as(&mut world, &pair.viewer, pair.session);
    world.send_bytes(half, b"\0");
    assert!(is_refused(&mut world, half, Refusal::BadRequest));

    let hasty = world.connect(MAIN, &addr(CASTER_IP, 40_000));
    let ask = encode(&ToMain::Relay { token: pair.caster.token, session: pair.session });
    world.send_bytes(hasty, &[&ask[..], &[0]].concat());
    assert!(is_refused(&mut world, hasty, Refusal::BadRequest));

    // A login is no half, and asks on another connection.
    world.send(pair.viewer.main, &ToMain::Relay { token: pair.viewer.token, session: pair.session });
    assert!(is_refused(&mut world, pair.viewer.main, Refusal::BadRequest));
}

#[test]
fn a_half_waits_so_long() {
    let mut world = relaying(Limits::default());
    let pair = introduced(&mut world);
    let half = ask_as(&mut world, &pair.viewer, pair.session);
    world.advance(secs(25) - Duration::from_millis(1));
    assert_eq!(world.end_of(half), None);
    world.advance(Duration::from_millis(1));
    assert!(is_refused(&mut world, half, Refusal::NoRelay));
    assert_eq!(relays(&world), (0, 0));
}

#[test]
fn a_half_that_waits_ends_with_either_login_and_a_link_with_neither() {
    for leaves in [Role::Viewer, Role::Caster] {
        let mut world = relaying(Limits::default());
        let pair = introduced(&mut world);
        let other = world.client("192.0.2.2", Role::Caster, 1, &[]);
        world.touch(&other, Role::Caster);
        let session = holes(&world.main(&pair.viewer))[0].0;
        let halves = [
            ask_as(&mut world, &pair.viewer, pair.session),
            ask_as(&mut world, &Client { token: other.token, ..other.clone() }, session),
        ];
        let (gone, stays) = match leaves {
            Role::Viewer => (pair.viewer.main, None),
            Role::Caster => (pair.caster.main, Some(halves[1])),
        };
        world.hang_up(gone);
        assert!(is_refused(&mut world, halves[0], Refusal::NoRelay));
        assert_eq!(world.end_of(halves[1]).is_none(), stays.is_some(), "another's half is another's");

        let mut world = relaying(Limits::default());
        let pair = introduced(&mut world);
        let [viewer, caster] = joined(&mut world, &pair);
        world.hang_up(pair.viewer.main);
        world.hang_up(pair.caster.main);
        world.send_bytes(caster, b"still here");
        assert_eq!(raw(&mut world, viewer), b"still here");
        let late = ask_as(&mut world, &pair.viewer, pair.session);
        assert!(is_refused(&mut world, late, Refusal::NoRelay), "the token is spent");
    }
}

// --- back-pressure and ends ---------------------------------------------------------------------------------------

#[test]
fn a_full_socket_stops_the_reading_of_the_other_half_and_of_nothing_else() {
    let mut world = relaying(Limits::default());
    let pair = introduced(&mut world);
    let [viewer, caster] = joined(&mut world, &pair);
    let paused = |world: &World| [viewer, caster].map(|conn| world.lines[&conn].paused);
    world.send_bytes(caster, b"more than fits");
    world.input(Input::Backlogged { conn: viewer });
    assert_eq!(paused(&world), [false, true]);
    world.send_bytes(viewer, b"the other way");
    assert_eq!(raw(&mut world, caster), b"the other way");
    world.input(Input::Backlogged { conn: caster });
    assert_eq!(paused(&world), [true, true]);
    world.input(Input::Drained { conn: viewer });
    assert_eq!(paused(&world), [true, false]);
    world.input(Input::Drained { conn: caster });
    assert_eq!(paused(&world), [false, false]);
}

#[test]
fn a_half_that_takes_nothing_any_more_ends_the_relay() {
    let mut world = relaying(Limits::default());
    let pair = introduced(&mut world);
    let [viewer, caster] = joined(&mut world, &pair);
    world.input(Input::Backlogged { conn: viewer });
    for _ in 0..14 {
        world.advance(secs(1));
        world.send_bytes(viewer, b"it still speaks");
    }
    assert_eq!(world.end_of(caster), None);
    world.advance(secs(1));
    assert_eq!((world.end_of(viewer), world.end_of(caster)), (Some(Closing::Flush), Some(Closing::Flush)));
}

#[test]
fn the_end_of_one_half_ends_the_other_after_what_is_queued() {
    for error in [None, Some(NetError::Reset)] {
        let mut world = relaying(Limits::default());
        let pair = introduced(&mut world);
        let [viewer, caster] = joined(&mut world, &pair);
        world.send_bytes(caster, b"last words");
        world.input(Input::Closed { conn: caster, error });
        assert_eq!(raw(&mut world, viewer), b"last words");
        assert_eq!((world.end_of(viewer), world.end_of(caster)), (Some(Closing::Flush), None));
        assert_eq!(relays(&world), (0, 0));
        assert_eq!(world.end_of(pair.viewer.main), None);
    }
}

#[test]
fn silence_in_both_directions_ends_a_relay() {
    let mut world = relaying(Limits::default());
    let pair = introduced(&mut world);
    let [viewer, caster] = joined(&mut world, &pair);
    world.advance(secs(10));
    world.send_bytes(viewer, b"one direction is enough");
    world.advance(secs(14));
    assert_eq!(world.end_of(caster), None);
    world.advance(secs(1));
    assert_eq!((world.end_of(viewer), world.end_of(caster)), (Some(Closing::Flush), Some(Closing::Flush)));
}

#[test]
fn the_daemons_end_ends_relays_and_writes_nothing_into_them() {
    let mut world = relaying(Limits::default());
    let pair = introduced(&mut world);
    let others = introduced_at(&mut world, 2, "192.0.2.1", "192.0.2.2");
    let halves = joined(&mut world, &pair);
    let waiting = ask_as(&mut world, &others.viewer, others.session);
    world.send_bytes(halves[1], b"picture");
    world.input(Input::Interrupted);
    assert_eq!(raw(&mut world, halves[0]), b"picture");
    assert_eq!(raw(&mut world, halves[1]), b"");
    assert_eq!(world.read::<FromMain>(waiting), [FromMain::Shutdown]);
    assert!(halves.into_iter().chain([waiting]).all(|conn| world.end_of(conn) == Some(Closing::Flush)));
    assert_eq!(relays(&world), (0, 0));
}

// --- limits -------------------------------------------------------------------------------------------------------

/// Half a megabyte a relay, fast.
fn small() -> Limits {
    Limits { relay_bytes: 500_000, ..Limits::default() }
}

#[test]
fn not_one_byte_more_passes_than_was_said() {
    let mut world = relaying(small());
    let pair = introduced(&mut world);
    let conns = [&pair.viewer, &pair.caster].map(|client| ask_as(&mut world, client, pair.session));
    let said = FromMain::Relaying { bytes: 500_000, seconds: 3600 };
    assert_eq!(conns.map(|conn| world.read::<FromMain>(conn)), [vec![said.clone()], vec![said]]);
    let chunk = vec![7; 60_000];
    for turn in 0..8 {
        world.send_bytes(conns[turn % 2], &chunk);
    }
    assert_eq!(conns.map(|conn| world.end_of(conn)), [None; 2], "480,000 have passed");
    world.send_bytes(conns[0], &chunk);
    assert_eq!(conns.map(|conn| world.end_of(conn)), [Some(Closing::Flush); 2]);
    assert_eq!(conns.map(|conn| raw(&mut world, conn).len()), [240_000, 260_000]);
    assert_eq!(relays(&world), (0, 0));
}

#[test]
fn the_last_byte_ends_it_when_it_has_passed() {
    let mut world = relaying(small());
    let pair = introduced(&mut world);
    let [viewer, caster] = joined(&mut world, &pair);
    world.send_bytes(caster, &vec![1; 499_999]);
    assert_eq!(world.end_of(viewer), None);
    world.send_bytes(viewer, &[2]);
    assert_eq!(raw(&mut world, caster), [2]);
    assert_eq!((world.end_of(viewer), world.end_of(caster)), (Some(Closing::Flush), Some(Closing::Flush)));
}

#[test]
fn a_relay_has_its_time() {
    let limits = Limits { relay_time: secs(60), ..Limits::default() };
    let mut world = relaying(limits);
    let pair = introduced(&mut world);
    let [viewer, caster] = joined(&mut world, &pair);
    for _ in 0..6 {
        assert_eq!(world.end_of(viewer), None);
        world.send_bytes(caster, b"picture");
        world.advance(secs(10));
    }
    assert_eq!((world.end_of(viewer), world.end_of(caster)), (Some(Closing::Flush), Some(Closing::Flush)));
}

#[test]
fn each_direction_has_its_pace() {
    let pace = Allowance { bytes: 50_000, within: Duration::from_millis(500) };
    let mut world = relaying(Limits { relay_pace: pace, ..Limits::default() });
    let pair = introduced(&mut world);
    let [viewer, caster] = joined(&mut world, &pair);
    let begin = world.now;
    let mut passed = 0_u64;
    while world.now < begin + secs(60) {
        // The driver reads as soon as it may.
        if !world.lines[&caster].paused {
            world.send_bytes(caster, &[9; 10_000]);
            passed += raw(&mut world, viewer).len() as u64;
        }
        assert!(!world.lines[&viewer].paused, "the other direction is not held back");
        world.advance(Duration::from_millis(1));
    }
    let fair = 60 * 100_000 + 50_000;
    assert!((fair - 100_000..=fair + 10_000).contains(&passed), "{passed} bytes in a minute");
}

#[test]
fn a_pause_for_the_pace_is_no_silence_and_does_not_undo_back_pressure() {
    let pace = Allowance { bytes: 500, within: Duration::from_millis(500) };
    let mut world = relaying(Limits { relay_pace: pace, ..Limits::default() });
    let pair = introduced(&mut world);
    let [viewer, caster] = joined(&mut world, &pair);
    world.send_bytes(caster, &[0; 60_500]);
    assert!(world.lines[&caster].paused);
    world.advance(secs(59));
    assert_eq!((world.lines[&caster].paused, world.end_of(caster)), (true, None), "a minute of pause");
    world.input(Input::Backlogged { conn: viewer });
    world.advance(secs(2));
    assert!(world.lines[&caster].paused, "its pause is over, the viewer's socket is still full");
    world.input(Input::Drained { conn: viewer });
    assert!(!world.lines[&caster].paused);
    world.advance(secs(15));
    assert_eq!(world.end_of(caster), Some(Closing::Flush), "now it is silent");
}

#[test]
fn so_many_relays_at_one_time() {
    let mut world = relaying(Limits { relays: 1, ..Limits::default() });
    let pair = introduced(&mut world);
    let others = introduced_at(&mut world, 2, "192.0.2.1", "192.0.2.2");
    let waiting = ask_as(&mut world, &others.viewer, others.session);
    let [viewer, _] = joined(&mut world, &pair);
    let second = ask_as(&mut world, &others.caster, others.session);
    assert!(is_refused(&mut world, waiting, Refusal::NoRelay), "both halves are told");
    assert!(is_refused(&mut world, second, Refusal::NoRelay));
    let early = ask_as(&mut world, &others.viewer, others.session);
    assert!(is_refused(&mut world, early, Refusal::NoRelay), "it need not wait to hear it");
    world.hang_up(viewer);
    joined(&mut world, &others);
}

#[test]
fn so_many_relays_at_either_end_of_one_address() {
    let mut world = relaying(Limits { relays_per_address: 1, ..Limits::default() });
    let pair = introduced_at(&mut world, 1, "2001:db8::1", CASTER_IP);
    let others = introduced_at(&mut world, 2, "192.0.2.1", "2001:db8::ffff:2");
    let [_, caster] = joined(&mut world, &pair);
    let half = ask_as(&mut world, &others.viewer, others.session);
    let neighbour = ask_as(&mut world, &others.caster, others.session);
    assert!(is_refused(&mut world, half, Refusal::NoRelay));
    assert!(is_refused(&mut world, neighbour, Refusal::NoRelay), "a /64 is one source");
    world.hang_up(caster);
    joined(&mut world, &others);

    // Two behind one address are one relay there.
    let mut world = relaying(Limits { relays_per_address: 1, ..Limits::default() });
    let pair = introduced_at(&mut world, 1, CASTER_IP, CASTER_IP);
    joined(&mut world, &pair);
}

#[test]
fn asking_again_gives_no_more_bytes_than_the_allowance() {
    let allowance = Allowance { bytes: 1_200_000, within: secs(3600) };
    let mut world = relaying(Limits { relay_allowance: allowance, ..small() });
    let pair = introduced(&mut world);
    let mut passed = 0;
    for _ in 0..3 {
        let [viewer, caster] = joined(&mut world, &pair);
        for _ in 0..9 {
            world.send_bytes(caster, &[0; 60_000]);
        }
        passed += raw(&mut world, viewer).len();
        assert_eq!(world.end_of(caster), Some(Closing::Flush));
    }
    assert_eq!(passed, 1_200_000, "twice a whole relay, and what was left");
    let viewer = ask_as(&mut world, &pair.viewer, pair.session);
    assert!(is_refused(&mut world, viewer, Refusal::NoRelay));

    // Nor is another partner of one who has used it up given any.
    let others = introduced_at(&mut world, 2, "192.0.2.1", CASTER_IP);
    let viewer = ask_as(&mut world, &others.viewer, others.session);
    assert_eq!(world.end_of(viewer), None);
    let caster = ask_as(&mut world, &others.caster, others.session);
    assert!(is_refused(&mut world, viewer, Refusal::NoRelay));
    assert!(is_refused(&mut world, caster, Refusal::NoRelay));

    // It comes back with time, although nobody of that address was there meanwhile.
    world.advance(secs(1800));
    assert_eq!(world.daemon.broker().census().logins, 0, "all have gone");
    assert!(world.daemon.broker().census().sources > 0, "what they used is remembered");
    let pair = introduced_at(&mut world, 3, VIEWER_IP, CASTER_IP);
    joined(&mut world, &pair);
    world.advance(secs(3600));
    assert_eq!(world.daemon.broker().census().sources, 0, "and forgotten when it does not matter any more");
}

#[test]
fn two_relays_of_one_address_share_its_allowance() {
    let allowance = Allowance { bytes: 600_000, within: secs(3600) };
    let mut world = relaying(Limits { relay_allowance: allowance, ..small() });
    let pair = introduced(&mut world);
    let others = introduced_at(&mut world, 2, "192.0.2.1", CASTER_IP);
    let one = joined(&mut world, &pair);
    let two = joined(&mut world, &others);
    world.send_bytes(one[1], &[0; 400_000]);
    world.send_bytes(two[1], &[0; 400_000]);
    assert_eq!(raw(&mut world, two[0]).len(), 200_000);
    assert_eq!(two.map(|conn| world.end_of(conn)), [Some(Closing::Flush); 2]);
    assert_eq!(world.end_of(one[0]), None, "it is ended when it asks for more");
    world.send_bytes(one[0], b"x");
    assert_eq!((raw(&mut world, one[1]).len(), world.end_of(one[1])), (0, Some(Closing::Flush)));
}

#[test]
fn nothing_is_left_of_relays_that_ended() {
    let mut world = relaying(Limits::default());
    let pair = introduced(&mut world);
    let [viewer, caster] = joined(&mut world, &pair);
    world.send_bytes(caster, b"picture");
    world.hang_up(viewer);
    world.hang_up(pair.viewer.main);
    world.hang_up(pair.caster.main);
    world.advance(secs(120));
    let census = world.daemon.broker().census();
    assert_eq!((census.connections, census.sources, census.deadlines, census.relays), (0, 0, 0, 0));
}

// --- over real sockets --------------------------------------------------------------------------------------------

/// No step here takes longer, unless something is wrong.
const PATIENCE: Duration = secs(20);

fn dial(to: SocketAddr, first: &impl Message) -> TcpStream {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&encode(first)).unwrap();
    stream
}

/// Reads messages until one is what is looked for. Byte by byte, so that nothing behind it is taken.
fn hear<T>(stream: &mut TcpStream, wanted: impl Fn(FromMain) -> Option<T>) -> T {
    let mut reader = Reader::new(MAX_FRAME);
    loop {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        reader.push(&byte);
        if let Some(found) = reader.next().unwrap().and_then(&wanted) {
            return found;
        }
    }
}

/// A daemon on loopback in a thread of its own, which ends when it is interrupted.
fn daemon() -> (SocketAddr, SocketAddr, impl FnOnce()) {
    let any = "127.0.0.1:0".parse().unwrap();
    // Faster than any machine, so that the sockets' own back-pressure is what counts.
    let pace = Allowance { bytes: 1 << 40, within: secs(1) };
    let limits = Limits { relay_pace: pace, ..Limits::default() };
    let config = Config { main: any, assist: any, relay: true, limits, ..Config::default() };
    let mut driver = Driver::new(Daemon::new(config, 1)).unwrap();
    let Step::Notice(Notice::Ready { main, assist, .. }) = driver.run().unwrap() else {
        panic!("it is ready first");
    };
    let handle = driver.handle();
    let thread = thread::spawn(move || while !matches!(driver.run().unwrap(), Step::Exit) {});
    let end = move || {
        handle.interrupt();
        thread.join().unwrap();
    };
    (main, assist, end)
}

#[test]
fn a_slow_reader_gets_every_byte_in_order_and_then_the_end() {
    const BYTES: usize = 16 << 20;
    let (main, assist, end) = daemon();
    let [viewer, caster] = [PunchToken([1; 16]), PunchToken([2; 16])];
    let mut viewer_main = dial(main, &login(Role::Viewer, 1, viewer, &[]));
    let touch = |role, token| -> TcpStream {
        let message: ToAssist = request(role, 1, token);
        dial(assist, &message)
    };
    let viewer_assist = touch(Role::Viewer, viewer);
    let caster_main = dial(main, &login(Role::Caster, 1, caster, &[]));
    let caster_assist = touch(Role::Caster, caster);
    let session = hear(&mut viewer_main, |message| holes(&[message]).first().map(|(session, _)| *session));
    let [mut ours, mut theirs] = [viewer, caster].map(|token| dial(main, &ToMain::Relay { token, session }));
    for half in [&mut ours, &mut theirs] {
        hear(half, |message| (message == TERMS).then_some(()));
    }
    let word = |at: usize| u32::try_from(at / 4).unwrap().to_be_bytes();
    let sender = thread::spawn(move || {
        let bytes: Vec<u8> = (0..BYTES).step_by(4).flat_map(word).collect();
        theirs.write_all(&bytes).unwrap();
    });
    // Small reads are slower than any writing: the sockets between are full nearly all the time.
    let mut got = Vec::new();
    let mut piece = [0; 1500];
    loop {
        match ours.read(&mut piece).unwrap() {
            0 => break,
            count => got.extend_from_slice(&piece[..count]),
        }
    }
    sender.join().unwrap();
    assert_eq!(got.len(), BYTES);
    assert!(got.chunks(4).enumerate().all(|(at, chunk)| chunk == word(at * 4)));
    // A daemon that ends waits for its clients to have hung up.
    drop([viewer_main, viewer_assist, caster_main, caster_assist, ours]);
    end();
}
