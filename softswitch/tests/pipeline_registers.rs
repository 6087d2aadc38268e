//! Registers that packets of several workers read and write.
#![allow(clippy::unwrap_used, reason = "a failed unwrap in a test, helpers included, is a failed test")]

mod pipeline_support;

use dmux_softswitch::pipeline::{Dataplane, Worker};
use num_bigint::BigUint;
use pipeline_support::dataplane;
use std::sync::Barrier;

const JSON: &[u8] = include_bytes!("programs/registers.json");
const WORKERS: u16 = 4;
const FRAMES: u32 = 100_000;

/// A frame of the program: what to do, with which cell and value.
fn frame(op: u8, index: u8, value: u16) -> Vec<u8> {
    let mut frame = vec![op, index];
    frame.extend_from_slice(&value.to_be_bytes());
    frame.extend_from_slice(&[0; 8]);
    frame
}

/// Lets all workers process the frame at once, each as often.
fn together(dp: &Dataplane, frame: &[u8]) {
    let barrier = Barrier::new(WORKERS.into());
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                let mut worker = Worker::new(dp);
                barrier.wait();
                for _ in 0..FRAMES {
                    worker.process(dp, 0, frame, 1, &mut |_, _| {});
                }
            });
        }
    });
}

/// What a packet adds to a register is not lost to another worker's: from reading it on, it has its turn. BMv2 runs
/// ingress in one thread, and JSON does not say what is `@atomic`.
#[test]
fn no_packet_comes_between_anothers_read_and_write() {
    let dp = dataplane(JSON);
    let register = |name: &str| dp.program().registers().iter().position(|r| r.name == name).unwrap();
    // Operation 3 adds 3 to a cell and reads it again.
    together(&dp, &frame(3, 7, 3));
    let sum = u64::from(WORKERS) * u64::from(FRAMES) * 3 % (1 << 16);
    assert_eq!(dp.register(register("IngressPipe.small"), 7).unwrap(), BigUint::from(sum));
    // Operation 10 turns a bit over.
    for _ in 0..3 {
        together(&dp, &frame(10, 7, 0));
        assert_eq!(dp.register(register("IngressPipe.flags"), 7).unwrap(), BigUint::ZERO);
    }
}
