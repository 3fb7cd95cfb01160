//! What one browser is still to be sent while its connection is backed up.
//!
//! The queue holds as much as a live picture may be late, and no more: when it is over its limits, pictures go, down
//! to the last key frame in it or, without one that is fresh enough, until the next. Configurations and the stream's
//! beginning and end are never dropped, and never pile up: the newest takes the place of the older.

use super::packet::{Packet, PacketKind};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How old the oldest queued packet may be. A quarter of a second is where a viewer notices that a screen lags.
pub(super) const MAX_AGE: Duration = Duration::from_millis(250);

/// How much may be queued: a 4 MiB key frame is larger than any encoder makes of a 4K screen.
pub(super) const MAX_BYTES: usize = 4 * 1024 * 1024;

/// What a browser is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// Media.
    Media(Packet),
    /// A text message about the stream: its beginning, its end, a group to catch up with.
    Control(String),
}

/// The queue of one browser.
#[derive(Debug, Default)]
pub(super) struct Queue {
    items: VecDeque<(Instant, Item)>,
    bytes: usize,
    awaits_keyframe: bool,
}

impl Queue {
    /// A queue that lets no picture through before the next key frame.
    pub(super) fn awaiting_keyframe() -> Self {
        Self { awaits_keyframe: true, ..Self::default() }
    }

    /// Whether `packet` may follow what was sent before it; call once for each packet, in order.
    pub(super) fn admits(&mut self, packet: &Packet) -> bool {
        if packet.kind == PacketKind::VideoFrame && packet.key {
            self.awaits_keyframe = false;
        }
        packet.kind != PacketKind::VideoFrame || !self.awaits_keyframe
    }

    /// Queues media. Returns whether pictures had to go, so that a key frame is wanted.
    pub(super) fn push(&mut self, now: Instant, packet: &Packet) -> bool {
        if matches!(packet.kind, PacketKind::VideoConfig | PacketKind::AudioConfig) {
            self.retain(|item| !matches!(item, Item::Media(old) if old.kind == packet.kind));
        }
        self.bytes += packet.bytes.len();
        self.items.push_back((now, Item::Media(packet.clone())));
        let starved = self.is_over(now) && self.shed(now);
        debug_assert!(self.bytes <= MAX_BYTES || self.items.len() == 1);
        starved
    }

    /// Queues a message about the stream after which nothing queued before it matters.
    pub(super) fn restart(&mut self, now: Instant, control: String) {
        *self = Self::awaiting_keyframe();
        self.items.push_back((now, Item::Control(control)));
    }

    /// The next item.
    pub(super) fn pop(&mut self) -> Option<Item> {
        let (_, item) = self.items.pop_front()?;
        self.bytes -= size(&item);
        Some(item)
    }

    fn is_over(&self, now: Instant) -> bool {
        let oldest = self.items.iter().find(|(_, item)| is_frame(item)).map(|(at, _)| *at);
        self.bytes > MAX_BYTES || oldest.is_some_and(|at| now.saturating_duration_since(at) > MAX_AGE)
    }

    /// Makes room; returns whether the next key frame must be awaited.
    fn shed(&mut self, now: Instant) -> bool {
        let last_key = self.items.iter().rposition(|(_, item)| is_key(item));
        if let Some(last_key) = last_key {
            let mut at = 0;
            self.retain(|item| {
                at += 1;
                at > last_key || !is_frame(item)
            });
            if !self.is_over(now) {
                return false;
            }
        }
        self.retain(|item| !is_frame(item));
        let starved = !self.awaits_keyframe;
        self.awaits_keyframe = true;
        starved
    }

    fn retain(&mut self, mut keep: impl FnMut(&Item) -> bool) {
        self.items.retain(|(_, item)| keep(item));
        self.bytes = self.items.iter().map(|(_, item)| size(item)).sum();
    }
}

fn size(item: &Item) -> usize {
    match item {
        Item::Media(packet) => packet.bytes.len(),
        Item::Control(_) => 0,
    }
}

/// Sound goes with the pictures: late sound over a fresh picture is worse than a gap in both.
fn is_frame(item: &Item) -> bool {
    matches!(item, Item::Media(Packet { kind: PacketKind::VideoFrame | PacketKind::AudioFrame, .. }))
}

fn is_key(item: &Item) -> bool {
    matches!(item, Item::Media(Packet { kind: PacketKind::VideoFrame, key: true, .. }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use punchcast::driver::now;

    fn packet(kind: PacketKind, key: bool, size: usize) -> Packet {
        Packet { kind, key, bytes: Bytes::from(vec![0; size]) }
    }

    fn drain(queue: &mut Queue) -> Vec<(PacketKind, bool)> {
        std::iter::from_fn(|| queue.pop())
            .filter_map(|item| match item {
                Item::Media(packet) => Some((packet.kind, packet.key)),
                Item::Control(_) => None,
            })
            .collect()
    }

    fn offer(queue: &mut Queue, now: Instant, packet: &Packet) -> bool {
        queue.admits(packet) && queue.push(now, packet)
    }

    #[test]
    fn a_late_queue_falls_back_to_its_last_key_frame_or_awaits_one() {
        let start = now();
        let mut queue = Queue::default();
        let (key, delta) =
            (packet(PacketKind::VideoFrame, true, 9), packet(PacketKind::VideoFrame, false, 3));
        offer(&mut queue, start, &packet(PacketKind::VideoConfig, false, 5));
        offer(&mut queue, start, &delta);
        offer(&mut queue, start + MAX_AGE / 2, &key);
        assert!(!offer(&mut queue, start + MAX_AGE * 5 / 4, &delta), "a fresh key frame is there");
        let kept = drain(&mut queue);
        let config = (PacketKind::VideoConfig, false);
        assert_eq!(kept, [config, (PacketKind::VideoFrame, true), (PacketKind::VideoFrame, false)]);

        offer(&mut queue, start, &packet(PacketKind::VideoConfig, false, 5));
        offer(&mut queue, start, &packet(PacketKind::AudioFrame, true, 5));
        assert!(offer(&mut queue, start + MAX_AGE * 2, &delta), "a key frame is wanted");
        assert!(!offer(&mut queue, start + MAX_AGE * 2, &delta), "and asked for once");
        assert_eq!(drain(&mut queue), [config]);
        assert!(!queue.admits(&delta));
        assert!(queue.admits(&key) && queue.admits(&delta));
    }

    #[test]
    fn bytes_are_bounded_whatever_comes() {
        let start = now();
        let mut queue = Queue::default();
        for step in 0..1000 {
            let key = step % 10 == 0;
            offer(&mut queue, start, &packet(PacketKind::VideoFrame, key, MAX_BYTES / 7));
            offer(&mut queue, start, &packet(PacketKind::VideoConfig, false, 100));
            offer(&mut queue, start, &packet(PacketKind::AudioConfig, false, 100));
            assert!(queue.bytes <= MAX_BYTES, "{}", queue.bytes);
            assert!(queue.items.len() < 12);
        }
        queue.restart(start, "end".to_owned());
        assert_eq!(queue.pop(), Some(Item::Control("end".to_owned())));
        assert_eq!(queue.pop(), None);
    }
}
