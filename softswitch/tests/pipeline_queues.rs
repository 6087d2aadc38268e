//! Egress queues in simulated time: who waits how long, who goes first, what a packet is told of it, and what is dropped.
#![allow(clippy::unwrap_used, reason = "a failed unwrap in a test, helpers included, is a failed test")]

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dmux_softswitch::pipeline::queue::{DEFAULT_QUEUE_DEPTH, PortQueues, QueueConfig, QueueStatistics};
use dmux_softswitch::pipeline::replication::{CloneSession, Replica};
use dmux_softswitch::pipeline::{Clock, Dataplane, EgressQueues, Marking, Program, Target, Worker, WorkerStats};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Of `ask.extras`.
const CLONE_INGRESS: u8 = 1;
const CLONE_EGRESS: u8 = 2;
const MULTICAST: u8 = 4;
const RECIRCULATE: u8 = 8;

const MS: u64 = 1000;
/// When the first frame comes, in microseconds.
const T: u64 = 5 * MS;

/// `queues.p4`, with the name for the number of the queue that p4c has no way to say.
fn program() -> Vec<u8> {
    let mut json: Value = serde_json::from_slice(include_bytes!("p4runtime_programs/queues.json")).unwrap();
    let scalars = json["header_types"].as_array().unwrap().iter().find(|t| t["name"] == "scalars_0").unwrap();
    let fields = scalars["fields"].as_array().unwrap();
    let qid = fields.iter().find(|f| f[0].as_str().unwrap().contains("qid")).unwrap()[0].clone();
    let aliases = json["field_aliases"].as_array_mut().unwrap();
    aliases.push(json!(["queueing_metadata.qid", ["scalars", qid]]));
    json.to_string().into_bytes()
}

/// A clock that is set by hand.
#[derive(Default)]
struct Hand(AtomicU64);

