//! Sockets with the options that this project depends on, and the system's errors as [`NetError`]s.

use crate::app::NetError;
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// Bytes that may wait unsent in the kernel before the socket stops being writable. What waits there can be neither
/// dropped nor overtaken, so it is latency: 32 KiB are 32 ms at 8 Mbit/s.
const NOTSENT_LOWAT: u32 = 32 * 1024;

/// Accept queue. Logins after a daemon's restart arrive in a burst.
const BACKLOG: i32 = 1024;

/// A dead peer without traffic is noticed after 15 s + 3 × 5 s.
const KEEPALIVE_TIME: Duration = Duration::from_secs(15);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;

/// A bound, listening, non-blocking socket.
///
/// `reuse` shares the port with connections opened from it: `SO_REUSEADDR` and `SO_REUSEPORT`, before `bind`, on
/// every socket of the port (Linux refuses a second bind beside a listener with `SO_REUSEADDR` alone). A reusable
/// IPv6 listener takes IPv6 only, so that an IPv4 one may stand beside it; another one takes both families.
pub(super) fn listen(addr: SocketAddr, reuse: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(reuse)?;
    }
    socket.set_reuse_address(true)?;
    if reuse {
        share_port(&socket)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A non-blocking socket that has begun to connect.
pub(super) fn connect(from: Option<SocketAddr>, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    if let Some(from) = from {
        if from.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_reuse_address(true)?;
        share_port(&socket)?;
        socket.bind(&from.into())?;
    }
    prepare(&socket)?;
    match socket.connect(&to.into()) {
        Ok(()) => {}
        Err(error) if is_in_progress(&error) => {}
        Err(error) => return Err(error),
    }
    Ok(socket.into())
}

/// Sets what every connection has, opened or accepted.
pub(super) fn prepare_accepted(stream: &mio::net::TcpStream) {
    if let Err(error) = prepare(&socket2::SockRef::from(stream)) {
        log::debug!("cannot set options of an accepted connection: {error}");
    }
}

fn prepare(socket: &Socket) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket.set_tcp_notsent_lowat(NOTSENT_LOWAT)?;
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(KEEPALIVE_TIME)
            .with_interval(KEEPALIVE_INTERVAL)
            .with_retries(KEEPALIVE_RETRIES),
    )
}

#[cfg(unix)]
fn share_port(socket: &Socket) -> io::Result<()> {
    socket.set_reuse_port(true)
}

/// On Windows `SO_REUSEADDR` alone does it.
#[cfg(not(unix))]
fn share_port(_socket: &Socket) -> io::Result<()> {
    Ok(())
}

fn is_in_progress(error: &io::Error) -> bool {
    // EINPROGRESS has no stable `ErrorKind`; 115 on Linux, 36 on macOS and the BSDs.
    error.kind() == io::ErrorKind::WouldBlock || matches!(error.raw_os_error(), Some(115 | 36))
}

/// What an error of the system means to an application.
pub(super) fn net_error(error: &io::Error) -> NetError {
    #[allow(clippy::wildcard_enum_match_arm)] // `ErrorKind` is open-ended.
    match error.kind() {
        io::ErrorKind::ConnectionRefused => NetError::Refused,
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe => {
            NetError::Reset
        }
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable | io::ErrorKind::NetworkDown => {
            NetError::Unreachable
        }
        io::ErrorKind::TimedOut => NetError::TimedOut,
        io::ErrorKind::AddrInUse => NetError::AddrInUse,
        io::ErrorKind::AddrNotAvailable => NetError::AddrNotAvailable,
        io::ErrorKind::PermissionDenied => NetError::Denied,
        _ => match error.raw_os_error() {
            Some(23 | 24) => NetError::TooManyFiles,
            code => NetError::Other(code.unwrap_or(0)),
        },
    }
}
