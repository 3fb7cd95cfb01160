// One media element's way to Media Source Extensions: a source of one buffer, which gets a fragment for each sample.

import { concat, fragment } from "./fmp4.js";

const KEEP = 4; // Seconds of past kept in the buffer.
const MAX_DURATION = 1000; // Milliseconds that one sample is taken to last.

export class Feed {
  #element;
  #source = new MediaSource();
  #buffer = null;
  #queue;
  #begun = false; // The head is in the buffer.
  #sequence = 0;
  #last = null;
  #events;

  // `head` tells what the track is. `follow` is called before each append, `failed` when the element takes no more.
  constructor(element, type, head, { follow, failed }) {
    this.#element = element;
    this.#queue = [head];
    this.#events = { follow, failed };
    const source = this.#source;
    const url = URL.createObjectURL(source);
    source.addEventListener("sourceopen", () => {
      URL.revokeObjectURL(url);
      if (this.#source !== source) return;
      try {
        this.#buffer = source.addSourceBuffer(type);
      } catch (error) {
        return failed(error);
      }
      this.#buffer.addEventListener("updateend", () => this.#append());
      // What cannot be parsed ends the source: nothing is appended any more, and nothing thrown.
      this.#buffer.addEventListener("error", () => {
        if (this.#source === source) failed(new Error(element.error?.message || "it cannot be read"));
      });
      this.#append();
    });
    element.src = url;
  }

  // Fragments that wait for the buffer.
  get waiting() {
    return this.#queue.length;
  }

  // Seconds of the newest stretch in the buffer, or null.
  get range() {
    const buffered = this.#source?.readyState === "open" ? this.#buffer?.buffered : null;
    if (!buffered?.length) return null;
    return { start: buffered.start(buffered.length - 1), end: buffered.end(buffered.length - 1) };
  }

  push(time, offset, key, data, guess) {
    // The next sample's time is not known yet; the last interval is a good guess, and the next fragment says its own.
    const duration = this.#last === null ? guess : Math.min(Math.max(time - this.#last, 1), MAX_DURATION);
    this.#last = time;
    this.#sequence += 1;
    this.#queue.push(fragment(this.#sequence, time, duration, offset, key, data));
    this.#append();
  }

  forget() {
    this.#queue.splice(this.#begun ? 0 : 1);
  }

  close() {
    const source = this.#source;
    this.#source = null;
    if (source?.readyState !== "open") return;
    try {
      source.endOfStream();
    } catch {
      // The buffer is still at work; letting go of the source ends it as well.
    }
  }

  #append() {
    if (this.#source?.readyState !== "open" || this.#buffer === null) return;
    try {
      if (this.range) this.#events.follow();
      if (this.#buffer.updating) return;
      const start = this.#buffer.buffered.length > 0 ? this.#buffer.buffered.start(0) : Infinity;
      const now = this.#element.currentTime;
      if (now - start > 2 * KEEP) this.#buffer.remove(start, now - KEEP);
      else if (this.#queue.length > 0) {
        this.#buffer.appendBuffer(this.#queue.length === 1 ? this.#queue[0] : concat(this.#queue));
        this.#queue = [];
        this.#begun = true;
      }
    } catch (error) {
      this.#events.failed(error);
    }
  }
}
