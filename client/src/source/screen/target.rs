//! Which part of a display: a monitor, or a window, found by what the user called it.

use super::OpenError;
use super::area::Area;
use super::capture::Fault;
use punchcast::text::one_line;
use std::fmt::Write as _;
use x11rb::connection::{Connection as _, RequestConnection as _};
use x11rb::errors::ReplyError;
use x11rb::protocol::composite::{self, ConnectionExt as _};
use x11rb::protocol::damage::{self, ConnectionExt as _};
use x11rb::protocol::randr::{self, ConnectionExt as _};
use x11rb::protocol::xfixes::{self, ConnectionExt as _};
use x11rb::protocol::xproto::{Atom, AtomEnum, ConnectionExt as _, MapState, Pixmap, Visualid, Window};
use x11rb::rust_connection::RustConnection;

/// What to capture.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// The primary monitor; all of a display whose monitors are not known.
    #[default]
    Primary,
    /// A monitor, by name or by number in the order of the list; `all` is the whole display.
    Monitor(String),
    /// A window, by its number (`0x…` or decimal) or by a part of its title.
    Window(String),
}

/// What was found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) subject: Subject,
    pub(super) depth: u8,
    pub(super) visual: Visualid,
}

/// Where the pixels are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// A part of the root window.
    Screen {
        /// In the root window.
        area: Area,
        /// For the user.
        name: String,
    },
    /// A window, with or without pixels.
    Window {
        /// It.
        id: Window,
        /// Without its border.
        size: (usize, usize),
        /// Its border's width, pixels.
        border: i32,
        /// Its own pixels; `None` while it is not on the display.
        pixmap: Option<Pixmap>,
    },
}

/// The name of a display that is shown as a whole.
const WHOLE: &str = "the whole display";

impl Subject {
    /// The monitor's name, if it is one.
    pub(super) fn monitor(&self) -> Option<&str> {
        match self {
            Self::Screen { name, .. } => (name != WHOLE).then_some(name),
            Self::Window { .. } => None,
        }
    }

    /// The window that was chosen.
    pub(super) const fn window(&self) -> Option<Window> {
        match self {
            Self::Screen { .. } => None,
            Self::Window { id, .. } => Some(*id),
        }
    }

    pub(super) const fn pixmap(&self) -> Option<Pixmap> {
        match self {
            Self::Screen { .. } => None,
            Self::Window { pixmap, .. } => *pixmap,
        }
    }

    /// What the frame shows, in the coordinates of the root window or of the chosen one.
    pub(super) const fn area(&self) -> Area {
        match self {
            Self::Screen { area, .. } => *area,
            Self::Window { size, .. } => Area::of(*size),
        }
    }

    /// Where the frame begins in the window that damage and pointer are told of.
    pub(super) const fn place(&self) -> (i32, i32) {
        let area = self.area();
        (area.x, area.y)
    }

    /// Where the frame begins in [`Subject::drawable`].
    pub(super) const fn origin(&self) -> (i32, i32) {
        match self {
            Self::Screen { .. } => self.place(),
            // Its own pixels begin with its border.
            Self::Window { border, .. } => (*border, *border),
        }
    }

    /// What to read pixels from.
    pub(super) fn drawable(&self, root: Window) -> u32 {
        match self {
            Self::Screen { .. } => root,
            Self::Window { id, pixmap, .. } => pixmap.unwrap_or(*id),
        }
    }

    /// Whether there is nothing to read.
    pub(super) const fn hidden(&self) -> bool {
        matches!(self, Self::Window { pixmap: None, .. })
    }

    pub(super) fn describe(&self) -> String {
        let (w, h) = self.area().size();
        match self {
            Self::Screen { name, .. } => format!("{name}, {w}x{h}"),
            Self::Window { id, .. } => format!("window {id:#x}, {w}x{h}"),
        }
    }
}

/// The display of this name, or the one that the environment names, and its screen.
pub(super) fn connect(server: Option<&str>) -> Result<(RustConnection, usize), OpenError> {
    let of_environment = || std::env::var_os("DISPLAY").unwrap_or_default().to_string_lossy().into_owned();
    let name = server.map_or_else(of_environment, str::to_owned);
    if name.is_empty() {
        return Err(OpenError::NoDisplay("there is no X11 display here: DISPLAY is not set".into()));
    }
    let (conn, screen) = RustConnection::connect(Some(&name))
        .map_err(|error| OpenError::NoDisplay(format!("the X11 display {name:?} cannot be had: {error}")))?;
    match announce(&conn) {
        Ok(None) => Ok((conn, screen)),
        Ok(Some(missing)) => {
            Err(OpenError::Unfit(format!("the X server of {name:?} lacks the extension {missing}")))
        }
        Err(error) => Err(OpenError::Unfit(format!("the X11 display {name:?} cannot be used: {error:?}"))),
    }
}

