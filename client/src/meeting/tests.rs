//! Two meetings, one connection, no network: every byte arrives at once, as it does on loopback.

use super::*;
use punchcast::app::{Closing, ListenerId, NetError};
use punchcast::link::{self, EndReason};
use punchcast::policy::Rung;
use punchcast::ticket::ViewerIdentity;
use std::net::SocketAddr;

const CASTER_ADDR: &str = "192.168.1.2:700";
const VIEWER_ADDR: &str = "192.168.1.3:800";

struct Side {
    meeting: Meeting,
    events: Vec<Event>,
    sent: Vec<(ConnId, Vec<u8>)>,
    dialled: Vec<(ConnId, SocketAddr)>,
    closed: Vec<(ConnId, Closing)>,
    stopped: Vec<ListenerId>,
}

impl Side {
    fn new(secrets: Secrets, own: &str, ticket_addresses: Vec<Endpoint>) -> Self {
        let local_ips = vec![addr(own).ip()];
        let config =
            Config { rooms: Rooms::nth(0), secrets, agent: None, local_ips, ticket_addresses, run: 7 };
        Self {
            meeting: Meeting::new(config),
            events: Vec::new(),
            sent: Vec::new(),
            dialled: Vec::new(),
            closed: Vec::new(),
            stopped: Vec::new(),
        }
    }

    fn start(&mut self, now: Instant, own: &str) {
        self.meeting.start(now, 0);
        self.drain();
        let v4 = ListenerId { room: HOLE, serial: 4 };
        self.input(
            now,
            Input::Listening { listener: v4, local: SocketAddr::from(([0; 4], addr(own).port())) },
        );
        let (listener, wanted) = (ListenerId { room: HOLE, serial: 6 }, addr("[::]:1"));
        self.input(now, Input::ListenFailed { listener, addr: wanted, error: NetError::Other(97) });
    }

    fn input(&mut self, now: Instant, input: Input<'_>) {
        self.meeting.handle_input(now, input);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.meeting.poll_output() {
            match output {
                Output::Event(event) => self.events.push(event),
                Output::Net(NetOp::Send { conn, bytes }) => self.sent.push((conn, bytes.to_vec())),
                Output::Net(NetOp::Connect { conn, to, .. }) => self.dialled.push((conn, to)),
                Output::Net(NetOp::Close { conn, how }) => self.closed.push((conn, how)),
                Output::Net(NetOp::StopListening { listener }) => self.stopped.push(listener),
                Output::Net(
                    NetOp::Listen { .. } | NetOp::Knock { .. } | NetOp::GiveUp { .. } | NetOp::Read { .. },
                ) => {}
            }
        }
    }

    fn link(&self) -> Option<Link> {
        self.events.iter().find_map(|event| if let Event::Linked(link) = event { Some(*link) } else { None })
    }

    fn stream(&self) -> Vec<u8> {
        let mut all = Vec::new();
        for event in &self.events {
            if let Event::Stream(_, bytes) = event {
                all.extend_from_slice(bytes);
            }
        }
        all
    }
}

struct Pair {
    caster: Side,
    viewer: Side,
    now: Instant,
}

impl Pair {
    #[allow(clippy::disallowed_methods)] // A test's time begins somewhere.
    fn new() -> Self {
        let now = Instant::now();
        let identity = ViewerIdentity::from_random(&[7; ViewerIdentity::RANDOM_LEN]);
        let ticket = identity.ticket(None, vec![Endpoint::new(addr(VIEWER_ADDR))]);
        let secrets = Secrets::Caster(ticket.caster_secrets());
        let mut pair = Self {
            caster: Side::new(secrets, CASTER_ADDR, ticket.addresses),
            viewer: Side::new(Secrets::Viewer(identity.viewer_secrets()), VIEWER_ADDR, Vec::new()),
            now,
        };
        pair.viewer.start(now, VIEWER_ADDR);
        pair.caster.start(now, CASTER_ADDR);
        pair
    }

