//! Reading entities back.

use std::time::Duration;

use tonic::{Code, Status, Streaming};

use super::{Session, SessionError};
use crate::p4::v1::entity::Entity as Kind;
use crate::p4::v1::{
    CounterEntry, DigestEntry, Entity, Index, MeterEntry, ReadRequest, ReadResponse, TableEntry, digest_entry,
};
use crate::status;

/// Entities that [`Session::read`] collects at most; more than all tables of a switch are expected to hold.
pub const MAX_READ_ENTITIES: usize = 4_000_000;

/// The answer to a read, as it comes.
#[derive(Debug)]
pub struct EntityStream {
    responses: Streaming<ReadResponse>,
    limit: Duration,
    endpoint: String,
}

impl EntityStream {
    /// The next part of the answer, or `None` at its end. The limit of a call holds for each part.
    pub async fn next(&mut self) -> Result<Option<Vec<Entity>>, SessionError> {
        tokio::time::timeout(self.limit, self.responses.message())
            .await
            .map_err(|_| SessionError::Timeout { endpoint: self.endpoint.clone(), call: "Read", after: self.limit })?
            .map(|response| response.map(|r| r.entities))
            .map_err(|status| SessionError::refused("Read", status))
    }
}

impl Session {
    /// Reads entities: ids left at 0 and keys left out are wildcards (§13.2).
    pub async fn read_stream(&self, entities: Vec<Entity>) -> Result<EntityStream, SessionError> {
        let request = ReadRequest { device_id: self.device_id(), entities, ..Default::default() };
        let mut client = self.shared.client.clone();
        let responses = self.call("Read", client.read(request)).await?;
        Ok(EntityStream {
            responses,
            limit: self.shared.target.call_timeout,
            endpoint: self.shared.target.endpoint.clone(),
        })
    }

    /// Reads entities into memory, at most [`MAX_READ_ENTITIES`].
    pub async fn read(&self, entities: Vec<Entity>) -> Result<Vec<Entity>, SessionError> {
        let mut stream = self.read_stream(entities).await?;
        let mut all = Vec::new();
        while let Some(part) = stream.next().await? {
            if all.len() + part.len() > MAX_READ_ENTITIES {
                return Err(SessionError::TooMany);
            }
            all.extend(part);
        }
        Ok(all)
    }

    /// All entries of one table, or of every table with id 0. Default entries are not among them.
    pub async fn read_table(&self, table_id: u32) -> Result<Vec<TableEntry>, SessionError> {
        self.read_table_with(TableEntry { table_id, ..Default::default() }).await
    }

    /// Likewise, with those direct resources that are set in the request (§9.1.4).
    pub async fn read_table_with(&self, wanted: TableEntry) -> Result<Vec<TableEntry>, SessionError> {
        let entities = self.read(vec![wanted.into()]).await?;
        Ok(entities
            .into_iter()
            .filter_map(|e| match e.entity {
                // Some switches list defaults in the answer to a wildcard read.
                Some(Kind::TableEntry(entry)) if !entry.is_default_action => Some(entry),
                _ => None,
            })
            .collect())
    }

    /// Cells of an indirect counter: one, or all without an index.
    pub async fn read_counter(&self, counter_id: u32, index: Option<u32>) -> Result<Vec<CounterEntry>, SessionError> {
        let wanted = Kind::CounterEntry(CounterEntry {
            counter_id,
            index: index.map(|i| Index { index: i.into() }),
            data: None,
        });
        let entities = self.read(vec![wanted.into()]).await?;
        Ok(entities
            .into_iter()
            .filter_map(|e| match e.entity {
                Some(Kind::CounterEntry(entry)) => Some(entry),
                _ => None,
            })
            .collect())
    }

    /// Cells of an indirect meter: one, or all without an index.
    pub async fn read_meter(&self, meter_id: u32, index: Option<u32>) -> Result<Vec<MeterEntry>, SessionError> {
        let wanted = Kind::MeterEntry(MeterEntry {
            meter_id,
            index: index.map(|i| Index { index: i.into() }),
            ..Default::default()
        });
        let entities = self.read(vec![wanted.into()]).await?;
        Ok(entities
            .into_iter()
            .filter_map(|e| match e.entity {
                Some(Kind::MeterEntry(entry)) => Some(entry),
                _ => None,
            })
            .collect())
    }

    /// How a digest is configured; `None` for one that no controller has asked for.
    pub async fn read_digest(&self, digest_id: u32) -> Result<Option<digest_entry::Config>, SessionError> {
        let wanted = Kind::DigestEntry(DigestEntry { digest_id, config: None });
        match self.read(vec![wanted.into()]).await {
            Ok(entities) => Ok(entities.into_iter().find_map(|e| match e.entity {
                Some(Kind::DigestEntry(entry)) => Some(entry.config.unwrap_or_default()),
                _ => None,
            })),
            Err(SessionError::Refused { status, .. }) if is_not_found(&status) => Ok(None),
            Err(e) => Err(e),
        }
    }
}

/// Whether a read of one entity failed as it is not there: switches say so in the details, or by the code of the answer.
fn is_not_found(status: &Status) -> bool {
    let detailed = status::unpack(status, 1);
    status.code() == Code::NotFound || matches!(detailed.as_deref(), Ok([Err(e)]) if e.code == Code::NotFound)
}

impl From<Kind> for Entity {
    fn from(kind: Kind) -> Self {
        Self { entity: Some(kind) }
    }
}

impl From<TableEntry> for Entity {
    fn from(entry: TableEntry) -> Self {
        Kind::TableEntry(entry).into()
    }
}

impl From<MeterEntry> for Entity {
    fn from(entry: MeterEntry) -> Self {
        Kind::MeterEntry(entry).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::UpdateError;

    #[test]
    fn what_is_not_there_is_told_by_the_code_or_in_the_details() {
        let pack = |code| status::pack(&[Err(UpdateError::new(code, "text"))]).unwrap();
        assert!(is_not_found(&pack(Code::NotFound)));
        assert!(!is_not_found(&pack(Code::PermissionDenied)));
        assert!(is_not_found(&Status::not_found("text")));
        assert!(!is_not_found(&Status::unavailable("text")));
    }
}
