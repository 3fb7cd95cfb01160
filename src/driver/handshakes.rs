//! Connects that heard a SYN and are not finished: the system repeats its answer for minutes, though a NAT may have lost
//! the session that the answer needs, and a new connect would be through at once.
//!
//! The system tells of no such thing, so each connect under way is looked at now and then.

use crate::app::{ConnId, HALF_OPEN_TIME};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How often: an eighth of what a look may find, so that hundreds of connects cost some thousand system calls a second.
const LOOK_EVERY: Duration = HALF_OPEN_TIME.checked_div(8).expect("eight is not zero");

/// The connects under way, by their next look, which come in order.
#[derive(Debug, Default)]
pub(super) struct Handshakes {
    looks: VecDeque<Look>,
}

#[derive(Debug)]
struct Look {
    at: Instant,
    conn: ConnId,
    /// Since when it is known to have heard a SYN.
    heard: Option<Instant>,
}

impl Handshakes {
    /// A connect begins.
    pub(super) fn begin(&mut self, now: Instant, conn: ConnId) {
        self.looks.push_back(Look { at: now + LOOK_EVERY, conn, heard: None });
    }

    /// When the next look is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.looks.front().map(|look| look.at)
    }

    /// Looks at those whose time has come, and gives the connects that have been half open for too long. `is_half_open` says
    /// so of a connect under way, and `None` of one that is not.
    pub(super) fn overdue(
        &mut self,
        now: Instant,
        is_half_open: impl Fn(ConnId) -> Option<bool>,
    ) -> Vec<ConnId> {
        let mut overdue = Vec::new();
        while let Some(look) = self.looks.pop_front_if(|look| look.at <= now) {
            let Some(half_open) = is_half_open(look.conn) else { continue };
            let heard = half_open.then(|| look.heard.unwrap_or(now));
            if heard.is_some_and(|since| since + HALF_OPEN_TIME <= now) {
                overdue.push(look.conn);
            } else {
                self.looks.push_back(Look { at: now + LOOK_EVERY, heard, ..look });
            }
        }
        overdue
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::{ConnIds, Room};

    #[test]
    #[allow(clippy::disallowed_methods)] // A test's time begins somewhere.
    fn a_connect_is_overdue_once_it_has_been_half_open_for_long_enough() {
        let (begin, mut handshakes) = (Instant::now(), Handshakes::default());
        let mut names = ConnIds::new(Room(1));
        let (silent, heard, done) = (names.allocate(), names.allocate(), names.allocate());
        for conn in [silent, heard, done] {
            handshakes.begin(begin, conn);
        }
        let hears_at = begin + Duration::from_millis(700);
        let mut ended = Vec::new();
        while let Some(at) = handshakes.deadline().filter(|at| *at < begin + 3 * HALF_OPEN_TIME) {
            let state = |conn| (conn != done).then_some(conn == heard && at >= hears_at);
            ended.extend(handshakes.overdue(at, state).into_iter().map(|conn| (conn, at)));
        }
        let [(conn, at)] = ended[..] else { panic!("{ended:?}") };
        assert_eq!(conn, heard);
        assert!(at >= hears_at + HALF_OPEN_TIME && at <= hears_at + HALF_OPEN_TIME + LOOK_EVERY);
        assert_eq!(handshakes.looks.len(), 1, "the silent one is looked at on and on");
    }
}
