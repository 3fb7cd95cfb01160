//! The network between the hosts: a tree of places with the Internet at its root, each wall with a place inside it,
//! and the packets under way.
//!
//! ```text
//!   Internet ──┬── host                     a packet climbs from its place towards the Internet until a place knows
//!              ├── wall ── place ── host    its destination, and falls from there
//!              └── wall ── place ──┬── host
//!                                  └── wall ── place ── host
//! ```

use crate::ledger::Ledger;
use crate::packet::Packet;
use crate::spec::{Link, Wall};
use crate::wall::{LiveWall, Verdict};
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// A network that hosts and walls hang on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place(usize);

impl Place {
    /// The public one.
    pub(crate) const INTERNET: Self = Self(0);

    /// Whether it is the public one.
    pub(crate) const fn is_internet(self) -> bool {
        self.0 == 0
    }

    /// The wall that the place is inside of.
    const fn wall(self) -> Option<usize> {
        self.0.checked_sub(1)
    }

    const fn inside(wall: usize) -> Self {
        Self(wall + 1)
    }
}

/// A host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct HostId(pub(crate) usize);

/// The network.
#[derive(Debug)]
pub(crate) struct Net {
    /// By [`Place`].
    realms: Vec<Realm>,
    walls: Vec<WallNode>,
    /// By [`HostId`].
    hosts: Vec<HostNode>,
    queue: BTreeMap<(Duration, u64), (Stop, Packet)>,
    serial: u64,
    rng: fastrand::Rng,
    /// The SYNs that left hosts.
    pub(crate) ledger: Ledger,
    /// The last things that happened, for the report of a failure.
    pub(crate) trace: VecDeque<String>,
    /// Whether they are noted: words take longer than what they tell of.
    pub(crate) traced: bool,
}

#[derive(Debug, Default)]
struct Realm {
    members: BTreeMap<IpAddr, Member>,
    /// How many addresses were given away.
    given: u16,
}

#[derive(Clone, Copy, Debug)]
enum Member {
    Host(HostId),
    Wall(usize),
}

#[derive(Debug)]
struct WallNode {
    live: LiveWall,
    place: Place,
    line: Line,
}

#[derive(Debug)]
struct HostNode {
    place: Place,
    line: Line,
    online: bool,
}

/// Where a packet arrives next.
#[derive(Clone, Copy, Debug)]
enum Stop {
    /// The middle of a place.
    Hub(Place),
    /// The outer face of a wall.
    Wall(usize),
    /// A host.
    Host(HostId),
}

/// A link with what is under way on it.
#[derive(Debug)]
struct Line {
    link: Link,
    up: Flow,
    down: Flow,
}

#[derive(Debug, Default)]
struct Flow {
    /// When the last byte so far has left.
    free_at: Duration,
    /// When the last packet so far arrives: none overtakes it.
    last: Duration,
}

impl Flow {
    /// When a packet that enters `now` arrives; `None` if it is lost.
    fn traverse(
        &mut self,
        now: Duration,
        link: &Link,
        bytes: u64,
        rng: &mut fastrand::Rng,
    ) -> Option<Duration> {
        let start = now.max(self.free_at);
        let sending =
            link.rate.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(bytes as f64 / rate as f64));
        self.free_at = start + sending;
        let jitter = link.jitter.mul_f64(rng.f64());
        if rng.f64() < link.loss {
            return None;
        }
        self.last = self.last.max(self.free_at + link.delay + jitter);
        Some(self.last)
    }
}

impl Line {
    fn new(link: Link) -> Self {
        Self { link, up: Flow::default(), down: Flow::default() }
    }
}

impl Net {
    pub(crate) fn new(rng: fastrand::Rng) -> Self {
        Self {
            realms: vec![Realm::default()],
            walls: Vec::new(),
            hosts: Vec::new(),
            queue: BTreeMap::new(),
            serial: 0,
            rng,
            ledger: Ledger::default(),
            trace: VecDeque::new(),
            traced: true,
        }
    }

    /// Puts a wall at `place`; hosts and walls behind it hang on the place that this returns.
    pub(crate) fn add_wall(&mut self, place: Place, spec: Wall, link: Link) -> Place {
        let wall = self.walls.len();
        let mut outside = Vec::new();
        if spec.translates {
            let ip = self.fresh_addr(place);
            self.register(place, ip, Member::Wall(wall));
            outside.push(ip);
        }
        let live = LiveWall::new(spec, outside, self.rng.fork());
        self.walls.push(WallNode { live, place, line: Line::new(link) });
        self.realms.push(Realm::default());
        Place::inside(wall)
    }

