//! The ladder's rungs.

use std::fmt;

/// How a link was made, best first: the derived order is the order of preference.
///
/// The words tell what stands between, as far as both sides can know it: a host that has the address under which the
/// other sees it stands behind no NAT. A stateful firewall before such a host is opened by its own SYN and does not
/// change the word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rung {
    /// Both on one host or network; no NAT between.
    Lan,
    /// The caster stands behind no NAT, and the viewer dialled it (the patent's reverse connection).
    Reverse,
    /// The viewer stands behind no NAT, and the caster dialled it.
    Public,
    /// Both stand behind NATs, and one of them forwards the port that was dialled, because that side asked it to.
    PortMapped,
    /// Both stand behind NATs; both sides' SYNs opened the way.
    Punched,
    /// As `Punched`, on a port that nobody had seen: it was predicted, or one of many was hit.
    Predicted,
    /// Through the daemon, which sees ciphertext: no direct link has formed.
    Relayed,
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lan => "lan",
            Self::Reverse => "reverse",
            Self::Public => "public",
            Self::PortMapped => "port-mapped",
            Self::Punched => "punched",
            Self::Predicted => "predicted",
            Self::Relayed => "relayed",
        })
    }
}
