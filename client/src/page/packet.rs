//! Media as it travels to the page: one binary WebSocket message a unit.
//!
//! ```text
//!  0        1        2                 4                          8                          12
//!  +--------+--------+-----------------+--------------------------+--------------------------+---------
//!  |  kind  | flags  |  cast's place   |  decode timestamp, ms    |  composition offset, ms  | payload
//!  |   u8   |   u8   |       u16       |  u32, modulo 2^32        |  i32                     |
//!  +--------+--------+-----------------+--------------------------+--------------------------+---------
//! ```
//!
//! Integers are big-endian. Bit 0 of `flags` tells a key frame. The FLV framing ends here, so that the page's
//! script has no container to parse: a configuration is the bare `avcC`, `AudioSpecificConfig` or `OpusHead`, a frame is
//! length-prefixed NAL units, one raw AAC frame or one Opus packet.

use bytes::{BufMut, Bytes, BytesMut};
use punchcast::media::{Content, Kind, Unit};

/// The length of the header before the payload.
pub(super) const HEADER: usize = 12;

/// What a packet holds; the numbers are the protocol's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum PacketKind {
    /// An `AVCDecoderConfigurationRecord` (ISO/IEC 14496-15 §5.3.3).
    VideoConfig = 1,
    /// One access unit, NAL units with length prefixes.
    VideoFrame = 2,
    /// An `AudioSpecificConfig` (ISO/IEC 14496-3 §1.6.2).
    AudioConfig = 3,
    /// One raw AAC frame.
    AudioFrame = 4,
    /// An Opus identification header (RFC 7845 §5.1). A stream of one or two channels can do without.
    OpusConfig = 5,
    /// One Opus packet (RFC 6716 §3).
    OpusFrame = 6,
}

/// One message for the page, before it is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Packet<'a> {
    /// What it holds.
    pub(super) kind: PacketKind,
    /// A decoder can begin with it.
    pub(super) key: bool,
    timestamp: u32,
    offset: i32,
    payload: &'a [u8],
}

impl Packet<'_> {
    /// The whole message of the cast at `place`, header included.
    pub(super) fn encode(&self, place: usize) -> Bytes {
        let mut bytes = BytesMut::with_capacity(HEADER + self.payload.len());
        bytes.put_u8(self.kind as u8);
        bytes.put_u8(u8::from(self.key));
        bytes.put_u16(u16::try_from(place).unwrap_or(u16::MAX));
        bytes.put_u32(self.timestamp);
        bytes.put_i32(self.offset);
        bytes.put_slice(self.payload);
        bytes.freeze()
    }
}

/// What a unit is to the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading<'a> {
    /// Something to show.
    Packet(Packet<'a>),
    /// A sequence header or keyframe in a codec that the page does not show: what a stream begins with.
    ForeignVideo,
    /// Nothing for the page: metadata, sound in another codec, the end of a sequence, several tracks, a malformed tag.
    Nothing,
}

/// Reads an FLV tag body (FLV v10.1 §E.4.2 and §E.4.3, Enhanced RTMP v2 for the FourCCs `avc1`, `mp4a` and `Opus`).
pub(super) fn read(unit: &Unit) -> Reading<'_> {
    match unit.kind {
        Kind::Video => video(unit),
        Kind::Audio => audio(unit).map_or(Reading::Nothing, Reading::Packet),
        Kind::Data => Reading::Nothing,
    }
}

