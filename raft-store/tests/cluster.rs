//! Three nodes in one process, over real sockets and real directories.
#![allow(clippy::unwrap_used)] // helpers of tests: a failed unwrap is a failed test

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use common::{Cluster, Kv, SOON, put, rarely};
use dmux_raft_store::{Listen, MemberError, ProposeError, Role, SnapshotPolicy, Start, Store, StoreError};

fn any_port() -> Listen {
    Listen::Addr("127.0.0.1:0".parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_node_takes_proposals_and_every_copy_agrees() {
    let cluster = Cluster::start(rarely()).await;
    let mut last = 0;
    for (id, node) in &cluster.nodes {
        let (index, count) = node.propose(put("k", &id.to_string()), SOON).await.unwrap();
        assert!(index > last);
        assert_eq!(count, *id, "each proposal was applied once");
        last = index;
    }
    for (&id, node) in &cluster.nodes {
        assert!(node.linearizable(SOON).await.unwrap() >= last);
        assert_eq!(node.read(|kv| kv.map["k"].clone()), (3, "3".to_owned()), "node {id}");
    }
    let roles: Vec<Role> = cluster.statuses().iter().map(|s| s.role).collect();
    assert_eq!(roles.iter().filter(|r| **r == Role::Leader).count(), 1, "{roles:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn proposals_that_arrive_together_are_each_answered() {
    let cluster = Cluster::start(rarely()).await;
    let mut tasks = Vec::new();
    for i in 0..300_u64 {
        let node = cluster.nodes[&(1 + i % 3)].clone();
        tasks.push(tokio::spawn(async move { node.propose(put(&format!("k{i}"), &i.to_string()), SOON).await }));
    }
    let mut indices = BTreeSet::new();
    for task in tasks {
        let (index, count) = task.await.unwrap().unwrap();
        assert_eq!(count, 1);
        indices.insert(index);
    }
    assert!(indices.len() < 300, "some shared a log entry");
    cluster.nodes[&1].linearizable(SOON).await.unwrap();
    for i in 0..300_u64 {
        assert_eq!(cluster.nodes[&1].read(|kv| kv.map[&format!("k{i}")].clone()), (1, i.to_string()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_leader_is_replaced_and_finds_its_way_back() {
    let mut cluster = Cluster::start(rarely()).await;
    let old = cluster.leader().await;
    cluster.nodes[&old].propose(put("before", "1"), SOON).await.unwrap();
    cluster.stop(old).await;
    let new = cluster.leader().await;
    assert_ne!(old, new);
    let follower = *cluster.nodes.keys().find(|id| **id != new).unwrap();
    let (index, _) = cluster.nodes[&follower].propose(put("after", "2"), SOON).await.unwrap();
    cluster.restart(old).await;
    cluster.applied(old, index).await;
    let map = cluster.nodes[&old].read(|kv| kv.map.len());
    assert_eq!(map, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_majority_nothing_is_acknowledged_and_reads_go_on() {
    let mut cluster = Cluster::start(rarely()).await;
    let (index, _) = cluster.nodes[&1].propose(put("k", "v"), SOON).await.unwrap();
    cluster.applied(3, index).await;
    cluster.stop(1).await;
    cluster.stop(2).await;
    let alone = &cluster.nodes[&3];
    let refused = alone.propose(put("k", "w"), Duration::from_millis(700)).await;
    assert!(matches!(refused, Err(ProposeError::NoLeader { .. } | ProposeError::Unknown { .. })), "{refused:?}");
    assert!(alone.linearizable(Duration::from_millis(300)).await.is_err());
    assert_eq!(alone.read(|kv| kv.map["k"].1.clone()), "v");
    // A node that starts alone has its last committed state at once, without a leader.
    cluster.stop(3).await;
    cluster.restart(3).await;
    assert_eq!(cluster.nodes[&3].read(|kv| kv.map["k"].1.clone()), "v");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_lags_behind_the_log_catches_up_by_snapshot() {
    let mut cluster = Cluster::start(SnapshotPolicy { every: 20, keep: 5 }).await;
    let leader = cluster.leader().await;
    let lagging = *cluster.nodes.keys().find(|id| **id != leader).unwrap();
    cluster.stop(lagging).await;
    // One after the other, so that each is an entry of its own; the values make the snapshot longer than one piece.
    let value = "x".repeat(8 << 10);
    let mut last = 0;
    for i in 0..120 {
        last = cluster.nodes[&leader].propose(put(&format!("k{i}"), &value), SOON).await.unwrap().0;
    }
    let purged = cluster.nodes[&leader].wait_for(SOON, |s| s.snapshot.is_some_and(|at| at > 60)).await;
    assert!(purged.is_some(), "{:?}", cluster.statuses());
    cluster.restart(lagging).await;
    cluster.applied(lagging, last).await;
    assert_eq!(cluster.nodes[&lagging].read(|kv| kv.map.len()), 120);
    assert!(cluster.nodes[&lagging].status().snapshot.is_some(), "it came by snapshot");
    // And the snapshot is what it starts from next time.
    cluster.stop(lagging).await;
    cluster.restart(lagging).await;
    cluster.applied(lagging, last).await;
    assert_eq!(cluster.nodes[&lagging].read(|kv| kv.map["k7"].1.len()), value.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_stops_as_a_whole_comes_back_with_everything() {
    let mut cluster = Cluster::start(SnapshotPolicy { every: 10, keep: 2 }).await;
    let mut last = 0;
    for i in 0..35 {
        last = cluster.nodes[&1].propose(put(&format!("k{i}"), "v"), SOON).await.unwrap().0;
    }
    for id in 1..=3 {
        cluster.stop(id).await;
    }
    for id in 1..=3 {
        cluster.restart(id).await;
    }
    for id in 1..=3 {
        cluster.applied(id, last).await;
        assert_eq!(cluster.nodes[&id].read(|kv| kv.map.len()), 35);
        assert!(
            cluster.nodes[&id].read(|kv| kv.map.values().all(|(count, _)| *count == 1)),
            "nothing was applied twice"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_voter_is_replaced_by_a_new_node_and_may_not_come_back_empty() {
    let mut cluster = Cluster::start(rarely()).await;
    cluster.nodes[&1].propose(put("k", "v"), SOON).await.unwrap();
    cluster.stop(2).await;
    std::fs::remove_dir_all(cluster.path(2)).unwrap();

    // Its old id with an empty directory: by --join, and by the command line of the first start.
    let seeds: Vec<String> = vec![cluster.members[&1].clone(), cluster.members[&3].clone()];
    let join = Start::Join { seeds: seeds.clone(), replaces: None };
    let wiped = Store::open(cluster.config(2, any_port(), join), Kv::default()).await.unwrap();
    let refused = wiped.wait_ready(SOON).await;
    assert!(matches!(&refused, Err(StoreError::JoinRefused(why)) if why.contains("never used")), "{refused:?}");
    wiped.shutdown().await;
    std::fs::remove_dir_all(cluster.path(2)).unwrap();
    let again = Start::Bootstrap { members: cluster.members.clone() };
    let wiped =
        Store::open(cluster.config(2, Listen::Addr(cluster.members[&2].parse().unwrap()), again), Kv::default()).await;
    let wiped = wiped.unwrap();
    let refused = wiped.wait_ready(SOON).await;
    assert!(matches!(&refused, Err(StoreError::Forgotten { id: 2, .. })), "{refused:?}");
    wiped.shutdown().await;

    // A new id is welcome, and takes the lost one's place.
    let join = Start::Join { seeds, replaces: Some(2) };
    let new = Store::open(cluster.config(4, any_port(), join), Kv::default()).await.unwrap();
    let status = new.wait_for(SOON, |s| s.voters.contains_key(&4) && !s.voters.contains_key(&2)).await;
    let status = status.unwrap_or_else(|| panic!("{:?}", new.status()));
    assert_eq!(status.voters.keys().copied().collect::<Vec<_>>(), [1, 3, 4]);
    new.linearizable(SOON).await.unwrap();
    assert_eq!(new.read(|kv| kv.map["k"].1.clone()), "v");

    // The cluster now survives the loss of another of the first three.
    cluster.stop(1).await;
    new.propose(put("k", "w"), SOON).await.unwrap();
    new.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_learner_holds_the_state_and_has_no_vote() {
    let cluster = Cluster::start(rarely()).await;
    cluster.nodes[&1].propose(put("k", "v"), SOON).await.unwrap();
    let seeds = cluster.members.values().cloned().collect();
    let learner = Store::open(cluster.config(9, any_port(), Start::Learn { seeds }), Kv::default()).await.unwrap();
    let status = learner.wait_ready(SOON).await.unwrap();
    assert_eq!(status.role, Role::Learner);
    assert_eq!(status.voters.len(), 3);
    learner.propose(put("k", "from the learner"), SOON).await.unwrap();
    learner.linearizable(SOON).await.unwrap();
    assert_eq!(learner.read(|kv| kv.map["k"].1.clone()), "from the learner");
    learner.remove_member(9, SOON).await.unwrap();
    let gone = cluster.nodes[&1].wait_for(SOON, |s| !s.learners.contains_key(&9)).await;
    assert!(gone.is_some());
    learner.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_node_is_a_cluster_and_its_last_voter_stays() {
    let dir = tempfile::tempdir().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let members = [(1, listener.local_addr().unwrap().to_string())].into();
    let config = |listen, start| {
        let mut config = dmux_raft_store::StoreConfig::new(1, dir.path().join("n"), listen, start);
        config.timing = common::timing();
        config
    };
    let start = Start::Bootstrap { members };
    let store = Store::open(config(Listen::Bound(listener), start.clone()), Kv::default()).await.unwrap();
    store.propose(put("k", "v"), SOON).await.unwrap();
    assert!(matches!(store.remove_member(1, SOON).await, Err(MemberError::Refused(_))));
    let addr = store.addr();
    store.shutdown().await;
    assert!(matches!(store.propose(put("k", "v"), SOON).await, Err(ProposeError::Stopped(_))));
    // The same command line again just starts.
    let store = Store::open(config(Listen::Addr(addr), start), Kv::default()).await.unwrap();
    assert_eq!(store.read(|kv| kv.map["k"].1.clone()), "v");
    store.wait_ready(SOON).await.unwrap();
    store.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_starts_are_refused_with_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("n");
    let config = |start| dmux_raft_store::StoreConfig::new(1, &path, any_port(), start);
    let empty = Store::open(config(Start::Existing), Kv::default()).await.err().unwrap();
    assert!(matches!(empty, StoreError::Empty { .. }));
    assert!(empty.to_string().contains("--bootstrap") && empty.to_string().contains("--join"), "{empty}");
    assert!(!path.exists(), "a refusal leaves nothing behind");

    let mut open_to_all = config(Start::Existing);
    open_to_all.listen = Listen::Addr("0.0.0.0:0".parse().unwrap());
    open_to_all.start = Start::Bootstrap { members: [(1, "127.0.0.1:1".to_owned())].into() };
    let refused = Store::open(open_to_all, Kv::default()).await.err().unwrap();
    assert!(matches!(refused, StoreError::NeedsTls { .. }), "{refused}");

    let others = Start::Bootstrap { members: [(2, "127.0.0.1:1".to_owned())].into() };
    assert!(matches!(Store::open(config(others), Kv::default()).await, Err(StoreError::Config(_))));

    let waiting = Start::Join { seeds: vec!["127.0.0.1:1".to_owned()], replaces: None };
    let first = Store::open(config(waiting.clone()), Kv::default()).await.unwrap();
    let second = Store::open(config(waiting), Kv::default()).await;
    assert!(matches!(second, Err(StoreError::InUse { .. })), "{:?}", second.err());
    first.shutdown().await;
    let never = Store::open(config(Start::Existing), Kv::default()).await;
    assert!(matches!(never, Err(StoreError::NeverStarted { .. })), "{:?}", never.err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_above_the_limit_is_refused_before_it_travels() {
    let cluster = Cluster::start(rarely()).await;
    let huge = cluster.nodes[&2].propose(put("k", &"x".repeat(70_000)), SOON).await;
    assert!(matches!(huge, Err(ProposeError::TooLarge { max: 65536, .. })), "{huge:?}");
    let large = cluster.nodes[&2].propose(put("k", &"x".repeat(60_000)), SOON).await;
    assert!(large.is_ok(), "{large:?}");
}
