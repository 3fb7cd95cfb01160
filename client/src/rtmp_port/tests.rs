use super::*;
use crate::player::FRESH_TIME;
use crate::unread::MAX_UNREAD_REPLIES;
use bytes::BufMut as _;
use punchcast::app::NetError;
use punchcast::media::Kind;
use punchcast::media::pace::MAX_WAIT;
use punchcast::rtmp::{ClientEvent, ClientSession, Error, PlayConfig, PublishConfig};

const ROOM: Room = Room(3);
const LISTENER: ListenerId = ListenerId { room: ROOM, serial: 0 };
const URL: &str = "rtmp://127.0.0.1/live/key";

/// A port, and the clients on it, joined without a network.
struct Scene {
    port: RtmpPort,
    now: Instant,
    clients: BTreeMap<ConnId, Client>,
    events: Vec<Event>,
    ops: Vec<NetOp>,
}

struct Client {
    session: ClientSession,
    events: Vec<ClientEvent>,
    error: Option<Error>,
    closed: Option<Closing>,
    /// Bytes sent to it.
    heard: usize,
}

#[allow(clippy::disallowed_methods)] // A test's time begins somewhere.
fn start() -> Instant {
    Instant::now()
}

fn remote(serial: u32) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 40_000 + serial as u16))
}

fn id(serial: u32) -> ConnId {
    ConnId { room: ROOM, serial: ConnId::ACCEPTED | serial }
}

impl Scene {
    fn new(config: RtmpPortConfig) -> Self {
        let port = RtmpPort::new(ROOM, remote(0), config);
        Self { port, now: start(), clients: BTreeMap::new(), events: Vec::new(), ops: Vec::new() }
    }

    fn publishers() -> Self {
        Self::new(RtmpPortConfig::new(Mode::Publishers))
    }

    /// A port with a key, and a connection that has shaken hands and told none.
    fn stranger() -> Self {
        let config = RtmpPortConfig { key: Some("key".into()), ..RtmpPortConfig::new(Mode::Publishers) };
        let mut scene = Self::new(config);
        scene.connect(1);
        let mut hello = vec![3];
        hello.resize(1 + 2 * 1536, 0);
        scene.input(Input::Received { conn: id(1), bytes: &hello });
        scene.ops.clear();
        scene
    }

    fn players() -> Self {
        Self::new(RtmpPortConfig::new(Mode::Players))
    }

    fn input(&mut self, input: Input<'_>) {
        self.port.handle_input(self.now, input);
        self.settle();
    }

    fn connect(&mut self, serial: u32) {
        let (local, remote, conn) = (remote(0), remote(serial), id(serial));
        self.input(Input::Accepted { listener: LISTENER, conn, local, remote });
    }

    fn join(&mut self, serial: u32, session: ClientSession) {
        let client = Client { session, events: Vec::new(), error: None, closed: None, heard: 0 };
        self.clients.insert(id(serial), client);
        self.connect(serial);
    }

    fn join_publisher(&mut self, serial: u32) {
        self.join(serial, ClientSession::publisher(PublishConfig::new(URL).unwrap()));
    }

    fn join_player(&mut self, serial: u32) {
        let name = if self.port.key.is_some() { "key" } else { FIRST_STREAM };
        let url = format!("rtmp://127.0.0.1/live/{name}");
        self.join(serial, ClientSession::player(PlayConfig::new(&url).unwrap()));
    }

    /// Carries bytes both ways until everybody is silent.
    fn settle(&mut self) {
        loop {
            while let Some(output) = self.port.poll_output() {
                match output {
                    RtmpPortOutput::Event(event) => self.events.push(event),
                    RtmpPortOutput::Net(op) => self.carry(op),
                }
            }
            let talk = self.clients.iter_mut().find_map(|(&conn, client)| Some((conn, client.speak()?)));
            let Some((conn, bytes)) = talk else { return };
            self.port.handle_input(self.now, Input::Received { conn, bytes: &bytes });
        }
    }

