//! Notices in words, for people, and the sentences that others say, too.

use super::{Absence, Notice, millis, role_of};
use crate::rtmp_port::TurnedAway;
use punchcast::portmap::Mapping;
use punchcast::punch::{Answer, Findings};
use punchcast::rendezvous::agent::{self, Asked, NoCode, WRONG_PROOFS};
use punchcast::wire::message::{Refusal, Role};
use std::net::SocketAddr;

impl Notice {
    /// As one line of talk for people; `None` for what would be noise.
    #[must_use]
    pub fn to_talk(&self) -> Option<String> {
        Some(match self {
            Self::Code { code: None, why: Some(why) } => why.clone(),
            Self::TicketCame => "the code is right: the viewer sent its ticket".into(),
            Self::OtherCaster => "another caster has this ticket, too".into(),
            Self::Rendezvous(event) => rendezvous_talk(event)?,
            Self::Mapped(mappings) => match mappings.first() {
                Some(Mapping { protocol, external }) => {
                    format!("the router forwards {external} to this host ({protocol})")
                }
                None => "the router forwards no port any more".into(),
            },
            Self::Attempt { rung, local: None, remote } => format!("trying {rung}: {remote}"),
            Self::Attempt { rung, local: Some(local), remote } => {
                format!("trying {rung}: {local} → {remote}")
            }
            Self::Link { link, elapsed, moves } => {
                let rtt =
                    link.rtt.map_or_else(String::new, |rtt| format!(", round trip {:.1} ms", millis(rtt)));
                let after = if *moves { String::new() } else { format!(" after {:.0} ms", millis(*elapsed)) };
                let begin = if *moves { "a direct way was found, the cast moves there: " } else { "" };
                let why = link.obstacle.map_or_else(String::new, |obstacle| {
                    format!("; through the daemon, which cannot read it, because {obstacle}; still trying for a direct link")
                });
                let protection = if link.secure {
                    "encrypted end to end"
                } else {
                    "plain RTMP, not encrypted: whoever is on the way can watch it and change it"
                };
                format!(
                    "{begin}linked ({}): {} → {}{after}{rtt}; {protection}{why}",
                    link.rung, link.local, link.remote,
                )
            }
            Self::DialFailed { remote, why, .. } => {
                format!(
                    "nothing to play from {remote}: {why}; dialling on. Is the address the one that the caster shows?"
                )
            }
            Self::SeekingRelay(obstacle) => {
                format!("no direct link so far: {obstacle}; asking the daemon to relay until there is one")
            }
            Self::NoRelay { why } => {
                format!("the daemon relays nothing: {why}; still trying for a direct link")
            }
            Self::ViewerAbsent { absence, trying_for } => format!(
                "the viewer is not there: {}. Is `punchcast view` running, and is this the ticket that it shows? Waiting for \
                 it, {:.0} s more",
                absence_words(absence),
                trying_for.as_secs_f64()
            ),
            Self::NoLink { why } => format!(
                "no link with that caster: {why}. If it has not left, a port forwarded to one side, or a daemon that \
                 relays (`punchcastd --relay on`), would help"
            ),
            Self::Busy { remote } => {
                format!("turned away another caster at {remote}: all places are taken (--casts)")
            }
            Self::FirstFrame { elapsed } => format!("first picture after {:.0} ms", millis(*elapsed)),
            Self::Publisher { remote, joined: true } => format!("{remote} publishes"),
            Self::Publisher { remote, joined: false } => format!("{remote} stopped publishing"),
            Self::Sharing { on: true } => "the browser shares".into(),
            Self::Sharing { on: false } => "the browser shares no more; its page can share again".into(),
            Self::Player { remote, joined: true } => format!("{remote} plays"),
            Self::Player { remote, joined: false } => format!("{remote} stopped playing"),
            Self::WrongKey { wrong, what } => {
                let (role, remote, others) = (role_of(*what), wrong.remote, others_words(wrong));
                format!("a {role} with a wrong key was refused (from {remote}){others}")
            }
            Self::Occupied(refused) => {
                let (remote, others) = (refused.remote, others_words(refused));
                format!("{remote} was refused: another program publishes, and one at a time may{others}")
            }
            Self::Recording(begun) => begun.to_string(),
            Self::Lost { why } => format!("the link was lost: {why}; trying to make it again"),
            Self::CastEnded => "the cast is over".into(),
            Self::OfViewer { viewer, notice } => format!("viewer {}: {}", viewer + 1, notice.to_talk()?),
            Self::OfCast { cast, notice } => format!("cast {}: {}", cast + 1, notice.to_talk()?),
            Self::ViewerOver { reason } => format!("no more to this one: {reason}"),
            Self::Report(report) => report.to_string(),
            Self::Ready { .. }
            | Self::Code { .. }
            | Self::HoleOpen { .. }
            | Self::Peer { .. }
            | Self::SinkFailed { .. }
            | Self::StreamStarted
            | Self::Unit(_)
            | Self::Stats(_)
            | Self::StartSource
            | Self::Pace(_)
            | Self::KeyframeWanted
            | Self::End { .. } => return None,
        })
    }
}

