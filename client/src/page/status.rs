//! What the page tells about the cast beside its picture.

use punchcast::policy::Rung;
use serde::{Serialize, Serializer};
use std::net::SocketAddr;

/// Where the cast stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Nobody has used the ticket yet.
    #[default]
    Waiting,
    /// A caster is known; the way to it is being made.
    Connecting,
    /// The link stands.
    Live,
    /// The link was lost; the ticket is still good.
    Lost,
    /// The caster ended the cast; the ticket is still good.
    Ended,
}

/// What the page shows about the cast. Everything is for people's eyes; scripts have the program's `--json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Status {
    /// Where the cast stands.
    pub phase: Phase,
    /// How the link was made.
    #[serde(serialize_with = "as_text")]
    pub rung: Option<Rung>,
    /// Our address of the link.
    pub local: Option<SocketAddr>,
    /// The caster's address of the link.
    pub remote: Option<SocketAddr>,
    /// The link's round-trip time in milliseconds.
    pub rtt_ms: Option<f64>,
    /// Pictures received from the caster.
    pub frames: u64,
    /// Pictures that the caster left out to stay live.
    pub dropped: u64,
    /// One line in the user's words: what is waited for, what happened.
    pub message: String,
}

fn as_text<S: Serializer>(rung: &Option<Rung>, serializer: S) -> Result<S::Ok, S::Error> {
    match rung {
        Some(rung) => serializer.collect_str(rung),
        None => serializer.serialize_none(),
    }
}
