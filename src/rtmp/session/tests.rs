use super::*;
use crate::media::{Kind, Unit};
use crate::rtmp::Error;
use crate::rtmp::amf0::Value;
use crate::rtmp::chunk::{Reader, Writer};
use crate::rtmp::handshake::BLOCK;
use crate::rtmp::message::{self, Command, Control, Message, UserControl};
use bytes::Bytes;

const URL: &str = "rtmp://127.0.0.1:1935/live/secret?token=x";

fn unit(kind: Kind, timestamp: u32, payload: &'static [u8]) -> Unit {
    Unit { kind, timestamp, payload: Bytes::from_static(payload) }
}

fn metadata() -> Unit {
    let mut payload = Vec::new();
    Value::string("onMetaData").encode(&mut payload);
    Value::EcmaArray(vec![("width".into(), Value::Number(640.0))]).encode(&mut payload);
    Unit { kind: Kind::Data, timestamp: 0, payload: payload.into() }
}

/// A server and a client, joined by a wire that delivers `step` bytes at a time.
struct Pair {
    server: ServerSession,
    client: ClientSession,
    step: usize,
    server_events: Vec<ServerEvent>,
    client_events: Vec<ClientEvent>,
    errors: Vec<Error>,
}

impl Pair {
    fn new(client: ClientSession, step: usize) -> Self {
        let server = ServerSession::new(1);
        Self {
            server,
            client,
            step,
            server_events: Vec::new(),
            client_events: Vec::new(),
            errors: Vec::new(),
        }
    }

    fn publisher() -> Self {
        Self::new(ClientSession::publisher(PublishConfig::new(URL).unwrap()), usize::MAX)
    }

    fn player() -> Self {
        Self::new(ClientSession::player(PlayConfig::new(URL).unwrap()), usize::MAX)
    }

    /// Carries bytes until both are silent; `answer` decides on requests.
    fn run(&mut self, answer: &mut impl FnMut(&mut ServerSession, StreamId)) {
        loop {
            let mut quiet = true;
            while let Some(output) = self.client.poll_output() {
                quiet = false;
                match output {
                    Output::Transmit(bytes) => {
                        for piece in bytes.chunks(self.step) {
                            self.errors.extend(self.server.handle_input(piece).err());
                        }
                    }
                    Output::Event(event) => self.client_events.push(event),
                }
            }
            while let Some(output) = self.server.poll_output() {
                quiet = false;
                match output {
                    Output::Transmit(bytes) => {
                        for piece in bytes.chunks(self.step) {
                            self.errors.extend(self.client.handle_input(piece).err());
                        }
                    }
                    Output::Event(event) => {
                        if let ServerEvent::Publish { stream, .. } | ServerEvent::Play { stream, .. } = event
                        {
                            answer(&mut self.server, stream);
                        }
                        self.server_events.push(event);
                    }
                }
            }
            if quiet {
                return;
            }
        }
    }

    fn accept_all(&mut self) {
        self.run(&mut |server, stream| server.accept(stream));
    }
}

#[test]
fn a_publisher_connects_publishes_and_leaves() {
    for step in [1, 3, 1 << 20] {
        let mut pair = Pair::publisher();
        pair.step = step;
        pair.accept_all();
        assert_eq!(pair.client_events, [ClientEvent::Publishing]);
        let stream = StreamId(1);
        let (app, key) = ("live".to_owned(), StreamKey::new("secret"));
        assert_eq!(pair.server_events, [ServerEvent::Publish { stream, app, key }]);

        let units = [metadata(), unit(Kind::Video, 0, b"\x17\x00v"), unit(Kind::Audio, 3, b"\xaf\x01a")];
        for unit in &units {
            pair.client.send_media(unit).unwrap();
        }
        pair.client.finish();
        pair.accept_all();
        assert!(pair.errors.is_empty(), "{:?}", pair.errors);
        let mut expected: Vec<ServerEvent> = units.into_iter().map(ServerEvent::Media).collect();
        expected.push(ServerEvent::PublishEnded(stream));
        assert_eq!(pair.server_events[1..], expected);
        assert_eq!(pair.client.send_media(&metadata()), Err(Error::NotReady));
    }
}

