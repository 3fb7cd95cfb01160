//! The command line: arguments in, exit code out.

mod args;
mod calm;
mod cast;
mod check;
mod mapping;
mod output;
mod parser;
mod picture;
mod plain;
mod server;
mod sinks;
mod terminal;
mod view;
mod whom;
mod words;

pub use output::{fail, tell};
pub use parser::Parser;

use lexopt::prelude::Value;
use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt;

/// Done.
pub const DONE: i32 = 0;
/// What was asked for could not be done: no link, or it was lost for good; a port, a file or a name that cannot be had.
pub const FAILED: i32 = 1;
/// The command line makes no sense.
pub const USAGE: i32 = 2;

const HELP: &str = "\
punchcast puts this machine's screen on another over a direct TCP connection.

  punchcast view [options]            show a ticket, receive the picture
  punchcast cast TICKET… [options]    find the viewer of a ticket, or of a short code, send the picture
  punchcast check --server HOST       what NATs stand in the way, and what will work through them
  punchcast demo [options]            daemon, viewer and caster here, through simulated NATs

  -h, --help       the options of a command, or this
  -V, --version

Results go to standard output, talk to standard error; RUST_LOG=debug tells more. Exit code 0: done.
1: it failed, and why was said: no link could be made, or it was lost for good; a code is wrong, or
nobody's; a port, file, name, display or player could not be had, or a file takes no more; the daemon
of `check` could not be reached. 2: the command line makes no sense, or a ticket or code is none.";

const VERSION: &str = concat!("punchcast ", env!("CARGO_PKG_VERSION"));

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub enum Failure {
    /// The command line makes no sense.
    Usage(String),
    /// It makes sense, and failed.
    Failed(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(why) | Self::Failed(why) => f.write_str(why),
        }
    }
}

impl From<lexopt::Error> for Failure {
    fn from(error: lexopt::Error) -> Self {
        Self::Usage(error.to_string())
    }
}

/// What the program can be asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    View,
    Cast,
    Check,
    Demo,
}

impl Command {
    fn named(name: &OsStr) -> Option<Self> {
        match name.to_str()? {
            "view" => Some(Self::View),
            "cast" => Some(Self::Cast),
            "check" => Some(Self::Check),
            "demo" => Some(Self::Demo),
            _ => None,
        }
    }

    const fn help(self) -> &'static str {
        match self {
            Self::View => view::HELP,
            Self::Cast => cast::HELP,
            Self::Check => check::HELP,
            Self::Demo => crate::demo::HELP,
        }
    }

    /// The command line that tells its options.
    const fn pointer(self) -> &'static str {
        match self {
            Self::View => "punchcast view --help",
            Self::Cast => "punchcast cast --help",
            Self::Check => "punchcast check --help",
            Self::Demo => "punchcast demo --help",
        }
    }

    fn run(self, parser: &mut Parser) -> Result<i32, Failure> {
        match self {
            Self::View => view::run(parser),
            Self::Cast => cast::run(parser),
            Self::Check => check::run(parser),
            Self::Demo => crate::demo::run(crate::demo::Options::parse(parser)?).map_err(Failure::Failed),
        }
    }
}

/// Runs the command that the process was started with.
///
/// # Errors
///
/// See [`Failure`]; beside it stands the command that tells the options.
pub fn run() -> Result<i32, (Failure, &'static str)> {
    let args: Vec<OsString> = env::args_os().skip(1).collect();
    if let Some(text) = told_instead(&args) {
        output::print_line(text);
        return Ok(DONE);
    }
    let mut help = "punchcast --help";
    command(&mut Parser::from_args(args), &mut help).map_err(|failure| (failure, help))
}

/// The help or the version, if one is asked for: wherever that stands in the line, and whatever else is wrong with it.
fn told_instead(args: &[OsString]) -> Option<&'static str> {
    if args.is_empty() {
        return Some(HELP);
    }
    args.iter().take_while(|arg| *arg != "--").find_map(|arg| match arg.to_str()? {
        "-h" | "--help" => Some(args.iter().find_map(|arg| Command::named(arg)).map_or(HELP, Command::help)),
        "-V" | "--version" => Some(VERSION),
        _ => None,
    })
}

/// Runs a command, and names in `help` the one that tells its options.
fn command(parser: &mut Parser, help: &mut &'static str) -> Result<i32, Failure> {
    match parser.next()? {
        Some(Value(name)) => {
            let command = Command::named(&name).ok_or_else(|| {
                let name = name.to_string_lossy();
                Failure::Usage(format!("there is no command {name:?}; there are view, cast, check and demo"))
            })?;
            *help = command.pointer();
            command.run(parser)
        }
        Some(other) => Err(other.unexpected().into()),
        None => Err(Failure::Usage("which command? There are view, cast, check and demo".into())),
    }
}

fn random_u64() -> Result<u64, Failure> {
    getrandom::u64().map_err(|error| Failure::Failed(format!("the system gives no randomness: {error}")))
}

/// SIGINT and SIGTERM end the application in order; a second one ends the process.
fn interrupt_on_signal<M: Send + 'static>(handle: punchcast::driver::Handle<M>) -> Result<(), Failure> {
    let asked = std::sync::atomic::AtomicBool::new(false);
    ctrlc::set_handler(move || {
        if asked.swap(true, std::sync::atomic::Ordering::Relaxed) || !handle.interrupt() {
            std::process::exit(FAILED);
        }
    })
    .map_err(|error| Failure::Failed(format!("cannot watch for Ctrl-C: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_and_version_are_told_wherever_they_stand_in_the_line() {
        let told = |line: &str| {
            let args: Vec<OsString> = line.split_whitespace().map(Into::into).collect();
            told_instead(&args)
        };
        for (line, text) in [
            ("", Some(HELP)),
            ("--help", Some(HELP)),
            ("-h cast", Some(cast::HELP)),
            ("cast x --bogus --help", Some(cast::HELP)),
            ("view --json -h", Some(view::HELP)),
            ("check --help", Some(check::HELP)),
            ("demo -h --version", Some(crate::demo::HELP)),
            ("cast x --version", Some(VERSION)),
            ("view --record a.mp4 -V", Some(VERSION)),
            ("cast -- --help", None),
            ("cast x --source -", None),
            ("view --helpful", None),
        ] {
            assert_eq!(told(line), text, "{line}");
        }
    }

    #[test]
    fn no_value_is_dropped_without_a_word() {
        for (line, option) in [
            ("view --server a --json --server b", Some("--server")),
            ("view --page none --page 80", Some("--page")),
            ("view --record=a.flv --record=b.flv", Some("--record")),
            ("cast --fps 30 --fps 60", Some("--fps")),
            ("cast --window a --window b", Some("--window")),
            ("cast --port-mapping pcp --port-mapping upnp", Some("--port-mapping")),
            ("check --assist 1 --assist 1", Some("--assist")),
            ("demo --seconds 1 --seconds 2", Some("--seconds")),
            // What is wrong with these is told first.
            ("view --flv a.flv --flv b.flv --player a --player b --bogus", None),
            ("view --json --json --once --once --bogus", None),
        ] {
            let told = command(&mut Parser::from_args(line.split(' ')), &mut "").expect_err(line).to_string();
            let wanted = option.map(|option| format!("{option} is given twice: leave out one of the two"));
            assert_eq!(told, wanted.unwrap_or_else(|| "invalid option '--bogus'".into()), "{line}");
        }
    }
}
