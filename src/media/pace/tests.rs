//! What a queue leaves out, and when.

use super::*;
use crate::media::avc;
use bytes::Bytes;

const KEY: [u8; 2] = [0x17, 1];
const INTER: [u8; 2] = [0x27, 1];
const HEADER: [u8; 2] = [0x17, 0];

fn video(head: [u8; 2], timestamp: u32, size: usize) -> Unit {
    let mut payload = head.to_vec();
    payload.resize(size.max(2), 0);
    Unit { kind: Kind::Video, timestamp, payload: Bytes::from(payload) }
}

fn audio(timestamp: u32) -> Unit {
    Unit { kind: Kind::Audio, timestamp, payload: Bytes::from_static(&[0xaf, 1, 2]) }
}

fn left(queue: &mut Queue) -> Vec<u32> {
    std::iter::from_fn(|| queue.pop()).map(|unit| unit.timestamp).collect()
}

#[allow(clippy::disallowed_methods)] // A test's time begins somewhere.
fn start() -> Instant {
    Instant::now()
}

/// A B-frame as x264 makes it, behind [`avc_header`].
fn disposable(timestamp: u32) -> Unit {
    avc::picture(timestamp, false, &[&[0x01, 9, 9, 9]])
}

fn avc_header() -> Unit {
    let config = avc::Config::new(&[0x67, 66, 0, 31], &[0x68]).expect("two parameter sets");
    avc::sequence_header(0, &config)
}

#[test]
fn what_is_in_time_comes_out_as_it_went_in() {
    let (now, mut queue) = (start(), Queue::new());
    for (index, head) in [HEADER, KEY, INTER].into_iter().enumerate() {
        queue.push(now, video(head, index as u32, 9));
    }
    assert_eq!((left(&mut queue), queue.dropped()), (vec![0, 1, 2], 0));
}

#[test]
fn what_a_picture_took_before_it_came_is_told_and_is_no_waiting() {
    let (made, mut queue) = (start(), Queue::new());
    let now = made + 2 * MAX_WAIT;
    queue.push_dated(now, video(KEY, 1, 9), made);
    queue.push(now + MAX_WAIT, video(INTER, 2, 9));
    let dated = std::iter::from_fn(|| queue.pop_dated()).map(|(unit, made)| (unit.timestamp, made));
    assert_eq!(dated.collect::<Vec<_>>(), [(1, Some(made)), (2, None)]);
}

#[test]
fn late_video_goes_up_to_the_next_keyframe_and_nothing_else() {
    let (now, mut queue) = (start(), Queue::new());
    let later = now + MAX_WAIT + Duration::from_millis(1);
    queue.push(now, video(HEADER, 0, 9));
    queue.push(now, video(KEY, 1, 9));
    queue.push(now, audio(2));
    queue.push(later, video(INTER, 3, 9));
    queue.push(later, audio(4));
    queue.push(later, video(INTER, 5, 9));
    queue.push(later, video(KEY, 6, 9));
    queue.push(later, video(INTER, 7, 9));
    assert_eq!(left(&mut queue), [0, 2, 4, 6, 7]);
    assert_eq!(queue.dropped(), 3);
}

#[test]
fn pictures_that_no_other_needs_go_first_and_alone() {
    let (now, mut queue) = (start(), Queue::new());
    let at = |ms| now + Duration::from_millis(ms);
    queue.push(at(0), avc_header());
    queue.push(at(0), video(KEY, 1, 9));
    queue.push(at(10), disposable(2));
    queue.push(at(20), disposable(3));
    queue.push(at(30), video(INTER, 4, 9));
    queue.push(at(70), audio(5));
    assert_eq!(queue.dropped(), 0, "60 ms are in time");
    queue.push(at(71), disposable(6));
    assert_eq!((left(&mut queue), queue.dropped()), (vec![0, 1, 3, 4, 5, 6], 1), "the oldest alone");
    queue.push(at(80), disposable(7));
    queue.push(at(80), video(INTER, 8, 9));
    queue.push(at(111), disposable(9));
    assert_eq!(left(&mut queue), [8, 9], "and the next ones sooner, as the line is slow");
    queue.push(at(200), video(INTER, 10, 9));
    queue.push(at(320), audio(11));
    assert_eq!(left(&mut queue), [10, 11], "which is not held against what is needed");
}

