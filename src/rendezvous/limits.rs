//! What the broker allows: every number with its reason, and the books kept for each source address.

use crate::endpoint::Prefix;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Every limit of the broker. [`Limits::default`] suits a public daemon; whoever runs many clients on one address (a
/// laboratory, a benchmark) raises those that count by address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections in all, both ports together. 100,000 idle ones cost 400 MB in the kernel.
    pub connections: usize,
    /// Logins in all. Each has a main and usually an assist connection.
    pub logins: usize,
    /// Connections from one address (IPv6: one /64), all ports together. A large household, or a small office behind
    /// one NAT, at two connections a client that last and a few that show mappings.
    pub connections_per_address: u32,
    /// Connections accepted from one address. A few dozen clients at once when such an office comes back, each with its
    /// main and assist connections and some samples, then a trickle.
    pub accepts_per_address: Rate,
    /// Introductions begun by casters of one address.
    pub introductions_per_address: Rate,
    /// Introductions of anybody to a viewer of one address. Each makes strangers send SYNs there.
    pub introductions_per_victim: Rate,
    /// Requests for an introduction by one caster.
    pub requests_per_caster: Rate,
    /// Messages on one connection, after which it is closed. A client has a heartbeat every 25 s and a handful of
    /// messages an introduction.
    pub messages: Rate,
    /// Casters in one rendezvous. Each hears of each other, so this bounds what one login sets off.
    pub casters: usize,
    /// Assist connections of one login: two address families, twice, so that a new one can replace a dead one. One
    /// more takes the place of the oldest.
    pub assists: usize,
    /// Samples of one login. A client takes up to seven at its login and a few more when an introduction finds those
    /// old.
    pub samples: Rate,
    /// How many samples of a login are remembered, the latest.
    pub samples_kept: usize,
    /// Tests of its filtering that a login may ask for.
    pub filter_tests: u32,
    /// Connects under way at one time to test clients' filtering, of all logins. Each is a descriptor and a SYN or two.
    pub filter_dials: usize,
    /// How long such a connect may take: a SYN lost once has its chance.
    pub filter_time: Duration,
    /// The longest that one side of an introduction is asked to wait for the other. What is more is no round trip but a
    /// client that lies, or a path on which punching has no moment to be aligned to.
    pub start_in: Duration,
    /// From accept to the first message. Several round trips on the slowest path, and a SYN retransmitted or two.
    pub first_message: Duration,
    /// How long an assist connection waits for the login of its token. Both are opened at one moment; only a
    /// retransmission comes between.
    pub held: Duration,
    /// Silence that ends a connection: three heartbeats and a bit.
    pub idle: Duration,
    /// How long a client may leave its bytes unread.
    pub backlog: Duration,
    /// How many bytes may be queued for a client that does not read.
    pub backlog_bytes: usize,
    /// How long an introduction can still be amended or completed. Punching is over by then, one way or the other.
    pub introduction: Duration,
    /// Relayed links at one time, where relaying is switched on. At 2.5 MB/s each, in one direction, 64 use 1.3 Gbit/s
    /// of a line each way.
    pub relays: usize,
    /// Relayed links at one time with a half from one address.
    pub relays_per_address: u32,
    /// What one relayed link passes in all, both directions together: an hour at 4.5 Mbit/s.
    pub relay_bytes: u64,
    /// How long one relayed link lasts at most.
    pub relay_time: Duration,
    /// How fast each direction of a relayed link goes: 20 Mbit/s, above what a picture is cast with, and half a second
    /// of it at once, which is a large key picture.
    pub relay_pace: Allowance,
    /// What is relayed for one address, so that asking again and again gives no more: two whole links an hour.
    pub relay_allowance: Allowance,
    /// How long one half of a relay waits for the other. The two sides give up their direct attempts seconds apart.
    pub relay_pairing: Duration,
    /// Silence in both directions that ends a relay. The clients' own link is over after 3 to 10 s of it.
    pub relay_silence: Duration,
    /// Numbers of short codes in all: one a login.
    pub nameplates: usize,
    /// The same of one address: as many viewers as a large household, or a small office, leaves running.
    pub nameplates_per_address: u32,
    /// How long a number waits for a viewer whose connection broke: clients try again within a minute, and a network that
    /// was away for one is back.
    pub nameplate_grace: Duration,
    /// Calls, which are guesses, from one address: some slips of the tongue at once, then one each ten seconds.
    pub calls_per_address: Rate,
    /// Calls under one number, from anywhere: several casters at once, and little to do for the viewer.
    pub calls_per_nameplate: Rate,
    /// Calls to one viewer at one time.
    pub calls_at_once: usize,
    /// How long one takes at most: two round trips to either side, and a segment or two sent again.
    pub call: Duration,
    /// Asked of clients in `Welcome`. Below the 30 s at which the shortest-lived TCP mappings in the field end.
    pub heartbeat: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 100_000,
            logins: 50_000,
            connections_per_address: 256,
            accepts_per_address: Rate { burst: 128, every: Duration::from_millis(25) },
            introductions_per_address: Rate { burst: 10, every: Duration::from_millis(100) },
            introductions_per_victim: Rate { burst: 3, every: Duration::from_millis(3333) },
            requests_per_caster: Rate { burst: 5, every: Duration::from_millis(200) },
            messages: Rate { burst: 100, every: Duration::from_millis(100) },
            casters: 16,
            assists: 4,
            samples: Rate { burst: 8, every: Duration::from_millis(7500) },
            samples_kept: 8,
            filter_tests: 3,
            filter_dials: 64,
            filter_time: Duration::from_secs(2),
            start_in: Duration::from_millis(500),
            first_message: Duration::from_secs(5),
            held: Duration::from_secs(5),
            idle: Duration::from_secs(90),
            backlog: Duration::from_secs(5),
            backlog_bytes: 16 * 1024,
            introduction: Duration::from_secs(10),
            relays: 64,
            relays_per_address: 4,
            relay_bytes: 2048 * MEGABYTE,
            relay_time: Duration::from_secs(60 * 60),
            relay_pace: Allowance { bytes: 1_250_000, within: Duration::from_millis(500) },
            relay_allowance: Allowance { bytes: 4096 * MEGABYTE, within: Duration::from_secs(60 * 60) },
            relay_pairing: Duration::from_secs(25),
            relay_silence: Duration::from_secs(15),
            nameplates: 50_000,
            nameplates_per_address: 64,
            nameplate_grace: Duration::from_secs(120),
            calls_per_address: Rate { burst: 6, every: Duration::from_secs(10) },
            calls_per_nameplate: Rate { burst: 10, every: Duration::from_secs(3) },
            calls_at_once: 4,
            call: Duration::from_secs(15),
            heartbeat: Duration::from_secs(25),
        }
    }
}

