// The page: asks the browser for a screen, hands it to the sender, shows what is sent and what the caster is doing.

const element = (id) => document.getElementById(id);
const body = document.body;

// The link's token is in a cookie from here on. The address bar is a part of the screen that is about to be shown.
history.replaceState(null, "", location.pathname);

const sender = new Worker("/sender.js", { type: "module" });

// Read by tests, and by whoever opens the console.
const punchcast = { sharing: false, numbers: null, status: null, encoding: null };
window.punchcast = punchcast;

let streams = []; // All that was asked of the browser, to be given back.
let mixer = null;
let taken = false;
let asking = false; // The browser's dialogue is open.
let serial = 0; // Of what is shared: numbers may be late.

const supported =
  typeof VideoEncoder === "function" && typeof navigator.mediaDevices?.getDisplayMedia === "function";
const framesAreStreamed = typeof MediaStreamTrackProcessor === "function";

// ---- To share ----

async function start() {
  trouble("");
  taken = false;
  asking = true;
  describe();
  const { fps, width, height } = punchcast.encoding;
  try {
    const screen = await navigator.mediaDevices.getDisplayMedia({
      video: { frameRate: { ideal: fps, max: fps }, width: { max: width }, height: { max: height } },
      audio: element("sound").checked ? { suppressLocalAudioPlayback: false } : false,
      systemAudio: "include",
      selfBrowserSurface: "exclude",
      surfaceSwitching: "include",
    });
    streams.push(screen);
    const [picture] = screen.getVideoTracks();
    picture.onended = stop;
    const voice = await microphone();
    // While a dialogue is open the screen may be taken away, and the cast may end.
    if (picture.readyState === "live" && !isOver()) await send(screen, voice);
    else giveBack();
  } catch (error) {
    giveBack();
    // "Not allowed" is who changed their mind.
    if (error.name !== "NotAllowedError") trouble(`The browser gives no screen: ${error.message}`);
  }
  asking = false;
  describe();
}

async function microphone() {
  if (!element("microphone").checked || isOver()) return null;
  try {
    const stream = await navigator.mediaDevices.getUserMedia({ audio: { echoCancellation: true } });
    streams.push(stream);
    return stream.getAudioTracks()[0] ?? null;
  } catch (error) {
    trouble(`Without the microphone: ${error.message}`);
    return null;
  }
}

async function send(screen, voice) {
  const [picture] = screen.getVideoTracks();
  const [desktop] = screen.getAudioTracks().filter((track) => track.readyState === "live");
  picture.contentHint = "detail";
  const heard = sound(desktop, voice);
  element("heard").textContent = heard ? [desktop && "desktop", voice && "microphone"].filter(Boolean).join(", ") : "none";
  const preview = element("preview");
  preview.srcObject = new MediaStream([picture]);
  serial += 1;
  sender.postMessage({ type: "share", serial, streamed: framesAreStreamed });
  punchcast.sharing = true;
  body.dataset.sharing = "yes";
  if (framesAreStreamed) {
    pump("frame", picture, serial);
    if (heard) pump("sound", heard, serial);
  } else if (heard) {
    element("heard").textContent = "none";
    trouble("This browser gives a page no sound to encode; the picture goes alone.");
  }
  // Frames are taken from it where they are not streamed.
  await preview.play().catch(() => {});
}

// Hands on what a track has to give. The stream itself could be given to the sender, but Chromium then loses it at
// times; and reading is not slowed down when the page is hidden, as timers are.
async function pump(type, track, own) {
  const reader = new MediaStreamTrackProcessor({ track }).readable.getReader();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    if (!punchcast.sharing || serial !== own) {
      value.close();
      return void reader.cancel();
    }
    sender.postMessage({ type, data: value }, [value]);
  }
}

// One track of both.
function sound(desktop, voice) {
  if (!desktop || !voice) return desktop ?? voice;
  mixer = new AudioContext({ latencyHint: "interactive", sampleRate: 48_000 });
  const both = mixer.createMediaStreamDestination();
  for (const track of [desktop, voice]) {
    mixer.createMediaStreamSource(new MediaStream([track])).connect(both);
  }
  return both.stream.getAudioTracks()[0];
}

// What is about to be shared is given back, too.
function stop() {
  if (punchcast.sharing) sender.postMessage({ type: "stop" });
  giveBack();
  describe();
}

function giveBack() {
  for (const stream of streams) for (const track of stream.getTracks()) track.stop();
  streams = [];
  mixer?.close();
  mixer = null;
  element("preview").srcObject = null;
  punchcast.sharing = false;
  punchcast.numbers = null;
  body.dataset.sharing = "no";
}

