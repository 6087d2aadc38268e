//! Key fields of more than 128 bits, against a reference that compares whole numbers; and the same over P4Runtime.
#![allow(clippy::unwrap_used, reason = "a failed unwrap in a test, helpers included, is a failed test")]

mod p4runtime_support;
mod pipeline_support;

use dmux_p4rt::P4Info;
use dmux_p4rt::p4::v1;
use dmux_p4rt::p4::v1::entity::Entity;
use dmux_p4rt::p4::v1::field_match::{Exact, FieldMatchType, Lpm, Optional, Range, Ternary};
use dmux_p4rt::p4::v1::update::Type;
use dmux_softswitch::pipeline::{ActionCall, Dataplane, EntrySpec, MatchValue, Outcome, TableError};
use num_bigint::BigUint;
use p4runtime_support::{Rig, update};
use pipeline_support::{dataplane, run};
use proptest::prelude::*;
use tonic::Code;

const JSON: &[u8] = include_bytes!("programs/wide_keys.json");
const P4INFO: &str = include_str!("programs/wide_keys.p4info.txtpb");

/// A number of 256 bits in its two pieces, the high one first.
type Wide = [u128; 2];

fn big(v: Wide) -> BigUint {
    (BigUint::from(v[0]) << 128) | BigUint::from(v[1])
}

/// What a packet with this key finds behind the way `which`.
fn found(dp: &Dataplane, which: u8, key: Wide) -> u8 {
    let mut frame = vec![which];
    key.iter().for_each(|k| frame.extend_from_slice(&k.to_be_bytes()));
    frame.extend_from_slice(&[0; 25]);
    let sent = run(dp, 0, &frame);
    assert_eq!(sent.len(), 1);
    sent[0].1[0]
}

fn insert(dp: &Dataplane, table: &str, key: Vec<MatchValue>, priority: i32, n: u8) -> Result<(), TableError> {
    let t = dp.program().table_by_name(&format!("IngressPipe.{table}")).unwrap();
    let actions = &dp.program().tables()[t.0].actions;
    let give = *actions.iter().find(|a| dp.program().actions()[a.0].name == "IngressPipe.give").unwrap();
    let n = u128::from(n);
    // The parameters have 256, 8 and 136 bits.
    let action = ActionCall { action: give, args: vec![n, n + 1, n, n + 2, n + 3] };
    let spec = EntrySpec { key: key.clone(), priority, action: action.clone() };
    dp.insert(t, &spec)?;
    let view = dp.get(t, &key, priority).unwrap();
    assert_eq!((view.key, view.action), (key, Outcome::Call(action)), "read as it was written");
    Ok(())
}

/// Numbers that often have a piece in common, or differ by one.
fn wide() -> impl Strategy<Value = Wide> {
    let piece = prop_oneof![
        3 => Just(0u128),
        3 => Just(u128::MAX),
        3 => 0u128..4,
        2 => (0u32..128).prop_map(|b| 1 << b),
        1 => any::<u128>(),
    ];
    [piece.clone(), piece]
}

fn prefix_mask(len: u32) -> Wide {
    let ones = |n: u32| if n == 0 { 0 } else { u128::MAX << (128 - n) };
    [ones(len.min(128)), ones(len.saturating_sub(128))]
}

