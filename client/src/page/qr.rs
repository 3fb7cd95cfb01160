//! The ticket as a QR code: a picture for the page, half blocks for the terminal.

use qrcode::render::svg;
use qrcode::{Color, EcLevel, QrCode};

/// Modules of white around the code; readers want four (ISO/IEC 18004 §6.3.8).
const QUIET: usize = 4;

/// Draws `text` as a QR code for a terminal, two modules a character cell, lines ended by `\n`. Light modules are
/// the drawn ones, so on a dark terminal the code has its proper colours; readers take the inverse too. Empty when
/// `text` is longer than a QR code holds (2,953 bytes).
#[must_use]
pub fn terminal_qr(text: &str) -> String {
    let Some(code) = code(text) else { return String::new() };
    let width = code.width();
    let colors = code.to_colors();
    let light = |x: usize, y: usize| {
        let inside = (QUIET..QUIET + width).contains(&x) && (QUIET..QUIET + width).contains(&y);
        !inside || colors[(y - QUIET) * width + (x - QUIET)] == Color::Light
    };
    let side = width + 2 * QUIET;
    let mut drawing = String::new();
    for y in (0..side).step_by(2) {
        for x in 0..side {
            // The side is odd: the last row of cells has no lower half.
            drawing.push(match (light(x, y), y + 1 < side && light(x, y + 1)) {
                (true, true) => '█',
                (true, false) => '▀',
                (false, true) => '▄',
                (false, false) => ' ',
            });
        }
        drawing.push('\n');
    }
    drawing
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
        let drawing = terminal_qr("punchcast:abcdefgh");
        let lines: Vec<Vec<char>> = drawing.lines().map(|line| line.chars().collect()).collect();
        assert!(lines.iter().all(|line| line.len() == lines[0].len()));
        assert_eq!(lines.len(), lines[0].len().div_ceil(2));
        assert!(lines[0].iter().chain(&lines[1]).all(|&cell| cell == '█'), "quiet zone");
        // The finder pattern's first two rows: seven dark modules over one dark, five light, one dark.
        assert_eq!(lines[2][4..11].iter().collect::<String>(), " ▄▄▄▄▄ ");
    }

    #[test]
    fn a_text_too_long_for_a_code_is_not_drawn() {
        let long = "x".repeat(3000);
        assert_eq!(terminal_qr(&long), "");
        assert_eq!(svg(&long), None);
        assert!(svg("punchcast:x").unwrap().contains("<svg"));
    }
}
