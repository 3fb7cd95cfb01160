//! The driver on loopback, with an application that does as it is told.

use super::sockets::{Arrival, MAX_FLUSHING};
use super::*;
use crate::app::{Closing, ConnId, ConnIds, FLUSH_TIME, ListenerId, NetError, NetOp, Room, Space};
use crate::cadence::Window;
use bytes::{BufMut as _, Bytes};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

const ROOM: Room = Room(7);
const LISTENER: ListenerId = ListenerId { room: ROOM, serial: 0 };

#[derive(Debug, PartialEq)]
enum Seen {
    Listening(SocketAddr),
    ListenFailed(NetError),
    Accepted(ConnId),
    Connected(ConnId),
    ConnectFailed(NetError),
    Received(ConnId, Vec<u8>),
    Placed(ConnId, usize),
    Backlogged,
    Drained,
    Closed(Option<NetError>),
    Interrupted,
    TimedOut,
}

/// Tells everything that it is fed; asks for what `ask` was given.
#[derive(Default)]
struct Puppet {
    outputs: VecDeque<Output<Seen>>,
    deadline: Option<Instant>,
    expected: Option<Window>,
    /// When it was to rehearse.
    rehearsals: Vec<Instant>,
    /// When it was asked what it expects: once before a window and once in it, if the driver sleeps.
    asked: RefCell<Vec<Instant>>,
    /// Who sends a picture at the second rehearsal.
    peer: Option<TcpStream>,
    /// Where it wants what is received, at most so many bytes, and how many beside.
    place: Option<(Vec<u8>, usize, usize)>,
}

impl Puppet {
    fn ask(&mut self, op: NetOp) {
        self.outputs.push_back(Output::Net(op));
    }
}

impl App for Puppet {
    type Message = NetOp;
    type Notice = Seen;

    fn handle_input(&mut self, _now: Instant, input: Input<'_>) {
        let seen = match input {
            Input::Listening { local, .. } => Seen::Listening(local),
            Input::ListenFailed { error, .. } => Seen::ListenFailed(error),
            Input::Accepted { conn, .. } => Seen::Accepted(conn),
            Input::Connected { conn, .. } => Seen::Connected(conn),
            Input::ConnectFailed { error, .. } => Seen::ConnectFailed(error),
            Input::Received { conn, bytes } => Seen::Received(conn, bytes.to_vec()),
            Input::Backlogged { .. } => Seen::Backlogged,
            Input::Drained { .. } => Seen::Drained,
            Input::Closed { error, .. } => Seen::Closed(error),
            Input::Interrupted => Seen::Interrupted,
        };
        self.outputs.push_back(Output::Notice(seen));
    }

    fn handle_message(&mut self, _now: Instant, message: NetOp) {
        self.ask(message);
    }

    fn handle_timeout(&mut self, _now: Instant) {
        self.deadline = None;
        self.outputs.push_back(Output::Notice(Seen::TimedOut));
    }

    fn poll_output(&mut self) -> Option<Output<Seen>> {
        self.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        self.deadline.map(|at| (at, "the test's deadline"))
    }

    fn space(&mut self, _conn: ConnId) -> Option<Space<'_>> {
        let (place, size, beside) = self.place.as_mut()?;
        let left = *size - place.len();
        place.reserve_exact(left);
        Some(Space { into: (left > 0).then(|| place.limit(left)), beside: *beside })
    }

    fn handle_placed(&mut self, _now: Instant, conn: ConnId, count: usize) {
        self.outputs.push_back(Output::Notice(Seen::Placed(conn, count)));
    }

    fn rehearse(&mut self, now: Instant) {
        self.rehearsals.push(now);
        if let Some(peer) = self.peer.as_mut().filter(|_| self.rehearsals.len() == 2) {
            peer.write_all(b"picture").unwrap();
        }
    }

    fn poll_expected(&self, now: Instant) -> Option<Window> {
        self.asked.borrow_mut().push(now);
        self.expected.filter(|window| now < window.until)
    }
}

fn driver() -> Driver<Puppet> {
    Driver::new(Puppet::default()).unwrap()
}

