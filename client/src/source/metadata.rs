//! `onMetaData`, by which players learn of a picture's size before they see it (FLV v10.1 §E.5).

use punchcast::media::{Kind, Unit};

/// What `onMetaData` says of a video stream without sound.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VideoMetadata {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Frames per second.
    pub fps: u32,
    /// Bits per second.
    pub bitrate: u32,
}

impl VideoMetadata {
    /// The unit, at timestamp 0.
    #[must_use]
    pub fn unit(&self) -> Unit {
        let numbers = [
            ("width", f64::from(self.width)),
            ("height", f64::from(self.height)),
            ("framerate", f64::from(self.fps)),
            ("videocodecid", 7.0),
            ("videodatarate", f64::from(self.bitrate) / 1000.0),
        ];
        let mut body = vec![AMF0_STRING];
        name(&mut body, "onMetaData");
        body.push(AMF0_ECMA_ARRAY);
        body.extend_from_slice(&(numbers.len() as u32 + 1).to_be_bytes());
        for (key, value) in numbers {
            name(&mut body, key);
            body.push(AMF0_NUMBER);
            body.extend_from_slice(&value.to_be_bytes());
        }
        name(&mut body, "encoder");
        body.push(AMF0_STRING);
        name(&mut body, concat!("Punchcast ", env!("CARGO_PKG_VERSION")));
        body.extend_from_slice(&[0, 0, AMF0_OBJECT_END]);
        Unit { kind: Kind::Data, timestamp: 0, payload: body.into() }
    }
}

/// A string without its marker, as keys are written. Ours are all shorter than 64 KiB.
fn name(body: &mut Vec<u8>, text: &str) {
    body.extend_from_slice(&(text.len() as u16).to_be_bytes());
    body.extend_from_slice(text.as_bytes());
}

const AMF0_NUMBER: u8 = 0;
const AMF0_STRING: u8 = 2;
const AMF0_ECMA_ARRAY: u8 = 8;
const AMF0_OBJECT_END: u8 = 9;
