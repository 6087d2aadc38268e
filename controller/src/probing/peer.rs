//! What is known of one peer: its unanswered probes, its distance, and whether it answers.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::time::Duration;

use super::loss::{Loss, distance_us};
use super::{
    BLIND_AFTER, FALSE_ALARM, LEAST_ALLOWANCE, MAX_OUTSTANDING, MOST_ALLOWANCE, MOST_MISSES, PeerView, RETURN_ANSWERS,
};

/// Weight of a new sample in the smoothed round trip: 1/8, as TCP's (RFC 6298 §2).
const SMOOTHING: u64 = 8;
/// Samples before a round trip is believed.
const MIN_SAMPLES: u32 = 3;
/// The distance that selection is told follows the smoothed one when it is off by more than a twentieth and by more
/// than this: what is told moves plans, and plans cost.
const DISTANCE_NEWS_US: u64 = 250;

/// How often a peer is asked, and how many misses make it unreachable.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    pub interval: Duration,
    pub misses: u32,
}

/// A probe whose reply is awaited, or no longer but still accepted.
#[derive(Debug, Clone, Copy)]
struct Sent {
    sequence: u32,
    at: Duration,
    deadline: Duration,
    overdue: bool,
    /// A later one was answered: it is lost, but the peer is not silent.
    passed: bool,
    /// Sent so that somebody is heard, out of turn: no evidence against this peer.
    as_witness: bool,
}

/// How long answers take as this controller sees them, its own delays and its switch's included: RFC 6298 §2.
#[derive(Debug, Clone, Copy, Default)]
struct AnswerTime {
    mean_ns: u64,
    deviation_ns: u64,
    samples: u32,
}

impl AnswerTime {
    fn add(&mut self, took: Duration) {
        let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).min(MOST_ALLOWANCE.as_nanos() as u64);
        if self.samples == 0 {
            (self.mean_ns, self.deviation_ns) = (ns, ns / 2);
        } else {
            self.deviation_ns = self.deviation_ns - self.deviation_ns / 4 + self.mean_ns.abs_diff(ns) / 4;
            self.mean_ns = self.mean_ns - self.mean_ns / 8 + ns / 8;
        }
        self.samples = self.samples.saturating_add(1);
    }

    /// How long to wait for an answer before it counts as lost.
    fn allowance(&self) -> Duration {
        if self.samples == 0 {
            return MOST_ALLOWANCE;
        }
        Duration::from_nanos(self.mean_ns + 4 * self.deviation_ns).clamp(LEAST_ALLOWANCE, MOST_ALLOWANCE)
    }
}

#[derive(Debug)]
pub(super) struct Peer {
    pub address: Ipv4Addr,
    pub watched: bool,
    pub next_probe: Duration,
    /// The next probe is out of turn.
    pub is_witness: bool,
    /// When a reply came last.
    pub heard: Option<Duration>,
    /// When the first probe was sent that no reply has followed.
    unanswered_since: Option<Duration>,
    outstanding: VecDeque<Sent>,
    answers: AnswerTime,
    /// Least round trip of the present window, and when the window ends.
    window: Option<u64>,
    window_ends: Duration,
    smoothed_ns: u64,
    samples: u32,
    loss: Loss,
    /// Probes in a row that were lost although others were heard.
    missed: u32,
    /// Probes in a row that were lost while nobody was heard.
    doubtful: u32,
    reachable: bool,
    /// Answers in a row since it was unreachable.
    returned: u32,
    distance_us: Option<u64>,
    pub reported: Option<(u32, u16)>,
}

impl Peer {
    pub fn new(address: Ipv4Addr, next_probe: Duration) -> Self {
        Self {
            address,
            watched: false,
            next_probe,
            is_witness: false,
            heard: None,
            unanswered_since: None,
            outstanding: VecDeque::new(),
            answers: AnswerTime::default(),
            window: None,
            window_ends: Duration::ZERO,
            smoothed_ns: 0,
            samples: 0,
            loss: Loss::default(),
            missed: 0,
            doubtful: 0,
            reachable: true,
            returned: 0,
            distance_us: None,
            reported: None,
        }
    }