/// The next notice; a test that waits longer than ten seconds has failed.
fn next(driver: &mut Driver<Puppet>) -> Seen {
    driver.app_mut().deadline = Some(now() + Duration::from_secs(10));
    match driver.run().unwrap() {
        Step::Notice(Seen::TimedOut) => panic!("nothing happened for ten seconds"),
        Step::Notice(seen) => seen,
        Step::Exit => panic!("the application did not ask to exit"),
    }
}

fn listening(driver: &mut Driver<Puppet>, reuse: bool) -> SocketAddr {
    driver.app_mut().ask(NetOp::Listen { listener: LISTENER, addr: "127.0.0.1:0".parse().unwrap(), reuse });
    let Seen::Listening(addr) = next(driver) else { panic!("the driver does not listen") };
    addr
}

/// A connection that the driver accepted, and its other end.
fn linked(driver: &mut Driver<Puppet>) -> (TcpStream, ConnId) {
    let peer = TcpStream::connect(listening(driver, false)).unwrap();
    let Seen::Accepted(conn) = next(driver) else { panic!("nothing is accepted") };
    (peer, conn)
}

#[test]
fn an_accepted_connection_carries_bytes_both_ways_and_ends_in_order() {
    let mut driver = driver();
    let (mut peer, conn) = linked(&mut driver);
    assert_eq!(conn.room, ROOM);
    peer.write_all(b"hello").unwrap();
    assert_eq!(next(&mut driver), Seen::Received(conn, b"hello".to_vec()));
    driver.app_mut().ask(NetOp::Send { conn, bytes: Bytes::from_static(b"there") });
    driver.app_mut().ask(NetOp::Close { conn, how: Closing::Flush });
    driver.app_mut().outputs.push_back(Output::Exit);
    let reader = std::thread::spawn(move || {
        let mut all = Vec::new();
        peer.read_to_end(&mut all).unwrap();
        all
    });
    assert!(matches!(driver.run().unwrap(), Step::Exit));
    assert_eq!(reader.join().unwrap(), b"there");
}

#[test]
fn a_connection_shares_the_port_of_a_reusable_listener() {
    let mut driver = driver();
    let from = listening(&mut driver, true);
    let peer = TcpListener::bind("127.0.0.1:0").unwrap();
    let conn = ConnIds::new(ROOM).allocate();
    driver.app_mut().ask(NetOp::Connect { conn, from: Some(from), to: peer.local_addr().unwrap() });
    assert_eq!(next(&mut driver), Seen::Connected(conn));
    let (_stream, remote) = peer.accept().unwrap();
    assert_eq!(remote, from);
}

#[test]
fn a_refused_connect_says_so_and_a_second_bind_fails() {
    let mut driver = driver();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let conn = ConnIds::new(ROOM).allocate();
    driver.app_mut().ask(NetOp::Connect { conn, from: None, to: closed });
    assert_eq!(next(&mut driver), Seen::ConnectFailed(NetError::Refused));
    let addr = listening(&mut driver, false);
    let listener = ListenerId { room: ROOM, serial: 1 };
    driver.app_mut().ask(NetOp::Listen { listener, addr, reuse: false });
    assert_eq!(next(&mut driver), Seen::ListenFailed(NetError::AddrInUse));
}

#[test]
fn a_full_socket_is_backlogged_until_its_peer_reads() {
    let mut driver = driver();
    let (mut peer, conn) = linked(&mut driver);
    let total = 16 << 20;
    driver.app_mut().ask(NetOp::Send { conn, bytes: vec![7; total].into() });
    assert_eq!(next(&mut driver), Seen::Backlogged);
    let reader = std::thread::spawn(move || {
        let mut all = vec![0; total];
        peer.read_exact(&mut all).unwrap();
        (all, peer)
    });
    assert_eq!(next(&mut driver), Seen::Drained);
    assert!(reader.join().unwrap().0.iter().all(|&byte| byte == 7));
}

#[test]
fn reading_stops_and_goes_on_as_asked() {
    let mut driver = driver();
    let (mut peer, conn) = linked(&mut driver);
    driver.app_mut().ask(NetOp::Read { conn, on: false });
    peer.write_all(b"later").unwrap();
    driver.app_mut().deadline = Some(now() + Duration::from_millis(50));
    assert!(matches!(driver.run().unwrap(), Step::Notice(Seen::TimedOut)));
    driver.app_mut().ask(NetOp::Read { conn, on: true });
    assert_eq!(next(&mut driver), Seen::Received(conn, b"later".to_vec()));
    drop(peer);
    assert_eq!(next(&mut driver), Seen::Closed(None));
}

