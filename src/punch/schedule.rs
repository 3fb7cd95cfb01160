//! When the next SYN goes out, and how far. Pure arithmetic, so that both sides agree without talking.
//!
//! # Refusals
//!
//! Many NATs answer an unsolicited SYN with RST, and the RST takes the sender's own NAT session with it. Two sides
//! behind such NATs refuse each other for ever, unless their SYNs cross within the way between them. So after a
//! refusal the two part company:
//!
//! - the **dialler** (the caster) sends a full SYN at each [`SLOT`];
//! - the **holder** (the viewer) *knocks*: its first SYN opens its own NAT and dies before the dialler's. Its socket
//!   stays in SYN_SENT, so the dialler's next SYN passes and is answered at once, with a full life.
//!
//! How many routers a knock may pass is learned: refused at once, it went too far; refused only by the kernel's
//! retransmission (a second later, with a full life) or not at all, it was far enough or not, and the next goes one
//! further, for a NAT of the provider's behind the one at home.
//!
//! # Silence
//!
//! A connect in SYN_SENT is the hole itself, and both sides leave it alone: the kernel repeats its SYN (Linux after 1, 2, 3,
//! 4, 5, 7 s and so on, before 6.5 after 1, 3, 7 s). A fresh
//! SYN, on the same 4-tuple and sooner, would have another sequence number. A NAT that has seen the first one cross a SYN from
//! inside it takes that for a stranger's (Linux's conntrack, in SYN_SENT2, finds it out of the window) and, if it answers with
//! RST, refuses each that follows; and the answer to the first, if it was lost and comes again, finds nobody.

use crate::app::NetError;
use std::time::{Duration, Instant};

/// The grid on which SYNs go out after a refusal, from the start of an attempt on. Longer than most ways there and
/// back, so that a SYN that is being answered is not followed by one that spoils the answer.
pub const SLOT: Duration = Duration::from_millis(150);

/// The pause after an answer that a retry in the next slot would not change (no route, no permission).
pub const LONG_PAUSE: Duration = Duration::from_secs(2);

/// SYNs of ours to one endpoint in one attempt (the kernel's repetitions aside). Refusals in each slot use up 40 in six seconds;
/// then every fifth slot is taken, and the budget ends 24 s into an attempt. Each endpoint has its own, so that addresses
/// which lead nowhere take nothing from the one that works.
pub const SYN_BUDGET: u32 = 64;

/// How long an attempt goes on. Conntrack holds a SYN_SENT entry for 120 s; a user does not wait that long.
pub const ATTEMPT_TIME: Duration = Duration::from_secs(30);

/// A knock that is refused sooner than this was refused itself; later, it was the kernel's retransmission, which comes after
/// a second.
pub(super) const RETRANSMITTED: Duration = Duration::from_millis(900);

/// Routers a knock passes at most. Home NAT, provider's NAT and what stands between them are fewer.
const MAX_HOPS: u8 = 8;

/// Slots in a row that are tried after refusals, before every fifth.
const EAGER_DIALS: u32 = 40;

/// Which part a side has after a refusal. Both must not have the same: the session's roles decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// Sends full SYNs.
    Dialler,
    /// Keeps its own NAT open for them.
    Holder,
}

/// How a connect begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// A SYN that lives as long as ever.
    Full,
    /// A SYN that so many routers forward.
    Hops(u8),
}

/// A connect that came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// How it began.
    pub reach: Reach,
    /// How long it lasted.
    pub lasted: Duration,
    /// Why.
    pub error: NetError,
}

/// The next connect to an endpoint that a NAT may stand before: when, and how far. `start` is the beginning of the attempt, `dials`
/// counts the connects to this endpoint so far.
#[must_use]
pub fn next(duty: Duty, start: Instant, now: Instant, failure: Failure, dials: u32) -> (Instant, Reach) {
    match failure.error {
        NetError::Refused | NetError::Reset => match duty {
            Duty::Dialler => (slot_after(start, now, dials), Reach::Full),
            Duty::Holder => after_refusal(start, now, failure, dials),
        },
        // A NAT has lost the session of what was half open: the next SYN makes another.
        NetError::HalfOpen | NetError::GivenUp => (slot_after(start, now, dials), failure.reach),
        // The peer's SYN reached our listener first; what comes of it is on its way.
        NetError::AddrNotAvailable | NetError::AddrInUse => (slot_after(start, now, dials), failure.reach),
        NetError::Unreachable
        | NetError::TimedOut
        | NetError::Denied
        | NetError::TooManyFiles
        | NetError::Other(_) => (now + LONG_PAUSE, Reach::Full),
    }
}

fn after_refusal(start: Instant, now: Instant, failure: Failure, dials: u32) -> (Instant, Reach) {
    match failure.reach {
        Reach::Full => (now, Reach::Hops(1)),
        // Nothing stands between our NAT and the peer's that could stop it.
        Reach::Hops(1) if failure.lasted < RETRANSMITTED => (slot_after(start, now, dials), Reach::Full),
        Reach::Hops(hops) if failure.lasted < RETRANSMITTED => (now, Reach::Hops(hops - 1)),
        Reach::Hops(hops) => (now, Reach::Hops((hops + 1).min(MAX_HOPS))),
    }
}

/// When to dial again an endpoint that no NAT stands before.
#[must_use]
pub fn again(start: Instant, now: Instant, error: NetError, dials: u32) -> Instant {
    let failure = Failure { reach: Reach::Full, lasted: Duration::ZERO, error };
    next(Duty::Dialler, start, now, failure, dials).0
}

/// The next slot of the grid after `now`; every fifth, once the eager ones are used up.
fn slot_after(start: Instant, now: Instant, dials: u32) -> Instant {
    let grid = SLOT * if dials <= EAGER_DIALS { 1 } else { 5 };
    let passed = now.saturating_duration_since(start).as_nanos() / grid.as_nanos();
    let next = u32::try_from(passed + 1).unwrap_or(u32::MAX);
    start + grid * next
}
