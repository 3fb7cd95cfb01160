//! The matrix as a table: every [cell](crate::cells), many seeds; each run held to the [oracle](crate::oracle) and to
//! the budgets, each cell to a share of runs that link.
//!
//! `PUNCHCAST_SIM_CELL="apdf x seq"` runs one cell alone, and `PUNCHCAST_SIM_SEED` one seed of it.

use crate::cells::{Cell, Draw};
use crate::matrix::{Cast, describe, is_fair, lay};
use crate::net::HostId;
use crate::oracle::{Verdict, allows, guessable, judge};
use crate::picture;
use crate::product::{
    With, cast_units, rung, shown, start_caster, start_daemon_with_alternate, start_viewer,
};
use crate::replay::seeds;
use crate::spec::{Allocation, Dependence, Pair, Refusal, Wall};
use crate::world::World;
use punchcast::policy::Rung;
use punchcast_client::caster::Caster;
use punchcast_client::notice::Notice;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How a run is set up beyond its cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Setup {
    /// Whether the daemon relays, so that every run must link.
    pub(crate) relay: bool,
}

/// Without a relay, to see the direct ways.
const DIRECT: Setup = Setup { relay: false };
/// With one.
const RELAYED: Setup = Setup { relay: true };

/// What came of one run.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) verdict: Verdict,
    pub(crate) rung: Option<Rung>,
    /// From the caster's start to its link or its end.
    pub(crate) took: Duration,
    /// The share of such runs that must link; `None` if none must.
    pub(crate) demand: Option<f64>,
    /// What must never be.
    pub(crate) fault: Option<String>,
    seed: u64,
    story: String,
}

/// Runs one seed of a cell.
pub(crate) fn run(cell: &Cell, seed: u64, setup: Setup) -> Run {
    let mut rng = fastrand::Rng::with_seed(cell.chance(seed));
    let draw = cell.draw(&mut rng);
    let (mut world, cast) = lay(rng.u64(..), &draw.pair);
    // Words take longer than what they tell of.
    world.net.traced = false;
    weather(&mut world, &draw);
    start_daemon_with_alternate(&mut world, cast, setup.relay);
    let ticket = start_viewer(&mut world, cast, With::Daemon);
    world.run_for(draw.offset);
    start_caster(&mut world, cast, &ticket);
    let started = world.now();
    let holes = [cast.caster, cast.viewer].map(|host| (host, world.hole(host).expect("it listens at once")));
    let over = |world: &World| rung(world, cast).is_some() || !world.is_running(cast.caster);
    let stuck = world.run_until(LONGEST, over).err().map(|stuck| format!("stuck: {}", stuck.why));
    let linked_at = world
        .app::<Caster>(cast.caster)
        .notices
        .iter()
        .find_map(|(at, notice)| if let Notice::Link { .. } = notice { Some(*at) } else { None });
    let took = linked_at.unwrap_or(world.now()) - started;
    // A link over which no picture comes is none.
    let rung = rung(&world, cast).filter(|_| shows(&mut world, cast));
    let (verdict, demand) = (judge(&draw.pair), demand(&draw.pair, setup));
    // Where the SYN on the local network is lost, the hairpin's link comes a second before its repetition.
    let is_late = |rung| draw.loss > 0.0 && allows(&draw.pair, rung);
    let is_relayed = |rung| setup.relay && rung == Rung::Relayed;
    let is_unfair =
        rung.is_some_and(|rung| !is_fair(&draw.pair, verdict, rung) && !is_late(rung) && !is_relayed(rung));
    let unfair = is_unfair.then(|| format!("{rung:?} against {verdict:?}"));
    let fault = stuck.or(unfair).or_else(|| breach(&world, cast, holes));
    Run { verdict, rung, took, demand, fault, seed, story: tell(&draw) }
}

/// How often a pair must link. What physics allows must be; guesses are held to the arithmetic of their budgets.
fn demand(pair: &Pair, setup: Setup) -> Option<f64> {
    if setup.relay {
        return Some(1.0);
    }
    let resets = |walls: &[Wall]| walls.iter().all(|wall| wall.refusal == Refusal::Rst);
    match judge(pair) {
        Verdict::Direct(_) => return Some(SURE),
        // Both homes' NATs and the one that they share answer with RST: a knock would have to die between two turns of
        // one hairpin, and no count of hops is learned in time.
        Verdict::Timing(_) if !pair.shared.is_empty() && resets(&pair.shared) => return None,
        // The inner NATs keep the refusals of the outer ones from the hosts, so neither side knocks where a link broke at once.
        Verdict::Timing(_) if pair.caster.len() > 1 && resets(&pair.caster) && resets(&pair.viewer) => {
            return Some(0.99);
        }
        Verdict::Timing(_) => return Some(SURE),
        Verdict::Never if !guessable(pair) || !pair.shared.is_empty() => return None,
        Verdict::Never => {}
    }
    match (Ports::of(&pair.caster), Ports::of(&pair.viewer)) {
        (Ports::Random, Ports::Random | Ports::Counted) | (Ports::Counted, Ports::Random) => None,
        // With each RST, a counting NAT goes on by one, and the two lose step.
        (Ports::Counted, Ports::Counted) if resets(&pair.caster) || resets(&pair.viewer) => Some(0.5),
        (Ports::Counted, Ports::Counted) => Some(0.9),
        // All but three in ten thousand, were it not for lost SYNs.
        (Ports::Random, Ports::Stable) | (Ports::Stable, Ports::Random) => Some(0.99),
        _ if pair.caster.len() + pair.viewer.len() > 2 => Some(0.95),
        (Ports::Counted | Ports::Stable, Ports::Counted | Ports::Stable) => Some(SURE),
    }
}

