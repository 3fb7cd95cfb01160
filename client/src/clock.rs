//! One clock for streams that follow each other.
//!
//! A publisher that begins again, or a caster on a new link, begins at a time of its own: at zero, or with pictures
//! that were sent before. Players that stay through it take a clock that goes back for a broken stream and give up,
//! so what follows is moved to where the stream before it ended.

use punchcast::media::{Kind, Unit};

/// The step from one stream to the next, milliseconds: about a picture, and more than the first sound stands before
/// the first picture.
const GAP: u32 = 40;

/// Moves the units of one stream after another onto one clock.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Clock {
    /// Added to a unit's timestamp.
    shift: u32,
    /// The latest timestamp given out.
    latest: Option<u32>,
    /// Another stream has begun, and its first picture or sound has not come yet.
    joining: bool,
}

impl Clock {
    /// What comes from here on is another stream.
    pub(crate) const fn next_stream(&mut self) {
        self.joining = self.latest.is_some();
    }

    /// The unit at its time on the one clock.
    pub(crate) fn place(&mut self, mut unit: Unit) -> Unit {
        if unit.is_metadata() {
            // It has none, wherever it stands.
            return unit;
        }
        // Data and sequence headers often bear zero, whatever the time of the pictures that follow them.
        let timeless = unit.kind == Kind::Data || unit.is_sequence_header();
        let Some(latest) = self.latest else {
            if !timeless {
                self.latest = Some(unit.timestamp);
            }
            return unit;
        };
        if self.joining {
            let begin = latest.wrapping_add(GAP);
            if timeless {
                unit.timestamp = begin;
                return unit;
            }
            self.joining = false;
            self.shift = begin.wrapping_sub(unit.timestamp);
        }
        unit.timestamp = unit.timestamp.wrapping_add(self.shift);
        // Sound and pictures are interleaved loosely: the latest is not always the last.
        if (unit.timestamp.wrapping_sub(latest) as i32) > 0 {
            self.latest = Some(unit.timestamp);
        }
        unit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(clock: &mut Clock, kind: Kind, timestamp: u32, payload: &'static [u8]) -> u32 {
        clock.place(Unit { kind, timestamp, payload: payload.into() }).timestamp
    }

    const PICTURE: &[u8] = b"\x27\x01p";
    const SOUND: &[u8] = b"\xaf\x01s";
    const HEADER: &[u8] = b"\x17\x00h";

    #[test]
    fn the_first_stream_keeps_its_own_time() {
        let mut clock = Clock::default();
        clock.next_stream();
        assert_eq!(placed(&mut clock, Kind::Video, 7_000, PICTURE), 7_000);
        assert_eq!(placed(&mut clock, Kind::Audio, 6_990, SOUND), 6_990);
        assert_eq!(placed(&mut clock, Kind::Video, 7_040, PICTURE), 7_040);
    }

    #[test]
    fn the_next_stream_goes_on_where_the_last_one_ended() {
        let mut clock = Clock::default();
        placed(&mut clock, Kind::Video, 7_000, PICTURE);
        placed(&mut clock, Kind::Audio, 6_990, SOUND);
        clock.next_stream();
        assert_eq!(placed(&mut clock, Kind::Data, 0, b"metadata"), 7_040);
        assert_eq!(placed(&mut clock, Kind::Video, 0, HEADER), 7_040);
        assert_eq!(placed(&mut clock, Kind::Video, 500, PICTURE), 7_040);
        assert_eq!(placed(&mut clock, Kind::Audio, 490, SOUND), 7_030);
        assert_eq!(placed(&mut clock, Kind::Video, 540, PICTURE), 7_080);
    }

    #[test]
    fn metadata_moves_no_clock() {
        let mut clock = Clock::default();
        const METADATA: &[u8] = b"\x02\x00\x0aonMetaData\x05";
        assert_eq!(placed(&mut clock, Kind::Data, 0, METADATA), 0);
        assert_eq!(placed(&mut clock, Kind::Video, 1 << 31, PICTURE), 1 << 31);
        clock.next_stream();
        assert_eq!(placed(&mut clock, Kind::Data, 0, METADATA), 0);
        assert_eq!(placed(&mut clock, Kind::Video, 0, PICTURE), (1 << 31) + GAP);
    }

    #[test]
    fn a_header_at_zero_moves_no_clock() {
        let mut clock = Clock::default();
        let uptime = 3 << 30;
        assert_eq!(placed(&mut clock, Kind::Video, 0, HEADER), 0);
        assert_eq!(placed(&mut clock, Kind::Video, uptime, PICTURE), uptime);
        clock.next_stream();
        assert_eq!(placed(&mut clock, Kind::Video, 0, HEADER), uptime + GAP);
        assert_eq!(placed(&mut clock, Kind::Video, 0, PICTURE), uptime + GAP);
    }

    #[test]
    fn the_clock_wraps() {
        let mut clock = Clock::default();
        placed(&mut clock, Kind::Video, u32::MAX - 9, PICTURE);
        clock.next_stream();
        assert_eq!(placed(&mut clock, Kind::Video, 1_000, PICTURE), 30);
        assert_eq!(placed(&mut clock, Kind::Video, 1_040, PICTURE), 70);
    }
}
