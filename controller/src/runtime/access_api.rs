//! The `Access` service: metanets, access links and metalinks for operators (proto/dmux/api/v1/access.proto).

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use dmux_p4rt::client::Session;
use dmux_raft_store::Store;
use dmux_wire::{GatewayId, MacAddr, ProtocolId, ProviderId};
use tokio::sync::{mpsc, oneshot, watch};
use tonic::metadata::MetadataValue;
use tonic::{Code, Request, Response, Status};

use super::Input;
use super::clock::Wall;
use super::renewals::Renewals;
use super::replicated::Replicated;
use crate::api::v1::access_client::AccessClient;
use crate::api::v1::access_server::Access;
use crate::api::v1::{self, GetRequest};
use crate::attachment::NotProgrammed;
use crate::config::ControllerConfig;
use crate::model::{
    AccessLink, Admission, Claim, Command, DEFAULT_LONG_LEASE_MS, DEFAULT_SHORT_LEASE_MS, Destination, Endpoint,
    LinkKey, MAX_LINK_NAME, Metalink, MetalinkId, Metanet, Mli, Model, OutOfProfile, Refusal, Reply,
};

/// Metalinks on a page at most: a page stays below gRPC's 4 MiB.
const MAX_PAGE: usize = 10_000;
/// How much longer than the own deadline another controller may take to answer.
const PEER_GRACE: Duration = Duration::from_secs(1);
/// Key of a refusal's metadata: the highest rate that would have been granted, bit/s.
pub const FITS_KEY: &str = "dmux-fits-bit-s";
/// Key of a refusal's metadata: when the claim fits, ms since the Unix epoch.
pub const RETRY_AT_KEY: &str = "dmux-retry-at-ms";

pub(super) struct AccessService {
    /// Whose controller this is.
    pub gateway: GatewayId,
    pub config: Arc<ControllerConfig>,
    /// The session with the own switch while there is one.
    pub session: watch::Receiver<Option<Session>>,
    pub store: Store<Replicated>,
    pub wall: Wall,
    pub renewals: Renewals,
    pub inputs: mpsc::Sender<Input>,
    /// Deadline of a proposal, and of the switch's programming.
    pub within: Duration,
}

impl AccessService {
    async fn propose(&self, command: Command) -> Result<(u64, Reply), Status> {
        match self.store.propose(command, self.within).await {
            Ok((_, Reply::Refused(refusal))) => Err(status_of(&refusal)),
            Ok(applied) => Ok(applied),
            Err(error) => Err(Status::unavailable(error.to_string())),
        }
    }

    /// Looks at what was acknowledged anywhere before now, of which this controller may not have heard yet.
    async fn up_to_date<T>(&self, look: impl FnOnce(&Model) -> T) -> Result<T, Status> {
        self.store.linearizable(self.within).await.map_err(|e| Status::unavailable(e.to_string()))?;
        Ok(self.store.read(|r| look(&r.0)))
    }

    /// Whether the site has an access link of this name, as far as this controller knows.
    fn in_site(&self, key: &LinkKey) -> String {
        if key.gateway != self.gateway {
            return String::new();
        }
        let there = self.config.site.access_links.iter().any(|link| link.name == key.name);
        if there { "yes" } else { "no" }.into()
    }

    /// A metalink, after a command about it.
    async fn metalink(&self, id: MetalinkId) -> Result<Response<v1::Metalink>, Status> {
        let found = self.up_to_date(|model| model.metalink(id).map(metalink_to_api)).await?;
        found.map(Response::new).ok_or_else(|| status_of(&Refusal::NoSuchMetalink))
    }

    /// A metalink that was claimed or adjusted under a log index, once its gateway's switch has it.
    async fn programmed(&self, id: MetalinkId, applied: u64) -> Result<Response<v1::Metalink>, Status> {
        let why_not = if id.gateway == self.gateway {
            self.own_switch_has(id, applied).await?
        } else {
            self.other_switch_has(id, applied).await?
        };
        let mut metalink = self.metalink(id).await?;
        metalink.get_mut().programmed = why_not.is_none();
        metalink.get_mut().not_programmed = why_not.unwrap_or_default();
        Ok(metalink)
    }

