//! What clients say that routers forward to them: who hears of it, and of what not.

#[path = "daemon_support/mod.rs"]
mod support;

use punchcast::endpoint::Endpoint;
use punchcast::wire;
use punchcast::wire::message::{FromMain, Role, ToMain};
use std::time::Duration;
use support::{World, endpoint, login};

const VIEWER_IP: &str = "203.0.113.9";
const CASTER_IP: &str = "198.51.100.7";

fn mapped(endpoints: &[&str]) -> ToMain {
    ToMain::Mapped { endpoints: endpoints.iter().map(|text| endpoint(text)).collect() }
}

/// What each introduction, or amendment, among `messages` says of the peer's mapped endpoints.
fn told(messages: &[FromMain]) -> Vec<Vec<Endpoint>> {
    let peer = |message: &FromMain| match message {
        FromMain::SrvReqMakeHole { peer, .. } | FromMain::SrvReqDirectConnect { peer, .. } => {
            Some(peer.mapped.clone())
        }
        FromMain::Welcome { .. }
        | FromMain::NewUserLogin { .. }
        | FromMain::UserLogout { .. }
        | FromMain::Heartbeat { .. }
        | FromMain::Refused { .. }
        | FromMain::Shutdown
        | FromMain::Observed { .. }
        | FromMain::FilterResult { .. }
        | FromMain::Relaying { .. }
        | FromMain::Nameplate { .. }
        | FromMain::Called { .. }
        | FromMain::Answered { .. }
        | FromMain::Confirmed { .. }
        | FromMain::Granted { .. } => None,
    };
    messages.iter().filter_map(peer).collect()
}

#[test]
fn mapped_endpoints_come_with_the_introduction_but_none_of_a_third_party() {
    let mut world = World::new();
    let viewer = world.client(VIEWER_IP, Role::Viewer, 1, &[]);
    world.touch(&viewer, Role::Viewer);
    world.send(
        viewer.main,
        &mapped(&["203.0.113.9:17000", "192.0.2.77:22", "203.0.113.9:0", "192.168.1.1:80"]),
    );
    let caster = world.client(CASTER_IP, Role::Caster, 1, &[]);
    world.main(&caster);
    world.touch(&caster, Role::Caster);
    assert_eq!(told(&world.main(&caster)), [[endpoint("203.0.113.9:17000")]]);
}

#[test]
fn a_mapping_that_comes_after_the_introduction_amends_it_for_both_roles() {
    let mut world = World::new();
    let viewer = world.client(VIEWER_IP, Role::Viewer, 1, &[]);
    world.touch(&viewer, Role::Viewer);
    let caster = world.client(CASTER_IP, Role::Caster, 1, &[]);
    world.touch(&caster, Role::Caster);
    world.main(&viewer);
    world.main(&caster);

    world.send(viewer.main, &mapped(&["203.0.113.9:17000"]));
    assert_eq!(told(&world.main(&caster)), [[endpoint("203.0.113.9:17000")]]);
    assert_eq!(told(&world.main(&viewer)), Vec::<Vec<Endpoint>>::new());

    world.send(caster.main, &mapped(&["198.51.100.7:18000"]));
    assert_eq!(told(&world.main(&viewer)), [[endpoint("198.51.100.7:18000")]]);

    // The whole list, and it may become empty.
    world.send(viewer.main, &mapped(&[]));
    assert_eq!(told(&world.main(&caster)), [[]]);

    // When the introduction is over, nobody dials for it any more.
    world.advance(Duration::from_secs(11));
    world.send(viewer.main, &mapped(&["203.0.113.9:17001"]));
    assert_eq!(told(&world.main(&caster)), Vec::<Vec<Endpoint>>::new());
}

#[test]
fn it_may_follow_the_login_without_waiting_for_the_welcome() {
    let mut world = World::new();
    let main = world.connect(punchcast::rendezvous::broker::MAIN, "203.0.113.9:5555");
    let token = world.token();
    let login = wire::encode(&login(Role::Viewer, 1, token, &[]));
    let bytes = [login, wire::encode(&mapped(&["203.0.113.9:17000"]))].concat();
    world.send_bytes(main, &bytes);
    let messages = world.read::<FromMain>(main);
    assert!(matches!(messages[..], [FromMain::Welcome { .. }]), "{messages:?}");
    assert_eq!(world.end_of(main), None);
}
