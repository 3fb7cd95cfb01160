//! How long bytes take, there and back.

use super::QUEUE;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The shortest round trip of the last so long counts; then another path, or the queue of somebody else's traffic, is the
/// line as it is.
pub(super) const SHORTEST_OF: Duration = Duration::from_secs(10);

/// Writes whose times are kept. More are taken for a part of the last, and so for older than they are.
pub(super) const MARKS: usize = 512;

/// Ends of writes, and when they were.
#[derive(Debug, Default)]
pub(super) struct Marks(VecDeque<(u64, Instant)>);

impl Marks {
    pub(super) const fn new() -> Self {
        Self(VecDeque::new())
    }

    /// Notes a write by which `sent` bytes are sent in all.
    pub(super) fn note(&mut self, now: Instant, sent: u64) {
        let full = self.0.len() == MARKS;
        match self.0.back_mut() {
            Some(last) if full => last.0 = sent,
            _ => self.0.push_back((sent, now)),
        }
    }

    /// When the oldest of those was that have not all arrived.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.0.front().map(|&(_, sent)| sent)
    }

    /// How long the last of the `received` bytes took, there and back; `None` if no more have arrived than the `told` before.
    pub(super) fn round_trip(&mut self, now: Instant, mut told: u64, received: u64) -> Option<Duration> {
        let mut at = None;
        while let Some(&(end, sent)) = self.0.front() {
            if told >= received {
                break;
            }
            at = Some(sent);
            told = end;
            if end > received {
                // A part of this write has arrived, and it stays for the rest.
                break;
            }
            self.0.pop_front();
        }
        at.map(|at| now.saturating_duration_since(at))
    }

    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.0.len()
    }
}

/// The shortest round trips of the running and of the last half of [`SHORTEST_OF`].
#[derive(Debug)]
pub(super) struct Shortest {
    last: Duration,
    running: Duration,
    until: Instant,
}

impl Shortest {
    /// None yet.
    pub(super) fn unknown(now: Instant) -> Self {
        Self { last: Duration::MAX, running: Duration::MAX, until: now + SHORTEST_OF / 2 }
    }

    /// `rtt`, whatever was before.
    pub(super) fn of(now: Instant, rtt: Duration) -> Self {
        Self { last: rtt, running: rtt, until: now + SHORTEST_OF / 2 }
    }

    pub(super) fn get(&self) -> Duration {
        self.last.min(self.running)
    }

    /// Notes a round trip; `false` if all of late were longer than those before, until that is settled by [`Self::of`].
    pub(super) fn note(&mut self, now: Instant, rtt: Duration) -> bool {
        self.running = self.running.min(rtt);
        if now < self.until {
            return true;
        }
        let usual = self.running <= self.last.saturating_add(QUEUE / 2);
        if usual {
            // A queue that is always there must not pass for the way, little by little.
            let last = self.last.min(self.running);
            *self = Self { last, running: rtt, until: now + SHORTEST_OF / 2 };
        }
        usual
    }
}
