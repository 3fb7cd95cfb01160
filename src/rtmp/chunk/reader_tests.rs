use super::*;
use crate::rtmp::chunk::Writer;
use crate::rtmp::message::{AUDIO, VIDEO};

fn message(kind: u8, timestamp: u32, length: usize) -> Message {
    let payload: Vec<u8> = (0..length).map(|i| (i * 7 + usize::from(kind)) as u8).collect();
    Message { kind, stream: 1, timestamp, payload: payload.into() }
}

/// Reads `bytes` in pieces of `step`.
fn read(bytes: &[u8], step: usize) -> Result<Vec<Message>, Error> {
    let mut reader = Reader::new();
    let mut messages = Vec::new();
    for mut piece in bytes.chunks(step) {
        while let Some(message) = reader.read(&mut piece)? {
            messages.push(message);
        }
        assert!(reader.buffered_bytes() <= MAX_IN_PROGRESS + MAX_HEADER);
    }
    Ok(messages)
}

/// Reads `bytes` as a driver does that is told where to put them, from reads of all sizes up to `most`. Returns how many
/// bytes were put in their place, too.
fn read_in_place(bytes: &[u8], most: usize) -> (Vec<Message>, usize) {
    let (mut reader, mut messages, mut all, mut rest) = (Reader::new(), Vec::new(), 0, bytes);
    let mut rng = fastrand::Rng::with_seed(most as u64);
    while !rest.is_empty() {
        let count = rng.usize(1..=most).min(rest.len());
        let (mut placed, mut beside) = (0, count);
        if let Some(space) = reader.space() {
            if let Some(mut into) = space.into {
                placed = into.remaining_mut().min(count);
                into.put_slice(&rest[..placed]);
            }
            beside = (count - placed).min(space.beside);
        }
        if placed > 0 {
            messages.extend(reader.placed(placed));
        }
        let mut piece = &rest[placed..placed + beside];
        while let Some(message) = reader.read(&mut piece).unwrap() {
            messages.push(message);
        }
        assert!(reader.buffered_bytes() <= MAX_IN_PROGRESS + MAX_HEADER);
        (all, rest) = (all + placed, &rest[placed + beside..]);
    }
    assert_eq!(reader.buffered_bytes(), 0);
    (messages, all)
}

fn full(id: u8, timestamp: u32, length: u32, kind: u8, stream: u32) -> Vec<u8> {
    let mut bytes = vec![id];
    bytes.extend_from_slice(&timestamp.to_be_bytes()[1..]);
    bytes.extend_from_slice(&length.to_be_bytes()[1..]);
    bytes.push(kind);
    bytes.extend_from_slice(&stream.to_le_bytes());
    bytes
}

#[test]
fn large_pictures_are_read_to_where_they_are_kept() {
    let messages: Vec<Message> = (0..40)
        .flat_map(|at| {
            let length = [100_000, 40_000, 200_000, 70_000, 16_000, 3][at as usize % 6];
            [message(VIDEO, at, length), message(AUDIO, at, 300), message(18, at, 90_000)]
        })
        .collect();
    let pictures: usize =
        messages.iter().filter(|message| message.kind == VIDEO).map(|message| message.payload.len()).sum();
    for (chunk_size, least) in
        [(128, 0), (4096, 0), (60_000, pictures / 3), (65_536, pictures / 3), (1 << 24, pictures / 3)]
    {
        let (mut writer, mut bytes) = (Writer::new(), Vec::new());
        writer.set_chunk_size(chunk_size, &mut bytes);
        for message in &messages {
            writer.write(u32::from(message.kind), message, &mut bytes).unwrap();
        }
        for most in [1, 1500, 65_536, 128 * 1024] {
            let (read, placed) = read_in_place(&bytes, most);
            assert!(read == messages, "chunk {chunk_size}, most {most}");
            assert!(
                (least..=pictures).contains(&placed),
                "chunk {chunk_size}, most {most}: {placed} of {pictures}"
            );
            assert_eq!(placed == 0, least == 0);
        }
    }
}

#[test]
fn what_is_announced_is_no_reason_to_make_room() {
    let mut reader = Reader::new();
    let mut bytes = Vec::new();
    Writer::new().set_chunk_size(1 << 24, &mut bytes);
    bytes.extend(full(6, 0, MAX_MESSAGE as u32, VIDEO, 1));
    bytes.push(0);
    assert!(reader.read(&mut &bytes[..]).unwrap().is_none());
    let space = reader.space().expect("a large picture");
    assert_eq!(space.into.expect("room for it").remaining_mut(), FIRST_ROOM - 1);
    assert_eq!(reader.buffered_bytes(), FIRST_ROOM);
}

