//! Identifiers, each a type of its own, so that one cannot stand where another is meant.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! bytes_id {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub [u8; 16]);
    };
}

macro_rules! hex_debug {
    ($name:ident) => {
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    };
}

macro_rules! secret_debug {
    ($name:ident) => {
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(…)"))
            }
        }
    };
}

bytes_id! {
    /// Where a caster and a viewer meet at the daemon; part of the ticket. Equal to the first 16 bytes of the
    /// SHA-256 of the viewer's [`OwnerToken`], so that only the viewer who made the ticket can log in as its viewer.
    RendezvousId
}
hex_debug!(RendezvousId);

bytes_id! {
    /// Proof of having made a [`RendezvousId`]; known to the viewer, shown to the daemon, never in the ticket.
    OwnerToken
}
secret_debug!(OwnerToken);

bytes_id! {
    /// Ties a client's assist connections to its main connection. Random, chosen by the client, used for one
    /// login only, never told to a peer.
    PunchToken
}
secret_debug!(PunchToken);

impl OwnerToken {
    /// The rendezvous id that this token owns.
    #[must_use]
    pub fn rendezvous(&self) -> RendezvousId {
        use sha2::{Digest, Sha256};
        let digest = Sha256::new().chain_update(b"punchcast rendezvous v1").chain_update(self.0).finalize();
        let mut id = [0; 16];
        id.copy_from_slice(&digest[..16]);
        RendezvousId(id)
    }
}

/// A logged-in client, named by the daemon at random; told to those with the same ticket.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClientId(pub u64);

/// One introduction of a caster to a viewer, named by the daemon.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionId(pub u64);

/// One caster's question for the ticket behind a short code, named by the daemon towards the viewer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CallId(pub u64);

macro_rules! number_debug {
    ($name:ident) => {
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:016x})"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:016x}", self.0)
            }
        }
    };
}
number_debug!(ClientId);
number_debug!(SessionId);
number_debug!(CallId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_as_wide_whatever_it_is() {
        assert_eq!(ClientId(0xbeef).to_string(), "000000000000beef");
        assert_eq!(format!("{:?}", SessionId(u64::MAX)), "SessionId(ffffffffffffffff)");
    }
}
