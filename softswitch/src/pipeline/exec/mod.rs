//! Running packets: one [`Worker`] for each thread, from the bytes of a frame to the frames that leave.
//!
//! ```text
//!   frame ─▶ parser ─▶ verify checksums ─▶ ingress ─▶ egress ─▶ update checksums ─▶ deparser ─▶ out
//! ```
//! A packet runs to completion; between the pipelines there is no queue (so queue depths and times read 0).

mod bytes;
pub(crate) mod machine;
mod rare;
mod scratch;
pub(crate) mod slots;
mod slow;
mod trace;
mod tree;

use super::program::Program;
use super::tables::{Dataplane, Side};
use scratch::Scratch;
use slots::Slots;
use std::ops::{AddAssign, Range};
use std::sync::Arc;
use trace::Trace;

pub use trace::MAX_TRACE_BYTES;

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
    /// Room for the frame that leaves: [`MAX_FRAME`] bytes of payload, and all headers before it.
    out: Box<[u8]>,
    scratch: Scratch,
    /// Of the packet that is being traced, if one is.
    trace: Trace,
    stats: WorkerStats,
}

/// One packet on its way.
pub(crate) struct Packet<'a> {
    pub(crate) frame: &'a [u8],
    /// Bytes that the parser has taken.
    pub(crate) parsed: usize,
    pub(crate) truncate: usize,
    /// BMv2's packet length register: the frame's length, plus and minus headers added and removed.
    pub(crate) length: u64,
    pub(crate) now_us: u64,
    pub(crate) egress_stamped: bool,
    pub(crate) assert_failed: bool,
    pub(crate) states: u32,
    pub(crate) verdict: Verdict,
    pub(crate) port: u16,
}

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Dropped,
    NoGroup,
    AssertFailed,
    Sent,
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
        let headers: usize = program.deparse.iter().map(|h| program.headers[*h].most_bytes()).sum();
        let mut slots = vec![0; program.slots.max(1)];
        for (slot, v) in &program.consts {
            slots[usize::from(*slot)] = *v;
        }
        Self {
            program,
            slots,
            out: vec![0; MAX_FRAME + headers].into_boxed_slice(),
            scratch: Scratch::new(),
            trace: Trace::default(),
            stats: WorkerStats::default(),
        }
    }

    /// Makes the numbers that the program draws repeat: the same seed, the same numbers from here on.
    pub fn seed(&mut self, seed: u64) {
        self.scratch.seed(seed);
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
        let (verdict, port, sent) = w.run(self.dp, &self.side, ingress_port, frame, now_us);
        match verdict {
            Verdict::Sent if sent.len() <= MAX_FRAME => {
                w.stats.sent += 1;
                out(port, &w.out[sent]);
            }
            Verdict::Sent => w.stats.oversize += 1,
            Verdict::Dropped => w.stats.dropped += 1,
            Verdict::NoGroup => w.stats.no_group += 1,
            Verdict::AssertFailed => w.stats.assert_failed += 1,
        }
    }
}

impl Batch<'_, '_> {
    /// Like [`process`](Self::process), and tells the packet's way: in detail, if the program was compiled with
    /// [`Marking::Steps`](super::Marking::Steps).
    pub fn process_traced(
        &mut self,
        ingress_port: u16,
        frame: &[u8],
        now_us: u64,
        out: &mut impl FnMut(u16, &[u8]),
    ) -> String {
        self.worker.trace.begin(ingress_port, frame);
        let before = self.worker.stats();
        let mut sent = Vec::new();
        self.process(ingress_port, frame, now_us, &mut |port, frame| {
            sent.push((port, frame.to_vec()));
            out(port, frame);
        });
        let after = self.worker.stats();
        let trace = &mut self.worker.trace;
        sent.iter().for_each(|(port, frame)| trace.sent(*port, frame));
        for ((name, before), (_, after)) in before.drops().iter().zip(after.drops()) {
            if *before != after {
                trace.outcome(&format!("dropped: {name}"));
            }
        }
        trace.end()
    }
}

impl WorkerStats {
    /// The packets that were dropped, by reason.
    #[must_use]
    pub fn drops(&self) -> [(&'static str, u64); 4] {
        [
            ("by the program", self.dropped),
            ("multicast group without replicas", self.no_group),
            ("longer than a frame can be", self.oversize),
            ("assert or assume failed", self.assert_failed),
        ]
    }
}

impl AddAssign for WorkerStats {
    fn add_assign(&mut self, other: Self) {
        self.received += other.received;
        self.sent += other.sent;
        self.dropped += other.dropped;
        self.no_group += other.no_group;
        self.oversize += other.oversize;
        self.assert_failed += other.assert_failed;
    }
}

impl Worker {
    /// Runs one packet. What leaves is in that part of `self.out`.
    fn run(
        &mut self,
        dp: &Dataplane,
        side: &Side,
        ingress_port: u16,
        frame: &[u8],
        now_us: u64,
    ) -> (Verdict, u16, Range<usize>) {
        let p = self.program.as_ref();
        self.slots[..p.field_slots].fill(0);
        // SAFETY: `slots` has `p.slots` of them, and `compile::check` has seen that no instruction uses one beyond.
        let s = unsafe { Slots::new(&mut self.slots) };
        s.set_field(p.std.ingress_port, u64::from(ingress_port));
        s.set_field(p.std.packet_length, frame.len() as u64);
        s.set_field(p.std.ingress_ts, now_us);
        let pkt = Packet {
            frame,
            parsed: 0,
            truncate: usize::MAX,
            length: frame.len() as u64,
            now_us,
            egress_stamped: false,
            assert_failed: false,
            states: 0,
            verdict: Verdict::Dropped,
            port: 0,
        };
        let mut m = machine::Machine { p, dp, side, s, pkt, scratch: &mut self.scratch, trace: &mut self.trace };
        m.run(p.start);
        let pkt = m.pkt;
        let len = if pkt.verdict == Verdict::Sent { deparse(p, s, &pkt, &mut self.out) } else { 0 };
        (pkt.verdict, pkt.port, 0..len)
    }
}

/// Writes the frame that leaves into `out`, which has room for all headers and the longest payload. Returns its length.
fn deparse(p: &Program, s: Slots<'_>, pkt: &Packet<'_>, out: &mut [u8]) -> usize {
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

/// As many ones (1..=64).
#[inline]
fn mask(w: u8) -> u64 {
    u64::MAX >> (64 - u32::from(w))
}

/// As many ones (1..=128).
#[inline]
fn wide_mask(w: u8) -> u128 {
    u128::MAX >> (128 - u32::from(w))
}
