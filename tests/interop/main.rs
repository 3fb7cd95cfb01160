//! Punchcast beside programs that it did not bring: browsers, ffmpeg, mpv, VLC, X servers, OBS's way of publishing.
//!
//! Where such a program is missing a test says `SKIPPED: why` and passes, or fails if `PUNCHCAST_REQUIRE_LAB` is 1
//! (`PUNCHCAST_REQUIRE_BROWSER` for the browser). What needs NATs is laid by `scripts/lab`, by the same hands as in `tests/netns`.

#![allow(clippy::disallowed_methods, reason = "real programs take real time")]

mod browser;
mod browser_share;
mod code;
mod cut;
mod file;
mod home;
mod late;
mod mpv;
mod obs;
mod opening;
mod play;
mod publish;
mod roles;
mod still;
mod streams;
mod tool;
mod vlc;
mod words;
mod x11;

#[path = "../netns/lab.rs"]
#[allow(dead_code, reason = "this and the next two serve the tests in namespaces first")]
mod lab;
#[path = "../netns/program.rs"]
#[allow(dead_code, reason = "see `lab`")]
mod program;
#[path = "../netns/scene.rs"]
#[allow(dead_code, reason = "see `lab`")]
mod scene;
