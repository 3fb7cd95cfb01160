//! Pictures that no other needs, in what real encoders make: they are found, and what is left decodes as before.

mod media;

use bytes::Bytes;
use media::{ffmpeg_or_skip, flv_file, temp_dir};
use punchcast::media::{Coding, Kind, Unit, avc, flv};
use std::path::Path;
use std::process::Command;

const SOURCE: [&str; 6] = ["-v", "error", "-f", "lavfi", "-i", "testsrc2=s=320x180:r=30:d=3"];

fn ffmpeg(arguments: &[&str], to: &Path) {
    let made = Command::new("ffmpeg").arg("-y").args(arguments).arg(to).status().unwrap();
    assert!(made.success());
}

/// Each decoded picture's hash, in the order in which they are shown; ffmpeg may not complain.
fn decoded(path: &Path) -> Vec<String> {
    let arguments = ["-fps_mode", "passthrough", "-f", "framemd5", "-"];
    let output =
        Command::new("ffmpeg").args(["-v", "warning", "-i"]).arg(path).args(arguments).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.rsplit(',').next().unwrap().trim().to_owned()).collect()
}

/// How many of a file's pictures are B-frames.
fn b_frames(path: &Path) -> usize {
    let arguments = ["-v", "error", "-select_streams", "v", "-show_entries", "frame=pict_type", "-of", "csv"];
    let output = Command::new("ffprobe").args(arguments).arg(path).output().unwrap();
    String::from_utf8(output.stdout).unwrap().lines().filter(|line| line.contains(",B")).count()
}

/// The units of a stream, and which are disposable.
fn judged(units: &[Unit]) -> Vec<bool> {
    let mut coding = None;
    let mut judge = |unit: &Unit| {
        coding = Coding::of(unit).or(coding);
        coding.is_some_and(|coding| coding.is_disposable(unit))
    };
    units.iter().map(&mut judge).collect()
}

fn without_disposable(units: &[Unit]) -> Vec<Unit> {
    let kept = units.iter().zip(judged(units)).filter(|(_, disposable)| !disposable);
    kept.map(|(unit, _)| unit.clone()).collect()
}

/// That the pictures which are left are the same, all but `missing` of them.
fn assert_same_pictures(all: &[String], left: &[String], missing: usize) {
    assert_eq!(left.len() + missing, all.len());
    let mut rest = all.iter();
    assert!(left.iter().all(|hash| rest.any(|other| other == hash)), "a picture has changed");
}

#[test]
fn what_x264_makes_decodes_as_before_without_its_disposable_pictures() {
    let Some(()) = ffmpeg_or_skip("what_x264_makes_decodes_as_before_without_its_disposable_pictures") else {
        return;
    };
    let dir = temp_dir("coding-x264");
    // The name, x264's parameters, and whether all of its B-frames are disposable.
    for (name, params, all) in [
        ("plain", "bframes=2:b-adapt=0:b-pyramid=none:keyint=30", true),
        ("strict", "bframes=3:b-adapt=0:b-pyramid=strict:keyint=30", false),
        ("normal", "bframes=3:b-adapt=0:b-pyramid=normal:ref=4:keyint=30", false),
        ("open", "bframes=2:b-adapt=0:b-pyramid=none:open-gop=1:keyint=30", true),
        ("sliced", "bframes=2:b-adapt=0:b-pyramid=none:slices=4:keyint=30", true),
        ("without", "bframes=0:keyint=30", true),
    ] {
        let whole = dir.join(format!("{name}.flv"));
        let options = ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-x264-params", params];
        ffmpeg(&[&SOURCE[..], &options[..]].concat(), &whole);
        let mut reader = flv::Reader::new();
        reader.push(&std::fs::read(&whole).unwrap());
        let units: Vec<Unit> = std::iter::from_fn(|| reader.next().unwrap()).collect();
        let (disposable, b) = (judged(&units).into_iter().filter(|&it| it).count(), b_frames(&whole));
        match (name, all) {
            ("without", _) => assert_eq!((disposable, b), (0, 0)),
            (_, true) => assert_eq!(disposable, b, "{name}"),
            (_, false) => assert!((b / 3..b).contains(&disposable), "{name}: {disposable} of {b}"),
        }
        let thinned = dir.join(format!("{name}-thinned.flv"));
        std::fs::write(&thinned, flv_file(&without_disposable(&units))).unwrap();
        assert_same_pictures(&decoded(&whole), &decoded(&thinned), disposable);
    }
}

#[test]
fn what_x265_makes_decodes_as_before_without_its_disposable_pictures() {
    let Some(()) = ffmpeg_or_skip("what_x265_makes_decodes_as_before_without_its_disposable_pictures") else {
        return;
    };
    let dir = temp_dir("coding-x265");
    for (name, sub_layers, params) in [
        ("plain", 1, "bframes=2:b-adapt=0:b-pyramid=0:keyint=30"),
        ("pyramid", 1, "bframes=4:b-adapt=0:b-pyramid=1:keyint=30"),
        ("layers", 2, "bframes=4:b-adapt=0:b-pyramid=1:temporal-layers=1:keyint=30"),
    ] {
        let whole = dir.join(format!("{name}.hevc"));
        let quiet = format!("{params}:log-level=none");
        ffmpeg(&[&SOURCE[..], &["-c:v", "libx265", "-x265-params", &quiet]].concat(), &whole);
        let stream = std::fs::read(&whole).unwrap();
        let units = hevc_units(&stream, sub_layers);
        let disposable = judged(&units).into_iter().filter(|&it| it).count();
        assert!(disposable > 30, "{name}: {disposable}");
        let thinned = dir.join(format!("{name}-thinned.hevc"));
        std::fs::write(&thinned, annex_b(&without_disposable(&units))).unwrap();
        assert_same_pictures(&decoded(&whole), &decoded(&thinned), disposable);
    }
}

/// Enhanced RTMP's units of a byte stream: a sequence header, and a unit for each picture with what stands before it.
fn hevc_units(stream: &[u8], sub_layers: u8) -> Vec<Unit> {
    let video = |payload| Unit { kind: Kind::Video, timestamp: 0, payload: Bytes::from(payload) };
    let mut record = b"\x90hvc1".to_vec();
    record.extend([[1; 21].as_slice(), &[sub_layers << 3 | 3]].concat());
    let mut units = vec![video(record)];
    let mut payload = b"\xa3hvc1".to_vec();
    for nal in avc::split_annex_b(stream) {
        payload.extend_from_slice(&(nal.len() as u32).to_be_bytes());
        payload.extend_from_slice(nal);
        // One slice a picture, as x265 makes them by itself.
        if nal[0] >> 1 & 0x3f < 32 {
            units.push(video(std::mem::replace(&mut payload, b"\xa3hvc1".to_vec())));
        }
    }
    units
}

fn annex_b(units: &[Unit]) -> Vec<u8> {
    let mut stream = Vec::new();
    for unit in units.iter().skip(1) {
        let mut rest = &unit.payload[5..];
        while let Some((length, tail)) = rest.split_first_chunk() {
            let (nal, tail) = tail.split_at(u32::from_be_bytes(*length) as usize);
            stream.extend([&[0, 0, 0, 1], nal].concat());
            rest = tail;
        }
    }
    stream
}
