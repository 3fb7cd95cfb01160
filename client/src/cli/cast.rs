//! `punchcast cast TICKET`.

use super::mapping::Choice;
use super::output::{self, Printer, print_line};
use super::whom::{self, Given};
use super::{DONE, FAILED, Failure, Parser, args, picture, plain, server, view};
use crate::caster::{Caster, Config, Message, Serve, Whom};
use crate::meeting::{self, Rooms};
use crate::notice::Notice;
use crate::page::PageToken;
use crate::portmap::PortMap;
use crate::share::{Encoding, ShareConfig};
use crate::source::pattern::PatternReport;
use crate::source::screen::{self, OpenError, ScreenReport};
use crate::source::{self, Control, FlvInput, PatternConfig, Screen, ScreenConfig, SourceEvent};
use lexopt::prelude::{Long, Short, Value};
use punchcast::driver::{self, Driver, Handle, Step};
use punchcast::rendezvous::agent;
use punchcast::ticket::Ticket;
use punchcast::wire::message::Role;
use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::thread::JoinHandle;
use std::time::Duration;

pub(super) const HELP: &str = "\
punchcast cast TICKET [TICKET…]: finds the viewer who made TICKET, or several, and sends a live picture.
TICKET may be the viewer's short code, 427-tiger-lamp@HOST.

  --server HOST[:PORT]  the daemon of a short code that does not name it after an @

  --source rtmp         take the stream that a program publishes to this machine (the default):
                          ffmpeg … -f flv rtmp://127.0.0.1:1935/punchcast/cast
                          OBS: service Custom, server rtmp://127.0.0.1:1935/punchcast, any key
  --source screen       this machine's screen, where it is X11; without sound (for sound: OBS
                        or ffmpeg, and --source rtmp)
  --source browser      share a screen, a window or a tab from a page in this machine's browser
                        (Wayland, Windows, macOS, X11), with sound where the browser gives it
  --source pattern      a moving test picture with a clock and frame numbers (2M at most)
  --source noise        the same with noise, which fills its bitrate (12M, 60 a second)
  --source FILE.flv     a file in real time; `-` for FLV on standard input, as it
                        comes and no faster than real time
  --display NAME|N      which monitor (default: the primary one; `all`: the whole display)
  --window ID|TITLE     one window instead, by its number or a part of its title
  --fps N, --size WxH, --bitrate BITS[k|M]
                        of the picture that is made here: for pattern and noise as said (a pattern
                        needs less than its bitrate), for screen and browser at most (30; as it is, of
                        a browser up to 1920x1200; 4M)
  --rtmp ADDR           where --source rtmp listens (default 127.0.0.1:1935)
  --serve ADDR          let viewers and players dial this machine: it shows an address with a secret
                        key for `punchcast view --dial`, ffplay or VLC (port 1937 if ADDR is an IP
                        alone; 0.0.0.0 is everywhere). Plain RTMP: not encrypted. With it no TICKET
                        is needed, and the cast goes on until Ctrl-C, --duration or the source ends it
  --rtmp-key KEY        that secret key, instead of a new one each time
  --share ADDR          where --source browser serves its page, loopback only (default: any
                        free port of 127.0.0.1)
  --no-port-mapping     do not ask the router to forward a port (UPnP-IGD, PCP, NAT-PMP)
  --port-mapping LIST   ask by these alone: some of pcp, nat-pmp, upnp, with commas between
  --duration SECS       end by itself
  --quiet               say nothing but the link of --source browser and why it failed
  --json                one JSON object a line on standard output

ADDR is IP:PORT, or PORT on 127.0.0.1; port 0 takes a free one.";

const DEFAULT_SHARE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const DEFAULT_RTMP: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1935);

/// What is said of `--rtmp` beside another source.
const NOTHING_IS_PUBLISHED: &str = "note: --rtmp is where a program publishes to --source rtmp; this source takes nothing from \
                                    one, and nothing listens there. Players dial --serve ADDR";

/// Viewers of one cast. Each takes a copy of the stream from this machine's line, which is full with fewer.
const MOST_VIEWERS: usize = 16;

const _: () = assert!(MOST_VIEWERS <= Rooms::MOST as usize);

enum Source {
    /// What a program publishes to this address.
    Rtmp(SocketAddr),
    Browser(Encoding),
    Screen(ScreenConfig),
    Pattern(PatternConfig),
    Flv(FlvInput),
}

