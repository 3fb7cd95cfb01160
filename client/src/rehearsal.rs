//! A picture's way through the program, gone before the picture comes.
//!
//! Where pictures come at regular times ([`punchcast::cadence`]), a program sleeps between them, and a core that slept finds
//! code and memory out of its caches: each step of the way takes some microseconds that it would not need, and together they
//! are half of the time that a picture takes through caster and viewer. So the most of it is done once with a picture of
//! nobody's, just before the one that is awaited:
//!
//! ```text
//! publisher ─RTMP─▶ cache, queue ─▶ link's caster ─records─▶ link's viewer ─RTMP─▶ server ─▶ units
//! ```
//!
//! Nothing of it is seen from outside, and it holds nothing of the cast's. It takes some 50 µs.

use punchcast::link::{self, Channel, Event, Facts};
use punchcast::media::pace::Queue;
use punchcast::media::{Cache, Unit, avc, metadata};
use punchcast::rtmp::{ClientSession, Output, PublishConfig, ServerEvent, ServerSession};
use punchcast::ticket::ViewerIdentity;
use std::error::Error;
use std::time::Instant;

/// Bytes of its picture: two records of a link, and one picture of 60 a second at 12 Mbit/s.
const PICTURE: usize = 24 * 1024;

/// Milliseconds from picture to picture.
const PERIOD: u32 = 16;

/// What a caster or a viewer rehearses with.
#[derive(Default)]
pub(crate) enum Rehearsal {
    /// Not wanted yet.
    #[default]
    Unmade,
    /// Ready.
    Ready(Box<Stage>),
    /// It does not work here: nobody misses it.
    Failed,
}

impl Rehearsal {
    /// Has a picture go its way. The first call only prepares that, which takes longer.
    pub(crate) fn run(&mut self, now: Instant) {
        let result = match self {
            Self::Unmade => Stage::new(now).map(|stage| *self = Self::Ready(Box::new(stage))),
            Self::Ready(stage) => stage.play(now),
            Self::Failed => Ok(()),
        };
        if let Err(error) = result {
            log::debug!("nothing is rehearsed any more: {error}");
            debug_assert!(false, "the rehearsal fails: {error}");
            *self = Self::Failed;
        }
    }
}

/// Both ends of a link and of an RTMP session, and a picture.
pub(crate) struct Stage {
    publisher: ClientSession,
    cache: Cache,
    queue: Queue,
    caster: Channel,
    viewer: Channel,
    server: ServerSession,
    picture: Unit,
    arrived: bool,
}

impl Stage {
    fn new(now: Instant) -> Result<Self, Box<dyn Error>> {
        // Whoever knows these secrets has no connection to use them on.
        let identity = ViewerIdentity::from_random(&[0; ViewerIdentity::RANDOM_LEN]);
        let secrets = identity.ticket(None, Vec::new()).caster_secrets();
        let mut stage = Self {
            publisher: ClientSession::publisher(PublishConfig::new("rtmp://localhost/rehearsal/picture")?),
            cache: Cache::new(),
            queue: Queue::new(),
            caster: Channel::caster(now, &secrets, Facts::default()),
            viewer: Channel::viewer(now, &identity.viewer_secrets(), Facts::default()),
            server: ServerSession::new(0),
            // Each a keyframe, so that no cache keeps more than one.
            picture: avc::picture(0, true, &[&[0x65; PICTURE]]),
            arrived: false,
        };
        stage.settle(now)?;
        stage.caster.nominate()?;
        stage.settle(now)?;
        Ok(stage)
    }

    fn play(&mut self, now: Instant) -> Result<(), Box<dyn Error>> {
        self.picture.timestamp = self.picture.timestamp.wrapping_add(PERIOD);
        let unit = metadata::of_stream(self.picture.clone());
        self.cache.push(&unit);
        self.queue.push_dated(now, unit, now);
        while let Some((unit, _)) = self.queue.pop_dated() {
            self.caster.stamp(unit.timestamp, now)?;
            self.publisher.send_media(&unit)?;
        }
        self.settle(now)?;
        // The caster is told what came, so that it does not keep account of it.
        self.viewer.handle_timeout(now);
        self.settle(now)?;
        if std::mem::take(&mut self.arrived) { Ok(()) } else { Err("the picture did not arrive".into()) }
    }

    /// Carries bytes until nobody has any.
    fn settle(&mut self, now: Instant) -> Result<(), Box<dyn Error>> {
        loop {
            let mut carried = false;
            while let Some(output) = self.publisher.poll_output() {
                if let Output::Transmit(bytes) = output {
                    carried = true;
                    // What is said before the picture is not worth a link.
                    if self.caster.is_nominated() {
                        self.caster.send_stream(now, bytes)?;
                    } else {
                        self.server.handle_input(&bytes)?;
                    }
                }
            }
            while let Some(output) = self.caster.poll_output() {
                if let link::Output::Transmit(bytes) = output {
                    carried = true;
                    self.viewer.handle_input(now, &bytes)?;
                }
            }
            while let Some(output) = self.viewer.poll_output() {
                carried = true;
                match output {
                    link::Output::Transmit(bytes) => self.caster.handle_input(now, &bytes)?,
                    link::Output::Event(Event::Stream(bytes)) => self.server.handle_input(&bytes)?,
                    link::Output::Event(_) => {}
                }
            }
            while let Some(output) = self.server.poll_output() {
                carried = true;
                match output {
                    Output::Transmit(bytes) => self.publisher.handle_input(&bytes)?,
                    Output::Event(ServerEvent::Publish { stream, .. }) => self.server.accept(stream),
                    Output::Event(ServerEvent::Media(_)) => self.arrived = true,
                    Output::Event(_) => {}
                }
            }
            if !carried {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn each_picture_arrives_whatever_the_time_between_and_nothing_is_kept() {
        #[allow(clippy::disallowed_methods)] // A test's time begins somewhere.
        let (mut now, mut rehearsal) = (Instant::now(), Rehearsal::default());
        rehearsal.run(now);
        if let Rehearsal::Ready(stage) = &mut rehearsal {
            stage.picture.timestamp = u32::MAX - 10 * PERIOD;
        }
        // More than 4 GiB, which RTMP counts in 32 bits, and than the life of the keys of both directions.
        for number in 0..200_000_u32 {
            now += match number {
                // More than a link's silence.
                10 | 20_000 => Duration::from_secs(3600),
                _ => Duration::from_millis(16),
            };
            rehearsal.run(now);
            let Rehearsal::Ready(stage) = &rehearsal else { panic!("it failed at {number}") };
            assert_eq!(stage.publisher.buffered_bytes() + stage.server.buffered_bytes(), 0);
            assert!(stage.queue.is_empty() && !stage.caster.is_ended() && !stage.viewer.is_ended());
        }
    }
}
