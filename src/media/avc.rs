//! The little of H.264 that carrying it needs: splitting, wrapping, and our own stamp on each frame.
//!
//! An encoder speaks in Annex B byte streams (ITU-T H.264); FLV and RTMP carry NAL units behind their lengths and
//! keep the parameter sets apart, in an `AVCDecoderConfigurationRecord` (ISO/IEC 14496-15 §5.2.4.1). This module
//! goes between the two, and knows nothing of what the slices mean.
//!
//! # The stamp
//!
//! Each frame that Punchcast encodes says its number and when it was captured, in an SEI message of unregistered
//! user data (ITU-T H.264 §D.1.6), so that any station on the way can measure age and find gaps without decoding:
//!
//! ```text
//!  nal_unit_header  payloadType  payloadSize  uuid          frame    wall clock  rbsp_trailing_bits
//!  06               05           20 (32)      16 bytes      8 bytes  8 bytes     80
//! ```

use super::coding::{Name, body};
use super::{Content, Kind, Unit};
use bytes::{BufMut, Bytes, BytesMut};
use std::fmt;

/// The most NAL units of one access unit that are looked at. A picture cut into one slice per macroblock row has 68
/// at 1080p.
pub const MAX_NALS: usize = 256;

/// The longest parameter set, in bytes; its length has 16 bits in the configuration record, and real ones have
/// below 100.
pub const MAX_PARAMETER_SET: usize = 4096;

/// Names our stamp among user data; drawn at random once and for all.
const STAMP_UUID: [u8; 16] =
    [0x7b, 0x1d, 0xc6, 0x52, 0x93, 0x0e, 0x4f, 0xa8, 0xb4, 0x6e, 0x2a, 0x58, 0xd1, 0x97, 0x3c, 0x85];

/// UUID, frame number, capture time.
const STAMP_SIZE: usize = 16 + 8 + 8;

/// The longest SEI NAL unit searched for a stamp. Ours has 38 bytes and a few of emulation prevention, but x264 puts
/// its settings (some 700 bytes) into one of its own.
const MAX_SEI: usize = 4096;

/// NAL unit types (ITU-T H.264 table 7-1).
mod nal {
    pub(super) const SLICE: u8 = 1;
    pub(super) const IDR: u8 = 5;
    pub(super) const SEI: u8 = 6;
    pub(super) const SPS: u8 = 7;
    pub(super) const PPS: u8 = 8;
}

/// Why bytes are not the H.264 that they claim to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AvcError {
    /// The configuration record ends early.
    Truncated,
    /// The configuration record has a version other than 1.
    Version(u8),
    /// A parameter set is empty or exceeds [`MAX_PARAMETER_SET`]; its size.
    ParameterSet(usize),
    /// There is no sequence or no picture parameter set.
    Missing,
    /// A NAL unit's length points beyond the access unit, or there are more than [`MAX_NALS`].
    Nal,
}

impl fmt::Display for AvcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("the AVC configuration ends early"),
            Self::Version(version) => write!(f, "AVC configuration version {version} is unknown"),
            Self::ParameterSet(size) => write!(f, "an AVC parameter set cannot have {size} bytes"),
            Self::Missing => f.write_str("the AVC configuration lacks a parameter set"),
            Self::Nal => f.write_str("the NAL units do not fit their access unit"),
        }
    }
}

impl std::error::Error for AvcError {}

/// What a decoder must know before the first picture: an `AVCDecoderConfigurationRecord`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Bytes of the length before each NAL unit: 1, 2, 3 or 4.
    pub length_size: u8,
    /// Sequence parameter sets, at least one, at most 31.
    pub sps: Vec<Bytes>,
    /// Picture parameter sets, at least one, at most 255.
    pub pps: Vec<Bytes>,
}

impl Config {
    /// The configuration that an encoder's parameter sets make, with lengths of 4 bytes.
    ///
    /// # Errors
    /// [`AvcError::ParameterSet`] when one is shorter than what the record quotes of it, or too long.
    pub fn new(sps: &[u8], pps: &[u8]) -> Result<Self, AvcError> {
        if !(4..=MAX_PARAMETER_SET).contains(&sps.len()) {
            return Err(AvcError::ParameterSet(sps.len()));
        }
        if !(1..=MAX_PARAMETER_SET).contains(&pps.len()) {
            return Err(AvcError::ParameterSet(pps.len()));
        }
        Ok(Self {
            length_size: 4,
            sps: vec![Bytes::copy_from_slice(sps)],
            pps: vec![Bytes::copy_from_slice(pps)],
        })
    }

