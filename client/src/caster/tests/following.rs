//! A cast that follows its line, the whole loop in virtual time: an encoder that makes what it is told, caster and viewer as
//! they are, and between them a TCP connection over a line that changes.

use super::*;

const TICK: Duration = Duration::from_millis(1);
/// Bytes that the line passes at once after a pause, as tbf does.
const BURST: f64 = 32.0 * 1024.0;
/// Bytes that wait in a socket before it is full (`driver::socket` sets it).
const UNSENT: usize = 16 * 1024;

const FPS: u64 = 60;
/// Bytes of a keyframe at the least: noise does not become smaller.
const KEYFRAME: f64 = 40_000.0;
const CEILING: u64 = 20_000_000;
const LOW: u64 = 2_000_000;
const HIGH: u64 = 20_000_000;

/// When the bitrate is the line's, and how soon it has to be, as in `scripts/bench/congestion`.
const SETTLE: Duration = Duration::from_secs(5);
const LEAST_PART: f64 = 0.7;
const MOST_PART: f64 = 1.05;
const PERIOD: Duration = Duration::from_secs(15);

/// A connection and the line that it goes over.
struct Line {
    /// Bits a second.
    rate: u64,
    /// How long it takes to the other end.
    way: Duration,
    /// What the line may pass at once.
    tokens: f64,
    /// Bytes that TCP may have on their way.
    window: usize,
    unacked: usize,
    /// What the driver has, as the socket is full.
    held: VecDeque<u8>,
    socket: VecDeque<u8>,
    /// What waits before the line.
    queue: VecDeque<u8>,
    /// What is on its way, and when it arrives.
    flying: VecDeque<(Instant, Vec<u8>)>,
    /// Acknowledgements, and when they arrive.
    acks: VecDeque<(Instant, usize)>,
    /// The caster was told that the socket is full.
    full: bool,
}

impl Line {
    fn new(rate: u64, way: Duration) -> Self {
        Self {
            rate,
            way,
            tokens: BURST,
            window: usize::MAX,
            unacked: 0,
            held: VecDeque::new(),
            socket: VecDeque::new(),
            queue: VecDeque::new(),
            flying: VecDeque::new(),
            acks: VecDeque::new(),
            full: false,
        }
    }

    /// As much as fits goes to the socket, and from there on its way.
    fn send(&mut self) {
        loop {
            let fits = UNSENT.saturating_sub(self.socket.len()).min(self.held.len());
            self.socket.extend(self.held.drain(..fits));
            let leaves = self.window.saturating_sub(self.unacked).min(self.socket.len());
            self.unacked += leaves;
            self.queue.extend(self.socket.drain(..leaves));
            if leaves == 0 {
                return;
            }
        }
    }

    /// One tick; what arrives.
    fn step(&mut self, now: Instant) -> Vec<u8> {
        while self.acks.front().is_some_and(|(at, _)| *at <= now) {
            self.unacked -= self.acks.pop_front().unwrap().1;
        }
        self.send();
        self.tokens = (self.tokens + self.rate as f64 / 8.0 * TICK.as_secs_f64()).min(BURST);
        let passes = (self.tokens as usize).min(self.queue.len());
        self.tokens -= passes as f64;
        if passes > 0 {
            self.flying.push_back((now + self.way, self.queue.drain(..passes).collect()));
            self.acks.push_back((now + self.way * 2, passes));
        }
        let mut came = Vec::new();
        while self.flying.front().is_some_and(|(at, _)| *at <= now) {
            came.extend(self.flying.pop_front().unwrap().1);
        }
        came
    }
}

/// Noise: a picture is as large as the bitrate allows, and nothing makes a keyframe small.
struct Encoder {
    rng: fastrand::Rng,
    bitrate: u64,
    highest: u64,
    frame: u64,
    keyframe: bool,
    next_keyframe: u64,
    /// Bytes beyond the bitrate.
    debt: f64,
}

impl Encoder {
    const fn new(rng: fastrand::Rng) -> Self {
        Self {
            rng,
            bitrate: CEILING,
            highest: CEILING,
            frame: 0,
            keyframe: true,
            next_keyframe: 0,
            debt: 0.0,
        }
    }

