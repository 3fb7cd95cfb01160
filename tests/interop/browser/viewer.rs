//! A viewer's application with nothing but a page in it, fed with a recorded stream at its own pace.

use punchcast::app::{App, Input, Output, Room, soonest};
use punchcast::driver::{Driver, Handle, Step, now};
use punchcast::media::Unit;
use punchcast_client::page::{Page, PageConfig, PageEvent, PageOutput, Status};
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What the test tells the application.
pub(crate) enum Cue {
    /// Play the units in a loop, from the first.
    Play(Vec<Unit>),
    /// End the stream.
    Stop,
    /// Show this.
    Status(Status),
}

/// What the application tells the test.
#[derive(Debug)]
pub(crate) enum Notice {
    /// The page is served here.
    Listening(SocketAddr),
    /// A browser asked for a key frame.
    KeyframeWanted(usize),
}

struct ViewerPage {
    page: Page,
    units: Vec<Unit>,
    next: usize,
    began: Option<Instant>,
    /// What the loop adds to the recorded timestamps.
    offset: u32,
    ending: bool,
}

impl ViewerPage {
    fn due(&self) -> Option<Instant> {
        let unit = self.units.get(self.next)?;
        Some(self.began? + Duration::from_millis(u64::from(self.offset + unit.timestamp)))
    }

    fn play(&mut self, now: Instant) {
        while self.due().is_some_and(|due| due <= now) {
            let mut unit = self.units[self.next].clone();
            unit.timestamp += self.offset;
            self.page.publish(now, 0, &unit);
            self.next += 1;
            if self.next == self.units.len() {
                // The last picture stands as long as one at 30 a second.
                self.offset = unit.timestamp + 33;
                self.next = 0;
                // A live stream says only once how it is to be decoded.
                self.units.retain(|unit| !unit.is_sequence_header());
            }
        }
    }
}

impl App for ViewerPage {
    type Message = Cue;
    type Notice = Notice;

    fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        self.ending |= matches!(input, Input::Interrupted);
        self.page.handle_input(now, input);
    }

    fn handle_message(&mut self, now: Instant, cue: Cue) {
        match cue {
            Cue::Play(units) => {
                self.units = units;
                (self.next, self.offset, self.began) = (0, 0, Some(now));
                self.page.stream_started(now, 0);
                self.play(now);
            }
            Cue::Stop => {
                self.units.clear();
                self.page.stream_ended(now, 0);
            }
            Cue::Status(status) => self.page.status(now, status),
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.play(now);
        self.page.handle_timeout(now);
    }

    fn poll_output(&mut self) -> Option<Output<Notice>> {
        if let Some(output) = self.page.poll_output() {
            return Some(match output {
                PageOutput::Net(op) => Output::Net(op),
                PageOutput::Event(PageEvent::Listening { local }) => Output::Notice(Notice::Listening(local)),
                PageOutput::Event(PageEvent::KeyframeWanted { cast }) => {
                    Output::Notice(Notice::KeyframeWanted(cast))
                }
                PageOutput::Event(PageEvent::ListenFailed { addr, error }) => panic!("{addr}: {error}"),
            });
        }
        std::mem::take(&mut self.ending).then_some(Output::Exit)
    }

    fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        soonest(self.page.poll_timeout(), self.due().map(|due| (due, "next unit")))
    }
}

/// The application on a driver of its own thread; ends when dropped.
pub(crate) struct Viewer {
    handle: Handle<Cue>,
    thread: Option<JoinHandle<()>>,
    pub(crate) notices: Receiver<Notice>,
    pub(crate) local: SocketAddr,
}

impl Viewer {
    /// Serves a page for `ticket` on a free port of loopback, or of `addr`.
    pub(crate) fn start(addr: SocketAddr, ticket: &str) -> Self {
        let config =
            PageConfig { addr, ticket_link: ticket.to_owned(), token: None, seed: fastrand::u64(..) };
        let page = Page::new(Room(1), config);
        let app = ViewerPage { page, units: Vec::new(), next: 0, began: None, offset: 0, ending: false };
        let mut driver = Driver::new(app).expect("a driver");
        let handle = driver.handle();
        let (sender, notices) = channel();
        let thread = std::thread::spawn(move || {
            while let Step::Notice(notice) = driver.run().expect("the driver runs") {
                // Who does not listen any more does not mind.
                let _ = sender.send(notice);
            }
        });
        let first = notices.recv_timeout(super::chromium::PATIENCE).expect("the page listens");
        let Notice::Listening(local) = first else { panic!("{first:?} before listening") };
        Self { handle, thread: Some(thread), notices, local }
    }

    /// Tells the application.
    pub(crate) fn cue(&self, cue: Cue) {
        assert!(self.handle.send(cue), "the viewer is gone");
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        self.handle.interrupt();
        if let Some(thread) = self.thread.take() {
            // A panic in there has been printed; a second one here would hide it.
            let _ = thread.join();
        }
    }
}

/// The clock, for the tests' own deadlines.
pub(crate) fn present() -> Instant {
    now()
}
