// Which H.264 an encoder is asked for, and how packets are laid out for the program (see stream.rs).

export const HEADER = 20;
export const [VIDEO_CONFIG, PICTURE, SOUND_CONFIG, SOUND] = [1, 2, 3, 4];

// High, Main, Constrained Baseline: the first packs best, the last is everywhere.
const PROFILES = ["6400", "4D00", "42E0"];

// ITU-T H.264 table A-1: level, macroblocks of a frame, macroblocks a second.
const LEVELS = [
  ["1F", 3600, 108000],
  ["28", 8192, 245760],
  ["32", 22080, 589824],
  ["33", 36864, 983040],
  ["34", 36864, 2073600],
];

// The largest size of the frame's shape within the bounds, in even numbers, as 4:2:0 has it.
export function fit(width, height, bounds) {
  const scale = Math.min(1, bounds.width / width, bounds.height / height);
  const even = (edge) => Math.max(2, 2 * Math.round((edge * scale) / 2 - 0.25));
  return { width: even(width), height: even(height) };
}

// An encoder's configuration for this size, or null where this browser has none. Hardware comes first, unless it has failed.
export async function videoConfig({ width, height }, { fps, bitrate }, hardware) {
  const blocks = Math.ceil(width / 16) * Math.ceil(height / 16);
  const level = LEVELS.find(([, frame, second]) => blocks <= frame && blocks * fps <= second) ?? LEVELS.at(-1);
  for (const profile of PROFILES) {
    const config = {
      codec: `avc1.${profile}${level[0]}`,
      width,
      height,
      bitrate,
      framerate: fps,
      latencyMode: "realtime",
      bitrateMode: "variable",
      hardwareAcceleration: hardware ? "no-preference" : "prefer-software",
      avc: { format: "avc" },
    };
    try {
      if ((await VideoEncoder.isConfigSupported(config)).supported) return config;
    } catch {
      // A browser that does not know one of the words.
    }
  }
  return null;
}

// A message with room for the payload.
export function packet(kind, { key = false, age = 0, time, frame = 0, captured = 0 }, length) {
  const message = new ArrayBuffer(HEADER + length);
  const view = new DataView(message);
  view.setUint8(0, kind);
  view.setUint8(1, key ? 1 : 0);
  view.setUint16(2, Math.min(Math.max(Math.round(age * 10), 0), 0xffff));
  view.setUint32(4, time % 2 ** 32);
  view.setUint32(8, frame % 2 ** 32);
  view.setBigUint64(12, BigInt(captured));
  return { message, payload: new Uint8Array(message, HEADER) };
}

// The identification header of RFC 7845 §5.1, where the encoder gives none. 312 samples are what libopus looks ahead.
export function opusHead(channels, rate) {
  const head = new Uint8Array(19);
  const view = new DataView(head.buffer);
  head.set(new TextEncoder().encode("OpusHead"));
  head[8] = 1;
  head[9] = channels;
  view.setUint16(10, 312, true);
  view.setUint32(12, rate, true);
  return head;
}
