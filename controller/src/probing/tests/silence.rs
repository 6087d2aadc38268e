//! Who does not answer, and what is no evidence of it. In simulated time.

use super::network::Network;
use super::*;

const C: GatewayId = GatewayId(3);
const HOUR: Duration = Duration::from_secs(3600);
const SECOND: Duration = Duration::from_secs(1);

/// Two watched peers and three others.
fn network(seed: u64) -> Network {
    Network::new(ProbeTimers::default(), seed, &[8, 20, 12, 35, 60], 2)
}

#[test]
fn a_watched_peer_that_dies_is_unreachable_within_four_intervals_and_an_allowance() {
    for seed in 0..200 {
        let mut net = network(seed);
        net.run_until(5 * SECOND + ms(seed));
        let bound = net.prober.detects_within(B).unwrap();
        assert!(bound <= ms(215), "{bound:?}");
        let died = net.now;
        net.kill(B);
        net.run_until(died + SECOND);
        let [(at, who, false)] = net.changes[..] else { panic!("{:?}", net.changes) };
        assert_eq!(who, B);
        // A reply that was under way still comes.
        assert!(at - died <= bound + ms(9), "{:?} of {bound:?}", at - died);
        net.dead.clear();
        net.run_until(died + 2 * SECOND);
        assert_eq!(net.changes.len(), 2);
        assert!(net.changes[1].0 - died <= SECOND + ms(200) && net.changes[1].2, "{:?}", net.changes);
    }
}

#[test]
fn a_peer_that_nobody_watches_is_unreachable_after_three_slow_probes() {
    let mut net = network(1);
    net.run_until(10 * SECOND);
    net.kill(GatewayId(5));
    net.run_until(20 * SECOND);
    let [(at, GatewayId(5), false)] = net.changes[..] else { panic!("{:?}", net.changes) };
    assert!(at >= 12 * SECOND && at <= 13 * SECOND + ms(600), "{at:?}");
}

#[test]
fn an_hour_of_a_busy_machine_accuses_nobody_and_every_death_is_seen() {
    let mut net = network(42);
    (net.loss_permille, net.delay) = (10, ms(150));
    net.stalls = Some((2 * SECOND, ms(400)));
    let mut deaths = 0;
    let mut slowest = Duration::ZERO;
    while net.now < HOUR {
        // A quiet minute, then a death of one of the watched.
        let quiet = net.now + Duration::from_secs(50) + net.random.below(5 * SECOND);
        net.run_until(quiet);
        assert_eq!(net.changes, [], "nobody has died since the last was back");
        let victim = if net.random.chance(500) { B } else { C };
        let (died, stalled, stalls) = (net.now, net.stalled, net.stall_count);
        let bound = net.prober.detects_within(victim).unwrap();
        net.kill(victim);
        net.run_until(died + 3 * SECOND);
        let [(at, who, false)] = net.changes[..] else { panic!("{victim}: {:?}", net.changes) };
        assert_eq!(who, victim);
        let (stalls, stalled) = (net.stall_count - stalls + 1, net.stalled - stalled + ms(400));
        // A reply that was under way comes up to 170 ms after the death, and each stall has its length and a grace.
        let allowed = bound + ms(170) + stalled + stalls * LEAST_ALLOWANCE;
        assert!(at - died <= allowed, "{:?} of {allowed:?}", at - died);
        slowest = slowest.max(at - died);
        deaths += 1;
        net.dead.clear();
        net.run_until(died + 5 * SECOND);
        let [_, (_, back, true)] = net.changes[..] else { panic!("{victim}: {:?}", net.changes) };
        assert_eq!(back, victim);
        net.changes.clear();
    }
    assert!(deaths > 50 && net.stall_count > 1500, "{deaths} deaths, {} stalls, slowest {slowest:?}", net.stall_count);
}

#[test]
fn an_hour_of_loss_and_delay_without_stalls_sees_a_death_within_the_bound() {
    let mut net = network(7);
    (net.loss_permille, net.delay) = (10, ms(150));
    net.run_until(HOUR);
    assert_eq!(net.changes, []);
    let bound = net.prober.detects_within(C).unwrap();
    assert!(bound <= ms(160) + MOST_ALLOWANCE);
    net.kill(C);
    net.run_until(HOUR + 2 * SECOND);
    let [(at, C, false)] = net.changes[..] else { panic!("{:?}", net.changes) };
    assert!(at - HOUR <= bound + ms(170), "{:?} of {bound:?}", at - HOUR);
}

#[test]
fn a_deaf_switch_of_our_own_accuses_nobody() {
    for seed in 0..50 {
        let mut net = network(seed);
        net.run_until(5 * SECOND);
        for n in 1..20 {
            net.deafen(ms(200 + 10 * seed));
            net.run_until((5 + 3 * n) * SECOND);
        }
        assert_eq!(net.changes, [], "seed {seed}");
    }
}

#[test]
fn silence_of_everybody_counts_in_the_end() {
    let mut net = network(3);
    net.run_until(5 * SECOND);
    (2..7).for_each(|id| net.kill(GatewayId(id)));
    net.run_until(5 * SECOND + BLIND_AFTER - ms(100));
    assert_eq!(net.changes, []);
    net.run_until(20 * SECOND);
    assert_eq!(net.changes.len(), 5, "{:?}", net.changes);
}

#[test]
fn with_one_watched_peer_others_are_called_as_witnesses_when_it_is_in_doubt() {
    let mut net = Network::new(ProbeTimers::default(), 5, &[8, 20, 12, 35], 1);
    net.run_until(5 * SECOND);
    net.kill(B);
    net.run_until(5 * SECOND + ms(320));
    assert_eq!(net.changes.len(), 1, "{:?}", net.changes);
    assert_eq!((net.changes[0].1, net.changes[0].2), (B, false));
}

#[test]
fn a_lossy_path_is_no_dead_peer_but_a_farther_one() {
    let mut net = network(11);
    net.run_until(10 * SECOND);
    let before = net.prober.view()[&B].distance.unwrap();
    net.loss_permille = 120;
    net.run_until(600 * SECOND);
    let view = net.prober.view()[&B];
    assert!((40..260).contains(&view.loss_permille), "{view:?}");
    assert!(view.distance.unwrap() > before && view.reachable, "{view:?}");
    assert_eq!(net.changes, []);
    let dearer = net.prober.detects_within(B).unwrap();
    assert!(dearer > ms(250) && dearer < ms(16 * 40) + MOST_ALLOWANCE, "{dearer:?}");
}

#[test]
fn probes_stay_within_the_rate_however_many_peers_there_are() {
    let timers = ProbeTimers { per_second: 300, ..ProbeTimers::default() };
    let rtts: Vec<u64> = (0..1000).map(|n| 5 + n % 90).collect();
    let mut net = Network::new(timers, 9, &rtts, 40);
    let mut before = 0;
    for second in 1..=30 {
        net.run_until(second * SECOND);
        let sent: u64 = net.sent.values().sum();
        assert!(sent - before <= 331, "{} in second {second}", sent - before);
        before = sent;
    }
    // 40 watched ones want 1000 probes a second and 960 others 960: all get about a seventh of what they want.
    let (watched, other) = (net.sent[&B], net.sent[&GatewayId(900)]);
    assert!((90..140).contains(&watched) && (3..=6).contains(&other), "{watched} {other}");
    assert_eq!(net.changes, []);
}
