//! What both ends of a proven channel do: pings, silence, receipts, control messages.

use crate::link::clock::PeerClock;
use crate::link::flow::{Flow, Receipts};
use crate::link::noise::Transport;
use crate::link::record::{Control, LENGTH_LEN, MIN_RECORD, STREAM, STREAM_CHUNK};
use crate::link::{Event, LinkError};
use bytes::Bytes;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The time between two pings of an established channel: often enough for a round-trip time that is worth showing
/// and for a NAT's shortest timer, at 28 bytes each way.
pub const PING_EVERY: Duration = Duration::from_secs(1);

/// A channel that heard no record for this long is dead. TCP resends a lost packet after about 0.2, 0.4, 0.8 and
/// 1.6 s, 3 s in all; a live picture that stands still for longer is better served by a new link, which takes less.
///
/// Where [`SILENT_TRIPS`] take longer, they are waited for.
pub const SILENCE: Duration = Duration::from_secs(3);

/// The same in round trips, by the shortest seen. Over long ways TCP resends the later (RFC 6298, section 2): three times in
/// seven of its timeouts, which are no shorter than a round trip.
pub const SILENT_TRIPS: u32 = 7;

/// The longest that a silence may be, however long the way: nobody watches a picture over one of more than a second.
pub const SILENCE_MAX: Duration = Duration::from_secs(10);

/// How many pings are answered in one second. The peer sends one; an end that floods with pings and never reads must
/// not fill our send queue with answers.
pub const PONGS_PER_SECOND: u8 = 8;

/// How many requests for a keyframe in one second are told. A keyframe costs as much as a dozen other pictures, and a
/// viewer whose decoder stumbles at each of them is not helped by more.
pub const KEYFRAMES_PER_SECOND: u8 = 4;

/// Pings on the way whose time of sending is remembered: as many as fit into [`SILENCE_MAX`].
const PINGS_KEPT: usize = (SILENCE_MAX.as_secs() / PING_EVERY.as_secs()) as usize;

/// A channel whose ends are proven.
pub(super) struct Open {
    pub(super) transport: Transport,
    /// Stream bytes to be sealed: in one go, so that no record is shorter than it need be.
    pub(super) unsealed: VecDeque<Bytes>,
    /// Ours is the caster's end.
    pub(super) casts: bool,
    pub(super) stage: Stage,
    pub(super) heard: Instant,
    /// The shortest round trip.
    pub(super) way: Duration,
    pub(super) ping_at: Instant,
    next_ping: u64,
    /// Pings under way, oldest first.
    pings: VecDeque<(u64, Instant)>,
    pongs: Quota,
    keyframes: Quota,
    /// Our clock's zero.
    epoch: Instant,
    theirs: PeerClock,
    /// Of the stream that we send.
    pub(super) flow: Flow,
    /// Of the stream that we receive.
    pub(super) receipts: Receipts,
}

/// So many in a second.
struct Quota {
    since: Instant,
    used: u8,
}

impl Quota {
    const fn new(now: Instant) -> Self {
        Self { since: now, used: 0 }
    }

    fn take(&mut self, now: Instant, most: u8) -> bool {
        if now.saturating_duration_since(self.since) >= Duration::from_secs(1) {
            *self = Self::new(now);
        }
        let allowed = self.used < most;
        self.used += u8::from(allowed);
        allowed
    }
}

/// Only a viewer waits for a nomination; a caster decides when.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Deciding,
    Waiting { until: Instant },
    Nominated,
}

impl Open {
    pub(super) fn new(now: Instant, transport: Transport, stage: Stage) -> Self {
        Self {
            transport,
            unsealed: VecDeque::new(),
            casts: stage == Stage::Deciding,
            stage,
            heard: now,
            way: Duration::ZERO,
            ping_at: now + PING_EVERY,
            next_ping: 0,
            pings: VecDeque::new(),
            pongs: Quota::new(now),
            keyframes: Quota::new(now),
            epoch: now,
            theirs: PeerClock::default(),
            flow: Flow::new(now),
            receipts: Receipts::new(),
        }
    }

    /// Seals a control message, after what waits of the stream.
    pub(super) fn send(&mut self, control: Control, outbox: &mut Vec<u8>) -> Result<(), LinkError> {
        self.seal_stream(outbox)?;
        let (control, len) = control.encode();
        self.transport.seal(outbox, |plain| plain.extend_from_slice(&control[..len]))
    }

