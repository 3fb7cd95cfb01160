//! A host's kernel and the driver's hand on it: sockets and listeners by name, ports, the inputs that wait for the
//! application.

use crate::packet::{Body, FULL_LIFE, Packet};
use crate::tcp::{Effects, Happening, Owner, State, Tcb};
use punchcast::app::{Closing, ConnId, Input, ListenerId, NetError, NetOp, Room};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// An [`Input`] that waits, with its bytes.
#[derive(Debug)]
pub(crate) enum Waiting {
    Listening { listener: ListenerId, local: SocketAddr },
    ListenFailed { listener: ListenerId, addr: SocketAddr, error: NetError },
    Accepted { listener: ListenerId, conn: ConnId, local: SocketAddr, remote: SocketAddr },
    Connected { conn: ConnId, local: SocketAddr, remote: SocketAddr },
    ConnectFailed { conn: ConnId, error: NetError },
    Received { conn: ConnId, bytes: Vec<u8> },
    Backlogged { conn: ConnId },
    Drained { conn: ConnId },
    Closed { conn: ConnId, error: Option<NetError> },
}

impl Waiting {
    pub(crate) fn as_input(&self) -> Input<'_> {
        match self {
            Self::Listening { listener, local } => Input::Listening { listener: *listener, local: *local },
            Self::ListenFailed { listener, addr, error } => {
                Input::ListenFailed { listener: *listener, addr: *addr, error: *error }
            }
            Self::Accepted { listener, conn, local, remote } => {
                Input::Accepted { listener: *listener, conn: *conn, local: *local, remote: *remote }
            }
            Self::Connected { conn, local, remote } => {
                Input::Connected { conn: *conn, local: *local, remote: *remote }
            }
            Self::ConnectFailed { conn, error } => Input::ConnectFailed { conn: *conn, error: *error },
            Self::Received { conn, bytes } => Input::Received { conn: *conn, bytes },
            Self::Backlogged { conn } => Input::Backlogged { conn: *conn },
            Self::Drained { conn } => Input::Drained { conn: *conn },
            Self::Closed { conn, error } => Input::Closed { conn: *conn, error: *error },
        }
    }

    const fn conn(&self) -> Option<ConnId> {
        match self {
            Self::Listening { .. } | Self::ListenFailed { .. } => None,
            Self::Accepted { conn, .. }
            | Self::Connected { conn, .. }
            | Self::ConnectFailed { conn, .. }
            | Self::Received { conn, .. }
            | Self::Backlogged { conn }
            | Self::Drained { conn }
            | Self::Closed { conn, .. } => Some(*conn),
        }
    }
}

/// Local and remote endpoint of a socket.
type Pair = (SocketAddr, SocketAddr);

#[derive(Clone, Copy, Debug)]
struct Listener {
    local: SocketAddr,
    reuse: bool,
}

/// The network half of a host.
#[derive(Debug)]
pub(crate) struct Kernel {
    addrs: Vec<IpAddr>,
    sockets: BTreeMap<Pair, Tcb>,
    /// The deadlines of sockets, for the soonest is asked for at each step of the world.
    deadlines: BTreeSet<(Duration, Pair)>,
    /// The same by socket.
    deadline_of: BTreeMap<Pair, Duration>,
    listeners: BTreeMap<ListenerId, Listener>,
    /// The application's connections; while a connect is under way and after.
    conns: BTreeMap<ConnId, Pair>,
    accepted: BTreeMap<Room, u32>,
    /// What the application has yet to hear, in order.
    pub(crate) inputs: VecDeque<Waiting>,
    /// What is to leave the host.
    pub(crate) out: Vec<Packet>,
    rng: fastrand::Rng,
}

impl Kernel {
    pub(crate) fn new(addrs: Vec<IpAddr>, rng: fastrand::Rng) -> Self {
        Self {
            addrs,
            sockets: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            deadline_of: BTreeMap::new(),
            listeners: BTreeMap::new(),
            conns: BTreeMap::new(),
            accepted: BTreeMap::new(),
            inputs: VecDeque::new(),
            out: Vec::new(),
            rng,
        }
    }

    pub(crate) fn addrs(&self) -> &[IpAddr] {
        &self.addrs
    }

    pub(crate) fn add_addr(&mut self, ip: IpAddr) {
        self.addrs.push(ip);
    }

    /// Whether a packet to `ip` stays within the host.
    pub(crate) fn is_local(&self, ip: IpAddr) -> bool {
        ip.is_loopback() || self.addrs.contains(&ip)
    }

    /// The port of the first listener.
    pub(crate) fn listening(&self) -> Option<u16> {
        self.listeners.values().next().map(|listener| listener.local.port())
    }

