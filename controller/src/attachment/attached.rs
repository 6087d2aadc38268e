//! Who is attached: bounded, and forgotten when idle.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::model::{Endpoint, Fingerprint};

/// Endpoints attached at most: half of what the switch has room for, as those with metalinks that are not attached any more
/// have entries, too.
pub const MAX_ATTACHED: usize = 8_192;
/// Likewise at one port. Others are refused; nobody who is attached has to go for them.
pub const MAX_ATTACHED_PER_PORT: usize = 2_048;
/// Without a message for so long, an endpoint without metalinks is not attached any more.
pub const IDLE: Duration = Duration::from_secs(300);

/// What an endpoint has proven by its certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Proof {
    /// The certificate's subject.
    pub(super) name: String,
    pub(super) keys: Vec<Fingerprint>,
    /// Seconds since the Unix epoch.
    pub(super) not_after: u64,
}

#[derive(Debug)]
struct Member {
    until: Duration,
    proof: Option<Proof>,
}

/// The endpoints that are attached.
#[derive(Debug, Default)]
pub(super) struct Members {
    members: BTreeMap<Endpoint, Member>,
    by_end: BTreeSet<(Duration, Endpoint)>,
    at_port: BTreeMap<u16, usize>,
    /// Since they were last asked for.
    changes: BTreeMap<Endpoint, bool>,
}

impl Members {
    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there is room for the endpoint, which may be there already.
    pub(super) fn has_room(&self, endpoint: Endpoint) -> bool {
        let at_port = self.at_port.get(&endpoint.port).copied().unwrap_or(0);
        self.members.contains_key(&endpoint) || (self.members.len() < MAX_ATTACHED && at_port < MAX_ATTACHED_PER_PORT)
    }

    /// The caller has seen that there is room.
    pub(super) fn add(&mut self, now: Duration, endpoint: Endpoint, proof: Option<Proof>) {
        let until = now + IDLE;
        match self.members.insert(endpoint, Member { until, proof }) {
            Some(old) => {
                self.by_end.remove(&(old.until, endpoint));
            }
            None => {
                *self.at_port.entry(endpoint.port).or_default() += 1;
                self.changed(endpoint, true);
            }
        }
        self.by_end.insert((until, endpoint));
    }

    /// The endpoint was heard. `None` if it is not attached, otherwise what it has proven.
    pub(super) fn heard(&mut self, now: Duration, endpoint: &Endpoint) -> Option<Option<&Proof>> {
        let member = self.members.get_mut(endpoint)?;
        self.by_end.remove(&(member.until, *endpoint));
        member.until = now + IDLE;
        self.by_end.insert((member.until, *endpoint));
        Some(member.proof.as_ref())
    }

    /// The name in the endpoint's certificate, if it has shown one.
    pub(super) fn name(&self, endpoint: &Endpoint) -> Option<&str> {
        Some(&self.members.get(endpoint)?.proof.as_ref()?.name)
    }

    pub(super) fn remove(&mut self, endpoint: &Endpoint) {
        let Some(old) = self.members.remove(endpoint) else { return };
        self.by_end.remove(&(old.until, *endpoint));
        if let Some(count) = self.at_port.get_mut(&endpoint.port) {
            *count -= 1;
            if *count == 0 {
                self.at_port.remove(&endpoint.port);
            }
        }
        self.changed(*endpoint, false);
    }

    /// Forgets who was silent for [`IDLE`], but for those that are `needed`.
    pub(super) fn expire(&mut self, now: Duration, needed: impl Fn(&Endpoint) -> bool) {
        while let Some(&(until, endpoint)) = self.by_end.first().filter(|(until, _)| *until <= now) {
            if !needed(&endpoint) {
                self.remove(&endpoint);
            } else if let Some(member) = self.members.get_mut(&endpoint) {
                self.by_end.remove(&(until, endpoint));
                member.until = now + IDLE;
                self.by_end.insert((member.until, endpoint));
            }
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Duration> {
        self.by_end.first().map(|(until, _)| *until)
    }

    fn changed(&mut self, endpoint: Endpoint, is_there: bool) {
        // Whoever came and went since is no change.
        if self.changes.insert(endpoint, is_there) == Some(!is_there) {
            self.changes.remove(&endpoint);
        }
    }

    pub(super) fn take_changes(&mut self) -> BTreeMap<Endpoint, bool> {
        std::mem::take(&mut self.changes)
    }
}

#[cfg(test)]
mod tests {
    use dmux_wire::MacAddr;

    use super::*;

    fn endpoint(port: u16, n: u64) -> Endpoint {
        Endpoint { port, mac: MacAddr::from_u64(0x0200_0000_0000 + n) }
    }

    #[test]
    fn a_port_that_is_full_takes_nothing_from_another() {
        let mut members = Members::default();
        for n in 0..MAX_ATTACHED_PER_PORT as u64 {
            assert!(members.has_room(endpoint(3, n)));
            members.add(Duration::ZERO, endpoint(3, n), None);
        }
        assert!(!members.has_room(endpoint(3, 1 << 20)));
        assert!(members.has_room(endpoint(3, 0)), "who is there may attach again");
        assert!(members.has_room(endpoint(4, 0)));
        members.remove(&endpoint(3, 7));
        assert!(members.has_room(endpoint(3, 1 << 20)));
    }

    #[test]
    fn the_silent_go_unless_they_are_needed() {
        let mut members = Members::default();
        let at = Duration::from_secs;
        for n in 0..3 {
            members.add(at(n), endpoint(3, n), None);
        }
        assert_eq!(members.take_changes().len(), 3);
        assert_eq!(members.heard(at(100), &endpoint(3, 0)), Some(None));
        assert_eq!(members.next_deadline(), Some(at(1) + IDLE));
        members.expire(at(2) + IDLE, |e| *e == endpoint(3, 2));
        assert_eq!(members.take_changes(), [(endpoint(3, 1), false)].into());
        assert_eq!(members.next_deadline(), Some(at(100) + IDLE));
        assert_eq!(members.heard(at(400), &endpoint(3, 1)), None);
        members.add(at(500), endpoint(3, 1), None);
        members.remove(&endpoint(3, 1));
        assert!(members.take_changes().is_empty(), "came and went");
    }
}
