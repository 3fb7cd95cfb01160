//! The door of a listener: how many connections may stand before it, that is, have not come to what it is there for.
//!
//! A stranger who reaches the port holds at most [`PER_SOURCE`] connections for at most
//! [`HANDSHAKE_TIME`](super::HANDSHAKE_TIME) each, and begins at most [`RATE`] in [`RATE_WINDOW`]; all strangers
//! together hold [`TOTAL`]. Addresses that an introduction named have [`RESERVED`] places more, so that a crowd
//! of strangers does not shut out the peer who is awaited; and from those a newcomer may displace the oldest that stands
//! there ([`Door::receive`]). A connection that was let in, or ended, leaves.
//!
//! Who is let in is for the owner to say. At a link's door that takes more than the proof: the link must be chosen. So a holder
//! of the ticket gets no further than a stranger, though it may keep a place for [`SPARE_TIME`](super::SPARE_TIME).

use crate::endpoint::Prefix;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Connections before the door, all together. Each costs a descriptor and less than a kilobyte for five seconds.
pub const TOTAL: usize = 32;

/// Connections before the door from one source. A peer opens one or two for each rung; behind one NAT there may be
/// several peers.
pub const PER_SOURCE: usize = 8;

/// Places kept for expected sources when [`TOTAL`] is used up: one introduction's connections.
pub const RESERVED: usize = 8;

/// Connections that one source may begin in [`RATE_WINDOW`]. A peer that tries anew every 150 ms stays below; a
/// handshake costs some 0.2 ms of processor time at most, so one source never takes more than 0.2%.
pub const RATE: u32 = 80;

/// See [`RATE`].
pub const RATE_WINDOW: Duration = Duration::from_secs(10);

/// Sources remembered: those before the door and those whose window is not over. Sources beyond are refused until a
/// window ends, unless expected.
pub const SOURCES: usize = 256;

/// Sources that can be expected at one time: eight endpoints of each of some introductions. The oldest is forgotten.
const EXPECTED: usize = 64;

/// Bounds the connections that are not let in yet. See the module's account.
#[derive(Debug, Default)]
pub struct Door {
    sources: BTreeMap<Prefix, Visits>,
    expected: Vec<Prefix>,
    inside: usize,
}

/// What becomes of a connection that comes before the door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It may stand there, and must leave once.
    Yes,
    /// The same, and the oldest that stands there from its [`Prefix`] is to be closed, and to leave.
    Displace,
    /// It is to be closed at once, unread and unanswered.
    No,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Displacing {
    Yes,
    No,
}

#[derive(Debug)]
struct Visits {
    waiting: usize,
    window_began: Instant,
    begun: u32,
}

impl Door {
    /// A door before which nobody stands.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Awaits connections from `addr`: an introduction, or the ticket, named it.
    pub fn expect(&mut self, addr: IpAddr) {
        let source = Prefix::of(addr);
        self.expected.retain(|&known| known != source);
        if self.expected.len() == EXPECTED {
            self.expected.remove(0);
        }
        self.expected.push(source);
    }

    /// Whether a connection from `addr` may come before the door without another giving way; if so it must
    /// [`leave`](Self::leave) once. Otherwise it is to be closed at once, unread and unanswered.
    pub fn admit(&mut self, addr: IpAddr, now: Instant) -> bool {
        self.visit(addr, now, Displacing::No) == Admission::Yes
    }

    /// As [`admit`](Self::admit), but from an expected source a newcomer may displace the oldest: whoever shares the
    /// awaited peer's address cannot shut it out by standing there.
    pub fn receive(&mut self, addr: IpAddr, now: Instant) -> Admission {
        self.visit(addr, now, Displacing::Yes)
    }

    fn visit(&mut self, addr: IpAddr, now: Instant, displacing: Displacing) -> Admission {
        let source = Prefix::of(addr);
        let expected = self.expected.contains(&source);
        let crowd = self.sources.get(&source).is_some_and(|visits| visits.waiting >= PER_SOURCE);
        let displace = expected && crowd && displacing == Displacing::Yes;
        let places = if expected { TOTAL + RESERVED } else { TOTAL };
        if (crowd || self.inside >= places) && !displace {
            return Admission::No;
        }
        if !self.sources.contains_key(&source) && self.sources.len() >= SOURCES {
            self.sources.retain(|_, visits| visits.waiting > 0 || !visits.window_is_over(now));
            if self.sources.len() >= SOURCES && !expected {
                return Admission::No;
            }
        }
        let visits = self.sources.entry(source).or_insert(Visits { waiting: 0, window_began: now, begun: 0 });
        if visits.window_is_over(now) {
            (visits.window_began, visits.begun) = (now, 0);
        }
        if visits.begun >= RATE {
            return Admission::No;
        }
        visits.waiting += 1;
        visits.begun += 1;
        self.inside += 1;
        if displace { Admission::Displace } else { Admission::Yes }
    }

    /// An admitted connection from `addr` was let in, or ended.
    pub fn leave(&mut self, addr: IpAddr) {
        if let Some(visits) = self.sources.get_mut(&Prefix::of(addr))
            && visits.waiting > 0
        {
            visits.waiting -= 1;
            self.inside -= 1;
        }
    }

    /// How many stand before the door.
    #[must_use]
    pub const fn waiting(&self) -> usize {
        self.inside
    }
}

impl Visits {
    fn window_is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.window_began) >= RATE_WINDOW
    }
}
