//! The command line of `punchcastd`.

use crate::app::Config;
use lexopt::prelude::*;
use punchcast::rendezvous::limits::{Limits, MEGABYTE};
use std::ffi::OsString;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// What `--help` prints.
pub const HELP: &str = "\
punchcastd introduces Punchcast casters to viewers. No picture passes through it,
unless --relay is on, and then encrypted from end to end.

Usage: punchcastd [OPTIONS]

Options:
  --main ADDR[:PORT]      where clients log in            [default: [::]:4000]
  --assist ADDR[:PORT]    where their mappings are seen   [default: [::]:8000]
  --alternate ADDR[:PORT] a second address of this host, on which mappings are
                          seen, too: clients learn more of their NATs  [port: 8000]
  --relay on|off          pass on the encrypted links of those who cannot be connected
                          directly, within the relay limits         [default: off]
  --limit NAME=N          change a limit (repeatable); see below
  --help                  print this and end
  --version               print the version and end

[::] takes IPv4 and IPv6, or IPv4 alone where there is no IPv6. Port 0 takes a free port.
When the listeners are up, one line on stdout says so: ready main=ADDR assist=ADDR [alternate=ADDR]
RUST_LOG sets what is logged on stderr (default: info; addresses of clients appear at debug).

Limits, with their defaults:
  connections=100000               in all; never more than 95% of the open files allowed
  logins=50000                     in all
  connections-per-address=256      an IPv6 address counts as its /64
  accepts-per-address=128          within 3.2 s
  introductions-per-address=10     within 1 s, by casters there
  introductions-per-victim=3       within 10 s, to viewers there
  requests-per-caster=5            within 1 s
  casters=16                       in one rendezvous
With --relay on:
  relays=64                        at one time
  relays-per-address=4             at one time, at either end
  relay-megabytes=2048             in one relay, both directions together
  relay-minutes=60                 of one relay
  relay-kilobytes-per-second=2500  in each direction of one relay
  relay-megabytes-per-hour=4096    for one address, all its relays together

Exit status: 0 ended by SIGINT or SIGTERM, 1 could not listen, 2 usage.
";

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "made once, and taken apart at once")]
pub enum Command {
    /// Print [`HELP`].
    Help,
    /// Print the version.
    Version,
    /// Run.
    Serve(Config),
}

/// A command line that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageError(String);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

impl From<lexopt::Error> for UsageError {
    fn from(error: lexopt::Error) -> Self {
        Self(error.to_string())
    }
}

/// Reads the arguments, without the program's name.
///
/// # Errors
///
/// Names the option or value that is not understood.
pub fn parse<I>(args: I) -> Result<Command, UsageError>
where
    I: IntoIterator,
    I::Item: Into<OsString>,
{
    let mut parser = lexopt::Parser::from_args(args);
    let mut config = Config::default();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("main") => config.main = addr("--main", &parser.value()?.string()?, Config::MAIN_PORT)?,
            Long("assist") => {
                config.assist = addr("--assist", &parser.value()?.string()?, Config::ASSIST_PORT)?;
            }
            Long("alternate") => {
                let text = parser.value()?.string()?;
                let alternate = addr("--alternate", &text, Config::ASSIST_PORT)?;
                if alternate.ip().is_unspecified() {
                    let why = "is every address; name one that differs from the one that clients use";
                    return Err(UsageError(format!("--alternate: '{text}' {why}")));
                }
                config.alternate = Some(alternate);
            }
            Long("relay") => config.relay = switch("--relay", &parser.value()?.string()?)?,
            Long("limit") => limit(&mut config.limits, &parser.value()?.string()?)?,
            Long("help") | Short('h') => return Ok(Command::Help),
            Long("version") | Short('V') => return Ok(Command::Version),
            Long(_) | Short(_) | Value(_) => return Err(arg.unexpected().into()),
        }
    }
    own_ports(&config)?;
    Ok(Command::Serve(config))
}

