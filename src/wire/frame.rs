//! Frames: where one message ends and the next begins.
//!
//! ```text
//!  0               2       3                    2 + length
//! +-------+-------+-------+----------- - - ----+
//! |  length (BE)  |version|  body (codec)      |
//! +-------+-------+-------+----------- - - ----+
//!                 |<------- length ----------->|
//! ```
//!
//! The three bytes of the header are the same in every version of the language. The version is judged before the
//! length, because another version may have other limits and its speaker should hear the true reason.

use crate::wire::codec::{self, CodecError, Message};
use crate::wire::message::VERSION;
use bytes::Bytes;
use std::fmt;

/// The longest frame in all, header included. The longest message, an introduction with three full lists over
/// IPv6, has 892 bytes; 1 KiB leaves room for appended fields.
pub const MAX_FRAME: usize = 1024;

/// The longest frame, header included, from somebody who has not logged in. The longest login, with a full list of
/// IPv6 endpoints, has 250 bytes; strangers get no more memory than that needs.
pub const MAX_FRAME_BEFORE_LOGIN: usize = 256;

/// The bytes before the body: length and version.
pub const HEADER: usize = 3;

/// The bytes of the length field, which it does not count.
const LENGTH_FIELD: usize = 2;

/// Why a stream of frames cannot go on. All of them are final for the connection: the place of the next frame is
/// unknown, or the peer speaks another language.
#[derive(Debug)]
#[non_exhaustive]
pub enum WireError {
    /// The frame's version is not [`VERSION`].
    Version {
        /// What the peer speaks.
        theirs: u8,
    },
    /// The frame is longer than the reader's limit.
    TooLong {
        /// Its length in all, as claimed.
        claimed: usize,
        /// The limit.
        limit: usize,
    },
    /// The frame is too short to have a version.
    Empty,
    /// The body is not a message.
    Malformed(CodecError),
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version { theirs } => write!(f, "frame of version {theirs}, this side speaks {VERSION}"),
            Self::TooLong { claimed, limit } => write!(f, "frame of {claimed} bytes, the limit is {limit}"),
            Self::Empty => f.write_str("frame without a version"),
            Self::Malformed(_) => f.write_str("malformed frame"),
        }
    }
}

impl std::error::Error for WireError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Malformed(error) => Some(error),
            Self::Version { .. } | Self::TooLong { .. } | Self::Empty => None,
        }
    }
}

/// The whole frame of `message`, header included. Entries of a list beyond its limit
/// ([`MAX_ENDPOINTS`](crate::wire::message::MAX_ENDPOINTS),
/// [`MAX_OBSERVATIONS`](crate::wire::message::MAX_OBSERVATIONS)) are left out.
#[must_use]
pub fn encode<T: Message>(message: &T) -> Bytes {
    let mut frame = vec![0, 0, VERSION];
    codec::encode_body(message, &mut frame);
    debug_assert!(frame.len() <= MAX_FRAME);
    let length = u16::try_from(frame.len() - LENGTH_FIELD).expect("the codec's limit is far below 64 KiB");
    frame[..LENGTH_FIELD].copy_from_slice(&length.to_be_bytes());
    frame.into()
}

/// Cuts a stream into frames, whatever its split into reads.
///
/// After each [`push`](Self::push), call [`next`](Self::next) until it returns `None` or an error: then at most one
/// incomplete frame, shorter than the limit, stays behind, and an idle reader holds no memory at all. After an error
/// the reader takes and gives nothing more.
#[derive(Debug)]
pub struct Reader {
    limit: usize,
    state: State,
}

#[derive(Debug)]
enum State {
    /// What has arrived; the first `used` bytes belong to frames already given.
    Reading { buffer: Vec<u8>, used: usize },
    /// An error was reported.
    Failed,
}

