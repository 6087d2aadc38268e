//! What every node has ever applied, and what of it must never be taken back.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use dmux_controller::model::{Fingerprint, Model, RegistrationKey};
use dmux_controller::runtime::Replicated;
use dmux_raft_store::Store;

use super::MOVED_SERVICE;
use crate::net::Site;
use crate::world::World;

/// What every node has ever applied.
#[derive(Default)]
pub struct Histories(Mutex<Seen>);

#[derive(Default)]
struct Seen {
    /// Log index → digest of the state after it, and who saw it first.
    digests: BTreeMap<u64, (u32, Site)>,
    /// Version of the configuration → where it put the moved service.
    configs: BTreeMap<u64, u8>,
    /// The same, of those that were acknowledged.
    acknowledged: BTreeMap<u64, u8>,
    /// The last sequence number of each registration: it never falls, or somebody has taken what was old for new.
    sequences: BTreeMap<RegistrationKey, u64>,
    /// The keys that each registration rests on, as long as it was ever there.
    chains: BTreeMap<RegistrationKey, Vec<Fingerprint>>,
    /// The latest term that each node was in: it never falls, or the node may vote twice in one.
    terms: BTreeMap<u64, u64>,
    /// The highest index that any node ever applied.
    top: u64,
    broken: Option<String>,
}

/// Where a configuration has the moved service.
fn moved_to(model: &Model) -> u8 {
    model.config().services.get(&MOVED_SERVICE).map_or(0, |address| address.octets()[3])
}

/// Who is registered where, briefly.
fn registered(model: &Model) -> String {
    let each = model.registrations().map(|r| {
        let registration = &r.registration;
        format!(
            "{}@{} #{}",
            registration.key.router.ip().octets()[3] - 100,
            registration.gateway,
            registration.sequence
        )
    });
    each.collect::<Vec<_>>().join(", ")
}

impl Histories {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what a node's copy has come to: the same at the same index as everybody's, for ever.
    pub fn note(&self, world: &World, site: Site, store: &Store<Replicated>) {
        let (index, digest, version, moved) = store.read(|r| {
            let bytes = r.0.snapshot().unwrap_or_default();
            (r.0.applied(), crc32fast::hash(&bytes), r.0.config().version, moved_to(&r.0))
        });
        let mut seen = self.seen();
        if index > seen.top {
            seen.top = index;
            store.read(|r| seen.follow(index, &r.0));
            world.tell(|| format!("index {index}: {}", store.read(|r| registered(&r.0))));
        }
        let (before, first) = *seen.digests.entry(index).or_insert((digest, site));
        if before != digest {
            seen.broken.get_or_insert(format!(
                "at log index {index} node {} has another state than node {} had",
                site + 1,
                first + 1
            ));
        }
        if *seen.configs.entry(version).or_insert(moved) != moved {
            seen.broken.get_or_insert(format!("configuration {version} was two different ones"));
        }
        seen.compare(version);
    }

    /// A configuration was acknowledged.
    pub fn acknowledged(&self, version: u64, moved: u8) {
        let mut seen = self.seen();
        if *seen.acknowledged.entry(version).or_insert(moved) != moved {
            seen.broken.get_or_insert(format!("two different configurations {version} were acknowledged"));
        }
        seen.compare(version);
    }

    /// A node is in this term: it never falls, whatever happens to the node.
    pub fn in_term(&self, node: u64, term: u64) {
        let mut seen = self.seen();
        let before = seen.terms.get(&node).copied().unwrap_or(0);
        if before > term {
            seen.broken.get_or_insert(format!("node {node} was in term {before} and is in term {term} again"));
        }
        seen.terms.insert(node, before.max(term));
    }

    /// A node has lost its disk, and with it the right to be the node that it was.
    pub fn wiped(&self, node: u64) {
        self.seen().terms.remove(&node);
    }

    /// The keys of a router's certificates, its own first; none while it was never registered.
    pub fn chain(&self, key: &RegistrationKey) -> Vec<Fingerprint> {
        self.seen().chains.get(key).cloned().unwrap_or_default()
    }

    pub(super) fn top(&self) -> u64 {
        self.seen().top
    }

    pub(super) fn broken(&self) -> Result<(), String> {
        self.seen().broken.clone().map_or(Ok(()), Err)
    }

    /// The newest configuration that was acknowledged.
    pub(super) fn newest(&self) -> u64 {
        self.seen().acknowledged.keys().next_back().copied().unwrap_or(0)
    }
}

impl Seen {
    fn follow(&mut self, index: u64, model: &Model) {
        for registered in model.registrations() {
            let new = &registered.registration;
            let before = self.sequences.insert(new.key, new.sequence);
            if before.is_some_and(|before| before > new.sequence) {
                self.broken.get_or_insert(format!("at log index {index} the sequence of {} falls", new.key.router));
            }
            if let Some(revoked) = model.revoked(&new.chain) {
                let text =
                    format!("at log index {index} {} is registered, and its key {revoked} revoked", new.key.router);
                self.broken.get_or_insert(text);
            }
            self.chains.insert(new.key, new.chain.clone());
        }
    }

    fn compare(&mut self, version: u64) {
        if let (Some(acknowledged), Some(seen)) = (self.acknowledged.get(&version), self.configs.get(&version))
            && acknowledged != seen
        {
            self.broken.get_or_insert(format!("configuration {version} was acknowledged and is another now"));
        }
    }
}
