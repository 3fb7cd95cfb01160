//! One local port that listens and connects at once.

use super::schedule::{self, ATTEMPT_TIME, SYN_BUDGET};
use crate::app::{Closing, ConnId, ConnIds, Input, ListenerId, NetError, NetOp, Room};
use crate::endpoint::Endpoint;
use std::collections::VecDeque;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Instant;

/// Endpoints dialled at the same time, over all attempts. A ticket and an introduction give at most 24 together.
const MAX_LANES: usize = 64;

/// One effort to reach one peer. The owner numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attempt(pub u64);

/// Where an endpoint was learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// The peer's own address, from the ticket.
    Ticket,
    /// The peer's own address, passed on by the daemon.
    Local,
    /// What the daemon saw.
    Observed,
}

/// An endpoint to dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Where.
    pub endpoint: Endpoint,
    /// Learned from whom.
    pub origin: Origin,
}

/// A connection that formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Open {
    /// The connection; the owner has it from here on.
    pub conn: ConnId,
    /// Our address of it.
    pub local: Endpoint,
    /// The peer's.
    pub remote: Endpoint,
    /// The attempt that names the remote endpoint; `None` for a caller whom nobody announced.
    pub attempt: Option<Attempt>,
    /// Where the endpoint was learned; `None` as above.
    pub origin: Option<Origin>,
    /// Whether our connecting socket completed (by an answer or by crossing SYNs), not our listener.
    pub dialled: bool,
}

/// What an attempt met, for the report when it came to nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Connects begun.
    pub dials: u32,
    /// Connects answered by RST.
    pub refused: u32,
    /// Connects without a route.
    pub unreachable: u32,
    /// Connects that nobody answered.
    pub silent: u32,
    /// Endpoints tried.
    pub endpoints: u32,
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "connects: {} to {} addresses, {} refused, {} without a route, {} unanswered",
            self.dials, self.endpoints, self.refused, self.unreachable, self.silent
        )
    }
}

/// What the hole tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The port is bound; one address a family.
    Opened {
        /// The bound addresses, unspecified IPs with the hole port.
        locals: Vec<SocketAddr>,
    },
    /// The port cannot be had.
    Failed {
        /// What was asked for.
        addr: SocketAddr,
        /// Why.
        error: NetError,
    },
    /// The first SYN to an endpoint goes out.
    Trying {
        /// For which attempt.
        attempt: Attempt,
        /// Where to.
        target: Target,
    },
    /// A connection formed.
    Open(Open),
    /// The attempt's time is over; nothing is dialled for it any more.
    Exhausted {
        /// Which.
        attempt: Attempt,
        /// What it met.
        findings: Findings,
    },
}

/// What the hole asks for and tells.
#[derive(Debug)]
pub enum Output {
    /// For the network.
    Net(NetOp),
    /// For the application.
    Event(Event),
}

enum Listening {
    Closed,
    /// The IPv4 listener is asked for; `retry` is set when the wanted port was taken and any other will do.
    OpeningV4 {
        port: u16,
    },
    OpeningV6 {
        v4: Option<SocketAddr>,
    },
    Open {
        locals: Vec<SocketAddr>,
    },
}

enum LaneState {
    Waiting {
        until: Instant,
    },
    Dialling {
        conn: ConnId,
    },
    /// A connection to this endpoint exists.
    Connected {
        conn: ConnId,
    },
}

/// One endpoint of one attempt.
struct Lane {
    attempt: Attempt,
    target: Target,
    state: LaneState,
    dials: u32,
}

struct Effort {
    attempt: Attempt,
    start: Instant,
    findings: Findings,
}

/// One local port that listens and connects at once. See the [module](super).
pub struct Hole {
    room: Room,
    conns: ConnIds,
    listening: Listening,
    own: Vec<Endpoint>,
    efforts: Vec<Effort>,
    lanes: Vec<Lane>,
    outputs: VecDeque<Output>,
}

impl Hole {
    /// A closed hole whose connections belong to `room`.
    #[must_use]
    pub const fn new(room: Room) -> Self {
        Self {
            room,
            conns: ConnIds::new(room),
            listening: Listening::Closed,
            own: Vec::new(),
            efforts: Vec::new(),
            lanes: Vec::new(),
            outputs: VecDeque::new(),
        }
    }

    /// Binds `port` (0: any) for IPv4, then the same one for IPv6. One family is enough.
    pub fn open(&mut self, port: u16) {
        let addr = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        self.listening = Listening::OpeningV4 { port };
        self.listen(V4, addr);
    }

    /// Tells which endpoints are our own, so that none of them is dialled: connecting a port to itself succeeds.
    pub fn set_own(&mut self, own: Vec<Endpoint>) {
        self.own = own;
    }

    /// The bound addresses.
    #[must_use]
    pub fn locals(&self) -> &[SocketAddr] {
        match &self.listening {
            Listening::Open { locals } => locals,
            Listening::Closed | Listening::OpeningV4 { .. } | Listening::OpeningV6 { .. } => &[],
        }
    }

