//! What an outlet says when there is no link.

use super::*;
use punchcast::rendezvous::agent::{Asked, Event};
use punchcast::ticket::ViewerIdentity;
use punchcast::wire::message::{Observation, Refusal, Role, SeenBy};
use std::net::SocketAddr;

const DAEMON: &str = "203.0.113.1:4000";
const ASSIST: &str = "203.0.113.1:8000";

#[allow(clippy::disallowed_methods)] // A test's time begins somewhere.
fn outlet() -> Outlet {
    let identity = ViewerIdentity::from_random(&[7; ViewerIdentity::RANDOM_LEN]);
    let now = Instant::now();
    let config = meeting::Config {
        rooms: Rooms::nth(0),
        secrets: meeting::Secrets::Caster(identity.ticket(None, Vec::new()).caster_secrets()),
        agent: None,
        local_ips: Vec::new(),
        ticket_addresses: Vec::new(),
        run: 7,
    };
    Outlet { has_daemon: true, ..Outlet::new(now, now, config, 1) }
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Why there is no link, after these events.
fn reason(events: &[Event]) -> String {
    let mut outlet = outlet();
    events.iter().for_each(|event| outlet.rendezvous_event(outlet.began, event.clone()));
    outlet.no_link(outlet.began, Findings::default(), None);
    let reason = |output| if let Output::Over(false, reason) = output { Some(reason) } else { None };
    outlet.outputs.into_iter().find_map(reason).unwrap()
}

#[test]
fn a_shut_assist_port_is_to_blame_until_it_shows_the_mapping_whatever_login_stands() {
    let logged_in = Event::LoggedIn { client: punchcast::id::ClientId(9), server: addr(DAEMON) };
    let lost = Event::Unreachable {
        server: addr(DAEMON),
        why: "reset".into(),
        retry_in: std::time::Duration::from_secs(1),
    };
    let shut = Event::AssistUnreachable { assist: addr(ASSIST), why: "refused".into() };
    let seen = |hole| Event::Observed {
        observation: Observation {
            seen_by: SeenBy::Assist,
            local_port: 700,
            endpoint: addr("203.0.113.7:700").into(),
            hole,
            own: false,
        },
    };
    let turned_away = Event::Refused { reason: Refusal::TooMany, asked: Asked::Entry(Role::Caster) };
    let not_there = "the viewer is not there";
    let base = [logged_in.clone(), shut, lost];
    for (then, words) in [
        (vec![], "the daemon at 203.0.113.1:4000 could not be reached (reset)"),
        (vec![logged_in.clone()], "the daemon's assist port 203.0.113.1:8000 could not be reached (refused)"),
        (vec![logged_in.clone(), seen(false)], "could not be reached (refused)"),
        (vec![logged_in.clone(), turned_away], "the daemon refuses (too many connections"),
        (vec![logged_in, seen(true)], not_there),
    ] {
        let reason = reason(&[&base[..], &then].concat());
        assert!(reason.contains(words), "{reason}");
        assert_eq!(reason.contains(not_there), words == not_there, "{reason}");
    }
}

#[test]
fn a_caster_is_not_told_of_another_as_its_viewer_is() {
    let mut outlet = outlet();
    let client = punchcast::id::ClientId(9);
    for role in [Role::Caster, Role::Viewer] {
        outlet.rendezvous_event(outlet.began, Event::PeerJoined { client, role });
    }
    let talk = |output| if let Output::Notice(notice) = output { notice.to_talk() } else { None };
    let said: Vec<String> = outlet.outputs.into_iter().filter_map(talk).collect();
    assert_eq!(said, ["another caster has this ticket, too", "the viewer is there"]);
}
