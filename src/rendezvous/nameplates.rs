//! Nameplates: the numbers of short codes, each some viewer's.
//!
//! A table and its rules; what is asked under a number is the [`calls`](super::calls)' affair. A number stays its viewer's
//! for a while after a connection breaks, so that the code which somebody was just told still holds. Whose it is tells the
//! rendezvous id, which a viewer has proven with its owner token.

use super::limits::{Bucket, Limits};
use crate::code::MAX_NUMBER;
use crate::endpoint::Prefix;
use crate::id::RendezvousId;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Instant;

/// Numbers of one digit, of two, and so on: the shortest that is not half taken is drawn from. So numbers are short, and
/// one that was just given back is rarely somebody else's the next moment.
const BANDS: usize = MAX_NUMBER.ilog10() as usize + 1;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Nameplates {
    plates: BTreeMap<u32, Plate>,
    numbers: BTreeMap<RendezvousId, u32>,
    /// How many each address has.
    held: BTreeMap<Prefix, u32>,
    /// How many of each band are taken.
    taken: [u32; BANDS],
}

#[derive(Debug)]
struct Plate {
    owner: RendezvousId,
    prefix: Prefix,
    /// Since when its viewer is away.
    left: Option<Instant>,
    /// When the agenda looks at it next, so that it has one entry there however often its viewer leaves.
    armed: Option<Instant>,
    calls: Bucket,
}

impl Nameplates {
    /// The number that `owner`, who comes from `prefix`, has from here on: `wish` if that is its own or free, else another
    /// than it has. `None`, and it has none, where there are too many.
    pub(super) fn allot(
        &mut self,
        owner: RendezvousId,
        prefix: Prefix,
        wish: u32,
        rng: &mut fastrand::Rng,
        limits: &Limits,
    ) -> Option<u32> {
        let had = self.numbers.get(&owner).copied();
        let kept = self.free(owner).filter(|_| had == Some(wish));
        let (calls, armed) = kept.map_or_else(Default::default, |plate| (plate.calls, plate.armed));
        let held = self.held.get(&prefix).copied().unwrap_or(0);
        if self.plates.len() >= limits.nameplates || held >= limits.nameplates_per_address {
            return None;
        }
        let can_be_given =
            |number: u32| (1..=MAX_NUMBER).contains(&number) && !self.plates.contains_key(&number);
        let number = if can_be_given(wish) { wish } else { self.draw(had, rng)? };
        let plate = Plate { owner, prefix, left: None, armed, calls };
        self.plates.insert(number, plate);
        self.numbers.insert(owner, number);
        *self.held.entry(prefix).or_default() += 1;
        self.taken[band_of(number)] += 1;
        Some(number)
    }

    fn draw(&self, but: Option<u32>, rng: &mut fastrand::Rng) -> Option<u32> {
        let (_, band) = (0..BANDS)
            .map(|index| (self.taken[index], band(index)))
            .find(|(taken, band)| taken * 2 < band.end() - band.start())?;
        let from = rng.u32(band.clone());
        let all = (from..=*band.end()).chain(*band.start()..from);
        all.into_iter().find(|number| !self.plates.contains_key(number) && but != Some(*number))
    }

    /// The number of `owner`.
    pub(super) fn of(&self, owner: RendezvousId) -> Option<u32> {
        self.numbers.get(&owner).copied()
    }

    /// Whose the number is.
    pub(super) fn owner(&self, number: u32) -> Option<RendezvousId> {
        self.plates.get(&number).map(|plate| plate.owner)
    }

    /// Uses up one call for the number, if there is one.
    pub(super) fn take_call(&mut self, now: Instant, number: u32, limits: &Limits) -> bool {
        let plate = self.plates.get_mut(&number);
        plate.is_some_and(|plate| plate.calls.take(now, limits.calls_per_nameplate))
    }

    /// The viewer's connection broke: when its number is to be looked at ([`expire`](Self::expire)), if that is not planned yet.
    pub(super) fn leave(
        &mut self,
        now: Instant,
        owner: RendezvousId,
        limits: &Limits,
    ) -> Option<(Instant, u32)> {
        let number = self.of(owner)?;
        let plate = self.plates.get_mut(&number)?;
        plate.left = Some(now);
        if plate.armed.is_some() {
            return None;
        }
        let at = now + limits.nameplate_grace;
        plate.armed = Some(at);
        Some((at, number))
    }

    /// Frees the number of a viewer that has been away for the grace; when to look again at one that has not.
    pub(super) fn expire(&mut self, now: Instant, number: u32, limits: &Limits) -> Option<Instant> {
        let plate = self.plates.get_mut(&number)?;
        plate.armed = None;
        let due = plate.left? + limits.nameplate_grace;
        if due <= now {
            let owner = plate.owner;
            self.free(owner);
            return None;
        }
        plate.armed = Some(due);
        plate.armed
    }

    /// Takes a viewer's number away.
    pub(super) fn give_back(&mut self, owner: RendezvousId) {
        self.free(owner);
    }

    fn free(&mut self, owner: RendezvousId) -> Option<Plate> {
        let number = self.numbers.remove(&owner)?;
        let plate = self.plates.remove(&number)?;
        self.taken[band_of(number)] -= 1;
        if let Some(held) = self.held.get_mut(&plate.prefix) {
            *held -= 1;
            if *held == 0 {
                self.held.remove(&plate.prefix);
            }
        }
        Some(plate)
    }

