//! The control plane of one switch: who is connected, who is primary, which configuration is loaded.
//!
//! ```text
//!  StreamChannel ──▶ Control ── Arbitration (pure)
//!                      │  gate: Write, Set and changes of the primary exclude each other and Reads (§13.4);
//!                      │        packets take no part in it
//!  Write, Read ──────▶ ├─▶ ForwardingPipeline (saved, or live)
//!  PacketOut ────────▶ └─▶ Shared ─▶ worker thread ─▶ PacketIn to the primary's stream
//! ```

use std::collections::HashMap;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dmux_p4rt::p4::v1;
use dmux_p4rt::p4::v1::stream_message_request::Update as RequestUpdate;
use dmux_p4rt::p4::v1::stream_message_response::Update as ResponseUpdate;
use tokio::sync::{RwLock, Semaphore, watch};
use tonic::{Code, Status};

use super::answer::MAX_READS;
use super::arbitration::{Arbitration, Denied, ElectionId, Notice, Refusal, Request, Standing, StreamId};
use super::config::ForwardingPipeline;
use super::digest;
use super::error::Refused;
use super::role::{self, Access};
use super::stream::{StreamReceiver, StreamSender, channel};
use super::tally::Codes;
use crate::switch::{Listener, Shared};

/// Streams that may be open at once, arbitrated or not.
pub const MAX_STREAMS: usize = 128;

/// The state behind the P4Runtime service.
pub(crate) struct Control {
    pub(crate) device_id: u64,
    pub(crate) shared: Arc<Shared>,
    /// Held by whatever changes state, and shared by what reads it.
    pub(crate) gate: Arc<RwLock<()>>,
    /// Room for the answers to Reads.
    pub(crate) reads: Arc<Semaphore>,
    /// Bytes of answers that wait for their readers.
    pub(crate) waiting_bytes: Arc<AtomicUsize>,
    /// Saved but not committed (VERIFY_AND_SAVE): reads and writes mean it until COMMIT makes it live.
    pub(crate) saved: Mutex<Option<Arc<ForwardingPipeline>>>,
    /// Updates by what became of each, in requests whose updates were looked at.
    pub(crate) updates: Codes,
    /// Write requests.
    pub(crate) writes: Codes,
    streams: Mutex<Streams>,
}

struct Streams {
    arbitration: Arbitration,
    open: HashMap<StreamId, OpenStream>,
    next: u64,
    /// Set when the server shuts down: no stream opens after that.
    closing: bool,
}

struct OpenStream {
    sender: StreamSender,
    /// The number by which a client of P4Runtime 1.0 names its role; 0 for one that uses names.
    role_id: u64,
    /// Dropped with the entry, which tells the stream's task to end.
    _alive: watch::Sender<()>,
}

impl Streams {
    fn sender(&self, id: StreamId) -> Option<&StreamSender> {
        self.open.get(&id).map(|stream| &stream.sender)
    }

    /// A stream's role as it is told: named as its controller names it, configured as its last primary did (§5.4).
    #[expect(deprecated, reason = "a client of P4Runtime 1.0 names its role by number")]
    fn role_message(&self, id: StreamId) -> Option<v1::Role> {
        let (name, config) = self.arbitration.role_of(id)?;
        let number = self.open.get(&id).map_or(0, |stream| stream.role_id);
        let named_by_number = number != 0 && name == number.to_string();
        (!name.is_empty()).then(|| v1::Role {
            id: if named_by_number { number } else { 0 },
            name: if named_by_number { String::new() } else { name.to_owned() },
            config: config.map(|config| config.to_any()),
        })
    }
}

/// An election id as a number.
pub(crate) fn election_id(id: Option<v1::Uint128>) -> Option<ElectionId> {
    id.map(|id| u128::from(id.high) << 64 | u128::from(id.low))
}

fn wire_id(id: ElectionId) -> v1::Uint128 {
    // Each half of a 128-bit number.
    v1::Uint128 { high: (id >> 64) as u64, low: id as u64 }
}

impl Control {
    pub(crate) fn new(device_id: u64, shared: Arc<Shared>) -> Self {
        let streams =
            Streams { arbitration: Arbitration::new(device_id), open: HashMap::new(), next: 0, closing: false };
        Self {
            device_id,
            shared,
            gate: Arc::default(),
            reads: Arc::new(Semaphore::new(MAX_READS)),
            waiting_bytes: Arc::new(AtomicUsize::new(0)),
            saved: Mutex::default(),
            updates: Codes::default(),
            writes: Codes::default(),
            streams: Mutex::new(streams),
        }
    }

