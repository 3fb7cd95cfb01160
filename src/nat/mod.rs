//! What was observed about NATs, and what it means, as pure functions.
//!
//! The daemon reports [`Observation`]s, of oneself and of the peer, and judges nothing. Both sides judge them by the same
//! functions: [`classify()`] says how a NAT maps and allocates ports, in the words of RFC 4787, and what was not measured;
//! [`next_ports`] says which ports a NAT is likely to give next; [`Filtering::judge`] says whom it lets in. None forbids anything: what they say orders what is
//! tried.
//!
//! A host may stand behind different NATs for IPv4 and IPv6, so every judgement is about one [`Family`].
//!
//! ```
//! use punchcast::nat::{Allocation, Family, Mapping, Missing, Observation, SeenBy, classify, next_ports};
//!
//! let seen = |seen_by, local_port, port| Observation {
//!     seen_by,
//!     local_port,
//!     endpoint: std::net::SocketAddr::from(([203, 0, 113, 1], port)).into(),
//!     hole: false,
//!     own: false,
//! };
//! // One port looks different to each of two listeners, and each new mapping takes the port that is two further on.
//! let seen = [seen(SeenBy::Assist, 700, 40_000), seen(SeenBy::Main, 700, 40_002), seen(SeenBy::Assist, 7_123, 40_004)];
//! let verdict = classify(&seen, Family::V4);
//! assert_eq!(verdict.mapping, Mapping::AddressAndPortDependent);
//! assert_eq!(verdict.allocation, Allocation::Sequential { step: 2 });
//! assert_eq!(next_ports(&verdict, &seen, 700, 3), [40_006, 40_008, 40_005]);
//! ```

mod classify;
mod filtering;
mod observe;
mod predict;

pub use classify::{Allocation, Mapping, Missing, Verdict, classify};
pub use filtering::Filtering;
pub use observe::{Family, Observation, SeenBy, is_own};
pub use predict::{MAX_WINDOW, next_ports, onward_ports};

#[cfg(test)]
mod tests;
