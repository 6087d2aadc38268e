//! What is promised on the access LANs of a simulated cluster.

use dmux_controller::model::{AccessLink, Admission, Destination, LinkKey, Metanet, OutOfProfile};
use dmux_host::endpoint::Wanted;
use dmux_wire::metalink::{Lease, MetanetId};
use dmux_wire::{MacAddr, ProtocolId, ProviderId};

use crate::check::gateway;
use crate::net::Site;
use crate::world::ACCESS_LINK;

/// What an endpoint wants, bit/s.
pub const RATE: u64 = 15_000_000;
/// What an access link has: so little more that a metalink which leaked would be missed.
const CAPACITY: u64 = RATE + 1;
/// Of runs in which endpoints die.
pub const SHORT_LEASE_MS: u64 = 10_000;
/// Long enough for a controller to be away within it.
pub const LONG_LEASE_MS: u64 = 60_000;
const METANET: ProtocolId = ProtocolId(41);

/// A site's endpoint's address.
pub fn mac(site: Site) -> MacAddr {
    MacAddr([2, 0, 0, 0, 9, u8::try_from(site).unwrap_or(u8::MAX)])
}

/// The name of a site's access link.
pub fn key(site: Site) -> LinkKey {
    LinkKey { gateway: gateway(site), name: ACCESS_LINK.into() }
}

/// A site's access link, with room for one metalink.
pub fn link(site: Site, short_lease_ms: u64) -> AccessLink {
    AccessLink {
        key: key(site),
        capacity: CAPACITY,
        endpoint_maximum: CAPACITY,
        short_lease_ms,
        long_lease_ms: LONG_LEASE_MS,
        authenticate: false,
        out_of_profile: OutOfProfile::Drop,
    }
}

/// A metanet that admits by itself.
pub fn metanet() -> Metanet {
    Metanet {
        id: Destination::any(METANET),
        name: "video".into(),
        admission: Admission::Automatic { up_to: RATE },
        allow: [].into(),
        deny: [].into(),
        multipoint: false,
    }
}

/// What an endpoint asks for.
pub fn wanted(lease: Lease) -> Wanted {
    let metanet = MetanetId { protocol: METANET, provider: ProviderId::ANY };
    Wanted { metanet, rate: RATE, lease }
}
