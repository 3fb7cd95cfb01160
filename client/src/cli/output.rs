//! Standard output and standard error, as the contract has them.

#![allow(clippy::disallowed_methods)] // The program's edge: `t_ms` counts from its start.

use crate::notice::Notice;
use std::io::{self, Write};
use std::time::Instant;

/// Prints a result; a reader that has gone is no error.
pub(super) fn print_line(line: &str) {
    let mut stdout = io::stdout().lock();
    if writeln!(stdout, "{line}").and_then(|()| stdout.flush()).is_err() {
        // A broken pipe is a quiet exit (`punchcast view | head -1`).
        std::process::exit(super::DONE);
    }
}

/// Says a line on standard error. Who has closed it does not want to hear it, and that is no reason to stop.
pub fn talk(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Shows notices: JSON lines on standard output, or talk on standard error.
pub(super) struct Printer {
    json: bool,
    start: Instant,
}

impl Printer {
    pub(super) fn new(json: bool) -> Self {
        Self { json, start: Instant::now() }
    }

    pub(super) const fn is_json(&self) -> bool {
        self.json
    }

    pub(super) fn show(&self, notice: &Notice) {
        if !self.json {
            if let Some(line) = notice.to_talk() {
                talk(&line);
            }
            return;
        }
        if let Some(value) = notice.to_json() {
            self.show_json(value);
        }
    }

    /// Prints an event with its time.
    pub(super) fn show_json(&self, mut event: serde_json::Value) {
        let t_ms = self.start.elapsed().as_secs_f64() * 1000.0;
        event["t_ms"] = serde_json::json!((t_ms * 1000.0).round() / 1000.0);
        print_line(&event.to_string());
    }
}