    /// Waits for the own switch. Returns why it has not got the metalink yet; fails if it never will.
    async fn own_switch_has(&self, id: MetalinkId, applied: u64) -> Result<Option<String>, Status> {
        let (reply, outcome) = oneshot::channel();
        let stopping = || Status::unavailable("the controller stops");
        self.inputs.send(Input::Await(id, applied, reply)).await.map_err(|_| stopping())?;
        match tokio::time::timeout(self.within, outcome).await {
            Ok(Ok(Ok(()))) => Ok(None),
            Ok(Ok(Err(NotProgrammed(why)))) => Err(status_of(&Refusal::NotProgrammed(why))),
            Ok(Err(_)) => Ok(Some("too many wait for the switch; the claim holds".into())),
            Err(_) => Ok(Some(format!(
                "the switch has not taken it within {:?}; it will when it can, or the claim is given back",
                self.within
            ))),
        }
    }

    /// Asks the controller of the metalink's gateway to wait: nobody else knows its switch.
    async fn other_switch_has(&self, id: MetalinkId, applied: u64) -> Result<Option<String>, Status> {
        let api = self.store.read(|r| r.0.gateway(id.gateway).map(|gateway| gateway.api.clone())).unwrap_or_default();
        let unknown = |why: &str| Some(format!("gateway {} does not say whether its switch has it: {why}", id.gateway));
        let answer = async {
            let endpoint =
                tonic::transport::Endpoint::from_shared(format!("http://{api}")).map_err(|e| e.to_string())?;
            let channel = endpoint.connect().await.map_err(|_| format!("no answer at {api:?}"))?;
            let request = v1::AwaitMetalinkRequest { id: Some(metalink_name(id)), applied };
            Ok::<_, String>(AccessClient::new(channel).await_metalink(request).await)
        };
        // Its own deadline is the same in most clusters; its answer is to be heard.
        match tokio::time::timeout(self.within + PEER_GRACE, answer).await {
            Ok(Ok(Ok(metalink))) => {
                let metalink = metalink.into_inner();
                Ok((!metalink.programmed).then_some(metalink.not_programmed))
            }
            Ok(Ok(Err(status))) if matches!(status.code(), Code::Aborted | Code::NotFound) => Err(status),
            Ok(Ok(Err(status))) => Ok(unknown(status.message())),
            Ok(Err(why)) => Ok(unknown(&why)),
            Err(_) => Ok(unknown("it does not answer in time")),
        }
    }
}

#[tonic::async_trait]
impl Access for AccessService {
    async fn put_metanet(&self, request: Request<v1::Metanet>) -> Result<Response<v1::PutMetanetReply>, Status> {
        let metanet = metanet_of(request.into_inner()).map_err(Status::invalid_argument)?;
        self.propose(Command::PutMetanet { at: self.wall.unix_ms(), metanet }).await?;
        Ok(Response::new(v1::PutMetanetReply {}))
    }

    async fn delete_metanet(
        &self,
        request: Request<v1::MetanetName>,
    ) -> Result<Response<v1::DeleteMetanetReply>, Status> {
        let metanet = metanet_id(Some(&request.into_inner())).map_err(Status::invalid_argument)?;
        if self.up_to_date(|model| model.metanet(metanet).is_none()).await? {
            return Err(status_of(&Refusal::NoSuchMetanet));
        }
        self.propose(Command::RemoveMetanet { at: self.wall.unix_ms(), metanet }).await?;
        Ok(Response::new(v1::DeleteMetanetReply {}))
    }

    async fn get_metanets(&self, _: Request<GetRequest>) -> Result<Response<v1::Metanets>, Status> {
        let metanets = self.store.read(|r| r.0.metanets().map(|m| metanet_to_api(&r.0, m)).collect());
        Ok(Response::new(v1::Metanets { metanets }))
    }

