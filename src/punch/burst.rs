//! Many connects at once, where nobody knows the one endpoint that works.
//!
//! - A **sweep** goes from our hole port to many ports of one address: the next ones of a NAT that counts, or random
//!   ones of a NAT that draws.
//! - A **fan** goes from many fresh local ports to the peer's one endpoint. Each gets a mapping of its own in a NAT
//!   that maps by destination, and the peer's sweep has as many chances to hit.
//!
//! Two sides meet by birthday: with a fan of 256 in 64,512 ports, a sweep of *n* hits with 1 − (1 − 256/64512)^n: half of all after
//! 174, all but three in ten thousand after [`SWEEP_BUDGET`]. A fan knocks: its SYNs open its own NAT and die before the peer's,
//! which could answer them with RST.
//!
//! Both are capped in number and pace, so no router's table is flooded, and neither is ever repeated blindly.

use super::port::Port;
use super::types::Attempt;
use crate::app::{ConnId, ConnIds, NetError, NetOp};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// SYNs of one sweep in all. Each is a session in two NATs for two minutes at most; home routers hold 4,000 and more.
pub const SWEEP_BUDGET: usize = 2048;

/// Sockets of a fan.
pub const FAN: usize = 256;

/// SYNs sent in one [`TICK`].
const PER_TICK: usize = 32;

/// The pace: 32 SYNs in 10 ms are 3,200 a second, 2 Mbit/s.
const TICK: Duration = Duration::from_millis(10);

/// Connects of one burst that may be under way: two bursts and the rest of the program stay below the 1,024 descriptors
/// that a program usually has. A hit is known after one round trip; older ones are given up.
const MAX_OPEN: usize = 400;

/// Times that one knock of a fan is renewed after a refusal.
const RENEWALS: usize = 3 * FAN;

/// SYNs of all bursts in [`ALLOWANCE_TIME`], whoever asks for them: a peer that is introduced again and again earns no
/// flood, and no router's table is filled by us.
pub const ALLOWANCE: usize = 2 * SWEEP_BUDGET;

/// How long a NAT keeps a session that came to nothing (nf_conntrack: 120 s).
pub const ALLOWANCE_TIME: Duration = Duration::from_secs(120);

/// Hits of one sweep that are kept. Over a long way a dozen come before the first has proven itself; at the peer's door they
/// would displace each other. The one that sweeps chooses, so that both keep the same.
const HITS: usize = 2;

/// The least time that a connect of a sweep is given.
const LEAST_TIME: Duration = Duration::from_millis(200);

/// What is left of [`ALLOWANCE`].
pub(super) struct Allowance {
    begin: Option<Instant>,
    used: usize,
}

impl Allowance {
    pub(super) const fn new() -> Self {
        Self { begin: None, used: 0 }
    }

    /// Takes one SYN; `false` when there is none left for now.
    fn take(&mut self, now: Instant) -> bool {
        if self.begin.is_none_or(|begin| begin + ALLOWANCE_TIME <= now) {
            *self = Self { begin: Some(now), used: 0 };
        }
        if self.used == ALLOWANCE {
            return false;
        }
        self.used += 1;
        if self.used == ALLOWANCE {
            log::warn!("{ALLOWANCE} SYNs of bursts are used up; no more for two minutes from the first");
        }
        true
    }
}

/// Where a burst starts from.
pub(super) struct Ground<'a> {
    /// The hole port's address.
    pub(super) from: SocketAddr,
    /// The longest that the way there and back can take, if known.
    pub(super) rtt: Option<Duration>,
    pub(super) allowance: &'a mut Allowance,
}

/// Where a burst goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Aim {
    /// From the hole port to these ports of one address, the likeliest first. Beyond [`SWEEP_BUDGET`] they are left
    /// out.
    Sweep {
        /// Where the peer was seen: its address is swept. The endpoint itself is dialled once from a fresh port, unless `in_step`. A
        /// NAT that filters by address at most lets that in, where it drops what comes from the hole port: its host dials that
        /// port through another mapping, and two sessions of one host with one endpoint cannot be told apart.
        seen: SocketAddr,
        /// Its ports.
        ports: Vec<u16>,
        /// How often all of them are tried, those left out that are still being dialled: their SYNs the kernel repeats, and a
        /// fresh one would be a stranger's to a NAT that has seen the first. More than once only for a few ports.
        rounds: u8,
        /// Whether each SYN takes a port of our own sequence, too, so that the order counts and stays what it was.
        in_step: bool,
    },
    /// From [`FAN`] fresh ports to the peer.
    Fan {
        /// The peer's endpoint.
        to: SocketAddr,
    },
    /// Nothing more than what was seen: the peer sweeps for the mapping that our SYN to it made, which therefore has to
    /// stay the same one.
    Hold,
}

