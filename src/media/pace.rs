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

/// How soon a keyframe is asked for again, as long as video waits for one. Each is as large as many pictures, and goes to
/// everybody who watches, while the line that left out video is too slow as it is: so each time that video is left out again
/// the pause is twice as long, up to [`ASK_AT_LEAST_EVERY`].
pub const ASK_EVERY: Duration = Duration::from_secs(2);

/// The longest pause between two of them.
pub const ASK_AT_LEAST_EVERY: Duration = Duration::from_secs(32);

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
    /// When a keyframe was asked for last, and how long none is from then on.
    asked: Option<(Instant, Duration)>,
}

#[derive(Debug)]
struct Waiting {
    place: u64,
    since: Instant,
    made: Option<Instant>,
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
        self.append(now, unit, None);
    }

    /// The same for a unit that is known to have been made at that moment. What may wait counts from `now`, as what it took
    /// before is not this queue's doing.
    pub fn push_dated(&mut self, now: Instant, unit: Unit, made: Instant) {
        self.append(now, unit, Some(made));
    }

    fn append(&mut self, now: Instant, unit: Unit, made: Option<Instant>) {
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
                    // What says of itself that all begins with it is needed, whatever its slices say.
                    Gate::Open if !unit.is_keyframe() && is_disposable(self.coding, &unit) => {
                        &mut self.disposable
                    }
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
        lane.push_back(Waiting { place: self.next_place, since: now, made, unit });
        self.next_place += 1;
        self.shed(now);
    }

    /// The next unit to send.
    pub fn pop(&mut self) -> Option<Unit> {
        self.pop_dated().map(|(unit, _)| unit)
    }

    /// The next unit to send, and when it was made, if that was told.
    pub fn pop_dated(&mut self) -> Option<(Unit, Option<Instant>)> {
        let lanes = [&mut self.pictures, &mut self.disposable, &mut self.sound, &mut self.rest];
        let first = |lane: &&mut VecDeque<Waiting>| lane.front().map_or(u64::MAX, |waiting| waiting.place);
        let Waiting { unit, made, .. } = lanes.into_iter().min_by_key(first)?.pop_front()?;
        self.bytes -= unit.payload.len();
        Some((unit, made))
    }

    /// Whether a keyframe is to be asked for: video was left out up to the next one, which a picture that stands still would
    /// not bring for long, and all that came before it is gone. Asked again, it says so after [`ASK_EVERY`], and then ever later.
    pub fn wants_keyframe(&mut self, now: Instant) -> bool {
        let asked = self.asked.is_some_and(|(at, pause)| now < at + pause);
        let wants = matches!(self.gate, Gate::Skipping) && self.is_empty() && !asked;
        if wants {
            let lately = self.asked.filter(|(at, pause)| now < *at + *pause * 2 + SLOW_FOR);
            let pause = lately.map_or(ASK_EVERY, |(_, pause)| (pause * 2).min(ASK_AT_LEAST_EVERY));
            self.asked = Some((now, pause));
        }
        wants
    }

    /// Leaves out the video that waits, and what follows up to the next keyframe, for which the caller asks.
    pub fn skip_to_keyframe(&mut self, now: Instant) {
        self.asked = Some((now, ASK_EVERY));
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
            // One alone is what the line is to carry, however large it is.
            let too_much = self.len() > 1 && (self.bytes > MAX_BYTES || self.len() > MAX_UNITS);
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
mod tests;