#[test]
fn messages_and_interrupts_come_from_other_threads() {
    let mut driver = driver();
    let handle = driver.handle();
    std::thread::spawn(move || {
        assert!(handle.send(NetOp::Listen {
            listener: LISTENER,
            addr: "127.0.0.1:0".parse().unwrap(),
            reuse: false
        }));
        assert!(handle.interrupt());
    });
    let mut seen = [next(&mut driver), next(&mut driver)];
    seen.sort_by_key(|seen| matches!(seen, Seen::Interrupted));
    assert!(matches!(seen, [Seen::Listening(_), Seen::Interrupted]));
}

#[test]
fn an_aborted_connection_is_reset_and_names_no_further_input() {
    let mut driver = driver();
    let (mut peer, conn) = linked(&mut driver);
    peer.write_all(b"unread").unwrap();
    driver.app_mut().ask(NetOp::Close { conn, how: Closing::Abort });
    driver.app_mut().deadline = Some(now() + Duration::from_millis(50));
    assert!(matches!(driver.run().unwrap(), Step::Notice(Seen::TimedOut)));
    let error = peer.read(&mut [0; 8]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[test]
fn a_socket_that_is_always_ready_starves_neither_others_nor_an_interrupt() {
    let mut driver = driver();
    let addr = listening(&mut driver, false);
    let mut busy = TcpStream::connect(addr).unwrap();
    let Seen::Accepted(_) = next(&mut driver) else { panic!() };
    let mut quiet = TcpStream::connect(addr).unwrap();
    let Seen::Accepted(quiet_conn) = next(&mut driver) else { panic!() };
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let flood = std::thread::spawn(move || {
        let piece = vec![7; 1 << 20];
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) && busy.write_all(&piece).is_ok() {}
    });
    quiet.write_all(b"here").unwrap();
    driver.handle().interrupt();
    let (mut heard, mut interrupted) = (false, false);
    // A flood of a gigabyte would have to pass if the others waited for its end.
    for _ in 0..16_384 {
        let seen = next(&mut driver);
        assert!(matches!(seen, Seen::Received(..) | Seen::Interrupted), "{seen:?}");
        heard |= matches!(seen, Seen::Received(conn, _) if conn == quiet_conn);
        interrupted |= seen == Seen::Interrupted;
        if heard && interrupted {
            break;
        }
    }
    assert!(heard && interrupted);
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    drop(driver);
    flood.join().unwrap();
}

#[test]
fn a_connect_that_heard_nothing_is_given_up_and_an_open_one_is_not() {
    let mut driver = driver();
    // A listener whose queue is full drops further SYNs.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.listen(0).unwrap();
    let full: SocketAddr = socket.local_addr().unwrap().as_socket().unwrap();
    let mut conns = ConnIds::new(ROOM);
    let (first, second) = (conns.allocate(), conns.allocate());
    driver.app_mut().ask(NetOp::Connect { conn: first, from: None, to: full });
    assert_eq!(next(&mut driver), Seen::Connected(first));
    driver.app_mut().ask(NetOp::Connect { conn: second, from: None, to: full });
    driver.app_mut().ask(NetOp::GiveUp { conn: first });
    driver.app_mut().ask(NetOp::GiveUp { conn: second });
    assert_eq!(next(&mut driver), Seen::ConnectFailed(NetError::GivenUp));
    driver.app_mut().ask(NetOp::Send { conn: first, bytes: Bytes::from_static(b"still open") });
    let mut got = [0; 10];
    let (mut stream, _) = TcpListener::from(socket).accept().unwrap();
    driver.app_mut().deadline = Some(now());
    assert!(matches!(driver.run().unwrap(), Step::Notice(Seen::TimedOut)));
    stream.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"still open");
}

#[test]
fn a_knock_has_a_full_life_after_its_first_syn() {
    let mut driver = driver();
    let peer = TcpListener::bind("127.0.0.1:0").unwrap();
    let conn = ConnIds::new(ROOM).allocate();
    // Loopback has no router, so even a SYN of the shortest life arrives, and the connection must carry bytes.
    driver.app_mut().ask(NetOp::Knock { conn, from: None, to: peer.local_addr().unwrap(), hops: 1 });
    assert_eq!(next(&mut driver), Seen::Connected(conn));
    let (stream, _) = peer.accept().unwrap();
    assert_eq!(socket2::SockRef::from(&stream).ttl_v4().unwrap(), 64);
}

