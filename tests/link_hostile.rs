//! Everybody who should not get through a link: strangers, holders of another ticket, eavesdroppers who replay, and
//! ten thousand mutated exchanges.

use punchcast::link::{
    Admission, Bye, CasterSecrets, Channel, Door, EndReason, Event, Facts, HANDSHAKE_TIME, LinkError, Output,
    PER_SOURCE, RATE, RATE_WINDOW, RESERVED, SOURCES, Secret, TOTAL, ViewerKey,
};
use punchcast::ticket::ViewerIdentity;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

const GREETING: usize = 59;

fn start() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "an origin for virtual time")]
    Instant::now()
}

fn identity(seed: u64) -> ViewerIdentity {
    let mut random = [0; ViewerIdentity::RANDOM_LEN];
    fastrand::Rng::with_seed(seed).fill(&mut random);
    ViewerIdentity::from_random(&random)
}

fn caster_secrets(identity: &ViewerIdentity) -> CasterSecrets {
    identity.ticket(None, Vec::new()).caster_secrets()
}

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

/// Asserts that the viewer shut the connection without a byte and without an event but the end.
fn assert_shut(viewer: &mut Channel, error: LinkError) {
    assert!(viewer.is_ended());
    assert_eq!(drain(viewer), (Vec::new(), vec![Event::Ended(EndReason::Failed(error))]));
    assert_eq!(viewer.poll_timeout(), None);
}

/// Asserts that a caster with `secrets` gets no byte out of the viewer of `identity(1)`.
fn assert_no_answer(secrets: &CasterSecrets) {
    let now = start();
    let mut caster = Channel::caster(now, secrets, Facts::default());
    let mut viewer = Channel::viewer(now, &identity(1).viewer_secrets(), Facts::default());
    let (greeting, _) = drain(&mut caster);
    assert_eq!(greeting.len(), GREETING);
    assert_eq!(viewer.handle_input(now, &greeting), Err(LinkError::Stranger));
    assert_shut(&mut viewer, LinkError::Stranger);
}

// Before the proof.

#[test]
fn the_documented_greeting_is_answered() {
    // The example of `docs/PROTOCOL.md`: pins the suite, the prologue and how the psk is made of the secret.
    const GREETING_HEX: &str = "0039826e866a380b8d451b19027cf9c6804cf4145b5149b719d245125e3a9e1b5b39a4\
                                c624b9e5d47c03c70ea061f87185105e91848cd2e9befd59";
    let greeting: Vec<u8> = (0..GREETING_HEX.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&GREETING_HEX[at..at + 2], 16).unwrap())
        .collect();
    let random: Vec<u8> = (0..64).collect();
    let identity = ViewerIdentity::from_random(random[..].try_into().unwrap());
    let mut viewer = Channel::viewer(start(), &identity.viewer_secrets(), Facts::default());
    viewer.handle_input(start(), &greeting).unwrap();
    assert_eq!(drain(&mut viewer).0.len(), GREETING);
}

#[test]
fn a_wrong_secret_gets_not_one_byte() {
    assert_no_answer(&CasterSecrets { secret: Secret([0; 16]), ..caster_secrets(&identity(1)) });
}

#[test]
fn a_wrong_viewer_key_gets_not_one_byte() {
    assert_no_answer(&CasterSecrets { viewer_key: identity(2).public_key, ..caster_secrets(&identity(1)) });
    // A key of small order makes the shared point known to everybody; the secret still is not.
    assert_no_answer(&CasterSecrets { viewer_key: ViewerKey([0; 32]), ..caster_secrets(&identity(1)) });
}

#[test]
fn a_wrong_rendezvous_gets_not_one_byte() {
    assert_no_answer(&CasterSecrets { rendezvous: identity(2).rendezvous(), ..caster_secrets(&identity(1)) });
}

