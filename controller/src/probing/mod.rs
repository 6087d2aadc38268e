//! Gateway latencies (DESIGN §3.3, IPdmux §III-A "IPvN router selection"): which probes to send, and what the
//! answers say. The time stamps are the switches'; this module only pairs requests with replies.

use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;
use std::time::Duration;

use dmux_wire::GatewayId;
use thiserror::Error;

/// Probes to one peer whose replies may be awaited at a time; the oldest is given up beyond.
pub const MAX_OUTSTANDING: usize = 8;
/// A round trip above this is a clock that jumped or a forged reply, not a distance.
pub const MAX_RTT: Duration = Duration::from_secs(10);
/// Weight of a new sample in the smoothed round trip: 1/8, as TCP's (RFC 6298 §2).
const SMOOTHING: u32 = 8;
/// Samples before a round trip is believed.
const MIN_SAMPLES: u32 = 3;
/// The time stamps of §3.3 are 48 bits wide and wrap.
const STAMP_MASK: u64 = (1 << 48) - 1;

/// When to probe and when to give up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeTimers {
    /// Between two probes to the same peer.
    pub interval: Duration,
    /// Consecutive probes without an answer after which the peer counts as unreachable.
    pub misses: u32,
    /// At least this long between two latency reports to the cluster, so that jitter does not fill the log.
    pub report_every: Duration,
}

impl Default for ProbeTimers {
    fn default() -> Self {
        Self { interval: Duration::from_secs(1), misses: 3, report_every: Duration::from_secs(10) }
    }
}

/// A probe that the switch should send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeRequest {
    /// The peer.
    pub to: GatewayId,
    /// Its unicast address.
    pub address: Ipv4Addr,
    /// What the reply must carry.
    pub sequence: u32,
}

/// The four time stamps of an answered probe, µs, 48 bits each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamps {
    /// Request left the origin switch.
    pub out: u64,
    /// Request entered the reflecting switch.
    pub reflect_in: u64,
    /// Reply left the reflecting switch.
    pub reflect_out: u64,
    /// Reply entered the origin switch.
    pub back: u64,
}

impl Stamps {
    /// `(t_in − t_out) − (t_reflect_out − t_reflect_in)` modulo 2⁴⁸ (DESIGN §3.3).
    pub fn round_trip(&self) -> Result<Duration, ProbeError> {
        let total = self.back.wrapping_sub(self.out) & STAMP_MASK;
        let held = self.reflect_out.wrapping_sub(self.reflect_in) & STAMP_MASK;
        let limit = MAX_RTT.as_micros() as u64;
        match total.checked_sub(held) {
            Some(rtt) if rtt <= limit => Ok(Duration::from_micros(rtt)),
            _ => Err(ProbeError::Impossible { total, held }),
        }
    }
}

/// Why a reply was not used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ProbeError {
    /// No such request is outstanding: late, replayed or forged.
    #[error(
        "probe reply from {from} with sequence {sequence:#x} answers no outstanding probe (late, replayed or forged)"
    )]
    Unexpected {
        /// Source address of the reply.
        from: Ipv4Addr,
        /// Its sequence number.
        sequence: u32,
    },
    /// The stamps contradict each other.
    #[error("probe stamps are impossible: {total} µs in all, of which {held} µs at the reflecting switch")]
    Impossible {
        /// µs between leaving and returning.
        total: u64,
        /// µs at the reflecting switch.
        held: u64,
    },
}

/// What is known of one peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerView {
    /// Smoothed round trip; `None` before enough samples.
    pub rtt: Option<Duration>,
    /// False after `misses` unanswered probes in a row.
    pub reachable: bool,
}

#[derive(Debug)]
struct Peer {
    address: Ipv4Addr,
    outstanding: VecDeque<u32>,
    next_probe: Duration,
    smoothed_ns: u64,
    samples: u32,
    missed: u32,
    reported_us: Option<u32>,
}

impl Peer {
    fn rtt(&self) -> Option<Duration> {
        (self.samples >= MIN_SAMPLES).then(|| Duration::from_nanos(self.smoothed_ns))
    }
}

/// Sends probes to every peer in turn and keeps the smoothed answers.
#[derive(Debug)]
pub struct Prober {
    timers: ProbeTimers,
    peers: BTreeMap<GatewayId, Peer>,
    sequence: u64,
    next_report: Duration,
}

