//! The packet replication engine (P4Runtime 1.4 §9.5): what multicast groups and clone sessions make copies for.
//!
//! Packets look up a group or session without a lock; a write replaces one of them at once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use arc_swap::ArcSwapOption;

use super::tables::KnownPorts;

/// Most replicas of one group or session.
pub const MAX_REPLICAS: usize = 4096;
/// Set in the slot of a clone session once the program has asked for one, as session 0 is one, too.
pub(crate) const CLONE: u64 = 1 << 15;
/// The largest clone session that BMv2 can have.
pub const MAX_SESSION: u16 = (1 << 15) - 1;

/// Ids that share a page.
const PAGE: usize = 256;

/// One copy: where to, and what tells it apart (`egress_rid`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replica {
    /// The egress port.
    pub port: u16,
    /// Its `egress_rid`.
    pub instance: u16,
}

/// A copy that is wanted, and what takes its place while its port is down (P4Runtime 1.5 §9.5.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The copy that is preferred.
    pub first: Replica,
    /// The others, best first.
    pub backups: Vec<Replica>,
}

impl From<Replica> for Choice {
    fn from(first: Replica) -> Self {
        Self { first, backups: Vec::new() }
    }
}

impl Choice {
    /// The best one whose port is up. Where none is, it is the first, which is then made and dropped at its port, as a
    /// copy without backups is.
    fn made(&self, ports: &KnownPorts) -> Replica {
        let mut all = std::iter::once(&self.first).chain(&self.backups);
        *all.find(|r| ports.is_up(r.port)).unwrap_or(&self.first)
    }
}

/// What a clone session makes of a packet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CloneSession {
    /// The copies, in the order in which they are made.
    pub replicas: Vec<Replica>,
    /// Their priority in egress queues, unless it is 0.
    pub class_of_service: u16,
    /// Copies are sent with at most so many bytes.
    pub max_bytes: Option<usize>,
}

type Page<T> = Box<[ArcSwapOption<T>]>;

/// Values by 16-bit ids, with room for those that are used.
struct Paged<T>(Box<[OnceLock<Page<T>>]>);

impl<T> Paged<T> {
    fn new() -> Self {
        Self((0..=usize::from(u16::MAX) / PAGE).map(|_| OnceLock::new()).collect())
    }

    fn get(&self, id: u16) -> Option<Arc<T>> {
        self.0.get(usize::from(id) / PAGE)?.get()?.get(usize::from(id) % PAGE)?.load_full()
    }

    fn set(&self, id: u16, value: Option<Arc<T>>) {
        let Some(page) = self.0.get(usize::from(id) / PAGE) else { return };
        let page = page.get_or_init(|| (0..PAGE).map(|_| ArcSwapOption::empty()).collect());
        if let Some(cell) = page.get(usize::from(id) % PAGE) {
            cell.store(value);
        }
    }
}

/// What depends on ports: groups and sessions with backups.
#[derive(Default)]
struct Watching {
    ports: KnownPorts,
    groups: BTreeMap<u16, Vec<Choice>>,
    sessions: BTreeMap<u16, (CloneSession, Vec<Choice>)>,
}

/// The groups and sessions of one data plane.
pub struct Replication {
    groups: Paged<Vec<Replica>>,
    sessions: Paged<CloneSession>,
    /// Held by whatever changes one of the above.
    watching: Mutex<Watching>,
}

fn has_backups(choices: &[Choice]) -> bool {
    choices.iter().any(|c| !c.backups.is_empty())
}

impl Replication {
    pub(crate) fn new() -> Self {
        Self { groups: Paged::new(), sessions: Paged::new(), watching: Mutex::default() }
    }

    fn watching(&self) -> MutexGuard<'_, Watching> {
        self.watching.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a multicast group its replicas, in the order in which copies are made, or removes it.
    pub fn set_group(&self, id: u16, replicas: Option<Vec<Replica>>) {
        self.choose_group(id, replicas.map(|all| all.into_iter().map(Choice::from).collect()));
    }

    /// The same, with backups.
    pub fn choose_group(&self, id: u16, choices: Option<Vec<Choice>>) {
        let mut watching = self.watching();
        watching.groups.remove(&id);
        let made = |c: &Vec<Choice>| Arc::new(c.iter().map(|c| c.made(&watching.ports)).collect());
        self.groups.set(id, choices.as_ref().map(made));
        if let Some(choices) = choices.filter(|c| has_backups(c)) {
            watching.groups.insert(id, choices);
        }
    }

    /// Sets up a clone session, or removes it. The program's session numbers are taken modulo 2¹⁵, as in BMv2.
    pub fn set_session(&self, id: u16, session: Option<CloneSession>) {
        let chosen = session.map(|s| {
            let choices = s.replicas.iter().copied().map(Choice::from).collect();
            (s, choices)
        });
        self.choose_session(id, chosen);
    }

