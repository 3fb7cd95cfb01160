//! Who may open the sharing page.
//!
//! Whoever speaks through this page puts pictures into the cast, so it is kept closer than the viewer's, which shows
//! some. A request passes when all of this holds:
//!
//! - **Its connection is to a loopback address.** Nothing else is listened on; this holds even if that changes.
//! - **Its `Host` is an address of ours**, not a name that a stranger's DNS server points here (DNS rebinding).
//! - **Its `Origin`, if it has one, is this page's**; a WebSocket must have one (RFC 6455 §10.2).
//! - **It carries the token** of the printed link, in the link or in the cookie that the link left. Other users of this
//!   host can connect to its loopback address, too, and other pages in the same browser can make requests.

use crate::page::PageToken;
use crate::page::guard::{host_is_ours, origin_is_host};
use crate::page::http::{Request, Status};
use std::net::SocketAddr;

/// Why a request is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Denied {
    /// It came to another address than loopback.
    Place,
    /// The `Host` names somebody else.
    Host,
    /// It was made by a page that is not ours.
    Origin,
    /// The token is missing or wrong.
    Token,
}

impl Denied {
    /// The response's status.
    pub(super) const fn status(self) -> Status {
        match self {
            Self::Host => Status::Misdirected,
            Self::Place | Self::Origin | Self::Token => Status::Forbidden,
        }
    }

    /// A line for whoever sees the response.
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::Place => "This page is for browsers on its own machine only.",
            Self::Host => {
                "This page answers to its own address only: open it by the link that punchcast printed."
            }
            Self::Origin => "This address serves its own page only.",
            Self::Token => {
                "The link's token is missing or wrong: open the whole link that punchcast printed."
            }
        }
    }
}

/// Checks `request`, which came in on our address `local`.
pub(super) fn check(request: &Request, local: SocketAddr, token: &PageToken) -> Result<(), Denied> {
    let local_ip = local.ip().to_canonical();
    if !local_ip.is_loopback() {
        return Err(Denied::Place);
    }
    if !host_is_ours(&request.host, local_ip) {
        return Err(Denied::Host);
    }
    let needs_origin = request.path == super::site::SOCKET_PATH;
    if (needs_origin || request.origin.is_some()) && !origin_is_host(request.origin.as_deref(), &request.host)
    {
        return Err(Denied::Origin);
    }
    if token.opens(request, &cookie_name(local.port())) { Ok(()) } else { Err(Denied::Token) }
}

/// The cookie that carries the token to the page's own files. Cookies ignore ports, so the port is in the name, and
/// so is the purpose: a viewer's page can be on this host, too.
fn cookie_name(port: u16) -> String {
    format!("punchcast_share_{port}")
}

/// The `Set-Cookie` value for a request whose link carried the right token.
pub(super) fn set_cookie(request: &Request, local: SocketAddr, token: &PageToken) -> Option<String> {
    token.set_cookie(request, &cookie_name(local.port()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::http::Upgrade;

    fn request(path: &str, origin: Option<&str>) -> Request {
        Request {
            head_only: false,
            path: path.to_owned(),
            query: format!("t={}", token().as_str()),
            host: "127.0.0.1:8080".to_owned(),
            origin: origin.map(str::to_owned),
            cookie: String::new(),
            keep_alive: true,
            upgrade: Upgrade::No,
        }
    }

    fn token() -> PageToken {
        PageToken::new([0xab; 16])
    }

    fn at(addr: &str) -> SocketAddr {
        addr.parse().unwrap()
    }

    const HOME: &str = "127.0.0.1:8080";

    #[test]
    fn the_printed_link_opens_the_page_and_its_cookie_the_rest() {
        let link = request("/", None);
        assert_eq!(check(&link, at(HOME), &token()), Ok(()));
        let cookie = set_cookie(&link, at(HOME), &token()).unwrap();
        assert!(cookie.ends_with("; HttpOnly; SameSite=Strict"), "{cookie}");
        let mut file = request("/share.js", None);
        file.query.clear();
        assert_eq!(check(&file, at(HOME), &token()), Err(Denied::Token));
        file.cookie = format!("other=1; {}", cookie.split(';').next().unwrap());
        assert_eq!(check(&file, at(HOME), &token()), Ok(()));
        assert_eq!(check(&file, at("127.0.0.1:8081"), &token()), Err(Denied::Token), "another port's cookie");
    }

    #[test]
    fn a_wrong_token_opens_nothing_even_on_loopback() {
        for wrong in
            ["", "t=", "t=ab", &format!("t={}0", token().as_str()), &format!("x={}", token().as_str())]
        {
            let mut asked = request("/", None);
            asked.query = wrong.to_owned();
            assert_eq!(check(&asked, at(HOME), &token()), Err(Denied::Token), "{wrong}");
            assert_eq!(set_cookie(&asked, at(HOME), &token()), None);
        }
    }

    #[test]
    fn other_places_hosts_and_origins_are_turned_away_before_their_token_is_looked_at() {
        assert_eq!(check(&request("/", None), at("192.168.1.5:8080"), &token()), Err(Denied::Place));
        assert_eq!(check(&request("/", None), at("[::ffff:192.168.1.5]:8080"), &token()), Err(Denied::Place));
        let mut rebound = request("/", None);
        rebound.host = "evil.example:8080".to_owned();
        assert_eq!(check(&rebound, at(HOME), &token()), Err(Denied::Host));
        for origin in ["null", "http://evil.example", "https://127.0.0.1:8080", "http://127.0.0.1:9090"] {
            for path in ["/", "/ws"] {
                assert_eq!(check(&request(path, Some(origin)), at(HOME), &token()), Err(Denied::Origin));
            }
        }
        assert_eq!(check(&request("/ws", None), at(HOME), &token()), Err(Denied::Origin));
        assert_eq!(check(&request("/ws", Some("http://127.0.0.1:8080")), at(HOME), &token()), Ok(()));
    }
}
