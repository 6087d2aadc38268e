//! Every match kind against a plain search through all entries, with entries coming and going.

mod pipeline_support;

use dmux_softswitch::pipeline::{
    ActionCall, ActionIx, Dataplane, EntrySpec, MatchValue, Outcome, TableError, TableIx, Worker,
};
use pipeline_support::build::{action, assign, lookup, program};
use pipeline_support::{dataplane, run};
use proptest::prelude::*;
use serde_json::json;
use std::cmp::Reverse;

/// Widths that cross every boundary of the key's packing; small alphabets so that keys meet.
fn widths() -> impl Strategy<Value = Vec<u32>> {
    proptest::collection::vec(prop_oneof![Just(1u32), Just(9), Just(32), Just(48), Just(64), Just(65), Just(128)], 1..5)
}

fn ones(w: u32) -> u128 {
    if w == 128 { u128::MAX } else { (1 << w) - 1 }
}

/// A value out of a few: near 0, near the top, and single high bits.
fn pick(seed: u64, w: u32) -> u128 {
    let v = match seed % 5 {
        0 => 0,
        1 => u128::from(seed >> 3 & 3),
        2 => ones(w) - u128::from(seed >> 3 & 1),
        3 => 1 << (w - 1),
        _ => u128::from(seed >> 3 & 7) << (w / 2),
    };
    v & ones(w)
}

fn value(kind: &str, seed: u64, w: u32) -> MatchValue {
    let v = pick(seed, w);
    match kind {
        "exact" => MatchValue::Exact(v),
        "lpm" => {
            let prefix_len = (seed >> 8) as u32 % (w + 1);
            let mask =
                if prefix_len == 0 { 0 } else { ones(w) & !(if prefix_len == w { 0 } else { ones(w - prefix_len) }) };
            MatchValue::Lpm { value: v & mask, prefix_len }
        }
        "ternary" => {
            let mask = pick(seed >> 8, w);
            MatchValue::Ternary { value: v & mask, mask }
        }
        "optional" => MatchValue::Optional((seed >> 8 & 1 == 0).then_some(v)),
        _ => {
            let o = pick(seed >> 8, w);
            MatchValue::Range { low: v.min(o), high: v.max(o) }
        }
    }
}

fn matches(m: &MatchValue, v: u128, w: u32) -> bool {
    match *m {
        MatchValue::Exact(x) => x == v,
        MatchValue::Lpm { value, prefix_len } => prefix_len == 0 || value >> (w - prefix_len) == v >> (w - prefix_len),
        MatchValue::Ternary { value, mask } => v & mask == value,
        MatchValue::Range { low, high } => low <= v && v <= high,
        MatchValue::Optional(o) => o.is_none_or(|x| x == v),
    }
}

fn setup(kinds: &[&str], widths: &[u32], size: usize) -> Dataplane {
    let mut fields: Vec<(String, u32, bool)> = vec![("result".into(), 32, false)];
    fields.extend(widths.iter().enumerate().map(|(i, w)| (format!("f{i}"), *w, false)));
    let keys: Vec<(String, &str)> = kinds.iter().enumerate().map(|(i, k)| (format!("f{i}"), *k)).collect();
    let param = json!({"type": "runtime_data", "value": 0});
    let port = |p: &str| json!({"op": "assign", "parameters": [{"type": "field", "value": ["standard_metadata", "egress_spec"]}, {"type": "hexstr", "value": p}]});
    let actions = vec![
        action("set", 0, &[("result", 32)], vec![assign("result", &param), port("0x1")]),
        action("miss", 1, &[], vec![port("0x2")]),
    ];
    dataplane(&program(&fields, actions, vec![lookup("t", &keys, size)], "t"))
}

