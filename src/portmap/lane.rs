//! One protocol on one way: what was asked, what stands, what comes next.

use super::epoch::Epoch;
use super::{Command, Finding, Output, Protocol, Purpose, Way, natpmp, pcp};
use crate::endpoint::Endpoint;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

/// The wait for a first answer, doubled with each request: RFC 6886 begins so; RFC 6887's three seconds are made for servers
/// across a provider's network, and ours is the next hop.
pub(super) const FIRST_WAIT: Duration = Duration::from_millis(250);
/// The longest wait between two requests.
const MAX_WAIT: Duration = Duration::from_secs(4);
/// Requests before silence counts as one: 250 ms, 500 ms, … 4 s, some twelve seconds in all. The RFCs go on for minutes, for
/// hosts that have nothing else.
const TRIES: u32 = 6;
/// Requests for an end. Who ends has a second.
const END_TRIES: u32 = 3;
/// How long UPnP may take, a search included: its library has time-outs of its own, and this is beyond them.
const UPNP_TIME: Duration = Duration::from_secs(60);
/// The pause after a refusal or silence: the router may be replaced, or told to allow it.
pub(super) const REST: Duration = Duration::from_secs(5 * 60);
/// The longest rest that a gateway can impose.
const MAX_REST: Duration = Duration::from_secs(30 * 60);
/// Between two renewals, whatever short lifetime a gateway gives.
pub(super) const RENEW_MIN: Duration = Duration::from_secs(2);
/// A mapping without end is looked after as often as others.
const NO_END: Duration = super::LIFETIME;
/// A day, for a gateway that says for ever (RFC 6887, section 15, has the same).
const MAX_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// A mapping that stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) external: Endpoint,
    renew_at: Instant,
    /// `None`: until it is removed.
    expires: Option<Instant>,
}

/// ```text
///  Resting ──▶ Asking ──▶ Held          any ──▶ Leaving ──▶ Over
///     ▲          │ ▲        │ half its time
///     └──────────┘ └────────┘
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Begins at that moment, if it is still of use; `None`: when it is.
    Resting { until: Option<Instant> },
    /// A request is out; what it renews stands as yet.
    Asking { tries: u32, next: Instant, held: Option<Held> },
    /// It stands.
    Held(Held),
    /// The removal is out.
    Leaving { tries: u32, next: Instant },
    /// Done.
    Over,
}

pub(super) struct Lane {
    pub(super) protocol: Protocol,
    /// `None` for UPnP, whose library finds its own.
    pub(super) way: Option<Way>,
    pub(super) state: State,
    pub(super) finding: Finding,
    pub(super) epoch: Option<Epoch>,
    nonce: pcp::Nonce,
    /// The last that was had: the same is asked for again.
    last: Option<SocketAddr>,
    /// The two answers that make one of NAT-PMP.
    outside: Option<Ipv4Addr>,
    granted: Option<(u16, u32)>,
}

impl Lane {
    pub(super) fn new(protocol: Protocol, way: Option<Way>, nonce: pcp::Nonce, until: Instant) -> Self {
        Self {
            protocol,
            way,
            state: State::Resting { until: Some(until) },
            finding: Finding::Open,
            epoch: None,
            nonce,
            last: None,
            outside: None,
            granted: None,
        }
    }

    pub(super) fn is_v6(&self) -> bool {
        self.way.is_some_and(|way| way.gateway.is_ipv6())
    }

    pub(super) const fn held(&self) -> Option<Held> {
        match self.state {
            State::Held(held) | State::Asking { held: Some(held), .. } => Some(held),
            State::Asking { held: None, .. }
            | State::Resting { .. }
            | State::Leaving { .. }
            | State::Over => None,
        }
    }

