//! A cast to whoever dials it, by plain RTMP, and to nobody else.

use super::*;
use punchcast::rtmp::{self, ClientSession, PlayConfig};

const KEY: &str = "a-key-of-players";

struct Served {
    now: Instant,
    caster: Caster,
    player: Option<ClientSession>,
    conn: ConnId,
    says: Vec<Notice>,
    page_hears: String,
}

impl Served {
    #[allow(clippy::disallowed_methods)] // A test's time begins somewhere.
    fn new() -> Self {
        let now = Instant::now();
        let serve = Serve { addr: addr("127.0.0.1:0"), key: KEY.into(), own_ips: Vec::new() };
        let config =
            Config { serve: Some(serve), share: Some(share_page()), encodes: true, ..config(Vec::new()) };
        let mut served = Self {
            now,
            caster: Caster::new(now, config),
            player: None,
            conn: ConnId { room: SERVE, serial: ConnId::ACCEPTED },
            says: Vec::new(),
            page_hears: String::new(),
        };
        served.settle();
        served
    }

    /// Carries what caster and player say until both are silent.
    fn settle(&mut self) {
        loop {
            while let Some(output) = self.caster.poll_output() {
                match output {
                    Output::Net(NetOp::Send { conn, bytes }) if conn == self.conn => {
                        let player = self.player.as_mut().expect("a player");
                        player.handle_input(&bytes).expect("the caster speaks RTMP");
                    }
                    Output::Net(NetOp::Send { bytes, .. }) => {
                        self.page_hears.push_str(&String::from_utf8_lossy(&bytes));
                    }
                    Output::Net(_) | Output::Exit => {}
                    Output::Notice(notice) => self.says.push(notice),
                }
            }
            let Some(output) = self.player.as_mut().and_then(ClientSession::poll_output) else { return };
            if let rtmp::Output::Transmit(bytes) = output {
                self.caster.handle_input(self.now, Input::Received { conn: self.conn, bytes: &bytes });
            }
        }
    }

    fn input(&mut self, input: Input<'_>) {
        self.caster.handle_input(self.now, input);
        self.settle();
    }

    fn join(&mut self) {
        let url = format!("rtmp://127.0.0.1/punchcast/{KEY}");
        self.player = Some(ClientSession::player(PlayConfig::new(&url).expect("an address")));
        let (local, remote) = (addr("127.0.0.1:1937"), addr("127.0.0.1:5001"));
        let listener = ListenerId { room: SERVE, serial: 0 };
        self.input(Input::Accepted { listener, conn: self.conn, local, remote });
    }
}

#[test]
fn a_player_who_comes_is_given_a_keyframe_by_the_sharing_page() {
    let mut served = Served::new();
    let page = open_page(&mut served.caster, served.now);
    // {"type":"start"}, masked with zeros (RFC 6455 §5.2).
    let start = [&[0x81, 0x90, 0, 0, 0, 0][..], br#"{"type":"start"}"#].concat();
    served.input(Input::Received { conn: page, bytes: &start });
    assert!(!served.page_hears.contains(r#""keyframe""#), "{}", served.page_hears);
    served.join();
    assert!(served.says.iter().any(|notice| matches!(notice, Notice::KeyframeWanted)), "{:?}", served.says);
    assert!(served.page_hears.contains(r#""keyframe""#), "{}", served.page_hears);
}

#[test]
fn the_source_is_held_while_nobody_is_there() {
    let mut served = Served::new();
    let held = |says: &[Notice]| {
        let hold = |notice: &Notice| if let Notice::Pace(pace) = notice { Some(pace.hold) } else { None };
        says.iter().rev().find_map(hold)
    };
    assert_eq!(held(&served.says), Some(true));
    served.join();
    assert_eq!(held(&served.says), Some(false));
    served.input(Input::Backlogged { conn: served.conn });
    assert_eq!(held(&served.says), Some(true), "its line is full");
    served.input(Input::Drained { conn: served.conn });
    assert_eq!(held(&served.says), Some(false));
    served.player = None;
    served.input(Input::Closed { conn: served.conn, error: None });
    assert_eq!(held(&served.says), Some(true));

    let mut bed = Bed::new();
    assert_eq!(held(&bed.caster_says), Some(false));
    let conn = bed.names.0;
    bed.caster.handle_input(bed.now, Input::Closed { conn, error: Some(NetError::Reset) });
    bed.drain();
    assert_eq!(held(&bed.caster_says), Some(true), "until the link is made again");
}
