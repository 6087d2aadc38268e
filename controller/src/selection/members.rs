//! The routers that share a set, and how many of its buckets each is due.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

use super::hash;
use crate::model::{RegistrationKey, RouterIndex};

/// A router of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Its index in the `router` table.
    pub router: RouterIndex,
    /// Its share relative to the others'; at least 1.
    pub weight: u16,
}

/// A member's place in the order in which buckets are given out: the heaviest first, equals in an order drawn from
/// their identities.
type Rank = (Reverse<u16>, u64, RegistrationKey);

/// The routers of one set. May be very many more than a set has buckets: what is done for a change costs in proportion
/// to the buckets, not to the members.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Members {
    by_key: HashMap<RegistrationKey, Member>,
    ranking: BTreeSet<Rank>,
    /// Sum of the weights.
    weight: u64,
}

impl Members {
    /// How many they are.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// One of them.
    pub fn get(&self, key: &RegistrationKey) -> Option<Member> {
        self.by_key.get(key).copied()
    }

    /// The only one; `None` when there are several, or none.
    pub fn only(&self) -> Option<Member> {
        let (_, _, key) = self.ranking.first().filter(|_| self.len() == 1)?;
        self.get(key)
    }

    /// Adds a member, or changes one. Returns whether that is news.
    pub fn insert(&mut self, key: RegistrationKey, member: Member) -> bool {
        let old = self.by_key.insert(key, member);
        if old == Some(member) {
            return false;
        }
        if let Some(old) = old {
            self.unrank(&key, old.weight);
        }
        self.ranking.insert(rank(key, member.weight));
        self.weight += u64::from(member.weight);
        true
    }

    /// Removes a member. Returns whether there was one.
    pub fn remove(&mut self, key: &RegistrationKey) -> bool {
        let Some(old) = self.by_key.remove(key) else { return false };
        self.unrank(key, old.weight);
        true
    }

    fn unrank(&mut self, key: &RegistrationKey, weight: u16) {
        self.ranking.remove(&rank(*key, weight));
        self.weight -= u64::from(weight);
    }

    /// How many of `buckets` each member is due, those that are due none left out: its share by weight, rounded down or
    /// up, and `buckets` in all. What is left after rounding down goes to those first who have it already (`held`),
    /// then to those whose share was cut most.
    pub(super) fn quotas(
        &self,
        buckets: usize,
        held: impl Fn(&RegistrationKey) -> usize,
        holders: impl Iterator<Item = RegistrationKey>,
    ) -> HashMap<RegistrationKey, usize> {
        let share = |weight: u16| {
            let exact = buckets as u64 * u64::from(weight);
            ((exact / self.weight) as usize, exact % self.weight)
        };
        let claim = |(weight, seed, key): Rank, whole: usize, rest: u64| {
            let keeps = held(&key) > whole;
            (!keeps, Reverse(rest), (weight, seed, key))
        };
        let mut quotas = HashMap::new();
        let mut left = buckets;
        let mut claims = Vec::new();
        let mut light = 0;
        for &(weight, seed, key) in &self.ranking {
            let (whole, rest) = share(weight.0);
            if whole > 0 {
                quotas.insert(key, whole);
                left -= whole;
            } else {
                // Of those that are due less than one bucket no more can get one than there are buckets.
                light += 1;
                if light > buckets {
                    break;
                }
            }
            if rest > 0 {
                claims.push(claim((weight, seed, key), whole, rest));
            }
        }
        // Those that have a bucket may rank lower than that.
        for key in holders {
            if let Some(member) = self.get(&key)
                && let (0, rest) = share(member.weight)
            {
                claims.push(claim(rank(key, member.weight), 0, rest));
            }
        }
        claims.sort_unstable();
        claims.dedup();
        for (_, _, (_, _, key)) in claims.into_iter().take(left) {
            *quotas.entry(key).or_default() += 1;
        }
        quotas
    }
}

fn rank(key: RegistrationKey, weight: u16) -> Rank {
    (Reverse(weight), hash::seed(&key), key)
}

impl FromIterator<(RegistrationKey, Member)> for Members {
    fn from_iter<T: IntoIterator<Item = (RegistrationKey, Member)>>(members: T) -> Self {
        let by_key: HashMap<_, _> = members.into_iter().collect();
        let weight = by_key.values().map(|member| u64::from(member.weight)).sum();
        let ranking = by_key.iter().map(|(&key, member)| rank(key, member.weight)).collect();
        Self { by_key, ranking, weight }
    }
}
