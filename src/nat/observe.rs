//! Observations, and how to look at a list of them.

pub use crate::wire::message::{Observation, SeenBy};

use crate::endpoint::{Endpoint, Reach};

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of `endpoint`.
    #[must_use]
    pub const fn of(endpoint: Endpoint) -> Self {
        if endpoint.addr().is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// The observations of this family, in their order.
    pub(super) fn among(self, all: &[Observation]) -> impl Iterator<Item = &Observation> {
        all.iter().filter(move |seen| Self::of(seen.endpoint) == self)
    }
}

/// Whether a connection from `local_port` that is seen at `endpoint` went through no NAT, for a host that says that it
/// has the addresses of `local`. Loopback needs no saying.
#[must_use]
pub fn is_own(local: &[Endpoint], local_port: u16, endpoint: Endpoint) -> bool {
    let has = |ip| local.iter().any(|own| own.ip() == ip);
    endpoint.port() == local_port && (endpoint.reach() == Reach::Host || has(endpoint.ip()))
}

/// The mappings in the order in which they were made: each pair of local port and external endpoint once.
pub(super) fn mappings(all: &[Observation], family: Family) -> Vec<&Observation> {
    let mut distinct: Vec<&Observation> = Vec::new();
    for seen in family.among(all) {
        let same =
            |other: &&Observation| other.local_port == seen.local_port && other.endpoint == seen.endpoint;
        if !distinct.iter().any(same) {
            distinct.push(seen);
        }
    }
    distinct
}
