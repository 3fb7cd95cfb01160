// The page: keeps its WebSocket, shows the status, hands media to whatever can show it here.

import { CanvasPicture } from "./picture.js";
import { MsePicture } from "./mse.js";
import { Sound } from "./sound.js";

const element = (id) => document.getElementById(id);
const body = document.body;

// Read by tests, and by whoever opens the console.
const punchcast = { frames: 0, width: 0, height: 0, lastTimestamp: 0, decoder: "none", skipped: 0 };
window.punchcast = punchcast;

// ---- The picture ----

const events = {
  shown(width, height, timestamp) {
    punchcast.frames += 1;
    punchcast.lastTimestamp = timestamp;
    if (width !== punchcast.width || height !== punchcast.height) {
      punchcast.width = width;
      punchcast.height = height;
      element("size").textContent = `${width} × ${height}`;
    }
    if (body.dataset.picture !== "shown") {
      body.dataset.picture = "shown";
      describe();
      wake();
    }
  },
  // The decoder fell behind or failed: pictures are left out until a key frame.
  starved() {
    punchcast.skipped += 1;
    wantKeyframe();
  },
  failed(reason) {
    if (picture instanceof CanvasPicture && MsePicture.isSupported()) {
      usePicture(new MsePicture(element("video"), events));
      // The stream does not repeat its configuration.
      if (config) picture.configure(config);
    } else cannotShow(reason);
    wantKeyframe();
  },
};

let picture = null;
let config = null; // Of the stream's picture.
const sound = new Sound();

function usePicture(next) {
  picture?.reset();
  picture = next;
  punchcast.decoder = next ? next.name : "none";
  element("canvas").hidden = !(next instanceof CanvasPicture);
  element("video").hidden = !(next instanceof MsePicture);
}

function choosePicture() {
  if (CanvasPicture.isSupported()) usePicture(new CanvasPicture(element("canvas"), events));
  else if (MsePicture.isSupported()) usePicture(new MsePicture(element("video"), events));
  else cannotShow("This browser has neither WebCodecs nor Media Source Extensions here.");
}

function cannotShow(reason) {
  usePicture(null);
  const port = location.port || "80";
  const insecure = window.isSecureContext
    ? ""
    : `\nBrowsers keep WebCodecs for secure pages: open this one on the viewer's own machine as http://127.0.0.1:${port}/, ` +
      `or through ssh -L ${port}:127.0.0.1:${port} to it.`;
  trouble(
    `${reason}${insecure}\nOr let another program show it: punchcast view --rtmp 127.0.0.1:1935 serves players, ` +
      `punchcast view --record cast.flv writes a file.`,
  );
}

function trouble(text) {
  element("trouble").textContent = text;
  element("trouble").hidden = !text;
}

let keyframeAsked = 0;

function wantKeyframe() {
  const now = performance.now();
  if (now - keyframeAsked < 500 || socket?.readyState !== WebSocket.OPEN) return;
  keyframeAsked = now;
  socket.send("keyframe 0");
}

// ---- Media messages: kind, flags, reserved, timestamp, composition offset, payload ----

const HEADER = 12;
const [VIDEO_CONFIG, VIDEO_FRAME, AUDIO_CONFIG, AUDIO_FRAME] = [1, 2, 3, 4];
const clock = { last: null, high: 0 };

// Timestamps come modulo 2^32 (49.7 days).
function unwrap(timestamp) {
  if (clock.last !== null) {
    if (timestamp < clock.last - 2 ** 31) clock.high += 2 ** 32;
    else if (timestamp > clock.last + 2 ** 31) clock.high -= 2 ** 32;
  }
  clock.last = timestamp;
  return clock.high + timestamp;
}

function media(buffer) {
  // The first cast alone is shown.
  if (new DataView(buffer).getUint16(2) !== 0) return;
  if (buffer.byteLength <= HEADER) return;
  const view = new DataView(buffer);
  const payload = new Uint8Array(buffer, HEADER);
  const key = (view.getUint8(1) & 1) === 1;
  const timestamp = unwrap(view.getUint32(4));
  switch (view.getUint8(0)) {
    case VIDEO_CONFIG:
      if (picture) trouble("");
      config = payload;
      picture?.configure(payload);
      break;
    case VIDEO_FRAME:
      picture?.frame({ key, timestamp, offset: view.getInt32(8), data: payload });
      break;
    case AUDIO_CONFIG:
      sound.configure(payload);
      element("sound").hidden = !sound.isReady();
      break;
    case AUDIO_FRAME:
      sound.frame(timestamp, payload);
      break;
  }
  catchUp = Math.max(catchUp - 1, 0);
  picture?.catchUp(catchUp > 0);
}

// How many of the next media messages only bring the decoder up to the present.
let catchUp = 0;

// ---- Text messages ----

let run = null;
let status = { phase: "waiting", message: "" };

function control(message) {
  switch (message.type) {
    case "status":
      // The program was started anew: its page may be another.
      if (run !== null && run !== message.run) return location.reload();
      run = message.run;
      status = message;
      describe();
      break;
    case "start":
      if (message.cast !== 0) break;
      clock.last = null;
      clock.high = 0;
      catchUp = 0;
      if (!picture) choosePicture();
      config = null;
      picture?.reset();
      sound.reset();
      break;
    case "end":
      catchUp = 0;
      sound.reset();
      break;
    case "catch-up":
      catchUp = message.packets;
      picture?.catchUp(catchUp > 0);
      break;
  }
}

