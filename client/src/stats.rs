//! Counts what passes, for the `stats` line of each second.

use punchcast::media::{Kind, Unit};
use std::time::{Duration, Instant};

/// How often statistics are told.
pub const EVERY: Duration = Duration::from_secs(1);

/// Counts of one cast.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Pictures since the last telling.
    pub frames: u64,
    /// Payload bytes of all kinds since the last telling.
    pub bytes: u64,
    /// Pictures since the cast began.
    pub total_frames: u64,
    /// Payload bytes since the cast began.
    pub total_bytes: u64,
    /// Milliseconds that `frames` and `bytes` cover.
    pub period_ms: u64,
}

/// Counts units and says when to tell.
#[derive(Debug)]
pub struct Meter {
    counts: Counts,
    since: Instant,
}

impl Meter {
    /// A meter that begins at `now`.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { counts: Counts::default(), since: now }
    }

    /// Begins again, for a new cast.
    pub fn reset(&mut self, now: Instant) {
        *self = Self::new(now);
    }

    /// Counts a unit.
    pub fn count(&mut self, unit: &Unit) {
        let size = unit.payload.len() as u64;
        self.counts.bytes += size;
        self.counts.total_bytes += size;
        if unit.kind == Kind::Video && !unit.is_sequence_header() {
            self.counts.frames += 1;
            self.counts.total_frames += 1;
        }
    }

    /// Pictures since the cast began.
    #[must_use]
    pub const fn total_frames(&self) -> u64 {
        self.counts.total_frames
    }

    /// When the next telling is due.
    #[must_use]
    pub fn due(&self) -> Instant {
        self.since + EVERY
    }

    /// Whether it is due.
    #[must_use]
    pub fn is_due(&self, now: Instant) -> bool {
        self.due() <= now
    }

    /// The counts since the last telling.
    pub fn take(&mut self, now: Instant) -> Counts {
        let period = now.saturating_duration_since(self.since).as_millis();
        let counts = Counts { period_ms: u64::try_from(period).unwrap_or(u64::MAX), ..self.counts };
        self.since = now;
        self.counts.frames = 0;
        self.counts.bytes = 0;
        counts
    }
}
