//! One cast of several: its place in the grid, its link, and what is left of it when the link is gone.
//!
//! ```text
//!  Live ──(moves to a direct link: Next)──▶ Live ──link lost──▶ Over ──the same run──▶ Live
//!                                                                │
//!                                                                └── KEEP_LOST, KEEP_ENDED ──▶ forgotten
//! ```

use crate::meeting::Link;
use crate::page::{CastStatus, Phase};
use crate::stats::{Meter, Stamps};
use crate::unread::Unread;
use punchcast::app::ConnId;
use punchcast::cadence::Cadence;
use punchcast::media::Unit;
use punchcast::policy::Rung;
use punchcast::rtmp::{Lateness, ServerSession, StreamId};
use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// A running cast that was silent for this long gives way to another caster's. The same caster on a new link takes its
/// place at once. Several pings fit in.
pub(super) const GIVES_WAY_AFTER: Duration = Duration::from_secs(3);

/// How long a cast that moves to another link is waited for on the old one, once the new one has pictures. The caster
/// gives what waits there as long.
pub(super) const MOVE_TIME: Duration = Duration::from_secs(2);

/// Bytes that may wait on the new link for the old one's end: two seconds of 128 Mbit/s.
pub(super) const MOVE_BYTES: usize = 32 << 20;

/// How long a cast whose link was lost keeps its place and its last picture. A caster on a network that changed is
/// back within seconds, and its first attempt at a punched link lasts half a minute.
pub(super) const KEEP_LOST: Duration = Duration::from_secs(60);

/// The same for a cast that was ended in order: long enough to read that it was.
pub(super) const KEEP_ENDED: Duration = Duration::from_secs(10);

/// The RTMP session of a link.
pub(super) struct Cast {
    pub(super) link: Link,
    /// Idle for plain RTMP, whose session is where it came in.
    pub(super) session: ServerSession,
    pub(super) stream: Option<StreamId>,
    /// When its link was told.
    pub(super) since: Instant,
    pub(super) heard: Instant,
    pub(super) seen_first: bool,
    pub(super) began: Instant,
    pub(super) unread: Unread,
    pub(super) stamps: Stamps,
    /// Of plain RTMP, whose pictures bear no stamp.
    pub(super) late: Lateness,
}

/// The link that a cast moves to: its units wait until all of the old link have come.
pub(super) struct Next {
    pub(super) cast: Cast,
    pub(super) units: VecDeque<Unit>,
    pub(super) bytes: usize,
    /// When its first unit came.
    pub(super) since: Option<Instant>,
}

impl Next {
    pub(super) const fn new(cast: Cast) -> Self {
        Self { cast, units: VecDeque::new(), bytes: 0, since: None }
    }
}

/// Where a show stands.
pub(super) enum Stage {
    /// It has a link, and perhaps a second one to move to.
    Live(Box<Cast>, Option<Box<Next>>),
    /// It has none since then.
    Over {
        /// When that came.
        since: Instant,
        /// The caster ended it in order.
        finished: bool,
    },
}

/// See the [module](self).
pub(super) struct Show {
    /// Which tile of the grid, counted from 0.
    pub(super) place: usize,
    /// The run of the caster's program.
    run: u64,
    /// Where the caster was last, if not behind a relay.
    host: Option<IpAddr>,
    pub(super) stage: Stage,
    pub(super) meter: Meter,
    pub(super) cadence: Cadence,
    pub(super) status: CastStatus,
}

impl Show {
    /// A show that begins on a first link.
    pub(super) fn new(now: Instant, place: usize, cast: Cast) -> Self {
        let mut show = Self {
            place,
            run: cast.link.run,
            host: None,
            stage: Stage::Over { since: now, finished: false },
            meter: Meter::new(now),
            cadence: Cadence::default(),
            status: CastStatus { place, ..CastStatus::default() },
        };
        show.begin(now, cast);
        show
    }

    /// Goes on, or begins anew, with a cast on another link; the cast before it comes back, if it had one.
    pub(super) fn begin(&mut self, now: Instant, cast: Cast) -> Option<Box<Cast>> {
        self.run = cast.link.run;
        self.meter.reset(now);
        let link = cast.link;
        let old = self.take(now, false);
        self.stage = Stage::Live(Box::new(cast), None);
        self.linked(link);
        old
    }

    /// The link that carries the cast is another.
    fn linked(&mut self, link: Link) {
        self.host = (link.rung != Rung::Relayed).then(|| link.remote.addr().ip());
        self.status = CastStatus {
            place: self.place,
            phase: Phase::Live,
            rung: Some(link.rung),
            plain: !link.secure,
            local: Some(link.local.addr()),
            remote: Some(link.remote.addr()),
            frames: self.meter.total_frames(),
            message: match link.obstacle {
                Some(obstacle) => format!("through the daemon, which cannot read it: {obstacle}"),
                None if link.secure => format!("linked ({})", link.rung),
                None => format!("plain RTMP ({}): not encrypted", link.rung),
            },
            why: link.obstacle.map(|obstacle| obstacle.to_string()),
            ..CastStatus::default()
        };
    }