    fn carry(&mut self, op: NetOp) {
        match &op {
            NetOp::Send { conn, bytes } => {
                let Some(client) = self.clients.get_mut(conn) else { return };
                client.heard += bytes.len();
                let result = client.session.handle_input(bytes);
                client.error = client.error.take().or(result.err());
            }
            NetOp::Close { conn, how } => {
                if let Some(client) = self.clients.get_mut(conn) {
                    client.closed = Some(*how);
                }
                self.ops.push(op);
            }
            NetOp::Listen { .. }
            | NetOp::StopListening { .. }
            | NetOp::Connect { .. }
            | NetOp::Knock { .. }
            | NetOp::GiveUp { .. }
            | NetOp::Read { .. } => {
                self.ops.push(op);
            }
        }
    }

    fn publish(&mut self, unit: &Unit) {
        self.port.publish(self.now, 0, unit);
        self.settle();
    }

    fn client(&mut self, serial: u32) -> &mut Client {
        self.clients.get_mut(&id(serial)).expect("a client")
    }

    /// The first bytes of what client `serial` was given to play since the last call.
    fn played(&mut self, serial: u32) -> Vec<(u32, u8, u8)> {
        let events = std::mem::take(&mut self.client(serial).events);
        let units = events.into_iter().filter_map(|event| match event {
            ClientEvent::Media(unit) => Some((unit.timestamp, unit.payload[0], unit.payload[1])),
            ClientEvent::Publishing | ClientEvent::Playing | ClientEvent::Ended => None,
        });
        units.collect()
    }

    fn timeout(&mut self) {
        self.port.handle_timeout(self.now);
        self.settle();
    }
}

impl Client {
    fn speak(&mut self) -> Option<Bytes> {
        while let Some(output) = self.session.poll_output() {
            match output {
                rtmp::Output::Transmit(bytes) if self.closed.is_none() => return Some(bytes),
                rtmp::Output::Transmit(_) => {}
                rtmp::Output::Event(event) => self.events.push(event),
            }
        }
        None
    }

    fn refusal(&self) -> &str {
        match &self.error {
            Some(Error::Refused { code, .. }) => code,
            other => panic!("{other:?}"),
        }
    }
}

fn unit(kind: Kind, timestamp: u32, head: [u8; 2], size: usize) -> Unit {
    let mut payload = head.to_vec();
    payload.resize(size.max(2), 0);
    Unit { kind, timestamp, payload: payload.into() }
}

fn header(timestamp: u32) -> Unit {
    unit(Kind::Video, timestamp, [0x17, 0], 40)
}

fn key(timestamp: u32) -> Unit {
    unit(Kind::Video, timestamp, [0x17, 1], 1000)
}

fn inter(timestamp: u32) -> Unit {
    unit(Kind::Video, timestamp, [0x27, 1], 1000)
}

fn audio(timestamp: u32) -> Unit {
    unit(Kind::Audio, timestamp, [0xaf, 1], 100)
}

#[test]
fn it_listens_and_tells_where() {
    let mut scene = Scene::players();
    scene.settle();
    assert_eq!(scene.ops, [NetOp::Listen { listener: LISTENER, addr: remote(0), reuse: false }]);
    scene.input(Input::Listening { listener: LISTENER, local: remote(7) });
    let (addr, error) = (remote(0), NetError::AddrInUse);
    scene.input(Input::ListenFailed { listener: LISTENER, addr, error });
    assert_eq!(scene.events, [Event::Listening(remote(7)), Event::ListenFailed { addr, error }]);
}

#[test]
fn a_publisher_comes_gives_media_and_leaves() {
    let mut scene = Scene::publishers();
    scene.join_publisher(1);
    let (remote, app, stream_key) = (remote(1), "live".to_owned(), StreamKey::new("key"));
    assert_eq!(scene.events, [Event::PublisherJoined { remote, app, key: stream_key }]);
    scene.client(1).session.send_media(&key(5)).unwrap();
    scene.settle();
    assert_eq!(scene.events[1..], [Event::Media(key(5))]);
    scene.client(1).session.finish();
    scene.settle();
    assert_eq!(scene.events[2..], [Event::PublisherLeft { remote, finished: true }]);
}

