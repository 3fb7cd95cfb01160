//! Every message of the wire against frames that were written by hand, in both directions, whole and byte by byte.

use punchcast::code::{Element, Proof};
use punchcast::endpoint::Endpoint;
use punchcast::id::{CallId, ClientId, OwnerToken, PunchToken, RendezvousId, SessionId};
use punchcast::wire::codec::Message;
use punchcast::wire::frame::{MAX_FRAME_BEFORE_LOGIN, Reader};
use punchcast::wire::message::{
    FromAssist, FromMain, Observation, Peer, Refusal, Role, SeenBy, ToAssist, ToMain,
};
use std::collections::BTreeSet;
use std::path::PathBuf;

const CLIENT: ClientId = ClientId(0x0102_0304_0506_0708);
const SESSION: SessionId = SessionId(0x1122_3344_5566_7788);
const CALL: CallId = CallId(0x2122_2324_a5a6_a7a8);

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/wire")
}

/// The bytes of a hex file: two digits a byte, spaces between as it likes, comments from `#` on.
fn golden(name: &str) -> Vec<u8> {
    let text = std::fs::read_to_string(directory().join(name).with_extension("hex")).expect(name);
    let digits: Vec<char> = text
        .lines()
        .flat_map(|line| line.split('#').next().unwrap_or_default().chars())
        .filter(|digit| !digit.is_whitespace())
        .collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).expect(name))
        .collect()
}

fn ascending<const FROM: u8>() -> [u8; 16] {
    std::array::from_fn(|i| FROM + u8::try_from(i).expect("sixteen"))
}

fn element() -> Element {
    Element(std::array::from_fn(|i| 0x40 + u8::try_from(i).expect("32")))
}

fn proof() -> Proof {
    Proof(std::array::from_fn(|i| 0x60 + u8::try_from(i).expect("32")))
}

fn endpoint(text: &str) -> Endpoint {
    Endpoint::new(text.parse().unwrap())
}

fn peer(public: bool) -> Peer {
    Peer {
        client: CLIENT,
        observed: vec![
            Observation {
                seen_by: SeenBy::Assist,
                local_port: 7000,
                endpoint: endpoint("203.0.113.9:40000"),
                hole: true,
                own: false,
            },
            Observation {
                seen_by: SeenBy::Alternate,
                local_port: 50000,
                endpoint: endpoint("[2001:db8::9]:50000"),
                hole: false,
                own: true,
            },
        ],
        local: vec![endpoint("192.168.1.5:7000")],
        public,
        rtt_us: 30_000,
        mapped: vec![endpoint("203.0.113.9:17000")],
    }
}

fn to_main() -> Vec<(&'static str, ToMain)> {
    let rendezvous = RendezvousId(ascending::<0x10>());
    let token = PunchToken(ascending::<0x20>());
    let local_port = 46_000;
    let owner = Some(OwnerToken(ascending::<0x30>()));
    let local = vec![endpoint("192.168.1.5:7000"), endpoint("[2001:db8::9]:50000")];
    vec![
        (
            "login_viewer",
            ToMain::Login { rendezvous, role: Role::Viewer, token, owner, local, rtt_us: 80_000, local_port },
        ),
        (
            "login_caster",
            ToMain::Login {
                rendezvous,
                role: Role::Caster,
                token,
                owner: None,
                local: vec![],
                rtt_us: 0,
                local_port,
            },
        ),
        ("hole_listen_ready", ToMain::HoleListenReady { session: SESSION }),
        ("heartbeat", ToMain::Heartbeat { nonce: 7 }),
        ("logout", ToMain::Logout),
        ("sample", ToMain::Sample { token, local_port: 7000 }),
        ("test_filter", ToMain::TestFilter),
        ("relay", ToMain::Relay { token, session: SESSION }),
        ("mapped", ToMain::Mapped { endpoints: vec![endpoint("203.0.113.9:17000")] }),
        ("req_nameplate", ToMain::ReqNameplate { wish: 427 }),
        ("call", ToMain::Call { nameplate: 427, element: element() }),
        ("answer", ToMain::Answer { call: CALL, element: element() }),
        ("confirm", ToMain::Confirm { proof: proof() }),
        ("grant", ToMain::Grant { call: CALL, sealed: b"seald".to_vec() }),
        ("deny", ToMain::Deny { call: CALL }),
    ]
}

