//! The contract between an application and whatever drives it.
//!
//! An [`App`] decides; a driver carries bytes and time. [`crate::driver::Driver`] is one driver (mio, real
//! sockets); the simulator under `tests/sim` is another, and nothing in an application can tell which of the two it
//! has. An application never reads a clock, opens a socket or draws randomness from the system.
//!
//! # The four verbs
//!
//! `handle_input`, `handle_timeout` (and `handle_message`, for what other threads of the same program send) change
//! the application; `poll_output` and `poll_timeout` tell what it wants. After **one** change, drain `poll_output`
//! to `None` before the next; what it sends may be written as late as then:
//!
//! ```
//! use punchcast::app::{App, Output};
//! use std::time::Instant;
//!
//! fn turn<A: App>(app: &mut A, now: Instant) -> Option<Instant> {
//!     app.handle_timeout(now);
//!     while let Some(output) = app.poll_output() {
//!         match output {
//!             Output::Net(_op) => { /* carry it out */ }
//!             Output::Notice(_notice) => { /* tell the user */ }
//!             Output::Exit => return None,
//!         }
//!     }
//!     app.poll_timeout().map(|(at, _why)| at)
//! }
//! ```
//!
//! # Rooms
//!
//! An application is made of cores that each own some connections. A [`Room`] names the owner, and every
//! [`ConnId`] and [`ListenerId`] carries its room, so an input finds its core without a table.

use crate::cadence::Window;
use bytes::Bytes;
use bytes::buf::Limit;
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Which core of an application owns a connection or a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Room(pub u8);

/// One TCP connection, named once and never again during the life of a driver.
///
/// The application names the connections that it opens ([`ConnIds`]); the driver names those that it accepts, in
/// the room of the listener, with [`ConnId::ACCEPTED`] set in `serial`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId {
    /// The core that owns the connection.
    pub room: Room,
    /// Unique within the room.
    pub serial: u32,
}

impl ConnId {
    /// The bit of `serial` that tells an accepted connection from an opened one.
    pub const ACCEPTED: u32 = 1 << 31;
}

impl fmt::Display for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:x}", self.room.0, self.serial)
    }
}

/// One listening socket. The application chooses `serial`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerId {
    /// The core that owns the listener and every connection accepted on it.
    pub room: Room,
    /// Unique within the room.
    pub serial: u32,
}

/// Names the connections that a core opens.
#[derive(Clone, Debug)]
pub struct ConnIds {
    room: Room,
    next: u32,
}

impl ConnIds {
    /// Names for `room`, from zero on.
    #[must_use]
    pub const fn new(room: Room) -> Self {
        Self { room, next: 0 }
    }

    /// The next unused name.
    pub fn allocate(&mut self) -> ConnId {
        let serial = self.next;
        self.next = self.next.wrapping_add(1) & !ConnId::ACCEPTED;
        ConnId { room: self.room, serial }
    }
}

/// Why the network did not do what was asked. In punching these are facts to decide on, not errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NetError {
    /// The other end, or a NAT before it, answered RST (`ECONNREFUSED`).
    Refused,
    /// An established connection was reset (`ECONNRESET`, `EPIPE`).
    Reset,
    /// No route, or an ICMP error (`EHOSTUNREACH`, `ENETUNREACH`).
    Unreachable,
    /// Nothing answered (`ETIMEDOUT`).
    TimedOut,
    /// The local address is taken (`EADDRINUSE`).
    AddrInUse,
    /// The 4-tuple exists already, or the local address is not ours (`EADDRNOTAVAIL`).
    AddrNotAvailable,
    /// The system forbids it (`EACCES`, `EPERM`).
    Denied,
    /// Out of descriptors (`EMFILE`, `ENFILE`).
    TooManyFiles,
    /// We gave it up ([`NetOp::GiveUp`]); nothing was heard.
    GivenUp,
    /// A SYN was heard and answered, and nothing more came for [`HALF_OPEN_TIME`].
    HalfOpen,
    /// Anything else, as the system's error number.
    Other(i32),
}

impl fmt::Display for NetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("connection refused"),
            Self::Reset => f.write_str("connection reset"),
            Self::Unreachable => f.write_str("no route to the address"),
            Self::TimedOut => f.write_str("timed out"),
            Self::AddrInUse => f.write_str("address already in use"),
            Self::AddrNotAvailable => f.write_str("address not available"),
            Self::Denied => f.write_str("not permitted"),
            Self::TooManyFiles => f.write_str("too many open files"),
            Self::GivenUp => f.write_str("given up"),
            Self::HalfOpen => f.write_str("the handshake was not finished"),
            Self::Other(code) => write!(f, "system error {code}"),
        }
    }
}

