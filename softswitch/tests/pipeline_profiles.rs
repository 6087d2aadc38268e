//! Action profiles and selectors: which member a packet gets, and what may be written. The reference for the former
//! is a plain copy of what BMv2 and its P4Runtime server do with handles.

#![allow(clippy::unwrap_used, reason = "a failed unwrap in a test, helpers included, is a failed test")]

mod pipeline_profiles_reference;
mod pipeline_support;

use dmux_softswitch::pipeline::{
    ActionCall, ActionIx, Dataplane, GroupMember, GroupSpec, LoadError, MatchValue, Outcome, ProfileIx, ProfileLimits,
    Program, TableError, TableIx, Txn, Via, Watch, WeightedCall, Worker,
};
use pipeline_profiles_reference::Reference;
use pipeline_support::build::{action, assign, program};
use pipeline_support::{dataplane, run};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

const P: ProfileIx = ProfileIx(0);
const T: TableIx = TableIx(0);
const U: TableIx = TableIx(1);

/// Two tables over `k` that share the selector `as`, whose hash is `x` as it is. Their actions write `out` and `out2`; a
/// hit adds 1 to `hits`.
fn json(edit: impl FnOnce(&mut Value)) -> Vec<u8> {
    let fields = [("k", 8), ("x", 64), ("out", 32), ("out2", 32), ("hits", 8)];
    let fields: Vec<(String, u32, bool)> = fields.iter().map(|(n, w)| ((*n).to_owned(), *w, false)).collect();
    let param = json!({"type": "runtime_data", "value": 0});
    let one = json!({"type": "hexstr", "value": "0x01"});
    let port = json!({"op": "assign", "parameters": [
        {"type": "field", "value": ["standard_metadata", "egress_spec"]}, one]});
    let actions = vec![
        action("set", 0, &[("v", 32)], vec![assign("out", &param)]),
        action("none", 1, &[], vec![]),
        action("hit", 2, &[], vec![assign("hits", &one), port.clone()]),
        action("set2", 3, &[("v", 32)], vec![assign("out2", &param)]),
        action("miss", 4, &[], vec![port]),
    ];
    let indirect = |name: &str, ids: [u32; 2], next: Value, after: Value| {
        json!({
            "name": name, "id": 0, "match_type": "exact", "type": "indirect_ws", "max_size": 64,
            "key": [{"match_type": "exact", "name": "k", "target": ["h", "k"], "mask": null}],
            "action_profile": "as", "action_ids": ids, "actions": ["", ""],
            "base_default_next": after, "next_tables": next,
        })
    };
    let tables = vec![
        indirect("t", [0, 1], json!({"__HIT__": "hit", "__MISS__": "miss"}), json!("u")),
        indirect("u", [3, 1], json!({"set2": null, "none": null}), json!(null)),
        simple("hit", 2),
        simple("miss", 4),
    ];
    let mut root: Value = serde_json::from_slice(&program(&fields, actions, tables, "t")).unwrap();
    root["pipelines"][0]["action_profiles"] = json!([{
        "name": "as", "id": 0, "max_size": 64,
        "selector": {"algo": "identity", "input": [{"type": "field", "value": ["h", "x"]}]},
    }]);
    edit(&mut root);
    root.to_string().into_bytes()
}

fn simple(name: &str, id: u32) -> Value {
    json!({
        "name": name, "id": 0, "key": [], "match_type": "exact", "type": "simple", "max_size": 1,
        "action_ids": [id], "actions": [name], "base_default_next": "u", "next_tables": {name: "u"},
        "default_entry": {"action_id": id, "action_const": true, "action_data": [], "action_entry_const": true},
    })
}

fn set(v: u128) -> ActionCall {
    ActionCall { action: ActionIx(0), args: vec![v] }
}

fn set2(v: u128) -> ActionCall {
    ActionCall { action: ActionIx(3), args: vec![v] }
}

fn group(id: u32, members: &[(u32, u32)]) -> GroupSpec {
    let member = |&(member, weight): &(u32, u32)| GroupMember { member, weight, watch: None };
    GroupSpec { id, max_size: 0, members: members.iter().map(member).collect() }
}

