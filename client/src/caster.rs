//! The caster's application: publishes one source to the viewers of one or several tickets.
//!
//! Each viewer has an outlet of its own: a meeting, a link, a queue. The source begins with the first link and
//! ends with the cast; an outlet that is over ends nobody else's, and the last one's end is the cast's.
//!
//! Units come from a thread (as messages), from the local RTMP port or from the sharing page (rooms of this application).

mod outlet;
mod route;

use crate::clock::Clock;
use crate::meeting;
use crate::notice::Notice;
use crate::rtmp_port::{self, RtmpPort, RtmpPortConfig, RtmpPortOutput};
use crate::share::{Share, ShareConfig, ShareEvent, ShareOutput};
use crate::source::SourceEvent;
use outlet::Outlet;
use punchcast::app::{App, Input, NetOp, Output, Room, soonest};
use punchcast::media::{Cache, Unit};
use punchcast::portmap::Mapping;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const SHARE: Room = Room(3);
const RTMP: Room = Room(4);

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
    /// The meetings, one a viewer, each with rooms of its own; at least one.
    pub meetings: Vec<meeting::Config>,
    /// A local RTMP port to take the stream from, instead of messages.
    pub rtmp: Option<SocketAddr>,
    /// A local page to share a screen from, instead of messages.
    pub share: Option<ShareConfig>,
    /// End by itself this long after the first link.
    pub duration: Option<Duration>,
    /// Varies what need not be secret.
    pub seed: u64,
}

/// See the [module](self).
pub struct Caster {
    outlets: Vec<Outlet>,
    port: Option<RtmpPort>,
    share: Option<Share>,
    /// Of the programs that publish to the port and of the pages that share, one after another.
    clock: Clock,
    cache: Cache,
    /// The first link starts the source and the clock of `--duration`.
    linked_once: bool,
    duration: Option<Duration>,
    end_at: Option<Instant>,
    /// Whether an outlet that ended by itself did what it was asked for.
    any_ok: bool,
    done: bool,
    outputs: VecDeque<Output<Notice>>,
}

impl Caster {
    /// A caster that begins at once.
    #[must_use]
    pub fn new(now: Instant, config: Config) -> Self {
        let mut rng = fastrand::Rng::with_seed(config.seed);
        let viewers = config.meetings.len();
        let outlets = config.meetings.into_iter();
        let mut caster = Self {
            outlets: outlets.map(|meeting| Outlet::new(now, meeting, rng.u64(..))).collect(),
            port: config.rtmp.map(|addr| {
                let port =
                    RtmpPortConfig { seed: config.seed, ..RtmpPortConfig::new(rtmp_port::Mode::Publishers) };
                RtmpPort::new(RTMP, addr, port)
            }),
            share: config.share.map(|share| Share::new(SHARE, share, viewers)),
            clock: Clock::default(),
            cache: Cache::new(),
            linked_once: false,
            duration: config.duration,
            end_at: None,
            any_ok: false,
            done: false,
            outputs: VecDeque::new(),
        };
        if caster.port.is_none() && caster.share.is_none() {
            caster.notice(Notice::Ready { ticket: None, page: None, rtmp: None });
        }
        caster.settle(now);
        caster
    }

    fn settle(&mut self, now: Instant) {
        loop {
            // Held while no link takes anything: a slow viewer slows nobody else.
            if let Some(share) = &mut self.share {
                share.set_hold(!self.outlets.iter().any(Outlet::takes_pictures));
            }
            let said = self
                .outlets
                .iter_mut()
                .enumerate()
                .find_map(|(at, outlet)| Some((at, outlet.poll_output()?)));
            if let Some((at, output)) = said {
                self.outlet_output(now, at, output);
            } else if let Some(output) = self.port.as_mut().and_then(RtmpPort::poll_output) {
                match output {
                    RtmpPortOutput::Net(op) => self.net(op),
                    RtmpPortOutput::Event(event) => self.port_event(now, event),
                }
            } else if let Some(output) = self.share.as_mut().and_then(Share::poll_output) {
                match output {
                    ShareOutput::Net(op) => self.net(op),
                    ShareOutput::Event(event) => self.share_event(now, event),
                }
            } else {
                return;
            }
        }
    }

    fn outlet_output(&mut self, now: Instant, at: usize, output: outlet::Output) {
        match output {
            outlet::Output::Net(op) => self.net(op),
            outlet::Output::Notice(notice) => self.viewer_notice(at, notice),
            outlet::Output::Linked if self.linked_once => {}
            outlet::Output::Linked => {
                self.linked_once = true;
                self.end_at = self.duration.map(|duration| now + duration);
                self.notice(Notice::StartSource);
            }
            outlet::Output::Over(ok, reason) => {
                self.any_ok |= ok;
                if self.outlets.iter().all(Outlet::is_over) {
                    self.end(now, self.any_ok, reason);
                } else {
                    self.viewer_notice(at, Notice::ViewerOver { reason });
                }
            }
        }
    }

