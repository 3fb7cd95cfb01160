//! The bytes of NAT-PMP (RFC 6886): the outside address, and mappings for TCP.
//!
//! ```text
//!  request  0        1       address: no more        MAP: 0 0 | internal port | external port | lifetime 4
//!         version  opcode
//!  reply   0     1            2..4    4..8   address: 8..12      MAP: 8..10          10..12          12..16
//!         ver  128|opcode    result  epoch   outside address     internal port     external port   lifetime
//! ```

use std::net::Ipv4Addr;

/// The version of the protocol.
pub const VERSION: u8 = 0;

const REPLY: u8 = 128;
const ADDRESS: u8 = 0;
const MAP_TCP: u8 = 2;

/// Asks for the outside address.
#[must_use]
pub fn address_request() -> Vec<u8> {
    vec![VERSION, ADDRESS]
}

/// Asks for a mapping, for its renewal, or with a lifetime (in seconds) of zero for its end. `external` is a wish.
#[must_use]
pub fn map_request(internal_port: u16, external: u16, lifetime: u32) -> Vec<u8> {
    let mut bytes = vec![VERSION, MAP_TCP, 0, 0];
    bytes.extend(internal_port.to_be_bytes());
    // RFC 6886, section 3.4: the end of a mapping names no external port.
    bytes.extend(if lifetime == 0 { 0 } else { external }.to_be_bytes());
    bytes.extend(lifetime.to_be_bytes());
    bytes
}

/// What a gateway answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The outside address.
    Address {
        /// As the gateway says.
        ip: Ipv4Addr,
        /// The gateway's clock, in seconds; see [`Epoch`](super::epoch::Epoch).
        epoch: u32,
    },
    /// A mapping stands; with a lifetime of zero it is gone.
    Mapped {
        /// The request's.
        internal_port: u16,
        /// The outside port that leads to it.
        external_port: u16,
        /// How many seconds it stands.
        lifetime: u32,
        /// As in [`Reply::Address`].
        epoch: u32,
    },
    /// The gateway will not, or does not know how. In answer to a request of another protocol, too.
    Refused {
        /// Why.
        result: u16,
    },
}

/// The result code of a server that does not speak the version that it was asked in.
pub const UNSUPPORTED_VERSION: u16 = 1;

/// What result codes mean (RFC 6886, section 3.5).
#[must_use]
pub const fn describe(result: u16) -> &'static str {
    match result {
        UNSUPPORTED_VERSION => "another version is spoken",
        2 => "it is not allowed",
        3 => "the network beyond is down",
        4 => "there is no room",
        5 => "the opcode is not supported",
        _ => "a reason that the protocol does not name",
    }
}

/// Reads a datagram; `None` if it is no reply that we could have asked for.
#[must_use]
pub fn parse(bytes: &[u8]) -> Option<Reply> {
    let (&[version, opcode], rest) = bytes.split_first_chunk()?;
    let (&result, rest) = rest.split_first_chunk()?;
    if version != VERSION || opcode & REPLY == 0 {
        return None;
    }
    let result = u16::from_be_bytes(result);
    if result != 0 {
        // A refusal may end here, so nothing is asked of the rest.
        return Some(Reply::Refused { result });
    }
    let (&epoch, rest) = rest.split_first_chunk()?;
    let epoch = u32::from_be_bytes(epoch);
    match opcode & !REPLY {
        ADDRESS => Some(Reply::Address { ip: Ipv4Addr::from(*rest.first_chunk::<4>()?), epoch }),
        MAP_TCP => {
            let (&internal, rest) = rest.split_first_chunk()?;
            let (&external, rest) = rest.split_first_chunk()?;
            let lifetime = u32::from_be_bytes(*rest.first_chunk()?);
            let (internal_port, external_port) = (u16::from_be_bytes(internal), u16::from_be_bytes(external));
            Some(Reply::Mapped { internal_port, external_port, lifetime, epoch })
        }
        _ => None,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::portmap) fn address_answer(epoch: u32, ip: [u8; 4]) -> Vec<u8> {
        let mut bytes = vec![0, 128, 0, 0];
        bytes.extend(epoch.to_be_bytes());
        bytes.extend(ip);
        bytes
    }

    pub(in crate::portmap) fn map_answer(epoch: u32, internal: u16, external: u16, lifetime: u32) -> Vec<u8> {
        let mut bytes = vec![0, 130, 0, 0];
        bytes.extend(epoch.to_be_bytes());
        bytes.extend(internal.to_be_bytes());
        bytes.extend(external.to_be_bytes());
        bytes.extend(lifetime.to_be_bytes());
        bytes
    }

    #[test]
    fn requests_have_the_layout_of_the_rfc() {
        assert_eq!(address_request(), [0, 0]);
        assert_eq!(map_request(4711, 4712, 7200), [0, 2, 0, 0, 0x12, 0x67, 0x12, 0x68, 0, 0, 0x1c, 0x20]);
        assert_eq!(map_request(4711, 4712, 0), [0, 2, 0, 0, 0x12, 0x67, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn answers_are_read_back_and_pieces_are_not() {
        let address = address_answer(5, [203, 0, 113, 9]);
        assert_eq!(parse(&address), Some(Reply::Address { ip: [203, 0, 113, 9].into(), epoch: 5 }));
        let mapped = map_answer(6, 4711, 4712, 7200);
        let expected = Reply::Mapped { internal_port: 4711, external_port: 4712, lifetime: 7200, epoch: 6 };
        assert_eq!(parse(&mapped), Some(expected));
        for bytes in [address, mapped] {
            for len in 0..bytes.len() {
                assert_eq!(parse(&bytes[..len]), None, "{len} bytes");
            }
        }
        assert_eq!(parse(&[0, 129, 0, 1, 0, 0, 0, 9]), Some(Reply::Refused { result: 1 }));
        assert_eq!(parse(&map_request(1, 2, 3)), None);
    }
}