fn video(unit: &Unit) -> Reading<'_> {
    let body = &unit.payload[..];
    let Some(&first) = body.first() else { return Reading::Nothing };
    let frame_type = (first >> 4) & 0x7;
    let Some(header) = unit.packet() else { return Reading::Nothing };
    // Frame type 5 is a command to the player, not a picture. Of several tracks the page shows none, and they do not make
    // foreign what it shows beside them.
    if frame_type == 5 || header.multitrack {
        return Reading::Nothing;
    }
    if header.codec != Some(AVC) {
        let begins = header.content == Content::SequenceStart || unit.is_keyframe();
        return if begins { Reading::ForeignVideo } else { Reading::Nothing };
    }
    let (packet_type, rest) = if first & 0x80 == 0 {
        let Some((&packet_type, rest)) = body[1..].split_first() else { return Reading::Nothing };
        // An AVC sequence header and end have a composition time too; Enhanced RTMP's have not.
        match (packet_type, rest.len()) {
            (0 | 2, 3..) => (packet_type, &rest[3..]),
            (1, _) => (packet_type, rest),
            _ => return Reading::Nothing,
        }
    } else {
        match (first & 0x0f, body.get(5..)) {
            // Behind modifiers the FourCC stands elsewhere. No publisher is known to put them before H.264.
            (MOD_EX, _) | (_, None) => return Reading::Nothing,
            (packet_type, Some(rest)) => (packet_type, rest),
        }
    };
    match (packet_type, rest) {
        (0, config) if config.len() >= 4 => {
            Reading::Packet(packet(PacketKind::VideoConfig, false, unit.timestamp, 0, config))
        }
        (1, [a, b, c, frame @ ..]) if !frame.is_empty() => {
            // 24 bits, signed: shifted up and back down so that the sign comes along.
            let offset = i32::from_be_bytes([*a, *b, *c, 0]) >> 8;
            let kind = PacketKind::VideoFrame;
            Reading::Packet(packet(kind, frame_type == 1, unit.timestamp, offset, frame))
        }
        // Enhanced RTMP's `CodedFramesX` has no composition time.
        (3, frame) if !frame.is_empty() => {
            Reading::Packet(packet(PacketKind::VideoFrame, frame_type == 1, unit.timestamp, 0, frame))
        }
        _ => Reading::Nothing,
    }
}

fn audio(unit: &Unit) -> Option<Packet<'_>> {
    let (&first, rest) = unit.payload.split_first()?;
    let (is_opus, packet_type, body) = match (first >> 4, rest) {
        (AAC, [packet_type, body @ ..]) => (false, *packet_type, body),
        (EX_HEADER, [b'm', b'p', b'4', b'a', body @ ..]) => (false, first & 0x0f, body),
        (EX_HEADER, [b'O', b'p', b'u', b's', body @ ..]) => (true, first & 0x0f, body),
        _ => return None,
    };
    let kind = match (packet_type, is_opus) {
        (0, false) if body.len() >= 2 => PacketKind::AudioConfig,
        (0, true) if body.len() >= OPUS_HEAD && body.starts_with(b"OpusHead") => PacketKind::OpusConfig,
        (1, false) if !body.is_empty() => PacketKind::AudioFrame,
        (1, true) if !body.is_empty() => PacketKind::OpusFrame,
        _ => return None,
    };
    let key = matches!(kind, PacketKind::AudioFrame | PacketKind::OpusFrame);
    Some(packet(kind, key, unit.timestamp, 0, body))
}

/// H.264's FourCC.
const AVC: [u8; 4] = *b"avc1";

/// The packet type of Enhanced RTMP's video that says that modifiers follow.
const MOD_EX: u8 = 7;

/// The sound formats (FLV v10.1 §E.4.2.1) that the page plays: AAC, and the one that says that Enhanced RTMP's header
/// follows.
const AAC: u8 = 10;
const EX_HEADER: u8 = 9;

/// The shortest identification header of Opus.
const OPUS_HEAD: usize = 19;

