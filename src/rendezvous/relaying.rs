//! The broker's relay: joins two connections of one introduction, where both sides ask for it, and passes bytes.
//!
//! It decides who may have a relay, how much may pass, and when it is over. It refuses to know what passes: the two
//! clients' link is encrypted from end to end, and not one byte of it is looked at or kept.
//!
//! # Life of a relay
//!
//! ```text
//!  main 4000   New ── Relay, first half ──▶ Half ─────────────┐ the other half comes: Relaying to both
//!              New ── Relay, second half ─────────────────────┴──▶ Relayed ──▶ end of both
//! ```
//!
//! A half that waits ends with either login of its introduction; a link that is joined depends on no login. It ends
//! when a half does, when its bytes or its time are used up, or in silence, and then the other half is flushed and
//! closed, too.
//!
//! # Memory
//!
//! What one half sends goes to the other in the same turn. While the other's socket is full, the first is not read: a
//! link holds at most one read ([`READ_SIZE`](crate::driver::READ_SIZE)) a direction besides what the kernel's buffers
//! hold.

use super::broker::{Broker, Ending, Flow, Phase};
use super::limits::{Limits, Meter};
use super::registry::Login;
use crate::app::{ConnId, NetOp};
use crate::endpoint::Prefix;
use crate::id::{ClientId, PunchToken, SessionId};
use crate::wire::message::{FromMain, Refusal, Role};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::time::Instant;

/// Sessions of a caster for which a relay may be asked, the latest: the two sides may be an introduction apart in what
/// they gave up.
const SESSIONS_KEPT: usize = 4;

/// A relay smaller than this part of what is usual is not begun: whoever has used up an allowance waits until there is
/// enough of it again to be worth a link.
const LEAST_PART: u64 = 16;

/// Which introduction a half belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Pairing {
    caster: ClientId,
    session: SessionId,
}

/// Everything that is relayed or waits for it.
#[derive(Debug, Default)]
pub(super) struct Relays {
    /// Whether there is a relay at all.
    pub(super) offered: bool,
    waiting: BTreeMap<Pairing, Waiting>,
    links: BTreeMap<Pairing, Link>,
}

/// The first half of a link.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    conn: ConnId,
    role: Role,
    viewer: ClientId,
}

/// Two connections that are joined.
#[derive(Debug)]
struct Link {
    viewer: Half,
    caster: Half,
    /// Bytes that may still pass, both directions together.
    left: u64,
    ends: Instant,
    /// When bytes passed last.
    heard: Instant,
}

#[derive(Debug)]
struct Half {
    conn: ConnId,
    prefix: Prefix,
    /// What came from here lately.
    pace: Meter,
    /// Until when it has sent enough.
    rests: Option<Instant>,
    /// Whether the driver reads it.
    reading: bool,
}

impl Relays {
    /// Links that are joined.
    pub(super) fn len(&self) -> usize {
        self.links.len()
    }

    /// Halves that wait for the other.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// When the half of `role` is to be looked at, and why.
    pub(super) fn deadline(
        &self,
        pairing: Pairing,
        role: Role,
        limits: &Limits,
    ) -> Option<(Instant, &'static str)> {
        let link = self.links.get(&pairing)?;
        // A pause that the daemon makes is no silence of the clients.
        let heard =
            [link.viewer.rests, link.caster.rests].into_iter().flatten().fold(link.heard, Instant::max);
        let over = (link.ends, "time of a relay").min((heard + limits.relay_silence, "silent relay"));
        let rested = link.half(role).rests.map(|at| (at, "pace of a relay"));
        Some(rested.map_or(over, |rested| over.min(rested)))
    }
}

impl Link {
    fn new(now: Instant, [viewer, caster]: [(ConnId, Prefix); 2], bytes: u64, limits: &Limits) -> Self {
        let half = |(conn, prefix)| Half { conn, prefix, pace: Meter::default(), rests: None, reading: true };
        let ends = now + limits.relay_time;
        Self { viewer: half(viewer), caster: half(caster), left: bytes, ends, heard: now }
    }

    const fn half(&self, role: Role) -> &Half {
        match role {
            Role::Viewer => &self.viewer,
            Role::Caster => &self.caster,
        }
    }

    /// The half of `role` and the other one.
    const fn halves(&mut self, role: Role) -> (&mut Half, &mut Half) {
        match role {
            Role::Viewer => (&mut self.viewer, &mut self.caster),
            Role::Caster => (&mut self.caster, &mut self.viewer),
        }
    }

    const fn prefixes(&self) -> [Prefix; 2] {
        [self.viewer.prefix, self.caster.prefix]
    }
}

impl Login {
    /// Notes an introduction of this caster, for which a relay may be asked later.
    pub(super) fn remember(&mut self, session: SessionId, viewer: ClientId) {
        if self.sessions.len() >= SESSIONS_KEPT {
            self.sessions.remove(0);
        }
        self.sessions.push((session, viewer));
    }
}

