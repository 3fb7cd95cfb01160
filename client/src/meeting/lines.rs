//! The connections that formed, each with its proof: which is the link, and what ends it.

use super::naming::{facts, rung};
use super::relays::Relayed;
use super::{DIRECT_AGAIN_MAX, DIRECT_AGAIN_MIN, Event, Link, Loss, Meeting, Output, Secrets, THE_ATTEMPT};
use punchcast::app::{Closing, ConnId, NetError, NetOp};
use punchcast::id::{ClientId, SessionId};
use punchcast::link::{self, Bye, Channel, Door, EndReason, Facts};
use punchcast::policy::Rung;
use punchcast::punch::{Attempt, Open};
use punchcast::wire::message::Role;
use std::time::{Duration, Instant};

/// A connection with its proof.
pub(super) struct Line {
    pub(super) channel: Channel,
    pub(super) open: Open,
    /// It leads through the daemon.
    pub(super) relayed: Option<Relayed>,
    /// What we know of how it formed.
    pub(super) ours: Facts,
    /// What the other end told of the connection; nothing before the proof.
    pub(super) theirs: Facts,
    pub(super) stage: Stage,
    /// Anything came on it.
    pub(super) heard: bool,
    /// The introduction that it came of, as the caster says (of a direct link only).
    pub(super) session: Option<SessionId>,
    pub(super) since: Instant,
    pub(super) rtt: Option<Duration>,
}

/// In this order they give way to a newcomer at the door. All but the link take a place there: who has the ticket could prove
/// any number of connections and choose none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// Not proven.
    AtDoor,
    /// Proven, not chosen.
    Spare,
    /// The link; a direct and a relayed one for as long as the cast moves.
    Linked,
}

impl Line {
    /// Counts bytes that pass, where a relay counts them, too.
    pub(super) const fn count(&mut self, bytes: usize) {
        if let Some(relayed) = &mut self.relayed {
            relayed.count(bytes);
        }
    }

    /// Gives back the place at the door, if it has one. A relayed one took none: there are as many as introductions.
    pub(super) fn leave(&self, door: &mut Door) {
        if self.relayed.is_none() && self.stage != Stage::Linked {
            door.leave(self.open.remote.ip());
        }
    }
}

impl Meeting {
    /// Whether a link takes more without a picture waiting on its line; if not, [`Event::Room`] tells when.
    pub fn has_room(&mut self, conn: ConnId) -> bool {
        self.lines.get_mut(&conn).is_none_or(|line| line.channel.has_room())
    }

    /// Bytes a second that a link's line carried when it was full last; `None` while it never was.
    #[must_use]
    pub fn rate(&self, conn: ConnId) -> Option<u64> {
        self.lines.get(&conn).and_then(|line| line.channel.rate())
    }

    /// Bytes of the stream that a link's viewer has told of.
    #[must_use]
    pub fn arrived(&self, conn: ConnId) -> u64 {
        self.lines.get(&conn).map_or(0, |line| line.channel.arrived())
    }

    /// Whether a link's line is left alone until what is on its way has arrived, as that was too much for it.
    #[must_use]
    pub fn is_draining(&self, conn: ConnId) -> bool {
        self.lines.get(&conn).is_some_and(|line| line.channel.is_draining())
    }

    /// Bytes a second that a link's line carries of what was too much for it, once that takes long.
    #[must_use]
    pub fn sudden_rate(&self, conn: ConnId) -> Option<u64> {
        self.lines.get(&conn).and_then(|line| line.channel.sudden_rate())
    }

    /// Tells the viewer when the picture that is sent next was made (a caster only).
    pub fn stamp(&mut self, conn: ConnId, timestamp: u32, made: Instant) {
        if let Some(line) = self.lines.get_mut(&conn) {
            // It leaves with what is sent next; a channel that has ended in the meantime tells so by its own event.
            let _ = line.channel.stamp(timestamp, made);
        }
    }

