//! The broker's calls: a caster that knows a short code asks the code's viewer for the ticket.
//!
//! It decides who may ask under which number, and how often, and carries four messages between the two. It refuses to know
//! the words, the ticket, and whether a proof is right: the viewer says that.
//!
//! ```text
//!  caster, main 4000                                        viewer, logged in
//!   New ── Call ─▶ Calling ─────────── Called ─────────────▶
//!                  Asked     ◀──────── Answer ──────────────
//!      ◀ Answered  Answered
//!        Confirm ▶ Confirmed ───────── Confirmed ──────────▶
//!      ◀ Granted, end        ◀──────── Grant ───────────────
//!      ◀ Refused, end        ◀──────── Deny, or too late, or the viewer is gone
//! ```
//!
//! Numbers that nobody has and numbers whose viewer is away are answered alike.

use super::broker::{Broker, Ending, Phase};
use super::timers::Due;
use crate::app::ConnId;
use crate::code::{Element, Proof};
use crate::endpoint::Prefix;
use crate::id::{CallId, ClientId, RendezvousId};
use crate::wire::message::{FromMain, Refusal, Role};
use std::collections::BTreeMap;
use std::time::Instant;

/// One call, among those to its viewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct CallKey {
    viewer: ClientId,
    call: CallId,
}

/// The calls under way.
#[derive(Debug, Default)]
pub(super) struct Calls(BTreeMap<CallKey, Call>);

#[derive(Debug)]
struct Call {
    caster: ConnId,
    stage: Stage,
}

/// Which message was passed last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Asked,
    Answered,
    Confirmed,
}

impl Calls {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Those to one viewer.
    fn to(&self, viewer: ClientId) -> impl Iterator<Item = &Call> {
        let all = CallKey { viewer, call: CallId(0) }..=CallKey { viewer, call: CallId(u64::MAX) };
        self.0.range(all).map(|(_, call)| call)
    }
}

impl Broker {
    /// A viewer asks for a number.
    pub(super) fn req_nameplate(&mut self, now: Instant, id: ConnId, client: ClientId, wish: u32) {
        let Some(login) = self.registry.login(client).filter(|login| login.role == Role::Viewer) else {
            self.end(now, id, Ending::Refuse(Refusal::BadRequest));
            return;
        };
        let (owner, prefix) = (login.rendezvous, Prefix::of(login.main.endpoint.ip()));
        let had = self.nameplates.of(owner);
        let number = self.nameplates.allot(owner, prefix, wish, &mut self.rng, &self.limits);
        if had != number {
            // Who asked under the old one would prove the wrong words.
            self.drop_calls(now, client);
        }
        self.send(now, id, &FromMain::Nameplate { number });
    }

    /// A caster asks under a number.
    pub(super) fn call(&mut self, now: Instant, id: ConnId, nameplate: u32, element: Element) {
        let Some(conn) = self.conns.get(&id) else { return };
        if !self.sources.call(now, Prefix::of(conn.remote.ip()), &self.limits) {
            self.end(now, id, Ending::Refuse(Refusal::TooMany));
            return;
        }
        let owner = self.nameplates.owner(nameplate);
        let viewer = owner.and_then(|owner| self.registry.viewer(owner));
        let viewer = viewer.and_then(|viewer| self.registry.login(viewer));
        let Some((viewer, viewer_conn)) = viewer.map(|login| (login.client, login.conn)) else {
            self.end(now, id, Ending::Refuse(Refusal::NoCode));
            return;
        };
        if self.calls.to(viewer).count() >= self.limits.calls_at_once
            || !self.nameplates.take_call(now, nameplate, &self.limits)
        {
            self.end(now, id, Ending::Refuse(Refusal::TooMany));
            return;
        }
        let call = loop {
            let call = CallId(self.rng.u64(..));
            if !self.calls.0.contains_key(&CallKey { viewer, call }) {
                break call;
            }
        };
        let key = CallKey { viewer, call };
        self.calls.0.insert(key, Call { caster: id, stage: Stage::Asked });
        self.enter(now, id, Phase::Calling(key));
        self.send(now, viewer_conn, &FromMain::Called { call, element });
    }

