//! What follows from an introduction: whom to dial, from when on, and what may find an endpoint that nobody has seen.

use super::relays::RELAY_AFTER;
use super::{MAX_SESSIONS, Meeting, THE_ATTEMPT};
use punchcast::endpoint::Endpoint;
use punchcast::id::SessionId;
use punchcast::policy;
use punchcast::punch::{Approach, Attempt, Duty, Origin, Target};
use punchcast::wire::message::{Peer, Role};
use std::time::{Duration, Instant};

impl Meeting {
    pub(super) fn introduced(&mut self, now: Instant, session: SessionId, peer: Peer, approach: Approach) {
        if self.is_met(session) {
            // The link's word of it was faster.
            return;
        }
        let amends = self.peer_of(session).is_some();
        let targets = targets_of(&peer);
        for target in &targets {
            self.door.expect(target.endpoint.ip());
        }
        if self.role() == Role::Caster && self.sessions.iter().any(|(known, _)| *known != session) {
            // A caster has one viewer; what was known of its earlier login leads nowhere, or to somebody else by now.
            for (_, earlier) in self.sessions.drain(..) {
                self.relays.cancel(earlier.client);
            }
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
            && let Some((oldest, forgotten)) = self.sessions.pop_front()
        {
            self.hole.stop(Attempt(oldest.0));
            self.relays.cancel(forgotten.client);
        }
        let client = peer.client;
        self.introduced = true;
        self.sessions.push_back((session, peer));
        if !amends {
            // Whether it is needed shows when its time has come.
            let at = now + approach.begin_in + approach.rtt.unwrap_or_default() + RELAY_AFTER;
            self.relays.plan(session, client, at);
        }
        match self.role() {
            Role::Viewer => self.hole.start(now, Attempt(session.0), approach, &targets),
            // A caster that has its link needs no other, and neither does its viewer.
            Role::Caster if self.has_direct_link() => self.name_session(now),
            Role::Caster => {
                let all: Vec<Target> = self.ticket_targets().chain(targets).collect();
                self.hole.narrow(THE_ATTEMPT, &all);
                self.hole.start(now, THE_ATTEMPT, approach, &all);
            }
        }
    }

    /// More is known of a peer. Endpoints that are new are tried, too; a session that is over stays over.
    pub(super) fn amended(&mut self, now: Instant, session: SessionId, peer: Peer) {
        let Some((_, known)) = self.sessions.iter_mut().find(|(known, _)| *known == session) else { return };
        let before = std::mem::replace(known, peer.clone());
        if targets_of(&peer).iter().any(|target| !targets_of(&before).contains(target)) {
            let approach = self.approach(Duration::ZERO, None);
            self.introduced(now, session, peer, approach);
        }
    }

    /// The caster dials, the viewer holds: the roles come from the session, so both sides know.
    pub(super) const fn approach(&self, begin_in: Duration, rtt: Option<Duration>) -> Approach {
        let duty = match self.role() {
            Role::Caster => Duty::Dialler,
            Role::Viewer => Duty::Holder,
        };
        Approach { duty, begin_in, rtt }
    }

    /// Adds what may find an endpoint that nobody has seen, as far as the samples tell by now.
    pub(super) fn add_bursts(&mut self, now: Instant) {
        let Some(agent) = &self.agent else { return };
        for (session, peer) in &self.sessions {
            let attempt = self.attempt_of(*session);
            if self.hole.is_trying(attempt)
                && let Some(aim) = policy::plan::burst(agent.samples(), &peer.observed, session.0)
            {
                self.hole.burst(now, attempt, aim);
            }
        }
    }

    /// The attempt that a session is tried in: a caster has one for all, a viewer one for each.
    pub(super) const fn attempt_of(&self, session: SessionId) -> Attempt {
        match self.role() {
            Role::Caster => THE_ATTEMPT,
            Role::Viewer => Attempt(session.0),
        }
    }

    /// Whom the daemon introduced in a session, if it is not over.
    pub(super) fn peer_of(&self, session: SessionId) -> Option<&Peer> {
        self.sessions.iter().find(|(known, _)| *known == session).map(|(_, peer)| peer)
    }

    pub(super) fn ticket_targets(&self) -> impl Iterator<Item = Target> + '_ {
        self.ticket_addresses.iter().map(|&endpoint| Target { endpoint, origin: Origin::Ticket })
    }
}

/// Whether `endpoint` is on a host that the daemon named as `peer`.
pub(super) fn knows(peer: &Peer, endpoint: Endpoint) -> bool {
    let known = peer.hole_endpoints();
    known.iter().chain(&peer.local).chain(&peer.mapped).any(|known| known.ip() == endpoint.ip())
}

pub(super) fn targets_of(peer: &Peer) -> Vec<Target> {
    let local = peer.local.iter().map(|&endpoint| Target { endpoint, origin: Origin::Local });
    let holes = peer.hole_endpoints();
    // One that was seen, too, is punched as such: its mapping may have gone.
    let mapped = peer.mapped.iter().filter(|endpoint| !holes.contains(endpoint));
    let mapped = mapped.map(|&endpoint| Target { endpoint, origin: Origin::Mapped });
    let observed = holes.iter().map(|&endpoint| Target { endpoint, origin: Origin::Observed });
    local.chain(mapped).chain(observed).collect()
}