#[test]
fn a_second_publisher_is_refused_until_the_first_has_left() {
    let mut scene = Scene::publishers();
    scene.join_publisher(1);
    scene.join_publisher(2);
    assert_eq!(scene.client(2).refusal(), "NetStream.Publish.BadName");
    assert_eq!(scene.client(2).closed, Some(Closing::Flush));
    assert_eq!(scene.client(1).events, [ClientEvent::Publishing]);
    // It is told of, and that it tries again is not.
    let occupied = Event::Occupied(TurnedAway { remote: remote(2), others: 0 });
    assert_eq!(scene.events[1..], [occupied]);
    scene.join_publisher(4);
    assert_eq!(scene.client(4).refusal(), "NetStream.Publish.BadName");
    assert_eq!(scene.events.len(), 2, "{:?}", scene.events);
    scene.input(Input::Closed { conn: id(1), error: Some(NetError::Reset) });
    assert_eq!(scene.events.last(), Some(&Event::PublisherLeft { remote: remote(1), finished: false }));
    scene.join_publisher(3);
    assert_eq!(scene.client(3).events, [ClientEvent::Publishing]);
}

#[test]
fn app_and_key_must_fit_and_so_must_the_purpose() {
    let config = RtmpPortConfig {
        app: Some("live".into()),
        key: Some("key".into()),
        ..RtmpPortConfig::new(Mode::Publishers)
    };
    let mut scene = Scene::new(config);
    for (serial, url) in [(1, "rtmp://h/live/kex"), (2, "rtmp://h/other/key"), (3, "rtmp://h/key")] {
        scene.join(serial, ClientSession::publisher(PublishConfig::new(url).unwrap()));
        assert_eq!(scene.client(serial).refusal(), "NetStream.Publish.BadName", "{url}");
    }
    scene.join_player(4);
    assert_eq!(scene.client(4).refusal(), "NetStream.Play.StreamNotFound");
    let wrong = |serial| Event::WrongKey(TurnedAway { remote: remote(serial), others: 0 });
    assert_eq!(scene.events, [wrong(1)], "of the first that had no key; the purpose is no key");
    scene.join(5, ClientSession::publisher(PublishConfig::new("rtmp://h/live/key?with=query").unwrap()));
    assert_eq!(scene.client(5).events, [ClientEvent::Publishing]);
}

#[test]
fn strangers_take_only_their_places_at_the_door_of_a_port_with_a_key() {
    let config = RtmpPortConfig { key: Some("key".into()), ..RtmpPortConfig::new(Mode::Players) };
    let mut scene = Scene::new(config);
    scene.join_player(1);
    scene.ops.clear();
    let places = punchcast::link::PER_SOURCE as u32;
    for serial in 2..=places + 1 {
        scene.connect(serial);
    }
    assert!(scene.ops.is_empty(), "a player that told the key takes no stranger's place: {:?}", scene.ops);
    scene.connect(places + 2);
    assert_eq!(scene.ops, [NetOp::Close { conn: id(places + 2), how: Closing::Abort }]);
    scene.input(Input::Closed { conn: id(2), error: None });
    scene.join_player(places + 3);
    assert_eq!(scene.client(places + 3).events, [ClientEvent::Playing]);
}

#[test]
fn a_stranger_that_sends_much_and_tells_no_key_is_cut_off() {
    let mut scene = Scene::stranger();
    // A message of 65,536 bytes is announced, and its bytes come.
    let mut flood = vec![4, 0, 0, 0, 0x01, 0, 0, 8, 1, 0, 0, 0];
    flood.resize(MAX_STRANGER_BYTES, 0xc4);
    scene.input(Input::Received { conn: id(1), bytes: &flood });
    assert_eq!(scene.ops.last(), Some(&NetOp::Close { conn: id(1), how: Closing::Abort }));
}