    /// A viewer answers. One that comes too late is nobody's fault.
    pub(super) fn answer(&mut self, now: Instant, client: ClientId, call: CallId, element: Element) {
        let found = self.calls.0.get_mut(&CallKey { viewer: client, call });
        if let Some(found) = found.filter(|found| found.stage == Stage::Asked) {
            found.stage = Stage::Answered;
            let caster = found.caster;
            self.send(now, caster, &FromMain::Answered { element });
        }
    }

    /// The caster of a call proves the words: once, and after the answer.
    pub(super) fn confirm(&mut self, now: Instant, id: ConnId, key: CallKey, proof: Proof) {
        let found = self.calls.0.get_mut(&key).filter(|found| found.stage == Stage::Answered);
        let Some(found) = found else {
            self.end(now, id, Ending::Refuse(Refusal::BadRequest));
            return;
        };
        found.stage = Stage::Confirmed;
        if let Some(viewer) = self.registry.login(key.viewer).map(|login| login.conn) {
            self.send(now, viewer, &FromMain::Confirmed { call: key.call, proof });
        }
    }

    /// A viewer hands the ticket over.
    pub(super) fn grant(&mut self, now: Instant, client: ClientId, call: CallId, sealed: Vec<u8>) {
        let found = self.calls.0.get(&CallKey { viewer: client, call });
        if let Some(&Call { caster, stage: Stage::Confirmed }) = found {
            log::info!("conn={caster} has the ticket of client={client} by its code");
            self.send(now, caster, &FromMain::Granted { sealed });
            self.end(now, caster, Ending::Flush);
        }
    }

    /// A viewer ends a call: before its answer because it has no code, afterwards because the words are wrong.
    pub(super) fn deny(&mut self, now: Instant, client: ClientId, call: CallId) {
        if let Some(&Call { caster, stage }) = self.calls.0.get(&CallKey { viewer: client, call }) {
            let reason = match stage {
                // Nothing was proven wrong: the viewer has withdrawn the code, or given this call up for another.
                Stage::Asked | Stage::Answered => Refusal::NoCode,
                Stage::Confirmed => Refusal::WrongCode,
            };
            self.end(now, caster, Ending::Refuse(reason));
        }
    }

    /// A call's connection is gone.
    pub(super) fn forget_call(&mut self, key: CallKey) {
        self.calls.0.remove(&key);
    }

    /// Ends the calls to a viewer that is gone, or whose number is another now.
    fn drop_calls(&mut self, now: Instant, viewer: ClientId) {
        for caster in self.calls.to(viewer).map(|call| call.caster).collect::<Vec<_>>() {
            self.end(now, caster, Ending::Refuse(Refusal::NoCode));
        }
    }

    /// A viewer's login is over: its number waits for it.
    pub(super) fn leave_nameplate(&mut self, now: Instant, client: ClientId, owner: RendezvousId) {
        self.drop_calls(now, client);
        if let Some((at, number)) = self.nameplates.leave(now, owner, &self.limits) {
            self.agenda.insert((at, Due::Nameplate(number)));
        }
    }

    /// A viewer leaves for good, and its number with it.
    pub(super) fn give_back_nameplate(&mut self, client: ClientId) {
        if let Some(login) = self.registry.login(client).filter(|login| login.role == Role::Viewer) {
            self.nameplates.give_back(login.rendezvous);
        }
    }

    #[cfg(debug_assertions)]
    pub(super) fn check_calls(&self) {
        self.nameplates.check_invariants(&self.limits);
        for (&key, call) in &self.calls.0 {
            let phase = self.conns.get(&call.caster).map(|conn| conn.phase);
            assert_eq!(phase, Some(Phase::Calling(key)), "a call has its caster");
            assert!(self.registry.login(key.viewer).is_some(), "and its viewer");
        }
    }
}
