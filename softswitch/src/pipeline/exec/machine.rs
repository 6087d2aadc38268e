//! The interpreter.

use super::super::ops::{Op, Select, SelectFrom};
use super::super::program::Program;
use super::super::tables::{Dataplane, Draw, Found, Side};
use super::bytes::{bits, extract, extract_field, sign64};
use super::copies::Work;
use super::scratch::{Scratch, table_bit};
use super::slots::Slots;
use super::trace::Trace;
use super::{ASSERT_FAILED, MAX_PARSER_STATES, Packet, Verdict, mask, wide_mask};
use std::sync::MutexGuard;
use std::sync::atomic::Ordering;

pub(crate) struct Machine<'a, 'f> {
    pub p: &'a Program,
    pub dp: &'a Dataplane,
    pub side: &'a Side,
    pub s: Slots<'a>,
    pub pkt: Packet<'f>,
    pub scratch: &'a mut Scratch,
    pub trace: &'a mut Trace,
    pub work: &'a mut Work,
    /// Held from the first access to a register of [`Program::shared_registers`] until this run of the packet is over.
    pub turn: Option<MutexGuard<'a, ()>>,
}

/// What [`Machine::interpret`] returns where a packet ends.
pub(crate) const STOP: u32 = u32::MAX;

impl Machine<'_, '_> {
    /// Runs a packet from an instruction to where it ends, which is left in `pkt.verdict`: as machine code if there is some.
    #[inline]
    pub(super) fn run(&mut self, from: u32) {
        match &self.p.native {
            Some(native) if native.run(self, from) => {}
            _ => drop(self.interpret::<false>(from)),
        }
    }