/// A frame whose header has those field values.
fn frame(values: &[u128], widths: &[u32]) -> Vec<u8> {
    let mut bits: Vec<u8> = vec![0; 32];
    for (v, w) in values.iter().zip(widths) {
        bits.extend((0..*w).rev().map(|i| (v >> i & 1) as u8));
    }
    bits.resize(bits.len().div_ceil(8) * 8, 0);
    bits.chunks(8).map(|c| c.iter().fold(0, |b, x| b << 1 | x)).collect()
}

const T: TableIx = TableIx(0);

/// Does the steps, and compares what is read and what packets meet with a plain list of entries. Of equal priorities the
/// lowest handle wins, as in BMv2, where an entry gets the lowest one that is free.
fn check(kinds: Vec<&'static str>, widths: Vec<u32>, size: usize, steps: &[(u8, Vec<u64>, i32)], packets: &[Vec<u64>]) {
    let dp = setup(&kinds, &widths, size);
    let priorities = kinds.iter().any(|k| matches!(*k, "ternary" | "range" | "optional"));
    let mut model: Vec<EntrySpec> = Vec::new();
    let mut handles: Vec<usize> = Vec::new();
    for (n, (what, seeds, priority)) in steps.iter().enumerate() {
        let key: Vec<MatchValue> = kinds.iter().zip(&widths).zip(seeds).map(|((k, w), s)| value(k, *s, *w)).collect();
        let priority = if priorities { *priority } else { 0 };
        let call = ActionCall { action: ActionIx(0), args: vec![n as u128 + 1] };
        let spec = EntrySpec { key: key.clone(), priority, action: call.clone() };
        let place = model.iter().position(|e| e.key == key && e.priority == priority);
        match (what % 4, place) {
            (0 | 1, None) if model.len() < size => {
                assert_eq!(dp.insert(T, &spec), Ok(()));
                model.push(spec);
                handles.extend((0..).find(|h| !handles.contains(h)));
            }
            (0 | 1, None) => {
                assert!(matches!(dp.insert(T, &spec), Err(TableError::Full { capacity, .. }) if capacity == size));
            }
            (0 | 1, Some(_)) => assert!(matches!(dp.insert(T, &spec), Err(TableError::Exists { .. }))),
            (2, Some(at)) => {
                assert_eq!(dp.modify(T, &key, priority, &call), Ok(()));
                model[at].action = call;
            }
            (2, None) => assert!(matches!(dp.modify(T, &key, priority, &call), Err(TableError::NotFound { .. }))),
            (_, Some(at)) => {
                assert_eq!(dp.delete(T, &key, priority), Ok(()));
                model.remove(at);
                handles.remove(at);
            }
            (_, None) => assert!(matches!(dp.delete(T, &key, priority), Err(TableError::NotFound { .. }))),
        }
    }
    // What is read back is what was written.
    assert_eq!(dp.entry_count(T), model.len());
    let mut seen = 0;
    assert!(
        dp.for_each_entry(T, &mut |v| {
            seen += 1;
            let same = |e: &EntrySpec| {
                e.key == v.key && e.priority == v.priority && Outcome::Call(e.action.clone()) == v.action
            };
            assert!(model.iter().any(same), "{v:?} was not written");
        })
        .is_ok()
    );
    assert_eq!(seen, model.len());
    // Packets near the entries and elsewhere.
    for seeds in packets {
        let values: Vec<u128> = widths.iter().zip(seeds).map(|(w, s)| pick(*s, *w)).collect();
        let hits = model.iter().zip(&handles);
        let hits = hits.filter(|(e, _)| e.key.iter().zip(&values).zip(&widths).all(|((m, v), w)| matches(m, *v, *w)));
        let rank = |(e, h): &(&EntrySpec, &usize)| {
            let prefix: u32 =
                e.key.iter().map(|m| if let MatchValue::Lpm { prefix_len, .. } = m { *prefix_len } else { 0 }).sum();
            if priorities { (i64::from(e.priority), Reverse(**h)) } else { (i64::from(prefix), Reverse(0)) }
        };
        let out = run(&dp, 0, &frame(&values, &widths));
        let (port, bytes) = &out[0];
        match hits.max_by_key(rank) {
            None => assert_eq!(*port, 2, "{values:?} should miss"),
            Some((best, _)) => {
                assert_eq!(*port, 1, "{values:?} should hit");
                let got = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
                assert_eq!(best.action.args, [u128::from(got)], "{values:?} ran another than {best:?}");
            }
        }
    }
}

