//! The reverse way: the viewer dials a caster, or any RTMP server, and plays.
//!
//! A [`Dial`] decides when to dial, which address, and when what came of it is over. It refuses to know what the units
//! are for. What it plays is plain RTMP: whoever is on the path can read it and change it.
//!
//! ```text
//!  Resting ──due──▶ Connecting ──▶ Asking ──Playing──▶ Playing ──┐
//!     ▲                 │ refused, late │ refused, late   │ ended, cut, silent
//!     └──── a pause ────┴───────────────┴─────────────────┘
//! ```
//!
//! The pause doubles from one second to fifteen, and is short again once pictures have come.

use crate::unread::Unread;
use punchcast::app::{Closing, ConnId, ConnIds, Input, NetOp, Room, Space, soonest};
use punchcast::media::Unit;
use punchcast::rtmp::{self, ClientEvent, ClientSession, PingClock, PlayConfig, RtmpUrl};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How long a connect may take: the first SYN, and two that repeat it.
const CONNECT_TIME: Duration = Duration::from_secs(5);

/// How long a server may take from the connection to saying that it plays: seven round trips and a slow machine.
const ASK_TIME: Duration = Duration::from_secs(10);

/// How long a server that plays may say nothing. A live source sends many times a second, and one that shows a still
/// picture each second or two; a host that is gone says nothing for ever.
const SILENCE: Duration = Duration::from_secs(15);

/// The same before the first unit: who has nothing to show yet is worth a longer wait.
const FIRST_SILENCE: Duration = Duration::from_secs(60);

/// How often a server that plays is pinged. It shows that the server is there, and the round trip where it answers.
const PING_EVERY: Duration = Duration::from_secs(2);

/// The first pause before dialling again.
const MIN_PAUSE: Duration = Duration::from_secs(1);
/// The longest. A server that came back shows within a quarter of a minute, and one that is away is hardly bothered.
const MAX_PAUSE: Duration = Duration::from_secs(15);

/// What to dial.
#[derive(Clone, Debug)]
pub struct DialConfig {
    /// What to play, and from whom.
    pub url: RtmpUrl,
    /// The host's addresses with the port, tried in turn; at least one.
    pub addrs: Vec<SocketAddr>,
    /// Dial only where no other cast has come for this long; `None` dials at once, whatever else comes.
    pub after: Option<Duration>,
    /// Varies the handshake's filler, which need not be secret.
    pub seed: u64,
}

/// What a dial asks for and tells.
#[derive(Clone, Debug, PartialEq)]
pub enum DialOutput {
    /// For the network.
    Net(NetOp),
    /// Something happened.
    Event(DialEvent),
}

/// What a dial tells.
#[derive(Clone, Debug, PartialEq)]
pub enum DialEvent {
    /// An address is dialled.
    Trying(SocketAddr),
    /// It did not come to playing; it is dialled again after the pause.
    Failed {
        /// What was dialled.
        remote: SocketAddr,
        /// Why.
        why: String,
        /// When again.
        again_in: Duration,
    },
    /// The server plays: units follow.
    Playing {
        /// On which connection.
        conn: ConnId,
        /// Our address.
        local: SocketAddr,
        /// The server's.
        remote: SocketAddr,
    },
    /// A new measure of the round trip.
    Rtt(Duration),
    /// A unit of what is played.
    Media(Unit),
    /// What was played is over; the server is dialled again after a pause.
    Over {
        /// The server ended the stream in order.
        finished: bool,
        /// Why.
        why: String,
    },
}

/// See the [module](self).
#[derive(Debug)]
pub struct Dial {
    config: DialConfig,
    conns: ConnIds,
    state: State,
    /// Which address is next.
    turn: usize,
    pause: Duration,
    /// Other casts are on, and this one is for when there is none.
    held: bool,
    outputs: VecDeque<DialOutput>,
}

#[derive(Debug)]
enum State {
    Resting { until: Instant },
    Connecting { conn: ConnId, remote: SocketAddr, until: Instant },
    Open(Box<Line>),
}