    /// Seals what waits of the stream, in as few records as it takes.
    pub(super) fn seal_stream(&mut self, outbox: &mut Vec<u8>) -> Result<(), LinkError> {
        let len: usize = self.unsealed.iter().map(Bytes::len).sum();
        outbox.reserve(len + len.div_ceil(STREAM_CHUNK) * (LENGTH_LEN + MIN_RECORD));
        while !self.unsealed.is_empty() {
            let unsealed = &mut self.unsealed;
            self.transport.seal(outbox, |plain| {
                plain.push(STREAM);
                let mut room = STREAM_CHUNK;
                while room > 0
                    && let Some(piece) = unsealed.front_mut()
                {
                    let part = piece.split_to(piece.len().min(room));
                    plain.extend_from_slice(&part);
                    room -= part.len();
                    if piece.is_empty() {
                        unsealed.pop_front();
                    }
                }
            })?;
        }
        Ok(())
    }

    pub(super) fn ping(&mut self, now: Instant, outbox: &mut Vec<u8>) -> Result<(), LinkError> {
        if self.pings.len() == PINGS_KEPT {
            self.pings.pop_front();
        }
        let number = self.next_ping;
        self.next_ping += 1;
        self.pings.push_back((number, now));
        self.ping_at = now + PING_EVERY;
        self.send(Control::Ping(number), outbox)
    }

    pub(super) fn pong(&mut self, now: Instant, number: u64, outbox: &mut Vec<u8>) -> Result<(), LinkError> {
        if !self.pongs.take(now, PONGS_PER_SECOND) {
            return Ok(());
        }
        self.send(Control::Pong(number, self.clock(now)), outbox)
    }

    /// Counts stream bytes that came, of which a caster is told when it is time.
    pub(super) fn took(&mut self, now: Instant, bytes: usize) {
        if !self.casts {
            self.receipts.took(now, bytes);
        }
    }

    pub(super) fn tell_receipt(&mut self, now: Instant, outbox: &mut Vec<u8>) -> Result<(), LinkError> {
        match self.receipts.due(now) {
            Some(received) => self.send(Control::Received(received, self.clock(now)), outbox),
            None => Ok(()),
        }
    }

    /// When the other end is given up: nothing was heard of it, or nothing of the stream that is on its way, without which
    /// a caster would wait for room for ever.
    pub(super) fn silent_at(&self) -> Instant {
        let since = self.flow.untold_since().map_or(self.heard, |untold| untold.min(self.heard));
        since + (self.way * SILENT_TRIPS).clamp(SILENCE, SILENCE_MAX)
    }

    /// Our clock at `at`, in microseconds.
    pub(super) fn clock(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.epoch).as_micros()).unwrap_or(u64::MAX)
    }

    pub(super) fn take_control(
        &mut self,
        now: Instant,
        control: Control,
        outbox: &mut Vec<u8>,
    ) -> Result<Option<Event>, LinkError> {
        match (control, self.stage) {
            (Control::Nominate, Stage::Waiting { .. }) => {
                self.stage = Stage::Nominated;
                Ok(Some(Event::Nominated))
            }
            (Control::Ping(number), _) => self.pong(now, number, outbox).map(|()| None),
            (Control::Pong(number, clock), _) => Ok(self.rtt(now, number, clock).map(Event::Rtt)),
            (Control::WantKeyframe, Stage::Nominated) if self.casts => {
                Ok(self.keyframes.take(now, KEYFRAMES_PER_SECOND).then_some(Event::KeyframeWanted))
            }
            (Control::Stamp(timestamp, clock), Stage::Nominated) if !self.casts => {
                Ok(self.theirs.ours(clock).map(|made| Event::Stamp { timestamp, made }))
            }
            (Control::Session(session), Stage::Nominated) if !self.casts => Ok(Some(Event::Session(session))),
            (Control::Received(bytes, clock), Stage::Nominated) if self.casts => {
                let had_room = self.flow.has_room();
                if !self.flow.receipt(now, bytes, clock) {
                    return Err(LinkError::Malformed);
                }
                Ok((!had_room && self.flow.has_room()).then_some(Event::Room))
            }
            (Control::Nominate, Stage::Deciding | Stage::Nominated)
            | (
                Control::WantKeyframe
                | Control::Stamp(..)
                | Control::Received(..)
                | Control::Session(_)
                | Control::Bye(_),
                _,
            ) => Err(LinkError::Malformed),
        }
    }

    /// The time since the ping that `number` answers; older ones were not answered and never will be.
    fn rtt(&mut self, now: Instant, number: u64, clock: u64) -> Option<Duration> {
        let at = self.pings.iter().position(|&(sent, _)| sent == number)?;
        let (_, sent) = self.pings.drain(..=at).next_back()?;
        self.theirs.note(sent, now, clock);
        let rtt = now.saturating_duration_since(sent);
        self.way = self.way.min(rtt);
        Some(rtt)
    }
}
