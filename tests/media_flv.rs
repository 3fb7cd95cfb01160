//! The FLV reader and writer: round trip, any split, hostile bytes.

use punchcast::media::flv::{FlvError, MAX_BODY, Reader, Writer};
use punchcast::media::{Kind, Unit};

/// Units as a cast has them, with timestamps around the 24 bits that FLV keeps together, and an empty body.
fn units() -> Vec<Unit> {
    let mut rng = fastrand::Rng::with_seed(1);
    let mut units = vec![unit(Kind::Data, 0, b"\x02\x00\x0aonMetaData"), unit(Kind::Audio, 3, b"")];
    for timestamp in [0, 33, 0xff_ffff, 0x100_0000, 0x8000_0000, u32::MAX] {
        let body: Vec<u8> = (0..rng.usize(1..1000)).map(|_| rng.u8(..)).collect();
        units.push(unit(if rng.bool() { Kind::Audio } else { Kind::Video }, timestamp, &body));
    }
    units
}

fn unit(kind: Kind, timestamp: u32, payload: &[u8]) -> Unit {
    Unit { kind, timestamp, payload: payload.to_vec().into() }
}

fn file(units: &[Unit]) -> Vec<u8> {
    let writer = Writer::new(true, true);
    let mut file = writer.header().to_vec();
    for unit in units {
        file.extend_from_slice(&writer.tag(unit));
    }
    file
}

/// Everything that a reader makes of `bytes` in pieces of the given sizes: units, and whether the end cut one short.
fn read(bytes: &[u8], mut size: impl FnMut() -> usize) -> (Vec<Unit>, Result<bool, FlvError>) {
    let mut reader = Reader::new();
    let mut units = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (piece, tail) = rest.split_at(size().clamp(1, rest.len()));
        rest = tail;
        reader.push(piece);
        loop {
            match reader.next() {
                Ok(Some(unit)) => units.push(unit),
                Ok(None) => break,
                Err(error) => return (units, Err(error)),
            }
        }
    }
    (units, Ok(reader.truncated()))
}

#[test]
fn what_is_written_is_read_in_any_split() {
    let units = units();
    let file = file(&units);
    for size in [1, 2, 3, 7, 11, 13, 1000, usize::MAX] {
        assert_eq!(read(&file, || size), (units.clone(), Ok(false)), "in pieces of {size}");
    }
    for seed in 0..200 {
        let mut rng = fastrand::Rng::with_seed(seed);
        assert_eq!(read(&file, || rng.usize(1..500)), (units.clone(), Ok(false)), "seed {seed}");
    }
}

#[test]
fn a_tag_has_the_specifications_bytes() {
    let tag = Writer::new(true, true).tag(&unit(Kind::Video, 0x0102_0304, &[0xaa, 0xbb]));
    assert_eq!(tag, [9, 0, 0, 2, 2, 3, 4, 1, 0, 0, 0, 0xaa, 0xbb, 0, 0, 0, 13]);
    assert_eq!(Writer::new(true, false).header(), *b"FLV\x01\x04\0\0\0\x09\0\0\0\0");
}

#[test]
fn a_file_cut_anywhere_gives_its_whole_tags_and_says_whether_one_was_cut() {
    let all = units();
    let file = file(&all);
    let mut ends = vec![13];
    for unit in &all {
        ends.push(ends.last().unwrap() + 11 + unit.payload.len() + 4);
    }
    for cut in 0..=file.len() {
        let whole = ends.iter().filter(|&&end| end - 4 <= cut).count().saturating_sub(1);
        let (units, truncated) = read(&file[..cut], || usize::MAX);
        assert!(units == all[..whole], "cut at {cut}");
        let clean = ends.iter().any(|&end| (end - 4..=end).contains(&cut));
        assert!(cut == 0 || truncated == Ok(!clean), "cut at {cut}: {truncated:?}");
    }
    assert!(Reader::new().truncated(), "an empty file is not whole");
}

