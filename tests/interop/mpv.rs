//! mpv, as a player that reads its standard input and as one that dials: what it has decoded is looked at.

use crate::home::daemon;
use crate::lab::binary;
use crate::program::Program;
use crate::scene::{END, LINK, START, text};
use crate::tool::{self, CODECS, ONE_PICTURE, RATE, SIZE, Scratch, TONE, have, judge, least_likeness};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Pictures that are played by a player that is to end by itself.
const PICTURES: usize = 40;

/// How long such a player may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Makes an FLV file of colour bars and a tone, a keyframe each second, and a still of it.
pub(crate) fn make_bars(path: &Path, still: &Path, seconds: &str) {
    let bars = format!("smptebars=s={SIZE}:r={RATE}");
    let inputs = ["-f", "lavfi", "-i", &bars, "-f", "lavfi", "-i", TONE, "-t", seconds];
    let args = inputs.into_iter().chain(CODECS).chain(["-g", RATE, "-f", "flv"]);
    judge(args.map(OsStr::new).chain([path.as_os_str()]));
    let args = [OsStr::new("-i"), path.as_os_str()].into_iter().chain(ONE_PICTURE.map(OsStr::new));
    judge(args.chain([still.as_os_str()]));
}

/// How mpv is to play without screen and loudspeaker: each picture that it decodes is a file in `folder`, however long that
/// takes.
fn headless(folder: &Path) -> [String; 5] {
    let folder = format!("--vo-image-outdir={}", folder.display());
    let [no_config, no_sound] = ["--no-config", "--ao=null"].map(str::to_owned);
    [no_config, no_sound, "--framedrop=no".into(), "--vo=image".into(), folder]
}

/// How many pictures mpv has shown; all of them look like `still`.
fn shown(folder: &Path, still: &Path) -> usize {
    let (images, film) = (folder.join("%08d.jpg"), folder.with_extension("mkv"));
    let mut command = Command::new("ffmpeg");
    // JPEG has another range of brightness than films, of which ffmpeg warns.
    command.args(["-nostdin", "-v", "error", "-i"]).arg(images);
    command.args(["-vf", "scale=out_range=tv", "-pix_fmt", "yuv420p", "-c:v", "ffv1"]).arg(&film);
    tool::finish(&mut command);
    let likeness = least_likeness(&film, still, "640:360:0:0");
    assert!(likeness > 0.95, "{}: a picture is like it to {likeness} only", folder.display());
    fs::read_dir(folder).expect("mpv makes it").count()
}

/// A viewer and a caster of `source` that are linked. The addresses for players at both.
pub(crate) fn cast(source: &Path, view: &[&str]) -> (Program, Program, Program, [String; 2]) {
    let (daemon, [server, assist]) = daemon();
    let mut command = Command::new(binary("punchcast"));
    command.args(["view", "--json", "--page", "none", "--rtmp", "127.0.0.1:0", "--server", &server]);
    let mut viewer = Program::start("viewer", command.args(["--assist", &assist]).args(view));
    let ready = viewer.event("ready", START);
    let mut command = Command::new(binary("punchcast"));
    command.args(["cast", &text(&ready, "ticket"), "--json", "--serve", "127.0.0.1:0", "--source"]);
    let mut caster = Program::start("caster", command.arg(source));
    let served = text(&caster.event("ready", START), "rtmp_url");
    viewer.event("first-frame", LINK);
    (daemon, viewer, caster, [text(&ready, "rtmp"), served])
}

#[test]
fn mpv_plays_what_the_viewer_writes_to_its_standard_input() {
    if !have(&["ffmpeg", "mpv"]) {
        return;
    }
    let scratch = Scratch::new();
    let [source, still, pictures] = ["bars.flv", "still.png", "pictures"].map(|name| scratch.file(name));
    make_bars(&source, &still, "3");
    let player = format!("mpv --really-quiet {} -", headless(&pictures).join(" "));
    let (_daemon, mut viewer, mut caster, _) = cast(&source, &["--player", &player]);
    caster.succeeds(PATIENCE);
    viewer.event("cast-end", END);
    viewer.terminate();
    viewer.succeeds(END);
    let shown = shown(&pictures, &still);
    tool::tell(&format!("{shown} pictures"));
    assert!(shown >= 70, "{shown} pictures of 75");
}

#[test]
fn mpv_plays_from_the_viewers_port_and_from_the_casters() {
    if !have(&["ffmpeg", "mpv"]) {
        return;
    }
    let scratch = Scratch::new();
    let [source, still] = ["bars.flv", "still.png"].map(|name| scratch.file(name));
    make_bars(&source, &still, "60");
    let (_daemon, mut viewer, mut caster, urls) = cast(&source, &[]);
    for (url, folder) in urls.iter().zip(["viewer", "caster"]) {
        let pictures: PathBuf = scratch.file(folder);
        let mut command = Command::new("mpv");
        command.args(headless(&pictures)).args(["--msg-level=all=error", &format!("--frames={PICTURES}")]);
        let mut player = Program::start("mpv", command.arg(url));
        player.succeeds(PATIENCE);
        assert!(player.talk().is_empty() && player.said().is_empty(), "{}", player.report());
        assert_eq!(shown(&pictures, &still), PICTURES, "{url}");
    }
    caster.terminate();
    caster.succeeds(END);
    viewer.terminate();
    viewer.succeeds(END);
}
