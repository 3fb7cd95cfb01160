//! What a viewer recorded.

use punchcast::media::flv::Reader;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A file of this test alone, gone with it.
pub(crate) struct Recording(PathBuf);

impl Recording {
    pub(crate) fn new() -> Self {
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        let name =
            format!("punchcast-test-{}-{}.flv", std::process::id(), SERIAL.fetch_add(1, Ordering::Relaxed));
        Self(env::temp_dir().join(name))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The numbers that the source gave the recorded frames, in their order.
    pub(crate) fn frame_numbers(&self) -> Vec<u64> {
        let bytes = fs::read(&self.0).unwrap_or_else(|error| panic!("no recording: {error}"));
        let mut reader = Reader::new();
        reader.push(&bytes);
        let mut numbers = Vec::new();
        while let Some(unit) = reader.next().expect("a recording is FLV") {
            numbers.extend(punchcast_client::source::frame_number(&unit));
        }
        numbers
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Holds the numbers to rise by one.
pub(crate) fn assert_no_gap(numbers: &[u64]) {
    let gaps: Vec<_> = numbers.windows(2).filter(|pair| pair[1] != pair[0] + 1).collect();
    assert!(gaps.is_empty(), "gaps in {} frames: {gaps:?}", numbers.len());
}
