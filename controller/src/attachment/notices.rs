//! What endpoints are told unasked: that somebody else has changed, or taken, a metalink of theirs.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use dmux_wire::CONTROL_MLI;
use dmux_wire::metalink::{self, Kind, Notice};

use super::answers::metanet_id;
use super::{Attachments, Effect, frames};
use crate::model::{Change, Destination, Endpoint, Metalink, MetalinkId, Mli, Model};
use crate::registration::Now;

/// The metalinks of this gateway as they were told of, or found, last.
#[derive(Debug, Default)]
pub(super) struct Told {
    metalinks: BTreeMap<Mli, Known>,
    /// The log index up to which they are known.
    applied: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Known {
    endpoint: Endpoint,
    metanet: Destination,
    rate: u64,
    yields: bool,
}

impl Known {
    fn of(metalink: &Metalink) -> Self {
        let Metalink { endpoint, metanet, rate, yields, .. } = *metalink;
        Self { endpoint, metanet, rate, yields }
    }
}

impl Told {
    /// Its endpoint knows that it is gone.
    pub(super) fn forget(&mut self, mli: Mli) {
        self.metalinks.remove(&mli);
    }
}

impl Attachments {
    /// The replicated state moved: notices of what somebody else did to metalinks.
    pub fn replicated_changed(&mut self, now: Now, model: &Model) -> Vec<Effect> {
        let since = std::mem::replace(&mut self.told.applied, model.applied());
        let own = self.gateway;
        let touched: BTreeSet<Mli> = match model.changes_since(since).filter(|_| since > 0) {
            Some(changes) => changes
                .into_iter()
                .filter_map(|change| if let Change::Metalink(id) = change { Some(id) } else { None })
                .filter(|id| id.gateway == own)
                .map(|id| id.mli)
                .collect(),
            None => {
                let first = Bound::Included(MetalinkId { gateway: own, mli: Mli(0) });
                let all = model.metalinks_from(first).take_while(|m| m.link.gateway == own).map(|m| m.mli);
                all.chain(self.told.metalinks.keys().copied()).collect()
            }
        };
        touched.into_iter().filter_map(|mli| self.notice(now, model, mli)).collect()
    }

    fn notice(&mut self, now: Now, model: &Model, mli: Mli) -> Option<Effect> {
        let current = model.metalink(MetalinkId { gateway: self.gateway, mli });
        let known = current.map(Known::of);
        let before = match known {
            Some(known) => self.told.metalinks.insert(mli, known),
            None => self.told.metalinks.remove(&mli),
        };
        let before = before.filter(|before| Some(*before) != known)?;
        // Whoever asks for a change itself is answered.
        if self.flights.is_busy(before.endpoint, before.metanet, mli) {
            return None;
        }
        let place = self.places.get(&before.endpoint.port)?;
        let current = current.filter(|metalink| metalink.endpoint == before.endpoint);
        let notice = Notice {
            mli: mli.0,
            metanet: metanet_id(before.metanet),
            rate: current.map_or(0, |metalink| metalink.rate),
            lease_ms: current.map_or(0, |metalink| metalink.until.saturating_sub(now.unix_ms())),
            yields: current.is_some_and(|metalink| metalink.yields),
        };
        let message = metalink::encode(0, &Kind::Notice(notice)).ok()?;
        let vlan = Some(frames::provisioned(place));
        Some(Effect::Send(frames::outgoing(place, before.endpoint.mac, vlan, CONTROL_MLI, &message)))
    }
}
