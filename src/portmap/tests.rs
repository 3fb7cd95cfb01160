//! The mapper against gateways made of bytes, at chosen moments.

use super::natpmp::tests::{address_answer, map_answer};
use super::pcp::tests::answer;
use super::*;
use crate::app::soonest;
use std::time::Instant;

const PORT: u16 = 4711;
const OUTSIDE: &str = "203.0.113.9:4711";
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

/// A mapper, virtual time, and what it asked for since it was last looked at.
struct Scene {
    mapper: Mapper,
    now: Instant,
    sent: Vec<(SocketAddr, Vec<u8>)>,
    commands: Vec<Command>,
    standing: Vec<Mapping>,
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn gateway() -> SocketAddr {
    addr("192.168.1.1:5351")
}

fn gateway_v6() -> SocketAddr {
    addr("[fe80::1]:5351")
}

fn config(protocols: &[Protocol]) -> Config {
    Config {
        purpose: Purpose::Map { port: PORT, lifetime: LIFETIME },
        v4: Some(Way { gateway: gateway(), local: "192.168.1.2".parse().unwrap() }),
        v6: None,
        upnp: true,
        protocols: protocols.to_vec(),
        seed: 7,
    }
}

impl Scene {
    fn new(config: &Config) -> Self {
        let now = crate::driver::now();
        let mapper = Mapper::new(now, config);
        let mut scene = Self { mapper, now, sent: Vec::new(), commands: Vec::new(), standing: Vec::new() };
        scene.drain();
        scene
    }

    fn drain(&mut self) {
        while let Some(output) = self.mapper.poll_output() {
            match output {
                Output::Send { to, bytes } => self.sent.push((to, bytes)),
                Output::Upnp(command) => self.commands.push(command),
                Output::Changed(mappings) => self.standing = mappings,
            }
        }
    }

    fn hear(&mut self, from: SocketAddr, bytes: &[u8]) {
        self.mapper.handle_input(self.now, Input::Datagram { from, bytes });
        self.drain();
    }

    fn upnp(&mut self, answer: Answer) {
        self.mapper.handle_input(self.now, Input::Upnp(answer));
        self.drain();
    }

    /// Lets time pass, with every deadline at its moment.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some((at, _)) = soonest(self.mapper.poll_timeout(), None).filter(|(at, _)| *at <= until) {
            self.now = self.now.max(at);
            self.mapper.handle_timeout(self.now);
            self.drain();
        }
        self.now = until;
    }

    /// The only datagram that is out.
    fn request(&mut self) -> Vec<u8> {
        assert_eq!(self.sent.len(), 1, "{:?}", self.sent);
        self.sent.remove(0).1
    }

    fn external(&self) -> Vec<(Protocol, String)> {
        self.standing.iter().map(|mapping| (mapping.protocol, mapping.external.to_string())).collect()
    }
}

fn mapped_by(protocol: Protocol) -> Vec<(Protocol, String)> {
    vec![(protocol, OUTSIDE.to_owned())]
}

#[test]
fn pcp_is_asked_first_and_is_enough() {
    let mut scene = Scene::new(&config(&Protocol::ALL));
    let request = scene.request();
    scene.hear(gateway(), &answer(&request, 0, 1800, 50, OUTSIDE));
    assert_eq!(scene.external(), mapped_by(Protocol::Pcp));
    scene.pass(Duration::from_secs(60));
    assert!(scene.sent.is_empty() && scene.commands.is_empty());
    assert_eq!(scene.mapper.finding(Protocol::Pcp), Finding::Works);
}

