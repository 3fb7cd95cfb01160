// The live picture by WebCodecs on a canvas: each frame is drawn the moment it is decoded.

import { pictureCodec, sameBytes } from "./codec.js";

// More chunks than this waiting in the decoder is delay: only the newest picture is drawn until it is gone. A machine
// that was busy for a moment is through with them at once.
const MAX_DECODE_QUEUE = 3;

// Delay that has not gone after so many milliseconds, or more chunks than half a second has, does not go by itself:
// what comes is left out up to the next key frame.
const MAX_LATE = 200;
const MOST_DECODE_QUEUE = 15;

// A group under way may take this long, milliseconds, once all of it is there. A decoder that is not through with it by
// then is too slow for this picture.
const MAX_CATCH_UP = 2000;

// The screen does not stand still for longer, milliseconds, while older pictures are passed over.
const MAX_STILL = 100;

// Pictures in the decoder whose arrival is remembered; more are not in it for long.
const MAX_ARRIVALS = 64;

// A decoder that fails this often without one picture between does not take the stream.
const MAX_FAILURES = 3;

export class CanvasPicture {
  name = "webcodecs";
  #canvas;
  #context;
  #events;
  #decoder = null;
  #config = null;
  #awaitsKey = true;
  #behind = false; // Decoding a past group: only its newest picture is worth drawing, and none may be skipped.
  #behindUntil = null;
  #newest = -Infinity;
  #drawn = -Infinity; // When the last picture was.
  #warm = false;
  #failures = 0;
  #lateSince = null; // When too many chunks began to wait.
  #arrivals = new Map(); // When pictures in the decoder came, by timestamp.

  static isSupported() {
    return typeof VideoDecoder === "function" && typeof EncodedVideoChunk === "function";
  }

  constructor(canvas, events) {
    this.#canvas = canvas;
    this.#context = canvas.getContext("2d", { alpha: false });
    this.#events = events;
  }

  configure(config) {
    if (sameBytes(config, this.#config) && this.#decoder?.state === "configured") return;
    this.#config = config.slice();
    this.#open();
  }

  catchUp(behind) {
    if (behind) {
      this.#behind = true;
      this.#behindUntil = null;
    } else if (this.#behind) {
      const now = performance.now();
      this.#behindUntil ??= now + MAX_CATCH_UP;
      const isThrough = (this.#decoder?.decodeQueueSize ?? 0) <= MAX_DECODE_QUEUE;
      if (isThrough || now > this.#behindUntil) this.#behind = false;
    }
  }

  frame({ key, timestamp, offset, data, arrived }) {
    if (!this.#config) return;
    if (this.#decoder?.state !== "configured") {
      if (!key) return this.#starve();
      this.#open();
    }
    const late = this.#warm && !this.#behind && this.#isLate(arrived);
    if (late && !key) return this.#starve();
    if (late && key) this.#open();
    if (this.#awaitsKey && !key) return this.#events.starved();
    this.#awaitsKey = false;
    const time = timestamp + offset;
    this.#newest = Math.max(this.#newest, time);
    if (this.#arrivals.size === MAX_ARRIVALS) this.#arrivals.delete(this.#arrivals.keys().next().value);
    this.#arrivals.set(time, arrived);
    try {
      this.#decoder.decode(new EncodedVideoChunk({ type: key ? "key" : "delta", timestamp: time * 1000, data }));
    } catch (error) {
      this.#fail(error);
    }
  }

  reset() {
    this.#close();
    this.#config = null;
    this.#behind = false;
  }

  // Whether the decoder is behind for good.
  #isLate(now) {
    const waiting = this.#decoder.decodeQueueSize;
    if (waiting <= MAX_DECODE_QUEUE) this.#lateSince = null;
    else this.#lateSince ??= now;
    return waiting > MOST_DECODE_QUEUE || (this.#lateSince !== null && now - this.#lateSince > MAX_LATE);
  }

  #starve() {
    this.#awaitsKey = true;
    this.#events.starved();
  }

  #open() {
    this.#close();
    const decoder = new VideoDecoder({
      output: (frame) => this.#draw(decoder, frame),
      error: (error) => this.#decoder === decoder && this.#fail(error),
    });
    this.#decoder = decoder;
    try {
      decoder.configure({ codec: pictureCodec(this.#config), description: this.#config, optimizeForLatency: true });
    } catch (error) {
      this.#fail(error);
    }
  }

  #close() {
    if (this.#decoder && this.#decoder.state !== "closed") this.#decoder.close();
    this.#decoder = null;
    this.#awaitsKey = true;
    this.#warm = false;
    this.#newest = -Infinity;
    this.#lateSince = null;
    this.#arrivals.clear();
  }

  #fail(error) {
    this.#close();
    this.#failures += 1;
    if (this.#failures >= MAX_FAILURES) this.#events.failed(`The browser cannot decode this picture: ${error.message}.`);
    else this.#events.starved();
  }

  #draw(decoder, frame) {
    const time = Math.round(frame.timestamp / 1000);
    const arrived = this.#arrivals.get(time);
    this.#arrivals.delete(time);
    const now = performance.now();
    const hurries = (this.#behind || this.#lateSince !== null) && now - this.#drawn < MAX_STILL;
    if (decoder !== this.#decoder || (hurries && this.#warm && time < this.#newest)) {
      frame.close();
      return;
    }
    this.#warm = true;
    this.#drawn = now;
    this.#failures = 0;
    const { displayWidth: width, displayHeight: height } = frame;
    if (this.#canvas.width !== width || this.#canvas.height !== height) {
      this.#canvas.width = width;
      this.#canvas.height = height;
    }
    this.#context.drawImage(frame, 0, 0, width, height);
    frame.close();
    this.#events.shown(width, height, time, this.#behind ? undefined : performance.now() - arrived);
  }
}
