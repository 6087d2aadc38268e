//! Link emulation: delay, loss and rate of what a port transmits.
//!
//! Pure: time is nanoseconds on whatever clock the caller has, chance is a seeded generator.

use std::collections::VecDeque;
use std::time::Duration;

/// The longest delay: a minute is more than any link, and bounds what waits.
pub const MAX_DELAY: Duration = Duration::from_secs(60);

/// Frames that may wait for the rate when nothing else is said, as in Linux's `txqueuelen`.
pub const DEFAULT_QUEUE_FRAMES: usize = 1000;

/// The largest queue that may be asked for.
pub const MAX_QUEUE_FRAMES: usize = 100_000;

/// Frames on the wire at once (delayed, or waiting for the rate); a bound on memory, not on the emulated link.
pub const MAX_IN_FLIGHT: usize = 2 * MAX_QUEUE_FRAMES;

/// The token bucket's depth: two full Ethernet frames may leave back to back after a pause.
pub const BURST_BYTES: u64 = 2 * 1514;

/// Spent buffers kept for reuse, so that a steady flow allocates nothing.
const SPARE_BUFFERS: usize = 256;

/// Delay, loss and rate of one direction of a link.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkConfig {
    /// How long each frame is under way.
    pub delay: Duration,
    /// The chance, 0 to 1, that a frame is lost.
    pub loss: f64,
    /// The rate of the transmitter in bits a second, over whole frames; `None` is unlimited.
    pub rate_bits_per_second: Option<u64>,
    /// How many frames may wait for the rate.
    pub queue_frames: usize,
    /// Seed of the losses.
    pub seed: u64,
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            loss: 0.0,
            rate_bits_per_second: None,
            queue_frames: DEFAULT_QUEUE_FRAMES,
            seed: 0,
        }
    }
}

impl LinkConfig {
    /// Whether frames can bypass the emulation altogether.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.delay.is_zero() && self.loss <= 0.0 && self.rate_bits_per_second.is_none()
    }
}

/// What became of a frame offered to the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is under way.
    Queued,
    /// Chance took it.
    Lost,
    /// The queue was full.
    QueueFull,
}

struct InFlight {
    /// When its last bit has left the transmitter; until then it occupies the queue.
    sent: u64,
    /// When it arrives at the far end.
    due: u64,
    frame: Vec<u8>,
}

/// One direction of an emulated link: first in, first out.
pub struct Link {
    delay: u64,
    /// A draw below this loses the frame.
    loss_below: u64,
    rate: Option<u64>,
    queue_frames: usize,
    random: SplitMix64,
    /// When the transmitter has sent everything it was given.
    free_at: u64,
    in_flight: VecDeque<InFlight>,
    /// How many frames at the front of `in_flight` have left the transmitter, counted lazily.
    left_transmitter: usize,
    spare: Vec<Vec<u8>>,
}

impl Link {
    /// A link that is idle.
    #[must_use]
    pub fn new(config: &LinkConfig) -> Self {
        Self {
            delay: u64::try_from(config.delay.min(MAX_DELAY).as_nanos()).unwrap_or(u64::MAX),
            // The cast saturates, so a loss of 1 takes everything but one draw in 2^64.
            loss_below: (config.loss.clamp(0.0, 1.0) * u64::MAX as f64) as u64,
            rate: config.rate_bits_per_second.map(|r| r.max(1)),
            queue_frames: config.queue_frames.clamp(1, MAX_QUEUE_FRAMES),
            random: SplitMix64(config.seed),
            free_at: 0,
            in_flight: VecDeque::new(),
            left_transmitter: 0,
            spare: Vec::new(),
        }
    }

    /// Offers a frame at `now`.
    pub fn push(&mut self, now: u64, frame: &[u8]) -> Verdict {
        if self.loss_below > 0 && self.random.next() < self.loss_below {
            return Verdict::Lost;
        }
        while self.in_flight.get(self.left_transmitter).is_some_and(|f| f.sent <= now) {
            self.left_transmitter += 1;
        }
        let waiting = self.in_flight.len() - self.left_transmitter;
        if self.in_flight.len() >= MAX_IN_FLIGHT || (self.rate.is_some() && waiting >= self.queue_frames) {
            return Verdict::QueueFull;
        }
        let sent = match self.rate {
            None => now,
            Some(rate) => {
                // Unused time is saved up to the bucket's depth: those tokens send at once.
                let burst = nanoseconds(BURST_BYTES, rate);
                self.free_at = self.free_at.max(now.saturating_sub(burst)) + nanoseconds(frame.len() as u64, rate);
                self.free_at.max(now)
            }
        };
        let mut buffer = self.spare.pop().unwrap_or_default();
        buffer.clear();
        buffer.extend_from_slice(frame);
        self.in_flight.push_back(InFlight { sent, due: sent + self.delay, frame: buffer });
        Verdict::Queued
    }

