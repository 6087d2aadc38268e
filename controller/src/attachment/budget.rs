//! So many a second, of each source and of all.

use std::collections::BTreeMap;
use std::time::Duration;

const WINDOW: Duration = Duration::from_secs(1);

/// What was spent in this second.
#[derive(Debug)]
pub(super) struct Budget<K> {
    each: u32,
    all: u32,
    began: Duration,
    spent: u32,
    /// At most `all` sources: each has spent something.
    by_source: BTreeMap<K, u32>,
}

impl<K: Ord> Budget<K> {
    pub(super) fn new(each: u32, all: u32) -> Self {
        Self { each, all, began: Duration::ZERO, spent: 0, by_source: BTreeMap::new() }
    }

    /// Whether the source may once more in this second; if so, it is counted.
    pub(super) fn admit(&mut self, now: Duration, source: K) -> bool {
        if now.saturating_sub(self.began) >= WINDOW {
            (self.began, self.spent) = (now, 0);
            self.by_source.clear();
        }
        if self.spent >= self.all {
            return false;
        }
        let spent = self.by_source.entry(source).or_default();
        if *spent >= self.each {
            return false;
        }
        *spent += 1;
        self.spent += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_source_and_all_together_are_bounded_a_second() {
        let mut budget = Budget::new(3, 10);
        let at = Duration::from_millis;
        assert_eq!((0..100).filter(|_| budget.admit(at(5_000), 0)).count(), 3);
        assert_eq!((1..100).filter(|&n| budget.admit(at(5_999), n)).count(), 7);
        assert!(budget.by_source.len() <= 10);
        assert!(budget.admit(at(6_000), 0), "another second");
    }
}
