//! The screen source before X servers of the tests' own: what is drawn there is what its stream shows.

mod media;

use media::temp_dir;
use punchcast::media::{Kind, Unit};
use punchcast_client::sink::Snapshot;
use punchcast_client::source::screen::{OpenError, ScreenReport, Target};
use punchcast_client::source::{Control, Screen, ScreenConfig, SourceEvent};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use x11rb::connection::Connection as _;
use x11rb::protocol::randr::{ConnectionExt as _, ModeInfo, MonitorInfo, Rotation};
use x11rb::protocol::xproto::{
    AtomEnum, ChangeGCAux, ChangeWindowAttributesAux, ConfigureWindowAux, ConnectionExt as _, CreateGCAux,
    CreateWindowAux, ImageFormat, PropMode, Rectangle, Window, WindowClass,
};
use x11rb::rust_connection::RustConnection;
use x11rb::wrapper::ConnectionExt as _;

/// How long anything may take on a busy machine.
const DEADLINE: Duration = Duration::from_secs(20);

/// Pictures from a keyframe on that was asked for.
const OPENING: usize = 45;

/// Longer than the source goes on after the last change, and shorter than [`STILL`].
const QUIET: Duration = Duration::from_millis(900);

/// How often a picture that stands still is shown again.
const STILL: Duration = Duration::from_secs(2);

const RED: u32 = 0x00c0_1020;
const GREEN: u32 = 0x0010_a030;
const BLUE: u32 = 0x0020_30d0;
const WHITE: u32 = 0x00ff_ffff;

/// An X server and a client that draws on it.
struct Display {
    server: Child,
    name: String,
    conn: RustConnection,
    root: Window,
    gc: u32,
}

