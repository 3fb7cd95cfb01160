//! Is the right sound heard? What the page plays is listened to where it goes to the loudspeakers.

use super::viewer::{Cue, Viewer};
use super::{CANVAS, LEFT, TICKET, VIDEO, assert_left_half, keep_screenshot, live, program, scratch, stream};
use crate::browser::chromium::Chromium;
use crate::tool::tell;
use punchcast::media::{Kind, Unit};
use serde_json::{Value, json};
use std::fs;
use std::process::Command;

/// The tone of [`stream`] and of [`opus`].
const TONE: u32 = 440;

/// Puts an ear beside the loudspeakers: `hear()` tells which frequency is the loudest (`hz`), how much of the power is
/// within 30 Hz of it (`share`), and how loud all of it is (`rms`).
pub(crate) const EAR: &str = "globalThis.listenTo = (node) => { \
     globalThis.ear = new AnalyserNode(node.context, {fftSize: 8192, smoothingTimeConstant: 0}); \
     AudioNode.prototype.connect.call(node, ear); }; \
     globalThis.hear = () => { const bins = new Float32Array(ear.frequencyBinCount); ear.getFloatFrequencyData(bins); \
     const width = ear.context.sampleRate / ear.fftSize, peak = bins.indexOf(Math.max(...bins)); \
     const power = (from, to) => bins.subarray(from, to).reduce((sum, level) => sum + 10 ** (level / 10), 0); \
     const wave = new Float32Array(ear.fftSize); ear.getFloatTimeDomainData(wave); \
     const near = Math.ceil(30 / width); \
     return {hz: peak * width, share: power(Math.max(peak - near, 0), peak + near + 1) / power(0), \
     rms: Math.sqrt(wave.reduce((sum, value) => sum + value * value, 0) / wave.length)}; }; \
     const connect = AudioNode.prototype.connect; \
     AudioNode.prototype.connect = function (to, ...more) { \
     if (to instanceof AudioDestinationNode && !globalThis.ear) listenTo(this); \
     return connect.call(this, to, ...more); };";

/// What a page on `http://` in the network lacks.
const NO_WEBCODECS: &str = "delete globalThis.VideoDecoder; delete globalThis.AudioDecoder; \
     delete globalThis.EncodedVideoChunk; delete globalThis.EncodedAudioChunk;";

/// JavaScript that is true while the tone is heard, and next to nothing else.
pub(crate) fn hears_tone() -> String {
    format!(
        "globalThis.ear && (({{hz, share, rms}}) => Math.abs(hz - {TONE}) < 12 && share > 0.9 && rms > 0.02)(hear())"
    )
}

const SILENCE: &str = "hear().rms < 0.0005";

/// Presses a key as a hand does: sound needs a gesture.
pub(crate) fn press(browser: &mut Chromium, letter: &str) {
    let code = format!("Key{}", letter.to_uppercase());
    for kind in ["keyDown", "keyUp"] {
        browser.call(
            "Input.dispatchKeyEvent",
            json!({"type": kind, "key": letter, "code": code, "text": letter}),
        );
    }
}

/// The picture of [`stream`] with its tone in Opus, as Enhanced RTMP has it. ffmpeg 5 encodes it, but does not write it
/// so.
fn opus() -> Vec<Unit> {
    let path = scratch().join(format!("opus-{}-{:x}.ogg", std::process::id(), fastrand::u64(..)));
    let status = Command::new("ffmpeg")
        .args(["-v", "error", "-y", "-f", "lavfi", "-i"])
        .arg(format!("sine=frequency={TONE}:sample_rate=48000"))
        .args(["-t", "2", "-c:a", "libopus", "-b:a", "96k", "-frame_duration", "20", "-f", "ogg"])
        .arg(&path)
        .status()
        .expect("ffmpeg runs");
    assert!(status.success());
    let packets = ogg_packets(&fs::read(&path).expect("ffmpeg's file"));
    fs::remove_file(&path).expect("the file was there");
    let [head, _tags, sounds @ ..] = &packets[..] else { panic!("{} packets", packets.len()) };
    assert!(head.starts_with(b"OpusHead") && sounds.len() > 90, "{} packets of 20 ms", sounds.len());
    let sound = |timestamp, packet_type: u8, body: &[u8]| Unit {
        kind: Kind::Audio,
        timestamp,
        payload: [&[0x90 | packet_type], &b"Opus"[..], body].concat().into(),
    };
    let mut units = stream();
    units.retain(|unit| unit.kind == Kind::Video);
    units.insert(0, sound(0, 0, head));
    units.extend((0..).step_by(20).zip(sounds.iter().take(98)).map(|(at, body)| sound(at, 1, body)));
    units.sort_by_key(|unit| unit.timestamp);
    units
}

