//! The egress queues of one port, as BMv2's queueing logic has them: a pure state machine that is given the time.
//!
//! ```text
//!             priority 2 ─▶ [ … depth ] ─ rate ─┐
//!   push ──▶  priority 1 ─▶ [ … depth ] ─ rate ─┼─▶ pop: the highest priority whose packet is due ─▶ link
//!             priority 0 ─▶ [ … depth ] ─ rate ─┘
//! ```
//! Each priority is a queue of its own, with the port's depth and rate for itself. When a packet comes, it is decided when
//! it may go: at once, or one packet's time after the one before. A link behind them, which BMv2 does not have, takes one packet
//! after the other, at its rate: so the lower priorities get what the higher ones leave. Time is in nanoseconds on whatever clock the caller has.

use std::collections::VecDeque;

/// Packets that may wait in one queue if nothing else is said, as in BMv2.
pub const DEFAULT_QUEUE_DEPTH: usize = 64;
/// The deepest queue; what waits is kept in memory, headers and frame.
pub const MAX_QUEUE_DEPTH: usize = 16_384;
/// The highest rate: above it, a packet's time is less than a nanosecond.
pub const MAX_QUEUE_RATE: u64 = NANOSECONDS;

const NANOSECONDS: u64 = 1_000_000_000;

/// How the packets for one port wait before egress. Each priority has these limits for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueConfig {
    /// Packets a second; `None` for as fast as they come.
    pub packets_per_second: Option<u64>,
    /// Bits a second of the link behind the queues, which all priorities share, over whole frames as they leave; `None` for
    /// as fast as they come.
    pub link_bits_per_second: Option<u64>,
    /// Packets that may wait; more are dropped. At most [`MAX_QUEUE_DEPTH`].
    pub depth: usize,
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self { packets_per_second: None, link_bits_per_second: None, depth: DEFAULT_QUEUE_DEPTH }
    }
}

/// What one priority's queue holds, and what it has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueStatistics {
    /// Packets that wait now.
    pub depth: usize,
    /// Packets that were taken in.
    pub queued: u64,
    /// Packets that found it full.
    pub dropped: u64,
}

#[derive(Debug)]
struct Waiting<T> {
    item: T,
    since: u64,
    depth: usize,
    due: u64,
}

#[derive(Debug)]
struct Class<T> {
    waiting: VecDeque<Waiting<T>>,
    /// When the next packet may go at the earliest.
    free: u64,
    queued: u64,
    dropped: u64,
}

/// A packet whose turn has come.
#[derive(Debug, PartialEq, Eq)]
pub struct Dequeued<T> {
    /// What was queued.
    pub item: T,
    /// The queue that it was in.
    pub priority: u8,
    /// When it came.
    pub since: u64,
    /// Packets that were in its queue when it came.
    pub enq_depth: usize,
    /// Packets that are left in its queue.
    pub deq_depth: usize,
}

/// The queues of one port.
#[derive(Debug)]
pub struct PortQueues<T> {
    config: QueueConfig,
    classes: Vec<Class<T>>,
    /// When the link has sent what it was given.
    link_free: u64,
}

impl<T> PortQueues<T> {
    /// Empty queues, one for each priority from 0, the lowest, up.
    #[must_use]
    pub fn new(config: QueueConfig, priorities: u8) -> Self {
        let class = |_| Class { waiting: VecDeque::new(), free: 0, queued: 0, dropped: 0 };
        let mut queues = Self { config, classes: (0..priorities.max(1)).map(class).collect(), link_free: 0 };
        queues.configure(config);
        queues
    }

    /// Changes depth and rate for what comes from now on. What waits goes when it would have gone.
    pub fn configure(&mut self, config: QueueConfig) {
        self.config = QueueConfig { depth: config.depth.min(MAX_QUEUE_DEPTH), ..config };
    }

