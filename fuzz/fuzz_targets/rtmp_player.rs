//! A client's session that plays.
#![no_main]

mod client;

use libfuzzer_sys::fuzz_target;
use punchcast::rtmp::{ClientSession, PlayConfig};

fuzz_target!(|data: &[u8]| {
    let config = PlayConfig::new("rtmp://127.0.0.1/live/key").expect("well formed");
    client::drive(ClientSession::player(config), data);
});