    fn streams(&self) -> MutexGuard<'_, Streams> {
        // Nothing under the lock can panic half-way through a change.
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The configuration that reads and writes mean: the saved one if there is one, else the live one.
    pub(crate) fn pipeline(&self) -> Result<Arc<ForwardingPipeline>, Status> {
        let saved = self.saved.lock().unwrap_or_else(PoisonError::into_inner).clone();
        saved
            .or_else(|| self.shared.live.load_full())
            .ok_or_else(|| Status::failed_precondition("no pipeline is loaded: call SetForwardingPipelineConfig first"))
    }

    /// The checks that every write begins with, in the order of §12; what the caller may do. It holds the gate.
    pub(crate) fn authorize(&self, device_id: u64, role: &str, id: Option<v1::Uint128>) -> Result<Access, Status> {
        self.check_device(device_id)?;
        self.streams().arbitration.authorize(role, election_id(id)).map_err(denied_status)
    }

    /// What a read with this role is narrowed to; without a role, to nothing.
    pub(crate) fn read_filter(&self, role: &str) -> Result<Access, Status> {
        if role.is_empty() {
            return Ok(Access::default());
        }
        self.streams().arbitration.access_of_role(role).map_err(denied_status)
    }

    pub(crate) fn check_device(&self, device_id: u64) -> Result<(), Status> {
        if device_id == self.device_id {
            return Ok(());
        }
        let unknown = Refusal::UnknownDevice { asked: device_id, here: self.device_id };
        Err(Status::not_found(unknown.to_string()))
    }

    /// Streams that are open, and those that ever were.
    pub(crate) fn stream_counts(&self) -> (usize, u64) {
        let streams = self.streams();
        (streams.open.len(), streams.next)
    }

    /// Registers a new stream: its id, what is sent on it, and what changes (fails) when it is to end.
    pub(crate) fn open_stream(&self) -> Result<(StreamId, StreamReceiver, watch::Receiver<()>), Status> {
        let mut streams = self.streams();
        if streams.closing {
            return Err(Status::unavailable("the switch is shutting down"));
        }
        if streams.open.len() >= MAX_STREAMS {
            return Err(Status::resource_exhausted(format!("{MAX_STREAMS} streams are open already: close one first")));
        }
        let id = StreamId(streams.next);
        streams.next += 1;
        let (sender, receiver) = channel();
        let (alive, ended) = watch::channel(());
        streams.open.insert(id, OpenStream { sender, role_id: 0, _alive: alive });
        Ok((id, receiver, ended))
    }

    /// Ends a stream with a status.
    pub(crate) fn end_stream(&self, id: StreamId, status: Status) {
        if let Some(sender) = self.streams().sender(id) {
            sender.end(status);
        }
    }

    /// Forgets a stream; if it was the primary's, the others are told.
    pub(crate) async fn close_stream(&self, id: StreamId) {
        // A Write that the primary has under way is finished first (§5.3).
        let _gate = self.gate.write().await;
        let mut streams = self.streams();
        streams.open.remove(&id);
        let notices = streams.arbitration.disconnected(id);
        self.send_notices(&mut streams, &notices);
    }

    /// Ends every stream; none opens any more.
    pub(crate) fn close_all(&self) {
        let mut streams = self.streams();
        streams.closing = true;
        for stream in streams.open.values() {
            stream.sender.end(Status::unavailable("the switch is shutting down"));
        }
        streams.open.clear();
        self.shared.listeners.store(Arc::default());
    }

    /// Handles one message of a stream. An error ends the stream.
    pub(crate) async fn handle(&self, id: StreamId, request: v1::StreamMessageRequest) -> Result<(), Status> {
        let refused = match request.update {
            Some(RequestUpdate::Arbitration(update)) => return self.arbitrate(id, update).await,
            Some(RequestUpdate::Packet(packet)) => match self.packet_out(id, &packet) {
                Ok(()) => return Ok(()),
                Err(refused) => {
                    // The payload is left out: the metadata tells which packet it was, and is what can be wrong.
                    let packet = v1::PacketOut { metadata: packet.metadata, ..v1::PacketOut::default() };
                    let details = v1::PacketOutError { packet_out: Some(packet) };
                    (refused, v1::stream_error::Details::PacketOut(details))
                }
            },
            Some(RequestUpdate::DigestAck(ack)) => match self.acknowledge(id, &ack) {
                Ok(()) => return Ok(()),
                Err(refused) => {
                    let details = v1::DigestListAckError { digest_list_ack: Some(ack) };
                    (refused, v1::stream_error::Details::DigestListAck(details))
                }
            },
            Some(RequestUpdate::Other(_)) | None => {
                let refused = Refused::unimplemented("this kind of stream message is not known here");
                (refused, v1::stream_error::Details::Other(v1::StreamOtherError::default()))
            }
        };
        let (refused, details) = refused;
        let error = v1::StreamError {
            canonical_code: refused.code as i32,
            message: refused.message,
            details: Some(details),
            ..v1::StreamError::default()
        };
        if let Some(sender) = self.streams().sender(id) {
            // Reports are lossy by the specification (§16.6).
            sender.offer(ResponseUpdate::Error(error));
        }
        Ok(())
    }

