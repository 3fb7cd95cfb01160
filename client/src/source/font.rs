//! A small built-in bitmap font: digits, capitals and a little punctuation, 5 by 7 dots.
//!
//! Dots enlarged to squares look coarse, so each glyph is refined once, at compile time: the rule that doubles a
//! bitmap while keeping its diagonals smooth is applied twice, and gives 4 by 4 details for each dot.

/// Details to a dot, each way.
pub(super) const DETAIL: usize = 4;

/// Dots from one character to the next.
pub(super) const ADVANCE: usize = 6;

/// Dots in a character's height.
pub(super) const HEIGHT: usize = 7;

/// The refined glyph: a row of details an item, the leftmost in the lowest bit. An unknown character is blank.
pub(super) fn glyph(character: char) -> &'static Refined {
    u8::try_from(character)
        .ok()
        .and_then(|byte| GLYPHS.get(usize::from(byte)))
        .unwrap_or(&[0; HEIGHT * DETAIL])
}

type Refined = [u32; HEIGHT * DETAIL];

static GLYPHS: [Refined; 91] = {
    let mut glyphs = [[0; HEIGHT * DETAIL]; 91];
    let mut byte = 0;
    while byte < glyphs.len() {
        glyphs[byte] = refine(dots(byte as u8));
        byte += 1;
    }
    glyphs
};

const fn refine(dots: [u8; HEIGHT]) -> Refined {
    let mut rows = [0; HEIGHT * DETAIL];
    let mut row = 0;
    while row < HEIGHT {
        // Written with the leftmost dot in bit 4.
        rows[row] = (dots[row] as u32).reverse_bits() >> 27;
        row += 1;
    }
    double(double(rows, HEIGHT, 5), HEIGHT * 2, 10)
}

/// Doubles a bitmap: a quarter of a dot takes the value of the two neighbours at its corner where these agree with
/// each other and with neither of the neighbours opposite.
const fn double(from: Refined, height: usize, width: usize) -> Refined {
    let mut to = [0; HEIGHT * DETAIL];
    let mut y = 0;
    while y < height {
        let mut x = 0;
        while x < width {
            let own = dot(&from, x + 1, y + 1);
            let (up, down) = (dot(&from, x + 1, y), dot(&from, x + 1, y + 2));
            let (left, right) = (dot(&from, x, y + 1), dot(&from, x + 2, y + 1));
            let quarters = [
                if left == up && left != down && up != right { up } else { own },
                if up == right && up != left && right != down { right } else { own },
                if down == left && down != right && left != up { left } else { own },
                if right == down && right != up && down != left { down } else { own },
            ];
            to[2 * y] |= (quarters[0] | quarters[1] << 1) << (2 * x);
            to[2 * y + 1] |= (quarters[2] | quarters[3] << 1) << (2 * x);
            x += 1;
        }
        y += 1;
    }
    to
}

/// The dot at (`x` - 1, `y` - 1); what lies outside is blank.
const fn dot(rows: &Refined, x: usize, y: usize) -> u32 {
    if x == 0 || y == 0 || y > rows.len() { 0 } else { rows[y - 1] >> (x - 1) & 1 }
}

