//! FLV files, read and written without touching a file.
//!
//! [`Reader`] takes bytes in any split and gives [`Unit`]s; [`Writer`] gives the bytes of a header and of tags. Both
//! follow the Flash Video File Format Specification, version 10.1, annex E.
//!
//! ```text
//!  header (9)                          tag (11 + n)                                            repeated
//!  'F' 'L' 'V' version flags offset:4  | 0:4 | type size:3 time:3 time-high:1 stream:3 body:n | 11+n:4 | …
//!                                      PreviousTagSize0                                 PreviousTagSize1
//! ```
//!
//! A reader does not resynchronise: what follows a malformed tag header is noise, and so is an error. A file that
//! ends within a tag is a recording whose writer was interrupted; that is no error, and [`Reader::truncated`] tells.

use super::{Kind, Unit};
use bytes::{Buf, Bytes, BytesMut};
use std::fmt;

/// The largest tag body, in bytes, that is read or written. The same as the limit on an RTMP message, so that what
/// one accepts the other can carry; a 4K keyframe stays well below 2 MiB.
pub const MAX_BODY: usize = 8 << 20;

/// The longest header (its `DataOffset`). Version 1 has 9 bytes; the rest leaves room for what another might add.
const MAX_HEADER: u32 = 4096;

/// Bytes of the fixed header.
const HEADER: usize = 9;

/// Bytes of a tag's header.
const TAG_HEADER: usize = 11;

/// Bytes of a `PreviousTagSize`.
const PREVIOUS_TAG_SIZE: usize = 4;

/// Why bytes are not an FLV file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FlvError {
    /// It begins with these bytes, which no FLV file does.
    NotFlv([u8; HEADER]),
    /// Its version is not 1, the only one there is.
    Version(u8),
    /// `DataOffset` is shorter than the header itself or absurdly long.
    HeaderSize(u32),
    /// A tag's first byte has reserved bits set: the file is damaged.
    Tag(u8),
    /// A tag is encrypted (`Filter` bit), so it cannot be passed on.
    Encrypted,
    /// A tag's body exceeds [`MAX_BODY`]; its size in bytes.
    TooLarge(u32),
}

impl fmt::Display for FlvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFlv(begins) => {
                f.write_str("not an FLV file (it begins with")?;
                for byte in begins {
                    write!(f, " {byte:02x}")?;
                }
                write!(f, ", \"{}\")", begins.escape_ascii())
            }
            Self::Version(version) => write!(f, "FLV version {version} is unknown"),
            Self::HeaderSize(size) => write!(f, "an FLV header cannot have {size} bytes"),
            Self::Tag(byte) => write!(f, "damaged FLV tag (its first byte is {byte:02x})"),
            Self::Encrypted => f.write_str("the FLV file is encrypted"),
            Self::TooLarge(size) => write!(f, "an FLV tag of {size} bytes exceeds the limit of {MAX_BODY}"),
        }
    }
}

impl std::error::Error for FlvError {}

/// What the next bytes are.
#[derive(Clone, Copy, Debug)]
enum Expect {
    Header,
    /// This many bytes of no interest, then a tag.
    Skip(usize),
    Tag,
    /// The input is not FLV, or not any more.
    Failed(FlvError),
}

/// Reads an FLV file from bytes in any split.
///
/// Memory stays below one tag plus one `push` when [`Reader::next`] is called to its end after each push. Units hold
/// their own bytes and nothing of the reader's.
#[derive(Debug)]
pub struct Reader {
    expect: Expect,
    buffer: BytesMut,
}

impl Default for Reader {
    fn default() -> Self {
        Self::new()
    }
}

impl Reader {
    /// A reader at the beginning of a file.
    #[must_use]
    pub fn new() -> Self {
        Self { expect: Expect::Header, buffer: BytesMut::new() }
    }

