//! How much picture this machine can make: content mode, frame rate and size, by what frames have taken.
//!
//! ```text
//!   screen content     screen content     camera            screen content
//!   at full rate   ──▶ 15 a second    ──▶ 15 a second   ──▶ half the size, full rate ──▶ …
//!                  ◀──                ◀──               ◀──    a step back up when it would fit
//! ```
//!
//! Camera mode comes after the frame rate: it takes less time for photographs and films, but for text that scrolls it
//! takes twenty times the bits, and with them more time than it saves.
//!
//! A step down is made when frames take more than [`SHARE`] of their interval, or when camera mode has no bits for most
//! of them, and back up when they would take less
//! than [`SHARE_UP`] of it there. A step up that had to be taken back makes the next try wait longer.

use crate::source::encoder::Content;
use std::fmt;
use std::time::{Duration, Instant};

/// The share of a frame's interval that making it may take, by the clock. The rest is for frames that take longer than
/// others.
const SHARE: f64 = 0.75;

/// The share that a frame is to take at most after a step up: well below [`SHARE`], as what it takes is foretold.
const SHARE_UP: f64 = 0.55;

/// Frames to judge by: the first after a step is a keyframe, which takes longer.
const JUDGED: u32 = 15;

/// The weight of the newest frame in the mean.
const NEWEST: f64 = 1.0 / 8.0;

/// The frame rate that is not lowered further.
const LEAST_FPS: u32 = 15;

/// How often the size may be halved: a quarter of 1080p is still a picture.
const MAX_HALVINGS: u32 = 2;

/// The wait before a step up, and the longest that failures make it.
const PATIENCE: Duration = Duration::from_secs(5);
const MAX_PATIENCE: Duration = Duration::from_secs(300);

/// What screen content mode takes, by measurement, where camera mode takes 1.
const SCREEN_COST: f64 = 1.6;

/// How to make pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) content: Content,
    pub(super) fps: u32,
    /// How often the size is halved.
    pub(super) halvings: u32,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { content, fps, halvings } = self;
        write!(f, "{content:?} mode, {fps} a second, size halved {halvings} times")
    }
}

impl Step {
    /// The work of a frame, as a multiple of one in camera mode at full size.
    fn cost(self) -> f64 {
        let content = match self.content {
            Content::Screen => SCREEN_COST,
            Content::Camera => 1.0,
        };
        content / f64::from(1_u32 << (2 * self.halvings))
    }

    fn interval(self) -> f64 {
        1.0 / f64::from(self.fps)
    }
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Pace {
    /// The most work first.
    steps: Vec<Step>,
    at: usize,
    /// Seconds that a frame takes here.
    mean: f64,
    judged: u32,
    /// How many of them the bitrate had no room for.
    unfit: u32,
    since: Instant,
    went_up: bool,
    patience: Duration,
}

impl Pace {
    pub(super) fn new(fps: u32, now: Instant) -> Self {
        Self {
            steps: ladder(fps),
            at: 0,
            mean: 0.0,
            judged: 0,
            unfit: 0,
            since: now,
            went_up: false,
            patience: PATIENCE,
        }
    }

    pub(super) fn step(&self) -> Step {
        self.steps[self.at]
    }

    /// What frames have taken at the step before this one.
    pub(super) fn judged_by(&self) -> Duration {
        Duration::from_secs_f64(self.mean)
    }

    /// Takes what a frame took, up to `now`, and whether the bitrate had room for it; whether the step has changed.
    pub(super) fn took(&mut self, cost: Duration, fit: bool, now: Instant) -> bool {
        let cost = cost.as_secs_f64();
        self.unfit += u32::from(!fit);
        self.mean = if self.judged == 0 { cost } else { self.mean + (cost - self.mean) * NEWEST };
        self.judged += 1;
        if self.judged < JUDGED {
            return false;
        }
        let step = self.step();
        let bloated = step.content == Content::Camera && self.unfit * 2 > self.judged;
        if (bloated || self.mean > SHARE * step.interval()) && self.at + 1 < self.steps.len() {
            self.patience = if self.went_up { (self.patience * 2).min(MAX_PATIENCE) } else { PATIENCE };
            self.change(self.at + 1, false, now);
            return true;
        }
        let Some(above) = self.at.checked_sub(1) else { return false };
        let up = self.steps[above];
        let foretold = self.mean * up.cost() / step.cost();
        let waited = now.saturating_duration_since(self.since) >= self.patience;
        if waited && foretold < SHARE_UP * up.interval() {
            self.change(above, true, now);
            return true;
        }
        false
    }

