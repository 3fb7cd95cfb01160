//! What waits before a connection that takes no more, and what is left out of it.
//!
//! A live picture that waits is worth nothing, so the queue is bounded by *time*, and by bytes and a number of units for
//! streams whose timestamps lie. What does not fit is left out from the oldest video on, up to the next keyframe: a
//! decoder cannot use what lies between. Sound is small and its gaps are heard, so it may wait longer, but not for
//! ever; data and sequence headers are always kept, within the bounds.
//!
//! Pictures, sound and the rest wait in lanes of their own and leave in the order in which they came. So what is to be
//! left out is always at the front of a lane, and a push costs the same however much waits.

use super::{Cache, Kind, MAX_GROUP_UNITS, Unit};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long video may wait. Longer shows as lag; shorter drops on every hiccup of Wi-Fi.
pub const MAX_WAIT: Duration = Duration::from_millis(120);

/// How long sound may wait: four times as long as pictures, as a gap in it is worse than some lag. What is older would
/// be played after its picture has long gone.
pub const MAX_SOUND_WAIT: Duration = Duration::from_secs(1);

/// Bytes that may wait, whatever the clock says: 250 ms of 128 Mbit/s.
pub const MAX_BYTES: usize = 4 << 20;

/// Units that may wait, so that tiny ones cannot make it costly: twice the longest replay
/// ([`MAX_GROUP_UNITS`]), which leaves room for what follows it.
pub const MAX_UNITS: usize = 2 * MAX_GROUP_UNITS;

/// Units that may wait before one connection.
#[derive(Debug, Default)]
pub struct Queue {
    /// Video other than sequence headers.
    pictures: VecDeque<Waiting>,
    /// Audio other than sequence headers.
    sound: VecDeque<Waiting>,
    /// Data and sequence headers.
    rest: VecDeque<Waiting>,
    /// The place of the next unit in the order of all lanes.
    next_place: u64,
    bytes: usize,
    gate: Gate,
    dropped: u64,
}

#[derive(Debug)]
struct Waiting {
    place: u64,
    since: Instant,
    unit: Unit,
}

/// Whether pictures that need others before them are let in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Gate {
    #[default]
    Open,
    /// Not before the next keyframe: what they need was left out.
    Skipping,
    /// Not before the next keyframe: the connection began without one. Nothing is lost by that.
    Awaiting,
}

impl Queue {
    /// An empty queue.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty queue whose video begins with the next keyframe.
    #[must_use]
    pub fn awaiting_keyframe() -> Self {
        Self { gate: Gate::Awaiting, ..Self::default() }
    }

    /// Begins for a new connection: forgets everything, and replays what `cache` has of the stream. When that is no
    /// picture to begin with, video waits for the next keyframe.
    pub fn begin(&mut self, now: Instant, cache: &Cache) {
        let dropped = self.dropped;
        *self = if cache.has_keyframe() { Self::new() } else { Self::awaiting_keyframe() };
        self.dropped = dropped;
        cache.replay().for_each(|unit| self.push(now, unit));
    }

    /// Appends `unit`, and leaves out what has waited too long.
    pub fn push(&mut self, now: Instant, unit: Unit) {
        let lane = match unit.kind {
            _ if unit.is_sequence_header() => &mut self.rest,
            Kind::Video => {
                if unit.is_keyframe() {
                    self.gate = Gate::Open;
                }
                match self.gate {
                    Gate::Open => &mut self.pictures,
                    Gate::Skipping => {
                        self.dropped += 1;
                        return;
                    }
                    Gate::Awaiting => return,
                }
            }
            Kind::Audio => &mut self.sound,
            Kind::Data => &mut self.rest,
        };
        self.bytes += unit.payload.len();
        lane.push_back(Waiting { place: self.next_place, since: now, unit });
        self.next_place += 1;
        self.shed(now);
    }

    /// The next unit to send.
    pub fn pop(&mut self) -> Option<Unit> {
        self.pop_dated().map(|(unit, _)| unit)
    }

