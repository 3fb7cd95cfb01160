//! NATs that are known, and what is said of them.

use super::*;
use Allocation::{Preserving, Random, Sequential};
use SeenBy::{Alternate, Assist, Main};
use std::net::SocketAddr;

const HOLE: u16 = 700;

/// What the daemon sees of a connection from `local_port`, at `port` of the client's NAT.
fn seen(seen_by: SeenBy, local_port: u16, port: u16) -> Observation {
    let endpoint = SocketAddr::from(([203, 0, 113, 1], port)).into();
    Observation { seen_by, local_port, endpoint, hole: false, own: false }
}

fn seen_v6(seen_by: SeenBy, port: u16) -> Observation {
    let endpoint = format!("[2001:db8::1]:{port}").parse::<SocketAddr>().unwrap().into();
    Observation { seen_by, local_port: port, endpoint, hole: false, own: true }
}

fn verdict(all: &[Observation]) -> (Mapping, Allocation) {
    let verdict = classify(all, Family::V4);
    (verdict.mapping, verdict.allocation)
}

#[test]
fn the_mapping_is_named_for_what_was_measured() {
    let cases: [(&[Observation], Mapping); 9] = [
        (&[], Mapping::Unknown(Missing::Everything)),
        (&[seen(Assist, HOLE, 9000)], Mapping::Unknown(Missing::Everything)),
        // Two local ports tell nothing of either.
        (&[seen(Assist, HOLE, 9000), seen(Main, 701, 9001)], Mapping::Unknown(Missing::Everything)),
        (&[seen(Assist, HOLE, 9000), seen(Main, HOLE, 9000)], Mapping::Unknown(Missing::Address)),
        (&[seen(Assist, HOLE, 9000), seen(Main, HOLE, 9001)], Mapping::AddressAndPortDependent),
        (
            &[seen(Assist, HOLE, 9000), seen(Main, HOLE, 9000), seen(Alternate, HOLE, 9000)],
            Mapping::EndpointIndependent,
        ),
        (
            &[seen(Assist, HOLE, 9000), seen(Main, HOLE, 9000), seen(Alternate, HOLE, 9005)],
            Mapping::AddressDependent,
        ),
        // Each finding from another local port.
        (
            &[
                seen(Assist, HOLE, 9000),
                seen(Main, HOLE, 9000),
                seen(Assist, 701, 9001),
                seen(Alternate, 701, 9002),
            ],
            Mapping::AddressDependent,
        ),
        (&[seen(Assist, HOLE, 9000), seen(Alternate, HOLE, 9005)], Mapping::Unknown(Missing::Port)),
    ];
    for (observed, mapping) in cases {
        assert_eq!(verdict(observed).0, mapping, "{observed:?}");
    }
}

#[test]
fn a_nat_that_forgot_is_judged_by_the_latest_mappings() {
    let observed =
        [seen(Assist, HOLE, 9000), seen(Main, HOLE, 9000), seen(Main, HOLE, 9100), seen(Assist, HOLE, 9100)];
    assert!(verdict(&observed).0.is_stable());
}

#[test]
fn a_host_that_is_seen_at_its_own_address_is_not_translated() {
    let plain = Observation { own: true, ..seen(Assist, HOLE, HOLE) };
    let all = [plain, Observation { seen_by: Main, ..plain }];
    assert_eq!(verdict(&all), (Mapping::NotTranslated, Preserving));
    let mixed = [plain, seen(Main, HOLE, 9000)];
    assert_eq!(verdict(&mixed).0, Mapping::AddressAndPortDependent);
}

#[test]
fn families_are_judged_apart() {
    let observed = [
        seen(Assist, HOLE, 9000),
        seen_v6(Assist, HOLE),
        seen(Main, HOLE, 9001),
        seen_v6(Main, HOLE),
        seen(Assist, 701, 9002),
    ];
    assert_eq!(verdict(&observed), (Mapping::AddressAndPortDependent, Sequential { step: 1 }));
    let v6 = classify(&observed, Family::V6);
    assert_eq!((v6.mapping, v6.allocation), (Mapping::NotTranslated, Preserving));
    assert_eq!(v6.public_ip, Some("2001:db8::1".parse().unwrap()));
    let v4 = classify(&observed, Family::V4);
    assert_eq!(next_ports(&v4, &observed, HOLE, 2), [9003, 9004]);
    assert_eq!(next_ports(&v6, &observed, HOLE, 2), [HOLE]);
}

/// What is seen of mappings with these pairs of local and external port, each from a connection of its own.
fn made(ports: &[(u16, u16)]) -> Vec<Observation> {
    ports.iter().map(|&(local, port)| seen(Assist, local, port)).collect()
}

