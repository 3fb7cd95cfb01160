//! Samples: connections that exist to let the daemon see one more mapping of a client.

use super::broker::{Broker, Ending, Port};
use super::registry::{Ask, Seen};
use crate::app::ConnId;
use crate::id::ClientId;
use crate::wire::message::{Refusal, Role, SeenBy};
use std::time::Instant;

impl Broker {
    /// Notes the mapping of a sample and ends its connection. Introductions that are under way are amended: the other
    /// side judges the NAT by all that is known.
    pub(super) fn sampled(&mut self, now: Instant, id: ConnId, client: ClientId, local_port: u16) {
        let Some(conn) = self.conns.get(&id) else { return };
        let by = match conn.port {
            Port::Main => SeenBy::Main,
            Port::Assist => SeenBy::Assist,
            Port::Alternate => SeenBy::Alternate,
        };
        let seen = Seen { born: conn.born, by, local_port, endpoint: conn.remote };
        let (rate, kept) = (self.limits.samples, self.limits.samples_kept);
        let Some(login) = self.registry.login_mut(client) else { return };
        if !login.sampling.take(now, rate) {
            self.end(now, id, Ending::Refuse(Refusal::TooMany));
            return;
        }
        if login.samples.len() >= kept {
            login.samples.remove(0);
        }
        login.samples.push(seen);
        let role = login.role;
        log::debug!("conn={id} client={client} port {local_port} seen at {} ({by:?})", seen.endpoint);
        // The daemon closes first, so that TIME-WAIT is here and not on the client's port.
        self.end(now, id, Ending::Flush);
        self.amend(now, client, role);
    }

    /// More is known of a client: whoever was introduced to it lately hears of it.
    pub(super) fn amend(&mut self, now: Instant, client: ClientId, role: Role) {
        match role {
            Role::Caster => {
                if self.under_way(now, client) {
                    self.amend_for_viewer(now, client);
                }
            }
            Role::Viewer => self.amend_for_casters(now, client),
        }
    }

    /// Whether a session of this caster's is young enough to be amended.
    fn under_way(&self, now: Instant, caster: ClientId) -> bool {
        self.registry.login(caster).is_some_and(|login| match login.ask {
            Ask::Nothing | Ask::Waiting => false,
            Ask::Asked { since, .. } | Ask::Ready { since, .. } | Ask::Told { since, .. } => {
                now < since + self.limits.introduction
            }
        })
    }

    /// More of the viewer was seen: the casters that were told of it hear the whole list under their sessions.
    fn amend_for_casters(&mut self, now: Instant, viewer: ClientId) {
        let Some(rendezvous) = self.registry.login(viewer).map(|login| login.rendezvous) else { return };
        for caster in self.registry.casters(rendezvous).to_vec() {
            if self.under_way(now, caster)
                && let Some(Ask::Told { session, .. }) = self.registry.login(caster).map(|login| login.ask)
            {
                self.tell_caster(now, caster, viewer, session);
            }
        }
    }
}
