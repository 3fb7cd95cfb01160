//! Which pairs can link, from the words that describe their walls alone: no packet is sent here.
//!
//! What both sides do is taken as given. Each has a hole port, from which it holds a connection to the daemon, so
//! that its mapping stays. Each knows the endpoint from which the daemon sees the other's hole port (the *observed*
//! endpoint), and, where the daemon sees both behind one address, the other's own address. Each listens on the hole
//! port and connects from it to all of these at once, and goes on for longer than any handshake takes. Ports are not
//! predicted.
//!
//! The question is then whether some SYN of the one side reaches the other's host: the answer to it always comes
//! back, for a wall knows the session of a SYN that it let pass.

use crate::spec::{Allocation, Dependence, Pair, Refusal, Wall};
use punchcast::policy::Rung;

/// What physics allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Whoever does as said above gets a link; the best rung that it can be.
    Direct(Rung),
    /// It hangs on which SYN comes first, or on both crossing within a round trip.
    Timing(Rung),
    /// No SYN ever gets through.
    Never,
}

/// Whether a SYN gets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Passage {
    Never,
    Timing,
    Sure,
}

/// One side, seen from where the two ways meet.
struct Side<'a> {
    /// Every wall from the host up to the meeting place.
    walls: Vec<&'a Wall>,
    /// Whether the other side knows an endpoint of it there.
    dialable: bool,
}

/// The verdict on a pair.
pub(crate) fn judge(pair: &Pair) -> Verdict {
    let candidates = [local(pair), global(pair)];
    let of = |wanted| candidates.iter().filter(|(p, _)| *p == wanted).map(|(_, rung)| *rung).min();
    match (of(Passage::Sure), of(Passage::Timing)) {
        (Some(rung), _) => Verdict::Direct(rung),
        (None, Some(rung)) => Verdict::Timing(rung),
        (None, None) => Verdict::Never,
    }
}

/// Whether a link on that rung may come about at all, if only after the better ones failed or by good timing.
pub(crate) fn allows(pair: &Pair, rung: Rung) -> bool {
    [local(pair), global(pair)].iter().any(|(passage, of)| *of == rung && *passage != Passage::Never)
}

/// Whether the endpoint of one side can be guessed though nobody has seen it: its mapping depends on the destination,
/// and not both sides draw their ports at random (two endpoints in 2^32 do not meet) behind filters that ask for the port.
pub(crate) fn guessable(pair: &Pair) -> bool {
    let dependent = |wall: &&Wall| wall.translates && wall.mapping != Dependence::Independent;
    let walls = |own: &'_ [Wall]| own.iter().chain(&pair.shared).copied().collect::<Vec<_>>();
    let (caster, viewer) = (walls(&pair.caster), walls(&pair.viewer));
    let draws =
        |walls: &[Wall]| walls.iter().filter(dependent).any(|wall| wall.allocation == Allocation::Random);
    let depends = |walls: &[Wall]| walls.iter().any(|wall| dependent(&wall));
    let strict = |walls: &[Wall]| walls.iter().any(|wall| wall.filtering == Dependence::AddressAndPort);
    let hopeless = draws(&caster) && draws(&viewer) && strict(&caster) && strict(&viewer);
    (depends(&caster) || depends(&viewer)) && !hopeless
}

/// By the hosts' own addresses. They are told only to those whom the daemon sees behind one address, which takes a
/// NAT that both share; and they mean something only in the network behind it: a host with a NAT of its own further
/// in cannot be dialled there (though it can dial).
fn local(pair: &Pair) -> (Passage, Rung) {
    if !pair.shared.iter().any(|wall| wall.translates) {
        return (Passage::Never, Rung::Lan);
    }
    let side = |walls: &'_ [Wall]| walls.iter().all(|wall| !wall.translates);
    let caster = Side { walls: pair.caster.iter().collect(), dialable: side(&pair.caster) };
    let viewer = Side { walls: pair.viewer.iter().collect(), dialable: side(&pair.viewer) };
    (meet(&caster, &viewer), Rung::Lan)
}

/// By the observed endpoints.
fn global(pair: &Pair) -> (Passage, Rung) {
    // A packet to an observed endpoint climbs to the network where that endpoint is an address. Walls that both
    // share are on that way only up to the outermost NAT among them; a firewall further out is never reached.
    let climbed = pair.shared.iter().rposition(|wall| wall.translates).map_or(0, |outermost| outermost + 1);
    let common = &pair.shared[..climbed];
    // There the packet is at the outer face of the NAT that it just left, and must be let in again.
    if common.last().is_some_and(|wall| !wall.hairpins) {
        return (Passage::Never, Rung::Punched);
    }
    let side = |own: &'_ [Wall]| own.iter().chain(common).copied().collect::<Vec<Wall>>();
    let (caster, viewer) = (side(&pair.caster), side(&pair.viewer));
    let rung = if is_open(&caster) {
        Rung::Reverse
    } else if is_open(&viewer) {
        Rung::Public
    } else {
        Rung::Punched
    };
    let caster = Side { walls: caster.iter().collect(), dialable: true };
    let viewer = Side { walls: viewer.iter().collect(), dialable: true };
    (meet(&caster, &viewer), rung)
}

