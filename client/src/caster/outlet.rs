//! One viewer of a cast: the meeting with it, the links to it, and what waits before them.
//!
//! ```text
//!  start ─▶ Seeking ──Linked──▶ Opening ──Publishing──▶ Live ──┬─ finish ──────────▶ over
//!              ▲                   │                     │     ├─ goodbye ─────────▶ over, told
//!              └───────── Lost ────┴─────────────────────┘     └─ no link, refused ▶ over, told
//! ```
//!
//! A relayed link may be followed by a direct one: the stream moves there at a keyframe, and the relayed one first
//! sends what it has ([`route`](super::route)). What a link does not take at once waits in a queue of this viewer's own, bounded by
//! time, so a slow viewer slows nobody else.

use super::budget::Budget;
use super::presence::Presence;
use super::route::{Route, Stage};
use crate::meeting::{self, Link, Meeting, Rooms};
use crate::notice::{Absence, Notice, Report, Stats, findings_words, refusal_words};
use crate::stats::Meter;
use punchcast::app::{ConnId, Input, NetOp, Room, soonest};
use punchcast::link::{Bye, EndReason};
use punchcast::media::pace::Queue;
use punchcast::media::{Cache, Unit};
use punchcast::policy::Obstacle;
use punchcast::portmap::Mapping;
use punchcast::punch::{Answer, Findings};
use punchcast::rendezvous::agent;
use punchcast::rtmp::{self, ClientEvent};
use punchcast::wire::message::Role;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

/// How much of the queue goes to the link before its answer (full or not) is heard.
const PUMP: usize = 16 * 1024;

/// What an outlet asks for and tells.
pub(super) enum Output {
    /// For the network.
    Net(NetOp),
    /// For the user.
    Notice(Notice),
    /// A first link stands.
    Linked,
    /// Nothing more comes of it: whether it did what it was asked for, and why it ends.
    Over(bool, String),
}

/// See the [module](self).
pub(super) struct Outlet {
    meeting: Meeting,
    /// The links, oldest first: none, one, or a second one that the stream moves to.
    routes: Vec<Route>,
    /// Pictures left out on links that are over.
    dropped: u64,
    meter: Meter,
    budget: Budget,
    began: Instant,
    sent_first: bool,
    linked_once: bool,
    /// Why there is no login.
    server_trouble: Option<String>,
    /// Why there is no introduction, whether or not there is a login.
    assist_trouble: Option<String>,
    has_daemon: bool,
    /// The daemon that took the last login.
    logged_in_at: Option<SocketAddr>,
    presence: Presence,
    seed: u64,
    report: Report,
    over: bool,
    outputs: VecDeque<Output>,
}

impl Outlet {
    /// An outlet that begins to seek its viewer, for whom the user waits since `began`.
    pub(super) fn new(now: Instant, began: Instant, config: meeting::Config, seed: u64) -> Self {
        let has_daemon = config.agent.is_some();
        let presence = if has_daemon { Presence::default() } else { Presence::sought(now) };
        let mut outlet = Self {
            has_daemon,
            meeting: Meeting::new(config),
            routes: Vec::new(),
            dropped: 0,
            meter: Meter::new(now),
            budget: Budget::new(now),
            began,
            sent_first: false,
            linked_once: false,
            server_trouble: None,
            assist_trouble: None,
            logged_in_at: None,
            presence,
            seed,
            report: Report::default(),
            over: false,
            outputs: VecDeque::new(),
        };
        outlet.meeting.start(now, 0);
        outlet.settle(now, &Cache::new());
        outlet
    }

    /// Whether the room is one of its meeting's.
    pub(super) fn owns(&self, room: Room) -> bool {
        self.meeting.rooms().contains(&room)
    }

    /// Whether these secrets mean its viewer.
    pub(super) fn leads_to(&self, secrets: &meeting::Secrets) -> bool {
        self.meeting.secrets() == secrets
    }