impl Display {
    /// Starts a server of 640x480; `None`, and a line that cannot be overlooked, where there is none to start.
    fn start(test: &str, options: &[&str]) -> Option<Self> {
        let spawned = Command::new("Xvfb")
            .args(["-displayfd", "1", "-nolisten", "tcp", "-screen", "0", "640x480x24"])
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let Ok(mut server) = spawned else {
            let required = std::env::var("PUNCHCAST_REQUIRE_LAB").is_ok_and(|value| value == "1");
            assert!(!required, "missing here: Xvfb; scripts/setup installs it");
            let _ = writeln!(std::io::stderr(), "SKIPPED: {test}: missing here: Xvfb");
            return None;
        };
        let mut number = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut number).unwrap();
        let name = format!(":{}", number.trim());
        let (conn, screen) = RustConnection::connect(Some(&name)).unwrap();
        let root = conn.setup().roots[screen].root;
        let gc = conn.generate_id().unwrap();
        conn.create_gc(gc, root, &CreateGCAux::new()).unwrap().check().unwrap();
        let display = Self { server, name, conn, root, gc };
        // The pointer's first place is the middle.
        display.point(639, 479);
        Some(display)
    }

    /// Makes one half of the display a monitor; its name's atom.
    fn monitor(&self, name: &str, x: i16, primary: bool) -> u32 {
        let name = self.conn.intern_atom(false, name.as_bytes()).unwrap().reply().unwrap().atom;
        let info = MonitorInfo {
            name,
            primary,
            automatic: false,
            x,
            y: 0,
            width: 320,
            height: 480,
            width_in_millimeters: 100,
            height_in_millimeters: 100,
            outputs: Vec::new(),
        };
        self.conn.randr_set_monitor(self.root, info).unwrap().check().unwrap();
        name
    }

    fn fill(&self, window: Window, colour: u32, x: i16, y: i16, width: u16, height: u16) {
        self.conn.change_gc(self.gc, &ChangeGCAux::new().foreground(colour)).unwrap();
        let area = Rectangle { x, y, width, height };
        self.conn.poly_fill_rectangle(window, self.gc, &[area]).unwrap().check().unwrap();
    }

    fn point(&self, x: i16, y: i16) {
        self.conn.warp_pointer(x11rb::NONE, self.root, 0, 0, 0, 0, x, y).unwrap().check().unwrap();
    }

    /// A window of 200x100 with one colour and a title.
    fn window(&self, title: &str, colour: u32, x: i16, y: i16) -> Window {
        let id = self.conn.generate_id().unwrap();
        let aux = CreateWindowAux::new().background_pixel(colour).override_redirect(1);
        let class = WindowClass::INPUT_OUTPUT;
        self.conn
            .create_window(0, id, self.root, x, y, 200, 100, 3, class, 0, &aux)
            .unwrap()
            .check()
            .unwrap();
        let (name, text) = (AtomEnum::WM_NAME, AtomEnum::STRING);
        self.conn.change_property8(PropMode::REPLACE, id, name, text, title.as_bytes()).unwrap();
        self.conn.map_window(id).unwrap().check().unwrap();
        id
    }

    /// Another size for the display, by a mode of its own as `xrandr --newmode` makes it.
    fn resize(&self, width: u16, height: u16) {
        let found = self.conn.randr_get_screen_resources(self.root).unwrap().reply().unwrap();
        let (crtc, output) = (found.crtcs[0], found.outputs[0]);
        let name = format!("{width}x{height}-test");
        let info = ModeInfo {
            width,
            height,
            dot_clock: 60_000_000,
            htotal: width,
            vtotal: height,
            name_len: name.len() as u16,
            ..ModeInfo::default()
        };
        let mode =
            self.conn.randr_create_mode(self.root, info, name.as_bytes()).unwrap().reply().unwrap().mode;
        self.conn.randr_add_output_mode(output, mode).unwrap().check().unwrap();
        let set = |mode, outputs: &[u32]| {
            let time = x11rb::CURRENT_TIME;
            let stamp = found.config_timestamp;
            self.conn
                .randr_set_crtc_config(crtc, time, stamp, 0, 0, mode, Rotation::ROTATE0, outputs)
                .unwrap()
                .reply()
                .unwrap();
        };
        set(x11rb::NONE, &[]);
        self.conn.randr_set_screen_size(self.root, width, height, 300, 200).unwrap().check().unwrap();
        set(mode, &[output]);
    }

    fn config(&self) -> ScreenConfig {
        ScreenConfig { server: Some(self.name.clone()), ..ScreenConfig::default() }
    }

    fn cast(&self) -> Cast {
        Cast::start(self.config())
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// A source, and what it has emitted.
struct Cast {
    control: Control,
    events: Receiver<SourceEvent>,
    thread: Option<JoinHandle<ScreenReport>>,
    snapshot: Snapshot,
    path: PathBuf,
    units: Vec<Unit>,
}

impl Cast {
    fn start(config: ScreenConfig) -> Self {
        let control = Control::new();
        let (sender, events) = channel();
        let screen = Screen::open(config).unwrap();
        let thread = screen.spawn(control.clone(), move |event| sender.send(event).is_ok()).unwrap();
        let path = temp_dir("screen").join(format!("{:?}.png", std::thread::current().id()));
        Self {
            control,
            events,
            thread: Some(thread),
            snapshot: Snapshot::new(&path),
            path,
            units: Vec::new(),
        }
    }

    /// The next picture.
    fn frame(&mut self) -> Unit {
        loop {
            match self.events.recv_timeout(DEADLINE).unwrap() {
                SourceEvent::Unit(unit, _) => {
                    self.snapshot.write(&unit);
                    self.units.push(unit.clone());
                    if unit.kind == Kind::Video && !unit.is_sequence_header() {
                        return unit;
                    }
                }
                other @ (SourceEvent::Ended | SourceEvent::Cut(_) | SourceEvent::Failed(_)) => {
                    panic!("{other:?}")
                }
            }
        }
    }

    /// Waits until nothing is emitted any more.
    fn settle(&mut self) {
        loop {
            match self.events.recv_timeout(QUIET) {
                Ok(SourceEvent::Unit(unit, _)) => {
                    self.snapshot.write(&unit);
                    self.units.push(unit);
                }
                Ok(other @ (SourceEvent::Ended | SourceEvent::Cut(_) | SourceEvent::Failed(_))) => {
                    panic!("{other:?}")
                }
                Err(RecvTimeoutError::Timeout) => return,
                Err(RecvTimeoutError::Disconnected) => panic!("the source has ended"),
            }
        }
    }

    /// How it ended without a failure, and before its time.
    fn cut(&mut self) -> String {
        loop {
            match self.events.recv_timeout(DEADLINE).unwrap() {
                SourceEvent::Unit(..) => {}
                SourceEvent::Cut(how) => return how,
                other @ (SourceEvent::Ended | SourceEvent::Failed(_)) => panic!("{other:?}"),
            }
        }
    }

    fn failure(&mut self) -> String {
        loop {
            match self.events.recv_timeout(DEADLINE).unwrap() {
                SourceEvent::Unit(..) => {}
                SourceEvent::Failed(why) => return why,
                SourceEvent::Ended | SourceEvent::Cut(_) => panic!("ended without a reason"),
            }
        }
    }

    /// The last picture, decoded.
    fn shown(&self) -> Shown {
        let info = self.snapshot.finish().unwrap();
        let file = BufReader::new(std::fs::File::open(&self.path).unwrap());
        let mut reader = png::Decoder::new(file).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut pixels).unwrap();
        let size = (info.width as usize, info.height as usize);
        let channels = pixels.len() / (size.0 * size.1);
        Shown { size, channels, pixels }
    }

    fn stop(mut self) -> ScreenReport {
        self.control.stop();
        self.thread.take().unwrap().join().unwrap()
    }
}

