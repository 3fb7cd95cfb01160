//! A daemon under mutated frames on both ports: no panic, bounded tables, and it still introduces.
//!
//! `PUNCHCAST_SEED` replays one seed, `PUNCHCAST_CASES` sets how many frames (10,000 by default).

mod daemon_support;

use bytes::Bytes;
use daemon_support::*;
use punchcast::app::{ConnId, Input};
use punchcast::code::{Element, Proof};
use punchcast::id::{CallId, OwnerToken, PunchToken, SessionId};
use punchcast::rendezvous::broker::{ASSIST, MAIN};
use punchcast::rendezvous::limits::Limits;
use punchcast::wire::encode;
use punchcast::wire::message::{FromMain, Role, ToAssist, ToMain};
use std::time::Duration;

const CASES: usize = 10_000;
const MOST_CONNECTIONS: usize = 40;

fn setting<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// A frame that is right, for one of a few tokens, rooms and sessions, so that mutants meet real state.
fn right_frame(rng: &mut fastrand::Rng) -> Bytes {
    let token = PunchToken([rng.u8(0..6); 16]);
    let room = rng.u8(0..3);
    let rendezvous = OwnerToken([room; 16]).rendezvous();
    let local_port = rng.u16(0..4);
    let (nameplate, call) = (rng.u32(0..12), CallId(rng.u64(0..3)));
    let (element, proof) = (Element([rng.u8(..); 32]), Proof([rng.u8(..); 32]));
    match rng.u8(0..24) {
        0 | 1 => {
            encode(&login(Role::Viewer, room, token, &["10.0.0.1:9", "[2001:db8::1]:9"][..rng.usize(0..3)]))
        }
        2 | 3 => encode(&login(Role::Caster, room, token, &["10.0.0.2:9"])),
        4 => encode(&ToMain::HoleListenReady { session: SessionId(rng.u64(..)) }),
        5 => encode(&ToMain::Heartbeat { nonce: rng.u64(..) }),
        6 => encode(&ToMain::Logout),
        7 => encode(&ToAssist::ReqConnClient { token, rendezvous, local_port }),
        8 => encode(&ToMain::Sample { token, local_port }),
        9 => encode(&ToAssist::Sample { token, local_port }),
        10 => encode(&ToMain::TestFilter),
        11 => encode(&ToMain::Relay { token, session: SessionId(rng.u64(..)) }),
        12 => encode(&ToMain::Mapped { endpoints: vec![endpoint("192.0.2.1:9"); rng.usize(0..10)] }),
        13 | 14 => encode(&ToMain::ReqNameplate { wish: nameplate }),
        15 | 16 => encode(&ToMain::Call { nameplate, element }),
        17 => encode(&ToMain::Answer { call, element }),
        18 => encode(&ToMain::Confirm { proof }),
        19 => encode(&ToMain::Grant { call, sealed: vec![0; rng.usize(0..900)] }),
        20 => encode(&ToMain::Deny { call }),
        _ => encode(&ToAssist::ReqSrvDisconnect { token, local_port }),
    }
}

fn mutate(rng: &mut fastrand::Rng, frame: &mut Vec<u8>) {
    for _ in 0..rng.usize(0..4) {
        if frame.is_empty() {
            return;
        }
        let at = rng.usize(..frame.len());
        match rng.u8(0..7) {
            0 => frame[at] ^= 1 << rng.u8(0..8),
            1 => frame[at] = rng.u8(..),
            2 => frame.truncate(at),
            3 => frame.insert(at, rng.u8(..)),
            4 => frame[at..].fill(0xff),
            5 => {
                let tail = frame[at..].to_vec();
                frame.extend(tail);
            }
            _ => {
                frame.remove(at);
            }
        }
    }
}

