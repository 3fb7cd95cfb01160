// Sound by Media Source Extensions, for pages that may not use WebCodecs. It has an element of its own beside the
// picture's, which so waits for no sound, and is set anew where the two come apart.

import { sameSound } from "./codec.js";
import { Feed } from "./feed.js";
import { soundTrack } from "./fmp4.js";

const MAX_OFF = 0.12; // Seconds off the picture; see sound.js.
const MAX_LAG = 0.5; // Seconds behind the newest sound, where no picture says when it is due.
const LEAD = 0.08; // Seconds left in the buffer after a jump.
const JUMP_EVERY = 1000; // Milliseconds: a jump is heard, and takes a moment.
const MAX_QUEUE = 120; // Fragments that wait for the buffer before they are given up.

export class MseSound {
  name = "mse";
  late = null; // Seconds behind the picture.
  #audio = document.createElement("audio");
  #step;
  #failed;
  #format = null;
  #feed = null;
  #base = null;
  #on = false;
  #jumped = -Infinity;

  static takes({ codec }) {
    return typeof MediaSource === "function" && MediaSource.isTypeSupported(`audio/mp4; codecs="${codec}"`);
  }

  constructor(step, failed) {
    this.#step = step;
    this.#failed = failed;
  }

  // Read by tests.
  get element() {
    return this.#audio;
  }

  configure(format) {
    if (sameSound(format, this.#format) && this.#feed) return;
    this.#close();
    this.#format = format;
  }

  async turn(on) {
    this.#on = on;
    if (!on) {
      // What is in the buffer is not to be heard, either.
      this.#audio.pause();
      return this.#close();
    }
    if (this.#format && !this.#feed) this.#open();
    // The gesture that turned it on lets it play from here on.
    this.#audio.play().catch(() => {});
  }

  setVolume(volume) {
    this.#audio.volume = volume;
  }

  frame(timestamp, data) {
    if (!this.#on || !this.#format) return;
    if (!this.#feed) this.#open();
    this.#base ??= timestamp;
    if (timestamp < this.#base || this.#feed.waiting > MAX_QUEUE) return;
    this.#feed.push(timestamp - this.#base, 0, true, data, Math.round(this.#format.packet));
  }

  reset() {
    this.#close();
    this.#format = null;
  }

  close() {
    this.reset();
    this.#audio.removeAttribute("src");
  }

  #open() {
    const { codec } = this.#format;
    this.#feed = new Feed(this.#audio, `audio/mp4; codecs="${codec}"`, soundTrack(this.#format), {
      follow: () => this.#follow(),
      failed: (error) => {
        this.reset();
        this.#failed(error.message);
      },
    });
    this.#audio.play().catch(() => {});
  }

  #close() {
    this.#feed?.close();
    this.#feed = null;
    this.#base = null;
    this.#jumped = -Infinity;
    this.late = null;
  }

  #follow() {
    const { start, end } = this.#feed.range;
    const now = performance.now();
    const at = this.#audio.currentTime;
    const { offset } = this.#step;
    const due = offset === null ? null : (now - offset - this.#base) / 1000;
    this.late = due === null ? null : due - at;
    const wanted = Math.max(start, Math.min(due ?? end, end - LEAD));
    const off = Math.abs(wanted - at) > (due === null ? MAX_LAG : MAX_OFF);
    if (off && now - this.#jumped > JUMP_EVERY) {
      this.#jumped = now;
      this.#audio.currentTime = wanted;
    }
    if (this.#audio.paused) this.#audio.play().catch(() => {});
  }
}