    /// Runs from an instruction on until the packet ends, or only that one instruction. Returns the next one, or [`STOP`].
    pub(crate) fn interpret<const ONE: bool>(&mut self, from: u32) -> u32 {
        let code = self.p.code.as_slice();
        let s = self.s;
        // SAFETY: `compile::check` has seen that the start and every target is an instruction.
        let go = |t: u32| {
            debug_assert!((t as usize) < code.len());
            unsafe { code.as_ptr().add(t as usize) }
        };
        let mut ip = go(from);
        // Narrow instructions, written once.
        macro_rules! alu {
            ($d:expr, $w:expr, $v:expr) => {
                s.set($d, $v & mask($w))
            };
        }
        macro_rules! branch {
            ($cond:expr, $t:expr) => {
                if $cond {
                    ip = go($t);
                }
            };
        }
        // What the parser does goes on elsewhere if it fails.
        macro_rules! attempt {
            ($done:expr, $t:expr) => {
                if !$done {
                    ip = go($t);
                }
            };
        }
        loop {
            // SAFETY: it came from `go`, or from the line below behind an instruction that is not the last one, as that
            // one never goes on to the next; see `compile::check`. Behind the last one it is not used.
            let op = unsafe { &*ip };
            ip = ip.wrapping_add(1);
            match *op {
                Op::Copy { d, a } => s.set(d, s.get(a)),
                Op::Mov { d, a, w } => alu!(d, w, s.get(a)),
                Op::Add { d, a, b, w } => alu!(d, w, s.get(a).wrapping_add(s.get(b))),
                Op::Sub { d, a, b, w } => alu!(d, w, s.get(a).wrapping_sub(s.get(b))),
                Op::Mul { d, a, b, w } => alu!(d, w, s.get(a).wrapping_mul(s.get(b))),
                Op::And { d, a, b, w } => alu!(d, w, s.get(a) & s.get(b)),
                Op::Or { d, a, b, w } => alu!(d, w, s.get(a) | s.get(b)),
                Op::Xor { d, a, b, w } => alu!(d, w, s.get(a) ^ s.get(b)),
                Op::Not { d, a, w } => alu!(d, w, !s.get(a)),
                Op::Shl { d, a, b, w } => {
                    let k = s.get(b);
                    alu!(d, w, if k < 64 { s.get(a) << k } else { 0 });
                }
                Op::Shr { d, a, b, w } => {
                    let k = s.get(b);
                    alu!(d, w, if k < 64 { s.get(a) >> k } else { 0 });
                }
                Op::Sar { d, a, b, w } => {
                    let k = s.get(b).min(63);
                    alu!(d, w, (s.get(a) as i64 >> k) as u64);
                }
                Op::ShlI { d, a, k, w } => alu!(d, w, s.get(a).checked_shl(u32::from(k)).unwrap_or(0)),
                Op::ShrI { d, a, k, w } => alu!(d, w, s.get(a).checked_shr(u32::from(k)).unwrap_or(0)),
                Op::SarI { d, a, k, w } => alu!(d, w, (s.get(a) as i64 >> k.min(63)) as u64),
                Op::Div { d, a, b } => s.set(d, s.get(a).checked_div(s.get(b)).unwrap_or(0)),
                Op::Rem { d, a, b } => s.set(d, s.get(a).checked_rem(s.get(b)).unwrap_or(0)),
                Op::Sext { d, a, w } => s.set(d, sign64(s.get(a), u32::from(w))),
                Op::Set { d, a, b, cc } => s.set(d, u64::from(cc.holds(s.get(a), s.get(b)))),

                Op::Jmp { t } => ip = go(t),
                Op::BrZ { a, t } => branch!(s.get(a) == 0, t),
                Op::BrNz { a, t } => branch!(s.get(a) != 0, t),
                Op::BrEq { a, b, t } => branch!(s.get(a) == s.get(b), t),
                Op::BrNe { a, b, t } => branch!(s.get(a) != s.get(b), t),
                Op::BrLtU { a, b, t } => branch!(s.get(a) < s.get(b), t),
                Op::BrLeU { a, b, t } => branch!(s.get(a) <= s.get(b), t),
                Op::BrLtS { a, b, t } => branch!((s.get(a) as i64) < s.get(b) as i64, t),
                Op::BrLeS { a, b, t } => branch!(s.get(a) as i64 <= s.get(b) as i64, t),

                Op::Apply { t, ways } => ip = go(self.apply(usize::from(t), ways as usize)),
                Op::ApplyVia { t, ways } => ip = go(self.apply_via(usize::from(t), ways as usize)),
                Op::Extract { h, t } => attempt!(self.extract(usize::from(h)), t),
                Op::Select { ix } => ip = go(self.select(ix as usize)),
                Op::Lookahead { ix, t } => attempt!(self.lookahead(ix), t),
                Op::Advance { a, t } => attempt!(self.advance(s.get(a)), t),
                Op::ParseFail { a, t } => {
                    s.set(self.p.error_slot, s.get(a));
                    ip = go(t);
                }
                Op::SlowExtract { ix, t } => attempt!(self.slow_extract(ix), t),
                Op::State { t } => {
                    self.pkt.states += 1;
                    if self.pkt.states > MAX_PARSER_STATES {
                        s.set(self.p.error_slot, self.p.errors.timeout);
                        ip = go(t);
                    }
                }
                Op::ToIngress => {
                    s.set_field(self.p.std.parser_error, s.get(self.p.error_slot));
                    s.set_field(self.p.std.checksum_error, s.get(self.p.checksum_slot));
                    s.set(self.p.exit_slot, 0);
                }
                Op::ToEgress => {
                    if self.pkt.flags != 0 {
                        // SAFETY: both are within the code.
                        let at = unsafe { ip.offset_from(code.as_ptr()) };
                        if !self.enter_egress_aside(at as u32) {
                            return STOP;
                        }
                    } else if !self.enter_egress() {
                        return STOP;
                    }
                }
                Op::Leave => {
                    if !self.leave() {
                        return STOP;
                    }
                }
                Op::End => return STOP,
                Op::NoQueue => {
                    self.no_queue();
                    return STOP;
                }
                Op::Resubmit => {
                    self.resubmit();
                    return STOP;
                }
                Op::Multicast { t } => {
                    self.multicast(t);
                    return STOP;
                }
                Op::Cloned { t } => {
                    self.cloned(t);
                    return STOP;
                }
                // All are named: without a default, the jump needs no bounds check.
                Op::AddHeader { .. }
                | Op::RemoveHeader { .. }
                | Op::CopyHeader { .. }
                | Op::Hash { .. }
                | Op::Count { .. }
                | Op::Meter { .. }
                | Op::RegRead { .. }
                | Op::RegWrite { .. }
                | Op::Truncate { .. }
                | Op::Assert { .. }
                | Op::EgressClock
                | Op::CloneIngress
                | Op::CloneEgress { .. }
                | Op::Learn
                | Op::Recirculate
                | Op::VerifyChecksum { .. }
                | Op::UpdateChecksum { .. }
                | Op::Mark { .. }
                | Op::WMov { .. }
                | Op::WBin { .. }
                | Op::WShift { .. }
                | Op::WNot { .. }
                | Op::WSext { .. }
                | Op::WSet { .. }
                | Op::ZExt { .. }
                | Op::SExt { .. }
                | Op::WSat { .. }
                | Op::WSatU { .. }
                | Op::Slow { .. } => self.rare(op),
            }
            if ONE {
                // SAFETY: both are in `code`, or just behind its end.
                return unsafe { ip.offset_from(code.as_ptr()) } as u32;
            }
        }
    }