impl Broker {
    /// Relays from here on, for those who log in from here on.
    pub fn offer_relay(&mut self) {
        self.relays.offered = true;
    }

    /// Carries out `Relay`: joins the connection to the other half, or keeps it until that comes.
    pub(super) fn relay(&mut self, now: Instant, id: ConnId, token: PunchToken, session: SessionId) {
        let Some(conn) = self.conns.get(&id) else { return };
        // What follows belongs to the other side, and nobody has been told yet that it is there.
        if conn.reader.buffered() != 0 {
            self.end(now, id, Ending::Refuse(Refusal::BadRequest));
            return;
        }
        let prefix = Prefix::of(conn.remote.ip());
        let known = self.relays.offered.then(|| self.introduction(token, session)).flatten();
        let Some((pairing, role, viewer)) = known else {
            self.end(now, id, Ending::Refuse(Refusal::NoRelay));
            return;
        };
        match self.relays.waiting.remove(&pairing) {
            Some(first) if first.role != role => {
                let conns = if role == Role::Viewer { [id, first.conn] } else { [first.conn, id] };
                self.join(now, pairing, conns);
                return;
            }
            // It has come again: the client has given up the earlier one, or the earlier one is dead.
            Some(earlier) => self.end(now, earlier.conn, Ending::Refuse(Refusal::NoRelay)),
            None => {}
        }
        if self.may_relay(now, pairing, [prefix; 2]).is_none() {
            self.end(now, id, Ending::Refuse(Refusal::NoRelay));
            return;
        }
        self.relays.waiting.insert(pairing, Waiting { conn: id, role, viewer });
        self.enter(now, id, Phase::Half(pairing));
        log::debug!("session={session} conn={id} is one half of a relay, as {role:?}");
    }

    /// The introduction that `token`'s login calls `session`, its role there, and the viewer, if both still are here.
    fn introduction(&self, token: PunchToken, session: SessionId) -> Option<(Pairing, Role, ClientId)> {
        let client = self.registry.by_token(token)?;
        let login = self.registry.login(client)?;
        let own = [client];
        let casters = match login.role {
            Role::Caster => &own[..],
            Role::Viewer => self.registry.casters(login.rendezvous),
        };
        casters.iter().find_map(|&caster| {
            let sessions = &self.registry.login(caster)?.sessions;
            let &(_, viewer) = sessions.iter().find(|(its, _)| *its == session)?;
            self.registry.login(viewer)?;
            let ours = login.role == Role::Caster || viewer == client;
            ours.then_some((Pairing { caster, session }, login.role, viewer))
        })
    }

    /// How many bytes a new relay between `prefixes` may pass; `None`: it may not be.
    fn may_relay(&self, now: Instant, pairing: Pairing, prefixes: [Prefix; 2]) -> Option<u64> {
        let (limits, links) = (&self.limits, &self.relays.links);
        // A link of the same introduction would make room for this one.
        let earlier = links.get(&pairing).map(Link::prefixes);
        if links.len() - usize::from(earlier.is_some()) >= limits.relays
            || !self.sources.may_relay(prefixes, earlier, limits)
        {
            return None;
        }
        let bytes = limits.relay_bytes.min(self.sources.relay_left(now, prefixes, limits));
        let least = limits.relay_bytes.min(limits.relay_allowance.bytes) / LEAST_PART;
        (bytes >= least.max(1)).then_some(bytes)
    }

    /// Both halves are there: tells them, and passes bytes from here on.
    fn join(&mut self, now: Instant, pairing: Pairing, [viewer, caster]: [ConnId; 2]) {
        let prefix = |id| self.conns.get(&id).map(|conn| Prefix::of(conn.remote.ip()));
        let (Some(a), Some(b)) = (prefix(viewer), prefix(caster)) else { return };
        let Some(bytes) = self.may_relay(now, pairing, [a, b]) else {
            self.end(now, viewer, Ending::Refuse(Refusal::NoRelay));
            self.end(now, caster, Ending::Refuse(Refusal::NoRelay));
            return;
        };
        // Both ask again, so neither uses the earlier one any more.
        self.part(now, pairing);
        let link = Link::new(now, [(viewer, a), (caster, b)], bytes, &self.limits);
        self.sources.relay_begins(link.prefixes());
        self.relays.links.insert(pairing, link);
        let seconds = u32::try_from(self.limits.relay_time.as_secs()).unwrap_or(u32::MAX);
        for (id, role) in [(viewer, Role::Viewer), (caster, Role::Caster)] {
            self.enter(now, id, Phase::Relayed(pairing, role));
            self.send(now, id, &FromMain::Relaying { bytes, seconds });
        }
        log::info!("session={} relays between conn={viewer} and conn={caster}", pairing.session);
    }