    /// The old link has given all: the cast goes on over the new one. The old cast and the units that waited.
    pub(super) fn move_over(&mut self, now: Instant) -> Option<(Box<Cast>, VecDeque<Unit>)> {
        let Stage::Live(_, next) = &mut self.stage else { return None };
        let next = *next.take()?;
        let link = next.cast.link;
        let old = self.take(now, false)?;
        self.stage = Stage::Live(Box::new(next.cast), None);
        self.linked(link);
        Some((old, next.units))
    }

    /// The cast is over; what carried it comes back.
    pub(super) fn take(&mut self, now: Instant, finished: bool) -> Option<Box<Cast>> {
        match std::mem::replace(&mut self.stage, Stage::Over { since: now, finished }) {
            Stage::Live(cast, _) => Some(cast),
            Stage::Over { .. } => None,
        }
    }

    /// What carries the cast.
    pub(super) fn cast(&self) -> Option<&Cast> {
        match &self.stage {
            Stage::Live(cast, _) => Some(cast),
            Stage::Over { .. } => None,
        }
    }

    /// What will carry it.
    pub(super) const fn next(&mut self) -> Option<&mut Option<Box<Next>>> {
        match &mut self.stage {
            Stage::Live(_, next) => Some(next),
            Stage::Over { .. } => None,
        }
    }

    /// The run of the program whose place it is.
    pub(super) const fn run(&self) -> u64 {
        self.run
    }

    /// Whether `conn` is the link that the cast moves to.
    pub(super) fn moves_to(&self, conn: ConnId) -> bool {
        matches!(&self.stage, Stage::Live(_, Some(next)) if next.cast.link.conn == conn)
    }

    /// Whether the cast moves to another link.
    pub(super) const fn moves(&self) -> bool {
        matches!(self.stage, Stage::Live(_, Some(_)))
    }

    /// The cast on a link, the one that is shown or the next.
    pub(super) fn cast_on(&mut self, conn: ConnId) -> Option<&mut Cast> {
        let Stage::Live(cast, next) = &mut self.stage else { return None };
        let next = next.as_mut().map(|next| &mut next.cast);
        std::iter::once(&mut **cast).chain(next).find(|cast| cast.link.conn == conn)
    }

    /// When something is due, and why.
    pub(super) fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        match &self.stage {
            Stage::Live(_, next) => {
                let stats = Some((self.meter.due(), "statistics"));
                let moves = next.as_ref().and_then(|next| next.since);
                punchcast::app::soonest(stats, moves.map(|since| (since + MOVE_TIME, "the old link's end")))
            }
            Stage::Over { since, finished } => {
                Some((*since + if *finished { KEEP_ENDED } else { KEEP_LOST }, "the end of a lost cast"))
            }
        }
    }

    fn is_live(&self) -> bool {
        self.cast().is_some()
    }

    const fn is_finished(&self) -> bool {
        matches!(self.stage, Stage::Over { finished: true, .. })
    }

    /// Whether another caster may have its place: nothing was heard for a while.
    fn is_silent(&self, now: Instant) -> bool {
        self.cast().is_none_or(|cast| cast.heard + GIVES_WAY_AFTER <= now)
    }

    /// Since when it has had no link.
    const fn over_since(&self) -> Option<Instant> {
        match self.stage {
            Stage::Live(..) => None,
            Stage::Over { since, .. } => Some(since),
        }
    }
}

/// The place that a caster's link gets among at most `most`; `None` where all are taken.
///
/// Its own one, by the run of its program. Else that of a lost or silent cast from the same host, which most likely is
/// the same caster, started anew. Else the first, if nothing is live. Else a free one. Else that of the cast that was
/// lost longest ago, and at last that of one which is silent.
pub(super) fn place_for(shows: &[Show], most: usize, now: Instant, link: &Link) -> Option<usize> {
    let first =
        |fits: &dyn Fn(&Show) -> bool| shows.iter().filter(|show| fits(show)).map(|show| show.place).min();
    let host = (link.rung != Rung::Relayed).then(|| link.remote.addr().ip());
    let nothing_is_live = || (!shows.iter().any(Show::is_live)).then_some(0);
    let free = || (0..most).find(|place| shows.iter().all(|show| show.place != *place || show.is_finished()));
    let longest_lost = || {
        let lost = shows.iter().filter_map(|show| Some((show.over_since()?, show.place)));
        lost.min().map(|(_, place)| place)
    };
    first(&|show| show.run == link.run)
        .or_else(|| first(&|show| host.is_some() && show.host == host && show.is_silent(now)))
        .or_else(nothing_is_live)
        .or_else(free)
        .or_else(longest_lost)
        .or_else(|| first(&|show| show.is_silent(now)))
}
