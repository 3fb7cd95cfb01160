//! A NAT or stateful firewall at work: mappings, the filter, and the sessions that both stand on.
//!
//! ```text
//!   outbound SYN ──▶ SynSent ── SYN+ACK in, or SYN in (simultaneous open) ──▶ SynReceived ── ACK ──▶ Established
//!   inbound SYN (where the filter lets it) ───────────────────────────────────────▲                     │ FIN
//!   RST either way: the session ends, if the wall is one that lets RSTs do so                        Closing
//!   RST in, after a SYN in, at one that also follows sequence numbers (Linux) ──▶ Reset, for ten seconds: a SYN out passes
//!   and opens nothing, and only a SYN+ACK that answers it makes the session live again
//! ```
//!
//! A mapping lives as long as one of its sessions does.

use crate::packet::{Body, Packet, Segment};
use crate::spec::{Allocation, Dependence, Refusal, Wall};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// What becomes of a packet at a wall.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// It goes on, translated.
    Pass(Packet),
    /// It is gone; why.
    Drop(&'static str),
    /// It is gone, and this goes back.
    Answer(Packet),
}

/// A wall with its state.
#[derive(Debug)]
pub(crate) struct LiveWall {
    spec: Wall,
    /// The external addresses; a family that has none passes untranslated.
    outside: Vec<IpAddr>,
    /// By inside and remote endpoint.
    sessions: BTreeMap<(SocketAddr, SocketAddr), Session>,
    /// The external and remote endpoints of the same.
    spoken_to: BTreeSet<(SocketAddr, SocketAddr)>,
    /// External endpoint and inside owner of each mapping.
    mappings: BTreeMap<MappingKey, SocketAddr>,
    owners: BTreeMap<SocketAddr, SocketAddr>,
    next_port: u16,
    next_sweep: Duration,
    rng: fastrand::Rng,
}

/// What a mapping depends on: always the inside endpoint; of the remote one what the wall's kind says.
type MappingKey = (SocketAddr, Option<IpAddr>, Option<u16>);

#[derive(Debug)]
struct Session {
    external: SocketAddr,
    state: State,
    /// The initial sequence number of the inside end, once seen.
    inside_isn: Option<u32>,
    /// That of the outside end's SYN, once one crossed the inside end's.
    crossed_isn: Option<u32>,
    expires: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    SynSent,
    SynReceived,
    Established,
    Closing,
    Reset,
}

/// How a segment changes its session.
enum Track {
    Keep(State),
    End,
    /// It has been reset; what its end forgets later.
    Reset,
    Invalid(&'static str),
}

impl LiveWall {
    pub(crate) fn new(spec: Wall, outside: Vec<IpAddr>, mut rng: fastrand::Rng) -> Self {
        Self {
            spec,
            outside,
            sessions: BTreeMap::new(),
            spoken_to: BTreeSet::new(),
            mappings: BTreeMap::new(),
            owners: BTreeMap::new(),
            next_port: rng.u16(FIRST_PORT..50_000),
            next_sweep: Duration::ZERO,
            rng,
        }
    }

    /// Whether `ip` is one of its external addresses.
    pub(crate) fn owns(&self, ip: IpAddr) -> bool {
        self.outside.contains(&ip)
    }

    /// Whether it is a NAT.
    pub(crate) const fn translates(&self) -> bool {
        self.spec.translates
    }

    /// Whether it is one that hairpins.
    pub(crate) const fn hairpins(&self) -> bool {
        self.spec.hairpins
    }

    /// Loses all its state, as a restart does.
    pub(crate) fn forget(&mut self) {
        self.sessions.clear();
        self.spoken_to.clear();
        self.mappings.clear();
        self.owners.clear();
    }

    /// Is another kind of wall from here on; its sessions stay.
    pub(crate) fn change(&mut self, spec: Wall) {
        self.spec = spec;
    }

    /// How many mappings it holds.
    pub(crate) fn mapping_count(&self) -> usize {
        self.mappings.len()
    }

