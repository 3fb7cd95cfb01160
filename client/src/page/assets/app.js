// The page: keeps its WebSocket, gives each cast a tile, and listens to the hands.

import { CanvasPicture } from "./picture.js";
import { MsePicture } from "./mse.js";
import { Tile, capital, sentence } from "./tile.js";

const element = (id) => document.getElementById(id);
const body = document.body;
const grid = element("grid");

// By the cast's place.
const tiles = new Map();

// Read by tests, and by whoever opens the console.
window.punchcast = { tiles };

// ---- The grid ----

let alone = null; // The place of the only tile in sight, of several.
let selected = null; // The place that keys mean.
let invited = false; // The ticket is shown over the pictures.

const actions = {
  keyframe(place) {
    if (socket?.readyState === WebSocket.OPEN) socket.send(`keyframe ${place}`);
  },
  shown() {
    arrange();
    wake();
  },
  alone: (place) => setAlone(alone === null ? place : null),
  full: toggleFull,
  invite: () => setInvited(true),
};

function tileAt(place) {
  let tile = tiles.get(place);
  if (!tile) {
    tile = new Tile(place, element("tile").content, actions);
    tiles.set(place, tile);
    const after = [...tiles.values()].filter((other) => other.place > place).sort((a, b) => a.place - b.place)[0];
    grid.insertBefore(tile.root, after?.root ?? null);
    tile.root.addEventListener("pointerenter", () => (selected = place));
    tile.root.addEventListener("pointerdown", () => (selected = place));
    arrange();
  }
  return tile;
}

function removeTile(place) {
  const tile = tiles.get(place);
  if (!tile) return;
  tiles.delete(place);
  tile.close();
  if (alone === place) alone = null;
  if (selected === place) selected = null;
  arrange();
}

function current() {
  return tiles.get(alone ?? selected) ?? [...tiles.values()].sort((a, b) => a.place - b.place)[0];
}

function setAlone(place) {
  if (place !== null && !tiles.has(place)) return;
  alone = tiles.size > 1 ? place : null;
  if (place !== null) selected = place;
  arrange();
}

function setInvited(on) {
  invited = on;
  arrange();
}

function arrange() {
  grid.dataset.count = tiles.size;
  if (alone === null) delete grid.dataset.alone;
  else grid.dataset.alone = alone;
  for (const [place, tile] of tiles) {
    tile.root.hidden = alone !== null && alone !== place;
    tile.setAlone(alone === place, tiles.size > 1);
  }
  // A tile without a picture yet has nothing to show that the card does not say.
  const shown = [...tiles.values()].some((tile) => tile.hasPicture || tile.isInTrouble);
  body.dataset.picture = shown ? "shown" : "none";
  body.dataset.lobby = shown && !invited ? "off" : "on";
  element("back").hidden = !shown;
  describe();
}

// ---- Media messages: kind, flags, place, timestamp, composition offset, payload ----

const HEADER = 12;

function media(buffer) {
  if (buffer.byteLength <= HEADER) return;
  const view = new DataView(buffer);
  tileAt(view.getUint16(2)).media({
    kind: view.getUint8(0),
    key: (view.getUint8(1) & 1) === 1,
    timestamp: view.getUint32(4),
    offset: view.getInt32(8),
    data: new Uint8Array(buffer, HEADER),
  });
}

// ---- Text messages ----

let run = null;
let fresh = true; // Nothing was heard on this connection.
let status = { phase: "waiting", message: "", steps: [], casts: [] };

