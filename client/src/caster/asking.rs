//! A viewer that is known by its short code: its ticket is asked for, and then it is a viewer as any other.

use crate::meeting::{self, Rooms};
use punchcast::app::{Input, NetOp, Room};
use punchcast::code::{Code, Seed};
use punchcast::rendezvous::agent;
use punchcast::rendezvous::lookup::{self, Lookup};
use punchcast::ticket::{ASSIST_PORT, Ticket};
use punchcast::wire::message::Role;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

/// How a viewer is known.
pub enum Whom {
    /// By its ticket, of which this was made.
    Ticket(meeting::Config),
    /// By its code.
    Code(CodeConfig),
}

impl From<meeting::Config> for Whom {
    fn from(meeting: meeting::Config) -> Self {
        Self::Ticket(meeting)
    }
}

/// What it takes to ask for a ticket and to meet its viewer.
#[derive(Clone, Debug)]
pub struct CodeConfig {
    /// The rooms of the question, and of the meeting after it.
    pub rooms: Rooms,
    /// The daemon's main addresses, in the order of preference. The ticket names its assist port.
    pub servers: Vec<SocketAddr>,
    /// What the user was told.
    pub code: Code,
    /// For the question's exchange.
    pub code_seed: Seed,
    /// As in the rendezvous' configuration.
    pub seed: u64,
    /// As in the meeting's.
    pub local_ips: Vec<IpAddr>,
    /// As in the meeting's.
    pub run: u64,
}

/// What there is to do.
pub(super) enum Output {
    Net(NetOp),
    /// The ticket came: the meeting that it is for.
    Meet(Box<meeting::Config>),
    /// It did not come, and will not.
    Failed(String),
}

/// See the [module](self).
pub(super) struct Asking {
    lookup: Lookup,
    config: CodeConfig,
    /// Since when the viewer is sought.
    pub(super) began: Instant,
}

impl Asking {
    pub(super) fn new(now: Instant, config: CodeConfig) -> Self {
        let lookup = Lookup::new(
            now,
            lookup::Config {
                room: config.rooms.lookup,
                servers: config.servers.clone(),
                code: config.code,
                seed: config.code_seed,
            },
        );
        Self { lookup, config, began: now }
    }

    /// Whether the room is that of its question.
    pub(super) fn owns(&self, room: Room) -> bool {
        self.config.rooms.lookup == room
    }

    pub(super) fn handle_input(&mut self, now: Instant, input: &Input<'_>) {
        self.lookup.handle_input(now, input);
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.lookup.handle_timeout(now);
    }

    pub(super) fn cancel(&mut self) {
        self.lookup.cancel();
    }

    pub(super) fn poll_output(&mut self) -> Option<Output> {
        Some(match self.lookup.poll_output()? {
            lookup::Output::Net(op) => Output::Net(op),
            lookup::Output::Done(Ok(ticket)) => Output::Meet(Box::new(self.meeting(&ticket))),
            lookup::Output::Done(Err(failure)) => Output::Failed(failure.to_string()),
        })
    }

    pub(super) const fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        self.lookup.poll_timeout()
    }

    /// The daemon is the one that was asked: by the name in the ticket it is known to the viewer, which may be elsewhere.
    fn meeting(&self, ticket: &Ticket) -> meeting::Config {
        let CodeConfig { rooms, servers, seed, local_ips, run, .. } = self.config.clone();
        let assist = ticket.server.as_ref().map_or(ASSIST_PORT, |server| server.assist);
        let servers = servers.into_iter();
        let agent = agent::Config {
            room: rooms.rendezvous,
            servers: servers
                .map(|main| agent::Server { main, assist: SocketAddr::new(main.ip(), assist) })
                .collect(),
            role: Role::Caster,
            rendezvous: ticket.rendezvous,
            owner: None,
            seed,
            code_seed: None,
        };
        meeting::Config {
            rooms,
            secrets: meeting::Secrets::Caster(ticket.caster_secrets()),
            agent: Some(agent),
            local_ips,
            ticket_addresses: ticket.addresses.clone(),
            run,
        }
    }
}