fn and(a: Wide, b: Wide) -> Wide {
    [a[0] & b[0], a[1] & b[1]]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_longest_prefix_wins(
        entries in proptest::collection::vec((wide(), 0u32..=256), 1..40),
        keys in proptest::collection::vec(wide(), 1..20),
    ) {
        let dp = dataplane(JSON);
        let mut there: Vec<(Wide, u32, u8)> = Vec::new();
        for (n, (v, len)) in entries.into_iter().enumerate() {
            let v = and(v, prefix_mask(len));
            let pieces = [len.min(128), len.saturating_sub(128)];
            let key = v.iter().zip(pieces).map(|(value, prefix_len)| MatchValue::Lpm { value: *value, prefix_len });
            let twice = there.iter().any(|(w, l, _)| (*w, *l) == (v, len));
            prop_assert_eq!(insert(&dp, "prefix", key.collect(), 0, n as u8 + 1).is_err(), twice);
            if !twice {
                there.push((v, len, n as u8 + 1));
            }
        }
        for key in keys.into_iter().chain(there.iter().map(|e| e.0).collect::<Vec<_>>()) {
            let best = there.iter().filter(|(v, len, _)| and(key, prefix_mask(*len)) == *v).max_by_key(|e| e.1);
            prop_assert_eq!(found(&dp, 1, key), best.map_or(0, |b| b.2), "{:x?}", key);
        }
    }

    #[test]
    fn the_best_of_masks_wins(
        entries in proptest::collection::vec((wide(), wide()), 1..40),
        keys in proptest::collection::vec(wide(), 1..20),
    ) {
        let dp = dataplane(JSON);
        let any = [MatchValue::Ternary { value: 0, mask: 0 }; 2];
        let mut there: Vec<(Wide, Wide, u8)> = Vec::new();
        for (n, (v, mask)) in entries.into_iter().enumerate() {
            let v = and(v, mask);
            let key = v.iter().zip(mask).map(|(value, mask)| MatchValue::Ternary { value: *value, mask });
            insert(&dp, "masked", key.chain(any).collect(), n as i32 + 1, n as u8 + 1).unwrap();
            there.push((v, mask, n as u8 + 1));
        }
        for key in keys.into_iter().chain(there.iter().map(|e| e.0).collect::<Vec<_>>()) {
            let best = there.iter().filter(|(v, mask, _)| and(key, *mask) == *v).max_by_key(|e| e.2);
            prop_assert_eq!(found(&dp, 2, key), best.map_or(0, |b| b.2), "{:x?}", key);
        }
    }

    /// Enough ranges for a bucket to be split by their blocks.
    #[test]
    fn the_best_of_ranges_wins(
        entries in proptest::collection::vec((wide(), wide()), 1..64),
        keys in proptest::collection::vec(wide(), 1..20),
    ) {
        let dp = dataplane(JSON);
        let mut there: Vec<(Wide, Wide, u8)> = Vec::new();
        for (n, (a, b)) in entries.into_iter().enumerate() {
            let (low, high) = if big(a) <= big(b) { (a, b) } else { (b, a) };
            let range = |low: Wide, high: Wide| {
                let key = low.into_iter().zip(high).map(|(low, high)| MatchValue::Range { low, high });
                key.chain([MatchValue::Ternary { value: 0, mask: 0 }]).collect::<Vec<_>>()
            };
            insert(&dp, "between", range(low, high), n as i32 + 1, n as u8 + 1).unwrap();
            if low != high {
                let wrong = insert(&dp, "between", range(high, low), 1, 0);
                prop_assert!(matches!(wrong, Err(TableError::BadKey { .. })), "{:?}", wrong);
            }
            there.push((low, high, n as u8 + 1));
        }
        let check = |there: &[(Wide, Wide, u8)], keys: &[Wide]| {
            for key in keys {
                let holds = |(low, high, _): &&(Wide, Wide, u8)| (big(*low)..=big(*high)).contains(&big(*key));
                let best = there.iter().filter(holds).max_by_key(|e| e.2);
                assert_eq!(found(&dp, 3, *key), best.map_or(0, |b| b.2), "{key:x?}");
            }
        };
        let ends = there.iter().flat_map(|(low, high, _)| [*low, *high]);
        let keys: Vec<Wide> = keys.into_iter().chain(ends).collect();
        check(&there, &keys);
        // And once every other one is gone.
        let t = dp.program().table_by_name("IngressPipe.between").unwrap();
        let mut rest = Vec::new();
        for (low, high, n) in there {
            if n % 2 == 0 {
                rest.push((low, high, n));
                continue;
            }
            let key = low.into_iter().zip(high).map(|(low, high)| MatchValue::Range { low, high });
            let key: Vec<_> = key.chain([MatchValue::Ternary { value: 0, mask: 0 }]).collect();
            dp.delete(t, &key, n.into()).unwrap();
        }
        check(&rest, &keys);
    }
}

