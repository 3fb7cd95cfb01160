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
    /// Nothing, or the absence was told.
    #[default]
    Unknown,
    /// It is logged in.
    There(ClientId),
    /// It is not; told then.
    Missed(Instant),
}

impl Presence {
    /// It is sought from now on without a daemon.
    pub(super) fn sought(now: Instant) -> Self {
        Self::Missed(now + ABSENT_AFTER)
    }

    /// Takes what the daemon tells.
    pub(super) fn hear(&mut self, now: Instant, event: &Event) {
        match event {
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
            Self::Unknown | Self::There(_) => None,
        }
    }

    /// Whether the viewer is missing for so long; once.
    pub(super) fn take_absence(&mut self, now: Instant) -> bool {
        let absent = self.due().is_some_and(|at| at <= now);
        if absent {
            *self = Self::Unknown;
        }
        absent
    }
}
