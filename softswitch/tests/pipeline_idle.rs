//! Idle timeouts against simulated time: the clock stands at one second when entries are written.
#![allow(clippy::unwrap_used, reason = "a failed unwrap in a test, helpers included, is a failed test")]

mod pipeline_support;

use dmux_softswitch::pipeline::{ActionCall, ActionIx, Dataplane, EntrySpec, MatchValue, TableError, TableIx, Worker};
use pipeline_support::build::{action, assign, lookup, program};
use pipeline_support::dataplane;
use serde_json::json;

const T: TableIx = TableIx(0);
/// When entries are written, in microseconds.
const START: u64 = 1_000_000;
const MS: u64 = 1000;

/// One table over `k`, that supports idle timeouts or not, with entries for these keys.
fn with_entries(support_timeout: bool, keys: &[u128]) -> Dataplane {
    let fields = [("k", 8), ("out", 8)].map(|(n, w)| (n.to_owned(), w, false));
    let param = json!({"type": "runtime_data", "value": 0});
    let actions = vec![action("set", 0, &[("v", 8)], vec![assign("out", &param)]), action("miss", 1, &[], vec![])];
    let mut table = lookup("t", &[("k".to_owned(), "exact")], 1024);
    table["support_timeout"] = json!(support_timeout);
    let dp = dataplane(&program(&fields, actions, vec![table], "t"));
    for k in keys {
        let action = ActionCall { action: ActionIx(0), args: vec![1] };
        dp.insert(T, &EntrySpec { key: vec![MatchValue::Exact(*k)], priority: 0, action }).unwrap();
    }
    dp
}

fn set_timeout(dp: &Dataplane, k: u128, ms: u64) -> Result<(), TableError> {
    dp.write(|txn| txn.set_idle_timeout(T, &[MatchValue::Exact(k)], 0, ms * 1_000_000))
}

/// The keys that are reported at a time.
fn idled(dp: &Dataplane, now: u64) -> Vec<u128> {
    let key = |k: &MatchValue| match k {
        MatchValue::Exact(k) => *k,
        other => panic!("{other:?}"),
    };
    let mut keys: Vec<u128> = dp.idled(now, 1000).iter().map(|i| key(&i.key[0])).collect();
    keys.sort_unstable();
    keys
}

fn hit(dp: &Dataplane, k: u8, now: u64) {
    Worker::new(dp).process(dp, 0, &[k, 0], now, &mut |_, _| ());
}

#[test]
fn an_entry_is_reported_after_each_timeout_and_not_before() {
    let dp = with_entries(true, &[1, 2, 3]);
    set_timeout(&dp, 1, 10).unwrap();
    set_timeout(&dp, 2, 25).unwrap();
    assert_eq!(dp.next_idle_us(), Some(START + 10 * MS));
    assert_eq!(idled(&dp, START + 10 * MS - 1), []);
    assert_eq!(idled(&dp, START + 10 * MS), [1]);
    assert_eq!(idled(&dp, START + 19 * MS), []);
    assert_eq!(idled(&dp, START + 25 * MS), [1, 2], "the third has no timeout");
    // From the report, however late it was.
    assert_eq!(idled(&dp, START + 34 * MS), []);
    assert_eq!(idled(&dp, START + 35 * MS), [1]);
}

#[test]
fn a_hit_begins_the_time_anew_and_is_told() {
    let dp = with_entries(true, &[1]);
    set_timeout(&dp, 1, 10).unwrap();
    hit(&dp, 1, START + 9 * MS);
    assert_eq!(idled(&dp, START + 18 * MS), []);
    assert_eq!(dp.next_idle_us(), Some(START + 19 * MS));
    assert_eq!(idled(&dp, START + 19 * MS), [1]);
    // A report is no hit, nor is a miss of another key.
    hit(&dp, 2, START + 20 * MS);
    let idle = dp.get(T, &[MatchValue::Exact(1)], 0).unwrap().idle.unwrap();
    assert_eq!((idle.timeout_ns, idle.last_hit_us), (10_000_000, START + 9 * MS));
    // A worker whose clock is behind takes nothing back.
    hit(&dp, 1, START + 21 * MS);
    hit(&dp, 1, START + 20 * MS);
    assert_eq!(dp.get(T, &[MatchValue::Exact(1)], 0).unwrap().idle.unwrap().last_hit_us, START + 21 * MS);
}

#[test]
fn what_is_gone_or_has_no_timeout_any_more_is_not_reported() {
    let dp = with_entries(true, &[1, 2, 3]);
    (1..=3).for_each(|k| set_timeout(&dp, k, 10).unwrap());
    dp.delete(T, &[MatchValue::Exact(1)], 0).unwrap();
    set_timeout(&dp, 2, 0).unwrap();
    assert_eq!(idled(&dp, START + 50 * MS), [3]);
    dp.clear();
    assert_eq!(dp.next_idle_us(), None);
    // The record of an entry that is gone does not hand its timeout on.
    let dp = with_entries(true, &[4]);
    set_timeout(&dp, 4, 10).unwrap();
    dp.delete(T, &[MatchValue::Exact(4)], 0).unwrap();
    let action = ActionCall { action: ActionIx(0), args: vec![1] };
    dp.insert(T, &EntrySpec { key: vec![MatchValue::Exact(5)], priority: 0, action }).unwrap();
    assert_eq!(dp.get(T, &[MatchValue::Exact(5)], 0).unwrap().idle.unwrap().timeout_ns, 0);
    assert_eq!(idled(&dp, START + 50 * MS), []);
}

#[test]
fn no_more_are_reported_at_once_than_are_asked_for_and_none_is_forgotten() {
    let keys: Vec<u128> = (0..100).collect();
    let dp = with_entries(true, &keys);
    keys.iter().for_each(|k| set_timeout(&dp, *k, 10).unwrap());
    let now = START + 10 * MS;
    let mut found = Vec::new();
    for n in [40, 40, 20, 0] {
        let some = dp.idled(now, 40);
        assert_eq!(some.len(), n);
        found.extend(some.into_iter().map(|i| i.key));
    }
    found.sort_by_key(|k| format!("{k:?}"));
    found.dedup();
    assert_eq!(found.len(), 100);
}

#[test]
fn a_timeout_shorter_than_a_microsecond_is_one() {
    let dp = with_entries(true, &[1]);
    dp.write(|txn| txn.set_idle_timeout(T, &[MatchValue::Exact(1)], 0, 1)).unwrap();
    assert_eq!(idled(&dp, START), []);
    assert_eq!(idled(&dp, START + 1), [1]);
}

#[test]
fn a_table_without_support_has_none() {
    let dp = with_entries(false, &[1]);
    let refused = set_timeout(&dp, 1, 10);
    assert!(matches!(refused, Err(TableError::NoIdleTimeout { .. })), "{refused:?}");
    assert_eq!(dp.get(T, &[MatchValue::Exact(1)], 0).unwrap().idle, None);
    let missing = with_entries(true, &[]);
    assert!(matches!(set_timeout(&missing, 1, 10), Err(TableError::NotFound { .. })));
}
