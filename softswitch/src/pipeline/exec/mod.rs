//! Running packets: one [`Worker`] for each thread, from the bytes of a frame to the frames that leave.
//!
//! ```text
//!   frame ─▶ parser ─▶ verify checksums ─▶ ingress ─▶ egress ─▶ update checksums ─▶ deparser ─▶ out
//! ```
//! A packet runs to completion. Copies, packets that start again, and those that wait in an egress queue (see
//! [`copies`]) are the exception; without a queue, its depths and times read 0.

mod ahead;
mod bytes;
mod copies;
mod deparse;
mod digest;
mod later;
pub(crate) mod machine;
mod matched;
mod rare;
mod scratch;
pub(crate) mod slots;
mod slow;
mod stats;
mod trace;
mod tree;

use super::program::Program;
use super::queues::EgressQueues;
use super::tables::{Dataplane, Side};
pub use ahead::AHEAD;
use ahead::Ahead;
use copies::Work;
use deparse::deparse;
use scratch::Scratch;
use slots::Slots;
use std::ops::Range;
use std::sync::Arc;
use trace::Trace;

pub(crate) use copies::Later;
pub use stats::WorkerStats;
pub use trace::MAX_TRACE_BYTES;

/// Longest frame that is processed; longer ones are dropped and counted in [`WorkerStats::oversize`].
pub const MAX_FRAME: usize = 65_535;
/// Parser states that one packet may pass: BMv2 would let a parser loop forever that extracts nothing.
const MAX_PARSER_STATES: u32 = 1024;
/// How often one packet may be resubmitted, recirculated or cloned: BMv2 would go on forever.
pub const MAX_PASSES: u32 = 1024;
/// Packets that one frame may become.
pub const MAX_COPIES: usize = 16_384;

/// The scratch space of one thread. Holds nothing between packets.
pub struct Worker {
    program: Arc<Program>,
    slots: Vec<u64>,
    /// Room for the frame that leaves: [`MAX_FRAME`] bytes of payload, and all headers before it.
    out: Box<[u8]>,
    scratch: Scratch,
    /// Of the packet that is being traced, if one is.
    trace: Trace,
    work: Work,
    ahead: Ahead,
    stats: WorkerStats,
}

/// An `assert` or `assume` failed.
const ASSERT_FAILED: u8 = 1;
/// The packet takes its turn in egress behind its copies.
const DEFERRED: u8 = 1 << 1;
/// What leaves is not sent but starts again.
const RECIRCULATE: u8 = 1 << 2;
/// The frame is kept in [`Work`].
const KEPT: u8 = 1 << 3;
/// Some ports have egress queues.
const QUEUES: u8 = 1 << 4;
/// The packet's way is told.
const TRACED: u8 = 1 << 5;

/// The values of a field list.
pub(crate) struct Kept {
    pub list: usize,
    pub words: Vec<u64>,
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
    /// What is not as with most packets; 0 for those.
    pub(crate) flags: u8,
    pub(crate) states: u32,
    /// How often it was cloned or started again.
    pub(crate) passes: u32,
    pub(crate) verdict: Verdict,
    pub(crate) port: u16,
    /// Where the frame arrived.
    pub(crate) ingress_port: u16,
}

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Dropped,
    NoGroup,
    NoQueue,
    AssertFailed,
    Sent,
    /// It goes on later, or its copies do.
    Deferred,
}

/// A worker that holds one side of the tables; see [`Worker::batch`].
pub struct Batch<'w, 'd> {
    worker: &'w mut Worker,
    dp: &'d Dataplane,
    side: std::sync::RwLockReadGuard<'d, Side>,
    /// What every packet has.
    flags: u8,
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
            ahead: Ahead::new(&program),
            program,
            slots,
            out: vec![0; MAX_FRAME + headers].into_boxed_slice(),
            scratch: Scratch::new(),
            trace: Trace::default(),
            work: Work::default(),
            stats: WorkerStats::default(),
        }
    }

    /// Makes the numbers that the program draws repeat: the same seed, the same numbers from here on.
    pub fn seed(&mut self, seed: u64) {
        self.scratch.seed(seed);
    }

    /// Lets packets for ports that have queues wait in them; [`Batch::serve_queues`] runs them on. Without, none waits.
    #[must_use]
    pub fn with_queues(mut self, queues: Arc<EgressQueues>) -> Self {
        self.work.queues = Some(queues);
        self
    }

    /// What it did so far.
    pub fn stats(&self) -> WorkerStats {
        let Work { cut_off, no_session, copies, .. } = self.work;
        WorkerStats { cut_off, no_session, copies, ..self.stats }
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
            let (stats, work) = (self.stats, std::mem::take(&mut self.work));
            *self = Self::new(dp);
            (self.stats, self.work) = (stats, work);
        }
        let flags = if self.work.queues.as_ref().is_some_and(|q| q.any()) { QUEUES } else { 0 };
        self.ahead.begin();
        self.scratch.applied = 0;
        Batch { side: dp.read(), worker: self, dp, flags }
    }
}

