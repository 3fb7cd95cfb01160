// The sender: takes frames and sound, encodes what can be sent, and keeps the WebSocket. It is a worker, as browsers
// slow down the scripts of a page that is hidden, and this page is hidden behind the window that it shares.

import { PICTURE, SOUND, SOUND_CONFIG, VIDEO_CONFIG, fit, opusHead, packet, videoConfig } from "./codec.js";

const KEYFRAME_EVERY = 2000; // Milliseconds, while the picture changes, and once when it has come to rest.
const MOST_ENCODING = 1; // Frames within the encoder. More would wait there, and be old when they come out.
const MOST_BUFFERED_SECONDS = 0.05; // Of the bitrate, between this script and the program.
const STILL_INTERVAL = 2000; // Milliseconds until a picture that stands still is shown again, as for the screen.
const OPENING = 45; // Pictures from a keyframe on that was asked for, changed or not: players show nothing before the 41st.
const EARLY = 0.3; // Of the time between two pictures.
const LOOK_AGAIN = 5; // Milliseconds until a full buffer is looked at again: nothing tells of its draining.
const SOUND_BITRATE = 96_000;
const SOUND_SLIP = 100_000; // Microseconds that the sound's clock may be off the pictures' before it is set anew.
const SOUND_HOLD = 1000; // Milliseconds of a hold that sound goes on for: what may wait of it at the caster.
const MOST_LATENCIES = 600;

// ---- What the program says ----

let socket = null;
let delay = 250;
let over = false;
let heldAt = -Infinity; // When the hold began.
let encoding = { hold: true, width: 1920, height: 1200, fps: 30, bitrate: 4_000_000 };

function connect() {
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  const own = new WebSocket(`${scheme}://${location.host}/ws`);
  own.binaryType = "arraybuffer";
  own.onopen = () => {
    socket = own;
    delay = 250;
    if (share) begin();
  };
  own.onmessage = ({ data }) => heard(JSON.parse(data));
  own.onclose = () => {
    if (socket === own) socket = null;
    if (over) return;
    postMessage({ type: "silence" });
    setTimeout(connect, delay * (0.75 + Math.random() / 2));
    delay = Math.min(delay * 2, 5000);
  };
}

function heard(message) {
  switch (message.type) {
    case "encoding":
      if (message.hold && !encoding.hold) heldAt = performance.now();
      encoding = message;
      // The first word of all: the program is there.
      postMessage(encoding);
      follow();
      turn();
      break;
    case "keyframe":
      wantKey = true;
      opening = OPENING;
      turn();
      break;
    case "taken":
      end();
      postMessage({ type: "taken" });
      break;
    case "status":
      over = message.over;
      postMessage(message);
      break;
  }
}

function send(message) {
  if (socket?.readyState !== WebSocket.OPEN) return false;
  socket.send(message);
  counts.bytes += message.byteLength;
  return true;
}

// ---- One share ----

let share = null; // Tells one share from the next.
let origin = 0; // When it began, on the clock of performance.now().
let frames = 0; // Captured.

// Media may follow on this socket: it is a stream of its own, whose decoders begin anew.
function begin() {
  socket?.send(JSON.stringify({ type: "start" }));
  closeVideo();
  closeSound();
  wantKey = true;
  opening = OPENING;
  turn();
}

function end() {
  if (!share) return;
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ type: "stop" }));
  share = null;
  closeVideo();
  closeSound();
  latest?.frame.close();
  latest = null;
}

onmessage = ({ data }) => {
  switch (data.type) {
    case "share":
      end();
      share = { serial: data.serial };
      origin = performance.now();
      frames = 0;
      failures = 0;
      Object.assign(counts, zero());
      before = { ...zero(), at: origin };
      begin();
      if (!data.streamed) grab(share);
      break;
    case "frame":
      if (share) takeFrame(data.data);
      else data.data.close();
      break;
    case "sound":
      if (share) takeSound(data.data);
      else data.data.close();
      break;
    case "stop":
      end();
      break;
  }
};

// Where a browser gives no stream of frames, the page takes one whenever it is asked to. The timer is here, as here it
// is not slowed down.
function grab(own) {
  if (share !== own) return;
  if (!encoding.hold) postMessage({ type: "grab" });
  setTimeout(grab, 1000 / encoding.fps, own);
}

// ---- Pictures ----

