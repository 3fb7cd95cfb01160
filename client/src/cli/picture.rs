//! The options of `cast` that say what picture to make, or have a browser make: `--fps`, `--size`, `--bitrate`, and for
//! a screen `--display` and `--window`.

use super::{Failure, args};
use crate::share::Encoding;
use crate::source::encoder::BITRATES;
use crate::source::screen::Target;
use crate::source::{PatternConfig, ScreenConfig};
use std::ffi::OsString;

/// Frames per second that a source can be asked for.
const FPS: std::ops::RangeInclusive<u32> = 1..=120;

/// What was said of the picture; `None` is left to the source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    /// Frames per second.
    pub(super) fps: Option<u32>,
    /// Width and height in pixels.
    pub(super) size: Option<(u32, u32)>,
    /// Bits per second.
    pub(super) bitrate: Option<u32>,
    /// Which part of the display.
    pub(super) target: Option<Target>,
}

impl Options {
    /// Takes `--fps`.
    pub(super) fn take_fps(&mut self, value: OsString) -> Result<(), Failure> {
        self.fps = Some(fps(value)?);
        Ok(())
    }

    /// Takes `--size`.
    pub(super) fn take_size(&mut self, value: OsString) -> Result<(), Failure> {
        self.size = Some(size(value)?);
        Ok(())
    }

    /// Takes `--bitrate`.
    pub(super) fn take_bitrate(&mut self, value: OsString) -> Result<(), Failure> {
        self.bitrate = Some(bitrate(value)?);
        Ok(())
    }

    /// Takes `--display`.
    pub(super) fn take_display(&mut self, value: OsString) -> Result<(), Failure> {
        self.aim(Target::Monitor(args::text("display", value)?))
    }

    /// Takes `--window`.
    pub(super) fn take_window(&mut self, value: OsString) -> Result<(), Failure> {
        self.aim(Target::Window(args::text("window", value)?))
    }

    fn aim(&mut self, target: Target) -> Result<(), Failure> {
        if self.target.replace(target).is_some() {
            return Err(Failure::Usage("one --display or one --window only".into()));
        }
        Ok(())
    }

    /// The first option that was given, for the complaint that it has no meaning.
    pub(super) const fn first(&self) -> Option<&'static str> {
        if self.fps.is_some() {
            Some("--fps")
        } else if self.size.is_some() {
            Some("--size")
        } else if self.bitrate.is_some() {
            Some("--bitrate")
        } else {
            self.aimed()
        }
    }

    /// The option that chose a part of the display.
    pub(super) const fn aimed(&self) -> Option<&'static str> {
        match self.target {
            Some(Target::Window(_)) => Some("--window"),
            Some(Target::Monitor(_) | Target::Primary) => Some("--display"),
            None => None,
        }
    }

    /// A screen as was said.
    pub(super) fn screen(&self) -> ScreenConfig {
        let default = ScreenConfig::default();
        ScreenConfig {
            server: default.server,
            target: self.target.clone().unwrap_or_default(),
            fps: self.fps.unwrap_or(default.fps),
            size: self.size.or(default.size),
            bitrate: self.bitrate.unwrap_or(default.bitrate),
        }
    }

    /// What a browser that shares is held to.
    pub(super) fn browser(&self) -> Result<Encoding, Failure> {
        if let Some(option) = self.aimed() {
            let why = "what a browser shares is chosen in its own dialogue";
            return Err(Failure::Usage(format!("{option} is for --source screen; {why}")));
        }
        let default = Encoding::default();
        let (width, height) = self.size.unwrap_or((default.width, default.height));
        let encoding = Encoding {
            width,
            height,
            fps: self.fps.unwrap_or(default.fps),
            bitrate: self.bitrate.unwrap_or(default.bitrate),
        };
        encoding.check().map_err(Failure::Usage)?;
        Ok(encoding)
    }

    /// A test picture like `default` but for what was said.
    pub(super) fn pattern(&self, default: PatternConfig) -> Result<PatternConfig, Failure> {
        if let Some(option) = self.aimed() {
            return Err(Failure::Usage(format!("{option} is for --source screen")));
        }
        let (width, height) = self.size.unwrap_or((default.width, default.height));
        let config = PatternConfig {
            width,
            height,
            fps: self.fps.unwrap_or(default.fps),
            bitrate: self.bitrate.unwrap_or(default.bitrate),
            ..default
        };
        config.check().map_err(Failure::Usage)?;
        Ok(config)
    }
}

fn fps(value: OsString) -> Result<u32, Failure> {
    let text = args::text("fps", value)?;
    let fps = text.parse().ok().filter(|fps| FPS.contains(fps));
    fps.ok_or_else(|| Failure::Usage(format!("--fps: {text:?} is no number of frames per second (1 to 120)")))
}

fn size(value: OsString) -> Result<(u32, u32), Failure> {
    let text = args::text("size", value)?;
    let size = text.split_once('x').and_then(|(width, height)| {
        let (width, height) = (width.parse().ok()?, height.parse().ok()?);
        (width > 0 && height > 0).then_some((width, height))
    });
    size.ok_or_else(|| Failure::Usage(format!("--size: {text:?} is no WIDTHxHEIGHT, such as 1280x720")))
}

/// A number of bits per second, with `k` for a thousand and `M` for a million.
fn bitrate(value: OsString) -> Result<u32, Failure> {
    let text = args::text("bitrate", value)?;
    let (number, unit) = match text.strip_suffix(['k', 'K']) {
        Some(number) => (number, 1e3),
        None => text.strip_suffix(['m', 'M']).map_or((text.as_str(), 1.0), |number| (number, 1e6)),
    };
    let bits = number.parse::<f64>().ok().map(|number| number * unit);
    // A comparison that no NaN passes.
    let bits =
        bits.filter(|bits| f64::from(*BITRATES.start()) <= *bits && *bits <= f64::from(*BITRATES.end()));
    bits.map(|bits| bits as u32).ok_or_else(|| {
        Failure::Usage(format!("--bitrate: {text:?} is no number of bits per second (100k to 100M)"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_and_nonsense_is_refused() {
        let read = |text: &str| bitrate(text.into()).ok();
        assert_eq!(read("12M"), Some(12_000_000));
        assert_eq!(read("2.5m"), Some(2_500_000));
        assert_eq!(read("800k"), Some(800_000));
        assert_eq!(read("800000"), Some(800_000));
        for nonsense in ["", "M", "12G", "99k", "101M", "-1M", "NaN", "inf"] {
            assert_eq!(read(nonsense), None, "{nonsense}");
        }
        assert_eq!(size("1280x720".into()).ok(), Some((1280, 720)));
        for nonsense in ["1280", "x720", "0x720", "1280x", "1280x-1", "1280x720x3"] {
            assert_eq!(size(nonsense.into()).ok(), None, "{nonsense}");
        }
        assert_eq!(fps("30".into()).ok(), Some(30));
        for nonsense in ["0", "121", "30.5", ""] {
            assert_eq!(fps(nonsense.into()).ok(), None, "{nonsense}");
        }
    }
}