/// `--source noise`: what a fast line carries and a slow one does not.
const NOISE: PatternConfig = PatternConfig {
    width: 1280,
    height: 720,
    fps: 60,
    bitrate: 12_000_000,
    keyframe_interval: Duration::from_secs(2),
    noise: true,
};

struct Options {
    viewers: Vec<Given>,
    source: Source,
    /// `--rtmp` was given beside a source to which nothing is published.
    idle_rtmp: bool,
    serve: Option<SocketAddr>,
    rtmp_key: Option<String>,
    share: Option<SocketAddr>,
    duration: Option<Duration>,
    port_mapping: Choice,
    quiet: bool,
    json: bool,
}

fn parse(parser: &mut Parser) -> Result<Options, Failure> {
    let (mut values, mut daemon) = (Vec::new(), None);
    let (mut source, mut rtmp, mut duration, mut json) = (None, None, None, false);
    let mut picture = picture::Options::default();
    let mut port_mapping = Choice::default();
    let (mut serve, mut rtmp_key, mut quiet) = (None, None, false);
    let mut share = None;
    while let Some(arg) = parser.next()? {
        match arg {
            Long("server") => daemon = Some(args::server(parser.value()?)?),
            Long("source") => source = Some(args::text("source", parser.value()?)?),
            Long("share") => share = Some(share_addr(parser.value()?)?),
            Long("rtmp") => rtmp = Some(args::addr("rtmp", parser.value()?)?),
            Long("serve") => serve = Some(plain::serve_addr(parser.value()?)?),
            Long("rtmp-key") => rtmp_key = Some(plain::key(parser.value()?)?),
            Long("quiet") => quiet = true,
            Long("duration") => duration = Some(args::seconds("duration", parser.value()?)?),
            Long("no-port-mapping") => port_mapping = Choice::none(),
            Long("port-mapping") => port_mapping = Choice::parse(parser.value()?)?,
            Long("json") => json = true,
            Long("fps") => picture.take_fps(parser.value()?)?,
            Long("size") => picture.take_size(parser.value()?)?,
            Long("display") => picture.take_display(parser.value()?)?,
            Long("window") => picture.take_window(parser.value()?)?,
            Long("bitrate") => picture.take_bitrate(parser.value()?)?,
            Value(value) => values.push(args::text("ticket", value)?),
            other @ (Short(_) | Long(_)) => return Err(other.unexpected().into()),
        }
    }
    let viewers = whom::read(values, daemon.as_ref())?;
    if viewers.is_empty() && serve.is_none() {
        return Err(Failure::Usage(
            "cast needs the TICKET, or the short code, that `punchcast view` shows on the other machine, or --serve"
                .into(),
        ));
    }
    if rtmp_key.is_some() && serve.is_none() {
        return Err(Failure::Usage("--rtmp-key is the key of --serve".into()));
    }
    if viewers.len() > MOST_VIEWERS {
        return Err(Failure::Usage(format!(
            "{} tickets; one cast has {MOST_VIEWERS} at most",
            viewers.len()
        )));
    }
    let source = choose(source.as_deref().unwrap_or("rtmp"), rtmp, &picture)?;
    if share.is_some() && !matches!(source, Source::Browser(_)) {
        return Err(Failure::Usage("--share is for --source browser".into()));
    }
    let idle_rtmp = rtmp.is_some() && !matches!(source, Source::Rtmp(_));
    Ok(Options { viewers, source, idle_rtmp, share, serve, rtmp_key, duration, port_mapping, quiet, json })
}

/// What `--source` names, made as the other options say.
fn choose(source: &str, rtmp: Option<SocketAddr>, picture: &picture::Options) -> Result<Source, Failure> {
    let source = match source {
        "pattern" => return Ok(Source::Pattern(picture.pattern(PatternConfig::default())?)),
        "noise" => return Ok(Source::Pattern(picture.pattern(NOISE)?)),
        "screen" => return Ok(Source::Screen(picture.screen())),
        "browser" => return Ok(Source::Browser(picture.browser()?)),
        "rtmp" => Source::Rtmp(rtmp.unwrap_or(DEFAULT_RTMP)),
        file => Source::Flv(FlvInput::from_arg(file)),
    };
    // Its picture comes encoded.
    let Some(option) = picture.first() else { return Ok(source) };
    let all = "pattern, noise, screen and browser";
    let sources = if picture.aimed() == Some(option) { "screen" } else { all };
    Err(Failure::Usage(format!("{option} is for --source {sources}")))
}

