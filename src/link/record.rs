//! What a record says once it is decrypted.
//!
//! ```text
//!  on the wire    ┌──────────────┬───────────────────────────────┐
//!                 │ length (u16) │ ciphertext ‖ tag (16)         │   length counts ciphertext and tag
//!                 └──────────────┴───────────────────────────────┘
//!  decrypted      ┌──────┬───────────────────────────────────────┐
//!                 │ kind │ 0: control  1: at least 1 stream byte │
//!                 └──────┴───────────────────────────────────────┘
//!  control        01 Nominate · 02 Ping (u64) · 03 Pong (u64, u64) · 04 Bye (u8) · 05 WantKeyframe
//!                 06 Stamp (u32, u64) · 07 Received (u64, u64) · 08 Session (u64)
//! ```

use super::LinkError;
use super::noise::TAG_LEN;
use crate::id::SessionId;
use std::fmt;

/// Bytes of a length.
pub(super) const LENGTH_LEN: usize = 2;

/// The longest record's ciphertext and tag: what its length can say, and Noise's own limit.
pub const MAX_RECORD: usize = 65_535;

/// The longest record's plain bytes.
pub(super) const MAX_PLAIN: usize = MAX_RECORD - TAG_LEN;

/// The shortest record: a kind and a tag.
pub(super) const MIN_RECORD: usize = 1 + TAG_LEN;

/// The record that a caster's `Ping` is; always its first.
pub(super) const PING_RECORD: usize = 10 + TAG_LEN;

/// The most stream bytes that this end puts into one record. A receiver can use none of a record before it has the
/// whole: 16 KiB are 13 ms at 10 Mbit/s, and still cost only 0.12% in lengths, kinds and tags. It is also what stays
/// in a core's first-level cache while it is copied and encrypted.
pub const STREAM_CHUNK: usize = 16 * 1024;

const _: () = assert!(STREAM_CHUNK < MAX_PLAIN);

pub(super) const CONTROL: u8 = 0;
pub(super) const STREAM: u8 = 1;

const NOMINATE: u8 = 1;
const PING: u8 = 2;
const PONG: u8 = 3;
const BYE: u8 = 4;
const WANT_KEYFRAME: u8 = 5;
const STAMP: u8 = 6;
const RECEIVED: u8 = 7;
const SESSION: u8 = 8;

/// The longest control message with its kind.
const CONTROL_LEN: usize = 18;

/// A control message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Control {
    /// The caster chooses this link.
    Nominate,
    /// Answer with the same number.
    Ping(u64),
    /// The answer: the number, and the sender's clock in microseconds.
    Pong(u64, u64),
    /// The end, on purpose.
    Bye(Bye),
    /// The viewer cannot go on without a keyframe.
    WantKeyframe,
    /// The next picture of the stream has this timestamp (milliseconds), and was made when the sender's clock showed
    /// so many microseconds.
    Stamp(u32, u64),
    /// The viewer had so many stream bytes in all when its clock showed so many microseconds.
    Received(u64, u64),
    /// The introduction of that number led to this link.
    Session(SessionId),
}

