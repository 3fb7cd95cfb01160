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
//! A direct link does not need the daemon: losing it is told and changes nothing else.
//!
//! Where no direct link has formed in time and the daemon offers to, it relays. The direct ways are tried on all the
//! while, and again after growing pauses; a direct link that forms is a second [`Event::Linked`].

mod introductions;
mod naming;
mod plain;
mod relays;
mod types;

pub use types::{Config, Event, Link, Loss, Output, Rooms, Secrets};

use introductions::{knows, targets_of};
pub(crate) use naming::is_lan;
use naming::{facts, rung};
use punchcast::app::{Closing, ConnId, Input, NetError, NetOp, Room, soonest};
use punchcast::endpoint::{Endpoint, Prefix, Reach};
use punchcast::id::{ClientId, SessionId};
use punchcast::link::{self, Admission, Bye, Channel, Door, EndReason, Facts};
use punchcast::policy::Rung;
use punchcast::punch::{self, Attempt, Hole, Open, Origin, Target};
use punchcast::rendezvous::agent::{self, Agent};
use punchcast::rendezvous::relay;
use punchcast::wire::message::{Peer, Role};
use relays::{Relayed, Relays};
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

/// The room of the first meeting's connections to the daemon.
pub const RENDEZVOUS: Room = Rooms::nth(0).rendezvous;
/// The room of the first meeting's hole port.
pub const HOLE: Room = Rooms::nth(0).hole;

/// The caster's one attempt; a viewer's attempts are numbered by the daemon's sessions.
const THE_ATTEMPT: Attempt = Attempt(0);

/// Introductions that a viewer follows at once. The daemon limits casters to a rendezvous too; this is for one that
/// does not.
const MAX_SESSIONS: usize = 16;

/// The pause before a caster on a relayed link tries the direct ways again, doubled each time up to
/// [`DIRECT_AGAIN_MAX`]: a firewall rule or a network that changed shows soon, and nobody is dialled without end.
const DIRECT_AGAIN_MIN: Duration = Duration::from_secs(5);
/// How long a caster that tries again waits for an introduction before it dials what was observed all the same: more than a login
/// takes over any way that can carry a picture.
const ALONE_AFTER: Duration = Duration::from_secs(5);
/// How long a caster whose attempt is over waits for connections that are still proving themselves: twice the time that a
/// proof has, for one that came while another was waited for. Strangers at the port cannot make it longer.
const LAST_CHANCE: Duration = link::HANDSHAKE_TIME.saturating_mul(2);
/// The longest such pause.
const DIRECT_AGAIN_MAX: Duration = Duration::from_secs(60);

/// A connection with its proof.
struct Line {
    channel: Channel,
    open: Open,
    /// It leads through the daemon.
    relayed: Option<Relayed>,
    /// What we know of how it formed.
    ours: Facts,
    /// What the other end told of the connection; nothing before the proof.
    theirs: Facts,
    stage: Stage,
    /// Anything came on it.
    heard: bool,
    since: Instant,
    rtt: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Not proven: a place at the door is taken.
    AtDoor,
    /// Proven, not chosen.
    Spare,
    /// The link; a direct and a relayed one for as long as the cast moves.
    Linked,
}

impl Line {
    /// Counts bytes that pass, where a relay counts them, too.
    const fn count(&mut self, bytes: usize) {
        if let Some(relayed) = &mut self.relayed {
            relayed.count(bytes);
        }
    }

    /// Gives back the place at the door of one that was not proven. A relayed one took none: there are as many as
    /// introductions.
    fn leave(&self, door: &mut Door) {
        if self.relayed.is_none() {
            door.leave(self.open.remote.ip());
        }
    }
}