    /// Passes what one half sent to the other. The only place where relayed bytes are touched.
    pub(super) fn pass(&mut self, now: Instant, pairing: Pairing, role: Role, bytes: &[u8]) {
        let Some(link) = self.relays.links.get_mut(&pairing) else { return };
        let prefixes = link.prefixes();
        let allowed = link.left.min(self.sources.relay_left(now, prefixes, &self.limits));
        let count = usize::try_from(allowed).map_or(bytes.len(), |allowed| allowed.min(bytes.len()));
        let passed = count as u64;
        link.left -= passed;
        link.heard = now;
        self.sources.relayed(now, prefixes, passed, &self.limits);
        let (from, to) = link.halves(role);
        from.rests = from.pace.charge(now, passed, self.limits.relay_pace);
        let id = from.conn;
        if count > 0 {
            self.outbox
                .push_back(NetOp::Send { conn: to.conn, bytes: Bytes::copy_from_slice(&bytes[..count]) });
        }
        if passed == allowed {
            log::info!("session={} its relay has used up its bytes", pairing.session);
            self.part(now, pairing);
            return;
        }
        if from.rests.is_some() {
            self.steer(pairing);
            self.arm(id);
        }
    }

    /// Reads each half as far as its pace and the other's socket allow.
    pub(super) fn steer(&mut self, pairing: Pairing) {
        let Some(link) = self.relays.links.get_mut(&pairing) else { return };
        for role in [Role::Viewer, Role::Caster] {
            let (half, other) = link.halves(role);
            let flows = self.conns.get(&other.conn).is_some_and(|conn| conn.flow == Flow::Open);
            let on = flows && half.rests.is_none();
            if half.reading != on {
                half.reading = on;
                self.outbox.push_back(NetOp::Read { conn: half.conn, on });
            }
        }
    }

    /// Lets the half of `role` go on, if its pause is over. Whether it had one.
    pub(super) fn rested(&mut self, now: Instant, pairing: Pairing, role: Role) -> bool {
        let Some(link) = self.relays.links.get_mut(&pairing) else { return false };
        let (half, _) = link.halves(role);
        let over = half.rests.take_if(|at| *at <= now).is_some();
        if over {
            // The moment counts as one of life, as it did while it was to come.
            link.heard = now;
            self.steer(pairing);
        }
        over
    }

    /// A half that waits is gone.
    pub(super) fn forget_half(&mut self, id: ConnId, pairing: Pairing) {
        if self.relays.waiting.get(&pairing).is_some_and(|half| half.conn == id) {
            self.relays.waiting.remove(&pairing);
        }
    }

    /// Ends a link: what is queued for either half still goes out.
    pub(super) fn part(&mut self, now: Instant, pairing: Pairing) {
        let Some(link) = self.relays.links.remove(&pairing) else { return };
        log::info!("session={} its relay ends", pairing.session);
        self.sources.relay_ends(link.prefixes());
        self.end(now, link.viewer.conn, Ending::Flush);
        self.end(now, link.caster.conn, Ending::Flush);
    }

    /// Says no to the halves that wait for an introduction of this login, which has ended.
    pub(super) fn drop_halves(&mut self, now: Instant, login: &Login) {
        if self.relays.waiting.is_empty() {
            return;
        }
        let casters = match login.role {
            Role::Caster => vec![login.client],
            Role::Viewer => self.registry.casters(login.rendezvous).to_vec(),
        };
        for caster in casters {
            let of = |session| Pairing { caster, session: SessionId(session) };
            let gone: Vec<ConnId> = self
                .relays
                .waiting
                .range(of(0)..=of(u64::MAX))
                .filter(|(_, half)| caster == login.client || half.viewer == login.client)
                .map(|(_, half)| half.conn)
                .collect();
            for id in gone {
                self.end(now, id, Ending::Refuse(Refusal::NoRelay));
            }
        }
    }

    #[cfg(debug_assertions)]
    pub(super) fn check_relays(&self) {
        let relayed = |id: ConnId| self.conns.get(&id).map(|conn| conn.phase);
        for (&pairing, half) in &self.relays.waiting {
            assert_eq!(relayed(half.conn), Some(Phase::Half(pairing)), "a half that waits waits");
        }
        let mut counted = 0;
        for (&pairing, link) in &self.relays.links {
            assert!(link.left > 0, "a link ends when nothing may pass any more");
            for role in [Role::Viewer, Role::Caster] {
                let half = link.half(role);
                assert_eq!(relayed(half.conn), Some(Phase::Relayed(pairing, role)), "both halves are there");
                assert!(half.reading || half.rests.is_some() || self.is_backlogged(link, role), "it is read");
            }
            counted += if link.viewer.prefix == link.caster.prefix { 1 } else { 2 };
        }
        assert!(self.relays.links.len() <= self.limits.relays);
        assert_eq!(self.sources.relays(), counted, "every relay is counted at its sources");
    }

    /// Whether the other half of `role`'s takes nothing.
    #[cfg(debug_assertions)]
    fn is_backlogged(&self, link: &Link, role: Role) -> bool {
        let other = link.half(if role == Role::Viewer { Role::Caster } else { Role::Viewer });
        self.conns.get(&other.conn).is_some_and(|conn| conn.flow != Flow::Open)
    }
}
