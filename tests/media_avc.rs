//! H.264 wrapping: Annex B, configuration records, stamps, hostile bytes.

use punchcast::media::avc::{self, AvcError, Config, NalKind, Stamp};
use punchcast::media::{Kind, Unit};

const SPS: &[u8] = &[0x67, 0x42, 0xc0, 0x1f, 0x8c, 0x8d, 0x40];
const PPS: &[u8] = &[0x68, 0xce, 0x3c, 0x80];

fn stamped(stamp: Stamp) -> Unit {
    let sei = stamp.sei();
    avc::picture(40, true, &[&sei, &[0x65, 1, 2, 3], &[0x65, 4]])
}

fn video(payload: &[u8]) -> Unit {
    Unit { kind: Kind::Video, timestamp: 0, payload: payload.to_vec().into() }
}

fn split(stream: &[u8]) -> Vec<Vec<u8>> {
    avc::split_annex_b(stream).map(<[u8]>::to_vec).collect()
}

#[test]
fn annex_b_is_split_at_either_start_code_without_trailing_zeros() {
    assert_eq!(
        split(&[0, 0, 0, 1, 0x67, 9, 0, 0, 1, 0x68, 0, 8, 0, 0, 0, 0, 1, 0x65, 1, 0, 0]),
        [vec![0x67, 9], vec![0x68, 0, 8], vec![0x65, 1]]
    );
    assert!(split(&[]).is_empty());
    assert!(split(&[1, 2, 3, 0, 0]).is_empty(), "no start code, no unit");
    assert!(split(&[0, 0, 1, 0, 0, 1, 0, 0, 0]).is_empty(), "empty units are no units");
}

#[test]
fn annex_b_is_split_as_a_plain_search_would() {
    for seed in 0..10_000 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let stream: Vec<u8> =
            (0..rng.usize(..60)).map(|_| [0, 0, 0, 1, 1, 2, 3, 0x65][rng.usize(..8)]).collect();
        let starts: Vec<usize> =
            (2..stream.len()).filter(|&at| stream[at - 2..=at] == [0, 0, 1]).map(|at| at + 1).collect();
        let mut plain = Vec::new();
        for (index, &start) in starts.iter().enumerate() {
            let end = starts.get(index + 1).map_or(stream.len(), |next| next - 3);
            let mut unit = stream[start..end].to_vec();
            while unit.last() == Some(&0) {
                unit.pop();
            }
            plain.extend((!unit.is_empty()).then_some(unit));
        }
        assert_eq!(split(&stream), plain, "seed {seed}: {stream:?}");
    }
}

#[test]
fn a_configuration_record_has_the_standards_bytes_and_reads_back() {
    let config = Config::new(SPS, PPS).unwrap();
    let expected = [&[1, 0x42, 0xc0, 0x1f, 0xff, 0xe1, 0, 7], SPS, &[1, 0, 4], PPS].concat();
    assert_eq!(config.build(), expected);
    assert_eq!(Config::parse(&expected), Ok(config.clone()));
    assert_eq!(config.codec(), "avc1.42C01F");
    let header = avc::sequence_header(7, &config);
    assert!(header.is_sequence_header() && !header.is_keyframe() && !avc::is_picture(&header));
    assert_eq!(Config::of(&header), Some(Ok(config)));
    for cut in 0..expected.len() {
        assert!(Config::parse(&expected[..cut]).is_err(), "cut at {cut}");
    }
}

#[test]
fn a_high_profile_record_has_its_extension() {
    let sps = [0x67, 100, 0, 31, 0xac];
    let record = Config::new(&sps, PPS).unwrap().build();
    assert!(record.ends_with(&[0xfd, 0xf8, 0xf8, 0]));
    assert_eq!(Config::parse(&record).unwrap().sps[0][..], sps);
}

#[test]
fn a_configuration_needs_both_parameter_sets() {
    assert_eq!(Config::new(&[0x67], PPS), Err(AvcError::ParameterSet(1)));
    assert_eq!(Config::new(SPS, &[]), Err(AvcError::ParameterSet(0)));
    assert_eq!(Config::parse(&[1, 66, 0, 31, 0xff, 0xe0, 0]), Err(AvcError::Missing));
    assert_eq!(Config::parse(&[2, 66, 0, 31, 0xff, 0xe0, 0]), Err(AvcError::Version(2)));
}

#[test]
fn pictures_are_keyframes_or_not_and_the_end_of_a_sequence_is_no_picture() {
    assert!(avc::picture(0, true, &[&[0x65]]).is_keyframe());
    assert!(!avc::picture(0, false, &[&[0x41]]).is_keyframe());
    let end = video(&[0x17, 2, 0, 0, 0]);
    assert!(!end.is_keyframe() && !avc::is_picture(&end));
    assert!(video(&[0x91, b'h', b'v', b'c', b'1', 0, 0, 0]).is_keyframe());
    assert!(!video(&[0x92, b'h', b'v', b'c', b'1']).is_keyframe());
}