/// Tells the server which versions are spoken, without which it refuses the rest; the first extension it lacks.
fn announce(conn: &RustConnection) -> Result<Option<&'static str>, Fault> {
    for name in [damage::X11_EXTENSION_NAME, xfixes::X11_EXTENSION_NAME] {
        if conn.extension_information(name)?.is_none() {
            return Ok(Some(name));
        }
    }
    conn.damage_query_version(1, 1)?.reply()?;
    conn.xfixes_query_version(5, 0)?.reply()?;
    Ok(None)
}

/// Whether the server knows monitors (RandR 1.5).
pub(super) fn has_monitors(conn: &RustConnection) -> Result<bool, Fault> {
    if conn.extension_information(randr::X11_EXTENSION_NAME)?.is_none() {
        return Ok(false);
    }
    let version = conn.randr_query_version(1, 5)?.reply()?;
    Ok((version.major_version, version.minor_version) >= (1, 5))
}

/// Finds `target` on the display.
pub(super) fn find(conn: &RustConnection, root: Window, target: &Target) -> Result<Found, Fault> {
    let geometry = conn.get_geometry(root)?.reply()?;
    let whole = Area { x: 0, y: 0, w: geometry.width.into(), h: geometry.height.into() };
    let found = |area, name: &str| Subject::Screen { area, name: name.to_owned() };
    let subject = match target {
        Target::Window(name) => return find_window(conn, root, name),
        Target::Monitor(name) if name == "all" => {
            refuse_wayland(conn, &[])?;
            found(whole, WHOLE)
        }
        Target::Primary | Target::Monitor(_) => {
            let monitors = monitors(conn, root)?;
            refuse_wayland(conn, &monitors)?;
            match target {
                Target::Monitor(name) => {
                    let chosen = choose_monitor(&monitors, name).map_err(Fault::Stale)?;
                    found(chosen.area, &chosen.name)
                }
                Target::Primary | Target::Window(_) => monitors
                    .iter()
                    .find(|monitor| monitor.primary)
                    .or(monitors.first())
                    .map_or_else(|| found(whole, WHOLE), |it| found(it.area, &it.name)),
            }
        }
    };
    // A monitor may for a moment lie outside of a display that was made smaller.
    let subject = match subject {
        Subject::Screen { area, name } => Subject::Screen { area: area.and(whole), name },
        window @ Subject::Window { .. } => window,
    };
    if subject.area().is_empty() {
        return Err(Fault::Stale("the monitor has no pixels".into()));
    }
    let visual = conn.get_window_attributes(root)?.reply()?.visual;
    Ok(Found { subject, depth: geometry.depth, visual })
}

/// An X server within Wayland has no picture of the desktop, only of X11 programs' windows.
fn refuse_wayland(conn: &RustConnection, monitors: &[Monitor]) -> Result<(), Fault> {
    let within = conn.extension_information("XWAYLAND")?.is_some()
        || monitors.iter().any(|monitor| monitor.name.starts_with("XWAYLAND"));
    if within {
        let why = "this desktop is Wayland's, and its X11 display shows single windows at most (--window)";
        return Err(Fault::Unfit(why.into()));
    }
    Ok(())
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Monitor {
    name: String,
    area: Area,
    primary: bool,
}

/// The monitors in the server's order; none where it does not know.
fn monitors(conn: &RustConnection, root: Window) -> Result<Vec<Monitor>, Fault> {
    if !has_monitors(conn)? {
        return Ok(Vec::new());
    }
    let mut monitors = Vec::new();
    for monitor in conn.randr_get_monitors(root, true)?.reply()?.monitors {
        let name = conn.get_atom_name(monitor.name)?.reply()?.name;
        let area = Area {
            x: monitor.x.into(),
            y: monitor.y.into(),
            w: monitor.width.into(),
            h: monitor.height.into(),
        };
        monitors.push(Monitor {
            name: one_line(&String::from_utf8_lossy(&name)),
            area,
            primary: monitor.primary,
        });
    }
    Ok(monitors)
}

/// A monitor by its name, whatever its case, or by its number.
fn choose_monitor<'a>(monitors: &'a [Monitor], wanted: &str) -> Result<&'a Monitor, String> {
    let exact = monitors.iter().find(|monitor| monitor.name == wanted);
    let named = exact.or_else(|| monitors.iter().find(|monitor| monitor.name.eq_ignore_ascii_case(wanted)));
    let numbered = || monitors.get(wanted.parse::<usize>().ok()?);
    named.or_else(numbered).ok_or_else(|| {
        let mut why = format!("there is no monitor {wanted:?}; there are:");
        for (index, Monitor { name, area: Area { x, y, w, h }, primary }) in monitors.iter().enumerate() {
            let primary = if *primary { ", primary" } else { "" };
            // Writing to a String cannot fail.
            let _ = write!(why, "\n  {index}  {name}, {w}x{h} at {x},{y}{primary}");
        }
        why + "\n  all  the whole display"
    })
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Titled {
    id: Window,
    title: String,
}