/// Which ports the walls before a side show to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ports {
    Stable,
    Counted,
    Random,
}

impl Ports {
    fn of(walls: &[Wall]) -> Self {
        let dependent =
            walls.iter().filter(|wall| wall.translates && wall.mapping != Dependence::Independent);
        dependent.fold(Self::Stable, |_, wall| match wall.allocation {
            Allocation::Sequential(_) => Self::Counted,
            Allocation::Preserving | Allocation::Random => Self::Random,
        })
    }
}

/// Whether a picture comes over the new link, of one each second. A link may break at once where a NAT believes a late RST,
/// and is made again.
fn shows(world: &mut World, cast: Cast) -> bool {
    (1..=PICTURES).any(|number| {
        world.run_for(Duration::from_millis(500));
        cast_units(world, cast, number, 1);
        world.run_until(Duration::from_secs(1), |world| !shown(world, cast).is_empty()).is_ok()
    })
}

fn breach(world: &World, cast: Cast, holes: [(HostId, u16); 2]) -> Option<String> {
    let daemon = world.addrs(cast.daemon);
    holes.into_iter().find_map(|(host, hole)| world.net.ledger.breach(host, daemon, hole))
}

fn weather(world: &mut World, draw: &Draw) {
    for (link, delay) in world.net.links().zip(&draw.delays) {
        link.delay = *delay;
        link.jitter = draw.jitter;
        link.loss = draw.loss;
    }
}

fn tell(draw: &Draw) -> String {
    let Draw { pair, delays, jitter, loss, offset } = draw;
    format!("{}; {delays:?}, jitter {jitter:?}, loss {loss:.4}, offset {offset:?}", describe(pair))
}

/// Runs every seed of every cell, on all processors.
fn run_all(cells: &[Cell], seeds: &Range<u64>, setup: Setup) -> Vec<Vec<Run>> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(cells.iter().map(|_| Vec::new()).collect::<Vec<Vec<Run>>>());
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some((at, cell)) = Some(next.fetch_add(1, Ordering::Relaxed))
                    .and_then(|at| cells.get(at).map(|cell| (at, cell)))
                {
                    let runs = seeds.clone().map(|seed| run(cell, seed, setup)).collect();
                    results.lock().expect("no worker panics while it holds the results")[at] = runs;
                }
            });
        }
    });
    results.into_inner().expect("no worker panics while it holds the results")
}

/// What is wrong with a cell.
fn complaints(cell: &Cell, runs: &[Run]) -> Vec<String> {
    let told = |run: &Run, what: &str| format!("{} seed {}: {what}; {}", cell.name(), run.seed, run.story);
    let mut complaints: Vec<String> =
        runs.iter().filter_map(|run| Some(told(run, run.fault.as_deref()?))).collect();
    let held: Vec<&Run> = runs.iter().filter(|run| run.demand.is_some()).collect();
    let least = held.iter().filter_map(|run| run.demand).fold(1.0, f64::min);
    let missed: Vec<&&Run> = held.iter().filter(|run| run.rung.is_none()).collect();
    // What of so many runs is improbable, three standard deviations above the mean; all cells together are held to it exactly. One
    // is let pass in any case: a small run is no finer measure.
    let mean = held.len() as f64 * (1.0 - least);
    let allowed = ((mean + 3.0 * mean.sqrt()) as usize).max(1);
    if missed.len() > allowed {
        complaints.push(format!("{}: {} of {} did not link", cell.name(), missed.len(), held.len()));
        complaints.extend(missed.iter().take(3).map(|run| told(run, "no link")));
    }
    complaints
}

/// All cells, or the one that is asked for.
fn wanted() -> Vec<Cell> {
    let wanted = std::env::var("PUNCHCAST_SIM_CELL").ok();
    let is_wanted = |cell: &Cell| wanted.as_ref().is_none_or(|wanted| cell.name() == *wanted);
    Cell::all().into_iter().filter(is_wanted).collect()
}