#[test]
fn a_player_connects_plays_and_hears_of_the_end() {
    for step in [1, 3, 1 << 20] {
        let mut pair = Pair::player();
        pair.step = step;
        pair.accept_all();
        assert_eq!(pair.client_events, [ClientEvent::Playing]);
        let units = [metadata(), unit(Kind::Video, 70, b"\x17\x01v"), unit(Kind::Audio, 71, b"\xaf\x01a")];
        for unit in &units {
            pair.server.send_media(unit).unwrap();
        }
        pair.server.finish_play();
        assert_eq!(pair.server.send_media(&units[0]), Err(Error::NotReady));
        pair.accept_all();
        let mut expected: Vec<ClientEvent> = units.into_iter().map(ClientEvent::Media).collect();
        expected.push(ClientEvent::Ended);
        assert_eq!(pair.client_events[1..], expected);
        assert!(pair.errors.is_empty(), "{:?}", pair.errors);
    }
}

#[test]
fn a_player_that_leaves_is_noticed() {
    let mut pair = Pair::player();
    pair.accept_all();
    pair.client.finish();
    pair.accept_all();
    assert_eq!(pair.server_events.last(), Some(&ServerEvent::PlayEnded(StreamId(1))));
    assert_eq!(pair.server.send_media(&metadata()), Err(Error::NotReady));
}

#[test]
fn a_refusal_reaches_the_client_with_its_reason() {
    let mut pair = Pair::publisher();
    pair.run(&mut |server, stream| server.refuse(stream, Refusal::Busy));
    let [Error::Refused { command, code, description }] = &pair.errors[..] else {
        panic!("{:?}", pair.errors)
    };
    assert_eq!((*command, code.as_str()), ("publish", "NetStream.Publish.BadName"));
    assert_eq!(description, "somebody else is publishing");
    assert_eq!(
        pair.errors[0].to_string(),
        "publish refused: NetStream.Publish.BadName (somebody else is publishing)"
    );
    assert_eq!(pair.client.handle_input(b"x"), Err(Error::Over));

    for (why, told) in [(Refusal::UnknownKey, "no such stream"), (Refusal::Busy, "too many are playing")] {
        let mut pair = Pair::player();
        pair.run(&mut |server, stream| server.refuse(stream, why));
        let [error] = &pair.errors[..] else { panic!("{:?}", pair.errors) };
        assert_eq!(error.to_string(), format!("play refused: NetStream.Play.StreamNotFound ({told})"));
    }
}

#[test]
fn keys_are_compared_whole_and_never_shown() {
    let key = StreamKey::new("secret");
    assert!(key.matches("secret"));
    assert!(!key.matches("secre"));
    assert!(!key.matches(""));
    let event = ServerEvent::Publish { stream: StreamId(1), app: "live".into(), key };
    assert!(!format!("{event:?}").contains("secret"));
    assert!(!format!("{:?}", PublishConfig::new(URL).unwrap()).contains("secret"));
    assert!(!format!("{:?}", ClientSession::publisher(PublishConfig::new(URL).unwrap())).contains("secret"));
}

/// A client by hand: a server after its handshake, and what to talk to it with.
struct ByHand {
    server: ServerSession,
    writer: Writer,
    reader: Reader,
    events: Vec<ServerEvent>,
}

impl ByHand {
    fn new() -> Self {
        let mut server = ServerSession::new(1);
        let mut hello = vec![3];
        hello.resize(1 + 2 * BLOCK, 0);
        server.handle_input(&hello).unwrap();
        let Some(Output::Transmit(answer)) = server.poll_output() else { panic!("no answer") };
        assert_eq!(answer.len(), 1 + 2 * BLOCK);
        Self { server, writer: Writer::new(), reader: Reader::new(), events: Vec::new() }
    }

