//! The books of access links, derived from the metalinks: not snapshotted, rebuilt on restore. A claim costs the
//! logarithm of how many metalinks there are.

use std::collections::{BTreeMap, BTreeSet};

use dmux_wire::{GatewayId, PROVISIONED_MLI_MAX};

use super::access::{Access, Endpoint, LinkKey};
use super::free::Free;
use super::metalink::{Metalink, Owner};
use super::metanet::MetanetUse;
use super::numbers::{METALINK_CELLS, Mli};
use super::{Destination, LeaseKind};

/// What one access link has promised, bit/s.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Book {
    pub(super) long: u64,
    pub(super) short: u64,
    /// Of `short`: what ends with its lease.
    pub(super) yielding: u64,
    pub(super) metalinks: usize,
    /// To each endpoint.
    pub(super) endpoints: BTreeMap<Endpoint, u64>,
    /// Short-term leases that do not yield, by age.
    pub(super) unyielding: BTreeSet<(u64, Mli)>,
}

impl Book {
    pub(super) fn promised(&self) -> u64 {
        self.long.saturating_add(self.short)
    }

    fn rate_of(&mut self, kind: LeaseKind) -> &mut u64 {
        match kind {
            LeaseKind::Long => &mut self.long,
            LeaseKind::Short => &mut self.short,
        }
    }
}

/// The numbers of a gateway that are neither in use nor at rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FreeNumbers {
    pub(super) mlis: Free,
    /// Each one above the cell's number.
    pub(super) cells: Free,
}

impl Default for FreeNumbers {
    fn default() -> Self {
        Self { mlis: Free::new(PROVISIONED_MLI_MAX), cells: Free::new(METALINK_CELLS.into()) }
    }
}

/// The books of all access links.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Books {
    owners: BTreeMap<Owner, Mli>,
    links: BTreeMap<LinkKey, Book>,
    metanets: BTreeMap<Destination, MetanetUse>,
    /// When leases end, by gateway.
    ends: BTreeMap<GatewayId, BTreeSet<(u64, Mli)>>,
    /// Of every gateway that ever had a metalink.
    numbers: BTreeMap<GatewayId, FreeNumbers>,
}

impl Books {
    pub(super) fn mli_of(&self, owner: &Owner) -> Option<Mli> {
        self.owners.get(owner).copied()
    }

    /// `None` while it promises nothing.
    pub(super) fn link(&self, key: &LinkKey) -> Option<&Book> {
        self.links.get(key)
    }

    pub(super) fn metanet(&self, id: Destination) -> MetanetUse {
        self.metanets.get(&id).copied().unwrap_or_default()
    }

    pub(super) fn numbers(&mut self, gateway: GatewayId) -> &mut FreeNumbers {
        self.numbers.entry(gateway).or_default()
    }

    /// The lease of a gateway that ends first, and when, ms since the Unix epoch.
    pub(super) fn first_end(&self, gateway: GatewayId) -> Option<(u64, Mli)> {
        self.ends.get(&gateway)?.first().copied()
    }

    pub(super) fn add(&mut self, metalink: &Metalink) {
        let Metalink { mli, cell, link, rate, lease, until, granted_at, yields, .. } = metalink;
        self.owners.insert(metalink.owner(), *mli);
        let numbers = self.numbers.entry(link.gateway).or_default();
        numbers.mlis.take(mli.0);
        numbers.cells.take(u32::from(cell.0) + 1);
        self.ends.entry(link.gateway).or_default().insert((*until, *mli));
        let metanet = self.metanets.entry(metalink.metanet).or_default();
        metanet.metalinks += 1;
        metanet.rate = metanet.rate.saturating_add(*rate);

        let book = self.links.entry(link.clone()).or_default();
        book.metalinks += 1;
        let promised = book.rate_of(*lease);
        *promised = promised.saturating_add(*rate);
        let of_endpoint = book.endpoints.entry(metalink.endpoint).or_default();
        *of_endpoint = of_endpoint.saturating_add(*rate);
        match (lease, yields) {
            (LeaseKind::Long, _) => {}
            (LeaseKind::Short, true) => book.yielding = book.yielding.saturating_add(*rate),
            (LeaseKind::Short, false) => {
                book.unyielding.insert((*granted_at, *mli));
            }
        }
    }