const HEADLINES = {
  waiting: ["Waiting for a cast", "Nobody has used this ticket yet."],
  connecting: ["Making the link", "A caster is here; the two machines are finding a way to each other."],
  live: ["Linked", "Waiting for the first picture."],
  lost: ["The link was lost", "The ticket is still good: a new cast shows here at once."],
  ended: ["The cast is over", "The ticket is still good: the next cast shows here at once."],
};

const RUNGS = {
  lan: "Same network",
  reverse: "Direct, dialled back",
  public: "Direct",
  portmapped: "Direct, port mapped",
  punched: "Direct, hole punched",
  predicted: "Direct, port predicted",
  relayed: "Through the relay",
};

function describe() {
  const { phase, message, ticket } = status;
  const cast = status.casts?.find(({ place }) => place === 0) ?? {};
  body.dataset.phase = phase;
  const [headline, fallback] = HEADLINES[phase] ?? HEADLINES.waiting;
  element("headline").textContent = headline;
  const over = phase === "lost" || phase === "ended";
  element("message").textContent = over && message ? `${message} ${fallback}` : message || fallback;
  document.title = phase === "live" ? "Live – Punchcast" : `${headline} – Punchcast`;
  if (ticket && element("ticket").textContent !== ticket) {
    element("ticket").textContent = ticket;
    element("ticket").href = ticket;
    // What a shell could take for its own stands in quotes.
    const word = /^[\w@%+=:,./#-]+$/.test(ticket) ? ticket : `'${ticket}'`;
    element("command").textContent = `punchcast cast ${word}`;
  }
  element("rung").textContent = cast.rung ? RUNGS[cast.rung] ?? cast.rung : "";
  element("path").textContent = cast.local && cast.remote ? `${cast.remote} → ${cast.local}` : "";
  element("rtt").textContent = Number.isFinite(cast.rtt_ms) ? `${cast.rtt_ms.toFixed(1)} ms` : "–";
  if (status.foreign_video.includes(0)) cannotShow("The caster's picture is not H.264, which is all that this page shows.");
}

// ---- The WebSocket ----

let socket = null;
let delay = 250;
let heard = 0;

function connect() {
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  const own = new WebSocket(`${scheme}://${location.host}/ws${location.search}`);
  own.binaryType = "arraybuffer";
  socket = own;
  heard = performance.now();
  own.onopen = () => {
    delay = 250;
    body.dataset.socket = "up";
  };
  own.onmessage = ({ data }) => {
    heard = performance.now();
    if (typeof data === "string") control(JSON.parse(data));
    else media(data);
  };
  own.onclose = () => {
    if (socket !== own) return;
    socket = null;
    body.dataset.socket = "lost";
    picture?.reset();
    sound.reset();
    setTimeout(connect, delay * (0.75 + Math.random() / 2));
    delay = Math.min(delay * 2, 5000);
  };
}

// The program says something every five seconds; three times that long in silence is a dead connection, which a
// browser alone takes minutes to find out.
setInterval(() => {
  if (socket && performance.now() - heard > 15_000) {
    const dead = socket;
    dead.onclose();
    dead.close();
  }
}, 1000);

// ---- Numbers, once a second ----

let framesBefore = 0;
setInterval(() => {
  element("frames").textContent = punchcast.frames.toLocaleString();
  element("rate").textContent = `${punchcast.frames - framesBefore} fps`;
  framesBefore = punchcast.frames;
}, 1000);

// ---- Hands ----

let idle = 0;
function wake() {
  delete body.dataset.idle;
  clearTimeout(idle);
  idle = setTimeout(() => {
    if (!element("hud").contains(document.activeElement) || !document.activeElement.matches(":focus-visible")) {
      body.dataset.idle = "";
    }
  }, 3000);
}
for (const kind of ["pointermove", "pointerdown", "keydown"]) addEventListener(kind, wake, { passive: true });

function toggleFull() {
  if (document.fullscreenElement) document.exitFullscreen();
  else document.documentElement.requestFullscreen?.().catch(() => {});
}

async function toggleSound() {
  if (!sound.isReady()) return;
  const on = await sound.toggle();
  element("sound").textContent = on ? "Sound on" : "Sound off";
  element("sound").setAttribute("aria-pressed", String(on));
}

async function copy(button) {
  const source = element(button.dataset.copy);
  let copied = true;
  try {
    await navigator.clipboard.writeText(source.textContent);
  } catch {
    // Without a secure context there is no clipboard object; the old command still works on a selection.
    getSelection().selectAllChildren(source);
    copied = document.execCommand("copy");
  }
  button.textContent = copied ? "Copied" : "Select it";
  setTimeout(() => (button.textContent = "Copy"), 1500);
}

element("full").onclick = toggleFull;
element("stage").ondblclick = toggleFull;
element("sound").onclick = toggleSound;
for (const button of document.querySelectorAll("[data-copy]")) button.onclick = () => copy(button);
element("qr").onerror = () => (element("qr").hidden = true);
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "f") toggleFull();
  else if (event.key === "m") toggleSound();
});

choosePicture();
connect();