    /// A packet from inside.
    pub(crate) fn outbound(&mut self, now: Duration, mut packet: Packet) -> Verdict {
        self.expire(now);
        let key = (packet.src, packet.dst);
        let Body::Tcp(segment) = &packet.body else {
            return match self.sessions.get(&key) {
                Some(session) => Verdict::Pass(Packet { src: session.external, ..packet }),
                None => Verdict::Drop("error of no session"),
            };
        };
        if !self.sessions.contains_key(&key) {
            if !segment.opens() {
                return Verdict::Drop("outbound of no session");
            }
            let Some(external) = self.map(packet.src, packet.dst) else {
                return Verdict::Drop("no free port");
            };
            let expires = now + self.spec.transitory_lifetime;
            let session =
                Session { external, state: State::SynSent, inside_isn: None, crossed_isn: None, expires };
            self.insert(key, session);
        }
        let session = self.sessions.get_mut(&key).expect("the session exists or was made above");
        let external = session.external;
        match session.outbound(&self.spec, segment) {
            Track::Invalid(why) => return Verdict::Drop(why),
            track @ (Track::Keep(_) | Track::End | Track::Reset) => self.apply(now, key, &track),
        }
        packet.src = external;
        Verdict::Pass(packet)
    }

    /// A packet from outside, to an external endpoint (or, at a firewall, to an inside one).
    pub(crate) fn inbound(&mut self, now: Duration, mut packet: Packet) -> Verdict {
        self.expire(now);
        let external = packet.dst;
        let translated = self.owns(external.ip());
        let inside = match self.owners.get(&external) {
            Some(inside) => *inside,
            None if translated => return self.unsolicited(&packet, "no mapping"),
            None => external,
        };
        let key = (inside, packet.src);
        let Body::Tcp(segment) = &packet.body else {
            packet.dst = inside;
            return if self.sessions.contains_key(&key) {
                Verdict::Pass(packet)
            } else {
                Verdict::Drop("error of no session")
            };
        };
        match self.sessions.get_mut(&key) {
            // Two sessions of one inside and one remote endpoint cannot be told apart on the way out; Linux and pf
            // both drop the packet that would make the second.
            Some(session) if session.external != external => return Verdict::Drop("session clash"),
            Some(session) => {
                if self.spec.refuses_simultaneous_open && session.state == State::SynSent && segment.opens() {
                    return self.unsolicited(&packet, "simultaneous open");
                }
                match session.inbound(&self.spec, segment) {
                    Track::Invalid(why) if segment.opens() => return self.unsolicited(&packet, why),
                    Track::Invalid(why) => return Verdict::Drop(why),
                    track @ (Track::Keep(_) | Track::End | Track::Reset) => self.apply(now, key, &track),
                }
            }
            None => {
                if !self.admits(external, packet.src) {
                    return self.unsolicited(&packet, "filtered");
                }
                if !segment.opens() {
                    return Verdict::Drop("inbound of no session");
                }
                let expires = now + self.spec.transitory_lifetime;
                let session = Session {
                    external,
                    state: State::SynReceived,
                    inside_isn: None,
                    crossed_isn: None,
                    expires,
                };
                self.insert(key, session);
            }
        }
        packet.dst = inside;
        Verdict::Pass(packet)
    }

    fn apply(&mut self, now: Duration, key: (SocketAddr, SocketAddr), track: &Track) {
        match track {
            Track::Keep(state) => {
                let session = self.sessions.get_mut(&key).expect("a tracked session exists");
                session.state = *state;
                session.expires = match state {
                    State::Established => now + self.spec.established_lifetime,
                    State::SynSent | State::SynReceived | State::Closing => {
                        now + self.spec.transitory_lifetime
                    }
                    State::Reset => session.expires,
                };
            }
            Track::Reset => {
                let session = self.sessions.get_mut(&key).expect("a tracked session exists");
                session.state = State::Reset;
                session.expires = now + RESET_LIFETIME;
            }
            Track::End => self.remove(key),
            Track::Invalid(_) => {}
        }
    }

    /// Whether the filter lets a stranger's first segment to `external` in. Only endpoints that the inside end
    /// of this very mapping spoke to count.
    fn admits(&self, external: SocketAddr, remote: SocketAddr) -> bool {
        let mut spoken_to = self.remotes(external);
        match self.spec.filtering {
            Dependence::Independent => true,
            Dependence::Address => spoken_to.any(|r| r.ip() == remote.ip()),
            Dependence::AddressAndPort => spoken_to.any(|r| r == remote),
        }
    }

