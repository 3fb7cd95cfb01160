//! The bytes of the Port Control Protocol (RFC 6887): MAP for TCP, and ANNOUNCE as a question whether anybody is there.
//!
//! ```text
//!  request   0       1       2..4      4..8      8..24            reply   0     1        2   3       4..8      8..12  12..24
//!          version  opcode  reserved  lifetime  our address              ver  R|opcode  0  result  lifetime   epoch    0
//!  MAP, both ways, after it:  nonce 12 | protocol 1, reserved 3 | internal port 2, external port 2 | external address 16
//! ```

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// The version of the protocol.
pub const VERSION: u8 = 2;

/// Bytes of what comes before an opcode's own (RFC 6887, section 7).
const HEADER_LEN: usize = 24;
/// Bytes of a MAP message without options.
const MAP_LEN: usize = HEADER_LEN + 36;
/// No message is longer (RFC 6887, section 7).
const MAX_LEN: usize = 1100;

const REPLY: u8 = 0x80;
const ANNOUNCE: u8 = 0;
const MAP: u8 = 1;
/// The protocol number of TCP.
const TCP: u8 = 6;

/// What ties replies to a mapping, and keeps others from changing it.
pub type Nonce = [u8; 12];

/// Asks for a mapping of one TCP port, for its renewal, or with a lifetime of zero for its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapRequest {
    /// Our address, as the gateway sees the request come from: it detects a NAT between by it.
    pub client: IpAddr,
    /// Drawn once for a mapping.
    pub nonce: Nonce,
    /// Our port.
    pub internal_port: u16,
    /// What we would like, or had: a hint. `None`: anything.
    pub external: Option<SocketAddr>,
    /// In seconds; 0 removes the mapping.
    pub lifetime: u32,
}

impl MapRequest {
    /// As it goes over the wire.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = header(MAP, self.lifetime, self.client);
        bytes.extend(self.nonce);
        bytes.extend([TCP, 0, 0, 0]);
        bytes.extend(self.internal_port.to_be_bytes());
        // No address of a family is an address of that family (RFC 6887, section 11.1).
        let none = if self.client.is_ipv4() { [0, 0, 0, 0].into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let external = self.external.unwrap_or(SocketAddr::new(none, 0));
        bytes.extend(external.port().to_be_bytes());
        bytes.extend(to_v6(external.ip()).octets());
        debug_assert_eq!(bytes.len(), MAP_LEN);
        bytes
    }
}

/// Asks whether a server is there, and changes nothing (RFC 6887, section 14.1).
#[must_use]
pub fn announce(client: IpAddr) -> Vec<u8> {
    header(ANNOUNCE, 0, client)
}

fn header(opcode: u8, lifetime: u32, client: IpAddr) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(MAP_LEN);
    bytes.extend([VERSION, opcode, 0, 0]);
    bytes.extend(lifetime.to_be_bytes());
    bytes.extend(to_v6(client).octets());
    bytes
}

/// IPv4 addresses travel as IPv4-mapped IPv6 ones (RFC 6887, section 5).
const fn to_v6(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

/// What a gateway answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A mapping stands; with a lifetime of zero it is gone.
    Mapped {
        /// The request's.
        nonce: Nonce,
        /// The request's.
        internal_port: u16,
        /// What leads to it.
        external: SocketAddr,
        /// How many seconds it stands.
        lifetime: u32,
        /// The gateway's clock, in seconds; see [`Epoch`](super::epoch::Epoch).
        epoch: u32,
    },
    /// A server is there.
    Announced {
        /// As in [`Reply::Mapped`].
        epoch: u32,
    },
    /// The gateway will not, or does not know how.
    Refused {
        /// The request's; `None` in a reply without it.
        nonce: Option<Nonce>,
        /// Why.
        result: u8,
        /// How many seconds asking again is of no use.
        lifetime: u32,
        /// As in [`Reply::Mapped`].
        epoch: u32,
    },
}

/// The result code of a server that does not speak our version.
pub const UNSUPPORTED_VERSION: u8 = 1;

/// What result codes mean (RFC 6887, section 7.4).
#[must_use]
pub const fn describe(result: u8) -> &'static str {
    match result {
        UNSUPPORTED_VERSION => "another version is spoken",
        2 => "it is not allowed",
        3 => "the request is malformed",
        4 => "the opcode is not supported",
        5 => "an option is not supported",
        6 => "an option is malformed",
        7 => "the network beyond is down",
        8 => "there is no room",
        9 => "TCP is not supported",
        10 => "this host has too many mappings",
        11 => "the wanted endpoint is taken",
        12 => "another NAT stands before the gateway",
        13 => "there are too many remote peers",
        _ => "a reason that the protocol does not name",
    }
}

