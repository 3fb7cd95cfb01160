//! The caster's application: finds the viewer of a ticket, publishes one source over the link.
//!
//! ```text
//!  start ─▶ Seeking ──Linked──▶ Opening ──Publishing──▶ Live ──┬─ source over, --duration, Ctrl-C ─▶ end, exit 0
//!              ▲                   │                     │     └─ never linked, lost for good ───▶ end, exit 1
//!              └───────── Lost ────┴─────────────────────┘
//! ```
//!
//! A relayed link may be followed by a direct one: the stream moves there at a keyframe, and the relayed one first
//! sends what it has ([`route`]).
//!
//! Units come from a thread (as messages) or from the local RTMP port (a room of this application). What the link
//! does not take at once waits in a [`Queue`] that is bounded by time, so the picture never falls behind.

mod route;

use crate::clock::Clock;
use crate::meeting::{self, Link, Meeting};
use crate::notice::{Notice, Report, Stats};
use crate::rtmp_port::{self, RtmpPort, RtmpPortConfig, RtmpPortOutput};
use crate::source::SourceEvent;
use crate::stats::Meter;
use punchcast::app::{App, ConnId, Input, NetOp, Output, Room, soonest};
use punchcast::link::{Bye, EndReason};
use punchcast::media::{Cache, Unit};
use punchcast::policy::Obstacle;
use punchcast::portmap::Mapping;
use punchcast::punch::Findings;
use punchcast::rendezvous::agent;
use punchcast::rtmp::{self, ClientEvent};
use route::{Route, Stage};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const RTMP: Room = Room(4);

/// How much of the queue goes to the link before its answer (full or not) is heard.
const PUMP: usize = 64 * 1024;

/// What other threads tell a caster.
#[derive(Clone, Debug)]
pub enum Message {
    /// Of the source.
    Source(SourceEvent),
    /// What routers forward to the hole port: all of it, whenever it changes.
    Mapped(Vec<Mapping>),
}

impl From<SourceEvent> for Message {
    fn from(event: SourceEvent) -> Self {
        Self::Source(event)
    }
}

/// What a caster is made with.
pub struct Config {
    /// The meeting.
    pub meeting: meeting::Config,
    /// A local RTMP port to take the stream from, instead of messages.
    pub rtmp: Option<SocketAddr>,
    /// End by itself this long after the first link.
    pub duration: Option<Duration>,
    /// Varies what need not be secret.
    pub seed: u64,
}

/// See the [module](self).
pub struct Caster {
    meeting: Meeting,
    port: Option<RtmpPort>,
    /// Of the programs that publish to the port, one after another.
    clock: Clock,
    /// The links, oldest first: none, one, or a second one that the stream moves to.
    routes: Vec<Route>,
    cache: Cache,
    /// Pictures left out on links that are over.
    dropped: u64,
    meter: Meter,
    began: Instant,
    sent_first: bool,
    /// The first link starts the source and the clock of `--duration`.
    linked_once: bool,
    duration: Option<Duration>,
    end_at: Option<Instant>,
    server_trouble: Option<String>,
    has_daemon: bool,
    seed: u64,
    report: Report,
    done: bool,
    outputs: VecDeque<Output<Notice>>,
}

impl Caster {
    /// A caster that begins at once.
    #[must_use]
    pub fn new(now: Instant, config: Config) -> Self {
        let mut caster = Self {
            has_daemon: config.meeting.agent.is_some(),
            meeting: Meeting::new(config.meeting),
            port: config.rtmp.map(|addr| {
                let port =
                    RtmpPortConfig { seed: config.seed, ..RtmpPortConfig::new(rtmp_port::Mode::Publishers) };
                RtmpPort::new(RTMP, addr, port)
            }),
            clock: Clock::default(),
            routes: Vec::new(),
            cache: Cache::new(),
            dropped: 0,
            meter: Meter::new(now),
            began: now,
            sent_first: false,
            linked_once: false,
            duration: config.duration,
            end_at: None,
            server_trouble: None,
            seed: config.seed,
            report: Report::default(),
            done: false,
            outputs: VecDeque::new(),
        };
        caster.meeting.start(now, 0);
        if caster.port.is_none() {
            caster.notice(Notice::Ready { ticket: None, page: None, rtmp: None });
        }
        caster.settle(now);
        caster
    }

