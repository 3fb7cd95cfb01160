//! Standard output and standard error, as the contract has them.

#![allow(clippy::disallowed_methods)] // The program's edge: `t_ms` counts from its start.

use super::Failure;
use super::calm::{Calm, Worth};
use super::terminal::{Abilities, Progress, Tone, columns};
use crate::notice::Notice;
use rustix::event::{PollFd, PollFlags};
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// A status line stands on the terminal: whatever is said next takes its place. There is one terminal, and several
/// threads talk.
static LINE_STANDS: AtomicBool = AtomicBool::new(false);

/// Back to the line's beginning, and the rest of it away (ECMA-48 §8.3.41).
const CLEAR_LINE: &str = "\r\x1b[K";

/// Prints a result. A reader that has gone is no error; whatever else keeps it from being written ends the program as one.
pub(super) fn print_line(line: &str) {
    clear_line();
    let mut stdout = io::stdout().lock();
    let Err(error) = writeln!(stdout, "{line}").and_then(|()| stdout.flush()) else { return };
    // A broken pipe is a quiet exit (`punchcast view | head -1`).
    if error.kind() == io::ErrorKind::BrokenPipe {
        std::process::exit(super::DONE);
    }
    fail(&format!("standard output takes no more: {error}"));
    std::process::exit(super::FAILED);
}

/// Ends the program as [`print_line`] does once nobody reads standard output, though there be nothing to print for long.
fn watch_reader() {
    let watch = || {
        loop {
            let stdout = io::stdout();
            // Nothing is asked for: an error or a hang-up is told all the same, and a file has neither.
            let mut watched = [PollFd::new(&stdout, PollFlags::empty())];
            match rustix::event::poll(&mut watched, None) {
                Ok(_) if watched[0].revents().intersects(PollFlags::ERR | PollFlags::HUP) => {
                    std::process::exit(super::DONE)
                }
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                // What cannot be watched is noticed with the next line.
                Ok(_) | Err(_) => return,
            }
        }
    };
    // Without the thread, as well.
    drop(std::thread::Builder::new().name("reader's end".into()).spawn(watch));
}

/// Writes a line to standard error. Who has closed it does not want to hear it, and that is no reason to stop.
fn write_talk(line: &str) {
    let clear = if LINE_STANDS.swap(false, Ordering::Relaxed) { CLEAR_LINE } else { "" };
    let _ = writeln!(io::stderr().lock(), "{clear}{line}");
}

/// Says why the program ends without having done what it was asked for, whoever wants to hear it.
pub fn fail(reason: &str) {
    let line = format!("punchcast: {reason}");
    write_talk(&if Abilities::detect().colour { Tone::Bad.paint(&line) } else { line });
}

/// Says what belongs to the results or to a failure, whoever wants to hear it.
pub fn tell(line: &str) {
    write_talk(line);
}

/// Talk, which `--quiet` ends. Threads that talk have one of their own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Talk {
    quiet: bool,
}

impl Talk {
    /// Says a line, unless nobody wants to hear it.
    pub(super) fn say(self, line: &str) {
        if !self.quiet {
            write_talk(line);
        }
    }
}

fn clear_line() {
    if LINE_STANDS.swap(false, Ordering::Relaxed) {
        let _ = write!(io::stderr().lock(), "{CLEAR_LINE}");
    }
}

fn set_line(line: &str) {
    LINE_STANDS.store(true, Ordering::Relaxed);
    let mut stderr = io::stderr().lock();
    let _ = write!(stderr, "{CLEAR_LINE}{line}").and_then(|()| stderr.flush());
}

/// Shows notices: JSON lines on standard output, or talk on standard error.
pub(super) struct Printer {
    json: bool,
    talk: Talk,
    abilities: Abilities,
    calm: Calm,
    progress: Progress,
    start: Instant,
}

impl Printer {
    pub(super) fn new(json: bool, quiet: bool) -> Self {
        if json {
            watch_reader();
        }
        let (abilities, calm, progress) = (Abilities::detect(), Calm::default(), Progress::default());
        Self { json, talk: Talk { quiet }, abilities, calm, progress, start: Instant::now() }
    }

    pub(super) const fn is_json(&self) -> bool {
        self.json
    }

    pub(super) const fn is_quiet(&self) -> bool {
        self.talk.quiet
    }

    /// The way to talk.
    pub(super) const fn talk(&self) -> Talk {
        self.talk
    }

    /// Says a line, unless nobody wants to hear it.
    pub(super) fn say(&self, line: &str) {
        self.talk.say(line);
    }

    pub(super) fn show(&mut self, notice: &Notice) {
        if self.json {
            if let Some(value) = notice.to_json() {
                self.show_json(value);
            }
            return;
        }
        if self.is_quiet() {
            return;
        }
        let line_changed = self.abilities.line && self.progress.take(notice);
        let line = match self.calm.take(notice) {
            Worth::Told => notice.to_talk(),
            Worth::Words(words) => Some(words),
            Worth::Unsaid => None,
        };
        // On a terminal the status line tells what is tried; a log has a line for each.
        let told = self.abilities.line && matches!(notice, Notice::Attempt { .. });
        if let Some(line) = line.filter(|_| !told) {
            self.say(&if self.abilities.colour { Tone::of(notice).paint(&line) } else { line });
        }
        match self.progress.line(columns()) {
            Some(line) if line_changed => set_line(&line),
            None if line_changed => clear_line(),
            Some(_) | None => {}
        }
    }

    /// Tells scripts of a failure before there was an end: the last event is always one.
    pub(super) fn ended<T>(&mut self, result: Result<T, Failure>) -> Result<T, Failure> {
        if self.json
            && let Err(failure) = &result
        {
            self.show(&Notice::End { ok: false, reason: failure.to_string() });
        }
        result
    }

    /// Prints an event with its time.
    pub(super) fn show_json(&self, mut event: serde_json::Value) {
        let t_ms = self.start.elapsed().as_secs_f64() * 1000.0;
        event["t_ms"] = serde_json::json!((t_ms * 1000.0).round() / 1000.0);
        print_line(&event.to_string());
    }
}

impl Drop for Printer {
    fn drop(&mut self) {
        clear_line();
    }
}
