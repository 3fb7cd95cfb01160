//! What was found out, in words and as JSON.

use crate::portmap;
use punchcast::endpoint::Endpoint;
use punchcast::nat::{Allocation, Filtering, Mapping, Missing, Verdict};
use punchcast::policy::{Outlook, PeerKind, outlook};
use punchcast::portmap::{Finding, Protocol};
use punchcast::rendezvous::agent::Server;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

/// What a check found out.
#[derive(Clone, Debug)]
pub struct Report {
    /// The daemon that helped.
    pub server: Server,
    /// Where it looks from; `None`: not known.
    pub vantage: Option<Vantage>,
    /// What is wrong with its assist port; `None` if it was reached.
    pub assist_trouble: Option<String>,
    /// The round trip to it.
    pub rtt: Option<Duration>,
    /// This host's own addresses, with the port that was tested.
    pub local: Vec<Endpoint>,
    /// How the daemon saw that port.
    pub mapping: Option<Endpoint>,
    /// How the NAT maps and allocates.
    pub verdict: Verdict,
    /// Whether the daemon has a second address to tell more by.
    pub has_alternate: bool,
    /// Whom the NAT or firewall lets in.
    pub filtering: Filtering,
    /// Whether this host reaches itself from outside.
    pub hairpin: Hairpin,
    /// What there is of IPv6.
    pub ipv6: Ipv6,
    /// Whether the daemon relays where no direct link forms.
    pub relay: bool,
    /// Which protocols the router speaks by which it can be asked to forward a port.
    pub port_mapping: portmap::Findings,
}

/// Where the daemon looks from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vantage {
    /// From this very host: nothing is between.
    ThisHost,
    /// From this host's own network: no NAT is between.
    ThisNetwork,
    /// From elsewhere.
    Outside,
}

/// Whether a host behind the NAT reaches another one there by its external endpoint (RFC 4787, section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hairpin {
    /// There is no NAT.
    Needless,
    /// It does.
    Works,
    /// It does not.
    Fails,
    /// There was no mapping to try, or no time.
    NotMeasured,
}

/// What there is of IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv6 {
    /// A global address of this host.
    pub address: Option<IpAddr>,
    /// Whether the daemon was reached over IPv6; `None`: no IPv6 address of it is known.
    pub daemon: Option<bool>,
}

const RELAY: &str = "this daemon passes on, encrypted from end to end, what cannot be linked directly";
const NO_RELAY: &str = "this daemon relays nothing: where it says no below, there is no link";
const NO_RELAY_EITHER: &str = "this daemon relays nothing";
const NOT_MEASURED: &str = "not measured";
const NO_UDP: &str = "not needed: everything goes over TCP";
const ASK_FOR_ALTERNATE: &str =
    "to tell, the daemon needs a second address: start it with `punchcastd --alternate ADDR`";
const ALTERNATE_SILENT: &str = "the daemon's second address did not answer in time; check again";
const NO_ASSIST_NO_RELAY: &str = "not while the assist port cannot be reached: nobody is introduced";
const CHECK_OUTSIDE: &str = "check with a daemon on another network, `--server HOST`";