    fn settle(&mut self, now: Instant) {
        loop {
            if let Some(output) = self.meeting.poll_output() {
                match output {
                    meeting::Output::Net(op) => self.net(op),
                    meeting::Output::Event(event) => self.meeting_event(now, event),
                }
            } else if let Some(output) = self.port.as_mut().and_then(RtmpPort::poll_output) {
                match output {
                    RtmpPortOutput::Net(op) => self.net(op),
                    RtmpPortOutput::Event(event) => self.port_event(now, event),
                }
            } else {
                return;
            }
        }
    }

    fn meeting_event(&mut self, now: Instant, event: meeting::Event) {
        match event {
            meeting::Event::Opened(addresses) => {
                if let Some(port) = addresses.first().map(|endpoint| endpoint.port()) {
                    self.notice(Notice::HoleOpen { port });
                }
            }
            meeting::Event::Failed(addr, error) => {
                self.end(now, false, format!("cannot open a port ({addr}): {error}"));
            }
            meeting::Event::Rendezvous(event) => self.rendezvous_event(event),
            meeting::Event::Trying { rung, local, remote } => {
                self.notice(Notice::Attempt { rung, local, remote: remote.addr() });
            }
            meeting::Event::Linked(link) => self.linked(now, link),
            meeting::Event::SeekingRelay(obstacle) => self.notice(Notice::SeekingRelay(obstacle)),
            meeting::Event::NoRelay(why) => self.notice(Notice::NoRelay { why }),
            meeting::Event::Stream(conn, bytes) => self.session_input(now, conn, &bytes),
            meeting::Event::Rtt(conn, rtt) => {
                if let Some(route) = self.route(conn) {
                    route.link.rtt = Some(rtt);
                }
            }
            meeting::Event::Backlogged(conn) => {
                if let Some(route) = self.route(conn) {
                    route.unread.begin();
                    route.pump_at = None;
                }
            }
            meeting::Event::Drained(conn) => {
                if let Some(route) = self.route(conn) {
                    route.unread.end();
                    self.pump(now, conn);
                }
            }
            meeting::Event::KeyframeWanted(_) => self.notice(Notice::KeyframeWanted),
            meeting::Event::Stamp(..) => {}
            meeting::Event::Lost(conn, loss) => self.lost(now, conn, loss),
            meeting::Event::NoLink(findings, obstacle) => self.no_link(now, findings, obstacle),
        }
    }

    fn rendezvous_event(&mut self, event: agent::Event) {
        match &event {
            agent::Event::Introduced { peer, .. } => self.notice(Notice::Peer { id: peer.client }),
            agent::Event::Unreachable { server, why, .. } => {
                self.server_trouble = Some(format!("the daemon at {server} could not be reached ({why})"));
            }
            agent::Event::LoggedIn { .. } => self.server_trouble = None,
            agent::Event::Observed { .. }
            | agent::Event::Amended { .. }
            | agent::Event::Filtering { .. }
            | agent::Event::PeerJoined { .. }
            | agent::Event::PeerLeft { .. }
            | agent::Event::Refused { .. } => {}
        }
        self.notice(Notice::Rendezvous(event));
    }

    fn linked(&mut self, now: Instant, link: Link) {
        self.seed = self.seed.wrapping_add(1);
        let moves = self.routes.iter().any(|route| link.succeeds(&route.link));
        self.routes.push(Route::new(link, self.seed));
        let elapsed = now - self.began;
        self.report.link = Some((link.rung, elapsed));
        self.notice(Notice::Link { link, elapsed, moves });
        if !self.linked_once {
            self.linked_once = true;
            self.end_at = self.duration.map(|duration| now + duration);
            self.meter.reset(now);
            self.notice(Notice::StartSource);
        }
        if !moves {
            self.notice(Notice::KeyframeWanted);
        }
        self.session_output(now, link.conn);
    }

    fn session_input(&mut self, now: Instant, conn: ConnId, bytes: &[u8]) {
        let Some(route) = self.route(conn) else { return };
        let result = route.session.handle_input(bytes);
        self.session_output(now, conn);
        if let Err(error) = result {
            self.drop_route(now, conn, Bye::Leaving);
            self.end(now, false, format!("the viewer's RTMP is broken: {error}"));
        }
    }

