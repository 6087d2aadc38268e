//! Which fields of a header have to be taken from the frame, and which ones have to be put back.
//!
//! Most packets leave with most of their bytes as they came. A header that was extracted is sent by copying its bytes and
//! writing over them what the program may have changed; a field that nothing reads or writes never leaves the frame.

use super::super::effects::Access;
use super::super::layout::{Field, Header, Patch, Window, Wire};
use super::super::ops::Op;
use super::super::program::Program;
use super::super::tree::Slow;

/// Gives every header that allows it its [`Wire`].
pub(super) fn plan(p: &mut Program) {
    let mut read = vec![false; p.slots];
    let mut written = vec![false; p.slots];
    for op in &p.code {
        if *op == Op::End {
            // What is sent is what this is about.
            continue;
        }
        // A header that is added or copied into is no longer that of the frame, and sent in full.
        let whole = match *op {
            Op::Extract { .. } | Op::AddHeader { .. } | Op::CopyHeader { .. } | Op::SlowExtract { .. } => true,
            Op::Slow { ix } => {
                matches!(p.slow[ix as usize], Slow::Copy { .. } | Slow::Add(_) | Slow::Shift { .. })
            }
            _ => false,
        };
        p.touches(op, &mut |s, access| match access {
            Access::Read => read[usize::from(s)] = true,
            Access::Write | Access::MayWrite => written[usize::from(s)] |= !whole,
        });
    }
    for h in &mut p.headers {
        h.wire = wire(h, &read, &written);
    }
}

fn wire(h: &Header, read: &[bool], written: &[bool]) -> Option<Wire> {
    if h.metadata || h.bytes < 8 || h.varbit.is_some() || h.fields.iter().any(|f| f.signed) {
        return None;
    }
    let is = |set: &[bool], f: &Field| f.slots().any(|s| set[usize::from(s)]);
    let mut out = Vec::new();
    let mut patches: Vec<(u16, Vec<Window>)> = Vec::new();
    for f in &h.fields {
        if !is(read, f) && !is(written, f) {
            continue;
        }
        let w = window(h, f, None)?;
        out.push(w);
        if is(written, f) {
            let shared = patches.last().and_then(|(at, _)| window(h, f, Some(*at)));
            match (shared, patches.last_mut()) {
                (Some(w), Some((_, fields))) => fields.push(w),
                _ => patches.push((w.at, vec![w])),
            }
        }
    }
    let patches = patches.into_iter().map(|(at, fields)| patch(at, &fields)).collect();
    Some(Wire { read: out.into_boxed_slice(), patches })
}

/// The field in the eight bytes at `at`, or wherever it fits.
fn window(h: &Header, f: &Field, at: Option<u16>) -> Option<Window> {
    let at = at.map_or((f.bit_offset / 8).min(h.bytes - 8), u32::from);
    let end = f.bit_offset.checked_sub(at * 8)? + f.width;
    let shift = 64u32.checked_sub(end)? as u8;
    Some(Window { slot: f.slot, at: u16::try_from(at).ok()?, shift, width: f.width as u8 })
}

fn patch(at: u16, fields: &[Window]) -> Patch {
    let mask = |w: &Window| u64::MAX >> (64 - w.width);
    let keep = fields.iter().fold(u64::MAX, |keep, w| keep & !(mask(w) << w.shift));
    Patch { at, keep, fields: fields.iter().map(|w| (w.slot, mask(w), w.shift)).collect() }
}