    /// Connects the caster's dial to the viewer's listener; gives the caster's and the viewer's name of it.
    fn connect(&mut self, serial: u32) -> (ConnId, ConnId) {
        let (ours, to) = *self.caster.dialled.last().expect("the caster dials the ticket's address");
        assert_eq!(to, addr(VIEWER_ADDR));
        let theirs = ConnId { room: HOLE, serial: ConnId::ACCEPTED | serial };
        let listener = ListenerId { room: HOLE, serial: 4 };
        let (local, remote) = (addr(VIEWER_ADDR), addr(CASTER_ADDR));
        self.viewer.input(self.now, Input::Accepted { listener, conn: theirs, local, remote });
        self.caster.input(self.now, Input::Connected { conn: ours, local: remote, remote: local });
        (ours, theirs)
    }

    /// Carries what each side has sent on the connection, all that waits in one piece, until both are silent.
    fn carry(&mut self, ours: ConnId, theirs: ConnId) {
        loop {
            let to_viewer: Vec<u8> = take(&mut self.caster.sent, ours);
            let to_caster: Vec<u8> = take(&mut self.viewer.sent, theirs);
            if to_viewer.is_empty() && to_caster.is_empty() {
                return;
            }
            if !to_viewer.is_empty() {
                self.viewer.input(self.now, Input::Received { conn: theirs, bytes: &to_viewer });
            }
            if !to_caster.is_empty() {
                self.caster.input(self.now, Input::Received { conn: ours, bytes: &to_caster });
                // The stream follows the nomination in the same flight.
                if let Some(link) = self.caster.link()
                    && self.caster.stream().is_empty()
                    && self.viewer.link().is_none()
                {
                    self.caster.meeting.send(self.now, link.conn, (&b"first bytes"[..]).into());
                    self.caster.meeting.flush(self.now, link.conn);
                    self.caster.drain();
                }
            }
        }
    }
}

