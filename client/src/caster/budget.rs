//! How many bits a second an encoder may make for one viewer's line.
//!
//! The line says two things: that it is *full* (a picture waits for it), and what it carried then. The budget falls to
//! nine tenths of that as soon as the line is full for a good part of a [`PERIOD`], or at once where the line carries half of
//! what is made or less ([`SUDDEN`]), and rises while it never is: by half at once up to where it was full last, beyond
//! that after a while, for the line may have become faster. Once more has arrived than what a line takes in advance
//! ([`BUCKET`]) it has, nobody knows by how much, and the budget doubles. It rises only if what is made makes use of it; a
//! still picture tells nothing of a line.

use std::time::{Duration, Instant};

/// How often the budget is thought over. Shorter, one keyframe looks like a full line.
pub(super) const PERIOD: Duration = Duration::from_millis(500);

/// The part of a period for which a line that suffices may be full: one burst of a keyframe.
const FULL_PART: f64 = 0.25;

/// How long nothing beyond a known end is tried. A line that became ten times faster is used to the full within four
/// seconds: this, and four or five steps.
const PROBE_AFTER: Duration = Duration::from_millis(1500);

/// How far beyond a known end is looked, in hundredths of what is made before: so far that a line that is no faster is full within the
/// period, and one that is shows it in the same time.
const PROBE_PART: u64 = 175;

/// Bytes that a line may take beyond its rate after a pause (a shaper's bucket, a router's queue), and the same as a time at that rate.
/// What arrives within that says nothing of how fast the line is.
const BUCKET: u64 = 64 * 1024;
const BUCKET_TIME: Duration = Duration::from_millis(500);

/// The part of the bitrate, as one of so many, to which a line has to fall for it to be taken note of at once: what
/// waits is left out then, up to a keyframe that is asked for.
pub(super) const SUDDEN: u64 = 2;

/// The part of what the line carried when it was full last, in hundredths, to which one period lowers that unless it has become
/// slower at once. It may have been bad luck, a picture of which a part had to be sent again; what is slower is still full in
/// the next.
const PERIOD_PART: u64 = 80;

/// Bits a second. Less makes no picture.
const LEAST: u64 = 150_000;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Budget {
    /// Bits a second; nothing while the line was never full.
    target: Option<u64>,
    /// Where the line was full last, and since when nothing beyond was tried; nothing where that may have been a pause.
    end: Option<(u64, Instant)>,
    /// Since when more is made than that, and the bytes that had arrived in all then.
    beyond: Option<(Instant, u64)>,
    /// When the period began.
    since: Instant,
    full_since: Option<Instant>,
    full: Duration,
    /// Bytes that had arrived in all then.
    arrived: u64,
    /// Bits a second that arrived in the last whole period.
    made: u64,
}

