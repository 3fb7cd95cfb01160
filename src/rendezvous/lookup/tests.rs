//! A lookup through its verbs, with daemon and viewer played here.

use super::*;
use crate::code::exchange::Answering;
use crate::ticket::ViewerIdentity;
use crate::wire::message::FromAssist;

const ROOM: Room = Room(9);

struct Bench {
    lookup: Lookup,
    now: Instant,
    ops: Vec<NetOp>,
    result: Option<Result<Box<Ticket>, Failure>>,
}

fn code() -> Code {
    "427-tiger-lamp".parse().expect("a code")
}

fn ticket() -> Ticket {
    ViewerIdentity::from_random(&[7; ViewerIdentity::RANDOM_LEN]).ticket(None, Vec::new())
}

impl Bench {
    #[allow(clippy::disallowed_methods)] // A test's time begins somewhere.
    fn new(servers: &[&str]) -> Self {
        let servers = servers.iter().map(|server| server.parse().expect("an address")).collect();
        let now = Instant::now();
        let lookup = Lookup::new(now, Config { room: ROOM, servers, code: code(), seed: Seed([1; 32]) });
        let mut bench = Self { lookup, now, ops: Vec::new(), result: None };
        bench.drain();
        bench
    }

    fn drain(&mut self) {
        while let Some(output) = self.lookup.poll_output() {
            match output {
                Output::Net(op) => self.ops.push(op),
                Output::Done(result) => assert!(self.result.replace(result).is_none(), "told once"),
            }
        }
    }

    /// The connection that was begun last.
    fn dialled(&self) -> (ConnId, SocketAddr) {
        let connect =
            |op: &NetOp| if let NetOp::Connect { conn, to, .. } = op { Some((*conn, *to)) } else { None };
        self.ops.iter().rev().find_map(connect).expect("a dial")
    }

    fn input(&mut self, input: &Input<'_>) {
        self.lookup.handle_input(self.now, input);
        self.drain();
    }

    /// Connects; the caster's element.
    fn asked(&mut self) -> (ConnId, crate::code::Element) {
        let (conn, remote) = self.dialled();
        self.input(&Input::Connected { conn, local: "192.168.0.2:7".parse().expect("an address"), remote });
        let ToMain::Call { nameplate: 427, element } = self.sent() else { panic!("no call") };
        (conn, element)
    }

    fn sent(&self) -> ToMain {
        let sent = |op: &NetOp| if let NetOp::Send { bytes, .. } = op { Some(bytes.clone()) } else { None };
        let mut reader = Reader::new(MAX_FRAME);
        reader.push(&self.ops.iter().rev().find_map(sent).expect("something was sent"));
        reader.next().expect("a message").expect("all of it")
    }

    fn hear(&mut self, conn: ConnId, message: &FromMain) {
        let bytes = wire::encode(message);
        self.input(&Input::Received { conn, bytes: &bytes });
    }

    /// A viewer with `shown` answers, up to the ticket.
    fn meet(&mut self, shown: &str, text: &str) {
        let (conn, element) = self.asked();
        let shown = shown.parse().expect("a code");
        let mut random = Randomness::new(Seed([2; 32]));
        let (answering, element) = Answering::begin(&shown, &element, &mut random).expect("an element");
        self.hear(conn, &FromMain::Answered { element });
        let ToMain::Confirm { proof } = self.sent() else { panic!("no proof") };
        match answering.check(&proof) {
            Some(key) => self.hear(conn, &FromMain::Granted { sealed: key.seal(text).expect("a key") }),
            None => self.hear(conn, &FromMain::Refused { reason: Refusal::WrongCode }),
        }
    }

    fn failure(&self) -> &Failure {
        let Some(Err(failure)) = &self.result else { panic!("{:?}", self.result) };
        failure
    }
}

#[test]
fn the_right_words_bring_the_ticket() {
    let mut bench = Bench::new(&["192.0.2.1:4000"]);
    bench.meet("427-tiger-lamp", &ticket().to_string());
    assert_eq!(bench.result, Some(Ok(Box::new(ticket()))));
    assert!(matches!(bench.ops.last(), Some(NetOp::Close { how: Closing::Flush, .. })));
    assert_eq!(bench.lookup.poll_timeout(), None);
}

