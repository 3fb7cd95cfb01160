//! What a person at a terminal sees: one calm status line below the talk, and a little colour.
//!
//! The line is written over each second; talk goes above it. Where standard error is no terminal there is neither, so
//! a log has no control characters. `NO_COLOR` (no-color.org) takes the colour away, and `TERM=dumb` both.

use crate::notice::{Notice, Stats};
use punchcast::policy::Rung;
use std::collections::BTreeMap;
use std::env;
use std::io::{self, IsTerminal as _};
use std::net::SocketAddr;
use std::time::Duration;

/// Columns of a terminal that does not tell how many it has: what every one has.
const COLUMNS: usize = 80;

/// Rungs named while a link is made.
const MOST_RUNGS: usize = 4;

/// How a line of talk is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    /// What went well.
    Good,
    /// What somebody may want to do something about.
    Warning,
    /// What somebody has to.
    Bad,
    /// Everything else.
    Plain,
}

impl Tone {
    pub(super) fn of(notice: &Notice) -> Self {
        #[allow(clippy::wildcard_enum_match_arm)] // Most are neither.
        match notice {
            Notice::Link { link, .. } if link.secure => Self::Good,
            Notice::Link { .. }
            | Notice::Lost { .. }
            | Notice::Busy { .. }
            | Notice::Occupied(_)
            | Notice::DialFailed { .. }
            | Notice::NoRelay { .. }
            | Notice::ViewerAbsent { .. }
            | Notice::NoLink { .. }
            | Notice::SeekingRelay(_) => Self::Warning,
            Notice::OfCast { notice, .. } | Notice::OfViewer { notice, .. } => Self::of(notice),
            _ => Self::Plain,
        }
    }

    /// `line` in its colour, as an ANSI terminal takes it (ECMA-48 §8.3.117).
    pub(super) fn paint(self, line: &str) -> String {
        let code = match self {
            Self::Good => 32,
            Self::Warning => 33,
            Self::Bad => 31,
            Self::Plain => return line.to_owned(),
        };
        format!("\x1b[{code}m{line}\x1b[0m")
    }
}

/// What standard error can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Abilities {
    /// One line can be written over.
    pub(super) line: bool,
    /// It has colours, and they are wanted.
    pub(super) colour: bool,
}

impl Abilities {
    /// Of this process.
    pub(super) fn detect() -> Self {
        let is_set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        Self::new(io::stderr().is_terminal(), dumb, is_set("NO_COLOR"))
    }

    const fn new(terminal: bool, dumb: bool, no_colour: bool) -> Self {
        Self { line: terminal && !dumb, colour: terminal && !dumb && !no_colour }
    }
}

/// How wide the terminal is on which standard error is shown, now.
pub(super) fn columns() -> usize {
    let told = rustix::termios::tcgetwinsize(io::stderr()).map_or(0, |size| usize::from(size.ws_col));
    if told == 0 { COLUMNS } else { told }
}

/// What the status line tells.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// What is tried for a link, and whether one is being made.
    tried: Vec<Rung>,
    trying: Option<SocketAddr>,
    seen_as: Option<String>,
    /// The last second of each cast, or each viewer.
    live: BTreeMap<usize, Stats>,
}

impl Progress {
    /// Takes a notice; whether the line is another.
    pub(super) fn take(&mut self, notice: &Notice) -> bool {
        self.take_of(0, notice)
    }

