//! The client's side: publishes, or plays.

use super::carrier::Carrier;
use super::{Output, capabilities, media};
use crate::app::Space;
use crate::media::Unit;
use crate::rtmp::amf0::Value;
use crate::rtmp::message::{self, Command, Message, UserControl};
use crate::rtmp::{Error, ParseUrlError, RtmpUrl};
use crate::text::one_line;
use std::collections::VecDeque;
use std::fmt;

/// What to publish.
#[derive(Clone)]
pub struct PublishConfig {
    /// The server's app.
    pub app: String,
    /// The app's address, as `connect` tells it.
    pub tc_url: String,
    /// The stream's name, query included: a secret.
    pub key: String,
    /// Varies the handshake's filler, which need not be secret.
    pub seed: u64,
}

impl PublishConfig {
    /// What `url` names.
    ///
    /// # Errors
    /// If it is no RTMP address with a key.
    pub fn new(url: &str) -> Result<Self, ParseUrlError> {
        let url = RtmpUrl::parse(url)?;
        Ok(Self { tc_url: url.tc_url(), key: url.stream_name(), app: url.app, seed: 0 })
    }
}

impl fmt::Debug for PublishConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublishConfig({}/…)", self.tc_url)
    }
}

/// What to play.
#[derive(Clone)]
pub struct PlayConfig {
    /// The server's app.
    pub app: String,
    /// The app's address, as `connect` tells it.
    pub tc_url: String,
    /// The stream's name, query included: a secret.
    pub key: String,
    /// How much this side buffers, milliseconds. Zero asks for no burst beyond what is live.
    pub buffer: u32,
    /// Varies the handshake's filler, which need not be secret.
    pub seed: u64,
}

impl PlayConfig {
    /// What `url` names, unbuffered.
    ///
    /// # Errors
    /// If it is no RTMP address with a key.
    pub fn new(url: &str) -> Result<Self, ParseUrlError> {
        let url = RtmpUrl::parse(url)?;
        Ok(Self { tc_url: url.tc_url(), key: url.stream_name(), app: url.app, buffer: 0, seed: 0 })
    }
}

impl fmt::Debug for PlayConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PlayConfig({}/…)", self.tc_url)
    }
}

/// A client's session: [`ClientSession::publisher`] or [`ClientSession::player`].
///
/// ```text
///   handshake ─▶ connect · releaseStream · FCPublish · createStream, at once ─▶ publish ─▶ Publishing
///   handshake ─▶ connect · createStream, at once ─▶ SetBufferLength · play ─▶ Playing ─▶ Media … Ended
/// ```
///
/// The standard lets a client send its commands without awaiting each answer; only the stream's number, which
/// `createStream` returns, has to be waited for. From the first byte to `Publishing` it takes three round trips.
#[derive(Debug)]
pub struct ClientSession {
    carrier: Carrier,
    role: Role,
    state: State,
    events: VecDeque<ClientEvent>,
}

/// What a client's session tells.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientEvent {
    /// The server takes media.
    Publishing,
    /// The server begins to send media.
    Playing,
    /// A unit of the stream being played.
    Media(Unit),
    /// The server has ended the stream.
    Ended,
}

#[derive(Debug)]
enum Role {
    Publisher(PublishConfig),
    Player(PlayConfig),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before `connect`.
    Handshake,
    /// `connect` and `createStream` are sent.
    Creating,
    /// `publish` or `play` is sent.
    Starting { stream: u32 },
    /// Media flows.
    Active { stream: u32 },
    /// Ended by either side.
    Ended,
}

impl ClientSession {
    /// A session that publishes; `poll_output` has its first bytes.
    #[must_use]
    pub fn publisher(config: PublishConfig) -> Self {
        Self::new(config.seed, Role::Publisher(config))
    }

    /// A session that plays; `poll_output` has its first bytes.
    #[must_use]
    pub fn player(config: PlayConfig) -> Self {
        Self::new(config.seed, Role::Player(config))
    }

    fn new(seed: u64, role: Role) -> Self {
        Self { carrier: Carrier::client(seed), role, state: State::Handshake, events: VecDeque::new() }
    }

    /// Takes bytes from the server, in any split.
    ///
    /// # Errors
    /// If the server breaks the protocol or a limit, or refuses what is asked of it. The session is over then.
    pub fn handle_input(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        let result = self.take(&mut bytes);
        if result.is_err() {
            self.carrier.fail();
        }
        result
    }

