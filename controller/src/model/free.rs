//! Numbers that are not in use.

use std::collections::BTreeMap;

/// The free numbers of `1..=limit`, as runs: taking, giving back and finding one cost the logarithm of how many runs there
/// are, however full it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Free {
    /// The last number of each run, by its first. No two runs touch.
    runs: BTreeMap<u32, u32>,
}

impl Free {
    /// All of `1..=limit`.
    pub(crate) fn new(limit: u32) -> Self {
        Self { runs: (limit > 0).then_some((1, limit)).into_iter().collect() }
    }

    /// Whether a number is free.
    pub(crate) fn is_free(&self, number: u32) -> bool {
        self.runs.range(..=number).next_back().is_some_and(|(_, last)| *last >= number)
    }

    /// Takes a number; nothing happens if it is taken.
    pub(crate) fn take(&mut self, number: u32) {
        let Some((&first, &last)) = self.runs.range(..=number).next_back().filter(|(_, last)| **last >= number) else {
            return;
        };
        self.runs.remove(&first);
        if first < number {
            self.runs.insert(first, number - 1);
        }
        if number < last {
            self.runs.insert(number + 1, last);
        }
    }

    /// Gives a number back; nothing happens if it is free.
    pub(crate) fn give(&mut self, number: u32) {
        let before = self.runs.range(..=number).next_back().map(|(&first, &last)| (first, last));
        let first = match before {
            Some((_, last)) if last >= number => return,
            Some((first, last)) if last + 1 == number => first,
            _ => number,
        };
        let last = number.checked_add(1).and_then(|next| self.runs.remove(&next)).unwrap_or(number);
        self.runs.insert(first, last);
    }

    /// The first free number after `last`, going round; `None` when there is none.
    pub(crate) fn after(&self, last: u32) -> Option<u32> {
        let next = last.saturating_add(1);
        let within = self.runs.range(..=next).next_back().filter(|(_, last)| **last >= next).map(|_| next);
        within
            .or_else(|| self.runs.range(next..).next().or_else(|| self.runs.first_key_value()).map(|(&first, _)| first))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_search_through_what_is_taken(steps in prop::collection::vec((any::<bool>(), 1..20_u32), 0..80), last in 0..25_u32) {
            let (mut free, mut taken) = (Free::new(19), BTreeSet::new());
            for (take, number) in steps.into_iter().filter(|(_, number)| *number <= 19) {
                if take {
                    free.take(number);
                    taken.insert(number);
                } else {
                    free.give(number);
                    taken.remove(&number);
                }
            }
            let expected = (last + 1..=19).chain(1..=last.min(19)).find(|number| !taken.contains(number));
            prop_assert_eq!(free.after(last), expected);
        }
    }

    #[test]
    fn a_full_stretch_after_the_last_one_is_one_run_to_skip() {
        let mut free = Free::new(100_000);
        (1..=100_000).filter(|n| *n != 40_000).for_each(|n| free.take(n));
        assert_eq!(free.after(40_000), Some(40_000), "all the way round");
        assert_eq!(free.runs.len(), 1);
        free.take(40_000);
        assert_eq!(free.after(7), None);
    }
}
