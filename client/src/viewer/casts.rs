//! The viewer's casts: which link is whose, what its stream brings, and what becomes of it.

use super::Viewer;
use super::show::{Cast, KEEP_LOST, MOVE_BYTES, MOVE_TIME, Next, Show, Stage, place_for};
use crate::meeting::{self, Link};
use crate::notice::{Notice, Stats};
use crate::page::Phase;
use crate::stats::Stamps;
use crate::unread::Unread;
use punchcast::app::ConnId;
use punchcast::link::{Bye, EndReason};
use punchcast::media::pace::MAX_UNITS;
use punchcast::media::{Unit, metadata, told};
use punchcast::rtmp::{self, Lateness, ServerEvent, ServerSession};
use std::time::Instant;

impl Viewer {
    /// The show of a place.
    pub(super) fn show_at(&mut self, place: usize) -> Option<&mut Show> {
        self.shows.iter_mut().find(|show| show.place == place)
    }

    /// The place of the cast on a link.
    pub(super) fn place_of(&mut self, conn: ConnId) -> Option<usize> {
        self.shows.iter_mut().find_map(|show| show.cast_on(conn).is_some().then_some(show.place))
    }

    /// The cast of a link, shown or about to be.
    pub(super) fn cast_on(&mut self, conn: ConnId) -> Option<&mut Cast> {
        self.shows.iter_mut().find_map(|show| show.cast_on(conn))
    }

    /// Whether any cast has a link.
    pub(super) fn is_live(&self) -> bool {
        self.shows.iter().any(|show| show.cast().is_some())
    }

    pub(super) fn linked(&mut self, now: Instant, link: Link) {
        let began = self.met.as_ref().map_or(now, |met| met.at);
        if self.give_place(now, link, began).is_some() {
            self.met = None;
        }
    }

    /// Gives a link its place; `None` if all are taken, or the cast is over a better one already, and it was ended.
    pub(super) fn give_place(&mut self, now: Instant, link: Link, began: Instant) -> Option<usize> {
        let Some(place) = place_for(&self.shows, self.casts, now, &link) else {
            self.end_link(now, link.conn, Bye::Busy);
            self.notice(Notice::Busy { remote: link.remote.addr() });
            return None;
        };
        let current = self.show_at(place).and_then(|show| show.cast().map(|cast| (cast.link, cast.since)));
        // The caster nominated the relayed link first; through the daemon, that took longer. One that formed later has taken
        // the place of a direct link that broke, and whose end has not come here.
        if current.is_some_and(|(direct, since)| direct.succeeds(&link) && link.formed < since) {
            self.end_link(now, link.conn, Bye::Moved);
            return None;
        }
        let moves = current.is_some_and(|(current, _)| link.succeeds(&current));
        self.story.begin();
        self.seed = self.seed.wrapping_add(1);
        let cast = Cast {
            link,
            session: ServerSession::new(self.seed),
            stream: None,
            since: now,
            heard: now,
            seen_first: moves,
            began,
            unread: Unread::default(),
            stamps: Stamps::default(),
            late: Lateness::new(),
        };
        self.report.link = Some((link.rung, now - began));
        self.seat(now, place, cast, moves);
        self.show_status(now);
        self.cast_notice(place, Notice::Link { link, elapsed: now - began, moves });
        Some(place)
    }

    /// Gives a cast its place; whatever it takes the place of is told so.
    fn seat(&mut self, now: Instant, place: usize, cast: Cast, moves: bool) {
        let Some(show) = self.show_at(place) else {
            self.shows.push(Show::new(now, place, cast));
            self.shows.sort_by_key(|show| show.place);
            return;
        };
        let given_up = show.next().and_then(Option::take).map(|next| next.cast.link.conn);
        let (mut over, mut frames) = (None, 0);
        match &mut show.stage {
            Stage::Live(_, next) if moves => *next = Some(Box::new(Next::new(cast))),
            Stage::Live(..) | Stage::Over { .. } => {
                let shown = show.meter.total_frames();
                if let Some(old) = show.begin(now, cast) {
                    // Its end was not noticed, so this is where its pictures are added up.
                    (over, frames) = (Some(old.link.conn), shown);
                }
            }
        }
        self.frames += frames;
        for conn in given_up.into_iter().chain(over) {
            self.end_link(now, conn, Bye::NotChosen);
        }
    }

    pub(super) fn lost(&mut self, now: Instant, conn: ConnId, loss: meeting::Loss) {
        let finished = matches!(loss, meeting::Loss::Ended(EndReason::Bye(Bye::Finished)));
        self.link_over(now, conn, finished, &loss.to_string());
    }