/// Whether no NAT stands before the host and no firewall stops anybody.
fn is_open(walls: &[Wall]) -> bool {
    walls.iter().all(|wall| !wall.translates && wall.filtering == Dependence::Independent)
}

/// One SYN that gets through is enough, whoever's it is.
fn meet(a: &Side<'_>, b: &Side<'_>) -> Passage {
    passage(a, b).max(passage(b, a))
}

/// Whether SYNs `from` one side reach the host of the side that they are sent `to`.
fn passage(from: &Side<'_>, to: &Side<'_>) -> Passage {
    if !to.dialable {
        return Passage::Never;
    }
    let entry = entry(from, to);
    let lost = entry.needs_state && !keeps_state(to, from);
    if entry.passage == Passage::Sure && (lost || is_cut(from, to)) {
        return Passage::Timing;
    }
    entry.passage
}

/// Whether a SYN that gets in may have its session cut by a RST close behind it: the walls of the side that sends it
/// answer the other's SYN, that it crosses, with a RST. Some wall at the other end believes any RST, or one further
/// out at this end lets it end the session on its way.
fn is_cut(from: &Side<'_>, to: &Side<'_>) -> bool {
    let credulous = to.walls.iter().any(|wall| wall.rst_closes && !wall.tracks_window);
    let passed_on = from.walls.iter().skip(1).any(|wall| wall.rst_closes);
    (credulous || passed_on) && is_foreseen(from) && entry(to, from).for_good == Some(Refusal::Rst)
}

/// What meets a SYN at the walls of the side that it is sent to.
struct Entry {
    passage: Passage,
    /// Whether some wall lets it in only for the session of a SYN that went out before.
    needs_state: bool,
    /// How the outermost wall refuses that would stop it before there is such a session.
    at_first: Option<Refusal>,
    /// How the outermost wall refuses that would stop it even then.
    for_good: Option<Refusal>,
}

/// Runs a SYN of the side `from` against the walls `to` the other, given that the other has sent its own.
fn entry(from: &Side<'_>, to: &Side<'_>) -> Entry {
    let foreseen = is_foreseen(from);
    let mut entry = Entry { passage: Passage::Sure, needs_state: false, at_first: None, for_good: None };
    // From the host outward: as long as every mapping is independent, the mapping that the daemon saw is the one
    // that the other side's SYNs use too, and its filter knows whom they went to. From the first that is not, the
    // mapping that the daemon saw was used for the daemon alone.
    let mut shared_mapping = true;
    for wall in &to.walls {
        shared_mapping &= is_stable(wall);
        let (passage, needs_state) = match (wall.filtering, shared_mapping) {
            // Anybody may come. But where the SYN is from the endpoint that was dialled through another mapping of
            // the same inside endpoint, the wall would have two sessions that it cannot tell apart on the way out,
            // and drops the later one: who comes first is served. It is served so well that the other's own SYN
            // goes out by the same session, to where it is foreseen: then no wall further in matters.
            (Dependence::Independent, false) if foreseen => {
                entry.passage = Passage::Sure;
                (Passage::Timing, false)
            }
            (Dependence::Independent, _) => (Passage::Sure, false),
            // A dialled address: the SYN went to an endpoint at the peer's address, be the port right or not.
            (Dependence::Address, true) if from.dialable => (Passage::Sure, true),
            // A dialled endpoint: the port must be the foreseen one.
            (Dependence::AddressAndPort, true) if foreseen => (Passage::Sure, true),
            // Only the daemon was spoken to from that mapping, or nobody was at that address and port.
            (Dependence::Address | Dependence::AddressAndPort, _) => (Passage::Never, false),
        };
        // A SYN from the endpoint that was dialled, to the endpoint that dialled it, is a simultaneous open.
        let crossing = wall.refuses_simultaneous_open && foreseen && shared_mapping;
        let (passage, needs_state) = match (crossing, needs_state) {
            (false, _) => (passage, needs_state),
            // It may come before the other's own SYN has left.
            (true, false) => (passage.min(Passage::Timing), false),
            (true, true) => (Passage::Never, false),
        };
        entry.passage = entry.passage.min(passage);
        entry.needs_state |= needs_state;
        if needs_state {
            entry.at_first = Some(wall.refusal);
        }
        if passage == Passage::Never || crossing {
            entry.for_good = Some(wall.refusal);
        }
    }
    entry
}

