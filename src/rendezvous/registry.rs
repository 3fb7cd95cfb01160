//! Who is logged in, where they meet, and how far each caster's introduction has come.
//!
//! Values and look-ups; what follows from them is the [`broker`](super::broker)'s to decide.

use super::filter::FilterTests;
use super::limits::Bucket;
use crate::app::ConnId;
use crate::endpoint::{Endpoint, Prefix, Reach};
use crate::id::{ClientId, PunchToken, RendezvousId, SessionId};
use crate::nat::is_own;
use crate::wire::message::{MAX_OBSERVATIONS, Observation, Peer, Role, SeenBy};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

/// One logged-in client.
#[derive(Debug)]
pub(super) struct Login {
    pub(super) client: ClientId,
    /// Its main connection.
    pub(super) conn: ConnId,
    /// Where that one comes from.
    pub(super) main: Seen,
    pub(super) rendezvous: RendezvousId,
    pub(super) role: Role,
    pub(super) token: PunchToken,
    /// What the client says of itself; see [`Peer::local`].
    pub(super) local: Box<[Endpoint]>,
    /// What a router forwards to it, as the client says; see [`Peer::mapped`].
    pub(super) mapped: Box<[Endpoint]>,
    /// Its assist connections, oldest first.
    pub(super) assists: Vec<Assist>,
    /// The latest of its samples, oldest first.
    pub(super) samples: Vec<Seen>,
    pub(super) sampling: Bucket,
    /// Its round trip to the daemon in microseconds, as it says; 0: unknown.
    pub(super) rtt_us: u32,
    pub(super) filter: FilterTests,
    /// A caster's introduction; a viewer's stays `Nothing`.
    pub(super) ask: Ask,
    /// A caster's latest introductions with their viewers, for which a relay may be asked; empty where there is none.
    pub(super) sessions: Vec<(SessionId, ClientId)>,
    pub(super) requests: Bucket,
}

/// One assist connection of a login.
#[derive(Clone, Copy, Debug)]
pub(super) struct Assist {
    pub(super) conn: ConnId,
    /// Our address of it.
    pub(super) local: IpAddr,
    /// The hole port's mapping, seen on this connection.
    pub(super) seen: Seen,
}

/// A mapping that was seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// Where the connection stood in the order of all.
    pub(super) born: u64,
    pub(super) by: SeenBy,
    pub(super) local_port: u16,
    pub(super) endpoint: Endpoint,
}

/// How far a caster's introduction has come.
///
/// ```text
///              viewer absent                    viewer logs in and is seen at the assist port
///  Nothing ────────────────────▶ Waiting ──────────────────────────────────────────┐
///     │                             ▲                                              ▼
///     ├── viewer seen at the assist port ───────────────────────────────────────▶ Told
///     │                             │ the viewer leaves                            ▲
///     └── viewer present, unseen ─▶ Asked ── HoleListenReady, still unseen ─▶ Ready │ seen
///                                     └───── HoleListenReady, seen ─────────────┴──┘
/// ```
///
/// A new request begins again from any of them. What is older than the limit for an introduction counts as `Waiting`
/// (`Asked`, `Ready`) or as over (`Told`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// Nothing was asked, or the connection that asked is gone.
    Nothing,
    /// For the viewer.
    Waiting,
    /// The viewer was sent `SrvReqMakeHole` but has not been seen at the assist port.
    Asked { session: SessionId, since: Instant },
    /// It says that it listens, and still has not been seen.
    Ready { session: SessionId, since: Instant },
    /// Both sides know of each other.
    Told { session: SessionId, since: Instant },
}

/// The members of one rendezvous.
#[derive(Debug, Default)]
pub(super) struct Place {
    pub(super) viewer: Option<ClientId>,
    pub(super) casters: Vec<ClientId>,
}

impl Place {
    /// Everybody.
    pub(super) fn members(&self) -> impl Iterator<Item = ClientId> + '_ {
        self.viewer.into_iter().chain(self.casters.iter().copied())
    }
}

impl Login {
    /// Every mapping that the daemon saw, in the order in which the connections came.
    pub(super) fn observed(&self) -> Vec<Observation> {
        let holes = self.assists.iter().map(|assist| (assist.seen, true));
        let others = std::iter::once(&self.main).chain(&self.samples).map(|seen| (*seen, false));
        let mut all: Vec<(Seen, bool)> = holes.chain(others).collect();
        all.sort_by_key(|(seen, _)| seen.born);
        debug_assert!(all.len() <= MAX_OBSERVATIONS);
        all.into_iter()
            .map(|(seen, hole)| Observation {
                seen_by: seen.by,
                local_port: seen.local_port,
                endpoint: seen.endpoint,
                hole,
                own: is_own(&self.local, seen.local_port, seen.endpoint),
            })
            .collect()
    }

    /// Whether an endpoint of the same family as `endpoint` was seen on another connection than `conn`.
    pub(super) fn has_family_beside(&self, conn: ConnId, endpoint: Endpoint) -> bool {
        self.assists.iter().any(|assist| {
            assist.conn != conn && assist.seen.endpoint.addr().is_ipv4() == endpoint.addr().is_ipv4()
        })
    }

