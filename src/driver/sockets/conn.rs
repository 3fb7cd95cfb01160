//! One connection's socket, and what waits to be sent on it.

use crate::app::NetError;
use bytes::Bytes;
use mio::net::TcpStream;
use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};

/// Pieces that one system call writes: those of a picture and what goes with it. More take one more call.
const PIECES: usize = 16;

/// ```text
///              ┌──────────▶ Failed ──(input delivered)──▶ gone
///  Connect ─▶ Connecting                       ▲
///              └──▶ Open ──(FIN, RST)──────────┘
///  Accepted ───────▶ Open ──Close{Flush}──▶ Flushing ──(sent, FIN seen, or deadline)──▶ gone
/// ```
pub(super) enum State {
    Connecting,
    Open,
    /// The application closed it; what is queued goes out, what comes in is thrown away.
    Flushing {
        finished: bool,
    },
    /// The end is noted in `pending` and not delivered yet.
    Failed,
}

pub(super) struct Conn {
    /// `None` when the socket could not be made or has failed.
    pub(super) stream: Option<TcpStream>,
    pub(super) state: State,
    pub(super) outgoing: VecDeque<Bytes>,
    /// How much of the first outgoing piece is sent.
    pub(super) sent: usize,
    /// The socket took no more: it is written to again once it tells that it does.
    pub(super) full: bool,
    pub(super) reading: bool,
    /// A write has failed: the end is told once what came before it is read.
    pub(super) broken: Option<NetError>,
    /// The system has told of an end or an error, which is read after what came before it.
    pub(super) ending: bool,
    pub(super) read_queued: bool,
    pub(super) write_queued: bool,
    /// Bytes written since they were [taken](Self::take_written).
    written: usize,
}

impl Conn {
    pub(super) fn new(stream: Option<TcpStream>, state: State) -> Self {
        Self {
            stream,
            state,
            outgoing: VecDeque::new(),
            sent: 0,
            full: false,
            reading: true,
            broken: None,
            ending: false,
            read_queued: false,
            write_queued: false,
            written: 0,
        }
    }

    /// Whether something is done once the socket is writable.
    pub(super) const fn awaits_writable(&self) -> bool {
        match self.state {
            State::Connecting | State::Flushing { .. } => true,
            State::Open => self.full,
            State::Failed => false,
        }
    }

    /// Bytes written since this was asked last.
    pub(super) const fn take_written(&mut self) -> usize {
        std::mem::replace(&mut self.written, 0)
    }

    /// Writes until everything is gone or the socket would block.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        let Some(stream) = self.stream.as_mut() else { return Ok(()) };
        while !self.outgoing.is_empty() {
            let mut pieces = [IoSlice::new(&[]); PIECES];
            let count = self.outgoing.len().min(PIECES);
            for (slot, piece) in pieces.iter_mut().zip(&self.outgoing) {
                *slot = IoSlice::new(piece);
            }
            pieces[0] = IoSlice::new(&self.outgoing[0][self.sent..]);
            match stream.write_vectored(&pieces[..count]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.sent += written;
                    self.written += written;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.full = true;
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            while let Some(first) = self.outgoing.front()
                && self.sent >= first.len()
            {
                self.sent -= first.len();
                self.outgoing.pop_front();
            }
        }
        self.full = false;
        Ok(())
    }
}
