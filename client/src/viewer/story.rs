//! What a viewer without a picture is waiting for, as steps that the page shows.

use crate::page::{Step, StepState};
use punchcast::policy::{Obstacle, Rung};
use punchcast::rendezvous::agent;
use std::net::SocketAddr;

/// Ways that are named. All rungs fit; the rest would scroll a phone.
const MAX_WAYS: usize = 6;

/// The way to a link so far.
#[derive(Default)]
pub(super) struct Story {
    daemon: Option<Step>,
    /// What is wrong with its assist port.
    assist: Option<Step>,
    met: Option<Step>,
    ways: Vec<(Rung, SocketAddr)>,
    relay: Option<Step>,
}

impl Story {
    /// What the daemon tells. Whether that changes the story.
    pub(super) fn rendezvous(&mut self, event: &agent::Event) -> bool {
        match event {
            agent::Event::LoggedIn { server, .. } => {
                self.daemon = Some(step(StepState::Done, format!("logged in at the daemon {server}")));
            }
            agent::Event::Unreachable { server, why, retry_in } => {
                let text = format!(
                    "no daemon at {server}: {why}; trying again in {:.0} s. Casters on this network need none",
                    retry_in.as_secs_f64().ceil()
                );
                self.daemon = Some(step(StepState::Failed, text));
            }
            agent::Event::Refused { reason, asked } => {
                let text = format!("the daemon refuses: {}", crate::notice::refusal_words(*reason, *asked));
                self.daemon = Some(step(StepState::Failed, text));
                if matches!(asked, agent::Asked::Entry(_)) {
                    self.assist = None;
                }
            }
            agent::Event::AssistUnreachable { assist, why } => {
                let text = crate::notice::assist_words(*assist, why);
                self.assist = Some(step(StepState::Failed, text));
            }
            agent::Event::Observed { observation } if observation.hole => {
                return self.assist.take().is_some();
            }
            agent::Event::Introduced { .. } => {
                self.begin();
                self.met = Some(step(StepState::Done, "a caster was introduced".into()));
            }
            agent::Event::Observed { .. }
            | agent::Event::Amended { .. }
            | agent::Event::Filtering { .. }
            | agent::Event::PeerJoined { .. }
            | agent::Event::PeerLeft { .. }
            | agent::Event::Code { .. }
            | agent::Event::NoCode { .. }
            | agent::Event::CodeUsed
            | agent::Event::WrongCode { .. } => return false,
        }
        true
    }

    /// A way is tried.
    pub(super) fn trying(&mut self, rung: Rung, remote: SocketAddr) {
        self.ways.retain(|(other, _)| *other != rung);
        if self.ways.len() == MAX_WAYS {
            self.ways.remove(0);
        }
        self.ways.push((rung, remote));
    }

    /// The daemon is asked to relay.
    pub(super) fn seeking_relay(&mut self, obstacle: Obstacle) {
        let text = format!("no direct link so far: {obstacle}; asking the daemon to relay");
        self.relay = Some(step(StepState::Now, text));
    }

    /// It relays nothing.
    pub(super) fn no_relay(&mut self, why: &str) {
        let text = format!("the daemon relays nothing: {why}; the direct ways are tried on");
        self.relay = Some(step(StepState::Failed, text));
    }

    /// What was tried is over: a link stands, or it came to nothing.
    pub(super) fn begin(&mut self) {
        *self = Self { daemon: self.daemon.take(), assist: self.assist.take(), ..Self::default() };
    }

    /// The steps, oldest first.
    pub(super) fn steps(&self) -> Vec<Step> {
        let ways =
            self.ways.iter().map(|(rung, remote)| step(StepState::Now, format!("trying {rung}: {remote}")));
        let daemon = self.daemon.iter().chain(&self.assist);
        daemon.chain(&self.met).cloned().chain(ways).chain(self.relay.clone()).collect()
    }
}

const fn step(state: StepState, text: String) -> Step {
    Step { state, text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use punchcast::wire::message::{Observation, Refusal, Role, SeenBy};

    #[test]
    fn a_shut_assist_port_is_a_step_with_its_address_and_what_to_do_until_it_answers() {
        let mut story = Story::default();
        let assist = "203.0.113.1:8000".parse().unwrap();
        assert!(story.rendezvous(&agent::Event::AssistUnreachable { assist, why: "refused".into() }));
        story.begin();
        let steps = story.steps();
        let [Step { state: StepState::Failed, text }] = &steps[..] else { panic!("{steps:?}") };
        for words in ["203.0.113.1:8000", "refused", "--assist", "introduces nobody"] {
            assert!(text.contains(words), "{text}");
        }
        let seen = Observation {
            seen_by: SeenBy::Assist,
            local_port: 700,
            endpoint: assist.into(),
            hole: true,
            own: false,
        };
        assert!(story.rendezvous(&agent::Event::Observed { observation: seen }));
        assert!(story.steps().is_empty());
        assert!(!story.rendezvous(&agent::Event::Observed { observation: seen }));
    }

    #[test]
    fn an_assist_port_that_turns_away_is_reached() {
        let mut story = Story::default();
        let assist = "203.0.113.1:8000".parse().unwrap();
        story.rendezvous(&agent::Event::AssistUnreachable { assist, why: "refused".into() });
        let asked = agent::Asked::Entry(Role::Viewer);
        story.rendezvous(&agent::Event::Refused { reason: Refusal::TooMany, asked });
        let steps = story.steps();
        let [Step { state: StepState::Failed, text }] = &steps[..] else { panic!("{steps:?}") };
        assert!(text.contains("the daemon refuses"), "{text}");
    }
}
