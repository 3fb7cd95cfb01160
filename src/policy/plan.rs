//! What is tried beside the endpoints that were seen, from what both NATs are known to do.
//!
//! A verdict forbids nothing: seen endpoints are dialled whatever it says. It only adds a burst of SYNs where one may
//! find an endpoint that nobody has seen:
//!
//! | ours ↓ theirs → | stable | dependent, in sequence | dependent, random |
//! |---|---|---|---|
//! | stable | – | sweep of the next ports | sweep of random ports (birthday) |
//! | dependent, in sequence | hold (they sweep) | both sweep in step | – |
//! | dependent, random | fan (they sweep) | – | – (no TCP) |
//!
//! A NAT that keeps a port for the first destination alone counts as random: what it gives the next one has no pattern.

use crate::nat::{self, Allocation, Family, Mapping, Missing, Observation};
use crate::punch::Aim;
use crate::punch::burst::SWEEP_BUDGET;

/// Ports of a NAT that counts: as many as other traffic may take between the last sample and the punch.
const WINDOW: usize = 48;

/// The same when our own NAT counts, too, and each SYN takes one of our own ports. One side dials each port in turn and the other
/// each second one. If *a* ports of the one and *b* of the other went to others meanwhile, the *i*-th SYN of this side
/// goes from its port *b + i* to *2i*, and the *j*-th of that one from *a + j* to *j*: they meet for *i = a + b*. With
/// equal strides they would meet only for *a + b = 0*.
const BOTH_WINDOW: usize = 32;

/// How often that window is tried. The mappings stay, so all further rounds are for SYNs that were refused.
const BOTH_ROUNDS: u8 = 3;

/// How often a window is tried: what was refused once more each time, 300 ms apart, for a mapping that was not made yet.
const WINDOW_ROUNDS: u8 = 6;

/// The ports that NATs give away.
const PORTS: std::ops::RangeInclusive<u16> = 1024..=u16::MAX;

/// The burst that may help, given what the daemon saw of us and of the peer; `seed` chooses random ports, the same ones for the
/// same seed. `None` where none can, or too little is known yet. IPv4 only: where IPv6 is translated at all, it is by prefix.
#[must_use]
pub fn burst(own: &[Observation], peer: &[Observation], seed: u64) -> Option<Aim> {
    let ours = nat::classify(own, Family::V4);
    let theirs = nat::classify(peer, Family::V4);
    let hole = peer.iter().rev().find(|seen| seen.hole && seen.endpoint.addr().is_ipv4())?;
    if !is_measured(ours.mapping) || !is_measured(theirs.mapping) {
        return None;
    }
    match (ours.mapping.is_stable(), theirs.mapping.is_stable()) {
        (true, true) => None,
        (true, false) => {
            let (ports, rounds) = match theirs.allocation {
                Allocation::Random => (random_ports(seed), 1),
                // A port that is kept for one mapping is drawn for the next.
                Allocation::Preserving => {
                    (std::iter::once(hole.local_port).chain(random_ports(seed)).collect(), 1)
                }
                Allocation::Sequential { .. } | Allocation::Unknown => {
                    (nat::next_ports(&theirs, peer, hole.local_port, WINDOW), WINDOW_ROUNDS)
                }
            };
            sweep(hole, ports, rounds, false)
        }
        (false, true) => Some(match ours.allocation {
            Allocation::Random | Allocation::Preserving => Aim::Fan { to: hole.endpoint.addr() },
            Allocation::Sequential { .. } | Allocation::Unknown => Aim::Hold,
        }),
        (false, false) if !matches!(ours.allocation, Allocation::Sequential { .. }) => None,
        // A mapping that depends on the address alone is one for all our SYNs to the peer, or for all of its to us: the order
        // does not count.
        (false, false) if [ours.mapping, theirs.mapping].contains(&Mapping::AddressDependent) => {
            sweep(hole, nat::next_ports(&theirs, peer, hole.local_port, WINDOW), WINDOW_ROUNDS, false)
        }
        (false, false) => {
            let own_hole = own.iter().rev().find(|seen| seen.hole && seen.endpoint.addr().is_ipv4())?;
            let strides = if own_hole.endpoint.addr() < hole.endpoint.addr() { 1 } else { 2 };
            sweep(hole, nat::onward_ports(&theirs, peer, strides, BOTH_WINDOW), BOTH_ROUNDS, true)
        }
    }
}

fn sweep(hole: &Observation, ports: Vec<u16>, rounds: u8, in_step: bool) -> Option<Aim> {
    (!ports.is_empty()).then(|| Aim::Sweep { ip: hole.endpoint.ip(), ports, rounds, in_step })
}

