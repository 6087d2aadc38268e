//! Digests (P4Runtime 1.4 §9.8): samples that packets leave behind, collected into lists for a controller.
//!
//! ```text
//!  packet ─▶ sample ─(seen and not acknowledged: dropped)─▶ open list ─(full, or waited long enough)─▶ ready
//!                                                                                                       │
//!            acknowledged, or ack_timeout over: forgotten ◀── sent lists ◀───── the controller's stream ◀┘
//! ```
//! [`Digest`] decides, given the time; [`Digests`] shares it between packet threads and the control plane. Times are
//! nanoseconds of the switch's clock.

use super::program::Program;
use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The longest list, whatever the controller allows.
pub const MAX_LIST: usize = 1024;
/// Samples of one digest that wait for a list to fill or for an acknowledgement; further ones are dropped.
pub const MAX_SAMPLES: usize = 65_536;
/// Lists that wait to be sent; further ones are dropped.
pub const MAX_READY: usize = 256;

/// What a controller wants of a digest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DigestConfig {
    /// How long a sample may wait for others; with 0, it is sent at once.
    pub max_timeout_ns: u64,
    /// A list of so many is sent at once; 0: as many as the switch likes.
    pub max_list_size: usize,
    /// How long a sample is not sent again while its list is not acknowledged; with 0, it is always sent again.
    pub ack_timeout_ns: u64,
}

/// The members of one digest, each padded to whole bytes.
pub type Sample = Arc<[u8]>;

/// Samples for a controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DigestList {
    /// Index of the digest.
    pub digest: usize,
    /// Counts from 1 for each digest.
    pub id: u64,
    /// At least one.
    pub samples: Vec<Sample>,
}

/// A list that was sent.
#[derive(Debug)]
struct Sent {
    id: u64,
    at: u64,
    samples: Vec<Sample>,
}

/// One digest.
#[derive(Debug)]
pub struct Digest {
    index: usize,
    config: Option<DigestConfig>,
    open: Vec<Sample>,
    opened: u64,
    next_id: u64,
    sent: VecDeque<Sent>,
    /// What must not be sent again yet.
    seen: HashSet<Sample>,
    dropped: u64,
}

impl Digest {
    /// A digest that nobody wants yet.
    #[must_use]
    pub fn new(index: usize) -> Self {
        Self {
            index,
            config: None,
            open: Vec::new(),
            opened: 0,
            next_id: 1,
            sent: VecDeque::new(),
            seen: HashSet::new(),
            dropped: 0,
        }
    }

    /// What a controller wants of it, if any does.
    #[must_use]
    pub fn config(&self) -> Option<DigestConfig> {
        self.config
    }

    /// Changes what a controller wants. With `None`, everything is forgotten but the number of the next list.
    pub fn configure(&mut self, config: Option<DigestConfig>) {
        if config.is_none() {
            *self = Self { next_id: self.next_id, dropped: self.dropped, ..Self::new(self.index) };
        }
        self.config = config;
    }

    /// Takes a sample. Returns a list that is full with it.
    pub fn add(&mut self, sample: &[u8], now: u64) -> Option<DigestList> {
        let config = self.config?;
        self.expire(now);
        if self.seen.contains(sample) {
            return None;
        }
        if self.seen.len() >= MAX_SAMPLES {
            self.dropped += 1;
            return None;
        }
        let sample: Sample = Arc::from(sample);
        if config.ack_timeout_ns > 0 {
            self.seen.insert(Arc::clone(&sample));
        }
        if self.open.is_empty() {
            self.opened = now;
        }
        self.open.push(sample);
        self.poll(now)
    }

    /// A list whose time has come.
    pub fn poll(&mut self, now: u64) -> Option<DigestList> {
        self.expire(now);
        let config = self.config?;
        let full = if config.max_list_size == 0 { MAX_LIST } else { config.max_list_size.min(MAX_LIST) };
        let due = self.open.len() >= full || now >= self.opened.saturating_add(config.max_timeout_ns);
        if self.open.is_empty() || !due {
            return None;
        }
        let samples = std::mem::take(&mut self.open);
        let id = self.next_id;
        self.next_id += 1;
        if config.ack_timeout_ns > 0 {
            self.sent.push_back(Sent { id, at: now, samples: samples.clone() });
        }
        Some(DigestList { digest: self.index, id, samples })
    }