#[test]
fn a_group_goes_with_its_disposable_pictures_and_leaves_those_of_the_next() {
    let (now, mut queue) = (start(), Queue::new());
    let later = now + MAX_WAIT + Duration::from_millis(1);
    queue.push(now, avc_header());
    queue.push(now, video(KEY, 1, 9));
    queue.push(later, video(KEY, 2, 9));
    queue.push(later, disposable(3));
    assert_eq!(left(&mut queue), [0, 2, 3]);
    queue.push(later, disposable(4));
    queue.push(later, video(INTER, 5, 9));
    let latest = later + MAX_WAIT;
    queue.push(latest, disposable(6));
    queue.push(latest, audio(7));
    queue.push(latest, disposable(8));
    queue.push(latest, video(KEY, 9, 9));
    queue.push(latest, disposable(10));
    assert_eq!((left(&mut queue), queue.dropped()), (vec![7, 9, 10], 5), "without a key before them, too");
    assert_eq!(queue.bytes, 0);
}

#[test]
fn what_waits_is_skipped_up_to_the_next_keyframe_when_that_is_asked_for() {
    let (now, mut queue) = (start(), Queue::new());
    queue.push(now, avc_header());
    queue.push(now, video(KEY, 1, 9));
    queue.push(now, disposable(2));
    queue.push(now, audio(3));
    queue.skip_to_keyframe(now);
    queue.push(now, video(INTER, 4, 9));
    queue.push(now, video(KEY, 5, 9));
    assert_eq!((left(&mut queue), queue.dropped(), queue.bytes), (vec![0, 3, 5], 3, 0));
}

/// What waits is left out, as a line does that is too slow.
fn leave_out(queue: &mut Queue) {
    while queue.drop_group() {}
    queue.gate = Gate::Skipping;
}

#[test]
fn a_keyframe_is_asked_for_once_all_is_gone_and_not_again_and_again() {
    let (begun, mut queue) = (start(), Queue::new());
    queue.push(begun, video(KEY, 0, 9));
    queue.push(begun, audio(1));
    let late = begun + MAX_WAIT + Duration::from_millis(1);
    assert!(!queue.wants_keyframe(late), "nothing is left out yet");
    queue.push(late, video(INTER, 2, 9));
    assert!(!queue.wants_keyframe(late), "sound waits");
    assert_eq!((left(&mut queue), queue.dropped()), (vec![1], 2));
    assert!(queue.wants_keyframe(late));
    queue.push(late, video(INTER, 3, 9));
    assert!(!queue.wants_keyframe(late + ASK_EVERY / 2));
    assert!(queue.wants_keyframe(late + ASK_EVERY));
    queue.push(late + ASK_EVERY, video(KEY, 4, 9));
    assert_eq!(left(&mut queue), [4]);
    assert!(!queue.wants_keyframe(late + ASK_EVERY * 4), "it has come");

    // The line is too slow for what begins with it, each time.
    let (mut asks, mut at) = (Vec::new(), late + ASK_EVERY);
    queue.skip_to_keyframe(at);
    for second in 1..=240 {
        at += Duration::from_secs(1);
        if queue.wants_keyframe(at) {
            asks.push(second);
            queue.push(at, video(KEY, 5, 9));
            leave_out(&mut queue);
        }
    }
    assert_eq!(asks, [2, 6, 14, 30, 62, 94, 126, 158, 190, 222]);
    leave_out(&mut queue);
    at += ASK_AT_LEAST_EVERY * 3;
    assert!(queue.wants_keyframe(at) && queue.wants_keyframe(at + ASK_EVERY), "as at first, after a while");
}

#[test]
fn one_picture_alone_is_not_too_large() {
    let (now, mut queue) = (start(), Queue::new());
    queue.push(now, video(KEY, 0, MAX_BYTES + 1));
    assert_eq!((left(&mut queue), queue.dropped()), (vec![0], 0));
    queue.push(now, video(KEY, 1, MAX_BYTES + 1));
    queue.push(now, video(KEY, 2, MAX_BYTES + 1));
    assert_eq!((left(&mut queue), queue.dropped()), (vec![2], 1));
}

