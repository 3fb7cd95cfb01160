//! The screen of this machine, captured from an X server and encoded in process.
//!
//! ```text
//!  X server ──events──▶ Capture ──changed pixels──▶ Canvas ──picture──▶ VideoEncoder ──units──▶ emit
//!           ◀──look───           (pointer drawn in)         ▲
//!                                                     Pace ─┘ content mode, frame rate, size
//! ```
//!
//! Nothing is read while nothing changes and nobody asks for a keyframe, nor while the source is held; what
//! changes after a pause is captured within 10 ms. After a keyframe that was asked for, the picture is shown again some
//! times, changed or not: players wait for that before they show anything. From then on it is shown again every two seconds,
//! so that a stream of it goes on, and so does a recording; once as a keyframe, for those who missed some of what led to it.
//! A picture is read when it is about to be encoded, so it is never older than the encoder takes. What the pace decides by is
//! the time that frames really took.
//!
//! Sound is no part of this source.

mod area;
mod canvas;
mod capture;
mod frame;
mod grab;
mod pace;
mod scale;
mod target;

use super::SourceEvent;
use super::control::{Control, now, wall_clock};
use super::encoder::{BITRATES, Encoded, VideoConfig, VideoEncoder};
use super::metadata::VideoMetadata;
use area::Area;
use canvas::Canvas;
use capture::{Capture, Over, Seen};
use openh264::formats::YUVSource as _;
use pace::Pace;
use punchcast::media::Unit;
use punchcast::media::avc::Stamp;
use std::io;
use std::net::SocketAddr;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

pub use target::Target;

/// How often a display that stands still is looked at. A look takes some 50 us.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// The time between keyframes while pictures change: less than the longest group that is replayed to a player that
/// joins late ([`MAX_GROUP_MS`](punchcast::media::cache::MAX_GROUP_MS)).
const KEYFRAME_INTERVAL: Duration = Duration::from_secs(8);

/// How many pictures there are at the full rate from a keyframe on that was asked for, as it is for somebody who comes. Players
/// of libavformat wait for 41 before they show one ([`metadata`](punchcast::media::metadata)), some of which a slow line
/// may cost; that is one and a half seconds. A picture that stands still takes some 50 bytes.
const OPENING: u32 = 45;

/// How often the encoder is asked for them. One whose bitrate is spent leaves pictures out, and a picture that stands still is
/// not to be tried at the full rate until it has bits again.
const OPENING_TRIES: u32 = 2 * OPENING;

/// How often a picture that stands still is shown again: recordings and players are that much behind at most when the cast
/// breaks off, and readers that give up a silent stream see that it lives.
const STILL_INTERVAL: Duration = Duration::from_secs(2);

/// What to capture and how to encode it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScreenConfig {
    /// The X server, as `DISPLAY` names it; `None` is what `DISPLAY` says.
    pub server: Option<String>,
    /// Which part of the display.
    pub target: Target,
    /// Frames per second at most, 1 to 120.
    pub fps: u32,
    /// Width and height at most, pixels; a larger picture is made smaller.
    pub size: Option<(u32, u32)>,
    /// Bits per second at most.
    pub bitrate: u32,
}

impl Default for ScreenConfig {
    fn default() -> Self {
        Self { server: None, target: Target::Primary, fps: 30, size: None, bitrate: 4_000_000 }
    }
}

/// What a screen source did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScreenReport {
    /// Frames that were emitted.
    pub frames: u64,
    /// Frames that the encoder left out, as its bitrate was spent.
    pub skipped: u64,
}

/// Why a screen cannot be captured, for the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// There is no display; [`without_display`] tells what to do.
    NoDisplay(String),
    /// There is one that cannot be captured; [`other_ways`] tells what to do.
    Unfit(String),
    /// Something else is wrong.
    Other(String),
}

/// A display that was connected to, ready to be cast.
pub struct Screen {
    config: ScreenConfig,
    capture: Capture,
}

