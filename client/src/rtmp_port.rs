//! A local RTMP port: where a program of the user publishes to the caster, or plays from the viewer.
//!
//! At the caster ([`Mode::Publishers`]) one publisher at a time is let in, ffmpeg or OBS, and its units come out as
//! [`Event::Media`]. At the viewer ([`Mode::Players`]) every unit given to [`RtmpPort::publish`] goes to all players of
//! its stream; one that joins late is first given metadata, sequence headers and a keyframe that is asked for, or the group of
//! pictures under way where none comes (`crate::player`). Who has the port asks for it with [`Event::PlayerJoined`].
//! A player chooses a stream by its name: `live` or `cast-1` is the first, `cast-2` the second, as many as the port has;
//! it waits for one that has not begun, and is refused by any other name. A port with a key has one stream, and the key
//! names it.
//!
//! The core knows nothing of the link and nothing of sockets; it is one room of an application (see
//! [`punchcast::app`]) with the same verbs.
//!
//! # A slow player
//!
//! While the driver holds bytes for a player, its units wait in a [queue](punchcast::media::pace::Queue), which
//! leaves video out to the next keyframe once it has waited too long. So a player that cannot keep up sees fewer
//! pictures, not older ones, and never slows the others down.
//!
//! # Strangers
//!
//! A connection must finish its handshake within [`HANDSHAKE_TIME`] and publish or play within [`JOIN_TIME`]; there
//! are at most [`MAX_CONNECTIONS`]. A publisher that is silent for [`PUBLISHER_SILENCE`] makes room for another. Keys are compared in constant time and never logged.
//!
//! A port with a key may be open to the world: until a connection has told the key it is a stranger before the
//! [`Door`], which bounds how many there are and how often one source comes. What it is told is that it was refused.
//!
//! # Connections accepted elsewhere
//!
//! [`RtmpPort::without_listener`] serves connections that another room's listener took and that turned out to speak
//! RTMP ([`RtmpPort::adopt`]): the viewer's hole port takes publishers so.

mod refused;
mod types;

pub use refused::TurnedAway;
pub use types::{Event, Mode, RtmpPortConfig, RtmpPortOutput};

use crate::clock::Clock;
use crate::player::Player;
use crate::unread::Unread;
use bytes::Bytes;
use punchcast::app::{Closing, ConnId, Input, ListenerId, NetOp, Room, Space, soonest};
use punchcast::link::Door;
use punchcast::media::{Cache, Unit, told};
use punchcast::rtmp::{self, Refusal, ServerEvent, ServerSession, StreamId, StreamKey};
use refused::Refused;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How long a handshake may take. Local programs take milliseconds; five seconds cover a loaded machine.
pub const HANDSHAKE_TIME: Duration = Duration::from_secs(5);

/// How long a connection may last without publishing or playing, its handshake included.
pub const JOIN_TIME: Duration = Duration::from_secs(10);

/// How long a publisher may send nothing. One that was suspended, or whose host went away, would keep the next one out;
/// a live encoder sends many times a second, and fifteen seconds cover one that is changing scenes or swapping.
pub const PUBLISHER_SILENCE: Duration = Duration::from_secs(15);

/// Connections at once, beside the strangers before the door of a port with a key: far more than a user's players, far
/// fewer than a process's descriptors.
pub const MAX_CONNECTIONS: usize = 32;

/// Bytes that a connection may send before it has told a port's key: the handshake has 3 KiB, and the commands up to
/// `publish` or `play` one more. At most one read more is parsed before it is noticed. As many may be held for it, so that it
/// gains nothing by beginning messages that it announces to be long.
pub const MAX_STRANGER_BYTES: usize = 32 * 1024;

/// A local RTMP port. See the [module](self).
#[derive(Debug)]
pub struct RtmpPort {
    mode: Mode,
    app: Option<String>,
    key: Option<StreamKey>,
    /// Bounds those who have not told the key; a port without one has no strangers.
    door: Option<Door>,
    wrong_keys: Refused,
    occupied: Refused,
    seeds: u64,
    conns: BTreeMap<ConnId, Conn>,
    /// What players see, by place.
    streams: Vec<Stream>,
    /// When to go on with players that were given only a part of what waits.
    resume: Option<Instant>,
    outputs: VecDeque<RtmpPortOutput>,
}

/// One of the streams for players: a cast, and what follows it in the same place.
#[derive(Debug, Default)]
struct Stream {
    cache: Cache,
    /// Of the casts, one after another.
    clock: Clock,
}

