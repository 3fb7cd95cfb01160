//! Players who dial the caster and play by plain RTMP: a viewer's `--dial`, ffplay, VLC.

use super::SERVE;
use crate::reachable::reachable;
use crate::rtmp_port::{self, RtmpPort, RtmpPortConfig, RtmpPortOutput};
use std::net::{IpAddr, SocketAddr};

/// Where and for whom a caster serves play.
#[derive(Clone)]
pub struct Serve {
    /// Where to listen; port 0 takes a free one.
    pub addr: SocketAddr,
    /// The key that players must tell, wherever they are.
    pub key: String,
    /// This host's addresses, best first, for the address that is shown.
    pub own_ips: Vec<IpAddr>,
}

/// The port, and what is known of it.
pub(super) struct Serving {
    pub(super) port: RtmpPort,
    config: Serve,
    /// Where it is bound.
    pub(super) local: Option<SocketAddr>,
}

impl Serving {
    pub(super) fn new(config: Serve, seed: u64) -> Self {
        let port = RtmpPortConfig {
            key: Some(config.key.clone()),
            seed,
            ..RtmpPortConfig::new(rtmp_port::Mode::Players)
        };
        Self { port: RtmpPort::new(SERVE, config.addr, port), config, local: None }
    }

    pub(super) fn poll_output(&mut self) -> Option<RtmpPortOutput> {
        self.port.poll_output()
    }

    /// The address for players, once the port is bound.
    pub(super) fn url(&self) -> Option<String> {
        let addr = reachable(self.local?, &self.config.own_ips);
        Some(format!("rtmp://{addr}/punchcast/{}", self.config.key))
    }
}
