//! What is done with a ready socket, a step at a time: one accept, one read, or all that it takes of what waits.

use super::conn::{Conn, State};
use super::{Ready, Sockets, canonical};
use crate::app::{App, ConnId, Input, ListenerId, Room, Space};
use crate::driver::socket;
use bytes::BufMut;
use std::io::{self, Read};
use std::net::Shutdown;
use std::time::{Duration, Instant};

/// How long a listener waits before it accepts again after an error that may last, most likely that the system had no
/// descriptor for it: an edge is not repeated, so waiting clients would be forgotten.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Whether a read that brings less than there is room for has emptied the socket, so that the next bytes come with an edge
/// of their own: epoll(7) says so. An end that was told before that read has no further edge.
const SHORT_READS_EMPTY: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// What a step brings to the application.
#[derive(Debug)]
pub(in crate::driver) enum Arrival<'b> {
    Input(Input<'b>),
    /// So many bytes of a connection are where the application wanted them.
    Placed(ConnId, usize),
}

/// How many bytes one read brought, and where they are.
struct Count {
    placed: usize,
    buffered: usize,
    /// Whether there is more, which was left for the application to say where it wants it.
    part: bool,
}

/// Reads by which a lap is longer, at most, so that a picture that is read in parts (its header, and a chunk or two) is read
/// in one.
const MOST_PROLONGED: u32 = 4;

