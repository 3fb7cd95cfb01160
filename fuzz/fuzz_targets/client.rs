//! A client's session against what a server sends, for the targets that play and publish. The first byte says how input is
//! split; the rest is what comes behind the handshake.

#[path = "held.rs"]
mod held;

use punchcast::media::{Kind, Unit};
use punchcast::rtmp::{ClientEvent, ClientSession, Output};

pub fn drive(mut client: ClientSession, data: &[u8]) {
    let Some((&how, data)) = data.split_first() else { return };
    let mut hello = vec![3, 0, 0, 0, 0, how & 1, 0, 0, 0];
    hello.resize(1 + 2 * 1536, 0);
    client.handle_input(&hello).expect("a handshake");
    let mut fed = hello.len();
    for piece in data.chunks(1 << (how >> 4)) {
        fed += piece.len();
        let result = client.handle_input(piece);
        held::bounded(client.buffered_bytes(), fed, piece.len());
        while let Some(output) = client.poll_output() {
            match output {
                Output::Event(ClientEvent::Publishing | ClientEvent::Playing) => {
                    let unit = Unit { kind: Kind::Video, timestamp: 0, payload: vec![0x17; 300].into() };
                    drop(client.send_media(&unit));
                    client.ping(7);
                }
                Output::Event(ClientEvent::Media(unit)) => drop((unit.is_keyframe(), unit.packet())),
                Output::Event(ClientEvent::Ended) | Output::Transmit(_) => {}
            }
        }
        client.poll_pong();
        if result.is_err() {
            assert!(client.handle_input(piece).is_err(), "a failed session takes no more");
            return;
        }
    }
    client.finish();
}
