//! The daemon's application: two listeners (three with an alternate address), one broker.

use punchcast::app::{App, Input, ListenerId, NetError, NetOp, Output};
use punchcast::rendezvous::broker::{ALTERNATE, ASSIST, Broker, MAIN};
use punchcast::rendezvous::limits::Limits;
use std::collections::VecDeque;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Instant;

/// What a daemon is started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where logins come in; port 0 takes a free port. `[::]` takes IPv4 too, and falls back on `0.0.0.0` where
    /// there is no IPv6.
    pub main: SocketAddr,
    /// Where mappings are seen; the same rules.
    pub assist: SocketAddr,
    /// The second address of this host, where mappings are seen, too, and from where clients' filtering is tested. Not
    /// "any": it must differ from the address under which clients know the daemon.
    pub alternate: Option<SocketAddr>,
    /// Whether links that cannot be made directly are relayed.
    pub relay: bool,
    /// What is allowed.
    pub limits: Limits,
}

impl Config {
    /// The scheme's main port.
    pub const MAIN_PORT: u16 = 4000;
    /// The scheme's assist port.
    pub const ASSIST_PORT: u16 = 8000;
}

impl Default for Config {
    fn default() -> Self {
        let any = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        Self {
            main: SocketAddr::new(any, Self::MAIN_PORT),
            assist: SocketAddr::new(any, Self::ASSIST_PORT),
            alternate: None,
            relay: false,
            limits: Limits::default(),
        }
    }
}

/// What a daemon tells the program around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Every listener is up.
    Ready {
        /// The main listener's bound address.
        main: SocketAddr,
        /// The assist listener's bound address.
        assist: SocketAddr,
        /// The alternate listener's.
        alternate: Option<SocketAddr>,
    },
    /// A listener could not be bound; the daemon ends.
    CannotListen(BindFailure),
}

/// Why a listener could not be bound. Its `Display` says what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BindFailure {
    /// The option that sets the address.
    pub option: &'static str,
    /// The address.
    pub addr: SocketAddr,
    /// What the system said.
    pub error: NetError,
}

impl fmt::Display for BindFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { option, addr, error } = self;
        write!(f, "cannot listen on {addr}: {error}; ")?;
        match error {
            NetError::AddrInUse => {
                write!(
                    f,
                    "end the program that listens there, or choose another address with {option} ADDR:PORT"
                )
            }
            NetError::Denied => write!(
                f,
                "ports below 1024 need CAP_NET_BIND_SERVICE: grant it, or choose a higher port with {option} ADDR:PORT"
            ),
            NetError::AddrNotAvailable => {
                write!(f, "this host has no such address: choose one of its own with {option} ADDR:PORT")
            }
            NetError::TooManyFiles => f.write_str("raise the limit of open files (LimitNOFILE=, ulimit -n)"),
            NetError::Refused
            | NetError::Reset
            | NetError::Unreachable
            | NetError::TimedOut
            | NetError::Other(_)
            | _ => write!(f, "choose another address with {option} ADDR:PORT"),
        }
    }
}

impl std::error::Error for BindFailure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// The daemon. See [`punchcast::app`] for how to drive it.
#[derive(Debug)]
pub struct Daemon {
    broker: Broker,
    main: Listener,
    assist: Listener,
    alternate: Option<Listener>,
    outbox: VecDeque<Output<Notice>>,
    stage: Stage,
}

#[derive(Debug)]
enum Listener {
    Asked,
    Up { addr: SocketAddr },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Starting,
    Serving,
    /// `Exit` follows what the broker still has to say.
    Ending,
    Ended,
}

impl Daemon {
    /// A daemon that begins by binding its listeners. Names of clients and sessions are drawn from `seed`.
    #[must_use]
    pub fn new(config: Config, seed: u64) -> Self {
        let Config { main, assist, alternate, relay, limits } = config;
        let mut outbox = VecDeque::from([listen(MAIN, main), listen(ASSIST, assist)]);
        outbox.extend(alternate.map(|addr| listen(ALTERNATE, addr)));
        let mut broker = Broker::new(limits, seed);
        if relay {
            broker.offer_relay();
        }
        Self {
            broker,
            main: Listener::Asked,
            assist: Listener::Asked,
            alternate: alternate.map(|_| Listener::Asked),
            outbox,
            stage: Stage::Starting,
        }
    }

