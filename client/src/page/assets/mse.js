// The live picture by Media Source Extensions, for pages that may not use WebCodecs: each frame becomes an fMP4
// fragment of its own, and playback chases the newest.

import { pictureCodec, sameBytes } from "./codec.js";
import { Feed } from "./feed.js";
import { pictureTrack } from "./fmp4.js";

const MAX_LAG = 0.25; // Seconds behind the newest frame before playback jumps to it.
const LEAD = 0.05; // Seconds behind the newest frame after a jump.
const MAX_QUEUE = 120; // Fragments that wait for the buffer before they are given up.
const MAX_ARRIVALS = 64;

export class MsePicture {
  name = "mse";
  #video;
  #events;
  #feed = null;
  #config = null;
  #awaitsKey = true;
  #base = null;
  #seen = 0;
  #arrivals = new Map(); // When pictures that were not shown yet came, by timestamp.

  static isSupported() {
    return typeof MediaSource === "function" && MediaSource.isTypeSupported('video/mp4; codecs="avc1.42E01F"');
  }

  constructor(video, events) {
    this.#video = video;
    this.#events = events;
    video.addEventListener("timeupdate", () => this.#report(video.currentTime));
    video.requestVideoFrameCallback?.((now, frame) => this.#onFrame(frame));
  }

  configure(config) {
    if (sameBytes(config, this.#config)) return;
    this.#config = config.slice();
    this.#open();
  }

  // Every frame goes to the buffer either way: playback jumps over what is past.
  catchUp() {}

  frame({ key, timestamp, offset, data, arrived }) {
    if (!this.#feed) return;
    if (this.#awaitsKey && !key) return this.#events.starved();
    if (this.#feed.waiting > MAX_QUEUE) {
      this.#feed.forget();
      this.#awaitsKey = true;
      return this.#events.starved();
    }
    this.#awaitsKey = false;
    this.#base ??= timestamp;
    if (this.#arrivals.size === MAX_ARRIVALS) this.#arrivals.delete(this.#arrivals.keys().next().value);
    this.#arrivals.set(timestamp + offset, arrived);
    this.#feed.push(timestamp - this.#base, offset, key, data, 33);
  }

  reset() {
    this.#close();
    this.#config = null;
  }

  #open() {
    this.#close();
    const codec = pictureCodec(this.#config);
    const type = `video/mp4; codecs="${codec}"`;
    if (!MediaSource.isTypeSupported(type)) return this.#events.failed(`The browser cannot decode ${codec}.`);
    this.#feed = new Feed(this.#video, type, pictureTrack(this.#config), {
      follow: () => this.#chase(),
      failed: (error) => this.#events.failed(`The browser does not take this picture: ${error.message}.`),
    });
    this.#video.play().catch(() => {});
  }

  #close() {
    this.#feed?.close();
    this.#feed = null;
    this.#awaitsKey = true;
    this.#base = null;
    this.#arrivals.clear();
  }

  #chase() {
    const video = this.#video;
    const { start, end } = this.#feed.range;
    if (end - video.currentTime > MAX_LAG || video.currentTime > end + MAX_LAG) {
      video.currentTime = Math.max(start, end - LEAD);
    }
    if (video.paused) video.play().catch(() => {});
  }

  #onFrame({ mediaTime, expectedDisplayTime }) {
    const time = Math.round(mediaTime * 1000) + (this.#base ?? 0);
    const arrived = this.#arrivals.get(time);
    for (const key of this.#arrivals.keys()) if (key <= time) this.#arrivals.delete(key);
    this.#report(mediaTime, expectedDisplayTime - arrived);
    this.#video.requestVideoFrameCallback((now, frame) => this.#onFrame(frame));
  }

  #report(mediaTime, delay) {
    const shown = this.#video.getVideoPlaybackQuality?.().totalVideoFrames ?? this.#seen + 1;
    if (this.#video.videoWidth === 0 || shown === this.#seen) return;
    this.#seen = shown;
    const time = Math.round(mediaTime * 1000) + (this.#base ?? 0);
    this.#events.shown(this.#video.videoWidth, this.#video.videoHeight, time, delay);
  }
}
