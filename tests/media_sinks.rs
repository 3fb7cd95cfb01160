//! Recordings and snapshots, judged by ffmpeg and by reading them back.

mod media;

use media::{collect_pattern, ffmpeg_or_skip, ffprobe, frames, temp_dir};
use punchcast::media::{Content, Kind, Unit, avc, flv, metadata};
use punchcast_client::sink::{Begun, Existing, Recorder, Recording, Snapshot, SnapshotError};
use punchcast_client::source::{PatternConfig, frame_number};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

const SMALL: PatternConfig = PatternConfig {
    width: 320,
    height: 180,
    fps: 100,
    bitrate: 500_000,
    keyframe_interval: Duration::from_millis(500),
    noise: false,
};

fn record(path: &Path, streams: &[&[Unit]]) -> Recording {
    let mut recorder = Recorder::create(path, Existing::Keep, drop).unwrap();
    for (index, stream) in streams.iter().enumerate() {
        if index > 0 {
            recorder.next_stream();
        }
        for unit in *stream {
            assert!(recorder.write(unit));
        }
    }
    recorder.finish().unwrap()
}

fn read(file: &[u8]) -> Vec<Unit> {
    let mut reader = flv::Reader::new();
    reader.push(file);
    std::iter::from_fn(|| reader.next().unwrap()).collect()
}

fn silence(timestamp: u32, header: bool) -> Unit {
    let payload =
        if header { vec![0xaf, 0, 0x11, 0x90] } else { vec![0xaf, 1, 0x21, 0x10, 0x04, 0x60, 0x8c, 0x1c] };
    Unit { kind: Kind::Audio, timestamp, payload: payload.into() }
}

fn assert_monotone(units: &[Unit]) {
    let timed: Vec<_> = units.iter().filter(|unit| !unit.is_metadata()).collect();
    assert!(timed.windows(2).all(|two| two[0].timestamp <= two[1].timestamp), "time goes back");
}

#[test]
fn a_recording_that_joins_late_begins_at_a_keyframe_with_its_headers_at_zero() {
    let path = temp_dir("join").join("late.flv");
    let mut units = collect_pattern(SMALL, 80);
    // The join: metadata and sequence header, then frames from the middle of a keyframe group.
    units.drain(2..30);
    let recording = record(&path, &[&units]);
    let written = read(&std::fs::read(&path).unwrap());
    assert_eq!(recording.tags, written.len() as u64);
    assert_eq!(recording.bytes, std::fs::metadata(&path).unwrap().len());
    assert_eq!(metadata::of_stream(written[0].clone()), units[0]);
    assert!(written[1].is_sequence_header());
    let numbers: Vec<_> = written.iter().filter_map(frame_number).collect();
    assert_eq!(numbers, (50..80).collect::<Vec<_>>());
    assert_eq!(written.iter().map(|unit| unit.timestamp).take(4).collect::<Vec<_>>(), [0, 0, 0, 10]);
}

#[test]
fn a_second_stream_goes_on_after_the_first_whatever_its_clock() {
    let path = temp_dir("second").join("second.flv");
    let first = collect_pattern(SMALL, 20);
    // The same source over a re-made link, joined in the middle; its clock began elsewhere, and wraps.
    let mut second = collect_pattern(SMALL, 70);
    second.drain(2..12);
    for unit in &mut second {
        unit.timestamp = unit.timestamp.wrapping_add(u32::MAX - 550);
    }
    record(&path, &[&first, &second]);
    let written = read(&std::fs::read(&path).unwrap());
    assert_monotone(&written);
    let numbers: Vec<_> = written.iter().filter_map(frame_number).collect();
    assert_eq!(numbers, (0..20).chain(50..70).collect::<Vec<_>>());
    let times: Vec<_> = frames(&written).iter().map(|unit| unit.timestamp).collect();
    assert_eq!((times[19], times[20], times[39]), (190, 230, 420), "a frame's pause, then at its own pace");
    assert_eq!(written.len(), 42, "headers that did not change are not repeated");
}

