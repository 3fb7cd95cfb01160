//! The agent's assist connections: one from the hole port for each address family of the daemon.
//!
//! They show the daemon the hole port's mapping and keep it; the caster's ask for introductions.

use super::contract::{Asked, Event, Output};
use super::sampler::Sighting;
use super::watch::Watch;
use super::{Agent, HEARTBEAT, LOGIN_TIME, NOTHING_ANSWERED};
use crate::app::{Closing, ConnId, NetOp};
use crate::wire;
use crate::wire::frame::Reader;
use crate::wire::message::{FromAssist, Refusal, Role, SeenBy, ToAssist};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How long the daemon may take for its first answer at the assist port, beside two round trips: that answer is the mapping,
/// without which nobody is introduced. One loss is repeated within it.
pub(super) const ANSWER_TIME: Duration = Duration::from_secs(2);

/// The pause before a request that the daemon refused for its number is sent again: it admits one in 3.3 s.
const ASK_AGAIN: Duration = Duration::from_secs(4);

pub(super) enum Assist {
    Waiting {
        until: Instant,
    },
    Dialling {
        conn: ConnId,
        since: Instant,
        deadline: Instant,
    },
    /// `answer_by` is when the first answer is overdue; `None` once it came.
    Open {
        conn: ConnId,
        reader: Reader,
        beat_at: Instant,
        answer_by: Option<Instant>,
    },
}

pub(super) struct AssistLane {
    pub(super) to: SocketAddr,
    pub(super) from: SocketAddr,
    pub(super) state: Assist,
    pub(super) failures: u32,
    /// Why it failed last since the login began, or since it answered, in words.
    pub(super) trouble: Option<String>,
}

impl Agent {
    /// Asks the daemon for another introduction (a caster only).
    pub fn request_again(&mut self) {
        // One request: each is an introduction, whatever family it comes by.
        let open = self.assists.iter().find_map(|lane| match lane.state {
            Assist::Open { conn, .. } => Some((conn, lane.from.port())),
            Assist::Waiting { .. } | Assist::Dialling { .. } => None,
        });
        if let Some((conn, port)) = open {
            let request = self.assist_request(port);
            self.net(NetOp::Send { conn, bytes: wire::encode(&request) });
        }
    }

    pub(super) fn dial_assist(&mut self, index: usize, now: Instant) {
        let conn = self.conns.allocate();
        let lane = &mut self.assists[index];
        lane.state = Assist::Dialling { conn, since: now, deadline: now + LOGIN_TIME };
        let op = NetOp::Connect { conn, from: Some(lane.from), to: lane.to };
        self.net(op);
    }

    pub(super) fn assist_timeout(&mut self, index: usize, now: Instant) {
        match &mut self.assists[index].state {
            Assist::Waiting { until } if *until <= now => self.dial_assist(index, now),
            Assist::Dialling { conn, deadline, .. }
            | Assist::Open { conn, answer_by: Some(deadline), .. }
                if *deadline <= now =>
            {
                let conn = *conn;
                self.net(NetOp::Close { conn, how: Closing::Abort });
                self.lose_assist(index, NOTHING_ANSWERED.into(), now);
            }
            Assist::Open { conn, beat_at, .. } if *beat_at <= now => {
                *beat_at = now + HEARTBEAT;
                let conn = *conn;
                self.net(NetOp::Send { conn, bytes: wire::encode(&ToAssist::Heartbeat) });
            }
            Assist::Waiting { .. } | Assist::Dialling { .. } | Assist::Open { .. } => {}
        }
    }

    pub(super) const fn assist_request(&self, local_port: u16) -> ToAssist {
        let token = self.token;
        match self.config.role {
            Role::Caster => ToAssist::ReqConnClient { token, rendezvous: self.config.rendezvous, local_port },
            Role::Viewer => ToAssist::ReqSrvDisconnect { token, local_port },
        }
    }

    pub(super) fn read_assist(&mut self, index: usize, now: Instant) {
        loop {
            let Some(lane) = self.assists.get_mut(index) else { return };
            let local_port = lane.from.port();
            let Assist::Open { conn, reader, answer_by, .. } = &mut lane.state else { return };
            let conn = *conn;
            let heard = reader.next::<FromAssist>();
            if matches!(heard, Ok(Some(_))) {
                lane.trouble = None;
                self.watch = Watch::Quiet;
            }
            match heard {
                Ok(Some(FromAssist::Observed { endpoint })) => {
                    *answer_by = None;
                    // Turned away at the door, a connection has not succeeded; answered, it has.
                    lane.failures = 0;
                    self.observe(Sighting { seen_by: SeenBy::Assist, local_port, endpoint }, true);
                }
                Ok(Some(FromAssist::Refused { reason })) => {
                    let role = self.config.role;
                    let asked = match (answer_by.take(), role) {
                        (Some(_), _) => Asked::Entry(role),
                        (None, Role::Caster) => Asked::Introduction,
                        (None, Role::Viewer) => Asked::Message,
                    };
                    if reason == Refusal::TooMany && role == Role::Caster {
                        self.ask_again_at = Some(now + ASK_AGAIN);
                    }
                    self.event(Event::Refused { reason, asked });
                }
                Ok(None) => return,
                Err(error) => {
                    log::debug!("conn={conn} assist: {error}");
                    self.net(NetOp::Close { conn, how: Closing::Abort });
                    return self.lose_assist(index, format!("what answers is no assist port: {error}"), now);
                }
            }
        }
    }

    pub(super) fn assist_index(&self, conn: ConnId) -> Option<usize> {
        self.assists.iter().position(|lane| match lane.state {
            Assist::Dialling { conn: ours, .. } | Assist::Open { conn: ours, .. } => ours == conn,
            Assist::Waiting { .. } => false,
        })
    }

    pub(super) fn lose_assist(&mut self, index: usize, why: String, now: Instant) {
        let pause = self.pause(self.assists[index].failures);
        let lane = &mut self.assists[index];
        let worked = lane.failures == 0 && matches!(lane.state, Assist::Open { answer_by: None, .. });
        lane.trouble = Some(why);
        lane.failures = lane.failures.saturating_add(1);
        lane.state = Assist::Waiting { until: now + pause };
        if worked {
            self.watch_assists(now);
        }
    }

    pub(super) fn close_assists_for(&mut self, now: Instant, pause: Duration) {
        for lane in &mut self.assists {
            match lane.state {
                Assist::Dialling { conn, .. } | Assist::Open { conn, .. } => {
                    // RST, not FIN: a TIME-WAIT would hold the 4-tuple that the next assist connection needs.
                    self.outputs.push_back(Output::Net(NetOp::Close { conn, how: Closing::Abort }));
                }
                Assist::Waiting { .. } => {}
            }
            lane.state = Assist::Waiting { until: now + pause };
        }
    }

    pub(super) fn close_assists(&mut self) {
        self.watch = Watch::Quiet;
        for lane in std::mem::take(&mut self.assists) {
            if let Assist::Dialling { conn, .. } | Assist::Open { conn, .. } = lane.state {
                self.net(NetOp::Close { conn, how: Closing::Abort });
            }
        }
    }
}