impl Reader {
    /// A reader that refuses frames of more than `limit` bytes in all ([`MAX_FRAME`],
    /// [`MAX_FRAME_BEFORE_LOGIN`]).
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self { limit, state: State::Reading { buffer: Vec::new(), used: 0 } }
    }

    /// Sets the limit for the frames that [`next`](Self::next) has not given yet.
    pub const fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Takes bytes as they arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        if let State::Reading { buffer, .. } = &mut self.state {
            buffer.extend_from_slice(bytes);
        }
    }

    /// The next whole message; `None` until more bytes arrive.
    ///
    /// # Errors
    ///
    /// See [`WireError`]; the header is judged as soon as it is here, before the body is waited for.
    #[expect(
        clippy::should_implement_trait,
        reason = "the message's type is the caller's choice at each call"
    )]
    pub fn next<T: Message>(&mut self) -> Result<Option<T>, WireError> {
        let State::Reading { buffer, used } = &mut self.state else { return Ok(None) };
        match parse::<T>(&buffer[*used..], self.limit) {
            Ok(Some((message, taken))) => {
                *used += taken;
                Ok(Some(message))
            }
            Ok(None) => {
                if *used == buffer.len() {
                    *buffer = Vec::new();
                } else {
                    buffer.drain(..*used);
                    buffer.shrink_to(self.limit);
                }
                *used = 0;
                debug_assert!(buffer.len() < self.limit.max(HEADER));
                Ok(None)
            }
            Err(error) => {
                self.state = State::Failed;
                Err(error)
            }
        }
    }

    /// What has arrived after the last message given: where the frames end, another language begins.
    #[must_use]
    pub fn into_rest(self) -> Vec<u8> {
        match self.state {
            State::Reading { mut buffer, used } => {
                buffer.drain(..used);
                buffer
            }
            State::Failed => Vec::new(),
        }
    }

    /// How many bytes wait for the rest of their frame.
    #[must_use]
    pub const fn buffered(&self) -> usize {
        match &self.state {
            State::Reading { buffer, used } => buffer.len() - *used,
            State::Failed => 0,
        }
    }
}

