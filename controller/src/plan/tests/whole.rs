//! The plan, computed in the most naive way: what the planner must agree with.

use std::collections::BTreeMap;

use super::super::{Entry, Key, SiteConfig, entries, gateway};
use crate::model::{Destination, Model};
use crate::selection::{BucketSet, Local, Member, Selection};

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
    for (destination, choice) in selection.iter() {
        let members: BucketSet = model
            .registrations()
            .filter(|r| r.registration.gateway == choice.gateway)
            .filter(|r| Destination::served_by(&r.registration).contains(&destination))
            .filter(|r| local.is_live(&r.registration))
            .map(|r| (r.registration.key, Member { router: r.router, weight: r.registration.weight }))
            .collect();
        let set = model.set(destination).unwrap();
        if let [only] = members.members().values().collect::<Vec<_>>()[..] {
            all.push(entries::demux_router(destination, only.router));
            continue;
        }
        all.push(entries::demux_set(destination, set));
        all.extend((0..=u8::MAX).map(|bucket| entries::bucket(set, bucket, members.router(bucket).unwrap())));
    }
    let count = all.len();
    let by_key: BTreeMap<_, _> = all.into_iter().map(|entry| (entry.key(), entry)).collect();
    assert_eq!(by_key.len(), count, "two entries have one key");
    by_key
}
