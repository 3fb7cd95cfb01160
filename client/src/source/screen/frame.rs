//! A captured picture as the display has it, and its way into the encoder's planes.

use super::area::Area;
use crate::source::picture::Picture;
use openh264::formats::YUVSource as _;

/// Pixels as most displays have them: blue, green, red, and a byte without meaning.
#[derive(Clone, Debug, Default)]
pub(super) struct Frame {
    width: usize,
    height: usize,
    pixels: Vec<[u8; 4]>,
}

impl Frame {
    /// A black frame.
    pub(super) fn new((width, height): (usize, usize)) -> Self {
        Self { width, height, pixels: vec![[0; 4]; width * height] }
    }

    pub(super) const fn size(&self) -> (usize, usize) {
        (self.width, self.height)
    }

    /// The rows of `area`, which lies within the frame.
    pub(super) fn rows(&self, area: Area) -> impl Iterator<Item = &[[u8; 4]]> {
        let (x, (w, h)) = (area.x as usize, area.size());
        self.pixels
            .chunks_exact(self.width.max(1))
            .skip(area.y as usize)
            .take(h)
            .map(move |row| &row[x..x + w])
    }

    /// The same, to be written.
    pub(super) fn rows_mut(&mut self, area: Area) -> impl Iterator<Item = &mut [[u8; 4]]> {
        let (x, (w, h)) = (area.x as usize, area.size());
        let rows = self.pixels.chunks_exact_mut(self.width.max(1)).skip(area.y as usize).take(h);
        rows.map(move |row| &mut row[x..x + w])
    }

    /// All bytes of the rows of `area`, if it is as wide as the frame.
    pub(super) fn whole_rows_mut(&mut self, area: Area) -> Option<&mut [u8]> {
        let (w, h) = area.size();
        let first = area.y as usize * self.width;
        (w == self.width).then(|| self.pixels[first..first + w * h].as_flattened_mut())
    }

    /// Draws `area` of this frame into `picture`, its upper left corner to `to`. Edges and corner are even; what lies
    /// outside of either is left out.
    pub(super) fn draw(&self, area: Area, picture: &mut Picture, to: (i32, i32)) {
        let (width, height) = picture.dimensions();
        let offset = (to.0 - area.x, to.1 - area.y);
        let room = Area::of((width, height)).moved((-offset.0, -offset.1));
        // Chroma is made of pairs, so an odd last row or column is left out.
        let area = area.and(Area::of((self.width & !1, self.height & !1))).and(room);
        if area.is_empty() {
            return;
        }
        let (x, y) = ((area.x + offset.0) as usize, (area.y + offset.1) as usize);
        let w = area.size().0;
        let [luma, blue, red] = picture.planes_mut();
        let luma = luma.chunks_exact_mut(width * 2).skip(y / 2);
        let blue = blue.chunks_exact_mut(width / 2).skip(y / 2);
        let red = red.chunks_exact_mut(width / 2).skip(y / 2);
        let mut rows = self.rows(area);
        for ((luma, blue), red) in luma.zip(blue).zip(red) {
            let (Some(upper), Some(lower)) = (rows.next(), rows.next()) else { break };
            let (upper_luma, lower_luma) = luma.split_at_mut(width);
            luma_row(upper, &mut upper_luma[x..x + w]);
            luma_row(lower, &mut lower_luma[x..x + w]);
            let chroma = x / 2..x / 2 + w / 2;
            chroma_row(upper, lower, &mut blue[chroma.clone()], &mut red[chroma]);
        }
    }
}

// Both rows' sums are those of `Colour::rgb`, and fit 16 bits, so that a compiler can do eight or sixteen at a time.

fn luma_row(pixels: &[[u8; 4]], luma: &mut [u8]) {
    for (pixel, luma) in pixels.iter().zip(luma) {
        let [b, g, r, _] = pixel.map(u16::from);
        *luma = ((66 * r + 129 * g + 25 * b + 128) >> 8) as u8 + 16;
    }
}

fn chroma_row(upper: &[[u8; 4]], lower: &[[u8; 4]], blue: &mut [u8], red: &mut [u8]) {
    let pairs = upper.as_chunks::<2>().0.iter().zip(lower.as_chunks::<2>().0);
    for (([[a, b], [c, d]], blue), red) in pairs.map(|(upper, lower)| [*upper, *lower]).zip(blue).zip(red) {
        let mean = |at: usize| {
            ((u16::from(a[at]) + u16::from(b[at]) + u16::from(c[at]) + u16::from(d[at]) + 2) >> 2) as i16
        };
        let (b, g, r) = (mean(0), mean(1), mean(2));
        *blue = (((112 * b - 38 * r - 74 * g + 128) >> 8) + 128) as u8;
        *red = (((112 * r - 94 * g - 18 * b + 128) >> 8) + 128) as u8;
    }
}

