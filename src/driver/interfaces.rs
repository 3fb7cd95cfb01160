//! This host's own addresses.

use crate::endpoint::Reach;
use std::cmp::Reverse;
use std::net::IpAddr;

/// Prefixes of interface names behind which no peer of ours can be: container bridges and their like. Their
/// addresses are the same on every host and would crowd out the one that matters.
const JUNK: [&str; 7] = ["docker", "br-", "veth", "virbr", "cni", "flannel", "vboxnet"];

/// Addresses of one family. Both together fit a list of
/// [`MAX_ENDPOINTS`](crate::wire::message::MAX_ENDPOINTS), and a host with many temporary IPv6 addresses still tells
/// its IPv4 ones.
const MAX_PER_FAMILY: usize = crate::wire::message::MAX_ENDPOINTS / 2;

/// The addresses of all interfaces that are up, at most four of IPv4 and of IPv6, in turns: IPv4 first,
/// as most local networks have it, of IPv4 private addresses first, and of IPv6 one of each network first. Loopback
/// and link-local addresses are left out, container bridges come last. Empty when the system does not tell.
#[must_use]
pub fn local_addresses() -> Vec<IpAddr> {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_else(|error| {
        log::warn!("cannot list this host's addresses: {error}");
        Vec::new()
    });
    let found = interfaces
        .iter()
        .filter(|interface| interface.is_oper_up())
        .map(|interface| (is_junk(&interface.name), interface.ip()))
        .collect();
    choose(found)
}

/// The addresses to tell, best first, of all that were found, each with whether its interface is one to containers.
fn choose(mut found: Vec<(bool, IpAddr)>) -> Vec<IpAddr> {
    // The better interface of an address that is on two.
    found.sort_by_key(|&(junk, _)| junk);
    let (mut v4, mut v6): (Vec<Ranked>, Vec<Ranked>) = Default::default();
    for (junk, ip) in found {
        let lane = if ip.is_ipv4() { &mut v4 } else { &mut v6 };
        let known = lane.iter().any(|&(.., known)| known == ip);
        if known || Reach::of(ip) < Reach::Site || is_link_local(ip) {
            continue;
        }
        let siblings = lane.iter().filter(|&&(.., known)| network(known) == network(ip)).count();
        lane.push((junk, siblings, ip));
    }
    // Stable: what is alike stays as the system orders it.
    v4.sort_by_key(|&(junk, _, ip)| (junk, Reach::of(ip)));
    v6.sort_by_key(|&(junk, siblings, ip)| (junk, siblings, Reverse(Reach::of(ip))));
    let mut v4 = v4.into_iter().map(|(.., ip)| ip).take(MAX_PER_FAMILY);
    let mut v6 = v6.into_iter().map(|(.., ip)| ip).take(MAX_PER_FAMILY);
    (0..MAX_PER_FAMILY).flat_map(|_| [v4.next(), v6.next()]).flatten().collect()
}

/// Whether its interface is one to containers, how many addresses of its network came before it, and the address.
type Ranked = (bool, usize, IpAddr);

/// The /64 of an IPv6 address: temporary addresses share it.
fn network(ip: IpAddr) -> Option<u64> {
    match ip {
        IpAddr::V4(_) => None,
        IpAddr::V6(ip) => Some((ip.to_bits() >> 64) as u64),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(found: &[(bool, &str)]) -> Vec<String> {
        let found = found.iter().map(|(junk, ip)| (*junk, ip.parse().expect("an address"))).collect();
        choose(found).iter().map(IpAddr::to_string).collect()
    }

    #[test]
    fn temporary_addresses_do_not_crowd_out_the_local_network() {
        let mut found = vec![(false, "::1"), (false, "127.0.0.1"), (false, "fe80::1")];
        found.extend(
            ["2a00:1:2:3::1", "2a00:1:2:3::2", "2a00:1:2:3::3", "2a00:1:2:3::4"].map(|ip| (false, ip)),
        );
        found.extend(["2a00:1:2:3::5", "2a00:1:2:3::6", "fd00::7", "192.168.1.2"].map(|ip| (false, ip)));
        let expected = ["192.168.1.2", "2a00:1:2:3::1", "fd00::7", "2a00:1:2:3::2", "2a00:1:2:3::3"];
        assert_eq!(chosen(&found), expected);
    }

    #[test]
    fn private_addresses_come_before_public_ones_and_bridges_last() {
        let found = [
            (true, "172.17.0.1"),
            (false, "203.0.113.9"),
            (false, "10.0.0.5"),
            (true, "10.0.0.5"),
            (false, "169.254.7.7"),
            (false, "203.0.113.9"),
        ];
        assert_eq!(chosen(&found), ["10.0.0.5", "203.0.113.9", "172.17.0.1"]);
        let many: Vec<String> = (1..20).map(|last| format!("10.0.0.{last}")).collect();
        let many: Vec<(bool, &str)> = many.iter().map(|ip| (false, ip.as_str())).collect();
        assert_eq!(chosen(&many), ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"]);
    }
}
