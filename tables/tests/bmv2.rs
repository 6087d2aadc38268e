//! The session and the bindings against BMv2. Ignored by plain `cargo test`, since BMv2 is not everywhere; `make test` runs
//! them where `simple_switch_grpc` is on PATH.
//!
//! BMv2 answers in its own way (P4RUNTIME.md): what it reads back must still be what was written.

#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use dmux_p4rt::ElectionId;
use dmux_p4rt::client::{Arbitration, Commit, Committed, Session, Target, delete, insert, modify};
use dmux_p4rt::p4::v1::forwarding_pipeline_config::Cookie;
use dmux_p4rt::p4::v1::{ForwardingPipelineConfig, Index, MeterConfig, MeterEntry};
use dmux_tables::*;
use dmux_wire::{MacAddr, PuntReason};

/// Long enough for a busy machine: BMv2 opens its port within a second on an idle one.
const START: Duration = Duration::from_secs(60);

/// A BMv2 process that ends with the test.
struct Bmv2 {
    process: Child,
    endpoint: String,
}

impl Drop for Bmv2 {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A port that nothing listens on. BMv2 cannot be asked to choose one and tell.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Bmv2 {
    fn start() -> Self {
        let address = format!("127.0.0.1:{}", free_port());
        let process = Command::new("simple_switch_grpc")
            .args(["--no-p4", "--device-id", "1", "--", "--grpc-server-addr", &address, "--cpu-port", "510"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("simple_switch_grpc (BMv2) must be on PATH for the tests that are ignored by default");
        Self { process, endpoint: format!("http://{address}") }
    }

    async fn connect(&self, id: u128) -> (Session, dmux_p4rt::client::Events) {
        let attempts = async {
            loop {
                let target = Target::new(self.endpoint.clone(), 1);
                match Session::connect(target, Some(ElectionId(id))).await {
                    Ok(session) => return session,
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        };
        tokio::time::timeout(START, attempts).await.expect("BMv2 did not start")
    }
}

fn program() -> ForwardingPipelineConfig {
    let json = include_bytes!("../../bmv2-configs/gateway.json");
    let info = dmux_p4rt::P4Info::from_text(P4INFO_TEXT).unwrap();
    ForwardingPipelineConfig {
        p4info: Some(info.raw().clone()),
        p4_device_config: json.to_vec(),
        cookie: Some(Cookie { cookie: 0xd3 }),
    }
}

/// Every table, every action that an entry can have.
fn entries() -> Vec<AnyEntry> {
    let address = Ipv4Addr::new(198, 51, 100, 1);
    let net = |len| Prefix::new(Ipv4Addr::new(198, 51, 100, 0), len).unwrap();
    let mac = MacAddr([0, 0, 0, 0, 1, 0]);
    let (router, set) = (RouterIndex(256), SetId(7));
    let demux = |protocol: u16| DemuxKey { protocol: protocol.into(), provider: dmux_wire::ProviderId::ANY };
    let any = PuntKey::any(Priority::of::<10>());
    let arp = PuntKey { ether_type: Ternary::exact(0x0806), ..any };
    let (port, link, gateway) = (PortId::of::<3>(), AccessLinkIndex(u16::MAX), dmux_wire::GatewayId(9));
    let (mli, vid) = (Mli::new(Mli::MAX).unwrap(), VlanId::new(VlanId::MAX).unwrap());
    let (endpoint, seven) = (EndpointIndex(70_000), Priority8::new(7).unwrap());
    let local = |dst_port| LocalServiceKey { dst: address, protocol: 17, dst_port };
    vec![
        (PortRoleKey { port: PortId::of::<1>() }, PortRoleAction::SetRole { role: PortRole::Wan, mac }).into(),
        (SourceGuardKey { src: net(24) }, SourceGuardAction::Deny).into(),
        (SourceGuardKey { src: Prefix::host(address) }, SourceGuardAction::Allow).into(),
        (any, PuntAction::Punt { reason: PuntReason::Control }).into(),
        (arp, PuntAction::Punt { reason: PuntReason::Arp }).into(),
        (local(51700), LocalServiceAction::ShimService { service_index: 0.into(), gateway_addr: address }).into(),
        (local(0), LocalServiceAction::GatewayService).into(),
        (ProbePeerKey { src: address }, ProbePeerAction::KnownPeer).into(),
        (demux(41), DemuxAction::ToSet { set, mask: 255 }).into(),
        (demux(42), DemuxAction::ToRouter { router }).into(),
        (BucketKey { set, bucket: 255 }, BucketAction::ToRouter { router }).into(),
        (RouterKey { router }, RouterAction::Tunnel { dst: address, dst_port: 4000 }).into(),
        (ReturnSourceKey { src: address, src_port: 4000, protocol: 41.into() }, ReturnSourceAction::AcceptReturn)
            .into(),
        (
            ServiceSourceKey { service_index: 0.into() },
            ServiceSourceAction::SetServiceSource { src: address, src_port: 51700 },
        )
            .into(),
        (Ipv4RouteKey { dst: net(0) }, Ipv4RouteAction::Via { nexthop: NexthopIndex(0) }).into(),
        (Ipv4RouteKey { dst: net(25) }, Ipv4RouteAction::ViaGroup { first: NexthopIndex(4), mask: 3 }).into(),
        (Ipv4RouteKey { dst: net(24) }, Ipv4RouteAction::DropLocal).into(),
        (
            NexthopKey { nexthop: NexthopIndex(0) },
            NexthopAction::SetNexthop { port: PortId::of::<511>(), src_mac: mac, dst_mac: mac, mtu: 1500 },
        )
            .into(),
        (RouterKey { router: RouterIndex(1) }, RouterAction::ToMetalink { mli, gateway }).into(),
        (
            AccessPortKey { port },
            AccessPortAction::SetAccessLink { link, flood_group: MulticastGroup(1), gateway, gateway_addr: address },
        )
            .into(),
        (AccessVlanKey { link, vid }, AccessVlanAction::Provisioned).into(),
        (AccessVlanKey { link: AccessLinkIndex(0), vid }, AccessVlanAction::Multipoint).into(),
        (DiscoveryPortKey { port }, DiscoveryPortAction::Discover).into(),
        (SharedMliKey { link, mli }, SharedMliAction::Shared).into(),
        (EndpointKey { port, src: mac }, EndpointAction::SetEndpoint { endpoint }).into(),
        (
            MetalinkRxKey { endpoint, mli },
            MetalinkRxAction::Metalink {
                protocol: 41.into(),
                provider: dmux_wire::ProviderId::ANY,
                cell: 16_383,
                police: OutOfProfile::ReportOnly,
            },
        )
            .into(),
        (MetalinkRxKey { endpoint, mli: Mli::new(0).unwrap() }, MetalinkRxAction::MetalinkControl { cell: 0 }).into(),
        (
            MetalinkTxKey { gateway, mli, protocol: 41.into() },
            MetalinkTxAction::SendMetalink {
                port,
                src_mac: mac,
                dst_mac: mac,
                vid,
                pcp: seven,
                queue: seven,
                mtu: 1500,
                cell: 1,
            },
        )
            .into(),
        (LanSourceKey { port, vid, src: mac }, LanSourceAction::KnownSource).into(),
        (LanForwardKey { link, vid, dst: mac }, LanForwardAction::ToPort { port }).into(),
    ]
}

async fn read_all(session: &Session) -> BTreeSet<AnyEntry> {
    let mut all = BTreeSet::new();
    for table in TABLES {
        let entries = session.read_table(table.id).await.unwrap();
        all.extend(entries.iter().map(|e| AnyEntry::decode(e).unwrap()));
    }
    all
}

#[tokio::test]
#[ignore = "needs simple_switch_grpc on PATH; make test runs it there"]
async fn what_bmv2_reads_back_is_what_was_written() {
    let switch = Bmv2::start();
    let (session, _events) = switch.connect(2).await;
    assert_eq!(session.arbitration(), Arbitration::Primary);
    assert!(session.capabilities().await.unwrap().is_some_and(|v| v.starts_with('1')));
    assert_eq!(session.pipeline_cookie().await.unwrap(), None);
    assert_eq!(session.set_pipeline(program(), Commit::Replace).await.unwrap(), Committed::Replaced);
    assert_eq!(session.pipeline_cookie().await.unwrap(), Some(0xd3));

    let mut wanted = entries();
    wanted.sort_by_key(AnyEntry::stage);
    let inserts: Vec<_> = wanted.iter().map(|e| insert(e.encode())).collect();
    for (entry, result) in wanted.iter().zip(session.write(inserts.clone()).await.unwrap()) {
        assert_eq!(result, Ok(()), "{entry}");
    }
    assert_eq!(read_all(&session).await, wanted.iter().copied().collect());
    // One wildcard over all tables gives the same.
    let wild = session.read_table(0).await.unwrap();
    assert_eq!(wild.len(), wanted.len());

    // Again: each update has its own refusal.
    let again = session.write(inserts).await.unwrap();
    assert!(again.iter().all(Result::is_err));
    assert_eq!(again[0].as_ref().unwrap_err().code as i32, 6, "{:?}", again[0]);

    let key = RouterKey { router: RouterIndex(256) };
    let moved = RouterAction::Tunnel { dst: Ipv4Addr::new(203, 0, 113, 9), dst_port: 4001 };
    let moved = AnyEntry::from((key, moved));
    assert_eq!(session.write(vec![modify(moved.encode())]).await.unwrap(), [Ok(())]);
    assert!(read_all(&session).await.contains(&moved));

    let deletes = wanted.iter().rev().map(|e| delete(e.key().encode())).collect();
    let deleted = session.write(deletes).await.unwrap();
    assert!(deleted.iter().all(Result::is_ok), "{deleted:?}");
    assert_eq!(read_all(&session).await, BTreeSet::new());
}

#[tokio::test]
#[ignore = "needs simple_switch_grpc on PATH; make test runs it there"]
async fn meters_counters_and_arbitration_of_bmv2() {
    let switch = Bmv2::start();
    let (first, _events) = switch.connect(2).await;
    first.set_pipeline(program(), Commit::Replace).await.unwrap();

    let config = MeterConfig { cir: 100, cburst: 200, pir: 100, pburst: 200, eburst: 0 };
    let index = i64::from(PuntReason::Arp.code());
    let meter = MeterEntry {
        meter_id: meters::PUNT_METER.id,
        index: Some(Index { index }),
        config: Some(config),
        counter_data: None,
    };
    assert_eq!(first.write(vec![modify(meter)]).await.unwrap(), [Ok(())]);
    let read = first.read_meter(meters::PUNT_METER.id, Some(PuntReason::Arp.code().into())).await.unwrap();
    assert_eq!(read[0].config, Some(config));
    let drops = first.read_counter(counters::DROPS.id, None).await.unwrap();
    assert_eq!(drops.len() as u64, counters::DROPS.size);

    // BMv2 cannot reconcile a program with indirect meters, and is stuck in the attempt unless it is helped out.
    assert_eq!(first.set_pipeline(program(), Commit::Reconcile).await.unwrap(), Committed::Replaced);
    assert!(read_all(&first).await.is_empty());

    let mut watch = first.watch_arbitration();
    let (second, _events2) = switch.connect(3).await;
    assert_eq!(second.arbitration(), Arbitration::Primary);
    watch.wait_for(|a| !a.is_primary()).await.unwrap();
    let primary = Some(ElectionId(3));
    assert_eq!(first.arbitration(), Arbitration::Backup { primary });
    let entry = entries()[0].encode();
    assert!(first.write(vec![insert(entry.clone())]).await.is_err());
    assert_eq!(second.write(vec![insert(entry)]).await.unwrap(), [Ok(())]);
    assert_eq!(first.read_table(0).await.unwrap().len(), 1);
}

#[tokio::test]
#[ignore = "needs simple_switch_grpc on PATH; make test runs it there"]
async fn a_bare_bmv2_is_loaded_although_there_is_nothing_to_reconcile() {
    let switch = Bmv2::start();
    let (session, _events) = switch.connect(2).await;
    assert_eq!(session.set_pipeline(program(), Commit::Reconcile).await.unwrap(), Committed::Replaced);
    assert_eq!(session.pipeline_cookie().await.unwrap(), Some(0xd3));
}
