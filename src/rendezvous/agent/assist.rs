//! Whether the daemon's assist port answers: without it nobody is introduced, and a login alone looks as if all were well.

use super::{Agent, Assist, Event, Main, NOTHING_ANSWERED};
use std::time::{Duration, Instant};

/// How long after a login, or after the loss of the last one that worked, an assist connection may be missing before the user
/// is told: a SYN lost twice comes through within it, and a connection that broke was made anew twice.
pub(super) const ASSIST_LATE: Duration = Duration::from_secs(4);

/// What there is to tell of the assist port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Watch {
    /// Nothing: it answers, or there is no login that would need it.
    Quiet,
    /// It does not answer so far; told then.
    Due(Instant),
    /// It was told, and is not again before it has answered.
    Told,
}

impl Watch {
    /// What is due belongs to a login.
    pub(super) fn login_lost(&mut self) {
        if matches!(self, Self::Due(_)) {
            *self = Self::Quiet;
        }
    }

    pub(super) const fn due(self) -> Option<Instant> {
        match self {
            Self::Due(at) => Some(at),
            Self::Quiet | Self::Told => None,
        }
    }
}

impl Agent {
    /// Expects an answer of the assist port, unless one of its connections has had it: of two address families one is enough.
    pub(super) fn watch_assists(&mut self, now: Instant) {
        let answered = self.assists.iter().any(|lane| match lane.state {
            Assist::Open { answer_by, .. } => answer_by.is_none(),
            Assist::Waiting { .. } | Assist::Dialling { .. } => false,
        });
        let logged_in = matches!(self.main, Main::LoggedIn { .. });
        if self.watch == Watch::Quiet && logged_in && !answered && !self.assists.is_empty() {
            self.watch = Watch::Due(now + ASSIST_LATE);
        }
    }

    pub(super) fn watch_timeout(&mut self, now: Instant) {
        if self.watch.due().is_none_or(|at| now < at) {
            return;
        }
        self.watch = Watch::Told;
        let failed = self.assists.iter().find(|lane| lane.trouble.is_some());
        if let Some(lane) = failed.or(self.assists.first()) {
            let (assist, why) = (lane.to, lane.trouble.clone().unwrap_or_else(|| NOTHING_ANSWERED.into()));
            self.event(Event::AssistUnreachable { assist, why });
        }
    }
}
