//! The words of the punch: what is tried, how, and what came of it.

use super::schedule::Duty;
use crate::app::{ConnId, NetError, NetOp};
use crate::endpoint::Endpoint;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

/// One effort to reach one peer. The owner numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attempt(pub u64);

/// Where an endpoint was learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// The peer's own address, from the ticket.
    Ticket,
    /// The peer's own address, passed on by the daemon.
    Local,
    /// A router forwards it to the peer, as the peer says.
    Mapped,
    /// What the daemon saw.
    Observed,
    /// Nobody saw it: a NAT was expected to choose it, or one of many was hit.
    Predicted,
}

/// An endpoint to dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Where.
    pub endpoint: Endpoint,
    /// Learned from whom.
    pub origin: Origin,
}

/// How an attempt goes about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Approach {
    /// Our part after a refusal.
    pub duty: Duty,
    /// When observed endpoints are dialled first, from the start on: the daemon aligns both sides.
    pub begin_in: Duration,
    /// The longest that the way to the peer and back can take, if known.
    pub rtt: Option<Duration>,
}

/// A connection that formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Open {
    /// The connection; the owner has it from here on.
    pub conn: ConnId,
    /// Our address of it.
    pub local: Endpoint,
    /// The peer's.
    pub remote: Endpoint,
    /// The attempt that names the remote endpoint; `None` for a caller whom nobody announced.
    pub attempt: Option<Attempt>,
    /// Where the endpoint was learned; `None` as above.
    pub origin: Option<Origin>,
    /// Whether our connecting socket completed (by an answer or by crossing SYNs), not our listener.
    pub dialled: bool,
}

/// What an attempt met, for the report when it came to nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Connects begun.
    pub dials: u32,
    /// Connects answered by RST.
    pub refused: u32,
    /// Connects without a route.
    pub unreachable: u32,
    /// Connects that nobody answered.
    pub silent: u32,
    /// Endpoints tried.
    pub endpoints: u32,
}

impl Findings {
    /// Counts a connect that came to nothing.
    pub(super) const fn count(&mut self, error: NetError) {
        match error {
            NetError::Refused | NetError::Reset => self.refused += 1,
            NetError::Unreachable | NetError::Denied => self.unreachable += 1,
            NetError::TimedOut => self.silent += 1,
            NetError::GivenUp
            | NetError::HalfOpen
            | NetError::AddrNotAvailable
            | NetError::AddrInUse
            | NetError::TooManyFiles
            | NetError::Other(_) => {}
        }
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "connects: {} to {} addresses, {} refused, {} without a route, {} unanswered",
            self.dials, self.endpoints, self.refused, self.unreachable, self.silent
        )
    }
}

/// What the hole tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The port is bound; one address a family.
    Opened {
        /// The bound addresses, unspecified IPs with the hole port.
        locals: Vec<SocketAddr>,
    },
    /// The port cannot be had.
    Failed {
        /// What was asked for.
        addr: SocketAddr,
        /// Why.
        error: NetError,
    },
    /// The first SYN to an endpoint goes out.
    Trying {
        /// For which attempt.
        attempt: Attempt,
        /// Where to.
        target: Target,
    },
    /// A connection formed.
    Open(Open),
    /// The attempt's time is over; nothing is dialled for it any more.
    Exhausted {
        /// Which.
        attempt: Attempt,
        /// What it met.
        findings: Findings,
    },
}

/// What the hole asks for and tells.
#[derive(Debug)]
pub enum Output {
    /// For the network.
    Net(NetOp),
    /// For the application.
    Event(Event),
}
