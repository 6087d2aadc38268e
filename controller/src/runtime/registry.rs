//! The `Registry` service: registration by gRPC (proto/dmux/api/v1/registry.proto). Routers' requests go through the actor,
//! whose registrar treats them as it treats datagrams; operators' go to the cluster.

use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use dmux_raft_store::Store;
use dmux_wire::ProtocolId;
use dmux_wire::control::{Deregister, Keepalive, Kind, RefusalCode, Refused, Register};
use tokio::sync::{mpsc, oneshot};
use tonic::metadata::MetadataValue;
use tonic::{Code, Request, Response, Status};

use super::Input;
use super::clock::Wall;
use super::replicated::Replicated;
use crate::api::v1::registry_server::Registry;
use crate::api::v1::revoke_request::Key;
use crate::api::v1::{self, GetRequest, RegistrationName};
use crate::config::ControllerConfig;
use crate::model::{Command, Fingerprint, Model, Refusal, RegistrationKey, Reply};
use crate::registration::chain::certificate_fingerprint;

/// Registrations on a page at most.
const MAX_PAGE: usize = 1000;
/// Key of a refusal's reason in a status's metadata: the name of a `RefusalCode`, without its prefix.
pub const REFUSAL_KEY: &str = "dmux-refusal";
/// Key of the time after which a refused request may be repeated.
pub const RETRY_AFTER_KEY: &str = "dmux-retry-after-ms";

pub(super) struct RegistryService {
    config: Arc<ControllerConfig>,
    store: Store<Replicated>,
    inputs: mpsc::Sender<Input>,
    wall: Wall,
}

impl RegistryService {
    pub(super) fn new(
        config: Arc<ControllerConfig>,
        store: Store<Replicated>,
        inputs: mpsc::Sender<Input>,
        wall: Wall,
    ) -> Self {
        Self { config, store, inputs, wall }
    }

    /// What the registrar answers; its refusals as statuses.
    async fn ask(&self, kind: Kind) -> Result<Kind, Status> {
        let (reply, answer) = oneshot::channel();
        let stopping = || Status::unavailable("the controller stops");
        // A full queue is no reason to keep more requests than the queue holds.
        match self.inputs.try_send(Input::Call(Box::new(kind), reply)) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => {
                return Err(Status::resource_exhausted("the controller has too much to do; try again"));
            }
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(stopping()),
        }
        match answer.await {
            Ok(Kind::Refused(refused)) => Err(refusal_status(&refused)),
            Ok(kind) => Ok(kind),
            Err(_) => Err(Status::resource_exhausted("the controller has too much to do; try again")),
        }
    }

    async fn propose(&self, command: Command) -> Result<Reply, Status> {
        let within = Duration::from_millis(self.config.timers.propose_ms);
        match self.store.propose(command, within).await {
            Ok((_, Reply::Refused(refusal))) => Err(model_status(&refusal)),
            Ok((_, reply)) => Ok(reply),
            Err(error) => Err(Status::unavailable(error.to_string())),
        }
    }
}

#[tonic::async_trait]
impl Registry for RegistryService {
    async fn register(&self, request: Request<v1::RegisterRequest>) -> Result<Response<v1::RegisterReply>, Status> {
        let v1::RegisterRequest { body, chain, signature } = request.into_inner();
        match self.ask(Kind::Register(Register { body, chain, signature })).await? {
            Kind::Accepted(accepted) => Ok(Response::new(v1::RegisterReply {
                keepalive_interval_ms: accepted.keepalive_interval_ms,
                expires_after_ms: accepted.expires_after_ms,
                gateway: accepted.gateway,
                sequence: accepted.sequence,
                held_ms: accepted.held_ms,
            })),
            other => Err(unexpected(&other)),
        }
    }

    async fn keepalive(&self, request: Request<v1::SessionRequest>) -> Result<Response<v1::SessionReply>, Status> {
        let v1::SessionRequest { body, signature } = request.into_inner();
        match self.ask(Kind::Keepalive(Keepalive { body, signature })).await? {
            Kind::KeepaliveAck(ack) => Ok(Response::new(v1::SessionReply { sequence: ack.sequence })),
            other => Err(unexpected(&other)),
        }
    }

