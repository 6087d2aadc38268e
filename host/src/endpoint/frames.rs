//! An endpoint's frames (DESIGN §3.4).

use dmux_wire::ethernet::Vlan;
use dmux_wire::metalink::{self, Kind, Offer};
use dmux_wire::{Ethernet, MLI_DISCOVERY, MacAddr, Substrate, ethernet};

/// Bytes of a discovery, padded: the answer may not be longer, and names as many metanets as fit.
const DISCOVER_LEN: usize = 512;

/// What a frame to an endpoint carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Incoming<'a> {
    /// Who sent it.
    pub(super) src: MacAddr,
    /// On which VLAN; `None`: none.
    pub(super) vid: Option<u16>,
    /// On which metalink.
    pub(super) mli: u32,
    /// What follows the substrate header.
    pub(super) payload: &'a [u8],
}

impl<'a> Incoming<'a> {
    /// Reads a frame; `None` unless it is of the substrate, and for this endpoint alone.
    pub(super) fn parse(frame: &'a [u8], own: MacAddr) -> Option<Self> {
        let (header, rest) = Ethernet::parse(frame).ok()?;
        if header.dst != own || header.ether_type != ethernet::SUBSTRATE {
            return None;
        }
        let (Substrate { mli, shim }, payload) = Substrate::parse(rest).ok()?;
        let vid = header.vlan.map(|vlan| vlan.vid);
        // Shims are between gateways and IPvN routers.
        (!shim).then_some(Self { src: header.src, vid, mli, payload })
    }
}

/// A message on MLI 0.
pub(super) fn discovery(own: MacAddr, to: MacAddr, nonce: u64, kind: &Kind) -> Vec<u8> {
    let mut frame = frame(own, to, None, MLI_DISCOVERY, &message(nonce, kind));
    if to == MacAddr::BROADCAST {
        frame.resize(frame.len().max(DISCOVER_LEN), 0);
    }
    frame
}

/// A message on the control MLI.
pub(super) fn request(gateway: &Offer, own: MacAddr, nonce: u64, kind: &Kind) -> Vec<u8> {
    metaframe(gateway, own, gateway.control_mli, &message(nonce, kind))
}

/// A metaframe.
pub(super) fn metaframe(gateway: &Offer, own: MacAddr, mli: u32, payload: &[u8]) -> Vec<u8> {
    let vlan = Vlan { pcp: gateway.provisioned_pcp, dei: false, vid: gateway.provisioned_vid };
    frame(own, gateway.gateway_mac, Some(vlan), mli, payload)
}

/// Only an Attach with certificates can be too long, and those were checked when they were loaded; without the message the
/// frame is as good as lost.
fn message(nonce: u64, kind: &Kind) -> Vec<u8> {
    metalink::encode(nonce, kind).unwrap_or_default()
}

fn frame(src: MacAddr, dst: MacAddr, vlan: Option<Vlan>, mli: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(payload.len() + 22);
    Ethernet { dst, src, vlan, ether_type: ethernet::SUBSTRATE }.emit(&mut frame);
    Substrate::new(mli).emit(&mut frame);
    frame.extend(payload);
    frame
}
