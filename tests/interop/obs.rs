//! The way in which OBS publishes, which is librtmp's: each command waits for its answer, chunks of 4096 bytes are
//! announced before `connect`, media of all kinds share one chunk stream, metadata come by `@setDataFrame`.

use crate::home::Home;
use crate::tool::{self, Scratch, assert_whole, ffmpeg, have};
use punchcast::media::flv;
use punchcast::media::{Kind, Unit};
use punchcast::rtmp::amf0::{self, Value};
use punchcast::rtmp::chunk::{Reader, Writer};
use punchcast::rtmp::handshake::{BLOCK, Handshake};
use punchcast::rtmp::message::{Command, Message};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

/// Seconds of stream.
const SECONDS: u32 = 3;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// The chunk streams that librtmp uses: for commands of the connection, and for all that belongs to a stream.
const COMMANDS: u32 = 3;
/// See [`COMMANDS`].
const STREAM: u32 = 4;

/// The message stream that the first `createStream` gives, and on which OBS counts.
const FIRST_STREAM: u32 = 1;

#[test]
fn a_publisher_that_speaks_like_obs_is_received_whole() {
    if !have(&["ffmpeg", "ffprobe"]) {
        return;
    }
    let scratch = Scratch::new();
    let (source, recording) = (scratch.file("source.flv"), scratch.file("recording.flv"));
    tool::make_source(&source, SECONDS);
    let home = Home::for_publisher(&recording);
    let mut obs = Obs::connect(tool::addr_of(home.publisher_url()));
    obs.publish();

    obs.send_file(&source);
    obs.leave();
    home.end_after_publisher();

    assert_whole(&source, &recording);
    let title = tool::probe([
        std::ffi::OsStr::new("-show_entries"),
        std::ffi::OsStr::new("format_tags=encoder"),
        recording.as_os_str(),
    ]);
    assert_eq!(title.trim(), ENCODER, "OBS's metadata are in the recording");
}

/// What OBS calls itself in the metadata.
const ENCODER: &str = "obs-output module (libobs version 29.1.3)";

/// OBS's side of a connection.
pub(crate) struct Obs {
    stream: TcpStream,
    writer: Writer,
    reader: Reader,
    /// What came and was not read yet.
    heard: Vec<u8>,
    tc_url: String,
}

impl Obs {
    /// Its stream key.
    pub(crate) const KEY: &str = "live_1234_secret";

