//! What of a stream goes into a recording, and at which time.
//!
//! A recording begins at a keyframe, after the metadata and sequence headers that were seen by then, at time zero,
//! and its timestamps never go back. One recording may hold several streams, one after another: the link was made
//! again, or another cast followed. The next stream begins at a keyframe too, and goes on where the last one ended.
//!
//! FLV has no durations: a picture stands until the next unit, and the last one, which may be a screen's for hours, would
//! stand for no time. So a stream that ended while its last picture stood has the mark of its end there. Players pass it
//! over, and by its time they know how long the file is.
//!
//! Players read one set of sequence headers at the beginning of a file, and stumble over others later. So a recording may
//! come in *parts*, each a file of its own: another begins with a stream whose headers are others, and wherever another
//! codec or other sound comes, as another publisher of the same cast brings it. Pictures of another size in the midst of a
//! stream (a window is resized) stay in the part, as that may happen many times a second, and H.264's parameter sets stand
//! before each keyframe from there on.

use bytes::Bytes;
use punchcast::media::avc::{self, Config};
use punchcast::media::{Kind, Unit};
use std::collections::VecDeque;
use std::time::Duration;

/// The largest step between two units' timestamps, in milliseconds, that counts as time that passed: a screen on
/// which nothing moves may give no frame for long. A larger one is another clock.
const MAX_STEP: i32 = 3_600_000;

/// How far audio may stand behind the video before it, in milliseconds. Further back is another clock.
const MAX_STEP_BACK: i32 = 2_000;

/// The step from one stream to the next, in milliseconds: about a frame.
const STREAM_GAP: u64 = 40;

/// How long the last picture must have stood for its end to be marked. Less is what a link takes to tell of its end.
const LEAST_STAY: Duration = Duration::from_millis(500);

/// How much sound, in milliseconds, without a picture makes a stream one of sound alone. Publishers send both within
/// a second.
const AUDIO_ALONE: u32 = 2_000;

/// Units of sound that a recording keeps until it is known whether there is a picture: two seconds of the shortest packets in
/// use, of 5 ms.
const MAX_EARLY: usize = 400;

/// Bytes of that: two seconds of uncompressed stereo, and more.
const MAX_EARLY_BYTES: usize = 512 << 10;

/// From when on sound is no part of a recording's beginning, in milliseconds: players look for what it has that long, or less.
const LATE_SOUND: u64 = 5_000;

/// Decides on the units of a recording.
#[derive(Debug, Default)]
pub(crate) struct Timeline {
    phase: Phase,
    metadata: Header,
    video: Header,
    audio: Header,
    /// A picture or its sequence header was seen in this stream.
    video_seen: bool,
    /// A keyframe of this stream is recorded, so what follows it can be decoded.
    decodable: bool,
    clock: Option<Clock>,
    /// The recording's latest timestamp, in milliseconds.
    now: u64,
    /// The stream's latest picture.
    latest: Option<Unit>,
    /// It comes in parts.
    in_parts: bool,
    /// Parts begun after the first.
    part: u32,
    /// What comes next does not fit the part, and begins another.
    part_due: bool,
    /// It waits for a keyframe that nobody else has reason to ask for.
    wants_keyframe: bool,
    /// Sound that came while it is not known whether there is a picture. A recording alone keeps it: a player would stay behind by
    /// as much.
    early: VecDeque<Unit>,
    /// What the part's first video header does not say of its later pictures.
    parameter_sets: Option<Config>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// Until a keyframe comes.
    #[default]
    Waiting,
    /// The same, and there has been sound since this timestamp.
    Sound(u32),
    /// Everything goes into the recording.
    Recording,
}

/// A unit that describes what follows it, and what of it stands in the recording.
#[derive(Debug, Default)]
struct Header {
    unit: Option<Unit>,
    /// `unit` is written.
    written: bool,
    /// `unit` is of the stream before this one.
    stale: bool,
    /// The last one of this part, written or lost.
    in_part: Option<Bytes>,
    /// What the part's units of this kind are coded in.
    coding: Option<[u8; 4]>,
}

impl Header {
    /// Keeps `unit`; one that says the same again is not written again.
    fn keep(&mut self, unit: &Unit) {
        self.stale = false;
        if self.unit.as_ref().is_none_or(|kept| kept.payload != unit.payload) {
            self.unit = Some(unit.clone());
            self.written = false;
        }
    }

