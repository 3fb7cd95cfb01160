//! A cast does not need the daemon once it has its link.

use crate::lab::{Lab, permitted};
use crate::recording::{Recording, assert_no_gap};
use crate::scene::{END, LINK, caster, daemon, lasting_viewer, viewer};
use std::time::{Duration, Instant};

/// The cast's length.
const SECONDS: u32 = 6;

/// The length of a cast that an outage interrupts; it is ended sooner.
const LONG: u32 = 60;

#[test]
fn a_cast_goes_on_without_a_gap_when_the_daemon_is_killed() {
    if !permitted() {
        return;
    }
    let lab = Lab::up(&["server:public", "viewer:nat", "caster:nat"]);
    let recording = Recording::new();
    let (mut daemon, server) = daemon(&lab);
    let path = recording.path().to_str().expect("temporary names are text");
    let (mut viewer, ticket) = viewer(&lab, Some(&server), &["--record", path]);
    let mut caster = caster(&lab, "caster", &ticket, SECONDS);
    viewer.event("first-frame", LINK);
    viewer.event("stats", LINK);

    daemon.kill();

    caster.succeeds(Duration::from_secs(u64::from(SECONDS)) + END);
    viewer.succeeds(END);
    assert!(viewer.events("lost").is_empty(), "{}", viewer.report());
    let numbers = recording.frame_numbers();
    assert_no_gap(&numbers);
    // At least ten frames a second for the whole of the cast: most of them came after the daemon's end.
    assert!(numbers.len() >= SECONDS as usize * 10, "only {} frames{}", numbers.len(), viewer.report());
}

/// Both NATs restart in mid-cast. Nobody touches anything, and pictures are there again within five seconds.
#[test]
fn a_cast_comes_back_by_itself_when_both_nats_forget() {
    if !permitted() {
        return;
    }
    let lab = Lab::up(&["server:public", "viewer:nat", "caster:nat"]);
    let (_daemon, server) = daemon(&lab);
    let (mut viewer, ticket) = lasting_viewer(&lab, Some(&server), &[]);
    let mut caster = caster(&lab, "caster", &ticket, LONG);
    viewer.event("first-frame", LINK);
    viewer.event("stats", LINK);
    for host in ["viewer", "caster"] {
        lab.forget(host);
    }
    let pictures = |stats: &serde_json::Value| stats["frames"].as_u64().is_some_and(|frames| frames > 10);
    // The second that was under way may still count pictures of before.
    viewer.event("stats", LINK);
    let begin = Instant::now();
    assert!(!pictures(&viewer.event("stats", LINK)), "nothing was interrupted{}", caster.report());
    while !pictures(&viewer.event("stats", LINK)) {
        assert!(begin.elapsed() < Duration::from_secs(5), "{}{}", caster.report(), viewer.report());
    }
    caster.terminate();
    caster.end(END);
    viewer.terminate();
    viewer.end(END);
}