/// The packets of a file of one logical stream (RFC 3533 §6).
fn ogg_packets(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let (mut packets, mut packet) = (Vec::new(), Vec::new());
    while bytes.starts_with(b"OggS") {
        let count = usize::from(bytes[26]);
        let (lacing, mut body) = bytes[27..].split_at(count);
        for &length in lacing {
            let (part, rest) = body.split_at(usize::from(length));
            packet.extend_from_slice(part);
            body = rest;
            if length < 255 {
                packets.push(std::mem::take(&mut packet));
            }
        }
        bytes = body;
    }
    packets
}

/// A page that plays `units`, with its sound on, after the `prelude`.
fn playing(units: Vec<Unit>, prelude: &str) -> Option<(Viewer, Chromium)> {
    let program = program()?;
    let viewer = Viewer::start("127.0.0.1:0".parse().unwrap(), TICKET);
    let mut browser = Chromium::start(&program, &scratch(), (1280, 720));
    browser.prelude(&format!("{prelude}{EAR}"));
    browser.open(&format!("http://{}/", viewer.local));
    browser.wait_for("document.body.dataset.socket === 'up'");
    viewer.cue(Cue::Status(live()));
    viewer.cue(Cue::Play(0, units));
    browser.wait_for("punchcast.tiles.get(0).frames > 10 && !document.querySelector('.sound').hidden");
    assert_eq!(browser.evaluate("document.querySelector('.silent').textContent"), "");
    press(&mut browser, "m");
    Some((viewer, browser))
}

fn number(browser: &mut Chromium, expression: &str) -> f64 {
    browser.evaluate(expression).as_f64().expect(expression)
}

/// The tone is heard as loud as is asked for, and not at all when muted.
fn assert_heard(browser: &mut Chromium) {
    browser.wait_for(&hears_tone());
    // ffmpeg's sine has an eighth of the range; the page begins at a volume of 80%.
    browser.wait_for("Math.abs(hear().rms / (Math.SQRT1_2 / 8) - 0.8) < 0.08");
    tell(&format!("heard {}", browser.evaluate("JSON.stringify(hear())")));
    browser.evaluate(
        "(() => { const slider = document.querySelector('.sound input'); slider.value = 40; \
         slider.dispatchEvent(new Event('input')); })()",
    );
    browser.wait_for("Math.abs(hear().rms / (Math.SQRT1_2 / 8) - 0.4) < 0.04");
    press(browser, "m");
    browser.wait_for(SILENCE);
    press(browser, "m");
    browser.wait_for(&hears_tone());
}

/// Sound and picture stay together, and come together again after the page stood still.
fn assert_in_step(browser: &mut Chromium, canvas: &str) {
    let in_step = "Math.abs(punchcast.tiles.get(0).sound.late ?? 9) < 0.15";
    browser.wait_for(in_step);
    let before = number(browser, "punchcast.tiles.get(0).frames");
    browser.evaluate("(() => { const end = performance.now() + 600; while (performance.now() < end); })()");
    browser.wait_for(&format!("punchcast.tiles.get(0).frames > {before} + 60"));
    browser.wait_for(in_step);
    browser.wait_for(&hears_tone());
    tell(&format!("sound behind the picture: {}", browser.evaluate("punchcast.tiles.get(0).sound.late")));
    let age = browser.evaluate("document.querySelector('[data-is=age]').textContent");
    tell(&format!("age {age}"));
    assert_left_half(browser, canvas, LEFT);
}

#[test]
fn opus_is_heard() {
    let Some((_viewer, mut browser)) = playing(opus(), "") else { return };
    assert_heard(&mut browser);
    assert_eq!(browser.evaluate("punchcast.tiles.get(0).sound.name"), "webcodecs");
    assert_in_step(&mut browser, CANVAS);
    keep_screenshot(&mut browser, "live-sound");
}

#[test]
fn opus_is_heard_without_its_header() {
    let mut units = opus();
    units.retain(|unit| unit.kind != Kind::Audio || !unit.is_sequence_header());
    let Some((_viewer, mut browser)) = playing(units, "") else { return };
    browser.wait_for(&hears_tone());
}

#[test]
fn a_header_that_comes_again_and_again_disturbs_no_sound() {
    let mut units = opus();
    let head = units.iter().find(|unit| unit.kind == Kind::Audio).expect("its header comes first").clone();
    units = units
        .into_iter()
        .flat_map(|unit| [Unit { timestamp: unit.timestamp, ..head.clone() }, unit])
        .collect();
    let counts = "globalThis.decoders = 0; globalThis.AudioDecoder = class extends AudioDecoder { \
                  constructor(...given) { super(...given); decoders += 1; } };";
    let Some((_viewer, mut browser)) = playing(units, counts) else { return };
    browser.wait_for(&hears_tone());
    assert_in_step(&mut browser, CANVAS);
    let decoders = number(&mut browser, "decoders");
    assert!(decoders < 5.0, "{decoders} decoders");
}

