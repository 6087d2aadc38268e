//! Running packets: one [`Worker`] for each thread, from the bytes of a frame to the frames that leave.
//!
//! ```text
//!   frame ─▶ parser ─▶ verify checksums ─▶ ingress ─▶ egress ─▶ update checksums ─▶ deparser ─▶ out
//! ```
//! A packet runs to completion; between the pipelines there is no queue (so queue depths and times read 0).

mod bytes;
mod machine;

use super::layout::{DROP_PORT, Field, Slot};
use super::program::Program;
use super::tables::{Dataplane, Side};
use std::sync::Arc;

/// Longest frame that is processed; longer ones are dropped and counted in [`WorkerStats::oversize`].
pub const MAX_FRAME: usize = 65_535;
/// Parser states that one packet may pass: BMv2 would let a parser loop forever that extracts nothing.
const MAX_PARSER_STATES: u32 = 1024;

/// What a worker did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WorkerStats {
    /// Frames taken in.
    pub received: u64,
    /// Frames handed out.
    pub sent: u64,
    /// Frames that the program dropped (`egress_spec` 511).
    pub dropped: u64,
    /// Frames for a multicast group: none can be configured yet, and BMv2 drops those too.
    pub no_group: u64,
    /// Frames longer than [`MAX_FRAME`], in or out.
    pub oversize: u64,
    /// Frames dropped because an `assert` or `assume` failed (BMv2 would abort).
    pub assert_failed: u64,
}

/// The scratch space of one thread. Holds nothing between packets.
pub struct Worker {
    program: Arc<Program>,
    slots: Vec<u64>,
    /// The frame that leaves.
    out: Vec<u8>,
    calc: Vec<u8>,
    stats: WorkerStats,
}

/// One packet on its way.
struct Packet<'a> {
    frame: &'a [u8],
    /// Bytes that the parser has taken.
    parsed: usize,
    parser_error: u64,
    checksum_error: bool,
    truncate: usize,
    /// BMv2's packet length register: the frame's length, plus and minus headers added and removed.
    length: u64,
    now_us: u64,
    in_egress: bool,
    egress_stamped: bool,
    assert_failed: bool,
    states: u32,
}

/// A worker that holds one side of the tables; see [`Worker::batch`].
pub struct Batch<'w, 'd> {
    worker: &'w mut Worker,
    dp: &'d Dataplane,
    side: std::sync::RwLockReadGuard<'d, Side>,
}

impl Worker {
    /// A worker for this data plane's program.
    pub fn new(dp: &Dataplane) -> Self {
        let program = Arc::clone(dp.program());
        let mut slots = vec![0; program.slots.max(1)];
        for (slot, v) in &program.consts {
            slots[usize::from(*slot)] = *v;
        }
        Self {
            program,
            slots,
            out: Vec::with_capacity(2048),
            calc: Vec::with_capacity(256),
            stats: WorkerStats::default(),
        }
    }

    /// What it did so far.
    pub fn stats(&self) -> WorkerStats {
        self.stats
    }

    /// Processes one frame that arrived at `ingress_port` at `now_us` (on the data plane's clock), and hands what leaves
    /// to `out` with its port.
    pub fn process(
        &mut self,
        dp: &Dataplane,
        ingress_port: u16,
        frame: &[u8],
        now_us: u64,
        out: &mut impl FnMut(u16, &[u8]),
    ) {
        self.batch(dp).process(ingress_port, frame, now_us, out);
    }

    /// Holds the tables for several frames, which saves a lock for each. Writers wait for the batch to be dropped (packets
    /// of other workers do not), so keep it to some tens of frames.
    pub fn batch<'w, 'd>(&'w mut self, dp: &'d Dataplane) -> Batch<'w, 'd> {
        if !Arc::ptr_eq(&self.program, dp.program()) {
            let stats = self.stats;
            *self = Self::new(dp);
            self.stats = stats;
        }
        Batch { side: dp.read(), worker: self, dp }
    }
}

impl Batch<'_, '_> {
    /// Like [`Worker::process`].
    pub fn process(&mut self, ingress_port: u16, frame: &[u8], now_us: u64, out: &mut impl FnMut(u16, &[u8])) {
        let w = &mut *self.worker;
        w.stats.received += 1;
        if frame.len() > MAX_FRAME {
            w.stats.oversize += 1;
            return;
        }
        if let Some(port) = w.run(self.dp, &self.side, ingress_port, frame, now_us) {
            w.stats.sent += 1;
            out(port, &w.out);
        }
    }
}

