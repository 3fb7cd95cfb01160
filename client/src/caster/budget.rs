//! How many bits a second an encoder may make for one viewer's line.
//!
//! The line says two things: that it is *full* (a picture waits for it), and what it carried then. The budget falls to
//! nine tenths of that as soon as the line is full for a good part of a [`PERIOD`], or at once where the line carries half of
//! what is made or less ([`SUDDEN`]), and rises while it never is: by half at
//! once up to where it was full last, and beyond that after a while, for the line may have become faster. It rises only
//! if the encoder makes use of it; a still picture tells nothing of a line.

use std::time::{Duration, Instant};

/// How often the budget is thought over. Shorter, one keyframe looks like a full line.
pub(super) const PERIOD: Duration = Duration::from_millis(500);

/// The part of a period for which a line that suffices may be full: one burst of a keyframe.
const FULL_PART: f64 = 0.25;

/// How long nothing beyond a known end is tried. A line that became ten times faster is used to the full within five
/// seconds: this, and six steps.
const PROBE_AFTER: Duration = Duration::from_millis(1500);

/// The part of the bitrate, as one of so many, to which a line has to fall for it to be taken note of at once. Encoders
/// begin anew at each change, with a keyframe.
pub(super) const SUDDEN: u64 = 2;

/// Bits a second. Less makes no picture.
const LEAST: u64 = 150_000;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Budget {
    /// Bits a second; nothing while the line was never full.
    target: Option<u64>,
    /// Where the line was full last, and since when nothing beyond was tried.
    end: Option<(u64, Instant)>,
    since: Instant,
    full_since: Option<Instant>,
    full: Duration,
    bits: u64,
}

impl Budget {
    pub(super) const fn new(now: Instant) -> Self {
        Self { target: None, end: None, since: now, full_since: None, full: Duration::ZERO, bits: 0 }
    }

    /// Bits a second that the encoder may make; `None`: as many as it likes.
    pub(super) const fn target(&self) -> Option<u64> {
        self.target
    }

    /// Notes whether a picture waits for the line.
    pub(super) fn note(&mut self, now: Instant, full: bool) {
        match (full, self.full_since) {
            (true, None) => self.full_since = Some(now),
            (false, Some(since)) => {
                self.full += now.saturating_duration_since(since);
                self.full_since = None;
            }
            (true, Some(_)) | (false, None) => {}
        }
    }

    /// Counts what was sent.
    pub(super) const fn sent(&mut self, bytes: usize) {
        self.bits += bytes as u64 * 8;
    }

    /// Takes note of a line that carries `rate` bytes a second now, and has become slower at once if that is so much less
    /// than what is made; whether it has.
    pub(super) fn fall(&mut self, now: Instant, rate: u64) -> bool {
        let carries = (rate * 8).max(LEAST);
        let time = now.saturating_duration_since(self.since).as_secs_f64();
        let made = self.target.unwrap_or_else(|| (self.bits as f64 / time.max(0.001)) as u64);
        let fell = carries * SUDDEN <= made;
        if fell {
            self.target = Some((carries / 10 * 9).max(LEAST));
            // Whether this is its end the next period shows: TCP looks the same for a moment when it has lost something.
            self.end = None;
            self.begin_period(now);
        }
        fell
    }

    /// When it is to be thought over.
    pub(super) fn due(&self) -> Instant {
        self.since + PERIOD
    }

    /// Thinks it over; `rate` is what the line carried when it was full last, in bytes a second.
    pub(super) fn think(&mut self, now: Instant, rate: Option<u64>) {
        let time = now.saturating_duration_since(self.since).as_secs_f64();
        if let Some(since) = self.full_since {
            self.full += now.saturating_duration_since(since);
        }
        let sent = (self.bits as f64 / time.max(0.001)) as u64;
        let part = self.full.as_secs_f64() / time.max(0.001);
        self.begin_period(now);
        if part > FULL_PART {
            let carries = rate.map_or(sent, |rate| (rate * 8).min(sent.max(LEAST) * 2)).max(LEAST);
            self.target = Some((carries / 10 * 9).max(LEAST));
            self.end = Some((carries, now));
        } else if let Some(target) = self.target
            && part < FULL_PART / 4.0
            && sent * 10 > target * 6
        {
            let raised = target + target / 2;
            self.target = Some(match self.end {
                Some((end, at)) if raised > end && now < at + PROBE_AFTER => target.max(end / 10 * 9),
                _ => raised,
            });
        }
    }

