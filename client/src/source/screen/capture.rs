//! What an X server shows: which part of it, what has changed, and its pixels.
//!
//! Three extensions do the work: DAMAGE tells what was drawn since it was asked last, so that nothing is read while
//! nothing changes; MIT-SHM hands pixels over in memory ([`Grabber`]); XFIXES has the pointer's picture, which is in
//! no window. COMPOSITE gives a window pixels of its own, whatever covers it; RandR tells the monitors.

use super::OpenError;
use super::area::Area;
use super::frame::{Cursor, Frame};
use super::grab::{Grabber, Layout};
use super::target::{self, Subject, Target};
use x11rb::connection::Connection as _;
use x11rb::errors::{ConnectionError, ReplyError, ReplyOrIdError};
use x11rb::protocol::Event;
use x11rb::protocol::composite::{ConnectionExt as _, Redirect};
use x11rb::protocol::damage::{ConnectionExt as _, ReportLevel};
use x11rb::protocol::randr::{ConnectionExt as _, NotifyMask};
use x11rb::protocol::xfixes::{ConnectionExt as _, CursorNotifyMask};
use x11rb::protocol::xproto::{ChangeWindowAttributesAux, ConnectionExt as _, EventMask, Window};
use x11rb::rust_connection::RustConnection;

/// Looks in a row that may fail before it is said that there is nothing to capture: five seconds. While a window
/// or a display changes its size, what is asked of it may be gone by the time it is answered; a monitor that is switched over
/// is gone for longer. The last picture stays until then.
const MAX_FAILURES: u32 = 500;

/// Why there is no picture.
#[derive(Debug)]
pub(super) enum Fault {
    /// The display cannot be captured, whatever is asked of it; why, for the user.
    Unfit(String),
    /// The chosen window was closed.
    Closed,
    /// For good; why, for the user.
    Fatal(String),
    /// What was asked for was gone: its size or place has changed.
    Stale(String),
}

/// Why there is nothing to look at any more.
#[derive(Debug)]
pub(super) enum Over {
    /// The chosen window was closed: what was to be shown has been.
    Closed,
    /// Something failed; why, for the user.
    Failed(String),
}

impl From<String> for Over {
    fn from(why: String) -> Self {
        Self::Failed(why)
    }
}

impl From<ConnectionError> for Fault {
    fn from(error: ConnectionError) -> Self {
        Self::Fatal(format!("the X server is gone: {error}"))
    }
}

impl From<ReplyError> for Fault {
    fn from(error: ReplyError) -> Self {
        match error {
            ReplyError::ConnectionError(error) => error.into(),
            ReplyError::X11Error(error) => Self::Stale(format!(
                "{:?} from {}",
                error.error_kind,
                error.request_name.unwrap_or("a request")
            )),
        }
    }
}

impl From<ReplyOrIdError> for Fault {
    fn from(error: ReplyOrIdError) -> Self {
        match error {
            ReplyOrIdError::IdsExhausted => Self::Fatal("the X server has no more identifiers".into()),
            ReplyOrIdError::ConnectionError(error) => error.into(),
            ReplyOrIdError::X11Error(error) => ReplyError::X11Error(error).into(),
        }
    }
}

/// What a look found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// The part of the frame that was read anew; empty if nothing was drawn.
    pub(super) drawn: Area,
    /// The pointer has moved or changed its picture, or covers what was drawn.
    pub(super) pointer: bool,
    /// The frame has another size.
    pub(super) resized: bool,
}

/// A part of a display, followed.
pub(super) struct Capture {
    conn: RustConnection,
    root: Window,
    target: Target,
    subject: Subject,
    layout: Layout,
    grabber: Grabber,
    frame: Frame,
    /// What was drawn and not yet read, in the frame's coordinates.
    pending: Area,
    damage: u32,
    region: u32,
    /// Drawing was announced, and not yet asked for.
    damaged: bool,
    /// Size or place may have changed.
    moved: bool,
    /// The frame has a size that no look has told yet.
    resized: bool,
    /// The chosen window is no more.
    closed: bool,
    cursor: Cursor,
    cursor_stale: bool,
    /// Where the pointer points to, in the frame's coordinates.
    pointer: Option<(i32, i32)>,
    failures: u32,
}

