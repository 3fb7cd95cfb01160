//! The second driver: hosts with applications on a simulated network, one thread, a virtual clock, seeded chance.
//!
//! A world turns as the real driver does: one input, then the drain to `None`, then the deadline. It fires deadlines
//! up to a millisecond late, as a poll does, and splits what arrives at random. Now and then it has an application rehearse
//! before anything is due, as a driver may ([`App::rehearse`]).

use crate::hosted::{AnyApp, Hosted, Put};
use crate::kernel::Kernel;
use crate::net::{HostId, Net, Place};
use crate::spec::{Link, Wall};
use punchcast::app::{App, ConnId, Input, NetOp};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// Hosts, network and clock.
pub(crate) struct World {
    seed: u64,
    /// What virtual time counts from. Its value never shows: only differences are used.
    base: Instant,
    now: Duration,
    steps: u64,
    /// The network, for tests that change it on the way.
    pub(crate) net: Net,
    hosts: Vec<Host>,
    rng: fastrand::Rng,
}

struct Host {
    kernel: Kernel,
    app: Option<Box<dyn AnyApp>>,
    running: bool,
    wake: Option<Wake>,
    /// Every connect that its applications began, and when.
    dials: Vec<(Duration, ConnId)>,
}

/// A deadline of an application.
#[derive(Clone, Copy)]
struct Wake {
    asked: Instant,
    /// When it fires: a little later.
    fires: Duration,
    why: &'static str,
}

/// A world went still, or on and on, before it came to what the test waits for.
#[derive(Debug)]
pub(crate) struct Stuck {
    /// What happened instead, with each application's deadline and its reason.
    pub(crate) why: String,
}

