//! From observations to a verdict.

use super::observe::{Family, Observation, SeenBy, mappings};
use super::predict::distance;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

/// How far apart two mappings made one after the other may be and still count as neighbours in a sequence. Between
/// them a busy household makes some dozens; two ports drawn at random are that near by chance once in 126 times.
const STRIDE: i32 = 256;
/// The same for a single pair of mappings, which nothing else confirms: once in 504 times by chance.
const LONE_STRIDE: i32 = 64;

/// What is known of the NAT before a client, for one address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What it was judged for.
    pub family: Family,
    /// How a mapping depends on where the packets go.
    pub mapping: Mapping,
    /// How the external port of a new mapping is chosen.
    pub allocation: Allocation,
    /// The address by which the daemon knows the client, the latest.
    pub public_ip: Option<IpAddr>,
}

/// How the mapping of a local port depends on where its packets go (RFC 4787, section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mapping {
    /// There is no translation: the client is seen at an address of its own.
    NotTranslated,
    /// One mapping for all destinations.
    EndpointIndependent,
    /// One mapping for each destination address.
    AddressDependent,
    /// One mapping for each destination address and port.
    AddressAndPortDependent,
    /// It cannot be told.
    Unknown(Missing),
}

/// What was not measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Missing {
    /// No local port was seen from two places.
    Everything,
    /// One mapping for two ports of one address; a second address was not asked.
    Address,
    /// Another mapping for another address; whether another port of the same address would do was not asked.
    Port,
}

/// How the external port of a new mapping is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Allocation {
    /// The local port, where it is free (RFC 4787, section 4.2.1).
    Preserving,
    /// So far from the one before.
    Sequential {
        /// In ports; negative: downwards.
        step: i32,
    },
    /// No pattern was found.
    Random,
    /// Too few mappings were seen.
    Unknown,
}

impl Mapping {
    /// Whether a peer can rely on the mapping that the daemon saw, as far as was measured.
    #[must_use]
    pub const fn is_stable(self) -> bool {
        match self {
            Self::NotTranslated | Self::EndpointIndependent | Self::Unknown(Missing::Address) => true,
            Self::AddressDependent
            | Self::AddressAndPortDependent
            | Self::Unknown(Missing::Everything | Missing::Port) => false,
        }
    }
}

impl fmt::Display for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotTranslated => "no address translation",
            Self::EndpointIndependent => "endpoint-independent mapping",
            Self::AddressDependent => "address-dependent mapping",
            Self::AddressAndPortDependent => "address-and-port-dependent mapping",
            Self::Unknown(Missing::Everything) => "mapping not measured",
            Self::Unknown(Missing::Address) => {
                "mapping independent of the port (of the address: not measured)"
            }
            Self::Unknown(Missing::Port) => "mapping dependent on the address (on the port: not measured)",
        })
    }
}

impl fmt::Display for Allocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Preserving => f.write_str("ports preserved"),
            Self::Sequential { step } => write!(f, "ports in sequence, step {step}"),
            Self::Random => f.write_str("ports without a pattern"),
            Self::Unknown => f.write_str("choice of ports not measured"),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = match self.family {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        };
        let Some(ip) = self.public_ip else { return write!(f, "{family}: not measured") };
        write!(f, "{family}: {}", self.mapping)?;
        if self.mapping != Mapping::NotTranslated {
            write!(f, ", {}", self.allocation)?;
        }
        write!(f, ", seen as {ip}")
    }
}

/// Judges the NAT by what was seen of one client, oldest first. Observations of the other family are passed over.
#[must_use]
pub fn classify(observed: &[Observation], family: Family) -> Verdict {
    let public_ip = family.among(observed).last().map(|seen| seen.endpoint.ip());
    let untranslated = public_ip.is_some() && family.among(observed).all(|seen| seen.own);
    let mapping = if untranslated { Mapping::NotTranslated } else { mapping(observed, family) };
    Verdict { family, mapping, allocation: allocation(&mappings(observed, family)), public_ip }
}

