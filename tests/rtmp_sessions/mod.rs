//! Whole sessions as bytes: what ffmpeg sent (`tests/data/rtmp`), what OBS's library sends, and what our own sessions
//! send each other, with the media that ffmpeg's recordings are too old for.

use bytes::Bytes;
use punchcast::media::{Kind, Unit};
use punchcast::rtmp::amf0::Value;
use punchcast::rtmp::chunk::Writer;
use punchcast::rtmp::message::{AGGREGATE, AUDIO, Message, UserControl, VIDEO};
use punchcast::rtmp::{
    ClientEvent, ClientSession, Output, PlayConfig, PublishConfig, ServerEvent, ServerSession,
};

/// The hello of either side, which mutations mostly leave alone: behind a damaged one there is nothing to test.
pub(crate) const HANDSHAKE: usize = 1 + 2 * 1536;

pub(crate) const URL: &str = "rtmp://127.0.0.1/live/key";

/// Recorded sessions, by who is to hear them.
pub(crate) struct Recordings {
    /// For a server that is published to.
    pub(crate) publishers: Vec<Vec<u8>>,
    /// For a server that is played from.
    pub(crate) players: Vec<Vec<u8>>,
    /// For a client that publishes.
    pub(crate) for_publishers: Vec<Vec<u8>>,
    /// For a client that plays.
    pub(crate) for_players: Vec<Vec<u8>>,
}

impl Recordings {
    pub(crate) fn new() -> Self {
        let (publisher, for_publisher) =
            record(ClientSession::publisher(PublishConfig::new(URL).expect("well formed")));
        let (player, for_player) = record(ClientSession::player(PlayConfig::new(URL).expect("well formed")));
        Self {
            publishers: vec![include_bytes!("../data/rtmp/ffmpeg-publish.bin").to_vec(), obs(), publisher],
            players: vec![include_bytes!("../data/rtmp/ffmpeg-play.bin").to_vec(), player],
            for_publishers: vec![
                include_bytes!("../data/rtmp/ffmpeg-listens-for-publisher.bin").to_vec(),
                for_publisher,
            ],
            for_players: vec![
                include_bytes!("../data/rtmp/ffmpeg-listens-for-player.bin").to_vec(),
                for_player,
            ],
        }
    }
}

/// The announcement of a chunk size.
pub(crate) fn chunk_size(size: u32) -> Vec<u8> {
    let mut out = Vec::new();
    Writer::new().set_chunk_size(size, &mut out);
    out
}

/// What `client` and a server send each other: a whole session with media of every kind, and pings.
fn record(mut client: ClientSession) -> (Vec<u8>, Vec<u8>) {
    let mut server = ServerSession::new(2);
    // Other servers ping, ours does not.
    let mut pings = Writer::new();
    let (mut said, mut heard) = (Vec::new(), Vec::new());
    let mut active = false;
    for round in 0..12 {
        while let Some(output) = client.poll_output() {
            match output {
                Output::Transmit(bytes) => {
                    server.handle_input(&bytes).expect("well formed");
                    said.extend(bytes);
                }
                Output::Event(event) => {
                    active |= matches!(event, ClientEvent::Publishing | ClientEvent::Playing);
                }
            }
        }
        while let Some(output) = server.poll_output() {
            match output {
                Output::Transmit(bytes) => {
                    client.handle_input(&bytes).expect("well formed");
                    heard.extend(bytes);
                }
                Output::Event(ServerEvent::Publish { stream, .. } | ServerEvent::Play { stream, .. }) => {
                    server.accept(stream);
                }
                Output::Event(_) => {}
            }
        }
        if active {
            for unit in media(40 * round) {
                // One of the two has the role that sends.
                let sent = client.send_media(&unit).or_else(|_| server.send_media(&unit));
                sent.expect("one side sends");
            }
            client.ping(round);
            let mut ping = Vec::new();
            pings
                .write(8, &UserControl::PingRequest(round + 1000).message(), &mut ping)
                .expect("short enough");
            client.handle_input(&ping).expect("well formed");
            heard.extend(ping);
        }
    }
    server.finish_play();
    client.finish();
    while let Some(output) = client.poll_output() {
        if let Output::Transmit(bytes) = output {
            said.extend(bytes);
        }
    }
    while let Some(output) = server.poll_output() {
        if let Output::Transmit(bytes) = output {
            heard.extend(bytes);
        }
    }
    (said, heard)
}

