//! The broker's deadlines.
//!
//! They are kept lazily: each connection has one entry in the agenda, looked at when it comes up and put back if the
//! connection was heard meanwhile, so that a heartbeat costs no reordering.

use super::broker::{Broker, Conn, Ending, Flow, Phase};
use crate::app::ConnId;
use crate::endpoint::Prefix;
use crate::wire::message::Refusal;
use std::time::Instant;

/// What a deadline is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    Conn(ConnId),
    Dial(ConnId),
    Source(Prefix),
    Nameplate(u32),
}

impl Broker {
    /// Ends what is overdue at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(&(at, due)) = self.agenda.first()
            && at <= now
        {
            self.agenda.pop_first();
            match due {
                Due::Conn(id) => self.look_at(now, id),
                Due::Dial(id) => self.dialled(now, id, false),
                Due::Source(prefix) => self.sources.forget(now, prefix),
                Due::Nameplate(number) => {
                    let again = self.nameplates.expire(now, number, &self.limits);
                    self.agenda.extend(again.map(|at| (at, Due::Nameplate(number))));
                }
            }
        }
        self.settle(now);
    }

    /// When `handle_timeout` has something to look at.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let &(at, due) = self.agenda.first()?;
        let why = match due {
            Due::Conn(id) => self.conns.get(&id).map_or("connection", |conn| self.deadline(conn).1),
            Due::Dial(_) => "connect to a client to test its filtering",
            Due::Source(_) => "forget a source address",
            Due::Nameplate(_) => "free the number of a code",
        };
        Some((at, why))
    }

    /// Moves a connection to `phase`, from which moment its new deadline counts.
    pub(super) fn enter(&mut self, now: Instant, id: ConnId, phase: Phase) {
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.phase = phase;
            conn.since = now;
            self.arm(id);
        }
    }

    /// When `conn` is overdue, and for what.
    pub(super) fn deadline(&self, conn: &Conn) -> (Instant, &'static str) {
        let limits = &self.limits;
        let phase = match conn.phase {
            Phase::New => (conn.since + limits.first_message, "first message"),
            Phase::Held(..) => (conn.since + limits.held, "login of a connection's token"),
            Phase::LoggedIn(_) | Phase::Bound(..) => (conn.since + limits.idle, "idle connection"),
            Phase::Half(_) => (conn.since + limits.relay_pairing, "other half of a relay"),
            Phase::Calling(_) => (conn.since + limits.call, "answers to a call"),
            Phase::Relayed(pairing, role) => {
                let deadline = self.relays.deadline(pairing, role, limits);
                deadline.unwrap_or((conn.since + limits.relay_silence, "silent relay"))
            }
        };
        match (conn.flow, conn.phase) {
            (Flow::Open, _) => phase,
            // A full socket is a relay's way to say "slower"; one that takes nothing at all is dead.
            (Flow::Backlogged { since, .. }, Phase::Relayed(..)) => {
                phase.min((since + limits.relay_silence, "unread relayed bytes"))
            }
            (
                Flow::Backlogged { since, .. },
                Phase::New
                | Phase::Held(..)
                | Phase::LoggedIn(_)
                | Phase::Bound(..)
                | Phase::Half(_)
                | Phase::Calling(_),
            ) => phase.min((since + limits.backlog, "unread bytes")),
        }
    }

    /// Brings a connection's entry in the agenda forward. One that is too early stays, and is put back when it comes
    /// up.
    pub(super) fn arm(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(&id) else { return };
        let (at, _) = self.deadline(conn);
        let armed = conn.armed;
        if at < armed {
            self.agenda.remove(&(armed, Due::Conn(id)));
            self.rearm(id, at);
        }
    }

    fn rearm(&mut self, id: ConnId, at: Instant) {
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.armed = at;
            self.agenda.insert((at, Due::Conn(id)));
        }
    }

    /// A connection's entry came up: ends it, or puts the entry where it belongs.
    fn look_at(&mut self, now: Instant, id: ConnId) {
        let Some(conn) = self.conns.get(&id) else { return };
        let (at, why) = self.deadline(conn);
        if at > now {
            self.rearm(id, at);
            return;
        }
        if let Phase::Relayed(pairing, role) = conn.phase
            && self.rested(now, pairing, role)
        {
            if let Some(conn) = self.conns.get(&id) {
                let (at, _) = self.deadline(conn);
                self.rearm(id, at);
            }
            return;
        }
        log::debug!("conn={id} ended: {why} overdue");
        let Some(conn) = self.conns.get(&id) else { return };
        let ending = match (conn.flow, conn.phase) {
            (_, Phase::Relayed(..)) => Ending::Flush,
            (Flow::Backlogged { .. }, _) => Ending::Abort,
            (Flow::Open, Phase::Held(..)) => Ending::Refuse(Refusal::BadRequest),
            (Flow::Open, Phase::Half(_)) => Ending::Refuse(Refusal::NoRelay),
            (Flow::Open, Phase::Calling(_)) => Ending::Refuse(Refusal::NoCode),
            (Flow::Open, Phase::New | Phase::LoggedIn(_) | Phase::Bound(..)) => Ending::Flush,
        };
        self.end(now, id, ending);
    }
}
