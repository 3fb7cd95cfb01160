//! The agent's main connection: logging in, what the daemon says there, and coming back when it is lost.

use super::assist::Assist;
use super::contract::{Asked, Event};
use super::sampler::Sighting;
use super::watch::Watch;
use super::{Agent, LOGIN_TIME};
use crate::app::{Closing, ConnId, NetOp};
use crate::endpoint::Endpoint;
use crate::id::{ClientId, PunchToken, SessionId};
use crate::ticket::MAIN_PORT;
use crate::wire::frame::Reader;
use crate::wire::message::{FromMain, Peer, Refusal, SeenBy, ToMain};
use crate::wire::{self, WireError};
use std::time::{Duration, Instant};

/// Logins in a row that broken links may cause are so far apart.
const RENEW_EVERY: Duration = Duration::from_secs(5);

/// How long [`Agent::check_alive`] waits for an answer: a round trip and a retransmission on any path that carries a
/// picture.
pub(super) const ALIVE_TIME: Duration = Duration::from_secs(2);

/// The longest that a daemon can make this side wait before it punches.
const START_IN_MAX: Duration = Duration::from_millis(500);

/// How many sessions are remembered, to tell an amendment from an introduction. The daemon has at most 16 casters in
/// a rendezvous.
const MAX_SESSIONS: usize = 32;

pub(super) enum Main {
    Idle,
    Waiting {
        until: Instant,
    },
    Dialling {
        conn: ConnId,
        since: Instant,
        deadline: Instant,
    },
    LoggingIn {
        conn: ConnId,
        local_port: u16,
        deadline: Instant,
        reader: Reader,
    },
    LoggedIn {
        conn: ConnId,
        reader: Reader,
        beat: Beat,
        /// Whether the daemon relays.
        relay: bool,
    },
    /// Refused for good, or left.
    Done,
}

/// Heartbeats of one connection.
pub(super) struct Beat {
    pub(super) every: Duration,
    pub(super) next: Instant,
    /// Whether the last one was answered.
    pub(super) answered: bool,
}

impl Agent {
    /// Looks whether the daemon can still be reached, because something else was lost, or it does not read: a heartbeat
    /// at once, and a new connection if it is not answered within two seconds. One that waits for its next try comes
    /// sooner.
    pub fn check_alive(&mut self, now: Instant) {
        let soon = now + self.pause(0);
        match &mut self.main {
            Main::LoggedIn { conn, beat, .. } if beat.answered => {
                beat.answered = false;
                beat.next = now + ALIVE_TIME;
                let conn = *conn;
                let nonce = self.rng.u64(..);
                self.net(NetOp::Send { conn, bytes: wire::encode(&ToMain::Heartbeat { nonce }) });
            }
            Main::LoggedIn { beat, .. } => beat.next = beat.next.min(now + ALIVE_TIME),
            Main::Waiting { until } => {
                *until = soon.min(*until);
                for lane in &mut self.assists {
                    if let Assist::Waiting { until } = &mut lane.state {
                        *until = soon.min(*until);
                    }
                }
            }
            Main::Idle | Main::Dialling { .. } | Main::LoggingIn { .. } | Main::Done => {}
        }
    }

    /// Connects and logs in anew at once: a link broke in a way that the connections to the daemon may not have survived
    /// either, and asking them would cost the time that a new login takes.
    pub fn renew(&mut self, now: Instant) {
        if matches!(self.main, Main::Idle | Main::Done) {
            return;
        }
        // A peer that breaks its links on purpose must not have us log in without end.
        if self.renewed_at.is_some_and(|at| now < at + RENEW_EVERY) {
            self.check_alive(now);
            return;
        }
        self.renewed_at = Some(now);
        // The assist connections first: the daemon closes them with the main one, and its FIN would meet the next connection
        // of the same 4-tuple, whose answer to it ends that one's session in a NAT.
        self.close_assists_for(now, Duration::ZERO);
        self.close_main();
        self.spend_login();
        self.dial_main(now);
        for index in 0..self.assists.len() {
            self.dial_assist(index, now);
        }
        self.sample(now);
    }

