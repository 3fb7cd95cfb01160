//! What the sharing page serves: its few files, and the answer to each request.

use super::guard;
use crate::page::PageToken;
use crate::page::http::{Request, Response, Status as Code, Upgrade};
use std::net::SocketAddr;
use tungstenite::handshake::derive_accept_key;

/// Where the page's WebSocket is.
pub(super) const SOCKET_PATH: &str = "/ws";

/// What is to be done about a request.
#[derive(Debug)]
pub(super) enum Answer {
    /// Send this.
    Response(Response),
    /// Become a WebSocket, with this `Sec-WebSocket-Accept` (RFC 6455 §4.2.2).
    Socket(String),
}

/// Answers a request that came in on our address `local`.
pub(super) fn answer(request: &Request, local: SocketAddr, token: &PageToken) -> Answer {
    if let Err(denied) = guard::check(request, local, token) {
        log::debug!("share: request for {} denied: {denied:?}", request.path);
        return Answer::Response(Response::refusal(denied.status(), denied.text()));
    }
    if request.path == SOCKET_PATH {
        return match &request.upgrade {
            Upgrade::WebSocket { key } => Answer::Socket(derive_accept_key(key.as_bytes())),
            Upgrade::No | Upgrade::Unsupported => {
                Answer::Response(Response::refusal(Code::UpgradeRequired, "This is a WebSocket (RFC 6455)."))
            }
        };
    }
    let mut response = FILES.iter().find(|(path, ..)| *path == request.path).map_or_else(
        || Response::refusal(Code::NotFound, "There is nothing here; the page is at /."),
        |(_, content_type, body)| Response::ok(content_type, *body),
    );
    response.cookie = guard::set_cookie(request, local, token);
    Answer::Response(response)
}

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// The files, by path.
pub(super) const FILES: [(&str, &str, &str); 7] = [
    ("/", "text/html; charset=utf-8", include_str!("assets/index.html")),
    ("/base.css", "text/css; charset=utf-8", include_str!("../page/assets/base.css")),
    ("/style.css", "text/css; charset=utf-8", include_str!("assets/style.css")),
    ("/share.js", SCRIPT, include_str!("assets/share.js")),
    ("/sender.js", SCRIPT, include_str!("assets/sender.js")),
    ("/codec.js", SCRIPT, include_str!("assets/codec.js")),
    ("/icon.svg", "image/svg+xml", include_str!("../page/assets/icon.svg")),
];
