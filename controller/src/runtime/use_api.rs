//! `GetUse` of the `Access` service: what the own switch has counted, and what other controllers say of theirs.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Duration;

use dmux_wire::GatewayId;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tonic::Status;

use super::access_api::{AccessService, metalink_name};
use super::{Input, metalink_use};
use crate::api::v1::access_client::AccessClient;
use crate::api::v1::{self, GetRequest};
use crate::model::{Endpoint, Metalink, MetalinkId, Mli};

/// How long another controller may take to answer for its switch.
const PEER_DEADLINE: Duration = Duration::from_secs(5);

impl AccessService {
    pub(super) async fn uses(&self, request: GetRequest) -> Result<v1::Uses, Status> {
        let wanted = |gateway: GatewayId| request.gateway == 0 || u32::from(gateway.0) == request.gateway;
        let mut uses = if wanted(self.gateway) { self.own_use().await? } else { v1::Uses::default() };
        if request.local {
            return Ok(uses);
        }
        let others: Vec<_> = self.store.read(|r| {
            let others = r.0.gateways().filter(|gateway| gateway.id != self.gateway && wanted(gateway.id));
            others.map(|gateway| (gateway.id, gateway.api.clone())).collect()
        });
        // Bounded by MAX_GATEWAYS, each with a deadline.
        let mut asked: JoinSet<_> = others.into_iter().map(|(gateway, api)| ask(gateway, api)).collect();
        while let Some(answer) = asked.join_next().await {
            match answer {
                Ok(Ok(theirs)) => {
                    uses.metalinks.extend(theirs.metalinks);
                    uses.endpoints.extend(theirs.endpoints);
                    uses.silent.extend(theirs.silent);
                }
                Ok(Err(why)) => uses.silent.push(why),
                Err(error) => uses.silent.push(error.to_string()),
            }
        }
        uses.metalinks.sort_by_key(|metalink| metalink.id.map(|id| (id.gateway, id.mli)));
        uses.endpoints.sort_by_key(|endpoint| (endpoint.gateway, endpoint.port, endpoint.mac.clone()));
        Ok(uses)
    }

    async fn own_use(&self) -> Result<v1::Uses, Status> {
        let stopping = || Status::unavailable("the controller stops");
        let (reply, answer) = oneshot::channel();
        self.inputs.send(Input::Endpoints(reply)).await.map_err(|_| stopping())?;
        let (attached, violations) = answer.await.map_err(|_| stopping())?;
        let own: Vec<Metalink> = self.store.read(|r| {
            let first = MetalinkId { gateway: self.gateway, mli: Mli(0) };
            let from = r.0.metalinks_from(Bound::Included(first));
            from.take_while(|metalink| metalink.link.gateway == self.gateway).cloned().collect()
        });
        let numbers: Vec<_> = own.iter().map(|metalink| (metalink.mli, metalink.cell)).collect();
        let session = self.session.borrow().clone();
        let seen = match session {
            Some(session) => metalink_use::read(&session, &numbers).await.map_err(|e| e.to_string()),
            None => Err("it is not connected".into()),
        };
        let mut uses = v1::Uses::default();
        let seen = seen.unwrap_or_else(|why| {
            uses.silent.push(format!("the switch of gateway {} tells nothing: {why}", self.gateway));
            BTreeMap::new()
        });
        let mut endpoints: BTreeMap<Endpoint, v1::EndpointUse> = BTreeMap::new();
        let unused = |endpoint: Endpoint| v1::EndpointUse {
            gateway: self.gateway.0.into(),
            link: self.link_at(endpoint.port),
            port: endpoint.port.into(),
            mac: endpoint.mac.to_string(),
            attached: attached.contains(&endpoint),
            violations: violations.of(endpoint, None),
            ..Default::default()
        };
        for endpoint in attached.iter() {
            endpoints.insert(*endpoint, unused(*endpoint));
        }
        for metalink in &own {
            let id = metalink.id();
            let [rx, tx] = seen.get(&metalink.mli).copied().unwrap_or_default().map(|seen| seen.map(|d| d.to_api()));
            let times = violations.of(metalink.endpoint, Some(id));
            let sum = endpoints.entry(metalink.endpoint).or_insert_with(|| unused(metalink.endpoint));
            sum.metalinks += 1;
            sum.promised = sum.promised.saturating_add(metalink.rate);
            sum.rx_bytes += rx.map_or(0, |rx| rx.bytes);
            sum.tx_bytes += tx.map_or(0, |tx| tx.bytes);
            sum.out_of_profile += [rx, tx].into_iter().flatten().map(|d| d.out_of_profile).sum::<u64>();
            sum.violations += times;
            uses.metalinks.push(v1::MetalinkUse { id: Some(metalink_name(id)), rx, tx, violations: times });
        }
        uses.endpoints = endpoints.into_values().collect();
        Ok(uses)
    }

    fn link_at(&self, port: u16) -> String {
        let link = self.config.site.access_links.iter().find(|link| link.ports.contains(&port));
        link.map_or_else(String::new, |link| link.name.clone())
    }
}

async fn ask(gateway: GatewayId, api: String) -> Result<v1::Uses, String> {
    let answer = async {
        let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{api}")).map_err(|e| e.to_string())?;
        let channel = endpoint.connect().await.map_err(|_| format!("no answer at {api}"))?;
        let request = GetRequest { local: true, ..Default::default() };
        let answer = AccessClient::new(channel).get_use(request).await.map_err(|e| e.message().to_owned())?;
        Ok(answer.into_inner())
    };
    let late = || Err(format!("no answer from {api} within {PEER_DEADLINE:?}"));
    let answer: Result<_, String> = tokio::time::timeout(PEER_DEADLINE, answer).await.unwrap_or_else(|_| late());
    answer.map_err(|why| format!("gateway {gateway}: {why}"))
}