fn watching(port: u16) -> Option<Watch> {
    Some(Watch { port, by_number: false })
}

fn key(k: u128) -> Vec<MatchValue> {
    vec![MatchValue::Exact(k)]
}

/// `out`, `out2` and whether `t` was hit, for a packet.
fn outputs(dp: &Dataplane, k: u8, x: u64) -> (u32, u32, bool) {
    let mut frame = vec![k];
    frame.extend_from_slice(&x.to_be_bytes());
    frame.extend_from_slice(&[0; 9]);
    let sent = run(dp, 0, &frame);
    assert_eq!(sent.len(), 1, "the packet leaves");
    let word = |at: usize| u32::from_be_bytes(sent[0].1[at..at + 4].try_into().unwrap());
    (word(9), word(13), sent[0].1[17] == 1)
}

/// What the first values of the hash select.
fn selected(dp: &Dataplane, k: u8, n: u64) -> Vec<u32> {
    (0..n).map(|x| outputs(dp, k, x).0).collect()
}

/// A data plane with members 1 to 4 (which set 101 to 104).
fn with_members() -> Dataplane {
    let dp = dataplane(&json(|_| {}));
    dp.write(|txn| (1..=4).for_each(|id| txn.insert_member(P, id, &set(100 + u128::from(id))).unwrap()));
    dp
}

#[test]
fn an_entry_runs_the_action_of_its_member_whatever_that_becomes() {
    let dp = with_members();
    dp.write(|txn| txn.insert_via(T, &key(7), 0, &Via::Member(2))).unwrap();
    assert_eq!(outputs(&dp, 7, 5), (102, 0, true));
    assert_eq!(outputs(&dp, 8, 5), (0, 0, false), "a miss without a default does nothing");
    dp.write(|txn| txn.modify_member(P, 2, &set(55))).unwrap();
    assert_eq!(outputs(&dp, 7, 5), (55, 0, true));
    dp.write(|txn| txn.modify_via(T, &key(7), 0, &Via::Member(3))).unwrap();
    assert_eq!(outputs(&dp, 7, 5), (103, 0, true));
    assert_eq!(dp.get(T, &key(7), 0).unwrap().action, Outcome::Via(Via::Member(3)));
    // The other table's action is not one that this table has: nothing runs, but it is a hit.
    dp.write(|txn| txn.modify_member(P, 3, &set2(9))).unwrap();
    assert_eq!(outputs(&dp, 7, 5), (0, 0, true));
}

#[test]
fn a_group_selects_by_the_hash_in_the_order_of_bmv2s_handles() {
    let dp = with_members();
    // Handles: 1 to 4 have 0 to 3. The copies for the weights follow in the order of the ids: 2 has 1 and 4, 3 has 2, 5, 6.
    dp.write(|txn| {
        txn.insert_group(P, &group(5, &[(3, 3), (2, 2), (4, 1)])).unwrap();
        txn.insert_via(T, &key(7), 0, &Via::Group(5)).unwrap();
    });
    assert_eq!(selected(&dp, 7, 7), [102, 103, 104, 102, 103, 103, 102]);
    // BMv2 keeps 32 bits of the hash.
    assert_eq!(outputs(&dp, 7, 1 << 32 | 1).0, 103);
    // A member that comes late takes the lowest handle that is free.
    dp.write(|txn| {
        txn.delete_member(P, 1).unwrap();
        txn.insert_member(P, 9, &set(109)).unwrap();
        txn.modify_group(P, &group(5, &[(9, 1), (3, 1)])).unwrap();
    });
    assert_eq!(selected(&dp, 7, 3), [109, 103, 109]);
    assert_eq!(dp.groups(P).unwrap(), [group(5, &[(9, 1), (3, 1)])]);
}

#[test]
fn an_empty_group_is_a_hit_without_an_action() {
    let dp = with_members();
    dp.write(|txn| {
        txn.insert_group(P, &group(1, &[])).unwrap();
        txn.insert_via(T, &key(7), 0, &Via::Group(1)).unwrap();
        txn.insert_via(U, &key(7), 0, &Via::Group(1)).unwrap();
    });
    assert_eq!(outputs(&dp, 7, 0), (0, 0, true));
}

