//! The ticket as a QR code: a picture for the page, half blocks for the terminal.

use qrcode::render::svg;
use qrcode::{Color, EcLevel, QrCode};

/// Modules of white around the code; readers want four (ISO/IEC 18004 §6.3.8).
const QUIET: usize = 4;

/// Black on white, and back (ECMA-48 §8.3.117, with aixterm's bright white, as plain white is grey on many terminals).
const INK: [&str; 2] = ["\x1b[30;107m", "\x1b[0m"];

/// Draws `text` as a QR code for a terminal of so many columns, two modules a character cell, lines ended by `\n`. With
/// colours it is black on white, whatever the terminal's own are. Without, the light modules are drawn, so that the code
/// has its proper colours on a dark terminal; readers take the inverse too. Empty when `text` is longer than a QR code
/// holds (2,953 bytes).
///
/// # Errors
/// The columns that it needs, when there are fewer: lines that wrap are no code.
pub fn terminal_qr(text: &str, columns: usize, has_colours: bool) -> Result<String, usize> {
    let Some(code) = code(text) else { return Ok(String::new()) };
    let width = code.width();
    let side = width + 2 * QUIET;
    if side > columns {
        return Err(side);
    }
    let colors = code.to_colors();
    let light = |x: usize, y: usize| {
        let inside = (QUIET..QUIET + width).contains(&x) && (QUIET..QUIET + width).contains(&y);
        !inside || colors[(y - QUIET) * width + (x - QUIET)] == Color::Light
    };
    let drawn = |x: usize, y: usize| light(x, y) != has_colours;
    let [begin, end] = if has_colours { INK } else { [""; 2] };
    let mut drawing = String::new();
    for y in (0..side).step_by(2) {
        drawing.push_str(begin);
        for x in 0..side {
            // The side is odd: the last row of cells has no lower half.
            drawing.push(match (drawn(x, y), y + 1 < side && drawn(x, y + 1)) {
                (true, true) => '█',
                (true, false) => '▀',
                (false, true) => '▄',
                (false, false) => ' ',
            });
        }
        drawing.push_str(end);
        drawing.push('\n');
    }
    Ok(drawing)
}

/// Draws `text` as an SVG document; `None` when it is longer than a QR code holds.
pub(super) fn svg(text: &str) -> Option<String> {
    Some(code(text)?.render::<svg::Color<'_>>().module_dimensions(1, 1).build())
}

/// Level L: the code is shown on a screen, where nothing wears it, and fewer modules are read from further away.
fn code(text: &str) -> Option<QrCode> {
    QrCode::with_error_correction_level(text, EcLevel::L).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_terminals_code_has_its_finder_patterns_in_a_quiet_zone() {
        let drawing = terminal_qr("punchcast:abcdefgh", 80, false).expect("it fits");
        let lines: Vec<Vec<char>> = drawing.lines().map(|line| line.chars().collect()).collect();
        assert!(lines.iter().all(|line| line.len() == lines[0].len()));
        assert_eq!(lines.len(), lines[0].len().div_ceil(2));
        assert!(lines[0].iter().chain(&lines[1]).all(|&cell| cell == '█'), "quiet zone");
        // The finder pattern's first two rows: seven dark modules over one dark, five light, one dark.
        assert_eq!(lines[2][4..11].iter().collect::<String>(), " ▄▄▄▄▄ ");
    }

    #[test]
    fn with_colours_the_same_modules_are_black_on_white() {
        let plain = terminal_qr("punchcast:abcdefgh", 80, false).expect("it fits");
        let coloured = terminal_qr("punchcast:abcdefgh", 80, true).expect("it fits");
        let inverse = |cell| match cell {
            '█' => ' ',
            '▀' => '▄',
            '▄' => '▀',
            ' ' => '█',
            other => other,
        };
        // But for the last row, whose lower half is nobody's.
        let rows = plain.lines().count() - 1;
        for (line, plain) in coloured.lines().zip(plain.lines()).take(rows) {
            let cells = line.strip_prefix(INK[0]).and_then(|line| line.strip_suffix(INK[1]));
            assert_eq!(cells, Some(&plain.chars().map(inverse).collect::<String>()[..]));
        }
    }

    #[test]
    fn a_terminal_that_is_too_narrow_gets_none() {
        let side = terminal_qr("punchcast:abcdefgh", 20, true).expect_err("too narrow");
        assert!(terminal_qr("punchcast:abcdefgh", side, true).is_ok());
        assert_eq!(terminal_qr("punchcast:abcdefgh", side - 1, false), Err(side));
    }

    #[test]
    fn a_text_too_long_for_a_code_is_not_drawn() {
        let long = "x".repeat(3000);
        assert_eq!(terminal_qr(&long, 80, true), Ok(String::new()));
        assert_eq!(svg(&long), None);
        assert!(svg("punchcast:x").unwrap().contains("<svg"));
    }
}