    /// The same, with backups: the replicas of the session are those that are chosen.
    pub fn choose_session(&self, id: u16, session: Option<(CloneSession, Vec<Choice>)>) {
        let id = id & MAX_SESSION;
        let mut watching = self.watching();
        watching.sessions.remove(&id);
        let made = |(s, c): &(CloneSession, Vec<Choice>)| {
            Arc::new(CloneSession { replicas: c.iter().map(|c| c.made(&watching.ports)).collect(), ..s.clone() })
        };
        self.sessions.set(id, session.as_ref().map(made));
        if let Some(session) = session.filter(|(_, c)| has_backups(c)) {
            watching.sessions.insert(id, session);
        }
    }

    /// Says which ports are up.
    pub(crate) fn set_ports(&self, ports: KnownPorts) {
        let mut watching = self.watching();
        watching.ports = ports;
        let Watching { ports, groups, sessions } = &*watching;
        let made = |choices: &[Choice]| choices.iter().map(|c| c.made(ports)).collect::<Vec<_>>();
        for (id, choices) in groups {
            self.groups.set(*id, Some(Arc::new(made(choices))));
        }
        for (id, (session, choices)) in sessions {
            self.sessions.set(*id, Some(Arc::new(CloneSession { replicas: made(choices), ..session.clone() })));
        }
    }

    /// The replicas of a multicast group.
    #[must_use]
    pub fn group(&self, id: u16) -> Option<Arc<Vec<Replica>>> {
        self.groups.get(id)
    }

    /// A clone session.
    #[must_use]
    pub fn session(&self, id: u16) -> Option<Arc<CloneSession>> {
        self.sessions.get(id & MAX_SESSION)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_can_be_set_and_removed() {
        let all = Replication::new();
        for id in [0, 1, 255, 256, 0x7fff, 0x8000, 0xffff] {
            assert_eq!(all.group(id), None);
            let replica = Replica { port: id & 511, instance: id };
            all.set_group(id, Some(vec![replica]));
            assert_eq!(all.group(id).unwrap()[..], [replica]);
            all.set_group(id, None);
            assert_eq!(all.group(id), None);
        }
    }

    #[test]
    fn the_best_replica_whose_port_is_up_is_made() {
        let all = Replication::new();
        let replica = |port| Replica { port, instance: port + 100 };
        let choices = vec![
            Choice { first: replica(1), backups: vec![replica(2), replica(3)] },
            Choice::from(replica(4)),
            Choice { first: replica(5), backups: vec![replica(9)] },
        ];
        all.choose_group(7, Some(choices.clone()));
        all.choose_session(8, Some((CloneSession { class_of_service: 3, ..CloneSession::default() }, choices)));
        let ports =
            |down: &[u16]| KnownPorts::from((1..=5).map(|p| (p, !down.contains(&p))).collect::<BTreeMap<_, _>>());
        // Before anything is known of ports, all are up. 9 does not exist.
        for (down, made) in [
            (None, [1, 4, 5]),
            (Some(&[][..]), [1, 4, 5]),
            (Some(&[1]), [2, 4, 5]),
            (Some(&[1, 2]), [3, 4, 5]),
            (Some(&[1, 3]), [2, 4, 5]),
            // The first is made where nothing else is left, as where there are no backups.
            (Some(&[1, 2, 3, 4, 5]), [1, 4, 5]),
            (Some(&[2, 3]), [1, 4, 5]),
        ] {
            if let Some(down) = down {
                all.set_ports(ports(down));
            }
            assert_eq!(all.group(7).unwrap()[..], made.map(replica), "{down:?}");
            let session = all.session(8).unwrap();
            assert_eq!((&session.replicas[..], session.class_of_service), (&made.map(replica)[..], 3), "{down:?}");
        }
        // What is removed, or has no backups any more, does not come back with a port.
        all.set_ports(ports(&[1]));
        all.set_group(7, Some(vec![replica(1)]));
        all.set_session(8, None);
        all.set_ports(ports(&[]));
        all.set_ports(ports(&[1]));
        assert_eq!(all.group(7).unwrap()[..], [replica(1)]);
        assert_eq!(all.session(8), None);
    }

    #[test]
    fn a_session_has_fifteen_bits() {
        let all = Replication::new();
        all.set_session(5, Some(CloneSession { class_of_service: 3, ..CloneSession::default() }));
        assert_eq!(all.session(5).unwrap().class_of_service, 3);
        assert_eq!(all.session(0x8005), all.session(5));
        assert_eq!(all.session(6), None);
    }
}