    fn unsolicited(&self, packet: &Packet, why: &'static str) -> Verdict {
        match (self.spec.refusal, packet.refusal()) {
            (Refusal::Rst, Some(answer)) => Verdict::Answer(answer),
            (Refusal::Rst, None) | (Refusal::Drop, _) => Verdict::Drop(why),
        }
    }

    /// The external endpoint for a session of `inside` to `remote`, from a mapping made now if need be.
    fn map(&mut self, inside: SocketAddr, remote: SocketAddr) -> Option<SocketAddr> {
        let Some(ip) = self.outside.iter().copied().find(|ip| ip.is_ipv4() == inside.is_ipv4()) else {
            return Some(inside);
        };
        let key = match self.spec.mapping {
            Dependence::Independent => (inside, None, None),
            Dependence::Address => (inside, Some(remote.ip()), None),
            Dependence::AddressAndPort => (inside, Some(remote.ip()), Some(remote.port())),
        };
        if let Some(external) = self.mappings.get(&key) {
            return Some(*external);
        }
        let external = self.allocate(ip, inside.port())?;
        self.mappings.insert(key, external);
        self.owners.insert(external, inside);
        Some(external)
    }

    fn allocate(&mut self, ip: IpAddr, inside: u16) -> Option<SocketAddr> {
        let mut candidate = match self.spec.allocation {
            Allocation::Preserving => inside,
            Allocation::Sequential(_) => self.next_port,
            Allocation::Random => self.rng.u16(FIRST_PORT..),
        };
        for _ in 0..ALLOCATION_TRIES {
            let external = SocketAddr::new(ip, candidate);
            if let Allocation::Sequential(step) = self.spec.allocation {
                self.next_port = candidate.checked_add(step).unwrap_or(FIRST_PORT);
            }
            if !self.owners.contains_key(&external) {
                return Some(external);
            }
            candidate = match self.spec.allocation {
                Allocation::Sequential(_) => self.next_port,
                Allocation::Preserving | Allocation::Random => self.rng.u16(FIRST_PORT..),
            };
        }
        None
    }

    fn expire(&mut self, now: Duration) {
        if now < self.next_sweep {
            return;
        }
        self.next_sweep = now + SWEEP;
        let expired =
            |(key, session): (&(SocketAddr, SocketAddr), &Session)| (session.expires <= now).then_some(*key);
        for key in self.sessions.iter().filter_map(expired).collect::<Vec<_>>() {
            self.remove(key);
        }
    }

    /// Whom the inside end of a mapping has spoken to.
    fn remotes(&self, external: SocketAddr) -> impl Iterator<Item = SocketAddr> + '_ {
        let from = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        let of_mapping = self.spoken_to.range((external, from)..).take_while(move |(of, _)| *of == external);
        of_mapping.map(|(_, remote)| *remote)
    }

    fn insert(&mut self, key: (SocketAddr, SocketAddr), session: Session) {
        self.spoken_to.insert((session.external, key.1));
        self.sessions.insert(key, session);
    }

    /// Removes a session, and with the last one of a mapping the mapping.
    fn remove(&mut self, key: (SocketAddr, SocketAddr)) {
        let Some(Session { external, .. }) = self.sessions.remove(&key) else { return };
        self.spoken_to.remove(&(external, key.1));
        if self.remotes(external).next().is_none() && self.owners.remove(&external).is_some() {
            let of_inside = self.mappings.range((key.0, None, None)..).take_while(|(of, _)| of.0 == key.0);
            let gone = of_inside.filter(|(_, to)| **to == external).map(|(of, _)| *of).next();
            self.mappings.remove(&gone.expect("each external endpoint has its mapping"));
        }
    }
}