    /// How many are taken.
    pub(super) fn len(&self) -> usize {
        self.plates.len()
    }

    #[cfg(debug_assertions)]
    pub(super) fn check_invariants(&self, limits: &Limits) {
        assert_eq!(self.plates.len(), self.numbers.len(), "one number a viewer");
        assert!(self.plates.len() <= limits.nameplates);
        for (number, plate) in &self.plates {
            assert_eq!(self.numbers.get(&plate.owner), Some(number));
        }
        assert_eq!(self.held.values().map(|held| *held as usize).sum::<usize>(), self.plates.len());
        assert_eq!(self.taken.iter().map(|taken| *taken as usize).sum::<usize>(), self.plates.len());
        assert!(self.held.values().all(|held| *held > 0 && *held <= limits.nameplates_per_address));
    }
}

const fn band_of(number: u32) -> usize {
    number.ilog10() as usize
}

fn band(index: usize) -> RangeInclusive<u32> {
    let least = 10_u32.pow(u32::try_from(index).unwrap_or_default());
    least..=least * 10 - 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::Duration;

    fn owner(of: u32) -> RendezvousId {
        let mut id = [0; 16];
        id[..4].copy_from_slice(&of.to_be_bytes());
        RendezvousId(id)
    }

    fn prefix(of: u8) -> Prefix {
        Prefix::of(IpAddr::V4(Ipv4Addr::new(192, 0, 2, of)))
    }

    struct Bench {
        plates: Nameplates,
        rng: fastrand::Rng,
        limits: Limits,
    }

    impl Bench {
        fn new() -> Self {
            let limits = Limits { nameplates_per_address: u32::MAX, ..Limits::default() };
            Self { plates: Nameplates::default(), rng: fastrand::Rng::with_seed(1), limits }
        }

        fn allot(&mut self, of: u32, wish: u32) -> Option<u32> {
            let number = self.plates.allot(owner(of), prefix(1), wish, &mut self.rng, &self.limits);
            #[cfg(debug_assertions)]
            self.plates.check_invariants(&self.limits);
            number
        }
    }

    #[test]
    fn numbers_are_short_and_nobody_has_another_s() {
        let mut bench = Bench::new();
        let mut seen = std::collections::BTreeSet::new();
        for of in 0..2000 {
            let number = bench.allot(of, 0).unwrap();
            assert!(seen.insert(number), "{number}");
            let most = match of {
                0..4 => 9,
                4..48 => 99,
                48..490 => 999,
                _ => 9999,
            };
            assert!(number <= most, "{number} for viewer {of}");
        }
    }

    #[test]
    fn a_viewer_keeps_its_number_or_gets_another_as_it_wishes() {
        let mut bench = Bench::new();
        let first = bench.allot(1, 0).unwrap();
        assert_eq!(bench.allot(1, first), Some(first));
        for _ in 0..50 {
            let before = bench.plates.of(owner(1)).unwrap();
            let after = bench.allot(1, 0).unwrap();
            assert_ne!(after, before, "never the one that was withdrawn");
        }
        assert_eq!(bench.plates.len(), 1);
        // A number of an earlier daemon's, if nobody else has it.
        assert_eq!(bench.allot(2, 427), Some(427));
        assert_ne!(bench.allot(3, 427), Some(427));
        assert!(bench.allot(4, MAX_NUMBER + 1).unwrap() <= 9);
    }

    #[test]
    #[allow(clippy::disallowed_methods)] // A test's time begins somewhere.
    fn a_number_outlives_its_viewer_s_connection_for_the_grace() {
        let (mut bench, now) = (Bench::new(), Instant::now());
        let number = bench.allot(1, 0).unwrap();
        let over = now + bench.limits.nameplate_grace;
        assert_eq!(bench.plates.leave(now, owner(1), &bench.limits), Some((over, number)));
        let early = over - Duration::from_millis(1);
        assert_eq!(bench.plates.expire(early, number, &bench.limits), Some(over), "looked at again");
        assert_eq!(bench.plates.owner(number), Some(owner(1)));
        assert_eq!(
            bench.plates.leave(now, owner(1), &bench.limits),
            None,
            "one look is planned, and no more"
        );
        assert_eq!(bench.allot(1, number), Some(number), "it is back");
        bench.plates.expire(over, number, &bench.limits);
        assert_eq!(bench.plates.owner(number), Some(owner(1)), "and stays");
        bench.plates.leave(over, owner(1), &bench.limits);
        bench.plates.expire(over + bench.limits.nameplate_grace, number, &bench.limits);
        assert_eq!((bench.plates.owner(number), bench.plates.len()), (None, 0));
    }

    #[test]
    fn there_are_so_many_in_all_and_so_many_of_an_address() {
        let mut bench = Bench::new();
        bench.limits = Limits { nameplates: 5, nameplates_per_address: 2, ..Limits::default() };
        assert!(bench.allot(1, 0).is_some() && bench.allot(2, 0).is_some());
        assert_eq!(bench.allot(3, 0), None);
        assert!(bench.allot(2, 0).is_some(), "instead of its own");
        for of in 10..13 {
            let got = bench.plates.allot(owner(of), prefix(2 + of as u8), 0, &mut bench.rng, &bench.limits);
            assert!(got.is_some());
        }
        let got = bench.plates.allot(owner(20), prefix(99), 0, &mut bench.rng, &bench.limits);
        assert_eq!(got, None);
    }
}