    async fn put_access_link(
        &self,
        request: Request<v1::AccessLink>,
    ) -> Result<Response<v1::PutAccessLinkReply>, Status> {
        let link = link_of(&request.into_inner()).map_err(Status::invalid_argument)?;
        self.propose(Command::PutAccessLink { at: self.wall.unix_ms(), link }).await?;
        Ok(Response::new(v1::PutAccessLinkReply {}))
    }

    async fn remove_access_link(
        &self,
        request: Request<v1::AccessLinkName>,
    ) -> Result<Response<v1::RemoveAccessLinkReply>, Status> {
        let link = link_key(Some(&request.into_inner())).map_err(Status::invalid_argument)?;
        if self.up_to_date(|model| model.access_link(&link).is_none()).await? {
            return Err(status_of(&Refusal::NoSuchAccessLink));
        }
        self.propose(Command::RemoveAccessLink { at: self.wall.unix_ms(), link }).await?;
        Ok(Response::new(v1::RemoveAccessLinkReply {}))
    }

    async fn get_capacity(&self, request: Request<GetRequest>) -> Result<Response<v1::Capacity>, Status> {
        let only = request.into_inner().gateway;
        let links = self.store.read(|r| {
            let links = r.0.access_links().filter(|link| only == 0 || u32::from(link.key.gateway.0) == only);
            links.map(|link| v1::AccessLink { in_site: self.in_site(&link.key), ..link_to_api(&r.0, link) }).collect()
        });
        Ok(Response::new(v1::Capacity { links }))
    }

    async fn claim_metalink(
        &self,
        request: Request<v1::ClaimMetalinkRequest>,
    ) -> Result<Response<v1::Metalink>, Status> {
        let at = self.wall.unix_ms();
        let claim = claim_of(&request.into_inner(), at).map_err(Status::invalid_argument)?;
        let gateway = claim.link.gateway;
        match self.propose(Command::ClaimMetalink { at, claim }).await? {
            (applied, Reply::Metalink { mli, .. }) => self.programmed(MetalinkId { gateway, mli }, applied).await,
            (_, other) => Err(Status::internal(format!("the cluster answered a claim with {other:?}"))),
        }
    }

    async fn renew_metalink(&self, request: Request<v1::MetalinkName>) -> Result<Response<v1::Metalink>, Status> {
        let metalink = metalink_id(Some(&request.into_inner())).map_err(Status::invalid_argument)?;
        match self.renewals.renew(metalink).await {
            Ok(Reply::Refused(refusal)) => Err(status_of(&refusal)),
            Ok(_) => self.metalink(metalink).await,
            Err(error) => Err(Status::unavailable(error.to_string())),
        }
    }

    async fn adjust_metalink(
        &self,
        request: Request<v1::AdjustMetalinkRequest>,
    ) -> Result<Response<v1::Metalink>, Status> {
        let v1::AdjustMetalinkRequest { id, rate } = request.into_inner();
        let metalink = metalink_id(id.as_ref()).map_err(Status::invalid_argument)?;
        let (applied, _) = self.propose(Command::AdjustMetalink { at: self.wall.unix_ms(), metalink, rate }).await?;
        self.programmed(metalink, applied).await
    }

    async fn await_metalink(
        &self,
        request: Request<v1::AwaitMetalinkRequest>,
    ) -> Result<Response<v1::Metalink>, Status> {
        let v1::AwaitMetalinkRequest { id, applied } = request.into_inner();
        let metalink = metalink_id(id.as_ref()).map_err(Status::invalid_argument)?;
        if metalink.gateway != self.gateway {
            let why = format!("only the controller of gateway {} knows its switch; ask that one", metalink.gateway);
            return Err(Status::failed_precondition(why));
        }
        self.programmed(metalink, applied).await
    }

    async fn revoke_metalink(
        &self,
        request: Request<v1::MetalinkName>,
    ) -> Result<Response<v1::RevokeMetalinkReply>, Status> {
        let metalink = metalink_id(Some(&request.into_inner())).map_err(Status::invalid_argument)?;
        self.propose(Command::ReleaseMetalink { at: self.wall.unix_ms(), metalink }).await?;
        Ok(Response::new(v1::RevokeMetalinkReply {}))
    }