#[test]
fn a_clock_that_leaps_back_unannounced_is_another_stream() {
    let path = temp_dir("leap").join("leap.flv");
    let first = collect_pattern(SMALL, 60);
    let late: Vec<_> =
        first.iter().map(|unit| Unit { timestamp: unit.timestamp + 100_000, ..unit.clone() }).collect();
    record(&path, &[&[&late[..], &first[5..]].concat()]);
    let written = read(&std::fs::read(&path).unwrap());
    assert_monotone(&written);
    let numbers: Vec<_> = written.iter().filter_map(frame_number).collect();
    assert_eq!(numbers, (0..60).chain(50..60).collect::<Vec<_>>());
}

#[test]
fn sound_is_recorded_beside_the_picture_and_alone_and_the_header_tells() {
    let dir = temp_dir("sound");
    let picture = collect_pattern(SMALL, 10);
    // Sound that is announced after the picture began.
    let beside = [&picture[..], &[silence(100, true), silence(110, false)]].concat();
    record(&dir.join("beside.flv"), &[&beside]);
    let file = std::fs::read(dir.join("beside.flv")).unwrap();
    assert_eq!(file[4], 5, "audio and video");
    assert_eq!(read(&file).len(), beside.len());

    let mut alone = vec![silence(0, true)];
    alone.extend((0..150).map(|frame| silence(frame * 20, false)));
    record(&dir.join("alone.flv"), &[&alone]);
    let file = std::fs::read(dir.join("alone.flv")).unwrap();
    assert_eq!(file[4], 4, "audio");
    let written = read(&file);
    assert!(written[0].is_sequence_header());
    assert_eq!(written.len(), alone.len(), "what came while a picture was waited for is there");
    assert_eq!(written[150].timestamp, 2980);
}

#[test]
fn ffprobe_finds_no_fault_in_a_recording_wherever_it_was_cut() {
    let Some(()) = ffmpeg_or_skip("ffprobe_finds_no_fault_in_a_recording_wherever_it_was_cut") else {
        return;
    };
    let path = temp_dir("probe").join("whole.flv");
    let units = collect_pattern(PatternConfig::default(), 45);
    record(&path, &[&units[..32], &units]);
    let probe = ffprobe(&path);
    assert_eq!((probe.complaints.as_str(), probe.frames), ("", 75));
    assert_eq!(media::ffmpeg_decode(&path), "");

    let file = std::fs::read(&path).unwrap();
    let whole = read(&file);
    // As a crash leaves it: cut between two writes.
    let mut end = 13;
    let ends: Vec<usize> = whole
        .iter()
        .map(|unit| {
            end += 11 + unit.payload.len() + 4;
            end
        })
        .collect();
    for kept in [4, 10, 40, 60] {
        let cut = path.with_file_name(format!("cut-{kept}.flv"));
        std::fs::write(&cut, &file[..ends[kept - 1]]).unwrap();
        let probe = ffprobe(&cut);
        assert_eq!(probe.complaints, "", "after {kept} tags");
        assert_eq!(probe.frames, frames(&whole[..kept]).len() as u64, "after {kept} tags");
    }
    // As a full disk leaves it: cut within a tag. The frames before it are all there.
    let cut = path.with_file_name("cut-within.flv");
    std::fs::write(&cut, &file[..ends[39] + 100]).unwrap();
    let probe = ffprobe(&cut);
    println!("within a tag: {probe:?}");
    assert!(probe.frames >= frames(&whole[..40]).len() as u64, "{probe:?}");
}

/// What ffmpeg makes of its test picture and a tone with these encoders.
fn encoded(path: &Path, args: &[&str]) -> Vec<Unit> {
    let status = Command::new("ffmpeg")
        .args([
            "-v",
            "error",
            "-y",
            "-f",
            "lavfi",
            "-i",
            "testsrc2=r=25",
            "-f",
            "lavfi",
            "-i",
            "sine",
            "-t",
            "2",
        ])
        .args(["-g", "25", "-pix_fmt", "yuv420p"])
        .args(args)
        .arg(path)
        .status()
        .unwrap();
    assert!(status.success());
    read(&std::fs::read(path).unwrap())
}

const PLAIN: [&str; 6] = ["-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac"];
const SMALLER: [&str; 10] =
    ["-c:v", "libx264", "-preset", "medium", "-bf", "0", "-c:a", "aac", "-s", "160x120"];

