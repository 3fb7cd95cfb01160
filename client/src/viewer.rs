//! The viewer's application: shows a ticket, receives one cast at a time, hands its units to the sinks.
//!
//! ```text
//!  hole port, page and RTMP port bound ─▶ Ready{ticket} ─▶ … Linked ─▶ publish ─▶ Unit, Unit, … ─▶ Lost | Ended
//!                                                            ▲                                        │
//!                                                            └────────────────────────────────────────┘
//! ```
//!
//! The page and the RTMP port are rooms of this application; files and the snapshot belong to the program around it,
//! which gets every unit as a [`Notice`].

use crate::meeting::{self, Link, Meeting};
use crate::notice::{Notice, Report, Stats};
use crate::page::{Page, PageConfig, PageEvent, PageOutput, Phase, Status};
use crate::rtmp_port::{self, RtmpPort, RtmpPortConfig, RtmpPortOutput};
use crate::stats::{Meter, Stamps};
use crate::unread::Unread;
use punchcast::app::{App, ConnId, Input, NetOp, Output, Room, soonest};
use punchcast::id::ClientId;
use punchcast::link::{Bye, EndReason};
use punchcast::media::Unit;
use punchcast::portmap::Mapping;
use punchcast::punch::schedule::ATTEMPT_TIME;
use punchcast::rendezvous::agent;
use punchcast::rtmp::{self, ServerEvent, ServerSession, StreamId};
use punchcast::ticket::{self, Ticket, ViewerIdentity};
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

const PAGE: Room = Room(3);
const RTMP: Room = Room(4);

/// A running cast that was silent for this long gives way to another caster's. The same caster on a new link takes its
/// place at once. Several pings fit in.
const GIVES_WAY_AFTER: Duration = Duration::from_secs(3);

/// What a viewer is made with.
pub struct Config {
    /// The key, the secret and the proof behind the ticket.
    pub identity: ViewerIdentity,
    /// The daemon as the ticket names it.
    pub server: Option<ticket::Server>,
    /// The meeting; its secrets are those of `identity`.
    pub meeting: meeting::Config,
    /// Where to serve the page; the ticket is filled in here.
    pub page: Option<PageConfig>,
    /// Where to serve players.
    pub rtmp: Option<SocketAddr>,
    /// Exit after the first cast.
    pub once: bool,
    /// Varies what need not be secret.
    pub seed: u64,
}

/// How long a cast that moves to another link is waited for on the old one, once the new one has pictures. The caster
/// gives what waits there as long.
const MOVE_TIME: Duration = Duration::from_secs(2);

/// Bytes that may wait on the new link for the old one's end: two seconds of 128 Mbit/s.
const MOVE_BYTES: usize = 32 << 20;

/// The cast that is shown.
struct Cast {
    link: Link,
    session: ServerSession,
    stream: Option<StreamId>,
    heard: Instant,
    seen_first: bool,
    began: Instant,
    unread: Unread,
    stamps: Stamps,
}

/// The link that the cast moves to: its units wait until all of the old link have come.
struct Next {
    cast: Cast,
    units: VecDeque<Unit>,
    bytes: usize,
    /// When its first unit came.
    since: Option<Instant>,
}

/// A caster that was introduced and has no link yet.
struct Met {
    caster: ClientId,
    at: Instant,
}

/// What has been bound so far; the ticket is shown when nothing is missing.
#[derive(Default)]
struct Doors {
    ticket: Option<Ticket>,
    page: Option<SocketAddr>,
    rtmp: Option<SocketAddr>,
    told: bool,
}

/// See the [module](self).
pub struct Viewer {
    identity: ViewerIdentity,
    server: Option<ticket::Server>,
    meeting: Meeting,
    page_config: Option<PageConfig>,
    page: Option<Page>,
    port: Option<RtmpPort>,
    wants_rtmp: bool,
    doors: Doors,
    cast: Option<Cast>,
    next: Option<Next>,
    /// The caster that is being met.
    met: Option<Met>,
    own_ips: Vec<IpAddr>,
    meter: Meter,
    once: bool,
    seed: u64,
    report: Report,
    status: Status,
    outputs: VecDeque<Output<Notice>>,
}

