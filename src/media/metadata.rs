//! What `onMetaData` says of a file, and a stream has not got (FLV v10.1 §E.5).
//!
//! Who publishes a file sends the file's own metadata: its length, its size, where its keyframes lie. None of that is
//! true of the stream, which others join late and leave early, nor of a recording of it; players that believe it seek to
//! nowhere and stop too soon. Everything else is passed on.

use super::flv;
use super::unit::Unit;
use crate::rtmp::amf0::{self, Value};

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

/// The most properties that are looked through. Real metadata has some twenty, at most a few hundred; each costs sixteen
/// bytes here and may take three of the message, so that without a bound one of 8 MiB would cost five times as much.
const MAX_PROPERTIES: usize = 4096;

/// The unit as a live stream has it. What is no metadata, cannot be read, or has more properties than any real one stays
/// as it is.
#[must_use]
pub fn of_stream(unit: Unit) -> Unit {
    match Metadata::of(&unit).filter(|metadata| metadata.forgot) {
        Some(metadata) => Unit { payload: metadata.encode(&[]).into(), ..unit },
        None => unit,
    }
}

/// The metadata with a `duration` of 0, and where in the payload its eight bytes are: for a file that is to tell its
/// length once it is known. `None` for what is no metadata, cannot be read, has more properties than any real one, or
/// no room in a tag.
#[must_use]
pub fn with_duration(unit: &Unit) -> Option<(Unit, usize)> {
    let metadata = Metadata::of(unit)?;
    let duration = number_property(DURATION, 0.0);
    let at = metadata.head.len() + metadata.count_length() + duration.len() - size_of::<f64>();
    let payload = metadata.encode(&duration);
    (payload.len() <= flv::MAX_BODY).then(|| (Unit { payload: payload.into(), ..unit.clone() }, at))
}

/// A property that is a number, encoded.
pub(super) fn number_property(key: &str, number: f64) -> Vec<u8> {
    let mut property = (key.len() as u16).to_be_bytes().to_vec();
    property.extend_from_slice(key.as_bytes());
    Value::Number(number).encode(&mut property);
    property
}

/// Metadata, as the bytes that it is made of: what is kept of it is kept to the bit.
pub(super) struct Metadata<'a> {
    /// The name, and the marker of what follows.
    head: &'a [u8],
    /// An ECMA array, which has a count, and not an object.
    in_array: bool,
    /// Each property with its key.
    pub(super) kept: Vec<&'a [u8]>,
    /// Whether there was something of a file.
    forgot: bool,
    /// The end of the properties, and what follows.
    rest: &'a [u8],
}

impl<'a> Metadata<'a> {
    pub(super) fn of(unit: &'a Unit) -> Option<Self> {
        if !unit.is_metadata() {
            return None;
        }
        let (_, length) = amf0::leading_string(&unit.payload)?;
        let (head, mut rest) = unit.payload.split_at_checked(length + 1)?;
        let in_array = match head[length] {
            amf0::ECMA_ARRAY => true,
            amf0::OBJECT => false,
            _ => return None,
        };
        if in_array {
            rest = rest.get(size_of::<u32>()..)?;
        }
        let mut metadata = Self { head, in_array, kept: Vec::new(), forgot: false, rest };
        while !metadata.rest.starts_with(&amf0::END) {
            let (key, length) = amf0::key(metadata.rest)?;
            let length = length + amf0::value_length(metadata.rest.get(length..)?)?;
            let (property, rest) = metadata.rest.split_at_checked(length)?;
            metadata.rest = rest;
            if OF_A_FILE.iter().any(|known| known.as_bytes().eq_ignore_ascii_case(key)) {
                metadata.forgot = true;
            } else if metadata.kept.len() < MAX_PROPERTIES {
                metadata.kept.push(property);
            } else {
                return None;
            }
        }
        Some(metadata)
    }

    /// Which of the kept properties has this key, and its encoded value.
    pub(super) fn find(&self, key: &str) -> Option<(usize, &'a [u8])> {
        self.kept.iter().enumerate().find_map(|(at, property)| {
            let (found, length) = amf0::key(property)?;
            (found == key.as_bytes()).then(|| (at, &property[length..]))
        })
    }

    const fn count_length(&self) -> usize {
        if self.in_array { size_of::<u32>() } else { 0 }
    }

    /// The payload, with `more` (a property, or nothing) before what was kept.
    pub(super) fn encode(&self, more: &[u8]) -> Vec<u8> {
        let mut payload = self.head.to_vec();
        if self.in_array {
            let count = self.kept.len() + usize::from(!more.is_empty());
            payload.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_be_bytes());
        }
        payload.extend_from_slice(more);
        self.kept.iter().for_each(|property| payload.extend_from_slice(property));
        payload.extend_from_slice(self.rest);
        payload
    }
}

#[cfg(test)]
mod tests {
    use super::super::Kind;
    use super::*;
    use crate::rtmp::amf0::Properties;

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

    #[test]
    fn an_index_of_thousands_of_keyframes_is_left_out() {
        let times = Value::StrictArray((0..3000).map(|second| f64::from(second).into()).collect());
        let index = Value::object([("filepositions", times.clone()), ("times", times)]);
        let said = vec![("duration".to_owned(), 6000.0.into()), ("keyframes".to_owned(), index)];
        let width = properties(&["width"]);
        let whole = unit("onMetaData", &Value::EcmaArray([said, width.clone()].concat()), b"");
        assert_eq!(of_stream(whole), unit("onMetaData", &Value::EcmaArray(width), b""));
    }

    #[test]
    fn more_properties_than_any_real_metadata_has_are_passed_on_unread() {
        let said = |count| {
            let width = ("width".to_owned(), Value::Number(1.0));
            let mut said = vec![("duration".to_owned(), 6000.0.into())];
            said.resize(1 + count, width);
            unit("onMetaData", &Value::EcmaArray(said), b"")
        };
        let most = said(MAX_PROPERTIES);
        assert_ne!(of_stream(most.clone()), most);
        let more = said(MAX_PROPERTIES + 1);
        assert_eq!(of_stream(more.clone()), more);
        assert_eq!(with_duration(&more), None);
    }

    #[test]
    fn what_is_kept_is_kept_to_the_bit() {
        let mut said = unit("onMetaData", &Value::object([("duration", 1.0.into())]), b"").payload.to_vec();
        let odd = b"\0\x01\xff\x02\0\x02\x80\x80";
        said.splice(said.len() - 3..said.len() - 3, odd.iter().copied());
        let found = of_stream(Unit { kind: Kind::Data, timestamp: 0, payload: said.into() });
        assert!(found.payload.ends_with(b"\x03\0\x01\xff\x02\0\x02\x80\x80\0\0\x09"), "{:?}", found.payload);
    }

    #[test]
    fn metadata_that_has_no_room_for_its_length_is_written_as_it_is() {
        let long = Value::string(&"x".repeat(flv::MAX_BODY - 40));
        let unit = unit("onMetaData", &Value::object([("comment", long)]), b"");
        assert!(unit.payload.len() <= flv::MAX_BODY);
        assert_eq!(with_duration(&unit), None);
    }
}
