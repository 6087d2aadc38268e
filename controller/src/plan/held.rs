//! What was chosen, as a switch's entries tell it: a controller that starts goes on from there.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddrV4;

use dmux_tables::{BucketAction, DemuxAction, EndpointAction, RouterAction, RouterIndex, SetId};
use dmux_wire::{GatewayId, ProtocolId};

use super::endpoints::Numbering;
use super::{Entry, entries};
use crate::model::{Destination, Endpoint, Model, RegistrationKey};
use crate::selection::{Choice, Chosen, Owners, Selection, Side};

/// The choices, and who has which buckets. What cannot be told (a router that is not registered any more) is left out.
pub(super) fn selection<'a>(model: &Model, held: impl Iterator<Item = &'a Entry>) -> Selection {
    let mut found = Found::default();
    let mut destinations = Vec::new();
    for entry in held {
        match entry {
            Entry::Router(key, RouterAction::Tunnel { dst, dst_port }) => {
                found.routers.insert(key.router, SocketAddrV4::new(*dst, *dst_port));
            }
            Entry::Bucket(key, BucketAction::ToRouter { router }) => {
                found.buckets.entry(key.set).or_default().insert(key.bucket, *router);
            }
            Entry::Bucket(key, BucketAction::ToDraining { leaving, router, .. }) => {
                found.buckets.entry(key.set).or_default().insert(key.bucket, *router);
                found.leaving.entry(key.set).or_default().insert(key.bucket, *leaving);
            }
            Entry::Demux(key, action) => {
                destinations.push((Destination { protocol: key.protocol, provider: key.provider }, *action));
            }
            _ => {}
        }
    }
    destinations
        .into_iter()
        .filter_map(|(destination, action)| Some((destination, found.chosen(model, destination, action)?)))
        .collect()
}

/// The numbers of endpoints.
pub(super) fn numbering<'a>(held: impl Iterator<Item = &'a Entry>) -> Numbering {
    Numbering::of(held.filter_map(|entry| match entry {
        Entry::Endpoint(key, EndpointAction::SetEndpoint { endpoint }) => {
            Some((Endpoint { port: key.port.get(), mac: key.src }, *endpoint))
        }
        _ => None,
    }))
}

#[derive(Default)]
struct Found {
    routers: HashMap<RouterIndex, SocketAddrV4>,
    buckets: HashMap<SetId, BTreeMap<u16, RouterIndex>>,
    leaving: HashMap<SetId, BTreeMap<u16, RouterIndex>>,
}

impl Found {
    fn chosen(&self, model: &Model, destination: Destination, action: DemuxAction) -> Option<Chosen> {
        let protocol = destination.protocol;
        let mut owners = <[Owners; 2]>::default();
        let mut leaving = BTreeMap::new();
        let (side, backup) = match action {
            DemuxAction::ToRouter { router } => {
                let id = model.set(destination)?;
                let ready = |side| self.buckets.contains_key(&entries::set(id, side));
                let side = if ready(Side::A) { Side::B } else { Side::A };
                owners[side.number()] = [self.key(protocol, router)].into_iter().collect();
                (side, entries::set(id, side.other()))
            }
            DemuxAction::ToSet { set, .. } => {
                let (id, side) = entries::set_and_side(set);
                owners[side.number()] = self.owners(protocol, set);
                for (&bucket, &router) in self.leaving.get(&set).into_iter().flatten() {
                    leaving.extend(self.key(protocol, router).map(|key| (usize::from(bucket), key)));
                }
                (side, entries::set(id, side.other()))
            }
        };
        owners[side.other().number()] = self.owners(protocol, backup);
        let choice = at(model, &owners[side.number()])?;
        let backup = at(model, &owners[side.other().number()]).filter(|backup| backup.gateway != choice.gateway);
        Some(Chosen { choice, backup, side, owners, leaving })
    }

    fn key(&self, protocol: ProtocolId, router: RouterIndex) -> Option<RegistrationKey> {
        Some(RegistrationKey { protocol, router: *self.routers.get(&router)? })
    }

    fn owners(&self, protocol: ProtocolId, set: SetId) -> Owners {
        let Some(buckets) = self.buckets.get(&set) else { return Owners::default() };
        let last = buckets.last_key_value().map_or(0, |(last, _)| *last);
        let owner = |bucket| self.key(protocol, *buckets.get(&bucket)?);
        (0..=last).map(owner).collect()
    }
}

/// The gateways at which the owners are registered that still are, as a choice of the first one's.
fn at(model: &Model, owners: &Owners) -> Option<Choice> {
    let registered = owners.buckets().iter().flatten().filter_map(|key| model.registration(key));
    let mut gateways = registered.map(|registered| registered.registration.gateway).peekable();
    let gateway: GatewayId = *gateways.peek()?;
    let pool = gateways.collect::<BTreeSet<_>>().into_iter().collect();
    Some(Choice { gateway, suspect: false, pool })
}
