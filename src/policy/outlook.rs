//! What to expect of a peer before there is one, from what is known of this host's own NAT.
//!
//! | ours ↓ peer → | public | stable | dependent, in sequence | dependent, random |
//! |---|---|---|---|---|
//! | not translated, or stable | direct | direct | direct if an address is enough for our filter, else predicted | as before, by many tries |
//! | dependent, filtered by nothing | direct | direct | direct | direct |
//! | dependent, in sequence | direct | predicted | predicted by both, perhaps | – |
//! | dependent, random | direct | by many tries | – | – |
//!
//! The peer is taken for one whose filtering depends on address and port, the strictest there is. What is *predicted* here
//! is what [`plan::burst`](super::plan::burst) finds a burst for.

use super::Rung;
use crate::nat::{Allocation, Filtering, Mapping, Missing, Verdict};
use std::fmt;

/// What stands before a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PeerKind {
    /// It is on our own network.
    SameNetwork,
    /// Nothing.
    Public,
    /// A NAT with endpoint-independent mapping.
    Stable,
    /// A NAT with address-and-port-dependent mapping that gives ports in sequence.
    Sequential,
    /// A NAT with address-and-port-dependent mapping that gives random ports.
    Random,
}

impl PeerKind {
    /// All of them, the easiest first.
    pub const ALL: [Self; 5] =
        [Self::SameNetwork, Self::Public, Self::Stable, Self::Sequential, Self::Random];
}

impl fmt::Display for PeerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SameNetwork => "on the same network",
            Self::Public => "public, without a NAT",
            Self::Stable => "behind a NAT, endpoint-independent mapping",
            Self::Sequential => "behind a NAT, address-and-port-dependent, ports in sequence",
            Self::Random => "behind a NAT, address-and-port-dependent, random ports",
        })
    }
}

/// What will work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outlook {
    /// A direct link.
    Direct {
        /// The rung if this host casts.
        casting: Rung,
        /// The rung if this host views.
        viewing: Rung,
        /// How likely it forms.
        odds: Odds,
    },
    /// No direct link over TCP: neither side can know the port that the other's NAT will take.
    Impossible,
    /// Too little is known of our own NAT.
    Unknown,
}

impl Outlook {
    /// The same with a router that forwards a port on request. That is no better than to be dialled at a mapping that lasts,
    /// and better than any guess.
    #[must_use]
    pub fn with_port_mapping(self) -> Self {
        let (casting, viewing) = (Rung::PortMapped, Rung::PortMapped);
        let mapped = Self::Direct { casting, viewing, odds: Odds::Likely };
        match self {
            Self::Impossible | Self::Unknown => mapped,
            Self::Direct { casting, .. } if casting > Rung::Punched => mapped,
            Self::Direct { .. } => self,
        }
    }
}

/// How likely a direct link forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Odds {
    /// Nothing has to be guessed.
    Sure,
    /// A port has to be guessed, and mostly is.
    Likely,
    /// Both sides have to guess.
    Open,
}

impl fmt::Display for Odds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sure => "works",
            Self::Likely => "most likely works",
            Self::Open => "may work",
        })
    }
}

/// What to expect of a peer, given what was found out about our own NAT.
#[must_use]
pub fn outlook(own: &Verdict, filtering: Filtering, peer: PeerKind) -> Outlook {
    let by = |casting, viewing, odds| Outlook::Direct { casting, viewing, odds };
    match (own.mapping, peer) {
        (_, PeerKind::SameNetwork) => by(Rung::Lan, Rung::Lan, Odds::Sure),
        // Between two public hosts the caster's connect wins, unless a firewall before the viewer stops it.
        (Mapping::NotTranslated, PeerKind::Public) if filtering.admits_strangers() => {
            by(Rung::Public, Rung::Public, Odds::Sure)
        }
        (_, PeerKind::Public) => by(Rung::Public, Rung::Reverse, Odds::Sure),
        (mapping, PeerKind::Stable | PeerKind::Sequential | PeerKind::Random) => {
            let (odds, guessed) = match behind_nats(own, filtering, peer) {
                Guess::Needless => (Odds::Sure, false),
                Guess::One => (Odds::Likely, true),
                Guess::Both => (Odds::Open, true),
                Guess::Hopeless => return Outlook::Impossible,
                Guess::Unknown => return Outlook::Unknown,
            };
            match (mapping, guessed) {
                // The rung is named after who can be dialled, even where a firewall has to be opened first.
                (Mapping::NotTranslated, _) => by(Rung::Reverse, Rung::Public, odds),
                (_, true) => by(Rung::Predicted, Rung::Predicted, odds),
                (_, false) => by(Rung::Punched, Rung::Punched, odds),
            }
        }
    }
}