fn take(sent: &mut Vec<(ConnId, Vec<u8>)>, conn: ConnId) -> Vec<u8> {
    let mine = sent.extract_if(.., |(to, _)| *to == conn);
    mine.flat_map(|(_, bytes)| bytes).collect()
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn the_link_is_told_before_the_stream_that_arrives_with_its_nomination() {
    let mut pair = Pair::new();
    let (ours, theirs) = pair.connect(0);
    pair.carry(ours, theirs);
    let linked = pair.viewer.events.iter().position(|event| matches!(event, Event::Linked(_))).unwrap();
    let stream = pair.viewer.events.iter().position(|event| matches!(event, Event::Stream(..))).unwrap();
    assert!(linked < stream);
    assert_eq!(pair.viewer.stream(), b"first bytes");
    assert_eq!(pair.caster.link().unwrap().rung, Rung::Lan);
    assert!(pair.caster.link().unwrap().rtt.is_some());
}

#[test]
fn the_viewer_has_the_link_by_the_time_that_the_caster_tells_of_it() {
    let mut pair = Pair::new();
    let (ours, theirs) = pair.connect(0);
    for _ in 0..4 {
        let to_viewer = take(&mut pair.caster.sent, ours);
        pair.viewer.input(pair.now, Input::Received { conn: theirs, bytes: &to_viewer });
        let to_caster = take(&mut pair.viewer.sent, theirs);
        pair.caster.meeting.handle_input(pair.now, Input::Received { conn: ours, bytes: &to_caster });
        while let Some(output) = pair.caster.meeting.poll_output() {
            if let Output::Net(NetOp::Send { conn, bytes }) = output {
                pair.caster.sent.push((conn, bytes.to_vec()));
            } else if let Output::Event(Event::Linked(_)) = output {
                // A program may take its time before it asks for more.
                let to_viewer = take(&mut pair.caster.sent, ours);
                pair.viewer.input(pair.now, Input::Received { conn: theirs, bytes: &to_viewer });
                assert!(pair.viewer.link().is_some(), "the next caster would get its place");
                return;
            }
        }
    }
    panic!("no link");
}

#[test]
fn a_link_that_is_cut_is_lost_once_and_sought_again() {
    let mut pair = Pair::new();
    let (ours, theirs) = pair.connect(0);
    pair.carry(ours, theirs);
    pair.caster.input(pair.now, Input::Closed { conn: ours, error: Some(NetError::Reset) });
    let lost = |event: &&Event| matches!(event, Event::Lost(..));
    assert_eq!(pair.caster.events.iter().filter(lost).count(), 1);
    pair.caster.meeting.seek(pair.now);
    pair.caster.drain();
    assert_eq!(pair.caster.dialled.len(), 2);
    let (ours, theirs) = pair.connect(1);
    pair.caster.events.clear();
    pair.viewer.events.clear();
    pair.carry(ours, theirs);
    assert!(pair.caster.link().is_some() && pair.viewer.link().is_some());
}

#[test]
fn a_goodbye_ends_the_other_side_and_is_not_a_loss_here() {
    let mut pair = Pair::new();
    let (ours, theirs) = pair.connect(0);
    pair.carry(ours, theirs);
    pair.caster.meeting.leave(pair.now, Bye::Finished);
    pair.caster.drain();
    assert_eq!(pair.caster.closed, [(ours, Closing::Flush)]);
    pair.carry(ours, theirs);
    let Some(Event::Lost(_, loss)) = pair.viewer.events.last() else { panic!("the viewer hears nothing") };
    assert_eq!(*loss, Loss::Ended(EndReason::Bye(Bye::Finished)));
    assert!(!pair.caster.events.iter().any(|event| matches!(event, Event::Lost(..))));
}

#[test]
fn whoever_has_left_dials_listens_and_links_no_more() {
    let mut pair = Pair::new();
    let (dialled, _) = pair.caster.dialled[0];
    pair.caster.meeting.leave(pair.now, Bye::Finished);
    pair.caster.drain();
    assert_eq!(pair.caster.closed, [(dialled, Closing::Abort)]);
    assert_eq!(pair.caster.stopped, [ListenerId { room: HOLE, serial: 4 }]);
    assert_eq!(pair.caster.meeting.poll_timeout(), None, "it waits for nothing");
    // A connect that completed in this very moment.
    let (ours, theirs) = pair.connect(0);
    pair.carry(ours, theirs);
    assert!(pair.caster.link().is_none() && pair.viewer.link().is_none());
    assert_eq!(pair.caster.closed[1..], [(ours, Closing::Flush)]);
    // Its own words went out before.
    let mut pair = Pair::new();
    let (ours, theirs) = pair.connect(0);
    pair.carry(ours, theirs);
    pair.caster.meeting.leave(pair.now, Bye::Finished);
    let position = |outputs: &[Output], wanted: fn(&NetOp) -> bool| {
        outputs.iter().position(|output| matches!(output, Output::Net(op) if wanted(op))).unwrap()
    };
    let outputs: Vec<Output> = std::iter::from_fn(|| pair.caster.meeting.poll_output()).collect();
    let goodbye = position(&outputs, |op| matches!(op, NetOp::Close { how: Closing::Flush, .. }));
    assert!(goodbye < position(&outputs, |op| matches!(op, NetOp::StopListening { .. })));
}

#[test]
fn a_caster_without_answer_hears_what_was_met() {
    let mut pair = Pair::new();
    let deadline = pair.caster.meeting.poll_timeout().unwrap().0;
    pair.caster.meeting.handle_timeout(deadline);
    pair.caster.drain();
    let Some(Event::NoLink(findings, None)) = pair.caster.events.last() else { panic!("no end") };
    assert_eq!((findings.dials, findings.silent()), (1, 1));
}

#[test]
fn a_newcomer_from_an_awaited_address_takes_the_place_of_the_oldest_again_and_again() {
    let mut pair = Pair::new();
    let from = addr("198.51.100.7:1000");
    pair.viewer.meeting.door.expect(from.ip());
    let places = link::PER_SOURCE;
    let name = |n: usize| ConnId { room: HOLE, serial: ConnId::ACCEPTED | n as u32 };
    for n in 0..5 * places {
        pair.now += Duration::from_millis(10);
        let listener = ListenerId { room: HOLE, serial: 4 };
        let (local, remote) = (addr(VIEWER_ADDR), SocketAddr::new(from.ip(), 1000 + n as u16));
        pair.viewer.input(pair.now, Input::Accepted { listener, conn: name(n), local, remote });
        assert_eq!(pair.viewer.meeting.door.waiting(), places.min(n + 1), "no place is lost");
    }
    let displaced: Vec<ConnId> = pair.viewer.closed.iter().map(|(conn, _)| *conn).collect();
    assert_eq!(displaced, (0..4 * places).map(name).collect::<Vec<_>>());
}

impl Pair {
    /// A connection to the viewer whose far end the test is: the viewer's name of it, and that end.
    fn call(&mut self, serial: u32, from: IpAddr) -> (ConnId, link::Channel) {
        self.now += Duration::from_millis(10);
        let conn = ConnId { room: HOLE, serial: ConnId::ACCEPTED | serial };
        let (listener, remote) = (ListenerId { room: HOLE, serial: 4 }, SocketAddr::new(from, 1000));
        let local = addr(VIEWER_ADDR);
        self.viewer.input(self.now, Input::Accepted { listener, conn, local, remote });
        let Secrets::Caster(secrets) = self.caster.meeting.secrets() else { panic!("a caster") };
        (conn, link::Channel::caster(self.now, secrets, link::Facts::default()))
    }

    /// Carries bytes between the viewer and that end until both are silent.
    fn talk(&mut self, conn: ConnId, channel: &mut link::Channel) {
        loop {
            let mut bytes = Vec::new();
            while let Some(output) = channel.poll_output() {
                if let link::Output::Transmit(more) = output {
                    bytes.extend(more);
                }
            }
            self.viewer.input(self.now, Input::Received { conn, bytes: &bytes });
            let answer = take(&mut self.viewer.sent, conn);
            if answer.is_empty() {
                return;
            }
            channel.handle_input(self.now, &answer).expect("the viewer is genuine");
        }
    }
}

#[test]
fn who_does_not_hold_the_ticket_is_reset_without_a_byte_and_who_does_and_is_not_chosen_is_not() {
    let mut pair = Pair::new();
    let from = addr("198.51.100.7:1000").ip();
    let (stranger, _) = pair.call(0, from);
    let mut message = [7; 59];
    message[..2].copy_from_slice(&[0, 57]);
    pair.viewer.input(pair.now, Input::Received { conn: stranger, bytes: &message });
    assert!(pair.viewer.sent.is_empty());
    assert_eq!(pair.viewer.closed, [(stranger, Closing::Abort)]);
    let (spare, mut channel) = pair.call(1, from);
    pair.talk(spare, &mut channel);
    let until = pair.now + link::SPARE_TIME;
    while pair.now < until && channel.is_established() && pair.viewer.closed.len() == 1 {
        pair.now = pair.viewer.meeting.poll_timeout().expect("it does not wait for ever").0;
        channel.handle_timeout(pair.now);
        pair.viewer.meeting.handle_timeout(pair.now);
        pair.viewer.drain();
        let bytes = take(&mut pair.viewer.sent, spare);
        channel.handle_input(pair.now, &bytes).expect("the viewer is genuine");
        pair.talk(spare, &mut channel);
    }
    assert_eq!(pair.now, until);
    assert_eq!(pair.viewer.closed[1..], [(spare, Closing::Flush)]);
}

#[test]
fn a_place_at_the_door_is_kept_until_the_connection_is_the_link() {
    let mut pair = Pair::new();
    let from = addr("198.51.100.7:1000").ip();
    let places = link::PER_SOURCE;
    let mut proven = Vec::new();
    for n in 0..2 * places as u32 {
        let (conn, mut channel) = pair.call(n, from);
        pair.talk(conn, &mut channel);
        if channel.is_established() {
            proven.push((conn, channel));
        }
    }
    assert_eq!((proven.len(), pair.viewer.meeting.lines.len()), (places, places), "proven and not chosen");
    // An awaited one may displace another: what has proven nothing first, then the oldest.
    pair.viewer.meeting.door.expect(from);
    pair.viewer.closed.clear();
    let (silent, _) = pair.call(100, from);
    let _ = pair.call(101, from);
    assert_eq!(pair.viewer.closed, [(proven[0].0, Closing::Abort), (silent, Closing::Abort)]);
    assert_eq!(pair.viewer.meeting.door.waiting(), places);
    let (conn, channel) = &mut proven[1];
    channel.nominate().expect("it is open");
    pair.talk(*conn, channel);
    assert_eq!(pair.viewer.link().map(|link| link.conn), Some(*conn));
    assert_eq!(pair.viewer.meeting.door.waiting(), places - 1);
    let names: Vec<ConnId> = pair.viewer.meeting.lines.keys().copied().collect();
    names.into_iter().for_each(|conn| pair.viewer.input(pair.now, Input::Closed { conn, error: None }));
    assert_eq!(pair.viewer.meeting.door.waiting(), 0);
}

/// What the daemon tells of a caster whose hole port it sees at `holes`.
fn peer(client: u64, holes: &[&str]) -> Peer {
    let hole = |text: &&str| punchcast::wire::message::Observation {
        seen_by: punchcast::wire::message::SeenBy::Assist,
        local_port: addr(text).port(),
        endpoint: addr(text).into(),
        hole: true,
        own: false,
    };
    let observed = holes.iter().map(hole).collect();
    let client = punchcast::id::ClientId(client);
    Peer { client, observed, local: Vec::new(), public: false, rtt_us: 0, mapped: Vec::new() }
}

#[test]
fn an_introduction_is_over_once_the_caster_says_that_its_link_came_of_it_and_no_other_is() {
    let mut pair = Pair::new();
    let (ours, theirs) = pair.connect(0);
    pair.carry(ours, theirs);
    let now = pair.now;
    let introduce = |side: &mut Side, session, peer| {
        let approach = side.meeting.approach(Duration::ZERO, None);
        side.meeting.introduced(now, SessionId(session), peer, approach);
        side.meeting.settle(now);
        side.drain();
    };
    // No endpoint is that of the link. Another caster is on the same host.
    introduce(&mut pair.viewer, 1, peer(1, &["198.51.100.1:9", "192.168.1.2:9"]));
    introduce(&mut pair.viewer, 2, peer(2, &["192.168.1.2:701"]));
    let trying = |pair: &Pair| [1, 2, 3].map(|session| pair.viewer.meeting.hole.is_trying(Attempt(session)));
    assert_eq!(trying(&pair), [true, true, false], "the link may be dead");
    introduce(&mut pair.caster, 1, peer(3, &["203.0.113.1:800"]));
    pair.carry(ours, theirs);
    assert_eq!(trying(&pair), [false, true, false]);
    // A new login brings a new introduction, and what is said of it over the link is faster.
    introduce(&mut pair.caster, 3, peer(3, &["203.0.113.1:800"]));
    pair.carry(ours, theirs);
    introduce(&mut pair.viewer, 3, peer(4, &["198.51.100.1:9"]));
    assert_eq!(trying(&pair), [false, true, false]);
    assert!(!pair.caster.meeting.hole.is_trying(THE_ATTEMPT));
}

#[test]
fn what_was_planned_beside_a_relayed_link_is_not_done_once_that_is_lost_and_another_sought() {
    let mut pair = Pair::new();
    let (relay, session) = (Rooms::nth(0).relay, SessionId(1));
    let conn = ConnId { room: relay, serial: 0 };
    for (side, client) in [(&mut pair.caster, 3), (&mut pair.viewer, 1)] {
        let approach = side.meeting.approach(Duration::ZERO, None);
        side.meeting.introduced(pair.now, session, peer(client, &["203.0.113.1:800"]), approach);
        let (local, remote) = (addr(CASTER_ADDR), addr("203.0.113.9:4000"));
        let terms = relay::Terms { bytes: u64::MAX, time: Duration::from_secs(3600) };
        let through = relay::Event::Through { conn, local, remote, terms, first: Bytes::new() };
        side.meeting.relay_event(pair.now, session, through);
        side.meeting.settle(pair.now);
        side.drain();
    }
    pair.carry(conn, conn);
    assert_eq!(pair.caster.link().map(|link| link.rung), Some(Rung::Relayed));
    // The direct ways come to nothing, and are to be tried again.
    while pair.caster.meeting.direct_again.0.is_none() {
        let timeouts = [&pair.caster, &pair.viewer].map(|side| side.meeting.poll_timeout());
        pair.now = timeouts.into_iter().flatten().map(|(at, _)| at).min().expect("they wait");
        for side in [&mut pair.caster, &mut pair.viewer] {
            side.meeting.handle_timeout(pair.now);
            side.drain();
        }
        pair.carry(conn, conn);
    }
    let planned = pair.caster.meeting.direct_again.0.expect("it is planned");
    pair.caster.input(pair.now, Input::Closed { conn, error: Some(NetError::Reset) });
    assert!(matches!(pair.caster.events.last(), Some(Event::Lost(_, Loss::RelayCut(_)))));
    pair.caster.meeting.seek(pair.now);
    let until = pair.caster.meeting.seeks_until();
    assert!(until.is_some_and(|until| planned < until));
    pair.caster.meeting.handle_timeout(planned);
    assert_eq!(pair.caster.meeting.seeks_until(), until, "the attempt goes on as it was begun");
}
