//! The application of `punchcast check`: finds out what NATs stand before this host, and what will work through them.
//!
//! It logs in as the viewer of a rendezvous that nobody else knows, and leaves. It decides when enough is known; what
//! it means is for [`punchcast::nat`] and [`punchcast::policy`] to say.
//!
//! ```text
//!  hole port bound ─▶ log in ─┬▶ samples ─▶ hairpin: dial our own mapping ──────────────┐
//!                             ├▶ test of filtering ─▶ sample of the alternate address ──┼▶ Outcome::Report
//!                  (at once) ─┴▶ dial the daemon's IPv6 address ────────────────────────┘
//!                   the daemon cannot be reached ───────────────────────────────────────▶ Outcome::Unreachable
//! ```
//!
//! Only one address family is sampled, IPv4 where the daemon has it: a test of filtering does not tell which family it was made
//! in, and NATs are a matter of IPv4.

mod judge;
mod probe;
mod report;

pub use report::{Hairpin, Ipv6, Report, Vantage};

use crate::notice::refusal_words;
use probe::{NONCE_LEN, Probe};
use punchcast::app::{App, Closing, ConnId, ConnIds, Input, NetError, NetOp, Output, Room, soonest};
use punchcast::endpoint::Endpoint;
use punchcast::id::OwnerToken;
use punchcast::nat::{Filtering, Observation};
use punchcast::punch::{self, Hole};
use punchcast::rendezvous::agent::{self, Agent, Server};
use punchcast::wire::message::Role;
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// The rooms of the application.
const RENDEZVOUS: Room = Room(1);
const HOLE: Room = Room(2);
/// What is dialled to see whether it can be: ourselves from outside, the daemon over IPv6.
const PROBES: Room = Room(3);

/// When the report is made with what is known by then. A login, samples and a test of filtering, which takes the daemon 2 s where
/// nothing is let in, fit in twice.
pub const DEADLINE: Duration = Duration::from_secs(6);

/// Connections that the hole port keeps to see what they say. The daemon makes two, the hairpin is one.
const MAX_CALLERS: usize = 8;

/// What a check is made with.
#[derive(Clone, Debug)]
pub struct Config {
    /// The daemon's addresses, at least one.
    pub servers: Vec<Server>,
    /// This host's addresses, best first.
    pub local_ips: Vec<IpAddr>,
    /// Drawn for this check alone.
    pub owner: OwnerToken,
    /// From the system's randomness, as [`agent::Config::seed`].
    pub seed: u64,
}

/// How it ends.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The daemon was there.
    Report(Box<Report>),
    /// It was not, and nothing was found out.
    Unreachable {
        /// Whom we tried.
        server: SocketAddr,
        /// What went wrong, and what to do.
        why: String,
    },
}

/// The test of filtering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FilterTest {
    NotAsked,
    Asked,
    Done(Filtering),
}

/// See the [module](self).
pub struct Check {
    agent: Agent,
    hole: Hole,
    probes: ConnIds,
    servers: Vec<Server>,
    local_ips: Vec<IpAddr>,
    local: Vec<Endpoint>,
    /// How the daemon saw the hole port.
    mapping: Option<Observation>,
    /// What is wrong with the daemon's assist port.
    assist_trouble: Option<String>,
    filter: FilterTest,
    hairpin: Probe,
    ipv6: Probe,
    nonce: [u8; NONCE_LEN],
    callers: BTreeMap<ConnId, Vec<u8>>,
    was_logged_in: bool,
    refusal: Option<String>,
    failures: usize,
    deadline: Instant,
    ended: bool,
    outputs: VecDeque<Output<Outcome>>,
}