#[test]
fn members_whose_port_is_down_are_left_out_until_it_is_up() {
    let dp = with_members();
    let ports = |up: [bool; 3]| dp.set_ports((1..=3).zip(up).collect());
    ports([true, true, false]);
    let members =
        [(1, watching(1)), (2, watching(2)), (3, None)].map(|(member, watch)| GroupMember { member, weight: 1, watch });
    let spec = GroupSpec { id: 1, max_size: 0, members: members.to_vec() };
    dp.write(|txn| txn.insert_group(P, &spec)).unwrap();
    dp.write(|txn| txn.insert_via(T, &key(7), 0, &Via::Group(1))).unwrap();
    assert_eq!(selected(&dp, 7, 3), [101, 102, 103]);
    ports([false, true, true]);
    assert_eq!(selected(&dp, 7, 4), [102, 103, 102, 103]);
    ports([false, false, true]);
    assert_eq!(selected(&dp, 7, 2), [103, 103]);
    let only_watching = GroupSpec { members: members[..2].to_vec(), ..spec.clone() };
    dp.write(|txn| txn.modify_group(P, &only_watching)).unwrap();
    assert_eq!(outputs(&dp, 7, 0), (0, 0, true), "all are down: as an empty group");
    ports([true, true, true]);
    assert_eq!(selected(&dp, 7, 3), [101, 102, 101]);
    let nowhere = GroupMember { member: 3, weight: 1, watch: watching(4) };
    let refused = dp.write(|txn| txn.modify_group(P, &GroupSpec { members: vec![nowhere], ..spec }));
    assert!(matches!(refused, Err(TableError::BadProfile { .. })), "{refused:?}");
}

#[test]
fn a_one_shot_entry_brings_its_group_and_takes_it_away() {
    let dp = dataplane(&json(|_| {}));
    let actions = |v: u128| {
        let action = |v, weight, watch| WeightedCall { call: set(v), weight, watch };
        Via::Set(vec![action(v, 2, None), action(v + 1, 1, watching(1)), action(v, 1, None)].into())
    };
    dp.write(|txn| txn.insert_via(T, &key(7), 0, &actions(20))).unwrap();
    assert_eq!(selected(&dp, 7, 4), [20, 20, 21, 20]);
    assert_eq!(dp.get(T, &key(7), 0).unwrap().action, Outcome::Via(actions(20)), "read as it was written");
    // The new set is there before the old one goes, so it has the handles behind it: 4 to 7.
    dp.write(|txn| txn.modify_via(T, &key(7), 0, &actions(30))).unwrap();
    assert_eq!(selected(&dp, 7, 4), [30, 30, 31, 30]);
    dp.set_ports(BTreeMap::from([(1, false)]));
    assert_eq!(selected(&dp, 7, 3), [30, 30, 30]);
    let mixed = dp.write(|txn| txn.insert_member(P, 1, &set(1)));
    assert!(matches!(mixed, Err(TableError::BadProfile { .. })), "{mixed:?}");
    dp.delete(T, &key(7), 0).unwrap();
    dp.write(|txn| {
        txn.insert_member(P, 1, &set(1)).unwrap();
        let mixed = txn.insert_via(T, &key(7), 0, &actions(40));
        assert!(matches!(mixed, Err(TableError::BadProfile { .. })), "{mixed:?}");
    });
    assert_eq!(dp.entry_count(T), 0);
}

#[test]
fn a_miss_may_lead_to_a_member_or_group_and_back_to_the_programs_action() {
    let own = json!({"action_id": 0, "action_const": false, "action_data": ["0x4d"], "action_entry_const": false});
    let dp = dataplane(&json(|root| root["pipelines"][0]["tables"][0]["default_entry"] = own));
    dp.write(|txn| (1..=2).for_each(|id| txn.insert_member(P, id, &set(100 + u128::from(id))).unwrap()));
    assert_eq!(outputs(&dp, 7, 0), (77, 0, false));
    assert_eq!(dp.default_entry(T), Ok(Some(Outcome::Call(set(77)))));
    dp.write(|txn| {
        txn.insert_group(P, &group(1, &[(1, 1), (2, 1)])).unwrap();
        txn.set_default_via(T, &Via::Group(1)).unwrap();
    });
    assert_eq!((outputs(&dp, 7, 0), outputs(&dp, 7, 1)), ((101, 0, false), (102, 0, false)));
    assert_eq!(dp.default_entry(T), Ok(Some(Outcome::Via(Via::Group(1)))));
    let used = dp.write(|txn| txn.delete_group(P, 1));
    assert!(matches!(used, Err(TableError::InUse { .. })), "{used:?}");
    dp.set_default(T, None).unwrap();
    assert_eq!(outputs(&dp, 7, 0), (77, 0, false));
    dp.write(|txn| txn.delete_group(P, 1)).unwrap();
}