/// See the [module](self).
pub struct Meeting {
    rooms: Rooms,
    secrets: Secrets,
    agent: Option<Agent>,
    hole: Hole,
    door: Door,
    lines: BTreeMap<ConnId, Line>,
    /// The peers that the daemon named, oldest first.
    sessions: VecDeque<(SessionId, Peer)>,
    relays: Relays,
    /// When a caster on a relayed link tries the direct ways again, and the pause after that.
    direct_again: (Option<Instant>, Duration),
    /// What a caster's attempt came to that is over, and until when what is under way may still become the link.
    last_chance: Option<(punch::Findings, Instant)>,
    /// Since when there is, or was, the latest direct link.
    direct_since: Option<Instant>,
    local_ips: Vec<IpAddr>,
    ticket_addresses: Vec<Endpoint>,
    run: u64,
    /// Who speaks plain RTMP to the hole port is handed to the application.
    takes_plain: bool,
    own: Vec<Endpoint>,
    outputs: VecDeque<Output>,
}

impl Meeting {
    /// A meeting that has not begun.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let rooms = config.rooms;
        Self {
            rooms,
            secrets: config.secrets,
            agent: config.agent.map(|agent| Agent::new(agent::Config { room: rooms.rendezvous, ..agent })),
            hole: Hole::new(rooms.hole),
            door: Door::new(),
            lines: BTreeMap::new(),
            sessions: VecDeque::new(),
            relays: Relays::new(rooms.relay),
            direct_again: (None, DIRECT_AGAIN_MIN),
            last_chance: None,
            direct_since: None,
            local_ips: config.local_ips,
            ticket_addresses: config.ticket_addresses,
            run: config.run,
            takes_plain: false,
            own: Vec::new(),
            outputs: VecDeque::new(),
        }
    }

    /// The rooms that its inputs carry.
    #[must_use]
    pub const fn rooms(&self) -> [Room; 3] {
        let Rooms { rendezvous, hole, relay, lookup: _ } = self.rooms;
        [rendezvous, hole, relay]
    }

    /// Begins: binds the hole port (0: any free one).
    pub fn start(&mut self, now: Instant, port: u16) {
        self.hole.open(port);
        self.settle(now);
    }

    /// Tries again after a lost link (a caster only). What was observed is dialled when the daemon introduces again, or
    /// `ALONE_AFTER` it did not: a NAT may still let our SYN in by what an earlier attempt opened, but no socket of the viewer's would
    /// be there, and its listener's answer, with another sequence number, would not get out. The NAT remembers the two for longer
    /// than an attempt lasts.
    pub fn seek(&mut self, now: Instant) {
        let targets: Vec<Target> = self
            .ticket_targets()
            .chain(self.sessions.iter().flat_map(|(_, peer)| targets_of(peer)))
            .collect();
        self.hole.start(now, THE_ATTEMPT, self.approach(ALONE_AFTER, None), &targets);
        if let Some(agent) = &mut self.agent {
            agent.request_again();
        }
        self.settle(now);
    }

    /// Routers forward these endpoints to our hole port: the other side is told, by way of the daemon.
    pub fn mapped(&mut self, now: Instant, endpoints: Vec<Endpoint>) {
        if let Some(agent) = &mut self.agent {
            agent.set_mapped(endpoints);
        }
        self.settle(now);
    }

    /// Offers the ticket by a short code, too (a viewer only); where there is no daemon there is no code.
    pub fn offer_code(&mut self, now: Instant, ticket: String) {
        if let Some(agent) = &mut self.agent {
            agent.offer_code(now, ticket);
        }
        self.settle(now);
    }

    /// Whether a peer said that its router forwards `endpoint` to it.
    fn is_mapped(&self, endpoint: Endpoint) -> bool {
        self.sessions.iter().any(|(_, peer)| peer.mapped.contains(&endpoint))
    }

    /// Sends on the link's stream.
    pub fn send(&mut self, now: Instant, conn: ConnId, bytes: &[u8]) {
        if let Some(line) = self.lines.get_mut(&conn) {
            // A channel that has ended in the meantime tells so by its own event.
            let _ = line.channel.send_stream(now, bytes);
        }
        self.drain_channel(now, conn);
        self.settle(now);
    }

    /// Whether a link takes more without a picture waiting on its line; if not, [`Event::Room`] tells when.
    pub fn has_room(&mut self, conn: ConnId) -> bool {
        self.lines.get_mut(&conn).is_none_or(|line| line.channel.has_room())
    }

    /// Bytes a second that a link's line carried when it was full last; `None` while it never was.
    #[must_use]
    pub fn rate(&self, conn: ConnId) -> Option<u64> {
        self.lines.get(&conn).and_then(|line| line.channel.rate())
    }

    /// Whether a link's line is left alone until what is on its way has arrived, as that was too much for it.
    #[must_use]
    pub fn is_draining(&self, conn: ConnId) -> bool {
        self.lines.get(&conn).is_some_and(|line| line.channel.is_draining())
    }

    /// Bytes a second that a link's line carries of what was too much for it, once that takes long.
    #[must_use]
    pub fn sudden_rate(&self, conn: ConnId) -> Option<u64> {
        self.lines.get(&conn).and_then(|line| line.channel.sudden_rate())
    }

    /// Tells the viewer when the picture that is sent next was made (a caster only).
    pub fn stamp(&mut self, conn: ConnId, timestamp: u32, made: Instant) {
        if let Some(line) = self.lines.get_mut(&conn) {
            // It leaves with what is sent next; a channel that has ended in the meantime tells so by its own event.
            let _ = line.channel.stamp(timestamp, made);
        }
    }

    /// Asks the caster for a keyframe (a viewer only).
    pub fn want_keyframe(&mut self, now: Instant, conn: ConnId) {
        if let Some(line) = self.lines.get_mut(&conn) {
            let _ = line.channel.want_keyframe();
        }
        self.drain_channel(now, conn);
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
        self.relays.cancel_all();
        if let Some(agent) = &mut self.agent {
            agent.stop();
        }
        self.settle(now);
    }

    /// Takes an input of one of the meeting's rooms.
    pub fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        if input.room() == Some(self.rooms.rendezvous) {
            if let Some(agent) = &mut self.agent {
                agent.handle_input(now, input);
            }
        } else if input.room() == Some(self.rooms.relay)
            && !input.conn().is_some_and(|conn| self.lines.contains_key(&conn))
        {
            self.relays.handle_input(now, &input);
        } else {
            match input {
                Input::Received { conn, bytes } if self.is_plain(conn, bytes) => {
                    self.hand_over(now, conn, bytes);
                }
                Input::Received { conn, bytes } => self.heard(now, conn, bytes),
                Input::Closed { conn, error } => {
                    if conn.room == self.rooms.hole {
                        self.hole.handle_input(now, &Input::Closed { conn, error });
                    }
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

    fn heard(&mut self, now: Instant, conn: ConnId, bytes: &[u8]) {
        if let Some(line) = self.lines.get_mut(&conn) {
            line.count(bytes.len());
            line.heard = true;
            // The error comes again as `Ended`.
            let _ = line.channel.handle_input(now, bytes);
            self.drain_channel(now, conn);
        }
    }

    /// Takes the passing of time.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let Some(agent) = &mut self.agent {
            agent.handle_timeout(now);
        }
        self.hole.handle_timeout(now);
        self.relays.handle_timeout(now);
        for session in self.relays.due(now) {
            self.seek_relay(now, session);
        }
        if self.direct_again.0.is_some_and(|at| at <= now) {
            self.direct_again.0 = None;
            self.seek(now);
        }
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
        let own = [
            self.agent.as_ref().and_then(Agent::poll_timeout),
            self.relays.poll_timeout(),
            self.direct_again.0.map(|at| (at, "try the direct ways again")),
            self.last_chance.map(|(_, until)| (until, "the last chance of a punch")),
        ]
        .into_iter()
        .fold(self.hole.poll_timeout(), soonest);
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
            } else if let Some((session, output)) = self.relays.poll_output() {
                match output {
                    relay::Output::Net(op) => self.net(op),
                    relay::Output::Event(event) => self.relay_event(now, session, event),
                }
            } else {
                break;
            }
        }
        self.conclude(now);
    }

    /// Tells a caster that there is no link, once its attempt is over and nothing can become one.
    fn conclude(&mut self, now: Instant) {
        let Some((findings, until)) = self.last_chance else { return };
        if self.hole.is_trying(THE_ATTEMPT) || self.links().next().is_some() {
            self.last_chance = None;
        } else if until <= now || self.lines.is_empty() && !self.relays.is_trying() {
            self.last_chance = None;
            let obstacle = self.sessions.back().map(|(session, _)| self.obstacle(*session));
            self.event(Event::NoLink(findings, obstacle));
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
            | agent::Event::Code { .. }
            | agent::Event::NoCode { .. }
            | agent::Event::CodeUsed
            | agent::Event::WrongCode { .. }
            | agent::Event::Filtering { .. }
            | agent::Event::Refused { .. }
            | agent::Event::Unreachable { .. } => {}
        }
        self.event(Event::Rendezvous(event));
    }

    fn links(&self) -> impl Iterator<Item = &Line> {
        self.lines.values().filter(|line| line.stage == Stage::Linked)
    }

    fn has_direct_link(&self) -> bool {
        self.links().any(|line| line.relayed.is_none())
    }

    /// Whether a link leads to that peer already, so that none has to be relayed. A caster has one peer.
    fn has_link_with(&self, client: ClientId) -> bool {
        let caster = self.role() == Role::Caster;
        self.links().any(|line| caster || line.relayed.is_some_and(|relayed| relayed.client == client))
    }

    fn hole_event(&mut self, now: Instant, event: punch::Event) {
        match event {
            punch::Event::Opened { locals } => self.opened(now, &locals),
            punch::Event::Failed { addr, error } => self.event(Event::Failed(addr, error)),
            punch::Event::Trying { target, .. } => self.trying(target),
            punch::Event::Open(open) => self.formed(now, open),
            punch::Event::Exhausted { attempt: THE_ATTEMPT, findings } if self.role() == Role::Caster => {
                if self.links().next().is_some() {
                    log::info!("no direct way so far: {findings}");
                    self.try_direct_again(now);
                } else {
                    self.last_chance = Some((findings, now + LAST_CHANCE));
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
        let own_ip_of_peer =
            !matches!(target.origin, Origin::Observed | Origin::Mapped) && remote.reach() == Reach::Global;
        let theirs =
            Facts { public: own_ip_of_peer || peer.is_some_and(|peer| peer.public), ..Facts::default() };
        let ours = Facts {
            dialled: true,
            public: Endpoint::new(local).reach() == Reach::Global,
            mapped: self.is_mapped(remote),
            ..Facts::default()
        };
        let rung = if is_lan(local.into(), remote) { Rung::Lan } else { rung(self.role(), ours, theirs) };
        self.event(Event::Trying { rung, local, remote });
    }

    fn formed(&mut self, now: Instant, open: Open) {
        let conn = open.conn;
        log::debug!("conn={conn} formed, dialled={}, announced={}", open.dialled, open.attempt.is_some());
        let needless = self.role() == Role::Caster && self.has_direct_link();
        if needless || !self.admit(now, open.remote.ip()) {
            self.hole.released(now, conn);
            // An RST would close the mapping in a NAT that the link goes through.
            let how = if needless { Closing::Flush } else { Closing::Abort };
            self.net(NetOp::Close { conn, how });
            return;
        }
        self.prove(now, open, None);
    }

    /// Begins the proof on a connection.
    fn prove(&mut self, now: Instant, open: Open, relayed: Option<Relayed>) {
        let ours = facts(&open, self.is_mapped(open.remote), self.run);
        let channel = match &self.secrets {
            Secrets::Caster(secrets) => Channel::caster(now, secrets, ours),
            Secrets::Viewer(secrets) => Channel::viewer(now, secrets, ours),
        };
        let (theirs, stage) = (Facts::default(), Stage::AtDoor);
        let line = Line { channel, open, relayed, ours, theirs, stage, heard: false, since: now, rtt: None };
        self.lines.insert(open.conn, line);
        self.drain_channel(now, open.conn);
    }

    /// Whether a connection from there may come before the door, in another one's place if need be.
    fn admit(&mut self, now: Instant, ip: IpAddr) -> bool {
        match self.door.receive(ip, now) {
            Admission::Yes => true,
            Admission::No => false,
            Admission::Displace => {
                let from = Prefix::of(ip);
                let same = |line: &Line| {
                    line.stage == Stage::AtDoor
                        && line.relayed.is_none()
                        && Prefix::of(line.open.remote.ip()) == from
                };
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
        while let Some(line) = self.lines.get_mut(&conn)
            && let Some(output) = line.channel.poll_output()
        {
            match output {
                link::Output::Transmit(bytes) => {
                    line.count(bytes.len());
                    self.net(NetOp::Send { conn, bytes });
                }
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
                if line.relayed.is_none() {
                    self.door.leave(line.open.remote.ip());
                }
            }
            link::Event::Nominated => self.linked(now, conn),
            link::Event::Stream(bytes) => self.event(Event::Stream(conn, bytes)),
            link::Event::Room => self.event(Event::Room(conn)),
            link::Event::KeyframeWanted => self.event(Event::KeyframeWanted(conn)),
            link::Event::Stamp { timestamp, made } => self.event(Event::Stamp(conn, timestamp, made)),
            link::Event::Rtt(rtt) => {
                line.rtt = Some(rtt);
                if line.stage == Stage::Linked {
                    self.event(Event::Rtt(conn, rtt));
                }
            }
            link::Event::Ended(reason) => {
                let was_linked = line.stage == Stage::Linked;
                if was_linked {
                    if reason == EndReason::Silent && self.links().count() == 1 {
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
                if was_linked {
                    self.fell_back(now);
                }
            }
        }
    }

    /// The first connection that proves itself is the link: what is there beats what may come. Only a direct one after
    /// a relayed one is a second link.
    fn elect(&mut self, now: Instant, conn: ConnId) {
        let Some(line) = self.lines.get_mut(&conn) else { return };
        let relayed = line.relayed.is_some();
        if self.has_direct_link() || relayed && self.links().next().is_some() {
            self.end_spare(now, conn);
            return;
        }
        if let Some(line) = self.lines.get_mut(&conn)
            && line.channel.nominate().is_ok()
        {
            // Who hears of a link acts on it, and takes its time for that; the viewer gives places in the order of
            // nominations.
            self.send_words(conn);
            self.linked(now, conn);
            self.drain_channel(now, conn);
            // Beside a relayed link, what is still proving itself may be the direct one.
            let needless = |(other, line): &(&ConnId, &Line)| {
                **other != conn && line.stage != Stage::Linked && (!relayed || line.relayed.is_some())
            };
            let others: Vec<ConnId> = self.lines.iter().filter(needless).map(|(other, _)| *other).collect();
            for other in others {
                self.end_spare(now, other);
            }
        }
    }

    fn end_spare(&mut self, now: Instant, conn: ConnId) {
        // FIN, never RST: an RST would close the mapping in a NAT that another link goes through.
        self.say_goodbye(now, conn, Bye::NotChosen);
    }

    fn say_goodbye(&mut self, now: Instant, conn: ConnId, bye: Bye) {
        let Some(line) = self.lines.get_mut(&conn) else { return };
        line.channel.end(bye);
        self.send_words(conn);
        self.close(now, conn, Closing::Flush);
    }

    /// Sends what a channel has to say, and passes over what it may hold for us.
    fn send_words(&mut self, conn: ConnId) {
        let Some(line) = self.lines.get_mut(&conn) else { return };
        while let Some(output) = line.channel.poll_output() {
            if let link::Output::Transmit(bytes) = output {
                line.count(bytes.len());
                self.outputs.push_back(Output::Net(NetOp::Send { conn, bytes }));
            }
        }
    }

    fn linked(&mut self, now: Instant, conn: ConnId) {
        let Some(line) = self.lines.get_mut(&conn) else { return };
        line.stage = Stage::Linked;
        let (open, ours, theirs, rtt, relayed) = (line.open, line.ours, line.theirs, line.rtt, line.relayed);
        match (self.role(), &relayed) {
            // The direct ways are tried on.
            (Role::Caster, Some(_)) => {
                self.direct_again.0 = None;
                // A direct link that broke at once is not to be tried again and again.
                if self.direct_since.is_none_or(|since| since + DIRECT_AGAIN_MAX <= now) {
                    self.direct_again.1 = DIRECT_AGAIN_MIN;
                }
                if !self.hole.is_trying(THE_ATTEMPT) {
                    self.try_direct_again(now);
                }
            }
            (Role::Viewer, Some(_)) => {}
            (Role::Caster, None) => {
                self.direct_again.0 = None;
                self.direct_since = Some(now);
                self.hole.stop(THE_ATTEMPT);
                self.relays.cancel_all();
            }
            (Role::Viewer, None) => self.met(&open),
        }
        let rung = match relayed {
            Some(_) => Rung::Relayed,
            None => rung(self.role(), ours, theirs),
        };
        let obstacle = relayed.map(|relayed| relayed.obstacle);
        let link = Link {
            conn,
            rung,
            local: open.local,
            remote: open.remote,
            rtt,
            run: theirs.run,
            obstacle,
            secure: true,
        };
        log::info!("conn={conn} linked rung={}", link.rung);
        // What the channel holds already comes after this: the stream may have arrived with the nomination.
        self.event(Event::Linked(link));
    }

    /// A viewer's direct link stands: every introduction of the host that it leads to is over, even if the link came
    /// without any.
    fn met(&mut self, open: &Open) {
        let mut attempts: Vec<Attempt> = open.attempt.into_iter().collect();
        for (session, peer) in self.sessions.iter().filter(|(_, peer)| knows(peer, open.remote)) {
            attempts.push(Attempt(session.0));
            self.relays.cancel(peer.client);
        }
        for attempt in attempts {
            self.hole.stop(attempt);
        }
    }

    /// The connection is gone without our doing.
    fn cut(&mut self, now: Instant, conn: ConnId, error: Option<NetError>) {
        let Some(line) = self.lines.remove(&conn) else { return };
        match line.stage {
            Stage::AtDoor => line.leave(&mut self.door),
            Stage::Spare => {}
            Stage::Linked => {
                if error.is_some() && self.links().next().is_none() {
                    self.renew_login(now);
                }
                self.fell_back(now);
                let spent = line.relayed.and_then(|relayed| relayed.spent(now));
                self.event(Event::Lost(conn, spent.map_or(Loss::Cut(error), Loss::RelaySpent)));
            }
        }
    }

    /// A link is gone: a caster that is left with a relayed one seeks the direct ways again.
    fn fell_back(&mut self, now: Instant) {
        let relayed = self.links().any(|line| line.relayed.is_some());
        if self.role() == Role::Caster && relayed && !self.has_direct_link() && self.direct_again.0.is_none()
        {
            self.try_direct_again(now);
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
            line.leave(&mut self.door);
        }
        if conn.room == self.rooms.hole {
            self.hole.released(now, conn);
        }
        self.net(NetOp::Close { conn, how });
    }

    fn net(&mut self, op: NetOp) {
        self.outputs.push_back(Output::Net(op));
    }

    fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }
}

#[cfg(test)]
mod tests;
