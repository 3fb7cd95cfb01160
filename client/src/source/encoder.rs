//! H.264 encoding for sources that make their own pictures: openh264 in, stamped units out.

use openh264::OpenH264API;
use openh264::encoder::{
    BitRate, Complexity, Encoder, EncoderConfig, FrameRate, FrameType, IntraFramePeriod, RateControlMode,
    SpsPpsStrategy, UsageType, VuiConfig,
};
use openh264::formats::YUVSource;
use punchcast::media::avc::{self, NalKind, Stamp};
use punchcast::media::{Unit, avc::Config};

/// How to encode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VideoConfig {
    /// Frames per second.
    pub fps: u32,
    /// Bits per second to aim at.
    pub bitrate: u32,
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
    config: Option<Config>,
}

impl VideoEncoder {
    /// An encoder for pictures of any size up to 3840x2160.
    ///
    /// # Errors
    /// What openh264 says, for the user.
    pub fn new(video: VideoConfig) -> Result<Self, String> {
        let config = EncoderConfig::new()
            .usage_type(UsageType::ScreenContentRealTime)
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
        let encoder = Encoder::with_api_config(OpenH264API::from_source(), config)
            .map_err(|error| error.to_string())?;
        Ok(Self { encoder, config: None })
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