    #[inline(always)]
    fn enter_egress(&mut self) -> bool {
        let port = self.s.field(self.p.std.egress_spec);
        if port == u64::from(self.p.target.drop_port) {
            return false;
        }
        self.start_egress(port);
        true
    }

    /// What a packet that has not waited in a queue gets when it enters egress.
    #[inline(always)]
    pub(super) fn start_egress(&mut self, port: u64) {
        let (s, std) = (self.s, &self.p.std);
        self.pkt.port = port as u16;
        s.set_field(std.egress_port, port);
        // BMv2 sets the drop port + 1, which wraps to 0 in nine bits.
        s.set_field(std.egress_spec, u64::from(self.p.target.drop_port) + 1);
        s.set_field(std.packet_length, self.pkt.length);
        s.set_field(std.enq_timestamp, self.pkt.now_us);
        s.set(self.p.exit_slot, 0);
    }

    #[inline(always)]
    fn leave(&mut self) -> bool {
        if self.pkt.flags & ASSERT_FAILED != 0 {
            self.pkt.verdict = Verdict::AssertFailed;
            return false;
        }
        if self.s.field(self.p.std.egress_spec) == u64::from(self.p.target.drop_port) {
            return false;
        }
        self.pkt.verdict = Verdict::Sent;
        true
    }

    /// Looks up a table, puts the arguments of the action where its code expects them, and returns where that is.
    #[inline(always)]
    fn apply(&mut self, t: usize, ways: usize) -> u32 {
        let found = self.find(t);
        self.enter_action(t, ways, found)
    }

    /// As `apply`, for an indirect table.
    #[inline(never)]
    fn apply_via(&mut self, t: usize, ways: usize) -> u32 {
        let found = self.find_via(t);
        self.enter_action(t, ways, found)
    }

    /// Puts the arguments of an action where its code expects them, and returns where that is.
    #[inline(always)]
    fn enter_action(&self, t: usize, ways: usize, found: Found<'_>) -> u32 {
        let (rt, ways) = (&self.p.table_rt[t], &self.p.ways[ways]);
        let (action, args) = (found.action, found.args);
        let action = action as usize;
        match (rt.actions.get(action), ways.actions.get(action)) {
            (Some(a), Some((hit, miss))) => {
                for (slot, w) in (a.param_base..a.param_base + a.param_words).zip(args) {
                    self.s.set(slot, w.load(Ordering::Relaxed));
                }
                if found.hit { *hit } else { *miss }
            }
            _ => ways.none,
        }
    }

    #[inline(always)]
    fn extract(&mut self, h: usize) -> bool {
        let h = &self.p.headers[h];
        let Some(rest) = self.pkt.frame.get(self.pkt.parsed..self.pkt.parsed + h.bytes as usize) else {
            self.s.set(self.p.error_slot, self.p.errors.packet_too_short);
            return false;
        };
        extract(h, rest, self.s);
        self.s.set(h.valid, 1);
        self.s.set(h.origin, self.pkt.parsed as u64 + 1);
        self.pkt.parsed += h.bytes as usize;
        true
    }