/// Whether each listener has a port of its own: nobody else's program is there to be ended.
fn own_ports(config: &Config) -> Result<(), UsageError> {
    let (main, assist) = (("--main", config.main), ("--assist", config.assist));
    let pairs = config.alternate.map(|addr| ("--alternate", addr)).map(|last| [(last, main), (last, assist)]);
    for ((option, addr), (other, its)) in [(assist, main)].into_iter().chain(pairs.into_iter().flatten()) {
        if collide(addr, its) {
            return Err(UsageError(format!("{option}: {addr} must be another port than {other}'s, {its}")));
        }
    }
    Ok(())
}

/// Whether a host can listen at one of these only.
fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let (ip, its) = (one.ip(), other.ip());
    let takes_all = |ip: IpAddr, other: IpAddr| ip.is_unspecified() && (ip.is_ipv6() || other.is_ipv4());
    one.port() == other.port() && one.port() != 0 && (ip == its || takes_all(ip, its) || takes_all(its, ip))
}

fn switch(option: &str, text: &str) -> Result<bool, UsageError> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(UsageError(format!("{option}: '{text}' is neither on nor off"))),
    }
}

/// `ADDR:PORT`, or `ADDR` with the scheme's port.
fn addr(option: &str, text: &str, port: u16) -> Result<SocketAddr, UsageError> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    text.parse().or_else(|_| bare.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, port))).map_err(|_| {
        UsageError(format!("{option}: '{text}' is not an address such as 0.0.0.0:{port} or [::]:{port}"))
    })
}