impl Report {
    /// As one object of `--json`, without `t_ms`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let step = match self.verdict.allocation {
            Allocation::Sequential { step } => Some(step),
            Allocation::Preserving | Allocation::Random | Allocation::Unknown => None,
        };
        json!({
            "event": "check",
            "server": self.server.main.to_string(),
            "assist": {
                "address": self.server.assist.to_string(),
                "reached": self.assist_trouble.is_none(),
                "why": self.assist_trouble,
            },
            "vantage": self.vantage.map(|vantage| match vantage {
                Vantage::ThisHost => "this-host",
                Vantage::ThisNetwork => "this-network",
                Vantage::Outside => "outside",
            }),
            "rtt_ms": self.rtt.map(millis),
            "local": self.local.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "observed": self.mapping.map(|endpoint| endpoint.to_string()),
            "mapping": self.mapping_words(),
            "allocation": self.allocation(),
            "step": step,
            "filtering": self.filtering_words(),
            "alternate": self.has_alternate,
            "hairpin": match self.hairpin {
                Hairpin::Works => Some(true),
                Hairpin::Fails => Some(false),
                Hairpin::Needless | Hairpin::NotMeasured => None,
            },
            "ipv6": {
                "address": self.ipv6.address.map(|ip| ip.to_string()),
                "daemon_reached": self.ipv6.daemon,
            },
            "port_mapping": {
                "upnp": self.speaks(Protocol::Upnp),
                "pcp": self.speaks(Protocol::Pcp),
                "nat_pmp": self.speaks(Protocol::NatPmp),
            },
            "relay": self.relay,
            "udp_needed": false,
            "peers": PeerKind::ALL.map(|peer| self.peer_json(peer)),
            "advice": self.advice(),
        })
    }

    fn peer_json(&self, peer: PeerKind) -> Value {
        let word = match peer {
            PeerKind::SameNetwork => "same-network",
            PeerKind::Public => "public",
            PeerKind::Stable => "stable",
            PeerKind::Sequential => "sequential",
            PeerKind::Random => "random",
        };
        let (works, casting, viewing) = match self.outlook(peer) {
            Outlook::Direct { casting, viewing, odds } => (odds.to_string(), Some(casting), Some(viewing)),
            Outlook::Impossible => ("no direct link".into(), None, None),
            Outlook::Unknown => ("not known".into(), None, None),
        };
        let rung = |rung: Option<punchcast::policy::Rung>| rung.map(|rung| rung.to_string());
        json!({"peer": word, "outlook": works, "casting": rung(casting), "viewing": rung(viewing)})
    }

    /// As text for people, several lines.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!(
            "What stands between this host and others, as the daemon at {} sees it",
            self.server.main
        );
        if let Some(rtt) = self.rtt {
            // Writing to a string cannot fail.
            let _ = write!(text, " ({:.1} ms away)", millis(rtt));
        }
        text.push_str("\n\n");
        if let Some(why) = self.not_measured() {
            let _ = writeln!(text, "{why}\n");
        }
        let local: Vec<String> = self.local.iter().map(|endpoint| endpoint.ip().to_string()).collect();
        let lines = [
            ("this host", if local.is_empty() { "no address".into() } else { local.join(", ") }),
            ("seen as", self.mapping.map_or(NOT_MEASURED.into(), |endpoint| endpoint.ip().to_string())),
            ("mapping", self.mapping_words()),
            ("allocation", self.allocation()),
            ("filtering", self.filtering_words()),
            ("hairpin", self.hairpin_words().into()),
            ("IPv6", self.ipv6_words()),
            ("port mapping", self.port_mapping_words()),
            ("relay", self.relay_words().into()),
            ("UDP", NO_UDP.into()),
        ];
        for (name, value) in lines {
            let _ = writeln!(text, "  {name:<13} {value}");
        }
        let _ = writeln!(text, "\n  {:<61} {:<18} casting    viewing", "a peer", "direct link");
        for peer in PeerKind::ALL {
            let (works, casting, viewing) = match self.outlook(peer) {
                Outlook::Direct { casting, viewing, odds } => {
                    (odds.to_string(), casting.to_string(), viewing.to_string())
                }
                Outlook::Impossible => ("no".into(), "-".into(), "-".into()),
                Outlook::Unknown => ("not known".into(), "-".into(), "-".into()),
            };
            let _ = writeln!(text, "  {:<61} {works:<18} {casting:<10} {viewing}", peer.to_string());
        }
        let after = self.not_measured().map_or_else(|| self.advice(), |_| Vec::new());
        for advice in after {
            let _ = write!(text, "\n{advice}");
        }
        text.trim_end().to_owned()
    }

    /// What can be expected of a peer.
    #[must_use]
    pub fn outlook(&self, peer: PeerKind) -> Outlook {
        if peer != PeerKind::SameNetwork && self.not_measured().is_some() {
            return Outlook::Unknown;
        }
        let punched = outlook(&self.verdict, self.filtering, peer);
        let translated = self.verdict.mapping != Mapping::NotTranslated;
        if translated && self.forwards() { punched.with_port_mapping() } else { punched }
    }

    /// Why nothing is known of what stands between this host and others, and what to do about it; whole sentences.
    fn not_measured(&self) -> Option<String> {
        let assist = self.server.assist;
        if let Some(why) = &self.assist_trouble {
            return Some(format!(
                "Nothing was measured: the daemon's assist port {assist} cannot be reached from here ({why}). Until it \
                 can, the daemon introduces nobody, and only machines of one network find each other. Open TCP port {} \
                 at the daemon, or name the right one with `--assist PORT`, here and in `punchcast view`.",
                assist.port(),
            ));
        }
        let ip = self.server.main.ip();
        match self.vantage {
            Some(Vantage::ThisHost) => Some(format!(
                "Nothing was measured of the network between this host and others: the daemon at {ip} is this host \
                 itself. To learn what stands there, {CHECK_OUTSIDE}."
            )),
            Some(Vantage::ThisNetwork) => Some(format!(
                "Nothing was measured of what stands between this network and others: the daemon at {ip} is on this \
                 network, and what is told below is how it looks from there. To learn more, {CHECK_OUTSIDE}."
            )),
            Some(Vantage::Outside) | None => None,
        }
    }

    fn relay_words(&self) -> &'static str {
        match (self.relay, &self.assist_trouble) {
            (true, Some(_)) => NO_ASSIST_NO_RELAY,
            (true, None) => RELAY,
            // Below it says "not known", and never "no".
            (false, _) if self.not_measured().is_some() => NO_RELAY_EITHER,
            (false, _) => NO_RELAY,
        }
    }

    /// Whether the router can be asked to forward a port; `None`: it was not asked by this protocol, or its answer was not
    /// waited for.
    fn speaks(&self, protocol: Protocol) -> Option<bool> {
        let (_, finding) = self.port_mapping.iter().find(|(known, _)| *known == protocol)?;
        finding.as_ref().map(|finding| *finding == Finding::Works)
    }

    fn forwards(&self) -> bool {
        Protocol::ALL.iter().any(|protocol| self.speaks(*protocol) == Some(true))
    }

    fn port_mapping_words(&self) -> String {
        let words = |(protocol, finding): &(Protocol, Option<Finding>)| {
            let what = match finding.as_ref()? {
                Finding::Works => "yes".into(),
                Finding::Refused(why) => format!("refused ({why})"),
                Finding::Silent | Finding::Open => "no answer".into(),
            };
            Some(format!("{protocol}: {what}"))
        };
        let all: Vec<String> = self.port_mapping.iter().filter_map(words).collect();
        if all.is_empty() && self.assist_trouble.is_some() {
            return NOT_MEASURED.into();
        }
        if all.is_empty() { "not asked: no private gateway".into() } else { all.join("; ") }
    }

    fn mapping_words(&self) -> String {
        match self.verdict.mapping {
            Mapping::Unknown(Missing::Everything) => NOT_MEASURED.into(),
            mapping @ (Mapping::NotTranslated
            | Mapping::EndpointIndependent
            | Mapping::AddressDependent
            | Mapping::AddressAndPortDependent
            | Mapping::Unknown(Missing::Address | Missing::Port)) => mapping.to_string(),
        }
    }

    fn filtering_words(&self) -> String {
        if self.filtering.is_measured() { self.filtering.to_string() } else { NOT_MEASURED.into() }
    }

    fn allocation(&self) -> String {
        match self.verdict.mapping {
            Mapping::NotTranslated => "ports preserved (no NAT chooses any)".into(),
            _ if self.verdict.allocation == Allocation::Unknown => NOT_MEASURED.into(),
            Mapping::EndpointIndependent
            | Mapping::AddressDependent
            | Mapping::AddressAndPortDependent
            | Mapping::Unknown(_) => self.verdict.allocation.to_string(),
        }
    }

    const fn hairpin_words(&self) -> &'static str {
        match self.hairpin {
            Hairpin::Needless => "not needed: no NAT",
            Hairpin::Works => "yes: hosts behind this NAT reach each other by their outside addresses",
            Hairpin::Fails => "no: hosts behind this NAT reach each other by their inside addresses only",
            Hairpin::NotMeasured => NOT_MEASURED,
        }
    }

    fn ipv6_words(&self) -> String {
        let address = self.ipv6.address.map_or("no global address".into(), |ip| ip.to_string());
        let daemon = match self.ipv6.daemon {
            Some(true) => "the daemon was reached over it",
            Some(false) => "the daemon has it, and was not reached over it",
            None => "the daemon was not tried: no IPv6 address of it is known",
        };
        format!("{address}; {daemon}")
    }

    /// What is odd or was not measured, and what to do about it; whole sentences.
    fn advice(&self) -> Vec<String> {
        let mut advice = Vec::new();
        if let Some(why) = self.not_measured() {
            advice.push(why);
            return advice;
        }
        let translated = self.verdict.mapping != Mapping::NotTranslated;
        if !translated && !self.filtering.admits_strangers() && self.filtering.is_measured() {
            advice.push(
                "No NAT, but a firewall that keeps strangers out. Punchcast opens it by itself, peer by peer; \
                 nothing has to be configured."
                    .into(),
            );
        }
        let mapping_open = matches!(self.verdict.mapping, Mapping::Unknown(Missing::Address));
        let filtering_open = matches!(self.filtering, Filtering::Unknown(Missing::Address));
        if mapping_open || filtering_open {
            let what = match (mapping_open, filtering_open) {
                (true, true) => "mapping and filtering depend",
                (true, false) => "mapping depends",
                (false, _) => "filtering depends",
            };
            let why = if self.has_alternate { ALTERNATE_SILENT } else { ASK_FOR_ALTERNATE };
            advice.push(format!(
                "Whether {what} on the address was not measured, and what works is told as if not; {why}."
            ));
        }
        if matches!(self.verdict.mapping, Mapping::Unknown(Missing::Everything | Missing::Port)) {
            advice.push("Too few samples came through to tell how ports are mapped; check again.".into());
        }
        if self.filtering == Filtering::Unknown(Missing::Everything) {
            advice.push(
                "The daemon did not test the filtering; what works is told for the strictest there is."
                    .into(),
            );
        }
        if PeerKind::ALL.iter().any(|peer| self.outlook(*peer) == Outlook::Impossible) {
            advice.push(
                "Where it says no, neither side can know the port that the other's NAT will take. A port \
                 forwarded on either router, or IPv6 on both sides, helps."
                    .into(),
            );
        }
        advice
    }
}

fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}
