//! A headless Chromium, driven by its DevTools protocol over a WebSocket.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use punchcast::driver::now;
use serde_json::{Value, json};
use std::fs;
use std::io;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tungstenite::stream::MaybeTlsStream;
use tungstenite::{Error, Message, WebSocket};

/// How long anything may take on a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A running browser with one page; killed when dropped.
pub(crate) struct Chromium {
    process: Child,
    profile: PathBuf,
    socket: WebSocket<MaybeTlsStream<TcpStream>>,
    session: String,
    next_id: u64,
}

impl Chromium {
    /// Starts `program` without a window, with a profile of its own below `scratch`, and opens an empty page.
    pub(crate) fn start(program: &Path, scratch: &Path, size: (u32, u32)) -> Self {
        Self::launch(Command::new(program).arg("--headless"), scratch, size)
    }

    /// Starts `program` with a window at `left` of an X display, which it shares when a page asks for a screen.
    pub(crate) fn on_display(
        program: &Path,
        scratch: &Path,
        display: &str,
        left: u32,
        size: (u32, u32),
    ) -> Self {
        let mut command = Command::new(program);
        command
            .env("DISPLAY", display)
            .env_remove("WAYLAND_DISPLAY")
            .args(["--ozone-platform=x11", "--auto-select-desktop-capture-source=Entire screen"])
            .args(["--autoplay-policy=no-user-gesture-required", "--disable-infobars"])
            .arg(format!("--window-position={left},0"));
        Self::launch(&mut command, scratch, size)
    }

    fn launch(command: &mut Command, scratch: &Path, size: (u32, u32)) -> Self {
        let profile = scratch.join(format!("chromium-{}-{:x}", std::process::id(), fastrand::u64(..)));
        fs::create_dir_all(&profile).expect("a profile directory");
        let process = command
            .args(["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .args(["--remote-debugging-port=0", "--hide-scrollbars", "--disable-dev-shm-usage"])
            .arg(format!("--window-size={},{}", size.0, size.1))
            .arg(format!("--user-data-dir={}", profile.display()))
            .arg("about:blank")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromium starts");
        let port_file = profile.join("DevToolsActivePort");
        let endpoint = poll_until("DevToolsActivePort", || {
            let text = fs::read_to_string(&port_file).ok()?;
            let (port, path) = text.trim_end().split_once('\n')?;
            path.starts_with('/').then(|| format!("ws://127.0.0.1:{port}{path}"))
        });
        let (socket, _) = tungstenite::connect(endpoint.as_str()).expect("DevTools answer");
        if let MaybeTlsStream::Plain(stream) = socket.get_ref() {
            stream.set_read_timeout(Some(PATIENCE)).expect("a read timeout");
        }
        let mut browser = Self { process, profile, socket, session: String::new(), next_id: 0 };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = browser.call("Target.attachToTarget", attach);
        browser.session = attached["sessionId"].as_str().expect("a session").to_owned();
        browser.call("Page.enable", json!({}));
        browser
    }

    /// Calls a DevTools method and returns its result.
    pub(crate) fn call(&mut self, method: &str, params: Value) -> Value {
        self.attempt(method, params).unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    /// Calls a DevTools method; errors are the browser's own.
    fn attempt(&mut self, method: &str, params: Value) -> Result<Value, Value> {
        self.next_id += 1;
        let id = self.next_id;
        let mut request = json!({"id": id, "method": method, "params": params});
        if !self.session.is_empty() {
            request["sessionId"] = json!(self.session);
        }
        self.socket.send(Message::text(request.to_string())).expect("DevTools take a request");
        loop {
            let message = match self.socket.read() {
                Ok(Message::Text(text)) => text,
                Ok(_) => continue,
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    panic!("no answer to {method} in {PATIENCE:?}")
                }
                Err(error) => panic!("DevTools during {method}: {error}"),
            };
            let answer: Value = serde_json::from_str(&message).expect("DevTools speak JSON");
            if answer["id"] == json!(id) {
                return match answer.get("error") {
                    Some(error) => Err(error.clone()),
                    None => Ok(answer["result"].clone()),
                };
            }
        }
    }

    /// Runs `script` before any script of the pages opened from here on.
    pub(crate) fn prelude(&mut self, script: &str) {
        self.call("Page.addScriptToEvaluateOnNewDocument", json!({"source": script}));
    }

    /// Opens `url`.
    pub(crate) fn open(&mut self, url: &str) {
        let result = self.call("Page.navigate", json!({"url": url}));
        assert!(result.get("errorText").is_none(), "{url}: {}", result["errorText"]);
    }

    /// The value of a JavaScript expression; promises are awaited.
    pub(crate) fn evaluate(&mut self, expression: &str) -> Value {
        let params = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let result = self.call("Runtime.evaluate", params);
        assert!(result.get("exceptionDetails").is_none(), "{expression}: {}", result["exceptionDetails"]);
        result["result"]["value"].clone()
    }

    /// Clicks where the element `selector` is, as a hand does.
    pub(crate) fn click(&mut self, selector: &str) {
        let place = self.evaluate(&format!(
            "(() => {{ const {{left, top, width, height}} = document.querySelector('{selector}').getBoundingClientRect(); \
             return [left + width / 2, top + height / 2]; }})()"
        ));
        for kind in ["mousePressed", "mouseReleased"] {
            let event =
                json!({"type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": 1});
            self.call("Input.dispatchMouseEvent", event);
        }
    }

    /// The process of the browser itself.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Waits until `condition` is true. The page may be left and loaded anew meanwhile.
    pub(crate) fn wait_for(&mut self, condition: &str) {
        let deadline = now() + PATIENCE;
        // The page looks for a second at a time, so that this end need not ask often.
        let expression = format!(
            "new Promise((done) => {{ const end = performance.now() + 1000; const look = () => {{ \
             let met = false; try {{ met = Boolean({condition}); }} catch {{}} \
             if (met || performance.now() > end) done(met); else setTimeout(look, 30); }}; look(); }})"
        );
        while now() < deadline {
            let params = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
            // A promise ends with its page.
            if self
                .attempt("Runtime.evaluate", params)
                .is_ok_and(|answer| answer["result"]["value"] == json!(true))
            {
                return;
            }
        }
        let state = self.evaluate(
            "JSON.stringify([location.href, {...document.body.dataset}, window.punchcast, \
                 [...document.querySelectorAll('[data-place]')].map((tile) => ({...tile.dataset}))])",
        );
        let text = self.evaluate("document.body.innerText");
        panic!("the page never came to: {condition}\nstate: {state}\ntext: {text}");
    }

    /// Sets the window's size in CSS pixels and the preferred colour scheme.
    pub(crate) fn appear(&mut self, width: u32, height: u32, scheme: &str) {
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", metrics);
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.call("Emulation.setEmulatedMedia", features);
    }

    /// The window as a PNG file.
    pub(crate) fn screenshot(&mut self) -> Vec<u8> {
        let shot = self.call("Page.captureScreenshot", json!({"format": "png"}));
        BASE64.decode(shot["data"].as_str().expect("image data")).expect("valid base64")
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.profile);
    }
}

/// Looks until there is something to see, for at most [`PATIENCE`].
fn poll_until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(now() < deadline, "no {what} in {PATIENCE:?}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}
