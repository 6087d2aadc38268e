//! Writing in bounded batches, with one result per update.

use prost::Message;
use thiserror::Error;

use super::{Session, SessionError};
use crate::p4::v1::field_match::FieldMatchType;
use crate::p4::v1::{Entity, FieldMatch, Update, WriteRequest, entity, table_action, update};
use crate::status::{self, UnpackError, UpdateResult};

/// Updates in one request at most: the results of all must fit the trailers of the answer.
pub const MAX_UPDATES: usize = 1000;

/// Encoded size of the updates of one request at most. Servers take 4 MB by default (§23.4).
pub const MAX_BATCH_BYTES: usize = 3_500_000;

/// A write that stopped: the switch refused a whole batch, or it is not there any more.
#[derive(Debug, Error)]
#[error("after {} answered updates: {source}", done.len())]
pub struct WriteError {
    /// The results of the updates before the batch that failed, in order. Of that batch nothing is known: read back.
    pub done: Vec<UpdateResult>,
    /// What went wrong.
    pub source: SessionError,
}

/// An update that inserts.
pub fn insert(entity: impl Into<Entity>) -> Update {
    update(update::Type::Insert, entity)
}

/// An update that modifies.
pub fn modify(entity: impl Into<Entity>) -> Update {
    update(update::Type::Modify, entity)
}

/// An update that deletes.
pub fn delete(entity: impl Into<Entity>) -> Update {
    update(update::Type::Delete, entity)
}

fn update(kind: update::Type, entity: impl Into<Entity>) -> Update {
    Update { r#type: kind as i32, entity: Some(entity.into()) }
}

/// Splits updates, in order, into batches of at most [`MAX_UPDATES`] and [`MAX_BATCH_BYTES`]; a single update that is
/// larger stands alone.
pub fn batches(updates: Vec<Update>) -> Vec<Vec<Update>> {
    if updates.is_empty() {
        return Vec::new();
    }
    // One request is the common case, and counting alone shows it.
    if updates.len() <= MAX_UPDATES && updates.iter().map(room).sum::<usize>() <= MAX_BATCH_BYTES {
        return vec![updates];
    }
    let mut batches = Vec::new();
    let (mut batch, mut bytes) = (Vec::new(), 0);
    for update in updates {
        let len = room(&update);
        if batch.len() == MAX_UPDATES || (!batch.is_empty() && bytes + len > MAX_BATCH_BYTES) {
            batches.push(std::mem::take(&mut batch));
            bytes = 0;
        }
        batch.push(update);
        bytes += len;
    }
    batches.push(batch);
    batches
}

/// At most how many bytes an update takes in a request. For the common kind, an entry with an action and nothing else, a
/// bound that is quickly found: encoding walks through every update more than once as it is.
fn room(update: &Update) -> usize {
    /// Tags, lengths and numbers of the messages around a value, or of an entry around all of them.
    const AROUND: usize = 32;
    let exactly = || update.encoded_len() + 6;
    let Some(entity::Entity::TableEntry(entry)) = update.entity.as_ref().and_then(|e| e.entity.as_ref()) else {
        return exactly();
    };
    let plain = entry.meter_config.is_none() && entry.counter_data.is_none() && entry.meter_counter_data.is_none();
    let params = match entry.action.as_ref().map(|a| a.r#type.as_ref()) {
        None => 0,
        Some(Some(table_action::Type::Action(action))) => action.params.iter().map(|p| AROUND + p.value.len()).sum(),
        Some(_) => return exactly(),
    };
    if !plain || entry.time_since_last_hit.is_some() {
        return exactly();
    }
    let matched = |m: &FieldMatch| match &m.field_match_type {
        Some(FieldMatchType::Exact(m)) => Some(AROUND + m.value.len()),
        Some(FieldMatchType::Lpm(m)) => Some(AROUND + m.value.len()),
        Some(FieldMatchType::Ternary(m)) => Some(AROUND + m.value.len() + m.mask.len()),
        _ => None,
    };
    match entry.r#match.iter().map(matched).sum::<Option<usize>>() {
        Some(matches) => 4 * AROUND + entry.metadata.len() + matches + params,
        None => exactly(),
    }
}