impl std::error::Error for NetError {}

/// What happened on the network.
#[derive(Debug)]
pub enum Input<'a> {
    /// The listener is bound; `local` has the port that was taken.
    Listening {
        /// Which listener.
        listener: ListenerId,
        /// Its bound address.
        local: SocketAddr,
    },
    /// The listener could not be bound; it does not exist.
    ListenFailed {
        /// Which listener.
        listener: ListenerId,
        /// The address that was asked for.
        addr: SocketAddr,
        /// Why.
        error: NetError,
    },
    /// A connection came in.
    Accepted {
        /// On which listener.
        listener: ListenerId,
        /// Its name from here on, in the listener's room.
        conn: ConnId,
        /// Our address of it.
        local: SocketAddr,
        /// The peer's.
        remote: SocketAddr,
    },
    /// A connection that the application opened is established.
    Connected {
        /// Which connection.
        conn: ConnId,
        /// Our address of it.
        local: SocketAddr,
        /// The peer's.
        remote: SocketAddr,
    },
    /// A connection that the application opened came to nothing; it does not exist any more.
    ConnectFailed {
        /// Which connection.
        conn: ConnId,
        /// Why.
        error: NetError,
    },
    /// Bytes arrived, in any split.
    Received {
        /// On which connection.
        conn: ConnId,
        /// At least one byte.
        bytes: &'a [u8],
    },
    /// What was sent did not fit the socket: the driver holds the rest. Hold back what can wait.
    Backlogged {
        /// Which connection.
        conn: ConnId,
    },
    /// Everything the driver held for this connection has gone to the socket.
    Drained {
        /// Which connection.
        conn: ConnId,
    },
    /// The connection ended; it does not exist any more.
    Closed {
        /// Which connection.
        conn: ConnId,
        /// `None` when the peer closed in order.
        error: Option<NetError>,
    },
    /// The user or the system asks the program to end (SIGINT, SIGTERM).
    Interrupted,
}

impl Input<'_> {
    /// The room whose core this input belongs to; `None` for what concerns the whole application.
    #[must_use]
    pub const fn room(&self) -> Option<Room> {
        match self {
            Self::Listening { listener, .. } | Self::ListenFailed { listener, .. } => Some(listener.room),
            Self::Accepted { conn, .. }
            | Self::Connected { conn, .. }
            | Self::ConnectFailed { conn, .. }
            | Self::Received { conn, .. }
            | Self::Backlogged { conn }
            | Self::Drained { conn }
            | Self::Closed { conn, .. } => Some(conn.room),
            Self::Interrupted => None,
        }
    }

    /// The connection that this input is about; `None` for what concerns a listener or the whole application. An accepted
    /// connection is named here for the first time.
    #[must_use]
    pub const fn conn(&self) -> Option<ConnId> {
        match self {
            Self::Accepted { conn, .. }
            | Self::Connected { conn, .. }
            | Self::ConnectFailed { conn, .. }
            | Self::Received { conn, .. }
            | Self::Backlogged { conn }
            | Self::Drained { conn }
            | Self::Closed { conn, .. } => Some(*conn),
            Self::Listening { .. } | Self::ListenFailed { .. } | Self::Interrupted => None,
        }
    }
}

/// How to end a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// Send what is queued (for at most [`FLUSH_TIME`]), then FIN.
    Flush,
    /// At once. What is queued is lost; a connect under way is given up silently.
    Abort,
}

/// How long a driver keeps a flushed connection that does not take its last bytes. A peer that stopped reading must
/// not hold a descriptor; two seconds are several round trips on any path that can carry a picture.
pub const FLUSH_TIME: Duration = Duration::from_secs(2);

/// How long a connect may be half open: it heard a SYN (the peer's, crossing its own) and answered, and the answer is not
/// acknowledged. Then it ends with [`NetError::HalfOpen`], by RST. The system would repeat the answer for minutes, while a NAT
/// on the way may have lost the session that it belongs to. Two seconds are a round trip over two satellites, or the
/// system's first repetition, a second later, over any shorter way.
pub const HALF_OPEN_TIME: Duration = Duration::from_secs(2);