struct Shown {
    size: (usize, usize),
    channels: usize,
    pixels: Vec<u8>,
}

impl Shown {
    #[track_caller]
    fn assert(&self, x: usize, y: usize, colour: u32) {
        let at = (y * self.size.0 + x) * self.channels;
        let [_, red, green, blue] = colour.to_be_bytes();
        let found = &self.pixels[at..at + 3];
        let near = found.iter().zip([red, green, blue]).all(|(a, b)| a.abs_diff(b) <= 16);
        assert!(near, "{found:?} at {x},{y}, not {:?}", [red, green, blue]);
    }
}

#[test]
fn what_is_drawn_on_a_display_is_what_its_stream_shows() {
    let Some(display) = Display::start("what_is_drawn_on_a_display_is_what_its_stream_shows", &[]) else {
        return;
    };
    display.fill(display.root, RED, 0, 0, 320, 240);
    display.fill(display.root, GREEN, 320, 240, 320, 240);
    let mut cast = display.cast();
    cast.settle();
    let first = cast.shown();
    assert_eq!(first.size, (640, 480));
    first.assert(10, 10, RED);
    first.assert(310, 230, RED);
    first.assert(330, 250, GREEN);
    first.assert(10, 470, 0);
    assert_eq!(cast.units[0].kind, Kind::Data, "metadata first");
    assert!(cast.units[1].is_sequence_header());
    assert!(cast.units[2].is_keyframe());

    display.fill(display.root, BLUE, 101, 51, 33, 21);
    cast.settle();
    let second = cast.shown();
    second.assert(110, 60, BLUE);
    second.assert(90, 60, RED);
    second.assert(330, 250, GREEN);
    assert_eq!(cast.units.iter().filter(|unit| unit.is_keyframe()).count(), 1);
    cast.stop();
}

#[test]
fn without_memory_in_common_pixels_come_over_the_socket() {
    let name = "without_memory_in_common_pixels_come_over_the_socket";
    let Some(display) = Display::start(name, &["-extension", "MIT-SHM"]) else { return };
    display.fill(display.root, GREEN, 100, 100, 200, 200);
    assert!(Screen::open(display.config()).unwrap().describe().ends_with("by socket"));
    let mut cast = display.cast();
    cast.settle();
    display.fill(display.root, BLUE, 110, 110, 50, 50);
    cast.settle();
    let shown = cast.shown();
    shown.assert(120, 120, BLUE);
    shown.assert(250, 250, GREEN);
    shown.assert(20, 20, 0);
    cast.stop();
}

