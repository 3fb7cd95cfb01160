//! What waits before a connection that takes no more, and what is left out of it.
//!
//! A live picture that waits is worth nothing, so the queue is bounded by *time*, and by bytes and a number of units for
//! streams whose timestamps lie. Pictures that no other needs ([`Coding`]) may wait half as long as others, or less, and go
//! alone, the oldest first. Where that is not enough, video is left out from the oldest on, up to the next keyframe: a
//! decoder cannot use what lies between. Sound is small and its gaps are heard, so it may wait longer, but not for
//! ever; data and sequence headers are always kept, within the bounds.
//!
//! Pictures that others need, those that none does, sound and the rest wait in lanes of their own and leave in the order
//! in which they came. So what is to be left out is always at the front of a lane, and a push costs the same however
//! much waits.

use super::{Cache, Coding, Kind, MAX_GROUP_UNITS, Unit};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long video may wait. Longer shows as lag; shorter drops on every hiccup of Wi-Fi.
pub const MAX_WAIT: Duration = Duration::from_millis(120);

/// How long video may wait when some was left out within the last [`SLOW_FOR`]: this is no hiccup but a line slower than
/// the stream, on which each group of pictures grows old up to the limit before it is cut.
pub const MAX_WAIT_SLOW: Duration = Duration::from_millis(60);

/// How long a picture that no other needs may wait: half as long as the others, which have the other half to make use of the
/// room that this makes. Were it less, hiccups that nobody sees would cost pictures.
pub const MAX_DISPOSABLE_WAIT: Duration = Duration::from_millis(60);

/// The same when some were left out within the last [`SLOW_FOR`]: less than the time of a picture. It is sent if the line is
/// free for it, and the needed one behind it does not wait for it.
pub const MAX_DISPOSABLE_WAIT_SLOW: Duration = Duration::from_millis(15);

