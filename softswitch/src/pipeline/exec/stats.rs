//! What a worker counts.

use std::ops::AddAssign;

/// What a worker did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WorkerStats {
    /// Frames taken in.
    pub received: u64,
    /// Frames handed out.
    pub sent: u64,
    /// Frames that the program dropped (`egress_spec` is the drop port).
    pub dropped: u64,
    /// Frames for a multicast group that has no replicas, or is not there.
    pub no_group: u64,
    /// Frames and copies with a `priority` that no egress queue has.
    pub no_queue: u64,
    /// Frames and copies that waited in an egress queue.
    pub queued: u64,
    /// Frames and copies that found an egress queue full, or waited in one when the program was replaced.
    pub queue_dropped: u64,
    /// Clones asked for of a session that has no replicas, or is not there.
    pub no_session: u64,
    /// Copies made by multicast groups and clone sessions.
    pub copies: u64,
    /// Packets that started again at the parser (resubmit and recirculate).
    pub again: u64,
    /// Packets dropped because of [`MAX_PASSES`] or [`MAX_COPIES`].
    pub cut_off: u64,
    /// Frames longer than [`MAX_FRAME`], in or out.
    pub oversize: u64,
    /// Frames dropped because an `assert` or `assume` failed (BMv2 would abort).
    pub assert_failed: u64,
}

impl WorkerStats {
    /// The packets that were dropped, by reason.
    #[must_use]
    pub fn drops(&self) -> [(&'static str, u64); 7] {
        [
            ("by the program", self.dropped),
            ("multicast group without replicas", self.no_group),
            ("no queue for its priority", self.no_queue),
            ("egress queue full", self.queue_dropped),
            ("cloned or started again too often", self.cut_off),
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
        self.no_queue += other.no_queue;
        self.queued += other.queued;
        self.queue_dropped += other.queue_dropped;
        self.oversize += other.oversize;
        self.assert_failed += other.assert_failed;
        self.no_session += other.no_session;
        self.copies += other.copies;
        self.again += other.again;
        self.cut_off += other.cut_off;
    }
}
