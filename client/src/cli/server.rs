//! From the daemon's name to addresses.

use punchcast::rendezvous::agent;
use punchcast::ticket::{Host, Server};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

/// The daemon's addresses, as DNS orders them; at most [`MAX`].
///
/// # Errors
///
/// In words, when the name has none.
pub(super) fn resolve(server: &Server) -> Result<Vec<agent::Server>, String> {
    let at = |ip: IpAddr| agent::Server {
        main: SocketAddr::new(ip, server.main),
        assist: SocketAddr::new(ip, server.assist),
    };
    match &server.host {
        Host::Ip(ip) => Ok(vec![at(*ip)]),
        Host::Name(name) => {
            let found = (name.as_str(), server.main)
                .to_socket_addrs()
                .map_err(|error| format!("the daemon's name {name:?} cannot be looked up: {error}"))?;
            let mut ips: Vec<IpAddr> = found.map(|addr| addr.ip().to_canonical()).collect();
            ips.dedup();
            Ok(ips.into_iter().take(MAX).map(at).collect())
        }
    }
}

/// Addresses tried one after the other: two of each family are what a well-kept name has.
const MAX: usize = 4;