    /// Takes a unit of the source.
    fn offer(&mut self, now: Instant, unit: &Unit) {
        self.cache.push(unit);
        for outlet in &mut self.outlets {
            outlet.offer(now, unit, &self.cache);
        }
    }

    /// Ends the cast: every viewer is told, then the program.
    fn end(&mut self, now: Instant, ok: bool, reason: String) {
        if self.done {
            return;
        }
        self.done = true;
        for outlet in &mut self.outlets {
            outlet.finish(now);
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
                self.next_stream();
                self.notice(Notice::Publisher { remote, joined: true });
            }
            rtmp_port::Event::PublisherLeft { remote } => {
                self.notice(Notice::Publisher { remote, joined: false })
            }
            rtmp_port::Event::Media(unit) => {
                let unit = self.clock.place(unit);
                self.offer(now, &unit);
            }
            rtmp_port::Event::PlayerJoined { .. } | rtmp_port::Event::PlayerLeft { .. } => {}
        }
    }

    fn share_event(&mut self, now: Instant, event: ShareEvent) {
        match event {
            ShareEvent::Listening { local } => {
                let page = self.share.as_ref().map(|share| share.link(local));
                self.notice(Notice::Ready { ticket: None, page, rtmp: None });
            }
            ShareEvent::ListenFailed { addr, error } => self.end(
                now,
                false,
                format!(
                    "cannot listen on {addr}: {error}; choose another with --share, or port 0 for any free one"
                ),
            ),
            ShareEvent::Started => {
                self.next_stream();
                self.notice(Notice::Sharing { on: true });
            }
            ShareEvent::Stopped => self.notice(Notice::Sharing { on: false }),
            ShareEvent::Media(unit) => {
                let unit = self.clock.place(unit);
                self.offer(now, &unit);
            }
        }
    }

    /// What comes is not a continuation of what was cast before.
    fn next_stream(&mut self) {
        self.cache = Cache::new();
        self.clock.next_stream();
    }

    fn net(&mut self, op: NetOp) {
        self.outputs.push_back(Output::Net(op));
    }

    fn notice(&mut self, notice: Notice) {
        self.outputs.push_back(Output::Notice(notice));
    }

    /// A notice about one viewer; which one is said where there are several.
    fn viewer_notice(&mut self, at: usize, notice: Notice) {
        if let Some(share) = &mut self.share {
            if matches!(notice, Notice::KeyframeWanted) {
                share.want_keyframe();
            }
            share.notice(at, &notice);
        }
        let several = self.outlets.len() > 1;
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
            Some(SHARE) => {
                if let Some(share) = &mut self.share {
                    share.handle_input(now, input);
                }
            }
            Some(room) => {
                if let Some(outlet) = self.outlets.iter_mut().find(|outlet| outlet.owns(room)) {
                    outlet.handle_input(now, input, &self.cache);
                }
            }
            None => {
                let ok = self.outlets.iter().any(Outlet::was_linked);
                self.end(now, ok, "interrupted".into());
            }
        }
        self.settle(now);
    }

    fn handle_message(&mut self, now: Instant, message: Message) {
        match message {
            Message::Source(SourceEvent::Unit(unit)) => self.offer(now, &unit),
            Message::Source(SourceEvent::Ended) => self.end(now, true, "the source has ended".into()),
            Message::Source(SourceEvent::Failed(why)) => {
                self.end(now, false, format!("the source failed: {why}"));
            }
            Message::Mapped(viewer, mappings) => {
                if let Some(outlet) = self.outlets.get_mut(viewer) {
                    outlet.mapped(now, mappings, &self.cache);
                }
            }
        }
        self.settle(now);
    }

    fn handle_timeout(&mut self, now: Instant) {
        for outlet in &mut self.outlets {
            outlet.handle_timeout(now, &self.cache);
        }
        if let Some(port) = &mut self.port {
            port.handle_timeout(now);
        }
        if let Some(share) = &mut self.share {
            share.handle_timeout(now);
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
        let own = soonest(
            self.port.as_ref().and_then(RtmpPort::poll_timeout),
            self.end_at.map(|at| (at, "the end of --duration")),
        );
        let own = soonest(own, self.share.as_ref().and_then(Share::poll_timeout));
        self.outlets.iter().map(Outlet::poll_timeout).fold(own, soonest)
    }
}

#[cfg(test)]
mod tests;
