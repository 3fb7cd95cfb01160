//! What the viewer's and the caster's applications tell the program around them, and how it is shown.
//!
//! With `--json`, each notice is one JSON object a line on standard output, with `event` and `t_ms`. Otherwise
//! results go to standard output and talk to standard error, in words.

use crate::caster::Pace;
use crate::meeting::{Link, Rooms};
use crate::rtmp_port::{Mode, WrongKey};
use crate::stats::Counts;
use punchcast::app::NetOp;
use punchcast::id::ClientId;
use punchcast::media::Unit;
use punchcast::policy::{Obstacle, Rung};
use punchcast::portmap::Mapping;
use punchcast::rendezvous::agent::{self, Asked, NoCode, WRONG_PROOFS};
use punchcast::wire::message::{Refusal, Role};
use serde_json::{Value, json};
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

/// What happened, for users and scripts.
#[derive(Clone, Debug)]
pub enum Notice {
    /// Everything is bound.
    Ready {
        /// The viewer's ticket.
        ticket: Option<String>,
        /// Where the page is.
        page: Option<String>,
        /// Where the RTMP port is.
        rtmp: Option<SocketAddr>,
        /// Where plain RTMP with a stream key is spoken with other machines: publishers dial a viewer there, players a
        /// caster. A secret, for its key.
        rtmp_url: Option<String>,
    },
    /// The viewer's short code is another than before.
    Code {
        /// With its daemon, as it can be copied; `None`: there is none now.
        code: Option<String>,
        /// Why there is none, in words.
        why: Option<String>,
    },
    /// The viewer of a code has sent its ticket.
    TicketCame,
    /// The hole port is bound (for the program alone: a router can be asked to forward it).
    HoleOpen {
        /// Which it is.
        port: u16,
    },
    /// What routers forward to the hole port is another than before: all of it.
    Mapped(Vec<Mapping>),
    /// The rendezvous tells something.
    Rendezvous(agent::Event),
    /// The daemon named a peer.
    Peer {
        /// Who.
        id: ClientId,
    },
    /// An endpoint is dialled for the first time.
    Attempt {
        /// What the link would be.
        rung: Rung,
        /// Where from.
        local: SocketAddr,
        /// Where to.
        remote: SocketAddr,
    },
    /// The link stands.
    Link {
        /// The link.
        link: Link,
        /// Since the request for it.
        elapsed: Duration,
        /// The cast goes on over it, from a relayed one.
        moves: bool,
    },
    /// A server that was dialled for the reverse way plays nothing; told when the reason changes.
    DialFailed {
        /// Which.
        remote: SocketAddr,
        /// Why.
        why: String,
        /// When it is dialled again.
        again_in: Duration,
    },
    /// No direct link has formed so far, and the daemon is asked to relay one.
    SeekingRelay(Obstacle),
    /// The daemon relays nothing for us.
    NoRelay {
        /// Why, in words.
        why: String,
    },
    /// The daemon knows of no viewer with the caster's ticket; told once for each time that it is missed.
    ViewerAbsent {
        /// How much longer it is waited for.
        trying_for: Duration,
    },
    /// A caster was introduced, and no link with it has formed in time.
    NoLink {
        /// What stands in the way, in words.
        why: String,
    },
    /// Another caster was turned away.
    Busy {
        /// Who.
        remote: SocketAddr,
    },
    /// A stream of units begins; what comes is not a continuation.
    StreamStarted,
    /// The first keyframe has passed.
    FirstFrame {
        /// Since the request for the link.
        elapsed: Duration,
    },
    /// A unit passed (a viewer only).
    Unit(Unit),
    /// A program publishes to the caster's RTMP port, or stopped.
    Publisher {
        /// Who.
        remote: SocketAddr,
        /// Came, or left.
        joined: bool,
    },
    /// The caster's page shares a screen, or stopped.
    Sharing {
        /// Whether it does.
        on: bool,
    },
    /// A program plays from the viewer's RTMP port, or stopped.
    Player {
        /// Who.
        remote: SocketAddr,
        /// Came, or left.
        joined: bool,
    },
    /// A publisher or player was refused for a wrong key.
    WrongKey {
        /// Who, and how many more.
        wrong: WrongKey,
        /// What they wanted to do.
        what: Mode,
    },
    /// What passed in the last second.
    Stats(Stats),
    /// The first link stands: a source that waits for it may begin.
    StartSource,
    /// The source should make a keyframe.
    KeyframeWanted,
    /// What the links take of a source that encodes for them has changed.
    Pace(Pace),
    /// The link is gone; the other side may come back.
    Lost {
        /// Why.
        why: String,
    },
    /// The caster ended the cast in order (told to a viewer that goes on).
    CastEnded,
    /// About one of several viewers, counted from 0.
    OfViewer {
        /// Which.
        viewer: usize,
        /// What.
        notice: Box<Self>,
    },
    /// About one of several casts, counted from 0; what is told of the first stands alone.
    OfCast {
        /// Which.
        cast: usize,
        /// What.
        notice: Box<Self>,
    },
    /// Nothing more goes to this viewer; the cast goes on for others.
    ViewerOver {
        /// Why.
        reason: String,
    },
    /// What it came to, before the end; for people alone.
    Report(Report),
    /// The application is done.
    End {
        /// Whether it did what it was asked for.
        ok: bool,
        /// Why it ends.
        reason: String,
    },
}

