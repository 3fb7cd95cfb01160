//! The punch core: makes TCP connections between two hole ports.
//!
//! A [`Hole`] is one local port that listens *and* connects. It decides when to send a SYN to which endpoint, and what
//! a refusal or silence means; it never opens a socket, never learns what a connection is for, and gives no roles:
//! when two SYNs cross, the connecting socket completes on *both* sides and nobody accepts, so who dialled means
//! nothing.
//!
//! # Life cycle
//!
//! ```text
//!  open ─▶ Opened{locals} ─▶ start(attempt, targets) ─▶ Dialling… ─▶ Open{conn}   (as often as the network allows)
//!                                      │                               └─▶ the owner proves the peer, elects one link
//!                                      └── stop(attempt), or the attempt's time is over ─▶ Exhausted
//!  close ─▶ nothing is dialled, nobody is let in
//! ```
//!
//! # What holds
//!
//! - A connect stays in SYN_SENT for as long as a SYN of the peer may arrive. It is never given up in favour of the
//!   listener alone: the SYN/ACK of a listener has another initial sequence number than the SYN that opened our NAT,
//!   and Linux's conntrack holds it for invalid.
//! - *Refused*, *unreachable* and *timed out* are inputs: the [`schedule`] says when the next SYN goes out.
//! - The same endpoint is dialled by one connect at a time, whatever number of attempts name it.
//! - SYNs are counted: an attempt sends each endpoint at most [`schedule::SYN_BUDGET`], and all
//!   bursts together [`burst::ALLOWANCE`] in two minutes.

pub mod burst;
mod hole;
mod lane;
mod port;
pub mod schedule;
mod types;

pub use burst::Aim;
pub use hole::Hole;
pub use schedule::Duty;
pub use types::{Answer, Approach, Attempt, Event, Findings, Open, Origin, Output, Target};

#[cfg(test)]
mod tests;
