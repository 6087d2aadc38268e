//! Running what goes on later: see [`copies`](super::copies) for what makes packets do so.

use super::super::layout::Field;
use super::super::queue::Dequeued;
use super::super::queues::Parked;
use super::super::tables::{Dataplane, Side};
use super::copies::{Later, Start};
use super::slots::Slots;
use super::{Batch, Done, MAX_COPIES, MAX_PASSES, Packet, RECIRCULATE, TRACED, Verdict, Worker};
use std::sync::Arc;

/// How a packet has waited in an egress queue.
pub(super) struct Waited {
    pub priority: u8,
    pub since_us: u64,
    enq_depth: usize,
    deq_depth: usize,
}

impl Batch<'_, '_> {
    /// Works off what a packet has led to.
    #[inline(never)]
    pub(super) fn rest(&mut self, first: &Done, now_us: u64, out: &mut impl FnMut(u16, &[u8])) {
        if self.flags & TRACED != 0 {
            self.worker.trace_done(first);
        }
        self.worker.leave_behind(first);
        self.work_off(now_us, out);
    }

    fn work_off(&mut self, now_us: u64, out: &mut impl FnMut(u16, &[u8])) {
        let before = self.worker.work.cut_off;
        while let Some(later) = self.worker.work.queue.pop_front() {
            let traced = self.flags & TRACED != 0;
            if traced {
                self.worker.trace_later(&later);
            }
            if let Some(later) = self.worker.park(later, now_us, traced) {
                self.go_on(later, now_us, None, out);
            }
        }
        let work = &mut self.worker.work;
        work.made = 0;
        if before == 0 && work.cut_off > 0 {
            tracing::warn!(
                "a packet was dropped: it was cloned, resubmitted or recirculated {MAX_PASSES} times, or became \
                 {MAX_COPIES} packets; further ones are counted only"
            );
        }
    }

    /// Runs a packet on from where it was.
    fn go_on(&mut self, later: Later, now_us: u64, waited: Option<Waited>, out: &mut impl FnMut(u16, &[u8])) {
        let Later { start, frame, ingress_port, parsed, truncate, length, passes } = later;
        let w = &mut *self.worker;
        w.work.frame = Some(Arc::clone(&frame));
        let arrived = Packet::new(&frame, ingress_port, now_us);
        let pkt = Packet { parsed, truncate, length, passes, flags: self.flags, ..arrived };
        let done = w.resume(self.dp, &self.side, pkt, start, waited);
        if self.flags & TRACED != 0 {
            w.trace_done(&done);
        }
        w.leave_behind(&done);
        w.settle(&done, out);
    }

    /// Runs packets whose turn in an egress queue has come at `now_ns` (nanoseconds of the clock that packets come by), and
    /// hands what leaves to `out`, and to `told` what is told of each that is traced. Only one worker may do this: see
    /// [`EgressQueues`](super::super::EgressQueues), which also says when it is to be called again.
    pub fn serve_queues(&mut self, now_ns: u64, out: &mut impl FnMut(u16, &[u8]), told: &mut impl FnMut(String)) {
        let Some(queues) = self.worker.work.queues.clone() else { return };
        let now_us = now_ns / 1000;
        queues.serve(now_ns, &mut |port, dequeued| {
            let Dequeued { item: Parked { program, later, traced }, priority, since, enq_depth, deq_depth } = dequeued;
            // Another program has other slots.
            if !Arc::ptr_eq(&program, &self.worker.program) {
                self.worker.stats.queue_dropped += 1;
                return 0;
            }
            let waited = Waited { priority, since_us: since / 1000, enq_depth, deq_depth };
            if traced {
                self.trace_waited(port, &later, &waited, now_us);
                self.flags |= TRACED;
            }
            let mut bytes = 0;
            self.go_on(later, now_us, Some(waited), &mut |egress, frame: &[u8]| {
                bytes += if egress == port { frame.len() as u64 } else { 0 };
                out(egress, frame);
            });
            self.work_off(now_us, out);
            if traced {
                self.flags &= !TRACED;
                told(self.worker.trace.end());
            }
            bytes
        });
    }
}

impl Worker {
    /// Lets go of what a run has kept, and starts again what recirculates.
    fn leave_behind(&mut self, done: &Done) {
        self.work.frame = None;
        if let Some(kept) = self.work.kept.take()
            && done.flags & RECIRCULATE != 0
            && done.verdict == Verdict::Sent
        {
            self.work.recirculate(&self.out[done.sent.clone()], done.ingress_port, kept, done.passes);
        }
    }

