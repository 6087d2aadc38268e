//! The gRPC service: one thin method for each RPC.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use dmux_p4rt::p4::v1;
use dmux_p4rt::p4::v1::p4_runtime_server::{P4Runtime, P4RuntimeServer};
use dmux_p4rt::p4::v1::set_forwarding_pipeline_config_request::Action;
use dmux_p4rt::p4::v1::write_request::Atomicity;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_stream::Stream;
use tonic::{Code, Request, Response, Status, Streaming};

use super::answer::{Answer, MAX_READS, answer};
use super::arbitration::StreamId;
use super::config::ForwardingPipeline;
use super::control::{Control, role_name};
use super::error::{Refused, batch_status};
use super::idle;
use super::listener::{Tls, connections};

/// The version of the specification that Capabilities reports.
const API_VERSION: &str = "1.4.0";

/// The largest message that is received: the JSON of a large program and its P4Info fit with room.
pub const MAX_MESSAGE_BYTES: usize = 64 << 20;

/// How often a silent connection is probed, and how long it may take to answer: a controller whose machine died is
/// no longer primary after this.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long RPCs under way may take after the order to shut down.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

/// RPCs that one connection may have under way; further ones wait in the client.
const MAX_RPCS_PER_CONNECTION: u32 = 256;

/// Why the server ended other than by being told to.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// gRPC.
    #[error("the P4Runtime server failed: {0}")]
    Transport(#[from] tonic::transport::Error),
    /// A certificate or key that cannot be used.
    #[error("TLS cannot be set up: {0} (certificates and the key are PEM files, and the key is the certificate's)")]
    Tls(String),
    /// Without the packet thread the switch would take writes and forward nothing.
    #[error("the thread that moves packets has ended: restart the switch (its last words are in the log)")]
    PacketThread,
}

/// Ends a task when it is dropped.
struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

type Boxed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[derive(Clone)]
struct Service(Arc<Control>);

/// Serves until `shutdown` completes; then ends the streams and lets RPCs under way finish.
pub(crate) async fn serve(
    control: Arc<Control>,
    listener: TcpListener,
    tls: Option<&Tls>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let service = P4RuntimeServer::new(Service(Arc::clone(&control))).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let idle = tokio::spawn(idle::run(Arc::clone(&control.shared)));
    let _idle = AbortOnDrop(idle.abort_handle());
    let (order, ordered) = tokio::sync::oneshot::channel::<()>();
    let mut builder = tonic::transport::Server::builder();
    if let Some(tls) = tls {
        builder = builder.tls_config(tls.config()).map_err(|e| ServeError::Tls(chain(&e)))?;
    }
    let server = builder
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .max_concurrent_streams(MAX_RPCS_PER_CONNECTION)
        .add_service(service)
        .serve_with_incoming_shutdown(connections(listener), async {
            // A dropped sender means the same.
            let _ = ordered.await;
        });
    tokio::pin!(server);
    tokio::select! {
        result = &mut server => return Ok(result?),
        () = control.shared.packet_thread_ended() => return Err(ServeError::PacketThread),
        () = shutdown => {}
    }
    control.close_all();
    let _ = order.send(());
    match tokio::time::timeout(SHUTDOWN_GRACE, server).await {
        Ok(result) => Ok(result?),
        // Clients that keep their connection open do not keep the switch from stopping.
        Err(_) => Ok(()),
    }
}

/// An error with its causes: tonic's own text is only "transport error".
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[tonic::async_trait]
impl P4Runtime for Service {
    async fn write(&self, request: Request<v1::WriteRequest>) -> Result<Response<v1::WriteResponse>, Status> {
        let request = request.into_inner();
        let _gate = self.0.gate.write().await;
        let written = write(&self.0, request);
        self.0.writes.add(written.as_ref().map_or_else(Status::code, |()| Code::Ok), 1);
        written.map(|()| Response::new(v1::WriteResponse {}))
    }

    type ReadStream = Answer;

    async fn read(&self, request: Request<v1::ReadRequest>) -> Result<Response<Self::ReadStream>, Status> {
        let request = request.into_inner();
        self.0.check_device(request.device_id)?;
        let room = Arc::clone(&self.0.reads).try_acquire_owned().map_err(|_| {
            Status::resource_exhausted(format!("{MAX_READS} reads are under way already: finish reading one first"))
        })?;
        let gate = Arc::clone(&self.0.gate).read_owned().await;
        let pipeline = self.0.pipeline()?;
        let filter = self.0.read_filter(&request.role)?;
        Ok(Response::new(answer(pipeline, filter, request.entities, gate, room, Arc::clone(&self.0.waiting_bytes))))
    }

    async fn set_forwarding_pipeline_config(
        &self,
        request: Request<v1::SetForwardingPipelineConfigRequest>,
    ) -> Result<Response<v1::SetForwardingPipelineConfigResponse>, Status> {
        let request = request.into_inner();
        let _gate = self.0.gate.write().await;
        #[expect(deprecated, reason = "a client of P4Runtime 1.0 names its role by number")]
        let role = role_name(request.role.clone(), request.role_id);
        let access = self.0.authorize(request.device_id, &role, request.election_id)?;
        if !access.may_set_pipeline() {
            return Err(Status::permission_denied("this role's configuration does not let it set a pipeline"));
        }
        let control = Arc::clone(&self.0);
        // Compiling and carrying state over take their time: not on a thread that others wait for.
        tokio::task::spawn_blocking(move || set_pipeline(&control, request.action(), request.config))
            .await
            .map_err(|e| Status::internal(format!("the configuration was not set: {e}")))??;
        Ok(Response::new(v1::SetForwardingPipelineConfigResponse {}))
    }

