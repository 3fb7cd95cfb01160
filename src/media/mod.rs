//! Media units, FLV, and what a late joiner must be given first.

mod unit;

pub use unit::{Kind, Unit};