/// How many pictures and sounds there are.
fn counts(units: &[Unit]) -> (usize, usize) {
    let is_coded = |unit: &&Unit| unit.packet().is_some_and(|packet| packet.content == Content::Frames);
    let count = |kind| units.iter().filter(is_coded).filter(|unit| unit.kind == kind).count();
    (count(Kind::Video), count(Kind::Audio))
}

/// Holds a file to be read and decoded without a complaint, and to have all of these streams but for the first sounds,
/// which come before the picture.
fn assert_clean(path: &Path, streams: &[&[Unit]]) {
    assert_eq!((ffprobe(path).complaints, media::ffmpeg_decode(path)), Default::default(), "{path:?}");
    let (pictures, sounds) = counts(&read(&std::fs::read(path).unwrap()));
    let given = streams.concat();
    assert_eq!(pictures, counts(&given).0, "{path:?}");
    let missing = counts(&given).1 - sounds;
    assert!(missing <= 3 * streams.len(), "{path:?}: {missing} sounds are missing");
}

/// Seconds, as ffprobe has a file's length.
fn length(path: &Path) -> f64 {
    let args = ["-v", "warning", "-show_entries", "format=duration", "-of", "csv=p=0"];
    let output = Command::new("ffprobe").args(args).arg(path).output().unwrap();
    assert_eq!(output.stderr, b"");
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

#[test]
fn a_recording_is_as_long_as_its_last_picture_stood() {
    let Some(()) = ffmpeg_or_skip("a_recording_is_as_long_as_its_last_picture_stood") else { return };
    let path = temp_dir("still").join("still.flv");
    let units = collect_pattern(SMALL, 150);
    let mut recorder = Recorder::create(&path, Existing::Keep, drop).unwrap();
    let mut stream = |stay| {
        recorder.next_stream();
        assert!(units.iter().all(|unit| recorder.write(unit)));
        assert!(recorder.end_stream(Duration::from_millis(stay)));
        // Once.
        assert!(recorder.end_stream(Duration::from_millis(stay)));
    };
    // The second goes on where the first one ended, and ends no later than it is told of.
    stream(6510);
    stream(80);
    stream(2510);
    recorder.finish().unwrap();
    assert_clean(&path, &[&units, &units, &units]);
    assert!((length(&path) - 13.57).abs() < 0.02, "{}", length(&path));
    let written = read(&std::fs::read(&path).unwrap());
    assert_monotone(&written);
    let pictures: Vec<_> = frames(&written).iter().map(|unit| unit.timestamp).collect();
    let marks = |unit: &&Unit| unit.packet().is_some_and(|packet| packet.content == Content::SequenceEnd);
    let ends: Vec<_> = written.iter().filter(marks).map(|unit| unit.timestamp).collect();
    assert_eq!((&ends[..], pictures.len()), (&[8000, 13570][..], 450));
    assert_eq!(&pictures[149..151], [1490, 8040]);

    // As a crash leaves it: the length is where it always is, and says nothing.
    let mut file = std::fs::read(&path).unwrap();
    let duration = file.windows(8).position(|bytes| bytes == 13.57_f64.to_be_bytes()).unwrap();
    file[duration..duration + 8].fill(0);
    std::fs::write(&path, file).unwrap();
    assert_clean(&path, &[&units, &units, &units]);
    assert!((length(&path) - 13.57).abs() < 0.02, "{}", length(&path));
}

#[test]
fn a_recording_has_its_own_length_and_not_its_publishers() {
    let Some(()) = ffmpeg_or_skip("a_recording_has_its_own_length_and_not_its_publishers") else { return };
    let dir = temp_dir("length");
    let file = encoded(&dir.join("file.flv"), &PLAIN);
    assert!((length(&dir.join("file.flv")) - 2.0).abs() < 0.1, "the publisher's own file");
    let half: Vec<_> = file.iter().take_while(|unit| unit.timestamp < 1000).cloned().collect();
    let path = dir.join("recording.flv");
    record(&path, &[&file, &half, &file]);
    let written = std::fs::read(&path).unwrap();
    let last = read(&written).iter().map(|unit| unit.timestamp).max().unwrap();
    assert!((4900..5200).contains(&last), "{last} ms");
    assert!((length(&path) - f64::from(last) / 1e3).abs() < 0.001);
    assert_clean(&path, &[&file, &half, &file]);

    // As a crash leaves it.
    let crashed = dir.join("crashed.flv");
    let told = (f64::from(last) / 1e3).to_be_bytes();
    let at = written.windows(8).position(|bytes| bytes == told).expect("it is told");
    std::fs::write(&crashed, [&written[..at], &[0; 8], &written[at + 8..]].concat()).unwrap();
    assert!((length(&crashed) - f64::from(last) / 1e3).abs() < 0.05);
    assert_clean(&crashed, &[&file, &half, &file]);
}

#[test]
fn a_stream_that_is_coded_in_another_way_begins_another_file() {
    let Some(()) = ffmpeg_or_skip("a_stream_that_is_coded_in_another_way_begins_another_file") else {
        return;
    };
    let dir = temp_dir("parts");
    let plain = encoded(&dir.join("plain.flv"), &PLAIN);
    let smaller = encoded(&dir.join("smaller.flv"), &SMALLER);
    let mono = encoded(&dir.join("mono.flv"), &[&PLAIN[..], &["-ac", "1", "-ar", "22050"]].concat());
    let silent = encoded(&dir.join("silent.flv"), &[&PLAIN[..], &["-an"]].concat());
    let old = encoded(&dir.join("old.flv"), &["-c:v", "flv1", "-c:a", "mp3", "-ar", "44100"]);
    // Sound that ends needs no other file, sound that begins does.
    let streams = [&silent, &plain, &plain, &smaller, &mono, &old, &old, &plain, &silent];
    let path = dir.join("film.flv");
    std::fs::write(dir.join("film-part3.flv"), "somebody else's").unwrap();
    let said = Arc::new(Mutex::new(Vec::new()));
    let hears = Arc::clone(&said);
    let tell = move |begun| hears.lock().unwrap().push(begun);
    let mut recorder = Recorder::create(&path, Existing::Keep, tell).unwrap();
    for stream in streams {
        recorder.next_stream();
        assert!(stream.iter().all(|unit| recorder.write(unit)));
    }
    let recording = recorder.finish().unwrap();

    let part = |number: u32| path.with_file_name(format!("film-part{number}.flv"));
    assert_clean(&path, &[&silent]);
    assert_clean(&part(2), &[&plain, &plain]);
    assert_eq!(std::fs::read(part(3)).unwrap(), b"somebody else's");
    assert_clean(&part(4), &[&smaller]);
    assert_clean(&part(5), &[&mono]);
    assert_clean(&part(6), &[&old, &old]);
    assert_clean(&part(7), &[&plain, &silent]);
    assert!(!part(8).exists());
    let begun = |number| Begun { file: if number == 1 { path.clone() } else { part(number) }, part: number };
    assert_eq!(*said.lock().unwrap(), [1, 2, 4, 5, 6, 7].map(begun));
    let words = begun(2).to_string();
    assert!(words.contains("goes on in ") && words.contains("film-part2.flv: "), "{words}");
    let files = [path.clone()].into_iter().chain([2, 4, 5, 6, 7].map(part));
    let read: Vec<_> = files.map(|file| std::fs::read(file).unwrap()).collect();
    assert_eq!(recording.bytes, read.iter().map(|file| file.len() as u64).sum::<u64>());
    assert_eq!(recording.tags, read.iter().map(|file| self::read(file).len() as u64).sum::<u64>());
    for file in &read {
        assert!(self::read(file).iter().all(|unit| unit.timestamp < 4500));
    }
}

#[test]
fn other_sound_in_one_stream_goes_on_in_another_file() {
    let Some(()) = ffmpeg_or_skip("other_sound_in_one_stream_goes_on_in_another_file") else { return };
    let dir = temp_dir("other-sound");
    let plain = encoded(&dir.join("plain.flv"), &PLAIN);
    let mono = encoded(&dir.join("mono.flv"), &[&PLAIN[..], &["-ac", "1", "-ar", "22050"]].concat());
    let silent = encoded(&dir.join("silent.flv"), &[&PLAIN[..], &["-an"]].concat());
    let path = dir.join("film.flv");
    let mut recorder = Recorder::create(&path, Existing::Keep, |_| {}).unwrap();
    let (mut at, mut asked) = (0, 0);
    // As another publisher of the same cast follows: no word of it, and a clock that goes on.
    for stream in [&silent, &silent, &silent, &plain, &mono, &mono] {
        for unit in stream {
            assert!(recorder.write(&Unit { timestamp: unit.timestamp + at, ..unit.clone() }));
            asked += u32::from(recorder.take_keyframe_wish());
        }
        at += stream.iter().map(|unit| unit.timestamp).max().unwrap() + 40;
    }
    recorder.finish().unwrap();
    let headers = |units: &[Unit]| -> Vec<_> {
        let is_header = |unit: &&Unit| unit.kind == Kind::Audio && unit.is_sequence_header();
        units.iter().filter(is_header).map(|unit| unit.payload.clone()).collect()
    };
    let part = |number: u32| path.with_file_name(format!("film-part{number}.flv"));
    let files = [path.clone(), part(2), part(3)].map(|path| read(&std::fs::read(path).unwrap()));
    assert!(headers(&files[0]).is_empty());
    assert_eq!(headers(&files[1]), headers(&plain)[..1]);
    assert_eq!(headers(&files[2]), headers(&mono)[..1]);
    assert!(!part(4).exists());
    assert_eq!(asked, 2, "once for each");
    let all = counts(&silent).0 * 3 + counts(&plain).0 + counts(&mono).0 * 2;
    assert_eq!(files.iter().map(|units| counts(units).0).sum::<usize>(), all);
}

#[test]
fn pictures_of_another_size_in_one_stream_stay_in_its_file_and_are_decoded_from_any_keyframe() {
    let name = "pictures_of_another_size_in_one_stream_stay_in_its_file_and_are_decoded_from_any_keyframe";
    let Some(()) = ffmpeg_or_skip(name) else { return };
    let dir = temp_dir("resized");
    let plain = encoded(&dir.join("plain.flv"), &[&PLAIN[..], &["-an"]].concat());
    let mut smaller = encoded(&dir.join("smaller.flv"), &[&SMALLER[..], &["-an"]].concat());
    for unit in &mut smaller {
        unit.timestamp += 2000;
    }
    let path = dir.join("film.flv");
    record(&path, &[&[&plain[..], &smaller].concat()]);
    assert_clean(&path, &[&plain, &smaller]);
    assert!(!path.with_file_name("film-part2.flv").exists());
    // The parameter sets come before each keyframe, and nowhere else.
    let written = read(&std::fs::read(&path).unwrap());
    let found: Vec<usize> = frames(&written)
        .iter()
        .filter(|unit| avc::is_picture(unit))
        .enumerate()
        .filter(|(_, unit)| {
            let nals = avc::nal_units(unit, 4).unwrap();
            nals.iter().any(|nal| avc::nal_kind(nal) == avc::NalKind::Sps)
        })
        .map(|(at, _)| at)
        .collect();
    assert_eq!(found, [50, 75]);
}

#[test]
fn a_file_that_is_there_is_kept_unless_it_may_be_replaced() {
    let path = temp_dir("existing").join("film.flv");
    std::fs::write(&path, "an old film").unwrap();
    let refused = Recorder::create(&path, Existing::Keep, drop).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::AlreadyExists);
    assert_eq!(std::fs::read(&path).unwrap(), b"an old film");
    let directory = Recorder::create(path.parent().unwrap(), Existing::Keep, drop).unwrap_err();
    assert_eq!(directory.kind(), std::io::ErrorKind::IsADirectory);
    // Where nothing comes, nothing is replaced, and nothing is left.
    Recorder::create(&path, Existing::Replace, drop).unwrap().finish().unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"an old film");
    let fresh = path.with_file_name("fresh.flv");
    Recorder::create(&fresh, Existing::Keep, drop).unwrap().finish().unwrap();
    assert!(!fresh.exists());

    let (tell, told) = std::sync::mpsc::channel();
    let tell = move |begun| tell.send(begun).unwrap();
    let mut recorder = Recorder::create(&path, Existing::Replace, tell).unwrap();
    assert!(collect_pattern(SMALL, 5).iter().all(|unit| recorder.write(unit)));
    recorder.finish().unwrap();
    assert_eq!(read(&std::fs::read(&path).unwrap()).len(), 7);
    assert_eq!(told.iter().collect::<Vec<_>>(), [Begun { file: path, part: 1 }]);
}