    /// Hands every frame that has arrived by `now` to `deliver`, in order.
    pub fn deliver_due(&mut self, now: u64, deliver: &mut dyn FnMut(&[u8])) {
        while self.in_flight.front().is_some_and(|f| f.due <= now) {
            let Some(arrived) = self.in_flight.pop_front() else { break };
            self.left_transmitter = self.left_transmitter.saturating_sub(1);
            deliver(&arrived.frame);
            if self.spare.len() < SPARE_BUFFERS {
                self.spare.push(arrived.frame);
            }
        }
    }

    /// When the next frame arrives.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        self.in_flight.front().map(|f| f.due)
    }
}

/// How long `bytes` take at `rate` bits a second.
fn nanoseconds(bytes: u64, rate: u64) -> u64 {
    u64::try_from(u128::from(bytes) * 8 * 1_000_000_000 / u128::from(rate)).unwrap_or(u64::MAX / 4)
}

/// Vigna's SplitMix64: one addition and three mixes a draw, and any seed will do.
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn arrivals(link: &mut Link, now: u64) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        link.deliver_due(now, &mut |f| out.push(f.to_vec()));
        out
    }

    #[test]
    fn a_delayed_frame_arrives_when_it_is_due_and_not_before() {
        let mut link = Link::new(&LinkConfig { delay: Duration::from_millis(5), ..LinkConfig::default() });
        assert_eq!(link.push(MS, b"one"), Verdict::Queued);
        assert_eq!(link.push(2 * MS, b"two"), Verdict::Queued);
        assert_eq!(link.next_deadline(), Some(6 * MS));
        assert!(arrivals(&mut link, 6 * MS - 1).is_empty());
        assert_eq!(arrivals(&mut link, 6 * MS), [b"one".to_vec()]);
        assert_eq!(arrivals(&mut link, 100 * MS), [b"two".to_vec()]);
        assert_eq!(link.next_deadline(), None);
    }

    #[test]
    fn the_same_seed_loses_the_same_frames_at_about_the_configured_chance() {
        let run = |seed| {
            let mut link = Link::new(&LinkConfig { loss: 0.1, seed, ..LinkConfig::default() });
            (0..10_000u64).map(|i| link.push(i, b"x")).collect::<Vec<_>>()
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
        let lost = run(1).iter().filter(|v| **v == Verdict::Lost).count();
        assert!((800..1200).contains(&lost), "{lost} of 10000 at 10%");
    }

    #[test]
    fn a_rate_spaces_frames_out_after_the_burst() {
        // 8 Mbit/s is 1 byte a microsecond.
        let mut link = Link::new(&LinkConfig { rate_bits_per_second: Some(8_000_000), ..LinkConfig::default() });
        let start = 1_000 * MS;
        let frame = [0u8; 1514];
        let mut due = Vec::new();
        for _ in 0..5 {
            assert_eq!(link.push(start, &frame), Verdict::Queued);
            due.push(link.in_flight.back().map(|f| f.due - start).unwrap());
        }
        assert_eq!(due, [0, 0, 1_514_000, 3_028_000, 4_542_000]);
    }

    #[test]
    fn a_full_queue_refuses_and_drains_with_time() {
        let config = LinkConfig { rate_bits_per_second: Some(8_000_000), queue_frames: 3, ..LinkConfig::default() };
        let mut link = Link::new(&config);
        let frame = [0u8; 1514];
        let verdicts: Vec<_> = (0..7).map(|_| link.push(1_000 * MS, &frame)).collect();
        // Two leave at once with the burst, three wait, the rest finds the queue full.
        assert_eq!(verdicts.iter().filter(|v| **v == Verdict::Queued).count(), 5);
        assert_eq!(verdicts[5..], [Verdict::QueueFull, Verdict::QueueFull]);
        assert_eq!(link.push(1_002 * MS, &frame), Verdict::Queued);
    }

    #[test]
    fn a_queue_is_not_filled_by_frames_that_are_merely_delayed() {
        let config = LinkConfig { delay: Duration::from_secs(1), queue_frames: 1, ..LinkConfig::default() };
        let mut link = Link::new(&config);
        for i in 0..5_000 {
            assert_eq!(link.push(i, b"x"), Verdict::Queued);
        }
        assert_eq!(arrivals(&mut link, 1_000_000_000 + 5_000).len(), 5_000);
    }
}
