use super::rates::RECEIPTS;
use super::receipts::{RECEIPT_AFTER, RECEIPT_EVERY};
use super::trips::MARKS;
use super::*;
use std::collections::VecDeque;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A line of so many bytes a second and a round trip, before a queue without end; writes of 5,000 bytes while there
/// is room.
struct Line {
    now: Instant,
    flow: Flow,
    receipts: Receipts,
    rate: u64,
    rtt: Duration,
    /// When the line has carried all that was sent, and what is on its way: arrival and bytes.
    free_at: Instant,
    flying: VecDeque<(Instant, usize)>,
    /// Receipts on their way back.
    answers: VecDeque<(Instant, u64, u64)>,
    epoch: Instant,
    carried: u64,
    longest: Duration,
}

impl Line {
    #[allow(clippy::disallowed_methods)] // A test's time begins somewhere.
    fn new(rate: u64, rtt: Duration) -> Self {
        let now = Instant::now();
        Self {
            now,
            flow: Flow::new(now),
            receipts: Receipts::new(),
            rate,
            rtt,
            free_at: now,
            flying: VecDeque::new(),
            answers: VecDeque::new(),
            epoch: now,
            carried: 0,
            longest: Duration::ZERO,
        }
    }

    /// One millisecond of a sender that always has something to send.
    fn step(&mut self) {
        self.now += ms(1);
        while self.flow.has_room() {
            self.flow.sent(self.now, 5000);
            let takes = Duration::from_micros(5000 * 1_000_000 / self.rate);
            self.free_at = self.free_at.max(self.now) + takes;
            self.longest = self.longest.max(self.free_at - self.now);
            self.flying.push_back((self.free_at + self.rtt / 2, 5000));
        }
        self.carry();
    }

    fn carry(&mut self) {
        while self.flying.front().is_some_and(|(at, _)| *at <= self.now) {
            let (_, bytes) = self.flying.pop_front().unwrap();
            self.receipts.took(self.now, bytes);
            self.carried += bytes as u64;
        }
        if let Some(received) = self.receipts.due(self.now) {
            let clock = u64::try_from((self.now - self.epoch).as_micros()).unwrap();
            self.answers.push_back((self.now + self.rtt / 2, received, clock));
        }
        while self.answers.front().is_some_and(|(at, ..)| *at <= self.now) {
            let (_, received, clock) = self.answers.pop_front().unwrap();
            assert!(self.flow.receipt(self.now, received, clock));
        }
    }

    /// Runs, and says which part of the line's rate was used and how long the queue became.
    fn run(&mut self, time: Duration) -> (f64, Duration) {
        (self.carried, self.longest) = (0, Duration::ZERO);
        let end = self.now + time;
        while self.now < end {
            self.step();
        }
        (self.carried as f64 / (self.rate as f64 * time.as_secs_f64()), self.longest)
    }
}

#[test]
fn a_line_is_kept_full_with_a_short_queue() {
    for rate in [250_000, 1_000_000, 2_500_000, 12_500_000] {
        for rtt in [ms(1), ms(20), ms(80), ms(200)] {
            let mut line = Line::new(rate, rtt);
            line.run(ms(5000));
            let (used, longest) = line.run(ms(10_000));
            assert!(used > 0.8, "{rate} bytes/s, {rtt:?}: {used:.2} used");
            let own = Duration::from_micros(WINDOW_MIN * 1_000_000 / rate);
            assert!(longest < QUEUE * 4 + own + rtt / 2, "{rate} bytes/s, {rtt:?}: a queue of {longest:?}");
        }
    }
}

#[test]
fn a_line_that_changes_is_followed_within_a_second_or_two() {
    let mut line = Line::new(2_500_000, ms(20));
    line.run(ms(5000));
    line.rate = 250_000;
    line.run(ms(1000));
    let (used, longest) = line.run(ms(3000));
    assert!(used > 0.85 && longest < QUEUE * 4, "{used:.2} used, {longest:?}");
    line.rate = 2_500_000;
    line.run(ms(2000));
    let (used, longest) = line.run(ms(3000));
    assert!(used > 0.85 && longest < QUEUE * 3, "{used:.2} used, {longest:?}");
}

#[test]
fn a_line_that_becomes_ten_times_slower_is_known_while_it_drains() {
    let mut line = Line::new(2_500_000, ms(20));
    line.run(ms(5000));
    line.rate = 250_000;
    let fell = line.now;
    while line.flow.sudden_rate().is_none() {
        line.step();
        assert!(line.now < fell + ms(400));
    }
    let rate = line.flow.sudden_rate().expect("it is there");
    assert!((200_000..350_000).contains(&rate), "{rate} after {:?}", line.now - fell);
    while line.flow.is_draining() {
        // As a source does that is held meanwhile.
        line.now += ms(1);
        line.carry();
        assert!(line.now < fell + ms(1000), "it waits for what nobody sends");
    }
    assert!(line.flow.has_room());
    line.run(ms(2000));
    assert_eq!(line.flow.sudden_rate(), None, "it is as it is");
}

