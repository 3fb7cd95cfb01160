//! A caster's question for the ticket behind a short code.
//!
//! It decides when the question has failed, and in which of the ways that a user can do something about; it refuses to know
//! what is done with the ticket. One connection to the daemon's main port, one exchange, one guess: there is no second try
//! here, because each counts at the viewer.
//!
//! ```text
//!  Dialling ── connected: Call ─▶ Asked ── Answered: Confirm ─▶ Proven ── Granted ─▶ the ticket
//!     │ failed: the next address    └────────────── refused, cut, late ──┴─▶ failed
//!     └── no address left ─▶ failed
//! ```

use crate::app::{Closing, ConnId, ConnIds, Input, NetError, NetOp, Room};
use crate::code::exchange::{Asking, Randomness, TicketKey};
use crate::code::{Code, Seed};
use crate::ticket::{MAIN_PORT, Ticket, TicketError};
use crate::wire;
use crate::wire::WireError;
use crate::wire::frame::{MAX_FRAME, Reader};
use crate::wire::message::{FromMain, Refusal, ToMain, VERSION};
use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How long a connect to one address may take. A path on which three SYNs are lost has its chance.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// How long the answers may take. The daemon says no a few seconds earlier; this is for one that went silent.
const ANSWER_TIME: Duration = Duration::from_secs(20);

/// What a lookup is made with.
#[derive(Clone, Debug)]
pub struct Config {
    /// The room of its connections, and nobody else's.
    pub room: Room,
    /// The daemon's main addresses, in the order of preference; at least one.
    pub servers: Vec<SocketAddr>,
    /// What the user was told.
    pub code: Code,
    /// For the exchange.
    pub seed: Seed,
}

/// What the lookup asks for and tells.
#[derive(Debug)]
pub enum Output {
    /// For the network.
    Net(NetOp),
    /// What came of it: once, and then nothing more.
    Done(Result<Box<Ticket>, Failure>),
}

/// Why there is no ticket. Its `Display` says what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No address of the daemon could be reached; the last one, and why.
    Unreachable(SocketAddr, String),
    /// The daemon speaks this other version.
    Version(u8),
    /// Whatever listens there is no daemon of ours; what it did, in words.
    Stranger(String),
    /// The daemon ended the question; why, in words.
    Cut(String),
    /// No viewer has the number.
    NoCode(u32),
    /// The words are not the viewer's.
    WrongCode,
    /// Too many questions.
    TooMany,
    /// The daemon has no room.
    Full,
    /// The other end knew the words, but what it sent is no ticket for this program.
    Ticket(TicketError),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(server, why) => write!(
                f,
                "the daemon at {server} could not be reached ({why}): is that the server which the code is for?"
            ),
            Self::Version(theirs) if *theirs < VERSION => write!(
                f,
                "the daemon speaks version {theirs} of the protocol, this program version {VERSION}: update the daemon"
            ),
            Self::Version(theirs) => write!(
                f,
                "the daemon speaks version {theirs} of the protocol, this program version {VERSION}: update this program"
            ),
            Self::Stranger(why) => write!(
                f,
                "what answers is no main port of a punchcastd ({why}), perhaps its assist port: after the code's @ stands \
                 the main port, and nothing where it is {MAIN_PORT}"
            ),
            Self::Cut(why) => write!(f, "the daemon did not answer for the code: {why}; try again"),
            Self::NoCode(number) => write!(
                f,
                "no viewer shows a code with the number {number} there now: look at the viewer whether it still runs \
                 and shows this code, and whether its server is this one"
            ),
            Self::WrongCode => f.write_str(
                "the code's words are wrong: look, or listen, again. After three wrong tries the viewer shows another \
                 code",
            ),
            Self::TooMany => f.write_str(
                "too many connections or codes from this address, or tries with this code's number, in a short time: wait ten \
                 seconds, or use the ticket",
            ),
            Self::Full => f.write_str("the daemon is full: try again later"),
            Self::Ticket(error) => {
                write!(f, "the viewer sent a ticket that this program does not read: {error}")
            }
        }
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Ticket(error) => Some(error),
            Self::Unreachable(..)
            | Self::Version(_)
            | Self::Stranger(_)
            | Self::Cut(_)
            | Self::NoCode(_)
            | Self::WrongCode
            | Self::TooMany
            | Self::Full => None,
        }
    }
}

