//! Damaged RTMP: recorded sessions, mutated at random, in random splits, through each of the four roles. Nothing may
//! panic, hold more memory than the limits say, or hang.
//!
//! Everything follows from a seed, which a failure prints. `PUNCHCAST_SEED` replays one, `PUNCHCAST_MUTATIONS` makes
//! the sweep wider: `PUNCHCAST_MUTATIONS=1000000 cargo test --release --test rtmp_mutation -- --nocapture`.

#[path = "../fuzz/fuzz_targets/held.rs"]
mod held;
mod rtmp_sessions;

use bytes::BufMut as _;
use fastrand::Rng;
use punchcast::app::Space;
use punchcast::media::{Kind, Unit};
use punchcast::rtmp::chunk::Writer;
use punchcast::rtmp::message::{Message, UserControl, VIDEO};
use punchcast::rtmp::{
    ClientEvent, ClientSession, Error, MAX_INPUT, Output, PlayConfig, PublishConfig, Refusal, ServerEvent,
    ServerSession,
};
use rtmp_sessions::{HANDSHAKE, Recordings, URL};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Mutations through each role.
const MUTATIONS: u64 = 3_000;

/// What a case may take. It is tried again before it counts: a loaded machine may stop any of them for so long.
const MAX_TIME: Duration = Duration::from_secs(1);

/// When a case has hung.
const HUNG: Duration = Duration::from_secs(20);

#[allow(clippy::disallowed_methods)] // The time that a session takes is what is measured.
fn clock() -> Instant {
    Instant::now()
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// Runs `case`, which returns the most that its session held, on every seed of the sweep.
fn sweep(role: &str, case: impl Fn(u64) -> usize + Sync) {
    if let Some(seed) = number("PUNCHCAST_SEED") {
        case(seed);
        return;
    }
    let seeds = number("PUNCHCAST_MUTATIONS").unwrap_or(MUTATIONS);
    let sweep = Sweep { started: clock(), next: AtomicU64::new(0), most: AtomicUsize::new(0) };
    let slowest = Mutex::new((Duration::ZERO, 0));
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    // What each worker is at: a seed plus one, and the milliseconds at which it began.
    let at: Vec<[AtomicU64; 2]> = (0..workers).map(|_| Default::default()).collect();
    std::thread::scope(|scope| {
        let threads: Vec<_> = at
            .iter()
            .map(|at| {
                let (sweep, case, slowest) = (&sweep, &case, &slowest);
                scope.spawn(move || sweep.work(seeds, at, case, slowest))
            })
            .collect();
        while threads.iter().any(|thread| !thread.is_finished()) {
            std::thread::park_timeout(Duration::from_millis(50));
            for [seed, since] in &at {
                let (seed, since) = (seed.load(Ordering::Acquire), since.load(Ordering::Acquire));
                let hung = sweep.now().saturating_sub(since) > HUNG.as_millis() as u64;
                if seed > 0 && hung && threads.iter().any(|thread| !thread.is_finished()) {
                    eprintln!("{role}: hung; replay with PUNCHCAST_SEED={}", seed - 1);
                    std::process::abort();
                }
            }
        }
    });
    let (slowest, seed) = slowest.into_inner().expect("no worker has panicked");
    let (most, took) = (sweep.most.into_inner(), clock() - sweep.started);
    println!(
        "{role}: {seeds} mutations in {took:.1?}, at most {most} bytes held, {slowest:.1?} in seed {seed}"
    );
}

struct Sweep {
    started: Instant,
    next: AtomicU64,
    most: AtomicUsize,
}

impl Sweep {
    fn now(&self) -> u64 {
        (clock() - self.started).as_millis() as u64
    }

    fn work(
        &self,
        seeds: u64,
        at: &[AtomicU64; 2],
        case: &(impl Fn(u64) -> usize + Sync),
        slowest: &Mutex<(Duration, u64)>,
    ) {
        let mut own_slowest = (Duration::ZERO, 0);
        loop {
            let seed = self.next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                at[0].store(0, Ordering::Release);
                let mut slowest = slowest.lock().expect("held for a comparison only");
                *slowest = own_slowest.max(*slowest);
                return;
            }
            at[1].store(self.now(), Ordering::Release);
            at[0].store(seed + 1, Ordering::Release);
            let timed = || {
                let started = clock();
                let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| case(seed)));
                let held = run.unwrap_or_else(|panic| {
                    eprintln!("replay with PUNCHCAST_SEED={seed}");
                    // The others have nothing more to find.
                    self.next.store(u64::MAX / 2, Ordering::Relaxed);
                    std::panic::resume_unwind(panic);
                });
                self.most.fetch_max(held, Ordering::Relaxed);
                clock() - started
            };
            let mut took = timed();
            if took >= MAX_TIME {
                took = timed();
            }
            own_slowest = own_slowest.max((took, seed));
            assert!(took < MAX_TIME, "seed {seed} took {took:?}");
        }
    }
}

