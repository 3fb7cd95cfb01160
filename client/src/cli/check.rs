//! `punchcast check`.

use super::output::{Printer, print_line};
use super::{DONE, FAILED, Failure, Parser, args, server, view};
use crate::check::{Check, Config, Outcome};
use crate::portmap;
use lexopt::prelude::{Long, Short, Value};
use punchcast::driver::{self, Driver, Step};
use punchcast::id::OwnerToken;
use punchcast::ticket::Server;
use std::net::SocketAddr;

pub(super) const HELP: &str = "\
punchcast check: tells what NATs and firewalls stand before this machine, and what will work
through them.

  --server HOST[:PORT]  the daemon to check with (main port; default 4000); needed
  --assist PORT         the daemon's hole-assist port, if not 8000
  --json                one JSON object on standard output

It takes some three seconds, makes some ten connections to the daemon, asks the router whether it
would forward a port (UPnP-IGD, PCP, NAT-PMP), and changes nothing.
Exit code 0: the report could be made; 1: the daemon, or its assist port, could not be reached;
2: usage.";

const NO_SERVER: &str = "check needs a daemon to be seen from: punchcast check --server HOST. Any host outside this \
                         network will do that runs punchcastd, with TCP ports 4000 and 8000 open";

struct Options {
    server: Server,
    json: bool,
}

fn parse(parser: &mut Parser) -> Result<Options, Failure> {
    let (mut server, mut assist, mut json) = (None::<Server>, None, false);
    while let Some(arg) = parser.next()? {
        match arg {
            Long("server") => server = Some(args::server(parser.value()?)?),
            Long("assist") => assist = Some(args::port("assist", parser.value()?)?),
            Long("json") => json = true,
            other @ (Short(_) | Long(_) | Value(_)) => return Err(other.unexpected().into()),
        }
    }
    let server = server.ok_or_else(|| Failure::Usage(NO_SERVER.into()))?;
    Ok(Options { server: args::daemon(server, assist)?, json })
}

pub(super) fn run(parser: &mut Parser) -> Result<i32, Failure> {
    let options = parse(parser)?;
    let mut printer = Printer::new(options.json, false);
    let result = check(&options, &printer);
    printer.ended(result)
}

fn check(options: &Options, printer: &Printer) -> Result<i32, Failure> {
    let servers = server::resolve(&options.server).map_err(Failure::Failed)?;
    if servers.is_empty() {
        return Err(Failure::Failed(format!("the daemon's name {} has no address", options.server.host)));
    }
    let config = Config {
        servers,
        local_ips: view::own_addresses(Some(&options.server)),
        owner: OwnerToken(view::random_bytes()?),
        seed: super::random_u64()?,
    };
    let seed = super::random_u64()?;
    let asked = std::thread::Builder::new().name("portmap".into()).spawn(move || portmap::ask(seed));
    let mut asked = asked.ok();
    let failed = |error: std::io::Error| Failure::Failed(format!("the system gives no sockets: {error}"));
    let mut driver = Driver::new(Check::new(driver::now(), config)).map_err(failed)?;
    super::interrupt_on_signal(driver.handle())?;
    let mut code = FAILED;
    while let Step::Notice(outcome) = driver.run().map_err(failed)? {
        match outcome {
            Outcome::Report(mut report) => {
                if report.assist_trouble.is_none() {
                    code = DONE;
                }
                // A report of nothing does not wait for the router.
                let ready = asked.take().filter(|asked| code == DONE || asked.is_finished());
                report.port_mapping =
                    ready.and_then(|asked| asked.join().ok()).unwrap_or_else(portmap::not_asked);
                if printer.is_json() {
                    printer.show_json(report.to_json());
                } else {
                    print_line(&report.to_text());
                }
            }
            Outcome::Unreachable { server, why } => {
                return Err(Failure::Failed(unreachable_words(server, options.server.assist, &why)));
            }
        }
    }
    Ok(code)
}

/// That there is no daemon, and what to look at.
fn unreachable_words(server: SocketAddr, assist: u16, why: &str) -> String {
    let main = server.port();
    format!(
        "no daemon at {server}: {why}. Does punchcastd run there, and does every firewall between let TCP ports {main} \
         and {assist} through?"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_assist_port_in_the_main_ports_place_is_named_before_anything_is_dialled() {
        for args in [&["--server", "h:8000"][..], &["--server", "h", "--assist", "4000"]] {
            let Err(Failure::Usage(why)) = parse(&mut Parser::from_args(args)) else {
                panic!("{args:?} is taken")
            };
            assert!(why.contains("assist port"), "{why}");
        }
        let usual = unreachable_words(SocketAddr::from(([203, 0, 113, 6], 4000)), 8000, "timed out");
        assert!(
            usual.starts_with("no daemon at 203.0.113.6:4000: timed out. ")
                && usual.contains("4000 and 8000")
        );
    }
}