    /// A link that cannot be gone on with.
    fn broken(&mut self, now: Instant, conn: ConnId, why: &str) {
        self.meeting.end(now, conn, Bye::Leaving);
        self.link_over(now, conn, false, why);
    }

    pub(super) fn link_over(&mut self, now: Instant, conn: ConnId, finished: bool, why: &str) {
        let Some(place) = self.place_of(conn) else { return };
        let Some(show) = self.show_at(place) else { return };
        if show.moves_to(conn) {
            if let Some(next) = show.next() {
                *next = None;
            }
        } else if show.moves() {
            self.move_over(now, place, false);
        } else {
            self.cast_over(now, place, finished, why);
        }
    }

    /// The cast goes on over the new link. Where the old one has not `ended` its stream, what comes next may be a repetition, as
    /// the caster may know that it broke: it is no continuation.
    fn move_over(&mut self, now: Instant, place: usize, ended: bool) {
        let Some((old, units)) = self.show_at(place).and_then(|show| show.move_over(now)) else { return };
        // No harm if it is gone.
        self.meeting.end(now, old.link.conn, Bye::Moved);
        let publishes = |show: &mut Show| show.cast().is_some_and(|cast| cast.stream.is_some());
        if !ended && self.show_at(place).is_some_and(publishes) {
            self.stream_started(now, place);
        }
        for unit in units {
            self.unit(now, place, unit);
        }
        self.show_status(now);
    }