#[test]
fn tags_of_unknown_types_are_passed_over_and_longer_headers_are_read() {
    let known = unit(Kind::Audio, 1, b"one");
    let writer = Writer::new(true, false);
    let mut bytes = b"FLV\x01\x04\x00\x00\x00\x0c123\0\0\0\0".to_vec();
    bytes.extend_from_slice(&writer.tag(&known));
    let at = bytes.len();
    bytes.extend_from_slice(&writer.tag(&unit(Kind::Video, 1, b"unknown type")));
    bytes[at] = 15;
    bytes.extend_from_slice(&writer.tag(&known));
    for size in [1, 5, usize::MAX] {
        assert_eq!(read(&bytes, || size), (vec![known.clone(), known.clone()], Ok(false)));
    }
}

#[test]
fn a_unit_keeps_nothing_of_the_file_but_itself() {
    let file = file(&[unit(Kind::Video, 0, b"\x17\x01"), unit(Kind::Data, 0, &vec![7; 1 << 20])]);
    for size in [1 << 16, usize::MAX] {
        for unit in read(&file, || size).0 {
            let kept = unit.payload.try_into_mut().expect("nobody else has a part of it");
            assert_eq!(kept.capacity(), kept.len());
        }
    }
}

#[test]
fn what_is_not_flv_is_refused_with_a_reason() {
    let refused = |bytes: &[u8]| read(bytes, || usize::MAX).1.unwrap_err().to_string();
    assert_eq!(
        refused(b"\0\0\0\x20ftypisom"),
        "not an FLV file (it begins with 00 00 00 20 66 74 79 70 69, \"\\x00\\x00\\x00 ftypi\")"
    );
    assert_eq!(refused(b"FLV\x02\x05\0\0\0\x09"), "FLV version 2 is unknown");
    assert_eq!(refused(b"FLV\x01\x05\0\0\0\x08"), "an FLV header cannot have 8 bytes");
    assert_eq!(refused(b"FLV\x01\x05\x10\0\0\x09"), "an FLV header cannot have 268435465 bytes");
    let header = Writer::new(true, true).header();
    let tag = |first: u8, size: [u8; 3]| [&header[..], &[first], &size, &[0; 7]].concat();
    assert_eq!(refused(&tag(0x29, [0, 0, 1])), "the FLV file is encrypted");
    assert_eq!(refused(&tag(0x89, [0, 0, 1])), "damaged FLV tag (its first byte is 89)");
    assert_eq!(refused(&tag(9, [0x80, 0, 1])), "an FLV tag of 8388609 bytes exceeds the limit of 8388608");
}

#[test]
fn an_error_stays_and_what_follows_it_is_not_kept() {
    let mut reader = Reader::new();
    reader.push(b"no FLV at all");
    let error = reader.next().unwrap_err();
    reader.push(&file(&units()));
    assert_eq!(reader.next().unwrap_err(), error);
}

#[test]
fn a_body_beyond_the_limit_is_not_written() {
    let writer = Writer::new(false, true);
    assert_eq!(writer.tag(&unit(Kind::Video, 0, &vec![0; MAX_BODY])).len(), 11 + MAX_BODY + 4);
    assert!(writer.tag(&unit(Kind::Video, 0, &vec![0; MAX_BODY + 1])).is_empty());
}

#[test]
fn ten_thousand_mutated_files_neither_panic_nor_give_more_than_they_hold() {
    let file = file(&units());
    let mut errors = 0;
    for seed in 0..10_000 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut mutated = file.clone();
        for _ in 0..rng.usize(1..8) {
            // Headers stand at the beginning of small files: half of the mutations go there.
            let reach = if rng.bool() { mutated.len().min(64) } else { mutated.len() };
            let at = rng.usize(..reach);
            let byte = rng.u8(..);
            match rng.u8(..4) {
                0 => mutated[at] = byte,
                1 => mutated[at] ^= 1 << (byte & 7),
                2 => mutated.insert(at, byte),
                _ if rng.u8(..8) == 0 => mutated.truncate(at.max(1)),
                _ => drop(mutated.splice(at..at + 1, [0xff, byte])),
            }
        }
        let (units, outcome) = read(&mutated, || rng.usize(1..4096));
        let given: usize = units.iter().map(|unit| 11 + unit.payload.len()).sum();
        assert!(given <= mutated.len(), "seed {seed}: more was given than read");
        errors += usize::from(outcome.is_err());
        assert!(
            (units, outcome) == read(&mutated, || usize::MAX),
            "seed {seed}: the split made a difference"
        );
    }
    assert!(errors > 1000, "mutations reach the checks: {errors}");
}