enum State {
    Dialling { conn: ConnId, to: SocketAddr, deadline: Instant },
    Asked { conn: ConnId, reader: Reader, asking: Asking, deadline: Instant },
    Proven { conn: ConnId, reader: Reader, key: TicketKey, deadline: Instant },
    Done,
}

/// See the [module](self).
pub struct Lookup {
    conns: ConnIds,
    code: Code,
    random: Randomness,
    /// Addresses that were not tried.
    servers: VecDeque<SocketAddr>,
    state: State,
    outputs: VecDeque<Output>,
}

impl Lookup {
    /// One that begins at once.
    #[must_use]
    pub fn new(now: Instant, config: Config) -> Self {
        let mut lookup = Self {
            conns: ConnIds::new(config.room),
            code: config.code,
            random: Randomness::new(config.seed),
            servers: config.servers.into(),
            state: State::Done,
            outputs: VecDeque::new(),
        };
        if !lookup.dial(now) {
            lookup.done(Err(Failure::Cut("its name has no address".into())));
        }
        lookup
    }

    /// Gives up, and tells nothing of it.
    pub fn cancel(&mut self) {
        if let Some(conn) = self.conn() {
            self.outputs.push_back(Output::Net(NetOp::Close { conn, how: Closing::Abort }));
        }
        self.state = State::Done;
    }

    /// Takes an input of its room.
    pub fn handle_input(&mut self, now: Instant, input: &Input<'_>) {
        if input.conn() != self.conn() {
            return;
        }
        match *input {
            Input::Connected { .. } => self.connected(now),
            Input::Received { bytes, .. } => self.received(bytes),
            Input::ConnectFailed { error, .. } => self.gone(now, Some(error)),
            Input::Closed { error, .. } => self.gone(now, error),
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
        match self.state {
            State::Dialling { conn, deadline, .. } if deadline <= now => {
                self.outputs.push_back(Output::Net(NetOp::Close { conn, how: Closing::Abort }));
                self.gone(now, Some(NetError::TimedOut));
            }
            State::Asked { deadline, .. } | State::Proven { deadline, .. } if deadline <= now => {
                self.fail(Failure::Cut("it went silent".into()));
            }
            State::Dialling { .. } | State::Asked { .. } | State::Proven { .. } | State::Done => {}
        }
    }

    /// The next output, until `None`.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When it wants `handle_timeout`, and why.
    #[must_use]
    pub const fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        match self.state {
            State::Dialling { deadline, .. } => Some((deadline, "connect to the code's daemon")),
            State::Asked { deadline, .. } | State::Proven { deadline, .. } => {
                Some((deadline, "answers for a code"))
            }
            State::Done => None,
        }
    }

    const fn conn(&self) -> Option<ConnId> {
        match self.state {
            State::Dialling { conn, .. } | State::Asked { conn, .. } | State::Proven { conn, .. } => {
                Some(conn)
            }
            State::Done => None,
        }
    }

    /// Tries the next address, if there is one.
    fn dial(&mut self, now: Instant) -> bool {
        let Some(to) = self.servers.pop_front() else { return false };
        let conn = self.conns.allocate();
        self.outputs.push_back(Output::Net(NetOp::Connect { conn, from: None, to }));
        self.state = State::Dialling { conn, to, deadline: now + CONNECT_TIME };
        true
    }

    fn connected(&mut self, now: Instant) {
        let State::Dialling { conn, .. } = self.state else { return };
        let (asking, element) = Asking::begin(&self.code, &mut self.random);
        self.send(conn, &ToMain::Call { nameplate: self.code.number(), element });
        let reader = Reader::new(MAX_FRAME);
        self.state = State::Asked { conn, reader, asking, deadline: now + ANSWER_TIME };
    }

    fn received(&mut self, bytes: &[u8]) {
        if let State::Asked { reader, .. } | State::Proven { reader, .. } = &mut self.state {
            reader.push(bytes);
        }
        loop {
            let (State::Asked { reader, .. } | State::Proven { reader, .. }) = &mut self.state else {
                return;
            };
            match reader.next::<FromMain>() {
                Ok(Some(message)) => self.message(message),
                Ok(None) => return,
                Err(WireError::Version { theirs }) => self.fail(Failure::Version(theirs)),
                Err(error @ (WireError::TooLong { .. } | WireError::Empty | WireError::Malformed(_))) => {
                    self.fail(Failure::Stranger(error.to_string()));
                }
            }
        }
    }

