//! Several real casters, one real viewer, its page in a real browser; and who may see the page from elsewhere.

use super::{program, scratch};
use crate::browser::chromium::Chromium;
use crate::lab::{Lab, binary, permitted};
use crate::program::Program;
use crate::scene::{END, LINK, START, text};
use crate::tool::{Scratch, have, packets, probe};
use serde_json::Value;
use std::ffi::OsStr;
use std::process::Command;

/// A viewer on this machine's loopback; its ticket.
fn viewer(more: &[&str]) -> (Program, String) {
    let mut command = Command::new(binary("punchcast"));
    command.args(["view", "--json", "--no-port-mapping", "--page", "127.0.0.1:0"]).args(more);
    let mut viewer = Program::start("viewer", &mut command);
    let ticket = text(&viewer.event("ready", START), "ticket");
    (viewer, ticket)
}

fn caster(ticket: &str) -> Program {
    let mut command = Command::new(binary("punchcast"));
    command.args(["cast", ticket, "--json", "--no-port-mapping", "--source", "pattern"]);
    let mut caster = Program::start("caster", &mut command);
    caster.event("link", LINK);
    caster
}

#[test]
fn two_casters_with_one_ticket_are_seen_played_and_recorded() {
    let Some(browser) = program() else { return };
    if !have(&["ffprobe"]) {
        return;
    }
    let files = Scratch::new();
    let (first, second) = (files.file("cast.flv"), files.file("cast-2.flv"));
    let record = first.to_str().expect("cargo's paths are text");
    let (mut viewer, ticket) = viewer(&["--rtmp", "127.0.0.1:0", "--record", record]);
    let ready = viewer.events("ready")[0].clone();
    let mut browser = Chromium::start(&browser, &scratch(), (1280, 720));
    browser.open(&text(&ready, "page"));

    let mut casters = [caster(&ticket), caster(&ticket)];
    browser.wait_for("punchcast.tiles.get(0)?.frames > 30 && punchcast.tiles.get(1)?.frames > 30");
    let links = viewer.events("link");
    let places: Vec<_> = links.iter().map(|link| &link["cast"]).collect();
    assert_eq!(places, [&Value::Null, &Value::from(2)], "{}", viewer.report());
    // They have their places in the order in which they told of their links.
    for (caster, link) in casters.iter_mut().zip(&links) {
        assert_eq!(caster.events("link")[0]["local"], link["remote"]);
    }
    // The viewer tells both ages, the page adds its own part.
    browser.wait_for(
        "[...document.querySelectorAll('[data-is=age]')].every((age) => / ms, /.test(age.textContent))",
    );

    let url = text(&ready, "rtmp").replace("/live", "/cast-2");
    let codec = probe(
        ["-select_streams", "v", "-show_entries", "stream=codec_name,width", "-read_intervals", "%+1", &url]
            .map(OsStr::new),
    );
    assert_eq!(codec.trim(), "h264|1280");

    let [mut one, mut other] = casters;
    other.kill();
    viewer.event("lost", LINK);
    browser.wait_for("document.querySelector('[data-place=\"1\"]').dataset.phase === 'lost'");
    let before = browser.evaluate("punchcast.tiles.get(0).frames").as_u64().expect("a count");
    let mut other = caster(&ticket);
    browser.wait_for("document.querySelector('[data-place=\"1\"]').dataset.phase === 'live'");
    browser.wait_for(&format!("punchcast.tiles.get(0).frames > {before}"));
    assert_eq!(browser.evaluate("punchcast.tiles.size"), 2, "the same host has its old tile");

    for caster in [&mut one, &mut other] {
        caster.terminate();
        caster.succeeds(END);
        viewer.event("cast-end", END);
    }
    browser.wait_for("punchcast.tiles.size === 0 && document.body.dataset.phase === 'ended'");
    viewer.terminate();
    viewer.succeeds(END);
    for file in [&first, &second] {
        assert!(packets(file, "v").len() > 30, "{}", file.display());
    }
}

