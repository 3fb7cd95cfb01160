//! The client's half of the rendezvous: logs in, shows the hole port to the daemon, hears of peers.
//!
//! It decides when to connect, speak, and try again; it refuses to know what is done with an introduction.
//!
//! # Life cycle
//!
//! ```text
//!            start                     both connections open at once
//!  Idle ───────────▶ main:   Dialling ─▶ LoggingIn ─▶ LoggedIn ──(lost)──▶ Waiting ─▶ Dialling …
//!                    assist: Dialling ─▶ Open ────────────────────(lost)──▶ Waiting ─▶ Dialling …
//! ```
//!
//! The main connection comes from any port; the assist connections come from the hole port, one for each address
//! family of the daemon, so that the daemon learns the mapping of that port. Both are opened at the same moment and
//! tied together by a [`PunchToken`] of the client's choice, which saves the round trip that a token of the daemon's
//! choice would cost. A caster asks for the viewer with its first assist message (`ReqConnClient`), so an
//! introduction needs one round trip from there.
//!
//! Beside them, and delaying nothing, samples show the daemon how the NAT works.
//!
//! Every new login has a new token. Lost connections come back after a jittered, growing pause.

mod assist;
mod codes;
mod contract;
mod ground;
mod sampler;

pub use codes::WRONG_PROOFS;
pub use contract::{Asked, Config, Event, NoCode, Output, Server};

use crate::app::{Closing, ConnId, ConnIds, Input, NetError, NetOp, soonest};
use crate::endpoint::Endpoint;
use crate::id::{ClientId, PunchToken, SessionId};
use crate::wire::frame::{MAX_FRAME, Reader};
use crate::wire::message::{
    FromAssist, FromMain, Observation, Peer, Refusal, Role, SeenBy, ToAssist, ToMain,
};
use crate::wire::{self, WireError};
use assist::Watch;
use codes::Codes;
use sampler::{Sampler, Sighting};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// The first pause before connecting again, doubled each time up to [`RETRY_MAX`], with a jitter of a half, so that
/// a restarted daemon is not met by everybody at once.
pub const RETRY_MIN: Duration = Duration::from_millis(500);
/// The longest pause. A million clients coming back in a minute are what one daemon can log in.
pub const RETRY_MAX: Duration = Duration::from_secs(60);
/// How long a connect and a login may take. A path on which three SYNs are lost has its chance.
const LOGIN_TIME: Duration = Duration::from_secs(10);
/// The pause before a request that the daemon refused for its number is sent again: it admits one in 3.3 s.
const ASK_AGAIN: Duration = Duration::from_secs(4);
/// Logins in a row that broken links may cause are so far apart.
const RENEW_EVERY: Duration = Duration::from_secs(5);
/// Heartbeats until `Welcome` says otherwise; below the 30 s after which home routers forget.
const HEARTBEAT: Duration = Duration::from_secs(25);
/// How long [`Agent::check_alive`] waits for an answer: a round trip and a retransmission on any path that carries a
/// picture.
const ALIVE_TIME: Duration = Duration::from_secs(2);
/// The longest that a daemon can make this side wait before it punches.
const START_IN_MAX: Duration = Duration::from_millis(500);
/// How many sessions are remembered, to tell an amendment from an introduction. The daemon has at most 16 casters in
/// a rendezvous.
const MAX_SESSIONS: usize = 32;

/// How long the daemon may take for its first answer at the assist port, beside two round trips: that answer is the mapping,
/// without which nobody is introduced. One loss is repeated within it.
const ANSWER_TIME: Duration = Duration::from_secs(2);

const NOTHING_ANSWERED: &str = "nothing answered";

