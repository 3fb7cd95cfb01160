//! `--no-port-mapping` and what it would switch off.

use super::{Failure, args};
use crate::portmap::{Options, PortMap};
use punchcast::driver::Handle;
use punchcast::portmap::{Mapping, Protocol};
use std::ffi::OsString;

/// The protocols that may be used; none at all after `--no-port-mapping`.
pub(super) struct Choice(Vec<Protocol>);

impl Default for Choice {
    fn default() -> Self {
        Self(Protocol::ALL.to_vec())
    }
}

impl Choice {
    pub(super) fn none() -> Self {
        Self(Vec::new())
    }

    /// `--port-mapping LIST`: some of `pcp`, `nat-pmp` and `upnp`, with commas between.
    pub(super) fn parse(value: OsString) -> Result<Self, Failure> {
        let text = args::text("port-mapping", value)?;
        let protocol = |word: &str| match word {
            "pcp" => Ok(Protocol::Pcp),
            "nat-pmp" => Ok(Protocol::NatPmp),
            "upnp" => Ok(Protocol::Upnp),
            _ => Err(Failure::Usage(format!(
                "--port-mapping: there is no {word:?}; there are pcp, nat-pmp and upnp"
            ))),
        };
        Ok(Self(text.split(',').map(protocol).collect::<Result<_, _>>()?))
    }

    /// Begins to have `port` forwarded, and tells the application whenever that changes. A program without it works, so it
    /// never fails.
    pub(super) fn start<M: Send + 'static>(
        &self,
        port: u16,
        handle: Handle<M>,
        message: impl Fn(Vec<Mapping>) -> M + Send + 'static,
    ) -> Option<PortMap> {
        if self.0.is_empty() {
            return None;
        }
        let seed = super::random_u64().ok()?;
        let options = Options { protocols: self.0.clone(), ..Options::new(seed) };
        let emit = move |mappings| {
            // Nobody hears it at the end.
            let _ = handle.send(message(mappings));
        };
        PortMap::start(port, &options, emit).inspect_err(|error| log::warn!("no port mapping: {error}")).ok()
    }
}
