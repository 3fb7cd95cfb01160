//! Chunks to messages.
//!
//! Payload is copied once, from the input into the message's own buffer, or read right into it ([`Reader::space`]).
//! Reassembly is kept per chunk stream, since an audio chunk between two chunks of a video message is legal. Work is
//! constant per chunk and per byte, so a peer that chooses a chunk size of 1 pays as much as it costs.

use super::{CONTROL, DEFAULT_CHUNK_SIZE, EXTENDED, MAX_CHUNK_STREAMS, MAX_IN_PROGRESS, MAX_MESSAGE};
use crate::app::Space;
use crate::rtmp::Error;
use crate::rtmp::message::{ABORT, Message, SET_CHUNK_SIZE, VIDEO};
use bytes::{BufMut as _, Bytes};

/// Reassembles messages from chunks. Set Chunk Size and Abort are obeyed here, at their place in the stream.
#[derive(Debug)]
pub struct Reader {
    chunk_size: u32,
    streams: Vec<ChunkStream>,
    /// The chunk stream whose payload is being read, or was last.
    current: usize,
    /// How much payload is left in the current chunk.
    left: usize,
    /// The beginning of a header that the last input ended in.
    partial: [u8; MAX_HEADER],
    partial_len: usize,
    /// The capacity of all messages in progress.
    in_progress: usize,
    /// Whether the last picture was worth a read of its own, beside that of its header.
    large: bool,
}

#[derive(Debug)]
struct ChunkStream {
    id: u32,
    kind: u8,
    /// The message stream.
    stream: u32,
    timestamp: u32,
    /// What a type 3 header that begins a message adds.
    delta: u32,
    /// Whether the last timestamp field was [`EXTENDED`].
    extended: bool,
    length: usize,
    /// The header of a chunk that goes on with the message, where one byte is all of it.
    continuation: Option<u8>,
    /// Whether a message has begun and not ended.
    open: bool,
    payload: Vec<u8>,
    /// The longest message that the peer has really sent here: what may be reserved for the next at once.
    proven: usize,
}

/// A chunk's header.
#[derive(Debug)]
struct Header {
    /// How many bytes it takes.
    size: usize,
    id: u32,
    /// Where in `streams`, if there already.
    index: Option<usize>,
    fields: Fields,
    /// The timestamp or delta, or the extended one.
    time: u32,
    extended: bool,
}

#[derive(Clone, Copy, Debug)]
enum Fields {
    Full { length: u32, kind: u8, stream: u32 },
    SameStream { length: u32, kind: u8 },
    SameLength,
    Nothing,
}

impl Default for Reader {
    fn default() -> Self {
        Self::new()
    }
}

