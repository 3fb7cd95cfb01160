//! Who may see the page.
//!
//! The page shows a ticket and a screen, and any web site open in the same browser can make that browser send
//! requests here. Three checks stand in the way:
//!
//! - **The `Host`** must be an address of ours. A name that a stranger's DNS server points at us (DNS rebinding)
//!   makes our page same-origin with that stranger's, but the browser still sends the stranger's name.
//! - **The `Origin`** of a WebSocket must be the page's own: WebSockets are not bound by the same-origin policy
//!   (RFC 6455 §10.2).
//! - **The token** of the page's link is required beyond loopback, where anybody on the network can connect.

use super::http::{Request, Status, cookie_value, query_value};
use std::fmt;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use subtle::ConstantTimeEq;

/// The secret in the page's link, which lets a browser on another machine in. At least 128 bits of the system's
/// randomness, so guessing is hopeless at any rate of requests.
#[derive(Clone)]
pub struct PageToken(String);

impl PageToken {
    /// The token of these random bytes.
    #[must_use]
    pub fn new(random: [u8; 16]) -> Self {
        let mut hex = String::with_capacity(32);
        for byte in random {
            // Writing to a string cannot fail.
            let _ = write!(hex, "{byte:02x}");
        }
        Self(hex)
    }

    /// The token as it stands in the link: lower-case hexadecimal digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `given` is the token, in a time that does not tell how much of it is.
    fn matches(&self, given: &str) -> bool {
        self.0.as_bytes().ct_eq(given.as_bytes()).into()
    }

    /// Whether `request` carries the token, in the link or in the cookie of this name that the link left.
    pub(crate) fn opens(&self, request: &Request, cookie: &str) -> bool {
        let in_link = query_value(&request.query, "t");
        let in_cookie = cookie_value(&request.cookie, cookie);
        [in_link, in_cookie].into_iter().flatten().any(|given| self.matches(given))
    }

    /// The `Set-Cookie` value, for the cookie of this name, for a request whose link carried the right token.
    pub(crate) fn set_cookie(&self, request: &Request, cookie: &str) -> Option<String> {
        query_value(&request.query, "t").filter(|given| self.matches(given))?;
        Some(format!("{cookie}={}; Path=/; HttpOnly; SameSite=Strict", self.as_str()))
    }
}

impl fmt::Debug for PageToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PageToken(…)")
    }
}

/// Why a request is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Denied {
    /// The `Host` names somebody else.
    Host,
    /// A WebSocket from a page that is not ours.
    Origin,
    /// The token is missing or wrong.
    Token,
}

impl Denied {
    /// The response's status.
    pub(super) const fn status(self) -> Status {
        match self {
            Self::Host => Status::Misdirected,
            Self::Origin | Self::Token => Status::Forbidden,
        }
    }

    /// A line for whoever sees the response.
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::Host => {
                "This page answers to its own address only: open it by the link that punchcast printed."
            }
            Self::Origin => "This socket serves its own page only.",
            Self::Token => {
                "The link's token is missing or wrong: open the whole link that punchcast printed."
            }
        }
    }
}

/// Checks `request`, which came in on our address `local`.
pub(super) fn check(request: &Request, local: SocketAddr, token: Option<&PageToken>) -> Result<(), Denied> {
    let local_ip = local.ip().to_canonical();
    if !host_is_ours(&request.host, local_ip) {
        return Err(Denied::Host);
    }
    if request.path == "/ws" && !origin_is_host(request.origin.as_deref(), &request.host) {
        return Err(Denied::Origin);
    }
    // Who can connect to a loopback address is on this host already.
    if local_ip.is_loopback() {
        return Ok(());
    }
    let opens = token.is_some_and(|token| token.opens(request, &cookie_name(local.port())));
    if opens { Ok(()) } else { Err(Denied::Token) }
}

/// The cookie that carries the token to the page's own files. Cookies ignore ports, so the port is in the name, or
/// two viewers on one host would overwrite each other's.
pub(super) fn cookie_name(port: u16) -> String {
    format!("punchcast_{port}")
}

/// The `Set-Cookie` value for a request whose link carried the right token.
pub(super) fn set_cookie(request: &Request, local: SocketAddr, token: Option<&PageToken>) -> Option<String> {
    token?.set_cookie(request, &cookie_name(local.port()))
}

/// Whether `host` is `localhost` on a loopback connection, or the literal address that the connection was made to.
/// Ports are not compared: a forwarded port (`ssh -L`) differs rightly, and rebinding is about names.
pub(crate) fn host_is_ours(host: &str, local: IpAddr) -> bool {
    let Some(name) = without_port(host) else { return false };
    if name.eq_ignore_ascii_case("localhost") {
        return local.is_loopback();
    }
    let literal = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    let ip: Option<IpAddr> = match literal {
        Some(v6) => v6.parse().ok().filter(IpAddr::is_ipv6),
        None => name.parse().ok().filter(IpAddr::is_ipv4),
    };
    ip.is_some_and(|ip| {
        let ip = ip.to_canonical();
        ip == local || (ip.is_loopback() && local.is_loopback())
    })
}