    /// How many connections the application holds, those under way included.
    pub(crate) fn conn_count(&self) -> usize {
        self.conns.len()
    }

    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Notes the deadline of the socket that changed, came or went.
    fn note_deadline(&mut self, pair: Pair) {
        let at = self.sockets.get(&pair).and_then(Tcb::deadline);
        let before = match at {
            Some(at) => self.deadline_of.insert(pair, at),
            None => self.deadline_of.remove(&pair),
        };
        if before != at {
            if let Some(before) = before {
                self.deadlines.remove(&(before, pair));
            }
            self.deadlines.extend(at.map(|at| (at, pair)));
        }
    }

    /// Drops the embryos of some listeners.
    fn drop_embryos(&mut self, of: impl Fn(ListenerId) -> bool) {
        let dropped = |tcb: &Tcb| matches!(tcb.owner, Owner::Embryo(listener) if of(listener));
        let pairs: Vec<Pair> =
            self.sockets.iter().filter(|(_, tcb)| dropped(tcb)).map(|(pair, _)| *pair).collect();
        for pair in pairs {
            self.sockets.remove(&pair);
            self.note_deadline(pair);
        }
    }

    /// Carries out what the application asks for.
    pub(crate) fn op(&mut self, now: Duration, op: NetOp) {
        match op {
            NetOp::Listen { listener, addr, reuse } => match self.listen(listener, addr, reuse) {
                Ok(local) => self.inputs.push_back(Waiting::Listening { listener, local }),
                Err(error) => self.inputs.push_back(Waiting::ListenFailed { listener, addr, error }),
            },
            NetOp::StopListening { listener } => {
                self.listeners.remove(&listener);
                self.drop_embryos(|of| of == listener);
            }
            NetOp::Connect { conn, from, to } => {
                assert!(!self.conns.contains_key(&conn), "connection {conn} is opened twice");
                if let Err(error) = self.connect(now, conn, from, to) {
                    self.inputs.push_back(Waiting::ConnectFailed { conn, error });
                }
            }
            NetOp::Knock { conn, from, to, hops } => {
                assert!(!self.conns.contains_key(&conn), "connection {conn} is opened twice");
                let queued = self.out.len();
                match self.connect(now, conn, from, to) {
                    // Only the first SYN; what the socket sends later lives as long as ever.
                    Ok(()) => self.out.iter_mut().skip(queued).for_each(|packet| packet.life = hops),
                    Err(error) => self.inputs.push_back(Waiting::ConnectFailed { conn, error }),
                }
            }
            NetOp::GiveUp { conn } => {
                let unanswered =
                    |pair| self.sockets.get(pair).is_some_and(|tcb| tcb.state() == State::SynSent);
                if self.conns.get(&conn).is_some_and(unanswered) {
                    self.with_conn(now, conn, |tcb, _, fx| tcb.abort(fx));
                    self.conns.remove(&conn);
                    self.inputs.push_back(Waiting::ConnectFailed { conn, error: NetError::GivenUp });
                }
            }
            NetOp::Send { conn, bytes } => self.with_conn(now, conn, |tcb, now, fx| {
                assert!(
                    tcb.state() == State::Established,
                    "connection {conn} is sent on before it is established"
                );
                tcb.send(now, &bytes, fx);
            }),
            NetOp::Read { conn, on } => self.with_conn(now, conn, |tcb, _, fx| tcb.read(on, fx)),
            NetOp::Close { conn, how } => {
                self.with_conn(now, conn, |tcb, now, fx| match how {
                    Closing::Flush => tcb.close(now, fx),
                    Closing::Abort => tcb.abort(fx),
                });
                self.conns.remove(&conn);
                self.inputs.retain(|waiting| waiting.conn() != Some(conn));
            }
        }
    }

    /// A packet for this host.
    pub(crate) fn packet(&mut self, now: Duration, packet: &Packet) {
        let pair = (packet.dst, packet.src);
        let Body::Tcp(segment) = &packet.body else {
            self.with_socket(now, pair, |tcb, _, fx| tcb.unreachable(fx));
            return;
        };
        let renewed =
            segment.opens() && self.sockets.get(&pair).is_some_and(|tcb| tcb.state() == State::TimeWait);
        if renewed && self.listener_at(packet.dst).is_some() {
            self.sockets.remove(&pair);
        }
        if self.sockets.contains_key(&pair) {
            self.with_socket(now, pair, |tcb, now, fx| tcb.segment(now, segment, fx));
            return;
        }
        match self.listener_at(packet.dst) {
            Some(listener) if segment.opens() => {
                let mut fx = Effects::default();
                let iss = self.rng.u32(..);
                self.sockets.insert(pair, Tcb::accept(now, pair, listener, iss, segment, &mut fx));
                self.apply(now, pair, fx);
            }
            Some(_) | None => self.out.extend(packet.refusal()),
        }
    }

