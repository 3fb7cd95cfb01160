//! The request heads of one connection, one after another: how long each may take, and whether another may follow.
//!
//! What is answered is each page's own. A connection begins with one of these; it ends, or becomes something else, with a
//! request that asks for that.

use super::http::{self, Head, MAX_HEAD, Request, Response, Status};
use punchcast::app::Closing;
use std::time::{Duration, Instant};

/// How long a request head may take to arrive, from the connection or from its first byte. On any path that can
/// carry a picture a head of one packet takes milliseconds; five seconds are what a slow proxy or a loaded machine may add.
pub(crate) const HEAD_TIME: Duration = Duration::from_secs(5);

/// How long a connection may idle after a response. Browsers keep theirs for the page's other files.
pub(crate) const IDLE_TIME: Duration = Duration::from_secs(30);

/// A connection between two requests, or within a head.
#[derive(Debug)]
pub(crate) struct Heads {
    /// The head so far.
    head: Vec<u8>,
    /// When it must be complete.
    until: Instant,
}

/// One request.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) request: Request,
    /// What came behind its head: what a WebSocket begins with.
    pub(crate) rest: Vec<u8>,
}

/// What goes to the peer.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    /// Send this.
    pub(crate) send: Vec<u8>,
    /// Then close.
    pub(crate) close: Option<Closing>,
}

impl Reply {
    fn refuse(status: Status, text: &str) -> Self {
        let send = Response::refusal(status, text).encode(false, false);
        Self { send, close: Some(Closing::Flush) }
    }
}

/// A line for whoever sees that a head was refused.
fn why_refused(status: Status) -> &'static str {
    if status == Status::MethodNotAllowed {
        "The page takes GET and HEAD requests only."
    } else if status == Status::HeadTooLarge {
        "The request's head is too long, probably by cookies of other pages at this address: open this page in a private \
         window, or clear them."
    } else {
        "The request could not be read."
    }
}

impl Heads {
    /// Those of a connection accepted at `now`.
    pub(crate) fn new(now: Instant) -> Self {
        Self { head: Vec::new(), until: now + HEAD_TIME }
    }

    /// Takes received bytes. `Ok(None)` waits for more; `Err` refuses what is no request.
    pub(crate) fn receive(&mut self, now: Instant, bytes: &[u8]) -> Result<Option<Asked>, Reply> {
        if self.head.is_empty() {
            self.until = now + HEAD_TIME;
        }
        self.head.extend_from_slice(bytes);
        match http::parse(&self.head) {
            Head::Partial => Ok(None),
            Head::Refused(status) => Err(Reply::refuse(status, why_refused(status))),
            Head::Complete(request, length) => {
                debug_assert!(length <= MAX_HEAD);
                let rest = self.head.split_off(length);
                self.head.clear();
                Ok(Some(Asked { request, rest }))
            }
        }
    }

    /// Answers a request.
    pub(crate) fn reply(&mut self, now: Instant, asked: &Asked, response: &Response) -> Reply {
        self.until = now + IDLE_TIME;
        // A request sent before the last one was answered could make answers pile up; no browser does it.
        let keep_alive = asked.request.keep_alive && response.status == Status::Ok && asked.rest.is_empty();
        let send = response.encode(asked.request.head_only, keep_alive);
        Reply { send, close: (!keep_alive).then_some(Closing::Flush) }
    }

    /// Takes the passing of time. Who is `backlogged` takes no word of farewell.
    pub(crate) fn tick(&mut self, now: Instant, backlogged: bool) -> Reply {
        if now < self.until {
            return Reply::default();
        }
        if self.head.is_empty() || backlogged {
            return Reply { close: Some(Closing::Abort), ..Reply::default() };
        }
        Reply::refuse(Status::RequestTimeout, "The request took too long to arrive.")
    }

    /// When `tick` has something to do, and why.
    pub(crate) fn deadline(&self) -> (Instant, &'static str) {
        (self.until, if self.head.is_empty() { "page: idle connection" } else { "page: request head" })
    }
}
