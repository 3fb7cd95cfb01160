//! H.264 encoding for sources that make their own pictures: openh264 in, stamped units out.

use openh264::OpenH264API;
use openh264::encoder::{
    BitRate, Complexity, Encoder, EncoderConfig, FrameRate, FrameType, IntraFramePeriod, RateControlMode,
    SpsPpsStrategy, UsageType, VuiConfig,
};
use openh264::formats::YUVSource;
use punchcast::media::avc::{self, NalKind, Stamp};
use punchcast::media::{Unit, avc::Config};
use std::time::{Duration, Instant};

/// The bitrates that are aimed at, bits per second: below, no picture is legible; above, H.264's levels end.
pub const BITRATES: std::ops::RangeInclusive<u32> = 100_000..=100_000_000;

/// What the pictures are like, which is what the encoder spends its time on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Text and areas of one colour, moved as a whole: a fraction of the bits of [`Content::Camera`], and 1.6 times the
    /// work where nothing can be skipped.
    Screen,
    /// Anything, by the cheapest search.
    Camera,
}

/// How to encode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VideoConfig {
    /// Frames per second.
    pub fps: u32,
    /// Bits per second to aim at.
    pub bitrate: u32,
    /// What the pictures are like.
    pub content: Content,
}

/// What became of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoded {
    /// It was emitted.
    Emitted,
    /// The encoder left it out, as the bitrate is spent; a keyframe that was asked for is still owed.
    Skipped,
    /// `emit` wants no more.
    Unwanted,
}

/// Encodes pictures in BT.601 limited range, at most one frame for each.
///
/// The encoder inserts a keyframe by itself only where the whole scene changes.
pub struct VideoEncoder {
    encoder: Encoder,
    video: VideoConfig,
    /// The most that [`VideoEncoder::follow`] aims at.
    ceiling: u32,
    config: Option<Config>,
    followed: Option<Instant>,
}

/// How soon the bitrate may change again. Each change costs a keyframe, as the encoder's rate cannot be changed in
/// mid-stream, and several within a round trip would only add to the queue that they are to shorten.
pub const FOLLOW_INTERVAL: Duration = Duration::from_millis(500);

impl VideoEncoder {
    /// An encoder for pictures of any size up to 3840x2160.
    ///
    /// # Errors
    /// What openh264 says, for the user.
    pub fn new(video: VideoConfig) -> Result<Self, String> {
        Ok(Self { encoder: make(video)?, video, ceiling: video.bitrate, config: None, followed: None })
    }

    /// How it encodes.
    #[must_use]
    pub const fn video(&self) -> VideoConfig {
        self.video
    }

    /// Begins anew, the bitrate as it is, for other content or another frame rate, or because pictures get another
    /// size: the next picture is a keyframe, and has a sequence header if the parameter sets changed.
    ///
    /// # Errors
    /// What openh264 says, for the user.
    pub fn remake(&mut self, fps: u32, content: Content) -> Result<(), String> {
        self.video = VideoConfig { fps, content, ..self.video };
        self.encoder = make(self.video)?;
        Ok(())
    }

    /// Aims at `bitrate` bits per second, or the rate that it was made with if that is less. As this costs a keyframe,
    /// changes below a fifth are left out, and those that come within [`FOLLOW_INTERVAL`] of another wait for a later
    /// call, unless the rate is halved. Whether it changed now: then the next picture is a keyframe.
    ///
    /// # Errors
    /// What openh264 says, for the user.
    pub fn follow(&mut self, bitrate: u32, now: Instant) -> Result<bool, String> {
        let wanted = bitrate.clamp(*BITRATES.start(), self.ceiling);
        // A line that becomes that much slower is followed at once: what is made until then only stands in its way.
        let halved = wanted <= self.video.bitrate / 2;
        let early = !halved
            && self.followed.is_some_and(|last| now.saturating_duration_since(last) < FOLLOW_INTERVAL);
        let step = u64::from(wanted.abs_diff(self.video.bitrate));
        // To the ceiling by any step: else what it lost would never quite come back.
        let small = step * 5 < u64::from(self.video.bitrate) && wanted != self.ceiling;
        if early || small || step == 0 {
            return Ok(false);
        }
        self.followed = Some(now);
        self.video.bitrate = wanted;
        self.encoder = make(self.video)?;
        Ok(true)
    }

