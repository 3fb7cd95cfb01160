//! What the page tells about the casts beside their pictures.

use punchcast::policy::Rung;
use serde::{Serialize, Serializer};
use std::net::SocketAddr;

/// Where a cast stands, or the viewer as a whole.
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

/// What the page shows. Everything is for people's eyes; scripts have the program's `--json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Status {
    /// Where the viewer stands: live while any cast is.
    pub phase: Phase,
    /// One line in the user's words: what is waited for, what happened.
    pub message: String,
    /// How far the way to a caster has been made, oldest first.
    pub steps: Vec<Step>,
    /// The casts, by place.
    pub casts: Vec<CastStatus>,
}

/// One step on the way to a link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// How it went.
    pub state: StepState,
    /// What it is, in the user's words.
    pub text: String,
}

/// How a step went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StepState {
    /// Done.
    Done,
    /// Under way.
    Now,
    /// Came to nothing, so far.
    Failed,
}

/// What the page shows about one cast.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CastStatus {
    /// Which tile of the grid it has, counted from 0.
    pub place: usize,
    /// Where it stands.
    pub phase: Phase,
    /// How the link was made.
    #[serde(serialize_with = "as_text")]
    pub rung: Option<Rung>,
    /// It is plain RTMP: nothing is encrypted, and nobody proven.
    pub plain: bool,
    /// Why there is no direct link, for a relayed one.
    pub why: Option<String>,
    /// Our address of the link.
    pub local: Option<SocketAddr>,
    /// The caster's address of the link.
    pub remote: Option<SocketAddr>,
    /// The link's round-trip time in milliseconds.
    pub rtt_ms: Option<f64>,
    /// Pictures received from the caster.
    pub frames: u64,
    /// Bits received in the last second.
    pub bits: u64,
    /// How old pictures were when they came, milliseconds: half of those of the last second at most.
    pub age_ms_p50: Option<f64>,
    /// The same for 99 of 100.
    pub age_ms_p99: Option<f64>,
    /// One line in the user's words.
    pub message: String,
}

fn as_text<S: Serializer>(rung: &Option<Rung>, serializer: S) -> Result<S::Ok, S::Error> {
    match rung {
        Some(rung) => serializer.collect_str(rung),
        None => serializer.serialize_none(),
    }
}