#[test]
fn what_is_named_cannot_go_and_what_is_not_there_cannot_be_named() {
    let dp = with_members();
    dp.write(|txn| {
        let in_use = |r: Result<(), TableError>| assert!(matches!(r, Err(TableError::InUse { .. })), "{r:?}");
        let missing = |r: Result<(), TableError>| assert!(matches!(r, Err(TableError::NoSuchMember { .. })), "{r:?}");
        let exists = |r: Result<(), TableError>| assert!(matches!(r, Err(TableError::MemberExists { .. })), "{r:?}");
        let bad = |r: Result<(), TableError>| assert!(matches!(r, Err(TableError::BadProfile { .. })), "{r:?}");
        txn.insert_group(P, &group(1, &[(1, 1)])).unwrap();
        txn.insert_via(T, &key(1), 0, &Via::Group(1)).unwrap();
        txn.insert_via(T, &key(2), 0, &Via::Member(2)).unwrap();
        in_use(txn.delete_member(P, 1));
        in_use(txn.delete_member(P, 2));
        in_use(txn.delete_group(P, 1));
        missing(txn.delete_member(P, 5));
        missing(txn.modify_member(P, 5, &set(1)));
        missing(txn.delete_group(P, 2));
        missing(txn.modify_group(P, &group(2, &[])));
        missing(txn.insert_group(P, &group(2, &[(1, 1), (5, 1)])));
        missing(txn.insert_via(T, &key(3), 0, &Via::Member(5)));
        missing(txn.modify_via(T, &key(2), 0, &Via::Group(2)));
        exists(txn.insert_member(P, 1, &set(1)));
        exists(txn.insert_group(P, &group(1, &[])));
        bad(txn.insert_member(P, 0, &set(1)));
        bad(txn.insert_member(P, 8, &ActionCall { action: ActionIx(2), args: vec![] }));
        bad(txn.insert_member(P, 8, &set(1 << 32)));
        bad(txn.insert_group(P, &group(2, &[(1, 0)])));
        bad(txn.insert_group(P, &group(2, &[(1, 1), (1, 2)])));
        bad(txn.modify_group(P, &GroupSpec { max_size: 3, ..group(1, &[]) }));
        // What was refused took hold of nothing.
        txn.modify_via(T, &key(2), 0, &Via::Member(3)).unwrap();
        txn.delete_member(P, 2).unwrap();
        txn.delete(T, &key(1), 0).unwrap();
        txn.delete_group(P, 1).unwrap();
        txn.delete_member(P, 1).unwrap();
        in_use(txn.delete_member(P, 3));
        let direct = txn.insert_via(TableIx(2), &key(1), 0, &Via::Member(3));
        assert!(matches!(direct, Err(TableError::BadAction { .. })), "{direct:?}");
    });
    assert_eq!(dp.members(P).unwrap().iter().map(|(id, _)| *id).collect::<Vec<_>>(), [3, 4]);
    let plain = dp.set_default(T, Some(&set(1)));
    assert!(matches!(plain, Err(TableError::BadAction { .. })), "{plain:?}");
    dp.clear();
    assert!(dp.members(P).unwrap().is_empty() && dp.entry_count(T) == 0);
}

