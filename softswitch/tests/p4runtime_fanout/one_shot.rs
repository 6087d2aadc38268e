//! One-shot sets, and groups without weights.

use super::*;

#[tokio::test]
async fn one_shot_sets_are_read_as_written_and_are_not_mixed_with_groups() {
    let (rig, mut controller) = start().await;
    #[expect(deprecated, reason = "the old way to watch a port must be returned, too")]
    let watches = [
        Some(action_profile_action::WatchKind::WatchPort(vec![2])),
        Some(action_profile_action::WatchKind::Watch(1)),
        None,
    ];
    let actions = [(2, 2), (1, 1), (2, 1)].into_iter().zip(watches).map(|((port, weight), watch_kind)| {
        v1::ActionProfileAction { action: Some(send_to(port)), weight, watch_kind }
    });
    let set = v1::ActionProfileActionSet { action_profile_actions: actions.collect(), ..Default::default() };
    let one_shot = |set: &v1::ActionProfileActionSet| spread(9, Named::ActionProfileActionSet(set.clone()));
    assert_eq!(controller.write_one(insert(one_shot(&set))).await, Code::Ok);
    let all = v1::TableEntry { table_id: id("spread"), ..Default::default() };
    assert_eq!(controller.entries(all.clone()).await, [one_shot(&set)]);
    let ports = [2, 2, 1, 2];
    for src in 0..20u64 {
        let frame = ethernet(9, src);
        assert_eq!(leaves_at(&rig, &frame).await, ports[usize::from(crc16(&frame[6..12])) % 4], "source {src}");
    }
    let mixed = vec![member(Type::Insert, 1, 1), group(Type::Insert, 1, &[])];
    assert_eq!(controller.write(mixed.clone()).await, [Code::InvalidArgument; 2]);
    let found = read(&mut controller, Entity::ActionProfileMember(v1::ActionProfileMember::default())).await;
    assert_eq!(found, [], "a one-shot's members have no ids");

    // What is wrong with a set is refused and changes nothing.
    let with = |f: &dyn Fn(&mut v1::ActionProfileAction)| {
        let mut set = set.clone();
        f(&mut set.action_profile_actions[0]);
        modify(one_shot(&set))
    };
    let codes = controller
        .write(vec![
            with(&|a| a.weight = 0),
            with(&|a| a.weight = -1),
            with(&|a| a.weight = 9),
            with(&|a| a.action = None),
            with(&|a| a.watch_kind = Some(action_profile_action::WatchKind::WatchPort(vec![7]))),
        ])
        .await;
    assert_eq!(codes, [Code::InvalidArgument; 5]);
    assert_eq!(controller.entries(all).await, [one_shot(&set)]);
    assert_eq!(controller.write_one(delete(one_shot(&set))).await, Code::Ok);
    assert_eq!(controller.write(mixed).await, [Code::Ok; 2]);
    assert_eq!(controller.write_one(insert(one_shot(&set))).await, Code::InvalidArgument);
    rig.stop().await;
}