/// What an application asks of the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetOp {
    /// Bind and listen. Answered by `Listening` or `ListenFailed`.
    Listen {
        /// Its name.
        listener: ListenerId,
        /// Port 0 takes a free port.
        addr: SocketAddr,
        /// Share the port with connections opened from it (`SO_REUSEADDR` and `SO_REUSEPORT` before `bind`).
        reuse: bool,
    },
    /// Close a listener; its accepted connections live on.
    StopListening {
        /// Which listener.
        listener: ListenerId,
    },
    /// Open a connection. Answered by `Connected` or `ConnectFailed`.
    Connect {
        /// Its name, from [`ConnIds`].
        conn: ConnId,
        /// The local address to share with a listener (reusable); `None` for any.
        from: Option<SocketAddr>,
        /// The peer.
        to: SocketAddr,
    },
    /// As `Connect`, but the first SYN lives for `hops` routers only: it opens the NATs on our side
    /// and dies before it reaches the peer's, which might answer it with RST. What is sent after it lives as long as
    /// ever, and the news of its death does not end the connect.
    Knock {
        /// Its name, from [`ConnIds`].
        conn: ConnId,
        /// The local address to share with a listener; `None` for any.
        from: Option<SocketAddr>,
        /// The peer.
        to: SocketAddr,
        /// Routers that forward the first SYN, at least one.
        hops: u8,
    },
    /// Give up a connect under way if nothing was heard from the peer; answered by `ConnectFailed` with
    /// [`NetError::GivenUp`]. One that has heard a SYN goes on (for [`HALF_OPEN_TIME`] at most), and nothing answers.
    GiveUp {
        /// Which connection.
        conn: ConnId,
    },
    /// Queue bytes on an established connection. They leave together with whatever else is sent on it in the same drain.
    Send {
        /// Which connection.
        conn: ConnId,
        /// What to send.
        bytes: Bytes,
    },
    /// End a connection or a connect under way. No further input names it.
    Close {
        /// Which connection.
        conn: ConnId,
        /// How.
        how: Closing,
    },
    /// Stop or go on reading, so that a slow consumer pushes back on the sender.
    Read {
        /// Which connection.
        conn: ConnId,
        /// Whether to read.
        on: bool,
    },
}

/// What an application asks of its driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output<N> {
    /// Something for the network.
    Net(NetOp),
    /// Something for the program around it: its users, its files.
    Notice(N),
    /// The application is done; the driver flushes and stops. Once: the drain goes on to `None`.
    Exit,
}

/// An application: a bundle of cores behind the four verbs. See the [module's](self) contract.
pub trait App {
    /// What other threads of the program send to it (encoded frames, say).
    type Message;
    /// What it tells the program around it.
    type Notice;

    /// Takes one network event.
    fn handle_input(&mut self, now: Instant, input: Input<'_>);
    /// Takes one message from another thread.
    fn handle_message(&mut self, now: Instant, message: Self::Message);
    /// Takes the passing of time; called at or after the moment that `poll_timeout` named, and before it as often as a driver
    /// likes: nothing is due then.
    fn handle_timeout(&mut self, now: Instant);
    /// The next thing to carry out, until `None`.
    fn poll_output(&mut self) -> Option<Output<Self::Notice>>;
    /// When it wants `handle_timeout`, and why (for the log). A driver must not call this between a change and the
    /// end of the drain.
    fn poll_timeout(&self) -> Option<(Instant, &'static str)>;
    /// When it expects, later than `now`, what should be passed on at once: a driver may stay awake then. Called as
    /// `poll_timeout` is.
    fn poll_expected(&self, _now: Instant) -> Option<Window> {
        None
    }
    /// Does what it will have to do with what it expects, so that all of it is at hand, and nothing else: at the beginning of
    /// a window that [`poll_expected`](Self::poll_expected) named, if at all. A change, after which outputs are drained.
    fn rehearse(&mut self, _now: Instant) {}
    /// Where a connection's next bytes are to be put; `None` if that makes no difference. A driver may ask before it reads,
    /// and need not.
    fn space(&mut self, _conn: ConnId) -> Option<Space<'_>> {
        None
    }
    /// Takes it that `count` bytes were put where [`space`](Self::space) said last: a change as by [`Input::Received`].
    /// What was read beside them follows as such.
    fn handle_placed(&mut self, _now: Instant, _conn: ConnId, _count: usize) {}
}

/// Where bytes are read to, so that those of a large message need not be copied there.
#[derive(Debug)]
pub struct Space<'a> {
    /// What comes next is appended here, up to the limit. There is room for it.
    pub into: Option<Limit<&'a mut Vec<u8>>>,
    /// How much more may be read at the same time, at least one byte; it comes as [`Input::Received`].
    pub beside: usize,
}

/// The earlier of two optional deadlines.
#[must_use]
pub fn soonest(
    a: Option<(Instant, &'static str)>,
    b: Option<(Instant, &'static str)>,
) -> Option<(Instant, &'static str)> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if b.0 < a.0 { b } else { a }),
        (a, b) => a.or(b),
    }
}
