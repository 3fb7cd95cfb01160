//! A viewer's short code: how it comes to one, answers those who know it, and withdraws it from those who guess.
//!
//! ```text
//!              logged in: ReqNameplate          Nameplate: a number, fresh words
//!  no code ─────────────────────────▶ asked ────────────────────────────────────▶ shown ─┐ Called ─▶ Answer
//!     ▲                                 │ none to be had: again in a minute              │ Confirmed ─▶ Grant | Deny
//!     └── after a pause ────────────────┴────────── the third wrong proof: withdrawn ◀───┘
//! ```
//!
//! The code is good again and again, as the ticket is, for as long as it is shown; only wrong proofs are counted, and a right
//! one takes nothing back. A code whose login breaks is kept, and asked for again with the next.

use super::{Agent, Event, Main, NoCode};
use crate::app::NetOp;
use crate::code::exchange::{Answering, Randomness};
use crate::code::{Code, Element, Proof};
use crate::id::CallId;
use crate::rendezvous::limits::{Bucket, Rate};
use crate::wire;
use crate::wire::message::ToMain;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Wrong proofs after which a code is withdrawn: as often as somebody mishears, and one guess in 2^20 each.
pub const WRONG_PROOFS: u32 = 3;
/// The pause before the second new code of a run, four times as long before each further one. The first comes at once,
/// for it may be that somebody misheard; who makes a viewer withdraw its codes over and over has 27 guesses in the first
/// day, and three in each further one.
const NEW_CODE_AFTER: Duration = Duration::from_secs(10);
/// The longest such pause.
const NEW_CODE_AFTER_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// The pause before the daemon is asked for a number again if it had none.
const NO_NUMBER_AGAIN: Duration = Duration::from_secs(60);
/// Exchanges under way at once; the oldest is given up for another. The daemon lets fewer through, this is for one that
/// does not.
const MAX_CALLS: usize = 8;

/// Calls that are answered: as many as an honest daemon passes on under one number. An exchange costs a third of a millisecond, in
/// the thread that has the casts, and an answer waits for a daemon that may not read.
const CALLS: Rate = Rate { burst: 10, every: Duration::from_secs(3) };

/// See the [module](self).
pub(super) struct Codes {
    random: Randomness,
    /// What a caster gets.
    ticket: String,
    code: Option<Code>,
    /// Whether the daemon was asked for a number and has not answered.
    asked: bool,
    /// Wrong proofs since a code was withdrawn last.
    wrong: u32,
    /// Codes that were withdrawn.
    withdrawn: u32,
    /// When the daemon is asked for a number.
    ask_at: Option<Instant>,
    /// That there is none was told, and nothing else since.
    told_none: bool,
    calls: VecDeque<(CallId, Answering)>,
    answered: Bucket,
}

impl Codes {
    /// When the daemon is to be asked for a number.
    pub(super) const fn ask_at(&self) -> Option<Instant> {
        if self.asked { None } else { self.ask_at }
    }

    /// What belongs to one login alone is over.
    pub(super) fn login_lost(&mut self) {
        self.asked = false;
        self.calls.clear();
    }

    /// Takes the code out of use; the pause before another is asked for.
    fn withdraw(&mut self, now: Instant) -> Duration {
        self.code = None;
        self.wrong = 0;
        let pause = match self.withdrawn {
            0 => Duration::ZERO,
            times => NEW_CODE_AFTER.saturating_mul(4_u32.saturating_pow(times - 1)).min(NEW_CODE_AFTER_MAX),
        };
        self.withdrawn += 1;
        self.ask_at = Some(now + pause);
        pause
    }
}

impl Agent {
    /// Offers `ticket` to casters that know a short code (a viewer with a seed for codes only): from here on
    /// [`Event::Code`] and [`Event::NoCode`] tell which.
    pub fn offer_code(&mut self, now: Instant, ticket: String) {
        let Some(seed) = self.config.code_seed else { return };
        self.codes = Some(Codes {
            random: Randomness::new(seed),
            ticket,
            code: None,
            asked: false,
            wrong: 0,
            withdrawn: 0,
            ask_at: None,
            told_none: false,
            calls: VecDeque::new(),
            answered: Bucket::default(),
        });
        self.ask_for_number(now);
    }

