//! The punch core.
