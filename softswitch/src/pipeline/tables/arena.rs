//! Short arrays (1 to 64 elements) in one long one, so that a reference to one takes four bytes.

/// Sizes in which arrays are handed out: an array that grows seldom moves, and a sixth of the room is unused on average.
const SIZES: [usize; 12] = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64];

fn class(len: usize) -> usize {
    SIZES.iter().position(|s| *s >= len).unwrap_or(SIZES.len() - 1)
}

pub(super) struct Arena<T> {
    all: Vec<T>,
    /// Starts of unused arrays, by size.
    free: Box<[Vec<u32>; SIZES.len()]>,
}

impl<T> Default for Arena<T> {
    fn default() -> Self {
        Self { all: Vec::new(), free: Default::default() }
    }
}

impl<T: Copy + Default> Arena<T> {
    #[inline(always)]
    pub(super) fn get(&self, at: u32) -> &T {
        &self.all[at as usize]
    }

    pub(super) fn get_mut(&mut self, at: u32) -> &mut T {
        &mut self.all[at as usize]
    }

    pub(super) fn slice(&self, at: u32, len: u32) -> &[T] {
        &self.all[at as usize..(at + len) as usize]
    }

    fn take(&mut self, class: usize) -> u32 {
        self.free[class].pop().unwrap_or_else(|| {
            let at = self.all.len();
            self.all.resize(at + SIZES[class], T::default());
            at as u32
        })
    }

    /// A new array of one element.
    pub(super) fn one(&mut self, value: T) -> u32 {
        let at = self.take(0);
        self.all[at as usize] = value;
        at
    }

    /// Puts a value into the array of `len` elements at `at`, before the element `i`. Returns where the array is now.
    pub(super) fn insert(&mut self, at: u32, len: u32, i: u32, value: T) -> u32 {
        let (from, n, i) = (at as usize, len as usize, i as usize);
        let (old, new) = (class(n), class(n + 1));
        if old == new {
            self.all.copy_within(from + i..from + n, from + i + 1);
            self.all[from + i] = value;
            return at;
        }
        let to = self.take(new);
        let t = to as usize;
        self.all.copy_within(from..from + i, t);
        self.all[t + i] = value;
        self.all.copy_within(from + i..from + n, t + i + 1);
        self.free[old].push(at);
        to
    }

    /// Removes the element `i` of the array of `len` elements at `at`; of the last one, the array goes, too. Returns where
    /// the array is now.
    pub(super) fn remove(&mut self, at: u32, len: u32, i: u32) -> u32 {
        let (from, n, i) = (at as usize, len as usize, i as usize);
        if n == 1 {
            self.free[0].push(at);
            return 0;
        }
        let (old, new) = (class(n), class(n - 1));
        self.all.copy_within(from + i + 1..from + n, from + i);
        if old == new {
            return at;
        }
        let to = self.take(new);
        self.all.copy_within(from..from + n - 1, to as usize);
        self.free[old].push(at);
        to
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn arrays_keep_their_elements(steps in proptest::collection::vec((0usize..5, any::<bool>(), any::<u32>()), 0..300)) {
            let (mut arena, mut at) = (Arena::<u32>::default(), [0u32; 5]);
            let mut plain: [Vec<u32>; 5] = Default::default();
            for (which, add, seed) in steps {
                let len = plain[which].len() as u32;
                let v = &mut plain[which];
                if add && v.is_empty() {
                    at[which] = arena.one(seed);
                    v.push(seed);
                } else if add && v.len() < 64 {
                    let i = seed % (len + 1);
                    at[which] = arena.insert(at[which], len, i, seed);
                    v.insert(i as usize, seed);
                } else if !v.is_empty() {
                    let i = seed % len;
                    at[which] = arena.remove(at[which], len, i);
                    v.remove(i as usize);
                }
                for (v, at) in plain.iter().zip(at) {
                    prop_assert_eq!(v.as_slice(), if v.is_empty() { &[] } else { arena.slice(at, v.len() as u32) });
                }
            }
        }
    }
}
