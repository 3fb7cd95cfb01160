//! The `punchcast` command as a library: the viewer's and the caster's applications, sources and sinks.

pub mod demo;
pub mod page;
pub mod rtmp_port;
pub mod source;
