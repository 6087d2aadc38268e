//! The optimizer: a program is run in advance as far as it can be.
//!
//! p4c writes a stage as "if nothing has gone wrong so far, and the packet is of this path, then…", so most of what a
//! packet executes are questions whose answer is known from the way that it came: which states its headers were parsed
//! in, which action a table has run. [`Specializer`](specialize) therefore follows the code from its start together with
//! what is known there, makes a copy of the code for each different state of knowledge, and leaves out what is decided.
//! [`liveness`] then removes what nothing reads any more.
//!
//! ```text
//!        ┌─ ipv4 ─┐                     ┌─ ipv4 ─ (valid: yes) ─▶ …
//!  start ┤        ├─ valid? ─▶ …   ⇒   ┤
//!        └─ else ─┘                     └─ else ─ (valid: no) ──▶ …
//! ```

mod facts;
mod liveness;
mod specialize;
mod survey;

use super::super::program::Program;
use liveness::Liveness;

/// Programs beyond this size (instructions times slots) are left as they are: the analysis takes memory in proportion.
const MAX_WORK: usize = 1 << 28;

/// Makes the program faster; what it does stays the same.
pub(super) fn optimize(p: &mut Program) {
    if p.code.len().saturating_mul(p.slots) > MAX_WORK {
        return;
    }
    let live = Liveness::of(p);
    specialize::specialize(p, &live);
    if p.code.len().saturating_mul(p.slots) <= MAX_WORK {
        liveness::remove_dead(p);
    }
}
