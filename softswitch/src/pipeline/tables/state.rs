//! Counters, meters and registers: state that packets change.

use super::super::entry::{ColourCounts, CounterValue, MeterConfig};
use super::super::info::MeterUnit;
use num_bigint::BigUint;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A counter cell.
#[derive(Debug, Default)]
pub(crate) struct Counter {
    packets: AtomicU64,
    bytes: AtomicU64,
}

impl Counter {
    #[inline]
    pub(crate) fn count(&self, bytes: u64) {
        self.packets.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> CounterValue {
        CounterValue { packets: self.packets.load(Ordering::Relaxed), bytes: self.bytes.load(Ordering::Relaxed) }
    }

    pub(crate) fn write(&self, v: CounterValue) {
        self.packets.store(v.packets, Ordering::Relaxed);
        self.bytes.store(v.bytes, Ordering::Relaxed);
    }
}

/// Colours in the order in which a packet gets worse.
pub(crate) const GREEN: u64 = 0;
const YELLOW: u64 = 1;
const RED: u64 = 2;

/// What makes tokens, with BMv2's arithmetic: they are counted from time 0, so that no rounding adds up.
#[derive(Debug, Clone, Copy)]
struct Source {
    per_second: u64,
    /// Tokens produced from time 0 to the last packet.
    produced: u64,
}

impl Source {
    fn new(per_second: u64) -> Self {
        Self { per_second, produced: 0 }
    }

    /// The tokens since it was asked last.
    fn new_tokens(&mut self, now_us: u64) -> u64 {
        let produced = match now_us.checked_mul(self.per_second) {
            Some(n) => n / 1_000_000,
            None => (u128::from(now_us) * u128::from(self.per_second) / 1_000_000).min(u128::from(u64::MAX)) as u64,
        };
        // Several workers may bring slightly older times.
        let new = produced.saturating_sub(self.produced);
        self.produced = self.produced.max(produced);
        new
    }
}

/// A token bucket, full at first.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    burst: u64,
    tokens: u64,
}

impl Bucket {
    fn new(burst: u64) -> Self {
        Self { burst, tokens: burst }
    }

    /// Fills in tokens; returns those that there is no room for.
    fn fill(&mut self, new: u64) -> u64 {
        let taken = new.min(self.burst - self.tokens);
        self.tokens += taken;
        new - taken
    }

    /// Takes `cost` tokens if there are as many.
    fn take(&mut self, cost: u64) -> bool {
        let enough = self.tokens >= cost;
        if enough {
            self.tokens -= cost;
        }
        enough
    }
}

/// What colours packets.
#[derive(Debug, Clone, Copy)]
enum Marker {
    /// RFC 2698, as BMv2 has it: a red packet leaves the committed bucket alone.
    TwoRates { peak: (Source, Bucket), committed: (Source, Bucket) },
    /// RFC 2697: what the committed bucket has no room for goes into the other one.
    OneRate { source: Source, committed: Bucket, excess: Bucket },
}

impl Marker {
    fn new(config: MeterConfig) -> Self {
        let pair = |rate, burst| (Source::new(rate), Bucket::new(burst));
        match config {
            MeterConfig::TwoRates { cir, cburst, pir, pburst } => {
                Self::TwoRates { peak: pair(pir, pburst), committed: pair(cir, cburst) }
            }
            MeterConfig::OneRate { cir, cburst, eburst } => {
                Self::OneRate { source: Source::new(cir), committed: Bucket::new(cburst), excess: Bucket::new(eburst) }
            }
        }
    }

    fn mark(&mut self, now_us: u64, cost: u64) -> u64 {
        let take = |(source, bucket): &mut (Source, Bucket)| {
            bucket.fill(source.new_tokens(now_us));
            bucket.take(cost)
        };
        match self {
            Self::TwoRates { peak, committed } => match take(peak) {
                false => RED,
                true if take(committed) => GREEN,
                true => YELLOW,
            },
            Self::OneRate { source, committed, excess } => {
                let over = committed.fill(source.new_tokens(now_us));
                excess.fill(over);
                match committed.take(cost) {
                    true => GREEN,
                    false if excess.take(cost) => YELLOW,
                    false => RED,
                }
            }
        }
    }
}

/// What a meter cell knows.
#[derive(Debug, Default)]
struct Cell {
    rates: Option<(MeterConfig, Marker)>,
    /// Frames and bytes that it marked green, yellow, red.
    marked: [CounterValue; 3],
}

