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

/// Encodes pictures in BT.601 limited range, one unit for each.
///
/// The encoder neither inserts keyframes nor skips frames by itself: its user decides on both.
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
            .skip_frames(false)
            .scene_change_detect(false)
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
    ) -> Result<bool, String> {
        if keyframe && self.config.is_some() {
            self.encoder.force_intra_frame();
        }
        let stream = self
            .encoder
            .encode_at(picture, openh264::Timestamp::from_millis(u64::from(timestamp)))
            .map_err(|error| error.to_string())?;
        if !matches!(stream.frame_type(), FrameType::IDR | FrameType::I | FrameType::P) {
            return Err(format!("the encoder gave no picture ({:?})", stream.frame_type()));
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
                    return Ok(false);
                }
            }
        }
        Ok(emit(avc::picture(timestamp, idr, &nals)))
    }
}
