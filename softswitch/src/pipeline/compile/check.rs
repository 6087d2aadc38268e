//! What the interpreter relies on, checked once: it does not check slots and jumps while packets run.

use super::super::effects::{Access, header};
use super::super::error::LoadError;
use super::super::ops::Op;
use super::super::program::Program;

/// Every slot that an instruction touches exists, every jump leads to an instruction, and the code cannot be left but by
/// its end. The compiler makes nothing else; this is where a mistake in it ends.
pub(super) fn check(p: &Program) -> Result<(), LoadError> {
    let mut slots_exist = true;
    let mut slot = |s: u16, _: Access| slots_exist &= usize::from(s) < p.slots;
    for op in &p.code {
        p.touches(op, &mut slot);
    }
    for h in &p.headers {
        header(h, Access::Read, &mut slot);
        slot(h.valid, Access::Read);
        for w in h.wire.iter().flat_map(|w| &w.read) {
            slot(w.slot, Access::Read);
        }
        for (s, _, _) in h.wire.iter().flat_map(|w| &w.patches).flat_map(|p| &p.fields) {
            slot(*s, Access::Read);
        }
    }
    let std = &p.std;
    let set = [std.ingress_port, std.packet_length, std.ingress_ts, std.egress_ts, std.instance_type, std.egress_rid];
    for f in set
        .into_iter()
        .flatten()
        .chain(std.of_egress())
        .chain(std.of_queue())
        .chain(p.field_lists.iter().flatten().copied())
    {
        slot(f.slot, Access::Read);
        f.slots().for_each(|s| slot(s, Access::Read));
    }
    p.asked.slots().for_each(|s| slot(s, Access::Read));
    p.consts.iter().for_each(|(s, _)| slot(*s, Access::Write));

    let lands = |t: u32| (t as usize) < p.code.len();
    let jumps = p.code.iter().all(|op| {
        let mut op = *op;
        op.target().is_none_or(|t| lands(*t))
    });
    let selects = p.selects.iter().all(|s| {
        let narrow = s.narrow.iter().flat_map(|n| n.cases.iter().map(|(_, _, t)| *t));
        lands(s.default) && s.cases.iter().all(|(_, _, t)| lands(*t)) && narrow.into_iter().all(lands)
    });
    let tables =
        p.ways.iter().all(|w| lands(w.none) && w.actions.iter().all(|(hit, miss)| lands(*hit) && lands(*miss)));
    let starts = [p.start, p.restart, p.reparse].into_iter().all(lands);
    let closed = p.code.last().is_some_and(Op::ends) && starts;
    if slots_exist && jumps && selects && tables && closed && p.field_slots <= p.slots {
        Ok(())
    } else {
        Err(LoadError::invalid("the compiler made code that does not hold together; please report this", "program"))
    }
}