    pub fn is_reachable(&self) -> bool {
        self.reachable
    }

    /// Whether its last probe was lost, and it is not given up yet.
    pub fn is_in_doubt(&self) -> bool {
        self.reachable && self.missed + self.doubtful > 0
    }

    /// Smoothed round trip in µs and loss, once believed.
    pub fn measured(&self) -> Option<(u32, u16)> {
        let rtt = u32::try_from(self.smoothed_ns / 1000).unwrap_or(u32::MAX);
        (self.samples >= MIN_SAMPLES).then(|| (rtt, self.loss.permille()))
    }

    pub fn view(&self) -> PeerView {
        PeerView {
            rtt: (self.samples >= MIN_SAMPLES).then(|| Duration::from_nanos(self.smoothed_ns)),
            loss_permille: self.loss.permille(),
            distance: self.distance_us.map(Duration::from_micros),
            reachable: self.reachable,
            watched: self.watched,
        }
    }

    /// How long to wait for an answer before it counts as lost.
    pub fn allowance(&self) -> Duration {
        self.answers.allowance()
    }

    /// When the first unanswered probe is to be judged.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.outstanding.iter().filter(|sent| !sent.overdue).map(|sent| sent.deadline).min()
    }

    /// Whether a reply of this number would be accepted.
    pub fn awaits(&self, sequence: u32) -> bool {
        self.outstanding.iter().any(|sent| sent.sequence == sequence)
    }

    pub fn last_sent(&self) -> Option<Duration> {
        self.outstanding.back().map(|sent| sent.at).max(self.heard)
    }

    pub fn sent(&mut self, now: Duration, sequence: u32) {
        while self.outstanding.len() >= MAX_OUTSTANDING {
            self.outstanding.pop_front();
        }
        let deadline = now + self.answers.allowance();
        let as_witness = std::mem::take(&mut self.is_witness);
        self.outstanding.push_back(Sent { sequence, at: now, deadline, overdue: false, passed: false, as_witness });
        self.unanswered_since.get_or_insert(now);
    }

    /// The prober was not there for so long, ending now: its clock stood still meanwhile, and what waits for it to be
    /// read gets the time to be.
    pub fn forgive(&mut self, now: Duration, late: Duration) {
        for sent in self.outstanding.iter_mut().filter(|sent| !sent.overdue) {
            sent.at += late;
            sent.deadline = (sent.deadline + late).max(now + LEAST_ALLOWANCE);
        }
        self.unanswered_since = self.unanswered_since.map(|since| since + late);
    }

    /// Counts the probes whose time is over. `others` is when another peer was heard last. True if the peer is
    /// unreachable from now on.
    pub fn judge(&mut self, now: Duration, pace: Pace, others: Option<Duration>) -> bool {
        let before = (self.missed, self.doubtful);
        let mut lost = 0;
        for sent in self.outstanding.iter_mut().filter(|sent| !sent.overdue && sent.deadline <= now) {
            sent.overdue = true;
            if sent.as_witness {
                continue;
            }
            // Only if somebody was heard meanwhile was it not we who were deaf.
            let witnessed = others.is_some_and(|heard| heard + pace.interval > sent.at);
            match (sent.passed, witnessed) {
                (true, _) => lost += 1,
                (false, true) => self.missed = self.missed.saturating_add(1),
                (false, false) => self.doubtful = self.doubtful.saturating_add(1),
            }
        }
        if !self.reachable {
            if before != (self.missed, self.doubtful) {
                self.returned = 0;
            }
            return false;
        }
        for _ in 0..lost {
            self.loss.add(true);
        }
        if before == (self.missed, self.doubtful) {
            return lost > 0 && self.renew_distance();
        }
        let misses = self.needed(pace.misses);
        let silent = self.unanswered_since.map_or(Duration::ZERO, |since| now.saturating_sub(since));
        let blind = silent >= BLIND_AFTER.max(pace.interval * (misses + 1));
        if self.missed >= misses || (blind && self.missed.saturating_add(self.doubtful) >= misses) {
            self.reachable = false;
            return true;
        }
        lost > 0 && self.renew_distance()
    }

    /// How many misses in a row make it unreachable: more on a path that is lossy anyway, until chance alone would do
    /// it less often than [`FALSE_ALARM`].
    pub fn needed(&self, misses: u32) -> u32 {
        let loss = f64::from(self.loss.permille()) / 1000.0;
        let mut needed = misses;
        let mut chance = loss.powf(f64::from(misses));
        while chance > FALSE_ALARM && needed < misses.saturating_mul(MOST_MISSES) {
            chance *= loss;
            needed += 1;
        }
        needed
    }

    /// Takes the reply to a probe. `None`: none of that number is outstanding. True if what selection is told changed.
    pub fn reply(&mut self, now: Duration, sequence: u32, sample: Duration, window: Duration) -> Option<bool> {
        let at = self.outstanding.iter().position(|sent| sent.sequence == sequence)?;
        let sent = self.outstanding[at];
        self.outstanding.remove(at);
        // What is overdue and older can only confuse; what is younger than its deadline may still be answered.
        let mut older = at;
        self.outstanding.retain(|sent| {
            let drop = older > 0 && sent.overdue;
            older = older.saturating_sub(1);
            !drop
        });
        self.outstanding.iter_mut().filter(|other| other.at < sent.at).for_each(|other| other.passed = true);
        self.answers.add(now.saturating_sub(sent.at));
        self.heard = Some(now);
        self.unanswered_since = self.outstanding.iter().find(|sent| !sent.passed).map(|sent| sent.at);
        let missed = std::mem::take(&mut self.missed);
        self.doubtful = 0;
        let mut changed = false;
        if !self.reachable {
            self.returned += 1;
            if self.returned >= RETURN_ANSWERS {
                // How lossy the path was before it broke says nothing of it now.
                (self.reachable, self.loss, self.returned) = (true, Loss::default(), 0);
                changed = true;
            }
        } else {
            // Counted only now: what a dying peer misses must not make its death look like loss.
            (0..missed).for_each(|_| self.loss.add(true));
            self.loss.add(false);
        }
        self.smooth(now, sample, window);
        Some(self.renew_distance() || changed)
    }

    /// The least of each window goes into the average: queues on the way only ever add to a round trip, and a peer that
    /// is asked often is not smoothed over a shorter time than the others.
    fn smooth(&mut self, now: Duration, sample: Duration, window: Duration) {
        let ns = u64::try_from(sample.as_nanos()).unwrap_or(u64::MAX);
        let least = self.window.map_or(ns, |least| least.min(ns));
        self.samples = self.samples.saturating_add(1);
        if self.samples <= MIN_SAMPLES {
            // The least of the first samples: they carry start-up noise.
            self.smoothed_ns = least;
            self.window = (self.samples < MIN_SAMPLES).then_some(least);
            self.window_ends = now + window;
        } else if now >= self.window_ends {
            self.smoothed_ns = self.smoothed_ns - self.smoothed_ns / SMOOTHING + least / SMOOTHING;
            self.window = None;
            self.window_ends = now + window;
        } else {
            self.window = Some(least);
        }
    }

    fn renew_distance(&mut self) -> bool {
        let Some((rtt, loss)) = self.measured() else { return false };
        let new = distance_us(rtt, loss);
        let news = self.distance_us.is_none_or(|old| old.abs_diff(new) > DISTANCE_NEWS_US.max(old / 20));
        if news {
            self.distance_us = Some(new);
        }
        news
    }

    #[cfg(test)]
    pub fn outstanding(&self) -> usize {
        self.outstanding.len()
    }
}