impl Session {
    fn outbound(&mut self, spec: &Wall, segment: &Segment) -> Track {
        if segment.rst {
            self.forget_sockets();
            return if spec.rst_closes { Track::End } else { Track::Keep(self.state) };
        }
        let is_syn = segment.opens();
        if self.state == State::Reset && !is_syn {
            return Track::Invalid("outbound of a session that was reset");
        }
        if !segment.syn {
            return Track::Keep(self.progress(segment));
        }
        let other_socket = self.inside_isn.is_some_and(|isn| isn != segment.seq);
        if is_syn && spec.tracks_window && self.is_crossed() && other_socket {
            return Track::Invalid("SYN of another socket");
        }
        if is_syn {
            // A new socket on the old 4-tuple starts the session anew (RFC 9293 §3.4.3; conntrack follows it).
            self.inside_isn = Some(segment.seq);
            let state = if self.state == State::Closing { State::SynSent } else { self.state };
            return Track::Keep(state);
        }
        // The inside end answers a SYN. If it is not the socket whose SYN opened the session but a listener, its
        // sequence number is new, and conntrack finds it out of the window: this is why one never waits on a
        // listener alone.
        if spec.tracks_window && other_socket {
            return Track::Invalid("SYN+ACK of another socket");
        }
        self.inside_isn = Some(segment.seq);
        Track::Keep(State::SynReceived)
    }

    fn inbound(&mut self, spec: &Wall, segment: &Segment) -> Track {
        let next = self.inside_isn.map(|isn| isn.wrapping_add(1));
        // A pure ACK passes: it is how an end that still has the old connection challenges a new SYN (conntrack's table
        // says "ignore" for it), and the RST that it earns clears the way.
        let challenge = !segment.syn && !segment.rst && !segment.fin && segment.data.is_empty();
        let foreign = self.state == State::SynSent && segment.ack.is_some() && segment.ack != next;
        if foreign && challenge {
            return Track::Keep(self.state);
        }
        if foreign && spec.tracks_window {
            return Track::Invalid("answer out of the window");
        }
        // A RST that refuses a SYN has no sequence number of its own; once the other end has spoken, that is out of
        // its window.
        if spec.tracks_window && segment.rst && segment.seq == 0 && self.state != State::SynSent {
            return Track::Invalid("refusal out of the window");
        }
        if self.state == State::Reset {
            let answers = segment.syn && segment.ack.is_some() && segment.ack == next;
            return if answers {
                Track::Keep(State::SynReceived)
            } else {
                Track::Invalid("inbound of a session that was reset")
            };
        }
        if segment.rst {
            let was_answered = self.state != State::SynSent;
            self.forget_sockets();
            return match spec.rst_closes {
                true if spec.tracks_window && was_answered => Track::Reset,
                true => Track::End,
                false => Track::Keep(self.state),
            };
        }
        // The SYN of one outside socket has crossed; conntrack (in SYN_SENT2) holds another one's for out of its window.
        if spec.tracks_window && segment.opens() && self.is_crossed() && self.crossed_isn != Some(segment.seq)
        {
            return Track::Invalid("SYN of another socket");
        }
        if segment.opens() && self.state == State::SynSent {
            self.crossed_isn = Some(segment.seq);
        }
        if segment.syn {
            if self.state == State::Closing {
                self.inside_isn = None;
            }
            let state =
                if self.state == State::Established { State::Established } else { State::SynReceived };
            return Track::Keep(state);
        }
        Track::Keep(self.progress(segment))
    }

    /// A wall that keeps a session in spite of a RST knows at least that its sockets are gone: the next may be any.
    const fn forget_sockets(&mut self) {
        (self.inside_isn, self.crossed_isn) = (None, None);
    }

    /// Whether SYNs have crossed, and nothing has followed yet.
    fn is_crossed(&self) -> bool {
        self.state == State::SynReceived && self.crossed_isn.is_some()
    }

    /// The state after a segment without SYN and RST.
    const fn progress(&self, segment: &Segment) -> State {
        match self.state {
            State::SynReceived | State::Established | State::Closing if segment.fin => State::Closing,
            State::SynReceived | State::Established => State::Established,
            State::SynSent | State::Closing | State::Reset => self.state,
        }
    }
}

/// The first port that a NAT gives away by itself.
const FIRST_PORT: u16 = 1024;
/// How many ports are tried for a new mapping.
const ALLOCATION_TRIES: usize = 1000;
/// How long a session that was reset is remembered (Linux: `nf_conntrack_tcp_timeout_close`).
const RESET_LIFETIME: Duration = Duration::from_secs(10);
/// How often stale sessions are looked for; finer than any lifetime.
const SWEEP: Duration = Duration::from_secs(1);
