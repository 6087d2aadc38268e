//! What a run's cluster is configured to do, drawn from its seed.

use std::fmt::Write;

use dmux_controller::model::Policy;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

/// Seconds that a router which has stopped to flap is suppressed at most.
const MAX_SUPPRESS_S: u32 = 8;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setup {
    /// Routers that flap are held out.
    pub dampening: bool,
    /// Routers drain, by their own wish or an operator's.
    pub draining: bool,
    /// Keys are revoked.
    pub revocation: bool,
    /// Distances are reckoned from coordinates.
    pub coordinates: bool,
    /// Each site's access LAN has an endpoint with a metalink.
    pub endpoints: bool,
    /// How routers of protocols 41 and 42 are chosen.
    pub policies: [Policy; 2],
    /// Buckets of a set.
    pub buckets: u16,
}

impl Setup {
    /// The paper's protocol, and nothing more.
    pub const PLAIN: Self = Self {
        dampening: false,
        draining: false,
        revocation: false,
        coordinates: false,
        endpoints: false,
        policies: [Policy::Closest, Policy::Closest],
        buckets: 256,
    };

    /// Each of them in some seeds.
    pub fn draw(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed ^ 0x5e7);
        let mut policy = || {
            let of = [Policy::Closest, Policy::Closest, Policy::ClosestRouter, Policy::Weighted];
            of.choose(&mut random).copied().unwrap_or_default()
        };
        let policies = [policy(), policy()];
        Self {
            dampening: random.random_bool(0.3),
            draining: random.random_bool(0.3),
            revocation: random.random_bool(0.3),
            coordinates: random.random_bool(0.2),
            endpoints: random.random_bool(0.3),
            policies,
            // Few, mostly: plans of all sizes go the same ways, and small ones are faster.
            buckets: if random.random_bool(0.2) { 256 } else { 16 },
        }
    }

    /// What stands in the file of a controller, after `[dmux]`.
    pub fn dmux(&self) -> String {
        let mut text = String::from("drain_learn_ms = 1500\ndrain_idle_ms = 2000\n");
        if self.coordinates {
            text.push_str("all_pairs_up_to = 2\n");
        }
        let suppress = if self.dampening { 2_000 } else { 0 };
        let _ = write!(
            text,
            "[dmux.dampening]\nsuppress = {suppress}\nreuse = 1000\nhalf_life_s = 4\nmax_suppress_s = {MAX_SUPPRESS_S}\n"
        );
        for (protocol, policy) in [41, 42].into_iter().zip(self.policies) {
            let _ = write!(
                text,
                "[dmux.protocols.{protocol}]\nbuckets = {}\npolicy = \"{policy}\"\nmargin_ms = 20\n",
                self.buckets
            );
        }
        text
    }
}