#[test]
fn the_allocation_is_recognised() {
    let cases: [(&[(u16, u16)], Allocation); 14] = [
        (&[], Allocation::Unknown),
        (&[(1, 5000)], Allocation::Unknown),
        (&[(5000, 5000)], Preserving),
        (&[(5000, 5000), (5001, 5001), (5002, 5002)], Preserving),
        // Somebody else had the second.
        (&[(5000, 5000), (5001, 1024), (5002, 5002)], Preserving),
        (&[(1, 5000), (2, 5001)], Sequential { step: 1 }),
        (&[(1, 5000), (2, 5002), (3, 5004)], Sequential { step: 2 }),
        (&[(1, 5000), (2, 4997), (3, 4994)], Sequential { step: -3 }),
        // Other traffic in between.
        (&[(1, 5000), (2, 5006), (3, 5010), (4, 5018)], Sequential { step: 2 }),
        // The first two were made at one time and are seen in the wrong order.
        (&[(1, 5001), (2, 5000), (3, 5002), (4, 5003)], Sequential { step: 1 }),
        // Around the end of the range, here and in an allocator of its own range.
        (&[(1, 65_534), (2, 65_535), (3, 1024), (4, 1025)], Sequential { step: 1 }),
        (&[(1, 49_999), (2, 50_000), (3, 30_000), (4, 30_001)], Sequential { step: 1 }),
        (&[(1, 5000), (2, 51_000)], Random),
        (&[(1, 5000), (2, 51_000), (3, 20_000), (4, 20_007)], Random),
    ];
    for (ports, allocation) in cases {
        assert_eq!(verdict(&made(ports)).1, allocation, "{ports:?}");
    }
}

#[test]
fn a_nat_that_preserves_only_the_first_mapping_of_a_port_is_judged_by_the_others() {
    let observed = [
        seen(Assist, 700, 700),
        seen(Main, 700, 30_001),
        seen(Assist, 800, 800),
        seen(Alternate, 800, 30_002),
        seen(Alternate, 700, 30_003),
    ];
    let verdict = classify(&observed, Family::V4);
    assert_eq!(verdict.mapping, Mapping::AddressAndPortDependent);
    assert_eq!(verdict.allocation, Sequential { step: 1 });
    assert_eq!(next_ports(&verdict, &observed, 700, 3), [30_004, 30_005, 30_006]);
}

#[test]
fn the_next_ports_are_named_most_likely_first() {
    type Case<'a> = (&'a [(u16, u16)], usize, &'a [u16]);
    let cases: [Case; 8] = [
        (&[(1, 5000), (2, 5001)], 4, &[5002, 5003, 5004, 5005]),
        (&[(1, 5001), (2, 5000)], 3, &[4999, 4998, 4997]),
        (&[(1, 5000), (2, 5002), (3, 5004)], 5, &[5006, 5008, 5005, 5010, 5012]),
        (&[(1, 5008), (2, 5004), (3, 5000)], 4, &[4996, 4992, 4998, 4988]),
        (&[(1, 65_533), (2, 65_534)], 4, &[65_535, 1024, 1025, 1026]),
        (&[(1, 1026), (2, 1025)], 3, &[1024, 65_535, 65_534]),
        (&[(5000, 5000), (5001, 5001)], 4, &[HOLE]),
        (&[(1, 5000), (2, 51_000)], 4, &[]),
    ];
    for (ports, window, expected) in cases {
        let observed = made(ports);
        let verdict = classify(&observed, Family::V4);
        assert_eq!(next_ports(&verdict, &observed, HOLE, window), expected, "{ports:?}");
    }
}

#[test]
fn ports_that_others_took_between_samples_are_named_among_the_next() {
    let observed = made(&[(1, 5000), (2, 5001), (3, 5004), (4, 5006)]);
    let verdict = classify(&observed, Family::V4);
    let ports = next_ports(&verdict, &observed, HOLE, 8);
    assert!([5002, 5003, 5005, 5007, 5008].iter().all(|port| ports.contains(port)), "{ports:?}");
    assert!(!ports.contains(&5001), "that one is ours: {ports:?}");
    assert_eq!(onward_ports(&verdict, &observed, 1, 3), [5007, 5008, 5009]);
    assert_eq!(onward_ports(&verdict, &observed, 2, 3), [5007, 5009, 5011]);
}

#[test]
fn one_mapping_that_is_seen_late_does_not_turn_the_direction() {
    let observed = made(&[(1, 5002), (2, 5004), (3, 5006), (4, 5000)]);
    let verdict = classify(&observed, Family::V4);
    assert_eq!(verdict.allocation, Sequential { step: 2 });
    assert!(next_ports(&verdict, &observed, HOLE, 4).contains(&5008));
}