/// A caster and a viewer who ask for a relay, both or only one of them: mutants meet its halves, too.
fn relay(world: &mut World, rng: &mut fastrand::Rng, lines: &mut Vec<ConnId>) {
    let viewer = world.client("192.0.2.1", Role::Viewer, 100, &[]);
    let (assist, _) = world.touch(&viewer, Role::Viewer);
    let caster = world.client("192.0.2.2", Role::Caster, 100, &[]);
    let (request, _) = world.touch(&caster, Role::Caster);
    lines.extend([viewer.main, caster.main, assist, request]);
    let Some(&(session, _)) = holes(&world.main(&viewer)).last() else { return };
    for client in [viewer, caster].iter().take(rng.usize(1..=2)) {
        let conn = world.connect(MAIN, &addr(&client.ip, rng.u16(1024..)));
        world.send(conn, &ToMain::Relay { token: client.token, session });
        lines.push(conn);
    }
}

/// A viewer with a number and a caster that asks for it, up to some step: mutants meet calls, too.
fn call(world: &mut World, rng: &mut fastrand::Rng, lines: &mut Vec<ConnId>) {
    let viewer = world.client("192.0.2.1", Role::Viewer, 101, &[]);
    world.send(viewer.main, &ToMain::ReqNameplate { wish: 7 });
    let caster = world.connect(MAIN, &addr("192.0.2.2", rng.u16(1024..)));
    lines.extend([viewer.main, caster]);
    world.send(caster, &ToMain::Call { nameplate: 7, element: Element([1; 32]) });
    let Some(&FromMain::Called { call, .. }) = world.main(&viewer).last() else { return };
    if rng.bool() {
        world.send(viewer.main, &ToMain::Answer { call, element: Element([2; 32]) });
        world.send(caster, &ToMain::Confirm { proof: Proof([3; 32]) });
    }
}

/// Whether a caster and a viewer who come along are introduced.
fn introduces(world: &mut World) -> bool {
    let viewer = world.client("203.0.113.9", Role::Viewer, 200, &[]);
    let caster = world.client("198.51.100.7", Role::Caster, 200, &[]);
    let (_, viewer_seen) = world.touch(&viewer, Role::Viewer);
    let (_, caster_seen) = world.touch(&caster, Role::Caster);
    let (at_viewer, at_caster) = (holes(&world.main(&viewer)), connects(&world.main(&caster)));
    world.hang_up(viewer.main);
    world.hang_up(caster.main);
    at_viewer.len() == 1
        && at_caster.len() == 1
        && at_viewer[0].0 == at_caster[0].0
        && at_viewer[0].1.hole_endpoints() == [caster_seen]
        && at_caster[0].1.hole_endpoints() == [viewer_seen]
}

/// Opens a connection from one of a few addresses of either family.
fn open(world: &mut World, rng: &mut fastrand::Rng, open: &mut Vec<ConnId>) {
    let listener = if rng.bool() { MAIN } else { ASSIST };
    let port = rng.u16(1024..);
    let ip = if rng.bool() {
        format!("192.0.2.{}", rng.u8(0..4))
    } else {
        format!("2001:db8:0:{:x}::1", rng.u8(0..4))
    };
    let conn = world.connect(listener, &addr(&ip, port));
    open.push(conn);
}

