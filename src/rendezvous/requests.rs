//! The broker's decisions about messages: which make sense on which connection, and when.

use super::broker::{Broker, Ending, Phase, Port, Shown, Wish};
use super::introduction::Entry;
use crate::app::ConnId;
use crate::id::{ClientId, PunchToken};
use crate::wire::message::{FromAssist, FromMain, Refusal, ToAssist, ToMain};
use std::time::Instant;

impl Broker {
    pub(super) fn on_main(&mut self, now: Instant, id: ConnId, message: ToMain) {
        let Some(conn) = self.conns.get(&id) else { return };
        match (conn.phase, message) {
            (Phase::New, ToMain::Login { rendezvous, role, token, owner, local, rtt_us, local_port }) => {
                let entry = Entry { rendezvous, role, token, owner, local, rtt_us, local_port };
                self.log_in(now, id, entry);
            }
            (Phase::New, ToMain::Sample { token, local_port }) => {
                let endpoint = conn.remote;
                self.send(now, id, &FromMain::Observed { endpoint });
                self.show(now, id, token, Shown { wish: Wish::BeSampled, local_port });
            }
            (Phase::LoggedIn(client), ToMain::HoleListenReady { session }) => {
                self.hole_ready(now, id, client, session);
            }
            (Phase::LoggedIn(_), ToMain::Heartbeat { nonce }) => {
                self.send(now, id, &FromMain::Heartbeat { nonce });
            }
            (Phase::LoggedIn(client), ToMain::Mapped { endpoints }) => self.mapped(now, client, endpoints),
            (Phase::New, ToMain::Relay { token, session }) => self.relay(now, id, token, session),
            (Phase::New, ToMain::Call { nameplate, element }) => self.call(now, id, nameplate, element),
            (Phase::Calling(call), ToMain::Confirm { proof }) => self.confirm(now, id, call, proof),
            (Phase::LoggedIn(client), ToMain::ReqNameplate { wish }) => {
                self.req_nameplate(now, id, client, wish);
            }
            (Phase::LoggedIn(client), ToMain::Answer { call, element }) => {
                self.answer(now, client, call, element);
            }
            (Phase::LoggedIn(client), ToMain::Grant { call, sealed }) => {
                self.grant(now, client, call, sealed);
            }
            (Phase::LoggedIn(client), ToMain::Deny { call }) => self.deny(now, client, call),
            (Phase::LoggedIn(client), ToMain::TestFilter) => self.test_filter(now, id, client),
            (Phase::LoggedIn(client), ToMain::Logout) => {
                self.give_back_nameplate(client);
                self.end(now, id, Ending::Flush);
            }
            (
                Phase::New
                | Phase::LoggedIn(_)
                | Phase::Held(..)
                | Phase::Bound(..)
                | Phase::Half(_)
                | Phase::Relayed(..)
                | Phase::Calling(_),
                _,
            ) => {
                self.end(now, id, Ending::Refuse(Refusal::BadRequest));
            }
        }
    }

    pub(super) fn on_assist(&mut self, now: Instant, id: ConnId, message: ToAssist) {
        let Some(conn) = self.conns.get(&id) else { return };
        let (phase, port, endpoint) = (conn.phase, conn.port, conn.remote);
        let (token, wish, local_port) = match message {
            ToAssist::ReqConnClient { token, rendezvous, local_port } => {
                (token, Wish::Introduce(rendezvous), local_port)
            }
            ToAssist::ReqSrvDisconnect { token, local_port } => (token, Wish::BeSeen, local_port),
            ToAssist::Sample { token, local_port } => (token, Wish::BeSampled, local_port),
            ToAssist::Heartbeat => {
                if phase == Phase::New {
                    self.end(now, id, Ending::Refuse(Refusal::BadRequest));
                }
                return;
            }
        };
        // The alternate address is for samples: whoever stays there would not be seen at the assist port.
        if port == Port::Alternate && wish != Wish::BeSampled {
            self.end(now, id, Ending::Refuse(Refusal::BadRequest));
            return;
        }
        let shown = Shown { wish, local_port };
        match phase {
            Phase::New => {
                self.send(now, id, &FromAssist::Observed { endpoint });
                self.show(now, id, token, shown);
            }
            Phase::Held(held, first) if held == token && first == shown => {
                self.send(now, id, &FromAssist::Observed { endpoint });
            }
            Phase::Bound(client, bound) if bound == token => {
                self.send(now, id, &FromAssist::Observed { endpoint });
                self.ask_again(now, id, client, wish);
            }
            Phase::Held(..)
            | Phase::Bound(..)
            | Phase::LoggedIn(_)
            | Phase::Half(_)
            | Phase::Relayed(..)
            | Phase::Calling(_) => {
                self.end(now, id, Ending::Refuse(Refusal::BadRequest));
            }
        }
    }

    /// Carries out the first request of a connection that is not a login, or keeps it until its login comes.
    fn show(&mut self, now: Instant, id: ConnId, token: PunchToken, shown: Shown) {
        match self.registry.by_token(token) {
            Some(client) => self.take_up(now, id, client, token, shown),
            None => self.hold(now, id, token, shown),
        }
    }

    /// Carries out a first request whose login is known.
    pub(super) fn take_up(
        &mut self,
        now: Instant,
        id: ConnId,
        client: ClientId,
        token: PunchToken,
        shown: Shown,
    ) {
        match shown.wish {
            Wish::BeSampled => self.sampled(now, id, client, shown.local_port),
            Wish::Introduce(_) | Wish::BeSeen => self.bind(now, id, client, token, shown),
        }
    }

    /// Keeps a connection that came before the login of its token.
    fn hold(&mut self, now: Instant, id: ConnId, token: PunchToken, shown: Shown) {
        let waiting = self.held.entry(token).or_default();
        if waiting.len() >= self.limits.assists + self.limits.samples_kept {
            self.end(now, id, Ending::Refuse(Refusal::TooMany));
            return;
        }
        waiting.push(id);
        self.enter(now, id, Phase::Held(token, shown));
    }
}