/// `--share ADDR`: who can open the page can put pictures into the cast, so it is for this machine alone.
fn share_addr(value: OsString) -> Result<SocketAddr, Failure> {
    let addr = args::addr("share", value)?;
    if addr.ip().to_canonical().is_loopback() {
        return Ok(addr);
    }
    Err(Failure::Usage(format!(
        "--share: {addr} is not this machine's loopback; give 127.0.0.1:PORT or PORT"
    )))
}

pub(super) fn run(parser: &mut Parser) -> Result<i32, Failure> {
    let options = parse(parser)?;
    let mut printer = Printer::new(options.json, options.quiet);
    let result = cast(&options, &mut printer);
    printer.ended(result)
}

fn cast(options: &Options, printer: &mut Printer) -> Result<i32, Failure> {
    if let Source::Flv(input) = &options.source {
        input.check().map_err(Failure::Failed)?;
    }
    if options.idle_rtmp && !printer.is_json() {
        printer.say(NOTHING_IS_PUBLISHED);
    }
    let mut screen = match &options.source {
        Source::Screen(config) => Some(open_screen(config)?),
        Source::Rtmp(_) | Source::Browser(_) | Source::Pattern(_) | Source::Flv(_) => None,
    };
    if let (Some(screen), false) = (&screen, printer.is_json()) {
        printer.say(&format!("casting {} (without sound)", screen.describe()));
    }
    let config = config(options, printer)?;
    // Without a daemon nobody would hear of a mapping.
    let has_daemon: Vec<bool> = config.viewers.iter().map(has_daemon).collect();
    let failed = |error: std::io::Error| Failure::Failed(format!("the system gives no sockets: {error}"));
    let mut driver = Driver::new(Caster::new(driver::now(), config)).map_err(failed)?;
    super::interrupt_on_signal(driver.handle())?;
    let control = Control::new();
    let mut thread: Option<SourceThread> = None;
    let mut outcome = (false, String::new());
    // By viewer.
    let mut port_maps: BTreeMap<usize, PortMap> = BTreeMap::new();
    while let Step::Notice(notice) = driver.run().map_err(failed)? {
        printer.show(&notice);
        let (viewer, notice) = notice.of_viewer();
        #[allow(clippy::wildcard_enum_match_arm)] // The rest has been shown, and that is all.
        match notice {
            Notice::Ready { page, rtmp, rtmp_url, .. } if !printer.is_json() => {
                show_doors(printer, page.as_deref(), rtmp.as_deref(), rtmp_url.as_deref());
            }
            Notice::HoleOpen { port } if has_daemon[viewer] => {
                let mapped = move |mappings| Message::Mapped(viewer, mappings);
                let port_map = options.port_mapping.start(port, driver.handle(), mapped);
                port_maps.extend(port_map.map(|port_map| (viewer, port_map)));
            }
            Notice::StartSource => {
                thread = start(&options.source, screen.take(), &control, driver.handle())?;
            }
            Notice::KeyframeWanted => control.request_keyframe(),
            Notice::Pace(pace) => {
                // Before a release: what is made at once is made at this rate.
                let bits = pace.bitrate.and_then(|bits| u32::try_from(bits).ok());
                control.set_bitrate(bits.unwrap_or(u32::MAX));
                control.set_hold(pace.hold);
            }
            Notice::Lost { .. } => port_maps.values().for_each(PortMap::renew),
            Notice::ViewerOver { .. } => {
                if let Some(port_map) = port_maps.get(&viewer) {
                    port_map.end();
                }
            }
            Notice::End { ok, reason } => outcome = (ok, reason),
            _ => {}
        }
    }
    control.stop();
    // Dropping waits for each.
    port_maps.values().for_each(PortMap::end);
    drop(port_maps);
    // The FLV thread may wait for standard input; it ends with the process.
    match thread {
        Some(SourceThread::Pattern(thread)) => drop(thread.join()),
        Some(SourceThread::Screen(thread)) => drop(thread.join()),
        Some(SourceThread::Flv) | None => {}
    }
    match outcome {
        (true, reason) => {
            printer.say(&format!("punchcast: {reason}"));
            Ok(DONE)
        }
        (false, reason) => {
            output::fail(&reason);
            Ok(FAILED)
        }
    }
}

