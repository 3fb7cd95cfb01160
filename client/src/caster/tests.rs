//! A caster and a viewer, one connection, no network: every byte arrives at once, as it does on loopback.

mod following;
mod players;

use super::*;
use crate::meeting;
use crate::page::PageToken;
use crate::share::Encoding;
use crate::viewer::{self, Viewer};
use punchcast::app::{ConnId, ListenerId, NetError};
use punchcast::media::Kind;
use punchcast::ticket::{Ticket, ViewerIdentity};

const CASTER_ADDR: &str = "192.168.1.2:700";
const VIEWER_ADDR: &str = "192.168.1.3:800";

fn addr(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

struct Bed {
    now: Instant,
    caster: Caster,
    viewer: Viewer,
    /// What the caster calls the connection, and the viewer.
    names: (ConnId, ConnId),
    to_viewer: Vec<u8>,
    to_caster: Vec<u8>,
    /// What each told; units aside.
    caster_says: Vec<Notice>,
    viewer_says: Vec<Notice>,
    shown: Vec<u32>,
    exits: usize,
    /// What the sharing page was told.
    page_hears: String,
}

impl Bed {
    #[allow(clippy::disallowed_methods)] // A test's time begins somewhere.
    fn new() -> Self {
        let now = Instant::now();
        let identity = ViewerIdentity::from_random(&[7; ViewerIdentity::RANDOM_LEN]);
        let ticket = identity.ticket(None, vec![addr(VIEWER_ADDR).into()]);
        let viewer = viewer::Config {
            hole_port: 0,
            plain_key: None,
            dial: None,
            meeting: meeting_of(meeting::Secrets::Viewer(identity.viewer_secrets()), VIEWER_ADDR, None),
            identity,
            server: None,
            page: None,
            rtmp: None,
            casts: 4,
            once: true,
            seed: 1,
        };
        let secrets = meeting::Secrets::Caster(ticket.caster_secrets());
        let meeting = meeting_of(secrets, CASTER_ADDR, Some(&ticket));
        let caster = Config { share: Some(share_page()), ..config(vec![meeting.into()]) };
        let ours = ConnId { room: meeting::HOLE, serial: 0 };
        let theirs = ConnId { room: meeting::HOLE, serial: ConnId::ACCEPTED };
        let mut bed = Self {
            now,
            caster: Caster::new(now, caster),
            viewer: Viewer::new(now, viewer),
            names: (ours, theirs),
            to_viewer: Vec::new(),
            to_caster: Vec::new(),
            caster_says: Vec::new(),
            viewer_says: Vec::new(),
            shown: Vec::new(),
            exits: 0,
            page_hears: String::new(),
        };
        bed.viewer.handle_input(now, listening(VIEWER_ADDR));
        bed.viewer.handle_input(now, no_ipv6());
        bed.caster.handle_input(now, listening(CASTER_ADDR));
        bed.caster.handle_input(now, no_ipv6());
        bed.drain();
        let (ours, theirs) = bed.names;
        let (local, remote) = (addr(VIEWER_ADDR), addr(CASTER_ADDR));
        let listener = ListenerId { room: meeting::HOLE, serial: 4 };
        bed.viewer.handle_input(now, Input::Accepted { listener, conn: theirs, local, remote });
        bed.caster.handle_input(now, Input::Connected { conn: ours, local: remote, remote: local });
        bed.carry();
        assert_eq!(bed.caster.outlets[&0].stages(), [route::Stage::Live]);
        bed
    }

    fn drain(&mut self) {
        while let Some(output) = self.caster.poll_output() {
            match output {
                Output::Net(NetOp::Connect { conn, .. }) => self.names.0 = conn,
                Output::Net(NetOp::Send { conn, bytes }) if conn.room == SHARE => {
                    self.page_hears.push_str(&String::from_utf8_lossy(&bytes));
                }
                Output::Net(NetOp::Send { bytes, .. }) => self.to_viewer.extend(bytes),
                Output::Net(_) => {}
                Output::Notice(notice) => self.caster_says.push(notice),
                Output::Exit => self.exits += 1,
            }
        }
        while let Some(output) = self.viewer.poll_output() {
            match output {
                Output::Net(NetOp::Send { bytes, .. }) => self.to_caster.extend(bytes),
                Output::Net(_) => {}
                Output::Notice(Notice::Unit(unit)) => self.shown.push(unit.timestamp),
                Output::Notice(notice) => self.viewer_says.push(notice),
                Output::Exit => self.exits += 1,
            }
        }
    }

    /// Carries bytes both ways until everybody is silent.
    fn carry(&mut self) {
        loop {
            self.drain();
            let (ours, theirs) = self.names;
            let (up, down) = (std::mem::take(&mut self.to_viewer), std::mem::take(&mut self.to_caster));
            if up.is_empty() && down.is_empty() {
                return;
            }
            if !up.is_empty() {
                self.viewer.handle_input(self.now, Input::Received { conn: theirs, bytes: &up });
            }
            if !down.is_empty() {
                self.caster.handle_input(self.now, Input::Received { conn: ours, bytes: &down });
            }
        }
    }

    fn cast(&mut self, timestamp: u32) {
        let payload = vec![0x17, 1, 0, 0, 0].into();
        let unit = Unit { kind: Kind::Video, timestamp, payload };
        self.caster.handle_message(self.now, SourceEvent::Unit(unit, None).into());
    }

    fn end(&mut self) {
        self.caster.handle_message(self.now, SourceEvent::Ended.into());
        self.carry();
    }

    fn viewer_knows_the_end(&self) -> bool {
        self.viewer_says.iter().any(|notice| matches!(notice, Notice::CastEnded))
    }
}

/// A cast to these alone.
const fn config(viewers: Vec<Whom>) -> Config {
    Config { viewers, serve: None, rtmp: None, share: None, encodes: false, duration: None, seed: 2 }
}

fn share_page() -> ShareConfig {
    ShareConfig { addr: addr("127.0.0.1:0"), token: PageToken::new([7; 16]), encoding: Encoding::default() }
}

fn meeting_of(secrets: meeting::Secrets, own: &str, ticket: Option<&Ticket>) -> meeting::Config {
    let ticket_addresses = ticket.map_or_else(Vec::new, |ticket| ticket.addresses.clone());
    meeting::Config {
        rooms: meeting::Rooms::nth(0),
        secrets,
        agent: None,
        local_ips: vec![addr(own).ip()],
        ticket_addresses,
        run: 7,
    }
}

fn listening(own: &str) -> Input<'static> {
    let listener = ListenerId { room: meeting::HOLE, serial: 4 };
    Input::Listening { listener, local: SocketAddr::from(([0; 4], addr(own).port())) }
}

