//! Access links: which ports of a site are one access LAN, and on which VLANs it has the substrate
//! ("Network Access in a Diversified Internet", 3.2).

use std::collections::BTreeMap;

use dmux_tables::{AccessLinkIndex, PortId, VlanId};
use serde::{Deserialize, Serialize};

use super::site::{PortRole, SiteConfig, SiteError, value};
use crate::model::check_link_name;

/// VLAN ids that a frame can be tagged with: 0 says "no VLAN" and 4095 is reserved (IEEE 802.1Q, 9.6).
const MAX_VID: u16 = 4094;
/// The smallest MTU: what IPv4 needs (RFC 791).
const MIN_MTU: u16 = 68;
/// Of priority code points and of egress queues.
const MAX_PRIORITY: u8 = 7;

/// An access LAN. Each has a port of its own, so there are fewer than ports; the switch bridges its ports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessLink {
    /// Its name, unique at the site: what capacity is promised under (`dmux access-link put`).
    pub name: String,
    /// Its ports, all with role `access`.
    pub ports: Vec<u16>,
    /// The VLAN of provisioned metalinks: it leads to the gateway and nowhere else.
    pub provisioned_vid: u16,
    /// The VLAN of multipoint metalinks: best effort, between endpoints.
    pub multipoint_vid: u16,
    /// Priority code point of frames of provisioned metalinks to endpoints, 0 to 7.
    pub pcp: u8,
    /// Egress queue of provisioned metalinks, 0 to 7: the higher is served first. A switch without queues has 0 only.
    pub queue: u8,
    /// The largest metaframe, in bytes.
    #[serde(default = "default_mtu")]
    pub mtu: u16,
}

/// What Ethernet carries, less the substrate header.
fn default_mtu() -> u16 {
    1_496
}

impl AccessLink {
    /// Its ports.
    pub fn port_ids(&self) -> impl Iterator<Item = PortId> + '_ {
        // `SiteConfig::check` refuses numbers that are no port.
        self.ports.iter().filter_map(|&port| PortId::new(port))
    }

    /// The VLAN of provisioned metalinks, unless the site is unchecked and it is none.
    pub fn provisioned(&self) -> Option<VlanId> {
        VlanId::new(self.provisioned_vid)
    }
}

impl SiteConfig {
    /// The access links with their numbers in the switch, from 1 in the order of the file.
    pub fn links(&self) -> impl Iterator<Item = (AccessLinkIndex, &AccessLink)> {
        (1..).map(AccessLinkIndex).zip(&self.access_links)
    }
}

/// Finds the first thing that is wrong with the access links of a site whose ports are checked.
pub(super) fn check(site: &SiteConfig) -> Result<(), SiteError> {
    let roles: BTreeMap<u16, PortRole> = site.ports.iter().map(|port| (port.number, port.role)).collect();
    let mut link_of: BTreeMap<u16, &str> = BTreeMap::new();
    for (at, link) in site.access_links.iter().enumerate() {
        let key = |field: &str| format!("access_links[{at}].{field}");
        check_link_name(&link.name).map_err(|why| value(key("name"), why))?;
        if site.access_links[..at].iter().any(|other| other.name == link.name) {
            return Err(value(key("name"), format!("another access link is called `{}`, too", link.name)));
        }
        if link.ports.is_empty() {
            return Err(value(key("ports"), "there is none; name the ports that lead to this LAN".into()));
        }
        for &port in &link.ports {
            match roles.get(&port) {
                Some(PortRole::Access) => {}
                Some(PortRole::Wan) => {
                    let why = format!("port {port} has role \"wan\"; a port of an access link has role \"access\"");
                    return Err(value(key("ports"), why));
                }
                None => return Err(value(key("ports"), format!("there is no port {port}; add it to ports"))),
            }
            if let Some(other) = link_of.insert(port, &link.name) {
                let why = format!("port {port} is listed for `{other}` already; each port is of one access link, once");
                return Err(value(key("ports"), why));
            }
        }
        for (field, vid) in [("provisioned_vid", link.provisioned_vid), ("multipoint_vid", link.multipoint_vid)] {
            if vid == 0 || vid > MAX_VID {
                return Err(value(key(field), format!("{vid} is no VLAN id; use 1 to {MAX_VID}")));
            }
        }
        if link.provisioned_vid == link.multipoint_vid {
            let why = format!("{} is the provisioned VLAN; provisioned traffic needs its own", link.multipoint_vid);
            return Err(value(key("multipoint_vid"), why));
        }
        if link.mtu < MIN_MTU {
            return Err(value(key("mtu"), format!("{} is below {MIN_MTU}; no metanet could use that", link.mtu)));
        }
        for (field, priority) in [("pcp", link.pcp), ("queue", link.queue)] {
            if priority > MAX_PRIORITY {
                return Err(value(key(field), format!("{priority} is above {MAX_PRIORITY}")));
            }
        }
    }
    let lost = site.ports.iter().position(|p| p.role == PortRole::Access && !link_of.contains_key(&p.number));
    match lost {
        Some(at) => {
            let why = "no access link has this port; list it in the ports of one of access_links".into();
            Err(value(format!("ports[{at}].role"), why))
        }
        None => Ok(()),
    }
}