#[derive(Debug)]
struct Conn {
    session: ServerSession,
    remote: SocketAddr,
    role: Role,
    /// It has a place at the door and has not told the key: the bytes that it has sent.
    stranger: Option<usize>,
    unread: Unread,
}

#[derive(Debug)]
enum Role {
    /// Neither publishes nor plays, since this moment.
    Joining(Instant),
    /// Publishes, and was last heard at this moment.
    Publisher(Instant),
    /// Of the stream at that place.
    Player(usize, Box<Player>),
}

impl RtmpPort {
    /// A port that asks to listen on `addr`; port 0 takes a free one, which [`Event::Listening`] tells.
    #[must_use]
    pub fn new(room: Room, addr: SocketAddr, config: RtmpPortConfig) -> Self {
        let listener = ListenerId { room, serial: 0 };
        let mut port = Self::without_listener(config);
        port.net(NetOp::Listen { listener, addr, reuse: false });
        port
    }

    /// A port for connections that another room accepts.
    #[must_use]
    pub fn without_listener(config: RtmpPortConfig) -> Self {
        Self {
            mode: config.mode,
            app: config.app,
            door: config.key.is_some().then(Door::new),
            key: config.key.map(StreamKey::new),
            wrong_keys: Refused::default(),
            occupied: Refused::default(),
            seeds: config.seed,
            conns: BTreeMap::new(),
            streams: std::iter::repeat_with(Stream::default).take(config.streams.max(1)).collect(),
            resume: None,
            outputs: VecDeque::new(),
        }
    }

    /// Takes over a connection from `remote` that another room accepted, and what it has sent so far. All its inputs
    /// come here from then on.
    pub fn adopt(&mut self, now: Instant, conn: ConnId, remote: SocketAddr, bytes: &[u8]) {
        self.accepted(now, conn, remote);
        self.received(now, conn, bytes);
    }

    /// Who publishes.
    #[must_use]
    pub fn publisher(&self) -> Option<ConnId> {
        self.conns.iter().find(|(_, conn)| conn.is_publisher()).map(id_of)
    }

    /// Whether a player has taken all that there was for it.
    #[must_use]
    pub fn has_idle_player(&self) -> bool {
        self.conns.values().any(|conn| conn.plays().is_some() && !conn.unread.is_backlogged())
    }

    /// Sends the publisher away.
    pub fn end_publisher(&mut self) {
        if let Some(conn) = self.publisher() {
            self.close(conn, Closing::Flush);
        }
    }

    /// Whether the connection is one of this port's.
    #[must_use]
    pub fn owns(&self, conn: ConnId) -> bool {
        self.conns.contains_key(&conn)
    }

