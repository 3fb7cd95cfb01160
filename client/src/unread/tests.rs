//! Both applications with a peer that asks and does not read, joined without a network.

use crate::caster::{self, Caster};
use crate::meeting::{self, HOLE, Rooms, Secrets};
use crate::notice::Notice;
use crate::unread::MAX_UNREAD_REPLIES;
use crate::viewer::{self, Viewer};
use bytes::Bytes;
use punchcast::app::{App, ConnId, Input, ListenerId, NetError, NetOp, Output};
use punchcast::endpoint::Endpoint;
use punchcast::link::{self, Channel, Facts};
use punchcast::rtmp::{self, ClientEvent, ClientSession, PublishConfig, ServerEvent, ServerSession};
use punchcast::ticket::ViewerIdentity;
use std::net::SocketAddr;
use std::time::Instant;

const OURS: &str = "192.168.1.2:700";
const THEIRS: &str = "192.168.1.3:800";

/// A ping request on a chunk stream of its own, with a header and then without.
const FIRST_PING: [u8; 18] = [8, 0, 0, 0, 0, 0, 6, 4, 0, 0, 0, 0, 0, 6, 0, 0, 0, 9];
const PING: [u8; 7] = [0xc8, 0, 6, 0, 0, 0, 9];

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[allow(clippy::disallowed_methods)] // A test's time begins somewhere.
fn start() -> Instant {
    Instant::now()
}

fn identity() -> ViewerIdentity {
    ViewerIdentity::from_random(&[7; ViewerIdentity::RANDOM_LEN])
}

fn config(secrets: Secrets, ticket_addresses: Vec<Endpoint>) -> meeting::Config {
    meeting::Config {
        rooms: Rooms::nth(0),
        secrets,
        agent: None,
        local_ips: vec![addr(OURS).ip()],
        ticket_addresses,
        run: 7,
    }
}

/// One application, and the other end of its link played by the test.
struct Scene<A> {
    app: A,
    now: Instant,
    conn: Option<ConnId>,
    channel: Channel,
    to_peer: Vec<u8>,
    heard: Vec<u8>,
    lost: Vec<String>,
    ended: Option<String>,
}

impl<A: App<Notice = Notice>> Scene<A> {
    fn new(now: Instant, app: A, channel: Channel) -> Self {
        let (to_peer, heard, lost) = (Vec::new(), Vec::new(), Vec::new());
        let mut scene = Self { app, now, conn: None, channel, to_peer, heard, lost, ended: None };
        scene.drain();
        let local = SocketAddr::from(([0; 4], addr(OURS).port()));
        scene.input(Input::Listening { listener: ListenerId { room: HOLE, serial: 4 }, local });
        let (listener, wanted) = (ListenerId { room: HOLE, serial: 6 }, addr("[::]:1"));
        scene.input(Input::ListenFailed { listener, addr: wanted, error: NetError::Other(97) });
        scene
    }

    fn input(&mut self, input: Input<'_>) {
        self.app.handle_input(self.now, input);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.app.poll_output() {
            match output {
                Output::Net(NetOp::Connect { conn, .. }) => self.conn = Some(conn),
                Output::Net(NetOp::Send { bytes, .. }) => self.to_peer.extend(bytes),
                Output::Notice(Notice::Lost { why }) => self.lost.push(why),
                Output::Notice(Notice::End { reason, .. }) => self.ended = Some(reason),
                Output::Net(_) | Output::Notice(_) | Output::Exit => {}
            }
        }
    }

    fn conn(&self) -> ConnId {
        self.conn.expect("a connection")
    }