    /// The inverse of [`Self::add`], but for the MLI: it stays taken, to rest.
    pub(super) fn remove(&mut self, metalink: &Metalink) {
        let Metalink { mli, cell, link, rate, lease, until, granted_at, yields, .. } = metalink;
        self.owners.remove(&metalink.owner());
        self.numbers(link.gateway).cells.give(u32::from(cell.0) + 1);
        if let Some(ends) = self.ends.get_mut(&link.gateway) {
            ends.remove(&(*until, *mli));
            if ends.is_empty() {
                self.ends.remove(&link.gateway);
            }
        }
        if let Some(metanet) = self.metanets.get_mut(&metalink.metanet) {
            metanet.metalinks -= 1;
            metanet.rate -= rate;
            if metanet.metalinks == 0 {
                self.metanets.remove(&metalink.metanet);
            }
        }
        let Some(book) = self.links.get_mut(link) else { return };
        book.metalinks -= 1;
        *book.rate_of(*lease) -= rate;
        if let Some(of_endpoint) = book.endpoints.get_mut(&metalink.endpoint) {
            *of_endpoint -= rate;
            // No rate is 0, so nothing is left when nothing is promised.
            if *of_endpoint == 0 {
                book.endpoints.remove(&metalink.endpoint);
            }
        }
        match (lease, yields) {
            (LeaseKind::Long, _) => {}
            (LeaseKind::Short, true) => book.yielding -= rate,
            (LeaseKind::Short, false) => {
                book.unyielding.remove(&(*granted_at, *mli));
            }
        }
        if book.metalinks == 0 {
            self.links.remove(link);
        }
    }

    /// The books of a state.
    ///
    /// # Errors
    /// What contradicts itself in the state, if no sequence of commands leads to it.
    pub(super) fn of(access: &Access) -> Result<Self, &'static str> {
        let mut books = Self::default();
        let mut cells = BTreeSet::new();
        for (id, metalink) in &access.metalinks {
            let Metalink { mli, cell, link, rate, .. } = metalink;
            if (id.gateway, id.mli) != (link.gateway, *mli) {
                return Err("a metalink is filed under another's number");
            }
            if !access.links.contains_key(link) || !access.metanets.contains_key(&metalink.metanet) {
                return Err("a metalink's access link or metanet does not exist");
            }
            if !(1..=PROVISIONED_MLI_MAX).contains(&mli.0)
                || cell.0 >= METALINK_CELLS
                || !cells.insert((link.gateway, *cell))
            {
                return Err("a metalink's number is out of range or used twice");
            }
            if *rate == 0 || books.owners.contains_key(&metalink.owner()) {
                return Err("a metalink has no rate, or its endpoint has two to one metanet");
            }
            books.add(metalink);
        }
        for (key, book) in &books.links {
            let fits = access.links.get(key).is_some_and(|link| {
                book.promised() <= link.capacity && book.endpoints.values().all(|&rate| rate <= link.endpoint_maximum)
            });
            if !fits {
                return Err("an access link promises more than it has");
            }
        }
        for (&gateway, numbers) in &access.numbers {
            let free = books.numbers(gateway);
            for (_, mli) in numbers.resting.keys() {
                free.mlis.take(mli.0);
            }
        }
        let multipoint = access.metanets.values().filter(|metanet| metanet.multipoint).map(|metanet| metanet.id);
        if !access.shared.is_consistent() || !access.shared.metanets().eq(multipoint) {
            return Err("the shared MLIs are not those of the metanets that have one");
        }
        let all_known = access.metalinks.keys().all(|id| access.numbers.contains_key(&id.gateway));
        if !all_known || access.waiting.iter().any(|(key, list)| list.is_empty() || !access.links.contains_key(key)) {
            return Err("the memories of numbers or of claims that wait are not in step");
        }
        Ok(books)
    }
}
