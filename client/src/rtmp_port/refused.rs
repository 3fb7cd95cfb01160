//! Who was refused, told to the user: rarely enough that somebody who tries again and again fills no terminal.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// The least time between two tellings: a user who mistyped sees the first at once.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// Somebody was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TurnedAway {
    /// Who.
    pub remote: SocketAddr,
    /// How many more there were since the last time that it was told.
    pub others: u64,
}

/// What was told of one reason, and what was not.
#[derive(Debug, Default)]
pub(super) struct Refused {
    told: Option<Instant>,
    untold: u64,
}

impl Refused {
    /// Counts one more, and says whether it is to be told.
    pub(super) fn turned_away(&mut self, now: Instant, remote: SocketAddr) -> Option<TurnedAway> {
        if self.told.is_some_and(|told| now < told + TELL_EVERY) {
            self.untold = self.untold.saturating_add(1);
            return None;
        }
        self.told = Some(now);
        Some(TurnedAway { remote, others: std::mem::take(&mut self.untold) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods)] // A test's time begins somewhere.
    fn the_first_is_told_and_the_rest_are_counted() {
        let (now, remote) = (Instant::now(), SocketAddr::from(([192, 0, 2, 1], 5)));
        let mut refused = Refused::default();
        assert_eq!(refused.turned_away(now, remote), Some(TurnedAway { remote, others: 0 }));
        for _ in 0..1000 {
            assert_eq!(refused.turned_away(now + TELL_EVERY / 2, remote), None);
        }
        assert_eq!(refused.turned_away(now + TELL_EVERY, remote), Some(TurnedAway { remote, others: 1000 }));
    }
}