/// What limits of volume are counted in.
pub const MEGABYTE: u64 = 1_000_000;

/// So many at once, then one more `every` so often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many at once after a rest.
    pub burst: u32,
    /// How long it takes to be allowed one more.
    pub every: Duration,
}

impl Rate {
    /// The same time to rest, but `burst` within it.
    #[must_use]
    pub fn with_burst(self, burst: u32) -> Self {
        let every = self.rest() / burst.max(1);
        Self { burst, every: every.max(Duration::from_nanos(1)) }
    }

    /// From spent to a full burst.
    fn rest(self) -> Duration {
        self.every.saturating_mul(self.burst)
    }
}

/// How much of a [`Rate`] is used up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bucket {
    /// When nothing is used up any more.
    rested: Option<Instant>,
}

impl Bucket {
    /// Uses up one, if there is one.
    pub(super) fn take(&mut self, now: Instant, rate: Rate) -> bool {
        let from = self.rested.filter(|at| *at > now).unwrap_or(now);
        let rested = from + rate.every;
        let allowed = rested.duration_since(now) <= rate.rest();
        if allowed {
            self.rested = Some(rested);
        }
        allowed
    }

    /// The time until nothing is used up any more.
    fn debt(self, now: Instant) -> Duration {
        self.rested.map_or(Duration::ZERO, |at| at.saturating_duration_since(now))
    }