/// Numbers that limits, signs and field widths are made of.
const EDGES: [u32; 12] =
    [0, 1, 2, 0x7f, 0x80, 0xff, 0xffff, 0xff_fffe, 0xff_ffff, 0x0100_0000, 0x7fff_ffff, u32::MAX];

fn mutate(rng: &mut Rng, base: &[u8], other: &[u8]) -> Vec<u8> {
    // Most of the damage that can be done is done in the first messages of each kind; the rest is time.
    let length = if rng.u8(0..16) > 0 { HANDSHAKE + rng.usize(500..8_000) } else { base.len() };
    let mut bytes = base[..length.min(base.len())].to_vec();
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
    let mut write = |id, kind, stream, timestamp, payload: Vec<u8>| {
        let message = Message { kind, stream, timestamp, payload: payload.into() };
        let mut bytes = Vec::new();
        writer.write(id, &message, &mut bytes).unwrap();
        bytes
    };
    match rng.u8(0..8) {
        0 => return rtmp_sessions::chunk_size(EDGES[rng.usize(1..EDGES.len())]),
        1 => {
            let nested = [[10, 0, 0, 0, 1].repeat(200), [3, 0, 1, b'k'].repeat(200)];
            let mut payload = b"\x02\x00\x07connect\x00\x3f\xf0\x00\x00\x00\x00\x00\x00".to_vec();
            payload.extend_from_slice(&nested[rng.usize(..2)]);
            out.extend(write(id, 20, 0, 0, payload));
        }
        2 => {
            // The beginning of a long message, as it could be on each of many chunk streams.
            out.extend(write(id, VIDEO, 1, 0, vec![7; rng.usize(1000..100_000)]));
            out.truncate(12 + 128);
        }
        3 => {
            let mut payload = vec![0; rng.usize(0..40)];
            rng.fill(&mut payload);
            out.extend(write(id, rng.u8(0..24), rng.u32(0..3), rng.u32(..), payload));
        }
        4 => {
            let mut tag = [VIDEO; 15];
            rng.fill(&mut tag[1..5]);
            out.extend(write(id, 22, 1, 0, tag.repeat(9)));
        }
        5 => out.extend(write(id, 22, 1, 0, [&[8, 0, 0, 0][..], &[0; 11]].concat().repeat(1100))),
        6 => {
            // An enhanced header that modifies itself, or has many tracks, or ends too soon.
            let mut payload = [&[0x97_u8, 0][..], &[0, 7, 0, 0x76].repeat(rng.usize(0..9))].concat();
            payload.extend(std::iter::repeat_with(|| rng.u8(..)).take(8));
            let kind = if rng.bool() { 8 } else { 9 };
            out.extend(write(id, kind, 1, 0, payload));
        }
        _ => {
            for _ in 0..20 {
                out.extend(write(
                    2,
                    4,
                    0,
                    0,
                    UserControl::PingRequest(rng.u32(..)).message().payload.to_vec(),
                ));
            }
        }
    }
    out
}

/// Pieces of one size or of many, none larger than a driver reads.
fn pieces<'a>(rng: &mut Rng, bytes: &'a [u8]) -> Vec<&'a [u8]> {
    match rng.u8(0..16) {
        0 if bytes.len() < 20_000 => bytes.chunks(1).collect(),
        1 | 2 => {
            let (mut rest, mut pieces) = (bytes, Vec::new());
            while !rest.is_empty() {
                let (piece, more) = rest.split_at(rng.usize(1..=rest.len().min(300)));
                pieces.push(piece);
                rest = more;
            }
            pieces
        }
        3..8 => bytes.chunks(MAX_INPUT).collect(),
        _ => bytes.chunks(rng.usize(500..5000)).collect(),
    }
}

fn a_unit() -> Unit {
    Unit { kind: Kind::Video, timestamp: 0, payload: vec![0x17; 300].into() }
}

/// A unit keeps its own bytes and no more of the message that it came in, so that who counts its length counts what it costs.
fn keeps_itself_alone(unit: Unit) {
    let kept = unit.payload.try_into_mut().expect("nobody else has a part of it");
    assert_eq!(kept.capacity(), kept.len());
}

