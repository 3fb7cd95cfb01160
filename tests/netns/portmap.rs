//! Routers that forward ports on request: miniupnpd on the NAT, asked by each of the three protocols.

use crate::lab::{Lab, permitted};
use crate::scene::{END, LINK, START, caster, daemon, lasting_viewer, text, viewer};
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

/// A pair of NATs that no punch gets through: what links them is the mapping.
const HOMES: [&str; 3] = ["server:public", "viewer:nat=apdm-apdf+upnp", "caster:nat=apdm-apdf"];

/// Within this a program removes its mappings: it waits for a second at most.
const GONE: Duration = Duration::from_secs(2);

/// How often the router is looked at.
const GLANCE: Duration = Duration::from_millis(50);

/// What miniupnpd forwards on the NAT before `host`: the lines of its own rules.
fn forwarded(lab: &Lab, host: &str) -> Vec<String> {
    let rules = ["list chain inet miniupnpd prerouting", "list chain inet filter pinholes"];
    let list = |rule: &str| {
        let args = rule.split(' ');
        let output = lab.command(&format!("{host}-nat"), "nft").args(args).output().expect("nft runs");
        assert!(output.status.success(), "{rule}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let of_port = |line: &str| line.contains("dport").then(|| line.trim().to_owned());
    rules.iter().flat_map(|rule| list(rule).lines().filter_map(of_port).collect::<Vec<_>>()).collect()
}

/// Waits until these alone are forwarded.
fn comes_to(lab: &Lab, host: &str, expected: &[String]) {
    let deadline = Instant::now() + GONE;
    loop {
        let left = forwarded(lab, host);
        if left == expected {
            return;
        }
        assert!(Instant::now() < deadline, "still forwarded: {left:#?}");
        thread::park_timeout(GLANCE);
    }
}

fn nothing_is_left(lab: &Lab, host: &str) {
    comes_to(lab, host, &[]);
}

/// A mapping by `protocol` alone is made, is the way in of a link, and is removed at the end.
fn links_by(option: &str, protocol: &str) {
    let lab = Lab::up(&HOMES);
    let (_daemon, server) = daemon(&lab);
    let (mut viewer, ticket) = viewer(&lab, Some(&server), &["--port-mapping", option]);
    let mapped = viewer.event("mapped", START);
    assert_eq!(mapped["mappings"][0]["protocol"], protocol, "{mapped}");
    let endpoint = text(&mapped["mappings"][0], "endpoint");
    assert!(!forwarded(&lab, "viewer").is_empty(), "the router knows of it");

    let mut caster = caster(&lab, "caster", &ticket, 1);

    let link = caster.event("link", LINK);
    assert_eq!(text(&link, "remote"), endpoint, "{link}");
    let rungs = [text(&link, "rung"), text(&viewer.event("link", LINK), "rung")];
    assert_eq!(rungs, ["port-mapped", "port-mapped"], "{}{}", caster.report(), viewer.report());
    viewer.event("first-frame", LINK);
    caster.succeeds(END);
    viewer.succeeds(END);
    nothing_is_left(&lab, "viewer");
}

#[test]
fn a_port_mapped_by_pcp_links_what_cannot_be_punched() {
    if permitted() {
        links_by("pcp", "PCP");
    }
}

#[test]
fn a_port_mapped_by_nat_pmp_links_what_cannot_be_punched() {
    if permitted() {
        links_by("nat-pmp", "NAT-PMP");
    }
}

#[test]
fn a_port_mapped_by_upnp_links_what_cannot_be_punched() {
    if permitted() {
        links_by("upnp", "UPnP-IGD");
    }
}

#[test]
fn a_mapping_before_the_caster_links_too_though_it_comes_with_the_introduction() {
    if !permitted() {
        return;
    }
    let lab = Lab::up(&["server:public", "viewer:nat=apdm-apdf", "caster:nat=apdm-apdf+upnp"]);
    let (_daemon, server) = daemon(&lab);
    let (mut viewer, ticket) = viewer(&lab, Some(&server), &[]);
    let mut caster = caster(&lab, "caster", &ticket, 1);
    let rungs = [text(&caster.event("link", LINK), "rung"), text(&viewer.event("link", LINK), "rung")];
    assert_eq!(rungs, ["port-mapped", "port-mapped"], "{}{}", caster.report(), viewer.report());
    caster.succeeds(END);
    viewer.succeeds(END);
    nothing_is_left(&lab, "caster");
}

#[test]
fn a_viewer_that_leaves_takes_its_mapping_along_while_the_cast_goes_on_to_another() {
    if !permitted() {
        return;
    }
    let lab = Lab::up(&["server:public", "viewer:public", "caster:nat=apdm-apdf+upnp"]);
    let (_daemon, server) = daemon(&lab);
    let (mut leaves, first) = lasting_viewer(&lab, Some(&server), &[]);
    let (mut stays, second) = lasting_viewer(&lab, Some(&server), &[]);
    let options = ["--source", "pattern", "--port-mapping", "pcp", "--json"];
    let mut caster = lab.spawn("caster", "punchcast", ["cast", &first, &second].iter().chain(&options));
    let mapped = [caster.event("mapped", START), caster.event("mapped", START)];
    let kept = mapped.iter().find(|mapped| mapped["viewer"] == 2).expect("one for each viewer");
    let endpoint: SocketAddr = text(&kept["mappings"][0], "endpoint").parse().expect("an endpoint");
    let is_kept = |rule: &String| rule.contains(&format!("dport {} ", endpoint.port()));
    let rules = forwarded(&lab, "caster");
    let kept: Vec<String> = rules.iter().filter(|rule| is_kept(rule)).cloned().collect();
    assert_eq!((rules.len(), kept.len()), (4, 2), "{rules:#?}");
    leaves.event("first-frame", LINK);
    stays.event("first-frame", LINK);

    leaves.terminate();

    assert_eq!(caster.event("viewer-end", LINK)["viewer"], 1);
    comes_to(&lab, "caster", &kept);
    stays.pass_by();
    stays.event("stats", LINK);
    caster.terminate();
    caster.succeeds(END);
    nothing_is_left(&lab, "caster");
}

#[test]
fn a_short_lease_is_renewed_as_long_as_the_program_runs_and_goes_with_an_interrupt() {
    if !permitted() {
        return;
    }
    // Four seconds: renewed each two.
    let lab = Lab::up(&["server:public", "viewer:nat=apdm-apdf+upnp=4", "caster:nat=apdm-apdf"]);
    let (_daemon, server) = daemon(&lab);
    let (mut viewer, ticket) = viewer(&lab, Some(&server), &["--port-mapping", "pcp"]);
    viewer.event("mapped", START);
    let rules = forwarded(&lab, "viewer");
    assert_eq!(rules.len(), 2, "{rules:#?}");
    let until = Instant::now() + Duration::from_secs(10);
    let mut missing = 0;
    while Instant::now() < until {
        // This router renews by taking a rule out and putting it in again, which a look can fall between.
        missing = if forwarded(&lab, "viewer") == rules { 0 } else { missing + 1 };
        assert!(missing < 2, "{:#?}{}", forwarded(&lab, "viewer"), viewer.report());
        thread::park_timeout(GLANCE);
    }
    let mut caster = caster(&lab, "caster", &ticket, 1);
    assert_eq!(text(&caster.event("link", LINK), "rung"), "port-mapped");
    viewer.terminate();
    assert!(viewer.end(END).success(), "{}", viewer.report());
    nothing_is_left(&lab, "viewer");
}

#[test]
fn a_router_that_forgets_in_mid_cast_is_asked_again_and_the_link_comes_back() {
    if !permitted() {
        return;
    }
    let lab = Lab::up(&HOMES);
    let (_daemon, server) = daemon(&lab);
    // One that stays when its link is lost.
    let mut viewer =
        lab.spawn("viewer", "punchcast", ["view", "--json", "--server", &server, "--page", "none"]);
    let ticket = text(&viewer.event("ready", START), "ticket");
    viewer.event("mapped", START);
    let mut caster = caster(&lab, "caster", &ticket, 60);
    assert_eq!(text(&caster.event("link", LINK), "rung"), "port-mapped");
    viewer.event("first-frame", LINK);

    for chain in ["inet miniupnpd prerouting", "inet filter pinholes"] {
        let flush = ["flush", "chain"].into_iter().chain(chain.split(' '));
        let flushed = lab.command("viewer-nat", "nft").args(flush).status();
        assert!(flushed.is_ok_and(|status| status.success()), "{chain}");
    }
    lab.forget("viewer");

    caster.event("lost", LINK);
    assert_eq!(text(&caster.event("link", LINK), "rung"), "port-mapped", "{}", viewer.report());
    assert!(!forwarded(&lab, "viewer").is_empty());
    viewer.terminate();
    viewer.end(END);
    nothing_is_left(&lab, "viewer");
}

#[test]
fn pcp_opens_a_pinhole_for_ipv6_beside_the_mapping_for_ipv4() {
    if !permitted() {
        return;
    }
    let lab = Lab::up(&["server:public", "viewer:nat=apdm-apdf+v6+upnp"]);
    let (_daemon, server) = daemon(&lab);
    let (mut viewer, _ticket) = viewer(&lab, Some(&server), &[]);
    let both = |event: &serde_json::Value| event["mappings"].as_array().is_some_and(|list| list.len() == 2);
    let mut mapped = viewer.event("mapped", START);
    if !both(&mapped) {
        mapped = viewer.event("mapped", START);
    }
    assert!(both(&mapped), "{mapped}");
    assert!(mapped.to_string().contains("\"[2001:db8:2:1::10]:"), "{mapped}");
    assert_eq!(forwarded(&lab, "viewer").len(), 3, "a translation, its filter, and a pinhole");
    viewer.terminate();
    assert!(viewer.end(END).success(), "{}", viewer.report());
    nothing_is_left(&lab, "viewer");
}

#[test]
fn who_wants_no_port_mapping_asks_for_none() {
    if !permitted() {
        return;
    }
    let lab = Lab::up(&HOMES);
    let (_daemon, server) = daemon(&lab);
    let (mut viewer, ticket) = viewer(&lab, Some(&server), &["--no-port-mapping"]);
    let mut caster = caster(&lab, "caster", &ticket, 1);
    // Both sides are behind random NATs, and trying takes longer than any router to answer.
    viewer.event("introduced", LINK);
    caster.event("introduced", LINK);
    assert_eq!(forwarded(&lab, "viewer"), Vec::<String>::new());
    assert!(viewer.events("mapped").is_empty(), "{}", viewer.report());
    assert!(caster.events("link").is_empty(), "{}", caster.report());
}
