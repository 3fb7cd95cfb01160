//! A moving test picture with a clock and the frame's number, encoded in process.
//!
//! ```text
//!  PUNCHCAST                 1280X720 30 FPS
//!  ┌────┬────┬────┬────┬────┬────┬────┐
//!  │    │    │    │    │    │    │    │       colour bars at 75%
//!  └────┴────┴────┴────┴────┴────┴────┘
//!  ▁▁▁▁▁▂▂▂▂▂▃▃▃▃▃▄▄▄▄▄▅▅▅▅▅▆▆▆▆▆▇▇▇▇▇        grey steps
//!          12:34:56.789 UTC                   time of capture
//!          ━━━━━━━━━━╸                        the part of the second that has passed
//!          FRAME 001234
//!  ──────────────■────────────────────        a box that swings
//! ```
//!
//! [`Pattern`] draws, [`PatternCast`] encodes, and [`spawn_pattern`] paces and emits. Frame `n` is due at `n / fps` after the
//! start and has timestamp `n * 1000 / fps`. A late frame is emitted late and none is left out, so frame numbers
//! have no gap, until the encoder is behind by [`MAX_LAG`]: then frames are skipped before they are drawn, since a
//! caster that falls ever further behind is of no use. While the source is held, frames are left out too.
//!
//! With [`PatternConfig::noise`], the bars are covered by noise that is new in every frame: no encoder can foretell it,
//! so the stream fills its bitrate, whatever that is.

use super::SourceEvent;
use super::control::{Control, now, wall_clock};
use super::encoder::{BITRATES, Content, Encoded, VideoConfig, VideoEncoder};
use super::font;
use super::metadata::VideoMetadata;
use super::picture::{Colour, Luma, Picture, Rect};
use openh264::formats::YUVSource as _;
use punchcast::media::Unit;
use punchcast::media::avc::Stamp;
use std::fmt::Write as _;
use std::io;
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How far behind its time a frame may be and still be made. Shorter stalls (a busy machine) are caught up without a
/// gap, as a frame takes far less time to make than to show; longer ones mean that it does not.
pub const MAX_LAG: Duration = Duration::from_secs(2);

/// What to draw and how to encode it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PatternConfig {
    /// Pixels, even, 160 to 3840.
    pub width: u32,
    /// Pixels, even, 90 to 2160.
    pub height: u32,
    /// Frames per second, 1 to 120.
    pub fps: u32,
    /// Bits per second to aim at.
    pub bitrate: u32,
    /// Time between keyframes, by timestamps. A viewer that joins late waits at most this long.
    pub keyframe_interval: Duration,
    /// Noise over the bars.
    pub noise: bool,
}

impl Default for PatternConfig {
    fn default() -> Self {
        Self {
            width: 1280,
            height: 720,
            fps: 30,
            bitrate: 2_000_000,
            keyframe_interval: Duration::from_secs(2),
            noise: false,
        }
    }
}

impl PatternConfig {
    /// Whether the numbers are within their ranges.
    ///
    /// # Errors
    /// Which is not, for the user.
    pub fn check(&self) -> Result<(), String> {
        let even = self.width.is_multiple_of(2) && self.height.is_multiple_of(2);
        if !even || !(160..=3840).contains(&self.width) || !(90..=2160).contains(&self.height) {
            return Err(format!(
                "a test picture cannot have {}x{} pixels (even numbers from 160x90 to 3840x2160)",
                self.width, self.height
            ));
        }
        if !(1..=120).contains(&self.fps) {
            return Err(format!("a test picture cannot have {} frames per second (1 to 120)", self.fps));
        }
        if !BITRATES.contains(&self.bitrate) {
            return Err(format!(
                "a test picture cannot have {} bits per second (100k to 100M)",
                self.bitrate
            ));
        }
        Ok(())
    }
}

/// What a pattern source did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PatternReport {
    /// Frames that were emitted.
    pub frames: u64,
    /// Frames that were left out because the encoder was behind, its bitrate spent, or the source held.
    pub skipped: u64,
}

