//! The optimizer changes nothing but the speed: programs as they are compiled for use, and as they are without it, get the
//! same entries and frames, and must do the same.

mod pipeline_support;

use dmux_softswitch::pipeline::{ActionCall, Dataplane, EntrySpec, MatchKind, MatchValue, Program, TableIx, Worker};
use pipeline_support::{Still, gateway};
use proptest::prelude::*;
use std::sync::Arc;

/// Values at which the programs decide something, so that entries and frames meet.
const POOL: [u128; 24] = [
    0,
    1,
    2,
    3,
    4,
    5,
    7,
    17,
    41,
    64,
    255,
    510,
    511,
    1500,
    0x0800,
    0x0806,
    gateway::DMUX_PORT as u128,
    gateway::CLIENT as u128,
    gateway::SERVICE as u128,
    gateway::GATEWAY as u128,
    gateway::ROUTER as u128,
    gateway::GATEWAY_MAC as u128,
    gateway::NEXT_MAC as u128,
    u128::MAX,
];

/// Deterministic choices out of one seed.
struct Choices(u64);

impl Choices {
    fn below(&mut self, n: usize) -> usize {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ z >> 31) % n as u64) as usize
    }
    fn value(&mut self, width: u32) -> u128 {
        let all = if width >= 128 { u128::MAX } else { (1 << width) - 1 };
        POOL[self.below(POOL.len())] & all
    }
}

/// The same program twice: as it is used, and without the optimizer.
fn both(json: &[u8]) -> [Dataplane; 2] {
    [Program::compile(json), Program::compile_plainly(json)].map(|p| match p {
        Ok(p) => Dataplane::new(p, Arc::new(Still(1_000_000))),
        Err(e) => panic!("the program does not load: {e}"),
    })
}

fn entry(p: &Program, t: usize, c: &mut Choices) -> EntrySpec {
    let info = &p.tables()[t];
    let key = info.key.iter().map(|f| {
        let all = if f.width >= 128 { u128::MAX } else { (1 << f.width) - 1 };
        let v = c.value(f.width);
        match f.kind {
            MatchKind::Exact => MatchValue::Exact(v),
            MatchKind::Lpm => {
                let prefix_len = c.below(f.width as usize + 1) as u32;
                let mask = if prefix_len == 0 { 0 } else { all << (f.width - prefix_len) & all };
                MatchValue::Lpm { value: v & mask, prefix_len }
            }
            MatchKind::Ternary => {
                let mask = if c.below(2) == 0 { 0 } else { all };
                MatchValue::Ternary { value: v & mask, mask }
            }
            MatchKind::Range => MatchValue::Range { low: v.min(3), high: v },
            MatchKind::Optional => MatchValue::Optional((c.below(2) == 0).then_some(v)),
        }
    });
    let key = key.collect();
    let action = info.actions[c.below(info.actions.len())];
    let args = p.actions()[action.0].params.iter().map(|p| c.value(p.width)).collect();
    let priority = if info.needs_priority { 1 + c.below(5) as i32 } else { 0 };
    EntrySpec { key, priority, action: ActionCall { action, args } }
}

/// Entries in all tables; some do not fit (an action that only misses run, a key that is there): for both alike.
fn fill(dps: &[Dataplane; 2], c: &mut Choices, per_table: usize) {
    let p = Arc::clone(dps[0].program());
    for t in 0..p.tables().len() {
        for _ in 0..per_table {
            let e = entry(&p, t, c);
            let [a, b] = [0, 1].map(|i| dps[i].insert(TableIx(t), &e));
            assert_eq!(a, b);
        }
    }
}