    pub(super) fn stream(&mut self, now: Instant, conn: ConnId, bytes: &[u8]) {
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
                    self.meeting.send(now, conn, bytes);
                }
                Some(rtmp::Output::Event(event)) => self.session_event(now, conn, event),
                None => break,
            }
        }
        self.meeting.flush(now, conn);
        if let Err(error) = result {
            self.broken(now, conn, &format!("the caster's RTMP is broken: {error}"));
        }
    }

    fn session_event(&mut self, now: Instant, conn: ConnId, event: ServerEvent) {
        let Some(place) = self.place_of(conn) else { return };
        let Some(show) = self.show_at(place) else { return };
        let (to_move, moves) = (show.moves_to(conn), show.moves());
        let Some(cast) = show.cast_on(conn) else { return };
        match event {
            ServerEvent::Publish { stream, .. } => {
                cast.session.accept(stream);
                cast.stream = Some(stream);
                if !to_move {
                    self.stream_started(now, place);
                }
            }
            ServerEvent::Play { stream, .. } => cast.session.refuse(stream, rtmp::Refusal::UnknownKey),
            ServerEvent::Media(unit) if to_move => self.keep(now, place, unit),
            ServerEvent::Media(unit) => self.unit(now, place, unit),
            ServerEvent::PublishEnded(_) => {
                cast.stream = None;
                if !to_move && moves {
                    self.move_over(now, place, true);
                }
            }
            ServerEvent::PlayEnded(_) => {}
        }
    }

    pub(super) fn stream_started(&mut self, now: Instant, place: usize) {
        if let Some(page) = &mut self.page {
            page.stream_started(now, place);
        }
        if let Some(port) = &mut self.port {
            port.next_stream(place);
        }
        self.cast_notice(place, Notice::StreamStarted);
    }

    /// Keeps a unit of the new link until the old one has given all.
    fn keep(&mut self, now: Instant, place: usize, unit: Unit) {
        let Some(Some(next)) = self.show_at(place).and_then(Show::next) else { return };
        next.since.get_or_insert(now);
        next.bytes += unit.payload.len();
        next.units.push_back(unit);
        if next.bytes > MOVE_BYTES || next.units.len() > MAX_UNITS {
            self.move_over(now, place, false);
        }
    }

    pub(super) fn unit(&mut self, now: Instant, place: usize, unit: Unit) {
        let unit = told::as_it_was(metadata::of_stream(unit));
        let Some(show) = self.show_at(place) else { return };
        show.meter.count(&unit);
        if unit.is_picture() {
            show.cadence.picture(now);
        }
        let mut first = None;
        if let Stage::Live(cast, _) = &mut show.stage {
            if unit.is_picture()
                && let Some(made) = cast.stamps.take(unit.timestamp)
            {
                show.meter.age(now.saturating_duration_since(made));
            }
            if !cast.seen_first && unit.is_keyframe() {
                cast.seen_first = true;
                first = Some(now - cast.began);
            }
        }
        if let Some(elapsed) = first {
            self.cast_notice(place, Notice::FirstFrame { elapsed });
        }
        if let Some(page) = &mut self.page {
            page.publish(now, place, &unit);
        }
        if let Some(port) = &mut self.port {
            port.publish(now, place, &unit);
        }
        // Who watches comes before what the program does with the unit.
        self.settle_doors(now);
        self.cast_notice(place, Notice::Unit(unit));
    }

    fn cast_over(&mut self, now: Instant, place: usize, finished: bool, why: &str) {
        self.tell_stats(now, place);
        let Some(show) = self.show_at(place) else { return };
        if show.take(now, finished).is_none() {
            return;
        }
        let frames = show.meter.total_frames();
        show.status.phase = if finished { Phase::Ended } else { Phase::Lost };
        show.status.message = if finished {
            "The ticket is still good.".into()
        } else {
            format!("{why}; waiting for the caster to come back")
        };
        (show.status.bits, show.status.rtt_ms) = (0, None);
        let phase = show.status.phase;
        // The page has a headline for what happened.
        let message = if finished { String::new() } else { why.to_owned() };
        self.frames += frames;
        if let Some(page) = &mut self.page {
            page.stream_ended(now, place);
        }
        // Players stay through a lost link: the caster may come back.
        if finished && let Some(port) = &mut self.port {
            port.end_stream(place);
        }
        if !self.is_live() {
            (self.status.phase, self.status.message) = (phase, message);
        }
        self.show_status(now);
        let notice = if finished { Notice::CastEnded } else { Notice::Lost { why: why.to_owned() } };
        self.cast_notice(place, notice);
        // A lost cast is not over yet: its caster seeks the link anew.
        if self.once && finished {
            self.leave(now, true, "the cast is over".into());
        }
    }

    /// Tells what passed in the last second, where that is due, and forgets casts that did not come back.
    pub(super) fn tick_shows(&mut self, now: Instant) {
        let due = |show: &&Show| show.poll_timeout().is_some_and(|(at, _)| at <= now);
        let due: Vec<usize> = self.shows.iter().filter(due).map(|show| show.place).collect();
        for &place in &due {
            self.tick_show(now, place);
        }
        if !due.is_empty() {
            self.show_status(now);
        }
    }

    fn tick_show(&mut self, now: Instant, place: usize) {
        let Some(show) = self.show_at(place) else { return };
        match &show.stage {
            Stage::Over { .. } => {
                self.shows.retain(|show| show.place != place);
                if let Some(page) = &mut self.page {
                    page.cast_gone(now, place);
                }
                // Players that are there wait for who comes next; those that come wait with them.
                if let Some(port) = &mut self.port {
                    port.next_stream(place);
                }
                // While another cast goes on, its end decides.
                if self.once && !self.is_live() {
                    let seconds = KEEP_LOST.as_secs();
                    let reason = format!("the link was lost, and the caster was not back within {seconds} s");
                    self.leave(now, false, reason);
                }
            }
            Stage::Live(_, next) => {
                let since = next.as_ref().and_then(|next| next.since);
                if since.is_some_and(|since| since + MOVE_TIME <= now) {
                    self.move_over(now, place, false);
                }
                if self.show_at(place).is_some_and(|show| show.meter.is_due(now)) {
                    self.tell_stats(now, place);
                }
            }
        }
    }

    fn tell_stats(&mut self, now: Instant, place: usize) {
        let Some(show) = self.show_at(place) else { return };
        let Some((rung, rtt)) = show.cast().map(|cast| (cast.link.rung, cast.link.rtt)) else { return };
        let counts = show.meter.take(now);
        let millis = |time: std::time::Duration| time.as_secs_f64() * 1000.0;
        let status = &mut show.status;
        status.frames = counts.total_frames;
        status.bits = (counts.bytes * 8 * 1000).checked_div(counts.period_ms).unwrap_or(0);
        status.rtt_ms = rtt.map(millis);
        (status.age_ms_p50, status.age_ms_p99) = (counts.age_p50.map(millis), counts.age_p99.map(millis));
        self.cast_notice(place, Notice::Stats(Stats { counts, rung, rtt, dropped: 0 }));
    }

    /// Shows the page how everything stands.
    pub(super) fn show_status(&mut self, now: Instant) {
        if self.is_live() {
            self.status.phase = Phase::Live;
        }
        self.status.steps = self.story.steps();
        self.status.casts = self.shows.iter().map(|show| show.status.clone()).collect();
        if let Some(page) = &mut self.page {
            page.status(now, self.status.clone());
        }
    }

    /// A notice about one cast; which one is said of all but the first.
    pub(super) fn cast_notice(&mut self, place: usize, notice: Notice) {
        self.notice(notice.in_cast(place));
    }
}
