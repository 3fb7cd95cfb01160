//! One connection's secure channel: states, deadlines, records.

mod open;

pub use open::{KEYFRAMES_PER_SECOND, PING_EVERY, PONGS_PER_SECOND, SILENCE, SILENCE_MAX, SILENT_TRIPS};

use super::keys::{CasterSecrets, ViewerSecrets};
use super::noise::{self, MESSAGE_LEN, Pending, Transport};
use super::record::{Bye, CONTROL, Control, LENGTH_LEN, MAX_RECORD, MIN_RECORD, PING_RECORD, STREAM};
use super::{EndReason, Event, Facts, LinkError, Output};
use crate::id::SessionId;
use bytes::{Buf, Bytes, BytesMut};
use open::{Open, Stage};
use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

/// How long a handshake may take, from the connection to the proof. Two round trips and two retransmissions of a
/// lost packet (1 s, 2 s) fit; a stranger's silent connection is gone after it.
pub const HANDSHAKE_TIME: Duration = Duration::from_secs(5);

/// How long a viewer keeps an established link that the caster does not nominate. A caster decides within a round
/// trip or two, or at once when a better rung comes to nothing within its budget of some seconds.
pub const SPARE_TIME: Duration = Duration::from_secs(30);

/// The secure channel over one connection. See the [module's](super) life cycle.
pub struct Channel {
    state: State,
    /// The beginning of a frame whose end has not arrived. Never longer than one frame that the state allows.
    partial: Vec<u8>,
    /// Where records are decrypted; its bytes become [`Event::Stream`] without another copy.
    plain: BytesMut,
    outbox: Vec<u8>,
    events: VecDeque<Event>,
}

enum State {
    /// Viewer: waits for message 1. Nothing is computed for a connection that sends nothing.
    Greeting { secrets: Box<ViewerSecrets>, facts: Facts, until: Instant },
    /// Caster: has sent message 1, waits for message 2.
    Calling { pending: Box<Pending>, sent: Instant, until: Instant },
    /// Viewer: has sent message 2, waits for the record that no replay can make.
    Proving { transport: Box<Transport>, theirs: Facts, sent: Instant, until: Instant },
    /// Both ends are proven.
    Open(Box<Open>),
    /// Over; input is ignored.
    Ended,
}

impl Channel {
    /// The caster's end; message 1 is in the output at once and tells `facts`.
    #[must_use]
    pub fn caster(now: Instant, secrets: &CasterSecrets, facts: Facts) -> Self {
        match noise::start(secrets, facts.to_bytes()) {
            Ok((pending, message)) => {
                let until = now + HANDSHAKE_TIME;
                let mut channel = Self::new(State::Calling { pending: Box::new(pending), sent: now, until });
                channel.send_handshake(&message);
                channel
            }
            Err(error) => {
                let mut channel = Self::new(State::Ended);
                channel.events.push_back(Event::Ended(EndReason::Failed(error)));
                channel
            }
        }
    }

    /// The viewer's end; silent until the other end has shown the ticket, then tells `facts`.
    #[must_use]
    pub fn viewer(now: Instant, secrets: &ViewerSecrets, facts: Facts) -> Self {
        let until = now + HANDSHAKE_TIME;
        Self::new(State::Greeting { secrets: Box::new(secrets.clone()), facts, until })
    }

    fn new(state: State) -> Self {
        Self {
            state,
            partial: Vec::new(),
            plain: BytesMut::new(),
            outbox: Vec::new(),
            events: VecDeque::new(),
        }
    }

