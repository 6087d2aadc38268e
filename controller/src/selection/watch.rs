//! Which gateways' deaths have to be seen at once.

use std::collections::{BTreeMap, BTreeSet};

use dmux_wire::GatewayId;

use super::Selection;

/// Gateways that are watched at most: those that most destinations rest on.
pub const MAX_WATCHED: usize = 64;

/// The gateways to watch: of each destination the chosen one and what comes next, without `own`, which need not be asked.
pub fn watched(own: GatewayId, selection: &Selection) -> BTreeSet<GatewayId> {
    let mut uses: BTreeMap<GatewayId, usize> = BTreeMap::new();
    for (_, chosen) in selection.iter() {
        let choices = [Some(&chosen.choice), chosen.backup.as_ref()];
        let gateways = choices.into_iter().flatten().flat_map(|choice| &choice.pool).copied();
        for gateway in gateways.filter(|&gateway| gateway != own) {
            *uses.entry(gateway).or_default() += 1;
        }
    }
    let mut by_use: Vec<_> = uses.into_iter().map(|(gateway, uses)| (usize::MAX - uses, gateway)).collect();
    by_use.sort_unstable();
    by_use.into_iter().take(MAX_WATCHED).map(|(_, gateway)| gateway).collect()
}
