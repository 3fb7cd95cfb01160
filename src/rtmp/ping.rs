//! The round trip, by pings (RTMP 1.0 §7.1.7, event types 6 and 7).
//!
//! A PingRequest carries the sender's clock and comes back in a PingResponse. Sessions answer the peer's pings by
//! themselves; own ones measure the round trip by this clock, which the owner feeds.
//!
//! ```text
//!   PingClock::handle_timeout ─▶ session.ping ─▶ … ─▶ session.poll_pong ─▶ PingClock::handle
//! ```
//!
//! Nothing else of the stream depends on them: a peer that does not answer, as some servers do not answer clients, has
//! no round-trip time and is no worse for it.

use std::time::{Duration, Instant};

/// Measures the round trip.
#[derive(Clone, Debug)]
pub struct PingClock {
    epoch: Instant,
    every: Duration,
    next: Instant,
    /// The ping that is under way.
    sent: Option<(u32, Instant)>,
}

impl PingClock {
    /// A clock that begins to count at `now`, and pings from then on at this interval.
    #[must_use]
    pub const fn new(now: Instant, every: Duration) -> Self {
        Self { epoch: now, every, next: now, sent: None }
    }

    /// When it wants `handle_timeout`, and why.
    #[must_use]
    pub const fn poll_timeout(&self) -> (Instant, &'static str) {
        (self.next, "the next rtmp ping")
    }

    /// What to ping with, milliseconds modulo 2^32, if it is time for it. An earlier ping is not awaited any more.
    pub fn handle_timeout(&mut self, now: Instant) -> Option<u32> {
        if now < self.next {
            return None;
        }
        self.next = now + self.every;
        // Modulo on purpose, as RTMP's timestamps are.
        let time = now.saturating_duration_since(self.epoch).as_millis() as u32;
        self.sent = Some((time, now));
        Some(time)
    }

    /// Takes an answer; the round trip, if it is that to the ping under way.
    pub fn handle(&mut self, now: Instant, pong: u32) -> Option<Duration> {
        let (_, at) = self.sent.take_if(|(time, _)| *time == pong)?;
        Some(now.saturating_duration_since(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[allow(clippy::disallowed_methods)] // A test's time begins somewhere.
    fn start() -> Instant {
        Instant::now()
    }

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn an_answer_measures_the_round_trip_once() {
        let t0 = start();
        let mut clock = PingClock::new(t0, 1000 * MS);
        assert_eq!(clock.handle_timeout(t0 + 5 * MS), Some(5));
        assert_eq!(clock.poll_timeout().0, t0 + 1005 * MS);
        assert_eq!(clock.handle_timeout(t0 + 6 * MS), None);
        assert_eq!(clock.handle(t0 + 12 * MS, 9), None);
        assert_eq!(clock.handle(t0 + 12 * MS, 5), Some(7 * MS));
        assert_eq!(clock.handle(t0 + 90 * MS, 5), None);
    }
}
