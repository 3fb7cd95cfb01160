//! The caster's application: finds the viewer of a ticket, publishes one source over the link.
//!
//! ```text
//!  start ─▶ Seeking ──Linked──▶ Opening ──Publishing──▶ Live ──┬─ source over, --duration, Ctrl-C ─▶ end, exit 0
//!              ▲                   │                     │     └─ never linked, lost for good ───▶ end, exit 1
//!              └───────── Lost ────┴─────────────────────┘
//! ```
//!
//! Units come from a thread (as messages) or from the local RTMP port (a room of this application). What the link
//! does not take at once waits in a [`Queue`] that is bounded by time, so the picture never falls behind.

use crate::clock::Clock;
use crate::meeting::{self, Link, Meeting};
use crate::notice::{Notice, Report, Stats};
use crate::rtmp_port::{self, RtmpPort, RtmpPortConfig, RtmpPortOutput};
use crate::source::SourceEvent;
use crate::stats::Meter;
use crate::unread::Unread;
use punchcast::app::{App, Input, NetOp, Output, Room, soonest};
use punchcast::link::{Bye, EndReason};
use punchcast::media::pace::Queue;
use punchcast::media::{Cache, Unit};
use punchcast::punch::Findings;
use punchcast::rendezvous::agent;
use punchcast::rtmp::{self, ClientEvent, ClientSession, PublishConfig};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const RTMP: Room = Room(4);

/// How much of the queue goes to the link before its answer (full or not) is heard.
const PUMP: usize = 64 * 1024;

/// What the link's RTMP calls the stream. The link itself has proven who publishes; the names are for a reader of
/// the protocol.
const PUBLISH_URL: &str = "rtmp://viewer/punchcast/cast";

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

enum Upstream {
    /// No link.
    Seeking,
    /// The RTMP handshake and commands are under way.
    Opening(Box<Stream>),
    /// Units pass.
    Live(Box<Stream>),
}

struct Stream {
    link: Link,
    session: ClientSession,
    unread: Unread,
}

