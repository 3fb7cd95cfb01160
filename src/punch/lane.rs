//! One endpoint of one attempt, and when it is dialled next.

use super::schedule::{self, Failure, Reach};
use super::types::{Answer, Approach, Attempt, Findings, Origin, Target};
use crate::app::{ConnId, NetError};
use crate::endpoint::Endpoint;
use std::time::{Duration, Instant};

/// ```text
///  Waiting ──▶ Dialling ──▶ Connected
///     ▲            │ refused, silent, given up   │ closed
///     └────────────┴─────────────────────────────┘
/// ```
pub(super) enum State {
    Waiting {
        until: Instant,
        reach: Reach,
    },
    Dialling {
        conn: ConnId,
        since: Instant,
        reach: Reach,
    },
    /// A connection to this endpoint exists.
    Connected {
        conn: ConnId,
    },
}

pub(super) struct Lane {
    pub(super) attempt: Attempt,
    pub(super) target: Target,
    pub(super) state: State,
    pub(super) dials: u32,
    /// Why the last connect came to nothing.
    failed: Option<NetError>,
}

/// An attempt under way.
pub(super) struct Effort {
    pub(super) attempt: Attempt,
    pub(super) approach: Approach,
    pub(super) start: Instant,
    pub(super) findings: Findings,
}

impl Lane {
    pub(super) fn new(attempt: Attempt, target: Target, until: Instant) -> Self {
        let state = State::Waiting { until, reach: Reach::Full };
        Self { attempt, target, state, dials: 0, failed: None }
    }

    /// One whose endpoint nobody named, with the connection that leads there.
    pub(super) const fn found(attempt: Attempt, endpoint: Endpoint, conn: ConnId) -> Self {
        let target = Target { endpoint, origin: Origin::Predicted };
        Self { attempt, target, state: State::Connected { conn }, dials: 0, failed: None }
    }

    /// A connect under way.
    pub(super) const fn dialling(&self) -> Option<ConnId> {
        match self.state {
            State::Dialling { conn, .. } => Some(conn),
            State::Waiting { .. } | State::Connected { .. } => None,
        }
    }

    pub(super) const fn is_waiting(&self) -> bool {
        matches!(self.state, State::Waiting { .. })
    }

    /// What became of its connects.
    pub(super) const fn answer(&self) -> Answer {
        match (&self.state, self.failed) {
            (State::Connected { .. }, _) => Answer::Connected,
            (_, Some(NetError::Refused | NetError::Reset)) => Answer::Refused,
            (_, Some(NetError::Unreachable | NetError::Denied)) => Answer::Unreachable,
            (State::Waiting { .. } | State::Dialling { .. }, _) => Answer::Silent,
        }
    }

    /// The attempt starts again, and may know more of the endpoint.
    pub(super) fn renew(&mut self, now: Instant, approach: Approach, target: Target) {
        self.dials = 0;
        if target.origin == Origin::Observed {
            self.target.origin = Origin::Observed;
        }
        let first = first_dial(now, approach, target);
        if let State::Waiting { until, .. } = &mut self.state {
            *until = first.min(*until);
        }
    }

    /// A connect begins.
    pub(super) const fn dialled(&mut self, now: Instant, conn: ConnId, reach: Reach) {
        self.dials += 1;
        self.state = State::Dialling { conn, since: now, reach };
    }

    /// The connect came to nothing.
    pub(super) fn failed(&mut self, now: Instant, effort: &Effort, error: NetError) {
        let State::Dialling { since, reach, .. } = self.state else { return };
        self.failed = Some(error);
        match error {
            // No SYN has left; the budget is for those that have.
            NetError::Unreachable
            | NetError::AddrNotAvailable
            | NetError::AddrInUse
            | NetError::TooManyFiles => {
                self.dials = self.dials.saturating_sub(1);
            }
            NetError::Refused
            | NetError::Reset
            | NetError::GivenUp
            | NetError::TimedOut
            | NetError::HalfOpen
            | NetError::Denied
            | NetError::Other(_) => {}
        }
        let (until, reach) = match self.target.origin {
            Origin::Observed => {
                let failure = Failure { reach, lasted: now.saturating_duration_since(since), error };
                schedule::next(effort.approach.duty, effort.start, now, failure, self.dials)
            }
            Origin::Ticket | Origin::Local | Origin::Mapped | Origin::Predicted => {
                (schedule::again(effort.start, now, error, self.dials), Reach::Full)
            }
        };
        log::debug!(
            "attempt={} to {}: {error}, next in {:?} {reach:?}",
            self.attempt.0,
            self.target.endpoint,
            until.saturating_duration_since(now)
        );
        self.state = State::Waiting { until, reach };
    }

    /// The connection is gone.
    pub(super) fn released(&mut self, now: Instant, start: Instant) {
        let until = schedule::again(start, now, NetError::Reset, self.dials);
        self.state = State::Waiting { until, reach: Reach::Full };
    }

    /// Somebody else is at this endpoint already.
    pub(super) fn postpone(&mut self, now: Instant, reach: Reach) {
        self.state = State::Waiting { until: now + schedule::LONG_PAUSE, reach };
    }
}

/// When a target is dialled first.
pub(super) fn first_dial(now: Instant, approach: Approach, target: Target) -> Instant {
    now + if target.origin == Origin::Observed { approach.begin_in } else { Duration::ZERO }
}