#[test]
fn what_the_writer_cuts_the_reader_joins_in_any_split() {
    let messages = [
        message(AUDIO, 0, 3),
        message(VIDEO, 0, 70_000),
        message(AUDIO, 20, 3),
        message(AUDIO, 40, 3),
        message(AUDIO, 60, 3),
        message(VIDEO, 40, 0),
        message(VIDEO, 0xff_ffff, 300),
        message(VIDEO, 0x0100_0010, 300),
        message(AUDIO, 50, 1000),
        message(VIDEO, u32::MAX, 129),
        message(VIDEO, 5, 129),
    ];
    for chunk_size in [1, 127, 128, 4096, 65_536] {
        for id_offset in [0, 100, 60_000] {
            let (mut writer, mut bytes) = (Writer::new(), Vec::new());
            writer.set_chunk_size(chunk_size, &mut bytes);
            for message in &messages {
                writer.write(u32::from(message.kind) + id_offset, message, &mut bytes).unwrap();
            }
            for step in [1, 2, 3, 17, 128, 4096, 1 << 20] {
                assert_eq!(read(&bytes, step).unwrap(), messages, "chunk {chunk_size}, step {step}");
            }
        }
    }
}

#[test]
fn messages_interleave_across_chunk_streams() {
    let mut bytes = full(6, 40, 200, VIDEO, 1);
    bytes.extend_from_slice(&[9; 128]);
    bytes.extend(full(4, 41, 2, AUDIO, 1));
    bytes.extend_from_slice(&[8; 2]);
    bytes.push(0xc6);
    bytes.extend_from_slice(&[9; 72]);
    for step in [1, 5, 1000] {
        let messages = read(&bytes, step).unwrap();
        assert_eq!(messages.len(), 2);
        assert_eq!((messages[0].kind, messages[0].payload.len()), (AUDIO, 2));
        assert_eq!((messages[1].kind, &messages[1].payload[..]), (VIDEO, &[9; 200][..]));
    }
}

#[test]
fn a_type_3_header_repeats_the_last_delta() {
    let mut bytes = full(4, 1000, 1, AUDIO, 1);
    bytes.push(1);
    bytes.extend_from_slice(&[0x84, 0, 0, 20, 2]);
    bytes.extend_from_slice(&[0xc4, 3, 0xc4, 4]);
    let times: Vec<u32> = read(&bytes, 1).unwrap().iter().map(|message| message.timestamp).collect();
    assert_eq!(times, [1000, 1020, 1040, 1060]);
    // After a type 0 header its timestamp is the delta (§5.3.1.2.4).
    let mut bytes = full(4, 1000, 1, AUDIO, 1);
    bytes.extend_from_slice(&[1, 0xc4, 2]);
    assert_eq!(read(&bytes, 1).unwrap()[1].timestamp, 2000);
}

#[test]
fn basic_headers_take_one_to_three_bytes() {
    // Chunk stream 64 in both of its longer forms, and the highest there is.
    for (basic, id) in [(&[0x00, 0][..], 64), (&[0x01, 0, 0][..], 64), (&[0x01, 0xff, 0xff][..], 65_599)] {
        let mut bytes = basic.to_vec();
        bytes.extend_from_slice(&full(0, 7, 1, AUDIO, 1)[1..]);
        bytes.push(0xaa);
        let mut reader = Reader::new();
        let message = reader.read(&mut &bytes[..]).unwrap().unwrap();
        assert_eq!((message.timestamp, &message.payload[..]), (7, &[0xaa][..]));
        assert_eq!(reader.streams[0].id, id);
    }
}

#[test]
fn librtmp_may_begin_a_chunk_stream_with_a_type_1_header() {
    let bytes = [0x42, 0, 0, 5, 0, 0, 2, 4, 0, 7];
    let messages = read(&bytes, 1).unwrap();
    assert_eq!((messages[0].kind, messages[0].stream, messages[0].timestamp), (4, 0, 5));
}

#[test]
fn shorter_headers_cannot_begin_a_chunk_stream() {
    assert_eq!(read(&[0x83, 0, 0, 5], 9), Err(Error::NoPreviousHeader(3)));
    assert_eq!(read(&[0xc3], 9), Err(Error::NoPreviousHeader(3)));
}

