//! What waits for one player.

use punchcast::media::pace::Queue;
use punchcast::media::{Cache, Unit};
use std::time::Instant;

/// One player's queue.
#[derive(Debug)]
pub(super) struct Player {
    queue: Queue,
}

impl Player {
    /// A player that joins the stream of `cache`.
    pub(super) fn new(now: Instant, cache: &Cache) -> Self {
        let mut queue = Queue::new();
        queue.begin(now, cache);
        Self { queue }
    }

    /// Appends the next unit of the stream.
    pub(super) fn push(&mut self, now: Instant, unit: &Unit) {
        self.queue.push(now, unit.clone());
    }

    /// The next unit to send.
    pub(super) fn pop(&mut self) -> Option<Unit> {
        self.queue.pop()
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Video units left out so far.
    pub(super) const fn dropped(&self) -> u64 {
        self.queue.dropped()
    }
}
