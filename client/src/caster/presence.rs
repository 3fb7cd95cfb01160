//! Whether the viewer of a ticket is there: a caster says soon that it is not, long before it gives up. The daemon knows;
//! where there is none, addresses that do not answer tell.

use punchcast::id::ClientId;
use punchcast::rendezvous::agent::Event;
use punchcast::wire::message::Role;
use std::time::{Duration, Instant};

/// How long a viewer may be missing before the user is told. One that is there is named with the login; one that left may
/// have lost its login to what the caster lost its own to, and comes back within it.
pub(super) const ABSENT_AFTER: Duration = Duration::from_millis(1500);

/// What is known of the viewer, by the daemon's word if there is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Presence {
    /// Nothing.
    #[default]
    Unknown,
    /// It is logged in.
    There(ClientId),
    /// It is not; told then.
    Missed(Instant),
    /// It is not, which was told: that the daemon says so once more is no news.
    Told,
}

impl Presence {
    /// It is sought from now on, and not known to be there.
    pub(super) fn sought(now: Instant) -> Self {
        Self::Missed(now + ABSENT_AFTER)
    }

    /// The link is gone: that the viewer is not there is news again, if that is what is known.
    pub(super) fn seek_anew(&mut self, now: Instant) {
        if *self == Self::Told {
            *self = Self::sought(now);
        }
    }

    /// Takes what the daemon tells.
    pub(super) fn hear(&mut self, now: Instant, event: &Event) {
        match event {
            Event::LoggedIn { .. } | Event::Unreachable { .. } if *self == Self::Told => {}
            Event::LoggedIn { .. } => *self = Self::Missed(now + ABSENT_AFTER),
            Event::PeerLeft { client } if *self == Self::There(*client) => {
                *self = Self::Missed(now + ABSENT_AFTER);
            }
            Event::PeerJoined { client, role: Role::Viewer } => *self = Self::There(*client),
            Event::Introduced { peer, .. } => *self = Self::There(peer.client),
            Event::Unreachable { .. } => *self = Self::Unknown,
            Event::PeerLeft { .. }
            | Event::PeerJoined { role: Role::Caster, .. }
            | Event::Observed { .. }
            | Event::Amended { .. }
            | Event::Filtering { .. }
            | Event::Refused { .. }
            | Event::Code { .. }
            | Event::NoCode { .. }
            | Event::CodeUsed
            | Event::WrongCode { .. }
            | Event::AssistUnreachable { .. } => {}
        }
    }

    /// When there may be something to tell.
    pub(super) const fn due(self) -> Option<Instant> {
        match self {
            Self::Missed(at) => Some(at),
            Self::Unknown | Self::There(_) | Self::Told => None,
        }
    }

    /// Whether the viewer is missing for so long; once.
    pub(super) fn take_absence(&mut self, now: Instant) -> bool {
        let absent = self.due().is_some_and(|at| at <= now);
        if absent {
            *self = Self::Told;
        }
        absent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods)] // A test's time begins somewhere.
    fn a_viewer_is_missed_once_however_often_the_daemon_is_lost_until_it_was_there() {
        let (mut now, server) = (Instant::now(), ([192, 0, 2, 1], 4000).into());
        let logged_in = Event::LoggedIn { client: ClientId(1), server };
        let lost = Event::Unreachable { server, why: "reset".into(), retry_in: Duration::ZERO };
        let came = Event::PeerJoined { client: ClientId(2), role: Role::Viewer };
        let left = Event::PeerLeft { client: ClientId(2) };
        let mut presence = Presence::default();
        for (events, missed) in [
            (vec![&logged_in], true),
            (vec![&lost, &logged_in], false),
            (vec![&came], false),
            (vec![&left], true),
            (vec![&came, &lost], false),
            (vec![&logged_in], true),
        ] {
            events.iter().for_each(|event| presence.hear(now, event));
            now += ABSENT_AFTER;
            assert_eq!(presence.take_absence(now), missed, "{events:?}");
        }
        presence.seek_anew(now);
        assert!(presence.take_absence(now + ABSENT_AFTER), "a link was there, and is lost");
    }
}
