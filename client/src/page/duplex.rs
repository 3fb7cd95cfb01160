//! What every page's WebSocket has in common: tungstenite over bytes in memory, so that it stays a core, with pings and
//! the time after which a browser that answers none counts as gone.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};
use tungstenite::protocol::{Role, WebSocketConfig};
use tungstenite::{Bytes, Error, Message, WebSocket};

/// How often a quiet browser is pinged.
pub(crate) const PING_EVERY: Duration = Duration::from_secs(20);

/// How long a browser may answer nothing: three pings. One whose process has died closes its connection at once; this
/// is for one that was suspended, or is behind a network that is gone.
pub(crate) const MAX_SILENCE: Duration = Duration::from_secs(60);

/// The conversation is over: send what is left, and close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Over;

/// A WebSocket whose opening handshake is done.
#[derive(Debug)]
pub(crate) struct Duplex {
    ws: WebSocket<Pipe>,
    heard: Instant,
    pinged: Instant,
}

impl Duplex {
    /// A socket that reads as `config` says; it writes at once.
    pub(crate) fn new(now: Instant, config: WebSocketConfig) -> Self {
        let config = config.write_buffer_size(0);
        let ws = WebSocket::from_raw_socket(Pipe::default(), Role::Server, Some(config));
        Self { ws, heard: now, pinged: now }
    }

    /// Takes received bytes, in any split; [`next`](Self::next) has what they complete.
    pub(crate) fn receive(&mut self, now: Instant, bytes: &[u8]) {
        self.heard = now;
        self.ws.get_mut().inbound.extend_from_slice(bytes);
    }

    /// The next text or binary message. `Ok(None)` is for later, `Err` says that the conversation is over.
    pub(crate) fn next(&mut self) -> Result<Option<Message>, Over> {
        loop {
            match self.ws.read() {
                Ok(message @ (Message::Text(_) | Message::Binary(_))) => return Ok(Some(message)),
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {}
                // The answer to a close is written by the next read, which then tells that all is said.
                Ok(Message::Close(_)) => {}
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(Error::ConnectionClosed) => return Err(Over),
                Err(error) => {
                    log::debug!("WebSocket refused: {error}");
                    return Err(Over);
                }
            }
        }
    }

    /// Writes a message.
    pub(crate) fn write(&mut self, message: Message) {
        // The pipe takes everything, so what is left to fail is writing after the close; its bytes would be lost
        // on the peer anyway.
        if let Err(error) = self.ws.send(message) {
            log::trace!("WebSocket write after close: {error}");
        }
    }

    /// Says that nothing more comes.
    pub(crate) fn close(&mut self) {
        if let Err(error) = self.ws.close(None) {
            log::trace!("WebSocket closed twice: {error}");
        }
    }

    /// Takes the passing of time; returns whether the browser still counts as there.
    pub(crate) fn tick(&mut self, now: Instant) -> bool {
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
    pub(crate) fn deadline(&self) -> (Instant, &'static str) {
        let silence = self.heard + MAX_SILENCE;
        let ping = self.next_ping();
        if silence < ping { (silence, "silent browser") } else { (ping, "ping of a browser") }
    }

    /// What is to go to the peer.
    pub(crate) fn take_outbound(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.ws.get_mut().outbound)
    }

    fn next_ping(&self) -> Instant {
        self.pinged.max(self.heard) + PING_EVERY
    }
}

/// A stream in memory. Reading past what has arrived would block.
#[derive(Debug, Default)]
struct Pipe {
    /// What came from the peer.
    inbound: Vec<u8>,
    /// What is to go to it.
    outbound: Vec<u8>,
}

impl Read for Pipe {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.inbound.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = into.len().min(self.inbound.len());
        into[..count].copy_from_slice(&self.inbound[..count]);
        self.inbound.drain(..count);
        Ok(count)
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.outbound.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
