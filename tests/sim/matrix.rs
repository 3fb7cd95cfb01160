//! The NAT matrix: every kind of wall against every other, each with the [oracle](crate::oracle)'s verdict.
//!
//! The cases are tables of plain values. A [`Contest`] runs one of them with some applications and says what came of
//! it; the same tables serve toys and product.

use crate::meet::{DAEMON_PORT, HOLE_PORT, ToyClient, ToyDaemon};
use crate::net::{HostId, Place};
use crate::oracle::{Verdict, allows, guessable, judge};
use crate::replay::sweep;
use crate::spec::{Allocation, DEPENDENCES, Dependence, Pair, Refusal, Wall};
use crate::world::World;
use punchcast::policy::Rung;
use std::time::Duration;

/// The hosts of a case, laid out and idle.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cast {
    pub(crate) caster: HostId,
    pub(crate) viewer: HostId,
    /// Public, without walls.
    pub(crate) daemon: HostId,
}

/// What came of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A link, on this rung; `None` where the applications do not say.
    Linked(Option<Rung>),
    /// No link within the time that the contest gives.
    NotLinked,
}

/// Starts applications on the hosts and lets them run until they link or long enough.
pub(crate) type Contest = fn(&mut World, Cast) -> Outcome;

/// Lays a pair and a daemon out in a new world.
pub(crate) fn lay(seed: u64, pair: &Pair) -> (World, Cast) {
    let mut world = World::new(seed);
    let mut inside =
        |place, walls: &[Wall]| walls.iter().rev().fold(place, |place, wall| world.add_wall(place, *wall));
    let shared = inside(Place::INTERNET, &pair.shared);
    let (at_caster, at_viewer) = (inside(shared, &pair.caster), inside(shared, &pair.viewer));
    let cast = Cast {
        caster: world.add_host(at_caster),
        viewer: world.add_host(at_viewer),
        daemon: world.add_host(Place::INTERNET),
    };
    (world, cast)
}

/// Runs one case and holds the outcome against the oracle.
pub(crate) fn check(seed: u64, pair: &Pair, contest: Contest) {
    let verdict = judge(pair);
    let (mut world, cast) = lay(seed, pair);
    let outcome = contest(&mut world, cast);
    let agrees = match (verdict, outcome) {
        (_, Outcome::Linked(Some(rung))) => is_fair(pair, verdict, rung),
        (Verdict::Direct(_), Outcome::Linked(None))
        | (Verdict::Never, Outcome::NotLinked)
        | (Verdict::Timing(_), _) => true,
        (Verdict::Direct(_), Outcome::NotLinked) | (Verdict::Never, Outcome::Linked(None)) => false,
    };
    assert!(agrees, "the oracle says {verdict:?}, the outcome is {outcome:?}, for {}", describe(pair));
}

/// Whether the oracle allows a link on that rung: for certain, by good timing, or by a guess. A guess may hit where it may
/// hit; it never has to.
pub(crate) fn is_fair(pair: &Pair, verdict: Verdict, rung: Rung) -> bool {
    let untranslated = |walls: &[Wall]| walls.iter().all(|wall| !wall.translates);
    match verdict {
        Verdict::Direct(best) | Verdict::Timing(best) if is_fair_name(pair, best, rung) => true,
        Verdict::Direct(_) | Verdict::Timing(_) | Verdict::Never if guessable(pair) => match rung {
            Rung::Predicted => true,
            // Named after the side that has a public address.
            Rung::Reverse => untranslated(&pair.caster),
            Rung::Public => untranslated(&pair.viewer),
            Rung::Lan | Rung::PortMapped | Rung::Punched | Rung::Relayed => false,
        },
        Verdict::Direct(_) | Verdict::Timing(_) | Verdict::Never => false,
    }
}