#[test]
fn a_file_that_appears_before_anything_comes_is_kept() {
    let path = temp_dir("appears").join("film.flv");
    let mut recorder = Recorder::create(&path, Existing::Keep, drop).unwrap();
    std::fs::write(&path, "another film").unwrap();
    for unit in &collect_pattern(SMALL, 5) {
        recorder.write(unit);
    }
    assert_eq!(recorder.finish().unwrap_err().kind(), std::io::ErrorKind::AlreadyExists);
    assert_eq!(std::fs::read(&path).unwrap(), b"another film");
}

/// A disk that takes nothing until it is let go.
struct Stuck(Arc<(Mutex<Disk>, Condvar)>);

#[derive(Default)]
struct Disk {
    free: bool,
    written: Vec<u8>,
}

impl std::io::Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut disk = self.0.1.wait_while(self.0.0.lock().unwrap(), |disk| !disk.free).unwrap();
        disk.written.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_disk_that_cannot_keep_up_costs_frames_up_to_a_keyframe_and_never_waits() {
    let disk = Arc::new((Mutex::new(Disk::default()), Condvar::new()));
    let mut recorder = Recorder::to_stream("a disk", Stuck(Arc::clone(&disk))).unwrap();
    let units = collect_pattern(SMALL, 60);
    let frames = frames(&units);
    // 3000 frames of 10 ms, of which every 50th is a keyframe; the queue holds fewer.
    let long: Vec<Unit> = (0..3000)
        .map(|number| Unit { timestamp: number * 10, ..frames[number as usize % 50].clone() })
        .collect();
    for unit in units[..2].iter().chain(&long) {
        assert!(recorder.write(unit));
    }
    disk.0.lock().unwrap().free = true;
    disk.1.notify_all();
    // The queue empties while the writer is not looking; what follows is recorded again from a keyframe on.
    let deadline = media::now() + Duration::from_secs(10);
    let mut round = 3000;
    while media::now() < deadline {
        for number in round..round + 100 {
            let unit = Unit { timestamp: number * 10, ..frames[number as usize % 50].clone() };
            assert!(recorder.write(&unit));
        }
        round += 100;
        let written = disk.0.lock().unwrap().written.len();
        if written > 0 && read(&disk.0.lock().unwrap().written).len() > 2400 {
            break;
        }
    }
    let recording = recorder.finish().unwrap();
    assert!(recording.dropped > 0, "{recording:?}");
    let written = read(&disk.0.lock().unwrap().written);
    assert_eq!(recording.tags, written.len() as u64);
    assert_monotone(&written);
    let numbers: Vec<_> = written.iter().filter_map(frame_number).collect();
    for two in numbers.windows(2) {
        assert!(two[1] == (two[0] + 1) % 50 || two[1] == 0, "after a gap comes a keyframe: {two:?}");
    }
    assert!(numbers.len() > 2300, "it recovers: {}", numbers.len());
}

