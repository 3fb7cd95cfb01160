//! HTTP-FLV: a cast as a response without an end, for players that read `http://…/live.flv`.
//!
//! Each response is a file of its own: header, metadata, sequence headers, a keyframe, times from zero. What a player
//! does not take waits in a [queue](punchcast::media::pace::Queue), which leaves video out to the next keyframe. A cast
//! whose link is made again goes on in the same response; one that is gone ends it.

use crate::sink::Timeline;
use punchcast::media::pace::Queue;
use punchcast::media::{Cache, Unit, flv, told};
use std::time::{Duration, Instant};

/// How long a player may take nothing. It costs a descriptor and a queue; a paused player comes back by asking anew.
pub(super) const STALL_TIME: Duration = Duration::from_secs(30);

/// The most casts that have a path: one digit, and as many as a viewer shows.
const MOST_CASTS: usize = 9;

/// The cast that a path names: `/live.flv` is the first, `/live-2.flv` the second.
pub(super) fn place_of(path: &str) -> Option<usize> {
    if path == "/live.flv" {
        return Some(0);
    }
    let number = path.strip_prefix("/live-")?.strip_suffix(".flv")?;
    let number = if number.len() == 1 { number.parse::<usize>().ok()? } else { return None };
    (2..=MOST_CASTS).contains(&number).then(|| number - 1)
}

/// What one player is sent.
#[derive(Debug)]
pub(super) struct Response {
    /// Which cast.
    pub(super) place: usize,
    timeline: Timeline,
    pub(super) queue: Queue,
    /// The file's header, once it is sent.
    header: Option<flv::Writer>,
    /// When the player is given up, unless it takes something.
    pub(super) until: Instant,
}

impl Response {
    /// A response that begins with what `cache` has of the stream.
    pub(super) fn new(now: Instant, place: usize, cache: Option<&Cache>) -> Self {
        let mut queue = Queue::new();
        if let Some(cache) = cache {
            queue.begin(now, cache);
        }
        Self { place, timeline: Timeline::default(), queue, header: None, until: now + STALL_TIME }
    }

    /// Another stream follows for the same player, or none for a while.
    pub(super) fn restart(&mut self) {
        self.queue.clear();
        self.timeline.next_stream();
    }

    /// The bytes of all that waits.
    pub(super) fn take(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Some(unit) = self.queue.pop() {
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
            ("/live-1.flv", None),
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
        let mut response = Response::new(Instant::now(), 0, Some(&cache));
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