impl Worker {
    /// Runs one packet; what leaves is in `self.out`.
    fn run(&mut self, dp: &Dataplane, side: &Side, ingress_port: u16, frame: &[u8], now_us: u64) -> Option<u16> {
        let program = Arc::clone(&self.program);
        let p = program.as_ref();
        let s = self.slots.as_mut_slice();
        s[..p.field_slots].fill(0);
        let std = &p.std;
        let mut pkt = Packet {
            frame,
            parsed: 0,
            parser_error: 0,
            checksum_error: false,
            truncate: usize::MAX,
            length: frame.len() as u64,
            now_us,
            in_egress: false,
            egress_stamped: false,
            assert_failed: false,
            states: 0,
        };
        set(s, std.ingress_port, u64::from(ingress_port));
        set(s, std.packet_length, frame.len() as u64);
        set(s, std.ingress_ts, now_us);

        let mut m = machine::Machine { p, dp, side, s, pkt: &mut pkt, calc: &mut self.calc };
        m.run(p.parser);
        m.run(p.verify);
        set(m.s, std.parser_error, m.pkt.parser_error);
        set(m.s, std.checksum_error, u64::from(m.pkt.checksum_error));
        m.s[usize::from(p.exit_slot)] = 0;
        m.run(p.ingress);
        if m.pkt.assert_failed {
            self.stats.assert_failed += 1;
            return None;
        }
        if get(m.s, std.mcast_grp) != 0 {
            self.stats.no_group += 1;
            return None;
        }
        let port = get(m.s, std.egress_spec);
        if port == DROP_PORT {
            self.stats.dropped += 1;
            return None;
        }
        set(m.s, std.egress_port, port);
        // BMv2 sets the drop port + 1, which wraps to 0 in nine bits.
        set(m.s, std.egress_spec, DROP_PORT + 1);
        set(m.s, std.packet_length, m.pkt.length);
        set(m.s, std.enq_timestamp, now_us);
        m.s[usize::from(p.exit_slot)] = 0;
        m.pkt.in_egress = true;
        m.run(p.egress);
        if m.pkt.assert_failed {
            self.stats.assert_failed += 1;
            return None;
        }
        if get(m.s, std.egress_spec) == DROP_PORT {
            self.stats.dropped += 1;
            return None;
        }
        m.run(p.update);
        self.deparse(p, &pkt).then_some(port as u16)
    }

    /// Writes the frame that leaves into `self.out`. False if it is too long.
    fn deparse(&mut self, p: &Program, pkt: &Packet<'_>) -> bool {
        self.out.clear();
        for h in &p.deparse {
            let h = &p.headers[*h];
            if self.slots[usize::from(h.valid)] != 0 {
                bytes::emit(&mut self.out, h, &self.slots);
            }
        }
        self.out.extend_from_slice(&pkt.frame[pkt.parsed..]);
        self.out.truncate(pkt.truncate);
        if self.out.len() > MAX_FRAME {
            self.stats.oversize += 1;
            return false;
        }
        true
    }
}

/// Writes a field of the target, cut to its width, if the program has it.
#[inline]
fn set(s: &mut [u64], f: Option<Field>, v: u64) {
    if let Some(f) = f {
        s[usize::from(f.slot)] = v & mask(f.width as u8);
    }
}

#[inline]
fn get(s: &[u64], f: Option<Field>) -> u64 {
    f.map_or(0, |f| s[usize::from(f.slot)])
}

/// As many ones (1..=64).
#[inline]
fn mask(w: u8) -> u64 {
    u64::MAX >> (64 - u32::from(w))
}

/// The two slots of a wide value.
#[inline]
fn wide(s: &[u64], at: Slot) -> u128 {
    let at = usize::from(at);
    u128::from(s[at]) | u128::from(s[at + 1]) << 64
}

#[inline]
fn set_wide(s: &mut [u64], at: Slot, v: u128) {
    let at = usize::from(at);
    s[at] = v as u64;
    s[at + 1] = (v >> 64) as u64;
}