#[test]
fn a_stranger_that_announces_much_is_cut_off_though_it_sends_little() {
    let mut scene = Scene::stranger();
    // The first bytes of a message of 65,536.
    scene.input(Input::Received { conn: id(1), bytes: &[4, 0, 0, 0, 0x01, 0, 0, 8, 1, 0, 0, 0, 7] });
    assert_eq!(scene.ops.last(), Some(&NetOp::Close { conn: id(1), how: Closing::Abort }));
}

#[test]
fn a_connection_accepted_elsewhere_publishes_with_the_key() {
    let config = RtmpPortConfig { key: Some("key".into()), ..RtmpPortConfig::new(Mode::Publishers) };
    let mut port = RtmpPort::without_listener(config);
    let mut obs = ClientSession::publisher(PublishConfig::new(URL).unwrap());
    let Some(rtmp::Output::Transmit(hello)) = obs.poll_output() else { panic!("a handshake") };
    port.adopt(start(), id(1), remote(1), &hello);
    assert!(port.owns(id(1)) && !port.owns(id(2)));
    while let Some(output) = port.poll_output() {
        if let RtmpPortOutput::Net(NetOp::Send { bytes, .. }) = output {
            obs.handle_input(&bytes).unwrap();
        }
        while let Some(rtmp::Output::Transmit(bytes)) = obs.poll_output() {
            port.handle_input(start(), Input::Received { conn: id(1), bytes: &bytes });
        }
    }
    assert!(obs.is_established());
    assert!(port.conns.values().any(Conn::is_publisher));

    // A large picture goes where it is kept.
    let picture = Unit { kind: Kind::Video, timestamp: 0, payload: vec![0x17; 50_000].into() };
    obs.send_media(&picture).unwrap();
    let transmitted = std::iter::from_fn(|| match obs.poll_output()? {
        rtmp::Output::Transmit(bytes) => Some(bytes),
        rtmp::Output::Event(event) => panic!("{event:?}"),
    });
    let bytes = transmitted.collect::<Vec<_>>().concat();
    let (begin, rest) = bytes.split_at(bytes.len() - 49_000);
    port.handle_input(start(), Input::Received { conn: id(1), bytes: begin });
    let mut into = port.space(id(1)).and_then(|space| space.into).expect("a large picture's space");
    assert_eq!(into.remaining_mut(), rest.len());
    into.put_slice(rest);
    let later = start() + PUBLISHER_SILENCE - Duration::from_secs(1);
    port.handle_placed(later, id(1), rest.len());
    let media = std::iter::from_fn(|| port.poll_output())
        .filter(|output| matches!(output, RtmpPortOutput::Event(Event::Media(unit)) if *unit == picture));
    assert_eq!(media.count(), 1);
    assert_eq!(
        port.conns.values().filter_map(Conn::deadline).collect::<Vec<_>>(),
        [later + PUBLISHER_SILENCE]
    );
}

#[test]
fn every_player_gets_every_unit() {
    let mut scene = Scene::players();
    scene.join_player(1);
    scene.join_player(2);
    for unit in [header(0), key(0), audio(10), inter(40)] {
        scene.publish(&unit);
    }
    let expected = [(0, 0x17, 0), (0, 0x17, 1), (10, 0xaf, 1), (40, 0x27, 1)];
    assert_eq!(scene.played(1), expected);
    assert_eq!(scene.played(2), expected);
}

#[test]
fn a_late_joiner_begins_with_a_keyframe_that_comes_at_once() {
    let mut scene = Scene::players();
    for unit in [header(0), key(0), inter(40)] {
        scene.publish(&unit);
    }
    scene.join_player(1);
    assert_eq!(scene.events.last(), Some(&Event::PlayerJoined { remote: remote(1), place: 0 }));
    // A minute later by the stream's clock: what was shown by then is not played first.
    for unit in [inter(60_000), audio(60_010), key(60_040), inter(60_080)] {
        assert_eq!(scene.played(1), []);
        scene.publish(&unit);
        if unit.is_keyframe() {
            assert_eq!(scene.played(1), [(60_040, 0x17, 0), (60_040, 0x17, 1)]);
        }
    }
    assert_eq!(scene.played(1), [(60_080, 0x27, 1)]);
    assert_eq!(scene.port.poll_timeout(), None);
}

