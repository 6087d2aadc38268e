//! Idle timeout notifications: specification 1.4, section 16.4.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dmux_p4rt::p4::v1;
use dmux_p4rt::p4::v1::stream_message_response::Update;

use super::config::ForwardingPipeline;
use super::key::EntryKey;
use crate::pipeline::Idled;
use crate::switch::Shared;

/// How often it is looked whether an entry's time is up.
const SCAN_INTERVAL: Duration = Duration::from_millis(10);

/// Entries in one notification.
const MAX_ENTRIES: usize = 256;

/// Notifications of one scan; entries beyond them wait for the next.
const MAX_NOTIFICATIONS: usize = 16;

/// Tells the primaries about idle entries, until it is dropped. What one cannot take is lost: each entry comes again after
/// another timeout.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut scan = tokio::time::interval(SCAN_INTERVAL);
    scan.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        scan.tick().await;
        let Some(pipeline) = shared.live.load_full() else { continue };
        let now_us = pipeline.dataplane.clock().now_us();
        if !pipeline.has_idle_timeouts || pipeline.dataplane.next_idle_us().is_none_or(|due| due > now_us) {
            continue;
        }
        for _ in 0..MAX_NOTIFICATIONS {
            let idled = pipeline.dataplane.idled(now_us, MAX_ENTRIES);
            let last = idled.len() < MAX_ENTRIES;
            let entries = entries(&pipeline, idled);
            for listener in shared.listeners.load().iter() {
                let its = entries.iter().filter(|e| listener.access.covers(e.table_id)).cloned().collect();
                if let Some(notification) = notification(its) {
                    listener.sender.offer(Update::IdleTimeoutNotification(notification));
                }
            }
            if last {
                break;
            }
        }
    }
}

/// The entries as they are reported: what identifies them, and what their controller attached.
fn entries(pipeline: &ForwardingPipeline, idled: Vec<Idled>) -> Vec<v1::TableEntry> {
    let entry = |idled: Idled| {
        let table = pipeline.binding.tables().iter().find(|t| t.ix == idled.table)?;
        let mut entry = v1::TableEntry {
            table_id: table.id,
            r#match: table.encode_key(&idled.key),
            priority: idled.priority,
            idle_timeout_ns: i64::try_from(idled.timeout_ns).unwrap_or(i64::MAX),
            ..v1::TableEntry::default()
        };
        let key = EntryKey { fields: idled.key, priority: idled.priority };
        pipeline.attached(table.ix, Some(key)).attach(&mut entry);
        Some(entry)
    };
    idled.into_iter().filter_map(entry).collect()
}

/// None without entries: an empty notification must not be sent.
fn notification(table_entry: Vec<v1::TableEntry>) -> Option<v1::IdleTimeoutNotification> {
    if table_entry.is_empty() {
        return None;
    }
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let timestamp = i64::try_from(since_epoch.as_nanos()).unwrap_or(i64::MAX);
    Some(v1::IdleTimeoutNotification { table_entry, timestamp })
}