impl Check {
    /// A check that begins at once.
    ///
    /// # Panics
    ///
    /// When there is no server.
    #[must_use]
    pub fn new(now: Instant, config: Config) -> Self {
        let Config { servers: all, local_ips, owner, seed } = config;
        let (ipv4, ipv6): (Vec<Server>, Vec<Server>) =
            all.into_iter().partition(|server| server.main.is_ipv4());
        let ipv6_server = ipv6.first().map(|server| server.main).filter(|_| !ipv4.is_empty());
        let servers = if ipv4.is_empty() { ipv6 } else { ipv4 };
        assert!(!servers.is_empty(), "a check is made with a daemon");
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut agent = Agent::new(agent::Config {
            room: RENDEZVOUS,
            servers: servers.clone(),
            role: Role::Viewer,
            rendezvous: owner.rendezvous(),
            owner: Some(owner),
            seed,
            code_seed: None,
        });
        agent.withhold_alternate();
        let mut check = Self {
            agent,
            hole: Hole::new(HOLE),
            probes: ConnIds::new(PROBES),
            servers,
            local_ips,
            local: Vec::new(),
            mapping: None,
            assist_trouble: None,
            filter: FilterTest::NotAsked,
            hairpin: Probe::NotBegun,
            ipv6: Probe::NotBegun,
            nonce: rng.u128(..).to_be_bytes(),
            callers: BTreeMap::new(),
            was_logged_in: false,
            refusal: None,
            failures: 0,
            deadline: now + DEADLINE,
            ended: false,
            outputs: VecDeque::new(),
        };
        check.hole.open(0);
        if let Some(to) = ipv6_server {
            check.ipv6 = check.probe(now, to);
        }
        check.settle(now);
        check
    }

    fn settle(&mut self, now: Instant) {
        loop {
            if self.ended {
                return;
            }
            if let Some(output) = self.agent.poll_output() {
                match output {
                    agent::Output::Net(op) => self.net(op),
                    agent::Output::Event(event) => self.rendezvous_event(now, event),
                }
            } else if let Some(output) = self.hole.poll_output() {
                match output {
                    punch::Output::Net(op) => self.net(op),
                    punch::Output::Event(event) => self.hole_event(now, event),
                }
            } else if !self.go_on(now) {
                return;
            }
        }
    }

    /// Begins what can be begun by now, and ends when nothing is left to wait for. Whether something changed.
    fn go_on(&mut self, now: Instant) -> bool {
        let busy = |probe| matches!(probe, Probe::UnderWay { .. });
        let Some(mapping) = self.mapping else {
            // One try tells enough here: the login stands, so the daemon is there.
            if self.agent.is_logged_in() && self.agent.is_assist_refused() && !busy(self.ipv6) {
                self.assist_trouble = Some(NetError::Refused.to_string());
                self.report();
            }
            return false;
        };
        if self.filter == FilterTest::NotAsked && self.agent.test_filter() {
            self.filter = FilterTest::Asked;
            return true;
        }
        // Only then: the mapping that it makes would stand between those of the samples.
        if self.agent.is_sampling() {
            return false;
        }
        if self.hairpin == Probe::NotBegun && !mapping.own {
            self.hairpin = self.probe(now, mapping.endpoint.addr());
            return true;
        }
        let tested = matches!(self.filter, FilterTest::Done(_));
        if tested && !busy(self.hairpin) && !busy(self.ipv6) {
            self.report();
        }
        false
    }

    fn rendezvous_event(&mut self, now: Instant, event: agent::Event) {
        match event {
            agent::Event::LoggedIn { .. } => self.was_logged_in = true,
            agent::Event::Observed { observation } if observation.hole => {
                self.mapping = Some(observation);
            }
            agent::Event::Filtering { from_other_port, from_other_address } => {
                self.filtered(now, Filtering::judge(from_other_port, from_other_address));
            }
            // A test that the daemon does not make leaves filtering unmeasured.
            agent::Event::Refused { .. } if self.filter == FilterTest::Asked => {
                self.filtered(now, Filtering::judge(None, None));
            }
            agent::Event::Refused { reason, asked } => {
                self.refusal = Some(format!("the daemon refuses: {}", refusal_words(reason, asked)));
            }
            agent::Event::Unreachable { server, why, .. } => {
                self.failures += 1;
                if self.was_logged_in || self.failures >= self.servers.len() {
                    self.unreachable(server, &why);
                }
            }
            // Without the mapping there is nothing to measure.
            agent::Event::AssistUnreachable { why, .. } => {
                self.assist_trouble = Some(why);
                self.report();
            }
            agent::Event::Observed { .. }
            | agent::Event::PeerJoined { .. }
            | agent::Event::PeerLeft { .. }
            | agent::Event::Introduced { .. }
            | agent::Event::Amended { .. }
            | agent::Event::Code { .. }
            | agent::Event::NoCode { .. }
            | agent::Event::CodeUsed
            | agent::Event::WrongCode { .. } => {}
        }
    }