#[test]
fn a_recording_into_a_pipe_waits_for_its_reader_neither_at_the_start_nor_at_the_end() {
    let units = collect_pattern(SMALL, 5);
    let pipe = temp_dir("pipe").join("pipe.flv");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut recorder = Recorder::create(&pipe, Existing::Keep, drop).unwrap();
    assert!(units.iter().all(|unit| recorder.write(unit)));
    let reader = std::thread::spawn({
        let pipe = pipe.clone();
        move || std::fs::read(pipe).unwrap()
    });
    assert_eq!(recorder.finish().unwrap().tags, 7);
    assert_eq!(read(&reader.join().unwrap()).len(), 7);
    // Nothing came, and nobody reads.
    let recorder = Recorder::create(&pipe, Existing::Keep, drop).unwrap();
    assert_eq!(recorder.finish().unwrap(), Recording::default());

    // A reader that stands still.
    let disk = Arc::new((Mutex::new(Disk::default()), Condvar::new()));
    let mut recorder = Recorder::to_stream("a reader", Stuck(disk)).unwrap();
    assert!(units.iter().all(|unit| recorder.write(unit)));
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || tell.send(recorder.finish()).unwrap());
    let ended = told.recv_timeout(Duration::from_secs(20)).expect("the end waits for the reader");
    assert!(ended.unwrap_err().to_string().contains("not read in time"));
}

