//! The ticket: all that a caster needs, in one link.
//!
//! `punchcast view` shows it as text and as a QR code; `punchcast cast TICKET` needs nothing else. Everything secret
//! stands after `#`, the part of a URL that a program never sends to a server.
//!
//! ```text
//! punchcast://HOST:PORT/RENDEZVOUS?assist=PORT#REST
//!             └── server ─┘ └ 22 ┘└ only if not 8000
//!   (without a server: punchcast:///RENDEZVOUS#REST)
//!
//! REST, base64url without padding, numbers big-endian:
//!   1  version, 1
//!  32  the viewer's X25519 public key
//!  16  the secret
//!   1  number of addresses, 0 to 8; bit 7 set: each address is followed by its own port
//!   1  only if there are addresses: bit n set, the nth address is IPv6
//!   2  only if there are addresses and bit 7 is clear: the port of all
//!  4 or 16 (+ 2) for each address
//!   3  checksum: the first bytes of SHA-256 over everything before it (the text up to `#`, then these bytes)
//! ```
//!
//! Three bytes of checksum miss one mistyping in 16 million, and then the handshake fails instead.

mod server;
#[cfg(test)]
mod tests;

pub use server::{ASSIST_PORT, Host, MAIN_PORT, Server, ServerError};

use crate::endpoint::{Endpoint, Reach};
use crate::id::{OwnerToken, RendezvousId};
use crate::link::{CasterSecrets, Secret, ViewerKey, ViewerPrivateKey, ViewerSecrets};
use crate::wire::message::MAX_ENDPOINTS;
use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD};
use sha2::{Digest, Sha256};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// What a ticket's text begins with.
pub const SCHEME: &str = "punchcast://";

/// The longest text that is looked at. A ticket with the longest name and eight IPv6 addresses with a port each has
/// under 600 characters.
pub const MAX_TEXT: usize = 1024;

const VERSION: u8 = 1;
const CHECK_LEN: usize = 3;
const OWN_PORTS: u8 = 0x80;

/// Strict on what the last character may be, so that one ticket has one text.
const BASE64: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, NO_PAD);

/// Takes any last character, so that a text which ends in a wrong one can be told from one whose end is missing.
const LENIENT: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, NO_PAD.with_decode_allow_trailing_bits(true));

/// Characters after `#` of the shortest ticket. Letters of one case alone are there in one of 10^15.
const SHORTEST_REST: usize = 71;

/// All that a caster needs to reach one viewer and to prove that it may.
#[derive(Clone, PartialEq, Eq)]
pub struct Ticket {
    /// The daemon; `None` where both are on one network.
    pub server: Option<Server>,
    /// Where both meet at the daemon.
    pub rendezvous: RendezvousId,
    /// Whom to expect at the other end of a link.
    pub viewer_key: ViewerKey,
    /// The permission to cast.
    pub secret: Secret,
    /// The viewer's own addresses with its hole port. The text carries the first [`MAX_ENDPOINTS`] of those that
    /// can be connected to.
    pub addresses: Vec<Endpoint>,
}

impl Ticket {
    /// What the caster's end of a channel needs.
    #[must_use]
    pub const fn caster_secrets(&self) -> CasterSecrets {
        CasterSecrets { viewer_key: self.viewer_key, secret: self.secret, rendezvous: self.rendezvous }
    }

    /// The text up to `#`.
    fn front(&self) -> String {
        let mut front = String::from(SCHEME);
        if let Some(server) = &self.server {
            front += &server.to_string();
        }
        front.push('/');
        BASE64.encode_string(self.rendezvous.0, &mut front);
        if let Some(server) = self.server.as_ref().filter(|server| server.assist != ASSIST_PORT) {
            front += &format!("{ASSIST_KEY}{}", server.assist);
        }
        front
    }

