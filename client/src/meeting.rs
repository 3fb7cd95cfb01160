//! Everything between a ticket and the one link: rendezvous, punch, proof, election.
//!
//! A [`Meeting`] decides whom to dial, who has proven itself, which connection is the link, and when there is none
//! to be had. It refuses to know what the link carries. Both sides use it; the caster alone nominates.
//!
//! # Life cycle
//!
//! ```text
//!  caster: start ─▶ port open ─▶ dial the ticket's addresses, log in ─▶ introduced ─▶ dial what was observed
//!                                   └────────── any connection ─▶ proof ─▶ nominate the first ─▶ Linked
//!  viewer: start ─▶ port open ─▶ Opened (the ticket can be shown), log in
//!                                   introduced ─▶ dial ─┐
//!                                   called ─────────────┴▶ proof ─▶ nominated ─▶ Linked
//!  both:   Linked ─▶ Stream… ─▶ Lost | end()
//! ```
//!
//! The link does not need the daemon: losing it is told and changes nothing else.

mod naming;
mod types;

pub use types::{Config, Event, Link, Loss, Output, Secrets};

use naming::{facts, is_lan, rung};
use punchcast::app::{Closing, ConnId, Input, NetError, NetOp, Room, soonest};
use punchcast::endpoint::{Endpoint, Prefix, Reach};
use punchcast::id::SessionId;
use punchcast::link::{self, Admission, Bye, Channel, Door, EndReason, Facts};
use punchcast::policy::{self, Rung};
use punchcast::punch::{self, Approach, Attempt, Duty, Hole, Open, Origin, Target};
use punchcast::rendezvous::agent::{self, Agent};
use punchcast::wire::message::{Peer, Role};
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

/// The rooms of a meeting in its application.
pub const RENDEZVOUS: Room = Room(1);
/// The room of the hole port's connections.
pub const HOLE: Room = Room(2);

/// The caster's one attempt; a viewer's attempts are numbered by the daemon's sessions.
const THE_ATTEMPT: Attempt = Attempt(0);

/// Introductions that a viewer follows at once. The daemon limits casters to a rendezvous too; this is for one that
/// does not.
const MAX_SESSIONS: usize = 16;

/// A connection of the hole with its proof.
struct Line {
    channel: Channel,
    open: Open,
    /// What the other end told of the connection; nothing before the proof.
    theirs: Facts,
    stage: Stage,
    since: Instant,
    rtt: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Not proven: a place at the door is taken.
    AtDoor,
    /// Proven, not chosen.
    Spare,
    /// The link.
    Linked,
}

/// See the [module](self).
pub struct Meeting {
    secrets: Secrets,
    agent: Option<Agent>,
    hole: Hole,
    door: Door,
    lines: BTreeMap<ConnId, Line>,
    /// The peers that the daemon named, oldest first.
    sessions: VecDeque<(SessionId, Peer)>,
    local_ips: Vec<IpAddr>,
    ticket_addresses: Vec<Endpoint>,
    run: u64,
    own: Vec<Endpoint>,
    outputs: VecDeque<Output>,
}

