//! Whom to cast to, as the user says it: tickets, or short codes.

use super::{Failure, server, view};
use crate::caster::{CodeConfig, Whom};
use crate::meeting::Rooms;
use punchcast::code::Code;
use punchcast::ticket::{Server, Ticket, TicketError};
use std::fs;

/// One viewer, as given.
pub(super) enum Given {
    Ticket(Ticket),
    Code(Code, Server),
}

/// Reads the values of the command line; `server` is the daemon of codes that do not name theirs.
///
/// What was given is never echoed, but for a word that no code has and a file's name: tickets and codes are secrets.
pub(super) fn read(values: Vec<String>, server: Option<&Server>) -> Result<Vec<Given>, Failure> {
    let mut given: Vec<Given> = Vec::new();
    for text in joined(values) {
        let next = if Code::looks_like_one(&text) { code(&text, server) } else { ticket(&text) };
        let next = next.map_err(|failure| if is_file(&text) { file(&text) } else { failure })?;
        if given.iter().any(|other| is_the_same(other, &next)) {
            return Err(Failure::Usage("one and the same ticket was given twice".into()));
        }
        given.push(next);
    }
    match server {
        Some(server) if !needs(&given, server) => {
            let named = given.iter().any(|given| matches!(given, Given::Code(..)));
            Err(Failure::Usage(if named { NAMED_TWICE } else { NAMED_BY_TICKET }.into()))
        }
        Some(_) | None => Ok(given),
    }
}

const NAMED_BY_TICKET: &str = "--server is the daemon of a short code; a ticket names its own";
const NAMED_TWICE: &str =
    "the code names another daemon after its @ than --server does: leave out one of the two";

/// Whether a code is asked for at `server`: one that named no daemon, or named this one.
fn needs(given: &[Given], server: &Server) -> bool {
    given.iter().any(|given| matches!(given, Given::Code(_, at) if at == server))
}

/// A code that was typed with blanks comes in several values.
fn joined(values: Vec<String>) -> Vec<String> {
    let mut joined: Vec<String> = Vec::new();
    for value in values {
        let begins = Code::looks_like_one(&value) || value.contains("://");
        match joined.last_mut().filter(|last| !begins && is_unfinished(last)) {
            Some(last) => {
                last.push('-');
                last.push_str(&value);
            }
            None => joined.push(value),
        }
    }
    joined
}

/// Whether a code's number is here, and not yet its words.
fn is_unfinished(text: &str) -> bool {
    let parts = text.split(|c: char| !c.is_alphanumeric()).filter(|part| !part.is_empty());
    Code::looks_like_one(text) && !text.contains('@') && parts.count() < 3
}

fn ticket(text: &str) -> Result<Given, Failure> {
    text.parse().map(Given::Ticket).map_err(|error| {
        let or_code = ", and a short code with a number, as in 427-tiger-lamp";
        let hint = if error == TicketError::NotATicket { or_code } else { "" };
        Failure::Usage(format!("{error}{hint}"))
    })
}

fn code(text: &str, server: Option<&Server>) -> Result<Given, Failure> {
    let (code, own) = Code::parse(text).map_err(|error| Failure::Usage(error.to_string()))?;
    let server = own.or_else(|| server.cloned()).ok_or_else(|| {
        Failure::Usage(
            "the code does not say which daemon it is for: write it as the viewer does, with @HOST at its end, or add \
             --server HOST"
                .into(),
        )
    })?;
    Ok(Given::Code(code, server))
}

fn is_file(text: &str) -> bool {
    fs::metadata(text).is_ok_and(|metadata| !metadata.is_dir())
}

/// What is said to who gives a file in a ticket's place.
fn file(name: &str) -> Failure {
    Failure::Usage(format!(
        "{name:?} is a file, and not a ticket: to cast it, write --source before it; the TICKET is what `punchcast view` \
         shows on the other machine"
    ))
}

fn is_the_same(one: &Given, other: &Given) -> bool {
    match (one, other) {
        (Given::Ticket(one), Given::Ticket(other)) => one.rendezvous == other.rendezvous,
        (Given::Code(one, at), Given::Code(other, other_at)) => {
            one.number() == other.number() && at == other_at
        }
        (Given::Ticket(_), Given::Code(..)) | (Given::Code(..), Given::Ticket(_)) => false,
    }
}