    /// Whether it has, or had, a link.
    pub(super) const fn has_linked(&self) -> bool {
        self.linked_once
    }

    /// Whether nothing more comes of it.
    pub(super) const fn is_over(&self) -> bool {
        self.over
    }

    /// Whether a picture would have to wait: the link is full, or another one waits; `None` while there is no link.
    pub(super) fn is_full(&self) -> Option<bool> {
        let live = self.live()?;
        let waits = !live.queue.is_empty() || live.unread.is_backlogged();
        Some(waits || self.meeting.is_draining(live.link.conn))
    }

    /// Leaves out what was made before the bitrate fell: a keyframe comes.
    pub(super) fn skip_to_keyframe(&mut self, now: Instant) {
        if let Some(live) = self.routes.iter_mut().find(|route| route.stage == Stage::Live) {
            live.queue.skip_to_keyframe(now);
            self.notice(Notice::KeyframeWanted);
        }
    }

    /// Lowers the bitrate at once if the line has become so much slower; whether it has.
    pub(super) fn take_fall(&mut self, now: Instant) -> bool {
        let Some(conn) = self.live().map(|live| live.link.conn) else { return false };
        let rate = self.meeting.sudden_rate(conn);
        rate.is_some_and(|rate| self.budget.fall(now, rate, self.meeting.arrived(conn)))
    }

    /// Bits a second that an encoder may make for this viewer; `None`: as many as it likes.
    pub(super) const fn bitrate(&self) -> Option<u64> {
        self.budget.target()
    }

    pub(super) fn handle_input(&mut self, now: Instant, input: Input<'_>, cache: &Cache) {
        self.meeting.handle_input(now, input);
        self.settle(now, cache);
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, cache: &Cache) {
        self.meeting.handle_timeout(now);
        let due = |route: &&Route| route.poll_timeout().is_some_and(|(at, _)| at <= now);
        for conn in self.routes.iter().filter(due).map(|route| route.link.conn).collect::<Vec<_>>() {
            self.pump(now, conn);
        }
        if self.presence.take_absence(now) {
            self.tell_absence(now);
        }
        if !self.routes.is_empty() && self.meter.is_due(now) {
            self.tell_stats(now);
        }
        if let Some(conn) = self.live().map(|route| route.link.conn).filter(|_| self.budget.due() <= now) {
            self.budget.think(now, self.meeting.rate(conn), self.meeting.arrived(conn));
        }
        self.settle(now, cache);
    }

    /// Routers forward these endpoints to the hole port.
    pub(super) fn mapped(&mut self, now: Instant, mappings: Vec<Mapping>, cache: &Cache) {
        if !self.over {
            self.meeting.mapped(now, mappings.iter().map(|mapping| mapping.external).collect());
            self.notice(Notice::Mapped(mappings));
            self.settle(now, cache);
        }
    }

