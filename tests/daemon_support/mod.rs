//! A network for one [`Daemon`] in virtual time: carries out what it asks for in memory, and is all of its clients.
#![allow(dead_code, reason = "each test program uses its part")]

use punchcast::app::{App, Closing, ConnId, Input, ListenerId, NetOp, Output, Room};
use punchcast::endpoint::Endpoint;
use punchcast::id::{ClientId, OwnerToken, PunchToken, RendezvousId, SessionId};
use punchcast::rendezvous::broker::{ALTERNATE, ASSIST, MAIN};
use punchcast::rendezvous::limits::Limits;
use punchcast::wire::codec::Message;
use punchcast::wire::frame::{MAX_FRAME, Reader};
use punchcast::wire::message::{FromAssist, FromMain, Peer, Refusal, Role, ToAssist, ToMain};
use punchcastd::{Config, Daemon, Notice};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

pub(crate) const MAIN_ADDR: &str = "[::]:4000";
pub(crate) const ASSIST_ADDR: &str = "[::]:8000";
pub(crate) const ALTERNATE_ADDR: &str = "192.0.2.200:8000";
/// Where clients reach the daemon over IPv4.
pub(crate) const DAEMON_IP: &str = "192.0.2.100";

/// One connection, as its client sees it.
#[derive(Debug, Default)]
pub(crate) struct Line {
    /// Bytes from the daemon that the client has not read.
    pub(crate) inbox: Vec<u8>,
    /// How the daemon ended it.
    pub(crate) end: Option<Closing>,
    /// Whether the daemon stopped reading.
    pub(crate) paused: bool,
}

