//! The daemon's address as people write it: `HOST[:PORT]`.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// The daemon's main port unless told otherwise.
pub const MAIN_PORT: u16 = 4000;

/// The daemon's assist port unless told otherwise.
pub const ASSIST_PORT: u16 = 8000;

/// The longest DNS name (RFC 1035 §2.3.4, as text without the last dot).
const MAX_NAME: usize = 253;

/// The longest label of a DNS name (RFC 1035 §2.3.4).
const MAX_LABEL: usize = 63;

/// A daemon. The text form has host and main port; the assist port is told apart from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Where.
    pub host: Host,
    /// The port of main connections.
    pub main: u16,
    /// The port of assist connections.
    pub assist: u16,
}

/// A host: an address, or a name to ask DNS for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// An address, never an IPv4-mapped one.
    Ip(IpAddr),
    /// A DNS name in small letters.
    Name(String),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(IpAddr::V4(ip)) => ip.fmt(f),
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.main)
    }
}

impl FromStr for Server {
    type Err = ServerError;

    /// Reads `HOST` or `HOST:PORT`; HOST is a name, an IPv4 address or an IPv6 address in brackets.
    fn from_str(text: &str) -> Result<Self, ServerError> {
        if text.contains("://") {
            return Err(ServerError::Scheme);
        }
        let (host, port) = if let Some(text) = text.strip_prefix('[') {
            let (ip, port) = text.split_once(']').ok_or(ServerError::Host)?;
            let ip: Ipv6Addr = ip.parse().map_err(|_| ServerError::Host)?;
            let port =
                if port.is_empty() { None } else { Some(port.strip_prefix(':').ok_or(ServerError::Port)?) };
            (Host::Ip(IpAddr::V6(ip).to_canonical()), port)
        } else {
            let (host, port) = match text.split_once(':') {
                Some((_, port)) if port.contains(':') => return Err(ServerError::Brackets),
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            };
            (parse_host(host)?, port)
        };
        let main = port.map_or(Ok(MAIN_PORT), parse_port)?;
        Ok(Self { host, main, assist: ASSIST_PORT })
    }
}

/// Why a text is no `HOST[:PORT]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ServerError {
    /// Neither a name nor an address.
    Host,
    /// An IPv6 address without brackets.
    Brackets,
    /// No port.
    Port,
    /// A scheme before it, as in a URL.
    Scheme,
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scheme => "a host name or an address is wanted, without a scheme such as http:// before it",
            Self::Host => "the host is neither a name nor an address",
            Self::Brackets => "an IPv6 address is written in brackets, as in [2001:db8::1]:4000",
            Self::Port => "the port is not a number from 1 to 65535",
        })
    }
}

impl std::error::Error for ServerError {}

/// Reads a port as it is written here: digits only, no zero before them.
pub(super) fn parse_port(text: &str) -> Result<u16, ServerError> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) || text.starts_with('0') {
        return Err(ServerError::Port);
    }
    text.parse().map_err(|_| ServerError::Port)
}

fn parse_host(text: &str) -> Result<Host, ServerError> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(Host::Ip(ip));
    }
    let label_is_right = |label: &str| {
        (1..=MAX_LABEL).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // A last label of digits alone is a mistyped IPv4 address; no such top-level domain exists.
    let numeric = text.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    if text.len() > MAX_NAME || numeric || !text.split('.').all(label_is_right) {
        return Err(ServerError::Host);
    }
    Ok(Host::Name(text.to_ascii_lowercase()))
}