/// A host without IPv6.
fn no_ipv6() -> Input<'static> {
    let listener = ListenerId { room: meeting::HOLE, serial: 6 };
    Input::ListenFailed { listener, addr: addr("[::]:1"), error: NetError::Other(97) }
}

#[test]
fn the_age_of_a_picture_counts_from_its_capture_or_its_coming() {
    let ages = |says: &[Notice]| {
        let age =
            |notice: &Notice| if let Notice::Stats(stats) = notice { stats.counts.age_p50 } else { None };
        says.iter().rev().find_map(age)
    };
    let took = Duration::from_millis(16);
    for (captured_before, age) in [(Some(took), took), (None, Duration::ZERO)] {
        let mut bed = Bed::new();
        // The first ping tells the clocks' offset, the second that follows the ages.
        for second in 1..=3 {
            bed.now += Duration::from_secs(1);
            bed.caster.handle_timeout(bed.now);
            bed.viewer.handle_timeout(bed.now);
            bed.carry();
            let unit = Unit { kind: Kind::Video, timestamp: second, payload: vec![0x17, 1, 0, 0, 0].into() };
            let captured = captured_before.map(|before| bed.now - before);
            bed.caster.handle_message(bed.now, SourceEvent::Unit(unit, captured).into());
            bed.carry();
        }
        assert_eq!((ages(&bed.caster_says), ages(&bed.viewer_says)), (Some(age), Some(age)));
    }
}

#[test]
fn what_is_queued_goes_before_the_goodbye() {
    let mut bed = Bed::new();
    bed.cast(1);
    bed.cast(2);
    bed.end();
    assert_eq!(bed.shown, [1, 2]);
    assert!(bed.viewer_knows_the_end());
    assert_eq!(bed.exits, 2);
    let line = |says: &[Notice], dials: &str| {
        let reports = says.iter().filter(|notice| matches!(notice, Notice::Report(_)));
        let lines: Vec<String> = reports.filter_map(Notice::to_talk).collect();
        assert_eq!(lines, [format!("report: lan after 0 ms, {dials}, 2 frames")]);
    };
    line(&bed.caster_says, "1 dial");
    line(&bed.viewer_says, "0 dials");
}

