//! UPnP-IGD by way of a library: multicast discovery (SSDP), then HTTP to the router that answered.
//!
//! A thread of its own, for each step waits. It speaks to the gateway that the route names, where the route is known, and to
//! nobody else; the library fetches nothing from another host than the one that answered.

use super::route;
use igd_next::{AddPortError, Gateway, PortMappingProtocol, SearchOptions, search_gateway};
use punchcast::endpoint::Reach;
use punchcast::portmap::{Answer, Command};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// How long a router may take to answer the search. UPnP lets it wait up to two seconds.
const SEARCH_TIME: Duration = Duration::from_secs(3);

/// What routers show for a mapping.
const NAME: &str = "punchcast";

/// The router, and what was mapped on it.
pub(super) struct Igd {
    /// The route's gateway and our address towards it, where the system tells.
    way: Option<(Ipv4Addr, Ipv4Addr)>,
    gateway: Option<Gateway>,
    mapped: Option<u16>,
}

/// A failure, in words; `None`: nobody answers.
type Failure = Option<String>;

impl Igd {
    pub(super) const fn new(way: Option<(Ipv4Addr, Ipv4Addr)>) -> Self {
        Self { way, gateway: None, mapped: None }
    }

    /// Carries out one command; `progress` hears what is known before its end.
    pub(super) fn carry_out(&mut self, command: Command, mut progress: impl FnMut(Answer)) -> Answer {
        let answer = match command {
            Command::Find => self.find().and_then(|gateway| {
                gateway.get_external_ip().map_err(|error| Some(error.to_string()))?;
                Ok(Answer::Found)
            }),
            Command::Map { port, external, lifetime } => {
                let known = self.gateway.is_some();
                let first = self.map(port, external, lifetime, &mut progress);
                if first.is_err() && known {
                    // It may have restarted, and listen on another port.
                    self.gateway = None;
                    self.map(port, external, lifetime, progress)
                } else {
                    first
                }
            }
            Command::Remove => {
                self.remove();
                Ok(Answer::Removed)
            }
        };
        answer.unwrap_or_else(|why| {
            self.gateway = None;
            Answer::Failed { why }
        })
    }

    /// The router, found now or before.
    fn find(&mut self) -> Result<Gateway, Failure> {
        if let Some(gateway) = &self.gateway {
            return Ok(gateway.clone());
        }
        let mut options = SearchOptions::default();
        options.timeout = Some(SEARCH_TIME);
        options.single_search_timeout = Some(SEARCH_TIME);
        if let Some((_, local)) = self.way {
            options.bind_addr = SocketAddr::new(local.into(), 0);
        }
        let gateway = search_gateway(options).map_err(|error| {
            log::debug!("UPnP: {error}");
            None
        })?;
        let fits = match (gateway.addr.ip(), self.way) {
            (IpAddr::V4(found), Some((routed, _))) => found == routed,
            (found, None) => found.is_ipv4() && Reach::of(found) == Reach::Site,
            (IpAddr::V6(_), Some(_)) => false,
        };
        if !fits {
            return Err(Some(format!("{} answers, which is not the gateway", gateway.addr.ip())));
        }
        self.gateway = Some(gateway.clone());
        Ok(gateway)
    }

    fn map(
        &mut self,
        port: u16,
        external: u16,
        lifetime: u32,
        mut progress: impl FnMut(Answer),
    ) -> Result<Answer, Failure> {
        let words = |error: &dyn std::error::Error| Some(error.to_string());
        let gateway = self.find()?;
        progress(Answer::Found);
        let local = match self.way {
            Some((_, local)) => IpAddr::V4(local),
            None => route::address_towards(gateway.addr).ok_or(None)?,
        };
        let to = SocketAddr::new(local, port);
        let ip = gateway.get_external_ip().map_err(|error| words(&error))?;
        let add =
            |external, lifetime| gateway.add_port(PortMappingProtocol::TCP, external, to, lifetime, NAME);
        let (external, lifetime) = match add(external, lifetime) {
            Ok(()) => (external, lifetime),
            Err(AddPortError::OnlyPermanentLeasesSupported) => {
                add(external, 0).map_err(|error| words(&error))?;
                (external, 0)
            }
            Err(AddPortError::PortInUse) => {
                let any = gateway.add_any_port(PortMappingProtocol::TCP, to, lifetime, NAME);
                (any.map_err(|error| words(&error))?, lifetime)
            }
            Err(error) => return Err(words(&error)),
        };
        self.mapped = Some(external);
        Ok(Answer::Mapped { external: SocketAddr::new(ip, external), lifetime })
    }

    fn remove(&mut self) {
        if let (Some(port), Some(gateway)) = (self.mapped.take(), &self.gateway)
            && let Err(error) = gateway.remove_port(PortMappingProtocol::TCP, port)
        {
            log::debug!("UPnP: the mapping of {port} was not removed: {error}");
        }
    }
}

/// Whether the environment sends this program's HTTP to a proxy, which the library would follow: a proxy is no router, and is
/// not to be asked for what leads into this host.
pub(super) fn is_proxied() -> bool {
    let set = |name: &str| {
        [name.to_owned(), name.to_uppercase()]
            .iter()
            .find_map(|name| std::env::var(name).ok())
            .filter(|value| !value.trim().is_empty())
    };
    (set("http_proxy").is_some() || set("all_proxy").is_some()) && set("no_proxy").as_deref() != Some("*")
}
