//! AMF0 values (Action Message Format 0, file format specification of 2007), bounded.
//!
//! Decoding works from a slice, never allocates from a count in it, and stops at [`MAX_DEPTH`] levels and
//! [`MAX_VALUES`] values. References, typed objects, XML and AMF3 do not occur in what this project speaks with
//! and are refused.

use std::fmt;

/// How deep values may nest. Real commands and metadata nest two or three deep; recursion must be bounded.
pub const MAX_DEPTH: usize = 16;

/// How many values one [`Decoder`] yields, nested ones included. A value of one byte on the wire takes some forty in
/// memory, so that this bounds a message's values to a few hundred kilobytes; real metadata has under fifty.
pub const MAX_VALUES: usize = 4096;

/// Key and value pairs in the order of the wire.
pub type Properties = Vec<(String, Value)>;

/// One AMF0 value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// An IEEE 754 double.
    Number(f64),
    /// A boolean.
    Boolean(bool),
    /// A string or long string. Bytes that are not UTF-8 decode to U+FFFD.
    String(String),
    /// An anonymous object.
    Object(Properties),
    /// An ECMA array: an object by another name.
    EcmaArray(Properties),
    /// An array by position.
    StrictArray(Vec<Self>),
    /// Null.
    Null,
    /// Undefined.
    Undefined,
    /// Milliseconds since 1970-01-01T00:00Z.
    Date(f64),
}

/// How many bytes the value at the beginning of `bytes` takes, of any number of values; `None` where it is cut,
/// has a type that is not supported, or nests deeper than [`MAX_DEPTH`].
#[must_use]
pub fn value_length(bytes: &[u8]) -> Option<usize> {
    skip(bytes, MAX_DEPTH).map(|rest| bytes.len() - rest.len())
}

fn skip(bytes: &[u8], depth: usize) -> Option<&[u8]> {
    let depth = depth.checked_sub(1)?;
    let (&marker, rest) = bytes.split_first()?;
    match marker {
        NUMBER => rest.get(8..),
        BOOLEAN => rest.get(1..),
        STRING => key(rest).map(|(_, length)| &rest[length..]),
        OBJECT => skip_properties(rest, depth),
        NULL | UNDEFINED => Some(rest),
        ECMA_ARRAY => skip_properties(rest.get(4..)?, depth),
        STRICT_ARRAY => {
            let (count, mut rest) = rest.split_first_chunk::<4>()?;
            // Each takes a byte at least, so a count that lies ends soon.
            for _ in 0..u32::from_be_bytes(*count) {
                rest = skip(rest, depth)?;
            }
            Some(rest)
        }
        DATE => rest.get(10..),
        LONG_STRING => {
            let (length, rest) = rest.split_first_chunk::<4>()?;
            rest.get(usize::try_from(u32::from_be_bytes(*length)).ok()?..)
        }
        _ => None,
    }
}

/// The key that `bytes` begin with, and the length of its encoding.
pub(crate) fn key(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    let key = rest.get(..usize::from(u16::from_be_bytes(*length)))?;
    Some((key, 2 + key.len()))
}

fn skip_properties(mut bytes: &[u8], depth: usize) -> Option<&[u8]> {
    loop {
        if let Some(rest) = bytes.strip_prefix(&END) {
            return Some(rest);
        }
        let (_, length) = key(bytes)?;
        bytes = skip(&bytes[length..], depth)?;
    }
}

impl Value {
    /// A string value.
    #[must_use]
    pub fn string(text: &str) -> Self {
        Self::String(text.to_owned())
    }

    /// An object of `properties`.
    #[must_use]
    pub fn object<const N: usize>(properties: [(&str, Self); N]) -> Self {
        Self::Object(properties.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    }

    /// The number, if it is one.
    #[must_use]
    pub const fn as_number(&self) -> Option<f64> {
        if let Self::Number(number) = self { Some(*number) } else { None }
    }

    /// The string, if it is one.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        if let Self::String(text) = self { Some(text) } else { None }
    }

    /// The property `key` of an object or ECMA array.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        let (Self::Object(properties) | Self::EcmaArray(properties)) = self else { return None };
        properties.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// Appends the value's encoding to `out`. Keys are cut to the 65,535 bytes that their length field can tell.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Number(number) => {
                out.push(NUMBER);
                out.extend_from_slice(&number.to_be_bytes());
            }
            Self::Boolean(truth) => out.extend_from_slice(&[BOOLEAN, u8::from(*truth)]),
            Self::String(text) => encode_string(text, out),
            Self::Object(properties) => {
                out.push(OBJECT);
                encode_properties(properties, out);
            }
            Self::EcmaArray(properties) => {
                out.push(ECMA_ARRAY);
                out.extend_from_slice(&count(properties.len()));
                encode_properties(properties, out);
            }
            Self::StrictArray(values) => {
                out.push(STRICT_ARRAY);
                out.extend_from_slice(&count(values.len()));
                values.iter().for_each(|value| value.encode(out));
            }
            Self::Null => out.push(NULL),
            Self::Undefined => out.push(UNDEFINED),
            Self::Date(milliseconds) => {
                out.push(DATE);
                out.extend_from_slice(&milliseconds.to_be_bytes());
                out.extend_from_slice(&[0, 0]);
            }
        }
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::string(text)
    }
}