    /// Takes the next bytes of the file.
    pub fn push(&mut self, mut bytes: &[u8]) {
        match self.expect {
            Expect::Failed(_) => return,
            // What is skipped need not be kept until `next`.
            Expect::Skip(left) if self.buffer.is_empty() => {
                let skipped = left.min(bytes.len());
                bytes.advance(skipped);
                self.skip(left - skipped);
            }
            Expect::Skip(_) | Expect::Header | Expect::Tag => {}
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next unit, or `None` when more bytes are needed. Tags of unknown types are passed over.
    ///
    /// # Errors
    /// [`FlvError`] when the bytes are not FLV; every later call gives the same error.
    #[expect(clippy::should_implement_trait, reason = "an iterator cannot say that it needs more bytes")]
    pub fn next(&mut self) -> Result<Option<Unit>, FlvError> {
        loop {
            match self.step() {
                Ok(Step::Unit(unit)) => return Ok(Some(unit)),
                Ok(Step::Again) => {}
                Ok(Step::Starved) => return Ok(None),
                Err(error) => {
                    self.expect = Expect::Failed(error);
                    self.buffer = BytesMut::new();
                    return Err(error);
                }
            }
        }
    }

    /// Whether the end of the input here would cut the header or a tag short.
    #[must_use]
    pub fn truncated(&self) -> bool {
        match self.expect {
            Expect::Header => true,
            Expect::Tag => !self.buffer.is_empty(),
            // The last PreviousTagSize may be missing: nothing is lost with it.
            Expect::Skip(left) => left > PREVIOUS_TAG_SIZE,
            Expect::Failed(_) => false,
        }
    }

    /// Whether a whole FLV header was read.
    #[must_use]
    pub const fn begun(&self) -> bool {
        !matches!(self.expect, Expect::Header)
    }

    fn skip(&mut self, left: usize) {
        self.expect = if left == 0 { Expect::Tag } else { Expect::Skip(left) };
    }

    fn step(&mut self) -> Result<Step, FlvError> {
        match self.expect {
            Expect::Failed(error) => Err(error),
            Expect::Header => self.header(),
            Expect::Skip(left) => {
                let skipped = left.min(self.buffer.len());
                self.buffer.advance(skipped);
                self.skip(left - skipped);
                Ok(if skipped == left { Step::Again } else { Step::Starved })
            }
            Expect::Tag => self.tag(),
        }
    }

    fn header(&mut self) -> Result<Step, FlvError> {
        let Some(&header) = self.buffer.first_chunk::<HEADER>() else { return Ok(Step::Starved) };
        let [b'F', b'L', b'V', version, _flags, offset @ ..] = header else {
            return Err(FlvError::NotFlv(header));
        };
        if version != 1 {
            return Err(FlvError::Version(version));
        }
        let offset = u32::from_be_bytes(offset);
        if !(HEADER as u32..=MAX_HEADER).contains(&offset) {
            return Err(FlvError::HeaderSize(offset));
        }
        self.expect = Expect::Skip(offset as usize + PREVIOUS_TAG_SIZE);
        Ok(Step::Again)
    }

    fn tag(&mut self) -> Result<Step, FlvError> {
        let Some(&header) = self.buffer.first_chunk::<TAG_HEADER>() else { return Ok(Step::Starved) };
        let [first, s2, s1, s0, t2, t1, t0, t3, _stream @ ..] = header;
        if first & 0xc0 != 0 {
            return Err(FlvError::Tag(first));
        }
        if first & 0x20 != 0 {
            return Err(FlvError::Encrypted);
        }
        let size = u32::from_be_bytes([0, s2, s1, s0]);
        let body = size as usize;
        if body > MAX_BODY {
            return Err(FlvError::TooLarge(size));
        }
        let Some(kind) = kind(first & 0x1f) else {
            self.expect = Expect::Skip(TAG_HEADER + body + PREVIOUS_TAG_SIZE);
            return Ok(Step::Again);
        };
        if self.buffer.len() < TAG_HEADER + body {
            return Ok(Step::Starved);
        }
        self.buffer.advance(TAG_HEADER);
        let payload = Bytes::copy_from_slice(&self.buffer[..body]);
        self.buffer.advance(body);
        self.expect = Expect::Skip(PREVIOUS_TAG_SIZE);
        Ok(Step::Unit(Unit { kind, timestamp: u32::from_be_bytes([t3, t2, t1, t0]), payload }))
    }
}

/// What one step over the buffer came to.
enum Step {
    Unit(Unit),
    Again,
    Starved,
}

const fn kind(number: u8) -> Option<Kind> {
    match number {
        8 => Some(Kind::Audio),
        9 => Some(Kind::Video),
        18 => Some(Kind::Data),
        _ => None,
    }
}

/// Writes an FLV file as pieces of bytes that are each whole.
#[derive(Clone, Copy, Debug)]
pub struct Writer {
    audio: bool,
    video: bool,
}

impl Writer {
    /// Where the header keeps its flags, for a writer that learns of audio late.
    pub const FLAGS_OFFSET: u64 = 4;

    /// Where the body begins in a [tag](Self::tag).
    pub const BODY_OFFSET: usize = TAG_HEADER;

    /// A writer of a file that will hold these.
    #[must_use]
    pub const fn new(audio: bool, video: bool) -> Self {
        Self { audio, video }
    }

    /// The header's flags byte.
    #[must_use]
    pub const fn flags(self) -> u8 {
        (self.audio as u8) << 2 | self.video as u8
    }

    /// The file's header and `PreviousTagSize0`.
    #[must_use]
    pub const fn header(self) -> [u8; HEADER + PREVIOUS_TAG_SIZE] {
        [b'F', b'L', b'V', 1, self.flags(), 0, 0, 0, HEADER as u8, 0, 0, 0, 0]
    }

    /// One tag with its `PreviousTagSize`. Empty when the unit's payload exceeds [`MAX_BODY`], as no reader of ours
    /// would take it.
    #[must_use]
    pub fn tag(self, unit: &Unit) -> Vec<u8> {
        let body: &Bytes = &unit.payload;
        if body.len() > MAX_BODY {
            return Vec::new();
        }
        let [_, s2, s1, s0] = (body.len() as u32).to_be_bytes();
        let [t3, t2, t1, t0] = unit.written_time().to_be_bytes();
        let mut tag = Vec::with_capacity(TAG_HEADER + body.len() + PREVIOUS_TAG_SIZE);
        tag.extend_from_slice(&[unit.kind as u8, s2, s1, s0, t2, t1, t0, t3, 0, 0, 0]);
        tag.extend_from_slice(body);
        tag.extend_from_slice(&((TAG_HEADER + body.len()) as u32).to_be_bytes());
        tag
    }
}