    /// Takes a packet in. One of a priority that there is not is in the highest queue. False if the queue was full, and
    /// the packet is dropped.
    pub fn push(&mut self, item: T, priority: u8, now: u64) -> bool {
        let idle = self.classes.iter().all(|c| c.waiting.is_empty());
        let ix = usize::from(priority).min(self.classes.len() - 1);
        let class = &mut self.classes[ix];
        let depth = class.waiting.len();
        if depth >= self.config.depth {
            class.dropped += 1;
            return false;
        }
        class.queued += 1;
        // A link that is busy is never late; one that was idle has not saved that up.
        self.link_free = if idle { self.link_free.max(now) } else { self.link_free };
        let due = class.free.max(now);
        class.free = due.saturating_add(self.config.packets_per_second.map_or(0, |rate| NANOSECONDS / rate.max(1)));
        class.waiting.push_back(Waiting { item, since: now, depth, due });
        true
    }

    /// The packet whose turn it is: of those that are due, one of the highest priority.
    pub fn pop(&mut self, now: u64) -> Option<Dequeued<T>> {
        if self.config.link_bits_per_second.is_some() && self.link_free > now {
            return None;
        }
        let due = |c: &Class<T>| c.waiting.front().is_some_and(|w| w.due <= now);
        let (priority, class) = self.classes.iter_mut().enumerate().rev().find(|(_, c)| due(c))?;
        let Waiting { item, since, depth, .. } = class.waiting.pop_front()?;
        // There are no more of them than a `u8` counts.
        Some(Dequeued { item, priority: priority as u8, since, enq_depth: depth, deq_depth: class.waiting.len() })
    }

    /// The link sends so many bytes: what the last packet has become.
    pub fn sent(&mut self, bytes: u64) {
        if let Some(rate) = self.config.link_bits_per_second {
            let time = u128::from(bytes) * 8 * u128::from(NANOSECONDS) / u128::from(rate.max(1));
            self.link_free = self.link_free.saturating_add(u64::try_from(time).unwrap_or(u64::MAX));
        }
    }