#[test]
fn silence_brings_in_the_other_protocols_soon_and_does_not_go_on_for_ever() {
    let mut scene = Scene::new(&config(&Protocol::ALL));
    scene.pass(NEXT);
    let versions: Vec<u8> = scene.sent.iter().map(|(_, bytes)| bytes[0]).collect();
    assert_eq!(versions, [pcp::VERSION, natpmp::VERSION, natpmp::VERSION]);
    assert_eq!(scene.commands.len(), 1);
    scene.pass(Duration::from_secs(60));
    // Six of PCP, six pairs of NAT-PMP, and UPnP has its own time-outs.
    assert_eq!(scene.sent.len(), 6 + 12);
    assert_eq!(scene.mapper.finding(Protocol::NatPmp), Finding::Silent);
    // After a rest they are asked again.
    scene.pass(Duration::from_secs(5 * 60));
    assert!(scene.sent.len() > 18);
}

const NEXT: Duration = mapper::NEXT_AFTER;

#[test]
fn a_router_of_before_pcp_is_asked_in_its_own_language_at_once() {
    let mut scene = Scene::new(&config(&Protocol::ALL));
    scene.request();
    scene.hear(gateway(), &[0, 129, 0, 1, 0, 0, 0, 9]);
    scene.pass(Duration::ZERO);
    assert_eq!(scene.sent.len(), 2, "address and mapping");
    scene.hear(gateway(), &map_answer(9, PORT, PORT, 3600));
    assert!(scene.standing.is_empty(), "the address is missing");
    scene.hear(gateway(), &address_answer(9, [203, 0, 113, 9]));
    assert_eq!(scene.external(), mapped_by(Protocol::NatPmp));
    assert!(matches!(scene.mapper.finding(Protocol::Pcp), Finding::Refused(_)));
}

#[test]
fn a_lease_is_renewed_at_half_its_time_with_the_same_nonce_and_lives_on() {
    let mut scene = Scene::new(&config(&[Protocol::Pcp]));
    let first = scene.request();
    scene.hear(gateway(), &answer(&first, 0, 1000, 50, OUTSIDE));
    scene.pass(Duration::from_secs(499));
    assert!(scene.sent.is_empty());
    scene.pass(Duration::from_secs(2));
    let second = scene.sent.remove(0).1;
    assert_eq!(second[24..36], first[24..36], "the nonce is the mapping's");
    assert_eq!(second[42..44], PORT.to_be_bytes(), "it asks for what it has");
    assert_eq!(scene.standing.len(), 1, "it stands meanwhile");
    scene.hear(gateway(), &answer(&second, 0, 1000, 550, OUTSIDE));
    scene.sent.clear();
    scene.pass(Duration::from_secs(498));
    assert!(scene.sent.is_empty(), "the next half");
    assert_eq!(scene.external(), mapped_by(Protocol::Pcp));
}

#[test]
fn a_lease_that_nobody_renews_is_asked_for_more_than_once_and_ends_in_time() {
    let mut scene = Scene::new(&config(&[Protocol::Pcp]));
    let request = scene.request();
    scene.hear(gateway(), &answer(&request, 0, 1000, 50, OUTSIDE));
    scene.pass(Duration::from_secs(999));
    assert_eq!(scene.standing.len(), 1);
    assert!(scene.sent.len() >= 12, "{}", scene.sent.len());
    scene.pass(Duration::from_secs(15));
    assert!(scene.standing.is_empty());
}

#[test]
fn a_lease_that_ends_unrenewed_lets_the_other_protocols_try() {
    let mut scene = Scene::new(&config(&Protocol::ALL));
    let request = scene.request();
    scene.hear(gateway(), &answer(&request, 0, 1000, 50, OUTSIDE));
    scene.pass(Duration::from_secs(1020));
    assert_eq!(scene.commands.len(), 1);
    assert!(scene.sent.iter().any(|(_, bytes)| bytes[0] == natpmp::VERSION));
}

