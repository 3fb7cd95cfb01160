//! Several casts on one page, the hands on it, and what it tells in numbers.

use super::viewer::{Cue, Notice, Viewer, present};
use super::{
    CANVAS, LEFT, PATIENCE, TICKET, assert_left_half, assert_screen_colour, cast, keep_screenshot, live,
    live_with, program, scratch, stream, stream_of,
};
use crate::browser::chromium::Chromium;
use punchcast::media::{Kind, Unit};
use punchcast_client::page::{CastStatus, Phase, Status, Step, StepState};

/// The second cast's colour.
const OTHER: [i32; 3] = [30, 120, 200];
const SECOND: &str = ".tile[data-place=\"1\"] canvas.picture";

/// A page with two casts that are seen.
fn two() -> Option<(Viewer, Chromium)> {
    let program = program()?;
    let viewer = Viewer::start("127.0.0.1:0".parse().unwrap(), TICKET);
    let mut browser = Chromium::start(&program, &scratch(), (1280, 720));
    browser.appear(1280, 720, "dark");
    browser.open(&format!("http://{}/", viewer.local));
    browser.wait_for("document.body.dataset.socket === 'up'");
    viewer.cue(Cue::Status(live_with(vec![cast(0), cast(1)])));
    viewer.cue(Cue::Play(0, stream()));
    viewer.cue(Cue::Play(1, stream_of(OTHER)));
    browser.wait_for("punchcast.tiles.get(0).frames > 10 && punchcast.tiles.get(1).frames > 10");
    Some((viewer, browser))
}

/// Presses a key.
fn press(browser: &mut Chromium, key: &str) {
    let script = format!("dispatchEvent(new KeyboardEvent('keydown', {{key: '{key}', bubbles: true}}))");
    browser.evaluate(&script);
}

fn visible(browser: &mut Chromium, selector: &str) -> bool {
    browser.evaluate(&format!("document.querySelector('{selector}').checkVisibility()")) == true
}

#[test]
fn two_casts_share_the_page() {
    let Some((viewer, mut browser)) = two() else { return };
    assert_left_half(&mut browser, CANVAS, LEFT);
    assert_left_half(&mut browser, SECOND, OTHER);
    let shot = keep_screenshot(&mut browser, "grid");
    assert_screen_colour(&shot, (160, 330), LEFT);
    assert_screen_colour(&shot, (800, 330), OTHER);

    browser.appear(390, 844, "dark");
    let shot = keep_screenshot(&mut browser, "grid-phone");
    assert_screen_colour(&shot, (90, 200), LEFT);
    assert_screen_colour(&shot, (90, 620), OTHER);
    browser.appear(1280, 720, "dark");

    viewer.cue(Cue::Status(live_with(vec![cast(0), CastStatus { plain: true, ..cast(1) }])));
    browser.wait_for("document.querySelector('[data-place=\"1\"] .plain').checkVisibility()");
    assert!(!visible(&mut browser, "[data-place=\"0\"] .plain"), "a link is encrypted");
    keep_screenshot(&mut browser, "grid-plain");

    viewer.cue(Cue::Gone(1));
    viewer.cue(Cue::Status(live()));
    browser.wait_for("punchcast.tiles.size === 1");
    let shot = browser.screenshot();
    assert_screen_colour(&shot, (320, 300), LEFT);
}

#[test]
fn what_becomes_of_a_cast_is_told_though_its_picture_cannot_be_shown() {
    let Some((viewer, mut browser)) = two() else { return };
    let hevc = Unit { kind: Kind::Video, timestamp: 0, payload: b"\x90hvc1\x01\x02".as_slice().into() };
    viewer.cue(Cue::Play(1, vec![hevc]));
    browser.wait_for("document.querySelector('[data-place=\"1\"]').dataset.trouble?.includes('H.264')");
    viewer.cue(Cue::Status(live_with(vec![cast(0), CastStatus { rtt_ms: Some(98.7), ..cast(1) }])));
    browser.wait_for("document.querySelector('[data-place=\"1\"] [data-is=rtt]').textContent === '98.7 ms'");
}

