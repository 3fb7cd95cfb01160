//! The simulated TCP against what RFC 9293 says and what was measured on Linux.

use crate::net::{HostId, Place};
use crate::replay::sweep;
use crate::script::{Echo, Script, Seen, accepted, close, conn, connect, listen, send};
use crate::world::World;
use punchcast::app::{Closing, ListenerId, NetError, NetOp, Room};
use std::net::SocketAddr;
use std::time::Duration;

/// Two public hosts that run scripts.
fn pair(seed: u64) -> (World, HostId, HostId) {
    let mut world = World::new(seed);
    let (a, b) = (world.add_host(Place::INTERNET), world.add_host(Place::INTERNET));
    world.start(a, Script::default());
    world.start(b, Script::default());
    (world, a, b)
}

/// What a script saw, in order.
pub(crate) fn seen(world: &World, host: HostId) -> Vec<Seen> {
    world.app::<Script>(host).notices.iter().map(|(_, seen)| seen.clone()).collect()
}

pub(crate) fn tell(world: &mut World, host: HostId, op: NetOp) {
    world.tell::<Script>(host, op);
}

/// A pair with connection 0 of `a` accepted by `b`.
fn linked(seed: u64) -> (World, HostId, HostId) {
    let (mut world, a, b) = pair(seed);
    let to = world.endpoint(b, 80);
    tell(&mut world, b, listen(to));
    tell(&mut world, a, connect(0, None, to));
    world.run_for(SECOND);
    assert!(matches!(seen(&world, a)[..], [Seen::Connected { .. }]));
    assert!(matches!(seen(&world, b)[..], [Seen::Listening(_), Seen::Accepted { .. }]));
    (world, a, b)
}

fn received(world: &World, host: HostId) -> Vec<u8> {
    let bytes = |seen| if let Seen::Received(_, bytes) = seen { bytes } else { Vec::new() };
    seen(world, host).into_iter().flat_map(bytes).collect()
}

fn received_len(world: &World, host: HostId) -> usize {
    let len = |seen: &Seen| if let Seen::Received(_, bytes) = seen { bytes.len() } else { 0 };
    world.app::<Script>(host).notices.iter().map(|(_, seen)| len(seen)).sum()
}

#[test]
fn a_connect_takes_one_round_trip_and_echoes_come_back() {
    let mut world = World::new(1);
    let (a, b) = (world.add_host(Place::INTERNET), world.add_host(Place::INTERNET));
    let server = world.endpoint(b, 7);
    world.start(b, Echo::new("0.0.0.0:7".parse().unwrap()));
    world.start(a, Script::default());

    tell(&mut world, a, connect(0, None, server));
    let took = world.run_until(SECOND, |world| !seen(world, a).is_empty()).unwrap();
    assert_eq!(took, Duration::from_millis(80));
    tell(&mut world, a, send(conn(0), b"hello"));
    world.run_until(SECOND, |world| received(world, a) == b"hello").unwrap();
}

#[test]
fn a_closed_port_refuses_after_one_round_trip() {
    let (mut world, a, b) = pair(1);
    let to = world.endpoint(b, 80);
    tell(&mut world, a, connect(0, None, to));
    let took = world.run_until(SECOND, |world| !seen(world, a).is_empty()).unwrap();
    assert_eq!(seen(&world, a), [Seen::ConnectFailed(conn(0), NetError::Refused)]);
    assert_eq!(took, Duration::from_millis(80));
}

#[test]
fn silence_times_out_after_131_seconds() {
    let (mut world, a, b) = pair(1);
    world.set_online(b, false);
    let to = world.endpoint(b, 80);
    tell(&mut world, a, connect(0, None, to));
    let took = world.run_until(Duration::from_secs(200), |world| !seen(world, a).is_empty()).unwrap();
    assert_eq!(seen(&world, a), [Seen::ConnectFailed(conn(0), NetError::TimedOut)]);
    assert_eq!(took, Duration::from_secs(131));
}

#[test]
fn an_address_that_nobody_has_is_unreachable() {
    let (mut world, a, _) = pair(1);
    tell(&mut world, a, connect(0, None, "192.168.77.7:80".parse().unwrap()));
    tell(&mut world, a, connect(1, None, "[2001:db8::7]:80".parse().unwrap()));
    world.run_for(SECOND);
    let failed = |serial| Seen::ConnectFailed(conn(serial), NetError::Unreachable);
    assert_eq!(seen(&world, a), [failed(1), failed(0)]);
}

