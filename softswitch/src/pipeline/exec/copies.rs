//! Packets that go on later: copies, and those that start again.
//!
//! ```text
//!            CloneIngress ─▶ Start::Copy ─▶ parser ─▶ Cloned ─┐
//!  packet ─▶ Resubmit, Recirculate ─▶ Start::Again ─▶ parser … │
//!            Multicast, CloneEgress, ToEgress ─▶ Start::Egress ◀┘ ─▶ (egress queue) ─▶ egress …
//! ```
//! They are worked off in order, right after the packet that they came from; so on one port, frames leave in the order
//! in which BMv2 queues them.

use super::super::compile::copies::instance;
use super::super::layout::{Field, Slot};
use super::super::queues::EgressQueues;
use super::super::replication::{CloneSession, MAX_SESSION, Replica};
use super::machine::Machine;
use super::{ASSERT_FAILED, DEFERRED, KEPT, Kept, MAX_COPIES, MAX_PASSES, QUEUES, RECIRCULATE, Verdict};
use std::collections::VecDeque;
use std::sync::Arc;

/// Where and how a packet goes on.
pub(crate) enum Start {
    /// At the parser, as what it was; the fields of a list are kept.
    Again { instance: u64, kept: Kept },
    /// At the parser, as a copy for a clone session.
    Copy { session: Arc<CloneSession>, kept: Kept },
    /// In egress, at an instruction, with all slots. A class other than 0 is its priority.
    Egress { at: u32, slots: Arc<[u64]>, port: u16, rid: Option<u16>, class: u16 },
}

/// A packet that goes on later.
pub(crate) struct Later {
    pub start: Start,
    pub frame: Arc<[u8]>,
    /// Where the frame arrived, whatever the program makes of the field.
    pub ingress_port: u16,
    pub parsed: usize,
    pub truncate: usize,
    pub length: u64,
    /// How often it was cloned or started again.
    pub passes: u32,
}

/// What one frame has led to and is not done yet.
#[derive(Default)]
pub(crate) struct Work {
    pub queue: VecDeque<Later>,
    /// Copies since the frame arrived.
    pub made: usize,
    /// The frame of the packet that runs, once something else needs it, too.
    pub frame: Option<Arc<[u8]>>,
    /// What the copy that is parsed again is for.
    pub cloning: Option<(Arc<CloneSession>, Kept)>,
    /// What a packet that recirculates keeps.
    pub kept: Option<Kept>,
    /// See [`WorkerStats`](super::WorkerStats).
    pub cut_off: u64,
    pub no_session: u64,
    pub copies: u64,
    /// Where packets wait for ports that have queues.
    pub queues: Option<Arc<EgressQueues>>,
}

impl Work {
    /// Adds a packet, unless there were too many of this frame.
    fn push(&mut self, later: Later) {
        if self.may(later.passes) {
            self.queue.push_back(later);
        }
    }

    /// Starts a deparsed frame again.
    pub fn recirculate(&mut self, frame: &[u8], ingress_port: u16, kept: Kept, passes: u32) {
        let start = Start::Again { instance: instance::RECIRCULATED, kept };
        let (length, passes) = (frame.len() as u64, passes + 1);
        self.push(Later {
            start,
            frame: Arc::from(frame),
            ingress_port,
            parsed: 0,
            truncate: usize::MAX,
            length,
            passes,
        });
    }

    /// Whether one more may be made.
    fn may(&mut self, passes: u32) -> bool {
        self.made += 1;
        let may = passes <= MAX_PASSES && self.made <= MAX_COPIES;
        self.cut_off += u64::from(!may);
        may
    }
}

impl Machine<'_, '_> {
    /// The frame, for longer than this run.
    fn frame(&mut self) -> Arc<[u8]> {
        self.pkt.flags |= KEPT;
        let frame = self.pkt.frame;
        Arc::clone(self.work.frame.get_or_insert_with(|| Arc::from(frame)))
    }

