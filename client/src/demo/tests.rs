//! The demo's parts, each by itself; the whole is run by `tests/netns`.

use super::bridge;
use super::event::Event;
use super::process::Who;
use super::story::Story;
use super::{Options, Part, Scratch};
use crate::cli::Parser;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// No test waits longer for a byte.
const PATIENCE: Duration = Duration::from_secs(10);

fn parse(args: &[&str]) -> Result<Options, lexopt::Error> {
    Options::parse(&mut Parser::from_args(args))
}

fn event(line: &str) -> Event {
    Event::parse(line).unwrap()
}

#[test]
fn no_arguments_mean_an_endless_demo() {
    let options = parse(&[]).unwrap();

    assert!(!options.once);
    assert!(!options.loopback);
    assert_eq!(options.snapshot, None, "nothing is written that nobody asked for");
    assert_eq!(options.part, Part::Whole);
}

#[test]
fn a_time_that_no_cast_can_take_is_refused() {
    assert!(parse(&["--once", "--seconds", "0"]).is_err());
    assert!(parse(&["--once", "--seconds", "soon"]).is_err());
    assert!(parse(&["--once", "--seconds", "86401"]).is_err());
    assert!(parse(&["--seconds", "x"]).unwrap_err().to_string().contains("--seconds"));
    assert!(parse(&["--seconds", "3"]).unwrap_err().to_string().contains("--once"));
    assert!(parse(&["--twice"]).is_err());
    assert_eq!(parse(&["--once", "--seconds", "3"]).unwrap().duration, Duration::from_secs(3));
}

#[test]
fn the_arguments_for_the_inner_process_parse_to_the_same_options() {
    for given in [&["--once", "--seconds", "3", "--snapshot", "a.png"][..], &[]] {
        let outer = parse(given).unwrap();
        let mut args = outer.to_args();
        assert_eq!(args.remove(0), "demo");
        args.extend(["--within".into(), "/tmp/page".into(), "8080".into()]);

        let inner = Options::parse(&mut Parser::from_args(args)).unwrap();

        assert_eq!(inner.part, Part::Within { socket: "/tmp/page".into(), port: 8080 });
        assert_eq!(Options { part: Part::Whole, ..inner }, outer);
    }
}

#[test]
fn a_line_that_is_no_event_is_passed_over() {
    for line in ["", "punchcast://example", "{", "[1]", r#"{"event":"link"}"#, r#"{"event":7,"t_ms":1}"#] {
        assert_eq!(Event::parse(line), None, "{line}");
    }
}