impl Batch<'_, '_> {
    /// Shows a frame that will be processed when [`AHEAD`] others have been, or those that there are until then: the memory
    /// that it needs can be fetched meanwhile. Frames are processed in the order in which they are shown. It is for speed
    /// alone, and only large tables make it worth while: without, the result is the same.
    #[inline]
    pub fn coming(&mut self, frame: &[u8]) {
        self.worker.ahead.coming(&self.side, frame);
    }

    /// Like [`Worker::process`].
    pub fn process(&mut self, ingress_port: u16, frame: &[u8], now_us: u64, out: &mut impl FnMut(u16, &[u8])) {
        let w = &mut *self.worker;
        w.ahead.next(self.dp, &self.side);
        w.stats.received += 1;
        if frame.len() > MAX_FRAME {
            w.stats.oversize += 1;
            return;
        }
        w.slots[..w.program.field_slots].fill(0);
        // SAFETY: `slots` has `p.slots` of them, and `compile::check` has seen that no instruction uses one beyond.
        let s = unsafe { Slots::new(&mut w.slots) };
        let p = w.program.as_ref();
        s.set_field(p.std.ingress_port, u64::from(ingress_port));
        s.set_field(p.std.packet_length, frame.len() as u64);
        s.set_field(p.std.ingress_ts, now_us);
        let start = p.start;
        let pkt = Packet { flags: self.flags, ..Packet::new(frame, ingress_port, now_us) };
        let done = w.run(self.dp, &self.side, pkt, start);
        if w.ahead.is_curious() {
            // SAFETY: as above.
            w.ahead.learn(&self.side, w.scratch.applied, unsafe { Slots::new(&mut w.slots) });
        }
        w.settle(&done, out);
        if done.flags & !QUEUES != 0 || done.verdict == Verdict::Deferred {
            self.rest(&done, now_us, out);
        }
    }
}

/// What a run has come to.
struct Done {
    verdict: Verdict,
    flags: u8,
    port: u16,
    passes: u32,
    ingress_port: u16,
    /// Where in `Worker::out` the frame is that leaves.
    sent: Range<usize>,
}

impl Done {
    /// What a packet has come to of which nothing leaves.
    #[inline]
    fn without_frame(pkt: &Packet<'_>) -> Self {
        Self {
            verdict: pkt.verdict,
            flags: pkt.flags,
            port: pkt.port,
            passes: pkt.passes,
            ingress_port: pkt.ingress_port,
            sent: 0..0,
        }
    }
}

impl Worker {
    /// Runs one packet from an instruction on. What leaves is in `self.out`.
    #[inline]
    fn run(&mut self, dp: &Dataplane, side: &Side, pkt: Packet<'_>, start: u32) -> Done {
        let p = self.program.as_ref();
        // SAFETY: as in `Batch::process`.
        let s = unsafe { Slots::new(&mut self.slots) };
        let mut m = machine::Machine {
            p,
            dp,
            side,
            s,
            pkt,
            scratch: &mut self.scratch,
            trace: &mut self.trace,
            work: &mut self.work,
            turn: None,
        };
        m.run(start);
        let pkt = m.pkt;
        let len = if pkt.verdict == Verdict::Sent { deparse(p, s, &pkt, &mut self.out) } else { 0 };
        Done { sent: 0..len, ..Done::without_frame(&pkt) }
    }

    /// Counts what became of a packet, and hands out what leaves.
    #[inline]
    fn settle(&mut self, done: &Done, out: &mut impl FnMut(u16, &[u8])) {
        match done.verdict {
            Verdict::Sent if done.flags & RECIRCULATE != 0 => {}
            Verdict::Sent if done.sent.len() <= MAX_FRAME => {
                self.stats.sent += 1;
                out(done.port, &self.out[done.sent.clone()]);
            }
            Verdict::Sent => self.stats.oversize += 1,
            Verdict::Dropped => self.stats.dropped += 1,
            Verdict::NoGroup => self.stats.no_group += 1,
            Verdict::NoQueue => self.stats.no_queue += 1,
            Verdict::AssertFailed => self.stats.assert_failed += 1,
            Verdict::Deferred => {}
        }
    }
}

impl<'a> Packet<'a> {
    /// A packet before the parser.
    fn new(frame: &'a [u8], ingress_port: u16, now_us: u64) -> Self {
        Self {
            frame,
            parsed: 0,
            truncate: usize::MAX,
            length: frame.len() as u64,
            now_us,
            egress_stamped: false,
            flags: 0,
            states: 0,
            passes: 0,
            verdict: Verdict::Dropped,
            port: 0,
            ingress_port,
        }
    }
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
