//! The short code: a number and two words, `427-tiger-lamp`, that a person can say and type, and that gets a caster the
//! whole ticket.
//!
//! The number, a *nameplate*, is given by the daemon and says whose code it is. The words are the viewer's own and never
//! leave it: [`exchange`] makes a common key of them on both sides, through a daemon that learns nothing of it. Who asks
//! whom, and how often, is the rendezvous' affair ([`agent`](crate::rendezvous::agent)).

pub mod exchange;
mod words;

pub use words::COUNT as WORD_COUNT;

use crate::ticket::{MAIN_PORT, Server, ServerError};
use exchange::Randomness;
use rand_core::RngCore;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The longest text that is looked at: a code with the longest name of a server has under 300 characters.
const MAX_TEXT: usize = 400;

/// The highest number that a daemon may give. Six digits can still be said.
pub const MAX_NUMBER: u32 = 999_999;

/// One side's public value in an [`exchange`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Element(pub [u8; 32]);

/// The caster's proof that it knows the words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof(pub [u8; 32]);

/// What all randomness of one program's codes is made of: 32 bytes of the system's, used for nothing else.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Seed(pub [u8; 32]);

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed(…)")
    }
}

/// A short code. Its text is the one way to write it: `427-tiger-lamp`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Code {
    number: u32,
    words: [&'static str; 2],
}

impl Code {
    /// Fresh words for a number of the daemon's; `None` if that is no number of a code.
    #[must_use]
    pub fn draw(number: u32, random: &mut Randomness) -> Option<Self> {
        // The count of words divides that of the numbers that are drawn from, so all are equally likely.
        let mut word = || words::at((random.next_u32() >> 16) as u16);
        let words = [word(), word()];
        (1..=MAX_NUMBER).contains(&number).then_some(Self { number, words })
    }

    /// The nameplate.
    #[must_use]
    pub const fn number(&self) -> u32 {
        self.number
    }

    /// The code with its daemon, as it can be copied: `427-tiger-lamp@HOST`, and the port only where it is not the usual one.
    #[must_use]
    pub fn at(&self, server: &Server) -> String {
        match server.main {
            MAIN_PORT => format!("{self}@{}", server.host),
            _ => format!("{self}@{server}"),
        }
    }

    /// Reads a code with or without its daemon.
    ///
    /// # Errors
    ///
    /// See [`CodeError`].
    pub fn parse(text: &str) -> Result<(Self, Option<Server>), CodeError> {
        if text.len() > MAX_TEXT {
            return Err(CodeError::NotACode);
        }
        match text.split_once('@') {
            Some((code, server)) => {
                let server = server.trim().trim_matches(AROUND).parse().map_err(CodeError::Server)?;
                Ok((code.parse()?, Some(server)))
            }
            None => Ok((text.parse()?, None)),
        }
    }

    /// Whether `text` begins as codes do, and no ticket does: with a number.
    #[must_use]
    pub fn looks_like_one(text: &str) -> bool {
        text.trim_start_matches(|c: char| c.is_whitespace() || AROUND.contains(&c))
            .starts_with(|c: char| c.is_ascii_digit())
    }
}

/// What pasting may put around a code.
const AROUND: [char; 8] = ['"', '\'', '`', '“', '”', '‘', '’', '.'];

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, second] = self.words;
        write!(f, "{}-{first}-{second}", self.number)
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Code({}-…)", self.number)
    }
}

impl FromStr for Code {
    type Err = CodeError;

    /// Reads a code in capitals or small letters, with blanks, hyphens or whatever else is neither letter nor digit between.
    fn from_str(text: &str) -> Result<Self, CodeError> {
        if text.len() > MAX_TEXT {
            return Err(CodeError::NotACode);
        }
        let text = text.to_lowercase();
        let mut parts = text.split(|c: char| !c.is_alphanumeric()).filter(|part| !part.is_empty());
        let number = parts.next().ok_or(CodeError::NotACode)?;
        if !number.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(CodeError::NotACode);
        }
        let number = number.parse().ok().filter(|number| (1..=MAX_NUMBER).contains(number));
        let number = number.ok_or(CodeError::Number)?;
        let spoken: Vec<&str> = parts.collect();
        let [first, second] = spoken[..] else { return Err(CodeError::Words(spoken.len())) };
        let word = |word: &str| {
            words::find(word)
                .ok_or_else(|| CodeError::Unknown { word: word.to_owned(), meant: words::nearest(word) })
        };
        Ok(Self { number, words: [word(first)?, word(second)?] })
    }
}

