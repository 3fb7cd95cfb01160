//! Samples: short connections that show the daemon how the NAT before this host maps and allocates.
//!
//! It decides which connections tell something and in which order; it refuses to know what they tell. Nothing waits for
//! it, and a sample that fails is missing, no more.
//!
//! # What is sampled, for each address family
//!
//! ```text
//!  hole port ─▶ main port                             beside the assist connection: does the mapping depend on the port?
//!  fresh port ─▶ assist port, and when that is answered   which port does the next mapping get?
//!  another fresh port ─▶ assist port                  and the next?
//!         └─ the same port ─▶ alternate address       does the mapping depend on the address?
//! ```
//!
//! The alternate address is never sampled from the hole port: a NAT that filters by address would let that address in
//! from then on, and a test of its filtering would tell nothing.
//!
//! The daemon closes each sample after its answer. This side waits for that: an RST from the hole port would end
//! mappings in some NATs, and a FIN of ours, sent first, would leave a TIME-WAIT on the port.

use super::{LOGIN_TIME, Server};
use crate::app::{Closing, ConnId, ConnIds, NetOp};
use crate::endpoint::Endpoint;
use crate::id::PunchToken;
use crate::wire;
use crate::wire::frame::{MAX_FRAME, Reader};
use crate::wire::message::{FromAssist, FromMain, SeenBy, ToAssist, ToMain};
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Instant;

/// What a sample told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sighting {
    pub(super) seen_by: SeenBy,
    pub(super) local_port: u16,
    pub(super) endpoint: Endpoint,
}

/// One connection to make.
#[derive(Clone, Copy, Debug)]
struct Plan {
    seen_by: SeenBy,
    from: Option<SocketAddr>,
    to: SocketAddr,
    then: Then,
}

/// What a sample leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Nothing,
    /// When it is answered: the same from another fresh port.
    AnotherPort,
    /// When it is established: the alternate address from the same port, while the mapping lives.
    AnotherAddress,
}

struct Probe {
    conn: ConnId,
    plan: Plan,
    stage: Stage,
    deadline: Instant,
}

enum Stage {
    Dialling,
    Asked {
        local_port: u16,
        reader: Reader,
    },
    /// The daemon's FIN is to come.
    Answered,
}

#[derive(Default)]
pub(super) struct Sampler {
    token: Option<PunchToken>,
    alternate: Option<SocketAddr>,
    /// The alternate address is not sampled, until it is asked for.
    withheld: bool,
    /// A sample that the alternate address was to follow came before the daemon had told it.
    missed: bool,
    probes: Vec<Probe>,
    ops: VecDeque<NetOp>,
}

impl Sampler {
    /// Takes samples for each bound hole port and the daemon's address of its family.
    pub(super) fn begin(
        &mut self,
        now: Instant,
        token: PunchToken,
        holes: impl Iterator<Item = (SocketAddr, Server)>,
        ids: &mut ConnIds,
    ) {
        self.token = Some(token);
        self.missed = false;
        for (hole, server) in holes {
            let (main, assist) = (server.main, server.assist);
            let reused = Plan { seen_by: SeenBy::Main, from: Some(hole), to: main, then: Then::Nothing };
            let fresh = Plan { seen_by: SeenBy::Assist, from: None, to: assist, then: Then::AnotherPort };
            self.dial(now, reused, ids);
            self.dial(now, fresh, ids);
        }
    }

    /// Tells of the daemon's alternate address, or that there is none. A sample that missed it is made up for: the login
    /// that tells it may be slower than samples are.
    pub(super) fn set_alternate(
        &mut self,
        now: Instant,
        alternate: Option<SocketAddr>,
        servers: &[Server],
        ids: &mut ConnIds,
    ) {
        self.alternate = alternate;
        if alternate.is_some() && std::mem::take(&mut self.missed) && !self.withheld {
            self.sample_alternate(now, servers, ids);
        }
    }

    /// The daemon's alternate address, if it told one.
    pub(super) const fn alternate(&self) -> Option<SocketAddr> {
        self.alternate
    }

    /// Takes no sample of the alternate address until [`sample_alternate`](Self::sample_alternate).
    pub(super) const fn withhold_alternate(&mut self) {
        self.withheld = true;
    }

    /// Takes the sample that was withheld: a fresh port seen from one of the `servers` and from the alternate address.
    pub(super) fn sample_alternate(&mut self, now: Instant, servers: &[Server], ids: &mut ConnIds) {
        self.withheld = false;
        let Some(alternate) = self.alternate else { return };
        let of_family = |server: &&Server| server.assist.is_ipv4() == alternate.is_ipv4();
        let (Some(server), Some(_)) = (servers.iter().find(of_family), self.token) else { return };
        let (seen_by, to, then) = (SeenBy::Assist, server.assist, Then::AnotherAddress);
        self.dial(now, Plan { seen_by, from: Some(any(to, 0)), to, then }, ids);
    }