#[test]
fn an_idle_display_makes_hardly_a_frame_and_gives_a_keyframe_when_asked() {
    let name = "an_idle_display_makes_hardly_a_frame_and_gives_a_keyframe_when_asked";
    let Some(display) = Display::start(name, &[]) else { return };
    display.fill(display.root, RED, 0, 0, 320, 240);
    let mut cast = display.cast();
    cast.settle();
    let [first, second] = [cast.frame(), cast.frame()];
    let apart = Duration::from_millis(u64::from(second.timestamp - first.timestamp));
    assert!((STILL..STILL + QUIET).contains(&apart), "{apart:?}");
    assert!([first, second].iter().all(|unit| !unit.is_keyframe() && unit.payload.len() < 200));
    let count = cast.units.len();

    cast.control.request_keyframe();
    assert!(cast.frame().is_keyframe());
    cast.settle();
    let opening = &cast.units[count..];
    assert_eq!(opening.len(), OPENING, "pictures alone, their header being known");
    assert!(opening[1..].iter().all(|unit| unit.is_picture() && !unit.is_keyframe()));
    assert!(opening[1..].iter().all(|unit| unit.payload.len() < 200), "nothing has changed");
    cast.shown().assert(10, 10, RED);

    display.fill(display.root, BLUE, 0, 0, 64, 64);
    assert!(!cast.frame().is_keyframe());
    cast.stop();
}

#[test]
#[allow(clippy::disallowed_methods)] // What is held against a bound is a count in real time.
fn a_still_display_that_the_bitrate_has_no_room_for_is_not_encoded_all_the_time() {
    let name = "a_still_display_that_the_bitrate_has_no_room_for_is_not_encoded_all_the_time";
    let Some(display) = Display::start(name, &[]) else { return };
    // Noise costs seconds of the bitrate.
    let mut rng = fastrand::Rng::with_seed(7);
    for row in 0..480 {
        let pixels: Vec<u8> = std::iter::repeat_with(|| rng.u8(..)).take(640 * 4).collect();
        let (format, root) = (ImageFormat::Z_PIXMAP, display.root);
        display.conn.put_image(format, root, display.gc, 640, 1, 0, row, 0, 24, &pixels).unwrap();
    }
    display.point(638, 479);
    let mut cast = Cast::start(ScreenConfig { bitrate: 100_000, ..display.config() });
    while !cast.frame().is_keyframe() {}
    let until = Instant::now() + Duration::from_secs(6);
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        let _ = cast.events.recv_timeout(left);
    }
    let report = cast.stop();
    let asked = report.frames + report.skipped;
    // The opening, tried twice as often as it has pictures, and a picture every two seconds. It would be 180.
    assert!(report.skipped > 0 && asked <= 100, "{report:?}");
}

#[test]
fn the_pointer_is_drawn_where_it_is() {
    let Some(display) = Display::start("the_pointer_is_drawn_where_it_is", &[]) else { return };
    let (conn, root) = (&display.conn, display.root);
    let (bitmap, gc, cursor) =
        (conn.generate_id().unwrap(), conn.generate_id().unwrap(), conn.generate_id().unwrap());
    conn.create_pixmap(1, bitmap, root, 16, 16).unwrap();
    conn.create_gc(gc, bitmap, &CreateGCAux::new().foreground(1)).unwrap();
    let all = Rectangle { x: 0, y: 0, width: 16, height: 16 };
    conn.poly_fill_rectangle(bitmap, gc, &[all]).unwrap();
    conn.create_cursor(cursor, bitmap, bitmap, 0xffff, 0xffff, 0xffff, 0, 0, 0, 8, 8)
        .unwrap()
        .check()
        .unwrap();
    conn.change_window_attributes(root, &ChangeWindowAttributesAux::new().cursor(cursor)).unwrap();
    display.fill(root, BLUE, 0, 0, 640, 480);
    display.point(100, 100);
    let mut cast = display.cast();
    cast.settle();
    let first = cast.shown();
    for (x, y, colour) in [(94, 94, WHITE), (105, 105, WHITE), (86, 100, BLUE), (114, 100, BLUE)] {
        first.assert(x, y, colour);
    }

    display.point(301, 203);
    cast.settle();
    let second = cast.shown();
    second.assert(301, 203, WHITE);
    second.assert(100, 100, BLUE);

    // Drawn over by a program, it stays on top.
    display.fill(root, GREEN, 280, 180, 60, 60);
    cast.settle();
    let third = cast.shown();
    third.assert(301, 203, WHITE);
    third.assert(285, 185, GREEN);
    cast.stop();
}

