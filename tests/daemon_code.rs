//! Short codes at the daemon: numbers, calls, and what bounds both.

mod daemon_support;

use daemon_support::*;
use punchcast::app::{Closing, ConnId};
use punchcast::code::{Element, Proof};
use punchcast::id::CallId;
use punchcast::rendezvous::broker::MAIN;
use punchcast::rendezvous::limits::{Limits, Rate};
use punchcast::wire::message::{FromMain, MAX_SEALED, Refusal, Role, ToMain};
use std::time::Duration;

const VIEWER_IP: &str = "203.0.113.9";
const X: Element = Element([1; 32]);
const Y: Element = Element([2; 32]);
const PROOF: Proof = Proof([3; 32]);

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// A viewer with a number.
fn viewer(world: &mut World, room: u8) -> (Client, u32) {
    let viewer = world.client(VIEWER_IP, Role::Viewer, room, &[]);
    let number = number(world, &viewer, 0).expect("a number");
    (viewer, number)
}

/// Asks for a number; what the daemon says last.
fn number(world: &mut World, viewer: &Client, wish: u32) -> Option<u32> {
    world.send(viewer.main, &ToMain::ReqNameplate { wish });
    let Some(&FromMain::Nameplate { number }) = world.main(viewer).last() else { panic!("no answer") };
    number
}

/// A caster's connection that has asked; from an address of its own.
fn call(world: &mut World, nameplate: u32) -> ConnId {
    let token = world.token();
    call_from(world, &format!("198.18.{}.{}", token.0[0], token.0[1]), nameplate)
}

fn call_from(world: &mut World, ip: &str, nameplate: u32) -> ConnId {
    let port = world.count_port();
    let conn = world.connect(MAIN, &addr(ip, port));
    world.send(conn, &ToMain::Call { nameplate, element: X });
    conn
}

/// The call that the viewer hears of.
fn called(world: &mut World, viewer: &Client) -> CallId {
    let [FromMain::Called { call, element: X }] = world.main(viewer)[..] else {
        panic!("no call, or others")
    };
    call
}

fn is_refused(world: &mut World, conn: ConnId, reason: Refusal) -> bool {
    world.read::<FromMain>(conn).last() == Some(&refused(reason))
        && world.end_of(conn) == Some(Closing::Flush)
}

#[test]
fn a_call_goes_to_and_fro_and_ends_with_the_ticket() {
    let mut world = World::new();
    let (viewer, number) = viewer(&mut world, 1);
    let caster = call(&mut world, number);
    let call = called(&mut world, &viewer);
    world.send(viewer.main, &ToMain::Answer { call, element: Y });
    assert_eq!(world.read::<FromMain>(caster), [FromMain::Answered { element: Y }]);
    world.send(caster, &ToMain::Confirm { proof: PROOF });
    assert_eq!(world.main(&viewer), [FromMain::Confirmed { call, proof: PROOF }]);
    let sealed = vec![7; MAX_SEALED];
    world.send(viewer.main, &ToMain::Grant { call, sealed: sealed.clone() });
    assert_eq!(world.read::<FromMain>(caster), [FromMain::Granted { sealed }]);
    assert_eq!(world.end_of(caster), Some(Closing::Flush));
    let census = world.daemon.broker().census();
    assert_eq!((census.calls, census.nameplates), (0, 1), "the number is good for the next");
}

#[test]
fn a_viewer_s_no_means_wrong_words_after_its_answer_and_no_code_before() {
    let mut world = World::new();
    let (viewer, number) = viewer(&mut world, 1);
    let caster = call(&mut world, number);
    let first = called(&mut world, &viewer);
    world.send(viewer.main, &ToMain::Deny { call: first });
    assert!(is_refused(&mut world, caster, Refusal::NoCode));
    let caster = call(&mut world, number);
    let second = called(&mut world, &viewer);
    world.send(viewer.main, &ToMain::Answer { call: second, element: Y });
    world.send(caster, &ToMain::Confirm { proof: PROOF });
    world.send(viewer.main, &ToMain::Deny { call: second });
    assert!(is_refused(&mut world, caster, Refusal::WrongCode));
    // Of what is over, late words are nobody's fault.
    world.send(viewer.main, &ToMain::Grant { call: second, sealed: vec![1] });
    assert_eq!(world.end_of(viewer.main), None);
}

