//! One TCP socket of a simulated kernel: the handshake with simultaneous open, time-outs, resets and TIME-WAIT here;
//! the byte stream in [`stream`]. Written from RFC 9293 and RFC 5961, with Linux's timers.
//!
//! ```text
//!   connect ─▶ SynSent ── SYN+ACK ─────────────────────▶ Established ── both FINs ──▶ TimeWait (who closed first)
//!                 └────── SYN ──▶ SynReceived ── ACK ──────▶ ▲                  └────▶ gone    (who closed last)
//!   SYN at a listener ─▶ SynReceived ────────────────────────┘
//! ```

mod stream;

use crate::packet::Segment;
use punchcast::app::{ConnId, HALF_OPEN_TIME, ListenerId, NetError};
use std::net::SocketAddr;
use std::time::Duration;
use stream::Stream;

/// Who holds the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The application.
    App(ConnId),
    /// A listener whose application has not seen it yet.
    Embryo(ListenerId),
    /// The kernel alone: the application closed it.
    Orphan,
}

/// The handshake's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    SynSent,
    SynReceived,
    Established,
    TimeWait,
}

/// What a socket did; the kernel tells its owner.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Happening {
    /// The handshake is done.
    Established,
    /// It came to nothing; the socket is gone.
    Failed(NetError),
    /// Bytes to read.
    Data(Vec<u8>),
    /// The peer's last byte was read and it sent FIN.
    PeerClosed,
    /// The connection broke; the socket is gone.
    Broken(NetError),
    /// More is queued than the socket takes.
    Backlogged,
    /// The socket took all that was queued.
    Drained,
    /// The socket is gone without a word.
    Gone,
}

/// What a call on a socket brought about.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    pub(crate) out: Vec<Segment>,
    pub(crate) happened: Vec<Happening>,
}

/// A socket with a peer.
#[derive(Debug)]
pub(crate) struct Tcb {
    pub(crate) local: SocketAddr,
    pub(crate) owner: Owner,
    state: State,
    /// Our initial sequence number.
    iss: u32,
    /// Segments resent without an answer.
    tries: u32,
    /// When the handshake's segment is sent again, or TIME-WAIT ends.
    resend_at: Option<Duration>,
    /// When a connect that heard a SYN is given up by the driver.
    half_open_until: Option<Duration>,
    stream: Stream,
}

impl Tcb {
    /// A connect: sends the SYN.
    pub(crate) fn connect(
        now: Duration,
        pair: (SocketAddr, SocketAddr),
        conn: ConnId,
        iss: u32,
        fx: &mut Effects,
    ) -> Self {
        let tcb = Self {
            local: pair.0,
            owner: Owner::App(conn),
            state: State::SynSent,
            iss,
            tries: 0,
            resend_at: Some(now + syn_interval(0)),
            half_open_until: None,
            stream: Stream::new(iss, 0),
        };
        fx.out.push(tcb.handshake_segment());
        tcb
    }

    /// A listener's answer to `syn`: sends the SYN+ACK.
    pub(crate) fn accept(
        now: Duration,
        pair: (SocketAddr, SocketAddr),
        listener: ListenerId,
        iss: u32,
        syn: &Segment,
        fx: &mut Effects,
    ) -> Self {
        let mut stream = Stream::new(iss, syn.seq.wrapping_add(1));
        stream.peer_window = syn.window;
        let tcb = Self {
            local: pair.0,
            owner: Owner::Embryo(listener),
            state: State::SynReceived,
            iss,
            tries: 0,
            resend_at: Some(now + FIRST_RTO),
            half_open_until: None,
            stream,
        };
        fx.out.push(tcb.handshake_segment());
        tcb
    }

    pub(crate) const fn state(&self) -> State {
        self.state
    }

