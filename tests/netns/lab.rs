//! `scripts/lab` from Rust, and the question whether it may run here.

use crate::program::Program;
use std::env;
use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Condvar, Mutex, OnceLock, PoisonError};
use std::thread;

/// Labs that stand at once, over all tests: beyond it, programs on two cores wait for each other longer than they
/// work.
const LABS_AT_ONCE: u32 = 4;

/// Set to 1 where a missing lab is a failure.
const REQUIRE: &str = "PUNCHCAST_REQUIRE_LAB";

/// Set in the test process that runs inside a user namespace.
const INSIDE: &str = "PUNCHCAST_LAB_INSIDE";

/// Whether the calling test should go on.
///
/// An ordinary user's test is run once more inside a user namespace, where it is let through; the outer one then has
/// nothing left to do.
pub(crate) fn permitted() -> bool {
    static ANSWER: OnceLock<Answer> = OnceLock::new();
    match ANSWER.get_or_init(Answer::find) {
        Answer::Here => true,
        Answer::Inside => {
            run_inside();
            false
        }
        Answer::Refused(why) => {
            skip(why);
            false
        }
    }
}

/// As [`permitted`], for labs with `--delay`, which want `/dev/net/tun` and Python besides.
pub(crate) fn permitted_with_delay() -> bool {
    static REFUSED: OnceLock<Option<String>> = OnceLock::new();
    if !permitted() {
        return false;
    }
    let refused = REFUSED.get_or_init(|| {
        let name = unique_name();
        let here = ask(script().args(["up", "--name", &name, "--delay", "1", "host:public"]));
        let _ = ask(script().args(["down", "--name", &name]));
        here.err()
    });
    refused.as_deref().inspect(|why| skip(why)).is_none()
}

/// Says loudly that the calling test finds nothing to run on; fails where that is not allowed.
pub(crate) fn skip(why: &str) {
    assert!(env::var(REQUIRE).as_deref() != Ok("1"), "no lab here: {why}");
    // Written straight to the descriptor: the test harness would keep what a passing test prints.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {}: no lab here: {why}", test_name());
}

#[derive(Debug)]
enum Answer {
    Here,
    Inside,
    Refused(String),
}

impl Answer {
    fn find() -> Self {
        // What earlier, killed test runs left behind.
        let _ = ask(script().arg("sweep"));
        let name = unique_name();
        let here = ask(script().args(["up", "--name", &name, "host:nat"]));
        if here.is_ok() {
            ask(script().args(["down", "--name", &name])).expect("what was built can be removed");
            return Self::Here;
        }
        if env::var_os(INSIDE).is_some() {
            return Self::Refused(here.err().unwrap_or_default());
        }
        match ask(script().args(["inside", "bash"]).arg(script_path()).args(["up", "host:nat"])) {
            Ok(_) => Self::Inside,
            Err(why) => Self::Refused(why),
        }
    }
}

