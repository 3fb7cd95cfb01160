//! The daemon's half of the rendezvous: takes logins, sees mappings, introduces casters to viewers.
//!
//! It decides who may connect, who hears of whom, and when both sides of an introduction know enough. It reports
//! facts only (endpoints that it observed itself) and never chooses how clients reach each other. It refuses to know
//! tickets' secrets, keys and pictures: none of them comes here.
//!
//! # Life of a connection
//!
//! ```text
//!  main 4000     accept ─▶ New ── Login ─────────────────────────▶ LoggedIn ─▶ end (Logout, idle, replaced, gone)
//!  assist 8000   accept ─▶ New ── request, token logged in ──────▶ Bound ────▶ end (with its login, idle, gone)
//!                           └──── request, token unknown ─▶ Held ──┘ on Login
//!  any port      accept ─▶ New ── Sample (or Held first) ─▶ seen, end
//!  main 4000     accept ─▶ New ── Call ─▶ Calling ─▶ end (the ticket, refused, late, its viewer gone)
//!  main 4000     accept ─▶ New ── Relay ─▶ Half ─▶ Relayed ─▶ end (with its other half, used up, silent)
//! ```
//!
//! `New` and `Held` end after a few seconds. A client opens both connections at once, so either may be first. A
//! connection that ends leaves the table at the same moment: there is no state for closing, because the driver
//! flushes without help.
//!
//! # Driving it
//!
//! The four verbs of [`app`](crate::app), for everything on the listeners [`MAIN`], [`ASSIST`] and [`ALTERNATE`], and for the connections
//! that the broker opens itself to test a client's filtering. Whoever owns the broker binds the listeners.

use super::calls::{CallKey, Calls};
use super::filter::Dial;
use super::limits::{Bucket, Limits, Release, Sources, Turned};
use super::nameplates::Nameplates;
use super::registry::Registry;
use super::relaying::{Pairing, Relays};
use super::timers::Due;
use crate::app::{Closing, ConnId, ConnIds, Input, ListenerId, NetOp, Room};
use crate::endpoint::{Endpoint, Prefix};
use crate::id::{ClientId, PunchToken, RendezvousId};
use crate::wire::codec::Message;
use crate::wire::frame::{MAX_FRAME_BEFORE_LOGIN, Reader};
use crate::wire::message::{FromAssist, FromMain, Refusal, Role, ToAssist, ToMain};
use crate::wire::{WireError, encode};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

/// The listener of the main connections (port 4000).
pub const MAIN: ListenerId = ListenerId { room: Room(0), serial: 0 };

/// The listener of the assist connections (port 8000).
pub const ASSIST: ListenerId = ListenerId { room: Room(0), serial: 1 };

/// The listener for samples on the daemon's second address, if it has one.
pub const ALTERNATE: ListenerId = ListenerId { room: Room(0), serial: 2 };

/// The broker. See the [module](self).
#[derive(Debug)]
pub struct Broker {
    pub(super) limits: Limits,
    /// Names clients and sessions. Nothing depends on their being hard to guess: both are told to those who share a
    /// ticket, and are looked up only among them.
    pub(super) rng: fastrand::Rng,
    pub(super) conns: BTreeMap<ConnId, Conn>,
    pub(super) registry: Registry,
    pub(super) sources: Sources,
    /// Assist connections whose token nobody has logged in with yet.
    pub(super) held: BTreeMap<PunchToken, Vec<ConnId>>,
    /// The daemon's second address.
    pub(super) alternate: Option<Endpoint>,
    pub(super) conn_ids: ConnIds,
    /// Connects under way towards clients whose filtering is tested.
    pub(super) dials: BTreeMap<ConnId, Dial>,
    pub(super) relays: Relays,
    pub(super) nameplates: Nameplates,
    pub(super) calls: Calls,
    pub(super) agenda: BTreeSet<(Instant, Due)>,
    /// How many connections were accepted.
    accepted: u64,
    /// Connections that read too slowly, to be ended before the verb returns.
    overrun: Vec<ConnId>,
    pub(super) outbox: VecDeque<NetOp>,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Open,
    /// Interrupted: everybody was told, and nothing is taken any more.
    Ended,
}

