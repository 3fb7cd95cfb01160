//! How much of the stream may be on its way: so much that the line is never idle, and no more.
//!
//! TCP fills whatever queue stands before the slowest line, and a picture waits in it. So the receiver tells how many
//! bytes of the stream it has and when ([`Receipts`]), and the sender keeps what is on its way within a window
//! ([`Flow`]) that follows the delay: it grows while the line adds none, and shrinks to what the line carries in its
//! shortest round trip and [`QUEUE`] as soon as it adds more. (LEDBAT, RFC 6817, has the idea, for traffic that is in
//! no hurry.) A unit may reach over the window's end: whoever has room has room for one.
//!
//! A round trip may also be longer because the way is, or because of somebody else's traffic. A smaller window does not
//! help then, and the rate that it leaves says nothing of the line. So where one step does not help, or the delay is
//! far too long, the line is drained: nothing is sent until all has arrived, and the next bytes show the way as it is.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long bytes may wait in the queues of the line: what a radio link needs to work well, and few see.
pub(super) const QUEUE: Duration = Duration::from_millis(25);

/// The time between two receipts while bytes arrive: a hundred small records a second.
pub(super) const RECEIPT_EVERY: Duration = Duration::from_millis(10);

/// The time from the first byte after a pause to its receipt. What the byte belongs to is passed on first: the receiver of
/// that often waits for the same core, and so would it while the receipt is made, sent and taken. It counts as a part of
/// each round trip, the shortest included.
const RECEIPT_AFTER: Duration = Duration::from_millis(1);

/// The window before anything is known: what is on its way in 25 ms at 20 Mbit/s.
const WINDOW_START: u64 = 64 * 1024;
/// Less would have a packet wait for a receipt. Ten packets, as TCP begins with (RFC 6928).
const WINDOW_MIN: u64 = 14_600;
/// More than any line carries in a round trip: 2.5 Gbit/s for 50 ms.
const WINDOW_MAX: u64 = 16 << 20;

/// How far back receipts count for the line's rate: several pictures, so that one picture's burst is not taken for it.
const RATE_TIME: Duration = Duration::from_millis(150);
/// Less than this says nothing of a rate.
const RATE_TIME_MIN: Duration = Duration::from_millis(30);

/// The window is judged once a round trip, and not more often than this.
const JUDGE_EVERY: Duration = Duration::from_millis(20);

/// The shortest round trip of the last so long counts; then another path, or the queue of somebody else's traffic, is the
/// line as it is.
const SHORTEST_OF: Duration = Duration::from_secs(10);

/// Writes whose times are kept. More are taken for a part of the last, and so for older than they are.
const MARKS: usize = 512;

/// Receipts, and rates, that are kept: more than an honest receiver tells in [`RATE_TIME`].
const RECEIPTS: usize = 64;

/// The line is not drained again for want of a shorter queue before this is over: each time costs two round trips.
const DRAIN_EVERY: Duration = Duration::from_millis(500);
/// A queue that is far too long for so long is not that of a burst, if the line also carries less than half of what it did.
const LONG_TIME: Duration = Duration::from_millis(60);
/// A line that takes so long to drain is measured by that alone: it has become much slower, and the best of late is not
/// what it carries any more. A TCP that has lost a packet is back at its rate by then.
const DRAIN_RATE_TIME: Duration = Duration::from_millis(200);
/// What arrives so soon after the line was drained, and some round trips in which the window opens, was held back by
/// that: it may show that the line carries more, not that it carries less. Half of it for the oldest receipt that counts,
/// half for the best rate.
const HELD_TIME: Duration = RATE_TIME.saturating_mul(2);
/// A drained line that shows nothing for so long is used again all the same.
const DRAIN_TIME: Duration = Duration::from_secs(1);

