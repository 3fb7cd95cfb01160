//! When the application rehearses.

use super::now;
use super::own_line::OwnLine;
use crate::app::App;
use crate::cadence::Window;
use std::time::{Duration, Instant};

/// How long a rehearsal takes, as a rule. A picture that comes meanwhile waits for its end.
const USUAL: Duration = Duration::from_micros(120);

/// A processor that takes longer is too slow, or too busy, for pictures to gain by it.
const LONGEST: Duration = Duration::from_micros(250);

/// How long before a window there is time for the first rehearsal, which has everything made that the others need.
const FIRST: Duration = Duration::from_millis(5);

/// What was done so recently is still in the caches, however many streams there are.
const REST: Duration = Duration::from_millis(4);

/// What to rehearse with, and when that was done.
#[derive(Default)]
pub(super) struct Rehearsals {
    line: OwnLine,
    /// From when on there may be another; `None` before the first.
    next: Option<Instant>,
}

impl Rehearsals {
    /// Whether now is the time for one.
    pub(super) fn is_due(&self, window: Window, now: Instant) -> bool {
        let Some(next) = self.next else { return now + FIRST <= window.from };
        next.max(window.from) <= now && now + USUAL <= window.earliest
    }

    /// Has `app` rehearse for this window; its outputs are to be drained. Whether it took too long.
    pub(super) fn hold(&mut self, app: &mut impl App, window: Window) -> bool {
        let began = now();
        self.line.exercise();
        app.rehearse(began);
        let ended = now();
        let is_first = self.next.is_none();
        self.note(window, ended);
        !is_first && ended.saturating_duration_since(began) > LONGEST
    }

    /// The first was held before the window, which has one of its own.
    fn note(&mut self, window: Window, ended: Instant) {
        self.next = Some(self.next.map_or(ended, |_| window.until.max(ended + REST)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A window that begins so many microseconds after `began`, and the same so much later.
    fn window(began: Instant, from: u64) -> Window {
        let at = |us| began + Duration::from_micros(from + us);
        Window { from: at(0), earliest: at(350), until: at(500) }
    }

    #[test]
    fn the_first_is_held_long_before_a_window_and_the_others_once_in_each() {
        let (began, mut rehearsals) = (now(), Rehearsals::default());
        let at = |us| began + Duration::from_micros(us);
        let first = window(began, 10_000);
        assert!(rehearsals.is_due(first, at(5_000)) && !rehearsals.is_due(first, at(5_001)));
        rehearsals.note(first, at(5_000));
        assert!(!rehearsals.is_due(first, at(9_999)), "before the window");
        assert!(rehearsals.is_due(first, at(10_000)) && rehearsals.is_due(first, at(10_230)));
        assert!(!rehearsals.is_due(first, at(10_231)), "the picture may come before it ends");

        rehearsals.note(first, at(10_100));
        assert!(!rehearsals.is_due(first, at(10_200)), "once in each");
        assert!(!rehearsals.is_due(window(began, 10_400), at(10_500)), "one that overlaps is the same");
        assert!(!rehearsals.is_due(window(began, 12_000), at(12_000)), "too soon after the last");
        assert!(rehearsals.is_due(window(began, 26_000), at(26_000)));
    }
}