    /// Reads a record. What follows the parameter sets (chroma format and depth of the High profiles) repeats what
    /// they say and is passed over.
    ///
    /// # Errors
    /// [`AvcError`] when the record is malformed.
    pub fn parse(record: &[u8]) -> Result<Self, AvcError> {
        let (fixed, mut rest) = record.split_first_chunk::<6>().ok_or(AvcError::Truncated)?;
        let [version, _profile, _compatibility, _level, lengths, sps_count] = *fixed;
        if version != 1 {
            return Err(AvcError::Version(version));
        }
        let sps = parameter_sets(&mut rest, sps_count & 0x1f, 4)?;
        let (&pps_count, mut rest) = rest.split_first().ok_or(AvcError::Truncated)?;
        let pps = parameter_sets(&mut rest, pps_count, 1)?;
        if sps.is_empty() || pps.is_empty() {
            return Err(AvcError::Missing);
        }
        Ok(Self { length_size: (lengths & 3) + 1, sps, pps })
    }

    /// The configuration in an AVC sequence header; `None` for any other unit.
    #[must_use]
    pub fn of(unit: &Unit) -> Option<Result<Self, AvcError>> {
        avc_body(unit, Content::SequenceStart).map(Self::parse)
    }

    /// The record's bytes. The High profiles' extension is that of 8-bit 4:2:0, which is all that we encode.
    #[must_use]
    pub fn build(&self) -> Vec<u8> {
        let [profile, compatibility, level] = self.profile();
        let mut record =
            vec![1, profile, compatibility, level, 0xfc | (self.length_size.wrapping_sub(1) & 3)];
        record.push(0xe0 | self.sps.len().min(31) as u8);
        append_sets(&mut record, self.sps.iter().take(31));
        record.push(self.pps.len().min(255) as u8);
        append_sets(&mut record, self.pps.iter().take(255));
        if matches!(profile, 100 | 110 | 122 | 144) {
            record.extend_from_slice(&[0xfd, 0xf8, 0xf8, 0]);
        }
        record
    }

    /// The name of the stream's format as browsers want it (RFC 6381 §3.3), such as `avc1.42C01F`.
    #[must_use]
    pub fn codec(&self) -> String {
        let [profile, compatibility, level] = self.profile();
        format!("avc1.{profile:02X}{compatibility:02X}{level:02X}")
    }

    /// `profile_idc`, the constraint flags and `level_idc`, which are an SPS's first bytes after its header.
    fn profile(&self) -> [u8; 3] {
        match self.sps.first().map(|sps| &sps[..]) {
            Some([_, profile, compatibility, level, ..]) => [*profile, *compatibility, *level],
            _ => [66, 0xc0, 31],
        }
    }
}

fn parameter_sets(rest: &mut &[u8], count: u8, shortest: usize) -> Result<Vec<Bytes>, AvcError> {
    let mut sets = Vec::new();
    for _ in 0..count {
        let (&length, tail) = rest.split_first_chunk::<2>().ok_or(AvcError::Truncated)?;
        let length = usize::from(u16::from_be_bytes(length));
        if !(shortest..=MAX_PARAMETER_SET).contains(&length) {
            return Err(AvcError::ParameterSet(length));
        }
        let (set, tail) = tail.split_at_checked(length).ok_or(AvcError::Truncated)?;
        sets.push(Bytes::copy_from_slice(set));
        *rest = tail;
    }
    Ok(sets)
}

fn append_sets<'a>(record: &mut Vec<u8>, sets: impl Iterator<Item = &'a Bytes>) {
    for set in sets {
        let set = &set[..set.len().min(MAX_PARAMETER_SET)];
        record.extend_from_slice(&(set.len() as u16).to_be_bytes());
        record.extend_from_slice(set);
    }
}

/// The NAL units of an Annex B byte stream, without start codes and trailing zeros.
pub fn split_annex_b(stream: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = after_start_code(stream);
    std::iter::from_fn(move || {
        let begin = rest?;
        let end = start_code(begin).unwrap_or(begin.len());
        rest = after_start_code(&begin[end..]);
        let used = begin[..end].iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        Some(&begin[..used])
    })
    .filter(|unit| !unit.is_empty())
}

