//! The rendezvous: the daemon's half ([`broker`]) and the client's halves: [`agent`], [`relay`] where no direct link can be
//! made, and [`lookup`] for a caster that has a short code instead of a ticket.

pub mod agent;
pub mod broker;
mod calls;
mod filter;
mod introduction;
pub mod limits;
pub mod lookup;
mod nameplates;
mod registry;
pub mod relay;
mod relaying;
mod requests;
mod samples;
mod timers;
