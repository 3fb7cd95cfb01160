//! Words of others, made fit to be shown: on a terminal, control characters would be commands.

/// How many characters of somebody's words are kept: a status or a title, not a page.
const MAX_CHARS: usize = 200;

/// Somebody's words as a line: without control characters, and no longer than is read.
#[must_use]
pub fn one_line(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(MAX_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_line_is_a_terminals_command() {
        assert_eq!(one_line("Notes\n \u{1b}]0;x\u{7}– \u{9b}2Jé"), "Notes ]0;x– 2Jé");
        assert_eq!(one_line(&"é".repeat(300)).chars().count(), 200);
    }
}
