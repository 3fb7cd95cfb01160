//! The viewer's short code, as people see it: with its daemon, ready to be copied; told after the ticket, and shown on the
//! page.

use super::Viewer;
use crate::notice::{Notice, no_code_words};
use punchcast::code::Code;
use punchcast::rendezvous::agent;
use std::time::Instant;

/// See the [module](self).
#[derive(Default)]
pub(super) struct Spoken {
    /// What is to be told, once the ticket was.
    untold: Option<Notice>,
}

impl Viewer {
    /// Takes what the rendezvous tells of the code.
    pub(super) fn code_event(&mut self, now: Instant, event: &agent::Event) {
        let (code, why) = match event {
            agent::Event::Code { code } => (Some(self.written(code)), None),
            agent::Event::NoCode { why } => (None, Some(no_code_words(*why))),
            agent::Event::LoggedIn { .. }
            | agent::Event::Observed { .. }
            | agent::Event::PeerJoined { .. }
            | agent::Event::PeerLeft { .. }
            | agent::Event::Introduced { .. }
            | agent::Event::Amended { .. }
            | agent::Event::Filtering { .. }
            | agent::Event::Refused { .. }
            | agent::Event::CodeUsed
            | agent::Event::WrongCode { .. }
            | agent::Event::Unreachable { .. }
            | agent::Event::AssistUnreachable { .. } => return,
        };
        if let Some(page) = &mut self.page {
            page.set_code(now, code.clone());
        }
        self.spoken.untold = Some(Notice::Code { code, why });
        self.tell_code();
    }

    /// Tells what is to be told of the code: the ticket comes first.
    pub(super) fn tell_code(&mut self) {
        if self.doors.told
            && let Some(notice) = self.spoken.untold.take()
        {
            self.notice(notice);
        }
    }

    fn written(&self, code: &Code) -> String {
        self.server.as_ref().map_or_else(|| code.to_string(), |server| code.at(server))
    }
}