/// See the [module](self).
pub struct Caster {
    meeting: Meeting,
    port: Option<RtmpPort>,
    /// Of the programs that publish to the port, one after another.
    clock: Clock,
    upstream: Upstream,
    cache: Cache,
    queue: Queue,
    /// The queue goes on at this moment unless the link is full by then.
    pump_at: Option<Instant>,
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
            upstream: Upstream::Seeking,
            cache: Cache::new(),
            queue: Queue::new(),
            pump_at: None,
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
            meeting::Event::Opened(_) => {}
            meeting::Event::Failed(addr, error) => {
                self.end(now, false, format!("cannot open a port ({addr}): {error}"));
            }
            meeting::Event::Rendezvous(event) => self.rendezvous_event(event),
            meeting::Event::Trying { rung, local, remote } => {
                self.notice(Notice::Attempt { rung, local, remote: remote.addr() });
            }
            meeting::Event::Linked(link) => self.linked(now, link),
            meeting::Event::Stream(conn, bytes) => {
                if self.stream().is_some_and(|stream| stream.link.conn == conn) {
                    self.session_input(now, &bytes);
                }
            }
            meeting::Event::Rtt(conn, rtt) => {
                if let Some(stream) = self.stream().filter(|stream| stream.link.conn == conn) {
                    stream.link.rtt = Some(rtt);
                }
            }
            meeting::Event::Backlogged(conn) => {
                if let Some(stream) = self.stream().filter(|stream| stream.link.conn == conn) {
                    stream.unread.begin();
                    self.pump_at = None;
                }
            }
            meeting::Event::Drained(conn) => {
                if let Some(stream) = self.stream().filter(|stream| stream.link.conn == conn) {
                    stream.unread.end();
                    self.pump(now);
                }
            }
            meeting::Event::Lost(conn, loss) => {
                if self.stream().is_some_and(|stream| stream.link.conn == conn) {
                    self.lost(now, loss);
                }
            }
            meeting::Event::NoLink(findings) => self.no_link(now, findings),
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
        let mut publish = PublishConfig::new(PUBLISH_URL).expect("the address is a constant and well formed");
        publish.seed = self.seed;
        let session = ClientSession::publisher(publish);
        self.upstream = Upstream::Opening(Box::new(Stream { link, session, unread: Unread::default() }));
        self.queue.clear();
        self.pump_at = None;
        let elapsed = now - self.began;
        self.report.link = Some((link.rung, elapsed));
        self.notice(Notice::Link { link, elapsed });
        if !self.linked_once {
            self.linked_once = true;
            self.end_at = self.duration.map(|duration| now + duration);
            self.meter.reset(now);
            self.notice(Notice::StartSource);
        }
        self.notice(Notice::KeyframeWanted);
        self.session_output(now);
    }

    fn session_input(&mut self, now: Instant, bytes: &[u8]) {
        let Some(stream) = self.stream() else { return };
        let conn = stream.link.conn;
        let result = stream.session.handle_input(bytes);
        self.session_output(now);
        if let Err(error) = result {
            self.meeting.end(now, conn, Bye::Leaving);
            self.upstream = Upstream::Seeking;
            self.end(now, false, format!("the viewer's RTMP is broken: {error}"));
        }
    }

    fn session_output(&mut self, now: Instant) {
        let done = self.done;
        while let Some(stream) = self.stream() {
            let conn = stream.link.conn;
            match stream.session.poll_output() {
                // Media comes here only while the link takes it, but for what is left when the cast ends.
                Some(rtmp::Output::Transmit(bytes)) if done || stream.unread.count(bytes.len()) => {
                    self.meeting.send(now, conn, &bytes);
                }
                Some(rtmp::Output::Transmit(_)) => {
                    self.meeting.end(now, conn, Bye::Leaving);
                    self.upstream = Upstream::Seeking;
                    self.end(now, false, "the viewer asks and does not read".into());
                }
                Some(rtmp::Output::Event(ClientEvent::Publishing)) => self.publishing(now),
                Some(rtmp::Output::Event(ClientEvent::Ended)) => {
                    self.end(now, true, "the viewer ended the cast".into());
                }
                Some(rtmp::Output::Event(ClientEvent::Playing | ClientEvent::Media(_))) => {}
                None => return,
            }
        }
    }

    fn publishing(&mut self, now: Instant) {
        self.upstream = match std::mem::replace(&mut self.upstream, Upstream::Seeking) {
            Upstream::Opening(stream) => Upstream::Live(stream),
            other @ (Upstream::Seeking | Upstream::Live(_)) => other,
        };
        self.queue.begin(now, &self.cache);
        self.pump(now);
    }

    /// Takes a unit of the source.
    fn offer(&mut self, now: Instant, unit: Unit) {
        self.cache.push(&unit);
        if matches!(self.upstream, Upstream::Live(_)) {
            self.queue.push(now, unit);
            self.pump(now);
        }
    }

    /// Sends from the queue until the link is full, or [`PUMP`] bytes have gone and its answer is awaited.
    fn pump(&mut self, now: Instant) {
        self.pump_at = None;
        let mut budget = PUMP;
        while let Upstream::Live(stream) = &mut self.upstream {
            if stream.unread.is_backlogged() {
                return;
            }
            if budget == 0 {
                self.pump_at = Some(now);
                return;
            }
            let Some(unit) = self.queue.pop() else { return };
            budget = budget.saturating_sub(unit.payload.len().max(1));
            if let Err(error) = stream.session.send_media(&unit) {
                log::warn!("a unit of {} bytes cannot be sent: {error}", unit.payload.len());
                continue;
            }
            self.meter.count(&unit);
            if unit.is_keyframe() && !self.sent_first {
                self.sent_first = true;
                let elapsed = now - self.began;
                self.notice(Notice::FirstFrame { elapsed });
            }
            self.session_output(now);
        }
    }

    fn lost(&mut self, now: Instant, loss: meeting::Loss) {
        self.upstream = Upstream::Seeking;
        self.queue.clear();
        self.pump_at = None;
        match loss {
            meeting::Loss::Ended(EndReason::Bye(Bye::Busy)) => {
                self.end(now, false, "the viewer shows another cast; try again when it is over".into());
            }
            meeting::Loss::Ended(EndReason::Bye(bye)) => {
                self.end(now, true, format!("the viewer said goodbye ({bye})"));
            }
            meeting::Loss::Ended(_) | meeting::Loss::Cut(_) => {
                self.notice(Notice::Lost { why: loss.to_string() });
                self.began = now;
                self.meeting.seek(now);
            }
        }
    }

    fn no_link(&mut self, now: Instant, findings: Findings) {
        let reason = if self.meeting.was_introduced() {
            format!(
                "no direct link could be made: {findings}. One of the networks between lets no punched connection \
                 through; a viewer on another network, or a port forwarded to it, would help"
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
        if self.stream().is_some_and(|stream| stream.unread.is_backlogged()) {
            self.queue.clear();
        }
        while let Upstream::Live(stream) = &mut self.upstream {
            if let Some(unit) = self.queue.pop() {
                self.meter.count(&unit);
                let _ = stream.session.send_media(&unit);
                self.session_output(now);
            } else {
                stream.session.finish();
                self.session_output(now);
                break;
            }
        }
        self.tell_stats(now);
        self.meeting.leave(now, Bye::Finished);
        self.upstream = Upstream::Seeking;
        self.settle(now);
        self.notice(Notice::Report(Report { frames: self.meter.total_frames(), ..self.report }));
        self.notice(Notice::End { ok, reason });
        self.outputs.push_back(Output::Exit);
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

    fn stream(&mut self) -> Option<&mut Stream> {
        match &mut self.upstream {
            Upstream::Seeking => None,
            Upstream::Opening(stream) | Upstream::Live(stream) => Some(stream),
        }
    }

    fn tell_stats(&mut self, now: Instant) {
        let Some(link) = self.stream().map(|stream| stream.link) else { return };
        let counts = self.meter.take(now);
        let dropped = self.queue.dropped();
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
    type Message = SourceEvent;
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

    fn handle_message(&mut self, now: Instant, message: SourceEvent) {
        match message {
            SourceEvent::Unit(unit) => self.offer(now, unit),
            SourceEvent::Ended => self.end(now, true, "the source has ended".into()),
            SourceEvent::Failed(why) => self.end(now, false, format!("the source failed: {why}")),
        }
        self.settle(now);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.meeting.handle_timeout(now);
        if let Some(port) = &mut self.port {
            port.handle_timeout(now);
        }
        if self.pump_at.is_some_and(|at| at <= now) {
            self.pump(now);
        }
        if self.stream().is_some() && self.meter.is_due(now) {
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
        let live = !matches!(self.upstream, Upstream::Seeking);
        [
            self.port.as_ref().and_then(RtmpPort::poll_timeout),
            self.pump_at.map(|at| (at, "the rest of the queue")),
            live.then(|| (self.meter.due(), "statistics")),
            self.end_at.map(|at| (at, "the end of --duration")),
        ]
        .into_iter()
        .fold(self.meeting.poll_timeout(), soonest)
    }
}

#[cfg(test)]
mod tests;
