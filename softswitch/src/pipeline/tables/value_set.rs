//! The members of parser value sets.

use super::super::entry::MatchValue;
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

    /// A member matches this key.
    pub(crate) fn contains(&self, key: &[u128]) -> bool {
        let members = self.0.read().unwrap_or_else(PoisonError::into_inner);
        members.iter().any(|m| m.len() == key.len() && m.iter().zip(key).all(|(m, k)| matches(m, *k)))
    }
}

fn matches(m: &MatchValue, k: u128) -> bool {
    match *m {
        MatchValue::Exact(v) => k == v,
        MatchValue::Ternary { value, mask } => k & mask == value,
        MatchValue::Range { low, high } => (low..=high).contains(&k),
        MatchValue::Optional(v) => v.is_none_or(|v| k == v),
        // The width of the field is not known here; its owner gives a mask instead.
        MatchValue::Lpm { .. } => false,
    }
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
    /// [`ValueSetInfo::widths`](super::super::ValueSetInfo::widths); a prefix is given as a value under a mask.
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
        for m in &members {
            if m.len() != info.widths.len() {
                return Err(bad(format!("{} values where a member has {}", m.len(), info.widths.len())));
            }
            for (v, w) in m.iter().zip(&info.widths) {
                let most = super::super::compile::ones(*w);
                let fits = match *v {
                    MatchValue::Exact(v) | MatchValue::Optional(Some(v)) => v <= most,
                    MatchValue::Ternary { value, mask } => mask <= most && value & !mask == 0,
                    MatchValue::Range { low, high } => low <= high && high <= most,
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
