//! Pairs of surroundings between which a plain SYN finds its way, without sweeps of ports: each with each, homes behind
//! other people's NATs, and IPv6.
//!
//! The lines are [`LINE`] milliseconds long, so both sides' first SYNs cross on their way as they do outside.

use crate::lab::{Lab, permitted, permitted_with_delay};
use crate::scene::{
    END, cast_in, cast_through, caster, daemon, daemon_by_name, daemon_with, every_time, repeats, text,
    times, viewer,
};
use std::net::SocketAddr;
use std::time::Duration;

/// Milliseconds of each line to the internet; four times that is there and back.
const LINE: &str = "5";

/// Every mapping that does not depend on the destination, and none.
const KINDS: [&str; 5] = ["public", "firewall", "nat=eim-eif", "nat=eim-adf", "nat=eim-apdf"];

/// The words by which a link between two of [`KINDS`] may be called.
fn rungs(viewer: &str, caster: &str) -> &'static [&'static str] {
    match (viewer.starts_with("nat"), caster.starts_with("nat")) {
        (false, false) => &["public", "reverse"],
        (false, true) => &["public"],
        (true, false) => &["reverse"],
        (true, true) => &["punched"],
    }
}

/// The worst median, in milliseconds, where there is nothing to search for: what a busy machine adds to some 100.
const SOON: f64 = 500.0;

fn cast_between(viewer: &str, caster: &str, rungs: &[&str]) -> f64 {
    let (viewer, caster) = (format!("viewer:{viewer}"), format!("caster:{caster}"));
    cast_through(&["--delay", LINE, "server:public", &viewer, &caster], rungs)
}

#[test]
fn every_stable_pair_is_linked_directly() {
    if !permitted_with_delay() {
        return;
    }
    let pairs: Vec<_> =
        KINDS.iter().flat_map(|viewer| KINDS.iter().map(move |caster| (*viewer, *caster))).collect();
    // Each twice, and more where more is asked for.
    let tries = pairs.len() * repeats().div_ceil(20).max(2) as usize;
    every_time(tries as u32, |index| {
        let (viewer, caster) = pairs[index as usize % pairs.len()];
        cast_between(viewer, caster, rungs(viewer, caster));
    });
}

/// Whatever port is drawn, the other side lets it in.
#[test]
fn a_nat_that_draws_ports_needs_no_birthday_where_the_other_filters_by_address_or_not_at_all() {
    if !permitted_with_delay() {
        return;
    }
    let pairs = ["nat=eim-eif", "nat=eim-adf"]
        .map(|open| [(open, "nat=apdm-apdf"), ("nat=apdm-apdf", open)])
        .concat();
    let times = times(repeats(), |index| {
        let (viewer, caster) = pairs[index as usize % pairs.len()];
        Some(cast_between(viewer, caster, &["punched", "predicted"]))
    });
    let median = times[times.len() / 2];
    assert!(median < SOON, "median {median} ms: {times:?}");
}

#[test]
fn two_nats_before_either_side_are_punched_every_time() {
    if !permitted_with_delay() {
        return;
    }
    let double = "nat=eim-apdf,eim-apdf";
    every_time(repeats(), |_| {
        cast_between(double, double, &["punched"]);
    });
}

/// To each other, both homes have the provider's outside address.
#[test]
fn two_homes_behind_one_providers_nat_are_punched_every_time_where_it_hairpins() {
    if !permitted_with_delay() {
        return;
    }
    every_time(repeats(), |index| {
        let provider = ["eim-apdf-hairpin", "eim-eif-hairpin"][index as usize % 2];
        cast_between(&format!("nat=eim-apdf,{provider}"), "nat=eim-apdf@viewer", &["punched"]);
    });
}

/// Nothing that either side can send reaches the other; both say so and end.
#[test]
fn two_homes_behind_one_providers_nat_that_does_not_hairpin_are_told_that_there_is_no_way() {
    if !permitted() {
        return;
    }
    let lab = Lab::up(&["server:public", "viewer:nat=eim-apdf,eim-apdf", "caster:nat=eim-apdf@viewer"]);
    let (_daemon, server) = daemon(&lab);
    let (mut viewer, ticket) = viewer(&lab, Some(&server), &[]);
    let mut caster = caster(&lab, "caster", &ticket, 1);

    let status = caster.end(Duration::from_secs(90));

    assert_eq!(status.code(), Some(1), "{}", caster.report());
    assert!(caster.events("link").is_empty(), "{}", caster.report());
    let reason = text(&caster.events("end")[0], "reason");
    assert!(reason.starts_with("no direct link could be made"), "{reason}");
    viewer.terminate();
    viewer.end(END);
}

#[test]
fn two_homes_behind_one_providers_nat_that_does_not_hairpin_are_relayed_where_the_daemon_does() {
    if !permitted_with_delay() {
        return;
    }
    let lab = Lab::up(&[
        "--delay",
        LINE,
        "server:public",
        "viewer:nat=eim-apdf,eim-apdf",
        "caster:nat=eim-apdf@viewer",
    ]);
    let (_daemon, server) = daemon_with(&lab, &["--relay", "on"]);

    cast_in(&lab, Some(&server), &["relayed"]);
}

/// Their access point lets them reach the router alone, so the way leads through its outside address and back.
#[test]
fn two_guests_kept_apart_on_one_network_are_linked_where_its_nat_hairpins() {
    if !permitted_with_delay() {
        return;
    }
    every_time(repeats(), |index| {
        let kind = ["nat=eim-apdf-hairpin+apart", "nat=eim-eif-hairpin+apart"][index as usize % 2];
        cast_between(kind, "lan=viewer+apart", &["punched"]);
    });
}

/// Over IPv4 nothing can be done: both NATs draw their ports. The firewalls on IPv6 are opened from within.
#[test]
fn two_firewalls_are_punched_over_ipv6_where_ipv4_cannot_be() {
    if !permitted_with_delay() {
        return;
    }
    every_time(repeats(), |index| {
        let topology =
            ["--delay", LINE, "server:public+v6", "viewer:nat=apdm-apdf+v6", "caster:nat=apdm-apdf+v6"];
        let lab = Lab::up(&topology);
        let (_daemon, server) = daemon_by_name(&lab);

        let link = cast_in(&lab, Some(&server), &["public", "reverse", "punched"]);

        let remote: SocketAddr = text(&link, "remote").parse().expect("an address and a port");
        assert!(remote.is_ipv6(), "try {index}: {link}");
    });
}
