//! What waits before a connection that takes no more, and what is left out of it.
//!
//! A live picture that waits is worth nothing, so the queue is bounded by *time*, and by bytes for streams whose
//! timestamps lie. What does not fit is left out from the oldest video on, up to the next keyframe: a decoder cannot
//! use what lies between. Audio, data and sequence headers are small and always kept.

use super::{Kind, Unit};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long video may wait. Longer shows as lag; shorter drops on every hiccup of Wi-Fi.
pub const MAX_WAIT: Duration = Duration::from_millis(250);

/// Bytes that may wait, whatever the clock says: 250 ms of 128 Mbit/s.
pub const MAX_BYTES: usize = 4 << 20;

/// Units that may wait before one connection.
#[derive(Debug, Default)]
pub struct Queue {
    units: VecDeque<(Instant, Unit)>,
    bytes: usize,
    /// Video is left out until the next keyframe.
    skipping: bool,
    dropped: u64,
}

impl Queue {
    /// An empty queue.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends `unit`, and leaves out what has waited too long.
    pub fn push(&mut self, now: Instant, unit: Unit) {
        if droppable(&unit) {
            if unit.is_keyframe() {
                self.skipping = false;
            } else if self.skipping {
                self.dropped += 1;
                return;
            }
        }
        self.bytes += unit.payload.len();
        self.units.push_back((now, unit));
        self.shed(now);
    }

    /// The next unit to send.
    pub fn pop(&mut self) -> Option<Unit> {
        let (_, unit) = self.units.pop_front()?;
        self.bytes -= unit.payload.len();
        Some(unit)
    }

    /// Forgets everything, for a new connection that begins with its own keyframe.
    pub fn clear(&mut self) {
        self.units.clear();
        self.bytes = 0;
        self.skipping = false;
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.units.is_empty()
    }

    /// Video units left out so far.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }

    fn shed(&mut self, now: Instant) {
        let late = |(since, unit): &(Instant, Unit)| droppable(unit) && *since + MAX_WAIT < now;
        while self.bytes > MAX_BYTES || self.units.iter().find(|(_, unit)| droppable(unit)).is_some_and(late)
        {
            if self.drop_group() {
                continue;
            }
            // Only what is never left out, and too much of it to be a live stream: the oldest goes.
            if self.bytes <= 2 * MAX_BYTES || self.pop().is_none() {
                return;
            }
            self.dropped += 1;
        }
    }

    /// Leaves out the oldest video up to the next keyframe; `false` when there is none to leave out.
    fn drop_group(&mut self) -> bool {
        let Some(first) = self.units.iter().position(|(_, unit)| droppable(unit)) else { return false };
        let next_key = self.units.iter().skip(first + 1).position(|(_, unit)| unit.is_keyframe());
        let end = next_key.map_or(self.units.len(), |offset| first + 1 + offset);
        let mut index = 0;
        let mut dropped = 0;
        let mut bytes = 0;
        self.units.retain(|(_, unit)| {
            let leave_out = index >= first && index < end && droppable(unit);
            index += 1;
            if leave_out {
                dropped += 1;
                bytes += unit.payload.len();
            }
            !leave_out
        });
        self.dropped += dropped;
        self.bytes -= bytes;
        self.skipping = next_key.is_none();
        true
    }
}

fn droppable(unit: &Unit) -> bool {
    unit.kind == Kind::Video && !unit.is_sequence_header()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    const KEY: [u8; 2] = [0x17, 1];
    const INTER: [u8; 2] = [0x27, 1];
    const HEADER: [u8; 2] = [0x17, 0];

    fn video(head: [u8; 2], timestamp: u32, size: usize) -> Unit {
        let mut payload = head.to_vec();
        payload.resize(size.max(2), 0);
        Unit { kind: Kind::Video, timestamp, payload: Bytes::from(payload) }
    }

    fn audio(timestamp: u32) -> Unit {
        Unit { kind: Kind::Audio, timestamp, payload: Bytes::from_static(&[0xaf, 1, 2]) }
    }

    fn left(queue: &mut Queue) -> Vec<u32> {
        std::iter::from_fn(|| queue.pop()).map(|unit| unit.timestamp).collect()
    }

    #[allow(clippy::disallowed_methods)] // A test's time begins somewhere.
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn what_is_in_time_comes_out_as_it_went_in() {
        let (now, mut queue) = (start(), Queue::new());
        for (index, head) in [HEADER, KEY, INTER].into_iter().enumerate() {
            queue.push(now, video(head, index as u32, 9));
        }
        assert_eq!((left(&mut queue), queue.dropped()), (vec![0, 1, 2], 0));
    }

    #[test]
    fn late_video_goes_up_to_the_next_keyframe_and_nothing_else() {
        let (now, mut queue) = (start(), Queue::new());
        let later = now + MAX_WAIT + Duration::from_millis(1);
        queue.push(now, video(HEADER, 0, 9));
        queue.push(now, video(KEY, 1, 9));
        queue.push(now, audio(2));
        queue.push(later, video(INTER, 3, 9));
        queue.push(later, audio(4));
        queue.push(later, video(INTER, 5, 9));
        queue.push(later, video(KEY, 6, 9));
        queue.push(later, video(INTER, 7, 9));
        assert_eq!(left(&mut queue), [0, 2, 4, 6, 7]);
        assert_eq!(queue.dropped(), 3);
    }

    #[test]
    fn bytes_are_bounded_whatever_the_clock_says() {
        let (now, mut queue) = (start(), Queue::new());
        queue.push(now, video(KEY, 0, 9));
        for timestamp in 1..100 {
            queue.push(now, video(INTER, timestamp, 1 << 20));
            assert!(queue.bytes <= MAX_BYTES);
        }
        queue.push(now, video(KEY, 100, 9));
        assert_eq!(left(&mut queue).last(), Some(&100));
        assert_eq!(queue.bytes, 0);
        for timestamp in 0..100 {
            queue.push(now, Unit { payload: Bytes::from(vec![0; 1 << 20]), ..audio(timestamp) });
            assert!(queue.bytes <= 2 * MAX_BYTES);
        }
    }
}