impl Budget {
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            target: None,
            end: None,
            beyond: None,
            since: now,
            full_since: None,
            full: Duration::ZERO,
            arrived: 0,
            made: 0,
        }
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

    /// Takes note of a line that carries `rate` bytes a second now, and has become slower at once if that is so much less
    /// than what is made; whether it has. `arrived` is as in [`Self::think`].
    pub(super) fn fall(&mut self, now: Instant, rate: u64, arrived: u64) -> bool {
        let carries = (rate * 8).max(LEAST);
        let fell = self.is_sudden(carries);
        if fell {
            self.fall_to(now, carries);
            self.begin_period(now, arrived);
        }
        fell
    }

    /// When it is to be thought over.
    pub(super) fn due(&self) -> Instant {
        self.since + PERIOD
    }

    /// Thinks it over. `rate` is what the line carried when it was full last, in bytes a second; `arrived` is how many have
    /// arrived in all.
    pub(super) fn think(&mut self, now: Instant, rate: Option<u64>, arrived: u64) {
        let time = now.saturating_duration_since(self.since).as_secs_f64();
        if let Some(since) = self.full_since {
            self.full += now.saturating_duration_since(since);
        }
        let bits = arrived.saturating_sub(self.arrived) * 8;
        let made = (bits as f64 / time.max(0.001)) as u64;
        let part = self.full.as_secs_f64() / time.max(0.001);
        self.made = made;
        self.begin_period(now, arrived);
        if part > FULL_PART {
            // Where nothing arrives, nothing is known of how fast the line is.
            if made > 0 {
                let carries = rate.map_or(made, |rate| (rate * 8).min(made * 2)).max(LEAST);
                self.fall_to(now, self.not_much_less(carries));
            }
        } else if let Some(target) = self.target
            && part < FULL_PART / 4.0
            && made * 10 > target * 6
        {
            let raised = target + target / 2;
            self.target = Some(match self.end {
                Some((end, _)) if raised <= end => raised,
                Some((end, at)) if target <= end && now < at + PROBE_AFTER => target.max(end / 10 * 9),
                Some((end, _)) if target <= end => {
                    self.beyond = Some((now, arrived));
                    target / 100 * PROBE_PART
                }
                Some((end, _)) if !self.is_faster(now, end, arrived) => target,
                Some(_) | None => target * 2,
            });
        }
    }

    /// Whether more has arrived since more is made than a line of `end` bits a second would have carried.
    fn is_faster(&self, now: Instant, end: u64, arrived: u64) -> bool {
        let Some((since, before)) = self.beyond else { return true };
        let carried = |time: Duration| (end as f64 / 8.0 * time.as_secs_f64()) as u64;
        arrived.saturating_sub(before)
            > carried(now.saturating_duration_since(since)) + carried(BUCKET_TIME).min(BUCKET)
    }

    /// A line of `carries` bits a second is full. Whether it was a sudden fall's end the next period shows: TCP looks the same
    /// for a moment when it has lost something.
    fn fall_to(&mut self, now: Instant, carries: u64) {
        self.end = (!self.is_sudden(carries)).then_some((carries, now));
        self.beyond = None;
        self.target = Some((carries / 10 * 9).max(LEAST));
    }

    /// What the line counts as carrying after one period in which it carried that.
    fn not_much_less(&self, carries: u64) -> u64 {
        let end = self.end.map_or(0, |(end, _)| end);
        if carries * SUDDEN <= end { carries } else { carries.max(end / 100 * PERIOD_PART) }
    }

    fn is_sudden(&self, carries: u64) -> bool {
        carries * SUDDEN <= self.target.unwrap_or(self.made)
    }

    fn begin_period(&mut self, now: Instant, arrived: u64) {
        (self.since, self.full, self.arrived) = (now, Duration::ZERO, arrived);
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
        /// Bytes that have arrived.
        arrived: u64,
    }

    impl Bed {
        #[allow(clippy::disallowed_methods)] // A test's time begins somewhere.
        fn new(line: u64) -> Self {
            let now = Instant::now();
            Self { now, budget: Budget::new(now), line, waiting: 0, arrived: 0 }
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
                }
                let carried = carries.min(self.waiting);
                self.waiting -= carried;
                self.arrived += carried / 8;
                self.budget.note(self.now, self.waiting > 0);
                if self.now >= self.budget.due() {
                    self.budget.think(self.now, Some(self.line / 8), self.arrived);
                }
            }
        }

        fn fall(&mut self, rate: u64) -> bool {
            self.budget.fall(self.now, rate, self.arrived)
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
                assert!((0.6..=1.6).contains(&bed.part()), "{:.2} of {line}", bed.part());
            }
        }
    }

    #[test]
    fn a_line_that_falls_is_followed_at_once_and_a_little_less_is_not() {
        let mut bed = Bed::new(20_000_000);
        bed.run(Duration::from_secs(5));
        let before = bed.budget.target().expect("the line was full");
        assert!(!bed.fall(before / 8 / SUDDEN + 1));
        assert_eq!(bed.budget.target(), Some(before));
        assert!(bed.fall(250_000));
        assert_eq!(bed.budget.target(), Some(1_800_000));
        assert_eq!(bed.budget.due(), bed.now + PERIOD, "what was before says nothing any more");
        assert!(!bed.fall(240_000));
        bed.run(Duration::from_millis(3500));
        assert!((0.6..=1.5).contains(&bed.part()), "it was not so: {:.2} of the line", bed.part());
    }

    #[test]
    fn a_line_that_became_faster_is_used_within_four_seconds() {
        for first in 0..20 {
            let mut bed = Bed::new(2_000_000);
            // So that the change comes at any time before or after a look beyond the end.
            bed.run(Duration::from_millis(8000 + first * 100));
            bed.line = 20_000_000;
            bed.run(Duration::from_secs(4));
            assert!(bed.part() > 0.8, "{first}: {:.2} of the line", bed.part());
        }
    }

    #[test]
    fn what_a_bucket_takes_in_advance_is_no_faster_line() {
        let mut bed = Bed::new(2_000_000);
        bed.run(Duration::from_secs(5));
        let (end, _) = bed.budget.end.expect("the line was full");
        let mut highest = 0;
        // Never full for ten looks beyond the end, though no more arrives than the line and a bucket of 32 kB carry.
        for _ in 0..10 {
            bed.now += PROBE_AFTER;
            bed.budget.note(bed.now, false);
            bed.arrived += end / 8 * 3 / 2;
            bed.budget.think(bed.now, None, bed.arrived);
            bed.now += PERIOD;
            bed.arrived += end / 8 / 2 + 32 * 1024;
            bed.budget.think(bed.now, None, bed.arrived);
            highest = highest.max(bed.budget.target().expect("it has one"));
            bed.budget.fall_to(bed.now, end);
        }
        assert_eq!(highest, end / 10 * 9 / 100 * PROBE_PART);
    }

    #[test]
    fn one_bad_period_lowers_it_by_a_fifth() {
        let mut bed = Bed::new(10_000_000);
        bed.run(Duration::from_secs(5));
        let (end, _) = bed.budget.end.expect("the line was full");
        bed.budget.note(bed.now, true);
        bed.now += PERIOD;
        bed.arrived += 6_000_000 / 8 / 2;
        bed.budget.think(bed.now, Some(6_000_000 / 8), bed.arrived);
        assert_eq!(bed.budget.target(), Some(end / 100 * PERIOD_PART / 10 * 9));
    }

    #[test]
    fn a_line_on_which_nothing_arrives_says_nothing() {
        let mut bed = Bed::new(20_000_000);
        bed.run(Duration::from_secs(5));
        let before = bed.budget.target().expect("the line was full");
        bed.budget.note(bed.now, true);
        bed.now += PERIOD;
        bed.budget.think(bed.now, Some(2_500_000), bed.arrived);
        assert_eq!(bed.budget.target(), Some(before));
    }

    #[test]
    fn a_still_picture_raises_nothing() {
        let mut bed = Bed::new(1_000_000);
        bed.run(Duration::from_secs(2));
        let before = bed.budget.target().expect("the line was full");
        for _ in 0..20 {
            bed.now += PERIOD;
            bed.budget.note(bed.now, false);
            bed.budget.think(bed.now, Some(125_000), bed.arrived);
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
