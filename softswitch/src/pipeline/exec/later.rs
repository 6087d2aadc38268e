//! Running what goes on later: see [`copies`](super::copies) for what makes packets do so.

use super::super::layout::Field;
use super::super::tables::{Dataplane, Side};
use super::copies::{Later, Start};
use super::slots::Slots;
use super::{Batch, Done, MAX_COPIES, MAX_PASSES, Packet, RECIRCULATE, Verdict, Worker};
use std::sync::Arc;

impl Batch<'_, '_> {
    /// Works off what a packet has led to.
    #[inline(never)]
    pub(super) fn rest(&mut self, first: &Done, now_us: u64, out: &mut impl FnMut(u16, &[u8])) {
        let before = self.worker.work.cut_off;
        self.worker.leave_behind(first);
        while let Some(later) = self.worker.work.queue.pop_front() {
            let Later { start, frame, ingress_port, parsed, truncate, length, passes } = later;
            let w = &mut *self.worker;
            w.work.frame = Some(Arc::clone(&frame));
            let pkt = Packet { parsed, truncate, length, passes, ..Packet::new(&frame, ingress_port, now_us) };
            let done = w.resume(self.dp, &self.side, pkt, start);
            w.leave_behind(&done);
            w.settle(&done, out);
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

    /// Sets up the slots of a packet that goes on, and runs it.
    fn resume(&mut self, dp: &Dataplane, side: &Side, mut pkt: Packet<'_>, start: Start) -> Done {
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
                s.set_field(std.enq_timestamp, pkt.now_us);
                s.set_field(std.qid, s.field(std.priority));
                for f in [std.enq_qdepth, std.deq_timedelta, std.deq_qdepth] {
                    s.set_field(f, 0);
                }
                s.set(p.exit_slot, 0);
                at
            }
        };
        self.run(dp, side, pkt, at)
    }
}