impl Screen {
    /// Connects to the X server, and finds there what to capture.
    ///
    /// # Errors
    /// What is missing.
    pub fn open(config: ScreenConfig) -> Result<Self, OpenError> {
        let out_of_range = |what| Err(OpenError::Other(format!("{what} is out of range")));
        if !(1..=120).contains(&config.fps) {
            return out_of_range("the frame rate (1 to 120)");
        }
        if !BITRATES.contains(&config.bitrate) {
            return out_of_range("the bitrate (100k to 100M)");
        }
        let capture = Capture::open(config.server.as_deref(), config.target.clone())?;
        Ok(Self { config, capture })
    }

    /// What is captured, and how, in a few words.
    #[must_use]
    pub fn describe(&self) -> String {
        self.capture.describe()
    }

    /// Starts a thread that captures, encodes and emits what changes, until it is stopped, `emit` returns `false`, or
    /// there is nothing to capture any more. It emits metadata before the first picture and whenever size or frame
    /// rate change.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn spawn(
        self,
        control: Control,
        mut emit: impl FnMut(SourceEvent) -> bool + Send + 'static,
    ) -> io::Result<JoinHandle<ScreenReport>> {
        thread::Builder::new().name("screen".into()).spawn(move || {
            let mut report = ScreenReport::default();
            let over = match run(self, &control, &mut emit, &mut report) {
                Ok(()) => return report,
                Err(Over::Closed) => SourceEvent::Cut(CLOSED.into()),
                Err(Over::Failed(why)) => SourceEvent::Failed(why),
            };
            emit(over);
            report
        })
    }
}

/// What to do where there is no X11 display, by whether the desktop is another one; for the user, some lines. `addr` is
/// where the RTMP port would be.
#[must_use]
pub fn without_display(other_desktop: bool, addr: SocketAddr) -> String {
    if other_desktop {
        return other_ways(addr);
    }
    format!(
        "DISPLAY names the X server whose screen is sent, :0 as a rule; programs of a desktop have it set. From ssh or a\n\
         service, give it: DISPLAY=:0 punchcast cast … (that server must let this user in: XAUTHORITY, xhost). Where there is\n\
         no X server, --source browser shares what a browser on this machine shows, and --source rtmp takes what OBS or\n\
         ffmpeg publish to rtmp://{addr}/punchcast/cast"
    )
}

/// How to cast without X11, through the RTMP port at `addr`; for the user, some lines.
#[must_use]
pub fn other_ways(addr: SocketAddr) -> String {
    let url = format!("rtmp://{addr}/punchcast/cast");
    let program = if cfg!(windows) {
        format!("ffmpeg   ffmpeg -f gdigrab -framerate 30 -i desktop {ENCODE} {url}")
    } else if cfg!(target_os = "macos") {
        format!("ffmpeg   ffmpeg -f avfoundation -framerate 30 -i \"Capture screen 0\" {ENCODE} {url}")
    } else {
        format!(
            "wlroots  wf-recorder -c libx264 -p preset=ultrafast -p tune=zerolatency -x yuv420p -m flv -f {url}"
        )
    };
    format!(
        "--source screen captures X11 displays only. On this desktop, add --source browser and open the link that is\n\
         shown: this machine's browser shares a screen, a window or a tab. Or use another program, and --source rtmp:\n\
         \x20 OBS      Settings, Stream: service Custom, server rtmp://{addr}/punchcast, any key; tune zerolatency\n\
         \x20 {program}"
    )
}

/// How a window's end is told.
const CLOSED: &str = "the window was closed";

/// What ffmpeg is to make of a screen.
const ENCODE: &str = "-c:v libx264 -preset ultrafast -tune zerolatency -pix_fmt yuv420p -g 60 -f flv";