#[test]
fn one_cast_that_is_lost_leaves_the_other_alone() {
    let Some((viewer, mut browser)) = two() else { return };
    viewer.cue(Cue::Stop(1));
    let mut lost = cast(1);
    (lost.phase, lost.message) =
        (Phase::Lost, "the link was lost; waiting for the caster to come back".into());
    viewer.cue(Cue::Status(live_with(vec![cast(0), lost])));
    browser.wait_for("document.querySelector('[data-place=\"1\"] .veil').checkVisibility()");
    assert!(!visible(&mut browser, "[data-place=\"0\"] .veil"));
    assert_eq!(browser.evaluate("document.body.dataset.lobby"), "off");
    let before = browser.evaluate("punchcast.tiles.get(0).frames").as_u64().expect("a count");
    browser.wait_for(&format!("punchcast.tiles.get(0).frames > {before} + 10"));
    keep_screenshot(&mut browser, "grid-lost");
}

#[test]
fn the_page_is_worked_from_the_keyboard() {
    let Some((_viewer, mut browser)) = two() else { return };
    press(&mut browser, "2");
    assert!(!visible(&mut browser, "[data-place=\"0\"]"), "the second stands alone");
    let shot = browser.screenshot();
    assert_screen_colour(&shot, (320, 300), OTHER);
    press(&mut browser, "Escape");
    assert!(visible(&mut browser, "[data-place=\"0\"]"));
    press(&mut browser, "7");
    assert!(visible(&mut browser, "[data-place=\"0\"]"), "there is no seventh");

    press(&mut browser, "1");
    press(&mut browser, "m");
    browser.wait_for("punchcast.tiles.get(0).volume === 0.8");
    assert_eq!(browser.evaluate("punchcast.tiles.get(1).volume"), 0);
    press(&mut browser, "ArrowDown");
    press(&mut browser, "ArrowDown");
    browser.wait_for("Math.abs(punchcast.tiles.get(0).volume - 0.7) < 0.01");
    press(&mut browser, "m");
    browser.wait_for("punchcast.tiles.get(0).volume === 0");

    press(&mut browser, "s");
    assert_eq!(browser.evaluate("punchcast.tiles.get(0).root.hasAttribute('data-stats')"), true);
    press(&mut browser, "t");
    assert!(visible(&mut browser, "#ticket"));
    press(&mut browser, "Escape");
    assert!(!visible(&mut browser, "#ticket"));
    browser.evaluate(
        "document.documentElement.requestFullscreen = async function () { globalThis.full = true; }",
    );
    press(&mut browser, "f");
    assert_eq!(browser.evaluate("globalThis.full"), true);
}

#[test]
fn the_last_minute_is_plotted() {
    let Some((_viewer, mut browser)) = two() else { return };
    press(&mut browser, "1");
    browser.wait_for("punchcast.tiles.get(0).samples >= 4");
    // Points of the plot's own colours, age and bitrate; nothing was left out.
    let colours = "(() => { const plot = document.querySelector('.plot'); \
        const {data} = plot.getContext('2d').getImageData(0, 0, plot.width, plot.height); \
        const count = [0, 0]; \
        for (let at = 0; at < data.length; at += 4) { \
        if (data[at] < 80 && data[at + 1] > 180 && data[at + 2] < 190 && data[at + 3] > 200) count[0] += 1; \
        if (data[at] < 140 && data[at + 2] > 230 && data[at + 3] > 200) count[1] += 1; } return count; })()";
    let counts = browser.evaluate(colours);
    assert!(counts[0].as_u64() > Some(5) && counts[1].as_u64() > Some(5), "{counts}");
    let age = browser.evaluate("document.querySelector('[data-is=age]').textContent");
    let age = age.as_str().expect("text");
    let figure: f64 = age.split(' ').next().and_then(|number| number.parse().ok()).expect(age);
    assert!(figure >= 12.0, "what the viewer measured and what the page adds: {age}");
    assert_eq!(browser.evaluate("document.querySelector('[data-is=bits]').textContent"), "2.35 Mbit/s");
    keep_screenshot(&mut browser, "live-plot");
}

