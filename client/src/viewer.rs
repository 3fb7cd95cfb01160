//! The viewer's application: shows a ticket, receives the casts of those who have it, hands their units to the sinks.
//!
//! ```text
//!  hole port, page and RTMP port bound ─▶ Ready{ticket} ─▶ … Linked ─▶ publish ─▶ Unit, Unit, … ─▶ Lost | Ended
//!                                                            ▲                                        │
//!                                                            └────────────────────────────────────────┘
//! ```
//!
//! Each cast has a *place* of its own, counted from 0: a tile of the page, a stream of the RTMP port, a file. What is
//! told of a place but the first says which ([`Notice::OfCast`]). A caster that comes back gets its old place.
//!
//! The page and the RTMP port are rooms of this application; files and the snapshot belong to the program around it,
//! which gets every unit as a [`Notice`].

mod casts;
mod code;
mod doors;
mod plain;
mod show;
mod story;

use crate::dial::{Dial, DialConfig};
use crate::meeting::{self, Meeting, Rooms};
use crate::notice::{Notice, Report};
use crate::page::{Page, PageConfig, PageEvent, PageOutput, Phase, Status};
use crate::reachable::reachable;
use crate::rehearsal::Rehearsal;
use crate::rtmp_port::{self, RtmpPort, RtmpPortConfig, RtmpPortOutput};
use code::Spoken;
use doors::Doors;
use plain::Plain;
use punchcast::app::{App, ConnId, Input, NetOp, Output, Room, Space, soonest};
use punchcast::cadence::Window;
use punchcast::id::ClientId;
use punchcast::link::Bye;
use punchcast::portmap::Mapping;
use punchcast::punch::schedule::ATTEMPT_TIME;
use punchcast::rendezvous::agent;
use punchcast::ticket::{self, ViewerIdentity};
use show::Show;
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;
use story::Story;

const PAGE: Room = Room(3);
const RTMP: Room = Room(4);

/// Casts at once: a grid of three by three, about as many as can be looked at, and as browsers decode at once.
pub const MOST_CASTS: usize = 9;

/// What a viewer is made with.
pub struct Config {
    /// The key, the secret and the proof behind the ticket.
    pub identity: ViewerIdentity,
    /// The daemon as the ticket names it.
    pub server: Option<ticket::Server>,
    /// The meeting; its secrets are those of `identity`.
    pub meeting: meeting::Config,
    /// The hole port; 0 takes a free one.
    pub hole_port: u16,
    /// Takes plain RTMP publishers at the hole port who tell this key.
    pub plain_key: Option<String>,
    /// Plays from a server that is dialled.
    pub dial: Option<DialConfig>,
    /// Where to serve the page; the ticket is filled in here.
    pub page: Option<PageConfig>,
    /// Where to serve players.
    pub rtmp: Option<SocketAddr>,
    /// Casts at once, 1 to [`MOST_CASTS`]; further casters are told that all places are taken.
    pub casts: usize,
    /// Exit after the first cast.
    pub once: bool,
    /// Varies what need not be secret.
    pub seed: u64,
}

