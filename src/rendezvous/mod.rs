//! The rendezvous: the daemon's half ([`broker`]) and the client's half ([`agent`]).

pub mod agent;
pub mod broker;
mod filter;
mod introduction;
pub mod limits;
mod registry;
mod requests;
mod samples;
mod timers;
