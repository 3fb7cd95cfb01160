//! Casts that come by plain RTMP, without a caster of ours at the other end.
//!
//! A publisher (OBS, ffmpeg, a phone's program) dials the hole port and tells the stream key, or this viewer dials a
//! server and plays. Either way the cast gets a place as any other, on a [`Link`] that is not secure: the other end has
//! proven nothing but a key which everybody on the path can read, and so can everybody read the cast.

use super::Viewer;
use crate::dial::{Dial, DialEvent, DialOutput};
use crate::meeting::{Link, is_lan};
use crate::notice::Notice;
use crate::rtmp_port::{self, RtmpPort, RtmpPortConfig, RtmpPortOutput};
use punchcast::app::{ConnId, Input, Room, Space, soonest};
use punchcast::endpoint::{Endpoint, Reach};
use punchcast::link::Bye;
use punchcast::policy::Rung;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::SocketAddr;
use std::time::Instant;

/// The dial's connections.
pub(super) const DIAL: Room = Room(5);

/// The app in the addresses that are shown. Any other is taken, too.
const APP: &str = "punchcast";

/// The ways by which plain RTMP comes.
#[derive(Default)]
pub(super) struct Plain {
    /// Publishers at the hole port, and the key that they must tell.
    guests: Option<(RtmpPort, String)>,
    /// Both ends of their connections.
    ends: BTreeMap<ConnId, (Endpoint, Endpoint)>,
    /// The publisher whose cast is on.
    publishes: Option<ConnId>,
    /// By which publishers are known again, as long as the last one's place is kept: there is one at a time.
    publisher_run: u64,
    dial: Option<Dial>,
    dialled: Option<Dialled>,
    /// The same for what is dialled.
    dial_run: u64,
    /// The addresses dialled since the last link, as many as a name is tried at, and why the last try of each came to
    /// nothing: neither is told twice.
    tried: BTreeMap<SocketAddr, Option<String>>,
}

/// A dial under way, or one that plays.
struct Dialled {
    since: Instant,
    /// Its cast's connection, once it plays.
    conn: Option<ConnId>,
}

/// What plain RTMP has for its viewer.
pub(super) enum Output {
    Guest(RtmpPortOutput),
    Dial(DialOutput),
}

impl Plain {
    pub(super) fn new(key: Option<String>, dial: Option<Dial>, seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let config = |key: &String| RtmpPortConfig {
            key: Some(key.clone()),
            seed: rng.u64(..),
            ..RtmpPortConfig::new(rtmp_port::Mode::Publishers)
        };
        let port = key.as_ref().map(config).map(RtmpPort::without_listener);
        Self {
            guests: port.zip(key),
            dial,
            publisher_run: rng.u64(..),
            dial_run: rng.u64(..),
            ..Self::default()
        }
    }

    /// The address for publishers, if they may come, to the hole port at `addr`.
    pub(super) fn url(&self, addr: SocketAddr) -> Option<String> {
        self.guests.as_ref().map(|(_, key)| format!("rtmp://{addr}/{APP}/{key}"))
    }

    pub(super) const fn takes_publishers(&self) -> bool {
        self.guests.is_some()
    }

    /// Whether an input is about one of its connections.
    pub(super) fn owns(&self, input: &Input<'_>) -> bool {
        let guests = |conn| self.guests.as_ref().is_some_and(|(port, _)| port.owns(conn));
        input.room() == Some(DIAL) || input.conn().is_some_and(guests)
    }

