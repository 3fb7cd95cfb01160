//! Messages to chunks.

use super::{DEFAULT_CHUNK_SIZE, EXTENDED, MAX_MESSAGE, Output};
use crate::rtmp::Error;
use crate::rtmp::message::{Message, SET_CHUNK_SIZE};

/// Cuts messages into chunks, with the shortest header that says what must be said. What becomes of the
/// payload is for the [`Output`] to say.
#[derive(Debug)]
pub struct Writer {
    chunk_size: usize,
    streams: Vec<Last>,
}

/// What the last header on a chunk stream said.
#[derive(Debug)]
struct Last {
    id: u32,
    kind: u8,
    stream: u32,
    timestamp: u32,
    length: usize,
    /// The delta, if the header had one.
    delta: Option<u32>,
}

impl Default for Writer {
    fn default() -> Self {
        Self::new()
    }
}

impl Writer {
    /// A writer at the beginning of a chunk stream.
    #[must_use]
    pub const fn new() -> Self {
        Self { chunk_size: DEFAULT_CHUNK_SIZE as usize, streams: Vec::new() }
    }

    /// Announces `size` and cuts what follows by it. A `size` outside 1..=0x7fffffff is brought into it.
    pub fn set_chunk_size(&mut self, size: u32, out: &mut impl Output) {
        let size = size.clamp(1, i32::MAX as u32);
        let message = Message::control(SET_CHUNK_SIZE, &size.to_be_bytes());
        self.cut(super::CONTROL, &message, out);
        self.chunk_size = size as usize;
    }

    /// Appends `message` to `out`, on chunk stream `id` (2..=65599).
    ///
    /// # Errors
    /// If the payload is longer than [`MAX_MESSAGE`]; nothing is written then.
    pub fn write(&mut self, id: u32, message: &Message, out: &mut impl Output) -> Result<(), Error> {
        if message.payload.len() > MAX_MESSAGE {
            return Err(Error::TooLarge(message.payload.len()));
        }
        self.cut(id, message, out);
        Ok(())
    }

    fn cut(&mut self, id: u32, message: &Message, out: &mut impl Output) {
        let length = message.payload.len();
        let mut first = Head::default();
        let extended = self.header(id, message, &mut first);
        let mut next = Head::default();
        next.basic(3, id);
        if let Some(time) = extended {
            // The standard has it, and so do ffmpeg, librtmp and FMS, on every continuation too (§5.3.1.3).
            next.push(&time.to_be_bytes());
        }
        let continuations = length.saturating_sub(1) / self.chunk_size;
        out.reserve(first.len + continuations * next.len, length, self.chunk_size.min(length));
        out.header(first.bytes());
        let mut end = length.min(self.chunk_size);
        out.payload(&message.payload, 0..end);
        while end < length {
            let begin = end;
            end = length.min(begin + self.chunk_size);
            out.header(next.bytes());
            out.payload(&message.payload, begin..end);
        }
    }

    /// Writes the first header of `message`; returns the extended timestamp if it has one.
    fn header(&mut self, id: u32, message: &Message, head: &mut Head) -> Option<u32> {
        let length = message.payload.len();
        let index = self.streams.iter().position(|last| last.id == id);
        // A delta that needs an extended timestamp is read differently by different peers; a full header is not.
        let delta = index
            .map(|index| &self.streams[index])
            .filter(|last| last.stream == message.stream)
            .map(|last| (last, message.timestamp.wrapping_sub(last.timestamp)))
            .filter(|&(_, delta)| delta < EXTENDED);
        let (time, delta) = match delta {
            None => {
                head.basic(0, id);
                head.u24(message.timestamp.min(EXTENDED));
                head.u24(length as u32);
                head.push(&[message.kind]);
                head.push(&message.stream.to_le_bytes());
                (message.timestamp, None)
            }
            Some((last, delta)) if last.kind != message.kind || last.length != length => {
                head.basic(1, id);
                head.u24(delta);
                head.u24(length as u32);
                head.push(&[message.kind]);
                (delta, Some(delta))
            }
            // After a full header the meaning of type 3 is disputed (its timestamp again, or zero), so it is left out.
            Some((last, delta)) if last.delta != Some(delta) => {
                head.basic(2, id);
                head.u24(delta);
                (delta, Some(delta))
            }
            Some((_, delta)) => {
                head.basic(3, id);
                (delta, Some(delta))
            }
        };
        let last = Last {
            id,
            kind: message.kind,
            stream: message.stream,
            timestamp: message.timestamp,
            length,
            delta,
        };
        match index {
            Some(index) => self.streams[index] = last,
            None => self.streams.push(last),
        }
        (time >= EXTENDED).then(|| {
            head.push(&time.to_be_bytes());
            time
        })
    }
}

