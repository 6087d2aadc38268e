//! The frame that leaves: headers, then the rest of the frame as it came.

use super::super::program::Program;
use super::slots::Slots;
use super::{Packet, bytes};

/// Writes the frame that leaves into `out`, which has room for all headers and the longest payload. Returns its length.
pub(super) fn deparse(p: &Program, s: Slots<'_>, pkt: &Packet<'_>, out: &mut [u8]) -> usize {
    let native = p.native.as_ref().and_then(|native| native.emit(s.address(), pkt.frame, out));
    let at = native.unwrap_or_else(|| emit(p, s, pkt.frame, out));
    let payload = &pkt.frame[pkt.parsed..];
    let end = at + payload.len();
    out[at..end].copy_from_slice(payload);
    end.min(pkt.truncate)
}

/// Writes all headers that are sent. Returns how many bytes that is.
fn emit(p: &Program, s: Slots<'_>, frame: &[u8], out: &mut [u8]) -> usize {
    let mut at = 0;
    for h in &p.deparse {
        let h = &p.headers[*h];
        if s.get(h.valid) != 0 {
            if let Some(v) = h.varbit {
                at += bytes::emit_around(&mut out[at..], h, v, s, frame);
                continue;
            }
            let end = at + h.bytes as usize;
            bytes::emit(&mut out[at..end], h, s, frame);
            at = end;
        }
    }
    at
}
