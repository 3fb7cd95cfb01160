//! `punchcast view`.

use super::mapping::Choice;
use super::output::{self, Printer, print_line};
use super::sinks::{Finished, Sinks, Wanted, flv_path, png_path};
use super::{DONE, FAILED, Failure, Parser, args, plain, server, terminal, words};
use crate::dial::DialConfig;
use crate::meeting::{self, Rooms};
use crate::notice::Notice;
use crate::page::{self, PageConfig, PageToken};
use crate::portmap::PortMap;
use crate::sink::{Existing, LiveTarget};
use crate::viewer::{Config, MOST_CASTS, Viewer};
use lexopt::prelude::{Long, Short};
use punchcast::code::Seed;
use punchcast::driver::{self, Driver, Step};
use punchcast::endpoint::Reach;
use punchcast::rendezvous::agent;
use punchcast::rtmp::RtmpUrl;
use punchcast::ticket::{Host, Server, ViewerIdentity};
use punchcast::wire::message::Role;
use std::io::IsTerminal as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

pub(super) const HELP: &str = "\
punchcast view: shows a ticket; whoever is given it can cast to this machine, and nobody else.
With --server it shows a short code, too, which can be read out and typed in the ticket's place.

  --server HOST[:PORT]  the daemon that introduces casters (main port; default 4000). Without one
                        only casters on the same network, or who can reach this host, get through
  --assist PORT         the daemon's hole-assist port, if not 8000
  --page ADDR           where to serve the page (default 127.0.0.1:0, a free port); `none` for no page
  --rtmp ADDR           serve the picture to players by RTMP there: ffplay rtmp://ADDR/punchcast/live;
                        the second cast at once is rtmp://ADDR/punchcast/cast-2, and so on
  --casts N             casts at once, 1 to 9 (default 4); they share the page as a grid
  --rtmp-in             take plain RTMP publishers (OBS, ffmpeg, a phone) at the ticket's port: it shows
                        an address with a secret key for them. Plain RTMP: not encrypted
  --rtmp-key KEY        that secret key, instead of a new one each time
  --port PORT           the ticket's port, instead of a free one
  --dial URL            dial a caster that serves (`punchcast cast --serve`), or any RTMP server, and
                        play: rtmp://HOST:1937/punchcast/KEY. Plain RTMP: not encrypted
  --dial-after SECS     dial only where no other cast has come for so long
  --player COMMAND      start a player and write FLV to it: --player 'mpv -'
  --flv PATH            write FLV as it comes, `-` for standard output, or to a named pipe; who reads
                        slowly gets fewer pictures
  --record FILE.flv     write what comes to a file, `-` for standard output; the second cast at once
                        goes to FILE-2.flv, and so on; a cast that is coded in another way than the
                        one before it goes to FILE-part2.flv, or the next number that is free
  --overwrite           let --record and --flv replace files that are there already
  --snapshot FILE.png   write the first cast's last picture to a file at the end
  --no-port-mapping     do not ask the router to forward a port (UPnP-IGD, PCP, NAT-PMP)
  --port-mapping LIST   ask by these alone: some of pcp, nat-pmp, upnp, with commas between
  --once                end with the first cast; a lost link is waited for, for a minute
  --quiet               say nothing but the ticket and why it failed
  --json                one JSON object a line on standard output

ADDR is IP:PORT, or PORT on 127.0.0.1; port 0 takes a free one.";

/// Casts at once where nothing else is said: as many as a laptop's screen and processor have room for. Another
/// caster's picture beside one's own is what somebody expects who sent one ticket to two people.
const DEFAULT_CASTS: usize = 4;

#[derive(Default)]
struct Options {
    server: Option<Server>,
    page: Option<SocketAddr>,
    no_page: bool,
    rtmp: Option<SocketAddr>,
    rtmp_in: bool,
    rtmp_key: Option<String>,
    port: Option<u16>,
    dial: Option<RtmpUrl>,
    dial_after: Option<Duration>,
    live: Vec<LiveTarget>,
    record: Option<PathBuf>,
    overwrite: bool,
    snapshot: Option<PathBuf>,
    port_mapping: Choice,
    casts: Option<usize>,
    once: bool,
    quiet: bool,
    json: bool,
}

impl Options {
    /// Something else than results goes to standard output.
    fn stdout_is_taken(&self) -> bool {
        self.record.as_ref().is_some_and(|path| path.as_os_str() == "-")
            || self.live.contains(&LiveTarget::Stdout)
    }

