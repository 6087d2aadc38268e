//! A thousand gateways in simulated time: they come, measure all pairs, switch over to coordinates, and go again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use dmux_wire::GatewayId;

use super::super::{Mapper, NEAR, PUBLISH_EVERY, RANDOM};
use crate::model::{Command, Gateway, Model};
use crate::probing::{ProbeTimers, Prober, Stamps};
use crate::selection::{Distance, Distances, Local};

const LIMIT: usize = 64;
const COUNT: u16 = 1000;

fn hash(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Round trips of a made-up Internet: towns on a map of 120 by 60 ms, access links of up to 5 ms, paths that are up to
/// 30 % longer than the map says (and so break the triangle inequality).
fn rtt_us(a: GatewayId, b: GatewayId) -> u64 {
    let place = |id: GatewayId| {
        let town = hash(u64::from(id.0) / 8);
        let offset = hash(u64::from(id.0) + 7_000);
        let (x, y) = (town % 120_000 + offset % 2_000, (town >> 20) % 60_000 + (offset >> 20) % 2_000);
        (x as f64, y as f64, 200 + (offset >> 40) % 5_000)
    };
    let ((ax, ay, ah), (bx, by, bh)) = (place(a), place(b));
    let ground = ((ax - bx).powi(2) + (ay - by).powi(2)).sqrt() as u64;
    let detour = hash(u64::from(a.0.min(b.0)) << 16 | u64::from(a.0.max(b.0))) % 300;
    ground + ground * detour / 1000 + ah + bh
}

struct World {
    model: Model,
    mappers: BTreeMap<GatewayId, Mapper>,
    now: Duration,
    probes: u64,
    writes: u64,
}

impl World {
    fn gateway(&mut self, id: u16) {
        let unicast = Ipv4Addr::new(10, 0, (id >> 8) as u8, id as u8);
        let gateway =
            Gateway { id: GatewayId(id), name: format!("g{id}"), unicast, api: String::new(), node: id.into() };
        self.apply(Command::PutGateway { at: 0, gateway });
        self.mappers.insert(GatewayId(id), Mapper::new(GatewayId(id), id.into()));
    }

    fn apply(&mut self, command: Command) {
        let reply = self.model.apply(self.model.applied() + 1, &command);
        assert_eq!(reply.refusal(), None);
    }

    /// Everybody probes those it chose, once a second; publications are replicated at the end of the second.
    fn run(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now += Duration::from_secs(1);
            let all: Vec<_> = self.model.gateways().map(|g| (g.id, self.model.coordinate(g.id).copied())).collect();
            let coordinates: BTreeMap<_, _> = all.iter().filter_map(|&(id, c)| Some((id, c?))).collect();
            let mut published = Vec::new();
            for (&id, mapper) in &mut self.mappers {
                let chosen = mapper.neighbours(self.now, &all, LIMIT);
                self.probes += chosen.len() as u64;
                for to in chosen {
                    let noise = hash(self.now.as_secs() << 32 | u64::from(id.0) << 16 | u64::from(to.0));
                    // One of ten answers is slow.
                    let delay = if noise.is_multiple_of(10) { (noise >> 8) % 80_000 } else { (noise >> 8) % 500 };
                    let rtt = Duration::from_micros(rtt_us(id, to) + delay);
                    mapper.sample(self.now, to, rtt, coordinates.get(&to));
                }
                published.extend(mapper.publish(self.now).map(|c| (id, c)));
            }
            for (from, coordinate) in published {
                self.writes += 1;
                self.apply(Command::RecordCoordinate { at: self.now.as_millis() as u64, from, coordinate });
            }
        }
    }

    fn active(&self) -> usize {
        self.mappers.values().filter(|m| m.is_active()).count()
    }
}

