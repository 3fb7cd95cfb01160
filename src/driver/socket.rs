//! Sockets with the options that this project depends on, and the system's errors as [`NetError`]s.

use crate::app::NetError;
use bytes::buf::Limit;
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// Bytes that may wait unsent in the kernel before the socket stops being writable. What waits there can be neither
/// dropped nor overtaken, so it is latency: 16 KiB are 16 ms at 8 Mbit/s.
const NOTSENT_LOWAT: u32 = 16 * 1024;

/// Accept queue. Logins after a daemon's restart arrive in a burst.
const BACKLOG: i32 = 1024;

/// A dead peer without traffic is noticed after 15 s + 3 × 5 s.
const KEEPALIVE_TIME: Duration = Duration::from_secs(15);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;

/// A connection that we opened and whose bytes nobody acknowledged for this long is dead (RFC 5482), whatever the
/// kernel's number of retransmissions: it notices a dead way to the daemon as soon as keepalives do without traffic.
/// Accepted connections have none: a player that is paused takes nothing for longer.
#[cfg(any(target_os = "linux", target_os = "android"))]
const USER_TIMEOUT: Duration = Duration::from_secs(30);

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

/// Whether somebody listens on `port` already. A port that is shared with its own connections ([`NetOp::Listen`](crate::app::NetOp::Listen)
/// with `reuse`) is shared with another program that does the same, and each then gets a part of what comes.
#[must_use]
pub fn is_taken(port: u16) -> bool {
    let any = SocketAddr::from((std::net::Ipv4Addr::UNSPECIFIED, port));
    listen(any, false).is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
}

/// A non-blocking socket that has begun to connect. With `hops`, its first SYN is forwarded by so many routers at most.
pub(super) fn connect(from: Option<SocketAddr>, to: SocketAddr, hops: Option<u8>) -> io::Result<TcpStream> {
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
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    let usual = hops.map(|hops| short_lived::begin(&socket, to, hops)).transpose()?;
    match socket.connect(&to.into()) {
        Ok(()) => {}
        Err(error) if is_in_progress(&error) => {}
        Err(error) => return Err(error),
    }
    if let Some(usual) = usual {
        // The SYN has left with the short life. What follows it (the answer to a crossing SYN, above all) has to arrive.
        short_lived::end(&socket, to, usual)?;
    }
    Ok(socket.into())
}

/// The first SYN's short life.
mod short_lived {
    use super::{Socket, SocketAddr, io, raw};

    /// Shortens it; the usual life, to be given back. The socket ignores the ICMP Time Exceeded that the SYN earns, which
    /// would end the connect: Linux drops ICMP errors about packets with less life left than the minimum.
    pub(super) fn begin(socket: &Socket, to: SocketAddr, hops: u8) -> io::Result<u32> {
        // The host's own hop counts: a life of one ends at the first router.
        let life = u32::from(hops.max(1)) + 1;
        let usual = if to.is_ipv4() { socket.ttl_v4()? } else { socket.unicast_hops_v6()? };
        raw::set_min_life(socket, to.is_ipv4(), 2)?;
        set(socket, to, life)?;
        Ok(usual)
    }

    pub(super) fn end(socket: &Socket, to: SocketAddr, usual: u32) -> io::Result<()> {
        set(socket, to, usual)
    }

    fn set(socket: &Socket, to: SocketAddr, life: u32) -> io::Result<()> {
        if to.is_ipv4() { socket.set_ttl_v4(life) } else { socket.set_unicast_hops_v6(life) }
    }
}

/// Whether a connect under way has heard nothing: it is in SYN_SENT. Where the system does not tell, it has not.
pub(super) fn is_unanswered(stream: &mio::net::TcpStream) -> bool {
    raw::tcp_state(stream).is_none_or(|state| state == raw::SYN_SENT)
}

/// Whether a connect under way has heard a SYN and waits for the acknowledgement of its answer. Where the system does not
/// tell, it has not.
pub(super) fn is_half_open(stream: &mio::net::TcpStream) -> bool {
    raw::tcp_state(stream) == Some(raw::SYN_RECV)
}

/// Whether [`read_into`] saves a copy here.
pub(super) const READS_INTO: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// Reads to the end of `into`, up to its limit, and from there on to `beside`. Returns how many bytes are in each.
pub(super) fn read_into(
    stream: &mio::net::TcpStream,
    into: Limit<&mut Vec<u8>>,
    beside: &mut [u8],
) -> io::Result<(usize, usize)> {
    raw::read_into(stream, into, beside)
}

/// The socket options that no safe library offers, and the reading to memory that nothing was written to. The only unsafe
/// code of this crate.
#[cfg(any(target_os = "linux", target_os = "android"))]
#[allow(unsafe_code)]
mod raw {
    use bytes::BufMut as _;
    use bytes::buf::Limit;
    use std::io;
    use std::os::fd::AsRawFd;

