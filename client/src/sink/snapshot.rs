//! A picture of the last frame that was seen, as a PNG.
//!
//! Meanwhile it only keeps the units since the last keyframe, which share their bytes with everybody else; they are
//! decoded when the picture is asked for.

use super::record::{is_no_file, of_file};
use openh264::decoder::{DecodeOptions, DecodedYUV, Decoder, Flush};
use openh264::formats::YUVSource;
use punchcast::media::Unit;
use punchcast::media::avc::{self, AvcError, Config};
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// Units to keep since the last keyframe: ten seconds at 60 frames a second. A stream with fewer keyframes gives the
/// last picture within the bound.
const MAX_UNITS: usize = 600;

/// Bytes to keep since the last keyframe: ten seconds at 24 Mbit/s.
const MAX_BYTES: usize = 32 << 20;

/// Keeps what is needed for a picture of the last frame.
#[derive(Debug)]
pub struct Snapshot {
    path: PathBuf,
    config: Option<Result<Config, AvcError>>,
    group: Vec<Unit>,
    bytes: usize,
}

/// The picture that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// The number of the last frame that was decoded, if a Punchcast encoder made it.
    pub frame: Option<u64>,
}

/// Why there is no picture.
#[derive(Debug)]
#[non_exhaustive]
pub enum SnapshotError {
    /// No keyframe has been seen, or no sequence header before it.
    Nothing,
    /// The stream is not H.264, or not as FLV carries it.
    Avc(AvcError),
    /// The decoder refused the stream; what it says.
    Decoder(String),
    /// The file could not be written.
    File(io::Error),
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("no H.264 keyframe was seen"),
            Self::Avc(error) => error.fmt(f),
            Self::Decoder(why) => write!(f, "the picture cannot be decoded: {why}"),
            Self::File(error) => write!(f, "the picture cannot be written: {error}"),
        }
    }
}

impl std::error::Error for SnapshotError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Avc(error) => Some(error),
            Self::File(error) => Some(error),
            Self::Nothing | Self::Decoder(_) => None,
        }
    }
}

impl Snapshot {
    /// A snapshot to be written to `path`.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), config: None, group: Vec::new(), bytes: 0 }
    }

    /// Takes the next unit of the stream. This keeps a reference to its bytes and does no more.
    pub fn write(&mut self, unit: &Unit) {
        if let Some(config) = Config::of(unit) {
            if self.config.as_ref() != Some(&config) {
                self.clear();
            }
            self.config = Some(config);
            return;
        }
        // Publishers end with a mark that is no picture.
        if !avc::is_picture(unit) {
            return;
        }
        if unit.is_keyframe() {
            self.clear();
        } else if self.group.is_empty() {
            return;
        }
        if self.group.len() < MAX_UNITS && self.bytes + unit.payload.len() <= MAX_BYTES {
            self.bytes += unit.payload.len();
            self.group.push(unit.clone());
        }
    }

    fn clear(&mut self) {
        self.group.clear();
        self.bytes = 0;
    }

    /// Decodes what was kept and writes the last picture. More units may follow, and another picture.
    ///
    /// # Errors
    /// [`SnapshotError`]; the file is created, or an older one replaced, only when there is a whole picture.
    pub fn finish(&self) -> Result<SnapshotInfo, SnapshotError> {
        let config = match &self.config {
            Some(config) => config.clone().map_err(SnapshotError::Avc)?,
            None => return Err(SnapshotError::Nothing),
        };
        let image = decode_last(&config, &self.group)?;
        let png = image.png().map_err(|error| SnapshotError::File(error.into()))?;
        replace(&self.path, &png)
            .map_err(|error| SnapshotError::File(of_file(self.path.display(), &error)))?;
        Ok(SnapshotInfo { width: image.width as u32, height: image.height as u32, frame: image.frame })
    }
}

/// Writes a file whole or not at all: beside it, and then in its place. What is no file is written to.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if is_no_file(path) {
        return fs::write(path, bytes);
    }
    // Of a symbolic link, what it leads to.
    let there = fs::canonicalize(path).ok();
    let path = there.as_deref().unwrap_or(path);
    let mut name = OsString::from(".");
    name.push(path.file_name().ok_or(io::ErrorKind::InvalidInput)?);
    name.push(format!(".{}", std::process::id()));
    let beside = path.with_file_name(name);
    // What an earlier program of that number was stopped at.
    let _ = fs::remove_file(&beside);
    let mut file = match fs::File::create_new(&beside) {
        Ok(file) => file,
        // A directory that takes no new files may hold one that can be written.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return fs::write(path, bytes),
        Err(error) => return Err(error),
    };
    // Who could not read the old one cannot read the new one, at no time.
    let guarded = path.metadata().map_or(Ok(()), |old| file.set_permissions(old.permissions()));
    let written = guarded.and_then(|()| file.write_all(bytes)).and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        // It is of no use to anybody.
        let _ = fs::remove_file(&beside);
    }
    written
}

