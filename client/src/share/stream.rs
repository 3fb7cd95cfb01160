//! What the page sends, made units of the cast.
//!
//! Each binary message holds one packet. Integers are big-endian.
//!
//! ```text
//!  0        1        2                 4                          8                          12
//!  +--------+--------+-----------------+--------------------------+--------------------------+---
//!  |  kind  | flags  |       age       |  time, ms modulo 2^32    |  frame number            |
//!  |   u8   |   u8   |       u16       |  u32                     |  u32                     |
//!  +--------+--------+-----------------+--------------------------+--------------------------+---
//!  12                                                      20
//!  +--------------------------------------------------------+------------------------------------
//!  |  captured at, µs since the Unix epoch, u64              | payload
//!  +--------------------------------------------------------+------------------------------------
//!
//!  kind  payload
//!  1     width u16, height u16, AVCDecoderConfigurationRecord (ISO/IEC 14496-15 §5.3.3.1)
//!  2     one access unit, NAL units behind lengths of 4 bytes; bit 0 of `flags`: a key frame
//!  3     an Opus identification header (RFC 7845 §5.1)
//!  4     one Opus packet (RFC 6716)
//! ```
//!
//! Frame number, capture time and age mean something for pictures only. The age, in tenths of a millisecond, is what
//! passed between the browser's giving the page the frame and the page's sending it; unlike the capture time it needs no
//! clock in common, and more than 6.5 s is told as that. What is malformed is refused; what comes too
//! early to be decoded (before its configuration, or before the first key frame) is left out.

use crate::source::metadata::VideoMetadata;
use bytes::{BufMut, Bytes, BytesMut};
use punchcast::media::avc::{self, AvcError, NalKind, Stamp};
use punchcast::media::{Kind, Unit};
use std::fmt;
use std::time::Duration;

/// The length of the header before the payload.
pub(super) const HEADER: usize = 20;

/// The longest picture: a key frame of noise at 3840x2160 has below 3 MB, and RTMP carries 8 MiB.
pub(super) const MAX_PICTURE: usize = 4 << 20;

/// The longest configuration of a decoder; those in use have below 100 bytes.
const MAX_CONFIG: usize = 4 * 1024;

/// The longest Opus packet: 20 ms at the codec's highest rate of 510 kbit/s, of both channels, have 1275 bytes; a browser
/// may choose longer frames.
const MAX_SOUND: usize = 8 * 1024;

/// The largest picture that the stream's codec can say: H.264 level 6.2 has edges of 16,888 at most, and what is
/// wider than 8192 no browser encodes.
const MAX_EDGE: u16 = 8192;

/// Why a message is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Malformed {
    /// Shorter than its header and one byte of payload.
    Short,
    /// Reserved bits are set.
    Reserved,
    /// No such kind.
    Kind(u8),
    /// The payload is longer than its kind may be.
    Long(usize),
    /// A size that no picture has.
    Size(u16, u16),
    /// H.264 that is none.
    Avc(AvcError),
    /// The lengths of NAL units have another size than 4 bytes.
    LengthSize,
    /// An Opus header that is none, or of more than two channels.
    Opus,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short => f.write_str("the message is cut short"),
            Self::Reserved => f.write_str("reserved bits are set"),
            Self::Kind(kind) => write!(f, "messages of kind {kind} are unknown"),
            Self::Long(size) => write!(f, "a payload of {size} bytes is too long"),
            Self::Size(width, height) => write!(f, "no picture has {width}x{height} pixels"),
            Self::Avc(error) => error.fmt(f),
            Self::LengthSize => f.write_str("NAL units have lengths of another size than 4 bytes"),
            Self::Opus => f.write_str("the Opus header is malformed"),
        }
    }
}

impl std::error::Error for Malformed {}

impl From<AvcError> for Malformed {
    fn from(error: AvcError) -> Self {
        Self::Avc(error)
    }
}

/// Follows one stream of a page, from its start on.
#[derive(Debug, Default)]
pub(super) struct Stream {
    pictures: Pictures,
    sound: bool,
}

/// How far the pictures have come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Pictures {
    /// No decoder could be made for them.
    #[default]
    Unknown,
    /// A decoder can be made, and waits for a key frame.
    Configured,
    /// Each can be decoded.
    Running,
}

/// The header of a message.
#[derive(Clone, Copy)]
struct Head {
    key: bool,
    timestamp: u32,
    stamp: Stamp,
}

