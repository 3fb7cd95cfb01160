//! A cast on this machine's loopback: daemon, viewer and caster, as a user's script starts them.

use crate::lab::binary;
use crate::program::Program;
use crate::scene::{END, LINK, START, text};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

/// A viewer and a caster that are linked.
pub(crate) struct Home {
    _daemon: Program,
    pub(crate) viewer: Program,
    pub(crate) caster: Program,
    ticket: String,
    /// How often the caster was killed.
    lost: usize,
    /// Where players find the viewer's picture.
    pub(crate) player_url: String,
    /// Where the caster takes a stream from, if it takes one.
    publisher_url: Option<String>,
}

impl Home {
    /// A cast of `source`, recorded to `record`.
    pub(crate) fn cast(source: &str, input: Stdio, record: &Path) -> Self {
        let (daemon, [server, assist]) = daemon();
        let mut viewer = Program::start(
            "viewer",
            Command::new(binary("punchcast"))
                .args(["view", "--json", "--page", "none", "--rtmp", "127.0.0.1:0", "--server"])
                .args([&server, "--assist", &assist])
                .arg("--record")
                .arg(record),
        );
        let ready = viewer.event("ready", START);
        let ticket = text(&ready, "ticket");
        let (caster, publisher_url) = caster(&ticket, source, input);
        viewer.event("link", LINK);
        let player_url = text(&ready, "rtmp");
        Self { _daemon: daemon, viewer, caster, ticket, lost: 0, player_url, publisher_url }
    }

    /// A cast of what a program will publish.
    pub(crate) fn for_publisher(record: &Path) -> Self {
        Self::cast("rtmp", Stdio::null(), record)
    }

    /// Kills the caster, and starts another one with the same ticket for another publisher.
    pub(crate) fn recast(&mut self) {
        self.caster.kill();
        self.viewer.event("lost", LINK);
        self.lost += 1;
        (self.caster, self.publisher_url) = caster(&self.ticket, "rtmp", Stdio::null());
        self.viewer.event("link", LINK);
    }

    /// Where a program publishes to.
    pub(crate) fn publisher_url(&self) -> &str {
        self.publisher_url.as_deref().expect("its source is the RTMP port")
    }

    /// Waits until the publisher has left and all that it sent is in, and ends the cast in order.
    pub(crate) fn end_after_publisher(mut self) {
        while self.caster.event("publisher", END)["joined"] != false {}
        self.caster.terminate();
        self.end();
    }

    /// Waits for the cast to end in order.
    pub(crate) fn end(mut self) {
        self.caster.succeeds(END);
        self.viewer.event("cast-end", END);
        self.viewer.terminate();
        self.viewer.succeeds(END);
        assert_eq!(self.viewer.events("lost").len(), self.lost, "{}", self.viewer.report());
        let dropped = self.caster.events("stats").last().map(|stats| stats["dropped"].clone());
        assert_eq!(dropped, Some(0.into()), "{}", self.caster.report());
    }
}

/// Starts a caster, and waits for its link. Where it takes a stream from comes with it.
fn caster(ticket: &str, source: &str, input: Stdio) -> (Program, Option<String>) {
    let mut command = Command::new(binary("punchcast"));
    command.args(["cast", ticket, "--json", "--source", source]);
    if source == "rtmp" {
        command.args(["--rtmp", "127.0.0.1:0"]);
    }
    let mut caster = Program::fed("caster", &mut command, input);
    let ready = caster.event("ready", START);
    let publisher_url = ready["rtmp"].as_str().map(str::to_owned);
    caster.event("link", LINK);
    (caster, publisher_url)
}

/// Runs a command to its end, which must be success.
pub(crate) fn alone(command: &mut Command) {
    let status = command.stdin(Stdio::null()).status().expect("it can be started");
    assert!(status.success(), "{status} of {command:?}");
}

/// A daemon on free ports. Its main port, and what tells clients of the other one.
pub(crate) fn daemon() -> (Program, [String; 2]) {
    let mut command = Command::new(binary("punchcastd"));
    let mut daemon =
        Program::start("daemon", command.args(["--main", "127.0.0.1:0", "--assist", "127.0.0.1:0"]));
    let ready = daemon.line(START, |line| line.starts_with("ready "));
    let field = |name: &str| {
        let found = ready.split_whitespace().find_map(|word| word.strip_prefix(name));
        found.unwrap_or_else(|| panic!("no {name} in {ready:?}")).to_owned()
    };
    let assist: SocketAddr = field("assist=").parse().expect("an address and a port");
    (daemon, [field("main="), assist.port().to_string()])
}
