//! One local port that listens and connects at once.

use super::burst::{Aim, Allowance, Burst, Ground, Hit};
use super::lane::{Effort, Lane, State, first_dial};
use super::port::{Port, Step};
use super::schedule::{ATTEMPT_TIME, Duty, Reach, SYN_BUDGET};
use super::types::{Answer, Approach, Attempt, Event, Findings, Open, Origin, Output, Target};
use crate::app::{Closing, ConnId, ConnIds, Input, NetError, NetOp, Room};
use crate::endpoint::{Endpoint, Reach as Place};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Endpoints dialled at the same time, over all attempts. A ticket and an introduction give at most 40 together.
const MAX_LANES: usize = 64;

/// Bursts at the same time, those of a single SYN not counted. Each holds hundreds of sockets.
const MAX_BURSTS: usize = 2;

/// The head start of the endpoints that were seen, unless a round trip is longer.
const BURST_AFTER: Duration = Duration::from_millis(100);

/// One local port that listens and connects at once. See the [module](super).
pub struct Hole {
    room: Room,
    conns: ConnIds,
    port: Port,
    own: Vec<Endpoint>,
    efforts: Vec<Effort>,
    lanes: Vec<Lane>,
    bursts: Vec<Burst>,
    allowance: Allowance,
    outputs: VecDeque<Output>,
}

impl Hole {
    /// A closed hole whose connections belong to `room`.
    #[must_use]
    pub const fn new(room: Room) -> Self {
        Self {
            room,
            conns: ConnIds::new(room),
            port: Port::Closed,
            own: Vec::new(),
            efforts: Vec::new(),
            lanes: Vec::new(),
            bursts: Vec::new(),
            allowance: Allowance::new(),
            outputs: VecDeque::new(),
        }
    }

    /// Binds `port` (0: any) for IPv4, then the same one for IPv6. One family is enough.
    pub fn open(&mut self, port: u16) {
        let op = self.port.open(self.room, port);
        self.net(op);
    }

    /// Ends all attempts and closes the port. Connections that formed stay; none forms any more.
    pub fn close(&mut self) {
        self.efforts.clear();
        self.end_lanes(|_| true);
        self.end_bursts(|_| true);
        self.outputs.extend(self.port.close(self.room).map(Output::Net));
    }

    /// Tells which endpoints are our own, so that none of them is dialled: connecting a port to itself succeeds.
    pub fn set_own(&mut self, own: Vec<Endpoint>) {
        self.own = own;
    }

    /// The bound addresses.
    #[must_use]
    pub fn locals(&self) -> &[SocketAddr] {
        self.port.locals()
    }

    /// Dials `targets` for `attempt`: the peer's own addresses at once, observed ones when the approach says. Targets
    /// known to the attempt go on as they are; a repeated start renews the attempt's time and budget.
    pub fn start(&mut self, now: Instant, attempt: Attempt, approach: Approach, targets: &[Target]) {
        let known = self.efforts.iter().position(|effort| effort.attempt == attempt);
        let before = known.map(|index| self.efforts.swap_remove(index));
        let endpoints = before.as_ref().map_or(0, |effort| effort.findings.endpoints);
        // What is under way is yet to be met.
        let dials = u32::try_from(self.under_way(attempt)).unwrap_or(u32::MAX);
        let findings = Findings { endpoints, dials, ..Findings::default() };
        // An amendment does not say again how far the peer is.
        let rtt = approach.rtt.or(before.and_then(|effort| effort.approach.rtt));
        let approach = Approach { rtt, ..approach };
        self.efforts.push(Effort { attempt, approach, start: now, findings });
        for &target in targets {
            self.add(now, attempt, target);
        }
        self.handle_timeout(now);
    }

    fn add(&mut self, now: Instant, attempt: Attempt, target: Target) {
        let dialable = target.endpoint.port() != 0 && target.endpoint.reach() > Place::Nowhere;
        let bound = self.port.local_for(target.endpoint.addr()).is_some();
        let same = |lane: &&mut Lane| lane.attempt == attempt && lane.target.endpoint == target.endpoint;
        let effort = self.efforts.iter().find(|effort| effort.attempt == attempt);
        if let (Some(lane), Some(effort)) = (self.lanes.iter_mut().find(same), effort) {
            lane.renew(now, effort.approach, target);
            return;
        }
        if !dialable || !bound || self.own.contains(&target.endpoint) || self.lanes.len() >= MAX_LANES {
            return;
        }
        let Some(effort) = self.effort(attempt) else { return };
        effort.findings.endpoints += 1;
        let until = first_dial(now, effort.approach, target);
        self.lanes.push(Lane::new(attempt, target, until));
        self.event(Event::Trying { attempt, target });
    }