    /// Asks the caster for a keyframe (a viewer only).
    pub fn want_keyframe(&mut self, now: Instant, conn: ConnId) {
        if let Some(line) = self.lines.get_mut(&conn) {
            let _ = line.channel.want_keyframe();
        }
        self.drain_channel(now, conn);
        self.settle(now);
    }

    pub(super) fn heard(&mut self, now: Instant, conn: ConnId, bytes: &[u8]) {
        if let Some(line) = self.lines.get_mut(&conn) {
            line.count(bytes.len());
            line.heard = true;
            // The error comes again as `Ended`.
            let _ = line.channel.handle_input(now, bytes);
            self.drain_channel(now, conn);
        }
    }

    pub(super) fn links(&self) -> impl Iterator<Item = &Line> {
        self.lines.values().filter(|line| line.stage == Stage::Linked)
    }

    pub(super) fn has_direct_link(&self) -> bool {
        self.links().any(|line| line.relayed.is_none())
    }

    /// Whether a link leads to that peer already, so that none has to be relayed. A caster has one peer.
    pub(super) fn has_link_with(&self, client: ClientId) -> bool {
        let caster = self.role() == Role::Caster;
        self.links().any(|line| caster || line.relayed.is_some_and(|relayed| relayed.client == client))
    }

    /// Begins the proof on a connection.
    pub(super) fn prove(&mut self, now: Instant, open: Open, relayed: Option<Relayed>) {
        let ours = facts(&open, self.is_mapped(open.remote), self.run);
        let channel = match &self.secrets {
            Secrets::Caster(secrets) => Channel::caster(now, secrets, ours),
            Secrets::Viewer(secrets) => Channel::viewer(now, secrets, ours),
        };
        let (theirs, stage) = (Facts::default(), Stage::AtDoor);
        let line = Line {
            channel,
            open,
            relayed,
            ours,
            theirs,
            stage,
            heard: false,
            session: None,
            since: now,
            rtt: None,
        };
        self.lines.insert(open.conn, line);
        self.drain_channel(now, open.conn);
    }

    pub(super) fn drain_channel(&mut self, now: Instant, conn: ConnId) {
        while let Some(line) = self.lines.get_mut(&conn)
            && let Some(output) = line.channel.poll_output()
        {
            match output {
                link::Output::Transmit(bytes) => {
                    line.count(bytes.len());
                    self.net(NetOp::Send { conn, bytes: bytes.into() });
                }
                link::Output::Event(event) => self.channel_event(now, conn, event),
            }
        }
        let proven = self.lines.get(&conn).is_some_and(|line| line.stage == Stage::Spare);
        if proven && self.role() == Role::Caster {
            self.elect(now, conn);
        }
    }

    fn channel_event(&mut self, now: Instant, conn: ConnId, event: link::Event) {
        let Some(line) = self.lines.get_mut(&conn) else { return };
        match event {
            link::Event::Established(theirs) => {
                line.stage = Stage::Spare;
                line.theirs = theirs;
            }
            link::Event::Nominated => self.linked(now, conn),
            link::Event::Stream(bytes) => self.event(Event::Stream(conn, bytes)),
            link::Event::Room => self.event(Event::Room(conn)),
            link::Event::Session(session) => self.came_of(conn, session),
            link::Event::KeyframeWanted => self.event(Event::KeyframeWanted(conn)),
            link::Event::Stamp { timestamp, made } => self.event(Event::Stamp(conn, timestamp, made)),
            link::Event::Rtt(rtt) => {
                line.rtt = Some(rtt);
                if line.stage == Stage::Linked {
                    self.event(Event::Rtt(conn, rtt));
                }
            }
            link::Event::Ended(reason) => {
                let was_linked = line.stage == Stage::Linked;
                let broke = !was_linked && matches!(reason, EndReason::Late | EndReason::Silent);
                let relayed = line.relayed.filter(|_| broke);
                if was_linked {
                    if reason == EndReason::Silent && self.links().count() == 1 {
                        self.renew_login(now);
                    }
                    self.event(Event::Lost(conn, Loss::Ended(reason)));
                } else {
                    log::debug!("conn={conn} ended before it was chosen: {reason}");
                }
                // A silent peer takes no FIN, and an orphan that waits for it would hold the 4-tuple which the next try
                // needs.
                let gone = matches!(reason, EndReason::Failed(_) | EndReason::Late | EndReason::Silent);
                self.close(now, conn, if gone { Closing::Abort } else { Closing::Flush });
                if was_linked {
                    self.fell_back(now);
                }
                if let Some(relayed) = relayed {
                    self.relay_broke(now, &relayed);
                }
            }
        }
    }