/// Whether `rung` is a name for a link that the oracle allows. Applications name a link by addresses, so a host that
/// is only firewalled may pass for a public one, and of two public hosts either may have dialled. Where a hairpin is
/// as quick as the local network, either may win; but on one plain local network nothing else may.
fn is_fair_name(pair: &Pair, best: Rung, rung: Rung) -> bool {
    let untranslated = |own: &[Wall]| own.iter().chain(&pair.shared).all(|wall| !wall.translates);
    let one_network = pair.caster.is_empty() && pair.viewer.is_empty();
    rung == best
        || (rung == Rung::Reverse && untranslated(&pair.caster))
        || (rung == Rung::Public && untranslated(&pair.viewer))
        || (best == Rung::Lan && !one_network && allows(pair, rung))
}

/// Every kind of NAT: mapping × filtering.
pub(crate) fn kinds() -> impl Iterator<Item = Wall> {
    DEPENDENCES.into_iter().flat_map(|mapping| DEPENDENCES.map(|filtering| Wall::nat(mapping, filtering)))
}

/// (mapping × filtering)², with the refusals that each side gives strangers.
pub(crate) fn squares(refusals: [Refusal; 2]) -> Vec<Pair> {
    let with = |refusal| move |wall| Wall { refusal, ..wall };
    let viewers = || kinds().map(with(refusals[1]));
    let pairs =
        kinds().map(with(refusals[0])).flat_map(|caster| viewers().map(move |viewer| (caster, viewer)));
    pairs.map(|(caster, viewer)| Pair::apart(vec![caster], vec![viewer])).collect()
}

/// Everything that is not a NAT of its own on each side: public hosts, firewalls, local networks, hairpins.
pub(crate) fn odds_and_ends() -> Vec<Pair> {
    let firewalls = || DEPENDENCES.into_iter().map(|filtering| vec![Wall::firewall(filtering)]);
    let simple: Vec<Vec<Wall>> = std::iter::once(Vec::new()).chain(firewalls()).collect();
    let mut pairs = Vec::new();
    for plain in &simple {
        for other in simple.iter().cloned().chain(kinds().map(|wall| vec![wall])) {
            pairs.push(Pair::apart(plain.clone(), other.clone()));
            pairs.push(Pair::apart(other, plain.clone()));
        }
    }
    for hairpins in [true, false] {
        for shared in kinds().map(|wall| vec![Wall { hairpins, ..wall }]) {
            let own = [Vec::new(), vec![Wall::home()], vec![Wall::firewall(Dependence::AddressAndPort)]];
            for caster in &own {
                for viewer in &own {
                    let (caster, viewer) = (caster.clone(), viewer.clone());
                    pairs.push(Pair { caster, viewer, shared: shared.clone() });
                }
            }
        }
    }
    pairs
}

/// Walls and trees of walls at random, with every flag that the vocabulary has.
pub(crate) fn random_pair(rng: &mut fastrand::Rng) -> Pair {
    let mut walls = |most: usize| (0..rng.usize(..=most)).map(|_| random_wall(rng)).collect();
    let (caster, viewer): (Vec<Wall>, Vec<Wall>) = (walls(2), walls(2));
    let shared = if rng.u8(..4) == 0 { vec![random_wall(rng)] } else { Vec::new() };
    Pair { caster, viewer, shared }
}

fn random_wall(rng: &mut fastrand::Rng) -> Wall {
    let dependence = |rng: &mut fastrand::Rng| DEPENDENCES[rng.usize(..DEPENDENCES.len())];
    let (mapping, filtering) = (dependence(rng), dependence(rng));
    let allocations = [Allocation::Preserving, Allocation::Sequential(1), Allocation::Random];
    Wall {
        translates: rng.u8(..5) > 0,
        allocation: allocations[rng.usize(..allocations.len())],
        refusal: if rng.u8(..3) == 0 { Refusal::Rst } else { Refusal::Drop },
        rst_closes: rng.bool(),
        hairpins: rng.bool(),
        tracks_window: rng.bool(),
        refuses_simultaneous_open: rng.u8(..6) == 0,
        ..Wall::nat(mapping, filtering)
    }
}