impl Reader {
    /// A reader at the beginning of a chunk stream.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            chunk_size: DEFAULT_CHUNK_SIZE,
            streams: Vec::new(),
            current: 0,
            left: 0,
            partial: [0; MAX_HEADER],
            partial_len: 0,
            in_progress: 0,
            large: false,
        }
    }

    /// Where the next bytes are to be read to; `None` if copying them costs less. Changes nothing that is read.
    pub fn space(&mut self) -> Option<Space<'_>> {
        if self.left < LARGE {
            // A picture's header may come next, and is not to bring all of the picture with it.
            let begins = self.left == 0 && self.large && self.chunk_size as usize >= LARGE;
            return begins.then_some(Space { into: None, beside: BESIDE });
        }
        let stream = &mut self.streams[self.current];
        if stream.kind != VIDEO {
            return None;
        }
        if stream.payload.capacity() == stream.payload.len() {
            self.in_progress = stream.grow(self.left.min(FIRST_ROOM), self.in_progress).ok()?;
        }
        let room = stream.payload.capacity() - stream.payload.len();
        Some(Space { into: Some((&mut stream.payload).limit(self.left.min(room))), beside: BESIDE })
    }

    /// Takes `count` bytes that were read to where [`space`](Self::space) said last; the picture that they complete.
    pub fn placed(&mut self, count: usize) -> Option<Message> {
        self.left = self.left.saturating_sub(count);
        let stream = self.streams.get(self.current)?;
        (stream.payload.len() == stream.length).then(|| self.finish())
    }

    /// Consumes from `input` until a message is complete; `None` means that all of it is consumed.
    ///
    /// # Errors
    /// If the peer breaks the protocol or a limit. The reader must not be used any further.
    pub fn read(&mut self, input: &mut &[u8]) -> Result<Option<Message>, Error> {
        while !input.is_empty() {
            let complete = if self.left > 0 { self.take_payload(input)? } else { self.take_header(input)? };
            if !complete {
                continue;
            }
            let message = self.finish();
            match message.kind {
                SET_CHUNK_SIZE => self.set_chunk_size(&message)?,
                ABORT => self.abort(&message)?,
                _ => return Ok(Some(message)),
            }
        }
        Ok(None)
    }

    /// How many bytes it holds: the capacity of unfinished messages.
    #[must_use]
    pub const fn buffered_bytes(&self) -> usize {
        self.in_progress + self.partial_len
    }

    /// The peer's chunk size.
    #[must_use]
    pub const fn chunk_size(&self) -> u32 {
        self.chunk_size
    }

    /// Copies payload; true when the message is complete. A chunk is most often followed by the next of the same
    /// message, whose header is one known byte, so that one is passed over here.
    fn take_payload(&mut self, input: &mut &[u8]) -> Result<bool, Error> {
        let chunk_size = self.chunk_size as usize;
        let stream = &mut self.streams[self.current];
        let (mut rest, mut left) = (*input, self.left);
        let missing = loop {
            let (piece, after) = rest.split_at(left.min(rest.len()));
            if stream.payload.capacity() - stream.payload.len() < piece.len() {
                self.in_progress = stream.grow(piece.len(), self.in_progress)?;
            }
            stream.payload.extend_from_slice(piece);
            rest = after;
            left -= piece.len();
            let missing = stream.length - stream.payload.len();
            match (rest.split_first(), stream.continuation) {
                (Some((&byte, after)), Some(known)) if byte == known && left == 0 && missing > 0 => {
                    rest = after;
                    left = chunk_size.min(missing);
                }
                _ => break missing,
            }
        };
        *input = rest;
        self.left = left;
        Ok(missing == 0)
    }

    /// Takes a header as far as it is there; true when it is all of a message.
    fn take_header(&mut self, input: &mut &[u8]) -> Result<bool, Error> {
        if self.partial_len == 0
            && let Some(header) = self.parse_header(input)
        {
            *input = &input[header.size..];
            return self.begin_chunk(&header);
        }
        // The header is split between inputs. It grows byte by byte, so that nothing beyond it is taken.
        while let Some((&byte, rest)) = input.split_first() {
            self.partial[self.partial_len] = byte;
            self.partial_len += 1;
            *input = rest;
            if let Some(header) = self.parse_header(&self.partial[..self.partial_len]) {
                debug_assert_eq!(header.size, self.partial_len, "the header ended before its last byte");
                self.partial_len = 0;
                return self.begin_chunk(&header);
            }
        }
        Ok(false)
    }

    /// The header at the beginning of `bytes`; `None` if it is cut short. Changes nothing.
    fn parse_header(&self, bytes: &[u8]) -> Option<Header> {
        let &first = bytes.first()?;
        let (id, basic) = match first & 0x3f {
            0 => (64 + u32::from(*bytes.get(1)?), 2),
            1 => (64 + u32::from(*bytes.get(1)?) + 256 * u32::from(*bytes.get(2)?), 3),
            id => (u32::from(id), 1),
        };
        let index = self.find(id);
        let bytes = bytes.get(basic..)?;
        let (fields, field, size) = match first >> 6 {
            0 => {
                let b: &[u8; 11] = bytes.first_chunk()?;
                let stream = u32::from_le_bytes([b[7], b[8], b[9], b[10]]);
                (Fields::Full { length: u24(b, 3), kind: b[6], stream }, Some(u24(b, 0)), 11)
            }
            1 => {
                let b: &[u8; 7] = bytes.first_chunk()?;
                (Fields::SameStream { length: u24(b, 3), kind: b[6] }, Some(u24(b, 0)), 7)
            }
            2 => {
                let b: &[u8; 3] = bytes.first_chunk()?;
                (Fields::SameLength, Some(u24(b, 0)), 3)
            }
            _ => (Fields::Nothing, None, 0),
        };
        let last = index.map(|index| &self.streams[index]);
        let extended =
            field.map_or_else(|| last.is_some_and(|last| last.extended), |field| field == EXTENDED);
        let (time, extension) = if extended {
            (u32::from_be_bytes(*bytes.get(size..)?.first_chunk()?), 4)
        } else {
            (field.unwrap_or_else(|| last.map_or(0, |last| last.delta)), 0)
        };
        Some(Header { size: basic + size + extension, id, index, fields, time, extended })
    }

    /// Where chunk stream `id` is. Media comes in runs on one chunk stream, so the last one is tried first.
    fn find(&self, id: u32) -> Option<usize> {
        match self.streams.get(self.current) {
            Some(stream) if stream.id == id => Some(self.current),
            _ => self.streams.iter().position(|stream| stream.id == id),
        }
    }

    /// Applies a header; true when the message has no payload at all.
    fn begin_chunk(&mut self, header: &Header) -> Result<bool, Error> {
        let index = match (header.index, header.fields) {
            (Some(index), _) => index,
            // librtmp opens its control stream with a type 1 header; message stream 0 is meant.
            (None, Fields::Full { .. } | Fields::SameStream { .. }) => self.add_stream(header.id)?,
            (None, Fields::SameLength | Fields::Nothing) => return Err(Error::NoPreviousHeader(header.id)),
        };
        let stream = &mut self.streams[index];
        if !stream.open {
            stream.begin_message(header)?;
        } else if !matches!(header.fields, Fields::Nothing) {
            return Err(Error::HeaderInsideMessage(header.id));
        }
        self.current = index;
        self.left = (self.chunk_size as usize).min(stream.length - stream.payload.len());
        Ok(stream.length == 0)
    }

    fn add_stream(&mut self, id: u32) -> Result<usize, Error> {
        if self.streams.len() == MAX_CHUNK_STREAMS {
            return Err(Error::TooManyChunkStreams);
        }
        self.streams.push(ChunkStream::new(id));
        Ok(self.streams.len() - 1)
    }

    /// Takes the complete message out of the current chunk stream.
    fn finish(&mut self) -> Message {
        let stream = &mut self.streams[self.current];
        self.in_progress -= stream.payload.capacity();
        stream.open = false;
        stream.proven = stream.proven.max(stream.length);
        if stream.kind == VIDEO {
            self.large = stream.length >= 2 * LARGE;
        }
        let payload = Bytes::from(std::mem::take(&mut stream.payload));
        Message { kind: stream.kind, stream: stream.stream, timestamp: stream.timestamp, payload }
    }

    fn set_chunk_size(&mut self, message: &Message) -> Result<(), Error> {
        let size = leading_u32(message)?;
        // The top bit must be zero, and a chunk of nothing would never end.
        if size == 0 || size > i32::MAX as u32 {
            return Err(Error::ChunkSize(size));
        }
        self.chunk_size = size;
        Ok(())
    }

    fn abort(&mut self, message: &Message) -> Result<(), Error> {
        let id = leading_u32(message)?;
        if id != CONTROL
            && let Some(index) = self.find(id)
        {
            let stream = &mut self.streams[index];
            self.in_progress -= stream.payload.capacity();
            stream.payload = Vec::new();
            stream.open = false;
        }
        Ok(())
    }
}

