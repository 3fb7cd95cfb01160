//! A caster's application with nothing but the sharing page in it, and the test in the place of its links.

use crate::browser::chromium::PATIENCE;
use punchcast::app::{App, Input, Output, Room};
use punchcast::driver::{Driver, Handle, Step};
use punchcast::media::{Unit, avc};
use punchcast_client::notice;
use punchcast_client::page::PageToken;
use punchcast_client::share::{Encoding, Share, ShareConfig, ShareEvent, ShareOutput};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::Instant;

/// What a link would say.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cue {
    /// It takes nothing, or something again.
    Hold(bool),
    /// It carries so many bits a second.
    Bitrate(u32),
    /// It needs a key frame.
    Keyframe,
    /// Nothing more comes of the cast.
    Over,
}

enum Notice {
    Link(String),
    Unit(Unit),
}

struct Caster {
    share: Share,
    ending: bool,
}

impl App for Caster {
    type Message = Cue;
    type Notice = Notice;

    fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        self.ending |= matches!(input, Input::Interrupted);
        self.share.handle_input(now, input);
    }

    fn handle_message(&mut self, _now: Instant, cue: Cue) {
        match cue {
            Cue::Hold(hold) => {
                self.share.set_hold(hold);
            }
            Cue::Bitrate(bitrate) => {
                self.share.set_bitrate(bitrate);
            }
            Cue::Keyframe => self.share.want_keyframe(),
            Cue::Over => self.share.finish(&notice::Notice::End { ok: true, reason: String::new() }),
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.share.handle_timeout(now);
    }

    fn poll_output(&mut self) -> Option<Output<Notice>> {
        while let Some(output) = self.share.poll_output() {
            match output {
                ShareOutput::Net(op) => return Some(Output::Net(op)),
                ShareOutput::Event(ShareEvent::Listening { local }) => {
                    return Some(Output::Notice(Notice::Link(self.share.link(local))));
                }
                ShareOutput::Event(ShareEvent::Media(unit, _)) => {
                    return Some(Output::Notice(Notice::Unit(unit)));
                }
                ShareOutput::Event(ShareEvent::Started | ShareEvent::Stopped) => {}
                ShareOutput::Event(ShareEvent::ListenFailed { addr, error }) => panic!("{addr}: {error}"),
            }
        }
        std::mem::take(&mut self.ending).then_some(Output::Exit)
    }

    fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        self.share.poll_timeout()
    }
}

/// The application on a driver of its own thread; ends when dropped.
pub(crate) struct SharePage {
    handle: Handle<Cue>,
    thread: Option<JoinHandle<()>>,
    units: Receiver<Unit>,
    pub(crate) link: String,
}

impl SharePage {
    /// Serves the page, held.
    pub(crate) fn start() -> Self {
        let config = ShareConfig {
            addr: "127.0.0.1:0".parse().expect("an address"),
            token: PageToken::new([7; 16]),
            encoding: Encoding::default(),
        };
        let app = Caster { share: Share::new(Room(1), config, 1), ending: false };
        let mut driver = Driver::new(app).expect("a driver");
        let handle = driver.handle();
        let (links, link) = channel();
        let (sender, units) = channel();
        let thread = std::thread::spawn(move || {
            while let Step::Notice(notice) = driver.run().expect("the driver runs") {
                // Who does not listen any more does not mind.
                match notice {
                    Notice::Link(link) => drop(links.send(link)),
                    Notice::Unit(unit) => drop(sender.send(unit)),
                }
            }
        });
        let link = link.recv_timeout(PATIENCE).expect("the page listens");
        Self { handle, thread: Some(thread), units, link }
    }

    /// Says what a link would.
    pub(crate) fn cue(&self, cue: Cue) {
        assert!(self.handle.send(cue), "the page is gone");
    }

    /// Forgets the units so far.
    pub(crate) fn forget(&self) {
        self.units.try_iter().for_each(drop);
    }

    /// The next picture.
    pub(crate) fn next_picture(&self) -> Unit {
        loop {
            let unit = self.units.recv_timeout(PATIENCE).expect("a picture");
            if avc::is_picture(&unit) {
                return unit;
            }
        }
    }
}

impl Drop for SharePage {
    fn drop(&mut self) {
        self.handle.interrupt();
        if let Some(thread) = self.thread.take() {
            // A panic in there has been printed; a second one here would hide it.
            let _ = thread.join();
        }
    }
}