pub(crate) struct World {
    pub(crate) daemon: Daemon,
    pub(crate) now: Instant,
    pub(crate) lines: BTreeMap<ConnId, Line>,
    pub(crate) notices: Vec<Notice>,
    pub(crate) listens: Vec<(ListenerId, SocketAddr)>,
    /// Connects that the daemon began, with where from and where to.
    pub(crate) dials: Vec<(ConnId, Option<SocketAddr>, SocketAddr)>,
    pub(crate) exited: bool,
    serial: u32,
    /// For fresh tokens and ports.
    count: u16,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with_limits(Limits::default())
    }

    /// A daemon whose listeners are up.
    pub(crate) fn with_limits(limits: Limits) -> Self {
        Self::bound(Config { limits, ..Config::default() })
    }

    /// One that relays.
    pub(crate) fn relaying(limits: Limits) -> Self {
        Self::bound(Config { limits, relay: true, ..Config::default() })
    }

    fn bound(config: Config) -> Self {
        let mut world = Self::unbound(config);
        world.input(Input::Listening { listener: MAIN, local: MAIN_ADDR.parse().unwrap() });
        world.input(Input::Listening { listener: ASSIST, local: ASSIST_ADDR.parse().unwrap() });
        world
    }

    /// One with a second address.
    pub(crate) fn with_alternate() -> Self {
        let alternate = ALTERNATE_ADDR.parse().unwrap();
        let mut world = Self::unbound(Config { alternate: Some(alternate), ..Config::default() });
        world.input(Input::Listening { listener: MAIN, local: MAIN_ADDR.parse().unwrap() });
        world.input(Input::Listening { listener: ASSIST, local: ASSIST_ADDR.parse().unwrap() });
        world.input(Input::Listening { listener: ALTERNATE, local: alternate });
        world
    }

    pub(crate) fn unbound(config: Config) -> Self {
        let mut world = Self {
            daemon: Daemon::new(config, 1),
            now: punchcast::driver::now(),
            lines: BTreeMap::new(),
            notices: Vec::new(),
            listens: Vec::new(),
            dials: Vec::new(),
            exited: false,
            serial: 0,
            count: 0,
        };
        world.drain();
        world
    }

    pub(crate) fn input(&mut self, input: Input<'_>) {
        self.daemon.handle_input(self.now, input);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.daemon.poll_output() {
            match output {
                Output::Notice(notice) => self.notices.push(notice),
                Output::Exit => self.exited = true,
                Output::Net(op) => self.carry_out(op),
            }
        }
    }

    fn carry_out(&mut self, op: NetOp) {
        match op {
            NetOp::Listen { listener, addr, .. } => self.listens.push((listener, addr)),
            NetOp::StopListening { listener } => self.listens.retain(|(id, _)| *id != listener),
            NetOp::Send { conn, bytes } => {
                let line = self.lines.get_mut(&conn).expect("the daemon sends on connections that exist");
                assert_eq!(line.end, None, "nothing is sent after the end");
                line.inbox.extend(bytes);
            }
            NetOp::Close { conn, how } => {
                let line = self.lines.get_mut(&conn).expect("the daemon closes connections that exist");
                assert_eq!(line.end.replace(how), None, "a connection is closed once");
            }
            NetOp::Read { conn, on } => self.lines.get_mut(&conn).expect("it exists").paused = !on,
            NetOp::Connect { conn, from, to } => {
                self.lines.insert(conn, Line::default());
                self.dials.push((conn, from, to));
            }
            NetOp::Knock { .. } | NetOp::GiveUp { .. } => panic!("a daemon punches no holes"),
        }
    }

    /// Lets time pass, with every deadline on the way at its own moment.
    pub(crate) fn advance(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some((at, _)) = self.daemon.poll_timeout()
            && at <= end
        {
            self.now = self.now.max(at);
            self.daemon.handle_timeout(self.now);
            self.drain();
        }
        self.now = end;
    }

    pub(crate) fn connect(&mut self, listener: ListenerId, remote: &str) -> ConnId {
        let conn = ConnId { room: Room(listener.room.0), serial: self.serial | ConnId::ACCEPTED };
        self.serial += 1;
        self.lines.insert(conn, Line::default());
        let v4 = remote.parse::<SocketAddr>().unwrap().is_ipv4();
        let port = if listener == MAIN { 4000 } else { 8000 };
        let local = match listener {
            ALTERNATE => ALTERNATE_ADDR.to_owned(),
            _ if v4 => addr(DAEMON_IP, port),
            _ => addr("2001:db8:100::1", port),
        };
        self.input(Input::Accepted {
            listener,
            conn,
            local: local.parse().unwrap(),
            remote: remote.parse().unwrap(),
        });
        conn
    }

    pub(crate) fn send_bytes(&mut self, conn: ConnId, bytes: &[u8]) {
        if self.lines[&conn].end.is_none() && !bytes.is_empty() {
            self.input(Input::Received { conn, bytes });
        }
    }

    pub(crate) fn send<T: Message>(&mut self, conn: ConnId, message: &T) {
        self.send_bytes(conn, &punchcast::wire::encode(message));
    }

    /// The client ends the connection.
    pub(crate) fn hang_up(&mut self, conn: ConnId) {
        if self.lines[&conn].end.is_none() {
            self.input(Input::Closed { conn, error: None });
        }
    }

    /// Everything that arrived since the last look.
    pub(crate) fn read<T: Message>(&mut self, conn: ConnId) -> Vec<T> {
        let line = self.lines.get_mut(&conn).unwrap();
        let mut reader = Reader::new(MAX_FRAME);
        reader.push(&std::mem::take(&mut line.inbox));
        let mut messages = Vec::new();
        while let Some(message) = reader.next().expect("the daemon speaks the language") {
            messages.push(message);
        }
        assert_eq!(reader.buffered(), 0, "the daemon sends whole frames");
        messages
    }

    pub(crate) fn main(&mut self, client: &Client) -> Vec<FromMain> {
        self.read(client.main)
    }

    pub(crate) fn end_of(&self, conn: ConnId) -> Option<Closing> {
        self.lines[&conn].end
    }

    /// A token that nobody used.
    pub(crate) fn token(&mut self) -> PunchToken {
        self.count += 1;
        let mut token = [0x77; 16];
        token[..2].copy_from_slice(&self.count.to_be_bytes());
        PunchToken(token)
    }

    /// The port that the last client came from.
    pub(crate) const fn count_port(&self) -> u16 {
        20_000 + self.count
    }

    fn port(&mut self) -> u16 {
        self.count += 1;
        20_000 + self.count
    }

    /// Opens a main connection from `ip` and sends `login`; what comes back is left to read.
    pub(crate) fn log_in(
        &mut self,
        ip: &str,
        role: Role,
        room: u8,
        token: PunchToken,
        local: &[&str],
    ) -> ConnId {
        let remote = addr(ip, self.port());
        let main = self.connect(MAIN, &remote);
        self.send(main, &login(role, room, token, local));
        main
    }

    /// A sample of `client` that the daemon sees from `remote`.
    pub(crate) fn sample(
        &mut self,
        client: &Client,
        listener: ListenerId,
        local_port: u16,
        remote: &str,
    ) -> ConnId {
        let conn = self.connect(listener, remote);
        let token = client.token;
        if listener == MAIN {
            self.send(conn, &ToMain::Sample { token, local_port });
        } else {
            self.send(conn, &ToAssist::Sample { token, local_port });
        }
        conn
    }

    /// A client whose login was taken; its messages so far are read.
    pub(crate) fn client(&mut self, ip: &str, role: Role, room: u8, local: &[&str]) -> Client {
        let token = self.token();
        let main = self.log_in(ip, role, room, token, local);
        let messages = self.read::<FromMain>(main);
        let Some(&FromMain::Welcome { client, .. }) = messages.first() else {
            panic!("not welcome: {messages:?}");
        };
        Client { main, client, token, room, ip: ip.to_owned() }
    }

    /// The client's hole port touches the assist port from `remote`, as its role does it.
    pub(crate) fn touch_from(&mut self, client: &Client, role: Role, remote: &str) -> ConnId {
        self.touch_at(ASSIST, client, role, remote)
    }

    /// The same at any listener.
    pub(crate) fn touch_at(&mut self, at: ListenerId, client: &Client, role: Role, remote: &str) -> ConnId {
        let conn = self.connect(at, remote);
        let message = request(role, client.room, client.token);
        self.send(conn, &message);
        conn
    }

    /// The same from a fresh port of the client's address. Returns the mapping, too.
    pub(crate) fn touch(&mut self, client: &Client, role: Role) -> (ConnId, Endpoint) {
        let remote = addr(&client.ip, self.port());
        let conn = self.touch_from(client, role, &remote);
        (conn, endpoint(&remote))
    }
}

