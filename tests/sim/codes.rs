//! Short codes: the product from the words that a user types to the picture, and what becomes of guesses.

use crate::matrix::{Cast, lay};
use crate::product::{
    PATIENCE, With, cast_units, randomness, rung, server, shown, start_daemon, start_viewer,
};
use crate::replay::sweep;
use crate::spec::{Pair, Wall};
use crate::world::World;
use punchcast::code::{Code, Seed};
use punchcast::policy::Rung;
use punchcast::rendezvous::agent;
use punchcast_client::caster::{self, Caster, CodeConfig, Whom};
use punchcast_client::meeting::Rooms;
use punchcast_client::notice::Notice;
use punchcast_client::viewer::Viewer;
use std::time::Duration;

/// What the viewer told of its codes, oldest first.
fn codes(world: &World, cast: Cast) -> Vec<Option<Code>> {
    let code = |notice: &Notice| {
        let Notice::Code { code, .. } = notice else { return None };
        Some(code.as_ref().map(|text| Code::parse(text).expect("a code that can be copied").0))
    };
    world.app::<Viewer>(cast.viewer).notices.iter().filter_map(|(_, notice)| code(notice)).collect()
}

/// Waits until the viewer shows its `count`th code.
fn await_code(world: &mut World, cast: Cast, count: usize) -> Code {
    let all = |world: &World| codes(world, cast).into_iter().flatten().collect::<Vec<_>>();
    world
        .run_until(PATIENCE, |world| all(world).len() >= count)
        .unwrap_or_else(|stuck| panic!("no code: {}", stuck.why));
    all(world)[count - 1]
}

/// Words of the same number that are not the code's.
fn wrong(code: &Code) -> Code {
    let words = if code.to_string().ends_with("lamp") { "tiger-lion" } else { "tiger-lamp" };
    format!("{}-{words}", code.number()).parse().expect("a code")
}

/// The user types `code` at the caster.
fn start_caster(world: &mut World, cast: Cast, code: Code) {
    let mut rng = randomness(world, 3 + world.elapsed().as_secs());
    let agent::Server { main, .. } = server(world, cast);
    let whom = Whom::Code(CodeConfig {
        rooms: Rooms::nth(0),
        servers: vec![main],
        code,
        code_seed: Seed(std::array::from_fn(|_| rng.u8(..))),
        seed: rng.u64(..),
        local_ips: world.addrs(cast.caster).to_vec(),
        run: rng.u64(..),
    });
    let (serve, rtmp, share, duration) = (None, None, None, None);
    let config = caster::Config {
        viewers: vec![whom],
        serve,
        rtmp,
        share,
        duration,
        encodes: false,
        seed: rng.u64(..),
    };
    world.start(cast.caster, Caster::new(world.now(), config));
}

/// The caster ends without a link; what it says.
fn failure(world: &mut World, cast: Cast) -> String {
    world
        .run_until(PATIENCE, |world| !world.is_running(cast.caster))
        .unwrap_or_else(|stuck| panic!("the caster does not end: {}", stuck.why));
    assert_eq!(rung(world, cast), None);
    let end = |notice: &Notice| {
        if let Notice::End { ok: false, reason } = notice { Some(reason.clone()) } else { None }
    };
    let said = world.app::<Caster>(cast.caster).notices.iter().find_map(|(_, notice)| end(notice));
    said.expect("it says why")
}

fn await_link(world: &mut World, cast: Cast) {
    let over = |world: &World| rung(world, cast).is_some() || !world.is_running(cast.caster);
    world.run_until(PATIENCE, over).unwrap_or_else(|stuck| panic!("no link: {}", stuck.why));
    assert_eq!(rung(world, cast), Some(Rung::Punched));
}

fn two_homes(seed: u64) -> (World, Cast) {
    let (mut world, cast) = lay(seed, &Pair::apart(vec![Wall::home()], vec![Wall::home()]));
    start_daemon(&mut world, cast);
    start_viewer(&mut world, cast, With::Daemon);
    (world, cast)
}

#[test]
fn a_code_leads_through_two_nats_and_loss_and_its_time_counts() {
    sweep("a code, two home NATs, 3% loss a link", 20, |seed| {
        let (mut world, cast) = two_homes(seed);
        world.weather(0.03, Duration::from_millis(10));
        let code = await_code(&mut world, cast, 1);
        let began = world.now();
        start_caster(&mut world, cast, code);
        await_link(&mut world, cast);
        let notices = &world.app::<Caster>(cast.caster).notices;
        let link = notices.iter().find_map(|(at, notice)| {
            if let Notice::Link { elapsed, .. } = notice { Some((*at, *elapsed)) } else { None }
        });
        let (at, elapsed) = link.expect("a link");
        assert_eq!(elapsed, at - began, "counted from when the user asked");
        cast_units(&mut world, cast, 1, 3);
        world
            .run_until(Duration::from_secs(5), |world| shown(world, cast).contains(&3))
            .unwrap_or_else(|stuck| panic!("no picture: {}", stuck.why));
        assert_eq!(codes(&world, cast), [Some(code)], "it is as good as before");
    });
}