/// How long a line counts as slow after pictures were left out: longer than the groups of pictures that publishers make.
pub const SLOW_FOR: Duration = Duration::from_secs(15);

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
    /// Video other than sequence headers, but for what is disposable.
    pictures: VecDeque<Waiting>,
    /// Pictures that no other needs.
    disposable: VecDeque<Waiting>,
    /// Audio other than sequence headers.
    sound: VecDeque<Waiting>,
    /// Data and sequence headers.
    rest: VecDeque<Waiting>,
    /// The place of the next unit in the order of all lanes.
    next_place: u64,
    bytes: usize,
    gate: Gate,
    /// By the video's sequence header that went through last.
    coding: Option<Coding>,
    dropped: u64,
    /// When pictures were left out up to a keyframe last.
    shed_at: Option<Instant>,
    /// When that showed last that the line is too slow for what is needed.
    slow_at: Option<Instant>,
    /// When a picture that no other needs was left out last.
    thinned_at: Option<Instant>,
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
            Kind::Video if unit.is_sequence_header() => {
                self.coding = Coding::of(&unit);
                &mut self.rest
            }
            Kind::Video => {
                if unit.is_keyframe() {
                    self.gate = Gate::Open;
                }
                match self.gate {
                    Gate::Open if is_disposable(self.coding, &unit) => &mut self.disposable,
                    Gate::Open => &mut self.pictures,
                    Gate::Skipping => {
                        self.dropped += 1;
                        return;
                    }
                    Gate::Awaiting => return,
                }
            }
            Kind::Audio if unit.is_sequence_header() => &mut self.rest,
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
        let lanes = [&mut self.pictures, &mut self.disposable, &mut self.sound, &mut self.rest];
        let first = |lane: &&mut VecDeque<Waiting>| lane.front().map_or(u64::MAX, |waiting| waiting.place);
        let Waiting { unit, since, .. } = lanes.into_iter().min_by_key(first)?.pop_front()?;
        self.bytes -= unit.payload.len();
        Some((unit, since))
    }

    /// Leaves out the video that waits, and what follows up to the next keyframe.
    pub fn skip_to_keyframe(&mut self) {
        for picture in self.pictures.drain(..).chain(self.disposable.drain(..)) {
            self.bytes -= picture.unit.payload.len();
            self.dropped += 1;
        }
        self.gate = Gate::Skipping;
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
        self.pictures.len() + self.disposable.len() + self.sound.len() + self.rest.len()
    }

    fn shed(&mut self, now: Instant) {
        while self.sound.front().is_some_and(|sound| sound.since + MAX_SOUND_WAIT < now) {
            if let Some(late) = self.sound.pop_front() {
                self.bytes -= late.unit.payload.len();
            }
        }
        let recent = |at: Option<Instant>| at.is_some_and(|at| now < at + SLOW_FOR);
        let picture_wait = if recent(self.slow_at) { MAX_WAIT_SLOW } else { MAX_WAIT };
        let thinned = recent(self.thinned_at);
        let disposable_wait = if thinned { MAX_DISPOSABLE_WAIT_SLOW } else { MAX_DISPOSABLE_WAIT };
        let is_late =
            |lane: &VecDeque<Waiting>, wait| lane.front().is_some_and(|first| first.since + wait < now);
        loop {
            let too_much = self.bytes > MAX_BYTES || self.len() > MAX_UNITS;
            if (too_much || is_late(&self.disposable, disposable_wait)) && self.drop_disposable() {
                self.thinned_at = Some(now);
            } else if (too_much || is_late(&self.pictures, picture_wait)) && self.drop_group() {
                // One group may go before those that no other needs have made the room.
                if !thinned || recent(self.shed_at) {
                    self.slow_at = Some(now);
                }
                self.shed_at = Some(now);
            } else {
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

    /// Leaves out the oldest picture that no other needs; `false` when none waits.
    fn drop_disposable(&mut self) -> bool {
        let Some(first) = self.disposable.pop_front() else { return false };
        self.left_out(&first);
        true
    }

    /// Leaves out the oldest video up to the next keyframe; `false` when there is none to leave out.
    fn drop_group(&mut self) -> bool {
        let Some(first) = self.pictures.pop_front() else { return false };
        self.left_out(&first);
        let next_keyframe = loop {
            match self.pictures.front() {
                Some(next) if next.unit.is_keyframe() => break next.place,
                Some(_) => {}
                None => {
                    self.gate = Gate::Skipping;
                    break u64::MAX;
                }
            }
            if let Some(next) = self.pictures.pop_front() {
                self.left_out(&next);
            }
        };
        // None needs them, and they need what has just gone.
        while self.disposable.front().is_some_and(|picture| picture.place < next_keyframe) {
            self.drop_disposable();
        }
        true
    }

    fn left_out(&mut self, picture: &Waiting) {
        self.bytes -= picture.unit.payload.len();
        self.dropped += 1;
    }
}

fn is_disposable(coding: Option<Coding>, unit: &Unit) -> bool {
    unit.is_disposable() || coding.is_some_and(|coding| coding.is_disposable(unit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::avc;
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

    /// A B-frame as x264 makes it, behind [`avc_header`].
    fn disposable(timestamp: u32) -> Unit {
        avc::picture(timestamp, false, &[&[0x01, 9, 9, 9]])
    }

    fn avc_header() -> Unit {
        let config = avc::Config::new(&[0x67, 66, 0, 31], &[0x68]).expect("two parameter sets");
        avc::sequence_header(0, &config)
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
    fn pictures_that_no_other_needs_go_first_and_alone() {
        let (now, mut queue) = (start(), Queue::new());
        let at = |ms| now + Duration::from_millis(ms);
        queue.push(at(0), avc_header());
        queue.push(at(0), video(KEY, 1, 9));
        queue.push(at(10), disposable(2));
        queue.push(at(20), disposable(3));
        queue.push(at(30), video(INTER, 4, 9));
        queue.push(at(70), audio(5));
        assert_eq!(queue.dropped(), 0, "60 ms are in time");
        queue.push(at(71), disposable(6));
        assert_eq!((left(&mut queue), queue.dropped()), (vec![0, 1, 3, 4, 5, 6], 1), "the oldest alone");
        queue.push(at(80), disposable(7));
        queue.push(at(80), video(INTER, 8, 9));
        queue.push(at(111), disposable(9));
        assert_eq!(left(&mut queue), [8, 9], "and the next ones sooner, as the line is slow");
        queue.push(at(200), video(INTER, 10, 9));
        queue.push(at(320), audio(11));
        assert_eq!(left(&mut queue), [10, 11], "which is not held against what is needed");
    }

    #[test]
    fn a_group_goes_with_its_disposable_pictures_and_leaves_those_of_the_next() {
        let (now, mut queue) = (start(), Queue::new());
        let later = now + MAX_WAIT + Duration::from_millis(1);
        queue.push(now, avc_header());
        queue.push(now, video(KEY, 1, 9));
        queue.push(later, video(KEY, 2, 9));
        queue.push(later, disposable(3));
        assert_eq!(left(&mut queue), [0, 2, 3]);
        queue.push(later, disposable(4));
        queue.push(later, video(INTER, 5, 9));
        let latest = later + MAX_WAIT;
        queue.push(latest, disposable(6));
        queue.push(latest, audio(7));
        queue.push(latest, disposable(8));
        queue.push(latest, video(KEY, 9, 9));
        queue.push(latest, disposable(10));
        assert_eq!(
            (left(&mut queue), queue.dropped()),
            (vec![7, 9, 10], 5),
            "without a key before them, too"
        );
        assert_eq!(queue.bytes, 0);
    }

    #[test]
    fn a_line_that_carries_what_is_needed_misses_nothing_else() {
        // IbbP, 60 pictures a second, those that are needed twice as large: 12 Mbit/s into 8.
        let (begun, mut queue) = (start(), Queue::new());
        queue.push(begun, avc_header());
        let mut credit = 0;
        let mut needed = 0;
        for number in 0..3600_u32 {
            let now = begun + Duration::from_millis(u64::from(number) * 1000 / 60);
            let is_needed = number.is_multiple_of(3);
            let head = if number.is_multiple_of(120) { KEY } else { INTER };
            let mut unit = if is_needed { video(head, number, 37_500) } else { video(head, number, 18_750) };
            if !is_needed {
                unit = Unit { payload: [&[0x37, 1], &unit.payload[2..]].concat().into(), ..unit };
            }
            queue.push(now, unit);
            credit = (credit + 1_000_000 / 60).min(37_500);
            while credit > 0 {
                let Some((unit, since)) = queue.pop_dated() else { break };
                credit -= unit.payload.len() as i64;
                needed += u32::from(!unit.is_disposable() && !unit.is_sequence_header());
                assert!(since + MAX_WAIT >= now);
            }
        }
        assert!(needed >= 1195, "{needed} of 1200");
        assert!((1500..1750).contains(&queue.dropped()), "{} of 2400", queue.dropped());
    }

    #[test]
    fn a_line_that_was_too_slow_is_given_less_time_for_a_while() {
        let (now, mut queue) = (start(), Queue::new());
        queue.push(now, video(KEY, 0, 9));
        let shed = now + MAX_WAIT + Duration::from_millis(1);
        queue.push(shed, video(KEY, 1, 9));
        queue.push(shed + MAX_WAIT_SLOW, video(INTER, 2, 9));
        assert_eq!(left(&mut queue), [1, 2]);
        queue.push(shed + MAX_WAIT_SLOW, video(KEY, 3, 9));
        let again = shed + 2 * MAX_WAIT_SLOW + Duration::from_millis(1);
        queue.push(again, video(KEY, 4, 9));
        assert_eq!(left(&mut queue), [4]);
        queue.push(again + SLOW_FOR, video(KEY, 5, 9));
        queue.push(again + SLOW_FOR + MAX_WAIT, video(KEY, 6, 9));
        assert_eq!(left(&mut queue), [5, 6], "it is not held against the line for ever");
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
