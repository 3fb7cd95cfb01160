//! One page's WebSocket: tungstenite over bytes in memory, so that it stays a core.

use super::stream::{HEADER, MAX_PICTURE};
use crate::page::socket::Pipe;
use serde::Deserialize;
use std::io;
use std::time::{Duration, Instant};
use tungstenite::protocol::{Role, WebSocketConfig};
use tungstenite::{Bytes, Error, Message, WebSocket};

/// How often a quiet page is pinged.
pub(super) const PING_EVERY: Duration = Duration::from_secs(20);

/// How long a page may answer nothing: three pings. One whose process has died closes its connection at once; this is for
/// a browser that was suspended.
pub(super) const MAX_SILENCE: Duration = Duration::from_secs(60);

/// The longest text of a page: one of the words below.
const MAX_TEXT: usize = 256;

/// The longest message of a page.
const MAX_MESSAGE: usize = HEADER + MAX_PICTURE;

/// What a page says beside media.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(super) enum Word {
    /// It shares from here on; media follows, from a configuration and a key frame on.
    Start,
    /// It shares no more.
    Stop,
}

/// What one message says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// A word.
    Word(Word),
    /// A packet of media.
    Media(Bytes),
}

/// The WebSocket of one page.
#[derive(Debug)]
pub(super) struct Socket {
    ws: WebSocket<Pipe>,
    heard: Instant,
    pinged: Instant,
}

impl Socket {
    /// A socket whose opening handshake is done.
    pub(super) fn new(now: Instant) -> Self {
        let config = WebSocketConfig::default()
            .write_buffer_size(0)
            .max_message_size(Some(MAX_MESSAGE))
            .max_frame_size(Some(MAX_MESSAGE));
        let ws = WebSocket::from_raw_socket(Pipe::default(), Role::Server, Some(config));
        Self { ws, heard: now, pinged: now }
    }

    /// Takes received bytes, in any split; [`next`](Self::next) has what they complete.
    pub(super) fn receive(&mut self, now: Instant, bytes: &[u8]) {
        self.heard = now;
        self.ws.get_mut().inbound.extend_from_slice(bytes);
    }

    /// The next message. `Ok(None)` is for later, `Err` says that the conversation is over.
    pub(super) fn next(&mut self) -> Result<Option<Said>, Over> {
        loop {
            match self.ws.read() {
                Ok(Message::Binary(bytes)) => return Ok(Some(Said::Media(bytes))),
                Ok(Message::Text(text)) if text.len() > MAX_TEXT => return Err(Over),
                Ok(Message::Text(text)) => match serde_json::from_str(&text) {
                    Ok(word) => return Ok(Some(Said::Word(word))),
                    Err(error) => {
                        log::debug!("share: a page says what no page of ours does: {error}");
                        return Err(Over);
                    }
                },
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {}
                // The answer to a close is written by the next read, which then tells that all is said.
                Ok(Message::Close(_)) => {}
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(Error::ConnectionClosed) => return Err(Over),
                Err(error) => {
                    log::debug!("share: WebSocket refused: {error}");
                    return Err(Over);
                }
            }
        }
    }

    /// Writes a text message.
    pub(super) fn text(&mut self, text: String) {
        self.write(Message::text(text));
    }

    /// Says that nothing more comes.
    pub(super) fn close(&mut self) {
        if let Err(error) = self.ws.close(None) {
            log::trace!("share: WebSocket closed twice: {error}");
        }
    }

    /// Takes the passing of time; returns whether the page still counts as there.
    pub(super) fn tick(&mut self, now: Instant) -> bool {
        if now >= self.heard + MAX_SILENCE {
            return false;
        }
        if now >= self.next_ping() {
            self.pinged = now;
            self.write(Message::Ping(Bytes::new()));
        }
        true
    }

    /// When `tick` has something to do, and why.
    pub(super) fn deadline(&self) -> (Instant, &'static str) {
        let silence = self.heard + MAX_SILENCE;
        let ping = self.next_ping();
        if silence < ping { (silence, "share: silent page") } else { (ping, "share: ping") }
    }

    /// What is to go to the peer.
    pub(super) fn take_outbound(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.ws.get_mut().outbound)
    }

    fn next_ping(&self) -> Instant {
        self.pinged.max(self.heard) + PING_EVERY
    }

    fn write(&mut self, message: Message) {
        // The pipe takes everything, so what is left to fail is writing after the close.
        if let Err(error) = self.ws.send(message) {
            log::trace!("share: WebSocket write after close: {error}");
        }
    }
}

/// The conversation is over: send what is left, and close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Over;
