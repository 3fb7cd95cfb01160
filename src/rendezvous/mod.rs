//! The rendezvous: the daemon's half ([`broker`]) and the client's halves: [`agent`], and [`relay`] where no direct
//! link can be made.

pub mod agent;
pub mod broker;
mod filter;
mod introduction;
pub mod limits;
mod registry;
pub mod relay;
mod relaying;
mod requests;
mod samples;
mod timers;