#[test]
fn other_protocols_are_shut_at_their_second_byte() {
    for greeting in
        [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x03\0\0\0\0", b"\x16\x03\x01\x02\x00", b"SSH-2.0-x\r\n"]
    {
        let now = start();
        let mut viewer = Channel::viewer(now, &identity(1).viewer_secrets(), Facts::default());
        viewer.handle_input(now, &greeting[..1]).unwrap();
        assert_eq!(viewer.handle_input(now, &greeting[1..2]), Err(LinkError::NotALink));
        assert_shut(&mut viewer, LinkError::NotALink);
        viewer.handle_input(now, &greeting[2..]).unwrap();
        assert_eq!(drain(&mut viewer), (Vec::new(), Vec::new()), "after the end nothing is heard");
    }
}

#[test]
fn any_length_but_one_is_refused_before_its_bytes_are_kept() {
    for length in (0..=u16::MAX).filter(|length| usize::from(*length) != GREETING - 2) {
        let now = start();
        let mut viewer = Channel::viewer(now, &identity(1).viewer_secrets(), Facts::default());
        assert_eq!(viewer.handle_input(now, &length.to_be_bytes()), Err(LinkError::NotALink));
    }
}

#[test]
fn silence_and_half_a_greeting_end_in_time() {
    for sent in [0, 1, 2, GREETING - 1] {
        let now = start();
        let mut viewer = Channel::viewer(now, &identity(1).viewer_secrets(), Facts::default());
        let (greeting, _) = drain(&mut Channel::caster(now, &caster_secrets(&identity(1)), Facts::default()));
        for (n, byte) in greeting[..sent].iter().enumerate() {
            // A byte at a time does not buy more time.
            viewer.handle_input(now + HANDSHAKE_TIME * n as u32 / 60, &[*byte]).unwrap();
        }
        assert_eq!(viewer.poll_timeout().map(|(at, _)| at), Some(now + HANDSHAKE_TIME));
        viewer.handle_timeout(now + HANDSHAKE_TIME);
        assert_eq!(drain(&mut viewer), (Vec::new(), vec![Event::Ended(EndReason::Late)]));
    }
}

#[test]
fn a_replayed_exchange_never_establishes() {
    let (now, identity) = (start(), identity(1));
    let mut caster = Channel::caster(now, &caster_secrets(&identity), Facts::default());
    let mut first = Channel::viewer(now, &identity.viewer_secrets(), Facts::default());
    let (greeting, _) = drain(&mut caster);
    first.handle_input(now, &greeting).unwrap();
    caster.handle_input(now, &drain(&mut first).0).unwrap();
    caster.nominate().unwrap();
    caster.send_stream(now, (&b"picture"[..]).into()).unwrap();
    let (records, _) = drain(&mut caster);

    // The eavesdropper has every byte that the caster sent.
    let mut second = Channel::viewer(now, &identity.viewer_secrets(), Facts::default());
    second.handle_input(now, &greeting).unwrap();
    let (answer, events) = drain(&mut second);
    assert_eq!((answer.len(), events), (GREETING, Vec::new()), "an answer that only its asker could use");
    assert_eq!(second.handle_input(now, &records), Err(LinkError::Forged));
    assert_shut(&mut second, LinkError::Forged);

    // Without the records it waits in vain.
    let mut third = Channel::viewer(now, &identity.viewer_secrets(), Facts::default());
    third.handle_input(now, &greeting).unwrap();
    drain(&mut third);
    third.handle_timeout(now + HANDSHAKE_TIME);
    assert_eq!(drain(&mut third).1, [Event::Ended(EndReason::Late)]);

    first.handle_input(now, &records).unwrap();
    assert!(drain(&mut first).1.contains(&Event::Stream(b"picture"[..].into())), "the real link goes on");
}

#[test]
fn a_caster_is_not_deceived_by_another_viewer() {
    let (now, mine, other) = (start(), identity(1), identity(2));
    // One who holds the ticket (secret and rendezvous), but not the viewer's private key.
    let mut secrets = other.viewer_secrets();
    (secrets.secret, secrets.rendezvous) = (mine.secret, mine.rendezvous());
    let mut caster = Channel::caster(now, &caster_secrets(&mine), Facts::default());
    let mut viewer = Channel::viewer(now, &secrets, Facts::default());
    let (greeting, _) = drain(&mut caster);
    assert_eq!(viewer.handle_input(now, &greeting), Err(LinkError::Stranger));
    // And an answer made up, reflected, or too long.
    for answer in [[&[0, 57][..], &[7; 57]].concat(), greeting, vec![0, 58], vec![3; 1536]] {
        let mut caster = Channel::caster(now, &caster_secrets(&mine), Facts::default());
        drain(&mut caster);
        assert!(caster.handle_input(now, &answer).is_err());
        assert!(caster.is_ended());
        assert!(matches!(drain(&mut caster).1[..], [Event::Ended(EndReason::Failed(_))]));
    }
}

#[test]
fn two_casters_do_not_hear_each_other() {
    let (now, secrets) = (start(), caster_secrets(&identity(1)));
    let mut casters =
        [Channel::caster(now, &secrets, Facts::default()), Channel::caster(now, &secrets, Facts::default())];
    let (greeting, _) = drain(&mut casters[0]);
    assert_eq!(casters[1].handle_input(now, &greeting), Err(LinkError::Stranger));
}

/// What the caster sends in a whole cast after the handshake, and the viewer's channel that waits for it.
fn records_of_a_cast(now: Instant) -> (Channel, Vec<u8>) {
    let identity = identity(1);
    let mut caster = Channel::caster(now, &caster_secrets(&identity), Facts::default());
    let mut viewer = Channel::viewer(now, &identity.viewer_secrets(), Facts::default());
    viewer.handle_input(now, &drain(&mut caster).0).unwrap();
    caster.handle_input(now, &drain(&mut viewer).0).unwrap();
    caster.nominate().unwrap();
    let mut records = Vec::new();
    for n in 0..8 {
        caster.send_stream(now, vec![n; 33].into()).unwrap();
        records.extend(drain(&mut caster).0);
    }
    caster.end(Bye::Finished);
    records.extend(drain(&mut caster).0);
    (viewer, records)
}

/// Changes `bytes` somewhere: flips, cuts, doubles, swaps or inserts.
fn mutate(rng: &mut fastrand::Rng, bytes: &mut Vec<u8>) {
    let at = rng.usize(..bytes.len());
    match rng.u8(..6) {
        0 => bytes[at] ^= 1 << rng.u8(..8),
        1 => bytes[at] = bytes[at].wrapping_add(rng.u8(1..)),
        2 => drop(bytes.remove(at)),
        3 => bytes.insert(at, rng.u8(..)),
        4 => bytes.truncate(at),
        _ => {
            let to = rng.usize(at..bytes.len());
            let part = bytes[at..=to].to_vec();
            bytes.splice(at..at, part);
        }
    }
}

#[test]
fn ten_thousand_mutated_greetings_deliver_nothing() {
    let (now, identity) = (start(), identity(1));
    let secrets = identity.viewer_secrets();
    let mut rng = fastrand::Rng::with_seed(0x9e37);
    let (greeting, _) = drain(&mut Channel::caster(now, &caster_secrets(&identity), Facts::default()));
    let (_, records) = records_of_a_cast(now);
    for round in 0..10_000 {
        let mut bytes = greeting.clone();
        if rng.bool() {
            bytes.extend(&records);
        }
        mutate(&mut rng, &mut bytes);
        // Mutated behind the greeting it is a replay, which is answered once.
        let replay = bytes.starts_with(&greeting);
        let mut viewer = Channel::viewer(now, &secrets, Facts::default());
        let mut sent = 0;
        for part in bytes.chunks(rng.usize(1..=bytes.len().max(1))) {
            let _ = viewer.handle_input(now, part);
            let (wire, events) = drain(&mut viewer);
            sent += wire.len();
            assert!(
                events.iter().all(|event| matches!(event, Event::Ended(EndReason::Failed(_)))),
                "round {round}: {events:?}"
            );
        }
        assert!(sent == 0 || replay && sent == GREETING, "round {round}: {sent} bytes");
        assert!(!viewer.is_established());
    }
}

// After the proof.

#[test]
fn thousands_of_mutated_casts_deliver_only_what_was_whole() {
    let mut rng = fastrand::Rng::with_seed(0x79b9);
    let genuine: Vec<u8> = (0..8).flat_map(|n| [n; 33]).collect();
    let now = start();
    for round in 0..2_000 {
        let (mut viewer, records) = records_of_a_cast(now);
        let mut bytes = records.clone();
        mutate(&mut rng, &mut bytes);
        let mut stream = Vec::new();
        let mut finished = false;
        for part in bytes.chunks(rng.usize(1..=bytes.len().max(1))) {
            let _ = viewer.handle_input(now, part);
            for event in drain(&mut viewer).1 {
                match event {
                    Event::Stream(bytes) => stream.extend_from_slice(&bytes),
                    Event::Ended(reason) => finished |= reason == EndReason::Bye(Bye::Finished),
                    Event::Established(_)
                    | Event::Nominated
                    | Event::Rtt(_)
                    | Event::Room
                    | Event::KeyframeWanted
                    | Event::Session(_)
                    | Event::Stamp { .. } => {}
                }
            }
        }
        assert!(genuine.starts_with(&stream), "round {round}: bytes that were never sent");
        // A cast that was cut, and not ended, can be told; bytes after the end change nothing.
        assert!(!finished || bytes.starts_with(&records), "round {round}: ended by a mutation");
    }
}

#[test]
fn a_record_out_of_order_or_repeated_is_forged() {
    let now = start();
    let (mut viewer, records) = records_of_a_cast(now);
    let (ping, rest) = records.split_at(28);
    let (nominate, stream) = rest.split_at(20);
    viewer.handle_input(now, ping).unwrap();
    assert_eq!(viewer.handle_input(now, ping), Err(LinkError::Forged));

    let (mut viewer, records_2) = records_of_a_cast(now);
    assert_eq!(records_2.len(), ping.len() + nominate.len() + stream.len());
    viewer.handle_input(now, &records_2[..28]).unwrap();
    drain(&mut viewer);
    assert_eq!(viewer.handle_input(now, &records_2[48..]), Err(LinkError::Forged));
    assert_eq!(drain(&mut viewer), (Vec::new(), vec![Event::Ended(EndReason::Failed(LinkError::Forged))]));
}

#[test]
fn what_a_viewer_sent_is_nothing_to_a_viewer() {
    let (now, identity) = (start(), identity(1));
    let mut caster = Channel::caster(now, &caster_secrets(&identity), Facts::default());
    let mut viewer = Channel::viewer(now, &identity.viewer_secrets(), Facts::default());
    viewer.handle_input(now, &drain(&mut caster).0).unwrap();
    caster.handle_input(now, &drain(&mut viewer).0).unwrap();
    viewer.handle_input(now, &drain(&mut caster).0).unwrap();
    let (pong, _) = drain(&mut viewer);
    assert_eq!(viewer.handle_input(now, &pong), Err(LinkError::Forged), "a reflected record");
}

#[test]
fn a_stranger_beside_a_running_cast_does_not_disturb_it() {
    let now = start();
    let (mut viewer, records) = records_of_a_cast(now);
    let mut rng = fastrand::Rng::with_seed(5);
    for part in records.chunks(7) {
        let mut beside = Channel::viewer(now, &identity(1).viewer_secrets(), Facts::default());
        let junk: Vec<u8> = std::iter::repeat_with(|| rng.u8(..)).take(GREETING).collect();
        assert!(beside.handle_input(now, &junk).is_err());
        viewer.handle_input(now, part).unwrap();
    }
    let (_, events) = drain(&mut viewer);
    assert_eq!(events.iter().filter(|event| matches!(event, Event::Stream(_))).count(), 8);
    assert_eq!(events.last(), Some(&Event::Ended(EndReason::Bye(Bye::Finished))));
}

// The door.

fn v4(n: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(0xc633_6400 + n as u32))
}

