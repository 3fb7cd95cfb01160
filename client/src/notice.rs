//! What the viewer's and the caster's applications tell the program around them, and how it is shown.
//!
//! With `--json`, each notice is one JSON object a line on standard output, with `event` and `t_ms`. Otherwise
//! results go to standard output and talk to standard error, in words.

mod json;
mod talk;

use crate::caster::Pace;
use crate::meeting::Link;
use crate::rtmp_port::{Mode, TurnedAway};
use crate::sink::Begun;
use crate::stats::Counts;
use punchcast::app::{NetOp, Room};
use punchcast::id::ClientId;
use punchcast::media::Unit;
use punchcast::policy::{Obstacle, Rung};
use punchcast::portmap::Mapping;
use punchcast::punch::Answer;
use punchcast::rendezvous::agent;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;
pub(crate) use talk::{assist_words, findings_words, no_code_words, refusal_words};

/// What happened, for users and scripts.
#[derive(Clone, Debug)]
pub enum Notice {
    /// Everything is bound.
    Ready {
        /// The viewer's ticket.
        ticket: Option<String>,
        /// Where the page is.
        page: Option<String>,
        /// Where players find the viewer's first cast by RTMP, or programs publish to the caster.
        rtmp: Option<String>,
        /// Where plain RTMP with a stream key is spoken with other machines: publishers dial a viewer there, players a
        /// caster. A secret, for its key.
        rtmp_url: Option<String>,
    },
    /// The viewer's short code is another than before.
    Code {
        /// With its daemon, as it can be copied; `None`: there is none now.
        code: Option<String>,
        /// Why there is none, in words.
        why: Option<String>,
    },
    /// The viewer of a code has sent its ticket.
    TicketCame,
    /// The hole port is bound (for the program alone: a router can be asked to forward it).
    HoleOpen {
        /// Which it is.
        port: u16,
    },
    /// What routers forward to the hole port is another than before: all of it.
    Mapped(Vec<Mapping>),
    /// The rendezvous tells something.
    Rendezvous(agent::Event),
    /// The daemon named a peer.
    Peer {
        /// Who.
        id: ClientId,
    },
    /// Another caster than this one has its ticket, and is at the daemon (for people alone).
    OtherCaster,
    /// An endpoint is dialled for the first time.
    Attempt {
        /// What the link would be.
        rung: Rung,
        /// Where from; `None` where the system chooses a port once the connection stands.
        local: Option<SocketAddr>,
        /// Where to.
        remote: SocketAddr,
    },
    /// The link stands.
    Link {
        /// The link.
        link: Link,
        /// Since the request for it.
        elapsed: Duration,
        /// The cast goes on over it, from a relayed one.
        moves: bool,
    },
    /// A server that was dialled for the reverse way plays nothing; told when the reason changes.
    DialFailed {
        /// Which.
        remote: SocketAddr,
        /// Why.
        why: String,
        /// When it is dialled again.
        again_in: Duration,
    },
    /// No direct link has formed so far, and the daemon is asked to relay one.
    SeekingRelay(Obstacle),
    /// The daemon relays nothing for us.
    NoRelay {
        /// Why, in words.
        why: String,
    },
    /// The caster's viewer is not there; told once for each time that it is missed.
    ViewerAbsent {
        /// How that is known.
        absence: Absence,
        /// How much longer it is waited for.
        trying_for: Duration,
    },
    /// A caster was introduced, and no link with it has formed in time.
    NoLink {
        /// What stands in the way, in words.
        why: String,
    },
    /// Another caster was turned away.
    Busy {
        /// Who.
        remote: SocketAddr,
    },
    /// A stream of units begins; what comes is not a continuation.
    StreamStarted,
    /// The first keyframe has passed.
    FirstFrame {
        /// Since the request for the link.
        elapsed: Duration,
    },
    /// A unit passed (a viewer only).
    Unit(Unit),
    /// A program publishes to the caster's RTMP port, or stopped.
    Publisher {
        /// Who.
        remote: SocketAddr,
        /// Came, or left.
        joined: bool,
    },
    /// The caster's page shares a screen, or stopped.
    Sharing {
        /// Whether it does.
        on: bool,
    },
    /// A program plays from the viewer's RTMP port, or stopped.
    Player {
        /// Who.
        remote: SocketAddr,
        /// Came, or left.
        joined: bool,
    },
    /// A publisher or player was refused for a wrong key.
    WrongKey {
        /// Who, and how many more.
        wrong: TurnedAway,
        /// What they wanted to do.
        what: Mode,
    },
    /// A publisher was refused, as another one publishes.
    Occupied(TurnedAway),
    /// A file of the recording has begun.
    Recording(Begun),
    /// What the viewer writes to takes no more, or could not be had; the program ends with a failure for it (for scripts: in
    /// words it is said where it happens).
    SinkFailed {
        /// The option that asked for it, without its dashes.
        sink: &'static str,
        /// Why, in words.
        why: String,
    },
    /// What passed in the last second.
    Stats(Stats),
    /// The first link stands: a source that waits for it may begin.
    StartSource,
    /// The source should make a keyframe.
    KeyframeWanted,
    /// What the links take of a source that encodes for them has changed.
    Pace(Pace),
    /// The link is gone; the other side may come back.
    Lost {
        /// Why.
        why: String,
    },
    /// The caster ended the cast in order (told to a viewer that goes on).
    CastEnded,
    /// About one of several viewers, counted from 0.
    OfViewer {
        /// Which.
        viewer: usize,
        /// What.
        notice: Box<Self>,
    },
    /// About one of several casts, counted from 0; what is told of the first stands alone.
    OfCast {
        /// Which.
        cast: usize,
        /// What.
        notice: Box<Self>,
    },
    /// Nothing more goes to this viewer; the cast goes on for others.
    ViewerOver {
        /// Why.
        reason: String,
    },
    /// What it came to, before the end; for people alone.
    Report(Report),
    /// The application is done.
    End {
        /// Whether it did what it was asked for.
        ok: bool,
        /// Why it ends.
        reason: String,
    },
}

