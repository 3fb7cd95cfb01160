//! A picture in planes of luma and halved chroma (I420), and the few strokes that a test picture is made of.

use super::font;
use openh264::formats::YUVSource;

/// A colour as BT.601 in limited range, which is what our encoder announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Colour {
    /// Luma, 16 to 235.
    pub y: u8,
    /// Blue difference, 16 to 240.
    pub u: u8,
    /// Red difference, 16 to 240.
    pub v: u8,
}

impl Colour {
    /// From red, green and blue.
    #[must_use]
    pub const fn rgb(red: u8, green: u8, blue: u8) -> Self {
        let (r, g, b) = (red as i32, green as i32, blue as i32);
        // ITU-R BT.601 §2.5, scaled by 256; each sum stays within a byte.
        Self {
            y: (16 + ((66 * r + 129 * g + 25 * b + 128) >> 8)) as u8,
            u: (128 + ((-38 * r - 74 * g + 112 * b + 128) >> 8)) as u8,
            v: (128 + ((112 * r - 94 * g - 18 * b + 128) >> 8)) as u8,
        }
    }
}

/// An area in pixels. All four are even, as chroma has half the resolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rect {
    /// Left edge.
    pub x: usize,
    /// Top edge.
    pub y: usize,
    /// Width.
    pub w: usize,
    /// Height.
    pub h: usize,
}

impl Rect {
    /// An area, its edges rounded down to even pixels.
    #[must_use]
    pub const fn new(x: usize, y: usize, w: usize, h: usize) -> Self {
        Self { x: x & !1, y: y & !1, w: w & !1, h: h & !1 }
    }
}

/// A picture of even width and height.
#[derive(Clone, Debug)]
pub struct Picture {
    width: usize,
    height: usize,
    y: Vec<u8>,
    u: Vec<u8>,
    v: Vec<u8>,
}

impl Picture {
    /// A picture of one colour. Width and height are rounded down to even numbers.
    #[must_use]
    pub fn new(width: usize, height: usize, colour: Colour) -> Self {
        let (width, height) = (width & !1, height & !1);
        let chroma = width / 2 * (height / 2);
        Self {
            width,
            height,
            y: vec![colour.y; width * height],
            u: vec![colour.u; chroma],
            v: vec![colour.v; chroma],
        }
    }

    /// Fills what of `rect` lies within the picture.
    pub fn fill(&mut self, rect: Rect, colour: Colour) {
        let halved = Rect { x: rect.x / 2, y: rect.y / 2, w: rect.w / 2, h: rect.h / 2 };
        fill_plane(&mut self.y, self.width, rect, colour.y);
        fill_plane(&mut self.u, self.width / 2, halved, colour.u);
        fill_plane(&mut self.v, self.width / 2, halved, colour.v);
    }

    /// The luma of what of `rect` lies within the picture, a row after another.
    pub(super) fn luma_rows(&mut self, rect: Rect) -> impl Iterator<Item = &mut [u8]> {
        let (left, right) = (rect.x.min(self.width), rect.x.saturating_add(rect.w).min(self.width));
        let rows = self.y.chunks_exact_mut(self.width).skip(rect.y).take(rect.h);
        rows.map(move |line| &mut line[left..right])
    }

    /// The planes of luma, blue and red difference, each row right after the one before.
    pub(super) fn planes_mut(&mut self) -> [&mut [u8]; 3] {
        [&mut self.y, &mut self.u, &mut self.v]
    }

    /// Draws one character, its cell's upper left corner at (`x`, `y`), in luma alone: it takes the tint of what it
    /// stands on. The cell is [`font::ADVANCE`] by [`font::HEIGHT`] times `scale` pixels.
    pub(super) fn character(&mut self, x: usize, y: usize, scale: usize, character: char, luma: Luma) {
        let glyph = font::glyph(character);
        let (width, height) = (font::ADVANCE * scale, font::HEIGHT * scale);
        let Some(width) = self.width.checked_sub(x).map(|room| room.min(width)) else { return };
        for (row, line) in self.y.chunks_exact_mut(self.width).skip(y).take(height).enumerate() {
            let bits = glyph[row * font::DETAIL / scale];
            for (column, pixel) in line[x..x + width].iter_mut().enumerate() {
                let on = bits >> (column * font::DETAIL / scale) & 1 != 0;
                *pixel = if on { luma.ink } else { luma.paper };
            }
        }
    }
}

/// The luma of text and of what it stands on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Luma {
    pub(super) ink: u8,
    pub(super) paper: u8,
}

fn fill_plane(plane: &mut [u8], stride: usize, rect: Rect, value: u8) {
    let left = rect.x.min(stride);
    let right = rect.x.saturating_add(rect.w).min(stride);
    for line in plane.chunks_exact_mut(stride).skip(rect.y).take(rect.h) {
        line[left..right].fill(value);
    }
}

impl YUVSource for Picture {
    fn dimensions(&self) -> (usize, usize) {
        (self.width, self.height)
    }

    fn strides(&self) -> (usize, usize, usize) {
        (self.width, self.width / 2, self.width / 2)
    }

    fn y(&self) -> &[u8] {
        &self.y
    }

    fn u(&self) -> &[u8] {
        &self.u
    }

    fn v(&self) -> &[u8] {
        &self.v
    }
}
