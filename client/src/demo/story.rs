//! What the demo tells: every step with its time, and a summary.

use super::event::Event;
use super::process::Who;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// In the endless demo every second of statistics would bury the steps: after this many, only each
/// [`SPARSE`]th is told.
const DENSE: u64 = 5;

/// See [`DENSE`].
const SPARSE: u64 = 30;

/// How long a step waits for earlier ones of other programs, whose pipes are read by threads of their own.
const HOLD: Duration = Duration::from_millis(100);

/// A line to the user. A reader who has left is no reason to stop: the demo ends with the programs.
pub(super) fn say(line: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// What was seen so far.
#[derive(Debug)]
pub(super) struct Story {
    began: Instant,
    /// The rung of the latest link, as the programs name it.
    rung: Option<String>,
    /// The caster's count from its request to the link, else the viewer's.
    link_ms: Option<f64>,
    first_frame_ms: Option<f64>,
    frames: u64,
    seconds: u64,
    dense: bool,
    /// Steps that are not told yet, with their time since the beginning.
    untold: Vec<(Duration, String)>,
}

impl Story {
    /// Begins the story; `dense` tells every second of it.
    pub(super) const fn new(began: Instant, dense: bool) -> Self {
        Self {
            began,
            rung: None,
            link_ms: None,
            first_frame_ms: None,
            frames: 0,
            seconds: 0,
            dense,
            untold: Vec::new(),
        }
    }

    /// A step that the demo itself took.
    pub(super) fn step(&mut self, who: &str, what: &str) {
        let at = self.began.elapsed();
        self.untold.push((at, line(at, who, what)));
    }

    /// Tells what has waited for long enough, in the order of time.
    pub(super) fn tell(&mut self, now: Instant) {
        let ripe = now.saturating_duration_since(self.began + HOLD);
        self.take_until(ripe).iter().for_each(|line| say(line));
    }

    /// Tells all that there is: something else is said next.
    pub(super) fn tell_all(&mut self) {
        self.take_until(Duration::MAX).iter().for_each(|line| say(line));
    }

    /// Takes the steps up to a time since the beginning, the earliest first.
    pub(super) fn take_until(&mut self, ripe: Duration) -> Vec<String> {
        self.untold.sort_by_key(|(at, _)| *at);
        let told = self.untold.partition_point(|(at, _)| *at <= ripe);
        self.untold.drain(..told).map(|(_, line)| line).collect()
    }

    /// A step that a program told, by the clock of that program, which began at `clock`.
    pub(super) fn hear(&mut self, who: Who, clock: Instant, event: &Event) {
        self.note(who, event);
        if event.name == "stats" && !(who == Who::Viewer && self.worth_telling()) {
            return;
        }
        let at = clock.saturating_duration_since(self.began).saturating_add(event.at);
        self.untold.push((at, line(at, who.name(), &describe(who, event))));
    }

    fn note(&mut self, who: Who, event: &Event) {
        match (event.name.as_str(), who) {
            ("link", _) => {
                if who == Who::Caster || self.link_ms.is_none() {
                    self.link_ms = Some(event.millis("elapsed_ms"));
                }
                self.rung = Some(event.text("rung"));
            }
            ("first-frame", Who::Viewer) => self.first_frame_ms = Some(event.millis("elapsed_ms")),
            ("stats", Who::Viewer) => {
                self.frames += event.count("frames");
                self.seconds += 1;
            }
            _ => {}
        }
    }

    fn worth_telling(&self) -> bool {
        self.dense || self.seconds <= DENSE || self.seconds.is_multiple_of(SPARSE)
    }

    /// Whether the viewer has pictures.
    pub(super) const fn has_pictures(&self) -> bool {
        self.first_frame_ms.is_some() || self.frames > 0
    }

    /// Whether what the demo is to show was seen: a direct link, pictures over it, and one of them kept
    /// where that was asked for.
    pub(super) fn succeeded(&self, snapshot: Option<&Path>) -> bool {
        self.rung.as_deref().is_some_and(is_direct) && self.has_pictures() && snapshot.is_none_or(is_png)
    }

    /// The summary, a line an item.
    pub(super) fn summary(&self, snapshot: Option<&Path>) -> String {
        let mut text = String::new();
        let mut item = |name: &str, value: String| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "  {name:<12} {value}");
        };
        let ms = |value: Option<f64>| value.map_or_else(|| "none".into(), |ms| format!("{ms:.1} ms"));
        item("rung", self.rung.clone().unwrap_or_else(|| "none".into()));
        item("link", ms(self.link_ms));
        item("first frame", ms(self.first_frame_ms));
        item("frames", self.frames.to_string());
        if let Some(path) = snapshot {
            item("snapshot", if is_png(path) { path.display().to_string() } else { "none".into() });
        }
        text
    }
}

fn is_direct(rung: &str) -> bool {
    !rung.is_empty() && rung != "relayed"
}

/// Whether the file begins as every PNG does (PNG 3 §5.2).
fn is_png(path: &Path) -> bool {
    fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"\x89PNG\r\n\x1a\n"))
}

fn line(at: Duration, who: &str, what: &str) -> String {
    format!("{:>9.3} s  {who:<7} {what}", at.as_secs_f64())
}

/// An event in words.
fn describe(who: Who, event: &Event) -> String {
    let text = |field| event.text(field);
    match event.name.as_str() {
        "ready" if text("ticket").is_empty() => "begins".to_owned(),
        "ready" => format!("is ready; ticket {}", without_secret(&text("ticket"))),
        "logged-in" => "is logged in at the daemon's main port".to_owned(),
        "observed" => format!("has shown its hole port to the assist port: {}", text("endpoint")),
        "peer" => format!("hears of the other: {}", text("id")),
        "introduced" => format!("is introduced; the other may be at {}", event.list("endpoints")),
        "code" if text("code").is_empty() => "has no short code".to_owned(),
        "code" => "has a short code".to_owned(),
        "cast-end" => "hears that the cast is over".to_owned(),
        "attempt" => format!("tries {}: {} → {}", text("rung"), text("local"), text("remote")),
        "link" => format!(
            "has a link, {}: {} → {}, {} ms after the request, round trip {} ms",
            text("rung"),
            text("local"),
            text("remote"),
            text("elapsed_ms"),
            text("rtt_ms")
        ),
        "first-frame" if who == Who::Caster => {
            format!("sends the first picture, {} ms after the request", text("elapsed_ms"))
        }
        "first-frame" => format!("shows the first picture, {} ms after the request", text("elapsed_ms")),
        "stats" => format!(
            "{} frames, {} bytes, {} dropped; round trip {} ms; {}",
            text("frames"),
            text("bytes"),
            text("dropped"),
            text("rtt_ms"),
            text("rung")
        ),
        "lost" => format!("has lost the link: {}", text("why")),
        "end" => format!("ends: {}", text("reason")),
        other => other.to_owned(),
    }
}

/// A ticket without what follows the `#`, which nobody but caster and viewer should know: terminals are recorded.
fn without_secret(ticket: &str) -> String {
    ticket.split_once('#').map_or_else(|| ticket.to_owned(), |(open, _)| format!("{open}#…"))
}