/// Where this machine can be reached: by the program that makes the picture, and by players.
fn show_doors(printer: &Printer, page: Option<&str>, rtmp: Option<&str>, rtmp_url: Option<&str>) {
    if let Some(page) = page {
        // Quiet or not: without it there is no picture.
        output::tell(&format!("To share a screen, open this in a browser on this machine:\n  {page}"));
    }
    if let Some(rtmp) = rtmp {
        printer.say(&format!("publish to {rtmp} (ffmpeg -f flv, or OBS: Custom server)"));
    }
    if let Some(url) = rtmp_url {
        printer.say("This machine can be dialled, by plain RTMP, which is not encrypted:");
        print_line(url);
        printer.say(&format!("  punchcast view --dial '{url}', or ffplay or VLC with that address"));
    }
}

fn has_daemon(whom: &Whom) -> bool {
    match whom {
        Whom::Ticket(meeting) => meeting.agent.is_some(),
        Whom::Code(_) => true,
    }
}

fn open_screen(config: &ScreenConfig) -> Result<Screen, Failure> {
    Screen::open(config.clone()).map_err(|error| {
        Failure::Failed(match error {
            OpenError::NoDisplay(why) => {
                format!("{why}\n{}", screen::without_display(is_other_desktop(), DEFAULT_RTMP))
            }
            OpenError::Unfit(why) => format!("{why}\n{}", screen::other_ways(DEFAULT_RTMP)),
            OpenError::Other(why) => why,
        })
    })
}

/// Whether this is a desktop, and not X11's: by the system, or by what the environment says.
fn is_other_desktop() -> bool {
    let wayland = env::var_os("WAYLAND_DISPLAY").is_some_and(|name| !name.is_empty())
        || env::var_os("XDG_SESSION_TYPE").is_some_and(|kind| kind == "wayland");
    wayland || cfg!(any(windows, target_os = "macos"))
}

enum SourceThread {
    Screen(JoinHandle<ScreenReport>),
    Pattern(JoinHandle<PatternReport>),
    Flv,
}

/// Starts the source's thread, which takes `screen`; `None` for the RTMP port and the sharing page, which are the
/// application's own.
fn start(
    source: &Source,
    screen: Option<Screen>,
    control: &Control,
    handle: Handle<Message>,
) -> Result<Option<SourceThread>, Failure> {
    let emit = move |event: SourceEvent| handle.send(event.into());
    let failed = |error| Failure::Failed(format!("the source's thread cannot be started: {error}"));
    Ok(match source {
        Source::Rtmp(_) | Source::Browser(_) => None,
        Source::Screen(_) => match screen {
            Some(screen) => Some(SourceThread::Screen(screen.spawn(control.clone(), emit).map_err(failed)?)),
            None => None,
        },
        Source::Pattern(config) => {
            let thread = source::spawn_pattern(*config, control.clone(), emit);
            Some(SourceThread::Pattern(thread.map_err(failed)?))
        }
        Source::Flv(input) => {
            source::spawn_flv(input.clone(), control.clone(), emit).map_err(failed)?;
            Some(SourceThread::Flv)
        }
    })
}

fn config(options: &Options, printer: &Printer) -> Result<Config, Failure> {
    let viewers = options.viewers.iter().zip(0..).map(|(given, number)| match given {
        Given::Ticket(ticket) => meeting(ticket, Rooms::nth(number), printer).map(Whom::Ticket),
        Given::Code(code, server) => whom::by_code(*code, server, Rooms::nth(number)),
    });
    let rtmp = if let Source::Rtmp(addr) = options.source { Some(addr) } else { None };
    let serve = options.serve.map(|addr| -> Result<Serve, Failure> {
        let key = options.rtmp_key.clone().map_or_else(plain::random_key, Ok)?;
        Ok(Serve { addr, key, own_ips: view::own_addresses(None) })
    });
    let share = if let Source::Browser(encoding) = options.source {
        let token = PageToken::new(view::random_bytes()?);
        Some(ShareConfig { addr: options.share.unwrap_or(DEFAULT_SHARE), token, encoding })
    } else {
        None
    };
    Ok(Config {
        serve: serve.transpose()?,
        viewers: viewers.collect::<Result<_, _>>()?,
        rtmp,
        share,
        encodes: match options.source {
            Source::Screen(_) | Source::Pattern(_) | Source::Browser(_) => true,
            Source::Rtmp(_) | Source::Flv(_) => false,
        },
        duration: options.duration,
        seed: super::random_u64()?,
    })
}