fn run(
    screen: Screen,
    control: &Control,
    emit: &mut impl FnMut(SourceEvent) -> bool,
    report: &mut ScreenReport,
) -> Result<(), Over> {
    let Screen { config, mut capture } = screen;
    let begun = now();
    let mut cast = Cast::new(config, begun)?;
    let mut due = begun;
    let mut wake = begun;
    while control.wait_until(wake) {
        if control.held() && !control.wait_for_release() {
            return Ok(());
        }
        // Before the look: the age of a picture counts from its capture.
        let (at, wall) = (now(), wall_clock());
        if let Some(bitrate) = control.bitrate() {
            cast.follow(bitrate)?;
        }
        if control.take_keyframe_request() {
            cast.open();
        }
        let seen = capture.look()?;
        cast.take(&capture, seen)?;
        if !cast.wants(at) || capture.frame().size().0 == 0 {
            wake = at + LOOK_INTERVAL;
            continue;
        }
        let fresh = cast.changed || cast.keyframe;
        let encoded = cast.encode(at, wall, |unit| emit(SourceEvent::Unit(unit, Some(at))))?;
        match encoded {
            Encoded::Emitted => report.frames += 1,
            Encoded::Skipped => report.skipped += 1,
            Encoded::Unwanted => return Ok(()),
        }
        // A picture that is shown again tells nothing of what one takes.
        if fresh {
            cast.adapt(at, now(), encoded == Encoded::Emitted, &capture)?;
        }
        // On a grid while busy, so that a late frame does not delay the next; a new one after a pause.
        let interval = Duration::from_secs(1) / cast.pace.step().fps;
        due = if at > due + interval { at } else { due } + interval;
        wake = due;
    }
    Ok(())
}

/// The pictures at the full rate for somebody who comes.
#[derive(Clone, Copy)]
struct Opening {
    /// How many of [`OPENING`] are still to come.
    pictures: u32,
    /// How often more they may be tried.
    tries: u32,
}

impl Opening {
    const BEGIN: Self = Self { pictures: OPENING, tries: OPENING_TRIES };

    const fn goes_on(self) -> bool {
        self.pictures > 0 && self.tries > 0
    }

    fn tried(&mut self, emitted: bool) {
        self.pictures = self.pictures.saturating_sub(u32::from(emitted));
        self.tries = self.tries.saturating_sub(1);
    }
}

/// The state of one cast.
struct Cast {
    config: ScreenConfig,
    encoder: VideoEncoder,
    pace: Pace,
    canvas: Canvas,
    begun: Instant,
    /// Frames emitted.
    frame: u64,
    /// The picture has changed since it was encoded.
    changed: bool,
    /// It has changed since the last keyframe: who misses what was sent since sees it only in the next.
    unkeyed: bool,
    /// The next frame is to be a keyframe.
    keyframe: bool,
    opening: Opening,
    /// When it was encoded last.
    shown: Option<Instant>,
    last_keyframe: Option<Instant>,
    /// Metadata that was not emitted yet.
    metadata: Option<VideoMetadata>,
}

impl Cast {
    fn new(config: ScreenConfig, now: Instant) -> Result<Self, String> {
        let pace = Pace::new(config.fps, now);
        let step = pace.step();
        let video = VideoConfig { fps: step.fps, bitrate: config.bitrate, content: step.content };
        Ok(Self {
            encoder: VideoEncoder::new(video)?,
            pace,
            config,
            canvas: Canvas::new((0, 0), (0, 0)),
            begun: now,
            frame: 0,
            changed: false,
            unkeyed: false,
            keyframe: true,
            opening: Opening::BEGIN,
            shown: None,
            last_keyframe: None,
            metadata: None,
        })
    }

    /// Somebody comes, who begins with a keyframe.
    const fn open(&mut self) {
        (self.keyframe, self.opening) = (true, Opening::BEGIN);
    }

    fn follow(&mut self, bitrate: u32) -> Result<(), String> {
        self.keyframe |= self.encoder.follow(bitrate)?;
        Ok(())
    }

    /// Takes what a look has found.
    fn take(&mut self, capture: &Capture, seen: Seen) -> Result<(), String> {
        let frame = capture.frame();
        if seen.resized {
            self.resize(frame.size())?;
        }
        if !seen.drawn.is_empty() || seen.pointer {
            self.canvas.update(frame, seen.drawn, capture.pointer());
            self.changed = true;
        }
        Ok(())
    }

