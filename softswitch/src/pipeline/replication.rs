//! The packet replication engine (P4Runtime 1.4 §9.5): what multicast groups and clone sessions make copies for.
//!
//! Packets look up a group or session without a lock; a write replaces one of them at once.

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwapOption;

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

/// The groups and sessions of one data plane.
pub struct Replication {
    groups: Paged<Vec<Replica>>,
    sessions: Paged<CloneSession>,
}

impl Replication {
    pub(crate) fn new() -> Self {
        Self { groups: Paged::new(), sessions: Paged::new() }
    }

    /// Gives a multicast group its replicas, in the order in which copies are made, or removes it.
    pub fn set_group(&self, id: u16, replicas: Option<Vec<Replica>>) {
        self.groups.set(id, replicas.map(Arc::new));
    }

    /// Sets up a clone session, or removes it. The program's session numbers are taken modulo 2¹⁵, as in BMv2.
    pub fn set_session(&self, id: u16, session: Option<CloneSession>) {
        self.sessions.set(id & MAX_SESSION, session.map(Arc::new));
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
    fn a_session_has_fifteen_bits() {
        let all = Replication::new();
        all.set_session(5, Some(CloneSession { class_of_service: 3, ..CloneSession::default() }));
        assert_eq!(all.session(5).unwrap().class_of_service, 3);
        assert_eq!(all.session(0x8005), all.session(5));
        assert_eq!(all.session(6), None);
    }
}