    /// The values of a field list.
    fn keep(&self, list: usize) -> Kept {
        let fields = self.p.field_lists.get(list).map_or(&[][..], Vec::as_slice);
        Kept { list, words: fields.iter().flat_map(Field::slots).map(|s| self.s.get(s)).collect() }
    }

    /// The session that the slot asks for, and what its copies keep.
    fn session(&mut self) -> Option<(Arc<CloneSession>, Kept)> {
        let asked = self.p.asked.clone.map_or(0, |s| self.s.get(s));
        let session = self.dp.replication().session(asked as u16 & MAX_SESSION);
        let Some(session) = session.filter(|s| !s.replicas.is_empty()) else {
            self.work.no_session += 1;
            self.trace.line("not cloned: the session has no replicas, or is not there");
            return None;
        };
        Some((session, self.keep((asked >> 16) as usize)))
    }

    /// The packet will be parked at `ToEgress`, so that copies asked for before leave before it.
    pub(super) fn clone_ingress(&mut self) {
        if self.pkt.flags & ASSERT_FAILED != 0 {
            return;
        }
        let Some((session, kept)) = self.session() else { return };
        self.again(Start::Copy { session, kept });
        self.pkt.flags |= DEFERRED;
    }

    /// The frame as it came takes another way.
    fn again(&mut self, start: Start) {
        let (frame, ingress_port, passes) = (self.frame(), self.pkt.ingress_port, self.pkt.passes + 1);
        let length = self.pkt.frame.len() as u64;
        self.work.push(Later { start, frame, ingress_port, parsed: 0, truncate: usize::MAX, length, passes });
    }

    pub(super) fn resubmit(&mut self) {
        if self.assert_failed() {
            return;
        }
        let list = self.p.asked.resubmit.map_or(0, |s| self.s.get(s));
        let start = Start::Again { instance: instance::RESUBMITTED, kept: self.keep((list as usize).wrapping_sub(1)) };
        self.again(start);
        self.pkt.verdict = Verdict::Deferred;
    }

    pub(super) fn recirculate(&mut self) {
        let list = self.p.asked.recirculate.map_or(0, |s| self.s.get(s));
        self.work.kept = Some(self.keep((list as usize).wrapping_sub(1)));
        // BMv2 recirculates the whole frame, whatever it was truncated to.
        self.pkt.truncate = usize::MAX;
        self.pkt.flags |= RECIRCULATE;
    }

    pub(super) fn multicast(&mut self, at: u32) {
        if self.assert_failed() {
            return;
        }
        let group = self.dp.replication().group(self.s.field(self.p.std.mcast_grp) as u16);
        let Some(group) = group.filter(|g| !g.is_empty()) else {
            self.pkt.verdict = Verdict::NoGroup;
            return;
        };
        let mut slots = self.s.all().to_vec();
        self.p.asked.slots().for_each(|s| slots[usize::from(s)] = 0);
        // What the copies are truncated to is forgotten, as in BMv2.
        let copies = self.copies(at, Arc::from(slots), &group, 0, usize::MAX, self.pkt.passes);
        self.work.queue.extend(copies);
        self.pkt.verdict = Verdict::Deferred;
    }

    /// What has been parsed for a clone session becomes its copies.
    pub(super) fn cloned(&mut self, at: u32) {
        let Some((session, kept)) = self.work.cloning.take() else { return };
        let copies = self.clones(at, &session, &kept, instance::INGRESS_CLONE, self.pkt.passes);
        // Before the packet that they are copies of, which waits already.
        copies.into_iter().rev().for_each(|c| self.work.queue.push_front(c));
        self.pkt.verdict = Verdict::Deferred;
    }