    /// When to poll next.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        let config = self.config?;
        let open = (!self.open.is_empty()).then(|| self.opened.saturating_add(config.max_timeout_ns));
        let sent = self.sent.front().map(|s| s.at.saturating_add(config.ack_timeout_ns));
        open.into_iter().chain(sent).min()
    }

    /// The samples of a list may be sent again: it was acknowledged, or could not be sent.
    pub fn forget(&mut self, id: u64) {
        if let Some(at) = self.sent.iter().position(|s| s.id == id)
            && let Some(sent) = self.sent.remove(at)
        {
            sent.samples.iter().for_each(|s| {
                self.seen.remove(s);
            });
        }
    }

    /// Forgets lists that are acknowledged no more. They are in the order in which they were sent.
    fn expire(&mut self, now: u64) {
        let Some(config) = self.config else { return };
        while let Some(front) = self.sent.front()
            && now >= front.at.saturating_add(config.ack_timeout_ns)
        {
            let id = front.id;
            self.forget(id);
        }
    }
}

/// No deadline.
const NEVER: u64 = u64::MAX;

/// The digests of a data plane.
pub struct Digests {
    names: Vec<String>,
    /// The digest of each learn list.
    of_list: Vec<usize>,
    all: Mutex<(Vec<Digest>, VecDeque<DigestList>)>,
    /// When there is something to do for [`Digests::take`].
    due: AtomicU64,
}

impl Digests {
    pub(crate) fn new(program: &Program) -> Self {
        let mut names: Vec<String> = Vec::new();
        let mut of_list = Vec::new();
        for list in &program.learn_lists {
            let known = names.iter().position(|n| *n == list.name);
            of_list.push(known.unwrap_or(names.len()));
            if known.is_none() {
                names.push(list.name.clone());
            }
        }
        let digests = (0..names.len()).map(Digest::new).collect();
        Self { names, of_list, all: Mutex::new((digests, VecDeque::new())), due: AtomicU64::new(NEVER) }
    }

    fn lock(&self) -> MutexGuard<'_, (Vec<Digest>, VecDeque<DigestList>)> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Index of the digest of this name.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|n| n == name)
    }

    /// Changes something, and looks at the deadlines again.
    fn change<T>(&self, change: impl FnOnce(&mut Vec<Digest>, &mut VecDeque<DigestList>) -> T) -> T {
        let mut all = self.lock();
        let (digests, ready) = &mut *all;
        let out = change(digests, ready);
        let deadline = digests.iter().filter_map(Digest::deadline).min().unwrap_or(NEVER);
        self.due.store(if ready.is_empty() { deadline } else { 0 }, Ordering::Release);
        out
    }

    /// Takes a packet's sample of a learn list.
    pub(crate) fn learn(&self, list: usize, sample: &[u8], now: u64) {
        let Some(digest) = self.of_list.get(list).copied() else { return };
        self.change(|digests, ready| {
            if let Some(digest) = digests.get_mut(digest)
                && let Some(list) = digest.add(sample, now)
            {
                offer(digest, ready, list);
            }
        });
    }

    /// What a controller wants of a digest.
    #[must_use]
    pub fn config(&self, digest: usize) -> Option<DigestConfig> {
        self.lock().0.get(digest).and_then(Digest::config)
    }

    /// Changes what a controller wants of a digest.
    pub fn configure(&self, digest: usize, config: Option<DigestConfig>) {
        self.change(|digests, ready| {
            if let Some(d) = digests.get_mut(digest) {
                d.configure(config);
                if config.is_none() {
                    ready.retain(|l| l.digest != digest);
                }
            }
        });
    }

    /// A list was acknowledged, or could not be sent. One that is not known is not an error: it may have expired.
    pub fn forget(&self, digest: usize, list: u64) {
        self.change(|digests, _| {
            if let Some(d) = digests.get_mut(digest) {
                d.forget(list);
            }
        });
    }

    /// When [`take`](Self::take) has something to do next, as far as is known now.
    #[inline]
    #[must_use]
    pub fn due(&self) -> Option<u64> {
        Some(self.due.load(Ordering::Acquire)).filter(|d| *d != NEVER)
    }

    /// The lists to be sent now.
    pub fn take(&self, now: u64) -> Vec<DigestList> {
        self.change(|digests, ready| {
            for digest in digests {
                if let Some(list) = digest.poll(now) {
                    offer(digest, ready, list);
                }
            }
            ready.drain(..).collect()
        })
    }

    /// Samples dropped so far because too many waited.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.lock().0.iter().map(|d| d.dropped).sum()
    }
}

