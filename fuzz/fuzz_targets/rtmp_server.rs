//! A server's session, published to and played from. The first byte says how input is split and requests are answered;
//! the rest is what a client sends behind its handshake.
#![no_main]

mod held;

use libfuzzer_sys::fuzz_target;
use punchcast::media::{Kind, Unit};
use punchcast::rtmp::{Output, Refusal, ServerEvent, ServerSession};

fuzz_target!(|data: &[u8]| {
    let Some((&how, data)) = data.split_first() else { return };
    let mut server = ServerSession::new(1);
    let mut hello = vec![3, 0, 0, 0, 0, how & 1, 0, 0, 0];
    hello.resize(1 + 2 * 1536, 0);
    server.handle_input(&hello).expect("a handshake");
    let mut fed = hello.len();
    for piece in data.chunks(1 << (how >> 4)) {
        fed += piece.len();
        let result = server.handle_input(piece);
        held::bounded(server.buffered_bytes(), fed, piece.len());
        while let Some(output) = server.poll_output() {
            if let Output::Event(ServerEvent::Publish { stream, .. } | ServerEvent::Play { stream, .. }) =
                output
            {
                match how >> 1 & 3 {
                    0 => server.refuse(stream, Refusal::Busy),
                    1 => {}
                    _ => server.accept(stream),
                }
                let unit = Unit { kind: Kind::Video, timestamp: 0, payload: vec![0x17; 300].into() };
                drop(server.send_media(&unit));
            }
        }
        if result.is_err() {
            assert!(server.handle_input(piece).is_err(), "a failed session takes no more");
            return;
        }
    }
    server.finish_play();
});
