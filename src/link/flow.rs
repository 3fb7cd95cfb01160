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

mod rates;
mod receipts;
mod trips;

pub(super) use receipts::Receipts;

use rates::{RATE_TIME, Rates};
use std::time::{Duration, Instant};
use trips::{Marks, SHORTEST_OF, Shortest};

/// How long bytes may wait in the queues of the line: what a radio link needs to work well, and few see.
pub(super) const QUEUE: Duration = Duration::from_millis(25);

/// The window before anything is known: what is on its way in 25 ms at 20 Mbit/s.
const WINDOW_START: u64 = 64 * 1024;
/// Less would have a packet wait for a receipt. Ten packets, as TCP begins with (RFC 6928).
const WINDOW_MIN: u64 = 14_600;
/// More than any line carries in a round trip: 2.5 Gbit/s for 50 ms.
const WINDOW_MAX: u64 = 16 << 20;

/// The window is judged once a round trip, and not more often than this.
const JUDGE_EVERY: Duration = Duration::from_millis(20);

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
    marks: Marks,
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
    rates: Rates,
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

impl Flow {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            sent: 0,
            received: 0,
            window: WINDOW_START,
            limited: false,
            marks: Marks::new(),
            told_at: now,
            clock: 0,
            shortest: Shortest::unknown(now),
            long: None,
            drain: None,
            drained_at: None,
            opening: None,
            rates: Rates::new(),
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

    /// Bytes that the receiver has told of.
    pub(super) const fn arrived(&self) -> u64 {
        self.received
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
            self.rates.pause();
        }
        let flying = self.sent - self.received;
        self.sent += bytes as u64;
        if let Some(drain) = self.drain.as_mut().filter(|_| flying > WINDOW_MIN) {
            drain.from = self.sent;
        }
        self.marks.note(now, self.sent);
    }

    /// Since when bytes are on their way and the receiver has told of no more of them; `None` while none are.
    pub(super) fn untold_since(&self) -> Option<Instant> {
        self.marks.oldest().map(|sent| sent.max(self.told_at))
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
        let Some(rtt) = self.marks.round_trip(now, self.received, received) else { return true };
        self.told_at = now;
        self.opening = self
            .opening
            .map(|opening| opening + received - self.received)
            .filter(|opening| *opening < self.window);
        self.received = received;
        let way = self.shortest.get();
        let rate = self.rates.note(now, received, clock, way.min(rtt));
        if let Some(drain) = self.drain {
            if received > drain.from || now >= drain.until {
                self.drained(now, drain, way, rtt);
            } else {
                self.measured = self.sudden_rate().or(rate);
            }
            return true;
        }
        if !self.shortest.note(now, rtt) {
            // Either the way is longer or the queue is ours: the window is closed for a moment to see.
            self.start_drain(now, rtt, Duration::ZERO);
        }
        let way = self.shortest.get();
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
        self.shortest = Shortest::of(now, rtt);
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
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// The window of a line of `rate` bytes a second, for `time`.
fn carries(rate: u64, time: Duration) -> u64 {
    let bytes = u128::from(rate) * time.as_micros() / 1_000_000;
    u64::try_from(bytes).unwrap_or(WINDOW_MAX).clamp(WINDOW_MIN, WINDOW_MAX)
}

#[cfg(test)]
mod tests;
