//! Readiness: from the system's events to sockets that are ready.

use super::{Ready, Sockets};
use crate::app::{ConnId, ListenerId, Room};
use mio::{Events, Token};
use std::io;
use std::time::{Duration, Instant};

/// Events taken from one poll.
pub(super) const EVENTS: usize = 1024;

pub(super) const WAKER: Token = Token(usize::MAX);
pub(super) const ALARM: Token = Token(usize::MAX - 1);
const LISTENER_BIT: usize = 1 << 48;

impl Sockets {
    pub(in crate::driver) fn has_work(&self) -> bool {
        !self.ready.is_empty() || !self.pending.is_empty()
    }

    /// Takes what is ready without waiting.
    pub(in crate::driver) fn poll_now(&mut self) -> io::Result<()> {
        self.poll_for(Some(Duration::ZERO))
    }

    /// Waits until something is ready, or `deadline`, or a deadline of the sockets' own.
    pub(in crate::driver) fn wait(&mut self, deadline: Option<Instant>, now: Instant) -> io::Result<()> {
        let retries = self.listeners.values().filter_map(|listener| listener.retry_at);
        let flushes = self.flushes.front().map(|(deadline, _)| *deadline);
        let own = retries.chain(flushes).chain(self.handshakes.deadline()).min();
        let until = match (deadline, own) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        self.poll_for(until.map(|at| at.saturating_duration_since(now)))
    }

    /// A wait that is under way at `at` ends then, to the microsecond.
    pub(in crate::driver) fn wake_at(&mut self, at: Instant, now: Instant) {
        self.alarm.set(at, now, self.poll.registry(), ALARM);
    }

    fn poll_for(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.prolonged = 0;
        match self.poll.poll(&mut self.events, timeout) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(error),
        }
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            if [WAKER, ALARM].contains(&event.token()) {
                continue;
            }
            if let Some(listener) = listener_of(event.token()) {
                if let Some(entry) = self.listeners.get_mut(&listener)
                    && !entry.queued
                {
                    entry.queued = true;
                    self.ready.push_back(Ready::Accept(listener));
                }
                continue;
            }
            let conn = conn_of(event.token());
            let Some(entry) = self.conns.get_mut(&conn) else { continue };
            let is_ending = event.is_read_closed() || event.is_error();
            entry.ending |= is_ending;
            // Most often it is told along with what came to read, and nothing waits for it.
            let writes = entry.awaits_writable() && (event.is_writable() || event.is_error());
            // Writing first: a connect is finished before its first bytes are read.
            if writes {
                self.queue_write(conn);
            }
            if event.is_readable() || is_ending {
                self.queue_read(conn);
            }
        }
        self.events = events;
        Ok(())
    }
}

/// Names are never used twice, so a stale event of a batch finds nothing.
pub(super) const fn conn_token(conn: ConnId) -> Token {
    Token(((conn.room.0 as usize) << 32) | conn.serial as usize)
}

const fn conn_of(token: Token) -> ConnId {
    ConnId { room: Room((token.0 >> 32) as u8), serial: token.0 as u32 }
}

pub(super) const fn listener_token(listener: ListenerId) -> Token {
    Token(LISTENER_BIT | ((listener.room.0 as usize) << 32) | listener.serial as usize)
}

const fn listener_of(token: Token) -> Option<ListenerId> {
    if token.0 & LISTENER_BIT == 0 {
        return None;
    }
    Some(ListenerId { room: Room((token.0 >> 32) as u8), serial: token.0 as u32 })
}