impl Sockets {
    /// How many sockets are ready: a lap's length.
    pub(in crate::driver) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// What was read to the driver's buffer behind what was put in its place. It is told before everything else: a write that
    /// failed since then may have an end of the connection wait, which these bytes came before.
    pub(in crate::driver) fn take_buffered<'b>(&mut self, buffer: &'b [u8]) -> Option<Input<'b>> {
        let (conn, count) = self.buffered.take()?;
        let lives = matches!(self.conns.get(&conn), Some(Conn { state: State::Open | State::Failed, .. }));
        lives.then(|| Input::Received { conn, bytes: &buffer[..count] })
    }

    /// Takes steps of ready sockets until one gives an input or the lap is over.
    pub(in crate::driver) fn step_ready<'b>(
        &mut self,
        lap: &mut usize,
        buffer: &'b mut [u8],
        app: &mut impl App,
        now: Instant,
    ) -> Option<Arrival<'b>> {
        while *lap > 0 {
            *lap -= 1;
            match self.ready.pop_front()? {
                Ready::Accept(listener) => {
                    if let Some(input) = self.accept(listener, now) {
                        return Some(Arrival::Input(input));
                    }
                }
                Ready::Write(conn) => {
                    self.write(conn);
                    if let Some(input) = self.next_pending() {
                        return Some(Arrival::Input(input));
                    }
                }
                Ready::Read(conn) => {
                    let count = self.read(conn, buffer, app, now);
                    if matches!(count, Some(Count { part: true, .. })) && self.prolonged < MOST_PROLONGED {
                        self.prolonged += 1;
                        *lap += 1;
                    }
                    match count {
                        Some(Count { placed: 0, buffered, .. }) => {
                            return Some(Arrival::Input(Input::Received {
                                conn,
                                bytes: &buffer[..buffered],
                            }));
                        }
                        Some(Count { placed, buffered, .. }) => {
                            self.buffered = (buffered > 0).then_some((conn, buffered));
                            return Some(Arrival::Placed(conn, placed));
                        }
                        None => {}
                    }
                    if let Some(input) = self.next_pending() {
                        return Some(Arrival::Input(input));
                    }
                }
            }
        }
        None
    }

    /// Steps for a driver whose application is done: only flushing connections are left.
    pub(in crate::driver) fn step_flushing(&mut self, app: &mut impl App, now: Instant) {
        let mut buffer = [0; 4096];
        let mut lap = self.ready();
        while self.step_ready(&mut lap, &mut buffer, app, now).is_some() {}
        self.pending.clear();
        self.end_overdue(now);
    }

    fn accept(&mut self, name: ListenerId, now: Instant) -> Option<Input<'static>> {
        let listener = self.listeners.get_mut(&name)?;
        listener.queued = false;
        match listener.socket.accept() {
            Ok((mut stream, remote)) => {
                listener.queued = true;
                self.ready.push_back(Ready::Accept(name));
                socket::prepare_accepted(&stream);
                let local = stream.local_addr().ok()?;
                let conn = self.accepted_name(name.room);
                if let Err(error) = self.register(conn, &mut stream) {
                    log::warn!("cannot watch an accepted connection: {error}");
                    return None;
                }
                self.conns.insert(conn, Conn::new(Some(stream), State::Open));
                let (local, remote) = (canonical(local), canonical(remote));
                Some(Input::Accepted { listener: name, conn, local, remote })
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) if is_of_one_connection(&error) => {
                log::debug!("accept: {error}");
                listener.queued = true;
                self.ready.push_back(Ready::Accept(name));
                None
            }
            Err(error) => {
                log::warn!("cannot accept: {error}; trying again");
                listener.retry_at = Some(now + ACCEPT_RETRY);
                None
            }
        }
    }

    fn accepted_name(&mut self, room: Room) -> ConnId {
        let serial = self.next_accepted | ConnId::ACCEPTED;
        self.next_accepted = self.next_accepted.wrapping_add(1) & !ConnId::ACCEPTED;
        ConnId { room, serial }
    }

    fn write(&mut self, conn: ConnId) {
        let Some(entry) = self.conns.get_mut(&conn) else { return };
        entry.write_queued = false;
        match entry.state {
            State::Connecting => self.finish_connect(conn),
            State::Open if !entry.full => {}
            State::Open => match entry.flush() {
                Ok(()) if entry.full => {}
                Ok(()) => self.pending.push_back(Input::Drained { conn }),
                Err(error) => self.fail_write(conn, &error),
            },
            State::Flushing { ref mut finished } => {
                let was_finished = std::mem::replace(finished, true);
                let result = entry.flush();
                if result.is_err() {
                    self.forget(conn);
                } else if entry.outgoing.is_empty() {
                    if !was_finished && let Some(stream) = &entry.stream {
                        let _ = stream.shutdown(Shutdown::Write);
                    }
                } else if let State::Flushing { finished } = &mut entry.state {
                    *finished = false;
                }
            }
            State::Failed => {}
        }
    }

    /// A connect is finished only after writable, no error, and a peer address.
    fn finish_connect(&mut self, conn: ConnId) {
        let Some(entry) = self.conns.get_mut(&conn) else { return };
        let Some(stream) = entry.stream.as_ref() else { return };
        if let Ok(Some(error)) | Err(error) = stream.take_error() {
            self.fail_connect(conn, &error);
            return;
        }
        match (stream.peer_addr(), stream.local_addr()) {
            (Ok(remote), Ok(local)) => {
                entry.state = State::Open;
                let (local, remote) = (canonical(local), canonical(remote));
                self.pending.push_back(Input::Connected { conn, local, remote });
                self.queue_read(conn);
            }
            (Err(error), _) | (_, Err(error)) if error.kind() == io::ErrorKind::NotConnected => {}
            (Err(error), _) | (_, Err(error)) => self.fail_connect(conn, &error),
        }
    }

    fn fail_connect(&mut self, conn: ConnId, error: &io::Error) {
        self.retire(conn);
        self.pending.push_back(Input::ConnectFailed { conn, error: socket::net_error(error) });
    }

    /// Reads once; the count when there is something for the application.
    fn read(&mut self, conn: ConnId, buffer: &mut [u8], app: &mut impl App, now: Instant) -> Option<Count> {
        let entry = self.conns.get_mut(&conn)?;
        entry.read_queued = false;
        let flushing = matches!(entry.state, State::Flushing { .. });
        if !entry.reading || !(flushing || matches!(entry.state, State::Open)) {
            return None;
        }
        let stream = entry.stream.as_mut()?;
        let space = if flushing || !socket::READS_INTO { None } else { app.space(conn) };
        let spaced = space.is_some();
        let Space { mut into, beside } = space.unwrap_or(Space { into: None, beside: buffer.len() });
        if let Some(into) = &mut into {
            // Others wait for their turn, however large a picture is.
            into.set_limit(into.remaining_mut().min(buffer.len()));
        }
        let beside = beside.clamp(1, buffer.len());
        let buffer = &mut buffer[..beside];
        // The header of a large picture, whose sender may be at the rest of it: so that one wake-up is enough for both.
        if spaced && into.is_none() && self.way.is_free(now) {
            self.way.give();
        }
        let result = match into {
            Some(into) => socket::read_into(stream, into, buffer),
            None => stream.read(buffer).map(|count| (0, count)),
        };
        match result {
            Ok((0, 0)) if flushing => self.forget(conn),
            Ok((0, 0)) => {
                let error = entry.broken;
                self.end(conn, error);
            }
            Ok((placed, buffered)) => {
                let full = buffered == beside;
                if full || entry.ending || entry.broken.is_some() || !SHORT_READS_EMPTY {
                    self.queue_read(conn);
                }
                return (!flushing).then_some(Count { placed, buffered, part: spaced && full });
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if let Some(error) = entry.broken.filter(|_| !flushing) {
                    self.end(conn, Some(error));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => self.queue_read(conn),
            Err(_) if flushing => self.forget(conn),
            Err(error) => self.fail(conn, &error),
        }
        None
    }

    pub(super) fn queue_read(&mut self, conn: ConnId) {
        if let Some(entry) = self.conns.get_mut(&conn)
            && !entry.read_queued
        {
            entry.read_queued = true;
            self.ready.push_back(Ready::Read(conn));
        }
    }

    pub(super) fn queue_write(&mut self, conn: ConnId) {
        if let Some(entry) = self.conns.get_mut(&conn)
            && !entry.write_queued
        {
            entry.write_queued = true;
            self.ready.push_back(Ready::Write(conn));
        }
    }
}

/// Whether an error of accept(2) took a connection out of the queue, so that the next one may be well: it died there, or
/// brought an error of the network along. Any other error would come again at once.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::Interrupted
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::HostUnreachable
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn an_error_that_would_come_again_at_once_waits() {
        // EINTR, ENETDOWN, ENETUNREACH, ECONNABORTED, EHOSTUNREACH.
        for code in [4, 100, 101, 103, 113] {
            assert!(is_of_one_connection(&io::Error::from_raw_os_error(code)), "{code}");
        }
        // EBADF, ENOMEM, EINVAL, ENFILE, EMFILE, ENOTSOCK, ENOBUFS, EPERM.
        for code in [9, 12, 22, 23, 24, 88, 105, 1] {
            assert!(!is_of_one_connection(&io::Error::from_raw_os_error(code)), "{code}");
        }
    }
}
