//! The caster's application: publishes one source to the viewers of one or several tickets or codes.
//!
//! Each viewer has an outlet of its own: a meeting, a link, a queue. The source begins with the first link and
//! ends with the cast; an outlet that is over ends nobody else's, and the last one's end is the cast's. A viewer that is
//! known by its short code gets its outlet when the ticket behind the code is here.
//!
//! Besides, players may dial this side and play by plain RTMP ([`Serve`]): the patent's reverse way.
//!
//! Units come from a thread (as messages), from the local RTMP port or from the sharing page (rooms of this application).

mod asking;
mod budget;
mod outlet;
mod presence;
mod route;
mod serve;

use crate::clock::Clock;
use crate::meeting;
use crate::notice::Notice;
use crate::reachable::reachable;
use crate::rehearsal::Rehearsal;
use crate::rtmp_port::{self, RtmpPort, RtmpPortConfig, RtmpPortOutput};
use crate::share::{Share, ShareConfig, ShareEvent, ShareOutput};
use crate::source::SourceEvent;
use asking::Asking;
pub use asking::{CodeConfig, Whom};
use outlet::Outlet;
use punchcast::app::{App, ConnId, Input, NetOp, Output, Room, Space, soonest};
use punchcast::cadence::{Cadence, Window};
use punchcast::media::{Cache, Unit, metadata};
use punchcast::portmap::Mapping;
pub use serve::Serve;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const SHARE: Room = Room(3);
const RTMP: Room = Room(4);

/// The players' port.
const SERVE: Room = Room(5);

/// What other threads tell a caster.
#[derive(Clone, Debug)]
pub enum Message {
    /// Of the source.
    Source(SourceEvent),
    /// What routers forward to the hole port towards one viewer, counted from 0: all of it, whenever it changes.
    Mapped(usize, Vec<Mapping>),
}

impl From<SourceEvent> for Message {
    fn from(event: SourceEvent) -> Self {
        Self::Source(event)
    }
}

/// What a caster is made with.
pub struct Config {
    /// The viewers, each with rooms of its own; at least one, or players are served.
    pub viewers: Vec<Whom>,
    /// Serves players who dial this side.
    pub serve: Option<Serve>,
    /// A local RTMP port to take the stream from, instead of messages.
    pub rtmp: Option<SocketAddr>,
    /// A local page to share a screen from, instead of messages.
    pub share: Option<ShareConfig>,
    /// Whether the source encodes for the links: follows its [`Pace`], and makes a keyframe when asked for one.
    pub encodes: bool,
    /// End by itself this long after the first link.
    pub duration: Option<Duration>,
    /// Varies what need not be secret.
    pub seed: u64,
}

/// What the links can take of a source that encodes for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    /// Nobody takes another picture now, or nobody is there.
    pub hold: bool,
    /// Bits a second; `None`: as many as it likes.
    pub bitrate: Option<u64>,
}

/// See the [module](self).
pub struct Caster {
    /// Viewers whose ticket is asked for, by number.
    asking: BTreeMap<usize, Asking>,
    /// The others, by number.
    outlets: BTreeMap<usize, Outlet>,
    /// How many viewers there are in all.
    viewers: usize,
    port: Option<RtmpPort>,
    /// Where a program publishes, once that is known.
    publish_at: Option<SocketAddr>,
    serve: Option<serve::Serving>,
    share: Option<Share>,
    /// Where its page is, once that is known.
    share_at: Option<SocketAddr>,
    /// Of the programs that publish to the port and of the pages that share, one after another.
    clock: Clock,
    cache: Cache,
    cadence: Cadence,
    rehearsal: Rehearsal,
    /// The first link starts the source and the clock of `--duration`.
    linked_once: bool,
    encodes: bool,
    duration: Option<Duration>,
    end_at: Option<Instant>,
    /// What the source was told last: to hold, and how many bits a second to make.
    pace: Pace,
    /// Whether an outlet that ended by itself did what it was asked for.
    any_ok: bool,
    done: bool,
    /// A port could not be had.
    cannot_begin: bool,
    rng: fastrand::Rng,
    outputs: VecDeque<Output<Notice>>,
}