#[test]
fn replies_from_others_for_others_and_with_another_nonce_change_nothing() {
    let mut scene = Scene::new(&config(&[Protocol::Pcp]));
    let request = scene.request();
    let good = answer(&request, 0, 1800, 50, OUTSIDE);
    scene.hear(addr("192.168.1.3:5351"), &good);
    scene.hear(addr("192.168.1.1:5352"), &good);
    let mut nonce = good.clone();
    nonce[30] ^= 1;
    scene.hear(gateway(), &nonce);
    let mut port = good.clone();
    port[41] ^= 1;
    scene.hear(gateway(), &port);
    let mut refused = answer(&request, 2, 600, 50, "");
    refused[30] ^= 1;
    scene.hear(gateway(), &refused);
    assert!(scene.standing.is_empty());
    assert_eq!(scene.mapper.finding(Protocol::Pcp), Finding::Open);
    scene.hear(gateway(), &good);
    assert_eq!(scene.standing.len(), 1);
}

#[test]
fn an_outside_address_behind_another_nat_is_given_back() {
    let mut scene = Scene::new(&config(&[Protocol::Pcp]));
    let request = scene.request();
    scene.hear(gateway(), &answer(&request, 0, 1800, 50, "100.64.3.4:4711"));
    assert!(scene.standing.is_empty());
    let removal = scene.request();
    assert_eq!(removal[4..8], [0; 4], "a lifetime of zero");
    assert!(matches!(scene.mapper.finding(Protocol::Pcp), Finding::Refused(_)));
}

#[test]
fn a_router_that_forgot_is_asked_for_everything_anew() {
    let mut both = config(&[Protocol::Pcp]);
    both.v6 = Some(Way { gateway: gateway_v6(), local: "2001:db8::2".parse().unwrap() });
    let mut scene = Scene::new(&both);
    let requests = std::mem::take(&mut scene.sent);
    assert_eq!(requests.len(), 2);
    scene.hear(gateway(), &answer(&requests[0].1, 0, 1000, 5000, OUTSIDE));
    scene.hear(gateway_v6(), &answer(&requests[1].1, 0, 3000, 5000, "[2001:db8::2]:4711"));
    assert_eq!(scene.standing.len(), 2);
    scene.pass(Duration::from_millis(500_100));
    let renewal = scene.request();
    // Its clock says that it has been up for ten seconds.
    scene.hear(gateway(), &answer(&renewal, 0, 1000, 10, OUTSIDE));
    assert_eq!(scene.sent.len(), 1);
    assert_eq!(scene.sent[0].0, gateway_v6());
    assert_eq!(scene.standing.len(), 2);
}

#[test]
fn a_broken_link_has_everything_asked_for_again_but_not_without_end() {
    let mut scene = Scene::new(&config(&[Protocol::Pcp]));
    let request = scene.request();
    scene.hear(gateway(), &answer(&request, 0, 1000, 50, OUTSIDE));
    scene.pass(Duration::from_secs(10));
    scene.mapper.renew(scene.now);
    scene.drain();
    let renewal = scene.request();
    scene.hear(gateway(), &answer(&renewal, 0, 1000, 2, OUTSIDE));
    assert_eq!(scene.external(), mapped_by(Protocol::Pcp), "it stands throughout");
    scene.pass(Duration::from_secs(1));
    scene.mapper.renew(scene.now);
    scene.drain();
    assert!(scene.sent.is_empty(), "a peer that breaks its links makes no flood");
}

#[test]
fn an_ipv6_pinhole_is_asked_for_with_our_own_address() {
    let mut v6 = config(&Protocol::ALL);
    v6.v4 = None;
    v6.upnp = false;
    v6.v6 = Some(Way { gateway: gateway_v6(), local: "2001:db8::2".parse().unwrap() });
    let mut scene = Scene::new(&v6);
    let request = scene.request();
    assert_eq!(request[8..24], "2001:db8::2".parse::<std::net::Ipv6Addr>().unwrap().octets());
    scene.hear(gateway_v6(), &answer(&request, 0, 1800, 50, "[2001:db8::2]:4711"));
    assert_eq!(scene.external(), [(Protocol::Pcp, "[2001:db8::2]:4711".to_owned())]);
}

