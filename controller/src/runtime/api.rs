//! The operator API: what `dmux get` shows. Reads the replicated state, the actor's snapshot and the switch's counters;
//! asks the other controllers for what only they know.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dmux_p4rt::client::Session;
use dmux_raft_store::{Role, Store};
use dmux_wire::GatewayId;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tonic::{Request, Response, Status};

use super::access_api::AccessService;
use super::clock::Wall;
use super::metanet_api::MetanetApi;
use super::registry::RegistryService;
use super::replicated::Replicated;
use super::{Input, Snapshot, config_api, explain, io, latencies, probe, watchers};
use crate::api::DESCRIPTORS;
use crate::api::v1::access_server::AccessServer;
use crate::api::v1::dmux_client::DmuxClient;
use crate::api::v1::dmux_server::{Dmux, DmuxServer};
use crate::api::v1::metanet_service_server::MetanetServiceServer;
use crate::api::v1::registry_server::RegistryServer;
use crate::api::v1::{self, ExplainRequest, GetRequest, ProbeRequest, WatchRequest};
use crate::config::ControllerConfig;

/// How long another controller may take to answer for its switch.
const PEER_DEADLINE: Duration = Duration::from_secs(1);

pub(super) struct Api {
    pub config: Arc<ControllerConfig>,
    pub store: Store<Replicated>,
    pub session: watch::Receiver<Option<Session>>,
    pub epoch: watch::Receiver<Option<u64>>,
    pub snapshot: watch::Receiver<Snapshot>,
    pub inputs: mpsc::Sender<Input>,
    pub door: watchers::Door,
    pub probes: probe::Probes,
    pub wall: Wall,
}

impl Api {
    pub(super) async fn serve(self, listener: TcpListener, registry: RegistryService, access: AccessService) {
        let metanets = MetanetApi::new(self.inputs.clone());
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        let reflect =
            || tonic_reflection::server::Builder::configure().register_encoded_file_descriptor_set(DESCRIPTORS);
        let server = tonic::transport::Server::builder()
            .add_service(DmuxServer::new(self))
            .add_service(RegistryServer::new(registry))
            .add_service(AccessServer::new(access))
            .add_service(MetanetServiceServer::new(metanets));
        // Old clients ask for the one, new ones for the other.
        let server = match (reflect().build_v1(), reflect().build_v1alpha()) {
            (Ok(v1), Ok(v1alpha)) => server.add_service(v1).add_service(v1alpha),
            (Err(error), _) | (_, Err(error)) => {
                tracing::error!(%error, "the operator API does not describe itself");
                server
            }
        };
        if let Err(error) = server.serve_with_incoming(incoming).await {
            tracing::error!(%error, "the operator API stopped");
        }
    }

    fn session(&self) -> Option<Session> {
        self.session.borrow().clone()
    }

    fn explainer(&self) -> explain::Explainer<'_> {
        explain::Explainer {
            config: &self.config,
            store: &self.store,
            inputs: &self.inputs,
            session: self.session(),
            snapshot: self.snapshot.borrow().clone(),
        }
    }

    async fn own_switch(&self) -> v1::Switch {
        let snapshot = self.snapshot.borrow().clone();
        let status = snapshot.switch;
        let drops = match self.session() {
            Some(session) => io::drops(&session).await.unwrap_or_default(),
            None => Vec::new(),
        };
        v1::Switch {
            gateway: self.config.gateway.id.into(),
            endpoint: self.config.switch.p4runtime.clone(),
            device_id: self.config.switch.device_id,
            state: status.state.to_string(),
            detail: status.detail,
            epoch: self.epoch.borrow().unwrap_or(0),
            planned: snapshot.planned as u64,
            refused: status.refused as u64,
            resyncs: status.resyncs,
            resync_us: status.last_resync.map_or(0, |d| d.as_micros() as u64),
            tables: snapshot.tables,
            drops,
            packet_ins: snapshot.packet_ins,
            packet_outs: snapshot.packet_outs,
            applied: snapshot.applied,
            attached: snapshot.attached as u64,
            endpoints: snapshot.endpoints.to_vec(),
        }
    }
}

