//! Which pictures no other needs: those that a slow line leaves out first.
//!
//! FLV can say so of a picture (frame type 3), and hardly any publisher does: ffmpeg and OBS send B-frames as ordinary
//! inter frames. The slices themselves say it, in the header of their NAL units: `nal_ref_idc` 0 in H.264 (ITU-T H.264
//! §7.4.1), a sub-layer non-reference type in H.265 (ITU-T H.265 table 7-1). How to get at those headers is told by the
//! stream's sequence header, of which [`Coding`] is what is needed.
//!
//! What is not understood counts as needed. So do all pictures of AV1 and VP9, where it takes reading through the frame's
//! header bit by bit, and those behind Enhanced RTMP's modifiers and tracks.

use super::avc::{MAX_NALS, next_nal};
use super::unit::{Content, IS_EX, Kind, Unit};

/// How the pictures of a stream are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coding {
    codec: Codec,
    /// Bytes of the length before each NAL unit: 1, 2, 3 or 4.
    length_size: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Codec {
    Avc,
    /// Temporal sub-layers; 0 where the stream does not tell.
    Hevc {
        sub_layers: u8,
    },
}

impl Coding {
    /// What a sequence header of H.264 or H.265 says; `None` for any other unit, and for a record that ends early.
    #[must_use]
    pub fn of(unit: &Unit) -> Option<Self> {
        let (name, record) = body(unit, Content::SequenceStart)?;
        match name {
            // ISO/IEC 14496-15 §5.3.3.1.2.
            Name::Avc => {
                let lengths = record.get(4)?;
                Some(Self { codec: Codec::Avc, length_size: (lengths & 3) + 1 })
            }
            // ISO/IEC 14496-15 §8.3.3.1.2: constantFrameRate 2 bits, numTemporalLayers 3, temporalIdNested 1, lengths 2.
            Name::Hevc => {
                let layers = record.get(21)?;
                let codec = Codec::Hevc { sub_layers: layers >> 3 & 7 };
                Some(Self { codec, length_size: (layers & 3) + 1 })
            }
        }
    }

    /// Whether `unit` is a picture of such a stream that no other needs. Reads the headers of its NAL units, at most
    /// [`MAX_NALS`], and nothing of what is in them.
    #[must_use]
    pub fn is_disposable(self, unit: &Unit) -> bool {
        let Some((name, mut rest)) = body(unit, Content::Frames) else { return false };
        let mut slices = false;
        for _ in 0..MAX_NALS {
            if rest.is_empty() {
                return slices;
            }
            let Some((nal, tail)) = next_nal(rest, self.length_size) else { return false };
            rest = tail;
            let need = match (self.codec, name) {
                (Codec::Avc, Name::Avc) => avc_need(nal),
                (Codec::Hevc { sub_layers }, Name::Hevc) => hevc_need(nal, sub_layers),
                (Codec::Avc, Name::Hevc) | (Codec::Hevc { .. }, Name::Avc) => return false,
            };
            match need {
                Need::NoPicture => {}
                Need::Disposable => slices = true,
                Need::Needed => return false,
            }
        }
        false
    }
}

/// What a NAL unit says of the picture that it belongs to.
enum Need {
    /// It is no slice.
    NoPicture,
    Disposable,
    Needed,
}

fn avc_need(nal: &[u8]) -> Need {
    match nal.first() {
        // Slices, whole or in partitions, of a picture or of an extension's view or layer.
        Some(header) if matches!(header & 0x1f, 1..=5 | 19..=21) => match header >> 5 & 3 {
            0 => Need::Disposable,
            _ => Need::Needed,
        },
        Some(_) | None => Need::NoPicture,
    }
}

fn hevc_need(nal: &[u8], sub_layers: u8) -> Need {
    let Some([first, second]) = nal.first_chunk() else { return Need::NoPicture };
    let sub_layer = second & 7;
    match first >> 1 & 0x3f {
        // Not needed by pictures of its own sub-layer, but perhaps by those of a higher one.
        0 | 2 | 4 | 6 | 8 | 10 | 12 | 14 if sub_layers > 0 && sub_layer >= sub_layers => Need::Disposable,
        0..=31 => Need::Needed,
        _ => Need::NoPicture,
    }
}

/// A codec whose units' headers are read to their end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    Avc,
    Hevc,
}

