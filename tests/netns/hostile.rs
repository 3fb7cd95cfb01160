//! Strangers at the ports of a running cast see no picture and disturb nobody.

use crate::lab::{Lab, permitted};
use crate::program::Program;
use crate::recording::{Recording, assert_no_gap};
use crate::scene::{END, LINK, caster, daemon, text, viewer};
use punchcast::ticket::Ticket;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

/// The cast's length, which must outlast every attack.
const SECONDS: u32 = 40;

/// The longest that a stranger may hold a connection open, with what the machine's load adds.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a stranger may be told at the viewer's port, in bytes: nothing, for the caster speaks first.
const TOLD_BY_VIEWER: usize = 0;

/// What a stranger may be told at the caster's port, in bytes: its first message, 51 bytes that only the viewer reads.
const TOLD_BY_CASTER: usize = 59;

/// What is sent by those who do not shake hands. Run by bash with the connection as descriptor 3.
const OPENINGS: [(&str, &str); 5] = [
    ("nothing, ever", ":"),
    ("noise", "head -c 4096 /dev/urandom >&3"),
    ("a lot of noise", "head -c 4000000 /dev/urandom >&3"),
    ("a web browser's request", r"printf 'GET / HTTP/1.1\r\nHost: x\r\n\r\n' >&3"),
    ("an RTMP handshake", r"{ printf '\003'; head -c 1536 /dev/zero; } >&3"),
];

/// Connects to `target` from `host` and sends an opening; what came back, in bytes. A refusal is zero bytes.
fn told(lab: &Lab, host: &str, target: SocketAddr, opening: &str) -> usize {
    let script = format!(
        "trap '' PIPE
         exec 3<>/dev/tcp/{}/{} 2>/dev/null || {{ echo 0; exit; }}
         ( {opening} ) 2>/dev/null
         cat <&3 2>/dev/null | wc -c",
        target.ip(),
        target.port()
    );
    let output = lab
        .command(host, "timeout")
        .args([&PATIENCE.as_secs().to_string(), "bash", "-c", &script])
        .stderr(Stdio::null())
        .output()
        .expect("bash runs");
    assert!(output.status.success(), "{target} kept a stranger for {PATIENCE:?} who did: {opening}");
    String::from_utf8_lossy(&output.stdout).trim().parse().expect("wc counts")
}

/// A caster that must not be let in; it has to give up by itself, without a link.
fn is_turned_away(mut stranger: Program) {
    let status = stranger.end(PATIENCE * 2);
    assert_eq!(status.code(), Some(1), "{}", stranger.report());
    assert!(stranger.events("link").is_empty(), "{}", stranger.report());
}

fn hole(link: &serde_json::Value) -> SocketAddr {
    text(link, "local").parse().expect("an address and a port")
}

#[test]
fn strangers_neither_see_nor_disturb_a_running_cast() {
    if !permitted() {
        return;
    }
    // A stranger in each home: the NATs keep everybody else out already.
    let lab = Lab::up(&[
        "server:public",
        "viewer:nat",
        "caster:nat",
        "guest:lan=viewer",
        "lodger:lan=caster",
        "outsider:public",
    ]);
    let recording = Recording::new();
    let (_daemon, server) = daemon(&lab);
    let path = recording.path().to_str().expect("temporary names are text");
    let (mut viewer, ticket) = viewer(&lab, Some(&server), &["--record", path]);
    let mut caster = caster(&lab, "caster", &ticket, SECONDS);
    let viewers_port = hole(&viewer.event("link", LINK));
    let casters_port = hole(&caster.event("link", LINK));
    viewer.event("first-frame", LINK);

    let genuine: Ticket = ticket.parse().expect("a viewer's ticket");
    let mut wrong_secret = genuine.clone();
    wrong_secret.secret.0[0] ^= 1;
    let mut wrong_key = genuine;
    wrong_key.viewer_key.0[31] ^= 1;
    std::thread::scope(|scope| {
        for (host, target, most) in
            [("guest", viewers_port, TOLD_BY_VIEWER), ("lodger", casters_port, TOLD_BY_CASTER)]
        {
            for (what, opening) in OPENINGS {
                let lab = &lab;
                scope.spawn(move || {
                    let bytes = told(lab, host, target, opening);
                    assert!(bytes <= most, "{bytes} bytes for a stranger who sends {what}");
                });
            }
        }
        for ticket in [&wrong_secret, &wrong_key] {
            for host in ["guest", "outsider"] {
                let stranger = crate::scene::caster(&lab, host, &ticket.to_string(), 1);
                scope.spawn(move || is_turned_away(stranger));
            }
        }
    });

    // The cast is still the same one, and runs.
    viewer.pass_by();
    let stats = viewer.event("stats", LINK);
    assert!(stats["frames"].as_u64() > Some(0), "{stats}{}", viewer.report());
    caster.terminate();
    caster.end(END);
    viewer.end(END);
    assert_eq!(viewer.events("link").len(), 1, "{}", viewer.report());
    assert!(viewer.events("lost").is_empty(), "{}", viewer.report());
    let numbers = recording.frame_numbers();
    assert!(!numbers.is_empty());
    assert_no_gap(&numbers);
}