    fn connected() -> Self {
        let mut this = Self::new();
        this.command(0, "connect", 1.0, &[Value::object([("app", Value::string("/live/?q"))])]);
        this.command(0, "createStream", 2.0, &[Value::Null]);
        this
    }

    /// Sends messages in one piece of bytes and returns the answers.
    fn send(&mut self, messages: &[Message]) -> Result<Vec<Message>, Error> {
        let mut bytes = Vec::new();
        for message in messages {
            self.writer.write(8, message, &mut bytes).unwrap();
        }
        let result = self.server.handle_input(&bytes);
        let answers = self.answers();
        result.map(|()| answers)
    }

    fn answers(&mut self) -> Vec<Message> {
        let mut answers = Vec::new();
        while let Some(output) = self.server.poll_output() {
            match output {
                Output::Transmit(bytes) => {
                    let mut bytes = &bytes[..];
                    while let Some(message) = self.reader.read(&mut bytes).unwrap() {
                        answers.push(message);
                    }
                }
                Output::Event(event) => self.events.push(event),
            }
        }
        answers
    }

    fn command(&mut self, stream: u32, name: &str, transaction: f64, values: &[Value]) -> Vec<Message> {
        self.send(&[Message::command(stream, name, transaction, values)]).unwrap()
    }
}

fn parsed(message: &Message) -> Command {
    let known = ["_result", "_error", "onStatus", "onFCPublish", "onFCUnpublish"];
    Command::parse(message, &known).unwrap().expect("a known command")
}

fn code(message: &Message) -> String {
    let command = parsed(message);
    command.arguments[0].get("code").and_then(Value::as_str).unwrap_or_default().to_owned()
}

#[test]
fn connect_is_answered_as_flash_media_server_does() {
    let mut client = ByHand::new();
    let object = Value::object([
        ("app", Value::string("live")),
        ("fourCcList", Value::StrictArray(vec![Value::string("hvc1"), Value::string("zzzz")])),
    ]);
    let answers = client.command(0, "connect", 1.0, &[object]);
    assert_eq!(Control::parse(&answers[0]), Ok(Some(Control::WindowAckSize(WINDOW))));
    assert_eq!(Control::parse(&answers[1]), Ok(Some(Control::SetPeerBandwidth(WINDOW))));
    assert_eq!(client.reader.chunk_size(), CHUNK_SIZE);
    let result = parsed(&answers[2]);
    assert_eq!((result.name.as_str(), result.transaction), ("_result", 1.0));
    assert!(result.object.get("fmsVer").is_some());
    assert_eq!(result.object.get("fourCcList"), Some(&Value::StrictArray(vec![Value::string("hvc1")])));
    assert_eq!(code(&answers[2]), "NetConnection.Connect.Success");
    assert_eq!(result.arguments[0].get("objectEncoding"), Some(&Value::Number(0.0)));
}

#[test]
fn the_commands_of_encoders_are_answered_and_others_passed_over() {
    let mut client = ByHand::connected();
    let name = [Value::Null, Value::string("secret")];
    assert_eq!(parsed(&client.command(0, "releaseStream", 5.0, &name)[0]).transaction, 5.0);
    let answers = client.command(0, "FCPublish", 6.0, &name);
    assert_eq!((parsed(&answers[0]).transaction, code(&answers[1])), (6.0, "NetStream.Publish.Start".into()));
    let answers = client.command(0, "getStreamLength", 7.0, &name);
    assert_eq!(parsed(&answers[0]).number(0), Some(0.0));
    assert_eq!(parsed(&client.command(0, "_checkbw", 8.0, &[Value::Null])[0]).transaction, 8.0);
    assert_eq!(client.command(0, "_checkbw", 0.0, &[Value::Null]), []);
    assert_eq!(client.command(0, "mystery", 9.0, &[Value::Null]), []);
    assert_eq!(parsed(&client.command(0, "FCUnpublish", 10.0, &name)[0]).transaction, 10.0);
    let stream = [Value::Null, Value::Number(1.0)];
    assert_eq!(parsed(&client.command(0, "deleteStream", 11.0, &stream)[0]).transaction, 11.0);
    assert_eq!(client.events, []);
}

