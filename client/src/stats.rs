//! Counts what passes, for the `stats` line of each second.

use punchcast::media::Unit;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Ages that are kept of one period; the rest of them counts for nothing. More pictures in a second than any screen has.
const MAX_AGES: usize = 1000;

/// Stamps that are kept for pictures to come: those of pictures that the sender then could not send stay behind.
const MAX_STAMPS: usize = 64;

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
    /// How old pictures were, half of them at most; `None` if it is not known of any.
    pub age_p50: Option<Duration>,
    /// The same for 99 of 100.
    pub age_p99: Option<Duration>,
}

/// When pictures that are still to come were made.
#[derive(Debug, Default)]
pub struct Stamps(VecDeque<(u32, Instant)>);

impl Stamps {
    /// Notes when the next picture was made, which has that timestamp.
    pub fn note(&mut self, timestamp: u32, made: Instant) {
        if self.0.len() == MAX_STAMPS {
            self.0.pop_front();
        }
        self.0.push_back((timestamp, made));
    }

    /// When the picture with that timestamp was made; forgets the ones before it.
    pub fn take(&mut self, timestamp: u32) -> Option<Instant> {
        let at = self.0.iter().position(|(stamped, _)| *stamped == timestamp)?;
        self.0.drain(..=at).next_back().map(|(_, made)| made)
    }
}

/// Counts units and says when to tell.
#[derive(Debug)]
pub struct Meter {
    counts: Counts,
    ages: Vec<Duration>,
    since: Instant,
}

impl Meter {
    /// A meter that begins at `now`.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { counts: Counts::default(), ages: Vec::new(), since: now }
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
        if unit.is_picture() {
            self.counts.frames += 1;
            self.counts.total_frames += 1;
        }
    }

    /// Notes the age of a picture that was counted.
    pub fn age(&mut self, age: Duration) {
        if self.ages.len() < MAX_AGES {
            self.ages.push(age);
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
        self.ages.sort_unstable();
        let share = |hundredths: usize| {
            self.ages.get((self.ages.len().saturating_sub(1)) * hundredths / 100).copied()
        };
        let counts = Counts {
            period_ms: u64::try_from(period).unwrap_or(u64::MAX),
            age_p50: share(50),
            age_p99: share(99),
            ..self.counts
        };
        self.ages.clear();
        self.since = now;
        self.counts.frames = 0;
        self.counts.bytes = 0;
        counts
    }
}