#[test]
fn a_way_that_becomes_longer_is_used_again_soon() {
    for (before, after) in [(20, 60), (20, 170), (40, 240)] {
        let mut line = Line::new(2_500_000, ms(before));
        line.run(ms(5000));
        line.rtt = ms(after);
        let (mut low, mut lowest) = (0, 0);
        for tenth in 0..100 {
            let (used, _) = line.run(ms(100));
            low = if used < 0.3 { low + 1 } else { 0 };
            lowest = lowest.max(low);
            if tenth == 19 {
                let (used, _) = line.run(ms(1000));
                assert!(used > 0.5, "{before} to {after} ms: {used:.2} used after 2 s");
            }
        }
        assert!(lowest <= 10, "{before} to {after} ms: nearly idle for {lowest} tenths of a second");
    }
}

#[test]
fn the_rate_is_told_once_the_line_was_full() {
    let mut line = Line::new(1_000_000, ms(20));
    assert_eq!(line.flow.rate(), None);
    line.run(ms(3000));
    let rate = line.flow.rate().expect("it was full");
    assert!((800_000..=1_200_000).contains(&rate), "{rate}");
}

#[test]
fn a_look_at_the_way_lowers_no_rate() {
    for rate in [1_000_000, 2_500_000] {
        for rtt in [ms(1), ms(20), ms(80)] {
            let mut line = Line::new(rate, rtt);
            line.run(ms(4000));
            let looked_at = line.flow.drained_at;
            for _ in 0..20_000 {
                line.step();
                let told = line.flow.rate();
                assert!(told.is_none_or(|told| told * 10 > rate * 9), "{rate} bytes/s, {rtt:?}: {told:?}");
            }
            assert_ne!(line.flow.drained_at, looked_at);
        }
    }
}

#[test]
fn a_receipt_for_what_was_never_sent_is_none() {
    let mut line = Line::new(1_000_000, ms(20));
    line.flow.sent(line.now, 1000);
    assert!(!line.flow.receipt(line.now, 1001, 0));
    assert!(line.flow.receipt(line.now, 1000, 0));
    assert!(!line.flow.receipt(line.now, 999, 5), "it had more");
}

#[test]
fn a_clock_that_stands_still_grows_nothing_and_one_that_goes_back_is_refused() {
    let mut line = Line::new(1_000_000, ms(20));
    for received in 1..=1000 {
        line.flow.sent(line.now, 1);
        assert!(line.flow.receipt(line.now + ms(received), received, 7));
        assert!(line.flow.rates.kept() <= RECEIPTS);
    }
    line.flow.sent(line.now, 1);
    assert!(!line.flow.receipt(line.now, 1001, 6));
}

#[test]
fn a_write_beyond_those_that_are_kept_is_no_younger_than_it_is() {
    let mut line = Line::new(1_000_000, ms(20));
    for _ in 0..MARKS * 2 {
        line.flow.sent(line.now, 10);
        line.now += ms(1);
    }
    assert_eq!(line.flow.marks.kept(), MARKS);
    let kept = 10 * (MARKS as u64 - 1);
    assert_eq!(line.flow.marks.round_trip(line.now, 0, kept + 10), Some(ms(MARKS as u64 + 1)));
}

#[test]
fn what_is_on_its_way_is_untold_since_the_last_receipt_for_more() {
    let mut line = Line::new(1_000_000, ms(20));
    let start = line.now;
    assert_eq!(line.flow.untold_since(), None);
    line.flow.sent(start + ms(5), 100);
    assert_eq!(line.flow.untold_since(), Some(start + ms(5)));
    assert!(line.flow.receipt(start + ms(50), 60, 1));
    assert!(line.flow.receipt(start + ms(70), 60, 2), "the same again");
    assert_eq!(line.flow.untold_since(), Some(start + ms(50)));
    assert!(line.flow.receipt(start + ms(90), 100, 3));
    assert_eq!(line.flow.untold_since(), None);
}

#[test]
fn what_is_left_over_is_told_after_the_pause() {
    let now = Line::new(1, ms(1)).now;
    let mut receipts = Receipts::new();
    assert_eq!(receipts.poll_timeout(), None);
    receipts.took(now, 10);
    assert_eq!(receipts.due(now), None, "what came is passed on first");
    let first = now + RECEIPT_AFTER;
    assert_eq!((receipts.poll_timeout(), receipts.due(first)), (Some(first), Some(10)));
    receipts.took(first, 5);
    assert_eq!(receipts.due(first + ms(1)), None);
    assert_eq!(receipts.poll_timeout(), Some(first + RECEIPT_EVERY));
    assert_eq!(receipts.due(first + RECEIPT_EVERY), Some(15));
    assert_eq!(receipts.poll_timeout(), None);
}