    fn take_of(&mut self, which: usize, notice: &Notice) -> bool {
        #[allow(clippy::wildcard_enum_match_arm)] // The line tells little.
        match notice {
            Notice::OfCast { cast: which, notice } | Notice::OfViewer { viewer: which, notice } => {
                return self.take_of(*which, notice);
            }
            Notice::Attempt { rung, remote, .. } => {
                self.tried.retain(|tried| tried != rung);
                self.tried.push(*rung);
                self.trying = Some(*remote);
            }
            Notice::Rendezvous(punchcast::rendezvous::agent::Event::Observed { observation })
                if observation.hole =>
            {
                self.seen_as = Some(observation.endpoint.to_string());
            }
            Notice::Stats(stats) => {
                self.live.insert(which, *stats);
            }
            Notice::Link { .. } | Notice::NoLink { .. } => {
                self.tried.clear();
                self.trying = None;
            }
            Notice::Lost { .. } | Notice::CastEnded | Notice::ViewerOver { .. } => {
                self.live.remove(&which);
                // What was tried beside the link says nothing of the next one.
                self.tried.clear();
                self.trying = None;
            }
            _ => return false,
        }
        true
    }

    /// The line on a terminal of so many columns; `None` when there is nothing to tell. A longer one would wrap, and not
    /// be written over, and some terminals wrap in the last column: what does not fit is left out, never cut.
    pub(super) fn line(&self, columns: usize) -> Option<String> {
        let width = columns.saturating_sub(1);
        match self.live.len() {
            0 => self.way(width),
            1 => Some(fields(&one(self.live.values().next()?), width)),
            _ => Some(fields(&several(&self.live), width)),
        }
    }

    /// How far the way to a link is made: the rung tried last, and as many before it as there is room for.
    fn way(&self, width: usize) -> Option<String> {
        let remote = self.trying?;
        let seen = self.seen_as.as_ref().map_or_else(String::new, |seen| format!("; seen as {seen}"));
        let rungs: Vec<String> = self.tried.iter().rev().take(MOST_RUNGS).map(ToString::to_string).collect();
        let tries =
            (1..=rungs.len()).rev().map(|count| format!("trying {} at {remote}", rungs[..count].join(", ")));
        let tries: Vec<String> = tries.collect();
        let whole = tries.iter().map(|tries| format!("making the link: {tries}{seen}"));
        let part = tries.iter().map(|tries| format!("making the link: {tries}"));
        let shorter = tries.iter().cloned().chain([remote.to_string(), String::new()]);
        whole.take(1).chain(part).chain(shorter).find(|line| line.chars().count() <= width)
    }
}

/// As many of the fields, from the first on, as fit beside each other.
fn fields(all: &[String], width: usize) -> String {
    let lines = (1..=all.len()).rev().map(|count| all[..count].join(" · "));
    lines.into_iter().find(|line| line.chars().count() <= width).unwrap_or_default()
}

/// One cast in one line.
fn one(stats: &Stats) -> Vec<String> {
    let counts = &stats.counts;
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    let age = counts.age_p50.map(|age| {
        let oldest =
            counts.age_p99.map_or_else(String::new, |oldest| format!(" (p99 {:.0})", millis(oldest)));
        format!("age {:.0} ms{oldest}", millis(age))
    });
    let rtt = stats.rtt.map(|rtt| format!("rtt {:.1} ms", millis(rtt)));
    let first =
        [stats.rung.to_string(), format!("{:.0} fps", fps(stats)), format!("{:.2} Mbit/s", mbit(stats))];
    first.into_iter().chain(age).chain(rtt).chain([format!("{} dropped", stats.dropped)]).collect()
}

/// Several in one line: what all of them take, and how each one stands.
fn several(live: &BTreeMap<usize, Stats>) -> Vec<String> {
    let total: f64 = live.values().map(mbit).sum();
    let each = live.iter().map(|(which, stats)| {
        format!("{}: {} {:.0} fps, {} dropped", which + 1, stats.rung, fps(stats), stats.dropped)
    });
    std::iter::once(format!("{total:.1} Mbit/s")).chain(each).collect()
}

fn fps(stats: &Stats) -> f64 {
    stats.counts.frames as f64 * 1000.0 / stats.counts.period_ms.max(1) as f64
}

