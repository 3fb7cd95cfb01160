//! Plain RTMP at the hole port.
//!
//! A link begins with the high byte of a short record's length, which is 0; an RTMP connection begins with its version,
//! which is 3. So one port serves both, and whatever lets the outside reach the hole port (a forwarded port, an address
//! without a NAT) lets plain publishers in, too. Before they are told apart both stand before the same door.

use super::Meeting;
use super::lines::{Line, Stage};
use super::types::Event;
use bytes::Bytes;
use punchcast::app::ConnId;
use std::time::Instant;

/// The first byte of an RTMP connection (RTMP 1.0 §5.2.2).
const RTMP_VERSION: u8 = 3;

impl Meeting {
    /// From here on, who dials the hole port and speaks RTMP is handed over ([`Event::Plain`]) rather than turned away.
    pub const fn take_plain(&mut self) {
        self.takes_plain = true;
    }

    /// Whether these are the first bytes of a connection that somebody dialled to us, and they are RTMP's.
    pub(super) fn is_plain(&self, conn: ConnId, bytes: &[u8]) -> bool {
        let fresh = |line: &Line| {
            !line.heard && !line.open.dialled && line.relayed.is_none() && line.stage == Stage::AtDoor
        };
        self.takes_plain && bytes.first() == Some(&RTMP_VERSION) && self.lines.get(&conn).is_some_and(fresh)
    }

    /// Forgets a connection, and gives it to the application.
    pub(super) fn hand_over(&mut self, now: Instant, conn: ConnId, bytes: &[u8]) {
        let Some(line) = self.lines.remove(&conn) else { return };
        line.leave(&mut self.door);
        self.hole.released(now, conn);
        let (local, remote) = (line.open.local, line.open.remote);
        self.event(Event::Plain { conn, local, remote, bytes: Bytes::copy_from_slice(bytes) });
    }
}
