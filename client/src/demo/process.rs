//! The programs of the demo as processes, and what they say as messages on one channel.

use super::event::Event;
use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Lines of a program's talk kept for the case that it fails: enough for an error and what led to it.
const TALK_LINES: usize = 30;

/// The longest line taken from a program. Events have some hundred bytes; a ticket's QR code in the talk has more.
const MAX_LINE: u64 = 64 * 1024;

/// How long a program has to end after it was asked to.
const FAREWELL: Duration = Duration::from_secs(3);

/// How often a program is looked at while it ends.
const GLANCE: Duration = Duration::from_millis(10);

/// Where the programs are.
#[derive(Clone, Debug)]
pub(super) struct Programs {
    /// `punchcast`: this very program.
    pub(super) punchcast: PathBuf,
    /// `punchcastd`, beside it.
    pub(super) punchcastd: PathBuf,
}

impl Programs {
    /// This program and the daemon in the same directory.
    pub(super) fn beside_this_one() -> Result<Self, String> {
        let punchcast =
            std::env::current_exe().map_err(|error| format!("cannot tell where this program is: {error}"))?;
        let punchcastd = punchcast.with_file_name("punchcastd");
        if !punchcastd.exists() {
            return Err(format!("{} is missing: build the whole workspace", punchcastd.display()));
        }
        Ok(Self { punchcast, punchcastd })
    }
}

/// Which program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// `punchcastd`.
    Daemon,
    /// `punchcast view`.
    Viewer,
    /// `punchcast cast`.
    Caster,
    /// The page's copier.
    Bridge,
}

impl Who {
    /// Its name in the story.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Daemon => "daemon",
            Self::Viewer => "viewer",
            Self::Caster => "caster",
            Self::Bridge => "bridge",
        }
    }
}

/// What a program did.
#[derive(Debug)]
pub(super) enum Heard {
    /// It told an event, which came then.
    Event(Who, Instant, Event),
    /// It closed its standard output: it is ending.
    Ended(Who),
}

/// A running program; dropping it ends it.
pub(super) struct Process {
    who: Who,
    child: Child,
    /// When its own clock began, as far as its events tell so far: none can come before it was told.
    began: Option<Instant>,
    talk: Arc<Mutex<VecDeque<String>>>,
    /// Disconnected when the talk has come to its end.
    talk_over: Receiver<()>,
}

impl Process {
    /// Starts `command`; its events go to `heard`.
    pub(super) fn start(who: Who, command: &mut Command, heard: Sender<Heard>) -> Result<Self, String> {
        let words = |error| format!("cannot start the {}: {error}", who.name());
        let mut child = command
            .stdin(if who == Who::Bridge { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C is for the demo alone, which ends its programs in order.
            .process_group(0)
            .spawn()
            .map_err(words)?;
        let talk = Arc::new(Mutex::new(VecDeque::new()));
        if let Some(stdout) = child.stdout.take() {
            thread::spawn(move || {
                each_line(stdout, |line| {
                    let event = Event::parse(&line);
                    event.is_none_or(|event| heard.send(Heard::Event(who, Instant::now(), event)).is_ok())
                });
                let _ = heard.send(Heard::Ended(who));
            });
        }
        let (talking, talk_over) = mpsc::channel();
        if let Some(stderr) = child.stderr.take() {
            let talk = Arc::clone(&talk);
            thread::spawn(move || {
                let _talking: Sender<()> = talking;
                each_line(stderr, |line| {
                    let Ok(mut talk) = talk.lock() else { return false };
                    if talk.len() == TALK_LINES {
                        talk.pop_front();
                    }
                    talk.push_back(line);
                    true
                });
            });
        }
        Ok(Self { who, child, began: None, talk, talk_over })
    }

    /// When its own clock began, now that an event of it came.
    pub(super) fn began(&mut self, came: Instant, event: &Event) -> Instant {
        let latest = came.checked_sub(event.at).unwrap_or(came);
        let began = self.began.map_or(latest, |began| began.min(latest));
        self.began = Some(began);
        began
    }

    /// The last of what it said on standard error; of a program that ends, to its last word.
    pub(super) fn talk(&self) -> Vec<String> {
        // Nothing is ever sent: this waits for the end of the pipe, which the program's end closes.
        let _ = self.talk_over.recv_timeout(FAREWELL);
        self.talk.lock().map(|talk| talk.iter().cloned().collect()).unwrap_or_default()
    }

    /// Waits until it has ended by itself, at most for `patience`. Whether it has.
    pub(super) fn wait(&mut self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        loop {
            match self.child.try_wait() {
                Ok(None) if Instant::now() < until => thread::park_timeout(GLANCE),
                Ok(None) => return false,
                Ok(Some(_)) | Err(_) => return true,
            }
        }
    }

    /// Asks it to end, and makes it end if it does not.
    pub(super) fn end(&mut self) {
        if self.wait(Duration::ZERO) {
            return;
        }
        if self.who == Who::Bridge {
            drop(self.child.stdin.take());
        } else {
            // The standard library can only kill; a shell can ask.
            let pid = self.child.id().to_string();
            let _ = Command::new("sh")
                .args(["-c", "kill -TERM \"$1\"", "sh", &pid])
                .stderr(Stdio::null())
                .status();
        }
        if !self.wait(FAREWELL) {
            // It may have ended this very moment.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// Gives every line to `take` until it returns `false` or there are no more.
fn each_line(from: impl Read, mut take: impl FnMut(String) -> bool) {
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    loop {
        line.clear();
        match from.by_ref().take(MAX_LINE).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        if !take(String::from_utf8_lossy(&line).trim_end().to_owned()) {
            return;
        }
    }
}
