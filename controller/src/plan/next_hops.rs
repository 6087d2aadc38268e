//! Cells of the `nexthop` table: one for each next hop, and a run of 2ⁿ for each set of next hops that share flows.

use std::collections::BTreeMap;

use super::site::{NextHop, SiteConfig};

/// Cells of a group whose size is not a power of two, per member: with four, the busiest member of three gets 6 of
/// 16 flows and the others 5.
const CELLS_PER_MEMBER: usize = 4;

/// Where a route points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// One next hop's cell.
    One(u16),
    /// A group: `first + (flow hash & mask)`.
    Group { first: u16, mask: u16 },
}

/// The cells of a site, a function of its description alone.
#[derive(Debug)]
pub(super) struct NextHopCells<'a> {
    cells: Vec<&'a NextHop>,
    targets: BTreeMap<&'a [String], Target>,
}

impl<'a> NextHopCells<'a> {
    /// Lays out the cells, from cell 1. Names that do not exist are left out: `SiteConfig::check` refuses them.
    pub(super) fn new(site: &'a SiteConfig) -> Self {
        let mut this = Self { cells: Vec::new(), targets: BTreeMap::new() };
        let mut single = BTreeMap::new();
        for (name, hop) in &site.next_hops {
            this.cells.push(hop);
            single.insert(name, Target::One(this.last()));
        }
        for route in &site.routes {
            let names = route.next_hops.as_slice();
            if this.targets.contains_key(names) {
                continue;
            }
            let target = match names {
                [name] => single.get(name).copied(),
                names => this.group(names.iter().filter_map(|name| site.next_hops.get(name)).collect()),
            };
            if let Some(target) = target {
                this.targets.insert(names, target);
            }
        }
        this
    }

    fn group(&mut self, members: Vec<&'a NextHop>) -> Option<Target> {
        if members.is_empty() {
            return None;
        }
        let size = if members.len().is_power_of_two() {
            members.len()
        } else {
            (members.len() * CELLS_PER_MEMBER).next_power_of_two()
        };
        let first = self.last().saturating_add(1);
        self.cells.extend(members.iter().cycle().take(size));
        Some(Target::Group { first, mask: u16::try_from(size - 1).unwrap_or(u16::MAX) })
    }

    fn last(&self) -> u16 {
        u16::try_from(self.cells.len()).unwrap_or(u16::MAX)
    }

    pub(super) fn len(&self) -> usize {
        self.cells.len()
    }

    /// The cells with their numbers.
    pub(super) fn cells(&self) -> impl Iterator<Item = (u16, &'a NextHop)> {
        (1..=u16::MAX).zip(self.cells.iter().copied())
    }

    /// Where a route's list of next hops points.
    pub(super) fn target(&self, names: &[String]) -> Option<Target> {
        self.targets.get(names).copied()
    }
}