    /// Whether the login stands.
    #[must_use]
    pub const fn is_logged_in(&self) -> bool {
        matches!(self.main, Main::LoggedIn { .. })
    }

    /// Whether it is the main connection, and open.
    pub(super) fn is_main(&self, conn: ConnId) -> bool {
        match self.main {
            Main::LoggingIn { conn: ours, .. } | Main::LoggedIn { conn: ours, .. } => ours == conn,
            Main::Idle | Main::Waiting { .. } | Main::Dialling { .. } | Main::Done => false,
        }
    }

    pub(super) fn dial_main(&mut self, now: Instant) {
        let Some(server) = self.config.servers.get(self.server) else { return };
        let conn = self.conns.allocate();
        let to = server.main;
        self.net(NetOp::Connect { conn, from: None, to });
        self.main = Main::Dialling { conn, since: now, deadline: now + LOGIN_TIME };
    }

    pub(super) fn read_main(&mut self, now: Instant) {
        loop {
            let (Main::LoggingIn { reader, .. } | Main::LoggedIn { reader, .. }) = &mut self.main else {
                return;
            };
            match reader.next::<FromMain>() {
                Ok(Some(message)) => self.main_message(message, now),
                Ok(None) => return,
                Err(error) => return self.lose_main(&wire_trouble(&error), now),
            }
        }
    }

    fn main_message(&mut self, message: FromMain, now: Instant) {
        match message {
            FromMain::Welcome { client, observed, heartbeat_secs, alternate, relay } => {
                let alternate = alternate.map(Endpoint::addr);
                self.sampler.set_alternate(now, alternate, &self.config.servers, &mut self.conns);
                self.drain_sampler();
                let every = Duration::from_secs(u64::from(heartbeat_secs.clamp(5, 60)));
                let beat = Beat { every, next: now + every, answered: true };
                self.welcome(client, observed, beat, relay);
                self.watch_assists(now);
                self.ask_for_number(now);
            }
            FromMain::NewUserLogin { client, role } => self.event(Event::PeerJoined { client, role }),
            FromMain::UserLogout { client } => self.event(Event::PeerLeft { client }),
            FromMain::SrvReqMakeHole { session, peer, start_in_us, rtt_us } => {
                // Assist connections that were lost come back at once: the daemon waits for the mapping.
                for index in 0..self.assists.len() {
                    if matches!(self.assists[index].state, Assist::Waiting { .. }) {
                        self.dial_assist(index, now);
                    }
                }
                if self.introduced(session, peer, start_in_us, rtt_us)
                    && let Main::LoggedIn { conn, .. } = self.main
                {
                    let ready = ToMain::HoleListenReady { session };
                    self.net(NetOp::Send { conn, bytes: wire::encode(&ready) });
                    self.refresh_samples(now);
                }
            }
            FromMain::SrvReqDirectConnect { session, peer, start_in_us, rtt_us } => {
                if self.introduced(session, peer, start_in_us, rtt_us) {
                    self.refresh_samples(now);
                }
            }
            FromMain::Heartbeat { .. } => {
                if let Main::LoggedIn { beat, .. } = &mut self.main {
                    beat.answered = true;
                }
            }
            FromMain::Refused { reason } => self.refused(reason),
            FromMain::Shutdown => self.lose_main("it was shut down", now),
            // Comes on a connection of its own, never on the main connection.
            FromMain::Relaying { .. } => {}
            FromMain::FilterResult { from_other_port, from_other_address } => {
                self.event(Event::Filtering { from_other_port, from_other_address });
            }
            FromMain::Nameplate { number } => self.nameplate(now, number),
            FromMain::Called { call, element } => self.called(now, call, &element),
            FromMain::Confirmed { call, proof } => self.confirmed(now, call, &proof),
            // An answer to a sample, or to a call, which this connection is not.
            FromMain::Observed { .. } | FromMain::Answered { .. } | FromMain::Granted { .. } => {}
        }
    }