    /// When the lane wants attention, and why.
    pub(super) fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        match self.state {
            State::Resting { until } => until.map(|at| (at, "ask the router")),
            State::Asking { next, held, .. } => {
                let expires = held.and_then(|held| held.expires).unwrap_or(next);
                Some((next.min(expires), "ask the router again"))
            }
            State::Held(held) => Some((held.renew_at, "renew a mapping")),
            State::Leaving { next, .. } => Some((next, "ask again for the end of a mapping")),
            State::Over => None,
        }
    }

    /// Sends the first request, or the first of a renewal.
    pub(super) fn ask(&mut self, now: Instant, purpose: Purpose, out: &mut Vec<Output>) {
        let held = self.held();
        self.outside = None;
        self.granted = None;
        self.state = State::Asking { tries: 0, next: now, held };
        self.ask_again(now, purpose, out);
    }

    /// Sends the next request, or gives up for now.
    pub(super) fn ask_again(&mut self, now: Instant, purpose: Purpose, out: &mut Vec<Output>) {
        let State::Asking { tries, held, .. } = self.state else { return };
        let most = if self.protocol == Protocol::Upnp { 1 } else { TRIES };
        if tries >= most {
            self.unanswered(now);
            return;
        }
        self.request(purpose, out);
        let wait = match self.protocol {
            Protocol::Upnp => UPNP_TIME,
            Protocol::Pcp | Protocol::NatPmp => MAX_WAIT.min(FIRST_WAIT * 2_u32.pow(tries)),
        };
        self.state = State::Asking { tries: tries + 1, next: now + wait, held };
    }

    /// Nobody answers. What stands is renewed in half of what is left of its time.
    pub(super) fn unanswered(&mut self, now: Instant) {
        match self.held() {
            Some(held) => {
                let left = held.expires.map_or(NO_END, |at| at.saturating_duration_since(now));
                self.state = State::Held(Held { renew_at: now + (left / 2).max(RENEW_MIN), ..held });
            }
            None => self.rest(now, Finding::Silent, REST),
        }
    }

    /// Asks nothing for a while.
    pub(super) fn rest(&mut self, now: Instant, finding: Finding, pause: Duration) {
        if let (Some(way), Finding::Refused(why)) = (self.way, &finding) {
            log::debug!("{} at {}: {why}", self.protocol, way.gateway.ip());
        }
        self.finding = finding;
        self.state = State::Resting { until: Some(now + pause.clamp(REST, MAX_REST)) };
    }

    /// A mapping stands for `lifetime` seconds (0: until it is removed).
    pub(super) fn hold(&mut self, now: Instant, external: SocketAddr, lifetime: Option<u32>) {
        self.finding = Finding::Works;
        self.last = Some(external);
        let life = lifetime.map(|secs| Duration::from_secs(secs.into()).min(MAX_LIFETIME));
        self.state = State::Held(Held {
            external: external.into(),
            renew_at: now + (life.unwrap_or(NO_END) / 2).max(RENEW_MIN),
            expires: life.map(|life| now + life),
        });
    }

    /// Whether what stands has come to its end; it is forgotten then.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        let over = |held: Held| held.expires.is_some_and(|at| at <= now);
        match &mut self.state {
            State::Asking { held, .. } if held.is_some_and(over) => {
                *held = None;
                true
            }
            State::Asking { .. }
            | State::Held(_)
            | State::Resting { .. }
            | State::Leaving { .. }
            | State::Over => false,
        }
    }

    /// Begins to remove what stands, or may stand because its answer is on its way. Where nobody has answered anything yet,
    /// no answer is waited for either.
    pub(super) fn leave(&mut self, now: Instant, purpose: Purpose, out: &mut Vec<Output>) {
        let heard = matches!(self.finding, Finding::Works | Finding::Refused(_));
        match (self.state, purpose) {
            (State::Asking { held: None, .. }, Purpose::Map { .. }) if !heard => {
                self.remove(purpose, out);
                self.state = State::Over;
            }
            (State::Asking { .. } | State::Held(_), Purpose::Map { .. }) => {
                self.state = State::Leaving { tries: 0, next: now };
                self.leave_again(now, purpose, out);
            }
            (State::Leaving { .. }, _) => {}
            (State::Resting { .. } | State::Over | State::Asking { .. } | State::Held(_), _) => {
                self.state = State::Over;
            }
        }
    }

    pub(super) fn leave_again(&mut self, now: Instant, purpose: Purpose, out: &mut Vec<Output>) {
        let State::Leaving { tries, .. } = self.state else { return };
        let most = if self.protocol == Protocol::Upnp { 1 } else { END_TRIES };
        if tries >= most {
            self.state = State::Over;
            return;
        }
        self.remove(purpose, out);
        let wait = if self.protocol == Protocol::Upnp { UPNP_TIME } else { FIRST_WAIT };
        self.state = State::Leaving { tries: tries + 1, next: now + wait };
    }

    /// Half an answer of NAT-PMP came; the whole one, once both have.
    pub(super) fn collect(
        &mut self,
        outside: Option<Ipv4Addr>,
        granted: Option<(u16, u32)>,
    ) -> Option<(SocketAddr, u32)> {
        self.outside = outside.or(self.outside);
        self.granted = granted.or(self.granted);
        let (port, lifetime) = self.granted?;
        Some((SocketAddr::new(self.outside?.into(), port), lifetime))
    }

    /// Whether a reply with this nonce and internal port answers us.
    pub(super) fn is_ours(&self, nonce: pcp::Nonce, internal_port: u16, purpose: Purpose) -> bool {
        self.nonce == nonce && matches!(purpose, Purpose::Map { port, .. } if port == internal_port)
    }

    pub(super) fn has_nonce(&self, nonce: pcp::Nonce) -> bool {
        self.nonce == nonce
    }

    fn request(&self, purpose: Purpose, out: &mut Vec<Output>) {
        match purpose {
            Purpose::Map { port, lifetime } => {
                let lifetime = u32::try_from(lifetime.as_secs()).unwrap_or(u32::MAX);
                self.map(port, lifetime, out);
            }
            Purpose::Ask => match (self.protocol, self.way) {
                (Protocol::Pcp, Some(way)) => send(way, pcp::announce(way.local), out),
                (Protocol::NatPmp, Some(way)) => send(way, natpmp::address_request(), out),
                (Protocol::Upnp, _) => out.push(Output::Upnp(Command::Find)),
                (Protocol::Pcp | Protocol::NatPmp, None) => {}
            },
        }
    }

    fn map(&self, port: u16, lifetime: u32, out: &mut Vec<Output>) {
        let wanted = self.last.map_or(port, |last| last.port());
        match (self.protocol, self.way) {
            (Protocol::Pcp, Some(way)) => send(way, self.pcp(way, port, lifetime), out),
            (Protocol::NatPmp, Some(way)) => {
                send(way, natpmp::address_request(), out);
                send(way, natpmp::map_request(port, wanted, lifetime), out);
            }
            (Protocol::Upnp, _) => {
                out.push(Output::Upnp(Command::Map { port, external: wanted, lifetime }));
            }
            (Protocol::Pcp | Protocol::NatPmp, None) => {}
        }
    }

    /// Asks once for the end of the mapping.
    pub(super) fn remove(&self, purpose: Purpose, out: &mut Vec<Output>) {
        let Purpose::Map { port, .. } = purpose else { return };
        match (self.protocol, self.way) {
            (Protocol::Pcp, Some(way)) => send(way, self.pcp(way, port, 0), out),
            (Protocol::NatPmp, Some(way)) => send(way, natpmp::map_request(port, 0, 0), out),
            (Protocol::Upnp, _) => out.push(Output::Upnp(Command::Remove)),
            (Protocol::Pcp | Protocol::NatPmp, None) => {}
        }
    }

    fn pcp(&self, way: Way, internal_port: u16, lifetime: u32) -> Vec<u8> {
        // An end names nothing outside (RFC 6887, section 15.1).
        let external = if lifetime == 0 { None } else { self.last };
        let client = way.local;
        pcp::MapRequest { client, nonce: self.nonce, internal_port, external, lifetime }.to_bytes()
    }
}

fn send(way: Way, bytes: Vec<u8>, out: &mut Vec<Output>) {
    out.push(Output::Send { to: way.gateway, bytes });
}