fn is_measured(mapping: Mapping) -> bool {
    mapping != Mapping::Unknown(Missing::Everything)
}

fn random_ports(seed: u64) -> Vec<u16> {
    let mut ports = fastrand::Rng::with_seed(seed).choose_multiple(PORTS, SWEEP_BUDGET);
    // `choose_multiple` keeps much of the order; a sweep that goes upwards looks like a port scan and hits no sooner.
    fastrand::Rng::with_seed(!seed).shuffle(&mut ports);
    ports
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::nat::SeenBy;
    use std::net::SocketAddr;

    /// Samples of hole port 700 from the assist and main port, and of two fresh ports from the assist port.
    pub(in crate::policy) fn seen(ports: [u16; 4]) -> Vec<Observation> {
        let local = [700, 700, 9001, 9002];
        let by = [SeenBy::Assist, SeenBy::Main, SeenBy::Assist, SeenBy::Assist];
        (0..4)
            .map(|at| Observation {
                seen_by: by[at],
                local_port: local[at],
                endpoint: SocketAddr::from(([203, 0, 113, 9], ports[at])).into(),
                hole: at == 0,
                own: false,
            })
            .collect()
    }

    fn stable() -> Vec<Observation> {
        seen([700, 700, 9001, 9002])
    }

    fn counting() -> Vec<Observation> {
        seen([5000, 5001, 5002, 5003])
    }

    fn drawing() -> Vec<Observation> {
        seen([51_234, 2077, 33_801, 60_002])
    }

    #[test]
    fn two_stable_mappings_need_no_burst_and_two_random_ones_have_none() {
        assert_eq!(burst(&stable(), &stable(), 1), None);
        assert_eq!(burst(&drawing(), &drawing(), 1), None);
        assert_eq!(burst(&[], &drawing(), 1), None);
    }

    #[test]
    fn a_counting_nat_is_swept_from_its_next_port_on_and_sweeps_nobody() {
        let Some(Aim::Sweep { ports, rounds, .. }) = burst(&stable(), &counting(), 1) else {
            panic!("no sweep")
        };
        assert!(ports[..4].contains(&5004));
        assert!(ports.len() <= WINDOW && rounds > 1);
        assert_eq!(burst(&counting(), &stable(), 1), Some(Aim::Hold));
    }

    #[test]
    fn a_nat_that_keeps_a_port_once_is_met_by_birthday() {
        // The hole port is kept for the assist port, and drawn anew for the main one.
        let keeping = seen([700, 51_234, 9001, 9002]);
        let twice = [keeping, seen([700, 2077, 9001, 9002])].concat();
        assert!(matches!(burst(&twice, &stable(), 1), Some(Aim::Fan { .. })));
        let Some(Aim::Sweep { ports, .. }) = burst(&stable(), &twice, 1) else { panic!("no sweep") };
        assert!(ports.len() >= SWEEP_BUDGET);
    }

    /// *a* and *b* of the next ports of either side go to others before its sweep begins.
    #[test]
    fn two_counting_nats_meet_whatever_others_took_of_both() {
        let other = || {
            let mut other = counting();
            for (at, port) in (7000..).enumerate().take(4) {
                other[at].endpoint = SocketAddr::from(([203, 0, 113, 10], port)).into();
            }
            other
        };
        let ports_of = |aim| {
            let Some(Aim::Sweep { ports, in_step: true, .. }) = aim else { panic!("no sweep in step") };
            ports
        };
        let (ours, theirs) =
            (ports_of(burst(&counting(), &other(), 1)), ports_of(burst(&other(), &counting(), 1)));
        for a in 0..8u16 {
            for b in 0..8u16 {
                let sent = |to: &[u16], from: u16| {
                    to.iter().zip(from..).map(|(to, from)| (from, *to)).collect::<Vec<(u16, u16)>>()
                };
                let (out, back) = (sent(&ours, 5004 + a), sent(&theirs, 7004 + b));
                let meet = out.iter().any(|(from, to)| back.contains(&(*to, *from)));
                assert!(meet, "with {a} and {b} ports gone");
            }
        }
    }

    #[test]
    fn a_drawing_nat_fans_and_a_stable_one_sweeps_different_ports_once() {
        assert!(matches!(burst(&drawing(), &stable(), 1), Some(Aim::Fan { .. })));
        let Some(Aim::Sweep { mut ports, rounds: 1, .. }) = burst(&stable(), &drawing(), 1) else {
            panic!("no sweep")
        };
        assert_eq!(burst(&stable(), &drawing(), 1), burst(&stable(), &drawing(), 1));
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), SWEEP_BUDGET);
        assert!(ports.iter().all(|port| *port >= 1024));
    }
}