fn run_inside() {
    let me = env::current_exe().expect("a test has an executable");
    // Not on our own output: its `test result` would be counted beside ours.
    let output = script()
        .arg("inside")
        .arg(me)
        .args(["--exact", &test_name(), "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .expect("bash runs");
    let _ = std::io::stderr().write_all(&output.stderr);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "inside the user namespace: {said}");
}

/// The test harness names its threads after the tests.
fn test_name() -> String {
    thread::current().name().expect("called on the test's own thread").to_owned()
}

/// A lab that stands. Dropping it ends every process in it and removes it.
#[derive(Debug)]
pub(crate) struct Lab {
    name: String,
    /// What it was laid from, for who reads of a failure in it.
    #[allow(dead_code, reason = "shown by Debug alone")]
    topology: String,
    _place: Place,
}

impl Lab {
    /// Lays a lab; see `scripts/lab --help` for the words. Waits while too many stand.
    pub(crate) fn up(topology: &[&str]) -> Self {
        let place = Place::take();
        let name = unique_name();
        let owner = std::process::id().to_string();
        ask(script().args(["up", "--name", &name, "--owner", &owner]).args(topology))
            .unwrap_or_else(|why| panic!("no lab of {topology:?}: {why}"));
        Self { name, topology: topology.join(" "), _place: place }
    }

    /// The host's address as the internet sees it.
    pub(crate) fn public_addr(&self, host: &str) -> String {
        ask(script().args(["addr", "--name", &self.name, "--public", host]))
            .unwrap_or_else(|why| panic!("no address of {host}: {why}"))
            .trim()
            .to_owned()
    }

    /// Makes the NATs before a host forget every connection, as when they restart.
    pub(crate) fn forget(&self, host: &str) {
        ask(script().args(["forget", "--name", &self.name, host]))
            .unwrap_or_else(|why| panic!("the NATs before {host} do not forget: {why}"));
    }

    /// Gives the outermost NAT before a host, or the public host, another outside address: the new one.
    pub(crate) fn readdress(&self, host: &str) -> String {
        ask(script().args(["readdress", "--name", &self.name, host]))
            .unwrap_or_else(|why| panic!("{host} keeps its address: {why}"))
            .trim()
            .to_owned()
    }

    /// The second address of a public host.
    pub(crate) fn second_addr(&self, host: &str) -> String {
        let shown = ask(script().args(["show", "--name", &self.name])).expect("a lab can be shown");
        let mut rows = shown.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let head = rows.find(|row| row.first() == Some(&"HOST")).expect("the table has a head");
        let column = head.iter().position(|word| *word == "SECOND").expect("second addresses are shown");
        let row = rows.find(|row| row.first() == Some(&host)).expect("the host is shown");
        row[column].to_owned()
    }

    /// Starts one of the workspace's programs on a host. What it logs is in its report.
    pub(crate) fn spawn<A: AsRef<OsStr>>(
        &self,
        host: &str,
        program: &str,
        args: impl IntoIterator<Item = A>,
    ) -> Program {
        let mut command = self.command(host, binary(program));
        command.args(args);
        if env::var_os("RUST_LOG").is_none() {
            command.env("RUST_LOG", "debug");
        }
        Program::start(&format!("{program} on {host}"), &mut command)
    }

    /// A command that runs `program` on a host; the process that it starts is the program itself.
    pub(crate) fn command(&self, host: &str, program: impl AsRef<OsStr>) -> Command {
        let mut command = script();
        command.args(["exec", "--name", &self.name, host]).arg(program);
        command
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let down = ask(script().args(["down", "--name", &self.name]));
        if !thread::panicking() {
            down.expect("a lab can be removed");
        }
    }
}

/// One of [`LABS_AT_ONCE`] places.
#[derive(Debug)]
struct Place;

static TAKEN: Mutex<u32> = Mutex::new(0);
static FREED: Condvar = Condvar::new();

impl Place {
    fn take() -> Self {
        let taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken =
            FREED.wait_while(taken, |taken| *taken >= LABS_AT_ONCE).unwrap_or_else(PoisonError::into_inner);
        *taken += 1;
        Self
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *TAKEN.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        FREED.notify_one();
    }
}

/// One of the workspace's programs, which cargo puts one directory above the tests.
pub(crate) fn binary(name: &str) -> PathBuf {
    let me = env::current_exe().expect("a test has an executable");
    let path = me.parent().and_then(Path::parent).expect("tests live in target/PROFILE/deps").join(name);
    assert!(path.exists(), "{} is missing: cargo build --workspace", path.display());
    path
}

fn script_path() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/lab"))
}

fn script() -> Command {
    let mut command = Command::new("bash");
    command.arg(script_path()).stdin(Stdio::null());
    command
}

fn unique_name() -> String {
    static SERIAL: AtomicU32 = AtomicU32::new(0);
    format!("t{}n{}", std::process::id(), SERIAL.fetch_add(1, Ordering::Relaxed))
}

/// Runs a command to its end; what it wrote, or what it complained of.
fn ask(command: &mut Command) -> Result<String, String> {
    let Output { status, stdout, stderr } =
        command.output().map_err(|error| format!("cannot run bash: {error}"))?;
    if status.success() {
        Ok(String::from_utf8_lossy(&stdout).into_owned())
    } else {
        Err(String::from_utf8_lossy(&stderr).trim().to_owned())
    }
}
