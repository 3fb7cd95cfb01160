//! Media units, FLV, and what a late joiner must be given first.

pub mod avc;
pub mod flv;
mod unit;

pub use unit::{Kind, Unit};