    fn welcome(&mut self, client: ClientId, observed: Endpoint, beat: Beat, relay: bool) {
        self.main = match std::mem::replace(&mut self.main, Main::Done) {
            Main::LoggingIn { conn, local_port, reader, .. } => {
                self.failures = 0;
                // The index is kept within the list.
                if let Some(server) = self.config.servers.get(self.server).map(|server| server.main) {
                    self.event(Event::LoggedIn { client, server });
                }
                self.observe(Sighting { seen_by: SeenBy::Main, local_port, endpoint: observed }, false);
                Main::LoggedIn { conn, reader, beat, relay }
            }
            other @ (Main::Idle
            | Main::Waiting { .. }
            | Main::Dialling { .. }
            | Main::LoggedIn { .. }
            | Main::Done) => other,
        };
    }

    /// Tells of an introduction, or of an amendment to one. Whether it is new.
    fn introduced(&mut self, session: SessionId, peer: Peer, start_in_us: u32, rtt_us: u32) -> bool {
        if self.sessions.contains(&session) {
            self.event(Event::Amended { session, peer });
            return false;
        }
        if self.sessions.len() >= MAX_SESSIONS {
            self.sessions.pop_front();
        }
        self.sessions.push_back(session);
        let start_in = Duration::from_micros(u64::from(start_in_us)).min(START_IN_MAX);
        let rtt = (rtt_us != 0).then(|| Duration::from_micros(u64::from(rtt_us)));
        self.event(Event::Introduced { session, peer, start_in, rtt });
        true
    }

    fn refused(&mut self, reason: Refusal) {
        let asked = if self.is_logged_in() { Asked::Message } else { Asked::Entry(self.config.role) };
        self.event(Event::Refused { reason, asked });
        match reason {
            Refusal::Replaced | Refusal::NotOwner | Refusal::Version => {
                self.close_main();
                self.main = Main::Done;
                self.close_assists();
                self.stop_sampling();
                self.end_code();
            }
            // The daemon closes where it has to; losing the connection starts the next try.
            Refusal::BadRequest
            | Refusal::TooMany
            | Refusal::Full
            | Refusal::NoRelay
            | Refusal::NoCode
            | Refusal::WrongCode => {}
        }
    }

    /// Gives up the main connection, which still exists.
    pub(super) fn lose_main(&mut self, why: &str, now: Instant) {
        self.close_main();
        self.main_gone(why.to_owned(), now);
    }

    /// Plans the next try; the token is spent, so the assist connections start anew with the main one.
    pub(super) fn main_gone(&mut self, why: String, now: Instant) {
        let Some(server) = self.config.servers.get(self.server) else { return };
        let server = server.main;
        let retry_in = self.pause(self.failures);
        self.failures = self.failures.saturating_add(1);
        self.server = (self.server + 1) % self.config.servers.len();
        self.spend_login();
        self.close_assists_for(now, retry_in);
        self.main = Main::Waiting { until: now + retry_in };
        self.event(Event::Unreachable { server, why, retry_in });
    }

    /// What belongs to one login alone.
    fn spend_login(&mut self) {
        self.token = PunchToken(self.rng.u128(..).to_be_bytes());
        self.stop_sampling();
        self.sampled_at = None;
        self.observed.clear();
        self.rtt = None;
        self.watch = Watch::Quiet;
        for lane in &mut self.assists {
            lane.trouble = None;
        }
        if let Some(codes) = &mut self.codes {
            codes.login_lost();
        }
    }

    pub(super) fn close_main(&mut self) {
        if let Main::Dialling { conn, .. } | Main::LoggingIn { conn, .. } | Main::LoggedIn { conn, .. } =
            self.main
        {
            self.net(NetOp::Close { conn, how: Closing::Abort });
        }
    }
}

fn wire_trouble(error: &WireError) -> String {
    match error {
        WireError::Version { theirs } => {
            format!("the daemon speaks version {theirs} of the protocol; update the older of the two")
        }
        WireError::TooLong { .. } | WireError::Empty | WireError::Malformed(_) => {
            format!(
                "what answers is no main port of a punchcastd ({error}), perhaps its assist port; the main port is \
                 {MAIN_PORT} by default"
            )
        }
    }
}
