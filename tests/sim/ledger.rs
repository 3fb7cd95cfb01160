//! Every SYN that left a host, and whether the sum keeps to what `docs/NAT.md` promises.
//!
//! The counts are the network's: no application is asked what it did. A SYN is known by its 4-tuple and initial
//! sequence number, so what a kernel sends again counts once.

use crate::net::HostId;
use crate::packet::{Body, Packet};
use punchcast::punch::burst::{ALLOWANCE, ALLOWANCE_TIME, SWEEP_BUDGET};
use punchcast::punch::schedule::{ATTEMPT_TIME, SYN_BUDGET};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// A SYN's first leaving.
#[derive(Clone, Copy, Debug)]
struct Syn {
    at: Duration,
    host: HostId,
    src: SocketAddr,
    dst: SocketAddr,
}

/// The SYNs of a world, in order.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    known: BTreeSet<(SocketAddr, SocketAddr, u32)>,
    syns: Vec<Syn>,
}

impl Ledger {
    /// A packet leaves a host.
    pub(crate) fn note(&mut self, now: Duration, host: HostId, packet: &Packet) {
        let Body::Tcp(segment) = &packet.body else { return };
        if segment.opens() && self.known.insert((packet.src, packet.dst, segment.seq)) {
            self.syns.push(Syn { at: now, host, src: packet.src, dst: packet.dst });
        }
    }

    /// What `host` did beyond its budgets, of what it sent to others than `daemon` from its `hole` port and others;
    /// `None` if it kept to them.
    pub(crate) fn breach(&self, host: HostId, daemon: &[IpAddr], hole: u16) -> Option<String> {
        let of_host = |syn: &&Syn| syn.host == host && !daemon.contains(&syn.dst.ip());
        let syns: Vec<Syn> = self.syns.iter().filter(of_host).copied().collect();
        let (from_hole, from_fresh): (Vec<Syn>, Vec<Syn>) =
            syns.iter().partition(|syn| syn.src.port() == hole);
        let mut lanes: BTreeMap<SocketAddr, Vec<Duration>> = BTreeMap::new();
        let mut ports: BTreeMap<IpAddr, BTreeSet<u16>> = BTreeMap::new();
        for syn in &from_hole {
            lanes.entry(syn.dst).or_default().push(syn.at);
            ports.entry(syn.dst.ip()).or_default().insert(syn.dst.port());
        }
        let all: Vec<Duration> = syns.iter().map(|syn| syn.at).collect();
        let fresh: Vec<Duration> = from_fresh.iter().map(|syn| syn.at).collect();
        let a_lane = lanes.values().map(|at| most(at, ATTEMPT_TIME)).max().unwrap_or(0);
        let swept = ports.values().map(BTreeSet::len).max().unwrap_or(0);
        let checks = [
            (
                "SYNs to one endpoint in an attempt's time",
                a_lane,
                INTRODUCTIONS * SYN_BUDGET as usize + ROUNDS,
            ),
            ("ports of one address from the hole port", swept, INTRODUCTIONS * SWEEP_BUDGET + SEEN),
            ("SYNs from fresh ports in two minutes", most(&fresh, ALLOWANCE_TIME), ALLOWANCE),
            (
                "SYNs in two minutes",
                most(&all, ALLOWANCE_TIME),
                ALLOWANCE + ATTEMPTS * SEEN * SYN_BUDGET as usize,
            ),
            ("SYNs in a tenth of a second", most(&all, TENTH), A_TENTH),
        ];
        let breach = checks.iter().find(|(_, count, limit)| count > limit)?;
        Some(format!("host {}: {} {} of at most {}", host.0, breach.1, breach.0, breach.2))
    }
}

/// The most moments that lie within one `span`.
fn most(sorted: &[Duration], span: Duration) -> usize {
    let mut begin = 0;
    let mut most = 0;
    for (end, at) in sorted.iter().enumerate() {
        while sorted[begin] + span <= *at {
            begin += 1;
        }
        most = most.max(end + 1 - begin);
    }
    most
}

/// Endpoints that an introduction of these tests names: one observed and one local, and those of a second one.
const SEEN: usize = 4;
/// A caster that is introduced again, after a link that broke or beside a relayed one, begins another attempt: each endpoint
/// has its budget anew, and there is another sweep or fan, but no third one within the allowance.
const INTRODUCTIONS: usize = 2;
/// A sweep may dial the endpoint that was seen, too: once in each of its rounds.
const ROUNDS: usize = 6;
/// Attempts in two minutes, one after the other.
const ATTEMPTS: usize = (ALLOWANCE_TIME.as_secs() / ATTEMPT_TIME.as_secs()) as usize;
const TENTH: Duration = Duration::from_millis(100);
/// Two bursts (a sweep and a fan, never more) of 32 SYNs in 10 ms, and the first SYNs to all that was seen; deadlines
/// fire up to a millisecond late, so that eleven ticks may fall into a tenth of a second.
const A_TENTH: usize = 2 * 32 * 11 + SEEN;

#[test]
fn what_is_sent_within_a_span_is_counted_wherever_it_begins() {
    let at = [0, 10, 95, 100, 104, 300].map(Duration::from_millis);
    assert_eq!(most(&at, TENTH), 4);
    assert_eq!(most(&at, Duration::from_millis(5)), 2);
    assert_eq!(most(&[], TENTH), 0);
}
