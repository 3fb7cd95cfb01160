//! What the caster is doing, in words, for who shares.

use crate::notice::{Notice, Stats};
use crate::page::Phase;
use punchcast::policy::Rung;
use punchcast::rendezvous::agent;
use serde::{Serialize, Serializer};
use std::net::SocketAddr;

/// How far the cast has come towards one viewer.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Viewer {
    /// In one word.
    phase: Phase,
    /// In a sentence.
    words: String,
    /// How the link was made.
    #[serde(serialize_with = "as_text")]
    rung: Option<Rung>,
    /// The viewer's address of the link.
    remote: Option<SocketAddr>,
    /// The link's round-trip time, milliseconds.
    rtt_ms: Option<f64>,
    /// Half of the pictures of the last second were this old at most when they were sent, milliseconds.
    age_ms: Option<f64>,
    /// Pictures left out since the cast began, as they would have come too late.
    dropped: u64,
}

impl Viewer {
    /// Takes a notice about this viewer; returns whether it has changed anything.
    pub(super) fn take(&mut self, notice: &Notice) -> bool {
        let before = self.clone();
        #[allow(clippy::wildcard_enum_match_arm)] // The rest says nothing about how far the cast has come.
        match notice {
            // Attempts go on beside a relayed link.
            Notice::Rendezvous(agent::Event::Introduced { .. }) | Notice::Attempt { .. }
                if self.phase != Phase::Live =>
            {
                self.phase = Phase::Connecting;
                self.words = sentence(notice);
            }
            Notice::Rendezvous(_)
            | Notice::SeekingRelay(_)
            | Notice::NoRelay { .. }
            | Notice::ViewerAbsent { .. }
                if self.phase != Phase::Live && notice.to_talk().is_some() =>
            {
                self.words = sentence(notice);
            }
            Notice::Link { link, .. } => {
                *self = Self {
                    phase: Phase::Live,
                    words: sentence(notice),
                    rung: Some(link.rung),
                    remote: Some(link.remote.addr()),
                    rtt_ms: link.rtt.map(millis),
                    ..*self
                };
            }
            Notice::Lost { .. } => self.over(Phase::Lost, notice),
            Notice::ViewerOver { .. } | Notice::End { .. } => self.over(Phase::Ended, notice),
            Notice::Stats(Stats { counts, rtt, dropped, .. }) => {
                self.rtt_ms = rtt.map(millis);
                self.age_ms = counts.age_p50.map(millis);
                self.dropped = *dropped;
            }
            _ => {}
        }
        *self != before
    }

    fn over(&mut self, phase: Phase, notice: &Notice) {
        let words = sentence(notice);
        *self = Self { phase, words, dropped: self.dropped, ..Self::default() };
    }
}

/// The notice as it is talked of, as a sentence.
fn sentence(notice: &Notice) -> String {
    let talk = if let Notice::End { reason, .. } = notice {
        reason.clone()
    } else {
        notice.to_talk().unwrap_or_default()
    };
    let mut rest = talk.chars();
    rest.next().map_or_else(String::new, |first| format!("{}{}.", first.to_uppercase(), rest.as_str()))
}

fn as_text<S: Serializer>(rung: &Option<Rung>, serializer: S) -> Result<S::Ok, S::Error> {
    match rung {
        Some(rung) => serializer.collect_str(rung),
        None => serializer.serialize_none(),
    }
}

/// To a tenth: the page shows no more.
fn millis(duration: std::time::Duration) -> f64 {
    (duration.as_secs_f64() * 1e4).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_viewer_is_told_of_from_the_first_try_to_the_loss() {
        let mut viewer = Viewer::default();
        assert_eq!(viewer.phase, Phase::Waiting);
        let (local, remote) = ("10.0.0.1:5".parse().unwrap(), "10.0.0.2:6".parse().unwrap());
        assert!(viewer.take(&Notice::Attempt { rung: Rung::Punched, local: Some(local), remote }));
        assert_eq!(
            (viewer.phase, viewer.words.as_str()),
            (Phase::Connecting, "Trying punched: 10.0.0.1:5 → 10.0.0.2:6.")
        );
        assert!(!viewer.take(&Notice::KeyframeWanted));
        assert!(viewer.take(&Notice::Lost { why: "it fell silent".into() }));
        assert_eq!(viewer.phase, Phase::Lost);
        assert!(viewer.words.contains("it fell silent"));
        assert_eq!(serde_json::to_value(&viewer).unwrap()["phase"], "lost");
    }
}
