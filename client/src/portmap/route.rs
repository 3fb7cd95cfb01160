//! The way out of this host, as Linux tells it. Other systems tell it in other ways, and there is none here.

use punchcast::portmap::{GATEWAY_PORT, Way, is_gateway_v4};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};

/// A route that leads to a gateway (`RTF_GATEWAY`).
const GATEWAY: u32 = 2;
/// A route that is in use (`RTF_UP`).
const UP: u32 = 1;

/// Where the system is asked which of our addresses it would speak from. Connecting a UDP socket sends nothing.
const FAR_V4: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 9);
const FAR_V6: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)), 9);

/// The way out over IPv4, if a home router can stand on it: its next hop and we have private addresses, and what leaves
/// this host goes that way (and not through a tunnel).
pub(super) fn way_v4() -> Option<Way> {
    let table = std::fs::read_to_string("/proc/net/route").ok()?;
    let gateway = gateway_v4(&table)?;
    let gateway = SocketAddr::new(gateway.into(), GATEWAY_PORT);
    let local = address_towards(gateway)?;
    let (IpAddr::V4(hop), IpAddr::V4(own)) = (gateway.ip(), local) else { return None };
    (is_gateway_v4(hop, own) && address_towards(FAR_V4) == Some(local)).then_some(Way { gateway, local })
}

/// The way out over IPv6, with the global address that the system speaks from. Its next hop is link-local, or on our
/// own network.
pub(super) fn way_v6() -> Option<Way> {
    let table = std::fs::read_to_string("/proc/net/ipv6_route").ok()?;
    let (gateway, interface) = gateway_v6(&table)?;
    let local = address_towards(FAR_V6)?;
    let IpAddr::V6(own) = local else { return None };
    let neighbours = gateway.segments()[..4] == own.segments()[..4];
    if !gateway.is_unicast_link_local() && !neighbours || !is_global(own) {
        return None;
    }
    let scope = if gateway.is_unicast_link_local() { interface_index(interface)? } else { 0 };
    Some(Way { gateway: SocketAddrV6::new(gateway, GATEWAY_PORT, 0, scope).into(), local })
}

fn is_global(ip: Ipv6Addr) -> bool {
    use punchcast::endpoint::Reach;
    Reach::of(ip.into()) == Reach::Global
}

/// Which of our addresses the system would speak to `to` from.
pub(super) fn address_towards(to: SocketAddr) -> Option<IpAddr> {
    let any =
        if to.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).ok()?;
    socket.connect(to).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

fn interface_index(name: &str) -> Option<u32> {
    let table = std::fs::read_to_string("/proc/net/if_inet6").ok()?;
    table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        (*fields.get(5)? == name).then(|| u32::from_str_radix(fields[1], 16).ok())?
    })
}

/// The next hop of the best default route in `/proc/net/route`; `None` if that leads to no gateway.
fn gateway_v4(table: &str) -> Option<Ipv4Addr> {
    let hex = |text: &str| u32::from_str_radix(text, 16).ok();
    let best = table
        .lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [_, destination, gateway, flags, _, _, metric, mask, ..] = fields[..] else { return None };
            let (flags, metric) = (hex(flags)?, metric.parse::<u32>().ok()?);
            let default = hex(destination)? == 0 && hex(mask)? == 0 && flags & UP != 0;
            default.then_some((metric, flags, hex(gateway)?))
        })
        .min_by_key(|(metric, ..)| *metric)?;
    let (_, flags, gateway) = best;
    // The table shows addresses as the processor holds them.
    (flags & GATEWAY != 0).then(|| Ipv4Addr::from(gateway.to_ne_bytes()))
}

/// The next hop and the interface of the best default route in `/proc/net/ipv6_route`.
fn gateway_v6(table: &str) -> Option<(Ipv6Addr, &str)> {
    let best = table
        .lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [destination, length, _, _, hop, metric, _, _, flags, interface] = fields[..] else {
                return None;
            };
            let hop = Ipv6Addr::from(u128::from_str_radix(hop, 16).ok()?);
            let number = |text: &str| u32::from_str_radix(text, 16).ok();
            let (metric, flags) = (number(metric)?, number(flags)?);
            let default = u128::from_str_radix(destination, 16).ok()? == 0 && number(length)? == 0;
            (default && flags & UP != 0 && interface != "lo").then_some((metric, flags, hop, interface))
        })
        .min_by_key(|(metric, ..)| *metric)?;
    let (_, flags, hop, interface) = best;
    (flags & GATEWAY != 0).then_some((hop, interface))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn the_best_default_route_names_the_gateway() {
        let table = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                     wlan0\t00000000\t0101A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\n\
                     eth0\t00000000\tFE0BA8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
                     eth0\t000BA8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n";
        assert_eq!(gateway_v4(table), Some(Ipv4Addr::new(192, 168, 11, 254)));
        let tunnel = format!("{table}tun0\t00000000\t00000000\t0001\t0\t0\t50\t00000000\t0\t0\t0\n");
        assert_eq!(gateway_v4(&tunnel), None, "what leads into a tunnel leads to no home router");
        assert_eq!(gateway_v4("Iface\nnonsense here\n"), None);
    }

    #[test]
    fn the_best_ipv6_default_route_names_gateway_and_interface() {
        let zero = "0".repeat(32);
        let table = format!(
            "fe800000000000000000000000000000 40 {zero} 00 {zero} 00000100 00000001 00000000 00000001     eth0\n\
             {zero} 00 {zero} 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003     eth0\n\
             {zero} 00 {zero} 00 {zero} ffffffff 00000001 00000000 00200200       lo\n"
        );
        assert_eq!(gateway_v6(&table), Some(("fe80::1".parse().unwrap(), "eth0")));
        assert_eq!(gateway_v6(&table.replace("00000003", "00000001")), None);
    }
}
