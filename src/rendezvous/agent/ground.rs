//! What the agent learns of the ground: mappings, round trip, filtering.

use super::sampler::Sighting;
use super::{Agent, Event, Main};
use crate::app::NetOp;
use crate::nat::{Family, classify, is_own};
use crate::wire;
use crate::wire::message::{MAX_OBSERVATIONS, Observation, ToMain};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// A connect that took this long had its SYN sent again (RFC 6298: after one second), so its time is not a round trip.
const SYN_SENT_AGAIN: Duration = Duration::from_secs(1);
/// Samples older than this are taken anew when somebody is introduced: an allocator in sequence has moved on. The
/// daemon allows as many.
pub(super) const SAMPLES_AGE: Duration = Duration::from_secs(60);

impl Agent {
    /// What the daemon saw of this host since the login began, oldest first; at most
    /// [`MAX_OBSERVATIONS`].
    #[must_use]
    pub fn samples(&self) -> &[Observation] {
        &self.observed
    }

    /// The round trip to the daemon, as the time of a connect; `None` until one was measured.
    #[must_use]
    pub const fn rtt(&self) -> Option<Duration> {
        self.rtt
    }

    /// Whether samples are under way.
    #[must_use]
    pub const fn is_sampling(&self) -> bool {
        !self.sampler.is_idle()
    }

    /// The daemon's alternate address, as far as it was told.
    #[must_use]
    pub const fn alternate(&self) -> Option<SocketAddr> {
        self.sampler.alternate()
    }

    /// Leaves the daemon's alternate address alone until [`sample_alternate`](Self::sample_alternate): some NATs that filter
    /// by address let an address in that *any* port has spoken to, and a test of filtering comes first then.
    pub const fn withhold_alternate(&mut self) {
        self.sampler.withhold_alternate();
    }

    /// Takes the sample of the alternate address that was withheld.
    pub fn sample_alternate(&mut self, now: Instant) {
        self.sampler.sample_alternate(now, &self.config.servers, &mut self.conns);
        self.drain_sampler();
    }

    /// Asks the daemon to knock at the hole port as a stranger; answered by [`Event::Filtering`], or by
    /// [`Event::Refused`]. Whether there is a login to ask with.
    pub fn test_filter(&mut self) -> bool {
        let Main::LoggedIn { conn, .. } = self.main else { return false };
        self.net(NetOp::Send { conn, bytes: wire::encode(&ToMain::TestFilter) });
        true
    }

    /// Notes how long a connect to the daemon took.
    pub(super) fn measured(&mut self, took: Duration) {
        if took < SYN_SENT_AGAIN {
            self.rtt = Some(self.rtt.map_or(took, |least| least.min(took)));
        }
    }

    /// Takes samples with the token of this login.
    pub(super) fn sample(&mut self, now: Instant) {
        self.sampled_at = Some(now);
        let servers = &self.config.servers;
        let holes = self.assists.iter().filter_map(|lane| {
            let server = servers.iter().find(|server| server.assist == lane.to)?;
            Some((lane.from, *server))
        });
        self.sampler.begin(now, self.token, holes, &mut self.conns);
        self.drain_sampler();
    }

    /// Takes samples anew if those there are can be too old to say which port comes next.
    pub(super) fn refresh_samples(&mut self, now: Instant) {
        let old = self.sampled_at.is_none_or(|at| now >= at + SAMPLES_AGE);
        let moving = |family| {
            let verdict = classify(&self.observed, family);
            verdict.public_ip.is_some() && !verdict.mapping.is_stable()
        };
        if old && self.sampler.is_idle() && (moving(Family::V4) || moving(Family::V6)) {
            self.sample(now);
        }
    }

    pub(super) fn stop_sampling(&mut self) {
        self.sampler.stop();
        self.drain_sampler();
    }

    pub(super) fn drain_sampler(&mut self) {
        while let Some(op) = self.sampler.poll_op() {
            self.net(op);
        }
    }

    pub(super) fn observe(&mut self, seen: Sighting, hole: bool) {
        let Sighting { seen_by, local_port, endpoint } = seen;
        let own = is_own(&self.local, local_port, endpoint);
        let observation = Observation { seen_by, local_port, endpoint, hole, own };
        if !self.observed.contains(&observation) {
            if self.observed.len() >= MAX_OBSERVATIONS {
                let oldest = self.observed.iter().position(|seen| !seen.hole).unwrap_or(0);
                self.observed.remove(oldest);
            }
            self.observed.push(observation);
        }
        self.event(Event::Observed { observation });
    }
}