#[test]
fn a_phone_has_no_sideways_scrolling() {
    let Some((_viewer, mut browser)) = two() else { return };
    browser.appear(360, 740, "light");
    let fits = "document.documentElement.scrollWidth <= 360 && [...document.querySelectorAll('.hud button')] \
        .filter((part) => part.checkVisibility()).every((part) => part.getBoundingClientRect().right <= 360)";
    assert_eq!(browser.evaluate(fits), true, "the grid");
    press(&mut browser, "1");
    assert_eq!(browser.evaluate(fits), true, "one cast");
    press(&mut browser, "t");
    assert_eq!(browser.evaluate(fits), true, "the ticket");
    keep_screenshot(&mut browser, "phone-ticket");
}

#[test]
fn while_it_waits_the_page_tells_how_far_the_link_has_come() {
    let Some(program) = program() else { return };
    let viewer = Viewer::start("127.0.0.1:0".parse().unwrap(), TICKET);
    let mut browser = Chromium::start(&program, &scratch(), (1280, 720));
    browser.appear(1280, 720, "light");
    browser.open(&format!("http://{}/", viewer.local));
    let step = |state, text: &str| Step { state, text: text.to_owned() };
    viewer.cue(Cue::Status(Status {
        phase: Phase::Connecting,
        message: "a caster was introduced; making the link".into(),
        steps: vec![
            step(StepState::Done, "logged in at the daemon"),
            step(StepState::Done, "a caster was introduced"),
            step(StepState::Now, "trying punched: 203.0.113.80:61744"),
            step(StepState::Failed, "the daemon relays nothing: it does not relay this link"),
        ],
        ..Status::default()
    }));
    browser.wait_for("document.querySelectorAll('#steps li').length === 4");
    assert_eq!(
        browser.evaluate("document.querySelector('#steps [data-state=now]').textContent"),
        "Trying punched: 203.0.113.80:61744"
    );
    keep_screenshot(&mut browser, "connecting");
}

#[test]
fn each_starved_decoder_asks_for_a_key_frame_of_its_own_cast() {
    let Some((viewer, mut browser)) = two() else { return };
    let asked: Vec<Notice> = viewer.notices.try_iter().collect();
    assert!(asked.is_empty(), "nobody starves: {asked:?}");
    browser.evaluate(
        "(() => { const decode = VideoDecoder.prototype.decode; let left = 1; \
         VideoDecoder.prototype.decode = function (chunk) { \
         if (chunk.type === 'delta' && globalThis.poison === undefined) globalThis.poison = this; \
         if (globalThis.poison === this && left > 0) { left -= 1; throw new Error('starved'); } \
         return decode.call(this, chunk); }; })()",
    );
    let left = (present() + PATIENCE).saturating_duration_since(present());
    let first = viewer.notices.recv_timeout(left).expect("a key frame is asked for");
    let Notice::KeyframeWanted(place) = first else { panic!("{first:?}") };
    let skipped = browser.evaluate("[0, 1].map((place) => punchcast.tiles.get(place).skipped > 0).join()");
    assert_eq!(skipped, if place == 0 { "true,false" } else { "false,true" });
    let before = browser.evaluate(&format!("punchcast.tiles.get({place}).frames")).as_u64().expect("a count");
    browser.wait_for(&format!("punchcast.tiles.get({place}).frames > {before} + 10"));
}

#[test]
fn a_decoder_that_never_catches_up_with_the_group_under_way_asks_for_a_key_frame() {
    let Some(program) = program() else { return };
    let viewer = Viewer::start("127.0.0.1:0".parse().unwrap(), TICKET);
    let mut browser = Chromium::start(&program, &scratch(), (1280, 720));
    browser.prelude("Object.defineProperty(VideoDecoder.prototype, 'decodeQueueSize', {get: () => 9});");
    viewer.cue(Cue::Status(live()));
    viewer.cue(Cue::Play(0, stream()));
    browser.open(&format!("http://{}/", viewer.local));
    browser.wait_for("punchcast.tiles.get(0).skipped > 0");
    let asked = viewer.notices.recv_timeout(PATIENCE).expect("a key frame is asked for");
    assert!(matches!(asked, Notice::KeyframeWanted(0)), "{asked:?}");
    // Meanwhile the screen does not stand still.
    browser.wait_for("punchcast.tiles.get(0).frames > 10");
}
