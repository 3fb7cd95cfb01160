//! Binding the hole port: IPv4 first, then the same port for IPv6; one of the two is enough.

use crate::app::{ListenerId, NetError, NetOp, Room};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

const V4: u32 = 4;
const V6: u32 = 6;

/// ```text
///  Closed ─open─▶ OpeningV4 ─bound─▶ OpeningV6{v4} ─▶ Open{v4, v6} | Open{v4}
///                     └─no IPv4 here─▶ OpeningV6{-} ─▶ Open{v6} | Failed
///  any ─close─▶ Closed
/// ```
#[derive(Debug)]
pub(super) enum Port {
    Closed,
    OpeningV4 { port: u16 },
    OpeningV6 { v4: Option<SocketAddr> },
    Open { locals: Vec<SocketAddr> },
}

/// What to do after a step of binding.
pub(super) enum Step {
    Ask(NetOp),
    Opened(Vec<SocketAddr>),
    Failed(SocketAddr, NetError),
    Nothing,
}

impl Port {
    /// Asks for `port`, 0 for any.
    pub(super) fn open(&mut self, room: Room, port: u16) -> NetOp {
        *self = Self::OpeningV4 { port };
        listen(room, V4, SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))
    }

    /// Closes the port: its listeners are to stop. Nothing is bound any more, whatever is answered to what was asked.
    pub(super) fn close(&mut self, room: Room) -> impl Iterator<Item = NetOp> {
        let serials: Vec<u32> = match std::mem::replace(self, Self::Closed) {
            Self::Closed => Vec::new(),
            Self::OpeningV4 { .. } => vec![V4],
            Self::OpeningV6 { v4 } => v4.map(|_| V4).into_iter().chain([V6]).collect(),
            Self::Open { locals } => {
                locals.iter().map(|local| if local.is_ipv4() { V4 } else { V6 }).collect()
            }
        };
        serials.into_iter().map(move |serial| NetOp::StopListening { listener: ListenerId { room, serial } })
    }

    pub(super) const fn is_closed(&self) -> bool {
        matches!(self, Self::Closed)
    }

    pub(super) fn locals(&self) -> &[SocketAddr] {
        match self {
            Self::Open { locals } => locals,
            Self::Closed | Self::OpeningV4 { .. } | Self::OpeningV6 { .. } => &[],
        }
    }

    /// The bound address of the family of `addr`.
    pub(super) fn local_for(&self, addr: SocketAddr) -> Option<SocketAddr> {
        self.locals().iter().copied().find(|local| local.is_ipv4() == addr.is_ipv4())
    }

    pub(super) fn bound(&mut self, room: Room, local: SocketAddr) -> Step {
        match std::mem::replace(self, Self::Closed) {
            Self::OpeningV4 { .. } => {
                *self = Self::OpeningV6 { v4: Some(local) };
                Step::Ask(listen(room, V6, SocketAddr::from((Ipv6Addr::UNSPECIFIED, local.port()))))
            }
            Self::OpeningV6 { v4 } => self.opened(v4.into_iter().chain([local]).collect()),
            other @ (Self::Closed | Self::Open { .. }) => {
                *self = other;
                Step::Nothing
            }
        }
    }

    pub(super) fn not_bound(&mut self, room: Room, addr: SocketAddr, error: NetError) -> Step {
        match std::mem::replace(self, Self::Closed) {
            // A host without IPv4, if anything: IPv6 has its chance before we give up.
            Self::OpeningV4 { port } if error != NetError::AddrInUse => {
                *self = Self::OpeningV6 { v4: None };
                Step::Ask(listen(room, V6, SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))))
            }
            Self::OpeningV6 { v4: Some(v4) } => self.opened(vec![v4]),
            Self::OpeningV4 { .. } | Self::OpeningV6 { v4: None } => Step::Failed(addr, error),
            other @ (Self::Closed | Self::Open { .. }) => {
                *self = other;
                Step::Nothing
            }
        }
    }

    fn opened(&mut self, locals: Vec<SocketAddr>) -> Step {
        *self = Self::Open { locals: locals.clone() };
        Step::Opened(locals)
    }
}

fn listen(room: Room, serial: u32, addr: SocketAddr) -> NetOp {
    NetOp::Listen { listener: ListenerId { room, serial }, addr, reuse: true }
}