    /// The bytes after `#`, without the checksum.
    fn rest(&self) -> Vec<u8> {
        let mut rest = vec![VERSION];
        rest.extend(self.viewer_key.0);
        rest.extend(self.secret.0);
        let addresses: Vec<_> =
            self.addresses.iter().filter(|address| usable(**address)).take(MAX_ENDPOINTS).collect();
        let own_ports = addresses.windows(2).any(|pair| pair[0].port() != pair[1].port());
        rest.push(addresses.len() as u8 | if own_ports { OWN_PORTS } else { 0 });
        let Some(first) = addresses.first() else { return rest };
        rest.push(
            addresses.iter().rev().fold(0, |bits, address| bits << 1 | u8::from(address.ip().is_ipv6())),
        );
        if !own_ports {
            rest.extend(first.port().to_be_bytes());
        }
        for address in addresses {
            match address.ip() {
                IpAddr::V4(ip) => rest.extend(ip.octets()),
                IpAddr::V6(ip) => rest.extend(ip.octets()),
            }
            if own_ports {
                rest.extend(address.port().to_be_bytes());
            }
        }
        rest
    }
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (front, mut rest) = (self.front(), self.rest());
        rest.extend(checksum(&front, &rest));
        write!(f, "{front}#{}", BASE64.encode(rest))
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ticket({}#…)", self.front())
    }
}

impl FromStr for Ticket {
    type Err = TicketError;

    fn from_str(text: &str) -> Result<Self, TicketError> {
        let text = unwrap(text)?;
        let (front, rest) = text.split_once('#').ok_or_else(|| no_fragment(&text))?;
        let (server, rendezvous) = parse_front(front)?;
        let (text, rest) = (rest, decode(rest)?);
        if has_one_case(text) {
            return Err(TicketError::Mistyped);
        }
        let body_len = body_len(&rest)?;
        if rest.len() < body_len + CHECK_LEN {
            return Err(TicketError::CutShort);
        }
        if rest.len() > body_len + CHECK_LEN {
            return Err(TicketError::TooLong);
        }
        if BASE64.encode(&rest) != text {
            // All of it is there, and its last character is none that a ticket can end with.
            return Err(TicketError::Mistyped);
        }
        let (body, check) = rest.split_at(body_len);
        let (viewer_key, secret, addresses) = parse_body(body)?;
        let ticket = Self { server, rendezvous, viewer_key, secret, addresses };
        // Over the canonical text: a server's name may be typed in capitals, and port 4000 left out.
        if check != checksum(&ticket.front(), body) {
            return Err(TicketError::Mistyped);
        }
        if ticket.addresses.iter().any(|address| !usable(*address)) || ticket.rest() != body {
            return Err(TicketError::Mistyped);
        }
        Ok(ticket)
    }
}

/// Why a text is no ticket.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TicketError {
    /// Nothing of a ticket is to be seen.
    NotATicket,
    /// The end is missing.
    CutShort,
    /// Something follows the end.
    TooLong,
    /// A character that no ticket has there.
    Character(char),
    /// The checksum does not fit: some character is another than it was.
    Mistyped,
    /// Made by a later version.
    Version(u8),
    /// The server's part is wrong.
    Server(ServerError),
}

impl fmt::Display for TicketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotATicket => write!(f, "this is not a ticket: a ticket begins with {SCHEME}"),
            Self::CutShort => f.write_str(
                "the ticket is cut short: copy it to its end (in a shell, put it in quotes, for it contains '#')",
            ),
            Self::TooLong => f.write_str("the ticket is too long: something else was copied with its end"),
            Self::Character(character) => {
                write!(f, "the ticket contains {character:?}, which no ticket has: copy it again")
            }
            Self::Mistyped => f.write_str(
                "the ticket is mistyped or altered: its checksum does not fit; copy it again, with its capitals and small \
                 letters as they are",
            ),
            Self::Version(version) => write!(
                f,
                "the ticket is of version {version}, and this program reads version {VERSION}: update it"
            ),
            Self::Server(error) => write!(f, "the ticket's server is wrong: {error}"),
        }
    }
}