    /// Whether a part that has this goes on with a stream that has announced `self`.
    fn fits(&self) -> bool {
        let Some(unit) = self.unit.as_ref().filter(|_| !self.stale) else { return true };
        self.in_part.as_ref().is_some_and(|in_part| *in_part == unit.payload)
    }

    /// Whether a unit of this kind is coded in the part's way.
    fn takes(&self, unit: &Unit) -> bool {
        match (self.coding, unit.coding()) {
            (Some(coding), Some(its)) => coding == its,
            (None, _) | (_, None) => true,
        }
    }

    /// Another part begins.
    fn forget_part(&mut self) {
        (self.written, self.in_part, self.coding) = (false, None, None);
        if self.stale {
            self.unit = None;
        }
    }
}

/// How a stream's timestamps become the recording's.
#[derive(Clone, Copy, Debug)]
struct Clock {
    /// The latest timestamp of the stream.
    last: u32,
    /// Where that is in the recording.
    at: u64,
}

impl Timeline {
    /// Of a recording that comes in parts.
    pub(crate) fn in_parts() -> Self {
        Self { in_parts: true, ..Self::default() }
    }

    /// Which part what was given out last is of. One that is new begins with the first unit that `accept` gave.
    pub(crate) const fn part(&self) -> u32 {
        self.part
    }

    /// Whether the part holds sound, and whether pictures, as far as is known.
    pub(crate) fn contents(&self) -> (bool, bool) {
        let holds = |header: &Header| header.unit.is_some() || header.coding.is_some();
        (holds(&self.audio) || matches!(self.phase, Phase::Sound(_)), holds(&self.video))
    }

    /// Another stream follows: its clock is another, and it begins at its next keyframe.
    pub(crate) fn next_stream(&mut self) {
        self.clock = None;
        self.video_seen = false;
        self.video.stale = true;
        self.audio.stale = true;
        self.wait();
    }

    /// The stream is over, and nothing came for `stay` before that. The mark of its end, if that was long.
    pub(crate) fn end_stream(&mut self, stay: Duration) -> Option<Unit> {
        let latest = self.latest.take();
        let was_recorded = self.phase == Phase::Recording && self.clock.is_some();
        self.next_stream();
        let stay = stay.min(Duration::from_millis(MAX_STEP as u64));
        if !was_recorded || stay < LEAST_STAY {
            return None;
        }
        let end = self.now + stay.as_millis() as u64;
        let mark = latest?.end_of_sequence(end as u32)?;
        self.now = end;
        Some(mark)
    }

    /// Some of what was given out was lost: nothing can be decoded before the next keyframe.
    pub(crate) fn resynchronise(&mut self) {
        for header in [&mut self.metadata, &mut self.video, &mut self.audio] {
            header.written = false;
        }
        self.wait();
    }

    /// Another recording begins in the middle of the stream: at time zero, with the headers that were seen, at the next
    /// keyframe.
    pub(crate) fn restart(&mut self) {
        self.clock = None;
        self.now = 0;
        self.parameter_sets = None;
        for header in [&mut self.metadata, &mut self.video, &mut self.audio] {
            header.forget_part();
        }
        self.wait();
    }

    /// The same, for somebody who sees nothing before that keyframe.
    pub(crate) fn restart_and_ask(&mut self) {
        self.restart();
        self.wants_keyframe = true;
    }

    fn wait(&mut self) {
        self.phase = Phase::Waiting;
        self.early.clear();
        self.decodable = false;
    }

    /// Whether a keyframe is to be asked for, once: nothing goes on before it comes.
    pub(crate) const fn take_keyframe_wish(&mut self) -> bool {
        std::mem::replace(&mut self.wants_keyframe, false)
    }

