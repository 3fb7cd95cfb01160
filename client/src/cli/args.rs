//! Values that several commands take.

use super::Failure;
use punchcast::ticket::{ASSIST_PORT, MAIN_PORT, Server};
use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::str::FromStr;
use std::time::Duration;

/// A value as text.
pub(super) fn text(option: &str, value: OsString) -> Result<String, Failure> {
    value.into_string().map_err(|value| Failure::Usage(format!("--{option}: {value:?} is not text")))
}

/// `ADDR`: `IP:PORT`, `:PORT` or `PORT` (on loopback), `NAME:PORT`.
pub(super) fn addr(option: &str, value: OsString) -> Result<SocketAddr, Failure> {
    let text = text(option, value)?;
    let bad = || {
        Failure::Usage(format!(
            "--{option}: {text:?} is no address; give IP:PORT or PORT (port 0 takes a free one)"
        ))
    };
    if let Ok(port) = text.strip_prefix(':').unwrap_or(&text).parse::<u16>() {
        return Ok(SocketAddr::new(IpAddr::from([127, 0, 0, 1]), port));
    }
    if let Ok(addr) = SocketAddr::from_str(&text) {
        return Ok(addr);
    }
    text.to_socket_addrs().map_err(|_| bad())?.next().ok_or_else(bad)
}

/// `HOST[:PORT]` of `--server`.
pub(super) fn server(value: OsString) -> Result<Server, Failure> {
    let text = text("server", value)?;
    text.parse().map_err(|error| Failure::Usage(format!("--server: {error}")))
}

/// The daemon of `--server` with the assist port of `--assist`, or the usual one.
pub(super) fn daemon(mut server: Server, assist: Option<u16>) -> Result<Server, Failure> {
    server.assist = assist.unwrap_or(server.assist);
    if server.assist == server.main {
        return Err(Failure::Usage(format!(
            "port {} can be only one of the daemon's: --server HOST[:PORT] takes its main port (usually {MAIN_PORT}), \
             --assist PORT its assist port (usually {ASSIST_PORT})",
            server.main
        )));
    }
    Ok(server)
}

/// `PORT`, not 0.
pub(super) fn port(option: &str, value: OsString) -> Result<u16, Failure> {
    let text = text(option, value)?;
    let port = text.parse().ok().filter(|port| *port != 0);
    port.ok_or_else(|| Failure::Usage(format!("--{option}: {text:?} is no port (1 to 65535)")))
}

/// `SECS`: a number of seconds, fractions allowed, above zero.
pub(super) fn seconds(option: &str, value: OsString) -> Result<Duration, Failure> {
    let text = text(option, value)?;
    let secs: Option<f64> = text.parse().ok().filter(|secs: &f64| *secs > 0.0 && *secs <= 1e7);
    secs.map(Duration::from_secs_f64)
        .ok_or_else(|| Failure::Usage(format!("--{option}: {text:?} is no number of seconds above zero")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_has_two_ports() {
        let parsed = |name: &str, assist| daemon(name.parse().expect("a name"), assist);
        for (name, assist, ports) in
            [("h", None, (4000, 8000)), ("h", Some(8001), (4000, 8001)), ("h:8000", Some(4000), (8000, 4000))]
        {
            let server = parsed(name, assist).expect(name);
            assert_eq!((server.main, server.assist), ports, "{name}");
        }
        for (name, assist, port) in
            [("h", Some(4000), "4000"), ("[::1]:9", Some(9), "9"), ("h:8000", None, "8000")]
        {
            let Err(Failure::Usage(why)) = parsed(name, assist) else { panic!("{name} is taken") };
            assert!(why.starts_with(&format!("port {port} can be only one")), "{why}");
            assert!(why.contains("main port") && why.contains("assist port"), "{why}");
        }
    }
}
