mod thousand;

use std::time::Duration;

use dmux_wire::GatewayId;

use super::filter::{Publisher, Quiet};
use super::*;

fn at(x: i32, y: i32, height: u32) -> Coordinate {
    Coordinate { position: [x, y, 0], height, error_permille: 100 }
}

#[test]
fn a_distance_is_along_the_ground_and_up_both_heights() {
    assert_eq!(at(0, 0, 10).distance_us(&at(3_000, 4_000, 200)), 5_210);
    assert_eq!(at(i32::MIN, 0, u32::MAX).distance_us(&at(i32::MAX, 0, u32::MAX)), 4_294_967_295 * 3);
}

#[test]
fn nodes_that_start_at_one_place_find_distances_that_fit() {
    // A triangle with three different sides, and an access link of 5 ms at the last.
    let rtt = [[0, 10, 25], [10, 0, 25], [25, 25, 0]].map(|row| row.map(|ms: i32| f64::from(ms) * 1000.0));
    let mut nodes: Vec<_> = (1..4).map(Vivaldi::new).collect();
    for round in 0..2_000 {
        for (i, j) in [(0, 1), (1, 2), (2, 0), (1, 0), (2, 1), (0, 2)] {
            let remote = nodes[j].coordinate();
            nodes[i].update(rtt[i][j], &remote);
        }
        if round == 0 {
            assert!(nodes.iter().all(|n| !n.coordinate().is_trusted()));
        }
    }
    for (i, j) in [(0, 1), (1, 2), (2, 0)] {
        let (a, b) = (nodes[i].coordinate(), nodes[j].coordinate());
        let off = (a.distance_us(&b) as f64 - rtt[i][j]).abs() / rtt[i][j];
        assert!(off < 0.02 && a.is_trusted() && a.is_sane(), "{i} {j}: {a:?} {b:?}");
    }
}

#[test]
fn nonsense_from_others_leaves_a_coordinate_finite() {
    let mut node = Vivaldi::new(1);
    for remote in [at(i32::MAX, i32::MIN, u32::MAX), Coordinate { error_permille: 0, ..at(0, 0, 0) }] {
        for rtt in [0.0, 1e-9, 1e12] {
            (0..100).for_each(|_| node.update(rtt, &remote));
            assert!(node.coordinate().is_sane(), "{:?}", node.coordinate());
        }
    }
}

#[test]
fn one_slow_answer_of_four_does_not_count() {
    let mut quiet = Quiet::default();
    let filtered = [10, 11, 90, 12, 300, 13].map(|rtt| quiet.next(rtt));
    assert_eq!(filtered, [10, 10, 10, 10, 11, 12]);
}

#[test]
fn what_moved_little_is_not_published_and_what_failed_is_again() {
    let second = Duration::from_secs(1);
    let mut publisher = Publisher::default();
    assert_eq!(publisher.due(second, None), None, "nothing is known");
    (0..16).for_each(|n| publisher.add(n * second, at(50_000, 0, 200)));
    assert_eq!(publisher.due(second, Some(20_000)), Some(at(50_000, 0, 200)));
    (16..32).for_each(|n| publisher.add(n * second, at(55_000, 0, 200)));
    assert_eq!(publisher.due(30 * second, Some(20_000)), None, "5 ms, where the nearest is 20 ms away");
    assert_eq!(publisher.due(30 * second, Some(4_000)), Some(at(55_000, 0, 200)));
    (32..48).for_each(|n| publisher.add(n * second, at(99_000, 0, 200)));
    assert_eq!(publisher.due(31 * second, Some(4_000)), None, "too early");
    publisher.failed();
    assert!(publisher.due(41 * second, Some(4_000)).is_some());
}

#[test]
fn neighbours_are_the_nearest_and_some_others_and_the_same_for_a_seed() {
    let others: Vec<_> = (2..500).map(|n| (GatewayId(n), Some(u64::from(n) * 100))).collect();
    let chosen = neighbours::choose(7, &others);
    assert_eq!(chosen, neighbours::choose(7, &others));
    assert_eq!(chosen.len(), NEAR + RANDOM);
    assert!((2..14).all(|n| chosen.contains(&GatewayId(n))));
    assert!(chosen.iter().filter(|id| id.0 > 100).count() >= RANDOM / 2);
    assert_ne!(chosen, neighbours::choose(8, &others));
    let unknown: Vec<_> = others.iter().map(|(id, _)| (*id, None)).collect();
    assert_eq!(neighbours::choose(7, &unknown).len(), NEAR + RANDOM);
}

#[test]
fn the_switch_over_has_hysteresis() {
    let mut on = false;
    let mut seen = Vec::new();
    for gateways in [64, 65, 64, 57, 56, 57, 64, 65] {
        on = by_coordinates(on, gateways, 64);
        seen.push(on);
    }
    assert_eq!(seen, [false, true, true, true, false, false, false, true]);
    assert!(!by_coordinates(true, 0, 0));
}
