//! Meters over ten seconds of simulated time: what passes is the rate and the burst, to the byte and whatever the sizes
//! and times of frames; and what the granularity of a worker's clock costs.

#![allow(clippy::unwrap_used, reason = "a failed unwrap in a test, helpers included, is a failed test")]

mod pipeline_support;

use dmux_softswitch::pipeline::{Dataplane, MeterConfig, TableIx, Worker};
use pipeline_support::build::{action, assign, program};
use pipeline_support::dataplane;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU64, Ordering};

const SECONDS: u64 = 10;
const MICROS: u64 = 1_000_000;

/// A program that meters every frame by bytes and lets the colour leave in its first byte.
fn metering() -> Dataplane {
    let fields = vec![("colour".to_owned(), 8, false)];
    let zero = json!({"type": "hexstr", "value": "0x00"});
    let execute = json!({"op": "execute_meter", "parameters": [
        {"type": "meter_array", "value": "m"}, zero, {"type": "field", "value": ["h", "colour"]}]});
    let port = json!({"op": "assign", "parameters": [
        {"type": "field", "value": ["standard_metadata", "egress_spec"]}, {"type": "hexstr", "value": "0x01"}]});
    let always = json!({
        "name": "t", "id": 0, "key": [], "match_type": "exact", "type": "simple", "max_size": 1,
        "action_ids": [0], "actions": ["go"], "base_default_next": null, "next_tables": {"go": null},
        "default_entry": {"action_id": 0, "action_const": true, "action_data": [], "action_entry_const": true},
    });
    let actions = vec![action("go", 0, &[], vec![assign("colour", &zero), execute, port])];
    let mut root: Value =
        serde_json::from_slice(&program(&fields, actions, vec![always], "t")).expect("JSON that was just made");
    root["meter_arrays"] = json!([{"name": "m", "id": 0, "type": "bytes", "size": 1, "rate_count": 2}]);
    let dp = dataplane(root.to_string().as_bytes());
    assert!(dp.program().table_by_name("t") == Some(TableIx(0)));
    dp
}

/// The bytes that were green when frames of these lengths arrive at those times (one clock reading a batch).
fn green(dp: &Dataplane, mut frames: impl FnMut() -> Option<(u64, usize)>) -> u64 {
    let (mut worker, mut green) = (Worker::new(dp), 0);
    let frame = vec![0; 65_535];
    while let Some((now, len)) = frames() {
        worker.process(dp, 0, &frame[..len], now, &mut |_, f| green += if f[0] == 0 { f.len() as u64 } else { 0 });
    }
    green
}

fn one_rate(bytes_per_second: u64, burst: u64) -> Option<MeterConfig> {
    Some(MeterConfig::TwoRates { cir: bytes_per_second, cburst: burst, pir: bytes_per_second, pburst: burst })
}

/// The offered load is twice the rate, in frames of `len` that come in batches: the clock is read once for each. `last` is its last reading.
fn offered<'a>(
    rate: u64,
    len: usize,
    batch: u64,
    start: u64,
    last: &'a mut u64,
) -> impl FnMut() -> Option<(u64, usize)> + 'a {
    let mut sent = 0u64;
    move || {
        // The batch arrives when its last frame has.
        let batch_end = (sent / batch + 1) * batch * len as u64;
        let now = u128::from(batch_end) * u128::from(MICROS) / u128::from(2 * rate);
        sent += 1;
        if now > u128::from(SECONDS * MICROS) {
            return None;
        }
        *last = start + now as u64;
        Some((*last, len))
    }
}

