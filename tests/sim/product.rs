//! The product in the simulator: daemon, viewer and caster as their programs run them, with the [driver's](crate::world)
//! part of each program played here.

use crate::matrix::{Cast, Contest, Outcome, check, describe, lay, odds_and_ends, random_pair, squares};
use crate::replay::sweep;
use crate::spec::{Allocation, Dependence, Pair, Refusal, Wall};
use crate::world::World;
use punchcast::app::ConnId;
use punchcast::code::Seed;
use punchcast::media::{Kind, Unit};
use punchcast::policy::Rung;
use punchcast::punch::Answer;
use punchcast::rendezvous::agent;
use punchcast::ticket::{Host, Server, Ticket, ViewerIdentity};
use punchcast::wire::message::Role;
use punchcast_client::caster::{self, Caster};
use punchcast_client::meeting::{self, Rooms, Secrets};
use punchcast_client::notice::{Absence, Notice};
use punchcast_client::source::SourceEvent;
use punchcast_client::viewer::{self, Viewer};
use punchcastd::Daemon;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Whether there is a daemon.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum With {
    Daemon,
    NoDaemon,
}

/// What the seed of a world makes for its applications.
pub(crate) fn randomness(world: &World, of: u64) -> fastrand::Rng {
    fastrand::Rng::with_seed(world.seed() ^ of.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

pub(crate) fn server(world: &World, cast: Cast) -> agent::Server {
    let at = |port| world.endpoint(cast.daemon, port);
    agent::Server { main: at(punchcastd::Config::MAIN_PORT), assist: at(punchcastd::Config::ASSIST_PORT) }
}

/// Starts a daemon with a second address, and a relay or none.
pub(crate) fn start_daemon_with_alternate(world: &mut World, cast: Cast, relay: bool) {
    let seed = randomness(world, 1).u64(..);
    let alternate = SocketAddr::new(world.add_v4(cast.daemon), punchcastd::Config::ASSIST_PORT);
    let agent::Server { main, assist } = server(world, cast);
    let config = punchcastd::Config {
        main,
        assist,
        alternate: Some(alternate),
        relay,
        ..punchcastd::Config::default()
    };
    world.start(cast.daemon, Daemon::new(config, seed));
}

pub(crate) fn start_daemon(world: &mut World, cast: Cast) {
    let seed = randomness(world, 1).u64(..);
    world.start(cast.daemon, Daemon::new(punchcastd::Config::default(), seed));
}

/// Starts a viewer and returns its ticket.
pub(crate) fn start_viewer(world: &mut World, cast: Cast, with: With) -> Ticket {
    let mut rng = randomness(world, 2);
    let mut random = [0; ViewerIdentity::RANDOM_LEN];
    rng.fill(&mut random);
    let identity = ViewerIdentity::from_random(&random);
    let at = server(world, cast);
    let agent = (with == With::Daemon).then(|| agent::Config {
        room: meeting::RENDEZVOUS,
        servers: vec![at],
        role: Role::Viewer,
        rendezvous: identity.rendezvous(),
        owner: Some(identity.owner),
        seed: rng.u64(..),
        code_seed: Some(Seed(std::array::from_fn(|_| rng.u8(..)))),
    });
    let named = Server { host: Host::Ip(at.main.ip()), main: at.main.port(), assist: at.assist.port() };
    let meeting = meeting::Config {
        rooms: Rooms::nth(0),
        secrets: Secrets::Viewer(identity.viewer_secrets()),
        agent,
        local_ips: world.addrs(cast.viewer).to_vec(),
        ticket_addresses: Vec::new(),
        run: rng.u64(..),
    };
    let config = viewer::Config {
        hole_port: 0,
        plain_key: None,
        dial: None,
        identity,
        server: (with == With::Daemon).then_some(named),
        meeting,
        page: None,
        rtmp: None,
        casts: 4,
        once: false,
        seed: rng.u64(..),
    };
    world.start(cast.viewer, Viewer::new(world.now(), config));
    let ticket =
        |notice: &Notice| if let Notice::Ready { ticket, .. } = notice { ticket.clone() } else { None };
    let found = world.app::<Viewer>(cast.viewer).notices.iter().find_map(|(_, notice)| ticket(notice));
    found.expect("a viewer shows its ticket at once").parse().expect("a ticket is one")
}

pub(crate) fn start_caster(world: &mut World, cast: Cast, ticket: &Ticket) {
    let mut rng = randomness(world, 3);
    let at = server(world, cast);
    let agent = ticket.server.is_some().then(|| agent::Config {
        room: meeting::RENDEZVOUS,
        servers: vec![at],
        role: Role::Caster,
        rendezvous: ticket.rendezvous,
        owner: None,
        seed: rng.u64(..),
        code_seed: None,
    });
    let meeting = meeting::Config {
        rooms: Rooms::nth(0),
        secrets: Secrets::Caster(ticket.caster_secrets()),
        agent,
        local_ips: world.addrs(cast.caster).to_vec(),
        ticket_addresses: ticket.addresses.clone(),
        run: rng.u64(..),
    };
    let config = caster::Config {
        viewers: vec![meeting.into()],
        serve: None,
        rtmp: None,
        share: None,
        encodes: false,
        duration: None,
        seed: rng.u64(..),
    };
    world.start(cast.caster, Caster::new(world.now(), config));
}

/// A unit that carries `number`.
fn unit(number: u32) -> SourceEvent {
    let mut payload = vec![0x17, 1, 0, 0, 0];
    payload.extend(number.to_be_bytes());
    SourceEvent::Unit(Unit { kind: Kind::Video, timestamp: number * 33, payload: payload.into() }, None)
}

/// The numbers of the units that the viewer showed.
pub(crate) fn shown(world: &World, cast: Cast) -> Vec<u32> {
    let number = |notice: &Notice| {
        let Notice::Unit(unit) = notice else { return None };
        Some(u32::from_be_bytes(unit.payload[5..].try_into().expect("a test's unit")))
    };
    world.app::<Viewer>(cast.viewer).notices.iter().filter_map(|(_, notice)| number(notice)).collect()
}

/// The rung of the caster's link, the last if several.
pub(crate) fn rung(world: &World, cast: Cast) -> Option<Rung> {
    let rung = |notice: &Notice| if let Notice::Link { link, .. } = notice { Some(link.rung) } else { None };
    world.app::<Caster>(cast.caster).notices.iter().rev().find_map(|(_, notice)| rung(notice))
}

/// Casts `count` units, numbered from `first`, one each 33 ms.
pub(crate) fn cast_units(world: &mut World, cast: Cast, first: u32, count: u32) {
    for number in first..first + count {
        world.tell::<Caster>(cast.caster, unit(number).into());
        world.run_for(Duration::from_millis(33));
    }
}

fn meet(world: &mut World, cast: Cast, with: With) -> Outcome {
    if with == With::Daemon {
        start_daemon(world, cast);
    }
    let ticket = start_viewer(world, cast, with);
    // The user carries the ticket over.
    world.run_for(Duration::from_secs(2));
    start_caster(world, cast, &ticket);
    let over = |world: &World| rung(world, cast).is_some() || !world.is_running(cast.caster);
    world
        .run_until(PATIENCE, over)
        .unwrap_or_else(|stuck| panic!("the caster neither links nor ends: {}", stuck.why));
    let Some(rung) = rung(world, cast) else { return Outcome::NotLinked };
    world.run_for(Duration::from_secs(1));
    cast_units(world, cast, 1, 3);
    let arrived = |world: &World| shown(world, cast).contains(&3);
    world
        .run_until(Duration::from_secs(5), arrived)
        .unwrap_or_else(|stuck| panic!("no picture: {}", stuck.why));
    Outcome::Linked(Some(rung))
}

/// With a daemon.
const INTRODUCED: Contest = |world, cast| meet(world, cast, With::Daemon);

/// Longer than the product tries.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

#[test]
fn the_product_links_where_the_oracle_says_behind_nats_that_drop() {
    for pair in squares([Refusal::Drop, Refusal::Drop]) {
        sweep(&describe(&pair), 1, |seed| check(seed, &pair, INTRODUCED));
    }
}

#[test]
fn the_product_links_where_the_oracle_says_behind_nats_that_reset() {
    for refusals in [[Refusal::Rst, Refusal::Drop], [Refusal::Drop, Refusal::Rst], [Refusal::Rst; 2]] {
        for pair in squares(refusals) {
            sweep(&describe(&pair), 1, |seed| check(seed, &pair, INTRODUCED));
        }
    }
}

#[test]
fn the_product_links_where_the_oracle_says_elsewhere() {
    for pair in odds_and_ends() {
        sweep(&describe(&pair), 1, |seed| check(seed, &pair, INTRODUCED));
    }
}

#[test]
fn the_product_links_where_the_oracle_says_behind_random_walls() {
    sweep("random walls", 200, |seed| {
        let pair = random_pair(&mut fastrand::Rng::with_seed(seed));
        check(seed, &pair, INTRODUCED);
    });
}

#[test]
fn plain_nats_are_punched_through_loss_and_jitter() {
    sweep("two home NATs, 3% loss a link", 20, |seed| {
        let (mut world, cast) = lay(seed, &Pair::apart(vec![Wall::home()], vec![Wall::home()]));
        world.weather(0.03, Duration::from_millis(10));
        assert_eq!(INTRODUCED(&mut world, cast), Outcome::Linked(Some(Rung::Punched)));
    });
}

#[test]
fn one_local_network_needs_no_daemon() {
    let pair = Pair { caster: Vec::new(), viewer: Vec::new(), shared: vec![Wall::home()] };
    sweep("no daemon, one network", 5, |seed| {
        let (mut world, cast) = lay(seed, &pair);
        assert_eq!(meet(&mut world, cast, With::NoDaemon), Outcome::Linked(Some(Rung::Lan)));
    });
}

/// What both sides dial from their hole ports from `since` on, daemon aside.
fn dials_since(world: &World, cast: Cast, since: Duration) -> Vec<Duration> {
    let of_hole = |(at, conn): &(Duration, ConnId)| *at >= since && Rooms::is_hole(conn.room);
    let both = [cast.caster, cast.viewer].into_iter().flat_map(|host| world.dials(host));
    both.filter(|dial| of_hole(dial)).map(|(at, _)| *at).collect()
}

#[test]
fn nobody_is_dialled_once_a_direct_link_stands() {
    let rst = vec![Wall { refusal: Refusal::Rst, ..Wall::home() }];
    // The link goes from one IPv6 address to another, and the daemon sees IPv4 addresses alone: no endpoint tells of which
    // introduction the link is. Without NATs the viewer's dials come through, and lead nowhere; with them they are refused.
    for pair in [Pair::apart(Vec::new(), Vec::new()), Pair::apart(rst.clone(), rst)] {
        sweep(&describe(&pair), 5, |seed| {
            let (mut world, cast) = lay(seed, &pair);
            world.add_v6(cast.caster);
            world.add_v6(cast.viewer);
            start_daemon(&mut world, cast);
            let mut ticket = start_viewer(&mut world, cast, With::Daemon);
            ticket.addresses.retain(|endpoint| endpoint.addr().is_ipv6());
            world.run_for(Duration::from_secs(2));
            start_caster(&mut world, cast, &ticket);
            let linked = |world: &World| rung(world, cast).is_some();
            world.run_until(PATIENCE, linked).unwrap_or_else(|stuck| panic!("no link: {}", stuck.why));
            // The introduction is under way, and then a word about it over the link.
            let quiet = world.elapsed() + Duration::from_millis(250);
            world.run_for(Duration::from_secs(40));
            let late = dials_since(&world, cast, quiet);
            assert!(late.is_empty(), "{} dials after {quiet:?}, at {late:?}", late.len());
        });
    }
}

#[test]
fn a_cast_outlives_the_daemon_without_a_gap() {
    sweep("SIGKILL to the daemon during a cast", 5, |seed| {
        let (mut world, cast) = lay(seed, &Pair::apart(vec![Wall::home()], vec![Wall::home()]));
        assert!(matches!(INTRODUCED(&mut world, cast), Outcome::Linked(_)));
        cast_units(&mut world, cast, 4, 100);
        world.kill(cast.daemon);
        cast_units(&mut world, cast, 104, 1000);
        world.run_for(Duration::from_secs(2));
        assert_eq!(shown(&world, cast), (1..=1103).collect::<Vec<u32>>());
    });
}

#[test]
fn a_link_that_its_nats_forgot_is_missed_on_both_sides() {
    sweep("both NATs restart during a cast", 5, |seed| {
        let (mut world, cast) = lay(seed, &Pair::apart(vec![Wall::home()], vec![Wall::home()]));
        assert!(matches!(INTRODUCED(&mut world, cast), Outcome::Linked(_)));
        for place in world.net.places() {
            world.net.wall(place).forget();
        }
        let is_lost = |notice: &Notice| matches!(notice, Notice::Lost { .. });
        let caster_missed =
            |world: &World| world.app::<Caster>(cast.caster).notices.iter().any(|(_, n)| is_lost(n));
        let viewer_missed =
            |world: &World| world.app::<Viewer>(cast.viewer).notices.iter().any(|(_, n)| is_lost(n));
        let missed = |world: &World| caster_missed(world) && viewer_missed(world);
        let forgotten = world.now();
        world.run_until(PATIENCE, missed).unwrap_or_else(|stuck| panic!("{}", stuck.why));
        // And pictures come again, without anybody touching anything: a link, and a unit over it.
        let seen = world.app::<Viewer>(cast.viewer).notices.len();
        let pictures_again = |world: &World| {
            let since = &world.app::<Viewer>(cast.viewer).notices[seen..];
            let link = since.iter().position(|(_, notice)| matches!(notice, Notice::Link { .. }));
            link.is_some_and(|at| since[at..].iter().any(|(_, notice)| matches!(notice, Notice::Unit(_))))
        };
        world.run_until(PATIENCE, pictures_again).unwrap_or_else(|stuck| panic!("{}", stuck.why));
        let took = world.now() - forgotten;
        assert!(took < Duration::from_secs(5), "pictures again after {took:?}");
    });
}

#[test]
fn a_caster_whose_viewer_died_says_that_it_is_not_there() {
    sweep("the viewer is killed during a cast", 5, |seed| {
        let (mut world, cast) = lay(seed, &Pair::apart(vec![Wall::home()], vec![Wall::home()]));
        assert!(matches!(INTRODUCED(&mut world, cast), Outcome::Linked(_)));
        world.kill(cast.viewer);
        let ended = |world: &World| !world.is_running(cast.caster);
        world.run_until(PATIENCE * 2, ended).unwrap_or_else(|stuck| panic!("{}", stuck.why));
        let end = |notice: &Notice| {
            if let Notice::End { reason, .. } = notice { Some(reason.clone()) } else { None }
        };
        let notices = &world.app::<Caster>(cast.caster).notices;
        let reason = notices.iter().find_map(|(_, notice)| end(notice)).expect("it says why it ends");
        assert!(reason.contains("the viewer has not come back"), "{reason}");
        // Long before, once the link was missed.
        let lost =
            notices.iter().find(|(_, notice)| matches!(notice, Notice::Lost { .. })).expect("it lost it").0;
        let told = absences(&world, cast, lost);
        assert!(matches!(told[..], [(after, _)] if after < Duration::from_secs(2)), "{told:?}");
    });
}

/// When the caster said that its viewer is not there, since `began`, and how much longer it would wait.
fn absences(world: &World, cast: Cast, began: Instant) -> Vec<(Duration, Duration)> {
    let absence = |(at, notice): &(Instant, Notice)| {
        let Notice::ViewerAbsent { trying_for, .. } = notice else { return None };
        Some((*at - began, *trying_for))
    };
    world.app::<Caster>(cast.caster).notices.iter().filter_map(absence).collect()
}

#[test]
fn a_caster_says_soon_that_its_viewer_is_not_there_and_waits_for_it() {
    sweep("a viewer that comes ten seconds late", 5, |seed| {
        let (mut world, cast) = lay(seed, &Pair::apart(vec![Wall::home()], vec![Wall::home()]));
        start_daemon(&mut world, cast);
        let ticket = start_viewer(&mut world, cast, With::Daemon);
        world.run_for(Duration::from_secs(2));
        world.kill(cast.viewer);
        let began = world.now();
        start_caster(&mut world, cast, &ticket);
        world.run_for(Duration::from_secs(10));
        let told = absences(&world, cast, began);
        let [(after, trying_for)] = told[..] else { panic!("told once: {told:?}") };
        assert!(after < Duration::from_secs(2), "{after:?}");
        assert!((28..=30).contains(&trying_for.as_secs()), "{trying_for:?}");
        assert_eq!(start_viewer(&mut world, cast, With::Daemon).rendezvous, ticket.rendezvous);
        let linked = |world: &World| rung(world, cast).is_some();
        world.run_until(PATIENCE, linked).unwrap_or_else(|stuck| panic!("{}", stuck.why));
        world.run_for(Duration::from_secs(5));
        assert_eq!(absences(&world, cast, began).len(), 1);
    });
}

#[test]
fn without_a_daemon_a_caster_says_soon_at_which_addresses_its_viewer_is_not_there() {
    for (online, met, why) in [
        (true, Answer::Refused, "nothing listens at the viewer's own addresses"),
        (false, Answer::Silent, "the viewer's own addresses do not answer from here"),
    ] {
        let shared = Pair { caster: Vec::new(), viewer: Vec::new(), shared: vec![Wall::home()] };
        let (mut world, cast) = lay(0, &shared);
        let ticket = start_viewer(&mut world, cast, With::NoDaemon);
        world.run_for(Duration::from_secs(2));
        let address = ticket.addresses[0].addr();
        world.kill(cast.viewer);
        world.set_online(cast.viewer, online);
        let began = world.now();
        start_caster(&mut world, cast, &ticket);
        let ended = |world: &World| !world.is_running(cast.caster);
        world.run_until(PATIENCE, ended).unwrap_or_else(|stuck| panic!("{}", stuck.why));
        let notices = &world.app::<Caster>(cast.caster).notices;
        let absence = |(at, notice): &(Instant, Notice)| {
            let Notice::ViewerAbsent { absence, trying_for } = notice else { return None };
            Some((*at - began, absence.clone(), *trying_for))
        };
        let told: Vec<_> = notices.iter().filter_map(absence).collect();
        let [(after, absence, trying_for)] = &told[..] else { panic!("told once: {told:?}") };
        assert!(*after < Duration::from_secs(2), "{after:?}");
        assert_eq!(*absence, Absence::NoAnswer(vec![(address, met)]));
        assert!((28..=30).contains(&trying_for.as_secs()), "{trying_for:?}");
        let reason = |notice: &Notice| {
            if let Notice::End { reason, .. } = notice { Some(reason.clone()) } else { None }
        };
        let reason = notices.iter().find_map(|(_, notice)| reason(notice)).expect("it says why it ends");
        assert!(reason.contains(why), "{reason}");
    }
}

#[test]
fn a_caster_whose_viewer_is_there_says_nothing_of_its_absence() {
    let random = Wall {
        allocation: Allocation::Random,
        ..Wall::nat(Dependence::AddressAndPort, Dependence::AddressAndPort)
    };
    for (wall, linked) in [(Wall::home(), true), (random, false)] {
        let (mut world, cast) = lay(0, &Pair::apart(vec![wall], vec![wall]));
        let began = world.now();
        assert_eq!(matches!(INTRODUCED(&mut world, cast), Outcome::Linked(_)), linked);
        assert_eq!(absences(&world, cast, began), []);
    }
}

#[test]
fn a_viewer_hears_why_no_link_with_a_caster_came_about() {
    let strict = Dependence::AddressAndPort;
    let random = Wall { allocation: Allocation::Random, ..Wall::nat(strict, strict) };
    let (mut world, cast) = lay(0, &Pair::apart(vec![random], vec![random]));
    assert!(matches!(INTRODUCED(&mut world, cast), Outcome::NotLinked));
    world.run_for(Duration::from_secs(2));
    let notices = &world.app::<Viewer>(cast.viewer).notices;
    let told = notices.iter().filter(|(_, notice)| matches!(notice, Notice::NoLink { .. })).count();
    assert_eq!(told, 1);
}