    fn wanted(&self) -> Wanted<'_> {
        Wanted {
            record: self.record.as_deref(),
            snapshot: self.snapshot.as_deref(),
            live: &self.live,
            existing: if self.overwrite { Existing::Replace } else { Existing::Keep },
            casts: self.casts.unwrap_or(DEFAULT_CASTS),
        }
    }

    /// Whether every player is there: sooner told than with the first cast.
    fn find_players(&self) -> Result<(), Failure> {
        let programs = self.live.iter().filter_map(|target| match target {
            LiveTarget::Player(words) => words.first(),
            LiveTarget::Stdout | LiveTarget::Path(_) => None,
        });
        let missing = programs.into_iter().find(|program| !words::is_program(program));
        missing.map_or(Ok(()), |program| {
            Err(Failure::Failed(format!("--player: there is no program {program:?} to start")))
        })
    }

    /// Whether the options fit each other.
    fn check(&self) -> Result<(), Failure> {
        let usage = |why: &str| Err(Failure::Usage(why.into()));
        let stdout = usize::from(self.record.as_ref().is_some_and(|path| path.as_os_str() == "-"))
            + self.live.iter().filter(|target| **target == LiveTarget::Stdout).count()
            + usize::from(self.json);
        if stdout > 1 {
            return usage("only one of --json, --record - and --flv - can have standard output");
        }
        if self.wanted().collides() {
            return usage(
                "--record, --flv and --snapshot need a file of their own each, and so has each cast that is recorded",
            );
        }
        if self.rtmp_key.is_some() && !self.rtmp_in {
            return usage("--rtmp-key is the key of --rtmp-in");
        }
        if self.dial_after.is_some() && self.dial.is_none() {
            return usage("--dial-after needs --dial");
        }
        Ok(())
    }
}

fn parse(parser: &mut Parser) -> Result<Options, Failure> {
    let mut options = Options::default();
    let mut assist = None;
    while let Some(arg) = parser.next()? {
        match arg {
            Long("server") => options.server = Some(args::server(parser.value()?)?),
            Long("assist") => assist = Some(args::port("assist", parser.value()?)?),
            Long("page") => {
                let value = parser.value()?;
                if value == "none" {
                    options.no_page = true;
                } else {
                    options.page = Some(args::addr("page", value)?);
                }
            }
            Long("rtmp") => options.rtmp = Some(args::addr("rtmp", parser.value()?)?),
            Long("rtmp-in") => options.rtmp_in = true,
            Long("rtmp-key") => options.rtmp_key = Some(plain::key(parser.value()?)?),
            Long("port") => options.port = Some(args::port("port", parser.value()?)?),
            Long("dial") => options.dial = Some(plain::url(parser.value()?)?),
            Long("dial-after") => options.dial_after = Some(args::seconds("dial-after", parser.value()?)?),
            Long("player") => options.live.push(player(parser.one_of_values()?)?),
            Long("flv") => {
                let path = flv_path("flv", parser.one_of_values()?)?;
                let is_stdout = path.as_os_str() == "-";
                options.live.push(if is_stdout { LiveTarget::Stdout } else { LiveTarget::Path(path) });
            }
            Long("quiet") => options.quiet = true,
            Long("record") => options.record = Some(flv_path("record", parser.value()?)?),
            Long("overwrite") => options.overwrite = true,
            Long("snapshot") => options.snapshot = Some(png_path(parser.value()?)?),
            Long("casts") => {
                let text = args::text("casts", parser.value()?)?;
                let casts = text.parse().ok().filter(|casts| (1..=MOST_CASTS).contains(casts));
                let wrong = || Failure::Usage(format!("--casts takes a number from 1 to {MOST_CASTS}"));
                options.casts = Some(casts.ok_or_else(wrong)?);
            }
            Long("no-port-mapping") => options.port_mapping = Choice::none(),
            Long("port-mapping") => options.port_mapping = Choice::parse(parser.value()?)?,
            Long("once") => options.once = true,
            Long("json") => options.json = true,
            other @ (Short(_) | Long(_) | lexopt::Arg::Value(_)) => return Err(other.unexpected().into()),
        }
    }
    options.server = match (options.server.take(), assist) {
        (Some(server), assist) => Some(args::daemon(server, assist)?),
        (None, Some(_)) => {
            return Err(Failure::Usage(
                "--assist is a port of the daemon that --server names: add --server HOST".into(),
            ));
        }
        (None, None) => None,
    };
    options.check()?;
    Ok(options)
}

/// `--player COMMAND`.
fn player(value: std::ffi::OsString) -> Result<LiveTarget, Failure> {
    let text = args::text("player", value)?;
    match words::split(&text) {
        Some(words) if words.is_empty() => Err(Failure::Usage("--player names no program".into())),
        Some(words) => Ok(LiveTarget::Player(words)),
        None => Err(Failure::Usage(format!("--player: a quote in {text:?} is not closed"))),
    }
}