/// The switch of a controller that does not answer.
fn unreachable(gateway: u32, why: &str) -> v1::Switch {
    v1::Switch { gateway, state: "controller unreachable".into(), detail: why.into(), ..Default::default() }
}

async fn ask(gateway: u32, api: String) -> v1::Switch {
    let answer = async {
        let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{api}")).map_err(|e| e.to_string())?;
        let channel =
            endpoint.connect_timeout(PEER_DEADLINE).connect().await.map_err(|_| format!("no answer at {api}"))?;
        let request = GetRequest { local: true, ..Default::default() };
        let answer = DmuxClient::new(channel).get_switches(request).await.map_err(|e| e.message().to_owned())?;
        answer.into_inner().switches.pop().ok_or_else(|| "it knows of no switch".to_owned())
    };
    match tokio::time::timeout(PEER_DEADLINE, answer).await {
        Ok(Ok(switch)) => switch,
        Ok(Err(why)) => unreachable(gateway, &why),
        Err(_) => unreachable(gateway, &format!("no answer from {api} within {PEER_DEADLINE:?}")),
    }
}

#[tonic::async_trait]
impl Dmux for Api {
    type WatchStream = watchers::Events;

    async fn watch(&self, _: Request<WatchRequest>) -> Result<Response<watchers::Events>, Status> {
        self.door.enter().await.map(Response::new)
    }

    async fn get_gateways(&self, _: Request<GetRequest>) -> Result<Response<v1::Gateways>, Status> {
        let snapshot = self.snapshot.borrow().clone();
        let raft = self.store.status();
        let own = self.config.gateway_id();
        let gateways = self.store.read(|r| {
            r.0.gateways()
                .map(|g| {
                    let peer = snapshot.peers.get(&g.id);
                    let role = match raft.role {
                        role if g.id == own => role_name(role),
                        _ if raft.leader == Some(g.node) => "leader",
                        _ if raft.voters.contains_key(&g.node) => "follower",
                        _ if raft.learners.contains_key(&g.node) => "learner",
                        _ => "",
                    };
                    v1::Gateway {
                        id: g.id.0.into(),
                        name: g.name.clone(),
                        address: g.unicast.to_string(),
                        node: g.node,
                        api: g.api.clone(),
                        role: role.into(),
                        epoch: r.0.owner(g.id).map_or(0, |o| o.epoch),
                        rtt_us: peer.and_then(|p| p.rtt).map(|d| d.as_micros() as u32),
                        reachable: g.id == own || peer.is_none_or(|p| p.reachable),
                    }
                })
                .collect()
        });
        Ok(Response::new(v1::Gateways { gateways }))
    }

    async fn get_routers(&self, _: Request<GetRequest>) -> Result<Response<v1::Routers>, Status> {
        let counters = match self.session() {
            Some(session) => io::router_counters(&session).await.unwrap_or_default(),
            None => BTreeMap::new(),
        };
        let peers = self.snapshot.borrow().peers.clone();
        let now = self.wall.unix_ms();
        let routers = self.store.read(|r| {
            let registered = r.0.registrations().map(|registered| {
                let registration = &registered.registration;
                let suspect = peers.get(&registration.gateway).is_some_and(|p| !p.reachable);
                let counted = counters.get(&registered.router.0);
                let penalty = r.0.penalty(&registration.key, now);
                let reuse_at_ms = penalty.and_then(|p| p.reuse_at);
                v1::Router {
                    protocol: registration.key.protocol.0.into(),
                    provider: registration.provider.0,
                    address: registration.key.router.to_string(),
                    weight: registration.weight.into(),
                    gateway: registration.gateway.0.into(),
                    name: registration.name.clone(),
                    index: registered.router.0,
                    state: router_state(reuse_at_ms.is_some(), suspect, registration.draining.is_some()).into(),
                    registered_at_ms: registration.registered_at,
                    packets: counted.map(|c| c.packets),
                    bytes: counted.map(|c| c.bytes),
                    draining_since_ms: registration.draining,
                    penalty: penalty.map_or(0, |p| p.penalty),
                    reuse_at_ms,
                }
            });
            // Those that went before they were suppressed, and may not come back yet.
            let held_out = r.0.suppressed(now).filter(|(key, _)| r.0.registration(key).is_none());
            let held_out = held_out.map(|(key, reuse_at)| v1::Router {
                protocol: key.protocol.0.into(),
                address: key.router.to_string(),
                state: DAMPENED.into(),
                penalty: r.0.penalty(&key, now).map_or(0, |p| p.penalty),
                reuse_at_ms: Some(reuse_at),
                ..Default::default()
            });
            registered.chain(held_out).collect()
        });
        Ok(Response::new(v1::Routers { routers }))
    }

