//! The Vivaldi algorithm (SIGCOMM 2004, §2.5 adaptive time step, §5.4 height vectors).

use super::{Coordinate, DIMENSIONS, MAX_US};

/// How far a sample moves the coordinate at most (`c_c`), and the error estimate (`c_e`).
const STEP: f64 = 0.25;
/// The least height, µs: a height of zero could not grow again.
const LEAST_HEIGHT: f64 = 100.0;
/// Errors above this mean the same: nothing is known.
const MOST_ERROR: f64 = 1.0;
/// Round trips below this are taken for it, µs: a relative error against almost nothing is noise.
const LEAST_RTT: f64 = 200.0;

/// One node's own coordinate, moved by samples.
#[derive(Debug, Clone, PartialEq)]
pub struct Vivaldi {
    position: [f64; DIMENSIONS],
    height: f64,
    error: f64,
    /// For a direction when two nodes are at one place.
    random: u64,
}

impl Vivaldi {
    /// At the origin, knowing nothing.
    pub fn new(seed: u64) -> Self {
        Self { position: [0.0; DIMENSIONS], height: LEAST_HEIGHT, error: MOST_ERROR, random: seed | 1 }
    }

    /// Takes a measured round trip, µs, to a node with that coordinate.
    pub fn update(&mut self, rtt_us: f64, remote: &Coordinate) {
        let rtt = rtt_us.max(LEAST_RTT);
        let remote_error = (f64::from(remote.error_permille) / 1000.0).clamp(0.001, MOST_ERROR);
        let mut direction = [0.0; DIMENSIONS];
        for (d, (own, other)) in direction.iter_mut().zip(self.position.iter().zip(&remote.position)) {
            *d = own - f64::from(*other);
        }
        let mut length = norm(&direction);
        let heights = self.height + f64::from(remote.height);
        let distance = length + heights;
        // How sure we are beside the other.
        let weight = self.error / (self.error + remote_error);
        let off = (distance - rtt).abs() / rtt;
        self.error = (off * STEP * weight + self.error * (1.0 - STEP * weight)).clamp(0.001, MOST_ERROR);
        if length < 1.0 {
            direction = self.some_direction();
            length = norm(&direction);
        }
        let force = STEP * weight * (rtt - distance);
        for (own, d) in self.position.iter_mut().zip(&direction) {
            *own = (*own + force * d / length).clamp(-f64::from(MAX_US), f64::from(MAX_US));
        }
        // A force pushes heights apart in proportion to their part of the distance.
        if distance > 0.0 {
            let height = self.height + force * heights / distance;
            self.height = height.clamp(LEAST_HEIGHT, f64::from(MAX_US));
        }
    }

    /// As others may see it.
    pub fn coordinate(&self) -> Coordinate {
        Coordinate {
            position: self.position.map(|x| x.round() as i32),
            height: self.height.round() as u32,
            error_permille: (self.error * 1000.0).round() as u16,
        }
    }

    fn some_direction(&mut self) -> [f64; DIMENSIONS] {
        std::array::from_fn(|_| {
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            // In (-0.5, 0.5), and never exactly the middle.
            ((self.random >> 11) as f64 + 0.5) / (1_u64 << 53) as f64 - 0.5
        })
    }
}

fn norm(vector: &[f64; DIMENSIONS]) -> f64 {
    vector.iter().map(|x| x * x).sum::<f64>().sqrt()
}
