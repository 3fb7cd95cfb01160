//! The lab: `scripts/lab`, carried inside this program and run by bash.

use super::bash;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The one implementation of hosts and NATs; the tests run the same file.
const SCRIPT: &str = include_str!("../../../scripts/lab");

/// A public host, and two homes behind NATs that keep a mapping for every destination and let in only what was asked
/// for: what most homes have.
const TOPOLOGY: [&str; 3] = ["server:public", "viewer:nat=eim-apdf", "caster:nat=eim-apdf"];

/// By what right a lab can be laid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ground {
    /// This process may make namespaces.
    Root,
    /// An unprivileged user namespace may.
    Within,
}

/// Finds out; or says why no lab can be laid.
pub(super) fn ground(dir: &Path) -> Result<Ground, String> {
    let script = write_script(dir).map_err(|error| format!("cannot write the lab's script: {error}"))?;
    // A lab of one host needs every right that the whole one does.
    if ask(bash(&script).args(["up", "--name", &name("try"), "host:nat"])).is_ok() {
        ask(bash(&script).args(["down", "--name", &name("try")]))?;
        return Ok(Ground::Root);
    }
    // The lab inside goes with its user namespace.
    ask(inside(dir).arg("bash").arg(&script).args(["up", "host:nat"])).map(|_| Ground::Within)
}

/// A command that runs its arguments inside a user namespace where labs can be laid.
pub(super) fn inside(dir: &Path) -> Command {
    let mut command = bash(&script_path(dir));
    command.arg("inside");
    command
}

/// A lab that stands; dropping it ends every process in it and removes it.
#[derive(Debug)]
pub(super) struct Lab {
    script: PathBuf,
    name: String,
    /// The daemon's address.
    pub(super) server: Ipv4Addr,
    /// The address that the internet sees the viewer at.
    pub(super) viewer_outside: Ipv4Addr,
    /// And the caster.
    pub(super) caster_outside: Ipv4Addr,
}

impl Lab {
    /// Lays the lab. `ground` says nothing to the script, which is the same for both; it is the caller's proof of
    /// having looked.
    pub(super) fn up(dir: &Path, _ground: Ground) -> Result<Self, String> {
        let script = write_script(dir).map_err(|error| format!("cannot write the lab's script: {error}"))?;
        // Labs that killed demos left behind.
        let _ = ask(bash(&script).arg("sweep"));
        let name = name("demo");
        let owner = std::process::id().to_string();
        ask(bash(&script).args(["up", "--name", &name, "--owner", &owner]).args(TOPOLOGY))?;
        let unset = Ipv4Addr::UNSPECIFIED;
        let mut lab = Self { script, name, server: unset, viewer_outside: unset, caster_outside: unset };
        lab.server = lab.addr("server")?;
        lab.viewer_outside = lab.addr("viewer")?;
        lab.caster_outside = lab.addr("caster")?;
        Ok(lab)
    }

    /// A command that runs `program` on `host`, under the process id that spawning it returns.
    pub(super) fn command(&self, host: &str, program: impl AsRef<OsStr>) -> Command {
        let mut command = bash(&self.script);
        command.args(["exec", "--name", &self.name, host]).arg(program);
        command
    }

    fn addr(&self, host: &str) -> Result<Ipv4Addr, String> {
        let answer = ask(bash(&self.script).args(["addr", "--name", &self.name, "--public", host]))?;
        answer.trim().parse().map_err(|_| format!("the lab gave '{host}' no address"))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = ask(bash(&self.script).args(["down", "--name", &self.name]));
    }
}

fn script_path(dir: &Path) -> PathBuf {
    dir.join("lab")
}

fn write_script(dir: &Path) -> io::Result<PathBuf> {
    let path = script_path(dir);
    fs::write(&path, SCRIPT)?;
    Ok(path)
}

/// A lab's name, unique on this machine.
fn name(kind: &str) -> String {
    format!("{kind}{}", std::process::id())
}

/// Runs a command to its end; its standard output, or the last thing it complained of.
fn ask(command: &mut Command) -> Result<String, String> {
    let Output { status, stdout, stderr } =
        command.stdin(Stdio::null()).output().map_err(|error| format!("cannot run bash: {error}"))?;
    if status.success() {
        return Ok(String::from_utf8_lossy(&stdout).into_owned());
    }
    let talk = String::from_utf8_lossy(&stderr);
    let last = talk.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no reason given");
    Err(last.trim_start_matches("lab: ").to_owned())
}