/// A group of units at `timestamp`, older and enhanced.
pub(crate) fn media(timestamp: u32) -> Vec<Unit> {
    let unit = |kind, payload: &[u8], length: usize| {
        let mut payload = payload.to_vec();
        payload.resize(payload.len() + length, 0x55);
        Unit { kind, timestamp, payload: Bytes::from(payload) }
    };
    vec![
        unit(Kind::Data, &metadata(), 0),
        unit(Kind::Video, b"\x17\x00\0\0\0", 30),
        unit(Kind::Audio, b"\xaf\x00", 2),
        unit(Kind::Video, b"\x17\x01\0\0\0", 700),
        unit(Kind::Audio, b"\xaf\x01", 90),
        unit(Kind::Video, b"\x90hvc1", 40),
        unit(Kind::Video, b"\x91hvc1\0\0\0", 300),
        unit(Kind::Video, b"\x97\x02\0\x01\0\x03av01", 200),
        unit(Kind::Video, b"\x96\x01avc1\x00", 100),
        unit(Kind::Audio, b"\x90Opus", 19),
        unit(Kind::Audio, b"\x91Opus", 60),
    ]
}

fn metadata() -> Vec<u8> {
    let mut payload = Vec::new();
    Value::string("onMetaData").encode(&mut payload);
    Value::EcmaArray(vec![
        ("width".into(), Value::Number(640.0)),
        ("encoder".into(), Value::string("a recorded session")),
    ])
    .encode(&mut payload);
    payload
}

/// As OBS's librtmp publishes: chunks of 4096 bytes announced before `connect`, a digest handshake's C1, all of the
/// stream on one chunk stream, and what servers of its day sent back in aggregates.
fn obs() -> Vec<u8> {
    let (mut out, mut writer) = (vec![3, 0, 0, 0, 0, 9, 0, 124, 2], Writer::new());
    out.resize(HANDSHAKE, 0x5a);
    writer.set_chunk_size(4096, &mut out);
    let mut say = |id, message: &Message| writer.write(id, message, &mut out).expect("short enough");
    let connect = Value::object([
        ("app", Value::string("live")),
        ("type", Value::string("nonprivate")),
        ("flashVer", Value::string("FMLE/3.0 (compatible; FMSc/1.0)")),
        ("tcUrl", Value::string("rtmp://127.0.0.1/live")),
        ("fourCcList", Value::StrictArray(vec![Value::string("av01"), Value::string("hvc1")])),
        ("capsEx", Value::Number(3.0)),
    ]);
    let name = [Value::Null, Value::string("key")];
    say(3, &Message::command(0, "connect", 1.0, &[connect]));
    say(3, &Message::command(0, "releaseStream", 2.0, &name));
    say(3, &Message::command(0, "FCPublish", 3.0, &name));
    say(3, &Message::command(0, "createStream", 4.0, &[Value::Null]));
    let publish = [Value::Null, Value::string("key"), Value::string("live")];
    say(4, &Message::command(1, "publish", 5.0, &publish));
    for timestamp in (0..400).step_by(40) {
        for Unit { kind, payload, .. } in media(timestamp) {
            say(4, &Message { kind: kind as u8, stream: 1, timestamp, payload });
        }
        say(2, &UserControl::PingRequest(timestamp).message());
        say(4, &Message { kind: AGGREGATE, stream: 1, timestamp, payload: aggregate(timestamp).into() });
    }
    say(3, &Message::command(0, "FCUnpublish", 6.0, &name));
    say(3, &Message::command(0, "deleteStream", 7.0, &[Value::Null, Value::Number(1.0)]));
    out
}

fn aggregate(timestamp: u32) -> Vec<u8> {
    let mut tags = Vec::new();
    for (kind, body) in [(AUDIO, &b"\xaf\x01sound"[..]), (VIDEO, b"\x27\x01\0\0\0picture")] {
        tags.extend_from_slice(&[kind, 0, 0, body.len() as u8]);
        tags.extend_from_slice(&timestamp.to_be_bytes()[1..]);
        tags.extend_from_slice(&[0; 4]);
        tags.extend_from_slice(body);
        tags.extend_from_slice(&(body.len() as u32 + 11).to_be_bytes());
    }
    tags
}
