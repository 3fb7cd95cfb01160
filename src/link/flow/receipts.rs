//! The receiver's half: what the sender is told of the stream's bytes, and when.

use std::time::{Duration, Instant};

/// The time between two receipts while bytes arrive: a hundred small records a second.
pub(super) const RECEIPT_EVERY: Duration = Duration::from_millis(10);

/// The time from the first byte after a pause to its receipt. What the byte belongs to is passed on first: the receiver of
/// that often waits for the same core, and so would it while the receipt is made, sent and taken. It counts as a part of
/// each round trip, the shortest included.
pub(super) const RECEIPT_AFTER: Duration = Duration::from_millis(1);

/// The receiver's half.
#[derive(Debug)]
pub(in crate::link) struct Receipts {
    received: u64,
    told_at: Option<Instant>,
    /// When the next is to be told; `None` while all that came was told of.
    due_at: Option<Instant>,
}

impl Receipts {
    pub(in crate::link) const fn new() -> Self {
        Self { received: 0, told_at: None, due_at: None }
    }

    /// Notes that `bytes` came.
    pub(in crate::link) fn took(&mut self, now: Instant, bytes: usize) {
        self.received += bytes as u64;
        let soon = now + RECEIPT_AFTER;
        self.due_at.get_or_insert(self.told_at.map_or(soon, |told| soon.max(told + RECEIPT_EVERY)));
    }

    /// What is to be told now, if anything.
    pub(in crate::link) fn due(&mut self, now: Instant) -> Option<u64> {
        self.due_at.take_if(|at| *at <= now)?;
        self.told_at = Some(now);
        Some(self.received)
    }

    /// When something is to be told; nothing while nothing is.
    pub(in crate::link) const fn poll_timeout(&self) -> Option<Instant> {
        self.due_at
    }
}
