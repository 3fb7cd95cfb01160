//! What both sides do alike below commands and media: handshake, chunks, acknowledgements, pings.

use super::{CHUNK_SIZE, WINDOW, channel};
use crate::app::Space;
use crate::rtmp::Error;
use crate::rtmp::chunk::{self, Output, Pieces, Reader, Writer};
use crate::rtmp::handshake::Handshake;
use crate::rtmp::message::{self, Control, Message, UserControl};
use bytes::Bytes;

/// Bytes to messages and back.
#[derive(Debug)]
pub(super) struct Carrier {
    phase: Phase,
    reader: Reader,
    writer: Writer,
    out: Pieces,
    /// Bytes of chunks received, modulo 2^32 as acknowledgements count them.
    received: u32,
    /// What the last acknowledgement said.
    acknowledged: u32,
    /// After how many bytes the peer wants an acknowledgement.
    ack_every: u32,
    /// The window that this side announced last.
    announced_window: Option<u32>,
    /// What the last answer to a ping said, until it is asked for.
    pong: Option<u32>,
}

#[derive(Debug)]
enum Phase {
    Handshake(Handshake),
    Chunks,
    Failed,
}

impl Carrier {
    pub(super) fn server(seed: u64) -> Self {
        Self::new(Handshake::server(seed))
    }

    pub(super) fn client(seed: u64) -> Self {
        let mut hello = Vec::new();
        let mut carrier = Self::new(Handshake::client(seed, &mut hello));
        carrier.out.header(&hello);
        carrier
    }

    fn new(handshake: Handshake) -> Self {
        Self {
            phase: Phase::Handshake(handshake),
            reader: Reader::new(),
            writer: Writer::new(),
            out: Pieces::default(),
            received: 0,
            acknowledged: 0,
            ack_every: WINDOW,
            announced_window: None,
            pong: None,
        }
    }

    /// Whether the handshake is done and nothing has failed.
    pub(super) const fn is_established(&self) -> bool {
        matches!(self.phase, Phase::Chunks)
    }

    /// No more input is taken.
    pub(super) fn fail(&mut self) {
        self.phase = Phase::Failed;
        self.reader = Reader::new();
    }

    /// Takes the handshake's bytes from `input`; true once it is done.
    pub(super) fn handshake(&mut self, input: &mut &[u8]) -> Result<bool, Error> {
        match &mut self.phase {
            Phase::Handshake(handshake) => {
                let mut answer = Vec::new();
                let done = handshake.read(input, &mut answer);
                self.out.header(&answer);
                if done? {
                    if handshake.peer_offers_digest() {
                        log::debug!("peer offers the digest handshake and is given the simple one");
                    }
                    self.phase = Phase::Chunks;
                    return Ok(true);
                }
                Ok(false)
            }
            Phase::Chunks => Ok(true),
            Phase::Failed => Err(Error::Over),
        }
    }

    /// The next message that is a command, media, or a user control event of interest. Consumes all of `input` when
    /// it returns `None`.
    pub(super) fn read(&mut self, input: &mut &[u8]) -> Result<Option<Message>, Error> {
        loop {
            let before = input.len();
            let message = self.reader.read(input)?;
            // Modulo 2^32 on purpose, as the standard has it.
            self.received = self.received.wrapping_add((before - input.len()) as u32);
            let Some(message) = message else {
                self.acknowledge();
                return Ok(None);
            };
            match Control::parse(&message)? {
                None => return Ok(Some(message)),
                // TCP holds back what the peer cannot take.
                Some(Control::Acknowledgement(_)) => {}
                Some(Control::WindowAckSize(size)) => self.ack_every = size.max(MIN_ACK_EVERY),
                Some(Control::SetPeerBandwidth(size)) => self.announce_window(size),
                Some(Control::User(UserControl::PingRequest(time))) => {
                    self.control(&UserControl::PingResponse(time).message());
                }
                Some(Control::User(UserControl::PingResponse(time))) => self.pong = Some(time),
                Some(Control::User(UserControl::StreamEof(_))) => return Ok(Some(message)),
                Some(Control::User(
                    UserControl::StreamBegin(_) | UserControl::SetBufferLength { .. } | UserControl::Other(_),
                )) => {}
            }
        }
    }

