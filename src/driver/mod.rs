//! The one room that knows sockets and clocks: drives an [`App`] with mio.
//!
//! A [`Driver`] owns one application, one poll and every socket. It decides nothing: it carries out
//! [`NetOp`](crate::app::NetOp)s and feeds [`Input`]s, one at a time, with a complete drain of the application's outputs after each.
//!
//! # One turn
//!
//! In this order, and back to the start after each single change of the application:
//!
//! 1. outputs, until the application has none; then what they sent is written, each connection's in one go;
//! 2. what was read beside bytes that are in their place; then inputs that carrying out those outputs produced (`Listening`,
//!    `ConnectFailed`, `Backlogged`, …);
//! 3. the application's timer and the driver's own (flush deadlines, accept retries);
//! 4. one step of one ready socket: one accept, one read of at most [`READ_SIZE`] (and what is beside it), or one
//!    write;
//! 5. after each lap of the ready sockets: `poll`, and one message from other threads, or up to sixteen where no socket
//!    is ready; waiting, when nothing of the above is left. While the application expects something
//!    ([`App::poll_expected`]) it rehearses once, and then does not sleep, but gives way.
//!
//! Sockets are registered edge-triggered for reading and writing at once and stay in a queue of ready ones until
//! they would block (or, where that tells the same, a read brings less than it may). A lap is as many steps as were ready at its start, so neither a busy socket nor a busy thread
//! can starve the others.

mod alarm;
mod handshakes;
mod interfaces;
mod own_line;
mod rehearsals;
mod socket;
mod sockets;
mod way;

pub use interfaces::local_addresses;
pub use socket::is_taken;

use crate::app::{App, Input, Output};
use rehearsals::Rehearsals;
use sockets::{Arrival, Sockets};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::time::Instant;

/// How much one read takes at most, in bytes: two of the largest packets that a kernel gathers, and so a picture of 100 kB in
/// one call.
pub const READ_SIZE: usize = 128 * 1024;

/// How many messages of other threads are taken before the sockets are polled again, though none of those known is ready.
const MESSAGES: u32 = 16;

/// The present, for programs that create an application. Cores are given it.
#[must_use]
#[allow(clippy::disallowed_methods)] // The driver is where time comes from.
pub fn now() -> Instant {
    Instant::now()
}

/// Why [`Driver::run`] returned.
#[derive(Debug)]
pub enum Step<N> {
    /// The application has something to tell; call `run` again afterwards.
    Notice(N),
    /// The application is done and everything is flushed.
    Exit,
}

enum Command<M> {
    Message(M),
    Interrupt,
}

/// Speaks to a running [`Driver`] from other threads.
#[derive(Debug)]
pub struct Handle<M> {
    sender: Sender<Command<M>>,
    waker: Arc<mio::Waker>,
}

impl<M> Clone for Handle<M> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone(), waker: Arc::clone(&self.waker) }
    }
}

impl<M> Handle<M> {
    /// Passes `message` to the application; `false` when the driver is gone.
    pub fn send(&self, message: M) -> bool {
        self.command(Command::Message(message))
    }

    /// Feeds [`Input::Interrupted`]; `false` when the driver is gone.
    pub fn interrupt(&self) -> bool {
        self.command(Command::Interrupt)
    }

    fn command(&self, command: Command<M>) -> bool {
        self.sender.send(command).is_ok() && self.waker.wake().is_ok()
    }
}