    /// Carries bytes between the application and the peer's channel until both are silent.
    fn carry(&mut self) {
        loop {
            let to_peer = std::mem::take(&mut self.to_peer);
            if !to_peer.is_empty() {
                self.channel.handle_input(self.now, &to_peer).unwrap();
            }
            let mut to_app = Vec::new();
            while let Some(output) = self.channel.poll_output() {
                match output {
                    link::Output::Transmit(bytes) => to_app.extend(bytes),
                    link::Output::Event(link::Event::Stream(bytes)) => self.heard.extend_from_slice(&bytes),
                    link::Output::Event(_) => {}
                }
            }
            if to_app.is_empty() && self.to_peer.is_empty() {
                return;
            }
            if !to_app.is_empty() {
                let conn = self.conn();
                self.input(Input::Received { conn, bytes: &to_app });
            }
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.channel.send_stream(self.now, Bytes::copy_from_slice(bytes)).unwrap();
        while let Some(output) = self.channel.poll_output() {
            let link::Output::Transmit(bytes) = output else { continue };
            let conn = self.conn();
            self.input(Input::Received { conn, bytes: &bytes });
        }
    }

    /// Asks `pings` times while nothing of the answers is read.
    fn ask(&mut self, pings: usize) {
        let conn = self.conn();
        self.input(Input::Backlogged { conn });
        for _ in 0..pings {
            self.send(&PING);
        }
    }

    /// Asks for less than what is too much, reads it, asks for as much again, and then for one too many.
    fn ask_until_it_is_too_much(&mut self, over: impl Fn(&Self) -> bool) {
        self.send(&FIRST_PING);
        // An answer is as long as its ping, or one byte longer.
        let within = MAX_UNREAD_REPLIES / (PING.len() + 1);
        for _ in 0..2 {
            self.ask(within);
            assert!(!over(self), "{:?} {:?}", self.lost, self.ended);
            let conn = self.conn();
            self.input(Input::Drained { conn });
        }
        self.ask(MAX_UNREAD_REPLIES / PING.len() + 1);
        assert!(over(self));
    }
}

#[test]
fn a_caster_that_asks_and_does_not_read_is_ended() {
    let (now, identity) = (start(), identity());
    let secrets = identity.ticket(None, Vec::new()).caster_secrets();
    let meeting = config(Secrets::Viewer(identity.viewer_secrets()), Vec::new());
    let config = viewer::Config {
        hole_port: 0,
        plain_key: None,
        dial: None,
        identity,
        server: None,
        meeting,
        page: None,
        rtmp: None,
        casts: 4,
        once: false,
        seed: 1,
    };
    let channel = Channel::caster(now, &secrets, Facts::default());
    let mut scene = Scene::new(now, Viewer::new(now, config), channel);
    let conn = ConnId { room: HOLE, serial: ConnId::ACCEPTED };
    scene.conn = Some(conn);
    let listener = ListenerId { room: HOLE, serial: 4 };
    scene.input(Input::Accepted { listener, conn, local: addr(OURS), remote: addr(THEIRS) });
    scene.carry();
    scene.channel.nominate().unwrap();
    let url = "rtmp://viewer/punchcast/cast";
    let mut session = ClientSession::publisher(PublishConfig::new(url).unwrap());
    loop {
        match session.poll_output() {
            Some(rtmp::Output::Transmit(bytes)) => scene.channel.send_stream(scene.now, bytes).unwrap(),
            Some(rtmp::Output::Event(ClientEvent::Publishing)) => break,
            Some(rtmp::Output::Event(_)) => {}
            None => {
                scene.carry();
                let heard = std::mem::take(&mut scene.heard);
                assert!(!heard.is_empty(), "the viewer does not answer");
                session.handle_input(&heard).unwrap();
            }
        }
    }
    scene.ask_until_it_is_too_much(|scene| !scene.lost.is_empty());
    assert_eq!(scene.lost, ["the caster asks and does not read"]);
    assert_eq!(scene.ended, None, "the next cast may come");
}

#[test]
fn a_viewer_that_asks_and_does_not_read_is_left() {
    let (now, identity) = (start(), identity());
    let ticket = identity.ticket(None, vec![Endpoint::new(addr(THEIRS))]);
    let meeting = config(Secrets::Caster(ticket.caster_secrets()), ticket.addresses);
    let config = caster::Config {
        viewers: vec![meeting.into()],
        serve: None,
        rtmp: None,
        share: None,
        encodes: false,
        duration: None,
        seed: 1,
    };
    let channel = Channel::viewer(now, &identity.viewer_secrets(), Facts::default());
    let mut scene = Scene::new(now, Caster::new(now, config), channel);
    let conn = scene.conn();
    scene.input(Input::Connected { conn, local: addr(OURS), remote: addr(THEIRS) });
    let mut session = ServerSession::new(2);
    loop {
        match session.poll_output() {
            Some(rtmp::Output::Transmit(bytes)) => scene.channel.send_stream(scene.now, bytes).unwrap(),
            Some(rtmp::Output::Event(ServerEvent::Publish { stream, .. })) => {
                session.accept(stream);
                break;
            }
            Some(rtmp::Output::Event(_)) => {}
            None => {
                scene.carry();
                let heard = std::mem::take(&mut scene.heard);
                assert!(!heard.is_empty(), "the caster does not ask");
                session.handle_input(&heard).unwrap();
            }
        }
    }
    scene.ask_until_it_is_too_much(|scene| scene.ended.is_some());
    assert_eq!(scene.ended.as_deref(), Some("the viewer asks and does not read"));
}
