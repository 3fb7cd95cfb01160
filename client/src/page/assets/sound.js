// Sound by WebCodecs into Web Audio, in step with the picture: what would be too late is left out, what would be too
// early waits. Off until asked for: browsers let no page sound before a gesture.

import { sameSound } from "./codec.js";

// Of all casts: a page has few.
let shared = null;

const LEAD = 0.04; // Seconds between now and a sound that begins after silence.
// Seconds off the picture that nobody notices (ITU-R BT.1359-1: sound may be 45 ms early, 125 ms late).
const MAX_EARLY = 0.045;
const MAX_LATE = 0.12;
const MAX_LEAD = 0.25; // Where no picture says when it is due. What is further ahead than this came in a burst.
const IN_STEP = 0.02; // Once sound is left out, as much is that it is in step: one gap instead of many.
const MAX_DECODE_QUEUE = 50; // A second of packets. What is further behind is begun anew.
const MAX_FAILURES = 3; // Without one sound between: the decoder does not take the stream.

export class Sound {
  name = "webcodecs";
  late = null; // Seconds behind the picture of what was played last.
  #step;
  #failed;
  #decoder = null;
  #decoding = []; // The timestamps of what is in the decoder.
  #format = null;
  #context = null;
  #gain = null;
  #volume = 1;
  #on = false;
  #next = 0;
  #leavesOut = false;
  #failures = 0;

  static isSupported() {
    return typeof AudioDecoder === "function" && typeof EncodedAudioChunk === "function";
  }

  constructor(step, failed) {
    this.#step = step;
    this.#failed = failed;
  }

  // A header that comes again says nothing new, neither of the stream nor of a decoder that does not take it.
  configure(format) {
    if (sameSound(format, this.#format)) return;
    this.#close();
    this.#format = format;
    this.#failures = 0;
  }

  async turn(on) {
    this.#on = on;
    if (!on) this.#close();
    else if (!this.#context) {
      shared ??= new AudioContext({ latencyHint: "interactive" });
      this.#context = shared;
      this.#gain = shared.createGain();
      this.#gain.connect(shared.destination);
    }
    this.#setGain();
    if (on) await this.#context.resume();
  }

  setVolume(volume) {
    this.#volume = volume;
    this.#setGain();
  }

  // What is on its way to the loudspeakers already is silenced, too.
  #setGain() {
    if (this.#gain) this.#gain.gain.value = this.#on ? this.#volume : 0;
  }

  frame(timestamp, data) {
    if (!this.#on || !this.#format) return;
    try {
      if (this.#decoding.length === MAX_DECODE_QUEUE) this.#close();
      if (!this.#decoder) this.#open();
      this.#decoding.push(timestamp);
      this.#decoder.decode(new EncodedAudioChunk({ type: "key", timestamp: timestamp * 1000, data }));
    } catch (error) {
      this.#fail(error);
    }
  }

  reset() {
    this.#close();
    this.#format = null;
  }

  close() {
    this.reset();
    this.#gain?.disconnect();
  }

  #open() {
    const { codec, rate, channels, sent } = this.#format;
    const config = this.#format.config.slice();
    // The beginning of a stream that was joined has nothing to be skipped, and a packet of which all is skipped gives no
    // sound that its timestamp could go with.
    if (codec === "opus") config.fill(0, 10, 12);
    const decoder = new AudioDecoder({
      output: (sound) => this.#play(decoder, sound),
      error: (error) => this.#decoder === decoder && this.#fail(error),
    });
    this.#decoder = decoder;
    decoder.configure({ codec, sampleRate: rate, numberOfChannels: channels, ...(sent && { description: config }) });
  }

  #close() {
    if (this.#decoder && this.#decoder.state !== "closed") this.#decoder.close();
    this.#decoder = null;
    this.#decoding = [];
    this.#next = 0;
    this.#leavesOut = false;
    this.late = null;
  }

  #fail(error) {
    this.#close();
    this.#failures += 1;
    if (this.#failures < MAX_FAILURES) return;
    this.#format = null;
    this.#failed(error.message);
  }

  #play(decoder, sound) {
    if (decoder === this.#decoder) {
      this.#failures = 0;
      // The decoder's own timestamps count samples from the first, and so know nothing of gaps.
      const at = this.#place(this.#decoding.shift() ?? sound.timestamp / 1000);
      if (at !== null) this.#start(sound, at);
    }
    sound.close();
  }

  // When the sound of this timestamp begins, on the context's clock; null: it is left out.
  #place(timestamp) {
    const now = this.#context.currentTime;
    const { offset } = this.#step;
    const due = offset === null ? null : now + (offset + timestamp - performance.now()) / 1000;
    let at = this.#next < now ? now + LEAD : this.#next;
    if (due !== null && due - at > MAX_EARLY && due - now < 2 * MAX_LEAD) at = due;
    // Later than it could be, by what was placed before it.
    const waits = at - Math.max(due ?? 0, now + LEAD);
    if (waits < IN_STEP) this.#leavesOut = false;
    else if (due === null ? at - now > MAX_LEAD : at - due > MAX_LATE) this.#leavesOut = true;
    if (this.#leavesOut) return null;
    this.late = due === null ? null : at - due;
    return at;
  }

  #start(sound, at) {
    const { numberOfFrames, numberOfChannels, sampleRate } = sound;
    const buffer = this.#context.createBuffer(numberOfChannels, numberOfFrames, sampleRate);
    for (let channel = 0; channel < numberOfChannels; channel += 1) {
      sound.copyTo(buffer.getChannelData(channel), { planeIndex: channel, format: "f32-planar" });
    }
    const source = this.#context.createBufferSource();
    source.buffer = buffer;
    source.connect(this.#gain);
    source.start(at);
    this.#next = at + numberOfFrames / sampleRate;
  }
}
