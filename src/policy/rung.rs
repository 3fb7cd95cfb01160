//! The ladder's rungs.

use std::fmt;

/// How a link was made, best first: the derived order is the order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rung {
    /// Both on one host or network; no NAT between.
    Lan,
    /// The viewer dialled the caster's listener, which stands behind no NAT (the patent's reverse connection).
    Reverse,
    /// The caster dialled the viewer's listener, which stands behind no NAT.
    Public,
    /// Both behind NATs or firewalls; both sides' SYNs opened the way.
    Punched,
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lan => "lan",
            Self::Reverse => "reverse",
            Self::Public => "public",
            Self::Punched => "punched",
        })
    }
}