#[test]
fn at_the_end_what_was_made_is_removed_and_what_may_have_been_made_too() {
    let mut scene = Scene::new(&config(&Protocol::ALL));
    let request = scene.request();
    scene.pass(NEXT);
    scene.sent.clear();
    scene.hear(gateway(), &answer(&request, 0, 1800, 50, OUTSIDE));
    scene.hear(gateway(), &address_answer(51, [203, 0, 113, 9]));
    scene.hear(gateway(), &map_answer(51, PORT, PORT, 1800));
    scene.upnp(Answer::Found);
    scene.mapper.end(scene.now);
    scene.drain();
    assert!(scene.standing.is_empty());
    assert_eq!(scene.commands.last(), Some(&Command::Remove));
    let removals: Vec<Vec<u8>> = scene.sent.iter().map(|(_, bytes)| bytes.clone()).collect();
    assert_eq!(removals.len(), 2, "{removals:?}");
    assert_eq!(removals[0][24..36], request[24..36]);
    assert_eq!((&removals[0][4..8], &removals[1][8..12]), (&[0; 4][..], &[0; 4][..]));
    scene.hear(gateway(), &answer(&removals[0], 0, 0, 51, "0.0.0.0:0"));
    scene.hear(gateway(), &map_answer(51, PORT, 0, 0));
    assert!(!scene.mapper.is_done());
    scene.upnp(Answer::Failed { why: None });
    scene.upnp(Answer::Removed);
    assert!(scene.mapper.is_done());
}

#[test]
fn a_gateway_that_does_not_answer_the_end_holds_it_up_for_less_than_a_second() {
    let mut scene = Scene::new(&config(&[Protocol::Pcp]));
    let request = scene.request();
    scene.hear(gateway(), &answer(&request, 0, 1800, 50, OUTSIDE));
    scene.mapper.end(scene.now);
    scene.pass(Duration::from_millis(700));
    assert!(!scene.mapper.is_done());
    assert_eq!(scene.sent.len(), 3, "a datagram may be lost");
    scene.pass(Duration::from_millis(100));
    assert!(scene.mapper.is_done());
    assert_eq!(scene.mapper.poll_timeout(), None);
}

#[test]
fn where_nobody_has_answered_the_end_does_not_wait() {
    let mut scene = Scene::new(&config(&Protocol::ALL));
    scene.pass(NEXT);
    scene.sent.clear();
    scene.mapper.end(scene.now);
    scene.drain();
    assert!(scene.mapper.is_done());
    // The answer may be on its way, and the mapping made.
    assert_eq!(scene.sent.len(), 2);
    assert_eq!(scene.commands.last(), Some(&Command::Remove));
}

#[test]
fn upnp_is_renewed_and_a_lease_without_end_looked_after() {
    let mut scene = Scene::new(&config(&[Protocol::Upnp]));
    let map = Command::Map { port: PORT, external: PORT, lifetime: 1800 };
    assert_eq!(scene.commands, [map]);
    scene.upnp(Answer::Mapped { external: addr("203.0.113.9:9000"), lifetime: 1800 });
    assert_eq!(scene.external(), [(Protocol::Upnp, "203.0.113.9:9000".to_owned())]);
    scene.pass(Duration::from_secs(901));
    let again = Command::Map { port: PORT, external: 9000, lifetime: 1800 };
    assert_eq!(scene.commands, [map, again]);
    scene.upnp(Answer::Mapped { external: addr("203.0.113.9:9000"), lifetime: 0 });
    scene.pass(Duration::from_secs(901));
    assert_eq!(scene.commands.len(), 3);
    assert_eq!(scene.standing.len(), 1);
    scene.upnp(Answer::Failed { why: Some("it is not allowed".into()) });
    assert!(scene.standing.is_empty());
}