#[test]
fn bytes_are_put_where_the_application_wants_them_and_what_is_beside_follows() {
    let mut driver = driver();
    let (mut peer, conn) = linked(&mut driver);
    let sent: Vec<u8> = (0..50_000_u32).map(|at| at as u8).collect();
    driver.app_mut().place = Some((Vec::new(), 40_000, 100));
    peer.write_all(&sent).unwrap();
    let mut beside = Vec::new();
    while beside.len() < 10_000 {
        let seen = next(&mut driver);
        let (placed, ..) = driver.app_mut().place.as_ref().unwrap();
        if let Seen::Received(of, bytes) = seen {
            assert_eq!((of, placed.len()), (conn, 40_000), "in the order in which they were sent");
            assert!(bytes.len() <= 100);
            beside.extend(bytes);
        } else {
            assert!(
                matches!(seen, Seen::Placed(of, count) if of == conn && (1..=placed.len()).contains(&count))
            );
            assert_eq!(placed[..], sent[..placed.len()]);
        }
    }
    assert_eq!(beside, sent[40_000..]);
}

#[test]
fn messages_without_end_leave_the_sockets_their_turn() {
    let mut driver = driver();
    let (mut peer, conn) = linked(&mut driver);
    let handle = driver.handle();
    for _ in 0..1000 {
        assert!(handle.send(NetOp::Send { conn, bytes: Bytes::from_static(b".") }));
    }
    peer.write_all(b"here").unwrap();
    assert_eq!(next(&mut driver), Seen::Received(conn, b"here".to_vec()));
    driver.app_mut().outputs.push_back(Output::Exit);
    assert!(matches!(driver.run().unwrap(), Step::Exit));
    drop(driver);
    let mut answers = Vec::new();
    peer.read_to_end(&mut answers).unwrap();
    assert!(answers.len() < 100, "{} messages came first", answers.len());
}

#[test]
fn what_is_beside_comes_before_the_end_that_a_write_finds() {
    let mut driver = driver();
    let (mut peer, conn) = linked(&mut driver);
    driver.app_mut().place = Some((Vec::new(), 40_000, 100));
    peer.write_all(&[7; 40_050]).unwrap();
    socket2::SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
    drop(peer);
    let mut seen = Vec::new();
    while !matches!(seen.last(), Some(Seen::Closed(_))) {
        if matches!(seen.last(), Some(Seen::Placed(..))) {
            driver.app_mut().ask(NetOp::Send { conn, bytes: Bytes::from_static(b"acknowledged") });
        }
        seen.push(next(&mut driver));
    }
    assert!(
        matches!(&seen[..], [Seen::Placed(_, 40_000), Seen::Received(_, bytes), Seen::Closed(Some(_))] if bytes.len() == 50),
        "{seen:?}"
    );
}

#[test]
fn what_is_read_to_its_place_at_once_is_no_more_than_a_read() {
    const SIZE: usize = 16 << 20;
    let mut driver = driver();
    let mut peer = TcpStream::connect(listening(&mut driver, false)).unwrap();
    assert!(matches!(next(&mut driver), Seen::Accepted(_)));
    driver.app_mut().place = Some((Vec::new(), SIZE, 100));
    let sender = std::thread::spawn(move || peer.write_all(&vec![7; SIZE]));
    let (mut all, mut most) = (0, 0);
    while all < SIZE {
        let seen = next(&mut driver);
        if let Seen::Received(_, bytes) = seen {
            all += bytes.len();
        } else {
            let Seen::Placed(_, count) = seen else { panic!("{seen:?}") };
            (all, most) = (all + count, most.max(count));
        }
    }
    sender.join().unwrap().unwrap();
    assert!(most <= READ_SIZE, "{most}");
}

