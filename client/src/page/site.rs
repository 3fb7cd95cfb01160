//! What the page serves: its few files, made once, and the answer to each request.

use super::flv;
use super::guard::{self, PageToken};
use super::http::{Request, Response, Status as Code, Upgrade};
use super::qr;
use super::status::{Phase, Status};
use serde::Serialize;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use tungstenite::handshake::derive_accept_key;

/// The page's content and who may see it.
#[derive(Debug)]
pub(super) struct Site {
    ticket: String,
    /// The short code, with its daemon.
    code: Option<String>,
    token: Option<PageToken>,
    /// Casts at once, each with a path for players.
    casts: usize,
    qr: Option<String>,
    run: String,
    /// The places of casts whose pictures the page cannot show.
    foreign_video: BTreeSet<usize>,
    status: Status,
}

/// What is to be done about a request.
#[derive(Debug)]
pub(super) enum Answer {
    /// Send this.
    Response(Response),
    /// Become a WebSocket, with this `Sec-WebSocket-Accept`.
    Socket {
        /// The handshake's proof (RFC 6455 §4.2.2).
        accept: String,
    },
    /// Send the cast at this place as FLV, without end.
    Flv {
        /// Counted from 0.
        place: usize,
    },
}

/// The status message as the page's script reads it.
#[derive(Serialize)]
struct StatusMessage<'a> {
    r#type: &'static str,
    /// Tells one run of the program from the next, so that a page left open loads the newer page.
    run: &'a str,
    ticket: &'a str,
    code: Option<&'a str>,
    foreign_video: &'a BTreeSet<usize>,
    #[serde(flatten)]
    status: &'a Status,
}

impl Site {
    pub(super) fn new(ticket: String, token: Option<PageToken>, casts: usize, seed: u64) -> Self {
        let qr = qr::svg(&ticket);
        let run = format!("{seed:016x}");
        let (foreign_video, status) = (BTreeSet::new(), Status::default());
        Self { ticket, code: None, token, casts, qr, run, foreign_video, status }
    }

    /// The link that opens the page at `local`.
    pub(super) fn link(&self, local: SocketAddr) -> String {
        match &self.token {
            Some(token) if !local.ip().to_canonical().is_loopback() => {
                format!("http://{local}/?t={}", token.as_str())
            }
            Some(_) | None => format!("http://{local}/"),
        }
    }

    /// Where the viewer stands.
    pub(super) fn phase(&self) -> Phase {
        self.status.phase
    }

    /// Takes a new status; returns whether it differs.
    pub(super) fn set_status(&mut self, status: Status) -> bool {
        let differs = self.status != status;
        self.status = status;
        differs
    }

    /// Takes another short code, or none; returns whether it differs.
    pub(super) fn set_code(&mut self, code: Option<String>) -> bool {
        let differs = self.code != code;
        self.code = code;
        differs
    }

    /// Notes whether the picture of the cast at `place` is one that the page cannot show; returns whether that is news.
    pub(super) fn set_foreign_video(&mut self, place: usize, foreign: bool) -> bool {
        if foreign { self.foreign_video.insert(place) } else { self.foreign_video.remove(&place) }
    }

    /// The status as the message that the page's script reads.
    pub(super) fn status_json(&self) -> String {
        let Self { ticket, run, foreign_video, status, .. } = self;
        let code = self.code.as_deref();
        let message = StatusMessage { r#type: "status", run, ticket, code, foreign_video, status };
        // Strings, numbers and options always serialise; a page without a status would still show its picture.
        serde_json::to_string(&message).unwrap_or_default()
    }

    /// Answers a request that came in on our address `local`.
    pub(super) fn answer(&self, request: &Request, local: SocketAddr) -> Answer {
        if let Err(denied) = guard::check(request, local, self.token.as_ref()) {
            log::debug!("page: request for {} denied: {denied:?}", request.path);
            return Answer::Response(Response::refusal(denied.status(), denied.text()));
        }
        if request.path == "/ws" {
            return match &request.upgrade {
                Upgrade::WebSocket { key } => Answer::Socket { accept: derive_accept_key(key.as_bytes()) },
                Upgrade::No | Upgrade::Unsupported => Answer::Response(Response::refusal(
                    Code::UpgradeRequired,
                    "This is a WebSocket (RFC 6455).",
                )),
            };
        }
        if let Some(place) = flv::place_of(&request.path)
            && place < self.casts
        {
            return Answer::Flv { place };
        }
        let mut response = self.file(&request.path);
        response.cookie = guard::set_cookie(request, local, self.token.as_ref());
        Answer::Response(response)
    }

    fn file(&self, path: &str) -> Response {
        if let Some((_, content_type, body)) = FILES.iter().find(|(name, ..)| *name == path) {
            return Response::ok(content_type, *body);
        }
        match (path, &self.qr) {
            ("/qr.svg", Some(qr)) => Response::ok("image/svg+xml", qr.as_str()),
            ("/status.json", _) => Response::ok("application/json", self.status_json()),
            _ => Response::refusal(Code::NotFound, "There is nothing here; the page is at /."),
        }
    }
}

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// The files that never change, by path.
pub(super) const FILES: [(&str, &str, &str); 15] = [
    ("/", "text/html; charset=utf-8", include_str!("assets/index.html")),
    ("/base.css", "text/css; charset=utf-8", include_str!("assets/base.css")),
    ("/style.css", "text/css; charset=utf-8", include_str!("assets/style.css")),
    ("/app.js", SCRIPT, include_str!("assets/app.js")),
    ("/picture.js", SCRIPT, include_str!("assets/picture.js")),
    ("/sound.js", SCRIPT, include_str!("assets/sound.js")),
    ("/step.js", SCRIPT, include_str!("assets/step.js")),
    ("/codec.js", SCRIPT, include_str!("assets/codec.js")),
    ("/tile.js", SCRIPT, include_str!("assets/tile.js")),
    ("/plot.js", SCRIPT, include_str!("assets/plot.js")),
    ("/mse.js", SCRIPT, include_str!("assets/mse.js")),
    ("/msesound.js", SCRIPT, include_str!("assets/msesound.js")),
    ("/feed.js", SCRIPT, include_str!("assets/feed.js")),
    ("/fmp4.js", SCRIPT, include_str!("assets/fmp4.js")),
    ("/icon.svg", "image/svg+xml", include_str!("assets/icon.svg")),
];
