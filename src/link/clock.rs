//! The other end's clock, as far as pings tell (the exchange of RFC 5905, section 8).
//!
//! A ping leaves at one moment of our clock, is answered at one of theirs, and the answer arrives at one of ours.
//! Theirs lies somewhere between ours, so taking it for the middle errs by half a round trip at most. Waiting in queues makes
//! round trips longer and less even, so the shortest one is believed, until clocks may have drifted apart by more.

use std::time::{Duration, Instant};

/// How far two clocks may drift apart, in millionths: quartz stays within some 50, each of the two.
const DRIFT_PPM: u32 = 100;

/// What is known of the other end's clock.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PeerClock(Option<Sample>);

#[derive(Clone, Copy, Debug)]
struct Sample {
    /// Our time in the middle of the round trip.
    ours: Instant,
    /// Their clock then, in microseconds.
    theirs: u64,
    rtt: Duration,
}

impl PeerClock {
    /// Notes that a ping sent at `sent` was answered when their clock showed `theirs` microseconds, and that the answer
    /// came at `now`.
    pub(super) fn note(&mut self, sent: Instant, now: Instant, theirs: u64) {
        let rtt = now.saturating_duration_since(sent);
        let better =
            self.0.is_none_or(|best| rtt <= best.rtt + drift(now.saturating_duration_since(best.ours)));
        if better {
            self.0 = Some(Sample { ours: sent + rtt / 2, theirs, rtt });
        }
    }

    /// Our time when their clock showed `theirs`; nothing before the first answer, or for a time that makes no sense.
    pub(super) fn ours(&self, theirs: u64) -> Option<Instant> {
        let sample = self.0?;
        match theirs.checked_sub(sample.theirs) {
            Some(later) => sample.ours.checked_add(Duration::from_micros(later)),
            None => sample.ours.checked_sub(Duration::from_micros(sample.theirs - theirs)),
        }
    }
}

fn drift(time: Duration) -> Duration {
    time * DRIFT_PPM / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[allow(clippy::disallowed_methods)] // A test's time begins somewhere.
    fn begin() -> Instant {
        Instant::now() + Duration::from_secs(1000)
    }

    #[test]
    fn nothing_is_known_before_an_answer() {
        assert_eq!(PeerClock::default().ours(0), None);
    }

    #[test]
    fn an_even_round_trip_tells_their_clock_exactly() {
        let now = begin();
        let mut clock = PeerClock::default();
        clock.note(now, now + ms(80), 1_000_000);
        assert_eq!(clock.ours(1_000_000), Some(now + ms(40)));
        assert_eq!(clock.ours(1_250_000), Some(now + ms(290)));
        assert_eq!(clock.ours(0), Some(now + ms(40) - Duration::from_secs(1)));
        // A clock that lies is off, and does no more.
        assert_ne!(clock.ours(u64::MAX), clock.ours(0));
    }

    #[test]
    fn a_round_trip_that_waited_in_a_queue_is_not_believed() {
        let now = begin();
        let mut clock = PeerClock::default();
        clock.note(now, now + ms(20), 500_000);
        // The ping waited 300 ms on its way there.
        clock.note(now + ms(1000), now + ms(1320), 1_810_000);
        assert_eq!(clock.ours(500_000), Some(now + ms(10)));
    }

    #[test]
    fn what_is_old_gives_way_before_clocks_can_have_drifted_apart() {
        let now = begin();
        let mut clock = PeerClock::default();
        clock.note(now, now + ms(20), 0);
        let later = now + Duration::from_secs(1000);
        clock.note(later, later + ms(60), 1_000_050_000);
        assert_eq!(clock.ours(1_000_050_000), Some(later + ms(30)));
    }
}
