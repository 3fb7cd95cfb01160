//! HTTP-FLV: a cast as a response without an end, for players that read `http://…/live.flv`.
//!
//! Each response is a file of its own: header, metadata, sequence headers, a keyframe, times from zero. What a player
//! does not take waits in a [queue](punchcast::media::pace::Queue), which leaves video out to the next keyframe. A cast
//! whose link is made again goes on in the same response; one that is gone ends it.

use crate::player::Player;
use crate::sink::Timeline;
use punchcast::media::{Cache, Unit, flv, told};
use std::time::{Duration, Instant};

/// How long a player may take nothing. It costs a descriptor and a queue; a paused player comes back by asking anew.
pub(super) const STALL_TIME: Duration = Duration::from_secs(30);

/// The most casts that have a path: one digit, and as many as a viewer shows.
const MOST_CASTS: usize = 9;

/// The cast that a path names: `/live.flv` or `/live-1.flv` is the first, `/live-2.flv` the second.
pub(super) fn place_of(path: &str) -> Option<usize> {
    if path == "/live.flv" {
        return Some(0);
    }
    let number = path.strip_prefix("/live-")?.strip_suffix(".flv")?;
    let number = if number.len() == 1 { number.parse::<usize>().ok()? } else { return None };
    (1..=MOST_CASTS).contains(&number).then(|| number - 1)
}

/// What one player is sent.
#[derive(Debug)]
pub(super) struct Response {
    /// Which cast.
    pub(super) place: usize,
    timeline: Timeline,
    player: Player,
    /// The file's header, once it is sent.
    header: Option<flv::Writer>,
    /// When the player is given up, unless it takes something.
    pub(super) until: Instant,
}

impl Response {
    /// A response that joins the stream of `cache`.
    pub(super) fn new(now: Instant, place: usize, cache: &Cache) -> Self {
        let player = Player::new(now, cache);
        Self { place, timeline: Timeline::default(), player, header: None, until: now + STALL_TIME }
    }

    /// Takes the next unit of the stream, which `cache` has taken.
    pub(super) fn push(&mut self, now: Instant, unit: &Unit, cache: &Cache) {
        self.player.push(now, unit, cache);
    }

    /// Begins with what `cache` has if it has waited long enough; whether it did.
    pub(super) fn begin_if_due(&mut self, now: Instant, cache: &Cache) -> bool {
        self.player.handle_timeout(now, cache)
    }

    /// When something is due, and why.
    pub(super) fn deadline(&self) -> (Instant, &'static str) {
        let begin = self.player.poll_timeout().map(|at| (at, "page: a player begins without a new keyframe"));
        begin.unwrap_or((self.until, "page: a player that takes nothing"))
    }

    /// Video units left out so far.
    pub(super) const fn dropped(&self) -> u64 {
        self.player.dropped()
    }

    /// Another stream follows for the same player, or none for a while.
    pub(super) fn restart(&mut self) {
        self.player.clear();
        self.timeline.next_stream();
    }

    /// The bytes of all that waits.
    pub(super) fn take(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Some(unit) = self.player.pop() {
            self.write(&unit, &mut bytes);
        }
        bytes
    }

    fn write(&mut self, unit: &Unit, bytes: &mut Vec<u8>) {
        let mut units = Vec::new();
        self.timeline.accept(&told::for_players(unit), |unit| units.push(unit));
        for unit in units {
            let writer = *self.header.get_or_insert_with(|| {
                let (audio, video) = self.timeline.contents();
                let writer = flv::Writer::new(audio, video);
                bytes.extend_from_slice(&writer.header());
                writer
            });
            bytes.extend(writer.tag(&unit));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use punchcast::media::Kind;

    #[test]
    fn paths_name_casts() {
        let cases = [
            ("/live.flv", Some(0)),
            ("/live-2.flv", Some(1)),
            ("/live-9.flv", Some(8)),
            ("/live-1.flv", Some(0)),
            ("/live-10.flv", None),
            ("/live-+2.flv", None),
            ("/live-.flv", None),
            ("/live", None),
        ];
        for (path, place) in cases {
            assert_eq!(place_of(path), place, "{path}");
        }
    }

    #[test]
    #[allow(clippy::disallowed_methods)] // A test's time begins somewhere.
    fn a_late_player_gets_a_file_of_its_own() {
        let picture = |timestamp, head: [u8; 2]| Unit {
            kind: Kind::Video,
            timestamp,
            payload: [head[0], head[1], 0, 0, 0, 1].to_vec().into(),
        };
        let mut cache = Cache::new();
        for unit in [picture(7000, [0x17, 0]), picture(7000, [0x17, 1]), picture(7040, [0x27, 1])] {
            cache.push(&unit);
        }
        let now = Instant::now();
        let mut response = Response::new(now, 0, &cache);
        assert!(!response.begin_if_due(now, &cache) && response.take().is_empty());
        assert!(response.begin_if_due(response.deadline().0, &cache));
        let bytes = response.take();
        assert!(bytes.starts_with(b"FLV\x01\x01"));
        let mut reader = flv::Reader::new();
        reader.push(&bytes);
        let read: Vec<_> = std::iter::from_fn(|| reader.next().expect("FLV"))
            .map(|unit| (unit.timestamp, unit.payload[0], unit.payload[1]))
            .collect();
        assert_eq!(read, [(0, 0x17, 0), (0, 0x17, 1), (40, 0x27, 1)]);
        assert!(response.take().is_empty());
    }
}
