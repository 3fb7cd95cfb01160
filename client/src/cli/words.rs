//! A command line in words, without a shell: `--player 'mpv --title="the cast" -'`.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Splits `text` at blanks. Quotes of either kind keep blanks together; a backslash takes the next character as it is,
/// except between single quotes. Nothing is expanded. `None` if a quote is not closed or a backslash ends it.
pub(super) fn split(text: &str) -> Option<Vec<String>> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None::<char>);
    let mut rest = text.chars();
    while let Some(char) = rest.next() {
        match (char, quote) {
            (_, Some(open)) if char == open => quote = None,
            ('\'' | '"', None) => {
                quote = Some(char);
                word.get_or_insert_default();
            }
            ('\\', None | Some('"')) => word.get_or_insert_default().push(rest.next()?),
            (_, None) if char.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(char),
        }
    }
    if quote.is_some() {
        return None;
    }
    words.extend(word);
    Some(words)
}

/// Whether a shell would find a program of this name.
pub(super) fn is_program(name: &str) -> bool {
    let is_executable = |path: &Path| {
        path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    if name.contains('/') {
        return is_executable(Path::new(name));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    !name.is_empty() && std::env::split_paths(&path).any(|dir| is_executable(&dir.join(name)))
}

#[cfg(test)]
mod tests {
    use super::{is_program, split};

    #[test]
    fn programs_are_found_as_a_shell_finds_them() {
        let cases = [
            ("sh", true),
            ("/bin/sh", true),
            ("no-such-player", false),
            ("/bin", false),
            ("/etc/passwd", false),
            ("./sh", false),
            ("", false),
        ];
        for (name, found) in cases {
            assert_eq!(is_program(name), found, "{name}");
        }
    }

    #[test]
    fn a_command_line_comes_apart_as_a_user_means_it() {
        let cases: [(&str, &[&str]); 6] = [
            ("mpv -", &["mpv", "-"]),
            ("  ffplay\t-i  - ", &["ffplay", "-i", "-"]),
            ("mpv '--title=the cast' -", &["mpv", "--title=the cast", "-"]),
            (r#"x "a 'b' \" c" '' \ "#, &["x", "a 'b' \" c", "", " "]),
            ("$HOME *;ls", &["$HOME", "*;ls"]),
            ("", &[]),
        ];
        for (text, words) in cases {
            assert_eq!(split(text).expect(text), words, "{text}");
        }
        for text in ["mpv 'open", "mpv \"open", "mpv \\"] {
            assert_eq!(split(text), None, "{text}");
        }
    }
}
