// AAC by WebCodecs into Web Audio. Off until asked for: browsers let no page sound before a gesture.

import { soundRate } from "./fmp4.js";

// Of all casts: a page has few.
let shared = null;

const LEAD = 0.04; // Seconds between now and a sound that begins after silence.
const MAX_LEAD = 0.25; // What is further ahead than this came in a burst; it would stay late for ever.

export class Sound {
  #decoder = null;
  #codec = null;
  #config = null;
  #context = null;
  #gain = null;
  #volume = 1;
  #on = false;
  #next = 0;

  static isSupported() {
    return typeof AudioDecoder === "function";
  }

  configure(config) {
    if (config.length < 2) return;
    this.#config = config.slice();
    this.#codec = {
      codec: `mp4a.40.${config[0] >> 3}`,
      sampleRate: soundRate(config),
      numberOfChannels: (config[1] >> 3) & 15 || 2,
      description: this.#config,
    };
    this.#close();
  }

  async turn(on) {
    this.#on = on;
    if (!on) return this.#close();
    if (!this.#context) {
      shared ??= new AudioContext({ latencyHint: "interactive" });
      this.#context = shared;
      this.#gain = shared.createGain();
      this.#gain.connect(shared.destination);
      this.#gain.gain.value = this.#volume;
    }
    await this.#context.resume();
  }

  setVolume(volume) {
    this.#volume = volume;
    if (this.#gain) this.#gain.gain.value = volume;
  }

  frame(timestamp, data) {
    if (!this.#on || !this.#config || !Sound.isSupported()) return;
    try {
      if (!this.#decoder) this.#open();
      this.#decoder.decode(new EncodedAudioChunk({ type: "key", timestamp: timestamp * 1000, data }));
    } catch {
      this.#close();
    }
  }

  reset() {
    this.#close();
  }

  #open() {
    const decoder = new AudioDecoder({
      output: (sound) => this.#play(sound),
      error: () => this.#decoder === decoder && this.#close(),
    });
    decoder.configure(this.#codec);
    this.#decoder = decoder;
  }

  #close() {
    if (this.#decoder && this.#decoder.state !== "closed") this.#decoder.close();
    this.#decoder = null;
    this.#next = 0;
  }

  #play(sound) {
    const { numberOfFrames, numberOfChannels, sampleRate } = sound;
    const now = this.#context.currentTime;
    if (this.#next < now) this.#next = now + LEAD;
    if (this.#next - now <= MAX_LEAD) {
      const buffer = this.#context.createBuffer(numberOfChannels, numberOfFrames, sampleRate);
      for (let channel = 0; channel < numberOfChannels; channel += 1) {
        sound.copyTo(buffer.getChannelData(channel), { planeIndex: channel, format: "f32-planar" });
      }
      const source = this.#context.createBufferSource();
      source.buffer = buffer;
      source.connect(this.#gain);
      source.start(this.#next);
      this.#next += numberOfFrames / sampleRate;
    }
    sound.close();
  }
}