impl Aim {
    /// Where the peer was seen.
    const fn toward(&self) -> Option<SocketAddr> {
        match self {
            Self::Sweep { seen, .. } => Some(*seen),
            Self::Fan { to } => Some(*to),
            Self::Hold => None,
        }
    }

    /// Whether it is no more than one SYN from a fresh port.
    pub(super) const fn is_one_syn(&self) -> bool {
        matches!(self, Self::Sweep { ports, .. } if ports.is_empty())
    }

    /// Whether the peer comes to us: our own SYNs only open our NAT.
    pub(super) const fn awaits_peer(&self) -> bool {
        match self {
            Self::Sweep { .. } => false,
            Self::Fan { .. } | Self::Hold => true,
        }
    }
}

/// A connect of a burst that led to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hit {
    /// It may become the link.
    Good,
    /// There are enough.
    Surplus,
}

pub(super) struct Burst {
    pub(super) attempt: Attempt,
    aim: Aim,
    /// What is still to be dialled.
    ahead: VecDeque<SocketAddr>,
    open: BTreeMap<ConnId, SocketAddr>,
    /// The same, oldest first; may name some that are gone.
    order: VecDeque<(ConnId, Instant)>,
    rounds_left: u8,
    renewals_left: usize,
    /// What is dialled once from a fresh port, before the rest.
    aside: Option<SocketAddr>,
    /// SYNs sent.
    spent: usize,
    /// Connections that formed and last.
    hits: Vec<ConnId>,
    next_at: Instant,
}

impl Burst {
    pub(super) fn new(attempt: Attempt, aim: Aim, begin: Instant) -> Self {
        let rounds_left = match aim {
            Aim::Sweep { rounds, .. } => rounds,
            Aim::Fan { .. } => 1,
            Aim::Hold => 0,
        };
        let aside = match aim {
            Aim::Sweep { seen, in_step: false, .. } => Some(seen),
            Aim::Sweep { .. } | Aim::Fan { .. } | Aim::Hold => None,
        };
        let mut burst = Self {
            attempt,
            aim,
            aside,
            ahead: VecDeque::new(),
            open: BTreeMap::new(),
            order: VecDeque::new(),
            rounds_left,
            renewals_left: RENEWALS,
            spent: 0,
            hits: Vec::new(),
            next_at: begin,
        };
        burst.load();
        burst
    }

    pub(super) const fn aim(&self) -> &Aim {
        &self.aim
    }

    /// The address of the hole port that it starts from, given those that are bound.
    pub(super) fn from(&self, port: &Port) -> Option<SocketAddr> {
        port.local_for(self.aim.toward()?)
    }

    /// Takes a better aim at the same peer. What is under way goes on: one of those connects may have been answered.
    /// `false` if it is not that.
    pub(super) fn redirect(&mut self, aim: &Aim) -> bool {
        let (
            Aim::Sweep { seen, in_step, .. },
            Aim::Sweep { seen: new_seen, ports, rounds, in_step: new_in_step },
        ) = (&self.aim, aim)
        else {
            return false;
        };
        if seen.ip() != new_seen.ip() || in_step != new_in_step {
            return false;
        }
        if *in_step {
            return true;
        }
        let open: BTreeSet<SocketAddr> = self.open.values().copied().collect();
        let wanted = ports.iter().map(|port| SocketAddr::new(new_seen.ip(), *port));
        let left = SWEEP_BUDGET.saturating_sub(self.spent);
        self.ahead = wanted.filter(|to| !open.contains(to)).take(left).collect();
        if self.aim.is_one_syn() {
            // What is ahead is the first round.
            self.rounds_left = rounds.saturating_sub(1);
        }
        self.aim = aim.clone();
        true
    }

