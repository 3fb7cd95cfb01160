//! What the media tests share: pattern units, and ffmpeg as the judge.

#![allow(dead_code, reason = "each test file uses its part")]

use punchcast::media::{Unit, flv};
use punchcast_client::source::encoder::Encoded;
use punchcast_client::source::{PatternCast, PatternConfig};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// The first `count` frames of a pattern, after what comes before them, as fast as they can be made.
pub(crate) fn collect_pattern(config: PatternConfig, count: u64) -> Vec<Unit> {
    let mut cast = PatternCast::new(config).unwrap();
    let mut units = vec![cast.metadata()];
    for frame in 0..count {
        let captured = Duration::from_millis(1_700_000_000_000 + frame * 1000 / u64::from(config.fps));
        let encoded = cast.encode(frame, captured, |unit| {
            units.push(unit);
            true
        });
        assert_eq!(encoded, Ok(Encoded::Emitted), "frame {frame}");
    }
    units
}

/// The pictures among `units`.
pub(crate) fn frames(units: &[Unit]) -> Vec<&Unit> {
    units.iter().filter(|unit| unit.is_picture()).collect()
}

/// The units as a file.
pub(crate) fn flv_file(units: &[Unit]) -> Vec<u8> {
    let writer = flv::Writer::new(false, true);
    let mut file = writer.header().to_vec();
    for unit in units {
        file.extend_from_slice(&writer.tag(unit));
    }
    file
}

/// A fresh directory for a test's files, below the one that cargo gives to tests.
pub(crate) fn temp_dir(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

/// The time, for tests that measure.
#[expect(clippy::disallowed_methods, reason = "a test of real time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// `None`, and a line that cannot be overlooked, when there is no ffmpeg here. Where it is required, its absence is a
/// failure.
pub(crate) fn ffmpeg_or_skip(test: &str) -> Option<()> {
    let runs = |program: &str| {
        Command::new(program).arg("-version").output().is_ok_and(|output| output.status.success())
    };
    if runs("ffmpeg") && runs("ffprobe") {
        return Some(());
    }
    let required = std::env::var("PUNCHCAST_REQUIRE_LAB").is_ok_and(|value| value == "1");
    assert!(!required, "missing here: ffmpeg, ffprobe; scripts/setup installs them");
    // Written straight to the descriptor: the test harness would keep what a passing test prints.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {test}: missing here: ffmpeg, ffprobe");
    None
}

/// What ffprobe finds in a file.
#[derive(Debug)]
pub(crate) struct Probe {
    /// Everything from warnings up.
    pub(crate) complaints: String,
    /// Decoded video frames.
    pub(crate) frames: u64,
    pub(crate) width: u64,
    pub(crate) height: u64,
}

pub(crate) fn ffprobe(path: &Path) -> Probe {
    let output = Command::new("ffprobe")
        .args(["-v", "warning", "-count_frames", "-show_streams", "-select_streams", "v:0", "-of", "json"])
        .arg(path)
        .output()
        .unwrap();
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let stream = &json["streams"][0];
    Probe {
        complaints: String::from_utf8(output.stderr).unwrap(),
        frames: stream["nb_read_frames"].as_str().unwrap_or("0").parse().unwrap(),
        width: stream["width"].as_u64().unwrap_or_default(),
        height: stream["height"].as_u64().unwrap_or_default(),
    }
}

/// Decodes a file whole; what ffmpeg complains of.
pub(crate) fn ffmpeg_decode(path: &Path) -> String {
    let output = Command::new("ffmpeg")
        .args(["-v", "warning", "-xerror", "-i"])
        .arg(path)
        .args(["-f", "null", "-"])
        .output()
        .unwrap();
    let complaints = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{complaints}");
    complaints
}