impl std::error::Error for TicketError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Server(error) => Some(error),
            Self::NotATicket
            | Self::CutShort
            | Self::TooLong
            | Self::Character(_)
            | Self::Mistyped
            | Self::Version(_) => None,
        }
    }
}

/// What the viewer keeps to itself about one ticket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewerIdentity {
    /// The key whose public half is in the ticket.
    pub private_key: ViewerPrivateKey,
    /// Its public half.
    pub public_key: ViewerKey,
    /// The permission to cast.
    pub secret: Secret,
    /// The proof of having made the rendezvous id.
    pub owner: OwnerToken,
}

impl ViewerIdentity {
    /// How many random bytes make an identity.
    pub const RANDOM_LEN: usize = 64;

    /// The identity that 64 bytes from the system's random source make. Bytes that anybody could guess make a
    /// ticket that anybody could use.
    #[must_use]
    pub fn from_random(random: &[u8; Self::RANDOM_LEN]) -> Self {
        let (mut private, mut secret, mut owner) = ([0; 32], [0; 16], [0; 16]);
        private.copy_from_slice(&random[..32]);
        secret.copy_from_slice(&random[32..48]);
        owner.copy_from_slice(&random[48..]);
        let private_key = ViewerPrivateKey(private);
        let public_key = private_key.public();
        Self { private_key, public_key, secret: Secret(secret), owner: OwnerToken(owner) }
    }

    /// Where casters meet this viewer.
    #[must_use]
    pub fn rendezvous(&self) -> RendezvousId {
        self.owner.rendezvous()
    }

    /// What the viewer's end of a channel needs.
    #[must_use]
    pub fn viewer_secrets(&self) -> ViewerSecrets {
        ViewerSecrets {
            private_key: self.private_key.clone(),
            secret: self.secret,
            rendezvous: self.rendezvous(),
        }
    }

    /// The ticket to give to a caster.
    #[must_use]
    pub fn ticket(&self, server: Option<Server>, addresses: Vec<Endpoint>) -> Ticket {
        Ticket {
            server,
            rendezvous: self.rendezvous(),
            viewer_key: self.public_key,
            secret: self.secret,
            addresses,
        }
    }
}

const ASSIST_KEY: &str = "?assist=";

/// Whether an address can be connected to at all.
fn usable(address: Endpoint) -> bool {
    address.port() != 0 && address.reach() != Reach::Nowhere
}

/// Takes away what pasting adds: white space anywhere (mail and terminals break long lines), quotes and brackets
/// around.
fn unwrap(text: &str) -> Result<String, TicketError> {
    if text.len() > MAX_TEXT {
        return Err(TicketError::TooLong);
    }
    let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let around = ['"', '\'', '`', '<', '>', '“', '”', '‘', '’', '«', '»', '\u{feff}', '\u{200b}'];
    let text = text.trim_matches(around);
    match text.get(..SCHEME.len()) {
        Some(scheme) if scheme.eq_ignore_ascii_case(SCHEME) => {
            Ok(format!("{SCHEME}{}", &text[SCHEME.len()..]))
        }
        _ => Err(TicketError::NotATicket),
    }
}

/// Which mistake a text without `#` is.
fn no_fragment(text: &str) -> TicketError {
    if text.contains("%23") { TicketError::Character('%') } else { TicketError::CutShort }
}

fn parse_front(front: &str) -> Result<(Option<Server>, RendezvousId), TicketError> {
    let front = front.strip_prefix(SCHEME).ok_or(TicketError::NotATicket)?;
    let (server, path) = front.split_once('/').ok_or(TicketError::Mistyped)?;
    let (id, assist) = match path.split_once(ASSIST_KEY) {
        Some((id, assist)) => (id, Some(assist)),
        None => (path, None),
    };
    check_characters(id)?;
    // What follows it is there, so nothing is missing at its end.
    let id = BASE64.decode(id).map_err(|_| TicketError::Mistyped)?;
    let rendezvous = id.try_into().map(RendezvousId).map_err(|_| TicketError::Mistyped)?;
    if server.is_empty() {
        return if assist.is_none() { Ok((None, rendezvous)) } else { Err(TicketError::Mistyped) };
    }
    let mut server: Server = server.parse().map_err(TicketError::Server)?;
    if let Some(assist) = assist {
        server.assist = server::parse_port(assist).map_err(TicketError::Server)?;
    }
    Ok((Some(server), rendezvous))
}

