// One cast: its picture, its sound, what is said of it, and the hands on it.

import { CanvasPicture } from "./picture.js";
import { MsePicture } from "./mse.js";
import { MseSound } from "./msesound.js";
import { Plot } from "./plot.js";
import { Sound } from "./sound.js";
import { Step } from "./step.js";
import { aac, opus } from "./codec.js";

const [VIDEO_CONFIG, VIDEO_FRAME, AUDIO_CONFIG, AUDIO_FRAME, OPUS_CONFIG, OPUS_FRAME] = [1, 2, 3, 4, 5, 6];

// Keyframes asked for no more often than this, milliseconds: each one costs as much as many pictures.
const ASK_EVERY = 500;

const RUNGS = {
  lan: "Same network",
  reverse: "Direct, dialled back",
  public: "Direct",
  "port-mapped": "Direct, port mapped",
  punched: "Direct, hole punched",
  predicted: "Direct, port predicted",
  relayed: "Through the relay",
};

const HEADLINES = { lost: "The link was lost", ended: "The cast is over", live: "Linked" };

// What the program says in passing, as a sentence.
export function sentence(text) {
  return text === "" ? "" : capital(/[.!?]$/.test(text) ? text : `${text}.`);
}

export function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

export class Tile {
  frames = 0;
  width = 0;
  height = 0;
  lastTimestamp = 0;
  skipped = 0; // Pictures that the decoder here had to leave out.
  hasPicture = false;
  isInTrouble = false;
  #actions;
  #picture = null;
  #sound = null;
  #soundOn = false;
  #volume = 0.8;
  #step = new Step();
  #config = null; // Of the stream's picture.
  #format = null; // Of its sound; see codec.js.
  #clock = { last: null, high: 0 };
  #catchUp = 0; // How many of the next media messages only bring the decoder up to the present.
  #asked = -Infinity;
  #status = { phase: "live", message: "" };
  #since = performance.now();
  #delays = []; // Milliseconds from the socket to the screen, of this second.
  #leftOut = 0;
  #before = { frames: 0, drops: 0 };
  #plot;

  constructor(place, template, actions) {
    this.place = place;
    this.#actions = actions;
    this.root = template.querySelector(".tile").cloneNode(true);
    this.root.dataset.place = place;
    this.#part(".name").textContent = `Cast ${place + 1}`;
    this.#plot = new Plot(this.#part(".plot"));
    const buttons = {
      mute: () => this.toggleSound(),
      stats: () => this.toggleStats(),
      invite: () => actions.invite(),
      alone: () => actions.alone(place),
      full: () => actions.full(),
    };
    for (const button of this.root.querySelectorAll("[data-do]")) button.onclick = buttons[button.dataset.do];
    // Phones that show nothing but their own player so.
    this.#part("[data-do=full]").hidden = !document.fullscreenEnabled;
    this.#part("input").oninput = ({ target }) => this.#setVolume(target.value / 100);
    this.#part(".hud").addEventListener("dblclick", (event) => event.stopPropagation());
    this.#choosePicture();
    this.#useSound(Sound.isSupported() ? Sound : MseSound);
    this.#describe();
  }

  get decoder() {
    return this.#picture?.name ?? "none";
  }

  get samples() {
    return this.#plot.length;
  }

  get volume() {
    return this.#soundOn ? this.#volume : 0;
  }

  get sound() {
    return this.#sound;
  }

  close() {
    this.#picture?.reset();
    this.#sound.close();
    this.root.remove();
  }

  // ---- The stream ----

  start() {
    this.#clock = { last: null, high: 0 };
    this.#catchUp = 0;
    this.#config = null;
    this.#trouble("");
    if (!this.#picture) this.#choosePicture();
    this.#picture?.reset();
    this.#endSound();
  }

  end() {
    this.#catchUp = 0;
    this.#endSound();
  }

  #endSound() {
    this.#format = null;
    this.#sound.reset();
    this.#step.reset();
  }

  catchUp(packets) {
    this.#catchUp = packets;
    this.#picture?.catchUp(packets > 0);
  }

  leftOut(pictures) {
    this.#leftOut = pictures;
  }