enum Main {
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
struct Beat {
    every: Duration,
    next: Instant,
    /// Whether the last one was answered.
    answered: bool,
}

enum Assist {
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

struct AssistLane {
    to: SocketAddr,
    from: SocketAddr,
    state: Assist,
    failures: u32,
    /// Why it failed last, in words.
    trouble: Option<String>,
}

/// The client's half of the rendezvous.
pub struct Agent {
    config: Config,
    conns: ConnIds,
    rng: fastrand::Rng,
    token: PunchToken,
    local: Vec<Endpoint>,
    /// What routers forward to the hole port; told with each login.
    mapped: Vec<Endpoint>,
    server: usize,
    main: Main,
    failures: u32,
    /// When a request that was refused for its number is sent again.
    ask_again_at: Option<Instant>,
    renewed_at: Option<Instant>,
    assists: Vec<AssistLane>,
    watch: Watch,
    /// A viewer's short code, once there is a ticket to offer.
    codes: Option<Codes>,
    sampler: Sampler,
    sampled_at: Option<Instant>,
    observed: Vec<Observation>,
    /// The shortest time that a connect to the daemon took since the last login began.
    rtt: Option<Duration>,
    sessions: VecDeque<SessionId>,
    outputs: VecDeque<Output>,
}

impl Agent {
    /// An idle agent.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let mut rng = fastrand::Rng::with_seed(config.seed);
        Self {
            conns: ConnIds::new(config.room),
            token: PunchToken(rng.u128(..).to_be_bytes()),
            rng,
            config,
            local: Vec::new(),
            mapped: Vec::new(),
            server: 0,
            main: Main::Idle,
            failures: 0,
            ask_again_at: None,
            renewed_at: None,
            assists: Vec::new(),
            watch: Watch::Quiet,
            codes: None,
            sampler: Sampler::default(),
            sampled_at: None,
            observed: Vec::new(),
            rtt: None,
            sessions: VecDeque::new(),
            outputs: VecDeque::new(),
        }
    }

    /// Connects. `holes` are the bound addresses of the hole port, one a family; `local` our own addresses with that
    /// port, told to the daemon.
    pub fn start(&mut self, now: Instant, holes: &[SocketAddr], local: Vec<Endpoint>) {
        self.local = local;
        for &from in holes {
            let of_family = |server: &&Server| server.assist.is_ipv4() == from.is_ipv4();
            if let Some(server) = self.config.servers.iter().find(of_family) {
                let state = Assist::Waiting { until: now };
                self.assists.push(AssistLane { to: server.assist, from, state, failures: 0, trouble: None });
            }
        }
        self.dial_main(now);
        for index in 0..self.assists.len() {
            self.dial_assist(index, now);
        }
        self.sample(now);
    }

    /// Tells the daemon which endpoints routers forward to the hole port, all of them, and again with each login.
    pub fn set_mapped(&mut self, mapped: Vec<Endpoint>) {
        if self.mapped == mapped {
            return;
        }
        self.mapped = mapped;
        if let Main::LoggingIn { conn, .. } | Main::LoggedIn { conn, .. } = self.main {
            self.tell_mapped(conn);
        }
    }

    fn tell_mapped(&mut self, conn: ConnId) {
        let message = ToMain::Mapped { endpoints: self.mapped.clone() };
        self.net(NetOp::Send { conn, bytes: wire::encode(&message) });
    }

    /// Looks whether the daemon can still be reached, because something else was lost: a heartbeat at once, and a new
    /// connection if it is not answered within two seconds. One that waits for its next try comes sooner.
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

    /// Leaves the daemon for good.
    pub fn stop(&mut self) {
        if let Main::LoggedIn { conn, .. } = &self.main {
            let conn = *conn;
            self.net(NetOp::Send { conn, bytes: wire::encode(&ToMain::Logout) });
            self.net(NetOp::Close { conn, how: Closing::Flush });
        } else {
            self.close_main();
        }
        self.main = Main::Done;
        self.close_assists();
        self.stop_sampling();
    }

    /// Whether the login stands.
    #[must_use]
    pub const fn is_logged_in(&self) -> bool {
        matches!(self.main, Main::LoggedIn { .. })
    }

    /// Where a relay may be asked for and with which token: for [`Relay::open`](super::relay::Relay::open). `None`
    /// unless the login stands at a daemon that relays.
    #[must_use]
    pub fn relay_offer(&self) -> Option<(SocketAddr, PunchToken)> {
        match self.main {
            Main::LoggedIn { relay: true, .. } => {
                self.config.servers.get(self.server).map(|server| (server.main, self.token))
            }
            Main::LoggedIn { .. }
            | Main::Idle
            | Main::Waiting { .. }
            | Main::Dialling { .. }
            | Main::LoggingIn { .. }
            | Main::Done => None,
        }
    }