impl From<bool> for Value {
    fn from(truth: bool) -> Self {
        Self::Boolean(truth)
    }
}

/// Appends `text` as an AMF0 string, or long string where it must be.
pub fn encode_string(text: &str, out: &mut Vec<u8>) {
    if let Ok(length) = u16::try_from(text.len()) {
        out.push(STRING);
        out.extend_from_slice(&length.to_be_bytes());
    } else {
        out.push(LONG_STRING);
        out.extend_from_slice(&count(text.len()));
    }
    out.extend_from_slice(text.as_bytes());
}

/// The AMF0 string that `payload` begins with and the length of its encoding, without decoding what follows.
#[must_use]
pub fn leading_string(payload: &[u8]) -> Option<(&[u8], usize)> {
    let (&[marker, high, low], rest) = payload.split_first_chunk::<3>()?;
    let length = usize::from(u16::from_be_bytes([high, low]));
    (marker == STRING).then(|| rest.get(..length)).flatten().map(|text| (text, 3 + length))
}

/// Yields the values that follow one another in a message.
#[derive(Clone, Debug)]
pub struct Decoder<'a> {
    input: &'a [u8],
    values_left: usize,
}

impl<'a> Decoder<'a> {
    /// A decoder of `input`.
    #[must_use]
    pub const fn new(input: &'a [u8]) -> Self {
        Self { input, values_left: MAX_VALUES }
    }

    /// The next value, or `None` at the end.
    ///
    /// # Errors
    /// If the bytes are cut short, name an unknown type, or exceed a limit.
    pub fn value(&mut self) -> Result<Option<Value>, Error> {
        if self.input.is_empty() {
            return Ok(None);
        }
        self.nested(0).map(Some)
    }

    fn nested(&mut self, depth: usize) -> Result<Value, Error> {
        if depth >= MAX_DEPTH {
            return Err(Error::TooDeep);
        }
        self.values_left = self.values_left.checked_sub(1).ok_or(Error::TooMany)?;
        let [marker] = self.array()?;
        Ok(match marker {
            NUMBER => Value::Number(f64::from_be_bytes(self.array()?)),
            BOOLEAN => Value::Boolean(self.array::<1>()? != [0]),
            STRING => Value::String(self.short_string()?),
            LONG_STRING => {
                let length = u32::from_be_bytes(self.array()?);
                Value::String(self.text(length as usize)?)
            }
            OBJECT => Value::Object(self.properties(depth)?),
            ECMA_ARRAY => {
                // The count is a hint that some writers leave at zero; the end marker rules.
                self.array::<4>()?;
                Value::EcmaArray(self.properties(depth)?)
            }
            STRICT_ARRAY => {
                let length = u32::from_be_bytes(self.array()?);
                // Every value takes a byte or more, so a longer array than this cannot be complete.
                if length as usize > self.input.len() {
                    return Err(Error::CutShort);
                }
                let mut values = Vec::new();
                for _ in 0..length {
                    values.push(self.nested(depth + 1)?);
                }
                Value::StrictArray(values)
            }
            NULL => Value::Null,
            UNDEFINED => Value::Undefined,
            DATE => {
                let milliseconds = f64::from_be_bytes(self.array()?);
                // The time zone is reserved and must be ignored.
                self.array::<2>()?;
                Value::Date(milliseconds)
            }
            unknown => return Err(Error::UnknownType(unknown)),
        })
    }

    fn properties(&mut self, depth: usize) -> Result<Properties, Error> {
        let mut properties = Vec::new();
        loop {
            let key = self.short_string()?;
            if key.is_empty() && self.input.first() == Some(&OBJECT_END) {
                self.array::<1>()?;
                return Ok(properties);
            }
            properties.push((key, self.nested(depth + 1)?));
        }
    }

    fn short_string(&mut self) -> Result<String, Error> {
        let length = u16::from_be_bytes(self.array()?);
        self.text(usize::from(length))
    }

    fn text(&mut self, length: usize) -> Result<String, Error> {
        let (text, rest) = self.input.split_at_checked(length).ok_or(Error::CutShort)?;
        self.input = rest;
        Ok(String::from_utf8_lossy(text).into_owned())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (array, rest) = self.input.split_first_chunk().ok_or(Error::CutShort)?;
        self.input = rest;
        Ok(*array)
    }
}

/// Why bytes are not AMF0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The value does not end within the message.
    CutShort,
    /// A type marker that is not supported.
    UnknownType(u8),
    /// Nested deeper than [`MAX_DEPTH`].
    TooDeep,
    /// More values than [`MAX_VALUES`].
    TooMany,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CutShort => f.write_str("amf0 value cut short"),
            Self::UnknownType(marker) => write!(f, "unsupported amf0 type {marker}"),
            Self::TooDeep => f.write_str("amf0 values nested too deep"),
            Self::TooMany => f.write_str("too many amf0 values"),
        }
    }
}

impl std::error::Error for Error {}

