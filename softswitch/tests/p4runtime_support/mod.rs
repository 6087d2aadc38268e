//! What the tests of the switch share: a switch with the portal program, and a plain tonic client.
#![allow(dead_code, reason = "each test binary uses its own part")]

pub mod holdings;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dmux_p4rt::p4::config::v1 as info;
use dmux_p4rt::p4::v1;
use dmux_p4rt::p4::v1::p4_runtime_client::P4RuntimeClient;
use dmux_p4rt::p4::v1::stream_message_request::Update as RequestUpdate;
use dmux_p4rt::p4::v1::stream_message_response::Update as ResponseUpdate;
use dmux_p4rt::{P4Info, RoleConfig};
use dmux_softswitch::pipeline::{ActionCall, EntrySpec, MatchValue};
use dmux_softswitch::ports::LinkConfig;
use dmux_softswitch::{MemoryPort, Switch};
use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

pub const DEVICE: u64 = 7;
pub const CPU_PORT: u16 = 510;
/// How long anything may take before a test fails: far beyond what it takes.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// How long to look for what must not come.
pub const MOMENT: Duration = Duration::from_millis(100);

const JSON: &[u8] = include_bytes!("../p4runtime_programs/portal.json");
const P4INFO: &str = include_str!("../p4runtime_programs/portal.p4info.txtpb");

/// The portal program's P4Info.
pub fn p4info() -> info::P4Info {
    P4Info::from_text(P4INFO).unwrap().raw().clone()
}

/// The portal program as a controller sends it.
pub fn portal(cookie: u64) -> v1::ForwardingPipelineConfig {
    v1::ForwardingPipelineConfig {
        p4info: Some(p4info()),
        p4_device_config: JSON.to_vec(),
        cookie: Some(v1::forwarding_pipeline_config::Cookie { cookie }),
    }
}

fn id<'a>(mut all: impl Iterator<Item = Option<&'a info::Preamble>>, alias: &str) -> u32 {
    all.find_map(|p| p.filter(|p| p.alias == alias)).unwrap_or_else(|| panic!("no {alias}")).id
}

pub fn table_id(alias: &str) -> u32 {
    id(p4info().tables.iter().map(|t| t.preamble.as_ref()), alias)
}

pub fn action_id(alias: &str) -> u32 {
    id(p4info().actions.iter().map(|t| t.preamble.as_ref()), alias)
}

pub fn counter_id(alias: &str) -> u32 {
    id(p4info().counters.iter().map(|t| t.preamble.as_ref()), alias)
}

pub fn meter_id(alias: &str) -> u32 {
    id(p4info().meters.iter().map(|t| t.preamble.as_ref()), alias)
}

/// A switch without P4Runtime that runs the portal program.
pub fn portal_switch() -> Switch {
    portal_switch_of(1)
}

/// The same with several workers.
pub fn portal_switch_of(workers: usize) -> Switch {
    let switch = Switch::builder(DEVICE, CPU_PORT).workers(workers).start().unwrap();
    switch.load_pipeline(p4info(), JSON.to_vec()).unwrap();
    switch
}

/// Lets the portal program send what arrives at one port out of another.
pub fn wire(switch: &Switch, from: u16, to: u16) {
    let pipeline = switch.pipeline().unwrap();
    let program = pipeline.dataplane.program();
    let table = program.table_by_name("PortalIngress.wire").unwrap();
    let action = *program.tables()[table.0]
        .actions
        .iter()
        .find(|a| program.actions()[a.0].name == "PortalIngress.send")
        .unwrap();
    let spec = EntrySpec {
        key: vec![MatchValue::Exact(from.into())],
        priority: 0,
        action: ActionCall { action, args: vec![to.into()] },
    };
    pipeline.dataplane.insert(table, &spec).unwrap();
}