#[test]
fn the_story_succeeds_with_a_direct_link_pictures_and_a_snapshot_only() {
    let scratch = Scratch::new().unwrap();
    let (png, other) = (scratch.path().join("a.png"), scratch.path().join("b.png"));
    fs::write(&png, b"\x89PNG\r\n\x1a\nrest").unwrap();
    fs::write(&other, b"no picture").unwrap();
    let now = Instant::now();
    let mut story = Story::new(now, true);
    assert!(!story.succeeded(Some(&png)));

    story.hear(Who::Viewer, now, &event(r#"{"event":"link","t_ms":9,"rung":"punched","elapsed_ms":90}"#));
    assert!(!story.succeeded(Some(&png)), "no picture yet");
    story.hear(Who::Caster, now, &event(r#"{"event":"link","t_ms":8,"rung":"punched","elapsed_ms":84.3}"#));
    story.hear(Who::Viewer, now, &event(r#"{"event":"first-frame","t_ms":20,"elapsed_ms":101.26}"#));
    story.hear(Who::Viewer, now, &event(r#"{"event":"stats","t_ms":1000,"frames":30}"#));
    story.hear(Who::Viewer, now, &event(r#"{"event":"stats","t_ms":2000,"frames":29}"#));

    assert!(story.succeeded(Some(&png)));
    assert!(!story.succeeded(Some(&other)), "the snapshot is no picture");
    assert!(!story.succeeded(Some(Path::new("/nowhere.png"))));
    let summary = story.summary(Some(&png));
    let words: Vec<_> = summary.split_whitespace().collect();
    assert_eq!(
        words[..10],
        ["rung", "punched", "link", "84.3", "ms", "first", "frame", "101.3", "ms", "frames"]
    );
    assert_eq!(words[10], "59");

    story.hear(Who::Viewer, now, &event(r#"{"event":"link","t_ms":9,"rung":"relayed","elapsed_ms":90}"#));
    assert!(!story.succeeded(Some(&png)), "a relay is not direct");
}

#[test]
fn steps_are_told_in_the_order_of_time_however_they_come() {
    let began = Instant::now();
    let mut story = Story::new(began, true);
    let after = |millis| began + Duration::from_millis(millis);
    story.hear(Who::Caster, after(59), &event(r#"{"event":"ready","t_ms":0.2}"#));
    story.hear(Who::Caster, after(59), &event(r#"{"event":"lost","t_ms":9.1}"#));
    story.hear(Who::Viewer, after(50), &event(r#"{"event":"logged-in","t_ms":9.1}"#));
    story.hear(Who::Viewer, after(50), &event(r#"{"event":"lost","t_ms":18.05}"#));

    let names = |lines: Vec<String>| -> Vec<String> {
        lines.iter().map(|line| line.split_whitespace().nth(2).unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(names(story.take_until(Duration::from_millis(67))), ["viewer", "caster"]);
    assert_eq!(names(story.take_until(Duration::MAX)), ["viewer", "caster"]);
    assert_eq!(story.take_until(Duration::MAX), [""; 0]);
}

#[test]
fn the_scratch_directory_is_private_and_goes_with_the_demo() {
    let scratch = Scratch::new().unwrap();
    let path = scratch.path().to_owned();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    fs::write(scratch.socket(), b"").unwrap();

    drop(scratch);

    assert!(!path.exists());
}

/// A page that answers every connection with what it was sent, backwards, after the sender's last byte.
fn echo_page() -> SocketAddr {
    let page = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = page.local_addr().unwrap();
    thread::spawn(move || {
        for conn in page.incoming() {
            let mut conn = conn.unwrap();
            let mut bytes = Vec::new();
            conn.read_to_end(&mut bytes).unwrap();
            bytes.reverse();
            conn.write_all(&bytes).unwrap();
        }
    });
    addr
}

#[test]
fn the_page_is_reached_through_front_and_bridge_and_half_closing_passes() {
    let scratch = Scratch::new().unwrap();
    let socket = scratch.socket();
    let inner = UnixListener::bind(&socket).unwrap();
    let page = echo_page();
    thread::spawn(move || bridge::serve(&inner, page));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let front = listener.local_addr().unwrap();
    thread::spawn(move || bridge::front(&listener, &socket));
    let sent: Vec<u8> =
        (0..300_000u32).map(|index| index.to_le_bytes()[0] ^ index.to_le_bytes()[1]).collect();

    // More connections one after the other than are carried at once: places are given back.
    for _ in 0..80 {
        let mut browser = TcpStream::connect(front).unwrap();
        browser.set_read_timeout(Some(PATIENCE)).unwrap();
        browser.write_all(&sent).unwrap();
        browser.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        browser.read_to_end(&mut answer).unwrap();
        answer.reverse();
        assert!(answer == sent);
    }
}

#[test]
fn the_addresses_of_a_peer_are_told_as_they_are_written() {
    let mut story = Story::new(Instant::now(), true);
    let introduced = r#"{"event":"introduced","t_ms":1.0,"endpoints":["127.0.0.1:9","[::1]:9"]}"#;
    story.hear(Who::Viewer, Instant::now(), &event(introduced));
    let told = story.take_until(Duration::MAX);
    assert!(told[0].ends_with("is introduced; the other may be at 127.0.0.1:9, [::1]:9"), "{told:?}");
}
