//! Smaller pictures: each pixel is the mean of the area that it stands for.

use crate::source::picture::{Colour, Picture};
use openh264::formats::YUVSource as _;

/// Width and height of what the encoder takes at most; either may be the larger.
const LARGEST: (usize, usize) = (3840, 2160);

/// The narrowest picture that is encoded: four blocks. A smaller window is shown within one of this size.
pub(super) const SMALLEST: usize = 64;

/// The size of pictures of something `size` large: at most `limit`, at most what the encoder takes, halved
/// `halvings` times, with even edges and the same shape.
pub(super) fn fit(size: (usize, usize), limit: Option<(u32, u32)>, halvings: u32) -> (usize, usize) {
    let largest = if size.0 < size.1 { (LARGEST.1, LARGEST.0) } else { LARGEST };
    let limit = limit.map_or(largest, |(w, h)| (largest.0.min(w as usize), largest.1.min(h as usize)));
    let (w, h) = (size.0.max(1), size.1.max(1));
    // The tighter of both limits, compared without fractions.
    let (w, h) = if w <= limit.0 && h <= limit.1 {
        (w, h)
    } else if limit.0 * h <= limit.1 * w {
        (limit.0, h * limit.0 / w)
    } else {
        (w * limit.1 / h, limit.1)
    };
    let even = |edge: usize| ((edge >> halvings) & !1).max(SMALLEST);
    (even(w), even(h))
}

/// Makes pictures of one size from pictures of a larger one.
#[derive(Debug)]
pub(super) struct Scaler {
    luma: Plane,
    chroma: Plane,
    picture: Picture,
}

impl Scaler {
    /// From and to these even sizes, neither edge growing.
    pub(super) fn new(from: (usize, usize), to: (usize, usize)) -> Self {
        Self {
            luma: Plane::new(from, to),
            chroma: Plane::new((from.0 / 2, from.1 / 2), (to.0 / 2, to.1 / 2)),
            picture: Picture::new(to.0, to.1, Colour::rgb(0, 0, 0)),
        }
    }

    /// `picture`, made smaller.
    pub(super) fn scale(&mut self, picture: &Picture) -> &Picture {
        let [y, u, v] = self.picture.planes_mut();
        self.luma.scale(picture.y(), y);
        self.chroma.scale(picture.u(), u);
        self.chroma.scale(picture.v(), v);
        &self.picture
    }
}

/// How the pixels of one plane are made.
#[derive(Debug)]
struct Plane {
    width: usize,
    columns: Vec<Tap>,
    rows: Vec<Tap>,
    /// A row of means over rows, at full width.
    line: Vec<u16>,
}

/// The pixels that one is the mean of, and their weights, which add up to 256.
#[derive(Debug, PartialEq, Eq)]
struct Tap {
    first: usize,
    weights: Vec<u16>,
}

impl Plane {
    fn new(from: (usize, usize), to: (usize, usize)) -> Self {
        Self { width: from.0, columns: taps(from.0, to.0), rows: taps(from.1, to.1), line: vec![0; from.0] }
    }

    fn scale(&mut self, from: &[u8], to: &mut [u8]) {
        for (tap, to) in self.rows.iter().zip(to.chunks_exact_mut(self.columns.len())) {
            self.line.fill(0);
            let rows = from.chunks_exact(self.width).skip(tap.first);
            for (weight, row) in tap.weights.iter().zip(rows) {
                for (sum, pixel) in self.line.iter_mut().zip(row) {
                    // At most 255 * 256 in the end.
                    *sum += weight * u16::from(*pixel);
                }
            }
            for (pixel, tap) in to.iter_mut().zip(&self.columns) {
                let line = &self.line[tap.first..tap.first + tap.weights.len()];
                let sum: u32 =
                    line.iter().zip(&tap.weights).map(|(a, b)| u32::from(*a) * u32::from(*b)).sum();
                *pixel = ((sum + (1 << 15)) >> 16) as u8;
            }
        }
    }
}

fn taps(from: usize, to: usize) -> Vec<Tap> {
    (0..to)
        .map(|index| {
            // In units of a `to`th of a pixel.
            let (begin, end) = (index * from, (index + 1) * from);
            let first = begin / to;
            let covered = (first..end.div_ceil(to)).map(|pixel| {
                let (left, right) = ((pixel * to).max(begin), ((pixel + 1) * to).min(end));
                right - left
            });
            let mut weights = Vec::new();
            let (mut so_far, mut given) = (0, 0);
            for part in covered {
                // What is rounded off goes to the next, so that the sum is exact.
                so_far += part;
                let total = so_far * 256 / from;
                weights.push((total - given) as u16);
                given = total;
            }
            Tap { first, weights }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_keep_their_shape_within_every_limit() {
        assert_eq!(fit((1920, 1080), None, 0), (1920, 1080));
        assert_eq!(fit((1367, 769), None, 0), (1366, 768), "odd edges are cropped");
        assert_eq!(fit((1920, 1080), Some((1280, 720)), 0), (1280, 720));
        assert_eq!(fit((1920, 1200), Some((1280, 720)), 0), (1152, 720));
        assert_eq!(fit((1920, 1080), Some((1280, 4000)), 1), (640, 360));
        assert_eq!(fit((7680, 2160), None, 0), (3840, 1080), "two 4K monitors side by side");
        assert_eq!(fit((2160, 3840), None, 0), (2160, 3840), "upright");
        assert_eq!(fit((1, 1), None, 2), (SMALLEST, SMALLEST));
    }

    #[test]
    fn weights_are_the_shares_of_an_area() {
        assert_eq!(taps(4, 2)[1], Tap { first: 2, weights: vec![128, 128] });
        assert_eq!(taps(3, 2)[0], Tap { first: 0, weights: vec![170, 86] });
        for (from, to) in [(1920, 1280), (1367, 100), (64, 64), (7, 3)] {
            let taps = taps(from, to);
            assert_eq!(taps.len(), to);
            for tap in &taps {
                assert_eq!(tap.weights.iter().sum::<u16>(), 256);
                assert!(tap.first + tap.weights.len() <= from);
            }
        }
    }

    #[test]
    fn a_scaled_picture_has_the_means() {
        let mut picture = Picture::new(128, 128, Colour::rgb(0, 0, 0));
        for (index, pixel) in picture.planes_mut()[0].iter_mut().enumerate() {
            *pixel = if index % 2 == 0 { 20 } else { 40 };
        }
        let mut scaler = Scaler::new((128, 128), (64, 64));
        let scaled = scaler.scale(&picture);
        assert_eq!(scaled.dimensions(), (64, 64));
        assert!(scaled.y().iter().all(|luma| *luma == 30));
        assert!(scaled.u().iter().all(|chroma| *chroma == 128));
    }
}
