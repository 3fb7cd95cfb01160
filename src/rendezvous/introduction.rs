//! The broker's decisions about clients: logins, assist connections, and the introduction of a caster to a viewer.

use super::broker::{Broker, Ending, Phase, Shown, Wish};
use super::filter::FilterTests;
use super::limits::Bucket;
use super::registry::{Ask, Assist, Login, Seen};
use crate::app::ConnId;
use crate::endpoint::{Endpoint, Prefix};
use crate::id::{ClientId, OwnerToken, PunchToken, RendezvousId, SessionId};
use crate::wire::frame::MAX_FRAME;
use crate::wire::message::{FromMain, Refusal, Role, SeenBy};
use std::time::{Duration, Instant};

/// The fields of a login.
pub(super) struct Entry {
    pub(super) rendezvous: RendezvousId,
    pub(super) role: Role,
    pub(super) token: PunchToken,
    pub(super) owner: Option<OwnerToken>,
    pub(super) local: Vec<Endpoint>,
    pub(super) rtt_us: u32,
    pub(super) local_port: u16,
}

impl Broker {
    pub(super) fn log_in(&mut self, now: Instant, conn: ConnId, entry: Entry) {
        let Entry { rendezvous, role, token, owner, local, rtt_us, local_port } = entry;
        if let Err(reason) = self.may_log_in(rendezvous, role, token, owner) {
            self.end(now, conn, Ending::Refuse(reason));
            return;
        }
        if role == Role::Viewer
            && let Some(old) = self.registry.viewer(rendezvous).and_then(|old| self.registry.login(old))
        {
            self.end(now, old.conn, Ending::Refuse(Refusal::Replaced));
        }
        let Some(state) = self.conns.get_mut(&conn) else { return };
        state.reader.set_limit(MAX_FRAME);
        let main = Seen { born: state.born, by: SeenBy::Main, local_port, endpoint: state.remote };
        let client = self.name_client();
        self.enter(now, conn, Phase::LoggedIn(client));
        let heartbeat_secs = u16::try_from(self.limits.heartbeat.as_secs()).unwrap_or(u16::MAX);
        let (alternate, relay) = (self.alternate, self.relays.offered);
        let observed = main.endpoint;
        self.send(now, conn, &FromMain::Welcome { client, observed, heartbeat_secs, alternate, relay });
        self.registry.insert(Login {
            client,
            conn,
            main,
            rendezvous,
            role,
            token,
            local: local.into_boxed_slice(),
            mapped: Box::default(),
            assists: Vec::new(),
            samples: Vec::new(),
            sampling: Bucket::default(),
            rtt_us,
            filter: FilterTests::default(),
            ask: Ask::Nothing,
            sessions: Vec::new(),
            requests: Bucket::default(),
        });
        log::info!("conn={conn} client={client} logged in as {role:?}");
        for (other, its_role, its_conn) in self.registry.others(rendezvous, client) {
            self.send(now, conn, &FromMain::NewUserLogin { client: other, role: its_role });
            self.send(now, its_conn, &FromMain::NewUserLogin { client, role });
        }
        for held in self.held.remove(&token).unwrap_or_default() {
            if let Some(Phase::Held(_, shown)) = self.conns.get(&held).map(|state| state.phase) {
                // Out of the table of held ones by now, and so must be its phase, however binding ends.
                self.enter(now, held, Phase::New);
                self.take_up(now, held, client, token, shown);
            }
        }
    }

