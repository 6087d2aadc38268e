//! What the cluster is told of own measurements.

use std::time::Duration;

use super::Actor;
use crate::model::Command;
use crate::runtime::Input;

impl Actor {
    pub(super) fn report_latencies(&mut self, now: Duration) {
        if let Some(coordinate) = self.mapper.publish(now) {
            let command =
                Command::RecordCoordinate { at: self.clock.unix_ms(), from: self.config.gateway_id(), coordinate };
            let (store, inputs, within) = (self.store.clone(), self.inputs.clone(), self.propose_within());
            tokio::spawn(async move {
                let taken = store.propose(command, within).await.is_ok_and(|(_, reply)| reply.refusal().is_none());
                // The actor is gone only when the controller stops.
                let _ = inputs.send(Input::Published(taken)).await;
            });
        }
        if self.mapper.is_active() {
            return;
        }
        let samples = self.prober.report(now);
        if samples.is_empty() {
            return;
        }
        let peers: Vec<_> = samples.iter().map(|sample| sample.to).collect();
        let command = Command::RecordLatencies { at: self.clock.unix_ms(), from: self.config.gateway_id(), samples };
        let (store, inputs, within) = (self.store.clone(), self.inputs.clone(), self.propose_within());
        tokio::spawn(async move {
            let taken = store.propose(command, within).await.is_ok_and(|(_, reply)| reply.refusal().is_none());
            // The actor is gone only when the controller stops.
            let _ = inputs.send(Input::Reported(peers, taken)).await;
        });
    }

    /// Tells the cluster how far its routers are from this gateway.
    pub(super) fn report_router_rtts(&mut self, now: Duration) {
        let samples = self.registrar.report_rtts(now);
        if samples.is_empty() {
            return;
        }
        let command =
            Command::RecordRouterRtts { at: self.clock.unix_ms(), gateway: self.config.gateway_id(), samples };
        let (store, within) = (self.store.clone(), self.propose_within());
        tokio::spawn(async move {
            if let Err(error) = store.propose(command, within).await {
                tracing::debug!(%error, "round trips to routers not recorded; they are told again");
            }
        });
    }
}
