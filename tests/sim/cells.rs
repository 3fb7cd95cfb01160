//! The cells of the matrix: what stands before the caster × what stands before the viewer, and special places; with
//! the weather and the whims that each seed draws anew.

use crate::spec::{Allocation, Dependence, Pair, Refusal, Wall};
use std::time::Duration;

/// What stands before one side: a row or a column of the picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Kind {
    /// In the picture.
    pub(crate) name: &'static str,
    /// In its legend.
    pub(crate) words: &'static str,
    /// Outward; what is not named is drawn.
    walls: &'static [Wall],
}

/// A cell of the matrix.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cell {
    /// One kind against another.
    Square {
        /// Before the caster.
        caster: &'static Kind,
        /// Before the viewer.
        viewer: &'static Kind,
    },
    /// A place that is no row or column.
    Special(&'static Special),
}

/// Who is behind what, where that takes more than a wall on each side.
#[derive(Debug)]
pub(crate) struct Special {
    /// In the picture.
    pub(crate) name: &'static str,
    caster: &'static [Wall],
    viewer: &'static [Wall],
    shared: &'static [Wall],
}

/// What a seed makes of a cell.
#[derive(Clone, Debug)]
pub(crate) struct Draw {
    /// The walls.
    pub(crate) pair: Pair,
    /// One way on the link of each wall and host, in the order in which they are laid.
    pub(crate) delays: Vec<Duration>,
    /// On every link.
    pub(crate) jitter: Duration,
    /// On every link.
    pub(crate) loss: f64,
    /// From the viewer's start to the caster's.
    pub(crate) offset: Duration,
}

impl Cell {
    /// Every cell, in the order of the picture.
    pub(crate) fn all() -> Vec<Self> {
        let squares =
            KINDS.iter().flat_map(|caster| KINDS.iter().map(move |viewer| Self::Square { caster, viewer }));
        squares.chain(SPECIALS.iter().map(Self::Special)).collect()
    }

    /// The cell in a few words.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Square { caster, viewer } => format!("{} x {}", caster.name, viewer.name),
            Self::Special(special) => special.name.to_owned(),
        }
    }

    /// Where chance begins, for one seed of this cell.
    pub(crate) fn chance(&self, seed: u64) -> u64 {
        let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME);
        self.name().bytes().chain(seed.to_be_bytes()).fold(FNV_BASIS, mix)
    }

    /// Draws what the cell leaves open.
    pub(crate) fn draw(&self, rng: &mut fastrand::Rng) -> Draw {
        let (caster, viewer, shared) = match self {
            Self::Square { caster, viewer } => (caster.walls, viewer.walls, [].as_slice()),
            Self::Special(special) => (special.caster, special.viewer, special.shared),
        };
        let mut walls = |of: &[Wall]| of.iter().map(|wall| whim(*wall, rng)).collect::<Vec<Wall>>();
        let pair = Pair { caster: walls(caster), viewer: walls(viewer), shared: walls(shared) };
        // Three hosts, one of them the daemon's.
        let links = pair.caster.len() + pair.viewer.len() + pair.shared.len() + 3;
        let delays = (0..links).map(|_| Duration::from_micros(rng.u64(..=MAX_DELAY))).collect();
        let windy = rng.bool();
        let jitter = if windy { Duration::from_micros(rng.u64(..=MAX_JITTER)) } else { Duration::ZERO };
        let loss = if rng.bool() { rng.f64() * MAX_LOSS } else { 0.0 };
        let offset = match rng.u8(..20) {
            // Before the viewer has logged in.
            0..4 => Duration::from_millis(rng.u64(..500)),
            // So late that what was seen of the viewer's NAT is stale.
            4 => Duration::from_millis(rng.u64(60_000..90_000)),
            _ => Duration::from_millis(rng.u64(500..10_000)),
        };
        Draw { pair, delays, jitter, loss, offset }
    }
}

/// What a wall's kind leaves open.
fn whim(wall: Wall, rng: &mut fastrand::Rng) -> Wall {
    let dependent = wall.mapping != Dependence::Independent;
    let mapping = if dependent && rng.u8(..3) == 0 { Dependence::Address } else { wall.mapping };
    let allocation = match wall.allocation {
        Allocation::Sequential(_) => Allocation::Sequential([1, 1, 2, 4, 8][rng.usize(..5)]),
        // One mapping for all, whichever port it has.
        Allocation::Preserving if !dependent => {
            [Allocation::Preserving, Allocation::Sequential(1), Allocation::Random][rng.usize(..3)]
        }
        other @ (Allocation::Preserving | Allocation::Random) => other,
    };
    Wall { mapping, allocation, rst_closes: rng.u8(..4) > 0, tracks_window: rng.bool(), ..wall }
}

const fn rst(wall: Wall) -> Wall {
    Wall { refusal: Refusal::Rst, ..wall }
}

const fn hairpin(wall: Wall) -> Wall {
    Wall { hairpins: true, ..wall }
}

const fn stable(filtering: Dependence) -> Wall {
    Wall::nat(Dependence::Independent, filtering)
}

const fn dependent(allocation: Allocation, filtering: Dependence) -> Wall {
    Wall { allocation, ..Wall::nat(Dependence::AddressAndPort, filtering) }
}

const FIREWALL: Wall = Wall::firewall(STRICT);
const HOME: Wall = Wall::home();
const COUNTS: Allocation = Allocation::Sequential(1);
const STRICT: Dependence = Dependence::AddressAndPort;

