//! Damaged RTMP: recordings of ffmpeg, mutated at random, in random splits. Nothing may panic, hold more memory than
//! the limits say, or take longer than its length explains.
//!
//! Everything follows from a seed, which a failure prints. `PUNCHCAST_SEED` replays one, `PUNCHCAST_MUTATIONS` makes
//! the sweep wider.

use fastrand::Rng;
use punchcast::media::{Kind, Unit};
use punchcast::rtmp::chunk::{MAX_IN_PROGRESS, Writer};
use punchcast::rtmp::message::{Message, UserControl, VIDEO};
use punchcast::rtmp::{
    ClientEvent, ClientSession, Output, PlayConfig, PublishConfig, Refusal, ServerEvent, ServerSession,
};
use std::time::{Duration, Instant};

const PUBLISH: &[u8] = include_bytes!("data/rtmp/ffmpeg-publish.bin");
const PLAY: &[u8] = include_bytes!("data/rtmp/ffmpeg-play.bin");
const FOR_PUBLISHER: &[u8] = include_bytes!("data/rtmp/ffmpeg-listens-for-publisher.bin");
const FOR_PLAYER: &[u8] = include_bytes!("data/rtmp/ffmpeg-listens-for-player.bin");

/// The hello of either side, which mutations mostly leave alone: behind a damaged one there is nothing to test.
const HANDSHAKE: usize = 1 + 2 * 1536;

/// Streams through the server's and through the client's session, each.
const MUTATIONS: u64 = 6_000;

/// What a session may hold: messages in progress, what waits for an answer, and replies to one input.
const MAX_HELD: usize = MAX_IN_PROGRESS + (4 << 20) + (1 << 20);

/// Far beyond what 100 KB take, on any machine; far below what quadratic work takes.
const MAX_TIME: Duration = Duration::from_secs(5);

#[allow(clippy::disallowed_methods)] // The time that a session takes is what is measured.
fn clock() -> Instant {
    Instant::now()
}

/// Runs `test` on every seed of the sweep.
fn sweep(test: impl Fn(u64)) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("PUNCHCAST_SEED") {
        return test(seed);
    }
    for seed in 0..number("PUNCHCAST_MUTATIONS").unwrap_or(MUTATIONS) {
        let started = clock();
        if let Err(panic) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| test(seed))) {
            eprintln!("replay with PUNCHCAST_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
        let took = clock() - started;
        assert!(took < MAX_TIME, "seed {seed} took {took:?}");
    }
}

/// Numbers that limits, signs and field widths are made of.
const EDGES: [u32; 12] =
    [0, 1, 2, 0x7f, 0x80, 0xff, 0xffff, 0xff_fffe, 0xff_ffff, 0x0100_0000, 0x7fff_ffff, u32::MAX];

fn mutate(rng: &mut Rng, base: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = base.to_vec();
    let first = if rng.u8(..) < 250 { HANDSHAKE } else { 0 };
    for _ in 0..rng.usize(1..=12) {
        if bytes.len() <= first + 1 {
            break;
        }
        // The commands come first and are short: half of the damage is done there.
        let last = if rng.bool() { bytes.len() } else { bytes.len().min(first + 1500) };
        let at = rng.usize(first..last);
        let end = (at + rng.usize(1..=64)).min(bytes.len());
        match rng.u8(0..9) {
            0 => bytes[at] ^= 1 << rng.u8(0..8),
            1 => bytes[at] = rng.u8(..),
            2 => {
                let edge = EDGES[rng.usize(..EDGES.len())].to_be_bytes();
                let width = rng.usize(1..=4).min(bytes.len() - at);
                bytes[at..at + width].copy_from_slice(&edge[4 - width..]);
            }
            3 => drop(bytes.drain(at..end)),
            4 => drop(bytes.splice(at..at, std::iter::repeat_with(|| rng.u8(..)).take(end - at))),
            5 => {
                let copy = bytes[at..end].to_vec();
                let to = rng.usize(first..bytes.len());
                drop(bytes.splice(to..to, copy));
            }
            6 => bytes[at..end].fill(rng.u8(..)),
            7 => drop(bytes.splice(at..end, hostile(rng))),
            _ => {
                let from = rng.usize(HANDSHAKE.min(other.len() - 1)..other.len());
                let to = (from + rng.usize(1..=4096)).min(other.len());
                drop(bytes.splice(at..end, other[from..to].iter().copied()));
            }
        }
    }
    bytes
}