impl Session {
    /// Writes updates in batches, one after the other, and returns the result of each.
    ///
    /// Updates of one batch may be applied in any order (§12.1): what depends on each other goes in separate calls.
    pub async fn write(&self, updates: Vec<Update>) -> Result<Vec<UpdateResult>, WriteError> {
        let mut done = Vec::new();
        for batch in batches(updates) {
            match self.write_batch(batch).await {
                Ok(results) if done.is_empty() => done = results,
                Ok(results) => done.extend(results),
                Err(source) => return Err(WriteError { done, source }),
            }
        }
        Ok(done)
    }

    async fn write_batch(&self, updates: Vec<Update>) -> Result<Vec<UpdateResult>, SessionError> {
        // BMv2 accepts a write without an election id from anybody: never send one.
        let election_id = self.election_id().ok_or(SessionError::Standby("write entities"))?;
        let sent = updates.len();
        let request = WriteRequest {
            device_id: self.device_id(),
            role: self.role().to_owned(),
            election_id: Some(election_id.into()),
            updates,
            ..Default::default()
        };
        let mut client = self.shared.client.clone();
        match self.call("Write", client.write(request)).await {
            Ok(_) => Ok(vec![Ok(()); sent]),
            Err(SessionError::Refused { call, status }) => match status::unpack(&status, sent) {
                Ok(results) => Ok(results),
                Err(UnpackError::WholeBatch) => Err(SessionError::Refused { call, status }),
                Err(e) => {
                    let text = format!("{} ({e})", status.message());
                    let status = tonic::Status::new(status.code(), text);
                    Err(SessionError::refused(call, status))
                }
            },
            Err(e) => Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::p4::v1::TableEntry;

    fn updates(count: usize, metadata: usize) -> Vec<Update> {
        (0..count)
            .map(|n| insert(TableEntry { table_id: n as u32, metadata: vec![0; metadata], ..Default::default() }))
            .collect()
    }

    #[test]
    fn the_room_of_an_update_is_at_least_what_it_takes() {
        let long = vec![0xff; 200];
        let matched = |m| FieldMatch { field_id: u32::MAX, field_match_type: Some(m) };
        let params = vec![crate::p4::v1::action::Param { param_id: u32::MAX, value: long.clone() }; 9];
        let action = crate::p4::v1::Action { action_id: u32::MAX, params };
        let mut entry = TableEntry {
            table_id: u32::MAX,
            priority: -1,
            idle_timeout_ns: -1,
            is_default_action: true,
            is_const: true,
            metadata: long.clone(),
            action: Some(crate::p4::v1::TableAction { r#type: Some(table_action::Type::Action(action)) }),
            ..Default::default()
        };
        #[expect(deprecated, reason = "it takes room, too")]
        (entry.controller_metadata = u64::MAX);
        for m in [
            FieldMatchType::Exact(crate::p4::v1::field_match::Exact { value: long.clone() }),
            FieldMatchType::Lpm(crate::p4::v1::field_match::Lpm { value: long.clone(), prefix_len: -1 }),
            FieldMatchType::Ternary(crate::p4::v1::field_match::Ternary { value: long.clone(), mask: long.clone() }),
            FieldMatchType::Range(crate::p4::v1::field_match::Range { low: long.clone(), high: long.clone() }),
        ] {
            entry.r#match.push(matched(m));
            let update = insert(entry.clone());
            let request = WriteRequest { updates: vec![update.clone()], ..Default::default() };
            assert!(room(&update) >= request.encoded_len(), "{} of {}", room(&update), request.encoded_len());
        }
        let nothing = Update::default();
        assert!(room(&nothing) >= nothing.encoded_len());
    }

    #[test]
    fn batches_keep_order_and_stay_below_both_limits() {
        for (count, metadata) in [(0, 0), (1, 0), (2501, 10), (40, 400_000), (3, 4_000_000)] {
            let all = updates(count, metadata);
            let split = batches(all.clone());
            for batch in &split {
                assert!(!batch.is_empty() && batch.len() <= MAX_UPDATES);
                let request = WriteRequest { updates: batch.clone(), ..Default::default() };
                assert!(batch.len() == 1 || request.encoded_len() <= MAX_BATCH_BYTES);
            }
            assert_eq!(split.concat(), all);
        }
        assert_eq!(batches(updates(2501, 10)).len(), 3);
        assert_eq!(batches(updates(1000, 10)).len(), 1);
        assert_eq!(batches(updates(40, 400_000)).len(), 5);
    }
}