/// Starts a thread that draws, encodes and emits the test picture until it is stopped or `emit` returns `false`.
/// It emits metadata, the sequence header, and then a frame at a time.
///
/// # Errors
/// When the thread cannot be started.
pub fn spawn_pattern(
    config: PatternConfig,
    control: Control,
    mut emit: impl FnMut(SourceEvent) -> bool + Send + 'static,
) -> io::Result<JoinHandle<PatternReport>> {
    thread::Builder::new().name("pattern".into()).spawn(move || {
        let mut report = PatternReport::default();
        if let Err(why) = run(config, &control, &mut emit, &mut report) {
            emit(SourceEvent::Failed(format!("test picture: {why}")));
        }
        report
    })
}

fn run(
    config: PatternConfig,
    control: &Control,
    emit: &mut impl FnMut(SourceEvent) -> bool,
    report: &mut PatternReport,
) -> Result<(), String> {
    let mut cast = PatternCast::new(config)?;
    let fps = config.fps;
    if !emit(SourceEvent::Unit(cast.metadata(), None)) {
        return Ok(());
    }
    let start = now();
    let mut frame = 0;
    while control.wait_until(start + frame_time(frame, fps)) {
        let held = control.held();
        if held && !control.wait_for_release() {
            break;
        }
        let elapsed = now().saturating_duration_since(start);
        if held {
            // The newest picture, at once.
            let current = frame_at(elapsed, fps);
            report.skipped += current - frame;
            frame = current;
        }
        if elapsed > frame_time(frame, fps) + MAX_LAG {
            let current = frame_at(elapsed, fps);
            log::warn!("the encoder is behind: {} frames skipped", current - frame);
            report.skipped += current - frame;
            frame = current;
        }
        if control.take_keyframe_request() {
            cast.request_keyframe();
        }
        if let Some(bitrate) = control.bitrate() {
            cast.follow(bitrate)?;
        }
        let captured = now();
        match cast.encode(frame, wall_clock(), |unit| emit(SourceEvent::Unit(unit, Some(captured))))? {
            Encoded::Emitted => report.frames += 1,
            Encoded::Skipped => report.skipped += 1,
            Encoded::Unwanted => break,
        }
        frame += 1;
    }
    Ok(())
}

/// The test picture as encoded units, by the frame: what [`spawn_pattern`] paces. It reads no clock.
pub struct PatternCast {
    config: PatternConfig,
    pattern: Pattern,
    encoder: VideoEncoder,
    /// The next frame is to be a keyframe.
    keyframe: bool,
    /// The frame that is to be one at the latest.
    next_keyframe: u64,
}

impl PatternCast {
    /// A cast at its beginning.
    ///
    /// # Errors
    /// What is wrong with `config`, or what the encoder says, for the user.
    pub fn new(config: PatternConfig) -> Result<Self, String> {
        config.check()?;
        let PatternConfig { width, height, fps, bitrate, noise, .. } = config;
        let pattern = Pattern::new(width as usize, height as usize, fps);
        // Screen content mode searches noise for what was moved, in vain and for long.
        let content = if noise { Content::Camera } else { Content::Screen };
        Ok(Self {
            config,
            pattern: if noise { pattern.with_noise() } else { pattern },
            encoder: VideoEncoder::new(VideoConfig { fps, bitrate, content })?,
            keyframe: true,
            next_keyframe: 0,
        })
    }

    /// The unit that comes first.
    #[must_use]
    pub fn metadata(&self) -> Unit {
        let PatternConfig { width, height, fps, bitrate, .. } = self.config;
        VideoMetadata { width, height, fps, bitrate }.unit()
    }

    /// Makes the next frame a keyframe.
    pub const fn request_keyframe(&mut self) {
        self.keyframe = true;
    }

    /// Aims at `bitrate` bits per second, as [`VideoEncoder::follow`] does.
    ///
    /// # Errors
    /// What the encoder says, for the user.
    pub fn follow(&mut self, bitrate: u32) -> Result<(), String> {
        self.keyframe |= self.encoder.follow(bitrate)?;
        Ok(())
    }

