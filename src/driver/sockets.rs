//! All sockets of one driver: readiness in, inputs out.

use super::handshakes::Handshakes;
use super::socket;
use crate::app::{Closing, ConnId, FLUSH_TIME, Input, ListenerId, NetError, NetOp, Room};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};
use std::collections::{HashMap, VecDeque};
use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::{Duration, Instant};

/// How long a listener waits before it accepts again after an error that may last, most likely that the system had no
/// descriptor for it: an edge is not repeated, so waiting clients would be forgotten.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Connections that may flush at one time: the application counts them no more, and each holds a descriptor. A quarter
/// of the descriptors that a process usually has. Beyond it the oldest ends: what the kernel has of its bytes still goes.
pub(super) const MAX_FLUSHING: usize = 256;

/// Whether a read that brings less than there is room for has emptied the socket, so that the next bytes come with an edge
/// of their own: epoll(7) says so. An end that was told before that read has no further edge.
const SHORT_READS_EMPTY: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// Events taken from one poll.
const EVENTS: usize = 1024;

/// Pieces that one system call writes: those of a picture and what goes with it. More take one more call.
const PIECES: usize = 16;

const WAKER: Token = Token(usize::MAX);
const LISTENER_BIT: usize = 1 << 48;

struct Listener {
    socket: TcpListener,
    queued: bool,
    retry_at: Option<Instant>,
}

/// ```text
///              ┌──────────▶ Failed ──(input delivered)──▶ gone
///  Connect ─▶ Connecting                       ▲
///              └──▶ Open ──(FIN, RST)──────────┘
///  Accepted ───────▶ Open ──Close{Flush}──▶ Flushing ──(sent, FIN seen, or deadline)──▶ gone
/// ```
enum State {
    Connecting,
    Open,
    /// The application closed it; what is queued goes out, what comes in is thrown away.
    Flushing {
        finished: bool,
    },
    /// The end is noted in `pending` and not delivered yet.
    Failed,
}

struct Conn {
    /// `None` when the socket could not be made or has failed.
    stream: Option<TcpStream>,
    state: State,
    outgoing: VecDeque<Vec<u8>>,
    /// How much of the first outgoing piece is sent.
    sent: usize,
    /// The socket took no more: it is written to again once it tells that it does.
    full: bool,
    reading: bool,
    /// The system has told of an end or an error, which is read after what came before it.
    ending: bool,
    read_queued: bool,
    write_queued: bool,
}

impl Conn {
    fn new(stream: Option<TcpStream>, state: State) -> Self {
        Self {
            stream,
            state,
            outgoing: VecDeque::new(),
            sent: 0,
            full: false,
            reading: true,
            ending: false,
            read_queued: false,
            write_queued: false,
        }
    }

    /// Whether something is done once the socket is writable.
    const fn awaits_writable(&self) -> bool {
        match self.state {
            State::Connecting | State::Flushing { .. } => true,
            State::Open => self.full,
            State::Failed => false,
        }
    }

    /// Writes until everything is gone or the socket would block.
    fn flush(&mut self) -> io::Result<()> {
        let Some(stream) = self.stream.as_mut() else { return Ok(()) };
        while !self.outgoing.is_empty() {
            let mut pieces = [IoSlice::new(&[]); PIECES];
            let count = self.outgoing.len().min(PIECES);
            for (slot, piece) in pieces.iter_mut().zip(&self.outgoing) {
                *slot = IoSlice::new(piece);
            }
            pieces[0] = IoSlice::new(&self.outgoing[0][self.sent..]);
            match stream.write_vectored(&pieces[..count]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => self.sent += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.full = true;
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            while let Some(first) = self.outgoing.front()
                && self.sent >= first.len()
            {
                self.sent -= first.len();
                self.outgoing.pop_front();
            }
        }
        self.full = false;
        Ok(())
    }
}

enum Ready {
    Accept(ListenerId),
    Read(ConnId),
    Write(ConnId),
}

pub(super) struct Sockets {
    poll: Poll,
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
    handshakes: Handshakes,
    next_accepted: u32,
}

impl Sockets {
    pub(super) fn new() -> io::Result<(Self, Waker)> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        let sockets = Self {
            poll,
            events: Events::with_capacity(EVENTS),
            listeners: HashMap::new(),
            conns: HashMap::new(),
            flushes: VecDeque::new(),
            flushing: 0,
            ready: VecDeque::new(),
            unsent: Vec::new(),
            pending: VecDeque::new(),
            handshakes: Handshakes::default(),
            next_accepted: 0,
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

    fn send(&mut self, conn: ConnId, bytes: Vec<u8>) {
        let Some(entry) = self.conns.get_mut(&conn) else { return };
        if !matches!(entry.state, State::Open) || bytes.is_empty() {
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
                Err(error) => self.fail(conn, &error),
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
            }
        }
    }

