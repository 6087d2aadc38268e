//! What an operator would ask, and waiting for the answer that the lab expects.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context;
use dmux_controller::api::v1::dmux_client::DmuxClient;
use dmux_controller::api::v1::{ExplainRequest, Explanation, Gateway, GetRequest, Latency, Router, Switch};
use tonic::transport::{Channel, Endpoint};

/// Between two looks at something that is awaited.
const POLL: Duration = Duration::from_millis(10);
/// How long a controller of the lab may take to answer.
const ANSWER: Duration = Duration::from_secs(2);

/// A controller's API.
#[derive(Debug, Clone)]
pub struct Operator(DmuxClient<Channel>);

impl Operator {
    /// Connects when first asked, and again when the controller has been restarted.
    pub fn new(api: SocketAddr) -> anyhow::Result<Self> {
        let endpoint = Endpoint::from_shared(format!("http://{api}"))?.connect_timeout(ANSWER).timeout(ANSWER);
        Ok(Self(DmuxClient::new(endpoint.connect_lazy())))
    }

    /// `dmux get gateways`
    pub async fn gateways(&self) -> anyhow::Result<Vec<Gateway>> {
        Ok(self.0.clone().get_gateways(GetRequest::default()).await?.into_inner().gateways)
    }

    /// `dmux get routers`
    pub async fn routers(&self) -> anyhow::Result<Vec<Router>> {
        Ok(self.0.clone().get_routers(GetRequest::default()).await?.into_inner().routers)
    }

    /// `dmux get latencies`
    pub async fn latencies(&self) -> anyhow::Result<Vec<Latency>> {
        Ok(self.0.clone().get_latencies(GetRequest::default()).await?.into_inner().latencies)
    }

    /// `dmux explain`
    pub async fn explain(&self, request: ExplainRequest) -> anyhow::Result<Explanation> {
        Ok(self.0.clone().explain(request).await?.into_inner())
    }

    /// `dmux get switches`, of this controller's own switch only.
    pub async fn own_switch(&self) -> anyhow::Result<Switch> {
        let answer =
            self.0.clone().get_switches(GetRequest { local: true, ..GetRequest::default() }).await?.into_inner();
        answer.switches.into_iter().next().context("the controller knows of no switch")
    }
}

/// Asks until the answer is the expected one. Returns it and how long that took; `Err` tells the last answer that was
/// not. An error while asking is an answer like any other: what is awaited may be a controller that is being restarted.
pub async fn until<T, F, A>(within: Duration, what: &str, mut ask: F) -> anyhow::Result<(T, Duration)>
where
    F: FnMut() -> A,
    A: Future<Output = anyhow::Result<Option<T>>>,
{
    let began = Instant::now();
    loop {
        let last = match ask().await {
            Ok(Some(answer)) => return Ok((answer, began.elapsed())),
            Ok(None) => None,
            Err(error) => Some(error),
        };
        if began.elapsed() >= within {
            let seconds = within.as_secs_f64();
            return Err(match last {
                Some(error) => error.context(format!("{what}: not within {seconds} s")),
                None => anyhow::anyhow!("{what}: not within {seconds} s"),
            });
        }
        tokio::time::sleep(POLL).await;
    }
}