/// A connection that stands.
#[derive(Debug)]
struct Line {
    conn: ConnId,
    local: SocketAddr,
    remote: SocketAddr,
    session: ClientSession,
    stage: Stage,
    pings: PingClock,
    unread: Unread,
    /// When it is given up unless something comes.
    until: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The server was asked to play.
    Asking,
    /// It plays, and has sent nothing yet.
    Waiting,
    /// Units come.
    Playing,
}

impl Dial {
    /// A dial whose connections belong to `room`.
    #[must_use]
    pub fn new(now: Instant, room: Room, config: DialConfig) -> Self {
        let until = now + config.after.unwrap_or_default();
        Self {
            config,
            conns: ConnIds::new(room),
            state: State::Resting { until },
            turn: 0,
            pause: MIN_PAUSE,
            held: false,
            outputs: VecDeque::new(),
        }
    }

    /// Another cast is on, or none any more: a dial that is for when there is none waits meanwhile. One that plays
    /// goes on.
    pub fn hold(&mut self, now: Instant, held: bool) {
        let Some(after) = self.config.after else { return };
        if self.held == held {
            return;
        }
        self.held = held;
        if held {
            self.give_up();
        } else if let State::Resting { until } = &mut self.state {
            *until = now + after;
        }
    }

    /// Whether the server plays.
    #[must_use]
    pub fn is_playing(&self) -> bool {
        matches!(&self.state, State::Open(line) if line.stage != Stage::Asking)
    }

    /// Ends what is played without a word; the server is dialled again after the pause.
    pub fn hang_up(&mut self, now: Instant) {
        self.rest(now, Closing::Abort);
    }

    /// Leaves for good: the server is told.
    pub fn leave(&mut self, now: Instant) {
        if let State::Open(line) = &mut self.state {
            line.session.finish();
            while let Some(output) = line.session.poll_output() {
                if let rtmp::Output::Transmit(bytes) = output {
                    self.outputs.push_back(DialOutput::Net(NetOp::Send { conn: line.conn, bytes }));
                }
            }
        }
        self.rest(now, Closing::Flush);
        self.held = true;
    }