fn offer(digest: &mut Digest, ready: &mut VecDeque<DigestList>, list: DigestList) {
    if ready.len() < MAX_READY {
        ready.push_back(list);
    } else {
        digest.dropped += list.samples.len() as u64;
        digest.forget(list.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(max_timeout_ns: u64, max_list_size: usize, ack_timeout_ns: u64) -> Digest {
        let mut d = Digest::new(0);
        d.configure(Some(DigestConfig { max_timeout_ns, max_list_size, ack_timeout_ns }));
        d
    }

    fn ids(list: Option<DigestList>) -> Option<(u64, Vec<u8>)> {
        list.map(|l| (l.id, l.samples.iter().flat_map(|s| s.to_vec()).collect()))
    }

    #[test]
    fn nothing_is_collected_that_nobody_wants() {
        let mut d = Digest::new(0);
        assert_eq!(d.add(b"a", 0), None);
        assert_eq!((d.poll(NEVER), d.deadline()), (None, None));
    }

    #[test]
    fn without_a_timeout_each_sample_is_sent_at_once() {
        let mut d = digest(0, 10, 0);
        assert_eq!(ids(d.add(b"a", 5)), Some((1, b"a".to_vec())));
        assert_eq!(ids(d.add(b"a", 5)), Some((2, b"a".to_vec())));
        assert_eq!(d.deadline(), None);
    }

    #[test]
    fn a_list_is_sent_when_it_is_full() {
        let mut d = digest(100, 2, 0);
        assert_eq!(d.add(b"a", 5), None);
        assert_eq!(ids(d.add(b"b", 6)), Some((1, b"ab".to_vec())));
    }

    #[test]
    fn a_list_is_sent_when_its_first_sample_has_waited_long_enough() {
        let mut d = digest(100, 0, 0);
        assert_eq!(d.add(b"a", 5), None);
        assert_eq!(d.add(b"b", 50), None);
        assert_eq!(d.deadline(), Some(105));
        assert_eq!(d.poll(104), None);
        assert_eq!(ids(d.poll(105)), Some((1, b"ab".to_vec())));
        assert_eq!(d.deadline(), None);
    }

    #[test]
    fn a_sample_is_not_sent_again_until_its_list_is_acknowledged() {
        let mut d = digest(0, 0, 1000);
        assert_eq!(ids(d.add(b"a", 0)), Some((1, b"a".to_vec())));
        assert_eq!(d.add(b"a", 1), None);
        assert_eq!(ids(d.add(b"b", 1)), Some((2, b"b".to_vec())));
        d.forget(1);
        assert_eq!(ids(d.add(b"a", 2)), Some((3, b"a".to_vec())));
        assert_eq!(d.add(b"b", 2), None);
    }

    #[test]
    fn a_sample_is_sent_again_when_no_acknowledgement_has_come() {
        let mut d = digest(0, 0, 1000);
        assert!(d.add(b"a", 7).is_some());
        assert_eq!(d.deadline(), Some(1007));
        assert_eq!(d.add(b"a", 1006), None);
        assert_eq!(ids(d.add(b"a", 1007)), Some((2, b"a".to_vec())));
    }

    #[test]
    fn an_open_list_knows_its_samples_too() {
        let mut d = digest(100, 0, 1000);
        assert_eq!((d.add(b"a", 0), d.add(b"a", 1)), (None, None));
        assert_eq!(ids(d.poll(100)), Some((1, b"a".to_vec())));
    }

    #[test]
    fn samples_that_wait_are_bounded() {
        let mut d = digest(0, 0, 1000);
        let taken = (0..MAX_SAMPLES as u32 + 5).filter(|i| d.add(&i.to_be_bytes(), 0).is_some()).count();
        assert_eq!((taken, d.dropped), (MAX_SAMPLES, 5));
        // Those that are acknowledged make room.
        d.forget(1);
        assert!(d.add(b"more", 0).is_some());
    }

    #[test]
    fn a_list_is_bounded_whatever_its_size_may_be() {
        for size in [0, MAX_LIST * 2] {
            let mut d = digest(u64::MAX, size, 0);
            let lists: Vec<_> = (0..MAX_LIST as u32).filter_map(|i| d.add(&i.to_be_bytes(), 0)).collect();
            assert_eq!(lists.len(), 1);
            assert_eq!(lists[0].samples.len(), MAX_LIST);
        }
    }

    #[test]
    fn deleting_forgets_all_but_the_number() {
        let mut d = digest(0, 0, 1000);
        assert!(d.add(b"a", 0).is_some());
        d.configure(None);
        assert_eq!((d.add(b"a", 0), d.deadline()), (None, None));
        d.configure(Some(DigestConfig::default()));
        assert_eq!(ids(d.add(b"a", 0)), Some((2, b"a".to_vec())));
    }
}
