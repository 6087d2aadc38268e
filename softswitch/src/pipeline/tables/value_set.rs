//! The members of parser value sets.

use super::super::entry::{MatchValue, pieces};
use super::super::error::TableError;
use super::Dataplane;
use std::sync::{Arc, PoisonError, RwLock};

/// Each member has one value for each field.
type Members = Arc<[Vec<MatchValue>]>;

/// A value set as it is.
#[derive(Debug)]
pub(crate) struct ValueSet(RwLock<Members>);

impl Default for ValueSet {
    fn default() -> Self {
        Self(RwLock::new(Members::from([])))
    }
}

impl ValueSet {
    fn members(&self) -> Members {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Removes all members.
    pub(crate) fn clear(&self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Members::from([]);
    }

    /// A member matches this key, whose values are the [`pieces`] of fields of those widths.
    pub(crate) fn contains(&self, widths: &[u32], key: &[u128]) -> bool {
        let members = self.0.read().unwrap_or_else(PoisonError::into_inner);
        members.iter().any(|m| m.len() == key.len() && matches(m, widths, key))
    }
}

fn matches(member: &[MatchValue], widths: &[u32], key: &[u128]) -> bool {
    let mut both = member.iter().zip(key);
    widths.iter().all(|w| {
        // Of a range in pieces, the first piece in which the value differs from a bound decides.
        let (mut above, mut below) = (false, false);
        both.by_ref().take(pieces(*w).count()).fold(true, |all, (m, k)| {
            all & match *m {
                MatchValue::Exact(v) => *k == v,
                MatchValue::Ternary { value, mask } => k & mask == value,
                MatchValue::Range { low, high } => {
                    let inside = (above || *k >= low) && (below || *k <= high);
                    (above, below) = (above || *k > low, below || *k < high);
                    inside
                }
                MatchValue::Optional(v) => v.is_none_or(|v| *k == v),
                // Its owner gives a mask instead.
                MatchValue::Lpm { .. } => false,
            }
        })
    })
}

impl Dataplane {
    /// The members of the value set with this index in [`Program::value_sets`](super::super::Program::value_sets).
    ///
    /// # Errors
    /// There is no such value set.
    pub fn value_set(&self, set: usize) -> Result<Vec<Vec<MatchValue>>, TableError> {
        let found = self.value_sets.get(set).ok_or(TableError::NoSuchObject { kind: "value set", index: set })?;
        Ok(found.members().to_vec())
    }

    /// Replaces all members of a value set. Each has one value for each of
    /// [`ValueSetInfo::widths`](super::super::ValueSetInfo::widths) ([`pieces`]); a prefix is given as a value under a mask.
    ///
    /// # Errors
    /// There is no such value set, there are too many members, or one does not fit. The set is unchanged then.
    pub fn set_value_set(&self, set: usize, members: Vec<Vec<MatchValue>>) -> Result<(), TableError> {
        let found = self.value_sets.get(set).ok_or(TableError::NoSuchObject { kind: "value set", index: set })?;
        let info = &self.program.value_sets[set];
        if members.len() > info.max_size {
            return Err(TableError::Full { table: info.name.clone(), capacity: info.max_size });
        }
        let bad = |what: String| TableError::BadKey { table: info.name.clone(), what };
        let widths: Vec<(usize, u32)> = info.widths.iter().flat_map(|w| pieces(*w).enumerate()).collect();
        for m in &members {
            if m.len() != widths.len() {
                return Err(bad(format!("{} values where a member has {}", m.len(), widths.len())));
            }
            let mut differ = false;
            for (v, &(piece, w)) in m.iter().zip(&widths) {
                let most = super::super::compile::ones(w);
                differ &= piece > 0;
                let fits = match *v {
                    MatchValue::Exact(v) | MatchValue::Optional(Some(v)) => v <= most,
                    MatchValue::Ternary { value, mask } => mask <= most && value & !mask == 0,
                    MatchValue::Range { low, high } => {
                        let ordered = low <= high || differ;
                        differ |= low != high;
                        ordered && low <= most && high <= most
                    }
                    MatchValue::Optional(None) => true,
                    MatchValue::Lpm { .. } => false,
                };
                if !fits {
                    return Err(bad(format!("{v:?} is no value of {w} bits")));
                }
            }
        }
        *found.0.write().unwrap_or_else(PoisonError::into_inner) = members.into();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fields of 200 bits (in pieces of 72 and 128) and of 8.
    #[test]
    fn a_member_in_pieces_is_compared_as_a_whole() {
        let widths = [200, 8];
        let is = |member: [MatchValue; 3], key: [u128; 3]| matches(&member, &widths, &key);
        let exact = [MatchValue::Exact(1), MatchValue::Exact(2), MatchValue::Exact(3)];
        assert!(is(exact, [1, 2, 3]));
        assert!(!is(exact, [0, 2, 3]) && !is(exact, [1, 0, 3]) && !is(exact, [1, 2, 0]));
        let range = |low, high| MatchValue::Range { low, high };
        let ranges = [range(1, 3), range(7, 5), range(2, 4)];
        for (key, inside) in [
            ([1, 7, 2], true),
            ([1, 6, 2], false),
            ([2, 0, 3], true),
            ([2, u128::MAX, 3], true),
            ([3, 5, 4], true),
            ([3, 6, 4], false),
            // The next field starts anew.
            ([2, 0, 1], false),
            ([2, 0, 5], false),
        ] {
            assert_eq!(is(ranges, key), inside, "{key:?}");
        }
    }
}
