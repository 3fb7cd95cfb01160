//! One page's WebSocket: what it says.

use super::stream::{HEADER, MAX_PICTURE};
use crate::page::duplex::{Duplex, Over};
use serde::Deserialize;
use std::time::Instant;
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Bytes, Message};

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
pub(super) struct Socket(Duplex);

impl Socket {
    /// A socket whose opening handshake is done.
    pub(super) fn new(now: Instant) -> Self {
        let config =
            WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE));
        Self(Duplex::new(now, config))
    }

    /// Takes received bytes, in any split; [`next`](Self::next) has what they complete.
    pub(super) fn receive(&mut self, now: Instant, bytes: &[u8]) {
        self.0.receive(now, bytes);
    }

    /// What the next message says. `Ok(None)` is for later, `Err` says that the conversation is over.
    pub(super) fn next(&mut self) -> Result<Option<Said>, Over> {
        match self.0.next()? {
            Some(Message::Binary(bytes)) => Ok(Some(Said::Media(bytes))),
            Some(Message::Text(text)) if text.len() <= MAX_TEXT => match serde_json::from_str(&text) {
                Ok(word) => Ok(Some(Said::Word(word))),
                Err(error) => {
                    log::debug!("share: a page says what no page of ours does: {error}");
                    Err(Over)
                }
            },
            Some(_) => Err(Over),
            None => Ok(None),
        }
    }

    /// Writes a text message.
    pub(super) fn text(&mut self, text: String) {
        self.0.write(Message::text(text));
    }

    /// Says that nothing more comes.
    pub(super) fn close(&mut self) {
        self.0.close();
    }

    /// Takes the passing of time; returns whether the page still counts as there.
    pub(super) fn tick(&mut self, now: Instant) -> bool {
        self.0.tick(now)
    }

    /// When `tick` has something to do, and why.
    pub(super) fn deadline(&self) -> (Instant, &'static str) {
        self.0.deadline()
    }

    /// What is to go to the peer.
    pub(super) fn take_outbound(&mut self) -> Vec<u8> {
        self.0.take_outbound()
    }
}
