//! A viewer's application with nothing but a page in it, fed with a recorded stream at its own pace.

use punchcast::app::{App, Input, Output, Room, soonest};
use punchcast::driver::{Driver, Handle, Step, now};
use punchcast::media::Unit;
use punchcast_client::page::{Page, PageConfig, PageEvent, PageOutput, Status};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What the test tells the application.
pub(crate) enum Cue {
    /// Play the units in a loop, from the first, as the cast at a place.
    Play(usize, Vec<Unit>),
    /// End the stream at a place.
    Stop(usize),
    /// Empty a place.
    Gone(usize),
    /// Show this.
    Status(Status),
}

/// What the application tells the test.
#[derive(Debug)]
pub(crate) enum Notice {
    /// The page is served here.
    Listening(SocketAddr),
    /// A browser asked for a key frame of the cast at a place.
    KeyframeWanted(usize),
}

struct ViewerPage {
    page: Page,
    casts: BTreeMap<usize, Playing>,
    ending: bool,
}

/// A recorded stream that plays in a loop.
struct Playing {
    units: Vec<Unit>,
    next: usize,
    began: Instant,
    /// What the loop adds to the recorded timestamps.
    offset: u32,
}

impl Playing {
    fn due(&self) -> Option<Instant> {
        let unit = self.units.get(self.next)?;
        Some(self.began + Duration::from_millis(u64::from(self.offset + unit.timestamp)))
    }

    /// The next unit that is due.
    fn take(&mut self, now: Instant) -> Option<Unit> {
        self.due().filter(|due| *due <= now)?;
        let mut unit = self.units[self.next].clone();
        unit.timestamp += self.offset;
        self.next += 1;
        if self.next == self.units.len() {
            // The last picture stands as long as one at 30 a second.
            self.offset = unit.timestamp + 33;
            self.next = 0;
            // A live stream says only once how it is to be decoded.
            self.units.retain(|unit| !unit.is_sequence_header());
        }
        Some(unit)
    }
}

impl ViewerPage {
    fn play(&mut self, now: Instant) {
        for (&place, playing) in &mut self.casts {
            while let Some(unit) = playing.take(now) {
                self.page.publish(now, place, &unit);
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
            Cue::Play(place, units) => {
                self.casts.insert(place, Playing { units, next: 0, began: now, offset: 0 });
                self.page.stream_started(now, place);
                self.play(now);
            }
            Cue::Stop(place) => {
                self.casts.remove(&place);
                self.page.stream_ended(now, place);
            }
            Cue::Gone(place) => {
                self.casts.remove(&place);
                self.page.cast_gone(now, place);
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
        let due = self.casts.values().filter_map(Playing::due).min();
        soonest(self.page.poll_timeout(), due.map(|due| (due, "next unit")))
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
        let (ticket_link, seed) = (ticket.to_owned(), fastrand::u64(..));
        let config = PageConfig { addr, ticket_link, token: None, casts: 4, seed };
        let page = Page::new(Room(1), config);
        let app = ViewerPage { page, casts: BTreeMap::new(), ending: false };
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