#[test]
fn a_lost_syn_is_sent_again_after_a_second() {
    let (mut world, a, b) = pair(1);
    let to = world.endpoint(b, 80);
    tell(&mut world, b, listen(to));
    world.set_online(b, false);
    tell(&mut world, a, connect(0, None, to));
    world.run_for(SECOND / 2);
    world.set_online(b, true);
    let took = world.run_until(SECOND * 3, |world| !seen(world, a).is_empty()).unwrap();
    assert!(matches!(seen(&world, a)[..], [Seen::Connected { .. }]));
    assert_eq!(took, Duration::from_millis(580));
}

#[test]
fn crossing_syns_complete_the_connecting_sockets_and_accept_never_fires() {
    let (mut world, a, b) = pair(1);
    let (at_a, at_b) = (world.endpoint(a, 5000), world.endpoint(b, 6000));
    tell(&mut world, a, listen(at_a));
    tell(&mut world, b, listen(at_b));
    tell(&mut world, a, connect(0, Some(at_a), at_b));
    world.run_for(Duration::from_millis(10));
    tell(&mut world, b, connect(0, Some(at_b), at_a));
    world.run_for(SECOND * 3);
    assert_eq!(seen(&world, a)[1..], [Seen::Connected { conn: conn(0), remote: at_b }]);
    assert_eq!(seen(&world, b)[1..], [Seen::Connected { conn: conn(0), remote: at_a }]);

    tell(&mut world, a, send(conn(0), b"one"));
    tell(&mut world, b, send(conn(0), b"two"));
    world.run_for(SECOND);
    assert_eq!((received(&world, a), received(&world, b)), (b"two".to_vec(), b"one".to_vec()));
}

#[test]
fn a_syn_that_comes_first_is_accepted_and_the_same_four_tuple_is_not_available_then() {
    let (mut world, a, b) = pair(1);
    let (at_a, at_b) = (world.endpoint(a, 5000), world.endpoint(b, 6000));
    tell(&mut world, b, listen(at_b));
    tell(&mut world, a, connect(0, Some(at_a), at_b));
    tell(&mut world, a, connect(1, Some(at_a), at_b));
    assert_eq!(seen(&world, a), [Seen::ConnectFailed(conn(1), NetError::AddrNotAvailable)]);

    // At b the peer's SYN has come, its ACK has not: the connection is in no queue that the application sees.
    world.run_for(Duration::from_millis(50));
    tell(&mut world, b, connect(0, Some(at_b), at_a));
    world.run_for(SECOND);
    let failed = Seen::ConnectFailed(conn(0), NetError::AddrNotAvailable);
    assert_eq!(seen(&world, b)[1..], [failed, Seen::Accepted { conn: accepted(0), remote: at_a }]);
}

#[test]
fn a_port_is_shared_only_by_those_that_all_agree() {
    let (mut world, a, b) = pair(1);
    let (at_a, to) = (world.endpoint(a, 5000), world.endpoint(b, 80));
    let only =
        |serial, addr| NetOp::Listen { listener: ListenerId { room: Room(2), serial }, addr, reuse: false };
    tell(&mut world, a, listen(at_a));
    tell(&mut world, a, only(0, at_a));
    tell(&mut world, a, only(1, "0.0.0.0:5000".parse().unwrap()));
    tell(&mut world, a, only(2, "198.18.0.1:1".parse().unwrap()));
    let free: SocketAddr = "0.0.0.0:0".parse().unwrap();
    tell(&mut world, a, only(3, free));
    let [_, in_use @ .., elsewhere, Seen::Listening(local)] = &seen(&world, a)[..] else { panic!() };
    assert_eq!(in_use, [Seen::ListenFailed(NetError::AddrInUse), Seen::ListenFailed(NetError::AddrInUse)]);
    assert_eq!(elsewhere, &Seen::ListenFailed(NetError::AddrNotAvailable));
    assert_ne!(local.port(), 0);

    let own = SocketAddr::new(at_a.ip(), local.port());
    tell(&mut world, a, connect(0, Some(own), to));
    assert_eq!(seen(&world, a).last(), Some(&Seen::ConnectFailed(conn(0), NetError::AddrInUse)));
}