    fn may_log_in(
        &self,
        rendezvous: RendezvousId,
        role: Role,
        token: PunchToken,
        owner: Option<OwnerToken>,
    ) -> Result<(), Refusal> {
        match (role, owner) {
            (Role::Viewer, Some(owner)) if owner.rendezvous() == rendezvous => {}
            (Role::Viewer, _) => return Err(Refusal::NotOwner),
            (Role::Caster, None) => {}
            (Role::Caster, Some(_)) => return Err(Refusal::BadRequest),
        }
        // A token is good for one login; a second use is a mistake or a copy.
        if self.registry.by_token(token).is_some() {
            return Err(Refusal::BadRequest);
        }
        let place_full =
            role == Role::Caster && self.registry.casters(rendezvous).len() >= self.limits.casters;
        // Full counts for a viewer that replaces one, too: one login more for a moment is one too many.
        if place_full || self.registry.len() >= self.limits.logins {
            return Err(Refusal::Full);
        }
        Ok(())
    }

    fn name_client(&mut self) -> ClientId {
        loop {
            let client = ClientId(self.rng.u64(..));
            if self.registry.login(client).is_none() {
                return client;
            }
        }
    }

    /// The rest of a login's end, when its main connection is gone: its assist connections, and word to the others.
    pub(super) fn log_out(&mut self, now: Instant, client: ClientId) {
        let Some(login) = self.registry.remove(client) else { return };
        log::info!("conn={} client={client} logged out", login.conn);
        self.drop_dials(client);
        self.drop_halves(now, &login);
        // The daemon closes first, so that TIME-WAIT is here and not on the client's hole port.
        for assist in &login.assists {
            self.end(now, assist.conn, Ending::Flush);
        }
        for (_, _, conn) in self.registry.others(login.rendezvous, client) {
            self.send(now, conn, &FromMain::UserLogout { client });
        }
        if login.role == Role::Viewer {
            self.leave_nameplate(now, client, login.rendezvous);
            let limit = self.limits.introduction;
            for caster in self.registry.casters(login.rendezvous).to_vec() {
                let Some(caster) = self.registry.login_mut(caster) else { continue };
                caster.ask = match caster.ask {
                    Ask::Asked { .. } | Ask::Ready { .. } => Ask::Waiting,
                    // Both lost their link, and the caster was back first: the viewer that was told had a connection
                    // that nobody heard any more. The one that comes back has to be told, too.
                    Ask::Told { since, .. } if now < since + limit => Ask::Waiting,
                    other @ (Ask::Nothing | Ask::Waiting | Ask::Told { .. }) => other,
                };
            }
        }
    }

    /// Ties an assist connection to its login and carries out what it asked for.
    pub(super) fn bind(
        &mut self,
        now: Instant,
        id: ConnId,
        client: ClientId,
        token: PunchToken,
        shown: Shown,
    ) {
        let Some(conn) = self.conns.get(&id) else { return };
        let (endpoint, local, wish) = (conn.remote, conn.local, shown.wish);
        let seen = Seen { born: conn.born, by: SeenBy::Assist, local_port: shown.local_port, endpoint };
        if !self.fits(client, wish) {
            self.end(now, id, Ending::Refuse(Refusal::BadRequest));
            return;
        }
        let Some(login) = self.registry.login_mut(client) else { return };
        let spare = (login.assists.len() >= self.limits.assists).then(|| login.assists[0].conn);
        login.assists.push(Assist { conn: id, local, seen });
        if let Some(oldest) = spare {
            self.end(now, oldest, Ending::Flush);
        }
        self.enter(now, id, Phase::Bound(client, token));
        log::debug!("conn={id} client={client} seen at {endpoint}");
        match wish {
            Wish::Introduce(_) if self.joins(now, id, client, endpoint) => self.amend_for_viewer(now, client),
            Wish::Introduce(_) => self.request(now, id, client),
            Wish::BeSeen => self.viewer_seen(now, client),
            Wish::BeSampled => {}
        }
    }

    /// An assist connection is gone.
    pub(super) fn unbind(&mut self, client: ClientId, id: ConnId) {
        let Some(login) = self.registry.login_mut(client) else { return };
        login.assists.retain(|assist| assist.conn != id);
        if login.assists.is_empty() && login.role == Role::Caster {
            // Nothing is known any more of where the viewer would punch to.
            login.ask = Ask::Nothing;
        }
    }