    pub(super) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    pub(super) fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let live = !self.routes.is_empty();
        let routes = self.routes.iter().filter_map(Route::poll_timeout);
        let stats = live.then(|| (self.meter.due(), "statistics"));
        let budget = self.live().map(|_| (self.budget.due(), "think the bitrate over"));
        let absence = self.presence.due().map(|at| (at, "tell that the viewer is not there"));
        let own = soonest(soonest(budget, stats), absence);
        routes.map(Some).fold(soonest(self.meeting.poll_timeout(), own), soonest)
    }

    /// The link that carries the stream.
    fn live(&self) -> Option<&Route> {
        self.routes.iter().find(|route| route.stage == Stage::Live)
    }

    fn settle(&mut self, now: Instant, cache: &Cache) {
        while let Some(output) = self.meeting.poll_output() {
            match output {
                meeting::Output::Net(op) => self.net(op),
                meeting::Output::Event(event) => self.meeting_event(now, event, cache),
            }
        }
    }

    fn meeting_event(&mut self, now: Instant, event: meeting::Event, cache: &Cache) {
        match event {
            meeting::Event::Opened(addresses) => {
                if let Some(port) = addresses.first().map(|endpoint| endpoint.port()) {
                    self.notice(Notice::HoleOpen { port });
                }
            }
            meeting::Event::Failed(addr, error) => {
                self.give_up(now, false, format!("cannot open a port ({addr}): {error}"));
            }
            meeting::Event::Rendezvous(event) => self.rendezvous_event(now, event),
            meeting::Event::Trying { rung, local, remote } => {
                self.notice(Notice::Attempt { rung, local: Some(local), remote: remote.addr() });
            }
            meeting::Event::Linked(link) => self.linked(now, link, cache),
            meeting::Event::SeekingRelay(obstacle) => self.notice(Notice::SeekingRelay(obstacle)),
            meeting::Event::NoRelay(why) => self.notice(Notice::NoRelay { why }),
            meeting::Event::Stream(conn, bytes) => self.session_input(now, conn, &bytes, cache),
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
            meeting::Event::Room(conn) => self.pump(now, conn),
            meeting::Event::KeyframeWanted(_) => self.notice(Notice::KeyframeWanted),
            // A caster takes no publishers at its hole port.
            meeting::Event::Stamp(..) | meeting::Event::Plain { .. } => {}
            meeting::Event::Lost(conn, loss) => self.lost(now, conn, loss, cache),
            meeting::Event::NoLink(findings, obstacle) => self.no_link(now, findings, obstacle),
        }
    }

    /// The viewer is not there. Where there is a link, or none is sought any more, that is no news.
    fn tell_absence(&mut self, now: Instant) {
        let until = self.meeting.seeks_until().filter(|_| self.routes.is_empty() && !self.over);
        let Some(until) = until else { return };
        let absence = if let Some(server) = self.logged_in_at {
            Absence::NotLoggedIn(server)
        } else {
            let answers: Vec<_> = self.meeting.answers().map(|(at, answer)| (at.addr(), answer)).collect();
            // Where somebody has answered, the link is about to stand, or the proof to tell.
            if answers.is_empty() || answers.iter().any(|(_, answer)| *answer == Answer::Connected) {
                return;
            }
            Absence::NoAnswer(answers)
        };
        self.notice(Notice::ViewerAbsent { absence, trying_for: until.saturating_duration_since(now) });
    }

    fn rendezvous_event(&mut self, now: Instant, event: agent::Event) {
        self.presence.hear(now, &event);
        match &event {
            agent::Event::PeerJoined { role: Role::Caster, .. } => {
                self.notice(Notice::OtherCaster);
                return;
            }
            agent::Event::Introduced { peer, .. } => self.notice(Notice::Peer { id: peer.client }),
            agent::Event::Unreachable { server, why, .. } => {
                self.server_trouble = Some(format!("the daemon at {server} could not be reached ({why})"));
            }
            agent::Event::AssistUnreachable { assist, why } => {
                self.assist_trouble =
                    Some(format!("the daemon's assist port {assist} could not be reached ({why})"));
            }
            // What turned this side away may have been the assist port, which was reached then.
            agent::Event::Refused { reason, asked: asked @ agent::Asked::Entry(_) } => {
                self.assist_trouble =
                    Some(format!("the daemon refuses ({})", refusal_words(*reason, *asked)));
            }
            agent::Event::LoggedIn { server, .. } => {
                (self.server_trouble, self.logged_in_at) = (None, Some(*server));
            }
            agent::Event::Observed { observation } if observation.hole => self.assist_trouble = None,
            agent::Event::Observed { .. }
            | agent::Event::Amended { .. }
            | agent::Event::Filtering { .. }
            | agent::Event::PeerJoined { role: Role::Viewer, .. }
            | agent::Event::PeerLeft { .. }
            | agent::Event::Code { .. }
            | agent::Event::NoCode { .. }
            | agent::Event::CodeUsed
            | agent::Event::WrongCode { .. }
            | agent::Event::Refused { .. } => {}
        }
        self.notice(Notice::Rendezvous(event));
    }

    fn linked(&mut self, now: Instant, link: Link, cache: &Cache) {
        self.seed = self.seed.wrapping_add(1);
        let moves = self.routes.iter().any(|route| link.succeeds(&route.link));
        self.routes.push(Route::new(link, self.seed));
        let elapsed = now - self.began;
        self.report.link = Some((link.rung, elapsed));
        self.notice(Notice::Link { link, elapsed, moves });
        if !self.linked_once {
            self.linked_once = true;
            self.meter.reset(now);
            self.outputs.push_back(Output::Linked);
        }
        if !moves {
            self.notice(Notice::KeyframeWanted);
        }
        self.session_output(now, link.conn, cache);
    }

    fn session_input(&mut self, now: Instant, conn: ConnId, bytes: &[u8], cache: &Cache) {
        let Some(route) = self.route(conn) else { return };
        let result = route.session.handle_input(bytes);
        self.session_output(now, conn, cache);
        if let Err(error) = result {
            self.drop_route(now, conn, Bye::Leaving);
            self.give_up(now, false, format!("the viewer's RTMP is broken: {error}"));
        }
    }

    fn session_output(&mut self, now: Instant, conn: ConnId, cache: &Cache) {
        let over = self.over;
        while let Some(route) = self.route(conn) {
            match route.session.poll_output() {
                // Media comes here only while the link takes it, but for what is left when the cast ends.
                Some(rtmp::Output::Transmit(bytes)) if over || route.unread.count(bytes.len()) => {
                    self.meeting.send(now, conn, bytes);
                }
                Some(rtmp::Output::Transmit(_)) => {
                    self.drop_route(now, conn, Bye::Leaving);
                    self.give_up(now, false, "the viewer asks and does not read".into());
                }
                Some(rtmp::Output::Event(ClientEvent::Publishing)) => self.publishing(now, conn, cache),
                Some(rtmp::Output::Event(ClientEvent::Ended)) => {
                    self.give_up(now, true, "the viewer ended the cast".into());
                }
                Some(rtmp::Output::Event(ClientEvent::Playing | ClientEvent::Media(_))) => {}
                None => break,
            }
        }
        self.meeting.flush(now, conn);
    }

    /// The session of a link may carry the stream: at once if no other does, else from the next keyframe on.
    fn publishing(&mut self, now: Instant, conn: ConnId, cache: &Cache) {
        let takes_turns = self.live().is_some();
        let Some(route) = self.route(conn) else { return };
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

    /// Takes a unit of the source, which `cache` has already, and which was made at that moment.
    pub(super) fn offer(&mut self, now: Instant, unit: &Unit, made: Instant, cache: &Cache) {
        if unit.is_keyframe() {
            self.take_turns(now, cache);
        }
        let Some(route) = self.routes.iter_mut().find(|route| route.stage == Stage::Live) else { return };
        let conn = route.link.conn;
        route.queue.push_dated(now, unit.clone(), made);
        self.pump(now, conn);
        self.settle(now, cache);
    }

    /// A keyframe comes: a link that waits for one carries the stream from here on.
    fn take_turns(&mut self, now: Instant, cache: &Cache) {
        let Some(next) = self.routes.iter().position(|route| route.stage == Stage::Ready) else { return };
        let before = self.routes.iter_mut().find(|route| route.stage == Stage::Live);
        let drained = before.map(|before| {
            before.drain(now);
            before.link.conn
        });
        let route = &mut self.routes[next];
        route.stage = Stage::Live;
        // The keyframe itself is about to be pushed.
        cache.headers().for_each(|header| route.queue.push(now, header));
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
            if !self.meeting.has_room(conn) {
                break;
            }
            let Some((unit, made)) = route.queue.pop_dated() else {
                // It takes more again, and has missed what a screen at rest would not send again for long.
                if route.stage == Stage::Live && route.queue.wants_keyframe(now) {
                    self.notice(Notice::KeyframeWanted);
                }
                break;
            };
            budget = budget.saturating_sub(unit.payload.len().max(1));
            let made = made.filter(|_| unit.is_picture());
            if let Some(made) = made {
                self.meeting.stamp(conn, unit.timestamp, made);
            }
            if let Err(error) = route.session.send_media(&unit) {
                log::warn!("a unit of {} bytes cannot be sent: {error}", unit.payload.len());
                continue;
            }
            self.meter.count(&unit);
            if let Some(made) = made {
                self.meter.age(now.saturating_duration_since(made));
            }
            if unit.is_keyframe() && !self.sent_first {
                self.sent_first = true;
                let elapsed = now - self.began;
                self.notice(Notice::FirstFrame { elapsed });
            }
            self.transmit(now, conn);
        }
        if let Some(full) = self.is_full() {
            self.budget.note(now, full);
        }
        self.finish_drained(now);
    }

    /// Ends the link that was succeeded once it has sent all that it had.
    fn finish_drained(&mut self, now: Instant) {
        let drained = self.routes.iter_mut().find(|route| route.is_drained(now));
        if let Some(route) = drained {
            let conn = route.link.conn;
            route.session.finish();
            self.transmit(now, conn);
            self.drop_route(now, conn, Bye::Moved);
            self.seek_if_alone(now, "the direct link broke while the cast moved to it");
        }
    }

    /// Seeks another link where none is left.
    fn seek_if_alone(&mut self, now: Instant, why: &str) {
        if self.routes.is_empty() && !self.over {
            self.notice(Notice::Lost { why: why.to_owned() });
            self.began = now;
            if self.has_daemon {
                self.presence.seek_anew(now);
            } else {
                self.presence = Presence::sought(now);
            }
            self.meeting.seek(now);
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

    fn lost(&mut self, now: Instant, conn: ConnId, loss: meeting::Loss, cache: &Cache) {
        let Some(route) = self.forget(conn) else { return };
        match loss {
            // The viewer has moved on to the other link.
            meeting::Loss::Ended(EndReason::Bye(_)) if !self.routes.is_empty() => {
                self.went_on(now, &route, cache)
            }
            meeting::Loss::Ended(EndReason::Bye(Bye::Busy)) => {
                self.give_up(
                    now,
                    false,
                    "the viewer shows as many casts as it has places for; try again when one is over".into(),
                );
            }
            // It has moved to a link that is gone from here.
            meeting::Loss::Ended(EndReason::Bye(Bye::Moved)) => self.seek_if_alone(now, &loss.to_string()),
            meeting::Loss::Ended(EndReason::Bye(bye)) => {
                self.give_up(now, true, format!("the viewer said goodbye ({bye})"));
            }
            meeting::Loss::Ended(_)
            | meeting::Loss::Cut(_)
            | meeting::Loss::RelayCut(_)
            | meeting::Loss::RelaySpent(_) => {
                self.went_on(now, &route, cache);
                self.seek_if_alone(now, &loss.to_string());
            }
        }
    }

    /// One of two links is gone: the other carries the stream, with no keyframe to wait for if it was about to begin, or
    /// from the next one on if it was about to end.
    fn went_on(&mut self, now: Instant, gone: &Route, cache: &Cache) {
        if gone.stage != Stage::Live {
            return;
        }
        if let Some(next) = self.routes.iter_mut().find(|route| route.stage == Stage::Ready) {
            next.stage = Stage::Opening;
            let conn = next.link.conn;
            self.publishing(now, conn, cache);
        } else if let Some(before) = self.routes.iter_mut().find(|route| route.is_draining()) {
            before.stage = Stage::Live;
            self.dropped += before.queue.dropped();
            before.queue = Queue::awaiting_keyframe();
            self.notice(Notice::KeyframeWanted);
        }
    }

    fn no_link(&mut self, now: Instant, findings: Findings, obstacle: Option<Obstacle>) {
        let trouble = self.server_trouble.as_ref().or(self.assist_trouble.as_ref());
        let reason = if let Some(obstacle) = obstacle {
            format!(
                "no direct link could be made: {obstacle} ({findings}). A viewer on another network, a port forwarded \
                 to it, or a daemon that relays (`punchcastd --relay on`) would help"
            )
        } else if self.linked_once {
            // The ticket is right, and has led there.
            let besides = trouble.map_or_else(String::new, |trouble| format!("; besides, {trouble}"));
            format!(
                "the link was lost, and the viewer has not come back: is `punchcast view` still running there, and is \
                 its network up? ({findings}){besides}"
            )
        } else if let Some(trouble) = trouble {
            format!("no link: {trouble}, and {} ({findings})", findings_words(&findings))
        } else if self.has_daemon {
            format!(
                "no link: the viewer is not there; is `punchcast view` still running, and is this its ticket? \
                 ({findings})"
            )
        } else {
            format!(
                "no link: the ticket names no daemon, and {}; is `punchcast view` still running, and is this its ticket, \
                 on the viewer's network? ({findings})",
                findings_words(&findings)
            )
        };
        self.give_up(now, false, reason);
    }

    /// Ends by itself, and says why.
    pub(super) fn give_up(&mut self, now: Instant, ok: bool, reason: String) {
        if !self.over {
            self.finish(now);
            self.outputs.push_back(Output::Over(ok, reason));
        }
    }

    /// Sends what is queued if the link takes it, says goodbye, and leaves. On a link that is full the goodbye would
    /// stand behind the queue and be cut off with it, and the viewer would take the end for a lost link.
    pub(super) fn finish(&mut self, now: Instant) {
        if self.over {
            return;
        }
        self.over = true;
        for conn in self.routes.iter().map(|route| route.link.conn).collect::<Vec<_>>() {
            self.finish_route(now, conn);
        }
        self.tell_stats(now);
        self.meeting.leave(now, Bye::Finished);
        self.routes.clear();
        // There is nothing that a cache could be needed for any more.
        self.settle(now, &Cache::new());
        self.notice(Notice::Report(Report { frames: self.meter.total_frames(), ..self.report }));
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
                self.transmit(now, conn);
                return;
            };
            let _ = route.session.send_media(&unit);
            self.meter.count(&unit);
            self.transmit(now, conn);
        }
    }

    /// Hands what a session has for its link to the link. Its events come with inputs alone.
    fn transmit(&mut self, now: Instant, conn: ConnId) {
        self.session_output(now, conn, &Cache::new());
    }

    fn route(&mut self, conn: ConnId) -> Option<&mut Route> {
        self.routes.iter_mut().find(|route| route.link.conn == conn)
    }

    fn tell_stats(&mut self, now: Instant) {
        let Some(link) = self.live().or(self.routes.first()).map(|route| route.link) else { return };
        let counts = self.meter.take(now);
        let dropped = self.dropped + self.routes.iter().map(|route| route.queue.dropped()).sum::<u64>();
        self.notice(Notice::Stats(Stats { counts, rung: link.rung, rtt: link.rtt, dropped }));
    }

    #[cfg(test)]
    pub(super) fn stages(&self) -> Vec<Stage> {
        self.routes.iter().map(|route| route.stage).collect()
    }

    fn net(&mut self, op: NetOp) {
        self.report.count(&op, Rooms::is_hole);
        self.outputs.push_back(Output::Net(op));
    }

    fn notice(&mut self, notice: Notice) {
        self.outputs.push_back(Output::Notice(notice));
    }
}

#[cfg(test)]
mod tests;