#[test]
fn one_window_is_shown_alone_whatever_covers_it_until_it_is_closed() {
    let name = "one_window_is_shown_alone_whatever_covers_it_until_it_is_closed";
    let Some(display) = Display::start(name, &[]) else { return };
    let chosen = display.window("Notes - editor", RED, 40, 50);
    let other = display.window("Mail\x1b[2J\u{7}", GREEN, 60, 60);
    let by = |title: &str| ScreenConfig { target: Target::Window(title.into()), ..display.config() };
    let Err(OpenError::Other(why)) = Screen::open(by("calculator")) else { panic!("there is none") };
    assert!(why.contains("Mail[2J\n") && !why.contains('\x1b') && why.contains("Notes - editor"), "{why}");
    assert!(Screen::open(by(&format!("{other:#x}"))).is_ok());

    let mut cast = Cast::start(by("notes"));
    cast.settle();
    let first = cast.shown();
    assert_eq!(first.size, (200, 100));
    for (x, y) in [(4, 4), (100, 50), (195, 95)] {
        first.assert(x, y, RED);
    }
    display.fill(chosen, BLUE, 100, 0, 100, 50);
    cast.settle();
    let second = cast.shown();
    second.assert(150, 25, BLUE);
    second.assert(150, 75, RED);

    let aux = ConfigureWindowAux::new().width(301).height(151);
    display.conn.configure_window(chosen, &aux).unwrap().check().unwrap();
    cast.settle();
    let third = cast.shown();
    assert_eq!(third.size, (300, 150), "cropped to even edges");
    third.assert(290, 140, RED);
    assert!(cast.units.iter().filter(|unit| unit.is_sequence_header()).count() >= 2);

    // Minimised and shown again.
    display.conn.unmap_window(chosen).unwrap().check().unwrap();
    cast.settle();
    cast.control.request_keyframe();
    cast.frame();
    cast.shown().assert(290, 140, RED);
    display.conn.map_window(chosen).unwrap().check().unwrap();
    cast.frame();

    display.conn.destroy_window(chosen).unwrap().check().unwrap();
    assert_eq!(cast.cut(), "the window was closed");
}

#[test]
fn a_window_that_is_closed_while_the_source_is_held_has_ended_and_not_failed() {
    let name = "a_window_that_is_closed_while_the_source_is_held_has_ended_and_not_failed";
    let Some(display) = Display::start(name, &[]) else { return };
    let chosen = display.window("Notes", RED, 40, 50);
    let config = ScreenConfig { target: Target::Window("notes".into()), ..display.config() };
    // Closed between two looks, and before the first.
    for looks in [true, false] {
        let chosen = if looks { chosen } else { display.window("Notes", RED, 40, 50) };
        let screen = Screen::open(config.clone()).unwrap();
        let (control, (tell, events)) = (Control::new(), channel());
        control.set_hold(!looks);
        let thread = screen.spawn(control.clone(), move |event| tell.send(event).is_ok()).unwrap();
        if looks {
            assert!(matches!(events.recv_timeout(DEADLINE), Ok(SourceEvent::Unit(..))));
            control.set_hold(true);
        }
        // Its size changes last of all, so that the source asks for what is no more.
        let aux = ConfigureWindowAux::new().width(90);
        display.conn.configure_window(chosen, &aux).unwrap().check().unwrap();
        display.conn.destroy_window(chosen).unwrap().check().unwrap();
        control.set_hold(false);
        let over = events.iter().find(|event| !matches!(event, SourceEvent::Unit(..)));
        assert_eq!(over, Some(SourceEvent::Cut("the window was closed".into())));
        thread.join().unwrap();
    }
}

#[test]
fn a_display_that_changes_its_size_begins_anew_with_a_keyframe() {
    let Some(display) = Display::start("a_display_that_changes_its_size_begins_anew_with_a_keyframe", &[])
    else {
        return;
    };
    display.fill(display.root, RED, 0, 0, 640, 480);
    let mut cast = display.cast();
    cast.settle();
    assert_eq!(cast.shown().size, (640, 480));

    display.resize(500, 300);
    cast.settle();
    display.fill(display.root, GREEN, 400, 200, 100, 100);
    cast.settle();
    let shown = cast.shown();
    assert_eq!(shown.size, (500, 300));
    shown.assert(450, 250, GREEN);
    let headers = cast.units.iter().filter(|unit| unit.is_sequence_header()).count();
    let metadata = cast.units.iter().filter(|unit| unit.kind == Kind::Data).count();
    assert!(headers >= 2 && metadata >= 2, "{headers} headers, {metadata} of metadata");
    cast.stop();
}

