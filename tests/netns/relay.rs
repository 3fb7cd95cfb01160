//! Where TCP cannot cross, the daemon relays; where it can again, the cast moves.

use crate::lab::{Lab, permitted};
use crate::recording::{Recording, assert_no_gap};
use crate::scene::{END, LINK, caster, daemon, daemon_with, every_time, repeats, text, viewer};
use std::time::{Duration, Instant};

/// Long enough for a cast that is ended sooner.
const LONG: u32 = 120;

/// How long a relayed cast may take to find that a wall is gone. The first attempt dials for 24 s, at least one SYN a
/// second.
const MOVES: Duration = Duration::from_secs(15);

const RELAY: &[&str] = &["--relay", "on"];

#[test]
fn two_nats_that_draw_ports_are_relayed_every_time_and_both_sides_say_why() {
    if !permitted() {
        return;
    }
    every_time(repeats(), |_| {
        let lab = Lab::up(&["server:public", "viewer:nat=apdm-apdf", "caster:nat=apdm-apdf"]);
        let (_daemon, server) = daemon_with(&lab, RELAY);
        let (mut viewer, ticket) = viewer(&lab, Some(&server), &[]);
        let mut caster = caster(&lab, "caster", &ticket, 1);
        for link in [caster.event("link", LINK), viewer.event("link", LINK)] {
            assert_eq!(text(&link, "rung"), "relayed");
            let drawn = text(&link, "why").contains("a random port for each destination");
            assert!(drawn, "{link}{}{}", viewer.report(), caster.report());
        }
        viewer.event("first-frame", LINK);
        caster.succeeds(END);
        viewer.succeeds(END);
    });
}

#[test]
fn without_a_relay_the_same_pair_is_told_why_there_is_no_link() {
    if !permitted() {
        return;
    }
    let lab = Lab::up(&["server:public", "viewer:nat=apdm-apdf", "caster:nat=apdm-apdf"]);
    let (_daemon, server) = daemon(&lab);
    let (_viewer, ticket) = viewer(&lab, Some(&server), &[]);
    let mut caster = caster(&lab, "caster", &ticket, 1);
    // An attempt's 30 s.
    let end = caster.event("end", Duration::from_secs(60));
    assert_eq!(end["ok"], false, "{end}");
    let reason = text(&end, "reason");
    assert!(
        reason.contains("a random port for each destination") && reason.contains("--relay on"),
        "{reason}"
    );
}

/// A rule between the two homes is lifted in mid-cast.
#[test]
fn a_relayed_cast_moves_to_a_direct_link_and_no_frame_is_missing() {
    if !permitted() {
        return;
    }
    every_time(2, |_| {
        let lab = Lab::up(&["server:public", "viewer:nat", "caster:nat"]);
        let theirs = lab.public_addr("caster");
        rule(
            &lab,
            &format!(
                "add table ip wall; add chain ip wall between {{ type filter hook forward priority -300; }};
            add rule ip wall between ip saddr {theirs} drop; add rule ip wall between ip daddr {theirs} drop"
            ),
        );
        let recording = Recording::new();
        let path = recording.path().to_str().expect("temporary names are text");
        let (_daemon, server) = daemon_with(&lab, RELAY);
        let (mut viewer, ticket) = viewer(&lab, Some(&server), &["--record", path]);
        let mut caster = caster(&lab, "caster", &ticket, LONG);
        let link = caster.event("link", LINK);
        assert_eq!(text(&link, "rung"), "relayed", "{link}");
        viewer.event("first-frame", LINK);
        viewer.event("stats", LINK);

        rule(&lab, "delete table ip wall");
        let lifted = Instant::now();
        let moved = viewer.event("link", MOVES);
        assert_eq!((text(&moved, "rung").as_str(), &moved["moves"]), ("punched", &true.into()));
        assert!(lifted.elapsed() < MOVES);
        // Pictures over the new link.
        for _ in 0..3 {
            viewer.event("stats", LINK);
        }
        caster.terminate();
        caster.end(END);
        viewer.end(END);
        assert!(viewer.events("lost").is_empty() && caster.events("lost").is_empty(), "{}", viewer.report());
        let numbers = recording.frame_numbers();
        assert_no_gap(&numbers);
        assert_eq!(numbers.first(), Some(&0), "from the first on");
    });
}

/// Carries out nftables commands in the box before the viewer.
fn rule(lab: &Lab, commands: &str) {
    let done = lab.command("viewer-nat", "nft").arg(commands).output().expect("nft runs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}
