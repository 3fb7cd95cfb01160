//! What ends before its time: a disk that is full, a reader that goes, a source that was cut. It is told, and what there
//! is stays whole.

use crate::lab::binary;
use crate::program::Program;
use crate::scene::{END, LINK, START, text};
use crate::tool::{self, Scratch, have, probe};
use punchcast::media::flv;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// The largest file that a viewer may write here, in blocks of 512 bytes: some pictures of noise.
const BLOCKS: u64 = 1000;

/// How often what a program says is looked at.
const GLANCE: Duration = Duration::from_millis(5);

/// Starts a viewer whose files may not grow beyond [`BLOCKS`], which a full disk looks like: the write is cut short, and
/// the next one fails.
fn confined(args: &[&OsStr]) -> Program {
    let script = format!("trap '' XFSZ; ulimit -f {BLOCKS}; exec \"$@\"");
    let mut command = Command::new("sh");
    command.args(["-c", &script, "sh"]).arg(binary("punchcast"));
    let plain = ["view", "--json", "--no-port-mapping", "--page", "none"];
    Program::start("viewer", command.args(plain).args(args))
}

fn cast(ticket: &str, source: &str) -> Program {
    let mut command = Command::new(binary("punchcast"));
    let args = ["cast", ticket, "--json", "--no-port-mapping", "--source", source];
    Program::start("caster", command.args(args))
}

/// Waits until a program has said a line on standard error in which all of these words are.
fn await_talk(program: &Program, words: &[&str]) {
    let until = Instant::now() + LINK;
    while !program.talk().iter().any(|line| words.iter().all(|word| line.contains(word))) {
        assert!(Instant::now() < until, "nobody says {words:?}{}", program.report());
        thread::sleep(GLANCE);
    }
}

fn assert_whole_tags(path: &Path) {
    let bytes = fs::read(path).expect("it is there");
    let size = bytes.len() as u64;
    assert!((BLOCKS * 256..=BLOCKS * 512).contains(&size), "{} has {size} bytes", path.display());
    let mut reader = flv::Reader::new();
    reader.push(&bytes);
    while reader.next().expect("FLV").is_some() {}
    assert!(!reader.truncated(), "{} ends within a tag", path.display());
    let probed = probe(["-count_packets".as_ref(), "-show_streams".as_ref(), path.as_os_str()]);
    assert!(probed.contains("h264"), "{probed}");
}

#[test]
fn a_disk_that_is_full_leaves_whole_files_and_the_picture() {
    if !have(&["ffprobe"]) {
        return;
    }
    let scratch = Scratch::new();
    let (record, live) = (scratch.file("record.flv"), scratch.file("live.flv"));
    let files = ["--record".as_ref(), record.as_os_str(), "--flv".as_ref(), live.as_os_str()];
    let mut viewer = confined(&files);
    let ticket = text(&viewer.event("ready", START), "ticket");
    let mut caster = cast(&ticket, "noise");
    await_talk(&viewer, &["the recording ends here", "record.flv: ", "the picture goes on"]);
    await_talk(&viewer, &["live.flv takes no more", "the picture goes on"]);
    viewer.pass_by();
    assert!(viewer.event("stats", LINK)["frames"].as_u64() > Some(0), "{}", viewer.report());
    caster.terminate();
    caster.succeeds(END);
    viewer.event("cast-end", LINK);
    viewer.terminate();
    assert_eq!(viewer.end(END).code(), Some(1), "{}", viewer.report());
    let sinks: Vec<String> = viewer.events("sink-failed").iter().map(|failed| text(failed, "sink")).collect();
    assert_eq!(sinks, ["record", "flv"], "{}", viewer.report());
    let ends = viewer.events("end");
    assert!(matches!(&ends[..], [end] if end["ok"] == false), "the code says so, too: {ends:?}");
    for file in [&record, &live] {
        assert_whole_tags(file);
    }
}