fn steps() -> impl Strategy<Value = Vec<(u8, Vec<u64>, i32)>> {
    proptest::collection::vec((any::<u8>(), proptest::collection::vec(any::<u64>(), 5), 1i32..6), 0..80)
}

/// Enough for tries of some levels, filters, and chains that are split.
fn many_steps() -> impl Strategy<Value = Vec<(u8, Vec<u64>, i32)>> {
    let step = (
        prop_oneof![4 => Just(0u8), 1 => Just(2), 1 => Just(3)],
        proptest::collection::vec(any::<u64>(), 5),
        1i32..400,
    );
    proptest::collection::vec(step, 0..900)
}

fn packets() -> impl Strategy<Value = Vec<Vec<u64>>> {
    proptest::collection::vec(proptest::collection::vec(any::<u64>(), 5), 40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn exact(w in widths(), s in steps(), p in packets()) {
        check(vec!["exact"; w.len()], w, 40, &s, &p);
    }

    #[test]
    fn longest_prefix_beside_exact_fields(w in widths(), at in 0usize..5, s in steps(), p in packets()) {
        let mut kinds = vec!["exact"; w.len()];
        let at = at % kinds.len();
        kinds[at] = "lpm";
        check(kinds, w, 40, &s, &p);
    }

    #[test]
    fn ternary_range_optional_and_all_others(w in widths(), k in proptest::collection::vec(0usize..5, 5), s in steps(), p in packets()) {
        let all = ["ternary", "range", "optional", "exact", "lpm"];
        let mut kinds: Vec<&str> = w.iter().zip(&k).map(|(_, k)| all[*k]).collect();
        kinds[0] = all[k[0] % 3];
        check(kinds, w, 40, &s, &p);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn many_prefixes(w in prop_oneof![Just(8u32), Just(31), Just(32), Just(48), Just(64), Just(65), Just(128)], vrf in 0u32..3, s in many_steps(), p in packets()) {
        check(vec!["lpm"], vec![w], 500, &s, &p);
        // Beside exact fields before and behind it, with keys that end at and cross the words' bounds.
        check(vec!["exact", "lpm", "exact"], vec![[16, 63, 64][vrf as usize], w, 1], 500, &s, &p);
    }

    #[test]
    fn many_ranges(w in prop_oneof![Just(1u32), Just(16), Just(64), Just(65), Just(128)], s in many_steps(), p in packets()) {
        check(vec!["range"], vec![w], 500, &s, &p);
        check(vec!["exact", "range", "range"], vec![1, w, 16], 500, &s, &p);
    }

    #[test]
    fn many_masks(w in prop_oneof![Just(8u32), Just(32), Just(64), Just(65), Just(128)], s in many_steps(), p in packets()) {
        check(vec!["ternary", "ternary"], vec![w, 16], 500, &s, &p);
        check(vec!["ternary", "lpm", "range", "optional"], vec![w, 32, 16, 8], 500, &s, &p);
    }

    #[test]
    fn keys_of_up_to_512_bits(s in many_steps(), p in packets()) {
        check(vec!["exact"; 4], vec![128; 4], 500, &s, &p);
        check(vec!["exact", "exact", "lpm"], vec![128, 128, 128], 500, &s, &p);
        check(vec!["exact", "lpm"], vec![64, 128], 500, &s, &p);
        check(vec!["exact", "ternary", "ternary", "ternary"], vec![128, 128, 128, 128], 500, &s, &p);
    }
}

#[test]
fn keys_that_do_not_fit_are_refused_with_the_reason() {
    let dp = setup(&["exact", "ternary"], &[9, 16], 40);
    let call = ActionCall { action: ActionIx(0), args: vec![1] };
    let entry =
        |key: Vec<MatchValue>, priority, action: &ActionCall| EntrySpec { key, priority, action: action.clone() };
    let good = vec![MatchValue::Exact(1), MatchValue::Ternary { value: 2, mask: 3 }];
    let wide = vec![MatchValue::Exact(512), good[1]];
    let outside = vec![good[0], MatchValue::Ternary { value: 4, mask: 3 }];
    let kind = vec![good[0], MatchValue::Exact(4)];
    for key in [wide, outside, kind, vec![good[0]]] {
        assert!(matches!(dp.insert(T, &entry(key, 1, &call)), Err(TableError::BadKey { .. })));
    }
    assert!(matches!(dp.insert(T, &entry(good.clone(), 0, &call)), Err(TableError::BadPriority { .. })));
    let args = ActionCall { action: ActionIx(0), args: vec![] };
    let large = ActionCall { action: ActionIx(0), args: vec![1 << 32] };
    let foreign = ActionCall { action: ActionIx(9), args: vec![] };
    for action in [args, large, foreign] {
        assert!(matches!(dp.insert(T, &entry(good.clone(), 1, &action)), Err(TableError::BadAction { .. })));
    }
    assert!(matches!(dp.insert(TableIx(9), &entry(good, 1, &call)), Err(TableError::NoSuchObject { .. })));
    assert_eq!(dp.entry_count(T), 0);
}

#[test]
fn default_actions_change_and_go_back() {
    let dp = setup(&["exact"], &[8], 40);
    let f = frame(&[5], &[8]);
    assert_eq!(run(&dp, 0, &f)[0].0, 2);
    let set = ActionCall { action: ActionIx(0), args: vec![77] };
    assert_eq!(dp.set_default(T, Some(&set)), Ok(()));
    assert_eq!(dp.default_entry(T), Ok(Some(Outcome::Call(set))));
    assert_eq!(run(&dp, 0, &f)[0], (1, vec![0, 0, 0, 77, 5]));
    assert_eq!(dp.set_default(T, None), Ok(()));
    assert_eq!(run(&dp, 0, &f)[0].0, 2);
    dp.clear();
    assert_eq!(run(&dp, 0, &f)[0].0, 2);
}

/// Two entries are exchanged in one batch, over and over, while packets run: no packet may see both or none.
#[test]
fn packets_see_a_batch_whole_or_not_at_all() {
    let dp = setup(&["exact"], &[8], 40);
    let spec = |arg: u128| EntrySpec {
        key: vec![MatchValue::Exact(1)],
        priority: 0,
        action: ActionCall { action: ActionIx(0), args: vec![arg] },
    };
    assert_eq!(dp.insert(T, &spec(0)), Ok(()));
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let (mut worker, mut last, mut seen) = (Worker::new(&dp), 0u32, 0u32);
                    while !done.load(std::sync::atomic::Ordering::Acquire) {
                        worker.process(&dp, 0, &[0, 0, 0, 0, 1], 0, &mut |port, f| {
                            assert_eq!(port, 1, "the entry is always there");
                            let now = u32::from_be_bytes([f[0], f[1], f[2], f[3]]);
                            assert!(now >= last, "an older entry came back");
                            (last, seen) = (now, seen + 1);
                        });
                    }
                    seen
                })
            })
            .collect();
        for n in 1..20_000u128 {
            dp.write(|txn| {
                assert_eq!(txn.delete(T, &spec(0).key, 0), Ok(()));
                assert_eq!(txn.insert(T, &spec(n)), Ok(()));
            });
        }
        done.store(true, std::sync::atomic::Ordering::Release);
        for r in readers {
            assert!(r.join().is_ok_and(|seen| seen > 0));
        }
    });
}