impl Capture {
    /// Connects to the display, by default that of the environment, and finds `target` on it.
    ///
    /// # Errors
    /// What is missing, for the user.
    pub(super) fn open(server: Option<&str>, target: Target) -> Result<Self, OpenError> {
        let (conn, screen) = target::connect(server)?;
        Self::begin(conn, screen, target).map_err(|fault| match fault {
            Fault::Unfit(why) => OpenError::Unfit(why),
            Fault::Closed => OpenError::Other(super::CLOSED.into()),
            Fault::Fatal(why) | Fault::Stale(why) => OpenError::Other(why),
        })
    }

    fn begin(conn: RustConnection, screen: usize, target: Target) -> Result<Self, Fault> {
        let root = conn.setup().roots[screen].root;
        let found = target::find(&conn, root, &target)?;
        let subject = found.subject;
        // Whatever becomes the first or primary monitor later, nobody has chosen to show.
        let target = subject.monitor().map_or(target, |name| Target::Monitor(name.to_owned()));
        let layout = Layout::of(&conn, screen, found.depth, found.visual)?;
        let watched = subject.window().unwrap_or(root);
        // Sizes, and with a window also its end.
        let events = ChangeWindowAttributesAux::new().event_mask(EventMask::STRUCTURE_NOTIFY);
        conn.change_window_attributes(watched, &events)?.check()?;
        conn.xfixes_select_cursor_input(root, CursorNotifyMask::DISPLAY_CURSOR)?.check()?;
        if subject.window().is_some() {
            conn.composite_redirect_window(watched, Redirect::AUTOMATIC)?.check()?;
        } else if target::has_monitors(&conn)? {
            let changes = NotifyMask::SCREEN_CHANGE | NotifyMask::CRTC_CHANGE | NotifyMask::OUTPUT_CHANGE;
            conn.randr_select_input(root, changes)?.check()?;
        }
        let (damage, region) = (conn.generate_id()?, conn.generate_id()?);
        conn.damage_create(damage, watched, ReportLevel::NON_EMPTY)?.check()?;
        conn.xfixes_create_region(region, &[])?.check()?;
        let mut capture = Self {
            grabber: Grabber::new(&conn)?,
            conn,
            root,
            target,
            subject,
            layout,
            frame: Frame::default(),
            pending: Area::default(),
            damage,
            region,
            damaged: false,
            moved: true,
            resized: false,
            closed: false,
            cursor: Cursor::default(),
            cursor_stale: true,
            pointer: None,
            failures: 0,
        };
        capture.relocate()?;
        Ok(capture)
    }

    /// What is captured, and how, in a few words.
    pub(super) fn describe(&self) -> String {
        format!("{} by {}", self.subject.describe(), self.grabber.describe())
    }

    /// The latest picture, without the pointer.
    pub(super) const fn frame(&self) -> &Frame {
        &self.frame
    }

    /// The pointer, and where it points to in the frame.
    pub(super) fn pointer(&self) -> Option<(&Cursor, (i32, i32))> {
        self.pointer.map(|at| (&self.cursor, at))
    }

    /// Brings frame and pointer up to date.
    ///
    /// # Errors
    /// When there is nothing to capture any more.
    pub(super) fn look(&mut self) -> Result<Seen, Over> {
        match self.try_look() {
            Ok(seen) => {
                self.failures = 0;
                Ok(seen)
            }
            Err(Fault::Closed) => Err(Over::Closed),
            Err(Fault::Fatal(why) | Fault::Unfit(why)) => Err(Over::Failed(why)),
            Err(Fault::Stale(why)) => {
                log::debug!("screen: {why}");
                self.failures += 1;
                self.moved = true;
                if self.failures > MAX_FAILURES { Err(Over::Failed(why)) } else { Ok(Seen::default()) }
            }
        }
    }