#[test]
fn nal_units_come_back_out_of_a_picture() {
    let unit = avc::picture(0, false, &[&[0x06, 1], &[0x41, 2, 3]]);
    assert_eq!(avc::nal_units(&unit, 4), Ok(vec![&[0x06, 1][..], &[0x41, 2, 3]]));
    assert_eq!(avc::nal_units(&video(&[0x27, 1, 0, 0, 0, 2, 9, 9, 1, 8]), 1), Ok(vec![&[9, 9][..], &[8]]));
    assert_eq!(avc::nal_units(&video(&[0x27, 1, 0, 0, 0, 0, 0, 0, 2, 9]), 4), Err(AvcError::Nal));
    assert_eq!(avc::nal_units(&video(&[0x17, 0, 0, 0, 0, 1]), 4), Ok(vec![]));
    let many = vec![&[0x41u8][..]; avc::MAX_NALS + 1];
    assert_eq!(avc::nal_units(&avc::picture(0, false, &many), 4), Err(AvcError::Nal));
    assert_eq!(avc::nal_kind(&[0x67]), NalKind::Sps);
}

#[test]
fn stamps_read_back_whatever_zeros_they_hold() {
    let numbers = [0, 1, 2, 3, 0x300, 0x0003_0000, 0x0100_0000, 0x0000_0300_0000_0300, u64::MAX];
    for frame in numbers {
        for wall_us in numbers {
            let stamp = Stamp { frame, wall_us };
            let sei = stamp.sei();
            assert!(!sei.windows(3).any(|three| three[..2] == [0, 0] && three[2] <= 2), "{stamp:?}: {sei:?}");
            assert_ne!(sei.last(), Some(&0));
            assert_eq!(avc::stamp(&stamped(stamp)), Some(stamp));
        }
    }
}

#[test]
fn a_stamp_is_found_among_other_messages_and_not_where_there_is_none() {
    let stamp = Stamp { frame: 5, wall_us: 6 };
    let sei = stamp.sei();
    // Another user's message of 300 bytes, in the same SEI before ours and in one of its own.
    let other = [&[5, 0xff, 45][..], &[7; 300]].concat();
    let joined = [&[6][..], &other, &sei[1..]].concat();
    let apart = [&[6][..], &other, &[0x80]].concat();
    let slice: &[u8] = &[0x41, 0];
    let find = |nals: &[&[u8]]| avc::stamp(&avc::picture(0, false, nals));
    assert_eq!(find(&[&joined, slice]), Some(stamp));
    assert_eq!(find(&[&[9, 0xf0], &apart, &sei, slice]), Some(stamp));
    assert_eq!(find(&[&apart, slice]), None);
    assert_eq!(find(&[slice, &sei]), None, "what follows a slice is not looked at");
    assert_eq!(avc::stamp(&avc::sequence_header(0, &Config::new(SPS, PPS).unwrap())), None);
}

#[test]
fn ten_thousand_mutations_do_not_panic() {
    let originals = [
        stamped(Stamp { frame: 0x0003_0000, wall_us: 1 }).payload.to_vec(),
        avc::sequence_header(0, &Config::new(SPS, PPS).unwrap()).payload.to_vec(),
    ];
    let (mut stamps, mut configs) = (0, 0);
    for seed in 0..10_000 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut bytes = originals[rng.usize(..2)].clone();
        for _ in 0..rng.usize(1..5) {
            let at = rng.usize(..bytes.len());
            match rng.u8(..4) {
                0 => bytes[at] = rng.u8(..),
                1 => bytes[at] = [0, 1, 3, 0xff][rng.usize(..4)],
                2 => bytes.truncate(at.max(1)),
                _ => bytes.insert(at, [0, 0xff][rng.usize(..2)]),
            }
        }
        let unit = video(&bytes);
        stamps += usize::from(avc::stamp(&unit).is_some());
        if let Some(Ok(config)) = Config::of(&unit) {
            configs += 1;
            assert_eq!(Config::parse(&config.build()), Ok(config.clone()), "seed {seed}");
            assert!(config.codec().starts_with("avc1."), "seed {seed}");
        }
        for length_size in 0..=5 {
            if let Ok(nals) = avc::nal_units(&unit, length_size) {
                assert!(nals.iter().map(|nal| nal.len()).sum::<usize>() <= bytes.len(), "seed {seed}");
            }
        }
    }
    assert!(stamps > 500 && configs > 100, "some stay whole: {stamps} stamps, {configs} configurations");
}

#[test]
fn enhanced_rtmp_s_form_of_h264_is_read_as_flv_s() {
    let config = Config::new(SPS, PPS).unwrap();
    let header = video(&[b"\x90avc1", &config.build()[..]].concat());
    assert_eq!(Config::of(&header), Some(Ok(config.clone())));
    assert!(!avc::is_picture(&header));
    let stamp = Stamp { frame: 7, wall_us: 9 };
    let plain = stamped(stamp);
    let nals = &plain.payload[5..];
    // With a composition time, and without.
    for head in [&b"\x91avc1\0\0\x28"[..], b"\x93avc1"] {
        let picture = video(&[head, nals].concat());
        assert!(avc::is_picture(&picture));
        assert_eq!(avc::stamp(&picture), Some(stamp));
        assert_eq!(avc::nal_units(&picture, 4), avc::nal_units(&plain, 4));
        let whole = avc::with_parameter_sets(&picture, &config);
        assert!(whole.payload.starts_with(head) && whole.payload.ends_with(nals));
        assert_eq!(avc::nal_units(&whole, 4).unwrap()[..2], [SPS, PPS]);
    }
    // The mark of the end, another codec, a command to the player.
    for payload in [&b"\x92avc1"[..], b"\x93hvc1\0\0\0\x01\x26", b"\xd3avc1\0"] {
        assert!(!avc::is_picture(&video(payload)), "{payload:?}");
    }
}