#[test]
fn pieces_that_do_not_fit_together_are_refused() {
    let dp = dataplane(JSON);
    let lpm = |value, prefix_len| MatchValue::Lpm { value, prefix_len };
    let any = MatchValue::Optional(None);
    let one = MatchValue::Optional(Some(1));
    for (table, key) in [
        ("prefix", vec![lpm(0, 127), lpm(0, 1)]),
        ("prefix", vec![lpm(0, 128)]),
        ("prefix", vec![lpm(0, 129), lpm(0, 0)]),
        ("prefix", vec![lpm(0, 128), lpm(0, 128), lpm(0, 0)]),
        ("maybe", vec![any, one, any, any]),
        ("maybe", vec![any, any, one, any]),
    ] {
        let priority = i32::from(table == "maybe");
        let wrong = insert(&dp, table, key.clone(), priority, 1);
        assert!(matches!(wrong, Err(TableError::BadKey { .. })), "{key:?}: {wrong:?}");
    }
    let t = dp.program().table_by_name("IngressPipe.prefix").unwrap();
    let give = *dp.program().tables()[t.0].actions.first().unwrap();
    // The last parameter has 136 bits: 8 in its first piece.
    for args in [vec![0; 4], vec![0; 6], vec![0, 0, 256, 0, 0], vec![0, 0, 0, 256, 0]] {
        let spec =
            EntrySpec { key: vec![lpm(0, 0); 2], priority: 0, action: ActionCall { action: give, args: args.clone() } };
        let wrong = dp.insert(t, &spec);
        assert!(matches!(wrong, Err(TableError::BadAction { .. })), "{args:?}: {wrong:?}");
    }
}