impl Viewer {
    /// A viewer that begins at once.
    #[must_use]
    pub fn new(now: Instant, config: Config) -> Self {
        let mut viewer = Self {
            identity: config.identity,
            server: config.server,
            own_ips: config.meeting.local_ips.clone(),
            meeting: Meeting::new(config.meeting),
            page_config: config.page,
            page: None,
            wants_rtmp: config.rtmp.is_some(),
            port: config.rtmp.map(|addr| {
                let port =
                    RtmpPortConfig { seed: config.seed, ..RtmpPortConfig::new(rtmp_port::Mode::Players) };
                RtmpPort::new(RTMP, addr, port)
            }),
            doors: Doors::default(),
            cast: None,
            next: None,
            met: None,
            meter: Meter::new(now),
            once: config.once,
            seed: config.seed,
            report: Report::default(),
            status: Status { message: "waiting for a caster".into(), ..Status::default() },
            outputs: VecDeque::new(),
        };
        viewer.meeting.start(now, 0);
        viewer.settle(now);
        viewer
    }

    fn settle(&mut self, now: Instant) {
        loop {
            if let Some(output) = self.meeting.poll_output() {
                match output {
                    meeting::Output::Net(op) => self.net(op),
                    meeting::Output::Event(event) => self.meeting_event(now, event),
                }
            } else if let Some(output) = self.page.as_mut().and_then(Page::poll_output) {
                match output {
                    PageOutput::Net(op) => self.net(op),
                    PageOutput::Event(event) => self.page_event(now, event),
                }
            } else if let Some(output) = self.port.as_mut().and_then(RtmpPort::poll_output) {
                match output {
                    RtmpPortOutput::Net(op) => self.net(op),
                    RtmpPortOutput::Event(event) => self.port_event(event),
                }
            } else {
                return;
            }
        }
    }

    fn meeting_event(&mut self, now: Instant, event: meeting::Event) {
        match event {
            meeting::Event::Opened(addresses) => self.opened(addresses),
            meeting::Event::Failed(addr, error) => self.cannot_listen(addr, &error.to_string()),
            meeting::Event::Rendezvous(event) => self.rendezvous_event(now, event),
            meeting::Event::Trying { rung, local, remote } => {
                self.notice(Notice::Attempt { rung, local, remote: remote.addr() });
            }
            meeting::Event::Linked(link) => self.linked(now, link),
            meeting::Event::Stream(conn, bytes) => self.stream(now, conn, &bytes),
            meeting::Event::Rtt(conn, rtt) => {
                if let Some(cast) = self.cast_on(conn) {
                    cast.link.rtt = Some(rtt);
                    cast.heard = now;
                }
            }
            meeting::Event::Stamp(conn, timestamp, made) => {
                if let Some(cast) = self.cast_on(conn) {
                    cast.stamps.note(timestamp, made);
                }
            }
            meeting::Event::KeyframeWanted(_) => {}
            meeting::Event::Lost(conn, loss) => self.lost(now, conn, loss),
            meeting::Event::Backlogged(conn) => {
                if let Some(cast) = self.cast_on(conn) {
                    cast.unread.begin();
                }
            }
            meeting::Event::Drained(conn) => {
                if let Some(cast) = self.cast_on(conn) {
                    cast.unread.end();
                }
            }
            meeting::Event::SeekingRelay(obstacle) => {
                if self.cast.is_none() {
                    self.status.message = format!("no direct link so far: {obstacle}; asking for a relay");
                    self.show_status(now);
                }
                self.notice(Notice::SeekingRelay(obstacle));
            }
            meeting::Event::NoRelay(why) => self.notice(Notice::NoRelay { why }),
            meeting::Event::NoLink(..) => {}
        }
    }

