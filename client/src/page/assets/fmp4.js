// Fragmented MP4 (ISO/IEC 14496-12 §8.8), one sample a fragment: what Media Source Extensions take.

export const TIMESCALE = 1000; // Milliseconds, as the stream's own clock.

const u16 = (value) => [(value >> 8) & 255, value & 255];
const u32 = (value) => [(value >>> 24) & 255, (value >>> 16) & 255, (value >>> 8) & 255, value & 255];
const u64 = (value) => [...u32(Math.floor(value / 2 ** 32)), ...u32(value >>> 0)];
const text = (value) => [...value].map((letter) => letter.charCodeAt(0));
const zeros = (count) => new Array(count).fill(0);

export function concat(parts) {
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

// ---- The beginning: what the track is ----

// A movie of one track; `header` is its media's own header box, `entry` its sample description.
function movie({ handler, name, header, entry, width = 0, height = 0, volume = 0 }) {
  const samples = box(
    "stbl", full("stsd", 0, 0, u32(1), entry), full("stts", 0, 0, u32(0)), full("stsc", 0, 0, u32(0)),
    full("stsz", 0, 0, u32(0), u32(0)), full("stco", 0, 0, u32(0)),
  );
  const information = box("minf", header, box("dinf", full("dref", 0, 0, u32(1), full("url ", 0, 1))), samples);
  const track = box(
    "trak",
    full("tkhd", 0, 3, zeros(8), u32(1), zeros(4), zeros(4), zeros(12), u16(volume), zeros(2), MATRIX,
      u32(width << 16), u32(height << 16)),
    box(
      "mdia", full("mdhd", 0, 0, zeros(8), u32(TIMESCALE), u32(0), u16(0x55c4), zeros(2)),
      full("hdlr", 0, 0, zeros(4), text(handler), zeros(12), text(name), [0]), information,
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

// For pictures: `config` is an AVCDecoderConfigurationRecord.
export function pictureTrack(config) {
  const { width, height } = sizeOf(config);
  const entry = box(
    "avc1", zeros(6), u16(1), zeros(16), u16(width), u16(height), u32(0x480000), u32(0x480000), zeros(4), u16(1),
    zeros(32), u16(24), u16(0xffff), box("avcC", config),
  );
  return movie({ handler: "vide", name: "Video", header: full("vmhd", 0, 1, zeros(8)), entry, width, height });
}

// For sound, as codec.js describes it.
export function soundTrack({ codec, rate, channels, config }) {
  const sample = [zeros(6), u16(1), zeros(8), u16(channels), u16(16), zeros(4), u32((rate & 0xffff) * 0x10000)];
  const entry = codec === "opus" ? box("Opus", ...sample, dOps(config)) : box("mp4a", ...sample, esds(config));
  return movie({ handler: "soun", name: "Sound", header: full("smhd", 0, 0, zeros(4)), entry, volume: 0x100 });
}

// ISO/IEC 14496-1 §7.2.6: object type 0x40 is AAC, stream type 5 is sound. The AudioSpecificConfig has 64 bytes at most.
function esds(config) {
  const tag = (name, body) => [name, body.length, ...body];
  const decoder = tag(5, [...config.subarray(0, 64)]);
  return full("esds", 0, 0, tag(3, [...u16(1), 0, ...tag(4, [0x40, 0x15, ...zeros(11), ...decoder]), ...tag(6, [2])]));
}

// Encapsulation of Opus in ISO base media files §4.3.2: what OpusHead has behind its name, version 0, numbers big-endian.
function dOps(head) {
  const back = (from, to) => [...head.subarray(from, to)].reverse();
  return box("dOps", [0, head[9], ...back(10, 12), ...back(12, 16), ...back(16, 18), ...head.subarray(18)]);
}

// ---- The rest: one sample after another ----

export function fragment(sequence, time, duration, offset, key, data) {
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