    /// Time passed to [`Self::deadline`].
    pub(crate) fn timeout(&mut self, now: Duration) {
        let due: Vec<Pair> =
            self.deadlines.iter().take_while(|(at, _)| *at <= now).map(|(_, pair)| *pair).collect();
        for pair in due {
            self.with_socket(now, pair, Tcb::timeout);
        }
    }

    /// The process ended: its sockets close as the kernel closes them, its listeners go.
    pub(crate) fn close_all(&mut self, now: Duration) {
        self.listeners.clear();
        self.drop_embryos(|_| true);
        for pair in std::mem::take(&mut self.conns).into_values() {
            self.with_socket(now, pair, |tcb, now, fx| {
                if tcb.state() == State::SynSent { tcb.abort(fx) } else { tcb.close(now, fx) }
            });
        }
        self.inputs.clear();
    }

    fn listen(&mut self, id: ListenerId, addr: SocketAddr, reuse: bool) -> Result<SocketAddr, NetError> {
        assert!(!self.listeners.contains_key(&id), "listener {id:?} is opened twice");
        if !addr.ip().is_unspecified() && !self.is_local(addr.ip()) {
            return Err(NetError::AddrNotAvailable);
        }
        let port = if addr.port() == 0 { self.free_port() } else { addr.port() };
        let local = SocketAddr::new(addr.ip(), port);
        let overlaps = |l: &Listener| covers(l.local.ip(), local.ip()) || covers(local.ip(), l.local.ip());
        let clash =
            self.listeners.values().any(|l| l.local.port() == port && overlaps(l) && !(l.reuse && reuse));
        let bound = |tcb: &Tcb| matches!(tcb.owner, Owner::App(conn) if conn.serial & ConnId::ACCEPTED == 0);
        let in_use = self.sockets.values().any(|tcb| tcb.local.port() == port && bound(tcb));
        if clash || (in_use && !reuse) {
            return Err(NetError::AddrInUse);
        }
        self.listeners.insert(id, Listener { local, reuse });
        Ok(local)
    }

    fn connect(
        &mut self,
        now: Duration,
        conn: ConnId,
        from: Option<SocketAddr>,
        to: SocketAddr,
    ) -> Result<(), NetError> {
        if from.is_some_and(|from| from.is_ipv4() != to.is_ipv4()) {
            return Err(NetError::Other(EAFNOSUPPORT));
        }
        let source = self.source_for(to.ip()).ok_or(NetError::Unreachable)?;
        let local = match from {
            None => SocketAddr::new(source, self.free_port()),
            Some(from) => {
                let ip = if from.ip().is_unspecified() { source } else { from.ip() };
                let port = if from.port() == 0 { self.free_port() } else { from.port() };
                SocketAddr::new(ip, port)
            }
        };
        if !self.is_local(local.ip()) {
            return Err(NetError::AddrNotAvailable);
        }
        let taken =
            |l: &Listener| l.local.port() == local.port() && covers(l.local.ip(), local.ip()) && !l.reuse;
        if self.listeners.values().any(taken) {
            return Err(NetError::AddrInUse);
        }
        let pair = (local, to);
        // Also when the peer's SYN came first and its connection waits in the accept queue, or in TIME-WAIT.
        if self.sockets.contains_key(&pair) {
            return Err(NetError::AddrNotAvailable);
        }
        let mut fx = Effects::default();
        let iss = self.rng.u32(..);
        self.sockets.insert(pair, Tcb::connect(now, pair, conn, iss, &mut fx));
        self.conns.insert(conn, pair);
        self.apply(now, pair, fx);
        Ok(())
    }

    fn source_for(&self, to: IpAddr) -> Option<IpAddr> {
        if self.is_local(to) {
            return Some(to);
        }
        self.addrs.iter().copied().find(|ip| ip.is_ipv4() == to.is_ipv4())
    }

    fn free_port(&mut self) -> u16 {
        for _ in 0..PORT_TRIES {
            let port = self.rng.u16(EPHEMERAL);
            let listened = self.listeners.values().any(|l| l.local.port() == port);
            if !listened && !self.sockets.keys().any(|(local, _)| local.port() == port) {
                return port;
            }
        }
        panic!("a simulated host ran out of ports");
    }

    fn listener_at(&self, local: SocketAddr) -> Option<ListenerId> {
        let of = |wanted: fn(IpAddr, IpAddr) -> bool| {
            let fits = |l: &Listener| l.local.port() == local.port() && wanted(l.local.ip(), local.ip());
            self.listeners.iter().find(|(_, l)| fits(l)).map(|(id, _)| *id)
        };
        of(|listening, ip| listening == ip)
            .or_else(|| of(|listening, ip| listening.is_ipv4() == ip.is_ipv4() && covers(listening, ip)))
            .or_else(|| of(covers))
    }