    /// When the next packet's turn comes.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        let due = self.classes.iter().filter_map(|c| c.waiting.front()).map(|w| w.due).min()?;
        Some(if self.config.link_bits_per_second.is_some() { due.max(self.link_free) } else { due })
    }

    /// Each priority's statistics, the lowest first.
    #[must_use]
    pub fn statistics(&self) -> Vec<QueueStatistics> {
        let of = |c: &Class<T>| QueueStatistics { depth: c.waiting.len(), queued: c.queued, dropped: c.dropped };
        self.classes.iter().map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn queues(rate: u64, depth: usize) -> PortQueues<u32> {
        PortQueues::new(QueueConfig { packets_per_second: Some(rate), depth, ..QueueConfig::default() }, 3)
    }

    fn items(q: &mut PortQueues<u32>, now: u64) -> Vec<u32> {
        std::iter::from_fn(|| q.pop(now).map(|d| d.item)).collect()
    }

    #[test]
    fn packets_go_at_the_rate_and_time_that_was_not_used_is_lost() {
        let mut q = queues(1000, 10);
        (0..3).for_each(|i| assert!(q.push(i, 0, 5)));
        assert_eq!((items(&mut q, 5), q.deadline()), (vec![0], Some(MS + 5)));
        assert!(items(&mut q, MS + 4).is_empty());
        assert_eq!(items(&mut q, MS + 5), [1]);
        assert_eq!((items(&mut q, 9 * MS), q.deadline()), (vec![2], None));
        assert!(q.push(3, 0, 9 * MS) && q.push(4, 0, 9 * MS));
        assert_eq!((items(&mut q, 9 * MS), q.deadline()), (vec![3], Some(10 * MS)));
    }

    #[test]
    fn a_full_queue_drops_what_comes_and_the_others_have_room_of_their_own() {
        let mut q = queues(1, 2);
        assert_eq!([0, 1, 2].map(|i| q.push(i, 1, 0)), [true, true, false]);
        assert!(q.push(9, 0, 0));
        let of = |depth, queued, dropped| QueueStatistics { depth, queued, dropped };
        assert_eq!(q.statistics(), [of(1, 1, 0), of(2, 2, 1), of(0, 0, 0)]);
        assert_eq!(items(&mut q, 0), [0, 9]);
        assert_eq!(q.statistics(), [of(0, 1, 0), of(1, 2, 1), of(0, 0, 0)]);
    }

    #[test]
    fn of_those_that_are_due_the_highest_priority_goes_first() {
        let mut q = queues(1000, 10);
        for (i, priority) in [(0, 0), (1, 0), (2, 2), (3, 1), (4, 2)] {
            assert!(q.push(i, priority, 0));
        }
        // One of each priority is due at once: each has the rate for itself.
        assert_eq!(items(&mut q, 0), [2, 3, 0]);
        assert_eq!(items(&mut q, MS), [4, 1]);
    }

    #[test]
    fn a_priority_beyond_the_highest_is_the_highest() {
        let mut q = queues(1, 10);
        assert!(q.push(0, 7, 0));
        assert_eq!(q.pop(0).map(|d| d.priority), Some(2));
    }

    #[test]
    fn a_packet_knows_how_long_the_queue_was() {
        let mut q = queues(1000, 10);
        (0..3).for_each(|i| assert!(q.push(i, 2, 7)));
        let dequeued = |item, enq_depth, deq_depth| Dequeued { item, priority: 2, since: 7, enq_depth, deq_depth };
        assert_eq!(q.pop(u64::MAX), Some(dequeued(0, 0, 2)));
        assert_eq!(q.pop(u64::MAX), Some(dequeued(1, 1, 1)));
        assert_eq!(q.pop(u64::MAX), Some(dequeued(2, 2, 0)));
    }

    #[test]
    fn a_link_takes_the_highest_priority_each_time_it_is_free() {
        // A byte a microsecond.
        let config = QueueConfig { link_bits_per_second: Some(8_000_000), depth: 2, ..QueueConfig::default() };
        let mut q = PortQueues::new(config, 3);
        let start = 5 * MS;
        for (i, priority) in [(0, 0), (1, 0), (2, 2)] {
            assert!(q.push(i, priority, start));
        }
        let next = |q: &mut PortQueues<u32>, now, bytes| {
            let item = q.pop(now).map(|d| d.item);
            item.inspect(|_| q.sent(bytes))
        };
        assert_eq!(next(&mut q, start, 1000), Some(2));
        assert_eq!((next(&mut q, start, 0), q.deadline()), (None, Some(start + MS)));
        // What comes while it sends goes before what waits, if its priority is higher.
        assert!(q.push(3, 1, start + MS / 2));
        assert_eq!(next(&mut q, start + MS, 1000), Some(3));
        // Whoever asks late loses nothing: the link was never idle.
        assert_eq!(next(&mut q, start + 4 * MS, 1000), Some(0));
        assert_eq!(next(&mut q, start + 4 * MS, 1000), Some(1));
        assert_eq!(q.deadline(), None);
        // Now it was: time that was not used is lost, and the packet is due when it comes.
        assert!(q.push(4, 0, start + 9 * MS) && q.push(5, 0, start + 9 * MS));
        assert_eq!(next(&mut q, start + 9 * MS, 1000), Some(4));
        assert_eq!((next(&mut q, start + 9 * MS, 0), q.deadline()), (None, Some(start + 10 * MS)));
    }

    #[test]
    fn a_lifted_limit_lets_nobody_overtake_what_waits() {
        let mut q = queues(1, 10);
        (0..3).for_each(|i| assert!(q.push(i, 0, 0)));
        q.configure(QueueConfig::default());
        assert!(q.push(3, 0, 0));
        assert_eq!(items(&mut q, 2000 * MS), [0, 1, 2]);
        // Its turn comes when that of one more packet would have come at the old rate; from then on nobody waits.
        assert_eq!(q.deadline(), Some(3000 * MS));
        assert!(q.push(4, 0, 3000 * MS));
        assert_eq!((items(&mut q, 3000 * MS), q.deadline()), (vec![3, 4], None));
    }
}