fn without_port(host: &str) -> Option<&str> {
    let end_of_literal = host.rfind(']').map_or(0, |at| at + 1);
    match host[end_of_literal..].find(':') {
        Some(colon) => {
            let (name, port) = host.split_at(end_of_literal + colon);
            port[1..].parse::<u16>().ok().map(|_| name)
        }
        None => Some(host),
    }
}

/// Whether a request's `Origin` is the site that its `Host` names.
pub(crate) fn origin_is_host(origin: Option<&str>, host: &str) -> bool {
    origin
        .and_then(|origin| origin.strip_prefix("http://"))
        .is_some_and(|place| place.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::super::http::Upgrade;
    use super::*;

    fn request(path: &str, host: &str) -> Request {
        Request {
            head_only: false,
            path: path.to_owned(),
            query: String::new(),
            host: host.to_owned(),
            origin: None,
            cookie: String::new(),
            keep_alive: true,
            upgrade: Upgrade::No,
        }
    }

    fn at(addr: &str) -> SocketAddr {
        addr.parse().unwrap()
    }

    #[test]
    fn only_our_own_address_is_a_host() {
        let cases = [
            ("127.0.0.1:8080", "127.0.0.1:8080", true),
            ("localhost:8080", "127.0.0.1:8080", true),
            ("LOCALHOST", "[::1]:8080", true),
            ("[::1]:8080", "[::1]:8080", true),
            ("127.0.0.1:9999", "127.0.0.1:8080", true),
            ("evil.example:8080", "127.0.0.1:8080", false),
            ("127.0.0.1.evil.example", "127.0.0.1:8080", false),
            ("localhost.evil.example", "127.0.0.1:8080", false),
            ("192.168.1.5:8080", "127.0.0.1:8080", false),
            ("127.0.0.1:8080@evil", "127.0.0.1:8080", false),
            ("[127.0.0.1]", "127.0.0.1:8080", false),
            ("::1", "[::1]:8080", false),
            ("]:[", "127.0.0.1:8080", false),
            ("", "127.0.0.1:8080", false),
        ];
        for (host, local, ours) in cases {
            assert_eq!(check(&request("/", host), at(local), None).is_ok(), ours, "{host} on {local}");
        }
    }

    #[test]
    fn beyond_loopback_the_links_token_opens_and_nothing_else() {
        let token = PageToken::new([0xab; 16]);
        let local = at("192.168.1.5:8080");
        let mut asked = request("/", "192.168.1.5:8080");
        assert_eq!(check(&asked, local, Some(&token)), Err(Denied::Token));
        assert_eq!(check(&asked, local, None), Err(Denied::Token), "without a token nobody is let in");
        for wrong in ["t=", "t=ab", &format!("t={}0", token.as_str()), &format!("tt={}", token.as_str())] {
            asked.query = wrong.to_owned();
            assert_eq!(check(&asked, local, Some(&token)), Err(Denied::Token), "{wrong}");
            assert_eq!(set_cookie(&asked, local, Some(&token)), None);
        }
        asked.query = format!("t={}", token.as_str());
        assert_eq!(check(&asked, local, Some(&token)), Ok(()));
        let cookie = set_cookie(&asked, local, Some(&token)).unwrap();
        asked.query.clear();
        asked.cookie = format!("other=1; {}", cookie.split(';').next().unwrap());
        assert_eq!(check(&asked, local, Some(&token)), Ok(()));
        assert_eq!(check(&asked, at("192.168.1.5:8081"), Some(&token)), Err(Denied::Token));
    }

    #[test]
    fn a_socket_serves_its_own_page_only() {
        let local = at("127.0.0.1:8080");
        let mut asked = request("/ws", "127.0.0.1:8080");
        let cases = [
            (None, false),
            (Some("null"), false),
            (Some("http://127.0.0.1:9090"), false),
            (Some("https://127.0.0.1:8080"), false),
            (Some("http://evil.example"), false),
            (Some("http://127.0.0.1:8080"), true),
        ];
        for (origin, allowed) in cases {
            asked.origin = origin.map(str::to_owned);
            assert_eq!(check(&asked, local, None).is_ok(), allowed, "{origin:?}");
        }
    }

    #[test]
    fn a_token_does_not_show_in_logs() {
        assert!(!format!("{:?}", PageToken::new([0xab; 16])).contains("ab"));
    }
}
