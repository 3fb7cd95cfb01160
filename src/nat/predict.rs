//! Which external ports a NAT is likely to give to the next mapping.

use super::classify::{Allocation, Verdict};
use super::observe::{Observation, mappings};

/// The most ports that are named. Each is a SYN: the chance of the sixty-fifth is not worth the flood.
pub const MAX_WINDOW: usize = 64;

/// The first port that NATs give away by themselves, and how many there are from it on.
const FIRST: i32 = 1024;
const PORTS: i32 = 65_536 - FIRST;

/// Of three ports named, one lies beside the sequence (if the step leaves room): the step was measured while other
/// traffic may have taken every second port.
const BESIDE_EVERY: usize = 3;

/// The external ports that a new mapping of `local_port` may get, most likely first: at most `window`, and
/// [`MAX_WINDOW`]. `observed` is what `verdict` was made of, oldest first.
///
/// A stable mapping is the one that is known. Where no pattern was found there is nothing to name.
#[must_use]
pub fn next_ports(verdict: &Verdict, observed: &[Observation], local_port: u16, window: usize) -> Vec<u16> {
    let window = window.min(MAX_WINDOW);
    let made = mappings(observed, verdict.family);
    let known = made.iter().rev().find(|seen| seen.local_port == local_port).map(|seen| seen.endpoint.port());
    let mut ports = match (verdict.mapping.is_stable(), known, verdict.allocation) {
        (true, Some(known), _) => vec![known],
        (_, _, Allocation::Preserving) => vec![local_port],
        (_, _, Allocation::Sequential { step }) if step != 0 => following(&made, step, window),
        (_, _, Allocation::Sequential { .. } | Allocation::Random | Allocation::Unknown) => Vec::new(),
    };
    ports.truncate(window);
    ports
}

/// The ports that follow the last mapping of a NAT that counts, in their order and nothing else: `count` of them, each so
/// many `strides` from the one before. Empty where it does not count.
#[must_use]
pub fn onward_ports(verdict: &Verdict, observed: &[Observation], strides: u8, count: usize) -> Vec<u16> {
    let made = mappings(observed, verdict.family);
    let Allocation::Sequential { step } = verdict.allocation else { return Vec::new() };
    let Some(last) = last_port(&made, step) else { return Vec::new() };
    let places = (0..).map(|place| 1 + place * i32::from(strides));
    places.take(count.min(MAX_WINDOW)).map(|place| after(last, step.saturating_mul(place))).collect()
}

/// The ports that follow the last mapping, and those between the mappings that were seen.
fn following(made: &[&Observation], step: i32, window: usize) -> Vec<u16> {
    let Some(last) = last_port(made, step) else { return Vec::new() };
    let onward = (1..).map(|count| after(last, step.saturating_mul(count)));
    // One of each, as long as there are two kinds.
    let mut passed = passed_over(made, step, last).into_iter();
    let sequence = onward.flat_map(|port| std::iter::once(port).chain(passed.next()));
    let mut beside = between(step).map(|far| after(last, far));
    let mut ports: Vec<u16> = Vec::with_capacity(window);
    for port in sequence.take(PORTS.unsigned_abs() as usize) {
        if ports.len() >= window {
            break;
        }
        let also = if ports.len() % BESIDE_EVERY == BESIDE_EVERY - 1 { beside.next() } else { None };
        for port in also.into_iter().chain([port]) {
            if !ports.contains(&port) {
                ports.push(port);
            }
        }
    }
    ports
}

/// What the sequence gave to somebody else while samples were made, the latest first. A peer is often dialled before the
/// last sample is: its mapping lies there.
fn passed_over(made: &[&Observation], step: i32, last: u16) -> Vec<u16> {
    let seen = |port: u16| made.iter().any(|seen| seen.endpoint.port() == port);
    // So many steps back the farthest mapping lies that is of this sequence.
    let steps_back = |seen: &&Observation| {
        let back = distance(seen.endpoint.port(), last);
        (back % step == 0).then_some(back / step).filter(|steps| (1..=PASSED).contains(steps))
    };
    let farthest = made.iter().filter_map(steps_back).max().unwrap_or(0);
    (1..farthest).map(|count| after(last, -step * count)).filter(|port| !seen(*port)).collect()
}

/// How many steps back the ports between samples are named. All samples of a host and its first dials fit, with as many
/// mappings of others.
const PASSED: i32 = 32;

/// What lies between the multiples of `step`, most likely first: those of a half, a third and so on of it, as far as
/// the next few mappings go, in case other traffic took a port each time that the step was measured.
fn between(step: i32) -> impl Iterator<Item = i32> {
    let parts = (2..=step.abs()).filter(move |part| step % part == 0);
    parts.flat_map(move |part| {
        let small = step / part;
        (1..=part * FEW).map(move |count| small * count).filter(move |far| far % step != 0)
    })
}

/// How many measured steps ahead the ports between them are named.
const FEW: i32 = 4;

/// The port of the mapping that is farthest along: the last one, unless mappings that were made at one time are seen in
/// the wrong order.
fn last_port(made: &[&Observation], step: i32) -> Option<u16> {
    let moved = made.iter().map(|seen| seen.endpoint.port()).filter(|port| {
        // A preserved port is no part of the sequence.
        !made.iter().any(|seen| seen.endpoint.port() == *port && seen.local_port == *port)
    });
    moved.reduce(|last, port| {
        let ahead = distance(last, port).signum() == step.signum();
        // A leap back is the end of the allocator's range, not the wrong order.
        if ahead || distance(last, port).abs() > OUT_OF_ORDER { port } else { last }
    })
}

/// How far back a mapping may be that was made at one time with the one before it in the list.
const OUT_OF_ORDER: i32 = 256;

/// The way from one port to another, the shorter one around the range.
pub(super) fn distance(from: u16, to: u16) -> i32 {
    let ahead = (i32::from(to) - i32::from(from)).rem_euclid(PORTS);
    if ahead > PORTS / 2 { ahead - PORTS } else { ahead }
}

/// The port so far from `port`, around the range.
fn after(port: u16, far: i32) -> u16 {
    let at = FIRST + (i32::from(port) - FIRST + far).rem_euclid(PORTS);
    u16::try_from(at).expect("it lies in the range of ports")
}
