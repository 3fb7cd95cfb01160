//! What waits for one player: at an RTMP port, or for FLV by HTTP.
//!
//! A player stays behind by as much as its first picture is old when it gets it, and the group of pictures under way may be
//! seconds old. So one that comes late is not given the group at once: who has it asks for a keyframe when it comes, and an
//! encoder of ours answers within a round trip. What begins with that is of now. Where none comes in time, as nobody encodes
//! on request, it is the group after all.
//!
//! ```text
//!  comes ──▶ waits ──a keyframe──────▶ headers, that keyframe, what follows
//!              └─────FRESH_TIME──────▶ headers, the group under way, what follows
//! ```

use punchcast::media::pace::Queue;
use punchcast::media::{Cache, Unit};
use std::time::{Duration, Instant};

/// How long a keyframe is waited for to begin with: a round trip to a caster far away, or a picture's time and what it takes to
/// encode and send a large one. Players take longer to open a stream.
pub(crate) const FRESH_TIME: Duration = Duration::from_millis(250);

/// One player's queue.
#[derive(Debug)]
pub(crate) struct Player {
    queue: Queue,
    /// Until when a keyframe is waited for to begin with.
    waits: Option<Instant>,
}

impl Player {
    /// A player that joins the stream of `cache`, where a keyframe is asked for.
    pub(crate) fn new(now: Instant, cache: &Cache) -> Self {
        let mut player = Self { queue: Queue::new(), waits: None };
        if cache.has_keyframe() {
            player.waits = Some(now + FRESH_TIME);
        } else {
            player.begin(now, cache);
        }
        player
    }

    /// Appends the next unit of the stream, which `cache` has taken.
    pub(crate) fn push(&mut self, now: Instant, unit: &Unit, cache: &Cache) {
        if self.waits.is_none() {
            self.queue.push(now, unit.clone());
        } else if unit.is_keyframe() {
            self.begin(now, cache);
        }
    }

    /// Takes the passing of time; whether it begins now.
    pub(crate) fn handle_timeout(&mut self, now: Instant, cache: &Cache) -> bool {
        let is_due = self.waits.is_some_and(|until| until <= now);
        if is_due {
            self.begin(now, cache);
        }
        is_due
    }

    /// When it wants that.
    pub(crate) const fn poll_timeout(&self) -> Option<Instant> {
        self.waits
    }

    /// Another stream follows: forgets what waits of this one.
    pub(crate) fn clear(&mut self) {
        self.waits = None;
        self.queue.clear();
    }

    /// The next unit to send.
    pub(crate) fn pop(&mut self) -> Option<Unit> {
        self.queue.pop()
    }

    /// Whether a keyframe is to be asked for, as [`Queue::wants_keyframe`] tells.
    pub(crate) fn wants_keyframe(&mut self, now: Instant) -> bool {
        self.queue.wants_keyframe(now)
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Video units left out so far.
    pub(crate) const fn dropped(&self) -> u64 {
        self.queue.dropped()
    }

    fn begin(&mut self, now: Instant, cache: &Cache) {
        self.waits = None;
        self.queue.begin(now, cache);
    }
}
