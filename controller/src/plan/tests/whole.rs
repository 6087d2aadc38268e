//! The plan, computed in the most naive way: what the planner must agree with.

use std::collections::BTreeMap;

use super::super::entries::Leaving;
use super::super::{Entry, Key, SiteConfig, entries, gateway};
use crate::model::{Destination, Model, Policy, Registered};
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
    for (station, port) in local.stations.iter() {
        all.extend(entries::station(station, *port));
    }
    for (destination, chosen) in selection.iter() {
        for side in Side::ALL {
            let Some(choice) = chosen.at(side) else { continue };
            let members: Vec<&Registered> = model
                .registrations()
                .filter(|r| choice.pool.contains(&r.registration.gateway))
                .filter(|r| Destination::served_by(&r.registration).contains(&destination))
                .filter(|r| local.is_live(&r.registration))
                .collect();
            let taking: Vec<&Registered> =
                members.iter().copied().filter(|r| r.registration.draining.is_none()).collect();
            let members = if taking.is_empty() { members } else { taking };
            let sharing: Vec<&Registered> =
                members.iter().copied().filter(|r| is_close(model, destination, &members, r)).collect();
            let members = sharing;
            let served = side == chosen.side;
            if let [only] = members[..]
                && (!served || chosen.leaving.is_empty())
            {
                all.extend(served.then(|| entries::demux_router(destination, only.router)));
                continue;
            }
            let set = entries::set(model.set(destination).unwrap(), side);
            let buckets = chosen.owners[side.number()].buckets();
            all.extend(served.then(|| entries::demux_set(destination, set, buckets.len())));
            for (bucket, owner) in (0_u16..).zip(buckets) {
                let owner = members.iter().find(|r| Some(r.registration.key) == *owner).unwrap();
                let leaving = chosen.leaving.get(&usize::from(bucket)).filter(|_| served);
                all.push(match leaving.map(|key| model.registration(key).unwrap()) {
                    None => entries::bucket(set, bucket, owner.router),
                    Some(leaving) => {
                        let learning = !local.learned.contains(&leaving.registration.key);
                        assert!(leaving.registration.draining.is_some() && local.is_live(&leaving.registration));
                        let leaving = Leaving { router: leaving.router, idle: 287, learning };
                        entries::draining(set, bucket, leaving, owner.router)
                    }
                });
            }
        }
    }
    let count = all.len();
    let by_key: BTreeMap<_, _> = all.into_iter().map(|entry| (entry.key(), entry)).collect();
    assert_eq!(by_key.len(), count, "two entries have one key");
    by_key
}

/// By the policy `closest-router`: within a tenth, or a millisecond, of the closest that was measured.
fn is_close(model: &Model, destination: Destination, all: &[&Registered], one: &Registered) -> bool {
    let rtt = |registered: &Registered| model.router_rtt(&registered.registration.key);
    let least = all.iter().filter_map(|registered| rtt(registered)).min();
    match least {
        Some(least) if model.config().protocol(destination.protocol).policy == Policy::ClosestRouter => {
            rtt(one).is_some_and(|rtt| rtt <= least + (least / 10).max(1_000))
        }
        _ => true,
    }
}
