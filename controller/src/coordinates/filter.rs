//! The stability filters: what goes into a coordinate, and when it comes out (NSDI 2007, §4 and §5).

use std::collections::VecDeque;
use std::time::Duration;

use super::{Coordinate, DIMENSIONS};

/// Samples of one link that its moving percentile looks at, and which of them, in order, counts: the quarter (the paper's
/// MP filter with h = 4, p = 25).
const LINK_WINDOW: usize = 4;
const LINK_RANK: usize = 0;
/// Own coordinates that the published one is the middle of, and the time between two of them.
const CENTROID: usize = 16;
const CENTROID_EVERY: Duration = Duration::from_secs(1);
/// A coordinate is published when it moved by this share of the distance to the nearest neighbour (RELATIVE) …
pub const RELATIVE_CHANGE: f64 = 0.3;
/// … and by at least this: less moves no choice.
const LEAST_CHANGE_US: f64 = 1_000.0;
/// Or when its error changed by this.
const ERROR_CHANGE: u16 = 150;
/// Between two publications of one gateway.
pub const PUBLISH_EVERY: Duration = Duration::from_secs(10);

/// Turns the round trips of one link into quieter ones.
#[derive(Debug, Clone, Default)]
pub(super) struct Quiet(VecDeque<u64>);

impl Quiet {
    /// Takes a sample, gives the one to use.
    pub fn next(&mut self, rtt_us: u64) -> u64 {
        if self.0.len() == LINK_WINDOW {
            self.0.pop_front();
        }
        self.0.push_back(rtt_us);
        let mut sorted: Vec<_> = self.0.iter().copied().collect();
        sorted.sort_unstable();
        sorted[LINK_RANK]
    }
}

/// Decides when a coordinate has moved enough to tell others.
#[derive(Debug, Clone, Default)]
pub(super) struct Publisher {
    recent: VecDeque<Coordinate>,
    next_add: Duration,
    published: Option<Coordinate>,
    next: Duration,
}

impl Publisher {
    pub fn add(&mut self, now: Duration, coordinate: Coordinate) {
        if now < self.next_add {
            return;
        }
        self.next_add = now + CENTROID_EVERY;
        if self.recent.len() == CENTROID {
            self.recent.pop_front();
        }
        self.recent.push_back(coordinate);
    }

    /// What is to be published now, if anything; `nearest_us` is the distance to the nearest neighbour.
    pub fn due(&mut self, now: Duration, nearest_us: Option<u64>) -> Option<Coordinate> {
        if now < self.next || self.recent.len() < CENTROID / 2 {
            return None;
        }
        let centroid = self.centroid()?;
        if let Some(old) = &self.published {
            let moved = shift(old, &centroid);
            let matters = nearest_us.map_or(0.0, |us| us as f64 * RELATIVE_CHANGE).max(LEAST_CHANGE_US);
            if moved <= matters && old.error_permille.abs_diff(centroid.error_permille) <= ERROR_CHANGE {
                return None;
            }
        }
        self.published = Some(centroid);
        self.next = now + PUBLISH_EVERY;
        Some(centroid)
    }

    /// The last publication reached nobody.
    pub fn failed(&mut self) {
        self.published = None;
    }

    fn centroid(&self) -> Option<Coordinate> {
        let count = i64::try_from(self.recent.len()).ok().filter(|&n| n > 0)?;
        let mean = |get: &dyn Fn(&Coordinate) -> i64| self.recent.iter().map(get).sum::<i64>() / count;
        Some(Coordinate {
            position: std::array::from_fn(|d| mean(&|c| c.position[d].into()) as i32),
            height: u32::try_from(mean(&|c| c.height.into())).unwrap_or(0),
            // The last is the best: errors fall while a node finds its place.
            error_permille: self.recent.back()?.error_permille,
        })
    }
}

/// How far a coordinate is from where it was, µs.
fn shift(old: &Coordinate, new: &Coordinate) -> f64 {
    let square: f64 = (0..DIMENSIONS).map(|d| (f64::from(old.position[d]) - f64::from(new.position[d])).powi(2)).sum();
    square.sqrt() + f64::from(old.height.abs_diff(new.height))
}