    async fn get_forwarding_pipeline_config(
        &self,
        request: Request<v1::GetForwardingPipelineConfigRequest>,
    ) -> Result<Response<v1::GetForwardingPipelineConfigResponse>, Status> {
        let request = request.into_inner();
        self.0.check_device(request.device_id)?;
        // Without a pipeline the answer is an empty message, not an error (§15).
        let config = self.0.pipeline().ok().map(|pipeline| pipeline.config(request.response_type()));
        Ok(Response::new(v1::GetForwardingPipelineConfigResponse { config }))
    }

    type StreamChannelStream = Boxed<v1::StreamMessageResponse>;

    async fn stream_channel(
        &self,
        request: Request<Streaming<v1::StreamMessageRequest>>,
    ) -> Result<Response<Self::StreamChannelStream>, Status> {
        let (id, receiver, ended) = self.0.open_stream()?;
        tokio::spawn(run_stream(Arc::clone(&self.0), id, ended, request.into_inner()));
        Ok(Response::new(Box::pin(receiver)))
    }

    async fn capabilities(
        &self,
        request: Request<v1::CapabilitiesRequest>,
    ) -> Result<Response<v1::CapabilitiesResponse>, Status> {
        // 0 asks for what holds for every device (§17).
        match request.get_ref().device_id {
            0 => {}
            device_id => self.0.check_device(device_id)?,
        }
        Ok(Response::new(v1::CapabilitiesResponse {
            p4runtime_api_version: API_VERSION.to_owned(),
            ..v1::CapabilitiesResponse::default()
        }))
    }
}

/// One task for each stream: handles what the controller sends, until either side ends it.
async fn run_stream(
    control: Arc<Control>,
    id: StreamId,
    mut ended: watch::Receiver<()>,
    mut requests: Streaming<v1::StreamMessageRequest>,
) {
    loop {
        let message = tokio::select! {
            message = requests.message() => message,
            _ = ended.changed() => break,
        };
        match message {
            Ok(Some(request)) => {
                if let Err(status) = control.handle(id, request).await {
                    control.end_stream(id, status);
                    break;
                }
            }
            // The controller closed its side, or its connection broke: either way it is gone (§5).
            Ok(None) | Err(_) => break,
        }
    }
    control.close_stream(id).await;
}

/// §12. The caller holds the gate.
fn write(control: &Control, request: v1::WriteRequest) -> Result<(), Status> {
    #[expect(deprecated, reason = "a client of P4Runtime 1.0 names its role by number")]
    let role = role_name(request.role, request.role_id);
    let access = control.authorize(request.device_id, &role, request.election_id)?;
    let pipeline = control.pipeline()?;
    let atomicity = Atomicity::try_from(request.atomicity)
        .map_err(|_| Status::invalid_argument("the atomicity is not one that P4Runtime knows"))?;
    let results = pipeline.write(&access, &request.updates, atomicity)?;
    control.updates.add_all(&results);
    batch_status("update", &results)
}

/// §14. The caller holds the gate and has checked the primary.
fn set_pipeline(control: &Control, action: Action, config: Option<v1::ForwardingPipelineConfig>) -> Result<(), Status> {
    let saved = || control.saved.lock().unwrap_or_else(PoisonError::into_inner);
    let verified = || {
        let config = config.clone().ok_or_else(|| Refused::invalid("the request has no configuration"))?;
        let pipeline = ForwardingPipeline::new(config, control.shared.clock(), control.shared.target)?;
        // Entries written before it is committed may name them, too.
        pipeline.dataplane.set_ports(control.shared.ports());
        Ok::<_, Refused>(Arc::new(pipeline))
    };
    match action {
        Action::Verify => {
            verified()?;
        }
        Action::VerifyAndSave => *saved() = Some(verified()?),
        Action::VerifyAndCommit => {
            let pipeline = verified()?;
            *saved() = None;
            control.shared.commit(pipeline);
        }
        Action::Commit => {
            if config.is_some() {
                return Err(Status::invalid_argument("COMMIT realises the saved configuration and takes none itself"));
            }
            let Some(pipeline) = saved().take() else {
                return Err(Status::not_found("no configuration is saved: use VERIFY_AND_SAVE first"));
            };
            control.shared.commit(pipeline);
        }
        Action::ReconcileAndCommit => {
            let adopted = control.shared.live.load_full().zip(config.as_ref());
            if !adopted.is_some_and(|(live, config)| live.adopt(config)) {
                let pipeline = verified()?;
                if let Some(live) = control.shared.live.load_full() {
                    let kept = pipeline.take_over(&live)?;
                    tracing::info!(entries = kept.entries, others = kept.others, "state carried over");
                }
                control.shared.commit(pipeline);
            }
            *saved() = None;
        }
        Action::Unspecified => return Err(Status::invalid_argument("the request has no action")),
    }
    Ok(())
}