/// The sender's half.
#[derive(Debug)]
pub(super) struct Flow {
    sent: u64,
    received: u64,
    window: u64,
    /// Whether the window kept something back since it was judged.
    limited: bool,
    /// Ends of writes, and when they were.
    marks: VecDeque<(u64, Instant)>,
    /// When the receiver told of more bytes last.
    told_at: Instant,
    /// The receiver's clock then.
    clock: u64,
    shortest: Shortest,
    /// Each receipt since then has shown a queue that is far too long.
    long: Option<Busy>,
    /// The window is closed, so that the queue empties.
    drain: Option<Drain>,
    drained_at: Option<Instant>,
    /// After that the window opens with what arrives, not all at once.
    opening: Option<u64>,
    /// Receipts without a pause between: bytes, the receiver's clock in microseconds, and ours.
    receipts: VecDeque<(u64, u64, Instant)>,
    /// Rates of late, with their times, falling: bytes a second.
    rates: VecDeque<(Instant, u64)>,
    /// Bytes a second, as far as the line was full.
    rate: Option<u64>,
    /// The same of late, while the window is closed and bytes still come.
    measured: Option<u64>,
    /// When the window was judged last, and the shortest wait since: a burst waits for itself, and only what stands in the
    /// queue all the time is too much (as CoDel has it, RFC 8289).
    judged_at: Instant,
    /// What was sent until then: only what is sent later shows what came of it.
    judged: u64,
    least: Duration,
    shrunk_at: Option<Instant>,
    /// Window and rate before the queue was found too long, until it is short again.
    before: Option<Before>,
}

/// What was before the window was made smaller.
#[derive(Clone, Copy, Debug)]
struct Before {
    window: u64,
    rate: Option<u64>,
}

/// A closed window.
#[derive(Clone, Copy, Debug)]
struct Drain {
    /// The bytes after these were sent into a line that was empty, or nearly.
    from: u64,
    until: Instant,
    /// How long the queue seemed to be.
    queue: Duration,
    /// The line is busy since then.
    busy: Busy,
}

/// A time in which the line has had something to carry all the while.
#[derive(Clone, Copy, Debug)]
struct Busy {
    /// What had arrived at its beginning, and the receiver's clock then.
    received: u64,
    clock: u64,
    /// The longest time between two receipts since, by the receiver's clock, in microseconds.
    pause: u64,
}

impl Busy {
    const fn new(received: u64, clock: u64) -> Self {
        Self { received, clock, pause: 0 }
    }

    /// Bytes a second up to now, once it has lasted so long. One pause does not count: where the line stood still for a
    /// moment, it is as fast as before.
    fn rate(self, received: u64, clock: u64, least: Duration) -> Option<u64> {
        let time = clock - self.clock - self.pause;
        (time >= micros(least)).then(|| (received - self.received).saturating_mul(1_000_000) / time)
    }
}

/// The shortest round trips of the running and of the last half of [`SHORTEST_OF`].
#[derive(Debug)]
struct Shortest {
    last: Duration,
    running: Duration,
    until: Instant,
}

