//! The command line: arguments in, exit code out.

mod args;
mod calm;
mod cast;
mod check;
mod mapping;
mod output;
mod picture;
mod plain;
mod server;
mod sinks;
mod terminal;
mod view;
mod whom;
mod words;

pub use output::{fail, tell};

use lexopt::prelude::{Long, Short, Value};
use std::fmt;

/// Done.
pub const DONE: i32 = 0;
/// No link could be made, or it was lost for good.
pub const NO_LINK: i32 = 1;
/// The command line makes no sense.
pub const USAGE: i32 = 2;

const HELP: &str = "\
punchcast puts this machine's screen on another over a direct TCP connection.

  punchcast view [options]            show a ticket, receive the picture
  punchcast cast TICKET… [options]    find the viewer of a ticket, or of a short code, send the picture
  punchcast check --server HOST       what NATs stand in the way, and what will work through them
  punchcast demo [options]            daemon, viewer and caster here, through simulated NATs

  -h, --help       of any of them; -V, --version

Results go to standard output, talk to standard error. Exit code 0: done; 1: no link could be
made, or it was lost for good; 2: usage. RUST_LOG=debug tells more.";

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

/// Runs the command that the process was started with.
///
/// # Errors
///
/// See [`Failure`]; beside it stands the command that tells the options.
pub fn run() -> Result<i32, (Failure, &'static str)> {
    let mut parser = lexopt::Parser::from_env();
    let mut help = "punchcast --help";
    command(&mut parser, &mut help).map_err(|failure| (failure, help))
}

/// Runs a command, and names in `help` the one that tells its options.
fn command(parser: &mut lexopt::Parser, help: &mut &'static str) -> Result<i32, Failure> {
    match parser.next()? {
        Some(Value(command)) => match command.to_str() {
            Some("view") => {
                *help = "punchcast view --help";
                view::run(parser)
            }
            Some("cast") => {
                *help = "punchcast cast --help";
                cast::run(parser)
            }
            Some("check") => {
                *help = "punchcast check --help";
                check::run(parser)
            }
            Some("demo") => {
                *help = "punchcast demo --help";
                demo(parser)
            }
            _ => Err(Failure::Usage(format!(
                "there is no command {:?}; there are view, cast, check and demo",
                command.to_string_lossy()
            ))),
        },
        Some(Short('V') | Long("version")) => {
            output::print_line(concat!("punchcast ", env!("CARGO_PKG_VERSION")));
            Ok(DONE)
        }
        Some(Short('h') | Long("help")) | None => {
            output::print_line(HELP);
            Ok(DONE)
        }
        Some(other) => Err(other.unexpected().into()),
    }
}

fn demo(parser: &mut lexopt::Parser) -> Result<i32, Failure> {
    let Some(options) = crate::demo::Options::parse(parser)? else {
        output::print_line(crate::demo::HELP);
        return Ok(DONE);
    };
    crate::demo::run(options).map_err(Failure::Failed)
}

fn random_u64() -> Result<u64, Failure> {
    getrandom::u64().map_err(|error| Failure::Failed(format!("the system gives no randomness: {error}")))
}

/// SIGINT and SIGTERM end the application in order; a second one ends the process.
fn interrupt_on_signal<M: Send + 'static>(handle: punchcast::driver::Handle<M>) -> Result<(), Failure> {
    let asked = std::sync::atomic::AtomicBool::new(false);
    ctrlc::set_handler(move || {
        if asked.swap(true, std::sync::atomic::Ordering::Relaxed) || !handle.interrupt() {
            std::process::exit(NO_LINK);
        }
    })
    .map_err(|error| Failure::Failed(format!("cannot watch for Ctrl-C: {error}")))
}