    async fn get_latencies(&self, request: Request<GetRequest>) -> Result<Response<v1::Latencies>, Status> {
        let only = match u16::try_from(request.into_inner().gateway) {
            Ok(0) => None,
            Ok(id) if self.store.read(|r| r.0.gateway(GatewayId(id)).is_some()) => Some(GatewayId(id)),
            _ => return Err(Status::not_found("there is no such gateway; GetGateways lists them")),
        };
        let peers = self.snapshot.borrow().peers.clone();
        let (own, now) = (self.config.gateway_id(), self.wall.unix_ms());
        Ok(Response::new(self.store.read(|r| latencies::latencies(&r.0, own, &peers, now, only))))
    }

    async fn get_config(&self, _: Request<GetRequest>) -> Result<Response<v1::Config>, Status> {
        Ok(Response::new(config_api::get(&self.store)))
    }

    async fn put_config(&self, request: Request<v1::Config>) -> Result<Response<v1::Config>, Status> {
        let within = Duration::from_millis(self.config.timers.propose_ms);
        config_api::put(&self.store, &self.wall, request.into_inner(), within).await.map(Response::new)
    }

    async fn get_switches(&self, request: Request<GetRequest>) -> Result<Response<v1::Switches>, Status> {
        let own = self.own_switch().await;
        if request.into_inner().local {
            return Ok(Response::new(v1::Switches { switches: vec![own] }));
        }
        let others: Vec<(u32, String)> = self.store.read(|r| {
            let others = r.0.gateways().filter(|g| g.id != self.config.gateway_id());
            others.map(|g| (g.id.0.into(), g.api.clone())).collect()
        });
        // Bounded by MAX_GATEWAYS, each with a deadline.
        let mut asked: JoinSet<_> = others.into_iter().map(|(gateway, api)| ask(gateway, api)).collect();
        let mut switches = vec![own];
        while let Some(answer) = asked.join_next().await {
            switches.extend(answer);
        }
        switches.sort_by_key(|s| s.gateway);
        Ok(Response::new(v1::Switches { switches }))
    }

    async fn explain(&self, request: Request<ExplainRequest>) -> Result<Response<v1::Explanation>, Status> {
        self.explainer().explain(request.into_inner()).await.map(Response::new)
    }

    async fn probe(&self, request: Request<ProbeRequest>) -> Result<Response<v1::ProbeAnswer>, Status> {
        probe::probe(&self.explainer(), &self.probes, request.into_inner()).await.map(Response::new)
    }
}

/// The state of a router that is held out because it flapped.
const DAMPENED: &str = "dampened";

fn router_state(dampened: bool, suspect: bool, draining: bool) -> &'static str {
    match (dampened, suspect, draining) {
        (true, _, _) => DAMPENED,
        (_, true, _) => "suspect",
        (_, _, true) => "draining",
        _ => "live",
    }
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::Leader => "leader",
        Role::Follower => "follower",
        Role::Candidate => "candidate",
        Role::Learner => "learner",
        Role::Stopped => "stopped",
    }
}