#[test]
fn on_a_full_link_the_goodbye_goes_alone() {
    let mut bed = Bed::new();
    bed.cast(1);
    bed.carry();
    bed.caster.handle_input(bed.now, Input::Backlogged { conn: bed.names.0 });
    bed.cast(2);
    bed.cast(3);
    bed.end();
    assert_eq!(bed.shown, [1], "what waited would have cut the goodbye off");
    assert!(bed.viewer_knows_the_end());
    assert_eq!(bed.exits, 2);
}

#[test]
fn a_viewer_that_was_linked_and_is_gone_is_said_not_to_have_come_back() {
    let mut bed = Bed::new();
    bed.cast(1);
    bed.carry();
    bed.caster.handle_input(bed.now, Input::Closed { conn: bed.names.0, error: Some(NetError::Reset) });
    bed.drain();
    // Nothing that is dialled answers.
    while bed.exits == 0 {
        bed.now = bed.caster.poll_timeout().expect("it does not wait for ever").0;
        bed.caster.handle_timeout(bed.now);
        bed.drain();
    }
    let Some(Notice::End { ok: false, reason }) = bed.caster_says.last() else { panic!("it failed") };
    assert!(reason.contains("has not come back") && !reason.contains("ticket"), "{reason}");
}

/// Opens the sharing page's WebSocket.
fn open_page(caster: &mut Caster, now: Instant) -> ConnId {
    let conn = ConnId { room: SHARE, serial: ConnId::ACCEPTED };
    let (local, remote) = (addr("127.0.0.1:80"), addr("127.0.0.1:5000"));
    let listener = ListenerId { room: SHARE, serial: 0 };
    caster.handle_input(now, Input::Accepted { listener, conn, local, remote });
    let token = PageToken::new([7; 16]);
    let request = format!(
        "GET /ws?t={} HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://127.0.0.1\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        token.as_str()
    );
    caster.handle_input(now, Input::Received { conn, bytes: request.as_bytes() });
    conn
}

