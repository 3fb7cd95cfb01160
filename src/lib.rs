//! Punchcast puts one machine's screen on another's over a direct TCP connection.
//!
//! This library holds every decision as sans-IO cores and one thin driver that carries bytes and time. See
//! [`app`] for the contract between the two, and `docs/ARCHITECTURE.md` for the map.

#![warn(missing_docs)]

pub mod app;
pub mod cadence;
pub mod code;
pub mod driver;
pub mod endpoint;
pub mod id;
pub mod link;
pub mod media;
pub mod nat;
pub mod policy;
pub mod portmap;
pub mod punch;
pub mod rendezvous;
pub mod rtmp;
pub mod text;
pub mod ticket;
pub mod wire;
