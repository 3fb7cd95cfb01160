//! `punchcast check` behind each kind of NAT: does it find the words by which the lab was laid?

use crate::lab::{Lab, permitted};
use crate::scene::{END, START, daemon, daemon_with, text};
use serde_json::json;

const NOT_TRANSLATED: &str = "no address translation";
const MAPPED_INDEPENDENTLY: &str = "endpoint-independent mapping";
const MAPPED_BY_BOTH: &str = "address-and-port-dependent mapping";
/// What can be said with one address of the daemon.
const MAPPED_NOT_BY_PORT: &str = "mapping independent of the port (of the address: not measured)";

const KEPT: &str = "ports preserved";
const NO_NAT: &str = "ports preserved (no NAT chooses any)";
const DRAWN: &str = "ports without a pattern";
const COUNTED: &str = "ports in sequence, step 1";

const LETS_IN_ALL: &str = "endpoint-independent filtering";
const BY_ADDRESS: &str = "address-dependent filtering";
const BY_BOTH: &str = "address-and-port-dependent filtering";
/// What can be said with one address of the daemon.
const NOT_BY_PORT: &str = "filtering independent of the port (of the address: not measured)";

/// A kind of the lab; its allocation; its mapping and filtering with a second address of the daemon, and without.
type Row = (&'static str, &'static str, [&'static str; 2], [&'static str; 2]);

const ROWS: [Row; 7] = [
    ("public", NO_NAT, [NOT_TRANSLATED, LETS_IN_ALL], [NOT_TRANSLATED, NOT_BY_PORT]),
    ("firewall", NO_NAT, [NOT_TRANSLATED, BY_BOTH], [NOT_TRANSLATED, BY_BOTH]),
    ("nat=eim-apdf", KEPT, [MAPPED_INDEPENDENTLY, BY_BOTH], [MAPPED_NOT_BY_PORT, BY_BOTH]),
    ("nat=eim-adf", KEPT, [MAPPED_INDEPENDENTLY, BY_ADDRESS], [MAPPED_NOT_BY_PORT, NOT_BY_PORT]),
    ("nat=eim-eif", KEPT, [MAPPED_INDEPENDENTLY, LETS_IN_ALL], [MAPPED_NOT_BY_PORT, NOT_BY_PORT]),
    ("nat=apdm-apdf", DRAWN, [MAPPED_BY_BOTH, BY_BOTH], [MAPPED_BY_BOTH, BY_BOTH]),
    ("nat=apdm-apdf-seq", COUNTED, [MAPPED_BY_BOTH, BY_BOTH], [MAPPED_BY_BOTH, BY_BOTH]),
];

/// What a check behind `kind` says of mapping, allocation and filtering; then, of peers behind NATs (stable, in sequence,
/// random), by which rung they are reached in casting.
fn checked(kind: &str, alternate: bool) -> ([String; 3], Vec<String>) {
    let lab = Lab::up(&["server:public", &format!("client:{kind}")]);
    let (_daemon, server) = if alternate {
        daemon_with(&lab, &["--alternate", &lab.second_addr("server")])
    } else {
        daemon(&lab)
    };
    let mut check = lab.spawn("client", "punchcast", ["check", "--server", &server, "--json"]);
    let report = check.event("check", START);
    check.succeeds(END);
    assert_eq!(report["alternate"], alternate, "{report}");
    assert_eq!(check.said().len(), 1, "one object, and no more{}", check.report());
    let peers = report["peers"].as_array().unwrap_or_else(|| panic!("no peers in {report}"));
    let rung = |peer: &serde_json::Value| peer["casting"].as_str().unwrap_or("none").to_owned();
    println!("{report:#}");
    (
        ["mapping", "allocation", "filtering"].map(|field| text(&report, field)),
        peers[2..].iter().map(rung).collect(),
    )
}

fn all_rows(alternate: bool) {
    let rungs = |kind| match kind {
        "public" | "firewall" => ["reverse"; 3],
        "nat=eim-apdf" => ["punched", "predicted", "predicted"],
        "nat=eim-adf" | "nat=eim-eif" => ["punched"; 3],
        "nat=apdm-apdf-seq" => ["predicted", "predicted", "none"],
        "nat=apdm-apdf" => ["predicted", "none", "none"],
        other => panic!("what is {other}?"),
    };
    let mut wrong = Vec::new();
    for (kind, allocation, with, without) in ROWS {
        let [mapping, filtering] = if alternate { with } else { without };
        let (said, reached) = checked(kind, alternate);
        if said != [mapping, allocation, filtering] || reached != rungs(kind) {
            wrong.push(format!("{kind}: {said:?}, {reached:?}"));
        }
    }
    assert!(wrong.is_empty(), "second address: {alternate}\n{}", wrong.join("\n"));
}

#[test]
fn a_check_names_every_kind_of_nat_with_a_second_address_of_the_daemon() {
    if permitted() {
        all_rows(true);
    }
}

#[test]
fn a_check_with_one_address_of_the_daemon_says_what_it_cannot_know() {
    if permitted() {
        all_rows(false);
    }
}

#[test]
fn a_check_without_a_daemon_says_so_at_once_and_fails() {
    if !permitted() {
        return;
    }
    let lab = Lab::up(&["server:public", "client:nat"]);
    let server = lab.public_addr("server");
    let mut check = lab.spawn("client", "punchcast", ["check", "--server", &server, "--json"]);
    let end = check.event("end", START);
    assert_eq!(end["ok"], false);
    assert!(text(&end, "reason").contains("punchcastd"), "{end}");
    assert_eq!(check.end(END).code(), Some(1), "{}", check.report());
}

#[test]
fn a_check_with_a_wrong_assist_port_names_it_promises_nothing_and_fails() {
    if !permitted() {
        return;
    }
    let lab = Lab::up(&["server:public", "client:nat"]);
    let (_daemon, server) = daemon(&lab);
    let arguments = ["check", "--server", &server, "--assist", "9", "--json"];
    let mut check = lab.spawn("client", "punchcast", arguments);
    let report = check.event("check", START);
    assert_eq!(check.end(END).code(), Some(1), "{}", check.report());
    assert_eq!(report["assist"]["reached"], false, "{report:#}");
    assert!(text(&report["assist"], "address").ends_with(":9"), "{report:#}");
    for peer in &report["peers"].as_array().unwrap()[1..] {
        assert_eq!(peer["outlook"], "not known", "{report:#}");
    }
}

#[test]
fn a_check_tells_which_protocols_the_router_speaks_and_what_that_is_good_for() {
    if !permitted() {
        return;
    }
    let none = json!({"upnp": false, "pcp": false, "nat_pmp": false});
    let all = json!({"upnp": true, "pcp": true, "nat_pmp": true});
    let not_asked = json!({"upnp": null, "pcp": null, "nat_pmp": null});
    for (kind, speaks, random) in [
        ("nat=apdm-apdf+upnp", all, json!("port-mapped")),
        ("nat=apdm-apdf", none, json!(null)),
        ("public", not_asked, json!("reverse")),
    ] {
        let lab = Lab::up(&["server:public", &format!("client:{kind}")]);
        let (_daemon, server) = daemon(&lab);
        let mut check = lab.spawn("client", "punchcast", ["check", "--server", &server, "--json"]);
        let report = check.event("check", START);
        check.succeeds(END);
        assert_eq!(report["port_mapping"], speaks, "{kind}: {report:#}");
        assert_eq!(report["peers"][4]["casting"], random, "{kind}: {report:#}");
    }
}
