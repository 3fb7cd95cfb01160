//! The thread that has routers forward the hole port: [`punchcast::portmap::Mapper`] on real sockets.
//!
//! It runs beside the application and tells it what was mapped by a message, so no other way to the peer waits for it.
//! Datagrams go to the default gateway, with a life of one hop, and SSDP's multicast; nothing goes further. Where the system
//! does not tell its routes (other than Linux), UPnP alone is asked, which finds its router by itself.

#![allow(clippy::disallowed_methods, reason = "a thread at the program's edge, like the driver")]

mod route;
mod upnp;

use punchcast::driver::now;
use punchcast::endpoint::Reach;
use punchcast::portmap::{
    Answer, Command, Config, Finding, Input, LIFETIME, Mapper, Mapping, Output, Protocol, Purpose, Way,
};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};
use upnp::Igd;

/// How long the end of a program may wait for routers to remove what they forward.
const END_TIME: Duration = Duration::from_secs(1);

/// How long `punchcast check` waits for answers: a search of UPnP and what follows it.
const ASK_TIME: Duration = Duration::from_millis(3500);

/// How often a thread that reads looks whether it is still wanted.
const GLANCE: Duration = Duration::from_millis(200);

/// The longest message of PCP (RFC 6887, section 7).
const MAX_DATAGRAM: usize = 1100;

/// Errors in a row after which a socket is not read any more: an interface that is gone.
const MAX_ERRORS: u32 = 100;

/// What to ask for, and by what.
#[derive(Clone, Debug)]
pub struct Options {
    /// The protocols that may be used.
    pub protocols: Vec<Protocol>,
    /// How long mappings are asked for.
    pub lifetime: Duration,
    /// Random.
    pub seed: u64,
}

impl Options {
    /// Every protocol, for the usual time.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { protocols: Protocol::ALL.to_vec(), lifetime: LIFETIME, seed }
    }
}

/// Mappings that are looked after by a thread. Dropping it removes them, and waits for at most a second.
#[derive(Debug)]
pub struct PortMap {
    events: Sender<Event>,
    done: Receiver<()>,
}

enum Event {
    Datagram { from: SocketAddr, bytes: Vec<u8> },
    Unreachable { gateway: SocketAddr },
    Upnp(Answer),
    Renew,
    End,
}

impl PortMap {
    /// Has TCP `port` of this host forwarded; `emit` is called with all mappings whenever they change.
    ///
    /// # Errors
    ///
    /// When no thread can be started.
    pub fn start(
        port: u16,
        options: &Options,
        mut emit: impl FnMut(Vec<Mapping>) + Send + 'static,
    ) -> io::Result<Self> {
        let (events, inbox) = channel();
        let (finished, done) = channel();
        let purpose = Purpose::Map { port, lifetime: options.lifetime };
        let (options, sender) = (options.clone(), events.clone());
        thread::Builder::new().name("portmap".into()).spawn(move || {
            loop {
                let mut ground = Ground::look(purpose, &options, sender.clone());
                match ground.run(&inbox, None, &mut emit) {
                    Turn::Over => break,
                    // What the old router forwards leads to an address that we have no more.
                    Turn::Moved => emit(Vec::new()),
                }
            }
            // Nobody may wait any more.
            let _ = finished.send(());
        })?;
        Ok(Self { events, done })
    }
}

impl PortMap {
    /// Has everything asked for again soon: the network may have changed, or the router restarted.
    pub fn renew(&self) {
        // Without the thread there is nothing to renew.
        let _ = self.events.send(Event::Renew);
    }

    /// Begins to remove everything: the port is closed. Waits for nothing, for the program may go on.
    pub fn end(&self) {
        // Without the thread nothing is left.
        let _ = self.events.send(Event::End);
    }
}

/// Why [`Ground::run`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// Everything is asked or removed.
    Over,
    /// The way out is another one.
    Moved,
}

impl Drop for PortMap {
    fn drop(&mut self) {
        if self.events.send(Event::End).is_ok() {
            let _ = self.done.recv_timeout(END_TIME);
        }
    }
}

/// What is known of a protocol: `None` where it could not be asked for.
pub type Findings = [(Protocol, Option<Finding>); 3];

/// Nothing was asked.
#[must_use]
pub fn not_asked() -> Findings {
    Protocol::ALL.map(|protocol| (protocol, None))
}

/// Asks which protocols the router speaks, and changes nothing. Takes a few seconds at most.
#[must_use]
pub fn ask(seed: u64) -> Findings {
    let (events, inbox) = channel();
    let mut ground = Ground::look(Purpose::Ask, &Options::new(seed), events);
    let _ = ground.run(&inbox, Some(now() + ASK_TIME), |_| {});
    Protocol::ALL.map(|protocol| {
        let finding = ground.mapper.has(protocol).then(|| match ground.mapper.finding(protocol) {
            Finding::Open => Finding::Silent,
            found @ (Finding::Works | Finding::Refused(_) | Finding::Silent) => found,
        });
        (protocol, finding)
    })
}

/// A mapper with its sockets.
struct Ground {
    mapper: Mapper,
    ways: (Option<Way>, Option<Way>),
    sockets: Vec<(SocketAddr, Arc<UdpSocket>)>,
    igd: Option<Sender<Command>>,
}