    fn message(&mut self, message: FromMain) {
        match (std::mem::replace(&mut self.state, State::Done), message) {
            (State::Asked { conn, reader, asking, deadline }, FromMain::Answered { element }) => {
                match asking.finish(&element) {
                    Some((proof, key)) => {
                        self.send(conn, &ToMain::Confirm { proof });
                        self.state = State::Proven { conn, reader, key, deadline };
                    }
                    None => self.close(conn, Failure::WrongCode),
                }
            }
            (State::Proven { conn, key, .. }, FromMain::Granted { sealed }) => {
                self.outputs.push_back(Output::Net(NetOp::Close { conn, how: Closing::Flush }));
                // What does not open was not sealed by one who knows the words.
                let ticket = key.open(&sealed).ok_or(Failure::WrongCode);
                self.done(ticket.and_then(|text| text.parse().map(Box::new).map_err(Failure::Ticket)));
            }
            (State::Asked { conn, .. } | State::Proven { conn, .. }, FromMain::Refused { reason }) => {
                let failure = self.refused(reason);
                self.close(conn, failure);
            }
            (State::Asked { conn, .. } | State::Proven { conn, .. }, FromMain::Shutdown) => {
                self.close(conn, Failure::Cut("it ends".into()));
            }
            (
                State::Asked { conn, .. } | State::Proven { conn, .. },
                FromMain::Answered { .. }
                | FromMain::Granted { .. }
                | FromMain::Welcome { .. }
                | FromMain::NewUserLogin { .. }
                | FromMain::UserLogout { .. }
                | FromMain::SrvReqMakeHole { .. }
                | FromMain::SrvReqDirectConnect { .. }
                | FromMain::Heartbeat { .. }
                | FromMain::Observed { .. }
                | FromMain::FilterResult { .. }
                | FromMain::Relaying { .. }
                | FromMain::Nameplate { .. }
                | FromMain::Called { .. }
                | FromMain::Confirmed { .. },
            ) => self.close(conn, Failure::Stranger("it answered something else".into())),
            (State::Dialling { .. } | State::Done, _) => {}
        }
    }

    fn refused(&self, reason: Refusal) -> Failure {
        match reason {
            Refusal::NoCode => Failure::NoCode(self.code.number()),
            Refusal::WrongCode => Failure::WrongCode,
            Refusal::TooMany => Failure::TooMany,
            Refusal::Full => Failure::Full,
            // In a frame of our version: nobody says that who speaks it.
            Refusal::Version => Failure::Stranger("it refuses its own version".into()),
            Refusal::BadRequest | Refusal::NotOwner | Refusal::Replaced | Refusal::NoRelay => {
                Failure::Stranger("it does not understand the question".into())
            }
        }
    }

    /// The connection is gone, or never was.
    fn gone(&mut self, now: Instant, error: Option<NetError>) {
        let why = error.map_or_else(|| "it closed the connection".into(), |error| error.to_string());
        if let State::Dialling { to, .. } = self.state {
            if !self.dial(now) {
                self.done(Err(Failure::Unreachable(to, why)));
            }
        } else {
            self.done(Err(Failure::Cut(why)));
        }
    }

    fn send(&mut self, conn: ConnId, message: &ToMain) {
        self.outputs.push_back(Output::Net(NetOp::Send { conn, bytes: wire::encode(message) }));
    }

    /// Ends the question, whose connection still exists.
    fn fail(&mut self, failure: Failure) {
        if let Some(conn) = self.conn() {
            self.close(conn, failure);
        }
    }

    fn close(&mut self, conn: ConnId, failure: Failure) {
        self.outputs.push_back(Output::Net(NetOp::Close { conn, how: Closing::Abort }));
        self.done(Err(failure));
    }

    fn done(&mut self, result: Result<Box<Ticket>, Failure>) {
        self.state = State::Done;
        self.outputs.push_back(Output::Done(result));
    }
}

#[cfg(test)]
mod tests;
