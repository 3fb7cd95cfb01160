//! Which way to a peer is better, as pure functions over values.

mod outlook;
pub mod plan;
mod rung;

pub use outlook::{Odds, Outlook, PeerKind, outlook};
pub use rung::Rung;