    async fn get_use(&self, request: Request<GetRequest>) -> Result<Response<v1::Uses>, Status> {
        self.uses(request.into_inner()).await.map(Response::new)
    }

    async fn list_metalinks(
        &self,
        request: Request<v1::ListMetalinksRequest>,
    ) -> Result<Response<v1::MetalinkPage>, Status> {
        let v1::ListMetalinksRequest { gateway, page_size, after } = request.into_inner();
        let only = match gateway {
            0 => None,
            id => Some(gateway_id(id).map_err(Status::invalid_argument)?),
        };
        let after = after.map(|name| metalink_id(Some(&name))).transpose().map_err(Status::invalid_argument)?;
        let size = match page_size as usize {
            0 => MAX_PAGE,
            size => size.min(MAX_PAGE),
        };
        Ok(Response::new(self.store.read(|r| page(&r.0, only, after, size))))
    }
}

fn page(model: &Model, only: Option<GatewayId>, after: Option<MetalinkId>, size: usize) -> v1::MetalinkPage {
    let from = match (after, only) {
        (Some(after), _) => Bound::Excluded(after),
        (None, Some(gateway)) => Bound::Included(MetalinkId { gateway, mli: Mli(0) }),
        (None, None) => Bound::Unbounded,
    };
    let mut found = model.metalinks_from(from).take_while(|m| only.is_none_or(|only| m.link.gateway == only));
    let metalinks: Vec<_> = found.by_ref().take(size).map(metalink_to_api).collect();
    let next = found.next().and_then(|_| metalinks.last()?.id);
    v1::MetalinkPage { metalinks, next }
}

fn metanet_of(wanted: v1::Metanet) -> Result<Metanet, String> {
    let macs = |list: &[String]| list.iter().map(|text| mac(text)).collect::<Result<BTreeSet<_>, _>>();
    let metanet = Metanet {
        id: metanet_id(wanted.id.as_ref())?,
        admission: wanted.admit_up_to.map_or(Admission::ByOperator, |up_to| Admission::Automatic { up_to }),
        allow: macs(&wanted.allow)?,
        deny: macs(&wanted.deny)?,
        name: wanted.name,
        multipoint: wanted.multipoint,
    };
    // What is too long for one command could not even be proposed.
    metanet.check().map(|()| metanet)
}

fn metanet_to_api(model: &Model, metanet: &Metanet) -> v1::Metanet {
    let has = model.metanet_use(metanet.id);
    let macs = |list: &BTreeSet<MacAddr>| list.iter().map(MacAddr::to_string).collect();
    v1::Metanet {
        id: Some(metanet_name(metanet.id)),
        name: metanet.name.clone(),
        admit_up_to: match metanet.admission {
            Admission::Automatic { up_to } => Some(up_to),
            Admission::ByOperator => None,
        },
        allow: macs(&metanet.allow),
        deny: macs(&metanet.deny),
        metalinks: has.metalinks as u64,
        promised: has.rate,
        multipoint: metanet.multipoint,
        shared_mli: model.shared_mli(metanet.id).map_or(0, |mli| mli.0),
    }
}

fn link_of(wanted: &v1::AccessLink) -> Result<AccessLink, String> {
    let or = |value, default| if value == 0 { default } else { value };
    Ok(AccessLink {
        key: link_key(wanted.id.as_ref())?,
        capacity: wanted.capacity,
        endpoint_maximum: or(wanted.endpoint_maximum, wanted.capacity),
        short_lease_ms: or(wanted.short_lease_ms, DEFAULT_SHORT_LEASE_MS),
        long_lease_ms: or(wanted.long_lease_ms, DEFAULT_LONG_LEASE_MS),
        authenticate: wanted.authenticate,
        out_of_profile: match wanted.out_of_profile.as_str() {
            "" => OutOfProfile::default(),
            name => name.parse()?,
        },
    })
}