    /// A bound assist connection repeats its request.
    pub(super) fn ask_again(&mut self, now: Instant, id: ConnId, client: ClientId, wish: Wish) {
        if !self.fits(client, wish) {
            self.end(now, id, Ending::Refuse(Refusal::BadRequest));
            return;
        }
        match wish {
            Wish::Introduce(_) => self.request(now, id, client),
            // It was seen already, and is still where it was.
            Wish::BeSeen | Wish::BeSampled => {}
        }
    }

    /// Whether this client may wish this.
    fn fits(&self, client: ClientId, wish: Wish) -> bool {
        self.registry.login(client).is_some_and(|login| match wish {
            Wish::Introduce(rendezvous) => login.role == Role::Caster && login.rendezvous == rendezvous,
            Wish::BeSeen => login.role == Role::Viewer,
            // A connection that was bound does something else already.
            Wish::BeSampled => false,
        })
    }

    /// Whether the first request on a connection is part of the introduction that the caster asked for already, over its
    /// other address family.
    fn joins(&self, now: Instant, id: ConnId, client: ClientId, endpoint: Endpoint) -> bool {
        let Some(caster) = self.registry.login(client) else { return false };
        let under_way = match caster.ask {
            Ask::Nothing => false,
            Ask::Waiting => true,
            Ask::Asked { since, .. } | Ask::Ready { since, .. } | Ask::Told { since, .. } => {
                now < since + self.limits.introduction
            }
        };
        under_way && !caster.has_family_beside(id, endpoint)
    }

    /// A caster asks for its viewer.
    fn request(&mut self, now: Instant, id: ConnId, client: ClientId) {
        let rate = self.limits.requests_per_caster;
        let Some(caster) = self.registry.login_mut(client) else { return };
        if !caster.requests.take(now, rate) {
            self.refuse(now, id, Refusal::TooMany);
            return;
        }
        caster.ask = Ask::Waiting;
        let rendezvous = caster.rendezvous;
        match self.registry.viewer(rendezvous) {
            Some(viewer) => self.introduce(now, client, viewer),
            None => log::debug!("conn={id} client={client} waits for its viewer"),
        }
    }

    /// Begins a session: both sides are told in one turn if the viewer's mapping is known, or else the viewer is asked
    /// to show it.
    fn introduce(&mut self, now: Instant, caster: ClientId, viewer: ClientId) {
        let Some((a, b)) = self.registry.pair(caster, viewer) else { return };
        let (from, to) = (Prefix::of(a.main.endpoint.ip()), Prefix::of(b.main.endpoint.ip()));
        let (a_conn, b_conn, b_seen) = (a.conn, b.conn, !b.assists.is_empty());
        if !self.sources.introduce(now, from, to, &self.limits) {
            self.refuse_ask(now, caster);
            return;
        }
        let Some((a, b)) = self.registry.pair(caster, viewer) else { return };
        let session = SessionId(self.rng.u64(..));
        let (for_b, for_a) = (a.as_peer_for(b), b.as_peer_for(a));
        let timing = Timing::of(a.rtt_us, b.rtt_us, self.limits.start_in);
        log::info!(
            "session={session} conn={a_conn} client={caster} introduced to conn={b_conn} client={viewer}{}",
            if b_seen { "" } else { ", which is asked to show its mapping" }
        );
        log::debug!("session={session} caster {for_b:?} viewer {for_a:?}");
        let rtt_us = timing.rtt_us;
        // Who is told before the other waits for nobody.
        let start_in_us = if b_seen { timing.b_start_in_us } else { 0 };
        self.send(now, b_conn, &FromMain::SrvReqMakeHole { session, peer: for_b, start_in_us, rtt_us });
        let ask = if b_seen {
            let start_in_us = timing.a_start_in_us;
            self.send(
                now,
                a_conn,
                &FromMain::SrvReqDirectConnect { session, peer: for_a, start_in_us, rtt_us },
            );
            Ask::Told { session, since: now }
        } else {
            Ask::Asked { session, since: now }
        };
        self.set_ask(caster, ask);
        if self.relays.offered
            && let Some(login) = self.registry.login_mut(caster)
        {
            login.remember(session, viewer);
        }
    }

