//! The cast itself: daemon, viewer and caster, one after the other, and what they tell.

use super::lab::Lab;
use super::process::{Heard, Process, Programs, Who};
use super::story::{Story, say};
use super::{Options, event::Event};
use punchcast::ticket::{ASSIST_PORT, MAIN_PORT};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

/// How long the daemon, and then the viewer, has to come up. A loaded machine with two cores needs a second.
const START: Duration = Duration::from_secs(15);

/// How long a link and a picture may take to come, beyond the time that `--once` shows them for.
const LINK: Duration = Duration::from_secs(30);

/// How long caster and viewer have to end by themselves after the cast's time.
const END: Duration = Duration::from_secs(5);

/// How often the demo looks for what does not come as a message.
const GLANCE: Duration = Duration::from_millis(50);

/// Where the daemon listens.
#[derive(Clone, Copy, Debug)]
struct Doors {
    ip: Ipv4Addr,
    main: u16,
    assist: u16,
}

impl Doors {
    /// Its usual ports, or free ones where a program listens on all addresses at one of them.
    fn free(ip: Ipv4Addr) -> Result<Self, String> {
        let port = |wanted| {
            TcpListener::bind((ip, wanted))
                .or_else(|_| TcpListener::bind((ip, 0)))
                .and_then(|listener| listener.local_addr())
                .map(|addr| addr.port())
                .map_err(|error| format!("cannot listen on {ip}: {error}"))
        };
        Ok(Self { ip, main: port(MAIN_PORT)?, assist: port(ASSIST_PORT)? })
    }

    const fn main(self) -> SocketAddr {
        SocketAddr::new(std::net::IpAddr::V4(self.ip), self.main)
    }

    fn args(self) -> [String; 4] {
        let Self { ip, main, assist } = self;
        ["--main".into(), format!("{ip}:{main}"), "--assist".into(), format!("{ip}:{assist}")]
    }
}

/// The viewer's page as the host's browser reaches it.
#[derive(Clone, Debug)]
pub(super) struct Page {
    /// The front's address, and inside the viewer's namespace the page's own.
    pub(super) addr: SocketAddr,
    /// The Unix socket between the two.
    pub(super) socket: PathBuf,
}

/// The cast through the lab's NATs.
pub(super) fn in_lab(
    options: &Options,
    programs: &Programs,
    lab: &Lab,
    page: &Page,
    interrupted: Receiver<()>,
) -> Result<i32, String> {
    say("Two homes behind NATs, and a daemon that both can reach:");
    say(&format!(
        "  daemon {}, viewer behind {}, caster behind {}",
        lab.server, lab.viewer_outside, lab.caster_outside
    ));
    say("  Each NAT drops whatever was not asked for, so neither side can simply dial the other.");
    let mut show = Show::new(options, interrupted);
    show.start(
        Who::Bridge,
        lab.command("viewer", &programs.punchcast)
            .args(["demo", "--bridge"])
            .arg(&page.socket)
            .arg(page.addr.to_string()),
    )?;
    let doors = Doors { ip: lab.server, main: MAIN_PORT, assist: ASSIST_PORT };
    show.start(Who::Daemon, lab.command("server", &programs.punchcastd).args(doors.args()))?;
    let door = doors.main();
    show.wait_for_daemon(doors, || {
        // Asked from a home, so that the whole way is known to work.
        lab.command("caster", "bash")
            .args(["-c", &format!("exec 3<>/dev/tcp/{}/{}", door.ip(), door.port())])
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    })?;
    show.cast(&mut lab.command("viewer", &programs.punchcast), doors, page.addr, |ticket| {
        let mut command = lab.command("caster", &programs.punchcast);
        command.args(["cast", ticket]);
        command
    })
}

