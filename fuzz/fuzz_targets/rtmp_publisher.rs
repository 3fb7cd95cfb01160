//! A client's session that publishes.
#![no_main]

mod client;

use libfuzzer_sys::fuzz_target;
use punchcast::rtmp::{ClientSession, PublishConfig};

fuzz_target!(|data: &[u8]| {
    let config = PublishConfig::new("rtmp://127.0.0.1/live/key").expect("well formed");
    client::drive(ClientSession::publisher(config), data);
});
