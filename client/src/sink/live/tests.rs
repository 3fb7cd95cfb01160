use super::*;
use punchcast::media::Kind;
use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::sync::mpsc::Sender;

/// How long anything here may take.
const PATIENCE: Duration = Duration::from_secs(30);

fn unit(timestamp: u32, head: [u8; 2], size: usize) -> Unit {
    let mut payload = head.to_vec();
    payload.resize(size, 0);
    Unit { kind: Kind::Video, timestamp, payload: payload.into() }
}

fn picture(timestamp: u32, is_key: bool) -> Unit {
    unit(timestamp, [if is_key { 0x17 } else { 0x27 }, 1], 100)
}

/// The units of an FLV file.
fn read(bytes: &[u8]) -> Vec<(u32, u8, u8)> {
    let mut reader = flv::Reader::new();
    reader.push(bytes);
    let units = std::iter::from_fn(|| reader.next().expect("FLV"));
    units.map(|unit| (unit.timestamp, unit.payload[0], unit.payload[1])).collect()
}

fn scratch(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("punchcast-live-{}-{name}", std::process::id()));
    let _ = fs::remove_file(&path);
    path
}

fn said() -> (impl Fn(Word) + Send + 'static, Receiver<Word>) {
    let (tell, told): (Sender<Word>, _) = channel();
    (move |word| drop(tell.send(word)), told)
}

/// What cannot be done any more, by the next word.
fn failure(told: &Receiver<Word>) -> String {
    match told.recv_timeout(PATIENCE).expect("a word") {
        Word::Failure(text) => text,
        Word::Note(text) => panic!("a note: {text}"),
    }
}

/// A player that copies what it reads to a file.
fn copier(path: &Path) -> LiveTarget {
    let script = format!("exec cat > '{}'", path.display());
    LiveTarget::Player(["sh", "-c", &script].map(str::to_owned).to_vec())
}

#[test]
fn a_player_gets_a_file_from_the_first_keyframe_on() {
    let path = scratch("player");
    let (say, told) = said();
    let mut pipe = LivePipe::start(copier(&path), Existing::Keep, say).expect("a thread");
    pipe.next_stream();
    pipe.write(&picture(960, false));
    pipe.write(&unit(1000, [0x17, 0], 40));
    pipe.write(&picture(1000, true));
    pipe.write(&picture(1040, false));
    pipe.finish().expect("nothing fails");
    assert_eq!(read(&fs::read(&path).expect("a file")), [(0, 0x17, 0), (0, 0x17, 1), (40, 0x27, 1)]);
    assert!(told.try_recv().is_err());
    let _ = fs::remove_file(path);
}

#[test]
fn a_player_that_ends_is_started_again_with_the_next_cast_only() {
    let path = scratch("again");
    let script = format!("echo started >> '{}'", path.display());
    let (say, told) = said();
    let words = ["sh", "-c", &script].map(str::to_owned).to_vec();
    let mut pipe = LivePipe::start(LiveTarget::Player(words), Existing::Keep, say).expect("a thread");
    let until = Instant::now() + PATIENCE;
    for _ in 0..2 {
        pipe.next_cast();
        pipe.next_stream();
        // The player reads nothing and ends: the pipe notices when it writes.
        let word = loop {
            if let Ok(word) = told.try_recv() {
                break word;
            }
            assert!(Instant::now() < until, "the player's end goes unnoticed");
            pipe.write(&picture(0, true));
            thread::yield_now();
        };
        assert!(matches!(word, Word::Note(_)), "it fails nothing: {word:?}");
        // The link was made again.
        pipe.next_stream();
        for _ in 0..1000 {
            pipe.write(&picture(0, true));
        }
    }
    pipe.finish().expect("nothing fails");
    assert_eq!(fs::read_to_string(&path).expect("a file"), "started\nstarted\n");
    let _ = fs::remove_file(path);
}

#[test]
fn who_reads_slowly_delays_nobody_and_goes_on_at_a_keyframe() {
    let path = scratch("slow");
    let go = scratch("go");
    let script =
        format!("until [ -e '{}' ]; do sleep 0.05; done; exec cat > '{}'", go.display(), path.display());
    let (say, _told) = said();
    let words = ["sh", "-c", &script].map(str::to_owned).to_vec();
    let mut pipe = LivePipe::start(LiveTarget::Player(words), Existing::Keep, say).expect("a thread");
    pipe.next_stream();
    let began = Instant::now();
    // Ten times what may wait, while nothing is read.
    let last = 10 * MAX_QUEUED_UNITS as u32;
    for at in 0..last {
        pipe.write(&unit(at * 40, [if at % 50 == 0 { 0x17 } else { 0x27 }, 1], 20_000));
    }
    let took = began.elapsed();
    assert!(took < PATIENCE, "writing waited for the reader: {took:?}");
    fs::write(&go, b"").expect("a file");
    let until = Instant::now() + PATIENCE;
    while pipe.shared.queued.load(Ordering::Relaxed) > 0 && Instant::now() < until {
        thread::yield_now();
    }
    pipe.write(&picture(last * 40, true));
    pipe.write(&picture(last * 40 + 40, false));
    pipe.finish().expect("nothing fails");
    let units = read(&fs::read(&path).expect("a file"));
    assert!(units.len() < last as usize / 2, "{} units were kept for a reader that slept", units.len());
    // What came last is there, and the jump ends at a keyframe.
    assert_eq!(units.last(), Some(&((last * 40) + 40, 0x27, 1)));
    for pair in units.windows(2) {
        assert!(pair[1].0 - pair[0].0 <= 40 || pair[1].1 == 0x17, "a gap before what needs others: {pair:?}");
    }
    let _ = (fs::remove_file(path), fs::remove_file(go));
}