    /// Takes one network event of this room.
    pub fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        match input {
            Input::Listening { local, .. } => self.event(Event::Listening(local)),
            Input::ListenFailed { addr, error, .. } => self.event(Event::ListenFailed { addr, error }),
            Input::Accepted { conn, remote, .. } => self.accepted(now, conn, remote),
            Input::Received { conn, bytes } => self.received(now, conn, bytes),
            Input::Backlogged { conn } => {
                if let Some(conn) = self.conns.get_mut(&conn) {
                    conn.unread.begin();
                }
            }
            Input::Drained { conn: id } => {
                if let Some(conn) = self.conns.get_mut(&id) {
                    conn.unread.end();
                    self.pump(now, id);
                }
            }
            Input::Closed { conn, .. } => self.gone(conn),
            // A port opens no connections, and the application itself decides on interrupts.
            Input::Connected { .. } | Input::ConnectFailed { .. } | Input::Interrupted => {}
        }
    }

    /// Takes the passing of time.
    pub fn handle_timeout(&mut self, now: Instant) {
        let late: Vec<ConnId> = self
            .conns
            .iter()
            .filter(|(_, conn)| conn.deadline().is_some_and(|at| at <= now))
            .map(id_of)
            .collect();
        for id in late {
            log::debug!("conn={id} neither published nor played in time, or was silent");
            self.close(id, Closing::Abort);
        }
        if self.resume.is_some_and(|at| at <= now) {
            self.resume = None;
            self.pump_all(now);
        }
        let streams = &self.streams;
        let mut begun = false;
        for conn in self.conns.values_mut() {
            if let Role::Player(place, player) = &mut conn.role
                && let Some(stream) = streams.get(*place)
            {
                begun |= player.handle_timeout(now, &stream.cache);
            }
        }
        if begun {
            self.pump_all(now);
        }
    }

    /// The next thing to carry out, until `None`.
    pub fn poll_output(&mut self) -> Option<RtmpPortOutput> {
        self.outputs.pop_front()
    }

    /// When it wants `handle_timeout`, and why.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let join = self.conns.values().filter_map(Conn::deadline).min();
        let join = join.map(|at| (at, "an rtmp connection must publish, or play, or speak"));
        let resume = self.resume.map(|at| (at, "more waits for an rtmp player"));
        let begin = self.conns.values().filter_map(Conn::begins).min();
        let begin = begin.map(|at| (at, "an rtmp player begins without a new keyframe"));
        soonest(soonest(resume, join), begin)
    }

    /// Sends a unit of the stream at `place` to its players, and keeps what later ones will need of it.
    pub fn publish(&mut self, now: Instant, place: usize, unit: &Unit) {
        let Some(stream) = self.streams.get_mut(place) else { return };
        let unit = &stream.clock.place(told::for_players(unit).into_owned());
        stream.cache.push(unit);
        for conn in self.conns.values_mut() {
            if let Role::Player(at, player) = &mut conn.role
                && *at == place
            {
                player.push(now, unit, &stream.cache);
            }
        }
        self.pump_all(now);
    }

    /// Another stream follows for the same players; it goes on where the one before it ended. Who comes now gets nothing of
    /// that.
    pub fn next_stream(&mut self, place: usize) {
        if let Some(stream) = self.streams.get_mut(place) {
            stream.clock.next_stream();
            stream.cache = Cache::new();
        }
    }

    /// The stream is over: its players are told so and let go. What comes next is another stream.
    pub fn end_stream(&mut self, place: usize) {
        let Some(stream) = self.streams.get_mut(place) else { return };
        *stream = Stream::default();
        let players: Vec<ConnId> =
            self.conns.iter().filter(|(_, conn)| conn.plays() == Some(place)).map(id_of).collect();
        for id in players {
            if let Some(conn) = self.conns.get_mut(&id) {
                conn.session.finish_play();
            }
            self.close(id, Closing::Flush);
        }
    }

    fn accepted(&mut self, now: Instant, id: ConnId, remote: SocketAddr) {
        let admitted = match &mut self.door {
            Some(door) => door.admit(remote.ip(), now),
            None => self.conns.len() < MAX_CONNECTIONS,
        };
        if !admitted {
            log::debug!("conn={id} one connection too many");
            self.net(NetOp::Close { conn: id, how: Closing::Abort });
            return;
        }
        self.seeds = self.seeds.wrapping_add(1);
        let session = ServerSession::new(self.seeds);
        let (role, stranger) = (Role::Joining(now), self.door.is_some().then_some(0));
        let conn = Conn { session, remote, role, stranger, unread: Unread::default() };
        self.conns.insert(id, conn);
    }

    /// Where a publisher's next bytes are to be read to.
    pub fn space(&mut self, id: ConnId) -> Option<Space<'_>> {
        self.conns.get_mut(&id).filter(|conn| conn.is_publisher())?.session.space()
    }

    /// Takes `count` bytes that were read to there.
    pub fn handle_placed(&mut self, now: Instant, id: ConnId, count: usize) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        conn.heard(now, count);
        let result = conn.session.handle_placed(count);
        self.went_on(now, id, result);
    }

    fn received(&mut self, now: Instant, id: ConnId, bytes: &[u8]) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        conn.heard(now, bytes.len());
        let result = conn.session.handle_input(bytes);
        self.went_on(now, id, result);
    }

    /// Carries out what came of a session's input.
    fn went_on(&mut self, now: Instant, id: ConnId, result: Result<(), rtmp::Error>) {
        // What the session has to say goes first.
        while let Some(conn) = self.conns.get_mut(&id)
            && let Some(output) = conn.session.poll_output()
        {
            match output {
                rtmp::Output::Transmit(bytes) => self.send(id, bytes),
                rtmp::Output::Event(event) => self.session_event(now, id, event),
            }
        }
        // An answer lets the session read on, which may fail as well.
        if let Some(conn) = self.conns.get_mut(&id)
            && let Err(error) = result.and_then(|()| conn.session.handle_input(&[]))
        {
            log::debug!("conn={id} {error}");
            self.close(id, Closing::Flush);
        } else if self.conns.get(&id).is_some_and(Conn::is_talkative_stranger) {
            log::debug!("conn={id} sends much and tells no key");
            self.close(id, Closing::Abort);
        }
    }

    fn session_event(&mut self, now: Instant, id: ConnId, event: ServerEvent) {
        match event {
            ServerEvent::Publish { stream, app, key } => match self.judge(Mode::Publishers, &app, &key) {
                Ok(()) => self.let_publisher_in(now, id, stream, app, key),
                Err(why) => {
                    self.tell_refusal(now, id, Mode::Publishers, &key, why);
                    self.refuse(id, stream, why);
                }
            },
            ServerEvent::Play { stream, app, key } => match self.judge(Mode::Players, &app, &key) {
                Ok(()) => self.let_player_in(now, id, stream, &key),
                Err(why) => {
                    self.tell_refusal(now, id, Mode::Players, &key, why);
                    self.refuse(id, stream, why);
                }
            },
            ServerEvent::Media(unit) => self.event(Event::Media(unit)),
            ServerEvent::PublishEnded(_) | ServerEvent::PlayEnded(_) => {
                if let Some(conn) = self.conns.get_mut(&id) {
                    let role = std::mem::replace(&mut conn.role, Role::Joining(now));
                    let remote = conn.remote;
                    self.left(role, remote, true);
                }
            }
        }
    }

    /// Whether who asks for `app` and `key` in order to do `what` may.
    fn judge(&self, what: Mode, app: &str, key: &StreamKey) -> Result<(), Refusal> {
        let app_fits = self.app.as_deref().is_none_or(|expected| expected == app);
        if self.mode != what || !app_fits || !self.key_fits(key) {
            return Err(Refusal::UnknownKey);
        }
        if what == Mode::Players && self.place_of(key).is_none() {
            return Err(Refusal::UnknownKey);
        }
        let busy = match what {
            Mode::Publishers => self.conns.values().any(Conn::is_publisher),
            Mode::Players => {
                self.conns.values().filter(|conn| conn.plays().is_some()).count() >= MAX_CONNECTIONS
            }
        };
        if busy { Err(Refusal::Busy) } else { Ok(()) }
    }

    fn key_fits(&self, key: &StreamKey) -> bool {
        self.key.as_ref().is_none_or(|expected| key.matches(expected.as_str()))
    }

    /// Tells of who was refused in doing `what` if the key was the reason, or another publisher, and it is time to tell.
    fn tell_refusal(&mut self, now: Instant, id: ConnId, what: Mode, key: &StreamKey, why: Refusal) {
        let Some(remote) = self.conns.get(&id).map(|conn| conn.remote).filter(|_| self.mode == what) else {
            return;
        };
        let event = if !self.key_fits(key) {
            self.wrong_keys.turned_away(now, remote).map(Event::WrongKey)
        } else if (what, why) == (Mode::Publishers, Refusal::Busy) {
            self.occupied.turned_away(now, remote).map(Event::Occupied)
        } else {
            None
        };
        if let Some(event) = event {
            self.event(event);
        }
    }

    fn let_publisher_in(&mut self, now: Instant, id: ConnId, stream: StreamId, app: String, key: StreamKey) {
        self.leave_door(id);
        let Some(conn) = self.conns.get_mut(&id) else { return };
        conn.role = Role::Publisher(now);
        let remote = conn.remote;
        conn.session.accept(stream);
        self.event(Event::PublisherJoined { remote, app, key });
    }

    /// The place of the stream that a player names; `None` for one that cannot be.
    fn place_of(&self, key: &StreamKey) -> Option<usize> {
        if self.key.is_some() {
            return Some(0);
        }
        if key.as_str() == FIRST_STREAM {
            return Some(0);
        }
        (0..self.streams.len()).find(|place| key.as_str() == format!("cast-{}", place + 1))
    }

    fn let_player_in(&mut self, now: Instant, id: ConnId, stream: StreamId, key: &StreamKey) {
        self.leave_door(id);
        let place = self.place_of(key).unwrap_or(0);
        let (Some(conn), Some(cast)) = (self.conns.get_mut(&id), self.streams.get(place)) else { return };
        conn.session.accept(stream);
        conn.role = Role::Player(place, Box::new(Player::new(now, &cast.cache)));
        let remote = conn.remote;
        self.event(Event::PlayerJoined { remote, place });
        self.pump(now, id);
    }

    fn refuse(&mut self, id: ConnId, stream: StreamId, why: Refusal) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        log::debug!("conn={id} refused: {why:?}");
        conn.session.refuse(stream, why);
        self.close(id, Closing::Flush);
    }

    fn pump_all(&mut self, now: Instant) {
        let players: Vec<ConnId> =
            self.conns.iter().filter(|(_, conn)| conn.plays().is_some()).map(id_of).collect();
        for id in players {
            self.pump(now, id);
        }
    }

    /// Gives a player what waits for it, as long as its socket takes it and up to a burst's length: whether the
    /// driver could send what it was given comes back only after the outputs are drained.
    fn pump(&mut self, now: Instant, id: ConnId) {
        let mut burst = 0;
        while let Some(Conn { session, role: Role::Player(place, player), unread, .. }) =
            self.conns.get_mut(&id)
            && !unread.is_backlogged()
        {
            if burst >= MAX_BURST {
                if !player.is_empty() {
                    self.resume = Some(now);
                }
                return;
            }
            let Some(unit) = player.pop() else {
                if player.wants_keyframe(now) {
                    let place = *place;
                    self.event(Event::KeyframeWanted { place });
                }
                return;
            };
            burst += unit.payload.len();
            if let Err(error) = session.send_media(&unit) {
                log::debug!("conn={id} unit left out: {error}");
            }
            while let Some(bytes) = self.next_transmit(id) {
                self.send(id, bytes);
            }
        }
    }

    /// The next piece that a session has for its connection.
    fn next_transmit(&mut self, id: ConnId) -> Option<Bytes> {
        self.conns.get_mut(&id)?.session.poll_transmit()
    }

    fn send(&mut self, id: ConnId, bytes: Bytes) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if !conn.unread.count(bytes.len()) {
            log::debug!("conn={id} asks and does not read");
            self.close(id, Closing::Abort);
            return;
        }
        self.net(NetOp::Send { conn: id, bytes });
    }

    /// Sends the session's last words and closes the connection.
    fn close(&mut self, id: ConnId, how: Closing) {
        if how == Closing::Flush {
            while let Some(bytes) = self.next_transmit(id) {
                self.net(NetOp::Send { conn: id, bytes });
            }
        }
        self.gone(id);
        self.net(NetOp::Close { conn: id, how });
    }

    /// Gives back a stranger's place at the door: it has told the key, or goes.
    fn leave_door(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(&id)
            && conn.stranger.take().is_some()
            && let Some(door) = &mut self.door
        {
            door.leave(conn.remote.ip());
        }
    }

    fn gone(&mut self, id: ConnId) {
        self.leave_door(id);
        if let Some(conn) = self.conns.remove(&id) {
            self.left(conn.role, conn.remote, false);
        }
    }

    fn left(&mut self, role: Role, remote: SocketAddr, finished: bool) {
        match role {
            Role::Joining(_) => {}
            Role::Publisher(_) => self.event(Event::PublisherLeft { remote, finished }),
            Role::Player(place, player) => {
                self.event(Event::PlayerLeft { remote, place, dropped: player.dropped() });
            }
        }
    }

    fn event(&mut self, event: Event) {
        self.outputs.push_back(RtmpPortOutput::Event(event));
    }

    fn net(&mut self, op: NetOp) {
        self.outputs.push_back(RtmpPortOutput::Net(op));
    }
}