pub(super) fn run(parser: &mut Parser) -> Result<i32, Failure> {
    let options = parse(parser)?;
    let mut printer = Printer::new(options.json, options.quiet);
    let result = view(&options, &mut printer);
    printer.ended(result)
}

fn view(options: &Options, printer: &mut Printer) -> Result<i32, Failure> {
    options.find_players()?;
    if let Some(port) = options.port.filter(|port| *port != 0 && driver::is_taken(*port)) {
        let what = "is taken by another program; choose another with --port, or none for any free one";
        return Err(Failure::Failed(format!("port {port} {what}")));
    }
    let mut random = [0; ViewerIdentity::RANDOM_LEN];
    fill(&mut random)?;
    let identity = ViewerIdentity::from_random(&random);
    let page_token = PageToken::new(random_bytes()?);
    let config = config(options, identity, page_token)?;
    let mut sinks = Sinks::open(&options.wanted(), printer.talk())?;
    let failed = |error: std::io::Error| Failure::Failed(format!("the system gives no sockets: {error}"));
    let mut driver = Driver::new(Viewer::new(driver::now(), config)).map_err(failed)?;
    super::interrupt_on_signal(driver.handle())?;
    let mut end = None;
    let mut port_map: Option<PortMap> = None;
    // Without a daemon nobody would hear of a mapping.
    let has_daemon = options.server.is_some();
    while let Step::Notice(notice) = driver.run().map_err(failed)? {
        sinks.notices().for_each(|notice| printer.show(&notice));
        // It is shown last, once what is recorded can be read.
        if let Notice::End { .. } = notice {
            end = Some(notice);
            continue;
        }
        printer.show(&notice);
        let (cast, notice) = notice.of_cast();
        sinks.follow(driver::now(), cast, &notice);
        if sinks.take_keyframe_wish(cast) {
            driver.app_mut().ask_for_keyframe(driver::now(), cast);
        }
        #[allow(clippy::wildcard_enum_match_arm)] // The rest has been shown, and that is all.
        match notice {
            Notice::Ready { ticket, page, rtmp, rtmp_url } if !printer.is_json() => {
                show_ticket(printer, ticket.as_deref(), options.stdout_is_taken());
                show_doors(printer, page.as_deref(), rtmp.as_deref(), rtmp_url.as_deref());
            }
            Notice::Code { code: Some(code), .. } if !printer.is_json() => {
                show_code(printer, &code, options.stdout_is_taken());
            }
            Notice::HoleOpen { port } if has_daemon => {
                port_map = options.port_mapping.start(port, driver.handle(), |mappings| mappings);
            }
            Notice::Lost { .. } => {
                if let Some(port_map) = &port_map {
                    port_map.renew();
                }
            }
            _ => {}
        }
    }
    // First of all why it ends: a file may take its time, and what it has to say hides nothing.
    if let Some(Notice::End { ok: false, reason }) = &end {
        output::fail(reason);
    }
    port_map.iter().for_each(PortMap::end);
    let Finished { notices, why } = sinks.finish(driver::now(), options.once);
    let end = end.map(|end| also_failed(end, why));
    let done = matches!(end, Some(Notice::End { ok: true, .. }));
    notices.iter().chain(&end).for_each(|notice| printer.show(notice));
    drop(port_map);
    Ok(if done { DONE } else { FAILED })
}

/// The end of a viewer that did what it was asked for, but for what it was to write, if `why` tells of that.
fn also_failed(end: Notice, why: Option<String>) -> Notice {
    match (end, why) {
        (Notice::End { ok: true, reason }, Some(why)) => {
            Notice::End { ok: false, reason: format!("{reason}; {why}") }
        }
        (end, _) => end,
    }
}

fn show_ticket(printer: &Printer, ticket: Option<&str>, stdout_is_taken: bool) {
    let Some(ticket) = ticket else { return };
    if stdout_is_taken {
        output::tell(ticket);
    } else {
        print_line(ticket);
    }
    if std::io::stderr().is_terminal() {
        let columns = terminal::columns();
        match page::terminal_qr(ticket, columns, terminal::Abilities::detect().colour) {
            Ok(drawing) => printer.say(&format!("\n{drawing}")),
            Err(needed) => printer.say(&format!(
                "(the ticket's QR code needs {needed} columns, and this terminal has {columns}: it is left out)"
            )),
        }
    }
    printer.say(&format!("To cast to this machine, run there:\n  punchcast cast '{ticket}'"));
}

