//! The client's half of a relayed link: gets a connection to the daemon whose other end is the peer's.
//!
//! It decides when an attempt has failed; it refuses to know when a relay is worth asking for and what is said over
//! it. Both sides of an introduction ask, each on a connection of its own from any port, and the daemon joins the
//! two.
//!
//! # Life of an attempt
//!
//! ```text
//!  Idle ── open ─▶ Dialling ── connected: Relay ─▶ Waiting ── Relaying ─▶ through: the connection is the owner's
//!   ▲                 │                               │
//!   └── failed ───────┴──── refused, failed, late ────┘
//! ```

use crate::app::{Closing, ConnId, Input, NetOp};
use crate::id::{PunchToken, SessionId};
use crate::wire;
use crate::wire::frame::{MAX_FRAME, Reader};
use crate::wire::message::{FromMain, Refusal, ToMain};
use bytes::Bytes;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How long the connect may take. A path on which three SYNs are lost has its chance.
pub const CONNECT_TIME: Duration = Duration::from_secs(10);
/// How long the other side's half may take. The daemon says no a few seconds earlier; this is for a daemon that went
/// silent.
pub const WAIT_TIME: Duration = Duration::from_secs(30);

/// One attempt at a time to get a relayed connection. See the [module](self).
#[derive(Debug)]
pub struct Relay {
    attempt: Attempt,
    outputs: VecDeque<Output>,
}

/// What the relay wants or tells.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// Something for the network.
    Net(NetOp),
    /// Something for the owner.
    Event(Event),
}

/// How an attempt ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// Both halves are there. From here on the connection's inputs are the owner's.
    Through {
        /// The connection, by the name that it was given.
        conn: ConnId,
        /// Our address of it.
        local: SocketAddr,
        /// The daemon's.
        remote: SocketAddr,
        /// What the daemon lets pass.
        terms: Terms,
        /// What the other side has sent already.
        first: Bytes,
    },
    /// The daemon will not.
    Refused(Refusal),
    /// It came to nothing; why, in words.
    Failed(String),
    /// The connection was lost before the answer came; why, in words. Another may do.
    Lost(String),
}

/// What the daemon lets pass before it ends the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How many bytes at most, both directions together.
    pub bytes: u64,
    /// For how long at most.
    pub time: Duration,
}

#[derive(Debug)]
enum Attempt {
    Idle,
    Dialling { conn: ConnId, token: PunchToken, session: SessionId, deadline: Instant },
    Waiting { conn: ConnId, local: SocketAddr, remote: SocketAddr, reader: Reader, deadline: Instant },
}

impl Relay {
    /// An idle one.
    #[must_use]
    pub const fn new() -> Self {
        Self { attempt: Attempt::Idle, outputs: VecDeque::new() }
    }

    /// Asks the daemon at `server` (its main port) to join us to the other side of `session`, on a connection by the name
    /// of `conn`. `token` is the one of our login there. Takes the place of an earlier attempt that is not through.
    pub fn open(
        &mut self,
        now: Instant,
        conn: ConnId,
        server: SocketAddr,
        token: PunchToken,
        session: SessionId,
    ) {
        self.cancel();
        self.outputs.push_back(Output::Net(NetOp::Connect { conn, from: None, to: server }));
        self.attempt = Attempt::Dialling { conn, token, session, deadline: now + CONNECT_TIME };
    }

    /// Gives up the attempt that is not through, if there is one, and tells nothing of it.
    pub fn cancel(&mut self) {
        if let Some(conn) = self.conn() {
            self.outputs.push_back(Output::Net(NetOp::Close { conn, how: Closing::Abort }));
        }
        self.attempt = Attempt::Idle;
    }

    /// Whether an attempt is under way.
    #[must_use]
    pub const fn is_trying(&self) -> bool {
        match self.attempt {
            Attempt::Idle => false,
            Attempt::Dialling { .. } | Attempt::Waiting { .. } => true,
        }
    }

    /// Takes an input. One for another connection than that of the attempt is left alone.
    pub fn handle_input(&mut self, now: Instant, input: &Input<'_>) {
        match *input {
            Input::Connected { conn, local, remote } if self.conn() == Some(conn) => {
                self.connected(now, local, remote);
            }
            Input::Received { conn, bytes } if self.conn() == Some(conn) => self.received(bytes),
            Input::ConnectFailed { conn, error } | Input::Closed { conn, error: Some(error) }
                if self.conn() == Some(conn) =>
            {
                self.gone(error.to_string());
            }
            Input::Closed { conn, error: None } if self.conn() == Some(conn) => {
                self.gone("the daemon closed the connection".to_owned());
            }
            Input::Connected { .. }
            | Input::Received { .. }
            | Input::ConnectFailed { .. }
            | Input::Closed { .. }
            | Input::Listening { .. }
            | Input::ListenFailed { .. }
            | Input::Accepted { .. }
            | Input::Backlogged { .. }
            | Input::Drained { .. }
            | Input::Interrupted => {}
        }
    }

