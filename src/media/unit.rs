//! One message of audio, video or data, as RTMP and FLV both carry it.
//!
//! Payload is opaque here, but for the header that says what kind of packet it is: the two bytes of FLV (FLV v10.1
//! §E.4.2, §E.4.3), or the longer one of Enhanced RTMP (v2, `ExAudioTagHeader` and `ExVideoTagHeader`):
//!
//! ```text
//!   video  1 · frame type 3 bits · packet type 4 bits      audio  9 (4 bits) · packet type 4 bits
//!   while the packet type is ModEx:  size − 1 (1, or 255 and 2 more) · data · its type 4 bits · packet type 4 bits
//!   if it is Multitrack:             kind of multitrack 4 bits · packet type 4 bits
//!   FourCC, unless each track has its own
//! ```

use crate::rtmp::amf0;
use bytes::Bytes;

/// What a unit holds. The numbers are RTMP's message types (RTMP 1.0 §7.1) and FLV's tag types (FLV v10.1 §E.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// An AUDIODATA body.
    Audio = 8,
    /// A VIDEODATA body.
    Video = 9,
    /// An AMF0 data message: `onMetaData` and its like.
    Data = 18,
}

/// One media unit. `payload` is the RTMP message's payload, which is an FLV tag's body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// What it holds.
    pub kind: Kind,
    /// Presentation clock in milliseconds, modulo 2^32.
    pub timestamp: u32,
    /// The FLV tag body.
    pub payload: Bytes,
}

/// The time at which metadata stands in files and messages, whenever it is written: it tells of the stream and not of a
/// moment in it. What bears another time is taken by ffmpeg's demuxer for a subtitle, and gets a stream of its own.
pub const METADATA_TIME: u32 = 0;

/// What the header of an audio or video unit says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// What follows the header.
    pub content: Content,
    /// The codec, by the FourCC that Enhanced RTMP gives it, in its older forms too; `None` for those that have none,
    /// and where each of many tracks names its own.
    pub codec: Option<[u8; 4]>,
    /// Whether it is of several tracks (Enhanced RTMP's `Multitrack`).
    pub multitrack: bool,
}

/// What a packet holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// What configures a decoder: AVC and AAC sequence headers, Enhanced RTMP's `SequenceStart`.
    SequenceStart,
    /// Coded pictures or sound.
    Frames,
    /// The mark that publishers send last; encoders call it a keyframe.
    SequenceEnd,
    /// Neither: HDR metadata, a command to the player, a channel map, something of the future.
    Other,
}

impl Unit {
    /// What the header says; `None` for data, and where the header is cut short.
    #[must_use]
    pub fn packet(&self) -> Option<Packet> {
        let (&first, rest) = self.payload.split_first()?;
        match self.kind {
            Kind::Video if first & IS_EX != 0 => {
                ex_packet(first & 0x0f, VIDEO_MULTITRACK, rest, |packet_type| {
                    match (packet_type, frame_type(first)) {
                        // The frame type of metadata means nothing.
                        (4, _) | (_, COMMAND) => Content::Other,
                        (0 | MPEG2_TS_START, _) => Content::SequenceStart,
                        (1 | 3, _) => Content::Frames,
                        (2, _) => Content::SequenceEnd,
                        _ => Content::Other,
                    }
                })
            }
            Kind::Audio if first >> 4 == EX_HEADER => {
                ex_packet(first & 0x0f, AUDIO_MULTITRACK, rest, |packet_type| {
                    [Content::SequenceStart, Content::Frames, Content::SequenceEnd]
                        .get(usize::from(packet_type))
                        .copied()
                        .unwrap_or(Content::Other)
                })
            }
            Kind::Video => Some(flv_video(first, rest)),
            Kind::Audio => Some(flv_audio(first, rest)),
            Kind::Data => None,
        }
    }

    /// Whether this is a video unit that a decoder can begin with: frame type 1 and a coded picture, not a sequence
    /// header nor the end-of-sequence mark that publishers send last.
    #[must_use]
    pub fn is_keyframe(&self) -> bool {
        self.frame_type() == Some(KEY) && self.holds(Content::Frames)
    }

    /// Whether its header says that no other picture needs this one: FLV's "disposable inter frame". Where it does not,
    /// the slices may ([`Coding`](super::Coding)).
    #[must_use]
    pub fn is_disposable(&self) -> bool {
        self.frame_type() == Some(DISPOSABLE) && self.holds(Content::Frames)
    }