fn start_code(bytes: &[u8]) -> Option<usize> {
    // A start code's 1 follows two zeros, so only every byte above 1 excludes three places at once.
    let mut at = 2;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            0 => at += 1,
            1 if bytes[at - 1] == 0 && bytes[at - 2] == 0 => return Some(at - 2),
            _ => at += 3,
        }
    }
    None
}

fn after_start_code(bytes: &[u8]) -> Option<&[u8]> {
    start_code(bytes).map(|at| &bytes[at + 3..])
}

/// What a NAL unit from an encoder is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NalKind {
    /// A sequence parameter set.
    Sps,
    /// A picture parameter set.
    Pps,
    /// A slice of a picture that a decoder can begin with.
    Idr,
    /// Any other; it belongs to the picture.
    Other,
}

/// What a NAL unit (without start code) is for.
#[must_use]
pub fn nal_kind(unit: &[u8]) -> NalKind {
    match unit.first().map(|header| header & 0x1f) {
        Some(nal::SPS) => NalKind::Sps,
        Some(nal::PPS) => NalKind::Pps,
        Some(nal::IDR) => NalKind::Idr,
        _ => NalKind::Other,
    }
}

/// The unit that configures a decoder (`AVCPacketType` 0).
#[must_use]
pub fn sequence_header(timestamp: u32, config: &Config) -> Unit {
    let mut payload = vec![0x17, 0, 0, 0, 0];
    payload.extend_from_slice(&config.build());
    Unit { kind: Kind::Video, timestamp, payload: payload.into() }
}

/// The unit that carries one picture (`AVCPacketType` 1), with lengths of 4 bytes and composition time 0: it is shown
/// in the order in which it is sent.
#[must_use]
pub fn picture(timestamp: u32, keyframe: bool, nals: &[&[u8]]) -> Unit {
    let size: usize = nals.iter().map(|unit| 4 + unit.len()).sum();
    let mut payload = BytesMut::with_capacity(5 + size);
    payload.put_slice(&[if keyframe { 0x17 } else { 0x27 }, 1, 0, 0, 0]);
    for unit in nals {
        payload.put_u32(unit.len() as u32);
        payload.put_slice(unit);
    }
    Unit { kind: Kind::Video, timestamp, payload: payload.freeze() }
}

/// `picture` with `config`'s parameter sets before it, as a decoder finds them that has read another configuration: some
/// (ffmpeg's parser among them) take up a second sequence header late or never. The unit itself where it is no AVC.
#[must_use]
pub fn with_parameter_sets(picture: &Unit, config: &Config) -> Unit {
    let Some(body) = picture_body(picture) else { return picture.clone() };
    let head = picture.payload.len() - body.len();
    let mut payload = BytesMut::from(&picture.payload[..head]);
    for set in config.sps.iter().chain(&config.pps) {
        let length = (set.len() as u32).to_be_bytes();
        let (high, low) = length.split_at(4 - usize::from(config.length_size.clamp(1, 4)));
        if high.iter().any(|byte| *byte != 0) {
            return picture.clone();
        }
        payload.put_slice(low);
        payload.put_slice(set);
    }
    payload.put_slice(body);
    Unit { payload: payload.freeze(), ..*picture }
}

/// Whether this unit carries a picture: AVC, neither a sequence header nor the end of a sequence.
#[must_use]
pub fn is_picture(unit: &Unit) -> bool {
    picture_body(unit).is_some()
}

/// The NAL units of a picture, whose lengths have `length_size` bytes; none for any other unit.
///
/// # Errors
/// [`AvcError::Nal`] when the lengths do not add up.
pub fn nal_units(unit: &Unit, length_size: u8) -> Result<Vec<&[u8]>, AvcError> {
    let mut nals = Vec::new();
    let Some(mut rest) = picture_body(unit) else { return Ok(nals) };
    while !rest.is_empty() {
        let (nal, tail) = next_nal(rest, length_size).ok_or(AvcError::Nal)?;
        if nals.len() == MAX_NALS {
            return Err(AvcError::Nal);
        }
        if !nal.is_empty() {
            nals.push(nal);
        }
        rest = tail;
    }
    Ok(nals)
}