/// Every kind, most open first.
pub(crate) const KINDS: [Kind; 16] = [
    Kind { name: "open", words: "no wall", walls: &[] },
    Kind { name: "fw", words: "stateful firewall, no NAT", walls: &[FIREWALL] },
    Kind { name: "fw-r", words: "the same, refusing by RST", walls: &[rst(FIREWALL)] },
    Kind { name: "eif", words: "stable mapping, no filter", walls: &[stable(Dependence::Independent)] },
    Kind { name: "adf", words: "stable, filtering by address", walls: &[stable(Dependence::Address)] },
    Kind { name: "apdf", words: "stable, filtering by address and port", walls: &[HOME] },
    Kind { name: "apdf-r", words: "the same, refusing by RST", walls: &[rst(HOME)] },
    Kind {
        name: "seq-e",
        words: "in sequence, no filter",
        walls: &[dependent(COUNTS, Dependence::Independent)],
    },
    Kind {
        name: "seq-a",
        words: "in sequence, filtering by address",
        walls: &[dependent(COUNTS, Dependence::Address)],
    },
    Kind {
        name: "seq",
        words: "in sequence, filtering by address and port",
        walls: &[dependent(COUNTS, STRICT)],
    },
    Kind { name: "seq-r", words: "the same, refusing by RST", walls: &[rst(dependent(COUNTS, STRICT))] },
    Kind {
        name: "keep",
        words: "dependent, keeping the port for the first destination and drawing it for the others",
        walls: &[dependent(Allocation::Preserving, STRICT)],
    },
    Kind {
        name: "rnd-e",
        words: "random, no filter",
        walls: &[dependent(Allocation::Random, Dependence::Independent)],
    },
    Kind {
        name: "rnd-a",
        words: "random, filtering by address",
        walls: &[dependent(Allocation::Random, Dependence::Address)],
    },
    Kind {
        name: "rnd",
        words: "random, filtering by address and port",
        walls: &[dependent(Allocation::Random, STRICT)],
    },
    Kind {
        name: "rnd-r",
        words: "the same, refusing by RST",
        walls: &[rst(dependent(Allocation::Random, STRICT))],
    },
];

const RANDOM: Wall = dependent(Allocation::Random, STRICT);
const SEQUENCE: Wall = dependent(COUNTS, STRICT);
/// A NAT that drops a SYN which answers a SYN.
const ONE_WAY: Wall = Wall { refuses_simultaneous_open: true, ..HOME };

/// Places that are no row or column.
pub(crate) const SPECIALS: [Special; 20] = [
    Special { name: "one home", caster: &[], viewer: &[], shared: &[HOME] },
    Special { name: "one home, hairpin", caster: &[], viewer: &[], shared: &[hairpin(HOME)] },
    Special { name: "one home, random", caster: &[], viewer: &[], shared: &[RANDOM] },
    Special {
        name: "one home, firewalls on both hosts",
        caster: &[FIREWALL],
        viewer: &[FIREWALL],
        shared: &[HOME],
    },
    Special { name: "one home, one behind a second router", caster: &[], viewer: &[HOME], shared: &[HOME] },
    Special { name: "two NATs in a row x apdf", caster: &[HOME, HOME], viewer: &[HOME], shared: &[] },
    Special {
        name: "two NATs in a row on both sides",
        caster: &[HOME, HOME],
        viewer: &[HOME, HOME],
        shared: &[],
    },
    Special {
        name: "two RST NATs in a row on both sides",
        caster: &[rst(HOME), rst(HOME)],
        viewer: &[rst(HOME), rst(HOME)],
        shared: &[],
    },
    Special { name: "two homes, one provider's NAT", caster: &[HOME], viewer: &[HOME], shared: &[HOME] },
    Special {
        name: "two homes, one provider's NAT, hairpin",
        caster: &[HOME],
        viewer: &[HOME],
        shared: &[hairpin(HOME)],
    },
    Special {
        name: "two RST homes, one provider's NAT, hairpin",
        caster: &[rst(HOME)],
        viewer: &[rst(HOME)],
        shared: &[hairpin(rst(HOME))],
    },
    Special {
        name: "two homes, one provider's NAT in sequence, hairpin",
        caster: &[HOME],
        viewer: &[HOME],
        shared: &[hairpin(SEQUENCE)],
    },
    Special {
        name: "home behind a provider's NAT in sequence x apdf",
        caster: &[HOME, SEQUENCE],
        viewer: &[HOME],
        shared: &[],
    },
    Special {
        name: "apdf x home behind a provider's NAT in sequence",
        caster: &[HOME],
        viewer: &[HOME, SEQUENCE],
        shared: &[],
    },
    Special {
        name: "home behind a random provider's NAT x apdf",
        caster: &[HOME, RANDOM],
        viewer: &[HOME],
        shared: &[],
    },
    Special {
        name: "apdf x home behind a random provider's NAT",
        caster: &[HOME],
        viewer: &[HOME, RANDOM],
        shared: &[],
    },
    Special {
        name: "random home behind a provider's NAT x apdf",
        caster: &[RANDOM, HOME],
        viewer: &[HOME],
        shared: &[],
    },
    Special {
        name: "firewall before a NAT x apdf-r",
        caster: &[HOME, rst(FIREWALL)],
        viewer: &[rst(HOME)],
        shared: &[],
    },
    Special { name: "no simultaneous open x apdf", caster: &[ONE_WAY], viewer: &[HOME], shared: &[] },
    Special {
        name: "no simultaneous open x adf",
        caster: &[ONE_WAY],
        viewer: &[stable(Dependence::Address)],
        shared: &[],
    },
];

/// Microseconds, one way, on each link: a host's own network, too, may be a wireless one.
const MAX_DELAY: u64 = 100_000;
/// Microseconds.
const MAX_JITTER: u64 = 10_000;
/// Of all segments on each link: up to 8 in a hundred from host to host.
const MAX_LOSS: f64 = 0.02;

/// FNV-1a.
const FNV_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;
