//! A viewer's code through its verbs, with the casters' half of the exchange made here.

use super::super::tests::{Bench, MAIN};
use super::*;
use crate::app::{ConnId, Input};
use crate::code::Seed;
use crate::code::exchange::Asking;
use crate::wire::message::{FromMain, Role};

/// A viewer that is logged in, with the number 427.
fn shown() -> (Bench, ConnId, Code) {
    let mut bench = Bench::new(Role::Viewer);
    let main = bench.log_in();
    bench.agent.offer_code(bench.now, "the ticket".into());
    bench.drain();
    assert_eq!(wishes(&bench, main), [0]);
    let code = given(&mut bench, main, 427);
    (bench, main, code)
}

/// The daemon gives a number; the code that is shown then.
fn given(bench: &mut Bench, main: ConnId, number: u32) -> Code {
    say(bench, main, &FromMain::Nameplate { number: Some(number) });
    told(bench).expect("a code")
}

fn say(bench: &mut Bench, main: ConnId, message: &FromMain) {
    bench.hear(main, &wire::encode(message));
}

/// The code that was told last, unless its end was.
fn told(bench: &Bench) -> Option<Code> {
    bench.events.iter().rev().find_map(|event| {
        if let Event::Code { code } = event {
            Some(Some(*code))
        } else {
            matches!(event, Event::NoCode { .. }).then_some(None)
        }
    })?
}

fn wishes(bench: &Bench, main: ConnId) -> Vec<u32> {
    let all = bench.sent::<ToMain>(main).into_iter();
    all.filter_map(|message| if let ToMain::ReqNameplate { wish } = message { Some(wish) } else { None })
        .collect()
}

/// A caster tries `tried` up to its proof; what the viewer says to it.
fn guess(bench: &mut Bench, main: ConnId, call: u64, tried: &Code) -> Option<ToMain> {
    let call = CallId(call);
    let mut random = Randomness::new(Seed([call.0 as u8; 32]));
    let (asking, element) = Asking::begin(tried, &mut random);
    say(bench, main, &FromMain::Called { call, element });
    let answer = bench.sent::<ToMain>(main).into_iter().rev().find_map(|message| {
        if let ToMain::Answer { call: other, element } = message {
            (other == call).then_some(element)
        } else {
            None
        }
    })?;
    let (proof, key) = asking.finish(&answer).expect("an element");
    say(bench, main, &FromMain::Confirmed { call, proof });
    let last = bench.sent::<ToMain>(main).into_iter().rev().find(|message| {
        matches!(message, ToMain::Grant { call: other, .. } | ToMain::Deny { call: other } if *other == call)
    });
    if let Some(ToMain::Grant { sealed, .. }) = &last {
        assert_eq!(key.open(sealed).as_deref(), Some("the ticket"));
    }
    last
}

fn wrong() -> Code {
    // The chance that the seed draws these words is checked by every test that is granted something else.
    "427-zebra-zone".parse().expect("a code")
}

#[test]
fn a_caster_with_the_words_gets_the_ticket_as_often_as_it_asks() {
    let (mut bench, main, code) = shown();
    for call in 1..=9 {
        assert!(matches!(guess(&mut bench, main, call, &code), Some(ToMain::Grant { .. })), "{call}");
    }
    assert_eq!(bench.events.iter().filter(|event| **event == Event::CodeUsed).count(), 9);
}

#[test]
fn right_words_in_between_do_not_give_guesses_back() {
    let (mut bench, main, code) = shown();
    for (call, tried) in [(1, wrong()), (2, code), (3, wrong()), (4, code)] {
        guess(&mut bench, main, call, &tried);
    }
    assert!(bench.events.contains(&Event::WrongCode { left: 1 }));
    assert_eq!(told(&bench), Some(code));
    assert_eq!(guess(&mut bench, main, 5, &wrong()), Some(ToMain::Deny { call: CallId(5) }));
    assert_eq!(told(&bench), None);
    assert_eq!(wishes(&bench, main), [0, 0], "another number, at once");
    let next = given(&mut bench, main, 28);
    assert_ne!(next.to_string().trim_start_matches("28"), code.to_string().trim_start_matches("427"));
}

#[test]
fn exchanges_of_a_withdrawn_code_are_over() {
    let (mut bench, main, code) = shown();
    let (asking, element) = Asking::begin(&code, &mut Randomness::new(Seed([1; 32])));
    say(&mut bench, main, &FromMain::Called { call: CallId(100), element });
    let answer = bench
        .sent::<ToMain>(main)
        .into_iter()
        .find_map(|message| if let ToMain::Answer { element, .. } = message { Some(element) } else { None });
    (1..=3).for_each(|call| drop(guess(&mut bench, main, call, &wrong())));
    let (proof, _) = asking.finish(&answer.expect("an answer")).expect("an element");
    assert!(bench.sent::<ToMain>(main).contains(&ToMain::Deny { call: CallId(100) }), "when it is withdrawn");
    let said = bench.sent::<ToMain>(main).len();
    say(&mut bench, main, &FromMain::Confirmed { call: CallId(100), proof });
    assert_eq!(bench.sent::<ToMain>(main).len(), said, "and nothing more");
    // And who asks while there is no code is told so.
    assert_eq!(guess(&mut bench, main, 4, &code), None);
    assert!(!bench.events.contains(&Event::CodeUsed));
}