fn picture_body(unit: &Unit) -> Option<&[u8]> {
    avc_body(unit, Content::Frames)
}

/// What follows the header of an AVC unit that holds such content, as FLV v10.1 has it (`CodecID` 7) or as Enhanced RTMP does
/// (FourCC `avc1`).
fn avc_body(unit: &Unit, wanted: Content) -> Option<&[u8]> {
    let (name, rest) = body(unit, wanted)?;
    (name == Name::Avc).then_some(rest)
}

pub(super) fn next_nal(bytes: &[u8], length_size: u8) -> Option<(&[u8], &[u8])> {
    let (length, tail) = bytes.split_at_checked(usize::from(length_size.clamp(1, 4)))?;
    let length = length.iter().fold(0usize, |sum, &byte| sum << 8 | usize::from(byte));
    tail.split_at_checked(length)
}

/// What Punchcast's encoders write on each frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Counts captured frames from zero. A gap is a frame that was captured and did not arrive, or was not encoded.
    pub frame: u64,
    /// When the frame was captured: microseconds since the Unix epoch by the caster's clock.
    pub wall_us: u64,
}

impl Stamp {
    /// The SEI NAL unit that carries the stamp; it goes before the picture's slices.
    #[must_use]
    pub fn sei(self) -> Vec<u8> {
        let mut nal = vec![nal::SEI];
        let mut message = vec![5, STAMP_SIZE as u8];
        message.extend_from_slice(&STAMP_UUID);
        message.extend_from_slice(&self.frame.to_be_bytes());
        message.extend_from_slice(&self.wall_us.to_be_bytes());
        message.push(0x80);
        escape(&message, &mut nal);
        nal
    }

    fn parse(payload: &[u8]) -> Option<Self> {
        let (uuid, rest) = payload.split_first_chunk::<16>()?;
        let (frame, rest) = rest.split_first_chunk::<8>()?;
        let wall_us = rest.first_chunk::<8>()?;
        (*uuid == STAMP_UUID)
            .then(|| Self { frame: u64::from_be_bytes(*frame), wall_us: u64::from_be_bytes(*wall_us) })
    }
}

/// The stamp of a picture that a Punchcast encoder made; `None` for any other unit.
///
/// Looks only at what stands before the first slice, so that it costs nothing on a large frame.
#[must_use]
pub fn stamp(unit: &Unit) -> Option<Stamp> {
    let mut rest = picture_body(unit)?;
    for _ in 0..MAX_NALS {
        let (unit, tail) = next_nal(rest, 4)?;
        rest = tail;
        let Some((header, body)) = unit.split_first() else { continue };
        match header & 0x1f {
            nal::SEI => {
                if let Some(stamp) = stamp_of_sei(&unescape(&body[..body.len().min(MAX_SEI)])) {
                    return Some(stamp);
                }
            }
            nal::SLICE..=nal::IDR => return None,
            _ => {}
        }
    }
    None
}

/// Searches the messages of an SEI payload (ITU-T H.264 §7.3.2.3.1).
fn stamp_of_sei(mut rest: &[u8]) -> Option<Stamp> {
    // The shortest message has two bytes; what is shorter is the trailing bits.
    while rest.len() > 2 {
        let (kind, tail) = sei_number(rest)?;
        let (size, tail) = sei_number(tail)?;
        let (payload, tail) = tail.split_at_checked(size)?;
        if kind == 5
            && let Some(stamp) = Stamp::parse(payload)
        {
            return Some(stamp);
        }
        rest = tail;
    }
    None
}

/// A number written as any count of bytes 255 and one below it.
fn sei_number(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let full = bytes.iter().position(|&byte| byte != 0xff)?;
    Some((full * 255 + usize::from(bytes[full]), &bytes[full + 1..]))
}

/// Emulation prevention (ITU-T H.264 §7.4.1.1): no start code may appear within a NAL unit.
fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    let mut zeros = 0;
    for &byte in bytes {
        if zeros == 2 && byte <= 3 {
            out.push(3);
            zeros = 0;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        out.push(byte);
    }
}

fn unescape(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut zeros = 0;
    for &byte in bytes {
        if zeros == 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        out.push(byte);
    }
    out
}