    /// Whether forgetting the bucket changes nothing.
    fn is_rested(self, now: Instant) -> bool {
        self.rested.is_none_or(|at| at <= now)
    }
}

/// So many bytes at once after a rest, and as many again within this time, evenly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// At least one.
    pub bytes: u64,
    /// From used up to whole again.
    pub within: Duration,
}

/// How much of an [`Allowance`] is used up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Meter {
    /// When nothing is used up any more.
    rested: Option<Instant>,
}

impl Meter {
    /// How many bytes are left.
    pub(super) fn left(self, now: Instant, allowance: Allowance) -> u64 {
        let within = allowance.within.as_nanos().max(1);
        let used = (u128::from(allowance.bytes) * self.debt(now).as_nanos()).div_ceil(within);
        allowance.bytes.saturating_sub(u64::try_from(used).unwrap_or(u64::MAX))
    }

    /// Uses up `bytes`, be they left or not. If more is used up than there was: when that is no more so.
    pub(super) fn charge(&mut self, now: Instant, bytes: u64, allowance: Allowance) -> Option<Instant> {
        let nanos =
            (u128::from(bytes) * allowance.within.as_nanos()).div_ceil(u128::from(allowance.bytes.max(1)));
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let rested = now + self.debt(now) + cost;
        self.rested = Some(rested);
        (rested.duration_since(now) > allowance.within).then(|| rested - allowance.within)
    }

    /// The time until nothing is used up any more.
    fn debt(self, now: Instant) -> Duration {
        self.rested.map_or(Duration::ZERO, |at| at.saturating_duration_since(now))
    }
}

/// What is remembered of each source address. An entry lives while the address has connections, and after that until
/// its buckets have rested.
#[derive(Debug, Default)]
pub(super) struct Sources {
    table: BTreeMap<Prefix, Source>,
}

#[derive(Debug, Default)]
struct Source {
    conns: u32,
    accepts: Bucket,
    introductions: Bucket,
    introduced_to: Bucket,
    calls: Bucket,
    /// Relayed links with a half from here.
    relays: u32,
    relayed: Meter,
}

/// Why a connection is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turned {
    /// This address has too many, or too many lately.
    TooMany,
    /// The table is full.
    Full,
}

/// What is to be done about a source whose last connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Release {
    /// Nothing: it has other connections.
    InUse,
    /// Look again (`forget`) after this time.
    RestFor(Duration),
}

impl Sources {
    /// Counts a connection from `prefix`, if it may come in.
    pub(super) fn admit(&mut self, now: Instant, prefix: Prefix, limits: &Limits) -> Result<(), Turned> {
        // Resting sources stay for seconds; twice the connections leaves room for as many of them.
        let full = self.table.len() >= limits.connections.saturating_mul(2);
        if full && !self.table.contains_key(&prefix) {
            return Err(Turned::Full);
        }
        let source = self.table.entry(prefix).or_default();
        if source.conns >= limits.connections_per_address
            || !source.accepts.take(now, limits.accepts_per_address)
        {
            return Err(Turned::TooMany);
        }
        source.conns += 1;
        Ok(())
    }

    /// Uncounts a connection.
    pub(super) fn release(&mut self, now: Instant, prefix: Prefix, limits: &Limits) -> Release {
        let Some(source) = self.table.get_mut(&prefix) else { return Release::InUse };
        source.conns = source.conns.saturating_sub(1);
        if source.conns > 0 {
            return Release::InUse;
        }
        let rests =
            [limits.accepts_per_address, limits.introductions_per_address, limits.introductions_per_victim];
        // Those that take long to rest, and that few have used.
        let long = source.relayed.debt(now).max(source.calls.debt(now));
        Release::RestFor(rests.into_iter().map(Rate::rest).fold(long, Duration::max))
    }

