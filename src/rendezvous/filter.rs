//! Tests of a client's filtering: the daemon knocks at the client's hole port as a stranger would.
//!
//! It dials from a port, and if it has a second address from an address, that the client has not spoken to. What
//! arrives tells what the client's NAT lets in (RFC 4787, section 5). The dial goes to the endpoint from which the
//! client's own assist connection comes, and nowhere else, so a client can make the daemon knock at nobody's door but
//! its own.

use super::broker::Broker;
use super::timers::Due;
use crate::app::{Closing, ConnId, NetOp};
use crate::endpoint::Endpoint;
use crate::id::ClientId;
use crate::wire::message::{FromMain, Refusal};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

/// A connect under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dial {
    /// Whose filtering it tests.
    pub(super) client: ClientId,
    stranger: Stranger,
    deadline: Instant,
}

/// What is strange about the daemon's end of a dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stranger {
    Port,
    Address,
}

/// The tests of one login.
#[derive(Debug, Default)]
pub(super) struct FilterTests {
    /// How many were asked for.
    asked: u32,
    running: Option<Running>,
}

impl FilterTests {
    pub(super) const fn is_running(&self) -> bool {
        self.running.is_some()
    }
}

#[derive(Clone, Copy, Debug)]
struct Running {
    port: Knock,
    address: Knock,
}

/// One of the two dials of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Knock {
    NotTried,
    UnderWay,
    Done { arrived: bool },
}

impl Knock {
    const fn result(self) -> Option<bool> {
        match self {
            Self::NotTried | Self::UnderWay => None,
            Self::Done { arrived } => Some(arrived),
        }
    }
}

impl Broker {
    /// Carries out `TestFilter`.
    pub(super) fn test_filter(&mut self, now: Instant, id: ConnId, client: ClientId) {
        let (most, alternate) = (self.limits.filter_tests, self.alternate);
        let Some(login) = self.registry.login_mut(client) else { return };
        if login.filter.asked >= most || login.filter.is_running() {
            self.refuse(now, id, Refusal::TooMany);
            return;
        }
        login.filter.asked += 1;
        // Both dials go to one mapping, so that they can be compared: one of the family in which there is an alternate
        // address, the latest of those.
        let fits = |endpoint: Endpoint| alternate.is_none_or(|other| same_family(other, endpoint));
        let latest = login.assists.iter().rev();
        let target = latest.clone().find(|assist| fits(assist.seen.endpoint)).or(latest.clone().next());
        let target = target.map(|assist| (assist.local, assist.seen.endpoint));
        login.filter.running = Some(Running { port: Knock::NotTried, address: Knock::NotTried });
        if let Some((local, endpoint)) = target {
            self.knock(now, client, Stranger::Port, Some(local), endpoint);
            if let Some(other) = alternate.filter(|other| same_family(*other, endpoint)) {
                self.knock(now, client, Stranger::Address, Some(other.ip()), endpoint);
            }
        }
        self.answer_filter(now, client);
    }

    fn knock(&mut self, now: Instant, client: ClientId, as_a: Stranger, from: Option<IpAddr>, to: Endpoint) {
        if self.dials.len() >= self.limits.filter_dials {
            return;
        }
        let Some(running) = self.registry.login_mut(client).and_then(|login| login.filter.running.as_mut())
        else {
            return;
        };
        *running.knock(as_a) = Knock::UnderWay;
        let conn = self.conn_ids.allocate();
        let deadline = now + self.limits.filter_time;
        self.dials.insert(conn, Dial { client, stranger: as_a, deadline });
        self.agenda.insert((deadline, Due::Dial(conn)));
        let usable = |ip: &IpAddr| !ip.is_unspecified() && ip.is_ipv4() == to.addr().is_ipv4();
        let from = from.filter(usable).map(|ip| SocketAddr::new(ip, 0));
        log::debug!("conn={conn} client={client} dials {to} as a stranger by {as_a:?}");
        self.outbox.push_back(NetOp::Connect { conn, from, to: to.addr() });
    }

    /// A dial arrived, failed, or took too long.
    pub(super) fn dialled(&mut self, now: Instant, conn: ConnId, arrived: bool) {
        let Some(dial) = self.dials.remove(&conn) else { return };
        let in_time = self.agenda.remove(&(dial.deadline, Due::Dial(conn)));
        if arrived {
            self.outbox.push_back(NetOp::Close { conn, how: Closing::Flush });
        } else if !in_time {
            self.outbox.push_back(NetOp::Close { conn, how: Closing::Abort });
        }
        if let Some(login) = self.registry.login_mut(dial.client)
            && let Some(running) = &mut login.filter.running
        {
            *running.knock(dial.stranger) = Knock::Done { arrived };
        }
        self.answer_filter(now, dial.client);
    }

    /// Tells the result once there is one.
    fn answer_filter(&mut self, now: Instant, client: ClientId) {
        let Some(login) = self.registry.login_mut(client) else { return };
        let Some(Running { port, address }) = login.filter.running else { return };
        if port == Knock::UnderWay || address == Knock::UnderWay {
            return;
        }
        login.filter.running = None;
        let id = login.conn;
        let (from_other_port, from_other_address) = (port.result(), address.result());
        self.send(now, id, &FromMain::FilterResult { from_other_port, from_other_address });
    }

    /// Gives up the dials of a login that ends.
    pub(super) fn drop_dials(&mut self, client: ClientId) {
        let outbox = &mut self.outbox;
        let agenda = &mut self.agenda;
        self.dials.retain(|&conn, dial| {
            if dial.client == client {
                agenda.remove(&(dial.deadline, Due::Dial(conn)));
                outbox.push_back(NetOp::Close { conn, how: Closing::Abort });
            }
            dial.client != client
        });
    }
}

impl Running {
    const fn knock(&mut self, of: Stranger) -> &mut Knock {
        match of {
            Stranger::Port => &mut self.port,
            Stranger::Address => &mut self.address,
        }
    }
}

fn same_family(a: Endpoint, b: Endpoint) -> bool {
    a.addr().is_ipv4() == b.addr().is_ipv4()
}
