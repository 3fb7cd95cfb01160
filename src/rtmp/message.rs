//! RTMP messages (§6), the control messages among them (§5.4, §7.1.7), and commands (§7.2).

use super::Error;
use super::amf0::{self, Decoder, Value};
use bytes::Bytes;

/// The longest command, bytes. ffmpeg's and OBS's `connect` take a few hundred; metadata is no command.
pub const MAX_COMMAND: usize = 64 * 1024;

/// Set Chunk Size (§5.4.1).
pub const SET_CHUNK_SIZE: u8 = 1;
/// Abort Message (§5.4.2).
pub const ABORT: u8 = 2;
/// Acknowledgement (§5.4.3).
pub const ACKNOWLEDGEMENT: u8 = 3;
/// User Control (§7.1.7).
pub const USER_CONTROL: u8 = 4;
/// Window Acknowledgement Size (§5.4.4).
pub const WINDOW_ACK_SIZE: u8 = 5;
/// Set Peer Bandwidth (§5.4.5).
pub const SET_PEER_BANDWIDTH: u8 = 6;
/// Audio (§7.1.4).
pub const AUDIO: u8 = 8;
/// Video (§7.1.5).
pub const VIDEO: u8 = 9;
/// Data in AMF3 form: a byte and AMF0.
pub const DATA_AMF3: u8 = 15;
/// A command in AMF3 form: a byte and AMF0.
pub const COMMAND_AMF3: u8 = 17;
/// Data (§7.1.2).
pub const DATA: u8 = 18;
/// A command (§7.1.1).
pub const COMMAND: u8 = 20;
/// Several messages in one, each as an FLV tag (§7.1.6).
pub const AGGREGATE: u8 = 22;

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The message type, one of this module's constants or one unknown.
    pub kind: u8,
    /// The message stream; 0 is the connection itself.
    pub stream: u32,
    /// Milliseconds, modulo 2^32.
    pub timestamp: u32,
    /// The payload.
    pub payload: Bytes,
}

impl Message {
    /// A control message: on message stream 0, its clock ignored.
    #[must_use]
    pub fn control(kind: u8, payload: &[u8]) -> Self {
        Self { kind, stream: 0, timestamp: 0, payload: Bytes::copy_from_slice(payload) }
    }

    /// A command on message stream `stream`.
    #[must_use]
    pub fn command(stream: u32, name: &str, transaction: f64, values: &[Value]) -> Self {
        let mut payload = Vec::with_capacity(256);
        amf0::encode_string(name, &mut payload);
        Value::Number(transaction).encode(&mut payload);
        values.iter().for_each(|value| value.encode(&mut payload));
        Self { kind: COMMAND, stream, timestamp: 0, payload: payload.into() }
    }
}

/// A protocol control message that is not the chunk layer's own affair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// The peer has received this many bytes, modulo 2^32.
    Acknowledgement(u32),
    /// The peer wants an acknowledgement every so many bytes.
    WindowAckSize(u32),
    /// The peer wants this side's window to be so large.
    SetPeerBandwidth(u32),
    /// A user control event.
    User(UserControl),
}

impl Control {
    /// The control message in `message`, if it is one.
    ///
    /// # Errors
    /// If the payload is too short for its fields.
    pub fn parse(message: &Message) -> Result<Option<Self>, Error> {
        let short = Error::ControlTooShort(message.kind);
        Ok(Some(match message.kind {
            ACKNOWLEDGEMENT => Self::Acknowledgement(number(&message.payload, 0).ok_or(short)?),
            WINDOW_ACK_SIZE => Self::WindowAckSize(number(&message.payload, 0).ok_or(short)?),
            SET_PEER_BANDWIDTH => Self::SetPeerBandwidth(number(&message.payload, 0).ok_or(short)?),
            USER_CONTROL => Self::User(UserControl::parse(&message.payload).ok_or(short)?),
            _ => return Ok(None),
        }))
    }
}

/// A user control event (§7.1.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserControl {
    /// The stream is there.
    StreamBegin(u32),
    /// The stream has come to its end.
    StreamEof(u32),
    /// The client buffers so many milliseconds.
    SetBufferLength {
        /// Of which message stream.
        stream: u32,
        /// Milliseconds.
        milliseconds: u32,
    },
    /// To be answered with the same time stamp.
    PingRequest(u32),
    /// The answer.
    PingResponse(u32),
    /// Anything else, by its event type.
    Other(u16),
}

impl UserControl {
    /// The event as a message.
    #[must_use]
    pub fn message(self) -> Message {
        let (event, numbers): (u16, [Option<u32>; 2]) = match self {
            Self::StreamBegin(stream) => (0, [Some(stream), None]),
            Self::StreamEof(stream) => (1, [Some(stream), None]),
            Self::SetBufferLength { stream, milliseconds } => (3, [Some(stream), Some(milliseconds)]),
            Self::PingRequest(time) => (6, [Some(time), None]),
            Self::PingResponse(time) => (7, [Some(time), None]),
            Self::Other(event) => (event, [None, None]),
        };
        let mut payload = event.to_be_bytes().to_vec();
        for number in numbers.into_iter().flatten() {
            payload.extend_from_slice(&number.to_be_bytes());
        }
        Message::control(USER_CONTROL, &payload)
    }