    /// Forgets a source without connections and with rested buckets.
    pub(super) fn forget(&mut self, now: Instant, prefix: Prefix) {
        if let Some(source) = self.table.get(&prefix)
            && source.conns == 0
            && source.accepts.is_rested(now)
            && source.introductions.is_rested(now)
            && source.introduced_to.is_rested(now)
            && source.calls.is_rested(now)
            && source.relayed.debt(now).is_zero()
        {
            self.table.remove(&prefix);
        }
    }

    /// Uses up one introduction from `caster` to `viewer`, if both may.
    pub(super) fn introduce(
        &mut self,
        now: Instant,
        caster: Prefix,
        viewer: Prefix,
        limits: &Limits,
    ) -> bool {
        let may_ask = self
            .table
            .get_mut(&caster)
            .is_some_and(|source| source.introductions.take(now, limits.introductions_per_address));
        may_ask
            && self
                .table
                .get_mut(&viewer)
                .is_some_and(|source| source.introduced_to.take(now, limits.introductions_per_victim))
    }

    /// Uses up one call from `prefix`, if there is one.
    pub(super) fn call(&mut self, now: Instant, prefix: Prefix, limits: &Limits) -> bool {
        let source = self.table.get_mut(&prefix);
        source.is_some_and(|source| source.calls.take(now, limits.calls_per_address))
    }

    /// Whether a relay between `prefixes` may begin, for the number of theirs, when `earlier` has ended.
    pub(super) fn may_relay(
        &self,
        prefixes: [Prefix; 2],
        earlier: Option<[Prefix; 2]>,
        limits: &Limits,
    ) -> bool {
        prefixes.iter().all(|prefix| {
            let ends = u32::from(earlier.is_some_and(|earlier| earlier.contains(prefix)));
            let has = self.table.get(prefix).map_or(0, |source| source.relays);
            has - ends.min(has) < limits.relays_per_address
        })
    }

    /// Counts a relay between `prefixes`.
    pub(super) fn relay_begins(&mut self, prefixes: [Prefix; 2]) {
        self.for_each_of(prefixes, |source| source.relays += 1);
    }

    /// Uncounts it.
    pub(super) fn relay_ends(&mut self, prefixes: [Prefix; 2]) {
        self.for_each_of(prefixes, |source| source.relays = source.relays.saturating_sub(1));
    }

    /// How many bytes may be relayed between `prefixes`.
    pub(super) fn relay_left(&self, now: Instant, prefixes: [Prefix; 2], limits: &Limits) -> u64 {
        let allowance = limits.relay_allowance;
        let left = |prefix| self.table.get(prefix).map(|source| source.relayed.left(now, allowance));
        prefixes.iter().filter_map(left).min().unwrap_or(allowance.bytes)
    }

    /// Notes that so many bytes passed between `prefixes`.
    pub(super) fn relayed(&mut self, now: Instant, prefixes: [Prefix; 2], bytes: u64, limits: &Limits) {
        self.for_each_of(prefixes, |source| {
            source.relayed.charge(now, bytes, limits.relay_allowance);
        });
    }

    /// Once for each source, if both are the same, too.
    fn for_each_of(&mut self, [a, b]: [Prefix; 2], mut change: impl FnMut(&mut Source)) {
        for prefix in std::iter::once(a).chain((b != a).then_some(b)) {
            if let Some(source) = self.table.get_mut(&prefix) {
                change(source);
            }
        }
    }

    /// How many sources are remembered.
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// How many connections are counted, for invariants.
    #[cfg(debug_assertions)]
    pub(super) fn conns(&self) -> usize {
        self.table.values().map(|source| source.conns as usize).sum()
    }

