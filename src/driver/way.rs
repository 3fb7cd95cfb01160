//! Giving way to others on the processor, where that costs no time that somebody waits for.

use super::now;
use std::time::{Duration, Instant};

/// A processor that was given way for longer is busy with what knows no haste: what passes a picture on is done in less, and a
/// scheduler's slice is longer.
const LONG_WAY: Duration = Duration::from_micros(500);

/// How long no way is given then, at first: a program that begins, a browser's page. Who sleeps is woken in the middle of
/// another's slice, who waits for a turn is not.
const BUSY_TIME: Duration = Duration::from_millis(500);

/// How long at most: twice as long each time that the processor is found busy so soon after the last. One picture in 600
/// finds it out then.
const MOST_BUSY_TIME: Duration = Duration::from_secs(10);

/// Whether way can be given.
#[derive(Default)]
pub(super) struct Way {
    busy: Option<Busy>,
}

/// What was found last.
#[derive(Clone, Copy)]
struct Busy {
    until: Instant,
    lasts: Duration,
}

impl Way {
    /// Whether a processor that is given way comes back soon.
    pub(super) fn is_free(&self, now: Instant) -> bool {
        self.busy.is_none_or(|busy| busy.until <= now)
    }

    /// Lets others who have something to do go first. A processor that does not come back soon has no time to wait on.
    pub(super) fn give(&mut self) {
        let before = now();
        std::thread::yield_now();
        let after = now();
        if after.saturating_duration_since(before) > LONG_WAY {
            self.found_busy(after);
        }
    }

    /// A processor that was busy, or slow, till now.
    pub(super) fn found_busy(&mut self, now: Instant) {
        let again = self.busy.filter(|busy| now <= busy.until + MOST_BUSY_TIME);
        let lasts = again.map_or(BUSY_TIME, |busy| (2 * busy.lasts).min(MOST_BUSY_TIME));
        log::debug!("the processor is busy: {lasts:?} without waiting awake");
        self.busy = Some(Busy { until: now + lasts, lasts });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Found busy each time that way is given again: for how long way was not given, in milliseconds.
    #[test]
    fn a_busy_processor_is_asked_less_and_less_often() {
        let (mut way, mut at, mut waits) = (Way::default(), now(), Vec::new());
        for _ in 0..7 {
            assert!(way.is_free(at));
            way.found_busy(at);
            let until = way.busy.expect("it was found busy").until;
            assert!(!way.is_free(until - Duration::from_nanos(1)));
            waits.push((until - at).as_millis());
            at = until;
        }
        assert_eq!(waits, [500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000]);
        at += MOST_BUSY_TIME + Duration::from_secs(1);
        way.found_busy(at);
        assert!(way.is_free(at + BUSY_TIME), "what was long ago does not count");
    }
}