/// A logged-in client.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) main: ConnId,
    pub(crate) client: ClientId,
    pub(crate) token: PunchToken,
    pub(crate) room: u8,
    pub(crate) ip: String,
}

pub(crate) fn addr(ip: &str, port: u16) -> String {
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

pub(crate) fn endpoint(text: &str) -> Endpoint {
    Endpoint::new(text.parse().unwrap())
}

/// The proof for the rendezvous that tests call by a number.
pub(crate) fn owner(room: u8) -> OwnerToken {
    OwnerToken([room; 16])
}

pub(crate) fn rendezvous(room: u8) -> RendezvousId {
    owner(room).rendezvous()
}

/// The local port of every main connection here.
pub(crate) const MAIN_PORT: u16 = 5;
/// The hole port of every client here.
pub(crate) const HOLE_PORT: u16 = 7;

pub(crate) fn login(role: Role, room: u8, token: PunchToken, local: &[&str]) -> ToMain {
    login_from(role, room, token, local, 0)
}

/// The same with a round trip.
pub(crate) fn login_from(role: Role, room: u8, token: PunchToken, local: &[&str], rtt_us: u32) -> ToMain {
    ToMain::Login {
        rendezvous: rendezvous(room),
        role,
        token,
        owner: (role == Role::Viewer).then(|| owner(room)),
        local: local.iter().map(|text| endpoint(text)).collect(),
        rtt_us,
        local_port: MAIN_PORT,
    }
}

pub(crate) fn request(role: Role, room: u8, token: PunchToken) -> ToAssist {
    let local_port = HOLE_PORT;
    match role {
        Role::Caster => ToAssist::ReqConnClient { token, rendezvous: rendezvous(room), local_port },
        Role::Viewer => ToAssist::ReqSrvDisconnect { token, local_port },
    }
}

/// The sessions and peers that a client was asked to punch or connect to.
pub(crate) fn holes(messages: &[FromMain]) -> Vec<(SessionId, Peer)> {
    messages
        .iter()
        .filter_map(|message| {
            if let FromMain::SrvReqMakeHole { session, peer, .. } = message {
                Some((*session, peer.clone()))
            } else {
                None
            }
        })
        .collect()
}

pub(crate) fn connects(messages: &[FromMain]) -> Vec<(SessionId, Peer)> {
    messages
        .iter()
        .filter_map(|message| {
            if let FromMain::SrvReqDirectConnect { session, peer, .. } = message {
                Some((*session, peer.clone()))
            } else {
                None
            }
        })
        .collect()
}

pub(crate) fn refused(reason: Refusal) -> FromMain {
    FromMain::Refused { reason }
}

pub(crate) fn assist_refused(reason: Refusal) -> FromAssist {
    FromAssist::Refused { reason }
}