    /// The first connection that proves itself is the link: what is there beats what may come. Only a direct one after
    /// a relayed one is a second link.
    fn elect(&mut self, now: Instant, conn: ConnId) {
        let Some(line) = self.lines.get_mut(&conn) else { return };
        let relayed = line.relayed.is_some();
        if self.has_direct_link() || relayed && self.links().next().is_some() {
            self.end_spare(now, conn);
            return;
        }
        if let Some(line) = self.lines.get_mut(&conn)
            && line.channel.nominate().is_ok()
        {
            // Who hears of a link acts on it, and takes its time for that; the viewer gives places in the order of
            // nominations.
            self.send_words(conn);
            self.linked(now, conn);
            self.name_session(now);
            self.drain_channel(now, conn);
            // Beside a relayed link, what is still proving itself may be the direct one.
            let needless = |(other, line): &(&ConnId, &Line)| {
                **other != conn && line.stage != Stage::Linked && (!relayed || line.relayed.is_some())
            };
            let others: Vec<ConnId> = self.lines.iter().filter(needless).map(|(other, _)| *other).collect();
            for other in others {
                self.end_spare(now, other);
            }
        }
    }

    fn end_spare(&mut self, now: Instant, conn: ConnId) {
        // FIN, never RST: an RST would close the mapping in a NAT that another link goes through.
        self.say_goodbye(now, conn, Bye::NotChosen);
    }

    /// The last words of a channel, and nothing of what it may still hold for us.
    pub(super) fn say_goodbye(&mut self, now: Instant, conn: ConnId, bye: Bye) {
        let Some(line) = self.lines.get_mut(&conn) else { return };
        line.channel.end(bye);
        self.send_words(conn);
        self.close(now, conn, Closing::Flush);
    }

    /// Sends what a channel has to say, and passes over what it may hold for us.
    fn send_words(&mut self, conn: ConnId) {
        let Some(line) = self.lines.get_mut(&conn) else { return };
        while let Some(output) = line.channel.poll_output() {
            if let link::Output::Transmit(bytes) = output {
                line.count(bytes.len());
                self.outputs.push_back(Output::Net(NetOp::Send { conn, bytes: bytes.into() }));
            }
        }
    }

    fn linked(&mut self, now: Instant, conn: ConnId) {
        let Some(line) = self.lines.get_mut(&conn) else { return };
        line.leave(&mut self.door);
        line.stage = Stage::Linked;
        let (open, ours, theirs, rtt) = (line.open, line.ours, line.theirs, line.rtt);
        let (relayed, formed) = (line.relayed, line.since);
        match (self.role(), &relayed) {
            // The direct ways are tried on.
            (Role::Caster, Some(_)) => {
                self.direct_again.0 = None;
                // A direct link that broke at once is not to be tried again and again.
                if self.direct_since.is_none_or(|since| since + DIRECT_AGAIN_MAX <= now) {
                    self.direct_again.1 = DIRECT_AGAIN_MIN;
                }
                if !self.hole.is_trying(THE_ATTEMPT) {
                    self.try_direct_again(now);
                }
            }
            // Which introduction a direct one came of is for the caster to say.
            (Role::Viewer, _) => {}
            (Role::Caster, None) => {
                self.direct_again.0 = None;
                self.direct_since = Some(now);
                self.hole.stop(THE_ATTEMPT);
                self.relays.cancel_all();
            }
        }
        let rung = match relayed {
            Some(_) => Rung::Relayed,
            None => rung(self.role(), ours, theirs),
        };
        let obstacle = relayed.map(|relayed| relayed.obstacle);
        let link = Link {
            conn,
            rung,
            local: open.local,
            remote: open.remote,
            rtt,
            run: theirs.run,
            obstacle,
            secure: true,
            formed,
        };
        log::info!("conn={conn} linked rung={}", link.rung);
        // What the channel holds already comes after this: the stream may have arrived with the nomination.
        self.event(Event::Linked(link));
    }

