//! Frames of endpoints: what the switch punted, and what it is to send.

use dmux_wire::metalink::{self, Decoded, Kind, ValueError};
use dmux_wire::{CONTROL_MLI, Ethernet, MLI_DISCOVERY, MacAddr, PuntReason, Substrate, Vlan, ethernet};

use super::{Dropped, Place};
use crate::punted::{Egress, Outgoing};

/// A frame with a substrate header, as the switch punts it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heard<'a> {
    pub(super) src: MacAddr,
    pub(super) vlan: Option<Vlan>,
    pub(super) mli: u32,
    /// What follows the substrate header: length, message, padding.
    pub(super) rest: &'a [u8],
}

impl<'a> Heard<'a> {
    /// Checks what the switch is relied on for, and what it does not look at.
    pub(super) fn parse(place: &Place, reason: PuntReason, frame: &'a [u8]) -> Result<Self, Dropped> {
        let mli = match reason {
            PuntReason::Discovery => MLI_DISCOVERY,
            PuntReason::MetalinkControl => CONTROL_MLI,
            other => return Err(Dropped::Reason(other)),
        };
        let (Ethernet { src, vlan, ether_type, .. }, payload) = Ethernet::parse(frame)?;
        if ether_type != ethernet::SUBSTRATE {
            return Err(dmux_wire::WireError::Unknown { what: "EtherType", value: ether_type.into() }.into());
        }
        let (substrate, rest) = Substrate::parse(payload)?;
        if substrate.mli != mli {
            return Err(Dropped::Mli(substrate.mli));
        }
        if src.is_multicast() || src == MacAddr::ZERO || src == place.mac {
            return Err(Dropped::Source(src));
        }
        let vid = vlan.map(|vlan| vlan.vid);
        if mli == CONTROL_MLI && vid != Some(place.provisioned_vid) {
            return Err(Dropped::Vlan(vid));
        }
        Ok(Self { src, vlan, mli, rest })
    }

    /// Nonce and message.
    pub(super) fn message(&self) -> Result<(u64, Result<Kind, ValueError>), Dropped> {
        let Decoded { nonce, kind } = metalink::decode(self.rest)?;
        Ok((nonce, kind))
    }
}

/// A message to an endpoint, on its way.
pub(super) fn outgoing(place: &Place, dst: MacAddr, vlan: Option<Vlan>, mli: u32, message: &[u8]) -> Outgoing {
    let mut frame = Vec::with_capacity(22 + message.len());
    Ethernet { dst, src: place.mac, vlan, ether_type: ethernet::SUBSTRATE }.emit(&mut frame);
    Substrate::new(mli).emit(&mut frame);
    frame.extend_from_slice(message);
    Outgoing { egress: Egress::Port(place.port), frame }
}

/// The tag of what goes to endpoints on the provisioned VLAN.
pub(super) fn provisioned(place: &Place) -> Vlan {
    Vlan { pcp: place.pcp, dei: false, vid: place.provisioned_vid }
}
