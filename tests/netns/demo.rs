//! The README's first command.

use crate::lab::{binary, permitted, skip};
use crate::program::Program;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A demo of three seconds, with what the machine's load adds.
const PATIENCE: Duration = Duration::from_secs(90);

/// A directory that everybody may use, gone with the test.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("punchcast-{name}-{}", std::process::id()));
        fs::create_dir(&path).expect("the temporary directory takes another");
        fs::set_permissions(&path, Permissions::from_mode(0o1777)).expect("it is ours");
        Self(path)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs a demo to its end; it must succeed by `rung` and keep a picture.
fn demo_succeeds(command: &mut Command, place: &Path, rung: &str) {
    let snapshot = place.join("snapshot.png");
    command.args(["--once", "--seconds", "3", "--snapshot"]).arg(&snapshot);
    let mut demo = Program::start("demo", command);
    demo.succeeds(PATIENCE);
    let found = demo.said().iter().any(|line| line.split_whitespace().eq(["rung", rung]));
    assert!(found, "not {rung}{}", demo.report());
    let file =
        fs::File::open(&snapshot).unwrap_or_else(|error| panic!("no snapshot: {error}{}", demo.report()));
    let picture = png::Decoder::new(std::io::BufReader::new(file)).read_info().expect("a PNG");
    assert!(picture.info().width >= 64 && picture.info().height >= 64, "{:?}", picture.info());
}

#[test]
fn the_demo_shows_a_punched_cast() {
    if !permitted() {
        return;
    }
    let place = Place::new("demo");
    demo_succeeds(Command::new(binary("punchcast")).arg("demo"), &place.0, "punched");
}

#[test]
fn the_demo_goes_over_loopback_when_asked() {
    let place = Place::new("loopback");
    demo_succeeds(Command::new(binary("punchcast")).args(["demo", "--loopback"]), &place.0, "lan");
}

/// A command that runs its arguments without any right over this machine. Root becomes nobody; others stay.
fn unprivileged() -> Command {
    let mut command;
    if fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0) {
        command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--"]);
    } else {
        command = Command::new("env");
    }
    command
}

#[test]
fn the_demo_needs_no_privileges_where_user_namespaces_are_permitted() {
    let place = Place::new("nobody");
    let may =
        unprivileged().args(["unshare", "--user", "--map-root-user", "--net", "--mount", "true"]).output();
    if !may.is_ok_and(|output| output.status.success()) {
        skip("an ordinary user may not make namespaces here");
        return;
    }
    // The build's directory may be out of nobody's reach.
    let programs = ["punchcast", "punchcastd"].map(|name| {
        let copy = place.0.join(name);
        fs::copy(binary(name), &copy).expect("programs can be copied");
        copy
    });

    demo_succeeds(unprivileged().arg(&programs[0]).arg("demo"), &place.0, "punched");
}
