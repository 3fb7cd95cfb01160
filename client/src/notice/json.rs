//! Notices for scripts; the README has the contract.

use super::{Absence, Notice, millis, refusal_words, role_of};
use punchcast::punch::Answer;
use punchcast::rendezvous::agent;
use punchcast::wire::message::Peer;
use serde_json::{Value, json};
use std::net::SocketAddr;

impl Notice {
    /// As a JSON object without `t_ms`; `None` for what scripts do not see.
    #[must_use]
    pub fn to_json(&self) -> Option<Value> {
        Some(match self {
            Self::Ready { ticket, page, rtmp, rtmp_url } => json!({
                "event": "ready", "ticket": ticket, "page": page,
                "rtmp": rtmp, "rtmp_url": rtmp_url,
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
            Self::Attempt { rung, local, remote } => {
                let remote = remote.to_string();
                let mut value = json!({"event": "attempt", "rung": rung.to_string(), "remote": remote});
                if let Some(local) = local {
                    value["local"] = json!(local.to_string());
                }
                value
            }
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
            Self::ViewerAbsent { absence, trying_for } => json!({
                "event": "viewer-absent", "trying_ms": millis(*trying_for), "addresses": addresses_json(absence),
            }),
            Self::NoLink { why } => json!({"event": "no-link", "why": why}),
            Self::Busy { remote } => json!({"event": "busy", "remote": remote.to_string(), "role": "caster"}),
            Self::Occupied(refused) => json!({
                "event": "busy", "remote": refused.remote.to_string(), "role": "publisher", "others": refused.others,
            }),
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
            Self::Recording(begun) => {
                json!({"event": "recording", "file": begun.file.to_string_lossy(), "part": begun.part})
            }
            Self::SinkFailed { sink, why } => json!({"event": "sink-failed", "sink": sink, "why": why}),
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
            | Self::OtherCaster
            | Self::StreamStarted
            | Self::Unit(_)
            | Self::StartSource
            | Self::Pace(_)
            | Self::KeyframeWanted
            | Self::Report(_) => return None,
        })
    }
}

fn rendezvous_json(event: &agent::Event) -> Option<Value> {
    Some(match event {
        agent::Event::LoggedIn { client, server } => json!({
            "event": "logged-in", "client": client.to_string(), "server": server.to_string(),
        }),
        agent::Event::Observed { observation } if observation.hole => {
            json!({"event": "observed", "endpoint": observation.endpoint.to_string()})
        }
        agent::Event::Introduced { session, peer, .. } => json!({
            "event": "introduced", "session": session.to_string(), "peer": peer.client.to_string(),
            "endpoints": endpoints(peer),
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

/// The viewer's own addresses and what they do, where that is what is known.
fn addresses_json(absence: &Absence) -> Value {
    let Absence::NoAnswer(answers) = absence else { return Value::Null };
    let one = |(address, answer): &(SocketAddr, Answer)| {
        let met = match answer {
            Answer::Refused => "refused",
            Answer::Unreachable => "unreachable",
            Answer::Silent => "silent",
            Answer::Connected => "connected",
        };
        json!({"address": address.to_string(), "met": met})
    };
    answers.iter().map(one).collect()
}

/// Where a peer is dialled, each once.
fn endpoints(peer: &Peer) -> Vec<String> {
    let mut endpoints = peer.hole_endpoints();
    for endpoint in &peer.local {
        if !endpoints.contains(endpoint) {
            endpoints.push(*endpoint);
        }
    }
    endpoints.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use punchcast::id::{ClientId, SessionId};
    use punchcast::wire::message::{Observation, SeenBy};
    use std::time::Duration;

    #[test]
    fn an_address_of_a_peer_that_the_daemon_saw_too_is_told_once() {
        let endpoint: SocketAddr = "[::1]:700".parse().unwrap();
        let observation = Observation {
            seen_by: SeenBy::Assist,
            local_port: 700,
            endpoint: endpoint.into(),
            hole: true,
            own: true,
        };
        let local = vec![endpoint.into(), "127.0.0.1:700".parse::<SocketAddr>().unwrap().into()];
        let (client, observed, mapped) = (ClientId(1), vec![observation], Vec::new());
        let peer = Peer { client, observed, local, public: true, rtt_us: 0, mapped };
        let (session, start_in) = (SessionId(1), Duration::ZERO);
        let introduced = agent::Event::Introduced { session, peer, start_in, rtt: None };
        let told = Notice::Rendezvous(introduced).to_json().expect("an event");
        assert_eq!(told["endpoints"], json!(["[::1]:700", "127.0.0.1:700"]));
    }
}