/// How a caster knows that its viewer is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Absence {
    /// The daemon at this address knows of no viewer with the ticket.
    NotLoggedIn(SocketAddr),
    /// There is no daemon to ask, and this is what the viewer's own addresses do.
    NoAnswer(Vec<(SocketAddr, Answer)>),
}

/// What a program came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The last link's rung, and how long it took since the request for it.
    pub link: Option<(Rung, Duration)>,
    /// Connections begun to find one; the system repeats the SYN of each.
    pub dials: u32,
    /// Pictures that passed.
    pub frames: u64,
}

impl Report {
    /// Counts the connections that are begun in rooms that seek a link.
    pub(crate) fn count(&mut self, op: &NetOp, seeks: impl Fn(Room) -> bool) {
        if let NetOp::Connect { conn, .. } | NetOp::Knock { conn, .. } = op
            && seeks(conn.room)
        {
            self.dials = self.dials.saturating_add(1);
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.link {
            Some((rung, took)) => write!(f, "report: {rung} after {:.0} ms", millis(took))?,
            None => f.write_str("report: no link")?,
        }
        let dials = if self.dials == 1 { "dial" } else { "dials" };
        write!(f, ", {} {dials}, {} frames", self.dials, self.frames)
    }
}

/// One second of a cast.
#[derive(Clone, Copy, Debug)]
pub struct Stats {
    /// What passed.
    pub counts: Counts,
    /// How the link was made.
    pub rung: Rung,
    /// Its last measured round-trip time.
    pub rtt: Option<Duration>,
    /// Pictures left out to stay live, since the cast began.
    pub dropped: u64,
}

impl Notice {
    /// Which viewer it is about, counted from 0, and what it says.
    #[must_use]
    pub fn of_viewer(self) -> (usize, Self) {
        if let Self::OfViewer { viewer, notice } = self { (viewer, *notice) } else { (0, self) }
    }

    /// Which cast it is about, counted from 0, and what it says.
    #[must_use]
    pub fn of_cast(self) -> (usize, Self) {
        if let Self::OfCast { cast, notice } = self { (cast, *notice) } else { (0, self) }
    }

    /// The same, of a cast that is counted from 0: of the first it stands alone.
    #[must_use]
    pub fn in_cast(self, cast: usize) -> Self {
        if cast == 0 { self } else { Self::OfCast { cast, notice: Box::new(self) } }
    }
}

fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// Who wants to do that.
const fn role_of(what: Mode) -> &'static str {
    match what {
        Mode::Publishers => "publisher",
        Mode::Players => "player",
    }
}
