//! From what was captured to what is encoded: colours, pointer, size.

use super::area::Area;
use super::frame::{Cursor, Frame};
use super::scale::{SMALLEST, Scaler};
use crate::source::picture::{Colour, Picture};
use openh264::formats::YUVSource as _;

const BLACK: Colour = Colour::rgb(0, 0, 0);

/// A picture that follows a frame, part by part.
#[derive(Debug)]
pub(super) struct Canvas {
    picture: Picture,
    /// What the pointer covers.
    covered: Area,
    scaler: Option<Scaler>,
}

impl Canvas {
    /// For frames of size `from`, to be encoded in size `to`.
    pub(super) fn new(from: (usize, usize), to: (usize, usize)) -> Self {
        let picture = Picture::new(from.0.max(SMALLEST), from.1.max(SMALLEST), BLACK);
        let size = picture.dimensions();
        // What is as large as wanted, but for what is cropped, is not worth the work.
        let scaler = (to.0 < size.0 || to.1 < size.1).then(|| Scaler::new(size, to));
        Self { picture, covered: Area::default(), scaler }
    }

    /// Takes what has changed of `frame`, and the pointer over it.
    pub(super) fn update(&mut self, frame: &Frame, drawn: Area, pointer: Option<(&Cursor, (i32, i32))>) {
        for area in [drawn.even(), self.covered] {
            frame.draw(area, &mut self.picture, (area.x, area.y));
        }
        self.covered = Area::default();
        if let Some((cursor, at)) = pointer {
            cursor.draw(frame, at, &mut self.picture);
            self.covered = cursor.area(at).even().and(Area::of(frame.size()));
        }
    }

    /// The picture to encode.
    pub(super) fn picture(&mut self) -> &Picture {
        match &mut self.scaler {
            Some(scaler) => scaler.scale(&self.picture),
            None => &self.picture,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_that_moves_leaves_no_trace() {
        let frame = Frame::new((101, 99));
        let cursor = Cursor { size: (3, 3), hot: (0, 0), pixels: vec![0xffff_ffff; 9] };
        let mut canvas = Canvas::new(frame.size(), (100, 98));
        canvas.update(&frame, Area::of(frame.size()), None);
        for at in [(5, 5), (7, 6), (97, 95), (99, 97), (-2, -2), (-9, 0)] {
            canvas.update(&frame, Area::default(), Some((&cursor, at)));
            let bright = canvas.picture().y().iter().filter(|luma| **luma == 235).count();
            let shown = cursor.area(at).and(Area::of((100, 98))).size();
            assert_eq!(bright, shown.0 * shown.1, "{at:?}");
        }
    }
}