    fn opened(&mut self, addresses: Vec<punchcast::endpoint::Endpoint>) {
        if let Some(port) = addresses.first().map(|endpoint| endpoint.port()) {
            self.notice(Notice::HoleOpen { port });
        }
        let ticket = self.identity.ticket(self.server.clone(), addresses);
        if let Some(mut config) = self.page_config.take() {
            config.ticket_link = ticket.to_string();
            self.page = Some(Page::new(PAGE, config));
        }
        self.doors.ticket = Some(ticket);
        self.tell_ready();
    }

    fn tell_ready(&mut self) {
        let page_missing = self.page.is_some() && self.doors.page.is_none();
        let rtmp_missing = self.wants_rtmp && self.doors.rtmp.is_none();
        let Some(ticket) = self.doors.ticket.as_ref() else { return };
        if self.doors.told || page_missing || rtmp_missing {
            return;
        }
        self.doors.told = true;
        let page = self
            .doors
            .page
            .and_then(|local| self.page.as_ref().map(|page| page.link(reachable(local, &self.own_ips))));
        let notice = Notice::Ready { ticket: Some(ticket.to_string()), page, rtmp: self.doors.rtmp };
        self.notice(notice);
    }

    fn cannot_listen(&mut self, addr: SocketAddr, why: &str) {
        self.notice(Notice::End {
            ok: false,
            reason: format!(
                "cannot listen on {addr}: {why}; choose another address, or port 0 for any free one"
            ),
        });
        self.outputs.push_back(Output::Exit);
    }

    fn rendezvous_event(&mut self, now: Instant, event: agent::Event) {
        if let agent::Event::PeerLeft { client } = &event
            && self.met.as_ref().is_some_and(|met| met.caster == *client)
        {
            self.came_to_nothing(now);
        }
        if let agent::Event::Introduced { peer, .. } = &event {
            if self.cast.is_none() {
                self.met = Some(Met { caster: peer.client, at: now });
                self.status.phase = Phase::Connecting;
                self.status.message = "a caster was introduced; making the link".into();
                self.show_status(now);
            }
            self.notice(Notice::Peer { id: peer.client });
        }
        self.notice(Notice::Rendezvous(event));
    }

    /// The caster that was introduced left, or its time is over. A link that comes later is another story.
    fn came_to_nothing(&mut self, now: Instant) {
        self.met = None;
        self.status.phase = Phase::Waiting;
        self.status.message =
            "the caster that was introduced did not get through; waiting for a caster".into();
        self.show_status(now);
    }

    /// The cast of a link, shown or about to be.
    fn cast_on(&mut self, conn: ConnId) -> Option<&mut Cast> {
        let next = self.next.as_mut().map(|next| &mut next.cast);
        self.cast.iter_mut().chain(next).find(|cast| cast.link.conn == conn)
    }

    fn linked(&mut self, now: Instant, link: Link) {
        let current = self.cast.as_ref();
        let gives_way =
            current.is_none_or(|cast| cast.link.run == link.run || cast.heard + GIVES_WAY_AFTER <= now);
        if !gives_way {
            self.meeting.end(now, link.conn, Bye::Busy);
            self.notice(Notice::Busy { remote: link.remote.addr() });
            return;
        }
        let moves = current.is_some_and(|cast| link.succeeds(&cast.link));
        let began = self.met.take().map_or(now, |met| met.at);
        self.seed = self.seed.wrapping_add(1);
        let cast = Cast {
            link,
            session: ServerSession::new(self.seed),
            stream: None,
            heard: now,
            seen_first: moves,
            began,
            unread: Unread::default(),
            stamps: Stamps::default(),
        };
        if let Some(next) = self.next.take() {
            self.meeting.end(now, next.cast.link.conn, Bye::NotChosen);
        }
        self.report.link = Some((link.rung, now - began));
        if moves {
            self.next = Some(Next { cast, units: VecDeque::new(), bytes: 0, since: None });
        } else {
            if let Some(old) = self.cast.take() {
                self.meeting.end(now, old.link.conn, Bye::NotChosen);
            }
            self.cast = Some(cast);
            self.meter.reset(now);
            self.show_link(now, link);
        }
        self.notice(Notice::Link { link, elapsed: now - began, moves });
    }

