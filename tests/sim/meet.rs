//! The least that meets through NATs: a toy daemon that introduces two toy clients, each of which listens on and
//! dials from one hole port. It does what the [oracle](crate::oracle) takes as given and nothing cleverer, so the
//! matrix holds network and oracle against each other apart from the product.

use punchcast::app::{App, Closing, ConnId, ConnIds, Input, ListenerId, NetError, NetOp, Output, Room};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// The port of the toy daemon.
pub(crate) const DAEMON_PORT: u16 = 8000;
/// The hole port of the clients.
pub(crate) const HOLE_PORT: u16 = 5000;
/// The room of everything here.
const ROOM: Room = Room(1);
/// A refused dial is tried again at the next whole multiple of this.
const SLOT: Duration = Duration::from_millis(500);

/// Tells each of two clients where it sees the other, and, to those behind one address, the other's own address.
#[derive(Debug, Default)]
pub(crate) struct ToyDaemon {
    /// Each client's connection, observed endpoint, and what it says its own one is.
    clients: Vec<(ConnId, SocketAddr, Option<String>)>,
    outputs: VecDeque<NetOp>,
}

impl ToyDaemon {
    pub(crate) fn new(addr: SocketAddr) -> Self {
        let listener = ListenerId { room: ROOM, serial: 0 };
        Self { outputs: VecDeque::from([NetOp::Listen { listener, addr, reuse: false }]), ..Self::default() }
    }

    fn introduce(&mut self) {
        let [(a, at_a, Some(own_a)), (b, at_b, Some(own_b))] = &self.clients[..] else { return };
        let one_address = at_a.ip() == at_b.ip();
        for (to, observed, own) in [(b, at_a, own_a), (a, at_b, own_b)] {
            let line = if one_address { format!("{observed} {own}") } else { format!("{observed}\n") };
            self.outputs.push_back(NetOp::Send { conn: *to, bytes: line.into() });
        }
    }
}

impl App for ToyDaemon {
    type Message = ();
    type Notice = ();

    fn handle_input(&mut self, _now: Instant, input: Input<'_>) {
        match input {
            Input::Accepted { conn, remote, .. } => self.clients.push((conn, remote, None)),
            Input::Received { conn, bytes } => {
                let Some((.., own)) = self.clients.iter_mut().find(|(client, ..)| *client == conn) else {
                    return;
                };
                own.get_or_insert_default().push_str(std::str::from_utf8(bytes).expect("toys speak ASCII"));
                let complete = |own: &Option<String>| own.as_ref().is_some_and(|own| own.ends_with('\n'));
                if self.clients.iter().all(|(.., own)| complete(own)) {
                    self.introduce();
                }
            }
            Input::Listening { .. }
            | Input::ListenFailed { .. }
            | Input::Connected { .. }
            | Input::ConnectFailed { .. }
            | Input::Backlogged { .. }
            | Input::Drained { .. }
            | Input::Closed { .. }
            | Input::Interrupted => {}
        }
    }

    fn handle_message(&mut self, _now: Instant, (): ()) {}

    fn handle_timeout(&mut self, _now: Instant) {}

    fn poll_output(&mut self) -> Option<Output<()>> {
        self.outputs.pop_front().map(Output::Net)
    }

    fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        None
    }
}

/// A client; tells the peer's address of each link that it gets.
#[derive(Debug)]
pub(crate) struct ToyClient {
    local: SocketAddr,
    began: Instant,
    ids: ConnIds,
    daemon: ConnId,
    heard: String,
    /// Whom each dial under way is for.
    dials: BTreeMap<ConnId, SocketAddr>,
    /// Dials to make again, and when.
    again: BTreeMap<SocketAddr, Instant>,
    open: BTreeMap<ConnId, SocketAddr>,
    greeted: BTreeSet<ConnId>,
    outputs: VecDeque<Output<SocketAddr>>,
}