/// Reads a datagram; `None` if it is no reply of this version that we could have asked for.
#[must_use]
pub fn parse(bytes: &[u8]) -> Option<Reply> {
    if bytes.len() > MAX_LEN || !bytes.len().is_multiple_of(4) {
        return None;
    }
    let header = bytes.first_chunk::<HEADER_LEN>()?;
    let (&[version, opcode, _, result], rest) = header.split_first_chunk()?;
    let (lifetime, rest) = rest.split_first_chunk()?;
    let (epoch, _) = rest.split_first_chunk()?;
    let (lifetime, epoch) = (u32::from_be_bytes(*lifetime), u32::from_be_bytes(*epoch));
    if version != VERSION || opcode & REPLY == 0 {
        return None;
    }
    let payload = &bytes[HEADER_LEN..];
    if result != 0 {
        return Some(Reply::Refused { nonce: payload.first_chunk().copied(), result, lifetime, epoch });
    }
    match opcode & !REPLY {
        ANNOUNCE => Some(Reply::Announced { epoch }),
        MAP => {
            let (&nonce, rest) = payload.split_first_chunk()?;
            let (&[protocol, ..], rest) = rest.split_first_chunk::<4>()?;
            let (&internal, rest) = rest.split_first_chunk()?;
            let (&external, rest) = rest.split_first_chunk()?;
            let (&ip, _) = rest.split_first_chunk::<16>()?;
            let external = SocketAddr::new(IpAddr::from(ip).to_canonical(), u16::from_be_bytes(external));
            let internal_port = u16::from_be_bytes(internal);
            (protocol == TCP).then_some(Reply::Mapped { nonce, internal_port, external, lifetime, epoch })
        }
        _ => None,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A server's answer to a request, as RFC 6887 has it copied and filled in.
    pub(in crate::portmap) fn answer(
        request: &[u8],
        result: u8,
        lifetime: u32,
        epoch: u32,
        to: &str,
    ) -> Vec<u8> {
        let mut bytes = request.to_vec();
        bytes[1] |= REPLY;
        bytes[3] = result;
        bytes[4..8].copy_from_slice(&lifetime.to_be_bytes());
        bytes[8..12].copy_from_slice(&epoch.to_be_bytes());
        bytes[12..24].fill(0);
        if bytes.len() == MAP_LEN && result == 0 {
            let to: SocketAddr = to.parse().unwrap();
            bytes[42..44].copy_from_slice(&to.port().to_be_bytes());
            bytes[44..60].copy_from_slice(&to_v6(to.ip()).octets());
        }
        bytes
    }

    pub(in crate::portmap) fn request() -> MapRequest {
        MapRequest {
            client: "192.168.1.2".parse().unwrap(),
            nonce: *b"abcdefghijkl",
            internal_port: 4711,
            external: None,
            lifetime: 1800,
        }
    }

    #[test]
    fn a_request_has_the_layout_of_the_rfc() {
        let bytes = request().to_bytes();
        assert_eq!(bytes[..8], [2, 1, 0, 0, 0, 0, 0x07, 0x08]);
        assert_eq!(bytes[8..24], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 168, 1, 2]);
        assert_eq!(&bytes[24..36], b"abcdefghijkl");
        assert_eq!(bytes[36..44], [6, 0, 0, 0, 0x12, 0x67, 0, 0]);
        assert_eq!(bytes[44..60], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0]);
        assert_eq!(announce("fd00::1".parse().unwrap()).len(), HEADER_LEN);
    }

    #[test]
    fn answers_are_read_back() {
        let bytes = answer(&request().to_bytes(), 0, 900, 77, "203.0.113.9:4712");
        let expected = Reply::Mapped {
            nonce: *b"abcdefghijkl",
            internal_port: 4711,
            external: "203.0.113.9:4712".parse().unwrap(),
            lifetime: 900,
            epoch: 77,
        };
        assert_eq!(parse(&bytes), Some(expected));
        let refused = answer(&request().to_bytes(), 8, 30, 78, "");
        let nonce = Some(*b"abcdefghijkl");
        assert_eq!(parse(&refused), Some(Reply::Refused { nonce, result: 8, lifetime: 30, epoch: 78 }));
        let there = answer(&announce("192.168.1.2".parse().unwrap()), 0, 0, 79, "");
        assert_eq!(parse(&there), Some(Reply::Announced { epoch: 79 }));
    }

    #[test]
    fn requests_other_versions_and_pieces_are_no_replies() {
        let good = answer(&request().to_bytes(), 0, 900, 77, "203.0.113.9:4712");
        assert_eq!(parse(&request().to_bytes()), None);
        for len in 0..good.len() {
            assert_eq!(parse(&good[..len]), None, "{len} bytes");
        }
        let mut other = good.clone();
        other[0] = 1;
        assert_eq!(parse(&other), None);
        let mut udp = good.clone();
        udp[36] = 17;
        assert_eq!(parse(&udp), None);
        let mut long = good;
        long.resize(MAX_LEN + 4, 0);
        assert_eq!(parse(&long), None);
    }
}