#[test]
fn unknown_numbers_and_those_of_absent_viewers_are_answered_alike() {
    let mut world = World::new();
    let (viewer, number) = viewer(&mut world, 1);
    let unknown = call(&mut world, number + 1);
    assert_eq!(world.read::<FromMain>(unknown), [refused(Refusal::NoCode)]);
    world.hang_up(viewer.main);
    let absent = call(&mut world, number);
    assert_eq!(world.read::<FromMain>(absent), [refused(Refusal::NoCode)]);
    for number in [0, u32::MAX] {
        let never = call(&mut world, number);
        assert_eq!(world.read::<FromMain>(never), [refused(Refusal::NoCode)]);
    }
}

#[test]
fn a_number_waits_for_its_viewer_and_goes_with_a_logout() {
    let mut world = World::new();
    let (first, had) = viewer(&mut world, 1);
    world.hang_up(first.main);
    world.advance(secs(119));
    assert_eq!(world.daemon.broker().census().nameplates, 1);
    let again = world.client("198.51.100.77", Role::Viewer, 1, &[]);
    assert_eq!(number(&mut world, &again, had), Some(had), "known by its owner token, not by its address");
    world.advance(secs(60));
    let caster = call(&mut world, had);
    called(&mut world, &again);
    world.send(again.main, &ToMain::Logout);
    assert!(is_refused(&mut world, caster, Refusal::NoCode), "the viewer is gone");
    assert_eq!(world.daemon.broker().census().nameplates, 0);
    // And one whose viewer stays away is free after the grace.
    let (other, _) = viewer(&mut world, 2);
    world.hang_up(other.main);
    world.advance(secs(121));
    assert_eq!(world.daemon.broker().census().nameplates, 0);
}

#[test]
fn nobody_gets_another_s_number_by_wishing() {
    let mut world = World::new();
    let (_, taken) = viewer(&mut world, 1);
    let thief = world.client("192.0.2.66", Role::Viewer, 2, &[]);
    assert_ne!(number(&mut world, &thief, taken), Some(taken));
    let caster = world.client("192.0.2.67", Role::Caster, 1, &[]);
    world.send(caster.main, &ToMain::ReqNameplate { wish: 0 });
    assert!(is_refused(&mut world, caster.main, Refusal::BadRequest), "a caster has no code");
}

#[test]
fn a_new_number_ends_the_calls_to_the_old_one() {
    let mut world = World::new();
    let (viewer, before) = viewer(&mut world, 1);
    let caster = call(&mut world, before);
    called(&mut world, &viewer);
    let after = number(&mut world, &viewer, 0);
    assert!(after.is_some() && after != Some(before));
    assert!(is_refused(&mut world, caster, Refusal::NoCode));
}

#[test]
fn a_call_that_nobody_answers_ends_in_time() {
    let mut world = World::new();
    let (viewer, number) = viewer(&mut world, 1);
    let caster = call(&mut world, number);
    let call = called(&mut world, &viewer);
    world.advance(secs(14));
    world.send(viewer.main, &ToMain::Answer { call, element: Y });
    world.advance(Duration::from_millis(999));
    assert_eq!(world.end_of(caster), None, "an answer buys no time");
    world.advance(Duration::from_millis(1));
    assert!(is_refused(&mut world, caster, Refusal::NoCode));
}

#[test]
fn messages_out_of_turn_end_a_caller_and_no_viewer_answers_another_s_call() {
    let mut world = World::new();
    let (viewer, number) = viewer(&mut world, 1);
    let early = call(&mut world, number);
    let call_id = called(&mut world, &viewer);
    world.send(early, &ToMain::Confirm { proof: PROOF });
    assert!(is_refused(&mut world, early, Refusal::BadRequest), "before the answer");
    let twice = call(&mut world, number);
    let second = called(&mut world, &viewer);
    assert_ne!(second, call_id);
    let other = world.client("192.0.2.66", Role::Viewer, 2, &[]);
    world.send(other.main, &ToMain::Answer { call: second, element: Y });
    world.send(other.main, &ToMain::Deny { call: second });
    assert_eq!(world.read::<FromMain>(twice), []);
    world.send(viewer.main, &ToMain::Grant { call: second, sealed: vec![1] });
    assert_eq!(world.read::<FromMain>(twice), [], "not before the proof");
    world.send(viewer.main, &ToMain::Answer { call: second, element: Y });
    world.send(twice, &ToMain::Confirm { proof: PROOF });
    world.send(twice, &ToMain::Confirm { proof: PROOF });
    assert!(is_refused(&mut world, twice, Refusal::BadRequest), "one guess a connection");
    let stranger = world.connect(MAIN, "192.0.2.3:1");
    world.send(stranger, &ToMain::Confirm { proof: PROOF });
    assert!(is_refused(&mut world, stranger, Refusal::BadRequest));
}

