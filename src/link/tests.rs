use super::*;
use crate::id::SessionId;
use crate::ticket::ViewerIdentity;
use bytes::Bytes;
use std::time::Instant;

struct Pair {
    now: Instant,
    caster: Channel,
    viewer: Channel,
    caster_events: Vec<Event>,
    viewer_events: Vec<Event>,
}

pub(super) fn identity(seed: u64) -> ViewerIdentity {
    let mut random = [0; ViewerIdentity::RANDOM_LEN];
    fastrand::Rng::with_seed(seed).fill(&mut random);
    ViewerIdentity::from_random(&random)
}

fn start() -> Instant {
    // The one reading of a clock in these tests; from here on time is virtual.
    #[expect(clippy::disallowed_methods, reason = "an origin for virtual time")]
    Instant::now()
}

/// Everything in the output: bytes for the wire and events.
fn drain(channel: &mut Channel) -> (Vec<u8>, Vec<Event>) {
    let (mut wire, mut events) = (Vec::new(), Vec::new());
    while let Some(output) = channel.poll_output() {
        match output {
            Output::Transmit(bytes) => wire.extend(bytes),
            Output::Event(event) => events.push(event),
        }
    }
    (wire, events)
}

impl Pair {
    fn new() -> Self {
        let (now, identity) = (start(), identity(1));
        Self {
            now,
            caster: Channel::caster(
                now,
                &identity.ticket(None, Vec::new()).caster_secrets(),
                Facts::default(),
            ),
            viewer: Channel::viewer(now, &identity.viewer_secrets(), Facts::default()),
            caster_events: Vec::new(),
            viewer_events: Vec::new(),
        }
    }

    fn established() -> Self {
        let mut pair = Self::new();
        pair.settle(usize::MAX);
        pair.caster_events.clear();
        pair.viewer_events.clear();
        pair
    }

    fn nominated() -> Self {
        let mut pair = Self::established();
        pair.caster.nominate().unwrap();
        pair.settle(usize::MAX);
        pair.viewer_events.clear();
        pair
    }

    /// Goes on to the next deadline of either end.
    fn pass(&mut self) {
        let deadlines = [&self.caster, &self.viewer].map(|channel| channel.poll_timeout().unwrap().0);
        self.now = deadlines[0].min(deadlines[1]);
        self.caster.handle_timeout(self.now);
        self.viewer.handle_timeout(self.now);
        self.settle(usize::MAX);
    }

    /// Carries bytes both ways, in pieces of `piece`, until neither end has any.
    fn settle(&mut self, piece: usize) {
        loop {
            let (to_viewer, events) = drain(&mut self.caster);
            self.caster_events.extend(events);
            for part in to_viewer.chunks(piece) {
                self.viewer.handle_input(self.now, part).unwrap();
            }
            let (to_caster, events) = drain(&mut self.viewer);
            self.viewer_events.extend(events);
            for part in to_caster.chunks(piece) {
                self.caster.handle_input(self.now, part).unwrap();
            }
            if to_viewer.is_empty() && to_caster.is_empty() {
                return;
            }
        }
    }
}

fn stream(events: &[Event]) -> Vec<u8> {
    events
        .iter()
        .filter_map(|event| if let Event::Stream(bytes) = event { Some(&bytes[..]) } else { None })
        .collect::<Vec<_>>()
        .concat()
}

#[test]
fn pieces_of_the_stream_share_records() {
    let mut pair = Pair::nominated();
    let stream: Bytes = (0..2 * STREAM_CHUNK).map(|n| (n * 7) as u8).collect();
    for piece in [0..12, 12..STREAM_CHUNK + 5, 5..5, STREAM_CHUNK + 5..stream.len()] {
        pair.caster.send_stream(pair.now, stream.slice(piece)).unwrap();
    }
    // What is said after them comes after them.
    pair.caster.end(Bye::Finished);
    pair.settle(usize::MAX);
    let halves = [stream.slice(..STREAM_CHUNK), stream.slice(STREAM_CHUNK..)].map(Event::Stream);
    assert_eq!(pair.viewer_events[..2], halves);
    assert_eq!(pair.viewer_events[2..], [Event::Ended(EndReason::Bye(Bye::Finished))]);
}

