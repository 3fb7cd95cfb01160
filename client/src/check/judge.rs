//! What a check has found, put together as its report.

use super::probe::Probe;
use super::{Check, FilterTest, Hairpin, Ipv6, Outcome, Report, Vantage};
use crate::portmap;
use punchcast::app::NetError;
use punchcast::endpoint::{Endpoint, Reach};
use punchcast::nat::{Family, Filtering, classify};

impl Check {
    /// Where the daemon looks from; `None` if nothing tells. The login alone shows whether a NAT is between.
    pub(super) fn vantage(&self) -> Option<Vantage> {
        let server = Endpoint::new(self.servers[0].main);
        match server.reach() {
            Reach::Nowhere | Reach::Host => Some(Vantage::ThisHost),
            Reach::Site | Reach::Global if self.local_ips.contains(&server.ip()) => Some(Vantage::ThisHost),
            Reach::Global => Some(Vantage::Outside),
            Reach::Site => {
                let seen = self.agent.samples().iter();
                let seen = seen.filter(|seen| Family::of(seen.endpoint) == Family::of(server));
                let own = seen.map(|seen| seen.own).reduce(|one, other| one | other)?;
                // A private address beyond a NAT: that NAT is measured.
                Some(if own { Vantage::ThisNetwork } else { Vantage::Outside })
            }
        }
    }

    pub(super) fn report(&mut self) {
        let vantage = self.vantage();
        // What came over loopback passed no NAT, and says nothing of any; nor does the login alone say how it maps.
        let nothing = vantage == Some(Vantage::ThisHost) || self.mapping.is_none();
        let samples = if nothing { &[] } else { self.agent.samples() };
        let (v4, v6) = (classify(samples, Family::V4), classify(samples, Family::V6));
        let sampled_v6 = self.servers.first().is_some_and(|server| server.main.is_ipv6());
        let address =
            self.local_ips.iter().copied().find(|ip| ip.is_ipv6() && Reach::of(*ip) == Reach::Global);
        let report = Report {
            server: self.servers[0],
            vantage,
            assist_trouble: match self.mapping {
                Some(_) => None,
                None => Some(self.assist_trouble.clone().unwrap_or_else(|| NetError::TimedOut.to_string())),
            },
            rtt: self.agent.rtt(),
            local: self.local.clone(),
            mapping: self.mapping.map(|seen| seen.endpoint),
            verdict: if sampled_v6 { v6 } else { v4 },
            has_alternate: self.agent.alternate().is_some(),
            filtering: match self.filter {
                FilterTest::Done(filtering) if vantage != Some(Vantage::ThisHost) => filtering,
                FilterTest::Done(_) => Filtering::judge(None, None),
                FilterTest::NotAsked | FilterTest::Asked => Filtering::judge(None, None),
            },
            hairpin: match self.hairpin {
                _ if vantage == Some(Vantage::ThisHost) => Hairpin::NotMeasured,
                Probe::Done { arrived: true } => Hairpin::Works,
                Probe::Done { arrived: false } => Hairpin::Fails,
                Probe::NotBegun if self.mapping.is_some_and(|seen| seen.own) => Hairpin::Needless,
                Probe::NotBegun | Probe::UnderWay { .. } => Hairpin::NotMeasured,
            },
            relay: self.agent.relay_offer().is_some(),
            // The program around asks the router meanwhile.
            port_mapping: portmap::not_asked(),
            ipv6: Ipv6 {
                address,
                daemon: match self.ipv6 {
                    Probe::Done { arrived } => Some(arrived),
                    Probe::UnderWay { .. } => Some(false),
                    Probe::NotBegun => sampled_v6.then_some(true),
                },
            },
        };
        self.end(Outcome::Report(Box::new(report)));
    }
}
