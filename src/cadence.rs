//! When the next picture of a stream comes, as far as those before it tell.
//!
//! A program that sleeps from picture to picture is woken late (a core that idles takes 30 to 80 µs to run again) and finds
//! its code out of the caches. One that is awake when the picture comes, and has just [rehearsed](crate::app::App::rehearse) what to do
//! with it, passes it on in a fraction of that. [`Cadence`] tells when to be awake, if that can be known closely enough to
//! cost little: pictures that come as irregularly as most networks carry them are not waited for.

use std::time::{Duration, Instant};

/// A stretch of time in which something is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its begin.
    pub from: Instant,
    /// The earliest that it may come.
    pub earliest: Instant,
    /// Its end, if nothing has come.
    pub until: Instant,
}

impl Window {
    /// The one of the two that begins first.
    #[must_use]
    pub fn first(a: Option<Self>, b: Option<Self>) -> Option<Self> {
        a.into_iter().chain(b).min_by_key(|window| window.from)
    }
}

/// How long before the earliest picture to be awake. A core that slept for a picture's time wakes up to 100 µs after its alarm,
/// or 200 where caster and viewer wake on one machine, and the rehearsal takes 120.
const LEAD: Duration = Duration::from_micros(350);

/// The lead may be this part of the time from picture to picture at most, and so 5% of a core: up to 140 pictures a second.
const LEAD_PART: u32 = 20;

/// The time in which a picture may come, early or late, may be this part of the time from picture to picture at most: another
/// 4% of a core where none ever comes in time, and half of that where they do. With less it may never begin: who sleeps wakes
/// by up to 200 µs too late, now more, now less, and takes that for the pictures' irregularity.
const SPREAD_PART: u32 = 24;

/// And not longer than what being awake saves is worth, however rare the pictures are. Those of 24 a second may deviate by 150 µs
/// in the mean.
const LONGEST_SPREAD: Duration = Duration::from_micros(900);

/// Mean deviations before and after the expected moment. With a normal distribution 98% are within.
const SPREAD: f64 = 3.0;

/// Pictures that may be missing before the next one begins anew.
const MISSING: f64 = 3.0;

// A loop of the second order, critically damped (PERIOD = PHASE² / 4): it follows a clock that differs from ours without a
// lasting error, and takes a second's pictures to settle.
const PHASE: f64 = 0.25;
const PERIOD: f64 = PHASE * PHASE / 4.0;

/// As slow as RFC 6298's mean is with round trips, halved: a picture that comes late for once is no reason to sleep.
const DEVIATION: f64 = 1.0 / 16.0;

/// Pictures on the grid before the next one is waited for.
const ENOUGH: u32 = 10;

/// The grid on which the pictures of one stream come. Times are in seconds.
#[derive(Clone, Copy, Debug)]
struct Grid {
    /// Where on the grid the last picture is; when it came is that and an error.
    latest: Instant,
    period: f64,
    deviation: f64,
    /// How many pictures came since it began.
    count: u32,
    /// Whether the last step was longer than one period.
    gap: bool,
}

/// Follows the pictures of one stream.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cadence {
    latest: Option<Instant>,
    grid: Option<Grid>,
}

impl Cadence {
    /// A picture came.
    pub fn picture(&mut self, now: Instant) {
        let before = self.latest.replace(now);
        self.grid = match (self.grid, before) {
            (Some(grid), Some(before)) => grid.next(now).or_else(|| Grid::begin(before, now)),
            (None, Some(before)) => Grid::begin(before, now),
            (_, None) => None,
        };
    }

    /// When the next picture is expected; `None` where that is not known closely enough, or has passed.
    #[must_use]
    pub fn window(&self, now: Instant) -> Option<Window> {
        let Grid { latest, period, deviation, .. } = self.grid.filter(|grid| grid.count >= ENOUGH)?;
        let spread = Duration::from_secs_f64(SPREAD * deviation);
        let period = Duration::from_secs_f64(period);
        let at = latest + period;
        let earliest = at.checked_sub(spread)?;
        let window = Window { from: earliest.checked_sub(LEAD)?, earliest, until: at + spread };
        let pays = LEAD <= period / LEAD_PART && 2 * spread <= (period / SPREAD_PART).min(LONGEST_SPREAD);
        (now < window.until && pays).then_some(window)
    }
}

impl Grid {
    fn begin(before: Instant, now: Instant) -> Option<Self> {
        let period = now.saturating_duration_since(before).as_secs_f64();
        (period > 0.0).then_some(Self { latest: now, period, deviation: 0.0, count: 0, gap: false })
    }