    fn begin_period(&mut self, now: Instant) {
        (self.since, self.full, self.bits) = (now, Duration::ZERO, 0);
        self.full_since = self.full_since.map(|_| now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An encoder that makes what it may, up to 25 Mbit/s, for a line; 10 ms at a time.
    struct Bed {
        now: Instant,
        budget: Budget,
        /// Bits a second.
        line: u64,
        /// Bits that wait.
        waiting: u64,
    }

    impl Bed {
        #[allow(clippy::disallowed_methods)] // A test's time begins somewhere.
        fn new(line: u64) -> Self {
            let now = Instant::now();
            Self { now, budget: Budget::new(now), line, waiting: 0 }
        }

        fn run(&mut self, time: Duration) {
            let end = self.now + time;
            while self.now < end {
                self.now += Duration::from_millis(10);
                let carries = self.line / 100;
                // Nothing is encoded while something waits.
                if self.waiting < carries {
                    let made = self.budget.target().unwrap_or(25_000_000).min(25_000_000) / 100;
                    self.waiting += made;
                    self.budget.sent(usize::try_from(made / 8).unwrap());
                }
                self.waiting -= carries.min(self.waiting);
                self.budget.note(self.now, self.waiting > 0);
                if self.now >= self.budget.due() {
                    self.budget.think(self.now, Some(self.line / 8));
                }
            }
        }

        fn part(&self) -> f64 {
            self.budget.target().unwrap_or(25_000_000) as f64 / self.line as f64
        }
    }

    #[test]
    fn it_settles_within_five_seconds_of_each_change_of_the_line() {
        let mut bed = Bed::new(20_000_000);
        for line in [20_000_000, 2_000_000, 20_000_000, 2_000_000, 8_000_000] {
            bed.line = line;
            bed.run(Duration::from_secs(5));
            for _ in 0..10 {
                bed.run(Duration::from_secs(1));
                assert!((0.6..=1.5).contains(&bed.part()), "{:.2} of {line}", bed.part());
            }
        }
    }

    #[test]
    fn a_line_that_falls_is_followed_at_once_and_a_little_less_is_not() {
        let mut bed = Bed::new(20_000_000);
        bed.run(Duration::from_secs(5));
        let before = bed.budget.target().expect("the line was full");
        assert!(!bed.budget.fall(bed.now, before / 8 / SUDDEN + 1));
        assert_eq!(bed.budget.target(), Some(before));
        assert!(bed.budget.fall(bed.now, 250_000));
        assert_eq!(bed.budget.target(), Some(1_800_000));
        assert_eq!(bed.budget.due(), bed.now + PERIOD, "what was before says nothing any more");
        assert!(!bed.budget.fall(bed.now, 240_000));
        bed.run(Duration::from_millis(3500));
        assert!((0.6..=1.5).contains(&bed.part()), "it was not so: {:.2} of the line", bed.part());
    }

    #[test]
    fn a_still_picture_raises_nothing() {
        let mut bed = Bed::new(1_000_000);
        bed.run(Duration::from_secs(2));
        let before = bed.budget.target().expect("the line was full");
        for _ in 0..20 {
            bed.now += PERIOD;
            bed.budget.note(bed.now, false);
            bed.budget.think(bed.now, Some(125_000));
        }
        assert_eq!(bed.budget.target(), Some(before));
    }

    #[test]
    fn a_line_that_suffices_is_left_alone() {
        let mut bed = Bed::new(100_000_000);
        bed.run(Duration::from_secs(10));
        assert_eq!(bed.budget.target(), None);
    }
}
