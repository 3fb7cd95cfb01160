//! `punchcastd`: the daemon on real sockets.

use punchcast::driver::{Driver, Step};
use punchcast::rendezvous::limits::Limits;
use punchcastd::cli::{self, Command};
use punchcastd::{Config, Daemon, Notice};
use std::error::Error;
use std::io::Write;
use std::process::ExitCode;

/// The command line makes no sense.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let config = match cli::parse(std::env::args_os().skip(1)) {
        Ok(Command::Serve(config)) => config,
        Ok(Command::Help) => return print(cli::HELP),
        Ok(Command::Version) => return print(concat!("punchcastd ", env!("CARGO_PKG_VERSION"), "\n")),
        Err(error) => {
            eprintln!("punchcastd: {error}\nTry 'punchcastd --help'.");
            return ExitCode::from(USAGE);
        }
    };
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info")).init();
    match run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("punchcastd: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(mut config: Config) -> Result<(), Box<dyn Error>> {
    fit_descriptors(&mut config.limits);
    let mut driver = Driver::new(Daemon::new(config, getrandom::u64()?))?;
    let handle = driver.handle();
    ctrlc::set_handler(move || {
        handle.interrupt();
    })?;
    let mut outcome = Ok(());
    loop {
        match driver.run()? {
            Step::Notice(Notice::Ready { main, assist, alternate }) => {
                let alternate = alternate.map(|addr| format!(" alternate={addr}")).unwrap_or_default();
                log::info!("listening: main={main} assist={assist}{alternate}");
                print(&format!("ready main={main} assist={assist}{alternate}\n"));
            }
            Step::Notice(Notice::CannotListen(failure)) => outcome = Err(failure.into()),
            Step::Exit => return outcome,
        }
    }
}

/// Prints on stdout at once. Nobody reading there is no reason to fail: it is a courtesy to scripts.
fn print(text: &str) -> ExitCode {
    let mut stdout = std::io::stdout().lock();
    if let Err(error) = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        log::debug!("stdout is gone: {error}");
    }
    ExitCode::SUCCESS
}

/// Keeps the number of connections below the number of descriptors, so that the daemon says "full" to a client rather
/// than leave it in the accept queue.
fn fit_descriptors(limits: &mut Limits) {
    let Some(files) = open_files_allowed() else { return };
    // The rest is for the listeners, the poll, the streams and connections that are being flushed.
    let affordable = files / 100 * 95;
    if affordable < limits.connections {
        log::info!("at most {affordable} connections: {files} open files are allowed");
        limits.connections = affordable;
    }
}

/// The soft limit of open files, where the system tells it in a file.
fn open_files_allowed() -> Option<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}