/// Whether the walls of `side` keep the session that its SYN to `other` made, for longer than a round trip: those
/// that believe a RST lose it where the other side's walls answer that SYN with one.
fn keeps_state(side: &Side<'_>, other: &Side<'_>) -> bool {
    if !side.walls.iter().any(|wall| wall.rst_closes) || !other.dialable {
        return true;
    }
    let theirs = entry(side, other);
    let ours = entry(other, side);
    // The other side lets the SYN in as soon as it has sent its own, if that is not reset in turn.
    let at_first =
        theirs.at_first == Some(Refusal::Rst) && [ours.at_first, ours.for_good].contains(&Some(Refusal::Rst));
    theirs.for_good != Some(Refusal::Rst) && !at_first
}

/// Whether the side's SYNs come from just the endpoint that the other side dials: only a mapping that is independent
/// of the destination shows the peer the endpoint that it showed the daemon.
fn is_foreseen(side: &Side<'_>) -> bool {
    side.dialable && side.walls.iter().all(|wall| is_stable(wall))
}

/// Whether the wall keeps an inside endpoint at one external endpoint. A firewall does: it is the same one.
fn is_stable(wall: &Wall) -> bool {
    !wall.translates || wall.mapping == Dependence::Independent
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::DEPENDENCES;
    use Dependence::{Address, AddressAndPort, Independent};

    fn apart(caster: &[Wall], viewer: &[Wall]) -> Verdict {
        judge(&Pair::apart(caster.to_vec(), viewer.to_vec()))
    }

    #[test]
    fn a_host_without_walls_is_reached_by_everybody() {
        for mapping in DEPENDENCES {
            for filtering in DEPENDENCES {
                let wall = [Wall::nat(mapping, filtering)];
                assert_eq!(apart(&[], &wall), Verdict::Direct(Rung::Reverse));
                assert_eq!(apart(&wall, &[]), Verdict::Direct(Rung::Public));
            }
        }
        assert_eq!(apart(&[], &[]), Verdict::Direct(Rung::Reverse));
    }

    #[test]
    fn the_well_known_pairs_come_out_as_known() {
        let home = Wall::home();
        let lenient = Wall::nat(Independent, Independent);
        let restricted = Wall::nat(Independent, Address);
        let dependent = Wall::nat(AddressAndPort, AddressAndPort);
        let punched = Verdict::Direct(Rung::Punched);
        assert_eq!(apart(&[home], &[home]), punched);
        assert_eq!(apart(&[home, home], &[home]), punched);
        assert_eq!(apart(&[Wall::firewall(AddressAndPort)], &[home]), punched);
        assert_eq!(apart(&[dependent], &[lenient]), punched);
        assert_eq!(apart(&[dependent], &[restricted]), punched);
        assert_eq!(apart(&[dependent], &[home]), Verdict::Never);
        assert_eq!(apart(&[dependent], &[dependent]), Verdict::Never);
        assert_eq!(apart(&[dependent], &[lenient, home]), Verdict::Never);
    }

    #[test]
    fn resets_hurt_only_where_both_sides_send_them_or_the_filter_forgets() {
        let reset = |wall| Wall { refusal: Refusal::Rst, ..wall };
        let home = Wall::home();
        assert_eq!(apart(&[reset(home)], &[home]), Verdict::Direct(Rung::Punched));
        assert_eq!(apart(&[reset(home)], &[reset(home)]), Verdict::Timing(Rung::Punched));
        let keeping = Wall { rst_closes: false, ..reset(home) };
        assert_eq!(apart(&[keeping], &[reset(home)]), Verdict::Direct(Rung::Punched));
        let (dependent, restricted) = (Wall::nat(Address, AddressAndPort), Wall::nat(Independent, Address));
        assert_eq!(apart(&[reset(dependent)], &[restricted]), Verdict::Timing(Rung::Punched));
    }

    #[test]
    fn one_nat_before_both_means_the_local_network_or_a_hairpin() {
        let pair = |own: &[Wall], hairpins| Pair {
            caster: own.to_vec(),
            viewer: own.to_vec(),
            shared: vec![Wall { hairpins, ..Wall::home() }],
        };
        assert_eq!(judge(&pair(&[], false)), Verdict::Direct(Rung::Lan));
        assert_eq!(judge(&pair(&[Wall::home()], false)), Verdict::Never);
        assert_eq!(judge(&pair(&[Wall::home()], true)), Verdict::Direct(Rung::Punched));
        let firewall = Wall::firewall(AddressAndPort);
        assert_eq!(judge(&pair(&[firewall], false)), Verdict::Direct(Rung::Lan));
        let behind_a_firewall = Pair { shared: vec![firewall], ..pair(&[Wall::home()], false) };
        assert_eq!(judge(&behind_a_firewall), Verdict::Direct(Rung::Punched));
    }
}