impl Caster {
    /// A caster that begins at once.
    #[must_use]
    pub fn new(now: Instant, config: Config) -> Self {
        let mut rng = fastrand::Rng::with_seed(config.seed);
        let viewers = config.viewers.len();
        let (mut asking, mut outlets) = (BTreeMap::new(), BTreeMap::new());
        for (at, whom) in config.viewers.into_iter().enumerate() {
            match whom {
                Whom::Ticket(meeting) => {
                    drop(outlets.insert(at, Outlet::new(now, now, meeting, rng.u64(..))))
                }
                Whom::Code(code) => drop(asking.insert(at, Asking::new(now, code))),
            }
        }
        let mut caster = Self {
            asking,
            outlets,
            viewers,
            rng,
            port: config.rtmp.map(|addr| {
                let port =
                    RtmpPortConfig { seed: config.seed, ..RtmpPortConfig::new(rtmp_port::Mode::Publishers) };
                RtmpPort::new(RTMP, addr, port)
            }),
            publish_at: None,
            serve: config.serve.map(|serve| serve::Serving::new(serve, config.seed)),
            share_at: None,
            share: config.share.map(|share| Share::new(SHARE, share, viewers)),
            clock: Clock::default(),
            cache: Cache::new(),
            cadence: Cadence::default(),
            rehearsal: Rehearsal::default(),
            linked_once: false,
            encodes: config.encodes,
            duration: config.duration,
            end_at: None,
            pace: Pace::default(),
            any_ok: false,
            done: false,
            cannot_begin: false,
            outputs: VecDeque::new(),
        };
        if caster.port.is_none() && caster.serve.is_none() && caster.share.is_none() {
            caster.tell_ready();
        }
        caster.settle(now);
        caster
    }

    fn settle(&mut self, now: Instant) {
        loop {
            let asked = self.asking.iter_mut().find_map(|(at, asking)| Some((*at, asking.poll_output()?)));
            if let Some((at, output)) = asked {
                self.asking_output(now, at, output);
                continue;
            }
            let said = self.outlets.iter_mut().find_map(|(at, outlet)| Some((*at, outlet.poll_output()?)));
            if let Some((at, output)) = said {
                self.outlet_output(now, at, output);
            } else if let Some(output) = self.port.as_mut().and_then(RtmpPort::poll_output) {
                match output {
                    RtmpPortOutput::Net(op) => self.net(op),
                    RtmpPortOutput::Event(event) => self.port_event(now, event),
                }
            } else if let Some(output) = self.serve.as_mut().and_then(serve::Serving::poll_output) {
                match output {
                    RtmpPortOutput::Net(op) => self.net(op),
                    RtmpPortOutput::Event(event) => self.serve_event(now, event),
                }
            } else if let Some(output) = self.share.as_mut().and_then(Share::poll_output) {
                match output {
                    ShareOutput::Net(op) => self.net(op),
                    ShareOutput::Event(event) => self.share_event(now, event),
                }
            } else if !self.tell_pace(now) {
                return;
            }
        }
    }

    /// Tells the source what the links take; whether that has changed. The fastest line decides: a slow viewer misses
    /// pictures, and nobody else does.
    fn tell_pace(&mut self, now: Instant) -> bool {
        let fell = self.outlets.values_mut().fold(false, |fell, outlet| outlet.take_fall(now) | fell);
        let live = || self.outlets.values().filter_map(|outlet| Some((outlet.is_full()?, outlet.bitrate())));
        let unlimited = live().any(|(_, bitrate)| bitrate.is_none());
        let player_waits = self.serve.as_ref().is_some_and(|serve| serve.port.has_idle_player());
        let pace = Pace {
            hold: live().all(|(full, _)| full) && !player_waits,
            bitrate: live().filter_map(|(_, bitrate)| bitrate).max().filter(|_| !unlimited),
        };
        let mut changed = pace != self.pace;
        if let Some(share) = &mut self.share {
            let bits = pace.bitrate.and_then(|bits| u32::try_from(bits).ok());
            changed |= share.set_hold(pace.hold);
            changed |= share.set_bitrate(bits.unwrap_or(u32::MAX));
        }
        if pace != self.pace {
            let less = |bits| self.pace.bitrate.map_or(fell, |before| bits <= before / budget::SUDDEN);
            let sudden = pace.bitrate.is_some_and(less);
            self.pace = pace;
            // Before the keyframe is asked for: it is made at this rate.
            self.notice(Notice::Pace(pace));
            if self.encodes && sudden {
                // What was made for the faster line would only stand before what is made for this one.
                self.outlets.values_mut().for_each(|outlet| outlet.skip_to_keyframe(now));
            }
        }
        changed
    }