    /// How many relays are counted, at each source for itself, for invariants.
    #[cfg(debug_assertions)]
    pub(super) fn relays(&self) -> usize {
        self.table.values().map(|source| source.relays as usize).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { burst: 3, every: Duration::from_secs(1) };

    #[expect(clippy::disallowed_methods, reason = "any moment will do for a start")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn a_bucket_gives_its_burst_and_then_one_at_a_time() {
        let start = start();
        let mut bucket = Bucket::default();
        assert_eq!((0..5).filter(|_| bucket.take(start, RATE)).count(), 3);
        assert!(!bucket.take(start + Duration::from_millis(999), RATE));
        assert!(bucket.take(start + Duration::from_secs(1), RATE));
        assert!(!bucket.take(start + Duration::from_secs(1), RATE));
        assert_eq!((0..5).filter(|_| bucket.take(start + Duration::from_secs(60), RATE)).count(), 3);
    }

    #[test]
    fn a_source_is_forgotten_when_its_last_connection_is_gone_and_its_buckets_have_rested() {
        let (start, limits) = (start(), Limits::default());
        let prefix = Prefix::of("2001:db8::1".parse().unwrap());
        let neighbour = Prefix::of("2001:db8::ffff:1".parse().unwrap());
        assert_eq!(prefix, neighbour);
        let mut sources = Sources::default();
        sources.admit(start, prefix, &limits).unwrap();
        sources.admit(start, neighbour, &limits).unwrap();
        assert_eq!(sources.release(start, prefix, &limits), Release::InUse);
        let Release::RestFor(rest) = sources.release(start, prefix, &limits) else {
            panic!("it was the last")
        };
        sources.forget(start, prefix);
        assert_eq!(sources.len(), 1, "its bucket is not rested");
        sources.forget(start + rest, prefix);
        assert_eq!(sources.len(), 0);
    }

    #[test]
    fn a_meter_gives_its_bytes_once_and_then_as_they_come_back() {
        let start = start();
        let hour = Duration::from_secs(3600);
        let allowance = Allowance { bytes: 4_000_000_000, within: hour };
        let mut meter = Meter::default();
        assert_eq!(meter.left(start, allowance), allowance.bytes);
        for _ in 0..3999 {
            assert_eq!(meter.charge(start, 1_000_000, allowance), None);
        }
        assert_eq!(meter.left(start, allowance), 1_000_000);
        assert_eq!(meter.charge(start, 1_000_000, allowance), None);
        assert_eq!(meter.left(start, allowance), 0);
        assert_eq!(meter.left(start + hour / 4, allowance), 1_000_000_000);
        assert_eq!(meter.left(start + hour, allowance), allowance.bytes);
    }

    #[test]
    fn a_meter_tells_until_when_more_is_used_up_than_there_was() {
        let start = start();
        let pace = Allowance { bytes: 1000, within: Duration::from_secs(1) };
        let mut meter = Meter::default();
        assert_eq!(meter.charge(start, 1000, pace), None);
        assert_eq!(meter.charge(start, 250, pace), Some(start + Duration::from_millis(250)));
        assert_eq!(meter.charge(start + Duration::from_secs(1), 750, pace), None);
    }

    #[test]
    fn a_source_that_was_relayed_for_is_remembered_until_its_allowance_is_whole() {
        let (start, limits) = (start(), Limits::default());
        let prefix = Prefix::of("192.0.2.1".parse().unwrap());
        let mut sources = Sources::default();
        sources.admit(start, prefix, &limits).unwrap();
        sources.relay_begins([prefix; 2]);
        assert_eq!(sources.table[&prefix].relays, 1, "both halves are from one place");
        sources.relayed(start, [prefix; 2], limits.relay_allowance.bytes / 2, &limits);
        sources.relay_ends([prefix; 2]);
        let Release::RestFor(rest) = sources.release(start, prefix, &limits) else {
            panic!("it was the last")
        };
        assert_eq!(rest, limits.relay_allowance.within / 2);
        sources.forget(start + rest - Duration::from_secs(1), prefix);
        assert_eq!(sources.len(), 1);
        sources.forget(start + rest, prefix);
        assert_eq!(sources.len(), 0);
    }

    #[test]
    fn another_burst_within_the_same_time() {
        let limits = Limits::default();
        let raised = limits.accepts_per_address.with_burst(6400);
        assert_eq!(raised.every, Duration::from_micros(500));
    }
}