impl Clock for Hand {
    fn now_us(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a frame was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Told {
    port: u16,
    number: u8,
    since: u32,
    enq_depth: u32,
    waited: u32,
    deq_depth: u32,
    qid: u8,
    priority: u8,
    instance: u8,
}

fn told(port: u16, frame: &[u8]) -> Told {
    let number = |at: usize, bytes: usize| frame[at..at + bytes].iter().fold(0u64, |n, b| n << 8 | u64::from(*b));
    let word = |at, bytes| number(at, bytes) as u32;
    Told {
        port,
        number: frame[3],
        since: word(4, 4),
        enq_depth: word(8, 3),
        waited: word(11, 4),
        deq_depth: word(15, 3),
        qid: frame[18],
        priority: frame[19],
        instance: frame[32],
    }
}

/// A program of three priorities, run by one worker.
struct Rig {
    dp: Dataplane,
    worker: Worker,
    queues: Arc<EgressQueues>,
    trace: Vec<String>,
}

impl Rig {
    fn new() -> Self {
        Self::of(Target { priority_queues: 3, ..Target::default() })
    }

    fn of(target: Target) -> Self {
        let dp = Dataplane::new(Program::compile_for(&program(), target).unwrap(), Arc::new(Hand::default()));
        let queues = Arc::new(EgressQueues::new(target.priority_queues));
        let worker = Worker::new(&dp).with_queues(Arc::clone(&queues));
        Self { dp, worker, queues, trace: Vec::new() }
    }

    fn limit(self, port: u16, rate: u64, depth: usize) -> Self {
        self.queues.configure(port, QueueConfig { packets_per_second: Some(rate), depth, ..QueueConfig::default() });
        self
    }

    fn session(self, replicas: &[u16], class_of_service: u16) -> Self {
        let replicas = replicas.iter().map(|port| Replica { port: *port, instance: 1 }).collect();
        self.dp.replication().set_session(1, Some(CloneSession { replicas, max_bytes: None, class_of_service }));
        self
    }

    /// Sends a frame in; returns what comes out without waiting.
    fn send(&mut self, now: u64, port: u8, priority: u8, extras: u8, number: u8) -> Vec<Told> {
        let mut out = Vec::new();
        let frame = [port, priority, extras, number];
        self.worker.process(&self.dp, 4, &frame, now, &mut |port, f| out.push(told(port, f)));
        out
    }

    /// Runs the queues at a time.
    fn serve(&mut self, now: u64) -> Vec<Told> {
        let (mut out, trace) = (Vec::new(), &mut self.trace);
        let mut batch = self.worker.batch(&self.dp);
        batch.serve_queues(now * 1000, &mut |port, f| out.push(told(port, f)), &mut |text| trace.push(text));
        out
    }

    /// Runs the queues whenever they ask for it, until nothing waits; what came out, with the time in microseconds.
    fn drain(&mut self) -> Vec<(u64, Told)> {
        let mut all = Vec::new();
        while let Some(due) = self.queues.due() {
            let now = due.div_ceil(1000);
            all.extend(self.serve(now).into_iter().map(|t| (now, t)));
        }
        all
    }

    fn stats(&self) -> WorkerStats {
        self.worker.stats()
    }
}

#[test]
fn a_packet_for_a_port_without_queues_does_not_wait() {
    for mut rig in [Rig::new(), Rig::new().limit(2, 1, 1)] {
        let went = Told {
            port: 1,
            number: 9,
            since: T as u32,
            enq_depth: 0,
            waited: 0,
            deq_depth: 0,
            qid: 2,
            priority: 2,
            instance: 0,
        };
        assert_eq!(rig.send(T, 1, 2, 0, 9), [went]);
        assert_eq!((rig.queues.due(), rig.stats().queued, rig.stats().sent), (None, 0, 1));
    }
}

#[test]
fn a_packet_is_told_how_it_has_waited() {
    let mut rig = Rig::new().limit(1, 1000, 10);
    for number in 0..3 {
        assert_eq!(rig.send(T + u64::from(number), 1, 1, 0, number), []);
    }
    let told = |number: u8, waited: u32, deq_depth: u32| Told {
        port: 1,
        number,
        since: T as u32 + u32::from(number),
        enq_depth: number.into(),
        waited,
        deq_depth,
        qid: 1,
        priority: 1,
        instance: 0,
    };
    let all = rig.drain();
    assert_eq!(
        all,
        [(T, told(0, 0, 2)), (T + MS, told(1, MS as u32 - 1, 1)), (T + 2 * MS, told(2, 2 * MS as u32 - 2, 0)),]
    );
    assert_eq!((rig.stats().queued, rig.stats().sent, rig.stats().received), (3, 3, 3));
}

#[test]
fn egress_sees_the_time_at_which_a_packet_left_its_queue() {
    let clock = Arc::new(Hand::default());
    let mut rig = Rig::new().limit(1, 1000, 10);
    rig.dp = Dataplane::new(Arc::clone(rig.dp.program()), Arc::clone(&clock) as Arc<dyn Clock>);
    rig.send(T, 1, 0, 0, 0);
    rig.send(T, 1, 0, 0, 1);
    let mut times = Vec::new();
    let time = |f: &[u8], at: usize| f[at..at + 6].iter().fold(0u64, |n, b| n << 8 | u64::from(*b));
    for now in [T, T + MS] {
        clock.0.store(now, Ordering::Relaxed);
        let mut out = |_: u16, f: &[u8]| times.push((time(f, 20), time(f, 26)));
        rig.worker.batch(&rig.dp).serve_queues(now * 1000, &mut out, &mut drop);
    }
    assert_eq!(times, [(T, T), (T, T + MS)]);
}

#[test]
fn of_what_may_go_the_highest_priority_goes_first_and_each_has_the_rate_for_itself() {
    let mut rig = Rig::new().limit(1, 1000, 10);
    for (number, priority) in [(0, 0), (1, 0), (2, 1), (3, 2), (4, 2)] {
        assert_eq!(rig.send(T, 1, priority, 0, number), []);
    }
    let order: Vec<_> = rig.drain().into_iter().map(|(at, t)| (at, t.number, t.qid)).collect();
    assert_eq!(order, [(T, 3, 2), (T, 2, 1), (T, 0, 0), (T + MS, 4, 2), (T + MS, 1, 0)]);
}

#[test]
fn a_full_queue_drops_and_counts() {
    let mut rig = Rig::new().limit(1, 1, 2);
    for number in 0..4 {
        rig.send(T, 1, 1, 0, number);
    }
    let of = |depth, queued, dropped| QueueStatistics { depth, queued, dropped };
    assert_eq!(rig.queues.statistics(), [(1, vec![of(0, 0, 0), of(2, 2, 2), of(0, 0, 0)])].into());
    assert_eq!((rig.stats().queue_dropped, rig.stats().queued), (2, 2));
    assert_eq!(rig.drain().into_iter().map(|(_, t)| t.number).collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn a_priority_that_no_queue_has_is_dropped_whether_its_port_has_queues_or_not() {
    for mut rig in [Rig::new(), Rig::new().limit(1, 1, 2)] {
        let group = [1, 2].map(|port| Replica { port, instance: 0 });
        rig.dp.replication().set_group(1, Some(group.to_vec()));
        assert_eq!(rig.send(T, 1, 3, 0, 0), []);
        // Both copies.
        assert_eq!(rig.send(T, 1, 7, MULTICAST, 0), []);
        assert_eq!(rig.queues.due(), None);
        assert_eq!((rig.stats().no_queue, rig.stats().dropped), (3, 0));
    }
}

#[test]
fn every_priority_has_a_queue_if_there_are_eight_and_none_but_0_if_there_is_one() {
    for (priority_queues, sent) in [(8, 8), (1, 1)] {
        let mut rig = Rig::of(Target { priority_queues, ..Target::default() });
        let out: usize = (0..8).map(|priority| rig.send(T, 1, priority, 0, 0).len()).sum();
        assert_eq!(out, sent);
    }
}

#[test]
fn the_drop_port_is_the_targets() {
    let mut rig = Rig::of(Target { drop_port: 7, ..Target::default() });
    assert_eq!(rig.send(T, 7, 0, 0, 0), []);
    assert_eq!(rig.stats().dropped, 1);
    let mut rig = Rig::new();
    assert_eq!(rig.send(T, 7, 0, 0, 0).len(), 1);
}

#[test]
fn clones_and_their_packets_wait_each_for_its_own_port() {
    let mut rig = Rig::new().limit(1, 1000, 10).session(&[1, 2], 0);
    let seen = |all: &[(u64, Told)]| all.iter().map(|(at, t)| (*at, t.port, t.instance)).collect::<Vec<_>>();
    // The clone for port 2 leaves at once; that for port 1 is before its packet.
    let at_once: Vec<_> = rig.send(T, 1, 0, CLONE_INGRESS, 0).into_iter().map(|t| (T, t)).collect();
    assert_eq!(seen(&at_once), [(T, 2, 1)]);
    assert_eq!(seen(&rig.drain()), [(T, 1, 1), (T + MS, 1, 0)]);
    // An egress clone is made when the packet has left the queue, and waits behind it.
    rig.send(10 * T, 1, 0, CLONE_EGRESS, 0);
    assert_eq!(seen(&rig.drain()), [(10 * T, 1, 0), (10 * T, 2, 2), (10 * T + MS, 1, 2)]);
}

#[test]
fn a_class_of_service_beyond_the_highest_priority_waits_with_that_one() {
    let mut rig = Rig::new().limit(2, 1000, 10).session(&[2, 3], 6);
    let at_once = rig.send(T, 1, 0, CLONE_INGRESS, 0);
    assert_eq!(at_once.iter().map(|t| (t.port, t.priority, t.qid)).collect::<Vec<_>>(), [(3, 6, 2), (1, 0, 0)]);
    assert_eq!(rig.drain().iter().map(|(_, t)| (t.port, t.priority, t.qid)).collect::<Vec<_>>(), [(2, 6, 2)]);
}

#[test]
fn what_recirculates_waits_again() {
    let mut rig = Rig::new().limit(1, 1000, 10);
    rig.send(T, 1, 0, RECIRCULATE, 0);
    let all = rig.drain();
    assert_eq!(all.iter().map(|(at, t)| (*at, t.waited)).collect::<Vec<_>>(), [(T + MS, MS as u32)]);
    assert_eq!((rig.stats().queued, rig.stats().again), (2, 1));
}

#[test]
fn what_waits_when_the_program_is_replaced_is_dropped() {
    let mut rig = Rig::new().limit(1, 1000, 10);
    rig.send(T, 1, 0, 0, 0);
    let target = rig.dp.program().target();
    rig.dp = Dataplane::new(Program::compile_for(&program(), target).unwrap(), Arc::new(Hand::default()));
    assert_eq!(rig.serve(T), []);
    assert_eq!(rig.stats().queue_dropped, 1);
    rig.send(10 * T, 1, 0, 0, 1);
    assert_eq!(rig.drain().len(), 1);
}

#[test]
fn a_trace_goes_on_when_the_packet_does() {
    let mut rig = Rig::of(Target { marking: Marking::Steps, ..Target::default() }).limit(1, 1000, 1);
    let mut texts = Vec::new();
    for number in 0..2 {
        let frame = [1, 0, 0, number];
        texts.push(rig.worker.batch(&rig.dp).process_traced(4, &frame, T, &mut |_, _| panic!("it waits")));
    }
    assert!(
        texts[0].ends_with("  the packet itself goes on to port 1\n  waits in queue 0 of port 1\n"),
        "{}",
        texts[0]
    );
    assert!(texts[1].ends_with("  dropped: no room in queue 0 of port 1\n"), "{}", texts[1]);
    assert_eq!(rig.serve(T + 3).len(), 1);
    let [text] = &rig.trace[..] else { panic!("{:?}", rig.trace) };
    let begin = "from queue 0 of port 1, after 3 us; received at port 4, 4 bytes: 01000000\n";
    assert!(text.starts_with(begin) && text.contains("  sent to port 1, 33 bytes: 01000000"), "{text}");
}

proptest! {
    /// Against what the rules say, packet for packet: nobody is lost without being counted, overtakes another one of the
    /// same priority, or leaves before the rate allows.
    #[test]
    fn queues_keep_order_rate_and_depth(
        rate in 1u64..5_000,
        depth in 1usize..6,
        steps in proptest::collection::vec((0u64..2_000_000, 0u8..3, any::<bool>()), 1..200),
    ) {
        let gap = 1_000_000_000 / rate;
        let mut queues = PortQueues::new(QueueConfig { packets_per_second: Some(rate), depth, ..QueueConfig::default() }, 3);
        let mut model: [VecDeque<(usize, u64)>; 3] = Default::default();
        let mut free = [0u64; 3];
        let mut now = 0;
        for (n, (wait, priority, serve)) in steps.into_iter().enumerate() {
            now += wait;
            let p = usize::from(priority);
            let room = model[p].len() < depth;
            prop_assert_eq!(queues.push(n, priority, now), room);
            if room {
                let due = free[p].max(now);
                free[p] = due + gap;
                model[p].push_back((n, due));
            }
            while serve && let Some(out) = queues.pop(now) {
                let higher = usize::from(out.priority) + 1;
                prop_assert!(model[higher..].iter().all(|m| m.front().is_none_or(|(_, due)| *due > now)));
                let (first, due) = model[usize::from(out.priority)].pop_front().unwrap();
                prop_assert!(first == out.item && due <= now);
            }
            let next = model.iter().filter_map(|m| m.front()).map(|(_, due)| *due).min();
            prop_assert_eq!(queues.deadline(), next);
        }
    }
}

#[test]
fn the_default_depth_is_bmv2s() {
    assert_eq!((DEFAULT_QUEUE_DEPTH, QueueConfig::default().packets_per_second), (64, None));
}
