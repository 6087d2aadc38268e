//! Several workers: no frame overtakes another of its flow, whatever the ports are.
#![allow(clippy::unwrap_used, reason = "a failed unwrap in a test, helpers included, is a failed test")]

mod p4runtime_support;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use dmux_softswitch::pipeline::queue::{QueueConfig, QueueStatistics};
use dmux_softswitch::ports::LinkConfig;
use dmux_softswitch::{MemoryPort, Switch};
use p4runtime_support::*;

const WORKERS: usize = 4;
/// Ports that frames come in by; each is a flow.
const SOURCES: u16 = 6;
const FRAMES: u32 = 20_000;
/// Frames of one flow under way at once, so that no queue overflows.
const WINDOW: u32 = 400;

fn numbered(flow: u16, number: u32) -> Vec<u8> {
    let mut payload = flow.to_be_bytes().to_vec();
    payload.extend_from_slice(&number.to_be_bytes());
    frame(1, 0x88b5, &payload)
}

/// Sends flows from all sources at once to one port, and checks that each arrives whole and in order.
fn check_order(switch: &Switch, sources: &[MemoryPort], to: &MemoryPort) {
    let seen: Vec<AtomicU32> = sources.iter().map(|_| AtomicU32::new(0)).collect();
    for source in sources {
        wire_anew(switch, source.number(), to.number());
    }
    std::thread::scope(|scope| {
        for (source, seen) in sources.iter().zip(&seen) {
            scope.spawn(move || {
                let deadline = Instant::now() + 3 * PATIENCE;
                for number in 0..FRAMES {
                    while number - seen.load(Ordering::Acquire) >= WINDOW {
                        assert!(Instant::now() < deadline, "flow {} is stuck", source.number());
                        std::thread::yield_now();
                    }
                    assert!(source.send(&numbered(source.number(), number)));
                }
            });
        }
        for _ in 0..FRAMES * sources.len() as u32 {
            let frame = to.receive(PATIENCE).expect("no frame is lost");
            let flow = usize::from(u16::from_be_bytes([frame[14], frame[15]])) - 1;
            let number = u32::from_be_bytes(frame[16..20].try_into().unwrap());
            let before = seen[flow].fetch_add(1, Ordering::AcqRel);
            assert_eq!(number, before, "flow {}", flow + 1);
        }
    });
}

/// Lets what arrives at a port leave at another, whatever it did before.
fn wire_anew(switch: &Switch, from: u16, to: u16) {
    let pipeline = switch.pipeline().unwrap();
    let table = pipeline.dataplane.program().table_by_name("PortalIngress.wire").unwrap();
    let key = vec![dmux_softswitch::pipeline::MatchValue::Exact(from.into())];
    // There may be none yet.
    let _ = pipeline.dataplane.delete(table, &key, 0);
    wire(switch, from, to);
}

#[test]
fn a_flow_stays_in_order_through_every_kind_of_port() {
    let switch = portal_switch_of(WORKERS);
    let plain = LinkConfig::default();
    let sources: Vec<_> = (1..=SOURCES).map(|n| switch.add_memory_port(n, &plain).unwrap()).collect();
    let direct = switch.add_memory_port(100, &plain).unwrap();
    // Its frames pass through one worker's emulated link.
    let link = LinkConfig { delay: Duration::from_micros(200), ..LinkConfig::default() };
    let delayed = switch.add_memory_port(101, &link).unwrap();
    check_order(&switch, &sources, &direct);
    check_order(&switch, &sources, &delayed);

    let all = u64::from(FRAMES) * u64::from(SOURCES);
    let statistics = switch.port_statistics();
    for port in [100, 101] {
        let port = statistics[&port];
        assert_eq!((port.sent_frames, port.send_failures, port.queue_drops), (all, 0, 0));
    }
    assert_eq!(switch.worker_received().len(), WORKERS);
    assert!(switch.worker_received().iter().all(|n| *n > 0), "{:?}", switch.worker_received());
    assert_eq!(switch.worker_received().iter().sum::<u64>(), 2 * all);
}

#[test]
fn a_flow_stays_in_order_through_egress_queues() {
    let switch = portal_switch_of(WORKERS);
    let plain = LinkConfig::default();
    let sources: Vec<_> = (1..=SOURCES).map(|n| switch.add_memory_port(n, &plain).unwrap()).collect();
    let queued = switch.add_memory_port(100, &plain).unwrap();
    // So deep that nothing is dropped, and a rate at which packets do wait.
    let depth = 2 * WINDOW as usize * usize::from(SOURCES);
    switch.set_egress_queues(100, QueueConfig { packets_per_second: Some(200_000), depth, ..QueueConfig::default() });
    check_order(&switch, &sources, &queued);

    let all = u64::from(FRAMES) * u64::from(SOURCES);
    assert_eq!(switch.port_statistics()[&100].sent_frames, all);
    assert_eq!(switch.egress_queues()[&100], [QueueStatistics { depth: 0, queued: all, dropped: 0 }]);
}

#[test]
fn a_program_is_changed_under_all_workers() {
    let switch = portal_switch_of(WORKERS);
    let sources: Vec<_> = (1..=SOURCES).map(|n| switch.add_memory_port(n, &LinkConfig::default()).unwrap()).collect();
    let to = switch.add_memory_port(100, &LinkConfig::default()).unwrap();
    for round in 0..5u32 {
        switch.load_pipeline(p4info(), portal(0).p4_device_config).unwrap();
        sources.iter().for_each(|source| wire(&switch, source.number(), 100));
        for source in &sources {
            assert!(source.send(&numbered(source.number(), round)));
        }
        for _ in &sources {
            assert!(to.receive(PATIENCE).is_some());
        }
    }
}