    fn show_link(&mut self, now: Instant, link: Link) {
        self.status = Status {
            phase: Phase::Live,
            rung: Some(link.rung),
            local: Some(link.local.addr()),
            remote: Some(link.remote.addr()),
            frames: self.meter.total_frames(),
            message: match link.obstacle {
                Some(obstacle) => format!("through the daemon, which cannot read it: {obstacle}"),
                None => format!("linked ({})", link.rung),
            },
            ..Status::default()
        };
        self.show_status(now);
    }

    fn lost(&mut self, now: Instant, conn: ConnId, loss: meeting::Loss) {
        if self.next.as_ref().is_some_and(|next| next.cast.link.conn == conn) {
            self.next = None;
        } else if self.cast.as_ref().is_some_and(|cast| cast.link.conn == conn) {
            if self.next.is_some() {
                self.move_over(now);
                return;
            }
            let finished = matches!(loss, meeting::Loss::Ended(EndReason::Bye(Bye::Finished)));
            self.cast_over(now, finished, &loss.to_string());
        }
    }

    /// The old link has given what it had: the cast goes on over the new one.
    fn move_over(&mut self, now: Instant) {
        let Some(next) = self.next.take() else { return };
        if let Some(old) = self.cast.replace(next.cast) {
            // No harm if it is gone.
            self.meeting.end(now, old.link.conn, Bye::Moved);
        }
        for unit in next.units {
            self.unit(now, unit);
        }
        if let Some(link) = self.cast.as_ref().map(|cast| cast.link) {
            self.show_link(now, link);
        }
    }

    fn stream(&mut self, now: Instant, conn: ConnId, bytes: &[u8]) {
        let Some(cast) = self.cast_on(conn) else { return };
        cast.heard = now;
        let result = cast.session.handle_input(bytes);
        while let Some(cast) = self.cast_on(conn) {
            match cast.session.poll_output() {
                Some(rtmp::Output::Transmit(bytes)) => {
                    if !cast.unread.count(bytes.len()) {
                        self.broken(now, conn, "the caster asks and does not read");
                        return;
                    }
                    self.meeting.send(now, conn, &bytes);
                }
                Some(rtmp::Output::Event(event)) => self.session_event(now, conn, event),
                None => break,
            }
        }
        if let Err(error) = result {
            self.broken(now, conn, &format!("the caster's RTMP is broken: {error}"));
        }
    }

    /// A link that cannot be gone on with.
    fn broken(&mut self, now: Instant, conn: ConnId, why: &str) {
        self.meeting.end(now, conn, Bye::Leaving);
        if self.next.as_ref().is_some_and(|next| next.cast.link.conn == conn) {
            self.next = None;
        } else if self.next.is_some() {
            self.move_over(now);
        } else {
            self.cast_over(now, false, why);
        }
    }

    fn session_event(&mut self, now: Instant, conn: ConnId, event: ServerEvent) {
        let moves = self.next.as_ref().is_some_and(|next| next.cast.link.conn == conn);
        let Some(cast) = self.cast_on(conn) else { return };
        match event {
            ServerEvent::Publish { stream, .. } => {
                cast.session.accept(stream);
                cast.stream = Some(stream);
                if moves {
                    return;
                }
                if let Some(page) = &mut self.page {
                    page.stream_started(now);
                }
                if let Some(port) = &mut self.port {
                    port.next_stream();
                }
                self.notice(Notice::StreamStarted);
            }
            ServerEvent::Play { stream, .. } => cast.session.refuse(stream, rtmp::Refusal::UnknownKey),
            ServerEvent::Media(unit) if moves => self.keep(now, unit),
            ServerEvent::Media(unit) => self.unit(now, unit),
            ServerEvent::PublishEnded(_) => {
                cast.stream = None;
                if !moves && self.next.is_some() {
                    self.move_over(now);
                }
            }
            ServerEvent::PlayEnded(_) => {}
        }
    }