    /// Adds a burst to an attempt that was started, a little after observed endpoints are dialled: they may do. An aim that
    /// leaves the work to the peer makes us the holder.
    pub fn burst(&mut self, now: Instant, attempt: Attempt, aim: Aim) {
        let Some(effort) = self.effort(attempt) else { return };
        if aim.awaits_peer() {
            effort.approach.duty = Duty::Holder;
        }
        let Approach { begin_in, rtt, .. } = effort.approach;
        let begin = now.max(effort.start + begin_in + BURST_AFTER.max(rtt.unwrap_or_default()));
        let of_attempt = |burst: &&mut Burst| burst.attempt == attempt;
        if let Some(burst) = self.bursts.iter_mut().find(of_attempt)
            && (*burst.aim() == aim || burst.redirect(&aim))
        {
            return;
        }
        self.end_bursts(|burst| burst.attempt == attempt || burst.is_spent());
        let large = self.bursts.iter().filter(|burst| !burst.aim().is_one_syn()).count();
        if aim == Aim::Hold || !aim.is_one_syn() && large >= MAX_BURSTS {
            return;
        }
        log::info!("attempt={} {}", attempt.0, describe(&aim));
        self.bursts.push(Burst::new(attempt, aim, begin));
        self.handle_timeout(now);
    }

    fn end_bursts(&mut self, over: impl Fn(&Burst) -> bool) {
        for conn in self.bursts.iter().filter(|burst| over(burst)).flat_map(Burst::open) {
            self.outputs.push_back(Output::Net(NetOp::Close { conn, how: Closing::Abort }));
        }
        self.bursts.retain(|burst| !over(burst));
    }

    /// Gives up what is being dialled for `attempt`. Connections that formed stay.
    pub fn stop(&mut self, attempt: Attempt) {
        self.efforts.retain(|effort| effort.attempt != attempt);
        self.end_lanes(|lane| lane.attempt == attempt);
        self.end_bursts(|burst| burst.attempt == attempt);
    }

    /// Gives up the endpoints of `attempt` that are not among `targets`; the others go on undisturbed, for one of them may be
    /// about to link.
    pub fn narrow(&mut self, attempt: Attempt, targets: &[Target]) {
        let kept = |lane: &Lane| targets.iter().any(|target| target.endpoint == lane.target.endpoint);
        self.end_lanes(|lane| lane.attempt == attempt && !kept(lane));
    }

    fn end_lanes(&mut self, over: impl Fn(&Lane) -> bool) {
        for conn in self.lanes.iter().filter(|lane| over(lane)).filter_map(Lane::dialling) {
            self.outputs.push_back(Output::Net(NetOp::Close { conn, how: Closing::Abort }));
        }
        self.lanes.retain(|lane| !over(lane));
    }

    /// Whether `attempt` is going on.
    #[must_use]
    pub fn is_trying(&self, attempt: Attempt) -> bool {
        self.tries_until(attempt).is_some()
    }

    /// When `attempt` ends, if it is going on.
    #[must_use]
    pub fn tries_until(&self, attempt: Attempt) -> Option<Instant> {
        let effort = self.efforts.iter().find(|effort| effort.attempt == attempt);
        effort.map(|effort| effort.start + ATTEMPT_TIME)
    }