/// The meeting with the viewer of a ticket.
fn meeting(ticket: &Ticket, rooms: Rooms, printer: &Printer) -> Result<meeting::Config, Failure> {
    let servers = match ticket.server.as_ref().map(server::resolve).transpose() {
        Ok(servers) => servers,
        Err(why) if !ticket.addresses.is_empty() => {
            printer.say(&format!("{why}; trying the viewer's own addresses alone"));
            None
        }
        Err(why) => return Err(Failure::Failed(why)),
    };
    // A seed of its own: others fill handshakes that others see, and this one makes what nobody may guess.
    let seed = super::random_u64()?;
    let agent = servers.map(|servers| agent::Config {
        room: rooms.rendezvous,
        servers,
        role: Role::Caster,
        rendezvous: ticket.rendezvous,
        owner: None,
        seed,
        code_seed: None,
    });
    Ok(meeting::Config {
        rooms,
        secrets: meeting::Secrets::Caster(ticket.caster_secrets()),
        agent,
        local_ips: view::own_addresses(ticket.server.as_ref()),
        ticket_addresses: ticket.addresses.clone(),
        run: super::random_u64()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is wrong with a cast to nobody in particular that is made with these options.
    fn complaint(args: &str) -> Option<String> {
        let args = ["--serve", "127.0.0.1"].into_iter().chain(args.split(' '));
        match parse(&mut Parser::from_args(args)) {
            Err(Failure::Usage(why) | Failure::Failed(why)) => Some(why),
            Ok(_) => None,
        }
    }

    #[test]
    fn a_browsers_picture_is_bounded_as_was_said() {
        let parsed = |said: &str| {
            let args = ["--serve", "127.0.0.1", "--source", "browser"];
            let args = args.into_iter().chain(said.split_whitespace());
            match parse(&mut Parser::from_args(args)) {
                Ok(Options { source: Source::Browser(encoding), .. }) => encoding,
                Ok(_) | Err(_) => panic!("{said}"),
            }
        };
        assert_eq!(parsed(""), Encoding::default());
        let said = Encoding { width: 640, height: 360, fps: 10, bitrate: 500_000 };
        assert_eq!(parsed("--fps 10 --size 640x360 --bitrate 500k"), said);
        assert_eq!(parsed("--fps 60"), Encoding { fps: 60, ..Encoding::default() });
    }

    #[test]
    fn programs_publish_where_was_said() {
        for (said, addr) in [
            ("--rtmp 2000", "127.0.0.1:2000"),
            ("--source rtmp --rtmp 10.0.0.1:2000", "10.0.0.1:2000"),
            ("--source rtmp", "127.0.0.1:1935"),
        ] {
            let args = ["--serve", "127.0.0.1"].into_iter().chain(said.split(' '));
            match parse(&mut Parser::from_args(args)) {
                Ok(Options { source: Source::Rtmp(rtmp), .. }) => {
                    assert_eq!(rtmp.to_string(), addr, "{said}")
                }
                Ok(_) | Err(_) => panic!("{said}"),
            }
        }
    }

    #[test]
    fn an_address_that_nobody_publishes_to_is_noted() {
        for (said, idle) in [
            ("--source pattern --rtmp 0", true),
            ("--rtmp 0 --source screen", true),
            ("--source a.flv --rtmp 0", true),
            ("--source pattern", false),
            ("--source rtmp --rtmp 0", false),
            ("--rtmp 0", false),
        ] {
            let args = ["--serve", "127.0.0.1"].into_iter().chain(said.split(' '));
            let Ok(options) = parse(&mut Parser::from_args(args)) else { panic!("{said}") };
            assert_eq!(options.idle_rtmp, idle, "{said}");
        }
    }

    #[test]
    fn options_that_make_no_sense_together_are_told_apart() {
        let cases = [
            ("--source browser --size 8192x8192", "does not encode 8192x8192"),
            ("--source browser --size 70000x70000", "does not encode 70000x70000"),
            ("--source browser --size 1x1", "does not encode 1x1"),
            ("--source browser --size 3840x2160 --fps 120", "64 at most"),
            ("--source browser --window x", "--window is for --source screen"),
            ("--source browser --display 1", "--display is for --source screen"),
            ("--source pattern --window x", "--window is for --source screen"),
            ("--source rtmp --fps 30", "--fps is for --source pattern, noise, screen and browser"),
            ("--source rtmp --window x", "--window is for --source screen"),
            ("--source a.flv --display 1", "--display is for --source screen"),
            ("--source screen --share 0", "--share is for --source browser"),
        ];
        for (args, why) in cases {
            let told = complaint(args).unwrap_or_default();
            assert!(told.contains(why), "{args}: {told:?}");
        }
    }
}
