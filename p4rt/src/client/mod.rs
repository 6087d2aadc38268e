//! One controller's session with one switch.
//!
//! ```text
//!                   ┌───────────────────────────── Session (cheap to clone) ─┐
//!   read, write,    │   unary calls, each with a deadline                    │──▶ switch
//!   set_pipeline …  │                                                        │
//!   send_packet_out │──▶ outbound queue ──▶ StreamChannel request stream     │──▶
//!                   │                                                        │
//!   arbitration()   │◀── watch ◀──┐                                          │
//!                   └─────────────┤ reader task ◀── StreamChannel responses ◀─── switch
//!   Events          ◀── queue ◀───┘
//! ```
//!
//! The reader task is the only one that a session spawns. It ends with the stream, or when the last clone of the session is
//! dropped, which also closes the stream: the switch then knows that this controller is gone. The queue of events is
//! bounded and the reader never waits for it: what does not fit is dropped and counted, so that a flood of packets cannot
//! delay the news that somebody else is primary.

mod error;
mod pipeline;
mod read;
mod stream;
mod write;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::p4::v1::p4_runtime_client::P4RuntimeClient;
use crate::p4::v1::stream_message_request::Update as Outbound;
use crate::p4::v1::{DigestListAck, MasterArbitrationUpdate, PacketOut, StreamMessageRequest};
use crate::{ElectionId, Role};

pub use error::SessionError;
pub use pipeline::{Commit, Committed};
pub use read::{EntityStream, MAX_READ_ENTITIES};
pub use stream::{Arbitration, Event, Events};
pub use write::{MAX_BATCH_BYTES, MAX_UPDATES, WriteError, batches, delete, insert, modify};

/// Messages to the switch that may wait to be sent on the stream.
pub const OUTBOUND_QUEUE: usize = 1024;

/// Events from the switch that may wait to be handled.
pub const EVENT_QUEUE: usize = 4096;

/// Largest message that is accepted from a switch. A switch may answer a read of everything with one message.
pub const MAX_RESPONSE_BYTES: usize = 64 << 20;

/// Room for the headers and trailers of an answer, which hold the results of each update of a batch: the specification's
/// minimum is 8192 + 100 bytes an update (§23.4 asks for it), and error texts are often longer.
const MAX_HEADER_BYTES: u32 = 8192 + 1000 * MAX_UPDATES as u32;

/// Which switch, and how long to wait for it.
#[derive(Debug, Clone)]
pub struct Target {
    /// `http://HOST:PORT`, or `https://…` with [`Target::tls`].
    pub endpoint: String,
    /// The number that the switch was given.
    pub device_id: u64,
    /// TLS, where the endpoint wants it.
    pub tls: Option<ClientTlsConfig>,
    /// The role to play: by default the default role, which may do everything.
    pub role: Role,
    /// For the TCP (and TLS) connection.
    pub connect_timeout: Duration,
    /// For each call, and for each message of a read.
    pub call_timeout: Duration,
    /// For loading a program, which can take a switch long.
    pub pipeline_timeout: Duration,
}

impl Target {
    /// A switch without TLS, with time limits for one that is not far away.
    pub fn new(endpoint: impl Into<String>, device_id: u64) -> Self {
        Self {
            endpoint: endpoint.into(),
            device_id,
            tls: None,
            role: Role::default(),
            connect_timeout: Duration::from_secs(3),
            call_timeout: Duration::from_secs(5),
            pipeline_timeout: Duration::from_secs(30),
        }
    }

    /// With TLS: the switch must present a certificate of this authority for `server_name`; `identity` is the
    /// certificate and the key to present to it, where it asks for one. All in PEM; the endpoint is `https://…`.
    #[must_use]
    pub fn with_tls(mut self, ca_pem: &[u8], server_name: &str, identity: Option<(&[u8], &[u8])>) -> Self {
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca_pem)).domain_name(server_name);
        self.tls = Some(match identity {
            Some((cert, key)) => tls.identity(Identity::from_pem(cert, key)),
            None => tls,
        });
        self
    }

    async fn dial(&self) -> Result<P4RuntimeClient<Channel>, SessionError> {
        let invalid = |source| SessionError::Endpoint { endpoint: self.endpoint.clone(), source };
        let mut endpoint = Endpoint::from_shared(self.endpoint.clone())
            .map_err(invalid)?
            .connect_timeout(self.connect_timeout)
            .tcp_nodelay(true)
            // Not HTTP/2 pings: servers on gRPC's C core take frequent ones for abuse and hang up.
            .tcp_keepalive(Some(Duration::from_secs(10)))
            .http2_max_header_list_size(MAX_HEADER_BYTES);
        if let Some(tls) = &self.tls {
            endpoint = endpoint.tls_config(tls.clone()).map_err(invalid)?;
        }
        let connect = tokio::time::timeout(self.connect_timeout, endpoint.connect()).await;
        let channel = connect
            .map_err(|_| self.timeout("the connection", self.connect_timeout))?
            .map_err(|source| SessionError::Connect { endpoint: self.endpoint.clone(), source })?;
        Ok(P4RuntimeClient::new(channel).max_decoding_message_size(MAX_RESPONSE_BYTES))
    }

    fn timeout(&self, call: &'static str, after: Duration) -> SessionError {
        SessionError::Timeout { endpoint: self.endpoint.clone(), call, after }
    }
}