    /// As [`VideoEncoder::follow`](crate::source::encoder::VideoEncoder::follow) does.
    fn follow(&mut self, wanted: Option<u64>) {
        let wanted = wanted.unwrap_or(CEILING).min(CEILING);
        if wanted <= self.highest / 2 {
            (self.keyframe, self.debt, self.highest) = (true, 0.0, wanted);
        }
        (self.bitrate, self.highest) = (wanted, self.highest.max(wanted));
    }

    /// The bytes of the picture that is due, and whether it is a keyframe; nothing where the bitrate is spent.
    fn encode(&mut self, due: u64) -> Option<(bool, usize)> {
        let usual = self.bitrate as f64 / 8.0 / FPS as f64;
        self.debt = (self.debt - usual * (due - self.frame) as f64).max(0.0);
        self.frame = due;
        if self.debt > usual * 15.0 {
            return None;
        }
        let keyframe = self.keyframe || due >= self.next_keyframe;
        let wanted = if keyframe {
            (self.keyframe, self.next_keyframe) = (false, due + 2 * FPS);
            (usual * 1.5).max(KEYFRAME)
        } else {
            usual - (self.debt / 20.0).min(usual / 2.0)
        };
        let size = wanted * (0.85 + 0.3 * self.rng.f64());
        self.debt += size;
        Some((keyframe, size as usize))
    }
}

/// See the [module](self).
struct Loop {
    bed: Bed,
    epoch: Instant,
    up: Line,
    down: VecDeque<(Instant, Vec<u8>)>,
    encoder: Encoder,
    pace: Pace,
    /// When each second of the viewer's ended, and bits that came in it.
    seconds: Vec<(Instant, u64)>,
}

impl Loop {
    /// On a line of [`HIGH`], some time after the beginning.
    fn new(seed: u64, way: Duration) -> Self {
        let mut bed = Bed::new();
        bed.caster.encodes = true;
        bed.caster_says.clear();
        let mut rng = fastrand::Rng::with_seed(seed);
        // So that changes come at any part of the viewer's seconds and of the caster's periods.
        let warm_up = Duration::from_millis(rng.u64(2000..4000));
        let mut cast = Self {
            epoch: bed.now,
            bed,
            up: Line::new(HIGH, way),
            down: VecDeque::new(),
            encoder: Encoder::new(rng),
            pace: Pace::default(),
            seconds: Vec::new(),
        };
        cast.run(warm_up);
        cast
    }

    fn run(&mut self, time: Duration) {
        let end = self.bed.now + time;
        while self.bed.now < end {
            self.step();
        }
    }

    fn step(&mut self) {
        self.bed.now += TICK;
        let now = self.bed.now;
        let (ours, theirs) = self.bed.names;
        if self.bed.caster.poll_timeout().is_some_and(|(at, _)| at <= now) {
            self.bed.caster.handle_timeout(now);
            self.drain();
        }
        if self.bed.viewer.poll_timeout().is_some_and(|(at, _)| at <= now) {
            self.bed.viewer.handle_timeout(now);
            self.drain();
        }
        let came = self.up.step(now);
        if self.up.full && self.up.held.is_empty() {
            self.up.full = false;
            self.bed.caster.handle_input(now, Input::Drained { conn: ours });
            self.drain();
        }
        if !came.is_empty() {
            self.bed.viewer.handle_input(now, Input::Received { conn: theirs, bytes: &came });
            self.drain();
        }
        while self.down.front().is_some_and(|(at, _)| *at <= now) {
            let (_, bytes) = self.down.pop_front().unwrap();
            self.bed.caster.handle_input(now, Input::Received { conn: ours, bytes: &bytes });
            self.drain();
        }
        self.make();
    }

