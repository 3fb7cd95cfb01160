//! Two toy applications for tests of the simulator itself: one that does what it is told and tells what it sees, and
//! one that echoes.

use punchcast::app::{App, Closing, ConnId, Input, ListenerId, NetError, NetOp, Output, Room};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

/// An input with its bytes, as a notice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Listening(SocketAddr),
    ListenFailed(NetError),
    Accepted { conn: ConnId, remote: SocketAddr },
    Connected { conn: ConnId, remote: SocketAddr },
    ConnectFailed(ConnId, NetError),
    Received(ConnId, Vec<u8>),
    Backlogged(ConnId),
    Drained(ConnId),
    Closed(ConnId, Option<NetError>),
    Interrupted,
}

impl Seen {
    fn of(input: &Input<'_>) -> Self {
        match input {
            Input::Listening { local, .. } => Self::Listening(*local),
            Input::ListenFailed { error, .. } => Self::ListenFailed(*error),
            Input::Accepted { conn, remote, .. } => Self::Accepted { conn: *conn, remote: *remote },
            Input::Connected { conn, remote, .. } => Self::Connected { conn: *conn, remote: *remote },
            Input::ConnectFailed { conn, error } => Self::ConnectFailed(*conn, *error),
            Input::Received { conn, bytes } => Self::Received(*conn, bytes.to_vec()),
            Input::Backlogged { conn } => Self::Backlogged(*conn),
            Input::Drained { conn } => Self::Drained(*conn),
            Input::Closed { conn, error } => Self::Closed(*conn, *error),
            Input::Interrupted => Self::Interrupted,
        }
    }
}

/// Carries out each [`NetOp`] that it is sent, at once; tells every input as a notice. Exits when interrupted.
#[derive(Debug, Default)]
pub(crate) struct Script {
    outputs: VecDeque<Output<Seen>>,
}

impl App for Script {
    type Message = NetOp;
    type Notice = Seen;

    fn handle_input(&mut self, _now: Instant, input: Input<'_>) {
        let seen = Seen::of(&input);
        let interrupted = seen == Seen::Interrupted;
        self.outputs.push_back(Output::Notice(seen));
        self.outputs.extend(interrupted.then_some(Output::Exit));
    }

    fn handle_message(&mut self, _now: Instant, message: NetOp) {
        self.outputs.push_back(Output::Net(message));
    }

    fn handle_timeout(&mut self, _now: Instant) {}

    fn poll_output(&mut self) -> Option<Output<Seen>> {
        self.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        None
    }
}

/// Listens on one port and sends back what it receives.
#[derive(Debug)]
pub(crate) struct Echo {
    outputs: VecDeque<NetOp>,
}

impl Echo {
    pub(crate) fn new(addr: SocketAddr) -> Self {
        let listener = ListenerId { room: Room(7), serial: 0 };
        Self { outputs: VecDeque::from([NetOp::Listen { listener, addr, reuse: false }]) }
    }
}

impl App for Echo {
    type Message = ();
    type Notice = ();

    fn handle_input(&mut self, _now: Instant, input: Input<'_>) {
        if let Input::Received { conn, bytes } = input {
            self.outputs.push_back(NetOp::Send { conn, bytes: bytes.to_vec().into() });
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

/// The name that scripts give their `serial`-th connection.
pub(crate) const fn conn(serial: u32) -> ConnId {
    ConnId { room: Room(1), serial }
}

/// The name of the `serial`-th connection that a script accepts.
pub(crate) const fn accepted(serial: u32) -> ConnId {
    ConnId { room: Room(1), serial: serial | ConnId::ACCEPTED }
}

/// Listen on `addr`, sharing the port.
pub(crate) const fn listen(addr: SocketAddr) -> NetOp {
    NetOp::Listen { listener: LISTENER, addr, reuse: true }
}

/// Connect, as connection `serial`.
pub(crate) const fn connect(serial: u32, from: Option<SocketAddr>, to: SocketAddr) -> NetOp {
    NetOp::Connect { conn: conn(serial), from, to }
}

/// Send on a connection.
pub(crate) fn send(conn: ConnId, bytes: &[u8]) -> NetOp {
    NetOp::Send { conn, bytes: bytes.to_vec().into() }
}

/// Close a connection.
pub(crate) const fn close(conn: ConnId, how: Closing) -> NetOp {
    NetOp::Close { conn, how }
}

/// The one listener of a script.
pub(crate) const LISTENER: ListenerId = ListenerId { room: Room(1), serial: 0 };
