//! This host's own addresses.

use crate::endpoint::Reach;
use std::net::IpAddr;

/// Prefixes of interface names behind which no peer of ours can be: container bridges and their like. Their
/// addresses are the same on every host and would crowd out the one that matters.
const JUNK: [&str; 7] = ["docker", "br-", "veth", "virbr", "cni", "flannel", "vboxnet"];

/// The addresses of all interfaces that are up, those that reach furthest first, loopback and IPv6 link-local left
/// out, container bridges last. Empty when the system does not tell.
#[must_use]
pub fn local_addresses() -> Vec<IpAddr> {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_else(|error| {
        log::warn!("cannot list this host's addresses: {error}");
        Vec::new()
    });
    let mut found: Vec<(bool, IpAddr)> = interfaces
        .iter()
        .filter(|interface| interface.is_oper_up())
        .filter(|interface| Reach::of(interface.ip()) >= Reach::Site && !is_link_local(interface.ip()))
        .map(|interface| (is_junk(&interface.name), interface.ip()))
        .collect();
    found.sort_by_key(|&(junk, ip)| (junk, std::cmp::Reverse(Reach::of(ip)), ip.is_ipv6()));
    found.dedup();
    found.into_iter().map(|(_, ip)| ip).collect()
}

/// Link-local IPv6 addresses need a zone that means nothing to a peer.
const fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

/// By name alone: nothing else tells a bridge to containers from a bridge to a network.
fn is_junk(name: &str) -> bool {
    JUNK.iter().any(|prefix| name.starts_with(prefix))
}