/// A meter cell, colour-blind. Not configured, all is green.
///
/// Tokens come at the rates whatever the times between packets, so what passes in a time T is the rate times T, and the
/// burst at the most, to the byte; but a bucket holds no more than its burst, so it must be as large as what the rate
/// brings between two looks at the clock (a worker looks once for each batch of frames).
#[derive(Debug, Default)]
pub(crate) struct Meter(Mutex<Cell>);

impl Meter {
    fn cell(&self) -> MutexGuard<'_, Cell> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn execute(&self, unit: MeterUnit, bytes: u64, now_us: u64) -> u64 {
        let mut cell = self.cell();
        let cost = match unit {
            MeterUnit::Bytes => bytes,
            MeterUnit::Packets => 1,
        };
        let colour = cell.rates.as_mut().map_or(GREEN, |(_, marker)| marker.mark(now_us, cost));
        let marked = &mut cell.marked[colour as usize];
        marked.packets = marked.packets.wrapping_add(1);
        marked.bytes = marked.bytes.wrapping_add(bytes);
        colour
    }

    pub(crate) fn config(&self) -> Option<MeterConfig> {
        self.cell().rates.map(|(config, _)| config)
    }

    /// Sets the rates, with full buckets. What was marked stays.
    pub(crate) fn configure(&self, config: Option<MeterConfig>) {
        self.cell().rates = config.map(|c| (c, Marker::new(c)));
    }

    /// What was marked, by colour.
    pub(crate) fn marked(&self) -> ColourCounts {
        let [green, yellow, red] = self.cell().marked;
        ColourCounts { green, yellow, red }
    }

    /// Counts from 0 again.
    pub(crate) fn forget_marked(&self) {
        self.cell().marked = [CounterValue::default(); 3];
    }

    /// As new.
    pub(crate) fn reset(&self) {
        *self.cell() = Cell::default();
    }
}

/// A register array. A cell of more than 64 bits takes several words and a lock.
#[derive(Debug)]
pub(crate) struct Register {
    width: u32,
    cells: Box<[AtomicU64]>,
    lock: Mutex<()>,
}

impl Register {
    pub(crate) fn new(size: usize, width: u32) -> Self {
        let cells = (0..size * width.div_ceil(64) as usize).map(|_| AtomicU64::new(0)).collect();
        Self { width, cells, lock: Mutex::new(()) }
    }

    /// Bits of a cell.
    pub(crate) fn width(&self) -> u32 {
        self.width
    }

    /// A cell, of a register of at most 64 bits.
    #[inline]
    pub(crate) fn get(&self, i: usize) -> Option<&AtomicU64> {
        self.cells.get(i)
    }

    /// Sets all cells to 0.
    pub(crate) fn clear(&self) {
        self.cells.iter().for_each(|c| c.store(0, Ordering::Relaxed));
    }

    fn words(&self, i: usize) -> Option<&[AtomicU64]> {
        let n = self.width.div_ceil(64) as usize;
        let at = i.checked_mul(n)?;
        self.cells.get(at..at + n)
    }

