//! HTTP/1.1 as far as the page needs it: one request head in, one response out.
//!
//! Bodies are not part of the language: a request that announces one is refused, so that no two readers of the
//! stream can disagree about where a request ends (RFC 9112 §11.2).

use std::fmt::Write as _;

/// The longest request head. A browser's own head is about 1 KiB; with a link's token and a few foreign cookies of
/// the same host (cookies ignore ports) it stays below 8 KiB.
pub(crate) const MAX_HEAD: usize = 8 * 1024;

/// How many header lines a head may have. Browsers send about twenty.
const MAX_HEADERS: usize = 64;

/// One request that can be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// Only the head of the response is wanted (`HEAD`).
    pub(crate) head_only: bool,
    /// The path, without the query.
    pub(crate) path: String,
    /// What follows `?`, raw.
    pub(crate) query: String,
    /// The `Host` field, raw.
    pub(crate) host: String,
    /// The `Origin` field.
    pub(crate) origin: Option<String>,
    /// Every `Cookie` field, joined by `; `.
    pub(crate) cookie: String,
    /// The peer will send another request on this connection.
    pub(crate) keep_alive: bool,
    /// What the request asks to turn the connection into.
    pub(crate) upgrade: Upgrade,
}

/// The switch of protocol that a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Upgrade {
    /// None.
    No,
    /// A WebSocket with this `Sec-WebSocket-Key` (RFC 6455 §4.2.1).
    WebSocket {
        /// The key, raw.
        key: String,
    },
    /// A WebSocket in a version other than 13, or without a key.
    Unsupported,
}

/// What the bytes so far amount to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Head {
    /// More is needed.
    Partial,
    /// A request, and the length of its head; what follows belongs to what comes next.
    Complete(Request, usize),
    /// The peer does not speak what we do; answer with this status and close.
    Refused(Status),
}

/// The response statuses in use (RFC 9110 §15).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// 200.
    Ok,
    /// 400.
    BadRequest,
    /// 403.
    Forbidden,
    /// 404.
    NotFound,
    /// 405.
    MethodNotAllowed,
    /// 408.
    RequestTimeout,
    /// 421: the `Host` is not one of ours.
    Misdirected,
    /// 426.
    UpgradeRequired,
    /// 431.
    HeadTooLarge,
}

impl Status {
    /// The status line after the version.
    pub(crate) const fn line(self) -> &'static str {
        match self {
            Self::Ok => "200 OK",
            Self::BadRequest => "400 Bad Request",
            Self::Forbidden => "403 Forbidden",
            Self::NotFound => "404 Not Found",
            Self::MethodNotAllowed => "405 Method Not Allowed",
            Self::RequestTimeout => "408 Request Timeout",
            Self::Misdirected => "421 Misdirected Request",
            Self::UpgradeRequired => "426 Upgrade Required",
            Self::HeadTooLarge => "431 Request Header Fields Too Large",
        }
    }
}

/// Reads one head from the start of `bytes`.
pub(crate) fn parse(bytes: &[u8]) -> Head {
    let mut fields = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut raw = httparse::Request::new(&mut fields);
    let window = &bytes[..bytes.len().min(MAX_HEAD)];
    match raw.parse(window) {
        Ok(httparse::Status::Complete(length)) => match request(&raw) {
            Ok(request) => Head::Complete(request, length),
            Err(status) => Head::Refused(status),
        },
        Ok(httparse::Status::Partial) if bytes.len() >= MAX_HEAD => Head::Refused(Status::HeadTooLarge),
        Ok(httparse::Status::Partial) => Head::Partial,
        Err(httparse::Error::TooManyHeaders) => Head::Refused(Status::HeadTooLarge),
        Err(_) => Head::Refused(Status::BadRequest),
    }
}