/// Decodes a keyframe and what follows it, and gives the last picture. Damage after the keyframe ends it early.
fn decode_last(config: &Config, group: &[Unit]) -> Result<Image, SnapshotError> {
    let decoder_error = |error: openh264::Error| SnapshotError::Decoder(error.to_string());
    let mut decoder = Decoder::new().map_err(decoder_error)?;
    let mut image = Image::default();
    let mut stream = Vec::new();
    for set in config.sps.iter().chain(&config.pps) {
        append_nal(&mut stream, set);
    }
    for unit in group {
        for nal in avc::nal_units(unit, config.length_size).map_err(SnapshotError::Avc)? {
            append_nal(&mut stream, nal);
        }
        let options = DecodeOptions::new().flush_after_decode(Flush::NoFlush);
        match decoder.decode_with_options(&stream, options) {
            Ok(Some(picture)) => {
                image.set(&picture);
                image.frame = crate::source::frame_number(unit);
            }
            Ok(None) => {}
            Err(error) if image.is_empty() => return Err(decoder_error(error)),
            Err(error) => {
                log::debug!("snapshot: decoding ends early: {error}");
                break;
            }
        }
        stream.clear();
    }
    if let Some(picture) = decoder.flush_remaining().map_err(decoder_error)?.last() {
        image.set(picture);
    }
    if image.is_empty() { Err(SnapshotError::Nothing) } else { Ok(image) }
}

fn append_nal(stream: &mut Vec<u8>, nal: &[u8]) {
    stream.extend_from_slice(&[0, 0, 0, 1]);
    stream.extend_from_slice(nal);
}

/// The last decoded picture, in planes, so that only one picture is ever converted.
#[derive(Debug, Default)]
struct Image {
    frame: Option<u64>,
    width: usize,
    height: usize,
    y: Vec<u8>,
    u: Vec<u8>,
    v: Vec<u8>,
}

impl Image {
    fn is_empty(&self) -> bool {
        self.y.is_empty()
    }

    fn set(&mut self, picture: &DecodedYUV<'_>) {
        (self.width, self.height) = picture.dimensions();
        let strides = picture.strides();
        let (half_width, half_height) = (self.width.div_ceil(2), self.height.div_ceil(2));
        copy_plane(&mut self.y, picture.y(), strides.0, self.width, self.height);
        copy_plane(&mut self.u, picture.u(), strides.1, half_width, half_height);
        copy_plane(&mut self.v, picture.v(), strides.2, half_width, half_height);
    }

    /// The picture as a PNG, taken for BT.601 in limited range: what our encoder writes and what most screen
    /// capture gives.
    fn png(&self) -> Result<Vec<u8>, png::EncodingError> {
        let mut rgb = Vec::with_capacity(self.width * self.height * 3);
        let half_width = self.width.div_ceil(2);
        for (row, line) in self.y.chunks_exact(self.width).enumerate() {
            let chroma = row / 2 * half_width;
            for (column, &y) in line.iter().enumerate() {
                let at = chroma + column / 2;
                rgb.extend_from_slice(&to_rgb(y, self.u[at], self.v[at]));
            }
        }
        let mut png = Vec::new();
        let mut encoder = png::Encoder::new(&mut png, self.width as u32, self.height as u32);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.write_header()?.write_image_data(&rgb)?;
        Ok(png)
    }
}

fn copy_plane(to: &mut Vec<u8>, from: &[u8], stride: usize, width: usize, height: usize) {
    to.clear();
    for line in from.chunks(stride.max(1)).take(height) {
        to.extend_from_slice(&line[..width.min(line.len())]);
    }
    // The decoder's planes are as large as it says; should they not be, the rest is grey and nothing panics.
    to.resize(width * height, 128);
}

/// ITU-R BT.601, limited range, scaled by 256.
fn to_rgb(y: u8, u: u8, v: u8) -> [u8; 3] {
    let (y, u, v) = (298 * (i32::from(y) - 16), i32::from(u) - 128, i32::from(v) - 128);
    [y + 409 * v, y - 100 * u - 208 * v, y + 516 * u].map(|value| ((value + 128) >> 8).clamp(0, 255) as u8)
}