impl Ground {
    fn look(purpose: Purpose, options: &Options, events: Sender<Event>) -> Self {
        let wanted = |protocol| options.protocols.contains(&protocol);
        let datagrams = wanted(Protocol::Pcp) || wanted(Protocol::NatPmp);
        let ways @ (v4, v6) = (route::way_v4(), route::way_v6());
        let v6 = v6.filter(|_| wanted(Protocol::Pcp));
        // Where no route is told, a private address is reason enough to look for a router.
        let own = || punchcast::driver::local_addresses();
        let private = || own().iter().any(|ip| ip.is_ipv4() && Reach::of(*ip) == Reach::Site);
        let upnp = wanted(Protocol::Upnp)
            && !upnp::is_proxied()
            && (v4.is_some() || !cfg!(target_os = "linux") && private());
        let open = |way: &Way| match open(*way, &events) {
            Ok(socket) => Some((way.gateway, socket)),
            Err(error) => {
                log::debug!("no port mapping by {}: {error}", way.gateway);
                None
            }
        };
        let sockets: Vec<_> = v4.iter().chain(&v6).filter(|_| datagrams).filter_map(open).collect();
        let has = |way: &Way| sockets.iter().any(|(gateway, _)| *gateway == way.gateway);
        let config = Config {
            purpose,
            v4: v4.filter(has),
            v6: v6.filter(has),
            upnp,
            protocols: options.protocols.clone(),
            seed: options.seed,
        };
        let igd = upnp.then(|| start_igd(v4, events)).flatten();
        Self { mapper: Mapper::new(now(), &config), ways, sockets, igd }
    }

    /// Runs until everything is asked or removed, or `until`.
    fn run(
        &mut self,
        inbox: &Receiver<Event>,
        mut until: Option<Instant>,
        mut emit: impl FnMut(Vec<Mapping>),
    ) -> Turn {
        let mut ending = until.is_some();
        loop {
            while let Some(output) = self.mapper.poll_output() {
                match output {
                    Output::Send { to, bytes } => self.send(to, &bytes),
                    Output::Upnp(command) => {
                        if let Some(igd) = &self.igd {
                            let _ = igd.send(command);
                        }
                    }
                    Output::Changed(mappings) => emit(mappings),
                }
            }
            let now = now();
            if ending && (self.mapper.is_done() || until.is_some_and(|until| until <= now)) {
                return Turn::Over;
            }
            let next = self.mapper.poll_timeout().map(|(at, _)| at);
            let wake = next.into_iter().chain(until).min();
            let event = match wake {
                Some(at) => inbox.recv_timeout(at.saturating_duration_since(now)),
                None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            let now = punchcast::driver::now();
            match event {
                Ok(Event::Datagram { from, bytes }) => {
                    self.mapper.handle_input(now, Input::Datagram { from, bytes: &bytes });
                }
                Ok(Event::Unreachable { gateway }) => {
                    self.mapper.handle_input(now, Input::Unreachable { gateway });
                }
                Ok(Event::Upnp(answer)) => self.mapper.handle_input(now, Input::Upnp(answer)),
                Ok(Event::Renew) if ending => {}
                Ok(Event::Renew) if self.ways != (route::way_v4(), route::way_v6()) => return Turn::Moved,
                Ok(Event::Renew) => self.mapper.renew(now),
                Ok(Event::End) | Err(RecvTimeoutError::Disconnected) => {
                    ending = true;
                    until = Some(now + END_TIME);
                    self.mapper.end(now);
                }
                Err(RecvTimeoutError::Timeout) => self.mapper.handle_timeout(now),
            }
        }
    }

    fn send(&self, to: SocketAddr, bytes: &[u8]) {
        let Some((_, socket)) = self.sockets.iter().find(|(gateway, _)| *gateway == to) else { return };
        // A failure is as good as silence.
        if let Err(error) = socket.send(bytes) {
            log::debug!("to the router at {to}: {error}");
        }
    }
}

/// A socket that speaks to one gateway, and a thread that hears it.
fn open(way: Way, events: &Sender<Event>) -> io::Result<Arc<UdpSocket>> {
    let socket = UdpSocket::bind(SocketAddr::new(way.local, 0))?;
    // The kernel drops what comes from anybody else, and tells of closed ports.
    socket.connect(way.gateway)?;
    if way.local.is_ipv4() {
        // No request can pass the gateway, whatever it was taken for.
        socket.set_ttl(1)?;
    }
    socket.set_read_timeout(Some(GLANCE))?;
    let socket = Arc::new(socket);
    let (reader, events) = (Arc::downgrade(&socket), events.clone());
    thread::Builder::new().name("portmap-read".into()).spawn(move || read(&reader, way.gateway, &events))?;
    Ok(socket)
}

fn read(socket: &Weak<UdpSocket>, gateway: SocketAddr, events: &Sender<Event>) {
    let mut buffer = [0; MAX_DATAGRAM + 1];
    let mut errors = 0;
    while let Some(socket) = socket.upgrade() {
        let event = match socket.recv(&mut buffer) {
            Ok(len) => Event::Datagram { from: gateway, bytes: buffer[..len].to_vec() },
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => Event::Unreachable { gateway },
            Err(_) if errors < MAX_ERRORS => {
                errors += 1;
                continue;
            }
            Err(_) => return,
        };
        if events.send(event).is_err() {
            return;
        }
    }
}

/// The thread that speaks UPnP; it ends when nobody commands it.
fn start_igd(v4: Option<Way>, events: Sender<Event>) -> Option<Sender<Command>> {
    let way = v4.and_then(|way| match (way.gateway.ip(), way.local) {
        (IpAddr::V4(gateway), IpAddr::V4(local)) => Some((gateway, local)),
        _ => None,
    });
    let (commands, inbox) = channel();
    let started = thread::Builder::new().name("portmap-upnp".into()).spawn(move || {
        let mut igd = Igd::new(way);
        while let Ok(command) = inbox.recv() {
            let answer = igd.carry_out(command, |answer| drop(events.send(Event::Upnp(answer))));
            if events.send(Event::Upnp(answer)).is_err() {
                return;
            }
        }
    });
    started.is_ok().then_some(commands)
}
