// The live picture by Media Source Extensions, for pages that may not use WebCodecs: each frame becomes an fMP4
// fragment of its own (ISO/IEC 14496-12 §8.8), and playback chases the newest.

import { codecOf, sameBytes } from "./picture.js";

const TIMESCALE = 1000; // Milliseconds, as the stream's own clock.
const MAX_LAG = 0.25; // Seconds behind the newest frame before playback jumps to it.
const LEAD = 0.05; // Seconds behind the newest frame after a jump.
const KEEP = 4; // Seconds of past kept in the buffer.
const MAX_QUEUE = 120; // Fragments that wait for the buffer before they are given up.

export class MsePicture {
  name = "mse";
  #video;
  #events;
  #source = null;
  #buffer = null;
  #queue = [];
  #config = null;
  #awaitsKey = true;
  #sequence = 0;
  #base = null;
  #last = null;
  #seen = 0;

  static isSupported() {
    return typeof MediaSource === "function" && MediaSource.isTypeSupported('video/mp4; codecs="avc1.42E01F"');
  }

  constructor(video, events) {
    this.#video = video;
    this.#events = events;
    video.addEventListener("timeupdate", () => this.#report());
    video.requestVideoFrameCallback?.(() => this.#onFrame());
  }

  configure(config) {
    if (sameBytes(config, this.#config)) return;
    const type = `video/mp4; codecs="${codecOf(config)}"`;
    if (!MediaSource.isTypeSupported(type)) return this.#events.failed(`The browser cannot decode ${codecOf(config)}.`);
    this.#close();
    this.#config = config.slice();
    const source = new MediaSource();
    this.#source = source;
    source.addEventListener("sourceopen", () => {
      URL.revokeObjectURL(this.#video.src);
      if (this.#source !== source) return;
      this.#buffer = source.addSourceBuffer(type);
      this.#buffer.addEventListener("updateend", () => this.#append());
      this.#append();
    });
    this.#video.src = URL.createObjectURL(source);
    this.#video.play().catch(() => {});
    this.#queue = [initSegment(this.#config)];
  }

  // Every frame goes to the buffer either way: playback jumps over what is past.
  catchUp() {}

  frame({ key, timestamp, offset, data }) {
    if (!this.#config) return;
    if (this.#awaitsKey && !key) return this.#events.starved();
    if (this.#queue.length > MAX_QUEUE) {
      this.#queue.length = 0;
      this.#awaitsKey = true;
      return this.#events.starved();
    }
    this.#awaitsKey = false;
    this.#base ??= timestamp;
    // The next frame's time is not known yet; the last interval is a good guess, and the next fragment says its own.
    const duration = this.#last === null ? 33 : Math.min(Math.max(timestamp - this.#last, 1), 1000);
    this.#last = timestamp;
    this.#sequence += 1;
    this.#queue.push(fragment(this.#sequence, timestamp - this.#base, duration, offset, key, data));
    this.#append();
  }

  reset() {
    this.#close();
    this.#config = null;
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
    this.#buffer = null;
    this.#queue = [];
    this.#awaitsKey = true;
    this.#sequence = 0;
    this.#base = null;
    this.#last = null;
  }

  #append() {
    const buffer = this.#buffer;
    if (!buffer || buffer.updating || this.#source?.readyState !== "open") return;
    try {
      this.#chase(buffer);
      if (buffer.updating || this.#queue.length === 0) return;
      buffer.appendBuffer(this.#queue.length === 1 ? this.#queue[0] : concat(this.#queue));
      this.#queue = [];
    } catch (error) {
      this.#events.failed(`The browser does not take this picture: ${error.message}.`);
    }
  }

  #chase(buffer) {
    if (buffer.buffered.length === 0) return;
    const end = buffer.buffered.end(buffer.buffered.length - 1);
    const start = buffer.buffered.start(0);
    const newest = buffer.buffered.start(buffer.buffered.length - 1);
    if (end - this.#video.currentTime > MAX_LAG || this.#video.currentTime > end + MAX_LAG) {
      this.#video.currentTime = Math.max(newest, end - LEAD);
    }
    if (this.#video.paused) this.#video.play().catch(() => {});
    if (this.#video.currentTime - start > 2 * KEEP) buffer.remove(start, this.#video.currentTime - KEEP);
  }

  #onFrame() {
    this.#report();
    this.#video.requestVideoFrameCallback(() => this.#onFrame());
  }

  #report() {
    const shown = this.#video.getVideoPlaybackQuality?.().totalVideoFrames ?? this.#seen + 1;
    if (this.#video.videoWidth === 0 || shown === this.#seen) return;
    this.#seen = shown;
    this.#events.shown(this.#video.videoWidth, this.#video.videoHeight, this.#last ?? 0);
  }
}

// ---- Boxes ----

const u16 = (value) => [(value >> 8) & 255, value & 255];
const u32 = (value) => [(value >>> 24) & 255, (value >>> 16) & 255, (value >>> 8) & 255, value & 255];
const u64 = (value) => [...u32(Math.floor(value / 2 ** 32)), ...u32(value >>> 0)];
const text = (value) => [...value].map((letter) => letter.charCodeAt(0));
const zeros = (count) => new Array(count).fill(0);

function concat(parts) {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

const box = (name, ...parts) => {
  const size = parts.reduce((sum, part) => sum + part.length, 8);
  return concat([u32(size), text(name), ...parts]);
};
const full = (name, version, flags, ...parts) => box(name, u32((version << 24) | flags), ...parts);

const MATRIX = [0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000].flatMap(u32);

function initSegment(config) {
  const { width, height } = sizeOf(config);
  const entry = box(
    "avc1", zeros(6), u16(1), zeros(16), u16(width), u16(height), u32(0x480000), u32(0x480000), zeros(4), u16(1),
    zeros(32), u16(24), u16(0xffff), box("avcC", config),
  );
  const samples = box(
    "stbl", full("stsd", 0, 0, u32(1), entry), full("stts", 0, 0, u32(0)), full("stsc", 0, 0, u32(0)),
    full("stsz", 0, 0, u32(0), u32(0)), full("stco", 0, 0, u32(0)),
  );
  const information = box(
    "minf", full("vmhd", 0, 1, zeros(8)), box("dinf", full("dref", 0, 0, u32(1), full("url ", 0, 1))), samples,
  );
  const track = box(
    "trak",
    full("tkhd", 0, 3, zeros(8), u32(1), zeros(4), zeros(4), zeros(16), MATRIX, u32(width << 16), u32(height << 16)),
    box(
      "mdia", full("mdhd", 0, 0, zeros(8), u32(TIMESCALE), u32(0), u16(0x55c4), zeros(2)),
      full("hdlr", 0, 0, zeros(4), text("vide"), zeros(12), text("Video"), [0]), information,
    ),
  );
  const movie = full(
    "mvhd", 0, 0, zeros(8), u32(TIMESCALE), u32(0), u32(0x10000), u16(0x100), zeros(10), MATRIX, zeros(24), u32(2),
  );
  const extends_ = box("mvex", full("trex", 0, 0, u32(1), u32(1), u32(0), u32(0), u32(0)));
  return concat([
    box("ftyp", text("isom"), u32(0x200), text("isomiso5avc1mp41")), box("moov", movie, track, extends_),
  ]);
}

function fragment(sequence, time, duration, offset, key, data) {
  const flags = key ? 0x02000000 : 0x01010000; // sample_depends_on, sample_is_non_sync_sample
  const moof = (at) =>
    box(
      "moof", full("mfhd", 0, 0, u32(sequence)),
      box(
        "traf", full("tfhd", 0, 0x020000, u32(1)), full("tfdt", 1, 0, u64(time)),
        full("trun", 1, 0x000f01, u32(1), u32(at), u32(duration), u32(data.length), u32(flags), u32(offset)),
      ),
    );
  return concat([moof(moof(0).length + 8), box("mdat", data)]);
}

// ---- The picture's size, from the first sequence parameter set (ITU-T H.264 §7.3.2.1.1) ----

function sizeOf(config) {
  try {
    const length = (config[6] << 8) | config[7];
    return sizeInSps(config.subarray(9, 8 + length));
  } catch {
    return { width: 640, height: 360 };
  }
}

function sizeInSps(escaped) {
  const bytes = escaped.filter((byte, at) => !(byte === 3 && at >= 2 && escaped[at - 1] === 0 && escaped[at - 2] === 0));
  let position = 24; // profile_idc, constraints, level_idc
  const bit = () => {
    if (position >= bytes.length * 8) throw new RangeError("short parameter set");
    const value = (bytes[position >> 3] >> (7 - (position & 7))) & 1;
    position += 1;
    return value;
  };
  const bits = (count) => Array.from({ length: count }).reduce((value) => value * 2 + bit(), 0);
  const ue = () => {
    let zeroBits = 0;
    while (bit() === 0) zeroBits += 1;
    return 2 ** zeroBits - 1 + bits(zeroBits);
  };
  const se = () => ue(); // Only skipped over: the sign does not matter.

  ue(); // seq_parameter_set_id
  let chroma = 1;
  if ([100, 110, 122, 244, 44, 83, 86, 118, 128].includes(bytes[0])) {
    chroma = ue();
    if (chroma === 3) bit();
    ue();
    ue();
    bit();
    if (bit()) for (let list = 0; list < (chroma === 3 ? 12 : 8); list += 1) if (bit()) throw new RangeError("scaling list");
  }
  ue(); // log2_max_frame_num
  const order = ue();
  if (order === 0) ue();
  else if (order === 1) {
    bit();
    se();
    se();
    for (let cycle = ue(); cycle > 0; cycle -= 1) se();
  }
  ue(); // max_num_ref_frames
  bit();
  const widthInBlocks = ue() + 1;
  const heightInUnits = ue() + 1;
  const framesOnly = bit();
  if (!framesOnly) bit();
  bit();
  let [left, right, top, bottom] = [0, 0, 0, 0];
  if (bit()) [left, right, top, bottom] = [ue(), ue(), ue(), ue()];
  const unitX = chroma === 1 || chroma === 2 ? 2 : 1;
  const unitY = (chroma === 1 ? 2 : 1) * (2 - framesOnly);
  return {
    width: widthInBlocks * 16 - (left + right) * unitX,
    height: heightInUnits * 16 * (2 - framesOnly) - (top + bottom) * unitY,
  };
}
