//! The chunk layer: what is read can be written, and reads as the same again; memory stays within its limit.
#![no_main]

use libfuzzer_sys::fuzz_target;
use punchcast::rtmp::chunk::{MAX_IN_PROGRESS, Reader, Writer};

fuzz_target!(|data: &[u8]| {
    let (mut reader, mut messages) = (Reader::new(), Vec::new());
    let mut input = data;
    while let Ok(Some(message)) = reader.read(&mut input) {
        assert!(reader.buffered_bytes() <= MAX_IN_PROGRESS + 18);
        messages.push(message);
    }
    let (mut writer, mut bytes) = (Writer::new(), Vec::new());
    writer.set_chunk_size(1 + u32::from(data.first().copied().unwrap_or_default()), &mut bytes);
    for message in &messages {
        writer
            .write(u32::from(message.kind) + 3, message, &mut bytes)
            .expect("what was read is short enough");
    }
    let (mut reader, mut input) = (Reader::new(), &bytes[..]);
    for message in &messages {
        assert_eq!(reader.read(&mut input).expect("well formed").as_ref(), Some(message));
    }
});