fn link_to_api(model: &Model, link: &AccessLink) -> v1::AccessLink {
    let promised = model.link_use(&link.key);
    v1::AccessLink {
        id: Some(v1::AccessLinkName { gateway: link.key.gateway.0.into(), name: link.key.name.clone() }),
        capacity: link.capacity,
        endpoint_maximum: link.endpoint_maximum,
        short_lease_ms: link.short_lease_ms,
        long_lease_ms: link.long_lease_ms,
        long_promised: promised.long,
        short_promised: promised.short,
        yielding: promised.yielding,
        waiting: promised.waiting,
        metalinks: promised.metalinks as u64,
        authenticate: link.authenticate,
        out_of_profile: link.out_of_profile.to_string(),
        in_site: String::new(),
    }
}

fn claim_of(wanted: &v1::ClaimMetalinkRequest, now: u64) -> Result<Claim, String> {
    let port = u16::try_from(wanted.port).map_err(|_| format!("port {} is above 65535", wanted.port))?;
    Ok(Claim {
        link: link_key(wanted.link.as_ref())?,
        endpoint: Endpoint { port, mac: mac(&wanted.mac)? },
        metanet: metanet_id(wanted.metanet.as_ref())?,
        rate: wanted.rate,
        lease: wanted.lease.parse()?,
        request: if wanted.request == 0 { now.saturating_mul(1000) } else { wanted.request },
        by_operator: true,
    })
}

fn metalink_to_api(metalink: &Metalink) -> v1::Metalink {
    v1::Metalink {
        id: Some(metalink_name(metalink.id())),
        cell: metalink.cell.0.into(),
        link: metalink.link.name.clone(),
        port: metalink.endpoint.port.into(),
        mac: metalink.endpoint.mac.to_string(),
        metanet: Some(metanet_name(metalink.metanet)),
        rate: metalink.rate,
        lease: metalink.lease.to_string(),
        until_ms: metalink.until,
        granted_at_ms: metalink.granted_at,
        request: metalink.request,
        yields: metalink.yields,
        ..Default::default()
    }
}

pub(super) fn metanet_name(id: Destination) -> v1::MetanetName {
    v1::MetanetName { protocol: id.protocol.0.into(), provider: id.provider.0 }
}

pub(super) fn metanet_id(name: Option<&v1::MetanetName>) -> Result<Destination, String> {
    let name = name.ok_or("give the metanet's protocol")?;
    let protocol = u16::try_from(name.protocol).ok().filter(|&p| p > 0);
    let protocol = protocol.ok_or_else(|| format!("protocol {} is not between 1 and 65535", name.protocol))?;
    let provider = if name.provider == 0 { ProviderId::ANY } else { ProviderId(name.provider) };
    Ok(Destination { protocol: ProtocolId(protocol), provider })
}

fn gateway_id(id: u32) -> Result<GatewayId, String> {
    let id = u16::try_from(id).ok().filter(|&id| id > 0).map(GatewayId);
    id.ok_or_else(|| "give the id of a gateway, 1 to 65535; GetGateways lists them".into())
}

fn link_key(name: Option<&v1::AccessLinkName>) -> Result<LinkKey, String> {
    let name = name.ok_or("give the access link's gateway and name")?;
    if name.name.len() > MAX_LINK_NAME {
        return Err(format!("an access link's name has at most {MAX_LINK_NAME} bytes"));
    }
    Ok(LinkKey { gateway: gateway_id(name.gateway)?, name: name.name.clone() })
}

pub(super) fn metalink_name(id: MetalinkId) -> v1::MetalinkName {
    v1::MetalinkName { gateway: id.gateway.0.into(), mli: id.mli.0 }
}

fn metalink_id(name: Option<&v1::MetalinkName>) -> Result<MetalinkId, String> {
    let name = name.ok_or("give the metalink's gateway and MLI")?;
    Ok(MetalinkId { gateway: gateway_id(name.gateway)?, mli: Mli(name.mli) })
}

fn mac(text: &str) -> Result<MacAddr, String> {
    text.parse().map_err(|e: dmux_wire::ParseMacError| e.to_string())
}