#[test]
fn a_recording_into_nothing_says_so() {
    let missing = Path::new("/nonexistent-directory/file.flv");
    assert!(Recorder::create(missing, Existing::Keep, drop).is_err());
    #[cfg(target_os = "linux")]
    {
        let mut recorder = Recorder::create(Path::new("/dev/full"), Existing::Keep, drop).unwrap();
        let units = collect_pattern(SMALL, 5);
        for unit in &units {
            recorder.write(unit);
        }
        let error = recorder.finish().unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
        assert!(names_the_full_disk(&error.to_string()), "{error}");
    }
}

/// Whether somebody is told which file it was, what became of it, and what to do.
fn names_the_full_disk(words: &str) -> bool {
    ["/dev/full: ", "No space left", "make room"].iter().all(|part| words.contains(part))
}

#[test]
#[cfg(target_os = "linux")]
fn a_snapshot_on_a_full_disk_names_its_file() {
    let mut snapshot = Snapshot::new(Path::new("/dev/full"));
    for unit in &collect_pattern(SMALL, 5) {
        snapshot.write(unit);
    }
    let Err(SnapshotError::File(error)) = snapshot.finish() else { panic!("it is full") };
    assert!(names_the_full_disk(&error.to_string()), "{error}");
}

#[test]
fn a_snapshot_is_the_last_frame_that_was_seen() {
    let path = temp_dir("snapshot").join("last.png");
    let mut snapshot = Snapshot::new(&path);
    assert!(matches!(snapshot.finish(), Err(SnapshotError::Nothing)));
    let units = collect_pattern(PatternConfig::default(), 75);
    for unit in &units {
        snapshot.write(unit);
    }
    // What a publisher sends last.
    let end = Unit { kind: Kind::Video, timestamp: 2500, payload: vec![0x17, 2, 0, 0, 0].into() };
    snapshot.write(&end);
    std::fs::write(&path, "an old picture").unwrap();
    let old = path.with_file_name("old.png");
    std::fs::hard_link(&path, &old).unwrap();
    let info = snapshot.finish().unwrap();
    assert_eq!((info.width, info.height, info.frame), (1280, 720, Some(74)));
    assert_eq!(std::fs::read(&old).unwrap(), b"an old picture", "it stays until the new one is whole");
    assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 2, "nothing is left beside it");

    let (width, height, pixels) = decode_png(&path);
    assert_eq!((width, height), (1280, 720));
    let pixel = |x: usize, y: usize| &pixels[(y * width + x) * 3..][..3];
    // The middles of the white, yellow and blue bars, and the background.
    for (x, y, expected) in [
        (140, 200, [191, 191, 191]),
        (310, 200, [191, 191, 0]),
        (1130, 200, [0, 0, 191]),
        (20, 400, [18, 24, 38]),
    ] {
        let near = pixel(x, y).iter().zip(expected).all(|(&is, expected)| is.abs_diff(expected) <= 8);
        assert!(near, "pixel {x},{y} is {:?}, not {expected:?}", pixel(x, y));
    }
    // The frame's number on the picture is the one in its stamp: a picture drawn for that number agrees.
    let mut drawn = punchcast_client::source::pattern::Pattern::new(1280, 720, 30);
    let differs = |number: u64, drawn: &mut punchcast_client::source::pattern::Pattern| -> u64 {
        let luma = drawn.luma(number, Duration::ZERO);
        (536..576)
            .flat_map(|y| (400..880).map(move |x| (x, y)))
            .map(|(x, y)| {
                let [r, g, b] = [0, 1, 2].map(|c| u32::from(pixels[(y * width + x) * 3 + c]));
                let is = 16 + ((66 * r + 129 * g + 25 * b) >> 8);
                u64::from(is.abs_diff(u32::from(luma[y * width + x])))
            })
            .sum()
    };
    let right = differs(74, &mut drawn);
    for wrong in [0, 71, 73, 75, 76, 174] {
        assert!(differs(wrong, &mut drawn) > right * 2, "the picture shows 74, not {wrong}");
    }
}

