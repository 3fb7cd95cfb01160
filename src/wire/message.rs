//! The scheme's messages, under the names that the classic article gives them, one enum a direction.
//!
//! Never reorder or remove a variant or a field: append, and raise [`VERSION`].

use crate::endpoint::Endpoint;
use crate::id::{ClientId, OwnerToken, PunchToken, RendezvousId, SessionId};
use serde::{Deserialize, Serialize};

/// The version of the language; stands outside the codec, in each frame's header.
pub const VERSION: u8 = 1;

/// How many endpoints one list may have. Four of each family cover a host with several interfaces; every entry is a
/// SYN that a peer may be asked to send.
pub const MAX_ENDPOINTS: usize = 8;

/// What a client is in a rendezvous.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Role {
    /// Made the ticket, receives the picture.
    Viewer,
    /// Was given the ticket, sends the picture.
    Caster,
}

/// Client to daemon, on the main connection (port 4000).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToMain {
    /// First message of a main connection.
    Login {
        /// The meeting place.
        rendezvous: RendezvousId,
        /// What the client wants to be there.
        role: Role,
        /// The token that its assist connections will show.
        token: PunchToken,
        /// A viewer's proof of having made the rendezvous id; `None` from a caster.
        owner: Option<OwnerToken>,
        /// The client's own addresses with its hole port. The daemon passes on site-local ones only, and only
        /// between clients that it sees behind one public address.
        #[serde(with = "crate::wire::list")]
        local: Vec<Endpoint>,
    },
    /// B (the viewer) listens on its hole port and has begun to punch.
    HoleListenReady {
        /// Which introduction.
        session: SessionId,
    },
    /// Keeps mappings and the login alive; answered by the same.
    Heartbeat {
        /// Anything; comes back.
        nonce: u64,
    },
    /// The client leaves.
    Logout,
}

/// Daemon to client, on the main connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromMain {
    /// The login was taken.
    Welcome {
        /// The client's name from here on.
        client: ClientId,
        /// The main connection's remote endpoint as the daemon sees it.
        observed: Endpoint,
        /// Seconds between heartbeats that the daemon asks for.
        heartbeat_secs: u16,
    },
    /// Somebody with the same ticket logged in.
    NewUserLogin {
        /// Who.
        client: ClientId,
        /// As what.
        role: Role,
    },
    /// Somebody with the same ticket left.
    UserLogout {
        /// Who.
        client: ClientId,
    },
    /// To B: A wants to connect; touch the assist port if that connection is gone, listen, punch, report ready.
    SrvReqMakeHole {
        /// Which introduction.
        session: SessionId,
        /// Whom to punch towards.
        peer: Peer,
    },
    /// To A: B is ready, or its mapping is known already; connect.
    SrvReqDirectConnect {
        /// Which introduction.
        session: SessionId,
        /// Whom to connect to.
        peer: Peer,
    },
    /// Answers `Heartbeat`.
    Heartbeat {
        /// The client's.
        nonce: u64,
    },
    /// The daemon will not; the connection ends unless said otherwise for the reason.
    Refused {
        /// Why.
        reason: Refusal,
    },
    /// The daemon ends. Links that exist go on.
    Shutdown,
}

/// Client to daemon, on the assist connection (port 8000), opened from the hole port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToAssist {
    /// A asks for the viewer of a rendezvous; the daemon learns A's mapping from this connection. May be sent again on the same
    /// connection to be introduced anew.
    ReqConnClient {
        /// The token of A's login.
        token: PunchToken,
        /// Whose viewer is asked for; must be the login's.
        rendezvous: RendezvousId,
    },
    /// B touches the assist port so that the daemon learns its mapping, and asks the *daemon* to be the one who
    /// closes when the time comes, so that no TIME-WAIT is left on B's hole port.
    ReqSrvDisconnect {
        /// The token of B's login.
        token: PunchToken,
    },
    /// Keeps the mapping alive; not answered.
    Heartbeat,
}

/// Daemon to client, on the assist connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromAssist {
    /// The mapping of the hole port, as seen from the assist port.
    Observed {
        /// The remote endpoint of this connection.
        endpoint: Endpoint,
    },
    /// The daemon will not.
    Refused {
        /// Why.
        reason: Refusal,
    },
}

/// The other side of an introduction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Its name.
    pub client: ClientId,
    /// The endpoints of its hole port that the daemon observed itself, at most [`MAX_ENDPOINTS`].
    #[serde(with = "crate::wire::list")]
    pub observed: Vec<Endpoint>,
    /// Its own site-local addresses, if both sides share a public address; at most [`MAX_ENDPOINTS`].
    #[serde(with = "crate::wire::list")]
    pub local: Vec<Endpoint>,
    /// Whether an observed address is one of its own: no NAT stands before it.
    pub public: bool,
}

/// Why the daemon refuses. Unknown and offline ids are never told apart: who asks for either waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Refusal {
    /// The message makes no sense here (second login, wrong role, unknown token).
    BadRequest,
    /// The frame's version is not spoken here.
    Version,
    /// The owner token does not make the rendezvous id.
    NotOwner,
    /// Too many requests, or too many connections, from this address. Try later.
    TooMany,
    /// The daemon is full. Try later.
    Full,
    /// A newer login with proof took this one's place.
    Replaced,
}