#[test]
fn sizes_are_sums_of_weights_or_of_members() {
    let dp = with_members();
    let full = |r: Result<(), TableError>| assert!(matches!(r, Err(TableError::ProfileFull { .. })), "{r:?}");
    let bad = |r: Result<(), TableError>| assert!(matches!(r, Err(TableError::BadProfile { .. })), "{r:?}");
    dp.set_profile_limits(P, ProfileLimits { size: 6, max_group_size: 4, ..ProfileLimits::default() });
    dp.write(|txn| {
        full(txn.insert_group(P, &group(1, &[(1, 4), (2, 1)])));
        bad(txn.insert_group(P, &GroupSpec { max_size: 5, ..group(1, &[]) }));
        full(txn.insert_group(P, &GroupSpec { max_size: 1, ..group(1, &[(1, 2)]) }));
        txn.insert_group(P, &group(1, &[(1, 4)])).unwrap();
        full(txn.insert_group(P, &group(2, &[(1, 3)])));
        txn.insert_group(P, &group(2, &[(1, 2)])).unwrap();
        txn.modify_group(P, &group(1, &[(1, 1)])).unwrap();
        txn.modify_group(P, &group(2, &[(1, 4)])).unwrap();
        txn.insert_member(P, 5, &set(1)).unwrap();
        txn.insert_member(P, 6, &set(1)).unwrap();
        full(txn.insert_member(P, 7, &set(1)));
    });
    dp.clear();
    dp.set_profile_limits(P, ProfileLimits { size: 6, max_group_size: 2, by_members: true, max_member_weight: 9 });
    dp.write(|txn| {
        (1..=3).for_each(|id| txn.insert_member(P, id, &set(1)).unwrap());
        txn.insert_group(P, &group(1, &[(1, 9), (2, 1)])).unwrap();
        bad(txn.insert_group(P, &group(2, &[(1, 10)])));
        full(txn.insert_group(P, &group(2, &[(1, 1), (2, 1), (3, 1)])));
    });
    dp.clear();
    dp.set_profile_limits(P, ProfileLimits::default());
    dp.write(|txn| {
        txn.insert_member(P, 1, &set(1)).unwrap();
        full(txn.insert_group(P, &group(1, &[(1, u32::MAX)])));
        txn.insert_group(P, &group(1, &[(1, 1000)])).unwrap();
    });
}

#[test]
fn what_the_switch_cannot_run_is_refused_at_load() {
    let refused = |edit: fn(&mut Value)| Program::compile(&json(edit)).unwrap_err();
    let table = "table t";
    let entry = refused(|root| {
        root["pipelines"][0]["tables"][0]["entries"] = json!([{"match_key": [{"match_type": "exact", "key": "0x01"}],
            "action_entry": {"action_id": 0, "action_data": ["0x01"]}}]);
    });
    assert!(matches!(&entry, LoadError::Unsupported { context, .. } if context == table), "{entry}");
    let unknown = refused(|root| root["pipelines"][0]["tables"][0]["action_profile"] = json!("nothing"));
    assert!(matches!(&unknown, LoadError::Unknown { context, .. } if context == table), "{unknown}");
    let plain = refused(|root| root["pipelines"][0]["action_profiles"][0]["selector"] = json!(null));
    assert!(matches!(&plain, LoadError::Invalid { context, .. } if context == table), "{plain}");
    let algo = refused(|root| root["pipelines"][0]["action_profiles"][0]["selector"]["algo"] = json!("best"));
    assert!(matches!(&algo, LoadError::Unsupported { context, .. } if context == "action profile as"), "{algo}");
}

#[test]
fn a_profile_without_selector_has_no_groups() {
    let dp = dataplane(&json(|root| {
        let pipeline = &mut root["pipelines"][0];
        pipeline["action_profiles"][0]["selector"] = json!(null);
        (0..2).for_each(|t| pipeline["tables"][t]["type"] = json!("indirect"));
    }));
    dp.write(|txn| {
        txn.insert_member(P, 1, &set(5)).unwrap();
        assert!(txn.insert_group(P, &group(1, &[(1, 1)])).is_err());
        let set = Via::Set(vec![WeightedCall { call: set(1), weight: 1, watch: None }].into());
        assert!(txn.insert_via(T, &key(1), 0, &set).is_err());
        txn.insert_via(T, &key(1), 0, &Via::Member(1)).unwrap();
    });
    assert_eq!(outputs(&dp, 1, 0), (5, 0, true));
}