    /// Draws and encodes frame `frame`, captured at `wall_clock` since the Unix epoch, and gives its units to `emit`.
    ///
    /// # Errors
    /// What the encoder says, for the user.
    pub fn encode(
        &mut self,
        frame: u64,
        wall_clock: Duration,
        emit: impl FnMut(Unit) -> bool,
    ) -> Result<Encoded, String> {
        let fps = u64::from(self.config.fps);
        let keyframe = self.keyframe || frame >= self.next_keyframe;
        let stamp = Stamp { frame, wall_us: wall_clock.as_micros() as u64 };
        let picture = self.pattern.draw(frame, wall_clock);
        let timestamp = (frame * 1000 / fps) as u32;
        let encoded = self.encoder.encode(picture, timestamp, stamp, keyframe, emit)?;
        // A keyframe that the encoder skipped is still owed.
        self.keyframe = keyframe && encoded == Encoded::Skipped;
        if keyframe && !self.keyframe {
            let interval = self.config.keyframe_interval.as_millis() as u64;
            self.next_keyframe = frame + (interval * fps / 1000).max(1);
        }
        Ok(encoded)
    }
}

/// When frame `frame` is due after the start.
fn frame_time(frame: u64, fps: u32) -> Duration {
    Duration::from_nanos((u128::from(frame) * NANOS / u128::from(fps)) as u64)
}

/// The frame that was due last, so long after the start.
fn frame_at(elapsed: Duration, fps: u32) -> u64 {
    (elapsed.as_nanos() * u128::from(fps) / NANOS) as u64
}

const NANOS: u128 = 1_000_000_000;

/// Draws the test picture; each frame changes only what differs from the one before.
#[derive(Debug)]
pub struct Pattern {
    picture: Picture,
    fps: u32,
    bars: Rect,
    clock: TextLine,
    number: TextLine,
    second: Rect,
    track: Rect,
    swinging: Rect,
    noise: Option<Noise>,
    text: String,
}

impl Pattern {
    /// A pattern of this size in pixels. Width and height are rounded down to even numbers.
    #[must_use]
    pub fn new(width: usize, height: usize, fps: u32) -> Self {
        let mut picture = Picture::new(width, height, BACKGROUND);
        // Everything is placed in 90ths of the height, or of what a 16:9 picture of this width would have.
        let unit = (height * 16).min(width * 9) as f64 / (90.0 * 16.0);
        let across = |n: f64| (n * unit) as usize;
        let margin = across(8.0);
        let inner = width - 2 * margin;
        let top = |n: f64| (height as f64 * n / 90.0) as usize;

        let small = (across(3.6) / font::HEIGHT).max(1);
        let title = TextLine::new(margin, top(4.0), small);
        title.clone().set(&mut picture, "PUNCHCAST");
        let caption = format!("{width}X{height} {fps} FPS");
        let caption_x = (width - margin).saturating_sub(TextLine::width(caption.len(), small));
        TextLine::new(caption_x, top(4.0), small).set(&mut picture, &caption);

        let bars = Rect::new(margin, top(12.0), inner, top(28.0));
        draw_bars(&mut picture, bars);
        draw_greys(&mut picture, Rect::new(margin, top(41.0), inner, top(3.0)));

        let large = (across(11.0) / font::HEIGHT).max(1);
        let clock = TextLine::centred(width, top(49.0), large, CLOCK_TEXT);
        let zone_x = clock.x + TextLine::width(CLOCK_TEXT, large);
        TextLine::new(zone_x, top(49.0), small).set(&mut picture, "UTC");
        let second =
            Rect::new(clock.x, top(63.0), TextLine::width(CLOCK_TEXT, large) - large, across(1.0).max(2));
        let medium = (across(4.6) / font::HEIGHT).max(1);
        let number = TextLine::centred(width, top(67.0), medium, NUMBER_TEXT);

        let side = across(8.0).max(4);
        let track = Rect::new(margin, top(77.0), inner, side);
        let swinging = Rect::new(margin, top(77.0), side, side);
        Self { picture, fps, bars, clock, number, second, track, swinging, noise: None, text: String::new() }
    }

    /// The same, its bars covered by noise.
    #[must_use]
    pub fn with_noise(mut self) -> Self {
        self.noise = Some(Noise::new(self.bars));
        self
    }

