//! What machine code calls.

use super::super::exec::machine::Machine;
use super::super::tables::{Found, NO_ACTION};
use std::sync::atomic::AtomicU64;

/// What a lookup found.
#[repr(C)]
pub(super) struct Hit {
    args: *const AtomicU64,
    /// Twice the number of the action among the table's, plus 1 if an entry matched.
    action: u64,
}

/// Runs the instruction at `pc` and returns the next one, or `STOP`.
pub(super) extern "C" fn step(m: *mut Machine<'_, '_>, pc: u32) -> u32 {
    // SAFETY: machine code passes on what `Native::run` gave it.
    unsafe { &mut *m }.interpret::<true>(pc)
}

/// Looks up a table for the packet, and stores the colour of a direct meter.
pub(super) extern "C" fn find(m: *mut Machine<'_, '_>, t: u32) -> Hit {
    // SAFETY: as in `step`.
    let m = unsafe { &mut *m };
    let found = m.find(t as usize);
    hit(m, t, found)
}

/// The same for a key of at most two words, which is packed.
pub(super) extern "C" fn find_packed(m: *mut Machine<'_, '_>, t: u32, low: u64, high: u64) -> Hit {
    // SAFETY: as in `step`.
    let m = unsafe { &mut *m };
    let found = m.find_packed(t as usize, [low, high]);
    hit(m, t, found)
}

/// As `find`, for an indirect table.
pub(super) extern "C" fn find_via(m: *mut Machine<'_, '_>, t: u32) -> Hit {
    // SAFETY: as in `step`.
    let m = unsafe { &mut *m };
    let found = m.find_via(t as usize);
    hit(m, t, found)
}

#[inline]
fn hit(m: &Machine<'_, '_>, t: u32, found: Found<'_>) -> Hit {
    // What machine code reads is there, whatever the action is.
    let actions = &m.p.table_rt[t as usize].actions;
    let needs = actions.get(found.action as usize).map_or(0, |a| usize::from(a.param_words));
    let action = if found.args.len() < needs { NO_ACTION } else { found.action };
    Hit { args: found.args.as_ptr(), action: action << 1 | u64::from(found.hit) }
}