#[test]
fn a_late_joiner_begins_with_the_group_under_way_where_no_keyframe_comes() {
    let mut scene = Scene::players();
    for unit in [header(0), key(0), inter(40), key(80), inter(120)] {
        scene.publish(&unit);
    }
    scene.join_player(1);
    let why = "an rtmp player begins without a new keyframe";
    assert_eq!(scene.port.poll_timeout(), Some((scene.now + FRESH_TIME, why)));
    scene.publish(&inter(160));
    assert_eq!(scene.played(1), []);
    scene.now += FRESH_TIME;
    scene.timeout();
    assert_eq!(scene.played(1), [(80, 0x17, 0), (80, 0x17, 1), (120, 0x27, 1), (160, 0x27, 1)]);
    scene.publish(&inter(200));
    assert_eq!(scene.played(1), [(200, 0x27, 1)]);
    assert_eq!(scene.port.poll_timeout(), None);
}

#[test]
fn without_a_group_video_begins_at_the_next_keyframe() {
    let mut scene = Scene::players();
    scene.join_player(1);
    for unit in [header(0), inter(0), audio(1), inter(40), key(80), inter(120)] {
        scene.publish(&unit);
    }
    assert_eq!(scene.played(1), [(0, 0x17, 0), (1, 0xaf, 1), (80, 0x17, 1), (120, 0x27, 1)]);
}

#[test]
fn a_slow_player_gets_fewer_pictures_and_slows_nobody() {
    let mut scene = Scene::players();
    scene.join_player(1);
    scene.join_player(2);
    scene.publish(&key(0));
    scene.input(Input::Backlogged { conn: id(1) });
    scene.played(1);
    for unit in [inter(40), audio(45), header(50)] {
        scene.publish(&unit);
    }
    scene.now += MAX_WAIT + Duration::from_millis(1);
    for unit in [inter(300), audio(301), inter(340)] {
        scene.publish(&unit);
    }
    assert_eq!(scene.played(1), []);
    assert_eq!(scene.played(2).len(), 7);
    scene.publish(&key(380));
    scene.publish(&inter(420));
    scene.input(Input::Drained { conn: id(1) });
    let expected = [(45, 0xaf, 1), (50, 0x17, 0), (301, 0xaf, 1), (380, 0x17, 1), (420, 0x27, 1)];
    assert_eq!(scene.played(1), expected);
    scene.input(Input::Closed { conn: id(1), error: None });
    assert_eq!(scene.events.last(), Some(&Event::PlayerLeft { remote: remote(1), place: 0, dropped: 3 }));
}

#[test]
fn a_player_that_missed_pictures_has_a_keyframe_asked_for_once_it_takes_more() {
    let mut scene = Scene::players();
    scene.join_player(1);
    scene.publish(&key(0));
    scene.input(Input::Backlogged { conn: id(1) });
    scene.publish(&inter(40));
    scene.now += MAX_WAIT + Duration::from_millis(1);
    scene.publish(&inter(200));
    let asked = |scene: &Scene| {
        let asks = |event: &&Event| matches!(event, Event::KeyframeWanted { place: 0 });
        scene.events.iter().filter(asks).count()
    };
    assert_eq!(asked(&scene), 0, "it could not take one");
    // The screen has come to rest: nothing more is published.
    scene.input(Input::Drained { conn: id(1) });
    assert_eq!(asked(&scene), 1);
    scene.publish(&inter(2200));
    assert_eq!(asked(&scene), 1);
    scene.publish(&key(2300));
    assert_eq!(scene.played(1), [(0, 0x17, 1), (2300, 0x17, 1)]);
}

