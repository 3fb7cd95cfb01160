//! The scheme's messages, under the names that the classic article gives them, one enum a direction.
//!
//! Never reorder or remove a variant or a field: append, and raise [`VERSION`].

use crate::code::{Element, Proof};
use crate::endpoint::Endpoint;
use crate::id::{CallId, ClientId, OwnerToken, PunchToken, RendezvousId, SessionId};
use serde::{Deserialize, Serialize};

/// The version of the language; stands outside the codec, in each frame's header.
pub const VERSION: u8 = 3;

/// How many endpoints one list may have. Four of each family cover a host with several interfaces; every entry is a
/// SYN that a peer may be asked to send.
pub const MAX_ENDPOINTS: usize = 8;

/// How many observations one list may have: those of a login's assist connections (4), the latest of its samples (8), that of
/// its main connection, and some to spare.
pub const MAX_OBSERVATIONS: usize = 16;

/// How many bytes a sealed ticket may have. The longest has under 600 characters, and 16 bytes of tag.
pub const MAX_SEALED: usize = 768;

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
        #[serde(with = "crate::wire::list::endpoints")]
        local: Vec<Endpoint>,
        /// The round trip to the daemon in microseconds, as the client's connect measured it; 0: unknown.
        rtt_us: u32,
        /// The local port of this connection.
        local_port: u16,
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
    /// The one message of a connection whose purpose is that the daemon sees its mapping. Answered by
    /// [`FromMain::Observed`]; then the daemon closes.
    Sample {
        /// The token of the client's login.
        token: PunchToken,
        /// The local port of this connection.
        local_port: u16,
    },
    /// Asks the daemon to dial the client's own hole port, as it observed it, from another port and (with an
    /// alternate address) from another address than the client has spoken to.
    TestFilter,
    /// The first message of a connection that is to be one half of a relayed link. Answered by
    /// [`FromMain::Relaying`] once the other side's half is there, or by [`FromMain::Refused`].
    Relay {
        /// The token of the client's login.
        token: PunchToken,
        /// Which introduction; it must be this login's.
        session: SessionId,
    },
    /// A router forwards these endpoints to the client's hole port (UPnP-IGD, PCP, NAT-PMP): the whole list, replacing
    /// an earlier one. The daemon passes on those whose address is one from which it saw the client itself.
    Mapped {
        /// At most [`MAX_ENDPOINTS`].
        #[serde(with = "crate::wire::list::endpoints")]
        endpoints: Vec<Endpoint>,
    },
    /// A viewer asks for the number of a short code. Answered by [`FromMain::Nameplate`].
    ReqNameplate {
        /// The one that it had, or has; 0: any, but not the one that it has.
        wish: u32,
    },
    /// The first message of a connection by which a caster asks for the ticket behind a short code. Answered by
    /// [`FromMain::Answered`], or by [`FromMain::Refused`].
    Call {
        /// The code's number.
        nameplate: u32,
        /// The caster's half of the exchange.
        element: Element,
    },
    /// A viewer answers [`FromMain::Called`].
    Answer {
        /// Which call.
        call: CallId,
        /// The viewer's half of the exchange.
        element: Element,
    },
    /// The caster's second message, after [`FromMain::Answered`]. Answered by [`FromMain::Granted`], or by
    /// [`FromMain::Refused`].
    Confirm {
        /// That it knows the words.
        proof: Proof,
    },
    /// A viewer answers [`FromMain::Confirmed`]: the proof was right.
    Grant {
        /// Which call.
        call: CallId,
        /// The ticket, which the caster alone can read; at most [`MAX_SEALED`] bytes.
        #[serde(with = "crate::wire::list::sealed")]
        sealed: Vec<u8>,
    },
    /// A viewer ends a call: the proof was wrong, or it was no exchange.
    Deny {
        /// Which call.
        call: CallId,
    },
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
        /// The daemon's second address, if it has one: a listener there takes samples.
        alternate: Option<Endpoint>,
        /// Whether this daemon relays links that cannot be made directly.
        relay: bool,
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
        /// How long to wait before the first SYN, in microseconds, so that both sides send theirs at one moment; 0: at
        /// once, because a round trip is unknown or the other side has begun.
        start_in_us: u32,
        /// What a round trip between the two takes at most, in microseconds: both round trips to the daemon
        /// together. 0: unknown.
        rtt_us: u32,
    },
    /// To A: B is ready, or its mapping is known already; connect.
    SrvReqDirectConnect {
        /// Which introduction.
        session: SessionId,
        /// Whom to connect to.
        peer: Peer,
        /// As in [`FromMain::SrvReqMakeHole`].
        start_in_us: u32,
        /// As in [`FromMain::SrvReqMakeHole`].
        rtt_us: u32,
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
    /// Answers [`ToMain::Sample`], on its own connection.
    Observed {
        /// The remote endpoint of this connection.
        endpoint: Endpoint,
    },
    /// Answers [`ToMain::TestFilter`]: whether a connect from a stranger reached the client's hole port.
    FilterResult {
        /// From another port of the address that the client has spoken to; `None`: could not be tried.
        from_other_port: Option<bool>,
        /// From another address; `None`: the daemon has none of the family, or could not try.
        from_other_address: Option<bool>,
    },
    /// Answers [`ToMain::Relay`], and is the last message of its connection: both halves are there, and whatever
    /// follows in either direction is the other side's, byte by byte. When a limit is reached the daemon closes.
    Relaying {
        /// How many bytes pass at most, both directions together.
        bytes: u64,
        /// For how many seconds at most.
        seconds: u32,
    },
    /// Answers [`ToMain::ReqNameplate`].
    Nameplate {
        /// The viewer's number from here on; `None`: there is none to be had now.
        number: Option<u32>,
    },
    /// To a viewer: a caster asks with its number.
    Called {
        /// Which call.
        call: CallId,
        /// The caster's half of the exchange.
        element: Element,
    },
    /// To a caster: the viewer's half of the exchange.
    Answered {
        /// It.
        element: Element,
    },
    /// To a viewer: the caster's proof.
    Confirmed {
        /// Which call.
        call: CallId,
        /// It.
        proof: Proof,
    },
    /// To a caster, the last message of its connection: the ticket.
    Granted {
        /// As the viewer sealed it; at most [`MAX_SEALED`] bytes.
        #[serde(with = "crate::wire::list::sealed")]
        sealed: Vec<u8>,
    },
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
        /// The local port of this connection: the hole port.
        local_port: u16,
    },
    /// B touches the assist port so that the daemon learns its mapping, and asks the *daemon* to be the one who
    /// closes when the time comes, so that no TIME-WAIT is left on B's hole port.
    ReqSrvDisconnect {
        /// The token of B's login.
        token: PunchToken,
        /// The local port of this connection: the hole port.
        local_port: u16,
    },
    /// Keeps the mapping alive; not answered.
    Heartbeat,
    /// The one message of a connection whose purpose is that the daemon sees its mapping; also taken at the alternate
    /// address. Answered by [`FromAssist::Observed`]; then the daemon closes.
    Sample {
        /// The token of the client's login.
        token: PunchToken,
        /// The local port of this connection.
        local_port: u16,
    },
}

