//! Asks the router before this host to let connections to the hole port in: PCP, NAT-PMP and UPnP-IGD.
//!
//! [`Mapper`] decides what to ask whom, when to ask again, when to renew and what to remove. It refuses to know sockets and
//! what the mappings are for. PCP (RFC 6887) and NAT-PMP (RFC 6886) are small datagrams that it writes and reads itself;
//! UPnP-IGD is HTTP and XML and the business of a library, so of it the core has a [`Command`] and an [`Answer`].
//!
//! # Life cycle
//!
//! ```text
//!  PCP, IPv4   ask ──▶ held ──(half the lifetime)──▶ ask again …                    end: remove, wait for the answer
//!     │ silent for NEXT_AFTER, or refused
//!     ├──▶ NAT-PMP   the same                        whatever answers first is enough; what answers later stays, too
//!     └──▶ UPnP-IGD  the same
//!  PCP, IPv6   beside them, for a pinhole in the router's firewall
//! ```
//!
//! A refusal or silence puts a protocol to rest for minutes. A reply whose clock went back says that the router restarted
//! and forgot: everything is asked for anew.
//!
//! # Whom it speaks to
//!
//! To the gateway it was given and nobody else. A reply from another address, for another port or without the request's
//! nonce changes nothing. An outside address that is not public is of no use, for another NAT stands behind it; such a
//! mapping is removed at once.

pub mod epoch;
mod lane;
mod mapper;
pub mod natpmp;
pub mod pcp;

pub use mapper::Mapper;

use crate::endpoint::Endpoint;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// The port on which gateways listen, for both protocols.
pub const GATEWAY_PORT: u16 = 5351;

/// How long mappings are asked for. A program that is killed leaves its mapping behind for at most this; renewing each quarter
/// of an hour is a datagram.
pub const LIFETIME: Duration = Duration::from_secs(30 * 60);

/// How a mapping is asked for, in the order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// The Port Control Protocol, RFC 6887.
    Pcp,
    /// The NAT Port Mapping Protocol, RFC 6886.
    NatPmp,
    /// The Internet Gateway Device of UPnP.
    Upnp,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Pcp, Self::NatPmp, Self::Upnp];
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pcp => "PCP",
            Self::NatPmp => "NAT-PMP",
            Self::Upnp => "UPnP-IGD",
        })
    }
}

/// The way out of this host for one address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// The next hop, with [`GATEWAY_PORT`].
    pub gateway: SocketAddr,
    /// Our address on that way.
    pub local: IpAddr,
}

/// What is wanted of the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Mappings of this TCP port, for so long a time each.
    Map {
        /// Our port.
        port: u16,
        /// Normally [`LIFETIME`].
        lifetime: Duration,
    },
    /// Only to hear which protocols are spoken; nothing is changed.
    Ask,
}

/// What a [`Mapper`] is made with.
#[derive(Clone, Debug)]
pub struct Config {
    /// What is wanted.
    pub purpose: Purpose,
    /// The way out over IPv4, if there is one that a NAT can stand on.
    pub v4: Option<Way>,
    /// The way out over IPv6.
    pub v6: Option<Way>,
    /// Whether UPnP can be used.
    pub upnp: bool,
    /// The protocols that may be used.
    pub protocols: Vec<Protocol>,
    /// Random; nonces come from it, which keep others on the network from changing our mappings.
    pub seed: u64,
}

/// A mapping that stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// By which protocol it was made.
    pub protocol: Protocol,
    /// What leads to the hole port.
    pub external: Endpoint,
}

/// What became of a protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Finding {
    /// Not asked, or not answered yet.
    #[default]
    Open,
    /// The gateway speaks it.
    Works,
    /// The gateway speaks it and will not, or cannot be of use.
    Refused(String),
    /// Nobody answers.
    Silent,
}

/// What is asked of the library that speaks UPnP. Each is answered in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Look for a gateway and its outside address. Answered by [`Answer::Found`] or [`Answer::Failed`].
    Find,
    /// Map `port`, or renew its mapping. Answered by [`Answer::Found`] when there is a gateway to ask, and in the end by
    /// [`Answer::Mapped`] or [`Answer::Failed`].
    Map {
        /// Our port.
        port: u16,
        /// The outside port that we would like, or have.
        external: u16,
        /// In seconds.
        lifetime: u32,
    },
    /// Remove what was mapped. Answered by [`Answer::Removed`], whether there was anything or not.
    Remove,
}

/// What came of a [`Command`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// There is a gateway.
    Found,
    /// A mapping stands.
    Mapped {
        /// The outside address, as the gateway says, and port.
        external: SocketAddr,
        /// In seconds; 0: until it is removed.
        lifetime: u32,
    },
    /// There is no gateway, or it will not.
    Failed {
        /// Why; `None`: nobody answers.
        why: Option<String>,
    },
    /// It is gone.
    Removed,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Input<'a> {
    /// A datagram came to the socket that speaks to a gateway.
    Datagram {
        /// Who sent it.
        from: SocketAddr,
        /// What it says.
        bytes: &'a [u8],
    },
    /// The gateway's system said that nobody listens there (ICMP).
    Unreachable {
        /// The gateway.
        gateway: SocketAddr,
    },
    /// A [`Command`] was carried out.
    Upnp(Answer),
}

/// What the mapper asks for and tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a datagram, from our address on the way to that gateway.
    Send {
        /// The gateway.
        to: SocketAddr,
        /// What.
        bytes: Vec<u8>,
    },
    /// Something for the library that speaks UPnP.
    Upnp(Command),
    /// The mappings that stand are others than before: all of them.
    Changed(Vec<Mapping>),
}

/// An outside address that a mapping can have and be of use: nobody before the gateway translates it again.
fn is_public(ip: IpAddr) -> bool {
    crate::endpoint::Reach::of(ip) == crate::endpoint::Reach::Global
}

/// Whether a next hop may be a home router that maps ports: one on the network of `local`, which needs it.
#[must_use]
pub fn is_gateway_v4(gateway: Ipv4Addr, local: Ipv4Addr) -> bool {
    use crate::endpoint::Reach;
    let site = |ip: Ipv4Addr| Reach::of(ip.into()) == Reach::Site;
    site(gateway) && site(local)
}

#[cfg(test)]
mod tests;
