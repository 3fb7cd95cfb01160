//! A provider gives a home another address in mid-cast: the old way is gone, for both sides, without a word.

use crate::lab::{Lab, permitted_with_delay};
use crate::scene::{END, LINK, caster, daemon, every_time, lasting_viewer, repeats};
use std::time::{Duration, Instant};

/// The length of a cast that is interrupted; it is ended sooner.
const LONG: u32 = 60;

/// How soon pictures are there again. Three seconds of it pass before silence counts as the end of a link.
const SOON: Duration = Duration::from_secs(5);

/// Casts over lines of 20 ms, changes the address of `host`, and waits for pictures.
fn pictures_come_back_when_readdressed(host: &str, kinds: [&str; 2]) {
    let viewer_at = format!("viewer:{}", kinds[0]);
    let caster_at = format!("caster:{}", kinds[1]);
    let lab = Lab::up(&["--delay", "20", "server:public", &viewer_at, &caster_at]);
    let (_daemon, server) = daemon(&lab);
    let (mut viewer, ticket) = lasting_viewer(&lab, Some(&server), &[]);
    let mut caster = caster(&lab, "caster", &ticket, LONG);
    viewer.event("first-frame", LINK);
    viewer.event("stats", LINK);

    let begin = Instant::now();
    lab.readdress(host);

    // Another link, and a picture by it.
    viewer.event("link", LINK);
    viewer.event("first-frame", LINK);
    let took = begin.elapsed();
    println!("{host} readdressed: a picture after {:.1} s", took.as_secs_f64());
    assert!(took < SOON, "a picture after {took:?}{}{}", caster.report(), viewer.report());
    caster.terminate();
    caster.end(END);
    viewer.terminate();
    viewer.end(END);
}

/// How often; each takes some seconds of waiting.
fn tries() -> u32 {
    repeats().div_ceil(5)
}

#[test]
fn a_cast_comes_back_when_the_casters_home_has_another_address() {
    if !permitted_with_delay() {
        return;
    }
    every_time(tries(), |_| pictures_come_back_when_readdressed("caster", ["nat=eim-apdf", "nat=eim-apdf"]));
}

#[test]
fn a_cast_comes_back_when_the_viewers_home_has_another_address() {
    if !permitted_with_delay() {
        return;
    }
    every_time(tries(), |_| pictures_come_back_when_readdressed("viewer", ["nat=eim-apdf", "nat=eim-apdf"]));
}

/// There is no NAT to forget: the host's own socket belongs to an address that is gone.
#[test]
fn a_cast_comes_back_when_a_public_viewer_has_another_address() {
    if !permitted_with_delay() {
        return;
    }
    every_time(tries(), |_| pictures_come_back_when_readdressed("viewer", ["public", "nat=eim-apdf"]));
}