    /// Lets a packet wait if it enters egress of a port that has queues; gives it back otherwise.
    fn park(&mut self, later: Later, now_us: u64, traced: bool) -> Option<Later> {
        let (Some(queues), Start::Egress { port, class, slots, .. }) = (&self.work.queues, &later.start) else {
            return Some(later);
        };
        let (port, class) = (*port, u64::from(*class));
        if !queues.has(port) {
            return Some(later);
        }
        let asked = self.program.std.priority.and_then(|f| slots.get(usize::from(f.slot))).map_or(0, |v| *v);
        let priorities = u64::from(self.program.target.priority_queues);
        if class == 0 && asked >= priorities {
            return Some(later);
        }
        // A class of service beyond the highest priority is in that one's queue.
        let priority = if class == 0 { asked } else { class.min(priorities.saturating_sub(1)) };
        let parked = Parked { program: Arc::clone(&self.program), later, traced };
        // Below `priorities`, which a `u8` counts.
        let taken = queues.push(port, priority as u8, parked, now_us * 1000);
        if taken {
            self.stats.queued += 1;
        } else {
            self.stats.queue_dropped += 1;
        }
        if traced {
            self.trace_parked(port, priority, taken);
        }
        None
    }

    /// Sets up the slots of a packet that goes on, and runs it.
    fn resume(
        &mut self,
        dp: &Dataplane,
        side: &Side,
        mut pkt: Packet<'_>,
        start: Start,
        waited: Option<Waited>,
    ) -> Done {
        let p = Arc::clone(&self.program);
        match &start {
            Start::Egress { slots, .. } => self.slots.copy_from_slice(slots),
            Start::Again { .. } | Start::Copy { .. } => self.slots[..p.field_slots].fill(0),
        }
        // SAFETY: as in `Batch::process`.
        let s = unsafe { Slots::new(&mut self.slots) };
        let at = match start {
            Start::Again { instance, kept } => {
                self.stats.again += 1;
                s.set_field(p.std.packet_length, pkt.frame.len() as u64);
                let fields = p.field_lists.get(kept.list).map_or(&[][..], Vec::as_slice);
                fields.iter().flat_map(Field::slots).zip(&kept.words).for_each(|(f, v)| s.set(f, *v));
                s.set_field(p.std.instance_type, instance);
                p.restart
            }
            Start::Copy { session, kept } => {
                // As in BMv2, the parser knows nothing else of it.
                s.set_field(p.std.ingress_port, u64::from(pkt.ingress_port));
                if let Some(cloned) = p.asked.cloned {
                    s.set(cloned, 1);
                }
                self.work.cloning = Some((session, kept));
                p.reparse
            }
            Start::Egress { at, port, rid, class, .. } => {
                let std = &p.std;
                if class != 0 {
                    s.set_field(std.priority, u64::from(class));
                } else if s.field(std.priority) >= u64::from(p.target.priority_queues) {
                    pkt.verdict = Verdict::NoQueue;
                    return Done::without_frame(&pkt);
                }
                if let Some(rid) = rid {
                    s.set_field(std.egress_rid, u64::from(rid));
                }
                pkt.port = port;
                s.set_field(std.egress_port, u64::from(port));
                // BMv2 sets the drop port + 1, which wraps to 0 in nine bits.
                s.set_field(std.egress_spec, u64::from(p.target.drop_port) + 1);
                s.set_field(std.packet_length, pkt.length);
                let waited = waited.unwrap_or(Waited {
                    // Below the number of priorities, as was seen above, or a class of service.
                    priority: (s.field(std.priority) as u8).min(p.target.priority_queues.saturating_sub(1)),
                    since_us: pkt.now_us,
                    enq_depth: 0,
                    deq_depth: 0,
                });
                s.set_field(std.enq_timestamp, waited.since_us);
                s.set_field(std.enq_qdepth, waited.enq_depth as u64);
                s.set_field(std.deq_timedelta, pkt.now_us.saturating_sub(waited.since_us));
                s.set_field(std.deq_qdepth, waited.deq_depth as u64);
                s.set_field(std.qid, u64::from(waited.priority));
                s.set(p.exit_slot, 0);
                at
            }
        };
        self.run(dp, side, pkt, at)
    }
}