    /// When [`Self::timeout`] is due.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.resend_at.into_iter().chain(self.half_open_until).chain(self.stream.deadline()).min()
    }

    /// A segment from the peer.
    pub(crate) fn segment(&mut self, now: Duration, segment: &Segment, fx: &mut Effects) {
        match self.state {
            State::SynSent => self.in_syn_sent(now, segment, fx),
            State::SynReceived => self.in_syn_received(now, segment, fx),
            State::Established => self.in_established(now, segment, fx),
            State::TimeWait => {
                if !segment.rst && segment.len() > 0 {
                    fx.out.push(self.stream.acknowledgement());
                }
            }
        }
    }

    /// ICMP says that the peer cannot be reached. Only a connect believes it (RFC 5461 §2).
    pub(crate) fn unreachable(&self, fx: &mut Effects) {
        if self.state == State::SynSent {
            fx.happened.push(Happening::Failed(NetError::Unreachable));
        }
    }

    /// Time passed to the deadline.
    pub(crate) fn timeout(&mut self, now: Duration, fx: &mut Effects) {
        match self.state {
            State::TimeWait => fx.happened.push(Happening::Gone),
            State::Established => self.stream.timeout(now, self.owner == Owner::Orphan, fx),
            State::SynReceived if self.half_open_until.is_some_and(|until| until <= now) => {
                fx.out.push(self.stream.reset());
                fx.happened.push(Happening::Failed(NetError::HalfOpen));
            }
            State::SynSent | State::SynReceived => {
                self.tries += 1;
                let passive = matches!(self.owner, Owner::Embryo(_));
                let limit = if passive { SYN_ACK_TRIES } else { SYN_TRIES };
                if self.tries > limit {
                    fx.happened.push(Happening::Failed(NetError::TimedOut));
                    return;
                }
                let interval = if passive { FIRST_RTO * (1 << self.tries) } else { syn_interval(self.tries) };
                self.resend_at = Some(now + interval);
                fx.out.push(self.handshake_segment());
            }
        }
    }

    /// Queues bytes.
    pub(crate) fn send(&mut self, now: Duration, bytes: &[u8], fx: &mut Effects) {
        self.stream.send(now, bytes, fx);
    }

    /// Stops or resumes reading.
    pub(crate) fn read(&mut self, on: bool, fx: &mut Effects) {
        self.stream.read(on, fx);
    }

    /// The application lets go in order: what is queued goes out before the FIN. As in Linux, closing with unread
    /// bytes resets.
    pub(crate) fn close(&mut self, now: Duration, fx: &mut Effects) {
        if self.state != State::Established || self.stream.has_unread() {
            self.abort(fx);
            return;
        }
        self.owner = Owner::Orphan;
        self.stream.finish(now, fx);
        self.settle_finished(now, fx);
    }

    /// The application lets go at once. A connect under way ends without a word.
    pub(crate) fn abort(&mut self, fx: &mut Effects) {
        match self.state {
            State::SynSent | State::TimeWait => {}
            State::SynReceived | State::Established => fx.out.push(self.stream.reset()),
        }
        self.owner = Owner::Orphan;
        fx.happened.push(Happening::Gone);
    }

    fn in_syn_sent(&mut self, now: Duration, segment: &Segment, fx: &mut Effects) {
        // An answer to some earlier socket's SYN, or a forgery: only our own initial number counts.
        if segment.ack.is_some_and(|ack| ack != self.iss.wrapping_add(1)) {
            if !segment.rst {
                fx.out.push(segment.refusal());
            }
            return;
        }
        if segment.rst {
            if segment.ack.is_some() {
                fx.happened.push(Happening::Failed(NetError::Refused));
            }
            return;
        }
        if !segment.syn {
            return;
        }
        self.stream.rcv_next = segment.seq.wrapping_add(1);
        self.stream.peer_window = segment.window;
        if segment.ack.is_some() {
            self.establish(fx);
            fx.out.push(self.stream.acknowledgement());
        } else {
            self.state = State::SynReceived;
            self.half_open_until = Some(now + HALF_OPEN_TIME);
            self.resend_at = Some(now + FIRST_RTO);
            fx.out.push(self.handshake_segment());
        }
    }

    fn in_syn_received(&mut self, now: Duration, segment: &Segment, fx: &mut Effects) {
        if segment.rst {
            if segment.seq == self.stream.rcv_next {
                fx.happened.push(Happening::Failed(NetError::Reset));
            }
            return;
        }
        let Some(ack) = segment.ack else {
            let again = segment.syn && segment.seq.wrapping_add(1) == self.stream.rcv_next;
            fx.out.push(if again { self.handshake_segment() } else { self.stream.acknowledgement() });
            return;
        };
        if ack.wrapping_sub(self.iss) == 0 || ack.wrapping_sub(self.iss) > 1 {
            fx.out.push(segment.refusal());
            return;
        }
        self.establish(fx);
        self.stream.peer_window = segment.window;
        if segment.syn {
            fx.out.push(self.stream.acknowledgement());
        } else {
            self.in_established(now, segment, fx);
        }
    }

    fn in_established(&mut self, now: Duration, segment: &Segment, fx: &mut Effects) {
        if segment.rst {
            if segment.seq == self.stream.rcv_next {
                fx.happened.push(Happening::Broken(NetError::Reset));
            } else if self.stream.in_window(segment.seq) {
                fx.out.push(self.stream.acknowledgement());
            }
            return;
        }
        if segment.syn {
            // RFC 5961 §4: a challenge. If the peer's socket is a new one, it answers RST, and that ends this one.
            fx.out.push(self.stream.acknowledgement());
            return;
        }
        if self.owner == Owner::Orphan && !segment.data.is_empty() && self.stream.is_new(segment) {
            // Nobody will read it; Linux resets such a peer.
            fx.out.push(self.stream.reset());
            fx.happened.push(Happening::Gone);
            return;
        }
        self.stream.segment(now, segment, fx);
        self.settle_finished(now, fx);
    }

    fn establish(&mut self, fx: &mut Effects) {
        self.state = State::Established;
        self.resend_at = None;
        self.half_open_until = None;
        fx.happened.push(Happening::Established);
    }

    /// Ends a socket whose both halves are finished.
    fn settle_finished(&mut self, now: Duration, fx: &mut Effects) {
        if !self.stream.is_finished() || self.owner != Owner::Orphan {
            return;
        }
        if self.stream.closed_first() {
            self.state = State::TimeWait;
            self.resend_at = Some(now + TIME_WAIT);
        } else {
            fx.happened.push(Happening::Gone);
        }
    }

    /// The SYN or SYN+ACK of this socket, the same however often it is sent.
    fn handshake_segment(&self) -> Segment {
        let ack = match self.state {
            State::SynSent => None,
            State::SynReceived | State::Established | State::TimeWait => Some(self.stream.rcv_next),
        };
        Segment { seq: self.iss, ack, syn: true, window: self.stream.window(), ..Segment::default() }
    }
}

/// How long after the `tries`-th SYN the next one goes out: `tcp_syn_linear_timeouts` of 4 makes the intervals
/// 1, 1, 1, 1, 1, 2, 4 … s.
const fn syn_interval(tries: u32) -> Duration {
    Duration::from_secs(if tries <= 4 { 1 } else { 1 << (tries - 4) })
}

/// RFC 6298's first time-out.
const FIRST_RTO: Duration = Duration::from_secs(1);
/// Linux: 4 linear ones and `tcp_syn_retries` of 6 more; a silent peer times out after 131 s.
const SYN_TRIES: u32 = 10;
/// Linux: `tcp_synack_retries`.
const SYN_ACK_TRIES: u32 = 5;
/// Linux: `TCP_TIMEWAIT_LEN`.
const TIME_WAIT: Duration = Duration::from_secs(60);
