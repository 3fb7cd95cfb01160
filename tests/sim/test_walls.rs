//! The simulated NATs and firewalls against the words that describe them.

use crate::net::{HostId, Place};
use crate::replay::sweep;
use crate::script::{Script, Seen, accepted, close, conn, connect, listen, send};
use crate::spec::{Allocation, DEPENDENCES, Dependence, Refusal, Wall};
use crate::test_tcp::{seen, tell};
use crate::world::World;
use punchcast::app::{Closing, NetError};
use std::net::SocketAddr;
use std::time::Duration;

/// Two hosts, each behind its own wall, and two public servers that see where they come from.
struct Lab {
    world: World,
    hosts: [HostId; 2],
    places: [Place; 2],
    servers: [HostId; 2],
}

/// The hosts' hole ports.
const HOLE: u16 = 5000;
const SECOND: Duration = Duration::from_secs(1);

impl Lab {
    fn new(walls: [Wall; 2]) -> Self {
        Self::seeded(1, walls)
    }

    fn seeded(seed: u64, walls: [Wall; 2]) -> Self {
        let mut world = World::new(seed);
        let places = walls.map(|wall| world.add_wall(Place::INTERNET, wall));
        Self::of(world, places, places)
    }

    /// The hosts hang on `inner`; the walls of interest are around `places`.
    fn of(mut world: World, places: [Place; 2], inner: [Place; 2]) -> Self {
        let hosts = inner.map(|place| world.add_host(place));
        let servers = [Place::INTERNET; 2].map(|place| world.add_host(place));
        for host in hosts.into_iter().chain(servers) {
            world.start(host, Script::default());
        }
        for server in servers {
            for port in [80, 81] {
                let addr = SocketAddr::new(world.addrs(server)[0], port);
                let listener =
                    punchcast::app::ListenerId { serial: u32::from(port), ..crate::script::LISTENER };
                tell(&mut world, server, punchcast::app::NetOp::Listen { listener, addr, reuse: true });
            }
        }
        Self { world, hosts, places, servers }
    }

    fn local(&self, side: usize) -> SocketAddr {
        self.world.endpoint(self.hosts[side], HOLE)
    }

    fn server(&self, number: usize, port: u16) -> SocketAddr {
        self.world.endpoint(self.servers[number], port)
    }

    /// Dials from the hole port.
    fn dial(&mut self, side: usize, serial: u32, to: SocketAddr) {
        let from = self.local(side);
        tell(&mut self.world, self.hosts[side], connect(serial, Some(from), to));
    }

    /// Where the server `number` sees a new connection of this side's hole port come from.
    fn observed(&mut self, side: usize, serial: u32, number: usize, port: u16) -> SocketAddr {
        let server = self.server(number, port);
        self.dial(side, serial, server);
        self.world.run_for(SECOND);
        match seen(&self.world, self.servers[number]).last() {
            Some(Seen::Accepted { remote, .. }) => *remote,
            other => panic!("the server saw {other:?}"),
        }
    }

    fn seen(&self, side: usize) -> Vec<Seen> {
        seen(&self.world, self.hosts[side])
    }

    fn listen(&mut self, side: usize) {
        let local = self.local(side);
        tell(&mut self.world, self.hosts[side], listen(local));
    }
}

fn connected(serial: u32, remote: SocketAddr) -> Option<Seen> {
    Some(Seen::Connected { conn: conn(serial), remote })
}

fn refused(serial: u32) -> Option<Seen> {
    Some(Seen::ConnectFailed(conn(serial), NetError::Refused))
}