#[test]
fn with_the_relay_on_every_run_links() {
    let cells = wanted();
    let results = run_all(&cells, &seeds(SEEDS / 2), RELAYED);
    let runs = || results.iter().flatten();
    let relayed = runs().filter(|run| run.rung == Some(Rung::Relayed)).count();
    println!("{relayed} of {} runs were relayed", runs().count());
    let wrong: Vec<String> = cells
        .iter()
        .zip(&results)
        .flat_map(|(cell, runs)| runs.iter().map(move |run| (cell, run)))
        .filter(|(_, run)| run.rung.is_none() || run.fault.is_some())
        .map(|(cell, run)| {
            format!("{} seed {}: {:?} {:?}; {}", cell.name(), run.seed, run.rung, run.fault, run.story)
        })
        .collect();
    for run in &wrong {
        println!("{run}");
    }
    assert!(wrong.is_empty(), "{} runs, the first: {}", wrong.len(), wrong[0]);
}

#[test]
fn every_cell_links_as_often_as_the_oracle_and_the_budgets_allow() {
    let cells = wanted();
    let seeds = seeds(SEEDS);
    let results = run_all(&cells, &seeds, DIRECT);
    for (cell, runs) in cells.iter().zip(&results) {
        println!("{:50} {}", cell.name(), picture::Summary::of(runs));
    }
    let complaints: Vec<String> =
        cells.iter().zip(&results).flat_map(|(cell, runs)| complaints(cell, runs)).collect();
    let sure = |run: &&Run| run.demand == Some(SURE);
    let held = results.iter().flatten().filter(sure).count();
    let missed = results.iter().flatten().filter(sure).filter(|run| run.rung.is_none()).count();
    println!("{missed} of {held} runs that must link did not");
    for complaint in &complaints {
        println!("{complaint}");
    }
    assert!(missed * 1000 <= held, "{missed} of {held} runs that must link did not");
    assert!(complaints.is_empty(), "{} complaints, the first: {}", complaints.len(), complaints[0]);
    if cells.len() == Cell::all().len() && seeds.start == 0 {
        picture::keep(&cells, &results, &seeds);
    }
}

/// A run that found a fault, and what it was.
const FOUND: [(&str, u64, &str); 17] = [
    ("rnd-r x apdf", 87, "more hits than the peer's door lets wait displaced the one that was nominated"),
    ("rnd-r x fw-r", 52, "the same"),
    ("seq x fw", 37, "an amendment renewed a SYN that the kernel had just repeated"),
    (
        "seq x apdf",
        3,
        "the mapping to the peer was made between two samples, and only later ports were swept",
    ),
    ("seq x apdf", 37, "a fresh SYN spoilt the answer to the kernel's repetition of the one before"),
    (
        "seq-r x apdf-r",
        13,
        "a better aim closed connects that were answered already; refused SYNs used up ports",
    ),
    ("apdf x seq", 71, "the alternate address was told after the sample that it was to follow"),
    ("apdf x seq", 78, "a sample whose SYN was lost made the ports seem to count downwards"),
    ("apdf x rnd", 174, "the alternate address was told after all samples"),
    ("seq x seq", 0, "both counted, and the one's next port was the other's last"),
    ("keep x apdf", 1, "a kept port was swept alone, though it is taken for the daemon"),
    ("apdf x apdf", 727, "a connect stayed half open after a RST had ended its session"),
    ("eif x keep", 32, "the daemon's FIN met the next assist connection, whose answer ended its session"),
    ("fw x seq-r", 56, "what a sweep had found and lost was not dialled again"),
    (
        "seq-r x fw",
        68,
        "a sweep's second round was another socket's to the NAT that had seen the first cross",
    ),
    ("rnd-e x apdf", 309, "the NAT could not tell the peer's session from the one that its host had begun"),
    ("fw-r x seq-r", 107, "a sweep's second round, again"),
];

/// The same where the daemon relays.
const FOUND_RELAYED: [(&str, u64, &str); 5] = [
    ("seq x keep", 313, "three losses in a row took the proof's time, and no relay was asked for again"),
    (
        "random home behind a provider's NAT x apdf",
        832,
        "the relayed link's nomination came after the direct one's, and took its place",
    ),
    (
        "two RST homes, one provider's NAT, hairpin",
        474,
        "a way of more than a second was taken for dead, again and again",
    ),
    ("two homes, one provider's NAT in sequence, hairpin", 833, "the same"),
    ("seq x rnd-a", 805, "a request for a relay was lost until the daemon closed its connection"),
];

#[test]
fn runs_that_once_found_a_fault_link() {
    let found = FOUND.map(|found| (found, DIRECT)).into_iter();
    for ((name, seed, fault), setup) in found.chain(FOUND_RELAYED.map(|found| (found, RELAYED))) {
        let cell =
            Cell::all().into_iter().find(|cell| cell.name() == name).expect("the cell is in the table");
        let run = run(&cell, seed, setup);
        assert!(run.rung.is_some() && run.fault.is_none(), "{name} seed {seed} ({fault}): {run:?}");
    }
}

/// Longer than the product tries: 30 s from the last introduction on.
const LONGEST: Duration = Duration::from_secs(60);
/// More than enough for a link that broke at once to be noticed and made again.
const PICTURES: u32 = 20;
/// How often what physics allows must be.
const SURE: f64 = 0.999;
/// Seeds of a cell in an ordinary run.
const SEEDS: u64 = 8;