    /// The value of a cell, if there is such a cell.
    pub(crate) fn read(&self, i: usize) -> Option<BigUint> {
        let words = self.words(i)?;
        let _one_at_a_time = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.load(Ordering::Relaxed).to_le_bytes()).collect();
        Some(BigUint::from_bytes_le(&bytes))
    }

    /// Sets a cell, if there is such a cell; the value is cut to its width.
    pub(crate) fn write(&self, i: usize, v: &BigUint) -> bool {
        let Some(words) = self.words(i) else { return false };
        let cut = v % (BigUint::from(1u8) << self.width);
        let mut digits = cut.iter_u64_digits();
        let _one_at_a_time = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        words.iter().for_each(|w| w.store(digits.next().unwrap_or(0), Ordering::Relaxed));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meter_without_configuration_is_green() {
        assert_eq!(Meter::default().execute(MeterUnit::Bytes, u64::MAX, 0), GREEN);
    }

    #[test]
    fn bursts_then_rates_decide_the_colour() {
        let m = Meter::default();
        m.configure(Some(MeterConfig::TwoRates { cir: 1, cburst: 2, pir: 10, pburst: 4 }));
        let colours: Vec<u64> = (0..6).map(|_| m.execute(MeterUnit::Packets, 60, 0)).collect();
        assert_eq!(colours, [GREEN, GREEN, YELLOW, YELLOW, RED, RED]);
        // 100 ms later the peak bucket has one token, the committed one none.
        assert_eq!(m.execute(MeterUnit::Packets, 60, 100_000), YELLOW);
        assert_eq!(m.execute(MeterUnit::Packets, 60, 100_000), RED);
        // A second later the committed bucket has one, too.
        assert_eq!(m.execute(MeterUnit::Packets, 60, 1_100_000), GREEN);
        assert_eq!(m.execute(MeterUnit::Packets, 60, 1_100_000), YELLOW);
    }

    #[test]
    fn the_rate_is_kept_over_time_whatever_the_packet_sizes() {
        let m = Meter::default();
        m.configure(Some(MeterConfig::TwoRates { cir: 125_000, cburst: 3000, pir: 125_000, pburst: 3000 }));
        let (mut passed, mut now) = (0, 0);
        for i in 0..100_000u64 {
            let len = 60 + i * 7919 % 1400;
            now += 100;
            if m.execute(MeterUnit::Bytes, len, now) == GREEN {
                passed += len;
            }
        }
        let fair = 125_000 * 10;
        assert!(passed <= fair + 3000 && passed + 1500 >= fair, "{passed} of {fair}");
    }

    /// RFC 2697: green while the committed burst lasts, yellow while the excess burst does; the rate fills the first
    /// before the second.
    #[test]
    fn one_rate_fills_the_committed_burst_and_then_the_excess() {
        let m = Meter::default();
        m.configure(Some(MeterConfig::OneRate { cir: 10, cburst: 2, eburst: 3 }));
        let colours = |n: u32, now| (0..n).map(|_| m.execute(MeterUnit::Packets, 60, now)).collect::<Vec<_>>();
        assert_eq!(colours(6, 0), [GREEN, GREEN, YELLOW, YELLOW, YELLOW, RED]);
        // 100 ms a token: it is for the committed burst as long as there is room.
        assert_eq!(colours(2, 100_000), [GREEN, RED]);
        assert_eq!(colours(3, 300_000), [GREEN, GREEN, RED]);
        // Four tokens: two fill the first, two go over into the second.
        assert_eq!(colours(5, 700_000), [GREEN, GREEN, YELLOW, YELLOW, RED]);
        // Both are full in the end, and hold no more.
        assert_eq!(colours(6, 60_000_000), [GREEN, GREEN, YELLOW, YELLOW, YELLOW, RED]);
        // A frame that is too long for the committed burst leaves it as it is.
        m.configure(Some(MeterConfig::OneRate { cir: 8, cburst: 100, eburst: 200 }));
        let bytes: Vec<u64> = [150, 100, 60, 50].map(|n| m.execute(MeterUnit::Bytes, n, 61_000_000)).into();
        assert_eq!(bytes, [YELLOW, GREEN, RED, YELLOW]);
    }

    /// P4Runtime §9.4: what a meter with one rate and two colours accepts means the same for the two other types.
    #[test]
    fn one_rate_and_two_colours_are_the_same_for_all_types() {
        let (one, two) = (Meter::default(), Meter::default());
        one.configure(Some(MeterConfig::OneRate { cir: 5000, cburst: 2000, eburst: 0 }));
        two.configure(Some(MeterConfig::TwoRates { cir: 5000, cburst: 2000, pir: 5000, pburst: 2000 }));
        let (mut now, mut seen) = (0, [0; 3]);
        for i in 0..10_000u64 {
            now += i * 7919 % 100_000;
            let len = 60 + i * 104_729 % 1400;
            let colour = one.execute(MeterUnit::Bytes, len, now);
            assert_eq!(two.execute(MeterUnit::Bytes, len, now), colour, "frame {i}");
            seen[colour as usize] += 1;
        }
        assert!(seen[0] > 100 && seen[2] > 100 && seen[1] == 0, "{seen:?}");
    }

    #[test]
    fn time_that_goes_back_gives_no_tokens() {
        let m = Meter::default();
        m.configure(Some(MeterConfig::TwoRates { cir: 1000, cburst: 1, pir: 1000, pburst: 1 }));
        assert_eq!(m.execute(MeterUnit::Packets, 1, 10_000_000), GREEN);
        assert_eq!(m.execute(MeterUnit::Packets, 1, 1), RED);
        assert_eq!(m.execute(MeterUnit::Packets, 1, 10_000_000), RED);
    }
}
