//! What is left unsaid while a link lives: that the daemon goes and comes back changes nothing for a running cast.
//!
//! It says so once, when the daemon goes; to who waits for a link, too, a daemon that is tried in vain is told of once for
//! each reason. Logins, introductions and attempts are news for who waits for a link; beside one
//! they would read as if everything began anew. The introduction of one more caster is news all the same: that of one who
//! logged in, but for those whose cast runs and who were lost to the daemon. Events for scripts are not its matter.

use crate::notice::Notice;
use punchcast::id::ClientId;
use punchcast::rendezvous::agent::Event;
use punchcast::wire::message::Role;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// What a notice is worth.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Worth {
    /// To be told as it is.
    Told,
    /// Nothing.
    Unsaid,
    /// These words.
    Words(String),
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Calm {
    /// The casts, or the viewers, that have a link.
    linked: BTreeSet<usize>,
    /// The daemon that is away, for each login that it takes with it: of one viewer, or of all there is.
    away: BTreeMap<Option<usize>, SocketAddr>,
    /// What was said of daemons that are tried in vain, for each login, until one stands or a link does.
    said: BTreeSet<(Option<usize>, SocketAddr, String)>,
    /// Casters that logged in and were not introduced since, by the daemon's word to their viewer.
    newcomers: BTreeSet<ClientId>,
    /// Introductions whose link is yet to come.
    met: usize,
    /// Introductions to come that are of casts that run: their link was faster, or they come back to the daemon.
    owed: usize,
}

/// Vain tries that are told of: sixteen viewers at a daemon of two addresses that fails in two ways.
const MOST_SAID: usize = 64;

/// Newcomers that are remembered: as many as a daemon lets have one ticket.
const MOST_NEWCOMERS: usize = 16;

impl Calm {
    /// Takes a notice.
    pub(super) fn take(&mut self, notice: &Notice) -> Worth {
        self.take_of(None, notice)
    }

    fn take_of(&mut self, which: Option<usize>, notice: &Notice) -> Worth {
        let number = which.unwrap_or(0);
        let quiet = which.map_or(!self.linked.is_empty(), |which| self.linked.contains(&which));
        #[allow(clippy::wildcard_enum_match_arm)] // The rest is no matter of the daemon's.
        match notice {
            Notice::OfCast { cast: which, notice } | Notice::OfViewer { viewer: which, notice } => {
                return self.take_of(Some(*which), notice);
            }
            Notice::Link { moves, .. } => {
                self.said.clear();
                self.linked.insert(number);
                match self.met.checked_sub(1) {
                    Some(met) => self.met = met,
                    None if *moves => {}
                    None => self.owed = (self.owed + 1).min(self.linked.len()),
                }
            }
            Notice::NoLink { .. } => self.met = self.met.saturating_sub(1),
            Notice::Lost { .. } | Notice::CastEnded | Notice::ViewerOver { .. } => {
                self.linked.remove(&number);
                self.owed = self.owed.min(self.linked.len());
            }
            Notice::Attempt { .. } | Notice::OtherCaster if quiet => return Worth::Unsaid,
            Notice::Rendezvous(event) => return self.take_event(which, event, quiet),
            _ => {}
        }
        Worth::Told
    }

    /// Whether nobody was told that this daemon is tried in vain, for this reason.
    fn is_news(&mut self, which: Option<usize>, server: SocketAddr, why: &str) -> bool {
        self.said.len() < MOST_SAID && self.said.insert((which, server, why.to_owned()))
    }

