//! A Read of a large table: bounded messages, bounded memory, one moment in time, and nothing that waits for its reader.
#![allow(clippy::unwrap_used, reason = "a failed unwrap in a test, helpers included, is a failed test")]

mod p4runtime_support;

use dmux_p4rt::P4Info;
use dmux_p4rt::p4::v1;
use dmux_p4rt::p4::v1::entity::Entity;
use dmux_p4rt::p4::v1::field_match::{Exact, FieldMatchType, Lpm};
use dmux_p4rt::p4::v1::update::Type;
use dmux_softswitch::MemoryPort;
use p4runtime_support::{Controller, PATIENCE, Rig, update};
use prost::Message;
use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use tonic::Code;

/// Counts what is allocated, and the most that ever was.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: all is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MOST.fetch_max(now, Ordering::Relaxed);
        // SAFETY: as the caller says.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller says.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const JSON: &[u8] = include_bytes!("programs/router.json");
const P4INFO: &str = include_str!("programs/router.p4info.txtpb");
const ENTRIES: u32 = 100_000;
/// Entries in one write.
const BATCH: u32 = 2000;

/// The P4Info's ids.
const IPV4_LPM: u32 = 34_829_840;
const SET_NEXTHOP: u32 = 28_022_536;
const NEXTHOP: u32 = 44_950_653;
const FORWARD: u32 = 17_053_110;

fn action(action_id: u32, values: &[&[u8]]) -> Option<v1::TableAction> {
    let param = |(n, value): (u32, &&[u8])| v1::action::Param { param_id: n, value: value.to_vec() };
    let params = (1..).zip(values).map(param).collect();
    Some(v1::TableAction { r#type: Some(v1::table_action::Type::Action(v1::Action { action_id, params })) })
}

fn entry(table_id: u32, m: FieldMatchType, action: Option<v1::TableAction>) -> v1::TableEntry {
    let r#match = vec![v1::FieldMatch { field_id: 1, field_match_type: Some(m) }];
    v1::TableEntry { table_id, r#match, action, ..Default::default() }
}

/// A route for the n-th prefix of 24 bits.
fn route(n: u32, nexthop: u8) -> v1::TableEntry {
    let value = (n << 8).to_be_bytes();
    let first = value.iter().position(|b| *b != 0).unwrap_or(3);
    let lpm = FieldMatchType::Lpm(Lpm { value: value[first..].to_vec(), prefix_len: 24 });
    entry(IPV4_LPM, lpm, action(SET_NEXTHOP, &[&[nexthop]]))
}

async fn write_all(controller: &mut Controller, kind: Type, numbers: Range<u32>, nexthop: u8) {
    for from in numbers.step_by(BATCH as usize) {
        let updates = (from..from + BATCH).map(|n| update(kind, Entity::TableEntry(route(n, nexthop))));
        assert!(controller.write(updates.collect()).await.iter().all(|c| *c == Code::Ok));
    }
}

async fn start() -> (Rig, Controller) {
    let rig = Rig::start().await;
    let mut controller = rig.connect().await;
    assert_eq!(controller.arbitrate(1).await.unwrap().0, Code::Ok);
    let p4info = Some(P4Info::from_text(P4INFO).unwrap().raw().clone());
    let config = v1::ForwardingPipelineConfig { p4info, p4_device_config: JSON.to_vec(), ..Default::default() };
    controller.commit(config).await.unwrap();
    // Next hop n is at port n.
    for n in [1u8, 2] {
        let key = FieldMatchType::Exact(Exact { value: vec![n] });
        let hop = entry(NEXTHOP, key, action(FORWARD, &[&[n], &[n], &[9]]));
        assert_eq!(controller.write_one(update(Type::Insert, Entity::TableEntry(hop))).await, Code::Ok);
    }
    (rig, controller)
}

/// Whether an IPv4 packet for the n-th prefix leaves at the port.
async fn reaches(rig: &Rig, n: u32, port: &MemoryPort) -> bool {
    let mut frame = [0; 34];
    frame[12..16].copy_from_slice(&[8, 0, 0x45, 0]);
    frame[22] = 64;
    frame[30..34].copy_from_slice(&(n << 8 | 7).to_be_bytes());
    let sum = frame[14..34].chunks(2).map(|c| u32::from(c[0]) << 8 | u32::from(c[1])).sum::<u32>();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    assert!(rig.port1.send(&frame));
    let port = port.clone();
    tokio::task::spawn_blocking(move || port.receive(PATIENCE)).await.unwrap().is_some()
}

/// All in one test: what another one allocates would be counted, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_read_of_many_entries_is_bounded_consistent_and_holds_nothing_up() {
    let (rig, mut controller) = start().await;
    write_all(&mut controller, Type::Insert, 0..ENTRIES, 1).await;
    let encoded: usize = (0..ENTRIES).map(|n| route(n, 1).encoded_len() + 8).sum();
    let filter = v1::TableEntry { table_id: IPV4_LPM, ..Default::default() };
    let request = v1::ReadRequest {
        device_id: p4runtime_support::DEVICE,
        entities: vec![v1::Entity { entity: Some(Entity::TableEntry(filter)) }],
        ..Default::default()
    };

    // A reader that takes the first message only.
    let before = NOW.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    let mut stream = controller.client.clone().read(request).await.unwrap().into_inner();
    let first = stream.message().await.unwrap().unwrap();
    // A write is done once the snapshot is made, whatever its reader does.
    write_all(&mut controller, Type::Modify, 0..BATCH, 2).await;
    let peak = MOST.load(Ordering::Relaxed) - before;
    assert!(reaches(&rig, 1, &rig.port2).await && reaches(&rig, ENTRIES - 1, &rig.port1).await);
    write_all(&mut controller, Type::Modify, BATCH..ENTRIES, 2).await;
    assert!(reaches(&rig, ENTRIES - 1, &rig.port2).await);

    let (mut seen, mut messages) = (BTreeSet::new(), 0);
    let mut message = Some(first);
    while let Some(m) = message {
        messages += 1;
        assert!(m.encoded_len() <= (1 << 20) + 4096 && m.entities.len() <= 512, "a message of {}", m.encoded_len());
        for e in m.entities {
            let Some(Entity::TableEntry(e)) = e.entity else { panic!("not a table entry") };
            let Some(FieldMatchType::Lpm(lpm)) = &e.r#match[0].field_match_type else { panic!("not a prefix") };
            let n = lpm.value.iter().fold(0, |n, b| n << 8 | u32::from(*b)) >> 8;
            assert_eq!(e, route(n, 1), "as it was when the read began");
            assert!(seen.insert(n), "entry {n} comes twice");
        }
        message = tokio::time::timeout(PATIENCE, stream.message()).await.unwrap().unwrap();
    }
    assert_eq!((seen.len(), messages > 100), (ENTRIES as usize, true));
    // What waits is the encoded answer, and a few messages as they are; what one write allocates comes on top.
    let others = 8 << 20;
    assert!(peak < 2 * encoded + others, "{peak} bytes more at most, for {encoded} bytes of entries");
    rig.stop().await;
}
