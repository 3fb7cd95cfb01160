//! Transport addresses in their one canonical form, and what kind of place they name.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// An IP address and a TCP port. IPv4-mapped IPv6 addresses become IPv4, and scope and flow are dropped, so that
/// equal places compare equal (a mapped address that passes for a global one is CVE-2020-26262).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "SocketAddr", into = "SocketAddr")]
pub struct Endpoint(SocketAddr);

impl Endpoint {
    /// The endpoint of `addr`, canonical.
    #[must_use]
    pub const fn new(addr: SocketAddr) -> Self {
        Self(SocketAddr::new(addr.ip().to_canonical(), addr.port()))
    }

    /// As the standard library's type.
    #[must_use]
    pub const fn addr(self) -> SocketAddr {
        self.0
    }

    /// The IP address.
    #[must_use]
    pub const fn ip(self) -> IpAddr {
        self.0.ip()
    }

    /// The TCP port.
    #[must_use]
    pub const fn port(self) -> u16 {
        self.0.port()
    }

    /// Where the address can be reached from.
    #[must_use]
    pub fn reach(self) -> Reach {
        Reach::of(self.ip())
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(addr: SocketAddr) -> Self {
        Self::new(addr)
    }
}

impl From<Endpoint> for SocketAddr {
    fn from(endpoint: Endpoint) -> Self {
        endpoint.0
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What one subscriber has, and what limits count: an IPv4 address, or an IPv6 /64. IPv4-mapped addresses are IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix(IpAddr);

impl Prefix {
    /// The prefix that `ip` is in.
    #[must_use]
    pub const fn of(ip: IpAddr) -> Self {
        Self(match ip.to_canonical() {
            IpAddr::V4(ip) => IpAddr::V4(ip),
            IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & !(u64::MAX as u128))),
        })
    }
}

/// From where an address can be reached, widest last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reach {
    /// Nowhere: unspecified, multicast, broadcast, documentation-only forms of "no address".
    Nowhere,
    /// This host: loopback.
    Host,
    /// This site: RFC 1918, RFC 6598 shared space, link-local, IPv6 unique-local.
    Site,
    /// Everywhere: everything else.
    Global,
}

impl Reach {
    /// The reach of `ip` (RFC 6890, the IANA special-purpose registries). The documentation prefixes count as
    /// global: they are what laboratories use for the public Internet.
    #[must_use]
    pub fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Self::of_v4(ip),
            IpAddr::V6(ip) => Self::of_v6(ip),
        }
    }

    fn of_v4(ip: Ipv4Addr) -> Self {
        let shared = ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64;
        if ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast() || ip.octets()[0] == 0 {
            Self::Nowhere
        } else if ip.is_loopback() {
            Self::Host
        } else if ip.is_private() || ip.is_link_local() || shared {
            Self::Site
        } else {
            Self::Global
        }
    }

    const fn of_v6(ip: Ipv6Addr) -> Self {
        if ip.is_unspecified() || ip.is_multicast() {
            Self::Nowhere
        } else if ip.is_loopback() {
            Self::Host
        } else if ip.is_unicast_link_local() || ip.is_unique_local() {
            Self::Site
        } else {
            Self::Global
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_address_is_its_ipv4_self() {
        let mapped: SocketAddr = "[::ffff:10.0.0.1]:7".parse().unwrap();
        let plain: SocketAddr = "10.0.0.1:7".parse().unwrap();
        assert_eq!(Endpoint::new(mapped), Endpoint::new(plain));
        assert_eq!(Reach::of(mapped.ip()), Reach::Site);
    }

    #[test]
    fn a_prefix_is_an_ipv4_address_or_an_ipv6_64() {
        let of = |ip: &str| Prefix::of(ip.parse().unwrap());
        assert_eq!(of("::ffff:203.0.113.1"), of("203.0.113.1"));
        assert_ne!(of("203.0.113.1"), of("203.0.113.2"));
        assert_eq!(of("2001:db8:0:1::1"), of("2001:db8:0:1:ffff:ffff:ffff:ffff"));
        assert_ne!(of("2001:db8:0:1::1"), of("2001:db8:0:2::1"));
    }

    #[test]
    fn reach_follows_the_special_purpose_registries() {
        let cases = [
            ("0.0.0.0", Reach::Nowhere),
            ("255.255.255.255", Reach::Nowhere),
            ("224.0.0.1", Reach::Nowhere),
            ("127.0.0.2", Reach::Host),
            ("192.168.1.1", Reach::Site),
            ("172.16.0.1", Reach::Site),
            ("172.32.0.1", Reach::Global),
            ("100.64.0.1", Reach::Site),
            ("100.128.0.1", Reach::Global),
            ("169.254.9.9", Reach::Site),
            ("203.0.113.1", Reach::Global),
            ("::1", Reach::Host),
            ("fe80::1", Reach::Site),
            ("fd00::1", Reach::Site),
            ("2001:db8::1", Reach::Global),
        ];
        for (ip, reach) in cases {
            assert_eq!(Reach::of(ip.parse().unwrap()), reach, "{ip}");
        }
    }
}