function control(message) {
  switch (message.type) {
    case "status":
      // The program was started anew: its page may be another.
      if (run !== null && run !== message.run) return location.reload();
      run = message.run;
      status = message;
      for (const cast of status.casts) tileAt(cast.place).describe(cast, status.foreign_video.includes(cast.place));
      // What went while nothing was heard.
      for (const place of fresh ? [...tiles.keys()] : []) {
        if (!status.casts.some((cast) => cast.place === place)) removeTile(place);
      }
      fresh = false;
      describe();
      break;
    case "start":
      tileAt(message.cast).start();
      break;
    case "end":
      tiles.get(message.cast)?.end();
      break;
    case "gone":
      removeTile(message.cast);
      break;
    case "catch-up":
      tiles.get(message.cast)?.catchUp(message.packets);
      break;
    case "left-out":
      tiles.get(message.cast)?.leftOut(message.pictures);
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

function describe() {
  const { phase, message, ticket, code } = status;
  body.dataset.phase = phase;
  const [headline, fallback] = HEADLINES[phase] ?? HEADLINES.waiting;
  const over = phase === "lost" || phase === "ended";
  const inviting = phase === "live" && invited;
  element("headline").textContent = inviting ? "One more cast" : headline;
  element("message").textContent =
    phase === "live"
      ? inviting ? "Who uses this ticket gets a tile beside the casts that are here." : fallback
      : over && message ? `${sentence(message)} ${fallback}` : sentence(message) || fallback;
  const count = tiles.size > 1 ? ` (${tiles.size})` : "";
  document.title = phase === "live" ? `Live${count} – Punchcast` : `${headline} – Punchcast`;
  const steps = status.steps.map(({ state, text }) => {
    const item = document.createElement("li");
    item.dataset.state = state;
    item.textContent = capital(text);
    return item;
  });
  element("steps").replaceChildren(...steps);
  element("spoken").hidden = !code;
  element("or-code").hidden = !code;
  element("code").textContent = code ?? "";
  if (ticket && element("ticket").textContent !== ticket) {
    element("ticket").textContent = ticket;
    element("ticket").href = ticket;
    // What a shell could take for its own stands in quotes.
    const word = /^[\w@%+=:,./#-]+$/.test(ticket) ? ticket : `'${ticket}'`;
    element("command").textContent = `punchcast cast ${word}`;
  }
}

if (!CanvasPicture.isSupported() && !MsePicture.isSupported()) {
  element("trouble").textContent = Tile.otherWays("This browser has neither WebCodecs nor Media Source Extensions here.");
  element("trouble").hidden = false;
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
    fresh = true;
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
    for (const tile of tiles.values()) tile.end();
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
  for (const tile of tiles.values()) tile.tick();
}, 1000);

// ---- Hands ----

let idle = 0;
function wake() {
  delete body.dataset.idle;
  clearTimeout(idle);
  idle = setTimeout(() => {
    if (!document.activeElement?.matches(".hud :focus-visible")) body.dataset.idle = "";
  }, 3000);
}
for (const kind of ["pointermove", "pointerdown", "keydown"]) addEventListener(kind, wake, { passive: true });

function toggleFull() {
  if (document.fullscreenElement) document.exitFullscreen();
  else document.documentElement.requestFullscreen?.().catch(() => {});
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

const keys = {
  f: toggleFull,
  m: () => current()?.toggleSound(),
  s: () => current()?.toggleStats(),
  t: () => setInvited(!invited),
  ArrowUp: () => current()?.changeVolume(0.05),
  ArrowDown: () => current()?.changeVolume(-0.05),
  Escape: () => (invited ? setInvited(false) : setAlone(null)),
};

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  // A slider has arrows of its own.
  if (event.target.matches?.("input") && event.key.startsWith("Arrow")) return;
  if (/^[1-9]$/.test(event.key)) setAlone(Number(event.key) - 1);
  else if (!keys[event.key]) return;
  else keys[event.key]();
  if (event.key.startsWith("Arrow")) event.preventDefault();
});

grid.addEventListener("dblclick", toggleFull);
element("back").onclick = () => setInvited(false);
for (const button of document.querySelectorAll("[data-copy]")) button.onclick = () => copy(button);
element("qr").onerror = () => (element("qr").hidden = true);

arrange();
connect();