fn check_characters(text: &str) -> Result<(), TicketError> {
    let wrong = text.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_')));
    wrong.map_or(Ok(()), |wrong| Err(TicketError::Character(wrong)))
}

/// The bytes after `#`, whatever the last character's unused bits are.
fn decode(text: &str) -> Result<Vec<u8>, TicketError> {
    check_characters(text)?;
    // Five characters make three bytes and a rest that means nothing: the text ends in the middle.
    if text.len() % 4 == 1 {
        return Err(TicketError::CutShort);
    }
    LENIENT.decode(text).map_err(|_| TicketError::CutShort)
}

/// Whether somebody wrote all letters in one case, which base64 does not survive.
fn has_one_case(text: &str) -> bool {
    let has = |is: fn(&u8) -> bool| text.as_bytes().iter().any(is);
    text.len() >= SHORTEST_REST && !(has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase))
}

/// Bytes of everything before the checksum, as the bytes themselves tell.
fn body_len(rest: &[u8]) -> Result<usize, TicketError> {
    const FIXED: usize = 1 + 32 + 16;
    match rest.first() {
        Some(&VERSION) => {}
        Some(&version) => return Err(TicketError::Version(version)),
        None => return Err(TicketError::CutShort),
    }
    let &shape = rest.get(FIXED).ok_or(TicketError::CutShort)?;
    let count = usize::from(shape & !OWN_PORTS);
    if count > MAX_ENDPOINTS {
        return Err(TicketError::Mistyped);
    }
    if count == 0 {
        return Ok(FIXED + 1);
    }
    let &families = rest.get(FIXED + 1).ok_or(TicketError::CutShort)?;
    let ports = if shape & OWN_PORTS == 0 { 2 } else { 2 * count };
    let addresses: usize = (0..count).map(|n| if families >> n & 1 == 0 { 4 } else { 16 }).sum();
    Ok(FIXED + 2 + ports + addresses)
}

/// Reads a body whose length is what [`body_len`] says.
fn parse_body(body: &[u8]) -> Result<(ViewerKey, Secret, Vec<Endpoint>), TicketError> {
    let mut left = &body[1..];
    let viewer_key = ViewerKey(take(&mut left)?);
    let secret = Secret(take(&mut left)?);
    let [shape] = take(&mut left)?;
    let count = shape & !OWN_PORTS;
    let mut addresses = Vec::with_capacity(usize::from(count));
    if count > 0 {
        let [families] = take(&mut left)?;
        let common = if shape & OWN_PORTS == 0 { Some(take(&mut left)?) } else { None };
        for n in 0..count {
            let ip: IpAddr = if families >> n & 1 == 0 {
                take::<4>(&mut left)?.into()
            } else {
                take::<16>(&mut left)?.into()
            };
            let port = match common {
                Some(port) => port,
                None => take(&mut left)?,
            };
            addresses.push(Endpoint::new(SocketAddr::new(ip, u16::from_be_bytes(port))));
        }
    }
    Ok((viewer_key, secret, addresses))
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], TicketError> {
    let (head, tail) = bytes.split_first_chunk::<N>().ok_or(TicketError::CutShort)?;
    *bytes = tail;
    Ok(*head)
}

fn checksum(front: &str, body: &[u8]) -> [u8; CHECK_LEN] {
    let digest = Sha256::new().chain_update(front).chain_update(b"#").chain_update(body).finalize();
    [digest[0], digest[1], digest[2]]
}
