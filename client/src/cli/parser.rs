//! The arguments one by one, with no option's value given twice: the first one would be dropped without a word.

use lexopt::{Arg, Error};
use std::ffi::OsString;

/// As [`lexopt::Parser`].
pub struct Parser {
    args: lexopt::Parser,
    /// The long option that was read last, until its value is.
    last: Option<String>,
    /// The options whose value was read.
    given: Vec<String>,
}

impl Parser {
    pub(crate) fn from_args<I>(args: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<OsString>,
    {
        Self { args: lexopt::Parser::from_args(args), last: None, given: Vec::new() }
    }

    /// The next option or value.
    pub(crate) fn next(&mut self) -> Result<Option<Arg<'_>>, Error> {
        let arg = self.args.next()?;
        self.last = match arg {
            Some(Arg::Long(name)) => Some(name.to_owned()),
            Some(Arg::Short(_) | Arg::Value(_)) | None => None,
        };
        Ok(arg)
    }

    /// The value of an option that is given once at most; its second one, if it takes two.
    pub(crate) fn value(&mut self) -> Result<OsString, Error> {
        if let Some(name) = self.last.take() {
            if self.given.contains(&name) {
                return Err(format!("--{name} is given twice: leave out one of the two").into());
            }
            self.given.push(name);
        }
        self.args.value()
    }

    /// The value of an option that may be given again and again.
    pub(crate) fn one_of_values(&mut self) -> Result<OsString, Error> {
        self.args.value()
    }
}