#[test]
fn media_sent_before_the_answer_is_kept_for_it() {
    let publish = Message::command(1, "publish", 0.0, &[Value::Null, Value::string("secret")]);
    let video = Message { kind: message::VIDEO, stream: 1, timestamp: 4, payload: vec![0x17, 0].into() };
    let mut client = ByHand::connected();
    client.send(&[publish.clone(), video.clone()]).unwrap();
    assert_eq!(client.events.len(), 1);
    client.server.accept(StreamId(1));
    assert_eq!(code(&client.answers()[1]), "NetStream.Publish.Start");
    assert_eq!(client.events[1], ServerEvent::Media(unit(Kind::Video, 4, b"\x17\x00")));

    let mut client = ByHand::connected();
    client.send(&[publish, video]).unwrap();
    client.server.refuse(StreamId(1), Refusal::UnknownKey);
    client.answers();
    assert_eq!(client.events.len(), 1);
    assert_eq!(client.server.buffered_bytes(), 0);
}

#[test]
fn requests_in_a_row_are_answered_one_by_one() {
    let publish = Message::command(1, "publish", 0.0, &[Value::Null, Value::string("a")]);
    let mut client = ByHand::connected();
    client.send(&vec![publish; 300]).unwrap();
    for count in 1..=300 {
        assert_eq!(client.events.len(), count);
        client.server.refuse(StreamId(1), Refusal::UnknownKey);
        client.answers();
    }
    assert_eq!(client.server.buffered_bytes(), 0);
}

#[test]
fn what_was_wrong_behind_a_request_is_told_by_the_next_input() {
    let publish = Message::command(1, "publish", 0.0, &[Value::Null, Value::string("a")]);
    let connect = Message::command(0, "connect", 1.0, &[Value::Null]);
    let mut client = ByHand::connected();
    client.send(&[publish, connect]).unwrap();
    client.server.accept(StreamId(1));
    assert_eq!(client.server.handle_input(&[]), Err(Error::UnexpectedCommand("connect twice")));
    assert_eq!(client.server.handle_input(&[]), Err(Error::Over));
}

#[test]
fn a_client_that_does_not_wait_is_bounded() {
    let publish = Message::command(1, "publish", 0.0, &[Value::Null, Value::string("a")]);
    let video = Message { kind: message::VIDEO, stream: 1, timestamp: 0, payload: vec![0; 1 << 20].into() };
    let mut client = ByHand::connected();
    client.send(&[publish, video.clone(), video.clone(), video.clone()]).unwrap();
    assert_eq!(client.send(&[video.clone(), video]), Err(Error::TooHasty));
    assert_eq!(client.server.buffered_bytes(), 0);
}

#[test]
fn media_without_a_publisher_is_dropped() {
    let mut client = ByHand::connected();
    let video = Message { kind: message::VIDEO, stream: 1, timestamp: 4, payload: vec![0x17, 0].into() };
    let elsewhere = Message { stream: 7, ..video.clone() };
    client.send(&[video, elsewhere]).unwrap();
    assert_eq!(client.events, []);
}

#[test]
fn a_second_publish_on_one_connection_is_busy() {
    let mut client = ByHand::connected();
    client.command(0, "createStream", 3.0, &[Value::Null]);
    client.command(1, "publish", 0.0, &[Value::Null, Value::string("a")]);
    client.server.accept(StreamId(1));
    client.answers();
    let answers = client.command(2, "publish", 0.0, &[Value::Null, Value::string("b")]);
    assert_eq!(code(&answers[0]), "NetStream.Publish.BadName");
    assert_eq!(client.events.len(), 1);
}