#[test]
fn who_comes_to_another_stream_is_given_nothing_of_the_one_before() {
    let mut scene = Scene::players();
    for unit in [header(0), unit(Kind::Audio, 0, [0xaf, 0], 2), key(0), audio(1)] {
        scene.publish(&unit);
    }
    scene.port.next_stream(0);
    scene.join_player(1);
    assert_eq!(scene.played(1), []);
    for unit in [header(0), key(0)] {
        scene.publish(&unit);
    }
    assert_eq!(scene.played(1), [(41, 0x17, 0), (41, 0x17, 1)]);
}

#[test]
fn a_long_replay_goes_out_in_bursts() {
    let mut scene = Scene::players();
    scene.publish(&key(0));
    for at in 1..=20 {
        scene.publish(&unit(Kind::Video, at, [0x27, 1], 100_000));
    }
    scene.join_player(1);
    scene.now += FRESH_TIME;
    scene.timeout();
    let first = scene.client(1).heard;
    assert!(first < MAX_BURST + 110_000, "{first}");
    assert_eq!(scene.port.poll_timeout(), Some((scene.now, "more waits for an rtmp player")));
    // A driver whose socket is full says so before the next burst.
    scene.input(Input::Backlogged { conn: id(1) });
    scene.timeout();
    assert_eq!(scene.client(1).heard, first);
    scene.input(Input::Drained { conn: id(1) });
    while scene.port.poll_timeout().is_some() {
        scene.timeout();
    }
    assert_eq!(scene.played(1).len(), 21);
}

#[test]
fn the_end_of_the_stream_reaches_the_players() {
    let mut scene = Scene::players();
    scene.join_player(1);
    scene.publish(&key(0));
    scene.port.end_stream(0);
    scene.settle();
    assert_eq!(scene.client(1).closed, Some(Closing::Flush));
    assert_eq!(scene.client(1).events.last(), Some(&ClientEvent::Ended));
    assert_eq!(scene.events.last(), Some(&Event::PlayerLeft { remote: remote(1), place: 0, dropped: 0 }));
    // The next stream begins with nothing of this one.
    scene.join_player(2);
    assert_eq!(scene.played(2), []);
}

#[test]
fn strangers_are_given_five_and_ten_seconds() {
    let mut scene = Scene::players();
    scene.connect(1);
    let why = "an rtmp connection must publish, or play, or speak";
    assert_eq!(scene.port.poll_timeout(), Some((scene.now + HANDSHAKE_TIME, why)));
    // A handshake and no more.
    scene.connect(2);
    let mut hello = vec![3];
    hello.resize(1 + 2 * 1536, 0);
    scene.input(Input::Received { conn: id(2), bytes: &hello });
    let began = scene.now;
    scene.now = began + HANDSHAKE_TIME;
    scene.timeout();
    assert_eq!(scene.ops[1..], [NetOp::Close { conn: id(1), how: Closing::Abort }]);
    assert_eq!(scene.port.poll_timeout(), Some((began + JOIN_TIME, why)));
    scene.now = began + JOIN_TIME;
    scene.timeout();
    assert_eq!(scene.ops[2..], [NetOp::Close { conn: id(2), how: Closing::Abort }]);
    assert_eq!(scene.port.poll_timeout(), None);
    scene.join_player(3);
    assert_eq!(scene.port.poll_timeout(), None);
}

#[test]
fn connections_are_bounded() {
    let mut scene = Scene::players();
    for serial in 1..=MAX_CONNECTIONS as u32 + 1 {
        scene.connect(serial);
    }
    let one_too_many = id(MAX_CONNECTIONS as u32 + 1);
    assert_eq!(scene.ops[1..], [NetOp::Close { conn: one_too_many, how: Closing::Abort }]);
}

#[test]
fn as_many_play_as_may_connect() {
    let mut scene = Scene::players();
    for serial in 1..=MAX_CONNECTIONS as u32 {
        scene.join_player(serial);
        assert_eq!(scene.client(serial).events, [ClientEvent::Playing], "player {serial}");
    }
}