#[test]
fn who_only_asks_changes_nothing_and_is_done_with_the_answers() {
    let mut scene = Scene::new(&Config { purpose: Purpose::Ask, ..config(&Protocol::ALL) });
    let sent = std::mem::take(&mut scene.sent);
    assert_eq!(sent.iter().map(|(_, bytes)| bytes.len()).collect::<Vec<_>>(), [24, 2]);
    assert_eq!(scene.commands, [Command::Find]);
    scene.hear(gateway(), &answer(&sent[0].1, 0, 0, 3, ""));
    scene.hear(gateway(), &address_answer(3, [203, 0, 113, 9]));
    assert!(!scene.mapper.is_done());
    scene.upnp(Answer::Failed { why: None });
    assert!(scene.mapper.is_done());
    let found = Protocol::ALL.map(|protocol| scene.mapper.finding(protocol));
    assert_eq!(found, [Finding::Works, Finding::Works, Finding::Silent]);
    scene.mapper.end(scene.now);
    scene.drain();
    assert!(scene.sent.is_empty() && scene.commands.len() == 1);
}

#[test]
fn a_closed_port_of_the_gateway_is_silence_at_once() {
    let mut scene = Scene::new(&config(&Protocol::ALL));
    scene.mapper.handle_input(scene.now, Input::Unreachable { gateway: gateway() });
    scene.pass(Duration::ZERO);
    assert_eq!(scene.mapper.finding(Protocol::Pcp), Finding::Silent);
    assert_eq!(scene.commands.len(), 1, "no need to wait");
}

#[test]
fn only_a_next_hop_on_a_private_network_is_a_home_router() {
    let is = |gateway: &str, local: &str| is_gateway_v4(gateway.parse().unwrap(), local.parse().unwrap());
    assert!(is("192.168.1.1", "192.168.1.2") && is("100.64.0.1", "100.64.0.2"));
    assert!(!is("198.51.100.1", "198.51.100.2") && !is("192.168.1.1", "203.0.113.9"));
    assert!(!is("127.0.0.1", "127.0.0.1"));
}

/// What no sequence of replies, however mangled, may bring about: a panic, a mapping that is none, or a flood.
#[test]
fn mangled_replies_break_nothing() {
    let mut rng = fastrand::Rng::with_seed(0x5eed);
    let mut v6 = config(&Protocol::ALL);
    v6.v6 = Some(Way { gateway: gateway_v6(), local: "2001:db8::2".parse().unwrap() });
    let mut scene = Scene::new(&v6);
    let began = scene.now;
    let (mut mapped, mut sent) = (0, 0);
    for round in 0..20_000_u32 {
        let request = scene.sent.last().map_or_else(|| vec![2, 1, 0, 0], |(_, bytes)| bytes.clone());
        let mut bytes = match rng.u8(..4) {
            0 => map_answer(rng.u32(..), PORT, rng.u16(..), rng.u32(..)),
            1 => address_answer(rng.u32(..), rng.u32(..).to_be_bytes()),
            _ if request.len() > 12 => answer(&request, rng.u8(..3), rng.u32(..), rng.u32(..), OUTSIDE),
            _ => vec![0, 128 | rng.u8(..4), 0, rng.u8(..7), 0, 0, 0, 0],
        };
        for _ in 0..rng.usize(..4) {
            let at = rng.usize(..bytes.len());
            bytes[at] = rng.u8(..);
        }
        bytes.truncate(if rng.u8(..8) == 0 { rng.usize(..=bytes.len()) } else { bytes.len() });
        let from = if rng.bool() { gateway() } else { gateway_v6() };
        scene.hear(from, &bytes);
        sent += scene.sent.len();
        let keep = scene.sent.pop();
        scene.sent.clear();
        scene.sent.extend(keep);
        mapped += scene.standing.len();
        assert!(
            scene
                .standing
                .iter()
                .all(|mapping| is_public(mapping.external.ip()) && mapping.external.port() != 0)
        );
        if round % 3 == 0 {
            scene.pass(Duration::from_millis(rng.u64(..2000)));
        }
    }
    assert!(mapped > 0, "some get through");
    assert!(scene.now > began + Duration::from_secs(60) && scene.now < began + WEEK);
    assert!(sent < 60_000, "{sent}");
}
