use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use dmux_wire::GatewayId;

use super::peer::{Pace, Peer};
use super::{BURST, LATE, LEAST_ALLOWANCE, PeerView, ProbeError, ProbeRequest, ProbeTimers, Stamps, WITNESSES};
use crate::model::{Latency, LatencySample};

/// Sends probes to every peer in turn and keeps the smoothed answers. See the [module](super).
#[derive(Debug)]
pub struct Prober {
    timers: ProbeTimers,
    peers: BTreeMap<GatewayId, Peer>,
    sequence: u64,
    next_report: Duration,
    /// When the prober asked to be called.
    due: Option<Duration>,
    /// When the rate has room again, counted one probe after the other.
    room_at: Duration,
    /// Thousandths by which all intervals are stretched to keep the rate; 1000 when there is no need.
    stretch: u32,
    /// Counts changes of what selection is told.
    version: u64,
}

impl Prober {
    /// `seed` should be unpredictable outside of tests: sequence numbers are what keeps an off-path
    /// attacker from answering in a peer's name.
    pub fn new(timers: ProbeTimers, seed: u64) -> Self {
        Self {
            timers,
            peers: BTreeMap::new(),
            sequence: seed,
            next_report: Duration::ZERO,
            due: None,
            room_at: Duration::ZERO,
            stretch: 1000,
            version: 0,
        }
    }

    /// Replaces the set of peers; those that stay keep their history, unless their address changed.
    pub fn set_peers(&mut self, now: Duration, peers: impl IntoIterator<Item = (GatewayId, Ipv4Addr)>) {
        let mut old = std::mem::take(&mut self.peers);
        let mut changed = false;
        for (id, address) in peers {
            let kept = old.remove(&id).filter(|p| p.address == address);
            changed |= kept.is_none();
            self.peers.insert(id, kept.unwrap_or_else(|| Peer::new(address, now)));
        }
        if changed || !old.is_empty() {
            self.version += 1;
            self.due = None;
            self.set_stretch();
        }
    }

    /// Replaces the set of watched peers.
    pub fn watch(&mut self, now: Duration, watched: &BTreeSet<GatewayId>) {
        let newly: Vec<_> =
            self.peers.iter().filter(|(id, p)| watched.contains(id) && !p.watched).map(|(&id, _)| id).collect();
        for (id, peer) in &mut self.peers {
            peer.watched = watched.contains(id);
        }
        self.set_stretch();
        let soon = now + self.pace(true).interval;
        for id in newly {
            if let Some(peer) = self.peers.get_mut(&id) {
                peer.next_probe = peer.next_probe.min(soon);
            }
        }
        self.due = self.due.min(self.earliest());
    }

    /// The probes that are due, and when to call again (`None`: there are no peers).
    pub fn tick(&mut self, now: Duration) -> (Vec<ProbeRequest>, Option<Duration>) {
        self.notice(now);
        self.judge(now);
        self.call_witnesses();
        let mut waiting: Vec<_> = self
            .peers
            .iter()
            .filter(|(_, p)| p.next_probe <= now)
            .map(|(&id, p)| (!p.watched, p.next_probe, id))
            .collect();
        waiting.sort_unstable();
        let mut due = Vec::new();
        let [slow, fast] = [self.pace(false), self.pace(true)];
        for (.., to) in waiting {
            if self.room_at > now + BURST {
                break;
            }
            let Some(peer) = self.peers.get_mut(&to) else { continue };
            self.room_at = self.room_at.max(now) + Duration::from_secs(1) / self.timers.per_second.max(1);
            self.sequence = splitmix(self.sequence);
            let sequence = (self.sequence >> 32) as u32;
            peer.sent(now, sequence);
            peer.next_probe = now + if peer.watched { fast.interval } else { slow.interval };
            due.push(ProbeRequest { to, address: peer.address, sequence });
        }
        self.due = self.earliest();
        (due, self.due)
    }

    /// Takes a reply that the switch punted. Returns whose it is, and the sample.
    pub fn reply(
        &mut self,
        now: Duration,
        from: Ipv4Addr,
        sequence: u32,
        stamps: &Stamps,
    ) -> Result<(GatewayId, Duration), ProbeError> {
        self.notice(now);
        let unexpected = ProbeError::Unexpected { from, sequence };
        let sample = stamps.round_trip();
        let heard = self.peers.values().filter_map(|peer| peer.heard).max();
        let (&id, peer) = self.peers.iter_mut().find(|(_, p)| p.address == from).ok_or(unexpected.clone())?;
        // Stamps are looked at only when the reply is expected, and spend it only when they are possible.
        let window = self.timers.interval;
        let sample = match sample {
            Ok(sample) => sample,
            Err(impossible) if peer.awaits(sequence) => return Err(impossible),
            Err(_) => return Err(unexpected),
        };
        let changed = peer.reply(now, sequence, sample, window).ok_or(unexpected)?;
        self.version += u64::from(changed);
        // The first to be heard after a silence of all: the others' answers may be right behind.
        let silence = heard.map_or(Duration::ZERO, |heard| now.saturating_sub(heard));
        if silence > 3 * self.timers.watch_interval + LEAST_ALLOWANCE {
            self.peers.values_mut().for_each(|peer| peer.forgive(now, Duration::ZERO));
        }
        Ok((id, sample))
    }

    /// What is known of every peer.
    pub fn view(&self) -> BTreeMap<GatewayId, PeerView> {
        self.peers.iter().map(|(&id, peer)| (id, peer.view())).collect()
    }

