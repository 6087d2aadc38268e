//! How exactly a meter keeps its rate: bytes that it lets pass in ten seconds, at twice the rate offered.
//!
//! Time is given to the pipeline with each frame, so ten seconds take as long as the frames do.

use std::sync::Arc;

use anyhow::{Context, Result};
use dmux_softswitch::pipeline::{Dataplane, MeterConfig, Program, Worker};

use crate::gateway::Pipeline;
use crate::pipeline::Still;
use crate::table::{Better, Cell, Row, Section};

const RATES_MBIT: [u64; 3] = [1, 10, 100];
/// `None` is a mixture of all of them.
const SIZES: [Option<usize>; 5] = [Some(64), Some(128), Some(512), Some(1400), None];
/// Two full frames may pass at once.
const BURST: u64 = 3000;
const SECOND_US: u64 = 1_000_000;
/// The burst is spent before measuring starts.
const WARM_UP_US: u64 = SECOND_US;
const MEASURED_US: u64 = 10 * SECOND_US;
/// The port where frames leave that the meter does not find red.
const PASSED: u16 = 1;

/// Measures the section.
pub fn measure() -> Result<Section> {
    let mut section = Section::new("meters", "");
    let pipeline = Pipeline::load(&crate::programs().join("meters"))?;
    let program = Program::compile(&pipeline.json)?;
    for rate in RATES_MBIT {
        for size in SIZES {
            let off = deviation(&program, rate * 1_000_000 / 8, size)?;
            let sizes = size.map_or_else(|| "mixed sizes".to_owned(), |bytes| format!("{bytes} bytes"));
            let what = format!("{rate} Mb/s, {sizes}");
            section.rows.push(Row::alone(what, "% off the rate", Better::Lower, Cell::samples(vec![off])));
        }
    }
    section.notes.push(format!(
        "`meters.p4`, a meter of bytes with equal rates and bursts of {BURST} bytes; twice the rate is offered, and what passes in \
         {} s of simulated time after the burst is spent is compared with rate × time.",
        MEASURED_US / SECOND_US
    ));
    Ok(section)
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
        let len = size.unwrap_or_else(|| 60 + (n.wrapping_mul(7919) % 1400) as usize);
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