/// The gRPC code of a refusal, with what would have fitted.
fn status_of(refusal: &Refusal) -> Status {
    use Refusal as R;
    let code = match refusal {
        R::UnknownGateway(_) | R::NoSuchMetanet | R::NoSuchAccessLink | R::NoSuchMetalink => Code::NotFound,
        R::BadMetanet(_) | R::BadAccessLink(_) | R::BadClaim(_) => Code::InvalidArgument,
        R::TooManyMetanets(_)
        | R::TooManyAccessLinks(_)
        | R::TooManyMetalinks(_)
        | R::MlisRest { .. }
        | R::NoRoom { .. } => Code::ResourceExhausted,
        R::NotAdmitted(_) => Code::PermissionDenied,
        R::NotProgrammed(_) => Code::Aborted,
        _ => Code::FailedPrecondition,
    };
    let mut status = Status::new(code, refusal.to_string());
    let retry_at = match refusal {
        R::NoRoom { fits, retry_at, .. } => {
            status.metadata_mut().insert(FITS_KEY, MetadataValue::from(*fits));
            *retry_at
        }
        R::MlisRest { retry_at } => Some(*retry_at),
        _ => None,
    };
    if let Some(retry_at) = retry_at {
        status.metadata_mut().insert(RETRY_AT_KEY, MetadataValue::from(retry_at));
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Limit;

    #[test]
    fn what_does_not_fit_is_told_with_what_would() {
        let status = status_of(&Refusal::NoRoom { limit: Limit::Link, fits: 1_234, retry_at: Some(77) });
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert!(status.message().contains("1234 bit/s would fit; short-term leases yield"), "{status}");
        let key = |key| status.metadata().get(key).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        assert_eq!((key(FITS_KEY), key(RETRY_AT_KEY)), ("1234".into(), "77".into()));
        let status = status_of(&Refusal::NoRoom { limit: Limit::Endpoint, fits: 0, retry_at: None });
        assert!(status.message().contains("this endpoint") && status.metadata().get(RETRY_AT_KEY).is_none());
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let id = Some(v1::MetanetName { protocol: 41, provider: 0 });
        let metanet = v1::Metanet { id, name: "video".into(), ..Default::default() };
        assert_eq!(metanet_of(metanet.clone()).unwrap().id, Destination::any(ProtocolId(41)));
        let bad = v1::Metanet { deny: vec!["02:00".into()], ..metanet.clone() };
        assert!(metanet_of(bad).unwrap_err().contains("02:00"));
        let long = (0..5_000_u64).map(|n| MacAddr::from_u64(n).to_string()).collect();
        assert!(metanet_of(v1::Metanet { allow: long, ..metanet }).unwrap_err().contains("at most"));
        for (protocol, word) in [(0, "0"), (70_000, "70000")] {
            assert!(metanet_id(Some(&v1::MetanetName { protocol, provider: 7 })).unwrap_err().contains(word));
        }
        assert!(link_key(Some(&v1::AccessLinkName { gateway: 0, name: "a".into() })).is_err());
        let claim = v1::ClaimMetalinkRequest {
            link: Some(v1::AccessLinkName { gateway: 1, name: "a".into() }),
            port: 3,
            mac: "02:00:00:00:00:07".into(),
            metanet: Some(v1::MetanetName { protocol: 41, provider: 7 }),
            rate: 5,
            lease: "long".into(),
            request: 0,
        };
        assert_eq!(claim_of(&claim, 3).unwrap().request, 3_000, "µs");
        let refused = |change: fn(&mut v1::ClaimMetalinkRequest)| {
            let mut bad = claim.clone();
            change(&mut bad);
            claim_of(&bad, 3).unwrap_err()
        };
        assert!(refused(|c| c.lease = "medium".into()).contains("medium"));
        assert!(refused(|c| c.port = 70_000).contains("70000"));
        assert!(refused(|c| c.mac = "x".into()).contains("x"));
        assert!(refused(|c| c.metanet = None).contains("protocol"));
    }
}
