//! dmux packet codecs: shim, origin, probe, substrate header, Ethernet, IPv4, UDP, control and metalink messages; no IO, no clock.
//!
//! Each header is a plain value with `parse` and `emit`. `parse` takes bytes from outside: it never panics, whatever
//! they are, and what it returns is within the slice it was given. `emit` appends to a `Vec`; where a length
//! field could overflow it returns [`WireError::TooLong`] instead. `parse` of what `emit` wrote gives the value back.

pub mod arp;
pub mod checksum;
pub mod control;
mod error;
pub mod ethernet;
pub mod frame;
pub mod icmpv4;
mod ids;
pub mod ipv4;
pub mod ipv6;
pub mod metalink;
mod probe;
mod reason;
mod shim;
mod substrate;
pub mod udp;

pub use arp::Arp;
pub use error::WireError;
pub use ethernet::{Ethernet, Vlan};
pub use ids::{DMUX_PORT, GatewayId, MacAddr, ParseMacError, ProtocolId, ProviderId, ServiceIndex};
pub use ipv4::Ipv4;
pub use ipv6::Ipv6;
pub use probe::{PROBE_LEN, Probe, ProbeType};
pub use reason::{DropReason, PuntReason};
pub use shim::{MLI_MAX, ORIGIN_LEN, Origin, SHIM_LEN, Shim, ShimKind};
pub use substrate::{CONTROL_MLI, MLI_DISCOVERY, PROVISIONED_MLI_MAX, SHARED_MLIS, SUBSTRATE_LEN, Substrate};
pub use udp::Udp;
