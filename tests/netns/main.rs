//! The programs on real kernels: hosts, NATs and firewalls in network namespaces, laid by `scripts/lab`.
//!
//! The tests use the commands and their `--json` events alone, as a user's script would. Each lays labs of its own.
//! Where namespaces are not permitted they say `SKIPPED: why` and pass, or fail if `PUNCHCAST_REQUIRE_LAB` is 1.
//! `PUNCHCAST_LAB_REPEATS` is how often each cell of the table in `cells` is tried.

#![allow(clippy::disallowed_methods, reason = "real programs take real time")]

mod cells;
mod check;
mod delay;
mod demo;
mod direct;
mod hostile;
mod lab;
mod outage;
mod portmap;
#[allow(dead_code, reason = "`tests/interop` uses it too, and another part of it")]
mod program;
mod readdress;
mod recording;
mod relay;
mod scene;