    /// The endpoints that are dialled for `attempt`, and what became of that so far.
    pub fn answers(&self, attempt: Attempt) -> impl Iterator<Item = (Endpoint, Answer)> + '_ {
        let lanes = self.lanes.iter().filter(move |lane| lane.attempt == attempt);
        lanes.map(|lane| (lane.target.endpoint, lane.answer()))
    }

    /// Whether any attempt is going on.
    #[must_use]
    pub const fn is_idle(&self) -> bool {
        self.efforts.is_empty()
    }

    /// Tells that the owner closed `conn`, or that it ended: its endpoint may be dialled again.
    pub fn released(&mut self, now: Instant, conn: ConnId) {
        self.bursts.iter_mut().for_each(|burst| burst.released(conn));
        for lane in &mut self.lanes {
            if matches!(lane.state, State::Connected { conn: ours } if ours == conn) {
                let start =
                    self.efforts.iter().find(|effort| effort.attempt == lane.attempt).map(|e| e.start);
                lane.released(now, start.unwrap_or(now));
            }
        }
    }

    /// Takes an input of the hole's room. `Received`, `Backlogged`, `Drained` and `Closed` of open connections are
    /// the owner's.
    pub fn handle_input(&mut self, now: Instant, input: &Input<'_>) {
        match *input {
            Input::Listening { local, .. } => {
                let step = self.port.bound(self.room, local);
                self.take_step(step);
            }
            Input::ListenFailed { addr, error, .. } => {
                let step = self.port.not_bound(self.room, addr, error);
                self.take_step(step);
            }
            Input::Accepted { conn, local, remote, .. } => self.formed(conn, local, remote, false),
            Input::Connected { conn, local, remote } => self.formed(conn, local, remote, true),
            Input::ConnectFailed { conn, error } => self.failed(now, conn, error),
            Input::Closed { conn, .. } => self.released(now, conn),
            Input::Received { .. }
            | Input::Backlogged { .. }
            | Input::Drained { .. }
            | Input::Interrupted => {}
        }
    }

    /// Takes the passing of time.
    pub fn handle_timeout(&mut self, now: Instant) {
        let over = |effort: &&Effort| effort.start + ATTEMPT_TIME <= now;
        while let Some(effort) = self.efforts.iter().find(over) {
            let (attempt, findings) = (effort.attempt, effort.findings);
            self.stop(attempt);
            self.event(Event::Exhausted { attempt, findings });
        }
        for index in 0..self.lanes.len() {
            if let State::Waiting { until, reach } = self.lanes[index].state
                && until <= now
            {
                self.dial(now, index, reach);
            }
        }
        self.advance_bursts(now);
    }

    fn advance_bursts(&mut self, now: Instant) {
        for burst in &mut self.bursts {
            let Some(from) = burst.from(&self.port) else { continue };
            let effort = self.efforts.iter_mut().find(|effort| effort.attempt == burst.attempt);
            let rtt = effort.as_ref().and_then(|effort| effort.approach.rtt);
            let outputs = &mut self.outputs;
            let ask = |op| outputs.push_back(Output::Net(op));
            let ground = Ground { from, rtt, allowance: &mut self.allowance };
            let sent = burst.handle_timeout(now, ground, &mut self.conns, ask);
            if let Some(effort) = effort {
                effort.findings.dials += sent;
            }
        }
    }

    /// The next output, until `None`.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When the hole wants `handle_timeout`, and why.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let lanes = self.lanes.iter().filter_map(|lane| match lane.state {
            State::Waiting { until, .. } if self.may_dial(lane) => Some((until, "the next SYN")),
            State::Waiting { .. } | State::Dialling { .. } | State::Connected { .. } => None,
        });
        let bursts = self.bursts.iter().filter_map(|burst| {
            burst.from(&self.port)?;
            burst.poll_timeout().map(|at| (at, "the next SYNs of a burst"))
        });
        let ends = self.efforts.iter().map(|effort| (effort.start + ATTEMPT_TIME, "the end of a punch"));
        lanes.chain(bursts).chain(ends).min_by_key(|(at, _)| *at)
    }

    fn take_step(&mut self, step: Step) {
        match step {
            Step::Ask(op) => self.net(op),
            Step::Opened(locals) => self.event(Event::Opened { locals }),
            Step::Failed(addr, error) => self.event(Event::Failed { addr, error }),
            Step::Nothing => {}
        }
    }

    fn effort(&mut self, attempt: Attempt) -> Option<&mut Effort> {
        self.efforts.iter_mut().find(|effort| effort.attempt == attempt)
    }

    /// How many connects of an attempt are under way.
    fn under_way(&self, attempt: Attempt) -> usize {
        let lanes = self.lanes.iter().filter(|lane| lane.attempt == attempt);
        let bursts = self.bursts.iter().filter(|burst| burst.attempt == attempt);
        lanes.filter_map(Lane::dialling).count() + bursts.map(|burst| burst.open().count()).sum::<usize>()
    }

    fn may_dial(&self, lane: &Lane) -> bool {
        lane.dials < SYN_BUDGET && self.is_trying(lane.attempt)
    }

    fn dial(&mut self, now: Instant, index: usize, reach: Reach) {
        if !self.may_dial(&self.lanes[index]) {
            return;
        }
        let (attempt, to) = (self.lanes[index].attempt, self.lanes[index].target.endpoint.addr());
        let same = |lane: &Lane| lane.target.endpoint.addr() == to;
        let taken = self.lanes.iter().any(|lane| same(lane) && !lane.is_waiting());
        let (Some(from), false) = (self.port.local_for(to), taken) else {
            self.lanes[index].postpone(now, reach);
            return;
        };
        let Some(effort) = self.efforts.iter_mut().find(|effort| effort.attempt == attempt) else { return };
        effort.findings.dials += 1;
        let conn = self.conns.allocate();
        self.lanes[index].dialled(now, conn, reach);
        let from = Some(from);
        self.net(match reach {
            Reach::Full => NetOp::Connect { conn, from, to },
            Reach::Hops(hops) => NetOp::Knock { conn, from, to, hops },
        });
    }

    fn formed(&mut self, conn: ConnId, local: SocketAddr, remote: SocketAddr, dialled: bool) {
        if self.port.is_closed() {
            // On its way when the port was closed. By FIN: goodbyes of others may still go through the same mapping.
            return self.net(NetOp::Close { conn, how: Closing::Flush });
        }
        let (local, remote) = (Endpoint::new(local), Endpoint::new(remote));
        let hit = self.bursts.iter_mut().find_map(|burst| Some((burst.attempt, burst.formed(conn)?)));
        if let Some((attempt, _)) = hit {
            self.count_connected(attempt);
        }
        if matches!(hit, Some((_, Hit::Surplus))) {
            // By FIN: an RST could close mappings of the others.
            return self.net(NetOp::Close { conn, how: Closing::Flush });
        }
        let of_burst = hit.map(|(attempt, _)| attempt);
        let at = |lane: &&Lane| lane.target.endpoint == remote;
        // Two attempts may name one endpoint; the one whose socket this is goes first.
        let lane =
            self.lanes.iter().find(|lane| lane.dialling() == Some(conn)).or(self.lanes.iter().find(at));
        let (attempt, origin) = match (of_burst, lane) {
            (Some(attempt), _) => (Some(attempt), Some(Origin::Predicted)),
            (None, Some(lane)) => (Some(lane.attempt), Some(lane.target.origin)),
            (None, None) => {
                let opener = self.bursts.iter().find(|burst| burst.opened_way_for(remote.addr()));
                (opener.map(|burst| burst.attempt), opener.map(|_| Origin::Predicted))
            }
        };
        // A fan's socket has another local port: the lane to the same endpoint goes on.
        if of_burst.is_none() {
            let mut reached = Vec::new();
            for lane in self.lanes.iter_mut().filter(|lane| lane.target.endpoint == remote) {
                if let Some(ours) = lane.dialling() {
                    reached.push(lane.attempt);
                    if ours != conn {
                        self.outputs.push_back(Output::Net(NetOp::Close { conn: ours, how: Closing::Abort }));
                    }
                }
                lane.state = State::Connected { conn };
            }
            reached.into_iter().for_each(|attempt| self.count_connected(attempt));
        }
        let of_hole = self.port.local_for(remote.addr()).is_some_and(|own| own.port() == local.port());
        if matches!(hit, Some((_, Hit::Good))) && of_hole {
            self.keep_hit(attempt, conn, remote);
        }
        self.event(Event::Open(Open { conn, local, remote, attempt, origin, dialled }));
    }

    fn count_connected(&mut self, attempt: Attempt) {
        if let Some(effort) = self.effort(attempt) {
            effort.findings.connected += 1;
        }
    }

    /// What a sweep found is dialled again if it is lost, as what was seen is: the sweep itself is over by then.
    fn keep_hit(&mut self, attempt: Option<Attempt>, conn: ConnId, endpoint: Endpoint) {
        let known = self.lanes.iter().any(|lane| lane.target.endpoint == endpoint);
        if let Some(attempt) = attempt.filter(|_| !known && self.lanes.len() < MAX_LANES) {
            self.lanes.push(Lane::found(attempt, endpoint, conn));
        }
    }

    fn failed(&mut self, now: Instant, conn: ConnId, error: NetError) {
        let of_burst =
            self.bursts.iter_mut().find_map(|burst| burst.failed(now, conn, error).then_some(burst.attempt));
        let lane = self.lanes.iter_mut().find(|lane| lane.dialling() == Some(conn));
        let Some(attempt) = of_burst.or(lane.as_ref().map(|lane| lane.attempt)) else { return };
        let Some(effort) = self.efforts.iter_mut().find(|effort| effort.attempt == attempt) else { return };
        effort.findings.count(error);
        if let Some(lane) = lane {
            lane.failed(now, effort, error);
        }
    }

    fn net(&mut self, op: NetOp) {
        self.outputs.push_back(Output::Net(op));
    }

    fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }
}

/// For the log: bursts are many SYNs, and whoever runs the network may wonder.
fn describe(aim: &Aim) -> String {
    match aim {
        Aim::Sweep { ports, .. } if ports.is_empty() => "dialling what was seen from a fresh port".to_owned(),
        Aim::Sweep { ports, rounds, .. } => format!("sweeping {} ports, {rounds} times at most", ports.len()),
        Aim::Fan { .. } => format!("opening {} ports towards one", super::burst::FAN),
        Aim::Hold => "waiting for the peer's sweep".to_owned(),
    }
}