  media({ kind, key, timestamp: raw, offset, data }) {
    const timestamp = this.#unwrap(raw);
    switch (kind) {
      case VIDEO_CONFIG:
        // It may be the first that can be shown.
        if (!this.#picture) this.#choosePicture();
        if (this.#picture) this.#trouble("");
        this.#config = data;
        this.#picture?.configure(data);
        break;
      case VIDEO_FRAME:
        this.#picture?.frame({ key, timestamp, offset, data, arrived: performance.now() });
        break;
      case AUDIO_CONFIG:
        this.#configureSound(aac(data));
        break;
      case OPUS_CONFIG:
        this.#configureSound(opus(data));
        break;
      case OPUS_FRAME:
        // Its header may be left out.
        if (this.#format?.codec !== "opus") this.#configureSound(opus(null));
        this.#hear(timestamp, data);
        break;
      case AUDIO_FRAME:
        this.#hear(timestamp, data);
        break;
    }
    this.#catchUp = Math.max(this.#catchUp - 1, 0);
    this.#picture?.catchUp(this.#catchUp > 0);
  }

  // Timestamps come modulo 2^32 (49.7 days).
  #unwrap(timestamp) {
    const clock = this.#clock;
    if (clock.last !== null) {
      if (timestamp < clock.last - 2 ** 31) clock.high += 2 ** 32;
      else if (timestamp > clock.last + 2 ** 31) clock.high -= 2 ** 32;
    }
    clock.last = timestamp;
    return clock.high + timestamp;
  }

  // ---- The picture ----

  #events = {
    shown: (width, height, timestamp, delay) => {
      this.frames += 1;
      this.lastTimestamp = timestamp;
      if (Number.isFinite(delay)) {
        this.#delays.push(delay);
        this.#step.seen(timestamp);
      }
      if (width !== this.width || height !== this.height) {
        this.width = width;
        this.height = height;
        this.#number("size", `${width} × ${height}`);
      }
      if (!this.hasPicture) {
        this.hasPicture = true;
        this.#describe();
        this.#actions.shown();
      }
    },
    // The decoder fell behind or failed: pictures are left out until a key frame.
    starved: () => {
      this.skipped += 1;
      this.#wantKeyframe();
    },
    failed: (reason) => {
      if (this.#picture instanceof CanvasPicture && MsePicture.isSupported()) {
        this.#usePicture(new MsePicture(this.#part("video"), this.#events));
        // The stream does not repeat its configuration.
        if (this.#config) this.#picture.configure(this.#config);
      } else this.#cannotShow(reason);
      this.#wantKeyframe();
    },
  };

  #choosePicture() {
    if (CanvasPicture.isSupported()) this.#usePicture(new CanvasPicture(this.#part("canvas.picture"), this.#events));
    else if (MsePicture.isSupported()) this.#usePicture(new MsePicture(this.#part("video"), this.#events));
    else this.#cannotShow("This browser has neither WebCodecs nor Media Source Extensions here.");
  }

  #usePicture(next) {
    this.#picture?.reset();
    this.#picture = next;
    this.#part("canvas.picture").hidden = !(next instanceof CanvasPicture);
    this.#part("video").hidden = !(next instanceof MsePicture);
  }

  #wantKeyframe() {
    const now = performance.now();
    if (now - this.#asked < ASK_EVERY) return;
    this.#asked = now;
    this.#actions.keyframe(this.place);
  }