/// A caster that was introduced and has no link yet.
struct Met {
    caster: ClientId,
    at: Instant,
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
    plain: Plain,
    doors: Doors,
    spoken: Spoken,
    /// The casts, by place.
    shows: Vec<Show>,
    /// How many there may be.
    casts: usize,
    /// The caster that is being met.
    met: Option<Met>,
    story: Story,
    rehearsal: Rehearsal,
    own_ips: Vec<IpAddr>,
    once: bool,
    seed: u64,
    /// Pictures of casts that are over.
    frames: u64,
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
                let port = RtmpPortConfig {
                    seed: config.seed,
                    streams: config.casts.clamp(1, MOST_CASTS),
                    ..RtmpPortConfig::new(rtmp_port::Mode::Players)
                };
                RtmpPort::new(RTMP, addr, port)
            }),
            plain: Plain::new(
                config.plain_key,
                config.dial.map(|dial| Dial::new(now, plain::DIAL, dial)),
                config.seed,
            ),
            doors: Doors::default(),
            spoken: Spoken::default(),
            shows: Vec::new(),
            casts: config.casts.clamp(1, MOST_CASTS),
            met: None,
            story: Story::default(),
            rehearsal: Rehearsal::default(),
            frames: 0,
            once: config.once,
            seed: config.seed,
            report: Report::default(),
            status: Status { message: "waiting for a caster".into(), ..Status::default() },
            outputs: VecDeque::new(),
        };
        if viewer.plain.takes_publishers() {
            viewer.meeting.take_plain();
        }
        viewer.meeting.start(now, config.hole_port);
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
            } else if self.settle_doors(now) {
            } else if let live = self.is_live()
                && let Some(output) = self.plain.poll_output(now, live)
            {
                self.plain_output(now, output);
            } else {
                return;
            }
        }
    }

    /// Carries what page and players' port have to say; whether that was anything.
    fn settle_doors(&mut self, now: Instant) -> bool {
        let mut spoke = false;
        loop {
            if let Some(output) = self.page.as_mut().and_then(Page::poll_output) {
                match output {
                    PageOutput::Net(op) => self.net(op),
                    PageOutput::Event(event) => self.page_event(now, event),
                }
            } else if let Some(output) = self.port.as_mut().and_then(RtmpPort::poll_output) {
                match output {
                    RtmpPortOutput::Net(op) => self.net(op),
                    RtmpPortOutput::Event(event) => self.port_event(now, event),
                }
            } else {
                return spoke;
            }
            spoke = true;
        }
    }

    fn meeting_event(&mut self, now: Instant, event: meeting::Event) {
        match event {
            meeting::Event::Opened(addresses) => self.opened(now, addresses),
            meeting::Event::Failed(addr, error) => {
                self.cannot_listen("--port, or none for any free one", addr, &error.to_string());
            }
            meeting::Event::Rendezvous(event) => self.rendezvous_event(now, event),
            meeting::Event::Trying { rung, local, remote } => {
                self.story.trying(rung, remote.addr());
                self.show_status(now);
                self.notice(Notice::Attempt { rung, local: Some(local), remote: remote.addr() });
            }
            meeting::Event::Linked(link) => self.linked(now, link),
            meeting::Event::Plain { conn, local, remote, bytes } => {
                self.plain_came(now, conn, (local, remote), &bytes);
            }
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
            meeting::Event::KeyframeWanted(_) | meeting::Event::Room(_) => {}
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
                self.story.seeking_relay(obstacle);
                self.show_status(now);
                self.notice(Notice::SeekingRelay(obstacle));
            }
            meeting::Event::NoRelay(why) => {
                self.story.no_relay(&why);
                self.show_status(now);
                self.notice(Notice::NoRelay { why });
            }
            meeting::Event::NoLink(findings, obstacle) => {
                let obstacle = obstacle.map_or_else(String::new, |obstacle| format!("{obstacle} "));
                self.notice(Notice::NoLink { why: format!("{obstacle}({findings})") });
            }
        }
    }

    fn opened(&mut self, now: Instant, addresses: Vec<punchcast::endpoint::Endpoint>) {
        if let Some(port) = addresses.first().map(|endpoint| endpoint.port()) {
            self.notice(Notice::HoleOpen { port });
        }
        self.doors.rtmp_url = addresses.first().and_then(|endpoint| self.plain.url(endpoint.addr()));
        let ticket = self.identity.ticket(self.server.clone(), addresses);
        if let Some(mut config) = self.page_config.take() {
            config.ticket_link = ticket.to_string();
            self.page = Some(Page::new(PAGE, config));
        }
        self.meeting.offer_code(now, ticket.to_string());
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
        let players = self.doors.rtmp.map(|local| reachable(local, &self.own_ips));
        let rtmp = players.map(|addr| format!("rtmp://{addr}/punchcast/{}", rtmp_port::FIRST_STREAM));
        let rtmp_url = self.doors.rtmp_url.clone();
        let notice = Notice::Ready { ticket: Some(ticket.to_string()), page, rtmp, rtmp_url };
        self.notice(notice);
        self.tell_code();
    }

    fn cannot_listen(&mut self, how: &str, addr: SocketAddr, why: &str) {
        self.notice(Notice::End {
            ok: false,
            reason: format!("cannot listen on {addr}: {why}; choose another with {how}"),
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
            self.met = Some(Met { caster: peer.client, at: now });
            if !self.is_live() {
                self.status.phase = Phase::Connecting;
                self.status.message = "a caster was introduced; making the link".into();
            }
            self.notice(Notice::Peer { id: peer.client });
        }
        self.code_event(now, &event);
        if self.story.rendezvous(&event) {
            self.show_status(now);
        }
        self.notice(Notice::Rendezvous(event));
    }

    /// The caster that was introduced left, or its time is over. A link that comes later is another story.
    fn came_to_nothing(&mut self, now: Instant) {
        self.met = None;
        self.story.begin();
        if !self.is_live() {
            self.status.phase = Phase::Waiting;
            self.status.message =
                "the caster that was introduced did not get through; waiting for a caster".into();
        }
        self.show_status(now);
    }

    fn leave(&mut self, now: Instant, ok: bool, reason: String) {
        self.meeting.leave(now, Bye::Leaving);
        self.plain.leave(now);
        self.settle(now);
        if self.once {
            let live = self.shows.iter().filter(|show| show.cast().is_some());
            let frames = self.frames + live.map(|show| show.meter.total_frames()).sum::<u64>();
            self.notice(Notice::Report(Report { frames, ..self.report }));
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
            PageEvent::ListenFailed { addr, error } => {
                self.cannot_listen("--page, or port 0 for any free one", addr, &error.to_string());
            }
            PageEvent::KeyframeWanted { cast } => {
                self.want_keyframe(now, cast);
            }
        }
    }

    /// Asks the caster of the cast at `place` for a keyframe, for somebody who has the cast from its notices.
    pub fn ask_for_keyframe(&mut self, now: Instant, place: usize) {
        self.want_keyframe(now, place);
        self.settle(now);
    }

    /// Asks a place's caster for a keyframe, which one that makes its pictures itself answers with what players need.
    fn want_keyframe(&mut self, now: Instant, place: usize) {
        let conn = self.show_at(place).and_then(|show| show.cast().map(|cast| cast.link.conn));
        if let Some(conn) = conn {
            self.meeting.want_keyframe(now, conn);
        }
    }

    fn port_event(&mut self, now: Instant, event: rtmp_port::Event) {
        match event {
            rtmp_port::Event::Listening(local) => {
                self.doors.rtmp = Some(local);
                self.tell_ready();
            }
            rtmp_port::Event::ListenFailed { addr, error } => {
                self.cannot_listen("--rtmp, or port 0 for any free one", addr, &error.to_string());
            }
            rtmp_port::Event::PlayerJoined { remote, place } => {
                self.want_keyframe(now, place);
                self.cast_notice(place, Notice::Player { remote, joined: true });
            }
            rtmp_port::Event::KeyframeWanted { place } => self.want_keyframe(now, place),
            rtmp_port::Event::PlayerLeft { remote, place, .. } => {
                self.cast_notice(place, Notice::Player { remote, joined: false });
            }
            // Its own port has no key.
            rtmp_port::Event::WrongKey(_)
            | rtmp_port::Event::Occupied(_)
            | rtmp_port::Event::PublisherJoined { .. }
            | rtmp_port::Event::PublisherLeft { .. }
            | rtmp_port::Event::Media(_) => {}
        }
    }

    fn net(&mut self, op: NetOp) {
        self.report.count(&op, |room| Rooms::is_hole(room) || room == plain::DIAL);
        self.outputs.push_back(Output::Net(op));
    }

    fn notice(&mut self, notice: Notice) {
        self.outputs.push_back(Output::Notice(notice));
    }
}