    /// Asks the daemon for a number: the one that the code has, or any.
    pub(super) fn ask_for_number(&mut self, now: Instant) {
        let Main::LoggedIn { conn, .. } = self.main else { return };
        let Some(codes) = &mut self.codes else { return };
        if codes.asked || codes.ask_at.is_some_and(|at| now < at) {
            return;
        }
        codes.asked = true;
        codes.ask_at = None;
        let wish = codes.code.map_or(0, |code| code.number());
        self.net(NetOp::Send { conn, bytes: wire::encode(&ToMain::ReqNameplate { wish }) });
    }

    /// The daemon gives a number, or has none.
    pub(super) fn nameplate(&mut self, now: Instant, number: Option<u32>) {
        let Some(codes) = self.codes.as_mut().filter(|codes| codes.asked) else { return };
        codes.asked = false;
        if codes.ask_at.is_some() {
            // The code was withdrawn since: this number is the old one.
            return self.ask_for_number(now);
        }
        let had = codes.code.take();
        // Another number has other words: a code is an old one or a new one, never half of each.
        let kept = had.filter(|code| Some(code.number()) == number);
        let code = kept.or_else(|| Code::draw(number?, &mut codes.random));
        codes.code = code;
        match code {
            Some(code) if had != Some(code) => {
                codes.calls.clear();
                codes.told_none = false;
                self.event(Event::Code { code });
            }
            Some(_) => {}
            None => {
                codes.ask_at = Some(now + NO_NUMBER_AGAIN);
                if !std::mem::replace(&mut codes.told_none, true) {
                    self.event(Event::NoCode { why: NoCode::NoNumber });
                }
            }
        }
    }

    /// A caster asks with our number. What comes beyond an honest daemon's pace is not answered.
    pub(super) fn called(&mut self, now: Instant, call: CallId, element: &Element) {
        let Some(codes) = self.codes.as_mut() else { return };
        if !codes.answered.take(now, CALLS) {
            return;
        }
        let begun = codes.code.and_then(|code| {
            let (answering, ours) = Answering::begin(&code, element, &mut codes.random)?;
            codes.calls.push_back((call, answering));
            let spare = if codes.calls.len() > MAX_CALLS { codes.calls.pop_front() } else { None };
            Some((ours, spare.map(|(call, _)| call)))
        });
        let Some((element, spare)) = begun else { return self.say(&ToMain::Deny { call }) };
        self.say(&ToMain::Answer { call, element });
        if let Some(call) = spare {
            self.say(&ToMain::Deny { call });
        }
    }

    /// It proves that it knows the words, or guesses.
    pub(super) fn confirmed(&mut self, now: Instant, call: CallId, proof: &Proof) {
        let Some(codes) = &mut self.codes else { return };
        // One that is not known was denied already, or never answered.
        let Some(at) = codes.calls.iter().position(|(other, _)| *other == call) else { return };
        let Some((_, answering)) = codes.calls.remove(at) else { return };
        if let Some(key) = answering.check(proof) {
            if let Some(sealed) = key.seal(&codes.ticket) {
                self.event(Event::CodeUsed);
                self.say(&ToMain::Grant { call, sealed });
            }
            return;
        }
        codes.wrong += 1;
        let left = WRONG_PROOFS.saturating_sub(codes.wrong);
        self.say(&ToMain::Deny { call });
        if left > 0 {
            return self.event(Event::WrongCode { left });
        }
        self.withdraw(now);
    }

    /// Takes the code out of use, and asks for another as soon as may be.
    fn withdraw(&mut self, now: Instant) {
        let Some(codes) = &mut self.codes else { return };
        let over = std::mem::take(&mut codes.calls);
        let again_in = codes.withdraw(now);
        for (call, _) in over {
            self.say(&ToMain::Deny { call });
        }
        self.event(Event::NoCode { why: NoCode::Guessed { again_in } });
        self.ask_for_number(now);
    }

    /// The agent stays away from the daemon for good.
    pub(super) fn end_code(&mut self) {
        if self.codes.take().is_some_and(|codes| codes.code.is_some()) {
            self.event(Event::NoCode { why: NoCode::NoDaemon });
        }
    }

    fn say(&mut self, message: &ToMain) {
        if let Main::LoggedIn { conn, .. } = self.main {
            self.net(NetOp::Send { conn, bytes: wire::encode(message) });
        }
    }
}

#[cfg(test)]
mod tests;