#[test]
fn h264_in_the_form_of_enhanced_rtmp_gives_a_snapshot() {
    let path = temp_dir("enhanced").join("last.png");
    let mut snapshot = Snapshot::new(&path);
    let mut pictures = 0;
    for unit in collect_pattern(SMALL, 20).iter().filter(|unit| unit.kind == Kind::Video) {
        let key = unit.payload[0] & 0x70;
        let head = match avc::is_picture(unit) {
            // By turns with a composition time and without.
            true if pictures % 2 == 0 => [&[0x81 | key], &b"avc1\0\0\0"[..]].concat(),
            true => [&[0x83 | key], &b"avc1"[..]].concat(),
            false => [&[0x80 | key], &b"avc1"[..]].concat(),
        };
        pictures += u64::from(avc::is_picture(unit));
        snapshot.write(&Unit { payload: [&head, &unit.payload[5..]].concat().into(), ..unit.clone() });
    }
    let info = snapshot.finish().unwrap();
    assert_eq!(info.frame, Some(pictures - 1));
    assert_eq!(decode_png(&path).0, info.width as usize);
}

#[test]
fn a_damaged_group_gives_the_picture_before_the_damage_or_an_error() {
    let path = temp_dir("damage").join("damage.png");
    let units = collect_pattern(SMALL, 20);
    for seed in 0..100 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut snapshot = Snapshot::new(&path);
        for unit in &units {
            let mut payload = unit.payload.to_vec();
            if rng.u8(..10) == 0 {
                let at = rng.usize(..payload.len());
                payload[at] ^= 1 << rng.u8(..8);
            }
            snapshot.write(&Unit { payload: payload.into(), ..unit.clone() });
        }
        match snapshot.finish() {
            Ok(info) => assert!(info.width <= 4096 && info.height <= 4096, "seed {seed}: {info:?}"),
            Err(error) => assert!(!error.to_string().is_empty(), "seed {seed}"),
        }
    }
}