fn find_window(conn: &RustConnection, root: Window, wanted: &str) -> Result<Found, Fault> {
    if conn.extension_information(composite::X11_EXTENSION_NAME)?.is_none() {
        return Err(Fault::Fatal("this X server lacks the extension Composite, which --window needs".into()));
    }
    conn.composite_query_version(0, 4)?.reply()?;
    let number = wanted
        .strip_prefix("0x")
        .map_or_else(|| wanted.parse().ok(), |hex| u32::from_str_radix(hex, 16).ok());
    let by_number = match number {
        Some(id) if id != root => conn.get_window_attributes(id)?.reply().ok().map(|_| id),
        _ => None,
    };
    let id = match by_number {
        Some(id) => id,
        None => choose_window(&titled(conn, root)?, wanted).map_err(Fault::Fatal)?,
    };
    let attributes = conn.get_window_attributes(id)?.reply()?;
    if attributes.map_state != MapState::VIEWABLE {
        return Err(Fault::Fatal(format!("the window {wanted:?} is not to be seen; show it first")));
    }
    let geometry = conn.get_geometry(id)?.reply()?;
    let size = (geometry.width.into(), geometry.height.into());
    let subject = Subject::Window { id, size, border: geometry.border_width.into(), pixmap: None };
    Ok(Found { subject, depth: geometry.depth, visual: attributes.visual })
}

/// The only window whose title has `wanted` in it, whatever the case.
fn choose_window(windows: &[Titled], wanted: &str) -> Result<Window, String> {
    let lower = wanted.to_lowercase();
    let fitting: Vec<_> =
        windows.iter().filter(|window| window.title.to_lowercase().contains(&lower)).collect();
    let exact: Vec<_> = fitting.iter().filter(|window| window.title == wanted).collect();
    let (why, listed) = match (&fitting[..], &exact[..]) {
        ([only], _) => return Ok(only.id),
        (_, [only]) => return Ok(only.id),
        ([], _) if windows.is_empty() => {
            (format!("there is no window {wanted:?}: none on this display has a title"), Vec::new())
        }
        ([], _) => (format!("there is no window {wanted:?}; there are:"), windows.iter().collect()),
        _ => (format!("there are several windows {wanted:?}; choose by number:"), fitting),
    };
    Err(listed.iter().fold(why, |why, window| format!("{why}\n  {:#x}  {}", window.id, window.title)))
}

/// Every window on the display that has a title.
fn titled(conn: &RustConnection, root: Window) -> Result<Vec<Titled>, Fault> {
    let utf8 = conn.intern_atom(false, b"UTF8_STRING")?.reply()?.atom;
    let net_name = conn.intern_atom(false, b"_NET_WM_NAME")?.reply()?.atom;
    let mut found: Vec<Titled> = Vec::new();
    let mut level = managed(conn, root)?;
    if level.is_empty() {
        level = conn.query_tree(root)?.reply()?.children;
    }
    // A window manager that keeps no list still puts a window into a frame, and some that frame into another.
    for _ in 0..WINDOW_DEPTH {
        let mut next = Vec::new();
        // The topmost comes last.
        for id in level.into_iter().rev() {
            // It may be gone since it was listed.
            let Ok(attributes) = conn.get_window_attributes(id)?.reply() else { continue };
            if attributes.map_state != MapState::VIEWABLE {
                continue;
            }
            let title = match title(conn, id, net_name, utf8)? {
                Some(title) => Some(title),
                None => title_of_old(conn, id)?,
            };
            match title {
                Some(title) => found.push(Titled { id, title }),
                None => {
                    next.extend(conn.query_tree(id)?.reply().map(|tree| tree.children).unwrap_or_default())
                }
            }
        }
        level = next;
    }
    Ok(found)
}