    /// Encodes one picture, as a keyframe if that is asked for or it is the first, and gives its units to `emit`: a
    /// sequence header before a keyframe with new parameter sets, then the stamped picture. `false` as soon as
    /// `emit` says so.
    ///
    /// # Errors
    /// What openh264 says, for the user.
    pub fn encode(
        &mut self,
        picture: &impl YUVSource,
        timestamp: u32,
        stamp: Stamp,
        keyframe: bool,
        mut emit: impl FnMut(Unit) -> bool,
    ) -> Result<Encoded, String> {
        if keyframe && self.config.is_some() {
            self.encoder.force_intra_frame();
        }
        let stream = self
            .encoder
            .encode_at(picture, openh264::Timestamp::from_millis(u64::from(timestamp)))
            .map_err(|error| error.to_string())?;
        match stream.frame_type() {
            FrameType::IDR | FrameType::I | FrameType::P => {}
            FrameType::Skip => return Ok(Encoded::Skipped),
            other @ (FrameType::Invalid | FrameType::IPMixed) => {
                return Err(format!("the encoder gave no picture ({other:?})"));
            }
        }
        let bytes = stream.to_vec();
        let sei = stamp.sei();
        let (mut sps, mut pps, mut idr) = (None, None, false);
        let mut nals = vec![&sei[..]];
        for nal in avc::split_annex_b(&bytes) {
            match avc::nal_kind(nal) {
                NalKind::Sps => sps = Some(nal),
                NalKind::Pps => pps = Some(nal),
                NalKind::Idr => {
                    idr = true;
                    nals.push(nal);
                }
                NalKind::Other => nals.push(nal),
            }
        }
        if let (Some(sps), Some(pps)) = (sps, pps) {
            let config = Config::new(sps, pps).map_err(|error| error.to_string())?;
            if self.config.as_ref() != Some(&config) {
                let header = avc::sequence_header(timestamp, &config);
                self.config = Some(config);
                if !emit(header) {
                    return Ok(Encoded::Unwanted);
                }
            }
        }
        let wanted = emit(avc::picture(timestamp, idr, &nals));
        Ok(if wanted { Encoded::Emitted } else { Encoded::Unwanted })
    }
}

fn make(video: VideoConfig) -> Result<Encoder, String> {
    let config = EncoderConfig::new()
        .usage_type(match video.content {
            Content::Screen => UsageType::ScreenContentRealTime,
            Content::Camera => UsageType::CameraVideoRealTime,
        })
        .rate_control_mode(RateControlMode::Bitrate)
        .bitrate(BitRate::from_bps(video.bitrate))
        .max_frame_rate(FrameRate::from_hz(video.fps as f32))
        .complexity(Complexity::Low)
        // Without it openh264 does not keep to a bitrate, and says so on stderr.
        .skip_frames(true)
        // What screen content mode turns off and on by itself, with a complaint each.
        .adaptive_quantization(false)
        .background_detection(false)
        .scene_change_detect(true)
        .intra_frame_period(IntraFramePeriod::auto())
        .sps_pps_strategy(SpsPpsStrategy::ConstantId)
        // One thread: the program's other threads carry the picture, and have to run beside this one.
        .num_threads(1)
        .vui(VuiConfig::bt601());
    Encoder::with_api_config(OpenH264API::from_source(), config).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bitrate_follows_in_steps_that_are_worth_a_keyframe() {
        let begun = crate::source::control::now();
        let at = |ms| begun + Duration::from_millis(ms);
        let video = VideoConfig { fps: 30, bitrate: 2_000_000, content: Content::Camera };
        let mut encoder = VideoEncoder::new(video).unwrap();
        assert_eq!(encoder.follow(1_700_000, at(0)), Ok(false), "a sixth");
        assert_eq!(encoder.follow(1_000_000, at(0)), Ok(true), "a half");
        assert_eq!(encoder.follow(600_000, at(499)), Ok(false), "too soon");
        assert_eq!(encoder.follow(500_000, at(499)), Ok(true), "but for half of it");
        assert_eq!(encoder.follow(0, at(2000)), Ok(true));
        assert_eq!(encoder.video().bitrate, 100_000, "never below what makes a picture");
        assert_eq!(encoder.follow(1_800_000, at(3000)), Ok(true));
        assert_eq!(encoder.follow(9_000_000, at(4000)), Ok(true), "back to the ceiling, however near");
        assert_eq!(encoder.video(), video, "and never above it");
        assert_eq!(encoder.follow(9_000_000, at(5000)), Ok(false));
    }
}
