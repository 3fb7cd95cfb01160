//! The server's side: accepts a publisher or players.

use super::carrier::Carrier;
use super::{MAX_PENDING, Output, StreamId, StreamKey, WINDOW, capabilities, media};
use crate::app::Space;
use crate::media::Unit;
use crate::rtmp::Error;
use crate::rtmp::amf0::Value;
use crate::rtmp::message::{Command, Message, UserControl};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};

/// A server's session with one client.
///
/// ```text
///   client: connect · releaseStream · FCPublish · createStream · publish ──▶ Publish ─ accept ─▶ Media … PublishEnded
///   client: connect · createStream · play ─────────────────────────────────▶ Play ─ accept ─▶ send_media … PlayEnded
/// ```
#[derive(Debug)]
pub struct ServerSession {
    carrier: Carrier,
    /// The app, once connected.
    app: Option<String>,
    streams: BTreeMap<u32, Stream>,
    next_stream: u32,
    events: VecDeque<ServerEvent>,
    /// The request that the owner has to answer. Nothing is read before: what follows may depend on it.
    asked: Option<StreamId>,
    /// What came in meanwhile, from `pending_at` on.
    pending: Vec<u8>,
    pending_at: usize,
    /// What was wrong with it, to be told by the next input.
    failure: Option<Error>,
}

/// What a server's session tells.
#[derive(Clone, Debug, PartialEq)]
pub enum ServerEvent {
    /// The client asks to publish; to be answered by [`ServerSession::accept`] or [`ServerSession::refuse`].
    Publish {
        /// What to answer about.
        stream: StreamId,
        /// The app, without slashes at its ends and without a query.
        app: String,
        /// The key, without a query.
        key: StreamKey,
    },
    /// The client asks to play; to be answered by [`ServerSession::accept`] or [`ServerSession::refuse`].
    Play {
        /// What to answer about.
        stream: StreamId,
        /// The app, without slashes at its ends and without a query.
        app: String,
        /// The key, without a query.
        key: StreamKey,
    },
    /// A unit of the accepted publisher.
    Media(Unit),
    /// The publisher is done.
    PublishEnded(StreamId),
    /// The player is done.
    PlayEnded(StreamId),
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Somebody else publishes already, or there are too many players.
    Busy,
    /// There is no such app or key.
    UnknownKey,
}

/// What a message stream is used for.
#[derive(Debug)]
enum Stream {
    Idle,
    PublishAsked,
    Publishing,
    PlayAsked,
    Playing,
}

