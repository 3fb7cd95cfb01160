//! What stands in the way of a direct link, in plain words, as far as both sides' samples tell.

use crate::nat::{self, Allocation, Family, Mapping, Missing, Observation};
use std::fmt;

/// Why no direct link has formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Obstacle {
    /// Both NATs take a random port for each destination.
    BothRandom,
    /// One takes random ports, the other counts.
    RandomAgainstSequence,
    /// One takes a new port for each destination, or both count, and no guess was right yet.
    Unguessed,
    /// By what was seen of the NATs there should be one.
    Blocked,
    /// Too little was seen to say.
    Unmeasured,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BothRandom => {
                "both sides' NATs take a random port for each destination, so neither side can know where to connect"
            }
            Self::RandomAgainstSequence => {
                "one side's NAT takes a random port for each destination and the other's counts its ports up, so \
                 neither side can know where to connect"
            }
            Self::Unguessed => {
                "a NAT takes a new port for each destination, and none of the ports that were tried was right"
            }
            Self::Blocked => {
                "something between lets no direct connection through: a firewall that refuses or drops it, or a NAT \
                 that refuses simultaneous opens"
            }
            Self::Unmeasured => "too little was seen of the NATs between to say what stops a direct connection",
        })
    }
}

/// What stands between us and a peer without a link, from what the daemon saw of both.
#[must_use]
pub fn obstacle(own: &[Observation], peer: &[Observation]) -> Obstacle {
    let ours = nat::classify(own, Family::V4);
    let theirs = nat::classify(peer, Family::V4);
    let unknown = |mapping| mapping == Mapping::Unknown(Missing::Everything);
    if unknown(ours.mapping) || unknown(theirs.mapping) {
        return Obstacle::Unmeasured;
    }
    let random =
        |verdict: &nat::Verdict| !verdict.mapping.is_stable() && verdict.allocation == Allocation::Random;
    match (ours.mapping.is_stable(), theirs.mapping.is_stable()) {
        (true, true) => Obstacle::Blocked,
        (false, false) if random(&ours) && random(&theirs) => Obstacle::BothRandom,
        (false, false) if random(&ours) || random(&theirs) => Obstacle::RandomAgainstSequence,
        (true, false) | (false, true) | (false, false) => Obstacle::Unguessed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::plan::tests::seen;

    #[test]
    fn each_pair_of_nats_has_its_words() {
        let stable = seen([700, 700, 9001, 9002]);
        let counting = seen([5000, 5001, 5002, 5003]);
        let drawing = seen([51_234, 2077, 33_801, 60_002]);
        for (ours, theirs, expected) in [
            (&stable, &stable, Obstacle::Blocked),
            (&drawing, &drawing, Obstacle::BothRandom),
            (&drawing, &counting, Obstacle::RandomAgainstSequence),
            (&stable, &counting, Obstacle::Unguessed),
            (&counting, &counting, Obstacle::Unguessed),
        ] {
            assert_eq!(obstacle(ours, theirs), expected);
            assert_eq!(obstacle(theirs, ours), expected, "both sides say the same");
        }
        assert_eq!(obstacle(&[], &stable), Obstacle::Unmeasured);
    }
}
