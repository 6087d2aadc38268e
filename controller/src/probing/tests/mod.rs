//! Numbers, smoothing and reports; who answers and who does not is in `silence.rs`.

mod network;
mod silence;

use std::collections::BTreeSet;

use super::stamps::STAMP_MASK;
use super::*;
use crate::model::LatencySample;

const B: GatewayId = GatewayId(2);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn prober() -> Prober {
    let mut p = Prober::new(ProbeTimers::default(), 7);
    p.set_peers(ms(0), [(B, ADDRESS)]);
    p
}

fn stamps(rtt_us: u64) -> Stamps {
    Stamps { out: 1_000, reflect_in: 77, reflect_out: 177, back: 1_000 + 100 + rtt_us }
}

/// Lets the prober run until it sends the probe that is due at `now`, and answers it at once.
fn answered(p: &mut Prober, now: Duration, rtt_us: u64) {
    let (due, _) = p.tick(now);
    assert_eq!(due.len(), 1);
    p.reply(now, ADDRESS, due[0].sequence, &stamps(rtt_us)).unwrap();
}

#[test]
fn the_time_at_the_reflecting_switch_is_not_in_the_round_trip() {
    assert_eq!(stamps(250).round_trip(), Ok(Duration::from_micros(250)));
}

#[test]
fn stamps_may_wrap_at_48_bits() {
    let s = Stamps { out: STAMP_MASK - 9, reflect_in: STAMP_MASK, reflect_out: 4, back: 100 };
    assert_eq!(s.round_trip(), Ok(Duration::from_micros(105)));
}

#[test]
fn impossible_stamps_are_refused_and_do_not_spend_the_probe() {
    let backwards = Stamps { out: 100, reflect_in: 0, reflect_out: 50, back: 120 };
    assert!(matches!(backwards.round_trip(), Err(ProbeError::Impossible { total: 20, held: 50 })));
    let late = Stamps { out: 0, reflect_in: 0, reflect_out: 0, back: 10_000_001 };
    assert!(late.round_trip().is_err());
    let mut p = prober();
    let sequence = p.tick(ms(0)).0[0].sequence;
    assert!(matches!(p.reply(ms(1), ADDRESS, sequence, &backwards), Err(ProbeError::Impossible { .. })));
    p.reply(ms(1), ADDRESS, sequence, &stamps(1)).unwrap();
}

#[test]
fn a_peer_is_probed_once_an_interval_and_believed_after_three_samples() {
    let mut p = prober();
    let (due, next) = p.tick(ms(0));
    assert_eq!((due.len(), next), (1, Some(MOST_ALLOWANCE)), "the answer is due before the next probe");
    p.reply(ms(0), ADDRESS, due[0].sequence, &stamps(900)).unwrap();
    assert_eq!(p.tick(ms(999)), (vec![], Some(ms(1000))));
    answered(&mut p, ms(1000), 400);
    assert_eq!(p.view()[&B].rtt, None);
    answered(&mut p, ms(2000), 500);
    assert_eq!(p.view()[&B].rtt, Some(Duration::from_micros(400)));
    answered(&mut p, ms(3000), 1200);
    assert_eq!(p.view()[&B].rtt, Some(Duration::from_micros(500)), "7/8 of 400 and 1/8 of 1200");
}

#[test]
fn a_watched_peer_is_smoothed_by_the_least_of_each_window_and_over_the_same_time() {
    let mut p = prober();
    p.watch(ms(0), &BTreeSet::from([B]));
    for n in 0..3 {
        answered(&mut p, ms(40 * n), 400);
    }
    // The window of a second that began at 80 ms: busy, but for one sample.
    for n in 3..28 {
        answered(&mut p, ms(40 * n), if n == 9 { 1_200 } else { 90_000 });
        let expected = if n < 27 { 400 } else { 500 };
        assert_eq!(p.view()[&B].rtt, Some(Duration::from_micros(expected)), "{n}");
    }
}

#[test]
fn forged_replayed_and_foreign_replies_are_refused() {
    let mut p = prober();
    let (due, _) = p.tick(ms(0));
    let seq = due[0].sequence;
    assert!(p.reply(ms(1), ADDRESS, seq ^ 1, &stamps(1)).is_err());
    assert!(p.reply(ms(1), Ipv4Addr::new(192, 0, 2, 9), seq, &stamps(1)).is_err());
    p.reply(ms(1), ADDRESS, seq, &stamps(1)).unwrap();
    assert!(p.reply(ms(1), ADDRESS, seq, &stamps(1)).is_err(), "a replay answers nothing");
}

#[test]
fn outstanding_probes_are_bounded() {
    let mut p = prober();
    for n in 0..100 {
        p.tick(ms(1000 * n));
    }
    assert_eq!(p.outstanding(B), MAX_OUTSTANDING);
}

#[test]
fn only_meaningful_changes_are_reported_and_a_failed_report_is_repeated() {
    let mut p = prober();
    for n in 0..3 {
        answered(&mut p, ms(1000 * n), 10_000);
    }
    assert_eq!(p.report(ms(2000)), [LatencySample::lossless(B, 10_000)], "a first measurement goes at once");
    answered(&mut p, ms(3000), 10_500);
    assert_eq!(p.report(ms(60_000)), [], "jitter is not news");
    for n in 4..60 {
        answered(&mut p, ms(1000 * n), 30_000);
    }
    let report = p.report(ms(60_000));
    assert_eq!(report.len(), 1);
    assert_eq!(p.report(ms(60_001)), []);
    p.report_failed([B]);
    assert_eq!(p.report(ms(60_002)), report);
}

#[test]
fn a_distance_follows_in_steps_so_that_jitter_plans_nothing() {
    let mut p = prober();
    for n in 0..3 {
        answered(&mut p, ms(1000 * n), 10_000);
    }
    let version = p.version();
    for n in 3..100 {
        answered(&mut p, ms(1000 * n), 10_000 + 40 * (n % 10));
    }
    assert_eq!((p.version(), p.view()[&B].distance), (version, Some(ms(10))));
    for n in 100..200 {
        answered(&mut p, ms(1000 * n), 20_000);
    }
    assert!((version + 5..version + 40).contains(&p.version()), "{}", p.version() - version);
    assert!(p.view()[&B].distance.unwrap() > ms(19));
}

#[test]
fn peers_that_stay_keep_their_history_unless_their_address_changes() {
    let mut p = prober();
    for n in 0..3 {
        answered(&mut p, ms(1000 * n), 10_000);
    }
    p.set_peers(ms(3000), [(B, ADDRESS), (GatewayId(3), Ipv4Addr::new(192, 0, 2, 3))]);
    assert!(p.view()[&B].rtt.is_some());
    p.set_peers(ms(3000), [(B, Ipv4Addr::new(192, 0, 2, 20))]);
    assert!(p.view()[&B].rtt.is_none());
    assert_eq!(p.view().len(), 1);
}