    /// Whether the other end has proven itself and the channel goes on.
    #[must_use]
    pub const fn is_established(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    /// Whether this is the chosen link and goes on.
    #[must_use]
    pub fn is_nominated(&self) -> bool {
        matches!(&self.state, State::Open(open) if open.stage == Stage::Nominated)
    }

    /// Whether the channel is over.
    #[must_use]
    pub const fn is_ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// Takes bytes of the connection, in any split. After the end they are ignored.
    ///
    /// # Errors
    ///
    /// What is wrong with them; the same comes as [`Event::Ended`], nothing more is sent, and the connection is to
    /// be closed at once. Stream bytes of whole records before the wrong one are still delivered.
    pub fn handle_input(&mut self, now: Instant, bytes: &[u8]) -> Result<(), LinkError> {
        let result = self.take_frames(now, bytes);
        if let Err(error) = result {
            self.outbox.clear();
            self.finish(EndReason::Failed(error));
        }
        result
    }

    /// Takes the passing of time.
    pub fn handle_timeout(&mut self, now: Instant) {
        let over = match &mut self.state {
            State::Greeting { until, .. } | State::Calling { until, .. } | State::Proving { until, .. } => {
                (now >= *until).then_some(EndReason::Late)
            }
            State::Open(open) if now >= open.silent_at() => Some(EndReason::Silent),
            State::Open(open) => match open.stage {
                Stage::Waiting { until } if now >= until => Some(EndReason::NotNominated),
                Stage::Deciding | Stage::Waiting { .. } | Stage::Nominated => None,
            },
            State::Ended => None,
        };
        let sent = match (over, &mut self.state) {
            (Some(reason), _) => {
                self.finish(reason);
                Ok(())
            }
            (None, State::Open(open)) if now >= open.ping_at => open.ping(now, &mut self.outbox),
            (None, State::Open(open)) => open.tell_receipt(now, &mut self.outbox),
            (None, _) => Ok(()),
        };
        if let Err(error) = sent {
            self.finish(EndReason::Failed(error));
        }
    }

    /// When [`Self::handle_timeout`] is wanted, and why.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        match &self.state {
            State::Greeting { until, .. } => Some((*until, "link: no first message")),
            State::Calling { until, .. } => Some((*until, "link: no answer from the viewer")),
            State::Proving { until, .. } => Some((*until, "link: no proof from the caster")),
            State::Open(open) => {
                let alive = (open.ping_at, "link: ping");
                let silent = (open.silent_at(), "link: silence");
                let mut soonest = if silent.0 < alive.0 { silent } else { alive };
                if let Some(at) = open.receipts.poll_timeout().filter(|at| *at < soonest.0) {
                    soonest = (at, "link: receipt");
                }
                match open.stage {
                    Stage::Waiting { until } if until < soonest.0 => Some((until, "link: no nomination")),
                    Stage::Deciding | Stage::Waiting { .. } | Stage::Nominated => Some(soonest),
                }
            }
            State::Ended => None,
        }
    }

    /// The next thing for the application, until `None`.
    pub fn poll_output(&mut self) -> Option<Output> {
        if let State::Open(open) = &mut self.state
            && let Err(error) = open.seal_stream(&mut self.outbox)
        {
            self.finish(EndReason::Failed(error));
        }
        if !self.outbox.is_empty() {
            return Some(Output::Transmit(std::mem::take(&mut self.outbox)));
        }
        self.events.pop_front().map(Output::Event)
    }

    /// The caster chooses this link for the stream. Again is the same as once.
    ///
    /// # Errors
    ///
    /// [`LinkError::NotOpen`] before [`Event::Established`], after the end, and at a viewer's end.
    pub fn nominate(&mut self) -> Result<(), LinkError> {
        let State::Open(open) = &mut self.state else { return Err(LinkError::NotOpen) };
        match open.stage {
            Stage::Deciding => {
                open.stage = Stage::Nominated;
                open.send(Control::Nominate, &mut self.outbox)
            }
            Stage::Nominated => Ok(()),
            Stage::Waiting { .. } => Err(LinkError::NotOpen),
        }
    }

    /// Sends stream bytes: the next [`Output::Transmit`] has all that were handed over until then, in as few records as it
    /// takes.
    ///
    /// # Errors
    ///
    /// [`LinkError::NotOpen`] unless the link is nominated.
    pub fn send_stream(&mut self, now: Instant, bytes: Bytes) -> Result<(), LinkError> {
        let State::Open(open) = &mut self.state else { return Err(LinkError::NotOpen) };
        if open.stage != Stage::Nominated {
            return Err(LinkError::NotOpen);
        }
        if open.casts {
            open.flow.sent(now, bytes.len());
        }
        if !bytes.is_empty() {
            open.unsealed.push_back(bytes);
        }
        Ok(())
    }

    /// Whether the line takes more without a picture waiting in it; if not, [`Event::Room`] tells when. Advice for a caster's
    /// media: what is sent all the same only waits.
    #[must_use]
    pub fn has_room(&mut self) -> bool {
        match &mut self.state {
            State::Open(open) => !open.casts || open.flow.has_room(),
            State::Greeting { .. } | State::Calling { .. } | State::Proving { .. } | State::Ended => true,
        }
    }

    /// Bytes a second that the line carried when it was full last; `None` while it never was.
    #[must_use]
    pub fn rate(&self) -> Option<u64> {
        if let State::Open(open) = &self.state { open.flow.rate() } else { None }
    }

    /// Bytes of the stream that the viewer has told of (a caster's end).
    #[must_use]
    pub fn arrived(&self) -> u64 {
        if let State::Open(open) = &self.state { open.flow.arrived() } else { 0 }
    }

    /// Whether the line is left alone until what is on its way has arrived, as that was too much for it.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        matches!(&self.state, State::Open(open) if open.flow.is_draining())
    }

    /// Bytes a second that the line carries of what was too much for it, once that takes long: it has become slower.
    #[must_use]
    pub fn sudden_rate(&self) -> Option<u64> {
        if let State::Open(open) = &self.state { open.flow.sudden_rate() } else { None }
    }

    /// Tells the viewer which introduction led to this link.
    ///
    /// # Errors
    ///
    /// [`LinkError::NotOpen`] unless the link is nominated, and at a viewer's end.
    pub fn name_session(&mut self, session: SessionId) -> Result<(), LinkError> {
        let (open, outbox) = self.nominated(true)?;
        open.send(Control::Session(session), outbox)
    }

    /// Tells the viewer when the picture that is sent next was made: before its bytes go to [`Self::send_stream`].
    ///
    /// # Errors
    ///
    /// [`LinkError::NotOpen`] unless the link is nominated, and at a viewer's end.
    pub fn stamp(&mut self, timestamp: u32, made: Instant) -> Result<(), LinkError> {
        let (open, outbox) = self.nominated(true)?;
        let clock = open.clock(made);
        open.send(Control::Stamp(timestamp, clock), outbox)
    }

    /// Asks the caster for a keyframe.
    ///
    /// # Errors
    ///
    /// [`LinkError::NotOpen`] unless the link is nominated, and at a caster's end.
    pub fn want_keyframe(&mut self) -> Result<(), LinkError> {
        let (open, outbox) = self.nominated(false)?;
        open.send(Control::WantKeyframe, outbox)
    }

    /// The open channel of a nominated link, if ours is that end.
    fn nominated(&mut self, casts: bool) -> Result<(&mut Open, &mut Vec<u8>), LinkError> {
        match &mut self.state {
            State::Open(open) if open.stage == Stage::Nominated && open.casts == casts => {
                Ok((open, &mut self.outbox))
            }
            State::Open(_)
            | State::Greeting { .. }
            | State::Calling { .. }
            | State::Proving { .. }
            | State::Ended => Err(LinkError::NotOpen),
        }
    }

    /// Ends the channel on purpose; an established peer is told. What is in the output is still to be sent. No
    /// [`Event::Ended`] follows.
    pub fn end(&mut self, bye: Bye) {
        if let State::Open(open) = &mut self.state {
            // Without randomness or keys there is nothing to say; the peer sees the connection close.
            let _ = open.send(Control::Bye(bye), &mut self.outbox);
        } else {
            self.outbox.clear();
        }
        self.state = State::Ended;
        self.partial = Vec::new();
    }

    fn finish(&mut self, reason: EndReason) {
        self.state = State::Ended;
        self.partial = Vec::new();
        self.events.push_back(Event::Ended(reason));
    }

    fn send_handshake(&mut self, message: &[u8; MESSAGE_LEN]) {
        // The high byte is 0, never the 3 with which RTMP begins, so that one port can tell the two apart.
        self.outbox.extend_from_slice(&(MESSAGE_LEN as u16).to_be_bytes());
        self.outbox.extend_from_slice(message);
    }

    /// Cuts the input into frames. Whole frames are read where they lie; only a last, partial one is copied.
    fn take_frames(&mut self, now: Instant, mut input: &[u8]) -> Result<(), LinkError> {
        if !self.partial.is_empty() {
            let mut frame = std::mem::take(&mut self.partial);
            let whole = self.complete(&mut frame, &mut input)?;
            if whole {
                self.take_frame(now, &frame[LENGTH_LEN..])?;
                frame.clear();
            }
            if !matches!(self.state, State::Ended) {
                self.partial = frame;
            }
        }
        while let Some(&[high, low]) = input.first_chunk() {
            let end = LENGTH_LEN + self.allowed(u16::from_be_bytes([high, low]))?;
            let Some(frame) = input.get(LENGTH_LEN..end) else { break };
            self.take_frame(now, frame)?;
            input = &input[end..];
        }
        if !matches!(self.state, State::Ended) {
            self.partial.extend_from_slice(input);
        }
        Ok(())
    }

    /// Moves what `frame` lacks from `input`; whether it is whole. The length is judged as soon as it is there.
    fn complete(&self, frame: &mut Vec<u8>, input: &mut &[u8]) -> Result<bool, LinkError> {
        let mut fill = |frame: &mut Vec<u8>, to: usize| {
            let (part, rest) = input.split_at(input.len().min(to.saturating_sub(frame.len())));
            frame.extend_from_slice(part);
            *input = rest;
        };
        fill(frame, LENGTH_LEN);
        let Some(&[high, low]) = frame.first_chunk() else { return Ok(false) };
        let end = LENGTH_LEN + self.allowed(u16::from_be_bytes([high, low]))?;
        fill(frame, end);
        Ok(frame.len() == end)
    }

    /// Whether a frame may have this length now. Before the proof exactly one length is right, so a stranger is told
    /// by two bytes, and makes us keep no more than 59.
    fn allowed(&self, length: u16) -> Result<usize, LinkError> {
        let length = usize::from(length);
        let (range, error) = match self.state {
            State::Greeting { .. } | State::Calling { .. } => {
                (MESSAGE_LEN..=MESSAGE_LEN, LinkError::NotALink)
            }
            State::Proving { .. } => (PING_RECORD..=PING_RECORD, LinkError::Forged),
            State::Open(_) => (MIN_RECORD..=MAX_RECORD, LinkError::Malformed),
            State::Ended => return Ok(length),
        };
        if range.contains(&length) { Ok(length) } else { Err(error) }
    }

    fn take_frame(&mut self, now: Instant, frame: &[u8]) -> Result<(), LinkError> {
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Greeting { secrets, facts, until } => {
                let (transport, answer, theirs) = noise::respond(&secrets, frame, facts.to_bytes())?;
                self.send_handshake(&answer);
                let theirs = Facts::from_bytes(theirs);
                self.state = State::Proving { transport: Box::new(transport), theirs, sent: now, until };
                Ok(())
            }
            State::Calling { pending, sent, .. } => {
                let (transport, theirs) = pending.finish(frame)?;
                let mut open = Open::new(now, transport, Stage::Deciding);
                open.ping(now, &mut self.outbox)?;
                self.open(open, Facts::from_bytes(theirs), now.saturating_duration_since(sent));
                Ok(())
            }
            State::Proving { mut transport, theirs, sent, .. } => {
                let mut plain = [0; PING_RECORD];
                let len = transport.open(frame, &mut plain)?;
                let [CONTROL, control @ ..] = &plain[..len] else { return Err(LinkError::Malformed) };
                let Control::Ping(number) = Control::parse(control)? else {
                    return Err(LinkError::Malformed);
                };
                let mut open = Open::new(now, *transport, Stage::Waiting { until: now + SPARE_TIME });
                open.pong(now, number, &mut self.outbox)?;
                // The caster's clock is wanted before its first picture.
                open.ping(now, &mut self.outbox)?;
                self.open(open, theirs, now.saturating_duration_since(sent));
                Ok(())
            }
            State::Open(open) => self.take_record(now, open, frame),
            State::Ended => Ok(()),
        }
    }

    fn open(&mut self, mut open: Open, theirs: Facts, rtt: Duration) {
        open.way = rtt;
        self.state = State::Open(Box::new(open));
        self.events.push_back(Event::Established(theirs));
        self.events.push_back(Event::Rtt(rtt));
    }

    fn take_record(&mut self, now: Instant, mut open: Box<Open>, sealed: &[u8]) -> Result<(), LinkError> {
        self.plain.clear();
        self.plain.resize(sealed.len(), 0);
        let len = open.transport.open(sealed, &mut self.plain)?;
        self.plain.truncate(len);
        open.heard = now;
        match self.plain.first() {
            Some(&CONTROL) => {
                let control = Control::parse(&self.plain[1..])?;
                if let Control::Bye(bye) = control {
                    self.finish(EndReason::Bye(bye));
                    return Ok(());
                }
                if let Some(event) = open.take_control(now, control, &mut self.outbox)? {
                    self.events.push_back(event);
                }
            }
            Some(&STREAM) if len > 1 && open.stage == Stage::Nominated => {
                let mut record = self.plain.split().freeze();
                record.advance(1);
                open.took(now, record.len());
                self.events.push_back(Event::Stream(record));
            }
            _ => return Err(LinkError::Malformed),
        }
        self.state = State::Open(open);
        Ok(())
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.state {
            State::Greeting { .. } => "Channel(greeting)",
            State::Calling { .. } => "Channel(calling)",
            State::Proving { .. } => "Channel(proving)",
            State::Open(open) if open.stage == Stage::Nominated => "Channel(nominated)",
            State::Open(_) => "Channel(established)",
            State::Ended => "Channel(ended)",
        })
    }
}
