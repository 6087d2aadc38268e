//! What the switch tells of the access LANs.

use std::time::Duration;

use dmux_p4rt::p4::v1::{DigestList, IdleTimeoutNotification, TableEntry};
use dmux_tables::codec::KeyReader;
use dmux_tables::{DecodeError, LanSourceDigest, LanSourceKey, LanSourceTable, Table, ViolationDigest};

use super::Actor;
use crate::stations::Station;

impl Actor {
    /// Where stations are that the switch does not know, or which endpoints send too much.
    pub(super) fn on_digest(&mut self, now: Duration, list: &DigestList) {
        match list.digest_id {
            LanSourceDigest::ID => self.on_stations(now, list),
            ViolationDigest::ID => self.on_violations(list),
            _ => {}
        }
    }

    fn on_stations(&mut self, now: Duration, list: &DigestList) {
        for message in &list.data {
            match LanSourceDigest::decode(message) {
                Ok(LanSourceDigest { link, vid, mac, port }) => {
                    if let Err(why) = self.stations.heard(now, Station { link, vid, mac }, port) {
                        tracing::debug!(%why, %link, %vid, %mac, %port, "a station is not learnt");
                    }
                }
                Err(error) => tracing::debug!(%error, "a digest was not understood"),
            }
        }
    }

    /// Which stations are silent. The switch says so again until their entries are gone, also across sessions.
    pub(super) fn on_idle(&mut self, idle: &IdleTimeoutNotification) {
        for entry in idle.table_entry.iter().filter(|entry| entry.table_id == LanSourceTable::TABLE_ID) {
            match source(entry) {
                Ok(key) => self.stations.idle(key.port, key.vid, key.src),
                Err(error) => tracing::debug!(%error, "an idle entry was not understood"),
            }
        }
    }

    /// Plans what changed of the stations since.
    pub(super) fn plan_stations(&mut self) {
        let changes = self.stations.take_changes();
        if !changes.is_empty() {
            let delta = self.planner.learn(changes);
            self.reconciler.planned(&delta);
        }
    }
}

/// The key of an entry of `lan_source`; a notification may leave its action out.
fn source(entry: &TableEntry) -> Result<LanSourceKey, DecodeError> {
    LanSourceTable::decode_key(&KeyReader::new(LanSourceTable::NAME, entry, LanSourceTable::FIELDS)?)
}

#[cfg(test)]
mod tests {
    use dmux_tables::{PortId, VlanId};
    use dmux_wire::MacAddr;

    use super::*;

    #[test]
    fn an_idle_entry_is_told_by_its_key() {
        let src = MacAddr([2, 0, 0, 0, 0, 9]);
        let key = LanSourceKey { port: PortId::of::<3>(), vid: VlanId::new(200).unwrap(), src };
        let mut entry = TableEntry { idle_timeout_ns: 300_000_000_000, ..LanSourceTable::encode_key(&key) };
        assert_eq!(source(&entry), Ok(key));
        entry.r#match.pop();
        assert!(source(&entry).is_err());
    }
}