    /// Whether this is a coded picture: no sequence header, no end-of-sequence mark, nothing that only tells of pictures.
    #[must_use]
    pub fn is_picture(&self) -> bool {
        self.kind == Kind::Video && self.holds(Content::Frames)
    }

    /// The end-of-sequence mark after this picture, for that time: AVC packet type 2 (FLV v10.1 §E.4.3.1), Enhanced RTMP's
    /// `SequenceEnd`. `None` where it is no picture, or its codec has no such mark.
    #[must_use]
    pub fn end_of_sequence(&self, timestamp: u32) -> Option<Self> {
        let first = *self.payload.first().filter(|_| self.is_picture())?;
        let payload = if first & IS_EX != 0 {
            let codec = self.packet()?.codec?;
            [&[IS_EX | KEY << 4 | 2][..], &codec].concat()
        } else {
            vec![KEY << 4 | first & 0x0f, 2, 0, 0, 0]
        };
        let mark = Self { kind: Kind::Video, timestamp, payload: payload.into() };
        mark.holds(Content::SequenceEnd).then_some(mark)
    }

    /// Whether this unit configures a decoder: AVC or AAC sequence header, Enhanced RTMP `SequenceStart`.
    #[must_use]
    pub fn is_sequence_header(&self) -> bool {
        self.holds(Content::SequenceStart)
    }

    /// What says which decoder it needs: the FourCC, or what FLV's first byte has in its place; `None` for data, and for
    /// what has no codec of its own.
    #[must_use]
    pub fn coding(&self) -> Option<[u8; 4]> {
        let packet = self.packet()?;
        let first = *self.payload.first()?;
        packet.codec.or(match self.kind {
            Kind::Video if first & IS_EX == 0 => Some([first & 0x0f, 0, 0, 0]),
            // Format, rate, size and channels.
            Kind::Audio if first >> 4 != EX_HEADER => Some([first, 0, 0, 0]),
            Kind::Video | Kind::Audio | Kind::Data => None,
        })
    }

    /// Whether this is `onMetaData`, which describes the stream (FLV v10.1 §E.5).
    #[must_use]
    pub fn is_metadata(&self) -> bool {
        self.kind == Kind::Data
            && amf0::leading_string(&self.payload).is_some_and(|(name, _)| name == b"onMetaData")
    }

    /// The timestamp to write: the unit's, or [`METADATA_TIME`].
    #[must_use]
    pub fn written_time(&self) -> u32 {
        if self.is_metadata() { METADATA_TIME } else { self.timestamp }
    }

    pub(super) fn holds(&self, content: Content) -> bool {
        self.packet().is_some_and(|packet| packet.content == content)
    }

    fn frame_type(&self) -> Option<u8> {
        let video = self.kind == Kind::Video;
        self.payload.first().filter(|_| video).map(|&first| frame_type(first))
    }
}

const fn frame_type(first: u8) -> u8 {
    first >> 4 & 0x7
}

/// Reads on behind the first byte of an enhanced header.
fn ex_packet(
    mut packet_type: u8,
    multitrack: u8,
    mut rest: &[u8],
    content: impl Fn(u8) -> Content,
) -> Option<Packet> {
    for _ in 0..MAX_MOD_EX {
        if packet_type != MOD_EX {
            break;
        }
        let (&size, behind) = rest.split_first()?;
        let (size, behind) = match size {
            u8::MAX => (usize::from(u16::from_be_bytes(*behind.first_chunk()?)), &behind[2..]),
            size => (usize::from(size), behind),
        };
        // The size is told less one.
        let (&types, behind) = behind.get(size + 1..)?.split_first()?;
        (packet_type, rest) = (types & 0x0f, behind);
    }
    let mut own_codecs = false;
    let multitrack = packet_type == multitrack;
    if multitrack {
        let (&types, behind) = rest.split_first()?;
        own_codecs = types >> 4 == MANY_TRACKS_MANY_CODECS;
        (packet_type, rest) = (types & 0x0f, behind);
    }
    let content = content(packet_type);
    let codec = rest.first_chunk().copied();
    // What is not understood may have another form from here on.
    let incomplete = codec.is_none() && !own_codecs && content != Content::Other;
    let codec = codec.filter(|_| !own_codecs && content != Content::Other);
    (!incomplete).then_some(Packet { content, codec, multitrack })
}