    fn with_conn(&mut self, now: Duration, conn: ConnId, act: impl FnOnce(&mut Tcb, Duration, &mut Effects)) {
        // A connection that just ended is not an error: its end is still among the inputs.
        if let Some(pair) = self.conns.get(&conn) {
            self.with_socket(now, *pair, act);
        }
    }

    fn with_socket(&mut self, now: Duration, pair: Pair, act: impl FnOnce(&mut Tcb, Duration, &mut Effects)) {
        if let Some(tcb) = self.sockets.get_mut(&pair) {
            let mut fx = Effects::default();
            act(tcb, now, &mut fx);
            self.apply(now, pair, fx);
        }
    }

    fn apply(&mut self, now: Duration, pair: Pair, fx: Effects) {
        let (local, remote) = pair;
        self.out.extend(fx.out.into_iter().map(|s| Packet {
            src: local,
            dst: remote,
            body: Body::Tcp(s),
            life: FULL_LIFE,
        }));
        for happening in fx.happened {
            self.happened(now, pair, happening);
        }
        self.note_deadline(pair);
    }

    fn happened(&mut self, now: Duration, pair: Pair, happening: Happening) {
        let Some(tcb) = self.sockets.get_mut(&pair) else { return };
        let owner = tcb.owner;
        let conn = match owner {
            Owner::App(conn) => Some(conn),
            Owner::Embryo(_) | Owner::Orphan => None,
        };
        let (local, remote) = pair;
        match happening {
            Happening::Established => {
                if let Owner::Embryo(listener) = owner {
                    let serial = self.accepted.entry(listener.room).or_default();
                    let conn = ConnId { room: listener.room, serial: *serial | ConnId::ACCEPTED };
                    *serial += 1;
                    tcb.owner = Owner::App(conn);
                    self.conns.insert(conn, pair);
                    self.inputs.push_back(Waiting::Accepted { listener, conn, local, remote });
                } else if let Some(conn) = conn {
                    self.inputs.push_back(Waiting::Connected { conn, local, remote });
                }
            }
            Happening::Failed(error) => {
                self.sockets.remove(&pair);
                self.end(conn, |conn| Waiting::ConnectFailed { conn, error });
            }
            Happening::Broken(error) => {
                self.sockets.remove(&pair);
                self.end(conn, |conn| Waiting::Closed { conn, error: Some(error) });
            }
            Happening::PeerClosed => {
                if conn.is_some() {
                    self.end(conn, |conn| Waiting::Closed { conn, error: None });
                    self.with_socket(now, pair, |tcb, now, fx| tcb.close(now, fx));
                }
            }
            Happening::Gone => {
                self.sockets.remove(&pair);
            }
            Happening::Data(bytes) => self.receive(conn, &bytes),
            Happening::Backlogged => self.inputs.extend(conn.map(|conn| Waiting::Backlogged { conn })),
            Happening::Drained => self.inputs.extend(conn.map(|conn| Waiting::Drained { conn })),
        }
    }

    /// Hands bytes to the application in some split: a stream has no boundaries to rely on.
    fn receive(&mut self, conn: Option<ConnId>, bytes: &[u8]) {
        let Some(conn) = conn else { return };
        let cut = if self.rng.u8(..4) == 0 { self.rng.usize(..bytes.len()) } else { 0 };
        let (head, tail) = bytes.split_at(cut);
        for part in [head, tail].into_iter().filter(|part| !part.is_empty()) {
            self.inputs.push_back(Waiting::Received { conn, bytes: part.to_vec() });
        }
    }

    fn end(&mut self, conn: Option<ConnId>, input: impl FnOnce(ConnId) -> Waiting) {
        if let Some(conn) = conn {
            self.conns.remove(&conn);
            self.inputs.push_back(input(conn));
        }
    }
}

/// Whether a listener bound to `listening` takes what comes to `ip`. An IPv6 wildcard socket takes IPv4 too.
fn covers(listening: IpAddr, ip: IpAddr) -> bool {
    listening == ip
        || (listening == IpAddr::V4(Ipv4Addr::UNSPECIFIED) && ip.is_ipv4())
        || (listening == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && ip != IpAddr::V4(Ipv4Addr::UNSPECIFIED))
}

/// Linux's default range.
const EPHEMERAL: std::ops::RangeInclusive<u16> = 32_768..=60_999;
/// How many ports are tried.
const PORT_TRIES: usize = 10_000;
/// Linux: no socket of one family connects to the other.
const EAFNOSUPPORT: i32 = 97;