    /// Keeps a unit of the new link until the old one has given all.
    fn keep(&mut self, now: Instant, unit: Unit) {
        let Some(next) = &mut self.next else { return };
        next.since.get_or_insert(now);
        next.bytes += unit.payload.len();
        next.units.push_back(unit);
        if next.bytes > MOVE_BYTES {
            self.move_over(now);
        }
    }

    fn unit(&mut self, now: Instant, unit: Unit) {
        self.meter.count(&unit);
        if unit.is_picture()
            && let Some(made) = self.cast.as_mut().and_then(|cast| cast.stamps.take(unit.timestamp))
        {
            self.meter.age(now.saturating_duration_since(made));
        }
        if let Some(cast) = self.cast.as_mut()
            && !cast.seen_first
            && unit.is_keyframe()
        {
            cast.seen_first = true;
            let elapsed = now - cast.began;
            self.notice(Notice::FirstFrame { elapsed });
        }
        if let Some(page) = &mut self.page {
            page.publish(now, &unit);
        }
        if let Some(port) = &mut self.port {
            port.publish(now, &unit);
        }
        self.notice(Notice::Unit(unit));
    }

    fn cast_over(&mut self, now: Instant, finished: bool, why: &str) {
        let Some(cast) = self.cast.take() else { return };
        self.tell_stats(now, Some(&cast));
        if let Some(page) = &mut self.page {
            page.stream_ended(now);
        }
        // Players stay through a lost link: the caster may come back.
        if finished && let Some(port) = &mut self.port {
            port.end_stream();
        }
        self.status = Status {
            phase: if finished { Phase::Ended } else { Phase::Lost },
            frames: self.status.frames,
            message: if finished {
                "the cast is over".into()
            } else {
                format!("the link was lost ({why}); waiting for the caster to come back")
            },
            ..Status::default()
        };
        self.show_status(now);
        if finished {
            self.notice(Notice::CastEnded);
        } else {
            self.notice(Notice::Lost { why: why.to_owned() });
        }
        if self.once {
            self.leave(now, finished, if finished { "the cast is over".into() } else { why.to_owned() });
        }
    }

    fn leave(&mut self, now: Instant, ok: bool, reason: String) {
        self.meeting.leave(now, Bye::Leaving);
        self.settle(now);
        if self.once {
            self.notice(Notice::Report(Report { frames: self.meter.total_frames(), ..self.report }));
        }
        self.notice(Notice::End { ok, reason });
        self.outputs.push_back(Output::Exit);
    }

    fn page_event(&mut self, now: Instant, event: PageEvent) {
        match event {
            PageEvent::Listening { local } => {
                self.doors.page = Some(local);
                self.tell_ready();
            }
            PageEvent::ListenFailed { addr, error } => self.cannot_listen(addr, &error.to_string()),
            PageEvent::KeyframeWanted => {
                if let Some(cast) = &self.cast {
                    self.meeting.want_keyframe(now, cast.link.conn);
                }
            }
        }
    }

    fn port_event(&mut self, event: rtmp_port::Event) {
        match event {
            rtmp_port::Event::Listening(local) => {
                self.doors.rtmp = Some(local);
                self.tell_ready();
            }
            rtmp_port::Event::ListenFailed { addr, error } => self.cannot_listen(addr, &error.to_string()),
            rtmp_port::Event::PlayerJoined { remote } => self.notice(Notice::Player { remote, joined: true }),
            rtmp_port::Event::PlayerLeft { remote, .. } => {
                self.notice(Notice::Player { remote, joined: false })
            }
            rtmp_port::Event::PublisherJoined { .. }
            | rtmp_port::Event::PublisherLeft { .. }
            | rtmp_port::Event::Media(_) => {}
        }
    }

