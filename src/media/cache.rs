//! What a late joiner must be given before live media makes sense: metadata, sequence headers, and the group of
//! pictures that is under way.
//!
//! Without the group a player would show nothing until the next keyframe, which an encoder may send only every ten
//! seconds. A group that outgrows the limits is given up until the next keyframe; headers are always kept.

use super::unit::{Content, Kind, Unit};

/// The most that a replayed group may hold, bytes: over two seconds at 10 Mbit/s, and less than
/// [`pace::MAX_BYTES`](super::pace::MAX_BYTES), so that a replay fits a queue with room for what follows it.
pub const MAX_GROUP_BYTES: usize = 3 * 1024 * 1024;

/// The longest span of a replayed group, milliseconds: the keyframe interval of the slowest encoders in use. A player
/// that gets more falls behind by as much as it must decode.
pub const MAX_GROUP_MS: u32 = 10_000;

/// The most units in a group, so that tiny ones cannot make it costly: ten seconds of 120 pictures and 50 sounds.
pub const MAX_GROUP_UNITS: usize = 2_048;

/// Follows a stream and keeps what a late joiner needs of it.
#[derive(Clone, Debug, Default)]
pub struct Cache {
    metadata: Option<Unit>,
    video: Option<Unit>,
    audio: Option<Unit>,
    /// From a keyframe on; empty while there is none to begin with.
    group: Vec<Unit>,
    group_bytes: usize,
    /// The stream's clock.
    latest: u32,
}

impl Cache {
    /// An empty cache.
    #[must_use]
    pub const fn new() -> Self {
        Self { metadata: None, video: None, audio: None, group: Vec::new(), group_bytes: 0, latest: 0 }
    }

    /// Takes the next unit of the stream.
    pub fn push(&mut self, unit: &Unit) {
        if unit.is_metadata() {
            self.metadata = Some(unit.clone());
            return;
        }
        self.latest = unit.timestamp;
        match unit.kind {
            Kind::Video if unit.is_sequence_header() => {
                // What follows is not decoded with the old header, and what went before not with the new one.
                if self.video.as_ref().is_none_or(|old| old.payload != unit.payload) {
                    self.clear_group();
                }
                self.video = Some(unit.clone());
            }
            Kind::Audio if unit.is_sequence_header() => self.audio = Some(unit.clone()),
            Kind::Video if unit.holds(Content::SequenceEnd) => self.clear_group(),
            Kind::Video if unit.is_keyframe() => {
                self.clear_group();
                self.append(unit);
            }
            Kind::Audio | Kind::Video | Kind::Data => {
                if !self.group.is_empty() {
                    self.append(unit);
                }
            }
        }
    }