impl Stream {
    /// A stream that begins.
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// The units of one message, none to two. `aim` is what the page's encoder was asked for, for players.
    ///
    /// # Errors
    /// [`Malformed`]: no page of ours sends that.
    pub(super) fn take(&mut self, message: &[u8], aim: super::Encoding) -> Result<Vec<Unit>, Malformed> {
        let (kind, head, payload) = split(message)?;
        match kind {
            1 => self.configure(head, payload, aim),
            2 => self.picture(head, payload),
            3 => {
                let unit = opus_header(head.timestamp, payload)?;
                self.sound = true;
                Ok(vec![unit])
            }
            4 => {
                limit(payload, MAX_SOUND)?;
                Ok(if self.sound { vec![opus_packet(head.timestamp, payload)] } else { Vec::new() })
            }
            other => Err(Malformed::Kind(other)),
        }
    }

    fn configure(
        &mut self,
        head: Head,
        payload: &[u8],
        aim: super::Encoding,
    ) -> Result<Vec<Unit>, Malformed> {
        limit(payload, MAX_CONFIG)?;
        let (&[a, b, c, d], record) = payload.split_first_chunk::<4>().ok_or(Malformed::Short)?;
        let (width, height) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        if !(1..=MAX_EDGE).contains(&width) || !(1..=MAX_EDGE).contains(&height) {
            return Err(Malformed::Size(width, height));
        }
        let config = avc::Config::parse(record)?;
        if config.length_size != 4 {
            return Err(Malformed::LengthSize);
        }
        self.pictures = Pictures::Configured;
        let metadata =
            VideoMetadata { width: width.into(), height: height.into(), fps: aim.fps, bitrate: aim.bitrate };
        let metadata = Unit { timestamp: head.timestamp, ..metadata.unit() };
        Ok(vec![metadata, avc::sequence_header(head.timestamp, &config)])
    }

    fn picture(&mut self, head: Head, payload: &[u8]) -> Result<Vec<Unit>, Malformed> {
        limit(payload, MAX_PICTURE)?;
        let bare = Unit {
            kind: Kind::Video,
            timestamp: head.timestamp,
            payload: [&[0x27, 1, 0, 0, 0], payload].concat().into(),
        };
        let mut nals = avc::nal_units(&bare, 4)?;
        let Some(slice) = nals.iter().position(|nal| is_slice(nal)) else { return Ok(Vec::new()) };
        // A key frame is what both the encoder and its bytes call one.
        let key = head.key && nals.iter().any(|nal| avc::nal_kind(nal) == NalKind::Idr);
        match self.pictures {
            Pictures::Running => {}
            Pictures::Configured if key => self.pictures = Pictures::Running,
            Pictures::Configured | Pictures::Unknown => return Ok(Vec::new()),
        }
        let sei = head.stamp.sei();
        nals.insert(slice, &sei);
        Ok(vec![avc::picture(head.timestamp, key, &nals)])
    }
}

fn split(message: &[u8]) -> Result<(u8, Head, &[u8]), Malformed> {
    let (header, payload) = message.split_first_chunk::<HEADER>().ok_or(Malformed::Short)?;
    let [kind, flags, _, _, t0, t1, t2, t3, f0, f1, f2, f3, captured @ ..] = *header;
    if flags & !1 != 0 {
        return Err(Malformed::Reserved);
    }
    if payload.is_empty() {
        return Err(Malformed::Short);
    }
    let stamp =
        Stamp { frame: u32::from_be_bytes([f0, f1, f2, f3]).into(), wall_us: u64::from_be_bytes(captured) };
    Ok((kind, Head { key: flags & 1 != 0, timestamp: u32::from_be_bytes([t0, t1, t2, t3]), stamp }, payload))
}

/// How old the picture of a message was when the page sent it.
pub(super) fn age(message: &[u8]) -> Duration {
    let tenths = message.get(2..4).map_or(0, |bytes| u16::from_be_bytes([bytes[0], bytes[1]]));
    Duration::from_micros(u64::from(tenths) * 100)
}

fn limit(payload: &[u8], most: usize) -> Result<(), Malformed> {
    if payload.len() > most { Err(Malformed::Long(payload.len())) } else { Ok(()) }
}

/// Whether a NAL unit holds a part of a picture (ITU-T H.264 table 7-1).
fn is_slice(nal: &[u8]) -> bool {
    nal.first().is_some_and(|header| (1..=5).contains(&(header & 0x1f)))
}

