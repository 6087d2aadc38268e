//! The plan, computed in the most naive way: what the planner must agree with.

use std::collections::BTreeMap;

use super::super::{Entry, Key, SiteConfig, entries, gateway};
use crate::model::{Destination, Model, Registered};
use crate::selection::{Local, Selection, Side};

/// From the model and the choices, without any of the planner's bookkeeping.
pub(super) fn reference(
    model: &Model,
    local: &Local,
    site: &SiteConfig,
    selection: &Selection,
) -> BTreeMap<Key, Entry> {
    let mut all: Vec<Entry> = gateway::section(site, model, local.gateway).into_values().collect();
    for registered in model.registrations() {
        let key = registered.registration.key;
        all.push(entries::router(registered.router, key.router));
        all.push(entries::return_source(&key));
    }
    for (destination, chosen) in selection.iter() {
        for side in Side::ALL {
            let Some(gateway) = chosen.gateway(side) else { continue };
            let members: Vec<&Registered> = model
                .registrations()
                .filter(|r| r.registration.gateway == gateway)
                .filter(|r| Destination::served_by(&r.registration).contains(&destination))
                .filter(|r| local.is_live(&r.registration))
                .collect();
            let served = side == chosen.side;
            if let [only] = members[..] {
                all.extend(served.then(|| entries::demux_router(destination, only.router)));
                continue;
            }
            let set = entries::set(model.set(destination).unwrap(), side);
            let buckets = chosen.owners[side.number()].buckets();
            all.extend(served.then(|| entries::demux_set(destination, set, buckets.len())));
            for (bucket, owner) in (0..).zip(buckets) {
                let owner = members.iter().find(|r| Some(r.registration.key) == *owner).unwrap();
                all.push(entries::bucket(set, bucket, owner.router));
            }
        }
    }
    let count = all.len();
    let by_key: BTreeMap<_, _> = all.into_iter().map(|entry| (entry.key(), entry)).collect();
    assert_eq!(by_key.len(), count, "two entries have one key");
    by_key
}