#[test]
fn a_monitor_is_chosen_by_name_and_a_size_makes_it_smaller() {
    let name = "a_monitor_is_chosen_by_name_and_a_size_makes_it_smaller";
    let Some(display) = Display::start(name, &[]) else { return };
    display.monitor("LEFT", 0, false);
    display.monitor("RIGHT", 320, false);
    display.fill(display.root, BLUE, 320, 0, 320, 480);
    let by = |name: &str| ScreenConfig { target: Target::Monitor(name.into()), ..display.config() };
    let Err(OpenError::Other(why)) = Screen::open(by("middle")) else { panic!("there is none") };
    assert!(why.contains("LEFT, 320x480 at 0,0") && why.contains("RIGHT, 320x480 at 320,0"), "{why}");

    let mut cast = Cast::start(ScreenConfig { size: Some((160, 1000)), ..by("right") });
    cast.settle();
    let shown = cast.shown();
    assert_eq!(shown.size, (160, 240));
    shown.assert(2, 2, BLUE);
    shown.assert(150, 230, BLUE);
    display.fill(display.root, GREEN, 320, 0, 160, 480);
    cast.settle();
    let shown = cast.shown();
    shown.assert(40, 120, GREEN);
    shown.assert(120, 120, BLUE);
    cast.stop();
}

#[test]
fn a_monitor_that_is_gone_is_waited_for_and_no_other_is_shown_in_its_place() {
    let name = "a_monitor_that_is_gone_is_waited_for_and_no_other_is_shown_in_its_place";
    let Some(display) = Display::start(name, &[]) else { return };
    let left = display.monitor("LEFT", 0, true);
    display.monitor("RIGHT", 320, false);
    display.fill(display.root, BLUE, 0, 0, 320, 480);
    display.fill(display.root, RED, 320, 0, 320, 480);
    let mut cast = Cast::start(display.config());
    cast.settle();
    assert_eq!(cast.shown().size, (320, 480));
    cast.shown().assert(160, 240, BLUE);

    display.conn.randr_delete_monitor(display.root, left).unwrap().check().unwrap();
    cast.settle();
    cast.shown().assert(160, 240, BLUE);
    display.monitor("LEFT", 0, true);
    display.fill(display.root, GREEN, 0, 0, 320, 480);
    cast.settle();
    cast.shown().assert(160, 240, GREEN);

    display.conn.randr_delete_monitor(display.root, left).unwrap().check().unwrap();
    let why = cast.failure();
    assert!(why.contains("no monitor \"LEFT\"") && why.contains("RIGHT, 320x480 at 320,0"), "{why}");
}

#[test]
fn a_held_source_encodes_nothing_and_then_the_newest_picture() {
    let name = "a_held_source_encodes_nothing_and_then_the_newest_picture";
    let Some(display) = Display::start(name, &[]) else { return };
    let mut cast = display.cast();
    cast.settle();
    cast.control.set_hold(true);
    cast.settle();
    for colour in [RED, GREEN, BLUE] {
        display.fill(display.root, colour, 0, 0, 640, 480);
        assert_eq!(cast.events.recv_timeout(QUIET / 3), Err(RecvTimeoutError::Timeout));
    }
    cast.control.set_hold(false);
    cast.frame();
    cast.shown().assert(320, 240, BLUE);
    cast.settle();
    cast.control.set_bitrate(500_000);
    assert!(cast.frame().is_keyframe(), "another bitrate begins with a keyframe");
    cast.stop();
}

#[test]
fn where_there_is_no_display_it_is_said_so() {
    let nowhere = ScreenConfig { server: Some("127.0.0.1:50000".into()), ..ScreenConfig::default() };
    let Err(OpenError::NoDisplay(why)) = Screen::open(nowhere) else { panic!("nothing is there") };
    assert!(why.starts_with("the X11 display \"127.0.0.1:50000\" cannot be had"), "{why}");
}

#[test]
fn a_server_that_ends_ends_the_source_with_a_reason() {
    let Some(mut display) = Display::start("a_server_that_ends_ends_the_source_with_a_reason", &[]) else {
        return;
    };
    let mut cast = display.cast();
    cast.settle();
    display.server.kill().unwrap();
    let why = cast.failure();
    assert!(why.starts_with("the X server is gone"), "{why}");
}