#[test]
fn a_link_is_made_and_carries_both_streams_in_any_split() {
    for piece in [1, 2, 3, 7, 58, 59, 60, 1000, usize::MAX] {
        let mut pair = Pair::new();
        pair.settle(piece);
        assert_eq!(
            pair.caster_events,
            [Event::Established(Facts::default()), Event::Rtt(Duration::ZERO), Event::Rtt(Duration::ZERO)]
        );
        // The proof's round trip, and that of the viewer's first ping, which tells it the caster's clock.
        assert_eq!(
            pair.viewer_events,
            [Event::Established(Facts::default()), Event::Rtt(Duration::ZERO), Event::Rtt(Duration::ZERO)]
        );
        pair.viewer_events.clear();
        pair.caster_events.clear();
        pair.caster.nominate().unwrap();
        let picture: Bytes = (0..100_000_u32).map(|n| (n * 7) as u8).collect();
        pair.caster.send_stream(pair.now, picture.clone()).unwrap();
        pair.settle(piece);
        assert_eq!(pair.viewer_events[0], Event::Nominated);
        assert!(stream(&pair.viewer_events) == picture, "split into {piece}");
        pair.viewer.send_stream(pair.now, Bytes::from_static(b"answer")).unwrap();
        pair.settle(piece);
        assert_eq!(stream(&pair.caster_events), b"answer");
        pair.caster.end(Bye::Finished);
        pair.settle(piece);
        assert_eq!(pair.viewer_events.last(), Some(&Event::Ended(EndReason::Bye(Bye::Finished))));
        assert!(pair.viewer.is_ended() && pair.viewer.poll_timeout().is_none());
    }
}

#[test]
fn the_first_byte_is_never_that_of_rtmp() {
    let mut pair = Pair::new();
    let (message_1, _) = drain(&mut pair.caster);
    assert_eq!(message_1.len(), 59);
    assert_eq!(message_1[0], 0);
    pair.viewer.handle_input(pair.now, &message_1).unwrap();
    assert_eq!(drain(&mut pair.viewer).0[0], 0);
}

#[test]
fn only_the_caster_nominates_and_only_then_the_stream_flows() {
    let mut pair = Pair::new();
    assert_eq!(pair.caster.nominate(), Err(LinkError::NotOpen));
    pair.settle(usize::MAX);
    assert_eq!(pair.viewer.nominate(), Err(LinkError::NotOpen));
    assert_eq!(pair.viewer.send_stream(pair.now, Bytes::from_static(b"x")), Err(LinkError::NotOpen));
    assert_eq!(pair.caster.send_stream(pair.now, Bytes::from_static(b"x")), Err(LinkError::NotOpen));
    pair.caster.nominate().unwrap();
    pair.caster.nominate().unwrap();
    pair.settle(usize::MAX);
    assert_eq!(pair.viewer_events.iter().filter(|event| **event == Event::Nominated).count(), 1);
    assert!(pair.caster.is_nominated() && pair.viewer.is_nominated());
}

#[test]
fn rekeying_is_crossed_in_both_directions() {
    let mut pair = Pair::nominated();
    for round in 0..REKEY_EVERY / 256 + 2 {
        for n in 0..256_u64 {
            pair.caster
                .send_stream(pair.now, Bytes::copy_from_slice(&(round * 256 + n).to_be_bytes()))
                .unwrap();
            pair.viewer.send_stream(pair.now, vec![n as u8].into()).unwrap();
        }
        pair.settle(usize::MAX);
        let expected: Vec<u8> = (0..256).flat_map(|n| (round * 256 + n).to_be_bytes()).collect();
        assert_eq!(stream(&pair.viewer_events), expected);
        assert_eq!(stream(&pair.caster_events).len(), 256);
        pair.viewer_events.clear();
        pair.caster_events.clear();
    }
}

