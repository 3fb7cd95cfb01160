//! H.264 encoding for sources that make their own pictures: openh264 in, stamped units out.

use openh264::OpenH264API;
use openh264::encoder::{
    BitRate, Complexity, Encoder, EncoderConfig, FrameRate, FrameType, IntraFramePeriod, RateControlMode,
    SpsPpsStrategy, UsageType, VuiConfig,
};
use openh264::formats::YUVSource;
use punchcast::media::avc::{self, NalKind, Stamp};
use punchcast::media::{Unit, avc::Config};
use raw::Rate;

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
    /// Of the pictures that it is set up for; nothing before the first.
    size: Option<(usize, usize)>,
    /// The highest bitrate that it has had since it was set up.
    highest: u32,
}

impl VideoEncoder {
    /// An encoder for pictures of any size up to 3840x2160.
    ///
    /// # Errors
    /// What openh264 says, for the user.
    pub fn new(video: VideoConfig) -> Result<Self, String> {
        Ok(Self {
            encoder: make(video)?,
            video,
            ceiling: video.bitrate,
            config: None,
            size: None,
            highest: video.bitrate,
        })
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
        self.begin_anew(VideoConfig { fps, content, ..self.video })
    }

    /// Aims at `bitrate` bits per second, or the rate that it was made with if that is less. Half of its
    /// highest rate or less makes it begin anew, with a keyframe: it keeps account of bits in windows of up to 5 s, and after falls to less
    /// than half, in one or in steps, leaves out pictures for most of a second to make up for what it had before. Whether it did.
    ///
    /// # Errors
    /// What openh264 says, for the user.
    pub fn follow(&mut self, bitrate: u32) -> Result<bool, String> {
        let wanted = bitrate.clamp(*BITRATES.start(), self.ceiling);
        let video = VideoConfig { bitrate: wanted, ..self.video };
        if wanted == self.video.bitrate {
            return Ok(false);
        }
        // An encoder that has had no picture yet takes no settings, and loses nothing.
        let anew = wanted <= self.highest / 2 || self.size.is_none();
        if anew {
            self.begin_anew(video)?;
        } else {
            // The target may never be above the most, not even in between.
            let rises = wanted > self.video.bitrate;
            let (first, then) = if rises { (Rate::Most, Rate::Target) } else { (Rate::Target, Rate::Most) };
            raw::set_rate(&mut self.encoder, first, wanted)?;
            raw::set_rate(&mut self.encoder, then, wanted)?;
            self.video = video;
            self.highest = self.highest.max(wanted);
        }
        Ok(anew)
    }

