//! The byte stream of an established socket: in order, resent when lost, held back by the reader's window.
//!
//! There is no congestion control: what may be under way is one fixed window. A link with a rate makes it wait.

use super::{Effects, Happening};
use crate::packet::Segment;
use punchcast::app::{FLUSH_TIME, NetError};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Both halves of a stream.
#[derive(Debug)]
pub(super) struct Stream {
    /// The next byte that we expect.
    pub(super) rcv_next: u32,
    /// How much the peer takes.
    pub(super) peer_window: u32,
    snd_next: u32,
    unsent: VecDeque<u8>,
    flight: VecDeque<Sent>,
    fin: Fin,
    /// Whether the application was told that it sends faster than the socket takes.
    backlogged: bool,
    /// Segments that came before their turn.
    early: BTreeMap<u32, Segment>,
    unread: VecDeque<u8>,
    reading: bool,
    peer_fin: PeerFin,
    /// Whether our FIN was asked for before the peer's came.
    closed_first: bool,
    /// A flush must be done by then; then, a finished half must be.
    orphan_by: Option<Duration>,
    rto_at: Option<Duration>,
    backoff: u32,
    /// Smoothed round trip and its variation, RFC 6298.
    rtt: Option<(Duration, Duration)>,
    /// After a time-out: when, and what was under way then.
    repair: Option<(Duration, u32)>,
}