    /// Takes one of those.
    pub(super) fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        match (&mut self.dial, &mut self.guests) {
            (Some(dial), _) if input.room() == Some(DIAL) => dial.handle_input(now, input),
            (_, Some((port, _))) => port.handle_input(now, input),
            (_, None) => {}
        }
    }

    /// Where the next bytes of one of its connections are to be read to.
    pub(super) fn space(&mut self, conn: ConnId) -> Option<Space<'_>> {
        match (&mut self.dial, &mut self.guests) {
            (Some(dial), _) if conn.room == DIAL => dial.space(conn),
            (_, Some((port, _))) => port.space(conn),
            (_, None) => None,
        }
    }

    /// Takes bytes that were read to there.
    pub(super) fn handle_placed(&mut self, now: Instant, conn: ConnId, count: usize) {
        match (&mut self.dial, &mut self.guests) {
            (Some(dial), _) if conn.room == DIAL => dial.handle_placed(now, conn, count),
            (_, Some((port, _))) => port.handle_placed(now, conn, count),
            (_, None) => {}
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if let Some((port, _)) = &mut self.guests {
            port.handle_timeout(now);
        }
        if let Some(dial) = &mut self.dial {
            dial.handle_timeout(now);
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        soonest(
            self.guests.as_ref().and_then(|(port, _)| port.poll_timeout()),
            self.dial.as_ref().and_then(Dial::poll_timeout),
        )
    }

    /// The next output; `live` tells the dial whether a cast is on.
    pub(super) fn poll_output(&mut self, now: Instant, live: bool) -> Option<Output> {
        if let Some(output) = self.guests.as_mut().and_then(|(port, _)| port.poll_output()) {
            return Some(Output::Guest(output));
        }
        let dial = self.dial.as_mut()?;
        dial.hold(now, live);
        dial.poll_output().map(Output::Dial)
    }

    /// Ends a cast's connection if it is one of these.
    fn end(&mut self, now: Instant, conn: ConnId) -> Option<()> {
        if conn.room == DIAL {
            self.dial.as_mut()?.hang_up(now);
        } else {
            let (port, _) = self.guests.as_mut()?;
            if port.publisher() != Some(conn) {
                return None;
            }
            port.end_publisher();
        }
        Some(())
    }

    /// Ends everything for good.
    pub(super) fn leave(&mut self, now: Instant) {
        if let Some(dial) = &mut self.dial {
            dial.leave(now);
        }
        if let Some((port, _)) = &mut self.guests {
            port.end_publisher();
        }
    }
}

impl Viewer {
    /// Ends a cast's link, whatever it is made of.
    pub(super) fn end_link(&mut self, now: Instant, conn: ConnId, bye: Bye) {
        if self.plain.end(now, conn).is_none() {
            self.meeting.end(now, conn, bye);
        }
    }

    /// Somebody speaks plain RTMP to the hole port.
    pub(super) fn plain_came(
        &mut self,
        now: Instant,
        conn: ConnId,
        ends: (Endpoint, Endpoint),
        bytes: &[u8],
    ) {
        let Plain { guests: Some((port, _)), ends: known, .. } = &mut self.plain else { return };
        known.retain(|conn, _| port.owns(*conn));
        known.insert(conn, ends);
        port.adopt(now, conn, ends.1.addr(), bytes);
    }

    pub(super) fn plain_output(&mut self, now: Instant, output: Output) {
        match output {
            Output::Guest(RtmpPortOutput::Net(op)) | Output::Dial(DialOutput::Net(op)) => self.net(op),
            Output::Guest(RtmpPortOutput::Event(event)) => self.guest_event(now, event),
            Output::Dial(DialOutput::Event(event)) => self.dial_event(now, event),
        }
    }

    fn guest_event(&mut self, now: Instant, event: rtmp_port::Event) {
        match event {
            rtmp_port::Event::PublisherJoined { remote, .. } => {
                let Some(conn) = self.plain.guests.as_ref().and_then(|(port, _)| port.publisher()) else {
                    return;
                };
                let Some(&(local, from)) = self.plain.ends.get(&conn) else { return };
                self.notice(Notice::Publisher { remote, joined: true });
                self.plain.publishes = Some(conn);
                let run = self.plain_run(self.plain.publisher_run);
                self.plain.publisher_run = run;
                let link = plain_link(now, conn, publisher_rung(local, from), (local, from), run);
                self.plain_linked(now, link, now);
            }
            rtmp_port::Event::PublisherLeft { remote, finished } => {
                self.notice(Notice::Publisher { remote, joined: false });
                if let Some(conn) = self.plain.publishes.take() {
                    self.link_over(now, conn, finished, "the publisher is gone");
                }
            }
            rtmp_port::Event::WrongKey(wrong) => {
                self.notice(Notice::WrongKey { wrong, what: rtmp_port::Mode::Publishers });
            }
            rtmp_port::Event::Occupied(refused) => self.notice(Notice::Occupied(refused)),
            rtmp_port::Event::Media(unit) => {
                if let Some(conn) = self.plain.publishes {
                    self.plain_unit(now, conn, unit);
                }
            }
            rtmp_port::Event::Listening(_)
            | rtmp_port::Event::ListenFailed { .. }
            | rtmp_port::Event::PlayerJoined { .. }
            | rtmp_port::Event::KeyframeWanted { .. }
            | rtmp_port::Event::PlayerLeft { .. } => {}
        }
    }

    fn dial_event(&mut self, now: Instant, event: DialEvent) {
        match event {
            DialEvent::Trying(remote) => {
                self.plain.dialled = Some(Dialled { since: now, conn: None });
                self.story.trying(Rung::Reverse, remote);
                self.show_status(now);
                if let Entry::Vacant(untried) = self.plain.tried.entry(remote) {
                    untried.insert(None);
                    self.notice(Notice::Attempt { rung: Rung::Reverse, local: None, remote });
                }
            }
            DialEvent::Failed { remote, why, again_in } => {
                self.plain.dialled = None;
                let before = self.plain.tried.insert(remote, Some(why.clone()));
                if before.flatten().as_ref() != Some(&why) {
                    self.notice(Notice::DialFailed { remote, why, again_in });
                }
            }
            DialEvent::Playing { conn, local, remote } => {
                self.plain.tried.clear();
                let began = self.plain.dialled.as_ref().map_or(now, |dialled| dialled.since);
                self.plain.dialled = Some(Dialled { since: began, conn: Some(conn) });
                let ends = (Endpoint::new(local), Endpoint::new(remote));
                let run = self.plain_run(self.plain.dial_run);
                self.plain.dial_run = run;
                let link = plain_link(now, conn, Rung::Reverse, ends, run);
                self.plain_linked(now, link, began);
            }
            DialEvent::Rtt(rtt) => {
                let conn = self.plain.dialled.as_ref().and_then(|dialled| dialled.conn);
                if let Some(cast) = conn.and_then(|conn| self.cast_on(conn)) {
                    cast.link.rtt = Some(rtt);
                    cast.late.round_trip(rtt);
                }
            }
            DialEvent::Media(unit) => {
                if let Some(conn) = self.plain.dialled.as_ref().and_then(|dialled| dialled.conn) {
                    self.plain_unit(now, conn, unit);
                }
            }
            DialEvent::Over { finished, why } => {
                if let Some(conn) = self.plain.dialled.take().and_then(|dialled| dialled.conn) {
                    self.link_over(now, conn, finished, &why);
                }
            }
        }
    }

    /// The run for a cast that comes the way that the one of run `last` came: the same while that has its place, and after that
    /// another, for it is another cast then, with which a player that was closed is started again.
    fn plain_run(&self, last: u64) -> u64 {
        if self.shows.iter().any(|show| show.run() == last) { last } else { last.wrapping_add(1) }
    }

    fn plain_linked(&mut self, now: Instant, link: Link, began: Instant) {
        if let Some(place) = self.give_place(now, link, began) {
            self.stream_started(now, place);
        }
    }

    fn plain_unit(&mut self, now: Instant, conn: ConnId, unit: punchcast::media::Unit) {
        let Some(place) = self.place_of(conn) else { return };
        if let Some(cast) = self.cast_on(conn) {
            cast.heard = now;
            if unit.is_picture() {
                let age = cast.late.picture(now, unit.timestamp);
                cast.stamps.note(unit.timestamp, now.checked_sub(age).unwrap_or(now));
            }
        }
        self.unit(now, place, unit);
    }
}

const fn plain_link(
    formed: Instant,
    conn: ConnId,
    rung: Rung,
    (local, remote): (Endpoint, Endpoint),
    run: u64,
) -> Link {
    Link { conn, rung, local, remote, rtt: None, run, obstacle: None, secure: false, formed }
}

/// How a publisher came to the hole port, as far as the addresses tell.
fn publisher_rung(local: Endpoint, remote: Endpoint) -> Rung {
    if is_lan(local, remote) {
        Rung::Lan
    } else if local.reach() == Reach::Global {
        Rung::Public
    } else {
        // From outside to an address that is not: somebody forwards the port.
        Rung::PortMapped
    }
}

#[cfg(test)]
mod tests;