impl Control {
    /// Reads what follows the kind. Exact lengths only.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, LinkError> {
        let (&tag, rest) = bytes.split_first().ok_or(LinkError::Malformed)?;
        let number =
            |bytes: &[u8]| bytes.try_into().map(u64::from_be_bytes).map_err(|_| LinkError::Malformed);
        match (tag, rest) {
            (NOMINATE, []) => Ok(Self::Nominate),
            (PING, _) => Ok(Self::Ping(number(rest)?)),
            (PONG | RECEIVED, rest) => {
                let (first, clock) = rest.split_at_checked(8).ok_or(LinkError::Malformed)?;
                let (first, clock) = (number(first)?, number(clock)?);
                Ok(if tag == PONG { Self::Pong(first, clock) } else { Self::Received(first, clock) })
            }
            (SESSION, _) => Ok(Self::Session(SessionId(number(rest)?))),
            (WANT_KEYFRAME, []) => Ok(Self::WantKeyframe),
            (STAMP, rest) => {
                let (timestamp, clock) = rest.split_first_chunk().ok_or(LinkError::Malformed)?;
                Ok(Self::Stamp(u32::from_be_bytes(*timestamp), number(clock)?))
            }
            (BYE, &[code]) => Ok(Self::Bye(Bye::from_code(code))),
            _ => Err(LinkError::Malformed),
        }
    }

    /// The whole plain record, in the first bytes of an array, and their number.
    pub(super) fn encode(self) -> ([u8; CONTROL_LEN], usize) {
        let mut plain = [0; CONTROL_LEN];
        plain[0] = CONTROL;
        let (tag, len) = match self {
            Self::Nominate => (NOMINATE, 2),
            Self::Ping(number) | Self::Session(SessionId(number)) => {
                plain[2..10].copy_from_slice(&number.to_be_bytes());
                (if matches!(self, Self::Ping(_)) { PING } else { SESSION }, 10)
            }
            Self::Pong(number, clock) | Self::Received(number, clock) => {
                plain[2..10].copy_from_slice(&number.to_be_bytes());
                plain[10..].copy_from_slice(&clock.to_be_bytes());
                (if matches!(self, Self::Pong(..)) { PONG } else { RECEIVED }, 18)
            }
            Self::Bye(bye) => {
                plain[2] = bye.code();
                (BYE, 3)
            }
            Self::WantKeyframe => (WANT_KEYFRAME, 2),
            Self::Stamp(timestamp, clock) => {
                plain[2..6].copy_from_slice(&timestamp.to_be_bytes());
                plain[6..14].copy_from_slice(&clock.to_be_bytes());
                (STAMP, 14)
            }
        };
        plain[1] = tag;
        (plain, len)
    }
}

/// Why an end says goodbye.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bye {
    /// The cast is over.
    Finished,
    /// Another link was nominated.
    NotChosen,
    /// The viewer has no place for another cast.
    Busy,
    /// The program ends, or its user left.
    Leaving,
    /// The cast goes on over another link.
    Moved,
    /// A code that this version does not know.
    Other(u8),
}

impl Bye {
    const fn code(self) -> u8 {
        match self {
            Self::Finished => 0,
            Self::NotChosen => 1,
            Self::Busy => 2,
            Self::Leaving => 3,
            Self::Moved => 4,
            Self::Other(code) => code,
        }
    }

    const fn from_code(code: u8) -> Self {
        match code {
            0 => Self::Finished,
            1 => Self::NotChosen,
            2 => Self::Busy,
            3 => Self::Leaving,
            4 => Self::Moved,
            code => Self::Other(code),
        }
    }
}

impl fmt::Display for Bye {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished => f.write_str("the cast is over"),
            Self::NotChosen => f.write_str("another link was chosen"),
            Self::Busy => f.write_str("the viewer has no place for another cast"),
            Self::Leaving => f.write_str("the other end left"),
            Self::Moved => f.write_str("the cast goes on over another link"),
            Self::Other(code) => write!(f, "the other end left (reason {code})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_control_message_survives_its_encoding() {
        let messages = [
            Control::Nominate,
            Control::Ping(7),
            Control::Pong(u64::MAX, 3),
            Control::WantKeyframe,
            Control::Stamp(u32::MAX, 9),
            Control::Received(1 << 40, 9),
            Control::Session(SessionId(u64::MAX)),
        ];
        let byes = (0..=u8::MAX).map(|code| Control::Bye(Bye::from_code(code)));
        for message in messages.into_iter().chain(byes) {
            let (plain, len) = message.encode();
            assert_eq!(plain[0], CONTROL);
            assert_eq!(Control::parse(&plain[1..len]), Ok(message));
            assert_eq!(Control::parse(&plain[1..len - 1]), Err(LinkError::Malformed), "{message:?} cut");
        }
    }

    #[test]
    fn unknown_and_overlong_control_messages_are_refused() {
        for bytes in
            [&[][..], &[0], &[8], &[9], &[255, 1], &[1, 0], &[2; 10], &[3; 16], &[4, 0, 0], &[5, 0], &[6; 14]]
        {
            assert_eq!(Control::parse(bytes), Err(LinkError::Malformed), "{bytes:?}");
        }
    }

    #[test]
    fn a_ping_is_exactly_the_first_record() {
        assert_eq!(Control::Ping(0).encode().1 + TAG_LEN, PING_RECORD);
    }
}