#[test]
fn wrong_words_and_a_ticket_of_another_program_are_told_apart() {
    let mut bench = Bench::new(&["192.0.2.1:4000"]);
    bench.meet("427-lamp-tiger", &ticket().to_string());
    assert_eq!(bench.failure(), &Failure::WrongCode);
    let mut bench = Bench::new(&["192.0.2.1:4000"]);
    bench.meet("427-tiger-lamp", "punchcast2://something/else");
    assert_eq!(bench.failure(), &Failure::Ticket(TicketError::NotATicket));
}

#[test]
fn a_daemon_in_the_middle_that_does_not_know_the_words_brings_nothing() {
    let mut bench = Bench::new(&["192.0.2.1:4000"]);
    let (conn, element) = bench.asked();
    let guess = "427-tiger-lion".parse().expect("a code");
    let (_, ours) =
        Answering::begin(&guess, &element, &mut Randomness::new(Seed([2; 32]))).expect("an element");
    bench.hear(conn, &FromMain::Answered { element: ours });
    bench.hear(conn, &FromMain::Granted { sealed: vec![0; 300] });
    assert_eq!(bench.failure(), &Failure::WrongCode);
}

#[test]
fn each_address_of_the_daemon_is_tried() {
    let mut bench = Bench::new(&["192.0.2.1:4000", "192.0.2.2:4000", "192.0.2.3:4000"]);
    let (conn, _) = bench.dialled();
    bench.input(&Input::ConnectFailed { conn, error: NetError::Refused });
    assert_eq!(bench.dialled().1.to_string(), "192.0.2.2:4000");
    bench.now = bench.lookup.poll_timeout().expect("a deadline").0;
    bench.lookup.handle_timeout(bench.now);
    bench.drain();
    let (conn, to) = bench.dialled();
    assert_eq!(to.to_string(), "192.0.2.3:4000");
    bench.input(&Input::ConnectFailed { conn, error: NetError::Unreachable });
    assert!(matches!(bench.failure(), Failure::Unreachable(at, _) if *at == to));
}

#[test]
fn every_no_says_what_to_do() {
    for (reason, part) in [
        (Refusal::NoCode, "number 427"),
        (Refusal::WrongCode, "look, or listen, again"),
        (Refusal::TooMany, "wait ten seconds"),
        (Refusal::Full, "try again later"),
        (Refusal::BadRequest, "no main port of a punchcastd"),
    ] {
        let mut bench = Bench::new(&["192.0.2.1:4000"]);
        let (conn, _) = bench.asked();
        bench.hear(conn, &FromMain::Refused { reason });
        let said = bench.failure().to_string();
        assert!(said.contains(part), "{said}");
        assert!(!said.contains("tiger"), "{said}");
    }
}

#[test]
fn other_versions_and_other_programs_are_known() {
    let from_assist = wire::encode(&FromAssist::Refused { reason: Refusal::BadRequest });
    let answers: [(&[u8], &str); 5] = [
        (&from_assist, "perhaps its assist port"),
        (&[0, 9, VERSION - 1, 0, 0, 0, 6, 0, 0, 0, 1], "update the daemon"),
        (&[0, 9, VERSION + 1, 0, 0, 0, 6, 0, 0, 0, 1], "update this program"),
        (&[0, 0, 1], "no main port of a punchcastd"),
        (&[0, 5, VERSION, 0, 0, 0, 7], "try again"),
    ];
    for (answer, part) in answers {
        let mut bench = Bench::new(&["192.0.2.1:4000"]);
        let (conn, _) = bench.asked();
        bench.input(&Input::Received { conn, bytes: answer });
        let said = bench.failure().to_string();
        assert!(said.contains(part), "{said}");
        assert!(matches!(bench.ops.last(), Some(NetOp::Close { .. })));
    }
}

#[test]
fn silence_and_a_cut_end_the_question() {
    let mut bench = Bench::new(&["192.0.2.1:4000"]);
    bench.asked();
    bench.now = bench.lookup.poll_timeout().expect("a deadline").0;
    bench.lookup.handle_timeout(bench.now);
    bench.drain();
    assert!(matches!(bench.failure(), Failure::Cut(_)));
    let mut bench = Bench::new(&["192.0.2.1:4000"]);
    let (conn, _) = bench.asked();
    bench.input(&Input::Closed { conn, error: None });
    assert!(matches!(bench.failure(), Failure::Cut(_)));
    let mut bench = Bench::new(&["192.0.2.1:4000"]);
    bench.lookup.cancel();
    bench.drain();
    assert_eq!(bench.result, None);
    assert!(matches!(bench.ops.last(), Some(NetOp::Close { how: Closing::Abort, .. })));
}