#[test]
fn opus_is_heard_whatever_its_header_has_skipped() {
    let mut units = opus();
    for head in units.iter_mut().filter(|unit| unit.kind == Kind::Audio && unit.is_sequence_header()) {
        let mut payload = head.payload.to_vec();
        // The pre-skip (RFC 7845 §5.1): more packets than may be in the decoder.
        payload[15..17].fill(0xff);
        head.payload = payload.into();
    }
    let Some((_viewer, mut browser)) = playing(units, "") else { return };
    browser.wait_for(&hears_tone());
    assert_in_step(&mut browser, CANVAS);
}

/// Sound of which half a second is missing every two keeps in step with the picture.
fn assert_gaps_do_not_add_up(mut units: Vec<Unit>) {
    units.retain(|unit| unit.kind == Kind::Video || unit.timestamp < 1500);
    let Some((_viewer, mut browser)) = playing(units, "") else { return };
    browser.wait_for("punchcast.tiles.get(0).frames > 200");
    assert_in_step(&mut browser, CANVAS);
}

#[test]
fn gaps_in_opus_do_not_add_up() {
    assert_gaps_do_not_add_up(opus());
}

#[test]
fn gaps_in_aac_do_not_add_up() {
    assert_gaps_do_not_add_up(stream());
}

#[test]
fn aac_is_heard() {
    let Some((_viewer, mut browser)) = playing(stream(), "") else { return };
    assert_heard(&mut browser);
    assert_in_step(&mut browser, CANVAS);
}

/// By Media Source Extensions, whose sound has an element of its own.
fn assert_heard_without_webcodecs(units: Vec<Unit>) {
    let Some((_viewer, mut browser)) = playing(units, NO_WEBCODECS) else { return };
    browser.wait_for("punchcast.tiles.get(0).sound.name === 'mse'");
    browser.evaluate(
        "listenTo((() => { const context = new AudioContext(); \
         const node = context.createMediaElementSource(punchcast.tiles.get(0).sound.element); \
         AudioNode.prototype.connect.call(node, context.destination); return node; })())",
    );
    assert_heard(&mut browser);
    assert_in_step(&mut browser, VIDEO);
    let lag = format!(
        "(({{buffered, currentTime}}) => buffered.end(buffered.length - 1) - currentTime)\
                       (document.querySelector('{VIDEO}'))"
    );
    browser.wait_for(&format!("{lag} < 0.5"));
}

#[test]
fn opus_is_heard_without_webcodecs() {
    assert_heard_without_webcodecs(opus());
}

#[test]
fn aac_is_heard_without_webcodecs() {
    assert_heard_without_webcodecs(stream());
}

#[test]
fn sound_that_ends_or_cannot_be_played_leaves_the_picture_alone() {
    let mut units = opus();
    // The last second of the loop is silent: no packets.
    units.retain(|unit| unit.kind == Kind::Video || unit.timestamp < 1000);
    let Some((viewer, mut browser)) = playing(units, NO_WEBCODECS) else { return };
    for _ in 0..2 {
        let before = number(&mut browser, "punchcast.tiles.get(0).frames");
        browser.wait_for(&format!("punchcast.tiles.get(0).frames > {before} + 60"));
    }
    browser.wait_for("document.querySelector('[data-is=rate]').textContent.replace(' fps', '') >= 25");
    drop(viewer);

    let deaf = "const takes = MediaSource.isTypeSupported; MediaSource.isTypeSupported = (type) => \
                !type.startsWith('audio/') && takes.call(MediaSource, type); delete globalThis.AudioDecoder;";
    let Some(program) = program() else { return };
    let viewer = Viewer::start("127.0.0.1:0".parse().unwrap(), TICKET);
    browser = Chromium::start(&program, &scratch(), (1280, 720));
    browser.prelude(deaf);
    browser.open(&format!("http://{}/", viewer.local));
    viewer.cue(Cue::Status(live()));
    viewer.cue(Cue::Play(0, opus()));
    browser.wait_for("punchcast.tiles.get(0).frames > 10");
    browser.wait_for(
        "document.querySelector('.silent').textContent.startsWith('No sound: this browser plays no Opus')",
    );
    assert_eq!(browser.evaluate("document.querySelector('.sound').hidden"), Value::Bool(true));
    keep_screenshot(&mut browser, "no-sound");
}