fn limit(limits: &mut Limits, text: &str) -> Result<(), UsageError> {
    let (name, number) = text
        .split_once('=')
        .ok_or_else(|| UsageError(format!("--limit: '{text}' is not of the form NAME=N")))?;
    let number: u32 = match number.parse() {
        Ok(number @ 1..) => number,
        _ => return Err(UsageError(format!("--limit: '{number}' is not a number above 0"))),
    };
    match name {
        "connections" => limits.connections = number as usize,
        "logins" => limits.logins = number as usize,
        "connections-per-address" => limits.connections_per_address = number,
        "accepts-per-address" => {
            limits.accepts_per_address = limits.accepts_per_address.with_burst(number);
        }
        "introductions-per-address" => {
            limits.introductions_per_address = limits.introductions_per_address.with_burst(number);
        }
        "introductions-per-victim" => {
            limits.introductions_per_victim = limits.introductions_per_victim.with_burst(number);
        }
        "requests-per-caster" => {
            limits.requests_per_caster = limits.requests_per_caster.with_burst(number);
        }
        "casters" => limits.casters = number as usize,
        "relays" => limits.relays = number as usize,
        "relays-per-address" => limits.relays_per_address = number,
        "relay-megabytes" => limits.relay_bytes = u64::from(number) * MEGABYTE,
        "relay-minutes" => limits.relay_time = Duration::from_secs(u64::from(number) * 60),
        "relay-kilobytes-per-second" => {
            let millis = u64::try_from(limits.relay_pace.within.as_millis()).unwrap_or(u64::MAX);
            limits.relay_pace.bytes = u64::from(number) * millis;
        }
        "relay-megabytes-per-hour" => limits.relay_allowance.bytes = u64::from(number) * MEGABYTE,
        _ => return Err(UsageError(format!("--limit: there is no limit '{name}'"))),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serve(args: &[&str]) -> Config {
        match parse(args) {
            Ok(Command::Serve(config)) => config,
            other => panic!("{other:?}"),
        }
    }

    fn refusal(args: &[&str]) -> String {
        parse(args).expect_err("it makes no sense").to_string()
    }

    #[test]
    fn without_arguments_both_ports_are_open_to_both_families() {
        let config = serve(&[]);
        assert_eq!(config.main, "[::]:4000".parse().unwrap());
        assert_eq!(config.assist, "[::]:8000".parse().unwrap());
        assert_eq!(config.limits, Limits::default());
    }

    #[test]
    fn addresses_may_leave_out_the_port() {
        let config = serve(&["--main", "127.0.0.1", "--assist=[::1]"]);
        assert_eq!(config.main, "127.0.0.1:4000".parse().unwrap());
        assert_eq!(config.assist, "[::1]:8000".parse().unwrap());
        assert_eq!(serve(&["--main", "[::1]:0"]).main, "[::1]:0".parse().unwrap());
        assert_eq!(serve(&["--main", "::1"]).main, "[::1]:4000".parse().unwrap());
    }

    #[test]
    fn an_alternate_is_one_address() {
        assert_eq!(serve(&[]).alternate, None);
        let config = serve(&["--assist", "192.0.2.1", "--alternate", "192.0.2.2"]);
        assert_eq!(config.alternate, Some("192.0.2.2:8000".parse().unwrap()));
        assert_eq!(
            serve(&["--alternate=[2001:db8::2]:9"]).alternate,
            Some("[2001:db8::2]:9".parse().unwrap())
        );
        assert!(refusal(&["--alternate", "[::]"]).contains("every address"));
    }

    #[test]
    fn listeners_that_would_be_in_each_others_way_are_refused() {
        for args in [
            &["--main=127.0.0.1:5000", "--assist=127.0.0.1:5000"][..],
            &["--main=[::]:5000", "--assist=127.0.0.1:5000"],
            &["--main=127.0.0.1:5000", "--assist=0.0.0.0:5000"],
            &["--alternate=192.0.2.2"],
            &["--main=127.0.0.1", "--alternate=127.0.0.1:4000"],
        ] {
            assert!(refusal(args).contains("must be another port"), "{args:?}");
        }
        serve(&["--main=127.0.0.1:0", "--assist=127.0.0.1:0"]);
        serve(&["--main=127.0.0.1:5000", "--assist=127.0.0.2:5000"]);
        serve(&["--main=0.0.0.0:5000", "--assist=[::1]:5000"]);
    }

    #[test]
    fn limits_are_set_by_name() {
        let config = serve(&["--limit", "casters=3", "--limit=accepts-per-address=6400"]);
        assert_eq!(config.limits.casters, 3);
        assert_eq!(config.limits.accepts_per_address.burst, 6400);
        let config = serve(&["--limit=relay-kilobytes-per-second=100", "--limit=relay-minutes=2"]);
        assert_eq!(config.limits.relay_pace.bytes, 50_000, "in half a second");
        assert_eq!(config.limits.relay_time, Duration::from_secs(120));
    }

    #[test]
    fn the_relay_is_off_unless_it_is_switched_on() {
        assert!(!serve(&[]).relay);
        assert!(serve(&["--relay", "on"]).relay);
        assert!(!serve(&["--relay=on", "--relay=off"]).relay);
        assert!(refusal(&["--relay", "yes"]).contains("'yes'"));
    }

    #[test]
    fn every_limit_in_the_help_is_understood_and_has_its_default() {
        let named = HELP.lines().skip_while(|line| !line.starts_with("Limits")).skip(1);
        let args: Vec<&str> = named
            .take_while(|line| !line.is_empty())
            .filter_map(|line| line.split_whitespace().next().filter(|word| word.contains('=')))
            .flat_map(|limit| ["--limit", limit])
            .collect();
        assert_eq!(args.len(), 28);
        assert_eq!(serve(&args).limits, Limits::default());
    }

    #[test]
    fn what_is_not_understood_is_named() {
        assert!(refusal(&["--relay"]).contains("--relay"));
        assert!(refusal(&["stray"]).contains("stray"));
        assert!(refusal(&["--main", "nowhere"]).contains("nowhere"));
        assert!(refusal(&["--limit", "sky=1"]).contains("sky"));
        assert!(refusal(&["--limit", "casters=0"]).contains("'0'"));
        assert!(refusal(&["--main"]).contains("--main"));
    }
}