type Deadline = Option<(Instant, &'static str)>;

/// One application on real sockets.
pub struct Driver<A: App> {
    app: A,
    sockets: Sockets,
    inbox: Receiver<Command<A::Message>>,
    handle: Handle<A::Message>,
    buffer: Vec<u8>,
    /// When the application wants its timer; `None` after a change, until it is asked.
    deadline: Option<Deadline>,
    /// Steps left in this lap of the ready sockets.
    lap: usize,
    /// Messages since the sockets were polled.
    messages: u32,
    rehearsals: Rehearsals,
    exiting: bool,
}

impl<A: App> Driver<A> {
    /// Takes over `app`.
    ///
    /// # Errors
    ///
    /// When the system gives no poll or waker.
    pub fn new(app: A) -> io::Result<Self> {
        let (sockets, waker) = Sockets::new()?;
        let (sender, inbox) = channel();
        let handle = Handle { sender, waker: Arc::new(waker) };
        let buffer = vec![0; READ_SIZE];
        Ok(Self {
            app,
            sockets,
            inbox,
            handle,
            buffer,
            deadline: None,
            lap: 0,
            messages: 0,
            rehearsals: Rehearsals::default(),
            exiting: false,
        })
    }

    /// A handle for other threads.
    #[must_use]
    pub fn handle(&self) -> Handle<A::Message> {
        self.handle.clone()
    }

    /// The application.
    #[must_use]
    pub const fn app(&self) -> &A {
        &self.app
    }

    /// The application, for one change; [`run`](Self::run) drains it before anything else.
    pub const fn app_mut(&mut self) -> &mut A {
        self.deadline = None;
        &mut self.app
    }

    /// Runs until the application has a notice or is done.
    ///
    /// # Errors
    ///
    /// When polling fails; errors of single sockets go to the application.
    pub fn run(&mut self) -> io::Result<Step<A::Notice>> {
        loop {
            while let Some(output) = self.app.poll_output() {
                match output {
                    Output::Net(op) => self.sockets.carry_out(op, now()),
                    Output::Notice(notice) => {
                        // What the program does with it takes its time.
                        self.sockets.flush();
                        return Ok(Step::Notice(notice));
                    }
                    Output::Exit => {
                        self.exiting = true;
                        self.sockets.end_all(now());
                    }
                }
            }
            self.sockets.flush();
            if self.exiting {
                self.sockets.step_flushing(&mut self.app, now());
                if self.sockets.is_idle() {
                    return Ok(Step::Exit);
                }
                if self.sockets.has_work() {
                    self.sockets.poll_now()?;
                } else {
                    self.sockets.wait(None, now())?;
                }
                continue;
            }
            self.change()?;
        }
    }

    /// Makes one change to the application, waiting for a cause if need be.
    fn change(&mut self) -> io::Result<()> {
        let waiting = self.sockets.take_buffered(&self.buffer).or_else(|| self.sockets.next_pending());
        if let Some(input) = waiting {
            feed(&mut self.app, &mut self.deadline, now(), Arrival::Input(input));
            return Ok(());
        }
        let now = now();
        let deadline = *self.deadline.get_or_insert_with(|| self.app.poll_timeout());
        if let Some((at, why)) = deadline
            && at <= now
        {
            log::trace!("timeout reason={why:?}");
            self.deadline = None;
            self.app.handle_timeout(now);
            return Ok(());
        }
        self.sockets.handle_timeout(now);
        if let Some(arrival) = self.sockets.step_ready(&mut self.lap, &mut self.buffer, &mut self.app, now) {
            feed(&mut self.app, &mut self.deadline, now, arrival);
            return Ok(());
        }
        if self.sockets.has_work() || self.messages >= MESSAGES {
            self.messages = 0;
            self.sockets.poll_now()?;
        }
        self.lap = self.sockets.ready();
        match self.inbox.try_recv() {
            Ok(Command::Message(message)) => {
                self.messages += 1;
                self.deadline = None;
                self.app.handle_message(now, message);
                return Ok(());
            }
            Ok(Command::Interrupt) => {
                feed(&mut self.app, &mut self.deadline, now, Arrival::Input(Input::Interrupted));
                return Ok(());
            }
            // The driver holds a sender itself, so the inbox is never disconnected.
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => {}
        }
        if self.sockets.has_work() {
            return Ok(());
        }
        self.wait(deadline, now)?;
        self.lap = self.sockets.ready();
        Ok(())
    }

    /// Waits for a cause of a change; awake, within a window.
    fn wait(&mut self, deadline: Deadline, now: Instant) -> io::Result<()> {
        if self.sockets.way.is_free(now)
            && let Some(window) = self.app.poll_expected(now)
        {
            if self.rehearsals.is_due(window, now) {
                self.deadline = None;
                if self.rehearsals.hold(&mut self.app, window) {
                    self.sockets.way.found_busy(now);
                }
                return self.sockets.poll_now();
            }
            if window.from <= now {
                self.sockets.way.give();
                return self.sockets.poll_now();
            }
            self.sockets.wake_at(window.from, now);
        }
        self.sockets.wait(deadline.map(|(at, _)| at), now)
    }
}

/// Makes an arrival a change of the application, after which its timer is asked for anew.
fn feed<A: App>(app: &mut A, deadline: &mut Option<Deadline>, now: Instant, arrival: Arrival<'_>) {
    *deadline = None;
    match arrival {
        Arrival::Input(input) => {
            log::trace!("input {}", Brief(&input));
            app.handle_input(now, input);
        }
        Arrival::Placed(conn, count) => {
            log::trace!("input placed conn={conn} bytes={count}");
            app.handle_placed(now, conn, count);
        }
    }
}

/// An input without its bytes, for the log.
struct Brief<'a, 'b>(&'a Input<'b>);

impl std::fmt::Display for Brief<'_, '_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Input::Received { conn, bytes } = self.0 {
            write!(f, "received conn={conn} bytes={}", bytes.len())
        } else {
            write!(f, "{:?}", self.0)
        }
    }
}

#[cfg(test)]
mod tests;
