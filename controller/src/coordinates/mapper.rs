use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dmux_wire::GatewayId;

use super::filter::{Publisher, Quiet};
use super::neighbours::{RECHOOSE, choose};
use super::{Coordinate, Vivaldi, by_coordinates};

/// Between two samples of one link that move the coordinate: a link that is probed more often must not pull harder.
const SAMPLE_EVERY: Duration = Duration::from_millis(900);

#[derive(Debug, Clone, Default)]
struct Link {
    quiet: Quiet,
    next: Duration,
    rtt_us: u64,
}

/// One gateway's part in the map: whom it probes, where it is, and what it tells the others. See the [module](super).
#[derive(Debug)]
pub struct Mapper {
    own: GatewayId,
    seed: u64,
    active: bool,
    vivaldi: Vivaldi,
    links: BTreeMap<GatewayId, Link>,
    publisher: Publisher,
    chosen: BTreeSet<GatewayId>,
    next_choice: Duration,
    /// How many there were at the last choice.
    gateways: usize,
}

impl Mapper {
    /// A gateway that knows nothing. Different seeds choose different neighbours.
    pub fn new(own: GatewayId, seed: u64) -> Self {
        Self {
            own,
            seed,
            active: false,
            vivaldi: Vivaldi::new(seed),
            links: BTreeMap::new(),
            publisher: Publisher::default(),
            chosen: BTreeSet::new(),
            next_choice: Duration::ZERO,
            gateways: 0,
        }
    }

    /// Whether distances are computed from coordinates, because there are too many gateways to probe all.
    pub fn is_active(&self) -> bool {
        self.active
    }

    /// Own coordinate.
    pub fn coordinate(&self) -> Coordinate {
        self.vivaldi.coordinate()
    }

    /// Whom to probe, given all gateways with what each has published, and the number of gateways up to which all
    /// are probed. Cheap, except when neighbours are chosen anew: after [`RECHOOSE`], or when gateways came or went.
    pub fn neighbours(
        &mut self,
        now: Duration,
        gateways: &[(GatewayId, Option<Coordinate>)],
        all_pairs_up_to: usize,
    ) -> BTreeSet<GatewayId> {
        self.active = by_coordinates(self.active, gateways.len(), all_pairs_up_to);
        if !self.active {
            self.chosen.clear();
            return gateways.iter().map(|(id, _)| *id).filter(|&id| id != self.own).collect();
        }
        if self.chosen.is_empty() || self.gateways != gateways.len() || now >= self.next_choice {
            (self.next_choice, self.gateways) = (now + RECHOOSE, gateways.len());
            let own = self.coordinate();
            let distance = |id: &GatewayId, theirs: &Option<Coordinate>| match self.links.get(id) {
                Some(link) => Some(link.rtt_us),
                None => theirs.map(|theirs| own.distance_us(&theirs)),
            };
            let others = gateways.iter().filter(|(id, _)| *id != self.own);
            let known: Vec<_> = others.map(|(id, theirs)| (*id, distance(id, theirs))).collect();
            self.chosen = choose(self.seed, &known);
            self.links.retain(|id, _| self.chosen.contains(id));
        }
        self.chosen.clone()
    }

    /// Takes a measured round trip to another gateway and the coordinate that it has published, if any.
    pub fn sample(&mut self, now: Duration, to: GatewayId, rtt: Duration, theirs: Option<&Coordinate>) {
        if !self.active {
            return;
        }
        let link = self.links.entry(to).or_default();
        if now < link.next {
            return;
        }
        link.next = now + SAMPLE_EVERY;
        link.rtt_us = link.quiet.next(u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX));
        if let Some(theirs) = theirs {
            self.vivaldi.update(link.rtt_us as f64, theirs);
        }
        self.publisher.add(now, self.vivaldi.coordinate());
    }

    /// The coordinate that is to be published now, if it has moved enough.
    pub fn publish(&mut self, now: Duration) -> Option<Coordinate> {
        if !self.active {
            return None;
        }
        let nearest = self.links.values().map(|link| link.rtt_us).min();
        self.publisher.due(now, nearest)
    }

    /// The last publication did not reach the cluster.
    pub fn publish_failed(&mut self) {
        self.publisher.failed();
    }
}