/// So many casts are waited for awake at most: a program that shows more of them seldom sleeps for long, and each would cost as
/// much as the first.
const MOST_AWAITED: usize = 2;

impl App for Viewer {
    /// What routers forward to the hole port: all of it, whenever it changes.
    type Message = Vec<Mapping>;
    type Notice = Notice;

    fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        match input.room() {
            _ if self.plain.owns(&input) => self.plain.handle_input(now, input),
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
        self.plain.handle_timeout(now);
        if self.met.as_ref().is_some_and(|met| met.at + ATTEMPT_TIME <= now) {
            self.came_to_nothing(now);
        }
        self.tick_shows(now);
        self.settle(now);
    }

    fn poll_output(&mut self) -> Option<Output<Notice>> {
        self.outputs.pop_front()
    }

    fn space(&mut self, conn: ConnId) -> Option<Space<'_>> {
        self.plain.space(conn)
    }

    fn handle_placed(&mut self, now: Instant, conn: ConnId, count: usize) {
        self.plain.handle_placed(now, conn, count);
        self.settle(now);
    }

    fn poll_expected(&self, now: Instant) -> Option<Window> {
        let windows = || self.shows.iter().filter_map(|show| show.cadence.window(now));
        if windows().count() > MOST_AWAITED { None } else { windows().map(Some).fold(None, Window::first) }
    }

    fn rehearse(&mut self, now: Instant) {
        self.rehearsal.run(now);
        self.handle_timeout(now);
    }

    fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let own = [
            self.meeting.poll_timeout(),
            self.met.as_ref().map(|met| (met.at + ATTEMPT_TIME, "an introduction that came to nothing")),
            self.page.as_ref().and_then(Page::poll_timeout),
            self.port.as_ref().and_then(RtmpPort::poll_timeout),
            self.plain.poll_timeout(),
        ];
        self.shows.iter().map(Show::poll_timeout).chain(own).fold(None, soonest)
    }
}

#[cfg(test)]
mod tests;