#[test]
fn a_thousand_gateways_switch_over_to_coordinates_and_back_at_a_bounded_cost() {
    let zero = Duration::ZERO;
    let mut world = World { model: Model::new(), mappers: BTreeMap::new(), now: zero, probes: 0, writes: 0 };
    (1..=LIMIT as u16).for_each(|id| world.gateway(id));
    world.run(30);
    assert_eq!((world.active(), world.writes), (0, 0), "all pairs are probed, nothing is published");
    assert_eq!(world.probes, 30 * LIMIT as u64 * (LIMIT as u64 - 1));

    (LIMIT as u16 + 1..=COUNT).for_each(|id| world.gateway(id));
    (world.probes, world.writes) = (0, 0);
    world.run(200);
    assert_eq!(world.active(), usize::from(COUNT));
    let per_gateway = world.probes / 200 / u64::from(COUNT);
    assert!(per_gateway <= (NEAR + RANDOM) as u64, "{per_gateway} probes a second");
    // While all find their places, none writes more often than it may.
    let most = u64::from(COUNT) * 200 / PUBLISH_EVERY.as_secs();
    assert!(world.writes <= most, "{} of {most}", world.writes);
    world.run(200);
    world.writes = 0;
    world.run(120);
    assert!(world.writes <= u64::from(COUNT), "{} writes in two minutes when all is calm", world.writes);

    // Distances that nobody measured.
    let mut errors = Vec::new();
    for own in (1..=COUNT).step_by(50).map(GatewayId) {
        let local = Local { by_coordinates: true, ..Local::new(own) };
        let distances = Distances::new(&world.model, &local);
        for other in (1..=COUNT).map(GatewayId).filter(|&other| other != own) {
            let Distance::Measured(us) = distances.to(other) else {
                panic!("{own} {other}: {:?}", distances.to(other))
            };
            let real = rtt_us(own, other) as f64;
            errors.push((us as f64 - real).abs() / real);
        }
    }
    errors.sort_by(f64::total_cmp);
    let (median, p90) = (errors[errors.len() / 2], errors[errors.len() * 9 / 10]);
    assert!(median < 0.15 && p90 < 0.40, "relative error: median {median}, p90 {p90}");

    let leave = |world: &mut World, ids: std::ops::RangeInclusive<u16>| {
        for id in ids {
            world.apply(Command::RemoveGateway { at: 0, gateway: GatewayId(id) });
            world.mappers.remove(&GatewayId(id));
        }
        world.run(2);
        world.active()
    };
    assert_eq!(leave(&mut world, 58..=COUNT), 57, "a few fewer than the limit are no reason");
    assert_eq!(leave(&mut world, 57..=57), 0);
    assert_eq!(world.model.coordinate(GatewayId(900)), None, "what is gone is forgotten");
    world.probes = 0;
    world.run(1);
    assert_eq!(world.probes, 56 * 55, "all pairs again");
}

#[test]
fn the_prober_of_one_of_a_thousand_keeps_its_rate_and_only_asks_the_chosen() {
    let address = |id: GatewayId| Ipv4Addr::new(10, 0, (id.0 >> 8) as u8, id.0 as u8);
    let gateways: Vec<_> = (1..=COUNT).map(|id| (GatewayId(id), None)).collect();
    let mut mapper = Mapper::new(GatewayId(1), 1);
    let mut prober = Prober::new(ProbeTimers::default(), 1);
    let watched = BTreeSet::from([GatewayId(77), GatewayId(78)]);
    let peers = mapper.neighbours(Duration::ZERO, &gateways, LIMIT);
    prober.set_peers(Duration::ZERO, peers.union(&watched).map(|&id| (id, address(id))));
    prober.watch(Duration::ZERO, &watched);
    let mut sent = 0;
    let mut now = Duration::ZERO;
    while now < Duration::from_secs(10) {
        let (probes, due) = prober.tick(now);
        sent += probes.len();
        for probe in probes {
            let stamps = Stamps { out: 0, reflect_in: 0, reflect_out: 0, back: rtt_us(GatewayId(1), probe.to) };
            prober.reply(now, probe.address, probe.sequence, &stamps).unwrap();
        }
        now = due.unwrap().max(now);
    }
    // 25 a second to each watched one, 1 to each neighbour.
    assert!((700..=900).contains(&sent), "{sent} in ten seconds");
}