#[test]
fn pings_measure_the_way_there_and_back() {
    let mut pair = Pair::established();
    let (at, why) = pair.caster.poll_timeout().unwrap();
    assert_eq!((at, why), (pair.now + PING_EVERY, "link: ping"));
    pair.caster.handle_timeout(at);
    let (ping, _) = drain(&mut pair.caster);
    pair.viewer.handle_input(at + Duration::from_millis(20), &ping).unwrap();
    let (pong, _) = drain(&mut pair.viewer);
    pair.caster.handle_input(at + Duration::from_millis(45), &pong).unwrap();
    assert_eq!(drain(&mut pair.caster).1, [Event::Rtt(Duration::from_millis(45))]);
}

#[test]
fn a_flood_of_pings_is_not_answered_without_end() {
    let mut pair = Pair::established();
    let mut answered = 0;
    // Nine seconds' pings, within one moment of the viewer's; one more was answered when the link was made.
    for n in 1..10 {
        let at = pair.now + PING_EVERY * n;
        pair.caster.handle_timeout(at);
        let (ping, _) = drain(&mut pair.caster);
        pair.viewer.handle_input(pair.now, &ping).unwrap();
        let (pong, _) = drain(&mut pair.viewer);
        answered += pong.len();
        pair.caster.handle_input(at, &pong).unwrap();
    }
    assert_eq!(answered, usize::from(PONGS_PER_SECOND - 1) * 36);
}

#[test]
fn an_idle_link_lives_by_its_pings_and_dies_of_silence() {
    let mut pair = Pair::nominated();
    let begin = pair.now;
    while pair.now < begin + SILENCE * 3 {
        pair.pass();
    }
    assert!(pair.viewer.is_nominated() && pair.caster.is_nominated());
    // Here the path is cut: each end hears nothing more, and says so at the same moment.
    let cut = pair.now;
    while let Some((at, _)) = pair.viewer.poll_timeout() {
        pair.now = at;
        pair.viewer.handle_timeout(at);
        pair.viewer_events.extend(drain(&mut pair.viewer).1);
    }
    assert_eq!(pair.now, cut + SILENCE);
    assert_eq!(pair.viewer_events.last(), Some(&Event::Ended(EndReason::Silent)));
}

#[test]
fn a_handshake_is_bounded_in_time_at_every_step() {
    let mut pair = Pair::new();
    for channel in [&mut pair.caster, &mut pair.viewer] {
        drain(channel);
        let (at, _) = channel.poll_timeout().unwrap();
        assert_eq!(at, pair.now + HANDSHAKE_TIME);
        channel.handle_timeout(at - Duration::from_nanos(1));
        assert_eq!(drain(channel), (Vec::new(), Vec::new()));
        channel.handle_timeout(at);
        assert_eq!(drain(channel), (Vec::new(), vec![Event::Ended(EndReason::Late)]));
    }
    // The time to prove is what message 1 left over, not five seconds more.
    let mut pair = Pair::new();
    let (message_1, _) = drain(&mut pair.caster);
    pair.viewer.handle_input(pair.now + HANDSHAKE_TIME / 2, &message_1).unwrap();
    assert_eq!(pair.viewer.poll_timeout().unwrap().0, pair.now + HANDSHAKE_TIME);
}

#[test]
fn a_viewer_does_not_keep_an_unused_link_for_ever() {
    let mut pair = Pair::established();
    let begin = pair.now;
    while !pair.viewer.is_ended() {
        pair.pass();
    }
    assert_eq!(pair.now, begin + SPARE_TIME);
    assert_eq!(pair.viewer_events.last(), Some(&Event::Ended(EndReason::NotNominated)));
}