    /// The picture for frame `frame`, captured at `wall_clock` since the Unix epoch.
    pub fn draw(&mut self, frame: u64, wall_clock: Duration) -> &Picture {
        let seconds = wall_clock.as_secs() % 86_400;
        let milliseconds = wall_clock.subsec_millis();
        self.text.clear();
        // Writing to a String cannot fail.
        let _ = write!(
            self.text,
            "{:02}:{:02}:{:02}.{milliseconds:03}",
            seconds / 3600,
            seconds / 60 % 60,
            seconds % 60
        );
        self.clock.set(&mut self.picture, &self.text);
        self.text.clear();
        let _ = write!(self.text, "FRAME {:06}", frame % 1_000_000);
        self.number.set(&mut self.picture, &self.text);

        let done = self.second.w * milliseconds as usize / 1000;
        let passed = Rect::new(self.second.x, self.second.y, done, self.second.h);
        self.picture.fill(self.second, TRACK);
        self.picture.fill(passed, ACCENT);

        self.swing(frame);
        if let Some(noise) = &self.noise {
            noise.draw(&mut self.picture, frame);
        }
        &self.picture
    }

    /// The luma of [`Pattern::draw`]'s picture, a line after another: enough to compare pictures by.
    pub fn luma(&mut self, frame: u64, wall_clock: Duration) -> &[u8] {
        self.draw(frame, wall_clock).y()
    }

    /// Moves the box along its track and back in [`SWING`], slowly at the ends.
    fn swing(&mut self, frame: u64) {
        let Rect { x, y, w, h } = self.track;
        let period = SWING.as_secs() * u64::from(self.fps);
        let phase = (frame % period) as f64 / period as f64;
        let way = (1.0 - (phase * std::f64::consts::TAU).cos()) / 2.0;
        self.picture.fill(self.swinging, BACKGROUND);
        self.picture.fill(Rect::new(x, y + h / 2 - 2, w, 4), TRACK);
        let travel = w.saturating_sub(self.swinging.w) as f64;
        self.swinging = Rect::new(x + (travel * way) as usize, y, self.swinging.w, h);
        self.picture.fill(self.swinging, ACCENT);
    }
}

fn draw_bars(picture: &mut Picture, area: Rect) {
    for (index, colour) in BARS.iter().enumerate() {
        let left = area.x + area.w * index / BARS.len();
        let right = area.x + area.w * (index + 1) / BARS.len();
        picture.fill(Rect::new(left, area.y, (right & !1) - (left & !1), area.h), *colour);
    }
}

fn draw_greys(picture: &mut Picture, area: Rect) {
    for index in 0..GREYS {
        let left = area.x + area.w * index / GREYS;
        let right = area.x + area.w * (index + 1) / GREYS;
        let level = (255 * index / (GREYS - 1)) as u8;
        let step = Rect::new(left, area.y, (right & !1) - (left & !1), area.h);
        picture.fill(step, Colour::rgb(level, level, level));
    }
}

/// Luma that cannot be foretold, at the cost of a copy: each row is a piece of one long row of noise, from a place
/// drawn by lot.
#[derive(Debug)]
struct Noise {
    area: Rect,
    row: Vec<u8>,
}

impl Noise {
    fn new(area: Rect) -> Self {
        let mut random = fastrand::Rng::with_seed(0);
        Self { area, row: (0..area.w + NOISE_PLACES).map(|_| random.u8(112..=144)).collect() }
    }

    fn draw(&self, picture: &mut Picture, frame: u64) {
        // The frame's number alone decides, so that a frame can be drawn again.
        let mut random = fastrand::Rng::with_seed(frame);
        for line in picture.luma_rows(self.area) {
            let place = random.usize(..NOISE_PLACES);
            line.copy_from_slice(&self.row[place..place + line.len()]);
        }
    }
}

/// Places where a row of noise may begin: far more than any encoder searches.
const NOISE_PLACES: usize = 1 << 16;

/// A line of text of which only the characters that change are drawn.
#[derive(Clone, Debug)]
struct TextLine {
    x: usize,
    y: usize,
    scale: usize,
    shown: String,
}

impl TextLine {
    const fn new(x: usize, y: usize, scale: usize) -> Self {
        Self { x, y, scale, shown: String::new() }
    }

    /// A line of `length` characters in the middle of `width`.
    fn centred(width: usize, y: usize, scale: usize, length: usize) -> Self {
        // The last character's gap to the next does not count.
        let text = Self::width(length, scale) - scale;
        Self::new((width.saturating_sub(text) / 2) & !1, y, scale)
    }