impl Prober {
    /// `seed` should be unpredictable outside of tests: sequence numbers are what keeps an off-path
    /// attacker from answering in a peer's name.
    pub fn new(timers: ProbeTimers, seed: u64) -> Self {
        Self { timers, peers: BTreeMap::new(), sequence: seed, next_report: Duration::ZERO }
    }

    /// Replaces the set of peers; those that stay keep their history, unless their address changed.
    pub fn set_peers(&mut self, now: Duration, peers: impl IntoIterator<Item = (GatewayId, Ipv4Addr)>) {
        let mut old = std::mem::take(&mut self.peers);
        for (id, address) in peers {
            let kept = old.remove(&id).filter(|p| p.address == address);
            self.peers.insert(
                id,
                kept.unwrap_or(Peer {
                    address,
                    outstanding: VecDeque::new(),
                    next_probe: now,
                    smoothed_ns: 0,
                    samples: 0,
                    missed: 0,
                    reported_us: None,
                }),
            );
        }
    }

    /// The probes that are due, and when to call again (`None`: there are no peers).
    pub fn tick(&mut self, now: Duration) -> (Vec<ProbeRequest>, Option<Duration>) {
        let mut due = Vec::new();
        for (&to, peer) in &mut self.peers {
            if peer.next_probe > now {
                continue;
            }
            if !peer.outstanding.is_empty() {
                peer.missed = peer.missed.saturating_add(1);
            }
            while peer.outstanding.len() >= MAX_OUTSTANDING {
                peer.outstanding.pop_front();
            }
            self.sequence = splitmix(self.sequence);
            let sequence = (self.sequence >> 32) as u32;
            peer.outstanding.push_back(sequence);
            peer.next_probe = now + self.timers.interval;
            due.push(ProbeRequest { to, address: peer.address, sequence });
        }
        (due, self.peers.values().map(|p| p.next_probe).min())
    }

    /// Takes a reply that the switch punted. Returns the sample.
    pub fn reply(&mut self, from: Ipv4Addr, sequence: u32, stamps: &Stamps) -> Result<Duration, ProbeError> {
        let unexpected = ProbeError::Unexpected { from, sequence };
        let peer = self.peers.values_mut().find(|p| p.address == from).ok_or(unexpected.clone())?;
        let at = peer.outstanding.iter().position(|&s| s == sequence).ok_or(unexpected)?;
        let sample = stamps.round_trip()?;
        // Older requests were lost: replies do not overtake each other on a path.
        peer.outstanding.drain(..=at);
        peer.missed = 0;
        let ns = sample.as_nanos() as u64;
        peer.smoothed_ns = if peer.samples < MIN_SAMPLES {
            // The least of the first samples: they carry start-up noise.
            if peer.samples == 0 { ns } else { peer.smoothed_ns.min(ns) }
        } else {
            peer.smoothed_ns - peer.smoothed_ns / u64::from(SMOOTHING) + ns / u64::from(SMOOTHING)
        };
        peer.samples = peer.samples.saturating_add(1);
        Ok(sample)
    }

    /// What is known of every peer.
    pub fn view(&self) -> BTreeMap<GatewayId, PeerView> {
        let misses = self.timers.misses;
        self.peers.iter().map(|(&id, p)| (id, PeerView { rtt: p.rtt(), reachable: p.missed < misses })).collect()
    }

    /// The latencies that the cluster should record now: those that changed by more than a tenth or half a
    /// millisecond since they were last reported. Bounded to one report per `report_every`, except that a first
    /// measurement of a peer goes at once.
    pub fn report(&mut self, now: Duration) -> Vec<(GatewayId, u32)> {
        let first = self.peers.values().any(|p| p.reported_us.is_none() && p.rtt().is_some());
        if now < self.next_report && !first {
            return Vec::new();
        }
        let mut samples = Vec::new();
        for (&id, peer) in &mut self.peers {
            let Some(rtt) = peer.rtt() else { continue };
            let us = rtt.as_micros() as u32;
            let changed = peer.reported_us.is_none_or(|old| us.abs_diff(old) > (old / 10).max(500));
            if changed {
                peer.reported_us = Some(us);
                samples.push((id, us));
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
                peer.reported_us = None;
            }
        }
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

#[cfg(test)]
mod tests;
