//! The test picture and the FLV source, seen from outside: by ffmpeg, and by their stamps.

mod media;

use media::{collect_pattern, ffmpeg_or_skip, ffprobe, flv_file, frames};
use punchcast::media::{Kind, Unit, avc, flv};
use punchcast_client::source::{
    Control, FlvInput, PatternCast, PatternConfig, SourceEvent, frame_number, spawn_flv, spawn_pattern,
};
use std::sync::mpsc::channel;
use std::time::Duration;

const SMALL: PatternConfig = PatternConfig {
    width: 320,
    height: 180,
    fps: 60,
    bitrate: 500_000,
    keyframe_interval: Duration::from_secs(1),
    noise: false,
};

#[test]
fn a_pattern_begins_with_metadata_and_configuration_and_numbers_every_frame() {
    let units = collect_pattern(SMALL, 90);
    assert_eq!(units[0].kind, Kind::Data);
    assert!(units[1].is_sequence_header());
    let frames = frames(&units);
    assert_eq!(frames.len(), 90);
    for (number, frame) in frames.iter().enumerate() {
        assert_eq!(frame_number(frame), Some(number as u64));
        assert_eq!(frame.timestamp, number as u32 * 1000 / 60);
        assert_eq!(frame.is_keyframe(), number % 60 == 0, "frame {number}");
    }
    assert_eq!(units.len(), 92, "the configuration is sent once, as it does not change");
}

#[test]
fn ffmpeg_decodes_every_frame_of_a_pattern_without_a_complaint() {
    let Some(()) = ffmpeg_or_skip("ffmpeg_decodes_every_frame_of_a_pattern_without_a_complaint") else {
        return;
    };
    let path = media::temp_dir("pattern").join("pattern.flv");
    std::fs::write(&path, flv_file(&collect_pattern(PatternConfig::default(), 75))).unwrap();
    let probe = ffprobe(&path);
    assert_eq!(probe.complaints, "");
    assert_eq!(probe.frames, 75);
    assert_eq!((probe.width, probe.height), (1280, 720));
    assert_eq!(media::ffmpeg_decode(&path), "", "ffmpeg decodes without a complaint");
}

#[test]
fn a_pattern_is_paced_and_its_stamps_tell_when_each_frame_was_captured() {
    let (sender, receiver) = channel();
    let begun = media::now();
    let thread = spawn_pattern(SMALL, Control::new(), move |event| {
        let SourceEvent::Unit(unit, _) = event else { panic!("{event:?}") };
        let last = frame_number(&unit).is_some_and(|number| number >= 30);
        sender.send(unit).unwrap();
        !last
    })
    .unwrap();
    let units: Vec<_> = receiver.iter().collect();
    let took = media::now() - begun;
    let report = thread.join().unwrap();
    assert!(took >= Duration::from_millis(500), "half a second of frames took {took:?}");
    let stamps: Vec<_> = units.iter().filter_map(avc::stamp).collect();
    assert_eq!(stamps.len() as u64, report.frames + 1, "the last was not wanted");
    let span = stamps.last().unwrap().wall_us - stamps[0].wall_us;
    assert!(span >= 400_000, "half a second was captured within {span} us");
}

#[test]
fn a_keyframe_comes_when_it_is_asked_for() {
    let control = Control::new();
    let asker = control.clone();
    let (sender, receiver) = channel();
    let thread = spawn_pattern(SMALL, control, move |event| {
        let SourceEvent::Unit(unit, _) = event else { panic!("{event:?}") };
        let Some(number) = frame_number(&unit) else { return true };
        if number == 10 {
            asker.request_keyframe();
        }
        sender.send((number, unit.is_keyframe())).unwrap();
        number < 75
    })
    .unwrap();
    let frames: Vec<_> = receiver.iter().collect();
    thread.join().unwrap();
    let keyframes: Vec<_> = frames.iter().filter(|frame| frame.1).map(|frame| frame.0).collect();
    assert_eq!(keyframes, [0, 11, 71], "the interval counts from the keyframe that was asked for");
}

#[test]
fn a_held_pattern_makes_nothing_and_goes_on_with_the_newest_frame() {
    let control = Control::new();
    let holder = control.clone();
    let (sender, receiver) = channel();
    let thread = spawn_pattern(SMALL, control.clone(), move |event| {
        let SourceEvent::Unit(unit, _) = event else { panic!("{event:?}") };
        if frame_number(&unit) == Some(10) {
            holder.set_hold(true);
        }
        sender.send(unit).is_ok()
    })
    .unwrap();
    let next = || loop {
        let unit: Unit = receiver.recv().unwrap();
        if let Some(stamp) = avc::stamp(&unit) {
            break stamp;
        }
    };
    let mut before = next();
    while before.frame < 10 {
        before = next();
    }
    assert!(receiver.recv_timeout(Duration::from_millis(300)).is_err(), "nothing while held");
    let released = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    control.set_hold(false);
    let after = next();
    assert!(after.frame >= 10 + 17, "{}: what was due while held is left out", after.frame);
    assert!(Duration::from_micros(after.wall_us) >= released, "and what comes is drawn after the release");
    control.stop();
    assert!(thread.join().unwrap().skipped >= 16);
}