const fn packet(kind: PacketKind, key: bool, timestamp: u32, offset: i32, payload: &[u8]) -> Packet<'_> {
    Packet { kind, key, timestamp, offset, payload }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(kind: Kind, payload: &[u8]) -> Unit {
        Unit { kind, timestamp: 0x0102_0304, payload: Bytes::copy_from_slice(payload) }
    }

    fn read_packet(kind: Kind, payload: &[u8]) -> (PacketKind, bool, Bytes) {
        match read(&unit(kind, payload)) {
            Reading::Packet(packet) => (packet.kind, packet.key, packet.encode(0)),
            other @ (Reading::ForeignVideo | Reading::Nothing) => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_frame_keeps_its_times_and_loses_its_flv_framing() {
        let (kind, key, bytes) = read_packet(Kind::Video, &[0x27, 1, 0xff, 0xff, 0xfe, 0xaa, 0xbb]);
        assert_eq!((kind, key), (PacketKind::VideoFrame, false));
        assert_eq!(bytes[..], [2, 0, 0, 0, 1, 2, 3, 4, 0xff, 0xff, 0xff, 0xfe, 0xaa, 0xbb]);
        let (_, key, bytes) = read_packet(Kind::Video, &[0x17, 1, 0, 0, 66, 0xaa]);
        assert!(key);
        assert_eq!(bytes[1..], [1, 0, 0, 1, 2, 3, 4, 0, 0, 0, 66, 0xaa]);
    }

    #[test]
    fn configurations_are_bare() {
        let (kind, _, avc) = read_packet(Kind::Video, &[0x17, 0, 0, 0, 0, 1, 0x42, 0, 0x1f, 0xff]);
        assert_eq!((kind, &avc[HEADER..]), (PacketKind::VideoConfig, &[1, 0x42, 0, 0x1f, 0xff][..]));
        let (kind, _, aac) = read_packet(Kind::Audio, &[0xaf, 0, 0x12, 0x10]);
        assert_eq!((kind, &aac[HEADER..]), (PacketKind::AudioConfig, &[0x12, 0x10][..]));
        let (kind, _, sound) = read_packet(Kind::Audio, &[0xaf, 1, 0x21]);
        assert_eq!((kind, &sound[HEADER..]), (PacketKind::AudioFrame, &[0x21][..]));
    }

    #[test]
    fn the_enhanced_header_is_read_for_avc() {
        let (kind, _, config) = read_packet(Kind::Video, b"\x90avc1\x01\x42\x00\x1f");
        assert_eq!((kind, &config[HEADER..]), (PacketKind::VideoConfig, &b"\x01\x42\x00\x1f"[..]));
        let (kind, key, _) = read_packet(Kind::Video, b"\x93avc1\xaa");
        assert_eq!((kind, key), (PacketKind::VideoFrame, true));
    }

    #[test]
    fn video_is_foreign_by_what_another_codec_begins_with() {
        for begins in [&b"\x90hvc1\x01"[..], b"\x93hvc1\xaa", b"\x95av01\x01", b"\x1c\x00", b"\x12\x00"] {
            assert_eq!(read(&unit(Kind::Video, begins)), Reading::ForeignVideo, "{begins:?}");
        }
        let modified = b"\x97\x02\0\0\x01\x03hvc1\xaa";
        assert_eq!(read(&unit(Kind::Video, modified)), Reading::ForeignVideo);
        // A later picture, the end, metadata; one of several tracks; an H.264 picture behind a modifier.
        let others = [&b"\xa3hvc1\xaa"[..], b"\x92hvc1", b"\x94hvc1\x02", b"\x22\x00"];
        let tracks = [&b"\x96\x11hvc1\x01\xaa"[..], b"\x96\x01avc1\x00\xaa", b"\x96\x21avc1\x00\0\0\x01\xaa"];
        let modified = [&b"\x97\x02\0\0\x01\x03avc1\xaa"[..], b"\x97avc1", b"\x97\x03avc1\x03avc1\xaa"];
        for other in others.into_iter().chain(tracks).chain(modified) {
            assert_eq!(read(&unit(Kind::Video, other)), Reading::Nothing, "{other:?}");
        }
    }

    #[test]
    fn sound_in_the_enhanced_header_is_read_for_opus_and_aac() {
        let head = *b"OpusHead\x01\x02\x38\x01\x80\xbb\0\0\0\0\0";
        let (kind, _, config) = read_packet(Kind::Audio, &[b"\x90Opus", &head[..]].concat());
        assert_eq!((kind, &config[HEADER..]), (PacketKind::OpusConfig, &head[..]));
        let (kind, key, sound) = read_packet(Kind::Audio, b"\x91Opus\xfc\xff\xfe");
        assert_eq!((kind, key, &sound[HEADER..]), (PacketKind::OpusFrame, true, &b"\xfc\xff\xfe"[..]));
        let (kind, _, _) = read_packet(Kind::Audio, b"\x90mp4a\x12\x10");
        assert_eq!(kind, PacketKind::AudioConfig);
        let (kind, _, _) = read_packet(Kind::Audio, b"\x91mp4a\x21");
        assert_eq!(kind, PacketKind::AudioFrame);
        for other in [&b"\x90OpusOpusHead"[..], b"\x90Opus", b"\x92Opus\x01", b"\x91ac-3\x01", b"\x2f\x01"] {
            assert_eq!(read(&unit(Kind::Audio, other)), Reading::Nothing, "{other:?}");
        }
    }

    #[test]
    fn every_short_body_is_read_without_a_picture() {
        for kind in [Kind::Audio, Kind::Video, Kind::Data] {
            for first in 0..=255u8 {
                for second in [0, 1, 2, 3, 0x61] {
                    for length in 0..5 {
                        let body = [first, second, 0, 0, 0];
                        let short = unit(kind, &body[..length]);
                        if let Reading::Packet(packet) = read(&short) {
                            assert!(packet.encode(0).len() > HEADER, "an empty payload from {body:?}");
                        }
                    }
                }
            }
        }
    }
}
