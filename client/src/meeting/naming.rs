//! Which rung a connection stands on, from what both ends know of it.

use punchcast::endpoint::{Endpoint, Reach};
use punchcast::link::Facts;
use punchcast::policy::Rung;
use punchcast::punch::{Open, Origin};
use punchcast::wire::message::Role;
use std::net::IpAddr;

/// Which rung a connection stands on. Both sides have both sides' facts, so they agree.
pub(super) const fn rung(role: Role, ours: Facts, theirs: Facts) -> Rung {
    let (caster, viewer) = match role {
        Role::Caster => (ours, theirs),
        Role::Viewer => (theirs, ours),
    };
    if caster.lan && viewer.lan {
        return Rung::Lan;
    }
    match (caster.public, viewer.public) {
        // The viewer's listener took it: nothing stood in the caster's way.
        (true, true) if !viewer.dialled => Rung::Public,
        (true, _) => Rung::Reverse,
        (false, true) => Rung::Public,
        (false, false) if caster.mapped || viewer.mapped => Rung::PortMapped,
        (false, false) if caster.predicted || viewer.predicted => Rung::Predicted,
        (false, false) => Rung::Punched,
    }
}

/// What we know of a connection that formed; whether its remote endpoint is one of the peer's `mapped` ones.
pub(super) fn facts(open: &Open, mapped: bool, run: u64) -> Facts {
    Facts {
        dialled: open.dialled,
        public: open.local.reach() == Reach::Global,
        lan: is_lan(open.local, open.remote),
        predicted: open.origin == Some(Origin::Predicted),
        // Who was dialled sees a caller from anywhere; who dialled knows where to.
        mapped: open.dialled && mapped,
        run,
    }
}

/// Whether no NAT can stand between: both ends are on one host, both addresses are of this host or site, or both are
/// in one IPv6 /64.
pub(crate) fn is_lan(local: Endpoint, remote: Endpoint) -> bool {
    match (local.ip(), remote.ip()) {
        (IpAddr::V6(ours), IpAddr::V6(theirs)) if ours.octets()[..8] == theirs.octets()[..8] => true,
        (ours, theirs) => ours == theirs || local.reach() <= Reach::Site && remote.reach() <= Reach::Site,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(caster: Facts, viewer: Facts) -> Rung {
        let told = rung(Role::Caster, caster, viewer);
        assert_eq!(told, rung(Role::Viewer, viewer, caster), "both sides name the same");
        told
    }

    #[test]
    fn a_link_through_a_forwarded_port_is_port_mapped_unless_no_nat_needed_it() {
        let (none, dialler) = (Facts::default(), Facts { dialled: true, mapped: true, ..Facts::default() });
        assert_eq!(named(dialler, none), Rung::PortMapped);
        assert_eq!(named(none, dialler), Rung::PortMapped);
        assert_eq!(named(dialler, Facts { predicted: true, ..none }), Rung::PortMapped);
        assert_eq!(named(dialler, Facts { public: true, ..none }), Rung::Public);
        assert_eq!(named(Facts { public: true, ..dialler }, none), Rung::Reverse);
        assert_eq!(named(none, none), Rung::Punched);
    }
}
