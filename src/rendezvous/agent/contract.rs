//! What an agent is made with, asks for and tells.

use crate::app::{NetOp, Room};
use crate::code::{Code, Seed};
use crate::id::{ClientId, OwnerToken, RendezvousId, SessionId};
use crate::wire::message::{Observation, Peer, Refusal, Role};
use std::net::SocketAddr;
use std::time::Duration;

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
    /// For a viewer that offers its ticket by a short code, too: see [`Agent::offer_code`](super::Agent::offer_code).
    pub code_seed: Option<Seed>,
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
        /// Its main address.
        server: SocketAddr,
    },
    /// The daemon saw a mapping of ours.
    Observed {
        /// Which; that of the hole port has `hole` set.
        observation: Observation,
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
        /// How long to wait before the first SYN, so that both sides send theirs at one moment.
        start_in: Duration,
        /// What a round trip between the two takes at most, if both measured theirs to the daemon.
        rtt: Option<Duration>,
    },
    /// More is known of the peer of a session that was introduced.
    Amended {
        /// Which introduction.
        session: SessionId,
        /// All that is known of the peer.
        peer: Peer,
    },
    /// What [`Agent::test_filter`](super::Agent::test_filter) found: whether a stranger's connect reached the hole port.
    Filtering {
        /// From another port of the daemon's address; `None`: could not be tried.
        from_other_port: Option<bool>,
        /// From another address; `None`: could not be tried.
        from_other_address: Option<bool>,
    },
    /// The daemon refuses something. The agent stays away for good after [`Refusal::Replaced`],
    /// [`Refusal::NotOwner`] and [`Refusal::Version`].
    Refused {
        /// Why.
        reason: Refusal,
        /// What, as one reason stands for several limits.
        asked: Asked,
    },
    /// Casters can ask for the ticket by this code from here on, and by no other.
    Code {
        /// It.
        code: Code,
    },
    /// There is no code, and the one that there was is good no more.
    NoCode {
        /// Why.
        why: NoCode,
    },
    /// A caster got the ticket by the code.
    CodeUsed,
    /// Somebody tried the code's number with other words.
    WrongCode {
        /// Such tries until the code is withdrawn.
        left: u32,
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
    /// The login stands, and the assist port does not answer: nobody can be introduced. It is tried on; told once for
    /// each login, until it has answered.
    AssistUnreachable {
        /// Whom we try.
        assist: SocketAddr,
        /// What goes wrong, in words.
        why: String,
    },
}

/// What the daemon refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A connection, or the login in this role.
    Entry(Role),
    /// A caster's introduction.
    Introduction,
    /// A message on a connection that it had taken.
    Message,
    /// A relay for an introduction.
    Relay,
}

/// Why there is no short code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoCode {
    /// [`WRONG_PROOFS`](super::WRONG_PROOFS) tries had the wrong words: somebody guesses.
    Guessed {
        /// When there will be a new one; zero: at once.
        again_in: Duration,
    },
    /// The daemon has no number to give; it is asked again.
    NoNumber,
    /// The daemon is not asked any more.
    NoDaemon,
}