#[test]
fn commands_out_of_order_end_the_session() {
    let publish = Message::command(1, "publish", 0.0, &[Value::Null, Value::string("a")]);
    let mut client = ByHand::new();
    assert_eq!(client.send(std::slice::from_ref(&publish)), Err(Error::UnexpectedCommand("before connect")));
    assert_eq!(client.server.handle_input(b"x"), Err(Error::Over));

    let mut client = ByHand::connected();
    client.command(0, "deleteStream", 0.0, &[Value::Null, Value::Number(1.0)]);
    assert_eq!(client.send(&[publish]), Err(Error::UnexpectedCommand("publish")));

    let connect = Message::command(0, "connect", 1.0, &[Value::Null]);
    assert_eq!(ByHand::connected().send(&[connect]), Err(Error::UnexpectedCommand("connect twice")));

    let create = Message::command(0, "createStream", 1.0, &[Value::Null]);
    let result = ByHand::connected().send(&vec![create; 8]);
    assert_eq!(result, Err(Error::TooManyStreams));
}

#[test]
fn pings_are_answered_and_bytes_acknowledged_in_total() {
    let mut client = ByHand::connected();
    let answers = client.send(&[UserControl::PingRequest(99).message()]).unwrap();
    assert_eq!(Control::parse(&answers[0]), Ok(Some(Control::User(UserControl::PingResponse(99)))));

    let window = Message::control(message::WINDOW_ACK_SIZE, &5000_u32.to_be_bytes());
    let noise = Message { kind: message::VIDEO, stream: 1, timestamp: 0, payload: vec![0; 3000].into() };
    let mut sums = Vec::new();
    client.send(&[window]).unwrap();
    for _ in 0..6 {
        for answer in client.send(std::slice::from_ref(&noise)).unwrap() {
            let Ok(Some(Control::Acknowledgement(sum))) = Control::parse(&answer) else { continue };
            sums.push(sum);
        }
    }
    assert_eq!(sums.len(), 3);
    assert!(sums.windows(2).all(|pair| pair[1] - pair[0] > 6000 && pair[1] - pair[0] < 6200), "{sums:?}");
}

#[test]
fn a_window_of_one_byte_does_not_multiply_acknowledgements() {
    let mut client = ByHand::connected();
    client.send(&[Message::control(message::WINDOW_ACK_SIZE, &1_u32.to_be_bytes())]).unwrap();
    let mut bytes = Vec::new();
    let noise = Message { kind: message::VIDEO, stream: 1, timestamp: 0, payload: vec![0; 10_000].into() };
    client.writer.write(8, &noise, &mut bytes).unwrap();
    for byte in bytes.chunks(1) {
        client.server.handle_input(byte).unwrap();
    }
    assert!(client.answers().len() <= 10);
}

#[test]
fn a_limit_on_this_side_is_answered_once() {
    let mut client = ByHand::connected();
    let limit = Message::control(message::SET_PEER_BANDWIDTH, &[0, 0, 0x10, 0, 1]);
    let answers = client.send(&[limit.clone(), limit]).unwrap();
    assert_eq!(answers.len(), 1);
    assert_eq!(Control::parse(&answers[0]), Ok(Some(Control::WindowAckSize(4096))));
}

