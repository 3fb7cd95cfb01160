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
//! Every new login has a new token. Lost connections come back after a jittered, growing pause.

use crate::app::{Closing, ConnId, ConnIds, Input, NetError, NetOp, Room, soonest};
use crate::endpoint::Endpoint;
use crate::id::{ClientId, OwnerToken, PunchToken, RendezvousId, SessionId};
use crate::wire::frame::{MAX_FRAME, Reader};
use crate::wire::message::{FromAssist, FromMain, Peer, Refusal, Role, ToAssist, ToMain};
use crate::wire::{self, WireError};
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
/// Heartbeats until `Welcome` says otherwise; below the 30 s after which home routers forget.
const HEARTBEAT: Duration = Duration::from_secs(25);

/// What an agent is made with.
#[derive(Clone, Debug)]
pub struct Config {
    /// The room that owns its connections.
    pub room: Room,
    /// The daemon's main and assist addresses, in the order of preference.
    pub servers: Vec<Server>,
    /// Viewer or caster.
    pub role: Role,
    /// The meeting place.
    pub rendezvous: RendezvousId,
    /// A viewer's proof of having made it.
    pub owner: Option<OwnerToken>,
    /// Feeds jitter and tokens. Tokens only tie two connections of one client together at the daemon; still they
    /// must not be guessed, so the seed comes from the system's randomness.
    pub seed: u64,
}

/// One address of the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Server {
    /// Where the main connections go, port 4000 by default.
    pub main: SocketAddr,
    /// Where the assist connections go, port 8000 by default.
    pub assist: SocketAddr,
}

/// What the agent asks for and tells.
#[derive(Debug)]
pub enum Output {
    /// For the network.
    Net(NetOp),
    /// For the application.
    Event(Event),
}

/// What the agent tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The daemon took the login.
    LoggedIn {
        /// Our name there.
        client: ClientId,
    },
    /// The daemon's view of the hole port.
    Observed {
        /// What the NAT made of it.
        endpoint: Endpoint,
    },
    /// Somebody with the same ticket is there.
    PeerJoined {
        /// Who.
        client: ClientId,
        /// As what.
        role: Role,
    },
    /// Somebody with the same ticket left.
    PeerLeft {
        /// Who.
        client: ClientId,
    },
    /// Punch towards `peer`.
    Introduced {
        /// Which introduction; the same on both sides.
        session: SessionId,
        /// Whom to punch towards.
        peer: Peer,
    },
    /// The daemon refuses something. The agent stays away for good after [`Refusal::Replaced`],
    /// [`Refusal::NotOwner`] and [`Refusal::Version`].
    Refused {
        /// Why.
        reason: Refusal,
    },
    /// The main connection could not be made, or broke.
    Unreachable {
        /// Whom we tried.
        server: SocketAddr,
        /// What went wrong, in words.
        why: String,
        /// When the agent tries again.
        retry_in: Duration,
    },
}