#[test]
fn guesses_of_one_address_are_bounded() {
    let mut world = World::new();
    let rate = Limits::default().calls_per_address;
    let mut refusals = Vec::new();
    for _ in 0..rate.burst + 2 {
        let conn = call_from(&mut world, "2001:db8::1", 999);
        refusals.extend(world.read::<FromMain>(conn));
    }
    let most = rate.burst as usize;
    assert!(refusals[..most].iter().all(|refusal| *refusal == refused(Refusal::NoCode)));
    assert!(refusals[most..].iter().all(|refusal| *refusal == refused(Refusal::TooMany)));
    // A /64 is one address, whatever it asks for.
    let conn = call_from(&mut world, "2001:db8::2", 1);
    assert_eq!(world.read::<FromMain>(conn), [refused(Refusal::TooMany)]);
    world.advance(rate.every);
    let conn = call_from(&mut world, "2001:db8::1", 999);
    assert_eq!(world.read::<FromMain>(conn), [refused(Refusal::NoCode)]);
    let conn = call_from(&mut world, "2001:db8::1", 999);
    assert_eq!(world.read::<FromMain>(conn), [refused(Refusal::TooMany)], "it is remembered in between");
}

#[test]
fn calls_to_one_viewer_are_bounded_at_once_and_over_time() {
    let mut world = World::with_limits(Limits {
        calls_per_nameplate: Rate { burst: 6, every: secs(10) },
        ..Limits::default()
    });
    let (viewer, number) = viewer(&mut world, 1);
    let open: Vec<ConnId> = (0..4).map(|_| call(&mut world, number)).collect();
    let fifth = call(&mut world, number);
    assert!(is_refused(&mut world, fifth, Refusal::TooMany), "four at once");
    assert_eq!(world.main(&viewer).len(), 4);
    open.into_iter().for_each(|conn| world.hang_up(conn));
    for expected in [None, None, Some(Refusal::TooMany)] {
        let conn = call(&mut world, number);
        let expected: Vec<FromMain> = expected.into_iter().map(refused).collect();
        assert_eq!(world.read::<FromMain>(conn), expected);
        world.hang_up(conn);
    }
    // Logging in anew does not forget them.
    world.hang_up(viewer.main);
    let again = world.client(VIEWER_IP, Role::Viewer, 1, &[]);
    world.send(again.main, &ToMain::ReqNameplate { wish: number });
    let conn = call(&mut world, number);
    assert!(is_refused(&mut world, conn, Refusal::TooMany));
}

#[test]
fn numbers_run_out_in_words_and_leave_the_login_alone() {
    let mut world = World::with_limits(Limits { nameplates_per_address: 2, ..Limits::default() });
    viewer(&mut world, 1);
    viewer(&mut world, 2);
    let third = world.client(VIEWER_IP, Role::Viewer, 3, &[]);
    assert_eq!(number(&mut world, &third, 0), None);
    assert_eq!(world.end_of(third.main), None);
    let elsewhere = world.client("192.0.2.9", Role::Viewer, 4, &[]);
    assert!(number(&mut world, &elsewhere, 0).is_some());
}

#[test]
fn a_daemon_that_ends_tells_callers_too() {
    let mut world = World::new();
    let (_, number) = viewer(&mut world, 1);
    let caster = call(&mut world, number);
    world.input(punchcast::app::Input::Interrupted);
    assert_eq!(world.read::<FromMain>(caster), [FromMain::Shutdown]);
    assert_eq!(world.end_of(caster), Some(Closing::Flush));
}
