//! Links that the daemon relays: where nothing direct forms, until something does.

use crate::matrix::{Cast, lay};
use crate::product::{PATIENCE, With, randomness, rung, start_caster, start_viewer};
use crate::replay::sweep;
use crate::spec::{Allocation, Dependence, Pair, Wall};
use crate::world::World;
use punchcast::media::{Kind, Unit};
use punchcast::policy::{Obstacle, Rung};
use punchcast::rendezvous::limits::Limits;
use punchcast_client::caster::Caster;
use punchcast_client::meeting::Link;
use punchcast_client::notice::Notice;
use punchcast_client::source::SourceEvent;
use punchcast_client::viewer::Viewer;
use punchcastd::Daemon;
use std::time::Duration;

/// Pictures from one keyframe to the next.
const GROUP: u32 = 30;

fn start_relay(world: &mut World, cast: Cast, limits: Limits) {
    let seed = randomness(world, 1).u64(..);
    let config = punchcastd::Config { relay: true, limits, ..punchcastd::Config::default() };
    world.start(cast.daemon, Daemon::new(config, seed));
}

/// Both sides up to a link, with a daemon that relays.
fn link(world: &mut World, cast: Cast, limits: Limits) -> Duration {
    start_relay(world, cast, limits);
    let ticket = start_viewer(world, cast, With::Daemon);
    world.run_for(Duration::from_secs(2));
    let began = world.now();
    start_caster(world, cast, &ticket);
    world
        .run_until(PATIENCE, |world| rung(world, cast).is_some())
        .unwrap_or_else(|stuck| panic!("no link: {}", stuck.why));
    world.now() - began
}

/// Casts `count` pictures from `first` on, one each 33 ms.
fn cast_pictures(world: &mut World, cast: Cast, first: u32, count: u32) {
    for number in first..first + count {
        let frame = if number % GROUP == 1 { 0x17 } else { 0x27 };
        let mut payload = vec![frame, 1, 0, 0, 0];
        payload.extend(number.to_be_bytes());
        let unit = Unit { kind: Kind::Video, timestamp: number * 33, payload: payload.into() };
        world.tell::<Caster>(cast.caster, SourceEvent::Unit(unit, None).into());
        world.run_for(Duration::from_millis(33));
    }
}

/// The numbers of the pictures that the viewer showed.
fn shown(world: &World, cast: Cast) -> Vec<u32> {
    crate::product::shown(world, cast)
}

fn links(notices: &[(std::time::Instant, Notice)]) -> Vec<Link> {
    let link = |notice: &Notice| if let Notice::Link { link, .. } = notice { Some(*link) } else { None };
    notices.iter().filter_map(|(_, notice)| link(notice)).collect()
}

/// The links of both sides.
fn both(world: &World, cast: Cast) -> [Vec<Link>; 2] {
    [links(&world.app::<Caster>(cast.caster).notices), links(&world.app::<Viewer>(cast.viewer).notices)]
}

fn random() -> Wall {
    let strict = Dependence::AddressAndPort;
    Wall { allocation: Allocation::Random, ..Wall::nat(strict, strict) }
}

/// A home router that lets no simultaneous open through.
fn one_sided() -> Wall {
    Wall { refuses_simultaneous_open: true, ..Wall::home() }
}

#[test]
fn two_nats_that_tcp_cannot_cross_are_relayed_and_both_sides_say_why() {
    sweep("random ports on both sides, relay on", 20, |seed| {
        let (mut world, cast) = lay(seed, &Pair::apart(vec![random()], vec![random()]));
        let took = link(&mut world, cast, Limits::default());
        assert!(took < Duration::from_secs(3), "{took:?}");
        cast_pictures(&mut world, cast, 1, 60);
        world.run_for(Duration::from_secs(1));
        assert_eq!(shown(&world, cast), (1..=60).collect::<Vec<u32>>());
        for links in both(&world, cast) {
            let [link] = links[..] else { panic!("{links:?}") };
            assert_eq!((link.rung, link.obstacle), (Rung::Relayed, Some(Obstacle::BothRandom)));
        }
    });
}

#[test]
fn whoever_has_a_direct_way_is_not_relayed() {
    sweep("home routers, relay on", 20, |seed| {
        let (mut world, cast) = lay(seed, &Pair::apart(vec![Wall::home()], vec![Wall::home()]));
        link(&mut world, cast, Limits::default());
        cast_pictures(&mut world, cast, 1, 60);
        for links in both(&world, cast) {
            assert_eq!(links.iter().map(|link| link.rung).collect::<Vec<_>>(), [Rung::Punched]);
        }
    });
}

