//! What travels: TCP segments between two endpoints, and the one ICMP message that matters to a connect.

use std::fmt;
use std::net::SocketAddr;

/// A TCP segment's header and payload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) seq: u32,
    /// The acknowledgement number, where the ACK flag is set.
    pub(crate) ack: Option<u32>,
    pub(crate) syn: bool,
    pub(crate) fin: bool,
    pub(crate) rst: bool,
    /// How many bytes more the sender takes.
    pub(crate) window: u32,
    pub(crate) data: Vec<u8>,
    /// Where the segments begin that came before their turn (what RFC 2018 tells).
    pub(crate) early: Vec<u32>,
}

impl Segment {
    /// How much sequence space it takes.
    pub(crate) fn len(&self) -> u32 {
        u32::try_from(self.data.len()).expect("a segment's payload is small")
            + u32::from(self.syn)
            + u32::from(self.fin)
    }

    /// Whether it is the first segment of a handshake.
    pub(crate) fn opens(&self) -> bool {
        self.syn && self.ack.is_none() && !self.rst
    }

    /// The RST that a place without a socket answers this segment with (RFC 9293 §3.5.2, group 1).
    pub(crate) fn refusal(&self) -> Self {
        match self.ack {
            Some(ack) => Self { seq: ack, rst: true, ..Self::default() },
            None => Self { ack: Some(self.seq.wrapping_add(self.len())), rst: true, ..Self::default() },
        }
    }
}

/// What a packet carries.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    /// TCP.
    Tcp(Segment),
    /// ICMP destination unreachable: somebody on the way could not deliver a packet from this one's destination to
    /// this one's source. It so has the shape of a reply, and walls translate it as one.
    Unreachable,
}

/// A packet.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) src: SocketAddr,
    pub(crate) dst: SocketAddr,
    pub(crate) body: Body,
    /// Routers that still forward it. Its death on the way is not reported: a socket that knocks ignores the report.
    pub(crate) life: u8,
}

/// More routers than any simulated way has.
pub(crate) const FULL_LIFE: u8 = 64;

impl Packet {
    const fn answer(&self, body: Body) -> Self {
        Self { src: self.dst, dst: self.src, body, life: FULL_LIFE }
    }

    /// Passes a router; `None` if it dies there.
    pub(crate) fn forwarded(mut self) -> Option<Self> {
        self.life = self.life.checked_sub(1)?;
        Some(self)
    }

    /// The answer to this packet with a RST; `None` to what is never answered.
    pub(crate) fn refusal(&self) -> Option<Self> {
        match &self.body {
            Body::Tcp(segment) if !segment.rst => Some(self.answer(Body::Tcp(segment.refusal()))),
            Body::Tcp(_) | Body::Unreachable => None,
        }
    }

    /// The ICMP answer to this packet; `None` to ICMP itself.
    pub(crate) fn unreachable(&self) -> Option<Self> {
        match &self.body {
            Body::Tcp(_) => Some(self.answer(Body::Unreachable)),
            Body::Unreachable => None,
        }
    }

    /// Bytes on the wire: payload plus the IPv4 and TCP headers without options.
    pub(crate) fn wire_len(&self) -> u64 {
        const HEADERS: u64 = 40;
        match &self.body {
            Body::Tcp(segment) => HEADERS + segment.data.len() as u64,
            Body::Unreachable => HEADERS,
        }
    }
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} > {} ", self.src, self.dst)?;
        let Body::Tcp(segment) = &self.body else { return f.write_str("unreachable") };
        for (set, flag) in [(segment.syn, "S"), (segment.fin, "F"), (segment.rst, "R")] {
            f.write_str(if set { flag } else { "" })?;
        }
        write!(f, " seq={}", segment.seq)?;
        if let Some(ack) = segment.ack {
            write!(f, " ack={ack}")?;
        }
        write!(f, " len={}", segment.data.len())
    }
}
