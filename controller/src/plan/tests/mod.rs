//! What the tests of the plan share: a site, and a model of a few gateways.

mod access;
mod incremental;
mod metalinks;
mod programming;
mod reconcile;
mod rig;
mod section;
mod site;
mod urgent;
mod whole;

use std::net::{Ipv4Addr, SocketAddrV4};

use dmux_wire::{GatewayId, ProtocolId, ProviderId};

use super::SiteConfig;
use crate::model::{Command, Gateway, Model, Registration, RegistrationKey, Reply};

pub(super) const OWN: GatewayId = GatewayId(1);
pub(super) const P41: ProtocolId = ProtocolId(41);

pub(super) const SITE: &str = r#"
[[ports]]
number = 1
role = "wan"
mac = "02:00:00:00:01:01"

[next_hops.upstream]
port = 1
mac = "02:00:00:00:ff:01"
mtu = 1500

[[routes]]
prefix = "0.0.0.0/0"
next_hops = ["upstream"]
"#;

pub(super) fn site() -> SiteConfig {
    SiteConfig::parse(SITE).unwrap()
}

/// A site with two access links: ports 3 and 4, and port 5.
pub(super) const ACCESS: &str = r#"
[[ports]]
number = 3
role = "access"
mac = "02:00:00:00:01:03"

[[ports]]
number = 4
role = "access"
mac = "02:00:00:00:01:04"

[[ports]]
number = 5
role = "access"
mac = "02:00:00:00:01:05"

[[access_links]]
name = "floor-1"
ports = [3, 4]
provisioned_vid = 100
multipoint_vid = 200
pcp = 5
queue = 7

[[access_links]]
name = "floor-2"
ports = [5]
provisioned_vid = 100
multipoint_vid = 300
pcp = 5
queue = 7
"#;

pub(super) fn access_site() -> SiteConfig {
    SiteConfig::parse(&format!("{SITE}{ACCESS}")).unwrap()
}

pub(super) fn gateway(id: u16) -> Gateway {
    Gateway {
        id: GatewayId(id),
        name: format!("site-{id}"),
        unicast: Ipv4Addr::new(192, 0, 2, id as u8),
        api: String::new(),
        node: u64::from(id),
    }
}

pub(super) fn key(n: u16) -> RegistrationKey {
    let [high, low] = n.to_be_bytes();
    RegistrationKey { protocol: P41, router: SocketAddrV4::new(Ipv4Addr::new(10, 1, high, low), 4000) }
}

pub(super) fn registration(n: u16, provider: u32, gateway: u16, sequence: u64) -> Registration {
    Registration {
        key: key(n),
        provider: ProviderId(provider),
        weight: 1,
        gateway: GatewayId(gateway),
        public_key: [0; 32],
        sequence,
        name: String::new(),
        registered_at: 0,
        not_after: 0,
        draining: None,
        chain: Vec::new(),
    }
}

/// A model that numbers its commands.
pub(super) struct Log {
    pub(super) model: Model,
}

impl Log {
    pub(super) fn new(gateways: impl IntoIterator<Item = u16>) -> Self {
        let mut log = Self { model: Model::new() };
        for id in gateways {
            log.must(Command::PutGateway { at: 0, gateway: gateway(id) });
        }
        log
    }

    pub(super) fn apply(&mut self, command: Command) -> Reply {
        self.model.apply(self.model.applied() + 1, &command)
    }

    pub(super) fn must(&mut self, command: Command) {
        let reply = self.apply(command);
        assert_eq!(reply.refusal(), None);
    }

    pub(super) fn register(&mut self, registration: Registration) {
        self.must(Command::Register { at: 0, registration });
    }
}