/// Whose port has to be guessed.
enum Guess {
    Needless,
    One,
    Both,
    Hopeless,
    Unknown,
}

fn behind_nats(own: &Verdict, filtering: Filtering, peer: PeerKind) -> Guess {
    // The endpoint that the daemon saw lets everybody in, whatever other mappings there are.
    if filtering.admits_strangers() {
        return Guess::Needless;
    }
    if own.mapping == Mapping::Unknown(Missing::Everything) {
        return Guess::Unknown;
    }
    let peer_moves = matches!(peer, PeerKind::Sequential | PeerKind::Random);
    if own.mapping.is_stable() {
        // A mapping that lasts is opened for the peer's whole address by our own SYN, if an address is enough.
        let guess = peer_moves && !filtering.admits_any_port();
        return if guess { Guess::One } else { Guess::Needless };
    }
    match (own.allocation, peer_moves) {
        (Allocation::Unknown | Allocation::Sequential { step: 0 }, _) => Guess::Unknown,
        (_, false) => Guess::One,
        (Allocation::Sequential { .. }, true) if peer == PeerKind::Sequential => Guess::Both,
        (Allocation::Preserving | Allocation::Sequential { .. } | Allocation::Random, true) => {
            Guess::Hopeless
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan;
    use super::*;
    use crate::nat::{Family, classify};
    use crate::policy::plan::tests::seen;
    use crate::punch::Aim;

    const SURE_PUNCH: Outlook =
        Outlook::Direct { casting: Rung::Punched, viewing: Rung::Punched, odds: Odds::Sure };
    const SURE_OPEN: Outlook =
        Outlook::Direct { casting: Rung::Reverse, viewing: Rung::Public, odds: Odds::Sure };
    const LIKELY_OPEN: Outlook =
        Outlook::Direct { casting: Rung::Reverse, viewing: Rung::Public, odds: Odds::Likely };
    const GUESSED: Outlook =
        Outlook::Direct { casting: Rung::Predicted, viewing: Rung::Predicted, odds: Odds::Likely };
    const BOTH_GUESS: Outlook =
        Outlook::Direct { casting: Rung::Predicted, viewing: Rung::Predicted, odds: Odds::Open };

    const NONE: Filtering = Filtering::EndpointIndependent;
    const BY_ADDRESS: Filtering = Filtering::AddressDependent;
    const STRICT: Filtering = Filtering::AddressAndPortDependent;
    const NOT_TESTED: Filtering = Filtering::Unknown(Missing::Everything);

    const IN_SEQUENCE: Allocation = Allocation::Sequential { step: 1 };

    fn verdict(mapping: Mapping, allocation: Allocation) -> Verdict {
        Verdict { family: Family::V4, mapping, allocation, public_ip: Some([203, 0, 113, 1].into()) }
    }

    #[test]
    fn the_table_of_own_nat_and_peer() {
        use Mapping::{AddressAndPortDependent as Apdm, EndpointIndependent as Eim, NotTranslated};
        let impossible = Outlook::Impossible;
        let unknown = Outlook::Unknown;
        let half_known = Mapping::Unknown(Missing::Address);
        let not_known = Mapping::Unknown(Missing::Everything);
        // Own mapping, allocation and filtering; then peers: stable, in sequence, random.
        let table = [
            (NotTranslated, Allocation::Preserving, NONE, [SURE_OPEN; 3]),
            (NotTranslated, Allocation::Preserving, BY_ADDRESS, [SURE_OPEN; 3]),
            (NotTranslated, Allocation::Preserving, STRICT, [SURE_OPEN, LIKELY_OPEN, LIKELY_OPEN]),
            (Eim, Allocation::Preserving, NONE, [SURE_PUNCH; 3]),
            (Eim, Allocation::Preserving, BY_ADDRESS, [SURE_PUNCH; 3]),
            (Eim, Allocation::Preserving, STRICT, [SURE_PUNCH, GUESSED, GUESSED]),
            (Eim, Allocation::Random, NOT_TESTED, [SURE_PUNCH, GUESSED, GUESSED]),
            (half_known, Allocation::Preserving, STRICT, [SURE_PUNCH, GUESSED, GUESSED]),
            (Apdm, IN_SEQUENCE, NONE, [SURE_PUNCH; 3]),
            (Apdm, IN_SEQUENCE, BY_ADDRESS, [GUESSED, BOTH_GUESS, impossible]),
            (Apdm, IN_SEQUENCE, STRICT, [GUESSED, BOTH_GUESS, impossible]),
            (Apdm, Allocation::Preserving, STRICT, [GUESSED, impossible, impossible]),
            (Apdm, Allocation::Random, NONE, [SURE_PUNCH; 3]),
            (Apdm, Allocation::Random, STRICT, [GUESSED, impossible, impossible]),
            (Apdm, Allocation::Unknown, STRICT, [unknown; 3]),
            (not_known, Allocation::Unknown, STRICT, [unknown; 3]),
            (not_known, Allocation::Unknown, NONE, [SURE_PUNCH; 3]),
        ];
        for (mapping, allocation, filtering, expected) in table {
            let own = verdict(mapping, allocation);
            for (peer, expected) in
                [PeerKind::Stable, PeerKind::Sequential, PeerKind::Random].into_iter().zip(expected)
            {
                assert_eq!(outlook(&own, filtering, peer), expected, "{own} {filtering}, {peer}");
            }
        }
    }

    #[test]
    fn a_router_that_forwards_a_port_replaces_guesses_and_nothing_else() {
        let mapped =
            Outlook::Direct { casting: Rung::PortMapped, viewing: Rung::PortMapped, odds: Odds::Likely };
        for better in [SURE_PUNCH, SURE_OPEN, LIKELY_OPEN] {
            assert_eq!(better.with_port_mapping(), better);
        }
        for worse in [GUESSED, BOTH_GUESS, Outlook::Impossible, Outlook::Unknown] {
            assert_eq!(worse.with_port_mapping(), mapped);
        }
    }

    #[test]
    fn a_public_peer_and_one_on_the_same_network_can_be_dialled_from_everywhere() {
        for mapping in [
            Mapping::NotTranslated,
            Mapping::EndpointIndependent,
            Mapping::AddressAndPortDependent,
            Mapping::Unknown(Missing::Everything),
        ] {
            let own = verdict(mapping, Allocation::Random);
            let public = Outlook::Direct { casting: Rung::Public, viewing: Rung::Reverse, odds: Odds::Sure };
            let lan = Outlook::Direct { casting: Rung::Lan, viewing: Rung::Lan, odds: Odds::Sure };
            assert_eq!(outlook(&own, STRICT, PeerKind::Public), public);
            assert_eq!(outlook(&own, STRICT, PeerKind::SameNetwork), lan);
        }
        let open = verdict(Mapping::NotTranslated, Allocation::Preserving);
        let both = Outlook::Direct { casting: Rung::Public, viewing: Rung::Public, odds: Odds::Sure };
        assert_eq!(outlook(&open, NONE, PeerKind::Public), both);
    }

    #[test]
    fn a_link_is_foretold_as_predicted_where_and_only_where_the_plan_has_a_burst() {
        let kinds = [
            (PeerKind::Stable, seen([700, 700, 9001, 9002])),
            (PeerKind::Sequential, seen([5000, 5001, 5002, 5003])),
            (PeerKind::Random, seen([51_234, 2077, 33_801, 60_002])),
        ];
        for (own_kind, own) in &kinds {
            let verdict = classify(own, Family::V4);
            for (peer, theirs) in &kinds {
                let foretold = outlook(&verdict, STRICT, *peer);
                let predicted = matches!(foretold, Outlook::Direct { casting: Rung::Predicted, .. });
                let guesses = |aim| match aim {
                    Some(Aim::Sweep { ports, .. }) => !ports.is_empty(),
                    Some(Aim::Fan { .. } | Aim::Hold) => true,
                    None => false,
                };
                let burst = guesses(plan::burst(own, theirs, 1)) || guesses(plan::burst(theirs, own, 1));
                assert_eq!(predicted, burst, "{own_kind} × {peer}: {foretold:?}");
            }
        }
    }
}