#[test]
fn the_sharing_page_is_held_while_the_link_is_full() {
    let mut bed = Bed::new();
    open_page(&mut bed.caster, bed.now);
    bed.drain();
    assert!(bed.page_hears.contains(r#""hold":false"#), "{}", bed.page_hears);
    assert!(bed.page_hears.contains(r#""phase":"live""#), "{}", bed.page_hears);

    bed.page_hears.clear();
    bed.caster.handle_input(bed.now, Input::Backlogged { conn: bed.names.0 });
    bed.drain();
    assert!(bed.page_hears.contains(r#""hold":true"#), "{}", bed.page_hears);

    bed.page_hears.clear();
    bed.caster.handle_input(bed.now, Input::Drained { conn: bed.names.0 });
    bed.drain();
    assert!(bed.page_hears.contains(r#""hold":false"#), "{}", bed.page_hears);
}

fn by_code(number: u8) -> CodeConfig {
    CodeConfig {
        rooms: meeting::Rooms::nth(number),
        servers: vec![addr("203.0.113.1:4000")],
        code: "427-tiger-lamp".parse().expect("a code"),
        code_seed: punchcast::code::Seed([1; 32]),
        seed: 1,
        local_ips: Vec::new(),
        run: 1,
    }
}

fn nth_meeting(random: u8, number: u8) -> meeting::Config {
    let identity = ViewerIdentity::from_random(&[random; ViewerIdentity::RANDOM_LEN]);
    let ticket = identity.ticket(None, vec![addr(VIEWER_ADDR).into()]);
    let secrets = meeting::Secrets::Caster(ticket.caster_secrets());
    let rooms = meeting::Rooms::nth(number);
    meeting::Config { rooms, ..meeting_of(secrets, CASTER_ADDR, Some(&ticket)) }
}

fn overs(says: &[Notice]) -> Vec<String> {
    let talks = says.iter().filter_map(Notice::to_talk);
    talks.filter(|talk| talk.contains("no more to this one")).collect()
}

#[test]
fn a_code_of_a_viewer_who_has_the_cast_already_gives_no_second_one() {
    let mut bed = Bed::new();
    bed.caster.viewers = 2;
    bed.caster.asking.insert(1, Asking::new(bed.now, by_code(1)));
    bed.caster.asking_output(bed.now, 1, asking::Output::Meet(Box::new(nth_meeting(7, 1))));
    bed.caster.settle(bed.now);
    bed.drain();
    assert_eq!(bed.caster.outlets.keys().collect::<Vec<_>>(), [&0]);
    assert_eq!(bed.caster.outlets[&0].stages(), [route::Stage::Live]);
    let told = "viewer 2: no more to this one: its code is that of viewer 1, to whom the cast goes already";
    assert_eq!(overs(&bed.caster_says), [told]);
    assert!(!bed.caster.done);
}

#[test]
#[allow(clippy::disallowed_methods)] // A test's time begins somewhere.
fn a_ticket_that_has_not_linked_gives_way_to_the_code_of_its_viewer() {
    let now = Instant::now();
    let viewers = vec![nth_meeting(7, 0).into(), Whom::Code(by_code(1)), Whom::Code(by_code(2))];
    let mut caster = Caster::new(now, config(viewers));
    caster.asking_output(now, 1, asking::Output::Meet(Box::new(nth_meeting(7, 1))));
    caster.asking_output(now, 2, asking::Output::Meet(Box::new(nth_meeting(8, 2))));
    caster.settle(now);
    let go_on = caster.outlets.iter().filter(|(_, outlet)| !outlet.is_over()).map(|(at, _)| *at);
    assert_eq!(go_on.collect::<Vec<_>>(), [1, 2], "one cast to each viewer");
    let says: Vec<Notice> = std::iter::from_fn(|| caster.poll_output())
        .filter_map(|output| if let Output::Notice(notice) = output { Some(notice) } else { None })
        .collect();
    let told = "viewer 1: no more to this one: the code of viewer 2 names the same one: going on with that";
    assert_eq!(overs(&says), [told]);
    assert!(!caster.done);
}

#[test]
#[allow(clippy::disallowed_methods)] // A test's time begins somewhere.
fn a_viewer_whose_ticket_gave_way_to_its_code_gets_the_cast_once() {
    let now = Instant::now();
    let viewers = vec![nth_meeting(7, 0).into(), Whom::Code(by_code(1))];
    let mut caster = Caster::new(now, config(viewers));
    let open = |caster: &mut Caster, number: u8| {
        let room = meeting::Rooms::nth(number).hole;
        let local = SocketAddr::from(([0; 4], 700 + u16::from(number)));
        caster.handle_input(now, Input::Listening { listener: ListenerId { room, serial: 4 }, local });
        let error = NetError::Other(97);
        let listener = ListenerId { room, serial: 6 };
        caster.handle_input(now, Input::ListenFailed { listener, addr: addr("[::]:1"), error });
    };
    open(&mut caster, 0);
    caster.asking_output(now, 1, asking::Output::Meet(Box::new(nth_meeting(7, 1))));
    open(&mut caster, 1);
    let ops: Vec<NetOp> = std::iter::from_fn(|| caster.poll_output())
        .filter_map(|output| if let Output::Net(op) = output { Some(op) } else { None })
        .collect();
    let dialled: Vec<ConnId> = ops
        .iter()
        .filter_map(|op| if let NetOp::Connect { conn, .. } = op { Some(*conn) } else { None })
        .filter(|conn| meeting::Rooms::is_hole(conn.room))
        .collect();
    let [first, second] = dialled[..] else { panic!("each dials the viewer: {dialled:?}") };
    let given_up = NetOp::Close { conn: first, how: punchcast::app::Closing::Abort };
    assert!(ops.contains(&given_up), "the first is given up");
    for conn in [first, second] {
        let (local, remote) = (addr(CASTER_ADDR), addr(VIEWER_ADDR));
        caster.handle_input(now, Input::Connected { conn, local, remote });
    }
    let speaks: Vec<ConnId> = std::iter::from_fn(|| caster.poll_output())
        .filter_map(|output| match output {
            Output::Net(NetOp::Send { conn, .. }) => Some(conn),
            Output::Net(_) | Output::Notice(_) | Output::Exit => None,
        })
        .collect();
    assert_eq!(speaks, [second], "to the one viewer, over one connection");
}
