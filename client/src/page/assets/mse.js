// The live picture by Media Source Extensions, for pages that may not use WebCodecs: each frame becomes an fMP4
// fragment of its own, and playback chases the newest. Sound is a second buffer, there only while it is on: a picture
// with sound that falls behind stands still until the sound is back.

import { codecOf, sameBytes } from "./picture.js";
import { concat, fragment, pictureTrack, soundRate, soundTrack } from "./fmp4.js";

const MAX_LAG = 0.25; // Seconds behind the newest frame before playback jumps to it.
const MAX_LAG_WITH_SOUND = 0.5; // A jump is heard.
const LEAD = 0.05; // Seconds behind the newest frame after a jump.
const KEEP = 4; // Seconds of past kept in the buffer.
const MAX_QUEUE = 120; // Fragments that wait for the buffer before they are given up.
const MAX_ARRIVALS = 64;

// What waits for one of the source's buffers.
class Lane {
  buffer = null;
  queue = [];
  #sequence = 0;
  #last = null;

  constructor(type, head) {
    this.type = type;
    this.queue.push(head);
  }

  push(time, offset, key, data, guess) {
    // The next sample's time is not known yet; the last interval is a good guess, and the next fragment says its own.
    const duration = this.#last === null ? guess : Math.min(Math.max(time - this.#last, 1), 1000);
    this.#last = time;
    this.#sequence += 1;
    this.queue.push(fragment(this.#sequence, time, duration, offset, key, data));
  }

  append() {
    if (this.buffer === null || this.buffer.updating || this.queue.length === 0) return;
    this.buffer.appendBuffer(this.queue.length === 1 ? this.queue[0] : concat(this.queue));
    this.queue = [];
  }
}

export class MsePicture {
  name = "mse";
  #video;
  #events;
  #source = null;
  #pictures = null;
  #sounds = null;
  #config = null;
  #soundConfig = null;
  #awaitsKey = true;
  #base = null;
  #last = null;
  #seen = 0;
  #arrivals = new Map(); // When pictures that were not shown yet came, by timestamp.

  static isSupported() {
    return typeof MediaSource === "function" && MediaSource.isTypeSupported('video/mp4; codecs="avc1.42E01F"');
  }

  static takesSound(config) {
    return typeof MediaSource === "function" && MediaSource.isTypeSupported(soundType(config));
  }

  constructor(video, events) {
    this.#video = video;
    this.#events = events;
    video.addEventListener("timeupdate", () => this.#report());
    video.requestVideoFrameCallback?.((now, frame) => this.#onFrame(frame));
  }

  configure(config) {
    if (sameBytes(config, this.#config)) return;
    this.#config = config.slice();
    this.#open();
  }

  // With sound of that AudioSpecificConfig, or without.
  setSound(config) {
    if (config === this.#soundConfig || (config && sameBytes(config, this.#soundConfig))) return;
    this.#soundConfig = config?.slice() ?? null;
    this.#video.muted = config === null;
    // A source takes no further buffer once it has data.
    if (this.#config) this.#open();
  }

  setVolume(volume) {
    this.#video.volume = volume;
  }

  // Every frame goes to the buffer either way: playback jumps over what is past.
  catchUp() {}

  frame({ key, timestamp, offset, data, arrived }) {
    if (!this.#config || !this.#pictures) return;
    if (this.#awaitsKey && !key) return this.#events.starved();
    if (this.#pictures.queue.length > MAX_QUEUE) {
      this.#pictures.queue.length = 0;
      this.#awaitsKey = true;
      return this.#events.starved();
    }
    this.#awaitsKey = false;
    this.#base ??= timestamp;
    this.#last = timestamp;
    if (this.#arrivals.size === MAX_ARRIVALS) this.#arrivals.delete(this.#arrivals.keys().next().value);
    this.#arrivals.set(timestamp + offset, arrived);
    this.#pictures.push(timestamp - this.#base, offset, key, data, 33);
    this.#append();
  }

  sound({ timestamp, data }) {
    if (!this.#sounds || this.#base === null || timestamp < this.#base) return;
    if (this.#sounds.queue.length > MAX_QUEUE) return;
    this.#sounds.push(timestamp - this.#base, 0, true, data, Math.round(1_024_000 / soundRate(this.#soundConfig)));
    this.#append();
  }

  reset() {
    this.#close();
    this.#config = null;
    this.#soundConfig = null;
  }

  #open() {
    this.#close();
    const type = `video/mp4; codecs="${codecOf(this.#config)}"`;
    if (!MediaSource.isTypeSupported(type)) return this.#events.failed(`The browser cannot decode ${codecOf(this.#config)}.`);
    this.#pictures = new Lane(type, pictureTrack(this.#config));
    if (this.#soundConfig) this.#sounds = new Lane(soundType(this.#soundConfig), soundTrack(this.#soundConfig));
    const source = new MediaSource();
    this.#source = source;
    source.addEventListener("sourceopen", () => {
      URL.revokeObjectURL(this.#video.src);
      if (this.#source !== source) return;
      for (const lane of this.#lanes()) {
        lane.buffer = source.addSourceBuffer(lane.type);
        lane.buffer.addEventListener("updateend", () => this.#source === source && this.#append());
      }
      this.#append();
    });
    this.#video.src = URL.createObjectURL(source);
    this.#video.play().catch(() => {});
  }

  #lanes() {
    return [this.#pictures, this.#sounds].filter((lane) => lane !== null);
  }

  #close() {
    if (this.#source?.readyState === "open") {
      try {
        this.#source.endOfStream();
      } catch {
        // The buffer is still at work; letting go of the source below ends it as well.
      }
    }
    this.#source = null;
    this.#pictures = null;
    this.#sounds = null;
    this.#awaitsKey = true;
    this.#base = null;
    this.#last = null;
    this.#arrivals.clear();
  }

  #append() {
    if (this.#source?.readyState !== "open" || !this.#pictures.buffer) return;
    try {
      this.#chase(this.#pictures.buffer);
      for (const lane of this.#lanes()) lane.append();
    } catch (error) {
      this.#events.failed(`The browser does not take this picture: ${error.message}.`);
    }
  }

  #chase(buffer) {
    if (buffer.buffered.length === 0) return;
    const video = this.#video;
    const end = buffer.buffered.end(buffer.buffered.length - 1);
    const newest = buffer.buffered.start(buffer.buffered.length - 1);
    const lag = this.#sounds ? MAX_LAG_WITH_SOUND : MAX_LAG;
    if (end - video.currentTime > lag || video.currentTime > end + lag) {
      video.currentTime = Math.max(newest, end - LEAD);
    }
    if (video.paused) {
      video.play().catch((error) => {
        // A page that was not touched yet may play no sound.
        if (error.name === "NotAllowedError") video.muted = true;
      });
    }
    for (const { buffer } of this.#lanes()) {
      if (buffer.updating || buffer.buffered.length === 0) continue;
      const start = buffer.buffered.start(0);
      if (video.currentTime - start > 2 * KEEP) buffer.remove(start, video.currentTime - KEEP);
    }
  }

  #onFrame({ mediaTime, expectedDisplayTime }) {
    const time = Math.round(mediaTime * 1000) + (this.#base ?? 0);
    const arrived = this.#arrivals.get(time);
    for (const key of this.#arrivals.keys()) if (key <= time) this.#arrivals.delete(key);
    this.#report(expectedDisplayTime - arrived);
    this.#video.requestVideoFrameCallback((now, frame) => this.#onFrame(frame));
  }

  #report(delay) {
    const shown = this.#video.getVideoPlaybackQuality?.().totalVideoFrames ?? this.#seen + 1;
    if (this.#video.videoWidth === 0 || shown === this.#seen) return;
    this.#seen = shown;
    this.#events.shown(this.#video.videoWidth, this.#video.videoHeight, this.#last ?? 0, delay);
  }
}

function soundType(config) {
  return `audio/mp4; codecs="mp4a.40.${config[0] >> 3}"`;
}