/// A frame of some kind that the gateway knows, perhaps damaged, perhaps with bytes that it decides by.
fn frame(c: &mut Choices) -> Vec<u8> {
    let ips = [gateway::CLIENT, gateway::SERVICE, gateway::GATEWAY, gateway::ROUTER];
    let kind = [0, 1, 2, 3, 4, 5, 5][c.below(7)];
    let provider = gateway::provider(c.below(4) as u32);
    let len = if kind == 5 { 36 } else { c.below(60) };
    let mut data = gateway::shim(kind, 41, provider, len);
    if kind == 5 && c.below(4) > 0 {
        data[8] = 1 + c.below(2) as u8;
    }
    let ports = [gateway::DMUX_PORT, 4000, 5555];
    let (ips, ports) = ((ips[c.below(4)], ips[c.below(4)]), (ports[c.below(3)], ports[c.below(3)]));
    let ttl = [0, 1, 2, 64][c.below(4)];
    let mut f = gateway::udp_frame((gateway::GATEWAY_MAC, 0x0a), ips, ports, ttl, &data);
    if c.below(3) == 0 {
        // As the controller sends it.
        f.splice(0..0, [0, c.below(4) as u8, c.below(2) as u8, 0]);
    }
    for _ in 0..[0, 0, 1, 3][c.below(4)] {
        let at = c.below(f.len());
        f[at] = [0, 1, 4, 5, 0x45, 0x46, 0x10, 0xff][c.below(8)];
    }
    if c.below(8) == 0 {
        f.truncate(c.below(f.len()));
    }
    f
}

fn run(dps: &[Dataplane; 2], c: &mut Choices, frames: usize) -> usize {
    let mut workers = [Worker::new(&dps[0]), Worker::new(&dps[1])];
    for n in 0..frames {
        let (port, f) = ([1, 1, 1, 2, 510, 0][c.below(6)], frame(c));
        let sent = [0, 1].map(|i| {
            let mut out = Vec::new();
            workers[i].process(&dps[i], port, &f, n as u64 * 1000, &mut |p, f| out.push((p, f.to_vec())));
            out
        });
        assert_eq!(sent[0], sent[1], "frame {f:02x?} on port {port}");
    }
    assert_eq!(workers[0].stats(), workers[1].stats());
    workers[0].stats().sent as usize
}

/// All that packets have left behind.
fn state(dp: &Dataplane) -> Vec<String> {
    let p = dp.program();
    let mut out = Vec::new();
    for t in 0..p.tables().len() {
        let _ = dp.for_each_entry(TableIx(t), &mut |e| out.push(format!("{t} {e:?}")));
    }
    out.sort();
    for (c, info) in p.counters().iter().enumerate() {
        out.extend((0..info.size).map(|i| format!("{} {i} {:?}", info.name, dp.counter(c, i))));
    }
    for (r, info) in p.registers().iter().enumerate() {
        out.extend((0..info.size).map(|i| format!("{} {i} {:?}", info.name, dp.register(r, i))));
    }
    out
}

fn same(dps: &[Dataplane; 2]) {
    assert_eq!(state(&dps[0]), state(&dps[1]));
}

const PORTAL: &[u8] = include_bytes!("p4runtime_programs/portal.json");

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn random_entries_and_frames_fare_alike(seed in any::<u64>(), per_table in 0usize..24) {
        for json in [&gateway::json()[..], PORTAL] {
            let (dps, mut c) = (both(json), Choices(seed));
            fill(&dps, &mut c, per_table);
            run(&dps, &mut c, 150);
            same(&dps);
        }
    }

    #[test]
    fn a_working_gateway_fares_alike(seed in any::<u64>()) {
        let json = gateway::json();
        let dps = both(&json);
        dps.iter().for_each(|dp| gateway::fill(dp, 3));
        let exact = |v: u32| MatchValue::Exact(u128::from(v));
        for dp in &dps {
            let back = [exact(gateway::ROUTER), exact(4000), exact(41)];
            pipeline_support::insert(dp, "return_source", &back, 0, "accept_return", &[]);
            let source = [gateway::SERVICE.into(), gateway::DMUX_PORT.into()];
            pipeline_support::insert(dp, "service_source", &[exact(7)], 0, "set_service_source", &source);
            pipeline_support::insert(dp, "probe_peer", &[exact(gateway::CLIENT)], 0, "known_peer", &[]);
        }
        let sent = run(&dps, &mut Choices(seed), 400);
        prop_assert!(sent > 5, "only {} frames were sent: the comparison says little", sent);
        same(&dps);
    }
}