#[test]
fn noise_fills_whatever_bitrate_it_is_given() {
    for bitrate in [1_000_000, 8_000_000] {
        let config = PatternConfig {
            width: 640,
            height: 360,
            fps: 60,
            bitrate,
            noise: true,
            ..PatternConfig::default()
        };
        let mut cast = PatternCast::new(config).unwrap();
        let mut bytes = 0;
        for frame in 0..180 {
            // Some may be left out, as the bitrate is spent.
            cast.encode(frame, Duration::from_millis(frame * 1000 / 60), |unit| {
                bytes += unit.payload.len();
                true
            })
            .unwrap();
        }
        let reached = bytes as f64 * 8.0 / 3.0 / f64::from(bitrate);
        assert!((0.8..1.25).contains(&reached), "{reached:.2} of {bitrate} bit/s");
    }
}

#[test]
fn a_bitrate_that_the_link_asks_for_is_followed_with_a_keyframe() {
    let control = Control::new();
    let asker = control.clone();
    let (sender, receiver) = channel();
    let config = PatternConfig { bitrate: 4_000_000, noise: true, ..SMALL };
    let thread = spawn_pattern(config, control, move |event| {
        let SourceEvent::Unit(unit, _) = event else { panic!("{event:?}") };
        let Some(number) = frame_number(&unit) else { return true };
        if number == 29 {
            asker.set_bitrate(1_000_000);
        }
        sender.send((number, unit.is_keyframe(), unit.payload.len())).unwrap();
        number < 120
    })
    .unwrap();
    let frames: Vec<_> = receiver.iter().collect();
    thread.join().unwrap();
    let keyframes: Vec<_> = frames.iter().filter(|frame| frame.1).map(|frame| frame.0).collect();
    assert_eq!(keyframes, [0, 30, 90]);
    let bytes = |from: u64, to: u64| -> usize {
        frames.iter().filter(|frame| (from..to).contains(&frame.0)).map(|frame| frame.2).sum()
    };
    let (fast, slow) = (bytes(0, 30), bytes(90, 120));
    assert!(slow * 5 / 2 < fast, "{fast} bytes in half a second, then {slow}");
}

#[test]
fn a_stopped_pattern_emits_nothing_more() {
    let control = Control::new();
    let stopper = control.clone();
    let (sender, receiver) = channel();
    let thread = spawn_pattern(SMALL, control, move |event| {
        if matches!(&event, SourceEvent::Unit(unit, _) if frame_number(unit) == Some(5)) {
            stopper.stop();
        }
        sender.send(event).is_ok()
    })
    .unwrap();
    assert_eq!(
        receiver.iter().count(),
        2 + 6,
        "metadata, configuration, six frames, and no event for the stop"
    );
    assert_eq!(thread.join().unwrap().frames, 6);
}

#[test]
fn a_pattern_that_cannot_be_drawn_says_why() {
    let (sender, receiver) = channel();
    let odd = PatternConfig { width: 321, ..SMALL };
    spawn_pattern(odd, Control::new(), move |event| sender.send(event).is_ok()).unwrap().join().unwrap();
    let events: Vec<_> = receiver.iter().collect();
    let [SourceEvent::Failed(why)] = &events[..] else { panic!("{events:?}") };
    assert!(why.contains("321x180"), "{why}");
}

#[test]
fn an_flv_file_is_played_whole_in_its_own_time() {
    let path = media::temp_dir("play").join("short.flv");
    let units = collect_pattern(SMALL, 30);
    let mut file = flv_file(&units);
    file.truncate(file.len() - 10);
    std::fs::write(&path, file).unwrap();
    let (sender, receiver) = channel();
    let begun = media::now();
    let thread =
        spawn_flv(FlvInput::File(path), Control::new(), move |event| sender.send(event).is_ok()).unwrap();
    let mut events: Vec<_> = receiver.iter().collect();
    let took = media::now() - begun;
    assert_eq!(thread.join().unwrap(), 31, "the tag that was cut is left out");
    let Some(SourceEvent::Cut(how)) = events.pop() else { panic!("{events:?}") };
    assert!(how.contains("short.flv was cut inside a tag, at byte "), "{how}");
    let expected: Vec<_> = units[..31].iter().cloned().map(|unit| SourceEvent::Unit(unit, None)).collect();
    assert!(events == expected, "the units are those of the file");
    assert!(took >= Duration::from_millis(28 * 1000 / 60), "played in {took:?}");
}

#[test]
fn a_file_that_is_not_flv_is_refused_by_name() {
    let dir = media::temp_dir("refuse");
    let failure = |name: &str, content: Option<&[u8]>| {
        let path = dir.join(name);
        if let Some(content) = content {
            std::fs::write(&path, content).unwrap();
        }
        let (sender, receiver) = channel();
        spawn_flv(FlvInput::File(path), Control::new(), move |event| sender.send(event).is_ok())
            .unwrap()
            .join()
            .unwrap();
        match receiver.iter().collect::<Vec<_>>().pop() {
            Some(SourceEvent::Failed(why)) => why,
            other => panic!("{other:?}"),
        }
    };
    let why = failure("film.mp4", Some(b"\0\0\0\x20ftypisom\0\0\x02\0"));
    assert!(why.contains("film.mp4: not an FLV file (it begins with 00 00 00 20"), "{why}");
    let why = failure("empty.flv", Some(b""));
    assert!(why.ends_with("empty.flv: not an FLV file (it ends after 0 bytes)"), "{why}");
    let why = failure("none.flv", None);
    assert!(why.contains("none.flv: No such file"), "{why}");
    let header = flv::Writer::new(true, true).header();
    let why = failure("bad.flv", Some(&[&header[..], &[0xff; 20]].concat()));
    assert!(why.contains("bad.flv: damaged FLV tag"), "{why}");
}