    async fn arbitrate(&self, id: StreamId, update: v1::MasterArbitrationUpdate) -> Result<(), Status> {
        let asked = update.role.unwrap_or_default();
        #[expect(deprecated, reason = "a client of P4Runtime 1.0 names its role by number")]
        let (role, role_id) = (role_name(asked.name, asked.id), asked.id);
        let request = Request {
            device_id: update.device_id,
            role,
            config: asked.config.as_ref().map(role::parse),
            election_id: election_id(update.election_id),
        };
        // Writes of the old primary that have begun are finished before the new one hears that it is primary.
        let _gate = self.gate.write().await;
        let mut streams = self.streams();
        let notices = streams.arbitration.update(id, &request).map_err(refusal_status)?;
        if let Some(stream) = streams.open.get_mut(&id) {
            stream.role_id = role_id;
        }
        self.send_notices(&mut streams, &notices);
        Ok(())
    }

    /// Sends notices and turns packet-ins to the primaries. A controller that does not read is cut off.
    fn send_notices(&self, streams: &mut Streams, notices: &[Notice]) {
        for notice in notices {
            let Some(sender) = streams.sender(notice.stream) else { continue };
            if !sender.notify(ResponseUpdate::Arbitration(self.advice(streams, notice))) {
                tracing::warn!(stream = notice.stream.0, "a controller does not read its stream and is cut off");
                streams.open.remove(&notice.stream);
            }
        }
        let listener = |(id, access)| Some(Listener { sender: streams.sender(id)?.clone(), access });
        let listeners: Vec<_> = streams.arbitration.primaries().filter_map(listener).collect();
        self.shared.listeners.store(Arc::new(listeners));
    }

    /// The advisory message of §5.4.
    fn advice(&self, streams: &Streams, notice: &Notice) -> v1::MasterArbitrationUpdate {
        let (code, message) = match notice.standing {
            Standing::Primary => (Code::Ok, "you are the primary"),
            Standing::Backup => (Code::AlreadyExists, "you are a backup: another controller is the primary"),
            Standing::NoPrimary => (Code::NotFound, "you are a backup: there is no primary"),
        };
        v1::MasterArbitrationUpdate {
            device_id: self.device_id,
            role: streams.role_message(notice.stream),
            election_id: notice.highest.map(wire_id),
            status: Some(tonic_types::pb::Status {
                code: code as i32,
                message: message.to_owned(),
                details: Vec::new(),
            }),
        }
    }

    fn acknowledge(&self, id: StreamId, ack: &v1::DigestListAck) -> Result<(), Refused> {
        if !self.streams().arbitration.access(id).is_some_and(|access| access.covers(ack.digest_id)) {
            return Err(Refused::new(
                Code::PermissionDenied,
                "only a primary that hears of the digest may acknowledge it",
            ));
        }
        let Some(pipeline) = self.shared.live.load_full() else {
            return Err(Refused::new(Code::FailedPrecondition, "no pipeline is loaded"));
        };
        digest::acknowledge(&pipeline, ack)
    }

    fn packet_out(&self, id: StreamId, packet: &v1::PacketOut) -> Result<(), Refused> {
        if self.streams().arbitration.access(id).is_none() {
            return Err(Refused::new(Code::PermissionDenied, "only the primary of a role may send packets"));
        }
        let Some(pipeline) = self.shared.live.load_full() else {
            return Err(Refused::new(Code::FailedPrecondition, "no pipeline is loaded"));
        };
        let frame = pipeline.binding.packet_out.frame(&packet.metadata, &packet.payload)?;
        self.shared.inject(frame)
    }
}

/// A role's name; a client of P4Runtime 1.0 gives a number instead.
pub(crate) fn role_name(name: String, id: u64) -> String {
    if name.is_empty() && id != 0 { id.to_string() } else { name }
}

fn refusal_status(refusal: Refusal) -> Status {
    let code = match refusal {
        Refusal::UnknownDevice { .. } => Code::NotFound,
        Refusal::DeviceChanged { .. } | Refusal::RoleChanged { .. } => Code::FailedPrecondition,
        Refusal::RoleName | Refusal::RoleConfig(_) | Refusal::DuplicateElectionId(_) => Code::InvalidArgument,
        Refusal::TooManyControllers | Refusal::TooManyRoles => Code::ResourceExhausted,
    };
    Status::new(code, refusal.to_string())
}

fn denied_status(denied: Denied) -> Status {
    let code = match denied {
        Denied::UnknownRole(_) => Code::NotFound,
        Denied::NoElectionId | Denied::NotPrimary(_) => Code::PermissionDenied,
    };
    Status::new(code, denied.to_string())
}