    fn outlet_output(&mut self, now: Instant, at: usize, output: outlet::Output) {
        match output {
            outlet::Output::Net(op) => self.net(op),
            // Nothing has begun that could be reported on.
            outlet::Output::Notice(Notice::Report(_)) if self.cannot_begin => {}
            outlet::Output::Notice(notice) => self.viewer_notice(at, notice),
            outlet::Output::Linked => self.begin_source(now),
            outlet::Output::Over(ok, reason) => self.viewer_over(now, at, ok, reason),
        }
    }

    fn asking_output(&mut self, now: Instant, at: usize, output: asking::Output) {
        match output {
            asking::Output::Net(op) => self.net(op),
            asking::Output::Meet(meeting) => {
                let Some(asking) = self.asking.remove(&at) else { return };
                self.viewer_notice(at, Notice::TicketCame);
                if let Some((other, outlet)) = self.outlet_to(&meeting.secrets) {
                    if outlet.has_linked() {
                        let reason = format!(
                            "its code is that of viewer {}, to whom the cast goes already",
                            other + 1
                        );
                        self.viewer_over(now, at, false, reason);
                        return;
                    }
                    // Its ticket may be an old one, with addresses that lead nowhere; the code's has just come.
                    let reason =
                        format!("the code of viewer {} names the same one: going on with that", at + 1);
                    outlet.give_up(now, false, reason);
                }
                let outlet = Outlet::new(now, asking.began, *meeting, self.rng.u64(..));
                self.outlets.insert(at, outlet);
            }
            asking::Output::Failed(reason) => {
                self.asking.remove(&at);
                self.viewer_over(now, at, false, reason);
            }
        }
    }

    /// The outlet, not over, to the viewer who is meant by these secrets: a code does not tell whose it is before its
    /// ticket is here, which may have been given as well, or have another code.
    fn outlet_to(&mut self, secrets: &meeting::Secrets) -> Option<(usize, &mut Outlet)> {
        let mut outlets = self.outlets.iter_mut().map(|(at, outlet)| (*at, outlet));
        outlets.find(|(_, outlet)| !outlet.is_over() && outlet.leads_to(secrets))
    }

    /// Nothing more goes to one viewer; whether it went well.
    fn viewer_over(&mut self, now: Instant, at: usize, ok: bool, reason: String) {
        self.any_ok |= ok;
        let all = self.asking.is_empty() && self.outlets.values().all(Outlet::is_over);
        // Players may come as long as they are served.
        if all && self.serve.is_none() {
            self.end(now, self.any_ok, reason);
        } else {
            self.viewer_notice(at, Notice::ViewerOver { reason });
        }
    }

    /// Somebody is there to watch.
    fn begin_source(&mut self, now: Instant) {
        if !self.linked_once {
            self.linked_once = true;
            self.end_at = self.duration.map(|duration| now + duration);
            self.notice(Notice::StartSource);
        }
    }

    /// Tells that everything is bound, once it is.
    fn tell_ready(&mut self) {
        let bound = |wanted: bool, addr: Option<SocketAddr>| !wanted || addr.is_some();
        let served_at = self.serve.as_ref().and_then(|serve| serve.local);
        if bound(self.port.is_some(), self.publish_at)
            && bound(self.serve.is_some(), served_at)
            && bound(self.share.is_some(), self.share_at)
        {
            let rtmp_url = self.serve.as_ref().and_then(serve::Serving::url);
            let page = self.share.as_ref().zip(self.share_at).map(|(share, local)| share.link(local));
            // Who publishes is on this host.
            let publish_at = self.publish_at.map(|local| reachable(local, &[]));
            let rtmp = publish_at.map(|addr| format!("rtmp://{addr}/punchcast/cast"));
            self.notice(Notice::Ready { ticket: None, page, rtmp, rtmp_url });
        }
    }

    fn cannot_listen(&mut self, now: Instant, option: &str, addr: SocketAddr, why: &str) {
        let reason = format!(
            "cannot listen on {addr}: {why}; choose another with {option}, or port 0 for any free one"
        );
        self.cannot_begin = true;
        self.end(now, false, reason);
    }

