//! How exactly a meter keeps its rate: bytes that it lets pass in ten seconds, at twice the rate offered.
//!
//! Time is given to the pipeline with each frame, so ten seconds take as long as the frames do; and once more on a real clock
//! (see [`crate::meters_live`]), which takes ten seconds.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use dmux_softswitch::pipeline::{Dataplane, MeterConfig, Program, Worker};

use crate::Options;
use crate::gateway::Pipeline;
use crate::meters_live;
use crate::pipeline::Still;
use crate::table::{Better, Cell, Row, Section};

const RATES_MBIT: [u64; 3] = [1, 10, 100];
/// `None` is a mixture of all of them.
const SIZES: [Option<usize>; 5] = [Some(64), Some(128), Some(512), Some(1400), None];
/// Two full frames may pass at once.
const BURST: u64 = 3000;
/// How long on a real clock.
const LIVE: Duration = Duration::from_secs(10);
const LIVE_QUICK: Duration = Duration::from_secs(1);
const SECOND_US: u64 = 1_000_000;
/// The burst is spent before measuring starts.
const WARM_UP_US: u64 = SECOND_US;
const MEASURED_US: u64 = 10 * SECOND_US;
/// The port where frames leave that the meter does not find red.
const PASSED: u16 = 1;

/// Measures the section.
pub fn measure(options: &Options) -> Result<Section> {
    let mut section = Section::new("meters", "");
    let pipeline = Pipeline::load(&crate::programs().join("meters"))?;
    let program = Program::compile(&pipeline.json)?;
    for rate in RATES_MBIT {
        for size in SIZES {
            let off = deviation(&program, rate * 1_000_000 / 8, size)?;
            let what = what(rate, size);
            section.rows.push(Row::alone(what, "% off the rate", Better::Lower, Cell::samples(vec![off])));
        }
    }
    let time = if options.quick { LIVE_QUICK } else { LIVE };
    match meters_live::deviations(&pipeline, time) {
        Ok(off) => {
            for ((rate, size), off) in meters_live::FLOWS.into_iter().zip(off) {
                let what = format!("{}, real clock", what(rate, size));
                section.rows.push(Row::alone(what, "% off the rate", Better::Lower, Cell::samples(vec![off])));
            }
        }
        Err(error) => {
            let absent = Cell::Absent(format!("{error:#}"));
            section.rows.push(Row::alone("real clock".to_owned(), "% off the rate", Better::Lower, absent));
        }
    }
    section.notes.push(format!(
        "Real clock: a running switch with ports in memory, all rates at once for {} s, bursts of {} ms at the rate. The bytes that \
         pass are compared with burst + rate × time; one frame more or less is up to {:.2} % at 1 Mb/s.",
        time.as_secs(),
        meters_live::BURST.as_millis(),
        100.0 * 1459.0 / (125_000.0 * time.as_secs_f64()),
    ));
    section.notes.push(format!(
        "`meters.p4`, a meter of bytes with equal rates and bursts of {BURST} bytes; twice the rate is offered, and what passes in \
         {} s of simulated time after the burst is spent is compared with rate × time.",
        MEASURED_US / SECOND_US
    ));
    Ok(section)
}

fn what(mbit: u64, size: Option<usize>) -> String {
    let sizes = size.map_or_else(|| "mixed sizes".to_owned(), |bytes| format!("{bytes} bytes"));
    format!("{mbit} Mb/s, {sizes}")
}

/// By how much the bytes that pass differ from the rate, in percent.
fn deviation(program: &Arc<Program>, rate: u64, size: Option<usize>) -> Result<f64> {
    let dataplane = Dataplane::new(Arc::clone(program), Arc::new(Still));
    let meters = program.meters();
    let meter = meters.iter().position(|m| m.name.ends_with("bytes")).context("no meter of bytes")?;
    dataplane.set_meter(
        meter,
        0,
        Some(MeterConfig::TwoRates { cir: rate, cburst: BURST, pir: rate, pburst: BURST }),
    )?;
    let mut worker = Worker::new(&dataplane);
    let (mut offered, mut passed, mut n) = (0u64, 0u64, 0u64);
    loop {
        // When the next frame is sent at twice the rate.
        let now = u64::try_from(u128::from(offered) * u128::from(SECOND_US) / u128::from(2 * rate))?;
        if now >= WARM_UP_US + MEASURED_US {
            break;
        }
        let len = meters_live::length(size, n);
        let mut frame = vec![0; len];
        // Cell 0 of the meter of bytes.
        frame[1] = 0x10;
        worker.process(&dataplane, 3, &frame, now, &mut |port, out| {
            if port == PASSED && now >= WARM_UP_US {
                passed += out.len() as u64;
            }
        });
        offered += len as u64;
        n += 1;
    }
    let fair = rate as f64 * MEASURED_US as f64 / SECOND_US as f64;
    Ok(100.0 * (passed as f64 - fair).abs() / fair)
}
