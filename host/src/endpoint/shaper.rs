//! Keeps a metalink's frames within its rate, and waits for it rather than dropping what comes in bursts.

use std::collections::VecDeque;
use std::time::Duration;

/// Frames that may wait, in bytes: a tenth of a second at 20 Mbit/s.
const MAX_WAITING: usize = 256 * 1024;
/// How far ahead of its rate it may be: what a timer's granularity would otherwise cost. A gateway's meter allows more.
const BURST: Duration = Duration::from_millis(5);
const NANOS: u128 = 1_000_000_000;

/// A queue that is emptied at a rate (a virtual scheduling algorithm, as in ITU-T I.371): pure.
#[derive(Debug, Default)]
pub struct Shaper {
    /// Bits a second; 0: nothing may go.
    rate: u64,
    /// When the link would be free if everything had gone at its rate.
    free: Duration,
    waiting: VecDeque<Vec<u8>>,
    bytes: usize,
}

impl Shaper {
    /// From now on frames go at this rate, bit/s.
    pub fn set_rate(&mut self, rate: u64) {
        self.rate = rate;
    }

    /// Takes a frame; `false` if too much waits already, and this one is dropped.
    #[must_use]
    pub fn push(&mut self, frame: Vec<u8>) -> bool {
        if self.bytes + frame.len() > MAX_WAITING {
            return false;
        }
        self.bytes += frame.len();
        self.waiting.push_back(frame);
        true
    }

    /// The next frame, if it may go now.
    pub fn pop(&mut self, now: Duration) -> Option<Vec<u8>> {
        if self.due()? > now {
            return None;
        }
        let frame = self.waiting.pop_front()?;
        self.bytes -= frame.len();
        let nanos = frame.len() as u128 * 8 * NANOS / u128::from(self.rate);
        let takes = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.free = self.free.max(now).saturating_add(takes);
        Some(frame)
    }

    /// When the next frame may go; `None` if none waits, or nothing may.
    pub fn due(&self) -> Option<Duration> {
        (self.rate > 0 && !self.waiting.is_empty()).then(|| self.free.saturating_sub(BURST))
    }

    /// Drops what waits: there is no metalink any more. Returns how many frames that were.
    pub fn clear(&mut self) -> u64 {
        self.bytes = 0;
        self.waiting.drain(..).count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn frames_go_at_the_rate_and_one_always_goes_at_once() {
        let mut shaper = Shaper::default();
        assert!(shaper.push(vec![0; 1250]));
        assert_eq!((shaper.due(), shaper.pop(Duration::MAX)), (None, None), "without a rate nothing goes");
        shaper.set_rate(1_000_000);
        let start = Duration::from_secs(5);
        assert!(shaper.pop(start).is_some());
        assert!(shaper.push(vec![1; 1250]));
        assert_eq!(shaper.due(), Some(start + Duration::from_millis(5)), "10 ms a frame, 5 of them ahead");
        assert_eq!(shaper.pop(start + Duration::from_micros(4999)), None);
        assert_eq!(shaper.pop(start + Duration::from_millis(5)), Some(vec![1; 1250]));
    }

    #[test]
    fn what_waits_is_bounded_and_forgotten_with_the_metalink() {
        let mut shaper = Shaper::default();
        assert!((0..256).all(|_| shaper.push(vec![0; 1024])));
        assert!(!shaper.push(vec![0]));
        assert_eq!(shaper.clear(), 256);
        assert!(shaper.push(vec![0]));
    }

    proptest! {
        /// Over any time, no more than the rate, the burst and one frame.
        #[test]
        fn the_rate_is_kept(
            rate in 10_000u64..1_000_000_000, steps in prop::collection::vec((0u64..20_000, 60usize..1500), 1..200),
        ) {
            let mut shaper = Shaper::default();
            shaper.set_rate(rate);
            let mut now = Duration::from_secs(1);
            let mut gone: Vec<(Duration, u64)> = Vec::new();
            for (micros, length) in steps {
                now += Duration::from_micros(micros);
                let _ = shaper.push(vec![0; length]);
                while let Some(frame) = shaper.pop(now) {
                    gone.push((now, frame.len() as u64 * 8));
                }
            }
            for first in 0..gone.len() {
                let mut bits = 0;
                for (at, length) in &gone[first..] {
                    let may = (*at - gone[first].0 + BURST).as_secs_f64() * rate as f64;
                    prop_assert!(bits as f64 <= may + 1.0, "{bits} bits before the last frame, {may} allowed");
                    bits += length;
                }
            }
        }
    }
}