/// The cast on this machine's loopback. An address of its own in 127.0.0.0/8 lets the daemon keep its ports beside
/// most of what else runs here.
pub(super) fn over_loopback(
    options: &Options,
    programs: &Programs,
    interrupted: Receiver<()>,
) -> Result<i32, String> {
    let server = Ipv4Addr::new(127, fastrand::u8(1..=254), fastrand::u8(..), fastrand::u8(1..=254));
    let mut show = Show::new(options, interrupted);
    let doors = Doors::free(server)?;
    show.start(Who::Daemon, Command::new(&programs.punchcastd).args(doors.args()))?;
    show.wait_for_daemon(doors, || TcpStream::connect_timeout(&doors.main(), START).is_ok())?;
    let page = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    show.cast(&mut Command::new(&programs.punchcast), doors, page, |ticket| {
        let mut command = Command::new(&programs.punchcast);
        command.args(["cast", ticket]);
        command
    })
}

/// The running demo. Its programs end with it, the newest first.
struct Show<'a> {
    options: &'a Options,
    interrupted: Receiver<()>,
    began: Instant,
    story: Story,
    speak: Sender<Heard>,
    heard: Receiver<Heard>,
    running: Vec<(Who, Process)>,
}

/// How a wait ended.
enum Turn {
    Heard(Who, Event),
    Ended(Who),
    Interrupted,
    TimeUp,
}

impl<'a> Show<'a> {
    fn new(options: &'a Options, interrupted: Receiver<()>) -> Self {
        let (speak, heard) = mpsc::channel();
        let began = Instant::now();
        let story = Story::new(began, options.once);
        Self { options, interrupted, began, story, speak, heard, running: Vec::new() }
    }

    fn start(&mut self, who: Who, command: &mut Command) -> Result<(), String> {
        let process = Process::start(who, command, self.speak.clone())?;
        self.running.push((who, process));
        Ok(())
    }

    fn process(&mut self, who: Who) -> Option<&mut Process> {
        self.running.iter_mut().find(|(name, _)| *name == who).map(|(_, process)| process)
    }

