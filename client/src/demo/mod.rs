//! `punchcast demo`: a daemon, a viewer and a caster, and two NATs between them, all on this machine.
//!
//! The demo runs the programs as a user would, as processes with their `--json` events on a pipe, and tells what
//! they say in one story with one clock. It decides nothing about a cast and looks into no program.
//!
//! # Where the programs run
//!
//! - **Root**: in network namespaces that `scripts/lab` lays (the script is part of this program). Nothing is put
//!   into the machine's own network, so the viewer's page, which listens on the viewer's loopback, is reached through
//!   a file: see `bridge`.
//! - **Anybody else**: the same inside a user namespace. The demo starts itself once more in there (`--within`) and
//!   stays outside as the page's front.
//! - **Where namespaces are refused**, or with `--loopback`: on this machine's loopback, with no NAT. It says so.
//!
//! # Life cycle
//!
//! Lay the lab, start the daemon, start the viewer, hand its ticket to the caster, show the page; then until Ctrl-C
//! or, with `--once`, for some seconds. Every way out ends the programs, newest first, and removes the lab.

#![allow(clippy::disallowed_methods, reason = "a program's edge: it tells people the time that passes")]

mod bridge;
mod cast;
mod event;
mod lab;
mod process;
mod story;
#[cfg(test)]
mod tests;

use crate::cli::Parser;
use crate::sink::Existing;
use lab::{Ground, Lab};
use process::Programs;
use std::fs::DirBuilder;
use std::io::{self, Read as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

/// How long `--once` casts when `--seconds` does not say: long enough for a link by any rung and some seconds of
/// picture.
const ONCE: Duration = Duration::from_secs(8);

/// Where `--once` keeps what the viewer saw, if `--snapshot` does not say.
const SNAPSHOT: &str = "demo-snapshot.png";

/// The longest `--seconds` taken: a day. Beyond it, leave `--once` away.
const MAX_SECONDS: u64 = 86_400;

/// What `punchcast demo --help` tells.
pub const HELP: &str = "\
punchcast demo: a daemon, a viewer and a caster on this machine, each side behind a NAT of its own.

  --once           end after some seconds, with a summary and a picture of what the viewer saw
  --seconds N      how long --once shows the cast (default 8)
  --snapshot FILE  where the picture goes (with --once: demo-snapshot.png)
  --loopback       no namespaces, all on 127.0.0.1

The viewer's page is at an address that this machine's browser reaches, until Ctrl-C.
Exit code 0 only if a direct link formed and pictures arrived.";

/// What the user asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    once: bool,
    loopback: bool,
    duration: Duration,
    snapshot: Option<PathBuf>,
    part: Part,
}

/// Which of the demo's processes this one is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// The one that the user started.
    Whole,
    /// The one inside a user namespace: everything but the page's front.
    Within {
        /// The front's Unix socket.
        socket: PathBuf,
        /// The front's port, which is the page's too.
        port: u16,
    },
    /// The copier in the viewer's namespace.
    Bridge {
        /// The Unix socket to listen on.
        socket: PathBuf,
        /// The page.
        page: SocketAddr,
    },
}

impl Options {
    /// Parses what follows `demo` on the command line.
    ///
    /// # Errors
    ///
    /// Names the argument that is not understood.
    pub fn parse(parser: &mut Parser) -> Result<Self, lexopt::Error> {
        use lexopt::prelude::*;

        let mut options =
            Self { once: false, loopback: false, duration: ONCE, snapshot: None, part: Part::Whole };
        let mut timed = false;
        while let Some(arg) = parser.next()? {
            match arg {
                Long("once") => options.once = true,
                Long("loopback") => options.loopback = true,
                Long("seconds") => {
                    let text = parser.value()?;
                    let seconds = text.to_str().and_then(|text| text.parse().ok());
                    let Some(seconds @ 1..=MAX_SECONDS) = seconds else {
                        return Err(
                            format!("--seconds: {text:?} is no number from 1 to {MAX_SECONDS}").into()
                        );
                    };
                    options.duration = Duration::from_secs(seconds);
                    timed = true;
                }
                Long("snapshot") => options.snapshot = Some(PathBuf::from(parser.value()?)),
                Long("bridge") => {
                    let socket = PathBuf::from(parser.value()?);
                    options.part = Part::Bridge { socket, page: parser.value()?.parse()? };
                }
                Long("within") => {
                    let socket = PathBuf::from(parser.value()?);
                    options.part = Part::Within { socket, port: parser.value()?.parse()? };
                }
                Short(_) | Long(_) | Value(_) => return Err(arg.unexpected()),
            }
        }
        if timed && !options.once {
            return Err("--seconds is for --once".into());
        }
        if options.once && options.snapshot.is_none() {
            options.snapshot = Some(PathBuf::from(SNAPSHOT));
        }
        Ok(options)
    }

    /// The arguments that make another process of this program do the same as this one.
    fn to_args(&self) -> Vec<std::ffi::OsString> {
        let mut args: Vec<std::ffi::OsString> = vec!["demo".into()];
        if self.once {
            args.push("--once".into());
            args.extend(["--seconds".into(), self.duration.as_secs().to_string().into()]);
        }
        if let Some(snapshot) = &self.snapshot {
            args.extend(["--snapshot".into(), snapshot.into()]);
        }
        args
    }
}