    async fn deregister(&self, request: Request<v1::SessionRequest>) -> Result<Response<v1::SessionReply>, Status> {
        let v1::SessionRequest { body, signature } = request.into_inner();
        match self.ask(Kind::Deregister(Deregister { body, signature })).await? {
            Kind::DeregisterAck(ack) => Ok(Response::new(v1::SessionReply { sequence: ack.sequence })),
            other => Err(unexpected(&other)),
        }
    }

    async fn drain(&self, request: Request<v1::DrainRequest>) -> Result<Response<v1::DrainReply>, Status> {
        let request = request.into_inner();
        let key = key_of(request.registration.as_ref())?;
        self.propose(Command::Drain { at: self.wall.unix_ms(), key, draining: request.draining }).await?;
        Ok(Response::new(v1::DrainReply {}))
    }

    async fn revoke(&self, request: Request<v1::RevokeRequest>) -> Result<Response<v1::RevokeReply>, Status> {
        let v1::RevokeRequest { key, note } = request.into_inner();
        let (fingerprint, subject) = match key {
            Some(Key::Fingerprint(text)) => (fingerprint_of(&text)?, String::new()),
            Some(Key::Certificate(der)) => {
                certificate_fingerprint(&der).map_err(|e| Status::invalid_argument(format!("certificate: {e}")))?
            }
            None => return Err(Status::invalid_argument("give a fingerprint or a certificate")),
        };
        let note = if note.is_empty() { subject } else { note };
        match self.propose(Command::Revoke { at: self.wall.unix_ms(), fingerprint, note }).await? {
            Reply::Revoked { registrations } => {
                Ok(Response::new(v1::RevokeReply { fingerprint: fingerprint.to_string(), registrations }))
            }
            other => Err(Status::internal(format!("the cluster answered a revocation with {other:?}"))),
        }
    }

    async fn unrevoke(&self, request: Request<v1::UnrevokeRequest>) -> Result<Response<v1::UnrevokeReply>, Status> {
        let fingerprint = fingerprint_of(&request.into_inner().fingerprint)?;
        self.propose(Command::Unrevoke { at: self.wall.unix_ms(), fingerprint }).await?;
        Ok(Response::new(v1::UnrevokeReply {}))
    }

    async fn get_revocations(&self, _: Request<GetRequest>) -> Result<Response<v1::Revocations>, Status> {
        let revocations = self.store.read(|r| {
            r.0.revocations()
                .map(|(fingerprint, revocation)| v1::Revocation {
                    fingerprint: fingerprint.to_string(),
                    revoked_at_ms: revocation.at,
                    note: revocation.note.clone(),
                })
                .collect()
        });
        Ok(Response::new(v1::Revocations { revocations }))
    }

    async fn list_registrations(
        &self,
        request: Request<v1::ListRegistrationsRequest>,
    ) -> Result<Response<v1::Registrations>, Status> {
        let request = request.into_inner();
        let after = request.after.as_ref().map(|name| key_of(Some(name))).transpose()?;
        let size = match request.page_size as usize {
            0 => MAX_PAGE,
            size => size.min(MAX_PAGE),
        };
        let now = self.wall.unix_ms();
        Ok(Response::new(self.store.read(|r| page(&r.0, now, request.protocol, after, size))))
    }
}

fn page(model: &Model, now: u64, protocol: u32, after: Option<RegistrationKey>, size: usize) -> v1::Registrations {
    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    let wanted = |key: &RegistrationKey| protocol == 0 || u32::from(key.protocol.0) == protocol;
    let mut found = model.registrations_from(from).filter(|r| wanted(&r.registration.key));
    let registrations: Vec<_> = found.by_ref().take(size).map(|r| registration(model, now, &r.registration)).collect();
    let next = found.next().and_then(|_| registrations.last()?.name.clone());
    v1::Registrations { registrations, next }
}