/// Well-formed pieces with ill will.
fn hostile(rng: &mut Rng) -> Vec<u8> {
    let (mut writer, mut out) = (Writer::new(), Vec::new());
    let id = rng.u32(2..=70);
    match rng.u8(0..6) {
        0 => writer.set_chunk_size(EDGES[rng.usize(1..EDGES.len())], &mut out),
        1 => {
            let nested = [[10, 0, 0, 0, 1].repeat(200), [3, 0, 1, b'k'].repeat(200)];
            let mut payload = b"\x02\x00\x07connect\x00\x3f\xf0\x00\x00\x00\x00\x00\x00".to_vec();
            payload.extend_from_slice(&nested[rng.usize(..2)]);
            let message = Message { kind: 20, stream: 0, timestamp: 0, payload: payload.into() };
            writer.write(id, &message, &mut out).unwrap();
        }
        2 => {
            // The beginning of a long message on each of many chunk streams.
            let payload = vec![7; rng.usize(1000..100_000)];
            let message = Message { kind: VIDEO, stream: 1, timestamp: 0, payload: payload.into() };
            writer.write(id, &message, &mut out).unwrap();
            out.truncate(12 + 128);
        }
        3 => {
            let mut payload = vec![0; rng.usize(0..40)];
            rng.fill(&mut payload);
            let (kind, stream) = (rng.u8(0..24), rng.u32(0..3));
            let message = Message { kind, stream, timestamp: rng.u32(..), payload: payload.into() };
            writer.write(id, &message, &mut out).unwrap();
        }
        4 => {
            let mut tag = [VIDEO; 15];
            rng.fill(&mut tag[1..5]);
            let message = Message { kind: 22, stream: 1, timestamp: 0, payload: tag.repeat(9).into() };
            writer.write(id, &message, &mut out).unwrap();
        }
        _ => {
            for _ in 0..20 {
                writer.write(2, &UserControl::PingRequest(rng.u32(..)).message(), &mut out).unwrap();
            }
        }
    }
    out
}

/// Pieces of one size or of many.
fn pieces<'a>(rng: &mut Rng, bytes: &'a [u8]) -> Vec<&'a [u8]> {
    match rng.u8(0..8) {
        0 => bytes.chunks(1).collect(),
        1 => vec![bytes],
        2 => {
            let (mut rest, mut pieces) = (bytes, Vec::new());
            while !rest.is_empty() {
                let (piece, more) = rest.split_at(rng.usize(1..=rest.len().min(300)));
                pieces.push(piece);
                rest = more;
            }
            pieces
        }
        _ => bytes.chunks(rng.usize(500..5000)).collect(),
    }
}

fn a_unit() -> Unit {
    Unit { kind: Kind::Video, timestamp: 0, payload: vec![0x17; 300].into() }
}

#[test]
fn a_server_session_survives_damaged_clients() {
    sweep(|seed| {
        let mut rng = Rng::with_seed(seed);
        let (base, other) = if rng.u8(0..3) > 0 { (PUBLISH, PLAY) } else { (PLAY, PUBLISH) };
        let bytes = mutate(&mut rng, base, other);
        let mut server = ServerSession::new(seed);
        let mut failed = false;
        for piece in pieces(&mut rng, &bytes) {
            let result = server.handle_input(piece);
            assert!(server.buffered_bytes() <= MAX_HELD);
            assert!(!failed || result.is_err(), "a failed session takes no more");
            failed |= result.is_err();
            let mut transmitted = 0;
            while let Some(output) = server.poll_output() {
                match output {
                    Output::Transmit(bytes) => transmitted += bytes.len(),
                    Output::Event(ServerEvent::Publish { stream, .. } | ServerEvent::Play { stream, .. }) => {
                        match rng.u8(0..8) {
                            0 => server.refuse(stream, Refusal::Busy),
                            1 => {}
                            _ => server.accept(stream),
                        }
                        drop(server.send_media(&a_unit()));
                    }
                    Output::Event(ServerEvent::Media(unit)) => assert!(!unit.payload.is_empty()),
                    Output::Event(ServerEvent::PublishEnded(_) | ServerEvent::PlayEnded(_)) => {}
                }
            }
            // Answers may have failed as well.
            failed |= server.handle_input(&[]).is_err();
            // A reply may be longer than its request, but within reason.
            assert!(transmitted <= 4096 + 64 * piece.len(), "{transmitted} bytes for {}", piece.len());
        }
    });
}

#[test]
fn a_client_session_survives_damaged_servers() {
    sweep(|seed| {
        let mut rng = Rng::with_seed(seed);
        let url = "rtmp://127.0.0.1/live/key";
        let plays = rng.u8(0..3) > 0;
        let (mut client, base, other) = if plays {
            (ClientSession::player(PlayConfig::new(url).unwrap()), FOR_PLAYER, FOR_PUBLISHER)
        } else {
            (ClientSession::publisher(PublishConfig::new(url).unwrap()), FOR_PUBLISHER, FOR_PLAYER)
        };
        let bytes = mutate(&mut rng, base, other);
        let mut failed = false;
        for piece in pieces(&mut rng, &bytes) {
            let result = client.handle_input(piece);
            assert!(client.buffered_bytes() <= MAX_HELD);
            assert!(!failed || result.is_err(), "a failed session takes no more");
            failed |= result.is_err();
            while let Some(output) = client.poll_output() {
                match output {
                    Output::Event(ClientEvent::Publishing) => client.send_media(&a_unit()).unwrap(),
                    Output::Event(ClientEvent::Media(unit)) => assert!(!unit.payload.is_empty()),
                    Output::Event(ClientEvent::Playing | ClientEvent::Ended) | Output::Transmit(_) => {}
                }
            }
        }
        client.finish();
    });
}
