//! Addresses and keys of plain RTMP, as options give them.

use super::{Failure, args};
use punchcast::rtmp::RtmpUrl;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

/// Where a caster serves play if no port is said.
const SERVE_PORT: u16 = 1937;

/// The shortest stream key that a user may choose: with strangers held to some eight tries a second each, guessing
/// twelve letters and digits is hopeless.
const SHORTEST_KEY: usize = 12;

/// Addresses of a dialled name that are tried: two of each family are what a well-kept name has.
const MOST_ADDRS: usize = 4;

/// `--rtmp-key KEY`: at least [`SHORTEST_KEY`] characters that need no escape in an address.
pub(super) fn key(value: OsString) -> Result<String, Failure> {
    let text = args::text("rtmp-key", value)?;
    let plain = |char: char| char.is_ascii_alphanumeric() || matches!(char, '-' | '_');
    if text.len() < SHORTEST_KEY || !text.chars().all(plain) {
        // Never echoed: it is a secret.
        return Err(Failure::Usage(format!(
            "--rtmp-key takes at least {SHORTEST_KEY} letters, digits, - or _"
        )));
    }
    Ok(text)
}

/// A key that nobody guesses: 128 bits of the system's randomness.
pub(super) fn random_key() -> Result<String, Failure> {
    let mut key = String::with_capacity(32);
    for byte in super::view::random_bytes()? {
        // Writing to a string cannot fail.
        let _ = write!(key, "{byte:02x}");
    }
    Ok(key)
}

/// `--serve ADDR`: as any address, and an IP address alone is at [`SERVE_PORT`].
pub(super) fn serve_addr(value: OsString) -> Result<SocketAddr, Failure> {
    let text = args::text("serve", value.clone())?;
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(&text);
    match bare.parse::<IpAddr>() {
        Ok(ip) => Ok(SocketAddr::new(ip, SERVE_PORT)),
        Err(_) => args::addr("serve", value),
    }
}

/// `--dial URL`.
pub(super) fn url(value: OsString) -> Result<RtmpUrl, Failure> {
    let text = args::text("dial", value)?;
    // Never echoed: the key is a secret.
    RtmpUrl::parse(&text).map_err(|error| {
        Failure::Usage(format!("--dial: {error}; it looks like rtmp://HOST:1937/punchcast/KEY"))
    })
}

/// The addresses of the server that a URL names.
pub(super) fn resolve(url: &RtmpUrl) -> Result<Vec<SocketAddr>, Failure> {
    let found = (url.host.as_str(), url.port).to_socket_addrs().map_err(|error| {
        Failure::Failed(format!("--dial: the name {:?} cannot be looked up: {error}", url.host))
    })?;
    let mut addrs: Vec<SocketAddr> = found.collect();
    addrs.dedup();
    addrs.truncate(MOST_ADDRS);
    if addrs.is_empty() {
        return Err(Failure::Failed(format!("--dial: the name {:?} has no address", url.host)));
    }
    Ok(addrs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_long_enough_plain_and_never_echoed() {
        assert!(key("correct-horse_12".into()).is_ok());
        for bad in ["short", "with a blank in", "with/a/slash/in", ""] {
            let Err(Failure::Usage(why)) = key(bad.into()) else { panic!("{bad:?} is taken") };
            assert!(bad.is_empty() || !why.contains(bad), "{why}");
        }
        let [one, two] = [random_key(), random_key()].map(|key| key.expect("randomness"));
        assert!(one != two && key(one.into()).is_ok());
    }

    #[test]
    fn a_bare_address_serves_at_the_usual_port() {
        let cases = [
            ("0.0.0.0", "0.0.0.0:1937"),
            ("::", "[::]:1937"),
            ("[::1]", "[::1]:1937"),
            ("10.0.0.1:99", "10.0.0.1:99"),
            ("0", "127.0.0.1:0"),
        ];
        for (text, addr) in cases {
            assert_eq!(serve_addr(text.into()).expect(text), addr.parse().expect(addr), "{text}");
        }
    }

    #[test]
    fn a_bad_url_is_not_echoed() {
        let Err(Failure::Usage(why)) = url("http://h/app/secret-key".into()) else { panic!("taken") };
        assert!(!why.contains("secret-key"), "{why}");
    }
}