    /// Once strangers have been told apart, the alternate address need not be one any more.
    fn filtered(&mut self, now: Instant, filtering: Filtering) {
        self.filter = FilterTest::Done(filtering);
        self.agent.sample_alternate(now);
    }

    fn hole_event(&mut self, now: Instant, event: punch::Event) {
        match event {
            punch::Event::Opened { locals } => {
                let port_of = |ip: &IpAddr| {
                    locals.iter().find(|local| local.is_ipv4() == ip.is_ipv4()).map(SocketAddr::port)
                };
                let local = self.local_ips.iter();
                self.local =
                    local.filter_map(|ip| Some(Endpoint::new(SocketAddr::new(*ip, port_of(ip)?)))).collect();
                self.agent.start(now, &locals, self.local.clone());
            }
            punch::Event::Failed { addr, error } => {
                self.unreachable(addr, &format!("no local port can be had: {error}"));
            }
            // The daemon's knocks and the hairpin; the daemon closes its own.
            punch::Event::Open(open) if self.callers.len() < MAX_CALLERS => {
                self.callers.insert(open.conn, Vec::new());
            }
            punch::Event::Open(open) => self.net(NetOp::Close { conn: open.conn, how: Closing::Abort }),
            punch::Event::Trying { .. } | punch::Event::Exhausted { .. } => {}
        }
    }

    /// Ends with what is known by now.
    fn finish(&mut self) {
        if self.was_logged_in {
            self.report();
        } else {
            let server = self.servers[0].main;
            self.unreachable(server, &NetError::TimedOut.to_string());
        }
    }

    fn unreachable(&mut self, server: SocketAddr, why: &str) {
        let why = self.refusal.clone().unwrap_or_else(|| why.to_owned());
        self.end(Outcome::Unreachable { server, why });
    }

    fn end(&mut self, outcome: Outcome) {
        if self.ended {
            return;
        }
        self.ended = true;
        self.agent.stop();
        while let Some(output) = self.agent.poll_output() {
            if let agent::Output::Net(op) = output {
                self.net(op);
            }
        }
        self.outputs.push_back(Output::Notice(outcome));
        self.outputs.push_back(Output::Exit);
    }

    fn net(&mut self, op: NetOp) {
        self.outputs.push_back(Output::Net(op));
    }
}

impl App for Check {
    type Message = ();
    type Notice = Outcome;

    fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        if self.ended {
            return;
        }
        match input.room() {
            Some(RENDEZVOUS) => self.agent.handle_input(now, input),
            Some(HOLE) => self.hole_input(now, &input),
            Some(_) => self.probe_input(&input),
            None => self.finish(),
        }
        self.settle(now);
    }

    fn handle_message(&mut self, _now: Instant, _message: ()) {}

    fn handle_timeout(&mut self, now: Instant) {
        if self.ended {
            return;
        }
        self.agent.handle_timeout(now);
        self.hole.handle_timeout(now);
        if matches!(self.hairpin, Probe::UnderWay { until, .. } if until <= now) {
            self.finish_hairpin(false);
        }
        if let Probe::UnderWay { conn, until } = self.ipv6
            && until <= now
        {
            self.net(NetOp::Close { conn, how: Closing::Abort });
            self.ipv6 = Probe::Done { arrived: false };
        }
        self.settle(now);
        if self.deadline <= now {
            self.finish();
        }
    }

    fn poll_output(&mut self) -> Option<Output<Outcome>> {
        self.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        if self.ended {
            return None;
        }
        let probe = |probe, why| match probe {
            Probe::UnderWay { until, .. } => Some((until, why)),
            Probe::NotBegun | Probe::Done { .. } => None,
        };
        [
            self.agent.poll_timeout(),
            self.hole.poll_timeout(),
            probe(self.hairpin, "hairpin"),
            probe(self.ipv6, "IPv6 to the daemon"),
        ]
        .into_iter()
        .fold(Some((self.deadline, "the end of the check")), soonest)
    }
}

#[cfg(test)]
mod tests;
