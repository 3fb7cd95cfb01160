//! What every test begins with: a daemon that answers, a viewer with a ticket, a caster that was given it.

use crate::lab::Lab;
use crate::program::Program;
use serde_json::Value;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How long a program has to come up on a machine that builds and tests something else meanwhile.
pub(crate) const START: Duration = Duration::from_secs(20);

/// How long a link or a picture may take. Not what is hoped for, but what no working program needs.
pub(crate) const LINK: Duration = Duration::from_secs(20);

/// How long a program may take to end once it has a reason to.
pub(crate) const END: Duration = Duration::from_secs(15);

/// The length of [`cast_through`]: long enough to show that pictures flow, short enough to be tried often.
const SECONDS: u32 = 1;

/// How often a daemon that comes up is knocked at.
const KNOCK: Duration = Duration::from_millis(20);

/// Starts the daemon on `server`, and waits until it answers. The address to give to clients comes with it.
pub(crate) fn daemon(lab: &Lab) -> (Program, String) {
    daemon_with(lab, &[])
}

/// As [`daemon`], with further options.
pub(crate) fn daemon_with(lab: &Lab, more: &[&str]) -> (Program, String) {
    let addr = lab.public_addr("server");
    let main = format!("{addr}:4000");
    let assist = format!("{addr}:8000");
    let options = ["--main", &main, "--assist", &assist];
    let daemon = lab.spawn("server", "punchcastd", options.iter().chain(more));
    await_answer(lab, &daemon, &addr);
    (daemon, main)
}

/// As [`daemon`], at every address of `server`; clients are given its name.
pub(crate) fn daemon_by_name(lab: &Lab) -> (Program, String) {
    let daemon = lab.spawn("server", "punchcastd", [""; 0]);
    await_answer(lab, &daemon, "server");
    (daemon, "server:4000".to_owned())
}

fn await_answer(lab: &Lab, daemon: &Program, host: &str) {
    let deadline = Instant::now() + START;
    let knock = format!("exec 3<>/dev/tcp/{host}/4000");
    while !lab
        .command("server", "bash")
        .args(["-c", &knock])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
    {
        assert!(Instant::now() < deadline, "the daemon does not answer{}", daemon.report());
        thread::park_timeout(KNOCK);
    }
}

/// Starts a viewer that ends with its first cast, and waits for its ticket.
pub(crate) fn viewer(lab: &Lab, server: Option<&str>, more: &[&str]) -> (Program, String) {
    lasting_viewer(lab, server, &[&["--once"], more].concat())
}

/// As [`viewer`], but it goes on until it is told to end.
pub(crate) fn lasting_viewer(lab: &Lab, server: Option<&str>, more: &[&str]) -> (Program, String) {
    let mut args = vec!["view", "--json", "--page", "127.0.0.1:0"];
    args.extend(server.map(|server| ["--server", server]).into_iter().flatten());
    args.extend(more);
    let mut viewer = lab.spawn("viewer", "punchcast", args);
    let ticket = text(&viewer.event("ready", START), "ticket");
    (viewer, ticket)
}

/// Starts a caster of the test picture.
pub(crate) fn caster(lab: &Lab, host: &str, ticket: &str, seconds: u32) -> Program {
    let seconds = seconds.to_string();
    lab.spawn(host, "punchcast", ["cast", ticket, "--source", "pattern", "--duration", &seconds, "--json"])
}

/// One cast through `topology`; it must link by one of `rungs`, bring a picture, and end in order on both sides. Gives the
/// milliseconds from the caster's start to the link.
pub(crate) fn cast_through(topology: &[&str], rungs: &[&str]) -> f64 {
    let lab = Lab::up(topology);
    let started = topology.iter().any(|host| host.starts_with("server:")).then(|| daemon(&lab));
    let server = started.as_ref().map(|(_, addr)| addr.as_str());
    let link = cast_in(&lab, server, rungs);
    link["elapsed_ms"].as_f64().expect("a link tells its time")
}

/// As [`cast_through`], in a lab that stands. Gives the caster's event.
pub(crate) fn cast_in(lab: &Lab, server: Option<&str>, rungs: &[&str]) -> Value {
    let (mut viewer, ticket) = viewer(lab, server, &[]);

    let mut caster = caster(lab, "caster", &ticket, SECONDS);

    let link = caster.event("link", LINK);
    let told = [text(&link, "rung"), text(&viewer.event("link", LINK), "rung")];
    for rung in &told {
        assert!(rungs.contains(&rung.as_str()), "{lab:?}: {told:?}{}{}", caster.report(), viewer.report());
    }
    viewer.event("first-frame", LINK);
    caster.succeeds(END);
    viewer.succeeds(END);
    link
}

/// A field that is a string.
pub(crate) fn text(event: &Value, field: &str) -> String {
    event[field].as_str().unwrap_or_else(|| panic!("no '{field}' in {event}")).to_owned()
}

/// How often a cell of the table is tried.
pub(crate) fn repeats() -> u32 {
    std::env::var("PUNCHCAST_LAB_REPEATS")
        .map_or(20, |value| value.parse().expect("PUNCHCAST_LAB_REPEATS is a number"))
}

/// Tries `once` for every index below `times`, some at a time, and holds all of them to success.
pub(crate) fn every_time(times: u32, once: impl Fn(u32) + Sync) {
    // As many as labs may stand at once; waiting for a place costs nothing.
    const WORKERS: u32 = 4;
    let next = AtomicU32::new(0);
    let failures: Vec<String> = thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS)
            .map(|_| {
                scope.spawn(|| {
                    let mut failures = Vec::new();
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        if index >= times {
                            return failures;
                        }
                        let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| once(index)));
                        failures.extend(run.err().map(|why| format!("try {index}: {}", words(&*why))));
                    }
                })
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("panics are caught inside")).collect()
    });
    assert!(failures.is_empty(), "{} of {times} failed:\n{}", failures.len(), failures.join("\n"));
}

/// As [`every_time`], where a try takes so many milliseconds, if it counts: all that do, the shortest first.
pub(crate) fn times(tries: u32, once: impl Fn(u32) -> Option<f64> + Sync) -> Vec<f64> {
    let times = Mutex::new(Vec::new());
    every_time(tries, |index| {
        let took = once(index);
        times.lock().expect("no try panics with the lock").extend(took);
    });
    let mut times = times.into_inner().expect("no try panics with the lock");
    times.sort_by(f64::total_cmp);
    times
}

fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned())).unwrap_or_default()
}