#[test]
fn a_write_that_fails_loses_nothing_that_waits_to_be_read() {
    let mut driver = driver();
    let (mut peer, conn) = linked(&mut driver);
    // As before a large picture.
    driver.app_mut().place = Some((Vec::new(), 0, 4096));
    peer.write_all(&[7; 10_000]).unwrap();
    socket2::SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
    drop(peer);
    let mut all = 0;
    let end = loop {
        let seen = next(&mut driver);
        let Seen::Received(_, bytes) = seen else { break seen };
        all += bytes.len();
        driver.app_mut().ask(NetOp::Send { conn, bytes: Bytes::from_static(b"acknowledged") });
    };
    assert_eq!((end, all), (Seen::Closed(Some(NetError::Reset)), 10_000));
}

#[test]
fn a_write_that_fails_while_nothing_is_read_is_told_at_once() {
    let mut driver = driver();
    let (peer, conn) = linked(&mut driver);
    driver.app_mut().ask(NetOp::Read { conn, on: false });
    socket2::SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
    drop(peer);
    driver.app_mut().ask(NetOp::Send { conn, bytes: Bytes::from_static(b"anybody?") });
    assert_eq!(next(&mut driver), Seen::Closed(Some(NetError::Reset)));
}

/// Sockets that accepted `count` connections, and the other ends.
fn accepted(count: usize) -> (Sockets, Vec<ConnId>, Vec<TcpStream>) {
    let (mut sockets, _waker) = Sockets::new().unwrap();
    let addr = "127.0.0.1:0".parse().unwrap();
    sockets.carry_out(NetOp::Listen { listener: LISTENER, addr, reuse: false }, now());
    let Some(Input::Listening { local, .. }) = sockets.next_pending() else { panic!("it does not listen") };
    let (mut conns, mut peers, mut buffer) = (Vec::new(), Vec::new(), [0; 16]);
    while conns.len() < count {
        peers.push(TcpStream::connect(local).unwrap());
        let deadline = now() + Duration::from_secs(10);
        while conns.len() < peers.len() {
            assert!(now() < deadline, "nothing is accepted");
            sockets.wait(Some(deadline), now()).unwrap();
            let mut lap = sockets.ready();
            let mut app = Puppet::default();
            while let Some(arrival) = sockets.step_ready(&mut lap, &mut buffer, &mut app, now()) {
                let Arrival::Input(Input::Accepted { conn, .. }) = arrival else { panic!("{arrival:?}") };
                conns.push(conn);
            }
        }
    }
    (sockets, conns, peers)
}

#[test]
fn a_peer_that_does_not_end_its_side_is_let_go_in_time() {
    let (mut sockets, conns, _peers) = accepted(2);
    let start = now();
    for (late, conn) in conns.into_iter().enumerate() {
        let at = start + FLUSH_TIME / 2 * late as u32;
        sockets.carry_out(NetOp::Close { conn, how: Closing::Flush }, at);
    }
    sockets.handle_timeout(start + FLUSH_TIME - Duration::from_millis(1));
    assert_eq!(sockets.flushing(), 2);
    sockets.handle_timeout(start + FLUSH_TIME);
    assert_eq!(sockets.flushing(), 1);
    sockets.handle_timeout(start + FLUSH_TIME / 2 * 3);
    assert!(sockets.is_idle());
}

#[test]
fn an_exit_waits_for_what_is_flushed_and_looks_at_no_connect() {
    let (mut sockets, _conns, _peers) = accepted(1);
    let peer = TcpListener::bind("127.0.0.1:0").unwrap();
    let connect =
        NetOp::Connect { conn: ConnIds::new(ROOM).allocate(), from: None, to: peer.local_addr().unwrap() };
    let start = now();
    sockets.carry_out(connect, start);
    sockets.end_all(start);
    let left = Duration::from_millis(50);
    // The other end's answer to the FIN may end a wait or two.
    let lasts = (0..5).any(|_| {
        sockets.step_flushing(&mut Puppet::default(), start);
        let began = now();
        sockets.wait(None, start + FLUSH_TIME - left).unwrap();
        now() - began >= left
    });
    assert!(lasts);
    assert_eq!(sockets.flushing(), 1, "the other end keeps it waiting");
}

