//! What must hold: at every moment of a run, and once everything has healed.

mod during;
mod histories;
mod leads;
mod settled;

use std::time::Duration;

use dmux_wire::{GatewayId, ServiceIndex};

pub use during::Checks;
pub use histories::Histories;
pub use leads::Leads;
pub use settled::settled;

use crate::net::Site;

/// The service that commands of the test itself move about.
pub const MOVED_SERVICE: ServiceIndex = ServiceIndex(2);
/// Less than any registration lives without a keepalive.
const CERTAIN: Duration = Duration::from_secs(2);

/// The gateway of a site.
pub fn gateway(site: Site) -> GatewayId {
    GatewayId(u16::try_from(site + 1).unwrap_or(0))
}