    /// As a source does: nothing while it is held, then the newest picture at once.
    fn make(&mut self) {
        let now = self.bed.now;
        let due = ((now - self.epoch).as_secs_f64() * FPS as f64) as u64;
        if self.pace.hold || due <= self.encoder.frame {
            return;
        }
        self.encoder.follow(self.pace.bitrate);
        let Some((keyframe, size)) = self.encoder.encode(due) else { return };
        let mut payload = vec![0; size];
        payload[..2].copy_from_slice(&[if keyframe { 0x17 } else { 0x27 }, 1]);
        let timestamp = u32::try_from(due * 1000 / FPS).unwrap();
        let unit = Unit { kind: Kind::Video, timestamp, payload: payload.into() };
        self.bed.caster.handle_message(now, SourceEvent::Unit(unit, Some(now)).into());
        self.drain();
    }

    /// Carries out what both ask for.
    fn drain(&mut self) {
        self.bed.drain();
        let now = self.bed.now;
        self.up.held.extend(self.bed.to_viewer.drain(..));
        self.up.send();
        if !self.up.held.is_empty() && !self.up.full {
            self.up.full = true;
            self.bed.caster.handle_input(now, Input::Backlogged { conn: self.bed.names.0 });
            self.drain();
        }
        let down = std::mem::take(&mut self.bed.to_caster);
        if !down.is_empty() {
            self.down.push_back((now + self.up.way, down));
        }
        for notice in self.bed.caster_says.drain(..) {
            if let Notice::Pace(pace) = notice {
                self.pace = pace;
            } else if matches!(notice, Notice::KeyframeWanted) {
                self.encoder.keyframe = true;
            }
        }
        for notice in self.bed.viewer_says.drain(..) {
            if let Notice::Stats(stats) = notice {
                self.seconds.push((now, stats.counts.bytes * 8));
            }
        }
        self.bed.shown.clear();
    }

    /// The end of the last second since `start` in which the bitrate was not the line's, or of the first one; since then.
    fn settled(&self, start: Instant) -> Duration {
        let rate = self.up.rate as f64;
        let fits = |bits: u64| (rate * LEAST_PART..=rate * MOST_PART + BURST * 8.0).contains(&(bits as f64));
        // A second that began before the change is not meant.
        let mine = || self.seconds.iter().filter(|(at, _)| *at >= start + Duration::from_secs(1));
        let last = mine().rev().find(|(_, bits)| !fits(*bits)).or(mine().next());
        last.expect("a second has passed").0 - start
    }
}

#[test]
fn the_bitrate_settles_within_five_seconds_of_each_change_of_the_line() {
    for (seed, way) in [(1, 1), (2, 10), (3, 10), (4, 20)] {
        let mut cast = Loop::new(seed, Duration::from_millis(way));
        for rate in [LOW, HIGH, LOW, HIGH, 6_000_000, LOW, 6_000_000] {
            cast.up.rate = rate;
            let start = cast.bed.now;
            cast.run(PERIOD);
            let settled = cast.settled(start);
            assert!(settled <= SETTLE, "seed {seed}, a way of {way} ms, {rate} bits a second: {settled:?}");
        }
    }
}

#[test]
fn a_pause_of_tcp_does_not_lower_the_bitrate_for_long() {
    for seed in 0..8 {
        let mut cast = Loop::new(seed, Duration::from_millis(10));
        let start = cast.bed.now;
        // As it is when it resends: nearly nothing for a while.
        cast.up.window = 4 * 1448;
        cast.run(Duration::from_millis(250));
        cast.up.window = usize::MAX;
        cast.run(PERIOD);
        let settled = cast.settled(start);
        assert!(settled <= Duration::from_secs(3), "seed {seed}: {settled:?}");
    }
}

#[test]
fn the_time_that_a_slower_line_takes_to_drain_lowers_the_bitrate_no_further() {
    for seed in 0..8 {
        let mut cast = Loop::new(seed, Duration::from_millis(10));
        cast.up.rate = LOW;
        let mut lowest = u64::MAX;
        let end = cast.bed.now + SETTLE;
        while cast.bed.now < end {
            cast.step();
            lowest = cast.pace.bitrate.map_or(lowest, |bitrate| bitrate.min(lowest));
        }
        assert!(lowest > LOW / 2, "seed {seed}: {lowest}");
    }
}
