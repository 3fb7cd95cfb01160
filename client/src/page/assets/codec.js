// What the stream's codecs are called, and what their configurations say.

export function sameBytes(a, b) {
  return a !== null && b !== null && a.length === b.length && a.every((byte, at) => byte === b[at]);
}

// The name of a picture's codec, by its AVCDecoderConfigurationRecord.
export function pictureCodec(config) {
  return "avc1." + [...config.subarray(1, 4)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

// ---- Sound: { name, codec, rate, channels, config, sent, packet: milliseconds that one lasts } ----

const AAC_RATES = [96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350];
const AAC_FRAME = 1024; // Samples.

// By an AudioSpecificConfig (ISO/IEC 14496-3 §1.6.2).
export function aac(config) {
  const rate = AAC_RATES[((config[0] & 7) << 1) | (config[1] >> 7)] ?? 48000;
  return {
    name: "AAC",
    codec: `mp4a.40.${config[0] >> 3}`,
    rate,
    channels: (config[1] >> 3) & 15 || 2,
    config: config.slice(),
    sent: true,
    packet: (AAC_FRAME * 1000) / rate,
  };
}

// "OpusHead", version, channels, pre-skip, input rate, gain, mapping family (RFC 7845 §5.1): what suits a stream of one or
// two channels whose publisher sends none.
const OPUS_HEAD = Uint8Array.of(79, 112, 117, 115, 72, 101, 97, 100, 1, 2, 56, 1, 128, 187, 0, 0, 0, 0, 0);

// By an Opus identification header, or without one.
export function opus(head) {
  const config = (head ?? OPUS_HEAD).slice();
  // Decoders give 48,000 samples a second, whatever the encoder was given (RFC 7845 §4).
  return { name: "Opus", codec: "opus", rate: 48000, channels: config[9], config, sent: Boolean(head), packet: 20 };
}

export function sameSound(a, b) {
  return a !== null && b !== null && a.codec === b.codec && a.sent === b.sent && sameBytes(a.config, b.config);
}
