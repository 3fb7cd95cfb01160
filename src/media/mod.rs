//! Media units, FLV, and what a late joiner must be given first.

pub mod pace;
mod unit;

pub use unit::{Kind, Unit};