/// Runs the demo; the result is the program's exit code, 0 only if a direct link formed and pictures arrived.
///
/// # Errors
///
/// Says in words for the user what could not be started.
pub fn run(args: Options) -> Result<i32, String> {
    match &args.part {
        Part::Bridge { socket, page } => bridge::serve_until_abandoned(socket, *page)
            .map_err(|error| format!("the page's bridge: {error}")),
        Part::Within { socket, port } => {
            let (interrupt, interrupted) = mpsc::channel();
            end_with_stdin(interrupt)?;
            let programs = Programs::beside_this_one()?;
            let scratch = Scratch::new()?;
            let lab = Lab::up(scratch.path(), Ground::Within)?;
            let page = cast::Page { addr: SocketAddr::from(([127, 0, 0, 1], *port)), socket: socket.clone() };
            cast::in_lab(&args, &programs, &lab, &page, interrupted)
        }
        Part::Whole => whole(&args),
    }
}

/// The process that the user started: finds the ground to stand on, and keeps the page's front.
fn whole(args: &Options) -> Result<i32, String> {
    let (interrupt, interrupted) = mpsc::channel();
    ctrlc::set_handler(move || {
        // The receiver is gone only when the demo is over.
        let _ = interrupt.send(());
    })
    .map_err(|error| format!("cannot watch for Ctrl-C: {error}"))?;
    let programs = Programs::beside_this_one()?;
    let scratch = Scratch::new()?;
    if let Some(path) = &args.snapshot {
        let words = |error| format!("--snapshot: {} cannot be written: {error}", path.display());
        Existing::Replace.check(path).map_err(words)?;
    }

    if args.loopback {
        story::say("Over loopback, as asked: there is no NAT to get through.");
        return cast::over_loopback(args, &programs, interrupted);
    }
    let refused = match lab::ground(scratch.path()) {
        Ok(Ground::Root) => match Lab::up(scratch.path(), Ground::Root) {
            Ok(lab) => {
                let (page, front) = front(&scratch)?;
                thread::spawn(move || bridge::front(&front, &page.socket));
                let page = cast::Page { addr: page.addr, socket: scratch.socket() };
                return cast::in_lab(args, &programs, &lab, &page, interrupted);
            }
            Err(why) => why,
        },
        Ok(Ground::Within) => return around(args, &programs, &scratch, &interrupted),
        Err(why) => why,
    };
    story::say(&format!("No namespaces here ({refused})."));
    story::say("So over loopback: there is no NAT to get through.");
    cast::over_loopback(args, &programs, interrupted)
}

/// The page's front: its address on this machine, which the page inside takes over digit by digit, so that links and
/// the page's own checks of where a request comes from hold on both sides.
fn front(scratch: &Scratch) -> Result<(cast::Page, TcpListener), String> {
    let words = |error: io::Error| format!("cannot listen for the page: {error}");
    let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(words)?;
    let addr = listener.local_addr().map_err(words)?;
    Ok((cast::Page { addr, socket: scratch.socket() }, listener))
}

/// Starts this program again inside a user namespace, and serves the page to the browsers out here meanwhile.
fn around(
    args: &Options,
    programs: &Programs,
    scratch: &Scratch,
    interrupted: &mpsc::Receiver<()>,
) -> Result<i32, String> {
    let (page, listener) = front(scratch)?;
    let mut inner = lab::inside(scratch.path())
        .arg(&programs.punchcast)
        .args(args.to_args())
        .arg("--within")
        .arg(&page.socket)
        .arg(page.addr.port().to_string())
        // Its standard input is the rope: the end of file, by whatever cause, ends it.
        .stdin(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|error| format!("cannot start the demo in a user namespace: {error}"))?;
    let rope = inner.stdin.take();
    thread::spawn(move || bridge::front(&listener, &page.socket));
    let (over, waits) = mpsc::channel();
    thread::spawn(move || {
        // A closed channel says the same as a message.
        let _ = over.send(inner.wait());
    });
    let mut rope = rope;
    loop {
        match waits.recv_timeout(Duration::from_millis(50)) {
            Ok(Ok(status)) => return Ok(status.code().unwrap_or(1)),
            Ok(Err(error)) => return Err(format!("lost the demo in the user namespace: {error}")),
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                return Err("lost the demo in the user namespace".into());
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {
                if interrupted.try_recv().is_ok() {
                    drop(rope.take());
                }
            }
        }
    }
}

/// Turns the end of standard input into an interruption.
fn end_with_stdin(interrupt: Sender<()>) -> Result<(), String> {
    thread::Builder::new()
        .name("rope".into())
        .spawn(move || {
            let mut ignored = [0; 64];
            let mut stdin = io::stdin().lock();
            while stdin.read(&mut ignored).is_ok_and(|count| count > 0) {}
            // The receiver is gone only when the demo is over.
            let _ = interrupt.send(());
        })
        .map(drop)
        .map_err(|error| format!("cannot start a thread: {error}"))
}

/// A directory for this run alone, gone with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self, String> {
        let name = format!("punchcast-demo-{}-{:08x}", std::process::id(), fastrand::u32(..));
        let path = std::env::temp_dir().join(name);
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(|error| format!("cannot make {}: {error}", path.display()))?;
        Ok(Self(path))
    }

    fn path(&self) -> &Path {
        &self.0
    }

    fn socket(&self) -> PathBuf {
        self.0.join("page")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left behind is an empty directory in a place that the system cleans.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// `bash` with a script: how the demo runs what a shell does better.
fn bash(script: &Path) -> Command {
    let mut command = Command::new("bash");
    command.arg(script).stdin(Stdio::null());
    command
}