#[test]
fn packets_see_a_batch_of_members_and_groups_whole_or_not_at_all() {
    let dp = dataplane(&json(|_| {}));
    dp.write(|txn| {
        txn.insert_member(P, 1, &set(0)).unwrap();
        txn.insert_member(P, 2, &set2(0)).unwrap();
        txn.insert_group(P, &group(1, &[(1, 1)])).unwrap();
        txn.insert_via(T, &key(7), 0, &Via::Group(1)).unwrap();
        txn.insert_via(U, &key(7), 0, &Via::Member(2)).unwrap();
    });
    let done = AtomicBool::new(false);
    std::thread::scope(|s| {
        s.spawn(|| {
            for n in 1..=2000u32 {
                // The groups member is replaced by a new one, which takes over the record of the last but one.
                let (new, old) = (10 + n % 2, 10 + (n + 1) % 2);
                dp.write(|txn| {
                    txn.insert_member(P, new, &set(n.into())).unwrap();
                    txn.modify_member(P, 2, &set2(n.into())).unwrap();
                    txn.modify_group(P, &group(1, &[(new, 1)])).unwrap();
                    let _ = txn.delete_member(P, old);
                });
            }
            done.store(true, Ordering::Release);
        });
        let (mut worker, mut frame) = (Worker::new(&dp), vec![0; 18]);
        frame[0] = 7;
        let mut last = 0;
        while !done.load(Ordering::Acquire) {
            worker.process(&dp, 0, &frame, 1, &mut |_, f| {
                let word = |at: usize| u32::from_be_bytes(f[at..at + 4].try_into().unwrap());
                assert_eq!(word(9), word(13), "half a batch");
                assert!(word(9) >= last, "an older batch came back");
                last = word(9);
            });
        }
    });
    assert_eq!(outputs(&dp, 7, 0), (2000, 2000, true));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn selection_is_that_of_bmv2_whatever_was_written_before(
        steps in proptest::collection::vec((0u8..8, 1u32..6, proptest::collection::btree_map(1u32..6, 1u32..5, 1..4)), 1..60),
    ) {
        let dp = dataplane(&json(|_| {}));
        let mut reference = Reference::default();
        let write = |f: &dyn Fn(&mut Txn<'_>) -> Result<(), TableError>| dp.write(|txn| f(txn));
        for (what, id, members) in steps {
            let exist = members.keys().all(|m| reference.members.contains_key(m));
            match what {
                0..=2 => {
                    let new = !reference.members.contains_key(&id);
                    prop_assert_eq!(write(&|txn| txn.insert_member(P, id, &set(id.into()))).is_ok(), new);
                    if new {
                        let h = reference.take();
                        reference.members.insert(id, (vec![h], vec![]));
                    }
                }
                3 => {
                    let free = reference.members.get(&id).is_some_and(|m| m.1.is_empty());
                    prop_assert_eq!(write(&|txn| txn.delete_member(P, id)).is_ok(), free);
                    if free {
                        let (handles, _) = reference.members.remove(&id).unwrap();
                        handles.into_iter().for_each(|h| reference.handles[h] = false);
                    }
                }
                4..=6 => {
                    let list: Vec<(u32, u32)> = members.iter().map(|(m, w)| (*m, *w)).collect();
                    let spec = group(id, &list);
                    let there = reference.groups.contains_key(&id);
                    let done =
                        write(&|txn| if there { txn.modify_group(P, &spec) } else { txn.insert_group(P, &spec) });
                    prop_assert_eq!(done.is_ok(), exist);
                    if exist {
                        reference.set_group(id, &members);
                        if !there {
                            dp.write(|txn| txn.insert_via(T, &key(id.into()), 0, &Via::Group(id))).unwrap();
                        }
                    }
                }
                _ => {
                    if reference.groups.contains_key(&id) {
                        dp.delete(T, &key(id.into()), 0).unwrap();
                        dp.write(|txn| txn.delete_group(P, id)).unwrap();
                        reference.set_group(id, &BTreeMap::new());
                        reference.groups.remove(&id);
                    }
                }
            }
            for g in reference.groups.keys() {
                for hash in 0..reference.groups[g].0.len() {
                    prop_assert_eq!(outputs(&dp, *g as u8, hash as u64).0, reference.select(*g, hash));
                }
            }
        }
    }
}