    fn tell_stats(&mut self, now: Instant, cast: Option<&Cast>) {
        let Some(cast) = cast.or(self.cast.as_ref()) else { return };
        let (rung, rtt) = (cast.link.rung, cast.link.rtt);
        let counts = self.meter.take(now);
        self.status.frames = counts.total_frames;
        self.status.rtt_ms = rtt.map(|rtt| rtt.as_secs_f64() * 1000.0);
        self.notice(Notice::Stats(Stats { counts, rung, rtt, dropped: 0 }));
    }

    fn show_status(&mut self, now: Instant) {
        if let Some(page) = &mut self.page {
            page.status(now, self.status.clone());
        }
    }

    fn net(&mut self, op: NetOp) {
        self.report.count(&op);
        self.outputs.push_back(Output::Net(op));
    }

    fn notice(&mut self, notice: Notice) {
        self.outputs.push_back(Output::Notice(notice));
    }
}

impl App for Viewer {
    /// What routers forward to the hole port: all of it, whenever it changes.
    type Message = Vec<Mapping>;
    type Notice = Notice;

    fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        match input.room() {
            Some(PAGE) => {
                if let Some(page) = &mut self.page {
                    page.handle_input(now, input);
                }
            }
            Some(RTMP) => {
                if let Some(port) = &mut self.port {
                    port.handle_input(now, input);
                }
            }
            Some(_) => self.meeting.handle_input(now, input),
            None => self.leave(now, true, "interrupted".into()),
        }
        self.settle(now);
    }

    fn handle_message(&mut self, now: Instant, mappings: Vec<Mapping>) {
        self.meeting.mapped(now, mappings.iter().map(|mapping| mapping.external).collect());
        self.notice(Notice::Mapped(mappings));
        self.settle(now);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.meeting.handle_timeout(now);
        if let Some(page) = &mut self.page {
            page.handle_timeout(now);
        }
        if let Some(port) = &mut self.port {
            port.handle_timeout(now);
        }
        let moves_at = self.next.as_ref().and_then(|next| next.since).map(|since| since + MOVE_TIME);
        if moves_at.is_some_and(|at| at <= now) {
            self.move_over(now);
        }
        if self.met.as_ref().is_some_and(|met| met.at + ATTEMPT_TIME <= now) {
            self.came_to_nothing(now);
        }
        if self.cast.is_some() && self.meter.is_due(now) {
            self.tell_stats(now, None);
            self.show_status(now);
        }
        self.settle(now);
    }

    fn poll_output(&mut self) -> Option<Output<Notice>> {
        self.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let stats = self.cast.as_ref().map(|_| (self.meter.due(), "statistics"));
        [
            self.meeting.poll_timeout(),
            self.met.as_ref().map(|met| (met.at + ATTEMPT_TIME, "an introduction that came to nothing")),
            self.next
                .as_ref()
                .and_then(|next| next.since)
                .map(|since| (since + MOVE_TIME, "the old link's end")),
            self.page.as_ref().and_then(Page::poll_timeout),
            self.port.as_ref().and_then(RtmpPort::poll_timeout),
        ]
        .into_iter()
        .fold(stats, soonest)
    }
}

/// Where a browser finds what listens at `local`: the unspecified address is nobody's, so this host's first one of its
/// family stands for it.
fn reachable(local: SocketAddr, own: &[IpAddr]) -> SocketAddr {
    if !local.ip().is_unspecified() {
        return local;
    }
    let loopback = if local.is_ipv4() { IpAddr::from([127, 0, 0, 1]) } else { Ipv6Addr::LOCALHOST.into() };
    let ip = own.iter().copied().find(|ip| ip.is_ipv4() == local.is_ipv4()).unwrap_or(loopback);
    SocketAddr::new(ip, local.port())
}

#[cfg(test)]
mod tests;
