//! Punchcast beside programs that it did not bring: browsers, ffmpeg, other servers.

mod browser;