impl Flow {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            sent: 0,
            received: 0,
            window: WINDOW_START,
            limited: false,
            marks: VecDeque::new(),
            told_at: now,
            clock: 0,
            shortest: Shortest { last: Duration::MAX, running: Duration::MAX, until: now + SHORTEST_OF / 2 },
            long: None,
            drain: None,
            drained_at: None,
            opening: None,
            receipts: VecDeque::new(),
            rates: VecDeque::new(),
            rate: None,
            measured: None,
            judged_at: now,
            judged: 0,
            least: Duration::MAX,
            shrunk_at: None,
            before: None,
        }
    }

    /// Whether more may be sent. If not, it may be after a receipt.
    pub(super) const fn has_room(&mut self) -> bool {
        let window = match (self.drain, self.opening) {
            (Some(_), _) => 1,
            (None, Some(opening)) => opening,
            (None, None) => self.window,
        };
        let room = self.sent - self.received < window;
        self.limited |= !room;
        room
    }

    /// Bytes a second that the line carried when it was full last.
    pub(super) const fn rate(&self) -> Option<u64> {
        self.rate
    }

    /// Whether nothing may be sent until what is on its way has arrived.
    pub(super) const fn is_draining(&self) -> bool {
        self.drain.is_some() && self.sent > self.received
    }

    /// Bytes a second that the line carries of what is too much for it, once that takes long.
    pub(super) fn sudden_rate(&self) -> Option<u64> {
        let drain = self.drain.filter(|drain| drain.queue > QUEUE)?;
        drain.busy.rate(self.received, self.clock, DRAIN_RATE_TIME)
    }

    /// Notes that `bytes` were sent.
    pub(super) fn sent(&mut self, now: Instant, bytes: usize) {
        if self.sent == self.received {
            // The line was idle: what comes tells of its rate from its first receipt on.
            self.receipts.clear();
        }
        let flying = self.sent - self.received;
        self.sent += bytes as u64;
        if let Some(drain) = self.drain.as_mut().filter(|_| flying > WINDOW_MIN) {
            drain.from = self.sent;
        }
        let full = self.marks.len() == MARKS;
        match self.marks.back_mut() {
            Some(last) if full => last.0 = self.sent,
            _ => self.marks.push_back((self.sent, now)),
        }
    }

    /// Since when bytes are on their way and the receiver has told of no more of them; `None` while none are.
    pub(super) fn untold_since(&self) -> Option<Instant> {
        self.marks.front().map(|&(_, sent)| sent.max(self.told_at))
    }

    /// Notes that the receiver had `received` bytes in all when its clock showed `clock` microseconds. Whether there
    /// can be so many.
    pub(super) fn receipt(&mut self, now: Instant, received: u64, clock: u64) -> bool {
        if received > self.sent || received < self.received || clock < self.clock {
            return false;
        }
        for busy in self.drain.iter_mut().map(|drain| &mut drain.busy).chain(&mut self.long) {
            busy.pause = busy.pause.max(clock - self.clock);
        }
        self.clock = clock;
        let Some(rtt) = self.round_trip(now, received) else { return true };
        self.told_at = now;
        self.opening = self
            .opening
            .map(|opening| opening + received - self.received)
            .filter(|opening| *opening < self.window);
        self.received = received;
        let way = self.shortest();
        let rate = self.note_rate(now, received, clock, way.min(rtt));
        if let Some(drain) = self.drain {
            if received > drain.from || now >= drain.until {
                self.drained(now, drain, way, rtt);
            } else {
                self.measured = self.sudden_rate().or(rate);
            }
            return true;
        }
        self.note_shortest(now, rtt);
        let way = self.shortest();
        let queue = rtt.saturating_sub(way);
        self.least = self.least.min(queue);
        self.note_long(now, way, queue);
        if self.drain.is_none() && received > self.judged && now >= self.judged_at + way.max(JUDGE_EVERY) {
            self.judge(now, way, rate);
        }
        true
    }

    /// Closes the window as soon as it is plain that the line has become much slower: to judge that by what is sent from now
    /// on would take as long as the queue is.
    fn note_long(&mut self, now: Instant, way: Duration, queue: Duration) {
        if queue <= QUEUE * 2 {
            self.long = None;
            return;
        }
        let long = *self.long.get_or_insert(Busy::new(self.received, self.clock));
        let carries = long.rate(self.received, self.clock, LONG_TIME);
        let slower = carries.zip(self.rate).is_some_and(|(now, before)| now < before / 2);
        let again = self.drained_at.is_some_and(|at| now < at + DRAIN_EVERY);
        if slower && !again && self.drain.is_none() {
            self.before.get_or_insert(Before { window: self.window, rate: self.rate });
            self.shrunk_at = Some(now);
            self.start_drain(now, way, queue);
            self.judged_from(now);
        }
    }

    fn shortest(&self) -> Duration {
        self.shortest.last.min(self.shortest.running)
    }

    /// Judges the window by the shortest wait of a round trip that it was in force for.
    fn judge(&mut self, now: Instant, way: Duration, rate: Option<u64>) {
        let held = self.drained_at.is_some_and(|at| now < at + HELD_TIME + way * 4);
        let rate = if held { rate.max(self.rate) } else { rate };
        if self.least > QUEUE {
            let again = self.before.is_some();
            self.before.get_or_insert(Before { window: self.window, rate: self.rate });
            self.shrunk_at = Some(now);
            let long = self.least > QUEUE * 2;
            if again || long {
                let pause = if long { DRAIN_EVERY } else { SHORTEST_OF / 2 };
                if self.drained_at.is_none_or(|at| now >= at + pause) {
                    self.start_drain(now, way, self.least);
                }
            } else if let Some(rate) = rate {
                self.rate = Some(rate);
                self.window = carries(rate, way + QUEUE).min(self.window);
            }
        } else {
            self.before = None;
            if self.least < QUEUE / 2 && self.limited && self.opening.is_none() {
                self.grow(now, way);
                self.rate = rate.or(self.rate);
            }
        }
        self.judged_from(now);
    }

    /// Begins to look at the queue anew.
    const fn judged_from(&mut self, now: Instant) {
        (self.judged_at, self.judged, self.least) = (now, self.sent, Duration::MAX);
        self.limited = false;
    }

    fn start_drain(&mut self, now: Instant, way: Duration, queue: Duration) {
        let until = now + (way + queue) * 2 + DRAIN_TIME;
        let busy = self.long.take().unwrap_or(Busy::new(self.received, self.clock));
        self.drain = Some(Drain { from: self.sent, until, queue, busy });
        self.measured = None;
    }

    /// The line was empty, and bytes took `rtt` over it.
    fn drained(&mut self, now: Instant, drain: Drain, way: Duration, rtt: Duration) {
        (self.drain, self.drained_at) = (None, Some(now));
        self.shortest = Shortest { last: rtt, running: rtt, until: now + SHORTEST_OF / 2 };
        let before = self.before.take();
        if rtt > way + drain.queue.max(QUEUE) / 2 {
            // The way is longer: the window was too small for it, and no rate since then is the line's.
            let before = before.unwrap_or(Before { window: self.window, rate: self.rate });
            self.rate = before.rate;
            let fills = before.rate.map_or(0, |rate| carries(rate, rtt + QUEUE));
            self.window = self.window.max(before.window).max(fills);
        } else if let Some(rate) = self.measured.filter(|_| drain.queue > QUEUE) {
            // The queue was ours, and the line was full until it was empty.
            self.rate = Some(rate);
            self.window = carries(rate, rtt + QUEUE);
        }
        // What was closed says nothing of the line's rate.
        self.receipts.clear();
        self.rates.clear();
        self.opening = Some((self.window / 4).max(WINDOW_MIN * 2)).filter(|opening| *opening < self.window);
        self.judged_from(now);
    }

    /// By a quarter, while the line's end is not in sight; where it was met lately, by as much as fills a part of the
    /// queue that is allowed, since what is too much shows a round trip later.
    fn grow(&mut self, now: Instant, shortest: Duration) {
        let met = self.shrunk_at.is_some_and(|at| now < at + Duration::from_secs(1) + shortest * 4);
        let part =
            if met { (QUEUE.as_secs_f64() * 2.0 / (QUEUE + shortest).as_secs_f64()).min(1.0) } else { 1.0 };
        let more = (self.window as f64 / 4.0 * part) as u64;
        self.window = (self.window + more.max(1448)).min(WINDOW_MAX);
    }

    /// How long the last of the received bytes took, there and back.
    fn round_trip(&mut self, now: Instant, received: u64) -> Option<Duration> {
        let (mut at, mut told) = (None, self.received);
        while let Some(&(end, sent)) = self.marks.front() {
            if told >= received {
                break;
            }
            at = Some(sent);
            told = end;
            if end > received {
                // A part of this write has arrived, and it stays for the rest.
                break;
            }
            self.marks.pop_front();
        }
        at.map(|at| now.saturating_duration_since(at))
    }

    /// Notes a round trip. Where all of late were longer than those before, either the way is longer or the queue is
    /// ours: the window is closed for a moment to see.
    fn note_shortest(&mut self, now: Instant, rtt: Duration) {
        let shortest = &mut self.shortest;
        shortest.running = shortest.running.min(rtt);
        if now < shortest.until {
            return;
        }
        if shortest.running <= shortest.last.saturating_add(QUEUE / 2) {
            // A queue that is always there must not pass for the way, little by little.
            let last = shortest.last.min(shortest.running);
            *shortest = Shortest { last, running: rtt, until: now + SHORTEST_OF / 2 };
        } else {
            self.start_drain(now, rtt, Duration::ZERO);
        }
    }

    /// The line's rate: the best of late, for where the window was the limit the line was idle half the time.
    fn note_rate(&mut self, now: Instant, received: u64, clock: u64, shortest: Duration) -> Option<u64> {
        // By their clock, which the way back does not blur, and by ours, since theirs may stand still.
        let old = |&(_, theirs, ours): &(u64, u64, Instant)| {
            clock.saturating_sub(theirs) > micros(RATE_TIME) || ours + RATE_TIME * 2 < now
        };
        while self.receipts.len() >= RECEIPTS || self.receipts.front().is_some_and(old) {
            self.receipts.pop_front();
        }
        self.receipts.push_back((received, clock, now));
        let &(first, since, _) = self.receipts.front()?;
        let time = clock.saturating_sub(since);
        if time >= micros(RATE_TIME_MIN) {
            let rate = (received - first).saturating_mul(1_000_000) / time;
            while self.rates.back().is_some_and(|&(_, lower)| lower <= rate) {
                self.rates.pop_back();
            }
            if self.rates.len() >= RECEIPTS {
                self.rates.pop_back();
            }
            self.rates.push_back((now, rate));
        }
        let keep = RATE_TIME.max(shortest * 2);
        while self.rates.len() > 1 && self.rates.front().is_some_and(|&(at, _)| at + keep < now) {
            self.rates.pop_front();
        }
        self.rates.front().map(|&(_, rate)| rate)
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// The window of a line of `rate` bytes a second, for `time`.
fn carries(rate: u64, time: Duration) -> u64 {
    let bytes = u128::from(rate) * time.as_micros() / 1_000_000;
    u64::try_from(bytes).unwrap_or(WINDOW_MAX).clamp(WINDOW_MIN, WINDOW_MAX)
}

/// The receiver's half.
#[derive(Debug)]
pub(super) struct Receipts {
    received: u64,
    told_at: Option<Instant>,
    /// When the next is to be told; `None` while all that came was told of.
    due_at: Option<Instant>,
}

impl Receipts {
    pub(super) const fn new() -> Self {
        Self { received: 0, told_at: None, due_at: None }
    }

    /// Notes that `bytes` came.
    pub(super) fn took(&mut self, now: Instant, bytes: usize) {
        self.received += bytes as u64;
        let soon = now + RECEIPT_AFTER;
        self.due_at.get_or_insert(self.told_at.map_or(soon, |told| soon.max(told + RECEIPT_EVERY)));
    }

    /// What is to be told now, if anything.
    pub(super) fn due(&mut self, now: Instant) -> Option<u64> {
        self.due_at.take_if(|at| *at <= now)?;
        self.told_at = Some(now);
        Some(self.received)
    }

    /// When something is to be told; nothing while nothing is.
    pub(super) const fn poll_timeout(&self) -> Option<Instant> {
        self.due_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
                assert!(
                    longest < QUEUE * 4 + own + rtt / 2,
                    "{rate} bytes/s, {rtt:?}: a queue of {longest:?}"
                );
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
                    assert!(
                        told.is_none_or(|told| told * 10 > rate * 9),
                        "{rate} bytes/s, {rtt:?}: {told:?}"
                    );
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
            assert!(line.flow.receipts.len() <= RECEIPTS && line.flow.rates.len() <= RECEIPTS);
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
        assert_eq!(line.flow.marks.len(), MARKS);
        let kept = 10 * (MARKS as u64 - 1);
        assert_eq!(line.flow.round_trip(line.now, kept + 10), Some(ms(MARKS as u64 + 1)));
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
}