#[test]
fn an_aborted_connect_is_silent_and_a_new_socket_has_a_new_number() {
    let (mut world, a, b) = pair(1);
    let (at_a, at_b) = (world.endpoint(a, 5000), world.endpoint(b, 6000));
    tell(&mut world, b, listen(at_b));
    tell(&mut world, a, connect(0, Some(at_a), at_b));
    world.run_for(Duration::from_millis(60));
    // The SYN+ACK for the first SYN is under way. It answers an old number: the new socket resets it, and its own
    // SYN, which the half-open connection at b only challenged, is sent again a second later.
    tell(&mut world, a, close(conn(0), Closing::Abort));
    tell(&mut world, a, connect(1, Some(at_a), at_b));
    let took = world.run_until(SECOND * 3, |world| !seen(world, a).is_empty()).unwrap();
    assert_eq!(seen(&world, a), [Seen::Connected { conn: conn(1), remote: at_b }]);
    assert!(took < Duration::from_millis(1200), "{took:?}");
}

#[test]
fn who_closes_first_keeps_the_four_tuple_for_a_minute() {
    let (mut world, a, b) = pair(1);
    let (at_a, at_b) = (world.endpoint(a, 5000), world.endpoint(b, 6000));
    tell(&mut world, b, listen(at_b));
    for (serial, closer) in [(0, b), (1, a)] {
        tell(&mut world, a, connect(serial, Some(at_a), at_b));
        world.run_for(SECOND);
        let (closer, at) = if closer == a { (a, conn(serial)) } else { (b, accepted(serial)) };
        tell(&mut world, closer, close(at, Closing::Flush));
        world.run_for(SECOND);
    }
    tell(&mut world, a, connect(2, Some(at_a), at_b));
    assert_eq!(seen(&world, a).last(), Some(&Seen::ConnectFailed(conn(2), NetError::AddrNotAvailable)));
    world.run_for(SECOND * 60);
    tell(&mut world, a, connect(3, Some(at_a), at_b));
    world.run_for(SECOND);
    assert_eq!(seen(&world, a).last(), Some(&Seen::Connected { conn: conn(3), remote: at_b }));
}

#[test]
fn a_flush_delivers_and_ends_in_order_while_an_abort_resets() {
    for (how, error) in [(Closing::Flush, None), (Closing::Abort, Some(NetError::Reset))] {
        let (mut world, a, b) = linked(1);
        tell(&mut world, a, send(conn(0), &[7; 100_000]));
        tell(&mut world, a, close(conn(0), how));
        world.run_for(SECOND);
        assert_eq!(received_len(&world, b), 100_000);
        assert_eq!(seen(&world, b).last(), Some(&Seen::Closed(accepted(0), error)));
        assert_eq!(seen(&world, a).len(), 1, "nothing names a closed connection");
        assert_eq!(world.conn_count(a) + world.conn_count(b), 0);
    }
}

#[test]
fn a_slow_reader_holds_the_sender_back() {
    let (mut world, a, b) = linked(1);
    tell(&mut world, b, NetOp::Read { conn: accepted(0), on: false });
    tell(&mut world, a, send(conn(0), &[7; 1_000_000]));
    world.run_for(SECOND * 5);
    assert_eq!(seen(&world, a)[1..], [Seen::Backlogged(conn(0))]);
    assert_eq!(received_len(&world, b), 0);

    tell(&mut world, b, NetOp::Read { conn: accepted(0), on: true });
    world.run_until(SECOND * 5, |world| received_len(world, b) == 1_000_000).unwrap();
    assert_eq!(seen(&world, a)[1..], [Seen::Backlogged(conn(0)), Seen::Drained(conn(0))]);
}

