//! HTTP-FLV by the page's verbs.

use super::flv::STALL_TIME;
use super::tests::{Bed, LOOPBACK, NETWORK, get, video};
use super::*;
use crate::player::FRESH_TIME;
use punchcast::media::flv;

/// The units of what a player was sent after its response's head.
fn units(bytes: &[u8]) -> Vec<(u32, u8, u8)> {
    let mut reader = flv::Reader::new();
    reader.push(bytes);
    let units = std::iter::from_fn(|| reader.next().expect("FLV"));
    units.map(|unit| (unit.timestamp, unit.payload[0], unit.payload[1])).collect()
}

/// Asks for the first cast; the connection, and what came with the head.
fn play(bed: &mut Bed) -> (ConnId, Vec<u8>) {
    let conn = bed.accept(LOOPBACK);
    bed.receive(conn, get("/live.flv", LOOPBACK).as_bytes());
    let bytes = bed.taken(conn);
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("a response head") + 4;
    let head = str::from_utf8(&bytes[..end]).unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\nContent-Type: video/x-flv\r\n"), "{head}");
    assert!(head.contains("Cross-Origin-Resource-Policy: same-origin\r\n"), "{head}");
    assert!(!head.contains("Access-Control") && !head.contains("Content-Length"), "{head}");
    (conn, bytes[end..].to_vec())
}

#[test]
fn a_player_gets_the_group_under_way_and_what_follows_until_the_cast_is_gone() {
    let mut bed = Bed::new();
    bed.page.stream_started(bed.now, 0);
    for unit in [video([0x17, 0], 5000), video([0x17, 1], 5000), video([0x27, 1], 5040)] {
        bed.publish(&unit);
    }
    let (conn, mut bytes) = play(&mut bed);
    assert!(bytes.is_empty());
    bed.pass(FRESH_TIME);
    bed.publish(&video([0x27, 1], 5080));
    bytes.extend(bed.taken(conn));
    assert_eq!(units(&bytes), [(0, 0x17, 0), (0, 0x17, 1), (40, 0x27, 1), (80, 0x27, 1)]);

    // The link is made again: the file goes on at a keyframe, on its own clock.
    bed.page.stream_ended(bed.now, 0);
    bed.page.stream_started(bed.now, 0);
    for unit in [video([0x27, 1], 90), video([0x17, 1], 130), video([0x27, 1], 170)] {
        bed.publish(&unit);
    }
    bytes.extend(bed.taken(conn));
    assert_eq!(units(&bytes)[4..], [(120, 0x17, 1), (160, 0x27, 1)]);
    assert!(!bed.closed.contains_key(&conn));
    bed.page.cast_gone(bed.now, 0);
    bed.drain();
    assert_eq!(bed.closed.get(&conn), Some(&Closing::Flush));
}

#[test]
fn a_player_begins_with_a_keyframe_that_comes_at_once() {
    let mut bed = Bed::new();
    bed.page.stream_started(bed.now, 0);
    for unit in [video([0x17, 0], 5000), video([0x17, 1], 5000), video([0x27, 1], 5040)] {
        bed.publish(&unit);
    }
    let (conn, _) = play(&mut bed);
    assert_eq!(bed.page.poll_timeout().map(|(at, _)| at), Some(bed.now + FRESH_TIME));
    for unit in [video([0x27, 1], 65_000), video([0x17, 1], 65_040), video([0x27, 1], 65_080)] {
        bed.publish(&unit);
    }
    assert_eq!(units(&bed.taken(conn)), [(0, 0x17, 0), (0, 0x17, 1), (40, 0x27, 1)]);
}

#[test]
fn who_asks_for_the_head_alone_is_told_what_a_player_is_and_let_go() {
    let mut bed = Bed::new();
    bed.page.stream_started(bed.now, 0);
    bed.publish(&video([0x17, 1], 0));
    let paths = (2..=4).map(|number| format!("/live-{number}.flv"));
    for path in ["/live.flv".to_owned()].into_iter().chain(paths) {
        let request = get(&path, LOOPBACK);
        let (_, played) = bed.ask(LOOPBACK, &request);
        let (conn, head) = bed.ask(LOOPBACK, &request.replace("GET", "HEAD"));
        assert!(head.starts_with("HTTP/1.1 200 OK\r\nContent-Type: video/x-flv\r\n"), "{path}: {head}");
        assert_eq!(head, played, "a player gets its head first, and waits for a keyframe");
        assert_eq!(bed.closed.get(&conn), Some(&Closing::Flush), "{path}");
    }
    let (_, nothing) = bed.ask(LOOPBACK, &get("/live-5.flv", LOOPBACK).replace("GET", "HEAD"));
    assert!(nothing.starts_with("HTTP/1.1 404 ") && nothing.ends_with("\r\n\r\n"), "{nothing}");
}

#[test]
fn a_player_of_another_network_needs_the_pages_token() {
    let token = PageToken::new([0xab; 16]);
    let mut bed = Bed::with_token(Some(token.clone()));
    let (_, refused) = bed.ask(NETWORK, &get("/live.flv", NETWORK));
    assert!(refused.starts_with("HTTP/1.1 403 "), "{refused}");
    let path = format!("/live.flv?t={}", token.as_str());
    let (_, played) = bed.ask(NETWORK, &get(&path, NETWORK));
    assert!(played.starts_with("HTTP/1.1 200 "), "{played}");
    let (_, foreign) = bed.ask(LOOPBACK, &get("/live.flv", "evil.example"));
    assert!(foreign.starts_with("HTTP/1.1 421 "), "{foreign}");
    let (_, awaited) = bed.ask(LOOPBACK, &get("/live-4.flv", LOOPBACK));
    assert!(awaited.starts_with("HTTP/1.1 200 "), "{awaited}");
    for path in ["/live-5.flv", "/live-10.flv", "/live-0.flv", "/cast-2.flv"] {
        let (_, nothing) = bed.ask(LOOPBACK, &get(path, LOOPBACK));
        assert!(nothing.starts_with("HTTP/1.1 404 "), "{path}: {nothing}");
    }
}

#[test]
fn a_player_that_takes_nothing_is_let_go_and_one_that_waits_is_not() {
    let mut bed = Bed::new();
    let (waiting, _) = play(&mut bed);
    let (stuck, _) = play(&mut bed);
    bed.backlog(stuck, true);
    bed.pass(STALL_TIME);
    assert_eq!(bed.closed.get(&stuck), Some(&Closing::Abort));
    for _ in 0..5 {
        bed.pass(STALL_TIME);
    }
    assert!(!bed.closed.contains_key(&waiting));
}
