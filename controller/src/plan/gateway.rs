//! The entries that do not depend on registrations: ports, guards, punts, services, peers, routes. They are few and
//! change rarely, so they are planned anew as a whole whenever a gateway or the configuration changes.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use dmux_tables::{AccessVlanAction, Mli, VlanId};
use dmux_wire::{GatewayId, MacAddr};

use super::next_hops::NextHopCells;
use super::site::{PortRole, SiteConfig};
use super::{Entry, Key, entries};
use crate::model::{Gateway, Ipv4Prefix, Model};

/// Sources that no packet on the Internet has (RFC 1122 §3.2.1.3, RFC 6890). Private and documentation ranges are
/// not here: sites use them.
const MARTIANS: [Ipv4Prefix; 5] = [
    Ipv4Prefix::containing(Ipv4Addr::new(0, 0, 0, 0), 8),
    Ipv4Prefix::containing(Ipv4Addr::new(127, 0, 0, 0), 8),
    Ipv4Prefix::containing(Ipv4Addr::new(169, 254, 0, 0), 16),
    Ipv4Prefix::containing(Ipv4Addr::new(224, 0, 0, 0), 4),
    Ipv4Prefix::containing(Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// All of them, for the gateway `own`. A gateway that is not in the model yet routes, and does nothing else.
pub(super) fn section(site: &SiteConfig, model: &Model, own: GatewayId) -> BTreeMap<Key, Entry> {
    let mut section = Section::default();
    section.ports(site);
    section.access_vlans(site);
    section.shared_mlis(site, model);
    section.routes(site);
    section.put(entries::punt_arp());
    for martian in MARTIANS {
        section.put(entries::deny_source(martian));
    }
    section.dmux_prefix(model);
    if let Some(gateway) = model.gateway(own) {
        section.own_services(model, gateway.unicast);
        section.access_ports(site, gateway);
    }
    section.entries
}

/// Later entries replace earlier ones of the same key, so what the gateway itself needs comes last.
#[derive(Default)]
struct Section {
    entries: BTreeMap<Key, Entry>,
}

impl Section {
    fn put(&mut self, entry: Entry) {
        self.entries.insert(entry.key(), entry);
    }

    fn extend(&mut self, entries: impl IntoIterator<Item = Entry>) {
        entries.into_iter().for_each(|entry| self.put(entry));
    }

    fn ports(&mut self, site: &SiteConfig) {
        // The CPU port has no Ethernet address: what comes from it is the controller's.
        self.extend(entries::port_role(site.cpu_port, dmux_tables::PortRole::Cpu, MacAddr::ZERO));
        for port in &site.ports {
            let role = match port.role {
                PortRole::Wan => dmux_tables::PortRole::Wan,
                PortRole::Access => dmux_tables::PortRole::Access,
            };
            self.extend(entries::port_role(port.number, role, port.mac));
        }
    }

    fn access_vlans(&mut self, site: &SiteConfig) {
        for (index, link) in site.links() {
            for (vid, action) in [
                (link.provisioned_vid, AccessVlanAction::Provisioned),
                (link.multipoint_vid, AccessVlanAction::Multipoint),
            ] {
                // `SiteConfig::check` refuses what is no VLAN id.
                self.extend(VlanId::new(vid).map(|vid| entries::access_vlan(index, vid, action)));
            }
        }
    }

    /// Metanets that are on multipoint VLANs are on those of all access links.
    fn shared_mlis(&mut self, site: &SiteConfig, model: &Model) {
        for (link, _) in site.links() {
            self.extend(model.shared_mlis().filter_map(|(_, mli)| Some(entries::shared_mli(link, Mli::new(mli.0)?))));
        }
    }

    fn access_ports(&mut self, site: &SiteConfig, gateway: &Gateway) {
        for (index, link) in site.links() {
            let entry = |port| entries::access_port(port, index, gateway.id, gateway.unicast);
            self.extend(link.port_ids().map(entry));
            self.extend(link.port_ids().map(entries::discovery_port));
        }
    }

    fn routes(&mut self, site: &SiteConfig) {
        let cells = NextHopCells::new(site);
        for (cell, hop) in cells.cells() {
            // `SiteConfig::check` refuses next hops behind ports that do not exist.
            if let Some(port) = site.ports.iter().find(|port| port.number == hop.port) {
                self.extend(entries::next_hop(cell, hop.port, port.mac, hop.mac, hop.mtu));
            }
        }
        for route in &site.routes {
            if let Some(target) = cells.target(&route.next_hops) {
                self.put(entries::route(route.prefix, target));
            }
        }
    }

    /// Nobody else has our anycast prefix: it is no source of packets from outside, and what nothing listens to in it
    /// goes nowhere.
    fn dmux_prefix(&mut self, model: &Model) {
        let config = model.config();
        self.put(entries::deny_source(config.dmux_prefix));
        self.put(entries::drop_local(config.dmux_prefix));
        self.put(entries::punt_control(config.registration));
    }

    fn own_services(&mut self, model: &Model, unicast: Ipv4Addr) {
        self.put(entries::deny_source(Ipv4Prefix::host(unicast)));
        self.put(entries::drop_local(Ipv4Prefix::host(unicast)));
        self.put(entries::punt_control(unicast));
        self.put(entries::punt_probe_reply(unicast));
        self.put(entries::gateway_service(unicast));
        for (&index, &address) in &model.config().services {
            self.put(entries::shim_service(address, index, unicast));
            self.put(entries::service_source(index, address));
        }
        for peer in model.gateways().filter(|gateway| gateway.unicast != unicast) {
            self.put(entries::probe_peer(peer.unicast));
        }
    }
}