let latest = null; // The newest frame, when it was taken and whether it was encoded.
let encoder = null;
let config = null; // Of the encoder.
let choosing = false;
let wantKey = false;
let unkeyed = false; // The picture has changed since the last keyframe: who misses what was sent sees it only in the next.
let opening = 0; // How many of OPENING are still to come.
let lastKey = -Infinity;
let lastShown = -Infinity;
let nextDue = -Infinity; // When the next picture is due, at the frame rate.
let again = 0;
let failures = 0;
const under = new Map(); // Frames within the encoder, by timestamp.

function takeFrame(frame) {
  frames += 1;
  counts.captured += 1;
  if (latest) {
    if (!latest.encoded) counts.skipped += 1;
    latest.frame.close();
  }
  latest = { frame, number: frames, taken: performance.now(), encoded: false };
  turn();
}

// Encodes the newest frame if there is something to show and somebody takes it. Everything that could have changed that
// calls it: a frame, the program's word, the encoder's and the socket's draining.
function turn() {
  if (!share || !latest || encoding.hold) return;
  const still = lastShown + STILL_INTERVAL - performance.now();
  if (!wantKey && opening === 0 && latest.encoded && still > 0) return later(still);
  if (socket?.readyState !== WebSocket.OPEN) return;
  const { displayWidth, displayHeight } = latest.frame;
  const size = fit(displayWidth, displayHeight, encoding);
  if (!encoder || config.width !== size.width || config.height !== size.height) return void open(size);
  if (encoder.encodeQueueSize > MOST_ENCODING) return;
  if (socket.bufferedAmount > (encoding.bitrate / 8) * MOST_BUFFERED_SECONDS) return later(LOOK_AGAIN);
  const now = performance.now();
  // Captures come unevenly: a little early is in time, and makes the one after wait for longer.
  const every = 1000 / encoding.fps;
  const early = nextDue - every * EARLY;
  if (now < early) return later(early - now);
  nextDue = Math.max(nextDue, now) + every;
  encode(now);
}

function later(wait) {
  clearTimeout(again);
  again = setTimeout(turn, wait);
}

function encode(now) {
  unkeyed ||= !latest.encoded;
  const key = wantKey || (unkeyed && now - lastKey >= KEYFRAME_EVERY);
  // A frame that is shown again is of this moment: the screen still looks like it.
  const taken = latest.encoded ? now : latest.taken;
  const timestamp = Math.round(taken * 1000);
  const frame = new VideoFrame(latest.frame, { timestamp });
  under.set(timestamp, { number: latest.number, taken });
  try {
    encoder.encode(frame, { keyFrame: key });
  } catch (error) {
    return failed(error);
  } finally {
    frame.close();
  }
  latest.encoded = true;
  lastShown = now;
  opening = Math.max(0, opening - 1);
  if (key) {
    lastKey = now;
    wantKey = false;
    unkeyed = false;
  }
}

async function open(size) {
  if (choosing) return;
  choosing = true;
  const chosen = await videoConfig(size, encoding, failures === 0);
  choosing = false;
  if (!share) return;
  if (!chosen) {
    end();
    postMessage({ type: "failed", reason: "This browser cannot encode H.264." });
    return;
  }
  closeVideo();
  config = chosen;
  const own = new VideoEncoder({
    output: (chunk, metadata) => own === encoder && sendPicture(chunk, metadata),
    error: (error) => own === encoder && failed(error),
  });
  own.ondequeue = turn;
  encoder = own;
  own.configure(config);
  wantKey = true;
  turn();
}

// Another rate: encoders take it while they run.
function follow() {
  if (!encoder || encoder.state !== "configured") return;
  if (config.bitrate === encoding.bitrate && config.framerate === encoding.fps) return;
  config = { ...config, bitrate: encoding.bitrate, framerate: encoding.fps };
  encoder.configure(config);
}

function sendPicture(chunk, metadata) {
  const { number, taken } = under.get(chunk.timestamp) ?? { number: frames, taken: chunk.timestamp / 1000 };
  // Encoders give frames out in order, and may leave some out.
  for (const timestamp of under.keys()) if (timestamp <= chunk.timestamp) under.delete(timestamp);
  const time = Math.max(0, Math.round(chunk.timestamp / 1000 - origin));
  const description = metadata?.decoderConfig?.description;
  if (description) {
    const bytes = bytesOf(description);
    const { message, payload } = packet(VIDEO_CONFIG, { time }, 4 + bytes.length);
    new DataView(message).setUint16(message.byteLength - payload.length, config.width);
    new DataView(message).setUint16(message.byteLength - payload.length + 2, config.height);
    payload.set(bytes, 4);
    send(message);
  }
  const captured = Math.round((performance.timeOrigin + taken) * 1000);
  const key = chunk.type === "key";
  const age = performance.now() - taken;
  const { message, payload } = packet(PICTURE, { key, age, time, frame: number, captured }, chunk.byteLength);
  chunk.copyTo(payload);
  if (send(message)) counts.sent += 1;
  counts.latencies.push(age);
  if (counts.latencies.length > MOST_LATENCIES) counts.latencies.shift();
  turn();
}