    /// The next unit to send, and when it came.
    pub fn pop_dated(&mut self) -> Option<(Unit, Instant)> {
        let lanes = [&mut self.pictures, &mut self.sound, &mut self.rest];
        let first = |lane: &&mut VecDeque<Waiting>| lane.front().map_or(u64::MAX, |waiting| waiting.place);
        let Waiting { unit, since, .. } = lanes.into_iter().min_by_key(first)?.pop_front()?;
        self.bytes -= unit.payload.len();
        Some((unit, since))
    }

    /// Forgets everything, for a new connection that begins with its own keyframe.
    pub fn clear(&mut self) {
        *self = Self { dropped: self.dropped, ..Self::default() };
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Video units left out so far.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }

    fn len(&self) -> usize {
        self.pictures.len() + self.sound.len() + self.rest.len()
    }

    fn shed(&mut self, now: Instant) {
        while self.sound.front().is_some_and(|sound| sound.since + MAX_SOUND_WAIT < now) {
            if let Some(late) = self.sound.pop_front() {
                self.bytes -= late.unit.payload.len();
            }
        }
        while self.bytes > MAX_BYTES
            || self.len() > MAX_UNITS
            || self.pictures.front().is_some_and(|picture| picture.since + MAX_WAIT < now)
        {
            if !self.drop_group() {
                break;
            }
        }
        // Only what is never left out, and too much of it to be a live stream: the oldest goes.
        while self.bytes > 2 * MAX_BYTES || self.len() > MAX_UNITS {
            if self.pop().is_none() {
                return;
            }
        }
    }

    /// Leaves out the oldest video up to the next keyframe; `false` when there is none to leave out.
    fn drop_group(&mut self) -> bool {
        let Some(first) = self.pictures.pop_front() else { return false };
        let mut left_out = first.unit;
        loop {
            self.bytes -= left_out.payload.len();
            self.dropped += 1;
            if self.pictures.front().is_some_and(|next| next.unit.is_keyframe()) {
                return true;
            }
            let Some(next) = self.pictures.pop_front() else { break };
            left_out = next.unit;
        }
        self.gate = Gate::Skipping;
        true
    }
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

    #[test]
    fn sound_is_left_out_after_a_second_and_its_header_never() {
        let (now, mut queue) = (start(), Queue::new());
        queue.push(now, Unit { payload: Bytes::from_static(&[0xaf, 0, 0x12]), ..audio(0) });
        queue.push(now, audio(1));
        queue.push(now + MAX_SOUND_WAIT, audio(2));
        queue.push(now + MAX_SOUND_WAIT + Duration::from_millis(1), audio(3));
        assert_eq!(left(&mut queue), [0, 2, 3]);
        assert_eq!((queue.bytes, queue.dropped()), (0, 0), "only pictures are counted");
    }

    #[test]
    fn units_are_bounded_whatever_their_size() {
        let (now, mut queue) = (start(), Queue::new());
        queue.push(now, video(KEY, 0, 9));
        for timestamp in 1..=2 * MAX_UNITS as u32 {
            queue.push(now, audio(timestamp));
            assert!(queue.len() <= MAX_UNITS);
        }
        assert_eq!(queue.dropped(), 1, "pictures go first");
        let left = left(&mut queue);
        assert_eq!((left.len(), left.last()), (MAX_UNITS, Some(&(2 * MAX_UNITS as u32))));
    }

    #[test]
    fn a_connection_without_a_group_begins_with_the_next_keyframe() {
        let (now, mut queue, mut cache) = (start(), Queue::new(), Cache::new());
        cache.push(&video(HEADER, 0, 9));
        queue.push(now, video(KEY, 1, 9));
        queue.begin(now, &cache);
        for unit in [video(INTER, 2, 9), audio(3), video(KEY, 4, 9), video(INTER, 5, 9)] {
            queue.push(now, unit);
        }
        assert_eq!(left(&mut queue), [0, 3, 4, 5]);
        assert_eq!(queue.dropped(), 0, "what nobody waited for was not left out");
        cache.push(&video(KEY, 6, 9));
        queue.begin(now, &cache);
        queue.push(now, video(INTER, 7, 9));
        assert_eq!(left(&mut queue), [6, 6, 7]);
    }
}
