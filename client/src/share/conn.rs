//! One connection of the sharing page: first a reader of request heads, then perhaps a WebSocket.

use super::site::{self, Answer};
use super::socket::Socket;
use crate::page::PageToken;
use crate::page::http::{self, Head, Response, Status as Code};
use punchcast::app::Closing;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How long a request head may take to arrive. The browser is on this machine; five seconds cover a loaded one.
pub(super) const HEAD_TIME: Duration = Duration::from_secs(5);

/// How long a connection may idle after a response. Browsers keep theirs for the page's other files.
pub(super) const IDLE_TIME: Duration = Duration::from_secs(30);

/// A connection.
#[derive(Debug)]
pub(super) struct Conn {
    local: SocketAddr,
    /// The browser's.
    pub(super) remote: SocketAddr,
    /// A request of its was let in.
    pub(super) passed: bool,
    /// The driver holds bytes that the socket did not take.
    pub(super) backlogged: bool,
    /// What it is still to be told, once it takes more.
    pub(super) owed: Owed,
    /// What the connection is.
    pub(super) stage: Stage,
}

/// Things to tell a page. Each is told as it stands when there is room, so that nothing piles up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Owed {
    pub(super) status: bool,
    pub(super) encoding: bool,
    pub(super) keyframe: bool,
    pub(super) taken: bool,
}

/// What a connection is.
#[derive(Debug)]
pub(super) enum Stage {
    /// Between two requests, or within a head.
    Http {
        /// The head so far.
        head: Vec<u8>,
        /// When it must be complete.
        until: Instant,
    },
    /// A page's WebSocket.
    Socket(Box<Socket>),
}

/// What is to be done after bytes of a head.
#[derive(Debug)]
pub(super) enum Turn {
    /// Wait for more.
    Wait,
    /// Send this, and perhaps close.
    Reply(Vec<u8>, Option<Closing>),
    /// Become a WebSocket: send this; the rest came behind the head.
    Join(Vec<u8>, Vec<u8>),
}

impl Conn {
    /// A connection accepted at `now`.
    pub(super) fn new(now: Instant, local: SocketAddr, remote: SocketAddr) -> Self {
        let stage = Stage::Http { head: Vec::new(), until: now + HEAD_TIME };
        Self { local, remote, passed: false, backlogged: false, owed: Owed::default(), stage }
    }

    /// The WebSocket, if it is one.
    pub(super) fn socket(&mut self) -> Option<&mut Socket> {
        match &mut self.stage {
            Stage::Socket(socket) => Some(socket),
            Stage::Http { .. } => None,
        }
    }

    /// Takes bytes of a request head.
    pub(super) fn receive_head(&mut self, now: Instant, bytes: &[u8], token: &PageToken) -> Turn {
        let Stage::Http { head, until } = &mut self.stage else { return Turn::Wait };
        if head.is_empty() {
            *until = now + HEAD_TIME;
        }
        head.extend_from_slice(bytes);
        let (request, length) = match http::parse(head) {
            Head::Partial => return Turn::Wait,
            Head::Refused(status) => return refuse(status, "The page takes GET and HEAD requests only."),
            Head::Complete(request, length) => (request, length),
        };
        let rest = head.split_off(length);
        head.clear();
        match site::answer(&request, self.local, token) {
            Answer::Socket(accept) => {
                self.passed = true;
                Turn::Join(http::switch_protocols(&accept), rest)
            }
            Answer::Response(response) => {
                *until = now + IDLE_TIME;
                self.passed |= response.status == Code::Ok;
                // A request sent before the last one was answered could make answers pile up; no browser does it.
                let keep_alive = request.keep_alive && response.status == Code::Ok && rest.is_empty();
                let bytes = response.encode(request.head_only, keep_alive);
                Turn::Reply(bytes, (!keep_alive).then_some(Closing::Flush))
            }
        }
    }

    /// Takes the passing of time; what to send, and whether to close.
    pub(super) fn tick(&mut self, now: Instant) -> (Vec<u8>, Option<Closing>) {
        match &mut self.stage {
            Stage::Http { until, .. } if now < *until => (Vec::new(), None),
            Stage::Http { .. } => (Vec::new(), Some(Closing::Abort)),
            Stage::Socket(socket) => {
                let close = (!socket.tick(now)).then_some(Closing::Abort);
                (socket.take_outbound(), close)
            }
        }
    }

    /// When `tick` has something to do, and why.
    pub(super) fn deadline(&self) -> (Instant, &'static str) {
        match &self.stage {
            Stage::Http { until, .. } => (*until, "share: request head"),
            Stage::Socket(socket) => socket.deadline(),
        }
    }
}

fn refuse(status: Code, text: &str) -> Turn {
    Turn::Reply(Response::refusal(status, text).encode(false, false), Some(Closing::Flush))
}