fn flv_video(first: u8, rest: &[u8]) -> Packet {
    let (codec, packet_type) = match first & 0x0f {
        7 => (Some(*b"avc1"), rest.first()),
        // What some use for HEVC, in AVC's form.
        12 => (Some(*b"hvc1"), rest.first()),
        _ => (None, Some(&1)),
    };
    let content = match packet_type {
        _ if frame_type(first) == COMMAND => Content::Other,
        Some(0) => Content::SequenceStart,
        Some(1) => Content::Frames,
        Some(2) => Content::SequenceEnd,
        Some(_) | None => Content::Other,
    };
    Packet { content, codec, multitrack: false }
}

fn flv_audio(first: u8, rest: &[u8]) -> Packet {
    let (codec, content) = match first >> 4 {
        10 if rest.first() == Some(&0) => (Some(*b"mp4a"), Content::SequenceStart),
        10 => (Some(*b"mp4a"), Content::Frames),
        2 | 14 => (Some(*b".mp3"), Content::Frames),
        _ => (None, Content::Frames),
    };
    Packet { content, codec, multitrack: false }
}

/// `IsExVideoHeader`.
pub(super) const IS_EX: u8 = 0x80;

/// The sound format that says that the header is enhanced.
const EX_HEADER: u8 = 9;

const KEY: u8 = 1;
const DISPOSABLE: u8 = 3;
const COMMAND: u8 = 5;

const MPEG2_TS_START: u8 = 5;
const VIDEO_MULTITRACK: u8 = 6;
const AUDIO_MULTITRACK: u8 = 5;
const MOD_EX: u8 = 7;
const MANY_TRACKS_MANY_CODECS: u8 = 2;