    /// Where the next bytes are to be read to, if that makes a difference.
    pub(super) fn space(&mut self) -> Option<Space<'_>> {
        match self.phase {
            Phase::Chunks => self.reader.space(),
            Phase::Handshake(_) | Phase::Failed => None,
        }
    }

    /// Takes `count` bytes that were read to there; the picture that they complete.
    pub(super) fn placed(&mut self, count: usize) -> Option<Message> {
        self.received = self.received.wrapping_add(count as u32);
        let message = self.reader.placed(count);
        self.acknowledge();
        message
    }

    /// Pings, once there is a connection to ping on.
    pub(super) fn ping(&mut self, time: u32) {
        if self.is_established() {
            self.control(&UserControl::PingRequest(time).message());
        }
    }

    /// What the last answer to a ping said, once.
    pub(super) const fn poll_pong(&mut self) -> Option<u32> {
        self.pong.take()
    }

    /// Announces this side's window, unless that is what it announced last.
    pub(super) fn announce_window(&mut self, size: u32) {
        if self.announced_window != Some(size) {
            self.announced_window = Some(size);
            self.control(&Message::control(message::WINDOW_ACK_SIZE, &size.to_be_bytes()));
        }
    }

    /// Asks the peer to send no more than `size` bytes unacknowledged, or fewer if it said so itself.
    pub(super) fn limit_peer(&mut self, size: u32) {
        let mut payload = [0; 5];
        payload[..4].copy_from_slice(&size.to_be_bytes());
        payload[4] = DYNAMIC;
        self.control(&Message::control(message::SET_PEER_BANDWIDTH, &payload));
    }

    /// Announces the chunk size of what follows.
    pub(super) fn announce_chunk_size(&mut self) {
        self.writer.set_chunk_size(CHUNK_SIZE, &mut self.out);
    }

    /// Queues a control message, which is short.
    pub(super) fn control(&mut self, message: &Message) {
        self.short(chunk::CONTROL, message);
    }

    /// Queues a command, which is short.
    pub(super) fn command(&mut self, message: &Message) {
        self.short(channel::COMMAND, message);
    }

    /// Queues `message` on chunk stream `id`.
    pub(super) fn send(&mut self, id: u32, message: &Message) -> Result<(), Error> {
        self.writer.write(id, message, &mut self.out)
    }

    /// The first piece of what is queued, if anything.
    pub(super) fn take_output(&mut self) -> Option<Bytes> {
        self.out.pop()
    }

    /// How many bytes it holds, both ways.
    pub(super) fn buffered_bytes(&self) -> usize {
        let handshake = match &self.phase {
            Phase::Handshake(handshake) => handshake.buffered_bytes(),
            Phase::Chunks | Phase::Failed => 0,
        };
        handshake + self.reader.buffered_bytes() + self.out.len()
    }

    fn short(&mut self, id: u32, message: &Message) {
        if let Err(error) = self.writer.write(id, message, &mut self.out) {
            // Names and descriptions that a peer chose are cut before they come here.
            debug_assert!(false, "a short message was not written: {error}");
        }
    }

    fn acknowledge(&mut self) {
        if self.received.wrapping_sub(self.acknowledged) >= self.ack_every {
            self.acknowledged = self.received;
            self.control(&Message::control(message::ACKNOWLEDGEMENT, &self.received.to_be_bytes()));
        }
    }
}

/// The least that an acknowledgement may be asked for: a peer that wants one for every byte gets one per KiB.
const MIN_ACK_EVERY: u32 = 1024;

/// Set Peer Bandwidth's limit type "dynamic" (§5.4.5).
const DYNAMIC: u8 = 2;
