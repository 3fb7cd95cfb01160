//! `punchcast cast TICKET`.

use super::mapping::Choice;
use super::output::{Printer, print_line, talk};
use super::{DONE, Failure, NO_LINK, args, server, view};
use crate::caster::{Caster, Config, Message};
use crate::meeting::{self, Rooms};
use crate::notice::Notice;
use crate::page::PageToken;
use crate::portmap::PortMap;
use crate::share::{Encoding, ShareConfig};
use crate::source::pattern::PatternReport;
use crate::source::{self, Control, FlvInput, PatternConfig, SourceEvent};
use lexopt::prelude::{Long, Short, Value};
use punchcast::driver::{self, Driver, Handle, Step};
use punchcast::rendezvous::agent;
use punchcast::ticket::Ticket;
use punchcast::wire::message::Role;
use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::thread::JoinHandle;
use std::time::Duration;

const HELP: &str = "\
punchcast cast TICKET [TICKET…]: finds the viewer who made TICKET, or several, and sends a live picture.

  --source rtmp         take the stream that a program publishes to this machine (the default):
                          ffmpeg … -f flv rtmp://127.0.0.1:1935/punchcast/cast
                          OBS: service Custom, server rtmp://127.0.0.1:1935/punchcast, any key
  --source browser      share a screen, a window or a tab from a page in this machine's browser
                        (Wayland, Windows, macOS, X11), with sound where the browser gives it
  --source pattern      a moving test picture with a clock and frame numbers
  --source FILE.flv     a file in real time; `-` for FLV on standard input, as it
                        comes and no faster than real time
  --rtmp ADDR           where --source rtmp listens (default 127.0.0.1:1935)
  --share ADDR          where --source browser serves its page, loopback only (default: any
                        free port of 127.0.0.1)
  --no-port-mapping     do not ask the router to forward a port (UPnP-IGD, PCP, NAT-PMP)
  --duration SECS       end by itself
  --json                one JSON object a line on standard output

ADDR is IP:PORT, or PORT on 127.0.0.1; port 0 takes a free one.";

const DEFAULT_SHARE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const DEFAULT_RTMP: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1935);

/// Viewers of one cast. Each takes a copy of the stream from this machine's line, which is full with fewer.
const MOST_VIEWERS: usize = 16;

const _: () = assert!(MOST_VIEWERS <= Rooms::MOST as usize);

enum Source {
    Rtmp,
    Browser,
    Pattern,
    Flv(FlvInput),
}

struct Options {
    tickets: Vec<Ticket>,
    source: Source,
    rtmp: SocketAddr,
    share: SocketAddr,
    duration: Option<Duration>,
    port_mapping: Choice,
    json: bool,
}

