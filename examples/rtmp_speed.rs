//! How fast RTMP's chunk layer writes and reads, beside a plain copy of the same bytes in the same run.
//!
//! Every figure is taken in one way: messages of the sizes that video has, one after another out of a store several
//! times as large as any cache, each into memory that was allocated for it and is freed only when as much again has
//! been written since. So neither what is read nor what is written is in a cache, and what a message costs is a copy
//! from memory to memory. The operations take turns in short slices; whoever else uses the machine disturbs some of
//! them, so that the figures are those of the fastest tenth, and their ratios.
//!
//! `scripts/bench/rtmp` runs this. Its last line is JSON, with each ratio. It ends with 1 if one is below its
//! target.

use bytes::Bytes;
use punchcast::media::{Kind, Unit};
use punchcast::rtmp::chunk::{Pieces, Reader, Writer};
use punchcast::rtmp::message::{Message, VIDEO};
use punchcast::rtmp::{
    ClientEvent, ClientSession, Output, PlayConfig, PublishConfig, ServerEvent, ServerSession,
};
use std::cell::Cell;
use std::collections::VecDeque;
use std::hint::black_box;
use std::process::ExitCode;
use std::time::Instant;

/// The parts of the store. A turn takes the next but four, so that all have their turn before one comes again.
const SLICES: usize = 9;

/// Bytes of payload in a part: nine of them are six times a cache of 16 MiB.
const SLICE: usize = 12 << 20;

/// Bytes of results that are kept before the oldest are freed.
const HELD: usize = 64 << 20;

/// Results freed at once, so that memory is allocated again while a cache still has it. Plain copies gain the most by
/// that, which makes the ratios lower; they are told and have no target.
const HOT: usize = 0;

/// What frames of a live picture have, bytes: 60 of the middle size a second are 60 Mbit/s.
const SIZES: std::ops::Range<usize> = 50_000..200_000;

/// Turns of every operation.
const ROUNDS: usize = 150;

/// What two plain copies beside each other differ by at most, as the control shows: what a ratio may miss its target by.
const RESOLUTION: f64 = 0.02;

/// What a read from a socket brings at most, and so the piece in which bytes come to a reader.
const PIECE: usize = 64 << 10;

/// Chunk sizes, and the least that writing and reading must reach of a plain copy.
const TARGETS: [(u32, f64, f64); 3] = [(128, 0.8, 0.5), (4096, 0.85, 0.8), (65_536, 1.0, 0.9)];

fn main() -> ExitCode {
    let store = Store::new();
    println!("{:>10} {:>10} {:>8} {:>22} {:>22}", "chunk size", "copy", "control", "write", "read");
    let mut missed = false;
    let mut ratios = serde_json::Map::new();
    for (chunk_size, write_target, read_target) in TARGETS {
        let [copy, control, write, read] = measure(&store, chunk_size, HELD);
        let cell = |rate: f64, target: f64| {
            let ratio = rate / copy;
            let verdict = if ratio + RESOLUTION < target { "MISSED" } else { "ok" };
            (format!("{ratio:>6.2} (≥ {target:.2}) {verdict:<6}"), ratio + RESOLUTION < target)
        };
        for (what, rate) in [("serialise", write), ("parse", read)] {
            ratios.insert(format!("{what}_{chunk_size}"), (rate / copy).into());
        }
        let (write, write_missed) = cell(write, write_target);
        let (read, read_missed) = cell(read, read_target);
        println!("{chunk_size:>10} {copy:>5.1} GB/s {:>8.2} {write:>22} {read:>22}", control / copy);
        missed |= write_missed || read_missed;
    }
    for (chunk_size, ..) in TARGETS {
        let [copy, control, write, read] = measure(&store, chunk_size, HOT);
        let [control, write, read] = [control, write, read].map(|rate| rate / copy);
        println!(
            "{chunk_size:>10} {copy:>5.1} GB/s {control:>8.2} {write:>6.2} into cache {read:>13.2} into cache"
        );
    }
    let [copy, publish, play] = sessions(&store);
    println!(
        "sessions, sender and receiver in one thread: publishing {:.2}, playing {:.2}",
        publish / copy,
        play / copy
    );
    println!("{}", serde_json::Value::from(ratios));
    ExitCode::from(u8::from(missed))
}