fn rendezvous_talk(event: &agent::Event) -> Option<String> {
    Some(match event {
        agent::Event::LoggedIn { server, .. } => format!("logged in at the daemon {server}"),
        agent::Event::Observed { observation } if observation.hole => {
            format!("the daemon sees this side as {}", observation.endpoint)
        }
        agent::Event::Introduced { .. } => "introduced to the other side".into(),
        agent::Event::Refused { reason, asked } => {
            format!("the daemon refuses: {}", refusal_words(*reason, *asked))
        }
        agent::Event::Unreachable { server, why, .. } => {
            format!(
                "no daemon at {server}: {why}; trying on until it answers (on one network none is needed)"
            )
        }
        agent::Event::AssistUnreachable { assist, why } => assist_words(*assist, why),
        agent::Event::CodeUsed => "a caster got the ticket by the code".into(),
        agent::Event::WrongCode { left } => {
            format!("somebody tried the code with wrong words; after {left} more it is withdrawn")
        }
        // Told to its viewer; what another caster is told is not this.
        agent::Event::PeerJoined { role: Role::Caster, .. } => "a caster has the ticket".into(),
        agent::Event::PeerJoined { role: Role::Viewer, .. } => "the viewer is there".into(),
        agent::Event::Observed { .. }
        | agent::Event::Amended { .. }
        | agent::Event::Filtering { .. }
        | agent::Event::Code { .. }
        | agent::Event::NoCode { .. }
        | agent::Event::PeerLeft { .. } => return None,
    })
}

/// How many more were refused, if any were.
fn others_words(refused: &TurnedAway) -> String {
    match refused.others {
        0 => String::new(),
        others => format!("; {others} more since the last was told"),
    }
}

/// What is known of a viewer that is not there.
fn absence_words(absence: &Absence) -> String {
    let answers = match absence {
        Absence::NotLoggedIn(server) => {
            return format!("nobody with this ticket is logged in at the daemon {server}");
        }
        Absence::NoAnswer(answers) => answers,
    };
    let parts = [
        (Answer::Refused, "nothing listens at"),
        (Answer::Silent, "nobody answers at"),
        (Answer::Unreachable, "there is no route to"),
    ];
    let part = |(answer, words): (Answer, &str)| {
        let such = answers.iter().filter(|(_, other)| *other == answer);
        let such: Vec<String> = such.map(|(address, _)| address.to_string()).collect();
        (!such.is_empty()).then(|| format!("{words} {}", such.join(", ")))
    };
    parts.into_iter().filter_map(part).collect::<Vec<_>>().join("; ")
}

/// What the viewer's own addresses did, in the end.
pub(crate) const fn findings_words(findings: &Findings) -> &'static str {
    match (findings.refused > 0, findings.silent() > 0) {
        (true, false) => "nothing listens at the viewer's own addresses",
        (true, true) => {
            "at some of the viewer's own addresses nothing listens, and the others do not answer from here"
        }
        (false, false) if findings.unreachable > 0 => "there is no route to the viewer's own addresses",
        (false, _) => "the viewer's own addresses do not answer from here",
    }
}

/// That the daemon's assist port does not answer, what follows, and what to do.
pub(crate) fn assist_words(assist: SocketAddr, why: &str) -> String {
    format!(
        "the daemon's assist port {assist} cannot be reached: {why}. Until it can, the daemon introduces nobody, and only \
         machines of one network find each other. Open that TCP port at the daemon, or have `punchcast view` name \
         the right one with --assist; trying on"
    )
}

