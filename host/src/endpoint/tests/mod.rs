//! An endpoint against a gateway that the test plays.

mod channel;
mod conversation;
mod daemon;
mod gateway;

use dmux_wire::metalink::{Lease, MetanetId};
use dmux_wire::{MacAddr, ProtocolId, ProviderId};

use super::*;

pub(super) const MAC: MacAddr = MacAddr([2, 0, 0, 0, 9, 1]);

pub(super) fn metanet(protocol: u16) -> MetanetId {
    MetanetId { protocol: ProtocolId(protocol), provider: ProviderId::ANY }
}

pub(super) fn wanted(protocol: u16, rate: u64) -> Wanted {
    Wanted { metanet: metanet(protocol), rate, lease: Lease::Long }
}

pub(super) fn endpoint(wanted: &[Wanted], seed: u8) -> EndpointCore {
    let config = EndpointConfig { mac: MAC, wanted: wanted.to_vec(), timers: Timers::default() };
    EndpointCore::new(config, None, [seed; 32])
}

pub(super) fn at(mono: Duration) -> Now {
    Now { mono, unix: Duration::from_secs(1_700_000_000) + mono }
}

pub(super) fn sent(actions: &[Action]) -> Vec<Vec<u8>> {
    let frame = |action: &Action| if let Action::Send(frame) = action { Some(frame.clone()) } else { None };
    actions.iter().filter_map(frame).collect()
}

pub(super) fn told(actions: &[Action]) -> Vec<Event> {
    let event = |action: &Action| if let Action::Tell(event) = action { Some(event.clone()) } else { None };
    actions.iter().filter_map(event).collect()
}