    fn session_output(&mut self, now: Instant, conn: ConnId) {
        let done = self.done;
        while let Some(route) = self.route(conn) {
            match route.session.poll_output() {
                // Media comes here only while the link takes it, but for what is left when the cast ends.
                Some(rtmp::Output::Transmit(bytes)) if done || route.unread.count(bytes.len()) => {
                    self.meeting.send(now, conn, &bytes);
                }
                Some(rtmp::Output::Transmit(_)) => {
                    self.drop_route(now, conn, Bye::Leaving);
                    self.end(now, false, "the viewer asks and does not read".into());
                }
                Some(rtmp::Output::Event(ClientEvent::Publishing)) => self.publishing(now, conn),
                Some(rtmp::Output::Event(ClientEvent::Ended)) => {
                    self.end(now, true, "the viewer ended the cast".into());
                }
                Some(rtmp::Output::Event(ClientEvent::Playing | ClientEvent::Media(_))) => {}
                None => return,
            }
        }
    }

    /// The session of a link may carry the stream: at once if no other does, else from the next keyframe on.
    fn publishing(&mut self, now: Instant, conn: ConnId) {
        let takes_turns = self.routes.iter().any(|route| route.stage == Stage::Live);
        let cache = &self.cache;
        let Some(route) = self.routes.iter_mut().find(|route| route.link.conn == conn) else { return };
        if route.stage != Stage::Opening {
            return;
        }
        if takes_turns {
            route.stage = Stage::Ready;
            self.notice(Notice::KeyframeWanted);
        } else {
            route.stage = Stage::Live;
            route.queue.begin(now, cache);
            self.pump(now, conn);
        }
    }

    /// Takes a unit of the source.
    fn offer(&mut self, now: Instant, unit: Unit) {
        self.cache.push(&unit);
        if unit.is_keyframe() {
            self.take_turns(now);
        }
        let Some(route) = self.routes.iter_mut().find(|route| route.stage == Stage::Live) else { return };
        let conn = route.link.conn;
        route.queue.push(now, unit);
        self.pump(now, conn);
    }

    /// A keyframe comes: a link that waits for one carries the stream from here on.
    fn take_turns(&mut self, now: Instant) {
        let Some(next) = self.routes.iter().position(|route| route.stage == Stage::Ready) else { return };
        let before = self.routes.iter_mut().find(|route| route.stage == Stage::Live);
        let drained = before.map(|before| {
            before.drain(now);
            before.link.conn
        });
        let route = &mut self.routes[next];
        route.stage = Stage::Live;
        // The keyframe itself is about to be pushed.
        self.cache.headers().for_each(|header| route.queue.push(now, header));
        if let Some(conn) = drained {
            self.pump(now, conn);
        }
    }

    /// Sends from a link's queue until the link is full, or [`PUMP`] bytes have gone and its answer is awaited.
    fn pump(&mut self, now: Instant, conn: ConnId) {
        let mut budget = PUMP;
        while let Some(route) = self.routes.iter_mut().find(|route| route.link.conn == conn) {
            route.pump_at = None;
            if !matches!(route.stage, Stage::Live | Stage::Draining(_)) || route.unread.is_backlogged() {
                break;
            }
            if budget == 0 {
                route.pump_at = Some(now);
                break;
            }
            let Some((unit, since)) = route.queue.pop_dated() else { break };
            budget = budget.saturating_sub(unit.payload.len().max(1));
            if unit.is_picture() {
                self.meeting.stamp(conn, unit.timestamp, since);
            }
            if let Err(error) = route.session.send_media(&unit) {
                log::warn!("a unit of {} bytes cannot be sent: {error}", unit.payload.len());
                continue;
            }
            self.meter.count(&unit);
            if unit.is_picture() {
                self.meter.age(now.saturating_duration_since(since));
            }
            if unit.is_keyframe() && !self.sent_first {
                self.sent_first = true;
                let elapsed = now - self.began;
                self.notice(Notice::FirstFrame { elapsed });
            }
            self.session_output(now, conn);
        }
        self.finish_drained(now);
    }

    /// Ends the link that was succeeded once it has sent all that it had.
    fn finish_drained(&mut self, now: Instant) {
        let drained = self.routes.iter_mut().find(|route| route.is_drained(now));
        if let Some(route) = drained {
            let conn = route.link.conn;
            route.session.finish();
            self.session_output(now, conn);
            self.drop_route(now, conn, Bye::Moved);
        }
    }