    /// Changes whenever a distance or a reachability in [`view`](Self::view) does.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The longest time from a watched peer's death until it counts as unreachable, if the prober is not late and
    /// others are heard: the misses, and the allowance of the last.
    pub fn detects_within(&self, peer: GatewayId) -> Option<Duration> {
        let Pace { interval, misses } = self.pace(true);
        self.peers.get(&peer).map(|peer| interval * peer.needed(misses) + peer.allowance())
    }

    /// The latencies that the cluster should record now: those that are news to it ([`Latency::is_news`]). Bounded to
    /// one report per `report_every`, except that a first measurement of a peer goes at once.
    pub fn report(&mut self, now: Duration) -> Vec<LatencySample> {
        let first = self.peers.values().any(|p| p.reported.is_none() && p.measured().is_some());
        if now < self.next_report && !first {
            return Vec::new();
        }
        let mut samples = Vec::new();
        for (&to, peer) in &mut self.peers {
            let Some((rtt_us, loss_permille)) = peer.measured() else { continue };
            let sample = LatencySample { to, rtt_us, loss_permille };
            let news = |(rtt_us, loss_permille)| Latency { rtt_us, loss_permille, measured_at: 0 }.is_news(&sample);
            // A peer that does not answer has no new figures.
            if peer.is_reachable() && peer.reported.is_none_or(news) {
                peer.reported = Some((rtt_us, loss_permille));
                samples.push(sample);
            }
        }
        if !samples.is_empty() {
            self.next_report = now + self.timers.report_every;
        }
        samples
    }

    /// The last report did not reach the cluster: report again.
    pub fn report_failed(&mut self, peers: impl IntoIterator<Item = GatewayId>) {
        for id in peers {
            if let Some(peer) = self.peers.get_mut(&id) {
                peer.reported = None;
            }
        }
    }

    fn pace(&self, watched: bool) -> Pace {
        let t = &self.timers;
        let (interval, misses) = if watched { (t.watch_interval, t.watch_misses) } else { (t.interval, t.misses) };
        Pace { interval: interval.saturating_mul(self.stretch) / 1000, misses }
    }

    fn set_stretch(&mut self) {
        let watched = self.peers.values().filter(|p| p.watched).count();
        let slow = self.peers.len() - watched;
        let witnesses = if watched > 0 { slow.min(WITNESSES) } else { 0 };
        let rate = |peers: usize, interval: Duration| peers as f64 / interval.as_secs_f64().max(1e-3);
        let wanted = rate(watched + witnesses, self.timers.watch_interval) + rate(slow, self.timers.interval);
        let stretch = (wanted / f64::from(self.timers.per_second.max(1))).max(1.0);
        self.stretch = (stretch * 1000.0).ceil() as u32;
    }

    /// If the prober is called late, it has not listened.
    fn notice(&mut self, now: Duration) {
        let late = self.due.map_or(Duration::ZERO, |due| now.saturating_sub(due));
        if late > LATE {
            self.peers.values_mut().for_each(|peer| peer.forgive(now, late));
            self.due = Some(now);
        }
    }

    fn judge(&mut self, now: Duration) {
        // The two that were heard last: for each peer one of them is another.
        let mut heard: [Option<(Duration, GatewayId)>; 2] = [None; 2];
        for (&id, peer) in &self.peers {
            let this = peer.heard.map(|at| (at, id));
            if this > heard[0] {
                heard = [this, heard[0]];
            } else if this > heard[1] {
                heard[1] = this;
            }
        }
        let [slow, fast] = [self.pace(false), self.pace(true)];
        for (&id, peer) in &mut self.peers {
            let others = heard.iter().flatten().find(|(_, other)| *other != id).map(|(at, _)| *at);
            let changed = peer.judge(now, if peer.watched { fast } else { slow }, others);
            self.version += u64::from(changed);
        }
    }

    /// While a watched peer is in doubt, the closest others are asked as often, so that somebody can be heard.
    fn call_witnesses(&mut self) {
        if !self.peers.values().any(|peer| peer.watched && peer.is_in_doubt()) {
            return;
        }
        let candidates = self.peers.iter().filter(|(_, p)| !p.watched && p.is_reachable() && p.measured().is_some());
        let mut candidates: Vec<_> = candidates.map(|(&id, peer)| (peer.measured(), id)).collect();
        candidates.sort_unstable();
        let interval = self.pace(true).interval;
        for (_, id) in candidates.into_iter().take(WITNESSES) {
            if let Some(peer) = self.peers.get_mut(&id)
                && let Some(last) = peer.last_sent()
            {
                peer.is_witness = true;
                peer.next_probe = peer.next_probe.min(last + interval);
            }
        }
    }

    fn earliest(&self) -> Option<Duration> {
        let probe = self.peers.values().map(|peer| peer.next_probe).min();
        let probe = probe.map(|at| at.max(self.room_at.saturating_sub(BURST)));
        self.peers.values().filter_map(Peer::next_deadline).chain(probe).min()
    }

    #[cfg(test)]
    pub(super) fn outstanding(&self, peer: GatewayId) -> usize {
        self.peers[&peer].outstanding()
    }
}

/// One step of SplitMix64: cheap, and each output half-word is unpredictable enough with a secret seed for a
/// value whose only job is to pair replies on paths an attacker does not see.
fn splitmix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