#[derive(Debug)]
struct Sent {
    seq: u32,
    data: Vec<u8>,
    fin: bool,
    /// When, the last time.
    at: Duration,
    /// Whether more than once: then its acknowledgement times nothing (Karn).
    again: bool,
    /// Whether the peer has it, before its turn.
    early: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fin {
    None,
    Queued,
    Sent,
    Acknowledged,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PeerFin {
    None,
    Received,
    Told,
}

impl Stream {
    pub(super) fn new(iss: u32, rcv_next: u32) -> Self {
        Self {
            rcv_next,
            peer_window: 0,
            snd_next: iss.wrapping_add(1),
            unsent: VecDeque::new(),
            flight: VecDeque::new(),
            fin: Fin::None,
            backlogged: false,
            early: BTreeMap::new(),
            unread: VecDeque::new(),
            reading: true,
            peer_fin: PeerFin::None,
            closed_first: false,
            orphan_by: None,
            rto_at: None,
            backoff: 0,
            rtt: None,
            repair: None,
        }
    }

    pub(super) fn deadline(&self) -> Option<Duration> {
        self.rto_at.into_iter().chain(self.orphan_by).min()
    }

    pub(super) fn window(&self) -> u32 {
        WINDOW.saturating_sub(u32::try_from(self.unread.len()).unwrap_or(WINDOW))
    }

    pub(super) fn has_unread(&self) -> bool {
        !self.unread.is_empty()
    }

    /// Whether both halves have ended and ours is acknowledged.
    pub(super) fn is_finished(&self) -> bool {
        self.fin == Fin::Acknowledged && self.peer_fin != PeerFin::None
    }

    pub(super) const fn closed_first(&self) -> bool {
        self.closed_first
    }

    pub(super) fn acknowledgement(&self) -> Segment {
        let early = self.early.keys().copied().collect();
        Segment {
            seq: self.snd_next,
            ack: Some(self.rcv_next),
            window: self.window(),
            early,
            ..Segment::default()
        }
    }

    pub(super) fn reset(&self) -> Segment {
        Segment { seq: self.snd_next, ack: Some(self.rcv_next), rst: true, ..Segment::default() }
    }

    pub(super) fn in_window(&self, seq: u32) -> bool {
        seq.wrapping_sub(self.rcv_next) <= self.window()
    }

    /// Whether the segment has bytes that were not here before.
    pub(super) fn is_new(&self, segment: &Segment) -> bool {
        before(self.rcv_next, segment.seq.wrapping_add(segment.len()))
    }

    pub(super) fn send(&mut self, now: Duration, bytes: &[u8], fx: &mut Effects) {
        self.unsent.extend(bytes);
        self.push(now, fx);
        if !self.backlogged && self.queued() > SEND_BUFFER {
            self.backlogged = true;
            fx.happened.push(Happening::Backlogged);
        }
    }

    pub(super) fn read(&mut self, on: bool, fx: &mut Effects) {
        let was_shut = self.window() < SEGMENT;
        self.reading = on;
        self.deliver(fx);
        if on && was_shut && self.window() >= SEGMENT {
            fx.out.push(self.acknowledgement());
        }
    }

    /// Sends FIN after what is queued.
    pub(super) fn finish(&mut self, now: Duration, fx: &mut Effects) {
        self.fin = Fin::Queued;
        self.closed_first = self.peer_fin == PeerFin::None;
        self.orphan_by = Some(now + FLUSH_TIME);
        self.push(now, fx);
    }

    pub(super) fn segment(&mut self, now: Duration, segment: &Segment, fx: &mut Effects) {
        if let Some(ack) = segment.ack {
            self.acknowledged(now, ack, segment, fx);
        }
        if segment.len() > 0 {
            self.received(segment, fx);
        }
        self.push(now, fx);
    }

    pub(super) fn timeout(&mut self, now: Duration, orphan: bool, fx: &mut Effects) {
        if self.orphan_by.is_some_and(|by| by <= now) {
            if self.fin == Fin::Acknowledged {
                fx.happened.push(Happening::Gone);
                return;
            }
            // What the driver still holds is lost with it; what the kernel holds goes on for a while.
            if self.queued() > SEND_BUFFER {
                fx.out.push(self.reset());
                fx.happened.push(Happening::Gone);
                return;
            }
            self.orphan_by = None;
        }
        if self.rto_at.is_none_or(|at| at > now) {
            return;
        }
        self.backoff += 1;
        if self.backoff > if orphan { ORPHAN_TRIES } else { DATA_TRIES } {
            fx.happened.push(Happening::Broken(NetError::TimedOut));
            return;
        }
        if self.flight.is_empty() {
            self.transmit(now, 1, fx);
        } else {
            self.repair = Some((now, self.snd_next));
            self.resend_first(now, fx);
        }
        self.arm(now);
    }

    fn acknowledged(&mut self, now: Duration, ack: u32, segment: &Segment, fx: &mut Effects) {
        self.peer_window = segment.window;
        if before(self.snd_next, ack) {
            return;
        }
        let mut advanced = false;
        while let Some(first) = self.flight.front() {
            let end = first.seq.wrapping_add(first.len());
            if before(ack, end) {
                break;
            }
            if !first.again && !first.early {
                self.rtt = Some(smooth(self.rtt, now.saturating_sub(first.at)));
            }
            if first.fin {
                self.fin = Fin::Acknowledged;
                self.orphan_by = Some(now + FIN_WAIT);
            }
            advanced = true;
            self.flight.pop_front();
        }
        if advanced {
            self.backoff = 0;
            match self.repair {
                Some((since, to)) if before(ack, to) => {
                    if self.flight.front().is_some_and(|first| first.at < since) {
                        self.resend_first(now, fx);
                    }
                }
                Some(_) | None => self.repair = None,
            }
            self.rto_at = None;
            self.arm(now);
        }
        for sent in self.flight.iter_mut().filter(|sent| !sent.early && segment.early.contains(&sent.seq)) {
            sent.early = true;
            if !sent.again {
                self.rtt = Some(smooth(self.rtt, now.saturating_sub(sent.at)));
            }
        }
        self.resend_overtaken(now, fx);
    }

    /// Sends again what the peer lacks though it has a later segment. Links keep the order, so that is proof enough;
    /// kernels wait a moment longer (RFC 8985).
    fn resend_overtaken(&mut self, now: Duration, fx: &mut Effects) {
        let round_trip = self.rtt.map_or(MIN_RTO, |(mean, _)| mean);
        let mut overtaken = false;
        let mut lost = Vec::new();
        for (index, sent) in self.flight.iter_mut().enumerate().rev() {
            if sent.early {
                overtaken = true;
            } else if overtaken && (!sent.again || sent.at + round_trip * 2 <= now) {
                (sent.at, sent.again) = (now, true);
                lost.push(index);
            }
        }
        for index in lost.into_iter().rev() {
            fx.out.push(self.segment_of(&self.flight[index]));
        }
    }

    fn received(&mut self, segment: &Segment, fx: &mut Effects) {
        let fits = segment.seq.wrapping_sub(self.rcv_next) < WINDOW || !before(self.rcv_next, segment.seq);
        if fits && self.is_new(segment) && self.window() > 0 {
            self.early.insert(segment.seq, segment.clone());
        }
        while let Some(seq) = self.early.keys().copied().find(|seq| !before(self.rcv_next, *seq)) {
            let segment = self.early.remove(&seq).expect("the key was just found");
            if !self.is_new(&segment) {
                continue;
            }
            let known = self.rcv_next.wrapping_sub(seq) as usize;
            self.unread.extend(segment.data.iter().skip(known));
            self.rcv_next = seq.wrapping_add(segment.len());
            if segment.fin {
                self.peer_fin = PeerFin::Received;
            }
        }
        self.deliver(fx);
        fx.out.push(self.acknowledgement());
    }

    fn deliver(&mut self, fx: &mut Effects) {
        if !self.reading {
            return;
        }
        if !self.unread.is_empty() {
            fx.happened.push(Happening::Data(self.unread.drain(..).collect()));
        }
        if self.peer_fin == PeerFin::Received {
            self.peer_fin = PeerFin::Told;
            fx.happened.push(Happening::PeerClosed);
        }
    }

    /// Sends what the window lets out.
    fn push(&mut self, now: Duration, fx: &mut Effects) {
        let allowed = self.peer_window.min(WINDOW) as usize;
        while !self.unsent.is_empty() && self.under_way() < allowed {
            let len = (allowed - self.under_way()).min(SEGMENT as usize);
            self.transmit(now, len, fx);
        }
        if self.unsent.is_empty() && self.fin == Fin::Queued {
            self.fin = Fin::Sent;
            self.transmit(now, 0, fx);
        }
        if !self.flight.is_empty() || !self.unsent.is_empty() {
            self.arm(now);
        }
        if self.backlogged && self.queued() <= SEND_BUFFER {
            self.backlogged = false;
            fx.happened.push(Happening::Drained);
        }
    }

    fn transmit(&mut self, now: Duration, len: usize, fx: &mut Effects) {
        let data: Vec<u8> = self.unsent.drain(..len.min(self.unsent.len())).collect();
        let fin = self.fin == Fin::Sent && self.unsent.is_empty();
        let sent = Sent { seq: self.snd_next, data, fin, at: now, again: false, early: false };
        self.snd_next = self.snd_next.wrapping_add(sent.len());
        fx.out.push(self.segment_of(&sent));
        self.flight.push_back(sent);
    }

    fn resend_first(&mut self, now: Duration, fx: &mut Effects) {
        if let Some(first) = self.flight.front_mut() {
            (first.at, first.again) = (now, true);
        }
        if let Some(first) = self.flight.front() {
            fx.out.push(self.segment_of(first));
        }
    }

    fn segment_of(&self, sent: &Sent) -> Segment {
        Segment {
            seq: sent.seq,
            ack: Some(self.rcv_next),
            fin: sent.fin,
            window: self.window(),
            data: sent.data.clone(),
            ..Segment::default()
        }
    }

    fn under_way(&self) -> usize {
        self.flight.iter().map(|sent| sent.data.len()).sum()
    }

    fn queued(&self) -> usize {
        self.under_way() + self.unsent.len()
    }

    /// Starts the timer where something waits for an acknowledgement or a window.
    fn arm(&mut self, now: Duration) {
        if self.flight.is_empty() && self.unsent.is_empty() {
            self.rto_at = None;
        } else if self.rto_at.is_none_or(|at| at <= now) {
            let base = self
                .rtt
                .map_or(Duration::from_secs(1), |(mean, deviation)| mean + (deviation * 4).max(MIN_RTO));
            self.rto_at = Some(now + (base * (1 << self.backoff.min(16))).min(MAX_RTO));
        }
    }
}

impl Sent {
    fn len(&self) -> u32 {
        u32::try_from(self.data.len()).expect("a segment's payload is small") + u32::from(self.fin)
    }
}

fn smooth(rtt: Option<(Duration, Duration)>, sample: Duration) -> (Duration, Duration) {
    match rtt {
        None => (sample, sample / 2),
        Some((mean, deviation)) => ((mean * 7 + sample) / 8, (deviation * 3 + mean.abs_diff(sample)) / 4),
    }
}

/// Whether `a` comes before `b` in sequence space.
const fn before(a: u32, b: u32) -> bool {
    b.wrapping_sub(a).wrapping_sub(1) < (1 << 31) - 1
}

/// What a receiver buffers, and what may be under way.
const WINDOW: u32 = 256 * 1024;
/// What a socket takes from its driver before it is full.
const SEND_BUFFER: usize = 256 * 1024;
/// Payload of one segment: several real ones, so that a long stream costs few events.
const SEGMENT: u32 = 8 * 1024;
/// Linux: `TCP_RTO_MIN` and `TCP_RTO_MAX`.
const MIN_RTO: Duration = Duration::from_millis(200);
const MAX_RTO: Duration = Duration::from_secs(120);
/// Linux: `tcp_retries2` and `tcp_orphan_retries`.
const DATA_TRIES: u32 = 15;
const ORPHAN_TRIES: u32 = 8;
/// How long our finished half waits for the peer's (Linux: `tcp_fin_timeout`).
const FIN_WAIT: Duration = Duration::from_secs(60);