/// What a program came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The last link's rung, and how long it took since the request for it.
    pub link: Option<(Rung, Duration)>,
    /// Connections begun to find one; the system repeats the SYN of each.
    pub dials: u32,
    /// Pictures that passed.
    pub frames: u64,
}

impl Report {
    /// Counts the connections that the hole port begins.
    pub(crate) fn count(&mut self, op: &NetOp) {
        if let NetOp::Connect { conn, .. } | NetOp::Knock { conn, .. } = op
            && Rooms::is_hole(conn.room)
        {
            self.dials = self.dials.saturating_add(1);
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.link {
            Some((rung, took)) => write!(f, "report: {rung} after {:.0} ms", millis(took))?,
            None => f.write_str("report: no link")?,
        }
        write!(f, ", {} dials, {} frames", self.dials, self.frames)
    }
}

/// One second of a cast.
#[derive(Clone, Copy, Debug)]
pub struct Stats {
    /// What passed.
    pub counts: Counts,
    /// How the link was made.
    pub rung: Rung,
    /// Its last measured round-trip time.
    pub rtt: Option<Duration>,
    /// Pictures left out to stay live, since the cast began.
    pub dropped: u64,
}

impl Notice {
    /// Which viewer it is about, counted from 0, and what it says.
    #[must_use]
    pub fn of_viewer(self) -> (usize, Self) {
        if let Self::OfViewer { viewer, notice } = self { (viewer, *notice) } else { (0, self) }
    }

    /// Which cast it is about, counted from 0, and what it says.
    #[must_use]
    pub fn of_cast(self) -> (usize, Self) {
        if let Self::OfCast { cast, notice } = self { (cast, *notice) } else { (0, self) }
    }

    /// As a JSON object without `t_ms`; `None` for what scripts do not see.
    #[must_use]
    pub fn to_json(&self) -> Option<Value> {
        Some(match self {
            Self::Ready { ticket, page, rtmp, rtmp_url } => json!({
                "event": "ready", "ticket": ticket, "page": page,
                "rtmp": rtmp.map(|addr| addr.to_string()), "rtmp_url": rtmp_url,
            }),
            Self::Code { code, why } => json!({"event": "code", "code": code, "why": why}),
            Self::Rendezvous(event) => rendezvous_json(event)?,
            Self::Mapped(mappings) => json!({
                "event": "mapped",
                "mappings": mappings.iter().map(|mapping| json!({
                    "protocol": mapping.protocol.to_string(), "endpoint": mapping.external.to_string(),
                })).collect::<Vec<_>>(),
            }),
            Self::Peer { id } => json!({"event": "peer", "id": id.to_string()}),
            Self::Attempt { rung, local, remote } => json!({
                "event": "attempt", "rung": rung.to_string(),
                "local": local.to_string(), "remote": remote.to_string(),
            }),
            Self::Link { link, elapsed, moves } => json!({
                "event": "link", "rung": link.rung.to_string(),
                "local": link.local.to_string(), "remote": link.remote.to_string(),
                "rtt_ms": link.rtt.map(millis), "elapsed_ms": millis(*elapsed), "secure": link.secure,
                "moves": moves, "why": link.obstacle.map(|obstacle| obstacle.to_string()),
            }),
            Self::DialFailed { remote, why, again_in } => json!({
                "event": "dial-failed", "remote": remote.to_string(), "why": why, "retry_ms": millis(*again_in),
            }),
            Self::SeekingRelay(obstacle) => json!({"event": "seeking-relay", "why": obstacle.to_string()}),
            Self::NoRelay { why } => json!({"event": "no-relay", "why": why}),
            Self::ViewerAbsent { trying_for } => {
                json!({"event": "viewer-absent", "trying_ms": millis(*trying_for)})
            }
            Self::NoLink { why } => json!({"event": "no-link", "why": why}),
            Self::Busy { remote } => json!({"event": "busy", "remote": remote.to_string()}),
            Self::FirstFrame { elapsed } => json!({"event": "first-frame", "elapsed_ms": millis(*elapsed)}),
            Self::Publisher { remote, joined } => {
                json!({"event": "publisher", "remote": remote.to_string(), "joined": joined})
            }
            Self::Sharing { on } => json!({"event": "sharing", "on": on}),
            Self::Player { remote, joined } => {
                json!({"event": "player", "remote": remote.to_string(), "joined": joined})
            }
            Self::WrongKey { wrong, what } => json!({
                "event": "wrong-key", "remote": wrong.remote.to_string(), "role": role_of(*what), "others": wrong.others,
            }),
            Self::Stats(stats) => json!({
                "event": "stats", "frames": stats.counts.frames, "bytes": stats.counts.bytes,
                "total_frames": stats.counts.total_frames, "dropped": stats.dropped,
                "age_ms_p50": stats.counts.age_p50.map(millis), "age_ms_p99": stats.counts.age_p99.map(millis),
                "rung": stats.rung.to_string(), "rtt_ms": stats.rtt.map(millis),
            }),
            Self::Lost { why } => json!({"event": "lost", "why": why}),
            Self::CastEnded => json!({"event": "cast-end"}),
            Self::OfViewer { viewer, notice } => {
                let mut value = notice.to_json()?;
                value["viewer"] = json!(viewer + 1);
                value
            }
            Self::OfCast { cast, notice } => {
                let mut value = notice.to_json()?;
                value["cast"] = json!(cast + 1);
                value
            }
            Self::ViewerOver { reason } => json!({"event": "viewer-end", "reason": reason}),
            Self::End { reason, ok } => json!({"event": "end", "reason": reason, "ok": ok}),
            Self::HoleOpen { .. }
            | Self::TicketCame
            | Self::StreamStarted
            | Self::Unit(_)
            | Self::StartSource
            | Self::Pace(_)
            | Self::KeyframeWanted
            | Self::Report(_) => return None,
        })
    }