#[test]
fn the_oldest_flush_gives_way_to_one_too_many_and_its_bytes_still_arrive() {
    let (mut sockets, conns, mut peers) = accepted(MAX_FLUSHING + 1);
    for conn in conns {
        sockets.carry_out(NetOp::Send { conn, bytes: Bytes::from_static(b"last words") }, now());
        sockets.carry_out(NetOp::Close { conn, how: Closing::Flush }, now());
    }
    assert_eq!(sockets.flushing(), MAX_FLUSHING);
    let mut heard = Vec::new();
    peers[0].set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    peers[0].read_to_end(&mut heard).unwrap();
    assert_eq!(heard, b"last words");
}

// Elsewhere no alarm ends the sleep before.
#[cfg(any(target_os = "linux", target_os = "android"))]
#[test]
fn it_is_awake_while_something_is_expected_and_sleeps_before_and_after() {
    let mut driver = driver();
    let began = now();
    let window = window(began, 20_300, 150_000, 200_000);
    let app = driver.app_mut();
    app.expected = Some(window);
    app.deadline = Some(began + Duration::from_millis(250));
    assert!(matches!(driver.run().unwrap(), Step::Notice(Seen::TimedOut)));
    let app = driver.app();
    let asked = app.asked.borrow();
    let part = |from, until| asked.iter().filter(|at| (from..until).contains(*at)).count();
    // A driver that is awake asks every few microseconds.
    assert!(part(began, window.from) < 10, "{asked:?}");
    assert!(part(window.until, began + Duration::from_millis(250)) < 10, "{asked:?}");
    // On a busy machine it is awake no longer than it takes to find that out.
    assert!(part(window.from, window.until) > 10 || !driver.sockets.way.is_free(now()), "{asked:?}");
    // The first has everything made.
    let [first, held] = app.rehearsals[..] else { panic!("{:?}", app.rehearsals) };
    assert!(first < window.from && (window.from..window.earliest).contains(&held));
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn window(began: Instant, from: u64, earliest: u64, until: u64) -> Window {
    let [from, earliest, until] = [from, earliest, until].map(|us| began + Duration::from_micros(us));
    Window { from, earliest, until }
}

// As above.
#[cfg(any(target_os = "linux", target_os = "android"))]
#[test]
fn what_is_expected_ends_the_wait_awake() {
    let mut driver = driver();
    let (peer, conn) = linked(&mut driver);
    let began = now();
    let app = driver.app_mut();
    app.peer = Some(peer);
    app.expected = Some(window(began, 20_300, 9_000_000, 10_000_000));
    assert_eq!(next(&mut driver), Seen::Received(conn, b"picture".to_vec()));
    assert_eq!(driver.app().rehearsals.len(), 2);
}

/// What BBR has measured on the socket of that port, as ss(8) tells: bits a second.
#[cfg(target_os = "linux")]
fn measured_by_bbr(port: u16) -> Option<String> {
    let of_port = ["state", "established", "dport", "=", &format!(":{port}")];
    let output = std::process::Command::new("ss").arg("-tniH").args(of_port).output().ok()?;
    let told = String::from_utf8_lossy(&output.stdout);
    Some(told.split_once("bbr:(bw:")?.1.split_once("bps")?.0.into())
}

/// The pause itself would take ten seconds, so what is seen is that BBR has begun anew: it knows nothing.
#[cfg(target_os = "linux")]
#[test]
fn a_stream_is_kept_from_the_pauses_of_bbr() {
    let (mut sockets, conns, mut peers) = accepted(2);
    let ports = [0, 1].map(|at: usize| peers[at].local_addr().unwrap().port());
    if measured_by_bbr(ports[0]).is_none() {
        let _ = writeln!(io::stderr(), "SKIPPED: no ss here, or the system's TCP is not BBR");
        return;
    }
    let start = now();
    sockets.handle_timeout(start);
    for (at, size) in [128 * 1024, 32 * 1024].into_iter().enumerate() {
        sockets.carry_out(NetOp::Send { conn: conns[at], bytes: Bytes::from(vec![0; size]) }, start);
        sockets.flush();
        peers[at].read_exact(&mut vec![0; size]).unwrap();
    }
    let measured = |port| measured_by_bbr(port).unwrap();
    sockets.handle_timeout(start + Duration::from_millis(7990));
    assert_ne!(measured(ports[0]), "0", "not yet");
    sockets.handle_timeout(start + Duration::from_secs(8));
    assert_eq!(measured(ports[0]), "0");
    assert_ne!(measured(ports[1]), "0", "for so little it is not worth while");
}