#[test]
fn mappings_depend_on_what_their_kind_says() {
    for mapping in DEPENDENCES {
        let mut lab = Lab::new([Wall::nat(mapping, Dependence::AddressAndPort), Wall::home()]);
        let first = lab.observed(0, 0, 0, 80);
        let other_port = lab.observed(0, 1, 0, 81);
        let other_addr = lab.observed(0, 2, 1, 80);
        assert_eq!(first.port(), HOLE, "the first mapping preserves the port");
        assert_eq!(first.ip(), other_addr.ip());
        assert_eq!(first == other_port, mapping <= Dependence::Address, "{mapping:?}");
        assert_eq!(first == other_addr, mapping == Dependence::Independent, "{mapping:?}");
    }
}

#[test]
fn allocation_takes_ports_as_its_kind_says() {
    let wall = |allocation| Wall { allocation, ..Wall::nat(Dependence::AddressAndPort, Dependence::Address) };
    let mut lab = Lab::new([wall(Allocation::Sequential(2)), wall(Allocation::Random)]);
    let ports = [(0, 80), (0, 81), (1, 80)];
    let [a, b, c] = [0, 1, 2].map(|n| lab.observed(0, n, ports[n as usize].0, ports[n as usize].1).port());
    assert_eq!((b, c), (a + 2, a + 4));
    let [a, b, c] = [0, 1, 2].map(|n| lab.observed(1, n, ports[n as usize].0, ports[n as usize].1).port());
    assert!(a != b && b != c && a.abs_diff(HOLE) > 0);
}

#[test]
fn filters_let_in_whom_their_kind_says() {
    for filtering in DEPENDENCES {
        for translates in [true, false] {
            let independent = Dependence::Independent;
            let wall = if translates { Wall::nat(independent, filtering) } else { Wall::firewall(filtering) };
            let mut lab = Lab::new([wall, wall]);
            lab.listen(0);
            let external = lab.observed(0, 0, 0, 80);
            let (same_addr, stranger) = (lab.servers[0], lab.servers[1]);
            let cases = [(same_addr, 80, true), (same_addr, 99, filtering <= Dependence::Address)];
            let cases = cases.into_iter().chain([(stranger, 80, filtering == Dependence::Independent)]);
            for (serial, (from, port, let_in)) in cases.enumerate().skip(1) {
                let local = lab.world.endpoint(from, port);
                let serial = u32::try_from(serial).unwrap();
                tell(&mut lab.world, from, connect(serial, Some(local), external));
                lab.world.run_for(SECOND);
                let got = seen(&lab.world, from).last().cloned() == connected(serial, external);
                assert_eq!(got, let_in, "{filtering:?}, translates {translates}, from port {port}");
            }
        }
    }
}

#[test]
fn strangers_get_silence_or_a_reset() {
    for (refusal, answered) in [(Refusal::Drop, false), (Refusal::Rst, true)] {
        let mut lab = Lab::new([Wall { refusal, ..Wall::home() }, Wall::home()]);
        let external = lab.observed(0, 0, 0, 80);
        lab.dial(1, 0, external);
        lab.world.run_for(SECOND * 30);
        assert_eq!(lab.seen(1).last().cloned(), if answered { refused(0) } else { None });
    }
}

#[test]
fn crossing_syns_open_two_plain_nats() {
    for gap in [0, 5, 45, 300, 2500] {
        let mut lab = Lab::new([Wall::home(), Wall::home()]);
        let external = [0, 1].map(|side| lab.observed(side, 0, 0, 80));
        lab.listen(0);
        lab.listen(1);
        lab.dial(0, 1, external[1]);
        lab.world.run_for(Duration::from_millis(gap));
        lab.dial(1, 1, external[0]);
        lab.world.run_for(SECOND * 4);
        assert_eq!(lab.seen(0).last().cloned(), connected(1, external[1]), "{gap} ms apart");
        assert_eq!(lab.seen(1).last().cloned(), connected(1, external[0]), "{gap} ms apart");
    }
}