    fn load(&mut self) {
        if self.rounds_left == 0 {
            return;
        }
        self.rounds_left -= 1;
        match &self.aim {
            Aim::Sweep { seen, ports, .. } => {
                let open: BTreeSet<SocketAddr> = self.open.values().copied().collect();
                let all = ports.iter().take(SWEEP_BUDGET).map(|port| SocketAddr::new(seen.ip(), *port));
                self.ahead.extend(all.filter(|to| !open.contains(to)));
            }
            Aim::Fan { to } => self.ahead.extend(std::iter::repeat_n(*to, FAN)),
            Aim::Hold => {}
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let more = self.aside.is_some() || !self.ahead.is_empty() || self.rounds_left > 0;
        more.then_some(self.next_at)
    }

    /// Sends the next few; how many.
    pub(super) fn handle_timeout(
        &mut self,
        now: Instant,
        ground: Ground<'_>,
        conns: &mut ConnIds,
        mut ask: impl FnMut(NetOp),
    ) -> u32 {
        if self.poll_timeout().is_none_or(|at| at > now) {
            return 0;
        }
        if self.ahead.is_empty() {
            self.load();
        }
        let patience = LEAST_TIME.max(ground.rtt.unwrap_or_default() * 3 / 2);
        let mut sent = 0;
        if let Some(to) = self.aside.take_if(|_| ground.allowance.take(now)) {
            let conn = conns.allocate();
            self.open.insert(conn, to);
            ask(NetOp::Connect { conn, from: None, to });
            sent += 1;
        }
        while sent < PER_TICK as u32
            && !self.ahead.is_empty()
            && self.make_room(now, patience, &mut ask)
            && ground.allowance.take(now)
            && let Some(to) = self.ahead.pop_front()
        {
            let conn = conns.allocate();
            self.open.insert(conn, to);
            self.order.push_back((conn, now));
            let from = Some(ground.from);
            ask(match self.aim {
                Aim::Sweep { .. } | Aim::Hold => NetOp::Connect { conn, from, to },
                Aim::Fan { .. } => NetOp::Knock { conn, from: None, to, hops: 1 },
            });
            sent += 1;
            self.spent += 1;
        }
        self.next_at = now + if self.ahead.is_empty() { ROUND.max(patience) } else { TICK };
        sent
    }

    /// Whether one more connect may be under way; gives up one that had its time, if need be.
    fn make_room(&mut self, now: Instant, patience: Duration, ask: &mut impl FnMut(NetOp)) -> bool {
        while self.open.len() >= MAX_OPEN {
            let Some(&(oldest, since)) = self.order.front() else { return false };
            if self.open.contains_key(&oldest) {
                if since + patience > now {
                    return false;
                }
                ask(NetOp::GiveUp { conn: oldest });
                self.open.remove(&oldest);
            }
            self.order.pop_front();
        }
        true
    }

    /// Whether nothing is under way and nothing will be.
    pub(super) fn is_spent(&self) -> bool {
        self.open.is_empty() && self.poll_timeout().is_none()
    }

    /// What a connection of this burst is; `None` if `conn` is none. The owner has it from here on.
    pub(super) fn formed(&mut self, conn: ConnId) -> Option<Hit> {
        self.open.remove(&conn)?;
        let sweeps = matches!(self.aim, Aim::Sweep { .. });
        if sweeps && self.hits.len() >= HITS {
            return Some(Hit::Surplus);
        }
        self.hits.push(conn);
        Some(Hit::Good)
    }

    /// A connection ended: another may take its place.
    pub(super) fn released(&mut self, conn: ConnId) {
        self.hits.retain(|hit| *hit != conn);
    }

    /// Whether `conn` was of this burst.
    pub(super) fn failed(&mut self, now: Instant, conn: ConnId, error: NetError) -> bool {
        let Some(to) = self.open.remove(&conn) else { return false };
        // A knock that was refused has lost its mapping; another one takes its place.
        if matches!(self.aim, Aim::Fan { .. }) && error == NetError::Refused && self.renewals_left > 0 {
            self.renewals_left -= 1;
            self.ahead.push_back(to);
            self.next_at = self.next_at.min(now + TICK);
        }
        true
    }

    /// Whether a connection from `remote` is this burst's doing, though none of its sockets made it: the peer's SYN came
    /// by the way that ours had opened, after we gave up waiting.
    pub(super) fn opened_way_for(&self, remote: SocketAddr) -> bool {
        match &self.aim {
            Aim::Sweep { seen, ports, .. } => remote.ip() == seen.ip() && ports.contains(&remote.port()),
            Aim::Fan { .. } | Aim::Hold => false,
        }
    }

    /// The connects under way.
    pub(super) fn open(&self) -> impl Iterator<Item = ConnId> + '_ {
        self.open.keys().copied()
    }
}

/// The least pause between two rounds of a small sweep. Refusals are for the next one, so it is longer where answers take
/// longer.
const ROUND: Duration = Duration::from_millis(300);
