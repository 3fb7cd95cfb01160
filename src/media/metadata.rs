//! What `onMetaData` says of a file, and a stream has not got (FLV v10.1 §E.5).
//!
//! Who publishes a file sends the file's own metadata: its length, its size, where its keyframes lie. None of that is
//! true of the stream, which others join late and leave early, nor of a recording of it; players that believe it seek to
//! nowhere and stop too soon. Everything else is passed on.

use super::unit::Unit;
use crate::rtmp::amf0::{self, Decoder, Properties, Value};

/// What tells of a file: what ffmpeg, yamdi, flvmeta and their like write. Compared without regard to case.
const OF_A_FILE: [&str; 15] = [
    DURATION,
    "totalduration",
    "filesize",
    "datasize",
    "videosize",
    "audiosize",
    "metadatasize",
    "keyframes",
    "hasKeyframes",
    "canSeekToEnd",
    "seekPoints",
    "cuePoints",
    "lasttimestamp",
    "lastkeyframetimestamp",
    "lastkeyframelocation",
];

const DURATION: &str = "duration";

/// Bytes of the encoding of "duration" and the number's marker behind it.
const BEFORE_VALUE: usize = 2 + DURATION.len() + 1;

/// The unit as a live stream has it. What is no metadata, or cannot be read, stays as it is.
#[must_use]
pub fn of_stream(unit: Unit) -> Unit {
    let Some(mut metadata) = Metadata::of(&unit) else { return unit };
    if metadata.forget_file() { metadata.unit(&unit).0 } else { unit }
}

/// The metadata with a `duration` of 0, and where in the payload its eight bytes are: for a file that is to tell its
/// length once it is known. `None` for what is no metadata, or cannot be read.
#[must_use]
pub fn with_duration(unit: &Unit) -> Option<(Unit, usize)> {
    let mut metadata = Metadata::of(unit)?;
    metadata.forget_file();
    metadata.properties.insert(0, (DURATION.into(), Value::Number(0.0)));
    let (unit, first_property) = metadata.unit(unit);
    Some((unit, first_property + BEFORE_VALUE))
}

/// Metadata, read.
struct Metadata {
    name: Vec<u8>,
    /// They stand in an ECMA array, not in an object.
    in_array: bool,
    properties: Properties,
    /// What follows them.
    rest: Vec<u8>,
}

impl Metadata {
    fn of(unit: &Unit) -> Option<Self> {
        if !unit.is_metadata() {
            return None;
        }
        let (_, length) = amf0::leading_string(&unit.payload)?;
        let (name, behind) = unit.payload.split_at_checked(length)?;
        let mut decoder = Decoder::new(behind);
        let (in_array, properties) = match decoder.value().ok()?? {
            Value::EcmaArray(properties) => (true, properties),
            Value::Object(properties) => (false, properties),
            Value::Number(_)
            | Value::Boolean(_)
            | Value::String(_)
            | Value::StrictArray(_)
            | Value::Null
            | Value::Undefined
            | Value::Date(_) => return None,
        };
        Some(Self { name: name.to_vec(), in_array, properties, rest: decoder.rest().to_vec() })
    }

    /// Whether it said anything of a file.
    fn forget_file(&mut self) -> bool {
        let all = self.properties.len();
        let of_a_file = |key: &str| OF_A_FILE.iter().any(|known| known.eq_ignore_ascii_case(key));
        self.properties.retain(|(key, _)| !of_a_file(key));
        self.properties.len() != all
    }

    /// The unit with these, and where in its payload the first property begins.
    fn unit(self, unit: &Unit) -> (Unit, usize) {
        let mut payload = self.name;
        let first = payload.len() + if self.in_array { ARRAY_HEAD } else { OBJECT_HEAD };
        let properties =
            if self.in_array { Value::EcmaArray(self.properties) } else { Value::Object(self.properties) };
        properties.encode(&mut payload);
        payload.extend_from_slice(&self.rest);
        (Unit { payload: payload.into(), ..unit.clone() }, first)
    }
}

/// A marker.
const OBJECT_HEAD: usize = 1;
/// A marker and a count.
const ARRAY_HEAD: usize = 5;

#[cfg(test)]
mod tests {
    use super::super::Kind;
    use super::*;

    fn unit(name: &str, value: &Value, rest: &[u8]) -> Unit {
        let mut payload = Vec::new();
        amf0::encode_string(name, &mut payload);
        value.encode(&mut payload);
        payload.extend_from_slice(rest);
        Unit { kind: Kind::Data, timestamp: 7, payload: payload.into() }
    }

    fn properties(keys: &[&str]) -> Properties {
        keys.iter()
            .zip(1..)
            .map(|(key, value)| ((*key).to_owned(), Value::Number(f64::from(value))))
            .collect()
    }

    #[test]
    fn a_stream_keeps_what_is_not_of_the_file() {
        let said = properties(&["Duration", "width", "filesize", "keyframes", "height", "lasttimestamp"]);
        let kept = vec![said[1].clone(), said[4].clone()];
        for kind in [Value::EcmaArray, Value::Object] {
            let found = of_stream(unit("onMetaData", &kind(said.clone()), b"\x05"));
            assert_eq!(found, unit("onMetaData", &kind(kept.clone()), b"\x05"));
            assert_eq!(of_stream(found.clone()), found);
        }
    }

    #[test]
    fn what_is_no_metadata_or_cannot_be_read_stays_as_it_is() {
        let said = Value::EcmaArray(properties(&["duration", "width"]));
        let whole = unit("onMetaData", &said, b"");
        let cut = Unit { payload: whole.payload.slice(..whole.payload.len() - 3), ..whole.clone() };
        let foreign = unit("onMetaData", &Value::Null, b"\x11");
        let picture = Unit { kind: Kind::Video, ..whole };
        for unit in [unit("onCuePoint", &said, b""), cut, foreign, picture] {
            assert_eq!(of_stream(unit.clone()), unit);
            assert_eq!(with_duration(&unit), None);
        }
    }

    #[test]
    fn a_files_duration_has_eight_bytes_that_can_be_written_over() {
        for kind in [Value::EcmaArray, Value::Object] {
            let said = kind(properties(&["width", "duration"]));
            let (with, at) = with_duration(&unit("onMetaData", &said, b"")).expect("metadata");
            let mut payload = with.payload.to_vec();
            payload[at..at + 8].copy_from_slice(&9.869_f64.to_be_bytes());
            let properties = vec![("duration".to_owned(), 9.869.into()), ("width".to_owned(), 1.0.into())];
            assert_eq!(payload, unit("onMetaData", &kind(properties), b"").payload);
        }
    }
}