fn request(raw: &httparse::Request<'_, '_>) -> Result<Request, Status> {
    let (Some(method), Some(target), Some(version)) = (raw.method, raw.path, raw.version) else {
        return Err(Status::BadRequest);
    };
    let head_only = match method {
        "GET" => false,
        "HEAD" => true,
        _ => return Err(Status::MethodNotAllowed),
    };
    // The absolute and authority forms are for proxies (RFC 9112 §3.2).
    if !target.starts_with('/') {
        return Err(Status::BadRequest);
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let fields = Fields::gather(raw.headers)?;
    let host = fields.host.ok_or(Status::BadRequest)?;
    let keep_alive = version == 1 && !has_token(&fields.connection, "close");
    let websocket = has_token(&fields.connection, "upgrade") && has_token(&fields.upgrade, "websocket");
    let upgrade = match (websocket, fields.socket_key, fields.socket_version.as_deref()) {
        (false, _, _) => Upgrade::No,
        (true, Some(key), Some("13")) if !head_only && version == 1 => Upgrade::WebSocket { key },
        (true, _, _) => Upgrade::Unsupported,
    };
    Ok(Request {
        head_only,
        path: path.to_owned(),
        query: query.to_owned(),
        host,
        origin: fields.origin,
        cookie: fields.cookie,
        keep_alive,
        upgrade,
    })
}

/// The header fields that matter.
#[derive(Default)]
struct Fields {
    host: Option<String>,
    origin: Option<String>,
    cookie: String,
    connection: String,
    upgrade: String,
    socket_key: Option<String>,
    socket_version: Option<String>,
}

impl Fields {
    fn gather(headers: &[httparse::Header<'_>]) -> Result<Self, Status> {
        let mut fields = Self::default();
        for header in headers {
            let text = || str::from_utf8(header.value).map(str::trim).map_err(|_| Status::BadRequest);
            match header.name.to_ascii_lowercase().as_str() {
                "host" => once(&mut fields.host, text()?)?,
                "origin" => once(&mut fields.origin, text()?)?,
                "cookie" => append(&mut fields.cookie, "; ", text()?),
                "connection" => append(&mut fields.connection, ",", text()?),
                "upgrade" => append(&mut fields.upgrade, ",", text()?),
                "sec-websocket-key" => once(&mut fields.socket_key, text()?)?,
                "sec-websocket-version" => once(&mut fields.socket_version, text()?)?,
                "content-length" if text()? == "0" => {}
                "content-length" | "transfer-encoding" => return Err(Status::BadRequest),
                _ => {}
            }
        }
        Ok(fields)
    }
}

/// A field that two readers could read differently must not come twice.
fn once(slot: &mut Option<String>, value: &str) -> Result<(), Status> {
    if slot.replace(value.to_owned()).is_some() {
        return Err(Status::BadRequest);
    }
    Ok(())
}

fn append(slot: &mut String, separator: &str, value: &str) {
    if !slot.is_empty() {
        slot.push_str(separator);
    }
    slot.push_str(value);
}

fn has_token(list: &str, token: &str) -> bool {
    list.split(',').any(|item| item.trim().eq_ignore_ascii_case(token))
}

/// The value of `name` in a query string. Values are taken as they are: nothing that the page hands out needs
/// percent-encoding.
pub(crate) fn query_value<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

/// The value of `name` in a `Cookie` field (RFC 6265 §4.2.1).
pub(crate) fn cookie_value<'a>(cookie: &'a str, name: &str) -> Option<&'a str> {
    cookie.split(';').find_map(|pair| pair.trim_start().strip_prefix(name)?.strip_prefix('='))
}

/// One response.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    /// The status.
    pub(crate) status: Status,
    /// The body's media type.
    pub(crate) content_type: &'static str,
    /// The body.
    pub(crate) body: Vec<u8>,
    /// A `Set-Cookie` value.
    pub(crate) cookie: Option<String>,
}

impl Response {
    /// A successful response.
    pub(crate) fn ok(content_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self { status: Status::Ok, content_type, body: body.into(), cookie: None }
    }

    /// A refusal with a line of text for whoever reads it.
    pub(crate) fn refusal(status: Status, text: &str) -> Self {
        let body = format!("{}\n\n{text}\n", status.line()).into_bytes();
        Self { status, content_type: "text/plain; charset=utf-8", body, cookie: None }
    }

    /// The bytes of the response. `keep_alive` tells the peer whether another request may follow.
    pub(crate) fn encode(&self, head_only: bool, keep_alive: bool) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {}\r\n", self.status.line());
        let mut field = |name: &str, value: &str| {
            // Writing to a string cannot fail.
            let _ = write!(head, "{name}: {value}\r\n");
        };
        field("Content-Type", self.content_type);
        field("Content-Length", &self.body.len().to_string());
        for (name, value) in SECURITY_FIELDS {
            field(name, value);
        }
        if let Some(cookie) = &self.cookie {
            field("Set-Cookie", cookie);
        }
        match self.status {
            Status::MethodNotAllowed => field("Allow", "GET, HEAD"),
            Status::UpgradeRequired => {
                field("Upgrade", "websocket");
                field("Sec-WebSocket-Version", "13");
            }
            Status::Ok
            | Status::BadRequest
            | Status::Forbidden
            | Status::NotFound
            | Status::RequestTimeout
            | Status::Misdirected
            | Status::HeadTooLarge => {}
        }
        field("Connection", if keep_alive { "keep-alive" } else { "close" });
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        if !head_only {
            bytes.extend_from_slice(&self.body);
        }
        bytes
    }
}