/// Daemon to client, on the assist connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromAssist {
    /// The mapping of this connection's local port, as the daemon sees it here.
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

/// Which of the daemon's listeners saw a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum SeenBy {
    /// The assist port.
    Assist,
    /// The main port, on the same address as the assist port.
    Main,
    /// The assist port of another address.
    Alternate,
}

/// One mapping that the daemon saw: a fact, from an established connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Observation {
    /// Where.
    pub seen_by: SeenBy,
    /// The client's local port, as the client says.
    pub local_port: u16,
    /// What the daemon saw of it.
    pub endpoint: Endpoint,
    /// Seen on an assist connection: `local_port` is the hole port, and the connection keeps the mapping alive.
    pub hole: bool,
    /// `endpoint` is the client's own, address and port: no NAT translated it.
    pub own: bool,
}

/// The other side of an introduction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Its name.
    pub client: ClientId,
    /// The mappings that the daemon observed itself, in the order in which it saw them; at most
    /// [`MAX_OBSERVATIONS`]. Where to punch is [`Peer::hole_endpoints`]; the others tell how its NAT works.
    #[serde(with = "crate::wire::list::observations")]
    pub observed: Vec<Observation>,
    /// Its own site-local addresses, if both sides share a public address; at most [`MAX_ENDPOINTS`].
    #[serde(with = "crate::wire::list::endpoints")]
    pub local: Vec<Endpoint>,
    /// Whether an observed address of the hole port is one of its own: no NAT stands before it.
    pub public: bool,
    /// Its round trip to the daemon in microseconds; 0: unknown.
    pub rtt_us: u32,
    /// Endpoints that, as it says, a router forwards to its hole port; the addresses are ones from which the daemon
    /// saw it. At most [`MAX_ENDPOINTS`].
    #[serde(with = "crate::wire::list::endpoints")]
    pub mapped: Vec<Endpoint>,
}

impl Peer {
    /// The mappings of its hole port that are kept alive, latest first: an old connection may be dead unnoticed.
    #[must_use]
    pub fn hole_endpoints(&self) -> Vec<Endpoint> {
        let mut endpoints: Vec<Endpoint> = Vec::new();
        for seen in self.observed.iter().rev().filter(|seen| seen.hole) {
            if !endpoints.contains(&seen.endpoint) {
                endpoints.push(seen.endpoint);
            }
        }
        endpoints
    }
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
    /// Too many of what was asked for: connections, introductions, messages or calls; at one time, or lately. Try later.
    TooMany,
    /// The daemon, or the rendezvous, is full. Try later.
    Full,
    /// A newer login with proof took this one's place.
    Replaced,
    /// The daemon relays nothing, or not this: unknown session, or a limit is used up.
    NoRelay,
    /// No viewer answers to this number of a code: there is none, it is away, or it has another number by now.
    NoCode,
    /// The words of the code are not those of the viewer.
    WrongCode,
}
