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
mod login;
mod sampler;
mod watch;

pub use codes::WRONG_PROOFS;
pub use contract::{Asked, Config, Event, NoCode, Output, Server};

use crate::app::{Closing, ConnId, ConnIds, Input, NetError, NetOp, soonest};
use crate::endpoint::Endpoint;
use crate::id::{PunchToken, SessionId};
use crate::wire;
use crate::wire::frame::{MAX_FRAME, Reader};
use crate::wire::message::{Observation, ToMain};
use assist::{ANSWER_TIME, Assist, AssistLane};
use codes::Codes;
use login::Main;
use sampler::Sampler;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use watch::Watch;

/// The first pause before connecting again, doubled each time up to [`RETRY_MAX`], with a jitter of a half, so that
/// a restarted daemon is not met by everybody at once.
pub const RETRY_MIN: Duration = Duration::from_millis(500);
/// The longest pause. A million clients coming back in a minute are what one daemon can log in.
pub const RETRY_MAX: Duration = Duration::from_secs(60);
/// How long a connect and a login may take. A path on which three SYNs are lost has its chance.
const LOGIN_TIME: Duration = Duration::from_secs(10);
/// Heartbeats until `Welcome` says otherwise; below the 30 s after which home routers forget.
const HEARTBEAT: Duration = Duration::from_secs(25);

const NOTHING_ANSWERED: &str = "nothing answered";

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
            // A daemon that does not read our replies is not heard for more requests, and is taken for silent if it
            // does not read on at once: so what waits for it is bounded by what comes in one go.
            Input::Backlogged { conn } if self.is_main(conn) => {
                self.net(NetOp::Read { conn, on: false });
                self.check_alive(now);
            }
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

    fn pause(&mut self, failures: u32) -> Duration {
        let full = RETRY_MIN.saturating_mul(1 << failures.min(10)).min(RETRY_MAX);
        full.mul_f64(0.5 + 0.5 * self.rng.f64())
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

#[cfg(test)]
mod tests;