#[test]
fn a_code_is_good_again_and_again() {
    let (mut world, cast) = two_homes(1);
    let code = await_code(&mut world, cast, 1);
    for _ in 0..6 {
        start_caster(&mut world, cast, code);
        await_link(&mut world, cast);
        world.interrupt(cast.caster);
        world.run_for(Duration::from_secs(20));
    }
    assert_eq!(codes(&world, cast), [Some(code)]);
}

#[test]
fn wrong_words_get_nothing_and_the_third_time_the_code_is_withdrawn() {
    sweep("guesses", 10, |seed| {
        let (mut world, cast) = two_homes(seed);
        let code = await_code(&mut world, cast, 1);
        for guess in 1..=3 {
            assert_eq!(codes(&world, cast).len(), 1, "before guess {guess}");
            start_caster(&mut world, cast, wrong(&code));
            let said = failure(&mut world, cast);
            assert!(said.contains("words are wrong"), "{said}");
        }
        let next = await_code(&mut world, cast, 2);
        assert_eq!(codes(&world, cast), [Some(code), None, Some(next)]);
        assert_ne!(next.number(), code.number());
        // The right words of the old code are wrong now, as is its number.
        start_caster(&mut world, cast, code);
        let said = failure(&mut world, cast);
        assert!(said.contains(&format!("number {}", code.number())), "{said}");
        world.run_for(Duration::from_secs(60));
        start_caster(&mut world, cast, next);
        await_link(&mut world, cast);
    });
}

#[test]
fn whoever_makes_codes_be_withdrawn_waits_longer_each_time() {
    let (mut world, cast) = two_homes(7);
    let mut waits = Vec::new();
    for number in 1..=4 {
        let code = await_code(&mut world, cast, number);
        for _ in 0..3 {
            start_caster(&mut world, cast, wrong(&code));
            failure(&mut world, cast);
            world.run_for(Duration::from_secs(15));
        }
        let began = world.now();
        world
            .run_until(Duration::from_secs(300), |world| {
                codes(world, cast).into_iter().flatten().count() > number
            })
            .unwrap_or_else(|stuck| panic!("{}", stuck.why));
        waits.push((world.now() - began).as_secs());
    }
    // The 15 seconds after the last guess are not counted.
    assert!(waits[..2] == [0, 0] && (20..=26).contains(&waits[2]) && waits[3] >= 140, "{waits:?}");
}

#[test]
fn a_code_outlives_the_connection_and_the_daemon() {
    sweep("a viewer that comes back", 5, |seed| {
        let (mut world, cast) = two_homes(seed);
        let code = await_code(&mut world, cast, 1);
        let logins = |world: &World| {
            let is_login =
                |notice: &Notice| matches!(notice, Notice::Rendezvous(agent::Event::LoggedIn { .. }));
            world.app::<Viewer>(cast.viewer).notices.iter().filter(|(_, notice)| is_login(notice)).count()
        };
        world.set_online(cast.viewer, false);
        world.run_for(Duration::from_secs(70));
        world.set_online(cast.viewer, true);
        world.run_until(PATIENCE, |world| logins(world) == 2).unwrap_or_else(|stuck| panic!("{}", stuck.why));
        world.kill(cast.daemon);
        world.run_for(Duration::from_secs(5));
        start_daemon(&mut world, cast);
        world.run_until(PATIENCE, |world| logins(world) == 3).unwrap_or_else(|stuck| panic!("{}", stuck.why));
        world.run_for(Duration::from_secs(1));
        assert_eq!(codes(&world, cast), [Some(code)]);
        start_caster(&mut world, cast, code);
        await_link(&mut world, cast);
    });
}

#[test]
fn a_viewer_that_is_gone_is_told_for_what_it_is() {
    let (mut world, cast) = two_homes(3);
    let code = await_code(&mut world, cast, 1);
    world.interrupt(cast.viewer);
    world.run_for(Duration::from_secs(1));
    start_caster(&mut world, cast, code);
    let said = failure(&mut world, cast);
    assert!(said.contains("no viewer shows"), "{said}");
    world.kill(cast.daemon);
    start_caster(&mut world, cast, code);
    let said = failure(&mut world, cast);
    assert!(said.contains("could not be reached"), "{said}");
}
