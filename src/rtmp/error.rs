//! What ends a session.

use super::amf0;
use std::fmt;

/// Why a session is over. Everything but [`Error::NotReady`] and [`Error::TooLarge`] is final.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// C0 or S0 names a version other than 3 (RTMP 1.0 §5.2.2).
    Version(u8),
    /// A chunk header announces a message longer than [`super::chunk::MAX_MESSAGE`].
    MessageTooLong(u32),
    /// More chunk streams than [`super::chunk::MAX_CHUNK_STREAMS`].
    TooManyChunkStreams,
    /// Unfinished messages hold more than [`super::chunk::MAX_IN_PROGRESS`].
    TooMuchInProgress,
    /// A compressed header on a chunk stream that has had no full one.
    NoPreviousHeader(u32),
    /// A new message header before the last message of the chunk stream was complete.
    HeaderInsideMessage(u32),
    /// Set Chunk Size outside 1..=0x7fffffff (§5.4.1).
    ChunkSize(u32),
    /// A protocol control or user control message shorter than its fields.
    ControlTooShort(u8),
    /// An aggregate of more units than a server would gather.
    TooManyUnits,
    /// A command longer than [`super::message::MAX_COMMAND`].
    CommandTooLong(usize),
    /// A command that is not AMF0.
    Amf(amf0::Error),
    /// A command that this side cannot take in its state.
    UnexpectedCommand(&'static str),
    /// More message streams than one connection may have.
    TooManyStreams,
    /// The client sends on and on before its request is answered.
    TooHasty,
    /// The peer refused what was asked.
    Refused {
        /// Which command.
        command: &'static str,
        /// The peer's status code, such as `NetStream.Publish.BadName`.
        code: String,
        /// The peer's words.
        description: String,
    },
    /// The unit is longer than [`super::chunk::MAX_MESSAGE`]; it was not sent.
    TooLarge(usize),
    /// Nothing is being published or played yet; the unit was not sent.
    NotReady,
    /// The session failed before.
    Over,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => {
                write!(f, "the other side does not speak RTMP: its first byte is {version}, and not 3")
            }
            Self::MessageTooLong(length) => write!(f, "message of {length} bytes exceeds the limit"),
            Self::TooManyChunkStreams => f.write_str("too many chunk streams"),
            Self::TooMuchInProgress => f.write_str("too many bytes in unfinished messages"),
            Self::NoPreviousHeader(id) => write!(f, "chunk stream {id} begins with a compressed header"),
            Self::HeaderInsideMessage(id) => write!(f, "new header inside a message on chunk stream {id}"),
            Self::ChunkSize(size) => write!(f, "chunk size {size} is not valid"),
            Self::ControlTooShort(kind) => write!(f, "control message of type {kind} is too short"),
            Self::TooManyUnits => f.write_str("too many units in an aggregate"),
            Self::CommandTooLong(length) => write!(f, "command of {length} bytes exceeds the limit"),
            Self::Amf(error) => write!(f, "bad command: {error}"),
            Self::UnexpectedCommand(name) => write!(f, "unexpected command {name}"),
            Self::TooManyStreams => f.write_str("too many message streams"),
            Self::TooHasty => f.write_str("too many bytes before an answer"),
            Self::Refused { command, code, description } => {
                write!(f, "{command} refused: {code} ({description})")
            }
            Self::TooLarge(length) => write!(f, "unit of {length} bytes exceeds the message limit"),
            Self::NotReady => f.write_str("no stream to send on yet"),
            Self::Over => f.write_str("the session is over"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        if let Self::Amf(error) = self { Some(error) } else { None }
    }
}

impl From<amf0::Error> for Error {
    fn from(error: amf0::Error) -> Self {
        Self::Amf(error)
    }
}
