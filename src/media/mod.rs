//! Media units, FLV, and what a late joiner must be given first.

pub mod avc;
mod cache;
mod coding;
pub mod flv;
pub mod metadata;
pub mod pace;
pub mod told;
mod unit;

pub use cache::{Cache, MAX_GROUP_BYTES, MAX_GROUP_MS, MAX_GROUP_UNITS};
pub use coding::Coding;
pub use unit::{Content, Kind, METADATA_TIME, Packet, Unit};
