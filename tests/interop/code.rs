//! Short codes as a user meets them: printed by `view`, typed at `cast`, on this machine's loopback.

use crate::home;
use crate::lab::binary;
use crate::program::Program;
use crate::scene::{END, LINK, START, text};
use crate::tool::Scratch;
use std::process::{Command, Output, Stdio};

/// A daemon and a viewer with its page, which tells its first code.
fn viewer(scratch: &Scratch) -> (Program, Program, String, String) {
    let (daemon, [server, assist]) = home::daemon();
    let mut viewer = Program::start(
        "viewer",
        Command::new(binary("punchcast"))
            .args(["view", "--json", "--once", "--no-port-mapping", "--server", &server, "--assist", &assist])
            .arg("--snapshot")
            .arg(scratch.file("last.png")),
    );
    let page = text(&viewer.event("ready", START), "page");
    let code = text(&viewer.event("code", START), "code");
    (daemon, viewer, page, code)
}

/// What a caster of `code` says and how it ends, when it gets no ticket.
fn refused(code: &[&str]) -> Output {
    let mut command = Command::new("timeout");
    command.arg("30").arg(binary("punchcast")).args(["cast", "--no-port-mapping", "--source", "pattern"]);
    command.args(code).stdin(Stdio::null()).output().expect("coreutils are everywhere")
}

fn assert_refused(code: &[&str], exit: i32, part: &str) {
    let output = refused(code);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(exit), "{code:?}: {said}");
    assert!(said.contains(part), "{code:?}: {said}");
}

/// The code with other words.
fn wrong(code: &str) -> String {
    let (code, server) = code.split_once('@').expect("a code names its server");
    let (number, words) = code.split_once('-').expect("a number and words");
    let words = if words == "tiger-lamp" { "tiger-lion" } else { "tiger-lamp" };
    format!("{number}-{words}@{server}")
}

#[test]
fn a_code_that_is_typed_becomes_a_picture() {
    let scratch = Scratch::new();
    let (_daemon, mut viewer, page, code) = viewer(&scratch);
    let shown = Command::new("curl").args(["-s", &format!("{page}status.json")]).output();
    if let Ok(shown) = shown {
        assert!(String::from_utf8_lossy(&shown.stdout).contains(&code), "the page shows it, too");
    }
    // In capitals, with blanks, and the server apart.
    let (spoken, server) = code.split_once('@').expect("a code names its server");
    let spoken = spoken.to_uppercase();
    let mut caster = Program::start(
        "caster",
        Command::new(binary("punchcast"))
            .args(["cast", "--json", "--no-port-mapping", "--source", "pattern", "--duration", "2"])
            .args(["--server", server])
            .args(spoken.split('-')),
    );
    viewer.event("code-used", LINK);
    caster.event("link", LINK);
    viewer.event("first-frame", LINK);
    caster.succeeds(END);
    viewer.succeeds(END);
    assert!(scratch.file("last.png").exists());
}

#[test]
fn a_wrong_code_is_told_and_the_third_time_withdrawn() {
    let scratch = Scratch::new();
    let (mut daemon, mut viewer, _, code) = viewer(&scratch);
    for left in [2, 1] {
        assert_refused(&[&wrong(&code)], 1, "the code's words are wrong");
        assert_eq!(viewer.event("wrong-code", LINK)["left"], left);
    }
    assert_refused(&[&wrong(&code)], 1, "the code's words are wrong");
    let withdrawn = viewer.event("code", LINK);
    assert!(withdrawn["code"].is_null() && withdrawn["why"].is_string(), "{withdrawn}");
    let next = text(&viewer.event("code", LINK), "code");
    assert_ne!(next, code);
    assert_refused(&[&code], 1, "no viewer shows a code with the number");
    // What is no code at all never comes so far.
    let (spoken, server) = next.split_once('@').expect("a code names its server");
    assert_refused(&["427-tigre-lamp", "--server", server], 2, "was it \"tiger\"?");
    assert_refused(&[spoken], 2, "--server HOST");
    daemon.terminate();
    daemon.end(END);
    assert_refused(&[&next], 1, "could not be reached");
    viewer.terminate();
}