/// Canonical bytes go in and come out, for every kind of match; what does not fit has its code.
#[tokio::test]
async fn wide_fields_and_parameters_are_written_and_read_back() {
    let rig = Rig::start().await;
    let mut controller = rig.connect().await;
    assert_eq!(controller.arbitrate(1).await.unwrap().0, Code::Ok);
    let p4info = P4Info::from_text(P4INFO).unwrap().raw().clone();
    let find = |name: &str| {
        let tables = p4info.tables.iter().map(|t| t.preamble.as_ref());
        let mut all = tables.chain(p4info.actions.iter().map(|a| a.preamble.as_ref())).flatten();
        all.find(|p| p.name == format!("IngressPipe.{name}")).unwrap().id
    };
    let config = v1::ForwardingPipelineConfig {
        p4info: Some(p4info.clone()),
        p4_device_config: JSON.to_vec(),
        ..Default::default()
    };
    controller.commit(config).await.unwrap();
    let bytes = |first: u8, len: usize| {
        let mut b = vec![0; len];
        b[0] = first;
        b[len - 1] = 1;
        b
    };
    let entry = |table: &str, fields: Vec<(u32, FieldMatchType)>, priority: i32, value: &[u8], tail: &[u8]| {
        let param = |param_id, value: &[u8]| v1::action::Param { param_id, value: value.to_vec() };
        let action =
            v1::Action { action_id: find("give"), params: vec![param(1, value), param(2, &[3]), param(3, tail)] };
        let field = |(field_id, m)| v1::FieldMatch { field_id, field_match_type: Some(m) };
        v1::TableEntry {
            table_id: find(table),
            r#match: fields.into_iter().map(field).collect(),
            priority,
            action: Some(v1::TableAction { r#type: Some(v1::table_action::Type::Action(action)) }),
            ..Default::default()
        }
    };
    let exact = |value: Vec<u8>| FieldMatchType::Exact(Exact { value });
    let lpm = |value: Vec<u8>, prefix_len| FieldMatchType::Lpm(Lpm { value, prefix_len });
    let ternary = |value: Vec<u8>, mask: Vec<u8>| FieldMatchType::Ternary(Ternary { value, mask });
    let range = |low: Vec<u8>, high: Vec<u8>| FieldMatchType::Range(Range { low, high });
    let optional = |value: Vec<u8>| FieldMatchType::Optional(Optional { value });
    let (whole, tail) = (bytes(0x80, 32), bytes(0xff, 17));
    let good = [
        entry("whole", vec![(1, exact(whole.clone())), (2, exact(bytes(0xff, 25)))], 0, &whole, &tail),
        entry("whole", vec![(1, exact(vec![0])), (2, exact(vec![7]))], 0, &[0], &[0]),
        entry("prefix", vec![(1, lpm(whole.clone(), 256))], 0, &[1], &tail),
        entry("prefix", vec![(1, lpm([vec![0xab, 0xc0], vec![0; 30]].concat(), 12))], 0, &bytes(1, 17), &bytes(1, 17)),
        entry("prefix", vec![(1, lpm([vec![0xab], vec![0; 31]].concat(), 130))], 0, &bytes(1, 16), &bytes(1, 16)),
        entry("prefix", vec![], 0, &[1], &[2]),
        entry("masked", vec![(1, ternary(bytes(1, 17), bytes(3, 17)))], 4, &[1], &[2]),
        entry("masked", vec![(2, ternary(vec![0], bytes(0x80, 25)))], 4, &[1], &[2]),
        entry("between", vec![(1, range(vec![5], bytes(1, 17)))], 4, &[1], &[2]),
        entry("between", vec![(1, range(vec![0], [vec![0x7f], vec![0xff; 31]].concat()))], 4, &[1], &[2]),
        entry("maybe", vec![(1, optional(bytes(1, 25))), (2, optional(vec![9]))], 4, &[1], &[2]),
        entry("maybe", vec![(2, optional(whole.clone()))], 4, &[1], &[2]),
    ];
    for entry in &good {
        assert_eq!(controller.write_one(update(Type::Insert, Entity::TableEntry(entry.clone()))).await, Code::Ok);
    }
    for table in ["whole", "prefix", "masked", "between", "maybe"] {
        let filter = v1::TableEntry { table_id: find(table), ..Default::default() };
        let mut read = controller.entries(filter).await;
        let mut written: Vec<_> = good.iter().filter(|e| e.table_id == find(table)).cloned().collect();
        read.sort_by_key(|e| format!("{e:?}"));
        written.sort_by_key(|e| format!("{e:?}"));
        assert_eq!(read, written, "{table}");
    }
    let [wrong, range_error] = [Code::InvalidArgument, Code::OutOfRange];
    for (entry, code) in [
        (entry("prefix", vec![(1, lpm(bytes(1, 33), 256))], 0, &[1], &[1]), range_error),
        (entry("prefix", vec![(1, lpm(vec![], 256))], 0, &[1], &[1]), range_error),
        (entry("prefix", vec![(1, lpm(vec![1], 255))], 0, &[1], &[1]), wrong),
        (entry("prefix", vec![(1, lpm(bytes(1, 32), 0))], 0, &[1], &[1]), wrong),
        (entry("prefix", vec![(1, lpm(vec![0], 257))], 0, &[1], &[1]), wrong),
        (entry("prefix", vec![(1, lpm(vec![2], 256))], 0, &bytes(1, 33), &[1]), range_error),
        (entry("prefix", vec![(1, lpm(vec![2], 256))], 0, &[1], &bytes(1, 18)), range_error),
        (entry("prefix", vec![(1, lpm(vec![2], 256))], 0, &[], &[1]), range_error),
        (entry("masked", vec![(1, ternary(bytes(1, 20), bytes(1, 17)))], 4, &[1], &[2]), wrong),
        (entry("masked", vec![(1, ternary(vec![0], vec![0]))], 4, &[1], &[2]), wrong),
        (entry("masked", vec![(2, ternary(bytes(1, 26), bytes(1, 26)))], 4, &[1], &[2]), range_error),
        (entry("between", vec![(1, range(bytes(1, 17), vec![5]))], 4, &[1], &[2]), wrong),
        (entry("between", vec![(1, range(vec![0], vec![0xff; 32]))], 4, &[1], &[2]), wrong),
    ] {
        let code_of = controller.write_one(update(Type::Insert, Entity::TableEntry(entry.clone()))).await;
        assert_eq!(code_of, code, "{entry:?}");
    }
    rig.stop().await;
}