#[test]
fn crossing_syns_find_each_other_through_loss() {
    sweep("a punch through 20% loss at both walls", 8, |seed| {
        let mut lab = Lab::seeded(seed, [Wall::home(), Wall::home()]);
        let external = [0, 1].map(|side| lab.observed(side, 0, 0, 80));
        for place in lab.places {
            lab.world.net.wall_link(place).loss = 0.2;
        }
        let hosts = lab.hosts;
        // What became of the latest connect: a handshake that loses too much ends, and is begun anew.
        let last = |world: &World, side: usize, serial: u32| match seen(world, hosts[side]).last() {
            Some(Seen::Connected { conn, .. }) if conn.serial == serial => Some(true),
            Some(Seen::ConnectFailed(conn, _) | Seen::Closed(conn, _)) if conn.serial == serial => {
                Some(false)
            }
            Some(_) | None => None,
        };
        let mut serials = [1, 1];
        [0, 1].into_iter().for_each(|side| lab.dial(side, 1, external[1 - side]));
        loop {
            let ends = |world: &World| [0, 1].map(|side| last(world, side, serials[side]));
            let over = |ends: [Option<bool>; 2]| ends.contains(&Some(false)) || ends == [Some(true); 2];
            lab.world.run_until(SECOND * 60, |world| over(ends(world))).unwrap();
            let ended = ends(&lab.world);
            if ended == [Some(true); 2] {
                break;
            }
            for side in [0, 1].into_iter().filter(|side| ended[*side] == Some(false)) {
                serials[side] += 1;
                assert!(serials[side] < 20, "it fails again and again");
                lab.dial(side, serials[side], external[1 - side]);
            }
        }
    });
}

#[test]
fn a_listener_alone_does_not_get_through_a_nat_that_tracks_the_window() {
    for tracks_window in [true, false] {
        let mut lab = Lab::new([Wall { tracks_window, ..Wall::home() }, Wall::home()]);
        let external = [0, 1].map(|side| lab.observed(side, 0, 0, 80));
        lab.listen(0);
        // Connect briefly, close, listen, accept: the classic article's way.
        lab.dial(0, 1, external[1]);
        lab.world.run_for(Duration::from_millis(30));
        let host = lab.hosts[0];
        tell(&mut lab.world, host, close(conn(1), Closing::Abort));
        lab.world.run_for(Duration::from_millis(100));
        lab.dial(1, 1, external[0]);
        lab.world.run_for(SECOND * 10);
        assert_eq!(lab.seen(1).last().cloned() == connected(1, external[0]), !tracks_window);
    }
}

#[test]
fn two_nats_that_answer_reset_need_crossing_syns() {
    let wall = Wall { refusal: Refusal::Rst, ..Wall::home() };
    for (gap, links) in [(0, true), (10, true), (200, false)] {
        let mut lab = Lab::new([wall, wall]);
        let external = [0, 1].map(|side| lab.observed(side, 0, 0, 80));
        lab.dial(0, 1, external[1]);
        lab.world.run_for(Duration::from_millis(gap));
        lab.dial(1, 1, external[0]);
        lab.world.run_for(SECOND * 4);
        for side in [0, 1] {
            let expected = if links { connected(1, external[1 - side]) } else { refused(1) };
            assert_eq!(lab.seen(side).last().cloned(), expected, "{gap} ms apart");
        }
    }
}

#[test]
fn one_side_may_refuse_simultaneous_open_but_not_both() {
    let refuses = Wall { refuses_simultaneous_open: true, ..Wall::home() };
    for (walls, links) in [([refuses, Wall::home()], true), ([refuses, refuses], false)] {
        let mut lab = Lab::new(walls);
        let external = [0, 1].map(|side| lab.observed(side, 0, 0, 80));
        lab.dial(0, 1, external[1]);
        lab.dial(1, 1, external[0]);
        lab.world.run_for(SECOND * 4);
        for side in [0, 1] {
            let expected =
                if links { connected(1, external[1 - side]) } else { connected(0, lab.server(0, 80)) };
            assert_eq!(lab.seen(side).last().cloned(), expected);
        }
    }
}