    /// `TCP_SYN_SENT` of the kernel's `tcp_states.h`.
    pub(super) const SYN_SENT: u8 = 2;

    /// `TCP_SYN_RECV` of the same.
    pub(super) const SYN_RECV: u8 = 3;

    /// `IPV6_MINHOPCOUNT` of the kernel's `in6.h`.
    const IPV6_MINHOPCOUNT: libc::c_int = 73;

    /// `IP_MINTTL` (ip(7)) or its IPv6 twin.
    pub(super) fn set_min_life(socket: &impl AsRawFd, v4: bool, life: libc::c_int) -> io::Result<()> {
        let (level, name) =
            if v4 { (libc::IPPROTO_IP, libc::IP_MINTTL) } else { (libc::IPPROTO_IPV6, IPV6_MINHOPCOUNT) };
        // SAFETY: the descriptor is open for the borrow's time; the value is a c_int that outlives the call, and its size
        // is given.
        let result = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                level,
                name,
                std::ptr::from_ref(&life).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// `readv` (readv(2)).
    pub(super) fn read_into(
        socket: &impl AsRawFd,
        mut into: Limit<&mut Vec<u8>>,
        beside: &mut [u8],
    ) -> io::Result<(usize, usize)> {
        let spare = into.chunk_mut();
        let room = spare.len();
        let parts = [
            libc::iovec { iov_base: spare.as_mut_ptr().cast(), iov_len: room },
            libc::iovec { iov_base: beside.as_mut_ptr().cast(), iov_len: beside.len() },
        ];
        // SAFETY: the descriptor is open for the borrow's time; both parts are borrowed for as long, with their lengths, and the
        // kernel does nothing but write to them.
        let count = unsafe { libc::readv(socket.as_raw_fd(), parts.as_ptr(), 2) };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        // SAFETY: the kernel has written so many bytes there, from the beginning on.
        unsafe { into.advance_mut(count.min(room)) };
        Ok((count.min(room), count.saturating_sub(room)))
    }

    /// The first byte of `TCP_INFO` (tcp(7)): the connection's state.
    pub(super) fn tcp_state(socket: &impl AsRawFd) -> Option<u8> {
        let mut state = 0_u8;
        let mut len: libc::socklen_t = 1;
        // SAFETY: the descriptor is open for the borrow's time; the kernel writes at most `len` bytes to `state`, and the
        // new length to `len`; both outlive the call.
        let result = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_INFO,
                std::ptr::from_mut(&mut state).cast(),
                &raw mut len,
            )
        };
        (result == 0 && len == 1).then_some(state)
    }
}

/// Elsewhere a knock is a plain connect whose first SYN may be answered, and a connect is given up blindly.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod raw {
    use bytes::buf::Limit;
    use std::io;

    pub(super) const SYN_SENT: u8 = 2;
    pub(super) const SYN_RECV: u8 = 3;

    pub(super) fn set_min_life<S>(_socket: &S, _v4: bool, _life: i32) -> io::Result<()> {
        Ok(())
    }

    pub(super) fn tcp_state<S>(_socket: &S) -> Option<u8> {
        None
    }

    pub(super) fn read_into(
        mut stream: &mio::net::TcpStream,
        _into: Limit<&mut Vec<u8>>,
        beside: &mut [u8],
    ) -> io::Result<(usize, usize)> {
        Ok((0, io::Read::read(&mut stream, beside)?))
    }
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

/// Has the system's TCP begin to measure the line anew, if that is BBR: to see how long the way is, it lets next to nothing
/// through for 200 ms, ten seconds after it has begun and every ten seconds from then on, and a live picture stands still. How
/// much is on its way decides [`crate::link`] anyway. Another TCP without such pauses, Reno or CUBIC, would do worse
/// where packets are lost.
#[cfg(target_os = "linux")]
pub(super) fn avoid_pause(stream: &mio::net::TcpStream) {
    let socket = socket2::SockRef::from(stream);
    let Ok(name) = socket.tcp_congestion() else { return };
    if name.starts_with(b"bbr") {
        // To be set to what it is does nothing; Reno is allowed to everybody, and so is what the system has by itself.
        let set = socket.set_tcp_congestion(b"reno").and_then(|()| socket.set_tcp_congestion(&name));
        if let Err(error) = set {
            log::debug!("BBR cannot be begun anew: {error}");
        }
    }
}

/// Elsewhere no such TCP is known.
#[cfg(not(target_os = "linux"))]
pub(super) const fn avoid_pause(_stream: &mio::net::TcpStream) {}

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