function bytesOf(source) {
  return ArrayBuffer.isView(source)
    ? new Uint8Array(source.buffer, source.byteOffset, source.byteLength)
    : new Uint8Array(source);
}

function failed(error) {
  closeVideo();
  failures += 1;
  if (failures === 1) return turn(); // Once more, without hardware.
  end();
  postMessage({ type: "failed", reason: `The encoder failed: ${error.message}` });
}

function closeVideo() {
  if (encoder && encoder.state !== "closed") encoder.close();
  encoder = null;
  config = null;
  under.clear();
  lastKey = nextDue = -Infinity;
}

// ---- Sound ----

let soundEncoder = null;
let soundShape = "";
let slip = null; // What makes the pictures' clock of the sound's.

function takeSound(data) {
  // Gaps in it are heard, so a line that is full for a moment gets it all; for longer, it would only wait. An encoder that
  // missed some would date what follows too early.
  if (encoding.hold && performance.now() - heldAt > SOUND_HOLD) closeSound();
  if (encoding.hold && !soundEncoder) return data.close();
  const shape = `${data.sampleRate}/${data.numberOfChannels}`;
  try {
    if (!soundEncoder || shape !== soundShape) openSound(data, shape);
    const arrived = performance.now() * 1000 - data.duration;
    if (slip === null || Math.abs(arrived - data.timestamp - slip) > SOUND_SLIP) slip = arrived - data.timestamp;
    soundEncoder.encode(data);
  } catch (error) {
    closeSound();
    postMessage({ type: "silent", reason: error.message });
  }
  data.close();
}

function openSound(data, shape) {
  closeSound();
  const channels = Math.min(data.numberOfChannels, 2);
  const own = new AudioEncoder({
    output: (chunk, metadata) => own === soundEncoder && sendSound(chunk, metadata, channels),
    error: (error) => {
      if (own !== soundEncoder) return;
      closeSound();
      postMessage({ type: "silent", reason: error.message });
    },
  });
  own.configure({
    codec: "opus",
    sampleRate: data.sampleRate,
    numberOfChannels: channels,
    bitrate: SOUND_BITRATE,
    opus: { frameDuration: 20_000 },
  });
  soundEncoder = own;
  soundShape = shape;
}

function sendSound(chunk, metadata, channels) {
  const time = Math.max(0, Math.round((chunk.timestamp + slip) / 1000 - origin));
  const given = metadata?.decoderConfig;
  if (given) {
    const found = given.description && bytesOf(given.description);
    const head = found?.length === 19 ? found : opusHead(channels, given.sampleRate ?? 48_000);
    const { message, payload } = packet(SOUND_CONFIG, { time }, head.length);
    payload.set(head);
    send(message);
  }
  const { message, payload } = packet(SOUND, { time }, chunk.byteLength);
  chunk.copyTo(payload);
  if (send(message)) counts.sounds += 1;
}

function closeSound() {
  if (soundEncoder && soundEncoder.state !== "closed") soundEncoder.close();
  soundEncoder = null;
  slip = null;
}

// ---- Numbers ----

const zero = () => ({ captured: 0, sent: 0, skipped: 0, sounds: 0, bytes: 0, latencies: [] });
const counts = zero();
let before = { ...zero(), at: performance.now() };

setInterval(() => {
  if (!share) return;
  const now = performance.now();
  const span = (now - before.at) / 1000;
  const sorted = counts.latencies.toSorted((a, b) => a - b);
  const part = (share) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? null;
  postMessage({
    type: "numbers",
    serial: share.serial,
    width: config?.width ?? 0,
    height: config?.height ?? 0,
    codec: config?.codec ?? "",
    captured: counts.captured,
    sent: counts.sent,
    skipped: counts.skipped,
    sounds: counts.sounds,
    fps: Math.max(0, (counts.sent - before.sent) / span),
    bitrate: Math.max(0, ((counts.bytes - before.bytes) * 8) / span),
    latencyP50: part(0.5),
    latencyP99: part(0.99),
    buffered: socket?.bufferedAmount ?? 0,
  });
  before = { ...counts, at: now };
}, 500);

connect();