impl Meeting {
    /// A meeting that has not begun.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            secrets: config.secrets,
            agent: config.agent.map(Agent::new),
            hole: Hole::new(HOLE),
            door: Door::new(),
            lines: BTreeMap::new(),
            sessions: VecDeque::new(),
            local_ips: config.local_ips,
            ticket_addresses: config.ticket_addresses,
            run: config.run,
            own: Vec::new(),
            outputs: VecDeque::new(),
        }
    }

    /// Begins: binds the hole port (0: any free one).
    pub fn start(&mut self, now: Instant, port: u16) {
        self.hole.open(port);
        self.settle(now);
    }

    /// Tries again after a lost link (a caster only).
    pub fn seek(&mut self, now: Instant) {
        let targets: Vec<Target> = self
            .ticket_targets()
            .chain(self.sessions.iter().flat_map(|(_, peer)| targets_of(peer)))
            .collect();
        self.hole.start(now, THE_ATTEMPT, self.approach(Duration::ZERO, None), &targets);
        if let Some(agent) = &mut self.agent {
            agent.request_again();
        }
        self.settle(now);
    }

    /// Sends on the link's stream.
    pub fn send(&mut self, now: Instant, conn: ConnId, bytes: &[u8]) {
        if let Some(line) = self.lines.get_mut(&conn) {
            // A channel that has ended in the meantime tells so by its own event.
            let _ = line.channel.send_stream(bytes);
        }
        self.settle(now);
    }

    /// Ends one link with a goodbye. It is not told as lost.
    pub fn end(&mut self, now: Instant, conn: ConnId, bye: Bye) {
        self.say_goodbye(now, conn, bye);
        self.settle(now);
    }

    /// Leaves: every link with a goodbye, then the daemon.
    pub fn leave(&mut self, now: Instant, bye: Bye) {
        let all: Vec<ConnId> = self.lines.keys().copied().collect();
        for conn in all {
            self.end(now, conn, bye);
        }
        if let Some(agent) = &mut self.agent {
            agent.stop();
        }
        self.settle(now);
    }

    /// Whether the daemon has introduced the other side.
    #[must_use]
    pub fn was_introduced(&self) -> bool {
        !self.sessions.is_empty()
    }

    /// Takes an input of one of the meeting's rooms.
    pub fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        if input.room() == Some(RENDEZVOUS) {
            if let Some(agent) = &mut self.agent {
                agent.handle_input(now, input);
            }
        } else {
            match input {
                Input::Received { conn, bytes } => {
                    if let Some(line) = self.lines.get_mut(&conn) {
                        // The error comes again as `Ended`.
                        let _ = line.channel.handle_input(now, bytes);
                        self.drain_channel(now, conn);
                    }
                }
                Input::Closed { conn, error } => {
                    self.hole.handle_input(now, &Input::Closed { conn, error });
                    self.cut(now, conn, error);
                }
                Input::Backlogged { conn } => self.event(Event::Backlogged(conn)),
                Input::Drained { conn } => self.event(Event::Drained(conn)),
                other @ (Input::Listening { .. }
                | Input::ListenFailed { .. }
                | Input::Accepted { .. }
                | Input::Connected { .. }
                | Input::ConnectFailed { .. }
                | Input::Interrupted) => self.hole.handle_input(now, &other),
            }
        }
        self.settle(now);
    }

    /// Takes the passing of time.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let Some(agent) = &mut self.agent {
            agent.handle_timeout(now);
        }
        self.hole.handle_timeout(now);
        let all: Vec<ConnId> = self.lines.keys().copied().collect();
        for conn in all {
            if let Some(line) = self.lines.get_mut(&conn) {
                line.channel.handle_timeout(now);
            }
            self.drain_channel(now, conn);
        }
        self.settle(now);
    }

    /// The next output, until `None`.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When the meeting wants `handle_timeout`, and why.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let own = soonest(self.hole.poll_timeout(), self.agent.as_ref().and_then(Agent::poll_timeout));
        self.lines.values().fold(own, |earliest, line| soonest(earliest, line.channel.poll_timeout()))
    }

    /// Carries what the cores say to each other and to the application, until they are quiet.
    fn settle(&mut self, now: Instant) {
        loop {
            if let Some(output) = self.agent.as_mut().and_then(Agent::poll_output) {
                match output {
                    agent::Output::Net(op) => self.net(op),
                    agent::Output::Event(event) => self.rendezvous_event(now, event),
                }
            } else if let Some(output) = self.hole.poll_output() {
                match output {
                    punch::Output::Net(op) => self.net(op),
                    punch::Output::Event(event) => self.hole_event(now, event),
                }
            } else {
                let all: Vec<ConnId> = self.lines.keys().copied().collect();
                for conn in all {
                    self.drain_channel(now, conn);
                }
                return;
            }
        }
    }

    const fn role(&self) -> Role {
        match self.secrets {
            Secrets::Caster(_) => Role::Caster,
            Secrets::Viewer(_) => Role::Viewer,
        }
    }

    fn rendezvous_event(&mut self, now: Instant, event: agent::Event) {
        match &event {
            agent::Event::Introduced { session, peer, start_in, rtt } => {
                let approach = self.approach(*start_in, *rtt);
                self.introduced(now, *session, peer.clone(), approach);
                self.add_bursts(now);
            }
            agent::Event::Amended { session, peer } => {
                self.amended(now, *session, peer.clone());
                self.add_bursts(now);
            }
            agent::Event::Observed { .. } => self.add_bursts(now),
            agent::Event::LoggedIn { .. }
            | agent::Event::PeerJoined { .. }
            | agent::Event::PeerLeft { .. }
            | agent::Event::Filtering { .. }
            | agent::Event::Refused { .. }
            | agent::Event::Unreachable { .. } => {}
        }
        self.event(Event::Rendezvous(event));
    }

    fn introduced(&mut self, now: Instant, session: SessionId, peer: Peer, approach: Approach) {
        let targets = targets_of(&peer);
        for target in &targets {
            self.door.expect(target.endpoint.ip());
        }
        if self.role() == Role::Caster && self.sessions.iter().any(|(known, _)| *known != session) {
            // A caster has one viewer; what was known of its earlier login leads nowhere, or to somebody else by now.
            self.sessions.clear();
        }
        self.sessions.retain(|(known, other)| {
            // A caster that asks again replaces what was tried for it before.
            let same = *known == session || other.client == peer.client;
            if same && *known != session {
                self.hole.stop(Attempt(known.0));
            }
            !same
        });
        if self.sessions.len() >= MAX_SESSIONS
            && let Some((oldest, _)) = self.sessions.pop_front()
        {
            self.hole.stop(Attempt(oldest.0));
        }
        self.sessions.push_back((session, peer));
        match self.role() {
            Role::Viewer => self.hole.start(now, Attempt(session.0), approach, &targets),
            // A caster that has its link needs no other.
            Role::Caster if self.has_link() => {}
            Role::Caster => {
                let all: Vec<Target> = self.ticket_targets().chain(targets).collect();
                self.hole.narrow(THE_ATTEMPT, &all);
                self.hole.start(now, THE_ATTEMPT, approach, &all);
            }
        }
    }

    /// More is known of a peer. Endpoints that are new are tried, too; a session that is over stays over.
    fn amended(&mut self, now: Instant, session: SessionId, peer: Peer) {
        let Some((_, known)) = self.sessions.iter_mut().find(|(known, _)| *known == session) else { return };
        let before = std::mem::replace(known, peer.clone());
        if targets_of(&peer).iter().any(|target| !targets_of(&before).contains(target)) {
            let approach = self.approach(Duration::ZERO, None);
            self.introduced(now, session, peer, approach);
        }
    }

    /// The caster dials, the viewer holds: the roles come from the session, so both sides know.
    const fn approach(&self, begin_in: Duration, rtt: Option<Duration>) -> Approach {
        let duty = match self.role() {
            Role::Caster => Duty::Dialler,
            Role::Viewer => Duty::Holder,
        };
        Approach { duty, begin_in, rtt }
    }

    /// Adds what may find an endpoint that nobody has seen, as far as the samples tell by now.
    fn add_bursts(&mut self, now: Instant) {
        let Some(agent) = &self.agent else { return };
        for (session, peer) in &self.sessions {
            let attempt = match self.secrets {
                Secrets::Caster(_) => THE_ATTEMPT,
                Secrets::Viewer(_) => Attempt(session.0),
            };
            if self.hole.is_trying(attempt)
                && let Some(aim) = policy::plan::burst(agent.samples(), &peer.observed, session.0)
            {
                self.hole.burst(now, attempt, aim);
            }
        }
    }

    fn ticket_targets(&self) -> impl Iterator<Item = Target> + '_ {
        self.ticket_addresses.iter().map(|&endpoint| Target { endpoint, origin: Origin::Ticket })
    }

    fn has_link(&self) -> bool {
        self.lines.values().any(|line| line.stage == Stage::Linked)
    }

    fn hole_event(&mut self, now: Instant, event: punch::Event) {
        match event {
            punch::Event::Opened { locals } => self.opened(now, &locals),
            punch::Event::Failed { addr, error } => self.event(Event::Failed(addr, error)),
            punch::Event::Trying { target, .. } => self.trying(target),
            punch::Event::Open(open) => self.formed(now, open),
            punch::Event::Exhausted { attempt: THE_ATTEMPT, findings } if self.role() == Role::Caster => {
                // A connection whose handshake is under way still has its chance, and its own time-out.
                if self.lines.is_empty() {
                    self.event(Event::NoLink(findings));
                } else if !self.has_link() {
                    self.seek(now);
                }
            }
            punch::Event::Exhausted { attempt, findings } => {
                log::info!("session={:x} came to nothing: {findings}", attempt.0);
                self.sessions.retain(|(session, _)| session.0 != attempt.0);
            }
        }
    }

    fn opened(&mut self, now: Instant, locals: &[SocketAddr]) {
        let of_family = |ip: &IpAddr| locals.iter().find(|local| local.is_ipv4() == ip.is_ipv4());
        let endpoints = |ips: &[IpAddr]| -> Vec<Endpoint> {
            ips.iter()
                .filter_map(|ip| of_family(ip).map(|local| SocketAddr::new(*ip, local.port()).into()))
                .collect()
        };
        self.own = endpoints(&self.local_ips);
        let loopback =
            endpoints(&[IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(std::net::Ipv6Addr::LOCALHOST)]);
        self.hole.set_own(self.own.iter().copied().chain(loopback).collect());
        if let Some(agent) = &mut self.agent {
            agent.start(now, locals, self.own.clone());
        }
        self.event(Event::Opened(self.own.clone()));
        if self.role() == Role::Caster {
            let targets: Vec<Target> = self.ticket_targets().collect();
            self.hole.start(now, THE_ATTEMPT, self.approach(Duration::ZERO, None), &targets);
        }
    }

    fn trying(&mut self, target: Target) {
        let remote = target.endpoint;
        let family = |endpoint: &&Endpoint| endpoint.addr().is_ipv4() == remote.addr().is_ipv4();
        let Some(&bound) = self.hole.locals().iter().find(|local| local.is_ipv4() == remote.addr().is_ipv4())
        else {
            return;
        };
        let local = self.own.iter().find(family).map_or(bound, |own| own.addr());
        let peer = self.sessions.iter().rev().map(|(_, peer)| peer).find(|peer| knows(peer, remote));
        let own_ip_of_peer = target.origin != Origin::Observed && remote.reach() == Reach::Global;
        let theirs =
            Facts { public: own_ip_of_peer || peer.is_some_and(|peer| peer.public), ..Facts::default() };
        let ours = Facts {
            dialled: true,
            public: Endpoint::new(local).reach() == Reach::Global,
            ..Facts::default()
        };
        let rung = if is_lan(local.into(), remote) { Rung::Lan } else { rung(self.role(), ours, theirs) };
        self.event(Event::Trying { rung, local, remote });
    }

    fn formed(&mut self, now: Instant, open: Open) {
        let conn = open.conn;
        log::debug!("conn={conn} formed, dialled={}, announced={}", open.dialled, open.attempt.is_some());
        let needless = self.role() == Role::Caster && self.has_link();
        if needless || !self.admit(now, open.remote.ip()) {
            self.hole.released(now, conn);
            // An RST would close the mapping in a NAT that the link goes through.
            let how = if needless { Closing::Flush } else { Closing::Abort };
            self.net(NetOp::Close { conn, how });
            return;
        }
        let channel = match &self.secrets {
            Secrets::Caster(secrets) => Channel::caster(now, secrets, facts(&open, self.run)),
            Secrets::Viewer(secrets) => Channel::viewer(now, secrets, facts(&open, self.run)),
        };
        self.lines.insert(
            conn,
            Line { channel, open, theirs: Facts::default(), stage: Stage::AtDoor, since: now, rtt: None },
        );
        self.drain_channel(now, conn);
    }

    /// Whether a connection from there may come before the door, in another one's place if need be.
    fn admit(&mut self, now: Instant, ip: IpAddr) -> bool {
        match self.door.receive(ip, now) {
            Admission::Yes => true,
            Admission::No => false,
            Admission::Displace => {
                let from = Prefix::of(ip);
                let same =
                    |line: &Line| line.stage == Stage::AtDoor && Prefix::of(line.open.remote.ip()) == from;
                let waiting = self.lines.iter().filter(|(_, line)| same(line));
                let oldest = waiting.min_by_key(|(_, line)| line.since).map(|(conn, _)| *conn);
                if let Some(oldest) = oldest {
                    self.close(now, oldest, Closing::Abort);
                }
                // The door has counted the newcomer already.
                true
            }
        }
    }

    fn drain_channel(&mut self, now: Instant, conn: ConnId) {
        while let Some(output) = self.lines.get_mut(&conn).and_then(|line| line.channel.poll_output()) {
            match output {
                link::Output::Transmit(bytes) => self.net(NetOp::Send { conn, bytes }),
                link::Output::Event(event) => self.channel_event(now, conn, event),
            }
        }
        let proven = self.lines.get(&conn).is_some_and(|line| line.stage == Stage::Spare);
        if proven && self.role() == Role::Caster {
            self.elect(now, conn);
        }
    }

    fn channel_event(&mut self, now: Instant, conn: ConnId, event: link::Event) {
        let Some(line) = self.lines.get_mut(&conn) else { return };
        match event {
            link::Event::Established(theirs) => {
                line.stage = Stage::Spare;
                line.theirs = theirs;
                self.door.leave(line.open.remote.ip());
            }
            link::Event::Nominated => self.linked(conn),
            link::Event::Stream(bytes) => self.event(Event::Stream(conn, bytes)),
            link::Event::Rtt(rtt) => {
                line.rtt = Some(rtt);
                if line.stage == Stage::Linked {
                    self.event(Event::Rtt(conn, rtt));
                }
            }
            link::Event::Ended(reason) => {
                if line.stage == Stage::Linked {
                    if reason == EndReason::Silent {
                        self.renew_login(now);
                    }
                    self.event(Event::Lost(conn, Loss::Ended(reason)));
                } else {
                    log::debug!("conn={conn} ended before it was chosen: {reason}");
                }
                // A silent peer takes no FIN, and an orphan that waits for it would hold the 4-tuple which the next try
                // needs.
                let gone = matches!(reason, EndReason::Failed(_) | EndReason::Late | EndReason::Silent);
                self.close(now, conn, if gone { Closing::Abort } else { Closing::Flush });
            }
        }
    }

    /// The first connection that proves itself is the link: what is direct and there beats what may come.
    fn elect(&mut self, now: Instant, conn: ConnId) {
        if self.has_link() {
            self.end_spare(now, conn);
            return;
        }
        if let Some(line) = self.lines.get_mut(&conn)
            && line.channel.nominate().is_ok()
        {
            self.linked(conn);
            let others: Vec<ConnId> = self.lines.keys().copied().filter(|other| *other != conn).collect();
            for other in others {
                self.end_spare(now, other);
            }
        }
    }

    fn end_spare(&mut self, now: Instant, conn: ConnId) {
        // FIN, never RST: an RST would close the mapping in a NAT that another link goes through.
        self.say_goodbye(now, conn, Bye::NotChosen);
    }

    /// The last words of a channel, and nothing of what it may still hold for us.
    fn say_goodbye(&mut self, now: Instant, conn: ConnId, bye: Bye) {
        let Some(line) = self.lines.get_mut(&conn) else { return };
        line.channel.end(bye);
        while let Some(output) = line.channel.poll_output() {
            if let link::Output::Transmit(bytes) = output {
                self.outputs.push_back(Output::Net(NetOp::Send { conn, bytes }));
            }
        }
        self.close(now, conn, Closing::Flush);
    }

    fn linked(&mut self, conn: ConnId) {
        let Some(line) = self.lines.get_mut(&conn) else { return };
        line.stage = Stage::Linked;
        let (open, theirs, rtt) = (line.open, line.theirs, line.rtt);
        match self.role() {
            Role::Caster => self.hole.stop(THE_ATTEMPT),
            // Every introduction of the host that the link leads to, even if the link came without any.
            Role::Viewer => {
                let of_peer = |(_, peer): &&(SessionId, Peer)| knows(peer, open.remote);
                let done: Vec<Attempt> =
                    self.sessions.iter().filter(of_peer).map(|(session, _)| Attempt(session.0)).collect();
                for attempt in done.into_iter().chain(open.attempt) {
                    self.hole.stop(attempt);
                }
            }
        }
        let rung = rung(self.role(), facts(&open, self.run), theirs);
        let link = Link { conn, rung, local: open.local, remote: open.remote, rtt, run: theirs.run };
        log::info!("conn={conn} linked rung={}", link.rung);
        // What the channel holds already comes after this: the stream may have arrived with the nomination.
        self.event(Event::Linked(link));
    }

    /// The connection is gone without our doing.
    fn cut(&mut self, now: Instant, conn: ConnId, error: Option<NetError>) {
        let Some(line) = self.lines.remove(&conn) else { return };
        match line.stage {
            Stage::AtDoor => self.door.leave(line.open.remote.ip()),
            Stage::Spare => {}
            Stage::Linked => {
                if error.is_some() {
                    self.renew_login(now);
                }
                self.event(Event::Lost(conn, Loss::Cut(error)));
            }
        }
    }

    /// The network broke the link, and perhaps the way to the daemon: a NAT that forgot, another address. Both sides
    /// log in anew, which also asks for the next introduction.
    fn renew_login(&mut self, now: Instant) {
        if let Some(agent) = &mut self.agent {
            agent.renew(now);
        }
    }

    fn close(&mut self, now: Instant, conn: ConnId, how: Closing) {
        if let Some(line) = self.lines.remove(&conn)
            && line.stage == Stage::AtDoor
        {
            self.door.leave(line.open.remote.ip());
        }
        self.hole.released(now, conn);
        self.net(NetOp::Close { conn, how });
    }

    fn net(&mut self, op: NetOp) {
        self.outputs.push_back(Output::Net(op));
    }

    fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }
}

/// Whether `endpoint` is on a host that the daemon named as `peer`.
fn knows(peer: &Peer, endpoint: Endpoint) -> bool {
    peer.hole_endpoints().iter().chain(&peer.local).any(|known| known.ip() == endpoint.ip())
}

fn targets_of(peer: &Peer) -> Vec<Target> {
    let local = peer.local.iter().map(|&endpoint| Target { endpoint, origin: Origin::Local });
    let observed =
        peer.hole_endpoints().into_iter().map(|endpoint| Target { endpoint, origin: Origin::Observed });
    local.chain(observed).collect()
}

#[cfg(test)]
mod tests;
