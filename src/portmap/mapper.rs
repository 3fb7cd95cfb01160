//! What is asked of whom, and when.

use super::epoch::Epoch;
use super::lane::{Lane, REST, State};
use super::{Answer, Config, Finding, Input, Mapping, Output, Protocol, Purpose, is_public, natpmp, pcp};
use crate::app::soonest;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// The head start of PCP, whose server usually answers for the other protocols, too; one mapping is enough. A router
/// answers within milliseconds.
pub(super) const NEXT_AFTER: Duration = Duration::from_millis(200);

/// Between two renewals that broken links cause: a peer may break its links on purpose.
const RENEW_EVERY: Duration = Duration::from_secs(5);

/// What a mapping that another NAT makes useless is called.
const NOT_PUBLIC: &str = "its outside address is not public: another NAT stands beyond";

/// Asks for mappings and looks after them. See the [module](super).
pub struct Mapper {
    purpose: Purpose,
    lanes: Vec<Lane>,
    told: Vec<Mapping>,
    renewed_at: Option<Instant>,
    outputs: VecDeque<Output>,
}

impl Mapper {
    /// A mapper that begins at once.
    #[must_use]
    pub fn new(now: Instant, config: &Config) -> Self {
        let mut rng = fastrand::Rng::with_seed(config.seed);
        let mut nonce = || -> pcp::Nonce { std::array::from_fn(|_| rng.u8(..)) };
        // Who only asks wants to hear of all of them, and soon.
        let later = match config.purpose {
            Purpose::Map { .. } => now + NEXT_AFTER,
            Purpose::Ask => now,
        };
        let mut lanes = Vec::new();
        let wanted = |protocol| config.protocols.contains(&protocol);
        for way in config.v4.into_iter().chain(config.v6) {
            if wanted(Protocol::Pcp) {
                lanes.push(Lane::new(Protocol::Pcp, Some(way), nonce(), now));
            }
            if wanted(Protocol::NatPmp) && way.gateway.is_ipv4() {
                let begin = if wanted(Protocol::Pcp) { later } else { now };
                lanes.push(Lane::new(Protocol::NatPmp, Some(way), nonce(), begin));
            }
        }
        if config.upnp && wanted(Protocol::Upnp) {
            let begin = if lanes.iter().any(|lane| !lane.is_v6()) { later } else { now };
            lanes.push(Lane::new(Protocol::Upnp, None, nonce(), begin));
        }
        let (told, outputs) = (Vec::new(), VecDeque::new());
        let mut mapper = Self { purpose: config.purpose, lanes, told, renewed_at: None, outputs };
        mapper.handle_timeout(now);
        mapper
    }