    /// Too many introductions: says so on the caster's latest assist connection, and forgets the request.
    fn refuse_ask(&mut self, now: Instant, caster: ClientId) {
        self.set_ask(caster, Ask::Nothing);
        let latest = self.registry.login(caster).and_then(|login| login.assists.last());
        if let Some(conn) = latest.map(|assist| assist.conn) {
            self.refuse(now, conn, Refusal::TooMany);
        }
    }

    fn set_ask(&mut self, caster: ClientId, ask: Ask) {
        if let Some(caster) = self.registry.login_mut(caster) {
            caster.ask = ask;
        }
    }

    /// A mapping of the viewer became known: what waited for it goes on, and what was told is completed.
    pub(super) fn viewer_seen(&mut self, now: Instant, viewer: ClientId) {
        let Some(rendezvous) = self.registry.login(viewer).map(|login| login.rendezvous) else { return };
        let fresh = |since: Instant, limit| now < since + limit;
        let limit = self.limits.introduction;
        for caster in self.registry.casters(rendezvous).to_vec() {
            let Some(ask) = self.registry.login(caster).map(|login| login.ask) else { continue };
            match ask {
                Ask::Nothing => {}
                Ask::Waiting => self.introduce(now, caster, viewer),
                // It comes to tell that it listens, and then the caster hears.
                Ask::Asked { since, .. } if fresh(since, limit) => {}
                Ask::Ready { session, since } if fresh(since, limit) => {
                    self.tell_caster(now, caster, viewer, session);
                    self.set_ask(caster, Ask::Told { session, since });
                }
                Ask::Asked { .. } | Ask::Ready { .. } => self.introduce(now, caster, viewer),
                Ask::Told { session, since } if fresh(since, limit) => {
                    self.tell_caster(now, caster, viewer, session);
                }
                Ask::Told { .. } => {}
            }
        }
    }

    /// The viewer says that it listens.
    pub(super) fn hole_ready(&mut self, now: Instant, id: ConnId, viewer: ClientId, session: SessionId) {
        let Some(login) = self.registry.login(viewer) else { return };
        if login.role != Role::Viewer {
            self.end(now, id, Ending::Refuse(Refusal::BadRequest));
            return;
        }
        let seen = !login.assists.is_empty();
        let casters = self.registry.casters(login.rendezvous).to_vec();
        for caster in casters {
            let Some(ask) = self.registry.login(caster).map(|login| login.ask) else { continue };
            match ask {
                Ask::Asked { session: asked, since }
                    if asked == session && now < since + self.limits.introduction =>
                {
                    if seen {
                        self.tell_caster(now, caster, viewer, session);
                        self.set_ask(caster, Ask::Told { session, since });
                    } else {
                        self.set_ask(caster, Ask::Ready { session, since });
                    }
                    return;
                }
                Ask::Told { session: told, since } if told == session => {
                    let after = now.saturating_duration_since(since).as_millis();
                    log::debug!("session={session} conn={id} viewer listens after {after} ms");
                    return;
                }
                Ask::Nothing | Ask::Waiting | Ask::Asked { .. } | Ask::Ready { .. } | Ask::Told { .. } => {}
            }
        }
        // The caster left or asked anew meanwhile; no fault of the viewer's.
        log::debug!("session={session} conn={id} is ready for a session that is over");
    }

