//! The way from the host's browser to a page inside a namespace: a Unix socket in a private directory.
//!
//! ```text
//! browser ─▶ 127.0.0.1:PORT  front ─▶ Unix socket ─▶ bridge  127.0.0.1:PORT ◀─ the viewer's page
//!            (the host's)                            (in the viewer's namespace)
//! ```
//!
//! A file is reached from every network namespace, so no interface, address or route has to cross. Both ends copy
//! bytes and understand none of them.

use std::io::{self, Read as _, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Connections carried at once. A browser opens six to one host, and a page here has a few of them.
const MAX_CONNS: usize = 64;

/// The host's end: every connection to `listener` goes to the Unix socket. Ends with the program.
pub(super) fn front(listener: &TcpListener, socket: &Path) {
    let room = Arc::new(AtomicUsize::new(0));
    for browser in listener.incoming() {
        let Ok(browser) = browser else { continue };
        let Some(place) = Place::take(&room) else { continue };
        // Refused while the bridge is not up yet: the browser sees a closed connection and may try again.
        let Ok(inner) = UnixStream::connect(socket) else { continue };
        carry(place, browser, inner);
    }
}

/// The namespace's end: every connection to the Unix socket goes to the page. Ends when standard input does, which
/// is when the demo is gone.
pub(super) fn serve_until_abandoned(socket: &Path, page: SocketAddr) -> io::Result<i32> {
    let listener = UnixListener::bind(socket)?;
    thread::spawn(move || serve(&listener, page));
    let mut ignored = [0; 64];
    while io::stdin().lock().read(&mut ignored)? > 0 {}
    Ok(0)
}

/// The loop of [`serve_until_abandoned`].
pub(super) fn serve(listener: &UnixListener, page: SocketAddr) {
    let room = Arc::new(AtomicUsize::new(0));
    for outer in listener.incoming() {
        let Ok(outer) = outer else { continue };
        let Some(place) = Place::take(&room) else { continue };
        let Ok(inner) = TcpStream::connect(page) else { continue };
        carry(place, inner, outer);
    }
}

/// One of [`MAX_CONNS`] places, given back on drop.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(room: &Arc<AtomicUsize>) -> Option<Self> {
        // Only the accepting thread adds, so the check and the addition cannot be overtaken.
        (room.load(Ordering::Relaxed) < MAX_CONNS).then(|| {
            room.fetch_add(1, Ordering::Relaxed);
            Self(Arc::clone(room))
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Copies both ways until both ends are done. A connection that cannot get its threads is dropped.
fn carry(place: Place, tcp: TcpStream, unix: UnixStream) {
    // Small live frames: waiting to fill a segment would show as lag in the picture.
    let _ = tcp.set_nodelay(true);
    let (Ok(tcp_back), Ok(unix_back)) = (tcp.try_clone(), unix.try_clone()) else { return };
    let place = Arc::new(place);
    let place_back = Arc::clone(&place);
    let _ = thread::Builder::new().spawn(move || {
        copy(&tcp, &unix);
        let _ = unix.shutdown(Shutdown::Write);
        let _ = tcp.shutdown(Shutdown::Read);
        drop(place);
    });
    let _ = thread::Builder::new().spawn(move || {
        copy(&unix_back, &tcp_back);
        let _ = tcp_back.shutdown(Shutdown::Write);
        let _ = unix_back.shutdown(Shutdown::Read);
        drop(place_back);
    });
}

/// Copies until the end of `from` or an error at either: both end this direction.
fn copy(mut from: impl io::Read, mut to: impl Write) {
    let _ = io::copy(&mut from, &mut to);
}