#[test]
fn who_asks_and_does_not_read_is_closed() {
    let mut scene = Scene::players();
    scene.join_player(1);
    scene.input(Input::Backlogged { conn: id(1) });
    // Ping requests on a chunk stream of their own: one with a header, and then as many as it takes without.
    let first = [8, 0, 0, 0, 0, 0, 6, 4, 0, 0, 0, 0, 0, 6, 0, 0, 0, 9];
    scene.input(Input::Received { conn: id(1), bytes: &first });
    let ping = [0xc8, 0, 6, 0, 0, 0, 9];
    for _ in 0..MAX_UNREAD_REPLIES / ping.len() {
        scene.input(Input::Received { conn: id(1), bytes: &ping });
    }
    assert_eq!(scene.client(1).closed, Some(Closing::Abort));
}

#[test]
fn garbage_ends_its_own_connection_alone() {
    let mut scene = Scene::players();
    scene.join_player(1);
    scene.connect(2);
    scene.input(Input::Received { conn: id(2), bytes: b"GET / HTTP/1.1\r\n\r\n" });
    assert_eq!(scene.ops[1..], [NetOp::Close { conn: id(2), how: Closing::Flush }]);
    scene.publish(&key(0));
    assert_eq!(scene.played(1), [(0, 0x17, 1)]);
}

#[test]
fn a_publisher_that_falls_silent_makes_room_for_the_next() {
    let mut scene = Scene::publishers();
    scene.join_publisher(1);
    scene.now += PUBLISHER_SILENCE - Duration::from_millis(1);
    scene.client(1).session.send_media(&key(5)).unwrap();
    scene.settle();
    scene.now += PUBLISHER_SILENCE - Duration::from_millis(1);
    scene.timeout();
    assert_eq!(scene.client(1).closed, None);
    scene.join_publisher(2);
    assert_eq!(scene.client(2).refusal(), "NetStream.Publish.BadName");
    scene.now += Duration::from_millis(1);
    scene.timeout();
    assert_eq!(scene.client(1).closed, Some(Closing::Abort));
    assert_eq!(scene.events.last(), Some(&Event::PublisherLeft { remote: remote(1), finished: false }));
    scene.join_publisher(3);
    assert_eq!(scene.client(3).events, [ClientEvent::Publishing]);
}

#[test]
fn players_choose_a_cast_by_the_streams_name() {
    let mut scene = Scene::new(RtmpPortConfig { streams: 2, ..RtmpPortConfig::new(Mode::Players) });
    let player = |name: &str| {
        let url = format!("rtmp://127.0.0.1/punchcast/{name}");
        ClientSession::player(PlayConfig::new(&url).unwrap())
    };
    scene.join(1, player("live"));
    scene.join(2, player("cast-2"));
    // There is no third, and a name that is no stream's is not taken for the first.
    for (serial, name) in
        (3..).zip(["cast-3", "cast-0", "cast-02", "cast-+2", "cast", "cast2", "Live", "screen"])
    {
        scene.join(serial, player(name));
        assert_eq!(scene.client(serial).refusal(), "NetStream.Play.StreamNotFound", "{name}");
    }
    let joined = scene.port.conns.values().map(Conn::plays).collect::<Vec<_>>();
    assert_eq!(joined, [Some(0), Some(1)]);
    scene.join(20, player("cast-1"));
    assert_eq!(scene.port.conns[&id(20)].plays(), Some(0));
    scene.input(Input::Closed { conn: id(20), error: None });

    scene.port.publish(scene.now, 1, &key(0));
    scene.settle();
    let pictures = |scene: &Scene, serial| {
        let is_picture = |event: &&ClientEvent| matches!(event, ClientEvent::Media(_));
        scene.clients[&id(serial)].events.iter().filter(is_picture).count()
    };
    assert_eq!((pictures(&scene, 1), pictures(&scene, 2)), (0, 1));

    scene.port.end_stream(1);
    scene.settle();
    assert_eq!(scene.port.conns.values().map(Conn::plays).collect::<Vec<_>>(), [Some(0)]);
}