    /// Connects and shakes hands.
    pub(crate) fn connect(addr: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(addr).expect("the caster listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        let mut hello = Vec::new();
        let mut handshake = Handshake::client(7, &mut hello);
        stream.write_all(&hello).expect("the caster reads");
        let mut answer = vec![0; 1 + 2 * BLOCK];
        stream.read_exact(&mut answer).expect("the caster shakes hands");
        let mut reply = Vec::new();
        assert!(handshake.read(&mut &answer[..], &mut reply).expect("a handshake"));
        stream.write_all(&reply).expect("the caster reads");
        let tc_url = format!("rtmp://{addr}/punchcast");
        Self { stream, writer: Writer::new(), reader: Reader::new(), heard: Vec::new(), tc_url }
    }

    /// The commands up to the point from which media may be sent.
    pub(crate) fn publish(&mut self) {
        let mut out = Vec::new();
        self.writer.set_chunk_size(4096, &mut out);
        self.stream.write_all(&out).expect("the caster reads");
        let connect = Value::object([
            ("app", Value::string("punchcast")),
            ("type", Value::string("nonprivate")),
            ("flashVer", Value::string("FMLE/3.0 (compatible; FMSc/1.0)")),
            ("swfUrl", Value::string(&self.tc_url)),
            ("tcUrl", Value::string(&self.tc_url)),
        ]);
        self.command(COMMANDS, 0, "connect", 1.0, &[connect]);
        self.answer("_result", 1.0);
        let key = || Value::string(Self::KEY);
        self.command(COMMANDS, 0, "releaseStream", 2.0, &[Value::Null, key()]);
        self.command(COMMANDS, 0, "FCPublish", 3.0, &[Value::Null, key()]);
        self.command(COMMANDS, 0, "createStream", 4.0, &[Value::Null]);
        let created = self.answer("_result", 4.0);
        assert_eq!(created.number(0), Some(f64::from(FIRST_STREAM)));
        self.command(STREAM, FIRST_STREAM, "publish", 5.0, &[Value::Null, key(), Value::string("live")]);
        let status = self.answer("onStatus", 0.0);
        let code = status.arguments[0].get("code").and_then(Value::as_str);
        assert_eq!(code, Some("NetStream.Publish.Start"));
        self.metadata();
    }

    fn metadata(&mut self) {
        let mut payload = Vec::new();
        amf0::encode_string("@setDataFrame", &mut payload);
        amf0::encode_string("onMetaData", &mut payload);
        let numbers = [
            ("duration", 0.0),
            ("fileSize", 0.0),
            ("width", 640.0),
            ("height", 360.0),
            ("videocodecid", 7.0),
            ("videodatarate", 2500.0),
            ("framerate", 25.0),
            ("audiocodecid", 10.0),
            ("audiodatarate", 160.0),
            ("audiosamplerate", 44_100.0),
            ("audiosamplesize", 16.0),
            ("audiochannels", 1.0),
        ];
        let mut properties: Vec<_> =
            numbers.map(|(name, number)| (name.to_owned(), Value::Number(number))).to_vec();
        properties.extend(
            ["stereo", "2.1", "3.1", "4.0", "4.1", "5.1", "7.1"]
                .map(|name| (name.to_owned(), Value::Boolean(false))),
        );
        properties.push(("encoder".to_owned(), Value::string(ENCODER)));
        Value::EcmaArray(properties).encode(&mut payload);
        self.media(Kind::Data, 0, payload.into());
    }

    /// Sends a file's units in real time, in place of OBS's encoder.
    pub(crate) fn send_file(&mut self, source: &Path) {
        let mut encoder = ffmpeg()
            .arg("-re")
            .arg("-i")
            .arg(source)
            .args(["-c", "copy", "-flush_packets", "1", "-f", "flv", "-"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("ffmpeg starts");
        let mut pipe = encoder.stdout.take().expect("asked for above");
        let (mut reader, mut buffer) = (flv::Reader::new(), vec![0; 65_536]);
        loop {
            let count = pipe.read(&mut buffer).expect("a pipe can be read");
            if count == 0 {
                break;
            }
            reader.push(&buffer[..count]);
            while let Some(unit) = reader.next().expect("ffmpeg writes FLV") {
                self.send_unit(&unit);
            }
        }
        assert!(encoder.wait().expect("a child can be waited for").success());
    }

    /// Sends a unit of the encoder; the metadata are OBS's own.
    fn send_unit(&mut self, unit: &Unit) {
        if unit.kind != Kind::Data {
            self.media(unit.kind, unit.timestamp, unit.payload.clone());
        }
    }

    pub(crate) fn leave(mut self) {
        self.command(COMMANDS, 0, "FCUnpublish", 6.0, &[Value::Null, Value::string(Self::KEY)]);
        let stream = Value::Number(f64::from(FIRST_STREAM));
        self.command(COMMANDS, 0, "deleteStream", 7.0, &[Value::Null, stream]);
    }

    fn media(&mut self, kind: Kind, timestamp: u32, payload: bytes::Bytes) {
        self.send(STREAM, &Message { kind: kind as u8, stream: FIRST_STREAM, timestamp, payload });
    }

    fn command(&mut self, chunks: u32, stream: u32, name: &str, transaction: f64, values: &[Value]) {
        self.send(chunks, &Message::command(stream, name, transaction, values));
    }

    fn send(&mut self, chunks: u32, message: &Message) {
        let mut out = Vec::new();
        self.writer.write(chunks, message, &mut out).expect("no message here is too long");
        self.stream.write_all(&out).expect("the caster reads");
    }

    /// Reads up to the command `name` with this transaction.
    fn answer(&mut self, name: &'static str, transaction: f64) -> Command {
        let mut buffer = [0; 4096];
        loop {
            let mut rest = &self.heard[..];
            let message = self.reader.read(&mut rest).expect("the caster speaks RTMP");
            self.heard = rest.to_vec();
            let Some(message) = message else {
                let count = self.stream.read(&mut buffer).expect("the caster answers");
                assert!(count > 0, "the caster hung up before {name}");
                self.heard.extend_from_slice(&buffer[..count]);
                continue;
            };
            match Command::parse(&message, &["_result", "_error", "onStatus"]).expect("a command") {
                Some(command) if command.name == name && command.transaction == transaction => {
                    return command;
                }
                Some(command) => assert_ne!(command.name, "_error", "{command:?}"),
                None => {}
            }
        }
    }
}