    /// Takes the next unit that was received, and gives what is to be written for it, in order.
    pub(crate) fn accept(&mut self, unit: &Unit, mut write: impl FnMut(Unit)) {
        self.video_seen |= unit.kind == Kind::Video;
        if self.in_parts && !self.takes(unit) {
            self.part_due = true;
            self.wait();
        }
        if let Some(header) = self.header_of(unit) {
            header.keep(unit);
            if self.in_parts && unit.kind == Kind::Audio && self.changes_sound() {
                (self.part_due, self.wants_keyframe) = (true, true);
                self.wait();
            }
            if self.phase == Phase::Recording {
                self.write_headers(&mut write);
            }
            return;
        }
        if self.clock.is_some_and(|clock| clock.leaps(unit.timestamp)) {
            self.clock = None;
            self.wait();
        }
        if self.phase != Phase::Recording {
            if !self.begins(unit) {
                self.keep_early(unit);
                return;
            }
            let mut early = std::mem::take(&mut self.early);
            if self.video_seen {
                early.clear();
            }
            self.begin_part_if_due();
            self.phase = Phase::Recording;
            self.write_headers(&mut write);
            for unit in early {
                self.note_coding(&unit);
                let timestamp = self.advance(unit.timestamp);
                write(Unit { timestamp, ..unit });
            }
        }
        if unit.kind == Kind::Video {
            self.decodable |= unit.is_keyframe();
            if !self.decodable {
                return;
            }
        }
        self.note_coding(unit);
        let timestamp = self.advance(unit.timestamp);
        let unit = match &self.parameter_sets {
            Some(sets) if unit.is_keyframe() => avc::with_parameter_sets(unit, sets),
            Some(_) | None => unit.clone(),
        };
        if unit.is_picture() {
            self.latest = Some(unit.clone());
        }
        write(Unit { timestamp, ..unit });
    }

    /// Whether the part is under way, and the sound that was announced last is not what it began with. Sound that comes a little
    /// after the first picture is.
    fn changes_sound(&self) -> bool {
        let begun = self.video.coding.is_some() && (self.audio.in_part.is_some() || self.now >= LATE_SOUND);
        begun && !self.part_due && !self.audio.fits()
    }

    /// Whether the part's codecs are `unit`'s.
    fn takes(&self, unit: &Unit) -> bool {
        match unit.kind {
            Kind::Video => self.video.takes(unit),
            Kind::Audio => self.audio.takes(unit),
            Kind::Data => true,
        }
    }

    fn note_coding(&mut self, unit: &Unit) {
        let header = match unit.kind {
            Kind::Video => &mut self.video,
            Kind::Audio => &mut self.audio,
            Kind::Data => return,
        };
        header.coding = header.coding.or_else(|| unit.coding());
    }

    /// Begins another part if a stream, or what follows in this one, does not fit the one that is there.
    fn begin_part_if_due(&mut self) {
        let begun = self.video.coding.is_some() || self.audio.coding.is_some();
        let next_stream = self.clock.is_none();
        let other = next_stream && !(self.video.fits() && self.audio.fits());
        if begun && self.in_parts && (other || self.part_due) {
            self.restart();
            self.part += 1;
        }
        self.part_due = false;
    }

    fn header_of(&mut self, unit: &Unit) -> Option<&mut Header> {
        match unit.kind {
            Kind::Data if unit.is_metadata() => Some(&mut self.metadata),
            Kind::Video if unit.is_sequence_header() => Some(&mut self.video),
            Kind::Audio if unit.is_sequence_header() => Some(&mut self.audio),
            Kind::Data | Kind::Video | Kind::Audio => None,
        }
    }

    /// Whether a recording can begin with `unit`.
    fn begins(&mut self, unit: &Unit) -> bool {
        match (unit.kind, self.phase) {
            (Kind::Video, _) => unit.is_keyframe(),
            (Kind::Audio, _) if self.video_seen => false,
            (Kind::Audio, Phase::Sound(since)) => unit.timestamp.wrapping_sub(since) >= AUDIO_ALONE,
            (Kind::Audio, Phase::Waiting | Phase::Recording) => {
                self.phase = Phase::Sound(unit.timestamp);
                false
            }
            (Kind::Data, _) => false,
        }
    }

    /// Keeps sound that a recording of sound alone begins with, the latest of it.
    fn keep_early(&mut self, unit: &Unit) {
        if !self.in_parts || unit.kind != Kind::Audio || self.video_seen {
            return;
        }
        self.early.push_back(unit.clone());
        let bytes = |early: &VecDeque<Unit>| early.iter().map(|unit| unit.payload.len()).sum::<usize>();
        while self.early.len() > MAX_EARLY || bytes(&self.early) > MAX_EARLY_BYTES {
            self.early.pop_front();
        }
    }