/// Why a text is no code.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CodeError {
    /// It does not begin with a number.
    NotACode,
    /// A number that no code has.
    Number,
    /// So many words, where two belong.
    Words(usize),
    /// A word that no code has.
    Unknown {
        /// As it was written.
        word: String,
        /// What may have been meant.
        meant: Option<&'static str>,
    },
    /// What follows the `@` is no server.
    Server(ServerError),
}

impl fmt::Display for CodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotACode => {
                f.write_str("this is not a code: a code is a number and two words, as in 427-tiger-lamp")
            }
            Self::Number => write!(f, "the code's number is not one from 1 to {MAX_NUMBER}"),
            Self::Words(count) => {
                write!(f, "a code has two words after its number, as in 427-tiger-lamp; this one has {count}")
            }
            Self::Unknown { word, meant: Some(meant) } => {
                write!(f, "no code has the word {word:?}; was it {meant:?}?")
            }
            Self::Unknown { word, meant: None } => {
                write!(f, "no code has the word {word:?}: look, or listen, again")
            }
            Self::Server(error) => write!(f, "the code's server, after the @, is wrong: {error}"),
        }
    }
}

impl std::error::Error for CodeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Server(error) => Some(error),
            Self::NotACode | Self::Number | Self::Words(_) | Self::Unknown { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<String, CodeError> {
        text.parse().map(|code: Code| code.to_string())
    }

    #[test]
    fn a_code_is_read_however_it_is_typed() {
        for text in [
            "427-tiger-lamp",
            "427 tiger lamp",
            " 427-Tiger-LAMP\n",
            "427 - tiger - lamp",
            "427\u{2013}tiger\u{2010}lamp",
            "'427-tiger-lamp'",
            "0427_tiger.lamp",
            "427,tiger,lamp.",
        ] {
            assert_eq!(read(text).as_deref(), Ok("427-tiger-lamp"), "{text:?}");
            assert!(Code::looks_like_one(text), "{text:?}");
        }
        assert!(!Code::looks_like_one("punchcast://h/1") && !Code::looks_like_one(""));
    }

    #[test]
    fn a_mistyped_code_says_what_is_wrong_with_it() {
        let unknown = |word: &str, meant| CodeError::Unknown { word: word.into(), meant };
        for (text, error) in [
            ("", CodeError::NotACode),
            ("tiger-lamp", CodeError::NotACode),
            ("4two7-tiger-lamp", CodeError::NotACode),
            ("0-tiger-lamp", CodeError::Number),
            ("1000000-tiger-lamp", CodeError::Number),
            ("99999999999999999999-tiger-lamp", CodeError::Number),
            ("427", CodeError::Words(0)),
            ("427-tiger", CodeError::Words(1)),
            ("427-tiger-lamp-lion", CodeError::Words(3)),
            ("427-tigre-lamp", unknown("tigre", Some("tiger"))),
            ("427-tiger-xylophone", unknown("xylophone", None)),
            ("427-тигр-lamp", unknown("тигр", None)),
        ] {
            assert_eq!(read(text), Err(error), "{text:?}");
        }
        assert_eq!(read(&"9".repeat(MAX_TEXT + 1)), Err(CodeError::NotACode));
        assert!(read("427-tigre-lamp").unwrap_err().to_string().contains("was it \"tiger\"?"));
    }

    #[test]
    fn a_code_names_its_daemon_and_the_port_only_where_it_must() {
        let code: Code = "427-tiger-lamp".parse().unwrap();
        for (server, text) in [
            ("daemon.example", "427-tiger-lamp@daemon.example"),
            ("daemon.example:4000", "427-tiger-lamp@daemon.example"),
            ("[2001:db8::1]:4001", "427-tiger-lamp@[2001:db8::1]:4001"),
        ] {
            let server: Server = server.parse().unwrap();
            assert_eq!(code.at(&server), text);
            assert_eq!(Code::parse(text), Ok((code, Some(server))));
        }
        assert_eq!(Code::parse("427 tiger lamp"), Ok((code, None)));
        assert_eq!(
            Code::parse("427 tiger lamp @ Daemon.Example").unwrap().1.unwrap().host.to_string(),
            "daemon.example"
        );
        assert_eq!(Code::parse("427-tiger-lamp@"), Err(CodeError::Server(ServerError::Host)));
    }

    #[test]
    fn words_are_drawn_from_all_of_the_list_and_do_not_print_themselves() {
        let mut random = Randomness::new(Seed([7; 32]));
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..10_000 {
            let code = Code::draw(5, &mut random).unwrap();
            seen.extend(code.words);
            assert_eq!(code.to_string().parse::<Code>(), Ok(code));
        }
        assert_eq!(seen.len(), WORD_COUNT);
        assert_eq!(Code::draw(0, &mut random), None);
        let code: Code = "427-tiger-lamp".parse().unwrap();
        assert!(!format!("{code:?}").contains("tiger"));
    }
}