    /// As one line of talk for people; `None` for what would be noise.
    #[must_use]
    pub fn to_talk(&self) -> Option<String> {
        Some(match self {
            Self::Code { code: None, why: Some(why) } => why.clone(),
            Self::TicketCame => "the code is right: the viewer sent its ticket".into(),
            Self::Rendezvous(event) => rendezvous_talk(event)?,
            Self::Mapped(mappings) => match mappings.first() {
                Some(Mapping { protocol, external }) => {
                    format!("the router forwards {external} to this host ({protocol})")
                }
                None => "the router forwards no port any more".into(),
            },
            // Of a port that the system chooses nothing is known before the connection stands.
            Self::Attempt { rung, local, remote } if local.ip().is_unspecified() => {
                format!("trying {rung}: {remote}")
            }
            Self::Attempt { rung, local, remote } => format!("trying {rung}: {local} → {remote}"),
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
            Self::ViewerAbsent { trying_for } => format!(
                "the viewer is not there: nobody with this ticket is logged in at the daemon. Is `punchcast view` running, \
                 and is this the ticket that it shows? Waiting for it, {:.0} s more",
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
                let others = match wrong.others {
                    0 => String::new(),
                    others => format!("; {others} more since the last was told"),
                };
                format!("a {} with a wrong key was refused (from {}){others}", role_of(*what), wrong.remote)
            }
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

fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

fn rendezvous_json(event: &agent::Event) -> Option<Value> {
    Some(match event {
        agent::Event::LoggedIn { client } => json!({"event": "logged-in", "client": client.to_string()}),
        agent::Event::Observed { observation } if observation.hole => {
            json!({"event": "observed", "endpoint": observation.endpoint.to_string()})
        }
        agent::Event::Introduced { session, peer, .. } => json!({
            "event": "introduced", "session": session.to_string(), "peer": peer.client.to_string(),
            "endpoints": peer.hole_endpoints().iter().chain(&peer.local).map(ToString::to_string).collect::<Vec<_>>(),
        }),
        agent::Event::CodeUsed => json!({"event": "code-used"}),
        agent::Event::WrongCode { left } => json!({"event": "wrong-code", "left": left}),
        agent::Event::Refused { reason, asked } => {
            json!({"event": "refused", "why": refusal_words(*reason, *asked)})
        }
        agent::Event::Unreachable { server, why, retry_in } => json!({
            "event": "daemon-unreachable", "server": server.to_string(), "why": why, "retry_ms": millis(*retry_in),
        }),
        agent::Event::AssistUnreachable { assist, why } => json!({
            "event": "assist-unreachable", "assist": assist.to_string(), "why": why,
        }),
        agent::Event::Observed { .. }
        | agent::Event::Amended { .. }
        | agent::Event::Filtering { .. }
        | agent::Event::Code { .. }
        | agent::Event::NoCode { .. }
        | agent::Event::PeerJoined { .. }
        | agent::Event::PeerLeft { .. } => return None,
    })
}

/// Who wants to do that.
const fn role_of(what: Mode) -> &'static str {
    match what {
        Mode::Publishers => "publisher",
        Mode::Players => "player",
    }
}

fn rendezvous_talk(event: &agent::Event) -> Option<String> {
    Some(match event {
        agent::Event::LoggedIn { .. } => "logged in at the daemon".into(),
        agent::Event::Observed { observation } if observation.hole => {
            format!("the daemon sees this side as {}", observation.endpoint)
        }
        agent::Event::Introduced { .. } => "introduced to the other side".into(),
        agent::Event::Refused { reason, asked } => {
            format!("the daemon refuses: {}", refusal_words(*reason, *asked))
        }
        agent::Event::Unreachable { server, why, retry_in } => format!(
            "no daemon at {server}: {why}; trying again in {:.1} s (on one network none is needed)",
            retry_in.as_secs_f64()
        ),
        agent::Event::AssistUnreachable { assist, why } => assist_words(*assist, why),
        agent::Event::CodeUsed => "a caster got the ticket by the code".into(),
        agent::Event::WrongCode { left } => {
            format!("somebody tried the code with wrong words; after {left} more it is withdrawn")
        }
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
}
