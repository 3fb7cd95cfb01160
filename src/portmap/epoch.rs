//! A gateway's clock, and what it tells of the gateway's memory.

use std::time::{Duration, Instant};

/// What replies said of the gateway's clock, which begins at zero when it loses its mappings.
///
/// A clock that is not where it should be has been set back: the gateway restarted, or another one answers in its place,
/// and what it had been asked for is gone (RFC 6887, section 8.5; RFC 6886, section 3.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch {
    seconds: u32,
    at: Instant,
}

/// How far both clocks may be apart beside [`DRIFT`], for rounding and for a reply that was late.
const SLACK: Duration = Duration::from_secs(2);
/// One in so many seconds may be lost by a bad clock. RFC 6887 has 16, RFC 6886 has 8; the wider of the two.
const DRIFT: u32 = 8;

impl Epoch {
    /// The first reply.
    #[must_use]
    pub const fn new(seconds: u32, now: Instant) -> Self {
        Self { seconds, at: now }
    }

    /// Takes another reply. Whether the gateway has kept its memory since the last one.
    #[must_use]
    pub fn advance(&mut self, seconds: u32, now: Instant) -> bool {
        let before = std::mem::replace(self, Self { seconds, at: now });
        let ours = now.saturating_duration_since(before.at);
        // Replies to one request may be overtaken, so a second back is none.
        if seconds < before.seconds {
            return before.seconds - seconds <= 1;
        }
        let theirs = Duration::from_secs(u64::from(seconds - before.seconds));
        // Both differences are below what an `Instant` and 32 bits of seconds span, so nothing overflows.
        ours + SLACK >= theirs - theirs / DRIFT && theirs + SLACK >= ours - ours / DRIFT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(first: u32, then: u32, after: u64) -> bool {
        let now = crate::driver::now();
        Epoch::new(first, now).advance(then, now + Duration::from_secs(after))
    }

    #[test]
    fn a_clock_that_goes_with_ours_has_kept_its_memory() {
        assert!(kept(100, 1000, 900));
        assert!(kept(100, 1080, 900), "a fast clock");
        assert!(kept(100, 900, 900), "a slow clock");
        assert!(kept(100, 99, 0), "overtaken");
    }

    #[test]
    fn a_clock_that_went_back_or_stood_or_jumped_has_lost_it() {
        assert!(!kept(100, 5, 900), "restarted");
        assert!(!kept(1000, 1000, 900), "stood still");
        assert!(!kept(0, 900, 900 / 2), "jumped");
        assert!(!kept(u32::MAX, 0, 10), "wrapped");
    }
}
