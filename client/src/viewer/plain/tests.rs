//! A viewer whose hole port speaks plain RTMP, without a network.

use super::*;
use crate::dial::DialConfig;
use crate::meeting::{self, Rooms};
use crate::viewer::Config;
use crate::viewer::show::KEEP_LOST;
use punchcast::app::{App as _, Closing, ListenerId, NetError, NetOp};
use punchcast::media::{Kind, Unit};
use punchcast::rtmp::{self, ClientEvent, ClientSession, PublishConfig, RtmpUrl, ServerEvent, ServerSession};
use punchcast::ticket::ViewerIdentity;
use std::time::Duration;

const KEY: &str = "a-key-of-some-length";

fn addr(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn conn(serial: u32) -> ConnId {
    ConnId { room: meeting::HOLE, serial: ConnId::ACCEPTED | serial }
}

/// A viewer, and a publisher who dials its hole port.
struct Scene {
    now: Instant,
    viewer: Viewer,
    publisher: ClientSession,
    told: Vec<Notice>,
    closed: Vec<(ConnId, Closing)>,
    events: Vec<ClientEvent>,
    /// What the viewer dials, and the server there.
    dials: Vec<(ConnId, SocketAddr)>,
    server: ServerSession,
}

impl Scene {
    fn new(plain_key: Option<&str>, told_key: &str) -> Self {
        Self::with(plain_key, told_key, None)
    }

    #[allow(clippy::disallowed_methods)] // A test's time begins somewhere.
    fn with(plain_key: Option<&str>, told_key: &str, dial: Option<DialConfig>) -> Self {
        let once = dial.is_some();
        let now = Instant::now();
        let identity = ViewerIdentity::from_random(&[7; ViewerIdentity::RANDOM_LEN]);
        let meeting = meeting::Config {
            rooms: Rooms::nth(0),
            secrets: meeting::Secrets::Viewer(identity.viewer_secrets()),
            agent: None,
            local_ips: vec![addr("192.168.1.3:0").ip()],
            ticket_addresses: Vec::new(),
            run: 7,
        };
        let viewer = Viewer::new(
            now,
            Config {
                identity,
                server: None,
                meeting,
                hole_port: 700,
                plain_key: plain_key.map(str::to_owned),
                dial,
                page: None,
                rtmp: None,
                casts: 4,
                once,
                seed: 3,
            },
        );
        let url = format!("rtmp://192.168.1.3:700/live/{told_key}");
        let publisher = ClientSession::publisher(PublishConfig::new(&url).expect("an address"));
        let (told, closed, events) = (Vec::new(), Vec::new(), Vec::new());
        let (dials, server) = (Vec::new(), ServerSession::new(5));
        let mut scene = Self { now, viewer, publisher, told, closed, events, dials, server };
        for (serial, local) in [(0, "0.0.0.0:700"), (1, "[::]:700")] {
            let listener = ListenerId { room: meeting::HOLE, serial };
            scene.input(Input::Listening { listener, local: addr(local) });
        }
        scene
    }

    fn input(&mut self, input: Input<'_>) {
        self.viewer.handle_input(self.now, input);
        self.settle();
    }

    /// Somebody dials the hole port.
    fn dialled(&mut self, serial: u32) {
        let (local, remote) = (addr("192.168.1.3:700"), addr("192.168.1.9:5000"));
        let listener = ListenerId { room: meeting::HOLE, serial: 0 };
        self.input(Input::Accepted { listener, conn: conn(serial), local, remote });
    }

    /// The publisher dials, and says what it has to say.
    fn publish(&mut self, serial: u32) {
        self.dialled(serial);
        while let Some(output) = self.publisher.poll_output() {
            match output {
                rtmp::Output::Transmit(bytes) => {
                    self.input(Input::Received { conn: conn(serial), bytes: &bytes });
                }
                rtmp::Output::Event(event) => self.events.push(event),
            }
        }
    }

    fn settle(&mut self) {
        while let Some(output) = self.viewer.poll_output() {
            match output {
                punchcast::app::Output::Net(NetOp::Send { conn, bytes }) if conn.room == DIAL => {
                    self.server.handle_input(&bytes).expect("it speaks RTMP");
                }
                punchcast::app::Output::Net(NetOp::Send { bytes, .. }) => {
                    let _ = self.publisher.handle_input(&bytes);
                }
                punchcast::app::Output::Net(NetOp::Connect { conn, to, .. }) => self.dials.push((conn, to)),
                punchcast::app::Output::Net(NetOp::Close { conn, how }) => self.closed.push((conn, how)),
                punchcast::app::Output::Net(_) | punchcast::app::Output::Exit => {}
                punchcast::app::Output::Notice(notice) => self.told.push(notice),
            }
        }
    }

    /// Lets time pass until the viewer dials; what it dials.
    fn next_dial(&mut self) -> ConnId {
        let before = self.dials.len();
        while self.dials.len() == before {
            let (at, _) = self.viewer.poll_timeout().expect("it dials on");
            self.now = at;
            self.viewer.handle_timeout(at);
            self.settle();
        }
        self.dials[before].0
    }

    /// The dialled server answers, plays and ends its stream.
    fn play_and_end(&mut self, dialled: ConnId) {
        self.server = ServerSession::new(5);
        let local = addr("192.168.1.3:4000");
        self.input(Input::Connected { conn: dialled, local, remote: addr(SERVERS[0]) });
        let mut ended = false;
        loop {
            match self.server.poll_output() {
                Some(rtmp::Output::Transmit(bytes)) => {
                    self.input(Input::Received { conn: dialled, bytes: &bytes });
                }
                Some(rtmp::Output::Event(ServerEvent::Play { stream, .. })) => self.server.accept(stream),
                Some(rtmp::Output::Event(_)) => {}
                None if ended => return,
                None => {
                    ended = true;
                    self.server.finish_play();
                }
            }
        }
    }

    fn links(&self) -> Vec<(Rung, bool)> {
        let link = |notice: &Notice| {
            if let Notice::Link { link, .. } = notice { Some((link.rung, link.secure)) } else { None }
        };
        self.told.iter().filter_map(link).collect()
    }

    fn send(&mut self, unit: &Unit) {
        self.publisher.send_media(unit).expect("it publishes");
        while let Some(output) = self.publisher.poll_output() {
            if let rtmp::Output::Transmit(bytes) = output {
                self.input(Input::Received { conn: conn(1), bytes: &bytes });
            }
        }
    }
}

fn keyframe() -> Unit {
    Unit { kind: Kind::Video, timestamp: 40, payload: vec![0x17, 1, 0, 0, 0, 9].into() }
}

/// Where the dialled name leads.
const SERVERS: [&str; 2] = ["192.168.1.9:1937", "192.168.1.10:1937"];

#[test]
fn a_server_that_is_dialled_in_vain_is_told_of_once_for_each_address_and_reason() {
    let url = RtmpUrl::parse("rtmp://caster:1937/punchcast/key").expect("an address");
    let dial = DialConfig { url, addrs: SERVERS.map(addr).to_vec(), after: None, seed: 1 };
    let mut scene = Scene::with(None, KEY, Some(dial));
    let mut dials = 0;
    for error in [NetError::Refused, NetError::Refused, NetError::Unreachable] {
        for _ in SERVERS {
            let conn = scene.next_dial();
            dials += 1;
            scene.input(Input::ConnectFailed { conn, error });
        }
    }
    let told = |scene: &Scene| {
        let attempts = scene.told.iter().filter(|notice| matches!(notice, Notice::Attempt { .. })).count();
        let failures = scene.told.iter().filter(|notice| matches!(notice, Notice::DialFailed { .. })).count();
        (attempts, failures)
    };
    assert_eq!(told(&scene), (2, 4));
    let conn = scene.next_dial();
    scene.play_and_end(conn);
    assert_eq!(scene.links(), [(Rung::Reverse, false)]);
    let report =
        |notice: &Notice| if let Notice::Report(report) = notice { Some(report.dials) } else { None };
    assert_eq!(scene.told.iter().find_map(report), Some(dials + 1));
}

#[test]
fn a_publisher_with_the_key_is_a_cast_that_is_told_as_not_secure() {
    let mut scene = Scene::new(Some(KEY), KEY);
    let url = |notice: &Notice| {
        if let Notice::Ready { rtmp_url, .. } = notice { rtmp_url.clone() } else { None }
    };
    let ready = scene.told.iter().find_map(url);
    assert_eq!(ready.as_deref(), Some("rtmp://192.168.1.3:700/punchcast/a-key-of-some-length"));
    scene.publish(1);
    assert_eq!(scene.events, [ClientEvent::Publishing]);
    assert_eq!(scene.links(), [(Rung::Lan, false)]);
    scene.send(&keyframe());
    assert!(scene.told.iter().any(|notice| matches!(notice, Notice::Unit(unit) if *unit == keyframe())));
    assert!(scene.told.iter().any(|notice| matches!(notice, Notice::FirstFrame { .. })));

    scene.publisher.finish();
    while let Some(rtmp::Output::Transmit(bytes)) = scene.publisher.poll_output() {
        scene.input(Input::Received { conn: conn(1), bytes: &bytes });
    }
    assert!(scene.told.iter().any(|notice| matches!(notice, Notice::CastEnded)));
}

#[test]
fn a_publishers_picture_is_as_old_as_it_came_later_than_the_quickest() {
    let mut scene = Scene::new(Some(KEY), KEY);
    let ms = Duration::from_millis;
    scene.publish(1);
    scene.viewer.handle_timeout(scene.now);
    scene.settle();
    for (passes, timestamp) in [(20, 40), (70, 80), (40, 120)] {
        scene.now += ms(passes);
        scene.send(&Unit { timestamp, ..keyframe() });
    }
    scene.now += ms(1000);
    scene.viewer.handle_timeout(scene.now);
    scene.settle();
    let stats = |notice: &Notice| if let Notice::Stats(stats) = notice { Some(*stats) } else { None };
    let stats = scene.told.iter().find_map(stats).expect("a second has passed");
    // A publisher is not pinged: programs read little, and what they have not read at the end resets the connection.
    assert_eq!((stats.rtt, stats.counts.frames), (None, 3));
    let rounded = |age: Option<Duration>| age.map(|age| (age.as_secs_f64() * 1000.0).round());
    // 0, 30 and 30: what the last two came later than their timestamps say.
    assert_eq!(rounded(stats.counts.age_p50), Some(30.0));
    assert!(scene.told.iter().all(|notice| !matches!(notice, Notice::Lost { .. })));
}

#[test]
fn a_publisher_that_is_cut_off_is_lost_and_comes_back_to_its_place() {
    let mut scene = Scene::new(Some(KEY), KEY);
    scene.publish(1);
    scene.input(Input::Closed { conn: conn(1), error: None });
    assert!(scene.told.iter().any(|notice| matches!(notice, Notice::Lost { .. })));
    scene.publisher = ClientSession::publisher(
        PublishConfig::new(&format!("rtmp://192.168.1.3:700/live/{KEY}")).expect("an address"),
    );
    scene.publish(2);
    let places = scene.told.iter().filter(|notice| matches!(notice, Notice::OfCast { .. })).count();
    assert_eq!((scene.links().len(), places), (2, 0), "its second link is not the first cast's");
}

#[test]
fn a_publisher_that_comes_when_the_last_one_is_forgotten_is_another_cast() {
    let mut scene = Scene::new(Some(KEY), KEY);
    for (serial, away) in [(1, Duration::ZERO), (2, KEEP_LOST / 2), (3, KEEP_LOST)] {
        scene.now += away;
        scene.viewer.handle_timeout(scene.now);
        scene.settle();
        let url = format!("rtmp://192.168.1.3:700/live/{KEY}");
        scene.publisher = ClientSession::publisher(PublishConfig::new(&url).expect("an address"));
        scene.publish(serial);
        scene.input(Input::Closed { conn: conn(serial), error: None });
    }
    let run = |notice: &Notice| if let Notice::Link { link, .. } = notice { Some(link.run) } else { None };
    let runs: Vec<u64> = scene.told.iter().filter_map(run).collect();
    let [first, again, another] = runs[..] else { panic!("three publishers: {runs:?}") };
    assert!(first == again && again != another, "{runs:?}");
}

#[test]
fn without_the_key_or_where_it_was_not_asked_for_nobody_publishes() {
    for (plain_key, told_key) in [(Some(KEY), "another-key-of-length"), (None, KEY)] {
        let mut scene = Scene::new(plain_key, told_key);
        scene.publish(1);
        assert_eq!(scene.links(), []);
        assert_eq!(scene.events, []);
        assert_eq!(scene.closed.len(), 1, "{:?}", scene.closed);
    }
}

#[test]
fn who_begins_as_a_link_does_is_held_to_the_links_proof() {
    let mut scene = Scene::new(Some(KEY), KEY);
    scene.dialled(1);
    // A link's length first; RTMP after it is a broken link, and no second chance.
    scene.input(Input::Received { conn: conn(1), bytes: &[0] });
    scene.input(Input::Received { conn: conn(1), bytes: &[3; 100] });
    assert_eq!(scene.closed, [(conn(1), Closing::Abort)]);
    assert_eq!(scene.links(), []);
}