/// A frame with this destination and type.
pub fn frame(dst: u64, ether_type: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = dst.to_be_bytes()[2..].to_vec();
    frame.extend_from_slice(&[0x02, 0, 0, 0, 0, 0x99]);
    frame.extend_from_slice(&ether_type.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// A served switch with memory ports 1 and 2.
pub struct Rig {
    pub switch: Arc<Switch>,
    pub port1: MemoryPort,
    pub port2: MemoryPort,
    pub address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    server: JoinHandle<()>,
}

impl Rig {
    pub async fn start() -> Self {
        let switch = Arc::new(Switch::builder(DEVICE, CPU_PORT).start().unwrap());
        let port1 = switch.add_memory_port(1, &LinkConfig::default()).unwrap();
        let port2 = switch.add_memory_port(2, &LinkConfig::default()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let served = Arc::clone(&switch);
        let server = tokio::spawn(async move {
            served.serve(listener, async { drop(stopped.await) }).await.unwrap();
        });
        Self { switch, port1, port2, address, stop: Some(stop), server }
    }

    /// A rig whose controller is primary with election id 1 and has loaded the portal program.
    pub async fn loaded() -> (Self, Controller) {
        Self::loaded_with(portal(1)).await
    }

    /// The same with another program.
    pub async fn loaded_with(config: v1::ForwardingPipelineConfig) -> (Self, Controller) {
        let rig = Self::start().await;
        let mut controller = rig.connect().await;
        assert_eq!(controller.arbitrate(1).await.unwrap().0, Code::Ok);
        controller.commit(config).await.unwrap();
        (rig, controller)
    }

    pub async fn connect(&self) -> Controller {
        let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", self.address))
            .unwrap()
            .http2_max_header_list_size(1 << 20)
            .connect()
            .await
            .unwrap();
        let mut client = P4RuntimeClient::new(channel).max_decoding_message_size(64 << 20);
        let (requests, outgoing) = mpsc::channel(64);
        let responses = client.stream_channel(ReceiverStream::new(outgoing)).await.unwrap().into_inner();
        Controller { client, requests, responses, election_id: None, role: String::new() }
    }

    /// A controller that plays a role with a configuration, as primary with election id 1.
    pub async fn player(&self, name: &str, config: &RoleConfig) -> Controller {
        let mut controller = self.connect().await;
        controller.election_id = Some(v1::Uint128 { high: 0, low: 1 });
        let role = v1::Role { name: name.to_owned(), config: Some(config.to_any()), ..Default::default() };
        let election_id = controller.election_id;
        let update = v1::MasterArbitrationUpdate {
            device_id: DEVICE,
            role: Some(role.clone()),
            election_id,
            ..Default::default()
        };
        controller.send(RequestUpdate::Arbitration(update)).await;
        match controller.next().await.unwrap() {
            ResponseUpdate::Arbitration(answer) => {
                assert_eq!(answer.status.map(|s| s.code), Some(Code::Ok.into()));
                assert_eq!(answer.role, Some(role), "the role comes back as it was given");
            }
            other => panic!("not about arbitration: {other:?}"),
        }
        controller.role = name.to_owned();
        controller
    }

    /// Stops the server and waits for it.
    pub async fn stop(mut self) {
        drop(self.stop.take());
        tokio::time::timeout(PATIENCE, self.server).await.unwrap().unwrap();
    }
}

/// One client with an open stream.
pub struct Controller {
    pub client: P4RuntimeClient<Channel>,
    pub requests: mpsc::Sender<v1::StreamMessageRequest>,
    pub responses: Streaming<v1::StreamMessageResponse>,
    pub election_id: Option<v1::Uint128>,
    /// What its requests say; the stream's arbitration is another matter.
    pub role: String,
}

impl Controller {
    pub async fn send(&self, update: RequestUpdate) {
        self.requests.send(v1::StreamMessageRequest { update: Some(update) }).await.unwrap();
    }

    /// The next message of the stream.
    pub async fn next(&mut self) -> Result<ResponseUpdate, Status> {
        let message = tokio::time::timeout(PATIENCE, self.responses.message()).await.expect("a message in time")?;
        message.and_then(|m| m.update).ok_or_else(|| Status::cancelled("the stream ended"))
    }

    /// The next message, which must be about arbitration: its status code and election id.
    pub async fn notice(&mut self) -> Result<(Code, Option<u128>), Status> {
        match self.next().await? {
            ResponseUpdate::Arbitration(update) => {
                let id = update.election_id.map(|id| u128::from(id.high) << 64 | u128::from(id.low));
                assert_eq!(update.device_id, DEVICE);
                Ok((Code::from_i32(update.status.expect("a status").code), id))
            }
            other => panic!("not about arbitration: {other:?}"),
        }
    }

    /// The next packet-in.
    pub async fn packet_in(&mut self) -> v1::PacketIn {
        match self.next().await.unwrap() {
            ResponseUpdate::Packet(packet) => packet,
            other => panic!("not a packet: {other:?}"),
        }
    }

    pub async fn arbitrate(&mut self, id: impl Into<Option<u64>>) -> Result<(Code, Option<u128>), Status> {
        let election_id = id.into().map(|low| v1::Uint128 { high: 0, low });
        self.election_id = election_id;
        let update = v1::MasterArbitrationUpdate { device_id: DEVICE, election_id, ..Default::default() };
        self.send(RequestUpdate::Arbitration(update)).await;
        self.notice().await
    }

    pub async fn set_pipeline(
        &mut self,
        action: v1::set_forwarding_pipeline_config_request::Action,
        config: Option<v1::ForwardingPipelineConfig>,
    ) -> Result<(), Status> {
        let request = v1::SetForwardingPipelineConfigRequest {
            device_id: DEVICE,
            role: self.role.clone(),
            election_id: self.election_id,
            action: action as i32,
            config,
            ..Default::default()
        };
        self.client.set_forwarding_pipeline_config(request).await.map(drop)
    }

    pub async fn commit(&mut self, config: v1::ForwardingPipelineConfig) -> Result<(), Status> {
        self.set_pipeline(v1::set_forwarding_pipeline_config_request::Action::VerifyAndCommit, Some(config)).await
    }

    /// Writes a batch and returns the status.
    pub async fn try_write(&mut self, updates: Vec<v1::Update>) -> Result<(), Status> {
        let request = v1::WriteRequest {
            device_id: DEVICE,
            role: self.role.clone(),
            election_id: self.election_id,
            updates,
            ..Default::default()
        };
        self.client.write(request).await.map(drop)
    }

    /// Writes a batch and returns the code of each update.
    pub async fn write(&mut self, updates: Vec<v1::Update>) -> Vec<Code> {
        let count = updates.len();
        match self.try_write(updates).await {
            Ok(()) => vec![Code::Ok; count],
            Err(status) => {
                assert_eq!(status.code(), Code::Unknown, "{status:?}");
                let codes = codes(&status);
                assert_eq!(codes.len(), count, "one error for each update");
                codes
            }
        }
    }

    /// Writes one update and returns its code.
    pub async fn write_one(&mut self, update: v1::Update) -> Code {
        self.write(vec![update]).await[0]
    }

    /// Reads what some entities select.
    pub async fn read(&mut self, entities: Vec<v1::Entity>) -> Result<Vec<v1::entity::Entity>, Status> {
        let request = v1::ReadRequest { device_id: DEVICE, entities, ..Default::default() };
        let mut stream = self.client.read(request).await?.into_inner();
        let mut found = Vec::new();
        while let Some(message) = stream.message().await? {
            found.extend(message.entities.into_iter().filter_map(|e| e.entity));
        }
        Ok(found)
    }

    /// Reads the table entries that a filter selects.
    pub async fn entries(&mut self, filter: v1::TableEntry) -> Vec<v1::TableEntry> {
        let entity = |e| match e {
            v1::entity::Entity::TableEntry(entry) => entry,
            other => panic!("not a table entry: {other:?}"),
        };
        let filter = v1::Entity { entity: Some(v1::entity::Entity::TableEntry(filter)) };
        self.read(vec![filter]).await.unwrap().into_iter().map(entity).collect()
    }
}

/// The codes in the details of a batch's status.
pub fn codes(status: &Status) -> Vec<Code> {
    let rich = tonic_types::pb::Status::decode(status.details()).unwrap();
    let error = |d: &prost_types::Any| v1::Error::decode(d.value.as_slice()).unwrap();
    rich.details.iter().map(|d| Code::from_i32(error(d).canonical_code)).collect()
}

pub fn update(kind: v1::update::Type, entity: v1::entity::Entity) -> v1::Update {
    v1::Update { r#type: kind as i32, entity: Some(v1::Entity { entity: Some(entity) }) }
}

pub fn insert(entry: v1::TableEntry) -> v1::Update {
    update(v1::update::Type::Insert, v1::entity::Entity::TableEntry(entry))
}

pub fn modify(entry: v1::TableEntry) -> v1::Update {
    update(v1::update::Type::Modify, v1::entity::Entity::TableEntry(entry))
}

pub fn delete(entry: v1::TableEntry) -> v1::Update {
    update(v1::update::Type::Delete, v1::entity::Entity::TableEntry(entry))
}

pub fn entry(
    table: &str,
    fields: Vec<(u32, v1::field_match::FieldMatchType)>,
    action: Option<v1::TableAction>,
) -> v1::TableEntry {
    v1::TableEntry {
        table_id: table_id(table),
        r#match: fields
            .into_iter()
            .map(|(field_id, m)| v1::FieldMatch { field_id, field_match_type: Some(m) })
            .collect(),
        action,
        ..Default::default()
    }
}

pub fn exact(value: &[u8]) -> v1::field_match::FieldMatchType {
    v1::field_match::FieldMatchType::Exact(v1::field_match::Exact { value: value.to_vec() })
}

pub fn lpm(value: &[u8], prefix_len: i32) -> v1::field_match::FieldMatchType {
    v1::field_match::FieldMatchType::Lpm(v1::field_match::Lpm { value: value.to_vec(), prefix_len })
}

pub fn ternary(value: &[u8], mask: &[u8]) -> v1::field_match::FieldMatchType {
    v1::field_match::FieldMatchType::Ternary(v1::field_match::Ternary { value: value.to_vec(), mask: mask.to_vec() })
}

pub fn range(low: &[u8], high: &[u8]) -> v1::field_match::FieldMatchType {
    v1::field_match::FieldMatchType::Range(v1::field_match::Range { low: low.to_vec(), high: high.to_vec() })
}

pub fn optional(value: &[u8]) -> v1::field_match::FieldMatchType {
    v1::field_match::FieldMatchType::Optional(v1::field_match::Optional { value: value.to_vec() })
}

pub fn action(alias: &str, values: &[&[u8]]) -> Option<v1::TableAction> {
    let params = values
        .iter()
        .enumerate()
        .map(|(i, value)| v1::action::Param { param_id: i as u32 + 1, value: value.to_vec() })
        .collect();
    let action = v1::Action { action_id: action_id(alias), params };
    Some(v1::TableAction { r#type: Some(v1::table_action::Type::Action(action)) })
}

/// An entry of `wire`: what arrives at `from` leaves at `to`.
pub fn wire_entry(from: u8, to: u8) -> v1::TableEntry {
    entry("wire", vec![(1, exact(&[from]))], action("send", &[&[to]]))
}
