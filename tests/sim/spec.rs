//! What a network is made of, as plain values: walls (NATs and firewalls) in the words of RFC 4787 and RFC 5382, and
//! links. The simulator builds from them, the oracle reasons over them, and neither knows the other.

use std::time::Duration;

/// How long a mapping stays with one external endpoint (RFC 4787 §4.1), and, in the same three words, who may send
/// through it (RFC 4787 §5, RFC 5382 §4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Dependence {
    /// Whatever the remote endpoint is.
    Independent,
    /// By the remote address.
    Address,
    /// By the remote address and port.
    AddressAndPort,
}

/// Every value of [`Dependence`], for tables.
pub(crate) const DEPENDENCES: [Dependence; 3] =
    [Dependence::Independent, Dependence::Address, Dependence::AddressAndPort];

/// Which external port a new mapping takes. A port that another mapping holds is never taken twice, so a mapping that
/// depends on the destination shows a new port for each, whatever the allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Allocation {
    /// The inside port where it is free, else a random one.
    Preserving,
    /// The last one plus this step.
    Sequential(u16),
    /// Any.
    Random,
}

/// What an unsolicited SYN gets (RFC 5382 REQ-4 asks for six seconds of silence; many answer at once).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Nothing.
    Drop,
    /// A RST.
    Rst,
}

/// A NAT or a stateful firewall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wall {
    /// Whether it translates IPv4. A firewall (`false`) keeps every address and has no mapping to speak of.
    pub(crate) translates: bool,
    /// How its mappings depend on the remote endpoint.
    pub(crate) mapping: Dependence,
    /// How its filter does.
    pub(crate) filtering: Dependence,
    /// Which ports its mappings take.
    pub(crate) allocation: Allocation,
    /// What strangers get.
    pub(crate) refusal: Refusal,
    /// Whether a RST that passes ends the session that it passes through (Linux does).
    pub(crate) rst_closes: bool,
    /// Whether an inside host reaches another one at its external endpoint (RFC 5382 REQ-8).
    pub(crate) hairpins: bool,
    /// Whether it follows sequence numbers as Linux conntrack does, and drops what is out of the window.
    pub(crate) tracks_window: bool,
    /// Whether it drops a SYN that answers a SYN (against RFC 5382 REQ-2).
    pub(crate) refuses_simultaneous_open: bool,
    /// How long a session lives without a packet once both sides' handshakes passed (RFC 5382 REQ-5: 2 h 4 min).
    pub(crate) established_lifetime: Duration,
    /// How long one lives before that and after a FIN (Linux: 120 s in SYN_SENT).
    pub(crate) transitory_lifetime: Duration,
}

impl Wall {
    /// A NAT with the given mapping and filtering that is otherwise as Linux makes them, refusing in silence.
    pub(crate) const fn nat(mapping: Dependence, filtering: Dependence) -> Self {
        Self {
            translates: true,
            mapping,
            filtering,
            allocation: Allocation::Preserving,
            refusal: Refusal::Drop,
            rst_closes: true,
            hairpins: false,
            tracks_window: true,
            refuses_simultaneous_open: false,
            established_lifetime: Duration::from_secs(7440),
            transitory_lifetime: Duration::from_secs(120),
        }
    }

    /// The plain home router: one mapping for all, entry for those that were spoken to.
    pub(crate) const fn home() -> Self {
        Self::nat(Dependence::Independent, Dependence::AddressAndPort)
    }

    /// A stateful firewall.
    pub(crate) const fn firewall(filtering: Dependence) -> Self {
        Self { translates: false, ..Self::nat(Dependence::Independent, filtering) }
    }
}

/// A link between a host or a wall and the network that it hangs on; the same in both directions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Link {
    /// One way.
    pub(crate) delay: Duration,
    /// Up to so much more, evenly drawn for each segment; order is kept.
    pub(crate) jitter: Duration,
    /// The part of all segments that is lost, 0 to 1.
    pub(crate) loss: f64,
    /// Bytes a second; `None` for no limit. What does not fit waits.
    pub(crate) rate: Option<u64>,
}

impl Link {
    /// A perfect link with this one-way delay.
    pub(crate) const fn of(delay: Duration) -> Self {
        Self { delay, jitter: Duration::ZERO, loss: 0.0, rate: None }
    }
}

/// What stands between a caster, a viewer and the Internet; each list from the host outward.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    /// Before the caster alone.
    pub(crate) caster: Vec<Wall>,
    /// Before the viewer alone.
    pub(crate) viewer: Vec<Wall>,
    /// Before both. With two empty lists above, both are on one local network.
    pub(crate) shared: Vec<Wall>,
}

impl Pair {
    /// Each behind walls of its own.
    pub(crate) const fn apart(caster: Vec<Wall>, viewer: Vec<Wall>) -> Self {
        Self { caster, viewer, shared: Vec::new() }
    }
}
