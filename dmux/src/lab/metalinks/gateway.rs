//! The switch of the experiment: two metalinks of an endpoint, and the LAN that it is on.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use dmux_p4rt::client::{Commit, Events, Session, Target, insert};
use dmux_p4rt::p4::v1::{ForwardingPipelineConfig, MeterConfig, TableEntry, Update};
use dmux_p4rt::{ElectionId, P4Info};
use dmux_tables::{
    AccessLinkIndex, AccessPortAction, AccessPortKey, AnyEntry, LanForwardAction, LanForwardKey, LanSourceAction,
    LanSourceKey, LocalServiceAction, LocalServiceKey, MetalinkTxAction, MetalinkTxKey, Mli, MulticastGroup,
    P4INFO_TEXT, PortId, PortRole, PortRoleAction, PortRoleKey, Priority8, ReturnSourceAction, ReturnSourceKey, VlanId,
};
use dmux_wire::{DMUX_PORT, GatewayId, MacAddr, ProtocolId};

use super::flows::Metalink;
use crate::lab::setup::PROGRAM_JSON;

/// The port towards the endpoint.
pub const ENDPOINT_PORT: u16 = 2;
/// Ports of the legacy senders.
pub const SENDER_PORTS: [u16; 2] = [3, 4];
/// The gateway.
pub const GATEWAY: (GatewayId, Ipv4Addr) = (GatewayId(1), Ipv4Addr::new(192, 0, 2, 1));
/// The endpoint's address, and the senders'.
pub const ENDPOINT: MacAddr = MacAddr([2, 0, 0, 0, 3, 1]);
/// The provisioned VLAN.
pub const PROVISIONED_VID: u16 = 100;
/// The routers' protocol; each metanet is one of its own.
pub const PROTOCOLS: [ProtocolId; 2] = [ProtocolId(41), ProtocolId(42)];

const READY_WITHIN: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(20);
/// How long a metalink may save up its rate.
const BURST: Duration = Duration::from_millis(20);
/// The highest of eight queues.
const QUEUE: u8 = 7;
const PCP: u8 = 5;
const MTU: u16 = 1500;

/// The switch's own address at a port.
pub fn port_mac(port: u16) -> MacAddr {
    MacAddr([2, 0, 0, 0, 1, port as u8])
}

/// The address of a legacy sender.
pub fn sender_mac(port: u16) -> MacAddr {
    MacAddr([2, 0, 0, 0, 3, port as u8])
}

/// Loads the program and writes the entries. Nothing is punted, so nobody needs to listen to the events.
pub async fn configure(p4runtime: SocketAddr) -> anyhow::Result<(Session, Events)> {
    let deadline = Instant::now() + READY_WITHIN;
    let (session, events) = loop {
        match Session::connect(Target::new(format!("http://{p4runtime}"), 1), Some(ElectionId(1))).await {
            Ok(both) => break both,
            Err(error) if Instant::now() >= deadline => return Err(error).context("the switch does not answer"),
            Err(_) => tokio::time::sleep(POLL).await,
        }
    };
    let config = ForwardingPipelineConfig {
        p4info: Some(P4Info::from_text(P4INFO_TEXT)?.raw().clone()),
        p4_device_config: PROGRAM_JSON.as_bytes().to_vec(),
        cookie: None,
    };
    session.set_pipeline(config, Commit::Replace).await?;
    let updates: Vec<Update> = entries()?.into_iter().map(insert).collect();
    for result in session.write(updates).await? {
        result.map_err(|error| anyhow::anyhow!("the switch refuses an entry: {error:?}"))?;
    }
    Ok((session, events))
}

fn entries() -> anyhow::Result<Vec<TableEntry>> {
    let port = |n| PortId::new(n).context("no such port");
    let link = AccessLinkIndex(1);
    let mut all: Vec<AnyEntry> = Vec::new();
    for (n, role) in [(1, PortRole::Wan), (2, PortRole::Access), (3, PortRole::Access), (4, PortRole::Access)] {
        all.push((PortRoleKey { port: port(n)? }, PortRoleAction::SetRole { role, mac: port_mac(n) }).into());
        if role == PortRole::Access {
            let (gateway, gateway_addr) = GATEWAY;
            let action =
                AccessPortAction::SetAccessLink { link, flood_group: MulticastGroup(0), gateway, gateway_addr };
            all.push((AccessPortKey { port: port(n)? }, action).into());
        }
    }
    let untagged = VlanId::new(0).context("VID 0")?;
    for n in SENDER_PORTS {
        let key = LanSourceKey { port: port(n)?, vid: untagged, src: sender_mac(n) };
        all.push((key, LanSourceAction::KnownSource).into());
    }
    let endpoint = LanForwardKey { link, vid: untagged, dst: ENDPOINT };
    all.push((endpoint, LanForwardAction::ToPort { port: port(ENDPOINT_PORT)? }).into());
    let service = LocalServiceKey { dst: GATEWAY.1, protocol: 17, dst_port: DMUX_PORT };
    all.push((service, LocalServiceAction::GatewayService).into());
    for metalink in &Metalink::ALL {
        let router = metalink.router;
        let key = ReturnSourceKey { src: *router.ip(), src_port: router.port(), protocol: metalink.protocol };
        all.push((key, ReturnSourceAction::AcceptReturn).into());
    }
    let mut encoded: Vec<TableEntry> = all.iter().map(AnyEntry::encode).collect();
    for (cell, metalink) in (0..).zip(&Metalink::ALL) {
        encoded.push(metalink_tx(metalink, cell)?);
    }
    Ok(encoded)
}

/// The way to the endpoint, with the meter.
fn metalink_tx(metalink: &Metalink, cell: u32) -> anyhow::Result<TableEntry> {
    let mli = Mli::new(metalink.mli).context("an MLI has 24 bits")?;
    let (Some(pcp), Some(queue)) = (Priority8::new(PCP), Priority8::new(QUEUE)) else { bail!("a priority has 3 bits") };
    let key = MetalinkTxKey { gateway: GATEWAY.0, mli, protocol: metalink.protocol };
    let action = MetalinkTxAction::SendMetalink {
        port: PortId::new(ENDPOINT_PORT).context("no such port")?,
        src_mac: port_mac(ENDPOINT_PORT),
        dst_mac: ENDPOINT,
        vid: VlanId::new(PROVISIONED_VID).context("a VID has 12 bits")?,
        pcp,
        queue,
        mtu: MTU,
        cell,
    };
    // Bytes a second; what is above the committed rate is red.
    let rate = i64::try_from(metalink.rate / 8)?;
    let burst = rate * i64::try_from(BURST.as_millis())? / 1000;
    let meter = MeterConfig { cir: rate, cburst: burst, pir: rate, pburst: burst, ..MeterConfig::default() };
    Ok(TableEntry { meter_config: Some(meter), ..AnyEntry::from((key, action)).encode() })
}

/// Frames that the meters of the metalinks took for red, by metalink.
pub async fn out_of_profile(session: &Session) -> anyhow::Result<Vec<i64>> {
    let info = P4Info::from_text(P4INFO_TEXT)?;
    let id = info.counter_named("metalink_tx_red").context("the program has no counter metalink_tx_red")?.id;
    let mut counts = Vec::new();
    for (cell, _) in (0..).zip(&Metalink::ALL) {
        let cells = session.read_counter(id, Some(cell)).await?;
        counts.push(cells.first().and_then(|c| c.data.as_ref()).map_or(0, |d| d.packet_count));
    }
    Ok(counts)
}