#[test]
fn hosts_behind_one_nat_meet_at_its_outside_only_if_it_hairpins() {
    for hairpins in [true, false] {
        let mut world = World::new(1);
        let place = world.add_wall(Place::INTERNET, Wall { hairpins, ..Wall::home() });
        let mut lab = Lab::of(world, [place, place], [place, place]);
        let external = [0, 1].map(|side| lab.observed(side, 0, 0, 80));
        assert_eq!(external[0].ip(), external[1].ip());
        lab.dial(0, 1, external[1]);
        lab.dial(1, 1, external[0]);
        lab.world.run_for(SECOND * 4);
        assert_eq!(lab.seen(0).last().cloned() == connected(1, external[1]), hairpins);

        let local = lab.local(1);
        lab.listen(1);
        lab.dial(0, 2, local);
        lab.world.run_for(SECOND);
        assert_eq!(lab.seen(0).last().cloned(), connected(2, local), "within the site no NAT is in the way");
    }
}

#[test]
fn double_nats_are_punched_like_single_ones() {
    let mut world = World::new(1);
    let outer = [0, 1].map(|_| world.add_wall(Place::INTERNET, Wall::home()));
    let inner = outer.map(|place| world.add_wall(place, Wall::home()));
    let mut lab = Lab::of(world, outer, inner);
    let external = [0, 1].map(|side| lab.observed(side, 0, 0, 80));
    lab.dial(0, 1, external[1]);
    lab.world.run_for(SECOND / 2);
    lab.dial(1, 1, external[0]);
    lab.world.run_for(SECOND * 4);
    assert_eq!(lab.seen(0).last().cloned(), connected(1, external[1]));
    assert_eq!(lab.seen(1).last().cloned(), connected(1, external[0]));
}

#[test]
fn an_unreachable_peer_is_reported_through_the_nat() {
    let mut lab = Lab::new([Wall::home(), Wall::home()]);
    lab.dial(0, 0, "192.168.9.9:9".parse().unwrap());
    lab.world.run_for(SECOND);
    assert_eq!(lab.seen(0), [Seen::ConnectFailed(conn(0), NetError::Unreachable)]);
}

#[test]
fn a_nat_that_forgets_cuts_its_connections_silently() {
    let mut lab = Lab::new([Wall::home(), Wall::home()]);
    lab.observed(0, 0, 0, 80);
    let place = lab.places[0];
    assert_eq!(lab.world.net.wall(place).mapping_count(), 1);
    lab.world.net.wall(place).forget();
    let (host, server) = (lab.hosts[0], lab.servers[0]);
    tell(&mut lab.world, host, send(conn(0), b"x"));
    tell(&mut lab.world, server, send(accepted(0), b"y"));
    lab.world.run_for(SECOND * 10);
    assert!(!lab.seen(0).iter().any(|seen| matches!(seen, Seen::Received(..) | Seen::Closed(..))));
}

#[test]
fn a_mapping_lives_while_it_is_used() {
    let wall = Wall { established_lifetime: SECOND * 60, ..Wall::home() };
    let mut lab = Lab::new([wall, wall]);
    lab.observed(0, 0, 0, 80);
    let (host, server, place) = (lab.hosts[0], lab.servers[0], lab.places[0]);
    for _ in 0..4 {
        lab.world.run_for(SECOND * 40);
        tell(&mut lab.world, host, send(conn(0), b"x"));
    }
    lab.world.run_for(SECOND);
    let heard = seen(&lab.world, server).iter().filter(|seen| matches!(seen, Seen::Received(..))).count();
    assert_eq!(heard, 4);

    lab.world.run_for(SECOND * 120);
    tell(&mut lab.world, server, send(accepted(0), b"y"));
    lab.world.run_for(SECOND * 2);
    assert_eq!(lab.world.net.wall(place).mapping_count(), 0);
    assert!(!lab.seen(0).iter().any(|seen| matches!(seen, Seen::Received(..))));
}
