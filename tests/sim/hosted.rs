//! An application of any type behind one face, so that a world can run a daemon, a viewer and a caster side by side.

use punchcast::app::{App, Input, NetOp, Output};
use std::any::Any;
use std::time::Instant;

/// What an application put out, as far as the world needs to know.
#[derive(Debug)]
pub(crate) enum Put {
    Net(NetOp),
    /// A notice; the host keeps it.
    Notice,
    Exit,
}

/// An [`App`] whose type is forgotten.
pub(crate) trait AnyApp {
    fn handle_input(&mut self, now: Instant, input: Input<'_>);
    fn handle_timeout(&mut self, now: Instant);
    fn rehearse(&mut self, now: Instant);
    fn poll_output(&mut self, now: Instant) -> Option<Put>;
    fn poll_timeout(&self) -> Option<(Instant, &'static str)>;
    fn as_any(&self) -> &dyn Any;
    fn as_any_mut(&mut self) -> &mut dyn Any;
}

/// An application and all that it told.
#[derive(Debug)]
pub(crate) struct Hosted<A: App> {
    pub(crate) app: A,
    /// Each notice with its time, oldest first.
    pub(crate) notices: Vec<(Instant, A::Notice)>,
}

impl<A> AnyApp for Hosted<A>
where
    A: App + 'static,
    A::Notice: 'static,
{
    fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        self.app.handle_input(now, input);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.app.handle_timeout(now);
    }

    fn rehearse(&mut self, now: Instant) {
        self.app.rehearse(now);
    }

    fn poll_output(&mut self, now: Instant) -> Option<Put> {
        Some(match self.app.poll_output()? {
            Output::Net(op) => Put::Net(op),
            Output::Notice(notice) => {
                self.notices.push((now, notice));
                Put::Notice
            }
            Output::Exit => Put::Exit,
        })
    }

    fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        self.app.poll_timeout()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}