fn bombard(seed: u64, cases: usize) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut limits = Limits { connections: MOST_CONNECTIONS + 4, ..Limits::default() };
    limits.accepts_per_address = limits.accepts_per_address.with_burst(100_000);
    limits.calls_per_address = limits.calls_per_address.with_burst(10_000);
    limits.calls_per_nameplate = limits.calls_per_nameplate.with_burst(10_000);
    limits.introductions_per_victim = limits.introductions_per_victim.with_burst(1000);
    let mut world = World::relaying(limits);
    let mut lines: Vec<ConnId> = Vec::new();
    let (mut most_logins, mut most_held, mut relayed, mut most_calls) = (0, 0, 0, 0);
    for case in 0..cases {
        let context = || format!("seed {seed}, frame {case}");
        while lines.len() < MOST_CONNECTIONS / 2 || (lines.len() < MOST_CONNECTIONS && rng.u8(..) < 64) {
            open(&mut world, &mut rng, &mut lines);
        }
        if rng.u8(..) < 8 && lines.len() + 6 <= MOST_CONNECTIONS {
            relay(&mut world, &mut rng, &mut lines);
        }
        if rng.u8(..) < 8 && lines.len() + 2 <= MOST_CONNECTIONS {
            call(&mut world, &mut rng, &mut lines);
        }
        let conn = lines[rng.usize(..lines.len())];
        let mut frame = right_frame(&mut rng).to_vec();
        mutate(&mut rng, &mut frame);
        // In up to three reads.
        let (a, b) = (rng.usize(..=frame.len()), rng.usize(..=frame.len()));
        let (a, b) = (a.min(b), a.max(b));
        for part in [&frame[..a], &frame[a..b], &frame[b..]] {
            world.send_bytes(conn, part);
        }
        disturb(&mut world, &mut rng, conn);
        world.lines.retain(|_, line| line.end.is_none());
        lines.retain(|conn| world.lines.contains_key(conn));
        let census = world.daemon.broker().census();
        assert!(census.connections <= MOST_CONNECTIONS, "{}: {census:?}", context());
        assert_eq!(census.connections, lines.len(), "{}: {census:?}", context());
        assert!(census.logins + census.held <= census.connections, "{}: {census:?}", context());
        assert!(census.buffered <= census.connections * 1024, "{}: {census:?}", context());
        assert!(census.sources <= 8 + 2, "{}: {census:?}", context());
        most_logins = most_logins.max(census.logins);
        most_held = most_held.max(census.held);
        relayed += census.relays;
        most_calls = most_calls.max(census.calls);
        assert!(census.nameplates <= 105, "{}: {census:?}", context());
        assert!(census.halves + 2 * census.relays <= census.connections, "{}: {census:?}", context());
        if case % 1000 == 999 {
            lines.drain(..).for_each(|conn| hang_up(&mut world, conn));
            world.advance(Duration::from_secs(1));
            assert!(introduces(&mut world), "{}", context());
        }
    }
    assert!(most_calls > 0, "seed {seed}: mutants meet calls");
    assert!(most_logins > 2 && most_held > 2 && relayed > 100, "seed {seed}: mutants meet real state");
    lines.into_iter().for_each(|conn| hang_up(&mut world, conn));
    // The grace of a code's number is the longest of all deadlines.
    world.advance(Duration::from_secs(150));
    let census = world.daemon.broker().census();
    assert_eq!((census.connections, census.logins, census.held, census.sources), (0, 0, 0, 0), "seed {seed}");
    assert_eq!((census.nameplates, census.calls), (0, 0), "seed {seed}");
    assert_eq!(census.deadlines, 0, "seed {seed}");
}

/// What a network does besides carrying bytes.
fn disturb(world: &mut World, rng: &mut fastrand::Rng, conn: ConnId) {
    let alive = world.end_of(conn).is_none();
    match rng.u8(0..100) {
        0..10 => world.advance(Duration::from_millis(rng.u64(0..2000))),
        10 => world.advance(Duration::from_secs(rng.u64(0..120))),
        11..14 if alive => world.input(Input::Backlogged { conn }),
        14..17 if alive => world.input(Input::Drained { conn }),
        17..20 if alive => hang_up(world, conn),
        _ => {}
    }
    // Nobody reads what the daemon answers; the memory is the test's, not the daemon's.
    for line in world.lines.values_mut() {
        line.inbox.clear();
    }
}

/// The client's end, remembered as such.
fn hang_up(world: &mut World, conn: ConnId) {
    world.hang_up(conn);
    world.lines.remove(&conn);
}

#[test]
fn it_survives_mutated_frames_on_both_ports_and_still_introduces() {
    let cases = setting("PUNCHCAST_CASES").unwrap_or(CASES);
    match setting("PUNCHCAST_SEED") {
        Some(seed) => bombard(seed, cases),
        None => (0..4).for_each(|seed| bombard(seed, cases)),
    }
}
