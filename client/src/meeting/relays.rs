//! When the daemon is asked to relay, and what became of it.
//!
//! A relay is planned with each introduction and asked for when the direct ways have had their time; a link that forms
//! before takes the plan back. Both sides plan by the same rule, so their halves meet at the daemon.

use super::{DIRECT_AGAIN_MAX, Event, MAX_SESSIONS, Meeting};
use punchcast::app::{Closing, ConnIds, Input, NetOp, Room, soonest};
use punchcast::id::{ClientId, PunchToken, SessionId};
use punchcast::policy::{self, Obstacle};
use punchcast::punch::Open;
use punchcast::rendezvous::agent::{Agent, Asked};
use punchcast::rendezvous::relay::{self, Relay, Terms};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How long, beyond one round trip, the direct ways have before a relay is asked for: what a punch takes, or a
/// meeting by birthday as a rule. Whoever has a direct way never burdens the relay.
pub(super) const RELAY_AFTER: Duration = Duration::from_millis(500);

/// How many relayed connections an introduction may have. On a line that loses much, what the proof waits for may be lost
/// again and again and its time go by; three in a row is a line that carries no picture.
const TRIES: u32 = 3;

/// What is said of a relayed connection at its end, and during its life.
#[derive(Clone, Copy, Debug)]
pub(super) struct Relayed {
    terms: Terms,
    since: Instant,
    passed: u64,
    session: SessionId,
    /// How often it was asked for.
    tries: u32,
    /// The other side, by the daemon's name for it.
    pub(super) client: ClientId,
    pub(super) obstacle: Obstacle,
}

impl Relayed {
    const fn new(now: Instant, terms: Terms, plan: &Plan, obstacle: Obstacle) -> Self {
        let Plan { session, client, tries, .. } = *plan;
        Self { terms, since: now, passed: 0, session, tries, client, obstacle }
    }

    /// Counts bytes of either direction.
    pub(super) const fn count(&mut self, bytes: usize) {
        self.passed = self.passed.saturating_add(bytes as u64);
    }

    /// The terms, if a connection that ends now ends because of them. What is under way in queues is not counted, so
    /// a little less than the limit will do.
    pub(super) fn spent(&self, now: Instant) -> Option<Terms> {
        let bytes = self.passed >= self.terms.bytes - self.terms.bytes / 20;
        let time = now + Duration::from_secs(1) >= self.since + self.terms.time;
        (bytes || time).then_some(self.terms)
    }
}

/// One session's relay, from the plan to the daemon's answer.
struct Plan {
    session: SessionId,
    client: ClientId,
    /// When the daemon is asked; nothing once it was.
    at: Option<Instant>,
    /// How often it is asked, this time counted.
    tries: u32,
    relay: Relay,
}

impl Plan {
    const fn new(session: SessionId, client: ClientId, at: Instant, tries: u32) -> Self {
        Self { session, client, at: Some(at), tries, relay: Relay::new() }
    }
}

/// All relays of a meeting. There are as many as introductions.
pub(super) struct Relays {
    conns: ConnIds,
    plans: Vec<Plan>,
    /// What is left of plans that are over.
    outputs: VecDeque<relay::Output>,
}

impl Relays {
    pub(super) const fn new(room: Room) -> Self {
        Self { conns: ConnIds::new(room), plans: Vec::new(), outputs: VecDeque::new() }
    }

    /// Plans a relay for a session; one for an earlier session with the same peer is taken back.
    pub(super) fn plan(&mut self, session: SessionId, client: ClientId, at: Instant) {
        if self.plans.iter().any(|plan| plan.session == session) {
            return;
        }
        self.cancel(client);
        // A daemon that introduces without end gets no more connections than it has casters.
        if self.plans.len() >= MAX_SESSIONS {
            let oldest = self.plans[0].session;
            self.cancel_if(|plan| plan.session == oldest);
        }
        self.plans.push(Plan::new(session, client, at, 1));
    }

    /// Plans another relay in the place of one that came to nothing at so many `tries`. Whether there is to be one.
    fn plan_again(&mut self, now: Instant, session: SessionId, client: ClientId, tries: u32) -> bool {
        let again = tries < TRIES;
        if again {
            self.plans.push(Plan::new(session, client, now, tries + 1));
        }
        again
    }

    /// Takes back what was planned or asked for with that peer.
    pub(super) fn cancel(&mut self, client: ClientId) {
        self.cancel_if(|plan| plan.client == client);
    }

    /// Takes back everything.
    pub(super) fn cancel_all(&mut self) {
        self.cancel_if(|_| true);
    }

    fn cancel_if(&mut self, which: impl Fn(&Plan) -> bool) {
        for mut plan in self.plans.extract_if(.., |plan| which(plan)) {
            plan.relay.cancel();
            self.outputs.extend(std::iter::from_fn(|| plan.relay.poll_output()));
        }
    }

    /// Whether the daemon is to be asked, or was and has not answered.
    pub(super) const fn is_trying(&self) -> bool {
        !self.plans.is_empty()
    }

    /// The sessions whose time has come; each is told once.
    pub(super) fn due(&mut self, now: Instant) -> Vec<SessionId> {
        let due = self.plans.iter_mut().filter(|plan| plan.at.is_some_and(|at| at <= now));
        due.map(|plan| {
            plan.at = None;
            plan.session
        })
        .collect()
    }