#[test]
fn a_line_that_carries_what_is_needed_misses_nothing_else() {
    // IbbP, 60 pictures a second, those that are needed twice as large: 12 Mbit/s into 8.
    let (begun, mut queue) = (start(), Queue::new());
    queue.push(begun, avc_header());
    let mut credit = 0;
    let mut needed = 0;
    for number in 0..3600_u32 {
        let now = begun + Duration::from_millis(u64::from(number) * 1000 / 60);
        let is_needed = number.is_multiple_of(3);
        let head = if number.is_multiple_of(120) { KEY } else { INTER };
        let mut unit = if is_needed { video(head, number, 37_500) } else { video(head, number, 18_750) };
        if !is_needed {
            unit = Unit { payload: [&[0x37, 1], &unit.payload[2..]].concat().into(), ..unit };
        }
        queue.push_dated(now, unit, now);
        credit = (credit + 1_000_000 / 60).min(37_500);
        while credit > 0 {
            let Some((unit, made)) = queue.pop_dated() else { break };
            credit -= unit.payload.len() as i64;
            needed += u32::from(!unit.is_disposable() && !unit.is_sequence_header());
            assert!(made.is_none_or(|made| made + MAX_WAIT >= now));
        }
    }
    assert!(needed >= 1195, "{needed} of 1200");
    assert!((1500..1750).contains(&queue.dropped()), "{} of 2400", queue.dropped());
}

#[test]
fn a_line_that_was_too_slow_is_given_less_time_for_a_while() {
    let (now, mut queue) = (start(), Queue::new());
    queue.push(now, video(KEY, 0, 9));
    let shed = now + MAX_WAIT + Duration::from_millis(1);
    queue.push(shed, video(KEY, 1, 9));
    queue.push(shed + MAX_WAIT_SLOW, video(INTER, 2, 9));
    assert_eq!(left(&mut queue), [1, 2]);
    queue.push(shed + MAX_WAIT_SLOW, video(KEY, 3, 9));
    let again = shed + 2 * MAX_WAIT_SLOW + Duration::from_millis(1);
    queue.push(again, video(KEY, 4, 9));
    assert_eq!(left(&mut queue), [4]);
    queue.push(again + SLOW_FOR, video(KEY, 5, 9));
    queue.push(again + SLOW_FOR + MAX_WAIT, video(KEY, 6, 9));
    assert_eq!(left(&mut queue), [5, 6], "it is not held against the line for ever");
}

#[test]
fn bytes_are_bounded_whatever_the_clock_says() {
    let (now, mut queue) = (start(), Queue::new());
    queue.push(now, video(KEY, 0, 9));
    for timestamp in 1..100 {
        queue.push(now, video(INTER, timestamp, 1 << 20));
        assert!(queue.bytes <= MAX_BYTES);
    }
    queue.push(now, video(KEY, 100, 9));
    assert_eq!(left(&mut queue).last(), Some(&100));
    assert_eq!(queue.bytes, 0);
    for timestamp in 0..100 {
        queue.push(now, Unit { payload: Bytes::from(vec![0; 1 << 20]), ..audio(timestamp) });
        assert!(queue.bytes <= 2 * MAX_BYTES);
    }
}

#[test]
fn sound_is_left_out_after_a_second_and_its_header_never() {
    let (now, mut queue) = (start(), Queue::new());
    queue.push(now, Unit { payload: Bytes::from_static(&[0xaf, 0, 0x12]), ..audio(0) });
    queue.push(now, audio(1));
    queue.push(now + MAX_SOUND_WAIT, audio(2));
    queue.push(now + MAX_SOUND_WAIT + Duration::from_millis(1), audio(3));
    assert_eq!(left(&mut queue), [0, 2, 3]);
    assert_eq!((queue.bytes, queue.dropped()), (0, 0), "only pictures are counted");
}

#[test]
fn units_are_bounded_whatever_their_size() {
    let (now, mut queue) = (start(), Queue::new());
    queue.push(now, video(KEY, 0, 9));
    for timestamp in 1..=2 * MAX_UNITS as u32 {
        queue.push(now, audio(timestamp));
        assert!(queue.len() <= MAX_UNITS);
    }
    assert_eq!(queue.dropped(), 1, "pictures go first");
    let left = left(&mut queue);
    assert_eq!((left.len(), left.last()), (MAX_UNITS, Some(&(2 * MAX_UNITS as u32))));
}

#[test]
fn a_connection_without_a_group_begins_with_the_next_keyframe() {
    let (now, mut queue, mut cache) = (start(), Queue::new(), Cache::new());
    cache.push(&video(HEADER, 0, 9));
    queue.push(now, video(KEY, 1, 9));
    queue.begin(now, &cache);
    for unit in [video(INTER, 2, 9), audio(3), video(KEY, 4, 9), video(INTER, 5, 9)] {
        queue.push(now, unit);
    }
    assert_eq!(left(&mut queue), [0, 3, 4, 5]);
    assert_eq!(queue.dropped(), 0, "what nobody waited for was not left out");
    cache.push(&video(KEY, 6, 9));
    queue.begin(now, &cache);
    queue.push(now, video(INTER, 7, 9));
    assert_eq!(left(&mut queue), [6, 6, 7]);
}