/// Why there is no short code, and what follows.
pub(crate) fn no_code_words(why: NoCode) -> String {
    match why {
        NoCode::Guessed { again_in } => {
            let next = match again_in.as_secs() {
                0 => "another follows".to_owned(),
                seconds @ 1..120 => format!("there is another in {seconds} seconds"),
                seconds => format!("there is another in {} minutes", seconds.div_ceil(60)),
            };
            format!("the code was tried with wrong words {WRONG_PROOFS} times and is withdrawn; {next}")
        }
        NoCode::NoNumber => {
            "no short code: the daemon has no number for one now; the ticket is as good".into()
        }
        NoCode::NoDaemon => {
            "no short code: the daemon is not asked any more; the ticket is as good on this network".into()
        }
    }
}

/// Why the daemon refuses what was asked. One reason stands for several limits, and only what was asked tells them apart.
pub(crate) const fn refusal_words(reason: Refusal, asked: Asked) -> &'static str {
    match (reason, asked) {
        (Refusal::BadRequest, _) => "it does not understand the request",
        (Refusal::Version, _) => "it speaks another version of the protocol; update the older of the two",
        (Refusal::NotOwner, _) => "this viewer did not make the ticket",
        (Refusal::TooMany, Asked::Entry(_)) => {
            "too many connections from this address, at one time or lately; trying again after a pause"
        }
        (Refusal::TooMany, Asked::Introduction) => {
            "too many introductions lately: asked for by this caster or from its address, or to viewers at the viewer's; \
             asking again in a few seconds"
        }
        (Refusal::TooMany, Asked::Message) => "too many messages on one connection",
        (Refusal::TooMany, Asked::Relay) => "too many connections from this address, at one time or lately",
        (Refusal::Full, Asked::Entry(Role::Caster)) => {
            "it is full, or this ticket has as many casters there as one may have; trying again after a pause"
        }
        (Refusal::Full, Asked::Relay) => "it is full",
        (Refusal::Full, Asked::Entry(Role::Viewer) | Asked::Introduction | Asked::Message) => {
            "it is full; trying again after a pause"
        }
        (Refusal::Replaced, _) => "another viewer logged in with the same ticket",
        (Refusal::NoRelay, _) => {
            "it does not relay this link: the other side did not ask in time, or what it relays is used up for now"
        }
        (Refusal::NoCode, _) => "no viewer shows this code now",
        (Refusal::WrongCode, _) => "the code's words are wrong",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_code_that_another_follows_is_not_said_to_be_none() {
        let said = |why| Notice::Code { code: None, why: Some(no_code_words(why)) }.to_talk().expect("told");
        let guessed = said(NoCode::Guessed { again_in: Duration::ZERO });
        assert!(
            guessed.ends_with("withdrawn; another follows") && !guessed.contains("no short"),
            "{guessed}"
        );
        assert!(said(NoCode::NoNumber).starts_with("no short code: "));
    }

    #[test]
    fn a_refusal_blames_the_limit_that_refused_and_no_other() {
        let (viewer, caster) = (Asked::Entry(Role::Viewer), Asked::Entry(Role::Caster));
        for (reason, asked, words, not) in [
            (Refusal::TooMany, caster, "connections from this address", "introductions"),
            (Refusal::TooMany, Asked::Introduction, "to viewers at the viewer's", "connections"),
            (Refusal::TooMany, Asked::Message, "messages on one connection", "address"),
            (Refusal::TooMany, Asked::Relay, "connections from this address", "again"),
            (Refusal::Full, Asked::Relay, "it is full", "again"),
            (Refusal::Full, caster, "as many casters", "address"),
            (Refusal::Full, viewer, "it is full", "casters"),
        ] {
            let said = refusal_words(reason, asked);
            assert!(said.contains(words) && !said.contains(not), "{reason:?} {asked:?}: {said}");
            assert!(!said.contains("minute"), "no limit of these has one: {said}");
        }
    }

    #[test]
    fn addresses_of_an_absent_viewer_are_told_by_what_they_do() {
        let addr = |text: &str| text.parse::<SocketAddr>().unwrap();
        let answers = vec![
            (addr("10.0.0.1:7"), Answer::Refused),
            (addr("[2001:db8::1]:7"), Answer::Silent),
            (addr("10.0.1.1:7"), Answer::Refused),
        ];
        let trying_for = Duration::from_secs(28);
        let said =
            Notice::ViewerAbsent { absence: Absence::NoAnswer(answers), trying_for }.to_talk().expect("told");
        let begin = "the viewer is not there: nothing listens at 10.0.0.1:7, 10.0.1.1:7; nobody answers at [2001:db8::1]:7. Is";
        assert!(said.starts_with(begin) && said.ends_with("28 s more"), "{said}");
    }
}