    /// The next thing that happens until `deadline`; events are in the story already.
    fn turn(&mut self, deadline: Instant) -> Turn {
        loop {
            if self.interrupted.try_recv().is_ok() {
                return Turn::Interrupted;
            }
            let now = Instant::now();
            self.story.tell(now);
            if now >= deadline {
                return Turn::TimeUp;
            }
            match self.heard.recv_timeout(GLANCE.min(deadline - now)) {
                Ok(Heard::Event(who, came, event)) => {
                    let began = self.process(who).map_or(now, |process| process.began(came, &event));
                    self.story.hear(who, began, &event);
                    return Turn::Heard(who, event);
                }
                Ok(Heard::Ended(who)) => return Turn::Ended(who),
                // This end of the channel lives here, so it cannot be disconnected.
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
        }
    }

    fn wait_for_daemon(&mut self, doors: Doors, answers: impl Fn() -> bool) -> Result<(), String> {
        let deadline = Instant::now() + START;
        while !answers() {
            match self.turn(deadline.min(Instant::now() + GLANCE)) {
                Turn::Ended(who) => return Err(self.failure(who, "has ended too early")),
                Turn::Interrupted => return Err("interrupted".into()),
                Turn::TimeUp if Instant::now() >= deadline => {
                    return Err(self.failure(Who::Daemon, "does not answer"));
                }
                Turn::TimeUp | Turn::Heard(..) => {}
            }
        }
        self.story.step("daemon", &format!("answers on ports {} and {}", doors.main, doors.assist));
        Ok(())
    }

    /// Viewer, then caster with the viewer's ticket, then the picture.
    fn cast(
        &mut self,
        viewer: &mut Command,
        doors: Doors,
        page: SocketAddr,
        caster: impl Fn(&str) -> Command,
    ) -> Result<i32, String> {
        viewer.args([
            "view",
            "--json",
            "--server",
            &doors.main().to_string(),
            "--assist",
            &doors.assist.to_string(),
            "--page",
            &page.to_string(),
        ]);
        if let Some(snapshot) = &self.options.snapshot {
            // A picture of an earlier run must not pass for this one's.
            let _ = fs::remove_file(snapshot);
            viewer.arg("--snapshot").arg(snapshot);
        }
        if self.options.once {
            viewer.arg("--once");
        }
        self.start(Who::Viewer, viewer)?;
        let ready = self.wait_for_viewer()?;
        let mut caster = caster(&ready.text("ticket"));
        caster.args(["--source", "pattern", "--json"]);
        self.start(Who::Caster, &mut caster)?;
        if !self.options.once {
            self.story.tell_all();
            say(&format!("The viewer's page: {}   (Ctrl-C ends the demo)", ready.text("page")));
            return self.watch();
        }
        self.once()?;
        Ok(self.sum_up())
    }

    fn wait_for_viewer(&mut self) -> Result<Event, String> {
        let deadline = Instant::now() + START;
        loop {
            match self.turn(deadline) {
                Turn::Heard(Who::Viewer, event) if event.name == "ready" => return Ok(event),
                Turn::Heard(..) => {}
                Turn::Ended(who) => return Err(self.failure(who, "has ended too early")),
                Turn::Interrupted => return Err("interrupted".into()),
                Turn::TimeUp => return Err(self.failure(Who::Viewer, "gives no ticket")),
            }
        }
    }

    /// Until Ctrl-C. The caster's end is the cast's end, not the page's.
    fn watch(&mut self) -> Result<i32, String> {
        // Longer than any demo: `Instant` has no "never".
        let forever = Instant::now() + Duration::from_secs(365 * 86_400);
        loop {
            match self.turn(forever) {
                Turn::Ended(Who::Viewer) => return Err(self.failure(Who::Viewer, "has ended too early")),
                Turn::Ended(who @ (Who::Daemon | Who::Caster | Who::Bridge)) => {
                    self.story.step(who.name(), "has ended");
                    self.story.tell_all();
                    for line in self.process(who).map(|process| process.talk()).unwrap_or_default() {
                        say(&format!("    {line}"));
                    }
                }
                Turn::Heard(..) => {}
                Turn::Interrupted | Turn::TimeUp => break,
            }
        }
        self.running_down();
        Ok(self.sum_up())
    }

    /// `--once`: waits for the first picture, shows the cast for its time, and lets it end.
    fn once(&mut self) -> Result<(), String> {
        let mut deadline = Instant::now() + LINK;
        let mut casting = false;
        loop {
            if !casting && self.story.has_pictures() {
                casting = true;
                deadline = Instant::now() + self.options.duration;
            }
            match self.turn(deadline) {
                Turn::Heard(..) => {}
                Turn::TimeUp if casting => break,
                Turn::TimeUp => return Err(self.failure(Who::Caster, "has brought no picture to the viewer")),
                Turn::Ended(who) => return Err(self.failure(who, "has ended too early")),
                Turn::Interrupted => break,
            }
        }
        self.running_down();
        Ok(())
    }

    /// Ends the caster, and lets the viewer tell its last and write its snapshot.
    fn running_down(&mut self) {
        if let Some(caster) = self.process(Who::Caster) {
            caster.end();
        }
        if !self.options.once
            && let Some(viewer) = self.process(Who::Viewer)
        {
            viewer.end();
        }
        let deadline = Instant::now() + END;
        loop {
            match self.turn(deadline) {
                Turn::Ended(Who::Viewer) | Turn::TimeUp | Turn::Interrupted => break,
                Turn::Heard(..) | Turn::Ended(Who::Daemon | Who::Caster | Who::Bridge) => {}
            }
        }
        if let Some(viewer) = self.process(Who::Viewer) {
            viewer.end();
        }
    }

    /// Tells the summary; the exit code.
    fn sum_up(&mut self) -> i32 {
        self.story.tell_all();
        let snapshot = self.options.snapshot.as_deref();
        say("");
        say(&format!("After {:.1} s:", self.began.elapsed().as_secs_f64()));
        say(self.story.summary(snapshot).trim_end());
        i32::from(!self.story.succeeded(snapshot))
    }

    /// Why it cannot go on, with the last words of the program in question.
    fn failure(&mut self, who: Who, what: &str) -> String {
        self.story.tell_all();
        let mut text = format!("the {} {what}", who.name());
        let Some(process) = self.process(who) else { return text };
        process.end();
        for line in process.talk() {
            text.push_str("\n    ");
            text.push_str(&line);
        }
        text
    }
}

impl Drop for Show<'_> {
    fn drop(&mut self) {
        while let Some((_, process)) = self.running.pop() {
            drop(process);
        }
    }
}
