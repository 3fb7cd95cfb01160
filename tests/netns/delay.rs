//! How many times there and back a link takes, over lines on which that can be counted.
//!
//! Not fewer than four, from the caster's start on: the connection to the daemon, the login and what it samples, the
//! introduction, and the SYNs that cross and are answered.

use crate::lab::permitted_with_delay;
use crate::scene::{cast_through, repeats, times};

/// The worst median, in round trips, on a machine that is busy with something else.
const MOST: f64 = 6.5;

/// Fewer would mean that the lab's lines are not as long as they were asked to be.
const FEWEST: f64 = 3.5;

/// Casts again and again from `caster` to `viewer` over lines of `ms` milliseconds; the median must be within bounds.
fn linked_within_bounds(tries: u32, ms: u32, [viewer, caster]: [&str; 2]) {
    let line = ms.to_string();
    let times = times(tries, |_| {
        Some(cast_through(&["--delay", &line, "server:public", viewer, caster], &["punched"]))
    });
    // There and back between any two hosts, each of which has a line to the internet.
    let round_trip = f64::from(4 * ms);
    let trips: Vec<_> = times.iter().map(|time| time / round_trip).collect();
    let median = trips[trips.len() / 2];
    // Kept by the test harness unless it is asked to show what passes.
    println!("{viewer} x {caster} over {round_trip} ms: median {median:.2} round trips of {trips:.2?}");
    assert!((FEWEST..=MOST).contains(&median), "median {median:.2} of {trips:.2?} times {round_trip} ms");
}

#[test]
fn two_stable_nats_are_punched_in_few_round_trips_of_80_ms() {
    if !permitted_with_delay() {
        return;
    }
    linked_within_bounds(repeats(), 20, ["viewer:nat=eim-apdf", "caster:nat=eim-apdf"]);
}

#[test]
fn two_stable_nats_are_punched_in_few_round_trips_of_200_ms() {
    if !permitted_with_delay() {
        return;
    }
    linked_within_bounds(repeats(), 50, ["viewer:nat=eim-apdf", "caster:nat=eim-apdf"]);
}

/// What is refused at first is made up for within the slots, whose grid is finer than these round trips.
#[test]
fn two_nats_that_answer_rst_are_punched_in_few_round_trips() {
    if !permitted_with_delay() {
        return;
    }
    linked_within_bounds(repeats(), 20, ["viewer:nat-rst", "caster:nat-rst"]);
}