#[test]
fn over_ten_seconds_the_accepted_bytes_are_the_rate_and_the_burst() {
    for megabits in [1, 10, 100] {
        let rate = megabits * 1_000_000 / 8;
        for len in [64, 65, 128, 577, 1000, 1400, 1500, 9000] {
            for batch in [1, 32] {
                let dp = metering();
                // As large as what comes between two looks at the clock: twice, for what the frames do not use up at once.
                let burst = 2 * batch * len as u64;
                dp.set_meter(0, 0, one_rate(rate, burst)).unwrap();
                // The burst is used up first, and then does not count.
                let start = 3 * MICROS;
                let taken = drain(&dp, len, burst, start);
                assert!(taken <= burst && taken + len as u64 > burst, "the burst's part: {taken} of {burst}");
                let mut last = start;
                let passed = green(&dp, offered(rate, len, batch, start, &mut last));
                let fair = rate * (last - start) / MICROS;
                assert!(fair * 1000 > rate * SECONDS * 999 - 1000 * batch * len as u64, "it took ten seconds");
                // A frame passes or not: what is left in the bucket, at either end, is less than one.
                let off = passed.abs_diff(fair);
                assert!(
                    off * 1000 <= fair || off < len as u64,
                    "{megabits} Mb/s, {len} bytes, batches of {batch}: {passed} of {fair}"
                );
            }
        }
    }
}

/// Uses up the burst at one point of time.
fn drain(dp: &Dataplane, len: usize, burst: u64, now: u64) -> u64 {
    let mut left = burst / len as u64 + 2;
    green(dp, || {
        left = left.checked_sub(1)?;
        Some((now, len))
    })
}

#[test]
fn mixed_sizes_and_uneven_times_lose_no_tokens() {
    let (rate, burst, start) = (12_500_000, 64 * 1500, MICROS);
    let dp = metering();
    dp.set_meter(0, 0, one_rate(rate, burst)).unwrap();
    drain(&dp, 64, burst, start);
    let (mut now, mut seed) = (start, 7u64);
    let passed = green(&dp, || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let random = seed >> 33;
        // Bursts of several frames, then a pause; on average more than the rate.
        now += if random.is_multiple_of(8) { random % 700 } else { 0 };
        (now <= start + SECONDS * MICROS).then_some((now, 64 + (random >> 8) as usize % 1437))
    });
    let fair = rate * SECONDS;
    assert!(passed.abs_diff(fair) * 1000 <= fair, "{passed} of {fair}");
}

#[test]
fn a_burst_smaller_than_what_comes_between_two_looks_at_the_clock_loses_the_rest() {
    // 100 Mb/s bring 12,500 bytes in a millisecond; a bucket of 3000 keeps 3000 of them.
    let (rate, burst, start) = (12_500_000, 3000, MICROS);
    let dp = metering();
    dp.set_meter(0, 0, one_rate(rate, burst)).unwrap();
    drain(&dp, 1000, burst, start);
    let mut n = 0u64;
    let passed = green(&dp, || {
        n += 1;
        let now = start + n / 20 * 1000;
        (now <= start + SECONDS * MICROS).then_some((now, 1000))
    });
    assert_eq!(passed, SECONDS * 1000 * 3000);
}

#[test]
fn workers_whose_clocks_differ_share_one_rate() {
    let (rate, start) = (1_250_000, MICROS);
    let dp = metering();
    let burst = 30_000;
    dp.set_meter(0, 0, one_rate(rate, burst)).unwrap();
    drain(&dp, 100, burst, start);
    // Each of four threads goes through the same ten seconds, in batches, at its own pace.
    let total = AtomicU64::new(0);
    std::thread::scope(|s| {
        let (dp, total) = (&dp, &total);
        for worker in 0..4u64 {
            s.spawn(move || {
                let mut n = worker;
                let mine = green(dp, || {
                    n += 1;
                    let now = start + n / 8 * 500;
                    (now <= start + SECONDS * MICROS).then_some((now, 100 + (n % 7) as usize * 200))
                });
                total.fetch_add(mine, Ordering::Relaxed);
            });
        }
    });
    let (passed, fair) = (total.into_inner(), rate * SECONDS);
    assert!(passed <= fair + burst, "{passed} of {fair}: more than the rate");
}