#[test]
fn aggregates_come_apart_on_the_messages_clock() {
    let mut payload = Vec::new();
    for (kind, timestamp, body) in
        [(8, 500, &b"\xaf\x01"[..]), (9, 520, b"\x27\x01\0\0\0"), (18, 530, b"junk")]
    {
        payload.extend_from_slice(&[kind, 0, 0, body.len() as u8]);
        payload.extend_from_slice(&u32::to_be_bytes(timestamp)[1..]);
        payload.extend_from_slice(&[0, 0, 0, 0]);
        payload.extend_from_slice(body);
        payload.extend_from_slice(&(body.len() as u32 + 11).to_be_bytes());
    }
    payload.extend_from_slice(&[9, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0]);
    let aggregate = Message { kind: message::AGGREGATE, stream: 1, timestamp: 1000, payload: payload.into() };
    let mut client = ByHand::connected();
    client.command(1, "publish", 0.0, &[Value::Null, Value::string("a")]);
    client.server.accept(StreamId(1));
    client.send(&[aggregate]).unwrap();
    let units = [unit(Kind::Audio, 1000, b"\xaf\x01"), unit(Kind::Video, 1020, b"\x27\x01\0\0\0")];
    assert_eq!(client.events[1..], units.map(ServerEvent::Media));
}

#[test]
fn a_unit_keeps_nothing_of_its_message_but_itself() {
    let tag = |kind, body: &[u8]| {
        let length = &u32::to_be_bytes(body.len() as u32)[1..];
        [&[kind], length, &[0; 7], body, &[0; 4]].concat()
    };
    let tags = [tag(9, b"\x17\x01\0\0\0"), tag(9, b"\x27\x01\0\0\0"), tag(7, &vec![7; 1 << 20])];
    let aggregate =
        Message { kind: message::AGGREGATE, stream: 1, timestamp: 0, payload: tags.concat().into() };
    let mut client = ByHand::connected();
    client.command(1, "publish", 0.0, &[Value::Null, Value::string("a")]);
    client.server.accept(StreamId(1));
    client.send(&[aggregate]).unwrap();
    let units = client.events.split_off(1);
    assert_eq!(units.len(), 2);
    for event in units {
        let ServerEvent::Media(unit) = event else { panic!("{event:?}") };
        let kept = unit.payload.try_into_mut().expect("nobody else has a part of it");
        assert_eq!(kept.capacity(), kept.len());
    }
}

#[test]
fn data_is_unwrapped_and_notices_are_left_out() {
    let mut client = ByHand::connected();
    client.command(1, "publish", 0.0, &[Value::Null, Value::string("a")]);
    client.server.accept(StreamId(1));
    let data = |kind, values: &[Value]| {
        let mut payload = if kind == message::DATA { vec![] } else { vec![0] };
        values.iter().for_each(|value| value.encode(&mut payload));
        Message { kind, stream: 1, timestamp: 5, payload: payload.into() }
    };
    let width = Value::object([("width", Value::Number(640.0))]);
    let wrapped = [Value::string("@setDataFrame"), Value::string("onMetaData"), width.clone()];
    client
        .send(&[
            data(message::DATA, &wrapped),
            data(message::DATA_AMF3, &wrapped),
            data(message::DATA, &wrapped[..1]),
            data(message::DATA, &[Value::string("@clearDataFrame"), Value::string("onMetaData")]),
            data(message::DATA, &[Value::string("|RtmpSampleAccess"), Value::Boolean(false)]),
            data(message::DATA, &[Value::string("onTextData"), width.clone()]),
            data(message::DATA, &[width]),
            data(message::DATA, &[]),
        ])
        .unwrap();
    let plain = data(message::DATA, &wrapped[1..]).payload;
    let names: Vec<&[u8]> = client.events[1..]
        .iter()
        .map(|event| {
            let ServerEvent::Media(unit) = event else { panic!("{event:?}") };
            crate::rtmp::amf0::leading_string(&unit.payload).expect("a name").0
        })
        .collect();
    assert_eq!(names, [&b"onMetaData"[..], b"onMetaData", b"onTextData"]);
    let ServerEvent::Media(first) = &client.events[1] else { panic!() };
    assert_eq!(first.payload, plain);
}