    #[inline(always)]
    fn select(&mut self, ix: usize) -> u32 {
        let select = &self.p.selects[ix];
        let Some(narrow) = &select.narrow else { return self.wide_select(select) };
        let mut key = 0;
        for (slot, mask, shift) in &narrow.parts {
            key |= (self.s.get(*slot) & mask) << shift;
        }
        narrow.cases.iter().find(|(value, m, _)| key & m == *value).map_or(select.default, |(_, _, t)| *t)
    }

    #[inline(never)]
    fn wide_select(&self, select: &Select) -> u32 {
        let mut key = 0u128;
        for part in &select.parts {
            let v = match part.from {
                SelectFrom::Slot { slot, width } if width <= 64 => u128::from(self.s.get(slot) & mask(width as u8)),
                SelectFrom::Slot { slot, width } => self.s.wide(slot) & wide_mask(width as u8),
                // BMv2 reads beyond a packet that is too short for the lookahead; here those bits are 0.
                SelectFrom::Lookahead { bit_offset, width } => {
                    bits(self.pkt.frame, self.pkt.parsed * 8 + bit_offset as usize, width)
                }
            };
            key = key.checked_shl(part.bits).unwrap_or(0) | v;
        }
        select.cases.iter().find(|(value, m, _)| key & m == *value).map_or(select.default, |(_, _, t)| *t)
    }

    fn lookahead(&mut self, ix: u16) -> bool {
        let l = &self.p.lookaheads[usize::from(ix)];
        let rest = self.pkt.frame.len() - self.pkt.parsed;
        if rest * 8 < (l.bit_offset + l.width) as usize {
            self.s.set(self.p.error_slot, self.p.errors.packet_too_short);
            return false;
        }
        extract_field(l.dst, self.pkt.frame, self.pkt.parsed * 8 + l.bit_offset as usize, l.width, self.s);
        true
    }

    fn advance(&mut self, bits: u64) -> bool {
        let rest = (self.pkt.frame.len() - self.pkt.parsed) as u64;
        if !bits.is_multiple_of(8) {
            self.s.set(self.p.error_slot, self.p.errors.invalid_argument);
        } else if bits / 8 > rest {
            self.s.set(self.p.error_slot, self.p.errors.packet_too_short);
        } else {
            self.pkt.parsed += (bits / 8) as usize;
            return true;
        }
        false
    }
}

impl<'a> Machine<'a, '_> {
    /// Looks up a table, and stores the colour of its direct meter.
    #[inline(always)]
    pub(crate) fn find(&mut self, t: usize) -> Found<'a> {
        self.scratch.applied |= table_bit(t);
        let found = self.dp.lookup(self.side, t, self.s.all(), self.pkt.frame.len() as u64, self.pkt.now_us);
        self.coloured(t, found)
    }

    /// The same for a key that is packed already; see [`Dataplane::lookup_packed`].
    #[inline(always)]
    pub(crate) fn find_packed(&mut self, t: usize, key: [u64; 2]) -> Found<'a> {
        self.scratch.applied |= table_bit(t);
        let len = self.pkt.frame.len() as u64;
        let found = self.dp.lookup_packed(self.side, t, key, self.s.all(), len, self.pkt.now_us);
        self.coloured(t, found)
    }

    #[inline(always)]
    fn coloured(&mut self, t: usize, found: Found<'a>) -> Found<'a> {
        if let (Some(colour), Some((d, w))) = (found.colour, self.p.table_rt[t].meter) {
            self.s.set(d, colour & mask(w));
        }
        found
    }

    /// Looks up an indirect table, and follows what the entry names.
    pub(crate) fn find_via(&mut self, t: usize) -> Found<'a> {
        let found = self.find(t);
        let (dp, side) = (self.dp, self.side);
        match &self.p.table_rt[t].via {
            Some(via) => dp.resolve(side, via, found, |draw| match draw {
                Draw::Hash(calc) => self.calculate(calc),
                Draw::Chance(most) => self.scratch.random(0, most),
            }),
            None => found,
        }
    }
}