    fn begin_anew(&mut self, video: VideoConfig) -> Result<(), String> {
        self.encoder = make(video)?;
        (self.video, self.size, self.highest) = (video, None, video.bitrate);
        Ok(())
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
        // With another size openh264 goes back to the bitrate that it was made with.
        let size = picture.dimensions();
        if self.size.is_some_and(|last| last != size) {
            self.begin_anew(self.video)?;
        }
        self.size = Some(size);
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

/// The change of an encoder's bitrate in mid-stream, which costs no keyframe and for which the library has no safe call.
#[allow(unsafe_code)]
mod raw {
    use openh264::encoder::Encoder;
    use openh264_sys2::{ENCODER_OPTION_BITRATE, ENCODER_OPTION_MAX_BITRATE, SBitrateInfo, SPATIAL_LAYER_0};

    /// One of openh264's two bitrates.
    #[derive(Clone, Copy)]
    pub(super) enum Rate {
        /// What it aims at.
        Target,
        /// What five seconds have at most; never below the target.
        Most,
    }

    /// Sets one of them, for an encoder that has had a picture. The level that the stream was announced with stays, also above
    /// the bitrate that it allows: decoders set up their memory by the size of the pictures.
    pub(super) fn set_rate(encoder: &mut Encoder, rate: Rate, bits: u32) -> Result<(), String> {
        let option = match rate {
            Rate::Target => ENCODER_OPTION_BITRATE,
            Rate::Most => ENCODER_OPTION_MAX_BITRATE,
        };
        let bits = i32::try_from(bits).map_err(|error| error.to_string())?;
        // One layer is all there is.
        let mut info = SBitrateInfo { iLayer: SPATIAL_LAYER_0, iBitrate: bits };
        // SAFETY: both options take a pointer to an SBitrateInfo, which is read during the call alone. Nothing that the library's
        // Encoder relies on (the size, the data format) is touched.
        let code = unsafe { encoder.raw_api().set_option(option, (&raw mut info).cast()) };
        if code == 0 { Ok(()) } else { Err(format!("the encoder does not take {bits} bit/s (code {code})")) }
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
    use crate::source::picture::{Colour, Picture, Rect};
    use punchcast::media::Kind;

    /// A picture of which a third is noise, which takes whatever bits there are. More would be another scene each time.
    fn noise(seed: u64) -> Picture {
        let mut rng = fastrand::Rng::with_seed(seed);
        let grey = |y| Colour { y, u: 128, v: 128 };
        let mut picture = Picture::new(320, 192, grey(128));
        for (y, x) in (0..64).flat_map(|y| (0..320).map(move |x| (y, x))) {
            picture.fill(Rect { x, y, w: 1, h: 1 }, grey(rng.u8(96..160)));
        }
        picture
    }

    /// What came of some pictures.
    struct Tally {
        /// Bits per second.
        rate: f64,
        keyframes: usize,
        /// The most pictures left out one after the other.
        gap: u32,
    }

    /// Encodes so many more pictures.
    fn run(encoder: &mut VideoEncoder, next: &mut u32, frames: u32) -> Tally {
        let (mut bytes, mut keyframes, mut gap, mut out) = (0, 0, 0, 0);
        for frame in *next..*next + frames {
            let stamp = Stamp { frame: u64::from(frame), wall_us: 0 };
            let encoded = encoder.encode(&noise(stamp.frame), frame * 1000 / 30, stamp, false, |unit| {
                bytes += unit.payload.len();
                keyframes += usize::from(unit.kind == Kind::Video && unit.is_keyframe());
                true
            });
            out = if encoded.expect("it encodes") == Encoded::Skipped { out + 1 } else { 0 };
            gap = gap.max(out);
        }
        *next += frames;
        Tally { rate: bytes as f64 * 8.0 * 30.0 / f64::from(frames), keyframes, gap }
    }

    fn encoder(bitrate: u32) -> VideoEncoder {
        VideoEncoder::new(VideoConfig { fps: 30, bitrate, content: Content::Camera }).unwrap()
    }

    #[test]
    fn the_bitrate_follows_in_mid_stream_and_begins_anew_only_where_it_is_halved() {
        let (mut encoder, mut next) = (encoder(2_000_000), 0);
        assert_eq!(encoder.follow(1_500_000), Ok(true), "there is nothing yet that could be kept");
        run(&mut encoder, &mut next, 60);
        for (wanted, anew) in
            [(1_250_000, false), (600_000, true), (900_000, false), (700_000, false), (1_800_000, false)]
        {
            assert_eq!(encoder.follow(wanted), Ok(anew), "{wanted}");
            let settling = run(&mut encoder, &mut next, 60);
            assert_eq!(settling.keyframes, usize::from(anew), "{wanted}");
            assert!(settling.gap < 8, "{} pictures left out at {wanted}", settling.gap);
            let Tally { rate, keyframes, .. } = run(&mut encoder, &mut next, 90);
            assert!((0.7..1.15).contains(&(rate / f64::from(wanted))), "{rate} for {wanted}");
            assert_eq!(keyframes, 0);
        }
    }

    #[test]
    fn half_is_of_the_highest_rate_since_it_began_anew() {
        let (mut encoder, mut next) = (encoder(2_000_000), 0);
        run(&mut encoder, &mut next, 15);
        for (wanted, anew) in [
            (1_440_000, false),
            (1_036_000, false),
            (746_000, true),
            (537_000, false),
            (386_000, false),
            (278_000, true),
        ] {
            assert_eq!(encoder.follow(wanted), Ok(anew), "{wanted}");
            assert_eq!(run(&mut encoder, &mut next, 15).keyframes, usize::from(anew), "{wanted}");
        }
    }

    #[test]
    fn pictures_of_another_size_begin_anew_and_the_bitrate_stays() {
        let (mut encoder, mut next) = (encoder(2_000_000), 0);
        run(&mut encoder, &mut next, 15);
        assert_eq!(encoder.follow(1_200_000), Ok(false));
        let large = Picture::new(640, 384, Colour { y: 128, u: 128, v: 128 });
        let (mut kinds, stamp) = (Vec::new(), Stamp { frame: 15, wall_us: 0 });
        let encoded = encoder.encode(&large, 500, stamp, false, |unit| {
            kinds.push((unit.is_sequence_header(), unit.is_keyframe()));
            true
        });
        assert_eq!((encoded, kinds), (Ok(Encoded::Emitted), vec![(true, false), (false, true)]));
        let Tally { rate, keyframes, .. } = run(&mut encoder, &mut next, 150);
        assert_eq!(keyframes, 1, "and back");
        assert!((0.7..1.15).contains(&(rate / 1_200_000.0)), "{rate}");
    }

    #[test]
    fn it_never_aims_below_what_makes_a_picture_nor_above_what_it_was_made_for() {
        let mut encoder = encoder(2_000_000);
        let video = encoder.video();
        assert_eq!(encoder.follow(0), Ok(true));
        assert_eq!(encoder.video().bitrate, *BITRATES.start());
        run(&mut encoder, &mut 0, 1);
        assert_eq!(encoder.follow(9_000_000), Ok(false));
        assert_eq!(encoder.video(), video);
    }
}