#[test]
fn a_stable_mapping_is_the_one_that_is_known() {
    let observed =
        [seen(Assist, HOLE, 9000), seen(Main, HOLE, 9000), seen(Assist, 701, 9001), seen(Assist, 702, 9002)];
    let verdict = classify(&observed, Family::V4);
    assert_eq!(next_ports(&verdict, &observed, HOLE, 8), [9000]);
    assert_eq!(next_ports(&verdict, &observed, 703, 2), [9003, 9004], "a port that has no mapping yet");
}

#[test]
fn a_verdict_reads_like_a_sentence() {
    let observed = [seen(Assist, HOLE, 9000), seen(Main, HOLE, 9000), seen(Assist, 701, 9004)];
    assert_eq!(
        classify(&observed, Family::V4).to_string(),
        "IPv4: mapping independent of the port (of the address: not measured), ports in sequence, step 4, \
         seen as 203.0.113.1"
    );
    assert_eq!(classify(&observed, Family::V6).to_string(), "IPv6: not measured");
}

// --- any NAT ------------------------------------------------------------------------------------------------------

const FIRST: u16 = 1024;

/// The port after `port` in an allocator over the whole range.
fn step_from(port: u16, step: i32) -> u16 {
    let range = 65_536 - i32::from(FIRST);
    let at = (i32::from(port) - i32::from(FIRST) + step).rem_euclid(range) + i32::from(FIRST);
    u16::try_from(at).unwrap()
}

/// An allocator with a step and up to `noise` mappings of others between any two; what a client takes of it, and the
/// port that its next mapping gets.
fn sequential(rng: &mut fastrand::Rng, step: i32, noise: u32) -> (Vec<Observation>, u16) {
    let mut port = rng.u16(FIRST..);
    let mut next = |rng: &mut fastrand::Rng| {
        for _ in 0..=rng.u32(0..=noise) {
            port = step_from(port, step);
        }
        port
    };
    let mut observed =
        vec![seen(Assist, HOLE, next(rng)), seen(Main, HOLE, next(rng)), seen(Main, 50_001, next(rng))];
    for local_port in 50_002..50_004 {
        observed.push(seen(Assist, local_port, next(rng)));
    }
    (observed, next(rng))
}

#[test]
fn any_sequential_allocator_is_found_and_its_next_port_is_among_those_named() {
    for seed in 0..20_000 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let step = if rng.bool() { rng.i32(1..=8) } else { -rng.i32(1..=8) };
        let noise = rng.u32(0..4);
        let (observed, next) = sequential(&mut rng, step, noise);
        let verdict = classify(&observed, Family::V4);
        let Sequential { step: found } = verdict.allocation else {
            // A port that happens to be preserved leaves the sequence short.
            assert!(observed.iter().any(|seen| seen.local_port == seen.endpoint.port()), "seed {seed}");
            continue;
        };
        assert_eq!(found.signum(), step.signum(), "seed {seed}");
        assert_eq!(found % step, 0, "seed {seed}: found {found} of {step}");
        if noise == 0 {
            assert_eq!(found, step, "seed {seed}");
        }
        let ports = next_ports(&verdict, &observed, HOLE, MAX_WINDOW);
        assert!(ports.contains(&next), "seed {seed}: {next} is not in {ports:?} after {observed:?}");
    }
}

#[test]
fn random_ports_are_seldom_taken_for_a_sequence() {
    let mistaken = (0..20_000)
        .filter(|seed| {
            let mut rng = fastrand::Rng::with_seed(*seed);
            let observed: Vec<Observation> = (0..5).map(|n| seen(Assist, n, rng.u16(FIRST..))).collect();
            verdict(&observed).1 != Random
        })
        .count();
    assert!(mistaken <= 2, "{mistaken} of 20,000");
}

#[test]
fn whatever_was_seen_the_named_ports_are_few_and_different() {
    for seed in 0..20_000 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let observed: Vec<Observation> = (0..rng.usize(0..16))
            .map(|_| {
                let by = *rng.choice(&[Assist, Main, Alternate]).unwrap();
                let mut one = seen(by, rng.u16(0..4), rng.u16(..));
                if rng.bool() {
                    one = seen(by, rng.u16(0..4), rng.u16(0..300));
                }
                if rng.u8(..) < 64 { seen_v6(by, rng.u16(..)) } else { one }
            })
            .collect();
        for family in [Family::V4, Family::V6] {
            let verdict = classify(&observed, family);
            let window = rng.usize(0..100);
            let ports = next_ports(&verdict, &observed, rng.u16(0..4), window);
            assert!(ports.len() <= window.min(MAX_WINDOW), "seed {seed}");
            let mut distinct = ports.clone();
            distinct.sort_unstable();
            distinct.dedup();
            assert_eq!(distinct.len(), ports.len(), "seed {seed}: {ports:?}");
            let _ = verdict.to_string();
        }
    }
}