    /// Takes an input of the agent's room.
    pub fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        match input {
            Input::Connected { conn, local, .. } => self.connected(conn, local, now),
            Input::ConnectFailed { conn, error } => self.ended(conn, Some(error), now),
            Input::Closed { conn, error } => self.ended(conn, error, now),
            Input::Received { conn, bytes } => self.received(conn, bytes, now),
            // A daemon that does not read our replies is not heard for more requests, and is soon taken for silent:
            // so what waits for it is bounded by what comes in one go.
            Input::Backlogged { conn } if self.is_main(conn) => self.net(NetOp::Read { conn, on: false }),
            Input::Drained { conn } if self.is_main(conn) => self.net(NetOp::Read { conn, on: true }),
            Input::Listening { .. }
            | Input::ListenFailed { .. }
            | Input::Accepted { .. }
            | Input::Backlogged { .. }
            | Input::Drained { .. }
            | Input::Interrupted => {}
        }
    }

    /// Takes the passing of time.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.ask_again_at.is_some_and(|at| at <= now) {
            self.ask_again_at = None;
            self.request_again();
        }
        if self.codes.as_ref().and_then(Codes::ask_at).is_some_and(|at| at <= now) {
            self.ask_for_number(now);
        }
        let mut again = false;
        match &mut self.main {
            Main::Waiting { until } if *until <= now => {
                self.dial_main(now);
                again = true;
            }
            Main::Dialling { deadline, .. } | Main::LoggingIn { deadline, .. } if *deadline <= now => {
                self.lose_main(NOTHING_ANSWERED, now);
            }
            Main::LoggedIn { conn, beat, .. } if beat.next <= now => {
                if beat.answered {
                    beat.answered = false;
                    beat.next = now + beat.every;
                    let conn = *conn;
                    let nonce = self.rng.u64(..);
                    self.net(NetOp::Send { conn, bytes: wire::encode(&ToMain::Heartbeat { nonce }) });
                } else {
                    self.lose_main("the daemon went silent", now);
                }
            }
            Main::Idle
            | Main::Waiting { .. }
            | Main::Dialling { .. }
            | Main::LoggingIn { .. }
            | Main::LoggedIn { .. }
            | Main::Done => {}
        }
        for index in 0..self.assists.len() {
            self.assist_timeout(index, now);
        }
        self.watch_timeout(now);
        self.sampler.handle_timeout(now);
        if again {
            self.sample(now);
        }
        self.drain_sampler();
    }

    fn assist_timeout(&mut self, index: usize, now: Instant) {
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

    /// The next output, until `None`.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When the agent wants `handle_timeout`, and why.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let ask_again = self.ask_again_at.map(|at| (at, "ask for an introduction again"));
        let main = match &self.main {
            Main::Idle | Main::Done => None,
            Main::Waiting { until } => Some((*until, "connect to the daemon again")),
            Main::Dialling { deadline, .. } => Some((*deadline, "connect to the daemon")),
            Main::LoggingIn { deadline, .. } => Some((*deadline, "log in")),
            Main::LoggedIn { beat, .. } => Some((beat.next, "heartbeat of the main connection")),
        };
        let samples = self.sampler.poll_timeout().map(|at| (at, "sample"));
        // Without a login it is asked with the next.
        let number = self.codes.as_ref().filter(|_| self.is_logged_in()).and_then(Codes::ask_at);
        let number = number.map(|at| (at, "ask for the number of a code"));
        let watch = self.watch.due().map(|at| (at, "tell of the assist port"));
        let own = [ask_again, main, samples, number, watch].into_iter().fold(None, soonest);
        self.assists.iter().fold(own, |earliest, lane| {
            soonest(
                earliest,
                Some(match lane.state {
                    Assist::Waiting { until } => (until, "connect to the assist port again"),
                    Assist::Dialling { deadline, .. } => (deadline, "connect to the assist port"),
                    Assist::Open { answer_by: Some(at), .. } => (at, "an answer at the assist port"),
                    Assist::Open { beat_at, .. } => (beat_at, "heartbeat of the assist connection"),
                }),
            )
        })
    }

    fn dial_main(&mut self, now: Instant) {
        let Some(server) = self.config.servers.get(self.server) else { return };
        let conn = self.conns.allocate();
        let to = server.main;
        self.net(NetOp::Connect { conn, from: None, to });
        self.main = Main::Dialling { conn, since: now, deadline: now + LOGIN_TIME };
    }

    fn dial_assist(&mut self, index: usize, now: Instant) {
        let conn = self.conns.allocate();
        let lane = &mut self.assists[index];
        lane.state = Assist::Dialling { conn, since: now, deadline: now + LOGIN_TIME };
        let op = NetOp::Connect { conn, from: Some(lane.from), to: lane.to };
        self.net(op);
    }

    fn connected(&mut self, conn: ConnId, local: SocketAddr, now: Instant) {
        if let Main::Dialling { conn: ours, since, deadline } = self.main
            && ours == conn
        {
            self.measured(now.saturating_duration_since(since));
            let login = ToMain::Login {
                rendezvous: self.config.rendezvous,
                role: self.config.role,
                token: self.token,
                owner: self.config.owner,
                local: self.local.clone(),
                rtt_us: self.rtt.map_or(0, micros),
                local_port: local.port(),
            };
            self.net(NetOp::Send { conn, bytes: wire::encode(&login) });
            if !self.mapped.is_empty() {
                // The daemon reads it after the login; waiting for its answer would cost a round trip.
                self.tell_mapped(conn);
            }
            let reader = Reader::new(MAX_FRAME);
            self.main = Main::LoggingIn { conn, local_port: local.port(), deadline, reader };
            return;
        }
        let dialling = self.assists.iter().enumerate().find_map(|(index, lane)| match lane.state {
            Assist::Dialling { conn: ours, since, .. } if ours == conn => Some((index, since)),
            Assist::Dialling { .. } | Assist::Waiting { .. } | Assist::Open { .. } => None,
        });
        if let Some((index, since)) = dialling {
            let rtt = now.saturating_duration_since(since);
            self.measured(rtt);
            let lane = &mut self.assists[index];
            let reader = Reader::new(MAX_FRAME);
            let answer_by = Some(now + ANSWER_TIME + 2 * rtt);
            lane.state = Assist::Open { conn, reader, beat_at: now + HEARTBEAT, answer_by };
            let request = self.assist_request(self.assists[index].from.port());
            self.net(NetOp::Send { conn, bytes: wire::encode(&request) });
            return;
        }
        self.sampler.connected(now, conn, local, &mut self.conns);
        self.drain_sampler();
    }

    /// Whether it is the main connection, and open.
    fn is_main(&self, conn: ConnId) -> bool {
        match self.main {
            Main::LoggingIn { conn: ours, .. } | Main::LoggedIn { conn: ours, .. } => ours == conn,
            Main::Idle | Main::Waiting { .. } | Main::Dialling { .. } | Main::Done => false,
        }
    }

    const fn assist_request(&self, local_port: u16) -> ToAssist {
        let token = self.token;
        match self.config.role {
            Role::Caster => ToAssist::ReqConnClient { token, rendezvous: self.config.rendezvous, local_port },
            Role::Viewer => ToAssist::ReqSrvDisconnect { token, local_port },
        }
    }

    fn received(&mut self, conn: ConnId, bytes: &[u8], now: Instant) {
        match &mut self.main {
            Main::LoggingIn { conn: ours, reader, .. } | Main::LoggedIn { conn: ours, reader, .. }
                if *ours == conn =>
            {
                reader.push(bytes);
                return self.read_main(now);
            }
            Main::Idle
            | Main::Waiting { .. }
            | Main::Dialling { .. }
            | Main::LoggingIn { .. }
            | Main::LoggedIn { .. }
            | Main::Done => {}
        }
        let Some(index) = self.assist_index(conn) else {
            let sighting = self.sampler.received(now, conn, bytes, &mut self.conns);
            self.drain_sampler();
            if let Some(seen) = sighting {
                self.observe(seen, false);
            }
            return;
        };
        if let Assist::Open { reader, .. } = &mut self.assists[index].state {
            reader.push(bytes);
            self.read_assist(index, now);
        }
    }

    fn read_main(&mut self, now: Instant) {
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
            FromMain::Shutdown => self.lose_main("the daemon ends", now),
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
                self.event(Event::LoggedIn { client });
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

    fn read_assist(&mut self, index: usize, now: Instant) {
        loop {
            let Some(lane) = self.assists.get_mut(index) else { return };
            let local_port = lane.from.port();
            let Assist::Open { conn, reader, answer_by, .. } = &mut lane.state else { return };
            let conn = *conn;
            match reader.next::<FromAssist>() {
                Ok(Some(FromAssist::Observed { endpoint })) => {
                    *answer_by = None;
                    // Turned away at the door, a connection has not succeeded; answered, it has.
                    lane.failures = 0;
                    self.watch = Watch::Quiet;
                    self.observe(Sighting { seen_by: SeenBy::Assist, local_port, endpoint }, true);
                }
                Ok(Some(FromAssist::Refused { reason })) => {
                    let role = self.config.role;
                    let asked = match (answer_by.take(), role) {
                        (Some(_), _) => Asked::Entry(role),
                        (None, Role::Caster) => Asked::Introduction,
                        (None, Role::Viewer) => Asked::Message,
                    };
                    self.watch = Watch::Quiet;
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

    fn ended(&mut self, conn: ConnId, error: Option<NetError>, now: Instant) {
        let why = error.map_or_else(|| "the daemon closed the connection".into(), |error| error.to_string());
        match &self.main {
            Main::Dialling { conn: ours, .. }
            | Main::LoggingIn { conn: ours, .. }
            | Main::LoggedIn { conn: ours, .. }
                if *ours == conn =>
            {
                self.main_gone(why, now);
                return;
            }
            Main::Idle
            | Main::Waiting { .. }
            | Main::Dialling { .. }
            | Main::LoggingIn { .. }
            | Main::LoggedIn { .. }
            | Main::Done => {}
        }
        if let Some(index) = self.assist_index(conn) {
            self.lose_assist(index, why, now);
        }
        self.sampler.ended(conn);
    }

    fn assist_index(&self, conn: ConnId) -> Option<usize> {
        self.assists.iter().position(|lane| match lane.state {
            Assist::Dialling { conn: ours, .. } | Assist::Open { conn: ours, .. } => ours == conn,
            Assist::Waiting { .. } => false,
        })
    }

    /// Gives up the main connection, which still exists.
    fn lose_main(&mut self, why: &str, now: Instant) {
        self.close_main();
        self.main_gone(why.to_owned(), now);
    }

    /// Plans the next try; the token is spent, so the assist connections start anew with the main one.
    fn main_gone(&mut self, why: String, now: Instant) {
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
        self.watch.login_lost();
        if let Some(codes) = &mut self.codes {
            codes.login_lost();
        }
    }

    fn lose_assist(&mut self, index: usize, why: String, now: Instant) {
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

    fn pause(&mut self, failures: u32) -> Duration {
        let full = RETRY_MIN.saturating_mul(1 << failures.min(10)).min(RETRY_MAX);
        full.mul_f64(0.5 + 0.5 * self.rng.f64())
    }

    fn close_main(&mut self) {
        if let Main::Dialling { conn, .. } | Main::LoggingIn { conn, .. } | Main::LoggedIn { conn, .. } =
            self.main
        {
            self.net(NetOp::Close { conn, how: Closing::Abort });
        }
    }

    fn close_assists_for(&mut self, now: Instant, pause: Duration) {
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

    fn close_assists(&mut self) {
        self.watch.login_lost();
        for lane in std::mem::take(&mut self.assists) {
            if let Assist::Dialling { conn, .. } | Assist::Open { conn, .. } = lane.state {
                self.net(NetOp::Close { conn, how: Closing::Abort });
            }
        }
    }

    fn net(&mut self, op: NetOp) {
        self.outputs.push_back(Output::Net(op));
    }

    fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }
}

/// In microseconds, and not zero, which stands for unknown.
fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX).max(1)
}

fn wire_trouble(error: &WireError) -> String {
    match error {
        WireError::Version { theirs } => {
            format!("the daemon speaks version {theirs} of the protocol; update the older of the two")
        }
        WireError::TooLong { .. } | WireError::Empty | WireError::Malformed(_) => {
            format!("that is no punchcastd: {error}")
        }
    }
}

#[cfg(test)]
mod tests;
