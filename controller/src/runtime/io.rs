//! What is read from and written to a switch, in the words of the plan.

use std::collections::BTreeMap;

use dmux_p4rt::client::{Session, SessionError, delete, insert, modify};
use dmux_p4rt::p4::v1::entity::Entity as Kind;
use dmux_p4rt::p4::v1::{self, CounterData, DirectCounterEntry, Index, MeterConfig, MeterEntry, TableEntry};
use dmux_tables::{
    DiscoveryPortTable, MetalinkRxTable, MetalinkTxTable, RouterKey, RouterTable, TABLES, Table, counters, meters,
    registers,
};
use dmux_wire::{DropReason, PuntReason};

use crate::api::v1::{DropCount, TableUse};
use crate::explain::Lookup;
use crate::plan::{Entry, Foreign, Key, MeterRate, PuntRate, ReadBack, Update, UpdateError};
use crate::stations;

use super::fixtures;

/// Packets and bytes that an entry or a cell has counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counted {
    pub packets: u64,
    pub bytes: u64,
}

impl From<&CounterData> for Counted {
    fn from(data: &CounterData) -> Self {
        let positive = |n: i64| u64::try_from(n).unwrap_or(0);
        Self { packets: positive(data.packet_count), bytes: positive(data.byte_count) }
    }
}

/// Everything that the plan has an opinion on: all tables, the punt meters, groups and digests. Table by table, since a switch takes no
/// writes while it puts an answer together.
pub async fn read_back(session: &Session) -> Result<ReadBack, SessionError> {
    let mut read = ReadBack::default();
    for table in TABLES {
        for entry in read_table(session, table.id).await? {
            // Entries that the program itself has are nobody's to delete.
            if entry.is_const {
                continue;
            }
            match Entry::decode(&entry) {
                Ok(ours) => {
                    if let Some(config) = &entry.meter_config {
                        read.meters.insert(ours.key(), meter_rate(config));
                    }
                    read.entries.insert(ours.key(), ours);
                }
                Err(why) => read.foreign.push(Foreign { entry, why: why.to_string() }),
            }
        }
    }
    for cell in session.read_meter(meters::PUNT_METER.id, None).await? {
        let reason = cell.index.and_then(|i| u8::try_from(i.index).ok()).and_then(PuntReason::from_code);
        if let (Some(reason), Some(rate)) = (reason, cell.config.as_ref().and_then(punt_rate)) {
            read.punt_rates.insert(reason, rate);
        }
    }
    read.fixtures = fixtures::read(session).await?;
    Ok(read)
}