    /// Ends a link with a goodbye.
    fn drop_route(&mut self, now: Instant, conn: ConnId, bye: Bye) {
        self.meeting.end(now, conn, bye);
        self.forget(conn);
    }

    fn forget(&mut self, conn: ConnId) -> Option<Route> {
        let at = self.routes.iter().position(|route| route.link.conn == conn)?;
        let route = self.routes.remove(at);
        self.dropped += route.queue.dropped();
        Some(route)
    }

    fn lost(&mut self, now: Instant, conn: ConnId, loss: meeting::Loss) {
        let Some(route) = self.forget(conn) else { return };
        match loss {
            // The viewer has moved on to the other link.
            meeting::Loss::Ended(EndReason::Bye(_)) if !self.routes.is_empty() => self.went_on(now, &route),
            meeting::Loss::Ended(EndReason::Bye(Bye::Busy)) => {
                self.end(now, false, "the viewer shows another cast; try again when it is over".into());
            }
            meeting::Loss::Ended(EndReason::Bye(bye)) => {
                self.end(now, true, format!("the viewer said goodbye ({bye})"));
            }
            meeting::Loss::Ended(_) | meeting::Loss::Cut(_) | meeting::Loss::RelaySpent(_) => {
                self.went_on(now, &route);
                if self.routes.is_empty() {
                    self.notice(Notice::Lost { why: loss.to_string() });
                    self.began = now;
                    self.meeting.seek(now);
                }
            }
        }
    }

    /// One of two links is gone: the other carries the stream, and has no keyframe to wait for any more.
    fn went_on(&mut self, now: Instant, gone: &Route) {
        let ready = self.routes.iter_mut().find(|route| route.stage == Stage::Ready);
        if let Some(next) = ready.filter(|_| gone.stage == Stage::Live) {
            next.stage = Stage::Opening;
            let conn = next.link.conn;
            self.publishing(now, conn);
        }
    }

    fn no_link(&mut self, now: Instant, findings: Findings, obstacle: Option<Obstacle>) {
        let reason = if let Some(obstacle) = obstacle {
            format!(
                "no direct link could be made: {obstacle} ({findings}). A viewer on another network, a port forwarded \
                 to it, or a daemon that relays (`punchcastd --relay on`) would help"
            )
        } else if let Some(trouble) = &self.server_trouble {
            format!("no link: {trouble}, and the viewer's own addresses do not answer from here ({findings})")
        } else if self.has_daemon {
            format!(
                "no link: the viewer is not there; is `punchcast view` still running, and is this its ticket? \
                 ({findings})"
            )
        } else {
            format!(
                "no link: the ticket names no daemon, and the viewer's own addresses do not answer from here; it \
                 works on the viewer's network only ({findings})"
            )
        };
        self.end(now, false, reason);
    }

    /// Sends what is queued if the link takes it, says goodbye, and exits. On a link that is full the goodbye would
    /// stand behind the queue and be cut off with it, and the viewer would take the end for a lost link.
    fn end(&mut self, now: Instant, ok: bool, reason: String) {
        if self.done {
            return;
        }
        self.done = true;
        for conn in self.routes.iter().map(|route| route.link.conn).collect::<Vec<_>>() {
            self.finish_route(now, conn);
        }
        self.tell_stats(now);
        self.meeting.leave(now, Bye::Finished);
        self.routes.clear();
        self.settle(now);
        self.notice(Notice::Report(Report { frames: self.meter.total_frames(), ..self.report }));
        self.notice(Notice::End { ok, reason });
        self.outputs.push_back(Output::Exit);
    }

    /// The last of what waits before a link, and the end of its stream.
    fn finish_route(&mut self, now: Instant, conn: ConnId) {
        while let Some(route) = self.route(conn) {
            if !matches!(route.stage, Stage::Live | Stage::Draining(_)) {
                return;
            }
            if route.unread.is_backlogged() {
                route.queue.clear();
            }
            let Some(unit) = route.queue.pop() else {
                route.session.finish();
                self.session_output(now, conn);
                return;
            };
            let _ = route.session.send_media(&unit);
            self.meter.count(&unit);
            self.session_output(now, conn);
        }
    }