    /// Metadata and sequence headers, on the clock of what follows them.
    pub fn headers(&self) -> impl Iterator<Item = Unit> + '_ {
        let timestamp = self.group.first().map_or(self.latest, |first| first.timestamp);
        let headers = [&self.metadata, &self.video, &self.audio];
        headers.into_iter().flatten().map(move |unit| Unit { timestamp, ..unit.clone() })
    }

    /// Headers, and the group under way.
    pub fn replay(&self) -> impl Iterator<Item = Unit> + '_ {
        self.headers().chain(self.group.iter().cloned())
    }

    /// Whether a replay shows a picture, or there is no picture to wait for.
    #[must_use]
    pub const fn has_keyframe(&self) -> bool {
        !self.group.is_empty()
    }

    fn append(&mut self, unit: &Unit) {
        let span = self.group.first().map_or(0, |first| unit.timestamp.wrapping_sub(first.timestamp));
        // Units of two kinds are interleaved loosely: one may lie a little before the keyframe.
        let span = if span > u32::MAX / 2 { 0 } else { span };
        let bytes = self.group_bytes + unit.payload.len();
        if bytes > MAX_GROUP_BYTES || span > MAX_GROUP_MS || self.group.len() == MAX_GROUP_UNITS {
            self.clear_group();
            return;
        }
        self.group_bytes = bytes;
        self.group.push(unit.clone());
    }

    fn clear_group(&mut self) {
        self.group.clear();
        self.group_bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const METADATA: &[u8] = b"\x02\x00\x0aonMetaData\x05";

    fn unit(kind: Kind, timestamp: u32, payload: &[u8]) -> Unit {
        Unit { kind, timestamp, payload: payload.to_vec().into() }
    }

    fn video(timestamp: u32, payload: &[u8]) -> Unit {
        unit(Kind::Video, timestamp, payload)
    }

    fn cache(units: &[Unit]) -> Cache {
        let mut cache = Cache::new();
        units.iter().for_each(|unit| cache.push(unit));
        cache
    }

    fn replayed(cache: &Cache) -> Vec<(u32, Vec<u8>)> {
        cache.replay().map(|unit| (unit.timestamp, unit.payload.to_vec())).collect()
    }

    #[test]
    fn a_late_joiner_gets_headers_and_the_group_under_way() {
        let cache = cache(&[
            unit(Kind::Data, 0, METADATA),
            video(0, b"\x17\x00header"),
            unit(Kind::Audio, 0, b"\xaf\x00header"),
            video(0, b"\x17\x01old"),
            video(40, b"\x27\x01old"),
            unit(Kind::Audio, 70, b"\xaf\x01old"),
            video(80, b"\x17\x01key"),
            unit(Kind::Audio, 79, b"\xaf\x01a"),
            video(120, b"\x27\x01p"),
        ]);
        let expected: [(u32, &[u8]); 6] = [
            (80, METADATA),
            (80, b"\x17\x00header"),
            (80, b"\xaf\x00header"),
            (80, b"\x17\x01key"),
            (79, b"\xaf\x01a"),
            (120, b"\x27\x01p"),
        ];
        assert_eq!(replayed(&cache), expected.map(|(at, bytes)| (at, bytes.to_vec())));
        assert_eq!(cache.headers().count(), 3);
    }

    #[test]
    fn a_changed_header_ends_the_group_and_a_repeated_one_does_not() {
        let mut cache = cache(&[video(0, b"\x17\x00one"), video(0, b"\x17\x01key")]);
        cache.push(&video(10, b"\x17\x00one"));
        assert!(cache.has_keyframe());
        cache.push(&video(20, b"\x17\x00two"));
        assert_eq!(replayed(&cache), [(20, b"\x17\x00two".to_vec())]);
        cache.push(&video(30, b"\x27\x01p"));
        assert!(!cache.has_keyframe());
    }

    #[test]
    fn the_end_of_a_sequence_is_no_keyframe_and_ends_the_group() {
        // AVC's, HEVC's in AVC's form, the enhanced one, and that behind a ModEx.
        for end in [&b"\x17\x02\0\0\0"[..], b"\x1c\x02\0\0\0", b"\x92avc1", b"\x97\0\0\x02avc1"] {
            let mut cache = cache(&[video(0, b"\x17\x01key"), video(9, end)]);
            assert!(!cache.has_keyframe(), "{end:02x?}");
            cache.push(&video(10, end));
            assert!(!cache.has_keyframe(), "{end:02x?}");
        }
    }

    #[test]
    fn enhanced_video_is_followed_too() {
        let cache = cache(&[video(0, b"\x90hvc1header"), video(5, b"\x91hvc1key"), video(9, b"\xa3hvc1p")]);
        assert_eq!(replayed(&cache).len(), 3);
    }

    #[test]
    fn a_group_is_bounded_in_bytes_time_and_number() {
        let key = video(0, b"\x17\x01key");
        let mut bytes = cache(std::slice::from_ref(&key));
        for at in 0..5 {
            bytes.push(&video(at, &vec![0x27; 1 << 20]));
        }
        assert!(!bytes.has_keyframe());

        let mut time = cache(std::slice::from_ref(&key));
        time.push(&video(MAX_GROUP_MS, b"\x27\x01p"));
        assert!(time.has_keyframe());
        time.push(&video(MAX_GROUP_MS + 1, b"\x27\x01p"));
        assert!(!time.has_keyframe());

        let mut number = cache(std::slice::from_ref(&key));
        for _ in 0..MAX_GROUP_UNITS {
            number.push(&video(1, b"\x27\x01p"));
        }
        assert!(!number.has_keyframe());
        number.push(&key);
        assert!(number.has_keyframe());
    }

    #[test]
    fn sound_alone_is_not_kept_but_for_its_header() {
        let cache = cache(&[unit(Kind::Audio, 0, b"\xaf\x00h"), unit(Kind::Audio, 20, b"\xaf\x01a")]);
        assert_eq!(replayed(&cache), [(20, b"\xaf\x00h".to_vec())]);
    }
}
