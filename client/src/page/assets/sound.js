// AAC by WebCodecs into Web Audio. Off until asked for: browsers let no page sound before a gesture.

const LEAD = 0.04; // Seconds between now and a sound that begins after silence.
const MAX_LEAD = 0.25; // What is further ahead than this came in a burst; it would stay late for ever.

export class Sound {
  #decoder = null;
  #codec = null;
  #config = null;
  #context = null;
  #on = false;
  #next = 0;

  isReady() {
    return this.#config !== null && typeof AudioDecoder === "function";
  }

  configure(config) {
    if (config.length < 2) return;
    this.#config = config.slice();
    const rates = [96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350];
    this.#codec = {
      codec: `mp4a.40.${config[0] >> 3}`,
      sampleRate: rates[((config[0] & 7) << 1) | (config[1] >> 7)] ?? 48000,
      numberOfChannels: (config[1] >> 3) & 15 || 2,
      description: this.#config,
    };
    this.#close();
  }

  async toggle() {
    this.#on = !this.#on;
    if (this.#on) {
      this.#context ??= new AudioContext({ latencyHint: "interactive" });
      await this.#context.resume();
    } else {
      this.#close();
      await this.#context?.suspend();
    }
    return this.#on;
  }

  frame(timestamp, data) {
    if (!this.#on || !this.isReady()) return;
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
      source.connect(this.#context.destination);
      source.start(this.#next);
      this.#next += numberOfFrames / sampleRate;
    }
    sound.close();
  }
}
