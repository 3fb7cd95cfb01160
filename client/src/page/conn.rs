//! One connection of the page: first a reader of request heads, then perhaps a WebSocket.

use super::flv;
use super::http::{self, Head, MAX_HEAD, Response, Status as Code};
use super::site::{Answer, Site};
use super::socket::{Received, Socket, Wish};
use punchcast::app::Closing;
use punchcast::endpoint::Prefix;
use punchcast::media::pace::Queue;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How long a request head may take to arrive, from the connection or from its first byte. On any path that can
/// carry a picture a head of one packet takes milliseconds; five seconds are what a slow proxy may add.
pub(super) const HEAD_TIME: Duration = Duration::from_secs(5);

/// How long a connection may idle after a response. Browsers keep theirs for the page's other files.
pub(super) const IDLE_TIME: Duration = Duration::from_secs(30);

/// A connection.
#[derive(Debug)]
pub(super) struct Conn {
    local: SocketAddr,
    /// Where it comes from.
    pub(super) source: Prefix,
    /// A request of its was answered with what it asked for, so it is no stranger.
    pub(super) passed: bool,
    /// The driver holds bytes that the socket did not take.
    pub(super) backlogged: bool,
    /// What the connection is.
    pub(super) stage: Stage,
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
    /// A player's response without end.
    Flv(Box<flv::Response>),
}

/// What a connection turns into after a request.
#[derive(Debug)]
pub(super) enum Joined {
    /// A page's WebSocket.
    Socket {
        /// The response that switches to it.
        switch: Vec<u8>,
        /// What came after the head.
        early: Vec<u8>,
    },
    /// A cast as FLV.
    Flv {
        /// The response's head.
        head: Vec<u8>,
        /// Which cast.
        place: usize,
    },
}

/// What is to be done after an input.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// Send this.
    pub(super) send: Vec<u8>,
    /// Then close.
    pub(super) close: Option<Closing>,
    /// The page asks for these.
    pub(super) wishes: Vec<Wish>,
}

impl Turn {
    fn refuse(status: Code, text: &str) -> Self {
        let send = Response::refusal(status, text).encode(false, false);
        Self { send, close: Some(Closing::Flush), wishes: Vec::new() }
    }
}

impl Conn {
    /// A connection from `remote`, accepted at `now` on our address `local`.
    pub(super) fn new(now: Instant, local: SocketAddr, remote: SocketAddr) -> Self {
        let stage = Stage::Http { head: Vec::new(), until: now + HEAD_TIME };
        Self { local, source: Prefix::of(remote.ip()), passed: false, backlogged: false, stage }
    }

    /// Takes bytes of a request head. Where they ask for a WebSocket or a cast and may have it, `joined` gets what that
    /// begins with.
    pub(super) fn receive_head(
        &mut self,
        now: Instant,
        bytes: &[u8],
        site: &Site,
        joined: &mut Option<Joined>,
    ) -> Turn {
        let Stage::Http { head, until } = &mut self.stage else { return Turn::default() };
        if head.is_empty() {
            *until = now + HEAD_TIME;
        }
        head.extend_from_slice(bytes);
        let (request, length) = match http::parse(head) {
            Head::Partial => return Turn::default(),
            Head::Refused(status) => {
                return Turn::refuse(status, "The page takes GET and HEAD requests only.");
            }
            Head::Complete(request, length) => (request, length),
        };
        debug_assert!(length <= MAX_HEAD);
        let rest = head.split_off(length);
        head.clear();
        match site.answer(&request, self.local) {
            Answer::Socket { accept } => {
                self.passed = true;
                *joined = Some(Joined::Socket { switch: http::switch_protocols(&accept), early: rest });
                Turn::default()
            }
            Answer::Flv { place } => {
                self.passed = true;
                *joined = Some(Joined::Flv { head: http::endless("video/x-flv"), place });
                Turn::default()
            }
            Answer::Response(response) => {
                *until = now + IDLE_TIME;
                self.passed |= response.status == Code::Ok;
                // A request sent before the last one was answered could make answers pile up; no browser does it.
                let keep_alive = request.keep_alive && response.status == Code::Ok && rest.is_empty();
                let send = response.encode(request.head_only, keep_alive);
                Turn { send, close: (!keep_alive).then_some(Closing::Flush), wishes: Vec::new() }
            }
        }
    }

    /// Takes bytes of a WebSocket.
    pub(super) fn receive_message(&mut self, now: Instant, bytes: &[u8]) -> Turn {
        let Stage::Socket(socket) = &mut self.stage else { return Turn::default() };
        let received = socket.receive(now, bytes);
        let send = socket.take_outbound();
        match received {
            Received::Open(wishes) => Turn { send, close: None, wishes },
            Received::Over => Turn { send, close: Some(Closing::Flush), wishes: Vec::new() },
        }
    }

    /// What may go to the peer of what waited; nothing while the connection is backed up.
    pub(super) fn flush(&mut self, site: &Site) -> Option<Vec<u8>> {
        if self.backlogged {
            return None;
        }
        let bytes = match &mut self.stage {
            Stage::Http { .. } => return None,
            Stage::Socket(socket) => {
                socket.flush(|| site.status_json());
                socket.take_outbound()
            }
            Stage::Flv(response) => response.take(),
        };
        Some(bytes).filter(|bytes| !bytes.is_empty())
    }

    /// The queue of the cast at `place`, where this connection is sent it.
    pub(super) fn queue(&mut self, place: usize) -> Option<&mut Queue> {
        match &mut self.stage {
            Stage::Http { .. } => None,
            Stage::Socket(socket) => Some(&mut socket.lane(place).queue),
            Stage::Flv(response) => (response.place == place).then_some(&mut response.queue),
        }
    }

    /// Takes the passing of time.
    pub(super) fn tick(&mut self, now: Instant) -> Turn {
        match &mut self.stage {
            Stage::Http { until, .. } if now < *until => Turn::default(),
            Stage::Http { head, .. } if head.is_empty() || self.backlogged => {
                Turn { close: Some(Closing::Abort), ..Turn::default() }
            }
            Stage::Http { .. } => Turn::refuse(Code::RequestTimeout, "The request took too long to arrive."),
            Stage::Socket(socket) => {
                let close = (!socket.tick(now)).then_some(Closing::Abort);
                Turn { send: socket.take_outbound(), close, wishes: Vec::new() }
            }
            Stage::Flv(response) if now < response.until => Turn::default(),
            Stage::Flv(response) => {
                response.until = now + flv::STALL_TIME;
                Turn { close: self.backlogged.then_some(Closing::Abort), ..Turn::default() }
            }
        }
    }

    /// When `tick` has something to do, and why.
    pub(super) fn deadline(&self) -> (Instant, &'static str) {
        match &self.stage {
            Stage::Http { until, head } if head.is_empty() => (*until, "page: idle connection"),
            Stage::Http { until, .. } => (*until, "page: request head"),
            Stage::Socket(socket) => socket.deadline(),
            Stage::Flv(response) => (response.until, "page: a player that takes nothing"),
        }
    }
}
