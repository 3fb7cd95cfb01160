//! How old a picture is at least that comes by plain RTMP, where the two ends have no clock in common.
//!
//! Timestamps tell how far apart pictures were made, and the clock here how far apart they come. A picture that comes
//! later than its timestamp says, by the *quickest* picture so far, has waited so much longer than that one did; and no
//! picture comes sooner than half of the least round trip. The sum is a lower bound of the age: what the quickest took
//! beyond that (its capture, its encoding, a queue that was there from the beginning) is known to nobody here.
//!
//! ```text
//!   age ≥ (arrival − timestamp) − least (arrival − timestamp) + ½ least round trip
//! ```
//!
//! Two clocks do not run alike, so the least difference is let rise by [`MAX_DRIFT_PPM`]. That is slow enough that a queue
//! which stands for minutes is not taken for what is normal.

use std::time::{Duration, Instant};

/// How much slower than the clock here the sender's may be, parts in a million: crystals are off by 100 at most,
/// and there are two. A queue of a second is forgotten at this rate within an hour and a half.
const MAX_DRIFT_PPM: i64 = 200;

/// The time in which that is one microsecond, microseconds.
const DRIFT_TIME: i64 = 1_000_000 / MAX_DRIFT_PPM;

/// How far a timestamp may stand behind the one before it, milliseconds. Further back is another stream.
const MAX_STEP_BACK: i32 = 2_000;

/// The lower bound of one stream's ages: what came later than the quickest, and half of the least round trip.
#[derive(Clone, Debug, Default)]
pub struct Lateness {
    line: Option<Line>,
    round_trip: Option<Duration>,
}

/// One stream, since its first picture; microseconds.
#[derive(Clone, Copy, Debug)]
struct Line {
    first: Instant,
    /// The last timestamp, milliseconds modulo 2^32, and what has passed by timestamps.
    timestamp: u32,
    stamped: i64,
    /// The least difference between what has passed here and by timestamps, and when that was judged.
    least: i64,
    judged: i64,
}

impl Lateness {
    /// Nothing is known yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a round trip of the connection: the least counts, as others have waited in queues.
    pub fn round_trip(&mut self, measured: Duration) {
        self.round_trip = Some(self.round_trip.map_or(measured, |least| least.min(measured)));
    }

    /// How old the picture with this timestamp, which has just come, is at least. Of the first picture of a stream, and
    /// of one that is the quickest, that is half a round trip.
    pub fn picture(&mut self, now: Instant, timestamp: u32) -> Duration {
        let way = self.round_trip.unwrap_or_default() / 2;
        let step = |line: &Line| timestamp.wrapping_sub(line.timestamp).cast_signed();
        let Some(line) = self.line.as_mut().filter(|line| step(line) >= -MAX_STEP_BACK) else {
            self.line = Some(Line { first: now, timestamp, stamped: 0, least: 0, judged: 0 });
            return way;
        };
        line.stamped = line.stamped.saturating_add(i64::from(step(line)) * 1000);
        line.timestamp = timestamp;
        let passed = now.saturating_duration_since(line.first).as_micros();
        let passed = i64::try_from(passed).unwrap_or(i64::MAX);
        let difference = passed.saturating_sub(line.stamped);
        let drift = passed.saturating_sub(line.judged) / DRIFT_TIME;
        line.judged += drift * DRIFT_TIME;
        line.least = line.least.saturating_add(drift).min(difference);
        way + Duration::from_micros(difference.saturating_sub(line.least).unsigned_abs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[allow(clippy::disallowed_methods)] // A test's time begins somewhere.
    fn start() -> Instant {
        Instant::now()
    }

    /// Ages of pictures that come so late by their timestamps, one each 40 ms, microseconds.
    fn ages(
        late: &mut Lateness,
        begun: Instant,
        first: u32,
        lates: impl IntoIterator<Item = u32>,
    ) -> Vec<u128> {
        let picture = |(at, ms): (u32, u32)| {
            late.picture(begun + (at * 40 + ms) * MS, first.wrapping_add(at * 40)).as_micros()
        };
        (0..).zip(lates).map(picture).collect()
    }

    #[test]
    fn a_picture_is_as_old_as_it_waited_longer_than_the_quickest_and_half_a_round_trip() {
        let mut late = Lateness::new();
        assert_eq!(ages(&mut late, start(), 7, [5, 5, 30, 2, 2, 90])[..2], [0, 0]);
        late = Lateness::new();
        late.round_trip(20 * MS);
        late.round_trip(90 * MS);
        let ages = ages(&mut late, start(), u32::MAX - 50, [5, 5, 30, 2, 2, 90]);
        let rounded: Vec<_> = ages.iter().map(|age| (age + 500) / 1000).collect();
        assert_eq!(rounded, [10, 10, 35, 10, 10, 98]);
    }

    #[test]
    fn clocks_that_drift_make_nothing_old() {
        // By 150 parts in a million slower and faster, over an hour.
        for ppm in [150_i64, -150] {
            let (mut late, begun) = (Lateness::new(), start());
            let oldest = (0..90_000_u32).map(|at| {
                let micros = i64::from(at) * 40 * (1000 * 1_000_000 + 1000 * ppm) / 1_000_000;
                late.picture(begun + Duration::from_micros(micros.unsigned_abs()), at * 40)
            });
            assert!(oldest.max() < Some(MS), "{ppm}");
        }
    }

    #[test]
    fn a_queue_that_stands_is_not_forgotten() {
        let lates = (0..15_000).map(|at| if at < 25 { 0 } else { 2_000 });
        let ages = ages(&mut Lateness::new(), start(), 0, lates);
        // Ten minutes later.
        assert!((1_870_000..1_890_000).contains(&ages[14_999]), "{}", ages[14_999]);
    }

    #[test]
    fn another_stream_begins_anew_and_a_leap_ahead_is_the_quickest() {
        let (mut late, begun) = (Lateness::new(), start());
        late.picture(begun, 60_000);
        assert_eq!(late.picture(begun + 540 * MS, 60_040).as_millis(), 499, "and the drift that may be");
        assert_eq!(late.picture(begun + 600 * MS, 0), Duration::ZERO, "the clock went back");
        assert_eq!(late.picture(begun + 640 * MS, 9_000), Duration::ZERO, "it leapt ahead");
        assert_eq!(late.picture(begun + 680 * MS, 9_040), Duration::ZERO);
        assert_eq!(late.picture(begun + 680 * MS, 8_000), 1040 * MS, "a picture out of order");
    }
}
