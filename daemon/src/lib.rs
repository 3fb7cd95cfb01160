//! The daemon `punchcastd`, as a library: its application, without sockets.
//!
//! [`Daemon`] binds the listeners and gives everything on them to the [`Broker`](punchcast::rendezvous::broker::Broker).
//! [`cli`] reads the command line. The program around them (`main.rs`) has the driver, the signals and the streams.

#![warn(missing_docs)]

mod app;
pub mod cli;

pub use app::{BindFailure, Config, Daemon, Notice};