fn mbit(stats: &Stats) -> f64 {
    stats.counts.bytes as f64 * 8.0 / 1000.0 / stats.counts.period_ms.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Counts;

    fn stats(rung: Rung, dropped: u64) -> Stats {
        let counts = Counts {
            frames: 60,
            bytes: 1_000_000,
            period_ms: 2000,
            age_p50: Some(Duration::from_millis(34)),
            age_p99: Some(Duration::from_millis(61)),
            ..Counts::default()
        };
        Stats { counts, rung, rtt: Some(Duration::from_micros(20_140)), dropped }
    }

    #[test]
    fn one_cast_has_one_line_with_what_matters() {
        let mut progress = Progress::default();
        assert!(progress.take(&Notice::Stats(stats(Rung::Punched, 3))));
        let line = progress.line(COLUMNS).expect("a line");
        assert_eq!(line, "punched · 30 fps · 4.00 Mbit/s · age 34 ms (p99 61) · rtt 20.1 ms · 3 dropped");
        assert!(progress.take(&Notice::Lost { why: "cut".into() }));
        assert_eq!(progress.line(COLUMNS), None);
    }

    #[test]
    fn what_was_tried_beside_a_link_is_not_shown_when_its_cast_is_over() {
        let mut progress = Progress::default();
        let addr: SocketAddr = "192.0.2.7:4001".parse().unwrap();
        let attempt = Notice::Attempt { rung: Rung::Punched, local: Some(addr), remote: addr };
        for over in [Notice::CastEnded, Notice::Lost { why: "cut".into() }] {
            progress.take(&Notice::Stats(stats(Rung::Lan, 0)));
            progress.take(&attempt);
            assert!(progress.take(&over));
            assert_eq!(progress.line(COLUMNS), None);
        }
        progress.take(&attempt);
        assert!(progress.line(COLUMNS).is_some(), "it is sought anew");
    }

    #[test]
    fn several_share_it_and_it_never_wraps() {
        let mut progress = Progress::default();
        for viewer in 0..9 {
            let notice = Box::new(Notice::Stats(stats(Rung::Lan, 0)));
            progress.take(&Notice::OfViewer { viewer, notice });
        }
        for columns in [60, 80, 132] {
            let line = progress.line(columns).expect("a line");
            assert!(line.starts_with("36.0 Mbit/s · 1: lan 30 fps, 0 dropped"), "{line}");
            assert!(line.ends_with("dropped"), "nothing is cut: {line}");
            let room = " · 2: lan 30 fps, 0 dropped".chars().count();
            assert!((columns - room..columns).contains(&line.chars().count()), "{line}");
        }
    }

    #[test]
    fn while_the_link_is_made_it_tells_what_is_tried() {
        let mut progress = Progress::default();
        let addr: SocketAddr = "192.0.2.7:4001".parse().expect("an address");
        for rung in [Rung::Lan, Rung::Punched, Rung::Lan] {
            assert!(progress.take(&Notice::Attempt { rung, local: Some(addr), remote: addr }));
        }
        let line = progress.line(COLUMNS).expect("a line");
        assert_eq!(line, "making the link: trying lan, punched at 192.0.2.7:4001");
        for (columns, fitting) in [
            (line.len(), "making the link: trying lan at 192.0.2.7:4001"),
            (40, "trying lan, punched at 192.0.2.7:4001"),
            (30, "trying lan at 192.0.2.7:4001"),
            (20, "192.0.2.7:4001"),
            (14, ""),
        ] {
            assert_eq!(progress.line(columns).as_deref(), Some(fitting), "{columns} columns");
        }
    }

    #[test]
    fn a_log_gets_neither_line_nor_colour() {
        let none = Abilities { line: false, colour: false };
        assert_eq!(Abilities::new(false, false, false), none);
        assert_eq!(Abilities::new(true, true, false), none);
        assert_eq!(Abilities::new(true, false, true), Abilities { line: true, colour: false });
        assert_eq!(Tone::Bad.paint("x"), "\x1b[31mx\x1b[0m");
        assert_eq!(Tone::Plain.paint("x"), "x");
    }
}