fn from_main() -> Vec<(&'static str, FromMain)> {
    let observed = endpoint("203.0.113.9:40000");
    let alternate = Some(endpoint("192.0.2.2:8000"));
    let (session, start_in_us, rtt_us) = (SESSION, 25_000, 110_000);
    let both = FromMain::FilterResult { from_other_port: Some(true), from_other_address: Some(false) };
    vec![
        (
            "welcome",
            FromMain::Welcome { client: CLIENT, observed, heartbeat_secs: 25, alternate: None, relay: false },
        ),
        (
            "welcome_alternate",
            FromMain::Welcome { client: CLIENT, observed, heartbeat_secs: 25, alternate, relay: true },
        ),
        ("new_user_login", FromMain::NewUserLogin { client: CLIENT, role: Role::Caster }),
        ("user_logout", FromMain::UserLogout { client: CLIENT }),
        ("srv_req_make_hole", FromMain::SrvReqMakeHole { session, peer: peer(false), start_in_us, rtt_us }),
        (
            "srv_req_direct_connect",
            FromMain::SrvReqDirectConnect { session, peer: peer(true), start_in_us, rtt_us },
        ),
        ("heartbeat", FromMain::Heartbeat { nonce: 7 }),
        ("refused_bad_request", FromMain::Refused { reason: Refusal::BadRequest }),
        ("refused_version", FromMain::Refused { reason: Refusal::Version }),
        ("refused_not_owner", FromMain::Refused { reason: Refusal::NotOwner }),
        ("refused_too_many", FromMain::Refused { reason: Refusal::TooMany }),
        ("refused_full", FromMain::Refused { reason: Refusal::Full }),
        ("refused_replaced", FromMain::Refused { reason: Refusal::Replaced }),
        ("shutdown", FromMain::Shutdown),
        ("observed", FromMain::Observed { endpoint: observed }),
        ("filter_result", FromMain::FilterResult { from_other_port: Some(false), from_other_address: None }),
        ("filter_result_both", both),
        ("relaying", FromMain::Relaying { bytes: 0x4000_0000, seconds: 3600 }),
        ("refused_no_relay", FromMain::Refused { reason: Refusal::NoRelay }),
        ("refused_no_code", FromMain::Refused { reason: Refusal::NoCode }),
        ("refused_wrong_code", FromMain::Refused { reason: Refusal::WrongCode }),
        ("nameplate", FromMain::Nameplate { number: Some(427) }),
        ("nameplate_none", FromMain::Nameplate { number: None }),
        ("called", FromMain::Called { call: CALL, element: element() }),
        ("answered", FromMain::Answered { element: element() }),
        ("confirmed", FromMain::Confirmed { call: CALL, proof: proof() }),
        ("granted", FromMain::Granted { sealed: b"seald".to_vec() }),
    ]
}

fn to_assist() -> Vec<(&'static str, ToAssist)> {
    let token = PunchToken(ascending::<0x20>());
    let rendezvous = RendezvousId(ascending::<0x10>());
    vec![
        ("req_conn_client", ToAssist::ReqConnClient { token, rendezvous, local_port: 7000 }),
        ("req_srv_disconnect", ToAssist::ReqSrvDisconnect { token, local_port: 7000 }),
        ("heartbeat", ToAssist::Heartbeat),
        ("sample", ToAssist::Sample { token, local_port: 7000 }),
    ]
}

fn from_assist() -> Vec<(&'static str, FromAssist)> {
    vec![
        ("observed_v4", FromAssist::Observed { endpoint: endpoint("203.0.113.9:40000") }),
        ("observed_v6", FromAssist::Observed { endpoint: endpoint("[2001:db8::9]:50000") }),
        ("refused", FromAssist::Refused { reason: Refusal::TooMany }),
    ]
}

fn check<T: Message + PartialEq>(direction: &str, messages: Vec<(&str, T)>) -> Vec<String> {
    let mut names = Vec::new();
    for (name, message) in messages {
        let name = format!("{direction}-{name}");
        let frame = golden(&name);
        assert_eq!(punchcast::wire::encode(&message), frame, "{name} encoded");

        let mut whole = Reader::new(MAX_FRAME_BEFORE_LOGIN);
        whole.push(&frame);
        assert_eq!(whole.next::<T>().unwrap().as_ref(), Some(&message), "{name} decoded whole");
        assert_eq!(whole.buffered(), 0, "{name}");

        let mut single = Reader::new(MAX_FRAME_BEFORE_LOGIN);
        let (last, first) = frame.split_last().expect("no frame is empty");
        for byte in first {
            single.push(&[*byte]);
            assert_eq!(single.next::<T>().unwrap(), None, "{name} is not here yet");
        }
        single.push(&[*last]);
        assert_eq!(single.next::<T>().unwrap().as_ref(), Some(&message), "{name} decoded byte by byte");
        names.push(name);
    }
    names
}