    fn serve_event(&mut self, now: Instant, event: rtmp_port::Event) {
        match event {
            rtmp_port::Event::Listening(local) => {
                if let Some(serve) = &mut self.serve {
                    serve.local = Some(local);
                }
                self.tell_ready();
            }
            rtmp_port::Event::ListenFailed { addr, error } => {
                self.cannot_listen(now, "--serve", addr, &error.to_string());
            }
            rtmp_port::Event::PlayerJoined { remote, .. } => {
                self.begin_source(now);
                self.notice(Notice::Player { remote, joined: true });
                self.want_keyframe();
            }
            rtmp_port::Event::PlayerLeft { remote, .. } => {
                self.notice(Notice::Player { remote, joined: false });
            }
            rtmp_port::Event::KeyframeWanted { .. } => self.want_keyframe(),
            rtmp_port::Event::WrongKey(wrong) => {
                self.notice(Notice::WrongKey { wrong, what: rtmp_port::Mode::Players });
            }
            rtmp_port::Event::PublisherJoined { .. }
            | rtmp_port::Event::PublisherLeft { .. }
            | rtmp_port::Event::Occupied(_)
            | rtmp_port::Event::Media(_) => {}
        }
    }

    /// Takes a unit of the source, which was made at that moment.
    fn offer(&mut self, now: Instant, unit: Unit, made: Instant) {
        let unit = &metadata::of_stream(unit);
        self.cache.push(unit);
        if unit.is_picture() {
            self.cadence.picture(now);
        }
        for outlet in self.outlets.values_mut() {
            outlet.offer(now, unit, made, &self.cache);
        }
        if let Some(serve) = &mut self.serve {
            serve.port.publish(now, 0, unit);
        }
    }

    /// Ends the cast: every viewer is told, then the program.
    fn end(&mut self, now: Instant, ok: bool, reason: String) {
        if self.done {
            return;
        }
        self.done = true;
        for asking in self.asking.values_mut() {
            asking.cancel();
        }
        for outlet in self.outlets.values_mut() {
            outlet.finish(now);
        }
        if let Some(serve) = &mut self.serve {
            serve.port.end_stream(0);
        }
        let end = Notice::End { ok, reason };
        if let Some(share) = &mut self.share {
            share.finish(&end);
        }
        self.settle(now);
        self.notice(end);
        self.outputs.push_back(Output::Exit);
    }

    fn port_event(&mut self, now: Instant, event: rtmp_port::Event) {
        match event {
            rtmp_port::Event::Listening(local) => {
                self.publish_at = Some(local);
                self.tell_ready();
            }
            rtmp_port::Event::ListenFailed { addr, error } => {
                self.cannot_listen(now, "--rtmp", addr, &error.to_string());
            }
            rtmp_port::Event::PublisherJoined { remote, .. } => {
                self.next_stream();
                self.notice(Notice::Publisher { remote, joined: true });
            }
            rtmp_port::Event::PublisherLeft { remote, .. } => {
                self.notice(Notice::Publisher { remote, joined: false })
            }
            rtmp_port::Event::Media(unit) => {
                let unit = self.clock.place(unit);
                self.offer(now, unit, now);
            }
            rtmp_port::Event::Occupied(refused) => self.notice(Notice::Occupied(refused)),
            // Its own port has no key.
            rtmp_port::Event::WrongKey(_)
            | rtmp_port::Event::PlayerJoined { .. }
            | rtmp_port::Event::KeyframeWanted { .. }
            | rtmp_port::Event::PlayerLeft { .. } => {}
        }
    }

    fn share_event(&mut self, now: Instant, event: ShareEvent) {
        match event {
            ShareEvent::Listening { local } => {
                self.share_at = Some(local);
                self.tell_ready();
            }
            ShareEvent::ListenFailed { addr, error } => {
                self.cannot_listen(now, "--share", addr, &error.to_string());
            }
            ShareEvent::Started => {
                self.next_stream();
                self.notice(Notice::Sharing { on: true });
            }
            ShareEvent::Stopped => self.notice(Notice::Sharing { on: false }),
            ShareEvent::Media(unit, made) => {
                let unit = self.clock.place(unit);
                self.offer(now, unit, made);
            }
        }
    }

    /// What comes is not a continuation of what was cast before.
    fn next_stream(&mut self) {
        self.cache = Cache::new();
        self.clock.next_stream();
        if let Some(serve) = &mut self.serve {
            serve.port.next_stream(0);
        }
    }

    fn net(&mut self, op: NetOp) {
        self.outputs.push_back(Output::Net(op));
    }

