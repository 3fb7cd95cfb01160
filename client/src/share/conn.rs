//! One connection of the sharing page: first a reader of request heads, then perhaps a WebSocket.

use super::site::{self, Answer};
use super::socket::Socket;
use crate::page::PageToken;
use crate::page::heads::{Heads, Reply};
use crate::page::http::{self, Status as Code};
use punchcast::app::Closing;
use std::net::SocketAddr;
use std::time::Instant;

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
    Http(Heads),
    /// A page's WebSocket.
    Socket(Box<Socket>),
}

/// What is to be done after bytes of a head.
#[derive(Debug)]
pub(super) enum Turn {
    /// Wait for more.
    Wait,
    /// Send this, and perhaps close.
    Reply(Reply),
    /// Become a WebSocket: send this; the rest came behind the head.
    Join(Vec<u8>, Vec<u8>),
}

impl Conn {
    /// A connection accepted at `now`.
    pub(super) fn new(now: Instant, local: SocketAddr, remote: SocketAddr) -> Self {
        let stage = Stage::Http(Heads::new(now));
        Self { local, remote, passed: false, backlogged: false, owed: Owed::default(), stage }
    }

    /// The WebSocket, if it is one.
    pub(super) fn socket(&mut self) -> Option<&mut Socket> {
        match &mut self.stage {
            Stage::Socket(socket) => Some(socket),
            Stage::Http(_) => None,
        }
    }

    /// Takes bytes of a request head.
    pub(super) fn receive_head(&mut self, now: Instant, bytes: &[u8], token: &PageToken) -> Turn {
        let Stage::Http(heads) = &mut self.stage else { return Turn::Wait };
        let asked = match heads.receive(now, bytes) {
            Ok(Some(asked)) => asked,
            Ok(None) => return Turn::Wait,
            Err(refusal) => return Turn::Reply(refusal),
        };
        match site::answer(&asked.request, self.local, token) {
            Answer::Socket(accept) => {
                self.passed = true;
                Turn::Join(http::switch_protocols(&accept), asked.rest)
            }
            Answer::Response(response) => {
                self.passed |= response.status == Code::Ok;
                Turn::Reply(heads.reply(now, &asked, &response))
            }
        }
    }

    /// Takes the passing of time.
    pub(super) fn tick(&mut self, now: Instant) -> Reply {
        match &mut self.stage {
            Stage::Http(heads) => heads.tick(now, self.backlogged),
            Stage::Socket(socket) => {
                let close = (!socket.tick(now)).then_some(Closing::Abort);
                Reply { send: socket.take_outbound(), close }
            }
        }
    }

    /// When `tick` has something to do, and why.
    pub(super) fn deadline(&self) -> (Instant, &'static str) {
        match &self.stage {
            Stage::Http(heads) => heads.deadline(),
            Stage::Socket(socket) => socket.deadline(),
        }
    }
}