/// The sequence start of Enhanced RTMP v2 for Opus, whose body is the identification header.
fn opus_header(timestamp: u32, header: &[u8]) -> Result<Unit, Malformed> {
    // "OpusHead", version, channels, pre-skip (2), rate (4), gain (2), mapping family (RFC 7845 §5.1). Family 0 has
    // one or two channels and no table behind it.
    match header {
        [b'O', b'p', b'u', b's', b'H', b'e', b'a', b'd', version, 1 | 2, rest @ ..]
            if version >> 4 == 0 && rest.len() == 9 && rest[8] == 0 =>
        {
            Ok(opus_unit(timestamp, SEQUENCE_START, header))
        }
        _ => Err(Malformed::Opus),
    }
}

fn opus_packet(timestamp: u32, packet: &[u8]) -> Unit {
    opus_unit(timestamp, CODED_FRAMES, packet)
}

fn opus_unit(timestamp: u32, packet_type: u8, body: &[u8]) -> Unit {
    let mut payload = BytesMut::with_capacity(5 + body.len());
    payload.put_u8(EX_AUDIO | packet_type);
    payload.put_slice(b"Opus");
    payload.put_slice(body);
    Unit { kind: Kind::Audio, timestamp, payload: Bytes::from(payload) }
}

/// The sound format that says that Enhanced RTMP's header follows (`ExAudioTagHeader`).
const EX_AUDIO: u8 = 9 << 4;
/// Its packet types.
const SEQUENCE_START: u8 = 0;
const CODED_FRAMES: u8 = 1;

#[cfg(test)]
pub(super) mod tests {
    use super::super::Encoding;
    use super::*;

    /// A configuration of the Constrained Baseline profile; nothing looks into it beyond its lengths.
    pub(in super::super) const AVCC: &[u8] =
        b"\x01\x42\xc0\x1f\xff\xe1\x00\x06\x67\x42\xc0\x1f\xda\x01\x01\x00\x04\x68\xce\x3c\x80";
    pub(in super::super) const OPUS: &[u8] = b"OpusHead\x01\x02\x38\x01\x80\xbb\0\0\0\0\0";

    pub(in super::super) fn message(kind: u8, key: bool, timestamp: u32, payload: &[u8]) -> Vec<u8> {
        let mut message = vec![kind, u8::from(key), 0, 0];
        message.extend_from_slice(&timestamp.to_be_bytes());
        message.extend_from_slice(&7u32.to_be_bytes());
        message.extend_from_slice(&1_700_000_000_000_000u64.to_be_bytes());
        message.extend_from_slice(payload);
        message
    }

    pub(in super::super) fn config(timestamp: u32) -> Vec<u8> {
        message(1, false, timestamp, &[&[5, 0, 2, 208], AVCC].concat())
    }

    pub(in super::super) fn picture(key: bool, timestamp: u32) -> Vec<u8> {
        let slice: &[u8] = if key { b"\0\0\0\x02\x65\xaa" } else { b"\0\0\0\x02\x41\xbb" };
        message(2, key, timestamp, slice)
    }

    fn take(stream: &mut Stream, message: &[u8]) -> Result<Vec<Unit>, Malformed> {
        stream.take(message, Encoding::default())
    }

    #[test]
    fn a_stream_becomes_units_with_the_captures_stamp() {
        let mut stream = Stream::new();
        let units = take(&mut stream, &config(5)).unwrap();
        let [metadata, header] = &units[..] else { panic!("{units:?}") };
        assert_eq!((metadata.kind, metadata.timestamp), (Kind::Data, 5));
        assert!(header.is_sequence_header());
        assert_eq!(header.payload[5..], *AVCC);
        let key = take(&mut stream, &picture(true, 6)).unwrap().remove(0);
        assert!(key.is_keyframe() && key.timestamp == 6);
        assert_eq!(avc::stamp(&key), Some(Stamp { frame: 7, wall_us: 1_700_000_000_000_000 }));
        assert!(key.payload.ends_with(b"\0\0\0\x02\x65\xaa"));
        let next = take(&mut stream, &picture(false, 40)).unwrap().remove(0);
        assert!(next.is_picture() && !next.is_keyframe());
    }