    /// Where the server's next bytes are to be read to, as [`App::space`](crate::app::App::space) says it.
    pub fn space(&mut self) -> Option<Space<'_>> {
        self.carrier.space()
    }

    /// Takes `count` bytes that were read to where [`Self::space`] said.
    ///
    /// # Errors
    /// As [`Self::handle_input`].
    pub fn handle_placed(&mut self, count: usize) -> Result<(), Error> {
        let result = self.carrier.placed(count).map_or(Ok(()), |message| self.media(&message));
        if result.is_err() {
            self.carrier.fail();
        }
        result
    }

    /// The next thing to carry out, until `None`.
    pub fn poll_output(&mut self) -> Option<Output<ClientEvent>> {
        match self.carrier.take_output() {
            Some(bytes) => Some(Output::Transmit(bytes)),
            None => self.events.pop_front().map(Output::Event),
        }
    }

    /// Publishes a unit.
    ///
    /// # Errors
    /// [`Error::NotReady`] unless [`ClientEvent::Publishing`] has come and the stream has not ended,
    /// [`Error::TooLarge`] if the unit exceeds a message.
    pub fn send_media(&mut self, unit: &Unit) -> Result<(), Error> {
        match (&self.role, self.state) {
            (Role::Publisher(_), State::Active { stream }) => {
                media::send(&mut self.carrier, stream, unit, true)
            }
            (Role::Publisher(_) | Role::Player(_), _) => Err(Error::NotReady),
        }
    }

    /// Ends the stream in order. Drain `poll_output` and flush the connection.
    pub fn finish(&mut self) {
        if let State::Starting { stream } | State::Active { stream } = self.state {
            if let Role::Publisher(config) = &self.role {
                let name = Value::string(&config.key);
                self.carrier.command(&Message::command(0, "FCUnpublish", 6.0, &[Value::Null, name]));
            }
            let stream = Value::Number(f64::from(stream));
            self.carrier.command(&Message::command(0, "deleteStream", 7.0, &[Value::Null, stream]));
        }
        self.state = State::Ended;
    }

    /// Pings the server with a time of [`PingClock`](crate::rtmp::PingClock)'s; does nothing before the handshake is
    /// done. The answer comes by [`Self::poll_pong`].
    pub fn ping(&mut self, time: u32) {
        self.carrier.ping(time);
    }

    /// The time in the last answer to a ping, once. Whether there was such a ping is for the clock to say.
    pub const fn poll_pong(&mut self) -> Option<u32> {
        self.carrier.poll_pong()
    }

    /// Whether the handshake is done and nothing has failed.
    #[must_use]
    pub const fn is_established(&self) -> bool {
        self.carrier.is_established()
    }

    /// How many bytes the session holds: unfinished messages, output and events not yet polled.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        let events = self.events.iter().map(|event| match event {
            ClientEvent::Media(unit) => size_of::<ClientEvent>() + unit.payload.len(),
            ClientEvent::Publishing | ClientEvent::Playing | ClientEvent::Ended => size_of::<ClientEvent>(),
        });
        self.carrier.buffered_bytes() + events.sum::<usize>()
    }

    fn take(&mut self, bytes: &mut &[u8]) -> Result<(), Error> {
        if !self.carrier.handshake(bytes)? {
            return Ok(());
        }
        if self.state == State::Handshake {
            self.connect();
        }
        while let Some(message) = self.carrier.read(bytes)? {
            if message.kind == message::USER_CONTROL {
                // The only user control event that the carrier passes on is the end of the stream.
                self.ended();
            } else if media::is_media(message.kind) {
                self.media(&message)?;
            } else if let Some(command) = Command::parse(&message, KNOWN)? {
                self.command(&command)?;
            }
        }
        Ok(())
    }

    /// Sends everything that needs no answer to be sent.
    fn connect(&mut self) {
        let (app, tc_url, kind) = match &self.role {
            Role::Publisher(config) => (&config.app, &config.tc_url, Value::string("nonprivate")),
            Role::Player(config) => (&config.app, &config.tc_url, Value::Undefined),
        };
        let mut properties = vec![
            ("app".to_owned(), Value::string(app)),
            ("type".to_owned(), kind),
            ("flashVer".to_owned(), Value::string(FLASH_VERSION)),
            ("tcUrl".to_owned(), Value::string(tc_url)),
        ];
        if matches!(self.role, Role::Player(_)) {
            properties.retain(|(name, _)| name != "type");
            // Everything that a player can be sent is passed on, whatever its codec (§7.2.1.1).
            properties.push(("fpad".to_owned(), Value::Boolean(false)));
            properties.push(("audioCodecs".to_owned(), Value::Number(4071.0)));
            properties.push(("videoCodecs".to_owned(), Value::Number(252.0)));
            properties.push(("videoFunction".to_owned(), Value::Number(1.0)));
        }
        properties.extend(capabilities::offer());
        self.carrier.announce_chunk_size();
        self.call("connect", CONNECT, Value::Object(properties), &[]);
        if let Role::Publisher(config) = &self.role {
            let name = Value::string(&config.key);
            self.call("releaseStream", 2.0, Value::Null, std::slice::from_ref(&name));
            self.call("FCPublish", 3.0, Value::Null, &[name]);
        }
        self.call("createStream", CREATE_STREAM, Value::Null, &[]);
        self.state = State::Creating;
    }

    fn command(&mut self, command: &Command) -> Result<(), Error> {
        match command.name.as_str() {
            "_result" if command.transaction == CREATE_STREAM => self.created(command),
            "_error" if command.transaction == CONNECT => Err(self.refused("connect", command)),
            "_error" if command.transaction == CREATE_STREAM => Err(self.refused("createStream", command)),
            "onStatus" => self.status(command),
            // Flash Media Server's way to say good-bye.
            "close" => {
                self.ended();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn created(&mut self, command: &Command) -> Result<(), Error> {
        if self.state != State::Creating {
            return Err(Error::UnexpectedCommand("createStream's result"));
        }
        // A number that is not one becomes 0, which is no stream.
        let stream = command.number(0).unwrap_or(0.0) as u32;
        if stream == 0 {
            return Err(Error::UnexpectedCommand("createStream's result"));
        }
        let message = match &self.role {
            Role::Publisher(config) => {
                let values = [Value::Null, Value::string(&config.key), Value::string("live")];
                Message::command(stream, "publish", 5.0, &values)
            }
            Role::Player(config) => {
                let length = UserControl::SetBufferLength { stream, milliseconds: config.buffer };
                self.carrier.control(&length.message());
                let values = [Value::Null, Value::string(&config.key), Value::Number(LIVE_OR_RECORDED)];
                Message::command(stream, "play", 5.0, &values)
            }
        };
        self.carrier.command(&message);
        self.state = State::Starting { stream };
        Ok(())
    }

    fn status(&mut self, command: &Command) -> Result<(), Error> {
        let information = command.arguments.first().unwrap_or(&Value::Null);
        let text = |key| information.get(key).and_then(Value::as_str).unwrap_or_default();
        if text("level") == "error" && self.state != State::Ended {
            let name = match self.role {
                Role::Publisher(_) => "publish",
                Role::Player(_) => "play",
            };
            return Err(self.refused(name, command));
        }
        match (text("code"), &self.role, self.state) {
            ("NetStream.Publish.Start", Role::Publisher(_), State::Starting { stream }) => {
                self.state = State::Active { stream };
                self.events.push_back(ClientEvent::Publishing);
            }
            ("NetStream.Play.Start", Role::Player(_), State::Starting { stream }) => {
                self.state = State::Active { stream };
                self.events.push_back(ClientEvent::Playing);
            }
            ("NetStream.Play.Stop" | "NetStream.Play.Complete" | "NetStream.Play.UnpublishNotify", ..)
            | ("NetStream.Unpublish.Success" | "NetConnection.Connect.Closed", ..) => self.ended(),
            _ => {}
        }
        Ok(())
    }

    fn media(&mut self, message: &Message) -> Result<(), Error> {
        match (&self.role, self.state) {
            // Some servers send metadata before they say that playing begins, and ffmpeg as a server sends media on
            // message stream 0, whatever it promised. There is only one stream that it can belong to.
            (Role::Player(_), State::Starting { .. } | State::Active { .. }) => {
                media::units(message, &mut |unit| self.events.push_back(ClientEvent::Media(unit)))
            }
            (Role::Player(_) | Role::Publisher(_), _) => Ok(()),
        }
    }

    fn ended(&mut self) {
        if let State::Starting { .. } | State::Active { .. } = self.state {
            self.state = State::Ended;
            self.events.push_back(ClientEvent::Ended);
        }
    }

    /// The server's refusal in its own words, but for the key, which some servers repeat: an error is logged.
    fn refused(&self, name: &'static str, command: &Command) -> Error {
        let (Role::Publisher(PublishConfig { key, .. }) | Role::Player(PlayConfig { key, .. })) = &self.role;
        let bare = key.split_once('?').map_or(key.as_str(), |(bare, _)| bare);
        let text = |property| {
            let information = command.arguments.first().and_then(|value| value.get(property));
            let mut text = information.and_then(Value::as_str).unwrap_or_default().to_owned();
            for secret in [key.as_str(), bare].into_iter().filter(|secret| !secret.is_empty()) {
                text = text.replace(secret, "…");
            }
            one_line(&text)
        };
        Error::Refused { command: name, code: text("code"), description: text("description") }
    }

    fn call(&mut self, name: &str, transaction: f64, object: Value, arguments: &[Value]) {
        let mut values = vec![object];
        values.extend_from_slice(arguments);
        self.carrier.command(&Message::command(0, name, transaction, &values));
    }
}

/// The commands that are understood; others are passed over.
const KNOWN: &[&str] = &["_result", "_error", "onStatus", "close"];

const CONNECT: f64 = 1.0;
const CREATE_STREAM: f64 = 4.0;

/// `play`'s start: a live stream, or else a recorded one (§7.2.2.1), in the milliseconds that servers read it in.
const LIVE_OR_RECORDED: f64 = -2000.0;

/// What servers that look at it want to see; the name in brackets is free.
const FLASH_VERSION: &str = "FMLE/3.0 (compatible; punchcast)";
