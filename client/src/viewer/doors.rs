//! What has been bound so far; the ticket is shown when nothing is missing.

use punchcast::ticket::Ticket;
use std::net::SocketAddr;

/// See the [module](self).
#[derive(Default)]
pub(super) struct Doors {
    pub(super) ticket: Option<Ticket>,
    pub(super) page: Option<SocketAddr>,
    pub(super) rtmp: Option<SocketAddr>,
    /// Where plain RTMP publishers are taken.
    pub(super) rtmp_url: Option<String>,
    pub(super) told: bool,
}
