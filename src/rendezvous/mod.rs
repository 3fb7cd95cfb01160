//! The rendezvous: the daemon's half ([`broker`]) and the client's half.

pub mod broker;
mod introduction;
pub mod limits;
mod registry;