    /// Asks the daemon for a session's relay, or forgets it if there is none to ask. Whether it is asked, for the first time.
    pub(super) fn ask(
        &mut self,
        now: Instant,
        session: SessionId,
        offer: Option<(SocketAddr, PunchToken)>,
    ) -> bool {
        let Some((server, token)) = offer else {
            self.plans.retain(|plan| plan.session != session);
            return false;
        };
        let Some(plan) = self.plans.iter_mut().find(|plan| plan.session == session) else { return false };
        plan.relay.open(now, self.conns.allocate(), server, token, session);
        plan.tries == 1
    }

    /// Takes an input of the room that is not about a line.
    pub(super) fn handle_input(&mut self, now: Instant, input: &Input<'_>) {
        for plan in &mut self.plans {
            plan.relay.handle_input(now, input);
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        for plan in &mut self.plans {
            plan.relay.handle_timeout(now);
        }
    }

    /// The next output, with the session that it is about.
    pub(super) fn poll_output(&mut self) -> Option<(SessionId, relay::Output)> {
        if let Some(output) = self.outputs.pop_front() {
            return Some((SessionId(0), output));
        }
        self.plans.iter_mut().find_map(|plan| Some((plan.session, plan.relay.poll_output()?)))
    }

    /// The daemon has answered for a session: with a connection or not. The plan, which is over.
    fn answered(&mut self, session: SessionId) -> Option<Plan> {
        let at = self.plans.iter().position(|plan| plan.session == session)?;
        Some(self.plans.swap_remove(at))
    }

    pub(super) fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let planned = self.plans.iter().filter_map(|plan| plan.at).min();
        let asked = self.plans.iter().filter_map(|plan| plan.relay.poll_timeout());
        asked.map(Some).fold(planned.map(|at| (at, "ask for a relay")), soonest)
    }
}

impl Meeting {
    /// The direct ways have had their time: asks the daemon to relay.
    pub(super) fn seek_relay(&mut self, now: Instant, session: SessionId) {
        if self.peer_of(session).is_none_or(|peer| self.has_link_with(peer.client)) {
            self.relays.answered(session);
            return;
        }
        let offer = self.agent.as_ref().and_then(Agent::relay_offer);
        if self.relays.ask(now, session, offer) {
            let obstacle = self.obstacle(session);
            self.event(Event::SeekingRelay(obstacle));
        }
    }

    /// What stands in the way of a direct link to the peer of a session.
    pub(super) fn obstacle(&self, session: SessionId) -> Obstacle {
        match (&self.agent, self.peer_of(session)) {
            (Some(agent), Some(peer)) => {
                let (ours, theirs) = (agent.samples(), &peer.observed);
                let obstacle = policy::obstacle(ours, theirs);
                log::debug!("session={session} {obstacle}; seen of us: {ours:?}; of the peer: {theirs:?}");
                obstacle
            }
            (None, _) | (_, None) => Obstacle::Unmeasured,
        }
    }

    pub(super) fn relay_event(&mut self, now: Instant, session: SessionId, event: relay::Event) {
        match event {
            relay::Event::Through { conn, local, remote, terms, first } => {
                let obstacle = self.obstacle(session);
                let Some(plan) = self.relays.answered(session) else {
                    self.net(NetOp::Close { conn, how: Closing::Flush });
                    return;
                };
                let open = Open {
                    conn,
                    local: local.into(),
                    remote: remote.into(),
                    attempt: None,
                    origin: None,
                    dialled: true,
                };
                self.prove(now, open, Some(Relayed::new(now, terms, &plan, obstacle)));
                self.heard(now, conn, &first);
            }
            relay::Event::Refused(reason) => {
                self.no_relay(session, crate::notice::refusal_words(reason, Asked::Relay).into());
            }
            relay::Event::Failed(why) => self.no_relay(session, why),
            relay::Event::Lost(why) => {
                if let Some(Plan { client, tries, .. }) = self.relays.answered(session) {
                    self.relay_again(now, session, client, tries, why);
                }
            }
        }
    }

    fn no_relay(&mut self, session: SessionId, why: String) {
        self.relays.answered(session);
        log::info!("session={session} is not relayed: {why}");
        self.event(Event::NoRelay(why));
    }

    /// A relayed connection ended before it was the link, and no goodbye told why: the daemon is asked for another.
    pub(super) fn relay_broke(&mut self, now: Instant, relayed: &Relayed) {
        let &Relayed { session, client, tries, .. } = relayed;
        let why = "the other side did not prove itself over it in time".to_owned();
        self.relay_again(now, session, client, tries, why);
    }

    fn relay_again(&mut self, now: Instant, session: SessionId, client: ClientId, tries: u32, why: String) {
        // An attempt is over when its time is, or when it has come to a direct link.
        let wanted = self.hole.is_trying(self.attempt_of(session)) && !self.has_link_with(client);
        if self.peer_of(session).is_some() && wanted && !self.relays.plan_again(now, session, client, tries) {
            self.no_relay(session, why);
        }
    }

    /// Plans the next try of the direct ways, for a caster on a relayed link.
    pub(super) fn try_direct_again(&mut self, now: Instant) {
        let (at, pause) = &mut self.direct_again;
        *at = Some(now + *pause);
        *pause = (*pause * 2).min(DIRECT_AGAIN_MAX);
    }
}
