//! How much of what is promised is used: what the switch has counted, and which rates it has programmed.

use std::collections::BTreeMap;

use dmux_p4rt::client::{Session, SessionError};
use dmux_p4rt::p4::v1::entity::Entity as Kind;
use dmux_p4rt::p4::v1::{CounterData, CounterEntry, Index, MeterConfig, TableEntry};
use dmux_tables::{Array, MetalinkRxTable, MetalinkTxTable, Table, counters};

use super::io::{Counted, meter_rate};
use crate::api::v1;
use crate::model::{Cell, Mli};
use crate::plan::Entry;

/// One direction of a metalink in the switch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Direction {
    counted: Counted,
    /// Frames beyond the promise.
    red: u64,
    /// As the target programmed it, bit/s.
    rate: u64,
}

impl Direction {
    pub(super) fn to_api(self) -> v1::DirectionUse {
        let Self { counted, red, rate } = self;
        v1::DirectionUse { packets: counted.packets, bytes: counted.bytes, out_of_profile: red, rate }
    }
}

/// A metalink in the switch: from the endpoint, and to it.
pub(super) type Seen = BTreeMap<Mli, [Option<Direction>; 2]>;

/// Reads those of these metalinks that the switch has.
pub(super) async fn read(session: &Session, metalinks: &[(Mli, Cell)]) -> Result<Seen, SessionError> {
    let cells: BTreeMap<u32, Mli> = metalinks.iter().map(|(mli, cell)| (cell.0.into(), *mli)).collect();
    let mut seen: Seen = metalinks.iter().map(|(mli, _)| (*mli, [None, None])).collect();
    for entry in read_table(session, MetalinkRxTable::TABLE_ID).await? {
        if let Ok(Entry::MetalinkRx(key, _)) = Entry::decode(&entry)
            && let Some([rx, _]) = seen.get_mut(&Mli(key.mli.get()))
        {
            *rx = Some(direction(&entry));
        }
    }
    for entry in read_table(session, MetalinkTxTable::TABLE_ID).await? {
        if let Ok(Entry::MetalinkTx(key, _)) = Entry::decode(&entry)
            && let Some([_, tx]) = seen.get_mut(&Mli(key.mli.get()))
        {
            *tx = Some(direction(&entry));
        }
    }
    for (at, counter) in [counters::METALINK_RX_RED, counters::METALINK_TX_RED].into_iter().enumerate() {
        for (cell, red) in read_cells(session, &counter, cells.keys().copied()).await? {
            let directions = cells.get(&cell).and_then(|mli| seen.get_mut(mli));
            if let Some(direction) = directions.and_then(|directions| directions[at].as_mut()) {
                direction.red = red;
            }
        }
    }
    Ok(seen)
}

async fn read_table(session: &Session, table_id: u32) -> Result<Vec<TableEntry>, SessionError> {
    let (counter_data, meter_config) = (Some(CounterData::default()), Some(MeterConfig::default()));
    session.read_table_with(TableEntry { table_id, counter_data, meter_config, ..Default::default() }).await
}

fn direction(entry: &TableEntry) -> Direction {
    let counted = entry.counter_data.as_ref().map_or(Counted { packets: 0, bytes: 0 }, Counted::from);
    Direction { counted, red: 0, rate: entry.meter_config.as_ref().map_or(0, |config| meter_rate(config).bits()) }
}

/// Packets of some cells of a counter.
async fn read_cells(
    session: &Session,
    counter: &Array,
    cells: impl Iterator<Item = u32>,
) -> Result<Vec<(u32, u64)>, SessionError> {
    let wanted = cells.map(|cell| {
        let index = Some(Index { index: cell.into() });
        Kind::CounterEntry(CounterEntry { counter_id: counter.id, index, data: None }).into()
    });
    let wanted: Vec<_> = wanted.collect();
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let entities = session.read(wanted).await?;
    let cell = |kind| {
        let Kind::CounterEntry(CounterEntry { index: Some(index), data: Some(data), .. }) = kind else { return None };
        Some((u32::try_from(index.index).ok()?, Counted::from(&data).packets))
    };
    Ok(entities.into_iter().filter_map(|entity| cell(entity.entity?)).collect())
}
