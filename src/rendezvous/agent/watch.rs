//! Whether the daemon's assist port answers: without it nobody is introduced, and a login alone looks as if all were well.

use super::assist::Assist;
use super::login::Main;
use super::{Agent, Event, NOTHING_ANSWERED};
use crate::app::NetError;
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
    /// It was told, and is not again before it has answered, or with the next login.
    Told,
}

impl Watch {
    pub(super) const fn due(self) -> Option<Instant> {
        match self {
            Self::Due(at) => Some(at),
            Self::Quiet | Self::Told => None,
        }
    }
}

impl Agent {
    /// Whether every assist connection was refused the last time: sooner than [`Event::AssistUnreachable`], which waits
    /// in case it was a moment's trouble.
    #[must_use]
    pub fn is_assist_refused(&self) -> bool {
        let refused = NetError::Refused.to_string();
        !self.assists.is_empty() && self.assists.iter().all(|lane| lane.trouble.as_ref() == Some(&refused))
    }

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

#[cfg(test)]
mod tests {
    use super::super::tests::{ASSIST, Bench, MAIN};
    use super::*;
    use crate::app::Input;
    use crate::wire;
    use crate::wire::message::{FromAssist, Refusal, Role};

    fn assist_troubles(bench: &Bench) -> Vec<&Event> {
        bench.events.iter().filter(|event| matches!(event, Event::AssistUnreachable { .. })).collect()
    }

    impl Bench {
        /// Lets time pass, while the assist port refuses whoever connects.
        fn refuse_assists_until(&mut self, end: Instant) {
            let mut refused = None;
            while let Some((at, _)) = self.agent.poll_timeout()
                && at <= end
            {
                self.at_next_timeout();
                let conn = self.dialled(ASSIST).unwrap().0;
                if refused.replace(conn) != Some(conn) {
                    self.input(Input::ConnectFailed { conn, error: NetError::Refused });
                }
                if let Main::LoggedIn { beat, .. } = &mut self.agent.main {
                    beat.answered = true;
                }
            }
            self.now = end;
        }
    }

    #[test]
    fn an_assist_port_that_refuses_is_told_once_and_tried_on() {
        let mut bench = Bench::new(Role::Viewer);
        let conn = bench.dialled(ASSIST).unwrap().0;
        assert!(!bench.agent.is_assist_refused(), "it is being tried");
        bench.input(Input::ConnectFailed { conn, error: NetError::Refused });
        bench.log_in();
        assert!(bench.agent.is_assist_refused());
        let start = bench.now;
        bench.refuse_assists_until(start + ASSIST_LATE - Duration::from_millis(1));
        assert!(assist_troubles(&bench).is_empty(), "it may have been a moment's");
        bench.refuse_assists_until(start + Duration::from_secs(200));
        let why = NetError::Refused.to_string();
        let told = Event::AssistUnreachable { assist: ASSIST.parse().unwrap(), why };
        assert_eq!(assist_troubles(&bench), [&told]);

        let last = bench.dialled(ASSIST).unwrap().0;
        while bench.dialled(ASSIST).unwrap().0 == last {
            bench.at_next_timeout();
        }
        let conn = bench.connect(ASSIST);
        bench.answer(conn, 1000);
        assert!(!bench.agent.is_assist_refused());
        bench.input(Input::Closed { conn, error: Some(NetError::Reset) });
        let again = bench.now;
        bench.refuse_assists_until(again + ASSIST_LATE);
        assert_eq!(assist_troubles(&bench).len(), 2, "it was there in between");
    }

    #[test]
    fn a_new_login_tells_anew_and_for_a_reason_of_its_own() {
        let mut bench = Bench::new(Role::Caster);
        let conn = bench.dialled(ASSIST).unwrap().0;
        bench.input(Input::ConnectFailed { conn, error: NetError::Refused });
        let main = bench.log_in();
        bench.refuse_assists_until(bench.now + ASSIST_LATE);
        assert_eq!(assist_troubles(&bench).len(), 1);
        bench.input(Input::Closed { conn: main, error: Some(NetError::Reset) });
        while bench.dialled(MAIN).unwrap().0 == main {
            bench.at_next_timeout();
        }
        bench.log_in();
        let end = bench.now + ASSIST_LATE;
        while bench.agent.poll_timeout().unwrap().0 <= end {
            bench.at_next_timeout();
        }
        let [_, Event::AssistUnreachable { why, .. }] = assist_troubles(&bench)[..] else { panic!() };
        assert_eq!(why, NOTHING_ANSWERED, "it refuses no more");
    }

    #[test]
    fn an_assist_port_that_refuses_in_words_has_answered() {
        let mut bench = Bench::new(Role::Caster);
        let conn = bench.dialled(ASSIST).unwrap().0;
        bench.input(Input::ConnectFailed { conn, error: NetError::Refused });
        bench.log_in();
        while bench.dialled(ASSIST).unwrap().0 == conn {
            bench.at_next_timeout();
        }
        let conn = bench.connect(ASSIST);
        bench.hear(conn, &wire::encode(&FromAssist::Refused { reason: Refusal::TooMany }));
        assert_eq!((bench.agent.watch, &bench.agent.assists[0].trouble), (Watch::Quiet, &None));
    }

    #[test]
    fn an_assist_port_that_says_nothing_is_told_and_one_that_answers_is_not() {
        let mut bench = Bench::new(Role::Caster);
        bench.log_in();
        while assist_troubles(&bench).is_empty() {
            bench.at_next_timeout();
        }
        let Event::AssistUnreachable { why, .. } = assist_troubles(&bench)[0] else { unreachable!() };
        assert_eq!(why, NOTHING_ANSWERED);

        let mut bench = Bench::new(Role::Caster);
        bench.log_in();
        let conn = bench.connect(ASSIST);
        bench.answer(conn, 1000);
        bench.now += ASSIST_LATE;
        bench.agent.handle_timeout(bench.now);
        bench.drain();
        assert!(assist_troubles(&bench).is_empty());
    }
}