/// How many modifiers are read through. The specification has defined one, a packet has it at most once, and a header
/// must not cost as much as its payload.
const MAX_MOD_EX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(kind: Kind, payload: &[u8]) -> Unit {
        Unit { kind, timestamp: 0, payload: payload.to_vec().into() }
    }

    fn packet(kind: Kind, payload: &[u8]) -> Option<(Content, Option<[u8; 4]>)> {
        unit(kind, payload).packet().map(|packet| (packet.content, packet.codec))
    }

    #[test]
    fn the_headers_of_flv_are_understood() {
        let video = |payload| packet(Kind::Video, payload);
        assert_eq!(video(b"\x17\x00"), Some((Content::SequenceStart, Some(*b"avc1"))));
        assert_eq!(video(b"\x27\x01"), Some((Content::Frames, Some(*b"avc1"))));
        assert_eq!(video(b"\x17\x02"), Some((Content::SequenceEnd, Some(*b"avc1"))));
        assert_eq!(video(b"\x1c\x01"), Some((Content::Frames, Some(*b"hvc1"))));
        assert_eq!(video(b"\x12"), Some((Content::Frames, None)));
        assert_eq!(video(b"\x57\x00"), Some((Content::Other, Some(*b"avc1"))));
        let audio = |payload| packet(Kind::Audio, payload);
        assert_eq!(audio(b"\xaf\x00"), Some((Content::SequenceStart, Some(*b"mp4a"))));
        assert_eq!(audio(b"\xaf\x01"), Some((Content::Frames, Some(*b"mp4a"))));
        assert_eq!(audio(b"\x2f"), Some((Content::Frames, Some(*b".mp3"))));
        assert_eq!(packet(Kind::Data, b"\x17\x00"), None);
        assert_eq!(video(b""), None);
    }

    #[test]
    fn the_headers_of_enhanced_rtmp_are_understood() {
        let cases: [(Kind, &[u8], Content, &[u8; 4]); 9] = [
            (Kind::Video, b"\x90hvc1", Content::SequenceStart, b"hvc1"),
            (Kind::Video, b"\x91hvc1\0\0\0", Content::Frames, b"hvc1"),
            (Kind::Video, b"\xa3av01", Content::Frames, b"av01"),
            (Kind::Video, b"\x92vp09", Content::SequenceEnd, b"vp09"),
            (Kind::Video, b"\x95av01", Content::SequenceStart, b"av01"),
            (Kind::Audio, b"\x90Opus", Content::SequenceStart, b"Opus"),
            (Kind::Audio, b"\x91Opus", Content::Frames, b"Opus"),
            (Kind::Audio, b"\x92fLaC", Content::SequenceEnd, b"fLaC"),
            (Kind::Audio, b"\x91ac-3", Content::Frames, b"ac-3"),
        ];
        for (kind, payload, content, codec) in cases {
            assert_eq!(packet(kind, payload), Some((content, Some(*codec))), "{payload:?}");
        }
        // HDR metadata (whatever its frame type), a command to the player, a channel map.
        for payload in [b"\x94hvc1", b"\xd4hvc1"] {
            assert_eq!(packet(Kind::Video, payload), Some((Content::Other, None)));
        }
        assert_eq!(packet(Kind::Video, b"\xd1\0"), Some((Content::Other, None)));
        assert_eq!(packet(Kind::Audio, b"\x94Opus"), Some((Content::Other, None)));
    }

    #[test]
    fn modifiers_are_read_through() {
        // A nanosecond offset of three bytes before a keyframe of HEVC, alone and behind another of 300 bytes.
        let offset = b"\x97\x02\x01\x02\x03\x01hvc1";
        assert_eq!(packet(Kind::Video, offset), Some((Content::Frames, Some(*b"hvc1"))));
        assert!(unit(Kind::Video, offset).is_keyframe());
        let mut long = b"\x97\xff\x01\x2b".to_vec();
        long.resize(4 + 300, 0);
        long.extend_from_slice(b"\x07\x02\x01\x02\x03\x00hvc1");
        assert!(unit(Kind::Video, &long).is_sequence_header());
        assert!(unit(Kind::Audio, b"\x97\x00\x00\x00Opus").is_sequence_header());

        for cut in 1..long.len() {
            assert_eq!(packet(Kind::Video, &long[..cut]), None, "cut at {cut}");
        }
        let endless = [&[0x97_u8][..], &[0, 0, 7].repeat(1000)].concat();
        assert_eq!(packet(Kind::Video, &endless), Some((Content::Other, None)));
    }

    #[test]
    fn tracks_share_a_header() {
        let one = unit(Kind::Video, b"\x96\x01avc1\x00");
        assert!(one.is_keyframe());
        assert!(one.packet().is_some_and(|packet| packet.multitrack && packet.codec == Some(*b"avc1")));
        assert_eq!(packet(Kind::Video, b"\x96\x20avc1\x00"), Some((Content::SequenceStart, None)));
        assert_eq!(packet(Kind::Audio, b"\x95\x11Opus\x00"), Some((Content::Frames, Some(*b"Opus"))));
        assert_eq!(packet(Kind::Video, b"\x96"), None);
    }

    #[test]
    fn the_mark_of_the_end_is_of_the_pictures_codec() {
        let mark =
            |kind, payload| unit(kind, payload).end_of_sequence(8000).map(|mark| mark.payload.to_vec());
        assert_eq!(mark(Kind::Video, b"\x27\x01"), Some(b"\x17\x02\0\0\0".to_vec()));
        assert_eq!(mark(Kind::Video, b"\x2c\x01"), Some(b"\x1c\x02\0\0\0".to_vec()));
        assert_eq!(mark(Kind::Video, b"\xa3av01"), Some(b"\x92av01".to_vec()));
        let told = unit(Kind::Video, b"\xa1hvc1\0\0\0").end_of_sequence(8000).expect("HEVC has one");
        let content = told.packet().map(|packet| packet.content);
        assert_eq!((told.timestamp, content), (8000, Some(Content::SequenceEnd)));
        // Sorenson's codec has none, nor has what is no picture.
        for (kind, payload) in [
            (Kind::Video, &b"\x22"[..]),
            (Kind::Video, b"\x17\x00"),
            (Kind::Video, b"\x17\x02"),
            (Kind::Audio, b"\xaf\x01"),
        ] {
            assert_eq!(mark(kind, payload), None, "{payload:?}");
        }
    }

    #[test]
    fn only_pictures_are_key_or_disposable() {
        assert!(unit(Kind::Video, b"\x17\x01").is_keyframe());
        assert!(!unit(Kind::Video, b"\x17\x00").is_keyframe());
        assert!(!unit(Kind::Video, b"\x17\x02").is_keyframe());
        assert!(!unit(Kind::Audio, b"\x1f\x01").is_keyframe());
        for (payload, is_picture) in [
            (b"\x17\x01", true),
            (b"\x27\x01", true),
            (b"\x17\x00", false),
            (b"\x17\x02", false),
            (b"\x57\x00", false),
        ] {
            assert_eq!(unit(Kind::Video, payload).is_picture(), is_picture, "{payload:?}");
        }
        assert!(!unit(Kind::Video, b"\x92hvc1").is_picture());
        assert!(!unit(Kind::Audio, b"\xaf\x01").is_picture());
        assert!(unit(Kind::Video, b"\x37\x01").is_disposable());
        assert!(unit(Kind::Video, b"\xb3av01").is_disposable());
        assert!(!unit(Kind::Video, b"\x27\x01").is_disposable());
    }
}