fn encode_properties(properties: &[(String, Value)], out: &mut Vec<u8>) {
    for (key, value) in properties {
        let key = &key[..key.floor_char_boundary(usize::from(u16::MAX))];
        // An empty key before an object end would close the object early; no real property is nameless.
        out.extend_from_slice(&u16::try_from(key.len()).unwrap_or(u16::MAX).to_be_bytes());
        out.extend_from_slice(key.as_bytes());
        value.encode(out);
    }
    out.extend_from_slice(&[0, 0, OBJECT_END]);
}

/// A count or length as four bytes. Nothing here approaches 4 GiB, messages being bounded far below.
fn count(length: usize) -> [u8; 4] {
    u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes()
}

const NUMBER: u8 = 0;
const BOOLEAN: u8 = 1;
const STRING: u8 = 2;
pub(crate) const OBJECT: u8 = 3;
const NULL: u8 = 5;
const UNDEFINED: u8 = 6;
pub(crate) const ECMA_ARRAY: u8 = 8;
const OBJECT_END: u8 = 9;
/// What follows the last property.
pub(crate) const END: [u8; 3] = [0, 0, OBJECT_END];
const STRICT_ARRAY: u8 = 10;
const DATE: u8 = 11;
const LONG_STRING: u8 = 12;

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(bytes: &[u8]) -> Result<Value, Error> {
        Decoder::new(bytes).value().map(|value| value.expect("a value"))
    }

    #[test]
    fn every_type_survives_a_round_trip() {
        let value = Value::Object(vec![
            ("number".into(), Value::Number(-1.5)),
            ("true".into(), Value::Boolean(true)),
            ("text".into(), Value::string("größe")),
            ("long".into(), Value::String("x".repeat(70_000))),
            ("nested".into(), Value::object([("null", Value::Null), ("undefined", Value::Undefined)])),
            ("ecma".into(), Value::EcmaArray(vec![("duration".into(), Value::Number(0.0))])),
            ("strict".into(), Value::StrictArray(vec![Value::Number(1.0), Value::string("two")])),
            ("date".into(), Value::Date(1e12)),
        ]);
        let mut bytes = Vec::new();
        value.encode(&mut bytes);
        assert_eq!(decode(&bytes), Ok(value));
    }

    #[test]
    fn bytes_are_those_of_the_specification() {
        let mut bytes = Vec::new();
        Value::object([("app", Value::string("live"))]).encode(&mut bytes);
        assert_eq!(bytes, b"\x03\x00\x03app\x02\x00\x04live\x00\x00\x09");
        bytes.clear();
        Value::Number(1.0).encode(&mut bytes);
        assert_eq!(bytes, [0, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn every_cut_is_an_error_and_never_a_panic() {
        let value = Value::object([
            ("a", Value::StrictArray(vec![Value::Date(1.0), Value::EcmaArray(vec![])])),
            ("b", Value::string("text")),
        ]);
        let mut bytes = Vec::new();
        value.encode(&mut bytes);
        for cut in 1..bytes.len() {
            assert_eq!(decode(&bytes[..cut]), Err(Error::CutShort), "cut at {cut}");
        }
    }

    #[test]
    fn a_claimed_count_allocates_nothing() {
        assert_eq!(decode(&[STRICT_ARRAY, 0xff, 0xff, 0xff, 0xff, NULL]), Err(Error::CutShort));
        assert_eq!(decode(&[LONG_STRING, 0xff, 0xff, 0xff, 0xff, b'x']), Err(Error::CutShort));
    }

    #[test]
    fn nesting_and_numbers_of_values_are_bounded() {
        let deep: Vec<u8> = [STRICT_ARRAY, 0, 0, 0, 1].repeat(100_000);
        assert_eq!(decode(&deep), Err(Error::TooDeep));
        let deep: Vec<u8> = [OBJECT, 0, 1, b'k'].repeat(100_000);
        assert_eq!(decode(&deep), Err(Error::TooDeep));
        let mut wide = vec![STRICT_ARRAY, 0, 1, 0, 0];
        wide.resize(5 + 65_536, NULL);
        assert_eq!(decode(&wide), Err(Error::TooMany));
        let mut decoder = Decoder::new(&[NULL; MAX_VALUES + 1]);
        for _ in 0..MAX_VALUES {
            assert_eq!(decoder.value(), Ok(Some(Value::Null)));
        }
        assert_eq!(decoder.value(), Err(Error::TooMany));
    }

    #[test]
    fn unsupported_types_are_named() {
        for marker in [4, 7, 13, 14, 15, 16, 17, 255] {
            assert_eq!(decode(&[marker, 0, 0, 0]), Err(Error::UnknownType(marker)));
        }
    }

    #[test]
    fn a_leading_string_is_found_without_decoding_the_rest() {
        assert_eq!(leading_string(b"\x02\x00\x02ab\xff"), Some((&b"ab"[..], 5)));
        assert_eq!(leading_string(b"\x02\x00\x03ab"), None);
        assert_eq!(leading_string(b"\x05\x00\x00"), None);
        assert_eq!(leading_string(b"\x02"), None);
    }
}