    /// The broker, to look at.
    #[must_use]
    pub const fn broker(&self) -> &Broker {
        &self.broker
    }

    fn listening(&mut self, id: ListenerId, local: SocketAddr) {
        if let Some(listener) = self.listener(id) {
            *listener = Listener::Up { addr: local };
        }
        if id == ALTERNATE {
            self.broker.set_alternate(local);
        }
        let alternate = match self.alternate {
            Some(Listener::Asked) => return,
            Some(Listener::Up { addr }) => Some(addr),
            None => None,
        };
        if let (Stage::Starting, &Listener::Up { addr: main }, &Listener::Up { addr: assist }) =
            (self.stage, &self.main, &self.assist)
        {
            self.stage = Stage::Serving;
            self.outbox.push_back(Output::Notice(Notice::Ready { main, assist, alternate }));
        }
    }

    fn listen_failed(&mut self, id: ListenerId, failed: SocketAddr, error: NetError) {
        if self.stage != Stage::Starting {
            return;
        }
        if no_ipv6(failed, error) {
            let addr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), failed.port());
            log::info!("no IPv6 here ({error}): listening on {addr}");
            self.outbox.push_back(listen(id, addr));
            return;
        }
        let option = match id {
            MAIN => "--main",
            ALTERNATE => "--alternate",
            _ => "--assist",
        };
        let failure = BindFailure { option, addr: failed, error };
        self.outbox.push_back(Output::Notice(Notice::CannotListen(failure)));
        self.stage = Stage::Ending;
    }

    const fn listener(&mut self, id: ListenerId) -> Option<&mut Listener> {
        match id {
            MAIN => Some(&mut self.main),
            ALTERNATE => self.alternate.as_mut(),
            _ => Some(&mut self.assist),
        }
    }
}

impl App for Daemon {
    type Message = ();
    type Notice = Notice;

    fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        match input {
            Input::Listening { listener, local } => self.listening(listener, local),
            Input::ListenFailed { listener, addr, error } => self.listen_failed(listener, addr, error),
            Input::Interrupted => {
                if matches!(self.stage, Stage::Starting | Stage::Serving) {
                    let alternate = self.alternate.as_ref().map(|_| ALTERNATE);
                    for listener in [MAIN, ASSIST].into_iter().chain(alternate) {
                        self.outbox.push_back(Output::Net(NetOp::StopListening { listener }));
                    }
                    self.broker.handle_input(now, input);
                    self.stage = Stage::Ending;
                }
            }
            Input::Accepted { .. }
            | Input::Connected { .. }
            | Input::ConnectFailed { .. }
            | Input::Received { .. }
            | Input::Backlogged { .. }
            | Input::Drained { .. }
            | Input::Closed { .. } => self.broker.handle_input(now, input),
        }
    }

    fn handle_message(&mut self, _now: Instant, (): ()) {}

    fn handle_timeout(&mut self, now: Instant) {
        self.broker.handle_timeout(now);
    }

    fn poll_output(&mut self) -> Option<Output<Notice>> {
        let next = self.outbox.pop_front().or_else(|| self.broker.poll_output().map(Output::Net));
        if next.is_none() && self.stage == Stage::Ending {
            self.stage = Stage::Ended;
            return Some(Output::Exit);
        }
        next
    }

    fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        self.broker.poll_timeout()
    }
}

fn listen(listener: ListenerId, addr: SocketAddr) -> Output<Notice> {
    Output::Net(NetOp::Listen { listener, addr, reuse: false })
}

/// Whether a failure to bind means that the system has no IPv6, in which case IPv4 alone is what "any" means. A port
/// that is taken or forbidden is no such sign: falling back would hide it.
const fn no_ipv6(addr: SocketAddr, error: NetError) -> bool {
    let any_v6 = match addr.ip() {
        IpAddr::V6(ip) => ip.is_unspecified(),
        IpAddr::V4(_) => false,
    };
    any_v6 && matches!(error, NetError::AddrNotAvailable | NetError::Unreachable | NetError::Other(_))
}
