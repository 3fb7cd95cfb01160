//! VLC, as a player that dials: what it has taken in is looked at and listened to.

use crate::mpv::{cast, make_bars};
use crate::scene::END;
use crate::tool::{self, Scratch, finish, have, least_likeness, tell, tone_share};
use std::fs;
use std::process::Command;

/// How long VLC plays, in seconds.
const PLAYED: u32 = 3;

/// The user that VLC is run as by root, as whom it does not run.
const NOBODY: &str = "65534";

/// A VLC without screen, loudspeaker and settings.
fn vlc() -> Command {
    let root = finish(Command::new("id").arg("-u")) == b"0\n";
    let mut command = Command::new("timeout");
    command.args(["60", "env", "-u", "DISPLAY", "HOME=/nonexistent"]);
    if root {
        command.args(["setpriv", "--reuid", NOBODY, "--clear-groups"]);
    }
    command.args(["vlc", "--intf", "dummy", "--quiet", "--no-dbus", "--aout", "adummy"]);
    command
}

#[test]
fn vlc_plays_from_the_viewers_port_and_from_the_casters() {
    if !have(&["ffmpeg", "vlc"]) {
        return;
    }
    let scratch = Scratch::new();
    let [source, still] = ["bars.flv", "still.png"].map(|name| scratch.file(name));
    make_bars(&source, &still, "60");
    let (_daemon, mut viewer, mut caster, urls) = cast(&source, &[]);
    for (url, name) in urls.iter().zip(["viewer", "caster"]) {
        let played = scratch.file(name).with_extension("mkv");
        let mut command = vlc();
        command.args(["--run-time", &PLAYED.to_string(), "--sout", "#std{access=file,mux=mkv,dst=-}"]);
        fs::write(&played, finish(command.args([url, "vlc://quit"]))).expect("room for seconds of bars");
        let likeness = least_likeness(&played, &still, "640:360:0:0");
        let (pictures, tone) = (tool::packets(&played, "v").len(), tone_share(&played));
        tell(&format!(
            "{url}: {pictures} pictures, like theirs to {likeness}, {tone} of the sound is the tone"
        ));
        assert!(likeness > 0.95, "{url}: a picture is like it to {likeness} only");
        assert!(tone > 0.9, "{url}: {tone} of the sound is the tone");
        assert!(pictures >= 2 * 25, "{url}: {pictures} pictures in {PLAYED} s");
    }
    caster.terminate();
    caster.succeeds(END);
    viewer.terminate();
    viewer.succeeds(END);
}