#[test]
fn one_source_holds_no_more_than_its_places() {
    let (now, mut door) = (start(), Door::new());
    for _ in 0..PER_SOURCE {
        assert!(door.admit(v4(1), now));
    }
    assert!(!door.admit(v4(1), now));
    assert!(!door.admit("::ffff:198.51.100.1".parse().unwrap(), now), "the same address, mapped");
    assert!(door.admit(v4(2), now));
    door.leave(v4(1));
    assert!(door.admit(v4(1), now));
    assert_eq!(door.waiting(), PER_SOURCE + 1);
}

#[test]
fn one_ipv6_subscriber_is_one_source() {
    let (now, mut door) = (start(), Door::new());
    for n in 0..PER_SOURCE {
        assert!(door.admit(format!("2001:db8:0:7:{n}::1").parse().unwrap(), now));
    }
    assert!(!door.admit("2001:db8:0:7:ffff::".parse().unwrap(), now));
    assert!(door.admit("2001:db8:0:8::1".parse().unwrap(), now));
}

#[test]
fn a_crowd_does_not_shut_out_the_awaited_peer() {
    let (now, mut door) = (start(), Door::new());
    let awaited = v4(200);
    door.expect(awaited);
    let admitted = (0..TOTAL * 2).filter(|n| door.admit(v4(*n), now)).count();
    assert_eq!(admitted, TOTAL);
    for _ in 0..RESERVED {
        assert!(door.admit(awaited, now));
    }
    assert!(!door.admit(awaited, now));
    assert_eq!(door.waiting(), TOTAL + RESERVED);
}