/// The message at the start of `bytes` and the length of its frame; `None` if it is not all here.
fn parse<T: Message>(bytes: &[u8], limit: usize) -> Result<Option<(T, usize)>, WireError> {
    let Some(length) = bytes.first_chunk::<LENGTH_FIELD>() else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes(*length));
    if length == 0 {
        return Err(WireError::Empty);
    }
    let Some(&theirs) = bytes.get(LENGTH_FIELD) else { return Ok(None) };
    if theirs != VERSION {
        return Err(WireError::Version { theirs });
    }
    let claimed = LENGTH_FIELD + length;
    if claimed > limit {
        return Err(WireError::TooLong { claimed, limit });
    }
    let Some(body) = bytes.get(HEADER..claimed) else { return Ok(None) };
    let message = codec::decode_body(body).map_err(WireError::Malformed)?;
    Ok(Some((message, claimed)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::Endpoint;
    use crate::id::{ClientId, OwnerToken, PunchToken, RendezvousId, SessionId};
    use crate::wire::message::{
        FromMain, MAX_ENDPOINTS, MAX_OBSERVATIONS, Observation, Peer, Role, SeenBy, ToAssist, ToMain,
    };

    fn v6(count: usize) -> Vec<Endpoint> {
        let addr = "[2001:db8::1]:4000".parse().map(Endpoint::new).unwrap();
        vec![addr; count]
    }

    fn login(entries: usize) -> ToMain {
        ToMain::Login {
            rendezvous: RendezvousId([1; 16]),
            role: Role::Viewer,
            token: PunchToken([2; 16]),
            owner: Some(OwnerToken([3; 16])),
            local: v6(entries),
            rtt_us: 1,
            local_port: 2,
        }
    }

    #[test]
    fn the_longest_login_fits_the_limit_before_login() {
        let frame = encode(&login(MAX_ENDPOINTS));
        assert_eq!(frame.len(), 250);
        let mut reader = Reader::new(MAX_FRAME_BEFORE_LOGIN);
        reader.push(&frame);
        assert_eq!(reader.next::<ToMain>().unwrap(), Some(login(MAX_ENDPOINTS)));
    }

    #[test]
    fn the_longest_message_fits_a_frame() {
        let (seen_by, local_port, hole, own) = (SeenBy::Alternate, 1, true, true);
        let endpoint = v6(1)[0];
        let observed = vec![Observation { seen_by, local_port, endpoint, hole, own }; MAX_OBSERVATIONS];
        let local = v6(MAX_ENDPOINTS);
        let peer =
            Peer { client: ClientId(1), observed, local, public: true, rtt_us: 3, mapped: v6(MAX_ENDPOINTS) };
        let session = SessionId(2);
        let message = FromMain::SrvReqMakeHole { session, peer, start_in_us: 4, rtt_us: 5 };
        assert_eq!(encode(&message).len(), 892);
    }

    #[test]
    fn entries_beyond_the_limit_are_not_sent() {
        assert_eq!(encode(&login(MAX_ENDPOINTS + 5)), encode(&login(MAX_ENDPOINTS)));
    }

    #[test]
    fn a_list_that_claims_more_than_the_limit_is_refused() {
        let mut frame = encode(&login(0)).to_vec();
        // Before the four bytes of the round trip and the two of the port.
        let count = frame.len() - 6 - 8..frame.len() - 6;
        for claimed in [MAX_ENDPOINTS as u64 + 1, u64::from(u32::MAX), u64::MAX] {
            frame[count.clone()].copy_from_slice(&claimed.to_be_bytes());
            let mut reader = Reader::new(MAX_FRAME);
            reader.push(&frame);
            assert!(matches!(reader.next::<ToMain>(), Err(WireError::Malformed(_))), "{claimed}");
        }
    }

    #[test]
    fn frames_are_cut_wherever_the_reads_fall() {
        let messages = [login(2), ToMain::Heartbeat { nonce: 7 }, ToMain::Logout];
        let stream: Vec<u8> = messages.iter().flat_map(encode).collect();
        for size in 1..=stream.len() {
            let mut reader = Reader::new(MAX_FRAME_BEFORE_LOGIN);
            let mut seen = Vec::new();
            for chunk in stream.chunks(size) {
                reader.push(chunk);
                while let Some(message) = reader.next::<ToMain>().unwrap() {
                    seen.push(message);
                }
                assert!(reader.buffered() < MAX_FRAME_BEFORE_LOGIN);
            }
            assert_eq!(seen, messages, "in reads of {size}");
            assert_eq!(reader.buffered(), 0);
        }
    }

    #[test]
    fn a_frame_is_refused_at_its_header() {
        let mut reader = Reader::new(MAX_FRAME_BEFORE_LOGIN);
        reader.push(&[0xff, 0xff, VERSION]);
        assert!(matches!(
            reader.next::<ToMain>(),
            Err(WireError::TooLong { claimed: 65537, limit: MAX_FRAME_BEFORE_LOGIN })
        ));
        reader.push(&[0; 4096]);
        assert_eq!(reader.buffered(), 0, "a failed reader holds nothing");
        assert!(matches!(reader.next::<ToMain>(), Ok(None)));
    }

    #[test]
    fn another_version_is_told_from_garbage_whatever_its_length() {
        let mut reader = Reader::new(MAX_FRAME_BEFORE_LOGIN);
        reader.push(&[0xff, 0xff, VERSION + 1]);
        assert!(
            matches!(reader.next::<ToMain>(), Err(WireError::Version { theirs }) if theirs == VERSION + 1)
        );
    }

    #[test]
    fn a_frame_without_a_version_is_refused() {
        let mut reader = Reader::new(MAX_FRAME);
        reader.push(&[0, 0]);
        assert!(matches!(reader.next::<ToMain>(), Err(WireError::Empty)));
    }

    #[test]
    fn a_body_is_taken_whole_or_refused() {
        let good = encode(&ToAssist::Heartbeat);
        for change in [&good[..good.len() - 1], &[&good[..], &[0]].concat()[..]] {
            let mut frame = change.to_vec();
            let length = u16::try_from(frame.len() - 2).unwrap();
            frame[..2].copy_from_slice(&length.to_be_bytes());
            let mut reader = Reader::new(MAX_FRAME);
            reader.push(&frame);
            assert!(matches!(reader.next::<ToAssist>(), Err(WireError::Malformed(_))));
        }
    }

    #[test]
    fn the_limit_holds_from_the_next_frame_on() {
        let frame = encode(&login(MAX_ENDPOINTS));
        let mut reader = Reader::new(64);
        reader.push(&encode(&ToMain::Logout));
        reader.push(&frame);
        assert_eq!(reader.next::<ToMain>().unwrap(), Some(ToMain::Logout));
        reader.set_limit(MAX_FRAME);
        assert_eq!(reader.next::<ToMain>().unwrap(), Some(login(MAX_ENDPOINTS)));
    }
}