fn registration(model: &Model, now: u64, registration: &crate::model::Registration) -> v1::Registration {
    let penalty = model.penalty(&registration.key, now);
    v1::Registration {
        name: Some(RegistrationName {
            protocol: registration.key.protocol.0.into(),
            router: registration.key.router.to_string(),
        }),
        provider: registration.provider.0,
        weight: registration.weight.into(),
        gateway: registration.gateway.0.into(),
        subject: registration.name.clone(),
        chain: registration.chain.iter().map(ToString::to_string).collect(),
        not_after: registration.not_after,
        sequence: registration.sequence,
        registered_at_ms: registration.registered_at,
        draining_since_ms: registration.draining,
        penalty: penalty.map_or(0, |p| p.penalty),
        reuse_at_ms: penalty.and_then(|p| p.reuse_at),
    }
}

fn key_of(name: Option<&RegistrationName>) -> Result<RegistrationKey, Status> {
    let bad = |why: String| Status::invalid_argument(format!("registration: {why}"));
    let name = name.ok_or_else(|| bad("give a protocol and a router".into()))?;
    let protocol = u16::try_from(name.protocol).ok().filter(|&p| p > 0);
    let protocol =
        ProtocolId(protocol.ok_or_else(|| bad(format!("protocol {} is not between 1 and 65535", name.protocol)))?);
    let router =
        name.router.parse().map_err(|_| bad("give the router as IPv4 address and UDP port, A.B.C.D:PORT".into()))?;
    Ok(RegistrationKey { protocol, router })
}

fn fingerprint_of(text: &str) -> Result<Fingerprint, Status> {
    text.parse().map_err(|e: crate::model::FingerprintError| Status::invalid_argument(e.to_string()))
}

fn unexpected(kind: &Kind) -> Status {
    Status::internal(format!("the registrar answered with {kind:?}"))
}

fn model_status(refusal: &Refusal) -> Status {
    let code = match refusal {
        Refusal::NoSuchRegistration => Code::NotFound,
        Refusal::TooManyRevocations(_) => Code::ResourceExhausted,
        Refusal::BadRevocation(_) => Code::InvalidArgument,
        _ => Code::FailedPrecondition,
    };
    Status::new(code, refusal.to_string())
}

/// The gRPC code of a refusal. Its own code and time go along as metadata.
fn refusal_status(refused: &Refused) -> Status {
    use RefusalCode as R;
    let reason = refused.code();
    let code = match reason {
        R::Malformed
        | R::AddressMismatch
        | R::BadAddress
        | R::BadProtocol
        | R::BadProvider
        | R::BadWeight
        | R::BadChain
        | R::BadKey => Code::InvalidArgument,
        R::UnknownAuthority | R::ChainExpired | R::ChainNotYetValid | R::ChainInvalid | R::BadSignature => {
            Code::Unauthenticated
        }
        R::AddressNotCertified | R::ProviderNotCertified | R::ProtocolNotCertified | R::Revoked => {
            Code::PermissionDenied
        }
        R::Replayed | R::ClockSkew => Code::FailedPrecondition,
        R::NotRegistered => Code::NotFound,
        R::Busy | R::Limit | R::Dampened => Code::ResourceExhausted,
        R::ClusterUnavailable => Code::Unavailable,
        // The rest is what endpoints are told.
        R::Unspecified
        | R::BadCookie
        | R::AuthenticationRequired
        | R::NotAttached
        | R::NoMetalinks
        | R::NoSuchMetanet
        | R::NotAdmitted
        | R::BadRate
        | R::NoRoom
        | R::NoSuchMetalink
        | R::Yields
        | R::NotProgrammed => Code::Unknown,
    };
    let mut status = Status::new(code, refused.text.clone());
    let name = reason.as_str_name();
    let name = name.strip_prefix("REFUSAL_CODE_").unwrap_or(name);
    status.metadata_mut().insert(REFUSAL_KEY, MetadataValue::from_static(name));
    if refused.retry_after_ms > 0 {
        status.metadata_mut().insert(RETRY_AFTER_KEY, MetadataValue::from(refused.retry_after_ms));
    }
    status
}