impl ServerSession {
    /// A session at the beginning of a connection. `seed` varies the handshake's filler, which need not be secret.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            carrier: Carrier::server(seed),
            app: None,
            streams: BTreeMap::new(),
            next_stream: 1,
            events: VecDeque::new(),
            asked: None,
            pending: Vec::new(),
            pending_at: 0,
            failure: None,
        }
    }

    /// Takes bytes from the client, in any split.
    ///
    /// # Errors
    /// If the client breaks the protocol or a limit, or has done so in what was read since by [`Self::accept`] or
    /// [`Self::refuse`]. The session is over then.
    pub fn handle_input(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        if self.pending.is_empty() {
            let result = self.take(&mut bytes, usize::MAX).and_then(|()| self.keep(bytes));
            return self.settle(result);
        }
        let result = self.keep(bytes);
        self.settle(result)?;
        self.read_on();
        self.failure.take().map_or(Ok(()), Err)
    }

    /// Where the client's next bytes are to be read to, as [`App::space`](crate::app::App::space) says it.
    pub fn space(&mut self) -> Option<Space<'_>> {
        let reads = self.pending.is_empty() && self.asked.is_none() && self.failure.is_none();
        if reads { self.carrier.space() } else { None }
    }

    /// Takes `count` bytes that were read to where [`Self::space`] said.
    ///
    /// # Errors
    /// As [`Self::handle_input`].
    pub fn handle_placed(&mut self, count: usize) -> Result<(), Error> {
        let result = self.carrier.placed(count).map_or(Ok(()), |message| self.media(&message));
        self.settle(result)
    }

    /// The next thing to carry out, until `None`.
    pub fn poll_output(&mut self) -> Option<Output<ServerEvent>> {
        if self.events.is_empty() {
            self.read_on();
        }
        match self.carrier.take_output() {
            Some(bytes) => Some(Output::Transmit(bytes)),
            None => self.events.pop_front().map(Output::Event),
        }
    }

    /// The bytes that are to be carried to the client, if any: [`Self::poll_output`] without the events, for an owner
    /// that is in the midst of one.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        self.carrier.take_output()
    }

    /// Grants what [`ServerEvent::Publish`] or [`ServerEvent::Play`] asked for. Does nothing if the client has
    /// not asked. Reads on with what the client has sent since; the next
    /// [`Self::handle_input`], which may be of no bytes, tells if that was wrong.
    pub fn accept(&mut self, stream: StreamId) {
        let Some(state) = self.streams.get_mut(&stream.0) else { return };
        match state {
            Stream::PublishAsked => {
                *state = Stream::Publishing;
                self.carrier.control(&UserControl::StreamBegin(stream.0).message());
                self.status(stream, "status", "NetStream.Publish.Start", "publishing");
            }
            Stream::PlayAsked => {
                *state = Stream::Playing;
                self.carrier.control(&UserControl::StreamBegin(stream.0).message());
                self.status(stream, "status", "NetStream.Play.Reset", "playing from the beginning");
                self.status(stream, "status", "NetStream.Play.Start", "playing");
            }
            Stream::Idle | Stream::Publishing | Stream::Playing => return,
        }
        self.resume();
    }

    /// Refuses what [`ServerEvent::Publish`] or [`ServerEvent::Play`] asked for. The client may try again on the
    /// same connection; who does not want that closes it. Reads on as [`Self::accept`] does.
    pub fn refuse(&mut self, stream: StreamId, why: Refusal) {
        if self.asked == Some(stream) {
            self.deny(stream, why);
            self.resume();
        }
    }

    fn deny(&mut self, stream: StreamId, why: Refusal) {
        let Some(state) = self.streams.get_mut(&stream.0) else { return };
        let (code, busy) = match state {
            Stream::PublishAsked => ("NetStream.Publish.BadName", "somebody else is publishing"),
            Stream::PlayAsked => ("NetStream.Play.StreamNotFound", "too many are playing"),
            Stream::Idle | Stream::Publishing | Stream::Playing => return,
        };
        *state = Stream::Idle;
        let description = match why {
            Refusal::Busy => busy,
            Refusal::UnknownKey => "no such stream",
        };
        self.status(stream, "error", code, description);
    }

    /// Sends a unit to the player.
    ///
    /// # Errors
    /// [`Error::NotReady`] if the client plays nothing, [`Error::TooLarge`] if the unit exceeds a message.
    pub fn send_media(&mut self, unit: &Unit) -> Result<(), Error> {
        let playing = self.streams.iter().find(|(_, state)| matches!(state, Stream::Playing));
        let Some((&stream, _)) = playing else { return Err(Error::NotReady) };
        media::send(&mut self.carrier, stream, unit, false)
    }

    /// Tells the player that the stream is over.
    pub fn finish_play(&mut self) {
        let playing = self.streams.iter_mut().find(|(_, state)| matches!(state, Stream::Playing));
        let Some((&stream, state)) = playing else { return };
        *state = Stream::Idle;
        self.carrier.control(&UserControl::StreamEof(stream).message());
        self.status(StreamId(stream), "status", "NetStream.Play.UnpublishNotify", "the publisher has left");
        self.status(StreamId(stream), "status", "NetStream.Play.Stop", "stopped");
    }

    /// Whether the handshake is done and nothing has failed.
    #[must_use]
    pub const fn is_established(&self) -> bool {
        self.carrier.is_established()
    }

    /// How many bytes the session holds: unfinished messages, output and events not yet polled, media not yet accepted.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        let events = self.events.iter().map(|event| match event {
            ServerEvent::Media(unit) => size_of::<ServerEvent>() + unit.payload.len(),
            ServerEvent::Publish { .. }
            | ServerEvent::Play { .. }
            | ServerEvent::PublishEnded(_)
            | ServerEvent::PlayEnded(_) => size_of::<ServerEvent>(),
        });
        self.carrier.buffered_bytes() + self.pending.capacity() + events.sum::<usize>()
    }

    fn settle(&mut self, result: Result<(), Error>) -> Result<(), Error> {
        if result.is_err() {
            self.carrier.fail();
            (self.asked, self.pending, self.pending_at) = (None, Vec::new(), 0);
        }
        result
    }

    /// Keeps what cannot be read before the owner has answered.
    fn keep(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if bytes.len() > MAX_PENDING - self.pending.len() {
            return Err(Error::TooHasty);
        }
        if self.pending_at > self.pending.len() / 2 {
            self.pending.drain(..std::mem::take(&mut self.pending_at));
        }
        // Doubling would end beyond the limit.
        let wanted = (self.pending.len() + bytes.len()).max(2 * self.pending.capacity()).min(MAX_PENDING);
        if wanted > self.pending.capacity() && self.pending.capacity() - self.pending.len() < bytes.len() {
            self.pending.reserve_exact(wanted - self.pending.len());
        }
        self.pending.extend_from_slice(bytes);
        Ok(())
    }

    /// Goes on with what was kept, now that the request is answered.
    fn resume(&mut self) {
        self.asked = None;
        self.read_on();
    }

    /// Reads what was kept, as far as there is room for what comes of it. The bytes stay where they are until all of them
    /// are read, so that many requests in a row cost no more than their length.
    fn read_on(&mut self) {
        if self.pending.is_empty() || self.asked.is_some() || self.failure.is_some() {
            return;
        }
        let pending = std::mem::take(&mut self.pending);
        let mut rest = &pending[std::mem::take(&mut self.pending_at)..];
        let result = self.take(&mut rest, MAX_EVENTS);
        if !rest.is_empty() {
            self.pending_at = pending.len() - rest.len();
            self.pending = pending;
        }
        self.failure = self.settle(result).err();
    }

    /// Reads `bytes` up to a request, or until more than `room` events wait.
    fn take(&mut self, bytes: &mut &[u8], room: usize) -> Result<(), Error> {
        if !self.carrier.handshake(bytes)? {
            return Ok(());
        }
        while self.asked.is_none()
            && self.events.len() < room
            && let Some(message) = self.carrier.read(bytes)?
        {
            if media::is_media(message.kind) {
                self.media(&message)?;
            } else if let Some(command) = Command::parse(&message, KNOWN)? {
                self.command(StreamId(message.stream), &command)?;
            }
        }
        Ok(())
    }

    fn media(&mut self, message: &Message) -> Result<(), Error> {
        match self.streams.get_mut(&message.stream) {
            Some(Stream::Publishing) => {
                media::units(message, &mut |unit| self.events.push_back(ServerEvent::Media(unit)))
            }
            Some(Stream::Idle | Stream::PublishAsked | Stream::PlayAsked | Stream::Playing) | None => Ok(()),
        }
    }

    fn command(&mut self, stream: StreamId, command: &Command) -> Result<(), Error> {
        match command.name.as_str() {
            "connect" => self.connect(command),
            _ if self.app.is_none() => Err(Error::UnexpectedCommand("before connect")),
            "createStream" => self.create_stream(command),
            "publish" => self.publish(stream, command),
            "play" => self.play(stream, command),
            "deleteStream" => {
                let id = command.number(0).unwrap_or(0.0) as u32;
                self.end(id);
                self.streams.remove(&id);
                self.result(command, Value::Null);
                Ok(())
            }
            "closeStream" => {
                self.end(stream.0);
                Ok(())
            }
            "getStreamLength" => {
                // Live streams have no length.
                self.result(command, Value::Number(0.0));
                Ok(())
            }
            "FCPublish" => self.first_class(command, "onFCPublish", "NetStream.Publish.Start"),
            "FCUnpublish" => {
                // The end as far as encoders are concerned: many close without awaiting more, and the deleteStream
                // behind it is lost with the connection.
                let publishes = |(_, state): &(&u32, &Stream)| matches!(state, Stream::Publishing);
                if let Some(id) = self.streams.iter().find(publishes).map(|(&id, _)| id) {
                    self.end(id);
                }
                self.first_class(command, "onFCUnpublish", "NetStream.Unpublish.Success")
            }
            _ => {
                self.result(command, Value::Undefined);
                Ok(())
            }
        }
    }

    fn connect(&mut self, command: &Command) -> Result<(), Error> {
        if self.app.is_some() {
            return Err(Error::UnexpectedCommand("connect twice"));
        }
        let app = command.object.get("app").and_then(Value::as_str).unwrap_or_default();
        self.app = Some(without_query(app).trim_matches('/').to_owned());
        self.carrier.announce_window(WINDOW);
        self.carrier.limit_peer(WINDOW);
        self.carrier.announce_chunk_size();
        let mut properties = vec![
            ("fmsVer".to_owned(), Value::string("FMS/3,0,1,123")),
            ("capabilities".to_owned(), Value::Number(31.0)),
        ];
        properties.extend(capabilities::answer(&command.object));
        let information = Value::object([
            ("level", Value::string("status")),
            ("code", Value::string("NetConnection.Connect.Success")),
            ("description", Value::string("connected")),
            ("objectEncoding", Value::Number(0.0)),
        ]);
        let values = [Value::Object(properties), information];
        self.carrier.command(&Message::command(0, "_result", command.transaction, &values));
        Ok(())
    }

    fn create_stream(&mut self, command: &Command) -> Result<(), Error> {
        if self.streams.len() == MAX_STREAMS {
            return Err(Error::TooManyStreams);
        }
        let stream = self.next_stream;
        self.next_stream = stream.checked_add(1).ok_or(Error::TooManyStreams)?;
        self.streams.insert(stream, Stream::Idle);
        self.result(command, Value::Number(f64::from(stream)));
        Ok(())
    }

    fn publish(&mut self, stream: StreamId, command: &Command) -> Result<(), Error> {
        let publishes = |state: &Stream| matches!(state, Stream::PublishAsked | Stream::Publishing);
        let busy = self.streams.values().any(publishes);
        self.ask(stream, command, "publish", busy, Stream::PublishAsked)
    }

    fn play(&mut self, stream: StreamId, command: &Command) -> Result<(), Error> {
        let plays = |state: &Stream| matches!(state, Stream::PlayAsked | Stream::Playing);
        let busy = self.streams.values().any(plays);
        self.ask(stream, command, "play", busy, Stream::PlayAsked)
    }

    /// One publisher and one player a connection are enough for everybody and keep the events simple.
    fn ask(
        &mut self,
        stream: StreamId,
        command: &Command,
        name: &'static str,
        busy: bool,
        asked: Stream,
    ) -> Result<(), Error> {
        let Some(state @ Stream::Idle) = self.streams.get_mut(&stream.0) else {
            return Err(Error::UnexpectedCommand(name));
        };
        let publish = matches!(asked, Stream::PublishAsked);
        *state = asked;
        if busy {
            self.deny(stream, Refusal::Busy);
            return Ok(());
        }
        self.asked = Some(stream);
        let app = self.app.clone().unwrap_or_default();
        let key = StreamKey::new(without_query(command.string(0).unwrap_or_default()));
        self.events.push_back(if publish {
            ServerEvent::Publish { stream, app, key }
        } else {
            ServerEvent::Play { stream, app, key }
        });
        Ok(())
    }

    /// Ends what stream `id` was used for.
    fn end(&mut self, id: u32) {
        let Some(state) = self.streams.get_mut(&id) else { return };
        let stream = StreamId(id);
        match std::mem::replace(state, Stream::Idle) {
            Stream::Idle => {}
            Stream::PublishAsked => self.events.push_back(ServerEvent::PublishEnded(stream)),
            Stream::Publishing => {
                self.status(stream, "status", "NetStream.Unpublish.Success", "unpublished");
                self.events.push_back(ServerEvent::PublishEnded(stream));
            }
            Stream::PlayAsked | Stream::Playing => self.events.push_back(ServerEvent::PlayEnded(stream)),
        }
    }

    /// `FCPublish` and its like: a result, and the notice that Flash Media Server sends.
    fn first_class(&mut self, command: &Command, notice: &str, code: &str) -> Result<(), Error> {
        self.result(command, Value::Undefined);
        let information =
            Value::object([("code", Value::string(code)), ("description", Value::string("ok"))]);
        self.carrier.command(&Message::command(0, notice, 0.0, &[Value::Null, information]));
        Ok(())
    }

    fn result(&mut self, command: &Command, value: Value) {
        // Transaction 0 says that no answer is wanted (§7.2.1).
        if command.transaction != 0.0 {
            let values = [Value::Null, value];
            self.carrier.command(&Message::command(0, "_result", command.transaction, &values));
        }
    }

    pub(super) fn status(&mut self, stream: StreamId, level: &str, code: &str, description: &str) {
        let information = Value::object([
            ("level", Value::string(level)),
            ("code", Value::string(code)),
            ("description", Value::string(description)),
        ]);
        self.carrier.command(&Message::command(stream.0, "onStatus", 0.0, &[Value::Null, information]));
    }
}

fn without_query(name: &str) -> &str {
    name.split_once('?').map_or(name, |(name, _)| name)
}

/// The commands that are understood; others are passed over. Those without an arm of their own get an empty result.
const KNOWN: &[&str] = &[
    "connect",
    "createStream",
    "publish",
    "play",
    "deleteStream",
    "closeStream",
    "getStreamLength",
    "FCPublish",
    "FCUnpublish",
    "releaseStream",
    "FCSubscribe",
    "_checkbw",
];

/// Message streams a connection may have at once. Publishers and players use one.
const MAX_STREAMS: usize = 8;

/// How many events may wait before more is read of what was kept for an answer. Input explains the events that it
/// causes; what was kept is many inputs, and tiny messages would make much of it.
const MAX_EVENTS: usize = 256;
