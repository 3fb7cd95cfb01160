//! A viewer without a network.

use super::*;
use punchcast::app::ListenerId;
use punchcast::endpoint::Endpoint;
use punchcast::id::SessionId;
use punchcast::policy::Rung;
use punchcast::wire::message::Peer;

const CASTER: ClientId = ClientId(7);

fn addr(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

#[allow(clippy::disallowed_methods)] // A test's time begins somewhere.
fn viewer(page: Option<&str>) -> (Instant, Viewer) {
    let now = Instant::now();
    let identity = ViewerIdentity::from_random(&[7; ViewerIdentity::RANDOM_LEN]);
    let meeting = meeting::Config {
        rooms: meeting::Rooms::nth(0),
        secrets: meeting::Secrets::Viewer(identity.viewer_secrets()),
        agent: None,
        local_ips: vec![addr("[2001:db8::1]:0").ip(), addr("192.168.1.3:0").ip()],
        ticket_addresses: Vec::new(),
        run: 7,
    };
    let page = page.map(|at| PageConfig { addr: addr(at), ticket_link: String::new(), token: None, seed: 0 });
    let config = Config { identity, server: None, meeting, page, rtmp: None, once: false, seed: 0 };
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

/// A link forms; what the viewer says of the time that it took.
fn link(viewer: &mut Viewer, now: Instant) -> Duration {
    let conn = ConnId { room: meeting::HOLE, serial: 1 };
    let (local, remote) = (Endpoint::new(addr("192.168.1.3:800")), Endpoint::new(addr("192.168.1.2:700")));
    viewer.linked(now, Link { conn, rung: Rung::Lan, local, remote, rtt: None, run: 7, obstacle: None });
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
