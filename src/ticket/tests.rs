use super::*;

fn identity() -> ViewerIdentity {
    let mut random = [0; ViewerIdentity::RANDOM_LEN];
    fastrand::Rng::with_seed(7).fill(&mut random);
    ViewerIdentity::from_random(&random)
}

fn endpoints(texts: &[&str]) -> Vec<Endpoint> {
    texts.iter().map(|text| Endpoint::new(text.parse().unwrap())).collect()
}

fn sample() -> Ticket {
    identity().ticket(
        Some("relay.example.org".parse().unwrap()),
        endpoints(&["192.168.1.20:41000", "[2001:db8::7]:41000"]),
    )
}

#[test]
fn a_ticket_survives_its_text() {
    let servers: [Option<Server>; 5] = [
        None,
        Some("relay.example.org:4000".parse().unwrap()),
        Some("203.0.113.9:4433".parse().unwrap()),
        Some("[2001:db8::1]:4000".parse().unwrap()),
        Some(Server { host: Host::Name("localhost".into()), main: 1, assist: 2 }),
    ];
    let many: Vec<String> = (1..=8).map(|n| format!("[2001:db8::{n}]:{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let lists = [
        endpoints(&[]),
        endpoints(&["10.0.0.1:7"]),
        endpoints(&["10.0.0.1:7", "[fd00::1]:7", "10.0.0.2:7"]),
        endpoints(&["10.0.0.1:7", "10.0.0.1:8"]),
        endpoints(&many),
    ];
    for server in servers {
        for addresses in &lists {
            let ticket = identity().ticket(server.clone(), addresses.clone());
            let text = ticket.to_string();
            assert_eq!(text.parse(), Ok(ticket), "{text}");
            assert!(text.len() < MAX_TEXT / 2);
        }
    }
}

#[test]
fn the_usual_ticket_is_short_and_keeps_its_secrets_behind_the_hash() {
    let ticket =
        identity().ticket(Some("relay.example.org".parse().unwrap()), endpoints(&["192.168.1.20:41000"]));
    let text = ticket.to_string();
    let (front, rest) = text.split_once('#').unwrap();
    assert_eq!(front, format!("punchcast://relay.example.org:4000/{}", BASE64.encode(ticket.rendezvous.0)));
    assert_eq!(rest.len(), 80);
    // A QR code of version 7 at the middle correction level takes 122 bytes, of version 8 152.
    assert!(text.len() <= 152, "{} characters", text.len());
}

#[test]
fn debug_does_not_show_what_stands_behind_the_hash() {
    let (identity, ticket) = (identity(), sample());
    let text = ticket.to_string();
    let (_, rest) = text.split_once('#').unwrap();
    let shown = format!("{ticket:?} {identity:?} {:?}", identity.viewer_secrets());
    assert!(!shown.contains(&rest[..12]), "{shown}");
    for secret in [&identity.private_key.0[..], &identity.secret.0, &identity.owner.0, &identity.public_key.0]
    {
        assert!(!shown.contains(&format!("{:?}", &secret[..4])[1..8]), "{shown}");
    }
}

#[test]
fn what_pasting_adds_is_taken_away() {
    let ticket = sample();
    let text = ticket.to_string();
    let (head, tail) = text.split_at(60);
    for pasted in [
        format!("  {text}\r\n"),
        format!("\"{text}\"\n"),
        format!("'{text}'"),
        format!("<{text}>"),
        format!("“{text}”"),
        format!("{head}\n    {tail}"),
        text.replace("punchcast", "PunchCast"),
        text.replace("relay.example.org", "Relay.Example.ORG"),
        text.replace(":4000", ""),
    ] {
        assert_eq!(pasted.parse(), Ok(ticket.clone()), "{pasted}");
    }
}

#[test]
fn every_cut_is_called_a_cut() {
    let text = sample().to_string();
    let id_ends = text.find('#').unwrap();
    for end in 0..text.len() {
        let error = text[..end].parse::<Ticket>().unwrap_err();
        let expected = if end < SCHEME.len() { TicketError::NotATicket } else { TicketError::CutShort };
        assert_eq!(error, expected, "cut at {end} of {} ('#' at {id_ends})", text.len());
    }
    assert!(TicketError::CutShort.to_string().starts_with("the ticket is cut short: "));
}

#[test]
fn an_altered_ticket_of_full_length_is_not_called_a_cut() {
    // The last character has none, four and two bits that mean nothing.
    let addresses = ["10.0.0.1:7", "[fd00::1]:7", "10.0.0.2:7"];
    for addresses in (1..=addresses.len()).map(|count| &addresses[..count]) {
        for server in [None, Some("relay.example.org".parse().unwrap())] {
            let text = identity().ticket(server, endpoints(addresses)).to_string();
            let (front, rest) = text.split_once('#').unwrap();
            for wrong in [rest.to_ascii_lowercase(), rest.to_ascii_uppercase()] {
                assert_eq!(format!("{front}#{wrong}").parse::<Ticket>(), Err(TicketError::Mistyped));
            }
            assert_eq!(text.to_ascii_lowercase().parse::<Ticket>(), Err(TicketError::Mistyped));
            for at in [text.len() - 1, text.len() - 2, front.len() - 1, front.len() - 2] {
                for other in ["A", "B", "Q", "g", "w", "x", "_"] {
                    let mut altered = text.clone();
                    altered.replace_range(at..=at, other);
                    let read = altered.parse::<Ticket>();
                    let expected = if altered == text { read.clone() } else { Err(TicketError::Mistyped) };
                    assert_eq!(read, expected, "{altered}");
                }
            }
        }
    }
}

#[test]
fn errors_name_the_mistake() {
    let text = sample().to_string();
    let cases = [
        (String::new(), TicketError::NotATicket),
        ("http://example.org/#x".to_owned(), TicketError::NotATicket),
        ("x".repeat(MAX_TEXT + 1), TicketError::TooLong),
        (format!("{text}AAAA"), TicketError::TooLong),
        (format!("{text}."), TicketError::Character('.')),
        (text.replace('#', "%23"), TicketError::Character('%')),
        (text.replace("relay", "delay"), TicketError::Mistyped),
        (text.replace(":4000", ":4001"), TicketError::Mistyped),
        (text.replace(":4000", ":0"), TicketError::Server(ServerError::Port)),
        (text.replace("relay.", "relay.."), TicketError::Server(ServerError::Host)),
    ];
    for (text, expected) in cases {
        assert_eq!(text.parse::<Ticket>(), Err(expected), "{text}");
    }
    let later = format!("punchcast:///{}#{}", BASE64.encode([1; 16]), BASE64.encode([2; 60]));
    assert_eq!(later.parse::<Ticket>(), Err(TicketError::Version(2)));
}

#[test]
fn addresses_that_cannot_be_connected_to_stay_out() {
    let texts = ["0.0.0.0:9", "224.0.0.1:9", "10.0.0.1:0", "10.0.0.1:9", "[ff02::1]:9"];
    let ticket = identity().ticket(None, endpoints(&texts));
    let read: Ticket = ticket.to_string().parse().unwrap();
    assert_eq!(read.addresses, endpoints(&["10.0.0.1:9"]));
    let crowd: Vec<String> = (1..=20).map(|n| format!("10.0.0.{n}:9")).collect();
    let crowd: Vec<&str> = crowd.iter().map(String::as_str).collect();
    let read: Ticket = identity().ticket(None, endpoints(&crowd)).to_string().parse().unwrap();
    assert_eq!(read.addresses, endpoints(&crowd[..MAX_ENDPOINTS]));
}

#[test]
fn a_forged_body_with_a_right_checksum_is_still_refused() {
    let ticket = sample();
    let front = ticket.front();
    let sealed = |mut body: Vec<u8>| {
        body.extend(checksum(&front, &body));
        format!("{front}#{}", BASE64.encode(body)).parse::<Ticket>()
    };
    assert_eq!(sealed(ticket.rest()), Ok(ticket.clone()));
    let shape = 49;
    for (offset, value) in [(shape, 9), (shape, 0x7f), (shape + 1, 0b110), (shape + 4, 224)] {
        let mut body = ticket.rest();
        body[offset] = value;
        assert!(sealed(body).is_err(), "{offset} {value}");
    }
    let mut mapped = identity().ticket(None, endpoints(&["[2001:db8::7]:9"])).rest();
    let end = mapped.len();
    mapped[end - 16..].copy_from_slice(&std::net::Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped().octets());
    assert_eq!(sealed(mapped), Err(TicketError::Mistyped), "a mapped address has another text");
}

#[test]
fn ten_thousand_mutations_neither_panic_nor_pass() {
    let ticket = sample();
    let text: Vec<char> = ticket.to_string().chars().collect();
    let mut rng = fastrand::Rng::with_seed(0x71c7);
    let mut passed = 0;
    for _ in 0..10_000 {
        let mut mutant = text.clone();
        for _ in 0..rng.usize(1..4) {
            let at = rng.usize(..mutant.len());
            match rng.u8(..4) {
                0 => mutant[at] = char::from(rng.u8(0x20..0x7f)),
                1 if mutant.len() > 1 => drop(mutant.remove(at)),
                2 => mutant.insert(at, rng.char(..)),
                _ => mutant.truncate(at.max(1)),
            }
        }
        let mutant: String = mutant.into_iter().collect();
        if let Ok(read) = mutant.parse::<Ticket>() {
            // Only what pasting does is forgiven: the ticket read is the very same.
            assert_eq!(read, ticket, "{mutant}");
            passed += 1;
        }
    }
    assert!(passed < 1_000, "{passed} mutants passed");
}

#[test]
fn servers_are_read_as_people_write_them() {
    let server = |text: &str| text.parse::<Server>();
    assert_eq!(server("Example.ORG").unwrap().to_string(), "example.org:4000");
    assert_eq!(server("127.0.0.1:9").unwrap().to_string(), "127.0.0.1:9");
    assert_eq!(server("[::1]").unwrap().to_string(), "[::1]:4000");
    assert_eq!(server("[::ffff:10.0.0.1]:5").unwrap().to_string(), "10.0.0.1:5");
    for (text, error) in [
        ("", ServerError::Host),
        ("::1", ServerError::Brackets),
        ("2001:db8::1", ServerError::Brackets),
        ("[::1", ServerError::Host),
        ("[::1]4000", ServerError::Port),
        ("1.2.3", ServerError::Host),
        ("a:0", ServerError::Port),
        ("a:", ServerError::Port),
        ("a:65536", ServerError::Port),
        ("a:+5", ServerError::Port),
        ("a b", ServerError::Host),
        ("http://a:4000", ServerError::Scheme),
        ("https://a", ServerError::Scheme),
        ("punchcast://a:4000/", ServerError::Scheme),
        ("rtmp://[::1]:4000", ServerError::Scheme),
        ("-a.org", ServerError::Host),
        ("a..b", ServerError::Host),
    ] {
        assert_eq!(server(text), Err(error), "{text:?}");
    }
}

/// The example of `docs/PROTOCOL.md`: private key, secret and owner token are the bytes 0 to 63.
#[test]
fn the_documented_ticket_is_what_is_written_and_read() {
    let text = "punchcast://relay.example.org:4000/w3RywPlBctOdetoVkZ8k9Q#AY9Axa22jyViSuWyFOp2em7JTYKdPXteGtG6bz4h\
                OChfICEiIyQlJicoKSorLC0uLwICoCjAqAEUIAENuAAAAAAAAAAAAAAAB9makg";
    let random: Vec<u8> = (0..64).collect();
    let identity = ViewerIdentity::from_random(random[..].try_into().unwrap());
    let ticket = identity.ticket(
        Some("relay.example.org".parse().unwrap()),
        endpoints(&["192.168.1.20:41000", "[2001:db8::7]:41000"]),
    );
    assert_eq!(ticket.to_string(), text);
    assert_eq!(text.parse(), Ok(ticket));
}
