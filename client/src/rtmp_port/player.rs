//! What waits for one player.

use punchcast::media::pace::Queue;
use punchcast::media::{Cache, Kind, Unit};
use std::time::Instant;

/// One player's queue, and where in the stream it begins.
#[derive(Debug)]
pub(super) struct Player {
    queue: Queue,
    /// There was no group of pictures to begin with: video waits for the next keyframe.
    awaits_keyframe: bool,
}

impl Player {
    /// A player that joins the stream of `cache`.
    pub(super) fn new(now: Instant, cache: &Cache) -> Self {
        let mut queue = Queue::new();
        cache.replay().for_each(|unit| queue.push(now, unit));
        Self { queue, awaits_keyframe: !cache.has_keyframe() }
    }

    /// Appends the next unit of the stream.
    pub(super) fn push(&mut self, now: Instant, unit: &Unit) {
        if self.awaits_keyframe && unit.kind == Kind::Video && !unit.is_sequence_header() {
            if !unit.is_keyframe() {
                return;
            }
            self.awaits_keyframe = false;
        }
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
