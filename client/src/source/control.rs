//! The handle on a source's thread, and the only clock that sources read.
//!
//! What the link can carry reaches a source by two wishes: a *hold*, while it takes nothing, and a *bitrate*. A source
//! that encodes follows both before it captures, so that no picture is encoded that cannot be sent.

#![allow(clippy::disallowed_methods, reason = "a source is at the program's edge: it paces what it emits")]

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// Stops a source and asks it for keyframes; clones control the same source.
#[derive(Clone, Debug, Default)]
pub struct Control(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    stopped: bool,
    keyframe: bool,
    held: bool,
    bitrate: Option<u32>,
}

impl Control {
    /// A handle for one source.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends the source: it emits nothing more, and its thread ends without waiting for the next frame's time.
    pub fn stop(&self) {
        self.state().stopped = true;
        self.0.changed.notify_all();
    }

    /// Whether [`Control::stop`] was called.
    #[must_use]
    pub fn stopped(&self) -> bool {
        self.state().stopped
    }

    /// Asks for a keyframe as the next frame. Requests made before that frame count once; a source that does not
    /// encode (a file) cannot follow.
    pub fn request_keyframe(&self) {
        self.state().keyframe = true;
    }

    /// Whether a keyframe was asked for since the last call.
    pub(super) fn take_keyframe_request(&self) -> bool {
        std::mem::take(&mut self.state().keyframe)
    }

    /// While held, a source neither captures nor encodes: the link takes nothing. On release it encodes the newest
    /// picture at once. A source that does not encode (a file) cannot follow.
    pub fn set_hold(&self, hold: bool) {
        self.state().held = hold;
        self.0.changed.notify_all();
    }

    /// Asks an encoding source to aim at so many bits per second, or at its configured rate if that is less.
    pub fn set_bitrate(&self, bits_per_second: u32) {
        self.state().bitrate = Some(bits_per_second);
    }

    /// The bitrate that was last asked for, bits per second.
    pub(super) fn bitrate(&self) -> Option<u32> {
        self.state().bitrate
    }

    /// Whether the source is held.
    pub(super) fn held(&self) -> bool {
        self.state().held
    }

    /// Waits for the end of a hold; `false` when the source was stopped.
    pub(super) fn wait_for_release(&self) -> bool {
        let mut state = self.state();
        while state.held && !state.stopped {
            state = self.0.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        !state.stopped
    }

    /// Waits for `deadline`; `false` when the source was stopped, whether or not the deadline has passed.
    pub(super) fn wait_until(&self, deadline: Instant) -> bool {
        let mut state = self.state();
        while !state.stopped {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            state = self.0.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        false
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The state is plain values: a thread that panicked cannot have left it half changed.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The time to pace by.
pub(super) fn now() -> Instant {
    Instant::now()
}

/// The time of day, since the Unix epoch (UTC).
pub(super) fn wall_clock() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_ends_a_wait_before_its_deadline() {
        let control = Control::new();
        let stopper = control.clone();
        let thread = std::thread::spawn(move || stopper.stop());
        // Were the stop not to end it, the test would take an hour.
        assert!(!control.wait_until(now() + Duration::from_secs(3600)));
        assert!(!control.wait_until(now()), "a stopped source does not go on though its time has come");
        thread.join().unwrap();
    }

    #[test]
    fn a_hold_ends_by_its_release_or_by_a_stop() {
        for stop in [false, true] {
            let control = Control::new();
            control.set_hold(true);
            let other = control.clone();
            let thread = std::thread::spawn(move || if stop { other.stop() } else { other.set_hold(false) });
            assert_eq!(control.wait_for_release(), !stop);
            thread.join().unwrap();
        }
    }

    #[test]
    fn requests_for_a_keyframe_count_once() {
        let control = Control::new();
        control.request_keyframe();
        control.request_keyframe();
        assert!(control.take_keyframe_request());
        assert!(!control.take_keyframe_request());
    }
}
