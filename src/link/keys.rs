//! Keys and secrets as types that cannot be mixed up and do not print themselves.

use crate::id::RendezvousId;
use std::fmt;

macro_rules! redacted {
    ($name:ident) => {
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(…)"))
            }
        }
    };
}

/// The ticket's secret: who knows it may cast.
///
/// Sixteen random bytes are enough. It is no password: guessing costs 2^128 tries, each of them a connection, for a
/// recorded handshake cannot be tested against guesses without one of the two private keys as well (`es` is mixed
/// in). Even one who breaks X25519 with a quantum computer is left with 2^64 *sequential* cipher runs. Sixteen more
/// bytes would make the QR code larger and nothing safer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Secret(pub [u8; 16]);
redacted!(Secret);

/// The viewer's X25519 public key. Not secret by nature, but it stands in the ticket's secret part, and who does
/// not know it cannot even begin a handshake.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ViewerKey(pub [u8; 32]);
redacted!(ViewerKey);

/// The viewer's X25519 private key; never leaves the viewer.
#[derive(Clone, PartialEq, Eq)]
pub struct ViewerPrivateKey(pub [u8; 32]);
redacted!(ViewerPrivateKey);

impl ViewerPrivateKey {
    /// The public key that belongs to it.
    #[must_use]
    pub fn public(&self) -> ViewerKey {
        super::noise::public_key(self)
    }
}

/// What the caster's end of a channel needs; all of it is in the ticket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CasterSecrets {
    /// Whom to expect at the other end.
    pub viewer_key: ViewerKey,
    /// What both ends know.
    pub secret: Secret,
    /// Which ticket, so that a handshake made for one is nothing to another.
    pub rendezvous: RendezvousId,
}

/// What the viewer's end of a channel needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewerSecrets {
    /// The key whose public half is in the ticket.
    pub private_key: ViewerPrivateKey,
    /// What both ends know.
    pub secret: Secret,
    /// Which ticket.
    pub rendezvous: RendezvousId,
}