#[test]
fn view_prints_the_code_after_the_ticket_and_none_without_a_daemon() {
    let (_daemon, [server, assist]) = home::daemon();
    let mut view = Program::start(
        "viewer",
        Command::new(binary("punchcast"))
            .args(["view", "--no-port-mapping", "--page", "none"])
            .args(["--server", &server, "--assist", &assist]),
    );
    let is_ticket = |line: &str| line.starts_with("punchcast://");
    view.line(START, is_ticket);
    let code = view.line(START, |line| line.ends_with(&format!("@{server}")) && !line.contains(' '));
    assert!(code.as_bytes()[0].is_ascii_digit(), "{code}");
    view.terminate();
    view.end(END);
    let lines = view.said();
    let at = |found: &dyn Fn(&str) -> bool| lines.iter().position(|line| found(line));
    assert!(at(&is_ticket) < at(&|line| *line == code), "{lines:?}");
    let mut alone = Command::new("timeout");
    alone.args(["-s", "INT", "1"]).arg(binary("punchcast"));
    let output = alone.args(["view", "--json", "--no-port-mapping", "--page", "none"]).output();
    let said = String::from_utf8_lossy(&output.expect("coreutils are everywhere").stdout).into_owned();
    assert!(said.contains("\"ready\"") && !said.contains("\"code\""), "{said}");
}

#[test]
fn a_terminal_shows_the_code_once_and_scripts_have_it_on_a_line_of_its_own() {
    let view = |server: &str, assist: &str| {
        let viewer = binary("punchcast").display().to_string();
        format!("exec '{viewer}' view --page none --no-port-mapping --server {server} --assist {assist}")
    };
    let runs = [("script", &["-qefc"][..], &["/dev/null"][..], 1), ("sh", &["-c"], &[], 2)];
    for (program, before, after, times) in runs {
        let (mut daemon, [server, assist]) = home::daemon();
        let mut command = Command::new(program);
        // Without a terminal of its own, talk and results come together as on one.
        let both = if program == "sh" { " 2>&1" } else { "" };
        command.args(before).arg(view(&server, &assist) + both).args(after).env("TERM", "xterm");
        let mut viewer = Program::fed(program, &mut command, Stdio::piped());
        let shown = viewer.line(START, |line| line.contains("Or by the short code"));
        let code = shown.trim().rsplit_once(' ').expect("words before it").1.to_owned();
        daemon.terminate();
        viewer.line(START, |line| line.contains("no daemon at"));
        let seen = viewer.said().iter().filter(|line| line.contains(&code)).count();
        assert_eq!(seen, times, "{program}: {}", viewer.report());
    }
}

#[test]
fn a_terminal_shows_the_tickets_qr_code_black_on_white_where_it_is_wide_enough() {
    let viewer = binary("punchcast").display().to_string();
    for (columns, fits) in [(120, true), (40, false)] {
        let view = format!("stty cols {columns}; exec '{viewer}' view --page none --no-port-mapping");
        let mut command = Command::new("script");
        command.args(["-qefc", &view, "/dev/null"]).env("TERM", "xterm").env_remove("NO_COLOR");
        let mut viewer = Program::fed("script", &mut command, Stdio::piped());
        viewer.line(START, |line| line.contains("punchcast cast '"));
        let said = viewer.said();
        let drawn: Vec<_> = said.iter().filter(|line| line.contains(['▀', '▄'])).collect();
        let left_out = said.iter().any(|line| line.contains("QR code needs") && line.contains("has 40"));
        assert_eq!((drawn.is_empty(), left_out), (!fits, !fits), "{}", viewer.report());
        assert!(drawn.iter().all(|line| line.contains("\x1b[30;107m")), "{drawn:?}");
    }
}