function grab() {
  const preview = element("preview");
  if (!punchcast.sharing || preview.readyState < HTMLMediaElement.HAVE_CURRENT_DATA) return;
  const frame = new VideoFrame(preview, { timestamp: Math.round(performance.now() * 1000) });
  sender.postMessage({ type: "frame", data: frame }, [frame]);
}

// ---- What the sender says ----

sender.onmessage = ({ data }) => {
  switch (data.type) {
    case "encoding":
      punchcast.encoding = data;
      body.dataset.socket = "up";
      break;
    case "silence":
      body.dataset.socket = "lost";
      break;
    case "status":
      punchcast.status = data;
      if (data.over) stop();
      break;
    case "numbers":
      if (!punchcast.sharing || data.serial !== serial) return;
      punchcast.numbers = data;
      return showNumbers(data);
    case "grab":
      return grab();
    case "taken":
      taken = true;
      giveBack();
      break;
    case "failed":
      giveBack();
      trouble(data.reason);
      break;
    case "silent":
      element("heard").textContent = `none (${data.reason})`;
      break;
  }
  describe();
};

sender.onerror = (event) => trouble(`The page's own sender failed: ${event.message ?? "it cannot be loaded"}`);

// ---- What there is to see ----

function showNumbers({ width, height, fps, bitrate, latencyP50 }) {
  element("size").textContent = width ? `${width} × ${height}` : "–";
  element("fps").textContent = `${fps.toFixed(0)} fps`;
  element("bitrate").textContent =
    bitrate < 1e6 ? `${(bitrate / 1e3).toFixed(0)} kbit/s` : `${(bitrate / 1e6).toFixed(1)} Mbit/s`;
  element("latency").textContent = latencyP50 === null ? "–" : `${latencyP50.toFixed(1)} ms`;
}

const PHASES = {
  waiting: "Waiting for the viewer",
  connecting: "Making the link",
  live: "Linked",
  lost: "The link was lost",
  ended: "Over",
};

const RUNGS = {
  lan: "same network",
  reverse: "direct, dialled back",
  public: "direct",
  "port-mapped": "direct, port mapped",
  punched: "direct, hole punched",
  predicted: "direct, port predicted",
  relayed: "through the relay",
};

function describe() {
  const { sharing, status } = punchcast;
  const viewers = status?.viewers ?? [];
  const live = viewers.some(({ phase }) => phase === "live");
  const lost = body.dataset.socket === "lost";
  // What may be shared is for the program to say.
  element("share").disabled = asking || punchcast.encoding === null;
  element("share").hidden = sharing || !supported || isOver();
  element("stop").hidden = !sharing;
  element("sending").hidden = !sharing;
  element("choices").hidden = element("share").hidden;
  const [headline, message] = words({ over: isOver(), lost, sharing, live });
  element("headline").textContent = headline;
  element("message").textContent = message;
  document.title = `${headline} – Punchcast`;
  element("viewers").replaceChildren(...viewers.map((viewer, at) => describeViewer(viewer, at, viewers.length)));
}

function words({ over, lost, sharing, live }) {
  if (over) return ["The cast is over", "This page can be closed."];
  if (lost) return ["No answer from punchcast cast", "It has ended, or is busy. Trying again…"];
  if (sharing && live) return ["Sharing", "The viewer sees what is below."];
  if (sharing) return ["Ready", "The picture goes out as soon as a viewer is linked."];
  if (taken) return ["Another page shares", "To share from here again, press the button."];
  return ["Share a screen", "Choose a screen, a window or a tab in the browser's own dialogue."];
}

function describeViewer(viewer, at, count) {
  const item = document.createElement("li");
  const name = document.createElement("b");
  item.dataset.phase = viewer.phase;
  const phase = PHASES[viewer.phase] ?? viewer.phase;
  name.textContent = count > 1 ? `Viewer ${at + 1}: ${phase}` : phase;
  const facts = [];
  if (viewer.phase === "live") {
    facts.push(RUNGS[viewer.rung] ?? viewer.rung, viewer.remote);
    if (viewer.rtt_ms !== null) facts.push(`round trip ${viewer.rtt_ms} ms`);
    if (viewer.dropped) facts.push(`${viewer.dropped} pictures left out`);
  } else if (viewer.words) facts.push(viewer.words);
  item.append(name, facts.length ? ` – ${facts.join(", ")}` : "");
  return item;
}

function isOver() {
  return punchcast.status?.over === true;
}

function trouble(text) {
  element("trouble").textContent = text;
  element("trouble").hidden = !text;
}

element("share").onclick = start;
element("stop").onclick = stop;
if (!supported) {
  trouble(
    "This browser cannot share a screen from a page: it needs getDisplayMedia and WebCodecs, which Chromium, Edge, " +
      "Firefox and Safari have on desktops.\nOr use OBS or ffmpeg with punchcast cast --source rtmp.",
  );
}
describe();