    fn try_look(&mut self) -> Result<Seen, Fault> {
        self.take_events()?;
        if self.closed {
            return Err(Fault::Closed);
        }
        if self.moved {
            self.relocate()?;
        }
        if self.subject.hidden() {
            // A minimised window has no pixels; its last picture stays.
            return Ok(Seen::default());
        }
        if self.damaged {
            self.collect_damage()?;
        }
        let all = Area::of(self.frame.size());
        let wanted = self.pending.and(all);
        if !wanted.is_empty() {
            self.grabber.grab(
                &self.conn,
                self.subject.drawable(self.root),
                wanted,
                self.subject.origin(),
                self.layout,
                &mut self.frame,
            )?;
        }
        let pointer = self.follow_pointer()?;
        // Told once all has gone well, and not lost before.
        self.pending = Area::default();
        Ok(Seen { drawn: wanted, pointer, resized: std::mem::take(&mut self.resized) })
    }

    fn take_events(&mut self) -> Result<(), Fault> {
        while let Some(event) = self.conn.poll_for_event()? {
            #[allow(clippy::wildcard_enum_match_arm)] // Every event of every extension is in there.
            match event {
                Event::DamageNotify(_) => self.damaged = true,
                Event::XfixesCursorNotify(_) => self.cursor_stale = true,
                Event::ConfigureNotify(_) | Event::RandrScreenChangeNotify(_) | Event::RandrNotify(_) => {
                    self.moved = true;
                }
                Event::MapNotify(_) | Event::UnmapNotify(_) | Event::ReparentNotify(_) => self.moved = true,
                Event::DestroyNotify(event) => self.closed |= Some(event.window) == self.subject.window(),
                Event::Error(error) => log::debug!("screen: {:?}", error.error_kind),
                _ => {}
            }
        }
        Ok(())
    }

    /// Finds out where the subject is, and how large.
    fn relocate(&mut self) -> Result<(), Fault> {
        let before = self.subject.clone();
        self.subject = match before.window() {
            Some(window) => target::measure(&self.conn, window, before.pixmap())?,
            None => target::find(&self.conn, self.root, &self.target)?.subject,
        };
        let size = self.subject.area().size();
        let resized = size != self.frame.size();
        if resized || self.subject != before {
            self.pending = Area::of(size);
        }
        if resized {
            log::info!("screen: {}", self.subject.describe());
            self.resized = true;
            self.frame = Frame::new(size);
            self.grabber.resize(&self.conn, size)?;
        }
        self.moved = false;
        Ok(())
    }

    /// Asks what was drawn, and forgets it: what is drawn from here on is announced again.
    fn collect_damage(&mut self) -> Result<(), Fault> {
        self.damaged = false;
        self.conn.damage_subtract(self.damage, x11rb::NONE, self.region)?;
        let extents = self.conn.xfixes_fetch_region(self.region)?.reply()?.extents;
        let drawn = Area {
            x: extents.x.into(),
            y: extents.y.into(),
            w: extents.width.into(),
            h: extents.height.into(),
        };
        let (x, y) = self.subject.place();
        let drawn = drawn.moved((-x, -y)).and(Area::of(self.frame.size()));
        self.pending = self.pending.or(drawn);
        Ok(())
    }

    /// Whether the pointer is to be drawn anew.
    fn follow_pointer(&mut self) -> Result<bool, Fault> {
        let over = self.subject.window().unwrap_or(self.root);
        let found = self.conn.query_pointer(over)?.reply()?;
        let (x, y) = self.subject.place();
        let at = (i32::from(found.win_x) - x, i32::from(found.win_y) - y);
        let all = Area::of(self.frame.size());
        let was_seen = self.pointer.is_some_and(|at| !self.cursor.area(at).and(all).is_empty());
        let mut changed = self.pointer != found.same_screen.then_some(at);
        if self.cursor_stale {
            let image = self.conn.xfixes_get_cursor_image()?.reply()?;
            self.cursor_stale = false;
            self.cursor = Cursor {
                size: (image.width.into(), image.height.into()),
                hot: (image.xhot.into(), image.yhot.into()),
                pixels: image.cursor_image,
            };
            changed = true;
        }
        self.pointer = found.same_screen.then_some(at);
        let is_seen = self.pointer.is_some_and(|at| !self.cursor.area(at).and(all).is_empty());
        Ok(changed && (was_seen || is_seen))
    }
}
