//! One link with its RTMP session and what waits before it.
//!
//! ```text
//!                          no other is live
//!  Opening ──Publishing──▶ Live ◀── keyframe ── Ready     a second link: it waits for a keyframe, and the first one
//!                           │                     ▲       drains, so that no frame is missing and none comes twice
//!                           └─ the other's turn ─▶ Draining ──(nothing waits)──▶ over
//!                             Opening ──Publishing, another is live──▶ Ready
//! ```

use crate::meeting::Link;
use crate::unread::Unread;
use punchcast::media::pace::Queue;
use punchcast::rtmp::{ClientSession, PublishConfig};
use std::time::{Duration, Instant};

/// What the link's RTMP calls the stream. The link itself has proven who publishes; the names are for a reader of
/// the protocol.
const PUBLISH_URL: &str = "rtmp://viewer/punchcast/cast";

/// How long a link that another one succeeded may take for what waits before it. More is older than the queue lets
/// anything get.
const DRAIN_TIME: Duration = Duration::from_secs(2);

/// How far a link has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The RTMP handshake and commands are under way.
    Opening,
    /// Could carry the stream, from the next keyframe on.
    Ready,
    /// Carries the stream.
    Live,
    /// Another carries the stream; this one sends what waits, until then at the latest.
    Draining(Instant),
}

/// See the [module](self).
pub(super) struct Route {
    pub(super) link: Link,
    pub(super) session: ClientSession,
    pub(super) unread: Unread,
    pub(super) queue: Queue,
    pub(super) stage: Stage,
    /// The queue goes on at this moment unless the link is full by then.
    pub(super) pump_at: Option<Instant>,
}

impl Route {
    pub(super) fn new(link: Link, seed: u64) -> Self {
        let mut publish = PublishConfig::new(PUBLISH_URL).expect("the address is a constant and well formed");
        publish.seed = seed;
        Self {
            link,
            session: ClientSession::publisher(publish),
            unread: Unread::default(),
            queue: Queue::new(),
            stage: Stage::Opening,
            pump_at: None,
        }
    }

    /// Another link carries the stream from here on.
    pub(super) fn drain(&mut self, now: Instant) {
        self.stage = Stage::Draining(now + DRAIN_TIME);
    }

    pub(super) const fn is_draining(&self) -> bool {
        matches!(self.stage, Stage::Draining(_))
    }

    /// Whether what waited before a link that was succeeded has left, or its time is over.
    pub(super) fn is_drained(&self, now: Instant) -> bool {
        match self.stage {
            Stage::Draining(until) => until <= now || self.queue.is_empty() && self.pump_at.is_none(),
            Stage::Opening | Stage::Ready | Stage::Live => false,
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let pump = self.pump_at.map(|at| (at, "the rest of the queue"));
        let drain = match self.stage {
            Stage::Draining(until) => Some((until, "the end of a link that was succeeded")),
            Stage::Opening | Stage::Ready | Stage::Live => None,
        };
        punchcast::app::soonest(pump, drain)
    }
}
