//! Where a cast's units come from: this machine's screen or a test picture, encoded here, or an FLV file.
//!
//! A source runs on a thread of its own, paces itself, and hands each [`Unit`] to the `emit` that its starter gave;
//! `emit` returns `false` to end it. A [`Control`] stops a source at once and asks it for a keyframe. The first
//! units of a source are its metadata and sequence headers, and its last event is [`SourceEvent::Ended`],
//! [`SourceEvent::Cut`] or [`SourceEvent::Failed`], unless it was stopped.

pub mod control;
pub mod encoder;
pub mod flv;
mod font;
pub mod metadata;
pub mod pattern;
pub mod picture;
pub mod screen;

pub use control::Control;
pub use flv::{FlvInput, spawn_flv};
pub use pattern::{PatternCast, PatternConfig, PatternReport, spawn_pattern};
use punchcast::media::{Unit, avc};
pub use screen::{Screen, ScreenConfig};
use std::time::Instant;

/// What a source tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceEvent {
    /// The next unit, due now, and when its picture was captured; `None` where the picture was not made here, and counts
    /// from its coming.
    Unit(Unit, Option<Instant>),
    /// There is nothing more to come.
    Ended,
    /// The same, before its time: a file was cut, a window was closed. How, for the user. What came before was whole.
    Cut(String),
    /// The source cannot go on; why, for the user.
    Failed(String),
}

/// The number that a Punchcast encoder gave the frame in `unit`; `None` for any other unit.
#[must_use]
pub fn frame_number(unit: &Unit) -> Option<u64> {
    avc::stamp(unit).map(|stamp| stamp.frame)
}