    /// Tells the viewer which introduction a direct link came of: the latest, for a caster has one viewer. That may come after
    /// the link that it was for, which needs none.
    pub(super) fn name_session(&mut self, now: Instant) {
        let Some(session) = self.sessions.back().map(|(session, _)| *session) else { return };
        let untold = |line: &Line| {
            line.stage == Stage::Linked && line.relayed.is_none() && line.session != Some(session)
        };
        let links: Vec<ConnId> =
            self.lines.iter().filter(|(_, line)| untold(line)).map(|(conn, _)| *conn).collect();
        for conn in links {
            if let Some(line) = self.lines.get_mut(&conn) {
                line.session = Some(session);
                // A channel that has ended in the meantime tells so by its own event.
                let _ = line.channel.name_session(session);
            }
            self.drain_channel(now, conn);
        }
    }

    /// The caster says which introduction a link came of: that one is over. No endpoint could tell: the daemon may not have seen
    /// the one that the link goes to, and several casters may share one.
    fn came_of(&mut self, conn: ConnId, session: SessionId) {
        let Some(line) = self.lines.get_mut(&conn).filter(|line| line.relayed.is_none()) else { return };
        line.session = Some(session);
        if let Some(client) = self.peer_of(session).map(|peer| peer.client) {
            self.relays.cancel(client);
        }
        self.hole.stop(Attempt(session.0));
        self.sessions.retain(|(known, _)| *known != session);
    }

    /// Whether a direct link came of that introduction.
    pub(super) fn is_met(&self, session: SessionId) -> bool {
        self.links().any(|line| line.session == Some(session))
    }

    /// The connection is gone without our doing.
    pub(super) fn cut(&mut self, now: Instant, conn: ConnId, error: Option<NetError>) {
        let Some(line) = self.lines.remove(&conn) else { return };
        line.leave(&mut self.door);
        match (line.stage, &line.relayed) {
            (Stage::AtDoor | Stage::Spare, Some(relayed)) => self.relay_broke(now, relayed),
            (Stage::AtDoor | Stage::Spare, None) => {}
            (Stage::Linked, _) => {
                if error.is_some() && self.links().next().is_none() {
                    self.renew_login(now);
                }
                self.fell_back(now);
                let loss = match &line.relayed {
                    None => Loss::Cut(error),
                    Some(relayed) => relayed.spent(now).map_or(Loss::RelayCut(error), Loss::RelaySpent),
                };
                self.event(Event::Lost(conn, loss));
            }
        }
    }

    /// A link is gone: a caster that is left with a relayed one seeks the direct ways again.
    fn fell_back(&mut self, now: Instant) {
        let relayed = self.links().any(|line| line.relayed.is_some());
        if self.role() == Role::Caster && relayed && !self.has_direct_link() && self.direct_again.0.is_none()
        {
            self.try_direct_again(now);
        }
    }

    /// The network broke the link, and perhaps the way to the daemon: a NAT that forgot, another address. Both sides
    /// log in anew, which also asks for the next introduction.
    fn renew_login(&mut self, now: Instant) {
        if let Some(agent) = &mut self.agent {
            agent.renew(now);
        }
    }

    pub(super) fn close(&mut self, now: Instant, conn: ConnId, how: Closing) {
        if let Some(line) = self.lines.remove(&conn) {
            line.leave(&mut self.door);
        }
        if conn.room == self.rooms.hole {
            self.hole.released(now, conn);
        }
        self.net(NetOp::Close { conn, how });
    }
}