    /// Takes what happened.
    pub fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        match input {
            Input::Datagram { from, bytes } => match bytes.first() {
                Some(&pcp::VERSION) => self.pcp(now, from, bytes),
                Some(&natpmp::VERSION) => self.nat_pmp(now, from, bytes),
                Some(_) | None => {}
            },
            Input::Unreachable { gateway } => self.unreachable(now, gateway),
            Input::Upnp(answer) => self.upnp(now, answer),
        }
        self.settle();
    }

    /// Takes the passing of time.
    pub fn handle_timeout(&mut self, now: Instant) {
        let mut lost = false;
        for index in 0..self.lanes.len() {
            lost |= self.lanes[index].expire(now);
            match self.lanes[index].state {
                State::Resting { until } if until.is_some_and(|at| at <= now) => self.begin(now, index),
                State::Asking { next, .. } if next <= now => {
                    self.with(index, |lane, purpose, out| lane.ask_again(now, purpose, out));
                    self.finish_asking(index);
                }
                State::Held(_) if self.is_due(now, index) => {
                    self.with(index, |lane, purpose, out| lane.ask(now, purpose, out));
                }
                State::Leaving { next, .. } if next <= now => {
                    self.with(index, |lane, purpose, out| lane.leave_again(now, purpose, out));
                }
                State::Resting { .. }
                | State::Asking { .. }
                | State::Held(_)
                | State::Leaving { .. }
                | State::Over => {}
            }
        }
        if lost {
            self.wake_others(now, NEXT_AFTER);
        }
        self.settle();
    }

    /// Asks at once whether everything still stands, and whoever said no again: a link broke in a way that a router which
    /// restarted would explain.
    pub fn renew(&mut self, now: Instant) {
        if self.renewed_at.is_some_and(|at| now < at + RENEW_EVERY) {
            return;
        }
        self.renewed_at = Some(now);
        for index in 0..self.lanes.len() {
            match &mut self.lanes[index].state {
                State::Held(_) => self.with(index, |lane, purpose, out| lane.ask(now, purpose, out)),
                State::Resting { until: until @ Some(_) } => *until = Some(now),
                State::Resting { until: None }
                | State::Asking { .. }
                | State::Leaving { .. }
                | State::Over => {}
            }
        }
        self.settle();
    }

    /// Removes everything. Until [`is_done`](Self::is_done), the verbs go on.
    pub fn end(&mut self, now: Instant) {
        for index in 0..self.lanes.len() {
            self.with(index, |lane, purpose, out| lane.leave(now, purpose, out));
        }
        self.settle();
    }

    /// The next output, until `None`.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When the mapper wants `handle_timeout`, and why.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        self.lanes.iter().fold(None, |earliest, lane| soonest(earliest, lane.poll_timeout()))
    }

    /// Whether nothing is left to be asked or removed.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.lanes.iter().all(|lane| lane.state == State::Over)
    }

    /// What became of a protocol; of one that is spoken on one way and not on another, the better.
    #[must_use]
    pub fn finding(&self, protocol: Protocol) -> Finding {
        let all = || self.lanes.iter().filter(|lane| lane.protocol == protocol).map(|lane| &lane.finding);
        all()
            .find(|finding| **finding == Finding::Works)
            .or_else(|| all().find(|finding| matches!(finding, Finding::Refused(_))))
            .or_else(|| all().next())
            .cloned()
            .unwrap_or_default()
    }

    /// Whether `protocol` can be asked for at all here.
    #[must_use]
    pub fn has(&self, protocol: Protocol) -> bool {
        self.lanes.iter().any(|lane| lane.protocol == protocol)
    }

    fn mappings(&self) -> Vec<Mapping> {
        let of = |lane: &Lane| {
            lane.held().map(|held| Mapping { protocol: lane.protocol, external: held.external })
        };
        self.lanes.iter().filter_map(of).collect()
    }

    /// Tells what stands, if it is not what was told before.
    fn settle(&mut self) {
        let standing = self.mappings();
        if standing != self.told {
            self.told.clone_from(&standing);
            self.outputs.push_back(Output::Changed(standing));
        }
    }

    fn with(&mut self, index: usize, act: impl FnOnce(&mut Lane, Purpose, &mut Vec<Output>)) {
        let mut out = Vec::new();
        act(&mut self.lanes[index], self.purpose, &mut out);
        self.outputs.extend(out);
    }

    /// A rest is over. One mapping for IPv4 is enough, so a lane beside one that holds goes on resting.
    fn begin(&mut self, now: Instant, index: usize) {
        let v6 = self.lanes[index].is_v6();
        let needless = !v6 && self.lanes.iter().any(|lane| !lane.is_v6() && lane.held().is_some());
        if needless {
            self.lanes[index].state = State::Resting { until: None };
        } else {
            self.with(index, |lane, purpose, out| lane.ask(now, purpose, out));
        }
    }

    fn is_due(&self, now: Instant, index: usize) -> bool {
        self.lanes[index].poll_timeout().is_some_and(|(at, _)| at <= now)
    }

    /// Has lanes that rest because another one held, or was about to, begin soon.
    fn wake_others(&mut self, now: Instant, pause: Duration) {
        for lane in self.lanes.iter_mut().filter(|lane| !lane.is_v6()) {
            let soon = now + pause;
            if let State::Resting { until } = &mut lane.state
                && (until.is_none() || lane.finding == Finding::Open)
            {
                *until = Some(until.map_or(soon, |at| at.min(soon)));
            }
        }
    }

    /// Who only asks is done with the first answer, or none.
    fn finish_asking(&mut self, index: usize) {
        if self.purpose == Purpose::Ask && matches!(self.lanes[index].state, State::Resting { .. }) {
            self.lanes[index].state = State::Over;
        }
    }

    /// A reply said no, or what cannot be used.
    fn refuse(&mut self, now: Instant, index: usize, why: &str, pause: Duration) {
        self.lanes[index].rest(now, Finding::Refused(why.to_owned()), pause);
        self.finish_asking(index);
        self.wake_others(now, Duration::ZERO);
    }

    /// A mapping came that stands for `lifetime` seconds, or without end.
    fn hold(&mut self, now: Instant, index: usize, external: SocketAddr, lifetime: Option<u32>) {
        if lifetime == Some(0) || external.port() == 0 {
            self.refuse(now, index, "it gives nothing", REST);
        } else if is_public(external.ip()) {
            self.lanes[index].hold(now, external, lifetime);
        } else {
            self.with(index, |lane, purpose, out| lane.remove(purpose, out));
            self.refuse(now, index, NOT_PUBLIC, REST);
        }
    }

    fn answered(&mut self, index: usize) {
        self.lanes[index].finding = Finding::Works;
        self.lanes[index].state = State::Over;
    }

    fn lane(&self, protocol: Protocol, from: SocketAddr) -> Option<usize> {
        // The zone of a link-local address is the socket's affair.
        let is_from = |gateway: SocketAddr| (gateway.ip(), gateway.port()) == (from.ip(), from.port());
        self.lanes
            .iter()
            .position(|lane| lane.protocol == protocol && lane.way.is_some_and(|way| is_from(way.gateway)))
    }

    fn is_asking(&self, index: usize) -> bool {
        matches!(self.lanes[index].state, State::Asking { .. })
    }

    fn pcp(&mut self, now: Instant, from: SocketAddr, bytes: &[u8]) {
        let (Some(index), Some(reply)) = (self.lane(Protocol::Pcp, from), pcp::parse(bytes)) else { return };
        let lane = &self.lanes[index];
        match reply {
            pcp::Reply::Mapped { nonce, internal_port, external, lifetime, epoch } => {
                if !lane.is_ours(nonce, internal_port, self.purpose) {
                    return;
                }
                self.tick(now, index, epoch);
                if matches!(self.lanes[index].state, State::Leaving { .. }) && lifetime == 0 {
                    self.lanes[index].state = State::Over;
                } else if self.is_asking(index) {
                    self.hold(now, index, external, Some(lifetime));
                }
            }
            pcp::Reply::Announced { .. } if self.purpose == Purpose::Ask && self.is_asking(index) => {
                self.answered(index);
            }
            // Nobody could tell it from what anybody on the network says, and the next renewal will find out.
            pcp::Reply::Announced { .. } => {}
            pcp::Reply::Refused { nonce, .. }
                if matches!(self.purpose, Purpose::Map { .. })
                    && nonce.is_some_and(|nonce| !lane.has_nonce(nonce)) => {}
            pcp::Reply::Refused { result, lifetime, .. } if self.is_asking(index) => {
                let pause = Duration::from_secs(lifetime.into());
                self.refuse(now, index, pcp::describe(result), pause);
            }
            pcp::Reply::Refused { .. } => self.left(index),
        }
    }

    fn nat_pmp(&mut self, now: Instant, from: SocketAddr, bytes: &[u8]) {
        let Some(reply) = natpmp::parse(bytes) else { return };
        // A router of before PCP answers the younger protocol in the older one.
        if let (natpmp::Reply::Refused { result: natpmp::UNSUPPORTED_VERSION }, Some(index)) =
            (reply, self.lane(Protocol::Pcp, from))
            && self.is_asking(index)
        {
            self.refuse(now, index, "the router speaks NAT-PMP only", REST);
            return;
        }
        let Some(index) = self.lane(Protocol::NatPmp, from) else { return };
        match reply {
            natpmp::Reply::Address { ip, epoch } => {
                self.tick(now, index, epoch);
                if !self.is_asking(index) {
                    return;
                }
                if self.purpose == Purpose::Ask {
                    self.answered(index);
                } else if let Some((external, lifetime)) = self.lanes[index].collect(Some(ip), None) {
                    self.hold(now, index, external, Some(lifetime));
                }
            }
            natpmp::Reply::Mapped { internal_port, external_port, lifetime, epoch } => {
                if !matches!(self.purpose, Purpose::Map { port, .. } if port == internal_port) {
                    return;
                }
                self.tick(now, index, epoch);
                if matches!(self.lanes[index].state, State::Leaving { .. }) && lifetime == 0 {
                    self.lanes[index].state = State::Over;
                } else if self.is_asking(index)
                    && let Some((external, lifetime)) =
                        self.lanes[index].collect(None, Some((external_port, lifetime)))
                {
                    self.hold(now, index, external, Some(lifetime));
                }
            }
            natpmp::Reply::Refused { result } if self.is_asking(index) => {
                self.refuse(now, index, natpmp::describe(result), REST);
            }
            natpmp::Reply::Refused { .. } => self.left(index),
        }
    }

    fn upnp(&mut self, now: Instant, answer: Answer) {
        let Some(index) = self.lanes.iter().position(|lane| lane.protocol == Protocol::Upnp) else { return };
        match answer {
            Answer::Removed => self.left(index),
            // The answer to a request from before the end; that of the removal follows.
            Answer::Found | Answer::Mapped { .. } | Answer::Failed { .. } if !self.is_asking(index) => {}
            Answer::Found if self.purpose == Purpose::Ask => self.answered(index),
            Answer::Found => self.lanes[index].finding = Finding::Works,
            Answer::Mapped { external, lifetime } => {
                self.hold(now, index, external, (lifetime != 0).then_some(lifetime));
            }
            Answer::Failed { why: Some(why) } => self.refuse(now, index, &why, REST),
            Answer::Failed { why: None } => {
                self.lanes[index].rest(now, Finding::Silent, REST);
                self.finish_asking(index);
            }
        }
    }

    fn unreachable(&mut self, now: Instant, gateway: SocketAddr) {
        for protocol in [Protocol::Pcp, Protocol::NatPmp] {
            let Some(index) = self.lane(protocol, gateway) else { continue };
            if self.is_asking(index) {
                self.lanes[index].unanswered(now);
                self.finish_asking(index);
                self.wake_others(now, Duration::ZERO);
            } else {
                self.left(index);
            }
        }
    }

    /// What was to be removed is, or cannot be.
    fn left(&mut self, index: usize) {
        if matches!(self.lanes[index].state, State::Leaving { .. }) {
            self.lanes[index].state = State::Over;
        }
    }

    /// Takes a reply's clock. A gateway that lost its memory has lost the others' mappings, too; the one that the reply is
    /// about has been made anew by its request.
    fn tick(&mut self, now: Instant, index: usize, epoch: u32) {
        let lane = &mut self.lanes[index];
        let Some(known) = &mut lane.epoch else {
            lane.epoch = Some(Epoch::new(epoch, now));
            return;
        };
        if known.advance(epoch, now) {
            return;
        }
        log::info!("the router has lost its mappings, by its clock; asking anew");
        for other in 0..self.lanes.len() {
            if other != index && self.lanes[other].held().is_some() {
                self.with(other, |lane, purpose, out| lane.ask(now, purpose, out));
            }
        }
    }
}