    #[test]
    fn sound_is_opus_as_enhanced_rtmp_has_it() {
        let mut stream = Stream::new();
        assert_eq!(take(&mut stream, &message(4, false, 0, b"early")), Ok(Vec::new()));
        let header = take(&mut stream, &message(3, false, 1, OPUS)).unwrap().remove(0);
        assert!(header.is_sequence_header());
        assert_eq!(header.payload[..], [b"\x90Opus", OPUS].concat());
        let packet = take(&mut stream, &message(4, false, 2, b"\xfc\xff\xfe")).unwrap().remove(0);
        assert_eq!(
            (packet.kind, packet.timestamp, &packet.payload[..]),
            (Kind::Audio, 2, &b"\x91Opus\xfc\xff\xfe"[..])
        );
    }

    #[test]
    fn nothing_is_shown_before_it_can_be_decoded() {
        let mut stream = Stream::new();
        assert_eq!(take(&mut stream, &picture(true, 0)), Ok(Vec::new()), "no configuration");
        take(&mut stream, &config(1)).unwrap();
        assert_eq!(take(&mut stream, &picture(false, 2)), Ok(Vec::new()), "no key frame");
        let claimed = message(2, true, 3, b"\0\0\0\x02\x41\xbb");
        assert_eq!(take(&mut stream, &claimed), Ok(Vec::new()), "a key frame by name alone");
        assert_eq!(take(&mut stream, &picture(true, 4)).unwrap().len(), 1);
        // Another size: what follows needs the new decoder's key frame.
        take(&mut stream, &config(5)).unwrap();
        assert_eq!(take(&mut stream, &picture(false, 6)), Ok(Vec::new()));
    }

    #[test]
    fn what_no_page_sends_is_refused() {
        let long = vec![0; MAX_SOUND + 1];
        let huge = [&[0, 64, 0, 4][..], &vec![0; MAX_PICTURE]].concat();
        let cases: [(Vec<u8>, Malformed); 10] = [
            (Vec::new(), Malformed::Short),
            (message(2, true, 0, b""), Malformed::Short),
            (message(9, false, 0, b"x"), Malformed::Kind(9)),
            (vec![2, 2, 0, 0].into_iter().chain([0; 20]).collect(), Malformed::Reserved),
            (message(1, false, 0, &[&[0, 0, 2, 208], AVCC].concat()), Malformed::Size(0, 720)),
            (message(1, false, 0, b"\x05\0\x02\xd0\x01"), Malformed::Avc(AvcError::Truncated)),
            (message(2, true, 0, b"\0\0\0\x09\x65"), Malformed::Avc(AvcError::Nal)),
            (message(2, true, 0, &huge), Malformed::Long(MAX_PICTURE + 4)),
            (message(3, false, 0, b"OpusHead"), Malformed::Opus),
            (message(4, false, 0, &long), Malformed::Long(MAX_SOUND + 1)),
        ];
        for (message, refusal) in cases {
            assert_eq!(take(&mut Stream::new(), &message), Err(refusal));
        }
        let mut short_lengths = AVCC.to_vec();
        short_lengths[4] = 0xfd;
        let short_lengths = message(1, false, 0, &[&[5, 0, 2, 208], &short_lengths[..]].concat());
        assert_eq!(take(&mut Stream::new(), &short_lengths), Err(Malformed::LengthSize));
    }

    #[test]
    fn ten_thousand_mutations_neither_panic_nor_grow() {
        let session = [
            config(0),
            message(3, false, 0, OPUS),
            picture(true, 1),
            message(4, false, 2, b"abc"),
            picture(false, 3),
        ];
        let mut rng = fastrand::Rng::with_seed(7);
        let mut refused = 0;
        for _ in 0..10_000 {
            let mut stream = Stream::new();
            for original in &session {
                let mut message = original.clone();
                for _ in 0..rng.usize(0..4) {
                    let at = rng.usize(0..message.len());
                    message[at] = rng.u8(..);
                }
                if rng.u8(..) < 32 {
                    message.truncate(rng.usize(0..message.len()));
                }
                match take(&mut stream, &message) {
                    Ok(units) => {
                        let size: usize = units.iter().map(|unit| unit.payload.len()).sum();
                        assert!(units.len() <= 2 && size < message.len() + 400, "{units:?} of {message:?}");
                    }
                    Err(_) => refused += 1,
                }
            }
        }
        assert!(refused > 1000, "only {refused} of the mutations were refused");
    }
}
