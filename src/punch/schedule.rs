//! When the next SYN goes out. Pure arithmetic, so that both sides agree without talking.

use crate::app::NetError;
use std::time::{Duration, Instant};

/// The grid on which SYNs go out after a refusal, from the start of an attempt on. Both sides start within a
/// one-way delay of each other, so their slots nearly meet, and two NATs that answer RST let a pair of SYNs through
/// that cross between them.
pub const SLOT: Duration = Duration::from_millis(200);

/// The pause after an answer that a retry in the next slot would not change (no route, no permission).
pub const LONG_PAUSE: Duration = Duration::from_secs(2);

/// Connects that one attempt may begin. The kernel repeats the SYN of each about once a second by itself; 64 connects
/// in an attempt of [`ATTEMPT_TIME`] is what refusals in every third slot come to, and no router's table minds it.
pub const SYN_BUDGET: u32 = 64;

/// How long an attempt goes on. Conntrack holds a SYN_SENT entry for 120 s; a user does not wait that long.
pub const ATTEMPT_TIME: Duration = Duration::from_secs(30);

/// When to dial again after `error` came at `now`, in an attempt that began at `start` and has begun `dials`
/// connects to this endpoint.
#[must_use]
pub fn retry_at(start: Instant, now: Instant, error: NetError, dials: u32) -> Instant {
    match error {
        // The first ten slots in a row; then every fifth, for a peer that starts late.
        NetError::Refused | NetError::Reset | NetError::AddrNotAvailable | NetError::AddrInUse => {
            let stride = if dials <= 10 { 1 } else { 5 };
            slot_after(start, now, stride)
        }
        NetError::Unreachable
        | NetError::TimedOut
        | NetError::Denied
        | NetError::TooManyFiles
        | NetError::Other(_) => now + LONG_PAUSE,
    }
}

/// The next moment after `now` that is a multiple of `stride` slots from `start`.
fn slot_after(start: Instant, now: Instant, stride: u32) -> Instant {
    let grid = SLOT * stride;
    let passed = now.saturating_duration_since(start).as_nanos() / grid.as_nanos();
    let next = u32::try_from(passed + 1).unwrap_or(u32::MAX);
    start + grid * next
}
