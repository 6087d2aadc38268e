//! How exactly a meter keeps its rate on a real clock: frames through a running switch, by ports in memory.
//!
//! ```text
//!   sender, twice the rate by the clock ──▶ port ─ worker ─ meter ─ port ──▶ receiver counts bytes
//! ```
//! All rates are measured at once, each with a cell of the meter for itself. The bucket is full at the start and refilled from
//! then on, so what may pass is burst + rate × time, and what passes is that but for the last frame.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use dmux_softswitch::Switch;
use dmux_softswitch::pipeline::MeterConfig;
use dmux_softswitch::ports::{LinkConfig, MemoryPort};

use crate::gateway::Pipeline;

/// Rate in Mb/s, and bytes of a frame (`None` for a mixture).
pub const FLOWS: [(u64, Option<usize>); 6] =
    [(1, Some(64)), (1, None), (10, Some(512)), (10, None), (100, Some(1400)), (100, None)];
/// The burst, as time at the rate: a sender that is not scheduled for so long makes up for it, and no tokens are lost.
pub const BURST: Duration = Duration::from_millis(50);
/// Where frames go in, and where those leave that are not red.
const PORTS: (u16, u16) = (3, 1);
/// Between two looks at the clock.
const PAUSE: Duration = Duration::from_micros(200);
/// For frames that are still under way at the end.
const TAIL: Duration = Duration::from_millis(300);

/// The length of a flow's n-th frame.
pub fn length(size: Option<usize>, n: u64) -> usize {
    size.unwrap_or_else(|| 60 + (n.wrapping_mul(7919) % 1400) as usize)
}

/// What has passed of a flow, and when the first and the last frame came: the switch may be behind the sender.
#[derive(Clone, Copy, Default)]
struct Passed {
    bytes: u64,
    first: Option<Instant>,
    last: Option<Instant>,
}

/// By how much the bytes of each of [`FLOWS`] that pass differ from burst + rate × time, in percent of rate × time.
pub fn deviations(pipeline: &Pipeline, time: Duration) -> Result<[f64; FLOWS.len()]> {
    let switch = Switch::builder(1, 510).start()?;
    switch.load_pipeline(pipeline.info.raw().clone(), pipeline.json.clone())?;
    let dataplane = &switch.pipeline().context("no pipeline")?.dataplane;
    let meters = dataplane.program().meters();
    let meter = meters.iter().position(|m| m.name.ends_with("bytes")).context("no meter of bytes")?;
    for (cell, (rate, burst)) in FLOWS.map(|(mbit, _)| rate_and_burst(mbit)).into_iter().enumerate() {
        let config = MeterConfig::TwoRates { cir: rate, cburst: burst, pir: rate, pburst: burst };
        dataplane.set_meter(meter, cell, Some(config))?;
    }
    let from = switch.add_memory_port(PORTS.0, &LinkConfig::default())?;
    let to = switch.add_memory_port(PORTS.1, &LinkConfig::default())?;
    let done = AtomicBool::new(false);
    let passed = std::thread::scope(|scope| {
        let receiver = scope.spawn(|| receive(&to, &done));
        send(&from, time);
        std::thread::sleep(TAIL);
        done.store(true, Ordering::Release);
        receiver.join()
    });
    let passed = passed.map_err(|_| anyhow::anyhow!("the receiver has ended in a panic"))?;
    let port = switch.port_statistics().get(&PORTS.1).copied().unwrap_or_default();
    ensure!(
        port.send_failures == 0,
        "{} frames were lost behind the switch: the machine is too busy",
        port.send_failures
    );
    let mut off = [0.0; FLOWS.len()];
    for (((mbit, _), Passed { bytes, first, last }), off) in FLOWS.into_iter().zip(passed).zip(&mut off) {
        let (rate, burst) = rate_and_burst(mbit);
        let (first, last) = first.zip(last).with_context(|| format!("nothing passed at {mbit} Mb/s"))?;
        let fair = rate as f64 * last.duration_since(first).as_secs_f64();
        *off = 100.0 * (bytes as f64 - burst as f64 - fair).abs() / fair;
    }
    Ok(off)
}

/// Bytes a second, and bytes.
fn rate_and_burst(mbit: u64) -> (u64, u64) {
    let rate = mbit * 1_000_000 / 8;
    (rate, rate * BURST.as_millis() as u64 / 1000)
}

/// Sends twice the rate of every flow.
fn send(port: &MemoryPort, time: Duration) {
    // Bytes and frames.
    let mut sent = [(0, 0); FLOWS.len()];
    let mut frame = vec![0; 1460];
    let began = Instant::now();
    while began.elapsed() < time {
        for (cell, ((mbit, size), (bytes, frames))) in FLOWS.into_iter().zip(&mut sent).enumerate() {
            let due = (2.0 * rate_and_burst(mbit).0 as f64 * began.elapsed().as_secs_f64()) as u64;
            // The meter of bytes is behind the 16 cells of the meter of packets.
            frame[1] = 0x10 + cell as u8;
            while *bytes < due {
                let length = length(size, *frames);
                // Full: the switch is behind, and what is due waits.
                if !port.send(&frame[..length]) {
                    break;
                }
                *bytes += length as u64;
                *frames += 1;
            }
        }
        std::thread::sleep(PAUSE);
    }
}

/// Counts what passes, by cell.
fn receive(port: &MemoryPort, done: &AtomicBool) -> [Passed; FLOWS.len()] {
    let mut passed = [Passed::default(); FLOWS.len()];
    while !done.load(Ordering::Acquire) {
        while let Some(frame) = port.receive(PAUSE) {
            let cell = frame.get(1).map(|index| usize::from(index.wrapping_sub(0x10)));
            if let Some(passed) = cell.and_then(|cell| passed.get_mut(cell)) {
                let now = Instant::now();
                passed.first.get_or_insert(now);
                passed.last = Some(now);
                passed.bytes += frame.len() as u64;
            }
        }
    }
    passed
}