/// One of the listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Port {
    Main,
    Assist,
    Alternate,
}

#[derive(Debug)]
pub(super) struct Conn {
    pub(super) port: Port,
    pub(super) remote: Endpoint,
    /// Our address of it.
    pub(super) local: IpAddr,
    /// Its place among all that were accepted: the order in which clients' NATs made their mappings, as far as the
    /// daemon can know it.
    pub(super) born: u64,
    pub(super) reader: Reader,
    messages: Bucket,
    pub(super) phase: Phase,
    pub(super) flow: Flow,
    /// When this phase began (`New`, `Held`), or when the last whole message came (the others). Single bytes do not
    /// count: they would let a trickle of half a message hold a connection for ever.
    pub(super) since: Instant,
    /// Its entry in the agenda.
    pub(super) armed: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    New,
    /// Main only.
    LoggedIn(ClientId),
    /// An assist connection or a sample: the token has no login yet.
    Held(PunchToken, Shown),
    /// Assist only.
    Bound(ClientId, PunchToken),
    /// Main only: waits for the other half of a relay.
    Half(Pairing),
    /// Main only: the half of this role; what comes is passed to the other.
    Relayed(Pairing, Role),
    /// Main only: a caster that has a code and wants its ticket.
    Calling(CallKey),
}

/// The first request of a connection that is not a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) wish: Wish,
    pub(super) local_port: u16,
}

/// What it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// `ReqConnClient`, for the viewer of this rendezvous.
    Introduce(RendezvousId),
    /// `ReqSrvDisconnect`.
    BeSeen,
    /// `Sample`: to be seen once.
    BeSampled,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    Open,
    /// The socket is full; so many bytes were queued since.
    Backlogged {
        since: Instant,
        bytes: usize,
    },
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// The network ended it.
    Gone,
    /// In order, after what is queued.
    Flush,
    /// At once.
    Abort,
    /// In order, with a reason.
    Refuse(Refusal),
}

/// How much the broker holds, for logs and tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Census {
    /// Connections on all ports.
    pub connections: usize,
    /// Logged-in clients.
    pub logins: usize,
    /// Assist connections and samples that wait for their login.
    pub held: usize,
    /// Connects under way to test clients' filtering.
    pub dials: usize,
    /// Relayed links, of two connections each.
    pub relays: usize,
    /// Connections that wait for the other half of a relay.
    pub halves: usize,
    /// Numbers of codes that are taken.
    pub nameplates: usize,
    /// Casters that ask for a code's ticket.
    pub calls: usize,
    /// Source addresses remembered.
    pub sources: usize,
    /// Entries in the agenda.
    pub deadlines: usize,
    /// Bytes of incomplete messages.
    pub buffered: usize,
}

impl Broker {
    /// A broker that draws its names from `seed`.
    #[must_use]
    pub fn new(limits: Limits, seed: u64) -> Self {
        Self {
            limits,
            rng: fastrand::Rng::with_seed(seed),
            conns: BTreeMap::new(),
            registry: Registry::default(),
            sources: Sources::default(),
            held: BTreeMap::new(),
            alternate: None,
            conn_ids: ConnIds::new(MAIN.room),
            dials: BTreeMap::new(),
            relays: Relays::default(),
            nameplates: Nameplates::default(),
            calls: Calls::default(),
            agenda: BTreeSet::new(),
            accepted: 0,
            overrun: Vec::new(),
            outbox: VecDeque::new(),
            stage: Stage::Open,
        }
    }

    /// Tells where [`ALTERNATE`] is bound, so that clients sample it and their filtering is tested from there.
    pub fn set_alternate(&mut self, addr: SocketAddr) {
        self.alternate = Some(Endpoint::new(addr));
    }

