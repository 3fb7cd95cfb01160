//! What the hole port tells: where it is bound, who is dialled, and which connections form.

use super::lines::{Line, Stage};
use super::naming::{is_lan, rung};
use super::{Event, Meeting, THE_ATTEMPT, knows};
use punchcast::app::{Closing, NetOp};
use punchcast::endpoint::{Endpoint, Prefix, Reach};
use punchcast::id::SessionId;
use punchcast::link::{self, Admission, Facts};
use punchcast::policy::Rung;
use punchcast::punch::{self, Open, Origin, Target};
use punchcast::wire::message::{Peer, Role};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

/// How long a caster whose attempt is over waits for connections that are still proving themselves: twice the time that a
/// proof has, for one that came while another was waited for. Strangers at the port cannot make it longer.
const LAST_CHANCE: Duration = link::HANDSHAKE_TIME.saturating_mul(2);

impl Meeting {
    pub(super) fn hole_event(&mut self, now: Instant, event: punch::Event) {
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
                let session = SessionId(attempt.0);
                log::info!("session={session} came to nothing: {findings}");
                if self.peer_of(session).is_some_and(|peer| !self.leads_to(peer)) {
                    self.event(Event::NoLink(findings, Some(self.obstacle(session))));
                }
                self.sessions.retain(|(known, _)| *known != session);
            }
        }
    }

    /// Whether a link leads to that peer, or to another on its host: no endpoint need tell which.
    fn leads_to(&self, peer: &Peer) -> bool {
        let direct = |line: &Line| line.relayed.is_none() && knows(peer, line.open.remote);
        self.has_link_with(peer.client) || self.links().any(direct)
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

    /// Whether a connection from there may come before the door, in another one's place if need be.
    fn admit(&mut self, now: Instant, ip: IpAddr) -> bool {
        match self.door.receive(ip, now) {
            Admission::Yes => true,
            Admission::No => false,
            Admission::Displace => {
                let from = Prefix::of(ip);
                let same = |line: &Line| {
                    line.stage != Stage::Linked
                        && line.relayed.is_none()
                        && Prefix::of(line.open.remote.ip()) == from
                };
                let waiting = self.lines.iter().filter(|(_, line)| same(line));
                let oldest = waiting.min_by_key(|(_, line)| (line.stage, line.since)).map(|(conn, _)| *conn);
                if let Some(oldest) = oldest {
                    self.close(now, oldest, Closing::Abort);
                }
                // The door has counted the newcomer already.
                true
            }
        }
    }
}