    /// Takes an input of the dial's room.
    pub fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        match input {
            Input::Connected { conn, local, remote } => self.connected(now, conn, local, remote),
            Input::ConnectFailed { conn, error } => {
                if matches!(self.state, State::Connecting { conn: ours, .. } if ours == conn) {
                    self.failed(now, error.to_string(), None);
                }
            }
            Input::Received { conn, bytes } => self.received(now, conn, bytes),
            Input::Closed { conn, error } => {
                let why = error.map_or_else(|| "the server hung up".into(), |error| error.to_string());
                if self.line(conn).is_some() {
                    self.over(now, false, why, None);
                }
            }
            Input::Backlogged { conn } => {
                if let Some(line) = self.line(conn) {
                    line.unread.begin();
                }
            }
            Input::Drained { conn } => {
                if let Some(line) = self.line(conn) {
                    line.unread.end();
                }
            }
            Input::Listening { .. }
            | Input::ListenFailed { .. }
            | Input::Accepted { .. }
            | Input::Interrupted => {}
        }
    }

    /// Takes the passing of time.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let State::Open(line) = &mut self.state
            && line.stage != Stage::Asking
            && let Some(time) = line.pings.handle_timeout(now)
        {
            line.session.ping(time);
            self.settle(now);
        }
        if self.deadline().is_none_or(|(at, _)| now < at) {
            return;
        }
        match &self.state {
            State::Resting { .. } => self.dial(now),
            State::Connecting { .. } => self.failed(now, "nothing answers".into(), Some(Closing::Abort)),
            State::Open(line) if line.stage == Stage::Asking => {
                self.failed(now, "it does not answer as an RTMP server".into(), Some(Closing::Abort));
            }
            State::Open(_) => self.over(now, false, "the server went silent".into(), Some(Closing::Abort)),
        }
    }

    /// The next thing to carry out, until `None`.
    pub fn poll_output(&mut self) -> Option<DialOutput> {
        self.outputs.pop_front()
    }

    /// When it wants `handle_timeout`, and why.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let ping = match &self.state {
            State::Open(line) if line.stage != Stage::Asking => Some(line.pings.poll_timeout()),
            State::Open(_) | State::Resting { .. } | State::Connecting { .. } => None,
        };
        soonest(self.deadline(), ping)
    }

    /// When what is awaited has not come.
    fn deadline(&self) -> Option<(Instant, &'static str)> {
        match &self.state {
            State::Resting { .. } if self.held => None,
            State::Resting { until } => Some((*until, "dial")),
            State::Connecting { until, .. } => Some((*until, "the dialled server's answer")),
            State::Open(line) => Some((line.until, "a sign of life of the dialled server")),
        }
    }

    fn dial(&mut self, now: Instant) {
        let Some(&remote) = self.config.addrs.get(self.turn % self.config.addrs.len().max(1)) else {
            self.held = true;
            return;
        };
        self.turn = self.turn.wrapping_add(1);
        let conn = self.conns.allocate();
        self.state = State::Connecting { conn, remote, until: now + CONNECT_TIME };
        self.event(DialEvent::Trying(remote));
        self.net(NetOp::Connect { conn, from: None, to: remote });
    }

    fn connected(&mut self, now: Instant, conn: ConnId, local: SocketAddr, remote: SocketAddr) {
        if !matches!(self.state, State::Connecting { conn: ours, .. } if ours == conn) {
            return;
        }
        let url = &self.config.url;
        self.config.seed = self.config.seed.wrapping_add(1);
        let session = ClientSession::player(PlayConfig {
            app: url.app.clone(),
            tc_url: url.tc_url(),
            key: url.stream_name(),
            buffer: 0,
            seed: self.config.seed,
        });
        let unread = Unread::default();
        let (stage, until, pings) = (Stage::Asking, now + ASK_TIME, PingClock::new(now, PING_EVERY));
        self.state =
            State::Open(Box::new(Line { conn, local, remote, session, stage, pings, unread, until }));
        self.settle(now);
    }

    /// Where the server's next bytes are to be read to.
    pub fn space(&mut self, conn: ConnId) -> Option<Space<'_>> {
        self.line(conn)?.session.space()
    }

    /// Takes `count` bytes that were read to there.
    pub fn handle_placed(&mut self, now: Instant, conn: ConnId, count: usize) {
        let Some(line) = self.line(conn) else { return };
        let result = line.session.handle_placed(count);
        self.went_on(now, conn, result);
    }

    fn received(&mut self, now: Instant, conn: ConnId, bytes: &[u8]) {
        let Some(line) = self.line(conn) else { return };
        let result = line.session.handle_input(bytes);
        self.went_on(now, conn, result);
    }

    /// Carries out what came of the session's input.
    fn went_on(&mut self, now: Instant, conn: ConnId, result: Result<(), rtmp::Error>) {
        let Some(line) = self.line(conn) else { return };
        match line.stage {
            Stage::Asking => {}
            Stage::Waiting => line.until = now + FIRST_SILENCE,
            Stage::Playing => line.until = now + SILENCE,
        }
        if let Some(pong) = line.session.poll_pong()
            && let Some(rtt) = line.pings.handle(now, pong)
        {
            self.event(DialEvent::Rtt(rtt));
        }
        self.settle(now);
        let Some(line) = self.line(conn) else { return };
        let Err(error) = result else { return };
        if line.stage == Stage::Asking {
            self.failed(now, error.to_string(), Some(Closing::Flush));
        } else {
            self.over(now, false, format!("its RTMP is broken: {error}"), Some(Closing::Flush));
        }
    }

    /// Carries what the session says.
    fn settle(&mut self, now: Instant) {
        while let State::Open(line) = &mut self.state
            && let Some(output) = line.session.poll_output()
        {
            let conn = line.conn;
            match output {
                rtmp::Output::Transmit(bytes) if line.unread.count(bytes.len()) => {
                    self.net(NetOp::Send { conn, bytes });
                }
                rtmp::Output::Transmit(_) => {
                    self.over(now, false, "the server asks and does not read".into(), Some(Closing::Abort));
                }
                rtmp::Output::Event(ClientEvent::Playing) => {
                    (line.stage, line.until) = (Stage::Waiting, now + FIRST_SILENCE);
                    let (local, remote) = (line.local, line.remote);
                    self.event(DialEvent::Playing { conn, local, remote });
                }
                rtmp::Output::Event(ClientEvent::Media(unit)) => {
                    // Metadata may come before the word that playing begins; nobody would know what they belong to.
                    if line.stage == Stage::Asking {
                        continue;
                    }
                    (line.stage, line.until) = (Stage::Playing, now + SILENCE);
                    self.pause = MIN_PAUSE;
                    self.event(DialEvent::Media(unit));
                }
                rtmp::Output::Event(ClientEvent::Ended) => {
                    let why = "the server ended the stream";
                    if line.stage == Stage::Asking {
                        self.failed(now, why.into(), Some(Closing::Flush));
                    } else {
                        self.over(now, true, why.into(), Some(Closing::Flush));
                    }
                }
                rtmp::Output::Event(ClientEvent::Publishing) => {}
            }
        }
    }

    /// It did not come to playing.
    fn failed(&mut self, now: Instant, why: String, close: Option<Closing>) {
        let remote = match &self.state {
            State::Resting { .. } => return,
            State::Connecting { remote, .. } => *remote,
            State::Open(line) => line.remote,
        };
        let again_in = self.pause;
        self.end(now, close);
        self.event(DialEvent::Failed { remote, why, again_in });
    }

    fn over(&mut self, now: Instant, finished: bool, why: String, close: Option<Closing>) {
        let was_playing = self.is_playing();
        let remote = if let State::Open(line) = &self.state { Some(line.remote) } else { None };
        let again_in = self.pause;
        self.end(now, close);
        match remote {
            Some(_) if was_playing => self.event(DialEvent::Over { finished, why }),
            Some(remote) => self.event(DialEvent::Failed { remote, why, again_in }),
            None => {}
        }
    }

    /// Closes the connection if it is to be closed (it may be gone already), and rests for the pause, which grows.
    fn end(&mut self, now: Instant, close: Option<Closing>) {
        let conn = match &self.state {
            State::Resting { .. } => None,
            State::Connecting { conn, .. } => Some(*conn),
            State::Open(line) => Some(line.conn),
        };
        if let (Some(conn), Some(how)) = (conn, close) {
            self.net(NetOp::Close { conn, how });
        }
        self.state = State::Resting { until: now + self.pause };
        self.pause = (self.pause * 2).min(MAX_PAUSE);
    }

    fn rest(&mut self, now: Instant, how: Closing) {
        if !matches!(self.state, State::Resting { .. }) {
            self.end(now, Some(how));
        }
    }

    /// Gives up what has not come to playing.
    fn give_up(&mut self) {
        let conn = match &self.state {
            State::Connecting { conn, until, .. } => Some((*conn, *until)),
            State::Open(line) if line.stage == Stage::Asking => Some((line.conn, line.until)),
            State::Resting { .. } | State::Open(_) => None,
        };
        if let Some((conn, until)) = conn {
            self.net(NetOp::Close { conn, how: Closing::Abort });
            self.state = State::Resting { until };
        }
    }

    fn line(&mut self, conn: ConnId) -> Option<&mut Line> {
        match &mut self.state {
            State::Open(line) if line.conn == conn => Some(line),
            State::Open(_) | State::Resting { .. } | State::Connecting { .. } => None,
        }
    }

    fn net(&mut self, op: NetOp) {
        self.outputs.push_back(DialOutput::Net(op));
    }

    fn event(&mut self, event: DialEvent) {
        self.outputs.push_back(DialOutput::Event(event));
    }
}

#[cfg(test)]
mod tests;
