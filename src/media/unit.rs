//! One message of audio, video or data, as RTMP and FLV both carry it.

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

impl Unit {
    /// Whether this is a video unit that a decoder can begin with: frame type 1 and a coded picture, not a sequence
    /// header nor the end-of-sequence mark that publishers send last.
    #[must_use]
    pub fn is_keyframe(&self) -> bool {
        let (Some(&first), second) = (self.payload.first(), self.payload.get(1)) else { return false };
        let picture = match first & 0x0f {
            // Enhanced RTMP: CodedFrames and CodedFramesX.
            packet_type if first & 0x80 != 0 => packet_type == 1 || packet_type == 3,
            // AVC's AVCPacketType, and that of the codec identifier 12 which some use for HEVC.
            7 | 12 => second == Some(&1),
            _ => true,
        };
        self.kind == Kind::Video && picture && (first >> 4) & 0x7 == 1
    }

    /// Whether this is video other than a sequence header.
    #[must_use]
    pub fn is_picture(&self) -> bool {
        self.kind == Kind::Video && !self.is_sequence_header()
    }

    /// Whether this unit configures a decoder: AVC or AAC sequence header, Enhanced RTMP `SequenceStart`.
    #[must_use]
    pub fn is_sequence_header(&self) -> bool {
        let (Some(&first), second) = (self.payload.first(), self.payload.get(1)) else { return false };
        match self.kind {
            Kind::Video if first & 0x80 != 0 => first & 0x0f == 0,
            Kind::Video => first & 0x0f == 7 && second == Some(&0),
            // SoundFormat 9 is Enhanced RTMP's "ExHeader", whose low nibble is the packet type.
            Kind::Audio if first >> 4 == 9 => first & 0x0f == 0,
            Kind::Audio => first >> 4 == 10 && second == Some(&0),
            Kind::Data => false,
        }
    }
}
