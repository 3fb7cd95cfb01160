//! A viewer without a network.

use super::show::{GIVES_WAY_AFTER, KEEP_ENDED, KEEP_LOST, MOVE_TIME};
use super::*;
use crate::meeting::{Link, Loss};
use punchcast::app::{ConnId, ListenerId};
use punchcast::endpoint::Endpoint;
use punchcast::id::SessionId;
use punchcast::link::EndReason;
use punchcast::media::{Kind, Unit};
use punchcast::policy::Rung;
use punchcast::rtmp::StreamId;
use punchcast::wire::message::Peer;
use std::time::Duration;

const CASTER: ClientId = ClientId(7);

fn addr(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

#[allow(clippy::disallowed_methods)] // A test's time begins somewhere.
fn viewer(page: Option<&str>) -> (Instant, Viewer) {
    let now = Instant::now();
    let identity = ViewerIdentity::from_random(&[7; ViewerIdentity::RANDOM_LEN]);
    let meeting = meeting::Config {
        rooms: Rooms::nth(0),
        secrets: meeting::Secrets::Viewer(identity.viewer_secrets()),
        agent: None,
        local_ips: vec![addr("[2001:db8::1]:0").ip(), addr("192.168.1.3:0").ip()],
        ticket_addresses: Vec::new(),
        run: 7,
    };
    let page = page.map(|at| PageConfig {
        addr: addr(at),
        ticket_link: String::new(),
        token: None,
        casts: 4,
        seed: 0,
    });
    let config = Config {
        identity,
        server: None,
        meeting,
        hole_port: 0,
        plain_key: None,
        dial: None,
        page,
        rtmp: None,
        casts: 4,
        once: false,
        seed: 0,
    };
    (now, Viewer::new(now, config))
}

fn introduce(viewer: &mut Viewer, now: Instant) {
    let peer = Peer {
        client: CASTER,
        observed: Vec::new(),
        local: Vec::new(),
        public: false,
        rtt_us: 0,
        mapped: Vec::new(),
    };
    viewer.rendezvous_event(
        now,
        agent::Event::Introduced { session: SessionId(1), peer, start_in: Duration::ZERO, rtt: None },
    );
}

/// A link of some run of a caster.
#[allow(clippy::disallowed_methods)] // A test's time begins somewhere.
fn link_of(serial: u32, run: u64, remote: &str) -> Link {
    let conn = ConnId { room: meeting::HOLE, serial };
    let (local, remote) = (Endpoint::new(addr("192.168.1.3:800")), Endpoint::new(addr(remote)));
    let formed = Instant::now();
    Link { conn, rung: Rung::Lan, local, remote, rtt: None, run, obstacle: None, secure: true, formed }
}

/// What the viewer tells, each with the cast that it is about.
fn told(viewer: &mut Viewer) -> Vec<(usize, Notice)> {
    let notices = std::iter::from_fn(|| viewer.poll_output()).filter_map(|output| match output {
        Output::Notice(notice) => Some(notice.of_cast()),
        Output::Net(_) | Output::Exit => None,
    });
    notices.collect()
}

/// The places of the casts that are told to be linked.
fn places(viewer: &mut Viewer) -> Vec<usize> {
    let linked = |(place, notice): &(usize, Notice)| matches!(notice, Notice::Link { .. }).then_some(*place);
    told(viewer).iter().filter_map(linked).collect()
}

/// A link forms; what the viewer says of the time that it took.
fn link(viewer: &mut Viewer, now: Instant) -> Duration {
    viewer.linked(now, link_of(1, 7, "192.168.1.2:700"));
    let elapsed = std::iter::from_fn(|| viewer.poll_output()).find_map(|output| match output {
        Output::Notice(Notice::Link { elapsed, .. }) => Some(elapsed),
        Output::Notice(_) | Output::Net(_) | Output::Exit => None,
    });
    elapsed.expect("a link is told")
}

#[test]
fn a_link_counts_from_its_introduction() {
    let (now, mut viewer) = viewer(None);
    introduce(&mut viewer, now);
    assert_eq!(viewer.status.phase, Phase::Connecting);
    let second = Duration::from_secs(1);
    assert_eq!(link(&mut viewer, now + second), second);
}

#[test]
fn an_introduction_that_comes_to_nothing_is_forgotten() {
    let (now, mut viewer) = viewer(None);
    introduce(&mut viewer, now);
    let (at, why) = viewer.poll_timeout().expect("a deadline");
    assert_eq!((at, why), (now + ATTEMPT_TIME, "an introduction that came to nothing"));
    viewer.handle_timeout(at);
    assert_eq!(viewer.status.phase, Phase::Waiting);
    assert_eq!(link(&mut viewer, at + Duration::from_secs(7200)), Duration::ZERO);
}

#[test]
fn a_caster_that_leaves_is_not_waited_for() {
    let (now, mut viewer) = viewer(None);
    introduce(&mut viewer, now);
    viewer.rendezvous_event(now, agent::Event::PeerLeft { client: ClientId(8) });
    assert_eq!(viewer.status.phase, Phase::Connecting, "another one left");
    viewer.rendezvous_event(now, agent::Event::PeerLeft { client: CASTER });
    assert_eq!(viewer.status.phase, Phase::Waiting);
    assert_eq!(link(&mut viewer, now + Duration::from_secs(9)), Duration::ZERO);
}

#[test]
fn the_link_of_a_page_everywhere_names_an_address_of_this_host() {
    for (at, expected) in [
        ("0.0.0.0:8080", "http://192.168.1.3:8080/"),
        ("[::]:8080", "http://[2001:db8::1]:8080/"),
        ("127.0.0.1:8080", "http://127.0.0.1:8080/"),
    ] {
        let (now, mut viewer) = viewer(Some(at));
        for (serial, local) in [(4, "0.0.0.0:800"), (6, "[::]:800")] {
            let listener = ListenerId { room: meeting::HOLE, serial };
            viewer.handle_input(now, Input::Listening { listener, local: addr(local) });
        }
        let listener = ListenerId { room: PAGE, serial: 0 };
        viewer.handle_input(now, Input::Listening { listener, local: addr(at) });
        let page = std::iter::from_fn(|| viewer.poll_output()).find_map(|output| match output {
            Output::Notice(Notice::Ready { page, .. }) => page,
            Output::Notice(_) | Output::Net(_) | Output::Exit => None,
        });
        assert_eq!(page.as_deref(), Some(expected));
    }
    assert_eq!(reachable(addr("0.0.0.0:1"), &[]), addr("127.0.0.1:1"));
}

#[test]
fn the_address_for_players_is_one_to_paste() {
    for (at, expected) in [
        ("0.0.0.0:1936", "rtmp://192.168.1.3:1936/punchcast/live"),
        ("127.0.0.1:1936", "rtmp://127.0.0.1:1936/punchcast/live"),
    ] {
        let (now, mut viewer) = viewer(None);
        viewer.wants_rtmp = true;
        for (serial, local) in [(4, "0.0.0.0:800"), (6, "[::]:800")] {
            let listener = ListenerId { room: meeting::HOLE, serial };
            viewer.handle_input(now, Input::Listening { listener, local: addr(local) });
        }
        viewer.port_event(now, rtmp_port::Event::Listening(addr(at)));
        let ready = told(&mut viewer).into_iter().map(|(_, notice)| notice);
        let ready = ready.filter(|notice| matches!(notice, Notice::Ready { .. }));
        let ready: Vec<_> = ready.filter_map(|notice| notice.to_json()).collect();
        assert_eq!(ready.len(), 1);
        assert_eq!(ready[0]["rtmp"], expected);
    }
}

#[test]
fn each_caster_has_its_place_until_none_is_left() {
    let (now, mut viewer) = viewer(None);
    for caster in 0..4 {
        viewer.linked(now, link_of(caster, caster.into(), &format!("192.168.1.{}:700", 10 + caster)));
    }
    assert_eq!(places(&mut viewer), [0, 1, 2, 3]);
    viewer.linked(now, link_of(9, 9, "192.168.1.9:700"));
    let notices = told(&mut viewer);
    assert!(notices.iter().any(|(_, notice)| matches!(notice, Notice::Busy { .. })), "{notices:?}");
    assert_eq!(viewer.shows.len(), 4);
}

#[test]
fn a_caster_that_comes_back_has_its_old_place() {
    let (now, mut viewer) = viewer(None);
    viewer.linked(now, link_of(1, 1, "192.168.1.10:700"));
    viewer.linked(now, link_of(2, 2, "192.168.1.11:700"));
    viewer.lost(now, ConnId { room: meeting::HOLE, serial: 1 }, Loss::Ended(EndReason::Silent));
    assert_eq!(places(&mut viewer), [0, 1]);
    assert_eq!(viewer.status.phase, Phase::Live, "the other one goes on");
    assert_eq!(viewer.status.casts[0].phase, Phase::Lost);

    viewer.linked(now, link_of(3, 3, "192.168.1.12:700"));
    assert_eq!(places(&mut viewer), [2], "a stranger leaves a lost cast its place");
    viewer.linked(now, link_of(4, 1, "10.9.8.7:700"));
    assert_eq!(places(&mut viewer), [0]);
    viewer.lost(now, ConnId { room: meeting::HOLE, serial: 2 }, Loss::Cut(None));
    viewer.linked(now, link_of(5, 5, "192.168.1.11:701"));
    assert_eq!(places(&mut viewer), [1], "the same host: the caster was started anew");
}

#[test]
fn a_viewer_of_the_first_cast_alone_waits_for_it_where_the_link_was_lost() {
    let (now, mut viewer) = viewer(None);
    viewer.once = true;
    let has_ended = |viewer: &mut Viewer| {
        let ok = |(_, notice)| if let Notice::End { ok, .. } = notice { Some(ok) } else { None };
        told(viewer).into_iter().find_map(ok)
    };
    viewer.linked(now, link_of(1, 1, "192.168.1.10:700"));
    viewer.lost(now, ConnId { room: meeting::HOLE, serial: 1 }, Loss::Ended(EndReason::Silent));
    viewer.linked(now, link_of(2, 1, "10.9.8.7:700"));
    assert_eq!(has_ended(&mut viewer), None, "the caster is back");
    viewer.lost(now, ConnId { room: meeting::HOLE, serial: 2 }, Loss::Ended(EndReason::Silent));
    viewer.tick_shows(now + KEEP_LOST / 2);
    assert_eq!(has_ended(&mut viewer), None);
    viewer.tick_shows(now + KEEP_LOST);
    assert_eq!(has_ended(&mut viewer), Some(false));
}

#[test]
fn a_viewer_of_the_first_cast_alone_does_not_end_while_another_goes_on() {
    let (now, mut viewer) = viewer(None);
    viewer.once = true;
    viewer.linked(now, link_of(1, 1, "192.168.1.10:700"));
    viewer.linked(now, link_of(2, 2, "192.168.1.11:700"));
    viewer.lost(now, ConnId { room: meeting::HOLE, serial: 1 }, Loss::Ended(EndReason::Silent));
    viewer.tick_shows(now + KEEP_LOST);
    let ends = |(_, notice): &(usize, Notice)| matches!(notice, Notice::End { .. });
    assert!(!told(&mut viewer).iter().any(ends));
    assert_eq!(viewer.shows.len(), 1);
    viewer.lost(now, ConnId { room: meeting::HOLE, serial: 2 }, Loss::Ended(EndReason::Bye(Bye::Finished)));
    assert!(told(&mut viewer).iter().any(ends));
}

#[test]
fn the_only_cast_is_followed_by_whoever_comes() {
    let (now, mut viewer) = viewer(None);
    viewer.linked(now, link_of(1, 1, "192.168.1.10:700"));
    viewer.lost(now, ConnId { room: meeting::HOLE, serial: 1 }, Loss::Ended(EndReason::Silent));
    viewer.linked(now, link_of(2, 2, "10.9.8.7:700"));
    assert_eq!(places(&mut viewer), [0, 0]);
}

#[test]
fn a_relayed_link_that_is_told_late_does_not_take_the_direct_one_s_place() {
    let (now, mut viewer) = viewer(None);
    let second = Duration::from_secs(1);
    let relayed =
        |serial, formed| Link { rung: Rung::Relayed, formed, ..link_of(serial, 1, "10.9.8.7:4000") };
    let carries = |viewer: &mut Viewer, serial| viewer.place_of(ConnId { room: meeting::HOLE, serial });
    viewer.linked(now + second, link_of(1, 1, "192.168.1.10:700"));
    viewer.linked(now + second * 2, relayed(2, now));
    assert_eq!(places(&mut viewer), [0]);
    assert_eq!((carries(&mut viewer, 1), carries(&mut viewer, 2)), (Some(0), None));
    // The direct one is dead, and its end has not come here.
    viewer.linked(now + second * 3, relayed(3, now + second * 2));
    assert_eq!((carries(&mut viewer, 1), carries(&mut viewer, 3)), (None, Some(0)));
}

#[test]
fn a_cast_that_moves_begins_anew_where_its_old_link_has_not_ended_its_stream() {
    let conn = |serial| ConnId { room: meeting::HOLE, serial };
    for breaks in [true, false] {
        let (now, mut viewer) = viewer(None);
        viewer.linked(now, Link { rung: Rung::Relayed, ..link_of(1, 1, "10.9.8.7:4000") });
        viewer.linked(now, link_of(2, 1, "192.168.1.10:700"));
        let Some(Some(next)) = viewer.show_at(0).and_then(Show::next) else { panic!("it moves") };
        next.cast.stream = Some(StreamId(1));
        let keyframe = Unit { kind: Kind::Video, timestamp: 0, payload: vec![0x17, 1, 0, 0, 0].into() };
        (next.since, next.units) = (Some(now), [keyframe].into());
        told(&mut viewer);
        if breaks {
            viewer.lost(now, conn(1), Loss::Cut(None));
        } else {
            viewer.handle_timeout(now + MOVE_TIME);
        }
        assert_eq!((viewer.place_of(conn(1)), viewer.place_of(conn(2))), (None, Some(0)));
        assert_eq!(viewer.shows[0].meter.total_frames(), 1);
        let mut told = told(&mut viewer);
        told.retain(|(_, notice)| !matches!(notice, Notice::Stats(_)));
        let anew = matches!(&told[..], [(0, Notice::StreamStarted), (0, Notice::Unit(_))]);
        assert!(anew, "breaks: {breaks}: {told:?}");
    }
}

#[test]
fn pictures_of_a_link_that_was_replaced_before_its_loss_was_noticed_are_counted() {
    let (now, mut viewer) = viewer(None);
    viewer.once = true;
    let picture = || Unit { kind: Kind::Video, timestamp: 0, payload: vec![0x17, 1, 0, 0, 0].into() };
    for (serial, pictures) in [(1, 3), (2, 2)] {
        viewer.linked(now, link_of(serial, 1, "192.168.1.10:700"));
        (0..pictures).for_each(|_| viewer.unit(now, 0, picture()));
    }
    viewer.leave(now, true, String::new());
    let frames = |(_, notice)| if let Notice::Report(report) = notice { Some(report.frames) } else { None };
    assert_eq!(told(&mut viewer).into_iter().find_map(frames), Some(5));
}

#[test]
fn a_viewer_of_one_cast_lets_another_in_only_when_the_first_is_silent() {
    let (now, mut viewer) = viewer(None);
    viewer.casts = 1;
    viewer.linked(now, link_of(1, 1, "192.168.1.10:700"));
    viewer.linked(now + GIVES_WAY_AFTER / 2, link_of(2, 2, "10.9.8.7:700"));
    assert_eq!(places(&mut viewer), [0]);
    viewer.linked(now + GIVES_WAY_AFTER, link_of(3, 3, "10.9.8.7:700"));
    assert_eq!(places(&mut viewer), [0]);
    assert_eq!(viewer.place_of(ConnId { room: meeting::HOLE, serial: 3 }), Some(0));
}

#[test]
fn casts_that_do_not_come_back_lose_their_place_in_time() {
    let (now, mut viewer) = viewer(None);
    viewer.linked(now, link_of(1, 1, "192.168.1.10:700"));
    viewer.linked(now, link_of(2, 2, "192.168.1.11:700"));
    viewer.lost(now, ConnId { room: meeting::HOLE, serial: 1 }, Loss::Cut(None));
    viewer.lost(now, ConnId { room: meeting::HOLE, serial: 2 }, Loss::Ended(EndReason::Bye(Bye::Finished)));
    viewer.handle_timeout(now + KEEP_ENDED);
    assert_eq!(viewer.status.casts.iter().map(|cast| cast.place).collect::<Vec<_>>(), [0]);
    viewer.handle_timeout(now + KEEP_LOST);
    assert!(viewer.status.casts.is_empty());
    assert_eq!(viewer.status.phase, Phase::Ended, "what happened last stays to be read");
}