    fn change(&mut self, to: usize, up: bool, now: Instant) {
        (self.at, self.went_up, self.since) = (to, up, now);
        (self.judged, self.unfit) = (0, 0);
    }
}

/// Every step from full rate and size, each less work than the one before.
fn ladder(fps: u32) -> Vec<Step> {
    let rates: Vec<u32> =
        std::iter::successors(Some(fps), |fps| (*fps > LEAST_FPS).then(|| (fps / 2).max(LEAST_FPS)))
            .collect();
    let least = fps.min(LEAST_FPS);
    let mut steps: Vec<Step> = Vec::new();
    for halvings in 0..=MAX_HALVINGS {
        let screen = rates.iter().map(|fps| Step { content: Content::Screen, fps: *fps, halvings });
        for step in screen.chain([Step { content: Content::Camera, fps: least, halvings }]) {
            let work = |step: &Step| step.cost() / step.interval();
            if steps.last().is_none_or(|last| work(&step) < work(last)) {
                steps.push(step);
            }
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::control::now;

    /// A machine that takes `camera` for a frame of full size in camera mode; what the pace is after `seconds`.
    fn run(pace: &mut Pace, at: &mut Instant, camera: Duration, seconds: u32) -> Step {
        let end = *at + Duration::from_secs(seconds.into());
        while *at < end {
            let step = pace.step();
            *at += Duration::from_secs_f64(step.interval());
            pace.took(camera.mul_f64(step.cost()), true, *at);
        }
        pace.step()
    }

    #[test]
    fn a_machine_that_is_fast_enough_is_left_alone() {
        let mut at = now();
        let mut pace = Pace::new(30, at);
        let step = run(&mut pace, &mut at, Duration::from_millis(10), 600);
        assert_eq!(step, Step { content: Content::Screen, fps: 30, halvings: 0 });
    }

    #[test]
    fn a_slow_machine_gives_up_rate_then_content_mode_then_size() {
        let step = |content, fps, halvings| Step { content, fps, halvings };
        for (camera, expected) in [
            (18, step(Content::Screen, 15, 0)),
            (24, step(Content::Screen, 15, 0)),
            (40, step(Content::Camera, 15, 0)),
            (54, step(Content::Screen, 30, 1)),
            (90, step(Content::Screen, 15, 1)),
            (10_000, step(Content::Camera, 15, 2)),
        ] {
            let mut at = now();
            let mut pace = Pace::new(30, at);
            assert_eq!(run(&mut pace, &mut at, Duration::from_millis(camera), 20), expected, "{camera} ms");
        }
    }

    #[test]
    fn camera_mode_is_left_when_it_has_no_bits_for_what_is_shown() {
        let mut at = now();
        let mut pace = Pace::new(15, at);
        let mut cast = |pace: &mut Pace, camera_ms, frames| {
            for _ in 0..frames {
                let step = pace.step();
                at += Duration::from_secs_f64(step.interval());
                let fit = step.content == Content::Screen;
                pace.took(Duration::from_millis(camera_ms).mul_f64(step.cost()), fit, at);
            }
        };
        cast(&mut pace, 40, JUDGED);
        assert_eq!(pace.step(), Step { content: Content::Camera, fps: 15, halvings: 0 });
        cast(&mut pace, 40, JUDGED);
        assert_eq!(pace.step(), Step { content: Content::Screen, fps: 15, halvings: 1 });
    }

    #[test]
    fn it_goes_back_up_when_the_machine_is_free_again() {
        let mut at = now();
        let mut pace = Pace::new(60, at);
        run(&mut pace, &mut at, Duration::from_millis(100), 20);
        assert!(pace.step().halvings > 0);
        let step = run(&mut pace, &mut at, Duration::from_millis(3), 60);
        assert_eq!(step, Step { content: Content::Screen, fps: 60, halvings: 0 });
    }

    #[test]
    fn steps_up_that_fail_become_rare() {
        let mut at = now();
        let mut pace = Pace::new(30, at);
        let mut ups = 0;
        let end = at + Duration::from_secs(3600);
        while at < end {
            let step = pace.step();
            at += Duration::from_secs_f64(step.interval());
            // The full rate costs more here than foretold.
            let cost = if step.fps == 30 { 30 } else { 8 };
            if pace.took(Duration::from_millis(cost), true, at) && pace.step().fps == 30 {
                ups += 1;
            }
        }
        assert!((1..20).contains(&ups), "{ups} in an hour");
    }

    #[test]
    fn every_step_is_less_work() {
        for fps in [1, 10, 15, 24, 30, 60, 120] {
            let steps = ladder(fps);
            assert_eq!(steps[0], Step { content: Content::Screen, fps, halvings: 0 });
            assert!(steps.iter().all(|step| step.fps == fps || step.fps >= LEAST_FPS));
        }
    }
}
