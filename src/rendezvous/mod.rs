//! The rendezvous: the daemon's half and the client's half.

pub mod agent;