#[test]
fn every_message_has_its_golden_frame_and_every_frame_its_message() {
    let mut names = BTreeSet::new();
    names.extend(check("to_main", to_main()));
    names.extend(check("from_main", from_main()));
    names.extend(check("to_assist", to_assist()));
    names.extend(check("from_assist", from_assist()));
    let files: BTreeSet<String> = std::fs::read_dir(directory())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "hex"))
        .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    assert_eq!(names, files);
}

/// A variant that is appended without a golden frame fails to compile here.
#[test]
fn no_variant_is_forgotten() {
    let to_main: BTreeSet<u8> = to_main()
        .iter()
        .map(|(_, message)| match message {
            ToMain::Login { .. } => 0,
            ToMain::HoleListenReady { .. } => 1,
            ToMain::Heartbeat { .. } => 2,
            ToMain::Logout => 3,
            ToMain::Sample { .. } => 4,
            ToMain::TestFilter => 5,
            ToMain::Relay { .. } => 6,
            ToMain::Mapped { .. } => 7,
            ToMain::ReqNameplate { .. } => 8,
            ToMain::Call { .. } => 9,
            ToMain::Answer { .. } => 10,
            ToMain::Confirm { .. } => 11,
            ToMain::Grant { .. } => 12,
            ToMain::Deny { .. } => 13,
        })
        .collect();
    let from_main: BTreeSet<u8> = from_main()
        .iter()
        .map(|(_, message)| match message {
            FromMain::Welcome { .. } => 0,
            FromMain::NewUserLogin { .. } => 1,
            FromMain::UserLogout { .. } => 2,
            FromMain::SrvReqMakeHole { .. } => 3,
            FromMain::SrvReqDirectConnect { .. } => 4,
            FromMain::Heartbeat { .. } => 5,
            FromMain::Refused { .. } => 6,
            FromMain::Shutdown => 7,
            FromMain::Observed { .. } => 8,
            FromMain::FilterResult { .. } => 9,
            FromMain::Relaying { .. } => 10,
            FromMain::Nameplate { .. } => 11,
            FromMain::Called { .. } => 12,
            FromMain::Answered { .. } => 13,
            FromMain::Confirmed { .. } => 14,
            FromMain::Granted { .. } => 15,
        })
        .collect();
    let to_assist: BTreeSet<u8> = to_assist()
        .iter()
        .map(|(_, message)| match message {
            ToAssist::ReqConnClient { .. } => 0,
            ToAssist::ReqSrvDisconnect { .. } => 1,
            ToAssist::Heartbeat => 2,
            ToAssist::Sample { .. } => 3,
        })
        .collect();
    let from_assist: BTreeSet<u8> = from_assist()
        .iter()
        .map(|(_, message)| match message {
            FromAssist::Observed { .. } => 0,
            FromAssist::Refused { .. } => 1,
        })
        .collect();
    assert_eq!((to_main.len(), from_main.len(), to_assist.len(), from_assist.len()), (14, 16, 4, 2));
}

#[test]
fn an_unknown_variant_is_refused() {
    for tag in [14u32, 0x0100_0000, u32::MAX] {
        let mut frame = vec![0, 5, punchcast::wire::message::VERSION];
        frame.extend(tag.to_be_bytes());
        let mut reader = Reader::new(MAX_FRAME_BEFORE_LOGIN);
        reader.push(&frame);
        assert!(reader.next::<ToMain>().is_err(), "{tag}");
    }
}

#[test]
fn a_mapped_address_in_a_list_is_read_as_ipv4() {
    let mut frame = golden("from_assist-observed_v6");
    let mapped: [u8; 16] = "::ffff:203.0.113.9".parse::<std::net::Ipv6Addr>().unwrap().octets();
    let at = frame.len() - 2 - mapped.len();
    frame[at..at + mapped.len()].copy_from_slice(&mapped);
    let mut reader = Reader::new(MAX_FRAME_BEFORE_LOGIN);
    reader.push(&frame);
    let expected = FromAssist::Observed { endpoint: endpoint("203.0.113.9:50000") };
    assert_eq!(reader.next::<FromAssist>().unwrap(), Some(expected));
}
