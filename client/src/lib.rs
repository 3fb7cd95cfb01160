//! The `punchcast` command as a library: the viewer's, the caster's and the check's applications, sources and sinks.

pub mod caster;
pub mod check;
pub mod cli;
mod clock;
pub mod demo;
pub mod dial;
pub mod meeting;
pub mod notice;
pub mod page;
mod player;
pub mod portmap;
mod reachable;
mod rehearsal;
pub mod rtmp_port;
pub mod share;
pub mod sink;
pub mod source;
pub mod stats;
mod unread;
pub mod viewer;