    fn take_event(&mut self, which: Option<usize>, event: &Event, quiet: bool) -> Worth {
        match event {
            Event::Unreachable { server, why, .. } => {
                // A daemon of two addresses is tried at them in turn.
                let known = self.away.contains_key(&which) || self.away.values().any(|away| away == server);
                self.away.insert(which, *server);
                // All are named anew there, and introduced again.
                self.owed = self.linked.len();
                match (quiet, known) {
                    (false, _) if self.is_news(which, *server, why) => Worth::Told,
                    (false, _) => Worth::Unsaid,
                    (true, true) => Worth::Unsaid,
                    (true, false) => Worth::Words(format!(
                        "the daemon at {server} is away ({why}); the cast goes on without it, and it is tried again"
                    )),
                }
            }
            Event::LoggedIn { .. } => {
                self.away.remove(&which);
                self.said.retain(|(login, ..)| *login != which);
                self.newcomers.clear();
                if quiet { Worth::Unsaid } else { Worth::Told }
            }
            Event::PeerJoined { client, role } => {
                if *role == Role::Caster && self.newcomers.len() < MOST_NEWCOMERS {
                    self.newcomers.insert(*client);
                }
                if quiet { Worth::Unsaid } else { Worth::Told }
            }
            Event::PeerLeft { client } => {
                // Its own way to the daemon may have broken.
                if !self.newcomers.remove(client) {
                    self.owed = (self.owed + 1).min(self.linked.len());
                }
                Worth::Told
            }
            Event::Introduced { peer, .. } if quiet => {
                if !self.newcomers.remove(&peer.client) {
                    return Worth::Unsaid;
                }
                if self.owed > 0 {
                    self.owed -= 1;
                    return Worth::Unsaid;
                }
                self.met += 1;
                Worth::Words("introduced to a caster".into())
            }
            Event::Introduced { peer, .. } => {
                if self.newcomers.remove(&peer.client) {
                    self.met += 1;
                }
                Worth::Told
            }
            Event::Observed { .. } if quiet => Worth::Unsaid,
            Event::Observed { .. }
            | Event::Amended { .. }
            | Event::Filtering { .. }
            | Event::Refused { .. }
            | Event::Code { .. }
            | Event::NoCode { .. }
            | Event::CodeUsed
            | Event::WrongCode { .. }
            | Event::AssistUnreachable { .. } => Worth::Told,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meeting::{self, Link};
    use punchcast::app::ConnId;
    use punchcast::id::SessionId;
    use punchcast::policy::Rung;
    use punchcast::wire::message::Peer;
    use std::time::{Duration, Instant};

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[allow(clippy::disallowed_methods)] // A test's time begins somewhere.
    fn link() -> Notice {
        let link = Link {
            conn: ConnId { room: meeting::HOLE, serial: 1 },
            rung: Rung::Lan,
            local: addr("10.0.0.1:1").into(),
            remote: addr("10.0.0.2:2").into(),
            rtt: None,
            run: 1,
            obstacle: None,
            secure: true,
            formed: Instant::now(),
        };
        Notice::Link { link, elapsed: Duration::ZERO, moves: false }
    }

    fn gone(server: &str) -> Notice {
        let retry_in = Duration::from_secs(1);
        Notice::Rendezvous(Event::Unreachable { server: addr(server), why: "refused".into(), retry_in })
    }

    /// What a daemon that is back has one side say.
    fn back() -> [Notice; 3] {
        let client = ClientId(1);
        let (local, remote) = (addr("10.0.0.1:1"), addr("10.0.0.2:2"));
        [
            Notice::Rendezvous(Event::LoggedIn { client, server: addr("192.0.2.1:4000") }),
            Notice::Rendezvous(Event::PeerJoined { client, role: Role::Caster }),
            Notice::Attempt { rung: Rung::Lan, local: Some(local), remote },
        ]
    }

    fn of_viewer(viewer: usize, notice: Notice) -> Notice {
        Notice::OfViewer { viewer, notice: Box::new(notice) }
    }

    #[test]
    fn a_daemon_that_restarts_under_a_link_is_worth_one_line_each_time() {
        let mut calm = Calm::default();
        assert!(back().iter().all(|notice| calm.take(notice) == Worth::Told));
        assert_eq!(calm.take(&link()), Worth::Told);
        for _ in 0..2 {
            let Worth::Words(words) = calm.take(&gone("192.0.2.1:4000")) else { panic!() };
            assert!(words.contains("192.0.2.1:4000 is away (refused); the cast goes on"), "{words}");
            for server in ["[2001:db8::1]:4000", "192.0.2.1:4000", "[2001:db8::1]:4000"] {
                assert_eq!(calm.take(&gone(server)), Worth::Unsaid);
            }
            assert!(back().iter().all(|notice| calm.take(notice) == Worth::Unsaid));
        }
        assert_eq!(calm.take(&Notice::Lost { why: "cut".into() }), Worth::Told);
        assert_eq!(calm.take(&gone("192.0.2.1:4000")), Worth::Told, "it is needed again");
        assert!(back().iter().all(|notice| calm.take(notice) == Worth::Told));
    }

    #[test]
    fn a_daemon_that_is_tried_in_vain_is_told_of_once_for_each_address_and_reason_until_it_answers() {
        let mut calm = Calm::default();
        let silent = |server: &str| {
            let (server, why, retry_in) = (addr(server), "timed out".into(), Duration::from_secs(1));
            Notice::Rendezvous(Event::Unreachable { server, why, retry_in })
        };
        let [one, two] = ["192.0.2.1:4000", "[2001:db8::1]:4000"];
        for _ in 0..2 {
            for worth in [Worth::Told, Worth::Unsaid, Worth::Unsaid] {
                let tries = [gone(one), gone(two), silent(one)];
                assert!(tries.iter().all(|notice| calm.take(notice) == worth), "{worth:?}");
            }
            let [logged_in, ..] = back();
            assert_eq!(calm.take(&logged_in), Worth::Told);
        }
    }

    #[test]
    fn a_viewer_that_is_still_sought_is_told_of_and_one_daemon_of_several_viewers_once() {
        let mut calm = Calm::default();
        for viewer in [0, 1] {
            calm.take(&of_viewer(viewer, link()));
        }
        let told: Vec<_> =
            (0..3).map(|viewer| calm.take(&of_viewer(viewer, gone("192.0.2.1:4000")))).collect();
        assert!(matches!(told[..], [Worth::Words(_), Worth::Unsaid, Worth::Told]), "{told:?}");
        for notice in back() {
            assert_eq!(calm.take(&of_viewer(0, notice.clone())), Worth::Unsaid);
            assert_eq!(calm.take(&of_viewer(2, notice)), Worth::Told);
        }
    }

    fn joined(client: u64) -> Notice {
        Notice::Rendezvous(Event::PeerJoined { client: ClientId(client), role: Role::Caster })
    }

    fn introduced(client: u64) -> Notice {
        let peer = Peer {
            client: ClientId(client),
            observed: Vec::new(),
            local: Vec::new(),
            public: false,
            rtt_us: 0,
            mapped: Vec::new(),
        };
        let (session, start_in) = (SessionId(client), Duration::ZERO);
        Notice::Rendezvous(Event::Introduced { session, peer, start_in, rtt: None })
    }

    #[test]
    fn one_more_caster_is_told_of_once_and_one_that_comes_back_under_its_cast_is_not() {
        let mut calm = Calm::default();
        let mut worth = |notice: Notice| calm.take(&notice);
        assert_eq!((worth(joined(1)), worth(introduced(1))), (Worth::Told, Worth::Told));
        worth(link());
        assert_eq!(worth(joined(2)), Worth::Unsaid);
        assert_eq!(worth(introduced(2)), Worth::Words("introduced to a caster".into()));
        assert_eq!(worth(introduced(2)), Worth::Unsaid, "it asked again");
        worth(Notice::NoLink { why: "NATs".into() });
        // The first one's way to the daemon broke; then the daemon is started again, and a third one comes.
        worth(Notice::Rendezvous(Event::PeerLeft { client: ClientId(1) }));
        assert_eq!((worth(joined(3)), worth(introduced(3))), (Worth::Unsaid, Worth::Unsaid));
        worth(gone("192.0.2.1:4000"));
        worth(Notice::Rendezvous(Event::LoggedIn { client: ClientId(9), server: addr("192.0.2.1:4000") }));
        assert_eq!((worth(joined(4)), worth(introduced(4))), (Worth::Unsaid, Worth::Unsaid));
        worth(joined(5));
        assert!(matches!(worth(introduced(5)), Worth::Words(_)));
    }

    #[test]
    fn a_caster_whose_link_was_faster_than_its_introduction_is_not_told_of_again() {
        let mut calm = Calm::default();
        let mut worth = |notice: Notice| calm.take(&notice);
        worth(link());
        for (client, told) in [(1, Worth::Unsaid), (2, Worth::Words("introduced to a caster".into()))] {
            worth(joined(client));
            assert_eq!(worth(introduced(client)), told);
        }
        // The second one's link was what it waited for.
        worth(Notice::OfCast { cast: 1, notice: Box::new(link()) });
        worth(joined(3));
        assert!(matches!(worth(introduced(3)), Worth::Words(_)));
    }
}
