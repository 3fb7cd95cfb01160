//! What players are told of a stream that has no sound.
//!
//! libavformat (ffplay, ffmpeg, mpv, VLC) waits before it shows a stream of FLV or RTMP: until it has seen 41 pictures, and
//! where no sound has come, until it has seen so many that they would last 5 seconds *by the frame rate that
//! `onMetaData` announces*. It means to find streams that begin late. At 30 a second that is 150 pictures: 5 s of a moving
//! picture, and for ever of a screen on which little moves. Players are told a lower rate, by which the 41 last as long.
//! They show pictures by their timestamps, and find the true rate by them.
//!
//! A viewer that dials is told the same, as who serves does not know it from a player, and hands it on to recordings. So the
//! true rate stands beside the lower one, under a name that players do not look for, and [`as_it_was`] puts it back.

use super::Unit;
use super::metadata::{Metadata, number_property};
use crate::rtmp::amf0::Decoder;
use std::borrow::Cow;

/// The highest frame rate by which 41 pictures last 5 seconds.
pub const MAX_TOLD_RATE: f64 = 8.0;

/// The property that has the true rate where a lower one is told.
const TRUE_RATE: &str = "punchcastFramerate";

/// What players are given in the place of `unit`: metadata that tell of no sound tell [`MAX_TOLD_RATE`] at most. All else
/// is as it was.
#[must_use]
pub fn for_players(unit: &Unit) -> Cow<'_, Unit> {
    lowered(unit).map_or(Cow::Borrowed(unit), Cow::Owned)
}

/// What was given to players, as it was before.
#[must_use]
pub fn as_it_was(unit: Unit) -> Unit {
    restored(&unit).unwrap_or(unit)
}

fn lowered(unit: &Unit) -> Option<Unit> {
    let mut metadata = Metadata::of(unit)?;
    if metadata.find("audiocodecid").is_some() {
        return None;
    }
    let (at, rate) = number(&metadata, "framerate").filter(|(_, rate)| *rate > MAX_TOLD_RATE)?;
    let (told, truth) = (number_property("framerate", MAX_TOLD_RATE), number_property(TRUE_RATE, rate));
    metadata.kept[at] = &told;
    metadata.kept.push(&truth);
    Some(Unit { payload: metadata.encode(&[]).into(), ..unit.clone() })
}

fn restored(unit: &Unit) -> Option<Unit> {
    let mut metadata = Metadata::of(unit)?;
    let ((at, _), (truth_at, rate)) = (number(&metadata, "framerate")?, number(&metadata, TRUE_RATE)?);
    let truth = number_property("framerate", rate);
    metadata.kept[at] = &truth;
    metadata.kept.remove(truth_at);
    Some(Unit { payload: metadata.encode(&[]).into(), ..unit.clone() })
}

/// Which of the properties has this key, if it is a number.
fn number(metadata: &Metadata<'_>, key: &str) -> Option<(usize, f64)> {
    let (at, value) = metadata.find(key)?;
    Some((at, Decoder::new(value).value().ok()??.as_number()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::Kind;
    use crate::rtmp::amf0::Value;

    fn metadata(properties: &[(&str, Value)], rest: &[u8]) -> Unit {
        let mut payload = Vec::new();
        Value::string("onMetaData").encode(&mut payload);
        let properties = properties.iter().map(|(key, value)| ((*key).to_owned(), value.clone()));
        Value::EcmaArray(properties.collect()).encode(&mut payload);
        payload.extend_from_slice(rest);
        Unit { kind: Kind::Data, timestamp: 7, payload: payload.into() }
    }

    #[test]
    fn a_rate_without_sound_is_told_lower() {
        let facts =
            |rate: f64| [("width", 1280.0.into()), ("framerate", rate.into()), ("encoder", "x".into())];
        let [width, rate, encoder] = facts(8.0);
        let told = metadata(&[width, rate, encoder, (TRUE_RATE, 30.0.into())], b"rest");
        let truth = metadata(&facts(30.0), b"rest");
        assert_eq!(*for_players(&truth), told);
        assert!(matches!(for_players(&told), Cow::Borrowed(_)));
        assert_eq!(as_it_was(told), truth);
        assert_eq!(as_it_was(truth.clone()), truth);
        let slow = metadata(&facts(5.0), b"");
        assert_eq!(*for_players(&slow), slow);
    }

    #[test]
    fn all_else_is_told_as_it_is() {
        let rate = ("framerate", Value::from(30.0));
        for unit in [
            metadata(&[rate.clone(), ("audiocodecid", 10.0.into())], b""),
            metadata(&[("width", 1280.0.into())], b""),
            metadata(&[("framerate", "30".into())], b""),
            Unit { payload: b"\x02\x00\x0aonMetaData\x08\x00".as_slice().into(), ..metadata(&[], b"") },
            Unit { kind: Kind::Video, ..metadata(&[rate], b"") },
        ] {
            assert_eq!(*for_players(&unit), unit);
            assert_eq!(as_it_was(unit.clone()), unit);
        }
        // ffmpeg writes what it does not know as text.
        let copied = metadata(&[("framerate", 8.0.into()), (TRUE_RATE, "30".into())], b"");
        assert_eq!(as_it_was(copied.clone()), copied);
    }
}