/// The 101 response that turns the connection into a WebSocket (RFC 6455 §4.2.2).
pub(crate) fn switch_protocols(accept: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    )
    .into_bytes()
}

/// The head of a response whose body ends with the connection (RFC 9112 §6.3, item 8).
pub(super) fn endless(content_type: &str) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {}\r\nContent-Type: {content_type}\r\n", Status::Ok.line());
    for (name, value) in SECURITY_FIELDS {
        // Writing to a string cannot fail.
        let _ = write!(head, "{name}: {value}\r\n");
    }
    head.push_str("Connection: close\r\n\r\n");
    head.into_bytes()
}

/// What every response carries. The page loads nothing but its own files, so the policy begins at nothing;
/// `media-src blob:` is Media Source Extensions' object URL. The ticket is on the page, so no cache keeps it, no
/// other site frames, opens or embeds it, and no link tells its address.
const SECURITY_FIELDS: [(&str, &str); 7] = [
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
         media-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Cache-Control", "no-store"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
];

#[cfg(test)]
mod tests {
    use super::*;

    const BROWSER: &str = "GET /ws?t=ab&x=1 HTTP/1.1\r\nHost: 127.0.0.1:80\r\nConnection: keep-alive, Upgrade\r\n\
        Upgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: abc=\r\nCookie: a=1; punchcast=ff\r\n\
        Origin: http://127.0.0.1:80\r\n\r\nrest";

    fn status_of(text: &str) -> Option<Status> {
        match parse(text.as_bytes()) {
            Head::Refused(status) => Some(status),
            Head::Partial | Head::Complete(..) => None,
        }
    }

    #[test]
    fn a_head_is_complete_at_its_last_byte_and_not_before() {
        let end = BROWSER.len() - "rest".len();
        for cut in 0..end {
            assert_eq!(parse(&BROWSER.as_bytes()[..cut]), Head::Partial, "cut at {cut}");
        }
        let Head::Complete(request, length) = parse(BROWSER.as_bytes()) else { panic!("not complete") };
        assert_eq!(length, end);
        assert_eq!((request.path.as_str(), request.query.as_str()), ("/ws", "t=ab&x=1"));
        assert_eq!(request.upgrade, Upgrade::WebSocket { key: "abc=".to_owned() });
        assert_eq!(cookie_value(&request.cookie, "punchcast"), Some("ff"));
        assert_eq!(query_value(&request.query, "t"), Some("ab"));
        assert_eq!(query_value(&request.query, "y"), None);
        assert!(request.keep_alive);
    }

    #[test]
    fn what_two_readers_could_read_differently_is_refused() {
        let cases = [
            ("GET / HTTP/1.1\r\n\r\n", Status::BadRequest),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", Status::BadRequest),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", Status::BadRequest),
            ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", Status::BadRequest),
            ("GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", Status::BadRequest),
            ("POST / HTTP/1.1\r\nHost: a\r\n\r\n", Status::MethodNotAllowed),
            ("CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", Status::MethodNotAllowed),
            ("\u{16}\u{3}\u{1}\u{2}\u{0}", Status::BadRequest),
        ];
        for (text, status) in cases {
            assert_eq!(status_of(text), Some(status), "{text:?}");
        }
    }

    #[test]
    fn a_head_that_never_ends_is_refused_at_its_limit() {
        let mut endless = b"GET / HTTP/1.1\r\nX: ".to_vec();
        endless.resize(MAX_HEAD - 1, b'a');
        assert_eq!(parse(&endless), Head::Partial);
        endless.push(b'a');
        assert_eq!(parse(&endless), Head::Refused(Status::HeadTooLarge));
    }

    #[test]
    fn old_and_closing_requests_end_the_connection() {
        for text in
            ["GET / HTTP/1.0\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nConnection: Close\r\n\r\n"]
        {
            let Head::Complete(request, _) = parse(text.as_bytes()) else { panic!("{text:?}") };
            assert!(!request.keep_alive, "{text:?}");
        }
    }
}