    /// Takes one network event of its listeners' rooms. After `Interrupted` every client is told and nothing is
    /// taken any more.
    pub fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        if self.stage == Stage::Ended {
            return;
        }
        match input {
            Input::Accepted { listener, conn, local, remote } => {
                let port = match listener {
                    MAIN => Port::Main,
                    ALTERNATE => Port::Alternate,
                    _ => Port::Assist,
                };
                self.accepted(now, port, conn, local.ip().to_canonical(), Endpoint::new(remote));
            }
            Input::Received { conn, bytes } => self.received(now, conn, bytes),
            Input::Backlogged { conn } => self.backlogged(now, conn),
            Input::Drained { conn } => self.drained(conn),
            Input::Closed { conn, error } => {
                if let Some(error) = error {
                    log::debug!("conn={conn} ended: {error}");
                }
                self.end(now, conn, Ending::Gone);
            }
            Input::Interrupted => self.shut_down(),
            Input::Connected { conn, .. } => self.dialled(now, conn, true),
            Input::ConnectFailed { conn, error } => {
                log::debug!("conn={conn} did not reach the client: {error}");
                self.dialled(now, conn, false);
            }
            // The listeners are bound by the broker's owner.
            Input::Listening { .. } | Input::ListenFailed { .. } => {}
        }
        self.settle(now);
    }

    /// What the network is to do next.
    pub fn poll_output(&mut self) -> Option<NetOp> {
        self.outbox.pop_front()
    }

    /// How much the broker holds.
    #[must_use]
    pub fn census(&self) -> Census {
        Census {
            connections: self.conns.len(),
            logins: self.registry.len(),
            held: self.held.values().map(Vec::len).sum(),
            dials: self.dials.len(),
            relays: self.relays.len(),
            halves: self.relays.waiting(),
            nameplates: self.nameplates.len(),
            calls: self.calls.len(),
            sources: self.sources.len(),
            deadlines: self.agenda.len(),
            buffered: self.conns.values().map(|conn| conn.reader.buffered()).sum(),
        }
    }

    fn accepted(&mut self, now: Instant, port: Port, id: ConnId, local: IpAddr, remote: Endpoint) {
        let prefix = Prefix::of(remote.ip());
        let admission = if self.conns.len() >= self.limits.connections {
            Err(Turned::Full)
        } else {
            self.sources.admit(now, prefix, &self.limits)
        };
        if let Err(turned) = admission {
            let reason = match turned {
                Turned::TooMany => Refusal::TooMany,
                Turned::Full => Refusal::Full,
            };
            log::debug!("conn={id} from {remote} turned away: {reason:?}");
            let bytes = refusal(port, reason);
            self.outbox.push_back(NetOp::Send { conn: id, bytes });
            self.outbox.push_back(NetOp::Close { conn: id, how: Closing::Flush });
            return;
        }
        log::debug!("conn={id} accepted on the {port:?} port from {remote}");
        self.accepted += 1;
        let conn = Conn {
            port,
            remote,
            local,
            born: self.accepted,
            reader: Reader::new(MAX_FRAME_BEFORE_LOGIN),
            messages: Bucket::default(),
            phase: Phase::New,
            flow: Flow::Open,
            since: now,
            armed: now + self.limits.first_message,
        };
        self.agenda.insert((conn.armed, Due::Conn(id)));
        let before = self.conns.insert(id, conn);
        debug_assert!(before.is_none(), "a driver names each connection once");
    }

    fn received(&mut self, now: Instant, id: ConnId, bytes: &[u8]) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        match conn.phase {
            Phase::Relayed(pairing, role) => return self.pass(now, pairing, role, bytes),
            // Nobody is there yet to whom it could go.
            Phase::Half(_) => return self.end(now, id, Ending::Refuse(Refusal::BadRequest)),
            Phase::New | Phase::LoggedIn(_) | Phase::Held(..) | Phase::Bound(..) | Phase::Calling(_) => {}
        }
        conn.reader.push(bytes);
        // A message may end its own connection, so it is looked up anew for each.
        while let Some(conn) = self.conns.get_mut(&id) {
            let more = match conn.port {
                Port::Main => {
                    let message = conn.reader.next::<ToMain>();
                    self.take(now, id, message, Self::on_main)
                }
                Port::Assist | Port::Alternate => {
                    let message = conn.reader.next::<ToAssist>();
                    self.take(now, id, message, Self::on_assist)
                }
            };
            if !more {
                break;
            }
        }
    }

    /// Carries out one step of reading. Whether another may follow.
    fn take<T: Message>(
        &mut self,
        now: Instant,
        id: ConnId,
        message: Result<Option<T>, WireError>,
        carry_out: fn(&mut Self, Instant, ConnId, T),
    ) -> bool {
        match message {
            Ok(Some(message)) => {
                if self.hear(now, id) {
                    carry_out(self, now, id, message);
                } else {
                    self.end(now, id, Ending::Refuse(Refusal::TooMany));
                }
                true
            }
            Ok(None) => false,
            Err(error) => {
                log::debug!("conn={id} does not speak the language: {error}");
                let reason = match error {
                    WireError::Version { .. } => Refusal::Version,
                    WireError::TooLong { .. } | WireError::Empty | WireError::Malformed(_) => {
                        Refusal::BadRequest
                    }
                };
                self.end(now, id, Ending::Refuse(reason));
                false
            }
        }
    }

    /// Notes a message on `id`. Whether it may send that many.
    fn hear(&mut self, now: Instant, id: ConnId) -> bool {
        let Some(conn) = self.conns.get_mut(&id) else { return false };
        match conn.phase {
            Phase::LoggedIn(_) | Phase::Bound(..) => conn.since = now,
            Phase::New | Phase::Held(..) | Phase::Half(_) | Phase::Relayed(..) | Phase::Calling(_) => {}
        }
        conn.messages.take(now, self.limits.messages)
    }

    fn backlogged(&mut self, now: Instant, id: ConnId) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if conn.flow == Flow::Open {
            conn.flow = Flow::Backlogged { since: now, bytes: 0 };
            // Who does not read answers is not asked for more requests, and for whom there is more than fits, no more
            // is taken from the other half.
            match conn.phase {
                Phase::Relayed(pairing, _) => self.steer(pairing),
                Phase::New
                | Phase::LoggedIn(_)
                | Phase::Held(..)
                | Phase::Bound(..)
                | Phase::Half(_)
                | Phase::Calling(_) => {
                    self.outbox.push_back(NetOp::Read { conn: id, on: false });
                }
            }
            self.arm(id);
        }
    }

    fn drained(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if conn.flow != Flow::Open {
            conn.flow = Flow::Open;
            match conn.phase {
                Phase::Relayed(pairing, _) => self.steer(pairing),
                Phase::New
                | Phase::LoggedIn(_)
                | Phase::Held(..)
                | Phase::Bound(..)
                | Phase::Half(_)
                | Phase::Calling(_) => {
                    self.outbox.push_back(NetOp::Read { conn: id, on: true });
                }
            }
        }
    }

    /// Sends one message, or dooms a connection that has too many unread.
    pub(super) fn send<T: Message>(&mut self, now: Instant, id: ConnId, message: &T) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let bytes = encode(message);
        log::trace!("conn={id} at {now:?} {} bytes out", bytes.len());
        if let Flow::Backlogged { bytes: queued, .. } = &mut conn.flow {
            *queued += bytes.len();
            if *queued > self.limits.backlog_bytes {
                self.overrun.push(id);
                return;
            }
        }
        self.outbox.push_back(NetOp::Send { conn: id, bytes });
    }

    /// Takes a connection out of every table, and its login with it.
    pub(super) fn end(&mut self, now: Instant, id: ConnId, ending: Ending) {
        if let Ending::Refuse(reason) = ending {
            self.refuse(now, id, reason);
        }
        let Some(conn) = self.conns.remove(&id) else { return };
        self.agenda.remove(&(conn.armed, Due::Conn(id)));
        let prefix = Prefix::of(conn.remote.ip());
        if let Release::RestFor(rest) = self.sources.release(now, prefix, &self.limits) {
            self.agenda.insert((now + rest, Due::Source(prefix)));
        }
        match ending {
            Ending::Gone => {}
            Ending::Flush | Ending::Refuse(_) => {
                self.outbox.push_back(NetOp::Close { conn: id, how: Closing::Flush });
            }
            Ending::Abort => self.outbox.push_back(NetOp::Close { conn: id, how: Closing::Abort }),
        }
        match conn.phase {
            Phase::New => {}
            Phase::LoggedIn(client) => self.log_out(now, client),
            Phase::Held(token, _) => {
                if let Some(waiting) = self.held.get_mut(&token) {
                    waiting.retain(|held| *held != id);
                    if waiting.is_empty() {
                        self.held.remove(&token);
                    }
                }
            }
            Phase::Bound(client, _) => self.unbind(client, id),
            Phase::Half(pairing) => self.forget_half(id, pairing),
            Phase::Relayed(pairing, _) => self.part(now, pairing),
            Phase::Calling(call) => self.forget_call(call),
        }
    }

    /// Says no, without ending the connection.
    pub(super) fn refuse(&mut self, now: Instant, id: ConnId, reason: Refusal) {
        let Some(conn) = self.conns.get(&id) else { return };
        log::debug!("conn={id} refused: {reason:?}");
        match conn.port {
            Port::Main => self.send(now, id, &FromMain::Refused { reason }),
            Port::Assist | Port::Alternate => self.send(now, id, &FromAssist::Refused { reason }),
        }
    }

    /// Ends the connections that `send` doomed. Each end may tell others, and so doom others.
    pub(super) fn settle(&mut self, now: Instant) {
        while let Some(id) = self.overrun.pop() {
            log::debug!("conn={id} ended: too many unread bytes");
            self.end(now, id, Ending::Abort);
        }
        #[cfg(debug_assertions)]
        self.check_invariants();
    }

    fn shut_down(&mut self) {
        log::info!("shutting down: {} logins, {} connections", self.registry.len(), self.conns.len());
        self.stage = Stage::Ended;
        let bye = encode(&FromMain::Shutdown);
        for (&conn, state) in &self.conns {
            // What goes to a relayed connection is the other half's.
            if state.port == Port::Main && !matches!(state.phase, Phase::Relayed(..)) {
                self.outbox.push_back(NetOp::Send { conn, bytes: bye.clone() });
            }
            self.outbox.push_back(NetOp::Close { conn, how: Closing::Flush });
        }
        for &conn in self.dials.keys() {
            self.outbox.push_back(NetOp::Close { conn, how: Closing::Abort });
        }
        self.dials.clear();
        self.relays = Relays::default();
        self.nameplates = Nameplates::default();
        self.calls = Calls::default();
        self.conns.clear();
        self.held.clear();
        self.agenda.clear();
        self.registry = Registry::default();
        self.sources = Sources::default();
    }

    /// What must hold between verbs. Looks at everything, so large tables are left out.
    #[cfg(debug_assertions)]
    fn check_invariants(&self) {
        const SMALL: usize = 64;
        if self.conns.len() > SMALL {
            return;
        }
        self.registry.check_invariants();
        self.check_relays();
        self.check_calls();
        assert_eq!(self.sources.conns(), self.conns.len(), "every connection is counted once");
        assert_eq!(
            self.agenda.iter().filter(|(_, due)| matches!(due, Due::Conn(_))).count(),
            self.conns.len()
        );
        for dial in self.dials.values() {
            let login = self.registry.login(dial.client).expect("it ends with its login");
            assert!(login.filter.is_running());
        }
        let (mut paired, mut calling) = (0, 0);
        for (id, conn) in &self.conns {
            assert!(conn.armed <= self.deadline(conn).0, "no deadline is missed");
            match conn.phase {
                Phase::New => {}
                Phase::LoggedIn(client) => {
                    assert_eq!(self.registry.login(client).map(|login| login.conn), Some(*id));
                }
                Phase::Held(token, _) => assert!(self.held[&token].contains(id)),
                Phase::Half(_) | Phase::Relayed(..) => paired += 1,
                Phase::Calling(_) => calling += 1,
                Phase::Bound(client, token) => {
                    let login = self.registry.login(client).expect("it ends with its login");
                    assert_eq!(login.token, token);
                    assert!(login.assists.iter().any(|assist| assist.conn == *id));
                }
            }
        }
        assert_eq!(paired, self.relays.waiting() + 2 * self.relays.len(), "no half is without its relay");
        assert_eq!(calling, self.calls.len(), "no caster calls in vain");
    }
}

/// The frame that refuses on `port`.
fn refusal(port: Port, reason: Refusal) -> Bytes {
    match port {
        Port::Main => encode(&FromMain::Refused { reason }),
        Port::Assist | Port::Alternate => encode(&FromAssist::Refused { reason }),
    }
}