#[test]
fn a_daemon_that_gives_other_numbers_gives_no_more_guesses() {
    let (mut bench, mut main, _) = shown();
    guess(&mut bench, main, 1, &wrong());
    // The login breaks, and the daemon says that the number is another.
    bench.input(Input::Closed { conn: main, error: None });
    while bench.dialled(MAIN).is_some_and(|(conn, _)| conn == main) {
        bench.at_next_timeout();
    }
    main = bench.log_in();
    assert_eq!(wishes(&bench, main), [427]);
    let other = given(&mut bench, main, 28);
    let wrong = format!("{}-zebra-zone", other.number()).parse().expect("a code");
    guess(&mut bench, main, 2, &wrong);
    assert_eq!(told(&bench), Some(other));
    guess(&mut bench, main, 3, &wrong);
    assert_eq!(told(&bench), None, "three in all");
}

#[test]
fn a_number_that_comes_for_a_code_withdrawn_meanwhile_is_not_used() {
    let (mut bench, main, _) = shown();
    (1..=3).for_each(|call| drop(guess(&mut bench, main, call, &wrong())));
    let next = given(&mut bench, main, 28);
    let wrong: Code = "28-zebra-zone".parse().expect("a code");
    (4..=6).for_each(|call| drop(guess(&mut bench, main, call, &wrong)));
    assert_eq!(told(&bench), None);
    assert_eq!(wishes(&bench, main), [0, 0], "the second new one takes its time");
    say(&mut bench, main, &FromMain::Nameplate { number: Some(28) });
    assert_eq!(told(&bench), None, "unasked");
    bench.agent.handle_timeout(bench.now + NEW_CODE_AFTER);
    bench.drain();
    assert_eq!(wishes(&bench, main), [0, 0, 0]);
    assert_ne!(given(&mut bench, main, 28), next, "fresh words, even if the daemon gives the number again");
}

#[test]
fn a_daemon_without_numbers_is_asked_again_and_told_of_once() {
    let mut bench = Bench::new(Role::Viewer);
    let main = bench.log_in();
    bench.agent.offer_code(bench.now, "the ticket".into());
    bench.drain();
    for _ in 0..3 {
        say(&mut bench, main, &FromMain::Nameplate { number: None });
        for _ in 0..2 {
            bench.now += NO_NUMBER_AGAIN / 2;
            bench.agent.handle_timeout(bench.now);
            say(&mut bench, main, &FromMain::Heartbeat { nonce: 0 });
        }
        bench.agent.handle_timeout(bench.now);
        bench.drain();
    }
    let told = bench.events.iter().filter(|event| **event == Event::NoCode { why: NoCode::NoNumber });
    assert_eq!(told.count(), 1);
    assert_eq!(wishes(&bench, main), [0; 4]);
}

#[test]
fn what_is_no_element_is_no_guess() {
    let (mut bench, main, code) = shown();
    let mut bytes = [0; 32];
    bytes[0] = 2;
    for call in 1..=5 {
        say(&mut bench, main, &FromMain::Called { call: CallId(call), element: Element(bytes) });
    }
    assert_eq!(told(&bench), Some(code));
    // Nor is an exchange that nobody ends; the oldest gives way.
    for call in 10..30 {
        let (_, element) = Asking::begin(&wrong(), &mut Randomness::new(Seed([call as u8; 32])));
        say(&mut bench, main, &FromMain::Called { call: CallId(call), element });
    }
    assert_eq!(told(&bench), Some(code));
    bench.now += CALLS.every * CALLS.burst;
    assert!(matches!(guess(&mut bench, main, 99, &code), Some(ToMain::Grant { .. })));
}

#[test]
fn a_daemon_that_calls_without_end_is_answered_at_an_honest_ones_pace() {
    let (mut bench, main, code) = shown();
    let (_, element) = Asking::begin(&code, &mut Randomness::new(Seed([1; 32])));
    for call in 1..=1000 {
        say(&mut bench, main, &FromMain::Called { call: CallId(call), element });
    }
    let of_calls = |message: &ToMain| matches!(message, ToMain::Answer { .. } | ToMain::Deny { .. });
    let said = bench.sent::<ToMain>(main).into_iter().filter(of_calls).count();
    assert!(said <= 2 * CALLS.burst as usize, "{said}");
    bench.now += CALLS.every;
    assert!(matches!(guess(&mut bench, main, 2000, &code), Some(ToMain::Grant { .. })));
}