fn mapping(observed: &[Observation], family: Family) -> Mapping {
    // The latest of each local port at each listener: a NAT may forget and map anew.
    let mut latest = BTreeMap::new();
    for seen in family.among(observed) {
        latest.insert((seen.local_port, seen.seen_by), seen.endpoint);
    }
    let seen = |port, by| latest.get(&(port, by)).copied();
    let (mut same_for_ports, mut same_for_addresses) = (None, None);
    // One local port that is treated differently outweighs others that are not.
    let note = |finding: &mut Option<bool>, same: bool| *finding = Some(finding.unwrap_or(true) && same);
    for &(port, by) in latest.keys() {
        let here = seen(port, by);
        if by == SeenBy::Assist
            && let Some(main) = seen(port, SeenBy::Main)
        {
            note(&mut same_for_ports, here == Some(main));
        }
        // The alternate listener has the assist port's number, or another; the main one has another in any case.
        let beside = seen(port, SeenBy::Assist).or_else(|| seen(port, SeenBy::Main));
        if by == SeenBy::Alternate
            && let Some(beside) = beside
        {
            note(&mut same_for_addresses, here == Some(beside));
        }
    }
    match (same_for_ports, same_for_addresses) {
        (Some(false), _) => Mapping::AddressAndPortDependent,
        // Neither address nor port changed it.
        (_, Some(true)) => Mapping::EndpointIndependent,
        (Some(true), Some(false)) => Mapping::AddressDependent,
        (Some(true), None) => Mapping::Unknown(Missing::Address),
        (None, Some(false)) => Mapping::Unknown(Missing::Port),
        (None, None) => Mapping::Unknown(Missing::Everything),
    }
}

/// How ports are chosen, from distinct mappings in the order in which they were made.
fn allocation(made: &[&Observation]) -> Allocation {
    let preserved = made.iter().filter(|seen| seen.endpoint.port() == seen.local_port).count();
    let moved: Vec<u16> = made
        .iter()
        .filter(|seen| seen.endpoint.port() != seen.local_port)
        .map(|seen| seen.endpoint.port())
        .collect();
    // One port in 64,512 is preserved by chance. A NAT that preserves moves a port that another host has, and the
    // second mapping of a port: what it does then is its other habit.
    let first_of_its_port = |(at, seen): &(usize, &&Observation)| {
        !made[..*at].iter().any(|other| other.local_port == seen.local_port)
    };
    let ports = made.iter().enumerate().filter(first_of_its_port).count();
    if preserved > 0 && preserved * 2 >= ports {
        return match moved.len() {
            // Each port has a mapping of its own, or one that moved is an exception.
            0 | 1 => Allocation::Preserving,
            _ if made.len() == ports => Allocation::Preserving,
            _ => sequence(&moved),
        };
    }
    match moved.len() {
        0 | 1 => Allocation::Unknown,
        _ => sequence(&moved),
    }
}

/// The step between ports, if most are near the one before.
fn sequence(ports: &[u16]) -> Allocation {
    let strides: Vec<i32> = ports.windows(2).map(|pair| distance(pair[0], pair[1])).collect();
    let limit = if strides.len() == 1 { LONE_STRIDE } else { STRIDE };
    let near: Vec<i32> =
        strides.iter().copied().filter(|stride| *stride != 0 && stride.abs() <= limit).collect();
    // One leap is forgiven among several: the end of the allocator's range, or a mapping of another age.
    let forgiven = usize::from(strides.len() >= 3);
    if near.len() + forgiven < strides.len() {
        return Allocation::Random;
    }
    // Other traffic takes ports in between, so a stride is a multiple of the step. Mappings may be seen in the wrong order:
    // two that were made at one time, or one whose first SYN was lost, which then is one long leap back; so the
    // direction is that of most strides. Where they balance it is upwards, as nearly all NATs count.
    let step = near.iter().fold(0, |step, stride| gcd(step, stride.abs()));
    let upwards = near.iter().filter(|stride| **stride > 0).count();
    let forwards = upwards * 2 >= near.len();
    Allocation::Sequential { step: if forwards { step } else { -step } }
}

const fn gcd(a: i32, b: i32) -> i32 {
    let (mut a, mut b) = (a, b);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}