/// The codec of a video unit that holds such content, and what follows its header.
pub(super) fn body(unit: &Unit, wanted: Content) -> Option<(Name, &[u8])> {
    let packet = unit.packet().filter(|packet| packet.content == wanted && !packet.multitrack)?;
    let name = match (unit.kind, &packet.codec?) {
        (Kind::Video, b"avc1") => Name::Avc,
        (Kind::Video, b"hvc1") => Name::Hevc,
        (Kind::Video | Kind::Audio | Kind::Data, _) => return None,
    };
    let (&first, rest) = (unit.payload.first()?, unit.payload.get(5..)?);
    match (first & IS_EX != 0, first & 0x0f) {
        // Packet type and composition time.
        (false, _) => Some((name, rest)),
        // FourCC, and behind it a composition time with coded frames alone that have one.
        (true, 0 | 3) => Some((name, rest)),
        (true, 1) => Some((name, rest.get(3..)?)),
        (true, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn video(payload: &[u8]) -> Unit {
        Unit { kind: Kind::Video, timestamp: 0, payload: payload.to_vec().into() }
    }

    /// A picture of NAL units behind lengths of `size` bytes.
    fn picture(head: &[u8], size: usize, nals: &[&[u8]]) -> Unit {
        let mut payload = head.to_vec();
        for nal in nals {
            payload.extend_from_slice(&(nal.len() as u32).to_be_bytes()[4 - size..]);
            payload.extend_from_slice(nal);
        }
        video(&payload)
    }

    fn avc(length_size: u8) -> Coding {
        let record = [1, 66, 0, 31, 0xfc | (length_size - 1), 0xe0];
        Coding::of(&video(&[b"\x17\0\0\0\0", &record[..]].concat())).expect("a sequence header")
    }

    fn hevc(sub_layers: u8) -> Coding {
        let mut record = vec![1; 21];
        record.push(sub_layers << 3 | 3);
        Coding::of(&video(&[b"\x90hvc1", &record[..]].concat())).expect("a sequence header")
    }

    const INTER: &[u8] = b"\x27\x01\0\0\0";

    #[test]
    fn a_picture_of_h264_is_needed_if_one_of_its_slices_is() {
        for size in [1, 2, 4] {
            let disposable = |nals: &[&[u8]]| avc(size).is_disposable(&picture(INTER, size.into(), nals));
            assert!(disposable(&[b"\x01b"]));
            assert!(
                disposable(&[b"\x09\xf0", b"\x06sei", b"\x01b", b"\x01b"]),
                "a delimiter, an SEI, two slices"
            );
            assert!(!disposable(&[b"\x41p"]));
            assert!(!disposable(&[b"\x01b", b"\x21b"]), "as the fields of a pair may be");
            assert!(!disposable(&[b"\x06sei"]), "no picture at all");
            assert!(!disposable(&[]));
            assert!(!disposable(&vec![&b"\x01b"[..]; MAX_NALS]), "too many to look at");
        }
    }

    #[test]
    fn what_is_no_picture_of_the_stream_is_never_disposable() {
        let slice: &[&[u8]] = &[b"\x01b"];
        for head in
            [&b"\x17\0\0\0\0"[..], b"\x17\x02\0\0\0", b"\x57\x01\0\0\0", b"\xa1hvc1\0\0\0", b"\xa3av01"]
        {
            assert!(!avc(4).is_disposable(&picture(head, 4, slice)), "{head:?}");
        }
        let sound = Unit { kind: Kind::Audio, ..picture(INTER, 4, slice) };
        assert!(!avc(4).is_disposable(&sound));
        assert!(avc(4).is_disposable(&picture(b"\xa3avc1", 4, slice)));
        assert!(avc(4).is_disposable(&picture(b"\xa1avc1\0\0\0", 4, slice)));
        assert_eq!(Coding::of(&picture(INTER, 4, slice)), None);
    }

    #[test]
    fn a_picture_of_h265_is_needed_by_its_own_sub_layer_or_by_a_higher_one() {
        let trail_n: &[&[u8]] = &[b"\x00\x01n"];
        let (trail_r, higher): (&[&[u8]], &[&[u8]]) = (&[b"\x02\x01r"], &[b"\x00\x02n"]);
        for (head, codes) in [(&b"\xa1hvc1\0\0\0"[..], 1), (b"\xa3hvc1", 1), (b"\x2c\x01\0\0\0", 1)] {
            assert!(hevc(codes).is_disposable(&picture(head, 4, trail_n)));
            assert!(!hevc(codes).is_disposable(&picture(head, 4, trail_r)));
        }
        let disposable = |layers, nals| hevc(layers).is_disposable(&picture(b"\xa3hvc1", 4, nals));
        assert!(!disposable(0, trail_n), "unknown");
        assert!(!disposable(2, trail_n));
        assert!(disposable(2, higher));
        assert!(!disposable(1, &[b"\x40\x01vps"]));
    }

    #[test]
    fn no_bytes_make_it_panic_or_a_broken_picture_disposable() {
        let whole = picture(INTER, 4, &[b"\x06sei", b"\x01slice"]);
        assert!(avc(4).is_disposable(&whole));
        for cut in 0..whole.payload.len() {
            assert!(!avc(4).is_disposable(&video(&whole.payload[..cut])), "cut at {cut}");
        }
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..100_000 {
            let mut bytes: Vec<u8> = (0..random.usize(..64)).map(|_| random.u8(..)).collect();
            if let Some(first) = bytes.first_mut() {
                *first = random.choice([0x17, 0x27, 0x1c, 0x90, 0x91, 0xa3, 0x97]).expect("not empty");
            }
            let unit = video(&bytes);
            let codings = [Coding::of(&unit), Some(avc(random.u8(1..=4))), Some(hevc(1))];
            codings.into_iter().flatten().for_each(|coding| _ = coding.is_disposable(&unit));
        }
    }
}