#[test]
fn a_viewer_of_one_cast_turns_a_second_caster_away() {
    let (mut viewer, ticket) = viewer(&["--casts", "1"]);
    let mut first = caster(&ticket);
    viewer.event("first-frame", LINK);
    let mut command = Command::new(binary("punchcast"));
    let mut second =
        Program::start("second", command.args(["cast", &ticket, "--json", "--source", "pattern"]));
    viewer.event("busy", LINK);
    second.kill();
    first.terminate();
    first.succeeds(END);
    viewer.terminate();
    viewer.succeeds(END);
}

/// What curl gets: the status, and the body.
fn get(lab: &Lab, host: &str, args: &[&str]) -> (String, String) {
    let mut command = lab.command(host, "curl");
    command.args(["--silent", "--show-error", "--max-time", "10", "--write-out", "\n%{http_code}"]);
    let output = command.args(args).output().expect("curl runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, status) = said.rsplit_once('\n').expect("a status at the end");
    (status.to_owned(), body.to_owned())
}

#[test]
fn from_another_host_the_page_wants_the_links_token() {
    if !have(&["curl"]) || !permitted() {
        return;
    }
    let lab = Lab::up(&["viewer:public", "guest:public"]);
    let addr = lab.public_addr("viewer");
    let mut viewer =
        lab.spawn("viewer", "punchcast", ["view", "--json", "--no-port-mapping", "--page", "0.0.0.0:8080"]);
    let ready = viewer.event("ready", START);
    let (link, ticket) = (text(&ready, "page"), text(&ready, "ticket"));
    let token = link.split_once("/?t=").expect("a token in the link").1.to_owned();
    assert_eq!(link, format!("http://{addr}:8080/?t={token}"));
    assert!(token.len() >= 32, "128 bits: {link}");

    let at = |path: &str| format!("http://{addr}:8080{path}");
    let shows_ticket = |body: &str| body.contains(&ticket);
    for path in [
        "/",
        "/status.json",
        "/qr.svg",
        "/app.js",
        "/status.json?t=0",
        &format!("/status.json?t={}", &token[1..]),
    ] {
        let (status, body) = get(&lab, "guest", &[&at(path)]);
        assert_eq!(status, "403", "{path}");
        assert!(!shows_ticket(&body), "{path}");
    }
    let (status, body) = get(&lab, "guest", &[&at(&format!("/status.json?t={token}"))]);
    assert_eq!(status, "200");
    assert!(shows_ticket(&body));
    // The page's own files come with the cookie that its link gives.
    let jar = "--cookie-jar";
    let cookie = format!("punchcast_8080={token}");
    let (status, _) = get(&lab, "guest", &[&link, jar, "/dev/null"]);
    assert_eq!(status, "200");
    let (status, body) = get(&lab, "guest", &["--cookie", &cookie, &at("/status.json")]);
    assert_eq!((status.as_str(), shows_ticket(&body)), ("200", true));
    // Another site's page in the guest's browser has the cookie, but not our name or our origin.
    let (status, _) = get(&lab, "guest", &["--cookie", &cookie, "--header", "Host: example.net", &at("/")]);
    assert_eq!(status, "421");
    let upgrade = [
        "--cookie",
        &cookie,
        "--http1.1",
        "--header",
        "Connection: Upgrade",
        "--header",
        "Upgrade: websocket",
        "--header",
        "Sec-WebSocket-Version: 13",
        "--header",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "--header",
        "Origin: http://example.net",
    ];
    let (status, _) = get(&lab, "guest", &[&upgrade[..], &[&at("/ws")]].concat());
    assert_eq!(status, "403");
    // Who is on the viewer's own machine needs none.
    let (status, body) = get(&lab, "viewer", &["http://127.0.0.1:8080/status.json"]);
    assert_eq!((status.as_str(), shows_ticket(&body)), ("200", true));
    viewer.terminate();
    viewer.succeeds(END);
}