    pub(super) fn clone_egress(&mut self, at: u32) {
        if self.pkt.flags & ASSERT_FAILED != 0 {
            return;
        }
        let Some((session, kept)) = self.session() else { return };
        let copies = self.clones(at, &session, &kept, instance::EGRESS_CLONE, self.pkt.passes + 1);
        self.work.queue.extend(copies);
    }

    /// Copies whose metadata is 0 but for the instance type and what is kept.
    fn clones(&mut self, at: u32, session: &CloneSession, kept: &Kept, instance: u64, passes: u32) -> Vec<Later> {
        let p = self.p;
        let mut slots = self.s.all().to_vec();
        let mut set = |slot: Slot, v: u64| slots[usize::from(slot)] = v;
        let metadata = p.headers.iter().filter(|h| h.metadata).flat_map(|h| &h.fields);
        metadata.flat_map(Field::slots).for_each(|s| set(s, 0));
        let fields = p.field_lists.get(kept.list).map_or(&[][..], Vec::as_slice);
        fields.iter().flat_map(Field::slots).zip(&kept.words).for_each(|(s, v)| set(s, *v));
        if let Some(f) = &p.std.instance_type {
            set(f.slot, instance);
        }
        p.asked.slots().for_each(|s| slots[usize::from(s)] = 0);
        let max = session.max_bytes.unwrap_or(usize::MAX);
        self.copies(at, Arc::from(slots), &session.replicas, session.class_of_service, max, passes)
    }

    fn copies(
        &mut self,
        at: u32,
        slots: Arc<[u64]>,
        replicas: &[Replica],
        class: u16,
        truncate: usize,
        passes: u32,
    ) -> Vec<Later> {
        let frame = self.frame();
        let (ingress_port, parsed, length) = (self.pkt.ingress_port, self.pkt.parsed, self.pkt.length);
        let work = &mut *self.work;
        let made: Vec<Later> = replicas
            .iter()
            .filter(|_| work.may(passes))
            .map(|r| Later {
                start: Start::Egress { at, slots: Arc::clone(&slots), port: r.port, rid: Some(r.instance), class },
                frame: Arc::clone(&frame),
                ingress_port,
                parsed,
                truncate,
                length,
                passes,
            })
            .collect();
        work.copies += made.len() as u64;
        made
    }

    fn assert_failed(&mut self) -> bool {
        let failed = self.pkt.flags & ASSERT_FAILED != 0;
        if failed {
            self.pkt.verdict = Verdict::AssertFailed;
        }
        failed
    }

    /// In place of `ToEgress`.
    pub(super) fn no_queue(&mut self) {
        let dropped = self.s.field(self.p.std.egress_spec) == u64::from(self.p.target.drop_port);
        if !self.assert_failed() && !dropped {
            self.pkt.verdict = Verdict::NoQueue;
        }
    }

    /// `ToEgress` of a packet that has flags: true if it goes on at once.
    #[inline(never)]
    pub(super) fn enter_egress_aside(&mut self, at: u32) -> bool {
        if self.assert_failed() {
            return false;
        }
        let port = self.s.field(self.p.std.egress_spec);
        if port == u64::from(self.p.target.drop_port) {
            return false;
        }
        let waits = || self.work.queues.as_ref().is_some_and(|q| q.has(port as u16));
        if self.pkt.flags & DEFERRED == 0 && !(self.pkt.flags & QUEUES != 0 && waits()) {
            self.start_egress(port);
            return true;
        }
        let slots = Arc::from(self.s.all());
        let start = Start::Egress { at, slots, port: port as u16, rid: None, class: 0 };
        let (frame, parsed, length) = (self.frame(), self.pkt.parsed, self.pkt.length);
        let (ingress_port, truncate, passes) = (self.pkt.ingress_port, self.pkt.truncate, self.pkt.passes);
        // It is no copy: there is one of it, as there was.
        self.work.queue.push_back(Later { start, frame, ingress_port, parsed, truncate, length, passes });
        self.pkt.verdict = Verdict::Deferred;
        false
    }
}