/// What wins of the entries that the switch holds for a lookup. Fails on an entry that our program's bindings do not decode.
pub(super) async fn best_entry(session: &Session, lookup: &Lookup) -> Result<Option<Entry>, String> {
    // A key that matches everything names no field, and a filter without fields is a wildcard (§9.1.6): such an entry is
    // looked for among all of its table, once the longer prefixes are known not to be there.
    let (all, some): (Vec<_>, Vec<_>) = lookup.keys().iter().map(Key::encode).partition(|key| key.r#match.is_empty());
    let entities = session.read(some.into_iter().map(Into::into).collect()).await.map_err(|e| e.to_string())?;
    let read = entities.iter().filter_map(|entity| match &entity.entity {
        Some(Kind::TableEntry(entry)) => Some(Entry::decode(entry)),
        _ => None,
    });
    let read: BTreeMap<Key, Entry> = decoded(read)?;
    if let Some(best) = lookup.best(|key| read.get(key).copied()) {
        return Ok(Some(best));
    }
    let Some(any) = all.first() else { return Ok(None) };
    let table = session.read_table(any.table_id).await.map_err(|e| e.to_string())?;
    let read = decoded(table.iter().map(Entry::decode))?;
    Ok(lookup.best(|key| read.get(key).copied()))
}

fn decoded(
    entries: impl Iterator<Item = Result<Entry, dmux_tables::DecodeError>>,
) -> Result<BTreeMap<Key, Entry>, String> {
    let foreign = |why| format!("it holds an entry that is not of the gateway program: {why}");
    entries.map(|entry| entry.map(|entry| (entry.key(), entry)).map_err(foreign)).collect()
}

/// Writes updates of one phase, and reports each.
pub async fn write(session: &Session, updates: Vec<Update>) -> Result<Vec<Result<(), UpdateError>>, String> {
    let results = session.write(updates.into_iter().map(encode).collect()).await.map_err(|e| e.to_string())?;
    let refused = |e: dmux_p4rt::status::UpdateError| UpdateError { code: e.code as i32, message: e.message };
    Ok(results.into_iter().map(|r| r.map_err(refused)).collect())
}

fn encode(update: Update) -> v1::Update {
    match update {
        Update::Insert(entry, meter) => insert(whole(entry, meter)),
        Update::Modify(entry, meter) => modify(whole(entry, meter)),
        Update::Delete(entry) => delete(entry.key().encode()),
        Update::DeleteForeign(foreign) => delete(without_action(foreign.entry)),
        Update::SetPuntRate(reason, rate) => modify(MeterEntry {
            meter_id: meters::PUNT_METER.id,
            index: Some(Index { index: reason.code().into() }),
            config: Some(meter_config(rate)),
            ..Default::default()
        }),
        Update::InsertFixture(fixture) => insert(fixtures::encode(&fixture)),
        Update::ModifyFixture(fixture) => modify(fixtures::encode(&fixture)),
        Update::DeleteFixture(fixture) => delete(fixtures::encode(&fixture)),
    }
}

/// An entry with its meter and its time: the switch tells when a station is silent; no other entry has a time.
fn whole(entry: Entry, meter: Option<MeterRate>) -> TableEntry {
    let idle_timeout_ns = match entry {
        Entry::LanSource(..) => i64::try_from(stations::IDLE.as_nanos()).unwrap_or(i64::MAX),
        _ => 0,
    };
    TableEntry { idle_timeout_ns, meter_config: meter.map(rate_config), ..entry.encode() }
}

/// A deletion names the key only.
fn without_action(entry: TableEntry) -> TableEntry {
    TableEntry { table_id: entry.table_id, r#match: entry.r#match, priority: entry.priority, ..Default::default() }
}

fn meter_config(rate: PuntRate) -> MeterConfig {
    let (rate, burst) = (rate.per_second.into(), rate.burst.into());
    MeterConfig { cir: rate, cburst: burst, pir: rate, pburst: burst, ..Default::default() }
}

fn rate_config(rate: MeterRate) -> MeterConfig {
    let signed = |n| i64::try_from(n).unwrap_or(i64::MAX);
    let (cir, cburst) = (signed(rate.per_second), signed(rate.burst));
    MeterConfig { cir, cburst, pir: cir, pburst: cburst, ..Default::default() }
}

/// All zeros for a configuration that is not one of ours, so that it differs from every plan.
pub(super) fn meter_rate(config: &MeterConfig) -> MeterRate {
    let ours = config.cir == config.pir && config.cburst == config.pburst;
    let number = |n| u64::try_from(n).ok().filter(|_| ours).unwrap_or(0);
    MeterRate { per_second: number(config.cir), burst: number(config.cburst) }
}

/// All entries of a table, with their meters where it has any.
async fn read_table(session: &Session, table_id: u32) -> Result<Vec<TableEntry>, SessionError> {
    let metered =
        [DiscoveryPortTable::TABLE_ID, MetalinkRxTable::TABLE_ID, MetalinkTxTable::TABLE_ID].contains(&table_id);
    session
        .read_table_with(TableEntry {
            table_id,
            meter_config: metered.then(MeterConfig::default),
            ..Default::default()
        })
        .await
}

/// `None` for a configuration that is not one of ours, so that it differs from every plan.
fn punt_rate(config: &MeterConfig) -> Option<PuntRate> {
    let ours = config.cir == config.pir && config.cburst == config.pburst;
    let rate = PuntRate { per_second: u32::try_from(config.cir).ok()?, burst: u32::try_from(config.cburst).ok()? };
    ours.then_some(rate)
}

/// What each router was sent, by its index.
pub(super) async fn router_counters(session: &Session) -> Result<BTreeMap<u32, Counted>, SessionError> {
    let table_entry = TableEntry { table_id: RouterTable::TABLE_ID, ..Default::default() };
    let all = Kind::DirectCounterEntry(DirectCounterEntry { table_entry: Some(table_entry), data: None });
    let entities = session.read(vec![all.into()]).await?;
    Ok(entities
        .into_iter()
        .filter_map(|entity| {
            let Some(Kind::DirectCounterEntry(entry)) = entity.entity else { return None };
            let RouterKey { router } = decode_router_key(entry.table_entry.as_ref()?)?;
            Some((router.0, Counted::from(entry.data.as_ref()?)))
        })
        .collect())
}

fn decode_router_key(entry: &TableEntry) -> Option<RouterKey> {
    let read = dmux_tables::codec::KeyReader::new(RouterTable::NAME, entry, RouterTable::FIELDS).ok()?;
    RouterTable::decode_key(&read).ok()
}

/// One cell of the register of clients of draining routers: the tick of the last packet and one, or 0.
pub(super) async fn client_seen(session: &Session, cell: u32) -> Result<u32, String> {
    let wanted = Kind::RegisterEntry(v1::RegisterEntry {
        register_id: registers::CLIENT_SEEN.id,
        index: Some(Index { index: cell.into() }),
        data: None,
    });
    let entities = session.read(vec![wanted.into()]).await.map_err(|e| e.to_string())?;
    let value = entities.into_iter().find_map(|entity| match entity.entity {
        Some(Kind::RegisterEntry(entry)) => match entry.data?.data? {
            v1::p4_data::Data::Bitstring(bytes) => Some(bytes),
            _ => None,
        },
        _ => None,
    });
    let bytes = value.ok_or("it does not tell a cell of client_seen")?;
    let number = bytes.iter().try_fold(0_u32, |n, &byte| n.checked_mul(256)?.checked_add(byte.into()));
    number.ok_or_else(|| "a cell of client_seen is wider than 32 bits".into())
}

/// Drops by reason; those that never happened are left out.
pub(super) async fn drops(session: &Session) -> Result<Vec<DropCount>, SessionError> {
    let cells = session.read_counter(counters::DROPS.id, None).await?;
    Ok(cells
        .into_iter()
        .filter_map(|cell| {
            let counted = Counted::from(cell.data.as_ref()?);
            let code = u8::try_from(cell.index?.index).ok()?;
            let reason = DropReason::from_code(code).map_or_else(|| format!("reason {code}"), |r| r.to_string());
            (counted.packets > 0).then_some(DropCount { reason, packets: counted.packets, bytes: counted.bytes })
        })
        .collect())
}

/// How full the tables are, given how many entries each is known to hold.
pub(super) fn table_use(entries: &BTreeMap<u32, u64>) -> Vec<TableUse> {
    TABLES
        .iter()
        .map(|table| TableUse {
            table: table.name.to_owned(),
            entries: entries.get(&table.id).copied().unwrap_or(0),
            size: table.size,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use dmux_tables::{LanForwardAction, LanForwardKey, LanSourceAction, LanSourceKey, PortId, VlanId};
    use dmux_wire::MacAddr;

    use super::*;

    #[test]
    fn only_what_a_station_sends_has_an_idle_timeout() {
        let (port, vid, mac) = (PortId::of::<3>(), VlanId::new(0).unwrap(), MacAddr([2, 0, 0, 0, 0, 9]));
        let source = Entry::from((LanSourceKey { port, vid, src: mac }, LanSourceAction::KnownSource));
        let encoded = whole(source, None);
        assert_eq!(encoded.idle_timeout_ns, 300_000_000_000);
        assert_eq!(Entry::decode(&encoded), Ok(source), "which is no part of what is compared");
        let key = LanForwardKey { link: dmux_tables::AccessLinkIndex(1), vid, dst: mac };
        assert_eq!(whole((key, LanForwardAction::ToPort { port }).into(), None).idle_timeout_ns, 0);
    }
}