    /// Dials `targets` for `attempt`, at once. Targets known to the attempt go on as they are; a repeated start
    /// renews the attempt's time.
    pub fn start(&mut self, now: Instant, attempt: Attempt, targets: &[Target]) {
        match self.efforts.iter_mut().find(|effort| effort.attempt == attempt) {
            Some(effort) => effort.start = now,
            None => self.efforts.push(Effort { attempt, start: now, findings: Findings::default() }),
        }
        for &target in targets {
            self.add(now, attempt, target);
        }
        self.handle_timeout(now);
    }

    fn add(&mut self, now: Instant, attempt: Attempt, target: Target) {
        let dialable =
            target.endpoint.port() != 0 && target.endpoint.reach() > crate::endpoint::Reach::Nowhere;
        let bound = self.locals().iter().any(|local| local.is_ipv4() == target.endpoint.addr().is_ipv4());
        let known =
            self.lanes.iter().any(|lane| lane.attempt == attempt && lane.target.endpoint == target.endpoint);
        if !dialable
            || !bound
            || known
            || self.own.contains(&target.endpoint)
            || self.lanes.len() >= MAX_LANES
        {
            return;
        }
        if let Some(effort) = self.efforts.iter_mut().find(|effort| effort.attempt == attempt) {
            effort.findings.endpoints += 1;
        }
        self.lanes.push(Lane { attempt, target, state: LaneState::Waiting { until: now }, dials: 0 });
        self.event(Event::Trying { attempt, target });
    }

    /// Gives up what is being dialled for `attempt`. Connections that formed stay.
    pub fn stop(&mut self, attempt: Attempt) {
        self.efforts.retain(|effort| effort.attempt != attempt);
        let outputs = &mut self.outputs;
        self.lanes.retain(|lane| {
            if lane.attempt == attempt
                && let LaneState::Dialling { conn } = lane.state
            {
                outputs.push_back(Output::Net(NetOp::Close { conn, how: Closing::Abort }));
            }
            lane.attempt != attempt
        });
    }

    /// Whether `attempt` is going on.
    #[must_use]
    pub fn is_trying(&self, attempt: Attempt) -> bool {
        self.efforts.iter().any(|effort| effort.attempt == attempt)
    }

    /// Tells that the owner closed `conn`, or that it ended: its endpoint may be dialled again.
    pub fn released(&mut self, now: Instant, conn: ConnId) {
        for lane in &mut self.lanes {
            if matches!(lane.state, LaneState::Connected { conn: ours } if ours == conn) {
                let start =
                    self.efforts.iter().find(|effort| effort.attempt == lane.attempt).map(|e| e.start);
                let until = schedule::retry_at(start.unwrap_or(now), now, NetError::Reset, lane.dials);
                lane.state = LaneState::Waiting { until };
            }
        }
    }

    /// Takes an input of the hole's room. `Received`, `Backlogged`, `Drained` and `Closed` of open connections are
    /// the owner's.
    pub fn handle_input(&mut self, now: Instant, input: &Input<'_>) {
        match *input {
            Input::Listening { local, .. } => self.bound(local),
            Input::ListenFailed { addr, error, .. } => self.not_bound(addr, error),
            Input::Accepted { conn, local, remote, .. } => self.formed(conn, local, remote, false),
            Input::Connected { conn, local, remote } => self.formed(conn, local, remote, true),
            Input::ConnectFailed { conn, error } => self.failed(now, conn, error),
            Input::Closed { conn, .. } => self.released(now, conn),
            Input::Received { .. }
            | Input::Backlogged { .. }
            | Input::Drained { .. }
            | Input::Interrupted => {}
        }
    }

    /// Takes the passing of time.
    pub fn handle_timeout(&mut self, now: Instant) {
        let over = |effort: &Effort| effort.start + ATTEMPT_TIME <= now;
        while let Some(effort) = self.efforts.iter().find(|effort| over(effort)) {
            let (attempt, mut findings) = (effort.attempt, effort.findings);
            let dialling =
                |lane: &&Lane| lane.attempt == attempt && matches!(lane.state, LaneState::Dialling { .. });
            findings.silent += u32::try_from(self.lanes.iter().filter(dialling).count()).unwrap_or(u32::MAX);
            self.stop(attempt);
            self.event(Event::Exhausted { attempt, findings });
        }
        for index in 0..self.lanes.len() {
            if matches!(self.lanes[index].state, LaneState::Waiting { until } if until <= now) {
                self.dial(now, index);
            }
        }
    }

