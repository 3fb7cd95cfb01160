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
    /// Connects begun: SYNs, those aside that the system repeats.
    pub dials: u32,
    /// Connects answered by RST.
    pub refused: u32,
    /// Connects without a route.
    pub unreachable: u32,
    /// Connects that led to a connection, which was no link.
    pub connected: u32,
    /// Endpoints tried.
    pub endpoints: u32,
}

impl Findings {
    /// Connects that nobody answered: all the rest.
    #[must_use]
    pub const fn silent(&self) -> u32 {
        self.dials.saturating_sub(self.refused + self.unreachable + self.connected)
    }

    /// Counts a connect that came to nothing.
    pub(super) const fn count(&mut self, error: NetError) {
        match error {
            NetError::Refused | NetError::Reset => self.refused += 1,
            NetError::Unreachable | NetError::Denied => self.unreachable += 1,
            // No SYN has left.
            NetError::AddrNotAvailable | NetError::AddrInUse | NetError::TooManyFiles => {
                self.dials = self.dials.saturating_sub(1);
            }
            NetError::TimedOut | NetError::GivenUp | NetError::HalfOpen | NetError::Other(_) => {}
        }
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = |count, one, many| if count == 1 { one } else { many };
        write!(
            f,
            "{} {} to {} {}",
            self.dials,
            plural(self.dials, "connect", "connects"),
            self.endpoints,
            plural(self.endpoints, "address", "addresses")
        )?;
        let parts = [
            (self.refused, "refused"),
            (self.unreachable, "without a route"),
            (self.silent(), "unanswered"),
            (self.connected, "that led to no link"),
        ];
        let met = parts.into_iter().filter(|(count, _)| *count > 0);
        for ((count, what), before) in met.zip(std::iter::once(": ").chain(std::iter::repeat(", "))) {
            write!(f, "{before}{count} {what}")?;
        }
        Ok(())
    }
}

/// What became of the connects to one endpoint of an attempt, so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The last one was answered by RST.
    Refused,
    /// There was no route for the last one.
    Unreachable,
    /// Nobody answered.
    Silent,
    /// A connection stands.
    Connected,
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