/// P4Runtime 1.5 §9.2.3: a set may say how its members are selected, and what its size is.
#[tokio::test]
async fn one_shot_sets_may_select_by_chance_and_measure_their_size_otherwise() {
    use v1::action_profile_action_set::{ActionSelectionMode as Mode, SizeSemantics};
    let (rig, mut controller) = start().await;
    let action = |(port, weight)| v1::ActionProfileAction { action: Some(send_to(port)), weight, watch_kind: None };
    let set = |mode: Mode, size: SizeSemantics, of: &[(u8, i32)]| v1::ActionProfileActionSet {
        action_profile_actions: of.iter().copied().map(action).collect(),
        action_selection_mode: mode.into(),
        size_semantics: size.into(),
        group_action: None,
    };
    let one_shot = |set: &v1::ActionProfileActionSet| spread(9, Named::ActionProfileActionSet(set.clone()));
    let all = v1::TableEntry { table_id: id("spread"), ..Default::default() };

    // One flow goes both ways, as often as the weights say, roughly: 3 to 1.
    let random = set(Mode::Random, SizeSemantics::SumOfWeights, &[(1, 3), (2, 1)]);
    assert_eq!(controller.write_one(insert(one_shot(&random))).await, Code::Ok);
    assert_eq!(controller.entries(all.clone()).await, [one_shot(&random)]);
    let mut first = 0;
    for _ in 0..400 {
        first += u32::from(leaves_at(&rig, &ethernet(9, 1)).await == 1);
    }
    assert!((200..400).contains(&first), "{first} of 400");

    // By the hash, a flow goes one way.
    let hashed = set(Mode::Hash, SizeSemantics::SumOfWeights, &[(1, 1), (2, 1)]);
    assert_eq!(controller.write_one(modify(one_shot(&hashed))).await, Code::Ok);
    assert_eq!(controller.entries(all.clone()).await, [one_shot(&hashed)]);
    for src in 0..20u64 {
        let frame = ethernet(9, src);
        let expected = 1 + u64::from(crc16(&frame[6..12])) % 2;
        assert_eq!(u64::from(leaves_at(&rig, &frame).await), expected, "source {src}");
    }

    // The selector's groups have a size of at most 8, by weights.
    let heavy = [(1, 8), (2, 8)];
    let codes = controller
        .write(vec![
            modify(one_shot(&set(Mode::Hash, SizeSemantics::SumOfWeights, &heavy))),
            modify(one_shot(&set(Mode::Hash, SizeSemantics::SumOfMembers, &heavy))),
            modify(one_shot(&v1::ActionProfileActionSet { action_selection_mode: 3, ..hashed.clone() })),
            modify(one_shot(&v1::ActionProfileActionSet { size_semantics: 3, ..hashed.clone() })),
            modify(one_shot(&v1::ActionProfileActionSet { group_action: Some(send_to(1)), ..hashed.clone() })),
        ])
        .await;
    let [wrong, ok] = [Code::InvalidArgument, Code::Ok];
    assert_eq!(codes, [wrong, ok, wrong, wrong, Code::Unimplemented]);
    assert_eq!(controller.entries(all).await, [one_shot(&set(Mode::Hash, SizeSemantics::SumOfMembers, &heavy))]);
    rig.stop().await;
}

/// P4Runtime 1.5 §9.2: where the P4Info disallows weights, 0 is the only one.
#[tokio::test]
async fn members_have_no_weights_where_the_p4info_disallows_them() {
    let (rig, mut controller) = start().await;
    let mut p4info = fanout();
    p4info.action_profiles.iter_mut().for_each(|p| p.weights_disallowed = true);
    let config =
        v1::ForwardingPipelineConfig { p4info: Some(p4info), p4_device_config: JSON.to_vec(), ..Default::default() };
    controller.commit(config).await.unwrap();
    let codes = controller
        .write(vec![
            member(Type::Insert, 1, 1),
            member(Type::Insert, 2, 2),
            group(Type::Insert, 1, &[(1, 1)]),
            group(Type::Insert, 1, &[(1, 0), (2, 0)]),
            insert(spread(9, Named::ActionProfileGroupId(1))),
        ])
        .await;
    assert_eq!(codes, [Code::Ok, Code::Ok, Code::InvalidArgument, Code::Ok, Code::Ok]);
    let found = read(&mut controller, Entity::ActionProfileGroup(group_of(1, &[]))).await;
    assert_eq!(found, [Entity::ActionProfileGroup(group_of(1, &[(1, 0), (2, 0)]))]);
    for src in 0..10u64 {
        let frame = ethernet(9, src);
        assert_eq!(u64::from(leaves_at(&rig, &frame).await), 1 + u64::from(crc16(&frame[6..12])) % 2, "source {src}");
    }
    rig.stop().await;
}
