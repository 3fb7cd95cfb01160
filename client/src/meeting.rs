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

mod hole;
mod introductions;
mod lines;
mod naming;
mod plain;
mod relays;
mod types;

pub use types::{Config, Event, Link, Loss, Output, Rooms, Secrets};

use bytes::Bytes;
use introductions::{knows, targets_of};
use lines::Line;
pub(crate) use naming::is_lan;
use punchcast::app::{ConnId, Input, NetOp, Room, soonest};
use punchcast::endpoint::Endpoint;
use punchcast::id::SessionId;
use punchcast::link::{Bye, Door};
use punchcast::punch::{self, Answer, Attempt, Hole, Target};
use punchcast::rendezvous::agent::{self, Agent};
use punchcast::rendezvous::relay;
use punchcast::wire::message::{Peer, Role};
use relays::Relays;
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
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
/// The longest such pause.
const DIRECT_AGAIN_MAX: Duration = Duration::from_secs(60);
/// How long a caster that tries again waits for an introduction before it dials what was observed all the same: more than a login
/// takes over any way that can carry a picture.
const ALONE_AFTER: Duration = Duration::from_secs(5);

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
    /// The viewer was introduced to a caster since that began to seek, so it is there.
    introduced: bool,
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
            introduced: false,
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

    /// What this side brings to the proof.
    pub(crate) const fn secrets(&self) -> &Secrets {
        &self.secrets
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
        self.introduced = false;
        // Planned beside a relayed link: it is done with this, whether the link stands or was lost.
        self.direct_again.0 = None;
        self.hole.start(now, THE_ATTEMPT, self.approach(ALONE_AFTER, None), &targets);
        if let Some(agent) = &mut self.agent {
            agent.request_again();
        }
        self.settle(now);
    }

    /// Until when a caster seeks a link, as far as is known: an introduction adds to it.
    pub(crate) fn seeks_until(&self) -> Option<Instant> {
        self.hole.tries_until(THE_ATTEMPT)
    }

    /// Whom a caster dials, and what became of it so far.
    pub(crate) fn answers(&self) -> impl Iterator<Item = (Endpoint, Answer)> + '_ {
        self.hole.answers(THE_ATTEMPT)
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

    /// Queues bytes of the link's stream; [`Self::flush`] sends them, together.
    pub fn send(&mut self, now: Instant, conn: ConnId, bytes: Bytes) {
        if let Some(line) = self.lines.get_mut(&conn) {
            // A channel that has ended in the meantime tells so by its own event.
            let _ = line.channel.send_stream(now, bytes);
        }
    }

    /// Sends what is queued on the link.
    pub fn flush(&mut self, now: Instant, conn: ConnId) {
        self.drain_channel(now, conn);
        self.settle(now);
    }

    /// Ends one link with a goodbye. It is not told as lost.
    pub fn end(&mut self, now: Instant, conn: ConnId, bye: Bye) {
        self.say_goodbye(now, conn, bye);
        self.settle(now);
    }

    /// Leaves for good: every link with a goodbye, then the daemon, then the hole port. Nobody is dialled and no link is
    /// made any more, for the program may go on with other meetings.
    pub fn leave(&mut self, now: Instant, bye: Bye) {
        (self.direct_again.0, self.last_chance) = (None, None);
        let all: Vec<ConnId> = self.lines.keys().copied().collect();
        for conn in all {
            self.say_goodbye(now, conn, bye);
        }
        self.relays.cancel_all();
        if let Some(agent) = &mut self.agent {
            agent.stop();
        }
        self.hole.close();
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
            let session = self.sessions.back().filter(|_| self.introduced).map(|(session, _)| *session);
            let obstacle = session.map(|session| self.obstacle(session));
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
            | agent::Event::Unreachable { .. }
            | agent::Event::AssistUnreachable { .. } => {}
        }
        self.event(Event::Rendezvous(event));
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
