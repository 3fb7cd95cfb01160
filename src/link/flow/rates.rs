//! What the line carried of late, by the receipts that came.

use super::micros;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How far back receipts count for the line's rate: several pictures, so that one picture's burst is not taken for it.
pub(super) const RATE_TIME: Duration = Duration::from_millis(150);
/// Less than this says nothing of a rate.
const RATE_TIME_MIN: Duration = Duration::from_millis(30);

/// Receipts, and rates, that are kept: more than an honest receiver tells in [`RATE_TIME`].
pub(super) const RECEIPTS: usize = 64;

/// Rates of late. The best of them is the line's.
#[derive(Debug, Default)]
pub(super) struct Rates {
    /// Receipts without a pause between: bytes, the receiver's clock in microseconds, and ours.
    receipts: VecDeque<(u64, u64, Instant)>,
    /// With their times, falling: bytes a second.
    rates: VecDeque<(Instant, u64)>,
}

impl Rates {
    pub(super) const fn new() -> Self {
        Self { receipts: VecDeque::new(), rates: VecDeque::new() }
    }

    /// The line was idle: what comes tells of its rate from its first receipt on.
    pub(super) fn pause(&mut self) {
        self.receipts.clear();
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Self::new();
    }

    /// The line's rate: the best of late, for where the window was the limit the line was idle half the time.
    pub(super) fn note(
        &mut self,
        now: Instant,
        received: u64,
        clock: u64,
        shortest: Duration,
    ) -> Option<u64> {
        // By their clock, which the way back does not blur, and by ours, since theirs may stand still.
        let old = |&(_, theirs, ours): &(u64, u64, Instant)| {
            clock.saturating_sub(theirs) > micros(RATE_TIME) || ours + RATE_TIME * 2 < now
        };
        while self.receipts.len() >= RECEIPTS || self.receipts.front().is_some_and(old) {
            self.receipts.pop_front();
        }
        self.receipts.push_back((received, clock, now));
        let &(first, since, _) = self.receipts.front()?;
        let time = clock.saturating_sub(since);
        if time >= micros(RATE_TIME_MIN) {
            let rate = (received - first).saturating_mul(1_000_000) / time;
            while self.rates.back().is_some_and(|&(_, lower)| lower <= rate) {
                self.rates.pop_back();
            }
            if self.rates.len() >= RECEIPTS {
                self.rates.pop_back();
            }
            self.rates.push_back((now, rate));
        }
        let keep = RATE_TIME.max(shortest * 2);
        while self.rates.len() > 1 && self.rates.front().is_some_and(|&(at, _)| at + keep < now) {
            self.rates.pop_front();
        }
        self.rates.front().map(|&(_, rate)| rate)
    }

    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.receipts.len().max(self.rates.len())
    }
}
