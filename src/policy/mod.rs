//! Which way to a peer is better, as pure functions over values.

pub mod plan;
mod rung;

pub use rung::Rung;
