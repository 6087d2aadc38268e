//! Idle timeouts: which entries have not been hit for as long as their control plane wants to know
//! (P4Runtime 1.4 §9.1.8 and §16.4).
//!
//! A hit costs a packet one store, of the time that its batch began. Timers are looked at when they are due only: then
//! it shows whether the entry was hit meanwhile, and the timer is set anew, from the hit or from now.

use super::super::entry::{IdleState, MatchValue};
use super::super::error::TableError;
use super::super::info::TableIx;
use super::encode::decode;
use super::memory::Zero;
use super::record::FullKey;
use super::{Dataplane, Txn};
use std::collections::{BTreeSet, HashMap};
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};

/// How an entry rests.
#[derive(Debug, Default)]
pub(crate) struct Rest {
    last_hit_us: AtomicU64,
    timeout_ns: AtomicU64,
}

// SAFETY: two atomic numbers.
unsafe impl Zero for Rest {}

impl Rest {
    #[inline]
    pub(super) fn hit(&self, now_us: u64) {
        // All frames of a batch have the same time: only the first takes the cache line away from other workers.
        if self.last_hit_us.load(Ordering::Relaxed) < now_us {
            self.last_hit_us.store(now_us, Ordering::Relaxed);
        }
    }

    /// A new entry.
    pub(super) fn begin(&self, now_us: u64) {
        self.last_hit_us.store(now_us, Ordering::Relaxed);
        self.timeout_ns.store(0, Ordering::Relaxed);
    }

    pub(super) fn state(&self) -> IdleState {
        IdleState {
            timeout_ns: self.timeout_ns.load(Ordering::Relaxed),
            last_hit_us: self.last_hit_us.load(Ordering::Relaxed),
        }
    }
}

/// An entry that was not hit for its idle timeout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idled {
    /// Its table.
    pub table: TableIx,
    /// One value for each field of the table's key.
    pub key: Vec<MatchValue>,
    /// Its priority; 0 in tables without.
    pub priority: i32,
    /// Its idle timeout in nanoseconds.
    pub timeout_ns: u64,
}

/// The timer of one entry.
#[derive(Debug)]
struct Timer {
    key: FullKey,
    timeout_us: u64,
    due_us: u64,
}

/// Timers of the entries that have an idle timeout.
#[derive(Debug, Default)]
pub(crate) struct Idle {
    timers: HashMap<(usize, u32), Timer>,
    /// When each timer is due.
    due: BTreeSet<(u64, usize, u32)>,
}

impl Idle {
    pub(super) fn forget(&mut self, t: usize, entry: u32) {
        if let Some(timer) = self.timers.remove(&(t, entry)) {
            self.due.remove(&(timer.due_us, t, entry));
        }
    }

    fn set(&mut self, t: usize, entry: u32, key: FullKey, timeout_us: u64, now_us: u64) {
        self.forget(t, entry);
        let due_us = now_us.saturating_add(timeout_us);
        self.timers.insert((t, entry), Timer { key, timeout_us, due_us });
        self.due.insert((due_us, t, entry));
    }

    /// Sets every due timer anew, and calls `f` for those whose entry was not hit; `last_hit` tells when it was. Ends after
    /// `most` of them.
    fn expire(
        &mut self,
        now_us: u64,
        most: usize,
        last_hit: impl Fn(usize, u32) -> u64,
        mut f: impl FnMut(usize, &FullKey, u32),
    ) {
        let mut found = 0;
        while found < most
            && let Some((due, t, entry)) = self.due.first().copied()
            && due <= now_us
        {
            self.due.pop_first();
            let Some(timer) = self.timers.get_mut(&(t, entry)) else { continue };
            let from_hit = last_hit(t, entry).saturating_add(timer.timeout_us);
            timer.due_us = if from_hit > now_us {
                from_hit
            } else {
                found += 1;
                f(t, &timer.key, entry);
                // Again after another timeout (§16.4); without the `max`, a clock that stands still would never let go.
                now_us.saturating_add(timer.timeout_us.max(1))
            };
            self.due.insert((timer.due_us, t, entry));
        }
    }
}

/// In microseconds, and not below one: "the smallest value they can support" (§9.1.8).
fn microseconds(ns: u64) -> u64 {
    ns.div_ceil(1000).max(1)
}

impl Txn<'_> {
    /// Sets the idle timeout of an entry, 0 for none. The time starts anew.
    ///
    /// # Errors
    /// It is not there, or the table does not support idle timeouts.
    pub fn set_idle_timeout(
        &mut self,
        table: TableIx,
        key: &[MatchValue],
        priority: i32,
        timeout_ns: u64,
    ) -> Result<(), TableError> {
        let t = self.dp.check_table(table.0)?;
        let Some(rests) = &self.dp.shared[t].rests else {
            return Err(TableError::NoIdleTimeout { table: self.dp.program.tables[t].name.clone() });
        };
        let (key, record) = self.existing(t, key, priority)?;
        let cell = self.dp.shared[t].records.cell(record);
        rests.get(cell).iter().for_each(|r| r.timeout_ns.store(timeout_ns, Ordering::Relaxed));
        if timeout_ns == 0 {
            self.writer.idle.forget(t, cell);
        } else {
            self.writer.idle.set(t, cell, key, microseconds(timeout_ns), self.dp.clock.now_us());
        }
        Ok(())
    }
}

impl Dataplane {
    /// The entries whose idle timeout has passed by `now_us`, `most` at the most: each once, and again after another
    /// timeout. If there are `most`, there may be more.
    pub fn idled(&self, now_us: u64, most: usize) -> Vec<Idled> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = Vec::new();
        let rest = |t: usize, entry: u32| {
            let rest = self.shared[t].rests.as_ref().and_then(|r| r.get(entry).first());
            rest.map_or(IdleState { timeout_ns: 0, last_hit_us: 0 }, Rest::state)
        };
        writer.idle.expire(
            now_us,
            most,
            |t, e| rest(t, e).last_hit_us,
            |t, key, e| {
                all.push(Idled {
                    table: TableIx(t),
                    key: decode(&self.program, t, &self.shared[t].fields, key),
                    priority: key.priority,
                    timeout_ns: rest(t, e).timeout_ns,
                });
            },
        );
        all
    }

    /// When the next idle timeout may have passed, in microseconds on the data plane's clock.
    pub fn next_idle_us(&self) -> Option<u64> {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        writer.idle.due.first().map(|(due, _, _)| *due)
    }
}