  #cannotShow(reason) {
    this.#usePicture(null);
    this.#trouble(Tile.otherWays(reason));
  }

  #trouble(text) {
    if ((this.root.dataset.trouble ?? "") === text) return;
    this.isInTrouble = Boolean(text);
    this.#describe(text);
    this.#actions.shown();
  }

  static otherWays(reason) {
    const port = location.port || "80";
    const insecure = window.isSecureContext
      ? ""
      : `\nBrowsers keep WebCodecs for secure pages. With punchcast view --page ${port}, without an address, this one is at ` +
        `http://127.0.0.1:${port}/ on the viewer's own machine, and through ssh -L ${port}:127.0.0.1:${port} on others.`;
    return (
      `${reason}${insecure}\nAnother program can show it: punchcast view --rtmp 127.0.0.1:1935 serves players, ` +
      `punchcast view --record cast.flv writes a file.`
    );
  }

  // ---- Sound ----

  #useSound(Way) {
    this.#sound?.close();
    this.#sound = new Way(this.#step, (why) => this.#soundFailed(why));
    this.#sound.setVolume(this.#volume);
    if (this.#soundOn) this.#sound.turn(true);
  }

  #configureSound(format) {
    this.#format = format;
    if (this.#sound instanceof Sound || MseSound.takes(format)) {
      this.#sound.configure(format);
      this.#tellSound("");
    } else this.#soundFailed(`this browser plays no ${format.name} here`);
  }

  #soundFailed(why) {
    if (this.#sound instanceof Sound && this.#format && MseSound.takes(this.#format)) {
      this.#useSound(MseSound);
      this.#sound.configure(this.#format);
    } else this.#tellSound(`No sound: ${why}`);
  }

  // The buttons of the sound, or why there are none.
  #tellSound(why) {
    this.#part(".silent").textContent = why;
    this.#part(".sound").hidden = why !== "";
  }

  #hear(timestamp, data) {
    // What is past is not worth hearing.
    if (this.#catchUp === 0) this.#sound.frame(timestamp, data);
  }

  #hasSound() {
    return !this.#part(".sound").hidden;
  }

  async toggleSound() {
    if (!this.#hasSound()) return;
    this.#soundOn = !this.#soundOn;
    const button = this.#part("[data-do=mute]");
    button.textContent = this.#soundOn ? "Sound on" : "Sound off";
    button.setAttribute("aria-pressed", String(this.#soundOn));
    await this.#sound.turn(this.#soundOn);
  }

  changeVolume(step) {
    if (!this.#hasSound()) return;
    this.#setVolume(Math.min(Math.max(this.#volume + step, 0), 1));
    this.#part("input").value = Math.round(this.#volume * 100);
    if (step > 0 && !this.#soundOn) this.toggleSound();
  }

  #setVolume(volume) {
    this.#volume = volume;
    this.#sound.setVolume(volume);
  }

  // ---- Words and numbers ----

  describe(status, foreign) {
    if (status.phase !== this.#status.phase) this.#since = performance.now();
    this.#status = status;
    if (foreign) this.#cannotShow("The caster's picture is not H.264, which is all that this page shows.");
    this.#describe();
  }

  #describe(trouble = null) {
    const { phase, message, rung, plain, why, local, remote, rtt_ms: rtt } = this.#status;
    this.root.dataset.phase = phase;
    this.root.dataset.picture = this.hasPicture ? "shown" : "none";
    if (trouble !== null) this.root.dataset.trouble = trouble;
    this.#part(".rung").textContent = rung ? RUNGS[rung] ?? rung : "";
    this.#part(".plain").hidden = !plain;
    this.#part(".path").textContent = local && remote ? `${remote} → ${local}` : "";
    this.#part(".why").textContent = why ? `because ${why}` : "";
    this.#number("rtt", Number.isFinite(rtt) ? `${rtt.toFixed(1)} ms` : "–");
    const words = this.isInTrouble ? this.root.dataset.trouble : phase === "live" ? "Waiting for the first picture." : sentence(message);
    this.#part(".veil").hidden = !this.isInTrouble && phase === "live" && this.hasPicture;
    this.#part(".headline").textContent = this.isInTrouble ? "No picture here" : HEADLINES[phase] ?? "";
    this.#part(".message").textContent = words;
    this.#tellTime();
  }

  #tellTime() {
    const away = Math.round((performance.now() - this.#since) / 1000);
    if (this.#status.phase !== "lost") return;
    this.#part(".headline").textContent = `${HEADLINES.lost} ${away < 1 ? "just now" : `${away} s ago`}`;
  }

  // Once a second.
  tick() {
    const { age_ms_p50: p50, age_ms_p99: p99, bits, phase } = this.#status;
    this.#delays.sort((a, b) => a - b);
    const own = (share) => this.#delays[Math.floor((this.#delays.length - 1) * share)];
    const known = this.#delays.length > 0;
    // What the viewer measured until the picture came, and what this page added to it.
    const age = known ? { p50: (p50 ?? 0) + own(0.5), p99: (p99 ?? 0) + own(0.99) } : null;
    const drops = this.#leftOut + this.skipped;
    const live = phase === "live";
    this.#plot.push({ age, bits: live ? bits ?? 0 : 0, drops: Math.max(drops - this.#before.drops, 0) });
    const about = Number.isFinite(p50) ? "" : " here";
    this.#number("age", age ? `${age.p50.toFixed(0)} ms${about}, ≤ ${age.p99.toFixed(0)}` : "–");
    this.#number("bits", live && Number.isFinite(bits) ? `${(bits / 1e6).toFixed(2)} Mbit/s` : "–");
    this.#number("drops", drops.toLocaleString());
    this.#number("rate", `${this.frames - this.#before.frames} fps`);
    this.#before = { frames: this.frames, drops };
    this.#delays = [];
    this.#tellTime();
  }

  // ---- Hands ----

  toggleStats() {
    const pinned = this.root.toggleAttribute("data-stats");
    this.#part("[data-do=stats]").setAttribute("aria-pressed", String(pinned));
  }

  setAlone(alone, several) {
    const button = this.#part("[data-do=alone]");
    button.hidden = !several;
    button.textContent = alone ? "All" : "Alone";
    this.#part(".name").hidden = !several;
  }

  #part(selector) {
    return this.root.querySelector(selector);
  }

  #number(name, text) {
    this.#part(`[data-is=${name}]`).textContent = text;
  }
}
