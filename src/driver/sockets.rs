//! All sockets of one driver: readiness in, inputs out.

mod conn;
mod polling;
mod steps;

pub(super) use steps::Arrival;

use super::alarm::Alarm;
use super::handshakes::Handshakes;
use super::socket;
use super::way::Way;
use crate::app::{Closing, ConnId, FLUSH_TIME, Input, ListenerId, NetError, NetOp};
use bytes::Bytes;
use conn::{Conn, State};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Waker};
use polling::{EVENTS, WAKER, conn_token, listener_token};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Connections that may flush at one time: the application counts them no more, and each holds a descriptor. A quarter
/// of the descriptors that a process usually has. Beyond it the oldest ends: what the kernel has of its bytes still goes.
pub(super) const MAX_FLUSHING: usize = 256;

/// How often TCP is kept from a pause ([`socket::avoid_pause`]): more often than it would make one, every ten seconds.
const PAUSE_AVOIDED_EVERY: Duration = Duration::from_secs(8);

/// Bytes written in that time from which on a pause would show: 64 kbit/s.
const STREAM_BYTES: usize = 64 * 1024;

struct Listener {
    socket: TcpListener,
    queued: bool,
    retry_at: Option<Instant>,
}

enum Ready {
    Accept(ListenerId),
    Read(ConnId),
    Write(ConnId),
}

pub(super) struct Sockets {
    poll: Poll,
    alarm: Alarm,
    events: Events,
    listeners: HashMap<ListenerId, Listener>,
    conns: HashMap<ConnId, Conn>,
    /// Flushing connections by their deadlines, which come in order, for each has the same time.
    /// Those that are done stay until they come to the front.
    flushes: VecDeque<(Instant, ConnId)>,
    /// How many of `flushes` are not done.
    flushing: usize,
    ready: VecDeque<Ready>,
    /// Connections with bytes that were handed over since the last [`flush`](Sockets::flush).
    unsent: Vec<ConnId>,
    pending: VecDeque<Input<'static>>,
    /// What is in the driver's buffer of a connection, behind what was put where the application wanted it.
    buffered: Option<(ConnId, usize)>,
    /// By how many reads this lap is longer.
    prolonged: u32,
    pub(super) way: Way,
    handshakes: Handshakes,
    next_accepted: u32,
    /// When TCP's pauses are to be avoided next.
    avoid_at: Option<Instant>,
}