    fn notice(&mut self, notice: Notice) {
        self.outputs.push_back(Output::Notice(notice));
    }

    /// Somebody begins, or has missed pictures: the source is asked for a keyframe, whoever it is.
    fn want_keyframe(&mut self) {
        if let Some(share) = &mut self.share {
            share.want_keyframe();
        }
        self.notice(Notice::KeyframeWanted);
    }

    /// A notice about one viewer; which one is said where there are several.
    fn viewer_notice(&mut self, at: usize, notice: Notice) {
        if matches!(notice, Notice::KeyframeWanted) {
            return self.want_keyframe();
        }
        if let Some(share) = &mut self.share {
            share.notice(at, &notice);
        }
        let several = self.viewers > 1;
        self.notice(if several { Notice::OfViewer { viewer: at, notice: Box::new(notice) } } else { notice });
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
            Some(SERVE) => {
                if let Some(serve) = &mut self.serve {
                    serve.port.handle_input(now, input);
                }
            }
            Some(SHARE) => {
                if let Some(share) = &mut self.share {
                    share.handle_input(now, input);
                }
            }
            Some(room) => {
                if let Some(asking) = self.asking.values_mut().find(|asking| asking.owns(room)) {
                    asking.handle_input(now, &input);
                } else if let Some(outlet) = self.outlets.values_mut().find(|outlet| outlet.owns(room)) {
                    outlet.handle_input(now, input, &self.cache);
                }
            }
            None => {
                let ok = self.linked_once;
                self.end(now, ok, "interrupted".into());
            }
        }
        self.settle(now);
    }

    fn handle_message(&mut self, now: Instant, message: Message) {
        match message {
            Message::Source(SourceEvent::Unit(unit, made)) => self.offer(now, unit, made.unwrap_or(now)),
            Message::Source(SourceEvent::Ended) => self.end(now, true, "the source has ended".into()),
            Message::Source(SourceEvent::Cut(how)) => {
                self.end(now, true, format!("the source has ended: {how}"));
            }
            Message::Source(SourceEvent::Failed(why)) => {
                self.end(now, false, format!("the source failed: {why}"));
            }
            Message::Mapped(viewer, mappings) => {
                if let Some(outlet) = self.outlets.get_mut(&viewer) {
                    outlet.mapped(now, mappings, &self.cache);
                }
            }
        }
        self.settle(now);
    }

    fn handle_timeout(&mut self, now: Instant) {
        for asking in self.asking.values_mut() {
            asking.handle_timeout(now);
        }
        for outlet in self.outlets.values_mut() {
            outlet.handle_timeout(now, &self.cache);
        }
        if let Some(port) = &mut self.port {
            port.handle_timeout(now);
        }
        if let Some(serve) = &mut self.serve {
            serve.port.handle_timeout(now);
        }
        if let Some(share) = &mut self.share {
            share.handle_timeout(now);
        }
        if self.end_at.is_some_and(|at| at <= now) {
            self.end(now, true, "the time of --duration is over".into());
        }
        self.settle(now);
    }

    fn poll_output(&mut self) -> Option<Output<Notice>> {
        self.outputs.pop_front()
    }

    fn space(&mut self, conn: ConnId) -> Option<Space<'_>> {
        self.port.as_mut()?.space(conn)
    }

    fn handle_placed(&mut self, now: Instant, conn: ConnId, count: usize) {
        if let Some(port) = &mut self.port {
            port.handle_placed(now, conn, count);
        }
        self.settle(now);
    }

    fn poll_expected(&self, now: Instant) -> Option<Window> {
        self.cadence.window(now)
    }

    fn rehearse(&mut self, now: Instant) {
        self.rehearsal.run(now);
        self.handle_timeout(now);
    }

    fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        if self.done {
            return None;
        }
        let own = soonest(
            self.port.as_ref().and_then(RtmpPort::poll_timeout),
            self.end_at.map(|at| (at, "the end of --duration")),
        );
        let own = soonest(own, self.serve.as_ref().and_then(|serve| serve.port.poll_timeout()));
        let own = soonest(own, self.share.as_ref().and_then(Share::poll_timeout));
        let asking = self.asking.values().map(Asking::poll_timeout);
        self.outlets.values().map(Outlet::poll_timeout).chain(asking).fold(own, soonest)
    }
}

#[cfg(test)]
mod tests;