#[test]
fn a_client_pings_once_there_is_a_connection_and_hears_the_answer_once() {
    let mut pair = Pair::player();
    pair.client.ping(1);
    pair.accept_all();
    assert_eq!(pair.client.poll_pong(), None, "there was nothing to ping on");
    pair.client.ping(2);
    pair.accept_all();
    assert_eq!(pair.client.poll_pong(), Some(2));
    assert_eq!(pair.client.poll_pong(), None);
}

#[test]
fn a_server_that_repeats_the_key_does_not_bring_it_into_the_error() {
    let mut pair = Pair::player();
    pair.run(&mut |server, stream| {
        let text = "no stream secret?token=x here, nor secret";
        server.status(stream, "error", "NetStream.Play.StreamNotFound", text);
    });
    let [error] = &pair.errors[..] else { panic!("{:?}", pair.errors) };
    assert_eq!(error.to_string(), "play refused: NetStream.Play.StreamNotFound (no stream … here, nor …)");
}

#[test]
fn tiny_units_kept_for_an_answer_come_out_in_portions() {
    let publish = Message::command(1, "publish", 0.0, &[Value::Null, Value::string("a")]);
    let mut client = ByHand::connected();
    client.send(&[publish]).unwrap();
    let sound = Message { kind: message::AUDIO, stream: 1, timestamp: 0, payload: vec![0xaf].into() };
    client.send(&vec![sound.clone(); 100_000]).unwrap();
    let held = client.server.buffered_bytes();
    client.server.accept(StreamId(1));
    assert!(client.server.buffered_bytes() < held + 64 * 1024);
    client.answers();
    assert_eq!(client.events.len(), 1 + 100_000);
    assert_eq!(client.server.buffered_bytes(), 0);

    // What comes while some of it is still kept comes after it.
    let publish = Message::command(1, "publish", 0.0, &[Value::Null, Value::string("a")]);
    let mut client = ByHand::connected();
    client.send(&[publish]).unwrap();
    client.send(&vec![sound.clone(); 5_000]).unwrap();
    client.server.accept(StreamId(1));
    let last = Message { payload: vec![0x2f].into(), ..sound };
    client.send(&[last]).unwrap();
    assert_eq!(client.events.len(), 1 + 5_001);
    assert_eq!(client.events.last(), Some(&ServerEvent::Media(unit(Kind::Audio, 0, b"\x2f"))));
}

#[test]
fn an_aggregate_of_too_many_units_is_refused() {
    let tag = [&[8, 0, 0, 1][..], &[0; 7], &[0xaf], &[0; 4]].concat();
    let aggregate = |count| {
        let payload = tag.repeat(count).into();
        Message { kind: message::AGGREGATE, stream: 1, timestamp: 0, payload }
    };
    let mut client = ByHand::connected();
    client.command(1, "publish", 0.0, &[Value::Null, Value::string("a")]);
    client.server.accept(StreamId(1));
    client.send(&[aggregate(1024)]).unwrap();
    assert_eq!(client.events.len(), 1 + 1024);
    assert_eq!(client.send(&[aggregate(1025)]), Err(Error::TooManyUnits));
}

#[test]
fn a_digest_client_goes_on_with_the_simple_handshake() {
    let mut server = ServerSession::new(1);
    let mut hello = vec![3, 0, 0, 0, 0, 9, 0, 124, 2];
    // C1 with a version, and a C2 that echoes nothing.
    hello.resize(1 + 2 * BLOCK, 0x5a);
    let mut out = Vec::new();
    Writer::new().write(3, &Message::command(0, "connect", 1.0, &[Value::Null]), &mut out).unwrap();
    server.handle_input(&hello).unwrap();
    assert!(server.is_established());
    server.handle_input(&out).unwrap();
    let Some(Output::Transmit(answer)) = server.poll_output() else { panic!("no answer") };
    assert_eq!(answer[..9], [3, 0, 0, 0, 0, 0, 0, 0, 0], "S1 of version zero offers no digest");
    assert!(answer.len() > 1 + 2 * BLOCK, "connect is answered");
}