/// The windows that the window manager lists; none where there is no such list.
fn managed(conn: &RustConnection, root: Window) -> Result<Vec<Window>, Fault> {
    let list = conn.intern_atom(false, b"_NET_CLIENT_LIST")?.reply()?.atom;
    let property = conn.get_property(false, root, list, AtomEnum::WINDOW, 0, MAX_WINDOWS)?.reply();
    Ok(property.ok().and_then(|property| Some(property.value32()?.collect())).unwrap_or_default())
}

fn title(conn: &RustConnection, id: Window, name: Atom, kind: Atom) -> Result<Option<String>, Fault> {
    let reply = conn.get_property(false, id, name, kind, 0, TITLE_WORDS)?.reply();
    // Every program of the display names its own windows.
    let text = reply.map(|property| one_line(&String::from_utf8_lossy(&property.value)));
    Ok(text.ok().filter(|text| !text.is_empty()))
}

fn title_of_old(conn: &RustConnection, id: Window) -> Result<Option<String>, Fault> {
    title(conn, id, AtomEnum::WM_NAME.into(), AtomEnum::ANY.into())
}

/// The most windows that are looked through.
const MAX_WINDOWS: u32 = 4096;

/// Levels of windows that are searched for titles.
const WINDOW_DEPTH: usize = 4;

/// The most of a title that is read, in words of 4 bytes.
const TITLE_WORDS: u32 = 256;

/// Size and pixels of a window; `old` are its pixels so far, which are another's after a change of size.
pub(super) fn measure(conn: &RustConnection, id: Window, old: Option<Pixmap>) -> Result<Subject, Fault> {
    if let Some(old) = old {
        conn.free_pixmap(old)?.ignore_error();
    }
    let closed = |error| match error {
        ReplyError::X11Error(_) => Fault::Closed,
        ReplyError::ConnectionError(error) => error.into(),
    };
    let attributes = conn.get_window_attributes(id)?.reply().map_err(closed)?;
    let geometry = conn.get_geometry(id)?.reply().map_err(closed)?;
    let size = (geometry.width.into(), geometry.height.into());
    let pixmap = if attributes.map_state == MapState::VIEWABLE {
        let pixmap = conn.generate_id()?;
        conn.composite_name_window_pixmap(id, pixmap)?.check()?;
        Some(pixmap)
    } else {
        None
    };
    Ok(Subject::Window { id, size, border: geometry.border_width.into(), pixmap })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn monitors_are_chosen_by_name_or_number_and_listed_when_unknown() {
        let monitor = |name: &str, x, primary| Monitor {
            name: name.into(),
            area: Area { x, y: 0, w: 1920, h: 1080 },
            primary,
        };
        let monitors = [monitor("HDMI-1", 0, false), monitor("DP-2", 1920, true)];
        assert_eq!(choose_monitor(&monitors, "dp-2"), Ok(&monitors[1]));
        assert_eq!(choose_monitor(&monitors, "0"), Ok(&monitors[0]));
        let why = choose_monitor(&monitors, "2").unwrap_err();
        assert_eq!(
            why,
            "there is no monitor \"2\"; there are:\n  0  HDMI-1, 1920x1080 at 0,0\n  \
             1  DP-2, 1920x1080 at 1920,0, primary\n  all  the whole display"
        );
    }

    #[test]
    fn a_window_is_chosen_by_a_part_of_its_title_that_no_other_has() {
        let window = |id, title: &str| Titled { id, title: title.into() };
        let windows = [window(0x10, "Editor - notes"), window(0x11, "Editor"), window(0x12, "Mail")];
        assert_eq!(choose_window(&windows, "mail"), Ok(0x12));
        assert_eq!(choose_window(&windows, "Editor"), Ok(0x11), "a whole title goes before a part");
        let why = choose_window(&windows, "edit").unwrap_err();
        assert_eq!(
            why,
            "there are several windows \"edit\"; choose by number:\n  0x10  Editor - notes\n  0x11  Editor"
        );
        assert!(choose_window(&windows, "x").unwrap_err().ends_with("0x12  Mail"));
        let why = choose_window(&[], "x").unwrap_err();
        assert_eq!(why, "there is no window \"x\": none on this display has a title");
    }
}