enum Main {
    Idle,
    Waiting {
        until: Instant,
    },
    Dialling {
        conn: ConnId,
        deadline: Instant,
    },
    LoggingIn {
        conn: ConnId,
        deadline: Instant,
        reader: Reader,
    },
    LoggedIn {
        conn: ConnId,
        reader: Reader,
        beat: Beat,
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
    Waiting { until: Instant },
    Dialling { conn: ConnId, deadline: Instant },
    Open { conn: ConnId, reader: Reader, beat_at: Instant },
}

struct AssistLane {
    to: SocketAddr,
    from: SocketAddr,
    state: Assist,
    failures: u32,
}

/// The client's half of the rendezvous.
pub struct Agent {
    config: Config,
    conns: ConnIds,
    rng: fastrand::Rng,
    token: PunchToken,
    local: Vec<Endpoint>,
    server: usize,
    main: Main,
    failures: u32,
    assists: Vec<AssistLane>,
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
            server: 0,
            main: Main::Idle,
            failures: 0,
            assists: Vec::new(),
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
                self.assists.push(AssistLane { to: server.assist, from, state, failures: 0 });
            }
        }
        self.dial_main(now);
        for index in 0..self.assists.len() {
            self.dial_assist(index, now);
        }
    }

    /// Asks the daemon for another introduction (a caster only).
    pub fn request_again(&mut self) {
        let request = self.assist_request();
        for lane in &self.assists {
            if let Assist::Open { conn, .. } = lane.state {
                self.outputs.push_back(Output::Net(NetOp::Send { conn, bytes: wire::encode(&request) }));
            }
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
    }

    /// Whether the login stands.
    #[must_use]
    pub const fn is_logged_in(&self) -> bool {
        matches!(self.main, Main::LoggedIn { .. })
    }

    /// Takes an input of the agent's room.
    pub fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        match input {
            Input::Connected { conn, .. } => self.connected(conn, now),
            Input::ConnectFailed { conn, error } => self.ended(conn, Some(error), now),
            Input::Closed { conn, error } => self.ended(conn, error, now),
            Input::Received { conn, bytes } => self.received(conn, bytes, now),
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
        match &mut self.main {
            Main::Waiting { until } if *until <= now => self.dial_main(now),
            Main::Dialling { deadline, .. } | Main::LoggingIn { deadline, .. } if *deadline <= now => {
                self.lose_main("nothing answered", now);
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
    }

    fn assist_timeout(&mut self, index: usize, now: Instant) {
        match &mut self.assists[index].state {
            Assist::Waiting { until } if *until <= now => self.dial_assist(index, now),
            Assist::Dialling { conn, deadline } if *deadline <= now => {
                let conn = *conn;
                self.net(NetOp::Close { conn, how: Closing::Abort });
                self.lose_assist(index, now);
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
        let main = match &self.main {
            Main::Idle | Main::Done => None,
            Main::Waiting { until } => Some((*until, "connect to the daemon again")),
            Main::Dialling { deadline, .. } => Some((*deadline, "connect to the daemon")),
            Main::LoggingIn { deadline, .. } => Some((*deadline, "log in")),
            Main::LoggedIn { beat, .. } => Some((beat.next, "heartbeat of the main connection")),
        };
        self.assists.iter().fold(main, |earliest, lane| {
            soonest(
                earliest,
                Some(match lane.state {
                    Assist::Waiting { until } => (until, "connect to the assist port again"),
                    Assist::Dialling { deadline, .. } => (deadline, "connect to the assist port"),
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
        self.main = Main::Dialling { conn, deadline: now + LOGIN_TIME };
    }

    fn dial_assist(&mut self, index: usize, now: Instant) {
        let conn = self.conns.allocate();
        let lane = &mut self.assists[index];
        lane.state = Assist::Dialling { conn, deadline: now + LOGIN_TIME };
        let op = NetOp::Connect { conn, from: Some(lane.from), to: lane.to };
        self.net(op);
    }

    fn connected(&mut self, conn: ConnId, now: Instant) {
        if let Main::Dialling { conn: ours, deadline } = self.main
            && ours == conn
        {
            let login = ToMain::Login {
                rendezvous: self.config.rendezvous,
                role: self.config.role,
                token: self.token,
                owner: self.config.owner,
                local: self.local.clone(),
            };
            self.net(NetOp::Send { conn, bytes: wire::encode(&login) });
            self.main = Main::LoggingIn { conn, deadline, reader: Reader::new(MAX_FRAME) };
            return;
        }
        let request = self.assist_request();
        let dialling = |lane: &&mut AssistLane| matches!(lane.state, Assist::Dialling { conn: ours, .. } if ours == conn);
        if let Some(lane) = self.assists.iter_mut().find(dialling) {
            lane.failures = 0;
            lane.state = Assist::Open { conn, reader: Reader::new(MAX_FRAME), beat_at: now + HEARTBEAT };
            self.net(NetOp::Send { conn, bytes: wire::encode(&request) });
        }
    }

    const fn assist_request(&self) -> ToAssist {
        match self.config.role {
            Role::Caster => ToAssist::ReqConnClient { token: self.token, rendezvous: self.config.rendezvous },
            Role::Viewer => ToAssist::ReqSrvDisconnect { token: self.token },
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
        let Some(index) = self.assist_index(conn) else { return };
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
            FromMain::Welcome { client, heartbeat_secs, .. } => {
                let every = Duration::from_secs(u64::from(heartbeat_secs.clamp(5, 60)));
                self.main = match std::mem::replace(&mut self.main, Main::Done) {
                    Main::LoggingIn { conn, reader, .. } => {
                        self.failures = 0;
                        self.event(Event::LoggedIn { client });
                        let beat = Beat { every, next: now + every, answered: true };
                        Main::LoggedIn { conn, reader, beat }
                    }
                    other @ (Main::Idle
                    | Main::Waiting { .. }
                    | Main::Dialling { .. }
                    | Main::LoggedIn { .. }
                    | Main::Done) => other,
                };
            }
            FromMain::NewUserLogin { client, role } => self.event(Event::PeerJoined { client, role }),
            FromMain::UserLogout { client } => self.event(Event::PeerLeft { client }),
            FromMain::SrvReqMakeHole { session, peer } => {
                // Assist connections that were lost come back at once: the daemon waits for the mapping.
                for index in 0..self.assists.len() {
                    if matches!(self.assists[index].state, Assist::Waiting { .. }) {
                        self.dial_assist(index, now);
                    }
                }
                self.event(Event::Introduced { session, peer });
                if let Main::LoggedIn { conn, .. } = self.main {
                    let ready = ToMain::HoleListenReady { session };
                    self.net(NetOp::Send { conn, bytes: wire::encode(&ready) });
                }
            }
            FromMain::SrvReqDirectConnect { session, peer } => {
                self.event(Event::Introduced { session, peer });
            }
            FromMain::Heartbeat { .. } => {
                if let Main::LoggedIn { beat, .. } = &mut self.main {
                    beat.answered = true;
                }
            }
            FromMain::Refused { reason } => self.refused(reason),
            FromMain::Shutdown => self.lose_main("the daemon ends", now),
        }
    }

    fn refused(&mut self, reason: Refusal) {
        self.event(Event::Refused { reason });
        match reason {
            Refusal::Replaced | Refusal::NotOwner | Refusal::Version => {
                self.close_main();
                self.main = Main::Done;
                self.close_assists();
            }
            // The daemon closes where it has to; losing the connection starts the next try.
            Refusal::BadRequest | Refusal::TooMany | Refusal::Full => {}
        }
    }

    fn read_assist(&mut self, index: usize, now: Instant) {
        loop {
            let Some(Assist::Open { conn, reader, .. }) =
                self.assists.get_mut(index).map(|lane| &mut lane.state)
            else {
                return;
            };
            let conn = *conn;
            match reader.next::<FromAssist>() {
                Ok(Some(FromAssist::Observed { endpoint })) => self.event(Event::Observed { endpoint }),
                Ok(Some(FromAssist::Refused { reason })) => self.event(Event::Refused { reason }),
                Ok(None) => return,
                Err(error) => {
                    log::debug!("conn={conn} assist: {error}");
                    self.net(NetOp::Close { conn, how: Closing::Abort });
                    return self.lose_assist(index, now);
                }
            }
        }
    }

    fn ended(&mut self, conn: ConnId, error: Option<NetError>, now: Instant) {
        match &self.main {
            Main::Dialling { conn: ours, .. }
            | Main::LoggingIn { conn: ours, .. }
            | Main::LoggedIn { conn: ours, .. }
                if *ours == conn =>
            {
                let why = error
                    .map_or_else(|| "the daemon closed the connection".into(), |error| error.to_string());
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
            self.lose_assist(index, now);
        }
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
        self.token = PunchToken(self.rng.u128(..).to_be_bytes());
        self.close_assists_for(now, retry_in);
        self.main = Main::Waiting { until: now + retry_in };
        self.event(Event::Unreachable { server, why, retry_in });
    }

    fn lose_assist(&mut self, index: usize, now: Instant) {
        let pause = self.pause(self.assists[index].failures);
        let lane = &mut self.assists[index];
        lane.failures = lane.failures.saturating_add(1);
        lane.state = Assist::Waiting { until: now + pause };
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
