//! Which way to a peer is better, as pure functions over values.

mod obstacle;
mod outlook;
pub mod plan;
mod rung;

pub use obstacle::{Obstacle, obstacle};
pub use outlook::{Odds, Outlook, PeerKind, outlook};
pub use rung::Rung;