    /// The grid after one more picture; `None` if it does not fit, or if the pictures are on every second point only, say.
    fn next(self, now: Instant) -> Option<Self> {
        let since = now.saturating_duration_since(self.latest).as_secs_f64();
        let steps = (since / self.period).round();
        let gap = steps > 1.0;
        if !(1.0..=MISSING + 1.0).contains(&steps) || gap && self.gap {
            return None;
        }
        let error = since - steps * self.period;
        let count = self.count.saturating_add(1);
        let moved = steps * self.period + PHASE * error;
        Some(Self {
            latest: self.latest + Duration::from_secs_f64(moved),
            period: self.period + PERIOD * error / steps,
            // A plain mean at first.
            deviation: self.deviation
                + DEVIATION.max(1.0 / f64::from(count)) * (error.abs() - self.deviation),
            count,
            gap,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What came of waiting awake for pictures: the part that was met, and the part of the time spent awake.
    struct Tally {
        met: f64,
        awake: f64,
    }

    /// Pictures at these moments, in microseconds, after a second that is not counted.
    fn tally(pictures: impl Iterator<Item = u64>) -> Tally {
        #[allow(clippy::disallowed_methods)] // A test's time begins somewhere.
        let began = Instant::now();
        let mut cadence = Cadence::default();
        let (mut met, mut count, mut awake, mut last) = (0, 0, Duration::ZERO, began);
        for at in pictures {
            let since = Duration::from_micros(at);
            let now = began + since;
            if since > Duration::from_secs(1) {
                count += 1;
                if let Some(Window { from, until, .. }) = cadence.window(last) {
                    met += u32::from((from..=until).contains(&now));
                    awake += now.min(until).saturating_duration_since(from);
                }
            }
            cadence.picture(now);
            last = now;
        }
        let counted = (last - began).as_secs_f64() - 1.0;
        Tally { met: f64::from(met) / f64::from(count), awake: awake.as_secs_f64() / counted }
    }

    /// `fps` pictures a second for a minute, each up to `late` µs late.
    fn stream(fps: f64, late: u64) -> impl Iterator<Item = u64> {
        let mut rng = fastrand::Rng::with_seed(7);
        (0..(fps * 60.0) as u64).map(move |number| (number as f64 * 1e6 / fps) as u64 + rng.u64(0..=late))
    }

    #[test]
    fn regular_pictures_are_waited_for_awake_at_little_cost() {
        for (fps, late) in [(24.0, 200), (29.97, 200), (30.0, 100), (60.0, 100), (120.0, 0)] {
            let Tally { met, awake } = tally(stream(fps, late));
            assert!(met > 0.97, "{fps} fps, {late} µs: {met} met");
            assert!(awake < 0.05, "{fps} fps, {late} µs: {awake} awake");
        }
    }

    #[test]
    fn irregular_pictures_are_not_waited_for() {
        for late in [2_000, 8_000, 40_000] {
            assert!(tally(stream(60.0, late)).awake < 1e-4, "{late} µs late");
        }
    }

    #[test]
    fn pictures_that_come_in_pairs_are_not_waited_for() {
        let pairs = stream(60.0, 50).enumerate().map(|(n, at)| if n % 2 == 0 { at } else { at - 16_000 });
        assert!(tally(pairs).awake < 1e-4);
    }

    #[test]
    fn a_picture_that_is_left_out_changes_nothing() {
        let missing = stream(60.0, 100).enumerate().filter(|(n, _)| n % 10 != 7).map(|(_, at)| at);
        // The one after the gap is not waited for.
        assert!(tally(missing).met > 0.87);
    }

    #[test]
    fn after_a_pause_the_cadence_is_found_again() {
        let halted = stream(60.0, 100).map(|at| if at > 30_000_000 { at + 5_004_321 } else { at });
        assert!(tally(halted).met > 0.95);
    }

    #[test]
    fn another_rate_is_followed() {
        let slower = stream(60.0, 100).map(|at| if at > 30_000_000 { 2 * at - 30_000_000 } else { at });
        assert!(tally(slower).met > 0.9);
    }

    #[test]
    fn moments_that_are_the_same_are_no_grid() {
        let Tally { met, awake } = tally(std::iter::repeat_n(2_000_000, 100));
        assert!(met == 0.0 && awake == 0.0);
    }

    #[test]
    fn a_window_that_has_passed_hides_no_other() {
        #[allow(clippy::disallowed_methods)] // A test's time begins somewhere.
        let began = Instant::now();
        let (mut ended, mut live) = (Cadence::default(), Cadence::default());
        for number in 0..60 {
            let at = began + Duration::from_millis(16 * number);
            ended.picture(at);
            live.picture(at + Duration::from_millis(2));
        }
        let now = began + Duration::from_millis(16 * 60 + 1);
        assert_eq!(ended.window(now), None);
        assert!(Window::first(ended.window(now), live.window(now)).is_some_and(|window| window.from > now));
    }

    #[test]
    fn a_window_is_short_also_where_pictures_are_rare() {
        #[allow(clippy::disallowed_methods)] // A test's time begins somewhere.
        let began = Instant::now();
        let mut cadence = Cadence::default();
        let mut rng = fastrand::Rng::with_seed(7);
        for number in 0..60 {
            let at = began + Duration::from_millis(1000 * number) + Duration::from_micros(rng.u64(0..=5_000));
            cadence.picture(at);
            assert_eq!(cadence.window(at), None);
        }
    }
}