#[test]
fn a_goodbye_before_the_proof_says_nothing() {
    let mut pair = Pair::new();
    pair.caster.end(Bye::Leaving);
    pair.viewer.end(Bye::Busy);
    assert_eq!(drain(&mut pair.caster), (Vec::new(), Vec::new()));
    assert_eq!(drain(&mut pair.viewer), (Vec::new(), Vec::new()));
}

#[test]
fn a_stamp_arrives_in_the_viewers_time_and_a_wish_for_a_keyframe_at_the_caster() {
    let mut pair = Pair::new();
    pair.settle(usize::MAX);
    pair.caster.nominate().unwrap();
    pair.settle(usize::MAX);
    (pair.caster_events, pair.viewer_events) = (Vec::new(), Vec::new());
    let made = pair.now;
    pair.now += Duration::from_millis(70);
    pair.caster.stamp(33, made).unwrap();
    pair.caster.send_stream(pair.now, Bytes::from_static(b"picture")).unwrap();
    for _ in 0..10 {
        pair.viewer.want_keyframe().unwrap();
    }
    pair.settle(usize::MAX);
    // Both have the same clock here, and the way takes no time.
    let stamp = Event::Stamp { timestamp: 33, made };
    assert_eq!(pair.viewer_events, [stamp, Event::Stream(Bytes::from_static(b"picture"))]);
    assert_eq!(pair.caster_events, vec![Event::KeyframeWanted; usize::from(KEYFRAMES_PER_SECOND)]);
}

#[test]
fn a_viewer_hears_which_introduction_led_to_its_link() {
    let mut pair = Pair::new();
    pair.settle(usize::MAX);
    assert_eq!(pair.caster.name_session(SessionId(7)), Err(LinkError::NotOpen), "before the nomination");
    pair.caster.nominate().unwrap();
    pair.caster.name_session(SessionId(7)).unwrap();
    pair.settle(usize::MAX);
    assert!(pair.viewer_events.ends_with(&[Event::Nominated, Event::Session(SessionId(7))]));
    assert_eq!(pair.viewer.name_session(SessionId(7)), Err(LinkError::NotOpen));
}

#[test]
fn only_a_caster_stamps_and_only_a_viewer_wants_keyframes() {
    let mut pair = Pair::new();
    pair.settle(usize::MAX);
    assert_eq!(pair.caster.stamp(0, pair.now), Err(LinkError::NotOpen), "before the nomination");
    assert_eq!(pair.viewer.want_keyframe(), Err(LinkError::NotOpen));
    pair.caster.nominate().unwrap();
    pair.settle(usize::MAX);
    assert_eq!(pair.caster.want_keyframe(), Err(LinkError::NotOpen));
    assert_eq!(pair.viewer.stamp(0, pair.now), Err(LinkError::NotOpen));
}

#[test]
fn a_caster_gives_a_viewer_up_that_tells_nothing_of_the_stream() {
    let mut pair = Pair::nominated();
    let begin = pair.now;
    pair.caster.send_stream(begin, vec![7; 1000].into()).unwrap();
    // Nothing reaches the viewer, and its own pings are heard.
    let mut pings = 0;
    while let Some((at, _)) = pair.caster.poll_timeout() {
        pair.now = at;
        pair.viewer.handle_timeout(at);
        let (ping, _) = drain(&mut pair.viewer);
        if at < begin + SILENCE {
            pings += usize::from(!ping.is_empty());
            pair.caster.handle_input(at, &ping).unwrap();
        }
        pair.caster.handle_timeout(at);
        pair.caster_events.extend(drain(&mut pair.caster).1);
    }
    assert!(pings >= 2);
    assert_eq!(pair.now, begin + SILENCE);
    assert_eq!(pair.caster_events.last(), Some(&Event::Ended(EndReason::Silent)));
}