    /// Everything the daemon saw of this client.
    fn seen(&self) -> impl Iterator<Item = Endpoint> + '_ {
        std::iter::once(self.main.endpoint).chain(self.assists.iter().map(|assist| assist.seen.endpoint))
    }

    fn on_loopback(&self) -> bool {
        self.seen().all(|endpoint| endpoint.reach() == Reach::Host)
    }

    /// Whether the daemon sees both behind one address.
    fn shares_address_with(&self, other: &Self) -> bool {
        self.seen().any(|ours| other.seen().any(|its| Prefix::of(ours.ip()) == Prefix::of(its.ip())))
    }

    /// What `other` is told of this client.
    ///
    /// What a client says of itself goes no further than where it can do no harm: to somebody behind the same public
    /// address, and site-local entries only, or else a client could make its peer knock at any door in the world.
    pub(super) fn as_peer_for(&self, other: &Self) -> Peer {
        let observed = self.observed();
        let public = observed.iter().any(|seen| seen.hole && self.local.contains(&seen.endpoint));
        let both_on_loopback = self.on_loopback() && other.on_loopback();
        let neighbours = both_on_loopback || self.shares_address_with(other);
        let passes = |endpoint: &Endpoint| match endpoint.reach() {
            Reach::Site => neighbours && endpoint.port() != 0,
            Reach::Host => both_on_loopback && endpoint.port() != 0,
            Reach::Nowhere | Reach::Global => false,
        };
        let mut local: Vec<Endpoint> = Vec::new();
        for endpoint in self.local.iter().copied().filter(passes) {
            if !local.contains(&endpoint) {
                local.push(endpoint);
            }
        }
        // A claim at another address would make the peer dial somebody who has not asked for it.
        let seen_at = |endpoint: &Endpoint| observed.iter().any(|seen| seen.endpoint.ip() == endpoint.ip());
        let mut mapped: Vec<Endpoint> = self
            .mapped
            .iter()
            .copied()
            .filter(|endpoint| endpoint.port() != 0 && seen_at(endpoint))
            .collect();
        mapped.dedup();
        Peer { client: self.client, observed, local, public, rtt_us: self.rtt_us, mapped }
    }
}

/// All logins and places.
#[derive(Debug, Default)]
pub(super) struct Registry {
    logins: BTreeMap<ClientId, Login>,
    tokens: BTreeMap<PunchToken, ClientId>,
    places: BTreeMap<RendezvousId, Place>,
}

impl Registry {
    pub(super) fn len(&self) -> usize {
        self.logins.len()
    }

    pub(super) fn login(&self, client: ClientId) -> Option<&Login> {
        self.logins.get(&client)
    }

    pub(super) fn login_mut(&mut self, client: ClientId) -> Option<&mut Login> {
        self.logins.get_mut(&client)
    }

    pub(super) fn by_token(&self, token: PunchToken) -> Option<ClientId> {
        self.tokens.get(&token).copied()
    }

    pub(super) fn viewer(&self, rendezvous: RendezvousId) -> Option<ClientId> {
        self.places.get(&rendezvous).and_then(|place| place.viewer)
    }

    pub(super) fn casters(&self, rendezvous: RendezvousId) -> &[ClientId] {
        self.places.get(&rendezvous).map_or(&[], |place| &place.casters)
    }

    /// Everybody in `rendezvous` with role and main connection, but `but`.
    pub(super) fn others(&self, rendezvous: RendezvousId, but: ClientId) -> Vec<(ClientId, Role, ConnId)> {
        let Some(place) = self.places.get(&rendezvous) else { return Vec::new() };
        place
            .members()
            .filter(|client| *client != but)
            .filter_map(|client| self.logins.get(&client))
            .map(|login| (login.client, login.role, login.conn))
            .collect()
    }

    /// Adds a login with a client id and token that are not in use, and a role that is free in its place.
    pub(super) fn insert(&mut self, login: Login) {
        let place = self.places.entry(login.rendezvous).or_default();
        match login.role {
            Role::Viewer => {
                debug_assert!(place.viewer.is_none(), "the caller ends the old viewer first");
                place.viewer = Some(login.client);
            }
            Role::Caster => place.casters.push(login.client),
        }
        self.tokens.insert(login.token, login.client);
        self.logins.insert(login.client, login);
    }

    /// Takes a login out, and its place if nobody else is there.
    pub(super) fn remove(&mut self, client: ClientId) -> Option<Login> {
        let login = self.logins.remove(&client)?;
        self.tokens.remove(&login.token);
        if let Some(place) = self.places.get_mut(&login.rendezvous) {
            place.casters.retain(|caster| *caster != client);
            if place.viewer == Some(client) {
                place.viewer = None;
            }
            if place.viewer.is_none() && place.casters.is_empty() {
                self.places.remove(&login.rendezvous);
            }
        }
        Some(login)
    }

    /// Two logins at once.
    pub(super) fn pair(&self, a: ClientId, b: ClientId) -> Option<(&Login, &Login)> {
        Some((self.logins.get(&a)?, self.logins.get(&b)?))
    }

    #[cfg(debug_assertions)]
    pub(super) fn check_invariants(&self) {
        assert_eq!(self.tokens.len(), self.logins.len(), "one token a login");
        let members: usize = self.places.values().map(|place| place.members().count()).sum();
        assert_eq!(members, self.logins.len(), "every login is in one place");
        assert!(self.places.values().all(|place| place.members().next().is_some()), "no place is empty");
    }
}