    /// Puts a host at `place`, with the next free IPv4 address there.
    pub(crate) fn add_host(&mut self, place: Place, link: Link) -> (HostId, IpAddr) {
        let host = HostId(self.hosts.len());
        self.hosts.push(HostNode { place, line: Line::new(link), online: true });
        let ip = self.fresh_addr(place);
        self.register(place, ip, Member::Host(host));
        (host, ip)
    }

    /// Gives a host a global IPv6 address. Walls let it through untranslated, by their filter.
    pub(crate) fn add_v6(&mut self, host: HostId) -> IpAddr {
        let number = u16::try_from(host.0 + 1).expect("a world is small");
        let ip = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, number));
        self.register(self.hosts[host.0].place, ip, Member::Host(host));
        ip
    }

    /// Gives a host one more IPv4 address of its place.
    pub(crate) fn add_v4(&mut self, host: HostId) -> IpAddr {
        let place = self.hosts[host.0].place;
        let ip = self.fresh_addr(place);
        self.register(place, ip, Member::Host(host));
        ip
    }

    /// The link of a host.
    pub(crate) fn host_link(&mut self, host: HostId) -> &mut Link {
        &mut self.hosts[host.0].line.link
    }

    /// The link of the wall around `place`.
    pub(crate) fn wall_link(&mut self, place: Place) -> &mut Link {
        &mut self.walls[place.wall().expect("the Internet has no wall")].line.link
    }

    /// Every link there is.
    pub(crate) fn links(&mut self) -> impl Iterator<Item = &mut Link> {
        let walls = self.walls.iter_mut().map(|wall| &mut wall.line.link);
        walls.chain(self.hosts.iter_mut().map(|host| &mut host.line.link))
    }

    /// The wall around `place`.
    pub(crate) fn wall(&mut self, place: Place) -> &mut LiveWall {
        &mut self.walls[place.wall().expect("the Internet has no wall")].live
    }

    /// Every place inside a wall.
    pub(crate) fn places(&self) -> impl Iterator<Item = Place> + use<> {
        (0..self.walls.len()).map(Place::inside)
    }

    /// Plugs a host in or out.
    pub(crate) fn set_online(&mut self, host: HostId, online: bool) {
        self.hosts[host.0].online = online;
    }

    /// A packet leaves a host for another.
    pub(crate) fn send(&mut self, now: Duration, host: HostId, packet: Packet) {
        self.note(now, "sent", &packet);
        self.ledger.note(now, host, &packet);
        let node = &mut self.hosts[host.0];
        if !node.online {
            return self.note(now, "dropped: offline", &packet);
        }
        let at = node.line.up.traverse(now, &node.line.link, packet.wire_len(), &mut self.rng);
        let stop = Stop::Hub(node.place);
        self.enqueue(now, at, stop, packet);
    }

    /// A packet of a host to itself.
    pub(crate) fn loop_back(&mut self, now: Duration, host: HostId, packet: Packet) {
        self.note(now, "sent", &packet);
        self.enqueue(now, Some(now + LOOPBACK_DELAY), Stop::Host(host), packet);
    }

    /// When the next packet moves.
    pub(crate) fn next(&self) -> Option<Duration> {
        self.queue.first_key_value().map(|((at, _), _)| *at)
    }

    /// Moves the next packet by one stop; returns it if it has come to a host.
    pub(crate) fn advance(&mut self) -> Option<(HostId, Packet)> {
        let ((now, _), (stop, packet)) = self.queue.pop_first()?;
        match stop {
            Stop::Host(host) if self.hosts[host.0].online => {
                self.note(now, "arrived", &packet);
                return Some((host, packet));
            }
            Stop::Host(_) => self.note(now, "dropped: offline", &packet),
            Stop::Hub(place) => self.route(now, place, packet),
            Stop::Wall(wall) => self.enter(now, wall, packet),
        }
        None
    }

    /// A line in the trace.
    pub(crate) fn note(&mut self, now: Duration, what: &str, of: &dyn std::fmt::Display) {
        if !self.traced {
            return;
        }
        if self.trace.len() == TRACE {
            self.trace.pop_front();
        }
        self.trace.push_back(format!("{:>10.6} {what}: {of}", now.as_secs_f64()));
    }

    fn route(&mut self, now: Duration, place: Place, packet: Packet) {
        // Within a home a switch; on the Internet at least one router between any two walls.
        let packet = if place == Place::INTERNET { packet.forwarded() } else { Some(packet) };
        let Some(packet) = packet else { return };
        match (self.realms[place.0].members.get(&packet.dst.ip()), place.wall()) {
            (Some(Member::Host(host)), _) => {
                let line = &mut self.hosts[host.0].line;
                let at = line.down.traverse(now, &line.link, packet.wire_len(), &mut self.rng);
                let stop = Stop::Host(*host);
                self.enqueue(now, at, stop, packet);
            }
            (Some(Member::Wall(wall)), _) => {
                let line = &mut self.walls[*wall].line;
                let at = line.down.traverse(now, &line.link, packet.wire_len(), &mut self.rng);
                let stop = Stop::Wall(*wall);
                self.enqueue(now, at, stop, packet);
            }
            (None, Some(wall)) => self.leave(now, wall, packet),
            (None, None) => {
                self.note(now, "dropped: no route", &packet);
                if let Some(answer) = packet.unreachable().filter(|answer| self.is_known(answer.dst.ip())) {
                    self.route(now, place, answer);
                }
            }
        }
    }

    fn is_known(&self, public: IpAddr) -> bool {
        self.realms[Place::INTERNET.0].members.contains_key(&public)
    }

    /// From inside a wall to outside.
    fn leave(&mut self, now: Duration, wall: usize, packet: Packet) {
        let Some(packet) = packet.forwarded() else { return };
        let node = &mut self.walls[wall];
        match node.live.outbound(now, packet.clone()) {
            Verdict::Pass(out) if node.live.owns(out.dst.ip()) => {
                if node.live.hairpins() {
                    self.enter(now, wall, out);
                } else {
                    self.note(now, "dropped: no hairpin", &packet);
                }
            }
            Verdict::Pass(out) => {
                let at = node.line.up.traverse(now, &node.line.link, out.wire_len(), &mut self.rng);
                let stop = Stop::Hub(node.place);
                self.enqueue(now, at, stop, out);
            }
            Verdict::Drop(why) => {
                self.note(now, "dropped at a wall on the way out", &format!("{packet} ({why})"))
            }
            Verdict::Answer(answer) => self.route(now, Place::inside(wall), answer),
        }
    }

    /// From outside a wall to inside.
    fn enter(&mut self, now: Duration, wall: usize, packet: Packet) {
        let node = &mut self.walls[wall];
        match node.live.inbound(now, packet.clone()) {
            Verdict::Pass(inner) => {
                if let Some(inner) = inner.forwarded() {
                    self.route(now, Place::inside(wall), inner);
                }
            }
            Verdict::Drop(why) => self.note(now, "dropped at a wall", &format!("{packet} ({why})")),
            Verdict::Answer(answer) => {
                self.note(now, "answered by a wall", &answer);
                let node = &mut self.walls[wall];
                if node.live.owns(answer.dst.ip()) {
                    return self.enter(now, wall, answer);
                }
                let at = node.line.up.traverse(now, &node.line.link, answer.wire_len(), &mut self.rng);
                let stop = Stop::Hub(node.place);
                self.enqueue(now, at, stop, answer);
            }
        }
    }

    fn enqueue(&mut self, now: Duration, at: Option<Duration>, stop: Stop, packet: Packet) {
        match at {
            Some(at) => {
                self.serial += 1;
                self.queue.insert((at, self.serial), (stop, packet));
            }
            None => self.note(now, "lost", &packet),
        }
    }

    fn fresh_addr(&mut self, place: Place) -> IpAddr {
        let translating = place.wall().filter(|wall| self.walls[*wall].live.translates());
        match (place.wall(), translating) {
            (Some(wall), None) => {
                let parent = self.walls[wall].place;
                self.fresh_addr(parent)
            }
            (number, _) => {
                self.realms[place.0].given += 1;
                let [high, low] = self.realms[place.0].given.to_be_bytes();
                assert!(low < 255, "a place is small");
                IpAddr::V4(match number {
                    None => Ipv4Addr::new(203, 0, 113 + high, low),
                    Some(wall) => {
                        Ipv4Addr::new(10, u8::try_from(wall + 1).expect("a world is small"), high, low)
                    }
                })
            }
        }
    }

    /// Makes `ip` known at `place` and at every place above it from which it is reached untranslated.
    fn register(&mut self, place: Place, ip: IpAddr, member: Member) {
        self.realms[place.0].members.insert(ip, member);
        let Some(wall) = place.wall() else { return };
        let node = &self.walls[wall];
        if !node.live.translates() || ip.is_ipv6() {
            self.register(node.place, ip, Member::Wall(wall));
        }
    }
}

/// One way, within a host.
const LOOPBACK_DELAY: Duration = Duration::from_micros(20);
/// How many lines the trace keeps.
const TRACE: usize = 120;