#[test]
fn a_relayed_cast_moves_to_a_direct_link_without_a_gap() {
    sweep("walls that begin to let simultaneous opens through", 20, |seed| {
        let (mut world, cast) = lay(seed, &Pair::apart(vec![one_sided()], vec![one_sided()]));
        link(&mut world, cast, Limits::default());
        // The first attempt may be under way still, or be long over.
        let before = 30 + u32::try_from(seed % 7).expect("small") * 300;
        cast_pictures(&mut world, cast, 1, before);
        assert_eq!(rung(&world, cast), Some(Rung::Relayed));
        for place in world.net.places() {
            world.net.wall(place).change(Wall::home());
        }
        // The longest pause between two tries is a minute.
        cast_pictures(&mut world, cast, before + 1, 2400);
        world.run_for(Duration::from_secs(1));
        assert_eq!(shown(&world, cast), (1..=before + 2400).collect::<Vec<u32>>());
        for links in both(&world, cast) {
            let rungs: Vec<Rung> = links.iter().map(|link| link.rung).collect();
            assert_eq!(rungs, [Rung::Relayed, Rung::Punched]);
        }
        assert!(
            !world.app::<Caster>(cast.caster).notices.iter().any(|(_, n)| matches!(n, Notice::Lost { .. }))
        );
    });
}

/// Both sides lost their link, and said `words` of it.
fn assert_lost(world: &World, cast: Cast, words: &str) {
    let lost = |notice: &Notice| if let Notice::Lost { why } = notice { Some(why.clone()) } else { None };
    for notices in [&world.app::<Caster>(cast.caster).notices, &world.app::<Viewer>(cast.viewer).notices] {
        let why = notices.iter().find_map(|(_, notice)| lost(notice)).expect("the relay ended");
        assert!(why.contains(words), "{why}");
    }
}

#[test]
fn a_relay_that_dies_with_its_daemon_is_told_for_what_it_was() {
    sweep("SIGKILL to the daemon that relays", 3, |seed| {
        let (mut world, cast) = lay(seed, &Pair::apart(vec![random()], vec![random()]));
        link(&mut world, cast, Limits::default());
        cast_pictures(&mut world, cast, 1, 30);
        world.kill(cast.daemon);
        cast_pictures(&mut world, cast, 31, 30);
        assert_lost(&world, cast, "the daemon's relay closed the connection");
    });
}

#[test]
fn a_relay_that_is_used_up_is_told_for_what_it_is() {
    sweep("a relay of two seconds", 3, |seed| {
        let (mut world, cast) = lay(seed, &Pair::apart(vec![random()], vec![random()]));
        let limits = Limits { relay_time: Duration::from_secs(2), ..Limits::default() };
        link(&mut world, cast, limits);
        cast_pictures(&mut world, cast, 1, 90);
        assert_lost(&world, cast, "the daemon's relay reached its limit");
    });
}

#[test]
fn a_direct_link_that_dies_while_the_cast_moves_to_it_leaves_nobody_waiting() {
    sweep("walls that open for a moment only", 30, |seed| {
        let (mut world, cast) = lay(seed, &Pair::apart(vec![one_sided()], vec![one_sided()]));
        link(&mut world, cast, Limits::default());
        cast_pictures(&mut world, cast, 1, 30);
        for place in world.net.places() {
            world.net.wall(place).change(Wall::home());
        }
        // One picture at a time, up to the new link and a little further: into the move, or beyond it.
        let mut number = 31;
        let after = u32::try_from(seed % 30).expect("small");
        let mut left = None;
        while left != Some(0) {
            cast_pictures(&mut world, cast, number, 1);
            number += 1;
            let moves = both(&world, cast)[0].len() > 1;
            left = left.map(|left: u32| left - 1).or_else(|| moves.then_some(after));
            assert!(number < 2000, "no direct link");
        }
        for place in world.net.places() {
            world.net.wall(place).forget();
            world.net.wall(place).change(one_sided());
        }
        cast_pictures(&mut world, cast, number, 900);
        let last = number + 899;
        world.run_for(Duration::from_secs(1));
        assert!(shown(&world, cast).contains(&last), "{:?}", both(&world, cast));
        assert!(world.is_running(cast.caster));
    });
}

#[test]
fn nobody_asks_for_a_relay_beside_a_direct_link() {
    let mut direct = 0;
    sweep("a relay and a direct link at one time", 60, |seed| {
        let (mut world, cast) = lay(seed, &Pair::apart(vec![Wall::home()], vec![random()]));
        link(&mut world, cast, Limits::default());
        // Longer than the daemon has the one half wait for the other.
        world.run_for(Duration::from_secs(30));
        if both(&world, cast)[0].iter().any(|link| link.rung == Rung::Relayed) {
            return;
        }
        direct += 1;
        let notices = &world.app::<Viewer>(cast.viewer).notices;
        let linked = notices.iter().position(|(_, notice)| matches!(notice, Notice::Link { .. }));
        let asks = |notice: &Notice| matches!(notice, Notice::SeekingRelay(_) | Notice::NoRelay { .. });
        let asked = notices[linked.expect("a link")..].iter().find(|(_, notice)| asks(notice));
        assert!(asked.is_none(), "{asked:?}");
    });
    assert!(direct > 0 || std::env::var("PUNCHCAST_SIM_SEED").is_ok(), "no run had a direct link alone");
}
