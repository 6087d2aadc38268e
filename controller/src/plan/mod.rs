//! The plan (DESIGN §5.1): the entries of a switch as a pure function of the replicated state, of this gateway's own
//! observations, and of how its site is cabled.
//!
//! ```text
//! Model ─┐                      ┌─▶ Plan ──┐
//! Local ─┼─▶ Planner (by change)┤          ├─▶ Reconciler ──▶ Action: check, set, read back, write
//! Site ──┘   plan() (in full)   └─▶ Delta ─┘       ▲
//!                                                  └── Event: what the switch answered
//! ```

mod access;
mod endpoints;
mod entries;
mod exchange;
mod fixtures;
mod gateway;
mod held;
mod metalinks;
mod next_hops;
mod planner;
mod rates;
mod reconcile;
mod served;
mod site;
mod work;

use std::collections::{BTreeMap, BTreeSet};

use dmux_tables::SetId;
use dmux_wire::PuntReason;

pub use access::AccessLink;
pub use dmux_tables::{AnyEntry as Entry, AnyKey as Key};
pub use endpoints::MAX_ENDPOINTS;
pub use exchange::{Action, Event, Foreign, ReadBack, ReconcilerOptions, State, Status, UpdateError};
pub use fixtures::{DIGESTS, DigestRate, Fixture, FixtureKey, STATION_DIGESTS, VIOLATION_DIGESTS};
pub use metalinks::Unfit;
pub use planner::Planner;
pub use rates::{CONTROL_RATE, DEFAULT_PUNT_RATES, DISCOVERY_RATE, METALINK_BURST, MeterRate, PuntRate};
pub use reconcile::Reconciler;
pub use site::{MAX_ROUTES, NextHop, Port, PortRole, Route, SiteConfig, SiteError};
pub use work::{Update, diff};

use crate::model::Model;
use crate::selection::{Local, Selection};

/// What a switch should hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    entries: BTreeMap<Key, Entry>,
    /// The meters of those entries that have one.
    meters: BTreeMap<Key, MeterRate>,
    punt_rates: BTreeMap<PuntReason, PuntRate>,
    fixtures: BTreeMap<FixtureKey, Fixture>,
    /// The sets in `bucket` that hold the next choice of a destination: nothing refers to them yet.
    backups: BTreeSet<SetId>,
    applied: u64,
}

impl Plan {
    /// The entries, by key.
    pub fn entries(&self) -> &BTreeMap<Key, Entry> {
        &self.entries
    }

    /// The rates of the meters of those entries that have one.
    pub fn meters(&self) -> &BTreeMap<Key, MeterRate> {
        &self.meters
    }

    /// The rate of each punt reason's meter.
    pub fn punt_rates(&self) -> &BTreeMap<PuntReason, PuntRate> {
        &self.punt_rates
    }

    /// The multicast groups and subscriptions, which never change while the site is cabled as it is.
    pub fn fixtures(&self) -> &BTreeMap<FixtureKey, Fixture> {
        &self.fixtures
    }

    /// The log index of the state that the plan reflects.
    pub fn applied(&self) -> u64 {
        self.applied
    }
}

/// The keys whose entries a change of the plan touched: added, changed or gone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Delta {
    keys: BTreeSet<Key>,
}

impl Delta {
    /// Nothing changed.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The keys.
    pub fn keys(&self) -> &BTreeSet<Key> {
        &self.keys
    }

    /// Adds what another change touched.
    pub fn extend(&mut self, other: Self) {
        self.keys.extend(other.keys);
    }
}

/// The plan in full. `previous` carries the hysteresis of selection; start with [`Selection::default`].
pub fn plan(model: &Model, local: &Local, site: &SiteConfig, previous: &Selection) -> (Plan, Selection) {
    let planner = Planner::new(site.clone(), model, local.clone(), previous);
    planner.into_parts()
}

#[cfg(test)]
mod tests;