/// Shows the short code, which is another way to write the ticket: `--quiet` has that one. Who sees standard output and
/// talk in one place is not shown it twice.
fn show_code(printer: &Printer, code: &str, stdout_is_taken: bool) {
    if printer.is_quiet() {
        return;
    }
    printer.say(&format!("Or by the short code, which can be read out: punchcast cast {code}"));
    let is_seen = std::io::stdout().is_terminal() && std::io::stderr().is_terminal();
    if !stdout_is_taken && !is_seen {
        print_line(code);
    }
}

fn show_doors(printer: &Printer, page: Option<&str>, rtmp: Option<&str>, rtmp_url: Option<&str>) {
    if let Some(page) = page {
        printer.say(&format!("The picture will be at {page}"));
    }
    if let Some(rtmp) = rtmp {
        printer.say(&format!("Players find it at {rtmp}"));
    }
    if let Some(url) = rtmp_url {
        printer.say(&format!(
            "OBS, ffmpeg or a phone publish to {url}\n  (plain RTMP: not encrypted; from outside this network with \
             the router's address, where it forwards that port)"
        ));
    }
}

fn config(options: &Options, identity: ViewerIdentity, token: PageToken) -> Result<Config, Failure> {
    let server = options.server.clone();
    let servers = server.as_ref().map(server::resolve).transpose().map_err(Failure::Failed)?;
    let local_ips = own_addresses(server.as_ref());
    // Of its own: the one beside it is told to browsers and players, and this one makes what nobody may guess.
    let (seed, agent_seed) = (super::random_u64()?, super::random_u64()?);
    let code_seed = code_seed()?;
    let agent = servers.map(|servers| agent::Config {
        room: meeting::RENDEZVOUS,
        servers,
        role: Role::Viewer,
        rendezvous: identity.rendezvous(),
        owner: Some(identity.owner),
        seed: agent_seed,
        code_seed: Some(code_seed),
    });
    let meeting = meeting::Config {
        rooms: Rooms::nth(0),
        secrets: meeting::Secrets::Viewer(identity.viewer_secrets()),
        agent,
        local_ips,
        ticket_addresses: Vec::new(),
        run: super::random_u64()?,
    };
    let casts = options.casts.unwrap_or(DEFAULT_CASTS);
    let page_addr = options.page.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let page = (!options.no_page).then(|| PageConfig {
        addr: page_addr,
        ticket_link: String::new(),
        token: (!page_addr.ip().is_loopback()).then_some(token),
        casts,
        seed,
    });
    let plain_key = options.rtmp_in.then(|| options.rtmp_key.clone().map_or_else(plain::random_key, Ok));
    let dial = options.dial.clone().map(|url| {
        let addrs = plain::resolve(&url)?;
        Ok::<_, Failure>(DialConfig { url, addrs, after: options.dial_after, seed: super::random_u64()? })
    });
    Ok(Config {
        identity,
        server,
        meeting,
        hole_port: options.port.unwrap_or(0),
        plain_key: plain_key.transpose()?,
        dial: dial.transpose()?,
        page,
        rtmp: options.rtmp,
        casts,
        once: options.once,
        seed,
    })
}

/// This host's addresses; loopback, too, where nothing else is there or the daemon is on this host, for a caster on
/// this host.
pub(super) fn own_addresses(server: Option<&Server>) -> Vec<IpAddr> {
    let mut ips = driver::local_addresses();
    let is_here = |server: &Server| matches!(&server.host, Host::Ip(ip) if Reach::of(*ip) == Reach::Host);
    if ips.is_empty() || server.is_some_and(is_here) {
        ips.push(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    ips
}

/// What short codes and their exchanges are made of.
pub(super) fn code_seed() -> Result<Seed, Failure> {
    let mut seed = [0; 32];
    fill(&mut seed)?;
    Ok(Seed(seed))
}

fn fill(bytes: &mut [u8]) -> Result<(), Failure> {
    getrandom::fill(bytes)
        .map_err(|error| Failure::Failed(format!("the system gives no randomness: {error}")))
}

pub(super) fn random_bytes() -> Result<[u8; 16], Failure> {
    let mut bytes = [0; 16];
    fill(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_assist_port_is_another_than_the_main_port_of_a_daemon_that_is_named() {
        let parsed = |said: &str| parse(&mut Parser::from_args(said.split(' ')));
        for (said, why) in [
            ("--server h --assist 4000", "port 4000 can be only one"),
            ("--assist 4001 --server h:4001", "port 4001 can be only one"),
            ("--assist 4000", "--assist is a port of the daemon that --server names"),
        ] {
            let Err(Failure::Usage(told)) = parsed(said) else { panic!("{said} is taken") };
            assert!(told.starts_with(why), "{said}: {told}");
        }
        let server = parsed("--assist 9000 --server h").ok().and_then(|options| options.server);
        assert_eq!(server.map(|server| (server.main, server.assist)), Some((4000, 9000)));
    }
}