impl ChunkStream {
    const fn new(id: u32) -> Self {
        Self {
            id,
            kind: 0,
            stream: 0,
            timestamp: 0,
            delta: 0,
            extended: false,
            continuation: None,
            length: 0,
            open: false,
            payload: Vec::new(),
            proven: 0,
        }
    }

    fn begin_message(&mut self, header: &Header) -> Result<(), Error> {
        match header.fields {
            Fields::Full { length, kind, stream } => {
                self.set_length(length)?;
                (self.kind, self.stream, self.timestamp) = (kind, stream, header.time);
            }
            Fields::SameStream { length, kind } => {
                self.set_length(length)?;
                self.kind = kind;
                self.timestamp = self.timestamp.wrapping_add(header.time);
            }
            Fields::SameLength | Fields::Nothing => {
                self.timestamp = self.timestamp.wrapping_add(header.time);
            }
        }
        // A type 3 header after a type 0 one takes its timestamp for the delta (§5.3.1.2.4).
        (self.delta, self.extended, self.open) = (header.time, header.extended, true);
        self.continuation =
            u8::try_from(self.id).ok().filter(|id| *id < 64 && !self.extended).map(|id| 0xc0 | id);
        Ok(())
    }

    fn set_length(&mut self, length: u32) -> Result<(), Error> {
        let bytes = length as usize;
        if bytes > MAX_MESSAGE {
            return Err(Error::MessageTooLong(length));
        }
        self.length = bytes;
        Ok(())
    }

    /// Makes room for `take` more bytes; returns the new sum of what is in progress. The room follows what the peer
    /// has sent, at this message or an earlier one, never what it announces alone.
    #[cold]
    fn grow(&mut self, take: usize, in_progress: usize) -> Result<usize, Error> {
        let others = in_progress - self.payload.capacity();
        let trusted = if others <= TRUST_BELOW { self.proven } else { 0 };
        let wanted = (self.payload.len() + take).max(2 * self.payload.capacity());
        let wanted = wanted.max(FIRST_ROOM).max(trusted).min(self.length);
        if others + wanted > MAX_IN_PROGRESS {
            return Err(Error::TooMuchInProgress);
        }
        self.payload.reserve_exact(wanted - self.payload.len());
        Ok(others + self.payload.capacity())
    }
}

fn leading_u32(message: &Message) -> Result<u32, Error> {
    let bytes = message.payload.first_chunk().ok_or(Error::ControlTooShort(message.kind))?;
    Ok(u32::from_be_bytes(*bytes))
}

/// The three bytes at `at`, big-endian.
fn u24(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([0, bytes[at], bytes[at + 1], bytes[at + 2]])
}

/// Basic header, message header, extended timestamp.
const MAX_HEADER: usize = 3 + 11 + 4;

/// The room that a message gets at its first byte, as far as its length allows: what most frames need, and small
/// enough that all chunk streams together stay below [`MAX_IN_PROGRESS`].
const FIRST_ROOM: usize = 64 * 1024;

/// A message's room begins at the size of its predecessor only while the other chunk streams hold less than this, so
/// that a peer cannot multiply one long message by the number of chunk streams.
const TRUST_BELOW: usize = 4 * 1024 * 1024;

/// Payload that is worth a read of its own: what that costs copies as much.
const LARGE: usize = 16 * 1024;

/// What is read beside it, or before its header is known: a header, and small messages between large ones.
const BESIDE: usize = 4 * 1024;

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
