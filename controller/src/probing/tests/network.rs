//! A network of peers around one prober, in simulated time: loss, delays, deaths, and a controller that stalls.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use super::super::*;

/// The same stream for the same seed.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(2).wrapping_add(1))
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    /// Uniform below `limit`.
    pub fn below(&mut self, limit: Duration) -> Duration {
        Duration::from_nanos(self.next() % (limit.as_nanos() as u64).max(1))
    }

    pub fn chance(&mut self, permille: u64) -> bool {
        self.next() % 1000 < permille
    }
}

pub struct Network {
    pub prober: Prober,
    pub random: Random,
    pub now: Duration,
    /// Round trips without queues.
    rtts: BTreeMap<GatewayId, Duration>,
    pub dead: BTreeSet<GatewayId>,
    pub loss_permille: u64,
    /// Replies take up to so much longer.
    pub delay: Duration,
    /// The controller stops about once in so long, for up to so long.
    pub stalls: Option<(Duration, Duration)>,
    stall: (Duration, Duration),
    /// The gateway's own switch hears and sends nothing before then; what is under way waits.
    pub deaf_until: Duration,
    next_tick: Duration,
    replies: BinaryHeap<Reverse<(Duration, GatewayId, u32)>>,
    pub sent: BTreeMap<GatewayId, u64>,
    /// Every change of a peer's reachability: when, who, to what.
    pub changes: Vec<(Duration, GatewayId, bool)>,
    reachable: BTreeMap<GatewayId, bool>,
    version: u64,
    /// Time that the controller has stood still so far.
    pub stalled: Duration,
    pub stall_count: u32,
}

fn address(id: GatewayId) -> Ipv4Addr {
    let [high, low] = id.0.to_be_bytes();
    Ipv4Addr::new(192, 0, high, low)
}

impl Network {
    /// Peers from 2, each with its round trip in ms; the first `watched` of them are watched.
    pub fn new(timers: ProbeTimers, seed: u64, rtts: &[u64], watched: usize) -> Self {
        let ids: Vec<_> = (2..).map(GatewayId).take(rtts.len()).collect();
        let mut prober = Prober::new(timers, seed);
        prober.set_peers(Duration::ZERO, ids.iter().map(|&id| (id, address(id))));
        prober.watch(Duration::ZERO, &ids.iter().copied().take(watched).collect());
        Self {
            prober,
            random: Random::new(seed),
            now: Duration::ZERO,
            rtts: ids.iter().copied().zip(rtts.iter().map(|&rtt| Duration::from_millis(rtt))).collect(),
            dead: BTreeSet::new(),
            loss_permille: 0,
            delay: Duration::ZERO,
            stalls: None,
            stall: (Duration::MAX, Duration::MAX),
            deaf_until: Duration::ZERO,
            next_tick: Duration::ZERO,
            replies: BinaryHeap::new(),
            sent: BTreeMap::new(),
            changes: Vec::new(),
            reachable: BTreeMap::new(),
            version: u64::MAX,
            stalled: Duration::ZERO,
            stall_count: 0,
        }
    }

    /// When something that should happen at `at` does: the controller may stand still then.
    fn awake(&mut self, at: Duration) -> Duration {
        let Some((every, longest)) = self.stalls else { return at };
        while self.stall.1 <= at || self.stall.0 == Duration::MAX {
            let after = if self.stall.0 == Duration::MAX { Duration::ZERO } else { self.stall.1 };
            let begins = after + self.random.below(2 * every);
            let length = self.random.below(longest);
            self.stall = (begins, begins + length);
            (self.stalled, self.stall_count) = (self.stalled + length, self.stall_count + 1);
        }
        if at >= self.stall.0 { self.stall.1 } else { at }
    }

    /// Runs to a moment.
    pub fn run_until(&mut self, end: Duration) {
        loop {
            let reply_due = self.replies.peek().map_or(Duration::MAX, |Reverse((at, ..))| *at);
            let tick_at = self.awake(self.next_tick);
            let reply_at = if reply_due == Duration::MAX { Duration::MAX } else { self.awake(reply_due) };
            if tick_at.min(reply_at) > end {
                self.now = end;
                return;
            }
            // Both wait after a stall: either may be first.
            let tick_first = tick_at < reply_at || (tick_at == reply_at && self.random.chance(500));
            self.now = self.now.max(tick_at.min(reply_at));
            if tick_first {
                self.tick();
            } else if let Some(Reverse((_, from, sequence))) = self.replies.pop() {
                let rtt = self.rtts[&from].as_micros() as u64;
                let stamps = Stamps { out: 0, reflect_in: 0, reflect_out: 0, back: rtt };
                // A reply so late that it is no longer expected is a loss.
                let _ = self.prober.reply(self.now, address(from), sequence, &stamps);
            }
            self.note();
        }
    }

    fn tick(&mut self) {
        let (probes, due) = self.prober.tick(self.now);
        self.next_tick = due.unwrap_or(Duration::MAX).max(self.now);
        for probe in probes {
            *self.sent.entry(probe.to).or_default() += 1;
            if self.dead.contains(&probe.to) || self.random.chance(self.loss_permille) {
                continue;
            }
            let delay = self.random.below(self.delay.max(Duration::from_millis(1)));
            let at = self.now.max(self.deaf_until) + self.rtts[&probe.to] + delay;
            self.replies.push(Reverse((at, probe.to, probe.sequence)));
        }
    }

    /// The gateway's own switch stands still from now on for so long: replies wait at it, probes leave it later.
    pub fn deafen(&mut self, time: Duration) {
        self.deaf_until = self.now + time;
        let waiting = std::mem::take(&mut self.replies);
        let until = self.deaf_until;
        self.replies = waiting.into_iter().map(|Reverse((at, id, n))| Reverse((at.max(until), id, n))).collect();
    }

    /// A peer's switch is gone, with what is under way to it.
    pub fn kill(&mut self, peer: GatewayId) {
        self.dead.insert(peer);
    }

    fn note(&mut self) {
        if self.version == self.prober.version() {
            return;
        }
        self.version = self.prober.version();
        for (id, view) in self.prober.view() {
            if self.reachable.insert(id, view.reachable).unwrap_or(true) != view.reachable {
                self.changes.push((self.now, id, view.reachable));
            }
        }
    }
}