/// A case in one line.
pub(crate) fn describe(pair: &Pair) -> String {
    let list = |walls: &[Wall]| walls.iter().map(describe_wall).collect::<Vec<_>>().join(" < ");
    format!(
        "caster [{}], viewer [{}], shared [{}]",
        list(&pair.caster),
        list(&pair.viewer),
        list(&pair.shared)
    )
}

fn describe_wall(wall: &Wall) -> String {
    let mut words = match wall.translates {
        true => format!("nat mapping {:?} {:?}", wall.mapping, wall.allocation),
        false => "firewall".to_owned(),
    };
    words += &format!(" filtering {:?} refusing by {:?}", wall.filtering, wall.refusal);
    let flags = [
        (wall.rst_closes, " rst-closes"),
        (wall.hairpins, " hairpins"),
        (wall.tracks_window, " tracks-window"),
        (wall.refuses_simultaneous_open, " refuses-simultaneous-open"),
    ];
    for (set, word) in flags {
        words += if set { word } else { "" };
    }
    words
}

/// The toys of [`crate::meet`].
fn toys(world: &mut World, cast: Cast) -> Outcome {
    let daemon = world.endpoint(cast.daemon, DAEMON_PORT);
    world.start(cast.daemon, ToyDaemon::new(daemon));
    for host in [cast.caster, cast.viewer] {
        let local = world.endpoint(host, HOLE_PORT);
        world.start(host, ToyClient::new(world.now(), local, daemon));
    }
    let linked = |world: &World, host| !world.app::<ToyClient>(host).notices.is_empty();
    let both = |world: &World| linked(world, cast.caster) && linked(world, cast.viewer);
    match world.run_until(TOY_PATIENCE, both) {
        Ok(_) => Outcome::Linked(None),
        Err(_) => Outcome::NotLinked,
    }
}

/// Longer than the retransmissions of a SYN that a slot or two went by.
const TOY_PATIENCE: Duration = Duration::from_secs(20);

/// Counted by hand. Both mappings independent: 9 of 9 link. One: 24 of 36 link (the independent side filters by
/// address at most), 4 hang on timing (the other does not filter), 8 do not. None: 20 of 36 link (one does not filter).
#[test]
fn of_81_pairs_that_drop_53_link_for_certain_and_24_never() {
    let verdicts: Vec<Verdict> = squares([Refusal::Drop; 2]).iter().map(judge).collect();
    let count = |wanted| verdicts.iter().filter(|verdict| **verdict == wanted).count();
    assert_eq!(count(Verdict::Direct(Rung::Punched)), 53);
    assert_eq!(count(Verdict::Timing(Rung::Punched)), 4);
    assert_eq!(count(Verdict::Never), 24);
}

#[test]
fn toys_link_where_the_oracle_says_behind_nats_that_drop() {
    for pair in squares([Refusal::Drop, Refusal::Drop]) {
        sweep(&describe(&pair), 1, |seed| check(seed, &pair, toys));
    }
}

#[test]
fn toys_link_where_the_oracle_says_behind_nats_that_reset() {
    for refusals in [[Refusal::Rst, Refusal::Drop], [Refusal::Drop, Refusal::Rst], [Refusal::Rst; 2]] {
        for pair in squares(refusals) {
            sweep(&describe(&pair), 1, |seed| check(seed, &pair, toys));
        }
    }
}

#[test]
fn toys_link_where_the_oracle_says_elsewhere() {
    for pair in odds_and_ends() {
        sweep(&describe(&pair), 1, |seed| check(seed, &pair, toys));
    }
}

#[test]
fn toys_link_where_the_oracle_says_behind_random_walls() {
    sweep("random walls", 400, |seed| {
        let pair = random_pair(&mut fastrand::Rng::with_seed(seed));
        check(seed, &pair, toys);
    });
}