    /// Ends everything: listeners at once, open connections flushed, others dropped.
    pub(super) fn end_all(&mut self, now: Instant) {
        self.listeners.clear();
        self.pending.clear();
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

    /// How many sockets are ready: a lap's length.
    pub(super) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Takes steps of ready sockets until one gives an input or the lap is over.
    pub(super) fn step_ready<'b>(
        &mut self,
        lap: &mut usize,
        buffer: &'b mut [u8],
        now: Instant,
    ) -> Option<Input<'b>> {
        while *lap > 0 {
            *lap -= 1;
            match self.ready.pop_front()? {
                Ready::Accept(listener) => {
                    if let Some(input) = self.accept(listener, now) {
                        return Some(input);
                    }
                }
                Ready::Write(conn) => {
                    self.write(conn);
                    if let Some(input) = self.next_pending() {
                        return Some(input);
                    }
                }
                Ready::Read(conn) => {
                    if let Some(count) = self.read(conn, buffer) {
                        return Some(Input::Received { conn, bytes: &buffer[..count] });
                    }
                    if let Some(input) = self.next_pending() {
                        return Some(input);
                    }
                }
            }
        }
        None
    }

    /// Steps for a driver whose application is done: only flushing connections are left.
    pub(super) fn step_flushing(&mut self, now: Instant) {
        let mut buffer = [0; 4096];
        let mut lap = self.ready();
        while self.step_ready(&mut lap, &mut buffer, now).is_some() {}
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
                Err(error) => self.fail(conn, &error),
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
    fn read(&mut self, conn: ConnId, buffer: &mut [u8]) -> Option<usize> {
        let entry = self.conns.get_mut(&conn)?;
        entry.read_queued = false;
        let flushing = matches!(entry.state, State::Flushing { .. });
        if !entry.reading || !(flushing || matches!(entry.state, State::Open)) {
            return None;
        }
        let stream = entry.stream.as_mut()?;
        let room = buffer.len();
        match stream.read(buffer) {
            Ok(0) if flushing => self.forget(conn),
            Ok(0) => {
                self.retire(conn);
                self.pending.push_back(Input::Closed { conn, error: None });
            }
            Ok(count) => {
                if count == room || entry.ending || !SHORT_READS_EMPTY {
                    self.queue_read(conn);
                }
                return (!flushing).then_some(count);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => self.queue_read(conn),
            Err(_) if flushing => self.forget(conn),
            Err(error) => self.fail(conn, &error),
        }
        None
    }

    fn fail(&mut self, conn: ConnId, error: &io::Error) {
        self.retire(conn);
        self.pending.push_back(Input::Closed { conn, error: Some(socket::net_error(error)) });
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

    fn queue_read(&mut self, conn: ConnId) {
        if let Some(entry) = self.conns.get_mut(&conn)
            && !entry.read_queued
        {
            entry.read_queued = true;
            self.ready.push_back(Ready::Read(conn));
        }
    }

    fn queue_write(&mut self, conn: ConnId) {
        if let Some(entry) = self.conns.get_mut(&conn)
            && !entry.write_queued
        {
            entry.write_queued = true;
            self.ready.push_back(Ready::Write(conn));
        }
    }

    pub(super) fn has_work(&self) -> bool {
        !self.ready.is_empty() || !self.pending.is_empty()
    }

    /// Takes what is ready without waiting.
    pub(super) fn poll_now(&mut self) -> io::Result<()> {
        self.poll_for(Some(Duration::ZERO))
    }

    /// Waits until something is ready, or `deadline`, or a deadline of the sockets' own.
    pub(super) fn wait(&mut self, deadline: Option<Instant>, now: Instant) -> io::Result<()> {
        let retries = self.listeners.values().filter_map(|listener| listener.retry_at);
        let flushes = self.flushes.front().map(|(deadline, _)| *deadline);
        let own = retries.chain(flushes).chain(self.handshakes.deadline()).min();
        let until = match (deadline, own) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        self.poll_for(until.map(|at| at.saturating_duration_since(now)))
    }

    fn poll_for(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        match self.poll.poll(&mut self.events, timeout) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(error),
        }
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            if event.token() == WAKER {
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

/// IPv4 peers of a dual-stack listener are IPv4 peers.
const fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

/// Names are never used twice, so a stale event of a batch finds nothing.
const fn conn_token(conn: ConnId) -> Token {
    Token(((conn.room.0 as usize) << 32) | conn.serial as usize)
}

const fn conn_of(token: Token) -> ConnId {
    ConnId { room: Room((token.0 >> 32) as u8), serial: token.0 as u32 }
}

const fn listener_token(listener: ListenerId) -> Token {
    Token(LISTENER_BIT | ((listener.room.0 as usize) << 32) | listener.serial as usize)
}

const fn listener_of(token: Token) -> Option<ListenerId> {
    if token.0 & LISTENER_BIT == 0 {
        return None;
    }
    Some(ListenerId { room: Room((token.0 >> 32) as u8), serial: token.0 as u32 })
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
