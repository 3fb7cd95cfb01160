//! The address to show for something that listens.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Where a browser or a player finds what listens at `local`: the unspecified address is nobody's, so this host's first one of its
/// family stands for it.
pub(crate) fn reachable(local: SocketAddr, own: &[IpAddr]) -> SocketAddr {
    if !local.ip().is_unspecified() {
        return local;
    }
    let loopback = if local.is_ipv4() { IpAddr::from([127, 0, 0, 1]) } else { Ipv6Addr::LOCALHOST.into() };
    let ip = own.iter().copied().find(|ip| ip.is_ipv4() == local.is_ipv4()).unwrap_or(loopback);
    SocketAddr::new(ip, local.port())
}
