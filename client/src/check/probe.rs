//! What is dialled to see whether it can be (ourselves through the own NAT, the daemon over IPv6), and what arrives of it.

use super::Check;
use bytes::Bytes;
use punchcast::app::{Closing, ConnId, Input, NetOp};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How long a probe may take: a round trip through the own NAT, or to the daemon, with one SYN lost.
pub(super) const PROBE_TIME: Duration = Duration::from_secs(2);

/// What travels through the hairpin, so that no stranger's connection passes for it.
pub(super) const NONCE_LEN: usize = 16;

/// A connect whose success says something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Probe {
    NotBegun,
    UnderWay { conn: ConnId, until: Instant },
    Done { arrived: bool },
}

impl Check {
    pub(super) fn probe(&mut self, now: Instant, to: SocketAddr) -> Probe {
        let conn = self.probes.allocate();
        self.net(NetOp::Connect { conn, from: None, to });
        Probe::UnderWay { conn, until: now + PROBE_TIME }
    }

    pub(super) fn hole_input(&mut self, now: Instant, input: &Input<'_>) {
        match *input {
            Input::Received { conn, bytes } => {
                let Some(heard) = self.callers.get_mut(&conn) else { return };
                heard.extend_from_slice(&bytes[..bytes.len().min(NONCE_LEN - heard.len())]);
                if *heard == self.nonce {
                    self.finish_hairpin(true);
                }
            }
            Input::Closed { conn, .. } => {
                self.callers.remove(&conn);
                self.hole.handle_input(now, input);
            }
            Input::Listening { .. }
            | Input::ListenFailed { .. }
            | Input::Accepted { .. }
            | Input::Connected { .. }
            | Input::ConnectFailed { .. }
            | Input::Backlogged { .. }
            | Input::Drained { .. }
            | Input::Interrupted => self.hole.handle_input(now, input),
        }
    }

    pub(super) fn probe_input(&mut self, input: &Input<'_>) {
        match *input {
            Input::Connected { conn, .. } if self.is_hairpin(conn) => {
                // That somebody answers there is not enough: it may be the router itself.
                let bytes = Bytes::copy_from_slice(&self.nonce);
                self.net(NetOp::Send { conn, bytes });
            }
            Input::Connected { conn, .. } => {
                self.net(NetOp::Close { conn, how: Closing::Flush });
                self.ipv6 = Probe::Done { arrived: true };
            }
            Input::ConnectFailed { conn, .. } | Input::Closed { conn, .. } => {
                if self.is_hairpin(conn) {
                    self.hairpin = Probe::Done { arrived: false };
                } else if matches!(self.ipv6, Probe::UnderWay { conn: ours, .. } if ours == conn) {
                    self.ipv6 = Probe::Done { arrived: false };
                }
            }
            Input::Listening { .. }
            | Input::ListenFailed { .. }
            | Input::Accepted { .. }
            | Input::Received { .. }
            | Input::Backlogged { .. }
            | Input::Drained { .. }
            | Input::Interrupted => {}
        }
    }

    fn is_hairpin(&self, conn: ConnId) -> bool {
        matches!(self.hairpin, Probe::UnderWay { conn: ours, .. } if ours == conn)
    }

    pub(super) fn finish_hairpin(&mut self, arrived: bool) {
        if let Probe::UnderWay { conn, .. } = self.hairpin {
            self.net(NetOp::Close { conn, how: Closing::Abort });
            self.hairpin = Probe::Done { arrived };
        }
    }
}