/// A viewer that is known by its code.
pub(super) fn by_code(code: Code, server: &Server, rooms: Rooms) -> Result<Whom, Failure> {
    let servers = server::resolve(server).map_err(Failure::Failed)?;
    Ok(Whom::Code(CodeConfig {
        rooms,
        servers: servers.iter().map(|server| server.main).collect(),
        code,
        code_seed: view::code_seed()?,
        seed: super::random_u64()?,
        local_ips: view::own_addresses(Some(server)),
        run: super::random_u64()?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use punchcast::ticket::ViewerIdentity;

    fn values(values: &[&str]) -> Vec<String> {
        values.iter().map(|&value| value.into()).collect()
    }

    fn failure(given: &[&str], server: Option<&str>) -> String {
        let server: Option<Server> = server.map(|server| server.parse().unwrap());
        match read(values(given), server.as_ref()) {
            Err(Failure::Usage(why)) => why,
            Err(Failure::Failed(why)) => panic!("{why}"),
            Ok(_) => panic!("{given:?} is taken"),
        }
    }

    fn codes(given: &[&str], server: Option<&str>) -> Vec<String> {
        let server: Option<Server> = server.map(|server| server.parse().unwrap());
        let text = |given: &Given| match given {
            Given::Code(code, server) => code.at(server),
            Given::Ticket(_) => "ticket".into(),
        };
        read(values(given), server.as_ref()).unwrap_or_else(|why| panic!("{why}")).iter().map(text).collect()
    }

    #[test]
    fn codes_are_taken_in_one_value_or_in_several() {
        let ticket =
            ViewerIdentity::from_random(&[7; ViewerIdentity::RANDOM_LEN]).ticket(None, vec![]).to_string();
        let wanted = ["427-tiger-lamp@a.example"];
        for given in [
            &["427-tiger-lamp@a.example"][..],
            &["427 Tiger Lamp @ a.example"],
            &["427", "tiger", "lamp@a.example"],
            &["427-tiger", "lamp@a.example"],
        ] {
            assert_eq!(codes(given, None), wanted, "{given:?}");
        }
        assert_eq!(codes(&["427", "tiger", "lamp"], Some("a.example")), wanted);
        assert_eq!(
            codes(&["427-tiger-lamp@a.example"], Some("a.example")),
            wanted,
            "said twice, and the same"
        );
        assert_eq!(
            codes(
                &["1-lion-lamp", &ticket, "2", "lamp", "lion", "3-lamp-lamp@b.example:9"],
                Some("a.example")
            ),
            ["1-lion-lamp@a.example", "ticket", "2-lamp-lion@a.example", "3-lamp-lamp@b.example:9"]
        );
    }

    #[test]
    fn a_file_in_a_tickets_place_is_told_where_it_belongs() {
        // Cargo runs tests in the package's folder.
        for given in [&["Cargo.toml"][..], &["427-tiger-lamp@h", "src/lib.rs"]] {
            let (name, why) = (given[given.len() - 1], failure(given, None));
            assert!(why.starts_with(&format!("{name:?} is a file")) && why.contains("--source"), "{why}");
            assert!(!why.contains("tiger"), "{why}");
        }
    }

    #[test]
    fn what_is_no_code_or_ticket_is_told_without_a_word_of_it() {
        let ticket =
            ViewerIdentity::from_random(&[7; ViewerIdentity::RANDOM_LEN]).ticket(None, vec![]).to_string();
        assert!(failure(&["427-tiger-lamp"], None).contains("--server HOST"));
        assert!(failure(&["427-tigre-lamp"], Some("h")).contains("was it \"tiger\"?"));
        assert!(failure(&["427", "tiger"], Some("h")).contains("this one has 1"));
        assert!(failure(&["tiger-lamp"], None).contains("427-tiger-lamp"));
        assert!(failure(&["no-such-file.flv"], None).contains("427-tiger-lamp"));
        assert!(failure(&["src"], None).contains("427-tiger-lamp"), "a folder is no source");
        assert!(failure(&["427-tiger-lamp@"], None).contains("after the @"));
        assert!(failure(&[&ticket], Some("h")).contains("a ticket names its own"));
        for given in [&["427-tiger-lamp@a.example"][..], &[&ticket, "427-tiger-lamp@a.example:4001"]] {
            let why = failure(given, Some("b.example"));
            assert!(why.contains("--server") && why.contains("leave out one"), "{why}");
            assert!(!why.contains("tiger"), "{why}");
        }
        let twice = "one and the same ticket was given twice";
        assert_eq!(failure(&[&ticket, &ticket], None), twice);
        assert_eq!(failure(&["4-lion-lamp@h", "4-lamp-lamp"], Some("h")), twice);
    }
}