/// Puts a piece where the session wants it, as a driver does that reads it; what is beside.
fn place<'a>(space: Option<Space<'_>>, piece: &'a [u8]) -> &'a [u8] {
    let Some(Space { into: Some(mut into), .. }) = space else { return piece };
    let (placed, beside) = piece.split_at(into.remaining_mut().min(piece.len()));
    into.put_slice(placed);
    beside
}

fn serve(seed: u64, bases: &[Vec<u8>], others: &[Vec<u8>]) -> usize {
    let mut rng = Rng::with_seed(seed);
    let (base, other) = (&bases[rng.usize(..bases.len())], &others[rng.usize(..others.len())]);
    let bytes = mutate(&mut rng, base, other);
    let mut server = ServerSession::new(seed);
    let (mut failed, mut most, mut fed) = (false, 0, 0);
    for piece in pieces(&mut rng, &bytes) {
        fed += piece.len();
        let beside = place(server.space(), piece);
        let count = piece.len() - beside.len();
        failed |= count > 0 && server.handle_placed(count).is_err();
        let result = server.handle_input(beside);
        most = most.max(held::bounded(server.buffered_bytes(), fed, piece.len()));
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
                    most = most.max(held::bounded(server.buffered_bytes(), fed, piece.len()));
                    drop(server.send_media(&a_unit()));
                }
                Output::Event(ServerEvent::Media(unit)) => {
                    assert!(!unit.payload.is_empty());
                    let _ = (unit.is_keyframe(), unit.packet());
                    keeps_itself_alone(unit);
                }
                Output::Event(ServerEvent::PublishEnded(_) | ServerEvent::PlayEnded(_)) => {}
            }
        }
        // Answers may have failed as well.
        failed |= server.handle_input(&[]).is_err();
        // A reply may be longer than its request, but within reason.
        assert!(transmitted <= 4096 + 64 * piece.len(), "{transmitted} bytes for {}", piece.len());
    }
    server.finish_play();
    most
}

fn visit(seed: u64, mut client: ClientSession, bases: &[Vec<u8>], others: &[Vec<u8>]) -> usize {
    let mut rng = Rng::with_seed(seed);
    let (base, other) = (&bases[rng.usize(..bases.len())], &others[rng.usize(..others.len())]);
    let bytes = mutate(&mut rng, base, other);
    let (mut failed, mut most, mut fed) = (false, 0, 0);
    for piece in pieces(&mut rng, &bytes) {
        fed += piece.len();
        let beside = place(client.space(), piece);
        let count = piece.len() - beside.len();
        failed |= count > 0 && client.handle_placed(count).is_err();
        let result = client.handle_input(beside);
        most = most.max(held::bounded(client.buffered_bytes(), fed, piece.len()));
        assert!(!failed || result.is_err(), "a failed session takes no more");
        failed |= result.is_err();
        while let Some(output) = client.poll_output() {
            match output {
                Output::Event(ClientEvent::Publishing) => {
                    // The same input may have ended the stream already.
                    let sent = client.send_media(&a_unit());
                    assert!(matches!(sent, Ok(()) | Err(Error::NotReady)), "{sent:?}");
                }
                Output::Event(ClientEvent::Media(unit)) => {
                    assert!(!unit.payload.is_empty());
                    let _ = (unit.is_keyframe(), unit.packet());
                    keeps_itself_alone(unit);
                }
                Output::Event(ClientEvent::Playing) => client.ping(seed as u32),
                Output::Event(ClientEvent::Ended) | Output::Transmit(_) => {}
            }
        }
        client.poll_pong();
    }
    client.finish();
    most
}

#[test]
fn a_server_survives_damaged_publishers() {
    let recordings = Recordings::new();
    sweep("server publish", |seed| serve(seed, &recordings.publishers, &recordings.players));
}

#[test]
fn a_server_survives_damaged_players() {
    let recordings = Recordings::new();
    sweep("server play", |seed| serve(seed, &recordings.players, &recordings.publishers));
}

#[test]
fn a_publisher_survives_damaged_servers() {
    let recordings = Recordings::new();
    sweep("client publish", |seed| {
        let client = ClientSession::publisher(PublishConfig::new(URL).unwrap());
        visit(seed, client, &recordings.for_publishers, &recordings.for_players)
    });
}

#[test]
fn a_player_survives_damaged_servers() {
    let recordings = Recordings::new();
    sweep("client play", |seed| {
        let client = ClientSession::player(PlayConfig::new(URL).unwrap());
        visit(seed, client, &recordings.for_players, &recordings.for_publishers)
    });
}