    /// Writes the headers that the recording does not have yet, where it has come to.
    fn write_headers(&mut self, write: &mut impl FnMut(Unit)) {
        for header in [&mut self.metadata, &mut self.video, &mut self.audio] {
            let Some(unit) = header.unit.as_ref().filter(|_| !header.written) else { continue };
            if header.in_part.as_ref().is_some_and(|before| *before != unit.payload)
                && let Some(Ok(config)) = Config::of(unit)
            {
                self.parameter_sets = Some(config);
            }
            header.written = true;
            header.in_part = Some(unit.payload.clone());
            write(Unit { timestamp: self.now as u32, ..unit.clone() });
        }
    }

    /// The recording's time for a stream's timestamp.
    fn advance(&mut self, timestamp: u32) -> u32 {
        let clock = match self.clock {
            Some(clock) => clock.moved(timestamp),
            // The first stream begins at zero, any other after what is there.
            None if self.now == 0 => Clock { last: timestamp, at: 0 },
            None => Clock { last: timestamp, at: self.now + STREAM_GAP },
        };
        self.clock = Some(clock);
        self.now = self.now.max(clock.at);
        self.now as u32
    }
}

impl Clock {
    fn leaps(self, timestamp: u32) -> bool {
        !(-MAX_STEP_BACK..=MAX_STEP).contains(&(timestamp.wrapping_sub(self.last) as i32))
    }

    fn moved(self, timestamp: u32) -> Self {
        let step = timestamp.wrapping_sub(self.last) as i32;
        if step <= 0 { self } else { Self { last: timestamp, at: self.at + step as u64 } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(kind: Kind, timestamp: u32, payload: &[u8]) -> Unit {
        Unit { kind, timestamp, payload: payload.to_vec().into() }
    }

    /// What a timeline gives for these units: kinds and times.
    fn placed(timeline: &mut Timeline, units: &[Unit]) -> Vec<(Kind, u32)> {
        let mut placed = Vec::new();
        for unit in units {
            timeline.accept(unit, |unit| placed.push((unit.kind, unit.timestamp)));
        }
        placed
    }

    /// Sound every 100 ms, its header first.
    fn sound(from: u32, until: u32) -> Vec<Unit> {
        let frames = (from..until).step_by(100).map(|at| unit(Kind::Audio, at, &[0xaf, 1, 0]));
        [unit(Kind::Audio, from, &[0xaf, 0])].into_iter().chain(frames).collect()
    }

    #[test]
    fn a_recording_of_sound_alone_has_its_beginning_and_a_player_does_not_stay_behind_by_it() {
        let units = sound(5000, 8000);
        let mut recording = Timeline::in_parts();
        assert_eq!(placed(&mut recording, &units[..21]), [], "a picture may come");
        assert_eq!(placed(&mut recording, &units[21..22]).len(), 22);
        assert!(recording.early.is_empty());
        assert_eq!(placed(&mut recording, &units[22..]).first(), Some(&(Kind::Audio, 2100)));
        let times: Vec<_> = placed(&mut Timeline::in_parts(), &units).into_iter().map(|(_, at)| at).collect();
        assert_eq!(times, [0].into_iter().chain((0..3000).step_by(100)).collect::<Vec<_>>());

        let live = placed(&mut Timeline::default(), &units);
        assert_eq!((live.len(), live[1]), (11, (Kind::Audio, 0)));
    }

    #[test]
    fn a_recording_with_a_picture_begins_there() {
        let mut timeline = Timeline::in_parts();
        assert_eq!(placed(&mut timeline, &sound(0, 1000)), []);
        let picture = unit(Kind::Video, 1000, &[0x17, 1, 0, 0, 0]);
        let begun = placed(&mut timeline, &[picture]);
        assert_eq!(begun, [(Kind::Audio, 0), (Kind::Video, 0)], "the sound's header and the picture");
        assert!(timeline.early.is_empty());
    }

    #[test]
    fn sound_that_waits_is_bounded() {
        let mut timeline = Timeline::in_parts();
        for size in [3, 100_000] {
            for _ in 0..2 * MAX_EARLY {
                let mut payload = vec![0xaf, 1];
                payload.resize(size, 0);
                placed(&mut timeline, &[unit(Kind::Audio, 0, &payload)]);
                let bytes: usize = timeline.early.iter().map(|unit| unit.payload.len()).sum();
                assert!(timeline.early.len() <= MAX_EARLY && bytes <= MAX_EARLY_BYTES);
            }
        }
    }
}