impl ToyClient {
    /// A client whose hole endpoint is `local`.
    pub(crate) fn new(now: Instant, local: SocketAddr, daemon: SocketAddr) -> Self {
        let mut ids = ConnIds::new(ROOM);
        let conn = ids.allocate();
        let dial = NetOp::Connect { conn, from: Some(local), to: daemon };
        Self {
            local,
            began: now,
            ids,
            daemon: conn,
            heard: String::new(),
            dials: BTreeMap::new(),
            again: BTreeMap::new(),
            open: BTreeMap::new(),
            greeted: BTreeSet::new(),
            outputs: VecDeque::from([Output::Net(dial)]),
        }
    }

    fn dial(&mut self, to: SocketAddr) {
        let conn = self.ids.allocate();
        self.dials.insert(conn, to);
        self.net(NetOp::Connect { conn, from: Some(self.local), to });
    }

    fn net(&mut self, op: NetOp) {
        self.outputs.push_back(Output::Net(op));
    }

    fn opened(&mut self, conn: ConnId, remote: SocketAddr) {
        self.dials.remove(&conn);
        self.again.remove(&remote);
        let bytes = if conn == self.daemon {
            format!("{}\n", self.local).into_bytes()
        } else {
            self.open.insert(conn, remote);
            b"hello".to_vec()
        };
        self.net(NetOp::Send { conn, bytes: bytes.into() });
    }

    fn received(&mut self, conn: ConnId, bytes: &[u8]) {
        if conn != self.daemon {
            if self.greeted.insert(conn) {
                self.outputs.extend(self.open.get(&conn).map(|remote| Output::Notice(*remote)));
            }
            return;
        }
        self.heard.push_str(std::str::from_utf8(bytes).expect("toys speak ASCII"));
        if self.heard.ends_with('\n') {
            let listener = ListenerId { room: ROOM, serial: 0 };
            self.net(NetOp::Listen { listener, addr: self.local, reuse: true });
            for to in std::mem::take(&mut self.heard).split_whitespace() {
                self.dial(to.parse().expect("the toy daemon tells endpoints"));
            }
        }
    }
}

impl App for ToyClient {
    type Message = ();
    type Notice = SocketAddr;

    fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        match input {
            Input::Accepted { conn, remote, .. } | Input::Connected { conn, remote, .. } => {
                self.opened(conn, remote)
            }
            Input::Received { conn, bytes } => self.received(conn, bytes),
            Input::ConnectFailed { conn, error } => {
                let Some(to) = self.dials.remove(&conn) else { return };
                // An address not available is one from which a connection has come already, or soon will have.
                if error != NetError::AddrNotAvailable {
                    let slots = now.duration_since(self.began).as_millis() / SLOT.as_millis() + 1;
                    self.again.insert(to, self.began + SLOT * u32::try_from(slots).expect("a short test"));
                }
            }
            Input::Closed { conn, .. } => {
                self.open.remove(&conn);
            }
            Input::Interrupted => {
                let conns: Vec<ConnId> = self.open.keys().copied().collect();
                for conn in conns {
                    self.net(NetOp::Close { conn, how: Closing::Abort });
                }
                self.outputs.push_back(Output::Exit);
            }
            Input::Listening { .. }
            | Input::ListenFailed { .. }
            | Input::Backlogged { .. }
            | Input::Drained { .. } => {}
        }
    }

    fn handle_message(&mut self, _now: Instant, (): ()) {}

    fn handle_timeout(&mut self, now: Instant) {
        let due: Vec<SocketAddr> =
            self.again.iter().filter(|(_, at)| **at <= now).map(|(to, _)| *to).collect();
        for to in due {
            self.again.remove(&to);
            self.dial(to);
        }
    }

    fn poll_output(&mut self) -> Option<Output<SocketAddr>> {
        self.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        self.again.values().min().map(|at| (*at, "the next slot for a refused dial"))
    }
}