    /// Whether no sample is under way.
    pub(super) const fn is_idle(&self) -> bool {
        self.probes.is_empty()
    }

    /// Gives up whatever is under way.
    pub(super) fn stop(&mut self) {
        for probe in self.probes.drain(..) {
            self.ops.push_back(NetOp::Close { conn: probe.conn, how: Closing::Abort });
        }
    }

    pub(super) fn poll_op(&mut self) -> Option<NetOp> {
        self.ops.pop_front()
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.probes.iter().map(|probe| probe.deadline).min()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        let ops = &mut self.ops;
        self.probes.retain(|probe| {
            if probe.deadline <= now {
                ops.push_back(NetOp::Close { conn: probe.conn, how: Closing::Abort });
            }
            probe.deadline > now
        });
    }

    pub(super) fn connected(&mut self, now: Instant, conn: ConnId, local: SocketAddr, ids: &mut ConnIds) {
        let Some(token) = self.token else { return };
        let Some(probe) = self.probes.iter_mut().find(|probe| probe.conn == conn) else { return };
        let local_port = local.port();
        probe.stage = Stage::Asked { local_port, reader: Reader::new(MAX_FRAME) };
        let bytes = match probe.plan.seen_by {
            SeenBy::Main => wire::encode(&ToMain::Sample { token, local_port }),
            SeenBy::Assist | SeenBy::Alternate => wire::encode(&ToAssist::Sample { token, local_port }),
        };
        // The alternate address first: the daemon closes this sample soon, and its mapping with it.
        self.missed |= probe.plan.then == Then::AnotherAddress && self.alternate.is_none();
        if probe.plan.then == Then::AnotherAddress
            && !self.withheld
            && let Some(to) = self.alternate
            && to.is_ipv4() == local.is_ipv4()
        {
            let from = Some(any(to, local_port));
            let plan = Plan { seen_by: SeenBy::Alternate, from, to, then: Then::Nothing };
            self.dial(now, plan, ids);
        }
        self.ops.push_back(NetOp::Send { conn, bytes });
    }

    /// Takes what arrived on `conn`, if it is a sample's.
    pub(super) fn received(
        &mut self,
        now: Instant,
        conn: ConnId,
        bytes: &[u8],
        ids: &mut ConnIds,
    ) -> Option<Sighting> {
        let at = self.probes.iter().position(|probe| probe.conn == conn)?;
        let probe = &mut self.probes[at];
        let plan = probe.plan;
        let Stage::Asked { local_port, reader } = &mut probe.stage else { return None };
        reader.push(bytes);
        let answer = match plan.seen_by {
            SeenBy::Main => match reader.next::<FromMain>() {
                Ok(Some(FromMain::Observed { endpoint })) => Ok(Some(endpoint)),
                Ok(None) => Ok(None),
                Ok(Some(_)) | Err(_) => Err(()),
            },
            SeenBy::Assist | SeenBy::Alternate => match reader.next::<FromAssist>() {
                Ok(Some(FromAssist::Observed { endpoint })) => Ok(Some(endpoint)),
                Ok(None) => Ok(None),
                Ok(Some(FromAssist::Refused { .. })) | Err(_) => Err(()),
            },
        };
        match answer {
            Ok(None) => None,
            Ok(Some(endpoint)) => {
                let sighting = Sighting { seen_by: plan.seen_by, local_port: *local_port, endpoint };
                probe.stage = Stage::Answered;
                if plan.then == Then::AnotherPort {
                    // Bound as one that shares its port, because the next step opens a second connection from it.
                    let from = Some(any(plan.to, 0));
                    self.dial(now, Plan { from, then: Then::AnotherAddress, ..plan }, ids);
                }
                Some(sighting)
            }
            Err(()) => {
                log::debug!("conn={conn} the daemon takes no sample");
                self.probes.remove(at);
                self.ops.push_back(NetOp::Close { conn, how: Closing::Abort });
                None
            }
        }
    }

    pub(super) fn ended(&mut self, conn: ConnId) {
        self.probes.retain(|probe| probe.conn != conn);
    }

    fn dial(&mut self, now: Instant, plan: Plan, ids: &mut ConnIds) {
        let conn = ids.allocate();
        self.ops.push_back(NetOp::Connect { conn, from: plan.from, to: plan.to });
        self.probes.push(Probe { conn, plan, stage: Stage::Dialling, deadline: now + LOGIN_TIME });
    }
}

/// Any address of the family of `like`, with this port.
const fn any(like: SocketAddr, port: u16) -> SocketAddr {
    let ip = match like {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    SocketAddr::new(ip, port)
}
