//! Which way to a peer is better, as pure functions over values.

mod rung;

pub use rung::Rung;
