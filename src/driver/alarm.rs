//! Wakes a poll at a moment, to the microsecond: its own timeout counts milliseconds, and rounds up.

use mio::{Registry, Token};
use std::io;
use std::time::{Duration, Instant};

#[cfg(any(target_os = "linux", target_os = "android"))]
type Timer = rustix::fd::OwnedFd;

/// Where there is no such timer nothing wakes the poll, and it sleeps as long as it would have without.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
type Timer = ();

/// Has a timer from the first time that it is set.
#[derive(Default)]
pub(super) struct Alarm {
    timer: Option<Timer>,
    failed: bool,
    set_for: Option<Instant>,
}

impl Alarm {
    /// Makes `token` ready once at `at`, and no more at the moment that was set before. Where the system has no timer for
    /// it, nothing happens.
    pub(super) fn set(&mut self, at: Instant, now: Instant, registry: &Registry, token: Token) {
        if self.failed || self.set_for == Some(at) {
            return;
        }
        self.set_for = Some(at);
        if let Err(error) = self.try_set(at, now, registry, token) {
            self.failed = true;
            log::debug!("no alarm: {error}");
        }
    }

    fn try_set(&mut self, at: Instant, now: Instant, registry: &Registry, token: Token) -> io::Result<()> {
        let timer = match self.timer.take() {
            Some(timer) => timer,
            None => timer(registry, token)?,
        };
        // All zero would unset it.
        let time = at.saturating_duration_since(now).max(Duration::from_nanos(1));
        set(self.timer.insert(timer), time)
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn timer(registry: &Registry, token: Token) -> io::Result<Timer> {
    use rustix::fd::AsRawFd;
    use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
    registry.register(&mut mio::unix::SourceFd(&timer.as_raw_fd()), token, mio::Interest::READABLE)?;
    Ok(timer)
}

/// It is never read: each ring is an edge.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn set(timer: &Timer, time: Duration) -> io::Result<()> {
    use rustix::time::{Itimerspec, TimerfdTimerFlags, Timespec, timerfd_settime};
    let seconds = time.as_secs().try_into().unwrap_or(i64::MAX);
    let it_value = Timespec { tv_sec: seconds, tv_nsec: time.subsec_nanos().into() };
    let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
    timerfd_settime(timer, TimerfdTimerFlags::empty(), &Itimerspec { it_interval, it_value })?;
    Ok(())
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn timer(_registry: &Registry, _token: Token) -> io::Result<Timer> {
    Ok(())
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn set((): &Timer, _time: Duration) -> io::Result<()> {
    Ok(())
}