#[test]
fn a_header_inside_a_message_is_an_error() {
    let mut bytes = full(4, 0, 200, VIDEO, 1);
    bytes.extend_from_slice(&[0; 128]);
    bytes.extend(full(4, 0, 1, VIDEO, 1));
    assert_eq!(read(&bytes, 9), Err(Error::HeaderInsideMessage(4)));
}

#[test]
fn abort_discards_what_has_arrived_of_a_message() {
    let mut bytes = full(4, 0, 200, VIDEO, 1);
    bytes.extend_from_slice(&[0; 128]);
    bytes.extend(full(2, 0, 4, ABORT, 0));
    bytes.extend_from_slice(&[0, 0, 0, 4]);
    bytes.extend(full(4, 9, 1, VIDEO, 1));
    bytes.push(5);
    let mut reader = Reader::new();
    let mut input = &bytes[..];
    let message = reader.read(&mut input).unwrap().unwrap();
    assert_eq!((message.timestamp, &message.payload[..]), (9, &[5][..]));
    assert_eq!(reader.buffered_bytes(), 0);
}

#[test]
fn chunk_sizes_outside_their_range_are_errors() {
    for size in [0, 0x8000_0000, u32::MAX] {
        let mut bytes = full(2, 0, 4, SET_CHUNK_SIZE, 0);
        bytes.extend_from_slice(&u32::to_be_bytes(size));
        assert_eq!(read(&bytes, 4), Err(Error::ChunkSize(size)));
    }
}

#[test]
fn too_long_a_message_is_refused_at_its_header() {
    let bytes = full(4, 0, MAX_MESSAGE as u32 + 1, VIDEO, 1);
    assert_eq!(read(&bytes, 64), Err(Error::MessageTooLong(MAX_MESSAGE as u32 + 1)));
}

#[test]
fn announced_lengths_alone_hold_little_memory() {
    let mut reader = Reader::new();
    for id in 3..3 + 61 {
        let mut bytes = full(id, 0, MAX_MESSAGE as u32, VIDEO, 1);
        bytes.push(0);
        // A chunk is cut by the input's end, and the next header comes only after it.
        bytes.extend_from_slice(&[0; 127]);
        assert_eq!(reader.read(&mut &bytes[..]), Ok(None));
    }
    assert!(reader.buffered_bytes() <= 61 * FIRST_ROOM);
}

#[test]
fn one_long_message_cannot_be_multiplied_by_the_chunk_streams() {
    let (mut writer, mut bytes) = (Writer::new(), Vec::new());
    for id in 3..60 {
        writer.write(id, &message(VIDEO, 0, 1 << 20), &mut bytes).unwrap();
    }
    let mut reader = Reader::new();
    let mut input = &bytes[..];
    while reader.read(&mut input).unwrap().is_some() {}
    for id in 3..60 {
        let mut bytes = full(id, 0, 1 << 20, VIDEO, 1);
        bytes.extend_from_slice(&[0; 128]);
        assert_eq!(reader.read(&mut &bytes[..]), Ok(None));
    }
    assert!(reader.buffered_bytes() <= TRUST_BELOW + (1 << 20) + 57 * FIRST_ROOM);
}

#[test]
fn chunk_streams_and_bytes_in_progress_are_bounded() {
    let mut bytes = Vec::new();
    for id in 0..=MAX_CHUNK_STREAMS as u8 {
        bytes.extend_from_slice(&[0, id]);
        bytes.extend_from_slice(&full(0, 0, 0, AUDIO, 1)[1..]);
    }
    assert_eq!(read(&bytes, 64), Err(Error::TooManyChunkStreams));

    let mut bytes = full(2, 0, 4, SET_CHUNK_SIZE, 0);
    bytes.extend_from_slice(&(MAX_MESSAGE as u32 - 1).to_be_bytes());
    for id in 3..6 {
        bytes.extend(full(id, 0, MAX_MESSAGE as u32, VIDEO, 1));
        bytes.resize(bytes.len() + MAX_MESSAGE - 1, 0);
    }
    assert_eq!(read(&bytes, 1 << 16), Err(Error::TooMuchInProgress));
}

#[test]
fn chunks_of_one_byte_cost_linear_work() {
    // 4 MiB in chunks of one byte on as many chunk streams as there may be. Anything but linear work takes minutes.
    let (mut writer, mut bytes) = (Writer::new(), Vec::new());
    writer.set_chunk_size(1, &mut bytes);
    for id in 3..60 {
        writer.write(id, &message(VIDEO, 0, 1 << 16), &mut bytes).unwrap();
    }
    assert_eq!(read(&bytes, 1 << 16).unwrap().len(), 57);
}