/// The pointer's picture.
#[derive(Clone, Debug, Default)]
pub(super) struct Cursor {
    /// Pixels.
    pub(super) size: (usize, usize),
    /// The pixel that points.
    pub(super) hot: (i32, i32),
    /// Rows of alpha, red, green, blue from the highest byte down, the colours multiplied by alpha.
    pub(super) pixels: Vec<u32>,
}

impl Cursor {
    /// What it covers when it points to `at`.
    pub(super) const fn area(&self, at: (i32, i32)) -> Area {
        Area::of(self.size).moved((at.0 - self.hot.0, at.1 - self.hot.1))
    }

    /// Draws it over what `frame` has there, into a picture of that frame.
    pub(super) fn draw(&self, frame: &Frame, at: (i32, i32), picture: &mut Picture) {
        let own = self.area(at);
        let within = own.even().and(Area::of(frame.size()));
        if within.is_empty() || self.size.0 == 0 {
            return;
        }
        let mut patch = Frame::new(within.size());
        let all = Area::of(patch.size());
        for ((row, from), y) in patch.rows_mut(all).zip(frame.rows(within)).zip(within.y..) {
            row.copy_from_slice(from);
            let Ok(line) = usize::try_from(y - own.y) else { continue };
            let Some(line) = self.pixels.chunks_exact(self.size.0).nth(line) else { continue };
            for (pixel, x) in row.iter_mut().zip(within.x..) {
                let ink = usize::try_from(x - own.x).ok().and_then(|x| line.get(x));
                if let Some(ink) = ink {
                    blend(pixel, *ink);
                }
            }
        }
        patch.draw(all, picture, (within.x, within.y));
    }
}

fn blend(pixel: &mut [u8; 4], ink: u32) {
    let [alpha, red, green, blue] = ink.to_be_bytes();
    let through = 255 - u16::from(alpha);
    for (under, over) in pixel.iter_mut().zip([blue, green, red]) {
        // Rounded; saturating, as a client may claim more colour than alpha.
        *under = over.saturating_add(((u16::from(*under) * through + 127) / 255) as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::picture::Colour;

    const BLACK: Colour = Colour::rgb(0, 0, 0);

    fn luma(picture: &Picture, x: usize, y: usize) -> u8 {
        picture.y()[y * picture.dimensions().0 + x]
    }

    #[test]
    fn colours_are_those_of_the_drawn_pictures() {
        for (red, green, blue) in
            [(0, 0, 0), (255, 255, 255), (255, 0, 0), (0, 255, 0), (0, 0, 255), (12, 200, 99)]
        {
            let mut frame = Frame::new((4, 2));
            frame.pixels.fill([blue, green, red, 77]);
            let mut picture = Picture::new(4, 2, BLACK);
            frame.draw(Area::of((4, 2)), &mut picture, (0, 0));
            let Colour { y, u, v } = Colour::rgb(red, green, blue);
            assert!(picture.y().iter().all(|found| *found == y));
            assert_eq!((picture.u(), picture.v()), (&[u; 2][..], &[v; 2][..]));
        }
    }

    #[test]
    fn an_odd_frame_is_cropped_and_only_the_area_is_drawn() {
        let mut frame = Frame::new((7, 5));
        frame.pixels.fill([255; 4]);
        let mut picture = Picture::new(6, 4, BLACK);
        frame.draw(Area { x: 2, y: 2, w: 6, h: 4 }, &mut picture, (2, 2));
        for y in 0..4 {
            for x in 0..6 {
                assert_eq!(luma(&picture, x, y), if x >= 2 && y >= 2 { 235 } else { 16 }, "{x}, {y}");
            }
        }
    }

    #[test]
    fn a_cursor_is_blended_over_the_frame_and_cut_at_its_edges() {
        let mut frame = Frame::new((6, 6));
        frame.pixels.fill([0, 0, 0, 0]);
        let white = 0xffff_ffff;
        let half = 0x8080_8080;
        let cursor = Cursor { size: (2, 2), hot: (1, 1), pixels: vec![white, half, 0, white] };
        let mut picture = Picture::new(6, 6, BLACK);
        cursor.draw(&frame, (3, 3), &mut picture);
        assert_eq!([luma(&picture, 2, 2), luma(&picture, 3, 2)], [235, Colour::rgb(128, 128, 128).y]);
        assert_eq!([luma(&picture, 2, 3), luma(&picture, 3, 3)], [16, 235]);
        assert_eq!(luma(&picture, 4, 4), 16);
        for corner in [(0, 0), (6, 6), (-9, 3), (3, 700), (5, 0)] {
            cursor.draw(&frame, corner, &mut picture);
        }
        assert_eq!(luma(&picture, 0, 0), 235, "its last pixel, the rest cut off");
    }
}
