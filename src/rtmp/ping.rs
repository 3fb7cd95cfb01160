//! What pings tell of the connection (RTMP 1.0 §7.1.7, event types 6 and 7).
//!
//! A PingRequest carries the sender's clock and comes back in a PingResponse. An own ping thus measures the round trip;
//! that a *peer* pings tells what its clock shows, half a round trip ago. Sessions answer pings by themselves and hand
//! out both as [`PingEvent`]s; this clock, which the owner feeds, makes times of them.
//!
//! ```text
//!   PingClock::handle_timeout ─▶ session.ping ─▶ … ─▶ session.poll_ping ─▶ PingClock::handle
//! ```
//!
//! Nothing else of the stream depends on them: a peer that does not answer, as some servers do not answer clients, has
//! no round-trip time and is no worse for it.

use std::time::{Duration, Instant};

/// What a session has seen of pings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PingEvent {
    /// The peer has answered the last ping.
    Answered {
        /// What the ping said.
        sent: u32,
    },
    /// The peer has pinged, and was answered.
    Asked {
        /// The peer's clock, milliseconds modulo 2^32.
        time: u32,
    },
}

/// Measures the round trip, and how far the peer's clock is from this one.
#[derive(Clone, Debug)]
pub struct PingClock {
    epoch: Instant,
    every: Duration,
    next: Instant,
    /// The ping that is under way.
    sent: Option<(u32, Instant)>,
    round_trip: Option<Duration>,
    offset: Option<i32>,
}

impl PingClock {
    /// A clock that begins to count at `now`, and pings from then on at this interval.
    #[must_use]
    pub const fn new(now: Instant, every: Duration) -> Self {
        Self { epoch: now, every, next: now, sent: None, round_trip: None, offset: None }
    }

    /// When it wants `handle_timeout`, and why.
    #[must_use]
    pub const fn poll_timeout(&self) -> (Instant, &'static str) {
        (self.next, "the next rtmp ping")
    }

    /// What to ping with, if it is time for it.
    pub fn handle_timeout(&mut self, now: Instant) -> Option<u32> {
        if now < self.next {
            return None;
        }
        self.next = now + self.every;
        let time = self.time(now);
        self.sent = Some((time, now));
        Some(time)
    }

    /// Takes what the session has seen; the round trip if that has measured one.
    pub fn handle(&mut self, now: Instant, event: PingEvent) -> Option<Duration> {
        match event {
            PingEvent::Answered { sent } => {
                let (_, at) = self.sent.take_if(|(time, _)| *time == sent)?;
                self.round_trip = Some(now.saturating_duration_since(at));
                self.round_trip
            }
            PingEvent::Asked { time } => {
                let half = self.round_trip.unwrap_or_default().as_millis() as u32 / 2;
                self.offset = Some(time.wrapping_add(half).wrapping_sub(self.time(now)).cast_signed());
                None
            }
        }
    }

    /// Milliseconds since the clock began, modulo 2^32.
    #[must_use]
    pub fn time(&self, now: Instant) -> u32 {
        // Modulo on purpose, as RTMP's timestamps are.
        now.saturating_duration_since(self.epoch).as_millis() as u32
    }

    /// The last round trip.
    #[must_use]
    pub const fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    /// What to add to [`Self::time`] for the peer's clock, milliseconds; known once the peer has pinged, and right to
    /// half a round trip's asymmetry.
    #[must_use]
    pub const fn offset(&self) -> Option<i32> {
        self.offset
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
        assert_eq!(clock.handle(t0 + 12 * MS, PingEvent::Answered { sent: 9 }), None);
        assert_eq!(clock.handle(t0 + 12 * MS, PingEvent::Answered { sent: 5 }), Some(7 * MS));
        assert_eq!(clock.handle(t0 + 90 * MS, PingEvent::Answered { sent: 5 }), None);
        assert_eq!(clock.round_trip(), Some(7 * MS));
    }

    #[test]
    fn the_peers_clock_is_taken_half_a_round_trip_later() {
        let t0 = start();
        let mut clock = PingClock::new(t0, 1000 * MS);
        let sent = clock.handle_timeout(t0).expect("the first ping is due at once");
        clock.handle(t0 + 40 * MS, PingEvent::Answered { sent });
        clock.handle(t0 + 100 * MS, PingEvent::Asked { time: 50_000 });
        assert_eq!(clock.offset(), Some(50_000 + 20 - 100));
        clock.handle(t0 + 100 * MS, PingEvent::Asked { time: 0 });
        assert_eq!(clock.offset(), Some(-80));
    }
}