#[test]
fn one_source_begins_no_more_than_its_rate() {
    let (now, mut door) = (start(), Door::new());
    let mut come_and_go = |at| {
        let admitted = door.admit(v4(1), at);
        if admitted {
            door.leave(v4(1));
        }
        admitted
    };
    let admitted = (0..RATE * 2).filter(|_| come_and_go(now)).count();
    assert_eq!(admitted, RATE as usize);
    assert!(!come_and_go(now + RATE_WINDOW / 2));
    assert!(come_and_go(now + RATE_WINDOW));
}

#[test]
fn the_door_remembers_a_bounded_number_of_sources() {
    let (now, mut door) = (start(), Door::new());
    let mut come_and_go = |n, at| {
        let admitted = door.admit(v4(n), at);
        if admitted {
            door.leave(v4(n));
        }
        admitted
    };
    let admitted = (0..SOURCES * 3).filter(|n| come_and_go(*n, now)).count();
    assert_eq!(admitted, SOURCES);
    assert!(come_and_go(SOURCES * 3, now + RATE_WINDOW), "windows end, and places are free again");
}

#[test]
fn who_leaves_without_having_come_changes_nothing() {
    let (now, mut door) = (start(), Door::new());
    door.leave(v4(1));
    assert!(door.admit(v4(1), now));
    door.leave(v4(1));
    door.leave(v4(1));
    assert_eq!(door.waiting(), 0);
}

#[test]
fn from_an_expected_source_a_newcomer_displaces_the_oldest() {
    let (now, mut door) = (start(), Door::new());
    let (peer, stranger) = (IpAddr::from([203, 0, 113, 1]), IpAddr::from([203, 0, 113, 2]));
    door.expect(peer);
    for addr in [peer, stranger] {
        for _ in 0..PER_SOURCE {
            assert_eq!(door.receive(addr, now), Admission::Yes);
        }
    }
    assert_eq!(door.receive(stranger, now), Admission::No, "nobody awaits it");
    assert!(!door.admit(peer, now), "who cannot close another is not told to");
    for _ in 0..RATE as usize - PER_SOURCE {
        assert_eq!(door.receive(peer, now), Admission::Displace);
        door.leave(peer);
        assert_eq!(door.waiting(), 2 * PER_SOURCE);
    }
    assert_eq!(door.receive(peer, now), Admission::No, "the rate holds for everybody");
}
