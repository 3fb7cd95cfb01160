//! A cast does not need the daemon once it has its link.

use crate::lab::{Lab, permitted};
use crate::recording::{Recording, assert_no_gap};
use crate::scene::{END, LINK, caster, daemon, viewer};
use std::time::Duration;

/// The cast's length.
const SECONDS: u32 = 6;

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