/// A header under construction.
#[derive(Default)]
struct Head {
    bytes: [u8; 18],
    len: usize,
}

impl Head {
    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    fn u24(&mut self, number: u32) {
        self.push(&number.to_be_bytes()[1..]);
    }

    fn basic(&mut self, format: u8, id: u32) {
        debug_assert!((2..=65_599).contains(&id), "chunk stream {id} does not exist");
        let format = format << 6;
        match id {
            0..=63 => self.push(&[format | id as u8]),
            64..=319 => self.push(&[format, (id - 64) as u8]),
            _ => self.push(&[format | 1, (id - 64) as u8, ((id - 64) >> 8) as u8]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtmp::message::{AUDIO, VIDEO};

    fn message(kind: u8, timestamp: u32, length: usize) -> Message {
        Message { kind, stream: 1, timestamp, payload: vec![kind; length].into() }
    }

    fn written(writer: &mut Writer, id: u32, message: &Message) -> Vec<u8> {
        let mut out = Vec::new();
        writer.write(id, message, &mut out).unwrap();
        out
    }

    #[test]
    fn headers_are_those_of_the_specifications_example() {
        // §5.3.2.1: four audio messages of 32 bytes, 20 ms apart, on chunk stream 3.
        let mut writer = Writer::new();
        let mut audio = Message { stream: 12345, ..message(AUDIO, 1000, 32) };
        let first = written(&mut writer, 3, &audio);
        assert_eq!(first[..12], [3, 0, 3, 0xe8, 0, 0, 32, 8, 0x39, 0x30, 0, 0]);
        assert_eq!(first.len(), 44);
        let mut sizes = Vec::new();
        for timestamp in [1020, 1040, 1060] {
            audio.timestamp = timestamp;
            sizes.push(written(&mut writer, 3, &audio).len());
        }
        assert_eq!(sizes, [36, 33, 33]);
    }

    #[test]
    fn a_long_message_is_cut_as_in_the_specifications_example() {
        // §5.3.2.2: a video message of 307 bytes in chunks of 128.
        let mut writer = Writer::new();
        let out = written(&mut writer, 4, &message(VIDEO, 1000, 307));
        assert_eq!(out.len(), 140 + 129 + 52);
        assert_eq!((out[0], out[140], out[269]), (4, 0xc4, 0xc4));
    }

    #[test]
    fn extended_timestamps_stand_in_every_chunk() {
        let mut writer = Writer::new();
        let out = written(&mut writer, 4, &message(VIDEO, 0x0100_0000, 200));
        assert_eq!(out[1..4], [0xff, 0xff, 0xff]);
        assert_eq!(out[12..16], [1, 0, 0, 0]);
        assert_eq!(out[16 + 128..][..5], [0xc4, 1, 0, 0, 0]);
        assert_eq!(out.len(), 16 + 128 + 5 + 72);
        // A small delta needs none, whatever the clock says.
        assert_eq!(written(&mut writer, 4, &message(VIDEO, 0x0100_0028, 200)).len(), 4 + 128 + 1 + 72);
    }

    #[test]
    fn a_clock_that_goes_back_gets_a_full_header() {
        let mut writer = Writer::new();
        written(&mut writer, 4, &message(VIDEO, 1000, 10));
        assert_eq!(written(&mut writer, 4, &message(VIDEO, 990, 10)).len(), 12 + 10);
    }

    #[test]
    fn the_new_chunk_size_rules_after_its_announcement() {
        let mut writer = Writer::new();
        let mut out = Vec::new();
        writer.set_chunk_size(65_536, &mut out);
        assert_eq!(out, [2, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0, 0, 1, 0, 0]);
        assert_eq!(written(&mut writer, 4, &message(VIDEO, 0, 65_536)).len(), 12 + 65_536);
    }

    #[test]
    fn room_is_reserved_exactly() {
        for (id, timestamp, length) in [(4, 0, 0), (64, 0, 1), (70_000 - 4_500, 1 << 30, 5000), (4, 5, 128)] {
            let mut writer = Writer::new();
            let out = written(&mut writer, id, &message(VIDEO, timestamp, length));
            assert_eq!(out.capacity(), out.len().max(8), "chunk stream {id}, {length} bytes");
        }
    }

    #[test]
    fn too_long_a_message_is_refused() {
        let mut out = Vec::new();
        let result = Writer::new().write(4, &message(VIDEO, 0, MAX_MESSAGE + 1), &mut out);
        assert_eq!(result, Err(Error::TooLarge(MAX_MESSAGE + 1)));
        assert!(out.is_empty());
    }
}