fn decode_png(path: &Path) -> (usize, usize, Vec<u8>) {
    let file = std::io::BufReader::new(std::fs::File::open(path).unwrap());
    let mut reader = png::Decoder::new(file).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    assert_eq!(info.color_type, png::ColorType::Rgb);
    (info.width as usize, info.height as usize, pixels)
}

#[test]
fn what_ffmpeg_publishes_is_recorded_whole_and_has_a_picture() {
    let Some(()) = ffmpeg_or_skip("what_ffmpeg_publishes_is_recorded_whole_and_has_a_picture") else {
        return;
    };
    let dir = temp_dir("ffmpeg");
    let source = dir.join("source.flv");
    // High profile with reordered pictures, and sound: the hardest that a publisher may send.
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-y", "-f", "lavfi", "-i", "testsrc2=s=320x180:r=30:d=2", "-f", "lavfi", "-i"])
        .args(["sine=d=2", "-c:v", "libx264", "-bf", "2", "-g", "30", "-pix_fmt", "yuv420p", "-c:a", "aac"])
        .arg(&source)
        .status()
        .unwrap();
    assert!(made.success());
    let units = read(&std::fs::read(&source).unwrap());
    let path = dir.join("recorded.flv");
    record(&path, &[&units]);
    let probe = ffprobe(&path);
    assert_eq!((probe.complaints.as_str(), probe.frames), ("", 60));
    assert_eq!(media::ffmpeg_decode(&path), "");
    let sounds = |units: &[Unit]| units.iter().filter(|unit| unit.kind == Kind::Audio).count();
    let written = read(&std::fs::read(&path).unwrap());
    // Sound before the first keyframe is left out.
    assert!(sounds(&written) + 4 > sounds(&units), "{} of {}", sounds(&written), sounds(&units));

    let picture = dir.join("last.png");
    let mut snapshot = Snapshot::new(&picture);
    for unit in &units {
        snapshot.write(unit);
    }
    let info = snapshot.finish().unwrap();
    assert_eq!((info.width, info.height, info.frame), (320, 180, None));
    let (_, _, pixels) = decode_png(&picture);
    let colours: std::collections::HashSet<&[u8]> = pixels.chunks(3).collect();
    assert!(colours.len() > 100, "a picture, not a flat area: {} colours", colours.len());
}