/// What is sent, and where the next turn begins.
struct Store {
    slices: Vec<Vec<Message>>,
    turn: Cell<usize>,
}

impl Store {
    fn new() -> Self {
        Self { slices: (0..SLICES).map(|slice| messages(slice as u64)).collect(), turn: Cell::new(0) }
    }

    /// The slice of the next turn.
    fn next(&self) -> usize {
        let turn = self.turn.get();
        self.turn.set(turn + 1);
        4 * turn % SLICES
    }
}

/// Results that are not freed yet.
struct Held<T> {
    results: VecDeque<(usize, T)>,
    bytes: usize,
    limit: usize,
}

impl<T> Held<T> {
    const fn new(limit: usize) -> Self {
        Self { results: VecDeque::new(), bytes: 0, limit }
    }

    fn keep(&mut self, bytes: usize, result: T) {
        self.results.push_back((bytes, black_box(result)));
        self.bytes += bytes;
        while self.bytes > self.limit
            && let Some((bytes, _)) = self.results.pop_front()
        {
            self.bytes -= bytes;
        }
    }
}

fn messages(seed: u64) -> Vec<Message> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let (mut messages, mut sum) = (Vec::new(), 0);
    while sum < SLICE {
        let mut payload = vec![0; rng.usize(SIZES)];
        rng.fill(&mut payload);
        sum += payload.len();
        let timestamp = 17 * messages.len() as u32;
        messages.push(Message { kind: VIDEO, stream: 1, timestamp, payload: payload.into() });
    }
    messages
}

/// Speeds of the copy, of the copy once more, of writing and of reading.
fn measure(store: &Store, chunk_size: u32, limit: usize) -> [f64; 4] {
    let mut writer = Writer::new();
    writer.set_chunk_size(chunk_size, &mut Vec::new());
    let wires: Vec<Vec<u8>> = store.slices.iter().map(|messages| wire(messages, chunk_size)).collect();
    let (mut reader, mut held, mut written) = (Reader::new(), Held::new(limit), Held::new(limit));
    let mut rates: [Vec<f64>; 4] = Default::default();
    for _ in 0..ROUNDS {
        for (operation, rates) in rates.iter_mut().enumerate() {
            let slice = store.next();
            let messages = &store.slices[slice];
            rates.push(rate(messages, || match operation {
                0 | 1 => copy(messages, &mut held),
                2 => write(&mut writer, messages, &mut written),
                _ => read(&mut reader, &wires[slice], messages.len(), &mut held),
            }));
        }
    }
    rates.map(fastest)
}

fn copy(messages: &[Message], held: &mut Held<Bytes>) {
    for message in messages {
        held.keep(message.payload.len(), Bytes::from(message.payload.to_vec()));
    }
}

fn write(writer: &mut Writer, messages: &[Message], held: &mut Held<Pieces>) {
    for message in messages {
        let mut out = Pieces::default();
        writer.write(VIDEO_CHANNEL, message, &mut out).expect("short enough");
        held.keep(out.len(), out);
    }
}

fn read(reader: &mut Reader, wire: &[u8], expected: usize, held: &mut Held<Bytes>) {
    let mut count = 0;
    for mut piece in wire.chunks(PIECE) {
        while let Some(message) = reader.read(&mut piece).expect("well formed") {
            count += 1;
            held.keep(message.payload.len(), message.payload);
        }
    }
    assert_eq!(count, expected);
}

