//! Which member has which bucket of a set: even to within one bucket, and with a memory, so that a change moves no more
//! clients than it must.
//!
//! Each member is due its share by weight, to within one bucket. It keeps what it has up to that; what is beyond, and
//! what belongs to nobody, is dealt to those that are due more by consistent hashing with bounded loads (Mirrokni,
//! Thorup and Zadimoghaddam, SODA 2018): members have points on a ring, a bucket goes to the next point whose member
//! still has room. So a new set depends on its members only, while one that has changed depends on its past, too.
//! Without the past evenness and consistency cannot both be had: plain rendezvous hashing moves nothing needlessly,
//! but gives four equal routers 256 buckets with a standard deviation of a tenth.

use std::collections::HashMap;

use super::hash;
use super::members::Members;
use crate::model::RegistrationKey;

/// Points on the ring for each bucket that a member is due: enough that whom a bucket meets first is as good as drawn.
const POINTS_PER_BUCKET: usize = 4;

/// Who has each bucket of a set: one member for each, or (read back from a switch) nobody that is known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Owners(Vec<Option<RegistrationKey>>);

impl Owners {
    /// Who has each bucket, by its number.
    pub fn buckets(&self) -> &[Option<RegistrationKey>] {
        &self.0
    }

    /// The owner of a bucket of a set of any size: clients whose hashes agree in fewer bits share a bucket there.
    pub(super) fn of(&self, bucket: usize) -> Option<RegistrationKey> {
        *self.0.get(bucket.checked_rem(self.0.len())?)?
    }

    /// The same, but for some buckets.
    pub(super) fn with(&self, others: Vec<(&usize, &RegistrationKey)>) -> Self {
        let mut owners = self.0.clone();
        for (&bucket, &key) in others {
            if let Some(owner) = owners.get_mut(bucket) {
                *owner = Some(key);
            }
        }
        Self(owners)
    }
}

impl FromIterator<Option<RegistrationKey>> for Owners {
    fn from_iter<T: IntoIterator<Item = Option<RegistrationKey>>>(owners: T) -> Self {
        Self(owners.into_iter().collect())
    }
}

impl Members {
    /// Who has which of `buckets` now, given who had them before. Dealing again changes nothing.
    pub fn deal(&self, before: &Owners, buckets: usize) -> Owners {
        if self.is_empty() {
            return Owners::default();
        }
        let keep = |bucket| before.of(bucket).filter(|key| self.get(key).is_some());
        let mut owners: Vec<Option<RegistrationKey>> = (0..buckets).map(keep).collect();
        let mut held: HashMap<RegistrationKey, Vec<usize>> = HashMap::new();
        for (bucket, owner) in owners.iter().enumerate() {
            if let Some(owner) = owner {
                held.entry(*owner).or_default().push(bucket);
            }
        }
        let count = |key: &RegistrationKey| held.get(key).map_or(0, Vec::len);
        let quotas = self.quotas(buckets, count, held.keys().copied());
        let mut room: Vec<(RegistrationKey, usize)> = Vec::new();
        for (&key, &quota) in &quotas {
            if let Some(missing) = quota.checked_sub(count(&key)).filter(|&missing| missing > 0) {
                room.push((key, missing));
            }
        }
        for (key, mut has) in held {
            let quota = quotas.get(&key).copied().unwrap_or(0);
            if has.len() > quota {
                // Whichever it gives up, some clients move; a draw of its own, so that equals agree where they can.
                let seed = hash::seed(&key);
                has.sort_unstable_by_key(|&bucket| hash::point(seed, hash::place(bucket)));
                has.drain(quota..).for_each(|bucket| owners[bucket] = None);
            }
        }
        fill(&mut owners, room);
        Owners(owners)
    }
}

/// Gives the buckets that nobody has to the members that have room: as much, in all.
fn fill(owners: &mut [Option<RegistrationKey>], mut room: Vec<(RegistrationKey, usize)>) {
    let mut points: Vec<(u64, usize)> = Vec::new();
    // Not in the order of a hash map, which is another in each process.
    room.sort_unstable_by_key(|(key, _)| *key);
    for (member, (key, missing)) in room.iter().enumerate() {
        let seed = hash::seed(key);
        points.extend((0..missing * POINTS_PER_BUCKET).map(|n| (hash::point(seed, n as u64), member)));
    }
    if points.is_empty() {
        return;
    }
    points.sort_unstable();
    // Where to look on from a point: itself while its member has room.
    let mut next: Vec<usize> = (0..points.len()).collect();
    for (bucket, owner) in owners.iter_mut().enumerate().filter(|(_, owner)| owner.is_none()) {
        let place = hash::place(bucket);
        let mut at = points.partition_point(|&(point, _)| point < place) % points.len();
        *owner = loop {
            at = follow(&mut next, at);
            let (key, missing) = &mut room[points[at].1];
            if *missing > 0 {
                *missing -= 1;
                break Some(*key);
            }
            next[at] = (at + 1) % points.len();
        };
    }
}

/// The end of the chain from `at`, which becomes shorter on the way.
fn follow(next: &mut [usize], mut at: usize) -> usize {
    while next[at] != at {
        next[at] = next[next[at]];
        at = next[at];
    }
    at
}