    const fn width(length: usize, scale: usize) -> usize {
        length * font::ADVANCE * scale
    }

    fn set(&mut self, picture: &mut Picture, text: &str) {
        let mut shown = self.shown.chars();
        for (index, character) in text.chars().enumerate() {
            if shown.next() != Some(character) {
                let x = self.x + Self::width(index, self.scale);
                picture.character(x, self.y, self.scale, character, TEXT);
            }
        }
        self.shown.clear();
        self.shown.push_str(text);
    }
}

/// `HH:MM:SS.mmm`.
const CLOCK_TEXT: usize = 12;

/// `FRAME 000000`.
const NUMBER_TEXT: usize = 12;

/// Steps from black to white.
const GREYS: usize = 16;

/// The box's way forth and back.
const SWING: Duration = Duration::from_secs(4);

const BACKGROUND: Colour = Colour::rgb(18, 24, 38);
const TRACK: Colour = Colour::rgb(52, 62, 86);
const ACCENT: Colour = Colour::rgb(255, 138, 61);
const TEXT: Luma = Luma { ink: 225, paper: BACKGROUND.y };

/// 75% bars, from the brightest to the darkest (as in EBU and SMPTE test pictures).
const BARS: [Colour; 7] = [
    Colour::rgb(191, 191, 191),
    Colour::rgb(191, 191, 0),
    Colour::rgb(0, 191, 191),
    Colour::rgb(0, 191, 0),
    Colour::rgb(191, 0, 191),
    Colour::rgb(191, 0, 0),
    Colour::rgb(0, 0, 191),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn planes(picture: &Picture) -> [Vec<u8>; 3] {
        [picture.y().to_vec(), picture.u().to_vec(), picture.v().to_vec()]
    }

    #[test]
    fn a_picture_drawn_after_others_is_the_one_drawn_afresh() {
        for (width, height) in [(1280, 720), (640, 480), (160, 90), (160, 2160), (3840, 90), (322, 182)] {
            let mut pattern = Pattern::new(width, height, 30);
            for frame in [0, 1, 2, 29, 30, 61, 999, 1_000_000, 7] {
                let wall = Duration::from_millis(86_399_990 + frame * 33);
                let drawn = planes(pattern.draw(frame, wall));
                let fresh = planes(Pattern::new(width, height, 30).draw(frame, wall));
                assert!(drawn == fresh, "{width}x{height}, frame {frame}");
                assert_eq!(
                    drawn.map(|plane| plane.len()),
                    [width * height, width * height / 4, width * height / 4]
                );
            }
        }
    }

    #[test]
    fn noise_is_new_in_every_frame_and_only_over_the_bars() {
        let mut noisy = Pattern::new(320, 180, 30).with_noise();
        let mut plain = Pattern::new(320, 180, 30);
        let wall = Duration::from_secs(1_700_000_000);
        let bars = plain.bars;
        let mut last = Vec::new();
        for frame in 0..30 {
            let luma = noisy.luma(frame, wall).to_vec();
            for (row, (noisy, plain)) in luma.chunks(320).zip(plain.luma(frame, wall).chunks(320)).enumerate()
            {
                if (bars.y..bars.y + bars.h).contains(&row) {
                    assert!(noisy != plain);
                } else {
                    assert!(noisy == plain, "row {row}");
                }
            }
            assert!(luma != last);
            last = luma;
        }
    }

    #[test]
    fn every_frame_differs_from_the_one_before() {
        let mut pattern = Pattern::new(320, 180, 30);
        let wall = Duration::from_secs(1_700_000_000);
        let mut last = planes(pattern.draw(0, wall));
        for frame in 1..300 {
            let drawn = planes(pattern.draw(frame, wall));
            assert!(drawn != last, "frame {frame}");
            last = drawn;
        }
    }

    #[test]
    fn frames_are_due_on_a_grid_that_does_not_drift() {
        assert_eq!(frame_time(0, 30), Duration::ZERO);
        assert_eq!(frame_time(1, 30), Duration::from_nanos(33_333_333));
        assert_eq!(frame_time(30 * 86_400 * 365, 30), Duration::from_secs(86_400 * 365));
    }
}
