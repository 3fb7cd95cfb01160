//! How soon ffprobe, with nothing set, knows a stream that has no sound: ffplay and ffmpeg open it the same way.

use crate::lab::binary;
use crate::program::Program;
use crate::scene::{END, LINK, START, text};
use crate::tool::{self, Scratch, have, judge};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// How soon, on a machine that is busy. libavformat takes 5 s at least where it is not helped, and for ever where nothing
/// moves.
const SOON: Duration = Duration::from_secs(4);

/// A cast, and where players find it.
struct Cast {
    viewer: Program,
    caster: Program,
    urls: [String; 3],
}

impl Cast {
    fn start(source: &str, display: Option<&str>) -> Self {
        let mut command = Command::new(binary("punchcast"));
        command.args(["view", "--json", "--no-port-mapping", "--rtmp", "127.0.0.1:0"]);
        let mut viewer = Program::start("viewer", &mut command);
        let ready = viewer.event("ready", START);
        let mut command = Command::new(binary("punchcast"));
        command.args(["cast", &text(&ready, "ticket"), "--json", "--no-port-mapping"]);
        command.args(["--source", source, "--serve", "127.0.0.1:0"]);
        command.envs(display.map(|display| ("DISPLAY", display)));
        let mut caster = Program::start("caster", &mut command);
        let served = text(&caster.event("ready", START), "rtmp_url");
        viewer.event("first-frame", LINK);
        let played = text(&ready, "rtmp");
        let page = text(&ready, "page");
        let flv = format!("{}/live.flv", page.trim_end_matches('/'));
        Self { viewer, caster, urls: [played, flv, served] }
    }

    /// Holds every way to the picture to be known soon, to be of that size, and to have about the 30 pictures a second that it
    /// has, whatever players are told: a busy machine takes some of a screen late.
    fn assert_known_soon(&self, size: &str) {
        for url in &self.urls {
            let began = Instant::now();
            let mut command = Command::new("timeout");
            command.args(["30", "ffprobe", "-hide_banner", "-v", "error", "-of", "csv=p=0"]);
            command.args(["-show_entries", "stream=width,height,r_frame_rate", url]);
            let found = String::from_utf8(tool::finish(&mut command)).expect("ffprobe writes text");
            let took = began.elapsed();
            tool::tell(&format!("{} ms for {url}", took.as_millis()));
            let (found, rate) = found.trim().rsplit_once(',').expect("a size and a rate");
            assert_eq!(found, size, "{url}");
            let (pictures, seconds) = rate.split_once('/').expect("a fraction");
            let [pictures, seconds] = [pictures, seconds].map(|part| part.parse::<f64>().expect("a number"));
            assert!((25.0..=35.0).contains(&(pictures / seconds)), "{rate} for {url}");
            assert!(took < SOON, "{took:?} for {url}");
        }
    }

    fn end(mut self) {
        self.caster.terminate();
        self.caster.succeeds(END);
        self.viewer.terminate();
        self.viewer.succeeds(END);
    }
}

#[test]
fn a_picture_without_sound_opens_as_soon_as_one_with_it() {
    if !have(&["ffprobe"]) {
        return;
    }
    let cast = Cast::start("pattern", None);
    cast.assert_known_soon("1280,720");
    cast.end();
}

#[test]
fn a_screen_on_which_nothing_moves_opens_for_whoever_comes() {
    if !have(&["Xvfb", "ffprobe"]) {
        return;
    }
    let (_server, display) = tool::display();
    let mut cast = Cast::start("screen", Some(&display));
    // What is shown once at the beginning is over.
    while cast.caster.event("stats", LINK)["frames"].as_u64() > Some(1) {}
    cast.assert_known_soon("640,360");
    cast.end();
}

#[test]
fn a_recording_keeps_the_frame_rate_that_players_are_not_told() {
    if !have(&["ffprobe"]) {
        return;
    }
    let scratch = Scratch::new();
    let files = [scratch.file("linked.flv"), scratch.file("dialled.flv")];
    let recorder = |file: &Path, how: &[&str]| {
        let mut command = Command::new(binary("punchcast"));
        command.args(["view", "--json", "--no-port-mapping", "--page", "none", "--once"]).args(how);
        Program::start("viewer", command.arg("--record").arg(file))
    };
    let mut linked = recorder(&files[0], &[]);
    let ticket = text(&linked.event("ready", START), "ticket");
    let mut command = Command::new(binary("punchcast"));
    command.args(["cast", &ticket, "--json", "--no-port-mapping", "--source", "pattern", "--duration", "4"]);
    let mut caster = Program::start("caster", command.args(["--serve", "127.0.0.1:0"]));
    let served = text(&caster.event("ready", START), "rtmp_url");
    // Who dials is told what players are.
    let mut dialled = recorder(&files[1], &["--dial", &served]);
    dialled.event("first-frame", LINK);
    caster.succeeds(LINK);
    for viewer in [&mut linked, &mut dialled] {
        viewer.succeeds(END);
    }
    for file in files {
        assert_eq!(average_rate(&file), "30/1", "{}", file.display());
    }
}

fn average_rate(file: &Path) -> String {
    judge(["-i".as_ref(), file.as_os_str(), "-f".as_ref(), "null".as_ref(), "-".as_ref()]);
    let args = ["-show_entries", "stream=avg_frame_rate"].map(AsRef::as_ref);
    tool::probe(args.into_iter().chain([file.as_os_str()])).trim().to_owned()
}