    /// Tells the caster of a viewer that began before it, so at once.
    pub(super) fn tell_caster(
        &mut self,
        now: Instant,
        caster: ClientId,
        viewer: ClientId,
        session: SessionId,
    ) {
        let Some((a, b)) = self.registry.pair(caster, viewer) else { return };
        let (conn, peer) = (a.conn, b.as_peer_for(a));
        let Timing { rtt_us, .. } = Timing::of(a.rtt_us, b.rtt_us, self.limits.start_in);
        log::debug!("session={session} conn={conn} viewer {peer:?}");
        self.send(now, conn, &FromMain::SrvReqDirectConnect { session, peer, start_in_us: 0, rtt_us });
    }

    /// A client's routers forward these endpoints to it: whoever was introduced to it lately hears of them.
    pub(super) fn mapped(&mut self, now: Instant, client: ClientId, endpoints: Vec<Endpoint>) {
        let Some(login) = self.registry.login_mut(client) else { return };
        login.mapped = endpoints.into_boxed_slice();
        let role = login.role;
        self.amend(now, client, role);
    }

    /// More of the caster was seen: the viewer hears the whole list under the same session.
    pub(super) fn amend_for_viewer(&mut self, now: Instant, caster: ClientId) {
        let Some(a) = self.registry.login(caster) else { return };
        let (Ask::Asked { session, .. } | Ask::Ready { session, .. } | Ask::Told { session, .. }) = a.ask
        else {
            return;
        };
        let Some(b) = self.registry.viewer(a.rendezvous).and_then(|viewer| self.registry.login(viewer))
        else {
            return;
        };
        let (conn, peer) = (b.conn, a.as_peer_for(b));
        let Timing { rtt_us, .. } = Timing::of(a.rtt_us, b.rtt_us, self.limits.start_in);
        log::debug!("session={session} conn={conn} caster {peer:?}");
        self.send(now, conn, &FromMain::SrvReqMakeHole { session, peer, start_in_us: 0, rtt_us });
    }
}

/// When the two sides of an introduction begin, if both are told at one moment. A message takes half a round trip, so
/// the nearer side waits by half of what its round trip is shorter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Timing {
    a_start_in_us: u32,
    b_start_in_us: u32,
    /// Between the two, at most; 0: unknown.
    rtt_us: u32,
}

impl Timing {
    fn of(a_rtt_us: u32, b_rtt_us: u32, longest: Duration) -> Self {
        if a_rtt_us == 0 || b_rtt_us == 0 {
            return Self { a_start_in_us: 0, b_start_in_us: 0, rtt_us: 0 };
        }
        let longest = u32::try_from(longest.as_micros()).unwrap_or(u32::MAX);
        let behind = |ours: u32, theirs: u32| (theirs.saturating_sub(ours) / 2).min(longest);
        Self {
            a_start_in_us: behind(a_rtt_us, b_rtt_us),
            b_start_in_us: behind(b_rtt_us, a_rtt_us),
            rtt_us: a_rtt_us.saturating_add(b_rtt_us),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearer_side_waits_until_the_farther_one_has_heard() {
        let longest = Duration::from_millis(500);
        for (a, b) in [(80_000, 20_000), (1, 400_001), (30_000, 30_000), (900_000, 1)] {
            let Timing { a_start_in_us, b_start_in_us, rtt_us } = Timing::of(a, b, longest);
            assert!(a_start_in_us == 0 || b_start_in_us == 0, "somebody begins at once");
            assert!((a / 2 + a_start_in_us).abs_diff(b / 2 + b_start_in_us) <= 1, "{a} {b}");
            assert_eq!(rtt_us, a + b);
        }
    }

    #[test]
    fn nobody_waits_for_the_unknown_or_for_long() {
        let longest = Duration::from_millis(500);
        let nothing = Timing { a_start_in_us: 0, b_start_in_us: 0, rtt_us: 0 };
        assert_eq!(Timing::of(0, 80_000, longest), nothing);
        assert_eq!(Timing::of(80_000, 0, longest), nothing);
        let absurd = Timing::of(u32::MAX, 1000, longest);
        assert_eq!((absurd.a_start_in_us, absurd.b_start_in_us, absurd.rtt_us), (0, 500_000, u32::MAX));
    }
}
