//! What ffmpeg sends, replayed whole and in the smallest pieces: the events must be the same, and the right ones.

use punchcast::media::{Kind, Unit};
use punchcast::rtmp::{
    ClientEvent, ClientSession, Output, PlayConfig, PublishConfig, ServerEvent, ServerSession, StreamId,
    StreamKey,
};

const PUBLISH: &[u8] = include_bytes!("data/rtmp/ffmpeg-publish.bin");
const PLAY: &[u8] = include_bytes!("data/rtmp/ffmpeg-play.bin");
const FOR_PUBLISHER: &[u8] = include_bytes!("data/rtmp/ffmpeg-listens-for-publisher.bin");
const FOR_PLAYER: &[u8] = include_bytes!("data/rtmp/ffmpeg-listens-for-player.bin");

const URL: &str = "rtmp://127.0.0.1:1935/live/key";

/// From a byte at a time to everything at once, with sizes that share no divisor with chunks.
const STEPS: [usize; 6] = [usize::MAX, 1, 2, 7, 131, 4099];

fn serve(bytes: &[u8], step: usize) -> Vec<ServerEvent> {
    let mut server = ServerSession::new(1);
    let mut events = Vec::new();
    for piece in bytes.chunks(step) {
        server.handle_input(piece).unwrap();
        while let Some(output) = server.poll_output() {
            let Output::Event(event) = output else { continue };
            if let ServerEvent::Publish { stream, .. } | ServerEvent::Play { stream, .. } = event {
                server.accept(stream);
            }
            events.push(event);
        }
    }
    assert_eq!(server.buffered_bytes(), 0, "something was left unfinished");
    events
}

fn visit(mut client: ClientSession, bytes: &[u8], step: usize) -> Vec<ClientEvent> {
    let mut events = Vec::new();
    for piece in bytes.chunks(step) {
        while client.poll_output().is_some() {}
        client.handle_input(piece).unwrap();
        while let Some(output) = client.poll_output() {
            if let Output::Event(event) = output {
                events.push(event);
            }
        }
    }
    assert_eq!(client.buffered_bytes(), 0, "something was left unfinished");
    events
}

/// The two seconds of picture and sound that every recording of media has.
fn check(units: &[Unit]) {
    let of = |kind: Kind| units.iter().filter(move |unit| unit.kind == kind);
    assert_eq!(of(Kind::Data).count(), 1);
    assert!(units[0].payload.starts_with(b"\x02\x00\x0aonMetaData\x08"), "metadata comes first, unwrapped");
    let pictures: Vec<&Unit> = of(Kind::Video).filter(|unit| unit.payload.get(1) == Some(&1)).collect();
    assert_eq!(of(Kind::Video).filter(|unit| unit.is_sequence_header()).count(), 1);
    let times: Vec<u32> = pictures.iter().map(|unit| unit.timestamp).collect();
    let start = times[0];
    assert_eq!(times, (0..20).map(|index| start + index * 100).collect::<Vec<u32>>());
    let keyframes: Vec<usize> = (0..20).filter(|&index| pictures[index].is_keyframe()).collect();
    assert_eq!(keyframes, [0, 10]);
    assert_eq!(of(Kind::Audio).filter(|unit| unit.is_sequence_header()).count(), 1);
    let sounds: Vec<u32> =
        of(Kind::Audio).filter(|unit| !unit.is_sequence_header()).map(|unit| unit.timestamp).collect();
    assert!(sounds.len() > 85, "an AAC frame every 23 ms");
    assert!(sounds.windows(2).all(|pair| (23..=24).contains(&(pair[1] - pair[0]))), "{sounds:?}");
}

#[test]
fn ffmpeg_publishing_is_understood_in_any_split() {
    let whole = serve(PUBLISH, usize::MAX);
    let (app, key) = ("live".to_owned(), StreamKey::new("key"));
    assert_eq!(whole[0], ServerEvent::Publish { stream: StreamId(1), app, key });
    assert_eq!(whole.last(), Some(&ServerEvent::PublishEnded(StreamId(1))));
    let units: Vec<Unit> = whole[1..whole.len() - 1]
        .iter()
        .map(|event| match event {
            ServerEvent::Media(unit) => unit.clone(),
            ServerEvent::Publish { .. }
            | ServerEvent::Play { .. }
            | ServerEvent::PublishEnded(_)
            | ServerEvent::PlayEnded(_) => panic!("{event:?} amid the media"),
        })
        .collect();
    check(&units);
    for step in STEPS {
        assert_eq!(serve(PUBLISH, step), whole, "{step} bytes at a time");
    }
}

#[test]
fn ffmpeg_playing_is_understood_in_any_split() {
    let (app, key) = ("live".to_owned(), StreamKey::new("key"));
    let stream = StreamId(1);
    let whole = serve(PLAY, usize::MAX);
    assert_eq!(whole[0], ServerEvent::Play { stream, app, key });
    for step in STEPS {
        assert_eq!(serve(PLAY, step), whole, "{step} bytes at a time");
    }
}

#[test]
fn ffmpeg_awaiting_a_publisher_is_understood_in_any_split() {
    for step in STEPS {
        let client = ClientSession::publisher(PublishConfig::new(URL).unwrap());
        assert_eq!(visit(client, FOR_PUBLISHER, step), [ClientEvent::Publishing], "{step} bytes at a time");
    }
}

#[test]
fn ffmpeg_awaiting_a_player_is_understood_in_any_split() {
    let player = || ClientSession::player(PlayConfig::new(URL).unwrap());
    let whole = visit(player(), FOR_PLAYER, usize::MAX);
    assert_eq!(whole[0], ClientEvent::Playing);
    let units: Vec<Unit> = whole
        .iter()
        .filter_map(|event| match event {
            ClientEvent::Media(unit) => Some(unit.clone()),
            ClientEvent::Publishing | ClientEvent::Playing | ClientEvent::Ended => None,
        })
        .collect();
    check(&units);
    for step in STEPS {
        assert_eq!(visit(player(), FOR_PLAYER, step), whole, "{step} bytes at a time");
    }
}