/// The messages as they are sent, in a way that can be read time and again: each part begins with a full header.
fn wire(messages: &[Message], chunk_size: u32) -> Vec<u8> {
    let (mut writer, mut wire) = (Writer::new(), Vec::new());
    writer.set_chunk_size(chunk_size, &mut wire);
    for message in messages {
        writer.write(VIDEO_CHANNEL, message, &mut wire).expect("short enough");
    }
    wire
}

/// Speeds of the copy, and of both roles that receive, each fed by the role that sends to it: two copies.
fn sessions(store: &Store) -> [f64; 3] {
    let url = "rtmp://127.0.0.1/live/key";
    let mut publisher = ClientSession::publisher(PublishConfig::new(url).expect("well formed"));
    let mut ingest = ServerSession::new(1);
    shake_hands(&mut publisher, &mut ingest);
    let mut player = ClientSession::player(PlayConfig::new(url).expect("well formed"));
    let mut origin = ServerSession::new(2);
    shake_hands(&mut player, &mut origin);

    let mut held = Held::new(HELD);
    let mut rates: [Vec<f64>; 3] = Default::default();
    for _ in 0..ROUNDS {
        for (operation, rates) in rates.iter_mut().enumerate() {
            let messages = &store.slices[store.next()];
            rates.push(rate(messages, || match operation {
                0 => copy(messages, &mut held),
                1 => units(messages).for_each(|unit| {
                    publisher.send_media(&unit).expect("publishing");
                    carry(&mut publisher, &mut ingest, &mut held);
                }),
                _ => units(messages).for_each(|unit| {
                    origin.send_media(&unit).expect("playing");
                    carry(&mut player, &mut origin, &mut held);
                }),
            }));
        }
    }
    rates.map(fastest)
}

fn units(messages: &[Message]) -> impl Iterator<Item = Unit> + '_ {
    messages.iter().map(|message| Unit {
        kind: Kind::Video,
        timestamp: message.timestamp,
        payload: message.payload.clone(),
    })
}

fn shake_hands(client: &mut ClientSession, server: &mut ServerSession) {
    while !carry(client, server, &mut Held::new(HELD)) {}
}

/// Carries what either side has to say; true once media may be sent.
fn carry(client: &mut ClientSession, server: &mut ServerSession, held: &mut Held<Bytes>) -> bool {
    let mut active = false;
    while let Some(output) = client.poll_output() {
        match output {
            Output::Transmit(bytes) => {
                for piece in bytes.chunks(PIECE) {
                    server.handle_input(piece).expect("well formed");
                }
            }
            Output::Event(ClientEvent::Media(unit)) => held.keep(unit.payload.len(), unit.payload),
            Output::Event(event) => active |= matches!(event, ClientEvent::Publishing | ClientEvent::Playing),
        }
    }
    while let Some(output) = server.poll_output() {
        match output {
            Output::Transmit(bytes) => {
                for piece in bytes.chunks(PIECE) {
                    client.handle_input(piece).expect("well formed");
                }
            }
            Output::Event(ServerEvent::Publish { stream, .. } | ServerEvent::Play { stream, .. }) => {
                server.accept(stream);
            }
            Output::Event(ServerEvent::Media(unit)) => held.keep(unit.payload.len(), unit.payload),
            Output::Event(_) => {}
        }
    }
    active
}

/// Gigabytes of payload a second.
fn rate(messages: &[Message], run: impl FnOnce()) -> f64 {
    let bytes: usize = messages.iter().map(|message| message.payload.len()).sum();
    let started = clock();
    run();
    let took = clock() - started;
    bytes as f64 / took.as_secs_f64() / 1e9
}

#[allow(clippy::disallowed_methods)] // Time is what is measured.
fn clock() -> Instant {
    Instant::now()
}

/// The slowest of the fastest tenth.
fn fastest(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() * 9 / 10]
}

/// Any chunk stream whose header is one byte, as those that the sessions use are.
const VIDEO_CHANNEL: u32 = 6;