#[rustfmt::skip]
const fn dots(character: u8) -> [u8; HEIGHT] {
    match character {
        b'0' => [0b01110, 0b10001, 0b10011, 0b10101, 0b11001, 0b10001, 0b01110],
        b'1' => [0b00100, 0b01100, 0b00100, 0b00100, 0b00100, 0b00100, 0b01110],
        b'2' => [0b01110, 0b10001, 0b00001, 0b00110, 0b01000, 0b10000, 0b11111],
        b'3' => [0b01110, 0b10001, 0b00001, 0b00110, 0b00001, 0b10001, 0b01110],
        b'4' => [0b10001, 0b10001, 0b10001, 0b11111, 0b00001, 0b00001, 0b00001],
        b'5' => [0b11111, 0b10000, 0b11110, 0b00001, 0b00001, 0b10001, 0b01110],
        b'6' => [0b00110, 0b01000, 0b10000, 0b11110, 0b10001, 0b10001, 0b01110],
        b'7' => [0b11111, 0b00001, 0b00010, 0b00100, 0b01000, 0b01000, 0b01000],
        b'8' => [0b01110, 0b10001, 0b10001, 0b01110, 0b10001, 0b10001, 0b01110],
        b'9' => [0b01110, 0b10001, 0b10001, 0b01111, 0b00001, 0b00010, 0b01100],
        b':' => [0b00000, 0b00100, 0b00100, 0b00000, 0b00100, 0b00100, 0b00000],
        b'.' => [0b00000, 0b00000, 0b00000, 0b00000, 0b00000, 0b00110, 0b00110],
        b'-' => [0b00000, 0b00000, 0b00000, 0b01110, 0b00000, 0b00000, 0b00000],
        b'A' => [0b01110, 0b10001, 0b10001, 0b11111, 0b10001, 0b10001, 0b10001],
        b'B' => [0b11110, 0b10001, 0b10001, 0b11110, 0b10001, 0b10001, 0b11110],
        b'C' => [0b01110, 0b10001, 0b10000, 0b10000, 0b10000, 0b10001, 0b01110],
        b'D' => [0b11110, 0b10001, 0b10001, 0b10001, 0b10001, 0b10001, 0b11110],
        b'E' => [0b11111, 0b10000, 0b10000, 0b11110, 0b10000, 0b10000, 0b11111],
        b'F' => [0b11111, 0b10000, 0b10000, 0b11110, 0b10000, 0b10000, 0b10000],
        b'G' => [0b01110, 0b10001, 0b10000, 0b10111, 0b10001, 0b10001, 0b01110],
        b'H' => [0b10001, 0b10001, 0b10001, 0b11111, 0b10001, 0b10001, 0b10001],
        b'I' => [0b01110, 0b00100, 0b00100, 0b00100, 0b00100, 0b00100, 0b01110],
        b'J' => [0b00111, 0b00010, 0b00010, 0b00010, 0b00010, 0b10010, 0b01100],
        b'K' => [0b10001, 0b10010, 0b10100, 0b11000, 0b10100, 0b10010, 0b10001],
        b'L' => [0b10000, 0b10000, 0b10000, 0b10000, 0b10000, 0b10000, 0b11111],
        b'M' => [0b10001, 0b11011, 0b10101, 0b10001, 0b10001, 0b10001, 0b10001],
        b'N' => [0b10001, 0b11001, 0b10101, 0b10011, 0b10001, 0b10001, 0b10001],
        b'O' => [0b01110, 0b10001, 0b10001, 0b10001, 0b10001, 0b10001, 0b01110],
        b'P' => [0b11110, 0b10001, 0b10001, 0b11110, 0b10000, 0b10000, 0b10000],
        b'Q' => [0b01110, 0b10001, 0b10001, 0b10001, 0b10101, 0b10010, 0b01101],
        b'R' => [0b11110, 0b10001, 0b10001, 0b11110, 0b10100, 0b10010, 0b10001],
        b'S' => [0b01111, 0b10000, 0b10000, 0b01110, 0b00001, 0b00001, 0b11110],
        b'T' => [0b11111, 0b00100, 0b00100, 0b00100, 0b00100, 0b00100, 0b00100],
        b'U' => [0b10001, 0b10001, 0b10001, 0b10001, 0b10001, 0b10001, 0b01110],
        b'V' => [0b10001, 0b10001, 0b10001, 0b10001, 0b10001, 0b01010, 0b00100],
        b'W' => [0b10001, 0b10001, 0b10001, 0b10101, 0b10101, 0b11011, 0b10001],
        b'X' => [0b10001, 0b10001, 0b01010, 0b00100, 0b01010, 0b10001, 0b10001],
        b'Y' => [0b10001, 0b10001, 0b01010, 0b00100, 0b00100, 0b00100, 0b00100],
        b'Z' => [0b11111, 0b00001, 0b00010, 0b00100, 0b01000, 0b10000, 0b11111],
        _ => [0; HEIGHT],
    }
}