fn parse(parser: &mut lexopt::Parser) -> Result<Option<Options>, Failure> {
    let (mut tickets, mut source, mut rtmp, mut duration, mut json) =
        (Vec::new(), Source::Rtmp, None, None, false);
    let mut port_mapping = Choice::default();
    let mut share = DEFAULT_SHARE;
    while let Some(arg) = parser.next()? {
        match arg {
            Long("source") => {
                let text = args::text("source", parser.value()?)?;
                source = match text.as_str() {
                    "rtmp" => Source::Rtmp,
                    "browser" => Source::Browser,
                    "pattern" => Source::Pattern,
                    "screen" => {
                        return Err(Failure::Usage(
                            "--source screen is not built in yet; capture with ffmpeg or OBS and --source rtmp: \
                             ffmpeg -f x11grab -framerate 30 -i :0 -c:v libx264 -tune zerolatency -pix_fmt yuv420p \
                             -f flv rtmp://127.0.0.1:1935/punchcast/cast"
                                .into(),
                        ));
                    }
                    file => Source::Flv(FlvInput::from_arg(file)),
                };
            }
            Long("share") => share = share_addr(parser.value()?)?,
            Long("rtmp") => rtmp = Some(args::addr("rtmp", parser.value()?)?),
            Long("duration") => duration = Some(args::seconds("duration", parser.value()?)?),
            Long("no-port-mapping") => port_mapping = Choice::none(),
            Long("port-mapping") => port_mapping = Choice::parse(parser.value()?)?,
            Long("json") => json = true,
            Short('h') | Long("help") => {
                print_line(HELP);
                return Ok(None);
            }
            Value(value) => {
                // Never echoed: a ticket is a secret.
                let text = args::text("ticket", value)?;
                let ticket = text.parse::<Ticket>().map_err(|error| Failure::Usage(error.to_string()))?;
                if tickets.iter().any(|other: &Ticket| other.rendezvous == ticket.rendezvous) {
                    return Err(Failure::Usage("one and the same ticket was given twice".into()));
                }
                tickets.push(ticket);
            }
            other @ (Short(_) | Long(_)) => return Err(other.unexpected().into()),
        }
    }
    if tickets.is_empty() {
        return Err(Failure::Usage(
            "cast needs the TICKET that `punchcast view` shows on the other machine".into(),
        ));
    }
    if tickets.len() > MOST_VIEWERS {
        return Err(Failure::Usage(format!(
            "{} tickets; one cast has {MOST_VIEWERS} at most",
            tickets.len()
        )));
    }
    let rtmp = rtmp.unwrap_or(DEFAULT_RTMP);
    Ok(Some(Options { tickets, source, rtmp, share, duration, port_mapping, json }))
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

pub(super) fn run(parser: &mut lexopt::Parser) -> Result<i32, Failure> {
    let Some(options) = parse(parser)? else { return Ok(DONE) };
    let printer = Printer::new(options.json);
    if let Source::Flv(FlvInput::File(path)) = &options.source {
        // Sooner told than after a link was made.
        std::fs::File::open(path)
            .map_err(|error| Failure::Failed(format!("{} cannot be read: {error}", path.display())))?;
    }
    let config = config(&options)?;
    // Without a daemon nobody would hear of a mapping.
    let has_daemon: Vec<bool> = config.meetings.iter().map(|meeting| meeting.agent.is_some()).collect();
    let failed = |error: std::io::Error| Failure::Failed(format!("the system gives no sockets: {error}"));
    let mut driver = Driver::new(Caster::new(driver::now(), config)).map_err(failed)?;
    super::interrupt_on_signal(driver.handle())?;
    let control = Control::new();
    let mut thread: Option<SourceThread> = None;
    let mut outcome = (false, String::new());
    let mut port_maps: Vec<PortMap> = Vec::new();
    while let Step::Notice(notice) = driver.run().map_err(failed)? {
        printer.show(&notice);
        let (viewer, notice) = notice.of_viewer();
        #[allow(clippy::wildcard_enum_match_arm)] // The rest has been shown, and that is all.
        match notice {
            Notice::Ready { rtmp: Some(rtmp), .. } if !printer.is_json() => {
                talk(&format!(
                    "publish to rtmp://{rtmp}/punchcast/cast (ffmpeg -f flv, or OBS: Custom server)"
                ));
            }
            Notice::Ready { page: Some(page), .. } if !printer.is_json() => {
                talk(&format!("To share a screen, open this in a browser on this machine:\n  {page}"));
            }
            Notice::HoleOpen { port } if has_daemon[viewer] => {
                let mapped = move |mappings| Message::Mapped(viewer, mappings);
                port_maps.extend(options.port_mapping.start(port, driver.handle(), mapped));
            }
            Notice::StartSource => thread = start(&options.source, &control, driver.handle())?,
            Notice::KeyframeWanted => control.request_keyframe(),
            Notice::Lost { .. } => port_maps.iter().for_each(PortMap::renew),
            Notice::End { ok, reason } => outcome = (ok, reason),
            _ => {}
        }
    }
    control.stop();
    drop(port_maps);
    // The FLV thread may wait for standard input; it ends with the process.
    if let Some(SourceThread::Pattern(thread)) = thread {
        let _ = thread.join();
    }
    match outcome {
        (true, reason) => {
            talk(&format!("punchcast: {reason}"));
            Ok(DONE)
        }
        (false, reason) => {
            talk(&format!("punchcast: {reason}"));
            Ok(NO_LINK)
        }
    }
}

enum SourceThread {
    Pattern(JoinHandle<PatternReport>),
    Flv,
}

/// Starts the source's thread; `None` for the RTMP port and the sharing page, which are the application's own.
fn start(
    source: &Source,
    control: &Control,
    handle: Handle<Message>,
) -> Result<Option<SourceThread>, Failure> {
    let emit = move |event: SourceEvent| handle.send(event.into());
    let failed = |error| Failure::Failed(format!("the source's thread cannot be started: {error}"));
    Ok(match source {
        Source::Rtmp | Source::Browser => None,
        Source::Pattern => {
            let thread = source::spawn_pattern(PatternConfig::default(), control.clone(), emit);
            Some(SourceThread::Pattern(thread.map_err(failed)?))
        }
        Source::Flv(input) => {
            source::spawn_flv(input.clone(), control.clone(), emit).map_err(failed)?;
            Some(SourceThread::Flv)
        }
    })
}

fn config(options: &Options) -> Result<Config, Failure> {
    let numbered = options.tickets.iter().zip(0..);
    let meetings = numbered.map(|(ticket, number)| meeting(ticket, Rooms::nth(number)));
    let rtmp = matches!(options.source, Source::Rtmp).then_some(options.rtmp);
    let share = if matches!(options.source, Source::Browser) {
        let token = PageToken::new(view::random_bytes()?);
        Some(ShareConfig { addr: options.share, token, encoding: Encoding::default() })
    } else {
        None
    };
    Ok(Config {
        meetings: meetings.collect::<Result<_, _>>()?,
        rtmp,
        share,
        duration: options.duration,
        seed: super::random_u64()?,
    })
}

/// The meeting with the viewer of a ticket.
fn meeting(ticket: &Ticket, rooms: Rooms) -> Result<meeting::Config, Failure> {
    let servers = match ticket.server.as_ref().map(server::resolve).transpose() {
        Ok(servers) => servers,
        Err(why) if !ticket.addresses.is_empty() => {
            talk(&format!("{why}; trying the viewer's own addresses alone"));
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
    use punchcast::ticket::ViewerIdentity;

    #[test]
    fn the_same_ticket_twice_is_refused_without_a_word_of_it() {
        let identity = ViewerIdentity::from_random(&[7; ViewerIdentity::RANDOM_LEN]);
        let ticket = identity.ticket(None, Vec::new()).to_string();
        let mut parser = lexopt::Parser::from_args([ticket.as_str(), ticket.as_str()]);
        match parse(&mut parser) {
            Err(Failure::Usage(why)) => assert_eq!(why, "one and the same ticket was given twice"),
            Err(Failure::Failed(why)) => panic!("{why}"),
            Ok(_) => panic!("two tickets are taken"),
        }
    }
}