#[test]
fn a_reader_that_closes_standard_output_is_told_of_and_ends_with_a_failure() {
    for (option, words) in
        [("--record", "the recording ends here"), ("--flv", "standard output takes no more")]
    {
        let mut command = Command::new("sh");
        // `head` has its fill with the first pictures. The shell tells the viewer's code.
        let script = "{ \"$@\"; echo $? >&3; } | head -c 100 >/dev/null";
        command.args(["-c", &format!("exec 3>&1; {script}"), "sh"]).arg(binary("punchcast"));
        command.args(["view", "--no-port-mapping", "--page", "none", "--once", option, "-"]);
        let mut viewer = Program::start("viewer", &mut command);
        await_talk(&viewer, &["punchcast cast '"]);
        let shown = viewer.talk();
        let ticket = shown.iter().find_map(|line| line.split('\'').nth(1)).expect("a ticket");
        let mut caster = cast(ticket, "pattern");
        await_talk(&viewer, &[words, "the picture goes on"]);
        caster.terminate();
        caster.succeeds(END);
        viewer.line(END, |line| line == "1");
        await_talk(&viewer, &["incomplete", "roken pipe"]);
    }
}

#[test]
fn events_that_nobody_reads_any_more_end_the_program_though_nothing_happens() {
    for command in
        ["view --json --no-port-mapping --page none", "cast --json --serve 127.0.0.1:0 --rtmp 127.0.0.1:0"]
    {
        let mut shell = Command::new("sh");
        // `head` has its fill with `ready`, and nothing follows that. The shell tells the program's code.
        let script = format!("exec 3>&1; {{ \"$0\" {command}; echo $? >&3; }} | head -1");
        let mut program = Program::start("shell", shell.args(["-c", &script]).arg(binary("punchcast")));
        program.event("ready", START);
        program.line(END, |line| line == "0");
        program.succeeds(END);
    }
}

#[test]
fn results_that_cannot_be_written_are_a_failure_with_its_reason() {
    for args in [&["--version"][..], &["view", "--json", "--no-port-mapping", "--page", "none"]] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
        let mut command = Command::new(binary("punchcast"));
        let output = command.args(args).stdout(full).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
        assert!(said.contains("standard output takes no more"), "{args:?}: {said}");
    }
}

#[test]
fn a_source_that_was_cut_is_told_with_the_place() {
    if !have(&["ffmpeg"]) {
        return;
    }
    let scratch = Scratch::new();
    let (whole, cut, bare) = (scratch.file("whole.flv"), scratch.file("cut.flv"), scratch.file("bare.flv"));
    tool::make_source(&whole, 2);
    let bytes = fs::read(&whole).expect("just made");
    fs::write(&cut, &bytes[..bytes.len() / 2]).expect("a scratch file can be written");
    fs::write(&bare, flv::Writer::new(false, true).header()).expect("a scratch file can be written");
    let mut command = Command::new(binary("punchcast"));
    let args = ["view", "--json", "--no-port-mapping", "--page", "none"];
    let mut viewer = Program::start("viewer", command.args(args));
    let ticket = text(&viewer.event("ready", START), "ticket");
    let told = format!("was cut inside a tag, at byte {}", bytes.len() / 2);
    let nothing = "there is no picture in it";
    for (file, is_piped, code, words) in [
        (&cut, false, 0, &told[..]),
        (&cut, true, 0, &told),
        (&bare, false, 1, nothing),
        (&bare, true, 1, nothing),
    ] {
        let mut command = Command::new(binary("punchcast"));
        command.args(["cast", &ticket, "--no-port-mapping", "--source"]);
        let input: Stdio =
            if is_piped { fs::File::open(file).expect("it is there").into() } else { Stdio::null() };
        command.arg(if is_piped { "-".as_ref() } else { file.as_os_str() });
        let mut caster = Program::fed("caster", &mut command, input);
        assert_eq!(caster.end(END).code(), Some(code), "{}", caster.report());
        await_talk(&caster, &[words]);
    }
    viewer.terminate();
    viewer.succeeds(END);
}
