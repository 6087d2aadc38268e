//! Which router each hash bucket of a set goes to: weighted rendezvous hashing (consistent hashing with weights).
//!
//! Every member draws a cost for every bucket, and the least takes it. Membership change therefore moves only what it
//! must: a member that leaves gives up its buckets and no other bucket moves; a member that joins takes some from all.
//! The table is a function of the members alone, not of the order in which they came.

use std::collections::BTreeMap;

use super::hash;
use crate::model::{RegistrationKey, RouterIndex};

/// Buckets of a set: one for each value of the low 8 bits of the client hash. With more routers than buckets, or
/// weights further apart than that, some routers get none.
pub const BUCKETS_PER_SET: usize = 256;

/// A router of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Its index in the `router` table.
    pub router: RouterIndex,
    /// Its share relative to the others'; at least 1.
    pub weight: u16,
}

/// The members of one set and the buckets that each has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketSet {
    members: BTreeMap<RegistrationKey, Member>,
    /// The least (cost, key) of each bucket; `None` while there is no member.
    winners: Box<[Option<(u64, RegistrationKey)>; BUCKETS_PER_SET]>,
}

impl Default for BucketSet {
    fn default() -> Self {
        Self { members: BTreeMap::new(), winners: Box::new([None; BUCKETS_PER_SET]) }
    }
}

impl BucketSet {
    /// A set without members.
    pub fn new() -> Self {
        Self::default()
    }

    /// Its members.
    pub fn members(&self) -> &BTreeMap<RegistrationKey, Member> {
        &self.members
    }

    /// Adds a member, or changes one. Costs one draw per bucket (and what [`BucketSet::remove`] costs where the
    /// weight changed).
    pub fn insert(&mut self, key: RegistrationKey, member: Member) {
        match self.members.get_mut(&key) {
            Some(known) if known.weight == member.weight => {
                known.router = member.router;
                return;
            }
            Some(_) => self.remove(&key),
            None => {}
        }
        self.members.insert(key, member);
        let seed = hash::seed(&key);
        for (bucket, winner) in (0..=u8::MAX).zip(self.winners.iter_mut()) {
            let draw = (hash::cost(seed, bucket, member.weight), key);
            if winner.is_none_or(|winner| draw < winner) {
                *winner = Some(draw);
            }
        }
    }

    /// Removes a member. Costs one draw per remaining member for each bucket that it had.
    pub fn remove(&mut self, key: &RegistrationKey) {
        if self.members.remove(key).is_none() {
            return;
        }
        let orphaned: Vec<u8> = (0..=u8::MAX)
            .zip(self.winners.iter_mut())
            .filter_map(|(bucket, winner)| {
                let had = winner.is_some_and(|(_, owner)| owner == *key);
                had.then(|| {
                    *winner = None;
                    bucket
                })
            })
            .collect();
        if orphaned.is_empty() {
            return;
        }
        for (other, member) in &self.members {
            let seed = hash::seed(other);
            for &bucket in &orphaned {
                let draw = (hash::cost(seed, bucket, member.weight), *other);
                let winner = &mut self.winners[usize::from(bucket)];
                if winner.is_none_or(|winner| draw < winner) {
                    *winner = Some(draw);
                }
            }
        }
    }

    /// The router of a bucket.
    pub fn router(&self, bucket: u8) -> Option<RouterIndex> {
        let (_, key) = self.winners[usize::from(bucket)]?;
        self.members.get(&key).map(|member| member.router)
    }
}

impl FromIterator<(RegistrationKey, Member)> for BucketSet {
    fn from_iter<T: IntoIterator<Item = (RegistrationKey, Member)>>(members: T) -> Self {
        let mut set = Self::new();
        for (key, member) in members {
            set.insert(key, member);
        }
        set
    }
}