    fn port_event(&mut self, now: Instant, event: rtmp_port::Event) {
        match event {
            rtmp_port::Event::Listening(local) => {
                self.notice(Notice::Ready { ticket: None, page: None, rtmp: Some(local) });
            }
            rtmp_port::Event::ListenFailed { addr, error } => self.end(
                now,
                false,
                format!(
                    "cannot listen on {addr}: {error}; choose another with --rtmp, or port 0 for any free one"
                ),
            ),
            rtmp_port::Event::PublisherJoined { remote, .. } => {
                self.cache = Cache::new();
                self.clock.next_stream();
                self.notice(Notice::Publisher { remote, joined: true });
            }
            rtmp_port::Event::PublisherLeft { remote } => {
                self.notice(Notice::Publisher { remote, joined: false })
            }
            rtmp_port::Event::Media(unit) => {
                let unit = self.clock.place(unit);
                self.offer(now, unit);
            }
            rtmp_port::Event::PlayerJoined { .. } | rtmp_port::Event::PlayerLeft { .. } => {}
        }
    }

    fn route(&mut self, conn: ConnId) -> Option<&mut Route> {
        self.routes.iter_mut().find(|route| route.link.conn == conn)
    }

    fn tell_stats(&mut self, now: Instant) {
        let live = self.routes.iter().find(|route| route.stage == Stage::Live).or(self.routes.first());
        let Some(link) = live.map(|route| route.link) else { return };
        let counts = self.meter.take(now);
        let dropped = self.dropped + self.routes.iter().map(|route| route.queue.dropped()).sum::<u64>();
        self.notice(Notice::Stats(Stats { counts, rung: link.rung, rtt: link.rtt, dropped }));
    }

    fn net(&mut self, op: NetOp) {
        self.report.count(&op);
        self.outputs.push_back(Output::Net(op));
    }

    fn notice(&mut self, notice: Notice) {
        self.outputs.push_back(Output::Notice(notice));
    }
}

impl App for Caster {
    type Message = Message;
    type Notice = Notice;

    fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        match input.room() {
            Some(RTMP) => {
                if let Some(port) = &mut self.port {
                    port.handle_input(now, input);
                }
            }
            Some(_) => self.meeting.handle_input(now, input),
            None => {
                let ok = self.linked_once;
                self.end(now, ok, "interrupted".into());
            }
        }
        self.settle(now);
    }

    fn handle_message(&mut self, now: Instant, message: Message) {
        match message {
            Message::Source(SourceEvent::Unit(unit)) => self.offer(now, unit),
            Message::Source(SourceEvent::Ended) => self.end(now, true, "the source has ended".into()),
            Message::Source(SourceEvent::Failed(why)) => {
                self.end(now, false, format!("the source failed: {why}"));
            }
            Message::Mapped(_) if self.done => {}
            Message::Mapped(mappings) => {
                self.meeting.mapped(now, mappings.iter().map(|mapping| mapping.external).collect());
                self.notice(Notice::Mapped(mappings));
            }
        }
        self.settle(now);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.meeting.handle_timeout(now);
        if let Some(port) = &mut self.port {
            port.handle_timeout(now);
        }
        let due = |route: &&Route| route.poll_timeout().is_some_and(|(at, _)| at <= now);
        for conn in self.routes.iter().filter(due).map(|route| route.link.conn).collect::<Vec<_>>() {
            self.pump(now, conn);
        }
        if !self.routes.is_empty() && self.meter.is_due(now) {
            self.tell_stats(now);
        }
        if self.end_at.is_some_and(|at| at <= now) {
            self.end(now, true, "the time is over".into());
        }
        self.settle(now);
    }

    fn poll_output(&mut self) -> Option<Output<Notice>> {
        self.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        if self.done {
            return None;
        }
        let live = !self.routes.is_empty();
        let routes =
            self.routes.iter().filter_map(Route::poll_timeout).reduce(|a, b| if b.0 < a.0 { b } else { a });
        [
            self.port.as_ref().and_then(RtmpPort::poll_timeout),
            routes,
            live.then(|| (self.meter.due(), "statistics")),
            self.end_at.map(|at| (at, "the end of --duration")),
        ]
        .into_iter()
        .fold(self.meeting.poll_timeout(), soonest)
    }
}

#[cfg(test)]
mod tests;