    /// Makes pictures of a frame of this size as the pace says.
    fn resize(&mut self, size: (usize, usize)) -> Result<(), String> {
        let step = self.pace.step();
        let to = scale::fit(size, self.config.size, step.halvings);
        self.canvas = Canvas::new(size, to);
        self.encoder.remake(step.fps, step.content)?;
        self.keyframe = true;
        let (width, height) = self.canvas.picture().dimensions();
        self.metadata = Some(VideoMetadata {
            width: width as u32,
            height: height as u32,
            fps: step.fps,
            bitrate: self.encoder.video().bitrate,
        });
        Ok(())
    }

    /// Whether there is something to encode.
    ///
    /// A picture that stands still is not encoded again but for the opening, and to show that it stands: in screen content
    /// mode that would not make it better.
    fn wants(&self, now: Instant) -> bool {
        let still = || self.shown.is_some_and(|shown| now >= shown + STILL_INTERVAL);
        self.changed || self.keyframe || self.opening.goes_on() || still()
    }

    /// Encodes the picture that was captured at `now`, which was `wall` since the Unix epoch.
    fn encode(
        &mut self,
        now: Instant,
        wall: Duration,
        mut emit: impl FnMut(Unit) -> bool,
    ) -> Result<Encoded, String> {
        let timestamp = now.saturating_duration_since(self.begun).as_millis() as u32;
        if let Some(metadata) = self.metadata.take()
            && !emit(Unit { timestamp, ..metadata.unit() })
        {
            return Ok(Encoded::Unwanted);
        }
        let late = self.last_keyframe.is_none_or(|last| now >= last + KEYFRAME_INTERVAL);
        self.unkeyed |= self.changed;
        let keyframe = self.keyframe || (late && self.unkeyed);
        let stamp = Stamp { frame: self.frame, wall_us: wall.as_micros() as u64 };
        let encoded = self.encoder.encode(self.canvas.picture(), timestamp, stamp, keyframe, emit)?;
        self.shown = Some(now);
        self.opening.tried(encoded == Encoded::Emitted);
        if encoded == Encoded::Emitted {
            self.frame += 1;
            self.changed = false;
            self.keyframe = false;
            if keyframe {
                self.last_keyframe = Some(now);
                self.unkeyed = false;
            }
        } else {
            // What the encoder left out, it is asked again.
            self.keyframe = keyframe;
        }
        Ok(encoded)
    }

    /// Judges by what the frame that was begun at `began` took, the capture with it, and whether the bitrate had room.
    fn adapt(&mut self, began: Instant, now: Instant, fit: bool, capture: &Capture) -> Result<(), String> {
        if self.pace.took(now.saturating_duration_since(began), fit, now) {
            let step = self.pace.step();
            log::info!("screen: frames take {:?}, so now: {step}", self.pace.judged_by());
            let frame = capture.frame();
            self.resize(frame.size())?;
            self.canvas.update(frame, Area::of(frame.size()), capture.pointer());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_that_has_come_to_rest_is_a_keyframe_once() {
        let begun = now();
        let mut cast = Cast::new(ScreenConfig::default(), begun).unwrap();
        cast.resize((320, 180)).unwrap();
        // The keyframes of a second each, while the picture moves for so many.
        let mut keyframes = |moves: u64, seconds: std::ops::Range<u64>| {
            let mut keyframes = Vec::new();
            for second in seconds {
                let at = begun + Duration::from_secs(second);
                cast.changed = second < moves;
                if cast.wants(at) {
                    let emit = |unit: Unit| {
                        keyframes.extend(unit.is_keyframe().then_some(second));
                        true
                    };
                    cast.encode(at, Duration::ZERO, emit).unwrap();
                }
            }
            keyframes
        };
        assert_eq!(keyframes(4, 0..60).len(), 2, "the first, and that of what it came to");
        assert_eq!(keyframes(64, 60..120).len(), 2, "the same again");
    }
}
