//! Rectangles of pixels, wherever they lie.

/// A rectangle; its upper left corner may lie outside of what it is cut from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Area {
    pub(super) x: i32,
    pub(super) y: i32,
    pub(super) w: i32,
    pub(super) h: i32,
}

impl Area {
    /// Everything of something this large.
    pub(super) const fn of(size: (usize, usize)) -> Self {
        Self { x: 0, y: 0, w: size.0 as i32, h: size.1 as i32 }
    }

    pub(super) const fn is_empty(self) -> bool {
        self.w <= 0 || self.h <= 0
    }

    /// Width and height; none of an empty area.
    pub(super) fn size(self) -> (usize, usize) {
        (self.w.max(0) as usize, self.h.max(0) as usize)
    }

    pub(super) const fn moved(self, by: (i32, i32)) -> Self {
        Self { x: self.x.saturating_add(by.0), y: self.y.saturating_add(by.1), ..self }
    }

    /// What both have, or nothing.
    pub(super) fn and(self, other: Self) -> Self {
        let (x, y) = (self.x.max(other.x), self.y.max(other.y));
        let right = (self.x + self.w).min(other.x + other.w);
        let bottom = (self.y + self.h).min(other.y + other.h);
        if right <= x || bottom <= y { Self::default() } else { Self { x, y, w: right - x, h: bottom - y } }
    }

    /// The smallest that has both.
    pub(super) fn or(self, other: Self) -> Self {
        if self.is_empty() {
            return other;
        }
        if other.is_empty() {
            return self;
        }
        let (x, y) = (self.x.min(other.x), self.y.min(other.y));
        let right = (self.x + self.w).max(other.x + other.w);
        let bottom = (self.y + self.h).max(other.y + other.h);
        Self { x, y, w: right - x, h: bottom - y }
    }

    /// The smallest around it with even edges, as chroma has half the resolution.
    pub(super) const fn even(self) -> Self {
        let (x, y) = (self.x & !1, self.y & !1);
        let (right, bottom) = ((self.x + self.w + 1) & !1, (self.y + self.h + 1) & !1);
        Self { x, y, w: right - x, h: bottom - y }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn area(x: i32, y: i32, w: i32, h: i32) -> Area {
        Area { x, y, w, h }
    }

    #[test]
    fn areas_are_cut_joined_and_widened_to_even_edges() {
        assert_eq!(area(-5, 2, 10, 10).and(Area::of((100, 5))), area(0, 2, 5, 3));
        assert!(area(10, 0, 5, 5).and(area(15, 0, 5, 5)).is_empty(), "neighbours share nothing");
        assert_eq!(area(0, 0, 0, 9).or(area(3, 4, 1, 1)), area(3, 4, 1, 1), "nothing adds nothing");
        assert_eq!(area(0, 0, 1, 1).or(area(3, 4, 1, 1)), area(0, 0, 4, 5));
        assert_eq!(area(1, 3, 2, 1).even(), area(0, 2, 4, 2));
        assert_eq!(area(-3, 0, 3, 2).even(), area(-4, 0, 4, 2));
    }
}