impl World {
    /// An empty world; the same seed makes the same world.
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        #[expect(
            clippy::disallowed_methods,
            reason = "a driver: the one point that virtual time counts from"
        )]
        let base = Instant::now();
        Self { seed, base, now: Duration::ZERO, steps: 0, net: Net::new(rng.fork()), hosts: Vec::new(), rng }
    }

    /// The seed that it was made from.
    pub(crate) const fn seed(&self) -> u64 {
        self.seed
    }

    /// The virtual time, as applications see it.
    pub(crate) fn now(&self) -> Instant {
        self.base + self.now
    }

    /// The virtual time since the beginning.
    pub(crate) const fn elapsed(&self) -> Duration {
        self.now
    }

    /// Adds a wall; see [`Net::add_wall`].
    pub(crate) fn add_wall(&mut self, place: Place, spec: Wall) -> Place {
        let link = default_link(place);
        self.net.add_wall(place, spec, link)
    }

    /// Adds a host; see [`Net::add_host`].
    pub(crate) fn add_host(&mut self, place: Place) -> HostId {
        let (id, ip) = self.net.add_host(place, default_link(place));
        let kernel = Kernel::new(vec![ip], self.rng.fork());
        self.hosts.push(Host { kernel, app: None, running: false, wake: None, dials: Vec::new() });
        id
    }

    /// Gives a host a global IPv6 address.
    pub(crate) fn add_v6(&mut self, host: HostId) -> IpAddr {
        let ip = self.net.add_v6(host);
        self.hosts[host.0].kernel.add_addr(ip);
        ip
    }

    /// Gives a host one more IPv4 address.
    pub(crate) fn add_v4(&mut self, host: HostId) -> IpAddr {
        let ip = self.net.add_v4(host);
        self.hosts[host.0].kernel.add_addr(ip);
        ip
    }

    /// Loss (0 to 1) and jitter on every link.
    pub(crate) fn weather(&mut self, loss: f64, jitter: Duration) {
        for link in self.net.links() {
            link.loss = loss;
            link.jitter = jitter;
        }
    }

    /// A host's own addresses, IPv4 first.
    pub(crate) fn addrs(&self, host: HostId) -> &[IpAddr] {
        self.hosts[host.0].kernel.addrs()
    }

    /// A host's IPv4 endpoint with `port`.
    pub(crate) fn endpoint(&self, host: HostId, port: u16) -> SocketAddr {
        SocketAddr::new(self.addrs(host)[0], port)
    }

    /// The port that the host's application listens on, if there is one.
    pub(crate) fn hole(&self, host: HostId) -> Option<u16> {
        self.hosts[host.0].kernel.listening()
    }

    /// How many connections the host's application holds.
    pub(crate) fn conn_count(&self, host: HostId) -> usize {
        self.hosts[host.0].kernel.conn_count()
    }

    /// The connects that a host's applications began, each with its time.
    pub(crate) fn dials(&self, host: HostId) -> &[(Duration, ConnId)] {
        &self.hosts[host.0].dials
    }

    /// Starts an application on a host, in place of the one that ran there.
    pub(crate) fn start<A>(&mut self, host: HostId, app: A)
    where
        A: App + 'static,
        A::Notice: 'static,
    {
        self.kill(host);
        let slot = &mut self.hosts[host.0];
        slot.app = Some(Box::new(Hosted { app, notices: Vec::new() }));
        slot.running = true;
        self.drain(host);
        self.settle(host);
    }

    /// The application of a host, running or not, with what it told.
    pub(crate) fn app<A>(&self, host: HostId) -> &Hosted<A>
    where
        A: App + 'static,
        A::Notice: 'static,
    {
        let app = self.hosts[host.0].app.as_ref().expect("the host has an application");
        app.as_any().downcast_ref().expect("the host runs an application of that type")
    }

    /// Sends an application a message, as another thread of its program would.
    pub(crate) fn tell<A>(&mut self, host: HostId, message: A::Message)
    where
        A: App + 'static,
        A::Notice: 'static,
    {
        let now = self.now();
        let slot = &mut self.hosts[host.0];
        if !slot.running {
            return;
        }
        let app = slot.app.as_mut().expect("the host has an application");
        let hosted: &mut Hosted<A> =
            app.as_any_mut().downcast_mut().expect("the host runs an application of that type");
        hosted.app.handle_message(now, message);
        self.drain(host);
        self.settle(host);
    }

    /// The user asks the program to end.
    pub(crate) fn interrupt(&mut self, host: HostId) {
        self.feed(host, Input::Interrupted);
        self.settle(host);
    }

    /// Whether the host's application runs: it was started, and neither ended nor was killed.
    pub(crate) fn is_running(&self, host: HostId) -> bool {
        self.hosts[host.0].running
    }

    /// Ends a program as SIGKILL does: it learns nothing, the kernel closes its sockets.
    pub(crate) fn kill(&mut self, host: HostId) {
        let slot = &mut self.hosts[host.0];
        slot.running = false;
        slot.wake = None;
        slot.kernel.close_all(self.now);
        self.flush(host);
    }

    /// Plugs a host out of the network or back in; what is under way to it is lost meanwhile.
    pub(crate) fn set_online(&mut self, host: HostId, online: bool) {
        self.net.set_online(host, online);
    }

    /// Lets time pass until `done`, at most for `limit`; the time that it took.
    pub(crate) fn run_until(
        &mut self,
        limit: Duration,
        mut done: impl FnMut(&Self) -> bool,
    ) -> Result<Duration, Stuck> {
        let start = self.now;
        let end = start + limit;
        while !done(self) {
            match self.next() {
                Some(at) if at <= end => self.step(at),
                Some(_) => {
                    self.now = end;
                    return Err(self.stuck(&format!("not done within {limit:?}")));
                }
                None => {
                    self.now = end;
                    return Err(self.stuck("nothing left to happen"));
                }
            }
        }
        Ok(self.now - start)
    }

    /// Lets `time` pass.
    pub(crate) fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.next().filter(|at| *at <= end) {
            self.step(at);
        }
        self.now = end;
    }

    fn next(&self) -> Option<Duration> {
        let hosts = self.hosts.iter().filter_map(|host| {
            let wake = host.wake.map(|wake| wake.fires);
            host.kernel.deadline().into_iter().chain(wake).min()
        });
        self.net.next().into_iter().chain(hosts).min()
    }

    fn step(&mut self, at: Duration) {
        self.steps += 1;
        assert!(self.steps < MAX_STEPS, "the world does not come to rest");
        self.now = self.now.max(at);
        if self.net.next().is_some_and(|next| next <= at) {
            if let Some((host, packet)) = self.net.advance() {
                self.hosts[host.0].kernel.packet(self.now, &packet);
                self.settle(host);
            }
            return;
        }
        for host in (0..self.hosts.len()).map(HostId) {
            let slot = &mut self.hosts[host.0];
            if slot.kernel.deadline().is_some_and(|due| due <= at) {
                slot.kernel.timeout(self.now);
                self.settle(host);
            }
            if self.hosts[host.0].wake.is_some_and(|wake| wake.fires <= at) {
                self.wake(host);
            }
        }
    }

    fn wake(&mut self, host: HostId) {
        let now = self.now();
        let slot = &mut self.hosts[host.0];
        let early = slot.wake.take().is_some_and(|wake| now < wake.asked);
        match &mut slot.app {
            Some(app) if early => app.rehearse(now),
            Some(app) => app.handle_timeout(now),
            None => {}
        }
        self.drain(host);
        self.settle(host);
    }

    /// Tells the application what waits for it, and the network what leaves the host.
    fn settle(&mut self, host: HostId) {
        while let Some(waiting) = self.hosts[host.0].kernel.inputs.pop_front() {
            self.feed(host, waiting.as_input());
        }
        self.flush(host);
    }

    fn feed(&mut self, host: HostId, input: Input<'_>) {
        let now = self.now();
        let slot = &mut self.hosts[host.0];
        if !slot.running {
            return;
        }
        if let Some(app) = &mut slot.app {
            app.handle_input(now, input);
        }
        self.drain(host);
    }

    fn drain(&mut self, host: HostId) {
        let now = self.now();
        for _ in 0..MAX_OUTPUTS {
            let slot = &mut self.hosts[host.0];
            let Some(app) = slot.app.as_mut().filter(|_| slot.running) else { return };
            match app.poll_output(now) {
                Some(Put::Net(op)) => self.carry_out(host, op),
                Some(Put::Notice) => {}
                Some(Put::Exit) => return self.kill(host),
                None => return self.arm(host),
            }
        }
        panic!("the application of host {} does not come to rest", host.0);
    }

    fn carry_out(&mut self, host: HostId, op: NetOp) {
        if self.net.traced && !matches!(op, NetOp::Send { .. }) {
            self.net.note(self.now, "asked", &format!("host {}: {op:?}", host.0));
        }
        let slot = &mut self.hosts[host.0];
        if let NetOp::Connect { conn, .. } | NetOp::Knock { conn, .. } = op {
            slot.dials.push((self.now, conn));
        }
        slot.kernel.op(self.now, op);
    }

    /// Takes the application's deadline, with the lateness of a real poll.
    fn arm(&mut self, host: HostId) {
        let slot = &mut self.hosts[host.0];
        let asked = slot.app.as_ref().and_then(|app| app.poll_timeout());
        slot.wake = asked.map(|(asked, why)| match slot.wake {
            Some(wake) if wake.asked == asked => wake,
            Some(_) | None => {
                let due = asked.saturating_duration_since(self.base).max(self.now);
                let fires = if self.rng.u8(..) < EARLY {
                    self.now + (due - self.now).mul_f64(self.rng.f64())
                } else {
                    due + Duration::from_micros(self.rng.u64(1..MAX_LATENESS))
                };
                Wake { asked, fires, why }
            }
        });
    }

    fn flush(&mut self, host: HostId) {
        let slot = &mut self.hosts[host.0];
        for packet in std::mem::take(&mut slot.kernel.out) {
            if slot.kernel.is_local(packet.dst.ip()) {
                self.net.loop_back(self.now, host, packet);
            } else {
                self.net.send(self.now, host, packet);
            }
        }
    }

    fn stuck(&self, what: &str) -> Stuck {
        let deadlines = self.hosts.iter().enumerate().filter_map(|(number, host)| {
            let wake = host.wake?;
            Some(format!("host {number} waits until {:.6} for: {}", wake.fires.as_secs_f64(), wake.why))
        });
        let lines: Vec<String> = std::iter::once(what.to_owned()).chain(deadlines).collect();
        Stuck { why: lines.join("; ") }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the simulated world, seed {}, step {}, t={:?}:", self.seed, self.steps, self.now);
            for line in &self.net.trace {
                eprintln!("{line}");
            }
        }
    }
}

/// 20 ms to the Internet, 1 ms within a site.
const fn default_link(place: Place) -> Link {
    Link::of(if place.is_internet() { Duration::from_millis(20) } else { Duration::from_millis(1) })
}

/// More than any test needs: a world that takes so many steps turns in circles.
const MAX_STEPS: u64 = 5_000_000;
/// More than any change of an application may put out before it comes to rest.
const MAX_OUTPUTS: usize = 100_000;
/// Of 256 deadlines so many fire early as well, at any time before.
const EARLY: u8 = 64;
/// Microseconds by which a deadline fires late: the resolution of `epoll_wait`.
const MAX_LATENESS: u64 = 1000;