/// A session with a switch; clones share it.
#[derive(Debug, Clone)]
pub struct Session {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    target: Target,
    client: P4RuntimeClient<Channel>,
    outbound: mpsc::Sender<StreamMessageRequest>,
    /// What was last claimed: writes carry it, and answers are judged by it.
    claim: Arc<Mutex<Option<ElectionId>>>,
    arbitration: watch::Receiver<Arbitration>,
    /// Set to `Pending` when a new claim is sent; the reader sets the rest.
    arbitration_tx: Arc<watch::Sender<Arbitration>>,
    dropped_events: Arc<AtomicU64>,
    reader: tokio::task::AbortHandle,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Session {
    /// Connects, opens the stream, claims `election_id`, and waits for the switch's verdict, which is then
    /// [`Session::arbitration`]. Without an election id the session is a standby: it hears and reads, but never writes.
    pub async fn connect(target: Target, election_id: Option<ElectionId>) -> Result<(Self, Events), SessionError> {
        let mut client = target.dial().await?;
        let (outbound, requests) = mpsc::channel(OUTBOUND_QUEUE);
        // The claim is queued first: some switches send nothing, not even headers, before they have read it.
        outbound.try_send(claim(&target, election_id)).map_err(|_| SessionError::Busy)?;
        let open = client.stream_channel(tokio_stream::wrappers::ReceiverStream::new(requests));
        let responses = tokio::time::timeout(target.call_timeout, open)
            .await
            .map_err(|_| target.timeout("StreamChannel", target.call_timeout))?
            .map_err(|status| SessionError::refused("StreamChannel", status))?
            .into_inner();

        let (arbitration_tx, arbitration) = watch::channel(Arbitration::Pending);
        let arbitration_tx = Arc::new(arbitration_tx);
        let claim = Arc::new(Mutex::new(election_id));
        let (events_tx, events) = mpsc::channel(EVENT_QUEUE);
        let dropped_events = Arc::new(AtomicU64::new(0));
        let reader = stream::Reader {
            responses,
            claim: claim.clone(),
            arbitration: arbitration_tx.clone(),
            events: events_tx,
            dropped: dropped_events.clone(),
        };
        let reader = tokio::spawn(reader.run()).abort_handle();
        let session = Self {
            shared: Arc::new(Shared {
                target,
                client,
                outbound,
                claim,
                arbitration,
                arbitration_tx,
                dropped_events,
                reader,
            }),
        };
        session.verdict().await?;
        Ok((session, Events::new(events)))
    }

    /// The number of the switch.
    pub fn device_id(&self) -> u64 {
        self.shared.target.device_id
    }

    /// The name of the role that it plays; empty for the default role.
    pub fn role(&self) -> &str {
        &self.shared.target.role.name
    }

    /// What was last claimed.
    pub fn election_id(&self) -> Option<ElectionId> {
        *self.shared.claim.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the switch last said about who is primary.
    pub fn arbitration(&self) -> Arbitration {
        self.shared.arbitration.borrow().clone()
    }

    /// A receiver that sees every later change of [`Session::arbitration`], the end of the session included.
    pub fn watch_arbitration(&self) -> watch::Receiver<Arbitration> {
        let mut receiver = self.shared.arbitration.clone();
        receiver.mark_unchanged();
        receiver
    }

    /// Claims another election id on the same stream and waits for the verdict: a new epoch of ownership.
    pub async fn claim(&self, election_id: Option<ElectionId>) -> Result<Arbitration, SessionError> {
        {
            let mut claimed = self.shared.claim.lock().unwrap_or_else(PoisonError::into_inner);
            *claimed = election_id;
            self.shared.arbitration_tx.send_if_modified(|now| {
                let open = !matches!(now, Arbitration::Closed { .. });
                if open {
                    *now = Arbitration::Pending;
                }
                open
            });
        }
        self.send(claim(&self.shared.target, election_id)).await?;
        self.verdict().await
    }

    /// Sends a frame to the switch; waits while the queue is full.
    pub async fn send_packet_out(&self, packet: PacketOut) -> Result<(), SessionError> {
        self.send(StreamMessageRequest { update: Some(Outbound::Packet(packet)) }).await
    }

    /// Sends a frame to the switch, or refuses at once when the queue is full.
    pub fn try_send_packet_out(&self, packet: PacketOut) -> Result<(), SessionError> {
        self.try_send(Outbound::Packet(packet))
    }

    /// Tells the switch that a list of digests was handled, so that what is in it may be told again; refused at once when
    /// the queue is full.
    pub fn try_acknowledge(&self, digest_id: u32, list_id: u64) -> Result<(), SessionError> {
        self.try_send(Outbound::DigestAck(DigestListAck { digest_id, list_id }))
    }

    /// Events that were dropped because [`EVENT_QUEUE`] of them waited already.
    pub fn dropped_events(&self) -> u64 {
        self.shared.dropped_events.load(Ordering::Relaxed)
    }

    /// The version of P4Runtime that the switch speaks; `None` where it does not tell.
    pub async fn capabilities(&self) -> Result<Option<String>, SessionError> {
        let request = crate::p4::v1::CapabilitiesRequest { device_id: self.device_id() };
        let mut client = self.shared.client.clone();
        let answer = self.call("Capabilities", client.capabilities(request)).await;
        match answer {
            Ok(response) => Ok(Some(response.p4runtime_api_version)),
            Err(e) if e.code() == Some(tonic::Code::Unimplemented) => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn try_send(&self, update: Outbound) -> Result<(), SessionError> {
        self.shared.outbound.try_send(StreamMessageRequest { update: Some(update) }).map_err(|e| match e {
            mpsc::error::TrySendError::Full(_) => SessionError::Busy,
            mpsc::error::TrySendError::Closed(_) => self.closed(),
        })
    }

    async fn send(&self, message: StreamMessageRequest) -> Result<(), SessionError> {
        let limit = self.shared.target.call_timeout;
        tokio::time::timeout(limit, self.shared.outbound.send(message))
            .await
            .map_err(|_| SessionError::Busy)?
            .map_err(|_| self.closed())
    }

    /// Waits until the switch has answered the last claim.
    async fn verdict(&self) -> Result<Arbitration, SessionError> {
        let limit = self.shared.target.call_timeout;
        let mut arbitration = self.shared.arbitration.clone();
        let answered = arbitration.wait_for(|a| *a != Arbitration::Pending);
        let verdict = tokio::time::timeout(limit, answered)
            .await
            .map_err(|_| self.shared.target.timeout("arbitration", limit))?
            .map_err(|_| self.closed())?
            .clone();
        match verdict {
            Arbitration::Closed { .. } => Err(self.closed()),
            verdict => Ok(verdict),
        }
    }

    fn closed(&self) -> SessionError {
        let reason = match self.arbitration() {
            Arbitration::Closed { reason } => reason,
            _ => "the stream ended".into(),
        };
        SessionError::Closed { endpoint: self.shared.target.endpoint.clone(), reason }
    }

    /// A unary call within [`Target::call_timeout`].
    async fn call<T>(
        &self,
        name: &'static str,
        call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<T, SessionError> {
        self.call_within(name, self.shared.target.call_timeout, call).await
    }

    async fn call_within<T>(
        &self,
        name: &'static str,
        limit: Duration,
        call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<T, SessionError> {
        tokio::time::timeout(limit, call)
            .await
            .map_err(|_| self.shared.target.timeout(name, limit))?
            .map(tonic::Response::into_inner)
            .map_err(|status| SessionError::refused(name, status))
    }
}

fn claim(target: &Target, election_id: Option<ElectionId>) -> StreamMessageRequest {
    StreamMessageRequest {
        update: Some(Outbound::Arbitration(MasterArbitrationUpdate {
            device_id: target.device_id,
            role: target.role.to_message(),
            election_id: election_id.map(Into::into),
            status: None,
        })),
    }
}