    /// Takes the passing of time.
    pub fn handle_timeout(&mut self, now: Instant) {
        match self.attempt {
            Attempt::Dialling { deadline, .. } if deadline <= now => self.fail("the daemon did not answer"),
            Attempt::Waiting { deadline, .. } if deadline <= now => {
                self.fail("the other side did not come to the relay");
            }
            Attempt::Idle | Attempt::Dialling { .. } | Attempt::Waiting { .. } => {}
        }
    }

    /// The next thing to carry out or to hear of, until `None`.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When it wants `handle_timeout`, and why.
    #[must_use]
    pub const fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        match self.attempt {
            Attempt::Idle => None,
            Attempt::Dialling { deadline, .. } => Some((deadline, "connect to the relay")),
            Attempt::Waiting { deadline, .. } => Some((deadline, "the other half of the relay")),
        }
    }

    const fn conn(&self) -> Option<ConnId> {
        match self.attempt {
            Attempt::Idle => None,
            Attempt::Dialling { conn, .. } | Attempt::Waiting { conn, .. } => Some(conn),
        }
    }

    fn connected(&mut self, now: Instant, local: SocketAddr, remote: SocketAddr) {
        let Attempt::Dialling { conn, token, session, .. } = self.attempt else { return };
        let bytes = wire::encode(&ToMain::Relay { token, session });
        self.outputs.push_back(Output::Net(NetOp::Send { conn, bytes }));
        let reader = Reader::new(MAX_FRAME);
        self.attempt = Attempt::Waiting { conn, local, remote, reader, deadline: now + WAIT_TIME };
    }

    fn received(&mut self, bytes: &[u8]) {
        let Attempt::Waiting { reader, .. } = &mut self.attempt else { return };
        reader.push(bytes);
        match reader.next::<FromMain>() {
            Ok(None) => {}
            Ok(Some(FromMain::Relaying { bytes, seconds })) => {
                self.through(Terms { bytes, time: Duration::from_secs(u64::from(seconds)) });
            }
            Ok(Some(FromMain::Refused { reason })) => {
                self.cancel();
                self.outputs.push_back(Output::Event(Event::Refused(reason)));
            }
            Ok(Some(FromMain::Shutdown)) => self.fail("it was shut down"),
            Ok(Some(
                FromMain::Welcome { .. }
                | FromMain::NewUserLogin { .. }
                | FromMain::UserLogout { .. }
                | FromMain::SrvReqMakeHole { .. }
                | FromMain::SrvReqDirectConnect { .. }
                | FromMain::Heartbeat { .. }
                | FromMain::Observed { .. }
                | FromMain::FilterResult { .. }
                | FromMain::Nameplate { .. }
                | FromMain::Called { .. }
                | FromMain::Answered { .. }
                | FromMain::Confirmed { .. }
                | FromMain::Granted { .. },
            )) => self.fail("the daemon answered something else"),
            Err(error) => {
                log::debug!("relay: {error}");
                self.fail("the daemon does not speak the language");
            }
        }
    }

    fn through(&mut self, terms: Terms) {
        if let Attempt::Waiting { conn, local, remote, reader, .. } =
            std::mem::replace(&mut self.attempt, Attempt::Idle)
        {
            let first = Bytes::from(reader.into_rest());
            self.outputs.push_back(Output::Event(Event::Through { conn, local, remote, terms, first }));
        }
    }

    /// Ends the attempt, whose connection still exists.
    fn fail(&mut self, why: &str) {
        self.cancel();
        self.outputs.push_back(Output::Event(Event::Failed(why.to_owned())));
    }

    /// The connection is gone.
    fn gone(&mut self, why: String) {
        let event = match std::mem::replace(&mut self.attempt, Attempt::Idle) {
            Attempt::Waiting { .. } => Event::Lost(why),
            Attempt::Idle | Attempt::Dialling { .. } => Event::Failed(why),
        };
        self.outputs.push_back(Output::Event(event));
    }
}

impl Default for Relay {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