    fn parse(payload: &[u8]) -> Option<Self> {
        let event = u16::from_be_bytes(*payload.first_chunk()?);
        Some(match event {
            0 => Self::StreamBegin(number(payload, 2)?),
            1 => Self::StreamEof(number(payload, 2)?),
            3 => Self::SetBufferLength { stream: number(payload, 2)?, milliseconds: number(payload, 6)? },
            6 => Self::PingRequest(number(payload, 2)?),
            7 => Self::PingResponse(number(payload, 2)?),
            other => Self::Other(other),
        })
    }
}

/// A command as it came in.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// Its name.
    pub name: String,
    /// Zero when no answer is wanted.
    pub transaction: f64,
    /// The command object; null in most commands.
    pub object: Value,
    /// What follows.
    pub arguments: Vec<Value>,
}

impl Command {
    /// The command in `message`, if it is one whose name `known` holds. The values of other commands are not looked
    /// at: a peer may send what this side need not understand.
    ///
    /// # Errors
    /// If the command is too long or is not AMF0.
    pub fn parse(message: &Message, known: &[&'static str]) -> Result<Option<Self>, Error> {
        let payload = match message.kind {
            COMMAND => &message.payload[..],
            // An AMF3 command begins with a format selector, whose only defined value says that AMF0 follows.
            COMMAND_AMF3 => message.payload.get(1..).unwrap_or_default(),
            _ => return Ok(None),
        };
        if payload.len() > MAX_COMMAND {
            return Err(Error::CommandTooLong(payload.len()));
        }
        let mut values = Decoder::new(payload);
        let Some(Value::String(name)) = values.value()? else { return Ok(None) };
        if !known.contains(&name.as_str()) {
            return Ok(None);
        }
        let transaction = values.value()?.and_then(|value| value.as_number()).unwrap_or(0.0);
        let object = values.value()?.unwrap_or(Value::Null);
        let mut arguments = Vec::new();
        while let Some(value) = values.value()? {
            arguments.push(value);
        }
        Ok(Some(Self { name, transaction, object, arguments }))
    }

    /// The string argument at `index`.
    #[must_use]
    pub fn string(&self, index: usize) -> Option<&str> {
        self.arguments.get(index)?.as_str()
    }

    /// The number argument at `index`.
    #[must_use]
    pub fn number(&self, index: usize) -> Option<f64> {
        self.arguments.get(index)?.as_number()
    }
}

/// The big-endian number at `at`.
fn number(payload: &[u8], at: usize) -> Option<u32> {
    payload.get(at..)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_control_events_survive_a_round_trip() {
        let events = [
            UserControl::StreamBegin(1),
            UserControl::StreamEof(2),
            UserControl::SetBufferLength { stream: 1, milliseconds: 3000 },
            UserControl::PingRequest(77),
            UserControl::PingResponse(u32::MAX),
            UserControl::Other(31),
        ];
        for event in events {
            assert_eq!(Control::parse(&event.message()), Ok(Some(Control::User(event))));
        }
    }

    #[test]
    fn short_control_messages_are_errors() {
        for kind in [ACKNOWLEDGEMENT, WINDOW_ACK_SIZE, SET_PEER_BANDWIDTH] {
            let message = Message::control(kind, &[0, 0, 1]);
            assert_eq!(Control::parse(&message), Err(Error::ControlTooShort(kind)));
        }
        let message = Message::control(USER_CONTROL, &[0, 6, 0, 0]);
        assert_eq!(Control::parse(&message), Err(Error::ControlTooShort(USER_CONTROL)));
    }

    #[test]
    fn unknown_commands_are_passed_over_whatever_they_hold() {
        let mut message = Message::command(0, "mystery", 4.0, &[]);
        message.payload = [&message.payload[..], &[0x11, 0xff]].concat().into();
        assert_eq!(Command::parse(&message, &["connect"]), Ok(None));
        assert_eq!(Command::parse(&message, &["mystery"]), Err(Error::Amf(amf0::Error::UnknownType(0x11))));
    }

    #[test]
    fn an_amf3_command_is_its_amf0_self() {
        let plain = Message::command(0, "createStream", 4.0, &[Value::Null]);
        let mut wrapped = plain.clone();
        wrapped.kind = COMMAND_AMF3;
        wrapped.payload = [&[0], &plain.payload[..]].concat().into();
        let known = ["createStream"];
        assert_eq!(Command::parse(&wrapped, &known), Command::parse(&plain, &known));
        assert!(Command::parse(&plain, &known).unwrap().is_some());
    }

    #[test]
    fn long_commands_are_refused_unread() {
        let message = Message::control(COMMAND, &vec![0; MAX_COMMAND + 1]);
        assert_eq!(Command::parse(&message, &[]), Err(Error::CommandTooLong(MAX_COMMAND + 1)));
    }
}
