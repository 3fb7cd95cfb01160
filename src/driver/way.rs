//! Giving way to others on the processor, where that costs no time that somebody waits for.

use super::now;
use std::time::{Duration, Instant};

/// A processor that was given way for longer is busy with what knows no haste: what passes a picture on is done in less, and a
/// scheduler's slice is longer.
const LONG_WAY: Duration = Duration::from_micros(500);

/// How long no way is given then: who sleeps is woken in the middle of another's slice, who waits for a turn is not. One
/// picture in 600 finds that out.
const BUSY_TIME: Duration = Duration::from_secs(10);

/// Whether way can be given.
#[derive(Default)]
pub(super) struct Way {
    /// Till when the processor counts as busy.
    busy_until: Option<Instant>,
}

impl Way {
    /// Whether a processor that is given way comes back soon.
    pub(super) fn is_free(&self, now: Instant) -> bool {
        self.busy_until.is_none_or(|until| until <= now)
    }

    /// Lets others who have something to do go first. A processor that does not come back soon has no time to wait on.
    pub(super) fn give(&mut self) {
        let before = now();
        std::thread::yield_now();
        let after = now();
        if after.saturating_duration_since(before) > LONG_WAY {
            self.busy_until = Some(after + BUSY_TIME);
        }
    }
}