#[test]
fn each_reader_of_a_named_pipe_gets_a_file_of_its_own() {
    let path = scratch("fifo");
    let made = Command::new("mkfifo").arg(&path).status().expect("coreutils are everywhere");
    assert!(made.success());
    let (say, _told) = said();
    let mut pipe = LivePipe::start(LiveTarget::Path(path.clone()), Existing::Keep, say).expect("a thread");
    pipe.next_stream();
    let mut at = 0;
    for _ in 0..2 {
        // Who comes the moment that another leaves takes over its file, so the writer has to notice first.
        let until = Instant::now() + PATIENCE;
        while !pipe.shared.unread.load(Ordering::Acquire) {
            assert!(Instant::now() < until, "a reader that is gone goes unnoticed");
            pipe.write(&picture(at, at % 200 == 0));
            at += 40;
        }
        let reading = path.clone();
        let reader = thread::spawn(move || {
            let mut file = fs::File::open(reading).expect("a pipe");
            let mut bytes = vec![0; 13 + 11 + 100 + 4 + 11];
            file.read_exact(&mut bytes).expect("the beginning of a file");
            bytes
        });
        let until = Instant::now() + PATIENCE;
        while !reader.is_finished() {
            assert!(Instant::now() < until, "the reader gets nothing");
            pipe.write(&picture(at, at % 200 == 0));
            at += 40;
            thread::sleep(Duration::from_millis(1));
        }
        let bytes = reader.join().expect("a reader");
        assert_eq!(&bytes[..3], b"FLV");
        assert_eq!(read(&bytes[..13 + 11 + 100 + 4]), [(0, 0x17, 1)]);
    }
    pipe.finish().expect("nothing fails");
    let _ = fs::remove_file(path);
}

#[test]
fn a_player_that_is_not_there_is_told_of() {
    let (say, told) = said();
    let words = vec!["/nowhere/player".to_owned()];
    let mut pipe = LivePipe::start(LiveTarget::Player(words), Existing::Keep, say).expect("a thread");
    pipe.next_stream();
    pipe.write(&picture(0, true));
    let text = failure(&told);
    assert!(text.contains("/nowhere/player") && text.contains("cannot be had"), "{text}");
    assert!(pipe.finish().is_err());
}

#[test]
fn a_file_begins_with_its_first_byte() {
    let path = scratch("file.flv");
    for (existing, before) in [(Existing::Keep, None), (Existing::Replace, Some("what was there"))] {
        if let Some(before) = before {
            fs::write(&path, before).expect("a scratch file can be written");
        }
        let (say, told) = said();
        let start = |say| LivePipe::start(LiveTarget::Path(path.clone()), existing, say).expect("a thread");
        start(Box::new(say) as Box<dyn Fn(Word) + Send>).finish().expect("nothing fails");
        assert_eq!(fs::read_to_string(&path).ok().as_deref(), before, "nothing came");

        let (say_too, told_too) = said();
        let mut pipe = start(Box::new(say_too));
        pipe.next_stream();
        pipe.write(&picture(1000, true));
        pipe.write(&picture(1040, false));
        pipe.finish().expect("nothing fails");
        assert_eq!(read(&fs::read(&path).expect("a file")), [(0, 0x17, 1), (40, 0x27, 1)]);
        assert!(told.try_recv().is_err() && told_too.try_recv().is_err());
        let _ = fs::remove_file(&path);
    }
}

#[test]
fn a_file_that_came_to_be_in_the_meantime_is_kept() {
    let path = scratch("meantime.flv");
    let (say, told) = said();
    let mut pipe = LivePipe::start(LiveTarget::Path(path.clone()), Existing::Keep, say).expect("a thread");
    fs::write(&path, "another's").expect("a scratch file can be written");
    pipe.next_stream();
    pipe.write(&picture(0, true));
    assert!(failure(&told).contains("cannot be had"));
    assert_eq!(pipe.finish().expect_err("it was told").kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(fs::read_to_string(&path).expect("a file"), "another's");
    let _ = fs::remove_file(&path);
}
