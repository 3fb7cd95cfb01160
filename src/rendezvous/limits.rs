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
            heartbeat: Duration::from_secs(25),
        }
    }
}

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

    /// Whether forgetting the bucket changes nothing.
    fn is_rested(self, now: Instant) -> bool {
        self.rested.is_none_or(|at| at <= now)
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
    pub(super) fn release(&mut self, prefix: Prefix, limits: &Limits) -> Release {
        let Some(source) = self.table.get_mut(&prefix) else { return Release::InUse };
        source.conns = source.conns.saturating_sub(1);
        if source.conns > 0 {
            return Release::InUse;
        }
        let rests =
            [limits.accepts_per_address, limits.introductions_per_address, limits.introductions_per_victim];
        Release::RestFor(rests.into_iter().map(Rate::rest).max().unwrap_or_default())
    }

    /// Forgets a source without connections and with rested buckets.
    pub(super) fn forget(&mut self, now: Instant, prefix: Prefix) {
        if let Some(source) = self.table.get(&prefix)
            && source.conns == 0
            && source.accepts.is_rested(now)
            && source.introductions.is_rested(now)
            && source.introduced_to.is_rested(now)
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

    /// How many sources are remembered.
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// How many connections are counted, for invariants.
    #[cfg(debug_assertions)]
    pub(super) fn conns(&self) -> usize {
        self.table.values().map(|source| source.conns as usize).sum()
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
        assert_eq!(sources.release(prefix, &limits), Release::InUse);
        let Release::RestFor(rest) = sources.release(prefix, &limits) else { panic!("it was the last") };
        sources.forget(start, prefix);
        assert_eq!(sources.len(), 1, "its bucket is not rested");
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
