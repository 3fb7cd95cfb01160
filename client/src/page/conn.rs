//! One connection of the page: first a reader of request heads, then perhaps a WebSocket.

use super::flv;
use super::heads::{Heads, Reply};
use super::http::{self, Status as Code};
use super::site::{Answer, Site};
use super::socket::{Received, Socket, Wish};
use punchcast::app::Closing;
use punchcast::endpoint::Prefix;
use punchcast::media::Unit;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Instant;

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
    /// The places of casts of which pictures were left out while it was backlogged, and no keyframe has come since.
    pub(super) starved: BTreeSet<usize>,
    /// What the connection is.
    pub(super) stage: Stage,
}

/// What a connection is.
#[derive(Debug)]
pub(super) enum Stage {
    /// Between two requests, or within a head.
    Http(Heads),
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

impl From<Reply> for Turn {
    fn from(Reply { send, close }: Reply) -> Self {
        Self { send, close, wishes: Vec::new() }
    }
}

impl Conn {
    /// A connection from `remote`, accepted at `now` on our address `local`.
    pub(super) fn new(now: Instant, local: SocketAddr, remote: SocketAddr) -> Self {
        let stage = Stage::Http(Heads::new(now));
        let (source, starved) = (Prefix::of(remote.ip()), BTreeSet::new());
        Self { local, source, passed: false, backlogged: false, starved, stage }
    }

    /// Whether a keyframe would help now that `unit` has come of the cast at `place`, and pictures were left out or not. Who is
    /// backlogged could not take it, so that is kept for when it can.
    pub(super) fn starves(&mut self, place: usize, unit: &Unit, left_out: bool) -> bool {
        if !self.backlogged {
            return left_out;
        }
        if unit.is_keyframe() {
            self.starved.remove(&place);
        } else if left_out {
            self.starved.insert(place);
        }
        false
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
        let Stage::Http(heads) = &mut self.stage else { return Turn::default() };
        let asked = match heads.receive(now, bytes) {
            Ok(Some(asked)) => asked,
            Ok(None) => return Turn::default(),
            Err(refusal) => return refusal.into(),
        };
        match site.answer(&asked.request, self.local) {
            Answer::Socket { accept } => {
                self.passed = true;
                let switch = http::switch_protocols(&accept);
                *joined = Some(Joined::Socket { switch, early: asked.rest });
                Turn::default()
            }
            Answer::Flv { place } => {
                self.passed = true;
                let head = http::endless("video/x-flv");
                if asked.request.head_only {
                    // The body that is left out would have ended the connection.
                    return Turn { send: head, close: Some(Closing::Flush), wishes: Vec::new() };
                }
                *joined = Some(Joined::Flv { head, place });
                Turn::default()
            }
            Answer::Response(response) => {
                self.passed |= response.status == Code::Ok;
                heads.reply(now, &asked, &response).into()
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
            Stage::Http(_) => return None,
            Stage::Socket(socket) => {
                socket.flush(|| site.status_json());
                socket.take_outbound()
            }
            Stage::Flv(response) => response.take(),
        };
        Some(bytes).filter(|bytes| !bytes.is_empty())
    }

    /// Takes the passing of time.
    pub(super) fn tick(&mut self, now: Instant) -> Turn {
        match &mut self.stage {
            Stage::Http(heads) => heads.tick(now, self.backlogged).into(),
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
            Stage::Http(heads) => heads.deadline(),
            Stage::Socket(socket) => socket.deadline(),
            Stage::Flv(response) => response.deadline(),
        }
    }
}
