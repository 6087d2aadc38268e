//! What a controller tells the cluster when it starts: who it is, and that the switch beside it is its own.

use std::sync::Arc;
use std::time::Duration;

use dmux_raft_store::Store;
use tokio::sync::watch;

use super::clock::Wall;
use super::replicated::Replicated;
use crate::config::ControllerConfig;
use crate::model::{Command, Gateway, Reply};

/// Pause between two attempts while the cluster does not answer.
const RETRY: Duration = Duration::from_millis(200);
/// Attempts without a quorum after which a controller that owned its switch before goes on under its old epoch.
const PATIENCE: u32 = 10;

/// Announces until the cluster has taken note, then publishes the epoch under which this controller owns its switch.
pub(super) async fn announce(
    config: Arc<ControllerConfig>,
    store: Store<Replicated>,
    epoch: watch::Sender<Option<u64>>,
    wall: Wall,
) {
    let within = Duration::from_millis(config.timers.propose_ms);
    // One number for all attempts of this process, so that a retried claim is told the epoch that it already has.
    let claim = super::random_u64();
    let mut attempts = 0u32;
    loop {
        match attempt(&config, &store, claim, within, &wall).await {
            Ok(claimed) => {
                tracing::info!(epoch = claimed, gateway = config.gateway.id, "this controller owns its switch");
                epoch.send_replace(Some(claimed));
                // Who waits for the next epoch must not be told without end that there will be none.
                epoch.closed().await;
                return;
            }
            Err(why) => {
                attempts = attempts.saturating_add(1);
                if attempts == 1 || attempts.is_multiple_of(25) {
                    tracing::warn!(%why, attempts, "the cluster has not taken note of this gateway yet");
                }
                if attempts == PATIENCE && epoch.borrow().is_none() {
                    go_on_alone(&config, &store, &epoch);
                }
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// Without a quorum nobody can have deposed us since our copy was written that a later claim would not reveal: the
/// switch refuses us if somebody holds a higher epoch.
fn go_on_alone(config: &ControllerConfig, store: &Store<Replicated>, epoch: &watch::Sender<Option<u64>>) {
    let owner = store.read(|r| r.0.owner(config.gateway_id()).copied());
    if let Some(owner) = owner.filter(|o| o.node == config.node) {
        tracing::warn!(
            epoch = owner.epoch,
            "no quorum: going on with the switch under the epoch of before the restart"
        );
        epoch.send_replace(Some(owner.epoch));
    }
}

async fn attempt(
    config: &ControllerConfig,
    store: &Store<Replicated>,
    claim: u64,
    within: Duration,
    wall: &Wall,
) -> Result<u64, String> {
    // What we compare with must be what the cluster has, not what our copy had before we were away.
    store.linearizable(within).await.map_err(|e| e.to_string())?;
    let propose = async |command| {
        let (_, reply) = store.propose(command, within).await.map_err(|e| e.to_string())?;
        match reply {
            Reply::Refused(refusal) => Err(refusal.to_string()),
            reply => Ok(reply),
        }
    };
    let wanted = config.dmux.to_cluster()?;
    let current = store.read(|r| r.0.config().clone());
    if current.version == 0 {
        propose(Command::PutConfig { at: wall.unix_ms(), config: wanted }).await?;
    } else if (crate::model::Config { version: current.version, ..wanted }) != current {
        tracing::warn!(
            version = current.version,
            "the [dmux] section of this controller's file differs from the cluster's configuration, which counts"
        );
    }
    let gateway = Gateway {
        id: config.gateway_id(),
        name: config.gateway.name.clone(),
        unicast: config.gateway.address,
        api: config.api.listen.to_string(),
        node: config.node,
    };
    if store.read(|r| r.0.gateway(gateway.id) != Some(&gateway)) {
        propose(Command::PutGateway { at: wall.unix_ms(), gateway }).await?;
    }
    let claim = Command::ClaimSwitch { at: wall.unix_ms(), gateway: config.gateway_id(), node: config.node, claim };
    match propose(claim).await? {
        Reply::Claimed { epoch } => Ok(epoch),
        other => Err(format!("the cluster answered a claim with {other:?}")),
    }
}