impl Sockets {
    pub(super) fn new() -> io::Result<(Self, Waker)> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        let sockets = Self {
            poll,
            alarm: Alarm::default(),
            events: Events::with_capacity(EVENTS),
            listeners: HashMap::new(),
            conns: HashMap::new(),
            flushes: VecDeque::new(),
            flushing: 0,
            ready: VecDeque::new(),
            unsent: Vec::new(),
            pending: VecDeque::new(),
            buffered: None,
            prolonged: 0,
            way: Way::default(),
            handshakes: Handshakes::default(),
            next_accepted: 0,
            avoid_at: None,
        };
        Ok((sockets, waker))
    }

    pub(super) fn carry_out(&mut self, op: NetOp, now: Instant) {
        match op {
            NetOp::Listen { listener, addr, reuse } => self.listen(listener, addr, reuse),
            NetOp::StopListening { listener } => {
                if let Some(mut gone) = self.listeners.remove(&listener) {
                    let _ = self.poll.registry().deregister(&mut gone.socket);
                }
            }
            NetOp::Connect { conn, from, to } => self.connect(conn, socket::connect(from, to, None), now),
            NetOp::Knock { conn, from, to, hops } => {
                self.connect(conn, socket::connect(from, to, Some(hops)), now);
            }
            NetOp::GiveUp { conn } => self.give_up(conn),
            NetOp::Send { conn, bytes } => self.send(conn, bytes),
            NetOp::Close { conn, how } => self.close(conn, how, now),
            NetOp::Read { conn, on } => self.set_reading(conn, on),
        }
    }

    fn listen(&mut self, listener: ListenerId, addr: SocketAddr, reuse: bool) {
        let made = socket::listen(addr, reuse).and_then(|socket| {
            let local = socket.local_addr()?;
            let mut socket = TcpListener::from_std(socket);
            self.poll.registry().register(&mut socket, listener_token(listener), Interest::READABLE)?;
            Ok((socket, local))
        });
        match made {
            Ok((socket, local)) => {
                let entry = Listener { socket, queued: false, retry_at: None };
                let twice = self.listeners.insert(listener, entry);
                debug_assert!(twice.is_none(), "listener {listener:?} named twice");
                self.pending.push_back(Input::Listening { listener, local: canonical(local) });
            }
            Err(error) => {
                log::debug!("cannot listen on {addr}: {error}");
                let error = socket::net_error(&error);
                self.pending.push_back(Input::ListenFailed { listener, addr, error });
            }
        }
    }

    fn connect(&mut self, conn: ConnId, begun: io::Result<std::net::TcpStream>, now: Instant) {
        let made = begun.and_then(|stream| {
            let mut stream = TcpStream::from_std(stream);
            self.register(conn, &mut stream)?;
            Ok(stream)
        });
        let entry = match made {
            Ok(stream) => {
                self.handshakes.begin(now, conn);
                Conn::new(Some(stream), State::Connecting)
            }
            Err(error) => {
                log::trace!("conn={conn} cannot connect: {error}");
                self.pending.push_back(Input::ConnectFailed { conn, error: socket::net_error(&error) });
                Conn::new(None, State::Failed)
            }
        };
        let twice = self.conns.insert(conn, entry);
        debug_assert!(twice.is_none(), "connection {conn} named twice");
    }

    fn give_up(&mut self, conn: ConnId) {
        let Some(Conn { state: State::Connecting, stream: Some(stream), .. }) = self.conns.get(&conn) else {
            return;
        };
        // A SYN that crossed ours is being answered: the connect is about to complete.
        if socket::is_unanswered(stream) {
            self.retire(conn);
            self.pending.push_back(Input::ConnectFailed { conn, error: NetError::GivenUp });
        }
    }

    fn register(&self, conn: ConnId, stream: &mut TcpStream) -> io::Result<()> {
        self.poll.registry().register(stream, conn_token(conn), Interest::READABLE | Interest::WRITABLE)
    }

    fn send(&mut self, conn: ConnId, bytes: Bytes) {
        let Some(entry) = self.conns.get_mut(&conn) else { return };
        if !matches!(entry.state, State::Open) || entry.broken.is_some() || bytes.is_empty() {
            return;
        }
        if entry.outgoing.is_empty() {
            self.unsent.push(conn);
        }
        entry.outgoing.push_back(bytes);
    }

    /// Writes what was handed over since the last time, each connection's in one go: a call for each piece would wake its
    /// reader for the first of them, and cost more.
    pub(super) fn flush(&mut self) {
        for at in 0..self.unsent.len() {
            let conn = self.unsent[at];
            let Some(entry) = self.conns.get_mut(&conn) else { continue };
            if !matches!(entry.state, State::Open) {
                continue;
            }
            match entry.flush() {
                Ok(()) if entry.full => self.pending.push_back(Input::Backlogged { conn }),
                Ok(()) => {}
                Err(error) => self.fail_write(conn, &error),
            }
        }
        self.unsent.clear();
    }

    fn close(&mut self, conn: ConnId, how: Closing, now: Instant) {
        let Some(entry) = self.conns.get_mut(&conn) else { return };
        let open = matches!(entry.state, State::Open);
        if how == Closing::Flush && open {
            if !entry.full {
                // Its place may go to a younger one before its turn comes; an error comes again then.
                let _ = entry.flush();
            }
            entry.state = State::Flushing { finished: false };
            entry.reading = true;
            self.flushes.push_back((now + FLUSH_TIME, conn));
            self.flushing += 1;
            if self.flushing > MAX_FLUSHING {
                self.end_oldest_flush();
            }
            self.queue_read(conn);
            self.queue_write(conn);
        } else if matches!(self.conns.get(&conn), Some(entry) if !matches!(entry.state, State::Flushing { .. }))
        {
            self.reset(conn);
            self.forget(conn);
        }
    }

    /// Has a socket end by RST when it is closed: the peer learns at once, and neither TIME-WAIT nor a FIN that nobody
    /// acknowledges is left on a port that is to be used again. One that has heard nothing ends in silence.
    fn reset(&self, conn: ConnId) {
        if let Some(stream) = self.conns.get(&conn).and_then(|entry| entry.stream.as_ref()) {
            let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }
    }

    fn set_reading(&mut self, conn: ConnId, on: bool) {
        let Some(entry) = self.conns.get_mut(&conn) else { return };
        if matches!(entry.state, State::Open) {
            entry.reading = on;
            if on {
                self.queue_read(conn);
            } else if let Some(error) = entry.broken {
                self.end(conn, Some(error));
            }
        }
    }

    /// Ends everything: listeners at once, open connections flushed, others dropped.
    pub(super) fn end_all(&mut self, now: Instant) {
        self.listeners.clear();
        self.pending.clear();
        // Nobody looks at connects any more, and a look that is due would let no wait last.
        self.handshakes = Handshakes::default();
        let names: Vec<ConnId> = self.conns.keys().copied().collect();
        for conn in names {
            self.close(conn, Closing::Flush, now);
        }
    }

    #[cfg(test)]
    pub(super) const fn flushing(&self) -> usize {
        self.flushing
    }

    pub(super) fn is_idle(&self) -> bool {
        self.conns.is_empty()
    }

    /// The next input that carrying out an operation produced.
    pub(super) fn next_pending(&mut self) -> Option<Input<'static>> {
        while let Some(input) = self.pending.pop_front() {
            match &input {
                Input::ConnectFailed { conn, .. } | Input::Closed { conn, .. } => {
                    if self.conns.remove(conn).is_some() {
                        return Some(input);
                    }
                }
                Input::Connected { conn, .. }
                | Input::Backlogged { conn }
                | Input::Drained { conn }
                | Input::Accepted { conn, .. } => {
                    if matches!(self.conns.get(conn), Some(Conn { state: State::Open, .. })) {
                        return Some(input);
                    }
                }
                Input::Listening { listener, .. } => {
                    if self.listeners.contains_key(listener) {
                        return Some(input);
                    }
                }
                Input::ListenFailed { .. } | Input::Received { .. } | Input::Interrupted => {
                    return Some(input);
                }
            }
        }
        None
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        for (name, listener) in &mut self.listeners {
            if listener.retry_at.is_some_and(|at| at <= now) {
                listener.retry_at = None;
                if !listener.queued {
                    listener.queued = true;
                    self.ready.push_back(Ready::Accept(*name));
                }
            }
        }
        self.end_overdue(now);
        self.avoid_pauses(now);
        let half_open = |conn| match self.conns.get(&conn) {
            Some(Conn { state: State::Connecting, stream: Some(stream), .. }) => {
                Some(socket::is_half_open(stream))
            }
            Some(_) | None => None,
        };
        for conn in self.handshakes.overdue(now, half_open) {
            self.reset(conn);
            self.retire(conn);
            self.pending.push_back(Input::ConnectFailed { conn, error: NetError::HalfOpen });
        }
    }

    /// Nobody is woken for this: who sends is awake.
    fn avoid_pauses(&mut self, now: Instant) {
        if self.avoid_at.is_some_and(|at| now < at) {
            return;
        }
        self.avoid_at = Some(now + PAUSE_AVOIDED_EVERY);
        for conn in self.conns.values_mut() {
            if conn.take_written() >= STREAM_BYTES
                && let Some(stream) = &conn.stream
            {
                socket::avoid_pause(stream);
            }
        }
    }

    fn end_overdue(&mut self, now: Instant) {
        while let Some(&(deadline, conn)) = self.flushes.front()
            && deadline <= now
        {
            self.flushes.pop_front();
            if self.is_flushing(conn) {
                log::debug!("conn={conn} its peer does not take its last bytes");
                self.forget(conn);
            }
        }
    }

    fn end_oldest_flush(&mut self) {
        while let Some((_, conn)) = self.flushes.pop_front() {
            if self.is_flushing(conn) {
                log::debug!("conn={conn} ends for {MAX_FLUSHING} younger ones that flush");
                self.forget(conn);
                return;
            }
        }
    }

    fn is_flushing(&self, conn: ConnId) -> bool {
        matches!(self.conns.get(&conn), Some(Conn { state: State::Flushing { .. }, .. }))
    }

    fn fail(&mut self, conn: ConnId, error: &io::Error) {
        self.end(conn, Some(socket::net_error(error)));
    }

    /// A peer that has sent its last and closed answers what it is sent by RST, before which its last words may wait: they are
    /// read first.
    fn fail_write(&mut self, conn: ConnId, error: &io::Error) {
        let Some(entry) = self.conns.get_mut(&conn) else { return };
        if entry.reading {
            (entry.broken, entry.full, entry.sent) = (Some(socket::net_error(error)), false, 0);
            entry.outgoing.clear();
            self.queue_read(conn);
        } else {
            self.fail(conn, error);
        }
    }

    fn end(&mut self, conn: ConnId, error: Option<NetError>) {
        self.retire(conn);
        self.pending.push_back(Input::Closed { conn, error });
    }

    /// Drops the socket and keeps the name until its end is delivered.
    fn retire(&mut self, conn: ConnId) {
        if let Some(entry) = self.conns.get_mut(&conn) {
            entry.state = State::Failed;
            if let Some(mut stream) = entry.stream.take() {
                let _ = self.poll.registry().deregister(&mut stream);
            }
        }
        self.retry_accepts();
    }

    fn forget(&mut self, conn: ConnId) {
        if let Some(mut entry) = self.conns.remove(&conn) {
            if matches!(entry.state, State::Flushing { .. }) {
                self.flushing -= 1;
            }
            if let Some(mut stream) = entry.stream.take() {
                let _ = self.poll.registry().deregister(&mut stream);
            }
        }
        // Done is done: a deadline at the front would only wake the driver.
        while let Some(&(_, first)) = self.flushes.front()
            && !self.is_flushing(first)
        {
            self.flushes.pop_front();
        }
        self.retry_accepts();
    }

    /// A descriptor is free again: listeners that had none try at once.
    fn retry_accepts(&mut self) {
        for (name, listener) in &mut self.listeners {
            if listener.retry_at.take().is_some() && !listener.queued {
                listener.queued = true;
                self.ready.push_back(Ready::Accept(*name));
            }
        }
    }
}

/// IPv4 peers of a dual-stack listener are IPv4 peers.
const fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}