impl Conn {
    /// Bytes came.
    fn heard(&mut self, now: Instant, count: usize) {
        if let Role::Publisher(heard) = &mut self.role {
            *heard = now;
        }
        if let Some(sent) = &mut self.stranger {
            *sent = sent.saturating_add(count);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match self.role {
            Role::Joining(since) if self.session.is_established() => Some(since + JOIN_TIME),
            Role::Joining(since) => Some(since + HANDSHAKE_TIME),
            Role::Publisher(heard) => Some(heard + PUBLISHER_SILENCE),
            Role::Player(..) => None,
        }
    }

    fn is_talkative_stranger(&self) -> bool {
        self.stranger.is_some_and(|sent| sent.max(self.session.buffered_bytes()) > MAX_STRANGER_BYTES)
    }

    /// Which stream it plays, if it plays one.
    const fn plays(&self) -> Option<usize> {
        match self.role {
            Role::Player(place, _) => Some(place),
            Role::Joining(_) | Role::Publisher(_) => None,
        }
    }

    /// When it begins to play, if it waits for that.
    const fn begins(&self) -> Option<Instant> {
        match &self.role {
            Role::Player(_, player) => player.poll_timeout(),
            Role::Joining(_) | Role::Publisher(_) => None,
        }
    }

    const fn is_publisher(&self) -> bool {
        matches!(self.role, Role::Publisher(_))
    }
}

fn id_of((&id, _): (&ConnId, &Conn)) -> ConnId {
    id
}

/// What players call the first stream, which most often is the only one.
pub const FIRST_STREAM: &str = "live";

/// Bytes given to the driver for one player at a time. A driver holds what the socket does not take, and what it
/// holds cannot be left out any more.
const MAX_BURST: usize = 256 * 1024;

#[cfg(test)]
mod tests;