    /// The next output, until `None`.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When the hole wants `handle_timeout`, and why.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let lanes = self.lanes.iter().filter_map(|lane| match lane.state {
            LaneState::Waiting { until } if self.may_dial(lane) => Some((until, "the next SYN")),
            LaneState::Waiting { .. } | LaneState::Dialling { .. } | LaneState::Connected { .. } => None,
        });
        let ends = self.efforts.iter().map(|effort| (effort.start + ATTEMPT_TIME, "the end of a punch"));
        lanes.chain(ends).min_by_key(|(at, _)| *at)
    }

    fn listen(&mut self, serial: u32, addr: SocketAddr) {
        let listener = ListenerId { room: self.room, serial };
        self.net(NetOp::Listen { listener, addr, reuse: true });
    }

    fn bound(&mut self, local: SocketAddr) {
        match std::mem::replace(&mut self.listening, Listening::Closed) {
            Listening::OpeningV4 { .. } => {
                self.listening = Listening::OpeningV6 { v4: Some(local) };
                self.listen(V6, SocketAddr::from((Ipv6Addr::UNSPECIFIED, local.port())));
            }
            Listening::OpeningV6 { v4 } => self.opened(v4.into_iter().chain([local]).collect()),
            other @ (Listening::Closed | Listening::Open { .. }) => self.listening = other,
        }
    }

    fn not_bound(&mut self, addr: SocketAddr, error: NetError) {
        match std::mem::replace(&mut self.listening, Listening::Closed) {
            // A host without IPv4, if anything: IPv6 has its chance before we give up.
            Listening::OpeningV4 { port } if error != NetError::AddrInUse => {
                self.listening = Listening::OpeningV6 { v4: None };
                self.listen(V6, SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)));
            }
            Listening::OpeningV6 { v4: Some(v4) } => self.opened(vec![v4]),
            Listening::OpeningV4 { .. } | Listening::OpeningV6 { v4: None } => {
                self.event(Event::Failed { addr, error });
            }
            other @ (Listening::Closed | Listening::Open { .. }) => self.listening = other,
        }
    }

    fn opened(&mut self, locals: Vec<SocketAddr>) {
        self.listening = Listening::Open { locals: locals.clone() };
        self.event(Event::Opened { locals });
    }

    fn may_dial(&self, lane: &Lane) -> bool {
        let effort = self.efforts.iter().find(|effort| effort.attempt == lane.attempt);
        effort.is_some_and(|effort| effort.findings.dials < SYN_BUDGET)
    }

    fn dial(&mut self, now: Instant, index: usize) {
        if !self.may_dial(&self.lanes[index]) {
            return;
        }
        let endpoint = self.lanes[index].target.endpoint;
        let same = |lane: &Lane| lane.target.endpoint == endpoint;
        let taken =
            self.lanes.iter().any(|lane| same(lane) && !matches!(lane.state, LaneState::Waiting { .. }));
        let from = self.locals().iter().find(|local| local.is_ipv4() == endpoint.addr().is_ipv4()).copied();
        let (Some(from), false) = (from, taken) else {
            // Another attempt is at it already.
            self.lanes[index].state = LaneState::Waiting { until: now + schedule::LONG_PAUSE };
            return;
        };
        let conn = self.conns.allocate();
        let lane = &mut self.lanes[index];
        lane.dials += 1;
        lane.state = LaneState::Dialling { conn };
        let attempt = lane.attempt;
        if let Some(effort) = self.efforts.iter_mut().find(|effort| effort.attempt == attempt) {
            effort.findings.dials += 1;
        }
        self.net(NetOp::Connect { conn, from: Some(from), to: endpoint.addr() });
    }

    fn formed(&mut self, conn: ConnId, local: SocketAddr, remote: SocketAddr, dialled: bool) {
        let (local, remote) = (Endpoint::new(local), Endpoint::new(remote));
        let lane = self.lanes.iter_mut().find(|lane| lane.target.endpoint == remote);
        let (attempt, origin) =
            lane.as_ref().map_or((None, None), |lane| (Some(lane.attempt), Some(lane.target.origin)));
        if let Some(lane) = lane {
            // A connect of ours on the same 4-tuple, if there is one, fails by itself.
            lane.state = LaneState::Connected { conn };
        }
        self.event(Event::Open(Open { conn, local, remote, attempt, origin, dialled }));
    }

    fn failed(&mut self, now: Instant, conn: ConnId, error: NetError) {
        let ours =
            |lane: &&mut Lane| matches!(lane.state, LaneState::Dialling { conn: ours } if ours == conn);
        let Some(lane) = self.lanes.iter_mut().find(ours) else { return };
        let Some(effort) = self.efforts.iter_mut().find(|effort| effort.attempt == lane.attempt) else {
            return;
        };
        match error {
            NetError::Refused | NetError::Reset => effort.findings.refused += 1,
            NetError::Unreachable | NetError::Denied => effort.findings.unreachable += 1,
            NetError::TimedOut => effort.findings.silent += 1,
            // The peer's SYN reached our listener first: the accepted connection is on its way to us.
            NetError::AddrNotAvailable
            | NetError::AddrInUse
            | NetError::TooManyFiles
            | NetError::Other(_) => {}
        }
        let until = schedule::retry_at(effort.start, now, error, lane.dials);
        log::debug!("attempt={} to {}: {error}", effort.attempt.0, lane.target.endpoint);
        lane.state = LaneState::Waiting { until };
    }

    fn net(&mut self, op: NetOp) {
        self.outputs.push_back(Output::Net(op));
    }

    fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }
}

const V4: u32 = 4;
const V6: u32 = 6;