#[test]
fn a_stream_survives_loss_and_jitter_whole_and_in_order() {
    sweep("a megabyte through 5% loss", 8, |seed| {
        let (mut world, a, b) = linked(seed);
        world.weather(0.05, Duration::from_millis(15));
        let sent: Vec<u8> = (0..1_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        for part in sent.chunks(70_001) {
            tell(&mut world, a, send(conn(0), part));
        }
        world.run_until(SECOND * 60, |world| received_len(world, b) == sent.len()).unwrap();
        assert!(received(&world, b) == sent, "the bytes are others");
        tell(&mut world, a, close(conn(0), Closing::Flush));
        let closed = |world: &World| seen(world, b).last() == Some(&Seen::Closed(accepted(0), None));
        world.run_until(SECOND * 60, closed).unwrap();
    });
}

#[test]
fn a_link_with_a_rate_takes_its_time() {
    let (mut world, a, b) = linked(1);
    world.net.host_link(a).rate = Some(100_000);
    tell(&mut world, a, send(conn(0), &[7; 1_000_000]));
    let took = world.run_until(SECOND * 30, |world| received_len(world, b) == 1_000_000).unwrap();
    assert!((10.0..10.5).contains(&took.as_secs_f64()), "{took:?}");
}

#[test]
fn a_killed_program_is_closed_by_its_kernel_and_an_unplugged_one_is_missed_late() {
    let (mut world, a, b) = linked(1);
    world.kill(a);
    world.run_for(SECOND);
    assert_eq!(seen(&world, b).last(), Some(&Seen::Closed(accepted(0), None)));
    assert!(!world.is_running(a));

    let (mut world, a, b) = linked(2);
    world.set_online(b, false);
    tell(&mut world, a, send(conn(0), b"anybody?"));
    let ended = |world: &World| matches!(seen(world, a).last(), Some(Seen::Closed(..)));
    let took = world.run_until(SECOND * 2000, ended).unwrap();
    assert_eq!(seen(&world, a).last(), Some(&Seen::Closed(conn(0), Some(NetError::TimedOut))));
    assert!(took > SECOND * 600, "{took:?}");
}

#[test]
fn an_interrupted_program_ends_and_leaves_nothing_behind() {
    let (mut world, a, b) = linked(1);
    world.interrupt(b);
    assert!(!world.is_running(b));
    world.run_for(SECOND);
    assert_eq!(seen(&world, a).last(), Some(&Seen::Closed(conn(0), None)));
    let to = world.endpoint(b, 80);
    tell(&mut world, a, connect(1, None, to));
    world.run_for(SECOND);
    assert_eq!(seen(&world, a).last(), Some(&Seen::ConnectFailed(conn(1), NetError::Refused)));
}

#[test]
fn a_host_reaches_itself_over_loopback() {
    let (mut world, a, _) = pair(1);
    let here: SocketAddr = "127.0.0.1:80".parse().unwrap();
    tell(&mut world, a, listen(here));
    tell(&mut world, a, connect(0, None, here));
    world.run_for(SECOND);
    assert!(matches!(
        seen(&world, a)[..],
        [Seen::Listening(_), Seen::Connected { .. }, Seen::Accepted { .. }]
    ));
}

#[test]
fn ipv6_hosts_meet_and_one_wildcard_listener_takes_both_families() {
    let (mut world, a, b) = pair(1);
    world.add_v6(a);
    let to = SocketAddr::new(world.add_v6(b), 80);
    tell(&mut world, b, listen("[::]:80".parse().unwrap()));
    let v4 = world.endpoint(b, 80);
    tell(&mut world, a, connect(0, None, to));
    tell(&mut world, a, connect(1, None, v4));
    world.run_for(SECOND);
    let connected = |serial, remote| Seen::Connected { conn: conn(serial), remote };
    assert_eq!(seen(&world, a), [connected(0, to), connected(1, v4)]);
}

#[test]
fn the_same_seed_makes_the_same_world() {
    let run = |seed| {
        let (mut world, a, b) = linked(seed);
        world.weather(0.1, Duration::from_millis(30));
        tell(&mut world, a, send(conn(0), &[1; 300_000]));
        world.run_until(SECOND * 60, |world| received_len(world, b) == 300_000).unwrap()
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
}

#[test]
fn waiting_in_vain_tells_why() {
    let (mut world, ..) = pair(3);
    assert_eq!(world.seed(), 3);
    let stuck = world.run_until(SECOND, |_| false).unwrap_err();
    assert_eq!(stuck.why, "nothing left to happen");
    assert_eq!(world.elapsed(), SECOND);
}

const SECOND: Duration = Duration::from_secs(1);
